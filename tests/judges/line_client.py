"""LINE's own SDK as a client: runs the calls given on stdin against a server, writes what came of each.

In: ``{"url", "token", "calls": [{"api"?, "call", "arguments"}]}``; `api` is MessagingApi, MessagingApiBlob or
ChannelAccessToken, `call` a method, ``messages`` in the arguments are texts. Out: one ``{"ok": {...}}`` (the model that
the SDK made, or ``{"bytes"}``) or ``{"status", "body", "headers"}`` for each call. The SDK refuses an answer that does
not fit its models: that is ``{"refused": reason}``.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")

from linebot.v3 import messaging, oauth  # noqa: E402
from linebot.v3.messaging.exceptions import ApiException  # noqa: E402
from linebot.v3.oauth.exceptions import ApiException as TokenException  # noqa: E402


def arguments_of(call: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the SDK's models."""
    if "texts" in arguments:
        messages = [messaging.TextMessage(text=text) for text in arguments.pop("texts")]
        if call.startswith("push"):
            model: Any = messaging.PushMessageRequest(to=arguments.pop("to"), messages=messages)
            return {**arguments, "push_message_request": model}
        model = messaging.ReplyMessageRequest(reply_token=arguments.pop("reply_token"), messages=messages)
        return {**arguments, "reply_message_request": model}
    if call == "set_webhook_endpoint":
        return {"set_webhook_endpoint_request": messaging.SetWebhookEndpointRequest(**arguments)}
    return arguments


def main() -> None:
    """Read, call, write."""
    work = json.load(sys.stdin)
    results: list[dict[str, Any]] = []
    for one in work["calls"]:
        api = one.get("api", "MessagingApi")
        package = oauth if api == "ChannelAccessToken" else messaging
        configuration = package.Configuration(host=work["url"], access_token=work["token"])
        try:
            with package.ApiClient(configuration) as client:
                answer = getattr(getattr(package, api)(client), one["call"])(
                    **arguments_of(one["call"], one.get("arguments", {}))
                )
        except (ApiException, TokenException) as error:
            results.append({"status": error.status, "body": error.body, "headers": dict(error.headers or {})})
        except ValueError as error:
            results.append({"refused": str(error)[:300]})
        else:
            if isinstance(answer, bytes | bytearray):
                results.append({"ok": {"bytes": bytes(answer).hex()}})
            else:
                results.append({"ok": json.loads(answer.to_json()) if answer is not None else None})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
