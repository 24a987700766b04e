"""WhatsApp Cloud API webhooks as canonical records.

Shapes: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference (messages/*, status, system
of 2026-05-21, edit and revoke of 2025-12-03, history and smb_message_echoes of 2025-10-22, user_preferences of
2026-05-21), .../whatsapp/business-scoped-user-ids (2026-03-31), .../whatsapp/support/error-codes, read 2026-11,
documented; what only the models of pywa 4.5.0 show is marked observed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from mappings.contact_points import clean_name, normalize_email, normalize_phone, normalize_whatsapp_id
from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import (
    PlatformEvent,
    chosen,
    id_of,
    object_of,
    objects_of,
    optional_object_of,
    optional_text_of,
    reply_token_of,
    text_of,
)
from mappings.from_whatsapp.codes import (
    ACCOUNT_FIELDS,
    ACTORS,
    CHANGES,
    HISTORY_STATUSES,
    NO_CUSTOMER_SPEAKS,
    PREFERENCES,
    STATUSES,
    SYSTEM_METHODS,
)
from mappings.from_whatsapp.content import Content, content_of
from mappings.from_whatsapp.event import CHANNEL, Event, WhatsAppContext, short_name
from mappings.ids import change_key
from mappings.platforms import Platform
from mappings.records import (
    Consent,
    Direction,
    Evidence,
    Handle,
    Message,
    MessageChange,
    Origin,
    Profile,
    Receipt,
    ReceiptStatus,
    Record,
)

__all__ = ["PLATFORM", "WhatsAppContext", "records_from_whatsapp"]

_REFERRAL = (
    "source_url", "source_id", "source_type", "headline", "body", "media_type", "image_url", "video_url",
    "thumbnail_url", "ctwa_clid", "welcome_message",
)  # fmt: skip
_BSUID_CHANGE = re.compile(r"changed from (\S+) to (\S+)$")
_AHEAD = timedelta(hours=1)


def records_from_whatsapp(item: PlatformEvent, context: WhatsAppContext) -> list[Record]:
    """The records of one event; none for an account notification (see `ACCOUNT_FIELDS`, groups, errors, contact sync).

    `item` is what `taps.webhooks.whatsapp.split` gives, e.g. kind ``message`` with payload::

        {"waba_id": "102290129340398", "field": "messages", "metadata": {"phone_number_id": "106540352242922"},
         "contact": {"profile": {"name": "Ada"}, "wa_id": "447700900123"},
         "item": {"from": "447700900123", "id": "wamid.HBg...", "timestamp": "1750000000", "type": "text",
                  "text": {"body": "Hello"}}}

    Raises:
        UnknownShapeError: no rule for this kind of event, or for a status.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    if item.kind in NO_CUSTOMER_SPEAKS:
        return []
    field = item.payload.get("field")
    if item.kind == "other" and isinstance(field, str) and field in ACCOUNT_FIELDS:
        return []
    rule = _RULES.get(item.kind)
    if rule is None:
        msg = f"WhatsApp: no rule for an event of kind {item.kind} in field {short_name(field)}"
        raise UnknownShapeError(msg)
    return rule(Event(item, context))


# -- Messages --------------------------------------------------------------------------------------------------------


def _from_customer(event: Event) -> list[Record]:
    """``messages[]``: what a customer sent."""
    if event.body.get("type") == "system":
        return _system(event)
    return _message(event, event.customer(), "inbound")


def _from_business_app(event: Event) -> list[Record]:
    """``message_echoes[]``: what somebody sent from the WhatsApp Business app on the same number."""
    handles = event.handles((event.body, "to_user_id", "to"), (event.contact, "user_id", "wa_id"))
    return _message(event, handles, "outbound", past=event.payload.get("field") == "history")


