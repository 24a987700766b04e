"""Pigeon Post's webhook: ``{"pigeons": [...]}`` under a seal, the HMAC-SHA256 of the body."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import SignatureError
from taps.webhooks.items import Item, WebhookRequest
from taps.webhooks.meta import key_of_content, parse_body

MAX_BODY_BYTES = 1024 * 1024
SEAL_HEADER = "x-pigeon-seal"


def _not_empty(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().strip():
        msg = "must not be empty"
        raise ValueError(msg)
    return secret


Secret = Annotated[SecretStr, AfterValidator(_not_empty)]


class Settings(BaseSettings):
    """The seals of one loft."""

    model_config = SettingsConfigDict(env_prefix="ONETHREAD_PIGEON_", frozen=True, extra="ignore", env_file=".env")

    seal: Secret = Field(description="Pigeon Post seals every delivery with it.")
    previous_seal: Secret | None = Field(None, description="The seal before the last change.")


def challenge(settings: Settings, request: WebhookRequest) -> None:
    """None: pigeons ask nothing before they come."""
    del settings, request


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when the seal is right; raises `SignatureError`."""
    given = request.headers.get(SEAL_HEADER, "").encode("latin-1", "replace")
    seals = [one.get_secret_value().encode() for one in (settings.seal, settings.previous_seal) if one]
    right = [hmac.new(seal, request.body, hashlib.sha256).hexdigest().encode() for seal in seals]
    if not any([hmac.compare_digest(one, given) for one in right]):  # noqa: C419 (no short cut)
        msg = f"{SEAL_HEADER} is broken"
        raise SignatureError(msg)


def split(body: bytes) -> list[Item]:
    """One item per pigeon."""
    whole = parse_body(body)
    pigeons = whole.get("pigeons")
    if not isinstance(pigeons, list) or not pigeons:
        return [Item(0, "other", {"pigeon": whole}, key_of_content("other", whole))]
    return [_item(index, pigeon) for index, pigeon in enumerate(pigeons)]


def _item(index: int, pigeon: object) -> Item:
    ring = pigeon.get("ring") if isinstance(pigeon, dict) else None
    known = isinstance(ring, str) and ring
    kind = "pigeon" if known else "other"
    return Item(index, kind, {"pigeon": pigeon}, f"ring:{ring}" if known else key_of_content("other", pigeon))
