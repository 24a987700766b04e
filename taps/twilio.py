"""tap-twilio: what Twilio's webhooks delivered, and the list of messages, which has every message of both directions.

Twilio posts a webhook once. What nobody took is lost for whoever has webhooks alone, so each run reads the list again.

Source of the API's rules: github.com/twilio/twilio-oai @d50069b, twilio_api_v2010.yaml (pages of 1000, dates of whole
GMT days), twilio.com/docs/messaging/api/message-resource and .../media-resource of 2026-09-28 (media wants a password),
read 2026-11, documented. That the list is sorted is not relied upon. Where media really lies: observed in public code.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from mappings.errors import CredentialsError, MissingFieldError, OneThreadError, RejectedError, UnavailableError
from mappings.fields import objects_of, optional_text_of, text_of
from mappings.from_twilio import (
    TwilioContext,
    is_waiting,
    moment_of_row,
    our_address_of_row,
    records_from_twilio,
)
from mappings.records import Attachment, Consent, Message, Receipt, Record
from mappings.sms import sms_address
from stores.items import Items
from stores.media import MediaRequest
from taps.base import Check, Checkpoint, HttpSession
from taps.deliveries import DeliverySettings, DeliveryTap, Outcome
from taps.webhooks import twilio
from taps.webhooks.items import Item

_VERSION = "2010-04-01"
# A webhook on its way is not a missed one.
_SETTLE = timedelta(seconds=60)
_DEEP_EVERY = timedelta(days=1)
_MEDIA_HOSTS = frozenset({".twiliocdn.com", "s3-external-1.amazonaws.com"})


class TwilioSettings(DeliverySettings):
    """The settings of tap-twilio."""

    account_sid: str | None = Field(
        None, pattern=r"^AC[0-9a-fA-F]{32}$", description="The Twilio account (or subaccount) whose messages to read."
    )
    auth_token: SecretStr | None = Field(
        None, description="The account's auth token; it also verifies webhooks. Needed to read the list and media."
    )
    api_key: SecretStr | None = Field(
        None, description="Sid (SK...) of an API key, to read with instead of the auth token."
    )
    api_key_secret: SecretStr | None = Field(None, description="The API key's secret.")
    senders: list[str] = Field(
        default_factory=list,
        description="Which of our numbers, short codes and sender ids to read from the list, e.g. "
        '["+12025550100"]. Default: all of the account; leave out those that send codes and reminders only.',
    )
    portfolio_id: str | None = Field(
        None, description="WhatsApp numbers at Twilio: the Meta business portfolio, which scopes WhatsApp's user ids."
    )
    reconcile: bool | None = Field(
        None,
        description="Read the list of messages and add what no webhook brought. Default: yes when account_sid and a "
        "password are set.",
    )
    reconcile_hours: float = Field(
        2,
        gt=0,
        le=24 * 30,
        description="How far back each run looks, rounded to whole GMT days; further when the last look is older.",
    )
    deep_days: float = Field(
        3, gt=0, le=90, description="Once a day the look reaches that far back, for statuses that changed late."
    )
    history_days: float = Field(0, ge=0, description="How far back the very first look reaches. 0: as every look.")
    page_size: int = Field(1000, ge=1, le=1000, description="Messages per page of the list.")
    api_url: str = Field("https://api.twilio.com", description="Base URL; other regions have their own.")

    @model_validator(mode="after")
    def _can_reconcile(self) -> Self:
        if (self.api_key is None) != (self.api_key_secret is None):
            msg = "api_key and api_key_secret need each other"
            raise ValueError(msg)
        if self.reconcile and not self._possible:
            msg = "reconcile needs account_sid and auth_token, or an API key"
            raise ValueError(msg)
        return self

    @property
    def _possible(self) -> bool:
        return self.account_sid is not None and self.password is not None

    @property
    def reconciles(self) -> bool:
        """Whether to poll."""
        return self._possible if self.reconcile is None else self.reconcile

    @property
    def password(self) -> tuple[str, SecretStr] | None:
        """User and password of the API: the key's where there is one."""
        if self.api_key is not None and self.api_key_secret is not None:
            return self.api_key.get_secret_value(), self.api_key_secret
        if self.account_sid is not None and self.auth_token is not None:
            return self.account_sid, self.auth_token
        return None


