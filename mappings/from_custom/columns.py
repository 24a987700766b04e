"""A row of a table (CSV) as a record of the contract: which column is which field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mappings.errors import PayloadError, SettingsError

COLUMNS: Mapping[str, str] = {
    "kind": "kind",
    "id": "id",
    "sent_at": "sent_at",
    "direction": "direction",
    "customer_id": "who.id",
    "email": "who.email",
    "phone": "who.phone",
    "name": "who.name",
    "username": "who.username",
    "verified": "who.verified",
    "text": "text",
    "subject": "subject",
    "thread": "thread",
    "reply_to": "reply_to",
    "account": "account",
    "author": "author.name",
    "author_kind": "author.kind",
    "attachment_url": "attachments",
    "consent": "consent.status",
    "call_seconds": "call.seconds",
    "call_result": "call.result",
    "recording_url": "call.recording_url",
}
"""Name of a column -> where it stands in the record. A column of any other name becomes one of `fields`."""

LEFT_OUT = "-"
"""What a column is mapped to whose values nobody needs."""

_YES_NO: Mapping[str, bool] = {
    "yes": True, "true": True, "1": True, "y": True, "no": False, "false": False, "0": False, "n": False,
}  # fmt: skip


def places_of(header: Iterable[str], mapping: Mapping[str, str]) -> list[str | None]:
    """Where each column stands in a record: a path of `COLUMNS`, ``fields.<name>``, or ``None`` for one left out.

    Args:
        header: the names of the columns as the file has them; case and outer spaces do not matter for known ones.
        mapping: name in the file -> name in `COLUMNS`, or `LEFT_OUT`.

    Raises:
        SettingsError: the mapping names a column that is not there or a field that is not known; or two columns are
            the same field.
    """
    names = [name.strip() for name in header]
    absent = [name for name in mapping if name not in names]
    if absent:
        msg = f"no column {', '.join(map(repr, absent))}; there are: {', '.join(map(repr, names))}"
        raise SettingsError(msg)
    wrong = sorted({field for field in mapping.values() if field not in COLUMNS and field != LEFT_OUT})
    if wrong:
        msg = f"no field {', '.join(map(repr, wrong))}; the fields are {', '.join(COLUMNS)}, and {LEFT_OUT} leaves out"
        raise SettingsError(msg)
    places = [_place(name, mapping) for name in names]
    known = [place for place in places if place is not None]
    twice = sorted({place for place in known if known.count(place) > 1})
    if twice:
        msg = f"several columns are {', '.join(twice)}; map all but one of them to {LEFT_OUT}"
        raise SettingsError(msg)
    return places


def record_from_row(values: Iterable[str], places: list[str | None]) -> dict[str, Any]:
    """The record of one row; an empty value is absent, an absent kind is ``message``.

    Raises:
        PayloadError: the row has more values or fewer than the header, or one that says neither yes nor no.
    """
    values = list(values)
    if len(values) != len(places):
        msg = f"the row has {len(values)} values, the header {len(places)}; a value with a separator needs quotes"
        raise PayloadError(msg)
    record: dict[str, Any] = {"kind": "message"}
    for value, place in zip(values, places, strict=True):
        if place is None or not value.strip():
            continue
        group, _, name = place.partition(".")
        if name:
            record.setdefault(group, {})[name] = _typed(value, place)
        else:
            record[group] = _typed(value, place)
    return record


def _place(name: str, mapping: Mapping[str, str]) -> str | None:
    field = mapping.get(name)
    if field == LEFT_OUT or not name:
        return None
    return COLUMNS.get(field or name.lower()) or f"fields.{name}"


def _typed(value: str, place: str) -> Any:
    match place:
        case "who.verified":
            if (known := _YES_NO.get(value.strip().lower())) is None:
                msg = "verified: says neither yes nor no"
                raise PayloadError(msg)
            return known
        case "attachments":
            return [{"url": url} for url in value.split()]
        case "text" | "subject":
            return value
        case _ if place.startswith("fields."):
            return value
        case _:
            return value.strip()
