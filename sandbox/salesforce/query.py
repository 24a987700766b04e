"""Queries answered from the org's records.

Source: developer.salesforce.com, "SOQL and SOSL Reference" and REST API Developer Guide, "Query", second-hand, 2026-10
(documented): up to 2,000 rows a page, which may be shorter; text compares without regard to case; long text areas are
neither filtered nor sorted by; a date or datetime literal has no quotes.
"""

from __future__ import annotations

import datetime as dt
import operator
import re
from collections.abc import Callable
from functools import cmp_to_key
from typing import Any

from sandbox.salesforce.access import User
from sandbox.salesforce.ids import read_id
from sandbox.salesforce.org import Org, Record
from sandbox.salesforce.refusals import Refusal, no_such_column
from sandbox.salesforce.schema import NUMBER_TYPES, TEXT_TYPES, Field, ObjectType
from sandbox.salesforce.soql import Comparison, Group, Literal, Query, parse_soql
from sandbox.salesforce.values import moment, stamp

PARENT_LEVELS = 5
Path = list[tuple[str, Field]]  # (the relationship's name as asked, the field); the last entry is the field itself


class QueryRunner:
    """Runs SOQL for one user."""

    def __init__(self, org: Org, user: User, version: str) -> None:
        self._org = org
        self._user = user
        self._version = version

    def run(self, text: str, *, deleted: bool = False) -> tuple[Query, list[Record]]:
        """The statement, and the rows it finds as REST shows them.

        Raises:
            Refusal: MALFORMED_QUERY, INVALID_TYPE, INVALID_FIELD ...
        """
        query = parse_soql(text)
        kind = self._org.schema.find(query.object_name)
        if kind is None or not self._org.may(self._user, kind, "read"):
            raise Refusal("INVALID_TYPE", f"sObject type '{query.object_name}' is not supported. If you are attempting "
                          "to use a custom object, be sure to append the '__c' after the entity name.")  # fmt: skip
        selected = [self._path(kind, one) for one in query.fields]
        if len({one.lower() for one in query.fields}) < len(query.fields):
            raise Refusal("INVALID_FIELD", "duplicate field selected")
        fits = self._test(kind, query.where) if query.where else lambda _: True
        orders = [(self._sortable(kind, path), down, last) for path, down, last in query.order_by]
        records = list(self._org.table(kind.name).values()) if deleted else self._org.live(kind.name)
        found = [one for one in records if fits(one)]
        if orders:
            found.sort(key=cmp_to_key(lambda one, other: self._compare(orders, one, other)))
        found = found[query.offset :][: query.limit if query.limit is not None else None]
        return query, [self.shown(kind, one, selected) for one in found]

    def shown(self, kind: ObjectType, record: Record, paths: list[Path]) -> Record:
        """A record with these fields, parents nested, in the shape of a REST answer."""
        answer: Record = {"attributes": self.attributes(kind, record["Id"])}
        for path in paths:
            place, current_kind, current = answer, kind, record
            for name, lookup in path[:-1]:
                parent = self._parent(current, lookup)
                if parent is None:
                    place[name] = None
                    break
                current_kind, current = parent
                if place.get(name) is None:
                    place[name] = {"attributes": self.attributes(current_kind, current["Id"])}
                place = place[name]
            else:
                place[path[-1][0]] = _shown_value(self._version, current_kind, current, path[-1][1])
        return answer

    def attributes(self, kind: ObjectType, record_id: str) -> dict[str, str]:
        """The `attributes` of a record."""
        return {"type": kind.name, "url": f"/services/data/{self._version}/sobjects/{kind.name}/{record_id}"}

    def _path(self, kind: ObjectType, name: str) -> Path:
        parts = name.split(".")
        if parts[0].lower() == kind.name.lower() and len(parts) > 1 and kind.relationship(parts[0]) is None:
            parts = parts[1:]  # SELECT Contact.Id FROM Contact
        if len(parts) - 1 > PARENT_LEVELS:
            raise Refusal("INVALID_FIELD", f"No more than {PARENT_LEVELS} parent relationships may be followed: {name}")
        path: Path = []
        for part in parts[:-1]:
            lookup = kind.relationship(part)
            if lookup is None or not self._org.sees(self._user, kind, lookup):
                raise self._unknown(kind, part, relationship=True)
            path.append((str(lookup.relationship_name), lookup))
            kind = self._org.schema.get(lookup.reference_to[0])
        found = kind.find(parts[-1])
        if found is None or not self._org.sees(self._user, kind, found):
            raise self._unknown(kind, parts[-1])
        return [*path, (found.name, found)]

    @staticmethod
    def _unknown(kind: ObjectType, name: str, *, relationship: bool = False) -> Refusal:
        if relationship:
            return Refusal(
                "INVALID_FIELD",
                f"Didn't understand relationship '{name}' in field path. If you are attempting"
                " to use a custom relationship, be sure to append the '__r' after the custom relationship name.",
            )
        told = no_such_column(kind.name, name).message.replace("sobject of type ", "entity '") + "'. "
        return Refusal("INVALID_FIELD", told + "If you are attempting to use a custom field, be sure to append the "
                       "'__c' after the custom field name.")  # fmt: skip

    def _parent(self, record: Record, lookup: Field) -> tuple[ObjectType, Record] | None:
        kind = self._org.schema.of_id(record.get(lookup.name) or "")
        found = self._org.table(kind.name).get(record[lookup.name]) if kind else None
        return (kind, found) if kind and found else None

    def _value(self, record: Record, path: Path) -> Any:
        current: Record | None = record
        for _, lookup in path[:-1]:
            parent = self._parent(current, lookup) if current else None
            current = parent[1] if parent else None
        return current.get(path[-1][0]) if current else None

    def _sortable(self, kind: ObjectType, name: str) -> Path:
        path = self._path(kind, name)
        if not path[-1][1].filterable:
            raise Refusal("MALFORMED_QUERY", f"field '{path[-1][0]}' can not be sorted in a query call")
        return path

    def _compare(self, orders: list[tuple[Path, bool, bool]], one: Record, other: Record) -> int:
        for path, down, empty_last in orders:
            field = path[-1][1]
            left, right = _folded(field, self._value(one, path)), _folded(field, self._value(other, path))
            if left == right:
                continue
            if left is None or right is None:
                return (1 if left is None else -1) * (1 if empty_last else -1)
            return (-1 if left < right else 1) * (-1 if down else 1)
        return 0

    def _test(self, kind: ObjectType, condition: Any) -> Callable[[Record], bool]:
        if isinstance(condition, Group):
            tests = [self._test(kind, one) for one in condition.parts]
            if condition.operator == "not":
                return lambda record: not tests[0](record)
            joined = all if condition.operator == "and" else any
            return lambda record: joined(one(record) for one in tests)
        assert isinstance(condition, Comparison)  # noqa: S101  # the parser makes nothing else
        path = self._path(kind, condition.path)
        field = path[-1][1]
        if not field.filterable:
            raise Refusal("INVALID_FIELD", f"field '{field.name}' can not be filtered in a query call")
        wanted = [self._literal(field, one) for one in condition.values]

        def value(record: Record) -> Any:
            return _folded(field, self._value(record, path))

        if condition.operator in {"in", "not in"}:
            listed, inside = frozenset(wanted), condition.operator == "in"
            return lambda record: (value(record) in listed) is inside
        test, only = _TESTS[condition.operator], wanted[0]
        return lambda record: test(value(record), only)

    def _literal(self, field: Field, literal: Literal) -> Any:
        if literal.kind == "null":
            return None
        if literal.kind == "period" and field.type in {"date", "datetime"}:
            return self._period(field, literal.value)
        fitting = (
            "string" if field.type in TEXT_TYPES | {"id", "reference"}
            else "number" if field.type in NUMBER_TYPES else field.type
        )  # fmt: skip
        if literal.kind != fitting:
            quotes = "should be enclosed in quotes" if fitting == "string" else "should not be enclosed in quotes"
            kind = {"datetime": "dateTime", "number": "double"}.get(fitting, fitting)
            message = f"value of filter criterion for field '{field.name}' must be of type {kind} and {quotes}"
            raise Refusal("INVALID_FIELD", message)
        if field.type in {"id", "reference"}:
            found = read_id(literal.value)
            if found is None and literal.value:
                raise Refusal("INVALID_QUERY_FILTER_OPERATOR", f"invalid ID field: {literal.value}")
            return (found or "").lower()
        return stamp(moment(literal.value)) if literal.kind == "datetime" else _folded(field, literal.value)

    def _period(self, field: Field, word: str) -> str:
        today = moment(self._org.now()).replace(hour=0, minute=0, second=0)
        days = {"TODAY": 0, "YESTERDAY": -1, "TOMORROW": 1}
        start = today + dt.timedelta(days=days[word] if word in days else -int(word.partition(":")[2]))
        return start.date().isoformat() if field.type == "date" else stamp(start)


def _shown_value(version: str, kind: ObjectType, record: Record, field: Field) -> Any:
    if field.type == "base64" and record.get(field.name) is not None:
        return f"/services/data/{version}/sobjects/{kind.name}/{record['Id']}/{field.name}"
    return record.get(field.name)


def _folded(field: Field, value: Any) -> Any:
    return value.lower() if isinstance(value, str) and field.type not in {"date", "datetime"} else value


def _like(value: Any, wanted: Any) -> bool:
    pattern = "".join(".*" if one == "%" else "." if one == "_" else re.escape(one) for one in str(wanted or ""))
    return isinstance(value, str) and re.fullmatch(pattern, value, re.DOTALL) is not None


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, wanted: value is not None and wanted is not None and test(value, wanted)


_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda value, wanted: (value or None) == (wanted or None) if isinstance(wanted, str) else value == wanted,
    "!=": lambda value, wanted: value != wanted,
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "like": _like,
}
