"""tap-chatwoot: what Chatwoot's webhooks delivered, and its conversations, which have every message of both directions.

Chatwoot posts a webhook once. What nobody took is lost for whoever has webhooks alone, so each run reads the
conversations that something happened in.

Sources: github.com/chatwoot/chatwoot, swagger (application API, ``api_access_token``), app/finders/
conversation_finder.rb (25 a page, the latest activity first) and message_finder.rb (20 before an id), config/
initializers/rack_attack.rb (3000 requests a minute), read 2026-11, observed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from mappings.errors import MissingFieldError, OneThreadError, RejectedError, UnavailableError
from mappings.fields import id_of, object_of, objects_of, optional_text_of
from mappings.from_chatwoot import (
    ChatwootContext,
    VerifiedBy,
    channel_of,
    is_read,
    moment_of_chatwoot,
    records_from_chatwoot,
)
from mappings.records import Record
from stores.items import Items, Sighting
from taps.base import Check, Checkpoint, HttpSession
from taps.deliveries import DeliverySettings, DeliveryTap
from taps.webhooks import chatwoot
from taps.webhooks.items import Item

# A webhook on its way is not a missed one.
_SETTLE = timedelta(seconds=60)
_PUSHED = frozenset({"message", "answer", "deleted"})


class ChatwootSettings(DeliverySettings):
    """The settings of tap-chatwoot."""

    api_url: str = Field("https://app.chatwoot.com", description="Where your Chatwoot is.")
    installation: str | None = Field(
        None,
        description="A name of this Chatwoot that stays when its address changes: accounts are numbered anew in each "
        "Chatwoot. Default: the host of api_url.",
    )
    account_id: str | None = Field(
        None, pattern=r"^[0-9]{1,10}$", description="The account to read: the number in Chatwoot's address bar."
    )
    access_token: SecretStr | None = Field(
        None, description="Access token of an administrator's profile; an agent's sees its own inboxes only."
    )
    inboxes: list[str] = Field(
        default_factory=list,
        description='Ids of the inboxes to read, e.g. ["3"]. Default: website and API inboxes. Inboxes of other '
        "platforms (WhatsApp, Facebook ...) are better read by that platform's own tap.",
    )
    verified_by: VerifiedBy = Field(
        "none",
        description="What counts as verified of a visitor whose identity your site signed (HMAC). `identifier`: an "
        "e-mail address or phone number used as identifier; only where every inbox enforces identity validation. "
        "`all`: the contact's e-mail and phone too; only where your servers alone write contacts. `none`: nothing.",
    )
    reconcile: bool | None = Field(
        None,
        description="Read conversations and add what no webhook brought. Default: yes when account_id and access_token "
        "are set.",
    )
    reconcile_hours: float = Field(
        24, gt=0, le=24 * 90, description="How far back each run looks; further when the last look is older."
    )
    history_days: float = Field(0, ge=0, description="How far back the very first look reaches. 0: as every look.")

    @model_validator(mode="after")
    def _can_reconcile(self) -> Self:
        if self.reconcile and not self._possible:
            msg = "reconcile needs account_id and access_token"
            raise ValueError(msg)
        return self

    @property
    def _possible(self) -> bool:
        return self.account_id is not None and self.access_token is not None

    @property
    def reconciles(self) -> bool:
        """Whether to poll."""
        return self._possible if self.reconcile is None else self.reconcile

    @property
    def named(self) -> str:
        """The name of the installation."""
        return self.installation or urlsplit(self.api_url).netloc.lower()


class ChatwootSession(HttpSession):
    """Reads Chatwoot's application API."""

    calls = 0

    def budget_of(self, headers: Mapping[str, str]) -> str | None:
        """Chatwoot does not tell what is left of its 3000 requests a minute; they are counted."""
        del headers
        self.calls += 1
        return None

    def fetch_object(self, path: str, **parameters: Any) -> dict[str, Any]:
        """The JSON object that ``GET path`` answers."""
        answer = self.fetch_json(path, parameters)
        if not isinstance(answer, dict):
            msg = f"{self.platform}: an answer is {type(answer).__name__}, not an object"
            raise MissingFieldError(msg)
        return answer


