"""X's direct messages and mentions as canonical records, however they came.

A webhook of the Activity API, one of the deprecated Account Activity API and an event of ``/2/dm_events`` say the same
message in three shapes; all three give one record under one key.

Shapes: github.com/xdevplatform/docs @2871328, x-api/activity/event-payloads.mdx, x-api/account-activity/
introduction.mdx, x-api/direct-messages/lookup/integrate.mdx, and openapi.json 2.167 of github.com/xdevplatform/xdk
@84c2654; read 2026-11, documented. X tells no edits, no deletions and no reactions. Encrypted messages (XChat) are not
in any of these; their events have no readable content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mappings.contact_points import clean_name
from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import PlatformEvent, id_of, object_of, objects_of, optional_object_of, optional_text_of
from mappings.from_x.content import Content, address_of_post, content_of_pushed, content_of_read, referenced
from mappings.from_x.times import moment_of_event, moment_of_snowflake
from mappings.ids import conversation_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Keywords
from mappings.platforms import Platform
from mappings.records import AuthorKind, Consent, Handle, Message, MessageKind, Profile, Receipt, Record

__all__ = ["ALARMS", "PLATFORM", "XContext", "account_of_event", "is_pushed", "moment_of_event", "records_from_x"]

CHANNEL = "x"
POLLED = "polled"
"""The kind of an item that ``/2/dm_events`` gave."""

IGNORED_LISTS = frozenset(
    "tweet_create_events tweet_delete_events favorite_events follow_events unfollow_events block_events unblock_events "
    "mute_events unmute_events user_event replay_event replay_events".split()
)
"""What else the Account Activity API tells."""

IGNORED_ACTIVITIES = (
    "profile.", "post.", "like.", "follow.", "chat.", "spaces.", "news.", "mute.", "block.", "broadcast.", "oauth.",
)  # fmt: skip
"""How the names of what else the Activity API tells begin. ``chat.`` is encrypted and cannot be read."""

ALARMS: Mapping[str, str] = {
    "oauth.revoke": "X: the account has taken the app's permission back; log in again",
    "user_event": "X: the account has taken the app's permission back; log in again",
    "chat.received": "X: an encrypted message (XChat) came, which no API of X gives away; answer it in X's own app",
}
"""Events that somebody must know of."""

_MEMBERSHIP: Mapping[str, str] = {"ParticipantsJoin": "participants_join", "ParticipantsLeave": "participants_leave"}
_PAIR = re.compile(r"([0-9]{1,20})[-:]([0-9]{1,20})")
_ID = re.compile(r"[0-9]{1,20}")
_AHEAD = timedelta(hours=1)
# A message's own time is up to 30 ms after the one in its id (observed in X's samples): a reading covers more.
_READ_MARGIN = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class XContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the delivery came, or when we asked.
        raw_ref: where its bytes are, e.g. ``delivery:17#0``.
        user_id: our account, for events that do not name it.
        bot_app_ids: apps that write by themselves under our account.
        escaped: whether ``&amp;``, ``&lt;`` and ``&gt;`` in texts stand for one character.
        polled: whether we asked for it.
    """

    received_at: datetime
    raw_ref: str
    user_id: str | None = None
    bot_app_ids: frozenset[str] = frozenset()
    escaped: bool = True
    polled: bool = False
    keywords: Keywords = DEFAULT_KEYWORDS


