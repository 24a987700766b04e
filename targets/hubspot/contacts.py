"""Which HubSpot contact is a person's; made where there is none, and kept up to date.

In this order: the contact that a person made and the identity graph knows; the one in the ledger; one that carries our
person id or one of the person's addresses; else a new one, called a projection. Nothing that we did not write last is
overwritten: of a contact that people made only our own properties, of a projection its name and addresses while they
are still ours or empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mappings.crm_words import emails_of
from mappings.errors import CredentialsError, IdentityConflictError, RejectedError
from mappings.records import Person
from mappings.to_hubspot import CONTACT_PROPERTIES, PERSON_ID, PROJECTION, consent_facts, contact_facts, name_facts
from stores.ledger import Ledger, LedgerContact
from targets.crm_consents import consent_marks
from targets.crm_contacts import CrmContacts, Refusals
from targets.crm_people import CrmPeople
from targets.hubspot.answers import Refused, object_in
from targets.hubspot.api import CONTACTS, HubSpotApi
from targets.hubspot.contact_updates import ContactUpdates, Draft, marks_of
from targets.hubspot.fields import Fields
from targets.hubspot.links import Links
from targets.hubspot.settings import HubSpotTargetSettings

_LOOKUP = ("email", "hs_additional_emails", PERSON_ID, PROJECTION)
# What an agent can have put on a contact. A projection that has any of it is not archived.
_ACTIVITIES = ("communications", "notes", "tasks", "calls", "meetings", "emails")

_ALL_KNOWN = "every contact with a person id"
"""Under this name the ledger notes that it knows them all; `note_new_account` begins it."""


class Contacts(CrmContacts):
    """The contacts of one HubSpot account. Called under the account's create-lock."""

    crm = "HubSpot"

    def __init__(
        self,
        api: HubSpotApi,
        ledger: Ledger,
        links: Links,
        people: CrmPeople,
        fields: Fields,
        settings: HubSpotTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        super().__init__(ledger, links, people, count)
        self._api = api
        self._fields = fields
        self._settings = settings
        self._updates = ContactUpdates(api, ledger, links, fields, settings, count)

    def write(self, persons: Iterable[Person]) -> Refusals:
        """Make or find the contacts of persons who have messages, and write what has changed.

        Args:
            persons: as the archive tells them.
        """
        wanted = self._wanted(persons)
        for person in wanted:
            self._refused_before.pop(person.person_id, None)
        drafts = {person.person_id: self._draft(person) for person in wanted}
        refused = self._find_or_create(wanted, drafts)
        return refused | self._update([draft for person_id, draft in drafts.items() if person_id not in refused])

    def _draft(self, person: Person) -> Draft:
        contact = self._people.row(person.person_id)
        facts = {**contact_facts(person), **self._consent_facts(person, contact)}
        own = {PERSON_ID: person.person_id, **self._fields.properties(facts, "onethread")}
        standard = self._fields.properties({**name_facts(person), **facts}, "people")
        return Draft(person, own, standard, consent_marks(contact.written if contact else {}, person, self._ledger))

    def _consent_facts(self, person: Person, contact: LedgerContact | None) -> dict[str, str]:
        agreed = self._agreed(person, contact)
        return consent_facts(*agreed) if agreed else {}

    def _consent_fields(self) -> list[str]:
        return list(self._fields.properties(consent_facts((), ()), "onethread"))

    def _write_consents(self, person_id: str) -> None:
        person = Person(person_id=person_id, handles=[])
        facts = self._consent_facts(person, self._people.row(person_id))
        self._update([Draft(person, self._fields.properties(facts, "onethread"), {}, whole=False)])

    def _make(self, persons: list[Person]) -> Refusals:
        names = {one.person_id: self._fields.properties(name_facts(one), "people") for one in persons}
        new = {one.person_id: Draft(one, {PERSON_ID: one.person_id}, names[one.person_id]) for one in persons}
        refused = self._find_or_create(persons, new)
        drafts = [
            Draft(person, {PERSON_ID: person.person_id}, {}, whole=False)
            for person in persons
            if (contact := self._ledger.contact(person.person_id)) is not None and PERSON_ID not in contact.written
        ]
        self._update(drafts)
        return refused

    def retire(self, contact: LedgerContact) -> None:
        """Leave a contact whose messages have moved: our properties are cleared, and an empty projection archived.

        What is archived is emptied: privacy law's deletion reaches live contacts only (assumed: the worst case), and
        what HubSpot archived can be restored for 90 days. Repeats: harmless.
        """
        record_id = contact.record_id
        if record_id is None or len(self._ledger.contacts_of_record(record_id)) > 1:
            return
        shown = [*self._fields.peoples, PERSON_ID, "hubspot_owner_id", "num_associated_deals"]
        record = self._api.fetch(CONTACTS, record_id, shown)
        if record is None or str(record.get("id")) != record_id:
            return
        ours = contact.written.keys() & set(self._fields.ours)
        if object_in(record.get("properties")).get(PERSON_ID) == contact.person_id:
            ours.add(PERSON_ID)
        empty = self._settings.archive_empty_projections and contact.projection and self._is_empty(contact, record)
        if empty:
            values = object_in(record.get("properties"))
            ours |= {name for name in self._fields.peoples if values.get(name)}  # written by us, as it is empty
        clear = {"id": record_id, "properties": dict.fromkeys(sorted(ours), ""), "objectWriteTraceId": record_id}
        if ours:
            self._api.write_batch(CONTACTS, "update", [clear], size=1)
        if empty:
            self._api.archive(CONTACTS, [record_id])
            self._count("empty contacts archived", 1)

    def clear(self, contact: LedgerContact) -> bool:
        """Empty all our properties on the contact of an erased person; everything else on it is people's to delete.

        Whether there was a contact to clear. Repeats: harmless.
        """
        record_id = contact.record_id
        if record_id is None or len(self._ledger.contacts_of_record(record_id)) > 1:
            return False
        record = self._api.fetch(CONTACTS, record_id, [PERSON_ID])
        if record is None or str(record.get("id")) != record_id:
            return False
        empty = dict.fromkeys([*(name for name, *_ in CONTACT_PROPERTIES), *self._fields.ours], "")
        clear = {"id": record_id, "properties": empty, "objectWriteTraceId": record_id}
        written = self._api.write_batch(CONTACTS, "update", [clear], size=1)
        for refused in written.refused.values():
            if not refused.missing:
                raise refused.error
        return True

    def erase(self, record_id: str) -> int:
        """Delete a contact that we made for good, as HubSpot does it for privacy."""
        return int(self._api.purge_contact(record_id))

    # Finding and making

    def _find_or_create(self, persons: Sequence[Person], drafts: Mapping[str, Draft]) -> Refusals:
        unknown = [person for person in persons if not self._is_known(person)]
        refused = self._take_not_switched()
        if not unknown:
            return refused
        if not self._knows_all():
            unknown = self._adopt_by_person_id(unknown)
        taken, conflicts = self._adopt_by_email(unknown)
        refused |= conflicts
        to_create = [
            self._without_taken(drafts[one.person_id], taken[one.person_id])
            for one in unknown
            if one.person_id in taken
        ]
        if not to_create:
            return refused
        # Whoever dies in between leaves the note that contacts may be there of which the ledger does not know.
        self._note_all_known(yes=False)
        refused |= self._create(to_create)
        self._note_all_known(yes=True)
        return refused

    def _knows_all(self) -> bool:
        """Whether no contact can carry a person id that the ledger does not know: it was there from the first on."""
        return self._ledger.note(_ALL_KNOWN) == "yes"

    def _note_all_known(self, *, yes: bool) -> None:
        if self._ledger.note(_ALL_KNOWN) is not None:
            self._ledger.save_note(_ALL_KNOWN, "yes" if yes else "no")

    def _adopt_by_person_id(self, persons: Sequence[Person]) -> list[Person]:
        """Contacts that carry the person's id: made by a run that did not live to note it. Returns the others."""
        by_id = {person.person_id: person for person in persons}
        for record in self._api.read_batch(CONTACTS, by_id, _LOOKUP, id_property=PERSON_ID):
            properties = object_in(record.get("properties"))
            person = by_id.pop(str(properties.get(PERSON_ID)), None)
            if person is not None:
                self._adopt(person.person_id, str(record["id"]), projection=_is_projection(properties))
        return list(by_id.values())

    def _adopt_by_email(self, persons: Sequence[Person]) -> tuple[dict[str, set[str]], Refusals]:
        """Contacts with one of the person's addresses.

        Returns:
            Who has none -> those of the person's addresses that are on others' contacts; and whom nobody can place.
        """
        addresses = [address for person in persons for address in emails_of(person)]
        records: dict[str, dict[str, dict[str, Any]]] = {}
        for record in self._api.read_batch(CONTACTS, addresses, _LOOKUP, id_property="email"):
            for address in _addresses(object_in(record.get("properties"))):
                records.setdefault(address, {})[str(record["id"])] = object_in(record.get("properties"))
        to_create: dict[str, set[str]] = {}
        refused: Refusals = {}
        for person in persons:
            found = {key: one for address in emails_of(person) for key, one in records.get(address, {}).items()}
            free = {key: one for key, one in found.items() if self._is_free(key, one, person.person_id)}
            made_by_people = [key for key, one in free.items() if not _is_projection(one)]
            if len(made_by_people) > 1:
                reason = self._same_addresses(person.person_id, made_by_people, "Merge them in HubSpot")
                refused[person.person_id] = IdentityConflictError(reason)
            elif free:
                chosen = made_by_people[0] if made_by_people else min(free, key=int)
                self._adopt(person.person_id, chosen, projection=_is_projection(free[chosen]))
            else:
                to_create[person.person_id] = {one for one in emails_of(person) if records.get(one)}
        return to_create, refused

    def _create(self, drafts: Sequence[Draft]) -> Refusals:
        refused = self._create_once(drafts)
        again = []
        for draft in drafts:
            person_id = draft.person.person_id
            if person_id not in refused:
                continue
            existing_id = refused[person_id].existing_id
            existing = self._api.fetch(CONTACTS, existing_id, _LOOKUP) if existing_id else None
            properties = object_in(existing.get("properties")) if existing else {}
            if existing and self._is_free(str(existing["id"]), properties, person_id):
                self._adopt(person_id, str(existing["id"]), projection=_is_projection(properties))
                self._update([replace(draft, standard={}, whole=False)])
            else:
                # An address that HubSpot will not take must not keep the conversation out.
                names = {self._fields.map.find("contact", fact) for fact in ("first_name", "last_name")}
                again.append(replace(draft, standard={k: v for k, v in draft.standard.items() if k in names}))
        return {key: one.error for key, one in self._create_once(again).items()}

    def _create_once(self, drafts: Sequence[Draft]) -> dict[str, Refused]:
        values = {one.person.person_id: {**one.own, PROJECTION: "true", **one.standard} for one in drafts}
        values = {person_id: {k: v for k, v in one.items() if v} for person_id, one in values.items()}
        inputs = [
            {"id": key, "idProperty": PERSON_ID, "properties": properties, "objectWriteTraceId": key}
            for key, properties in values.items()
        ]
        written = self._api.write_batch(
            CONTACTS, "upsert", inputs, size=self._settings.contact_batch_size, id_property=PERSON_ID
        )
        by_id = {one.person.person_id: one for one in drafts}
        with self._ledger.transaction():
            for person_id, record in written.results.items():
                draft = by_id[person_id]
                consents = draft.consents or {}
                marks = {**consents, **marks_of(values[person_id], self._ledger)}
                content_hash = self._ledger.content_hash(draft.own | self._whole_standard(draft) | consents)
                contact = LedgerContact(person_id, str(record["id"]), True, content_hash, marks)
                self._ledger.save_contact(contact)
        self._count("contacts created", len(written.results))
        return written.refused

    def _update(self, drafts: Sequence[Draft]) -> Refusals:
        """Write what differs from what we wrote last."""
        rows = {draft.person.person_id: self.of(draft.person.person_id) for draft in drafts}
        live = {one: row for one, row in rows.items() if row is not None and row.record_id and not row.gone}
        return self._updates.write(
            [
                (draft, self._as_it_stands(live[person_id]))
                for draft in drafts
                if (person_id := draft.person.person_id) in live
            ]
        )

    # Small questions

    def _whole_standard(self, draft: Draft) -> dict[str, str]:
        """What would be written if nothing stood against it: the next run compares with that."""
        return {**draft.standard, **self._fields.properties(name_facts(draft.person), "people")}

    def _without_taken(self, draft: Draft, taken: set[str]) -> Draft:
        """The draft with an address that no other contact has."""
        name = self._fields.map.find("contact", "email")
        if name is None or name not in draft.standard:
            return draft
        free = [address for address in emails_of(draft.person) if address not in taken]
        standard = {key: value for key, value in draft.standard.items() if key != name}
        return replace(draft, standard={**standard, name: free[0]} if free else standard)

    def _is_free(self, record_id: str, properties: Mapping[str, Any], person_id: str) -> bool:
        """Whether a contact is nobody else's: what identity keeps apart is not joined on one timeline."""
        return self._people.is_free(record_id, str(properties.get(PERSON_ID) or ""), person_id)

    def _is_empty(self, contact: LedgerContact, record: Mapping[str, Any]) -> bool:
        properties = object_in(record.get("properties"))
        if properties.get("hubspot_owner_id") or properties.get("num_associated_deals") not in {None, "", "0"}:
            return False
        values = {name: properties.get(name) for name in self._fields.peoples}
        marks = {name: self._ledger.fingerprint(value) for name, value in values.items() if value}
        if any(mark != contact.written.get(name) for name, mark in marks.items()):
            return False
        try:
            return not any(self._api.has_associated(str(record["id"]), kind) for kind in _ACTIVITIES)
        except (CredentialsError, RejectedError):
            return False


def note_new_account(ledger: Ledger) -> None:
    """Note that no contact carries a person id yet: the property was created just now, for this ledger."""
    ledger.save_note(_ALL_KNOWN, "yes")


def _is_projection(properties: Mapping[str, Any]) -> bool:
    return properties.get(PROJECTION) == "true"


def _addresses(properties: Mapping[str, Any]) -> list[str]:
    texts = [properties.get("email"), *str(properties.get("hs_additional_emails") or "").split(";")]
    return [text.strip().lower() for text in texts if isinstance(text, str) and text.strip()]