class TwilioSession(HttpSession):
    """Reads Twilio's REST API, whose errors are ``{"code": 20003, "message": ..., "status": 401}``."""

    def error_code(self, body: Any) -> str | None:
        """The top-level ``code``."""
        code = body.get("code") if isinstance(body, dict) else None
        return None if code is None else str(code)

    def budget_of(self, headers: Mapping[str, str]) -> str | None:
        """Twilio limits requests at one time, not per hour."""
        running = headers.get("Twilio-Concurrent-Requests")
        return None if running is None else f"{running} requests of the account at the same time"

    def fetch_object(self, path: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object that ``GET path`` answers."""
        answer = self.fetch_json(path, parameters)
        if not isinstance(answer, dict):
            msg = f"{self.platform}: an answer is {type(answer).__name__}, not an object"
            raise MissingFieldError(msg)
        return answer


@dataclass(frozen=True, slots=True)
class _Row:
    """A message of the list with what says whether it is news."""

    row: dict[str, Any]
    sid: str
    inbound: bool
    sent_at: datetime


class TapTwilio(DeliveryTap[TwilioSettings]):
    """Reads one route of Twilio's webhooks and reconciles one account."""

    name = "tap-twilio"
    platform = "twilio"
    settings_model = TwilioSettings
    record_models = (Message, Receipt, Consent)  # SMS knows no changes

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._brought: set[str] = set()

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.twilio.split`."""
        del headers
        return twilio.split(body)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_twilio`."""
        context = TwilioContext(
            received_at=received_at,
            raw_ref=raw_ref,
            portfolio_id=self.settings.portfolio_id,
            keywords=self.keywords,
        )
        return records_from_twilio(item, context)

    def account_of(self, item: Item) -> object:
        """The Twilio account."""
        if "row" in item.payload:
            return item.payload["row"].get("account_sid")
        form = item.payload.get("form")
        return form.get("AccountSid") if isinstance(form, dict) else None

    def emit(self, outcome: Outcome) -> Iterator[Record]:
        """The records of one event; remembers what a webhook brought, for the list may correct its time at once."""
        if outcome.item.kind == "message" and self.settings.reconciles:
            self._brought.add(outcome.item.key)
        yield from super().emit(outcome)

    def media_request(self, attachment: Attachment, message: Message) -> MediaRequest | None:
        """The file at Twilio's API, which wants the password and sends on to a host that must not see it."""
        del message
        if attachment.url is None:
            return None
        password = self.settings.password
        own_host = urlsplit(self.settings.api_url).hostname or ""
        headers: dict[str, str] = {}
        if password is not None and urlsplit(attachment.url).hostname == own_host:
            user, secret = password
            joined = base64.b64encode(f"{user}:{secret.get_secret_value()}".encode()).decode()
            headers["Authorization"] = f"Basic {joined}"
        return MediaRequest(url=attachment.url, headers=headers, hosts=_MEDIA_HOSTS | {own_host})

    # Reconciliation

    @cached_property
    def _api(self) -> TwilioSession:
        user, secret = self.settings.password or ("", SecretStr(""))
        auth = (user, secret.get_secret_value())
        return TwilioSession("Twilio", self.settings.api_url, auth=auth, secrets=[secret])

    @property
    def _account_path(self) -> str:
        return f"/{_VERSION}/Accounts/{self.settings.account_sid}"

    def poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        """What the list has that no webhook brought, each message's own time, and the statuses of ours.

        The place in the list is kept: a pass that is cut off goes on there, also in a later run.
        """
        if not self.settings.reconciles:
            return
        number = int(self.cursor.get("poll_pass", 0)) + 1
        began = self._began()
        deep = self._deep_is_due(began)
        path = optional_text_of(self.cursor, "poll_page", "cursor")
        seen: set[str] = set()
        while True:
            try:
                answer = self._page(path, began, deep=deep)
            except RejectedError:
                if path is None or seen:
                    raise
                self.logger.warning("the place in the list where the last run ended is gone: beginning again")
                path = None
                continue
            yield from self._news(objects_of(answer, "messages", "Twilio list"), items, number, began)
            path = optional_text_of(answer, "next_page_uri", "Twilio list")
            if path is None:
                break
            if path in seen:
                msg = "Twilio: the list of messages repeats itself; giving up for this run"
                raise UnavailableError(msg)
            seen.add(path)
            yield Checkpoint({"poll_page": path, "poll_began": began.isoformat()})
            if self.stop_requested:
                return
        self._brought.clear()
        if self._api.budget:
            self.logger.info("after reading the list: %s", self._api.budget)
        done = {"poll_pass": number, "reconciled_to": began.isoformat(), "poll_page": None, "poll_began": None}
        deep_at = began.isoformat() if deep else self.cursor.get("deep_at", began.isoformat())
        yield Checkpoint({**done, "deep_at": deep_at})

    def _began(self) -> datetime:
        """When this pass began, which may have been in an earlier run."""
        began = optional_text_of(self.cursor, "poll_began", "cursor")
        return datetime.fromisoformat(began) if began else self.now()

    def _deep_is_due(self, began: datetime) -> bool:
        last = optional_text_of(self.cursor, "deep_at", "cursor")
        return last is not None and began - datetime.fromisoformat(last) >= _DEEP_EVERY

    def _expected_from(self, began: datetime) -> datetime:
        """From when on a message should have come by webhook: since the last look, or for the hours of every look."""
        since = began - timedelta(hours=self.settings.reconcile_hours)
        last = optional_text_of(self.cursor, "reconciled_to", "cursor")
        return since if last is None else min(since, datetime.fromisoformat(last) - 2 * _SETTLE)

    def _page(self, path: str | None, began: datetime, *, deep: bool) -> dict[str, Any]:
        """One page of the list: the first, or the one at `path`, which Twilio named itself."""
        if path is not None:
            return self._api.fetch_object(path)
        settings = self.settings
        since = self._expected_from(began)
        if deep:
            since = min(since, began - timedelta(days=settings.deep_days))
        if self.cursor.get("reconciled_to") is None:
            since = min(since, began - timedelta(days=settings.history_days))
        # "DateSent>=2026-11-21": the name ends with the first sign of the comparison. Days are GMT days.
        parameters = {"DateSent>": f"{since.astimezone(UTC):%Y-%m-%d}", "PageSize": settings.page_size}
        return self._api.fetch_object(f"{self._account_path}/Messages.json", parameters)

    def _news(self, rows: list[dict[str, Any]], items: Items, number: int, began: datetime) -> Iterator[Record]:
        """The records of those messages and statuses of a page that are new.

        An incoming message is news when nobody had it, and once more for its own time when a webhook brought it. What
        we sent comes by no webhook, so it is not counted as missed; nor is what an earlier look should have found.
        """
        source = f"poll:{number}"
        expected_from = self._expected_from(began)
        listed: dict[str, _Row] = {}
        found: list[tuple[Item, datetime | None]] = []
        for row in rows:
            try:
                one = self._readable(row)
            except MissingFieldError as error:
                item = Item(0, "listed", {"row": row, "media": None}, f"row:{row.get('sid')}")
                yield from self.emit(Outcome(item, self.now(), source, error=error))
                continue
            if one is None or (one.inbound and one.sent_at > began - _SETTLE and one.sid not in self._brought):
                continue
            listed[one.sid] = one
            what, more = ("listed", "listed") if one.inbound else ("listed_status", row.get("status"))
            for kind, key in (("message", one.sid), (what, f"{one.sid}:{more}")):
                found.append((Item(0, kind, {"row": row, "media": None}, key), one.sent_at))

        def expected(item: Item, at: datetime | None) -> bool:
            inbound = item.payload["row"].get("direction") == "inbound"
            return item.kind == "message" and inbound and at is not None and at >= expected_from

        told: set[str] = set()
        for item in self.unseen(items, found, number, expected=expected):
            if item.kind == "listed_status":
                yield from self.emit(self.outcome(item, self.now(), source))
                continue
            one = listed[item.payload["row"]["sid"]]
            if one.sid not in told:
                told.add(one.sid)
                media = self._media_of(one) if item.kind == "message" else None
                news = Item(0, "listed", {"row": one.row, "media": media}, one.sid)
                yield from self.emit(self.outcome(news, self.now(), source))

    def _readable(self, row: dict[str, Any]) -> _Row | None:
        """A message of our senders that has left Twilio; raises `MissingFieldError` when it does not say what it is."""
        address = our_address_of_row(row) or ""
        if self._senders and sms_address(address.removeprefix("whatsapp:"))[1] not in self._senders:
            return None
        inbound = row.get("direction") == "inbound"
        if not inbound and is_waiting(row):
            return None
        return _Row(row, text_of(row, "sid", "Twilio list"), inbound, moment_of_row(row))

    @cached_property
    def _senders(self) -> frozenset[str]:
        return frozenset(sms_address(one)[1] for one in self.settings.senders)

    def _media_of(self, one: _Row) -> list[dict[str, Any]] | None:
        """Type and address of each file of a message; nothing when there is none, or when they were deleted."""
        if str(one.row.get("num_media") or 0) == "0":
            return None
        path = f"{self._account_path}/Messages/{one.sid}"
        try:
            answer = self._api.fetch_object(f"{path}/Media.json")
        except RejectedError as error:
            self.logger.warning("the files of a listed message cannot be read (code %s)", error.code)
            return []
        base = self.settings.api_url.rstrip("/")
        return [
            {**media, "url": f"{base}{path}/Media/{media.get('sid')}"}
            for media in objects_of(answer, "media_list", "Twilio media")
        ]

    # Doctor

    def check(self) -> Iterator[Check]:
        """Whether the account answers, and whether its numbers post to us."""
        yield from super().check()
        if not self.settings.reconciles:
            yield Check(
                "account", None, "no account_sid and password: the list of messages is not read",
                "Set account_sid and auth_token: Twilio posts a webhook once, and the list has what got lost.",
            )  # fmt: skip
            return
        try:
            account = self._api.fetch_object(f"{self._account_path}.json")
        except OneThreadError as error:
            fix = "Take the auth token from the Console, or make a new API key." * isinstance(error, CredentialsError)
            yield Check("account", False, str(error), fix)
            return
        status = optional_text_of(account, "status", "Twilio account")
        kind = optional_text_of(account, "type", "Twilio account") or "unknown"
        yield Check("account", status == "active", f"{status}, type {kind}", "Open the Twilio Console.")
        yield self._api.check_clock(self.now())
        yield from self._numbers()

    def _numbers(self) -> Iterator[Check]:
        """Where each phone number of the account posts what it receives."""
        route = self.settings.route
        wanted = "/webhooks/twilio" + ("" if route == "default" else f"/{route}")
        try:
            answer = self._api.fetch_object(f"{self._account_path}/IncomingPhoneNumbers.json", {"PageSize": 1000})
            rows = objects_of(answer, "incoming_phone_numbers", "Twilio numbers")
        except OneThreadError as error:
            yield Check("webhook", None, str(error), "Give the API key access to phone numbers.")
            return
        for row in rows:
            number = sms_address(optional_text_of(row, "phone_number", "Twilio numbers") or "")[1]
            if self._senders and number not in self._senders:
                continue
            name = f"webhook of the number ending in {number[-4:]}"
            url = urlsplit(optional_text_of(row, "sms_url", "Twilio numbers") or "")
            if optional_text_of(row, "sms_application_sid", "Twilio numbers"):
                yield Check(name, None, "set by a TwiML application; look there")
            elif url.path.rstrip("/").endswith(wanted) and row.get("sms_method") == "POST":
                yield Check(name, True, f"posts to {url.hostname}{url.path}")
            else:
                fix = f'Set "A message comes in" to https://<your host>{wanted}, POST; or in its messaging service.'
                yield Check(name, False, "does not post here", fix)


if __name__ == "__main__":
    TapTwilio.cli()
