"""Sends a reply by pigeon."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

import requests
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from mappings.errors import OutcomeUnknownError
from mappings.ids import message_key
from targets.senders.base import Accepted, Outgoing, SenderSettings, error_of_send, post_json

from .mapping import CHANNEL


class PigeonSenderSettings(SenderSettings):
    """Read from ``ONETHREAD_PIGEON_*``."""

    model_config = SettingsConfigDict(**{**SenderSettings.model_config, "env_prefix": "ONETHREAD_PIGEON_"})

    loft: str = Field(description="The loft that sends.")
    token: SecretStr = Field(description="What the loft's keeper gave you.")
    api_url: str = Field("https://pigeon.example", description="Base URL of Pigeon Post.")


class PigeonSender:
    """One loft."""

    slug: ClassVar[str] = CHANNEL
    settings_model: ClassVar[type[PigeonSenderSettings]] = PigeonSenderSettings

    def __init__(self, settings: PigeonSenderSettings | None = None) -> None:
        self.settings: PigeonSenderSettings = settings or PigeonSenderSettings()

    @property
    def account(self) -> str:
        """The loft."""
        return self.settings.loft

    def send(self, outgoing: Outgoing) -> Accepted:
        """One ``POST /lofts/{loft}/pigeons``."""
        token = self.settings.token.get_secret_value()
        path = f"/lofts/{self.account}/pigeons"
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {token}"
            body: dict[str, Any] = {"to": outgoing.to.value, "words": outgoing.text, "token": outgoing.token}
            status, answer, wait = post_json(
                session, "Pigeon Post", f"{self.settings.api_url}{path}", f"POST {path}", body,
                timeout_seconds=10, secrets=[token],
            )  # fmt: skip
        if status >= 400:
            raise error_of_send(
                "Pigeon Post", f"POST {path}", status, code=None, detail=None, retry_after=wait,
                limit_codes=frozenset(), credential_codes=frozenset(),
            )  # fmt: skip
        ring = answer.get("ring") if isinstance(answer, dict) else None
        if not ring:
            msg = f"Pigeon Post: POST {path} was accepted without a ring; it may have been sent"
            raise OutcomeUnknownError(msg)
        return Accepted(message_key(CHANNEL, self.account, ring), ring, datetime.now(UTC))

    def settle(self, outgoing: Outgoing) -> Accepted | None:
        """None: pigeons do not look back."""
        del outgoing
        return None
