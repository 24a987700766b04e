"""Twilio's own library as a client of a server that is not Twilio.

In: ``{"url", "account_sid", "password": [user, secret], "calls": [{"call", "arguments"}]}``. Out, for each call:
``{"ok": ...}`` or ``{"code", "status", "message"}``. Times come back as the library has understood them.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

FIELDS = ("sid", "direction", "status", "from_", "to", "body", "num_media", "num_segments", "error_code", "date_sent",
          "messaging_service_sid")  # fmt: skip


def elsewhere(url: str) -> Any:
    """An HTTP client of the library's that calls `url` in Twilio's place."""
    client = TwilioHttpClient()
    original = client.request

    def request(method: str, address: str, *args: Any, **more: Any) -> Any:
        return original(method, address.replace("https://api.twilio.com", url), *args, **more)

    client.request = request
    return client


def told(one: Any, fields: tuple[str, ...] = FIELDS) -> dict[str, Any]:
    """What the library made of an answer."""
    values = {name: getattr(one, name) for name in fields}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def call(client: Any, name: str, arguments: dict[str, Any]) -> Any:
    """One call."""
    match name:
        case "send":
            return told(client.messages.create(**arguments))
        case "list":
            if "date_sent_after" in arguments:
                arguments["date_sent_after"] = datetime.fromisoformat(arguments["date_sent_after"])
            return [told(one) for one in client.messages.list(**arguments)]
        case "fetch":
            return told(client.messages(arguments["sid"]).fetch())
        case "media":
            fields = ("sid", "parent_sid", "content_type")
            return [told(one, fields) for one in client.messages(arguments["sid"]).media.list()]
        case "numbers":
            return [
                told(one, ("phone_number", "sms_url", "sms_method")) for one in client.incoming_phone_numbers.list()
            ]
        case _:
            return told(client.api.v2010.accounts(client.account_sid).fetch(), ("sid", "status", "type"))


def main() -> None:
    """Read, call, write."""
    work = json.load(sys.stdin)
    client = Client(*work["password"], account_sid=work["account_sid"], http_client=elsewhere(work["url"]))
    results: list[dict[str, Any]] = []
    for one in work["calls"]:
        try:
            results.append({"ok": call(client, one["call"], one.get("arguments", {}))})
        except TwilioRestException as error:
            results.append({"code": error.code, "status": error.status, "message": error.msg})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
