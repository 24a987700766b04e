"""Instagram's webhook: handshake, signature, and one item per event of a delivery.

A delivery may hold up to 1000 updates: several accounts (``entry``), several events each. Chat events stand in
``messaging``, or in ``standby`` while another app owns the thread. Comments and mentions stand in ``changes``; for apps
with Instagram login Meta's examples put ``field`` and ``value`` of one comment straight into the entry. Both forms are
read, for both logins. Every event becomes an item.

The secret is that of the app that sends: the Facebook app with Facebook login, the *Instagram* app (its own secret, on
the page "API setup with Instagram login" of the app's dashboard) with Instagram login.

Sources: developers.facebook.com/docs/instagram-platform/webhooks/examples (2025-11-24), /docs/graph-api/webhooks/
reference/instagram (read 2026-11), documented; that comments of Instagram login come in ``changes`` as well is observed
in public handlers. The size limit is that of WhatsApp's webhook; for Instagram none is documented (assumed).
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
    "read",
    "reaction",
    "postback",
    "referral",
    "optin",
    "pass_thread_control",
    "take_thread_control",
    "request_thread_control",
    "pass_thread_metadata",
    "app_roles",
    "policy_enforcement",
    "response_feedback",
)
"""The key of a chat event that tells what it is; it is the item's kind, save for echoes and unsent messages."""

_FIELDS = {
    "comments": "comment",
    "live_comments": "comment",
    "mentions": "mention",
    "story_insights": "story_insights",
}
"""Field of a change -> kind."""


class Settings(MetaWebhookSettings):
    """The secrets of the app that receives Instagram's webhooks."""

    model_config = SettingsConfigDict(env_prefix="ONETHREAD_INSTAGRAM_")


def split(body: bytes) -> list[Item]:
    """Every event of a delivery, in the order in which they stand.

    The payload of an item::

        {"account_id": "17841405822304914", "standby": False, "entry_time": 1750000000000, "field": None,
         "event": {"sender": {"id": "8901..."}, "recipient": {...}, "timestamp": 1750000000000, "message": {...}}}

    ``field`` is set for what is a change: comments (kind ``comment``), mentions (``mention``), statistics, and the chat
    events of the dashboard's test form. A message is of kind ``message``, ``message_echo`` (the account's own) or
    ``message_deleted`` (unsent). Kind ``other`` holds in ``event`` whatever was found in a place or shape that nobody
    documented.

    Raises:
        PayloadError: the body as a whole cannot be read.
    """
    return items_of(body, of="instagram", account_field="account_id", kind_of=_kind, key_of=_key, bare_changes=True)


def _kind(field: str | None, event: Any) -> str:
    if field in _FIELDS:
        return _FIELDS[field]
    if isinstance(event, dict):
        for kind in _KINDS:
            if isinstance(event.get(kind), dict):
                return _kind_of_message(event[kind]) if kind == "message" else kind
    return "other"


def _kind_of_message(message: dict[str, Any]) -> str:
    if message.get("is_deleted") is True:
        return "message_deleted"
    return "message_echo" if message.get("is_echo") is True else "message"


def _key(kind: str, event: Any) -> str:
    """A message or comment by its id, what happens to a message once by its id too; the rest goes by content."""
    if kind in {"message", "message_echo", "message_deleted", "postback", "read", "message_edit"}:
        part = event["message" if kind.startswith("message_") and kind != "message_edit" else kind]
        mid = part.get("mid")
        if isinstance(mid, str) and mid:
            match kind:
                case "message_deleted":
                    return f"{mid}:unsend"
                case "read":
                    return f"{mid}:read"
                case "message_edit" if isinstance(part.get("num_edit"), int | str):
                    return f"{mid}:edit:{part['num_edit']}"
                case "message" | "message_echo" | "postback":
                    return mid
    if kind == "comment":
        comment_id = _comment_id(event)
        if comment_id is not None:
            return comment_id
    return key_of_content(kind, event)


def _comment_id(event: dict[str, Any]) -> str | None:
    """The comment's id: ``id`` in the reference, ``comment_id`` in the examples for Facebook login."""
    for name in ("id", "comment_id"):
        value = event.get(name)
        if isinstance(value, str) and value:
            return value
    return None
