"""tap-whatsapp: what WhatsApp's webhooks delivered, as messages, changes, receipts, consents and evidence.

WhatsApp has no API that gives messages back, so there is nothing to poll: the deliveries are the record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from mappings.from_whatsapp import WhatsAppContext, records_from_whatsapp
from mappings.records import Record
from taps.deliveries import DeliverySettings, DeliveryTap
from taps.webhooks import whatsapp
from taps.webhooks.items import Item


def _check_region(region: str) -> str:
    if not re.fullmatch("[A-Z]{2}", region):
        msg = "must be two capital letters, e.g. GB"
        raise ValueError(msg)
    return region


# Checked here and not in the JSON schema: Meltano hands over an empty text for what is not set.
Region = Annotated[str, AfterValidator(_check_region)]


class WhatsAppSettings(DeliverySettings):
    """The settings of tap-whatsapp."""

    portfolio_id: str | None = Field(
        None,
        description="Your business portfolio's id (Meta Business Suite, Business info). It scopes the business-scoped "
        "user ids: set it before the first run if you have more than one WhatsApp Business Account in the portfolio. "
        "Default: the id of the account that a message came to.",
    )
    default_region: Region | None = Field(
        None,
        description="Country of phone numbers that customers write without country code on shared contact cards, e.g. "
        "GB. WhatsApp's own ids never need it.",
    )


class TapWhatsApp(DeliveryTap[WhatsAppSettings]):
    """Reads one route of WhatsApp's webhooks."""

    name = "tap-whatsapp"
    platform = "whatsapp"
    settings_model = WhatsAppSettings

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.whatsapp.split`."""
        del headers
        return whatsapp.split(body)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_whatsapp.records_from_whatsapp`."""
        context = WhatsAppContext(
            received_at=received_at,
            raw_ref=raw_ref,
            portfolio_id=self.settings.portfolio_id,
            default_region=self.settings.default_region,
            keywords=self.keywords,
        )
        return records_from_whatsapp(item, context)

    def account_of(self, item: Item) -> object:
        """The phone number id; the business account's id where no number is concerned."""
        metadata = item.payload.get("metadata")
        number = metadata.get("phone_number_id") if isinstance(metadata, dict) else None
        return number or item.payload.get("waba_id")

    def identity_of(self, item: Item) -> str:
        """The key, save that a history message comes twice under one id: without its file, then with it."""
        event = item.payload.get("item")
        placeholder = isinstance(event, dict) and event.get("type") == "media_placeholder"
        return f"{item.key}:placeholder" if placeholder else item.key

    def name_of(self, item: Item) -> str:
        """The webhook field of an account notification, else the kind."""
        field = item.payload.get("field")
        return str(field)[:60] if item.kind in {"other", "group_event"} and field else item.kind