def records_from_x(item: PlatformEvent, context: XContext) -> list[Record]:
    """The records of one event; none for what is not about a customer, and for encrypted chats.

    `item` is what `taps.webhooks.x.split` gives, or kind ``polled`` with payload::

        {"account": "111", "event": {"id": "9", "event_type": "MessageCreate", "text": "Hi", "sender_id": "222",
         "dm_conversation_id": "111-222", "created_at": "2026-03-01T12:00:00.000Z"}, "includes": {"users": [...]}}

    Raises:
        UnknownShapeError: no rule for this kind of event.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    rule = _RULES.get(item.kind)
    if rule is not None:
        return rule(_Event(item, context))
    if item.kind in IGNORED_LISTS or item.kind.startswith(IGNORED_ACTIVITIES):
        return []
    msg = f"X: no rule for an event of kind {item.kind}"
    raise UnknownShapeError(msg)


def account_of_event(payload: Mapping[str, Any], user_id: str | None = None) -> str | None:
    """Our account in an event: whose subscription it is, else who of the two the kind of event says, else `user_id`."""
    account = payload.get("account")
    if isinstance(account, str) and _ID.fullmatch(account):
        return account
    event = payload.get("event")
    create = event.get("message_create") if isinstance(event, dict) else None
    if isinstance(create, dict):
        target = create.get("target")
        found = {"dm.sent": create, "dm.received": target if isinstance(target, dict) else {}}
        name = {"dm.sent": "sender_id", "dm.received": "recipient_id"}
        told = payload.get("event_type")
        value = found[told].get(name[told]) if isinstance(told, str) and told in found else None
        if isinstance(value, str) and _ID.fullmatch(value):
            return value
    return user_id


def is_pushed(event: Mapping[str, Any]) -> bool:
    """Whether webhooks tell of such an event of ``/2/dm_events``: a message between two (of groups it is not known)."""
    conversation = event.get("dm_conversation_id")
    between_two = isinstance(conversation, str) and _PAIR.fullmatch(conversation) is not None
    return event.get("event_type") == "MessageCreate" and between_two


class _Event:
    """One event with what stands around it."""

    def __init__(self, item: PlatformEvent, context: XContext) -> None:
        self.context = context
        self.where = f"X {item.kind}"
        self.payload = item.payload
        self.body = object_of(item.payload, "event", self.where)
        account = account_of_event(item.payload, context.user_id)
        if account is None:
            msg = f"{self.where}: it does not say which account of ours it came to; set user_id"
            raise MissingFieldError(msg)
        self.account = account
        self.includes = optional_object_of(item.payload, "includes", self.where) or {}

    def user_id(self, part: Mapping[str, Any], name: str) -> str:
        """The id of a user: digits, kept as text."""
        found = id_of(part, name, self.where)
        if not _ID.fullmatch(found):
            msg = f"{self.where}: {name} is not an id"
            raise MissingFieldError(msg)
        return found

    def profile(self, user_id: str) -> Profile | None:
        """What X said of a user here, in any of its three shapes. A name or username proves nothing."""
        where = self.where
        users = optional_object_of(self.payload, "users", where) or {}
        told = optional_object_of(users, user_id, where) or {}
        user: dict[str, Any] = optional_object_of(told, "data", where) or told
        if not user:
            user = next((one for one in objects_of(self.includes, "users", where) if one.get("id") == user_id), {})
        profile = Profile(
            name=clean_name(optional_text_of(user, "name", where)),
            username=optional_text_of(user, "username", where) or optional_text_of(user, "screen_name", where),
            picture_url=optional_text_of(user, "profile_image_url", where)
            or optional_text_of(user, "profile_image_url_https", where),
        )
        return profile if profile != Profile() else None

    def message_key(self, platform_id: str) -> str:
        """The key of a message."""
        return message_key(CHANNEL, self.account, platform_id)

    def conversation_key(self, thread: str) -> str:
        """The key of a thread: the customer's id, or the id of a group."""
        return conversation_key(CHANNEL, self.account, thread)

    def message(
        self, platform_id: str, thread: str, sender: str, customer: str | None, content: Content, **more: Any
    ) -> Message:
        """A message with all that every kind of it shares."""
        sent_at = moment_of_event(self.body, self.where)
        flags: list[str] = more.pop("flags", [])
        ours = sender == self.account
        profile = self.profile(customer) if customer else None
        author = self.profile(sender)
        author_kind: AuthorKind = more.pop("author_kind", "agent" if ours else "customer")
        return Message(
            message_key=self.message_key(platform_id),
            channel=CHANNEL,
            account=self.account,
            conversation_key=self.conversation_key(thread),
            direction="outbound" if ours else "inbound",
            kind=content.kind,
            text=content.text,
            attachments=content.attachments,
            content=content.details or None,
            flags=[*flags, *(["clock_ahead"] if sent_at - self.context.received_at > _AHEAD else [])],
            sent_at=sent_at,
            received_at=self.context.received_at,
            author_kind=author_kind,
            author_name=author.name if author and author_kind != "system" else None,
            handles=[_handle(customer)] if customer else [],
            profile=profile,
            seen_by="poll" if self.context.polled else "webhook",
            raw_ref=self.context.raw_ref,
            **more,
        )

    def consents(self, message: Message) -> list[Record]:
        """The message, and the decision about advertising that it is."""
        inbound = message.direction == "inbound" and message.kind == "text" and "group" not in message.flags
        decision = self.context.keywords.decision_of_text(message.text) if inbound else None
        if decision is None:
            return [message]
        (handle,) = message.handles
        consent = Consent(
            handle_key=handle.key,
            handle=handle,
            channel=CHANNEL,
            account=self.account,
            purpose="promotional",
            status=decision,
            source="keyword",
            source_message_key=message.message_key,
            decided_at=message.sent_at,
            raw_ref=self.context.raw_ref,
        )
        return [message, consent]


