"""What people do: write, send media, tap, react, edit, unsend, comment; and what staff does in the Instagram app."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from sandbox.deliverer import Delivery, Event
from sandbox.instagram.account import Account, Comment, Message, Person

_REACTIONS = {"😠": "angry", "😢": "sad", "😮": "wow", "❤️": "love", "👍": "like", "😆": "laugh"}
_INBOX_APP_ID = 1217981644879628
POST = "17918195224117851"


class People(Account):
    """The people who write to the account, to be played; a person is named by the Instagram-scoped id."""

    actions = frozenset({
        "text", "attachment", "like_heart", "share_post", "story_mention", "story_reply", "unsupported", "quick_reply",
        "react", "unreact", "edit", "unsend", "postback", "referral", "from_ad", "read", "block", "comment", "mention",
        "app_text", "app_comment",
    })  # fmt: skip

    def add_person(self, name: str, username: str, igsid: str | None = None, *, in_requests: bool = False) -> str:
        """Somebody with an Instagram-scoped id, which is returned; `in_requests`: the chat is a message request."""
        with self.lock:
            igsid = igsid or str(secrets.randbelow(9 * 10**15) + 10**15)
            thread = f"aWdfZAG06{secrets.token_urlsafe(24)}"
            picture = f"https://cdn.example/{igsid}.jpg"
            self.people[igsid] = Person(igsid, name, username, thread, picture, in_requests)
            return igsid

    def add_customer_from_json(self, values: dict[str, Any]) -> dict[str, Any]:
        """``{"name", "username", "igsid"?, "in_requests"?}``."""
        return {"customer": self.add_person(**values)}

    # -- in the chat --

    def text(self, customer: str, text: str, *, reply_to: str | None = None, delivery: Delivery | None = None) -> str:
        """The person writes; answers `reply_to` when given. Returns the mid, as all that write do."""
        more = {"reply_to": {"mid": reply_to}} if reply_to else {}
        return self._write(customer, {"text": text, **more}, delivery)

    def attachment(
        self,
        customer: str,
        kind: str = "image",
        *,
        data: bytes | str = b"picture",
        mime_type: str = "image/jpeg",
        delivery: Delivery | None = None,
    ) -> str:
        """The person sends an image, video, audio or file; text `data` is base64."""
        name = secrets.token_hex(12)
        self.files[name] = (base64.b64decode(data) if isinstance(data, str) else data, mime_type)
        one = {"type": kind, "payload": {"url": f"{self.public_url}/cdn/{name}"}}
        return self._write(customer, {"attachments": [one]}, delivery)

    def like_heart(self, customer: str, *, delivery: Delivery | None = None) -> str:
        """The person sends the heart: an attachment without payload."""
        return self._write(customer, {"attachments": [{"type": "like_heart"}]}, delivery)

    def share_post(self, customer: str, *, media_id: str = POST, delivery: Delivery | None = None) -> str:
        """The person shares a post; until 2026-04 in two forms at once (`old_shares`)."""
        payload = {"ig_post_media_id": media_id, "title": "Our shelf", "url": f"{self.public_url}/cdn/{media_id}"}
        kinds = ("share", "ig_post") if self.old_shares else ("ig_post",)
        return self._write(customer, {"attachments": [{"type": kind, "payload": payload} for kind in kinds]}, delivery)

    def story_mention(self, customer: str, *, delivery: Delivery | None = None) -> str:
        """The person mentions the account in a story, which the account gets as a message."""
        one = {"type": "story_mention", "payload": {"url": f"{self.public_url}/cdn/story"}}
        return self._write(customer, {"attachments": [one]}, delivery)

    def story_reply(self, customer: str, text: str, *, delivery: Delivery | None = None) -> str:
        """The person answers a story of the account."""
        story = {"url": f"{self.public_url}/cdn/our-story", "id": "17900000000000001"}
        return self._write(customer, {"text": text, "reply_to": {"story": story}}, delivery)

    def unsupported(self, customer: str, *, delivery: Delivery | None = None) -> str:
        """The person sends something that the API cannot show."""
        return self._write(customer, {"is_unsupported": True}, delivery)

    def quick_reply(self, customer: str, text: str, payload: str, *, delivery: Delivery | None = None) -> str:
        """The person taps a quick reply."""
        return self._write(customer, {"text": text, "quick_reply": {"payload": payload}}, delivery)

    def from_ad(
        self, customer: str, text: str, *, ad_id: str = "6045246247433", delivery: Delivery | None = None
    ) -> str:
        """The person's first message after a click on an ad."""
        context = {"ad_title": "Summer is here", "photo_url": "https://ads.example/photo.jpg"}
        referral = {
            "ref": "summer",
            "ad_id": ad_id,
            "source": "ADS",
            "type": "OPEN_THREAD",
            "ads_context_data": context,
        }
        return self._write(customer, {"text": text, "referral": referral}, delivery)

    def referral(self, customer: str, *, ref: str = "flyer", delivery: Delivery | None = None) -> None:
        """The person opens a known chat by an ig.me link, without a message."""
        content = {"ref": ref, "source": "IGME-SOURCE-LINK", "type": "OPEN_THREAD"}
        self._act(customer, "messaging_referral", {"referral": content}, delivery=delivery)

    def react(self, customer: str, message_id: str, emoji: str = "❤️", *, delivery: Delivery | None = None) -> None:
        """The person reacts to a message."""
        content = {"mid": message_id, "action": "react", "reaction": _REACTIONS.get(emoji, "other"), "emoji": emoji}
        self._act(customer, "message_reactions", {"reaction": content}, subject=message_id, delivery=delivery)

    def unreact(self, customer: str, message_id: str, *, delivery: Delivery | None = None) -> None:
        """The person takes the reaction back."""
        content = {"mid": message_id, "action": "unreact"}
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
            self._act(customer, "message_edit", {"message_edit": content}, subject=message_id, delivery=delivery)

    def unsend(self, customer: str, message_id: str, *, delivery: Delivery | None = None) -> None:
        """The person takes a message back: it is gone from the conversation, and the webhook says which."""
        with self.lock:
            self.messages[message_id].unsent = True
            content = {"mid": message_id, "is_deleted": True}
            self._act(customer, "messages", {"message": content}, subject=message_id, delivery=delivery)

    def postback(self, customer: str, title: str, payload: str, *, delivery: Delivery | None = None) -> str:
        """The person taps an icebreaker, a menu entry or a button."""
        mid = self._mid()
        content = {"mid": mid, "title": title, "payload": payload}
        self._act(customer, "messaging_postbacks", {"postback": content}, subject=mid, delivery=delivery)
        return mid

    def read(self, customer: str, *, delivery: Delivery | None = None) -> int:
        """The person reads all that we sent: one event for each message; how many were new."""
        with self.lock:
            unread = [one for one in self.messages.values() if one.igsid == customer and one.ours and not one.read]
            for one in unread:
                one.read = True
                self._emit("messaging_seen", one.id, self._event(customer, read={"mid": one.id}), customer, delivery)
            return len(unread)

    def block(self, customer: str, *, blocked: bool = True) -> None:
        """The person blocks the account: sends and the profile are refused."""
        self.people[customer].blocked = blocked

    def app_text(self, customer: str, text: str, *, app_id: int | None = None, delivery: Delivery | None = None) -> str:
        """Staff answers in the Instagram app (no app id), or another app does."""
        with self.lock:
            message = Message(self._mid(), customer, self.clock.epoch(), text, ours=True, app_id=app_id)
            self.messages[message.id] = message
            self.people[customer].in_requests = False
            self._tell_outgoing(message, delivery)
            return message.id

    def take_thread(self, customer: str, app_id: int = _INBOX_APP_ID) -> None:
        """Another app takes the chat: our events come in ``standby``."""
        with self.lock:
            self.people[customer].owner_app_id = app_id

    def return_thread(self, customer: str) -> None:
        """The chat is our app's again."""
        with self.lock:
            self.people[customer].owner_app_id = None

    # -- in public --

    def comment(
        self,
        customer: str,
        text: str | None,
        *,
        media_id: str = POST,
        parent: str | None = None,
        ad_id: str | None = None,
        live: bool = False,
        delivery: Delivery | None = None,
    ) -> str:
        """The person comments on a post (an ad, a live). Returns the comment's id."""
        return self._comment(customer, text, media_id, parent, delivery, ad_id=ad_id, live=live)

    def app_comment(
        self, text: str, *, media_id: str = POST, parent: str | None = None, delivery: Delivery | None = None
    ) -> str:
        """Staff comments, or answers a comment, in the Instagram app."""
        return self._comment(None, text, media_id, parent, delivery)

    def mention(self, customer: str, *, in_comment: bool = False, delivery: Delivery | None = None) -> str:
        """The person mentions the account in a caption or comment of their own; only ids are told."""
        del customer
        media_id = self._number()
        value = {"media_id": media_id, **({"comment_id": self._number()} if in_comment else {})}
        self.tell("mentions", media_id, {"changes": {"field": "mentions", "value": value}}, delivery)
        return media_id

    def dashboard_test(self) -> None:
        """What the test buttons of the app dashboard send: invented ids, for entry 0."""
        author, media = {"id": "232323232", "username": "test"}, {"id": "123123123", "media_product_type": "FEED"}
        value = {"id": "17865799348089039", "text": "This is an example.", "from": author, "media": media}
        self.tell("comments", "", {"test": {"field": "comments", "value": value}})

    def _comment(
        self, igsid: str | None, text: str | None, media_id: str, parent: str | None, delivery: Delivery | None,
        *, ad_id: str | None = None, live: bool = False,
    ) -> str:  # fmt: skip
        with self.lock:
            comment = Comment(self._number(), igsid, media_id, text, self.clock.epoch(), parent)
            self.comments[comment.id] = comment
            author: dict[str, Any] = {"id": self.account_id, "username": self.username,
                                      "self_ig_scoped_id": self.self_igsid}  # fmt: skip
            if igsid is not None:
                author = {"id": igsid, "username": self.people[igsid].username}
            media = {"id": media_id, "media_product_type": "AD" if ad_id else "FEED"}
            if ad_id:
                media |= {"ad_id": ad_id, "ad_title": "Summer is here", "original_media_id": media_id}
            value: dict[str, Any] = {"from": author, "media": media, "id": comment.id}
            value |= {name: given for name, given in (("text", text), ("parent_id", parent)) if given}
            change = {"field": "live_comments" if live else "comments", "value": value}
            if self.fields is None or change["field"] in self.fields:
                flat = self.flat_comments and self.login == "instagram"
                part = {"flat" if flat else "changes": change}
                comment.event = self.tell("comments", comment.id, part, delivery)
            return comment.id

    def _write(self, igsid: str, content: dict[str, Any], delivery: Delivery | None) -> str:
        with self.lock:
            mid = self._mid()
            message = Message(
                mid, igsid, self.clock.epoch(), content.get("text"), content.get("attachments", []),
                reply_to=content.get("reply_to"), unsupported=content.get("is_unsupported", False),
            )  # fmt: skip
            self.messages[mid] = message
            message.event = self._act(
                igsid, "messages", {"message": {"mid": mid, **content}}, subject=mid, delivery=delivery
            )
            return mid

    def _act(
        self, igsid: str, webhook_field: str, content: dict[str, Any], *, subject: str = "",
        delivery: Delivery | None = None,
    ) -> Event | None:  # fmt: skip
        with self.lock:
            person = self.people[igsid]
            person.last_action_at, person.has_written = self.clock.epoch(), True
            return self._emit(webhook_field, subject, self._event(igsid, **content), igsid, delivery)
