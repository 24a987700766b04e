"""What a WhatsApp message says, by its type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mappings.errors import MissingFieldError
from mappings.fields import chosen, object_of, objects_of, optional_text_of, storable, text_of
from mappings.from_whatsapp.codes import MESSAGE_KINDS
from mappings.from_whatsapp.event import short_name
from mappings.records import Attachment, MessageKind

AttachmentKind = Literal["image", "video", "audio", "file", "sticker"]

_ATTACHMENTS: Mapping[str, AttachmentKind] = {
    "audio": "audio",
    "document": "file",
    "image": "image",
    "sticker": "sticker",
    "video": "video",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a message says.

    Attributes:
        details: what text cannot say; see `mappings.records.Message.content`.
        cards: shared contact cards, as they came.
        button: label and payload of the button that was pressed.
    """

    kind: MessageKind
    text: str | None = None
    attachments: list[Attachment] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    cards: list[dict[str, Any]] = field(default_factory=list)
    button: tuple[str | None, ...] = ()


def content_of(body: Mapping[str, Any], kind: str, where: str) -> Content:
    """The content of a message of type `kind`.

    A type that we, or WhatsApp's API, do not support gives kind ``unsupported`` with the type's name: the message
    exists, so it must be seen, and the raw delivery keeps what came.

    Raises:
        MissingFieldError: of a type that is supported, what it needs is absent or of the wrong type.
    """
    known = MESSAGE_KINDS.get(kind)
    if known is None or known in {"unsupported", "system"} or (kind not in body and body.get("errors")):
        return _without_content(body, kind, known, where)
    if kind == "contacts":
        cards = objects_of(body, kind, where)
        return Content(kind=known, details={"contacts": storable(cards)}, cards=cards)
    part = object_of(body, kind, where)
    match kind:
        case "text":
            return Content(kind=known, text=text_of(part, "body", where))
        case "location":
            return Content(kind=known, details=_location(part, where))
        case "button":
            label, payload = (optional_text_of(part, name, where) for name in ("text", "payload"))
            details = {"answer": kind, **chosen(part, ("payload",))}
            return Content(kind=known, text=label, details=details, button=(label, payload))
        case "interactive":
            return _answer(part, where)
        case "order":
            details = chosen(part, ("catalog_id", "product_items"))
            return Content(kind=known, text=optional_text_of(part, "text", where), details=details)
        case _:
            return Content(
                kind=known,
                text=optional_text_of(part, "caption", where),
                attachments=[_attachment(part, kind, where)],
                details=chosen(part, ("voice", "animated")),
            )


def _without_content(body: Mapping[str, Any], kind: str, known: MessageKind | None, where: str) -> Content:
    part = body.get(kind)
    subtype = part.get("type") if isinstance(part, dict) else None
    details: dict[str, Any] = {"type": short_name(kind)}
    if isinstance(subtype, str):
        details["subtype"] = short_name(subtype)
    errors = [chosen(error, ("code", "title")) for error in objects_of(body, "errors", where)]
    if errors:
        details["errors"] = errors
    return Content(kind="system" if known == "system" else "unsupported", details=details)


def _attachment(part: Mapping[str, Any], kind: str, where: str) -> Attachment:
    media_id, url = optional_text_of(part, "id", where), optional_text_of(part, "url", where)
    if media_id is None and url is None:
        msg = f"{where}: {kind} has neither id nor url"
        raise MissingFieldError(msg)
    return Attachment(
        kind=_ATTACHMENTS[kind],
        platform_media_id=media_id,
        url=url,
        mime_type=optional_text_of(part, "mime_type", where),
        filename=optional_text_of(part, "filename", where),
        sha256=optional_text_of(part, "sha256", where),
    )


def _location(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name, limit in (("latitude", 90), ("longitude", 180)):
        value = part.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
            msg = f"{where}: {name} is not a number between -{limit} and {limit}"
            raise MissingFieldError(msg)
    return chosen(part, ("latitude", "longitude", "name", "address", "url"))


def _answer(part: Mapping[str, Any], where: str) -> Content:
    """``interactive``: what a customer chose or filled in. A type we do not know keeps its name, without content."""
    kind = text_of(part, "type", where)
    if kind in {"button_reply", "list_reply"}:
        choice = object_of(part, kind, where)
        label, choice_id = (optional_text_of(choice, name, where) for name in ("title", "id"))
        details = {"answer": kind, **chosen(choice, ("id", "title", "description"))}
        return Content(kind="answer", text=label, details=details, button=(label, choice_id))
    if kind == "nfm_reply":
        form = object_of(part, kind, where)
        details = {"answer": kind, **chosen(form, ("name",)), "response": _form(form.get("response_json"))}
        return Content(kind="answer", text=optional_text_of(form, "body", where), details=details)
    return Content(kind="unsupported", details={"type": "interactive", "subtype": short_name(kind)})


def _form(response: Any) -> Any:
    """A form's answers; kept as text when they are no JSON."""
    if not isinstance(response, str):
        return storable(response)
    try:
        return storable(json.loads(response))
    except (ValueError, RecursionError):
        return storable(response)
