"""The state of the stand-in of LINE, how it becomes webhooks, and the platform's own account of both."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import requests
from werkzeug.wrappers import Request, Response

from sandbox.base import SandboxApp
from sandbox.deliverer import Deliverer, Delivery, Event, _Post
from sandbox.line.rules import RULES
from sandbox.meta import TokenBucket

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CANNOT_BE_ANSWERED = frozenset({"unsend", "unfollow", "leave", "memberLeft"})
REPLY_TOKEN_SECONDS = 60
ANSWER_WITHIN_SECONDS = 2.0


@dataclass(slots=True)
class User:
    """Somebody with the LINE app. `desktop`: they write from an app that tells groups no user ids."""

    user_id: str
    name: str
    language: str | None
    picture_url: str | None
    friend: bool = True
    blocked: bool = False


@dataclass(slots=True)
class Message:
    """One message that somebody wrote to the bot, alone or in a group; `kind` ``postback`` is a pressed button."""

    id: str
    user_id: str
    group: str | None
    kind: str
    text: str | None
    at: float
    data: bytes | None = None
    mime_type: str = "application/octet-stream"
    prepared: str = "succeeded"
    unsent: bool = False
    body: dict[str, Any] = field(default_factory=dict)
    event: Event | None = None


@dataclass(slots=True)
class Sent:
    """One message that the bot sent."""

    id: str
    to: str
    message: dict[str, Any]
    at: float
    retry_key: str | None
    arrived: bool


class Redeliverer(Deliverer):
    """Posts webhooks; what it posts again says so."""

    def _send(self, session: requests.Session, post: _Post, url: str, secret: str) -> bool:
        if post.tries:
            post.body = told_again(post.body)
        return super()._send(session, post, url, secret)


class Account(SandboxApp):
    """One bot of one provider, the people who know it, and all messages.

    Args:
        channel_id: the Messaging API channel's id.
        channel_secret: signs webhooks; opens stateless tokens.
        access_token: the long-lived token.
        provider_id: what scopes user ids; LINE tells it nowhere.
        redelivery: the console's switch `Webhook redelivery`, off by default as on the platform.
        retry_seconds: see `Deliverer`.

    Attributes:
        assertion_keys: key id -> public key (PEM), as registered in the console.
        verified: a verified account may list its followers.
        monthly_quota: pushes in a month; ``None``: no limit.
        calls: the budget of each endpoint.
    """

    name = "line"
    rules = RULES

    def __init__(
        self,
        *,
        channel_id: str = "1650000001",
        channel_secret: str = "sandbox-channel-secret",  # noqa: S107 - invented, nothing else accepts it
        access_token: str = "sandbox-access-token",  # noqa: S107
        provider_id: str = "2000000001",
        redelivery: bool = False,
        retry_seconds: Sequence[float] = (0.05, 0.1, 0.2, 0.4, 0.8),
    ) -> None:
        self.channel_id, self.channel_secret, self.access_token = channel_id, channel_secret, access_token
        self.provider_id = provider_id
        self.bot_id = f"U{secrets.token_hex(16)}"
        self.assertion_keys: dict[str, str] = {}
        self.verified = True
        self.monthly_quota: int | None = None
        self.used_quota = 0
        self.calls = TokenBucket(2000, 2000)
        self.endpoint = ""
        self.active = False
        self.users: dict[str, User] = {}
        self.groups: dict[str, list[str]] = {}
        self.messages: dict[str, Message] = {}
        self.sent: list[Sent] = []
        self.links: list[dict[str, str]] = []
        self.issued: dict[str, tuple[str, float]] = {}
        self.link_tokens: dict[str, tuple[str, float]] = {}
        self.reply_tokens: dict[str, tuple[str, float]] = {}
        self.deliverer = Redeliverer(
            self.compose, prepare, max_tries=None if redelivery else 1, retry_seconds=retry_seconds,
            timeout_seconds=ANSWER_WITHIN_SECONDS,
        )  # fmt: skip
        super().__init__()

    def compose(self, parts: list[dict[str, Any]]) -> bytes:
        """The body of a delivery: UTF-8, not escaped."""
        body = {"destination": self.bot_id, "events": parts}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

    def connect(self, receiver_url: str) -> None:
        """Begin to push to the receiver, as if its address were entered in the console."""
        self.set_endpoint(f"{receiver_url.rstrip('/')}/webhooks/line")

    def set_endpoint(self, url: str) -> None:
        """Begin to push to `url`."""
        self.endpoint, self.active = url, True
        self.deliverer.start(url, self.channel_secret)

    def flush(self, timeout: float = 10) -> None:
        """Wait until every push was taken, or given up."""
        self.deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop pushing."""
        self.deliverer.stop()

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect receiver and tap with this stand-in at `url`."""
        return {
            "ONETHREAD_LINE_CHANNEL_ID": self.channel_id,
            "ONETHREAD_LINE_CHANNEL_SECRET": self.channel_secret,
            "ONETHREAD_LINE_PROVIDER_ID": self.provider_id,
            "ONETHREAD_LINE_ACCOUNT_LINK_SECRET": LOGIN_SECRET,
            "ONETHREAD_LINE_API_URL": url,
            "ONETHREAD_LINE_DATA_URL": url,
            "ONETHREAD_LINE_FETCH_MEDIA": "true",
            "ONETHREAD_LINE_MEDIA_PRIVATE_HOSTS": '["127.0.0.1"]',
        }

    def state(self) -> dict[str, Any]:
        """People, what they wrote and whether it was taken, what they got from us, links, the account of webhooks."""
        written = []
        for one in self.messages.values():
            event = one.event or Event(one.kind, one.id, {})
            written.append({
                "id": one.id, "customer": one.user_id, "group": one.group, "kind": one.kind, "text": one.text,
                "at": one.at, "unsent": one.unsent, "dropped": event.dropped, "given_up": event.given_up,
                "attempts": event.attempts, "accepted": event.accepted,
            })  # fmt: skip
        return {
            "customers": [asdict(one) for one in self.users.values()],
            "groups": self.groups,
            "customer_messages": written,
            "sent": [asdict(one) for one in self.sent],
            "links": self.links,
            "webhooks": self.deliverer.account(),
        }

    def heard(self) -> list[tuple[str, str | None, float]]:
        """Every customer message that must end up on a record: (channel, words or ``None``, when).

        What LINE itself gave up is not among them: without redelivery nobody can ever have it.
        """
        return [
            ("line", None if one.unsent or one.kind != "text" else one.text, one.at)
            for one in self.messages.values()
            if not (one.event and (one.event.given_up or one.event.dropped))
        ]

    def _answer(self, request: Request) -> Response:
        response = super()._answer(request)
        response.headers["X-Line-Request-Id"] = secrets.token_hex(16)
        return response

    # -- events --

    def _tell(
        self, kind: str, subject: str, user_id: str | None, content: dict[str, Any], *, group: str | None = None,
        at: float | None = None, delivery: Delivery | None = None,
    ) -> Event:  # fmt: skip
        """Queue one event, with a reply token where it can be answered."""
        moment = int((self.clock.epoch() if at is None else at) * 1000)
        source: dict[str, Any] = {"type": "group", "groupId": group} if group else {"type": "user"}
        if user_id is not None:
            source["userId"] = user_id
        part: dict[str, Any] = {
            "type": kind, **content, "webhookEventId": ulid(moment), "deliveryContext": {"isRedelivery": False},
            "timestamp": moment, "source": source, "mode": "active",
        }  # fmt: skip
        if kind not in _CANNOT_BE_ANSWERED and content.get("link", {}).get("result") != "failed":
            token = secrets.token_hex(16)
            self.reply_tokens[token] = (group or user_id or "", self.clock.epoch() + REPLY_TOKEN_SECONDS)
            part["replyToken"] = token
        event = Event(kind, subject, part)
        self.deliverer.add(event, delivery)
        return event


LOGIN_SECRET = "sandbox-line-login-secret"  # noqa: S105 - invented, nothing else accepts it


def prepare(url: str, body: bytes, secret: str) -> tuple[str, dict[str, str]]:
    """Where and with which headers LINE posts `body`."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "LineBotWebhook/2.0",
        "x-line-signature": base64.b64encode(digest).decode(),
    }
    return url, headers


def told_again(body: bytes) -> bytes:
    """The same events, each marked as delivered again."""
    whole = json.loads(body)
    for event in whole["events"]:
        event["deliveryContext"] = {"isRedelivery": True}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def ulid(milliseconds: int) -> str:
    """An id as LINE gives it to events: 48 bits of time and 80 of chance in Crockford's base 32."""
    value = (milliseconds << 80) | secrets.randbits(80)
    return "".join(_CROCKFORD[(value >> shift) & 31] for shift in range(125, -1, -5))
