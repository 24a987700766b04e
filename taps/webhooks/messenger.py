"""Messenger's webhook: handshake, signature, and one item per event of a delivery.

A delivery may hold up to 1000 updates: several pages (``entry``), several events each. The same events stand in
``standby`` instead of ``messaging`` while another app (or a person in the Page inbox) owns the thread, and in
``changes`` when somebody presses Test in the app's dashboard. News of the page's feed, comments among them, always
stand in ``changes``. Every one becomes an item.

Sources: developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks and its pages
webhook-events/* (documented; copies of 2026-05-05 and mid-2026); developers.facebook.com/docs/graph-api/webhooks/
reference/page (field ``feed``; documented, read 2026-11). The size limit is that of WhatsApp's webhook; for
Messenger none is documented (assumed).
"""

from __future__ import annotations

from typing import Any

from pydantic_settings import SettingsConfigDict

from taps.webhooks.items import Item
from taps.webhooks.meta import SIGNATURE_HEADER, MetaWebhookSettings, challenge, key_of_content, verify
from taps.webhooks.meta_events import items_of

__all__ = ["HEADERS", "MAX_BODY_BYTES", "Settings", "challenge", "split", "verify"]

MAX_BODY_BYTES = 3 * 1024 * 1024
HEADERS = (SIGNATURE_HEADER,)

_KINDS = (
    "message",
    "message_edit",
    "delivery",
    "read",
    "reaction",
    "postback",
    "referral",
    "optin",
    "account_linking",
    "pass_thread_control",
    "take_thread_control",
    "request_thread_control",
    "app_roles",
    "policy_enforcement",
    "response_feedback",
    "order",
)
"""The key of an event that tells what it is; it is the item's kind, save that an echo is ``message_echo``."""


class Settings(MetaWebhookSettings):
    """The secrets of the app that receives Messenger's webhooks."""

    model_config = SettingsConfigDict(env_prefix="ONETHREAD_MESSENGER_")


def split(body: bytes) -> list[Item]:
    """Every event of a delivery, in the order in which they stand.

    The payload of an item::

        {"page_id": "682498302938465", "standby": False, "entry_time": 1750000000000, "field": None,
         "event": {"sender": {"id": "6890..."}, "recipient": {...}, "timestamp": 1750000000000, "message": {...}}}

    ``field`` is set for what stood in ``changes``: the dashboard's test form, and the page's feed (kinds ``comment``
    and ``feed``). Kind ``other`` holds in ``event`` whatever was found in a place or shape that nobody documented.

    Raises:
        PayloadError: the body as a whole cannot be read.
    """
    return items_of(body, of="page", account_field="page_id", kind_of=_kind, key_of=_key)


def _kind(field: str | None, event: Any) -> str:
    if field == "feed":
        return "comment" if event.get("item") == "comment" else "feed"
    if isinstance(event, dict):
        for kind in _KINDS:
            if isinstance(event.get(kind), dict):
                return "message_echo" if kind == "message" and event[kind].get("is_echo") is True else kind
    return "other"


def _key(kind: str, event: Any) -> str:
    """A message or comment by its id, an edit by mid and counter; the rest has no id of its own and goes by content."""
    if kind in {"message", "message_echo", "postback"}:
        mid = event["postback" if kind == "postback" else "message"].get("mid")
        if isinstance(mid, str) and mid:
            return mid
    if kind == "comment":
        comment_id, verb = event.get("comment_id"), event.get("verb")
        if isinstance(comment_id, str) and comment_id and verb in ("add", "remove"):
            return comment_id if verb == "add" else f"{comment_id}:remove"
    if kind == "message_edit":
        edit = event[kind]
        if isinstance(edit.get("mid"), str) and isinstance(edit.get("num_edit"), int | str):
            return f"{edit['mid']}:edit:{edit['num_edit']}"
    return key_of_content(kind, event)
