"""Chatwoot's web chat as canonical records: what visitors write, what agents and bots answer, who the visitor is.

Shapes: github.com/chatwoot/chatwoot, app/models/message.rb (``webhook_data``; codes of ``message_type``,
``content_type``, ``status``), app/presenters/conversations/event_data_presenter.rb, app/models/attachment.rb
(``push_event_data``), app/views/api/v1/models/_message.json.jbuilder and .../conversations/partials/
_conversation.json.jbuilder (the same by the API: codes for words, seconds for times), read 2026-11, observed.

``hmac_verified`` says that the site signed the visitor's *identifier* (app/controllers/api/v1/widget/
contacts_controller.rb, observed). The e-mail address and the phone number beside it are what a browser said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

from mappings.contact_points import clean_name, normalize_email, normalize_phone
from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import (
    PlatformEvent,
    chosen,
    id_of,
    object_of,
    optional_object_of,
    optional_text_of,
    reply_token_of,
    storable,
)
from mappings.from_chatwoot.codes import (
    ANSWERS,
    CHANNEL,
    MESSAGE_TYPES,
    STATUSES,
    WEB_CHANNELS,
)
from mappings.from_chatwoot.content import files_of, is_number, kind_of, words_of
from mappings.from_chatwoot.event import (
    ChatwootContext,
    VerifiedBy,
    account_of,
    channel_of,
    handle_of,
    moment_of_chatwoot,
    profile_of,
    thread_of,
)
from mappings.ids import change_key, evidence_key
from mappings.platforms import Platform
from mappings.records import (
    AuthorKind,
    Consent,
    Direction,
    Evidence,
    Handle,
    Message,
    MessageChange,
    Receipt,
    Record,
    Strength,
)

__all__ = [
    "PLATFORM",
    "ChatwootContext",
    "VerifiedBy",
    "channel_of",
    "is_read",
    "moment_of_chatwoot",
    "records_from_chatwoot",
]


def records_from_chatwoot(item: PlatformEvent, context: ChatwootContext) -> list[Record]:
    """The records of one event; none for a private note, for what Chatwoot tells its agents, and for other channels.

    `item` is what `taps.webhooks.chatwoot.split` gives, with payload::

        {"account": {"id": 2}, "conversation": {"id": 7, "channel": "Channel::WebWidget", "inbox_id": 3,
         "meta": {"sender": {"id": 4, "identifier": None, ...}, "hmac_verified": False}},
         "message": {"id": 654, "content": "Hello", "message_type": "incoming", "created_at": "2026-03-01T..."}}

    Raises:
        UnknownShapeError: no rule for this kind of event, or for this type of message.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    if item.kind in _IGNORED:
        return []
    rule = _RULES.get(item.kind)
    if rule is None:
        msg = "Chatwoot: no rule for this event; does another program post to this address?"
        raise UnknownShapeError(msg)
    if item.kind != "contact" and not is_read(item.payload, context):
        return []
    return rule(item.payload, context)


def is_read(payload: Mapping[str, Any], context: ChatwootContext) -> bool:
    """Whether an event is of an inbox that is read."""
    conversation = object_of(payload, "conversation", "Chatwoot event")
    if context.inboxes:
        return id_of(conversation, "inbox_id", "Chatwoot conversation") in context.inboxes
    return channel_of(conversation) in WEB_CHANNELS


# -- Messages ----------------------------------------------------------------------------------------------------------


def _message(payload: Mapping[str, Any], context: ChatwootContext) -> list[Record]:
    where = "Chatwoot message"
    raw = object_of(payload, "message", where)
    if raw.get("private") not in (None, False):  # a note among agents is an event of its own; this is neither
        msg = f"{where}: private is neither yes nor no"
        raise MissingFieldError(msg)
    thread = thread_of(payload, context)
    direction, author = _direction_and_author(raw, where)
    inbound = direction == "inbound"
    attributes = optional_object_of(raw, "content_attributes", where) or {}
    text = None if attributes.get("deleted") else optional_text_of(raw, "content", where)
    attachments, more = files_of(raw, where)
    kind, content = kind_of(raw, text, attachments, more, attributes, where)
    conversation = object_of(payload, "conversation", where)
    replied_to = attributes.get("in_reply_to")
    sender = optional_object_of(raw, "sender", where) or {}
    message = Message(
        message_key=thread.message_key(id_of(raw, "id", where)),
        channel=CHANNEL,
        account=thread.account,
        conversation_key=thread.key,
        direction=direction,
        kind=kind,
        text=text,
        attachments=attachments,
        content=content or None,
        reply_to_key=thread.message_key(str(replied_to)) if is_number(replied_to) else None,
        origin_detail=_origin_of(conversation, where) if inbound else None,
        sent_at=_sent_at(raw, attributes, where),
        received_at=context.received_at,
        author_kind=author,
        author_name=clean_name(optional_text_of(thread.contact if inbound else sender, "name", where)),
        handles=[thread.handle],
        profile=profile_of(thread.contact, conversation) if inbound else None,
        reply_token=None if inbound else reply_token_of(raw.get("source_id")),
        seen_by=context.seen_by,
        raw_ref=context.raw_ref,
    )
    decision = context.keywords.decision_of_text(text) if inbound and kind == "text" else None
    return [message, *([_consent(message, decision, context)] if decision else [])]


