"""Whose a message is, and which CRM contact is a person's, as far as the graph and the ledger know. Knows no CRM."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from mappings.records import ArchivedMessage, Handle, Person, PersonChange
from stores.graph import Graph
from stores.ledger import Ledger, LedgerContact


class CrmPeople:
    """Persons in one CRM account.

    Args:
        ledger: of the account.
        graph: who is who now: a record can be older than a merge or split.
        contact_kind: kind of the handle of a contact record, e.g. ``salesforce_contact``.
        account: its scope.
    """

    def __init__(self, ledger: Ledger, graph: Graph, contact_kind: str, account: str) -> None:
        self._ledger = ledger
        self._graph = graph
        self._contact_kind = contact_kind
        self._account = account

    def person_of(self, message: ArchivedMessage) -> str | None:
        """Who had the sender's handle when it was sent, as the graph knows it now; else whom the record names."""
        if message.handles:
            return self.person_of_handle(message.handles[0], message.person_id, message.sent_at)
        return self.current(message.person_id) if message.person_id else None

    def person_of_handle(self, handle: Handle, person_id: str | None, at: datetime | None = None) -> str | None:
        """The person of a handle (at a moment) as the graph knows it now, else the one that a record names."""
        found = self._graph.person_of(handle, at)
        return found or (self.current(person_id) if person_id else None)

    def current(self, person_id: str) -> str:
        """The person into whom this one was merged, else itself."""
        return self._graph.current(person_id)

    def seen_on(self, messages: Iterable[tuple[str, ArchivedMessage]]) -> dict[str, Person]:
        """Person id -> the person as far as messages say: (person id, message) each."""
        handles: dict[str, list[Handle]] = {}
        names: dict[str, str] = {}
        for person_id, message in messages:
            seen = handles.setdefault(person_id, [])
            seen += [handle for handle in message.handles if handle not in seen]
            if message.profile is not None and message.profile.name:
                names.setdefault(person_id, message.profile.name)
        return {one: Person(person_id=one, handles=seen, name=names.get(one)) for one, seen in handles.items()}

    def known(self, person_id: str, seen: Person) -> Person:
        """`seen` with all that the graph knows of the person."""
        handles = self._graph.handles_of(person_id)
        return seen.model_copy(
            update={"handles": handles or seen.handles, "name": self._graph.best_name(person_id) or seen.name}
        )

    def name_of(self, person_id: str) -> str | None:
        """The best name that the graph knows."""
        return self._graph.best_name(person_id)

    def as_it_holds(self, change: PersonChange) -> PersonChange | None:
        """A merge or split without what the graph has taken back since; ``None`` when nothing is left of it.

        One that was parked comes late: carried out then, it would join those who were parted meanwhile, or part those
        who were joined again.
        """
        into = change.into_person_id
        if into is None or change.change == "erase":
            return change
        others = [one for one in change.from_person_ids if one != into]
        if change.change == "merge":
            left = [one for one in others if not self._graph.handles_of(one)]
        else:
            left = [one for one in others if self._graph.current(one) != self._graph.current(into)]
        if len(left) == len(others):
            return change
        return change.model_copy(update={"from_person_ids": left}) if left else None

    def row(self, person_id: str) -> LedgerContact | None:
        """The ledger's row; a pointer to the person it was merged into is no row once the graph has split it off."""
        contact = self._ledger.contact(person_id)
        if contact is not None and contact.merged_into and self._graph.handles_of(person_id):
            self._ledger.forget_contact(person_id)
            return None
        return contact

    def contact_of(self, person_id: str) -> LedgerContact | None:
        """The contact of a person as far as the ledger knows it; that of the survivor for a merged person."""
        contact = self.row(person_id)
        while contact is not None and contact.merged_into:
            contact = self.row(contact.merged_into)
        return contact

    def records_of(self, person: Person) -> list[str]:
        """The contact records that the graph has found to be the person's, survivors of merges known to us."""
        found = [
            self._ledger.survivor(handle.value)
            for handle in person.handles
            if handle.kind == self._contact_kind and handle.scope == self._account
        ]
        return list(dict.fromkeys(found))

    def is_free(self, record_id: str, written_person_id: str, person_id: str) -> bool:
        """Whether a contact is nobody else's: what identity keeps apart is not joined on one contact.

        Args:
            record_id: of the contact.
            written_person_id: the person id that it carries, empty without one.
            person_id: who would like to have it.
        """
        if any(one.person_id != person_id for one in self._ledger.contacts_of_record(record_id)):
            return False
        owner = self._graph.current(written_person_id) if written_person_id else person_id
        # A person id that the graph does not know was written by an installation that is no more.
        return owner == person_id or not self._graph.handles_of(owner)
