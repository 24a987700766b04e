"""Apple Messages for Business: the token of each request, compressed bodies, and the one event of each.

Apple posts a message with a token in the Authorization header: a JSON Web Token (HS256) by the secret of the messaging
service provider, that names the provider as its audience and the moment it was made. It does not cover the body.

Sources: register.apple.com/resources/messages/msp-rest-api, pages common-specs (headers, body) and messages-received
(types), read 2026-11, documented; that the secret is base64, and the claims: developer.apple.com/documentation/
businesschatapi, read 2026-11, documented. That one answer comes twice within two seconds under two ids and one
``sessionIdentifier``: github.com/rhapsfx/chatwoot-amb, DUPLICATE_WEBHOOK_FIX.md, observed. How old a token may be, and
how long a body, Apple does not say: the first is a setting, the second is assumed.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import jwt
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import PayloadError, SignatureError
from taps.webhooks.items import Answer, Item, WebhookRequest
from taps.webhooks.meta import Secret, key_of_content, parse_body

MAX_BODY_BYTES = 1024 * 1024
MAX_INFLATED_BYTES = 4 * 1024 * 1024
GZIP = True
# Not Authorization: whoever has it may post as Apple for minutes.
HEADERS = ("id", "source-id", "destination-id", "capability-list", "device-agent", "locale")

_BEARER = re.compile(r"Bearer ([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)", re.ASCII)
_TYPES = {"text": "text", "interactive": "interactive", "close": "close", "typing_start": "typing",
          "typing_end": "typing"}  # fmt: skip


def key_of_secret(secret: SecretStr) -> bytes:
    """The key that a secret of Apple's stands for; raises `ValueError` when it is not base64."""
    try:
        key = base64.b64decode(secret.get_secret_value(), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        msg = "must be the base64 text that Apple Business Register shows"
        raise ValueError(msg)
    return key


def _decodable(secret: SecretStr) -> SecretStr:
    key_of_secret(secret)
    return secret


AppleSecret = Annotated[Secret, AfterValidator(_decodable)]


class Settings(BaseSettings):
    """The messaging service provider to whom Apple posts."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_APPLE_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    msp_id: str = Field(min_length=1, description="The id of the messaging service provider; tokens name it.")
    secret: AppleSecret = Field(description="The provider's API secret, base64, from Apple Business Register.")
    previous_secret: AppleSecret | None = Field(
        None, description="While you rotate: the other secret; tokens made with it are taken until you remove it."
    )
    token_seconds: int = Field(300, ge=10, le=86_400, description="How old a token of Apple's may be.")


def challenge(settings: Settings, request: WebhookRequest) -> Answer | None:
    """Never an answer: Apple asks nothing before it posts."""
    del settings, request
    return None


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when the token was made for us with one of the secrets, minutes ago at most.

    Raises:
        SignatureError: it was not, or it is missing, malformed or there twice.
    """
    match = _BEARER.fullmatch(request.headers.get("authorization", ""))
    if match is None:
        msg = "Authorization is not one Bearer and a JSON Web Token"
        raise SignatureError(msg)
    secrets = [settings.secret, settings.previous_secret]
    # All are tried, whichever matches: the time tells nothing about which secret is in use.
    claims = [
        _claims(match.group(1), key_of_secret(secret), settings.msp_id) for secret in secrets if secret is not None
    ]
    found = next((one for one in claims if one is not None), None)
    if found is None:
        msg = "the token is not signed with our secret for our provider id; are both those of Apple Business Register?"
        raise SignatureError(msg)
    _check_age(found.get("iat"), request.received_at, settings.token_seconds)


def _claims(token: str, key: bytes, msp_id: str) -> dict[str, Any] | None:
    try:
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=["HS256"], audience=msp_id, options={"require": ["aud", "iat"], "verify_iat": False}
        )
    except jwt.PyJWTError:
        return None
    return claims


def _check_age(made_at: Any, received_at: datetime, limit: int) -> None:
    if not isinstance(made_at, int | float) or isinstance(made_at, bool):
        msg = "the token does not say when it was made"
        raise SignatureError(msg)
    age = received_at.timestamp() - made_at
    if not abs(age) <= limit:  # also not a number
        msg = f"the token was made {age:.0f} s ago, the limit is {limit}; is our clock right?"
        raise SignatureError(msg)


def inflate(body: bytes) -> bytes:
    """A body as it was before it was compressed; one that was not, as it is.

    Raises:
        PayloadError: it is cut off, or becomes larger than `MAX_INFLATED_BYTES`.
    """
    if not body.startswith(b"\x1f\x8b"):  # no JSON begins so
        return body
    inflating = zlib.decompressobj(wbits=31)
    try:
        plain = inflating.decompress(body, MAX_INFLATED_BYTES + 1)
    except zlib.error:
        msg = "the delivery is compressed and cannot be inflated"
        raise PayloadError(msg) from None
    if len(plain) > MAX_INFLATED_BYTES or not inflating.eof or inflating.unused_data:
        msg = f"the delivery is compressed and cut off, or more than {MAX_INFLATED_BYTES} bytes when inflated"
        raise PayloadError(msg)
    return plain


def split(body: bytes, headers: Mapping[str, str] | None = None) -> list[Item]:
    """The event of a delivery, compressed or not.

    The payload of the item::

        {"message": {"v": 1, "id": "0c3...", "type": "text", "sourceId": "urn:mbid:AQ...", "destinationId": "a88...",
                     "body": "Hello", "locale": "en_US"},
         "device": {"capability-list": "LIST,TIME", "device-agent": "iPhone OS"}}

    Kinds: ``text``, ``interactive``, ``close``, ``typing``; ``message`` is of a type that nobody documented, ``other``
    no message.

    Raises:
        PayloadError: the body as a whole cannot be read.
    """
    message = parse_body(inflate(body))
    kind, key = _kind_and_key(message)
    device = {name: value for name, value in (headers or {}).items() if name in {"capability-list", "device-agent"}}
    return [Item(0, kind, {"message": message, "device": device}, key)]


def _kind_and_key(message: Mapping[str, Any]) -> tuple[str, str]:
    number, name = message.get("id"), message.get("type")
    if not isinstance(number, str) or not number or not isinstance(name, str) or not name:
        return "other", key_of_content("other", message)
    kind = _TYPES.get(name, "message")
    said = message.get("interactiveData")
    session = said.get("sessionIdentifier") if isinstance(said, dict) else None
    if kind == "interactive" and isinstance(session, str) and session:
        # Another answer within the same session is another one; the same answer under another id is a repeat.
        return kind, key_of_content("session", [message.get("sourceId"), said])
    return kind, number