def _from_history(event: Event) -> list[Record]:
    """A message of the past, sent by either side, out of the Business app's history."""
    thread = optional_object_of(event.payload, "thread", event.where) or {}
    if not thread:  # the file of a message that came as a placeholder
        return _message(event, event.customer(), "inbound", past=True)
    about = optional_object_of(thread, "context", event.where) or {}
    handles = event.handles((about, "user_id", "wa_id"), ({"phone": thread.get("id")}, "user_id", "phone"))
    sender = optional_text_of(event.body, "from", event.where)
    sent_by_us = sender is not None and _digits(sender) == _digits(event.metadata.get("display_phone_number"))
    records = _message(event, handles, "outbound" if sent_by_us else "inbound", past=True)
    past_context = optional_object_of(event.body, "history_context", event.where) or {}
    status = optional_text_of(past_context, "status", event.where)
    if sent_by_us and status is not None:
        if status not in HISTORY_STATUSES:
            msg = f"{event.where}: history status {short_name(status)} is not known"
            raise UnknownShapeError(msg)
        known = HISTORY_STATUSES[status]
        if known is not None:
            records.append(_receipt(event, text_of(event.body, "id", event.where), known, handles))
    return records


def _message(event: Event, handles: list[Handle], direction: Direction, *, past: bool = False) -> list[Record]:
    body, where = event.body, event.where
    wamid = text_of(body, "id", where)
    kind = text_of(body, "type", where)
    if kind in CHANGES:
        return [_change(event, kind, wamid, handles, direction)]
    content = content_of(body, kind, where)
    key = event.message_key(wamid)
    name = optional_object_of(event.contact, "profile", where) or {}
    profile = Profile(
        name=clean_name(optional_text_of(name, "name", where)),
        username=clean_name(optional_text_of(name, "username", where)),
    )
    replied = optional_object_of(body, "context", where) or {}
    replied_to = optional_text_of(replied, "id", where)
    referral = optional_object_of(body, "referral", where)
    origin: Origin = "ad" if referral and referral.get("source_type") == "ad" else "direct"
    extra = {} if replied.get("referred_product") is None else chosen(replied, ("referred_product",))
    sent_at = event.moment()
    message = Message(
        message_key=key,
        channel=CHANNEL,
        account=event.account,
        conversation_key=event.conversation_key(handles),
        direction=direction,
        kind=content.kind,
        text=content.text,
        attachments=content.attachments,
        content={**content.details, **extra} or None,
        reply_to_key=event.message_key(replied_to) if replied_to else None,
        origin=origin,
        origin_detail=chosen(referral, _REFERRAL) if referral else None,
        flags=_flags(event, replied, kind, sent_at, past=past),
        sent_at=sent_at,
        received_at=event.context.received_at,
        author_kind="system" if content.kind == "system" else "customer" if direction == "inbound" else "agent",
        author_name=profile.name if direction == "inbound" else None,
        handles=handles,
        profile=profile if direction == "inbound" and (profile.name or profile.username) else None,
        seen_by="import" if past else "webhook",
        raw_ref=event.context.raw_ref,
    )
    records: list[Record] = [message, *_shared_contacts(event, content.cards, handles, key)]
    if direction == "inbound":
        records += _decision(event, content, handles, key)
    return records


def _flags(event: Event, replied: Mapping[str, Any], kind: str, sent_at: datetime, *, past: bool) -> list[str]:
    flags = {
        "forwarded": replied.get("forwarded") is True or replied.get("frequently_forwarded") is True,
        "frequently_forwarded": replied.get("frequently_forwarded") is True,
        "group": event.body.get("group_id") is not None,
        "history": past,
        "placeholder": kind == "media_placeholder",
        "clock_ahead": sent_at - event.context.received_at > _AHEAD,
    }
    return [name for name, holds in flags.items() if holds]


def _decision(event: Event, content: Content, handles: list[Handle], key: str) -> list[Consent]:
    """The consent that a message states: a word alone, or a button that says the same."""
    keywords = event.context.keywords
    if content.button:
        decision, source = keywords.decision_of_button(*content.button), "template_answer"
    elif content.kind == "text":
        decision, source = keywords.decision_of_text(content.text), "keyword"
    else:
        return []
    return [] if decision is None else event.consents(decision, source, handles, key)


