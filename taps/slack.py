"""tap-slack: what Slack's events delivered, and the history of customer channels with all threads.

A reply to an old message changes nothing in the history but the count at its parent, so the parents of the last days
(`thread_lookback_days`) are looked at again in every pass. How a channel is walked: taps/slack_history.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from mappings.errors import (
    CredentialsError,
    OneThreadError,
    PayloadError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from mappings.fields import object_of, optional_text_of, text_of
from mappings.from_slack import (
    SlackContext,
    account_of_envelope,
    channel_at,
    evidence_from_slack_user,
    records_from_slack,
    team_of_user,
)
from mappings.from_slack.codes import ALARMS
from mappings.records import Attachment, Consent, Evidence, Message, MessageChange, Record
from stores.items import Items, Sighting
from stores.media import MediaRequest
from stores.tokens import Token, Tokens
from taps.base import Check, Checkpoint
from taps.deliveries import DeliverySettings, DeliveryTap, Outcome
from taps.slack_api import SlackSession, refresh_slack_token
from taps.slack_history import Walks
from taps.slack_memory import Memory
from taps.webhooks import slack
from taps.webhooks.items import Item

_PROFILES_A_RUN = 100  # names are worth a call each, not a rate limit
_TYPES = {"public_channel": "channels", "private_channel": "groups", "im": "im", "mpim": "mpim"}
"""What ``users.conversations`` calls a type of conversation -> the first word of the scopes that read it."""
_MESSAGES = ("message", "message_changed", "message_deleted")
_SPEAKING = ("message", "message_changed", "reaction_added", "reaction_removed")


class SlackSettings(DeliverySettings):
    """The settings of tap-slack."""

    access_token: SecretStr | None = Field(
        None, description="Bot token (xoxb-...) of the app; needed for history, names, e-mail addresses and files."
    )
    refresh_token: SecretStr | None = Field(
        None, description="Refresh token (xoxe-1-...), when token rotation is on for the app."
    )
    client_id: str | None = Field(None, description="The app's client id; needed to refresh a token.")
    client_secret: SecretStr | None = Field(None, description="The app's client secret; needed to refresh a token.")
    team_ids: list[str] = Field(
        default_factory=list,
        description="Your workspaces (T...) and organisations (E...): whoever belongs to another is a customer. "
        "Default: the workspace that the app is installed in.",
    )
    agents: list[str] = Field(
        default_factory=list,
        description="User ids of your people, for a workspace that customers are members or guests of: everybody else "
        "is a customer.",
    )
    channels: list[str] = Field(
        default_factory=list,
        description="Ids of the customer channels. Default: every channel that is shared with another organisation. "
        "Direct messages of customers are always read.",
    )
    trusted_teams: list[str] = Field(
        default_factory=list,
        description="Workspaces of others whose administrators you believe about their people's e-mail addresses "
        "(* : all). Addresses from elsewhere are kept, but link nobody.",
    )
    read_history: bool | None = Field(
        None, description="Read the history and add what no event brought. Default: yes when access_token is set."
    )
    history_days: float = Field(
        90, ge=0, description="How far back the first pass over a channel reads. 0: to its beginning."
    )
    thread_lookback_days: float = Field(
        7, ge=0, description="Every pass looks for new replies to messages of the last days, however old the thread."
    )
    page_size: int = Field(
        200, ge=1, le=999, description="Messages to ask for in one call. Slack may give fewer (15 to some apps)."
    )
    longest_wait_seconds: float = Field(
        30, ge=0, description="When Slack asks for a longer wait, the run ends and the next one goes on from there."
    )
    file_hosts: list[str] = Field(
        default_factory=lambda: ["files.slack.com"],
        description="The hosts that files are fetched from; the token is sent to no other.",
    )
    api_url: str = Field("https://slack.com/api", description="Base URL of the Web API.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.read_history and self.access_token is None:
            msg = "read_history needs access_token"
            raise ValueError(msg)
        if self.refresh_token is not None and (
            self.access_token is None or self.client_id is None or self.client_secret is None
        ):
            msg = "refresh_token needs access_token, client_id and client_secret"
            raise ValueError(msg)
        return self

    @property
    def reads_history(self) -> bool:
        """Whether to poll."""
        return self.access_token is not None if self.read_history is None else self.read_history


class TapSlack(DeliveryTap[SlackSettings]):
    """Reads one route of Slack's events, and the history of the workspace that the token belongs to."""

    name = "tap-slack"
    platform = "slack"
    settings_model = SlackSettings
    record_models = (Message, MessageChange, Consent, Evidence)  # no receipts: Slack tells none

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._writers: dict[str, None] = {}
        self._bots: frozenset[str] = frozenset()
        self._asked: set[str] = set()

    @cached_property
    def memory(self) -> Memory:
        """What must be known beyond one event, from one run to the next."""
        return Memory.load(self.cursor, self.stores.codec)

    # What an event says

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.slack.split`."""
        del headers
        return slack.split(body)

    def account_of(self, item: Item) -> object:
        """The workspace that the app is installed in."""
        envelope = item.payload.get("envelope")
        return account_of_envelope(envelope) if isinstance(envelope, dict) else None

    def identity_of(self, item: Item) -> str:
        """The key; for a message of before its channel got another id, the key that it had."""
        event = item.payload.get("event")
        channel = event.get("channel") if isinstance(event, dict) else None
        if item.kind not in _MESSAGES or not isinstance(channel, str) or not item.key.startswith(f"{channel}:"):
            return item.key
        ts, _, rest = item.key[len(channel) + 1 :].partition(":")
        return ":".join(filter(None, (channel_at(channel, ts, self.memory.moved), ts, rest)))

    def name_of(self, item: Item) -> str:
        """A message without a record is one of our own channels, or a notice."""
        return "internal" if item.kind in _MESSAGES else item.kind

    def context(self, received_at: datetime, raw_ref: str) -> SlackContext:
        """What the mapping must be told now."""
        settings, memory = self.settings, self.memory
        return SlackContext(
            received_at=received_at,
            raw_ref=raw_ref,
            team_ids=frozenset(settings.team_ids),
            agents=frozenset(settings.agents),
            channels=frozenset(settings.channels),
            trusted_teams=frozenset(settings.trusted_teams),
            bot_ids=self._bots,
            speakers=memory.speakers,
            teams=memory.teams,
            moved=memory.moved,
            keywords=self.keywords,
            seen_by="poll" if raw_ref.startswith("poll:") else "webhook",
        )

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_slack`. What the event says about people and channels is remembered for later ones."""
        if item.kind in ALARMS:
            self.logger.warning("%s", ALARMS[item.kind])
        if item.kind == "channel_id_changed":
            self.memory.move(item.payload.get("event"))
        if item.kind in _SPEAKING:
            self._learn(item)
        records = records_from_slack(item, self.context(received_at, raw_ref))
        for record in records:
            if isinstance(record, Message) and record.direction == "inbound" and record.author_kind == "customer":
                self.memory.heard(item.payload.get("event"), record.handles[0].value)
        return records

    def _learn(self, item: Item) -> None:
        """Which workspace the writer belongs to; asked for where the event does not say and it matters."""
        unknown = self.memory.learn_team(item.payload.get("event"))
        envelope = item.payload.get("envelope")
        shared = not isinstance(envelope, dict) or envelope.get("is_ext_shared_channel") is not False
        if unknown is not None and shared and not self.settings.agents:
            self.team_of_user(unknown)

    def emit(self, outcome: Outcome) -> Iterator[Record]:
        """The records of one event; remembers who wrote, for an event does not say their address."""
        for record in super().emit(outcome):
            if isinstance(record, Message) and record.direction == "inbound" and record.author_kind == "customer":
                self._writers.update(dict.fromkeys(one.value for one in record.handles if one.kind == "slack_user"))
            yield record

    def read(self) -> Iterator[Record | Checkpoint]:
        """See `taps.deliveries`; the memory goes with the bookmark."""
        for found in super().read():
            if isinstance(found, Checkpoint) and self.memory.changed:
                yield Checkpoint({**found.cursor, **self.memory.save(self.stores.codec)}, heartbeat=found.heartbeat)
            else:
                yield found

    # The Web API

    @cached_property
    def api(self) -> SlackSession:
        """Calls with the token in force; a rotating one is refreshed in time."""
        settings = self.settings
        return SlackSession(settings.api_url, self._token, self._renewed, max_seconds=settings.longest_wait_seconds)

    def _token(self) -> SecretStr:
        return self._tokens.get(self._token_name, self._configured_token, self._refresh).access_token

    def _renewed(self, refused: SecretStr) -> SecretStr | None:
        """Another token for one that has expired; ``None`` without rotation."""
        settings = self.settings
        if settings.refresh_token is None:
            return None
        token = Token(access_token=refused, refresh_token=settings.refresh_token)
        return self._tokens.renew(self._token_name, token, self._refresh).access_token

    def _refresh(self, token: Token) -> Token:
        settings = self.settings
        session = SlackSession(settings.api_url, lambda: SecretStr(""), lambda _: None, max_tries=1)
        return refresh_slack_token(
            session, token, settings.client_id or "", settings.client_secret or SecretStr(""), now=self.now()
        )

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

    def team_of_user(self, user: str) -> str | None:
        """The workspace of a person; asks Slack at most once a run, and does without an answer."""
        if user not in self.memory.teams and user not in self._asked and self.settings.access_token is not None:
            self._asked.add(user)
            try:
                answer = self.api.call("users.info", user=user)
                self.memory.know_team(user, team_of_user(object_of(answer, "user", "Slack users.info")))
            except (RejectedError, CredentialsError, RateLimitedError, UnavailableError, PayloadError) as error:
                self.logger.info("whose people somebody belongs to cannot be asked now: %s", type(error).__name__)
        return self.memory.teams.get(user)

    # History

    def poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        """The messages, replies and edits of customer channels that no event brought, and the names of who wrote."""
        if not self.settings.reads_history:
            return
        number = int(self.cursor.get("poll_pass", 0)) + 1
        account = self._log_in()
        yield from self._profiles(items, account, number)
        yield from Walks(self, items, account, number).all(self._conversations(account))
        if not self.stop_requested:
            yield from self._profiles(items, account, number)
        yield Checkpoint({})  # whose name is known now goes with it
        self.logger.info("%d calls; Slack does not tell how many are left", self.api.calls)

    def _log_in(self) -> str:
        """Which workspace and which bot the token belongs to."""
        answer = self.api.call("auth.test")
        if answer.get("bot_id") is not None:
            ids = (optional_text_of(answer, name, "Slack auth.test") for name in ("bot_id", "user_id"))
            self._bots = frozenset(one for one in ids if one is not None)
        return text_of(answer, "team_id", "Slack auth.test")

    def _conversations(self, account: str) -> list[dict[str, Any]]:
        """The conversations with customers that the bot is in."""
        scopes = self.api.scopes
        types = [
            name for name, word in _TYPES.items() if scopes is None or {f"{word}:read", f"{word}:history"} <= scopes
        ]
        if not types:
            msg = "Slack: the token has no scope to read any conversation (channels:read and channels:history ...)"
            raise CredentialsError(msg)
        pages = self.api.pages("users.conversations", "channels", types=",".join(types), limit=200)
        found = (one for page in pages for one in page)
        return [one for one in found if isinstance(one.get("id"), str) and self._is_with_customers(one, account)]

    def _is_with_customers(self, conversation: Mapping[str, Any], account: str) -> bool:
        if conversation.get("is_im") is True:
            user = conversation.get("user")
            if not isinstance(user, str) or user == "USLACKBOT":
                return False
            if self.settings.agents:
                is_customer = user not in self.settings.agents
            else:
                is_customer = self.team_of_user(user) not in {None, *(self.settings.team_ids or [account])}
            if is_customer:
                self.memory.meet(str(conversation["id"]), user)
            return is_customer
        if self.settings.channels:
            return bool(self.memory.former_ids(str(conversation["id"])) & set(self.settings.channels))
        return conversation.get("is_ext_shared") is True

    def _profiles(self, items: Items, account: str, number: int) -> Iterator[Record]:
        """Name and e-mail address of customers who wrote and were not asked for in the last thirty days."""
        now, source = self.now(), f"poll:{number}"
        for user in self._writers:
            asked = Sighting(self.item_key(account, f"profile {user}"), "profile", source, number, now)
            if not user.startswith("B") and items.claim_polled(self.platform, [asked])[0]:
                self.memory.is_unnamed(user)
        self._writers.clear()
        for user in list(self.memory.unnamed)[:_PROFILES_A_RUN]:
            try:
                yield from self._profile(user, account, source)
            except (RejectedError, PayloadError) as error:  # nobody whom we may see
                self.logger.info("somebody's name cannot be read: %s", type(error).__name__)
            except (CredentialsError, RateLimitedError, UnavailableError) as error:
                self.logger.info("names cannot be read now, a later run asks again: %s", type(error).__name__)
                return
            self.memory.is_unnamed(user, unnamed=False)

    def _profile(self, user: str, account: str, raw_ref: str) -> list[Evidence]:
        answer = self.api.call("users.info", user=user, include_locale="true")
        about = object_of(answer, "user", "Slack users.info")
        self.memory.know_team(user, team_of_user(about))
        return evidence_from_slack_user(
            about,
            account,
            own_teams=frozenset(self.settings.team_ids or [account]),
            trusted_teams=frozenset(self.settings.trusted_teams),
            observed_at=self.now(),
            raw_ref=raw_ref,
        )

    # Files

    def media_request(self, attachment: Attachment, message: Message) -> MediaRequest | None:
        """A file of Slack's with our token, which is sent to `file_hosts` only; nothing for a file kept elsewhere.

        Without a good token Slack answers 200 with a login page; the store of files refuses it by its first bytes.
        """
        del message
        if self.settings.access_token is None:
            return None
        url = attachment.url or self._url_of_file(attachment)
        if url is None or urlsplit(url).hostname not in self.settings.file_hosts:
            return None
        return MediaRequest(
            url=url,
            headers={"Authorization": f"Bearer {self._token().get_secret_value()}"},
            hosts=frozenset(self.settings.file_hosts),
        )

    def _url_of_file(self, attachment: Attachment) -> str | None:
        """Where a file is of which the event told the id only: another organisation shared it."""
        if attachment.platform_media_id is None:
            return None
        answer = self.api.call("files.info", file=attachment.platform_media_id)
        file = object_of(answer, "file", "Slack files.info")
        names = ("url_private_download", "url_private")
        return next(filter(None, (optional_text_of(file, name, "Slack files.info") for name in names)), None)

    # Doctor

    def check(self) -> Iterator[Check]:
        """The token and its scopes, the clock; whether events are subscribed, Slack does not tell."""
        yield from super().check()
        if self.settings.access_token is None:
            yield Check("access token", ok=None, detail="not set: events only, no history, names, addresses or files")
            return
        try:
            answer = self.api.call("auth.test")
        except UnavailableError as error:
            yield Check("Web API", ok=False, detail=str(error), fix="check api_url and the network")
            return
        except OneThreadError as error:
            yield Check("Web API", ok=True, detail="it answers")
            yield Check("access token", ok=False, detail=str(error), fix="install the app again and set its new token")
            return
        yield Check("Web API", ok=True, detail="it answers")
        yield Check("access token", ok=True, detail=f"good for workspace {answer.get('team_id')}; {self._lifetime()}")
        yield from self._check_scopes()
        yield self.api.check_clock()
        yield Check(
            "events", ok=None, detail="Slack does not tell which address and events are subscribed",
            fix="api.slack.com/apps, Event Subscriptions",
        )  # fmt: skip

    def _lifetime(self) -> str:
        if self.settings.refresh_token is None:
            return "it does not expire unless token rotation is on"
        status = next((one for one in self._tokens.listing() if one.name == self._token_name), None)
        if status is None or status.expires_at is None:
            return "rotated: valid for twelve hours at most"
        return f"rotated: valid until {status.expires_at:%Y-%m-%d %H:%M} UTC"

    def _check_scopes(self) -> Iterator[Check]:
        scopes = self.api.scopes
        if scopes is None:
            yield Check("scopes", ok=None, detail="Slack did not tell them")
            return
        wanted = {f"{word}:{what}" for word in _TYPES.values() for what in ("history", "read")}
        wanted |= {"users:read", "users:read.email", "files:read"}
        missing = sorted(wanted - scopes)
        yield Check(
            "scopes", ok=not missing, detail=f"missing: {', '.join(missing)}" if missing else "all are there",
            fix="add them under OAuth & Permissions and install the app again",
        )  # fmt: skip
