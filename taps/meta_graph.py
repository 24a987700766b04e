"""What taps over Meta's Graph API share: its error codes, its pages, and the search for what no webhook brought.

Messenger and Instagram have one Conversations API: conversations newest first, details of a conversation's 20 newest
messages only, 2 calls a second and account, no conversations that lay idle in the Requests folder for 30 days.

Sources: developers.facebook.com/documentation/business-messaging/messenger-platform/conversations (2026-02-11) and
developers.facebook.com/docs/instagram-platform/instagram-api-with-instagram-login/conversations-api (read 2026-11);
documented. A conversation's field ``folder`` is in facebook-business 26.0.3 (observed); its values are written nowhere:
those by default are assumed (public code asks for them), and the field is left out where Graph refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from pydantic import Field, SecretStr

from mappings.errors import (
    CredentialsError,
    OneThreadError,
    PayloadError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from mappings.fields import object_of, objects_of, optional_object_of, optional_text_of, text_of
from mappings.meta_graph import moment_of_graph
from mappings.records import Evidence, Message, Record
from stores.archive.conversations import REQUEST_WARNING, vanishing_requests
from stores.items import Items, Sighting
from taps.base import Check, Checkpoint
from taps.deliveries import DeliverySettings, DeliveryTap, Outcome
from taps.meta_session import GraphSession
from taps.wanted_names import WantedNames
from taps.webhooks.items import Item

POLLED = "polled"
"""The kind of an item that the Conversations API gave."""

_DETAILED = 20
_PROFILES_A_RUN = 100  # names are worth a call each, not a rate limit
_REFUSED_IN_A_ROW = 3
_KNOWN_FOLDERS = frozenset({"", "inbox", "page_done", "done", "spam"})
_WRONG_PARAMETER = "100"
# A webhook on its way is not a missed one.
_SETTLE = timedelta(seconds=60)


class GraphSettings(DeliverySettings):
    """What every tap over the Conversations API takes."""

    access_token: SecretStr | None = Field(None, description="Token that may read the account's messages.")
    reconcile: bool | None = Field(
        None,
        description="Read the account's recent conversations and add messages that no webhook brought. Default: yes "
        "when the token and the account are set.",
    )
    reconcile_hours: float = Field(
        2, gt=0, le=24 * 30, description="How far back each run looks; further when the last complete look is older."
    )
    request_folders: list[str] = Field(
        default_factory=lambda: ["pending", "other"],
        description="What Graph calls the folders of message requests (a conversation's field `folder`): what lies "
        "there gets the flag `request_folder`. Meta documents no names; the log tells those that are not listed here. "
        "Empty: the field is not asked for.",
    )
    request_warning_days: float = Field(
        REQUEST_WARNING / timedelta(days=1),
        ge=0,
        le=30,
        description="Warn that many days before message requests vanish, which they do after 30 days without a word.",
    )
    api_version: str = Field("v26.0", description="Graph API version (v26.0 was released on 2026-07-29).")
    calls_per_second: float = Field(2, gt=0, description="How fast to poll; Meta allows 2 calls a second and account.")

    @property
    def reconciles(self) -> bool:
        """Whether to poll."""
        raise NotImplementedError


SettingsModel = TypeVar("SettingsModel", bound=GraphSettings)


class GraphTap(DeliveryTap[SettingsModel]):
    """Reads one route of webhooks and reconciles one account with its Conversations API.

    A subclass names its account and says how a message and a profile are mapped.
    """

    display: ClassVar[str]
    """The platform's name, for errors."""
    account_field: ClassVar[str]
    """What an item's payload calls the account."""
    handle_kind: ClassVar[str]
    message_fields: ClassVar[str]
    profile_fields: ClassVar[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._folders_refused = False
        self._warned_of: tuple[int, int, str] = (0, 0, "")

    # What a subclass says

    @property
    def account(self) -> str:
        """The id of the account that is reconciled, as webhooks have it."""
        raise NotImplementedError

    @property
    def node(self) -> str:
        """The node of Graph that has the account's conversations and webhook subscriptions."""
        return self.account

    @property
    def api_url(self) -> str:
        """Base URL of the Graph API, without the version."""
        raise NotImplementedError

    @property
    def wanted_fields(self) -> tuple[str, ...]:
        """Webhook fields without which messages are missed."""
        raise NotImplementedError

    def token(self) -> SecretStr:
        """The access token to use now."""
        return self.settings.access_token or SecretStr("")

    def profile_of(self, answer: Mapping[str, Any], user_id: str, now: datetime, source: str) -> Evidence | None:
        """What the platform says of a customer; ``None`` when it says no name."""
        raise NotImplementedError

    def account_of(self, item: Item) -> object:
        """The id of the page or account."""
        return item.payload.get(self.account_field)

    def polled_item(self, mid: str, message: dict[str, Any], *, is_request: bool) -> Item:
        """A message of the Conversations API as an item, under the key that its webhook has."""
        payload = {self.account_field: self.account, "message": message, "request_folder": is_request}
        return Item(0, POLLED, payload, mid)

    # Reading

    def emit(self, outcome: Outcome) -> Iterator[Record]:
        """The records of one event; remembers who wrote, for a webhook does not say their names."""
        for record in super().emit(outcome):
            if isinstance(record, Message) and record.direction == "inbound" and record.origin != "comment":
                for one in record.handles:
                    if (one.kind, one.scope) == (self.handle_kind, self._own):
                        self._names.add(one.value)
            yield record

    def read(self) -> Iterator[Record | Checkpoint]:
        """See `taps.deliveries`; whose names are wanted goes with the bookmark."""
        yield from self._names.kept_with(super().read())

    @cached_property
    def _names(self) -> WantedNames:
        return WantedNames(self.cursor, self.stores.codec)

    @cached_property
    def _own(self) -> str | None:
        return self.account if self.settings.reconciles else None

    @cached_property
    def graph(self) -> GraphSession:
        """The Graph API of the version in the settings."""
        url = f"{self.api_url.rstrip('/')}/{self.settings.api_version}"
        return GraphSession(self.display, url, self.token(), self.settings.calls_per_second)

    def poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        """Messages of recently changed conversations that no webhook brought.

        A pass that is cut off by the platform keeps its bookmark, so the next one looks back further.
        """
        self._warn_of_requests()
        if not self.settings.reconciles:
            return
        started_at = self.now()
        number = int(self.cursor.get("poll_pass", 0)) + 1
        try:
            yield from self._profiles(items, number, started_at)
            for conversation_id, is_request in self._changed_conversations(self._look_back(started_at)):
                for item in self._unseen_messages(conversation_id, items, number, started_at, is_request=is_request):
                    yield from self.emit(self.outcome(item, self.now(), f"poll:{number}"))
                yield Checkpoint({})
                if self.stop_requested:
                    return
            yield Checkpoint({"poll_pass": number, "reconciled_to": started_at.isoformat()})
        finally:
            if self.graph.budget:
                self.logger.info("%s: %s", self.display, self.graph.budget)

    def _profiles(self, items: Items, number: int, now: datetime) -> Iterator[Record]:
        """The names of those who wrote and were not told before; without that permission there are none.

        One person can be refused (blocked us, gave no consent); several in a row are a missing permission. Who was
        refused is asked for again tomorrow.
        """
        names, source = self._names, f"poll:{number}"
        refused: list[str] = []
        for user_id in names.due(now)[:_PROFILES_A_RUN]:
            if names.is_new(user_id):
                asked = Sighting(self.item_key(self.account, f"profile {user_id}"), "profile", source, number, now)
                if not items.claim_polled(self.platform, [asked])[0]:
                    names.told(user_id)
                    continue
                names.wait(user_id, now)
            try:
                answer = self.graph.fetch_json(user_id, {"fields": self.profile_fields})
                profile = self.profile_of(answer, user_id, now, source)
            except (RateLimitedError, UnavailableError) as error:
                self.logger.info("names cannot be read now, a later run asks again: %s", type(error).__name__)
                break
            except (RejectedError, CredentialsError, PayloadError) as error:
                refused.append(user_id)
                if len(refused) == _REFUSED_IN_A_ROW:
                    self.logger.info("names cannot be read now: %s", type(error).__name__)
                    names.refused(refused, now, for_themselves=False)
                    return
                continue
            names.refused(refused, now, for_themselves=True)
            refused.clear()
            names.told(user_id)
            if profile is not None:
                yield profile
        names.refused(refused, now, for_themselves=True)

    def _look_back(self, now: datetime) -> datetime:
        """From when on to look: the last hours, or since the last complete pass if that is longer ago."""
        since = now - timedelta(hours=self.settings.reconcile_hours)
        last = self.cursor.get("reconciled_to")
        return min(since, datetime.fromisoformat(str(last)) - 2 * _SETTLE) if last else since

    def _changed_conversations(self, since: datetime) -> Iterator[tuple[str, bool]]:
        """Id, and whether it is a message request, of conversations that changed since then, newest first.

        Raises `UnavailableError` when a page brings nothing new.
        """
        where = f"{self.display} conversations"
        requests = {one.casefold() for one in self.settings.request_folders}
        parameters: dict[str, Any] = {"platform": self.platform, "limit": 50}
        seen: set[str] = set()
        strange: set[str] = set()
        while True:
            answer = self._conversation_page(parameters)
            rows = objects_of(answer, "data", where)
            before = len(seen)
            for row in rows:
                if moment_of_graph(row.get("updated_time"), "updated_time", where) < since:
                    return
                conversation_id = text_of(row, "id", where)
                if conversation_id not in seen:
                    seen.add(conversation_id)
                    folder = (optional_text_of(row, "folder", where) or "").casefold()
                    if requests and folder not in requests | _KNOWN_FOLDERS | strange:
                        strange.add(folder)
                        self.logger.info("a folder %r; name it in request_folders if it has message requests", folder)
                    yield conversation_id, folder in requests
            after = _next_cursor(answer, self.display) if rows else None
            if after is None:
                return
            if len(seen) == before:
                msg = f"{self.display}: the list of conversations repeats itself; giving up for this run"
                raise UnavailableError(msg)
            parameters = {**parameters, "after": after}

    def _conversation_page(self, parameters: Mapping[str, Any]) -> Any:
        """One page of the list, with each conversation's folder unless Graph refuses to tell it."""
        path, fields = f"{self.node}/conversations", "id,updated_time"
        if self.settings.request_folders and not self._folders_refused:
            try:
                return self.graph.fetch_json(path, {**parameters, "fields": f"{fields},folder"})
            except RejectedError as error:
                if error.code != _WRONG_PARAMETER:
                    raise
                self._folders_refused = True
                self.logger.info("Graph does not tell the folders of conversations: no message request is flagged")
        return self.graph.fetch_json(path, {**parameters, "fields": fields})

    # Message requests

    def _vanishing(self) -> tuple[int, int, str]:
        """How many conversations are about to vanish, how many of them are known as requests, and from which day on."""
        within = timedelta(days=self.settings.request_warning_days)
        mine = [
            one
            for one in vanishing_requests(self.stores, self.now(), within)
            if one.channel == self.platform and self._own in {None, one.account}
        ]
        first = f"{mine[0].request_vanishes_at:%Y-%m-%d}" if mine else ""
        return len(mine), sum(one.request_folder for one in mine), first

    def _warn_of_requests(self) -> None:
        told = number, certain, first = self._vanishing()
        if number and told != self._warned_of:
            self._warned_of = told
            self.logger.warning(
                "%d conversations that nobody answered vanish from %s if they are message requests (%d are), the first "
                "on %s: answer them", number, self.display, certain, first,
            )  # fmt: skip

    def _unseen_messages(
        self, conversation_id: str, items: Items, number: int, now: datetime, *, is_request: bool
    ) -> Iterator[Item]:
        """The messages of one conversation that are in no delivery; details are asked for these alone.

        Of a message request the newest one is given in any case, once: it carries the flag.
        """
        where = f"{self.display} conversation"
        found: dict[str, tuple[Item, datetime | None]] = {}
        for row in self._listed_messages(conversation_id, where):
            mid = text_of(row, "id", where)
            moment = moment_of_graph(row.get("created_time"), "created_time", where)
            if moment <= now - _SETTLE:
                found[mid] = (Item(0, "message", {self.account_field: self.account}, mid), moment)
        unseen = {item.key for item in self.unseen(items, list(found.values()), number)}
        flagged = next(iter(found), None) if is_request else None
        if flagged is not None:
            key = self.item_key(self.account, f"request {flagged}")
            mark = Sighting(key, "history:request", f"poll:{number}", number, found[flagged][1])
            flagged = flagged if items.claim_polled(self.platform, [mark])[0] else None
        for mid in (one for one in found if one in unseen or one == flagged):
            try:
                message = self.graph.fetch_json(mid, {"fields": self.message_fields})
            except RejectedError as error:  # deleted, or pushed out of the twenty newest meanwhile
                self.logger.warning("a listed message cannot be read (code %s)", error.code)
                continue
            yield self.polled_item(mid, message, is_request=is_request)

    def _listed_messages(self, conversation_id: str, where: str) -> list[dict[str, Any]]:
        """Ids and times of the newest messages; none of a conversation that has gone meanwhile."""
        fields = f"messages.limit({_DETAILED}){{id,created_time}}"
        try:
            answer = self.graph.fetch_json(conversation_id, {"fields": fields})
        except RejectedError as error:
            self.logger.warning("a listed conversation cannot be read (code %s)", error.code)
            return []
        return objects_of(optional_object_of(answer, "messages", where) or {}, "data", where)

    # onethread doctor

    def check(self) -> Iterator[Check]:
        """Besides the settings: the API and the token, our clock, the webhook subscription."""
        yield from super().check()
        number, certain, first = self._vanishing()
        detail = f"{number} unanswered, {certain} surely requests; the first vanishes on {first}"
        fix = "" if not number else "answer them, or accept them in the app"
        yield Check("message requests", not number, detail if number else "none is about to vanish", fix)
        if not self.settings.reconciles:
            fix = "set the access token and the account's id to find what webhooks miss"
            yield Check("Graph API", ok=None, detail="not asked: polling is off", fix=fix)
            return
        try:
            yield from self._checks_online()
        except CredentialsError as error:
            yield Check("access token", ok=False, detail=str(error), fix="make a new token and set access_token")
        except OneThreadError as error:
            yield Check("Graph API", ok=False, detail=str(error), fix="check api_url, api_version and the account's id")

    def _checks_online(self) -> Iterator[Check]:
        yield from self.check_account()
        yield self.graph.check_clock(self.now())
        answer = self.graph.fetch_json(f"{self.node}/subscribed_apps")
        rows = objects_of(answer, "data", f"{self.display} subscriptions")
        told = {str(name) for row in rows for name in row.get("subscribed_fields") or []}
        missing = [name for name in self.wanted_fields if name not in told]
        fix = f"POST /{self.node}/subscribed_apps?subscribed_fields={','.join(self.wanted_fields)}"
        if not rows:
            yield Check("webhook", ok=False, detail="no app is subscribed", fix=fix)
        else:
            detail = f"missing: {', '.join(missing)}" if missing else "subscribed to all that is needed"
            yield Check("webhook", ok=not missing, detail=detail, fix=fix if missing else "")

    def check_account(self) -> Iterator[Check]:
        """Whether the token opens the account."""
        answer = self.graph.fetch_json(self.node, {"fields": "id,name"})
        opened = text_of(answer, "id", self.display) == self.node
        yield Check("access token", ok=opened, detail="opens the account" if opened else "opens another account")


def _next_cursor(answer: Mapping[str, Any], display: str) -> str | None:
    """The cursor of the next page; ``None`` on the last one (Graph leaves ``next`` out there)."""
    paging = answer.get("paging")
    if not isinstance(paging, dict) or not paging.get("next"):
        return None
    cursors = object_of(paging, "cursors", f"{display} paging")
    return optional_text_of(cursors, "after", f"{display} paging")
