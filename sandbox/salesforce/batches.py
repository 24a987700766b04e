"""sObject Collections: up to 200 records in one request, each with a result of its own, in the order of the request.

Source: developer.salesforce.com, REST API Developer Guide, "Upsert Records Using sObject Collections" and its
neighbours, read 2026-11 (documented). That a column which is not there refuses the whole request is assumed: the
careful reading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import groupby
from typing import Any

from werkzeug.wrappers import Response

from sandbox.base import json_response
from sandbox.salesforce.call import RETRIEVE_LIMIT, ROWS_LIMIT, Call, Table
from sandbox.salesforce.org import Org, Record
from sandbox.salesforce.refusals import Refusal, not_found, unreadable
from sandbox.salesforce.rest import known_id, show
from sandbox.salesforce.schema import Field, ObjectType

CHUNKS_LIMIT = 10
_ROLLED_BACK = Refusal(
    "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "Record rolled back because not all records were valid and the request was using AllOrNone header",
    fields=(),
)
Act = Callable[[], dict[str, Any]]


class Collections:
    """Handlers over one org."""

    def __init__(self, org: Org) -> None:
        self._org = org

    def routes(self) -> Table:
        """The routes below ``/services/data/<version>``."""
        base = "/composite/sobjects"
        return [
            ("POST", base, self._create),
            ("PATCH", base, self._update),
            ("DELETE", base, self._delete),
            ("GET", f"{base}/<type_name>", self._retrieve),
            ("POST", f"{base}/<type_name>", self._retrieve),
            ("PATCH", f"{base}/<type_name>/<key_name>", self._upsert),
        ]

    def _create(self, call: Call) -> Response:
        rows = self._rows(call)
        kinds = self._kinds(call, rows)
        acts = [self._creating(call, kind, row) for kind, row in zip(kinds, rows, strict=True)]
        return self._answer(call, acts)

    def _update(self, call: Call) -> Response:
        rows = self._rows(call)
        kinds = self._kinds(call, rows)
        acts = [self._updating(call, kind, row) for kind, row in zip(kinds, rows, strict=True)]
        return self._answer(call, acts)

    def _upsert(self, call: Call, type_name: str, key_name: str) -> Response:
        kind = self._org.object_type(call.caller.user, type_name)
        key = self._org.key_field(call.caller.user, kind, key_name)
        rows = self._rows(call)
        if any(one is not kind for one in self._kinds(call, rows)):
            raise Refusal("INVALID_INPUT", f"All records must be of type {kind.name}")
        values = [
            next((value for name, value in row.items() if name.lower() == key.name.lower()), None) for row in rows
        ]
        twice = {value for value, times in Counter(map(str, values)).items() if times > 1}
        acts = [self._upserting(call, kind, key, row, value, twice) for row, value in zip(rows, values, strict=True)]
        return self._answer(call, acts)

    def _delete(self, call: Call) -> Response:
        ids = [one for one in call.request.args.get("ids", "").split(",") if one]
        _at_most(len(ids), ROWS_LIMIT)
        return self._answer(call, [self._deleting(call, one) for one in ids], all_or_none=call.flag("allOrNone"))

    def _retrieve(self, call: Call, type_name: str) -> Response:
        kind = self._org.object_type(call.caller.user, type_name)
        if call.request.method == "POST":
            body = call.body()
            ids, fields, most = body.get("ids") or [], body.get("fields") or [], RETRIEVE_LIMIT
        else:
            ids = [one for one in call.request.args.get("ids", "").split(",") if one]
            fields, most = [one for one in call.request.args.get("fields", "").split(",") if one], RETRIEVE_LIMIT
        _at_most(len(ids), most)
        if not fields:
            raise Refusal("MISSING_ARGUMENT", "fields are required")
        table = self._org.table(kind.name)
        found = [table.get(known_id(one)) for one in ids]
        return json_response(
            [show(self._org, call, kind, one, fields) if one and not one["IsDeleted"] else None for one in found]
        )

    # -- one row

    def _creating(self, call: Call, kind: ObjectType, row: Record) -> Act:
        def act() -> dict[str, Any]:
            return {"id": self._org.create(call.caller, kind, row), "success": True, "errors": []}

        return act

    def _updating(self, call: Call, kind: ObjectType, row: Record) -> Act:
        def act() -> dict[str, Any]:
            named = [one for one in row if one.lower() == "id"]
            if not named:
                raise Refusal("MISSING_ARGUMENT", "Id not specified in an update call", fields=["Id"])
            record = self._live(kind, row[named[0]])
            self._org.update(call.caller, kind, record, {one: row[one] for one in row if one not in named})
            return {"id": record["Id"], "success": True, "errors": []}

        return act

    def _upserting(self, call: Call, kind: ObjectType, key: Field, row: Record, value: Any, twice: set[str]) -> Act:
        def act() -> dict[str, Any]:
            if value is None or value == "":
                raise Refusal("MISSING_ARGUMENT", f"{key.name} not specified", fields=())
            if str(value) in twice:
                raise Refusal("DUPLICATE_VALUE", f"Duplicate external id specified: {value}", fields=[key.name])
            rest = {one: row[one] for one in row if one.lower() != key.name.lower()}
            record_id, created = self._org.upsert(call.caller, kind, key, value, rest)
            return {"id": record_id, "success": True, "errors": [], "created": created}

        return act

    def _deleting(self, call: Call, text: str) -> Act:
        def act() -> dict[str, Any]:
            kind = self._org.schema.of_id(known_id(text))
            if kind is None:
                raise Refusal("MALFORMED_ID", f"malformed id {text}", fields=())
            record = self._live(kind, text)
            self._org.delete(call.caller, kind, record)
            return {"id": record["Id"], "success": True, "errors": []}

        return act

    def _live(self, kind: ObjectType, text: Any) -> Record:
        try:
            return self._org.record(kind, str(text))
        except Refusal as refusal:
            if refusal.error_code != "NOT_FOUND":
                raise
            raise Refusal("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", fields=()) from refusal

    # -- all rows

    def _rows(self, call: Call) -> list[Record]:
        rows = call.body().get("records")
        if not isinstance(rows, list) or not rows or not all(isinstance(one, dict) for one in rows):
            raise unreadable("records must be a list of sObjects")
        _at_most(len(rows), ROWS_LIMIT)
        return rows

    def _kinds(self, call: Call, rows: list[Record]) -> list[ObjectType]:
        names = [(row.get("attributes") or {}).get("type") for row in rows]
        if not all(isinstance(one, str) for one in names):
            raise Refusal("INVALID_INPUT", "Each record must have attributes with a type")
        kinds = []
        for name, row in zip(names, rows, strict=True):
            kind = self._org.schema.find(str(name))
            if kind is None or not self._org.may(call.caller.user, kind, "read"):
                raise Refusal("INVALID_TYPE", f"sObject type '{name}' is not supported.")
            self._org.unknown_columns(call.caller, kind, row)
            kinds.append(kind)
        if sum(1 for _ in groupby(names)) > CHUNKS_LIMIT:
            message = f"Cannot have more than {CHUNKS_LIMIT} chunks in a single operation"
            raise Refusal("INVALID_INPUT", message)
        return kinds

    def _answer(self, call: Call, acts: list[Act], *, all_or_none: bool | None = None) -> Response:
        if all_or_none is None:
            all_or_none = bool(call.body().get("allOrNone", False))
        results: list[dict[str, Any]] = []
        failed = False
        try:
            with self._org.transaction():
                for act in acts:
                    try:
                        with self._org.transaction():
                            results.append(act())
                    except Refusal as refusal:
                        failed = True
                        results.append({"success": False, "errors": [refusal.row()]})
                if failed and (all_or_none or call.all_or_none):
                    raise _ROLLED_BACK
        except Refusal as refusal:
            if refusal is not _ROLLED_BACK:
                raise
            undone = {"success": False, "errors": [refusal.row()]}
            results = [undone if one["success"] else one for one in results]
        response = json_response(results)
        response.headers["X-Rows-Failed"] = str(sum(not one["success"] for one in results))
        return response


def _at_most(found: int, most: int) -> None:
    if found > most:
        message = f"record limit reached. cannot submit more than {most} records into this call"
        raise Refusal("EXCEEDED_ID_LIMIT", message)
    if not found:
        raise not_found("ids are required")
