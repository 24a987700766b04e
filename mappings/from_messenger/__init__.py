"""Messenger webhooks, and messages of the Conversations API, as canonical records.

Shapes: developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks/webhook-events/* (copies of
mid-2026), documented. Quirks seen in public code that serves real traffic are marked observed where they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import (
    PlatformEvent,
    chosen,
    id_of,
    moment_of,
    objects_of,
    optional_object_of,
    optional_text_of,
    storable,
    text_of,
)
from mappings.from_messenger.account_links import handle_of_authorization_code, sign_authorization_code
from mappings.from_messenger.codes import FILES, IGNORED, LIKES, REACTIONS, SHARES
from mappings.from_messenger.comments import records_of_comment
from mappings.from_messenger.event import CHANNEL, Event, MessengerContext
from mappings.from_messenger.poll import message_from_messenger_poll
from mappings.from_messenger.profiles import profile_from_messenger
from mappings.meta_event import (
    records_of_echo,
    records_of_edit,
    records_of_optin,
    records_of_postback,
    records_of_reaction,
    records_of_referral,
)
from mappings.meta_graph import given_contact
from mappings.platforms import Platform
from mappings.records import Attachment, MessageKind, Receipt, ReceiptStatus, Record

__all__ = [
    "PLATFORM",
    "MessengerContext",
    "message_from_messenger_poll",
    "profile_from_messenger",
    "records_from_messenger",
    "sign_authorization_code",
]


def records_from_messenger(item: PlatformEvent, context: MessengerContext) -> list[Record]:
    """The records of one event; none for `IGNORED` kinds and for the dashboard's test form.

    `item` is what `taps.webhooks.messenger.split` gives, e.g. kind ``message`` with payload::

        {"page_id": "108812345678901", "standby": False, "entry_time": 1750000000000, "field": None,
         "event": {"sender": {"id": "6890123456789012"}, "recipient": {"id": "108812345678901"},
                   "timestamp": 1750000000000, "message": {"mid": "m_abc", "text": "Hello"}}}

    Raises:
        UnknownShapeError: no rule for this kind of event.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    if item.kind == "comment":
        return records_of_comment(item, context)
    rule = _RULES.get(item.kind)
    if item.kind in IGNORED or (rule is not None and item.payload.get("field") is not None):
        return []
    if rule is None:
        msg = f"Messenger: no rule for an event of kind {item.kind}"
        raise UnknownShapeError(msg)
    return rule(Event(item, context))


# -- Messages --------------------------------------------------------------------------------------------------------


def _message(event: Event) -> list[Record]:
    """``message``: what a customer wrote."""
    part, where = event.part, event.where
    mid = text_of(part, "mid", where)
    text = optional_text_of(part, "text", where)
    said = _said(part, where)
    quick = optional_object_of(part, "quick_reply", where)
    replied = optional_object_of(part, "reply_to", where) or {}
    commands = [text_of(one, "name", where) for one in objects_of(part, "commands", where)]
    content = {**said.content, **({"commands": commands} if commands else {})}
    payload = None
    kind: MessageKind = said.kind if said.kind else "text" if text or commands else "unsupported"
    if quick is not None:
        payload = optional_text_of(quick, "payload", where)
        kind, content = "answer", {**content, "answer": "quick_reply", **chosen(quick, ("payload",))}
    message = event.message(
        mid,
        kind,
        "inbound",
        author_kind="customer",
        referral=optional_object_of(part, "referral", where),
        flags=("self_reply",) if replied.get("is_self_reply") is True else (),
        content=content,
        text=text,
        attachments=said.attachments,
        reply_to_key=event.replied_to(),
    )
    records: list[Record] = [message]
    keywords = event.context.keywords
    if quick is not None:
        decision, source = keywords.decision_of_button(text, payload), "template_answer"
        given = given_contact(text, payload)
        if given:
            handles = [event.customer(), given]
            records.append(event.evidence("quick_reply_contact", "claimed", handles, message.message_key))
    else:
        decision, source = keywords.decision_of_text(text if not said.attachments else None), "keyword"
    if decision:
        records.append(event.consent(decision, source, message.message_key))
    return records


def _echo(event: Event) -> list[Record]:
    """``message`` with ``is_echo``: what the page sent, by us, by another app or by a person in the Page inbox."""
    said = _said(event.part, event.where)
    return records_of_echo(event, said.kind, said.attachments, said.content)


@dataclass(slots=True)
class _Said:
    """What the attachments of a message say; `kind` is that of the first."""

    kind: MessageKind | None = None
    attachments: list[Attachment] = field(default_factory=list)
    content: dict[str, Any] = field(default_factory=dict)


