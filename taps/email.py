"""tap-email: the mails of one mailbox, INBOX and Sent, over IMAP.

The mailbox keeps everything, so nothing is missed by being away; the bookmark is (UIDVALIDITY, UID) per folder. A
folder whose UIDVALIDITY changed is read again from the start: message keys come from Message-ID, so that what was read
before is recognised downstream. Nothing is marked as read; see `taps.email_mailbox`.
"""

from __future__ import annotations

import base64
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator

from mappings.contact_points import normalize_email
from mappings.errors import (
    CredentialsError,
    MissingFieldError,
    OneThreadError,
    PayloadError,
    SettingsError,
    UnavailableError,
    UnknownShapeError,
)
from mappings.fold import key_of_another_mail
from mappings.from_email import EmailContext, files_from_email, own_address_of, records_from_email
from mappings.from_email.folders import Folder, folders_to_read
from mappings.keywords import Keywords
from mappings.records import Attachment, Consent, Evidence, Message, Receipt, Record
from mappings.settings import PluginSettings
from stores.media import Media
from stores.parked import Parked, ParkedItem
from taps.base import Check, Checkpoint, OneThreadTap, read_keywords
from taps.email_mailbox import Listed, Mailbox

_CHUNK_MAILS = 100
_CHUNK_BYTES = 8 * 1024 * 1024
_HEARTBEAT_SECONDS = 1.0
_ROUND_SECONDS = 30.0
"""How long to sit in IDLE on the first folder before the others are looked at; also the pause without IDLE."""
_POLL_SECONDS = 5.0
MAX_TRIES = 6
RETRY_SECONDS = 1.0


class EmailSettings(PluginSettings):
    """The settings of tap-email."""

    host: str = Field(min_length=1, description="IMAP server, e.g. imap.example.com.")
    port: int | None = Field(None, ge=1, le=65535, description="IMAP port. Default: 993, without `ssl` 143.")
    ssl: bool = Field(
        True, description="TLS from the first byte (IMAPS). Off: STARTTLS where the server offers it, else in clear."
    )
    user: str = Field(min_length=1, description="Login name, usually the mailbox's address.")
    password: SecretStr = Field(min_length=1, description="Password, or app password where the provider wants one.")
    account: str | None = Field(
        None, min_length=1, description="The mailbox's address; it is part of every key. Default: `user`."
    )
    own_addresses: list[str] = Field(
        default_factory=list,
        description="Further addresses that are ours (aliases, colleagues): mail from them is outbound. "
        "`@shop.example` stands for a whole domain.",
    )
    folders: list[str] = Field(
        default_factory=list,
        description="Folders to read. Default: INBOX and the folder of sent mail (marked by the server, or known by "
        "its name).",
    )
    start_date: date | None = Field(None, description="Read no mail that arrived before this day (UTC).")
    max_message_bytes: int = Field(
        25 * 1024 * 1024,
        ge=1024,
        description="Of a larger mail only the header is read; its message is flagged `oversized`.",
    )
    follow_seconds: float = Field(
        0, ge=0, description="Keep reading what arrives for that long (IDLE). 0: read what is there and end."
    )
    timeout_seconds: float = Field(60, gt=0, description="How long to wait for an answer of the server.")
    keywords_file: str | None = Field(
        None, description="Your own list of opt-out and opt-in words (CSV). Default: the packaged list."
    )

    fetch_media: bool = Field(
        False, description="Keep the attachments of mails, encrypted in the state folder, when the mails are read."
    )
    media_max_bytes: int = Field(25 * 2**20, gt=0, description="Larger attachments are left in the mailbox.")

    @model_validator(mode="after")
    def _knows_an_address_of_ours(self) -> Self:
        if not any(normalize_email(one) for one in (self.account or self.user, *self.own_addresses)):
            msg = "`user` is no e-mail address: name the mailbox's address in `account`"
            raise ValueError(msg)
        return self

    @property
    def mailbox_account(self) -> str:
        """The account as it stands in keys."""
        return own_address_of(self.account or self.user)

    @property
    def imap_port(self) -> int:
        """The port in force."""
        return self.port or (993 if self.ssl else 143)


