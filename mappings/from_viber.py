"""Viber bot webhooks as canonical records.

Shapes: developers.viber.com/docs/api/rest-bot-api (callbacks), documented; github.com/viber/viber-bot-python @5cfe34e
(its models and test data), documented; read 2026-11. Viber tells no edits, no unsends and no reactions, and nothing of
what the bot itself sent. An event does not name the bot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mappings.contact_points import clean_name, normalize_phone
from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import (
    PlatformEvent,
    chosen,
    moment_of,
    object_of,
    optional_object_of,
    optional_text_of,
    storable,
    text_of,
)
from mappings.ids import conversation_key, evidence_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Decision, Keywords
from mappings.platforms import Platform
from mappings.records import (
    Attachment,
    AuthorKind,
    Consent,
    Evidence,
    Handle,
    Message,
    MessageKind,
    Profile,
    Receipt,
    ReceiptStatus,
    Record,
)

__all__ = ["PLATFORM", "ViberContext", "records_from_viber"]

CHANNEL = "viber"

MESSAGE_KINDS: Mapping[str, MessageKind] = {
    "text": "text",
    "picture": "image",
    "video": "video",
    "file": "file",
    "contact": "contacts",
    "location": "location",
    "sticker": "sticker",
    "url": "text",
}
"""``message.type`` -> kind; any other is ``unsupported`` under its own name."""

STATUSES: Mapping[str, ReceiptStatus] = {"delivered": "delivered", "seen": "read", "failed": "failed"}
"""``event`` that says what became of a message."""

IGNORED = frozenset({"webhook"})
"""The ping inside ``set_webhook``; its timestamp is none."""

_AHEAD = timedelta(hours=1)
_DIGITS = re.compile(r"[0-9]{1,20}")
_LARGEST_TOKEN = 2**64 - 1
_LARGEST_SIZE = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ViberContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the delivery came.
        raw_ref: where its bytes are, e.g. ``delivery:17#0``.
        account: the bot; user ids are unique within it.
        default_region: of phones on shared contacts without country code, e.g. ``"GB"``.
    """

    received_at: datetime
    raw_ref: str
    account: str
    default_region: str | None = None
    keywords: Keywords = DEFAULT_KEYWORDS