class TapChatwoot(DeliveryTap[ChatwootSettings]):
    """Reads one route of Chatwoot's webhooks and reconciles one account."""

    name = "tap-chatwoot"
    platform = "chatwoot"
    settings_model = ChatwootSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._told: set[str] = set()  # by this pass, which reads the top of the list twice

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.chatwoot.split`."""
        del headers
        return chatwoot.split(body)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_chatwoot`."""
        return records_from_chatwoot(item, self._context(received_at, raw_ref))

    def _context(self, received_at: datetime, raw_ref: str) -> ChatwootContext:
        settings = self.settings
        return ChatwootContext(
            received_at=received_at,
            raw_ref=raw_ref,
            installation=settings.named,
            inboxes=frozenset(settings.inboxes),
            verified_by=settings.verified_by,
            keywords=self.keywords,
            seen_by="poll" if raw_ref.startswith("poll:") else "webhook",
        )

    def account_of(self, item: Item) -> object:
        """The account's number."""
        account = item.payload.get("account")
        return account.get("id") if isinstance(account, dict) else None

    def name_of(self, item: Item) -> str:
        """A message without a record is of an inbox that is not read."""
        return "other_inbox" if item.kind in {"message", "answer", "deleted", "status"} else item.kind

    # Reconciliation

    @cached_property
    def _api(self) -> ChatwootSession:
        token = self.settings.access_token or SecretStr("")
        # Documented as api_access_token, which proxies (nginx) drop; Rails takes both spellings for one header.
        headers = {"api-access-token": token.get_secret_value()}
        return ChatwootSession("Chatwoot", self.settings.api_url, headers=headers, secrets=[token])

    @property
    def _account_path(self) -> str:
        return f"/api/v1/accounts/{self.settings.account_id}"

    def poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        """The messages, answers, deletions, statuses and read marks that no webhook brought.

        Conversations come with the latest activity first, and one that somebody writes in moves to the top meanwhile.
        So the top is read once more at the end, and a pass that was cut off leaves out only what it had read already.
        """
        if not self.settings.reconciles:
            return
        number = int(self.cursor.get("poll_pass", 0)) + 1
        # Chatwoot tells whole seconds: what happens in the second of the beginning counts as after it.
        began = self._moment("poll_began") or self.now().replace(microsecond=0)
        done_to = self._moment("poll_done_to")
        since = self._expected_from(began)
        if self._moment("reconciled_to") is None:
            since = min(since, began - timedelta(days=self.settings.history_days))
        for page, active in self._pages(since):
            for conversation, moment in page:
                if done_to is None or moment <= done_to or moment >= began:
                    yield from self._news(conversation, items, number, began, since)
                if self.stop_requested:
                    return
            yield Checkpoint({"poll_began": began.isoformat(), "poll_done_to": min(active, began).isoformat()})
        for page, _ in self._pages(began):
            for conversation, _ in page:
                yield from self._news(conversation, items, number, began, since)
        self.logger.info("%d calls; Chatwoot does not tell how many are left", self._api.calls)
        yield Checkpoint(
            {"poll_pass": number, "reconciled_to": began.isoformat(), "poll_began": None, "poll_done_to": None}
        )

    def _moment(self, name: str) -> datetime | None:
        text = optional_text_of(self.cursor, name, "cursor")
        return datetime.fromisoformat(text) if text else None

    def _expected_from(self, began: datetime) -> datetime:
        """From when on a message should have come by webhook: since the last look, or for the hours of every look."""
        since = began - timedelta(hours=self.settings.reconcile_hours)
        last = self._moment("reconciled_to")
        return since if last is None else min(since, last - 2 * _SETTLE)

    def _pages(self, since: datetime) -> Iterator[tuple[list[tuple[dict[str, Any], datetime]], datetime]]:
        """The conversations with activity since then, page by page, and down to when a page reaches."""
        seen: set[tuple[str, ...]] = set()
        number = 0
        while True:
            number += 1
            answer = self._api.fetch_object(
                f"{self._account_path}/conversations", status="all", assignee_type="all", page=number
            )
            rows = objects_of(object_of(answer, "data", "Chatwoot list"), "payload", "Chatwoot list")
            ids = tuple(str(row.get("id")) for row in rows)
            if ids in seen and rows:
                msg = "Chatwoot: the list of conversations repeats itself; giving up for this run"
                raise UnavailableError(msg)
            seen.add(ids)
            page = [(row, moment_of_chatwoot(row.get("last_activity_at"), "last_activity_at", "list")) for row in rows]
            if not page:
                return
            active = min(moment for _, moment in page)
            yield [(row, moment) for row, moment in page if moment >= since], active
            if active < since:
                return

    def _news(
        self, conversation: dict[str, Any], items: Items, number: int, began: datetime, since: datetime
    ) -> Iterator[Record]:
        """The records of what is new in a conversation since then."""
        around = {"event": None, "account": {"id": _number(self.settings.account_id)}, "inbox": None}
        bare = chatwoot.without_messages(conversation)
        bare["channel"] = channel_of(conversation)
        if not is_read({"conversation": bare}, self._context(began, "poll:0")):
            return
        found = [(item, began) for item in chatwoot.items_of_conversation(bare, around)]
        for message, moment in self._messages(bare, since):
            messages = chatwoot.items_of_message(message, bare, around, created=True, listed=True)
            if self._receives and moment > began - _SETTLE:
                # Its webhook may be on the way; what became of it no webhook says.
                messages = [item for item in messages if item.kind == "status"]
            found += [(item, moment) for item in messages]
        yield from self._unseen(found, items, number, self._expected_from(began))

    def _unseen(
        self, found: list[tuple[Item, datetime]], items: Items, number: int, expected_from: datetime
    ) -> Iterator[Record]:
        """The records of those events that neither a webhook nor an earlier pass brought."""
        source = f"poll:{number}"
        sightings = []
        for item, moment in found:
            expected = self._receives and item.kind in _PUSHED and moment >= expected_from
            key = self.item_key(self.account_of(item), self.identity_of(item))
            kind = item.kind if expected else f"history:{item.kind}"
            sightings.append(Sighting(key, kind, source, number, moment))
        answers = items.claim_polled(self.platform, sightings)
        for (item, _), sighting, unseen in zip(found, sightings, answers, strict=True):
            if unseen and sighting.key not in self._told:
                self._told.add(sighting.key)
                self.missed += sighting.kind in _PUSHED
                yield from self.emit(self.outcome(item, self.now(), source))

    def _messages(self, conversation: dict[str, Any], since: datetime) -> Iterator[tuple[dict[str, Any], datetime]]:
        """The messages of a conversation back to then, the newest twenty first; notes among agents stay there."""
        path = f"{self._account_path}/conversations/{id_of(conversation, 'id', 'Chatwoot list')}/messages"
        before: int | None = None
        while True:
            more = {} if before is None else {"before": before}
            try:
                answer = self._api.fetch_object(path, filter_internal_messages="true", **more)
            except RejectedError as error:
                self.logger.info("a conversation of the list is gone: %s", type(error).__name__)
                return
            rows = objects_of(answer, "payload", "Chatwoot messages")
            moments = [moment_of_chatwoot(row.get("created_at"), "created_at", "Chatwoot messages") for row in rows]
            yield from ((row, moment) for row, moment in zip(rows, moments, strict=True) if moment >= since)
            numbers = [row["id"] for row in rows if isinstance(row.get("id"), int)]
            if not numbers or min(moments) < since or (before is not None and min(numbers) >= before):
                return
            before = min(numbers)

    # Doctor

    def check(self) -> Iterator[Check]:
        """Whether the account answers, whether it posts to us, and whether visitors' identities can be believed."""
        yield from super().check()
        if not self.settings.reconciles:
            yield Check(
                "account", None, "no account_id and access_token: conversations are not read",
                "Set both: Chatwoot posts a webhook once, and the conversations have what got lost.",
            )  # fmt: skip
            return
        try:
            profile = self._api.fetch_object("/api/v1/profile")
            rows = objects_of(profile, "accounts", "Chatwoot profile")
        except OneThreadError as error:
            yield Check("account", False, str(error), "Copy the access token from Profile Settings in Chatwoot.")
            return
        role = next((row.get("role") for row in rows if str(row.get("id")) == self.settings.account_id), None)
        detail = f"the token's role is {role}; it has no end" if role else "the token is of another account"
        yield Check("account", role == "administrator", detail, "Use the token of an administrator of this account.")
        yield self._api.check_clock(self.now())
        yield self._webhook()
        if self.settings.verified_by != "none":
            yield from self._validation()

    def _webhook(self) -> Check:
        """Where the account's webhooks post."""
        route = self.settings.route
        wanted = "/webhooks/chatwoot" + ("" if route == "default" else f"/{route}")
        fix = (
            f"Settings, Integrations, Webhooks: https://<your host>{wanted}, with message_created and message_updated."
        )
        try:
            answer = self._api.fetch_object(f"{self._account_path}/webhooks")
            rows = objects_of(object_of(answer, "payload", "Chatwoot webhooks"), "webhooks", "Chatwoot webhooks")
        except OneThreadError as error:
            return Check("webhook", None, str(error), fix)
        mine = [row for row in rows if urlsplit(str(row.get("url"))).path.rstrip("/").endswith(wanted)]
        events = {event for row in mine for event in row.get("subscriptions") or [] if isinstance(event, str)}
        missing = sorted({"message_created", "message_updated"} - events)
        if mine and not missing:
            return Check("webhook", True, f"posts to {urlsplit(str(mine[0].get('url'))).hostname}{wanted}")
        return Check("webhook", False, f"lacks {', '.join(missing)}" if mine else "does not post here", fix)

    def _validation(self) -> Iterator[Check]:
        """Whether each website inbox refuses an identity that the site did not sign."""
        try:
            rows = objects_of(self._api.fetch_object(f"{self._account_path}/inboxes"), "payload", "Chatwoot inboxes")
        except OneThreadError as error:
            yield Check("identity validation", None, str(error))
            return
        for row in rows:
            if row.get("channel_type") == "Channel::WebWidget":
                enforced = row.get("hmac_mandatory") is True
                yield Check(
                    f"identity validation of inbox {row.get('id')}", enforced,
                    "enforced" if enforced else "not enforced: a browser may say anything",
                    "Inbox settings, Configuration: enforce user identity validation; or set verified_by to none.",
                )  # fmt: skip


def _number(account_id: str | None) -> int:
    return int(account_id or 0)


if __name__ == "__main__":
    TapChatwoot.cli()
