"""Apple Messages for Business as canonical records: what customers write and answer, and that they closed the chat.

Shapes: register.apple.com/resources/messages/msp-rest-api, pages common-specs, messages-received, type-interactive,
read 2026-11, documented. What an answer's ``data`` holds beside that is assumed after Apple's examples, so an answer
without a part that is known here is kept with the words that Messages shows for it (``replyMessage``).

Apple tells no time: a message counts from its receipt and is flagged ``time_of_receipt``. A file's key, the token of a
login and the data of a payment never become part of a record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from mappings.contact_points import clean_name
from mappings.errors import UnknownShapeError
from mappings.fields import (
    PlatformEvent,
    chosen,
    object_of,
    objects_of,
    optional_object_of,
    optional_text_of,
    text_of,
)
from mappings.ids import conversation_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Decision, Keywords
from mappings.platforms import Platform
from mappings.records import Attachment, AuthorKind, Consent, Handle, Message, MessageKind, Profile, Purpose, Record

CHANNEL = "apple"
PLACEHOLDER = "\ufffc"
"""What stands in a text where a file was."""

FILE_KINDS: Mapping[str, Literal["image", "video", "audio"]] = {"image": "image", "video": "video", "audio": "audio"}
"""First part of a media type -> kind of the attachment; anything else is a file."""

ANSWERS: Mapping[str, str] = {
    "listPicker": "list_reply",
    "event": "time",
    "quick-reply": "quick_reply",
    "dynamic": "form",
    "authenticate": "authentication",
    "payment": "payment",
}
"""Part of ``interactiveData.data`` -> what kind of answer it is; none of them: an app's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppleContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the delivery came.
        raw_ref: where its bytes are, e.g. ``delivery:17#0``.
    """

    received_at: datetime
    raw_ref: str
    keywords: Keywords = DEFAULT_KEYWORDS


def records_from_apple(item: PlatformEvent, context: AppleContext) -> list[Record]:
    """The records of one event; none for somebody who begins or ceases to type.

    `item` is what `taps.webhooks.apple.split` gives, with payload ``{"message": {...}, "device": {...}}``. Whoever
    writes may be answered (a consent for service), whoever closes the chat may not, until they write again.

    Raises:
        UnknownShapeError: it is no message.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    if item.kind == "typing":
        return []
    rule = _RULES.get(item.kind)
    if rule is None:
        msg = "Apple: no rule for what is no message; does another program post to this address?"
        raise UnknownShapeError(msg)
    return rule(item.payload, context)


