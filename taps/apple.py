"""tap-apple: what Apple Messages for Business delivered. There is nothing to poll: Apple keeps no history for us.

Sources: see `taps.webhooks.apple`, `mappings.from_apple` and `taps.apple_media`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator

from mappings.errors import CredentialsError, OneThreadError, PayloadError, RejectedError
from mappings.fields import object_of
from mappings.from_apple import AppleContext, attachments_of, media_id_of, records_from_apple
from mappings.records import Attachment, Consent, Message, Record
from stores.deliveries import Deliveries
from stores.media import Media, MediaRequest
from taps.apple_media import AppleMedia, AppleSession, apple_media_request
from taps.base import Check
from taps.deliveries import DeliverySettings, DeliveryTap, Outcome
from taps.webhooks import apple
from taps.webhooks.items import Item


class AppleSettings(DeliverySettings):
    """The settings of tap-apple."""

    msp_id: str | None = Field(None, description="The id of the messaging service provider. Needed to fetch files.")
    secret: SecretStr | None = Field(None, description="The provider's API secret, base64. Needed to fetch files.")
    api_url: str = Field("https://mspgw.push.apple.com/v1", description="Base URL of Apple's service.")

    @model_validator(mode="after")
    def _can_fetch(self) -> Self:
        if (self.msp_id is None) != (self.secret is None):
            msg = "msp_id and secret need each other"
            raise ValueError(msg)
        if self.fetch_media and self.secret is None:
            msg = "fetch_media needs msp_id and secret"
            raise ValueError(msg)
        if self.secret is not None:
            apple.key_of_secret(self.secret)
        return self


class TapApple(DeliveryTap[AppleSettings]):
    """Reads one route of Apple's webhooks."""

    name = "tap-apple"
    platform = "apple"
    settings_model = AppleSettings
    record_models = (Message, Consent)  # no receipts, no changes, nothing to link by

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._answerable: set[str] = set()

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.apple.split`."""
        return apple.split(body, headers)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_apple`."""
        context = AppleContext(received_at=received_at, raw_ref=raw_ref, keywords=self.keywords)
        return records_from_apple(item, context)

    def account_of(self, item: Item) -> object:
        """The business that the customer wrote to."""
        message = item.payload.get("message")
        return message.get("destinationId") if isinstance(message, dict) else None

    def emit(self, outcome: Outcome) -> Iterator[Record]:
        """The records of one event. That somebody may be answered is said once a run, and again after they closed."""
        for record in super().emit(outcome):
            if isinstance(record, Consent) and record.purpose == "service":
                if record.status == "opted_in" and record.handle_key in self._answerable:
                    continue
                if record.status == "opted_in":
                    self._answerable.add(record.handle_key)
                else:
                    self._answerable.discard(record.handle_key)
            yield record

    # Files

    @cached_property
    def media(self) -> Media:
        """The store of files, which knows Apple's encryption."""
        return AppleMedia(self.stores, self._api, private_hosts=self.settings.media_private_hosts)

    @cached_property
    def _api(self) -> AppleSession:
        settings = self.settings
        return AppleSession(settings.api_url, settings.msp_id or "", settings.secret or SecretStr("AA=="))

    def media_request(self, attachment: Attachment, message: Message) -> MediaRequest | None:
        """What to ask and the key, from the delivery itself: no record holds them. ``None`` when it was purged."""
        number, _, index = (message.raw_ref or "").removeprefix("delivery:").partition("#")
        if not number.isdecimal() or index != "0":
            return None
        deliveries = Deliveries(self.stores)
        try:
            delivery = deliveries.get(int(number))
        finally:
            deliveries.close()
        if delivery is None:
            return None
        (item,) = self.split(delivery.body, delivery.headers)
        raw = object_of(item.payload, "message", "Apple message")
        found = next((one for one in attachments_of(raw) if media_id_of(one) == attachment.platform_media_id), None)
        return None if found is None else apple_media_request(found, message.account)

    # Doctor

    def check(self) -> Iterator[Check]:
        """Whether Apple takes our token, and the clock; whether it posts to us, Apple does not tell."""
        yield from super().check()
        if self.settings.secret is None:
            yield Check("token", None, "no msp_id and secret: files are not fetched", "Set both.")
        else:
            yield from self._token()
        yield Check(
            "webhook", None, "Apple does not tell where it posts to",
            "Apple Business Register, Messaging Service Provider: the URL of your endpoint, without /message.",
        )  # fmt: skip

    def _token(self) -> Iterator[Check]:
        """Asks for a file without naming any: refused as incomplete (400) when the token is good."""
        try:
            self._api.download_url({})
        except CredentialsError as error:
            yield Check("token", False, str(error), "Copy the provider's id and secret from Apple Business Register.")
            return
        except (RejectedError, PayloadError):
            yield Check("token", True, "Apple takes it; the secret has no end that Apple tells")
        except OneThreadError as error:
            yield Check("token", None, str(error), "Check api_url and the network.")
            return
        yield self._api.check_clock(self.now())


if __name__ == "__main__":
    TapApple.cli()
