"""What a Telegram message says, by the field that it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mappings.errors import MissingFieldError
from mappings.fields import chosen, object_of, objects_of, optional_object_of, optional_text_of, storable, text_of
from mappings.from_telegram.codes import AROUND, CONTENTS, FILES, KEPT, SERVICE
from mappings.from_telegram.event import number_of, short_name, user_profile
from mappings.records import Attachment, MessageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a message says.

    Attributes:
        details: what text cannot say; see `mappings.records.Message.content`.
    """

    kind: MessageKind
    text: str | None = None
    attachments: list[Attachment] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def content_of(body: Mapping[str, Any], where: str) -> Content:
    """The content of a message.

    A field that we do not know gives kind ``unsupported`` with its name: the message exists, so it must be seen.

    Raises:
        MissingFieldError: of content that is known, what it needs is absent or of the wrong type.
    """
    name = next((name for name in CONTENTS if body.get(name) is not None), None)
    if name is None:
        return _of_the_system(body)
    caption = optional_text_of(body, "caption", where)
    if name in FILES:
        return Content(
            kind=CONTENTS[name],
            text=caption,
            attachments=[_attachment(body, name, where)],
            details=_file_details(body, name, where),
        )
    kind = CONTENTS[name]
    if name == "text":
        return Content(kind=kind, text=text_of(body, name, where))
    part = object_of(body, name, where)
    match name:
        case "rich_message":
            text = "\n".join(storable(line) for line in _lines(part.get("blocks")))
            return Content(kind=kind if text else "unsupported", text=text or None, details={"type": name})
        case "paid_media":
            return _paid_media(part, caption, where)
        case "contact":
            return Content(kind=kind, details={"contacts": [storable(part)]})
        case "dice":
            return Content(
                kind=kind,
                text=optional_text_of(part, "emoji", where),
                details={"type": name, **chosen(part, ("value",))},
            )
        case "poll":
            options = [optional_text_of(one, "text", where) for one in objects_of(part, "options", where)]
            details = {"type": name, "options": options, **chosen(part, ("id",))}
            return Content(kind=kind, text=optional_text_of(part, "question", where), details=details)
        case "checklist":
            tasks = [
                {"text": optional_text_of(one, "text", where), "done": bool(one.get("completion_date"))}
                for one in objects_of(part, "tasks", where)
            ]
            return Content(
                kind=kind, text=optional_text_of(part, "title", where), details={"type": name, "tasks": tasks}
            )
        case "venue":
            place = _location(object_of(part, "location", where), where)
            return Content(kind=kind, details={**place, **chosen(part, ("title", "address"))})
        case "location":
            return Content(kind=kind, details=_location(part, where))
        case _:
            label = {"invoice": "title", "web_app_data": "button_text"}.get(name)
            return Content(
                kind=kind,
                text=optional_text_of(part, label, where) if label else None,
                details={"type": name, **chosen(part, KEPT.get(name, ()))},
            )


