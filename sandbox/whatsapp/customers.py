"""What customers do: write, send media, react, tap, change their number, stop marketing; by method or over HTTP."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable
from typing import Any

from sandbox.deliverer import Delivery
from sandbox.whatsapp.account import Account
from sandbox.whatsapp.records import DAY, Customer, Said, digits

_TINY_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Customers(Account):
    """The customers of the business, to be played. Actions return the wamid of what they sent."""

    actions = frozenset({
        "text", "media", "location", "contact_card", "react", "unreact", "button_reply", "list_reply",
        "template_button", "order", "product_inquiry", "unsupported", "from_ad", "change_number", "change_user_id",
        "edit", "revoke", "stop_marketing", "resume_marketing", "read", "app_text",
    })  # fmt: skip

    def add_customer(
        self,
        name: str,
        phone: str | None = None,
        user_id: str | None = None,
        *,
        username: str | None = None,
        shows_phone: bool = True,
        aliases: Iterable[str] = (),
    ) -> str:
        """A person: with phone and user id, with a user id alone, or with a phone alone (before April 2026).

        Returns the name that the actions know the person by. `aliases` are other forms of the number that reach it.
        """
        if not phone and not user_id:
            message = "a customer needs a phone number or a user id"
            raise ValueError(message)
        with self.lock:
            key = f"customer-{len(self.customers) + 1}"
            numbers = tuple(digits(one) for one in aliases)
            self.customers[key] = Customer(
                key, name, digits(phone) if phone else None, user_id, username, shows_phone, numbers
            )
            return key

    def add_customer_from_json(self, values: dict[str, Any]) -> dict[str, Any]:
        """``{"name", "phone"?, "user_id"?, "username"?, "shows_phone"?, "aliases"?}``."""
        return {"customer": self.add_customer(**values)}

    def text(self, customer: str, text: str, *, reply_to: str | None = None, delivery: Delivery | None = None) -> str:
        """The customer writes; answers `reply_to` when given. Returns the wamid, as all that write do."""
        return self._say(customer, "text", {"text": {"body": text}}, text, reply_to=reply_to, delivery=delivery)

    def media(
        self,
        customer: str,
        kind: str = "image",
        *,
        data: bytes | str = _TINY_PNG,
        mime_type: str = "image/png",
        caption: str | None = None,
        filename: str | None = None,
        reply_to: str | None = None,
        delivery: Delivery | None = None,
    ) -> str:
        """The customer sends an image, video, audio (a voice note), document or sticker; text `data` is base64."""
        data = base64.b64decode(data) if isinstance(data, str) else data
        media_id = self._store(data, mime_type, filename, "customer")
        content: dict[str, Any] = {
            "id": media_id, "mime_type": mime_type,
            "sha256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
        }  # fmt: skip
        if self.public_url:
            content["url"] = self._media_url(media_id, self.public_url)
        content |= {"audio": {"voice": True}, "sticker": {"animated": False}}.get(kind, {})
        content |= {key: value for key, value in (("caption", caption), ("filename", filename)) if value}
        return self._say(customer, kind, {kind: content}, caption, reply_to=reply_to, delivery=delivery)

    def location(
        self, customer: str, latitude: float, longitude: float, *, delivery: Delivery | None = None, **more: str
    ) -> str:
        """The customer shares a place; `more`: name, address, url."""
        place = {"latitude": latitude, "longitude": longitude, **more}
        return self._say(customer, "location", {"location": place}, more.get("name"), delivery=delivery)

    def contact_card(self, customer: str, name: str, phone: str, *, delivery: Delivery | None = None) -> str:
        """The customer shares somebody's contact card."""
        first, _, last = name.partition(" ")
        names = {"first_name": first, "formatted_name": name, **({"last_name": last} if last else {})}
        card = {"name": names, "phones": [{"phone": phone, "wa_id": digits(phone), "type": "MOBILE"}]}
        return self._say(customer, "contacts", {"contacts": [card]}, name, delivery=delivery)

    def react(self, customer: str, message_id: str, emoji: str = "👍", *, delivery: Delivery | None = None) -> str:
        """The customer reacts to a message."""
        content = {"reaction": {"message_id": message_id, "emoji": emoji}}
        return self._say(customer, "reaction", content, emoji, delivery=delivery)

    def unreact(
        self, customer: str, message_id: str, *, leave_out: bool = False, delivery: Delivery | None = None
    ) -> str:
        """The customer takes the reaction back: an empty emoji, or none at all with `leave_out`."""
        content = {"reaction": {"message_id": message_id, **({} if leave_out else {"emoji": ""})}}
        return self._say(customer, "reaction", content, None, delivery=delivery)

    def button_reply(
        self, customer: str, message_id: str, button: str, title: str, *, delivery: Delivery | None = None
    ) -> str:
        """The customer taps a button of an interactive message."""
        content = {"interactive": {"type": "button_reply", "button_reply": {"id": button, "title": title}}}
        return self._say(customer, "interactive", content, title, reply_to=message_id, delivery=delivery)

    def list_reply(
        self,
        customer: str,
        message_id: str,
        row: str,
        title: str,
        *,
        description: str = "",
        delivery: Delivery | None = None,
    ) -> str:
        """The customer picks a row of a list."""
        picked = {"id": row, "title": title, "description": description}
        content = {"interactive": {"type": "list_reply", "list_reply": picked}}
        return self._say(customer, "interactive", content, title, reply_to=message_id, delivery=delivery)

    def template_button(self, customer: str, message_id: str, text: str, *, delivery: Delivery | None = None) -> str:
        """The customer taps a quick reply of a template."""
        content = {"button": {"payload": text, "text": text}}
        return self._say(customer, "button", content, text, reply_to=message_id, delivery=delivery)

    def order(
        self, customer: str, items: list[dict[str, Any]], *, text: str = "", delivery: Delivery | None = None
    ) -> str:
        """The customer orders; items: ``{"product_retailer_id", "quantity", "item_price", "currency"}``."""
        content = {"order": {"catalog_id": "194836987003835", "text": text, "product_items": items}}
        return self._say(customer, "order", content, text, delivery=delivery)

    def product_inquiry(self, customer: str, text: str, product: str, *, delivery: Delivery | None = None) -> str:
        """The customer asks about a product of the catalogue."""
        about = {"catalog_id": "194836987003835", "product_retailer_id": product}
        context = {"from": self.display_phone_number, "id": self._wamid(product), "referred_product": about}
        return self._say(customer, "text", {"text": {"body": text}, "context": context}, text, delivery=delivery)

    def unsupported(self, customer: str, *, delivery: Delivery | None = None) -> str:
        """The customer sends something that the API does not carry (a poll, a view-once photo)."""
        error = {"code": 131051, "title": "Message type unknown", "message": "Message type unknown",
                 "error_data": {"details": "Message type is currently not supported."}}  # fmt: skip
        return self._say(customer, "unsupported", {"errors": [error]}, None, delivery=delivery)

    def from_ad(
        self, customer: str, text: str, *, ad_id: str = "120226305854810726", delivery: Delivery | None = None
    ) -> str:
        """The customer's first message after a click on an ad."""
        referral = {
            "source_url": "https://ads.example/3cr4Wqqkv", "source_id": ad_id, "source_type": "ad",
            "headline": "Chat with us", "body": "Summer is here!", "media_type": "image",
            "image_url": "https://ads.example/image.jpg", "ctwa_clid": secrets.token_urlsafe(32),
        }  # fmt: skip
        return self._say(customer, "text", {"text": {"body": text}, "referral": referral}, text, delivery=delivery)

    def edit(self, customer: str, message_id: str, text: str, *, delivery: Delivery | None = None) -> str:
        """The customer edits a text of the last 15 minutes; without coexistence it arrives as unsupported."""
        if self.clock.epoch() - self.said[message_id].at > 15 * 60:
            message = "a message can be edited for 15 minutes"
            raise ValueError(message)
        if not self.coexistence:
            return self.unsupported(customer, delivery=delivery)
        edited = {"original_message_id": message_id, "message": {"type": "text", "text": {"body": text}}}
        return self._say(customer, "edit", {"edit": edited}, text, delivery=delivery)

    def revoke(self, customer: str, message_id: str, *, delivery: Delivery | None = None) -> str:
        """The customer deletes a message of the last 2 days; without coexistence it arrives as unsupported."""
        if self.clock.epoch() - self.said[message_id].at > 2 * DAY:
            message = "a message can be deleted for 2 days"
            raise ValueError(message)
        if not self.coexistence:
            return self.unsupported(customer, delivery=delivery)
        return self._say(customer, "revoke", {"revoke": {"original_message_id": message_id}}, None, delivery=delivery)

    def change_number(
        self, customer: str, phone: str, *, user_id: str | None = None, delivery: Delivery | None = None
    ) -> str:
        """The customer takes a new number: ``user_changed_number``; with a new `user_id` also ``user_id_update``."""
        with self.lock:
            person = self.customers[customer]
            old, new = person.phone, digits(phone)
            system = {"body": f"User {person.name} changed from {old} to {new}", "wa_id": new,
                      "type": "user_changed_number"}  # fmt: skip
            return self._changed_identity(person, system, old, new, user_id, delivery)

    def change_user_id(
        self, customer: str, user_id: str, *, phone: str | None = None, delivery: Delivery | None = None
    ) -> str:
        """The customer's business-scoped id changes: ``user_changed_user_id`` and ``user_id_update``."""
        with self.lock:
            person = self.customers[customer]
            if person.user_id is None:
                message = "a customer without a user id has none to change"
                raise ValueError(message)
            system: dict[str, Any] = {"body": f"User {person.name} changed from {person.user_id} to {user_id}",
                                      "type": "user_changed_user_id"}  # fmt: skip
            new = digits(phone) if phone else person.phone
            if new and person.shows_phone:
                system["wa_id"] = new
            return self._changed_identity(person, system, person.wa_id, new, user_id, delivery)

    def stop_marketing(self, customer: str, *, delivery: Delivery | None = None) -> None:
        """The customer stops marketing messages, in WhatsApp's own settings."""
        self._prefer(customer, "stop", "User requested to stop marketing messages", delivery)

    def resume_marketing(self, customer: str, *, delivery: Delivery | None = None) -> None:
        """The customer takes marketing messages again."""
        self._prefer(customer, "resume", "User requested to resume marketing messages", delivery)

    def read(self, customer: str, message_id: str | None = None) -> int:
        """The customer reads one message of ours, or all that were delivered; how many."""
        with self.lock:
            seen = [one for one in self.sent.values() if one.customer == customer and message_id in {None, one.id}]
            unread = [one for one in seen if not {"read", "failed"} & {status["status"] for status in one.statuses}]
            for one in unread:
                self._status(one, "read")
            return len(unread)

    def app_text(self, customer: str, text: str, *, delivery: Delivery | None = None) -> str:
        """Somebody of the business writes in the Business app (coexistence): an echo, no statuses."""
        with self.lock:
            person = self.customers[customer]
            message_id = self._wamid(person.phone or str(person.user_id), outbound=True)
            echo: dict[str, Any] = {"from": self.display_phone_number, "id": message_id, "type": "text",
                                    "timestamp": str(int(self.clock.epoch())), "text": {"body": text}}  # fmt: skip
            echo |= {key: value for key, value in (("to", person.wa_id), ("to_user_id", person.user_id)) if value}
            value = self._value(message_echoes=[echo])
            if person.user_id:
                value["contacts"] = [self._contact(person)]
            self.tell("echo", message_id, {"field": "smb_message_echoes", "value": value}, delivery)
            return message_id

    def fail_next(self, code: int) -> None:
        """The next message is accepted and then fails with `code` (131049, 130472, ...)."""
        self._failures.append(code)

    def _say(
        self, customer: str, kind: str, content: dict[str, Any], text: str | None,
        *, reply_to: str | None = None, delivery: Delivery | None = None,
    ) -> str:  # fmt: skip
        with self.lock:
            person = self.customers[customer]
            now = self.clock.epoch()
            message: dict[str, Any] = {"id": self._wamid(person.phone or str(person.user_id)),
                                       "timestamp": str(int(now)), "type": kind, **content}  # fmt: skip
            message |= {
                key: value for key, value in (("from", person.wa_id), ("from_user_id", person.user_id)) if value
            }
            if reply_to:
                ours = reply_to in self.sent
                author = self.display_phone_number if ours else person.wa_id
                message["context"] = {"id": reply_to, **({"from": author} if author else {})}
            person.last_message_at = now
            value = self._value(contacts=[self._contact(person)], messages=[message])
            event = self.tell("message", message["id"], {"field": "messages", "value": value}, delivery)
            self.said[message["id"]] = Said(message["id"], customer, kind, text, now, event)
            return str(message["id"])

    def _changed_identity(
        self, person: Customer, system: dict[str, Any], sender: str | None, phone: str | None, user_id: str | None,
        delivery: Delivery | None,
    ) -> str:  # fmt: skip
        now = str(int(self.clock.epoch()))
        message: dict[str, Any] = {"id": self._wamid(sender or str(person.user_id)), "timestamp": now,
                                   "type": "system", "system": system}  # fmt: skip
        if sender:
            message["from"] = sender
        if user_id:
            system["user_id"] = user_id
        event = self.tell(
            "system", message["id"], {"field": "messages", "value": self._value(messages=[message])}, delivery
        )
        self.said[message["id"]] = Said(message["id"], person.customer, "system", None, self.clock.epoch(), event)
        previous, person.phone = person.user_id, phone
        if user_id:
            person.user_id = user_id
        if user_id and previous:
            shown = {"wa_id": person.wa_id} if person.wa_id else {}
            update = {"detail": f"User id for {person.name} has been updated.", "timestamp": now, **shown,
                      "user_id": {"previous": previous, "current": user_id}}  # fmt: skip
            value = self._value(contacts=[{"profile": {"name": person.name}, **shown}], user_id_update=[update])
            self.tell("user_id_update", message["id"], {"field": "user_id_update", "value": value}, delivery)
        return str(message["id"])

    def _prefer(self, customer: str, preference: str, detail: str, delivery: Delivery | None) -> None:
        with self.lock:
            person = self.customers[customer]
            person.marketing_stopped = preference == "stop"
            ids = {key: value for key, value in (("wa_id", person.wa_id), ("user_id", person.user_id)) if value}
            told = {**ids, "detail": detail, "category": "marketing_messages", "value": preference,
                    "timestamp": int(self.clock.epoch())}  # fmt: skip
            value = self._value(contacts=[self._contact(person)], user_preferences=[told])
            self.tell("preference", "", {"field": "user_preferences", "value": value}, delivery)
