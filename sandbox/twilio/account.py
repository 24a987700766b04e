"""The state of the stand-in of Twilio, the people who write, how that becomes webhooks, and an account of all of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from sandbox.base import SandboxApp
from sandbox.deliverer import Deliverer, Delivery, Event
from sandbox.twilio.rules import RULES

DAY = 86_400
STOP = frozenset("STOP UNSUBSCRIBE END QUIT STOPALL REVOKE OPTOUT CANCEL".split())
START = frozenset("START UNSTOP YES".split())
HELP = frozenset("HELP INFO".split())


@dataclass(slots=True)
class Message:
    """One message in or out. `address` is the customer's, with a channel's prefix where it has one."""

    sid: str
    direction: str
    address: str
    number: str | None
    text: str
    at: float
    status: str
    media: list[str] = field(default_factory=list)
    service: str | None = None
    error: int | None = None
    callback: str | None = None
    event: Event | None = None

    @property
    def inbound(self) -> bool:
        """Whether the customer wrote it."""
        return self.direction == "inbound"


class Account(SandboxApp):
    """One Twilio account with its numbers, the people around it, and all messages.

    Args:
        number: our phone number.
        account_sid: the account.
        auth_token: its token: password of the API, key of the webhooks' signatures.
        shared_key: sign webhooks with this instead, by HMAC-SHA256.
        advanced_opt_out: tell `OptOutType` with STOP, START and HELP.
        sign_with_port: put the port into the address that is signed, as Twilio does at times.
        retries: how often a webhook is tried again, as ``#rc=`` in the address asks for; 0 is Twilio's default.
        timeout_seconds: how long a webhook may take.

    Attributes:
        keys: who may call the API: the account with its token; API keys can be added.
        told_after: seconds after a send at which ``sent`` and ``delivered`` are told; ``None``: never by itself.
    """

    name = "twilio"
    rules = RULES

    def __init__(
        self,
        *,
        number: str = "+12025550100",
        account_sid: str = "AC0123456789abcdef0123456789abcdef",
        auth_token: str = "sandbox-auth-token",  # noqa: S107 - invented, nothing else accepts it
        shared_key: str | None = None,
        advanced_opt_out: bool = False,
        sign_with_port: bool = False,
        retries: int = 0,
        timeout_seconds: float = 15.0,
    ) -> None:
        self.number = number
        self.account_sid = account_sid
        self.auth_token = auth_token
        self.keys = {account_sid: auth_token}
        self.shared_key = shared_key
        self.advanced_opt_out = advanced_opt_out
        self.sign_with_port = sign_with_port
        self.public_url = "https://api.twilio.com"
        self.webhook_url: str | None = None
        self.messages: dict[str, Message] = {}
        self.stopped: set[tuple[str, str]] = set()
        self.files: dict[str, tuple[bytes, str, str]] = {}
        self.told_after: dict[str, float | None] = {"sent": 0.0, "delivered": 0.0}
        self._heard: list[tuple[str, str | None, float]] = []
        self.deliverer = Deliverer(
            lambda parts: urlencode(parts[0]["form"]).encode(),
            self._prepare,
            max_tries=1 + retries,
            retry_seconds=(0.05,),
            timeout_seconds=timeout_seconds,
        )
        super().__init__()

    # -- people --

    def text(
        self, customer: str, text: str, *, delivery: Delivery | None = None, at: float | None = None, **form: str
    ) -> str:
        """Somebody writes an SMS, or on WhatsApp with ``whatsapp:`` before the number; the sid.

        Args:
            customer: phone, short code, sender id, or ``whatsapp:+...``.
            text: what they write.
            delivery: what happens to the webhook.
            at: when, if not now (a message whose webhook got lost while nobody listened).
            form: more parameters of the webhook.
        """
        return self._write(customer, text, [], delivery, at, form)

    def picture(
        self,
        customer: str,
        text: str = "",
        *,
        data: bytes = b"\x89PNG\r\n\x1a\npicture",
        mime_type: str = "image/png",
        delivery: Delivery | None = None,
    ) -> str:
        """Somebody sends an MMS with one file."""
        return self._write(customer, text, [(data, mime_type)], delivery, None, {})

    def read(self, sid: str) -> None:
        """Somebody reads what we sent on WhatsApp; SMS tells no such thing."""
        with self.lock:
            self.set_status(self.messages[sid], "read")

    def fail(self, sid: str, code: int) -> None:
        """The carrier does not deliver what we sent."""
        with self.lock:
            self.messages[sid].error = code
            self.set_status(self.messages[sid], "undelivered")

    def staff_text(self, customer: str, text: str) -> str:
        """Another program of ours sends an SMS: no webhook tells it, the list does."""
        with self.lock:
            return self.send(customer, self.number, text).sid

    def _write(
        self,
        customer: str,
        text: str,
        files: list[tuple[bytes, str]],
        delivery: Delivery | None,
        at: float | None,
        more: Mapping[str, str],
    ) -> str:
        with self.lock:
            sid = new_sid("MM" if files else "SM")
            whatsapp = customer.startswith("whatsapp:")
            number = f"whatsapp:{self.number}" if whatsapp else self.number
            media = [self._store(sid, data, mime_type) for data, mime_type in files]
            moment = self.clock.epoch() if at is None else at
            message = Message(sid, "inbound", customer, number, text, moment, "received", media)
            self.messages[sid] = message
            form = {
                "MessageSid": sid, "SmsSid": sid, "SmsMessageSid": sid, "AccountSid": self.account_sid,
                "From": customer, "To": number, "Body": text, "NumMedia": str(len(media)), "NumSegments": "1",
                "SmsStatus": "received", "ApiVersion": "2010-04-01",
            }  # fmt: skip
            if whatsapp:
                form |= {"WaId": customer.rpartition("+")[2], "MessageType": "image" if media else "text"}
            else:
                form |= {f"{side}{part}": "" for side in ("From", "To") for part in ("City", "State", "Zip", "Country")}
            for index, name in enumerate(media):
                form[f"MediaUrl{index}"] = f"{self.public_url}{self.media_path(sid, name)}"
                form[f"MediaContentType{index}"] = self.files[name][1]
            form |= self._opt_out(message) | dict(more)
            self._heard.append(("whatsapp" if whatsapp else "sms", text or None, moment))
            message.event = self._tell("message", sid, form, self.webhook_url, delivery)
            return sid

    def _opt_out(self, message: Message) -> dict[str, str]:
        """What STOP, START and HELP do; the parameter that tells it."""
        word = message.text.strip().upper()
        pair = (message.address, self.number)
        if word in STOP:
            self.stopped.add(pair)
            self._confirm(message, "You have successfully been unsubscribed. Reply START to resubscribe.")
        elif word in START and pair in self.stopped:
            self.stopped.discard(pair)
            self._confirm(message, "You have successfully been re-subscribed.")
        kind = "STOP" if word in STOP else "START" if word in START else "HELP" if word in HELP else None
        return {"OptOutType": kind} if kind and self.advanced_opt_out else {}

    def _confirm(self, message: Message, text: str) -> None:
        sid = new_sid("SM")
        self.messages[sid] = Message(
            sid, "outbound-reply", message.address, message.number, text, message.at, "delivered"
        )

    # -- our messages --

    def send(
        self,
        to: str,
        number: str | None,
        text: str,
        *,
        media: list[str] | None = None,
        service: str | None = None,
        callback: str | None = None,
    ) -> Message:
        """A message of ours, taken; its statuses follow."""
        sid = new_sid("MM" if media else "SM")
        message = Message(
            sid, "outbound-api", to, number, text, self.clock.epoch(), "queued", [], service, callback=callback
        )
        self.messages[sid] = message
        if to.startswith("whatsapp:") and not self._within_window(to):
            message.error = 63016
            self.set_status(message, "failed")
            return message
        for status, delay in self.told_after.items():
            if delay is not None:
                self.set_status(message, status, Delivery(delay_seconds=delay))
        return message

    def set_status(self, message: Message, status: str, delivery: Delivery | None = None) -> None:
        """A new status, told to the message's callback if it has one."""
        message.status = status
        form = {
            "MessageSid": message.sid, "SmsSid": message.sid, "AccountSid": self.account_sid,
            "ApiVersion": "2010-04-01", "From": message.number or "", "To": message.address,
            "MessageStatus": status, "SmsStatus": status,
        }  # fmt: skip
        if message.error is not None:
            form["ErrorCode"] = str(message.error)
        self._tell("status", message.sid, form, message.callback, delivery)

    def _within_window(self, to: str) -> bool:
        now = self.clock.epoch()
        return any(one.inbound and one.address == to and now - one.at <= DAY for one in self.messages.values())

    # -- webhooks --

    def connect(self, receiver_url: str) -> None:
        """Post incoming messages to ``<receiver_url>/webhooks/twilio`` from now on."""
        self.webhook_url = f"{receiver_url.rstrip('/')}/webhooks/twilio"
        self.deliverer.start(self.webhook_url, self.shared_key or self.auth_token)

    def flush(self, timeout: float = 10) -> None:
        """Wait until every webhook that was posted has been answered."""
        self.deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop posting."""
        self.deliverer.stop()

    def _tell(
        self, kind: str, sid: str, form: dict[str, str], url: str | None, delivery: Delivery | None
    ) -> Event | None:
        """Post a form to `url`; without one nobody is told, and nobody will be."""
        if url is None:
            return None
        event = Event(kind, sid, {"form": form})
        self.deliverer.add(event, delivery)
        return event

    def _prepare(self, url: str, body: bytes, secret: str) -> tuple[str, dict[str, str]]:
        form = parse_qsl(body.decode(), keep_blank_values=True)
        named = dict(form)
        if "MessageStatus" in named:
            url = self.messages[named["MessageSid"]].callback or url
        digest = hashlib.sha256 if self.shared_key else hashlib.sha1
        text = self._signed_address(url) + "".join(name + value for name, value in sorted(form))
        signature = base64.b64encode(hmac.new(secret.encode(), text.encode(), digest).digest()).decode()
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            "User-Agent": "TwilioProxy/1.1",
            "X-Twilio-Signature": signature,
            "I-Twilio-Idempotency-Token": hashlib.sha256(body).hexdigest()[:32],
        }
        if self.shared_key:
            headers["X-Twilio-Webhooks-Signature-Settings"] = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"
        return url, headers

    def _signed_address(self, url: str) -> str:
        """The address with its port where Twilio puts it, without where it does not."""
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        name, _, port = host.partition(":")
        port = port or ("443" if scheme == "https" else "80")
        return f"{scheme}://{name}{f':{port}' if self.sign_with_port else ''}{slash}{path}"

    # -- files and the account --

    def _store(self, sid: str, data: bytes, mime_type: str) -> str:
        name = new_sid("ME")
        self.files[name] = (data, mime_type, sid)
        return name

    def media_path(self, sid: str, name: str) -> str:
        """Where a file of a message is, as the API has it."""
        return f"/2010-04-01/Accounts/{self.account_sid}/Messages/{sid}/Media/{name}"

    def heard(self) -> list[tuple[str, str | None, float]]:
        """(channel, words, epoch seconds) of every message that a customer wrote."""
        with self.lock:
            return list(self._heard)

    def state(self) -> dict[str, Any]:
        """What people wrote, what they got, who has stopped, the account of webhooks."""
        with self.lock:
            rows = []
            for one in self.messages.values():
                event = one.event or Event("message", one.sid, {}, dropped=True)
                row = {"id": one.sid, "customer": one.address, "text": one.text, "at": one.at, "media": len(one.media)}
                told = {"dropped": event.dropped, "attempts": event.attempts, "accepted": event.accepted}
                rows.append((one.direction, {**row, **(told if one.inbound else {"status": one.status})}))
            return {
                "customer_messages": [row for direction, row in rows if direction == "inbound"],
                "sent": [row for direction, row in rows if direction == "outbound-api"],
                "answered": [row for direction, row in rows if direction == "outbound-reply"],
                "stopped": sorted(customer for customer, _ in self.stopped),
                "webhooks": self.deliverer.account(),
            }


def new_sid(prefix: str) -> str:
    """An id as Twilio makes them."""
    return f"{prefix}{secrets.token_hex(16)}"


def rfc2822(epoch: float) -> str:
    """A time as Twilio writes it."""
    return format_datetime(datetime.fromtimestamp(int(epoch), UTC))