def around(body: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What stands around a message and belongs to it: album, topic, origin of a forward, quote, hidden links."""
    found: dict[str, Any] = {}
    album = optional_text_of(body, "media_group_id", where)
    if album:
        found["album"] = album
    if body.get("is_topic_message") is True:
        found["topic_id"] = number_of(body, "message_thread_id", where)
    origin = optional_object_of(body, "forward_origin", where)
    if origin is not None:
        found["forwarded_from"] = _origin(origin, where)
    reply = optional_object_of(body, "external_reply", where)
    if reply is not None:
        found["reply_elsewhere"] = _origin(optional_object_of(reply, "origin", where) or {}, where)
    quote = optional_text_of(optional_object_of(body, "quote", where) or {}, "text", where)
    if quote:
        found["quote"] = quote
    if optional_object_of(body, "reply_to_story", where) is not None:
        found["reply_to_story"] = True
    entities = [*objects_of(body, "entities", where), *objects_of(body, "caption_entities", where)]
    links = [text_of(one, "url", where) for one in entities if one.get("type") == "text_link"]
    if links:  # the text shows other words than where they lead
        found["links"] = list(dict.fromkeys(links))
    return found


def _of_the_system(body: Mapping[str, Any]) -> Content:
    name = next((name for name in SERVICE if body.get(name) is not None), None)
    if name is None:
        unknown = sorted(short_name(one) for one in body if one not in AROUND)
        return Content(kind="unsupported", details={"type": ",".join(unknown[:3]) or "empty"})
    value = body[name]
    details: dict[str, Any] = {"type": name}
    if isinstance(value, dict):
        details |= chosen(value, KEPT.get(name, ()))
    elif isinstance(value, str | int) and not isinstance(value, bool):
        details[name] = storable(str(value))
    return Content(kind="system", details=details)


def _attachment(body: Mapping[str, Any], name: str, where: str) -> Attachment:
    """The file in field `name`; of a photo its largest size. Its id is valid for this bot only, for ever."""
    if name == "photo":
        sizes = objects_of(body, name, where)
        if not sizes:
            msg = f"{where}: photo has no size"
            raise MissingFieldError(msg)
        part = max(sizes, key=lambda one: (_count(one.get("width")) or 0) * (_count(one.get("height")) or 0))
    else:
        part = object_of(body, name, where)
    return Attachment(
        kind=FILES[name],
        platform_media_id=text_of(part, "file_id", where),
        mime_type=optional_text_of(part, "mime_type", where),
        filename=optional_text_of(part, "file_name", where),
        size_bytes=_count(part.get("file_size")),
    )


def _file_details(body: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    part = body[name]
    details = chosen(part, ("emoji", "performer", "title")) if isinstance(part, dict) else {}
    if name in {"voice", "video_note", "animation", "live_photo"}:
        details[name] = True
    if isinstance(part, dict):
        unique = optional_text_of(part, "file_unique_id", where)  # the same for the same file, whoever sends it
        details |= {"file_unique_id": unique} if unique else {}
    return details


def _paid_media(part: Mapping[str, Any], caption: str | None, where: str) -> Content:
    found = objects_of(part, "paid_media", where)
    kinds = [short_name(one.get("type")) for one in found]
    attachments = [
        _attachment(one, kind, where) for one, kind in zip(found, kinds, strict=True) if kind in FILES and one.get(kind)
    ]
    return Content(
        kind=attachments[0].kind if attachments else "unsupported",
        text=caption,
        attachments=attachments,
        details={"type": "paid_media", "media": kinds, **chosen(part, ("star_count",))},
    )


def _location(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name, limit in (("latitude", 90), ("longitude", 180)):
        value = part.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
            msg = f"{where}: {name} is not a number between -{limit} and {limit}"
            raise MissingFieldError(msg)
    return chosen(part, ("latitude", "longitude", "horizontal_accuracy", "live_period"))


def _origin(origin: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Where a forwarded message came from, as far as its author lets it be known; descriptive only."""
    user = optional_object_of(origin, "sender_user", where)
    chat = optional_object_of(origin, "sender_chat", where) or optional_object_of(origin, "chat", where)
    profile = user_profile(user, where) if user else None
    name = profile.name if profile else optional_text_of(origin, "sender_user_name", where)
    name = name or (optional_text_of(chat, "title", where) if chat else None)
    return {**chosen(origin, ("type", "date")), **({"name": name} if name else {})}


def _lines(value: Any) -> Iterator[str]:
    """The words of rich blocks, a line for each block; nesting is bounded by what a delivery may have."""
    if isinstance(value, list):
        for one in value:
            yield from _lines(one)
    elif isinstance(value, dict):
        if value.get("text") is not None or value.get("summary") is not None:
            words = "".join(_words(value.get("summary"))) + "".join(_words(value.get("text")))
            if words:
                yield words
        for name in ("blocks", "items", "cells", "caption"):
            yield from _lines(value.get(name))


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _words(one)
    elif isinstance(value, dict):
        yield from _words(value.get("text"))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None
