"""REST resources for single records, descriptions, queries and limits.

Source: developer.salesforce.com, REST API Developer Guide v67-v68, "Reference", second-hand, 2026-10 (documented).
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from uuid import uuid4

from werkzeug.wrappers import Response

from sandbox.base import json_response
from sandbox.salesforce.access import User
from sandbox.salesforce.call import Call, Table
from sandbox.salesforce.ids import read_id
from sandbox.salesforce.limits import Quota
from sandbox.salesforce.org import Org, Record
from sandbox.salesforce.query import QueryRunner
from sandbox.salesforce.refusals import Refusal, not_found
from sandbox.salesforce.schema import Field, ObjectType

PAGE_ROWS = 2_000
_SMALLEST_PAGE = 200


class RestResources:
    """Handlers over one org.

    Args:
        org: the records.
        quota: for the limits resource.
        page_rows: the most rows that a page of a query has; fewer than 2,000 is allowed to Salesforce, too.
    """

    def __init__(self, org: Org, quota: Quota, *, page_rows: int = PAGE_ROWS) -> None:
        self._org = org
        self._quota = quota
        self.page_rows = page_rows
        self._cursors: dict[str, tuple[User, list[Record]]] = {}

    def routes(self) -> Table:
        """The routes below ``/services/data/<version>``."""
        one, by_key = "/sobjects/<type_name>/<record_id>", "/sobjects/<type_name>/<key_name>/<path:value>"
        return [
            ("GET", "/", self._resources),
            ("GET", "/limits", self._limits),
            ("GET", "/sobjects", self._describe_global),
            ("GET", "/sobjects/<type_name>", self._basics),
            ("GET", "/sobjects/<type_name>/describe", self._describe),
            ("POST", "/sobjects/<type_name>", self._create),
            ("GET", one, self._get),
            ("PATCH", one, self._update),
            ("DELETE", one, self._delete),
            ("GET", by_key, self._get_by_key),
            ("PATCH", by_key, self._upsert),
            ("DELETE", by_key, self._delete_by_key),
            ("GET", "/query", self._query),
            ("GET", "/query/<locator>", self._more),
            ("GET", "/queryAll", self._query_all),
            ("GET", "/queryAll/<locator>", self._more),
        ]

    # -- descriptions

    def _resources(self, call: Call) -> Response:
        base = f"/services/data/{call.version}"
        return json_response(
            {one: f"{base}/{one}" for one in ("sobjects", "query", "queryAll", "composite", "jobs", "limits")}
        )

    def _limits(self, call: Call) -> Response:
        del call
        now = self._org.clock.epoch()
        storage = self._org.storage_limit_kilobytes // 1024
        left = (self._org.storage_limit_kilobytes - self._org.used_kilobytes()) // 1024
        return json_response({
            "DailyApiRequests": self._quota.as_json(now), "DataStorageMB": {"Max": storage, "Remaining": max(0, left)},
            "DailyBulkV2QueryJobs": {"Max": 10_000, "Remaining": 10_000},
            "FileStorageMB": {"Max": 1024, "Remaining": 1024},
        })  # fmt: skip

    def _describe_global(self, call: Call) -> Response:
        base = f"/services/data/{call.version}/sobjects"
        kinds = [one for one in self._org.schema.types.values() if self._org.may(call.caller.user, one, "read")]
        body = {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": [self._summary(call, one, base) for one in kinds]}
        return json_response(body)

    def _summary(self, call: Call, kind: ObjectType, base: str) -> dict[str, Any]:
        rights = {"createable": "create", "updateable": "edit", "deletable": "delete"}
        shown = kind.summary(base)
        return {**shown, **{key: shown[key] and self._org.may(call.caller.user, kind, rights[key]) for key in rights}}

    def _basics(self, call: Call, type_name: str) -> Response:
        kind = self._org.object_type(call.caller.user, type_name)
        summary = self._summary(call, kind, f"/services/data/{call.version}/sobjects")
        return json_response({"objectDescribe": summary, "recentItems": []})

    def _describe(self, call: Call, type_name: str) -> Response:
        user, kind = call.caller.user, self._org.object_type(call.caller.user, type_name)
        children: list[dict[str, Any]] = [
            {"childSObject": child.name, "field": one.name, "relationshipName": one.child_relationship_name,
             "cascadeDelete": one.delete_constraint == "Cascade",
             "restrictedDelete": one.delete_constraint == "Restrict",
             "deprecatedAndHidden": False, "junctionIdListNames": [], "junctionReferenceTo": []}
            for child, one in self._org.schema.lookups_to(kind.name)
        ]  # fmt: skip
        fields = [
            one.describe(editable=self._org.sees(user, kind, one, editing=True))
            for one in kind.fields.values() if self._org.sees(user, kind, one)
        ]  # fmt: skip
        summary = self._summary(call, kind, f"/services/data/{call.version}/sobjects")
        return json_response({**summary, "fields": fields, "childRelationships": children, "recordTypeInfos": []})

    # -- records

    def _create(self, call: Call, type_name: str) -> Response:
        kind = self._org.object_type(call.caller.user, type_name)
        record_id = self._org.create(call.caller, kind, self._row(call, kind))
        location = {"Location": f"/services/data/{call.version}/sobjects/{kind.name}/{record_id}"}
        return json_response({"id": record_id, "success": True, "errors": []}, 201, location)

    def _row(self, call: Call, kind: ObjectType) -> Record:
        """The record in the body; a file may come as multipart, with the record as the part ``entity_content``."""
        if call.request.mimetype != "multipart/form-data":
            return call.body()
        entity = call.request.form.get("entity_content") or ""
        if not entity and "entity_content" in call.request.files:
            entity = call.request.files["entity_content"].read().decode()
        blob = call.request.files.get("VersionData")
        if kind.name != "ContentVersion" or not entity or blob is None:
            raise Refusal("INVALID_MULTIPART_REQUEST", "Multipart message must include entity_content and VersionData")
        row = {**json.loads(entity), "VersionData": base64.b64encode(blob.read()).decode()}
        call.request.close()  # the parts are temporary files
        return row

    def _get(self, call: Call, type_name: str, record_id: str) -> Response:
        kind = self._org.object_type(call.caller.user, type_name)
        return self._shown(call, kind, self._org.record(kind, record_id))

    def _get_by_key(self, call: Call, type_name: str, key_name: str, value: str) -> Response:
        kind = self._org.object_type(call.caller.user, type_name)
        if kind.find(value) is not None and kind.fields[value].type == "base64":
            return self._blob(self._org.record(kind, key_name), kind.fields[value])
        return self._shown(call, kind, self._only(call, kind, key_name, value))

    def _update(self, call: Call, type_name: str, record_id: str) -> Response:
        kind = self._org.object_type(call.caller.user, type_name)
        self._org.update(call.caller, kind, self._org.record(kind, record_id), call.body())
        return Response(status=204)

    def _upsert(self, call: Call, type_name: str, key_name: str, value: str) -> Response:
        kind = self._org.object_type(call.caller.user, type_name)
        key, row = self._org.key_field(call.caller.user, kind, key_name), call.body()
        named = [one for one in row if one.lower() in {key.name.lower(), "id"}]
        if named:
            raise Refusal(
                "INVALID_FIELD", f"The {named[0]} field should not be specified in the sobject data.", fields=named
            )
        try:
            record_id, created = self._org.upsert(call.caller, kind, key, value, row)
        except Refusal as refusal:
            if refusal.code != 300:
                raise
            return self._choices(call, kind, refusal.more["ids"])
        answer = {"id": record_id, "success": True, "errors": [], "created": created}
        return json_response(answer, 201 if created else 200)

    def _delete(self, call: Call, type_name: str, record_id: str) -> Response:
        kind = self._org.object_type(call.caller.user, type_name)
        with self._org.transaction():
            self._org.delete(call.caller, kind, self._org.record(kind, record_id))
        return Response(status=204)

    def _delete_by_key(self, call: Call, type_name: str, key_name: str, value: str) -> Response:
        kind = self._org.object_type(call.caller.user, type_name)
        with self._org.transaction():
            self._org.delete(call.caller, kind, self._only(call, kind, key_name, value))
        return Response(status=204)

    def _only(self, call: Call, kind: ObjectType, key_name: str, value: str) -> Record:
        found = self._org.holders(kind, self._org.key_field(call.caller.user, kind, key_name), value)
        if not found:
            raise not_found()
        if len(found) > 1:
            raise Refusal("MULTIPLE_CHOICES", "more than one record has this external id", status=300)
        return found[0]

    @staticmethod
    def _choices(call: Call, kind: ObjectType, record_ids: list[str]) -> Response:
        return json_response([f"/services/data/{call.version}/sobjects/{kind.name}/{one}" for one in record_ids], 300)

    def _shown(self, call: Call, kind: ObjectType, record: Record) -> Response:
        asked = [one for one in call.request.args.get("fields", "").split(",") if one]
        return json_response(show(self._org, call, kind, record, asked))

    @staticmethod
    def _blob(record: Record, field: Field) -> Response:
        return Response(base64.b64decode(record[field.name] or ""), content_type="application/octet-stream")

    # -- queries

    def _query(self, call: Call) -> Response:
        return self._first_page(call, "query")

    def _query_all(self, call: Call) -> Response:
        return self._first_page(call, "queryAll")

    def _first_page(self, call: Call, resource: str) -> Response:
        text = call.request.args.get("q")
        if text is None:
            raise Refusal("MALFORMED_QUERY", "a SOQL statement is required in the parameter q")
        runner = QueryRunner(self._org, call.caller.user, call.version)
        query, rows = runner.run(text, deleted=resource == "queryAll")
        if query.count:
            return json_response({"totalSize": len(rows), "done": True, "records": []})
        cursor = f"01g{uuid4().hex[:12]}AAA"
        self._cursors[cursor] = (call.caller.user, rows)
        return self._page(call, cursor, rows, 0, resource)

    def _more(self, call: Call, locator: str) -> Response:
        cursor, _, start = locator.rpartition("-")
        owner, rows = self._cursors.get(cursor, (None, []))
        if owner is not call.caller.user or not start.isdigit():
            raise Refusal("INVALID_QUERY_LOCATOR", "invalid query locator")
        return self._page(call, cursor, rows, int(start), "query")

    def _page(self, call: Call, cursor: str, rows: list[Record], start: int, resource: str) -> Response:
        asked = re.search(r"batchSize=(\d+)", call.request.headers.get("Sforce-Query-Options", ""))
        size = min(self.page_rows, max(_SMALLEST_PAGE, int(asked.group(1)))) if asked else self.page_rows
        body: dict[str, Any] = {"totalSize": len(rows), "done": start + size >= len(rows)}
        if not body["done"]:
            body["nextRecordsUrl"] = f"/services/data/{call.version}/{resource}/{cursor}-{start + size}"
        return json_response({**body, "records": rows[start : start + size]})


def show(org: Org, call: Call, kind: ObjectType, record: Record, asked: list[str]) -> Record:
    """A record with the fields that were asked for; without any, with all that the user may see."""
    user = call.caller.user
    fields = (
        [org.field(user, kind, one) for one in asked] if asked
        else [one for one in kind.fields.values() if org.sees(user, kind, one)]
    )  # fmt: skip
    runner = QueryRunner(org, user, call.version)
    return runner.shown(kind, record, [[(one.name, one)] for one in fields])


def known_id(text: object) -> str:
    """An id in a request, with 18 characters.

    Raises:
        Refusal: MALFORMED_ID.
    """
    found = read_id(text) if isinstance(text, str) else None
    if found is None:
        raise Refusal("MALFORMED_ID", f"malformed id {text}", fields=["Id"])
    return found
