"""X's webhook: handshake (CRC), signature, and the items of a delivery.

X pushes in two shapes: of its Activity API (one event under ``data``, with ``event_type``) and of the deprecated
Account Activity API (lists named ``..._events`` beside ``for_user_id``). Direct messages are the same in both, and
`dm_key` gives a message the same key as reading it from ``/2/dm_events`` does. No time is signed, so repeats are told
by the event's id alone.

**The handshake is an oracle.** Whoever asks ``?crc_token=...`` gets that text signed with the secret that also signs
deliveries. So a token is signed only when no delivery could consist of it: letters, digits and the signs of base64.

Sources: github.com/xdevplatform/docs @2871328, x-api/webhooks/{introduction,quickstart}.mdx, x-api/activity/
event-payloads.mdx, x-api/account-activity/introduction.mdx, read 2026-11, documented. Which characters a token has, and
the size limit of a delivery, are assumed; that ``dm.read`` has the node of the older API is assumed as well (its own
page shows none).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import SignatureError
from taps.webhooks.items import Answer, Item, WebhookRequest
from taps.webhooks.meta import Secret, key_of_content, parse_body

__all__ = ["MAX_BODY_BYTES", "Settings", "challenge", "dm_key", "post_key", "split", "verify"]

SIGNATURE_HEADER = "x-twitter-webhooks-signature"
MAX_BODY_BYTES = 1024 * 1024

MESSAGE, READ, TYPING, MENTION, OTHER = "message", "read", "typing", "mention", "other"

ACTIVITY_LISTS: Mapping[str, tuple[str, str]] = {
    "dm.sent": (MESSAGE, "direct_message_events"),
    "dm.received": (MESSAGE, "direct_message_events"),
    "dm.read": (READ, "direct_message_mark_read_events"),
    "dm.indicate_typing": (TYPING, "direct_message_indicate_typing_events"),
}
"""``event_type`` of the Activity API -> our kind, and the list in its payload."""

ACCOUNT_LISTS: Mapping[str, str] = {name: kind for kind, name in ACTIVITY_LISTS.values()}
"""List of the Account Activity API -> our kind; every other ``..._events`` keeps its own name."""

_SIGNATURE = re.compile(r"sha256=[A-Za-z0-9+/]{43}=")
_CRC_TOKEN = re.compile(r"[A-Za-z0-9+/=_.~ -]{1,400}")
_NAME = re.compile(r"[A-Za-z0-9_.]{1,60}")
_ID = re.compile(r"[0-9]{1,20}")
_AROUND = ("users", "apps")


class Settings(BaseSettings):
    """The secrets of the app that receives X's webhooks."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_X_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    consumer_secret: Secret = Field(
        description="The app's consumer secret (API key secret); X signs every delivery with it."
    )
    previous_consumer_secret: Secret | None = Field(
        None,
        description="The secret before you regenerated it; deliveries signed with it are taken until you remove it.",
    )


