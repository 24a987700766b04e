"""What a LINE message says, by its type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mappings.errors import MissingFieldError
from mappings.fields import chosen, optional_object_of, optional_text_of, storable, text_of
from mappings.from_line.codes import MESSAGE_KINDS
from mappings.records import Attachment, MessageKind

_LARGEST_SIZE = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a message says; `details` is what text cannot say."""

    kind: MessageKind
    text: str | None = None
    attachments: list[Attachment] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def content_of(message: Mapping[str, Any], where: str) -> Content:
    """The content of a message.

    A type that is not in `MESSAGE_KINDS` gives kind ``unsupported`` with the type's name: the message exists, so it
    must be seen, and the raw delivery keeps what came. Tokens that only our own calls can use (to quote, to mark as
    read) are left out: they would be shown to people.

    Raises:
        MissingFieldError: of a type that is known, what it needs is absent or of the wrong type.
    """
    name = text_of(message, "type", where)
    kind = MESSAGE_KINDS.get(name)
    match kind:
        case None:
            return Content(kind="unsupported", details={"type": storable(name[:60])})
        case "text":
            text = text_of(message, "text", where)
            return Content(kind=kind, text=text, details=chosen(message, ("emojis", "mention")))
        case "location":
            return Content(kind=kind, details=_location(message, where))
        case "sticker":
            names = ("packageId", "stickerId", "stickerResourceType", "keywords")
            return Content(kind=kind, text=optional_text_of(message, "text", where), details=chosen(message, names))
        case _:
            attachment = _attachment(message, kind, where)
            return Content(kind=kind, attachments=[attachment], details=chosen(message, ("duration", "imageSet")))


def _attachment(message: Mapping[str, Any], kind: Any, where: str) -> Attachment:
    """A file. LINE keeps it under the message's id, unless the customer's app says where else it lies."""
    provider = optional_object_of(message, "contentProvider", where) or {}
    elsewhere = optional_text_of(provider, "originalContentUrl", where) if provider.get("type") == "external" else None
    size = message.get("fileSize")
    known = isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= _LARGEST_SIZE
    return Attachment(
        kind=kind,
        platform_media_id=None if elsewhere else text_of(message, "id", where),
        url=elsewhere,
        filename=optional_text_of(message, "fileName", where),
        size_bytes=size if known else None,
    )


def _location(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name, limit in (("latitude", 90), ("longitude", 180)):
        value = message.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
            msg = f"{where}: {name} is not a number between -{limit} and {limit}"
            raise MissingFieldError(msg)
    return chosen(message, ("title", "address", "latitude", "longitude"))
