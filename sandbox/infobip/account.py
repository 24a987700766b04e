"""The state of the stand-in of Infobip: senders, people who write on four channels, webhooks, inbox, conversations."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sandbox.base import SandboxApp
from sandbox.deliverer import Deliverer, Delivery, Event
from sandbox.infobip.rules import RULES

HMAC_HEADER = "X-Sandbox-Hmac"
PRICE = {"pricePerMessage": 0.0, "currency": "EUR"}
CHANNELS = {"sms": "SMS", "whatsapp": "WHATSAPP", "viber": "VIBER", "apple": "APPLE_BC"}
DELIVERED = {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET",
             "description": "Message delivered to handset"}  # fmt: skip
UNDELIVERABLE = {"groupId": 2, "groupName": "UNDELIVERABLE", "id": 9, "name": "UNDELIVERABLE_NOT_DELIVERED",
                 "description": "Message sent not delivered"}  # fmt: skip
NO_ERROR = {"groupId": 0, "groupName": "OK", "id": 0, "name": "NO_ERROR", "description": "No Error",
            "permanent": False}  # fmt: skip
ABSENT = {"groupId": 1, "groupName": "HANDSET_ERRORS", "id": 27, "name": "EC_ABSENT_SUBSCRIBER",
          "description": "Absent Subscriber", "permanent": False}  # fmt: skip


@dataclass(slots=True)
class Said:
    """One message, in or out, as a conversation has it."""

    row_id: str
    message_id: str
    conversation_id: str
    channel: str
    customer: str
    inbound: bool
    content: Any
    content_type: str
    at: float
    event: Event | None = None


class Account(SandboxApp):
    """One Infobip account with a sender on each channel, and the people around it.

    Args:
        api_key: who may call the API.
        secret: by which pushes prove themselves.
        proof: ``hmac``, ``basic`` or ``header``.
        forward_sms: whether SMS are pushed; else they wait in the inbox.
        retries: how often a push is tried again.

    Attributes:
        senders: our sender by channel.
    """

    name = "infobip"
    rules = RULES

    def __init__(
        self,
        *,
        api_key: str = "sandbox-api-key-0123456789",
        secret: str = "sandbox-webhook-secret",  # noqa: S107 - invented, nothing else accepts it
        proof: Literal["hmac", "basic", "header"] = "hmac",
        forward_sms: bool = True,
        retries: int = 4,
    ) -> None:
        self.api_key = api_key
        self.secret = secret
        self.proof = proof
        self.forward_sms = forward_sms
        self.senders = {"sms": "447700900990", "whatsapp": "447700900991", "viber": "Example Shop",
                        "apple": "a42fa0e0-1d5f-44f6-a321-0e40300f7712"}  # fmt: skip
        self.public_url = "https://sandbox.api.infobip.com"
        self.webhook_url: str | None = None
        self.said: list[Said] = []
        self.inbox: list[tuple[float, dict[str, Any]]] = []
        self.reports: list[dict[str, Any]] = []
        self.files: dict[str, tuple[bytes, str]] = {}
        self.sent: dict[str, dict[str, Any]] = {}
        self._heard: list[tuple[str, str | None, float]] = []
        self.deliverer = Deliverer(_compose, self._prepare, max_tries=1 + retries)
        super().__init__()

    # -- people --

    def text(
        self, customer: str, text: str, *, channel: str = "sms", delivery: Delivery | None = None,
        at: float | None = None, **message: Any,
    ) -> str:  # fmt: skip
        """Somebody writes; the message's id.

        Args:
            customer: digits of a phone; at Apple an opaque id.
            text: what they write.
            channel: ``sms``, ``whatsapp``, ``viber`` or ``apple``.
            delivery: what happens to the webhook.
            at: when, if not now.
            message: more of the message, e.g. ``context``.
        """
        return self._write(channel, customer, {"type": "TEXT", "text": text, **message}, text, delivery, at)

    def picture(self, customer: str, caption: str, *, data: bytes = b"\x89PNG\r\n\x1a\n picture") -> str:
        """Somebody sends a picture on WhatsApp."""
        name = secrets.token_hex(16)
        self.files[name] = (data, "image/png")
        url = f"{self.public_url}/whatsapp/1/senders/{self.senders['whatsapp']}/media/{name}"
        return self._write("whatsapp", customer, {"type": "IMAGE", "url": url, "caption": caption}, caption, None, None)

    def react(self, customer: str, message_id: str, emoji: str | None) -> None:
        """Somebody puts a reaction on a WhatsApp message, or takes it back with ``None``."""
        about = {"from": self.senders["whatsapp"], "id": message_id}
        message = {"type": "REACTION", "action": "ADDED" if emoji else "REMOVED", "context": about}
        result = self._result("whatsapp", customer, {**message, **({"emoji": emoji} if emoji else {})}, self._moment())
        self._push("reaction", result, None)

    def send(self, to: str, text: str, *, channel: str = "sms", message_id: str | None = None, **more: Any) -> str:
        """We send, and the customer gets it; the message's id. `more` is part of the report."""
        with self.lock:
            message_id = message_id or secrets.token_hex(16)
            self.sent[message_id] = {"channel": channel, "to": to, "text": text, "sentAt": self._moment(), **more}
            self._keep(channel, to, message_id, text, "TEXT", self.clock.epoch(), inbound=False)
            self.report(message_id, DELIVERED)
            return message_id

    def fail(self, message_id: str) -> None:
        """The customer does not get what we sent."""
        self.report(message_id, UNDELIVERABLE, ABSENT)

    def read(self, message_id: str) -> None:
        """The customer sees what we sent on WhatsApp or Viber."""
        with self.lock:
            one = self.sent[message_id]
            result = {"messageId": message_id, "from": self.senders[one["channel"]], "to": one["to"],
                      "sentAt": one["sentAt"], "seenAt": self._moment(), **self._contact(one)}  # fmt: skip
            self._push("seen", result, None)

    def report(self, message_id: str, status: Mapping[str, Any], error: Mapping[str, Any] = NO_ERROR) -> None:
        """Tell what became of a message of ours: by push, or for whoever asks for reports."""
        with self.lock:
            one = self.sent[message_id]
            result = {"bulkId": f"bulk-{message_id[:8]}", "price": PRICE, "status": dict(status), "error": dict(error),
                      "messageId": message_id, "to": one["to"], "sentAt": one["sentAt"], "doneAt": self._moment(),
                      "messageCount": 1}  # fmt: skip
            if one.get("callbackData"):
                result["callbackData"] = one["callbackData"]
            if one["channel"] == "whatsapp":
                result |= self._contact(one)
            else:
                result["sender"] = self.senders[one["channel"]]
            if self.webhook_url is None:
                self.reports.append(result)
            else:
                self._push("report", result, None)

    def _contact(self, one: Mapping[str, Any]) -> dict[str, Any]:
        return {"contact": _contact_of(one["to"])} if one["channel"] == "whatsapp" else {}

    def _write(
        self, channel: str, customer: str, message: dict[str, Any], words: str, delivery: Delivery | None,
        at: float | None,
    ) -> str:  # fmt: skip
        with self.lock:
            moment = self.clock.epoch() if at is None else at
            result = self._result(channel, customer, message, infobip_time(moment))
            message_id: str = result["messageId"]
            content: Any = words if message["type"] == "TEXT" else {"url": message["url"], "caption": words}
            one = self._keep(channel, customer, message_id, content, message["type"], moment, inbound=True)
            self._heard.append((channel, words or None, moment))
            if channel == "sms" and not self.forward_sms:
                self.inbox.append((moment, result))
            else:
                one.event = self._push("message", result, delivery)
            return message_id

    def _result(self, channel: str, customer: str, message: dict[str, Any], moment: str) -> dict[str, Any]:
        number = str(10**18 + secrets.randbelow(10**17))
        whole = {"to": self.senders[channel], "receivedAt": moment, "messageId": number, "price": PRICE}
        if channel == "sms":
            text = message["text"]
            return {**whole, "from": customer, "text": text, "cleanText": text, "keyword": "", "smsCount": 1}
        whole |= {"integrationType": CHANNELS[channel], "message": message}
        if channel == "whatsapp":
            wamid = f"wamid.{base64.b64encode(number.encode()).decode()}"
            return {**whole, "from": customer, "messageId": wamid, "contact": _contact_of(customer)}
        if channel == "apple":
            context = {"intent": "question", "group": "sales", "locale": "en_GB", "capabilityList": ["QUICK_REPLY"]}
            whole["message"] = {"context": context, **message}
        return {**whole, "sender": customer}

    def _keep(
        self, channel: str, customer: str, message_id: str, content: Any, content_type: str, at: float, *, inbound: bool
    ) -> Said:
        conversation = hashlib.md5(f"{channel}|{customer}".encode(), usedforsecurity=False).hexdigest().upper()
        one = Said(secrets.token_hex(16).upper(), message_id, conversation, channel, customer, inbound, content,
                   content_type, at)  # fmt: skip
        self.said.append(one)
        return one

    def _moment(self) -> str:
        return infobip_time(self.clock.epoch())

    # -- webhooks --

    def connect(self, receiver_url: str) -> None:
        """Push to ``<receiver_url>/webhooks/infobip`` from now on."""
        self.webhook_url = f"{receiver_url.rstrip('/')}/webhooks/infobip"
        self.deliverer.start(self.webhook_url, self.secret)

    def flush(self, timeout: float = 10) -> None:
        """Wait until every push has been answered."""
        self.deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop pushing."""
        self.deliverer.stop()

    def _push(self, kind: str, result: dict[str, Any], delivery: Delivery | None) -> Event | None:
        if self.webhook_url is None:
            return None
        event = Event(kind, result["messageId"], result)
        self.deliverer.add(event, delivery)
        return event

    def _prepare(self, url: str, body: bytes, secret: str) -> tuple[str, dict[str, str]]:
        headers = {"Content-Type": "application/json", "User-Agent": "Infobip"}
        match self.proof:
            case "hmac":
                headers[HMAC_HEADER] = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
            case "basic":
                headers["Authorization"] = f"Basic {base64.b64encode(f'infobip:{secret}'.encode()).decode()}"
            case _:
                headers["X-Webhook-Secret"] = secret
        return url, headers

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect tap and receiver to this stand-in at `url`."""
        self.public_url = url
        proofs = {
            "hmac": {"HMAC_SECRET": self.secret, "HMAC_HEADER": HMAC_HEADER},
            "basic": {"WEBHOOK_USERNAME": "infobip", "WEBHOOK_PASSWORD": self.secret},
            "header": {"WEBHOOK_HEADER": "X-Webhook-Secret", "WEBHOOK_HEADER_VALUE": self.secret},
        }
        named = {
            "API_URL": url, "API_KEY": self.api_key, "CONVERSATIONS": "true",
            "INBOX": "false" if self.forward_sms else "true", **proofs[self.proof],
            "SENDERS": json.dumps([f"{channel}:{sender}" for channel, sender in self.senders.items()]),
        }  # fmt: skip
        return {f"ONETHREAD_INFOBIP_{name}": value for name, value in named.items()}

    # -- the account of it --

    def heard(self) -> list[tuple[str, str | None, float]]:
        """(channel, words, epoch seconds) of every message that a customer wrote."""
        with self.lock:
            return list(self._heard)

    def state(self) -> dict[str, Any]:
        """What people wrote, what they got, what waits, the account of webhooks."""
        with self.lock:
            rows = []
            for one in self.said:
                event = one.event or Event("message", one.message_id, {}, dropped=True)
                rows.append((one.inbound, {
                    "id": one.message_id, "channel": one.channel, "customer": one.customer, "content": one.content,
                    "at": one.at, "dropped": event.dropped, "attempts": event.attempts, "accepted": event.accepted,
                }))  # fmt: skip
            return {
                "customer_messages": [row for inbound, row in rows if inbound],
                "sent": [{"id": message_id, **one} for message_id, one in self.sent.items()],
                "inbox": len(self.inbox),
                "webhooks": self.deliverer.account(),
            }


def _contact_of(phone: str) -> dict[str, str]:
    """What WhatsApp tells of a customer."""
    return {"name": f"Customer {phone[-3:]}", "phoneNumber": phone, "userId": f"GB.{phone[-9:]}",
            "username": f"customer{phone[-3:]}"}  # fmt: skip


def _compose(parts: list[dict[str, Any]]) -> bytes:
    inbound = {} if "status" in parts[0] or "seenAt" in parts[0] else {"messageCount": len(parts)}
    pending = {"pendingMessageCount": 0} if inbound else {}
    return json.dumps({"results": parts, **inbound, **pending}, ensure_ascii=False).encode()


def infobip_time(epoch: float) -> str:
    """A time as Infobip writes it."""
    moment = datetime.fromtimestamp(epoch, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+0000"
