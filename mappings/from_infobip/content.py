"""What an Infobip message says, by channel. WhatsApp's is said in WhatsApp's own words and read by its own mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mappings.errors import UnknownShapeError
from mappings.fields import chosen, object_of, objects_of, optional_object_of, optional_text_of, storable, text_of
from mappings.from_infobip.codes import (
    APPLE_ANSWERS,
    CONVERSATION_KINDS,
    FILE_KINDS,
    VIBER_BOT_MESSAGES,
    WHATSAPP_FILES,
)
from mappings.from_infobip.event import short_name
from mappings.from_whatsapp.content import content_of
from mappings.records import Attachment, MessageKind

_OBJECT_MARK = "\ufffc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a message says.

    Attributes:
        details: what text cannot say; see `mappings.records.Message.content`.
        cards: shared contact cards, in WhatsApp's own words.
        button: label and payload of the button that was pressed.
        context: what the message stands in: the one it answers, a group.
        origin: the ad or post it came from, in WhatsApp's own words.
        locale: of the customer.
    """

    kind: MessageKind
    text: str | None = None
    attachments: list[Attachment] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    cards: list[dict[str, Any]] = field(default_factory=list)
    button: tuple[str | None, ...] = ()
    context: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    locale: str | None = None


def said_in_sms(result: Mapping[str, Any], where: str) -> Said:
    """An SMS. ``text`` is all of it; ``cleanText`` is it without the keyword that the number is configured with."""
    keyword = optional_text_of(result, "keyword", where)
    return Said(
        kind="text",
        text=optional_text_of(result, "text", where),
        details={"keyword": keyword} if keyword else {},
    )


def said_on_whatsapp(message: Mapping[str, Any], where: str) -> Said:
    """A message of WhatsApp."""
    name = text_of(message, "type", where)
    body = _whatsapp_body(name, message, where)
    content = content_of(body, body["type"], where)
    details = dict(content.details)
    kind: MessageKind = content.kind
    match name:
        case "INTERACTIVE_PAYMENT_CONFIRMATION":
            kind, details = "answer", {"answer": "payment", **_payment(message)}
        case "INTERACTIVE_PAYMENT_ACKNOWLEDGEMENT":
            kind, details = "answer", {"answer": "payment_acknowledgement", **_payment(message)}
        case "INTERACTIVE_CALL_PERMISSION_REPLY":
            told = optional_object_of(message, "callPermissionReply", where) or {}
            kind, details = "answer", {"answer": "call_permission", **chosen(told, ("response", "expirationTimestamp"))}
        case "INTERACTIVE_IN_THREAD_AUTHENTICATION_REPLY":
            told = optional_object_of(message, "inThreadAuthenticationReply", where) or {}
            kind, details = "answer", {"answer": "authentication", **chosen(told, ("status",))}
        case "VOICE":
            details["voice"] = True
        case _:
            pass
    return Said(
        kind=kind,
        text=content.text,
        attachments=content.attachments,
        details=details,
        cards=content.cards,
        button=content.button,
        context=optional_object_of(message, "context", where) or {},
        origin=_referral(optional_object_of(message, "referral", where) or {}, where),
    )


def _whatsapp_body(name: str, message: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The message as WhatsApp itself would have told it; types that it does not have keep Infobip's name."""
    if name in WHATSAPP_FILES:
        kind = WHATSAPP_FILES[name]
        return {"type": kind, kind: {name: message.get(name) for name in ("url", "caption")}}
    match name:
        case "TEXT":
            return {"type": "text", "text": {"body": message.get("text")}}
        case "LOCATION":
            return {"type": "location", "location": message}
        case "CONTACT":
            cards = [_card(one, where) for one in objects_of(message, "contacts", where)]
            return {"type": "contacts", "contacts": cards}
        case "BUTTON":
            return {"type": "button", "button": message}
        case "INTERACTIVE_BUTTON_REPLY" | "INTERACTIVE_LIST_REPLY":
            kind = "button_reply" if name == "INTERACTIVE_BUTTON_REPLY" else "list_reply"
            return {"type": "interactive", "interactive": {"type": kind, kind: message}}
        case "INTERACTIVE_FLOW_REPLY":
            form = {"body": message.get("text"), "response_json": message.get("response")}
            return {"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": form}}
        case "ORDER":
            order = {"catalog_id": message.get("catalogId"), "product_items": message.get("productItems")}
            return {"type": "order", "order": {**order, "text": message.get("text")}}
        case _:
            return {"type": short_name(name)}


