"""Which Tryton party is a person's; made where there is none, and kept up to date.

In this order: the party that a person made and the identity graph knows; the one in the ledger; one that carries our
identifier or one of the person's e-mail addresses or numbers; else a new one. Nothing that we did not write last is
overwritten: of a party that people made nothing but the identifier and the contact mechanisms that we add (never
change); of one that we made also its name, while it is still ours or empty.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mappings.contact_points import normalize_email, normalize_phone
from mappings.errors import IdentityConflictError, RejectedError, UnavailableError
from mappings.from_tryton import PLATFORM, is_ours, person_of_code
from mappings.records import Person
from mappings.to_tryton import (
    MADE_PREFIX,
    mechanism_values,
    mechanisms_of,
    party_facts,
    party_values,
    person_code,
    resource_of,
)
from stores.ledger import Ledger, LedgerContact
from targets.crm_contacts import CrmContacts, Refusals
from targets.crm_people import CrmPeople
from targets.tryton.api import ATTACHMENT, IDENTIFIER, MECHANISM, NOTE, PARTY, Row, TrytonApi, chunks
from targets.tryton.links import Links
from targets.tryton.mechanisms import ON, identifier_commands, mark_of, party_update, person_of, with_plain_addresses
from targets.tryton.settings import TrytonTargetSettings

_ROUNDS = 3
_EMAILS_PER_SEARCH = 100


@dataclass(frozen=True, slots=True)
class _Found:
    """A party that may be a person's: who we wrote on it, and whether we made it."""

    person_id: str
    made: bool


