"""The state of the stand-in of X, how it becomes webhooks, and the platform's own account of both."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import requests

from sandbox.base import SandboxApp
from sandbox.deliverer import Deliverer, Delivery, Event
from sandbox.x.rules import RULES

EPOCH = 1_288_834_974_657
ANSWER_WITHIN_SECONDS = 10.0
TOKEN_SECONDS = 7200
DM_TYPES = ("dm.received", "dm.sent", "dm.read", "dm.indicate_typing", "chat.received", "post.mention.create")


@dataclass(slots=True)
class User:
    """Somebody on X; the id is the same for everybody."""

    user_id: str
    name: str
    username: str
    receives_dm: bool = True


@dataclass(slots=True)
class Dm:
    """One event of a conversation.

    `text` is as it was typed. `media` is (id, bytes), `post` the id of a shared post, `people` who joined or left.
    """

    event_id: str
    event_type: str
    conversation: str
    sender: str
    at: float
    text: str | None = None
    media: tuple[str, bytes] | None = None
    post: str | None = None
    people: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    source_app_id: str | None = None
    event: Event | None = None


@dataclass(slots=True)
class Post:
    """A public post that mentions us."""

    post_id: str
    author: str
    text: str
    at: float
    event: Event | None = None


class Account(SandboxApp):
    """One account of ours with one app, the people who write to it, and all messages.

    Args:
        user_id, username: ours.
        consumer_secret: the app's; signs webhooks.
        bearer_token: the app's own.
        access_token, refresh_token, client_id, client_secret: our login to the app.
        expires: whether the access token ends after two hours.
        old_api: push in the shape of the Account Activity API.
        old_names: ``referenced_tweets`` and ``tweet.fields`` instead of ``referenced_posts`` and ``post.fields``.

    Attributes:
        scopes: of the user's token.
        mentions_allowed: whether the app's tier reads mentions.
        posts: text of posts that can be shared, by id.
    """

    name = "x"
    rules = RULES

    def __init__(
        self,
        *,
        user_id: str = "1500000000000000001",
        username: str = "sandboxshop",
        consumer_secret: str = "sandbox-consumer-secret",  # noqa: S107 - invented, as all that follow
        bearer_token: str = "AAAA-sandbox-bearer",  # noqa: S107
        access_token: str = "sandbox-access-token",  # noqa: S107
        refresh_token: str = "sandbox-refresh-token",  # noqa: S107
        client_id: str = "sandbox-client",
        client_secret: str = "sandbox-client-secret",  # noqa: S107
        expires: bool = False,
        old_api: bool = False,
        old_names: bool = False,
    ) -> None:
        self.user_id, self.username = user_id, username
        self.consumer_secret, self.bearer_token = consumer_secret, bearer_token
        self.access_token, self.refresh_token = access_token, refresh_token
        self.client_id, self.client_secret = client_id, client_secret
        self.expires, self.old_api, self.old_names = expires, old_api, old_names
        self.scopes = {"dm.read", "dm.write", "tweet.read", "users.read", "offline.access"}
        self.mentions_allowed = True
        self.users: dict[str, User] = {user_id: User(user_id, "Sandbox Shop", username)}
        self.groups: dict[str, list[str]] = {}
        self.events: list[Dm] = []
        self.mentions: list[Post] = []
        self.posts: dict[str, str] = {}
        self.webhooks: dict[str, dict[str, Any]] = {}
        self.subscriptions: dict[str, dict[str, Any]] = {}
        self.deliverer = Deliverer(compose, prepare, max_tries=1, timeout_seconds=ANSWER_WITHIN_SECONDS)
        self._sequence = 0
        super().__init__()
        self.token_until = self.clock.epoch() + TOKEN_SECONDS

    # -- the demo --

    def connect(self, receiver_url: str) -> None:
        """Begin to push to the receiver, as its operator has it: a webhook and a subscription for each type."""
        webhook = self.add_webhook(f"{receiver_url.rstrip('/')}/webhooks/x")
        if webhook is None:
            message = "the receiver did not pass X's Challenge-Response Check"
            raise RuntimeError(message)
        for event_type in DM_TYPES:
            self.subscribe(event_type, self.user_id, webhook["id"])

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect receiver and tap with this stand-in at `url`."""
        return {
            "ONETHREAD_X_CONSUMER_SECRET": self.consumer_secret,
            "ONETHREAD_X_ACCESS_TOKEN": self.access_token,
            "ONETHREAD_X_REFRESH_TOKEN": self.refresh_token,
            "ONETHREAD_X_CLIENT_ID": self.client_id,
            "ONETHREAD_X_CLIENT_SECRET": self.client_secret,
            "ONETHREAD_X_BEARER_TOKEN": self.bearer_token,
            "ONETHREAD_X_API_URL": url,
            "ONETHREAD_X_RECONCILE_MINUTES": "0",
            "ONETHREAD_X_FETCH_MEDIA": "true",
            "ONETHREAD_X_MEDIA_PRIVATE_HOSTS": '["127.0.0.1"]',
        }

    def flush(self, timeout: float = 10) -> None:
        """Wait until every push was taken, or given up."""
        self.deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop pushing."""
        self.deliverer.stop()

    def state(self) -> dict[str, Any]:
        """People, what they wrote and whether it was taken, what they got from us, the account of pushes."""
        written = [one for one in self.events if one.event_type == "MessageCreate"]
        rows = [
            {
                "id": one.event_id, "customer": one.sender, "conversation": one.conversation, "text": one.text,
                "at": one.at, **_account_of(one.event),
            }
            for one in written
        ]  # fmt: skip
        return {
            "customers": [asdict(one) for one in self.users.values() if one.user_id != self.user_id],
            "customer_messages": [one for one in rows if one["customer"] != self.user_id],
            "sent": [one for one in rows if one["customer"] == self.user_id],
            "mentions": [{"id": one.post_id, "text": one.text, **_account_of(one.event)} for one in self.mentions],
            "webhooks": self.deliverer.account(),
        }

    def heard(self) -> list[tuple[str, str | None, float]]:
        """Every customer message that must end up on a record: (channel, words or ``None``, when).

        Encrypted chats are not among them: X gives them to no API. Neither is a mention that no webhook took.
        """
        direct = [
            ("x", one.text, one.at)
            for one in self.events
            if one.event_type == "MessageCreate" and one.sender != self.user_id
        ]
        return direct + [("x", one.text, one.at) for one in self.mentions if one.event and one.event.accepted]

    # -- webhooks --

    def add_webhook(self, url: str) -> dict[str, Any] | None:
        """Register an address, which must pass the handshake; ``None`` when it does not."""
        if not self.check_crc(url):
            return None
        made: dict[str, Any] = {"id": self.new_id(), "url": url, "valid": True, "created_at": iso(self.clock.epoch())}
        self.webhooks[made["id"]] = made
        return made

    def check_crc(self, url: str) -> bool:
        """Ask `url` to sign a token; whether it did."""
        token = base64.b64encode(secrets.token_bytes(36)).decode()
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(url, params={"crc_token": token}, timeout=ANSWER_WITHIN_SECONDS)
            told = answer.json().get("response_token")
        except (requests.RequestException, ValueError, AttributeError):
            return False
        expected = signature(self.consumer_secret, token.encode())
        return answer.status_code == 200 and isinstance(told, str) and hmac.compare_digest(told, expected)

    def subscribe(
        self, event_type: str, user_id: str, webhook_id: str | None, tag: str | None = None
    ) -> dict[str, Any]:
        """Push events of a type about a user to a webhook from now on."""
        now = iso(self.clock.epoch())
        made: dict[str, Any] = {
            "subscription_id": self.new_id(), "event_type": event_type, "filter": {"user_id": user_id},
            "created_at": now, "updated_at": now,
        }  # fmt: skip
        made |= {"webhook_id": webhook_id} if webhook_id else {}
        made |= {"tag": tag} if tag else {}
        self.subscriptions[made["subscription_id"]] = made
        return made

    def tell(
        self, event_type: str, subject: str, payload: dict[str, Any], delivery: Delivery | None = None,
        includes: dict[str, Any] | None = None,
    ) -> Event | None:  # fmt: skip
        """Push one event to whoever has subscribed; ``None`` when nobody has, or no webhook is valid."""
        event: Event | None = None
        for one in self.subscriptions.values():
            webhook = self.webhooks.get(one.get("webhook_id", ""))
            if one["event_type"] != event_type or webhook is None or not webhook["valid"]:
                continue
            body = self._body(event_type, one, payload, includes)
            event = Event(event_type, subject, body)
            self.deliverer.start(webhook["url"], self.consumer_secret)
            self.deliverer.add(event, delivery)
        return event

    def _body(
        self, event_type: str, subscription: dict[str, Any], payload: dict[str, Any], includes: dict[str, Any] | None
    ) -> dict[str, Any]:
        if self.old_api and event_type.startswith("dm."):
            users = {key: _old_user(value["data"]) for key, value in payload.get("users", {}).items()}
            return {"for_user_id": self.user_id, **payload, "users": users}
        uuid = str(int.from_bytes(secrets.token_bytes(8), "big", signed=True))
        data = {"event_uuid": uuid, "filter": subscription["filter"], "event_type": event_type, "payload": payload}
        data |= {"tag": subscription["tag"]} if "tag" in subscription else {}
        return {"data": data | ({"includes": includes} if includes else {})}

    # -- shapes --

    def new_id(self) -> str:
        """A snowflake of now."""
        self._sequence += 1
        return str((int(self.clock.epoch() * 1000) - 30 - EPOCH) << 22 | (self._sequence & 0x3FFFFF))

    def face(self, user_id: str) -> dict[str, Any]:
        """A user of API v2."""
        user = self.users[user_id]
        return {
            "id": user_id, "name": user.name, "username": user.username, "protected": False, "verified": False,
            "profile_image_url": f"https://pbs.twimg.example/profile_images/{user_id}/a_normal.jpg",
        }  # fmt: skip

    def pair(self, user_id: str) -> str:
        """The conversation of somebody with us."""
        return "-".join(sorted((self.user_id, user_id), key=int))

    def people_of(self, conversation: str) -> list[str]:
        """Who is in a conversation."""
        return self.groups.get(conversation) or conversation.split("-")

    def ton_url(self, event: Dm) -> str:
        """Where a file of a message lies."""
        media_id = event.media[0] if event.media else ""
        return f"https://ton.twitter.com/1.1/ton/data/dm/{event.event_id}/{media_id}/file.jpg"


def iso(epoch: float) -> str:
    """A time as API v2 writes it."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def signature(secret: str, text: bytes) -> str:
    """What X and its webhooks sign with."""
    return f"sha256={base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()}"


def compose(parts: Sequence[dict[str, Any]]) -> bytes:
    """The body of a delivery: one event."""
    (part,) = parts
    return json.dumps(part, separators=(",", ":")).encode()


def prepare(url: str, body: bytes, secret: str) -> tuple[str, dict[str, str]]:
    """Where and with which headers X posts `body`."""
    return url, {"Content-Type": "application/json", "x-twitter-webhooks-signature": signature(secret, body)}


def _old_user(user: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": user["id"], "name": user["name"], "screen_name": user["username"], "protected": False, "verified": False,
        "profile_image_url_https": user["profile_image_url"],
    }  # fmt: skip


def _account_of(event: Event | None) -> dict[str, Any]:
    return {
        "dropped": bool(event and event.dropped), "given_up": bool(event and event.given_up),
        "attempts": event.attempts if event else 0, "accepted": event.accepted if event else 0,
    }  # fmt: skip