def _card(card: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A contact card, its names in WhatsApp's own spelling."""
    name = optional_object_of(card, "name", where) or {}
    phones = [
        {"phone": one.get("phone"), "wa_id": one.get("waId"), "type": one.get("type")}
        for one in objects_of(card, "phones", where)
    ]
    rest = chosen(card, ("addresses", "birthday", "emails", "org", "urls"))
    return {**rest, "name": {"formatted_name": name.get("formattedName"), **chosen(name, ("firstName", "lastName"))},
            "phones": phones}  # fmt: skip


def _payment(message: Mapping[str, Any]) -> dict[str, Any]:
    names = ("referenceId", "paymentId", "status", "currency", "totalAmount", "transactionId", "transactionType",
             "paymentAcknowledgementType")  # fmt: skip
    return chosen(message, names)


_REFERRAL = {"sourceUrl": "source_url", "sourceId": "source_id", "headline": "headline", "body": "body",
             "ctwaClickId": "ctwa_clid"}  # fmt: skip


def _referral(referral: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The ad or post, in WhatsApp's own words."""
    if not referral:
        return {}
    kind = optional_text_of(referral, "sourceType", where)
    found = {ours: storable(referral[theirs]) for theirs, ours in _REFERRAL.items() if referral.get(theirs) is not None}
    return {**found, **({"source_type": kind.lower()} if kind else {}), **chosen(referral, ("referralMedia",))}


def said_on_viber(message: Mapping[str, Any], where: str) -> Said:
    """A Viber business message."""
    name = text_of(message, "type", where)
    details = {"tracking_data": tracking} if (tracking := optional_text_of(message, "trackingData", where)) else {}
    if name == "TEXT":
        return Said(kind="text", text=text_of(message, "text", where), details=details)
    if name == "FILE":
        file = Attachment(
            kind="file", url=text_of(message, "url", where), filename=optional_text_of(message, "fileName", where)
        )
        text = optional_text_of(message, "text", where)
        return Said(kind="file", text=text, attachments=[file], details=details)
    return Said(kind="unsupported", details={"type": short_name(name), **details})


def viber_bot_event(name: str, message: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A Viber bot's event as Viber itself would have told it; `name` is Viber's own word for it.

    Raises:
        UnknownShapeError: a type of message that Infobip does not document.
    """
    event = {
        "event": name,
        "timestamp": message.get("timestamp"),
        "message_token": message.get("messageToken"),
        "user_id": message.get("userId"),
        **{part: message[part] for part in ("sender", "user", "context", "subscribed") if message.get(part)},
    }
    if name != "message":
        return event
    inner = object_of(message, "message", where)
    told = text_of(inner, "type", where)
    kind = VIBER_BOT_MESSAGES.get(told)
    if kind is None:
        msg = f"{where}: a message of type {short_name(told)} is not known"
        raise UnknownShapeError(msg)
    contact = optional_object_of(inner, "contact", where) or {}
    place = optional_object_of(inner, "location", where) or {}
    return {**event, "message": {
        "type": kind, "text": inner.get("text") or inner.get("description"), "media": inner.get("url"),
        "size": inner.get("size"), "file_name": inner.get("fileName"), "duration": inner.get("duration"),
        "sticker_id": inner.get("id"), "tracking_data": inner.get("trackingData"),
        "contact": {"name": contact.get("name"), "phone_number": contact.get("phoneNumber")},
        "location": {"lat": place.get("latitude", place.get("lat")), "lon": place.get("longitude", place.get("lon"))},
    }}  # fmt: skip


def said_on_apple(message: Mapping[str, Any], where: str) -> Said:
    """A message of Apple Messages for Business."""
    name = text_of(message, "type", where)
    context = optional_object_of(message, "context", where) or {}
    locale = optional_text_of(context, "locale", where)
    origin = chosen(context, ("intent", "group"))
    files = [
        Attachment(
            kind="file",
            platform_media_id=optional_text_of(one, "downloadId", where),
            url=optional_text_of(one, "url", where),
            filename=optional_text_of(one, "fileName", where),
        )
        for one in objects_of(message, "attachments", where)
    ]
    if name == "TEXT":
        text = optional_text_of(message, "text", where)
        if files and text is not None and not text.replace(_OBJECT_MARK, "").strip():
            text = None  # Apple puts one such character into the text for each file
        return Said(kind="file" if files else "text", text=text, attachments=files, origin=origin, locale=locale)
    if name == "CLOSE_CONVERSATION":
        return Said(kind="system", details={"type": "close"}, origin=origin, locale=locale)
    answer = APPLE_ANSWERS.get(name)
    if answer is None:
        return Said(kind="unsupported", details={"type": short_name(name)}, origin=origin, locale=locale)
    text, details = _apple_answer(message, where)
    return Said(
        kind="answer", text=text, attachments=files, details={"answer": answer, **details}, origin=origin, locale=locale
    )


def _apple_answer(message: Mapping[str, Any], where: str) -> tuple[str | None, dict[str, Any]]:
    """The words that were chosen, and the answer without what is secret in it."""
    picked = objects_of(message, "listPickerSelectedItems", where)
    quick = optional_object_of(message, "quickReplySelectedItem", where)
    titles = [optional_text_of(one, "title", where) for one in [*picked, *([quick] if quick else [])]]
    text = ", ".join(title for title in titles if title) or optional_text_of(message, "choice", where)
    details = chosen(message, (
        "requestIdentifier", "sessionIdentifier", "listPickerSelectedItems", "quickReplySelectedItem", "selectedTime",
        "selectedDuration", "timezoneOffset", "selectedTimeslotIdentifier", "authenticated", "errorCode", "paid",
        "lineItems", "total", "urlData", "urlRawData", "privateForm", "selections", "choice",
    ))  # fmt: skip
    return text, details


def said_in_conversation(row: Mapping[str, Any], where: str) -> Said:
    """A message of the Conversations API: its content is a text, or an object with a text or a file."""
    name = optional_text_of(row, "contentType", where) or "TEXT"
    content = row.get("content")
    inner: Mapping[str, Any] = content if isinstance(content, dict) else {}
    if isinstance(content, str):
        inner = {"text": content}
    text = optional_text_of(inner, "text", where) or optional_text_of(inner, "caption", where)
    kind = CONVERSATION_KINDS.get(name, "unsupported")
    url = optional_text_of(inner, "url", where)
    if kind == "unsupported":
        return Said(kind=kind, text=text, details={"type": short_name(name)})
    if kind == "location":
        return Said(kind=kind, text=text, details=chosen(inner, ("latitude", "longitude", "name", "address")))
    if kind in FILE_KINDS:
        file = Attachment(kind=FILE_KINDS[kind], url=url, filename=optional_text_of(inner, "fileName", where))
        return Said(kind=kind, text=text, attachments=[file] if url else [], details={} if url else {"media": 1})
    return Said(kind=kind, text=text)
