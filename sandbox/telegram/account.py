"""The state of the stand-in of Telegram: chats, messages, the queue of updates and the webhook they may go to."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox.base import SandboxApp
from sandbox.deliverer import Deliverer, Delivery, Event
from sandbox.meta import TokenBucket
from sandbox.telegram.rules import RULES

DAY = 86_400
_WEEK = 7 * DAY
_UNASKED = frozenset({"chat_member", "message_reaction", "message_reaction_count"})


@dataclass(slots=True)
class Update:
    """One thing that the platform has to tell, until it is confirmed, taken by the webhook, or a day old."""

    number: int
    kind: str
    part: dict[str, Any]
    expires_at: float
    event: Event | None = None
    confirmed: bool = False

    @property
    def body(self) -> dict[str, Any]:
        """As it is told."""
        return {"update_id": self.number, self.kind: self.part}

    @property
    def taken(self) -> bool:
        """Whether we have said that we have it."""
        return self.confirmed or bool(self.event and self.event.accepted)


@dataclass(slots=True)
class Person:
    """Somebody on Telegram. `open`: they have started a chat with the bot."""

    user: dict[str, Any]
    phone: str
    open: bool = False
    blocked: bool = False

    @property
    def chat(self) -> dict[str, Any]:
        """Their private chat, which has their id."""
        names = {
            name: value for name, value in self.user.items() if name in {"id", "first_name", "last_name", "username"}
        }
        return {**names, "type": "private"}


@dataclass(slots=True)
class Entry:
    """One message in a chat, as it is now. `words`: what the customer's record must show; ``None``: no words."""

    space: str
    number: int
    message: dict[str, Any]
    by_customer: bool
    at: float
    words: str | None
    kind: str
    deleted: bool = False
    update: Update | None = field(default=None, repr=False)


