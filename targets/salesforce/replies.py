"""The fate of a reply, written back on the record on which an agent queued it.

An agent who answers on a conversation names neither contact nor channel; where both are known and still empty they are
filled in, so that a reply that was never sent is found on its contact too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mappings.crm_words import channel_name
from mappings.records import Receipt
from mappings.to_salesforce import MESSAGE, STATUS_RANKS, Fact, reply_facts, reply_record_id
from stores.ledger import Ledger
from targets.crm_replies import Fate, Untold, furthest_fates
from targets.salesforce.answers import Refused, Row, Written
from targets.salesforce.api import SalesforceApi, in_queries
from targets.salesforce.fields import Fields
from targets.salesforce.settings import SalesforceTargetSettings

_ROW = "reply "


@dataclass(frozen=True, slots=True)
class _Fate(Fate):
    record_id: str
    facts: dict[str, Fact]


class Replies:
    """Replies of one org. Each is a record of its own, so its status only ever moves on."""

    def __init__(
        self,
        api: SalesforceApi,
        ledger: Ledger,
        fields: Fields,
        settings: SalesforceTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._fields = fields
        self._settings = settings
        self._count = count
        self._drafts: dict[str, _Fate] = {}
        self.failed: Untold = []

    def prepare(self, receipts: Iterable[Receipt]) -> None:
        """Draft what is news; of several fates of one reply the furthest."""
        fates, self.failed = furthest_fates(receipts, self._fate, self._count)
        self._drafts = {_ROW + one.reply_key: one for one in fates}
        if fates:
            self._fill_in(fates)

    def _fate(self, receipt: Receipt) -> _Fate | None:
        reply_key = receipt.reply_key or receipt.subject_key
        record_id = reply_record_id(reply_key, self._settings.org_id)
        if record_id is None or self._fields.message_kind != "message":
            self._count("receipts of another CRM not used", 1)
            return None
        facts = reply_facts(receipt)
        rank = STATUS_RANKS[str(facts["status"])]
        told = self._ledger.note(reply_key)
        is_news = told is None or STATUS_RANKS.get(told, -1) < rank
        return _Fate(receipt, reply_key, rank, record_id, facts) if is_news else None

    def _fill_in(self, fates: list[_Fate]) -> None:
        """What an agent left empty and we know: the conversation's contact, and the channel once one was tried."""
        contact, channel = self._fields.field("message", "contact"), self._fields.map.find("message", "channel")
        thread = self._fields.relationship("message", "conversation")
        of_thread = self._fields.field("conversation", "contact")
        columns = ["Id", contact, f"{thread}.{of_thread}", *([channel] if channel else [])]
        self._fields.check()
        queries = in_queries(MESSAGE, columns, "Id", [one.record_id for one in fates])
        now = {str(one["Id"]): one for records in self._api.query_together(queries) for one in records}
        for fate in fates:
            record: dict[str, Any] | None = now.get(fate.record_id)
            if record is None:  # deleted: its row is refused
                continue
            if not record.get(contact) and (known := (record.get(thread) or {}).get(of_thread)):
                fate.facts["contact"] = str(known)
            tried = fate.receipt.status != "queued" and fate.receipt.channel != "auto"
            if tried and channel and not record.get(channel):
                fate.facts["channel"] = channel_name(fate.receipt.channel)

    def rows(self) -> list[Row]:
        """The drafts as rows; each is a group of its own."""
        return [
            Row(key, MESSAGE, self._fields.fit("message", self._values(fate)), key, fate.record_id)
            for key, fate in self._drafts.items()
        ]

    def _values(self, fate: _Fate) -> dict[str, Fact]:
        return self._fields.map.fields("message", fate.facts)

    def save(self, written: Written) -> None:
        """Note what was told."""
        for key in written.ids:
            if (fate := self._drafts.pop(key, None)) is not None:
                self._ledger.save_note(fate.reply_key, str(fate.facts["status"]))
                self._count("replies told", 1)

    def judge(self, refused: dict[str, Refused]) -> None:
        """A record that somebody deleted is told nothing more; other refusals are for the parked."""
        for key, why in refused.items():
            if (fate := self._drafts.pop(key, None)) is None:
                continue
            if why.missing:
                self._ledger.save_note(fate.reply_key, str(fate.facts["status"]))
                self._count("replies on deleted records not told", 1)
            else:
                self.failed.append((fate.receipt, why.error))