def _handle(user_id: str) -> Handle:
    """A user: the id is X's own, the same for everybody. A username can change hands and is none."""
    return Handle(kind="x_user", value=user_id)


# -- Messages --------------------------------------------------------------------------------------------------------


def _pushed(event: _Event) -> list[Record]:
    """A direct message of a webhook, in or out."""
    name = optional_text_of(event.body, "type", event.where)
    message_id = event.user_id(event.body, "id")
    if name != "message_create":
        msg = f"{event.where}: no rule for type {(name or 'none')[:40]}"
        raise UnknownShapeError(msg)
    create = object_of(event.body, "message_create", event.where)
    data = object_of(create, "message_data", event.where)
    target = optional_object_of(create, "target", event.where) or {}
    sender = event.user_id(create, "sender_id")
    conversation = optional_text_of(target, "conversation_id", event.where)
    if conversation is None:
        conversation = f"{sender}-{event.user_id(target, 'recipient_id')}"
    app_id = optional_text_of(create, "source_app_id", event.where)
    content = content_of_pushed(data, event.where, escaped=event.context.escaped)
    return _direct(event, message_id, conversation, sender, content, app_id)


def _polled(event: _Event) -> list[Record]:
    """An event of ``/2/dm_events``."""
    name = optional_text_of(event.body, "event_type", event.where)
    event_id = event.user_id(event.body, "id")
    if name is not None and name in _MEMBERSHIP:
        return _membership(event, event_id, _MEMBERSHIP[name])
    if name != "MessageCreate":
        msg = f"{event.where}: no rule for event_type {(name or 'none')[:40]}"
        raise UnknownShapeError(msg)
    conversation = optional_text_of(event.body, "dm_conversation_id", event.where)
    if conversation is None:
        msg = f"{event.where}: dm_conversation_id is missing"
        raise MissingFieldError(msg)
    sender = event.user_id(event.body, "sender_id")
    content = content_of_read(event.body, event.includes, event.where, escaped=event.context.escaped)
    return _direct(event, event_id, conversation, sender, content, None)


def _direct(
    event: _Event, message_id: str, conversation: str, sender: str, content: Content, app_id: str | None
) -> list[Record]:
    """A direct message between two, whose conversation is named after both (``111-222``), or in a group."""
    ours = sender == event.account
    more: dict[str, Any] = {}
    if ours:
        more = {
            "platform_app_id": app_id,
            "author_kind": "bot" if app_id in event.context.bot_app_ids else "agent",
        }
    pair = _PAIR.fullmatch(conversation)
    if pair is None:  # who of a group our words are for is not told
        return event.consents(
            event.message(message_id, conversation, sender, None if ours else sender, content, flags=["group"], **more)
        )
    if event.account not in pair.groups() or sender not in pair.groups():
        msg = f"{event.where}: the conversation is not one of this account and the sender"
        raise MissingFieldError(msg)
    customer = pair.group(2) if pair.group(1) == event.account else pair.group(1)
    return event.consents(event.message(message_id, customer, sender, customer, content, **more))


