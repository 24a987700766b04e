"""The stand-in's files: uploading, private ones by signed address, deleting for good.

Source: PublicApiSpecs/Files of github.com/HubSpot/HubSpot-public-api-spec-collection @9989379, read 2026-11,
documented; what is otherwise is in `sandbox.hubspot.rules`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.hubspot.objects import iso
from sandbox.hubspot.refusals import Refusal, invalid, not_found
from sandbox.hubspot.wire import Table

ACCESS = ("PRIVATE", "PUBLIC_INDEXABLE", "PUBLIC_NOT_INDEXABLE")
_STRATEGIES = ("NONE", "REJECT", "RETURN_EXISTING")
_SCOPES = ("ENTIRE_PORTAL", "EXACT_FOLDER")
_KINDS = {"image": "IMG", "audio": "AUDIO", "video": "MOVIE", "text": "DOCUMENT", "application": "DOCUMENT"}


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file."""

    file_id: str
    name: str
    mime_type: str
    content: bytes
    folder: str
    access: str
    at: str

    def as_json(self) -> dict[str, Any]:
        """As every answer shows it; a private file has no address that opens it."""
        return {
            "id": self.file_id, "name": self.name.rpartition(".")[0] or self.name, "path": f"{self.folder}/{self.name}",
            "extension": self.name.rpartition(".")[2], "type": _KINDS.get(self.mime_type.partition("/")[0], "OTHER"),
            "size": len(self.content), "access": self.access, "archived": False, "createdAt": self.at,
            "updatedAt": self.at, "fileMd5": hashlib.md5(self.content, usedforsecurity=False).hexdigest(),
            "parentFolderId": str(int(hashlib.sha256(self.folder.encode()).hexdigest()[:8], 16)),
        }  # fmt: skip


class Files:
    """The files of one account. Not locked: the server calls it under its own lock.

    Args:
        now: the stand-in's time.
        most_bytes: a larger file is refused.
        duplicates_by: what makes two files of a folder the same; the pages do not say.
    """

    def __init__(
        self, now: Callable[[], datetime], *, most_bytes: int, duplicates_by: Literal["name", "content"]
    ) -> None:
        self.stored: dict[str, StoredFile] = {}
        self.deleted: list[str] = []
        self._now = now
        self._most_bytes = most_bytes
        self._duplicates_by = duplicates_by
        self._last = 700

    def add(self, name: str, mime_type: str, content: bytes, folder: str = "/", access: str = "PRIVATE") -> StoredFile:
        """Keep a file."""
        self._last += 1
        file = StoredFile(str(self._last), name, mime_type, content, folder, access, iso(self._now()))
        self.stored[file.file_id] = file
        return file

    def upload(self, request: Request) -> StoredFile:
        """The file that a multipart request brings, or the one that is there already."""
        if request.mimetype != "multipart/form-data":
            raise Refusal(415, "VALIDATION_ERROR", "multipart/form-data is required")
        part = request.files.get("file")
        if part is None:
            raise invalid("file is required")
        folder = request.form.get("folderPath")
        if bool(folder) == bool(request.form.get("folderId")):
            raise invalid("one of folderId and folderPath is required")
        options = _options(request.form.get("options"))
        content = part.read()
        if len(content) > self._most_bytes:
            raise Refusal(413, "VALIDATION_ERROR", "the file is too large")
        name = request.form.get("fileName") or part.filename or "file"
        where = folder or str(request.form.get("folderId"))
        scope = None if options.get("duplicateValidationScope") == "ENTIRE_PORTAL" else where
        existing = self._duplicate(name, content, scope)
        strategy = options.get("duplicateValidationStrategy", "NONE")
        if existing is not None and strategy == "REJECT":
            raise Refusal(409, "OBJECT_ALREADY_EXISTS", "a duplicate of the file exists")
        if existing is not None and strategy == "RETURN_EXISTING":
            return existing
        return self.add(name, part.mimetype, content, where, options["access"])

    def get(self, file_id: str) -> StoredFile:
        """One file; 404 if there is none."""
        if file_id not in self.stored:
            raise not_found()
        return self.stored[file_id]

    def delete(self, file_id: str) -> None:
        """Delete a file for good."""
        self.get(file_id)
        del self.stored[file_id]
        self.deleted.append(file_id)

    # -- the endpoints

    def table(self) -> Table:
        """The routes."""
        files = "/files/v3/files"
        return [
            ("POST", files, self._answer_upload),
            ("GET", f"{files}/search", self._answer_list),
            ("GET", f"{files}/<file_id>", self._answer_get),
            ("DELETE", f"{files}/<file_id>/gdpr-delete", self._answer_delete),
            ("GET", f"{files}/<file_id>/signed-url", self._answer_link),
            ("GET", "/_sandbox/files/<file_id>", self._answer_bytes),
        ]

    def _answer_upload(self, request: Request) -> Response:
        with request:  # closes the temporary files of its parts
            return json_response(self.upload(request).as_json(), 201)

    def _answer_list(self, request: Request) -> Response:
        """The first of them, without the filters."""
        limit = request.args.get("limit", "100")
        rows = [one.as_json() for one in self.stored.values()]
        return json_response({"results": rows[: int(limit) if limit.isdigit() else 100]})

    def _answer_get(self, request: Request, file_id: str) -> Response:
        del request
        return json_response(self.get(file_id).as_json())

    def _answer_delete(self, request: Request, file_id: str) -> Response:
        del request
        self.delete(file_id)
        return Response(status=204)

    def _answer_link(self, request: Request, file_id: str) -> Response:
        file = self.get(file_id)
        url = f"{request.host_url.rstrip('/')}/_sandbox/files/{file_id}?signature=x"
        told = {"url": url, "name": file.name, "size": len(file.content), "type": file.mime_type}
        return json_response({**told, "extension": file.name.rpartition(".")[2], "expiresAt": iso(self._now())})

    def _answer_bytes(self, request: Request, file_id: str) -> Response:
        """What an address of a file opens; a private one must be signed."""
        file = self.get(file_id)
        if file.access == "PRIVATE" and request.args.get("signature") != "x":
            raise Refusal(403, "FORBIDDEN", "a private file needs a signed address")
        return Response(file.content, content_type=file.mime_type)

    # -- how it is kept

    def state(self) -> dict[str, Any]:
        """The files that are there, and the ids of those that were deleted."""
        return {"stored": {key: one.as_json() for key, one in self.stored.items()}, "deleted": list(self.deleted)}

    def _duplicate(self, name: str, content: bytes, folder: str | None) -> StoredFile | None:
        for one in self.stored.values():
            same = one.name == name if self._duplicates_by == "name" else one.content == content
            if same and folder in {None, one.folder}:
                return one
        return None


def _options(text: str | None) -> dict[str, Any]:
    try:
        options = json.loads(text or "")
    except ValueError:
        raise invalid("options must be JSON") from None
    if not isinstance(options, dict) or options.get("access") not in ACCESS:
        raise invalid(f"options.access must be one of {', '.join(ACCESS)}")
    if options.get("duplicateValidationStrategy", "NONE") not in _STRATEGIES:
        raise invalid(f"duplicateValidationStrategy must be one of {', '.join(_STRATEGIES)}")
    if options.get("duplicateValidationScope", "ENTIRE_PORTAL") not in _SCOPES:
        raise invalid(f"duplicateValidationScope must be one of {', '.join(_SCOPES)}")
    return options
