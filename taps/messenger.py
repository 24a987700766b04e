"""tap-messenger: what Messenger's webhooks delivered, and what they missed by reading the Conversations API again.

Source of the API's limits: developers.facebook.com/documentation/business-messaging/messenger-platform/conversations
(2026-02-11): conversations newest first, details of a conversation's 20 newest messages only, 2 calls a second a page,
no conversations that lay in the Requests folder for 30 days; documented.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator

from mappings.errors import (
    CredentialsError,
    MissingFieldError,
    OneThreadError,
    PayloadError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from mappings.fields import object_of, objects_of, optional_object_of, optional_text_of, text_of
from mappings.from_messenger import (
    MessengerContext,
    message_from_messenger_poll,
    moment_of_graph,
    profile_from_messenger,
    records_from_messenger,
)
from mappings.records import Message, Record
from stores.items import Items, Sighting
from taps.base import Checkpoint, HttpSession
from taps.deliveries import DeliverySettings, DeliveryTap, Outcome
from taps.webhooks import messenger
from taps.webhooks.items import Item

_LIMIT_CODES = frozenset({"4", "17", "32", "613", "80001", "80006"})
_TRANSIENT_CODES = frozenset({"1", "2"})
_CREDENTIAL_CODES = frozenset({"10", "102", "190", *map(str, range(200, 300))})
_DETAILED = 20
_PROFILES_A_RUN = 100  # names are worth a call each, not a rate limit
_POLLED = "polled"
_MESSAGE_FIELDS = "id,created_time,from,to,message,attachments,reply_to"
# A webhook on its way is not a missed one.
_SETTLE = timedelta(seconds=60)


class MessengerSettings(DeliverySettings):
    """The settings of tap-messenger."""

    page_id: str | None = Field(None, description="The Facebook page to reconcile.")
    app_id: str | None = Field(
        None,
        description="Your app's id: what the page sends under it without one of our tokens was sent by a bot.",
    )
    access_token: SecretStr | None = Field(
        None, description="Page access token with pages_messaging; needed to find what the webhook missed."
    )
    account_link_secret: SecretStr | None = Field(
        None,
        description="Key with which your site's login page signs authorization codes. Without it an e-mail address or "
        "phone in such a code is kept, but links nobody.",
    )
    reconcile: bool | None = Field(
        None,
        description="Read the page's recent conversations and add messages that no webhook brought. Default: yes when "
        "access_token and page_id are set.",
    )
    reconcile_hours: float = Field(
        2, gt=0, le=24 * 30, description="How far back each run looks; further when the last complete look is older."
    )
    api_url: str = Field("https://graph.facebook.com", description="Base URL of the Graph API.")
    api_version: str = Field("v26.0", description="Graph API version (v26.0 was released on 2026-07-29).")
    calls_per_second: float = Field(2, gt=0, description="How fast to poll; Meta allows 2 calls a second and page.")

    @model_validator(mode="after")
    def _can_reconcile(self) -> Self:
        if self.reconcile and (self.access_token is None or self.page_id is None):
            msg = "reconcile needs access_token and page_id"
            raise ValueError(msg)
        return self

    @property
    def reconciles(self) -> bool:
        """Whether to poll."""
        possible = self.access_token is not None and self.page_id is not None
        return possible if self.reconcile is None else self.reconcile


class GraphSession(HttpSession):
    """Reads Meta's Graph API, whose error codes say more than its HTTP statuses.

    Source: developers.facebook.com/docs/graph-api/guides/error-handling, read 2026-11, documented; 80006 assumed.
    """

    def __init__(self, platform: str, base_url: str, token: SecretStr, calls_per_second: float) -> None:
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
        super().__init__(platform, base_url, headers=headers, secrets=[token])
        self._pause_seconds = 1 / calls_per_second
        self._next_call = 0.0

    def fetch_json(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The JSON object that ``GET path`` answers, asked for at most as often as the page allows."""
        wait = self._next_call - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._next_call = time.monotonic() + self._pause_seconds
        answer = super().fetch_json(path, parameters)
        if not isinstance(answer, dict):
            msg = f"{self.platform}: an answer is {type(answer).__name__}, not an object"
            raise MissingFieldError(msg)
        return answer

    def classify(self, endpoint: str, status: int, body: Any, retry_after: float | None) -> OneThreadError:
        """By Graph's code where it has a meaning of its own."""
        code = self.error_code(body)
        what = f"{self.platform}: {endpoint} answered {status} (code {code})"
        if code in _LIMIT_CODES:
            return RateLimitedError(f"{what}; slowing down", retry_after_seconds=retry_after)
        if code in _TRANSIENT_CODES:
            return UnavailableError(f"{what}; trying again later")
        if code in _CREDENTIAL_CODES:
            return CredentialsError(f"{what}; check the page's access token and its permissions")
        return super().classify(endpoint, status, body, retry_after)