def _membership(event: _Event, event_id: str, kind: str) -> list[Record]:
    """Somebody joined or left a group: one message for each of them; none when it was us."""
    conversation = id_of(event.body, "dm_conversation_id", event.where)
    people = event.body.get("participant_ids")
    if not isinstance(people, list) or not all(isinstance(one, str) and _ID.fullmatch(one) for one in people):
        msg = f"{event.where}: participant_ids is not a list of ids"
        raise MissingFieldError(msg)
    by = event.body.get("sender_id")
    details = {"type": kind, **({"by": by} if isinstance(by, str) and _ID.fullmatch(by) else {})}
    system: MessageKind = "system"
    return [
        event.message(
            f"{event_id}.{one}", conversation, one, one, Content(system, details=dict(details)),
            flags=["group"], author_kind="system",
        )
        for one in dict.fromkeys(people)
        if one != event.account
    ]  # fmt: skip


def _mention(event: _Event) -> list[Record]:
    """A public post that names us."""
    post_id, author = event.user_id(event.body, "id"), event.user_id(event.body, "author_id")
    if author == event.account:
        return []
    root = optional_text_of(event.body, "conversation_id", event.where) or post_id
    long = optional_object_of(event.body, "note_post", event.where)
    note: dict[str, Any] = long or optional_object_of(event.body, "note_tweet", event.where) or {}
    body = event.body | {name: note[name] for name in ("text", "entities") if name in note}
    content = content_of_read(body, event.includes, event.where, escaped=event.context.escaped)
    replied = [
        id_of(one, "id", event.where) for one in referenced(body, event.where) if one.get("type") == "replied_to"
    ]
    return [
        event.message(
            f"post.{post_id}", f"post.{root}", author, author, content,
            origin="mention",
            origin_detail={"post_id": post_id, "conversation_id": root, "url": address_of_post(post_id)},
            reply_to_key=event.message_key(f"post.{replied[0]}") if replied else None,
            flags=["public"],
        )
    ]  # fmt: skip


# -- Receipts --------------------------------------------------------------------------------------------------------


def _read(event: _Event) -> list[Record]:
    """Somebody read the conversation up to a message; none when it was us."""
    reader = event.user_id(event.body, "sender_id")
    if reader == event.account:
        return []
    last = event.user_id(event.body, "last_read_event_id")
    reach = moment_of_snowflake(last)
    told = event.body.get("created_timestamp") is not None or event.body.get("created_at") is not None
    if told:
        occurred_at = moment_of_event(event.body, event.where)
    elif reach is not None:
        occurred_at = reach + _READ_MARGIN
    else:
        msg = f"{event.where}: there is no time"
        raise MissingFieldError(msg)
    conversation = event.conversation_key(reader)
    return [
        Receipt(
            subject_key=conversation,
            subject_kind="conversation",
            status="read",
            channel=CHANNEL,
            account=event.account,
            conversation_key=conversation,
            up_to_at=occurred_at if reach is None else min(reach + _READ_MARGIN, occurred_at),
            occurred_at=occurred_at,
            raw_ref=event.context.raw_ref,
        )
    ]


def _nothing(event: _Event) -> list[Record]:
    """Somebody is typing."""
    del event
    return []


_RULES: Mapping[str, Callable[[_Event], list[Record]]] = {
    "message": _pushed,
    POLLED: _polled,
    "mention": _mention,
    "read": _read,
    "typing": _nothing,
}


PLATFORM = Platform(
    slug="x",
    name="X",
    tap="taps.x:TapX",
    mapping="mappings.from_x",
    webhook="taps.webhooks.x",
    sandbox="sandbox.x:XApp",
    reads="unencrypted direct messages of both directions, 30 days back, groups, files, shared posts, reads, mentions",
    sends="",
)
