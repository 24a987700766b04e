"""Which contact of a CRM is a person's, as far as graph and ledger say. How it is found, made and written: the CRM's.

In this order: the contact that a person made and the identity graph knows; the one in the ledger; one that the CRM's
own search finds by our person id or by an address; else a new one, called a projection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

from mappings.errors import IdentityConflictError, OneThreadError, PayloadError, RejectedError
from mappings.records import Person
from stores.ledger import Ledger, LedgerContact
from targets.crm_consents import agreed_channels, consent_marks, is_consent
from targets.crm_links import CrmLinks
from targets.crm_people import CrmPeople

Refusals = dict[str, OneThreadError]
"""Person id -> why it has no contact, or why its contact could not be written."""


class CrmContacts(ABC):
    """The contacts of one account. Called under the account's create-lock.

    Args:
        ledger: of the account.
        links: its contacts, alive, merged and deleted.
        people: whose they are.
        count: adds to the summary.
    """

    crm: ClassVar[str]
    """The CRM as messages and errors name it."""
    noun: ClassVar[str] = "contact"
    """What it calls a contact; `nouns` are several."""
    nouns: ClassVar[str] = "contacts"
    looks_before_adopting: ClassVar[bool] = False
    """Whether a contact that the graph names is looked at first: where writing on a deleted one goes unnoticed."""

    def __init__(self, ledger: Ledger, links: CrmLinks, people: CrmPeople, count: Callable[[str, int], None]) -> None:
        self._ledger = ledger
        self._links = links
        self._people = people
        self._count = count
        self._looked_again: set[str] = set()
        self._refused_before: Refusals = {}
        self._not_switched: Refusals = {}

    # What messages and moves ask for

    def ensure(self, seen: Mapping[str, Person]) -> Refusals:
        """A contact for each person of whom only messages are known: person id -> the person as far as those say."""
        persons = [
            self._people.known(person_id, person)
            for person_id, person in seen.items()
            if person_id not in self._refused_before and self.of(person_id) is None
        ]
        self._refused_before |= self._make(persons)
        return {person_id: error for person_id, error in self._refused_before.items() if person_id in seen}

    def of(self, person_id: str) -> LedgerContact | None:
        """The contact of a person as far as the ledger knows it; that of the survivor for a merged person.

        One that was deleted is looked for once more in a run.
        """
        contact = self._people.contact_of(person_id)
        return self._look_again(contact) if contact is not None and contact.gone else contact

    def none_to_be_had(self) -> RejectedError:
        """Why a message is on no contact, where nothing more is known."""
        return RejectedError(f"{self.crm}: no {self.noun} can be had for the person")

    def show_consents_on(self, survivors: Iterable[str]) -> None:
        """After people merged contacts: what the persons of both said of advertising is on the survivor."""
        for record_id in survivors:
            persons = self._ledger.contacts_of_record(record_id)
            if any(is_consent(name) for one in persons for name in one.written):
                self._show_consents(persons[0].person_id)  # what all of them said, see `_agreed`

    def leave(self, contact: LedgerContact) -> None:
        """Leave a contact whose messages have moved, see `retire`; one that we made is noted for an erasure."""
        if contact.projection and contact.record_id is not None:
            self._ledger.save_left_contact(contact.person_id, contact.record_id)
        self.retire(contact)

    @abstractmethod
    def retire(self, contact: LedgerContact) -> None:
        """Leave a contact whose messages have moved: what is ours is cleared, and an empty projection goes.

        Repeats: harmless.
        """

    @abstractmethod
    def clear(self, contact: LedgerContact) -> bool:
        """Empty what is ours on the contact of an erased person; everything else on it is people's to delete.

        Whether there was a contact to clear. Repeats: harmless.
        """

    @abstractmethod
    def erase(self, record_id: str) -> int:
        """Delete a contact that we made for good; how many there were. Repeats: harmless."""

    # What a CRM's own module builds on

    def _show_consents(self, person_id: str) -> None:
        contact, fields = self._ledger.contact(person_id), self._consent_fields()
        if contact is not None and fields:
            # Whatever stands there now is not what we wrote.
            self._ledger.save_contact(replace(contact, written={**contact.written, **dict.fromkeys(fields, "")}))
            self._write_consents(person_id)

    def _consent_fields(self) -> list[str]:
        """The fields of ours in which the CRM shows who agreed to advertising and who did not; none, unless it does."""
        return []

    def _write_consents(self, person_id: str) -> None:
        """Write those fields on a person's contact."""
        raise NotImplementedError

    def _agreed(self, person: Person, contact: LedgerContact | None) -> tuple[list[str], list[str]] | None:
        """Channels opted in and opted out on a contact; ``None`` when nothing was ever told of that.

        People may have made it another person's contact too, whose "no" counts as well.
        """
        own = consent_marks(contact.written if contact else {}, person, self._ledger)
        found = agreed_channels([own, *(one.written for one in self._others_on(contact))], self._ledger)
        return found if any(found) or person.opted_out is not None else None

    def _as_it_stands(self, contact: LedgerContact) -> LedgerContact:
        """The row without the marks of fields of consents that another person's row has otherwise: written since."""
        others = self._others_on(contact)
        differ = {
            name
            for name in (self._consent_fields() if others else ())
            if any(one.written.get(name) != contact.written.get(name) for one in others)
        }
        return replace(contact, written={**contact.written, **dict.fromkeys(differ, "")}) if differ else contact

    def _others_on(self, contact: LedgerContact | None) -> list[LedgerContact]:
        """The rows of other persons whose contact it is."""
        if contact is None or contact.record_id is None:
            return []
        rows = self._ledger.contacts_of_record(contact.record_id)
        return [one for one in rows if one.person_id != contact.person_id]

    @abstractmethod
    def _make(self, persons: list[Person]) -> Refusals:
        """Find or create the contacts of persons of whom only messages are known."""

    def _wanted(self, persons: Iterable[Person], seen: Container[str] = ()) -> list[Person]:
        """Those that are written: who has messages or a contact, and was not merged into another meanwhile.

        Whoever said whether advertising is wanted is written on the contact that people made, too.
        """
        latest = {person.person_id: person for person in persons}
        return [
            person
            for person_id, person in latest.items()
            if self._people.current(person_id) == person_id
            and (
                person.message_count
                or person_id in seen
                or self._has_contact(person_id)
                or (
                    (person.opted_in or person.opted_out) and self._consent_fields() and self._people.records_of(person)
                )
            )
        ]

    def _is_known(self, person: Person) -> bool:
        """Whether the graph or the ledger names a contact; a contact that the graph names wins."""
        contact = self._people.row(person.person_id)
        if contact is not None and contact.merged_into:
            self._ledger.forget_contact(person.person_id)
            contact = None
        records = self._people.records_of(person)
        if contact is not None and (not records or contact.record_id in records):
            return True
        if not records:
            return False
        if contact is None and len(records) == 1 and not self.looks_before_adopting:
            self._adopt(person.person_id, records[0])
            return True
        known = [contact.record_id] if contact is not None and contact.record_id else []
        now = self._links.survivors([*records, *known])
        live = {survivor for record_id in records if (survivor := now[record_id])}
        if not live:
            return contact is not None
        # Several only if a reviewer said that they are one person: the oldest, so that every run says the same.
        chosen = min(live, key=oldest_first)
        if contact is None:
            self._adopt(person.person_id, chosen)
        elif now.get(contact.record_id or "") not in live:
            try:
                self._switch(contact, chosen)
            except (RejectedError, PayloadError, IdentityConflictError) as error:
                self._not_switched[person.person_id] = error
        return True

    def _adopt(self, person_id: str, record_id: str, *, projection: bool = False) -> None:
        self._ledger.save_contact(LedgerContact(person_id, record_id, projection))
        self._count(f"{self.nouns} found", 1)

    def _switch(self, contact: LedgerContact, record_id: str) -> None:
        """Another contact is the person's now: the messages move there, and the old one is left.

        The ledger names the new one only when that is done: a run that dies or is refused is followed by another try.
        """
        person_id = contact.person_id
        current = self._ledger.contact(person_id) or contact
        errors = self._links.move(self._ledger.messages_of_person(person_id), record_id, person_id)
        if errors:
            raise next(iter(errors.values()))
        self.leave(current)
        self._adopt(person_id, record_id)

    def _take_not_switched(self) -> Refusals:
        """Whose contact is another one now, and why what was written could not be taken there."""
        found, self._not_switched = self._not_switched, {}
        return found

    def _has_contact(self, person_id: str) -> bool:
        contact = self._ledger.contact(person_id)
        return contact is not None and contact.merged_into is None

    def _look_again(self, contact: LedgerContact) -> LedgerContact:
        """A contact that was deleted can be restored; it is looked for once in a run."""
        record_id = contact.record_id
        if record_id is None or record_id in self._looked_again:
            return contact
        self._looked_again.add(record_id)
        if self._links.survivors([record_id])[record_id] is None:
            return contact
        back = replace(self._ledger.contact(contact.person_id) or contact, gone=False, content_hash=None)
        self._ledger.save_contact(back)
        return back

    def _same_addresses(self, person_id: str, record_ids: Iterable[str], what_to_do: str) -> str:
        """What to say of a person whose addresses are on several contacts that people made."""
        found = sorted(record_ids, key=oldest_first)
        return (
            f"{self.crm}: the addresses of person {person_id} are on {len(found)} {self.nouns} ({', '.join(found)})."
            f" {what_to_do}, or decide in review, and replay"
        )


def oldest_first(record_id: str) -> tuple[int, str]:
    """Sorts ids by age: numbers by their size, equally long ids by their letters."""
    return len(record_id), record_id
