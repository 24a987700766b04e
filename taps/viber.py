"""tap-viber: what Viber's webhooks delivered to a bot.

Viber has no history and no list of subscribers: what no webhook brought is lost. Its API is asked by
``onethread doctor`` alone; names come with the events.

Source of the calls: developers.viber.com/docs/api/rest-bot-api (get account info, error codes), documented, read
2026-11: every answer is a 200 with a ``status`` inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from mappings.errors import (
    CredentialsError,
    MissingFieldError,
    PayloadError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from mappings.fields import optional_text_of, text_of
from mappings.from_viber import ViberContext, records_from_viber
from mappings.records import Attachment, Consent, Evidence, Message, Receipt, Record
from stores.media import MediaRequest
from taps.base import Check, HttpSession
from taps.deliveries import DeliverySettings, DeliveryTap
from taps.webhooks import viber
from taps.webhooks.items import Item

_CREDENTIALS = frozenset({2, 7, 9, 15})  # wrong token, blocked, suspended, not authorized
_TOO_MANY = 12
_WANTED_EVENTS = ("delivered", "seen", "failed", "subscribed", "unsubscribed", "conversation_started")


class ViberSettings(DeliverySettings):
    """The settings of tap-viber."""

    bot_id: str | None = Field(
        None,
        description="The bot's id, which `onethread doctor` shows. It names the account in every record: set it before "
        "the first run. Default: the route's name.",
    )
    auth_token: SecretStr | None = Field(
        None, description="The bot's authentication token; the doctor needs it to look at the bot."
    )
    default_region: str | None = Field(
        None,
        pattern="^[A-Z]{2}$",
        description="Country of phone numbers on shared contacts that are written without country code, e.g. GB.",
    )
    media_hosts: list[str] = Field(
        default_factory=list,
        description="The only hosts that files may come from (`.viber.com` means all below it). Default: any public "
        "one, as Viber does not say where its files are.",
    )
    api_url: str = Field("https://chatapi.viber.com", description="Base URL of the REST Bot API.")


class ViberSession(HttpSession):
    """Calls Viber's API, which answers 200 to everything."""

    def __init__(self, base_url: str, token: SecretStr) -> None:
        headers = {"X-Viber-Auth-Token": token.get_secret_value()}
        super().__init__("Viber", base_url, headers=headers, secrets=[token])

    def check_answer(self, endpoint: str, body: Any) -> None:
        """By the status inside."""
        status = body.get("status") if isinstance(body, dict) else None
        if not isinstance(status, int) or isinstance(status, bool):
            msg = f"Viber: {endpoint} answered without a status"
            raise MissingFieldError(msg)
        what = f"Viber: {endpoint} answered status {status}"
        if status in _CREDENTIALS:
            raise CredentialsError(f"{what}; check the bot's token, and that the bot is not blocked")
        if status == _TOO_MANY:
            raise RateLimitedError(f"{what}; slowing down")
        if status != 0:
            raise RejectedError(f"{what}; this request will not succeed unchanged", code=str(status))


class TapViber(DeliveryTap[ViberSettings]):
    """Reads one route of Viber's webhooks."""

    name = "tap-viber"
    platform = "viber"
    settings_model = ViberSettings
    record_models = (Message, Receipt, Consent, Evidence)  # Viber tells no changes

    @property
    def account(self) -> str:
        """The bot. Events do not name it."""
        return self.settings.bot_id or self.settings.route

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.viber.split`."""
        del headers
        return viber.split(body)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_viber`."""
        context = ViberContext(
            received_at=received_at,
            raw_ref=raw_ref,
            account=self.account,
            default_region=self.settings.default_region,
            keywords=self.keywords,
        )
        return records_from_viber(item, context)

    def account_of(self, item: Item) -> object:
        """The bot's id, or the route."""
        del item
        return self.account

    def media_request(self, attachment: Attachment, message: Message) -> MediaRequest | None:
        """A file's address in the event works for a while without a token; how long, Viber does not say."""
        del message
        if attachment.url is None:
            return None
        return MediaRequest(attachment.url, hosts=frozenset(self.settings.media_hosts) or None)

    # Doctor

    def check(self) -> Iterator[Check]:
        """Token, bot, webhook address, events, and clocks."""
        yield from super().check()
        token = self.settings.auth_token
        if token is None:
            yield Check("auth token", ok=None, detail="none is set: the bot cannot be looked at", fix="set auth_token")
            return
        api = ViberSession(self.settings.api_url, token)
        try:
            bot = api.call_json("POST", "pa/get_account_info", json={})
            yield Check("auth token", ok=True, detail="valid; Viber's tokens do not end")
            yield self._check_bot(bot)
            yield from self._check_webhook(bot)
        except (CredentialsError, RateLimitedError, UnavailableError, RejectedError, PayloadError) as error:
            yield Check("auth token", ok=False, detail=str(error), fix="check the bot's token in Viber's admin panel")
            return
        yield api.check_clock()

    def _check_bot(self, bot: Mapping[str, Any]) -> Check:
        bot_id = text_of(bot, "id", "Viber bot")
        detail = f"{optional_text_of(bot, 'name', 'Viber bot') or 'the bot'} is {bot_id}"
        if self.settings.bot_id in {None, bot_id}:
            return Check("bot", ok=True, detail=detail)
        return Check("bot", ok=False, detail=detail, fix="bot_id is another one: set the right id or the right token")

    def _check_webhook(self, bot: Mapping[str, Any]) -> Iterator[Check]:
        url, route = optional_text_of(bot, "webhook", "Viber bot") or "", self.settings.route
        ours = [f"/webhooks/viber/{route}", *(["/webhooks/viber"] if route == "default" else [])]
        called = any(urlsplit(url).path.rstrip("/").endswith(one) for one in ours)
        fix = f"call set_webhook with https://<your host>{ours[-1]} (see the page), while `onethread receive` runs"
        yield Check("webhook", ok=called, detail=f"Viber calls {url or 'nobody'}", fix="" if called else fix)
        given = bot.get("event_types")
        missing = [one for one in _WANTED_EVENTS if isinstance(given, list) and one not in given]
        if isinstance(given, list):
            detail = f"not subscribed: {', '.join(missing)}" if missing else "all are subscribed"
            fix = "call set_webhook again without event_types" if missing else ""
            yield Check("events", ok=not missing, detail=detail, fix=fix)
