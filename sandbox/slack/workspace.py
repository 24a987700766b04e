"""The state of the stand-in of Slack, what people do in it, and how that becomes events."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from sandbox.base import SandboxApp
from sandbox.deliverer import Deliverer, Delivery, Event
from sandbox.slack.rules import RULES

PICTURE = b"\x89PNG\r\n\x1a\n" + b"\x00" * 64
_LONGEST_TEXT = 40_000


@dataclass(slots=True)
class Member:
    """Somebody in our workspace, or in another one that shares a channel with it."""

    id: str
    team: str
    name: str
    real_name: str
    email: str | None = None
    phone: str = ""
    is_bot: bool = False


@dataclass(slots=True)
class Message:
    """One message; `thread` is the ``ts`` of the parent of a reply."""

    ts: str
    channel: str
    user: str
    text: str
    thread: str | None = None
    subtype: str | None = None
    files: list[dict[str, Any]] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] | None = None
    edited: dict[str, str] | None = None
    deleted: bool = False
    reactions: dict[str, list[str]] = field(default_factory=dict)
    event: Event | None = None


@dataclass(slots=True)
class Channel:
    """A channel, or a direct message (then `user` is the other one)."""

    id: str
    name: str
    shared: bool = False
    private: bool = False
    user: str | None = None
    bot_is_in: bool = True
    messages: list[Message] = field(default_factory=list)


class Workspace(SandboxApp):
    """One workspace, the organisations that share channels with it, and all messages.

    Args:
        team_id: ours.
        app_id: of our app.
        signing_secret: signs events.
        access_token: of our bot.
        rotation: the token lives twelve hours and `refresh_token` brings the next one, once.
        restricted: the limit of apps that are distributed outside the Marketplace.
        retry_seconds: see `sandbox.deliverer.Deliverer`; Slack takes 0, 60 and 300.

    Attributes:
        public_url: base of the addresses of files.
        scopes: of the token.
        email_access: whether users.info has addresses of other organisations' people.
        hides_files: a file that another organisation shared is told by its id alone.
    """

    name = "slack"
    rules = RULES

    def __init__(
        self,
        *,
        team_id: str = "T0SANDBOX1",
        app_id: str = "A0SANDBOX1",
        signing_secret: str = "sandbox-signing-secret",  # noqa: S107 - invented, nothing else accepts it
        access_token: str = "xoxb-sandbox-token",  # noqa: S107 - as above
        rotation: bool = False,
        restricted: bool = False,
        retry_seconds: Sequence[float] = (0.05, 0.1, 0.2),
    ) -> None:
        self.team_id = team_id
        self.app_id = app_id
        self.signing_secret = signing_secret
        self.access_token = access_token
        self.refresh_token = "xoxe-1-sandbox-refresh" if rotation else None
        self.client_id, self.client_secret = "100.200", "sandbox-client-secret"
        self.rotation = rotation
        self.restricted = restricted
        self.public_url = "https://files.slack.com"
        self.scopes = {
            f"{word}:{what}" for word in ("channels", "groups", "im", "mpim") for what in ("history", "read")
        }
        self.scopes |= {"users:read", "users:read.email", "files:read", "chat:write", "metadata.message:read"}
        self.email_access = True
        self.hides_files = False
        self.members: dict[str, Member] = {}
        self.channels: dict[str, Channel] = {}
        self.files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self._numbers = itertools.count(1)
        self._events: dict[str, Event] = {}
        self._ends_at: float | None = None
        super().__init__()
        self.bot = self.add_member("onethread", "onethread", is_bot=True).id
        if rotation:
            self._ends_at = self.clock.epoch() + 43_200
        self.deliverer = Deliverer(self._compose, self._prepare, max_tries=4, retry_seconds=retry_seconds)

    # -- who and where --

    def add_member(self, name: str, real_name: str, team: str | None = None, **more: Any) -> Member:
        """Somebody; of our workspace unless `team` says otherwise."""
        with self.lock:
            number = next(self._numbers)
            member = Member(f"U0MEMBER{number:02d}", team or self.team_id, name, real_name, **more)
            self.members[member.id] = member
            return member

    def add_channel(self, name: str, *, shared: bool = False, private: bool = False, bot_is_in: bool = True) -> str:
        """A channel; its id."""
        with self.lock:
            letter = "G" if private and not shared else "C"
            channel = Channel(f"{letter}0CHANNEL{next(self._numbers):02d}", name, shared, private, bot_is_in=bot_is_in)
            self.channels[channel.id] = channel
            return channel.id

    def open_direct(self, user: str) -> str:
        """The direct messages of our bot and somebody; their id."""
        with self.lock:
            for channel in self.channels.values():
                if channel.user == user:
                    return channel.id
            channel = Channel(f"D0DIRECT{next(self._numbers):02d}", "", self._is_external(user), user=user)
            self.channels[channel.id] = channel
            return channel.id

    def share_channel(self, channel: str, *, delivery: Delivery | None = None) -> str:
        """Share a private channel with another organisation: it gets another id, which is returned."""
        with self.lock:
            known = self.channels.pop(channel)
            known.id, known.shared = f"C{channel[1:]}X", True
            self.channels[known.id] = known
            for message in known.messages:
                message.channel = known.id
            told = {"type": "channel_id_changed", "old_channel_id": channel, "new_channel_id": known.id}
            self._tell({**told, "event_ts": self._ts()}, None, channel, delivery)
            return known.id

    # -- what people do --

    def write(
        self,
        user: str,
        channel: str,
        text: str,
        *,
        thread: str | None = None,
        broadcast: bool = False,
        metadata: dict[str, Any] | None = None,
        blocks: list[dict[str, Any]] | None = None,
        attachments: list[dict[str, Any]] | None = None,
        files: list[dict[str, Any]] | None = None,
        delivery: Delivery | None = None,
    ) -> str:
        """Somebody writes; the ``ts``."""
        with self.lock:
            subtype = "file_share" if files else "thread_broadcast" if broadcast else None
            message = Message(self._ts(), channel, user, text[:_LONGEST_TEXT], thread, subtype, files or [],
                              attachments or [], blocks or [], metadata)  # fmt: skip
            self.channels[channel].messages.append(message)
            message.event = self._tell(self._message_event(message), channel, message.ts, delivery)
            return message.ts

    def share_file(
        self, user: str, channel: str, text: str = "", *, data: bytes = PICTURE, name: str = "picture.png",
        mime_type: str = "image/png", thread: str | None = None, delivery: Delivery | None = None,
    ) -> str:  # fmt: skip
        """Somebody shares a file; the ``ts`` of the message."""
        with self.lock:
            file_id = f"F0FILE{next(self._numbers):04d}"
            url = f"{self.public_url}/files-pri/{self.team_id}-{file_id}"
            about = {"id": file_id, "created": int(self.clock.epoch()), "timestamp": int(self.clock.epoch()),
                     "name": name, "title": name, "mimetype": mime_type, "filetype": name.rpartition(".")[2],
                     "user": user, "editable": False, "size": len(data), "mode": "hosted", "is_external": False,
                     "external_type": "", "is_public": False, "public_url_shared": False,
                     "url_private": f"{url}/{name}", "url_private_download": f"{url}/download/{name}",
                     "permalink": f"{url}/{name}"}  # fmt: skip
            self.files[file_id] = (about, data)
            told = about
            if self.hides_files and self._is_external(user):
                told = {"id": file_id, "created": 0, "timestamp": 0, "user": "", "file_access": "check_file_info"}
            return self.write(user, channel, text, thread=thread, files=[told], delivery=delivery)

    def edit(self, channel: str, ts: str, text: str, *, delivery: Delivery | None = None) -> None:
        """The writer of a message changes its text."""
        with self.lock:
            message = self.message(channel, ts)
            before = self.show(message)
            message.text, message.edited = text, {"user": message.user, "ts": self._ts()}
            self._tell_change(message, before, delivery)

    def preview(self, channel: str, ts: str, url: str, *, delivery: Delivery | None = None) -> None:
        """Slack adds the preview of a link to a message."""
        with self.lock:
            message = self.message(channel, ts)
            before = self.show(message)
            message.attachments = [{"id": 1, "fallback": "A page"}]
            self._tell_change(message, before, delivery, {"attachments": [{**message.attachments[0], "from_url": url}]})

    def delete(self, channel: str, ts: str, *, delivery: Delivery | None = None) -> None:
        """A message is deleted; one with replies leaves a tombstone."""
        with self.lock:
            message = self.message(channel, ts)
            before = self.show(message)
            message.deleted = True
            if self.replies_of(message):
                self._tell_change(message, before, delivery)
                return
            when = self._ts()
            told = {"type": "message", "subtype": "message_deleted", "hidden": True, "channel": channel, "ts": when,
                    "event_ts": when, "deleted_ts": ts, "previous_message": before}  # fmt: skip
            self._tell(told, channel, ts, delivery)

    def react(
        self, user: str, channel: str, ts: str, name: str = "+1", *, remove: bool = False,
        delivery: Delivery | None = None,
    ) -> None:  # fmt: skip
        """Somebody reacts, or takes it back."""
        with self.lock:
            message = self.message(channel, ts)
            users = message.reactions.setdefault(name, [])
            users.remove(user) if remove else users.append(user)
            told = {"type": "reaction_removed" if remove else "reaction_added", "user": user, "reaction": name,
                    "item": {"type": "message", "channel": channel, "ts": ts}, "item_user": message.user,
                    "event_ts": self._ts()}  # fmt: skip
            self._tell(told, channel, ts, delivery)

    def tell_again(self, channel: str, ts: str) -> None:
        """The same message under another event id, without a retry header."""
        with self.lock:
            self._tell(self._message_event(self.message(channel, ts)), channel, ts)

    # -- events --

    def connect(self, receiver_url: str) -> None:
        """Ask the receiver for the challenge, then send it what happens.

        Raises:
            RuntimeError: it did not answer with the challenge.
        """
        url = f"{receiver_url.rstrip('/')}/webhooks/slack"
        challenge = secrets.token_urlsafe(39)
        body = json.dumps({"token": "sandbox", "challenge": challenge, "type": "url_verification"}).encode()
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(url, data=body, headers=self._headers(body, self.signing_secret), timeout=5)
        if answer.status_code != 200 or answer.text != challenge:
            reason = f"the request URL did not answer with the challenge ({answer.status_code})"
            raise RuntimeError(reason)
        self.start_delivery(url)

    def start_delivery(self, url: str) -> None:
        """Send events to `url`, without asking for a challenge first."""
        self.deliverer.start(url, self.signing_secret)

    def flush(self, timeout: float = 10) -> None:
        """Wait until every event was taken or given up."""
        self.deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop sending events."""
        self.deliverer.stop()

    @staticmethod
    def _compose(parts: list[dict[str, Any]]) -> bytes:
        (envelope,) = parts  # Slack puts one event into a delivery
        return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()

    def _prepare(self, url: str, body: bytes, secret: str) -> tuple[str, dict[str, str]]:
        headers = self._headers(body, secret)
        event = self._events[json.loads(body)["event_id"]]
        if event.attempts > event.accepted:
            headers |= {"X-Slack-Retry-Num": str(event.attempts), "X-Slack-Retry-Reason": "http_error"}
        return url, headers

    @staticmethod
    def _headers(body: bytes, secret: str) -> dict[str, str]:
        stamp = str(int(time.time()))  # the receiver has real time, whatever the clock of the stand-in says
        signature = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
        return {"Content-Type": "application/json", "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
                "X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={signature}"}  # fmt: skip

    def _tell(
        self, event: dict[str, Any], channel: str | None, subject: str, delivery: Delivery | None = None
    ) -> Event | None:
        known = self.channels.get(channel or "")
        if known is not None and not known.bot_is_in:
            return None
        event_id = f"Ev0SANDBOX{next(self._numbers):04d}"
        installed = {"enterprise_id": None, "team_id": self.team_id, "user_id": self.bot, "is_bot": True,
                     "is_enterprise_install": False}  # fmt: skip
        envelope = {"token": "sandbox", "team_id": self.team_id, "context_team_id": self.team_id,
                    "context_enterprise_id": None, "api_app_id": self.app_id, "event": event,
                    "type": "event_callback", "event_id": event_id, "event_time": int(self.clock.epoch()),
                    "authorizations": [installed], "event_context": f"4-{event_id}",
                    "is_ext_shared_channel": known is not None and known.shared}  # fmt: skip
        told = Event(str(event["type"]), subject, envelope)
        self._events[event_id] = told
        self.deliverer.add(told, delivery)
        return told

    def _tell_change(
        self, message: Message, before: dict[str, Any], delivery: Delivery | None, more: dict[str, Any] | None = None
    ) -> None:
        when = self._ts()
        told = {"type": "message", "subtype": "message_changed", "hidden": True, "channel": message.channel,
                "ts": when, "event_ts": when, "message": {**self.show(message), **(more or {})},
                "previous_message": before, "channel_type": self._type_of(message.channel)}  # fmt: skip
        self._tell(told, message.channel, message.ts, delivery)

    def _message_event(self, message: Message) -> dict[str, Any]:
        shown = {name: value for name, value in self.show(message, full=True).items() if name not in _OF_PARENTS}
        thread = {"thread_ts": message.thread} if message.thread else {}
        channel_type = self._type_of(message.channel)
        return {**shown, **thread, "channel": message.channel, "event_ts": message.ts, "channel_type": channel_type}

    # -- as the platform shows it --

    def show(self, message: Message, *, full: bool = True) -> dict[str, Any]:
        """A message as the Web API has it; `full`: with the payload of its metadata."""
        replies = self.replies_of(message)
        if message.deleted:
            shown = {"type": "message", "subtype": "tombstone", "text": "This message was deleted.",
                     "user": "USLACKBOT", "hidden": True, "ts": message.ts}  # fmt: skip
            return {**shown, **self._parent_fields(message, replies)}
        writer = self.members[message.user]
        shown = {"type": "message", "text": message.text, "user": message.user, "ts": message.ts, "team": writer.team}
        if writer.is_bot:
            shown |= {"bot_id": f"B{writer.id[1:]}", "app_id": self.app_id, "bot_profile": self._bot_profile(writer)}
        else:
            shown["client_msg_id"] = f"00000000-0000-4000-8000-{message.ts.replace('.', '')[-12:]}"
        if self._is_external(message.user):
            shown |= {"user_team": writer.team, "source_team": writer.team, "user_profile": self._short_profile(writer)}
        for name in ("subtype", "files", "attachments", "blocks", "edited"):
            if getattr(message, name):
                shown[name] = getattr(message, name)
        if message.metadata:
            shown["metadata"] = message.metadata if full else {"event_type": message.metadata["event_type"]}
        used = {name: users for name, users in message.reactions.items() if users}
        if used:
            shown["reactions"] = [{"name": name, "users": users, "count": len(users)} for name, users in used.items()]
        return {**shown, **self._parent_fields(message, replies)}

    def message(self, channel: str, ts: str) -> Message:
        """One message; raises `KeyError` when it is not there."""
        found = next((one for one in self.channels[channel].messages if one.ts == ts), None)
        if found is None:
            raise KeyError(ts)
        return found

    def replies_of(self, message: Message) -> list[Message]:
        """The replies to a message that are still there, the oldest first."""
        messages = self.channels[message.channel].messages
        return sorted((one for one in messages if one.thread == message.ts and not one.deleted), key=_when)

    def heard(self) -> list[tuple[str, str | None, float]]:
        """Channel, words and time of every message of a customer; no words where they were taken back."""
        return [
            ("slack", None if one.deleted or not one.text else one.text, float(one.ts))
            for channel in self.channels.values()
            for one in channel.messages
            if self._is_external(one.user) and (channel.shared or channel.user)
        ]

    def state(self) -> dict[str, Any]:
        """People, what they wrote and whether the event was taken, what our bot posted, the account of events."""
        rows = [one for channel in self.channels.values() for one in channel.messages]
        return {
            "customers": [one.id for one in self.members.values() if self._is_external(one.id)],
            "customer_messages": [_row(one) for one in rows if self._is_external(one.user)],
            "agent_messages": [_row(one) for one in rows if not self._is_external(one.user) and one.user != self.bot],
            "sent": [
                {**_row(one), "token": ((one.metadata or {}).get("event_payload") or {}).get("outbox_id")}
                for one in rows
                if one.user == self.bot
            ],
            "webhooks": self.deliverer.account(),
        }

    def _is_external(self, user: str) -> bool:
        return self.members[user].team != self.team_id

    def _type_of(self, channel: str) -> str:
        known = self.channels[channel]
        return "im" if known.user else "group" if known.private else "channel"

    def _parent_fields(self, message: Message, replies: list[Message]) -> dict[str, Any]:
        if message.thread:
            parent = next((one for one in self.channels[message.channel].messages if one.ts == message.thread), None)
            return {"thread_ts": message.thread, **({"parent_user_id": parent.user} if parent else {})}
        if not replies:
            return {}
        users = list(dict.fromkeys(one.user for one in replies))
        return {"thread_ts": message.ts, "reply_count": len(replies), "reply_users": users,
                "reply_users_count": len(users), "latest_reply": replies[-1].ts, "subscribed": False}  # fmt: skip

    def _bot_profile(self, bot: Member) -> dict[str, Any]:
        icons = {f"image_{size}": f"https://avatars.example/{size}.png" for size in (36, 48, 72)}
        return {"id": f"B{bot.id[1:]}", "app_id": self.app_id, "name": bot.name, "team_id": bot.team,
                "deleted": False, "updated": 1772000000, "icons": icons}  # fmt: skip

    @staticmethod
    def _short_profile(member: Member) -> dict[str, Any]:
        return {"avatar_hash": "g0123456789a", "display_name": member.name, "first_name": member.real_name.split()[0],
                "image_72": "https://avatars.example/72.png", "is_restricted": False, "is_ultra_restricted": False,
                "name": member.name, "real_name": member.real_name, "team": member.team}  # fmt: skip

    def _ts(self) -> str:
        return f"{int(self.clock.epoch())}.{next(self._numbers):06d}"


_OF_PARENTS = {"reply_count", "reply_users", "reply_users_count", "latest_reply", "subscribed"}


def _when(message: Message) -> tuple[int, int]:
    seconds, _, rest = message.ts.partition(".")
    return int(seconds), int(rest)


def _row(message: Message) -> dict[str, Any]:
    event = message.event or Event("message", message.ts, {})
    return {"id": message.ts, "channel": message.channel, "customer": message.user, "text": message.text,
            "at": float(message.ts), "deleted": message.deleted, "dropped": event.dropped,
            "attempts": event.attempts, "accepted": event.accepted}  # fmt: skip
