"""What ``onethread doctor`` asks of X about the app's webhook.

Source: see `taps.x_api`.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from mappings.errors import OneThreadError
from mappings.fields import objects_of
from taps.base import Check
from taps.x_api import XSession

_WANTED = ("dm.received", "dm.sent")


def check_webhook(app: XSession, route: str, account: str | None) -> Iterator[Check]:
    """Whether a webhook of the app posts to our route, is valid, and has the account's messages subscribed.

    Args:
        app: calls with the app's bearer token.
        route: ours.
        account: the user id; ``None`` where it is not known.
    """
    wanted = "/webhooks/x" + ("" if route == "default" else f"/{route}")
    try:
        rows = objects_of(app.get("2/webhooks"), "data", "X webhooks")
        mine = [one for one in rows if urlsplit(str(one.get("url"))).path.rstrip("/").endswith(wanted)]
        if not mine:
            yield Check(
                "webhook", False, "none of the app's posts here", f"POST /2/webhooks for https://<host>{wanted}"
            )
            return
        for one in mine:
            fix = f"PUT /2/webhooks/{one.get('id')} while `onethread receive` runs."
            yield Check("webhook", one.get("valid") is True, f"valid: {one.get('valid') is True}", fix)
        rows = objects_of(app.get("2/activity/subscriptions", max_results=1000), "data", "X subscriptions")
    except OneThreadError as error:
        yield Check("webhook", False, str(error), "Is bearer_token the app's?")
        return
    hooks = {str(one.get("id")) for one in mine}
    told = {
        one.get("event_type")
        for one in rows
        if one.get("webhook_id") in hooks and account in {None, (one.get("filter") or {}).get("user_id")}
    }
    missing = [one for one in _WANTED if one not in told]
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(sorted(map(str, told)))
    yield Check("subscriptions", not missing, detail, "POST /2/activity/subscriptions for each of them.")
