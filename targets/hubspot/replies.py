"""The fate of a reply, written back where an agent wrote it: on the contact, or as the status of an inbox message.

The contact has one set of reply properties; an agent may have queued the next reply already. So the history of the
status is read first, and only the reply that was queued last is told about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mappings.errors import PayloadError, RejectedError
from mappings.from_hubspot import CRM, queued_versions
from mappings.ids import parse_reply_key
from mappings.records import Receipt
from mappings.to_hubspot import (
    INBOX_RANKS,
    REPLY_RANKS,
    REPLY_STATUS,
    datetime_text,
    inbox_of_reply,
    inbox_status,
    reply_properties,
)
from stores.ledger import Ledger
from targets.crm_replies import Fate, Untold, furthest_fates
from targets.hubspot.answers import object_in
from targets.hubspot.api import CONTACTS, HubSpotApi
from targets.hubspot.inbox import Inbox
from targets.hubspot.places import INBOX, Place
from targets.hubspot.settings import HubSpotTargetSettings


@dataclass(frozen=True, slots=True)
class _Fate(Fate):
    record_id: str
    moment: str
    properties: dict[str, str]


@dataclass(frozen=True, slots=True)
class _InboxFate(Fate):
    place: Place
    told: dict[str, str]


class Replies:
    """Reply properties of one HubSpot account."""

    def __init__(
        self,
        api: HubSpotApi,
        ledger: Ledger,
        inbox: Inbox,
        settings: HubSpotTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._inbox = inbox
        self._settings = settings
        self._count = count

    def write(self, receipts: Iterable[Receipt]) -> Untold:
        """Tell the contacts and the inbox; returns what could not be told.

        Repeats: harmless; a status never moves back.
        """
        fates, failed = furthest_fates(receipts, self._fate, self._count)
        on_contacts = [one for one in fates if isinstance(one, _Fate)]
        in_inbox = [one for one in fates if isinstance(one, _InboxFate)]
        return failed + self._tell_inbox(in_inbox) + self._tell(on_contacts)

    def _tell_inbox(self, fates: list[_InboxFate]) -> Untold:
        """One call for each message."""
        errors = [(one.receipt, self._inbox.tell(one.place, one.told)) for one in fates]
        return [(receipt, error) for receipt, error in errors if error is not None]

    def _fate(self, receipt: Receipt) -> _Fate | _InboxFate | None:
        reply_key = receipt.reply_key or receipt.subject_key
        if (found := inbox_of_reply(reply_key, self._settings.portal_id)) is not None:
            status = inbox_status(receipt)
            place = Place(INBOX, found[1], found[0])
            return _InboxFate(receipt, reply_key, INBOX_RANKS[status["statusType"]], place, status) if status else None
        crm, account, record_id, moment = parse_reply_key(reply_key)
        if (crm, account) != (CRM, self._settings.portal_id):
            self._count("receipts of another CRM not used", 1)
            return None
        properties = reply_properties(receipt)
        rank = REPLY_RANKS[properties[REPLY_STATUS]]
        fate = _Fate(receipt, reply_key, rank, record_id, moment, properties)
        told = self._ledger.note(reply_key)
        return fate if told is None or REPLY_RANKS[told] < rank else None

    def _tell(self, fates: list[_Fate]) -> Untold:
        records = self._records({self._ledger.survivor(fate.record_id) for fate in fates})
        inputs: dict[str, dict[str, Any]] = {}
        told: dict[str, _Fate] = {}
        failed: Untold = []
        for fate in fates:
            record = records.get(self._ledger.survivor(fate.record_id))
            if record is None:
                self._count("replies on deleted contacts not told", 1)
                continue
            try:
                queued = [datetime_text(version.at) for version in queued_versions(record)]
            except PayloadError as error:
                failed.append((fate.receipt, error))
                continue
            now = object_in(record.get("properties")).get(REPLY_STATUS)
            record_id = str(record["id"])
            if not queued or queued[-1] != fate.moment:
                self._count("replies overtaken by a newer one", 1)
            elif REPLY_RANKS.get(str(now), 0) < fate.rank:
                inputs[record_id] = {"id": record_id, "properties": fate.properties, "objectWriteTraceId": record_id}
                told[record_id] = fate
                continue
            self._ledger.save_note(fate.reply_key, fate.properties[REPLY_STATUS])
        written = self._api.write_batch(
            CONTACTS, "update", list(inputs.values()), size=self._settings.contact_batch_size
        )
        for record_id in written.results:
            self._ledger.save_note(told[record_id].reply_key, told[record_id].properties[REPLY_STATUS])
        self._count("replies told", len(written.results))
        refused: list[tuple[str, RejectedError]] = [(one, why.error) for one, why in written.refused.items()]
        return failed + [(told[record_id].receipt, error) for record_id, error in refused]

    def _records(self, record_ids: set[str]) -> dict[str, dict[str, Any]]:
        """The contacts with the history of their reply status, by the id that was asked for."""
        found = {
            str(one["id"]): one
            for one in self._api.read_batch(
                CONTACTS, sorted(record_ids), [REPLY_STATUS, "hs_merged_object_ids"], history=[REPLY_STATUS]
            )
        }
        for record in list(found.values()):
            merged = object_in(record.get("properties")).get("hs_merged_object_ids") or ""
            found |= {old.strip(): record for old in str(merged).split(";") if old.strip() in record_ids}
        for record_id in record_ids - found.keys():
            record = self._api.fetch(CONTACTS, record_id, [REPLY_STATUS], history=[REPLY_STATUS]) or {}
            if record:
                found[record_id] = record
        return found
