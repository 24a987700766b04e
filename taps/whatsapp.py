"""tap-whatsapp: what WhatsApp's webhooks delivered, as messages, changes, receipts, consents and evidence.

WhatsApp has no API that gives messages back, so there is nothing to poll: the deliveries are the record. Files are
asked for by their id: the link that this gives lives 5 minutes and wants the token too, and the id of a received file
lives 7 days (developers.facebook.com/documentation/business-messaging/whatsapp/reference/media, read 2026-11,
documented).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from mappings.errors import CredentialsError, OneThreadError
from mappings.fields import objects_of, optional_text_of, text_of
from mappings.from_whatsapp import WhatsAppContext, records_from_whatsapp
from mappings.records import Attachment, Message, Record
from stores.media import MediaRequest
from taps.base import Check
from taps.deliveries import DeliverySettings, DeliveryTap
from taps.meta_checks import check_token
from taps.meta_session import GraphSession
from taps.webhooks import whatsapp
from taps.webhooks.items import Item

_CALLS_PER_SECOND = 20.0
_SCOPES = ("whatsapp_business_management", "whatsapp_business_messaging")


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
    access_token: SecretStr | None = Field(
        None, description="Token of a system user; needed to fetch files and for `onethread doctor`."
    )
    phone_number_id: str | None = Field(None, description="The id (not the number) of your number, for the doctor.")
    business_account_id: str | None = Field(
        None,
        description="Your WhatsApp Business Account's id, so that the doctor can see whether webhooks are subscribed: "
        "Meta ends that when they fail for long.",
    )
    api_url: str = Field("https://graph.facebook.com", description="Base URL of the Graph API.")
    api_version: str = Field("v26.0", description="Graph API version, released 2026-07-29.")

    @model_validator(mode="after")
    def _can_fetch(self) -> Self:
        if self.fetch_media and self.access_token is None:
            msg = "fetch_media needs access_token"
            raise ValueError(msg)
        return self


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

    # Files

    @cached_property
    def graph(self) -> GraphSession:
        """The Graph API with our token."""
        url = f"{self.settings.api_url.rstrip('/')}/{self.settings.api_version}"
        return GraphSession("WhatsApp", url, self._token, _CALLS_PER_SECOND)

    @property
    def _token(self) -> SecretStr:
        return self.settings.access_token or SecretStr("")

    def media_request(self, attachment: Attachment, message: Message) -> MediaRequest | None:
        """The file's present link, asked for by its id; the token goes to Meta's own hosts only."""
        del message
        if attachment.platform_media_id is None:
            return None
        answer = self.graph.fetch_json(attachment.platform_media_id)
        return MediaRequest(
            text_of(answer, "url", "WhatsApp media"),
            headers={"Authorization": f"Bearer {self._token.get_secret_value()}"},
            hosts=frozenset({".fbsbx.com", urlsplit(self.settings.api_url).hostname or ""}),
        )

    # Health

    def check(self) -> Iterator[Check]:
        """Token, permissions, clock, the number and its rating, and whether an app is subscribed to webhooks."""
        yield from super().check()
        if self.settings.access_token is None:
            yield Check("access token", ok=None, detail="not set: WhatsApp was not asked", fix="set access_token")
            return
        try:
            yield from check_token(self.graph, self._token, self.now(), _SCOPES)
            yield from self._check_number()
            yield self.graph.check_clock(self.now())
            yield from self._check_webhook()
        except CredentialsError as error:
            yield Check("access token", ok=False, detail=str(error), fix="make a new token and set access_token")
        except OneThreadError as error:
            yield Check("WhatsApp API", ok=False, detail=str(error), fix="check the ids, api_url and api_version")

    def _check_number(self) -> Iterator[Check]:
        number_id = self.settings.phone_number_id
        if number_id is None:
            yield Check("phone number", ok=None, detail="phone_number_id is not set", fix="set phone_number_id")
            return
        answer = self.graph.fetch_json(number_id, {"fields": "verified_name,quality_rating"})
        name = optional_text_of(answer, "verified_name", "WhatsApp number") or "without a name"
        rating = optional_text_of(answer, "quality_rating", "WhatsApp number") or "unknown"
        fix = "customers block or report this number: Meta may limit it" if rating == "RED" else ""
        yield Check("phone number", ok=rating != "RED", detail=f"{name}, quality {rating.lower()}", fix=fix)

    def _check_webhook(self) -> Iterator[Check]:
        """Sources: .../whatsapp/webhooks/override, 2026-06-28, and facebook/openapi v23.0; documented."""
        account = self.settings.business_account_id
        if account is None:
            detail, fix = "business_account_id is not set", "set business_account_id"
            yield Check("webhook", ok=None, detail=detail, fix=fix)
            return
        answer = self.graph.fetch_json(f"{account}/subscribed_apps")
        rows = objects_of(answer, "data", "WhatsApp subscriptions")
        places = [uri for row in rows if (uri := optional_text_of(row, "override_callback_uri", "WhatsApp"))]
        detail = f"{len(rows)} app{'' if len(rows) == 1 else 's'} subscribed" + "".join(f", to {uri}" for uri in places)
        fix = "" if rows else f"POST /{account}/subscribed_apps with a token of your app, then catch up"
        yield Check("webhook", ok=bool(rows), detail=detail, fix=fix)
