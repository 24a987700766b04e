"""Which Salesforce contact is a person's; made where there is none, and kept up to date.

In this order: the contact that a person made and the identity graph knows; the one in the ledger; one that carries our
person id, or one of the person's e-mail addresses or phones; else a new one, called a projection. A contact of the
first kinds is updated by its id, a new one upserted by our person id, so nothing is made twice and nothing that
somebody deleted comes back. Fields that people own are filled in on projections only, while they are empty or ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mappings.crm_words import channel_name
from mappings.errors import IdentityConflictError, OneThreadError
from mappings.records import Person
from mappings.to_salesforce import CONTACT, Fact, contact_facts, name_facts
from stores.ledger import Ledger, LedgerContact
from targets.crm_consents import consent_marks, with_consents
from targets.crm_contacts import CrmContacts, Refusals
from targets.crm_people import CrmPeople
from targets.salesforce.answers import DUPLICATES, Refused, Row, Written
from targets.salesforce.api import SalesforceApi, in_queries
from targets.salesforce.contact_search import ContactSearch
from targets.salesforce.fields import Fields
from targets.salesforce.links import Links
from targets.salesforce.settings import SalesforceTargetSettings

_ROW = "contact "
# What an agent can have put on a contact; a projection that has any of it stays.
_WORK = ("Task", "Event", "Case", "OpportunityContactRole", "CampaignMember")
_WORK_LOOKUPS = {"Task": "WhoId", "Event": "WhoId"}

ROUNDS = 4
"""How often refused rows are tried again where there is something to try."""


@dataclass(slots=True)
class ContactDraft:
    """What is about to be written on a person's contact.

    Attributes:
        consents: marks of what the person said of advertising, to stand in the ledger.
        record_id: of a contact that is there.
    """

    person: Person
    own: dict[str, Fact]
    standard: dict[str, Fact]
    content_hash: str | None
    consents: dict[str, str] = field(default_factory=dict)
    record_id: str | None = None
    plain: bool = False

    @property
    def values(self) -> dict[str, Fact]:
        """All fields."""
        return {**self.standard, **self.own}


class Contacts(CrmContacts):
    """The contacts of one org. Called under the org's create-lock."""

    crm = "Salesforce"

    def __init__(
        self,
        api: SalesforceApi,
        ledger: Ledger,
        links: Links,
        people: CrmPeople,
        fields: Fields,
        settings: SalesforceTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        super().__init__(ledger, links, people, count)
        self._api = api
        self._fields = fields
        self._settings = settings
        self._search = ContactSearch(api, people, fields, settings)
        self._drafts: dict[str, ContactDraft] = {}
        self.refused: Refusals = {}

    # What is to be written

    def prepare(
        self,
        persons: Iterable[Person],
        seen: Mapping[str, Person],
    ) -> None:
        """Find contacts, and draft what is new or changed.

        Args:
            persons: as the archive tells them; only those with messages (or a contact) are written.
            seen: persons of whom only messages are known, as far as those say.
        """
        self._drafts.clear()
        self.refused.clear()
        self._refused_before.clear()
        told = {person.person_id: person for person in self._wanted(persons, seen)}
        silent = {
            person_id: self._people.known(person_id, person)
            for person_id, person in seen.items()
            if person_id not in told and self.of(person_id) is None
        }
        self._find([*told.values(), *silent.values()])
        for person in told.values():
            self._draft(person, contact_facts(person), whole=True)
        for person in silent.values():
            self._draft(person, {"person_id": person.person_id}, whole=False)
        self._guard()

    def write_drafts(self) -> None:
        """Write the drafted contacts alone, trying again what there is a way for."""
        for _ in range(ROUNDS):
            rows = self.rows()
            if not rows or not self.judge(self._api.write(rows, self.save).refused):
                return

    def parent_of(self, person_id: str) -> tuple[str | None, tuple[str, str] | None]:
        """How a child names a person's contact: its id, or (field, value) of one that is made in the same call."""
        contact = self.of(person_id)
        if contact is not None and contact.record_id is not None:
            return contact.record_id, None
        if person_id in self._drafts:
            return None, (self._fields.key_field("contact"), person_id)
        return None, None

    def why_not(self, person_id: str) -> OneThreadError | None:
        """Why a person's messages cannot be put on a contact; ``None`` when they can."""
        contact = self.of(person_id)
        if contact is not None and contact.gone:
            return self._links.deleted()
        if contact is None and person_id not in self._drafts:
            return self.refused.get(person_id)
        return None

    def rows(self) -> list[Row]:
        """The drafts as rows."""
        found = []
        for person_id, draft in self._drafts.items():
            values = self._fields.fit("contact", draft.values)
            key_field = None if draft.record_id else self._fields.key_field("contact")
            found.append(Row(_ROW + person_id, CONTACT, values, person_id, draft.record_id, key_field))
        return found

    def save(self, written: Written) -> None:
        """Note what was written."""
        with self._ledger.transaction():
            for key, record_id in written.ids.items():
                if key.startswith(_ROW) and (draft := self._drafts.pop(key.removeprefix(_ROW), None)) is not None:
                    self._save_one(draft, record_id, created=key in written.created)

    def judge(self, refused: Mapping[str, Refused]) -> bool:
        """Judge refusals: another try is drafted where there is something to try. Whether there is."""
        again = False
        missing: dict[str, ContactDraft] = {}
        for key, why in refused.items():
            person_id = key.removeprefix(_ROW)
            if not key.startswith(_ROW) or (draft := self._drafts.pop(person_id, None)) is None:
                continue
            if why.missing and draft.record_id:
                missing[person_id] = draft
            elif why.code == DUPLICATES:
                # Never around the rule with fewer values: the rule is the admin's.
                if draft.record_id is None and self._settings.on_duplicate == "link":
                    again |= self._link_duplicate(draft, why)
                else:
                    self.refused[person_id] = why.error
            else:
                again |= self._try_plainer(draft, why)
        now = self._links.survivors(draft.record_id or "" for draft in missing.values()) if missing else {}
        for person_id, draft in missing.items():
            survivor = now[draft.record_id or ""]
            if survivor is None:
                self._count("contacts deleted in Salesforce", 1)  # the person's next message says so
                continue
            # The survivor is the work of a person: only our own fields, all of them.
            self._drafts[person_id] = replace(draft, record_id=survivor, standard={}, content_hash=None)
            again = True
        return again

    # Finding

    def _make(self, persons: list[Person]) -> Refusals:
        self.prepare([], {person.person_id: person for person in persons})
        self.write_drafts()
        return dict(self.refused)

    def _find(self, persons: Sequence[Person]) -> None:
        unknown = [person for person in persons if not self._is_known(person)]
        self.refused |= self._take_not_switched()
        if not unknown:
            return
        for person, match in self._search.find(unknown):
            if len(match.record_ids) == 1:
                self._adopt(person.person_id, match.record_ids[0], projection=match.projection)
            else:
                reason = self._same_addresses(person.person_id, match.record_ids, "Merge them in Salesforce")
                self.refused[person.person_id] = IdentityConflictError(reason)

    # Drafting

    def _draft(self, person: Person, facts: dict[str, Fact], *, whole: bool) -> None:
        person_id = person.person_id
        contact = self._people.row(person_id)
        if person_id in self.refused or (contact is not None and contact.gone):
            return
        consents = consent_marks(contact.written if contact else {}, person, self._ledger)
        facts = {**facts, **self._consent_facts(person, contact)}
        if contact is None:
            facts["made_by_onethread"] = True
        projection = contact is None or contact.projection
        own = self._fields.map.fields("contact", facts, owner="onethread")
        named = {**name_facts(person), **facts} if projection and (whole or contact is None) else {}
        standard = self._fields.map.fields("contact", named, owner="people")
        # With the consents: of two persons on one contact one can change its mind and the field stay as it is.
        texts = {name: _text(value) for name, value in {**own, **standard}.items()}
        content_hash = self._ledger.content_hash(texts | consents)
        if contact is None:
            own = {name: value for name, value in own.items() if value not in {None, ""}}
            self._drafts[person_id] = ContactDraft(person, own, standard, content_hash if whole else None, consents)
            return
        if whole and content_hash == contact.content_hash:
            return
        now = self._as_it_stands(contact)
        own, standard = self._changed(own, now), self._changed(standard, now)
        if own or standard:
            kept_hash = content_hash if whole else contact.content_hash
            self._drafts[person_id] = ContactDraft(person, own, standard, kept_hash, consents, contact.record_id)
        elif whole:
            written = with_consents(contact.written, consents)
            self._ledger.save_contact(replace(contact, written=written, content_hash=content_hash))

    def _consent_facts(self, person: Person, contact: LedgerContact | None) -> dict[str, Fact]:
        found = self._agreed(person, contact)
        if found is None:
            return {}
        agreed, declined = (";".join(map(channel_name, channels)) or None for channels in found)
        return {"opted_in": agreed, "opted_out": declined}

    def _consent_fields(self) -> list[str]:
        return list(self._fields.map.fields("contact", {"opted_in": None, "opted_out": None}, owner="onethread"))

    def _write_consents(self, person_id: str) -> None:
        self._drafts.clear()
        self._draft(Person(person_id=person_id, handles=[]), {}, whole=False)
        self.write_drafts()

    def _changed(self, values: Mapping[str, Fact], contact: LedgerContact) -> dict[str, Fact]:
        return {
            name: value
            for name, value in values.items()
            if self._mark(value) != contact.written.get(name) and (value is not None or name in contact.written)
        }

    def _guard(self) -> None:
        """Of what people own, leave what is not empty and not what we wrote last."""
        guarded = {one.record_id: one for one in self._drafts.values() if one.record_id and one.standard}
        if not guarded:
            return
        names = sorted({name for draft in guarded.values() for name in draft.standard})
        queries = in_queries(CONTACT, ["Id", *names], "Id", [one for one in guarded if one])
        now = {str(one["Id"]): one for records in self._api.query_together(queries) for one in records}
        for record_id, draft in guarded.items():
            row = self._ledger.contact(draft.person.person_id)
            written = row.written if row else {}
            values = now.get(record_id or "", {})
            draft.standard = {
                name: value
                for name, value in draft.standard.items()
                if values.get(name) in {None, ""} or self._mark(values.get(name)) == written.get(name)
            }
            if not draft.values:
                del self._drafts[draft.person.person_id]
                if row is not None:
                    written = with_consents(row.written, draft.consents)
                    self._ledger.save_contact(replace(row, written=written, content_hash=draft.content_hash))

    # After writing

    def _save_one(self, draft: ContactDraft, record_id: str, *, created: bool) -> None:
        person_id = draft.person.person_id
        before = self._ledger.contact(person_id)
        if draft.record_id is None or before is None:
            before = LedgerContact(person_id, record_id, projection=True)
            self._count("contacts created" if created else "contacts found", 1)
        else:
            self._count("contacts updated", 1)
        marks = with_consents(before.written, draft.consents)
        marks |= {name: self._mark(value) for name, value in draft.values.items()}
        content_hash = None if draft.plain else draft.content_hash
        self._ledger.save_contact(replace(before, record_id=record_id, written=marks, content_hash=content_hash))

    def _link_duplicate(self, draft: ContactDraft, why: Refused) -> bool:
        """The contact that a duplicate rule names is the person's, if it is one and nobody else's."""
        person_id = draft.person.person_id
        found = why.duplicates
        if not found:
            # The row of a collection does not say which records; the same row alone does.
            values = self._fields.fit("contact", draft.values)
            row = Row(_ROW + person_id, CONTACT, values, person_id, None, self._fields.key_field("contact"))
            told = self._api.write_one(row)
            if isinstance(told, str):
                self._save_one(draft, told, created=True)
                return True
            found = told.duplicates
        key_field = self._fields.key_field("contact")
        queries = in_queries(CONTACT, ("Id", key_field), "Id", found)
        records = [one for part in self._api.query_together(queries) for one in part]
        free = [
            str(one["Id"])
            for one in records
            if self._people.is_free(str(one["Id"]), str(one.get(key_field) or ""), person_id)
        ]
        if len(free) != 1:
            self.refused[person_id] = IdentityConflictError(
                f"Salesforce: a duplicate rule finds {len(found)} contacts for person {person_id}, {len(free)} of them"
                " free to be used. Merge them in Salesforce, decide in review or set on_duplicate, and replay"
            )
            return False
        self._adopt(person_id, free[0])
        self._count("contacts linked by a duplicate rule", 1)
        own = {**draft.own}
        made = self._fields.map.find("contact", "made_by_onethread")
        own.pop(made or "", None)
        self._drafts[person_id] = replace(draft, own=own, standard={}, record_id=free[0], content_hash=None)
        return True

    def _try_plainer(self, draft: ContactDraft, why: Refused) -> bool:
        """A value that the org will not take must not keep the conversation out: once more with less."""
        person_id = draft.person.person_id
        if draft.plain:
            self.refused[person_id] = why.error
            return False
        last_name = self._fields.field("contact", "last_name")
        plain = {last_name: draft.standard[last_name]} if draft.record_id is None else {}
        own = dict(draft.own)
        if why.code == "DUPLICATE_VALUE" and draft.record_id:  # then another contact holds the person's id
            own.pop(self._fields.key_field("contact"), None)
        if plain == draft.standard and own == draft.own:
            self.refused[person_id] = why.error
            return False
        if not own and not plain:
            self.refused[person_id] = why.error
            return False
        self._drafts[person_id] = replace(draft, own=own, standard=plain, plain=True)
        return True

    # Leaving a contact

    def retire(self, contact: LedgerContact) -> None:
        """Leave a contact whose messages have moved: our fields are cleared, and an empty projection is deleted.

        Repeats: harmless.
        """
        record = self._alone_on(contact)
        if record is None:
            return
        people = self._fields.map.names("contact", owner="people")
        removable = self._settings.delete_empty_projections and contact.projection
        if removable and self._is_empty(contact, record, people) and not self._api.delete([str(record["Id"])]):
            self._count("empty contacts deleted", 1)
            return
        self._clear_ours(contact, record)

    def _alone_on(self, contact: LedgerContact) -> Mapping[str, object] | None:
        """The record of a contact that is nobody else's, with our fields and people's."""
        record_id = contact.record_id
        if record_id is None or contact.gone or len(self._ledger.contacts_of_record(record_id)) > 1:
            return None
        ours, people = (self._fields.map.names("contact", owner) for owner in ("onethread", "people"))
        columns = ["Id", *ours, *people]
        return next(iter(self._api.query_together(in_queries(CONTACT, columns, "Id", [record_id]))[0]), None)

    def _clear_ours(self, contact: LedgerContact, record: Mapping[str, object]) -> Refused | None:
        """Empty our fields; why they could not be emptied."""
        ours = self._fields.map.names("contact", owner="onethread")
        keep = {self._fields.map.find("contact", "made_by_onethread")}
        key_field = self._fields.key_field("contact")
        if record.get(key_field) != contact.person_id:
            keep.add(key_field)
        clear: dict[str, Fact] = {name: None for name in ours if name not in keep and record.get(name) is not None}
        if not clear:
            return None
        key = _ROW + contact.person_id
        return self._api.write([Row(key, CONTACT, clear, contact.person_id, str(record["Id"]))]).refused.get(key)

    def _is_empty(self, contact: LedgerContact, record: Mapping[str, object], people: Sequence[str]) -> bool:
        """Whether nobody has worked on a contact; what cannot be asked counts as worked on."""
        values = {name: record.get(name) for name in people}
        if any(value and self._mark(value) != contact.written.get(name) for name, value in values.items()):
            return False
        if contact.record_id is None or self._ledger.count_on_contact(contact.record_id):
            return False
        queries = [
            query
            for kind in _WORK
            for query in in_queries(
                kind, ("Id",), _WORK_LOOKUPS.get(kind, "ContactId"), [contact.record_id], " LIMIT 1"
            )
        ]
        for answer in self._api.query_each(queries):
            absent = answer.status == 400 and "INVALID_TYPE" in str(answer.body)
            if not absent and (not answer.ok or answer.body.get("records")):
                return False
        return True

    def clear(self, contact: LedgerContact) -> bool:
        """Empty our fields on the contact of an erased person; everything else on it is people's to delete.

        Whether there was a contact to clear. Repeats: harmless.

        Raises:
            RejectedError: the org does not let us.
        """
        record = self._alone_on(contact)
        if record is None:
            return False
        refused = self._clear_ours(contact, record)
        if refused is not None and not refused.missing:
            raise refused.error
        return True

    def erase(self, record_id: str) -> int:
        """Delete a contact that we made for good, from the recycle bin too."""
        failed = self._api.delete([record_id])
        if failed:
            raise next(iter(failed.values())).error
        self._api.empty_bin([record_id])
        return 1

    def _mark(self, value: object) -> str:
        return self._ledger.fingerprint(_text(value))


def _text(value: object) -> str:
    return "" if value is None else str(value)
