"""What a mail says and what it carries: its text, and its other parts as attachments.

Parts are numbered as IMAP numbers them (RFC 3501 section 6.4.5), so an attachment can be fetched by its number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message as MimeMessage
from typing import Literal

from mappings.errors import UnknownShapeError
from mappings.from_email.headers import clean_text, decode_bytes, decode_words
from mappings.from_email.html import text_from_html
from mappings.records import Attachment

MOST_LEVELS = 60
MOST_PARTS = 2_000
_BODY_TYPES = {"text/plain", "text/html"}
_Kind = Literal["image", "video", "audio", "file"]
_KINDS: dict[str, _Kind] = {"image": "image", "video": "video", "audio": "audio"}


@dataclass(slots=True)
class Body:
    """`text` is ``None`` when no part is a text."""

    text: str | None = None
    attachments: list[Attachment] = field(default_factory=list)


def body_of(mail: MimeMessage) -> Body:
    """The text and the attachments of a parsed mail.

    Of alternatives the plain text counts, if it says anything; HTML is turned into text. Texts that follow one another
    are joined. An attached mail is an attachment, not read.

    Raises:
        UnknownShapeError: more than 60 levels or 2,000 parts: no mail program makes that.
    """
    attachments = [_attachment(number, part) for number, part in _leaves(mail) if not _is_body(part)]
    return Body(_text_of(mail) or None, attachments)


def files_of(mail: MimeMessage) -> dict[str, bytes]:
    """The bytes of each attachment of `body_of`, by its number."""
    return {number: bytes_of(part) for number, part in _leaves(mail) if not _is_body(part)}


def mime_type_of(part: MimeMessage) -> str:
    """The content type in lower case."""
    return clean_text(part.get_content_type()).lower()


def is_container(part: MimeMessage) -> bool:
    """Whether a part is a multipart that really has parts (one whose boundary never comes is a leaf)."""
    return part.get_content_maintype() == "multipart" and part.is_multipart()


def children_of(part: MimeMessage) -> list[MimeMessage]:
    """The parts of a multipart."""
    payload = part.get_payload()
    return [one for one in payload if isinstance(one, MimeMessage)] if isinstance(payload, list) else []


def bytes_of(part: MimeMessage) -> bytes:
    """The content of a leaf, without its transfer encoding."""
    if part.is_multipart():  # message/rfc822 and message/delivery-status hold parsed messages
        try:
            return b"\n".join(child.as_bytes() for child in children_of(part))
        except (UnicodeError, LookupError, ValueError, TypeError, RecursionError):
            return b""
    try:
        payload = part.get_payload(decode=True)
    except (ValueError, LookupError, AssertionError):
        payload = None
    return payload if isinstance(payload, bytes) else b""


def _leaves(mail: MimeMessage) -> Iterator[tuple[str, MimeMessage]]:
    """Each part that holds content, with its IMAP number."""
    if not is_container(mail):
        yield "1", mail
        return
    waiting = [(str(index), part) for index, part in enumerate(children_of(mail), start=1)][::-1]
    count = 0
    while waiting:
        number, part = waiting.pop()
        count += 1
        if count > MOST_PARTS or number.count(".") >= MOST_LEVELS:
            msg = f"the mail has more than {MOST_PARTS} parts or {MOST_LEVELS} levels"
            raise UnknownShapeError(msg)
        if is_container(part):
            waiting += [(f"{number}.{index}", child) for index, child in enumerate(children_of(part), start=1)][::-1]
        else:
            yield number, part


def _is_body(part: MimeMessage) -> bool:
    if part.get_content_maintype() == "multipart":  # one without parts: its preamble is all there is to read
        return True
    return mime_type_of(part) in _BODY_TYPES and not _filename(part) and _disposition(part) != "attachment"


def _text_of(part: MimeMessage, level: int = 0) -> str:
    if level > MOST_LEVELS:  # `_leaves` has refused it before
        return ""
    if not is_container(part):
        return _leaf_text(part) if _is_body(part) else ""
    children = children_of(part)
    if mime_type_of(part) == "multipart/alternative":
        return _best_alternative(children, level)
    texts = [_text_of(child, level + 1) for child in children]
    return "\n\n".join(text for text in texts if text)


def _best_alternative(children: list[MimeMessage], level: int) -> str:
    """The plain one if it says anything, else the last that does: the sender puts the best last (RFC 2046)."""
    plain = [child for child in children if mime_type_of(child) == "text/plain"]
    others = [child for child in reversed(children) if child not in plain]
    return next((text for child in (*plain, *others) if (text := _text_of(child, level + 1))), "")


def _leaf_text(part: MimeMessage) -> str:
    text = decode_bytes(bytes_of(part), _charset(part))
    if mime_type_of(part) == "text/html":
        text = text_from_html(text)
    return text.strip("\n").rstrip() if text.strip() else ""


def _attachment(number: str, part: MimeMessage) -> Attachment:
    data = bytes_of(part)
    return Attachment(
        kind=_KINDS.get(part.get_content_maintype(), "file"),
        platform_media_id=number,
        mime_type=mime_type_of(part),
        filename=_filename(part),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _filename(part: MimeMessage) -> str | None:
    try:
        name = part.get_filename()
    except (TypeError, ValueError, LookupError):
        return None
    return " ".join(decode_words(str(name)).split())[:255] or None if name else None


def _disposition(part: MimeMessage) -> str | None:
    try:
        return part.get_content_disposition()
    except (TypeError, ValueError, AttributeError):
        return None


def _charset(part: MimeMessage) -> str | None:
    try:
        return part.get_content_charset()
    except (TypeError, ValueError, LookupError):
        return None
