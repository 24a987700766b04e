"""Composite: up to 25 subrequests in one call, later ones using what earlier ones answered.

Source: developer.salesforce.com, REST API Developer Guide, "Send Multiple Requests Using Composite" and "allOrNone
Parameters in Composite and Collections Requests", read 2026-11 (documented): at most 5 of the subrequests are
collections or queries; with allOrNone a failure takes all back; without it, only what depends on the failed subrequest
is not done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.salesforce.call import Call, Table
from sandbox.salesforce.org import Org
from sandbox.salesforce.refusals import Refusal, unreadable

SUBREQUESTS_LIMIT = 25
HEAVY_LIMIT = 5  # collections and queries
_REFERENCE = re.compile(r"@\{([A-Za-z][A-Za-z0-9_]*)((?:\.[A-Za-z0-9_]+|\[\d+\])*)\}")
_REFERENCE_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_STEP = re.compile(r"\.([A-Za-z0-9_]+)|\[(\d+)\]")
_HEAVY = re.compile(r"/services/data/v\d+\.\d/(?:composite/sobjects|query|queryAll)\b")
_ALLOWED = re.compile(r"/services/data/v\d+\.\d/(?:sobjects/|composite/sobjects|query|queryAll)")
Dispatch = Callable[[Request, Call], Response]


class Composite:
    """The handler over one org; `dispatch` answers one subrequest."""

    def __init__(self, org: Org, dispatch: Dispatch) -> None:
        self._org = org
        self._dispatch = dispatch

    def routes(self) -> Table:
        """The routes below ``/services/data/<version>``."""
        return [("POST", "/composite", self._run)]

    def _run(self, call: Call) -> Response:
        body = call.body()
        subrequests, all_or_none = self._subrequests(body), bool(body.get("allOrNone", False))
        answers: list[dict[str, Any]] = []
        try:
            with self._org.transaction():
                by_reference: dict[str, dict[str, Any]] = {}
                for one in subrequests:
                    answer, failed = self._answer(call, one, by_reference, all_or_none=all_or_none)
                    answers.append(answer)
                    by_reference[one["referenceId"]] = answer
                    if failed and all_or_none:
                        raise _RolledBackError
        except _RolledBackError:
            halted = _halted("The transaction was rolled back since another operation in the same transaction failed.")
            references = [one["referenceId"] for one in subrequests]
            failing = len(answers) - 1
            answers = [
                answers[place] if place == failing else {**halted, "referenceId": reference}
                for place, reference in enumerate(references)
            ]
        return json_response({"compositeResponse": answers})

    @staticmethod
    def _subrequests(body: dict[str, Any]) -> list[dict[str, Any]]:
        found = body.get("compositeRequest")
        if not isinstance(found, list) or not found:
            raise unreadable("compositeRequest must be a list of subrequests")
        if len(found) > SUBREQUESTS_LIMIT:
            raise Refusal("INVALID_INPUT", f"The request can contain at most {SUBREQUESTS_LIMIT} subrequests.")
        references = [one.get("referenceId") for one in found if isinstance(one, dict)]
        for one in found:
            if not isinstance(one, dict) or not all(
                isinstance(one.get(key), str) for key in ("method", "url", "referenceId")
            ):
                raise unreadable("Each subrequest must have a method, a url and a referenceId")
            if not _REFERENCE_ID.fullmatch(one["referenceId"]) or references.count(one["referenceId"]) > 1:
                raise Refusal(
                    "INVALID_INPUT", f"Provided referenceId ('{one['referenceId']}') is not valid or not unique."
                )
        if sum(bool(_HEAVY.match(one["url"])) for one in found) > HEAVY_LIMIT:
            message = f"The request can contain at most {HEAVY_LIMIT} sObject Collections or query operations."
            raise Refusal("INVALID_INPUT", message)
        return found

    def _answer(
        self, call: Call, one: dict[str, Any], by_reference: dict[str, dict[str, Any]], *, all_or_none: bool
    ) -> tuple[dict[str, Any], bool]:
        try:
            url = _filled(one["url"], by_reference)
            body = _filled(one.get("body"), by_reference)
        except LookupError as error:
            return {**_halted(str(error.args[0])), "referenceId": one["referenceId"]}, True
        parts = urlsplit(url)
        if not _ALLOWED.match(parts.path):
            refusal = Refusal("INVALID_INPUT", f"The url {parts.path} is not supported in a Composite request.")
            return _shown(one, json_response(refusal.body(), 400)), True
        builder = EnvironBuilder(
            path=parts.path, query_string=parts.query, method=one["method"].upper(),
            data=None if body is None else json.dumps(body), content_type="application/json",
            headers=one.get("httpHeaders") or {},
        )  # fmt: skip
        inner = Call(Request(builder.get_environ()), call.caller, call.version, all_or_none)
        response = self._dispatch(inner.request, inner)
        failed = response.status_code >= 300 or int(response.headers.get("X-Rows-Failed", 0)) > 0
        return _shown(one, response), failed


class _RolledBackError(Exception):
    """A subrequest failed and the Composite is all or nothing."""


def _shown(one: dict[str, Any], response: Response) -> dict[str, Any]:
    text = response.get_data(as_text=True)
    kept = {name: value for name, value in response.headers.items() if name == "Location"}
    return {
        "body": json.loads(text) if text else None, "httpHeaders": kept, "httpStatusCode": response.status_code,
        "referenceId": one["referenceId"],
    }  # fmt: skip


def _halted(message: str) -> dict[str, Any]:
    refusal = Refusal("PROCESSING_HALTED", message)
    return {"body": refusal.body(), "httpHeaders": {}, "httpStatusCode": 400}


def _filled(value: Any, by_reference: dict[str, dict[str, Any]]) -> Any:
    """`value` with every reference replaced.

    Raises:
        LookupError: there is nothing at that place.
    """
    if isinstance(value, dict):
        return {key: _filled(one, by_reference) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, by_reference) for one in value]
    if not isinstance(value, str):
        return value
    whole = _REFERENCE.fullmatch(value)
    if whole:
        return _looked_up(whole, by_reference)
    return _REFERENCE.sub(lambda found: str(_looked_up(found, by_reference)), value)


def _looked_up(found: re.Match[str], by_reference: dict[str, dict[str, Any]]) -> Any:
    reference, path = found.group(1), found.group(2)
    answer = by_reference.get(reference)
    missing = LookupError(f"Invalid reference specified. No value for {path.lstrip('.')} found in {reference}. "
                          "Provided reference may be to a failed or later subrequest.")  # fmt: skip
    if answer is None or answer["httpStatusCode"] >= 300:
        raise missing
    current = answer["body"]
    for name, place in _STEP.findall(path):
        try:
            current = current[int(place)] if place else current[name]
        except (KeyError, IndexError, TypeError) as error:
            raise missing from error
    if isinstance(current, dict | list):
        raise missing
    return current
