"""The state of the stand-in of Chatwoot: visitors, conversations, agents, and how that becomes webhooks."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sandbox.base import SandboxApp
from sandbox.chatwoot.rules import RULES
from sandbox.deliverer import Deliverer, Delivery, Event

TYPES = ("incoming", "outgoing", "activity", "template")
AGENT = {"id": 11, "name": "Nora Agent", "email": "nora@shop.example", "type": "user"}
BOT = {"id": 5, "name": "Greeter", "type": "agent_bot"}


@dataclass(slots=True)
class Contact:
    """One visitor, as Chatwoot knows them."""

    number: int
    name: str
    identifier: str | None = None
    email: str | None = None
    phone: str | None = None
    hmac_verified: bool = False

    def row(self) -> dict[str, Any]:
        """The contact inside other things."""
        return {
            "id": self.number, "name": self.name, "identifier": self.identifier, "email": self.email,
            "phone_number": self.phone, "thumbnail": "", "additional_attributes": {}, "custom_attributes": {},
            "blocked": False, "type": "contact",
        }  # fmt: skip


@dataclass(slots=True)
class Message:
    """One message, note or activity."""

    number: int
    conversation: int
    kind: int
    text: str | None
    at: float
    sender: dict[str, Any] | None
    private: bool = False
    content_type: str = "text"
    attributes: dict[str, Any] = field(default_factory=dict)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    status: str = "sent"
    source_id: str | None = None
    event: Event | None = None


@dataclass(slots=True)
class Conversation:
    """One conversation of a contact."""

    number: int
    contact: Contact
    channel: str
    at: float
    active: float
    seen: float = 0.0
    status: str = "open"


class Account(SandboxApp):
    """One Chatwoot account with a website inbox.

    Args:
        account_id: its number.
        access_token: of an administrator.
        webhook_secret: signs the webhooks.
        hmac_token: by which the site signs who has logged in.
        hmac_mandatory: whether the inbox enforces identity validation.
        timeout_seconds: how long a webhook may take.
    """

    name = "chatwoot"
    rules = RULES

    def __init__(
        self,
        *,
        account_id: int = 2,
        access_token: str = "sandbox-access-token",  # noqa: S107 - invented, nothing else accepts it
        webhook_secret: str = "sandbox-webhook-secret",  # noqa: S107 - the same
        hmac_token: str = "sandbox-hmac-token",  # noqa: S107 - the same
        hmac_mandatory: bool = True,
        timeout_seconds: float = 5.0,
    ) -> None:
        self.account_id = account_id
        self.access_token = access_token
        self.webhook_secret = webhook_secret
        self.hmac_token = hmac_token
        self.hmac_mandatory = hmac_mandatory
        self.public_url = "https://chat.shop.example"
        self.webhook_url: str | None = None
        self.contacts: dict[int, Contact] = {}
        self.conversations: dict[int, Conversation] = {}
        self.messages: dict[int, Message] = {}
        self.files: dict[str, tuple[bytes, str]] = {}
        self._heard: list[tuple[str, str | None, float]] = []
        self.deliverer = Deliverer(
            lambda parts: json.dumps(parts[0], ensure_ascii=False).encode(),
            self._prepare,
            max_tries=1,
            timeout_seconds=timeout_seconds,
        )
        super().__init__()

    # -- visitors --

    def visitor(self, name: str = "quiet-river-93", channel: str = "Channel::WebWidget") -> int:
        """Somebody opens the chat; the number of the conversation."""
        with self.lock:
            contact = Contact(len(self.contacts) + 4, name)
            self.contacts[contact.number] = contact
            now = self.clock.epoch()
            conversation = Conversation(len(self.conversations) + 7, contact, channel, now, now)
            self.conversations[conversation.number] = conversation
            return conversation.number

    def identify(
        self,
        conversation: int,
        *,
        identifier: str,
        identifier_hash: str | None = None,
        email: str | None = None,
        phone: str | None = None,
        name: str | None = None,
    ) -> None:
        """The site says who the visitor is; raises `PermissionError` when the hash is wrong or lacks where it must be.

        The hash covers the identifier alone: the rest is what the browser said.
        """
        with self.lock:
            contact = self.conversations[conversation].contact
            if identifier_hash is None and self.hmac_mandatory:
                message = "HMAC failed: Invalid Identifier Hash Provided"
                raise PermissionError(message)
            if identifier_hash is not None:
                if not hmac.compare_digest(identifier_hash, self.signed_identifier(identifier)):
                    message = "HMAC failed: Invalid Identifier Hash Provided"
                    raise PermissionError(message)
                contact.hmac_verified = True
            contact.identifier, contact.name = identifier, name or contact.name
            contact.email, contact.phone = email or contact.email, phone or contact.phone

    def signed_identifier(self, identifier: str) -> str:
        """What the site's server signs."""
        return hmac.new(self.hmac_token.encode(), identifier.encode(), hashlib.sha256).hexdigest()

    def text(
        self,
        conversation: int,
        text: str | None,
        *,
        delivery: Delivery | None = None,
        at: float | None = None,
        **more: Any,
    ) -> int:
        """The visitor writes; the message's number.

        Args:
            conversation: as `visitor` gave it.
            text: what they write.
            delivery: what happens to the webhook.
            at: when, if not now.
            more: fields of `Message`.
        """
        with self.lock:
            found = self.conversations[conversation]
            message = self._add(found, 0, text, found.contact.row(), at, **more)
            if found.channel in {"Channel::WebWidget", "Channel::Api"}:
                self._heard.append(("webchat", text, message.at))
            return self._tell("message_created", message, delivery)

    def picture(self, conversation: int, *, data: bytes = b"\x89PNG\r\n\x1a\npicture", name: str = "chair.png") -> int:
        """The visitor sends a picture without words."""
        with self.lock:
            key = uuid.uuid4().hex
            self.files[key] = (data, name)
            url = f"{self.public_url}/rails/active_storage/blobs/redirect/{key}/{name}"
            file = {"id": len(self.files) + 30, "file_type": "image", "account_id": self.account_id, "extension": None,
                    "data_url": url, "thumb_url": url, "file_size": len(data), "width": 1, "height": 1}  # fmt: skip
        return self.text(conversation, None, attachments=[file])

    def see(self, conversation: int) -> None:
        """The visitor reads what is there."""
        with self.lock:
            found = self.conversations[conversation]
            found.seen = self.clock.epoch()
            body = {"event": "conversation_updated", "changed_attributes": [], "account": self._account()}
            self._push("conversation", str(conversation), {**self.conversation_row(found), **body}, None)

    def choose(self, number: int, title: str) -> None:
        """The visitor chooses one of a bot's options."""
        with self.lock:
            message = self.messages[number]
            message.attributes = {**message.attributes, "submitted_values": [{"title": title, "value": title.lower()}]}
            self._heard.append(("webchat", title, self.clock.epoch()))
            self._tell("message_updated", message, None)

    # -- the shop --

    def agent(self, conversation: int, text: str, *, private: bool = False, source_id: str | None = None) -> int:
        """An agent answers, or leaves a note for the others."""
        with self.lock:
            found = self.conversations[conversation]
            message = self._add(found, 1, text, AGENT, None, private=private, source_id=source_id)
            return self._tell("message_created", message, None)

    def ask(self, conversation: int, text: str, options: list[str]) -> int:
        """A bot asks."""
        with self.lock:
            items = [{"title": one, "value": one.lower()} for one in options]
            found = self.conversations[conversation]
            message = self._add(found, 1, text, BOT, None, content_type="input_select", attributes={"items": items})
            return self._tell("message_created", message, None)

    def resolve(self, conversation: int) -> None:
        """An agent closes the conversation; an activity says so to agents."""
        with self.lock:
            found = self.conversations[conversation]
            found.status = "resolved"
            self._add(found, 2, "Conversation was marked resolved by Nora Agent", None, None)
            body = {"event": "conversation_status_changed", "changed_attributes": [], "account": self._account()}
            self._push("conversation", str(conversation), {**self.conversation_row(found), **body}, None)

    def delete(self, number: int) -> None:
        """An agent deletes a message."""
        with self.lock:
            message = self.messages[number]
            message.text, message.attachments = "This message was deleted", []
            message.attributes = {"deleted": True}
            self._tell("message_updated", message, None)

    def set_status(self, number: int, status: str) -> None:
        """What becomes of a message of ours; the webhook that follows does not say it."""
        with self.lock:
            self.messages[number].status = status
            self._tell("message_updated", self.messages[number], None)

    def _add(
        self,
        conversation: Conversation,
        kind: int,
        text: str | None,
        sender: dict[str, Any] | None,
        at: float | None,
        **more: Any,
    ) -> Message:
        moment = self.clock.epoch() if at is None else at
        message = Message(len(self.messages) + 654, conversation.number, kind, text, moment, sender, **more)
        self.messages[message.number] = message
        conversation.active = max(conversation.active, moment)
        return message

    # -- webhooks --

    def connect(self, receiver_url: str) -> None:
        """Post to ``<receiver_url>/webhooks/chatwoot`` from now on."""
        self.webhook_url = f"{receiver_url.rstrip('/')}/webhooks/chatwoot"
        self.deliverer.start(self.webhook_url, self.webhook_secret)

    def flush(self, timeout: float = 10) -> None:
        """Wait until every webhook that was posted has been answered."""
        self.deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop posting."""
        self.deliverer.stop()

    def _tell(self, event: str, message: Message, delivery: Delivery | None) -> int:
        told = self._push("message", str(message.number), {**self.webhook_row(message), "event": event}, delivery)
        message.event = message.event or told
        return message.number

    def _push(self, kind: str, subject: str, body: dict[str, Any], delivery: Delivery | None) -> Event | None:
        """Post `body`; without an address nobody is told, and nobody will be."""
        if self.webhook_url is None:
            return None
        event = Event(kind, subject, body)
        self.deliverer.add(event, delivery)
        return event

    def _prepare(self, url: str, body: bytes, secret: str) -> tuple[str, dict[str, str]]:
        stamp = str(int(self.clock.epoch()))
        digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        return url, {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "X-Chatwoot-Signature": f"sha256={digest}",
            "X-Chatwoot-Timestamp": stamp,
            "X-Chatwoot-Delivery": str(uuid.uuid4()),
        }

    # -- how it is told --

    def webhook_row(self, message: Message) -> dict[str, Any]:
        """A message as a webhook has it."""
        row = {
            "account": self._account(), "additional_attributes": {}, "content_attributes": message.attributes,
            "content_type": message.content_type, "content": message.text,
            "conversation": self.conversation_row(self.conversations[message.conversation]),
            "created_at": datetime.fromtimestamp(message.at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "id": message.number, "inbox": {"id": 3, "name": "Website"}, "message_type": TYPES[message.kind],
            "private": message.private, "sender": message.sender, "source_id": message.source_id,
        }  # fmt: skip
        return {**row, **({"attachments": self._attachments(message)} if message.attachments else {})}

    def api_row(self, message: Message) -> dict[str, Any]:
        """A message as the API has it."""
        row = {
            "id": message.number, "content": message.text, "inbox_id": 3, "conversation_id": message.conversation,
            "message_type": message.kind, "content_type": message.content_type, "status": message.status,
            "content_attributes": message.attributes, "created_at": int(message.at), "private": message.private,
            "source_id": message.source_id,
        }  # fmt: skip
        row |= {"sender": message.sender} if message.sender else {}
        return {**row, **({"attachments": self._attachments(message)} if message.attachments else {})}

    @staticmethod
    def _attachments(message: Message) -> list[dict[str, Any]]:
        return [{**one, "message_id": message.number} for one in message.attachments]

    def conversation_row(self, one: Conversation, *, by_api: bool = False) -> dict[str, Any]:
        """A conversation; its channel stands elsewhere by the API."""
        last = max((m for m in self.messages.values() if m.conversation == one.number), key=lambda m: m.number,
                   default=None)  # fmt: skip
        meta = {"sender": one.contact.row(), "hmac_verified": one.contact.hmac_verified}
        row = {
            "id": one.number, "inbox_id": 3, "meta": meta, "status": one.status, "can_reply": True, "labels": [],
            "messages": [self.api_row(last)] if last else [], "custom_attributes": {}, "snoozed_until": None,
            "additional_attributes": {"browser_language": "en", "referer": "https://shop.example/chairs"},
            "agent_last_seen_at": 0, "contact_last_seen_at": int(one.seen), "last_activity_at": int(one.active),
            "timestamp": int(one.active), "created_at": int(one.at), "waiting_since": 0, "unread_count": 0,
        }  # fmt: skip
        if by_api:
            return {**row, "meta": {**meta, "channel": one.channel}, "account_id": self.account_id}
        inbox = {"id": 180, "inbox_id": 3, "source_id": "invented", "hmac_verified": one.contact.hmac_verified}
        return {**row, "channel": one.channel, "contact_inbox": inbox}

    def _account(self) -> dict[str, Any]:
        return {"id": self.account_id, "name": "Example Shop"}

    def heard(self) -> list[tuple[str, str | None, float]]:
        """(channel, words, epoch seconds) of every message and answer of a visitor."""
        with self.lock:
            return list(self._heard)

    def state(self) -> dict[str, Any]:
        """What visitors wrote, what they got, the notes, the account of webhooks."""
        with self.lock:
            rows = []
            for one in self.messages.values():
                event = one.event or Event("message", str(one.number), {}, dropped=True)
                told = {"dropped": event.dropped, "attempts": event.attempts, "accepted": event.accepted}
                rows.append({"id": one.number, "text": one.text, "at": one.at, "kind": TYPES[one.kind],
                             "private": one.private, "status": one.status, **told})  # fmt: skip
            return {
                "customer_messages": [row for row in rows if row["kind"] == "incoming"],
                "sent": [row for row in rows if row["kind"] in {"outgoing", "template"} and not row["private"]],
                "notes": [row for row in rows if row["private"]],
                "webhooks": self.deliverer.account(),
            }
