"""Merges, splits and erasures of persons, carried out on the contacts of a CRM. Knows no CRM.

Messages move from one contact to the other, and a split moves them back. Merging contacts in the CRM cannot be undone
there, so that is at most a setting. Each change is carried out once; the ledger remembers its sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from mappings.errors import MissingFieldError
from mappings.records import Handle, Person, PersonChange
from stores.ledger import Ledger, LedgerContact, LedgerMessage
from targets.crm_contacts import CrmContacts
from targets.crm_links import CrmLinks
from targets.crm_messages import CrmMessages


class CrmMoves:
    """Changes of persons in one account. Called under the account's create-lock.

    Args:
        ledger: of the account.
        links: its contacts, alive, merged and deleted.
        contacts: its contacts.
        messages: what is on them.
        count: adds to the summary.
    """

    receipt: ClassVar[tuple[str, str, str]] = ("messages", "contacts deleted", "contacts cleared")
    """How the receipt of an erasure names what it counts."""

    def __init__(
        self,
        ledger: Ledger,
        links: CrmLinks,
        contacts: CrmContacts,
        messages: CrmMessages,
        count: Callable[[str, int], None],
    ) -> None:
        self._ledger = ledger
        self._links = links
        self._contacts = contacts
        self._messages = messages
        self._count = count

    def carry_out(self, change: PersonChange) -> None:
        """Carry out one change, unless it was before.

        Raises:
            OneThreadError: it could not be carried out whole; what was moved stays moved, and again is harmless.
        """
        if self._ledger.carried_out(change.sequence):
            return
        self._messages.settle()
        counts: dict[str, int] | None = None
        if change.change == "merge":
            self._merge(change)
        elif change.change == "split":
            self._split(change)
        else:
            counts = self._erase(change)
        self._ledger.mark_carried_out(change.sequence, counts)
        self._count(f"persons {change.change} carried out", 1)

    # What a CRM may do otherwise

    def _before_merge(self, source: LedgerContact | None, target: LedgerContact | None) -> None:
        """What is to be done about the contacts before the messages move; nothing, unless they are merged too."""

    def _leave(self, source: LedgerContact, into: str) -> None:
        """What becomes of the contact whose messages have moved to the person `into`."""
        target = self._ledger.contact(into)
        # The ledger follows contacts that were merged in the CRM meanwhile: those are one, and nobody leaves it.
        if target is None or target.record_id != self._ledger.survivor(source.record_id or ""):
            self._contacts.leave(source)

    def _contact_of(self, person_id: str, handles: Sequence[Handle]) -> str:
        """The contact of a person, made if there is none."""
        refused = self._contacts.ensure({person_id: Person(person_id=person_id, handles=list(handles))})
        contact = self._contacts.of(person_id)
        if contact is None or contact.record_id is None:
            raise refused.get(person_id) or self._contacts.none_to_be_had()
        if contact.gone:
            raise self._links.deleted()
        return contact.record_id

    # The same everywhere

    def _merge(self, change: PersonChange) -> None:
        into = _into(change)
        for person_id in change.from_person_ids:
            if person_id == into:
                continue
            messages = self._ledger.messages_of_person(person_id)
            source = self._ledger.contact(person_id)
            self._before_merge(source, self._ledger.contact(into))
            if messages:
                contact_id = self._contact_of(into, change.handles)
                # Read again: contacts may have been found merged in the CRM.
                self._move(self._ledger.messages_of_person(person_id), contact_id, into)
                source = self._ledger.contact(person_id)
            if source is not None and source.merged_into is None:
                self._leave(source, into)
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
            self._move(messages, self._contact_of(into, change.handles), into)

    def _move(self, messages: Sequence[LedgerMessage], contact_id: str, into: str) -> None:
        errors = self._messages.move(messages, contact_id, into)
        if errors:
            raise next(iter(errors.values()))

    def _erase(self, change: PersonChange) -> dict[str, int]:
        """What we wrote goes; a contact that we made goes for good. One that people made is theirs to delete.

        What was removed is the receipt of the erasure; see `targets.base`.
        """
        written, deleted, cleared = self.receipt
        counts = dict.fromkeys(self.receipt, 0)
        for person_id in change.from_person_ids:
            messages = self._ledger.messages_of_person(person_id)
            self._messages.erase(messages)
            counts[written] += len(messages)
            counts[deleted] += self._erase_left(person_id)
            contact = self._ledger.contact(person_id)
            if contact is None:
                continue
            if contact.record_id is not None:
                alone = len(self._ledger.contacts_of_record(contact.record_id)) == 1
                if contact.projection and alone:
                    counts[deleted] += self._contacts.erase(contact.record_id)
                else:
                    counts[cleared] += self._contacts.clear(contact)
                self._ledger.forget_record(contact.record_id)
            self._ledger.forget_contact(person_id)
        return counts

    def _erase_left(self, person_id: str) -> int:
        """Delete what we made for a person and left since: it is in the CRM's bin, or live with what agents did there.

        One that people merged into another contact is gone, and one that is somebody's contact again is theirs.
        """
        left = self._ledger.left_contacts(person_id)
        now = self._links.survivors(left) if left else {}
        alone = [one for one in left if now[one] in {None, one} and not self._ledger.contacts_of_record(one)]
        number = sum(self._contacts.erase(one) for one in alone)
        self._ledger.forget_left_contacts(person_id)
        return number


def _into(change: PersonChange) -> str:
    if change.into_person_id is None:
        msg = f"person change {change.sequence}: a {change.change} without into_person_id"
        raise MissingFieldError(msg)
    return change.into_person_id
