"""Merges, splits and erasures of persons, carried out on parties.

Notes move from one party to the other, and a split moves them back. Replacing parties by Tryton's own wizard cannot be
undone there, so it is off by default. Each change is carried out once; the ledger remembers its sequence.
"""

from __future__ import annotations

from collections.abc import Callable

from mappings.errors import MissingFieldError, OneThreadError, RejectedError
from mappings.records import PersonChange
from mappings.to_tryton import resource_of
from stores.ledger import Ledger, LedgerContact
from targets.tryton.api import ATTACHMENT, NOTE, PARTY, TrytonApi
from targets.tryton.links import Links, archived_in_tryton
from targets.tryton.notes import Notes
from targets.tryton.parties import Parties
from targets.tryton.settings import TrytonTargetSettings


class Moves:
    """Changes of persons in one Tryton database. Called under the account's create-lock."""

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
        self._api = api
        self._ledger = ledger
        self._links = links
        self._parties = parties
        self._notes = notes
        self._settings = settings
        self._count = count

    def carry_out(self, change: PersonChange) -> None:
        """Carry out one change, unless it was before.

        Raises:
            OneThreadError: it could not be carried out whole; what was moved stays moved, and again is harmless.
        """
        if self._ledger.carried_out(change.sequence):
            return
        self._notes.settle()
        counts: dict[str, int] = {}
        if change.change == "merge":
            self._merge(change)
        elif change.change == "split":
            self._split(change)
        else:
            counts = self._erase(change)
        self._ledger.mark_carried_out(change.sequence, counts)
        self._count(f"persons {change.change} carried out", 1)

    def _erase(self, change: PersonChange) -> dict[str, int]:
        """What we wrote goes; a party that we made goes with all that is on it. One of people's is theirs to erase.

        What was removed is the receipt of the erasure; see `targets.base`.
        """
        counts = {"messages": 0, "parties erased": 0, "parties cleared": 0}
        for person_id in change.from_person_ids:
            messages = self._ledger.messages_of_person(person_id)
            self._notes.erase(messages)
            counts["messages"] += len(messages)
            contact = self._ledger.contact(person_id)
            if contact is None:
                continue
            if contact.record_id is not None:
                alone = len(self._ledger.contacts_of_record(contact.record_id)) == 1
                if contact.projection and alone:
                    counts["parties erased"] += self._parties.erase(contact.record_id)
                elif self._parties.clear(contact):
                    counts["parties cleared"] += 1
                self._ledger.forget_record(contact.record_id)
            self._ledger.forget_contact(person_id)
        return counts

    def _merge(self, change: PersonChange) -> None:
        into = _into(change)
        for person_id in change.from_person_ids:
            if person_id == into:
                continue
            messages = self._ledger.messages_of_person(person_id)
            source = self._ledger.contact(person_id)
            if messages:
                contact = self._party_of(into, change)
                errors = self._notes.move(messages, contact.record_id or "", into)
                if errors:
                    raise next(iter(errors.values()))
                source = self._ledger.contact(person_id)
            if source is not None and source.merged_into is None:
                self._leave(source, self._parties.of(into))
            if source is not None or messages:
                self._ledger.save_contact(LedgerContact(person_id, None, merged_into=into))

    def _leave(self, source: LedgerContact, target: LedgerContact | None) -> None:
        """What becomes of the party whose notes have moved."""
        if target is not None and target.record_id == source.record_id:
            return
        alone = source.record_id is not None and len(self._ledger.contacts_of_record(source.record_id)) == 1
        if self._settings.crm_merge and source.projection and alone and target is not None and not target.gone:
            self._replace(source.record_id or "", target.record_id or "")
        else:
            self._parties.retire(source)

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

    def _split(self, change: PersonChange) -> None:
        into = _into(change)
        pointer = self._ledger.contact(into)
        if pointer is not None and pointer.merged_into:
            self._ledger.forget_contact(into)
        messages = [
            message
            for person_id in change.from_person_ids
            if person_id != into
            for message in self._ledger.messages_of_person(
                person_id, handles=change.handles, conversation_keys=change.conversation_keys, spans=change.spans
            )
        ]
        if messages:
            contact = self._party_of(into, change)
            errors = self._notes.move(messages, contact.record_id or "", into)
            if errors:
                raise next(iter(errors.values()))

    def _party_of(self, person_id: str, change: PersonChange) -> LedgerContact:
        refused: dict[str, OneThreadError] = self._parties.ensure({person_id: change.handles}, {})
        contact = self._parties.of(person_id)
        if contact is None or contact.record_id is None:
            raise refused.get(person_id) or RejectedError("Tryton: no party can be had for the person")
        if self._links.survivors([contact.record_id])[contact.record_id] is None:
            raise archived_in_tryton()
        return self._parties.of(person_id) or contact


def _into(change: PersonChange) -> str:
    if change.into_person_id is None:
        msg = f"person change {change.sequence}: a {change.change} without into_person_id"
        raise MissingFieldError(msg)
    return change.into_person_id
