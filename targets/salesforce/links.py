"""Which record an id stands for now: people merge and delete records in Salesforce whenever they like.

``queryAll`` shows what was merged away, with the survivor in ``MasterRecordId`` (documented: developer.salesforce.com,
SOAP API Developer Guide, merge(), and REST, QueryAll, read 2026-11), so an id that a write refused is looked up once
and replaced everywhere in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mappings.errors import OneThreadError, RejectedError
from mappings.to_salesforce import CONTACT
from stores.ledger import Ledger, LedgerMessage
from targets.crm_links import CrmLinks
from targets.salesforce.answers import Row, Written
from targets.salesforce.api import SalesforceApi, in_queries
from targets.salesforce.fields import OBJECTS, Fields

_LONGEST_CHAIN = 20


class Links(CrmLinks):
    """Records of one org, alive, merged and deleted, and on which contact they are."""

    def __init__(self, api: SalesforceApi, ledger: Ledger, fields: Fields) -> None:
        super().__init__(ledger)
        self._api = api
        self._fields = fields

    def deleted(self) -> RejectedError:
        """Why a message cannot be shown: somebody deleted its contact."""
        return RejectedError(
            "Salesforce: the person's contact was deleted there, so it is not made again. Take it out of the recycle"
            " bin (or link the person to another contact) and replay this",
            code="CONTACT_DELETED",
        )

    def _look_up(self, record_ids: Sequence[str]) -> dict[str, str | None]:
        masters: dict[str, str | None] = {}
        alive: set[str] = set()
        asking = set(record_ids)
        for _ in range(_LONGEST_CHAIN):
            if not asking:
                break
            queries = in_queries(CONTACT, ("Id", "IsDeleted", "MasterRecordId"), "Id", sorted(asking))
            for records in self._api.query_together(queries, deleted=True):
                for one in records:
                    masters[str(one["Id"])] = one.get("MasterRecordId")
                    if not one.get("IsDeleted"):
                        alive.add(str(one["Id"]))
            asking = {master for master in masters.values() if master and master not in masters}
        return {record_id: _end_of(record_id, masters, alive) for record_id in record_ids}

    def existing(self, kind: str, record_ids: Iterable[str]) -> set[str]:
        """Those records of an object that are there."""
        queries = in_queries(kind, ("Id",), "Id", sorted(set(record_ids)))
        return {str(one["Id"]) for records in self._api.query_together(queries) for one in records}

    def move(self, messages: Sequence[LedgerMessage], contact_id: str, person_id: str) -> dict[str, OneThreadError]:
        """Take records to another contact; see `CrmLinks.move`."""
        waiting = {one.message: one for one in messages if one.record_id and one.contact_id != contact_id}
        rows = [
            Row(mark, OBJECTS[kind], {self._fields.field(kind, "contact"): contact_id}, person_id, one.record_id)
            for mark, one in waiting.items()
            if (kind := self._kind_of(one))
        ]
        written = self._api.write(rows) if rows else Written()
        moved = [replace(waiting[mark], contact_id=contact_id, person_id=person_id) for mark in written.ids]
        stayed = [replace(one, person_id=person_id) for one in messages if one.message not in waiting]
        self._ledger.save_messages([*moved, *stayed])
        missing = {mark for mark, why in written.refused.items() if why.missing}
        there: set[str] = set()
        for kind in {self._kind_of(waiting[mark]) for mark in missing}:
            ids = {waiting[mark].record_id or "" for mark in missing if self._kind_of(waiting[mark]) == kind}
            there |= self.existing(OBJECTS[kind], ids)
        deleted = {mark for mark in missing if waiting[mark].record_id not in there}
        self._ledger.save_messages([replace(waiting[mark], state="gone") for mark in deleted])
        left = {mark: why for mark, why in written.refused.items() if mark not in deleted}
        contact_missing = any(why.missing for why in left.values())
        if contact_missing and self.survivors([contact_id])[contact_id] is None:
            return dict.fromkeys(left, self.deleted())
        return {mark: why.error for mark, why in left.items()}

    def still_on(self, contact_id: str) -> dict[str, str]:
        """Our records on a contact as the org has them: record id -> ``conversation`` or what a message is."""
        kinds = ("conversation", "message") if self._fields.message_kind == "message" else ("task",)
        found: dict[str, str] = {}
        for kind in kinds:
            by = self._fields.field(kind, "contact")
            for part in self._api.query_together(in_queries(OBJECTS[kind], ("Id",), by, [contact_id])):
                found |= {str(one["Id"]): kind for one in part}
        return found

    def repoint(self, records: Mapping[str, str], contact_id: str) -> None:
        """Point records (record id -> kind) at another contact."""
        rows = [
            Row(one, OBJECTS[kind], {self._fields.field(kind, "contact"): contact_id}, contact_id, one)
            for one, kind in records.items()
        ]
        written = self._api.write(rows)
        if written.refused:
            raise next(iter(written.refused.values())).error

    def _kind_of(self, entry: LedgerMessage) -> str:
        """What a record of the ledger is."""
        if entry.kept and entry.kept.get("object") == "conversation":
            return "conversation"
        return self._fields.message_kind


def _end_of(record_id: str, masters: dict[str, str | None], alive: set[str]) -> str | None:
    seen: set[str] = set()
    current: str | None = record_id
    while current is not None and current not in alive and current not in seen:
        seen.add(current)
        current = masters.get(current)
    return current if current in alive else None
