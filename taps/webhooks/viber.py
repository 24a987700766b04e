"""Viber's webhook: signature, and the one item of a delivery.

Each delivery is one event. Viber asks nothing by GET; inside ``set_webhook`` it posts an event ``webhook``, signed as
all others, and takes the address only when that is answered 200. No time is signed, so repeats are told by the message
token alone.

Sources: developers.viber.com/docs/api/rest-bot-api and .../docs/faq (documented), github.com/viber/viber-bot-python
@5cfe34e (documented: signature, event names), read 2026-11. No size limit is documented; ours is assumed.
"""

from __future__ import annotations

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

SIGNATURE_HEADER = "x-viber-content-signature"
MAX_BODY_BYTES = 1024 * 1024
HEADERS = (SIGNATURE_HEADER,)

_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"[0-9]{1,20}")
_LARGEST_TOKEN = 2**64 - 1


class Settings(BaseSettings):
    """The secrets of the bot that receives Viber's webhooks."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_VIBER_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    auth_token: Secret = Field(description="The bot's authentication token; Viber signs every delivery with it.")
    previous_auth_token: Secret | None = Field(
        None,
        description="The token before Viber gave you a new one; deliveries signed with it are taken until you remove "
        "it.",
    )


def challenge(settings: Settings, request: WebhookRequest) -> Answer | None:
    """Nothing: Viber never asks by GET."""
    del settings, request
    return None


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when the body is signed with the current or the previous token.

    Raises:
        SignatureError: it is not, or there is more than one signature.
    """
    given = request.headers.get(SIGNATURE_HEADER)
    if given is None:
        msg = f"there is no {SIGNATURE_HEADER} header"
        raise SignatureError(msg)
    if _SIGNATURE.fullmatch(given) is None:
        msg = f"{SIGNATURE_HEADER} is not 64 hexadecimal digits"
        raise SignatureError(msg)
    secrets = [settings.auth_token, settings.previous_auth_token]
    expected = [
        hmac.new(secret.get_secret_value().encode(), request.body, hashlib.sha256).hexdigest()
        for secret in secrets
        if secret is not None
    ]
    # All are compared, whichever matches: the time tells nothing about which secret is in use.
    if not any([hmac.compare_digest(one, given) for one in expected]):  # noqa: C419 (no short cut)
        msg = "the signature does not match; is the token the one of the bot that sends?"
        raise SignatureError(msg)


def split(body: bytes) -> list[Item]:
    """The event of a delivery.

    The payload of an item::

        {"event": {"event": "message", "timestamp": 1457764197627, "message_token": 4912661846655238145,
                   "sender": {"id": "01234567890A=", "name": "Ada"}, "message": {"type": "text", "text": "Hi"}}}

    The kind is the event's own name, or ``other``. Nothing in it says which bot it came to: the route does.

    Raises:
        PayloadError: the body cannot be read.
    """
    event = parse_body(body)
    name = event.get("event")
    kind = name if isinstance(name, str) and 0 < len(name) <= 60 else "other"
    return [Item(0, kind, {"event": event}, _key(kind, event))]


def _key(kind: str, event: dict[str, Any]) -> str:
    """A message by its token, a receipt by what, whose and whom; the rest has no id of its own and goes by content."""
    token = event.get("message_token")
    whole = isinstance(token, int) and not isinstance(token, bool) and 0 <= token <= _LARGEST_TOKEN
    if kind == "other" or not (whole or (isinstance(token, str) and _TOKEN.fullmatch(token))):
        return key_of_content(kind, event)
    user = event.get("user_id")
    return f"{kind}:{token}:{user}" if isinstance(user, str) else f"{kind}:{token}"