def attachments_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files of a message as Apple tells them, with their keys."""
    return objects_of(message, "attachments", "Apple message")


def media_id_of(raw: Mapping[str, Any]) -> str | None:
    """What a file is known by: the address that Apple gave it, where nobody can fetch it without our token."""
    return optional_text_of(raw, "url", "Apple attachment")


# -- What customers write ----------------------------------------------------------------------------------------------


def _text(payload: Mapping[str, Any], context: AppleContext) -> list[Record]:
    """A text, with files or without. A tapback comes as a text too: nothing tells them apart."""
    raw = object_of(payload, "message", "Apple message")
    body = optional_text_of(raw, "body", "Apple message")
    attachments = [_attachment(one) for one in attachments_of(raw)]
    text = body
    if attachments and body is not None:
        text = body.replace(PLACEHOLDER, "").strip() or None
    kind: MessageKind = attachments[0].kind if attachments else "text"
    message = _message(payload, context, kind, text, attachments=attachments)
    decision = context.keywords.decision_of_text(text) if kind == "text" else None
    return [message, *_consents(message, "wrote", {"service": "opted_in"}), *_promotional(message, decision, "keyword")]


def _attachment(raw: Mapping[str, Any]) -> Attachment:
    where = "Apple attachment"
    mime_type = optional_text_of(raw, "mimeType", where)
    size = raw.get("size")
    number = int(size) if isinstance(size, str) and size.isascii() and size.isdigit() and len(size) < 13 else size
    return Attachment(
        kind=FILE_KINDS.get((mime_type or "").partition("/")[0].strip().lower()) or "file",
        platform_media_id=media_id_of(raw),
        mime_type=mime_type,
        filename=clean_name(optional_text_of(raw, "name", where)),
        size_bytes=number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None,
    )


def _interactive(payload: Mapping[str, Any], context: AppleContext) -> list[Record]:
    """What a customer chose, entered or did in something that we sent."""
    where = "Apple answer"
    raw = object_of(payload, "message", where)
    said = optional_object_of(raw, "interactiveData", where)
    if said is None:
        # Over 10 KB there is a reference to the answer alone, which can be fetched for some seconds (observed:
        # github.com/rhapsfx/chatwoot-amb): too short for a tap.
        reference = object_of(raw, "interactiveDataRef", where)
        title = optional_text_of(reference, "title", where)
        large = {"type": "interactiveDataRef", **chosen(reference, ("bid",))}
        message = _message(payload, context, "unsupported", title, content=large)
        return [message, *_consents(message, "wrote", {"service": "opted_in"})]
    data = optional_object_of(said, "data", where) or {}
    name = next((one for one in ANSWERS if data.get(one) is not None), None)
    part = object_of(data, name, where) if name else {}
    found = _PARTS[name](part) if name else chosen(said, ("appName", "URL"))
    titles = [one["title"] for one in found.get("items", []) if isinstance(one.get("title"), str)]
    shown = optional_text_of(optional_object_of(said, "replyMessage", where) or {}, "title", where)
    content = {
        "answer": ANSWERS[name] if name else "app", **found,
        **chosen(data, ("requestIdentifier",)), **chosen(said, ("sessionIdentifier",)),
    }  # fmt: skip
    message = _message(payload, context, "answer", ", ".join(titles) or shown, content=content)
    decision = context.keywords.decision_of_button(*titles) if name in {"listPicker", "quick-reply"} else None
    return [
        message,
        *_consents(message, "wrote", {"service": "opted_in"}),
        *_promotional(message, decision, "template_answer"),
    ]


def _list_picker(part: Mapping[str, Any]) -> dict[str, Any]:
    sections = objects_of(part, "sections", "Apple answer")
    return {"items": [_item(one) for section in sections for one in objects_of(section, "items", "Apple answer")]}


def _time_picker(part: Mapping[str, Any]) -> dict[str, Any]:
    slots = objects_of(part, "timeslots", "Apple answer")
    return {"slots": [chosen(one, ("identifier", "startTime", "duration")) for one in slots]}


def _quick_reply(part: Mapping[str, Any]) -> dict[str, Any]:
    """The one that was chosen, by its identifier or its position."""
    items = objects_of(part, "items", "Apple answer")
    wanted, position = part.get("selectedIdentifier"), part.get("selectedIndex")
    found = [one for one in items if wanted is not None and one.get("identifier") == wanted]
    if not found and isinstance(position, int) and not isinstance(position, bool) and 0 <= position < len(items):
        found = [items[position]]
    return {"items": [_item(one) for one in found], **chosen(part, ("selectedIdentifier", "selectedIndex"))}


def _form(part: Mapping[str, Any]) -> dict[str, Any]:
    """The pages of a form with what was entered."""
    pages = objects_of(part, "selections", "Apple answer")
    return {
        "pages": [
            {
                **chosen(page, ("pageIdentifier", "title")),
                "items": [chosen(one, ("identifier", "title", "value")) for one in objects_of(page, "items", "form")],
            }
            for page in pages
        ]
    }


def _item(raw: Mapping[str, Any]) -> dict[str, Any]:
    return chosen(raw, ("identifier", "title", "subtitle"))


def _status_alone(part: Mapping[str, Any]) -> dict[str, Any]:
    """That it was done or not; the token of a login and the data of a card are none of ours."""
    return chosen(part, ("status", "state"))


_PARTS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "listPicker": _list_picker,
    "event": _time_picker,
    "quick-reply": _quick_reply,
    "dynamic": _form,
    "authenticate": _status_alone,
    "payment": _status_alone,
}


def _close(payload: Mapping[str, Any], context: AppleContext) -> list[Record]:
    """The customer deleted the chat: Apple takes nothing more for them until they write again."""
    message = _message(payload, context, "system", None, content={"type": "close"}, author="system")
    return [message, *_consents(message, "closed", {"service": "opted_out", "promotional": "opted_out"})]


def _unknown(payload: Mapping[str, Any], context: AppleContext) -> list[Record]:
    name = text_of(object_of(payload, "message", "Apple message"), "type", "Apple message")
    return [_message(payload, context, "unsupported", None, content={"type": name[:60]})]


def _message(
    payload: Mapping[str, Any],
    context: AppleContext,
    kind: MessageKind,
    text: str | None,
    *,
    attachments: list[Attachment] | None = None,
    content: dict[str, Any] | None = None,
    author: AuthorKind = "customer",
) -> Message:
    where = "Apple message"
    raw = object_of(payload, "message", where)
    account = text_of(raw, "destinationId", where)
    customer = Handle(kind="apple_opaque", scope=account, value=text_of(raw, "sourceId", where))
    locale = optional_text_of(raw, "locale", where)
    device = optional_object_of(payload, "device", where) or {}
    about = {
        **chosen(raw, ("locale", "intent", "group")),
        **{ours: device[theirs] for theirs, ours in _DEVICE if isinstance(device.get(theirs), str)},
    }
    return Message(
        message_key=message_key(CHANNEL, account, text_of(raw, "id", where)),
        channel=CHANNEL,
        account=account,
        conversation_key=conversation_key(CHANNEL, account, customer.value),
        direction="inbound",
        kind=kind,
        text=text,
        attachments=attachments or [],
        content=content,
        origin_detail=about or None,
        flags=["time_of_receipt"],
        sent_at=context.received_at,
        received_at=context.received_at,
        author_kind=author,
        handles=[customer],
        profile=Profile(locale=locale) if locale else None,
        raw_ref=context.raw_ref,
    )


_DEVICE = (("capability-list", "capabilities"), ("device-agent", "device"))
"""Headers that say what may be sent to this device."""


def _promotional(message: Message, decision: Decision | None, source: str) -> list[Consent]:
    return _consents(message, source, {"promotional": decision}) if decision else []


def _consents(message: Message, source: str, decisions: Mapping[Purpose, Decision]) -> list[Consent]:
    return [
        Consent(
            handle_key=message.handles[0].key,
            handle=message.handles[0],
            channel=CHANNEL,
            account=message.account,
            purpose=purpose,
            status=decision,
            source=source,
            source_message_key=message.message_key,
            decided_at=message.sent_at,
            raw_ref=message.raw_ref,
        )
        for purpose, decision in decisions.items()
    ]


_RULES: Mapping[str, Callable[[Mapping[str, Any], AppleContext], list[Record]]] = {
    "text": _text,
    "interactive": _interactive,
    "close": _close,
    "message": _unknown,
}


PLATFORM = Platform(
    slug="apple",
    name="Apple Messages for Business",
    tap="taps.apple:TapApple",
    mapping="mappings.from_apple",
    webhook="taps.webhooks.apple",
    sandbox="sandbox.apple:AppleApp",
    reads="texts, files, answers to lists, times, quick replies and forms, closed chats",
    sends="",
)
