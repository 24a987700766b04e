"""Messages as communications or notes on contacts' timelines, or in the inbox: each once, whatever happens on the way.

Two ways, and set-up found out which one the account allows. With a unique property on the object type (`PROPERTY`) a
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
    BODY_PROPERTIES,
    MESSAGE_KEY,
    NOTE,
    activity_properties,
    communication_reference,
    day_properties,
    reference_in_body,
)
from stores.graph import Graph
from stores.ledger import Ledger, LedgerContact, LedgerMessage
from targets.crm_people import CrmPeople
from targets.hubspot.answers import Input, Refused, Written, object_in
from targets.hubspot.api import COMMUNICATIONS, NOTES, TO_CONTACT, HubSpotApi
from targets.hubspot.contacts import Contacts
from targets.hubspot.days import Day, with_days
from targets.hubspot.inbox import Inbox
from targets.hubspot.links import Links, deleted_in_hubspot
from targets.hubspot.places import INBOX, Place, place_of
from targets.hubspot.settings import HubSpotTargetSettings

PROPERTY = "property"
READBACK = "readback"
ERASED_BODY = "erased"
"""What stands in an archived activity in the place of an erased person's words."""
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
    kind: str

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
        inbox: Inbox,
        graph: Graph,
        settings: HubSpotTargetSettings,
        count: Callable[[str, int], None],
        *,
        modes: Mapping[str, str],
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._links = links
        self._contacts = contacts
        self._people = CrmPeople(ledger, graph, "hubspot_contact", settings.portal_id)
        self._settings = settings
        self._count = count
        self._inbox = inbox
        self._modes = modes

    def write(self, messages: Iterable[ArchivedMessage], *, keep: bool = False) -> Parkable:
        """Put messages on their persons' timelines, or change them there.

        Args:
            messages: the last of several with one key counts.
            keep: keep the messages in the ledger, encrypted, so that `change` can write them again.

        Repeats: what has not changed costs no call.
        """
        self.settle()
        roll_up = self._settings.roll_up
        found = with_days(messages, self._ledger, roll_up=roll_up, elsewhere=self._inbox.has_or_takes)
        latest = {self._ledger.fingerprint(one.message_key): one for one in found}
        rows = {mark: row for mark, row in self._ledger.messages(latest).items() if row.state != "intended"}
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
        parkable |= self._write_drafts(drafts, rows)
        days = {one.message_key: one.brought for one in found if isinstance(one, Day)}
        return {key: error for whole, error in parkable.items() for key in days.get(whole, [whole])}

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
        """Remove written messages from HubSpot; they are never written again.

        Deleted records can be restored for 90 days (knowledge.hubspot.com/records/restore-deleted-records, updated
        2025-11-10, read 2026-11, documented for contacts, companies, emails and others; assumed for communications), so
        their words are overwritten first. Whether the history of the property goes at once is not documented.
        """
        places = [place_of(one.record_id) for one in messages if one.record_id]
        for kind, body in BODY_PROPERTIES.items():
            record_ids = [one.record_id for one in places if one.kind == kind]
            inputs: list[Input] = [
                {"id": one, "properties": {body: ERASED_BODY}, "objectWriteTraceId": one} for one in record_ids
            ]
            written = self._api.write_batch(kind, "update", inputs, size=self._settings.message_batch_size)
            for refused in written.refused.values():
                if not refused.missing:
                    raise refused.error
            self._api.archive(kind, record_ids)
        self._inbox.erase([one for one in places if one.kind == INBOX])
        self._ledger.erase_messages(messages)
        self._count("messages erased", len(messages))

    def settle(self) -> int:
        """Find out what came of creations without an answer, from a run that died too; the number that happened."""
        intents = self._activity_intents()
        if not intents:
            return 0
        now = self._links.survivors({one.contact_id for one in intents if one.contact_id})
        contacts = {contact for contact in now.values() if contact is not None}
        kinds = {_kind_of_intent(one) for one in intents}
        found = {kind: self._references_on(kind, contacts) for kind in kinds}
        settled, lost = [], []
        for intent in self._activity_intents():  # read again: their contacts may have been renamed
            kind = _kind_of_intent(intent)
            record_id = found[kind].get((intent.kept or {}).get("reference", ""))
            if record_id is None:
                lost.append(intent.message)
            else:
                kept = {key: value for key, value in (intent.kept or {}).items() if key not in {"reference", "kind"}}
                place = Place(kind, record_id)
                settled.append(replace(intent, state="written", record_id=place.text, kept=kept or None))
        with self._ledger.transaction():
            self._ledger.save_messages(settled)
            self._ledger.forget_messages(lost)
        self._count("messages written", len(settled))
        return len(settled)

    def _activity_intents(self) -> list[LedgerMessage]:
        """Intents of the inbox settle themselves: they are published again under the same id."""
        return [one for one in self._ledger.intents() if INBOX not in (one.kept or {})]

    def _references_on(self, kind: str, contacts: set[str]) -> dict[str, str]:
        """What is on these timelines and not in the ledger: reference in the body -> id of the oldest such record."""
        on_timeline = self._api.activities_of(kind, contacts)
        known = {one for contact in contacts for one in self._ledger.records_on_contact(contact)}
        unknown = {one for ones in on_timeline.values() for one in ones if Place(kind, one).text not in known}
        found: dict[str, str] = {}
        body = BODY_PROPERTIES[kind]
        for record in self._api.read_batch(kind, sorted(unknown), [body]):
            reference = reference_in_body(object_in(record.get("properties")).get(body))
            if reference:
                found[reference] = min(found.get(reference, str(record["id"])), str(record["id"]), key=int)
        return found

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
        if keep and not isinstance(message, Day):
            changes = self._ledger.changes(message.message_key)
            original = without_content(message) if is_unsent(changes) else message
            kept = {"message": original.model_dump(mode="json")}
            message = fold_message([message], changes)
        channel_type = self._settings.channel_type(message.channel)
        kind = NOTES if channel_type == NOTE else COMMUNICATIONS
        if row is not None and row.record_id:
            kind = place_of(row.record_id).kind
        elif (place := self._inbox.place_of_reply(message)) is not None or self._inbox.takes(message):
            kind = INBOX
            row = None if place is None else LedgerMessage("", "written", record_id=place.text)
        properties = self._properties(message, kind, "SMS" if channel_type == NOTE else channel_type)
        if isinstance(message, Day):
            kept = {"parts": [one.model_dump(mode="json") for one in message.parts]}
        entry = self._ledger.entry_for(
            message,
            "written",
            record_id=row.record_id if row else None,
            contact_id=contact.record_id,
            person_id=person_id,
            content_hash=self._ledger.content_hash(properties),
            kept=kept,
        )
        return _Draft(message, communication_reference(message.message_key), entry, properties, kind)

    def _properties(self, message: ArchivedMessage, kind: str, channel_type: str) -> dict[str, str]:
        """What is written, and (in the inbox) by what a change is noticed."""
        most = self._settings.max_body_characters
        if kind == INBOX:
            shown = activity_properties(message, channel_type=channel_type, max_characters=most)
            return {"status": message.status or "", **shown}
        if isinstance(message, Day):
            return day_properties(
                message.parts, message.message_key, kind, channel_type=channel_type, max_characters=most
            )
        return activity_properties(
            message, kind, channel_type=channel_type, owner_ids=self._settings.owner_ids, max_characters=most
        )

    # Writing

    def _write_drafts(self, drafts: Sequence[_Draft], rows: Mapping[str, LedgerMessage]) -> Parkable:
        new = [draft for draft in drafts if draft.entry.message not in rows]
        parkable: Parkable = {}
        for kind, mode in self._modes.items():
            mine = [draft for draft in new if draft.kind == kind]
            create = self._create_with_property if mode == PROPERTY else self._create_with_readback
            parkable |= create(kind, mine)
        parkable |= self._publish([draft for draft in new if draft.kind == INBOX])
        old = [(draft, rows[draft.entry.message]) for draft in drafts if draft.entry.message in rows]
        changed = [draft for draft, row in old if row.content_hash != draft.entry.content_hash]
        for kind in self._modes:
            parkable |= self._update(kind, [draft for draft in changed if draft.kind == kind], rows)
        for draft in changed:
            if draft.kind == INBOX:
                error = self._inbox.follow(draft.message, draft.entry, rows[draft.entry.message])
                parkable |= {draft.key: error} if error else {}
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

    def _publish(self, drafts: Sequence[_Draft]) -> Parkable:
        for draft in drafts:
            if draft.entry.record_id is not None:
                self._inbox.adopt(draft.message, draft.entry, place_of(draft.entry.record_id))
        return self._inbox.publish([(one.message, one.entry) for one in drafts if one.entry.record_id is None])

    def _create_with_property(self, kind: str, drafts: Sequence[_Draft]) -> Parkable:
        by_reference = {draft.reference: draft for draft in drafts}

        def save(part: Written) -> None:
            entries = [
                replace(by_reference[reference].entry, record_id=Place(kind, str(record["id"])).text, contact_id=None)
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
            kind,
            "upsert",
            inputs,
            size=self._settings.message_batch_size,
            id_property=MESSAGE_KEY,
            recognise=_reference_digits(kind, by_reference),
            written_so_far=save,
        )
        ids = {
            Place(kind, str(record["id"])).text: by_reference[reference]
            for reference, record in written.results.items()
        }
        parkable: Parkable = {by_reference[one].key: refused.error for one, refused in written.refused.items()}
        return parkable | self._attach(kind, ids)

    def _attach(self, kind: str, drafts: Mapping[str, _Draft]) -> Parkable:
        """Associate what was just upserted: place -> draft."""
        done, errors = self._links.attach({one: draft.entry.contact_id or "" for one, draft in drafts.items()})
        self._ledger.save_messages(
            [replace(drafts[one].entry, record_id=one, contact_id=contact_id) for one, contact_id in done.items()]
        )
        if errors:
            # On no timeline nobody would see it; it is made again when it is replayed.
            self._api.archive(kind, [place_of(one).record_id for one in errors])
            self._ledger.forget_messages(drafts[one].entry.message for one in errors)
        return {drafts[one].key: error for one, error in errors.items()}

    def _create_with_readback(self, kind: str, drafts: Sequence[_Draft]) -> Parkable:
        waiting = list(drafts)
        parkable: Parkable = {}
        for _ in range(_ROUNDS):
            refused, unknown = self._create_once(kind, waiting)
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

    def _create_once(self, kind: str, drafts: Sequence[_Draft]) -> tuple[list[tuple[_Draft, Refused]], list[_Draft]]:
        """Create with intents; returns what was refused, and what nobody knows."""
        by_reference = {draft.reference: draft for draft in drafts}
        refused: list[tuple[_Draft, Refused]] = []
        unknown: list[_Draft] = []

        def save(part: Written) -> None:
            entries = [
                replace(by_reference[one].entry, record_id=Place(kind, str(record["id"])).text)
                for one, record in part.results.items()
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
                kind,
                "create",
                [_creation(draft) for draft in chunk],
                size=size,
                repeatable=False,
                recognise=_reference_digits(kind, by_reference),
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

    def _update(self, kind: str, drafts: Sequence[_Draft], rows: Mapping[str, LedgerMessage]) -> Parkable:
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
            {
                "id": place_of(draft.entry.record_id or "").record_id,
                "properties": draft.properties,
                "objectWriteTraceId": draft.reference,
            }
            for draft in drafts
        ]
        written = self._api.write_batch(
            kind, "update", inputs, size=self._settings.message_batch_size, written_so_far=save
        )
        gone = [by_reference[one] for one, refused in written.refused.items() if refused.missing]
        # Somebody deleted the activity in HubSpot; it is not made again.
        self._ledger.save_messages([replace(draft.entry, state="gone", kept=None) for draft in gone])
        self._count("messages deleted in HubSpot", len(gone))
        return {by_reference[one].key: why.error for one, why in written.refused.items() if not why.missing}


def _intent(draft: _Draft) -> LedgerMessage:
    kept = {**(draft.entry.kept or {}), "reference": draft.reference[:12], "kind": draft.kind}
    return replace(draft.entry, state="intended", kept=kept)


def _kind_of_intent(intent: LedgerMessage) -> str:
    return str((intent.kept or {}).get("kind") or COMMUNICATIONS)


def _creation(draft: _Draft) -> Input:
    to = {"id": draft.entry.contact_id}
    return {
        "properties": draft.properties,
        "associations": [{"to": to, "types": [TO_CONTACT[draft.kind]]}],
        "objectWriteTraceId": draft.reference,
    }


def _reference_digits(kind: str, by_reference: Mapping[str, _Draft]) -> Callable[[dict[str, Any]], str | None]:
    """Recognises a result that came without trace id by the reference at the end of its body."""
    short = {reference[:12]: reference for reference in by_reference}

    def recognise(record: dict[str, Any]) -> str | None:
        body = object_in(record.get("properties")).get(BODY_PROPERTIES[kind])
        return short.get(reference_in_body(body) or "")

    return recognise
