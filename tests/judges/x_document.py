"""X's official API document as a judge of requests and answers (openapi-core).

In: ``{"document": file, "exchanges": [{"method", "path", "query", "json", "status", "content_type", "answer"}]}``. Out,
for each: ``{"request": [...], "answer": [...]}``: what is wrong with it. An object must have no field that the document
does not know; the document itself would let any pass.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import requests
from openapi_core import Config, OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest, RequestsOpenAPIResponse

HOST = "https://api.x.com"


def without_the_rest(document: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """The document with those of its paths that match one that is asked about."""
    patterns = {path: re.compile(re.sub(r"\\{[^/]*?\\}", "[^/]+", re.escape(path))) for path in document["paths"]}
    kept = {path: item for path, item in document["paths"].items() if any(map(patterns[path].fullmatch, paths))}
    return {**document, "paths": kept}


def closed(node: Any) -> Any:
    """A schema whose objects have no other fields than those that it names."""
    if isinstance(node, list):
        return [closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {name: closed(value) for name, value in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def judged(openapi: OpenAPI, one: dict[str, Any]) -> dict[str, list[str]]:
    """The verdict on one exchange."""
    request = requests.Request(
        one["method"], HOST + one["path"], params=one.get("query"), json=one.get("json"),
        headers={"Authorization": "Bearer t"},
    ).prepare()  # fmt: skip
    response = requests.Response()
    response.status_code = one["status"]
    response.headers["Content-Type"] = one.get("content_type", "application/json")
    response._content = json.dumps(one["answer"]).encode()
    asked, answered = RequestsOpenAPIRequest(request), RequestsOpenAPIResponse(response)
    return {
        "request": [describe(error) for error in openapi.iter_request_errors(asked)],
        "answer": [describe(error) for error in openapi.iter_response_errors(asked, answered)],
    }


def describe(error: Exception) -> str:
    """An error with the reasons beneath it."""
    cause = error.__cause__
    beneath = [str(one.message)[:300] for one in getattr(cause, "schema_errors", [])]
    return "; ".join([f"{type(error).__name__}: {error}", *([repr(cause)] if cause and not beneath else []), *beneath])


def main() -> None:
    """Read, judge, write."""
    work = json.load(sys.stdin)
    document = json.loads(Path(work["document"]).read_text(encoding="utf-8"))
    document["components"]["schemas"] = closed(document["components"]["schemas"])
    document = without_the_rest(document, [one["path"] for one in work["exchanges"]])
    config = Config(spec_validator_cls=None, extra_media_type_deserializers={"application/problem+json": json.loads})
    openapi = OpenAPI.from_dict(document, config=config)
    json.dump([judged(openapi, one) for one in work["exchanges"]], sys.stdout)


if __name__ == "__main__":
    main()
