"""HubSpot's newer client: runs the calls given on stdin against a server, writes what came of each.

In: ``{"url", "token", "calls": [{"call": "conversations.custom_channels.create", "arguments": {...}}]}``. Out: one
``{"ok": {...}}`` (the model that the client made, checked field by field), ``{"status", "body"}`` or ``{"refused"}``
(an answer that does not fit its models) for each call. A text ``{0.id}`` in an argument is that of call 0's answer.
"""

from __future__ import annotations

import json
import sys
from functools import reduce
from typing import Any

from hubspot_sdk import APIResponseValidationError, APIStatusError, HubSpot


def filled(value: Any, answers: list[dict[str, Any]]) -> Any:
    """Arguments with the answers that they refer to."""
    if isinstance(value, dict):
        return {key: filled(one, answers) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, answers) for one in value]
    if isinstance(value, str) and value.startswith("{"):
        number, _, name = value.strip("{}").partition(".")
        return (answers[int(number)].get("ok") or {}).get(name, "0")
    return value


def main() -> None:
    """Read, call, write."""
    work = json.load(sys.stdin)
    client = HubSpot(access_token=work["token"], base_url=work["url"], max_retries=0, _strict_response_validation=True)
    answers: list[dict[str, Any]] = []
    for one in work["calls"]:
        method = reduce(getattr, one["call"].split("."), client)
        try:
            answer = method(**filled(one.get("arguments", {}), answers))
        except APIStatusError as error:
            answers.append({"status": error.status_code, "body": error.body})
        except APIResponseValidationError as error:
            answers.append({"refused": str(error)[:500]})
        else:
            answers.append({"ok": answer.to_dict(mode="json") if hasattr(answer, "to_dict") else None})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