def _shared_contacts(event: Event, cards: list[dict[str, Any]], handles: list[Handle], key: str) -> list[Evidence]:
    """Shared contact cards. A card says what its sender wants it to say: its handles are *claimed* to be one person.

    The card that WhatsApp itself makes when the customer presses our "share contact info" button (``origin``:
    ``contact_request``) is the customer's own number: *verified*, together with the sender.
    """
    asked_for = event.body.get("origin") == "contact_request" and len(cards) == 1
    found: list[Evidence] = []
    for number, card in enumerate(cards):
        on_card = _card_handles(event, card)
        if asked_for and len(on_card) == 1:
            found.append(event.evidence("contact_request", "verified", [*handles, *on_card], key))
        elif on_card:
            name = optional_object_of(card, "name", event.where) or {}
            shown = clean_name(optional_text_of(name, "formatted_name", event.where))
            evidence = event.evidence("contact_card", "claimed", on_card, f"{key}#{number}")
            found.append(evidence.model_copy(update={"profile": Profile(name=shown)}) if shown else evidence)
    return found


def _card_handles(event: Event, card: Mapping[str, Any]) -> list[Handle]:
    found: list[Handle] = []
    for entry in objects_of(card, "phones", event.where)[:20]:
        wa_id, raw = (optional_text_of(entry, name, event.where) for name in ("wa_id", "phone"))
        phone = (wa_id and normalize_whatsapp_id(wa_id)) or (raw and normalize_phone(raw, event.context.default_region))
        if phone:
            found.append(Handle(kind="phone", value=phone))
    for entry in objects_of(card, "emails", event.where)[:20]:
        raw = optional_text_of(entry, "email", event.where)
        email = raw and normalize_email(raw)
        if email:
            found.append(Handle(kind="email", value=email))
    return list(dict.fromkeys(found))


# -- Changes, receipts, identity, consent ----------------------------------------------------------------------------


def _change(event: Event, kind: str, wamid: str, handles: list[Handle], direction: Direction) -> MessageChange:
    """A reaction, an edit or a deletion; ``wamid`` is the event's own id, which makes a repeat the same change."""
    part = object_of(event.body, kind, event.where)
    text = emoji = None
    if kind == "reaction":
        subject = text_of(part, "message_id", event.where)
        emoji = optional_text_of(part, "emoji", event.where)
        change: Literal["edit", "unsend", "react", "unreact"] = "react" if emoji else "unreact"
    else:
        subject = text_of(part, "original_message_id", event.where)
        change = "edit" if kind == "edit" else "unsend"
    if kind == "edit":
        new = object_of(part, "message", event.where)
        what = object_of(new, text_of(new, "type", event.where), event.where)
        text = optional_text_of(what, "body", event.where) or optional_text_of(what, "caption", event.where)
    return MessageChange(
        change_key=change_key(event.message_key(subject), change, wamid),
        message_key=event.message_key(subject),
        channel=CHANNEL,
        account=event.account,
        conversation_key=event.conversation_key(handles),
        change=change,
        text=text,
        emoji=emoji,
        author_kind="customer" if direction == "inbound" else "agent",
        changed_at=event.moment(),
        handles=handles,
        raw_ref=event.context.raw_ref,
    )


def _status(event: Event) -> list[Record]:
    """``statuses[]``: what became of a message that we, or another app on our number, sent."""
    name = text_of(event.body, "status", event.where)
    status = STATUSES.get(name)
    if status is None:
        msg = f"{event.where}: status {short_name(name)} is not known"
        raise UnknownShapeError(msg)
    wamid = text_of(event.body, "id", event.where)
    if event.body.get("recipient_type") == "group":
        return [_receipt(event, wamid, status, [])]
    handles = event.handles((event.body, "recipient_user_id", "recipient_id"), (event.contact, "user_id", "wa_id"))
    records: list[Record] = [_receipt(event, wamid, status, handles)]
    if status in {"delivered", "read"} and len(handles) > 1:
        # The one place where the ids of somebody who only ever received from us are told together.
        records.append(event.evidence("told_together", "verified", handles))
    return records


def _receipt(event: Event, wamid: str, status: ReceiptStatus, handles: list[Handle]) -> Receipt:
    errors = objects_of(event.body, "errors", event.where)
    code = id_of(errors[0], "code", event.where) if errors else None
    return Receipt(
        subject_key=event.message_key(wamid),
        subject_kind="message",
        status=status,
        channel=CHANNEL,
        account=event.account,
        conversation_key=event.conversation_key(handles) if handles else None,
        occurred_at=event.moment(),
        reply_token=reply_token_of(event.body.get("biz_opaque_callback_data")),
        code=code,
        reason=optional_text_of(errors[0], "title", event.where) if errors else None,
        actor="nobody" if code is None else ACTORS.get(code, "operator"),
        raw_ref=event.context.raw_ref,
    )


