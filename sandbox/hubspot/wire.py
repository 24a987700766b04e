"""What requests and answers of the stand-in have in common: routes by version, bodies, numbers, pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.hubspot.refusals import invalid

Table = list[tuple[str, str, Callable[..., Response]]]
"""Routes: method, path, handler."""


def paging(after: str) -> dict[str, Any]:
    """Where the next page starts."""
    return {"next": {"after": after, "link": f"?after={after}"}}


def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that it brings."""
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise invalid("Invalid input JSON on line 1, column 0")
    return body


def wants_archived(request: Request) -> bool:
    """Whether it asks for what was deleted."""
    return request.args.get("archived", "").lower() == "true"  # HubSpot's Python client sends "True"


def number_of(request: Request, name: str, default: int) -> int:
    """A number of its query."""
    text = request.args.get(name) or str(default)
    if not text.isascii() or not text.isdigit():
        raise invalid(f"{name} must be a whole number")
    return int(text)


def listed(request: Request, rows: Iterable[dict[str, Any]]) -> Response:
    """One page of a list, in the order of the ids."""
    limit, after = number_of(request, "limit", 100), number_of(request, "after", 0)
    ordered = sorted(rows, key=lambda one: int(one["id"]))
    rest = [one for one in ordered if int(one["id"]) > after]
    body: dict[str, Any] = {"total": len(ordered), "results": rest[:limit]}
    if len(rest) > limit:
        body["paging"] = paging(rest[limit - 1]["id"])
    return json_response(body)


def dated(path: str, version: str) -> str:
    """A path of v3 or v4 as a dated version has it; what has no version stays.

    Source: the paths of hubspot-sdk 0.1.0a9 for 2026-03, documented; that 2026-09 has the same ones: assumed.
    """
    for old, new in (
        ("/crm/v3/", "/crm/{}/<V>"), ("/crm/v4/", "/crm/{}/<V>"), ("/account-info/v3", "/account-info/<V>"),
        ("/conversations/custom-channels/v3", "/conversations/custom-channels/<V>"),
        ("/conversations/v3/custom-channels", "/conversations/custom-channels/<V>"),
        ("/conversations/v3/conversations", "/conversations/conversations/<V>"), ("/files/v3", "/files/<V>"),
        ("/oauth/v3", "/oauth/<V>"),
    ):  # fmt: skip
        if path.startswith(old):
            rest = path.removeprefix(old)
            if "{}" in new:
                family, _, rest = rest.partition("/")
                return "/".join(filter(None, (new.format(family).replace("<V>", version), rest)))
            return new.replace("<V>", version) + rest
    return path
