"""The stand-in of a channel of one's own: a shop's site that posts its contact form, its chat and its calls.

It has no API: all that it does is to post signed records of the contract (`onethread custom schema`), late, twice or in
another order, until they are accepted.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable
from typing import Any, Literal

from werkzeug.routing import Rule as Route

from sandbox.base import Rule, SandboxApp
from sandbox.deliverer import Deliverer, Delivery, Event

ROUTES = ("forms", "chat", "calls")
_SPECIFICATION = "github.com/standard-webhooks/standard-webhooks spec/standard-webhooks.md @b2fa7b8 (read 2026-11)"
_JUDGE = "standardwebhooks 1.1.0"


def secret_of(words: str) -> str:
    """A secret that is easy to tell in a test."""
    return "whsec_" + base64.b64encode(words.encode().ljust(24, b".")).decode()


class CustomSite(SandboxApp):
    """A site with three channels, each with its own secret. Methods are what its customers and its staff do.

    Args:
        secrets: of each route, and optionally the one before, with which the site then signs as well.
    """

    name = "custom"
    rules = (
        Rule(
            "HMAC-SHA256 of id.timestamp.body in webhook-signature, v1,<base64>", _SPECIFICATION, "documented", _JUDGE
        ),
        Rule("both secrets sign while one replaces the other", _SPECIFICATION, "documented", _JUDGE),
        Rule("webhook-id stays, webhook-timestamp is new with every try", _SPECIFICATION, "documented"),
        Rule("10 tries in 75 hours, then it is given up; here the pauses are short", _SPECIFICATION, "documented"),
    )

    def __init__(self, secrets: dict[str, tuple[str, str | None]] | None = None) -> None:
        super().__init__()
        self.secrets = secrets or {route: (secret_of(f"secret of {route}"), None) for route in ROUTES}
        self.deliverers = {
            route: Deliverer(self._compose, self._signed, max_tries=10, retry_seconds=(0.05, 0.1, 0.2, 0.4, 0.8))
            for route in self.secrets
        }
        self.told: list[dict[str, Any]] = []
        self._next = 0

    def routes(self) -> Iterable[Route]:
        """None: nobody asks the site anything."""
        return ()

    # What customers do

    def form(self, name: str, email: str, text: str, *, delivery: Delivery | None = None, **more: Any) -> str:
        """Somebody sends the contact form and types an address into it; its id."""
        who = {"email": email, "name": name}
        return self._tell("forms", {"kind": "form", "who": who, "text": text, **more}, delivery)

    def say(self, customer: int, text: str, *, delivery: Delivery | None = None, **who: Any) -> str:
        """A customer writes in the chat; `who` may have a name, and e-mail and phone if they have logged in."""
        person = {"id": customer, "verified": bool(who.keys() & {"email", "phone"}), **who}
        return self._tell("chat", {"kind": "message", "who": person, "text": text}, delivery)

    def answer(self, customer: int, text: str, agent: str) -> str:
        """One of the staff answers in the chat."""
        record = {
            "kind": "message",
            "direction": "out",
            "who": {"id": customer},
            "text": text,
            "author": {"name": agent},
        }
        return self._tell("chat", record, None)

    def call(self, phone: str, result: Literal["answered", "missed"], seconds: int = 0, note: str | None = None) -> str:
        """Somebody calls."""
        record: dict[str, Any] = {"kind": "call", "who": {"phone": phone}, "call": {"result": result}}
        if seconds:
            record["call"]["seconds"] = seconds
        return self._tell("calls", {**record, "text": note} if note else record, None)

    def edit(self, message: str, text: str) -> None:
        """A customer corrects a message of the chat."""
        self._change({"message": message, "change": "edit", "text": text})

    def unsend(self, message: str) -> None:
        """A customer takes a message of the chat back."""
        self._change({"message": message, "change": "unsend"})

    def read(self, message: str) -> None:
        """A customer has read an answer."""
        self._post("chat", {"kind": "receipt", "message": message, "status": "read", "occurred_at": self._now()}, None)

    def log_in(self, customer: int, email: str, phone: str) -> None:
        """A customer logs in: id, address and number are theirs."""
        who = {"id": customer, "email": email, "phone": phone, "verified": True}
        self._post("chat", {"kind": "same_person", "who": who, "observed_at": self._now()}, None)

    # For the demo

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect onethread to this site, which needs no address of its own."""
        del url
        values = {"ROUTES": ",".join(self.secrets), "ID_SCOPE": "shop"}
        for route, (secret, previous) in self.secrets.items():
            values[f"{route.upper()}_SECRET"] = secret
            if previous:
                values[f"{route.upper()}_PREVIOUS_SECRET"] = previous
        return {f"ONETHREAD_CUSTOM_{name}": value for name, value in values.items()}

    def connect(self, receiver_url: str) -> None:
        """Start to push, each route to its own address."""
        for route, deliverer in self.deliverers.items():
            secret, previous = self.secrets[route]
            deliverer.start(f"{receiver_url}/webhooks/custom/{route}", " ".join(filter(None, (secret, previous))))

    def play(self) -> None:
        """Three customers: one fills in the form, one chats and logs in, one calls and chats; one wants no more."""
        self.form(
            "Nia Okoro", "nia@mail.example", "How much are twenty vases?", fields={"Product": "Vase", "Quantity": 20}
        )
        self.form("Nia Okoro", "nia@mail.example", "And when?", delivery=Delivery(duplicate=1))
        first = self.say(4711, "Is the gren lamp back?", name="Teo")
        self.edit(first, "Is the green lamp back?")
        self.answer(4711, "Since Monday, Teo.", "Omar")
        chat = self.deliverers["chat"]
        chat.hold()
        self.say(4711, "Then I will come on Friday.")
        wrong = self.say(4711, "My card number is a secret")
        self.unsend(wrong)
        chat.release(reverse=True, together=False)
        self.log_in(4711, "teo@mail.example", "+12025550187")
        self.call("+12025550187", "answered", 95, "Asks whether the lamp is kept for Friday")
        self.call("+447700900787", "missed")
        self.say(4712, "STOP", email="ines@mail.example")

    def flush(self, timeout: float = 10) -> None:
        """Until everything was accepted, or given up."""
        for deliverer in self.deliverers.values():
            deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop pushing."""
        for deliverer in self.deliverers.values():
            deliverer.stop()

    def heard(self) -> list[tuple[str, str | None, float]]:
        """Every message, form and call of a customer: channel, words (``None``: none, or taken back), and when."""
        return [
            (one["route"], None if one["unsent"] else one["text"], float(one["at"]))
            for one in self.told
            if one["inbound"]
        ]

    def state(self) -> dict[str, Any]:
        """What customers and staff said, and what became of the posts of each route."""
        return {
            "told": self.told,
            "webhooks": {route: deliverer.account() for route, deliverer in self.deliverers.items()},
        }

    def _tell(self, route: str, record: dict[str, Any], delivery: Delivery | None) -> str:
        self._next += 1
        record_id, at = f"{route}-{self._next}", int(self.clock.epoch())
        self.told.append({
            "id": record_id, "route": route, "text": record.get("text"), "at": at, "unsent": False,
            "inbound": record.get("direction", "in") == "in",
        })  # fmt: skip
        self._post(route, {**record, "id": record_id, "sent_at": at}, delivery)
        return record_id

    def _change(self, change: dict[str, Any]) -> None:
        (subject,) = [one for one in self.told if one["id"] == change["message"]]
        subject["text"] = change.get("text", subject["text"])
        subject["unsent"] = change["change"] == "unsend"
        self._next += 1
        self._post("chat", {"kind": "change", "id": f"change-{self._next}", "changed_at": self._now(), **change}, None)

    def _post(self, route: str, record: dict[str, Any], delivery: Delivery | None) -> None:
        subject = str(record.get("id") or record.get("message") or record["kind"])
        self.deliverers[route].add(Event(record["kind"], subject, record), delivery)

    def _now(self) -> str:
        return self.clock.now().isoformat()

    @staticmethod
    def _compose(parts: list[dict[str, Any]]) -> bytes:
        return json.dumps(parts[0] if len(parts) == 1 else parts, ensure_ascii=False).encode()

    def _signed(self, url: str, body: bytes, secrets: str) -> tuple[str, dict[str, str]]:
        """The headers of one try. Equal bodies have one id, so that every try of a post has the same."""
        message_id = f"msg_{hashlib.sha256(body).hexdigest()[:24]}"
        timestamp = str(int(self.clock.epoch()))
        content = f"{message_id}.{timestamp}.".encode() + body
        keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets.split()]
        signatures = [base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys]
        return url, {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(f"v1,{one}" for one in signatures),
        }
