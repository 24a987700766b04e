"""Search as HubSpot describes it, over records that the index can see. Pure: records and a request in, a page out.

Source: developers.hubspot.com/docs/api-reference/2026-03/crm/search-the-crm, second-hand, 2026-09-21, and the
enumeration of ``Filter.operator`` in hubspot-api-client 12.0.0; documented. How text matches: assumed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sandbox.hubspot.objects import ObjectType, Record
from sandbox.hubspot.properties import Definition, Properties, instant
from sandbox.hubspot.refusals import invalid

GROUP_LIMIT = 6
FILTER_LIMIT = 18
PAGE_LIMIT = 200
RESULT_LIMIT = 10_000
QUERY_LIMIT = 3000
OPERATORS = (
    "EQ", "NEQ", "LT", "LTE", "GT", "GTE", "BETWEEN", "IN", "NOT_IN", "HAS_PROPERTY", "NOT_HAS_PROPERTY",
    "CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN",
)  # fmt: skip
_QUERIED = ("email", "firstname", "lastname", "phone", "company", "hs_communication_body")

_Comparable = float | str
_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "EQ": lambda left, right: left == right,
    "LT": lambda left, right: left < right,
    "LTE": lambda left, right: left <= right,
    "GT": lambda left, right: left > right,
    "GTE": lambda left, right: left >= right,
}


@dataclass(frozen=True, slots=True)
class Page:
    """One page of results, and where the next one starts (``None`` at the end)."""

    total: int
    records: list[Record]
    next_after: int | None


def search(kind: ObjectType, properties: Properties, records: Sequence[Record], body: Mapping[str, Any]) -> Page:
    """The records that `body` (a ``PublicObjectSearchRequest``) asks for."""
    groups = _groups(body)
    limit, after = _whole(body, "limit", 10), _whole(body, "after", 0)
    if not 1 <= limit <= PAGE_LIMIT:
        raise invalid(f"limit must be between 1 and {PAGE_LIMIT}")
    if after + limit > RESULT_LIMIT:
        raise invalid(f"Search results end at {RESULT_LIMIT}")
    query = str(body.get("query") or "").lower()
    if len(query) > QUERY_LIMIT:
        raise invalid(f"query is longer than {QUERY_LIMIT} characters")
    tests = [[_test(kind, properties, one) for one in group] for group in groups]
    found = [
        record
        for record in records
        if (not tests or any(all(test(record) for test in group) for group in tests)) and _queried(record, query)
    ]
    _sort(kind, properties, found, body.get("sorts") or [])
    end = after + limit
    return Page(len(found), found[after:end], end if end < min(len(found), RESULT_LIMIT) else None)


def _groups(body: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    groups = [list(one.get("filters") or []) for one in body.get("filterGroups") or []]
    if len(groups) > GROUP_LIMIT:
        raise invalid(f"At most {GROUP_LIMIT} filterGroups")
    if sum(len(group) for group in groups) > FILTER_LIMIT:
        raise invalid(f"At most {FILTER_LIMIT} filters")
    return groups


def _whole(body: Mapping[str, Any], key: str, default: int) -> int:
    value = body.get(key)
    if value in {None, ""}:
        return default
    try:
        return max(0, int(str(value)))
    except ValueError:
        raise invalid(f"{key} must be a whole number") from None


def _test(kind: ObjectType, properties: Properties, wanted: Mapping[str, Any]) -> Callable[[Record], bool]:
    name, operator = wanted.get("propertyName"), wanted.get("operator")
    definition = properties.find(kind, str(name))
    if definition is None:
        raise invalid(f"There was a problem with the request: unknown property {name}")
    if operator not in OPERATORS:
        raise invalid(f"Unknown operator {operator}")
    if operator in {"HAS_PROPERTY", "NOT_HAS_PROPERTY"}:
        if wanted.get("value") is not None:
            raise invalid(f"{operator} takes no value")
        return lambda record: (record.value(definition.name) is not None) == (operator == "HAS_PROPERTY")
    if operator.startswith("NOT_") or operator == "NEQ":
        plain = {"NEQ": "EQ", "NOT_IN": "IN", "NOT_CONTAINS_TOKEN": "CONTAINS_TOKEN"}[operator]
        holds = _positive(definition, plain, wanted)
        return lambda record: record.value(definition.name) is not None and not holds(record)
    return _positive(definition, operator, wanted)


def _positive(definition: Definition, operator: str, wanted: Mapping[str, Any]) -> Callable[[Record], bool]:
    if operator == "CONTAINS_TOKEN":
        pattern = str(_needed(wanted, "value")).lower()
        return lambda record: _has_token(record.value(definition.name), pattern)
    if operator == "IN":
        values = wanted.get("values")
        if not isinstance(values, list) or not values:
            raise invalid("IN needs values")
        choices = {_comparable(definition, str(value)) for value in values}
        return _having(definition, lambda value: value in choices)
    low = _comparable(definition, str(_needed(wanted, "value")))
    if operator == "BETWEEN":
        high = _comparable(definition, str(_needed(wanted, "highValue")))
        return _having(definition, lambda value: low <= value <= high)  # type: ignore[operator]
    return _having(definition, lambda value: _ORDERINGS[operator](value, low))


def _needed(wanted: Mapping[str, Any], key: str) -> object:
    value = wanted.get(key)
    if value is None:
        raise invalid(f"{wanted.get('operator')} needs {key}")
    return value


def _having(definition: Definition, holds: Callable[[_Comparable], bool]) -> Callable[[Record], bool]:
    def test(record: Record) -> bool:
        value = record.value(definition.name)
        return value is not None and holds(_comparable(definition, value))

    return test


def _comparable(definition: Definition, text: str) -> _Comparable:
    if definition.type in {"date", "datetime"}:
        moment = instant(text)
        if moment is None:
            raise invalid(f"{definition.name} is compared with a date or with milliseconds")
        return moment.timestamp()
    if definition.type == "number":
        try:
            return float(text)
        except ValueError:
            raise invalid(f"{definition.name} is compared with a number") from None
    return text if definition.type == "enumeration" else text.lower()


def _has_token(value: str | None, pattern: str) -> bool:
    if value is None:
        return False
    text = value.lower()
    return any(fnmatchcase(token, pattern) for token in (text, *text.split(), *re.split(r"[^\w]+", text)))


def _queried(record: Record, query: str) -> bool:
    return not query or any(query in (record.value(name) or "").lower() for name in _QUERIED)


def _sort(kind: ObjectType, properties: Properties, found: list[Record], sorts: Sequence[Any]) -> None:
    if len(sorts) > 1:
        raise invalid("At most one sort")
    found.sort(key=lambda record: int(record.record_id))
    if not sorts:
        return
    wanted = sorts[0]
    name = wanted.get("propertyName") if isinstance(wanted, dict) else str(wanted).removeprefix("-")
    backward = wanted.get("direction") == "DESCENDING" if isinstance(wanted, dict) else str(wanted).startswith("-")
    definition = properties.find(kind, str(name))
    if definition is None:
        raise invalid(f"There was a problem with the request: unknown property {name}")
    have = [record for record in found if record.value(definition.name) is not None]
    have.sort(key=lambda one: _comparable(definition, one.value(definition.name) or ""), reverse=backward)
    lack = [record for record in found if record.value(definition.name) is None]
    found[:] = [*have, *lack]