def _direction_and_author(raw: Mapping[str, Any], where: str) -> tuple[Direction, AuthorKind]:
    value = raw.get("message_type")
    word = MESSAGE_TYPES.get(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if word == "incoming":
        return "inbound", "customer"
    if word == "template":
        return "outbound", "bot"
    if word != "outgoing":
        msg = f"{where}: no rule for this message_type"
        raise UnknownShapeError(msg)
    sender = optional_object_of(raw, "sender", where)
    more = [optional_object_of(raw, name, where) or {} for name in ("content_attributes", "additional_attributes")]
    automatic = any(one.get(name) for one in more for name in ("automation_rule_id", "campaign_id"))
    person = sender is not None and sender.get("type") in (None, "user")
    return "outbound", "agent" if person and not automatic else "bot"


def _sent_at(raw: Mapping[str, Any], attributes: Mapping[str, Any], where: str) -> datetime:
    """When it was said: where another system brought the message in, it may tell its own time."""
    external = attributes.get("external_created_at")
    if external is not None:
        try:
            return moment_of_chatwoot(external, "external_created_at", where)
        except MissingFieldError:  # anybody's program wrote it; Chatwoot's own time stands
            pass
    return moment_of_chatwoot(raw.get("created_at"), "created_at", where)


def _origin_of(conversation: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """The page on which the visitor opened the chat."""
    attributes = optional_object_of(conversation, "additional_attributes", where) or {}
    return chosen(attributes, ("referer",)) or None


def _consent(message: Message, decision: Literal["opted_in", "opted_out"], context: ChatwootContext) -> Consent:
    return Consent(
        handle_key=message.handles[0].key,
        handle=message.handles[0],
        channel=CHANNEL,
        account=message.account,
        purpose="promotional",
        status=decision,
        source="keyword",
        source_message_key=message.message_key,
        decided_at=message.sent_at,
        raw_ref=context.raw_ref,
    )


def _status(payload: Mapping[str, Any], context: ChatwootContext) -> list[Record]:
    """What became of a message of ours; only the API tells it, and not since when."""
    where = "Chatwoot message"
    raw = object_of(payload, "message", where)
    value = raw.get("status")
    status = STATUSES.get(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if status is None:
        msg = f"{where}: no rule for this status"
        raise UnknownShapeError(msg)
    thread = thread_of(payload, context)
    failed = status == "failed"
    receipt = Receipt(
        subject_key=thread.message_key(id_of(raw, "id", where)),
        subject_kind="message",
        status=status,
        channel=CHANNEL,
        account=thread.account,
        conversation_key=thread.key,
        occurred_at=context.received_at,
        reply_token=reply_token_of(raw.get("source_id")),
        reason="Chatwoot could not hand it over; the message in Chatwoot says why" if failed else None,
        actor="operator" if failed else "nobody",
        raw_ref=context.raw_ref,
    )
    return [receipt]


def _answer(payload: Mapping[str, Any], context: ChatwootContext) -> list[Record]:
    """What the visitor entered or chose under a bot's question. Nothing tells when."""
    where = "Chatwoot answer"
    raw = object_of(payload, "message", where)
    thread = thread_of(payload, context)
    attributes = object_of(raw, "content_attributes", where)
    told = storable({name: attributes[name] for name in ANSWERS if attributes.get(name)})
    number = id_of(raw, "id", where)
    message = Message(
        message_key=thread.message_key(f"{number}:answer"),
        channel=CHANNEL,
        account=thread.account,
        conversation_key=thread.key,
        direction="inbound",
        kind="answer",
        text=words_of(told),
        content={"answer": (optional_text_of(raw, "content_type", where) or "text")[:60], **told},
        reply_to_key=thread.message_key(number),
        flags=["time_of_receipt"],
        sent_at=context.received_at,
        received_at=context.received_at,
        author_kind="customer",
        author_name=clean_name(optional_text_of(thread.contact, "name", where)),
        handles=[thread.handle],
        profile=profile_of(thread.contact),
        seen_by=context.seen_by,
        raw_ref=context.raw_ref,
    )
    return [message]


def _deleted(payload: Mapping[str, Any], context: ChatwootContext) -> list[Record]:
    """An agent deleted a message. Nothing tells when."""
    where = "Chatwoot message"
    thread = thread_of(payload, context)
    key = thread.message_key(id_of(object_of(payload, "message", where), "id", where))
    change = MessageChange(
        change_key=change_key(key, "unsend", "deleted"),
        message_key=key,
        channel=CHANNEL,
        account=thread.account,
        conversation_key=thread.key,
        change="unsend",
        author_kind="agent",
        changed_at=context.received_at,
        handles=[thread.handle],
        raw_ref=context.raw_ref,
    )
    return [change]


def _conversation(payload: Mapping[str, Any], context: ChatwootContext) -> list[Record]:
    """How far the visitor has read."""
    where = "Chatwoot conversation"
    seen = object_of(payload, "conversation", where).get("contact_last_seen_at")
    if not seen:
        return []
    thread = thread_of(payload, context)
    moment = moment_of_chatwoot(seen, "contact_last_seen_at", where)
    receipt = Receipt(
        subject_key=thread.key,
        subject_kind="conversation",
        status="read",
        channel=CHANNEL,
        account=thread.account,
        conversation_key=thread.key,
        up_to_at=moment,
        occurred_at=moment,
        raw_ref=context.raw_ref,
    )
    return [receipt]


def _contact(payload: Mapping[str, Any], context: ChatwootContext) -> list[Record]:
    """Which e-mail address and phone number Chatwoot has for a contact, and how much that is worth."""
    where = "Chatwoot contact"
    contact = object_of(payload, "contact", where)
    account = account_of(payload, context)
    own = handle_of(contact, account)
    conversation = optional_object_of(payload, "conversation", where)
    meta = optional_object_of(conversation or {}, "meta", where) or {}
    strengths: dict[Handle, Strength] = {}
    for name in ("email", "phone_number", "identifier"):
        handle = _address_of(optional_text_of(contact, name, where), name)
        if handle is not None:
            proven = meta.get("hmac_verified") is True and (
                context.verified_by == "all" or (context.verified_by == "identifier" and name == "identifier")
            )
            strengths[handle] = "verified" if proven or strengths.get(handle) == "verified" else "claimed"
    return [
        Evidence(
            evidence_key=evidence_key(CHANNEL, account, "contact", f"{own.value}|{strength}|{handle.key}"),
            method="chatwoot_contact",
            strength=strength,
            channel=CHANNEL,
            account=account,
            handles=[own, handle],
            observed_at=context.received_at,
            profile=profile_of(contact),
            raw_ref=context.raw_ref,
        )
        for handle, strength in strengths.items()
    ]


def _address_of(value: str | None, name: str) -> Handle | None:
    """What a contact's field is: an identifier may be an address too, or a number that means something on the site."""
    if value is None:
        return None
    if name != "phone_number":
        email = normalize_email(value)
        if email is not None:
            return Handle(kind="email", value=email)
    phone = normalize_phone(value) if name != "email" and value.startswith("+") else None
    return Handle(kind="phone", value=phone) if phone else None


_IGNORED = frozenset({"private_note", "activity", "update", "widget_opened"})
"""A note among agents never leaves Chatwoot; an activity is Chatwoot speaking to agents."""

_RULES: Mapping[str, Callable[[Mapping[str, Any], ChatwootContext], list[Record]]] = {
    "message": _message,
    "status": _status,
    "answer": _answer,
    "deleted": _deleted,
    "conversation": _conversation,
    "contact": _contact,
}


PLATFORM = Platform(
    slug="chatwoot",
    name="Web chat (Chatwoot)",
    tap="taps.chatwoot:TapChatwoot",
    mapping="mappings.from_chatwoot",
    webhook="taps.webhooks.chatwoot",
    sandbox="sandbox.chatwoot:ChatwootApp",
    reads="web chat both ways, files, answers to bots, deletions, read marks, contacts; history and gaps by polling",
    sends="",
)