def challenge(settings: Settings, request: WebhookRequest) -> Answer | None:
    """The answer to X's Challenge-Response Check; ``None`` when the request is none.

    Raises:
        SignatureError: the token is empty, or a text that could be a delivery.
    """
    token = request.query.get("crc_token")
    if token is None:
        return None
    if not _CRC_TOKEN.fullmatch(token):
        msg = "the handshake's crc_token is not 1 to 400 letters, digits and signs of base64"
        raise SignatureError(msg)
    answer = {"response_token": _signature(settings.consumer_secret, token.encode())}
    return Answer(json.dumps(answer), "application/json")


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when the body is signed with the current or the previous secret.

    Raises:
        SignatureError: it is not, or there is more than one signature.
    """
    given = request.headers.get(SIGNATURE_HEADER)
    if given is None:
        msg = f"there is no {SIGNATURE_HEADER} header"
        raise SignatureError(msg)
    if _SIGNATURE.fullmatch(given) is None:
        msg = f"{SIGNATURE_HEADER} is not one sha256= and 32 bytes in base64"
        raise SignatureError(msg)
    secrets = [settings.consumer_secret, settings.previous_consumer_secret]
    expected = [_signature(secret, request.body) for secret in secrets if secret is not None]
    # All are compared, whichever matches: the time tells nothing about which secret is in use.
    if not any([hmac.compare_digest(one, given) for one in expected]):  # noqa: C419 (no short cut)
        msg = "the signature does not match; is the consumer secret the one of the app that sends?"
        raise SignatureError(msg)


def _signature(secret: Secret, text: bytes) -> str:
    digest = hmac.new(secret.get_secret_value().encode(), text, hashlib.sha256).digest()
    return f"sha256={base64.b64encode(digest).decode()}"


def split(body: bytes) -> list[Item]:
    """The events of a delivery.

    The payload of an item::

        {"account": "1111111111111111111", "event_type": "dm.received", "event": {"type": "message_create", ...},
         "users": {"2222222222222222222": {"data": {"username": ...}}}}

    Kinds: ``message``, ``read``, ``typing``, ``mention``; else the name that X gives it (``chat.received``,
    ``follow_events``), or ``other``. ``account`` is whose subscription it is: the same message comes once for each of
    its people who are subscribed. Apps that share an address bring it several times (documented).

    Raises:
        PayloadError: the body cannot be read.
    """
    whole = parse_body(body)
    found = _activity(whole) or _account_activity(whole) or [(OTHER, {"event": whole})]
    return [Item(index, kind, payload, _key(kind, payload)) for index, (kind, payload) in enumerate(found)]


def dm_key(event_id: Any) -> str | None:
    """The key of a direct message event by its id, however it came; ``None`` when that is no id."""
    text = str(event_id) if isinstance(event_id, int) and not isinstance(event_id, bool) else event_id
    return f"dm:{text}" if isinstance(text, str) and _ID.fullmatch(text) else None


def post_key(post_id: Any) -> str | None:
    """The key of a post that mentions us."""
    key = dm_key(post_id)
    return key and key.replace("dm:", "post:", 1)


def _activity(whole: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The events of a delivery of the Activity API; none when it is not one."""
    data = whole.get("data")
    name = data.get("event_type") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(name, str) or not _NAME.fullmatch(name):
        return []
    chosen, payload = data.get("filter"), data.get("payload")
    account = chosen.get("user_id") if isinstance(chosen, dict) else None
    around: dict[str, Any] = {"account": account, "event_type": name, "event_uuid": data.get("event_uuid")}
    if name not in ACTIVITY_LISTS:
        kind = MENTION if name == "post.mention.create" else name
        return [(kind, {**around, "event": payload, "includes": data.get("includes")})]
    kind, list_name = ACTIVITY_LISTS[name]
    if not isinstance(payload, dict) or not isinstance(payload.get(list_name), list) or not payload[list_name]:
        return [(kind, {**around, "event": payload})]
    events, around = payload[list_name], {**around, **_beside(payload)}
    return [(kind, {**around, "event": event}) for event in events]


def _account_activity(whole: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The events of a delivery of the Account Activity API; none when it is not one."""
    around = {"account": whole.get("for_user_id"), **_beside(whole)}
    found: list[tuple[str, dict[str, Any]]] = []
    for name, events in whole.items():
        if not _NAME.fullmatch(name):
            continue
        if name == "user_event" and isinstance(events, dict):
            found.append((name, {**around, "event_type": name, "event": events}))
        elif name.endswith("_events") and isinstance(events, list):
            kind = ACCOUNT_LISTS.get(name, name)
            found += [(kind, {**around, "event_type": name, "event": event}) for event in events]
    return found


def _beside(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: payload[name] for name in _AROUND if isinstance(payload.get(name), dict)}


def _key(kind: str, payload: dict[str, Any]) -> str:
    """A message by its id, a reading by who and how far, a post by its id; the rest by X's own id, or by content."""
    event = payload["event"]
    if isinstance(event, dict):
        if kind in {MESSAGE, MENTION}:
            key = dm_key(event.get("id")) if kind == MESSAGE else post_key(event.get("id"))
            if key is not None:
                return key
        reader, last = event.get("sender_id"), event.get("last_read_event_id")
        if kind == READ and isinstance(reader, str) and isinstance(last, str) and reader and last:
            return f"read:{reader}:{last}"
    uuid = payload.get("event_uuid")
    if kind not in {MESSAGE, READ, MENTION, OTHER} and isinstance(uuid, str) and 0 < len(uuid) <= 40:
        return f"{kind}:{uuid}"
    return key_of_content(kind, payload)
