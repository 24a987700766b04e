"""The state of the stand-in of Viber, how it becomes callbacks, and the platform's own account of both."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import requests

from sandbox.base import SandboxApp
from sandbox.deliverer import Deliverer, Delivery, Event
from sandbox.viber.rules import RULES

CHOSEN_EVENTS = ("delivered", "seen", "failed", "subscribed", "unsubscribed", "conversation_started")
ANSWER_WITHIN_SECONDS = 5.0
MEDIA_SECONDS = 3600
_TRIES = 6
_GARBAGE = 4_987_034_606_158_369_000


@dataclass(slots=True)
class User:
    """Somebody with the app; the id is valid for this bot only."""

    user_id: str
    name: str
    country: str
    language: str
    subscribed: bool = False
    unanswered: list[float] = field(default_factory=list)
    looked_up: list[float] = field(default_factory=list)
    tracking_data: str | None = None


@dataclass(slots=True)
class Message:
    """One message that somebody wrote to the bot."""

    token: int
    user_id: str
    kind: str
    text: str | None
    at: float
    event: Event | None = None


@dataclass(slots=True)
class Sent:
    """One message that the bot sent."""

    token: int
    user_id: str
    message: dict[str, Any]
    at: float
    statuses: list[str] = field(default_factory=list)


class Account(SandboxApp):
    """One bot, the people who know it, and all messages.

    Args:
        auth_token: opens the API and signs callbacks.
        bot_id: the bot's id.
        retry_seconds: see `Deliverer`.

    Attributes:
        told_after_send: events that a send brings by itself.
        media_url: base of the addresses of files.
    """

    name = "viber"
    rules = RULES

    def __init__(
        self,
        *,
        auth_token: str = "4453b6ac1s345z78-sandbox-17480im9",  # noqa: S107 - invented, nothing else accepts it
        bot_id: str = "pa:75346594275468546724",
        retry_seconds: Sequence[float] = (0.05, 0.1, 0.2, 0.4, 0.8),
    ) -> None:
        self.auth_token, self.bot_id = auth_token, bot_id
        self.webhook = ""
        self.event_types: tuple[str, ...] = CHOSEN_EVENTS
        self.told_after_send: tuple[str, ...] = ("delivered",)
        self.media_url = "https://dl-media.viber.example"
        self.users: dict[str, User] = {}
        self.messages: dict[int, Message] = {}
        self.sent: dict[int, Sent] = {}
        self.files: dict[str, tuple[bytes, str, float]] = {}
        self.deliverer = Deliverer(
            compose, prepare, max_tries=_TRIES, retry_seconds=retry_seconds, timeout_seconds=ANSWER_WITHIN_SECONDS
        )
        super().__init__()

    def connect(self, receiver_url: str) -> None:
        """Begin to push to the receiver, as `set_webhook` does: it must answer the ping."""
        if not self.subscribe(f"{receiver_url.rstrip('/')}/webhooks/viber"):
            message = "the receiver did not answer Viber's ping with 200"
            raise RuntimeError(message)

    def subscribe(self, url: str) -> bool:
        """Ping `url` and push to it from now on; whether it answered."""
        ping = compose([{"event": "webhook", "timestamp": _GARBAGE, "message_token": new_token()}])
        _, headers = prepare(url, ping, self.auth_token)
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.post(url, data=ping, headers=headers, timeout=ANSWER_WITHIN_SECONDS)
        except requests.RequestException:
            return False
        if answer.status_code != 200:
            return False
        self.webhook = url
        self.deliverer.start(url, self.auth_token)
        return True

    def flush(self, timeout: float = 10) -> None:
        """Wait until every push was taken, or given up."""
        self.deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop pushing."""
        self.deliverer.stop()

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect receiver and tap with this stand-in at `url`."""
        self.media_url = url
        return {
            "ONETHREAD_VIBER_AUTH_TOKEN": self.auth_token,
            "ONETHREAD_VIBER_BOT_ID": self.bot_id,
            "ONETHREAD_VIBER_API_URL": url,
            "ONETHREAD_VIBER_FETCH_MEDIA": "true",
            "ONETHREAD_VIBER_MEDIA_PRIVATE_HOSTS": '["127.0.0.1"]',
        }

    def state(self) -> dict[str, Any]:
        """People, what they wrote and whether it was taken, what they got from us, the account of callbacks."""
        written = []
        for one in self.messages.values():
            event = one.event or Event(one.kind, str(one.token), {})
            written.append({
                "id": str(one.token), "customer": one.user_id, "kind": one.kind, "text": one.text, "at": one.at,
                "dropped": event.dropped, "given_up": event.given_up, "attempts": event.attempts,
                "accepted": event.accepted,
            })  # fmt: skip
        return {
            "customers": [asdict(one) for one in self.users.values()],
            "customer_messages": written,
            "sent": [{**asdict(one), "token": str(one.token)} for one in self.sent.values()],
            "webhooks": self.deliverer.account(),
        }

    def heard(self) -> list[tuple[str, str | None, float]]:
        """Every customer message that must end up on a record: (channel, words or ``None``, when).

        What Viber itself gave up is not among them: nobody can ever have it.
        """
        return [
            ("viber", one.text, one.at)
            for one in self.messages.values()
            if not (one.event and (one.event.given_up or one.event.dropped))
        ]

    # -- events --

    def _tell(self, kind: str, subject: int, content: dict[str, Any], delivery: Delivery | None = None) -> Event | None:
        """Queue one event, unless the bot did not choose it."""
        if kind in CHOSEN_EVENTS and kind not in self.event_types:
            return None
        now = int(self.clock.epoch() * 1000)
        part = {"event": kind, "timestamp": now, "chat_hostname": "SN-CHAT-05_", "message_token": subject, **content}
        event = Event(kind, str(subject), part)
        self.deliverer.add(event, delivery)
        return event

    def _face(self, user: User) -> dict[str, Any]:
        return {
            "id": user.user_id, "name": user.name, "avatar": f"https://media-direct.cdn.viber.example/{user.name}.jpg",
            "country": user.country, "language": user.language, "api_version": 10,
        }  # fmt: skip


def new_token() -> int:
    """A message token: 64 bits, too many for a double."""
    return 4_900_000_000_000_000_000 + secrets.randbelow(10**17)


def compose(parts: list[dict[str, Any]]) -> bytes:
    """The body of a delivery: one event, UTF-8, not escaped."""
    (part,) = parts
    return json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode()


def prepare(url: str, body: bytes, secret: str) -> tuple[str, dict[str, str]]:
    """Where and with which headers Viber posts `body`."""
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "X-Viber-Content-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }
    return url, headers
