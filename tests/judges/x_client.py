"""X's own SDK as a client of a server that is not X.

In: ``{"url", "login": arguments of its `Client`, "calls": [{"of", "method", "arguments", "body"?, "pages"?}]}``; `body`
is ``[name of a model, values]``. Out, for each call: ``{"ok": answer}`` (a list of pages where pages are asked for), or
``{"status", "problem", "reset"}``, or ``{"error", "told"}``. The call ``{"of": "refresh"}`` has the SDK refresh its
token.
"""

from __future__ import annotations

import base64
import importlib
import itertools
import json
import os
import sys
from typing import Any

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # the server is on this machine

import requests
from xdk import Client


def plain(value: Any) -> Any:
    """What an answer says, as JSON."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.model_dump(mode="json", exclude_none=True) if hasattr(value, "model_dump") else value


def call(client: Any, one: dict[str, Any]) -> Any:
    """One call."""
    if one["of"] == "refresh":
        return client.refresh_token()
    arguments = dict(one.get("arguments", {}))
    if "body" in one:
        name, values = one["body"]
        arguments["body"] = getattr(importlib.import_module(f"xdk.{one['of']}.models"), name)(**values)
    found = getattr(getattr(client, one["of"]), one["method"])(**arguments)
    if "pages" in one:
        return [plain(page) for page in itertools.islice(found, one["pages"])]
    return plain(found)


def main() -> None:
    """Read, call, write."""
    work = json.load(sys.stdin)
    client = Client(base_url=work["url"], **work["login"])
    out: list[dict[str, Any]] = []
    for one in work["calls"]:
        try:
            out.append({"ok": call(client, one)})
        except requests.HTTPError as error:
            answer = error.response
            reset = answer.headers.get("x-rate-limit-reset")
            out.append({"status": answer.status_code, "problem": answer.json(), "reset": reset})
        except Exception as error:  # noqa: BLE001 (its OAuth library has errors of its own)
            out.append({"error": type(error).__name__, "told": str(error)})
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
