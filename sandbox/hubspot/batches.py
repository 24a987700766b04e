"""The batch half of the objects API: what a batch must look like, and which of its inputs succeed.

Source: developers.hubspot.com/docs/api-reference/error-handling, section on multi-status errors, read 2026-11;
documented: a create answers 207 only when every input has its own ``objectWriteTraceId``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.hubspot.crm import Crm
from sandbox.hubspot.objects import API, ASSOCIATION_TYPE_IDS, COMMUNICATIONS, CONTACTS, ObjectType, Record
from sandbox.hubspot.refusals import Refusal, invalid

BATCH_LIMIT = 100
HISTORY_BATCH_LIMIT = 50

Inputs = list[dict[str, Any]]


@dataclass(slots=True)
class Outcome:
    """What came of a batch: shown records, and one error per refused input (or group of inputs)."""

    results: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)


class Batches:
    """The batch verbs over one `Crm`."""

    def __init__(self, crm: Crm) -> None:
        self._crm = crm

    def create(self, kind: ObjectType, inputs: Inputs) -> Outcome:
        """Create each input; partly, when every input can be told apart by its trace id."""
        return self._write(inputs, lambda one: self._created(kind, one))

    def upsert(self, kind: ObjectType, inputs: Inputs) -> Outcome:
        """Create or update by a unique property."""
        id_property = _shared_id_property(inputs)
        if id_property is None:
            raise invalid("idProperty is required for upsert")
        _check_distinct(inputs)
        if any("associations" in one for one in inputs):
            raise invalid("associations are not supported in upsert")
        self._crm.holder(kind, id_property, "")
        partly = not (kind is CONTACTS and id_property == "email")
        return self._write(inputs, lambda one: self._upserted(kind, id_property, one), partly=partly)

    def update(self, kind: ObjectType, inputs: Inputs) -> Outcome:
        """Update by record id or unique property; ids that are gone or merged away fail, the rest is written."""
        id_property = _shared_id_property(inputs)
        if id_property == "email":
            raise invalid(f"Unable to perform update/upsert by non-unique {kind.type_id} property email")
        _check_distinct(inputs)
        targets = [(one, self._target(kind, id_property, one["id"])) for one in inputs]
        outcome = Outcome(errors=_missing(kind, [one["id"] for one, record in targets if record is None]))
        with self._crm.all_or_nothing():
            for one, record in targets:
                if record is not None:
                    updated = self._crm.update(record, one["properties"], API)
                    outcome.results.append(shown(updated, one["properties"], one))
        return outcome

    def read(self, kind: ObjectType, body: dict[str, Any], inputs: Inputs, *, archived: bool) -> Outcome:
        """Read by record id (merged-away ids lead to the survivor) or by a unique property."""
        history = names(body.get("propertiesWithHistory"))
        if history and len(inputs) > HISTORY_BATCH_LIMIT:
            raise invalid(f"At most {HISTORY_BATCH_LIMIT} inputs with propertiesWithHistory")
        wanted = names(body.get("properties")) or list(kind.default_properties)
        id_property = body.get("idProperty")
        found: dict[str, Record] = {}
        missing = []
        for one in inputs:
            if archived:
                record = self._crm.archived(kind, one["id"])
            elif id_property:
                record = self._crm.holder(kind, id_property, one["id"])
            else:
                record = self._crm.current(kind, one["id"])
            if record is None:
                missing.append(one["id"])
            else:
                found[record.record_id] = record
        known = self.known(kind, wanted), self.known(kind, history)
        return Outcome([record.as_json(*known) for record in found.values()], _missing(kind, missing))

    def archive(self, kind: ObjectType, inputs: Inputs) -> None:
        """Archive each; ids that are not live are ignored."""
        for one in inputs:
            self._crm.archive(kind, one["id"])

    def known(self, kind: ObjectType, wanted: list[str]) -> list[str]:
        """The names that exist; unknown ones are ignored on reading."""
        return [name for name in wanted if self._crm.properties.find(kind, name)]

    def created(self, kind: ObjectType, one: dict[str, Any]) -> dict[str, Any]:
        """Create a single object, outside any batch."""
        with self._crm.all_or_nothing():
            return self._created(kind, one)

    def _write(
        self, inputs: Inputs, write: Callable[[dict[str, Any]], dict[str, Any]], *, partly: bool = True
    ) -> Outcome:
        traces = [one.get("objectWriteTraceId") for one in inputs]
        outcome = Outcome()
        if not partly or not all(traces) or len(set(traces)) < len(traces):
            with self._crm.all_or_nothing():
                outcome.results.extend(write(one) for one in inputs)
            return outcome
        for one, trace in zip(inputs, traces, strict=True):
            try:
                with self._crm.all_or_nothing():
                    outcome.results.append(write(one))
            except Refusal as refusal:
                outcome.errors.append(refusal.item(objectWriteTraceId=[str(trace)]))
        return outcome

    def _created(self, kind: ObjectType, one: dict[str, Any]) -> dict[str, Any]:
        links = [_linked_id(kind, link) for link in one.get("associations") or []]
        return shown(self._crm.create(kind, one["properties"], API, links=links), one["properties"], one)

    def _upserted(self, kind: ObjectType, id_property: str, one: dict[str, Any]) -> dict[str, Any]:
        values = one["properties"]
        record = self._crm.holder(kind, id_property, one["id"])
        if record is None:
            created = self._crm.create(kind, {id_property: one["id"], **values}, API)
            return shown(created, values, one, new=True)
        if id_property == "email" and str(values.get("email", "")).lower() == one["id"].lower():
            values = {name: value for name, value in values.items() if name != "email"}
        return shown(self._crm.update(record, values, API), values, one, new=False)

    def _target(self, kind: ObjectType, id_property: str | None, key: str) -> Record | None:
        return self._crm.holder(kind, id_property, key) if id_property else self._crm.live(kind, key)


def inputs_of(body: dict[str, Any], *, limit: int = BATCH_LIMIT, needs: tuple[str, ...]) -> Inputs:
    """The inputs of a batch body, each with the fields it needs; anything malformed refuses the whole batch."""
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise invalid("Invalid input JSON: inputs must be a list with at least one entry")
    if len(inputs) > limit:
        raise invalid(f"The number of inputs, {len(inputs)}, is over the limit of {limit}")
    kinds: dict[str, type] = {"id": str, "properties": dict, "from": dict, "to": object, "types": list}
    for one in inputs:
        for name in needs:
            if not isinstance(one, dict) or not isinstance(one.get(name), kinds[name]) or one.get(name) is None:
                raise invalid(f"Invalid input JSON: every input needs {name}")
    return inputs


def names(value: object) -> list[str]:
    """Property names as a query (comma-separated) or a body (list) gives them."""
    if isinstance(value, str):
        return [name for name in value.split(",") if name]
    return [str(name) for name in value] if isinstance(value, list) else []


def shown(record: Record, written: dict[str, Any], one: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A written record as its answer shows it: HubSpot's defaults, what was written, and the input's trace id."""
    if one.get("objectWriteTraceId"):
        more["objectWriteTraceId"] = one["objectWriteTraceId"]
    return record.as_json([*record.kind.default_properties, *written], **more)


def _shared_id_property(inputs: Inputs) -> str | None:
    used = {one.get("idProperty") or None for one in inputs}
    if len(used) > 1:
        raise invalid("All inputs of a batch must have the same idProperty")
    return used.pop()


def _check_distinct(inputs: Inputs) -> None:
    ids = [one["id"] for one in inputs]
    if len(set(ids)) < len(ids):
        raise invalid("Duplicate IDs found in batch input. IDs must be unique")


def _missing(kind: ObjectType, ids: list[str]) -> list[dict[str, Any]]:
    if not ids:
        return []
    message = (
        f"Could not get some {kind.singular.upper()} objects, they may be deleted or not exist. "
        "Check that ids are valid."
    )
    return [Refusal(404, "OBJECT_NOT_FOUND", message).item(ids=ids)]


def _linked_id(kind: ObjectType, link: object) -> str:
    partner = COMMUNICATIONS.name if kind is CONTACTS else CONTACTS.name
    type_id = ASSOCIATION_TYPE_IDS[kind.name, partner]
    wanted = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type_id}
    if isinstance(link, dict) and link.get("types") == [wanted] and isinstance(link.get("to"), dict):
        return str(link["to"].get("id"))
    raise invalid(f"Invalid association: to.id and types {wanted} are needed")
