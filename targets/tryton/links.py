"""Which party a record id stands for now, and on which party a note is.

People replace and archive parties in Tryton whenever they like. Its wizard leaves the notes on the party that was
replaced (trytond-party 8.2.0, ``party.py``, observed), where nobody looks; so ours follow the party that replaces it.
A note on an archived party is written without a complaint, so parties are looked at before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mappings.errors import RejectedError
from mappings.to_tryton import resource_of
from stores.ledger import Ledger, LedgerMessage
from targets.crm_links import CrmLinks
from targets.tryton.api import NOTE, PARTY, Row, TrytonApi

_MOST_REPLACED = 50


class Links(CrmLinks):
    """Parties and notes of one Tryton database."""

    def __init__(self, api: TrytonApi, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._api = api

    def deleted(self) -> RejectedError:
        """Why a message cannot be shown: somebody archived or deleted its party."""
        return RejectedError(
            "Tryton: the person's party was archived or deleted there, so it is not made again. Activate the party (or"
            " link the person to another one) and replay this",
            code="PARTY_ARCHIVED",
        )

    def _look_up(self, record_ids: Sequence[str]) -> dict[str, str | None]:
        rows: dict[str, Row] = {}
        waiting = sorted(record_ids, key=int)
        for _ in range(_MOST_REPLACED):  # one replaced another, which replaced another
            if not waiting:
                break
            read = self._api.read_where(PARTY, "id", map(int, waiting), ["active", "replaced_by"])
            rows |= {str(row["id"]): row for row in read}
            following = {str(row["replaced_by"]) for row in read if row.get("replaced_by")}
            waiting = sorted(following - rows.keys(), key=int)
        return {record_id: _followed(record_id, rows) for record_id in record_ids}

    def move(self, messages: Sequence[LedgerMessage], party_id: str, person_id: str) -> dict[str, RejectedError]:
        """Take notes to another party; see `CrmLinks.move`."""
        note_ids = {one.record_id for one in messages if one.record_id and one.contact_id != party_id}
        refused = self._put_on(note_ids, party_id)
        gone = self._missing(refused)
        moved, errors, lost = [], {}, []
        for one in messages:
            if one.record_id in gone:
                lost.append(replace(one, state="gone", kept=None))
            elif one.record_id in refused:
                errors[one.message] = refused[one.record_id]
            else:
                moved.append(replace(one, contact_id=party_id, person_id=person_id))
        self._ledger.save_messages([*moved, *lost])
        return errors

    def _put_on(self, note_ids: Iterable[str], party_id: str) -> dict[str, RejectedError]:
        values = {"resource": resource_of(party_id)}
        return self._api.write_each(NOTE, dict.fromkeys(sorted(note_ids, key=int), values))

    def _missing(self, refused: Iterable[str]) -> set[str]:
        """Those of the notes that somebody deleted."""
        missing = set()
        for one in refused:
            try:
                self._api.call(f"model.{NOTE}.read", [int(one)], ["id"])
            except RejectedError:
                missing.add(one)
        return missing

    def _follow(self, record_id: str, survivor: str) -> None:
        """Move our notes first: until they have moved, the ledger names the old party."""
        note_ids = self._ledger.records_on_contact(record_id)
        refused = self._put_on(note_ids, survivor)
        if refused.keys() - self._missing(refused):
            raise next(iter(refused.values()))
        super()._follow(record_id, survivor)


def _followed(record_id: str, rows: dict[str, Row]) -> str | None:
    for _ in range(_MOST_REPLACED):
        row = rows.get(record_id)
        if row is None:
            return None
        if row.get("active"):
            return record_id
        if not row.get("replaced_by"):
            return None
        record_id = str(row["replaced_by"])
    return None
