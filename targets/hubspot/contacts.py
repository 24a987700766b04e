"""Which HubSpot contact is a person's; made where there is none, and kept up to date.

In this order: the contact that a person made and the identity graph knows; the one in the ledger; one that carries our
person id or one of the person's addresses; else a new one, called a projection. Nothing that we did not write last is
overwritten: of a contact that people made only our own properties, of a projection its name and addresses while they
are still ours or empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mappings.crm_words import emails_of
from mappings.errors import CredentialsError, IdentityConflictError, OneThreadError, RejectedError
from mappings.records import Consent, Handle, Person
from mappings.to_hubspot import CONTACT_PROPERTIES, PERSON_ID, PROJECTION, contact_facts, name_facts
from stores.graph import Graph
from stores.ledger import Ledger, LedgerContact
from targets.crm_consents import CONSENT, agreed_channels, consent_marks
from targets.crm_people import CrmPeople
from targets.hubspot.answers import Refused, object_in
from targets.hubspot.api import CONTACTS, HubSpotApi
from targets.hubspot.fields import Fields
from targets.hubspot.links import Links
from targets.hubspot.settings import HubSpotTargetSettings

_LOOKUP = ("email", "hs_additional_emails", PERSON_ID, PROJECTION)
# What an agent can have put on a contact. A projection that has any of it is not archived.
_ACTIVITIES = ("communications", "notes", "tasks", "calls", "meetings", "emails")

_ALL_KNOWN = "every contact with a person id"
"""Under this name the ledger notes that it knows them all; `note_new_account` begins it."""

Refusals = dict[str, OneThreadError]
"""Person id -> why it has no contact, or why its contact could not be written."""


@dataclass(slots=True)
class _Draft:
    """What is about to be written on a person's contact; `marks` are kept with it."""

    person: Person
    own: dict[str, str]
    standard: dict[str, str]
    marks: dict[str, str] = field(default_factory=dict)
    whole: bool = True


