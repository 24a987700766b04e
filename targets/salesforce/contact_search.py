"""Which of the contacts that are there is a person's: by our person id, an e-mail address or a phone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mappings.records import Person
from mappings.to_salesforce import CONTACT, search_emails, search_phones
from targets.crm_people import CrmPeople
from targets.salesforce.api import SalesforceApi, in_queries
from targets.salesforce.fields import Fields
from targets.salesforce.settings import SalesforceTargetSettings


@dataclass(frozen=True, slots=True)
class Match:
    """What was found for a person.

    Attributes:
        record_ids: the contact that is the person's, or several that people made and nobody can choose between.
        projection: whether we made it.
    """

    record_ids: tuple[str, ...]
    projection: bool


class ContactSearch:
    """Looks for the contacts of persons of whom neither the graph nor the ledger names one."""

    def __init__(
        self, api: SalesforceApi, people: CrmPeople, fields: Fields, settings: SalesforceTargetSettings
    ) -> None:
        self._api = api
        self._people = people
        self._fields = fields
        self._settings = settings
        self._made = fields.map.find("contact", "made_by_onethread")

    def find(self, persons: Sequence[Person]) -> Iterator[tuple[Person, Match]]:
        """Those for whom something was found, one by one: what is taken by one is not free for the next."""
        key_field = self._fields.key_field("contact")
        columns = ["Id", key_field, "Email", "Phone", "MobilePhone", *([self._made] if self._made else [])]
        phones = [one for person in persons for one in self._phones_of(person)]
        wanted = {
            key_field: [person.person_id for person in persons],
            "Email": [one for person in persons for one in search_emails(person)],
            "Phone": phones,
            "MobilePhone": phones,
        }
        queries = [one for by, values in wanted.items() for one in in_queries(CONTACT, columns, by, values)]
        self._fields.check()
        found = {str(one["Id"]): one for records in self._api.query_together(queries) for one in records}
        for person in persons:
            match = self._match(person, found)
            if match is not None:
                yield person, match

    def _match(self, person: Person, found: Mapping[str, Mapping[str, object]]) -> Match | None:
        addresses, numbers = {one.lower() for one in search_emails(person)}, set(self._phones_of(person))
        projections: list[str] = []
        by_people: list[str] = []
        for record_id, record in found.items():
            written = str(record.get(self._fields.key_field("contact")) or "")
            ours = bool(self._made and record.get(self._made))
            if written == person.person_id:
                return Match((record_id,), ours)
            matches = str(record.get("Email") or "").lower() in addresses or bool(
                {record.get("Phone"), record.get("MobilePhone")} & numbers
            )
            if matches and self._people.is_free(record_id, written, person.person_id):
                (projections if ours else by_people).append(record_id)
        if by_people:
            return Match(tuple(by_people), projection=False)
        return Match((min(projections),), projection=True) if projections else None

    def _phones_of(self, person: Person) -> list[str]:
        return search_phones(person) if self._settings.match_phones else []
