"""Slack's SDK as a client of the stand-in.

In: ``{"url", "token", "calls": [{"method", "arguments"}]}``. Out, for each call: ``{"ok": answer}`` or
``{"error": code, "status", "retry_after", "needed"}``. Two methods are the SDK's own doing: ``pages`` reads all of
the pages of ``arguments["of"]``, ``rotate`` has its `TokenRotator` refresh a token.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackTokenRotationError
from slack_sdk.oauth.installation_store import Bot
from slack_sdk.oauth.token_rotation import TokenRotator


def call(client: WebClient, method: str, arguments: dict[str, Any]) -> Any:
    """What a method answers."""
    if method == "pages":
        of, name = arguments.pop("of"), arguments.pop("name")
        return [one for page in getattr(client, of)(**arguments) for one in page[name]]
    if method == "rotate":
        rotator = TokenRotator(
            client_id=arguments["client_id"], client_secret=arguments["client_secret"], client=client
        )
        bot = Bot(
            app_id="A", bot_id="B", bot_user_id="U", bot_token=client.token or "", installed_at=1.0,
            bot_refresh_token=arguments["refresh_token"], bot_token_expires_at=1,
        )  # fmt: skip
        rotated = rotator.perform_bot_token_rotation(bot=bot)
        return {"token": rotated.bot_token, "refresh": rotated.bot_refresh_token} if rotated else None
    return getattr(client, method)(**arguments).data


def main() -> None:
    """Read, call, write."""
    work = json.load(sys.stdin)
    client = WebClient(token=work["token"], base_url=f"{work['url']}/api/")
    out = []
    for one in work["calls"]:
        try:
            out.append({"ok": call(client, one["method"], dict(one["arguments"]))})
        except SlackTokenRotationError as error:
            out.append({"error": error.api_error.response["error"]})
        except SlackApiError as error:
            answer: Any = error.response
            told = {"error": answer["error"], "status": answer.status_code, "needed": answer.get("needed")}
            headers = {name.lower(): value for name, value in answer.headers.items()}
            out.append({**told, "retry_after": headers.get("retry-after")})
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