class Contacts:
    """The contacts of one HubSpot account. Called under the account's create-lock."""

    def __init__(
        self,
        api: HubSpotApi,
        ledger: Ledger,
        links: Links,
        graph: Graph,
        fields: Fields,
        settings: HubSpotTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        self._api = api
        self._fields = fields
        self._ledger = ledger
        self._links = links
        self._graph = graph
        self._people = CrmPeople(ledger, graph, "hubspot_contact", settings.portal_id)
        self._settings = settings
        self._count = count
        self._refused_before: Refusals = {}
        self._looked_again: set[str] = set()

    def write(
        self,
        persons: Iterable[Person],
        preferred: Mapping[str, str] | None = None,
        consents: Mapping[str, Sequence[Consent]] | None = None,
    ) -> Refusals:
        """Make or find the contacts of persons who have messages, and write what has changed.

        Args:
            persons: as the archive tells them.
            preferred: person id -> channel on which the person wrote last, where that is known.
            consents: person id -> new decisions on advertising.
        """
        latest = {person.person_id: person for person in persons}
        decisions = dict(consents or {})
        wanted = [
            person
            for person in latest.values()
            if self._people.current(person.person_id) == person.person_id
            and (person.message_count or self._has_contact(person.person_id))
        ]
        for person in wanted:
            self._refused_before.pop(person.person_id, None)
        drafts = {
            person.person_id: self._draft(
                person, (preferred or {}).get(person.person_id), decisions.pop(person.person_id, ())
            )
            for person in wanted
        }
        refused = self._find_or_create(wanted, drafts)
        told = [draft for person_id, draft in drafts.items() if person_id not in refused]
        for person_id, ones in decisions.items():
            if self._has_contact(person_id):
                told.append(self._draft_of_consents(person_id, ones))
        return refused | self._update(told)

    def _draft(self, person: Person, preferred: str | None, decisions: Sequence[Consent]) -> _Draft:
        contact = self._people.row(person.person_id)
        marks = consent_marks(contact.written if contact else {}, decisions, self._ledger)
        facts = {**contact_facts(person, preferred), **self._consent_facts(marks)}
        own = {PERSON_ID: person.person_id, **self._fields.properties(facts, "onethread")}
        standard = self._fields.properties({**name_facts(person), **facts}, "people")
        return _Draft(person, own, standard, marks)

    def _draft_of_consents(self, person_id: str, decisions: Sequence[Consent]) -> _Draft:
        contact = self._people.row(person_id)
        marks = consent_marks(contact.written if contact else {}, decisions, self._ledger)
        own = self._fields.properties(self._consent_facts(marks), "onethread")
        return _Draft(Person(person_id=person_id, handles=[]), own, {}, marks, whole=False)

    def _consent_facts(self, marks: Mapping[str, str]) -> dict[str, str]:
        if not marks:
            return {}
        agreed, declined = agreed_channels(marks, self._ledger)
        return {"opted_in": ";".join(agreed), "opted_out": ";".join(declined)}

    def carry_consents(self, source: LedgerContact, into: str) -> None:
        """A "no" of one person is a "no" of the person that it turned out to be."""
        target = self._ledger.contact(into)
        kept = {name: mark for name, mark in source.written.items() if name.startswith(CONSENT)}
        if target is not None and kept:
            self._ledger.save_contact(replace(target, written={**kept, **target.written}, content_hash=None))

    def ensure(self, handles: Mapping[str, Sequence[Handle]], names: Mapping[str, str | None]) -> Refusals:
        """A contact for each person of whom only messages are known: person id -> the handles seen on them."""
        persons = []
        for person_id, seen in handles.items():
            if person_id in self._refused_before or self.of(person_id) is not None:
                continue
            known = self._graph.handles_of(person_id)
            name = self._graph.best_name(person_id) or names.get(person_id)
            persons.append(Person(person_id=person_id, handles=known or list(seen), name=name))
        new = {one.person_id: _Draft(one, {PERSON_ID: one.person_id}, self._names(one)) for one in persons}
        refused = self._find_or_create(persons, new)
        drafts = [
            _Draft(person, {PERSON_ID: person.person_id}, {}, whole=False)
            for person in persons
            if (contact := self._ledger.contact(person.person_id)) is not None and PERSON_ID not in contact.written
        ]
        self._refused_before |= refused
        self._update(drafts)
        return {person_id: error for person_id, error in self._refused_before.items() if person_id in handles}

    def of(self, person_id: str) -> LedgerContact | None:
        """The contact of a person as far as the ledger knows it; that of the survivor for a merged person."""
        contact = self._people.contact_of(person_id)
        if contact is not None and contact.gone:
            contact = self._look_again(contact)
        return contact

    def retire(self, contact: LedgerContact) -> None:
        """Leave a contact whose messages have moved: our properties are cleared, and an empty projection archived.

        Repeats: harmless.
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
        clear = {"id": record_id, "properties": dict.fromkeys(sorted(ours), ""), "objectWriteTraceId": record_id}
        if ours:
            self._api.write_batch(CONTACTS, "update", [clear], size=1)
        if self._settings.archive_empty_projections and contact.projection and self._is_empty(contact, record):
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

    # Finding and making

    def _find_or_create(self, persons: Sequence[Person], drafts: Mapping[str, _Draft]) -> Refusals:
        unknown = [person for person in persons if not self._is_known(person)]
        if not unknown:
            return {}
        if not self._knows_all():
            unknown = self._adopt_by_person_id(unknown)
        taken, refused = self._adopt_by_email(unknown)
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
        return self._ledger.reply_status(_ALL_KNOWN) == "yes"

    def _note_all_known(self, *, yes: bool) -> None:
        if self._ledger.reply_status(_ALL_KNOWN) is not None:
            self._ledger.save_reply_status(_ALL_KNOWN, "yes" if yes else "no")

    def _is_known(self, person: Person) -> bool:
        """Whether the graph or the ledger names a contact; a contact that the graph names wins."""
        contact = self._people.row(person.person_id)
        if contact is not None and contact.merged_into:
            self._ledger.forget_contact(person.person_id)
            contact = None
        records = self._people.records_of(person)
        if contact is not None and (not records or contact.record_id in records):
            if contact.gone:
                self._look_again(contact)
            return True
        if not records:
            return False
        if contact is None and len(records) == 1:
            self._adopt(person.person_id, records[0])
            return True
        known = [contact.record_id] if contact is not None and contact.record_id else []
        now = self._links.survivors([*records, *known])
        live = {survivor for record_id in records if (survivor := now[record_id])}
        if not live:
            return contact is not None
        # Several only if a reviewer said that they are one person: the oldest, so that every run says the same.
        chosen = min(live, key=int)
        if contact is None:
            self._adopt(person.person_id, chosen)
        elif now.get(contact.record_id or "") not in live:
            self._switch(contact, chosen)
        return True

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
                refused[person.person_id] = IdentityConflictError(
                    f"HubSpot: the addresses of person {person.person_id} are on {len(made_by_people)} contacts"
                    f" ({', '.join(sorted(made_by_people))}). Merge them in HubSpot, or decide in review, and replay"
                )
            elif free:
                chosen = made_by_people[0] if made_by_people else min(free, key=int)
                self._adopt(person.person_id, chosen, projection=_is_projection(free[chosen]))
            else:
                to_create[person.person_id] = {one for one in emails_of(person) if records.get(one)}
        return to_create, refused

    def _create(self, drafts: Sequence[_Draft]) -> Refusals:
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

    def _create_once(self, drafts: Sequence[_Draft]) -> dict[str, Refused]:
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
                marks = {**draft.marks, **self._marks(values[person_id])}
                content_hash = self._ledger.content_hash(draft.own | self._whole_standard(draft))
                contact = LedgerContact(person_id, str(record["id"]), True, content_hash, marks)
                self._ledger.save_contact(contact)
        self._count("contacts created", len(written.results))
        return written.refused

    def _adopt(self, person_id: str, record_id: str, *, projection: bool = False) -> None:
        self._ledger.save_contact(LedgerContact(person_id, record_id, projection))
        self._count("contacts found", 1)

    def _switch(self, contact: LedgerContact, record_id: str) -> None:
        """Another contact is the person's now: the messages move there, and the old one is left."""
        person_id = contact.person_id
        current = self._ledger.contact(person_id) or contact
        self._links.move(self._ledger.messages_of_person(person_id), record_id, person_id)
        self.retire(current)
        self._adopt(person_id, record_id)

    # Writing

    def _update(self, drafts: Sequence[_Draft]) -> Refusals:
        """Write what differs from what we wrote last."""
        inputs: dict[str, dict[str, str]] = {}
        hashes: dict[str, str | None] = {}
        guarded: dict[str, dict[str, str]] = {}
        marks: dict[str, dict[str, str]] = {}
        for draft in drafts:
            contact = self._ledger.contact(draft.person.person_id)
            if contact is None or contact.record_id is None or contact.gone:
                continue
            if not contact.projection and draft.whole:
                draft = replace(draft, own={**draft.own, PROJECTION: "false"}, standard={})
            content_hash = self._ledger.content_hash({**draft.own, **draft.standard})
            if content_hash == contact.content_hash:
                continue
            hashes[contact.person_id] = content_hash if draft.whole else contact.content_hash
            inputs[contact.person_id] = self._changed(draft.own, contact)
            guarded[contact.person_id] = self._changed(draft.standard, contact) if contact.projection else {}
            marks[contact.person_id] = draft.marks
        self._allow(guarded, inputs)
        return self._write_updates(inputs, hashes, marks)

    def _changed(self, properties: Mapping[str, str], contact: LedgerContact) -> dict[str, str]:
        return {
            name: value
            for name, value in properties.items()
            if self._ledger.fingerprint(value) != contact.written.get(name) and (value or name in contact.written)
        }

    def _allow(self, guarded: Mapping[str, Mapping[str, str]], inputs: Mapping[str, dict[str, str]]) -> None:
        """Add the standard properties whose present value is ours or empty; people's values stay."""
        rows = {person_id: self._ledger.contact(person_id) for person_id, one in guarded.items() if one}
        asked = {person_id: row for person_id, row in rows.items() if row is not None}
        if not asked:
            return
        wanted = [one.record_id for one in asked.values() if one.record_id]
        records = self._api.read_batch(CONTACTS, wanted, self._fields.peoples)
        present = {str(record["id"]): object_in(record.get("properties")) for record in records}
        for person_id, contact in asked.items():
            values = present.get(contact.record_id or "", {})
            for name, value in guarded[person_id].items():
                now = values.get(name) or ""
                if not now or self._ledger.fingerprint(now) == contact.written.get(name):
                    inputs[person_id][name] = value

    def _write_updates(
        self,
        updates: Mapping[str, dict[str, str]],
        hashes: Mapping[str, str | None],
        marks: Mapping[str, Mapping[str, str]],
    ) -> Refusals:
        failed = self._write_once(updates, hashes, marks)
        refused: Refusals = {person_id: one.error for person_id, one in failed.items()}
        again = self._to_try_again(updates, failed, refused)
        # Not all of it is written then, so the next run looks again.
        failed = self._write_once(again, dict.fromkeys(again), marks)
        refused = {person_id: error for person_id, error in refused.items() if person_id not in again}
        return refused | {person_id: one.error for person_id, one in failed.items()}

    def _write_once(
        self,
        updates: Mapping[str, dict[str, str]],
        hashes: Mapping[str, str | None],
        marks: Mapping[str, Mapping[str, str]],
    ) -> dict[str, Refused]:
        rows = {person_id: self._ledger.contact(person_id) for person_id in updates}
        inputs = [
            {"id": row.record_id, "properties": updates[person_id], "objectWriteTraceId": person_id}
            for person_id, row in rows.items()
            if row is not None and updates[person_id]
        ]
        written = self._api.write_batch(CONTACTS, "update", inputs, size=self._settings.contact_batch_size)
        with self._ledger.transaction():
            for person_id, row in rows.items():
                if row is not None and person_id not in written.refused:
                    now = {**row.written, **marks.get(person_id, {}), **self._marks(updates[person_id])}
                    self._ledger.save_contact(replace(row, written=now, content_hash=hashes[person_id]))
        self._count("contacts updated", len(written.results))
        return written.refused

    def _to_try_again(
        self, updates: Mapping[str, dict[str, str]], failed: Mapping[str, Refused], refused: Refusals
    ) -> dict[str, dict[str, str]]:
        """Updates worth a second try: the contact was merged into another, or a single property was at fault."""
        rows = {person_id: self._ledger.contact(person_id) for person_id in failed if failed[person_id].missing}
        lost = {person_id: row.record_id for person_id, row in rows.items() if row is not None and row.record_id}
        now = self._links.survivors(lost.values()) if lost else {}
        again = {}
        for person_id in failed:
            properties = updates[person_id]
            own = {name: value for name, value in properties.items() if name not in self._fields.peoples}
            if person_id in lost:
                if now[lost[person_id]] is not None:
                    again[person_id] = {**own, PERSON_ID: person_id, PROJECTION: "false"}
                else:
                    refused.pop(person_id)  # deleted in HubSpot; its next message says so
                continue
            if own == properties:  # then another contact holds the person's id
                own = {name: value for name, value in properties.items() if name != PERSON_ID}
            if own and own != properties:
                again[person_id] = own
        return again

    # Small questions

    def _names(self, person: Person) -> dict[str, str]:
        return self._fields.properties(name_facts(person), "people")

    def _whole_standard(self, draft: _Draft) -> dict[str, str]:
        """What would be written if nothing stood against it: the next run compares with that."""
        return {**draft.standard, **self._names(draft.person)}

    def _without_taken(self, draft: _Draft, taken: set[str]) -> _Draft:
        """The draft with an address that no other contact has."""
        name = self._fields.map.find("contact", "email")
        if name is None or name not in draft.standard:
            return draft
        free = [address for address in emails_of(draft.person) if address not in taken]
        standard = {key: value for key, value in draft.standard.items() if key != name}
        return replace(draft, standard={**standard, name: free[0]} if free else standard)

    def _has_contact(self, person_id: str) -> bool:
        contact = self._ledger.contact(person_id)
        return contact is not None and contact.merged_into is None

    def _is_free(self, record_id: str, properties: Mapping[str, Any], person_id: str) -> bool:
        """Whether a contact is nobody else's: what identity keeps apart is not joined on one timeline."""
        return self._people.is_free(record_id, str(properties.get(PERSON_ID) or ""), person_id)

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

    def _marks(self, properties: Mapping[str, str]) -> dict[str, str]:
        return {name: self._ledger.fingerprint(value) for name, value in properties.items()}


def note_new_account(ledger: Ledger) -> None:
    """Note that no contact carries a person id yet: the property was created just now, for this ledger."""
    ledger.save_reply_status(_ALL_KNOWN, "yes")


def _is_projection(properties: Mapping[str, Any]) -> bool:
    return properties.get(PROJECTION) == "true"


def _addresses(properties: Mapping[str, Any]) -> list[str]:
    texts = [properties.get("email"), *str(properties.get("hs_additional_emails") or "").split(";")]
    return [text.strip().lower() for text in texts if isinstance(text, str) and text.strip()]
