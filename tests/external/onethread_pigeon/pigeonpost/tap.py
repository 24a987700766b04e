"""tap-pigeon: the pigeons that a loft's webhook brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from mappings.records import Message, Record
from taps.deliveries import DeliverySettings, DeliveryTap
from taps.webhooks.items import Item

from . import webhook
from .mapping import CHANNEL, message_from_pigeon


class PigeonSettings(DeliverySettings):
    """The settings of tap-pigeon."""


class TapPigeon(DeliveryTap[PigeonSettings]):
    """Reads one route."""

    name = "tap-pigeon"
    platform = CHANNEL
    settings_model = PigeonSettings
    record_models = (Message,)

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `webhook.split`."""
        del headers
        return webhook.split(body)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mapping.message_from_pigeon`."""
        return [message_from_pigeon(item, received_at, raw_ref)]

    def account_of(self, item: Item) -> object:
        """The loft."""
        pigeon = item.payload.get("pigeon")
        return pigeon.get("loft") if isinstance(pigeon, dict) else None