def records_from_viber(item: PlatformEvent, context: ViberContext) -> list[Record]:
    """The records of one event; none for `IGNORED` kinds.

    `item` is what `taps.webhooks.viber.split` gives, e.g. kind ``message`` with payload::

        {"event": {"event": "message", "timestamp": 1457764197627, "message_token": 4912661846655238145,
                   "sender": {"id": "01234567890A=", "name": "Ada"}, "message": {"type": "text", "text": "Hi"}}}

    Raises:
        UnknownShapeError: no rule for this kind of event.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    if item.kind in IGNORED:
        return []
    rule = _RULES.get(item.kind)
    if rule is None:
        msg = f"Viber: no rule for an event of kind {item.kind}"
        raise UnknownShapeError(msg)
    return rule(_Event(item, context))


class _Event:
    """One event with what stands around it."""

    def __init__(self, item: PlatformEvent, context: ViberContext) -> None:
        self.context = context
        self.kind = item.kind
        self.where = f"Viber {item.kind}"
        self.body = object_of(item.payload, "event", self.where)
        self.person = next(
            (found for name in ("sender", "user") if (found := optional_object_of(self.body, name, self.where))), {}
        )
        user_id = optional_text_of(self.person, "id", self.where) or text_of(self.body, "user_id", self.where)
        self.customer = Handle(kind="viber_user", scope=context.account, value=user_id)
        self.name = clean_name(optional_text_of(self.person, "name", self.where))

    def moment(self) -> datetime:
        """The platform's time of the event."""
        return moment_of(self.body.get("timestamp"), "timestamp", self.where)

    def token(self) -> str:
        """The message token as text: it is a 64-bit number, sometimes written as text."""
        token = self.body.get("message_token")
        if isinstance(token, int) and not isinstance(token, bool) and 0 <= token <= _LARGEST_TOKEN:
            return str(token)
        if isinstance(token, str) and _DIGITS.fullmatch(token):
            return token
        msg = f"{self.where}: message_token is not a 64-bit number"
        raise MissingFieldError(msg)

    def own_id(self) -> str:
        """An id for what is no message: its name and token, else its moment and customer, the same in every repeat."""
        told = self.body.get("message_token") is not None
        own = self.token() if told else f"{int(self.moment().timestamp() * 1000)}.{self.customer.value}"
        return f"{self.kind}.{own}"

    def message_key(self, token: str) -> str:
        """The key of a message to or from this bot."""
        return message_key(CHANNEL, self.context.account, token)

    @property
    def conversation_key(self) -> str:
        """The key of the customer's thread with the bot."""
        return conversation_key(CHANNEL, self.context.account, self.customer.value)

    def message(
        self, message_id: str, kind: MessageKind, *, author_kind: AuthorKind = "customer",
        content: Mapping[str, Any] | None = None, **more: Any,
    ) -> Message:  # fmt: skip
        """An inbound message with all that every kind of it shares."""
        sent_at = self.moment()
        profile = Profile(
            name=self.name,
            locale=optional_text_of(self.person, "language", self.where),
            picture_url=optional_text_of(self.person, "avatar", self.where),
        )
        return Message(
            message_key=self.message_key(message_id),
            channel=CHANNEL,
            account=self.context.account,
            conversation_key=self.conversation_key,
            direction="inbound",
            kind=kind,
            content=dict(content) if content else None,
            flags=["clock_ahead"] if sent_at - self.context.received_at > _AHEAD else [],
            sent_at=sent_at,
            received_at=self.context.received_at,
            author_kind=author_kind,
            author_name=self.name if author_kind == "customer" else None,
            handles=[self.customer],
            profile=profile if profile != Profile() else None,
            raw_ref=self.context.raw_ref,
            **more,
        )

    def consent(self, decision: Decision, source: str, told_in: str) -> Consent:
        """The customer's decision about advertising."""
        return Consent(
            handle_key=self.customer.key,
            handle=self.customer,
            channel=CHANNEL,
            account=self.context.account,
            purpose="promotional",
            status=decision,
            source=source,
            source_message_key=told_in,
            decided_at=self.moment(),
            raw_ref=self.context.raw_ref,
        )


# -- Messages --------------------------------------------------------------------------------------------------------


def _message(event: _Event) -> list[Record]:
    """``message``: what a customer wrote. A pressed keyboard button comes as a text as well."""
    where = event.where
    part = object_of(event.body, "message", where)
    name = text_of(part, "type", where)
    kind = MESSAGE_KINDS.get(name, "unsupported")
    text = optional_text_of(part, "text", where)
    content: dict[str, Any] = {} if kind != "unsupported" else {"type": storable(name[:60])}
    attachments: list[Attachment] = []
    contact: dict[str, Any] = {}
    match name:
        case "text":
            text = text_of(part, "text", where)
        case "url":
            link = text_of(part, "media", where)
            text = f"{text}\n{link}" if text else link
        case "picture" | "video" | "file":
            attachments = [_attachment(part, name, where)]
            content |= chosen(part, ("duration",))
        case "contact":
            contact = object_of(part, "contact", where)
            content |= {"contacts": [chosen(contact, ("name", "phone_number"))]}
        case "location":
            content |= _location(object_of(part, "location", where), where)
        case "sticker":
            content |= _ids(part, ("sticker_id",))
        case _:
            pass
    content |= chosen(part, ("tracking_data",)) | _ids(event.body, ("chat_id",)) | chosen(event.body, ("reply_type",))
    message = event.message(event.token(), kind, content=content, text=text, attachments=attachments)
    records: list[Record] = [message, *_shared_contact(event, contact, message.message_key)]
    decision = event.context.keywords.decision_of_text(text) if name == "text" else None
    return [*records, event.consent(decision, "keyword", message.message_key)] if decision else records


