"""Merges, splits and erasures of persons, carried out on parties.

Notes move from one party to the other, and a split moves them back. Replacing parties by Tryton's own wizard cannot be
undone there, so it is off by default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mappings.records import Handle
from mappings.to_tryton import resource_of
from stores.ledger import Ledger, LedgerContact
from targets.crm_moves import CrmMoves
from targets.tryton.api import ATTACHMENT, NOTE, PARTY, TrytonApi
from targets.tryton.links import Links
from targets.tryton.notes import Notes
from targets.tryton.parties import Parties
from targets.tryton.settings import TrytonTargetSettings


class Moves(CrmMoves):
    """Changes of persons in one Tryton database. Called under the account's create-lock."""

    receipt = ("messages", "parties erased", "parties cleared")

    def __init__(
        self,
        api: TrytonApi,
        ledger: Ledger,
        links: Links,
        parties: Parties,
        notes: Notes,
        settings: TrytonTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        super().__init__(ledger, links, parties, notes, count)
        self._api = api
        self._settings = settings

    def _leave(self, source: LedgerContact, into: str) -> None:
        target = self._contacts.of(into)
        if target is not None and target.record_id == source.record_id:
            return
        alone = source.record_id is not None and len(self._ledger.contacts_of_record(source.record_id)) == 1
        if self._settings.crm_merge and source.projection and alone and target is not None and not target.gone:
            self._replace(source.record_id or "", target.record_id or "")
        else:
            self._contacts.leave(source)

    def _replace(self, source_id: str, target_id: str) -> None:
        """Replace one party by another, with all that Tryton's wizard leaves behind: notes and files of people too."""
        for model in (NOTE, ATTACHMENT):
            rows = self._api.search_read(model, [["resource", "=", resource_of(source_id)]], ["id"])
            self._api.write_all(model, [str(row["id"]) for row in rows], {"resource": resource_of(target_id)})
        party = next(iter(self._api.read_where(PARTY, "id", [int(source_id)], ["active", "replaced_by"])), None)
        if party is None or party.get("replaced_by"):
            return
        ask = {"source": int(source_id), "destination": int(target_id)}
        self._api.run_wizard("party.replace", source_id, {"ask": ask}, "replace")
        self._count("parties replaced", 1)

    def _contact_of(self, person_id: str, handles: Sequence[Handle]) -> str:
        record_id = super()._contact_of(person_id, handles)
        # Tryton takes a note on an archived party without a word, so the party is looked at first.
        party_id = self._links.survivors([record_id])[record_id]
        if party_id is None:
            raise self._links.deleted()
        return party_id