def _system(event: Event) -> list[Record]:
    """A customer's number or id changed, or their security code did.

    ``from`` is the old number and ``system`` holds the new ids; the old user id stands only in the sentence that
    WhatsApp writes, whose end no profile name can forge.
    """
    body, where = event.body, event.where
    system = object_of(body, "system", where)
    kind = text_of(system, "type", where)
    wamid = text_of(body, "id", where)
    sentence = optional_text_of(system, "body", where)
    new = event.find_handles((system, "user_id", "wa_id"), (system, "user_id", "new_wa_id"))
    told = _BSUID_CHANGE.search(sentence or "")
    old_user = optional_text_of(body, "from_user_id", where)
    if old_user is None and told and told.group(2) == system.get("user_id"):
        old_user = told.group(1)
    known = {} if new else event.contact  # beside new ids, a contact would be the customer as they are now
    old = event.find_handles(({**body, "user_id": old_user}, "user_id", "from"), (known, "user_id", "wa_id"))
    handles = old or new
    if not handles:
        msg = f"{where}: the system message names nobody"
        raise MissingFieldError(msg)
    message = Message(
        message_key=event.message_key(wamid),
        channel=CHANNEL,
        account=event.account,
        conversation_key=event.conversation_key(handles),
        direction="inbound",
        kind="system",
        text=sentence,
        content={"type": short_name(kind)},
        sent_at=event.moment(),
        received_at=event.context.received_at,
        author_kind="system",
        handles=handles,
        raw_ref=event.context.raw_ref,
    )
    method = SYSTEM_METHODS.get(kind)
    if method is None:
        return [message]
    together = list(dict.fromkeys([*new, *old]))
    return [message, event.evidence(method, "verified", together, wamid)]


def _user_id_update(event: Event) -> list[Record]:
    """``user_id_update[]``: a customer changed their number and so has another business-scoped user id."""
    ids = object_of(event.body, "user_id", event.where)
    current = event.user(text_of(ids, "current", event.where))
    previous = event.user(text_of(ids, "previous", event.where))
    raw = optional_text_of(event.body, "wa_id", event.where)
    phone = raw and normalize_whatsapp_id(raw)
    records: list[Record] = [event.evidence("user_id_changed", "verified", [current, previous])]
    if phone:  # apart: this is no renaming, but two ids of one customer
        records.append(event.evidence("told_together", "verified", [current, Handle(kind="phone", value=phone)]))
    return records


def _user_preference(event: Event) -> list[Record]:
    """``user_preferences[]``: the customer switched our marketing messages off or on in WhatsApp."""
    category = text_of(event.body, "category", event.where)
    value = text_of(event.body, "value", event.where)
    decision = PREFERENCES.get(value.lower())
    if category != "marketing_messages" or decision is None:
        msg = f"{event.where}: preference {short_name(value)} of category {short_name(category)} is not known"
        raise UnknownShapeError(msg)
    handles = event.handles((event.body, "user_id", "wa_id"), (event.contact, "user_id", "wa_id"))
    return list(event.consents(decision, "preference", handles, None))


def _digits(number: Any) -> str:
    """The digits of a number as it is displayed (``+44 7700 900001``)."""
    return re.sub(r"[^0-9]", "", number) if isinstance(number, str) else ""


_RULES: Mapping[str, Callable[[Event], list[Record]]] = {
    "message": _from_customer,
    "status": _status,
    "message_echo": _from_business_app,
    "history_message": _from_history,
    "user_preference": _user_preference,
    "user_id_update": _user_id_update,
}

PLATFORM = Platform(
    slug="whatsapp",
    name="WhatsApp",
    tap="taps.whatsapp:TapWhatsApp",
    mapping="mappings.from_whatsapp",
    webhook="taps.webhooks.whatsapp",
    sender="targets.senders.whatsapp:WhatsAppSender",
    sandbox="sandbox.whatsapp:WhatsAppApp",
    reads="messages, edits and deletions (coexistence), reactions, statuses, opt-outs, number and id changes",
    sends="text, templates",
)
