"""What people do on X: write, send pictures, share posts, read, join groups, mention us in public."""

from __future__ import annotations

import html
import re
import secrets
from typing import Any

from sandbox.deliverer import Delivery
from sandbox.x.account import Account, Dm, Post, User, iso

PICTURE = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_LINK = re.compile(r"https?://[^\s]+")


class People(Account):
    """The people who write to us, to be played; a person is named by the user id."""

    def add_user(self, name: str, username: str, *, receives_dm: bool = True, user_id: str = "") -> str:
        """Somebody on X; the id."""
        with self.lock:
            user_id = user_id or self.new_id()
            self.users[user_id] = User(user_id, name, username, receives_dm)
            return user_id

    def text(self, user: str, text: str, *, delivery: Delivery | None = None) -> str:
        """They write to us. Returns the event's id, as all that write do."""
        return self._write(self.pair(user), user, text, delivery)

    def photo(self, user: str, text: str | None = None, *, delivery: Delivery | None = None) -> str:
        """They send a picture, perhaps with words."""
        return self._write(self.pair(user), user, text, delivery, media=(self.new_id(), PICTURE))

    def share_post(self, user: str, post_id: str, text: str, *, delivery: Delivery | None = None) -> str:
        """They share a public post with words that hold its address."""
        self.posts.setdefault(post_id, "A table for sale")
        return self._write(self.pair(user), user, text, delivery, post=post_id)

    def answer(self, user: str, text: str, *, app_id: str | None = None, delivery: Delivery | None = None) -> str:
        """Our people answer in X's own app, or an app does."""
        return self._write(self.pair(user), self.user_id, text, delivery, source_app_id=app_id)

    def add_group(self, *members: str) -> str:
        """A group of us and others; its id."""
        with self.lock:
            conversation = self.new_id()
            self.groups[conversation] = [self.user_id, *members]
            self._event("ParticipantsJoin", conversation, self.user_id, people=list(members))
            return conversation

    def group_text(self, user: str, conversation: str, text: str) -> str:
        """They write in a group; no webhook tells of it."""
        return self._write(conversation, user, text, Delivery(drop=True))

    def leave(self, user: str, conversation: str) -> None:
        """They leave a group."""
        with self.lock:
            self.groups[conversation].remove(user)
            self._event("ParticipantsLeave", conversation, user, people=[user])

    def read(self, user: str) -> None:
        """They read all that we wrote to them."""
        mine = [one for one in self.events if one.conversation == self.pair(user) and one.sender == self.user_id]
        if mine:
            self.tell("dm.read", mine[-1].event_id, {
                "direct_message_mark_read_events": [{
                    "created_timestamp": str(int(self.clock.epoch() * 1000)), "sender_id": user,
                    "target": {"recipient_id": self.user_id}, "last_read_event_id": mine[-1].event_id,
                }],
                "users": self._faces(user),
            })  # fmt: skip

    def type(self, user: str) -> None:
        """They are typing."""
        self.tell("dm.indicate_typing", user, {
            "direct_message_indicate_typing_events": [{
                "created_timestamp": str(int(self.clock.epoch() * 1000)), "sender_id": user,
                "target": {"recipient_id": self.user_id},
            }],
            "users": self._faces(user),
        })  # fmt: skip

    def encrypted(self, user: str) -> None:
        """They write in an encrypted chat: a webhook tells of it, and nothing can read it."""
        self.tell("chat.received", user, {
            "id": secrets.token_hex(16), "created_at_msec": str(int(self.clock.epoch() * 1000)), "sender_id": user,
            "conversation_id": f"{user}:{self.user_id}", "conversation_key_version": "1768236281331",
            "encoded_event": secrets.token_urlsafe(60),
        })  # fmt: skip

    def mention(self, user: str, text: str, *, delivery: Delivery | None = None) -> str:
        """They name us in a public post; its id."""
        with self.lock:
            post = Post(self.new_id(), user, text, self.clock.epoch())
            self.mentions.append(post)
            includes = {"users": [self.face(user), self.face(self.user_id)]}
            post.event = self.tell(
                "post.mention.create", post.post_id, self.post_of(post, self._post_fields), delivery, includes
            )
            return post.post_id

    def play(self) -> None:
        """A short scene, ten minutes old: three people, a repeat, an overtaking, a lost webhook, a STOP, a group."""
        self.clock.advance(-600)
        ada, bo, cy = (self.add_user(name, f"{name.lower()}_example") for name in ("Ada", "Bo", "Cy"))
        self.text(ada, "Is the walnut table & the chair still there?", delivery=Delivery(duplicate=1))
        self.photo(ada, "It would stand here")
        self.answer(ada, "Both are.")
        self.read(ada)
        self.text(ada, "And do you deliver on Sunday?", delivery=Delivery(drop=True))
        self.deliverer.hold()
        self.text(bo, "First: do you ship to Leeds?")
        self.clock.advance(1)
        self.text(bo, "Second: what about https://shop.example/tables/walnut ?")
        self.deliverer.release(reverse=True, together=False)
        self.share_post(bo, "1580559079470145536", "Have you seen this?")
        self.type(bo)
        self.text(bo, "STOP")
        self.encrypted(cy)
        self.mention(cy, f"hey @{self.username} are you open?")
        group = self.add_group(ada, bo)
        self.group_text(ada, group, "We are both here now")
        self.clock.advance(599)

    # -- shapes of a webhook --

    _post_fields = frozenset({"created_at", "author_id", "conversation_id", "entities"})

    def post_of(self, post: Post, fields: frozenset[str]) -> dict[str, Any]:
        """A post of API v2 with those of its fields that are not always there."""
        start = post.text.find("@")
        end = start + len(self.username) + 1
        mention = {"start": start, "end": end, "username": self.username, "id": self.user_id}
        whole = {
            "created_at": iso(post.at), "author_id": post.author, "conversation_id": post.post_id,
            "entities": {"mentions": [mention]},
        }  # fmt: skip
        shown = {name: value for name, value in whole.items() if name in fields}
        return {"id": post.post_id, "text": html.escape(post.text, quote=False), **shown}

    def written(self, event: Dm) -> str:
        """The text as X shows it: short links, ``&`` as in HTML, one more link for a file."""
        text = html.escape(event.text or "", quote=False)
        for short, long in event.links.items():
            text = text.replace(html.escape(long, quote=False), short)
        return f"{text} {self._media_link(event)}".lstrip() if event.media else text

    def _media_link(self, event: Dm) -> str:
        return f"https://t.co/m{event.event_id[-9:]}"

    def entities(self, event: Dm, index: str) -> list[dict[str, Any]]:
        """The links of a text; `index` says how their place is written."""
        text, links = self.written(event), dict(event.links)
        if event.media:
            links[self._media_link(event)] = f"https://x.com/messages/media/{event.event_id}"
        found = []
        for short, long in links.items():
            start = text.find(short)
            place = {"indices": [start, start + len(short)]}
            if index == "start":
                place = {"start": start, "end": start + len(short)}  # type: ignore[dict-item]
            found.append({"url": short, "expanded_url": long, "display_url": long.partition("//")[2], **place})
        return found

    def _faces(self, user: str) -> dict[str, Any]:
        return {one: {"data": self.face(one)} for one in dict.fromkeys((user, self.user_id))}

    def _pushed(self, event: Dm) -> dict[str, Any]:
        people = self.people_of(event.conversation)
        other = next(one for one in people if one != event.sender)
        data: dict[str, Any] = {"text": self.written(event)}
        data["entities"] = {"hashtags": [], "symbols": [], "user_mentions": [], "urls": self.entities(event, "indices")}
        if event.media:
            url = self.ton_url(event)
            data["attachment"] = {"type": "media", "media": {
                "id": int(event.media[0]), "id_str": event.media[0], "type": "photo", "media_url": url,
                "media_url_https": url, "url": self._media_link(event),
            }}  # fmt: skip
        create: dict[str, Any] = {
            "target": {"recipient_id": other}, "sender_id": event.sender, "message_data": data,
        }  # fmt: skip
        create |= {"source_app_id": event.source_app_id} if event.source_app_id else {}
        message = {"type": "message_create", "id": event.event_id, "created_timestamp": str(int(event.at * 1000)),
                   "message_create": create}  # fmt: skip
        return {
            "direct_message_events": [message],
            "users": self._faces(other if event.sender == self.user_id else event.sender),
        }

    def _event(self, event_type: str, conversation: str, sender: str, **more: Any) -> Dm:
        at = int(self.clock.epoch() * 1000) / 1000
        event = Dm(self.new_id(), event_type, conversation, sender, at, **more)
        self.events.append(event)
        return event

    def _write(
        self, conversation: str, sender: str, text: str | None, delivery: Delivery | None = None, **more: Any
    ) -> str:
        with self.lock:
            links = {f"https://t.co/{secrets.token_hex(5)}": long for long in _LINK.findall(text or "")}
            event = self._event("MessageCreate", conversation, sender, text=text, links=links, **more)
            if conversation not in self.groups:
                name = "dm.sent" if sender == self.user_id else "dm.received"
                event.event = self.tell(name, event.event_id, self._pushed(event), delivery)
            return event.event_id
