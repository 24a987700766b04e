"""What the org adds when a file is uploaded: its document, its size and type, and the link to where it was published.

Source: developer.salesforce.com, Object Reference, "ContentVersion", second-hand, 2026-10 (documented): a version
without `ContentDocumentId` makes a document; `FirstPublishLocationId` links it to that record.
"""

from __future__ import annotations

import base64
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from sandbox.salesforce.refusals import Refusal

if TYPE_CHECKING:
    from sandbox.salesforce.access import User
    from sandbox.salesforce.org import Org

JSON_FILE_LIMIT = 37_500_000  # characters of base64 in one JSON insert (documented for "Insert Blob Data")


def complete_version(org: Org, user: User, record: dict[str, Any]) -> None:
    """Fill what the caller of a new ContentVersion does not give, in place.

    Raises:
        Refusal: no bytes.
    """
    data = record["VersionData"]
    if not data:
        raise Refusal("REQUIRED_FIELD_MISSING", "Required fields are missing: [VersionData]", fields=["VersionData"])
    if len(data) > JSON_FILE_LIMIT:
        raise Refusal("STORAGE_LIMIT_EXCEEDED", f"maximum size of a file in one insert: {JSON_FILE_LIMIT}", fields=())
    path = PurePosixPath(record["PathOnClient"])
    record["Title"] = record["Title"] or path.stem
    record["FileExtension"] = path.suffix.lstrip(".") or None
    record["FileType"] = (record["FileExtension"] or "UNKNOWN").upper()
    record["ContentSize"] = len(base64.b64decode(data))
    record.update(IsLatest=True, VersionNumber="1")
    document_id = record["ContentDocumentId"]
    if document_id is None:
        document_id = org.make("ContentDocument", user, Title=record["Title"], FileType=record["FileType"],
                               OwnerId=record["OwnerId"], LatestPublishedVersionId=record["Id"])  # fmt: skip
        record["ContentDocumentId"] = document_id
        for place in dict.fromkeys(one for one in (record["OwnerId"], record["FirstPublishLocationId"]) if one):
            org.make("ContentDocumentLink", user, ContentDocumentId=document_id, LinkedEntityId=place)
        return
    earlier = [one for one in org.live("ContentVersion") if one["ContentDocumentId"] == document_id]
    record["VersionNumber"] = str(len(earlier) + 1)
    for one in earlier:
        org.put("ContentVersion", {**one, "IsLatest": False})
