"""The v4 associations API over the CRM's state: contacts and communications, HubSpot's default label only.

Source: developers.hubspot.com/docs/api-reference/crm-associations-v4/guide, second-hand, 2026-10 (documented);
the shapes are those of hubspot-api-client 12.0.0.
"""

from __future__ import annotations

from typing import Any

from sandbox.hubspot.batches import Inputs, Outcome
from sandbox.hubspot.crm import Crm, association_type_id
from sandbox.hubspot.objects import ACTIVITY_TYPE_IDS, ObjectType
from sandbox.hubspot.refusals import Refusal, invalid
from sandbox.hubspot.wire import paging

CREATE_LIMIT = 2000
READ_LIMIT = 1000
PAGE_LIMIT = 500


class Associations:
    """The association verbs over one `Crm`."""

    def __init__(self, crm: Crm) -> None:
        self._crm = crm

    def create(self, kind: ObjectType, other: ObjectType, inputs: Inputs) -> Outcome:
        """Associate the pairs that can be, with an error for each of the others."""
        wanted = [spec(kind, other)]
        if any(one["types"] != wanted for one in inputs):
            raise invalid(f"types must be {wanted}")
        outcome, pairs = self._linked(kind, other, inputs)
        outcome.results = [
            {
                "fromObjectTypeId": kind.type_id, "fromObjectId": from_id,
                "toObjectTypeId": other.type_id, "toObjectId": to_id, "labels": [],
            }
            for from_id, to_id in pairs
        ]  # fmt: skip
        return outcome

    def create_default(self, kind: ObjectType, other: ObjectType, inputs: Inputs) -> Outcome:
        """Associate by the default type; HubSpot's document has no 207 here, errors come with the 200."""
        wanted = spec(kind, other)
        outcome, pairs = self._linked(kind, other, inputs)
        outcome.results = [
            {"from": {"id": from_id}, "to": {"id": to_id}, "associationSpec": wanted} for from_id, to_id in pairs
        ]
        return outcome

    def archive(self, kind: ObjectType, other: ObjectType, inputs: Inputs) -> None:
        """Drop associations; what is not there is ignored."""
        association_type_id(kind, other)
        for one in inputs:
            for to in one["to"] if isinstance(one["to"], list) else [one["to"]]:
                self._crm.unlink(kind, _id(one["from"]), _id(to), other)

    def read(self, kind: ObjectType, other: ObjectType, inputs: Inputs) -> Outcome:
        """The partners of each input, one page each; an input without any is an error entry."""
        outcome = Outcome()
        for one in inputs:
            page = self.page(kind, other, one["id"], str(one.get("after") or ""), PAGE_LIMIT)
            partners = page.pop("results")
            if partners:
                outcome.results.append({"from": {"id": one["id"]}, "to": partners, **page})
                continue
            refusal = Refusal(
                404, "OBJECT_NOT_FOUND", f"No {other.singular} is associated with {kind.singular} {one['id']}.",
                sub_category="crm.associations.NO_ASSOCIATIONS_FOUND",
            )  # fmt: skip
            outcome.errors.append(refusal.item(fromObjectId=[one["id"]]))
        return outcome

    def page(self, kind: ObjectType, other: ObjectType, record_id: str, after: str, limit: int) -> dict[str, Any]:
        """One page of a record's partners."""
        return _page(self._crm.linked(kind, record_id, other), association_type_id(kind, other), after, limit)

    def activities(self, contact_id: str, activity_type: str, after: str, limit: int) -> dict[str, Any]:
        """One page of the activities of another type on a contact."""
        activities = self._crm.activities.get((activity_type, contact_id), [])
        return _page(activities, ACTIVITY_TYPE_IDS[activity_type], after, limit)

    def _linked(self, kind: ObjectType, other: ObjectType, inputs: Inputs) -> tuple[Outcome, list[tuple[str, str]]]:
        outcome, pairs = Outcome(), []
        for one in inputs:
            from_id, to_id = _id(one["from"]), _id(one["to"])
            try:
                self._crm.link(kind, from_id, to_id, other)
            except Refusal as refusal:
                outcome.errors.append(refusal.item(fromObjectId=[from_id], toObjectId=[to_id]))
            else:
                pairs.append((from_id, to_id))
        return outcome, pairs


def spec(kind: ObjectType, other: ObjectType) -> dict[str, Any]:
    """The default association type as requests and answers name it."""
    return {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": association_type_id(kind, other)}


def _page(ids: list[str], type_id: int, after: str, limit: int) -> dict[str, Any]:
    start = int(after) if after.isascii() and after.isdigit() else 0
    end = start + min(limit, PAGE_LIMIT)
    types = [{"category": "HUBSPOT_DEFINED", "typeId": type_id, "label": None}]
    page: dict[str, Any] = {"results": [{"toObjectId": one, "associationTypes": types} for one in ids[start:end]]}
    if end < len(ids):
        page["paging"] = paging(str(end))
    return page


def _id(reference: object) -> str:
    if not isinstance(reference, dict) or not isinstance(reference.get("id"), str):
        raise invalid("Invalid input JSON: from and to need an id")
    return str(reference["id"])
