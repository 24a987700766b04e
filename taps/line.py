"""tap-line: what LINE's webhooks delivered, and the names of those who wrote.

LINE has no history: what no webhook brought is lost, and an empty spool is all there is to read. Its API is asked for
names only, and by ``onethread doctor``.

Source of the calls: github.com/line/line-openapi @6e4c2a2 messaging-api.yml and channel-access-token.yml (2026-07-01),
documented, read 2026-11. No rate-limit headers are documented; 2,000 calls a second and endpoint are the default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, model_validator
from requests import PreparedRequest
from requests.auth import AuthBase

from mappings.errors import (
    CredentialsError,
    OneThreadError,
    PayloadError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from mappings.fields import optional_text_of, text_of
from mappings.from_line import LineContext, profile_from_line, records_from_line
from mappings.from_line.access import ASSERTED_PATH, STATELESS_PATH, asserted_form, stateless_form, token_of
from mappings.records import Attachment, Consent, Evidence, Handle, Message, MessageChange, Record
from stores.items import Items, Sighting
from stores.media import MediaRequest
from stores.tokens import Token, Tokens
from taps.base import Check, Checkpoint, HttpSession
from taps.deliveries import DeliverySettings, DeliveryTap, Outcome
from taps.webhooks import line
from taps.webhooks.items import Item

_AHEAD_STATELESS = timedelta(minutes=2)
_AHEAD_ASSERTED = timedelta(days=1)


class LineSettings(DeliverySettings):
    """The settings of tap-line."""

    channel_id: str | None = Field(
        None, description="The Messaging API channel's id; with channel_secret or assertion_key it gets access tokens."
    )
    channel_secret: SecretStr | None = Field(
        None, description="The channel's secret. With channel_id: stateless access tokens, a new one every 15 minutes."
    )
    assertion_key: SecretStr | None = Field(
        None,
        description="Private RSA key as a JSON Web Key, whose public part is registered at the channel. With "
        "channel_id: access tokens of kind v2.1, renewed before they end.",
    )
    assertion_key_id: str | None = Field(
        None, description="What LINE's console shows for the registered key (kid). Default: the kid in assertion_key."
    )
    token_days: float = Field(30, gt=0, le=30, description="How long an access token of kind v2.1 is to last.")
    access_token: SecretStr | None = Field(
        None, description="Long-lived channel access token from the console; goes before the other kinds."
    )
    provider_id: str | None = Field(
        None,
        description="Your provider's id: user ids are the same for all channels of one provider. Default: each bot is "
        "taken for a provider of its own.",
    )
    account_link_secret: SecretStr | None = Field(
        None,
        description="Key with which your site's login page signs nonces. Without it an account link is kept, but "
        "links nobody.",
    )
    profiles_per_run: int = Field(
        100, ge=0, description="How many names to ask for in a run, each once. 0: people stay nameless."
    )
    api_url: str = Field("https://api.line.me", description="Base URL of the Messaging API.")
    data_url: str = Field("https://api-data.line.me", description="Base URL of the host that files come from.")

    @model_validator(mode="after")
    def _assertion_has_a_channel(self) -> Self:
        if self.assertion_key is not None and self.channel_id is None:
            msg = "assertion_key needs channel_id"
            raise ValueError(msg)
        return self


class LineSession(HttpSession):
    """Calls LINE's API. An OAuth refusal is a 400; nothing in the answers' headers tells of a budget.

    Attributes:
        refused_token: whether the last refusal was about the access token.
    """

    def __init__(self, base_url: str, secrets: Sequence[SecretStr], bearer: AuthBase | None = None) -> None:
        super().__init__("LINE", base_url, secrets=secrets)
        self._session.auth = bearer
        self.refused_token = False

    def check_answer(self, endpoint: str, body: Any) -> None:
        """A file that is being prepared is asked for again; one that could not be never comes."""
        status = body.get("status") if isinstance(body, dict) and endpoint.endswith("/transcoding") else "succeeded"
        if status == "processing":
            msg = f"LINE: {endpoint}: the file is being prepared; trying again later"
            raise UnavailableError(msg)
        if status != "succeeded":
            msg = f"LINE: {endpoint}: the file could not be prepared"
            raise RejectedError(msg, code=str(status)[:20])

    def error_code(self, body: Any) -> str | None:
        """OAuth's word for what is wrong; the other calls have sentences only."""
        code = body.get("error") if isinstance(body, dict) else None
        return code[:60] if isinstance(code, str) else None

    def classify(self, endpoint: str, status: int, body: Any, retry_after: float | None) -> OneThreadError:
        """A 400 to a request for a token is about credentials."""
        self.refused_token = status == 401
        if status == 400 and "oauth" in endpoint:
            msg = (
                f"LINE: {endpoint} answered 400 (code {self.error_code(body)}); check channel_id and its secret or key"
            )
            return CredentialsError(msg)
        return super().classify(endpoint, status, body, retry_after)


