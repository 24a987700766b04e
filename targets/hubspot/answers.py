"""What HubSpot's answers mean, record by record. Pure; any field of an answer may be missing.

Source: developers.hubspot.com/docs/api-reference/error-handling, read 2026-11 (documented: treat every field as
optional; a 207 names the input by ``context.objectWriteTraceId``). That a missing id is named by ``context.ids``
instead: observed in github.com/airbytehq/airbyte pull request 74725.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mappings.errors import OutcomeUnknownError, RejectedError

_EXISTING_ID = re.compile(r"Existing ID:\s*(\d+)")

Input = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that the caller has to judge: success, or a refusal of this one request (4xx)."""

    status: int
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the request was carried out, perhaps in part (207)."""
        return self.status < 300

    def listed(self, name: str) -> list[dict[str, Any]]:
        """The objects in the list `name`; whatever else stands there is passed over."""
        value = self.body.get(name)
        return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Refused:
    """Why one record of a batch was not written.

    Attributes:
        missing: the id does not exist (any more): deleted, or merged into another.
        existing_id: the contact that already has the address.
    """

    error: RejectedError
    missing: bool = False
    existing_id: str | None = None


@dataclass(slots=True)
class Written:
    """What came of a batch, by trace id: results as HubSpot gave them, refusals, and what nobody knows."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)
    unknown: dict[str, OutcomeUnknownError] = field(default_factory=dict)

    def add(self, other: Written) -> None:
        """Take over what another batch came to."""
        self.results |= other.results
        self.refused |= other.refused
        self.unknown |= other.unknown


def sort_out(
    endpoint: str,
    chunk: Sequence[Input],
    answer: Answer,
    id_property: str | None,
    recognise: Callable[[dict[str, Any]], str | None],
) -> Written:
    """Which input became which result or refusal. Inputs that the answer says nothing of are in neither."""
    traces = {one["objectWriteTraceId"] for one in chunk}
    by_id = {one["id"]: one["objectWriteTraceId"] for one in chunk if "id" in one}
    written = Written()
    for result in answer.listed("results"):
        key = object_in(result.get("properties")).get(id_property) if id_property else result.get("id")
        for trace in (result.get("objectWriteTraceId"), by_id.get(str(key)), recognise(result)):
            if isinstance(trace, str) and trace in traces and "id" in result:
                written.results[trace] = result
                break
    for error in answer.listed("errors"):
        context = object_in(error.get("context"))
        named = [str(one) for one in list_in(context.get("objectWriteTraceId"))]
        named += [by_id[str(one)] for one in list_in(context.get("ids")) if str(one) in by_id]
        for trace in named:
            if trace in traces and trace not in written.results:
                written.refused[trace] = refusal(endpoint, answer.status, error)
    return written


def refusal(endpoint: str, status: int, body: Mapping[str, Any]) -> Refused:
    """Why one record was refused, from a whole answer or one entry of a 207's errors."""
    category = body.get("category")
    texts = [body.get("message"), *(one.get("message") for one in list_in(body.get("errors")) if isinstance(one, dict))]
    found = _EXISTING_ID.search(" ".join(text for text in texts if isinstance(text, str)))
    return Refused(
        rejected(endpoint, status, body),
        missing=status == 404 or category == "OBJECT_NOT_FOUND",
        existing_id=found.group(1) if found else None,
    )


def rejected(endpoint: str, status: int, body: Mapping[str, Any]) -> RejectedError:
    """HubSpot's categories and codes and the properties they name; never its words, which repeat values."""
    parts: list[str] = []
    for one in (body, *list_in(body.get("errors"))):
        error = object_in(one)
        for name in ("category", "subCategory", "code"):
            if isinstance(error.get(name), str):
                parts.append(error[name])
        parts += [str(name) for name in list_in(object_in(error.get("context")).get("propertyName"))]
    category = body.get("category")
    said = ", ".join(dict.fromkeys(parts)) or "no reason given"
    return RejectedError(
        f"HubSpot: {endpoint} refused it ({status}: {said})", code=category if isinstance(category, str) else None
    )


def object_in(value: Any) -> dict[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def list_in(value: Any) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []
