"""Attachments: linked by name, or uploaded as files of their message.

Source: developer.salesforce.com/docs, Object Reference, ContentVersion (``VersionData`` base64, at most 37.5 MB in
JSON; ``FirstPublishLocationId`` puts the file on a record) and ContentDocumentLink, read 2026-11; that a record of
a custom object can be the location: assumed (standard practice).
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Sequence
from functools import cached_property

from mappings.contact_points import clean_name
from mappings.crm_words import attachment_link
from mappings.errors import RejectedError
from mappings.records import ArchivedMessage, Attachment
from stores.database import Stores
from stores.media import Media
from targets.salesforce.answers import Refused
from targets.salesforce.api import SalesforceApi, in_queries
from targets.salesforce.settings import SalesforceTargetSettings

_LOG = logging.getLogger(__name__)


class Files:
    """Files of messages in one org."""

    def __init__(
        self, api: SalesforceApi, stores: Stores, settings: SalesforceTargetSettings, count: Callable[[str, int], None]
    ) -> None:
        self._api = api
        self._stores = stores
        self._settings = settings
        self._count = count

    def links(self, message: ArchivedMessage) -> list[str]:
        """Where each attachment is; empty where nobody knows."""
        return [attachment_link(one, self._settings.attachment_url) for one in message.attachments]

    def wanted(self, message: ArchivedMessage) -> bool:
        """Whether files of the message are to be uploaded."""
        return (
            self._settings.attachments == "upload"
            and message.unsent_at is None
            and any(one.media_key for one in message.attachments)
        )

    def upload(self, message: ArchivedMessage, record_id: str) -> None:
        """Put a message's files on its record, each once.

        One that the org refuses stays linked by its name: the conversation counts more.
        """
        wanted = [
            (f"{position + 1}. {_name(one)}", one) for position, one in enumerate(message.attachments) if one.media_key
        ]
        there = self._titles(record_id)
        for title, attachment in wanted:
            if title in there:
                continue
            content = self._content(attachment)
            if content is None:
                continue
            told = self._api.create(
                "ContentVersion",
                {
                    "Title": title, "PathOnClient": _name(attachment),
                    "VersionData": base64.b64encode(content).decode("ascii"), "FirstPublishLocationId": record_id,
                },
            )  # fmt: skip
            if isinstance(told, Refused):
                _LOG.warning("a file stays a link: %s", told.error)
                self._count("files refused", 1)
            else:
                self._count("files uploaded", 1)

    def remove(self, record_ids: Sequence[str]) -> list[str]:
        """Delete the files that are on records, whatever `attachments` says by now; their ids."""
        if not record_ids:
            return []
        queries = in_queries("ContentDocumentLink", ("ContentDocumentId",), "LinkedEntityId", record_ids)
        found = [str(one["ContentDocumentId"]) for part in self._api.query_together(queries) for one in part]
        failed = self._api.delete(found)
        if failed:
            raise next(iter(failed.values())).error
        return found

    def _titles(self, record_id: str) -> set[str]:
        columns = ("Id", "ContentDocument.Title")
        queries = in_queries("ContentDocumentLink", columns, "LinkedEntityId", [record_id])
        documents = [one.get("ContentDocument") for part in self._api.query_together(queries) for one in part]
        return {str(one["Title"]) for one in documents if isinstance(one, dict) and "Title" in one}

    def _content(self, attachment: Attachment) -> bytes | None:
        stored = self._media.facts(attachment.media_key or "")
        if stored is None or stored.size_bytes > self._settings.max_upload_bytes:
            self._count("files too large or not in our store", 1)
            return None
        try:
            return b"".join(self._media.open(stored.media_key))
        except (RejectedError, OSError) as error:
            _LOG.warning("a file of our store cannot be read (%s)", type(error).__name__)
            return None

    @cached_property
    def _media(self) -> Media:
        return Media(self._stores)


def _name(attachment: Attachment) -> str:
    return (clean_name(attachment.filename, 150) or attachment.kind).replace("/", "_").replace("\\", "_")
