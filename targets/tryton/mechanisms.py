"""What is to be written on a party that is there: its name, contact mechanisms and our identifier. Calls nothing.

Nothing that we did not write last is overwritten, and what somebody switched off stays off; the ledger's marks of a
party say what we wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mappings.contact_points import normalize_email, normalize_phone
from mappings.from_tryton import is_ours, person_of_code
from mappings.records import Person
from mappings.to_tryton import mechanism_values, mechanisms_of, party_name, person_code
from stores.ledger import Ledger, LedgerContact
from targets.tryton.api import Row

ON, OFF = "on", "off"
"""What a mark says of a mechanism: that we made it, or switched it off."""


def party_update(
    person: Person, contact: LedgerContact, name_now: str, rows: Sequence[Row], ledger: Ledger
) -> tuple[Row, dict[str, str]]:
    """What to write on a party, and what is then ours on it.

    Args:
        person: as it is now.
        contact: the ledger's row of the party.
        name_now: the party's name.
        rows: its mechanisms, those that are off too.
        ledger: makes fingerprints.
    """
    values: Row = {}
    marks = dict(contact.written)
    name = party_name(person)
    free = not name_now or ledger.fingerprint(name_now) == marks.get("name")
    if contact.projection and name != name_now and free:
        values["name"] = name
        marks["name"] = ledger.fingerprint(name)
    wanted = mechanisms_of(person)
    commands: list[list[Any]] = []
    to_create = []
    for one in wanted:
        same = [row for row in rows if _address(row) == _address(mechanism_values(one))]
        off = [row for row in same if not row.get("active") and is_ours(row)]
        if any(row.get("active") for row in same):
            continue
        if marks.get(mark_of(mechanism_values(one), ledger)) == ON and same:
            continue  # somebody switched ours off
        if off:
            commands.append(["write", [off[0]["id"]], {"active": True}])
        elif not same:
            to_create.append(mechanism_values(one))
        else:
            continue
        marks[mark_of(mechanism_values(one), ledger)] = ON
    there = {_address(mechanism_values(one)) for one in wanted}
    left = [row for row in rows if is_ours(row) and row.get("active") and _address(row) not in there]
    if left:
        commands.append(["write", [row["id"] for row in left], {"active": False}])
        marks |= {mark_of(row, ledger): OFF for row in left}
    if to_create:
        commands.append(["create", to_create])
    if commands:
        values["contact_mechanisms"] = commands
    return values, marks


def mark_of(row: Mapping[str, Any], ledger: Ledger) -> str:
    """Under which name the ledger notes what we did about a mechanism."""
    return f"mechanism {ledger.fingerprint(' '.join(_address(row)))}"


def identifier_commands(person_id: str, contact: LedgerContact, codes: Iterable[Row]) -> list[list[Any]]:
    """What makes the person's identifier on a party the right one."""
    code = person_code(person_id, made=contact.projection)
    of_person = {str(row["code"]): row["id"] for row in codes if person_of(row) == person_id}
    stale = [one for found, one in of_person.items() if found != code]
    commands: list[list[Any]] = [["delete", stale]] if stale else []
    return commands if code in of_person else [*commands, ["create", [{"code": code}]]]


def with_plain_addresses(values: Row) -> Row:
    """The same with addresses as type ``other``, which the server does not check."""
    commands = [
        [kind, [{**row, "type": "other"} for row in rows[0]]] if kind == "create" else [kind, *rows]
        for kind, *rows in values.get("contact_mechanisms", [])
    ]
    return {**values, "contact_mechanisms": commands} if commands else values


def person_of(identifier: Row) -> str:
    """The person whom an identifier of ours names, else empty."""
    return person_of_code(str(identifier.get("code"))) or ""


def _address(row: Mapping[str, Any]) -> tuple[str, str]:
    """What makes two mechanisms the same, whoever typed them and as which type."""
    value = str(row.get("value") or "")
    kind = str(row.get("type"))
    if kind == "other" and row.get("name") in {"email", "mobile"}:
        kind = str(row["name"])  # written plainly, because the server took it for invalid
    if kind == "email":
        return kind, normalize_email(value) or value
    return ("phone", normalize_phone(value) or value) if kind in {"phone", "mobile"} else (kind, value)
