"""Messages as communications on contacts' timelines: each once, whatever happens on the way.

Two ways, and set-up found out which one the account allows. With a unique property on communications (`PROPERTY`) a
batch is upserted, so it can be sent again after any failure. Without (`READBACK`) what is about to be created is
committed to the ledger first; when the answer stays away, the contacts' timelines are read and the reference in each
body says what was created. Associations are read, never the search index: that lags behind (documented).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mappings.errors import OneThreadError, RejectedError, UnavailableError
from mappings.fold import change_without_content, fold_message, is_unsent, without_content
from mappings.records import ArchivedMessage, Handle, MessageChange
from mappings.to_hubspot import (
    MESSAGE_KEY,
    communication_properties,
    communication_reference,
    reference_in_body,
)
from stores.graph import Graph
from stores.ledger import Ledger, LedgerContact, LedgerMessage
from targets.crm_people import CrmPeople
from targets.hubspot.answers import Input, Refused, Written, object_in
from targets.hubspot.api import COMMUNICATION_TO_CONTACT, COMMUNICATIONS, HubSpotApi
from targets.hubspot.contacts import Contacts
from targets.hubspot.links import Links, deleted_in_hubspot
from targets.hubspot.settings import HubSpotTargetSettings

PROPERTY = "property"
READBACK = "readback"
_ROUNDS = 3

Parkable = dict[str, OneThreadError]
"""Message key -> why it is not in HubSpot."""


@dataclass(slots=True)
class _Draft:
    """One message on its way."""

    message: ArchivedMessage
    reference: str
    entry: LedgerMessage
    properties: dict[str, str]

    @property
    def key(self) -> str:
        return self.message.message_key


class Timeline:
    """The timelines of one HubSpot account. Called under the account's create-lock."""

    def __init__(
        self,
        api: HubSpotApi,
        ledger: Ledger,
        links: Links,
        contacts: Contacts,
        graph: Graph,
        settings: HubSpotTargetSettings,
        count: Callable[[str, int], None],
        *,
        mode: str,
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._links = links
        self._contacts = contacts
        self._people = CrmPeople(ledger, graph, "hubspot_contact", settings.portal_id)
        self._settings = settings
        self._count = count
        self._mode = mode

    def write(self, messages: Iterable[ArchivedMessage], *, keep: bool = False) -> Parkable:
        """Put messages on their persons' timelines, or change them there.

        Args:
            messages: the last of several with one key counts.
            keep: keep the messages in the ledger, encrypted, so that `change` can write them again.

        Repeats: what has not changed costs no call.
        """
        self.settle()
        latest = {self._ledger.fingerprint(one.message_key): one for one in messages}
        rows = self._ledger.messages(latest)
        persons: dict[str, str] = {}
        parkable: Parkable = {}
        for mark, message in latest.items():
            person_id = self._people.person_of(message)
            if mark in rows and rows[mark].state in {"gone", "erased"}:
                self._count(f"messages {rows[mark].state} before", 1)
            elif person_id is not None:
                persons[mark] = person_id
            elif message.handles:
                why = RejectedError("HubSpot: no person on the message; run map-identity first")
                parkable[message.message_key] = why
            else:
                self._count("messages without a customer", 1)
        refused = self._ensure_contacts([(persons[mark], latest[mark]) for mark in persons])
        drafts = []
        for mark, person_id in persons.items():
            message, contact = latest[mark], self._contacts.of(person_id)
            if contact is None or contact.record_id is None:
                reason = refused.get(person_id) or RejectedError("HubSpot: no contact can be had")
                parkable[message.message_key] = reason
            elif contact.gone:
                parkable[message.message_key] = deleted_in_hubspot()
            else:
                drafts.append(self._draft(message, person_id, contact, rows.get(mark), keep=keep))
        return parkable | self._write_drafts(drafts, rows)

    def change(self, changes: Sequence[MessageChange]) -> Parkable:
        """Edits, removals and reactions in a pipe without an archive: kept, and shown on messages already written."""
        for change in changes:
            self._ledger.save_change(change)
        for key in {change.message_key for change in changes}:
            known = self._ledger.changes(key)
            if is_unsent(known):  # what its author took back is kept nowhere
                for change in known:
                    self._ledger.save_change(change_without_content(change))
        rows = self._ledger.messages(self._ledger.fingerprint(change.message_key) for change in changes)
        kept = [row.kept["message"] for row in rows.values() if row.kept and "message" in row.kept]
        return self.write([ArchivedMessage.model_validate(one) for one in kept], keep=True) if kept else {}

    def erase(self, messages: Sequence[LedgerMessage]) -> None:
        """Remove written messages from HubSpot; they are never written again."""
        self._api.archive(COMMUNICATIONS, [one.record_id for one in messages if one.record_id])
        self._ledger.erase_messages(messages)
        self._count("messages erased", len(messages))

    def settle(self) -> int:
        """Find out what came of creations without an answer, from a run that died too; the number that happened."""
        intents = self._ledger.intents()
        if not intents:
            return 0
        now = self._links.survivors({one.contact_id for one in intents if one.contact_id})
        contacts = {contact for contact in now.values() if contact is not None}
        on_timeline = self._api.communications_of(contacts)
        known = {one for contact in contacts for one in self._ledger.records_on_contact(contact)}
        unknown = {one for ones in on_timeline.values() for one in ones} - known
        found: dict[str, str] = {}
        for record in self._api.read_batch(COMMUNICATIONS, sorted(unknown), ["hs_communication_body"]):
            reference = reference_in_body(object_in(record.get("properties")).get("hs_communication_body"))
            if reference:
                found[reference] = min(found.get(reference, str(record["id"])), str(record["id"]), key=int)
        settled, lost = [], []
        for intent in self._ledger.intents():  # read again: their contacts may have been renamed
            record_id = found.get((intent.kept or {}).get("reference", ""))
            if record_id is None:
                lost.append(intent.message)
            else:
                kept = {key: value for key, value in (intent.kept or {}).items() if key != "reference"}
                settled.append(replace(intent, state="written", record_id=record_id, kept=kept or None))
        with self._ledger.transaction():
            self._ledger.save_messages(settled)
            self._ledger.forget_messages(lost)
        self._count("messages written", len(settled))
        return len(settled)

    # Who, where and what

    def _ensure_contacts(self, messages: Iterable[tuple[str, ArchivedMessage]]) -> dict[str, OneThreadError]:
        handles: dict[str, list[Handle]] = {}
        names: dict[str, str | None] = {}
        for person_id, message in messages:
            seen = handles.setdefault(person_id, [])
            seen += [handle for handle in message.handles if handle not in seen]
            if message.profile is not None and message.profile.name:
                names.setdefault(person_id, message.profile.name)
        return self._contacts.ensure(handles, names)

    def _draft(
        self,
        message: ArchivedMessage,
        person_id: str,
        contact: LedgerContact,
        row: LedgerMessage | None,
        *,
        keep: bool,
    ) -> _Draft:
        kept: dict[str, Any] | None = None
        if keep:
            changes = self._ledger.changes(message.message_key)
            original = without_content(message) if is_unsent(changes) else message
            kept = {"message": original.model_dump(mode="json")}
            message = fold_message([message], changes)
        properties = communication_properties(
            message,
            channel_types=self._settings.channel_types,
            owner_ids=self._settings.owner_ids,
            max_characters=self._settings.max_body_characters,
        )
        entry = self._ledger.entry_for(
            message,
            "written",
            record_id=row.record_id if row else None,
            contact_id=contact.record_id,
            person_id=person_id,
            content_hash=self._ledger.content_hash(properties),
            kept=kept,
        )
        return _Draft(message, communication_reference(message.message_key), entry, properties)

    # Writing

    def _write_drafts(self, drafts: Sequence[_Draft], rows: Mapping[str, LedgerMessage]) -> Parkable:
        new = [draft for draft in drafts if draft.entry.message not in rows]
        parkable = self._create_with_property(new) if self._mode == PROPERTY else self._create_with_readback(new)
        old = [(draft, rows[draft.entry.message]) for draft in drafts if draft.entry.message in rows]
        changed = [draft for draft, row in old if row.content_hash != draft.entry.content_hash]
        parkable |= self._update(changed, rows)
        moving: dict[tuple[str, str], list[LedgerMessage]] = {}
        for draft, row in old:
            contact_id, person_id = draft.entry.contact_id or "", draft.entry.person_id or ""
            if (row.contact_id, row.person_id) != (contact_id, person_id) and draft.key not in parkable:
                now = self._ledger.messages([row.message])[row.message]
                if now.state == "written":
                    moving.setdefault((contact_id, person_id), []).append(now)
        keys = {draft.entry.message: draft.key for draft in drafts}
        for (contact_id, person_id), entries in moving.items():
            errors = self._links.move(entries, contact_id, person_id)
            parkable |= {keys[mark]: error for mark, error in errors.items()}
        return parkable

    def _create_with_property(self, drafts: Sequence[_Draft]) -> Parkable:
        by_reference = {draft.reference: draft for draft in drafts}

        def save(part: Written) -> None:
            entries = [
                replace(by_reference[reference].entry, record_id=str(record["id"]), contact_id=None)
                for reference, record in part.results.items()
            ]
            self._ledger.save_messages(entries)
            self._count("messages written", len(entries))

        inputs = [
            {
                "id": draft.reference,
                "idProperty": MESSAGE_KEY,
                "properties": {MESSAGE_KEY: draft.reference, **draft.properties},
                "objectWriteTraceId": draft.reference,
            }
            for draft in drafts
        ]
        written = self._api.write_batch(
            COMMUNICATIONS,
            "upsert",
            inputs,
            size=self._settings.message_batch_size,
            id_property=MESSAGE_KEY,
            recognise=_reference_digits(by_reference),
            written_so_far=save,
        )
        ids = {str(record["id"]): by_reference[reference] for reference, record in written.results.items()}
        parkable: Parkable = {by_reference[one].key: refused.error for one, refused in written.refused.items()}
        return parkable | self._attach(ids)

    def _attach(self, drafts: Mapping[str, _Draft]) -> Parkable:
        """Associate what was just upserted: record id -> draft."""
        done, errors = self._links.attach({one: draft.entry.contact_id or "" for one, draft in drafts.items()})
        self._ledger.save_messages(
            [replace(drafts[one].entry, record_id=one, contact_id=contact_id) for one, contact_id in done.items()]
        )
        if errors:
            # On no timeline nobody would see it; it is made again when it is replayed.
            self._api.archive(COMMUNICATIONS, errors)
            self._ledger.forget_messages(drafts[one].entry.message for one in errors)
        return {drafts[one].key: error for one, error in errors.items()}

    def _create_with_readback(self, drafts: Sequence[_Draft]) -> Parkable:
        waiting = list(drafts)
        parkable: Parkable = {}
        for _ in range(_ROUNDS):
            refused, unknown = self._create_once(waiting)
            waiting = []
            if unknown:
                if self._settings.settle_wait_seconds:
                    time.sleep(self._settings.settle_wait_seconds)  # a slow server may still be writing
                self.settle()
                written = self._ledger.messages(draft.entry.message for draft in unknown)
                waiting = [draft for draft in unknown if draft.entry.message not in written]
            waiting += self._with_survivors(refused, parkable)
            if not waiting:
                return parkable
        msg = "HubSpot: creating messages keeps ending without an answer; run again later, nothing is written twice"
        raise UnavailableError(msg)

    def _create_once(self, drafts: Sequence[_Draft]) -> tuple[list[tuple[_Draft, Refused]], list[_Draft]]:
        """Create with intents; returns what was refused, and what nobody knows."""
        by_reference = {draft.reference: draft for draft in drafts}
        refused: list[tuple[_Draft, Refused]] = []
        unknown: list[_Draft] = []

        def save(part: Written) -> None:
            entries = [
                replace(by_reference[one].entry, record_id=str(record["id"])) for one, record in part.results.items()
            ]
            with self._ledger.transaction():
                self._ledger.save_messages(entries)
                self._ledger.forget_messages(by_reference[one].entry.message for one in part.refused)
            self._count("messages written", len(entries))
            refused.extend((by_reference[one], why) for one, why in part.refused.items())
            unknown.extend(by_reference[one] for one in part.unknown)

        size = self._settings.message_batch_size
        for start in range(0, len(drafts), size):
            chunk = drafts[start : start + size]
            self._ledger.save_messages([_intent(one) for one in chunk])
            self._api.write_batch(
                COMMUNICATIONS,
                "create",
                [_creation(draft) for draft in chunk],
                size=size,
                repeatable=False,
                recognise=_reference_digits(by_reference),
                written_so_far=save,
            )
        return refused, unknown

    def _with_survivors(self, refused: Sequence[tuple[_Draft, Refused]], parkable: Parkable) -> list[_Draft]:
        """Those whose contact was merged into another, for that one; the others are noted with their reason."""
        if not refused:
            return []
        now = self._links.survivors(draft.entry.contact_id or "" for draft, _ in refused)
        again = []
        for draft, why in refused:
            survivor = now[draft.entry.contact_id or ""]
            if survivor is None:
                parkable[draft.key] = deleted_in_hubspot()
            elif survivor == draft.entry.contact_id:
                parkable[draft.key] = why.error
            else:
                again.append(replace(draft, entry=replace(draft.entry, contact_id=survivor)))
        return again

    def _update(self, drafts: Sequence[_Draft], rows: Mapping[str, LedgerMessage]) -> Parkable:
        by_reference = {draft.reference: draft for draft in drafts}

        def save(part: Written) -> None:
            entries = []
            for one in part.results:
                entry = by_reference[one].entry
                before = rows[entry.message]
                entries.append(replace(entry, contact_id=before.contact_id, person_id=before.person_id))
            self._ledger.save_messages(entries)
            self._count("messages changed", len(entries))

        inputs = [
            {"id": draft.entry.record_id, "properties": draft.properties, "objectWriteTraceId": draft.reference}
            for draft in drafts
        ]
        written = self._api.write_batch(
            COMMUNICATIONS, "update", inputs, size=self._settings.message_batch_size, written_so_far=save
        )
        gone = [by_reference[one] for one, refused in written.refused.items() if refused.missing]
        # Somebody deleted the activity in HubSpot; it is not made again.
        self._ledger.save_messages([replace(draft.entry, state="gone", kept=None) for draft in gone])
        self._count("messages deleted in HubSpot", len(gone))
        return {by_reference[one].key: why.error for one, why in written.refused.items() if not why.missing}


def _intent(draft: _Draft) -> LedgerMessage:
    kept = {**(draft.entry.kept or {}), "reference": draft.reference[:12]}
    return replace(draft.entry, state="intended", kept=kept)


def _creation(draft: _Draft) -> Input:
    to = {"id": draft.entry.contact_id}
    return {
        "properties": draft.properties,
        "associations": [{"to": to, "types": [COMMUNICATION_TO_CONTACT]}],
        "objectWriteTraceId": draft.reference,
    }


def _reference_digits(by_reference: Mapping[str, _Draft]) -> Callable[[dict[str, Any]], str | None]:
    """Recognises a result that came without trace id by the reference at the end of its body."""
    short = {reference[:12]: reference for reference in by_reference}

    def recognise(record: dict[str, Any]) -> str | None:
        body = object_in(record.get("properties")).get("hs_communication_body")
        return short.get(reference_in_body(body) or "")

    return recognise