def _ids(part: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the ids that there are, as text: some are numbers of 64 bits."""
    return {name: str(value) if isinstance(value, int) else value for name, value in chosen(part, names).items()}


def _attachment(part: Mapping[str, Any], name: str, where: str) -> Attachment:
    """A file, at an address that works for a while and for everybody."""
    size = part.get("size")
    known = isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= _LARGEST_SIZE
    return Attachment(
        kind="image" if name == "picture" else "video" if name == "video" else "file",
        url=text_of(part, "media", where),
        filename=optional_text_of(part, "file_name", where),
        size_bytes=size if known else None,
    )


def _location(place: Mapping[str, Any], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, ours, limit in (("lat", "latitude", 90), ("lon", "longitude", 180)):
        value = place.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
            msg = f"{where}: {name} is not a number between -{limit} and {limit}"
            raise MissingFieldError(msg)
        found[ours] = value
    return found


def _shared_contact(event: _Event, contact: Mapping[str, Any], told_in: str) -> list[Evidence]:
    """A shared contact. Viber does not say whose it is: the sender's own number, or anybody's.

    So it is *claimed* at most, and beside the sender only when it goes by the sender's own name (the button that asks
    for the number sends that) or by none.
    """
    raw = optional_text_of(contact, "phone_number", event.where)
    region = event.context.default_region
    bare = raw is not None and raw.strip().isdecimal() and region is None
    phone = normalize_phone(f"+{raw.strip()}" if bare and raw else raw, region) if raw else None
    if phone is None:
        return []
    name = clean_name(optional_text_of(contact, "name", event.where))
    own = name is None or name == event.name
    method = "shared_phone" if own else "contact_card"
    on_card = Handle(kind="phone", value=phone)
    return [
        Evidence(
            evidence_key=evidence_key(CHANNEL, event.context.account, method, told_in),
            method=method,
            strength="claimed",
            channel=CHANNEL,
            account=event.context.account,
            handles=[event.customer, on_card] if own else [on_card],
            observed_at=event.moment(),
            profile=Profile(name=name) if name else None,
            raw_ref=event.context.raw_ref,
        )
    ]


def _opened(event: _Event) -> list[Record]:
    """``conversation_started``: somebody opened the chat, perhaps by a link of ours. They said and allowed nothing."""
    context = optional_text_of(event.body, "context", event.where)
    message = event.message(
        event.own_id(),
        "referral",
        author_kind="system",
        content={"type": "conversation_started", **chosen(event.body, ("subscribed",))},
        origin_detail={"context": context} if context else None,
    )
    return [message]


def _subscribed(event: _Event) -> list[Record]:
    """``subscribed``: we may write now. That is no consent to advertising."""
    return [event.message(event.own_id(), "system", author_kind="system", content={"type": "subscribed"})]


def _unsubscribed(event: _Event) -> list[Record]:
    """``unsubscribed``: no more advertising.

    That says nothing about answers: the customer's next message subscribes them again, which Viber does not tell; until
    then it refuses what is sent.
    """
    message = event.message(event.own_id(), "system", author_kind="system", content={"type": "unsubscribed"})
    return [message, event.consent("opted_out", "unsubscribed", message.message_key)]


# -- Receipts --------------------------------------------------------------------------------------------------------


def _receipt(event: _Event) -> list[Record]:
    """``delivered``, ``seen``, ``failed``. The first also comes for what the customer wrote."""
    status = STATUSES[event.kind]
    failed = status == "failed"
    return [
        Receipt(
            subject_key=event.message_key(event.token()),
            subject_kind="message",
            status=status,
            channel=CHANNEL,
            account=event.context.account,
            conversation_key=event.conversation_key,
            occurred_at=event.moment(),
            reason=clean_name(optional_text_of(event.body, "desc", event.where)) if failed else None,
            actor="operator" if failed else "nobody",
            raw_ref=event.context.raw_ref,
        )
    ]


_RULES: Mapping[str, Callable[[_Event], list[Record]]] = {
    "message": _message,
    "conversation_started": _opened,
    "subscribed": _subscribed,
    "unsubscribed": _unsubscribed,
    **dict.fromkeys(STATUSES, _receipt),
}


PLATFORM = Platform(
    slug="viber",
    name="Viber",
    tap="taps.viber:TapViber",
    mapping="mappings.from_viber",
    webhook="taps.webhooks.viber",
    sandbox="sandbox.viber:ViberApp",
    reads="messages with names, deliveries, reads, failures, subscriptions, shared contacts",
    sends="",
)
