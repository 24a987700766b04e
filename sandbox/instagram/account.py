"""The state of the stand-in of Instagram, how it becomes webhooks, and the platform's own account of both."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from werkzeug.wrappers import Request, Response

from sandbox.deliverer import Delivery, Event
from sandbox.instagram.rules import RULES
from sandbox.meta import MetaApp, TokenBucket, graph_error

DAY = 86_400
TOKEN_SECONDS = 5_183_944


@dataclass(slots=True)
class Person:
    """Somebody on Instagram; the id is valid for this account only. `has_written`: the profile may be read."""

    igsid: str
    name: str
    username: str
    conversation: str
    profile_pic: str
    in_requests: bool = False
    blocked: bool = False
    has_written: bool = False
    last_action_at: float | None = None
    owner_app_id: int | None = None


@dataclass(slots=True)
class Message:
    """One message of a conversation. `ours`: the account sent it, with `app_id` when an app did."""

    id: str
    igsid: str
    at: float
    text: str | None
    attachments: list[dict[str, Any]] = field(default_factory=list)
    ours: bool = False
    app_id: int | None = None
    reply_to: dict[str, Any] | None = None
    unsupported: bool = False
    unsent: bool = False
    edits: int = 0
    read: bool = False
    event: Event | None = None


@dataclass(slots=True)
class Comment:
    """One comment under a post; `igsid` is ``None`` when the account itself wrote it."""

    id: str
    igsid: str | None
    media_id: str
    text: str | None
    at: float
    parent: str | None = None
    answered: bool = False
    event: Event | None = None


class Account(MetaApp):
    """One professional account, the people who write to it, and all messages.

    Args:
        account_id: the account's id, as in ``entry.id``.
        username: of the account.
        login: ``facebook`` (page token) or ``instagram`` (user token that ends).
        page_id: the page linked to the account (Facebook login).
        more: see `MetaApp`.

    Attributes:
        own_id: the account's second id (Instagram login): ``id`` of ``/me``, and ``from`` of its polled messages.
        tokens: token -> (issued at, ends at), epoch seconds (Instagram login).
        echo_has_app_id: whether echoes of what our app sent say so.
        flat_comments: put a comment flat into its entry instead of into ``changes``.
        old_shares: send shared posts as ``share`` and ``ig_post``, as until 2026-04.
        request_folder: what the Conversations API calls the folder of message requests.
        public_url: base of the attachment URLs in webhooks and in the Conversations API.
        fields: webhook fields that are subscribed; ``None`` means all.
    """

    name = "instagram"
    rules = RULES
    scopes: tuple[str, ...] = (
        "instagram_basic", "instagram_manage_comments", "instagram_manage_messages", "pages_manage_metadata",
    )  # fmt: skip

    def __init__(
        self,
        *,
        account_id: str = "17841405822304914",
        username: str = "example.shop",
        login: Literal["facebook", "instagram"] = "facebook",
        page_id: str = "108812345678901",
        **more: Any,
    ) -> None:
        self.account_id, self.username, self.login, self.page_id = account_id, username, login, page_id
        self.own_id = "26000000000000001"
        self.self_igsid = "8900000000000001"
        self.echo_has_app_id = True
        self.flat_comments = False
        self.old_shares = False
        self.request_folder = "pending"
        self.public_url = "https://cdn.example"
        self.fields: set[str] | None = None
        self.people: dict[str, Person] = {}
        self.messages: dict[str, Message] = {}
        self.comments: dict[str, Comment] = {}
        self.files: dict[str, tuple[bytes, str]] = {}
        self.reading = TokenBucket(2, 2)
        self.sending = TokenBucket(100, 100)
        super().__init__(**more)
        now = self.clock.epoch()
        self.tokens: dict[str, tuple[float, float]] = {self.access_token: (now, now + TOKEN_SECONDS)}

    def compose(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Up to two events of a kind (``messaging``, ``standby``, ``changes``) in one entry, then the next entry."""
        entries: list[dict[str, Any]] = []
        for part in parts:
            ((kind, event),) = part.items()
            if kind == "flat":
                entries.append({"id": self.account_id, "time": self._now(), **event})
            elif kind == "test":
                entries.append({"id": "0", "time": self._now() // 1000, "changes": [event]})
            elif entries and len(entries[-1].get(kind, "  ")) == 1:
                entries[-1][kind].append(event)
            else:
                seconds = kind == "changes"  # changes of the account are told in seconds
                now = self._now() // 1000 if seconds else self._now()
                entries.append({"id": self.account_id, "time": now, kind: [event]})
        return {"object": "instagram", "entry": entries}

    def guard(self, request: Request) -> Response | None:
        """As everywhere in Graph, besides: tokens of Instagram login end; files want none."""
        if request.path.startswith("/cdn/"):
            return None
        given = self.parameters(request).get("access_token")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or given or ""
        if self.login == "instagram" and token in self.tokens:
            if self.tokens[token][1] <= self.clock.epoch():
                return graph_error(190, "Error validating access token: Session has expired", subcode=463)
            if token != self.access_token:
                return None
        return super().guard(request)

    def state(self) -> dict[str, Any]:
        """People with their windows, what they wrote, the comments, what they got from us, the account of webhooks."""
        people = [{**asdict(one), "window_open": self._within(one, DAY)} for one in self.people.values()]
        written, sent = [], []
        for one in self.messages.values():
            row = {"id": one.id, "customer": one.igsid, "text": one.text, "at": one.at, "unsent": one.unsent,
                   "attachments": [each["type"] for each in one.attachments], **_fate(one.event)}  # fmt: skip
            if one.ours:
                sent.append({**row, "app_id": one.app_id, "read": one.read})
            else:
                written.append(row)
        comments = [
            {"id": one.id, "customer": one.igsid, "text": one.text, "at": one.at, "media": one.media_id,
             "parent": one.parent, **_fate(one.event)}
            for one in self.comments.values()
        ]  # fmt: skip
        return {
            "customers": people,
            "customer_messages": written,
            "comments": comments,
            "sent": sent,
            "webhooks": self.deliverer.account(),
        }

    # -- what both sides use --

    def _now(self) -> int:
        """The time as chat events have it."""
        return int(self.clock.epoch() * 1000)

    def _within(self, person: Person, seconds: float) -> bool:
        return person.last_action_at is not None and self.clock.epoch() - person.last_action_at <= seconds

    def _event(self, igsid: str, *, outgoing: bool = False, **content: Any) -> dict[str, Any]:
        pair = (self.account_id, igsid) if outgoing else (igsid, self.account_id)
        return {"sender": {"id": pair[0]}, "recipient": {"id": pair[1]}, "timestamp": self._now(), **content}

    def _emit(
        self, webhook_field: str, subject: str, event: dict[str, Any], igsid: str, delivery: Delivery | None = None
    ) -> Event | None:
        """Tell an event of a subscribed field; in ``standby`` when another app has the chat."""
        if self.fields is not None and webhook_field not in self.fields:
            return None
        person = self.people.get(igsid)
        standby = person is not None and person.owner_app_id not in {None, self.app_id}
        if standby and "postback" in event:
            event["postback"].pop("payload", None)
        return self.tell(webhook_field, subject, {"standby" if standby else "messaging": event}, delivery)

    def _tell_outgoing(self, message: Message, delivery: Delivery | None = None) -> None:
        """The echo of what the account sent."""
        content: dict[str, Any] = {"mid": message.id, "is_echo": True}
        if message.app_id is not None and self.echo_has_app_id:
            content["app_id"] = message.app_id
        if message.text:
            content["text"] = message.text
        if message.attachments:
            content["attachments"] = message.attachments
        if message.reply_to:
            content["reply_to"] = message.reply_to
        event = self._event(message.igsid, outgoing=True, message=content)
        message.event = self._emit("messages", message.id, event, message.igsid, delivery)

    @staticmethod
    def _mid() -> str:
        return f"aWdfZAG1faXRlbToxOk{secrets.token_urlsafe(90)}ZD"

    @staticmethod
    def _number() -> str:
        return f"178{secrets.randbelow(9 * 10**13) + 10**13}"


def _fate(event: Event | None) -> dict[str, Any]:
    """What became of the webhook; an event that is not subscribed was never told."""
    found = event or Event("", "", {})
    return {"dropped": found.dropped, "attempts": found.attempts, "accepted": found.accepted}
