"""What people do on LINE: befriend and block the bot, write, send files, edit and unsend, press buttons, log in."""

from __future__ import annotations

import secrets
from typing import Any

from mappings.from_line import sign_nonce
from sandbox.deliverer import Delivery, Event
from sandbox.line.account import LOGIN_SECRET, Account, Message, User

PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"

VIDEO = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"


class People(Account):
    """The people who know the bot, to be played; a person is named by the user id."""

    def add_user(self, name: str, *, language: str | None = "ja", friend: bool = True, picture: bool = True) -> str:
        """Somebody with the app, and a friend of the bot without a word said; the user id."""
        with self.lock:
            user_id = f"U{secrets.token_hex(16)}"
            url = f"https://profile.line-scdn.example/{user_id[1:9]}" if picture else None
            self.users[user_id] = User(user_id, name, language, url, friend)
            return user_id

    def follow(self, user: str, *, delivery: Delivery | None = None) -> None:
        """They add the bot as a friend, or lift their block."""
        person = self.users[user]
        unblocked, person.friend, person.blocked = person.blocked, True, False
        self._tell("follow", "", user, {"follow": {"isUnblocked": unblocked}}, delivery=delivery)

    def unfollow(self, user: str, *, delivery: Delivery | None = None) -> None:
        """They block the bot."""
        self.users[user].blocked = True
        self._tell("unfollow", "", user, {}, delivery=delivery)

    def open_group(self, *users: str) -> str:
        """A group of these people and the bot; its id."""
        with self.lock:
            group = f"C{secrets.token_hex(16)}"
            self.groups[group] = list(users)
            self._tell("join", "", None, {}, group=group)
            return group

    def text(self, user: str, text: str, *, reply_to: str | None = None, **more: Any) -> str:
        """They write. Returns the message's id, as all that write do.

        Keywords of all that write: `group`, `desktop` (in a group no user id is told), `delivery`, `at`.
        """
        content = {"text": text, **({"quotedMessageId": reply_to} if reply_to else {})}
        return self._write(user, "text", content, text=text, **more)

    def image(self, user: str, *, data: bytes = PICTURE, mime_type: str = "image/png", **more: Any) -> str:
        """They send a picture."""
        return self._write(user, "image", _KEPT, data=data, mime_type=mime_type, **more)

    def image_elsewhere(self, user: str, url: str, **more: Any) -> str:
        """A mini-app on their phone sends a picture that lies on a host of its own."""
        provider = {"type": "external", "originalContentUrl": url, "previewImageUrl": url}
        return self._write(user, "image", {"contentProvider": provider}, **more)

    def video(self, user: str, *, data: bytes = VIDEO, prepared: str = "succeeded", **more: Any) -> str:
        """They send a video; `prepared`: ``processing``, ``succeeded`` or ``failed``."""
        content = {**_KEPT, "duration": 60_000}
        return self._write(user, "video", content, data=data, mime_type="video/mp4", prepared=prepared, **more)

    def audio(self, user: str, *, data: bytes = b"\0\0\0 ftypM4A ", prepared: str = "succeeded", **more: Any) -> str:
        """They speak."""
        content = {**_KEPT, "duration": 4_000}
        return self._write(user, "audio", content, data=data, mime_type="audio/m4a", prepared=prepared, **more)

    def file(self, user: str, name: str, *, data: bytes = b"%PDF-1.7 ", **more: Any) -> str:
        """They send a file."""
        return self._write(user, "file", {"fileName": name, "fileSize": len(data)}, data=data, **more)

    def location(self, user: str, latitude: float, longitude: float, title: str = "here", **more: Any) -> str:
        """They send a place."""
        content = {"title": title, "address": "1-3 Kioicho", "latitude": latitude, "longitude": longitude}
        return self._write(user, "location", content, **more)

    def sticker(self, user: str, text: str | None = None, **more: Any) -> str:
        """They send a sticker; with words of their own when it is a message sticker."""
        content: dict[str, Any] = {"packageId": "446", "stickerId": "1988", "keywords": ["hello"]}
        content |= {"stickerResourceType": "MESSAGE", "text": text} if text else {"stickerResourceType": "STATIC"}
        return self._write(user, "sticker", content, **more)

    def unsend(self, user: str, message_id: str, *, delivery: Delivery | None = None) -> None:
        """They take a message back."""
        message = self._own(user, message_id)
        message.unsent = True
        content = {"unsend": {"messageId": message_id}}
        self._tell("unsend", message_id, user, content, group=message.group, delivery=delivery)

    def edit(self, user: str, message_id: str, text: str, *, delivery: Delivery | None = None) -> None:
        """They correct a text; LINE lets them do so in groups only."""
        message = self._own(user, message_id)
        if message.group is None or message.kind != "text" or message.unsent:
            reason = "only a text in a group can be edited"
            raise ValueError(reason)
        message.text = text
        message.body = {**message.body, "text": text}
        self._tell("messageEdited", message_id, user, {"message": message.body}, group=message.group, delivery=delivery)

    def postback(self, user: str, data: str, *, delivery: Delivery | None = None) -> str:
        """They press a button; it is a message of theirs with an id of ours."""
        with self.lock:
            event = self._tell("postback", "", user, {"postback": {"data": data}}, delivery=delivery)
            message = Message(event.part["webhookEventId"], user, None, "postback", None, self._at(event), event=event)
            self.messages[message.id] = message
            return message.id

    def beacon(self, user: str) -> None:
        """They walk past a LINE Beacon."""
        self._tell("beacon", "", user, {"beacon": {"hwid": "d41d8cd98f", "type": "enter"}})

    def log_in(self, user: str, link_token: str, nonce: str, *, delivery: Delivery | None = None) -> str:
        """The browser of `user` comes back from the site's login page with a nonce; LINE's result.

        A link token is good once, for ten minutes, for the user for whom it was issued: an attacker who makes another
        open it gets ``failed``.
        """
        if not 10 <= len(nonce) <= 255:
            reason = "a nonce has 10 to 255 characters"
            raise ValueError(reason)
        with self.lock:
            owner, expires_at = self.link_tokens.pop(link_token, ("", 0.0))
            result = "ok" if owner == user and self.clock.epoch() < expires_at else "failed"
            self.links.append({"customer": user, "result": result})
            self._tell("accountLink", "", user, {"link": {"result": result, "nonce": nonce}}, delivery=delivery)
            return result

    def redeliver(self, message_id: str) -> None:
        """The event of a message comes again, marked, as when our answer had not reached LINE."""
        event = next(one for one in self.deliverer.events if one.subject == message_id)
        again = {**event.part, "deliveryContext": {"isRedelivery": True}}
        self.deliverer.add(Event(event.kind, message_id, again))

    def verify_button(self, *, of_the_past: bool = False) -> bytes:
        """What the console's Verify button posts, now or as it once was; the body."""
        if not of_the_past:
            return self.compose([])
        user = {"type": "user", "userId": "Udeadbeefdeadbeefdeadbeefdeadbeef"}
        common = {"timestamp": 1513065174862, "source": user, "type": "message"}
        return self.compose(
            [
                {**common, "replyToken": "0" * 32, "message": {"id": "100001", "type": "text", "text": "Hello, world"}},
                {**common, "replyToken": "f" * 32, "message": {"id": "100002", "type": "sticker", "packageId": "1"}},
            ]
        )

    def issue_link_token(self, user: str) -> str:
        """A link token for a user, as the bot's server asks for it."""
        with self.lock:
            token = secrets.token_urlsafe(24)
            self.link_tokens[token] = (user, self.clock.epoch() + 600)
            return token

    def play(self) -> None:
        """A short scene: three people, most kinds of messages, a repeat, an overtaking, an unsend, an edit, a link."""
        yuki, ken, mei = (self.add_user(name) for name in ("Yuki", "Ken", "Mei"))
        self.follow(yuki)
        question = self.text(yuki, "Do you ship the blue vase to Osaka?", delivery=Delivery(duplicate=1))
        self.redeliver(question)
        self.image(yuki)
        regretted = self.text(yuki, "My card number is ... no, forget that")
        self.unsend(yuki, regretted)
        nonce = sign_nonce("email:yuki.tanaka@mail.example", self.clock.now(), LOGIN_SECRET)
        self.log_in(yuki, self.issue_link_token(yuki), nonce)
        self.deliverer.hold()
        self.text(ken, "First: is the lamp still there?")
        self.text(ken, "Second: can I fetch it today?")
        self.deliverer.release(reverse=True, together=False)
        self.sticker(ken)
        self.postback(ken, "action=reserve&item=lamp")
        group = self.open_group(ken, mei)
        typo = self.text(mei, "Is your shop opne on Sunday?", group=group)
        self.edit(mei, typo, "Is your shop open on Sunday?")
        self.text(mei, "We would be five people", group=group)
        self.text(mei, "STOP")
        self.unfollow(mei)

    def _write(
        self, user: str, kind: str, content: dict[str, Any], *, text: str | None = None, data: bytes | None = None,
        mime_type: str = "application/octet-stream", prepared: str = "succeeded", group: str | None = None,
        desktop: bool = False, at: float | None = None, delivery: Delivery | None = None,
    ) -> str:  # fmt: skip
        with self.lock:
            person = self.users[user]
            if group is None and (person.blocked or not person.friend):
                reason = "only a friend can write to the bot"
                raise ValueError(reason)
            if group is not None and user not in self.groups[group]:
                reason = "only a member can write in a group"
                raise ValueError(reason)
            message_id = str(10**17 + secrets.randbelow(9 * 10**17))
            tokens = {} if kind in {"audio", "file", "location"} else {"quoteToken": secrets.token_urlsafe(40)}
            body = {"id": message_id, "type": kind, **content, **tokens, "markAsReadToken": secrets.token_urlsafe(40)}
            event = self._tell(
                "message", message_id, None if desktop else user, {"message": body}, group=group, at=at,
                delivery=delivery,
            )  # fmt: skip
            self.messages[message_id] = Message(
                message_id, user, group, kind, text, self._at(event), data, mime_type, prepared, body=body, event=event
            )
            return message_id

    def _own(self, user: str, message_id: str) -> Message:
        message = self.messages[message_id]
        if message.user_id != user:
            reason = "it is another's message"
            raise ValueError(reason)
        return message

    @staticmethod
    def _at(event: Event) -> float:
        """The moment that the event tells."""
        return float(event.part["timestamp"]) / 1000


_KEPT = {"contentProvider": {"type": "line"}}
