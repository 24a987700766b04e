"""tap-messenger: what Messenger's webhooks delivered, and what they missed by reading the Conversations API again.

Source of the API's limits: see `taps.meta_graph`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator

from mappings.fields import object_of, text_of
from mappings.from_messenger import (
    MessengerContext,
    message_from_messenger_poll,
    profile_from_messenger,
    records_from_messenger,
)
from mappings.records import Evidence, Record
from taps.base import Check
from taps.meta_checks import check_token
from taps.meta_graph import POLLED, GraphSettings, GraphTap
from taps.webhooks import messenger
from taps.webhooks.items import Item

_SCOPES = ("pages_messaging", "pages_manage_metadata")


class MessengerSettings(GraphSettings):
    """The settings of tap-messenger."""

    page_id: str | None = Field(None, description="The Facebook page to reconcile.")
    app_id: str | None = Field(
        None,
        description="Your app's id: what the page sends under it without one of our tokens was sent by a bot.",
    )
    access_token: SecretStr | None = Field(
        None, description="Page access token with pages_messaging; needed to find what the webhook missed."
    )
    account_link_secret: SecretStr | None = Field(
        None,
        description="Key with which your site's login page signs authorization codes. Without it an e-mail address or "
        "phone in such a code is kept, but links nobody.",
    )
    reconcile: bool | None = Field(
        None,
        description="Read the page's recent conversations and add messages that no webhook brought. Default: yes when "
        "access_token and page_id are set.",
    )
    api_url: str = Field("https://graph.facebook.com", description="Base URL of the Graph API.")

    @model_validator(mode="after")
    def _can_reconcile(self) -> Self:
        if self.reconcile and (self.access_token is None or self.page_id is None):
            msg = "reconcile needs access_token and page_id"
            raise ValueError(msg)
        return self

    @property
    def reconciles(self) -> bool:
        """Whether to poll."""
        possible = self.access_token is not None and self.page_id is not None
        return possible if self.reconcile is None else self.reconcile


class TapMessenger(GraphTap[MessengerSettings]):
    """Reads one route of Messenger's webhooks and reconciles one page."""

    name = "tap-messenger"
    platform = "messenger"
    settings_model = MessengerSettings
    display = "Messenger"
    account_field = "page_id"
    handle_kind = "messenger_psid"
    message_fields = "id,created_time,from,to,message,attachments,reply_to"
    profile_fields = "first_name,last_name,profile_pic"

    @property
    def account(self) -> str:
        """The page id."""
        return str(self.settings.page_id)

    @property
    def api_url(self) -> str:
        """See the setting."""
        return self.settings.api_url

    @property
    def wanted_fields(self) -> tuple[str, ...]:
        """Webhook fields without which messages are missed."""
        return ("messages", "message_echoes", "message_reactions", "message_edits", "messaging_postbacks", "feed")

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.messenger.split`."""
        del headers
        return messenger.split(body)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_messenger`; a ``polled`` item is a message of the Conversations API."""
        if item.kind == POLLED:
            page_id = text_of(item.payload, "page_id", "Messenger message")
            message = object_of(item.payload, "message", "Messenger message")
            flags = ("request_folder",) if item.payload.get("request_folder") is True else ()
            found = message_from_messenger_poll(message, page_id, received_at=received_at, raw_ref=raw_ref, flags=flags)
            return [found]
        secret = self.settings.account_link_secret
        context = MessengerContext(
            received_at=received_at,
            raw_ref=raw_ref,
            app_id=self.settings.app_id,
            account_link_secret=secret.get_secret_value() if secret else None,
            keywords=self.keywords,
        )
        return records_from_messenger(item, context)

    def profile_of(self, answer: Mapping[str, Any], user_id: str, now: datetime, source: str) -> Evidence | None:
        """See `mappings.from_messenger.profile_from_messenger`."""
        return profile_from_messenger(answer, self.account, user_id, observed_at=now, raw_ref=source)

    def check_account(self) -> Iterator[Check]:
        """Besides the page: how long the token lives and what it may do."""
        yield from super().check_account()
        yield from check_token(self.graph, self.token(), self.now(), _SCOPES)
