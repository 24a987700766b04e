"""Telegram updates as canonical records.

Shapes: core.telegram.org/bots/api (Bot API 10.1 of 2026-06-11; machine-readable copy github.com/PaulSonOfLars/
telegram-bot-api-spec @160fd99), documented, read 2026-11. Whom we take for the customer in groups, channels and
business accounts is ours: see the page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from mappings.contact_points import clean_name, normalize_email, normalize_phone, normalize_whatsapp_id
from mappings.errors import MissingFieldError, PayloadError, UnknownShapeError
from mappings.fields import PlatformEvent, chosen, object_of, objects_of, optional_object_of, optional_text_of, text_of
from mappings.from_telegram.codes import IGNORED
from mappings.from_telegram.content import Content, around, content_of
from mappings.from_telegram.event import (
    CHANNEL,
    CHAT,
    USER,
    Event,
    Party,
    TelegramContext,
    chat_profile,
    name_of,
    number_of,
    short_name,
    user_profile,
)
from mappings.ids import change_key
from mappings.platforms import Platform
from mappings.records import AuthorKind, Consent, Evidence, Handle, Message, MessageChange, Origin, Record

__all__ = ["PLATFORM", "TelegramContext", "migration_of", "records_from_telegram"]

# The payload of a deep link: documented as up to 64 of these characters.
_START = re.compile(r"/start(?:@\w{1,64})?[ \n]([A-Za-z0-9_-]{1,64})\s*")
_IN, _OUT = {"member", "administrator", "creator"}, {"kicked"}


def records_from_telegram(item: PlatformEvent, context: TelegramContext) -> list[Record]:
    """The records of one event; none for `IGNORED` kinds, moves of a live location, and the bot's place in groups.

    `item` is what `taps.webhooks.telegram.split` gives, e.g. kind ``message`` with payload::

        {"update_id": 10000, "event": {"message_id": 7, "date": 1772366400, "text": "Hello",
         "chat": {"id": 5000000001, "type": "private", "first_name": "Ada"},
         "from": {"id": 5000000001, "is_bot": False, "first_name": "Ada"}}}

    Raises:
        UnknownShapeError: no rule for this kind of event.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    if item.kind in IGNORED:
        return []
    rule = _RULES.get(item.kind)
    if rule is None:
        msg = f"Telegram: no rule for an event of kind {short_name(item.kind)}"
        raise UnknownShapeError(msg)
    return rule(Event(item, context))


def migration_of(item: PlatformEvent) -> tuple[str, str] | None:
    """(new id, old id) when an event says that a group became a supergroup, else ``None``.

    Both chats say so: the old one with ``migrate_to_chat_id``, the new one with ``migrate_from_chat_id``.
    """
    event = item.payload.get("event")
    if item.kind != "message" or not isinstance(event, dict):
        return None
    try:
        chat_id = number_of(object_of(event, "chat", "Telegram chat"), "id", "Telegram chat")
        if event.get("migrate_to_chat_id") is not None:
            return number_of(event, "migrate_to_chat_id", "Telegram chat"), chat_id
        if event.get("migrate_from_chat_id") is not None:
            return chat_id, number_of(event, "migrate_from_chat_id", "Telegram chat")
    except PayloadError:
        return None  # its mapping says what is wrong
    return None


# -- Messages --------------------------------------------------------------------------------------------------------


