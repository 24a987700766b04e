"""What people do on Telegram, as a test or the demo plays it."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from sandbox.deliverer import Delivery
from sandbox.telegram.account import Account, Entry, Person

_ANONYMOUS = {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}


class People(Account):
    """Customers, groups, a channel and a business owner; every action returns the message's number where it has one."""

    def add_person(
        self, first_name: str, last_name: str | None = None, *, username: str | None = None, language: str = "en",
        phone: str = "447700900100", is_open: bool = True,
    ) -> int:  # fmt: skip
        """Somebody on Telegram; their id. `is_open`: they have started a chat with the bot before."""
        with self.lock:
            user = {"id": self.new_id(), "is_bot": False, "first_name": first_name, "last_name": last_name,
                    "username": username, "language_code": language}  # fmt: skip
            user = {name: value for name, value in user.items() if value is not None}
            person = Person(user, phone, open=is_open)
            self.people[int(str(user["id"]))] = person
            self.chats[int(str(user["id"]))] = person.chat
            return int(str(user["id"]))

    # -- in the private chat with the bot --

    def start(self, person: int, payload: str | None = None, *, delivery: Delivery | None = None) -> int:
        """The person opens the chat, from a link with `payload` when given."""
        with self.lock:
            self.people[person].open = True
        text = "/start" if payload is None else f"/start {payload}"
        entities = [{"offset": 0, "length": 6, "type": "bot_command"}]
        return self._say(person, {"text": text, "entities": entities}, text, delivery)

    def text(self, person: int, text: str, *, reply_to: int | None = None, delivery: Delivery | None = None) -> int:
        """The person writes; answers `reply_to` when given."""
        content: dict[str, Any] = {"text": text}
        if reply_to is not None:
            with self.lock:
                replied = self.entries[f"/{person}", reply_to].message
                content["reply_to_message"] = {name: one for name, one in replied.items() if name != "reply_to_message"}
        return self._say(person, content, text, delivery)

    def forward(self, person: int, text: str, of: str, *, delivery: Delivery | None = None) -> int:
        """The person forwards what somebody wrote who does not want to be named."""
        origin = {"type": "hidden_user", "sender_user_name": of, "date": int(self.clock.epoch()) - 3600}
        return self._say(person, {"text": text, "forward_origin": origin}, text, delivery)

    def photo(
        self, person: int, caption: str | None = None, *, data: bytes | str = b"picture", album: str | None = None,
        delivery: Delivery | None = None,
    ) -> int:  # fmt: skip
        """The person sends a picture; text `data` is base64; pictures with the same `album` are one."""
        raw = base64.b64decode(data) if isinstance(data, str) else data
        small, large = self._file(b"small", "photos/file.jpg"), self._file(raw, "photos/file.jpg")
        sizes = [{**small, "width": 90, "height": 67}, {**large, "width": 1280, "height": 960}]
        content: dict[str, Any] = {"photo": sizes}
        content |= {"caption": caption} if caption else {}
        content |= {"media_group_id": album} if album else {}
        return self._say(person, content, caption, delivery)

    def document(
        self, person: int, name: str, *, data: bytes = b"document", size: int | None = None,
        delivery: Delivery | None = None,
    ) -> int:  # fmt: skip
        """The person sends a file; with `size` it says to be that large."""
        part = {**self._file(data, f"documents/{name}", size), "file_name": name, "mime_type": "application/pdf"}
        return self._say(person, {"document": part}, None, delivery)

    def sticker(self, person: int, emoji: str = "👍", *, delivery: Delivery | None = None) -> int:
        """The person sends a sticker."""
        part = {**self._file(b"sticker", "stickers/file.webp"), "type": "regular", "width": 512, "height": 512,
                "is_animated": False, "is_video": False, "emoji": emoji}  # fmt: skip
        return self._say(person, {"sticker": part}, None, delivery)

    def location(self, person: int, latitude: float, longitude: float, *, delivery: Delivery | None = None) -> int:
        """The person sends a place."""
        return self._say(person, {"location": {"latitude": latitude, "longitude": longitude}}, None, delivery)

    def share_contact(
        self, person: int, *, of: int | None = None, phone: str | None = None, delivery: Delivery | None = None
    ) -> int:
        """The person shares their own number; that of another person; or a number that Telegram does not know."""
        with self.lock:
            owner = self.people[of if of is not None else person]
            contact = {"phone_number": owner.phone, "first_name": owner.user["first_name"], "user_id": owner.user["id"]}
            if phone is not None:
                contact = {"phone_number": phone, "first_name": "Somebody"}
            return self._say(person, {"contact": contact}, None, delivery)

    def edit(self, person: int, number: int, text: str, *, delivery: Delivery | None = None) -> None:
        """The person edits a message: text or caption."""
        with self.lock:
            entry = self.entries[f"/{person}", number]
            name = "text" if "text" in entry.message else "caption"
            entry.message = {**entry.message, name: text, "edit_date": int(self.clock.epoch())}
            entry.words = text
            self.tell("edited_message", entry.message, delivery)

    def react(self, person: int, number: int, *emojis: str, delivery: Delivery | None = None) -> None:
        """The person's reactions to a message are now `emojis`; none: taken back. Told only when it was asked for."""
        with self.lock:
            now = [{"type": "emoji", "emoji": emoji} for emoji in emojis]
            part = {"chat": self.chats[person], "message_id": number, "user": self.people[person].user,
                    "date": int(self.clock.epoch()), "old_reaction": [], "new_reaction": now}  # fmt: skip
            self.tell("message_reaction", part, delivery)

    def press(self, person: int, number: int, data: str, *, delivery: Delivery | None = None) -> None:
        """The person presses a button under a message of the bot."""
        with self.lock:
            message = self.entries[f"/{person}", number].message
            rows = message.get("reply_markup", {}).get("inline_keyboard", [])
            label = next(one["text"] for row in rows for one in row if one.get("callback_data") == data)
            part = {"id": str(secrets.randbits(62)), "from": self.people[person].user, "message": message,
                    "chat_instance": str(person), "data": data}  # fmt: skip
            update = self.tell("callback_query", part, delivery)
            now = self.clock.epoch()
            pressed = Entry(
                "", -update.number if update else 0, part, True, now, label, "callback_query", update=update
            )
            self.entries["", pressed.number] = pressed

    def block(self, person: int, *, blocked: bool = True, delivery: Delivery | None = None) -> None:
        """The person blocks the bot, or takes that back."""
        with self.lock:
            self.people[person].blocked = blocked
            member = {"user": self.bot, "status": "member"}
            kicked = {"user": self.bot, "status": "kicked", "until_date": 0}
            before, now = (member, kicked) if blocked else (kicked, member)
            part = {"chat": self.chats[person], "from": self.people[person].user, "date": int(self.clock.epoch()),
                    "old_chat_member": before, "new_chat_member": now}  # fmt: skip
            self.tell("my_chat_member", part, delivery)

    # -- in groups and channels --

    def add_group(self, title: str) -> int:
        """A group that the bot is in; its id."""
        with self.lock:
            chat_id = -self.new_id()
            self.chats[chat_id] = {
                "id": chat_id,
                "title": title,
                "type": "group",
                "all_members_are_administrators": True,
            }
            return chat_id

    def group_text(self, person: int, group: int, text: str, *, delivery: Delivery | None = None) -> int:
        """The person writes in a group."""
        with self.lock:
            user, chat = self.people[person].user, self.chats[group]
            entry = self.write("message", chat, user, {"text": text}, by_customer=True, words=text, delivery=delivery)
            return entry.number

    def migrate(self, group: int) -> int:
        """The group becomes a supergroup; its new id. Both chats are told, the old one first."""
        with self.lock:
            new = -(1_000_000_000_000 + self.new_id())
            old_chat = self.chats[group]
            self.chats[new] = {"id": new, "title": old_chat["title"], "type": "supergroup"}
            self.moved[group] = new
            self.write("message", old_chat, _ANONYMOUS, {"migrate_to_chat_id": new}, by_customer=False)
            content = {"sender_chat": self.chats[new], "migrate_from_chat_id": group}
            self.write("message", self.chats[new], _ANONYMOUS, content, by_customer=False)
            return new

    def channel_post(self, title: str, text: str) -> int:
        """Somebody of ours posts in a channel that the bot administrates."""
        with self.lock:
            chat_id = -(1_000_000_000_000 + self.new_id())
            chat = self.chats[chat_id] = {"id": chat_id, "title": title, "type": "channel"}
            return self.write("channel_post", chat, None, {"sender_chat": chat, "text": text}, by_customer=False).number

    # -- in a business account that the bot is connected to --

    def connect_business(self, owner: int) -> str:
        """The owner connects the bot to their own account; the connection's id."""
        with self.lock:
            connection = f"bc{secrets.token_hex(8)}"
            self.connections[connection] = {
                "id": connection, "user": self.people[owner].user, "user_chat_id": owner, "is_enabled": True,
                "date": int(self.clock.epoch()), "rights": {"can_reply": True},
            }  # fmt: skip
            self.tell("business_connection", self.connections[connection])
            return connection

    def business_text(
        self, connection: str, person: int, text: str, *, by: str = "customer", delivery: Delivery | None = None
    ) -> int:
        """A message in the owner's chat with a person: by the ``customer``, the ``owner`` or the ``bot``."""
        with self.lock:
            owner = self.connections[connection]["user"]
            content: dict[str, Any] = {"text": text}
            if by == "bot":
                content["sender_business_bot"] = self.bot
            mine = by == "customer"
            user = self.people[person].user if mine else owner
            entry = self.write(
                "business_message", self.people[person].chat, user, content, by_customer=mine, words=text,
                connection=connection, delivery=delivery,
            )  # fmt: skip
            return entry.number

    def business_delete(self, connection: str, person: int, *numbers: int, delivery: Delivery | None = None) -> None:
        """Messages of that chat are deleted, by whichever side."""
        with self.lock:
            for number in numbers:
                self.entries[f"{connection}/{person}", number].deleted = True
            part = {"business_connection_id": connection, "chat": self.people[person].chat, "message_ids": [*numbers]}
            self.tell("deleted_business_messages", part, delivery)

    # -- parts --

    def _say(self, person: int, content: dict[str, Any], words: str | None, delivery: Delivery | None) -> int:
        with self.lock:
            who = self.people[person]
            return self.write(
                "message", who.chat, who.user, content, by_customer=True, words=words, delivery=delivery
            ).number

    def _file(self, data: bytes, path: str, size: int | None = None) -> dict[str, Any]:
        """A file that can be downloaded after getFile."""
        with self.lock:
            number = self.new_id()
            file_id = f"AgACAgIAAxkBAAM{number}"
            folder, _, name = path.partition("/")
            part = {
                "file_id": file_id,
                "file_unique_id": f"AQAD{number}",
                "file_size": len(data) if size is None else size,
            }
            self.files[file_id] = {"part": part, "path": f"{folder}/{number}_{name}", "data": data, "until": 0.0}
            return part
