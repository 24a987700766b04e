"""tap-x: what X's webhooks delivered, and what ``/2/dm_events`` has that no webhook brought.

That endpoint gives 30 days, newest first, has no "since" and may be read 15 times in 15 minutes for each account: a
pass pages until it meets what the last complete one has seen, and one that is cut off goes on at its page.

Source of the API's rules: see `taps.x_api`. Where a file of a message is fetched: openapi.json 2.167 of github.com/
xdevplatform/xdk @84c2654 (``/2/dm_conversations/media/...``), read 2026-11, documented; that its three ids are those in
the file's address is observed in public code.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from mappings.errors import CredentialsError, OneThreadError, RejectedError, UnavailableError
from mappings.fields import object_of, optional_object_of, optional_text_of, text_of
from mappings.from_x import ALARMS, XContext, account_of_event, is_pushed, records_from_x
from mappings.records import Attachment, Consent, Message, Receipt, Record
from stores.items import Items
from stores.media import MediaRequest
from stores.tokens import Token, Tokens
from taps.base import Check, Checkpoint
from taps.deliveries import DeliverySettings, DeliveryTap
from taps.webhooks import x
from taps.webhooks.items import Item
from taps.x_api import XSession, refresh_x_token
from taps.x_checks import check_webhook
from taps.x_pages import EVENT_FIELDS, MENTION_FIELDS, POST_NAMES, items_of_answer

# A webhook on its way is not a missed one.
_SETTLE = timedelta(seconds=60)
_KEPT_DAYS = 30
_TON = re.compile(r"https://ton\.(?:twitter|x)\.com/.*/dm/([0-9]+)/([0-9]+)/([A-Za-z0-9_.-]+)")
_OPEN_HOSTS = frozenset({"pbs.twimg.com", "video.twimg.com"})


class XSettings(DeliverySettings):
    """The settings of tap-x."""

    access_token: SecretStr | None = Field(
        None,
        description="User access token of the account whose messages to read (OAuth 2.0; scopes dm.read, tweet.read, "
        "users.read). Without a refresh token it ends after two hours.",
    )
    refresh_token: SecretStr | None = Field(
        None, description="Refresh token of the same login (scope offline.access): access tokens live two hours."
    )
    client_id: str | None = Field(None, description="The app's OAuth 2.0 client id; needed to refresh a token.")
    client_secret: SecretStr | None = Field(
        None, description="The app's OAuth 2.0 client secret; confidential clients need it to refresh a token."
    )
    bearer_token: SecretStr | None = Field(
        None, description="The app's own bearer token: lets `onethread doctor` look at webhooks and subscriptions."
    )
    user_id: str | None = Field(
        None,
        pattern=r"^[0-9]{1,19}$",
        description="The account's user id. Default: asked for in every run (a read that X may charge for).",
    )
    bot_app_ids: list[str] = Field(
        default_factory=list,
        description="Ids of apps that write by themselves under the account: what they send is a bot's. Known from "
        "webhooks only.",
    )
    escaped_text: bool = Field(
        True, description="X writes &, < and > in texts as &amp;, &lt; and &gt;: write them as they were typed."
    )
    read_mentions: bool = Field(
        False, description="Also ask for public posts that mention the account. X may charge for each post."
    )
    reconcile: bool | None = Field(
        None,
        description="Read the account's events and add what no webhook brought. Default: yes when there is a token.",
    )
    reconcile_hours: float = Field(
        2, gt=0, le=24 * _KEPT_DAYS, description="How far back each pass looks; further when the last one is older."
    )
    reconcile_minutes: float = Field(
        5,
        ge=0,
        le=60,
        description="At least so long between two passes: X allows 15 reads in 15 minutes and may charge.",
    )
    history_days: float = Field(
        _KEPT_DAYS, ge=0, le=_KEPT_DAYS, description="How far back the very first pass looks; X keeps 30 days."
    )
    page_size: int = Field(100, ge=1, le=100, description="Events per page.")
    longest_wait_seconds: float = Field(
        30, ge=0, description="When the reads are used up for longer, the run ends and a later one goes on from there."
    )
    api_url: str = Field("https://api.x.com", description="Base URL of the API.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.refresh_token is not None and self.client_id is None:
            msg = "refresh_token needs client_id"
            raise ValueError(msg)
        if self.reconcile and not self.has_token:
            msg = "reconcile needs access_token or refresh_token"
            raise ValueError(msg)
        return self

    @property
    def has_token(self) -> bool:
        """Whether the API can be asked."""
        return self.access_token is not None or self.refresh_token is not None

    @property
    def reconciles(self) -> bool:
        """Whether to poll."""
        return self.has_token if self.reconcile is None else self.reconcile


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a pass over the events is.

    Attributes:
        number: of the pass.
        began: when it began, perhaps in an earlier run.
        known: when the last complete one began.
        page: where to go on; ``None``: at the newest event.
    """

    number: int
    began: datetime
    known: datetime | None
    page: str | None


