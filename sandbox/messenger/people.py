"""What people do: write, send media, tap, react, edit, link an account; and what the page's staff does in its inbox."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from sandbox.deliverer import Delivery, Event
from sandbox.messenger.account import INBOX_APP_ID, Account, Message, Person

_REACTIONS = {"😆": "smile", "😠": "angry", "😢": "sad", "😮": "wow", "❤": "love", "👍": "like", "👎": "dislike"}
_THUMB = 369239263222822


class People(Account):
    """The people who write to the page, to be played; a person is named by the page-scoped id."""

    actions = frozenset({
        "text", "attachment", "sticker", "share", "quick_reply", "react", "unreact", "edit", "postback", "referral",
        "from_ad", "link_account", "unlink_account", "read", "block", "inbox_text", "comment", "page_comment",
    })  # fmt: skip

    def add_person(self, first_name: str, last_name: str, psid: str | None = None, *, in_requests: bool = False) -> str:
        """Somebody with a page-scoped id, which is returned; `in_requests`: the thread is in the Requests folder."""
        with self.lock:
            psid = psid or str(secrets.randbelow(9 * 10**15) + 10**15)
            picture = f"https://cdn.example/{psid}.jpg"
            thread = f"t_{secrets.randbelow(9 * 10**15) + 10**15}"
            self.people[psid] = Person(psid, first_name, last_name, thread, picture, in_requests)
            return psid

    def add_customer_from_json(self, values: dict[str, Any]) -> dict[str, Any]:
        """``{"first_name", "last_name", "psid"?, "in_requests"?}``."""
        return {"customer": self.add_person(**values)}

    def text(self, customer: str, text: str, *, reply_to: str | None = None, delivery: Delivery | None = None) -> str:
        """The person writes; answers `reply_to` when given. Returns the mid, as all that write do."""
        return self._write(customer, {"text": text}, reply_to=reply_to, delivery=delivery)

    def attachment(
        self,
        customer: str,
        kind: str = "image",
        *,
        data: bytes | str = b"picture",
        mime_type: str = "image/jpeg",
        text: str | None = None,
        delivery: Delivery | None = None,
    ) -> str:
        """The person sends an image, video, audio or file; text `data` is base64."""
        name = secrets.token_hex(12)
        self.files[name] = (base64.b64decode(data) if isinstance(data, str) else data, mime_type)
        one = {"type": kind, "payload": {"url": f"{self.public_url}/cdn/{name}"}}
        return self._write(customer, {"attachments": [one], **({"text": text} if text else {})}, delivery=delivery)

    def sticker(self, customer: str, sticker_id: int = _THUMB, *, delivery: Delivery | None = None) -> str:
        """The person sends a sticker, the thumb if nothing else is said; type ``sticker`` since 2026-08-30."""
        payload = {"url": f"{self.public_url}/cdn/sticker", "sticker_id": sticker_id}
        return self._write(customer, {"attachments": [{"type": "sticker", "payload": payload}]}, delivery=delivery)

    def share(
        self, customer: str, text: str, url: str | None, title: str = "A page", *, delivery: Delivery | None = None
    ) -> str:
        """The person shares a link: text and a ``fallback`` attachment, whose payload is null without `url`."""
        payload = {"url": url, "title": title} if url else None
        return self._write(
            customer, {"text": text, "attachments": [{"type": "fallback", "payload": payload}]}, delivery=delivery
        )

    def quick_reply(self, customer: str, text: str, payload: str, *, delivery: Delivery | None = None) -> str:
        """The person taps a quick reply."""
        return self._write(customer, {"text": text, "quick_reply": {"payload": payload}}, delivery=delivery)

    def from_ad(
        self, customer: str, text: str, *, ad_id: str = "6045246247433", delivery: Delivery | None = None
    ) -> str:
        """The person's first message after a click on an ad."""
        return self._write(customer, {"text": text, "referral": self._ad(ad_id)}, delivery=delivery)

    def referral(self, customer: str, *, ad_id: str = "6045246247433", delivery: Delivery | None = None) -> None:
        """The person opens a known thread from an ad, without a message."""
        self._act(customer, "messaging_referrals", {"referral": self._ad(ad_id)}, delivery=delivery)

    def react(self, customer: str, message_id: str, emoji: str = "❤", *, delivery: Delivery | None = None) -> None:
        """The person reacts to a message."""
        content = {"reaction": _REACTIONS.get(emoji, "other"), "emoji": emoji, "action": "react", "mid": message_id}
        self._act(customer, "message_reactions", {"reaction": content}, subject=message_id, delivery=delivery)

    def unreact(self, customer: str, message_id: str, *, delivery: Delivery | None = None) -> None:
        """The person takes the reaction back."""
        content = {"action": "unreact", "mid": message_id}
        self._act(customer, "message_reactions", {"reaction": content}, subject=message_id, delivery=delivery)

    def edit(self, customer: str, message_id: str, text: str, *, delivery: Delivery | None = None) -> None:
        """The person edits a message, at most five times."""
        with self.lock:
            message = self.messages[message_id]
            if message.edits >= 5:
                reason = "a message can be edited five times"
                raise ValueError(reason)
            message.edits, message.text = message.edits + 1, text
            content = {"mid": message_id, "text": text, "num_edit": message.edits}
            self._act(customer, "message_edits", {"message_edit": content}, subject=message_id, delivery=delivery)

    def postback(self, customer: str, title: str, payload: str, *, delivery: Delivery | None = None) -> str:
        """The person taps a button of a template or of the menu."""
        mid = self._mid()
        content = {"mid": mid, "title": title, "payload": payload}
        self._act(customer, "messaging_postbacks", {"postback": content}, subject=mid, delivery=delivery)
        return mid

    def link_account(self, customer: str, authorization_code: str, *, delivery: Delivery | None = None) -> None:
        """The person logs in at the business: the code says to the business who it was."""
        content = {"status": "linked", "authorization_code": authorization_code}
        self._act(customer, "messaging_account_linking", {"account_linking": content}, delivery=delivery)

    def unlink_account(self, customer: str, *, delivery: Delivery | None = None) -> None:
        """The person takes that back."""
        self._act(customer, "messaging_account_linking", {"account_linking": {"status": "unlinked"}}, delivery=delivery)

    def read(self, customer: str, *, delivery: Delivery | None = None) -> int:
        """The person reads all that we sent; how many were new."""
        with self.lock:
            return self._tell_read(customer, delivery)

    def block(self, customer: str, *, blocked: bool = True) -> None:
        """The person blocks the page: sends are refused."""
        self.people[customer].blocked = blocked

    def inbox_text(
        self, customer: str, text: str, *, app_id: int = INBOX_APP_ID, delivery: Delivery | None = None
    ) -> str:
        """Staff answers in the page inbox (or another app does): an echo of another app, and the thread is theirs."""
        with self.lock:
            person = self.people[customer]
            message = Message(self._mid(), customer, self.clock.epoch(), text, [], app_id)
            self.messages[message.id] = message
            self._tell_outgoing(message, delivery)
            if self.routing and person.owner_app_id != app_id:
                taken = {"previous_owner_app_id": person.owner_app_id or self.app_id, "new_owner_app_id": app_id,
                         "metadata": ""}  # fmt: skip
                event = self._event(customer, take_thread_control=taken)
                self._emit("messaging_handovers", "", event, customer, delivery)
                person.owner_app_id = app_id
            return message.id

    def comment(self, customer: str, text: str, *, parent: str | None = None, delivery: Delivery | None = None) -> str:
        """The person comments on a post of the page, or answers the comment `parent`; returns the comment's id."""
        person = self.people[customer]
        return self._comment(customer, f"{person.first_name} {person.last_name}", text, parent, delivery)

    def page_comment(self, text: str, *, parent: str | None = None, delivery: Delivery | None = None) -> str:
        """Staff comments, or answers a comment, in the page's name."""
        return self._comment(self.page_id, self.page_name, text, parent, delivery)

    def return_thread(self, customer: str) -> None:
        """The inbox is done: the thread is our app's again."""
        with self.lock:
            self.people[customer].owner_app_id = None

    def dashboard_test(self) -> None:
        """What the test button of the app dashboard sends: ``changes[]``, invented ids, seconds as text."""
        value = {
            "sender": {"id": "12334"}, "recipient": {"id": "23245"}, "timestamp": str(int(self.clock.epoch())),
            "message": {"mid": "test_message_id", "text": "test_message", "commands": [{"name": "command123"}]},
        }  # fmt: skip
        self.tell("messages", "test_message_id", {"changes": {"field": "messages", "value": value}})

    def _comment(self, author: str, name: str, text: str, parent: str | None, delivery: Delivery | None) -> str:
        with self.lock:
            post = f"{self.page_id}_5001"
            comment_id = f"5001_{secrets.randbelow(9 * 10**15) + 10**15}"
            value = {
                "from": {"id": author, "name": name}, "item": "comment", "verb": "add", "comment_id": comment_id,
                "post_id": post, "parent_id": parent or post, "created_time": int(self.clock.epoch()), "message": text,
            }  # fmt: skip
            if self.fields is None or "feed" in self.fields:
                self.tell("feed", comment_id, {"changes": {"field": "feed", "value": value}}, delivery)
            return comment_id

    def _write(
        self, psid: str, content: dict[str, Any], *, reply_to: str | None = None, delivery: Delivery | None = None
    ) -> str:
        with self.lock:
            mid = self._mid()
            message = Message(
                mid, psid, self.clock.epoch(), content.get("text"), content.get("attachments", []), reply_to=reply_to
            )
            self.messages[mid] = message
            told = {"mid": mid, **content}
            if reply_to:
                told["reply_to"] = {"mid": reply_to, "is_self_reply": self.messages[reply_to].app_id is None}
            message.event = self._act(psid, "messages", {"message": told}, subject=mid, delivery=delivery)
            return mid

    def _act(
        self, psid: str, webhook_field: str, content: dict[str, Any], *, subject: str = "",
        delivery: Delivery | None = None,
    ) -> Event | None:  # fmt: skip
        with self.lock:
            self.people[psid].last_action_at = self.clock.epoch()
            return self._emit(webhook_field, subject, self._event(psid, **content), psid, delivery)

    @staticmethod
    def _ad(ad_id: str) -> dict[str, Any]:
        context = {"ad_title": "Summer is here", "photo_url": "https://ads.example/photo.jpg", "post_id": "1234567890"}
        return {"ref": "summer", "source": "ADS", "type": "OPEN_THREAD", "ad_id": ad_id, "ads_context_data": context}
