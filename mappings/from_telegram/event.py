"""One Telegram update with what stands around it, and what every mapping of one needs: parties, keys, records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from mappings.contact_points import clean_name
from mappings.errors import MissingFieldError
from mappings.fields import PlatformEvent, moment_of, object_of, optional_object_of, optional_text_of, text_of
from mappings.ids import conversation_key, evidence_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Decision, Keywords
from mappings.records import AuthorKind, Consent, Direction, Evidence, Handle, Message, MessageKind, Profile, Strength

CHANNEL = "telegram"
USER = "telegram_user"
CHAT = "telegram_chat"

_AHEAD = timedelta(hours=1)
_LARGEST = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class TelegramContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the update came to us.
        raw_ref: where it is, e.g. ``delivery:17#0`` or ``spool:17#0``.
        bot_id: our bot, the account; an update does not say whose it is.
        moved: id of a supergroup -> id of the group that it was before; see `migration_of`.
        default_region: of phones that customers write without country code, e.g. ``"GB"``.
        seen_by: how the update came.
    """

    received_at: datetime
    raw_ref: str
    bot_id: str
    moved: Mapping[str, str] = field(default_factory=dict)
    default_region: str | None = None
    keywords: Keywords = DEFAULT_KEYWORDS
    seen_by: Literal["webhook", "poll"] = "webhook"


@dataclass(frozen=True, slots=True)
class Party:
    """Who wrote: the customer's handle and profile, which way it went, and by whose hand."""

    customer: Handle
    profile: Profile | None
    direction: Direction
    author_kind: AuthorKind
    author_name: str | None
    flags: tuple[str, ...] = ()


