"""Twilio's official API document as a judge of requests and answers (openapi-core).

In: ``{"document": file, "exchanges": [{"method", "path", "query", "form", "status", "answer"}]}``. Out, for each:
``{"request": [...], "answer": [...]}``: what is wrong with it.

Two things are taken out of the document before: what is not asked about (it has 1.5 MB), and that a filter by date is a
date-time, which its own examples and descriptions contradict.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import requests
import yaml
from openapi_core import Config, OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest, RequestsOpenAPIResponse

HOST = "https://api.twilio.com"


def without_the_rest(document: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """The document with those of its paths that match one that is asked about."""
    patterns = {path: re.compile(re.sub(r"\\{[^/]*?\\}", "[^/]+", re.escape(path))) for path in document["paths"]}
    kept = {path: document["paths"][path] for path, pattern in patterns.items() if any(map(pattern.fullmatch, paths))}
    for item in kept.values():
        for parameter in item.get("get", {}).get("parameters", []):
            if parameter["name"].startswith("DateSent"):
                parameter["schema"].pop("format", None)
    return {**document, "paths": kept}


def judged(openapi: OpenAPI, one: dict[str, Any]) -> dict[str, list[str]]:
    """The verdict on one exchange."""
    request = requests.Request(
        one["method"], HOST + one["path"], params=one.get("query"), data=one.get("form"), auth=("AC", "token")
    ).prepare()
    response = requests.Response()
    response.status_code = one["status"]
    response.headers["Content-Type"] = "application/json"
    response._content = json.dumps(one["answer"]).encode()
    asked, answered = RequestsOpenAPIRequest(request), RequestsOpenAPIResponse(response)
    return {
        "request": [describe(error) for error in openapi.iter_request_errors(asked)],
        "answer": [describe(error) for error in openapi.iter_response_errors(asked, answered)],
    }


def describe(error: Exception) -> str:
    """An error with the reasons beneath it."""
    cause = error.__cause__
    beneath = [str(one.message) for one in getattr(cause, "schema_errors", [])]
    return "; ".join([f"{type(error).__name__}: {error}", *([repr(cause)] if cause and not beneath else []), *beneath])


def main() -> None:
    """Read, judge, write."""
    work = json.load(sys.stdin)
    text = Path(work["document"]).read_text(encoding="utf-8")
    document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    document = without_the_rest(document, [one["path"] for one in work["exchanges"]])
    openapi = OpenAPI.from_dict(document, config=Config(spec_validator_cls=None))
    json.dump([judged(openapi, one) for one in work["exchanges"]], sys.stdout)


if __name__ == "__main__":
    main()
