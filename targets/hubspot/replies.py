"""The fate of a reply, written back where an agent wrote it: on the contact, or as the status of an inbox message.

The contact has one set of reply properties; an agent may have queued the next reply already. So the history of the
status is read first, and only the reply that was queued last is told about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mappings.errors import OneThreadError, PayloadError, RejectedError
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
from targets.hubspot.answers import object_in
from targets.hubspot.api import CONTACTS, HubSpotApi
from targets.hubspot.inbox import Inbox
from targets.hubspot.places import INBOX, Place
from targets.hubspot.settings import HubSpotTargetSettings


@dataclass(frozen=True, slots=True)
class _Fate:
    receipt: Receipt
    reply_key: str
    record_id: str
    moment: str
    properties: dict[str, str]

    @property
    def rank(self) -> int:
        return REPLY_RANKS[self.properties[REPLY_STATUS]]


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

    def write(self, receipts: Iterable[Receipt]) -> list[tuple[Receipt, OneThreadError]]:
        """Tell the contacts; returns what could not be told.

        Repeats: harmless; a status never moves back.
        """
        failed: list[tuple[Receipt, OneThreadError]] = []
        furthest: dict[str, _Fate] = {}
        inbox: list[tuple[Receipt, Place]] = []
        for receipt in receipts:
            if receipt.subject_kind != "reply":
                self._count("receipts of messages not used", 1)
                continue
            try:
                if (place := self._place(receipt)) is not None:
                    inbox.append((receipt, place))
                    continue
                fate = self._fate(receipt)
            except PayloadError as error:
                failed.append((receipt, error))
                continue
            if fate is not None:
                before = furthest.get(fate.reply_key)
                furthest[fate.reply_key] = fate if before is None or fate.rank > before.rank else before
        return failed + self._tell_inbox(inbox) + self._tell(list(furthest.values()))

    def _place(self, receipt: Receipt) -> Place | None:
        """The inbox message of a reply that was written in the inbox."""
        found = inbox_of_reply(receipt.reply_key or receipt.subject_key, self._settings.portal_id)
        return Place(INBOX, found[1], found[0]) if found else None

    def _tell_inbox(self, receipts: list[tuple[Receipt, Place]]) -> list[tuple[Receipt, OneThreadError]]:
        """One call for the furthest status of each message."""
        failed: list[tuple[Receipt, OneThreadError]] = []
        furthest: dict[Place, tuple[Receipt, dict[str, str]]] = {}
        for receipt, place in receipts:
            told = inbox_status(receipt)
            before = furthest.get(place)
            if told and (before is None or INBOX_RANKS[told["statusType"]] > INBOX_RANKS[before[1]["statusType"]]):
                furthest[place] = receipt, told
        for place, (receipt, told) in furthest.items():
            error = self._inbox.tell(place, told)
            if error is not None:
                failed.append((receipt, error))
        return failed

    def _fate(self, receipt: Receipt) -> _Fate | None:
        reply_key = receipt.reply_key or receipt.subject_key
        crm, account, record_id, moment = parse_reply_key(reply_key)
        if (crm, account) != (CRM, self._settings.portal_id):
            self._count("receipts of another CRM not used", 1)
            return None
        fate = _Fate(receipt, reply_key, record_id, moment, reply_properties(receipt))
        told = self._ledger.reply_status(reply_key)
        return fate if told is None or REPLY_RANKS[told] < fate.rank else None

    def _tell(self, fates: list[_Fate]) -> list[tuple[Receipt, OneThreadError]]:
        records = self._records({self._ledger.survivor(fate.record_id) for fate in fates})
        inputs: dict[str, dict[str, Any]] = {}
        told: dict[str, _Fate] = {}
        failed: list[tuple[Receipt, OneThreadError]] = []
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
            self._ledger.save_reply_status(fate.reply_key, fate.properties[REPLY_STATUS])
        written = self._api.write_batch(
            CONTACTS, "update", list(inputs.values()), size=self._settings.contact_batch_size
        )
        for record_id in written.results:
            self._ledger.save_reply_status(told[record_id].reply_key, told[record_id].properties[REPLY_STATUS])
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
