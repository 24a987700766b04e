"""Sends replies through the WhatsApp Cloud API.

An accepted message is only accepted: whether it was delivered, or failed after all, comes back as a status webhook
with our token in ``biz_opaque_callback_data``. There is no read-back, so an unknown outcome waits for that status.
Source: github.com/facebook/openapi business-messaging-api_v23.0.yaml @ecba623 (documented, read 2026-10).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mappings.errors import OutcomeUnknownError
from mappings.ids import message_key
from mappings.to_whatsapp import message_request_for_whatsapp
from targets.senders.base import Accepted, Outgoing, SenderSettings
from targets.senders.meta import GraphSender, GraphSenderSettings


class WhatsAppSenderSettings(GraphSenderSettings):
    """Read from ``ONETHREAD_WHATSAPP_*``."""

    model_config = SettingsConfigDict(**{**SenderSettings.model_config, "env_prefix": "ONETHREAD_WHATSAPP_"})

    phone_number_id: str = Field(description="The id (not the number) of the sending phone number.")


class WhatsAppSender(GraphSender):
    """One phone number."""

    slug: ClassVar[str] = "whatsapp"
    settings_model: ClassVar[type[WhatsAppSenderSettings]] = WhatsAppSenderSettings
    platform = "WhatsApp"
    limit_codes = frozenset({"4", "80007", "130429", "131048", "131056"})
    """App, account, throughput, spam and pair rate limits (Cloud API error codes, documented, read 2026-10)."""
    credential_codes = frozenset({"0", "3", "10", "190", "131005", "131031", "131042", "133010", "131045", "368"})
    """Token, permission, account blocked, payment, number not registered (same page)."""

    def __init__(self, settings: WhatsAppSenderSettings | None = None) -> None:
        self.settings: WhatsAppSenderSettings = settings or WhatsAppSenderSettings()

    @property
    def account(self) -> str:
        """The phone number id."""
        return self.settings.phone_number_id

    def send(self, outgoing: Outgoing) -> Accepted:
        """One ``POST /{phone_number_id}/messages``."""
        endpoint, answer = self.post(
            message_request_for_whatsapp(
                outgoing.to,
                token=outgoing.token,
                text=outgoing.text,
                template=outgoing.template,
                template_language=outgoing.template_language,
                template_parameters=outgoing.template_parameters,
                reply_to_key=outgoing.reply_to_key,
            )
        )
        try:
            platform_id = str(answer["messages"][0]["id"])
        except (TypeError, KeyError, IndexError):
            msg = f"WhatsApp: {endpoint} was accepted without a message id; it may have been sent"
            raise OutcomeUnknownError(msg) from None
        return Accepted(message_key("whatsapp", self.account, platform_id), platform_id, datetime.now(UTC))

    def settle(self, outgoing: Outgoing) -> Accepted | None:
        """None: the Cloud API has no read-back by token; the status webhook settles it."""
        del outgoing
        return None
