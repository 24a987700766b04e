"""The state of the stand-in of WhatsApp, how it becomes webhooks, and the platform's own account of both."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict
from typing import Any

from sandbox.deliverer import Delivery
from sandbox.meta import MetaApp, TokenBucket
from sandbox.whatsapp.records import DAY, TEMPLATES, TITLES, Customer, Media, Said, Sent, Template, digits
from sandbox.whatsapp.rules import RULES


class Account(MetaApp):
    """One business phone number of one WhatsApp Business Account, its customers and all messages.

    Args:
        phone_number_id: the id in the path of the API.
        waba_id: ``entry[].id`` of the webhooks.
        display_phone_number: the business's number, digits only.
        templates: what can be sent outside the window.
        reject_at_once: answer 400 for what the platform accepts and fails later (131026, 131047, 131050, ...).
        coexistence: the number is also used in the Business app: edits and revokes arrive, and echoes of the app.
        more: see `MetaApp`.

    Attributes:
        status_delays: seconds after acceptance at which each status is told; ``None``: only when a test says so.
        statuses_reversed: tell ``delivered`` before ``sent``.
        public_url: base of the media URLs in webhooks; without it they carry ids only.
        subscribed: whether our app is subscribed to the account's webhooks, as ``subscribed_apps`` tells.
    """

    name = "whatsapp"
    rules = RULES
    scopes: tuple[str, ...] = ("whatsapp_business_management", "whatsapp_business_messaging")

    def __init__(
        self,
        *,
        phone_number_id: str = "106540352242922",
        waba_id: str = "102290129340398",
        display_phone_number: str = "12025550199",
        templates: Iterable[Template] = TEMPLATES,
        reject_at_once: bool = False,
        coexistence: bool = False,
        **more: Any,
    ) -> None:
        self.phone_number_id = phone_number_id
        self.waba_id = waba_id
        self.display_phone_number = display_phone_number
        self.templates = {(one.name, one.language): one for one in templates}
        self.reject_at_once = reject_at_once
        self.coexistence = coexistence
        self.status_delays: dict[str, float | None] = {"sent": 0.0, "delivered": 0.0, "read": None}
        self.statuses_reversed = False
        self.public_url: str | None = None
        self.subscribed = True
        self.customers: dict[str, Customer] = {}
        self.said: dict[str, Said] = {}
        self.sent: dict[str, Sent] = {}
        self.media_files: dict[str, Media] = {}
        self.read_by_business: list[str] = []
        self.pair_rate = TokenBucket(45, 1 / 6)
        self.throughput = TokenBucket(80, 80)
        self._failures: list[int] = []
        super().__init__(**more)

    def compose(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Messages side by side go into one value; more than one change is spread over two entries."""
        changes: list[dict[str, Any]] = []
        for part in parts:
            value = part["value"]
            last = changes[-1]["value"] if changes else {}
            if "messages" in value and "contacts" in value and "messages" in last and "contacts" in last:
                last["messages"].extend(deepcopy(value["messages"]))
                last["contacts"].extend(one for one in value["contacts"] if one not in last["contacts"])
            else:
                changes.append(deepcopy(part))
        half = (len(changes) + 1) // 2
        entries = [{"id": self.waba_id, "changes": some} for some in (changes[:half], changes[half:]) if some]
        return {"object": "whatsapp_business_account", "entry": entries}

    def state(self) -> dict[str, Any]:
        """Customers with their windows, what they said, what they got, and the account of the webhooks."""
        customers = [
            {**asdict(one), "aliases": list(one.aliases), "window_open": self._window_open(one),
             "window_closes_at": one.last_message_at + DAY if one.last_message_at is not None else None}
            for one in self.customers.values()
        ]  # fmt: skip
        said = [
            {"id": one.id, "customer": one.customer, "kind": one.kind, "text": one.text, "at": one.at,
             "dropped": one.event.dropped, "attempts": one.event.attempts, "accepted": one.event.accepted}
            for one in self.said.values()
        ]  # fmt: skip
        sent = [
            {"id": one.id, "customer": one.customer, "to": one.to, "kind": one.kind, "text": one.text,
             "token": one.token, "at": one.at, "status": one.statuses[-1]["status"] if one.statuses else "accepted",
             "statuses": list(one.statuses), "times_seen": self._times_seen(one)}
            for one in self.sent.values()
        ]  # fmt: skip
        return {
            "customers": customers,
            "customer_messages": said,
            "sent": sent,
            "read_by_business": list(self.read_by_business),
            "webhooks": self.deliverer.account(),
        }

    def _times_seen(self, sent: Sent) -> int:
        """How often the customer has the same thing on the screen: same token, or same content without one."""
        if sent.failed:
            return 0
        return sum(
            1
            for one in self.sent.values()
            if one.customer == sent.customer
            and not one.failed
            and ((one.token == sent.token) if sent.token else (one.kind, one.content) == (sent.kind, sent.content))
        )

    # -- what both sides use --

    def _window_open(self, customer: Customer) -> bool:
        return customer.last_message_at is not None and self.clock.epoch() - customer.last_message_at <= DAY

    def _tell_statuses(self, sent: Sent, failure: int | None) -> None:
        if failure:
            self._status(sent, "failed", 0.0, failure)
            return
        named = [(status, delay) for status, delay in self.status_delays.items() if delay is not None]
        for status, delay in reversed(named) if self.statuses_reversed else named:
            self._status(sent, status, delay)

    def _status(self, sent: Sent, status: str, delay_seconds: float = 0.0, code: int | None = None) -> None:
        customer = self.customers.get(sent.customer or "")
        at = self.clock.epoch() + delay_seconds
        told: dict[str, Any] = {"id": sent.id, "status": status, "timestamp": str(int(at))}
        phone = digits(sent.to) if not sent.by_user_id else None
        if customer and (shown := (customer.phone if phone else customer.wa_id)):
            phone = shown
        if phone:
            told["recipient_id"] = phone
        if customer and customer.user_id and (sent.by_user_id or not code):
            told["recipient_user_id"] = customer.user_id
        if sent.token is not None:
            told["biz_opaque_callback_data"] = sent.token
        if status in {"sent", "delivered"}:
            free = sent.category == "service" or (
                sent.category == "utility" and customer and self._window_open(customer)
            )
            told["pricing"] = {"billable": not free, "pricing_model": "PMP", "category": sent.category,
                               "type": "free_customer_service" if free else "regular"}  # fmt: skip
        if code:
            title = TITLES.get(code, "Message failed")
            told["errors"] = [{"code": code, "title": title, "message": title, "error_data": {"details": title},
                               "href": "/documentation/business-messaging/whatsapp/support/error-codes"}]  # fmt: skip
        sent.statuses.append({"status": status, "at": at, **({"code": code} if code else {})})
        value = self._value(statuses=[told])
        if customer and customer.user_id and not code:
            value["contacts"] = [self._contact(customer, phone=phone, username=status != "sent")]
        self.tell("status", sent.id, {"field": "messages", "value": value}, Delivery(delay_seconds=delay_seconds))

    def _find(self, to: Any, user_id: Any) -> Customer | None:
        for person in self.customers.values():
            if digits(to) in {person.phone, *person.aliases} if to else person.user_id == user_id:
                return person
        return None

    def _value(self, **content: Any) -> dict[str, Any]:
        metadata = {"display_phone_number": self.display_phone_number, "phone_number_id": self.phone_number_id}
        return {"messaging_product": "whatsapp", "metadata": metadata, **content}

    @staticmethod
    def _contact(person: Customer, *, phone: str | None = None, username: bool = True) -> dict[str, Any]:
        profile = {"name": person.name, **({"username": person.username} if person.username and username else {})}
        ids = {"wa_id": phone or person.wa_id, "user_id": person.user_id}
        return {"profile": profile, **{key: value for key, value in ids.items() if value}}

    @staticmethod
    def _wamid(counterpart: str, *, outbound: bool = False) -> str:
        """An id in the shape of the real ones, which hold the counterpart's number (decoded from public examples)."""
        number = counterpart.lstrip("+").encode()[:64]
        unique = (secrets.token_hex(9) if outbound else "3A" + secrets.token_hex(9)).upper().encode()
        raw = b"\x1c\x18%c%b\x15\x02\x00%b\x18%c%b\x00" % (
            len(number), number, b"\x11" if outbound else b"\x12", len(unique), unique)  # fmt: skip
        return "wamid." + base64.b64encode(raw).decode()

    def _store(self, data: bytes, mime_type: str, filename: str | None, by: str) -> str:
        media_id = str(10**15 + secrets.randbelow(10**15))
        self.media_files[media_id] = Media(data, mime_type, filename, by, self.clock.epoch())
        return media_id

    def _media_url(self, media_id: str, base_url: str) -> str:
        until = int(self.clock.epoch()) + 300
        token = secrets.token_urlsafe(12)
        return f"{base_url.rstrip('/')}/whatsapp_business/attachments/?mid={media_id}&ext={until}&hash={token}"
