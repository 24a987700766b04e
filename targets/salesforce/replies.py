"""The fate of a reply, written back on the record on which an agent queued it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mappings.errors import OneThreadError, PayloadError
from mappings.records import Receipt
from mappings.to_salesforce import MESSAGE, STATUS_RANKS, Fact, reply_facts, reply_record_id
from stores.ledger import Ledger
from targets.salesforce.answers import Refused, Row, Written
from targets.salesforce.fields import Fields
from targets.salesforce.settings import SalesforceTargetSettings

_ROW = "reply "


class Replies:
    """Replies of one org. Each is a record of its own, so its status only ever moves on."""

    def __init__(
        self, ledger: Ledger, fields: Fields, settings: SalesforceTargetSettings, count: Callable[[str, int], None]
    ) -> None:
        self._ledger = ledger
        self._fields = fields
        self._settings = settings
        self._count = count
        self._told: dict[str, tuple[Receipt, str, str]] = {}
        self._facts: dict[str, dict[str, Fact]] = {}
        self.failed: list[tuple[Receipt, OneThreadError]] = []

    def prepare(self, receipts: Iterable[Receipt]) -> None:
        """Draft what is news; of several fates of one reply the furthest."""
        self._told.clear()
        self._facts.clear()
        self.failed.clear()
        for receipt in receipts:
            if receipt.subject_kind != "reply":
                self._count("receipts of messages not used", 1)
                continue
            reply_key = receipt.reply_key or receipt.subject_key
            try:
                record_id = reply_record_id(reply_key, self._settings.org_id)
            except PayloadError as error:
                self.failed.append((receipt, error))
                continue
            if record_id is None or self._fields.message_kind != "message":
                self._count("receipts of another CRM not used", 1)
                continue
            facts = reply_facts(receipt)
            rank = STATUS_RANKS[str(facts["status"])]
            told = self._ledger.reply_status(reply_key)
            drafted = self._facts.get(_ROW + reply_key)
            furthest = max(
                STATUS_RANKS.get(told, -1) if told else -1,
                STATUS_RANKS[str(drafted["status"])] if drafted else -1,
            )
            if rank > furthest:
                self._told[_ROW + reply_key] = (receipt, reply_key, record_id)
                self._facts[_ROW + reply_key] = facts

    def rows(self) -> list[Row]:
        """The drafts as rows; each is a group of its own."""
        return [
            Row(
                key,
                MESSAGE,
                self._fields.fit("message", self._fields.map.fields("message", self._facts[key])),
                key,
                record,
            )
            for key, (_, _, record) in self._told.items()
        ]

    def save(self, written: Written) -> None:
        """Note what was told."""
        for key in written.ids:
            told = self._told.pop(key, None)
            if told is not None:
                self._ledger.save_reply_status(told[1], str(self._facts[key]["status"]))
                self._count("replies told", 1)

    def judge(self, refused: dict[str, Refused]) -> None:
        """A record that somebody deleted is told nothing more; other refusals are for the parked."""
        for key, why in refused.items():
            told = self._told.pop(key, None)
            if told is None:
                continue
            if why.missing:
                self._ledger.save_reply_status(told[1], str(self._facts[key]["status"]))
                self._count("replies on deleted records not told", 1)
            else:
                self.failed.append((told[0], why.error))
