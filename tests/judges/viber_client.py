"""Viber's own SDK as a client and as a receiver: runs the calls and judges the callbacks given on stdin.

In: ``{"url", "token", "calls": [{"call", "arguments"}], "posts": [{"body", "signature"}]}``; `call` is a method of its
``Api``, or ``send`` with ``to`` and the members of a message. Out: ``{"calls": [{"ok"} or {"error"}], "posts":
[{"good", "tampered", "request"}]}``, the request as its parser made it.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")

from viberbot import Api, BotConfiguration  # noqa: E402
from viberbot.api.messages import get_message  # noqa: E402


def call(api: Any, name: str, arguments: dict[str, Any]) -> Any:
    """One call; what the SDK gave back."""
    if name == "send":
        return api.send_messages(arguments.pop("to"), get_message(arguments))
    return getattr(api, name)(**arguments)


def said(request: Any) -> dict[str, Any]:
    """What the parser made of one callback."""
    told = {"class": type(request).__name__, "event": request.event_type, "at": request.timestamp}
    for name in ("message_token", "user_id", "desc", "context", "subscribed"):
        if (found := getattr(request, name, None)) is not None:
            told[name] = found
    person = getattr(request, "sender", None) or getattr(request, "user", None)
    if person is not None:
        told["user"] = {"id": person.id, "name": person.name, "language": person.language, "country": person.country}
    message = getattr(request, "message", None)
    if message is not None:
        told["message"] = {"class": type(message).__name__, "text": getattr(message, "text", None)}
    return told


def main() -> None:
    """Read, call, judge, write."""
    work = json.load(sys.stdin)
    api = Api(BotConfiguration(auth_token=work["token"], name="Sandbox", avatar=""))
    api._request_sender._viber_bot_api_url = f"{work['url']}/pa"
    calls: list[dict[str, Any]] = []
    for one in work.get("calls", []):
        try:
            calls.append({"ok": call(api, one["call"], one.get("arguments", {}))})
        except Exception as error:  # noqa: BLE001 (the SDK raises nothing narrower)
            calls.append({"error": str(error)})
    posts = []
    for post in work.get("posts", []):
        body = post["body"].encode()
        told = {"good": api.verify_signature(body, post["signature"])}
        told["tampered"] = api.verify_signature(body + b" ", post["signature"])
        known = '"event":"webhook"' not in post["body"]  # its parser knows no ping
        posts.append({**told, "request": said(api.parse_request(body)) if known else None})
    json.dump({"calls": calls, "posts": posts}, sys.stdout)


if __name__ == "__main__":
    main()
