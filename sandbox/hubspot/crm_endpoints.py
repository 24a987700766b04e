"""The CRM's endpoints: properties, objects one by one and in batches, search, associations v4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.hubspot.associations import CREATE_LIMIT, READ_LIMIT, Associations
from sandbox.hubspot.batches import Batches, Outcome, inputs_of, names, shown
from sandbox.hubspot.crm import Crm, association_type_id
from sandbox.hubspot.objects import ACTIVITY_TYPE_IDS, API, CONTACTS, ObjectType, Record, iso, object_type
from sandbox.hubspot.properties import Properties
from sandbox.hubspot.refusals import invalid, not_found
from sandbox.hubspot.search import search
from sandbox.hubspot.wire import Table, body_of, number_of, paging, wants_archived

LIST_LIMIT = 100


class CrmEndpoints:
    """The endpoints over one `Crm`. Not locked: the server calls them under its own lock.

    Args:
        crm: the records.
        properties: of the account.
        results_reversed: answer batches in another order than they were asked.
    """

    def __init__(self, crm: Crm, properties: Properties, *, results_reversed: bool) -> None:
        self.crm = crm
        self._properties = properties
        self._batches = Batches(crm)
        self._associations = Associations(crm)
        self._reversed = results_reversed

    def table(self) -> Table:
        """The routes."""
        objects = "/crm/v3/objects/<object_type_name>"
        properties = "/crm/v3/properties/<object_type_name>"
        associations = "/crm/v4/associations/<from_type>/<to_type>/batch"
        linked = "/crm/v4/objects/<from_type>/<from_id>/associations"
        return [
            ("GET", properties, self._list_properties),
            ("POST", properties, self._create_property),
            ("POST", f"{properties}/batch/create", self._create_properties),
            ("GET", f"{properties}/groups", self._list_groups),
            ("POST", f"{properties}/groups", self._create_group),
            ("GET", f"{properties}/<name>", self._get_property),
            ("PATCH", f"{properties}/<name>", self._update_property),
            ("DELETE", f"{properties}/<name>", self._remove_property),
            ("POST", "/crm/v3/objects/contacts/merge", self._merge),
            ("POST", "/crm/v3/objects/contacts/gdpr-delete", self._purge),
            ("GET", objects, self._list_objects),
            ("POST", objects, self._create_object),
            ("POST", f"{objects}/search", self._search),
            ("POST", f"{objects}/batch/<verb>", self._batch),
            ("GET", f"{objects}/<record_id>", self._get_object),
            ("PATCH", f"{objects}/<record_id>", self._update_object),
            ("DELETE", f"{objects}/<record_id>", self._archive_object),
            ("POST", f"{associations}/create", self._create_associations),
            ("POST", f"{associations}/associate/default", self._create_default_associations),
            ("POST", f"{associations}/archive", self._archive_associations),
            ("POST", f"{associations}/read", self._read_associations),
            ("GET", f"{linked}/<to_type>", self._list_associations),
            ("PUT", f"{linked}/default/<to_type>/<to_id>", self._associate_default),
            ("DELETE", f"{linked}/<to_type>/<to_id>", self._dissociate),
        ]

    # -- properties

    def _list_properties(self, request: Request, object_type_name: str) -> Response:
        del request
        return json_response(
            {"results": [one.as_json() for one in self._properties.all(object_type(object_type_name))]}
        )

    def _get_property(self, request: Request, object_type_name: str, name: str) -> Response:
        del request
        return json_response(self._properties.get(object_type(object_type_name), name).as_json())

    def _create_property(self, request: Request, object_type_name: str) -> Response:
        created = self._properties.create(object_type(object_type_name), body_of(request), self.crm.now())
        return json_response(created.as_json(), 201)

    def _create_properties(self, request: Request, object_type_name: str) -> Response:
        inputs = inputs_of(body_of(request), needs=())
        created = self._properties.create_all(object_type(object_type_name), inputs, self.crm.now())  # type: ignore[arg-type]
        return self.batch_answer(Outcome([one.as_json() for one in created]), 201)

    def _update_property(self, request: Request, object_type_name: str, name: str) -> Response:
        return json_response(self._properties.update(object_type(object_type_name), name, body_of(request)).as_json())

    def _remove_property(self, request: Request, object_type_name: str, name: str) -> Response:
        del request
        self._properties.remove(object_type(object_type_name), name)
        return Response(status=204)

    def _list_groups(self, request: Request, object_type_name: str) -> Response:
        del request
        return json_response({"results": self._properties.groups(object_type(object_type_name))})

    def _create_group(self, request: Request, object_type_name: str) -> Response:
        return json_response(self._properties.create_group(object_type(object_type_name), body_of(request)), 201)

    # -- objects

    def _list_objects(self, request: Request, object_type_name: str) -> Response:
        kind = object_type(object_type_name)
        history = names(request.args.get("propertiesWithHistory"))
        limit, after = number_of(request, "limit", 10), number_of(request, "after", 0)
        most = LIST_LIMIT // 2 if history else LIST_LIMIT
        if not 1 <= limit <= most:
            raise invalid(f"limit must be between 1 and {most}")
        records = self.crm.records(kind, archived=wants_archived(request))
        rest = [one for one in records if int(one.record_id) > after]
        body: dict[str, Any] = {"results": [self._shown(request, one) for one in rest[:limit]]}
        if len(rest) > limit:
            body["paging"] = paging(rest[limit - 1].record_id)
        return json_response(body)

    def _create_object(self, request: Request, object_type_name: str) -> Response:
        one = body_of(request)
        inputs_of({"inputs": [one]}, needs=("properties",))
        return json_response(self._batches.created(object_type(object_type_name), one), 201)

    def _get_object(self, request: Request, object_type_name: str, record_id: str) -> Response:
        kind = object_type(object_type_name)
        find = self.crm.archived if wants_archived(request) else self._finder(request)
        record = find(kind, record_id)
        if record is None:
            raise not_found()
        return json_response(self._shown(request, record))

    def _update_object(self, request: Request, object_type_name: str, record_id: str) -> Response:
        one = body_of(request)
        inputs_of({"inputs": [one]}, needs=("properties",))
        record = self._finder(request)(object_type(object_type_name), record_id)
        if record is None:
            raise not_found()
        return json_response(shown(self.crm.update(record, one["properties"], API), one["properties"], one))

    def _archive_object(self, request: Request, object_type_name: str, record_id: str) -> Response:
        del request
        self.crm.archive(object_type(object_type_name), record_id)
        return Response(status=204)

    def _batch(self, request: Request, object_type_name: str, verb: str) -> Response:
        kind, body = object_type(object_type_name), body_of(request)
        if verb == "create":
            return self.batch_answer(self._batches.create(kind, inputs_of(body, needs=("properties",))), 201)
        if verb == "update":
            return self.batch_answer(self._batches.update(kind, inputs_of(body, needs=("id", "properties"))))
        if verb == "upsert":
            return self.batch_answer(self._batches.upsert(kind, inputs_of(body, needs=("id", "properties"))))
        inputs = inputs_of(body, needs=("id",))
        if verb == "read":
            archived = wants_archived(request)
            return self.batch_answer(self._batches.read(kind, body, inputs, archived=archived))
        if verb == "archive":
            self._batches.archive(kind, inputs)
            return Response(status=204)
        raise not_found()

    def _search(self, request: Request, object_type_name: str) -> Response:
        kind, body = object_type(object_type_name), body_of(request)
        page = search(kind, self._properties, self.crm.indexed(kind), body)
        wanted = self._batches.known(kind, names(body.get("properties"))) or list(kind.default_properties)
        always = ["hs_object_id", kind.created_property, kind.modified_property]
        answer: dict[str, Any] = {
            "total": page.total,
            "results": [one.as_json([*wanted, *always]) for one in page.records],
        }
        if page.next_after is not None:
            answer["paging"] = paging(str(page.next_after))
        return json_response(answer)

    def _merge(self, request: Request) -> Response:
        body = body_of(request)
        survivor = self.crm.merge(str(body.get("primaryObjectId")), str(body.get("objectIdToMerge")))
        return json_response(survivor.as_json([*CONTACTS.default_properties, "hs_merged_object_ids"]))

    def _purge(self, request: Request) -> Response:
        body = body_of(request)
        key = str(body.get("objectId") or "")
        by_email = body.get("idProperty") == "email"
        record = self.crm.holder(CONTACTS, "email", key) if by_email else self.crm.current(CONTACTS, key)
        if record is not None:
            self.crm.purge(record)
        elif by_email:
            self.crm.blocked_emails.add(key.lower())
        else:
            raise not_found()
        return Response(status=204)

    # -- associations v4

    def _create_associations(self, request: Request, from_type: str, to_type: str) -> Response:
        kind, other = object_type(from_type), object_type(to_type)
        inputs = inputs_of(body_of(request), limit=CREATE_LIMIT, needs=("from", "to", "types"))
        return self.batch_answer(self._associations.create(kind, other, inputs), 201)

    def _create_default_associations(self, request: Request, from_type: str, to_type: str) -> Response:
        kind, other = object_type(from_type), object_type(to_type)
        inputs = inputs_of(body_of(request), limit=CREATE_LIMIT, needs=("from", "to"))
        return self.batch_answer(self._associations.create_default(kind, other, inputs), error_status=200)

    def _archive_associations(self, request: Request, from_type: str, to_type: str) -> Response:
        inputs = inputs_of(body_of(request), limit=CREATE_LIMIT, needs=("from", "to"))
        self._associations.archive(object_type(from_type), object_type(to_type), inputs)
        return Response(status=204)

    def _read_associations(self, request: Request, from_type: str, to_type: str) -> Response:
        kind, other = object_type(from_type), object_type(to_type)
        inputs = inputs_of(body_of(request), limit=READ_LIMIT, needs=("id",))
        return self.batch_answer(self._associations.read(kind, other, inputs))

    def _list_associations(self, request: Request, from_type: str, from_id: str, to_type: str) -> Response:
        kind = object_type(from_type)
        record = self.crm.current(kind, from_id)
        if record is None:
            raise not_found()
        after, limit = request.args.get("after", ""), number_of(request, "limit", 500)
        if kind is CONTACTS and to_type in ACTIVITY_TYPE_IDS:
            return json_response(self._associations.activities(record.record_id, to_type, after, limit))
        return json_response(self._associations.page(kind, object_type(to_type), record.record_id, after, limit))

    def _associate_default(self, request: Request, from_type: str, from_id: str, to_type: str, to_id: str) -> Response:
        del request
        pair = {"from": {"id": from_id}, "to": {"id": to_id}}
        outcome = self._associations.create_default(object_type(from_type), object_type(to_type), [pair])
        return self.batch_answer(outcome, error_status=200)

    def _dissociate(self, request: Request, from_type: str, from_id: str, to_type: str, to_id: str) -> Response:
        del request
        pair = {"from": {"id": from_id}, "to": {"id": to_id}}
        self._associations.archive(object_type(from_type), object_type(to_type), [pair])
        return Response(status=204)

    # -- shared by the handlers

    def batch_answer(self, outcome: Outcome, status: int = 200, *, error_status: int = 207) -> Response:
        """What came of a batch, as it is told; the tests take something away from it."""
        now = iso(self.crm.now())
        results = outcome.results[::-1] if self._reversed else outcome.results
        body: dict[str, Any] = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
        if not outcome.errors:
            return json_response(body, status)
        return json_response({**body, "numErrors": len(outcome.errors), "errors": outcome.errors}, error_status)

    def _finder(self, request: Request) -> Callable[[ObjectType, str], Record | None]:
        """How the request names a record: by a unique property, or by id."""
        id_property = request.args.get("idProperty")
        return (lambda kind, key: self.crm.holder(kind, id_property, key)) if id_property else self.crm.current

    def _shown(self, request: Request, record: Record) -> dict[str, Any]:
        kind = record.kind
        wanted = self._batches.known(kind, names(request.args.get("properties"))) or list(kind.default_properties)
        history = self._batches.known(kind, names(request.args.get("propertiesWithHistory")))
        always = ["hs_object_id", kind.created_property, kind.modified_property]
        body = record.as_json([*wanted, *always], history)
        for text in names(request.args.get("associations")):
            other = object_type(text)
            association_type_id(kind, other)
            linked = self.crm.linked(kind, record.record_id)
            label = f"{kind.singular}_to_{other.singular}"
            if linked:
                results = [{"id": one, "type": label} for one in linked]
                body.setdefault("associations", {})[other.name] = {"results": results}
        return body