class Parties(CrmContacts):
    """The parties of one Tryton database. Called under the account's create-lock."""

    crm = PLATFORM
    noun = "party"
    nouns = "parties"
    looks_before_adopting = True

    def __init__(
        self,
        api: TrytonApi,
        ledger: Ledger,
        links: Links,
        people: CrmPeople,
        settings: TrytonTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        super().__init__(ledger, links, people, count)
        self._api = api
        self._settings = settings

    def write(self, persons: Iterable[Person]) -> Refusals:
        """Make or find the parties of persons who have messages, and write what has changed."""
        wanted = self._wanted(persons)
        for person in wanted:
            self._refused_before.pop(person.person_id, None)
        refused = self._find_or_create(wanted)
        return refused | self._update([person for person in wanted if person.person_id not in refused])

    def _make(self, persons: list[Person]) -> Refusals:
        refused = self._find_or_create(persons)
        self._update([person for person in persons if person.person_id not in refused])
        return refused

    def retire(self, contact: LedgerContact) -> None:
        """Leave a party whose notes have moved: what we added goes, and an empty one of ours is deactivated.

        Repeats: harmless.
        """
        record_id = contact.record_id
        if record_id is None or len(self._ledger.contacts_of_record(record_id)) > 1:
            return
        party = next(iter(self._api.read_where(PARTY, "id", [int(record_id)], ["name", "active", "addresses"])), None)
        if party is None or not party.get("active"):
            return
        if contact.projection and self._settings.deactivate_empty_parties and self._is_empty(contact, party):
            # Its identifier stays: should the person come back, the same party is activated again. Name and addresses
            # go, so that an erasure of the person leaves none behind on a party that nobody knows any more.
            self._remove_mechanisms(self._mechanisms_of([record_id]))
            self._api.write_all(PARTY, [record_id], {"active": False, "name": None})
            self._count("empty parties deactivated", 1)
        else:
            self.clear(contact)

    def clear(self, contact: LedgerContact) -> bool:
        """Take what we added for a person from a party that stays; whether the party is there.

        Repeats: harmless.
        """
        record_id = contact.record_id or ""
        if not self._api.read_where(PARTY, "id", [int(record_id)], ["id"]):
            return False
        others = [one for one in self._ledger.contacts_of_record(record_id) if one.person_id != contact.person_id]
        theirs = {name for one in others for name in one.written}
        ours = [row for row in self._mechanisms_of([record_id]) if is_ours(row)]
        marks = {str(row["id"]): mark_of(row, self._ledger) for row in ours}
        self._remove_mechanisms(
            row
            for row in ours
            if (mark := marks[str(row["id"])]) not in theirs and (not others or mark in contact.written)
        )
        codes = self._codes_of([record_id], active=(True, False) if not others else (True,))
        mine = [row for row in codes if not others or person_of(row) == contact.person_id]
        self._api.delete(IDENTIFIER, [str(one["id"]) for one in mine])
        if not others:
            replaced = [["replaced_by", "=", int(record_id)], ["create_uid", "=", self._api.user_id]]
            for row in self._api.search_read(PARTY, replaced, ["id"]):
                self.erase(str(row["id"]))
        return True

    def erase(self, record_id: str) -> int:
        """Erase a party for good, with all that is on it and with those that it replaced; how many were there.

        By Tryton's own wizard, which takes archived parties only: nothing else may change what is archived (observed).

        Repeats: harmless.
        """
        party = next(iter(self._api.read_where(PARTY, "id", [int(record_id)], ["active"])), None)
        if party is None:
            return 0
        if party.get("active"):
            self._api.write_all(PARTY, [record_id], {"active": False})
        self._api.run_wizard("party.erase", record_id, {"ask": {"party": int(record_id)}}, "erase")
        return 1

    def _remove_mechanisms(self, rows: Iterable[Row]) -> None:
        """Delete mechanisms; those that something else in Tryton needs are emptied instead."""
        record_ids = [str(row["id"]) for row in rows]
        try:
            self._api.delete(MECHANISM, record_ids)
        except RejectedError:
            empty = {"type": "other", "value": "****", "name": None, "comment": None, "active": False}
            self._api.write_all(MECHANISM, record_ids, empty)

    # Finding and making

    def _find_or_create(self, persons: Sequence[Person]) -> Refusals:
        unknown = [person for person in persons if not self._is_known(person)]
        not_switched = self._take_not_switched()
        if not unknown:
            return not_switched
        unknown = self._adopt_by_identifier(unknown)
        to_create, refused = self._adopt_by_address(unknown)
        return not_switched | refused | self._create(to_create)

    def _adopt_by_identifier(self, persons: Sequence[Person]) -> list[Person]:
        """Parties that carry the person's id: made by a run that did not live to note it. Returns the others."""
        by_id = {person.person_id: person for person in persons}
        codes = [person_code(one, made=made) for one in by_id for made in (True, False)]
        fields = ["code", "party", "party.active", "party.replaced_by"]
        for row in self._api.read_where(IDENTIFIER, "code", codes, fields):
            party, person_id = row.get("party."), person_of(row)
            if not isinstance(party, dict) or party.get("replaced_by") or person_id not in by_id:
                continue
            made = str(row["code"]).startswith(MADE_PREFIX)
            if not party.get("active"):
                if not made:
                    continue
                self._api.write_all(PARTY, [str(row["party"])], {"active": True})
            del by_id[person_id]
            self._adopt(person_id, str(row["party"]), projection=made)
        return list(by_id.values())

    def _adopt_by_address(self, persons: Sequence[Person]) -> tuple[list[Person], Refusals]:
        """Parties with one of the person's addresses or numbers. Returns whom to create, and whom nobody can place."""
        on = self._parties_by_address(persons)
        found = self._found({record_id for records in on.values() for record_id in records})
        to_create: list[Person] = []
        refused: Refusals = {}
        for person in persons:
            records = [one for address in _addresses_of(person) for one in sorted(on.get(address, ()), key=int)]
            free = {
                one: found[one]
                for one in dict.fromkeys(records)
                if self._people.is_free(one, found[one].person_id, person.person_id)
            }
            made_by_people = [one for one, party in free.items() if not party.made]
            if person.shared_line or not free:
                to_create.append(person)
            elif len(made_by_people) > 1:
                what_to_do = "Replace one by the other in Tryton"
                reason = self._same_addresses(person.person_id, made_by_people, what_to_do)
                refused[person.person_id] = IdentityConflictError(reason)
            else:
                chosen = made_by_people[0] if made_by_people else min(free, key=int)
                self._adopt(person.person_id, chosen, projection=free[chosen].made)
        return to_create, refused

    def _parties_by_address(self, persons: Sequence[Person]) -> dict[tuple[str, str], set[str]]:
        """(kind, address) -> the live parties on which people wrote it."""
        addresses = list(dict.fromkeys(one for person in persons for one in _addresses_of(person)))
        phones = [value for kind, value in addresses if kind == "phone"]
        fields = ["party", "party.active", "type", "value", "comment"]
        rows = self._api.read_where(MECHANISM, "value_compact", phones, fields, [["active", "=", True]])
        for chunk in chunks([value for kind, value in addresses if kind == "email"], _EMAILS_PER_SEARCH):
            same = [["value", "ilike", _literally(one)] for one in chunk]
            rows += self._api.search_read(
                MECHANISM, [["type", "=", "email"], ["active", "=", True], ["OR", *same]], fields
            )
        on: dict[tuple[str, str], set[str]] = {}
        for row in rows:
            party, value = row.get("party."), str(row.get("value"))
            if is_ours(row) or not isinstance(party, dict) or not party.get("active"):
                continue
            kind = "email" if row.get("type") == "email" else "phone"
            address = normalize_email(value) if kind == "email" else normalize_phone(value)
            if address:
                on.setdefault((kind, address), set()).add(str(row["party"]))
        return on

    def _found(self, record_ids: Iterable[str]) -> dict[str, _Found]:
        wanted = list(record_ids)
        codes = {str(row["party"]): str(row["code"]) for row in self._codes_of(wanted)}
        return {
            one: _Found(person_of_code(codes.get(one)) or "", codes.get(one, "").startswith(MADE_PREFIX))
            for one in wanted
        }

    def _create(self, persons: Sequence[Person]) -> Refusals:
        values = {person.person_id: party_values(person) for person in persons}
        refused = self._create_once(persons, values)
        for more in ({"plain": True}, {"bare": True}):
            # An address that the server takes for invalid must not keep the conversation out.
            again = [person for person in persons if person.person_id in refused and mechanisms_of(person)]
            if again:
                values = {person.person_id: party_values(person, **more) for person in again}
                refused = {one: why for one, why in refused.items() if one not in values}
                refused |= self._create_once(again, values)
        return dict(refused)

    def _create_once(self, persons: Sequence[Person], values: Mapping[str, Row]) -> dict[str, RejectedError]:
        waiting = {person.person_id: person for person in persons}
        refused: dict[str, RejectedError] = {}
        for _ in range(_ROUNDS):
            if not waiting:
                return refused
            made = self._api.create_each(PARTY, {one: values[one] for one in waiting})
            with self._ledger.transaction():
                for person_id, record_id in made.ids.items():
                    person = waiting[person_id]
                    marks = self._marks_of(person, values[person_id])
                    content_hash = self._ledger.content_hash(party_facts(person))
                    self._ledger.save_contact(LedgerContact(person_id, record_id, True, content_hash, marks))
            self._count("parties created", len(made.ids))
            refused |= made.refused
            if made.unknown and self._settings.settle_wait_seconds:
                time.sleep(self._settings.settle_wait_seconds)  # a slow server may still be writing
            rest = self._adopt_by_identifier([waiting[one] for one in made.unknown]) if made.unknown else []
            waiting = {person.person_id: person for person in rest}
        msg = "Tryton: creating parties keeps ending without an answer; run again later, nothing is written twice"
        raise UnavailableError(msg)

    def _marks_of(self, person: Person, values: Row) -> dict[str, str]:
        """What we wrote on a new party."""
        marks = {"name": self._ledger.fingerprint(str(values["name"]))}
        if "contact_mechanisms" in values:
            marks |= {mark_of(mechanism_values(one), self._ledger): ON for one in mechanisms_of(person)}
        return marks

    # Writing

    def _update(self, persons: Sequence[Person]) -> Refusals:
        """Write what differs from what we wrote last; looks at the parties only if we have something new to say."""
        changed: dict[str, tuple[Person, LedgerContact]] = {}
        for person in persons:
            contact = self.of(person.person_id)
            if contact is None or contact.record_id is None or contact.gone:
                continue
            if self._ledger.content_hash(party_facts(person)) != contact.content_hash:
                changed[contact.record_id] = (person, contact)
        if not changed:
            return {}
        names = {
            str(row["id"]): str(row.get("name") or "")
            for row in self._api.read_where(PARTY, "id", map(int, changed), ["name"])
        }
        rows = self._mechanisms_of(changed)
        codes = self._codes_of(changed)
        updates: dict[str, Row] = {}
        after: dict[str, LedgerContact] = {}
        for record_id, (person, contact) in changed.items():
            if record_id not in names:
                self._links.survivors([record_id])
                continue
            values, marks = party_update(person, contact, names[record_id], _on(record_id, rows), self._ledger)
            identifiers = identifier_commands(person.person_id, contact, _on(record_id, codes))
            if identifiers:
                values["identifiers"] = identifiers
            content_hash = self._ledger.content_hash(party_facts(person))
            after[record_id] = replace(contact, content_hash=content_hash, written=marks)
            if values:
                updates[record_id] = values
        refused = self._api.write_each(PARTY, updates)
        if refused:
            # Once more, with addresses that the server does not check; then each record's own refusal.
            refused = self._api.write_each(PARTY, {one: with_plain_addresses(updates[one]) for one in refused})
        with self._ledger.transaction():
            for record_id, contact in after.items():
                if record_id not in refused:
                    self._ledger.save_contact(contact)
        self._count("parties updated", len(updates.keys() - refused.keys()))
        return {changed[record_id][0].person_id: error for record_id, error in refused.items()}

    # Small questions

    def _mechanisms_of(self, record_ids: Iterable[str]) -> list[Row]:
        fields = ["party", "type", "value", "comment", "active", "name"]
        return self._api.read_where(MECHANISM, "party", map(int, record_ids), fields)

    def _codes_of(self, record_ids: Iterable[str], *, active: Sequence[bool] = (True,)) -> list[Row]:
        """Identifiers of ours on these parties; those of parties that were replaced are not active."""
        ours = [["code", "like", "onethread%"], ["active", "in", list(active)]]
        return self._api.read_where(IDENTIFIER, "party", map(int, record_ids), ["party", "code"], ours)

    def _is_empty(self, contact: LedgerContact, party: Row) -> bool:
        """Whether nobody but us has put anything on a party."""
        name = str(party.get("name") or "")
        if party.get("addresses") or (name and self._ledger.fingerprint(name) != contact.written.get("name")):
            return False
        if not all(map(is_ours, self._mechanisms_of([str(party["id"])]))):
            return False
        on_it = [["resource", "=", resource_of(str(party["id"]))]]
        if any(
            row.get("create_uid") != self._api.user_id for row in self._api.search_read(NOTE, on_it, ["create_uid"])
        ):
            return False
        return not self._api.search_read(ATTACHMENT, on_it, ["id"])


def _addresses_of(person: Person) -> list[tuple[str, str]]:
    """The handles by which a party can be found: they are the same everywhere."""
    return [(one.kind, one.value) for one in person.handles if one.kind in {"email", "phone"}]


def _on(record_id: str, rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if str(row.get("party")) == record_id]


def _literally(text: str) -> str:
    """`text` for ``ilike``, without its wildcards."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
