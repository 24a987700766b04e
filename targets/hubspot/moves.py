"""Merges, splits and erasures of persons, carried out on contacts' timelines.

Contacts are not merged in HubSpot: that cannot be undone there. Messages move from one contact's timeline to the
other's, and a split moves them back. Each change is carried out once; the ledger remembers its sequence.
"""

from __future__ import annotations

from collections.abc import Callable

from mappings.errors import MissingFieldError, OneThreadError, RejectedError
from mappings.records import PersonChange
from stores.ledger import Ledger, LedgerContact
from targets.hubspot.api import HubSpotApi
from targets.hubspot.contacts import Contacts
from targets.hubspot.links import Links, deleted_in_hubspot
from targets.hubspot.timeline import Timeline


class Moves:
    """Changes of persons in one HubSpot account. Called under the account's create-lock."""

    def __init__(
        self,
        api: HubSpotApi,
        ledger: Ledger,
        links: Links,
        contacts: Contacts,
        timeline: Timeline,
        count: Callable[[str, int], None],
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._links = links
        self._contacts = contacts
        self._timeline = timeline
        self._count = count

    def carry_out(self, change: PersonChange) -> None:
        """Carry out one change, unless it was before.

        Raises:
            OneThreadError: it could not be carried out whole; what was moved stays moved, and again is harmless.
        """
        if self._ledger.carried_out(change.sequence):
            return
        self._timeline.settle()
        counts: dict[str, int] | None = None
        if change.change == "merge":
            self._merge(change)
        elif change.change == "split":
            self._split(change)
        else:
            counts = self._erase(change)
        self._ledger.mark_carried_out(change.sequence, counts)
        self._count(f"persons {change.change} carried out", 1)

    def _merge(self, change: PersonChange) -> None:
        into = _into(change)
        for person_id in change.from_person_ids:
            if person_id == into:
                continue
            messages = self._ledger.messages_of_person(person_id)
            source = self._ledger.contact(person_id)
            if messages:
                contact = self._contact_of(into, change)
                errors = self._links.move(messages, contact.record_id or "", into)
                if errors:
                    raise next(iter(errors.values()))
                source = self._ledger.contact(person_id)
            if source is not None and source.merged_into is None:
                self._contacts.carry_consents(source, into)
                target = self._ledger.contact(into)
                if target is None or target.record_id != source.record_id:
                    self._contacts.retire(source)
            if source is not None or messages:
                self._ledger.save_contact(LedgerContact(person_id, None, merged_into=into))

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
            contact = self._contact_of(into, change)
            errors = self._links.move(messages, contact.record_id or "", into)
            if errors:
                raise next(iter(errors.values()))

    def _erase(self, change: PersonChange) -> dict[str, int]:
        """What we wrote goes; a contact that we made goes for good. One that people made is theirs to delete.

        What was removed is the receipt of the erasure; see `targets.base`.
        """
        counts = {"messages": 0, "contacts deleted": 0, "contacts cleared": 0}
        for person_id in change.from_person_ids:
            messages = self._ledger.messages_of_person(person_id)
            self._timeline.erase(messages)
            counts["messages"] += len(messages)
            contact = self._ledger.contact(person_id)
            if contact is None:
                continue
            if contact.record_id is not None:
                alone = len(self._ledger.contacts_of_record(contact.record_id)) == 1
                if contact.projection and alone:
                    self._api.purge_contact(contact.record_id)
                    counts["contacts deleted"] += 1
                elif self._contacts.clear(contact):
                    counts["contacts cleared"] += 1
                self._ledger.forget_record(contact.record_id)
            self._ledger.forget_contact(person_id)
        return counts

    def _contact_of(self, person_id: str, change: PersonChange) -> LedgerContact:
        refused: dict[str, OneThreadError] = self._contacts.ensure({person_id: change.handles}, {})
        contact = self._contacts.of(person_id)
        if contact is None or contact.record_id is None:
            raise refused.get(person_id) or RejectedError("HubSpot: no contact can be had for the person")
        if contact.gone:
            raise deleted_in_hubspot()
        return contact


def _into(change: PersonChange) -> str:
    if change.into_person_id is None:
        msg = f"person change {change.sequence}: a {change.change} without into_person_id"
        raise MissingFieldError(msg)
    return change.into_person_id