class TapEmail(OneThreadTap[EmailSettings]):
    """Reads one mailbox."""

    name = "tap-email"
    settings_model = EmailSettings
    record_models = (Message, Receipt, Consent, Evidence)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._replayed = False
        self._progress = 0
        self._asking: tuple[str, int] = ("", 0)
        self._careful_until: dict[str, int] = {}
        self._broke_at: Counter[tuple[str, int]] = Counter()

    @cached_property
    def positions(self) -> dict[str, dict[str, int]]:
        """By folder: UIDVALIDITY and the last UID that was read."""
        saved: dict[str, dict[str, int]] = self.cursor.get("folders", {})
        return {name: dict(position) for name, position in saved.items()}

    @cached_property
    def own_addresses(self) -> frozenset[str]:
        """Our addresses in canonical form."""
        return frozenset(
            map(own_address_of, (self.settings.account or self.settings.user, *self.settings.own_addresses))
        )

    @cached_property
    def keywords(self) -> Keywords:
        """The opt-out and opt-in words in force."""
        return read_keywords(self.settings.keywords_file, self.name)

    # Reading

    def read(self) -> Iterator[Record | Checkpoint]:
        """All that is new in the mailbox."""
        return self._read_with_patience()

    def _read_with_patience(self) -> Iterator[Record | Checkpoint]:
        """Replays, then each folder, then what still arrives. A broken connection is made anew, bounded in tries.

        A try that brought something is not counted. Some servers hang up on a mail that they cannot read: after a
        break, the mails in question are asked for one by one, and one that breaks the connection twice is parked.
        """
        deadline = time.monotonic() + self.settings.follow_seconds
        tries = 0
        while True:
            before = self._progress
            try:
                with self._mailbox() as mailbox:
                    yield from self._read(mailbox, deadline)
            except UnavailableError as error:
                folder, uid = self._asking
                self._careful_until[folder] = max(uid, self._careful_until.get(folder, 0))
                self._broke_at[self._asking] += 1
                tries = 1 if self._progress > before else tries + 1
                if tries >= MAX_TRIES or self.stop_requested:
                    raise
                pause = RETRY_SECONDS * 2 ** (tries - 1)
                self.logger.warning("%s (try %d of %d)", error, tries, MAX_TRIES)
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - only so that not all knock at once
            else:
                return

    def _mailbox(self) -> Mailbox:
        settings = self.settings
        return Mailbox(
            settings.host,
            settings.imap_port,
            use_ssl=settings.ssl,
            user=settings.user,
            password=settings.password,
            timeout_seconds=settings.timeout_seconds,
        )

    def _read(self, mailbox: Mailbox, deadline: float) -> Iterator[Record | Checkpoint]:
        folders = folders_to_read(mailbox.list_folders(), self.settings.folders)
        if not self.settings.folders and len(folders) == 1:
            self.logger.warning("no folder of sent mail found: replies written elsewhere are not seen; set `folders`")
        if not self._replayed:
            if self.settings.fetch_media:
                Parked(self.stores).ask_retry(self.name, "media", datetime.now(UTC))
            yield from self.replay(("account", self.settings.mailbox_account), self._parked_records)
            self._replayed = True
        while True:
            for folder in folders:
                yield from self._read_folder(mailbox, folder)
                if self.stop_requested:
                    return
            if time.monotonic() >= deadline:
                return
            yield from self._wait(mailbox, folders[0], deadline)
            if self.stop_requested:
                return

    def _read_folder(self, mailbox: Mailbox, folder: Folder) -> Iterator[Record | Checkpoint]:
        opened = mailbox.examine(folder.name)
        position = self.positions.get(folder.name)
        if position is not None and position["uidvalidity"] != opened.uidvalidity:
            self.logger.warning("the folder %s was made anew (UIDVALIDITY changed): reading all of it", folder.name)
            position = None
        if position is None:
            position = self.positions[folder.name] = {"uidvalidity": opened.uidvalidity, "uid": 0}
        for window in mailbox.uids_after(opened, position["uid"], self.settings.start_date):
            for uids in self._chunks(folder, window):
                if len(uids) == 1 and self._broke_at[folder.name, uids[0]] > 1:
                    error = MissingFieldError("the server hangs up whenever the mail is asked for")
                    self._park(error, None, self._context(folder, opened.uidvalidity, Listed(uids[0], 0, None)))
                    pieces: Iterable[tuple[int, list[Listed]]] = [(uids[0], [])]
                else:
                    self._asking = (folder.name, uids[-1])
                    pieces = self._pieces(mailbox, uids)
                for last, listed in pieces:
                    yield from self._read_mails(mailbox, folder, opened.uidvalidity, listed)
                    position["uid"] = last
                    self._progress += 1
                    yield self._checkpoint()
                    if self.stop_requested:
                        return
        self._asking = ("", 0)
        yield self._checkpoint()

    def _chunks(self, folder: Folder, uids: Sequence[int]) -> Iterator[Sequence[int]]:
        """`uids` in chunks: of one where the connection broke before."""
        careful = [uid for uid in uids if uid <= self._careful_until.get(folder.name, 0)]
        yield from ([uid] for uid in careful)
        for first in range(len(careful), len(uids), _CHUNK_MAILS):
            yield uids[first : first + _CHUNK_MAILS]

    def _pieces(self, mailbox: Mailbox, uids: Sequence[int]) -> Iterator[tuple[int, list[Listed]]]:
        """The mails of `uids` in pieces that fit in memory, each with the UID up to which it is complete."""
        listed = mailbox.list_mails(uids)
        piece: list[Listed] = []
        weight = 0
        for uid in uids:
            one = listed.get(uid)
            if one is None:  # deleted since the search
                continue
            size_bytes = min(one.size_bytes, self.settings.max_message_bytes)
            if piece and weight + size_bytes > _CHUNK_BYTES:
                yield piece[-1].uid, piece
                piece, weight = [], 0
            piece.append(one)
            weight += size_bytes
        yield uids[-1], piece

    def _read_mails(
        self, mailbox: Mailbox, folder: Folder, uidvalidity: int, listed: Sequence[Listed]
    ) -> Iterator[Record]:
        if (start := self.settings.start_date) is not None:
            listed = [one for one in listed if one.internal_date is None or one.internal_date.date() >= start]
        large = {one.uid for one in listed if one.size_bytes > self.settings.max_message_bytes}
        fetched: dict[int, bytes] = {}
        if whole := [one.uid for one in listed if one.uid not in large]:
            fetched |= mailbox.fetch_mails(whole)
        if large:
            fetched |= mailbox.fetch_mails(sorted(large), header_only=True)
        absent = [one.uid for one in listed if one.uid not in fetched]
        still_there = mailbox.still_there(absent) if absent else set()
        for one in listed:
            context = self._context(folder, uidvalidity, one)
            if one.uid in fetched:
                yield from self._records(fetched[one.uid], context)
            elif one.uid in still_there:
                self._park(MissingFieldError("the server lists the mail but does not give it"), None, context)

    def _context(self, folder: Folder, uidvalidity: int, mail: Listed) -> EmailContext:
        return EmailContext(
            account=self.settings.mailbox_account,
            own_addresses=self.own_addresses,
            folder=folder.name,
            uid=mail.uid,
            uidvalidity=uidvalidity,
            internal_date=mail.internal_date,
            sent_folder=folder.sent,
            size_bytes=mail.size_bytes if mail.size_bytes > self.settings.max_message_bytes else None,
            keywords=self.keywords,
        )

    def _records(self, raw: bytes, context: EmailContext) -> list[Record]:
        """The records of one mail, or none when it was parked. Nothing that a mail holds makes this raise."""
        try:
            found = records_from_email(raw, context)
            if self.settings.fetch_media:
                return [self._with_media(one, raw, context) if isinstance(one, Message) else one for one in found]
            return found  # noqa: TRY300 (what failed is parked by what follows)
        except PayloadError as error:
            self._park(error, raw, context)
        except OneThreadError:
            raise
        except Exception as error:  # noqa: BLE001 (one mail that the mapping did not foresee must not stop the rest)
            self._park(UnknownShapeError(f"the mapping of the mail failed with {type(error).__name__}"), raw, context)
        return []

    # Files

    @cached_property
    def media(self) -> Media:
        """The store of files."""
        return Media(self.stores)

    def _with_media(self, message: Message, raw: bytes, context: EmailContext) -> Message:
        """A mail with its attachments in our store; one that cannot be kept is parked, and the mail goes on."""
        files: dict[str, bytes] = {}
        attachments = list(message.attachments)
        for position, attachment in enumerate(attachments):
            key = self._media_key_of(message, attachment, position)
            if not attachment.size_bytes or self.media.is_erased(key):
                continue
            found = self.media.find(key, position)
            try:
                if found is None:
                    files = files or files_from_email(raw)
                    found = self.media.keep(
                        [files[attachment.platform_media_id or ""]],
                        max_bytes=self.settings.media_max_bytes,
                        expected=attachment,
                        message_key=key,
                        position=position,
                    )
            except SettingsError:  # the operator's to put right, for all files
                raise
            except OneThreadError as error:
                self._park(error, None, context, stream="media", part=f"#{position}")
            else:
                attachments[position] = found.of(attachment)
        return message.model_copy(update={"attachments": attachments})

    def _media_key_of(self, message: Message, attachment: Attachment, position: int) -> str:
        """The key that the archive gives to a mail: another one where another mail has the same Message-ID."""
        found = self.media.find(message.message_key, position)
        is_other = found is not None and found.sha256 != attachment.sha256
        return key_of_another_mail(message) if is_other else message.message_key

    def _wait(self, mailbox: Mailbox, folder: Folder, deadline: float) -> Iterator[Checkpoint]:
        """Until something new is announced in `folder`, the round is over or the time is up; heartbeats meanwhile."""
        mailbox.examine(folder.name)
        round_seconds = _ROUND_SECONDS if mailbox.can_idle else _POLL_SECONDS
        seconds = max(0.0, min(round_seconds, deadline - time.monotonic()))
        with contextlib.closing(mailbox.wait(seconds, slice_seconds=_HEARTBEAT_SECONDS)) as slices:
            for announced in slices:
                yield self._checkpoint(heartbeat=True)
                if announced or self.stop_requested:
                    return

    def _checkpoint(self, *, heartbeat: bool = False) -> Checkpoint:
        folders = {name: dict(position) for name, position in self.positions.items()}
        return Checkpoint({"folders": folders}, heartbeat=heartbeat)

    # onethread doctor

    def check(self) -> Iterator[Check]:
        """Whether the server is there and lets us in, which folders are read, and whether they can be opened."""
        yield from super().check()
        where = f"{self.settings.host}:{self.settings.imap_port}"
        try:
            with self._mailbox() as mailbox:
                detail = f"{where} lets us in" + ("" if self.settings.ssl else ", without TLS from the first byte")
                yield Check("mailbox login", ok=True, detail=detail)
                folders = folders_to_read(mailbox.list_folders(), self.settings.folders)
                for folder in folders:
                    yield Check("folder", ok=True, detail=f"{folder.name}, {mailbox.examine(folder.name).mails} mails")
                if not any(folder.sent for folder in folders):
                    detail, fix = "none found: replies written elsewhere are not seen", "name it in `folders`"
                    yield Check("folder of sent mail", ok=None, detail=detail, fix=fix)
        except CredentialsError as error:
            yield Check("mailbox login", ok=False, detail=str(error), fix="renew `password`")
        except OneThreadError as error:
            yield Check("mailbox", ok=False, detail=str(error), fix="check `host`, `port`, `ssl` and `folders`")

    # Parking and replaying

    def _park(
        self,
        error: OneThreadError,
        raw: bytes | None,
        context: EmailContext,
        *,
        stream: str = "messages",
        part: str = "",
    ) -> None:
        """Put a mail aside; without `raw` a replay asks the server for it. `part`: what of it, for the key."""
        payload = {
            "account": context.account,
            "folder": context.folder,
            "uid": context.uid,
            "uidvalidity": context.uidvalidity,
            "internal_date": context.internal_date.isoformat() if context.internal_date else None,
            "sent_folder": context.sent_folder,
            "size_bytes": context.size_bytes,
            "base64": base64.b64encode(raw).decode() if raw is not None else None,
        }
        self.park(stream, f"{context.account}|{context.raw_ref}{part}", error, payload, context.raw_ref)

    def _parked_records(self, row: ParkedItem) -> list[Record]:
        payload = row.payload
        arrived = payload["internal_date"]
        context = EmailContext(
            account=payload["account"],
            own_addresses=self.own_addresses,
            folder=payload["folder"],
            uid=payload["uid"],
            uidvalidity=payload["uidvalidity"],
            internal_date=datetime.fromisoformat(arrived) if arrived else None,
            sent_folder=payload["sent_folder"],
            size_bytes=payload["size_bytes"],
            keywords=self.keywords,
        )
        if payload["base64"] is not None:
            return self._records(base64.b64decode(payload["base64"]), context)
        raw = None
        with self._mailbox() as mailbox:
            if mailbox.examine(context.folder).uidvalidity == context.uidvalidity:
                listed = mailbox.list_mails([context.uid]).get(context.uid, Listed(context.uid, 0, None))
                context = self._context(Folder(context.folder, context.sent_folder), context.uidvalidity, listed)
                header_only = context.size_bytes is not None
                raw = mailbox.fetch_mails([context.uid], header_only=header_only).get(context.uid)
        if raw is None:
            self._park(MissingFieldError("the server still does not give the mail"), None, context)
            return []
        return self._records(raw, context)


if __name__ == "__main__":
    TapEmail.cli()
