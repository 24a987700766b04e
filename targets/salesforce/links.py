"""Which record an id stands for now: people merge and delete records in Salesforce whenever they like.

``queryAll`` shows what was merged away, with the survivor in ``MasterRecordId`` (documented: developer.salesforce.com,
SOAP API Developer Guide, merge(), and REST, QueryAll, read 2026-11), so an id that a write refused is looked up once
and replaced everywhere in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mappings.errors import RejectedError
from mappings.to_salesforce import CONTACT
from stores.ledger import Ledger
from targets.salesforce.api import SalesforceApi, in_queries

_LONGEST_CHAIN = 20


def deleted_in_salesforce() -> RejectedError:
    """Why a message cannot be shown: somebody deleted its contact."""
    return RejectedError(
        "Salesforce: the person's contact was deleted there, so it is not made again. Take it out of the recycle bin"
        " (or link the person to another contact) and replay this",
        code="CONTACT_DELETED",
    )


class Links:
    """Records of one org, alive, merged and deleted."""

    def __init__(self, api: SalesforceApi, ledger: Ledger) -> None:
        self._api = api
        self._ledger = ledger

    def survivors(self, record_ids: Iterable[str]) -> dict[str, str | None]:
        """The live contact behind each id, ``None`` when it was deleted; the ledger follows what is found."""
        wanted = sorted(set(record_ids))
        masters: dict[str, str | None] = {}
        alive: set[str] = set()
        asking = set(wanted)
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
        now = {record_id: _end_of(record_id, masters, alive) for record_id in wanted}
        for record_id, survivor in now.items():
            if survivor is None:
                for contact in self._ledger.contacts_of_record(record_id):
                    self._ledger.save_contact(replace(contact, gone=True))
            elif survivor != record_id:
                self._ledger.rename_record(record_id, survivor)
        return now

    def existing(self, kind: str, record_ids: Iterable[str]) -> set[str]:
        """Those records of an object that are there."""
        queries = in_queries(kind, ("Id",), "Id", sorted(set(record_ids)))
        return {str(one["Id"]) for records in self._api.query_together(queries) for one in records}


def _end_of(record_id: str, masters: dict[str, str | None], alive: set[str]) -> str | None:
    seen: set[str] = set()
    current: str | None = record_id
    while current is not None and current not in alive and current not in seen:
        seen.add(current)
        current = masters.get(current)
    return current if current in alive else None
