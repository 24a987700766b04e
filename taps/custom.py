"""tap-custom: what a channel of your own delivered, as messages, changes, receipts, consents and evidence.

A channel that onethread does not know (a contact form, a chat of your own, a telephone system) posts records of a
contract; see `mappings.from_custom`. Each route is a channel under its own name. There is nothing to poll.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from mappings.errors import SettingsError
from mappings.from_custom import PLATFORM, CustomContext, records_from_custom
from mappings.platforms import load_platforms
from mappings.records import Record
from taps.base import Check
from taps.deliveries import DeliverySettings, DeliveryTap
from taps.webhooks import custom
from taps.webhooks.items import Item

_DEFAULT_ROUTE = "default"


def _check_channel(name: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]{0,31}", name):
        msg = "must be a small letter, then small letters, digits and _"
        raise ValueError(msg)
    return name


def _check_region(region: str) -> str:
    if not re.fullmatch("[A-Z]{2}", region):
        msg = "must be two capital letters, e.g. GB"
        raise ValueError(msg)
    return region


# Checked here and not in the JSON schema: Meltano hands over an empty text for what is not set.
Channel = Annotated[str, AfterValidator(_check_channel)]
Region = Annotated[str, AfterValidator(_check_region)]


class CustomSettings(DeliverySettings):
    """The settings of tap-custom."""

    channel: Channel | None = Field(
        None,
        description="The channel's name as people see it. Default: the route's name; `custom` for the unnamed one.",
    )
    account: str | None = Field(
        None,
        description="Ours on that channel, for records that name none: the site, the number. Default: the name of the "
        "route.",
    )
    id_scope: str | None = Field(
        None,
        description="Where `who.id` is unique. Give several routes one name here when they share their customer "
        "numbers: the same id is then the same person. Default: the channel.",
    )
    default_region: Region | None = Field(
        None, description="Country of phone numbers that come without country code, e.g. GB."
    )


class TapCustom(DeliveryTap[CustomSettings]):
    """Reads one route."""

    name = "tap-custom"
    platform = "custom"
    settings_model = CustomSettings

    @cached_property
    def channel(self) -> str:
        """The channel of this route; raises `SettingsError` for a name that is another platform's."""
        route = self.settings.route
        channel = self.settings.channel or (PLATFORM.slug if route == _DEFAULT_ROUTE else route)
        check_is_own_channel(channel)
        return channel

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.custom.split`."""
        del headers
        return custom.split(body)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_custom.records_from_custom`."""
        context = CustomContext(
            channel=self.channel,
            account=self.settings.account or self.settings.route,
            received_at=received_at,
            raw_ref=raw_ref,
            id_scope=self.settings.id_scope,
            default_region=self.settings.default_region,
            keywords=self.keywords,
        )
        return records_from_custom(item, context)

    def account_of(self, item: Item) -> object:
        """What the record names, if anything."""
        record = item.payload.get("record")
        account = record.get("account") if isinstance(record, dict) else None
        return account if isinstance(account, str | int) else None

    def check(self) -> Iterator[Check]:
        """Whether the name is free and the secret is set; the other side cannot be asked."""
        yield from super().check()
        yield Check("channel", ok=True, detail=f"messages are on channel {self.channel}")
        route = self.settings.route
        prefix = "ONETHREAD_CUSTOM_" + ("" if route == _DEFAULT_ROUTE else f"{route.upper()}_")
        if route == _DEFAULT_ROUTE and not os.environ.get(f"{prefix}SECRET") and os.environ.get(f"{prefix}ROUTES"):
            yield Check("webhook secret", ok=None, detail="not needed: only the named routes are served")
            return
        try:
            custom.Settings(_env_prefix=prefix)
        except ValidationError:
            detail = "is set and cannot be used" if os.environ.get(f"{prefix}SECRET") else "is not set"
            fix = f"set {prefix}SECRET to what `onethread custom secret` prints, here and at the sender"
            yield Check("webhook secret", ok=False, detail=detail, fix=fix)
        else:
            yield Check("webhook secret", ok=True, detail="is set")


def check_is_own_channel(channel: str) -> None:
    """Nothing, when no other platform has that name: records could pass for messages of theirs.

    Raises:
        SettingsError: one has.
    """
    taken = load_platforms().get(channel)
    if taken is not None and channel != PLATFORM.slug:
        msg = f"tap-custom: {channel} is the channel of {taken.name}; give the route another name, or set `channel`"
        raise SettingsError(msg)


if __name__ == "__main__":
    TapCustom.cli()