def _said(part: Mapping[str, Any], where: str) -> _Said:
    said = _Said()
    for one in objects_of(part, "attachments", where):
        kind = text_of(one, "type", where)
        payload = optional_object_of(one, "payload", where) or {}
        sticker = payload.get("sticker_id")
        if kind in FILES:
            file = "sticker" if sticker is not None else FILES[kind]
            url = optional_text_of(payload, "url", where)
            media_id = None if sticker is None else id_of(payload, "sticker_id", where)
            said.attachments.append(Attachment(kind=file, url=url, platform_media_id=media_id))
            said.kind = said.kind or file
            if sticker in LIKES:
                said.content["sticker"] = "like"
            if kind in {"reel", "ig_reel"}:
                said.content.setdefault("shares", []).append(_share(kind, one, payload))
        elif kind in SHARES:
            said.kind = said.kind or SHARES[kind]
            said.content.setdefault("shares", []).append(_share(kind, one, payload))
        else:
            said.kind = said.kind or ("text" if part.get("text") else "unsupported")
            said.content.setdefault("unsupported", []).append(storable(kind[:60]))
    return said


def _share(kind: str, one: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    """A shared link, post, template or form; title and url stand beside the payload or in it."""
    names = ("title", "url", "id", "reel_video_id", "booking_id", "product", "template_type", "elements", "buttons",
             "text", "coordinates")  # fmt: skip
    return {"type": kind, **chosen(one, ("title", "url")), **chosen(payload, names)}


def _order(event: Event) -> list[Record]:
    """``order``: a cart that the customer sent."""
    message = event.message(
        event.own_id("order"), "order", "inbound", author_kind="customer", content=storable(event.part)
    )
    return [message]


# -- Changes and receipts --------------------------------------------------------------------------------------------


def _delivery(event: Event) -> list[Record]:
    """``delivery``: by message where the ids are told, else all of the page's messages up to the watermark."""
    mids = event.part.get("mids")
    if mids is not None and not (isinstance(mids, list) and all(isinstance(mid, str) and mid for mid in mids)):
        msg = f"{event.where}: mids is not a list of ids"
        raise MissingFieldError(msg)
    if mids:
        return [_receipt(event, "delivered", event.message_key(storable(mid)), "message") for mid in mids]
    return [_receipt(event, "delivered", event.conversation_key(event.customer()), "conversation")]


def _read(event: Event) -> list[Record]:
    """``read``: all of the page's messages up to the watermark."""
    return [_receipt(event, "read", event.conversation_key(event.customer()), "conversation")]


def _receipt(
    event: Event, status: ReceiptStatus, subject_key: str, subject_kind: Literal["message", "conversation"]
) -> Receipt:
    has_time = event.body.get("timestamp") is not None  # a delivery is documented without a time of its own
    up_to_at = None
    if subject_kind == "message" and has_time:
        occurred_at = event.moment()
    else:
        reach = moment_of(event.part.get("watermark"), "watermark", event.where)
        occurred_at = event.moment() if has_time else reach
        up_to_at = reach if subject_kind == "conversation" else None
    return Receipt(
        subject_key=subject_key,
        subject_kind=subject_kind,
        status=status,
        channel=CHANNEL,
        account=event.account,
        conversation_key=event.conversation_key(event.customer()),
        up_to_at=up_to_at,
        occurred_at=occurred_at,
        raw_ref=event.context.raw_ref,
    )


# -- Identity and consent --------------------------------------------------------------------------------------------


def _account_linking(event: Event) -> list[Record]:
    """``account_linking``: the customer logged in on our site from the chat, or out again."""
    status = text_of(event.part, "status", event.where)
    customer = event.customer()
    if status == "unlinked":  # says nothing of whom; what was proved before stays proved
        return [event.evidence("account_unlink", "verified", [customer], event.own_id("unlink"))]
    if status != "linked":
        msg = f"{event.where}: status {status[:20]!r} is not known"
        raise UnknownShapeError(msg)
    code = text_of(event.part, "authorization_code", event.where)
    handle, strength = handle_of_authorization_code(code, event.account, event.context.account_link_secret)
    return [event.evidence("account_link", strength, [customer, handle], f"{customer.value}|{handle.key}|{strength}")]


_RULES: Mapping[str, Callable[[Event], list[Record]]] = {
    "message": _message,
    "message_echo": _echo,
    "message_edit": records_of_edit,
    "delivery": _delivery,
    "read": _read,
    "reaction": lambda event: records_of_reaction(event, REACTIONS),
    "postback": records_of_postback,
    "referral": records_of_referral,
    "optin": records_of_optin,
    "account_linking": _account_linking,
    "order": _order,
}


PLATFORM = Platform(
    slug="messenger",
    name="Messenger",
    tap="taps.messenger:TapMessenger",
    mapping="mappings.from_messenger",
    webhook="taps.webhooks.messenger",
    sender="targets.senders.messenger:MessengerSender",
    sandbox="sandbox.messenger:MessengerApp",
    reads="messages, echoes, edits, reactions, deliveries, reads, account linking, opt-ins, comments; gaps by polling",
    sends="text",
)
