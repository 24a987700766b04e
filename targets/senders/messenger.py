"""Sends replies through the Messenger Platform.

There is no idempotency key; ``metadata`` comes back in the echo, which settles an unknown outcome.
Source: developers.facebook.com/documentation/business-messaging/messenger-platform (send messages, rate limits, error
codes), documented, read 2026-03 to 2026-09.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mappings.errors import OutcomeUnknownError
from mappings.ids import message_key
from mappings.to_messenger import message_request_for_messenger
from targets.senders.base import Accepted, Outgoing, SenderSettings
from targets.senders.meta import GraphSender, GraphSenderSettings


class MessengerSenderSettings(GraphSenderSettings):
    """Read from ``ONETHREAD_MESSENGER_*``."""

    model_config = SettingsConfigDict(**{**SenderSettings.model_config, "env_prefix": "ONETHREAD_MESSENGER_"})

    page_id: str = Field(description="The page that sends.")


class MessengerSender(GraphSender):
    """One page."""

    slug: ClassVar[str] = "messenger"
    settings_model: ClassVar[type[MessengerSenderSettings]] = MessengerSenderSettings
    platform = "Messenger"
    limit_codes = frozenset({"4", "17", "32", "613", "80001", "80006"})
    """App, user, page, custom and messaging limits. 80006 is assumed: no official page names it."""
    credential_codes = frozenset({"190", "200", "368", "10/1893063"})
    """Token, permission, policy block, page restricted (since 2026-06-25)."""

    def __init__(self, settings: MessengerSenderSettings | None = None) -> None:
        self.settings: MessengerSenderSettings = settings or MessengerSenderSettings()

    @property
    def account(self) -> str:
        """The page id."""
        return self.settings.page_id

    def send(self, outgoing: Outgoing) -> Accepted:
        """One ``POST /{page_id}/messages``."""
        endpoint, answer = self.post(
            message_request_for_messenger(
                outgoing.to,
                token=outgoing.token,
                text=outgoing.text,
                tag=outgoing.tag,
                reply_to_key=outgoing.reply_to_key,
            )
        )
        platform_id = answer.get("message_id") if isinstance(answer, dict) else None
        if not platform_id:
            msg = f"Messenger: {endpoint} was accepted without a message id; it may have been sent"
            raise OutcomeUnknownError(msg)
        return Accepted(message_key("messenger", self.account, str(platform_id)), str(platform_id), datetime.now(UTC))

    def settle(self, outgoing: Outgoing) -> Accepted | None:
        """None: the echo, with our token in its metadata, settles it."""
        del outgoing
        return None
