"""HubSpot's webhook of a custom channel: a word in the address, the signature where there is one, and the events.

HubSpot posts what agents answer in the inbox to the address with which the channel was registered. No page says whether
these posts are always signed, so the address carries a token (``?token=...``) that is always asked for, and a signature
is held against the app's secret whenever it is there.

Sources: developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation (v3: base64 of
HMAC-SHA256 over method, address, body and time in milliseconds; five minutes; some characters of the address are
decoded), developers.hubspot.com/docs/api-reference/error-handling (five seconds; ten more tries over 24 hours), read
2026-11, documented. That a body may be a list: observed in public code. The size limit is ours.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import PayloadError, SignatureError
from taps.webhooks.items import Answer, Item, WebhookRequest
from taps.webhooks.meta import Secret, key_of_content, parse_body

MAX_BODY_BYTES = 2 * 1024 * 1024
SIGNATURE_HEADER = "x-hubspot-signature-v3"
TIMESTAMP_HEADER = "x-hubspot-request-timestamp"
HEADERS = (SIGNATURE_HEADER, TIMESTAMP_HEADER)

_WINDOW_SECONDS = 300
_SIGNATURE = re.compile(r"[A-Za-z0-9+/]{43}=", re.ASCII)
_TIMESTAMP = re.compile(r"[0-9]{10,15}", re.ASCII)
# Documented: the address is signed with these decoded.
_DECODED = {
    "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$", "%27": "'", "%28": "(", "%29": ")",
    "%2A": "*", "%2C": ",", "%3B": ";",
}  # fmt: skip


class Settings(BaseSettings):
    """What HubSpot's posts must carry."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_HUBSPOT_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    webhook_token: Secret = Field(
        description="A long random word of your choice; set-up puts it into the address that HubSpot posts to."
    )
    previous_webhook_token: Secret | None = Field(None, description="While you change it: the word before.")
    client_secret: Secret | None = Field(
        None, description="The app's client secret; HubSpot signs with it. A signature that is there must then match."
    )
    previous_client_secret: Secret | None = Field(None, description="While you rotate it: the secret before.")
    require_signature: bool = Field(
        False, description="Refuse posts without a signature: where you have seen that HubSpot signs all of yours."
    )


def challenge(settings: Settings, request: WebhookRequest) -> Answer | None:
    """Never an answer: HubSpot asks nothing before it posts."""
    del settings, request
    return None


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when the address has the token, and the signature (if there is one) matches and is fresh.

    Raises:
        SignatureError: the token is missing or wrong, or the signature is wrong, old, or missing where it is required.
    """
    given = request.query.get("token", "").encode()
    tokens = [one for one in (settings.webhook_token, settings.previous_webhook_token) if one is not None]
    # All are compared, whichever matches: the time tells nothing about which token is in use.
    if not any([hmac.compare_digest(given, one.get_secret_value().encode()) for one in tokens]):  # noqa: C419
        msg = "the address has no token, or another one; run `onethread setup hubspot` after changing it"
        raise SignatureError(msg)
    signature = request.headers.get(SIGNATURE_HEADER)
    if signature is None or settings.client_secret is None:
        if settings.require_signature:
            msg = f"there is no {SIGNATURE_HEADER}, or no client_secret to hold it against"
            raise SignatureError(msg)
        return
    secrets = [one for one in (settings.client_secret, settings.previous_client_secret) if one is not None]
    _verify_signature([one.get_secret_value() for one in secrets], signature, request)


def _verify_signature(secrets: Sequence[str], signature: str, request: WebhookRequest) -> None:
    stamp = request.headers.get(TIMESTAMP_HEADER, "")
    if not _SIGNATURE.fullmatch(signature) or not _TIMESTAMP.fullmatch(stamp):
        msg = f"{SIGNATURE_HEADER} or {TIMESTAMP_HEADER} is malformed, missing or there twice"
        raise SignatureError(msg)
    expected = [
        sign(secret, request.method, url, request.body, stamp) for secret in secrets for url in spellings(request.url)
    ]
    if not any([hmac.compare_digest(one, signature) for one in expected]):  # noqa: C419
        msg = (
            "the signature does not match; is client_secret that of the app, and ONETHREAD_RECEIVER_PUBLIC_URL the"
            " address as HubSpot has it?"
        )
        raise SignatureError(msg)
    age = request.received_at.timestamp() - int(stamp) / 1000
    if abs(age) > _WINDOW_SECONDS:
        msg = f"the delivery was signed {age:.0f} s ago, the limit is {_WINDOW_SECONDS}; is our clock right?"
        raise SignatureError(msg)


def sign(secret: str, method: str, url: str, body: bytes, timestamp: str) -> str:
    """The v3 signature; `timestamp`: milliseconds since 1970, as the header has it."""
    text = method.encode() + url.encode() + body + timestamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()


def spellings(url: str) -> list[str]:
    """The address as it came, and with the characters decoded that HubSpot decodes before it signs."""
    decoded = re.sub("%[0-9A-Fa-f]{2}", lambda found: _DECODED.get(found[0].upper(), found[0]), url)
    return list(dict.fromkeys([url, decoded]))


def split(body: bytes) -> list[Item]:
    """The events of a delivery: one, or a list of them.

    The payload of an item is ``{"event": {"type": "OUTGOING_CHANNEL_MESSAGE_CREATED", "portalId": "8800001",
    "channelId": "41", "channelIntegrationThreadIds": ["whatsapp:1:..."], "message": {"id": ..., "text": ...}}}``.
    Kind ``answer`` is an agent's message, ``other`` what is about channels and accounts.

    Raises:
        PayloadError: the body cannot be read.
    """
    if body.lstrip()[:1] == b"[":
        listed = parse_body(b'{"events":' + body + b"}").get("events")
        events: list[Any] = listed if isinstance(listed, list) else []
        if not events:
            msg = "HubSpot: a delivery is a list without events"
            raise PayloadError(msg)
        return [_item(index, one if isinstance(one, dict) else {"value": one}) for index, one in enumerate(events)]
    return [_item(0, parse_body(body))]


def _item(index: int, event: Mapping[str, Any]) -> Item:
    message = event.get("message")
    message_id = message.get("id") if isinstance(message, dict) else None
    if event.get("type") == "OUTGOING_CHANNEL_MESSAGE_CREATED":
        key = f"answer:{message_id}" if isinstance(message_id, str) and message_id else None
        return Item(index, "answer", {"event": dict(event)}, key or key_of_content("answer", dict(event)))
    return Item(index, "other", {"event": dict(event)}, key_of_content("other", dict(event)))