def _message(event: Event) -> list[Record]:
    """``message``, ``channel_post``, ``business_message``, ``guest_message``."""
    body, where, party = event.body, event.where, event.party()
    content, details = content_of(body, where), around(body, where)
    start = _START.fullmatch(content.text) if content.kind == "text" and content.text else None
    replied = _replied_to(body, where)
    post = replied if replied is not None and replied.get("is_automatic_forward") is True else None
    guest = event.where.endswith("guest_message")
    origin: Origin = "mention" if guest else "comment" if post else "direct"
    origin_detail: dict[str, Any] | None = None
    if start:
        origin_detail = {"source": "start", "ref": start.group(1)}
    elif post:
        origin_detail = {"source": "channel_post", "message_id": number_of(post, "message_id", where)}
    flags = tuple(
        flag
        for flag, holds in {
            "forwarded": "forwarded_from" in details,
            "guest": guest,
            "via_bot": optional_object_of(body, "via_bot", where) is not None,
        }.items()
        if holds
    )
    by_bot = optional_object_of(body, "sender_business_bot", where)
    message = event.message(
        number_of(body, "message_id", where),
        "referral" if start else content.kind,
        party,
        sent_at=event.moment(),
        flags=flags,
        content={**content.details, **details},
        text=content.text,
        attachments=content.attachments,
        reply_to_key=event.message_key(number_of(replied, "message_id", where)) if replied is not None else None,
        origin=origin,
        origin_detail=origin_detail,
        platform_app_id=number_of(by_bot, "id", where) if by_bot is not None else None,
    )
    records: list[Record] = [message, *_given(event, party, message)]
    to_us = not {"group", "guest", "forwarded"} & {*message.flags}
    if party.direction == "inbound" and party.author_kind == "customer" and to_us:
        records += _decision(event, party, content, message)
    return records