class TapMessenger(DeliveryTap[MessengerSettings]):
    """Reads one route of Messenger's webhooks and reconciles one page."""

    name = "tap-messenger"
    platform = "messenger"
    settings_model = MessengerSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._writers: dict[str, None] = {}

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.messenger.split`."""
        del headers
        return messenger.split(body)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_messenger`; a ``polled`` item is a message of the Conversations API."""
        if item.kind == _POLLED:
            page_id = text_of(item.payload, "page_id", "Messenger message")
            message = object_of(item.payload, "message", "Messenger message")
            return [message_from_messenger_poll(message, page_id, received_at=received_at, raw_ref=raw_ref)]
        secret = self.settings.account_link_secret
        context = MessengerContext(
            received_at=received_at,
            raw_ref=raw_ref,
            app_id=self.settings.app_id,
            account_link_secret=secret.get_secret_value() if secret else None,
            keywords=self.keywords,
        )
        return records_from_messenger(item, context)

    def account_of(self, item: Item) -> object:
        """The page id."""
        return item.payload.get("page_id")

    def emit(self, outcome: Outcome) -> Iterator[Record]:
        """The records of one event; remembers who wrote, for a webhook does not say their names."""
        for record in super().emit(outcome):
            if (
                isinstance(record, Message)
                and record.direction == "inbound"
                and record.account == self.settings.page_id
            ):
                self._writers.update(dict.fromkeys(one.value for one in record.handles if one.kind == "messenger_psid"))
            yield record

    # Reconciliation

    @cached_property
    def _graph(self) -> GraphSession:
        settings = self.settings
        token = settings.access_token or SecretStr("")
        url = f"{settings.api_url.rstrip('/')}/{settings.api_version}"
        return GraphSession("Messenger", url, token, settings.calls_per_second)

    def poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        """Messages of recently changed conversations that no webhook brought.

        A pass that is cut off by the platform keeps its bookmark, so the next one looks back further.
        """
        if not self.settings.reconciles:
            return
        started_at = self.now()
        pass_number = int(self.cursor.get("poll_pass", 0)) + 1
        yield from self._profiles(items, pass_number, started_at)
        for conversation_id in self._changed_conversations(self._look_back(started_at)):
            for item in self._unseen_messages(conversation_id, items, pass_number, started_at):
                self.missed += 1
                yield from self.emit(self.outcome(item, self.now(), f"poll:{pass_number}"))
            yield Checkpoint({})
            if self.stop_requested:
                return
        yield Checkpoint({"poll_pass": pass_number, "reconciled_to": started_at.isoformat()})

    def _profiles(self, items: Items, pass_number: int, now: datetime) -> Iterator[Record]:
        """The names of those who wrote and were not asked for before; a page without that permission has none."""
        page_id, source = str(self.settings.page_id), f"poll:{pass_number}"
        for psid in list(self._writers)[:_PROFILES_A_RUN]:
            asked = Sighting(self.item_key(page_id, f"profile {psid}"), "profile", source, pass_number, now)
            if not items.claim_polled(self.platform, [asked])[0]:
                continue
            try:
                answer = self._graph.fetch_json(psid, {"fields": "first_name,last_name,profile_pic"})
                profile = profile_from_messenger(answer, page_id, psid, observed_at=now, raw_ref=source)
            except (RejectedError, CredentialsError, RateLimitedError, UnavailableError, PayloadError) as error:
                self.logger.info("names cannot be read now: %s", type(error).__name__)
                return
            if profile is not None:
                yield profile

    def _look_back(self, now: datetime) -> datetime:
        """From when on to look: the last hours, or since the last complete pass if that is longer ago."""
        since = now - timedelta(hours=self.settings.reconcile_hours)
        last = self.cursor.get("reconciled_to")
        return min(since, datetime.fromisoformat(str(last)) - 2 * _SETTLE) if last else since

    def _changed_conversations(self, since: datetime) -> Iterator[str]:
        """Ids of conversations that changed since then, newest first; raises when a page brings nothing new."""
        path: str | None = f"{self.settings.page_id}/conversations"
        parameters: dict[str, Any] = {"platform": "messenger", "fields": "id,updated_time", "limit": 50}
        seen: set[str] = set()
        while path is not None:
            answer = self._graph.fetch_json(path, parameters)
            rows = objects_of(answer, "data", "Messenger conversations")
            before = len(seen)
            for row in rows:
                if moment_of_graph(row.get("updated_time"), "updated_time", "Messenger conversations") < since:
                    return
                conversation_id = text_of(row, "id", "Messenger conversations")
                if conversation_id not in seen:
                    seen.add(conversation_id)
                    yield conversation_id
            after = _next_cursor(answer) if rows else None
            if after is not None and len(seen) == before:
                msg = "Messenger: the list of conversations repeats itself; giving up for this run"
                raise UnavailableError(msg)
            parameters = {**parameters, "after": after}
            path = path if after is not None else None

    def _unseen_messages(self, conversation_id: str, items: Items, pass_number: int, now: datetime) -> Iterator[Item]:
        """The messages of one conversation that are in no delivery; details are asked for these alone."""
        where = "Messenger conversation"
        page_id = str(self.settings.page_id)
        found: dict[str, Sighting] = {}
        for row in self._listed_messages(conversation_id, where):
            mid = text_of(row, "id", where)
            moment = moment_of_graph(row.get("created_time"), "created_time", where)
            if moment <= now - _SETTLE:
                key = self.item_key(page_id, mid)
                found[mid] = Sighting(key, "message", f"poll:{pass_number}", pass_number, moment)
        answers = items.claim_polled(self.platform, list(found.values()))
        for mid, unseen in zip(found, answers, strict=True):
            if not unseen:
                continue
            try:
                message = self._graph.fetch_json(mid, {"fields": _MESSAGE_FIELDS})
            except RejectedError as error:  # deleted, or pushed out of the twenty newest meanwhile
                self.logger.warning("a listed message cannot be read (code %s)", error.code)
                continue
            yield Item(0, _POLLED, {"page_id": page_id, "message": message}, mid)

    def _listed_messages(self, conversation_id: str, where: str) -> list[dict[str, Any]]:
        """Ids and times of the newest messages; none of a conversation that has gone meanwhile."""
        fields = f"messages.limit({_DETAILED}){{id,created_time}}"
        try:
            answer = self._graph.fetch_json(conversation_id, {"fields": fields})
        except RejectedError as error:
            self.logger.warning("a listed conversation cannot be read (code %s)", error.code)
            return []
        return objects_of(optional_object_of(answer, "messages", where) or {}, "data", where)


def _next_cursor(answer: Mapping[str, Any]) -> str | None:
    """The cursor of the next page; ``None`` on the last one (Graph leaves ``next`` out there)."""
    paging = answer.get("paging")
    if not isinstance(paging, dict) or not paging.get("next"):
        return None
    cursors = object_of(paging, "cursors", "Messenger paging")
    return optional_text_of(cursors, "after", "Messenger paging")
