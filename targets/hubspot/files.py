"""Customers' files of our media store as files of HubSpot: uploaded once, hung on notes and inbox messages, erased.

The ledger keeps the id of each; which it began and has no record for yet is noted in front of the upload. So a file
that was uploaded for a message that was then not written (refused, or the process died) is deleted again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

from mappings.crm_words import attachment_link
from mappings.errors import RejectedError
from mappings.hubspot_files import ATTACHMENT_IDS, file_form
from mappings.records import ArchivedMessage, Attachment
from stores.control import Facts
from stores.database import Stores
from stores.ledger import Ledger, LedgerMessage
from stores.media import Media
from targets.hubspot.answers import rejected
from targets.hubspot.api import COMMUNICATIONS, NOTES, HubSpotApi
from targets.hubspot.days import Day
from targets.hubspot.settings import HubSpotTargetSettings

_LOG = logging.getLogger(__name__)


def communication_files_fact(portal_id: str) -> str:
    """Under which name `stores.control.Facts` keeps whether communications can have files; set-up finds it out."""
    return f"hubspot:{portal_id}:communication_files"


class Files:
    """The files of one HubSpot account. Called under the account's create-lock."""

    def __init__(
        self,
        api: HubSpotApi,
        ledger: Ledger,
        stores: Stores,
        settings: HubSpotTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._stores = stores
        self._facts = Facts(stores)
        self._settings = settings
        self._count = count
        self._open_fact = f"hubspot:{settings.portal_id}:files_open"

    # Where files can hang

    def link(self, attachment: Attachment) -> str:
        """The address that is shown beside a file's name."""
        return (
            "" if self._settings.attachments == "name" else attachment_link(attachment, self._settings.attachment_url)
        )

    def activity_kind(self, message: ArchivedMessage, kind: str) -> str:
        """What a new activity becomes: a note where a logged message cannot have the files that it should."""
        if kind == COMMUNICATIONS and self._settings.files_as_notes and self._wanted(message) and not self._takes(kind):
            return NOTES
        return kind

    def properties(self, message: ArchivedMessage, kind: str) -> dict[str, str]:
        """The property that hangs a message's files on its activity; they are uploaded where they are not yet.

        Empty where the message never had any, or its activity cannot have them.
        """
        if not self._takes(kind):
            if self._wanted(message):
                self._count("messages whose files HubSpot cannot show", 1)
            return {}
        known = self.of(message)
        return {} if known is None else {ATTACHMENT_IDS: ";".join(dict.fromkeys(known.values()))}

    def of(self, message: ArchivedMessage) -> dict[str, str] | None:
        """Media key -> file id of what a message has in HubSpot, uploaded now if need be; ``None``: it never had any.

        A file that HubSpot refuses stays named in the text: the conversation counts more. It is tried again when its
        message comes again. Of a message that its author took back the files are deleted.
        """
        found: dict[str, str] | None = None
        for part in _parts(message):
            known = self._of(part, message)
            if known is not None:
                found = {**(found or {}), **known}
        return found

    def _of(self, part: ArchivedMessage, whole: ArchivedMessage) -> dict[str, str] | None:
        if not part.attachments and part.unsent_at is None:
            return None
        mark = self._ledger.fingerprint(part.message_key)
        known = self._known(mark)
        if part.unsent_at is not None:
            if known:
                self._delete(mark)
            return None if known is None else {}
        if self._wanted(part):
            for position, attachment in enumerate(part.attachments):
                if attachment.media_key and attachment.media_key not in (known or {}):
                    file_id = self._upload(part, position, mark, self._ledger.fingerprint(whole.message_key))
                    if file_id is not None:
                        known = {**(known or {}), attachment.media_key: file_id}
                        self._save(mark, known)
        return known

    def _wanted(self, message: ArchivedMessage) -> bool:
        return self._settings.attachments == "upload" and any(
            one.unsent_at is None and any(file.media_key for file in one.attachments) for one in _parts(message)
        )

    def _takes(self, kind: str) -> bool:
        return kind == NOTES or (kind == COMMUNICATIONS and self._on_communications)

    # Uploading

    def _upload(self, message: ArchivedMessage, position: int, mark: str, row: str) -> str | None:
        """The new file's id; ``None`` when it stays named."""
        stored = self._media.facts(message.attachments[position].media_key or "")
        if stored is None or stored.size_bytes > self._settings.max_upload_bytes:
            self._count("files too large or not in our store", 1)
            return None
        try:
            content = b"".join(self._media.open(stored.media_key))
        except (RejectedError, OSError) as error:
            _LOG.warning("a file of our store cannot be read (%s)", type(error).__name__)
            return None
        self._facts.save(self._open_fact, self._open() | {mark: row})
        form = file_form(message, position, content, stored.mime_type, self._settings.files_folder)
        answer = self._api.call("POST", self._api.paths.files(), "files", form=form)
        if not answer.ok or "id" not in answer.body:
            self.refused(rejected("POST files", answer.status, answer.body))
            return None
        self._count("files uploaded", 1)
        return str(answer.body["id"])

    def refused(self, why: RejectedError) -> None:
        """Say and count that a file stays a name in the text."""
        _LOG.warning("a file is named only: %s", why)
        self._count("files refused", 1)

    # Deleting

    def settle(self) -> None:
        """Delete what was uploaded for messages that were not written then; call it when nothing is under way."""
        waiting = self._open()
        if not waiting:
            return
        rows = self._ledger.messages(waiting.values())
        for mark, row in waiting.items():
            if row not in rows or rows[row].state == "erased":
                self._delete(mark)
        left = {mark: row for mark, row in waiting.items() if row in rows and rows[row].state == "intended"}
        self._facts.save(self._open_fact, left)

    def erase(self, messages: Iterable[LedgerMessage]) -> int:
        """Delete the files of written messages for good; again is harmless. How many there were."""
        deleted = 0
        for one in messages:
            kept = one.kept or {}
            parts = [self._ledger.fingerprint(str(part["message_key"])) for part in kept.get("parts") or []]
            marks = kept.get("part_marks") or parts or [one.message]
            deleted += sum(self._delete(mark) for mark in marks)
        return deleted

    def withdraw(self, message: ArchivedMessage) -> None:
        """Delete the files of a message that HubSpot does not take with them, or that somebody deleted there."""
        for part in _parts(message):
            self._delete(self._ledger.fingerprint(part.message_key))

    def _delete(self, mark: str) -> int:
        """For good, as privacy law asks (documented: see `mappings.hubspot_files`). One that is gone is no error."""
        file_ids: Sequence[str] = list(dict.fromkeys((self._known(mark) or {}).values()))
        for file_id in file_ids:
            answer = self._api.call("DELETE", self._api.paths.files(file_id, "gdpr-delete"), "files/id/gdpr-delete")
            if not answer.ok and answer.status != 404:
                raise rejected("DELETE files/id/gdpr-delete", answer.status, answer.body)
        if file_ids:
            self._save(mark, {})
            self._count("files deleted", len(file_ids))
        return len(file_ids)

    # What is noted

    def _known(self, mark: str) -> dict[str, str] | None:
        text = self._ledger.note(f"files {mark}")
        return None if text is None else dict(json.loads(text))

    def _save(self, mark: str, known: dict[str, str]) -> None:
        self._ledger.save_note(f"files {mark}", json.dumps(known))

    def _open(self) -> dict[str, str]:
        """Of messages with an upload that may have no record yet: fingerprint -> that of the ledger's row."""
        return dict(self._facts.load(self._open_fact) or {})

    @cached_property
    def _on_communications(self) -> bool:
        return bool(self._facts.load(communication_files_fact(self._settings.portal_id)))

    @cached_property
    def _media(self) -> Media:
        return Media(self._stores)


def _parts(message: ArchivedMessage) -> Sequence[ArchivedMessage]:
    return message.parts if isinstance(message, Day) else [message]