def _replied_to(body: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """The message that this one answers. Every message of a topic "replies" to the topic's first: that is no answer."""
    replied = optional_object_of(body, "reply_to_message", where)
    if replied is not None and body.get("is_topic_message") is True and replied.get("forum_topic_created") is not None:
        return None
    return replied


def _decision(event: Event, party: Party, content: Content, message: Message) -> list[Consent]:
    """The consent in a message of one word. ``/start`` opens every chat with a bot, so it is no "yes"."""
    text = content.text if content.kind == "text" else None
    decision = event.context.keywords.decision_of_text(text)
    if text is None or decision is None or (decision == "opted_in" and text.lstrip().startswith("/")):
        return []
    return [event.consent(decision, "keyword", party.customer, message.message_key, message.sent_at)]


def _given(event: Event, party: Party, message: Message) -> list[Evidence]:
    """What the message says of phones and addresses: a shared contact, or what was entered for a payment."""
    body, where = event.body, event.where
    contact = optional_object_of(body, "contact", where) if message.kind == "contacts" else None
    if contact is not None:
        return _shared_contact(event, party, contact, message)
    payment = optional_object_of(body, "successful_payment", where) if message.kind == "order" else None
    order = optional_object_of(payment or {}, "order_info", where) or {}
    email, phone = (optional_text_of(order, name, where) for name in ("email", "phone_number"))
    # Telegram's form asks for the country code and may leave out its plus (assumed).
    number = phone and (_phone(event, phone) or normalize_whatsapp_id(phone))
    typed = [
        Handle(kind=kind, value=value)
        for kind, value in (("email", email and normalize_email(email)), ("phone", number))
        if value
    ]
    name = clean_name(optional_text_of(order, "name", where))
    if not typed:
        return []
    return [event.evidence("order_info", "claimed", [party.customer, *typed], message.message_key, name)]


def _shared_contact(event: Event, party: Party, contact: Mapping[str, Any], message: Message) -> list[Evidence]:
    """The customer's own number is *verified*: Telegram, not the sender, says whose number a contact is.

    It must be their own (the ids are equal) and sent just now: a forwarded card tells of the past. Any other card says
    what its sender wants it to say: *claimed*.
    """
    where = event.where
    raw = text_of(contact, "phone_number", where)
    owner = None if contact.get("user_id") is None else number_of(contact, "user_id", where)
    # A number that Telegram knows is international, with or without a plus; any other is as somebody typed it.
    phone = (normalize_whatsapp_id(raw) if owner else None) or _phone(event, raw)
    if phone is None:
        return []
    told = Handle(kind="phone", value=phone)
    names = (optional_text_of(contact, name, where) for name in ("first_name", "last_name"))
    name = clean_name(" ".join(one for one in names if one))
    own = owner is not None and owner == party.customer.value and party.customer.kind == USER
    if own and party.direction == "inbound" and "forwarded" not in message.flags:
        return [event.evidence("contact_shared", "verified", [party.customer, told], message.message_key)]
    handles = [told] if owner is None else [Handle(kind=USER, value=owner), told]
    return [event.evidence("contact_card", "claimed", handles, message.message_key, name)]


def _phone(event: Event, raw: str) -> str | None:
    return normalize_phone(raw, event.context.default_region)


def _callback(event: Event) -> list[Record]:
    """``callback_query``: a button under a message was pressed. Telegram does not say when."""
    body, where = event.body, event.where
    user = object_of(body, "from", where)
    pressed = optional_object_of(body, "message", where)
    data = optional_text_of(body, "data", where)
    label = _label(pressed, data, where) if pressed else None
    space = event.space(pressed) if pressed else number_of(user, "id", where)
    kind = text_of(event.chat(pressed), "type", where) if pressed else "private"
    profile = user_profile(user, where)
    flags = ("group",) if kind != "private" else ("business",) if "/" in space else ()
    party = Party(event.user(user), profile, "inbound", "customer", name_of(profile), flags)
    details = {"answer": "callback_query", **({"payload": data} if data else {})}
    message = event.message(
        f"callback.{text_of(body, 'id', where)}",
        "answer",
        party,
        thread=event.thread(pressed) if pressed else space,
        space=space,
        content={**details, **chosen(body, ("game_short_name",))},
        text=label,
        reply_to_key=event.message_key(number_of(pressed, "message_id", where), space) if pressed else None,
    )
    decision = event.context.keywords.decision_of_button(label, data)
    if decision is None:
        return [message]
    consent = event.consent(decision, "template_answer", party.customer, message.message_key, message.sent_at)
    return [message, consent]


def _label(pressed: Mapping[str, Any], data: str | None, where: str) -> str | None:
    """What stands on the button with that data; a message that is too old to be told has no buttons."""
    markup = optional_object_of(pressed, "reply_markup", where) or {}
    rows = markup.get("inline_keyboard")
    for row in rows if isinstance(rows, list) else []:
        for button in row if isinstance(row, list) else []:
            if isinstance(button, dict) and data is not None and button.get("callback_data") == data:
                return optional_text_of(button, "text", where)
    return None


def _poll_answer(event: Event) -> list[Record]:
    """``poll_answer``: somebody voted in a poll of ours. Telegram says neither when nor in which chat."""
    body, where = event.body, event.where
    party = _voter(event)
    poll = text_of(body, "poll_id", where)
    message = event.message(
        f"poll.{poll}.{event.update_id}",
        "answer",
        party,
        thread=party.customer.value,
        space=party.customer.value,
        content={"answer": "poll_answer", "poll_id": poll, **chosen(body, ("option_ids",))},
    )
    return [message]


def _voter(event: Event) -> Party:
    user = optional_object_of(event.body, "user", event.where)
    if user is None:  # anonymous: on behalf of a group or channel
        chat = object_of(event.body, "voter_chat", event.where)
        handle = Handle(kind=CHAT, value=number_of(chat, "id", event.where))
        profile = chat_profile(chat, event.where)
    else:
        handle, profile = event.user(user), user_profile(user, event.where)
    return Party(handle, profile, "inbound", "customer", name_of(profile))


# -- Changes ---------------------------------------------------------------------------------------------------------


def _edit(event: Event) -> list[Record]:
    """``edited_message`` and its kin: the whole message as it is now; what is new in it is the text or caption."""
    location = optional_object_of(event.body, "location", event.where)
    if location is not None and event.body.get("venue") is None:
        return []  # a live location moves every few seconds; its first place stays
    party, moment = event.party(), event.moment("edit_date")
    text = content_of(event.body, event.where).text
    number = number_of(event.body, "message_id", event.where)
    return [_change(event, "edit", number, event.turn(moment), party.customer, party.author_kind, moment, text=text)]


def _deleted(event: Event) -> list[Record]:
    """``deleted_business_messages``: by either side of the chat. Telegram says neither who nor when."""
    numbers = event.body.get("message_ids")
    if not isinstance(numbers, list) or not numbers:
        msg = f"{event.where}: message_ids is not a list of numbers"
        raise MissingFieldError(msg)
    customer = event.user(event.chat())
    return [
        _change(
            event, "unsend", number_of({"message_id": number}, "message_id", event.where), "deleted", customer,
            "system", event.context.received_at,
        )
        for number in numbers
    ]  # fmt: skip


def _reaction(event: Event) -> list[Record]:
    """``message_reaction``: what somebody's reactions to a message are now; none: they were taken back."""
    body, where = event.body, event.where
    user, chat = (optional_object_of(body, name, where) for name in ("user", "actor_chat"))
    if user is None and chat is None:
        msg = f"{where}: it names nobody"
        raise MissingFieldError(msg)
    who = event.user(user) if user else Handle(kind=CHAT, value=number_of(chat or {}, "id", where))
    now = objects_of(body, "new_reaction", where)
    # A custom emoji is a picture, for which there is no character; the star of a paid reaction is assumed.
    signs = ["⭐" if one.get("type") == "paid" else optional_text_of(one, "emoji", where) for one in now]
    moment = event.moment()
    change: Literal["react", "unreact"] = "react" if now else "unreact"
    number = number_of(body, "message_id", where)
    emoji = "".join(sign for sign in signs if sign) or None
    turn = f"{event.turn(moment)}.{who.value}"
    return [_change(event, change, number, turn, who, "customer", moment, emoji=emoji)]


def _change(
    event: Event,
    change: Literal["edit", "unsend", "react", "unreact"],
    number: str,
    turn: str,
    customer: Handle,
    author_kind: AuthorKind,
    changed_at: Any,
    **more: Any,
) -> MessageChange:
    subject = event.message_key(number)
    return MessageChange(
        change_key=change_key(subject, change, turn),
        message_key=subject,
        channel=CHANNEL,
        account=event.context.bot_id,
        conversation_key=event.conversation_key(),
        change=change,
        author_kind=author_kind,
        changed_at=changed_at,
        handles=[customer],
        raw_ref=event.context.raw_ref,
        **more,
    )


# -- Whether the bot is wanted ---------------------------------------------------------------------------------------


def _my_chat_member(event: Event) -> list[Record]:
    """``my_chat_member`` of a private chat: the customer blocked the bot (a "no"), or took that back (no "yes")."""
    body, where = event.body, event.where
    if text_of(event.chat(), "type", where) != "private":
        return []
    before, now = (
        text_of(object_of(body, name, where), "status", where) for name in ("old_chat_member", "new_chat_member")
    )
    if now not in _IN | _OUT:
        msg = f"{where}: status {short_name(now)} is not known in a private chat"
        raise UnknownShapeError(msg)
    blocked = now in _OUT
    user, moment = object_of(body, "from", where), event.moment()
    profile = user_profile(user, where)
    party = Party(event.user(user), profile, "inbound", "system", None)
    message = event.message(
        f"member.{event.turn(moment)}",
        "system",
        party,
        sent_at=moment,
        content={"type": "blocked" if blocked else "unblocked" if before in _OUT else "joined"},
    )
    if not blocked:
        return [message]
    return [message, event.consent("opted_out", "preference", party.customer, message.message_key, moment)]


_RULES: Mapping[str, Callable[[Event], list[Record]]] = {
    "message": _message,
    "edited_message": _edit,
    "channel_post": _message,
    "edited_channel_post": _edit,
    "business_message": _message,
    "edited_business_message": _edit,
    "deleted_business_messages": _deleted,
    "guest_message": _message,
    "message_reaction": _reaction,
    "callback_query": _callback,
    "poll_answer": _poll_answer,
    "my_chat_member": _my_chat_member,
}

PLATFORM = Platform(
    slug="telegram",
    name="Telegram",
    tap="taps.telegram:TapTelegram",
    mapping="mappings.from_telegram",
    webhook="taps.webhooks.telegram",
    sandbox="sandbox.telegram:TelegramApp",
    reads="messages of bots, groups, channels and business accounts, edits, deletions (business accounts), reactions, "
    "pressed buttons, shared phone numbers, blocks, opt-outs",
    sends="",
)