class Event:
    """One update with what stands around it."""

    def __init__(self, item: PlatformEvent, context: TelegramContext) -> None:
        self.context = context
        self.where = f"Telegram {item.kind}"
        self.update_id = number_of(item.payload, "update_id", self.where)
        self.body = object_of(item.payload, "event", self.where)

    # Where

    def chat(self, message: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The chat of the event, or of a message inside it."""
        return object_of(self.body if message is None else message, "chat", self.where)

    def space(self, message: Mapping[str, Any] | None = None) -> str:
        """What message numbers are unique in: the chat; of a business account, the chat *of that account*.

        The bot's own chat with a customer and the business owner's chat with them have the same id, the customer's.
        """
        chat_id = number_of(self.chat(message), "id", self.where)
        connection = optional_text_of(self.body if message is None else message, "business_connection_id", self.where)
        return f"{connection}/{chat_id}" if connection else chat_id

    def topic(self, message: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """The topic of a channel's direct messages: each is a thread with one customer."""
        return optional_object_of(self.body if message is None else message, "direct_messages_topic", self.where)

    def thread(self, message: Mapping[str, Any] | None = None) -> str:
        """The thread: the chat under its first id (a group that became a supergroup keeps it), and its topic."""
        space, topic = self.space(message), self.topic(message)
        space = self.context.moved.get(space, space)
        return space if topic is None else f"{space}/{number_of(topic, 'topic_id', self.where)}"

    def message_key(self, number: str, space: str | None = None) -> str:
        """The key of the message of that number."""
        return message_key(CHANNEL, self.context.bot_id, number, space or self.space())

    def conversation_key(self, thread: str | None = None) -> str:
        """The key of the thread."""
        return conversation_key(CHANNEL, self.context.bot_id, thread or self.thread())

    # Who

    def party(self) -> Party:
        """Who wrote the message; see the page for whom that makes the customer."""
        body, where, chat = self.body, self.where, self.chat()
        chat_id, kind = number_of(chat, "id", where), text_of(chat, "type", where)
        author, topic = optional_object_of(body, "from", where), self.topic()
        sender_chat = optional_object_of(body, "sender_chat", where)
        if optional_text_of(body, "business_connection_id", where):
            return self._business_party(chat, author)
        if topic is not None:
            customer = object_of(topic, "user", where)
            ours = sender_chat is not None or author is None or author.get("id") != customer.get("id")
            return self._two_sides(customer, author, ours=ours)
        if kind == "channel":
            return Party(
                Handle(kind=CHAT, value=chat_id), chat_profile(chat, where), "outbound", "agent",
                clean_name(optional_text_of(body, "author_signature", where)), ("channel_post",),
            )  # fmt: skip
        group = ("group",) if kind != "private" else ()
        if sender_chat is not None and kind != "private":  # an anonymous administrator, or a channel of somebody's
            handle = Handle(kind=CHAT, value=number_of(sender_chat, "id", where))
            profile = chat_profile(sender_chat, where)
            forwarded = body.get("is_automatic_forward") is True  # the group's own channel posted it there
            return Party(
                handle, profile, "inbound", "system" if forwarded else "customer", name_of(profile),
                (*group, "channel_post") if forwarded else (*group, "anonymous"),
            )  # fmt: skip
        if author is None:
            author = chat if kind == "private" else object_of(body, "from", where)
        profile = user_profile(author, where)
        bot = author.get("is_bot") is True
        return Party(self.user(author), profile, "inbound", "bot" if bot else "customer", name_of(profile), group)

    def _business_party(self, chat: Mapping[str, Any], author: Mapping[str, Any] | None) -> Party:
        """In a business account: the chat is with the customer, and whoever else writes there is on our side."""
        ours = author is None or author.get("id") != chat.get("id")
        party = self._two_sides(chat, author, ours=ours)
        by_bot = optional_object_of(self.body, "sender_business_bot", self.where)
        offline = ("auto_reply",) if ours and self.body.get("is_from_offline") is True else ()
        return Party(
            party.customer, party.profile, party.direction, "bot" if by_bot else party.author_kind,
            name_of(user_profile(by_bot, self.where)) if by_bot else party.author_name, ("business", *offline),
        )  # fmt: skip

    def _two_sides(self, customer: Mapping[str, Any], author: Mapping[str, Any] | None, *, ours: bool) -> Party:
        profile = user_profile(customer if ours else author or customer, self.where)
        return Party(
            self.user(customer), profile, "outbound" if ours else "inbound", "agent" if ours else "customer",
            name_of(user_profile(author, self.where)) if author else None,
        )  # fmt: skip

    def user(self, user: Mapping[str, Any]) -> Handle:
        """A user as a handle: the number is global and for ever; a username is neither."""
        return Handle(kind=USER, value=number_of(user, "id", self.where))

    # When

    def moment(self, name: str = "date") -> datetime:
        """The platform's time of the event."""
        return moment_of(self.body.get(name), name, self.where)

    def turn(self, moment: datetime) -> str:
        """What tells two changes of one second apart, in order."""
        return f"{int(moment.timestamp())}.{self.update_id.zfill(20)}"

    # Records

    def message(
        self,
        number: str,
        kind: MessageKind,
        party: Party,
        *,
        sent_at: datetime | None = None,
        thread: str | None = None,
        space: str | None = None,
        flags: tuple[str, ...] = (),
        content: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Message:
        """A message with all that every kind of it shares; without `sent_at`, of the moment when it came to us."""
        context = self.context
        if sent_at is None:
            flags = (*flags, "time_of_receipt")
        elif sent_at - context.received_at > _AHEAD:
            flags = (*flags, "clock_ahead")
        return Message(
            message_key=self.message_key(number, space),
            channel=CHANNEL,
            account=context.bot_id,
            conversation_key=self.conversation_key(thread),
            direction=party.direction,
            kind=kind,
            content=dict(content) if content else None,
            flags=[*party.flags, *flags],
            sent_at=sent_at or context.received_at,
            received_at=context.received_at,
            author_kind="system" if kind == "system" else party.author_kind,
            author_name=party.author_name,
            handles=[party.customer],
            profile=party.profile,
            seen_by=context.seen_by,
            raw_ref=context.raw_ref,
            **more,
        )

    def evidence(
        self, method: str, strength: Strength, handles: list[Handle], told_in: str, name: str | None = None
    ) -> Evidence:
        """Handles seen together in the message of that key."""
        return Evidence(
            evidence_key=evidence_key(CHANNEL, self.context.bot_id, method, told_in),
            method=method,
            strength=strength,
            channel=CHANNEL,
            account=self.context.bot_id,
            handles=handles,
            observed_at=self.moment(),
            profile=Profile(name=name) if name else None,
            raw_ref=self.context.raw_ref,
        )

    def consent(
        self, decision: Decision, source: str, customer: Handle, told_in: str | None, decided_at: datetime
    ) -> Consent:
        """The customer's decision about advertising."""
        return Consent(
            handle_key=customer.key,
            handle=customer,
            channel=CHANNEL,
            account=self.context.bot_id,
            purpose="promotional",
            status=decision,
            source=source,
            source_message_key=told_in,
            decided_at=decided_at,
            raw_ref=self.context.raw_ref,
        )


def number_of(payload: Mapping[str, Any], name: str, where: str) -> str:
    """A whole number of Telegram's (an id of up to 52 bits; a chat's may be negative), as text.

    Raises:
        MissingFieldError: it is absent or none.
    """
    value = payload.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not -_LARGEST <= value <= _LARGEST:
        msg = f"{where}: {name} is missing" if value is None else f"{where}: {name} is not a whole number of 52 bits"
        raise MissingFieldError(msg)
    return str(value)


def user_profile(user: Mapping[str, Any], where: str) -> Profile | None:
    """Names and language of a user, or of the other side of a private chat; ``None`` when there is none of them."""
    names = [optional_text_of(user, name, where) for name in ("first_name", "last_name")]
    profile = Profile(
        name=clean_name(" ".join(name for name in names if name)),
        username=clean_name(optional_text_of(user, "username", where)),
        locale=clean_name(optional_text_of(user, "language_code", where), limit=35),
    )
    return profile if profile != Profile() else None


def name_of(profile: Profile | None) -> str | None:
    """The name in a profile."""
    return profile.name if profile else None


def chat_profile(chat: Mapping[str, Any], where: str) -> Profile | None:
    """Title and username of a group or channel; ``None`` when it has neither."""
    profile = Profile(
        name=clean_name(optional_text_of(chat, "title", where)),
        username=clean_name(optional_text_of(chat, "username", where)),
    )
    return profile if profile != Profile() else None


def short_name(value: Any) -> str:
    """A name of the vendor's, fit for a message or a log: short and of harmless characters."""
    return re.sub(r"[^\w.-]", "?", str(value))[:60]