class _Bearer(AuthBase):
    """The access token of the moment of each request."""

    def __init__(self, token: Callable[[], SecretStr]) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token().get_secret_value()}"
        return request


class TapLine(DeliveryTap[LineSettings]):
    """Reads one route of LINE's webhooks."""

    name = "tap-line"
    platform = "line"
    settings_model = LineSettings
    record_models = (Message, MessageChange, Consent, Evidence)  # LINE tells no receipts

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._renewed = False
        self._writers: dict[Handle, tuple[str, str]] = {}
        """Who wrote -> the bot they wrote to, and where their name can be asked for."""

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.line.split`."""
        del headers
        return line.split(body)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_line`."""
        secret = self.settings.account_link_secret
        context = LineContext(
            received_at=received_at,
            raw_ref=raw_ref,
            provider_id=self.settings.provider_id,
            account_link_secret=secret.get_secret_value() if secret else None,
            keywords=self.keywords,
        )
        return records_from_line(item, context)

    def account_of(self, item: Item) -> object:
        """The bot's user id."""
        return item.payload.get("destination")

    def emit(self, outcome: Outcome) -> Iterator[Record]:
        """The records of one event; remembers who wrote, for a webhook does not say their names."""
        for record in super().emit(outcome):
            if isinstance(record, Message):
                self._remember(outcome.item, record)
            yield record

    def _remember(self, item: Item, message: Message) -> None:
        source = item.payload["event"]["source"]
        user = message.handles[0]
        if user.kind != "line_user" or item.kind == "unfollow":  # who blocked the bot has no profile for it
            return
        path = f"v2/bot/profile/{quote(user.value, safe='')}"
        for kind in ("group", "room"):
            if source.get("type") == kind:
                path = f"v2/bot/{kind}/{quote(source[f'{kind}Id'], safe='')}/member/{quote(user.value, safe='')}"
        self._writers.setdefault(user, (message.account, path))

    # Access

    @property
    def _secrets(self) -> list[SecretStr]:
        found = (self.settings.access_token, self.settings.channel_secret, self.settings.assertion_key)
        return [one for one in found if one is not None]

    @property
    def _access_kind(self) -> str | None:
        """``long-lived``, ``v2.1`` or ``stateless``; ``None`` when the settings give no access at all."""
        settings = self.settings
        if settings.access_token is not None:
            return "long-lived"
        if settings.channel_id is None:
            return None
        return "v2.1" if settings.assertion_key else "stateless" if settings.channel_secret else None

    def _token(self) -> Token:
        """The access token to use now."""
        settings = self.settings
        if settings.access_token is not None:
            return Token(settings.access_token)
        ahead = _AHEAD_STATELESS if self._access_kind == "stateless" else _AHEAD_ASSERTED
        ahead = min(ahead, timedelta(days=settings.token_days) / 2)
        return Tokens(self.stores).get(f"line:{settings.channel_id}", self._issue, lambda _: self._issue(), ahead)

    def _issue(self) -> Token:
        """A new token. LINE's have no refresh token: the channel asks again with its secret or its key."""
        settings, now = self.settings, datetime.now(UTC)
        channel_id, key = str(settings.channel_id), settings.assertion_key
        if key is not None:
            lasts = timedelta(days=settings.token_days)
            path = ASSERTED_PATH
            form = asserted_form(channel_id, key.get_secret_value(), settings.assertion_key_id, now, lasts)
        else:
            secret = settings.channel_secret or SecretStr("")
            path, form = STATELESS_PATH, stateless_form(channel_id, secret.get_secret_value())
        answer = LineSession(settings.api_url, self._secrets).call_json("POST", path, data=form)
        token, expires_at = token_of(answer, now)
        return Token(SecretStr(token), expires_at=expires_at)

    @cached_property
    def _api(self) -> LineSession:
        return LineSession(self.settings.api_url, self._secrets, _Bearer(lambda: self._token().access_token))

    def _ask(self, path: str) -> dict[str, Any]:
        """An answer of the API; a token that was revoked before its end is replaced, once in a run."""
        used = None if self._access_kind == "long-lived" or self._renewed else self._token()
        try:
            answer = self._api.fetch_json(path)
        except CredentialsError:
            if used is None or not self._api.refused_token:
                raise
            self._renewed = True
            Tokens(self.stores).renew(f"line:{self.settings.channel_id}", used, lambda _: self._issue())
            answer = self._api.fetch_json(path)
        return answer if isinstance(answer, dict) else {}

    # Names

    def poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        """The names of those who wrote and were not asked for before; nothing else can be asked of LINE."""
        if self._access_kind is None or not self._writers:
            return
        number, now, left = int(self.cursor.get("poll_pass", 0)) + 1, self.now(), self.settings.profiles_per_run
        source = f"poll:{number}"
        for user, (account, path) in list(self._writers.items()):
            if not left:
                break
            asked = Sighting(self.item_key(account, f"profile {user.key}"), "profile", source, number, now)
            if items.claim_polled(self.platform, [asked])[0]:
                left -= 1
                try:
                    answer = self._ask(path)
                    profile = profile_from_line(answer, account, user, observed_at=now, raw_ref=source)
                except RejectedError:  # no friend of the bot any more, or gone
                    profile = None
                except (CredentialsError, RateLimitedError, UnavailableError, PayloadError) as error:
                    self.logger.info("names cannot be read now: %s", type(error).__name__)
                    return
                if profile is not None:
                    yield profile
            del self._writers[user]
        yield Checkpoint({"poll_pass": number})

    # Files

    @cached_property
    def _data(self) -> LineSession:
        return LineSession(self.settings.data_url, self._secrets, _Bearer(lambda: self._token().access_token))

    def media_request(self, attachment: Attachment, message: Message) -> MediaRequest | None:
        """Where a file's bytes are: under the message's id, on a host of their own, for our token.

        Video and audio take LINE a while: until then their bytes are answered with 202 and nothing.
        """
        if attachment.platform_media_id is None:
            return super().media_request(attachment, message)
        if self._access_kind is None:
            return None
        path = f"v2/bot/message/{quote(attachment.platform_media_id, safe='')}/content"
        if attachment.kind in {"video", "audio"}:
            self._data.fetch_json(f"{path}/transcoding")
        return MediaRequest(
            url=f"{self.settings.data_url.rstrip('/')}/{path}",
            headers={"Authorization": f"Bearer {self._token().access_token.get_secret_value()}"},
            hosts=frozenset({urlsplit(self.settings.data_url).hostname or ""}),
        )

    # Doctor

    def check(self) -> Iterator[Check]:
        """Token, bot, webhook address, clocks, and what LINE does not tell."""
        yield from super().check()
        kind = self._access_kind
        if kind is None:
            fix = "set access_token, or channel_id with channel_secret or assertion_key"
            yield Check("access token", ok=None, detail="none is set: names and files cannot be read", fix=fix)
            return
        try:
            yield self._check_token(kind)
            bot = self._ask("v2/bot/info")
            yield Check("bot", ok=True, detail=f"{text_of(bot, 'displayName', 'LINE bot')} answers as {kind}")
            yield self._check_webhook(self._ask("v2/bot/channel/webhook/endpoint"))
        except OneThreadError as error:
            yield Check(
                "access token", ok=False, detail=str(error), fix="check the token, or the channel's id and secret"
            )
            return
        yield self._api.check_clock()
        yield Check(
            "redelivery",
            ok=None,
            detail="LINE does not tell whether it delivers again what we could not take",
            fix="switch on `Webhook redelivery` in the console: there is no other second chance",
        )

    def _check_token(self, kind: str) -> Check:
        token = self._token()
        until = token.expires_at
        if kind == "long-lived":
            form = {"access_token": token.access_token.get_secret_value()}
            answer = LineSession(self.settings.api_url, self._secrets).call_json("POST", "v2/oauth/verify", data=form)
            seconds = answer.get("expires_in") if isinstance(answer, dict) else None
            # A token without an end answers with the seconds of a century.
            if isinstance(seconds, int) and 0 < seconds < 10 * 366 * 86_400:
                until = datetime.now(UTC) + timedelta(seconds=seconds)
        detail = f"{kind}, valid until {until:%Y-%m-%d %H:%M} UTC" if until else f"{kind}, valid without an end"
        return Check("access token", ok=True, detail=detail)

    def _check_webhook(self, answer: Mapping[str, Any]) -> Check:
        endpoint = optional_text_of(answer, "endpoint", "LINE webhook") or ""
        route = self.settings.route
        ours = {f"/webhooks/line/{route}", *(["/webhooks/line"] if route == "default" else [])}
        path = urlsplit(endpoint).path.rstrip("/")
        address = next((one for one in ours if path.endswith(one)), None)
        if address is None:
            fix = f"in the console set the webhook URL to https://<your host>{max(ours, key=len)}"
            return Check("webhook", ok=False, detail=f"LINE calls {endpoint or 'nobody'}", fix=fix)
        if answer.get("active") is not True:
            return Check(
                "webhook", ok=False, detail="the address is set, but not in use", fix="switch on `Use webhook`"
            )
        return Check("webhook", ok=True, detail=f"LINE calls {endpoint}")
