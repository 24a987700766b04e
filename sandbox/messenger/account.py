"""The state of the stand-in of Messenger, how it becomes webhooks, and the platform's own account of both."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field
from typing import Any

from sandbox.deliverer import Delivery, Event
from sandbox.messenger.rules import RULES
from sandbox.meta import MetaApp, TokenBucket

DAY = 86_400
INBOX_APP_ID = 263902037430900  # two of Meta's pages differ (26390203743090); both only mean "not our app"


@dataclass(slots=True)
class Person:
    """Somebody who wrote to the page; the id is valid for this page only."""

    psid: str
    first_name: str
    last_name: str
    conversation: str
    profile_pic: str
    in_requests: bool = False
    blocked: bool = False
    last_action_at: float | None = None
    owner_app_id: int | None = None


@dataclass(slots=True)
class Message:
    """One message of a conversation. `app_id` is set on what the page sent, `token` is the metadata of a send."""

    id: str
    psid: str
    at: float
    text: str | None
    attachments: list[dict[str, Any]]
    app_id: int | None = None
    token: str | None = None
    tag: str | None = None
    reply_to: str | None = None
    edits: int = 0
    statuses: list[dict[str, Any]] = field(default_factory=list)
    event: Event | None = None


class Account(MetaApp):
    """One page, the people who write to it, and all messages.

    Args:
        page_id: the page's id.
        page_name: how the Conversations API names the page.
        routing: Conversation Routing is on: an answer in the page inbox takes the thread away from our app.
        more: see `MetaApp`.

    Attributes:
        told_after: seconds after a send at which ``echo``, ``delivery`` and ``read`` are told; ``None``: never by
            itself.
        told_reversed: tell them in the opposite order.
        seconds: write event times in seconds instead of milliseconds.
        profile_access: without it the profile of a person is refused.
        request_folder: what the Conversations API calls the folder of message requests.
        public_url: base of the attachment URLs in webhooks and in the Conversations API.
        fields: webhook fields that are subscribed; ``None`` means all.
    """

    name = "messenger"
    scopes: tuple[str, ...] = ("pages_messaging", "pages_manage_metadata")
    rules = RULES

    def __init__(
        self, *, page_id: str = "108812345678901", page_name: str = "Sandbox Page", routing: bool = False, **more: Any
    ) -> None:
        self.page_id = page_id
        self.page_name = page_name
        self.routing = routing
        self.told_after: dict[str, float | None] = {"echo": 0.0, "delivery": 0.0, "read": None}
        self.told_reversed = False
        self.seconds = False
        self.profile_access = True
        self.request_folder = "pending"
        self.public_url = "https://cdn.example"
        self.fields: set[str] | None = None
        self.people: dict[str, Person] = {}
        self.messages: dict[str, Message] = {}
        self.files: dict[str, tuple[bytes, str]] = {}
        self.typing: list[dict[str, str]] = []
        self.reading = TokenBucket(2, 2)
        self.sending = TokenBucket(300, 300)
        super().__init__(**more)

    def compose(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Up to two events of a kind (``messaging``, ``standby``, ``changes``) in one entry, then the next entry."""
        entries: list[dict[str, Any]] = []
        for part in parts:
            ((kind, event),) = part.items()
            if entries and len(entries[-1].get(kind, "  ")) == 1:
                entries[-1][kind].append(event)
            else:
                entries.append({"id": self.page_id, "time": self._now(), kind: [event]})
        return {"object": "page", "entry": entries}

    def state(self) -> dict[str, Any]:
        """People with their windows, what they wrote, what they got from us, the inbox, the account of webhooks."""
        people = [{**asdict(one), "window_open": self._within(one, DAY)} for one in self.people.values()]
        written, sent, inbox = [], [], []
        for one in self.messages.values():
            row = {"id": one.id, "customer": one.psid, "text": one.text, "at": one.at,
                   "attachments": [each["type"] for each in one.attachments]}  # fmt: skip
            if one.app_id is None:
                event = one.event or Event("messages", one.id, {})  # not subscribed: never told
                written.append(
                    {**row, "dropped": event.dropped, "attempts": event.attempts, "accepted": event.accepted}
                )
            elif one.app_id == self.app_id:
                status = one.statuses[-1]["status"] if one.statuses else "accepted"
                sent.append({**row, "token": one.token, "tag": one.tag, "status": status,
                             "statuses": list(one.statuses), "times_seen": self._times_seen(one)})  # fmt: skip
            else:
                inbox.append({**row, "app_id": one.app_id})
        return {
            "customers": people,
            "customer_messages": written,
            "sent": sent,
            "inbox": inbox,
            "actions": list(self.typing),
            "webhooks": self.deliverer.account(),
        }

    def _times_seen(self, message: Message) -> int:
        """How often the person has the same thing on the screen: same metadata, or same content without it."""
        return sum(
            1
            for one in self.messages.values()
            if (one.psid, one.app_id) == (message.psid, self.app_id)
            and (
                one.token == message.token
                if message.token
                else (one.text, one.attachments) == (message.text, message.attachments)
            )
        )

    # -- what both sides use --

    def _now(self) -> int:
        """The time as events have it."""
        return int(self.clock.epoch() * (1 if self.seconds else 1000))

    def _within(self, person: Person, seconds: float) -> bool:
        return person.last_action_at is not None and self.clock.epoch() - person.last_action_at <= seconds

    def _event(self, psid: str, *, outgoing: bool = False, timestamp: bool = True, **content: Any) -> dict[str, Any]:
        pair = (self.page_id, psid) if outgoing else (psid, self.page_id)
        event: dict[str, Any] = {"sender": {"id": pair[0]}, "recipient": {"id": pair[1]}}
        return {**event, **({"timestamp": self._now()} if timestamp else {}), **content}

    def _emit(
        self, webhook_field: str, subject: str, event: dict[str, Any], psid: str, delivery: Delivery | None = None
    ) -> Event | None:
        """Tell an event of a subscribed field; in ``standby`` when another app has the thread."""
        if self.fields is not None and webhook_field not in self.fields:
            return None
        standby = self.people[psid].owner_app_id not in {None, self.app_id}
        if standby and "postback" in event:
            event["postback"].pop("payload", None)
        return self.tell(webhook_field, subject, {"standby" if standby else "messaging": event}, delivery)

    def _tell_outgoing(self, message: Message, delivery: Delivery | None = None) -> None:
        """The echo of what the page sent."""
        content: dict[str, Any] = {"mid": message.id, "is_echo": True, "app_id": message.app_id}
        content |= {key: value for key, value in (("text", message.text), ("metadata", message.token)) if value}
        if message.attachments:
            content["attachments"] = message.attachments
        if message.reply_to:
            content["reply_to"] = {"mid": message.reply_to}
        event = self._event(message.psid, outgoing=True, message=content)
        message.event = self._emit("message_echoes", message.id, event, message.psid, delivery)

    def _tell_delivered(self, message: Message, delivery: Delivery | None = None) -> None:
        message.statuses.append({"status": "delivered", "at": self.clock.epoch()})
        told = {"mids": [message.id], "watermark": int(self.clock.epoch() * 1000)}
        event = self._event(message.psid, timestamp=False, delivery=told)
        self._emit("message_deliveries", message.id, event, message.psid, delivery)

    def _tell_read(self, psid: str, delivery: Delivery | None = None) -> int:
        """The person saw all until now; how many messages of ours that newly reads."""
        seen = [one for one in self.messages.values() if one.psid == psid and one.app_id == self.app_id]
        unread = [one for one in seen if all(status["status"] != "read" for status in one.statuses)]
        for one in unread:
            one.statuses.append({"status": "read", "at": self.clock.epoch()})
        event = self._event(psid, read={"watermark": int(self.clock.epoch() * 1000)})
        self._emit("message_reads", "", event, psid, delivery)
        return len(unread)

    @staticmethod
    def _mid() -> str:
        return f"m_{secrets.token_urlsafe(60)}"
