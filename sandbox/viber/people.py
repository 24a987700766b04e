"""What people do on Viber: open the chat, subscribe and leave, write, send files and contacts, read."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from sandbox.deliverer import Delivery
from sandbox.viber.account import MEDIA_SECONDS, Account, Message, User, new_token

PICTURE = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
VIDEO = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"


class People(Account):
    """The people who know the bot, to be played; a person is named by the user id."""

    def add_user(
        self, name: str, *, country: str = "UA", language: str = "uk", subscribed: bool = False, user_id: str = ""
    ) -> str:
        """Somebody with the app; the id. Viber writes ids in base 64."""
        with self.lock:
            user_id = user_id or base64.b64encode(secrets.token_bytes(16)).decode()
            self.users[user_id] = User(user_id, name, country, language, subscribed)
            return user_id

    def open_chat(self, user: str, context: str | None = None, *, delivery: Delivery | None = None) -> None:
        """They open the chat, perhaps by a link with a context. They are not subscribed by that."""
        person = self.users[user]
        content = {"type": "open", "user": self._face(person), "subscribed": person.subscribed}
        self._tell(
            "conversation_started", new_token(), {**content, **({"context": context} if context else {})}, delivery
        )

    def subscribe_user(self, user: str, *, delivery: Delivery | None = None) -> None:
        """They press Subscribe."""
        self.users[user].subscribed = True
        self._tell("subscribed", new_token(), {"user": self._face(self.users[user])}, delivery)

    def unsubscribe(self, user: str, *, delivery: Delivery | None = None) -> None:
        """They leave."""
        self.users[user].subscribed = False
        self._tell("unsubscribed", new_token(), {"user_id": user}, delivery)

    def text(self, user: str, text: str, *, delivery: Delivery | None = None) -> int:
        """They write. Returns the message token, as all that write do."""
        return self._write(user, {"type": "text", "text": text}, text, delivery)

    def url(self, user: str, link: str, *, delivery: Delivery | None = None) -> int:
        """They send a link."""
        return self._write(user, {"type": "url", "media": link}, link, delivery)

    def picture(
        self, user: str, text: str | None = None, *, data: bytes = PICTURE, delivery: Delivery | None = None
    ) -> int:
        """They send a picture, perhaps with words."""
        media = self._file(data, "image/jpeg")
        content = {"type": "picture", "media": media, "thumbnail": media, "file_name": "a.jpg", "size": len(data)}
        return self._write(user, {**content, **({"text": text} if text else {})}, text, delivery)

    def video(self, user: str, *, data: bytes = VIDEO, delivery: Delivery | None = None) -> int:
        """They send a video."""
        media = self._file(data, "video/mp4")
        return self._write(user, {"type": "video", "media": media, "size": len(data), "duration": 10}, None, delivery)

    def file(self, user: str, name: str, *, data: bytes = b"%PDF-1.7 ", delivery: Delivery | None = None) -> int:
        """They send a file."""
        content = {"type": "file", "media": self._file(data, "application/pdf"), "file_name": name, "size": len(data)}
        return self._write(user, content, None, delivery)

    def contact(self, user: str, name: str, phone: str, *, delivery: Delivery | None = None) -> int:
        """They share a contact: their own when the bot asked for the number, or anybody's."""
        return self._write(user, {"type": "contact", "contact": {"name": name, "phone_number": phone}}, None, delivery)

    def location(self, user: str, lat: float, lon: float, *, delivery: Delivery | None = None) -> int:
        """They send a place."""
        return self._write(user, {"type": "location", "location": {"lat": lat, "lon": lon}}, None, delivery)

    def sticker(self, user: str, sticker_id: int = 46105, *, delivery: Delivery | None = None) -> int:
        """They send a sticker."""
        return self._write(user, {"type": "sticker", "sticker_id": sticker_id}, None, delivery)

    def see(self, user: str, *, delivery: Delivery | None = None) -> int:
        """They read what the bot sent; how many messages were new."""
        unseen = [one for one in self.sent.values() if one.user_id == user and "seen" not in one.statuses]
        for one in unseen:
            one.statuses.append("seen")
            self._tell("seen", one.token, {"user_id": user}, delivery)
        return len(unseen)

    def fail(self, token: int, description: str = "failure description") -> None:
        """The reader's app could not show what the bot sent."""
        sent = self.sent[token]
        sent.statuses.append("failed")
        self._tell("failed", token, {"user_id": sent.user_id, "desc": description})

    def play(self) -> None:
        """A short scene: three people, most kinds of messages, a repeat, an overtaking, a shared number, a STOP."""
        olena, taras, ivan = (self.add_user(name) for name in ("Olena", "Taras", "Ivan"))
        self.open_chat(olena, "summer-campaign")
        self.text(olena, "Is the walnut table still there?", delivery=Delivery(duplicate=1))
        self.picture(olena, "It would stand here")
        self.contact(olena, "Olena", "+12025550161")
        self.deliverer.hold()
        self.text(taras, "First: do you ship to Lviv?")
        self.text(taras, "Second: and what does it cost?")
        self.deliverer.release(reverse=True, together=False)
        self.location(taras, 49.8397, 24.0297)
        self.sticker(taras)
        self.url(taras, "https://shop.example/tables/walnut")
        self.subscribe_user(ivan)
        self.file(ivan, "invoice 4711.pdf")
        self.text(ivan, "STOP")
        self.unsubscribe(ivan)

    def _file(self, data: bytes, mime_type: str) -> str:
        name = secrets.token_hex(16)
        self.files[name] = (data, mime_type, self.clock.epoch() + MEDIA_SECONDS)
        return f"{self.media_url}/media/{name}"

    def _write(self, user: str, content: dict[str, Any], text: str | None, delivery: Delivery | None = None) -> int:
        with self.lock:
            person, token = self.users[user], new_token()
            person.subscribed, person.unanswered = True, []  # without an event that says so
            tracking = {"tracking_data": person.tracking_data} if person.tracking_data else {}
            event = self._tell(
                "message", token, {"sender": self._face(person), "message": {**content, **tracking}, "silent": False},
                delivery,
            )  # fmt: skip
            at = float(event.part["timestamp"]) / 1000 if event else self.clock.epoch()
            self.messages[token] = Message(token, user, content["type"], text, at, event)
            self._tell("delivered", token, {"user_id": user})
            return token
