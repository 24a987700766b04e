"""Messages as communications or notes on contacts' timelines, or in the inbox: which where, changed and erased there.

How a new one is made once, whatever happens on the way, is in `activities.py`; the inbox in `inbox.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mappings.records import ArchivedMessage
from mappings.to_hubspot import (
    BODY_PROPERTIES,
    NOTE,
    activity_properties,
    communication_reference,
    day_properties,
)
from stores.ledger import Ledger, LedgerMessage
from targets.crm_messages import Addressed, CrmMessages, Parkable
from targets.crm_people import CrmPeople
from targets.hubspot.activities import Activities, Draft
from targets.hubspot.answers import Input, Written
from targets.hubspot.api import ACTIVITY_KINDS, COMMUNICATIONS, NOTES, HubSpotApi
from targets.hubspot.contacts import Contacts
from targets.hubspot.days import Day, note_days, with_days
from targets.hubspot.files import Files
from targets.hubspot.inbox import Inbox
from targets.hubspot.links import Links
from targets.hubspot.places import INBOX, place_of
from targets.hubspot.settings import HubSpotTargetSettings

ERASED_BODY = "erased"
"""What stands in an archived activity in the place of an erased person's words."""


class Timeline(CrmMessages):
    """The timelines of one HubSpot account. Called under the account's create-lock."""

    def __init__(
        self,
        api: HubSpotApi,
        ledger: Ledger,
        links: Links,
        people: CrmPeople,
        contacts: Contacts,
        inbox: Inbox,
        files: Files,
        settings: HubSpotTargetSettings,
        count: Callable[[str, int], None],
        *,
        modes: Mapping[str, str],
    ) -> None:
        super().__init__(ledger, links, people, contacts, count)
        self._api = api
        self._settings = settings
        self._inbox = inbox
        self._files = files
        self._activities = Activities(api, ledger, links, settings, count, modes=modes)

    def write(self, messages: Iterable[ArchivedMessage], *, keep: bool = False) -> Parkable:
        """Put messages on their persons' timelines, or change them there.

        Args:
            messages: the last of several with one key counts.
            keep: keep the messages in the ledger, encrypted, so that they can be written again with their changes.

        Repeats: what has not changed costs no call.
        """
        self.settle()
        roll_up = self._settings.roll_up
        whose, elsewhere = self._people.person_of, self._inbox.has_or_takes
        rolled = with_days(messages, self._ledger, roll_up=roll_up, whose=whose, elsewhere=elsewhere)
        for state, number in rolled.lost.items():
            self._count(f"messages {state} before", number)
        latest = {self._ledger.fingerprint(one.message_key): one for one in rolled.found}
        rows = {mark: row for mark, row in self._ledger.messages(latest).items() if row.state != "intended"}
        addressed, parkable = self._addressed(latest, rows)
        drafts = [self._draft(one, keep=keep) for one in addressed]
        parkable |= self._write_drafts(drafts, rows)
        self._files.settle()
        whole_days = [one for one in rolled.found if isinstance(one, Day)]
        if missed := note_days(whole_days, self._ledger):
            parkable |= self.write(missed, keep=keep)
        days = {one.message_key: one.brought for one in whole_days}
        return {key: error for whole, error in parkable.items() for key in days.get(whole, [whole])}

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
        self._files.erase(messages)
        self._ledger.erase_messages(messages)
        self._files.settle()
        self._count("messages erased", len(messages))

    def settle(self) -> None:
        """Find out what came of creations without an answer, from a run that died too."""
        self._activities.settle()

    # Who, where and what

    def _draft(self, one: Addressed, *, keep: bool) -> Draft:
        message, row = one.message, one.row
        kept: dict[str, Any] | None = None
        if keep and not isinstance(message, Day):
            kept, message = self._kept_and_folded(message)
        channel_type = self._settings.channel_type(message.channel)
        kind = NOTES if channel_type == NOTE else COMMUNICATIONS
        if row is not None and row.record_id:
            kind = place_of(row.record_id).kind
        elif (place := self._inbox.place_of_reply(message)) is not None or self._inbox.takes(message):
            kind = INBOX
            row = None if place is None else LedgerMessage("", "written", record_id=place.text)
        else:
            kind = self._files.activity_kind(message, kind)
        properties = self._properties(message, kind, "SMS" if channel_type == NOTE else channel_type)
        if isinstance(message, Day):
            kept = {"parts": [part.model_dump(mode="json") for part in message.parts]}
        entry = self._ledger.entry_for(
            message,
            "written",
            record_id=row.record_id if row else None,
            contact_id=one.contact_id,
            person_id=one.person_id,
            content_hash=self._ledger.content_hash(properties),
            kept=kept,
        )
        return Draft(message, communication_reference(message.message_key), entry, properties, kind)

    def _properties(self, message: ArchivedMessage, kind: str, channel_type: str) -> dict[str, str]:
        """What is written, and (in the inbox) by what a change is noticed."""
        most, link_of = self._settings.max_body_characters, self._files.link
        if kind == INBOX:
            shown = activity_properties(message, channel_type=channel_type, max_characters=most, link_of=link_of)
            return {"status": message.status or "", **shown}
        files = self._files.properties(message, kind)
        if isinstance(message, Day):
            parts, key = message.parts, message.message_key
            return files | day_properties(
                parts, key, kind, channel_type=channel_type, max_characters=most, link_of=link_of
            )
        owners = self._settings.owner_ids
        return files | activity_properties(
            message, kind, channel_type=channel_type, owner_ids=owners, max_characters=most, link_of=link_of
        )

    # Writing

    def _write_drafts(self, drafts: Sequence[Draft], rows: Mapping[str, LedgerMessage]) -> Parkable:
        new = [draft for draft in drafts if draft.entry.message not in rows]
        parkable: Parkable = {}
        for kind in ACTIVITY_KINDS:
            mine = [draft for draft in new if draft.kind == kind]
            parkable |= self._activities.create(kind, mine)
        parkable |= self._publish([draft for draft in new if draft.kind == INBOX])
        old = [(draft, rows[draft.entry.message]) for draft in drafts if draft.entry.message in rows]
        changed = [draft for draft, row in old if row.content_hash != draft.entry.content_hash]
        for kind in ACTIVITY_KINDS:
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

    def _publish(self, drafts: Sequence[Draft]) -> Parkable:
        for draft in drafts:
            if draft.entry.record_id is not None:
                self._inbox.adopt(draft.message, draft.entry, place_of(draft.entry.record_id))
        return self._inbox.publish([(one.message, one.entry) for one in drafts if one.entry.record_id is None])

    def _update(self, kind: str, drafts: Sequence[Draft], rows: Mapping[str, LedgerMessage]) -> Parkable:
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
        # Somebody deleted the activity in HubSpot; it is not made again, and nothing shows its files any more.
        for draft in gone:
            self._files.withdraw(draft.message)
        self._ledger.save_messages([replace(draft.entry, state="gone", kept=None) for draft in gone])
        self._count("messages deleted in HubSpot", len(gone))
        return {by_reference[one].key: why.error for one, why in written.refused.items() if not why.missing}