class TapX(DeliveryTap[XSettings]):
    """Reads one route of X's webhooks and reconciles the account that the token belongs to."""

    name = "tap-x"
    platform = "x"
    settings_model = XSettings
    record_models = (Message, Receipt, Consent)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._old_names = bool(self.cursor.get("old_names"))
        self._alarmed: set[str] = set()

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.x.split`."""
        del headers
        return x.split(body)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_x`."""
        alarm = ALARMS.get(item.kind)
        if alarm is not None and alarm not in self._alarmed:
            self._alarmed.add(alarm)
            self.logger.warning("%s", alarm)
        context = XContext(
            received_at=received_at,
            raw_ref=raw_ref,
            user_id=self.settings.user_id,
            bot_app_ids=frozenset(self.settings.bot_app_ids),
            escaped=self.settings.escaped_text,
            polled=raw_ref.startswith("poll:"),
            keywords=self.keywords,
        )
        return records_from_x(item, context)

    def account_of(self, item: Item) -> object:
        """Our account: a message comes once for each of its people who have subscribed."""
        return account_of_event(item.payload, self.settings.user_id)

    # The API

    @cached_property
    def api(self) -> XSession:
        """Calls with the token in force; a rotating one is refreshed in time."""
        settings = self.settings
        return XSession(settings.api_url, self._token, self._renewed, max_seconds=settings.longest_wait_seconds)

    @cached_property
    def _tokens(self) -> Tokens:
        return Tokens(self.stores)

    @property
    def _token_name(self) -> str:
        return f"{self.platform}:{self.settings.route}"

    @property
    def _configured_token(self) -> Token:
        settings = self.settings
        return Token(access_token=settings.access_token or SecretStr(""), refresh_token=settings.refresh_token)

    def _token(self) -> SecretStr:
        return self._tokens.get(self._token_name, self._configured_token, self._refresh).access_token

    def _renewed(self, refused: SecretStr) -> SecretStr | None:
        """Another token for one that X has refused; ``None`` without a refresh token."""
        if self.settings.refresh_token is None:
            return None
        token = Token(access_token=refused, refresh_token=self.settings.refresh_token)
        return self._tokens.renew(self._token_name, token, self._refresh).access_token

    def _refresh(self, token: Token) -> Token:
        settings = self.settings
        return refresh_x_token(
            settings.api_url, token, settings.client_id or "", settings.client_secret, now=self.now()
        )

    def _me(self) -> dict[str, Any]:
        return object_of(self.api.get("2/users/me"), "data", "X users/me")

    # Reconciliation

    def poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        """The events of the account that no webhook brought; posts that mention it, where that is wanted."""
        place = self._place()
        if not self.settings.reconciles or place is None:
            return
        account = self.settings.user_id or text_of(self._me(), "id", "X users/me")
        try:
            while True:
                resumed = place.page is not None
                following = yield from self._walk(items, account, place)
                if following is None:
                    return
                if not resumed:
                    break
                place = following  # what came since that pass began lies above its first page
        finally:
            if self.api.budget:
                self.logger.info("after reading the events: %s", self.api.budget)
        if self.settings.read_mentions:
            yield from self._mentions(items, account, following.number - 1)

    def _place(self) -> _Place | None:
        """Where to begin; ``None`` when the last pass was a moment ago."""
        page = optional_text_of(self.cursor, "poll_page", "cursor")
        known = optional_text_of(self.cursor, "reconciled_to", "cursor")
        began = optional_text_of(self.cursor, "poll_began", "cursor")
        place = _Place(
            number=int(self.cursor.get("poll_pass", 0)) + 1,
            began=datetime.fromisoformat(began) if page and began else self.now(),
            known=datetime.fromisoformat(known) if known else None,
            page=page,
        )
        pause = timedelta(minutes=self.settings.reconcile_minutes)
        too_soon = place.known is not None and place.began - place.known < pause
        return None if page is None and too_soon else place

    def _walk(self, items: Items, account: str, place: _Place) -> Generator[Record | Checkpoint, None, _Place | None]:
        """One pass, or the rest of one, page by page; where the next begins, ``None`` when we were stopped."""
        seen: set[str] = set()
        while True:
            try:
                answer = self._page(place.page)
            except RejectedError:
                if place.page is None or seen:
                    raise
                self.logger.warning("the page where the last run ended is gone: beginning again at the newest event")
                place = replace(place, page=None, began=self.now())
                continue
            since = self._expected_from(place)
            if place.known is None:
                since = min(since, place.began - timedelta(days=self.settings.history_days))
            found = items_of_answer(answer, account)
            yield from self._news(items, found, place)
            meta = optional_object_of(answer, "meta", "X dm_events") or {}
            page = optional_text_of(meta, "next_token", "X dm_events")
            times = [moment for _, moment in found if moment is not None]
            if page is None or (times and min(times) < since):
                break
            if page in seen or page == place.page:
                msg = "X: the pages of events repeat themselves; giving up for this run"
                raise UnavailableError(msg)
            seen.add(page)
            place = replace(place, page=page)
            yield Checkpoint({"poll_page": page, "poll_began": place.began.isoformat()})
            if self.stop_requested:
                return None
        done = {"poll_pass": place.number, "reconciled_to": place.began.isoformat(), "poll_page": None}
        yield Checkpoint({**done, "poll_began": None, "old_names": self._old_names})
        return _Place(place.number + 1, self.now(), place.began, None)

    def _page(self, page: str | None) -> dict[str, Any]:
        """One page of events. When X refuses the names of the day, the others are tried."""
        given = {"max_results": self.settings.page_size, "pagination_token": page, **EVENT_FIELDS}
        try:
            return self.api.get("2/dm_events", **given, **POST_NAMES[self._old_names])
        except RejectedError:
            if page is not None:
                raise
            answer = self.api.get("2/dm_events", **given, **POST_NAMES[not self._old_names])
            self._old_names = not self._old_names
            return answer

    def _expected_from(self, place: _Place) -> datetime:
        """From when on a message should have come by webhook."""
        since = place.began - timedelta(hours=self.settings.reconcile_hours)
        return since if place.known is None else min(since, place.known - 2 * _SETTLE)

    def _news(self, items: Items, found: Sequence[tuple[Item, datetime | None]], place: _Place) -> Iterator[Record]:
        """What of a page is new. What is older than a look back, or in a group, no webhook was to bring: history."""
        settled, expected_from = place.began - _SETTLE, self._expected_from(place)
        timed = [(item, moment or settled) for item, moment in found]
        if self._receives:
            timed = [(item, moment) for item, moment in timed if moment <= settled]

        def expected(item: Item, at: datetime | None) -> bool:
            return at is not None and at >= expected_from and is_pushed(item.payload["event"])

        yield from self.emit_polled(items, timed, place.number, expected=expected)

    def _mentions(self, items: Items, account: str, number: int) -> Iterator[Record | Checkpoint]:
        """Public posts that mention us since the last one we know; done without where the app's tier has none."""
        since_id = optional_text_of(self.cursor, "mention_id", "cursor")
        newest, page = since_id, None
        start = f"{self.now() - timedelta(days=self.settings.history_days):%Y-%m-%dT%H:%M:%SZ}"
        seen: set[str] = set()
        while True:
            bound = {"since_id": since_id} if since_id else {"start_time": start}
            try:
                answer = self.api.get(
                    f"2/users/{account}/mentions", max_results=100, pagination_token=page, **bound, **MENTION_FIELDS
                )
            except (CredentialsError, RejectedError) as error:
                self.logger.warning("mentions are not read: %s", error)
                return
            found = items_of_answer(answer, account, kind=x.MENTION)
            yield from self.emit_polled(items, [(item, moment or self.now()) for item, moment in found], number)
            meta = optional_object_of(answer, "meta", "X mentions") or {}
            newest = max(newest, optional_text_of(meta, "newest_id", "X mentions"), key=lambda one: int(one or 0))
            page = optional_text_of(meta, "next_token", "X mentions")
            if page is None or page in seen or self.stop_requested:
                break
            seen.add(page)
            yield Checkpoint({})
        if page is None and newest is not None:
            yield Checkpoint({"mention_id": newest})

    # Files

    def media_request(self, attachment: Attachment, message: Message) -> MediaRequest | None:
        """A file of a message by the API with our token; one of a public post without."""
        del message
        if attachment.url is None:
            return None
        private = _TON.match(attachment.url)
        if private is None:
            return MediaRequest(attachment.url, hosts=_OPEN_HOSTS)
        if not self.settings.has_token:
            return None
        message_id, media_id, file = private.groups()
        base = self.settings.api_url.rstrip("/")
        return MediaRequest(
            url=f"{base}/2/dm_conversations/media/{message_id}/{media_id}/{file}",
            headers={"Authorization": f"Bearer {self._token().get_secret_value()}"},
            hosts=frozenset({urlsplit(base).hostname or ""}),
        )

    # Doctor

    def check(self) -> Iterator[Check]:
        """The token, what it may do, the clock; with the app's bearer token the webhook and its subscriptions."""
        yield from super().check()
        if not self.settings.has_token:
            yield Check(
                "access token", None, "not set: webhooks only",
                "Set access_token (and refresh_token): X does not say how often it repeats a webhook, and reading the "
                "events finds what got lost.",
            )  # fmt: skip
            account = self.settings.user_id
        else:
            account = None
            try:
                me = self._me()
                account = text_of(me, "id", "X users/me")
            except OneThreadError as error:
                yield Check("access token", False, str(error), "Log in again and set the new tokens.")
            else:
                name = optional_text_of(me, "username", "X users/me") or "?"
                yield Check("access token", True, f"good for @{name} (user id {account}); {self._lifetime()}")
                yield self.api.check_clock()
                yield self._may_read()
        yield Check("encrypted chats", None, "X gives no API for them (XChat): what customers write there stays unseen")
        secret = self.settings.bearer_token
        if secret is None:
            yield Check("webhook", None, "bearer_token is not set: X shows webhooks to the app itself only")
            return
        app = XSession(self.settings.api_url, lambda: secret, max_seconds=self.settings.longest_wait_seconds)
        yield from check_webhook(app, self.settings.route, account)

    def _lifetime(self) -> str:
        if self.settings.refresh_token is None:
            return "without a refresh token it ends two hours after the login"
        status = next((one for one in self._tokens.listing() if one.name == self._token_name), None)
        if status is None or status.expires_at is None:
            return "refreshed when X refuses it"
        return f"valid until {status.expires_at:%Y-%m-%d %H:%M} UTC, then refreshed"

    def _may_read(self) -> Check:
        """One of the 15 reads: nothing else tells what the token may do."""
        try:
            self.api.get("2/dm_events", max_results=1)
        except OneThreadError as error:
            return Check("direct messages", False, str(error), "Scopes: dm.read, tweet.read, users.read.")
        return Check("direct messages", True, f"can be read; {self.api.budget or 'X told no budget'}")


if __name__ == "__main__":
    TapX.cli()
