"""LINE's webhook: signature, and one item per event of a delivery.

A delivery holds any number of events, or none: the console's Verify button sends an empty list and wants a 200. LINE
asks nothing by GET and signs no time, so repeats are told by ``webhookEventId`` alone.

Sources: developers.line.biz/en/docs/messaging-api/receiving-messages and .../verify-webhook-signature (documented),
github.com/line/line-openapi @6e4c2a2 webhook.yml (documented; 2026-07-01), read 2026-11. That ``webhookEventId`` and
``deliveryContext`` may be absent is observed in the sample files of github.com/line/line-bot-sdk-python @e1fa933. No
size limit is documented; ours is assumed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import SignatureError
from taps.webhooks.items import Answer, Item, WebhookRequest
from taps.webhooks.meta import Secret, key_of_content, parse_body

__all__ = ["HEADERS", "MAX_BODY_BYTES", "Settings", "challenge", "split", "verify"]

SIGNATURE_HEADER = "x-line-signature"
MAX_BODY_BYTES = 3 * 1024 * 1024
HEADERS = (SIGNATURE_HEADER,)

_SIGNATURE = re.compile(r"[A-Za-z0-9+/]{43}=")


class Settings(BaseSettings):
    """The secrets of the channel that receives LINE's webhooks."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_LINE_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    channel_secret: Secret = Field(description="The Messaging API channel's secret; LINE signs every delivery with it.")
    previous_channel_secret: Secret | None = Field(
        None, description="The secret before the last reissue; deliveries signed with it are taken until you remove it."
    )


def challenge(settings: Settings, request: WebhookRequest) -> Answer | None:
    """Nothing: LINE never asks by GET."""
    del settings, request
    return None


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when the body is signed with the current or the previous channel secret.

    Raises:
        SignatureError: it is not, or there is more than one signature.
    """
    given = request.headers.get(SIGNATURE_HEADER)
    if given is None:
        msg = f"there is no {SIGNATURE_HEADER} header"
        raise SignatureError(msg)
    if _SIGNATURE.fullmatch(given) is None:
        msg = f"{SIGNATURE_HEADER} is not one base64 text of 32 bytes"
        raise SignatureError(msg)
    secrets = [settings.channel_secret, settings.previous_channel_secret]
    expected = [
        base64.b64encode(hmac.new(secret.get_secret_value().encode(), request.body, hashlib.sha256).digest())
        for secret in secrets
        if secret is not None
    ]
    # All are compared, whichever matches: the time tells nothing about which secret is in use.
    if not any([hmac.compare_digest(one, given.encode()) for one in expected]):  # noqa: C419 (no short cut)
        msg = "the signature does not match; is the channel secret the one of the channel that sends?"
        raise SignatureError(msg)


def split(body: bytes) -> list[Item]:
    """Every event of a delivery, in the order in which they stand.

    The payload of an item::

        {"destination": "U0123456789abcdef0123456789abcdef",
         "event": {"type": "message", "timestamp": 1760000000000, "source": {"type": "user", "userId": "U89..."},
                   "webhookEventId": "01H8...", "message": {"id": "444573844083572737", "type": "text", ...}}}

    The kind is the event's own ``type``; ``verification`` is a delivery without events, ``other`` holds in ``event``
    whatever was found in a place or shape that nobody documented.

    Raises:
        PayloadError: the body as a whole cannot be read.
    """
    whole = parse_body(body)
    destination, events = whole.get("destination"), whole.get("events")
    if not isinstance(events, list):
        return [_item(0, "other", destination, whole)]
    if not events:
        return [_item(0, "verification", destination, {})]
    return [_item(index, _kind(event), destination, event) for index, event in enumerate(events)]


def _item(index: int, kind: str, destination: Any, event: Any) -> Item:
    return Item(index, kind, {"destination": destination, "event": event}, _key(kind, event))


def _kind(event: Any) -> str:
    kind = event.get("type") if isinstance(event, dict) else None
    return kind if isinstance(kind, str) and 0 < len(kind) <= 60 else "other"


def _key(kind: str, event: Any) -> str:
    """The event's own id, the same when LINE delivers it again; before 2022 there was none, then a message's id."""
    if kind not in {"verification", "other"}:
        event_id = event.get("webhookEventId")
        if isinstance(event_id, str) and event_id:
            return event_id
        message = event.get("message")
        message_id = message.get("id") if isinstance(message, dict) else None
        if kind == "message" and isinstance(message_id, str) and message_id:
            return f"{kind}:{message_id}"
    return key_of_content(kind, event)