class Account(SandboxApp):
    """One bot, the people and chats it knows, and its updates.

    Args:
        bot_token: the only one that is accepted; the digits before its colon are the bot's id.
        secret_token: what `connect` gives to the webhook.
        retry_seconds: see `Deliverer`.
        timeout_seconds: see `Deliverer`.

    Attributes:
        reach: where posts to the webhook really go; else to the address that setWebhook was given.
        impatient_seconds: how long a getUpdates with the same offset as the last one must wait.
    """

    name = "telegram"
    rules = RULES

    def __init__(
        self,
        *,
        bot_token: str = "7000000001:sandbox-telegram-token",  # noqa: S107 - invented, nothing else accepts it
        secret_token: str = "sandbox-telegram-secret",  # noqa: S107 - as above
        retry_seconds: Sequence[float] = (0.05, 0.1, 0.2, 0.4, 0.8),
        timeout_seconds: float = 5.0,
    ) -> None:
        self.bot_token = bot_token
        self.secret_token = secret_token
        self.bot = {"id": int(bot_token.partition(":")[0]), "is_bot": True, "first_name": "Example Shop",
                    "username": "example_shop_bot"}  # fmt: skip
        self.reach: str | None = None
        self.impatient_seconds = 3.0
        self.people: dict[int, Person] = {}
        self.chats: dict[int, dict[str, Any]] = {}
        self.moved: dict[int, int] = {}
        self.connections: dict[str, dict[str, Any]] = {}
        self.entries: dict[tuple[str, int], Entry] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.updates: list[Update] = []
        self.allowed: list[str] | None = None
        self.webhook: dict[str, Any] = {}
        self.rates = {"chat": TokenBucket(1, 1), "group": TokenBucket(20, 20 / 60), "all": TokenBucket(30, 30)}
        self._retry = {"retry_seconds": retry_seconds, "timeout_seconds": timeout_seconds}
        self._random = random.Random(7)  # noqa: S311 - ids, the same in every run
        self._next_number = 900_000_001
        self._last_update_at: float | None = None
        self._next_id = 5_000_000_001
        super().__init__()
        self.news = threading.Condition(self.lock)
        self.deliverer = self._new_deliverer()

    # -- updates --

    def tell(
        self, kind: str, part: dict[str, Any], delivery: Delivery | None = None, subject: str = ""
    ) -> Update | None:
        """Queue one update, unless nobody asked for its kind; it goes to the webhook if there is one."""
        if kind in _UNASKED if self.allowed is None else kind not in self.allowed:
            return None
        now = self.clock.epoch()
        if self._last_update_at is not None and now - self._last_update_at >= _WEEK:
            self._next_number = self._random.randrange(1, 2**30)
        self._last_update_at = now
        happened_at = int(part.get("edit_date") or part.get("date") or now)
        update = Update(self._next_number, kind, json.loads(json.dumps(part)), happened_at + DAY)
        self._next_number += 1
        self.updates.append(update)
        if self.webhook:
            self._push(update, delivery, subject)
        self.news.notify_all()
        return update

    def pending(self) -> list[Update]:
        """What is in the queue, oldest first."""
        now = self.clock.epoch()
        return [one for one in self.updates if not one.taken and now < one.expires_at]

    def push_to(self, url: str, **settings: Any) -> None:
        """Set the webhook: what waits and what comes goes there."""
        self.webhook = {"url": url, **settings}
        self.deliverer.stop()
        self.deliverer = self._new_deliverer()
        self.deliverer.start(self.reach or url, settings.get("secret_token") or "")
        for update in self.pending():
            self._push(update, None, "")

    def stop_pushing(self) -> None:
        """Remove the webhook: what it did not take stays in the queue."""
        self.deliverer.stop()
        self.webhook = {}

    def _push(self, update: Update, delivery: Delivery | None, subject: str) -> None:
        update.event = Event(update.kind, subject, update.body)
        self.deliverer.add(update.event, delivery)

    def _new_deliverer(self) -> Deliverer:
        return Deliverer(_compose, _prepare, **self._retry)  # type: ignore[arg-type]

    # -- messages --

    def new_id(self) -> int:
        """A number for a new person, chat or file."""
        self._next_id += 1
        return self._next_id - 1

    def write(
        self,
        kind: str,
        chat: Mapping[str, Any],
        author: Mapping[str, Any] | None,
        content: Mapping[str, Any],
        *,
        by_customer: bool,
        words: str | None = None,
        connection: str | None = None,
        delivery: Delivery | None = None,
        tell: bool = True,
    ) -> Entry:
        """A new message in a chat; numbers begin at 1 in each."""
        space = f"{connection or ''}/{chat['id']}"
        number = 1 + max((one.number for one in self.entries.values() if one.space == space), default=0)
        now = self.clock.epoch()
        message = {
            "message_id": number,
            **({"from": dict(author)} if author else {}),
            **({"business_connection_id": connection} if connection else {}),
            "chat": dict(chat),
            "date": int(now),
            **content,
        }
        entry = Entry(space, number, message, by_customer, now, words, kind)
        self.entries[space, number] = entry
        if tell:
            entry.update = self.tell(kind, message, delivery, f"{space}:{number}")
        return entry

    # -- the account --

    def state(self) -> dict[str, Any]:
        """People, what they wrote and what became of it, what they got, the queue and the webhook."""
        rows = [
            {"chat": one.space.partition("/")[2], "number": one.number, "at": one.at, "words": one.words,
             "deleted": one.deleted, "taken": bool(one.update and one.update.taken)}
            for one in self.entries.values() if one.by_customer
        ]  # fmt: skip
        sent = [
            {"chat": one.space.partition("/")[2], "number": one.number, "text": one.message.get("text"), "at": one.at}
            for one in self.entries.values() if not one.by_customer and one.message.get("from") == self.bot
        ]  # fmt: skip
        return {
            "customers": [{**one.user, "blocked": one.blocked, "open": one.open} for one in self.people.values()],
            "customer_messages": rows,
            "sent": sent,
            "pending_updates": len(self.pending()),
            "webhook": {name: value for name, value in self.webhook.items() if name != "secret_token"},
            "webhooks": self.deliverer.account(),
        }

    def heard(self) -> list[tuple[str, str | None, float]]:
        """Every message of a customer that must be on a record: channel, words now, when."""
        with self.lock:
            return [
                ("telegram", None if one.deleted else one.words, one.at)
                for one in self.entries.values()
                if one.by_customer
            ]


def _compose(parts: list[dict[str, Any]]) -> bytes:
    """One update is one post; what was held back must be let go one by one."""
    (part,) = parts
    return json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode()


def _prepare(url: str, body: bytes, secret: str) -> tuple[str, dict[str, str]]:
    """Where and with which headers Telegram posts a body; nothing in them covers it."""
    del body
    headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip, deflate"}
    return url, {**headers, "X-Telegram-Bot-Api-Secret-Token": secret} if secret else headers
