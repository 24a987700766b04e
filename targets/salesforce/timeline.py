"""Conversations and messages as records on contacts: each once, whatever happens on the way.

A new record is upserted by our external id, one that is there is updated by its id: a call whose answer was lost can be
made again, and what somebody deleted does not come back. The message of an agent's reply is the record on which the
agent wrote it, not a second one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mappings.errors import OneThreadError, PayloadError, RejectedError, UnavailableError
from mappings.ids import external_id
from mappings.records import ArchivedMessage, Conversation
from mappings.to_salesforce import (
    CONVERSATION,
    Fact,
    conversation_facts,
    message_facts,
    reply_record_id,
    sent_reply_facts,
    task_facts,
    thread_facts,
)
from stores.ledger import Ledger, LedgerMessage
from targets.crm_messages import CrmMessages, Parkable
from targets.crm_people import CrmPeople
from targets.salesforce.answers import Refused, Row, Written
from targets.salesforce.api import SalesforceApi
from targets.salesforce.contacts import Contacts
from targets.salesforce.fields import OBJECTS, Fields
from targets.salesforce.files import Files
from targets.salesforce.links import Links
from targets.salesforce.settings import SalesforceTargetSettings

_MESSAGE = "message "
_THREAD = "conversation "
_PENDING = "files to be uploaded"


@dataclass(slots=True)
class Draft:
    """One message or conversation on its way.

    Attributes:
        row_key: its row's.
        key: message key or conversation key.
        kind: ``conversation``, ``message`` or ``task``.
        entry: what the ledger will say; its record id is set when the record is there.
        facts: what to write; ``None`` when only the contact changes.
        thread: external id of the conversation, of a message that has one.
        on_contact: where the record is already; it is not pointed there again: somebody may have moved it.
        tried_on: the contact that was the person's when the row was written last.
    """

    row_key: str
    key: str
    kind: str
    person_id: str
    entry: LedgerMessage
    facts: dict[str, Fact] | None
    thread: str | None = None
    message: ArchivedMessage | None = None
    on_contact: str | None = None
    tried_on: str | None = None


class Timeline(CrmMessages):
    """Conversations and messages of one org. Called under the org's create-lock."""

    _contacts: Contacts
    _links: Links

    def __init__(
        self,
        api: SalesforceApi,
        ledger: Ledger,
        links: Links,
        people: CrmPeople,
        contacts: Contacts,
        fields: Fields,
        files: Files,
        settings: SalesforceTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        super().__init__(ledger, links, people, contacts, count)
        self._api = api
        self._fields = fields
        self._files = files
        self._settings = settings
        self._drafts: dict[str, Draft] = {}
        self._uploads: list[tuple[ArchivedMessage, LedgerMessage, str | None]] = []
        self.parkable: Parkable = {}

    # What is to be written

    def prepare(
        self,
        conversations: Iterable[Conversation],
        messages: Iterable[ArchivedMessage],
        names: Mapping[str, str],
        *,
        keep: bool,
    ) -> None:
        """Draft what is new or changed; after the contacts were prepared.

        Args:
            conversations: as the archive tells them.
            messages: the last of several with one key counts.
            names: person id -> name, for the titles of conversations.
            keep: keep the messages in the ledger, encrypted, so that `change` can write them again.
        """
        self._drafts.clear()
        self.parkable.clear()
        latest = {self._ledger.fingerprint(one.message_key): one for one in messages}
        threads = {one.conversation_key: one for one in conversations}
        rows = self._ledger.messages([*latest, *map(self._thread_mark, self._thread_keys(threads, latest.values()))])
        if self._fields.message_kind == "message":
            for one in threads.values():
                self._prepare_thread(one, rows.get(self._thread_mark(one.conversation_key)), names)
        for mark, message in latest.items():
            self._prepare_message(message, rows.get(mark), rows, keep=keep)

    @staticmethod
    def _thread_keys(threads: Mapping[str, Conversation], messages: Iterable[ArchivedMessage]) -> set[str]:
        return {*threads, *(one.conversation_key for one in messages)}

    def _prepare_thread(self, one: Conversation, row: LedgerMessage | None, names: Mapping[str, str]) -> None:
        if one.person_id is None or not one.message_count or (row is not None and row.state != "written"):
            return
        person_id = self._people.current(one.person_id)
        why = self._contacts.why_not(person_id)
        if why is not None:
            return  # its messages are parked with the reason, and bring their conversation along when replayed
        name = names.get(person_id) or self._people.name_of(person_id)
        facts = conversation_facts(one, name)
        # What it is called for want of a name is no news, and does not take the place of a name.
        told = {fact: value for fact, value in facts.items() if name or fact != "name"}
        handle = one.handles[0].key if one.handles else None
        mark = self._hash("conversation", told)
        self._add_thread(one.conversation_key, person_id, told if row else facts, row, handle, mark)

    def _add_thread(
        self, key: str, person_id: str, facts: dict[str, Fact], row: LedgerMessage | None, handle: str | None, mark: str
    ) -> None:
        entry = LedgerMessage(
            self._thread_mark(key),
            "written",
            record_id=row.record_id if row else None,
            person_id=person_id,
            handle=self._ledger.fingerprint(handle) if handle else None,
            conversation=self._ledger.fingerprint(key),
            content_hash=mark,
            kept={"object": "conversation"},
        )
        self._add(Draft(_THREAD + key, key, "conversation", person_id, entry, facts), row)

    def _prepare_message(
        self, message: ArchivedMessage, row: LedgerMessage | None, rows: Mapping[str, LedgerMessage], *, keep: bool
    ) -> None:
        person_id = self._whose(message, row, self.parkable)
        if person_id is None:
            return
        reason = self._contacts.why_not(person_id)
        if reason is not None:
            self.parkable[message.message_key] = reason
            return
        kept: dict[str, Any] | None = None
        if keep:
            kept, message = self._kept_and_folded(message)
        kind = self._fields.message_kind
        reply_id = self._reply_record(message) if kind == "message" else None
        facts = self._facts(message, kind, agent_wrote=reply_id is not None)
        thread_row = rows.get(self._thread_mark(message.conversation_key))
        if kind == "message" and thread_row is None and _THREAD + message.conversation_key not in self._drafts:
            known = thread_facts(message.conversation_key, message.channel, message.account)
            handle = message.handles[0].key if message.handles else None
            mark = self._hash("conversation", known)
            self._add_thread(message.conversation_key, person_id, known, None, handle, mark)
        entry = self._ledger.entry_for(
            message,
            "written",
            record_id=row.record_id if row else reply_id,
            person_id=person_id,
            content_hash=self._hash(kind, facts),
            kept=kept,
        )
        thread = None
        if kind == "message" and (thread_row is None or thread_row.state == "written"):
            thread = external_id("conversation", message.conversation_key)
        draft = Draft(
            _MESSAGE + message.message_key, message.message_key, kind, person_id, entry, facts, thread, message
        )
        self._add(draft, row)

    def _facts(self, message: ArchivedMessage, kind: str, *, agent_wrote: bool) -> dict[str, Fact]:
        if kind == "task":
            return task_facts(message)
        return sent_reply_facts(message) if agent_wrote else message_facts(message, self._files.links(message))

    def _add(self, draft: Draft, row: LedgerMessage | None) -> None:
        contact_id, parent = self._contacts.parent_of(draft.person_id)
        if contact_id is None and parent is None:
            why = self._contacts.why_not(draft.person_id)
            self.parkable[draft.key] = why or self._contacts.none_to_be_had()
            return
        if row is not None and row.content_hash == draft.entry.content_hash:
            if (row.contact_id, row.person_id) == (contact_id, draft.person_id):
                self._count("unchanged", 1)
                return
            if row.contact_id == contact_id:
                self._ledger.save_messages([replace(row, person_id=draft.person_id)])
                return
            draft.facts = None
        draft.on_contact = row.contact_id if row is not None else None
        self._drafts[draft.row_key] = draft

    def rows(self) -> list[Row]:
        """The drafts as rows; those whose contact cannot be had are noted with the reason."""
        found = []
        for draft in list(self._drafts.values()):
            contact_id, parent = self._contacts.parent_of(draft.person_id)
            why = self._contacts.why_not(draft.person_id)
            if why is not None or (contact_id is None and parent is None):
                self._refuse(draft, why or self._contacts.none_to_be_had())
                continue
            draft.tried_on = contact_id
            values = self._fields.map.fields(draft.kind, draft.facts or {})
            parents: dict[str, tuple[str, str]] = {}
            if contact_id is not None and contact_id != draft.on_contact:
                values[self._fields.field(draft.kind, "contact")] = contact_id
            elif parent is not None and contact_id is None:
                parents[self._fields.relationship(draft.kind, "contact")] = parent
            if draft.thread is not None and draft.facts is not None:
                relationship = self._fields.relationship("message", "conversation")
                parents[relationship] = (self._fields.key_field("conversation"), draft.thread)
            found.append(
                Row(
                    draft.row_key,
                    OBJECTS[draft.kind],
                    self._fields.fit(draft.kind, values),
                    draft.person_id,
                    draft.entry.record_id,
                    None if draft.entry.record_id else self._fields.key_field(draft.kind),
                    parents,
                )
            )
        return found

    def needs_contact_first(self) -> bool:
        """Whether contacts must be there before: a Task's contact has no relationship that names it by a key."""
        return self._fields.message_kind == "task"

    # What came of it

    def save(self, written: Written) -> None:
        """Note what was written."""
        entries = []
        for row_key, record_id in written.ids.items():
            draft = self._drafts.pop(row_key, None)
            if draft is None:
                continue
            contact = self._contacts.of(draft.person_id)
            content_hash = draft.entry.content_hash
            if draft.message is not None and self._files.wanted(draft.message) and draft.facts is not None:
                content_hash = _PENDING
            contact_id = contact.record_id if contact else None
            entry = replace(draft.entry, record_id=record_id, contact_id=contact_id, content_hash=content_hash)
            entries.append(entry)
            if content_hash == _PENDING and draft.message is not None:
                self._uploads.append((draft.message, entry, draft.entry.content_hash))
            what = "conversations" if draft.kind == "conversation" else "messages"
            self._count(f"{what} {'written' if row_key in written.created else 'changed'}", 1)
        self._ledger.save_messages(entries)

    def upload(self) -> None:
        """Upload the files of what was written. Only then the ledger says that a message is done."""
        uploads, self._uploads = self._uploads, []
        for message, entry, content_hash in uploads:
            self._files.upload(message, entry.record_id or "")
            self._ledger.save_messages([replace(entry, content_hash=content_hash)])

    def judge(self, refused: Mapping[str, Refused], again: bool) -> bool:
        """Judge refusals; whether there is something to try again.

        Args:
            refused: row key -> why.
            again: whether a contact is tried again, so that its children can be too.
        """
        found = [(draft, why) for key, why in refused.items() if (draft := self._drafts.get(key)) is not None]
        again |= self._follow([(draft, why) for draft, why in found if why.missing])
        for draft, why in found:
            if why.no_parent:
                again |= self._without_parent(draft, why, again=again)
            elif not why.missing:
                # A lock passes by itself; other refusals need somebody.
                self._refuse(draft, UnavailableError(str(why.error)) if why.later else why.error)
        return again

    def _without_parent(self, draft: Draft, why: Refused, *, again: bool) -> bool:
        """The parent's row was refused, or somebody deleted the conversation."""
        if _THREAD + self._thread_of(draft) in self._drafts:
            return False  # the parent is tried again, and this with it
        contact_id, in_call = self._contacts.parent_of(draft.person_id)
        if in_call is not None and again:
            return False
        if draft.thread is None or contact_id is None:
            self._refuse(draft, self._contacts.why_not(draft.person_id) or why.error)
            return False
        # A conversation that somebody deleted is not made again; its messages stay on the contact.
        mark = self._thread_mark(self._thread_of(draft))
        row = self._ledger.messages([mark]).get(mark)
        if row is not None:
            self._ledger.save_messages([replace(row, state="gone")])
        draft.thread = None
        return True

    @staticmethod
    def _thread_of(draft: Draft) -> str:
        return draft.message.conversation_key if draft.message is not None else ""

    def _follow(self, missing: Sequence[tuple[Draft, Refused]]) -> bool:
        """Records or contacts that are not there: a merged contact is followed, a deleted record is let go."""
        if not missing:
            return False
        self._links.survivors(draft.tried_on for draft, _ in missing if draft.tried_on)
        by_kind: dict[str, set[str]] = {}
        for draft, _ in missing:
            if draft.entry.record_id:
                by_kind.setdefault(OBJECTS[draft.kind], set()).add(draft.entry.record_id)
        there = {one for kind, ids in by_kind.items() for one in self._links.existing(kind, ids)}
        again = False
        for draft, why in missing:
            after = self._contacts.parent_of(draft.person_id)[0]
            gone = self._contacts.why_not(draft.person_id)
            if draft.entry.record_id and draft.entry.record_id not in there:
                # Somebody deleted the record in Salesforce; it is not made again.
                self._ledger.save_messages([replace(draft.entry, state="gone", kept=None)])
                self._drafts.pop(draft.row_key)
                self._count("messages deleted in Salesforce", 1)
            elif gone is not None:
                self._refuse(draft, gone)
            elif after != draft.tried_on:
                again = True
            else:
                self._refuse(draft, why.error)
        return again

    def give_up(self) -> None:
        """What is left after the last try is noted with a reason."""
        for draft in list(self._drafts.values()):
            self._refuse(draft, self._contacts.why_not(draft.person_id) or RejectedError("Salesforce: tried too often"))

    def _refuse(self, draft: Draft, why: OneThreadError) -> None:
        self._drafts.pop(draft.row_key, None)
        self.parkable[draft.key] = why

    def erase(self, messages: Sequence[LedgerMessage]) -> None:
        """Remove written records, and the files on them, for good; they are never written again."""
        record_ids = [one.record_id for one in messages if one.record_id]
        removed = [*self._files.remove(record_ids), *record_ids]
        failed = self._api.delete(record_ids)
        if failed:
            raise next(iter(failed.values())).error
        self._api.empty_bin(removed)
        self._ledger.erase_messages(messages)
        self._count("messages erased", len(record_ids))

    # Small questions

    def _reply_record(self, message: ArchivedMessage) -> str | None:
        """The record on which an agent wrote this message, if no other message has used it: an echo counts once."""
        if message.reply_key is None or message.direction == "inbound":
            return None
        try:
            record_id = reply_record_id(message.reply_key, self._settings.org_id)
        except PayloadError:
            return None
        if record_id is None:
            return None
        mark = self._ledger.fingerprint(f"reply record {message.reply_key}")
        mine = self._ledger.fingerprint(message.message_key)
        used = self._ledger.messages([mark]).get(mark)
        if used is not None and used.content_hash != mine:
            return None
        if used is None:
            self._ledger.save_messages([LedgerMessage(mark, "written", record_id, content_hash=mine)])
        return record_id

    def _thread_mark(self, conversation_key: str) -> str:
        return self._ledger.fingerprint(f"{CONVERSATION} {conversation_key}")

    def _hash(self, kind: str, facts: Mapping[str, Fact]) -> str:
        values = self._fields.map.fields(kind, facts)
        return self._ledger.content_hash({name: "" if one is None else str(one) for name, one in values.items()})
