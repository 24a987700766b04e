"""LINE's own OpenAPI documents as judges of requests and answers, made strict first.

In: ``{"specs", "exchanges": [...], "webhooks": [body, ...]}``; `specs` is the folder with the documents and with
``spec_tune.py``. An exchange has ``method, path, query, headers, body, status, answer_headers, answer``, bodies as
text. Out: ``{"exchanges": [{"operation", "request": [...], "answer": [...]}], "webhooks": [[...], ...]}`` with what is
wrong; `operation` is ``None`` where the documents know no such call.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

warnings.simplefilter("ignore")

from openapi_core import Config, OpenAPI  # noqa: E402
from openapi_core.exceptions import OpenAPIError  # noqa: E402
from openapi_core.testing import MockRequest, MockResponse  # noqa: E402

DATA_PATHS = ("/content", "/content/transcoding", "/content/preview")


def load(specs: Path, name: str) -> OpenAPI:
    """A document, made strict."""
    wanted = importlib.util.spec_from_file_location("spec_tune", specs / "spec_tune.py")
    tune: Any = importlib.util.module_from_spec(wanted)  # type: ignore[arg-type]
    wanted.loader.exec_module(tune)  # type: ignore[union-attr]
    document, _ = tune.tune(tune.load(str(specs / "line" / name)))
    return OpenAPI.from_dict(document, config=Config(spec_validator_cls=None))


def reasons(errors: Any) -> list[str]:
    """What is wrong, with the schema's own words."""
    found = []
    for error in errors:
        inner = getattr(error, "schema_errors", None) or getattr(error.__cause__, "schema_errors", None) or []
        found.append("; ".join([f"{type(error).__name__}: {error}", *(one.message[:200] for one in inner)]))
    return found


def request_of(one: dict[str, Any], host: str) -> MockRequest:
    """An exchange's request, under the platform's real host."""
    return MockRequest(
        host, one["method"].lower(), one["path"], args=dict(parse_qsl(one["query"])), headers=one["headers"],
        data=one["body"].encode() if one["body"] else None,
        content_type=one["headers"].get("Content-Type", "").partition(";")[0],
    )  # fmt: skip


def main() -> None:
    """Read, judge, write."""
    work = json.load(sys.stdin)
    specs = Path(work["specs"])
    api, tokens, webhooks = (
        load(specs, name) for name in ("messaging-api.yml", "channel-access-token.yml", "webhook.yml")
    )
    judged = []
    for one in work["exchanges"]:
        document = tokens if "oauth" in one["path"] else api
        host = "https://api-data.line.me" if one["path"].endswith(DATA_PATHS) else "https://api.line.me"
        request = request_of(one, host)
        answer = MockResponse(
            data=one["answer"].encode("latin-1"), status_code=one["status"], headers=one["answer_headers"],
            content_type=one["answer_headers"].get("Content-Type", ""),
        )  # fmt: skip
        verdict: dict[str, Any] = {"operation": f"{one['method']} {one['path']}"}
        try:
            verdict["request"] = reasons(document.iter_request_errors(request))
            verdict["answer"] = reasons(document.iter_response_errors(request, answer))
        except OpenAPIError as error:
            verdict = {"operation": None, "request": [str(error)], "answer": []}
        judged.append(verdict)
    bodies = []
    for body in work["webhooks"]:
        request = MockRequest(
            "https://example.com", "post", "/callback", data=body.encode(), content_type="application/json"
        )
        bodies.append(reasons(webhooks.iter_request_errors(request)))
    json.dump({"exchanges": judged, "webhooks": bodies}, sys.stdout)


if __name__ == "__main__":
    main()
