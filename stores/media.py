"""The bytes of attachments: encrypted files under ``media/`` in the state folder, each stored once.

Platforms keep files for minutes (WhatsApp's links) to days, so they are fetched when the message is read. A file's name
is a keyed fingerprint of its content: the same picture in ten messages is one file, and a stolen folder does not tell
whether a known picture is in it. It stays until its messages are erased, or until no message has brought it for as long
as the receiver keeps files (`media_retention_days`).
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from mappings.errors import RejectedError, UnavailableError
from mappings.media_types import HEAD_BYTES, type_of_media
from mappings.records import Attachment
from stores.database import Database, Row, Stores
from stores.download import Downloader

_KEEP_FREE_BYTES = 500 * 2**20
_DRAFT_SECONDS = 24 * 3600
_ERASED = -1
"""The position under which it is noted that a message's files must not come back."""
_KEY = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """How to get a file from its platform.

    Attributes:
        url: where it is; may hold a token, so it is shown nowhere.
        headers: sent to the first host only.
        hosts: the only ones that the bytes may come from; ``.example.com`` means all below it. ``None``: any public
            one. Give it whenever `headers` holds a token.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    hosts: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class StoredMedia:
    """A file in the store. `sha256`: 64 hexadecimal digits."""

    media_key: str
    sha256: str
    size_bytes: int
    mime_type: str

    def of(self, attachment: Attachment) -> Attachment:
        """`attachment`, which says now where its bytes are and what they turned out to be."""
        facts = {"media_key": self.media_key, "size_bytes": self.size_bytes, "mime_type": self.mime_type}
        return attachment.model_copy(update={**facts, "sha256": attachment.sha256 or self.sha256})


@dataclass(frozen=True, slots=True)
class _Draft:
    """A file that is written and belongs to no message yet."""

    path: Path
    sha256: bytes
    size_bytes: int
    head: bytes
    answered: str | None


class Media:
    """The files of one state folder.

    Args:
        stores: the state folder.
        private_hosts: see `stores.download.Downloader`.
        tries: how often a file is asked for while the other side does not answer.
    """

    def __init__(self, stores: Stores, *, private_hosts: Iterable[str] = (), tries: int = 3) -> None:
        self._stores = stores
        self._database = stores.database("media")
        self._folder = stores.folder / "media"
        self._downloader = Downloader(private_hosts, tries=tries)

    def fetch(
        self, request: MediaRequest, *, max_bytes: int, expected: Attachment, message_key: str, position: int = 0
    ) -> StoredMedia:
        """Fetch a file and keep it as attachment number `position` of a message; no call when it is there already.

        Raises:
            OneThreadError: see `stores.download.Downloader.fetch` and `keep`.
        """
        stored = self.find(message_key, position)
        if stored is not None:
            return stored
        self._check_space()
        draft = self._downloader.fetch(
            request.url,
            lambda chunks, answered: self._write(chunks, max_bytes, answered),
            max_bytes=max_bytes,
            headers=request.headers,
            hosts=request.hosts,
        )
        return self._settle(draft, expected, message_key, position)

    def keep(
        self, chunks: Iterable[bytes], *, max_bytes: int, expected: Attachment, message_key: str, position: int = 0
    ) -> StoredMedia:
        """Keep bytes that are there already (an attachment of a mail).

        Raises:
            RejectedError: too large, or not what `expected` says, or the message was erased.
            UnavailableError: the disk is nearly full.
        """
        self._check_space()
        return self._settle(self._write(chunks, max_bytes, None), expected, message_key, position)

    def find(self, message_key: str, position: int = 0) -> StoredMedia | None:
        """The file kept for that attachment."""
        row = self._database.query_one(
            "SELECT media_key FROM media_use WHERE message = ? AND position = ? AND media_key IS NOT NULL",
            (self._print(message_key), position),
        )
        return self.facts(row["media_key"]) if row else None

    def facts(self, media_key: str) -> StoredMedia | None:
        """What is known of a file; ``None`` when it is not here (any more)."""
        if not _KEY.fullmatch(media_key) or not self._path(media_key).is_file():
            return None
        row = self._database.query_one("SELECT * FROM media WHERE media_key = ?", (media_key,))
        return self._stored(row) if row else None

    def open(self, media_key: str) -> Iterator[bytes]:
        """The bytes of a file, piece by piece.

        Raises:
            RejectedError: it is not here (any more).
            SettingsError: it was altered, or written with another key file.
        """
        try:
            file = self._path(media_key).open("rb") if _KEY.fullmatch(media_key) else None
        except FileNotFoundError:
            file = None
        if file is None:
            msg = "that file is not stored (any more)"
            raise RejectedError(msg)
        return self._read(file)

    def erase(self, message_keys: Iterable[str]) -> int:
        """Delete the files of messages and never take them again (taken back, or the person is erased).

        A file that another message uses too stays for that one.

        Returns:
            How many files were deleted.
        """
        now = _text(datetime.now(UTC))
        with self._stores.lock("media"), self._database.transaction() as database:
            for message_key in message_keys:
                message = self._print(message_key)
                database.execute("DELETE FROM media_use WHERE message = ?", (message,))
                database.execute(
                    "INSERT INTO media_use (message, position, media_key, used_at) VALUES (?, ?, NULL, ?)",
                    (message, _ERASED, now),
                )
            return self._delete_unused(database)

    def is_erased(self, message_key: str) -> bool:
        """Whether `erase` was called for that message."""
        found = self._database.query_one(
            "SELECT 1 FROM media_use WHERE message = ? AND position = ?", (self._print(message_key), _ERASED)
        )
        return found is not None

    def forget(self, before: datetime) -> int:
        """Delete the files that no message brought since then, and what killed processes left; how many files."""
        with self._stores.lock("media"):
            with self._database.transaction() as database:
                database.execute("DELETE FROM media_use WHERE used_at < ? AND position >= 0", (_text(before),))
                deleted = self._delete_unused(database)
            self._sweep()
            return deleted

    # Writing

    def _write(self, chunks: Iterable[bytes], max_bytes: int, answered: str | None) -> _Draft:
        self._folder.mkdir(exist_ok=True, mode=0o700)
        path = self._folder / f"{secrets.token_hex(8)}.part"
        digest, size, head = hashlib.sha256(), 0, bytearray()

        def counted() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    msg = f"the file is larger than {max_bytes} bytes; see media_max_bytes"
                    raise RejectedError(msg)
                digest.update(chunk)
                head.extend(chunk[: HEAD_BYTES - len(head)])
                yield chunk

        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.writelines(self._stores.codec.encrypt_file(counted()))
                file.flush()
                os.fsync(file.fileno())
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                msg = f"the file cannot be written ({error.strerror})"
                raise UnavailableError(msg) from None
            raise
        return _Draft(path, digest.digest(), size, bytes(head), answered)

    def _settle(self, draft: _Draft, expected: Attachment, message_key: str, position: int) -> StoredMedia:
        """Give a draft its name and its message; it is gone when it must not be kept."""
        try:
            mime_type = type_of_media(draft.head, expected, draft.answered)
            with self._stores.lock("media"):
                return self._name(draft, mime_type, message_key, position)
        finally:
            draft.path.unlink(missing_ok=True)

    def _name(self, draft: _Draft, mime_type: str, message_key: str, position: int) -> StoredMedia:
        if self.is_erased(message_key):
            msg = "the message was taken back or erased"
            raise RejectedError(msg)
        media_key = self._stores.codec.fingerprint(b"media|" + draft.sha256)
        path = self._path(media_key)
        if not path.exists():
            path.parent.mkdir(exist_ok=True, mode=0o700)
            draft.path.replace(path)
            _sync_folder(path.parent)
        now = _text(datetime.now(UTC))
        facts = {"sha256": draft.sha256.hex(), "size_bytes": draft.size_bytes, "mime_type": mime_type}
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO media (media_key, facts, stored_at) VALUES (?, ?, ?) ON CONFLICT (media_key) DO NOTHING",
                (media_key, self._stores.codec.encrypt_json(facts), now),
            )
            database.execute(
                "INSERT INTO media_use (message, position, media_key, used_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (message, position) DO UPDATE SET media_key = excluded.media_key,"
                " used_at = excluded.used_at",
                (self._print(message_key), position, media_key, now),
            )
        return StoredMedia(media_key, draft.sha256.hex(), draft.size_bytes, mime_type)

    def _check_space(self) -> None:
        if shutil.disk_usage(self._stores.folder).free < _KEEP_FREE_BYTES:
            msg = "the disk of the state folder is nearly full; no file is taken"
            raise UnavailableError(msg)

    # Deleting

    def _delete_unused(self, database: Database) -> int:
        """Files first, then their rows: a crash in between leaves rows without a file, which the next call deletes."""
        unused = "SELECT media_key FROM media WHERE media_key NOT IN (SELECT media_key FROM media_use WHERE media_key IS NOT NULL)"  # noqa: E501 (one statement)
        rows = database.query(unused)
        for row in rows:
            self._path(row["media_key"]).unlink(missing_ok=True)
        database.execute_many("DELETE FROM media WHERE media_key = ?", [(row["media_key"],) for row in rows])
        return len(rows)

    def _sweep(self) -> None:
        """Delete drafts of processes that were killed, and files that were named just before a crash."""
        for path in self._folder.glob("*.part"):
            if time.time() - path.stat().st_mtime > _DRAFT_SECONDS:
                path.unlink(missing_ok=True)
        known = {row["media_key"] for row in self._database.query("SELECT media_key FROM media")}
        for path in self._folder.glob("??/*"):
            if path.name not in known:
                path.unlink(missing_ok=True)

    # Reading

    def _read(self, file: BinaryIO) -> Iterator[bytes]:
        with file:
            yield from self._stores.codec.decrypt_file(file.read)

    def _stored(self, row: Row) -> StoredMedia:
        return StoredMedia(row["media_key"], **self._stores.codec.decrypt_json(row["facts"]))

    def _path(self, media_key: str) -> Path:
        return self._folder / media_key[:2] / media_key

    def _print(self, message_key: str) -> str:
        return self._stores.codec.fingerprint(f"media|{message_key}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
