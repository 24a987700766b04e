"""What kind of file some bytes are, and whether that is what a message announced.

The platforms answer with a login page, an error text or an expired-link page where a picture was, often with status
200, and a stranger may call anything an image. So the first bytes decide, not the name and not the header.
"""

from __future__ import annotations

import mimetypes
import re

import filetype

from mappings.errors import RejectedError
from mappings.records import Attachment

HEAD_BYTES = 8192
"""How much of a file's beginning is looked at."""

UNKNOWN = "application/octet-stream"

_MARKUP = re.compile(rb"<(?:!doctype|!--|html|head|body|script|iframe|svg|math|\?xml)[\s>:/\w-]", re.IGNORECASE)
_TEXT = re.compile(r"text/.*|.*[/+](?:xml|html|svg|json)")
_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*")
_PROGRAMS = frozenset({"application/x-msdownload", "application/x-executable", "application/x-mach-binary"})
_MORE = {b"caff": "audio/x-caf", b"#!SILK_V3": "audio/silk", b"\x02#!SILK_V3": "audio/silk"}
"""Voice messages that the library does not know: iOS writes CAF, WeChat SILK; observed in their file headers."""

_FITTING = {
    "image": re.compile(r"image/.*"),
    "sticker": re.compile(r"image/.*|video/.*|application/gzip"),  # Telegram's animated ones are gzipped JSON
    "video": re.compile(r"video/.*|image/gif"),
    "audio": re.compile(r"audio/.*|video/(?:mp4|3gpp|quicktime|webm|x-m4v)"),  # one container holds both
}


def type_of_media(head: bytes, announced: Attachment, answered: str | None = None) -> str:
    """The MIME type of the file that begins with `head`.

    Args:
        head: its first `HEAD_BYTES` bytes, or all there are.
        announced: what the message said it is.
        answered: the ``Content-Type`` that came with the bytes.

    Raises:
        RejectedError: it is something else than announced.
    """
    if not head:
        msg = f"the {announced.kind} is empty"
        raise RejectedError(msg)
    found = _sniffed(head)
    said = _tidy(announced.mime_type) or _tidy(mimetypes.guess_type(announced.filename or "")[0])
    fitting = _FITTING.get(announced.kind)
    if fitting is not None:
        if found is None or not fitting.fullmatch(found):
            msg = f"the bytes are no {announced.kind} but {found or 'of no known type'}"
            raise RejectedError(msg)
        return said if announced.kind == "audio" and said and said.startswith("audio/") else found
    if found == "text/html" and not _may_be_markup(said, _tidy(answered)):
        msg = f"the bytes are a web page where {said or 'a file'} was announced"
        raise RejectedError(msg)
    if found in _PROGRAMS and said not in {None, *_PROGRAMS}:
        msg = f"the bytes are a program where {said} was announced"
        raise RejectedError(msg)
    return said or found or UNKNOWN


def _sniffed(head: bytes) -> str | None:
    if _is_markup(head):
        return "text/html"
    known: str | None = filetype.guess_mime(head)
    return known or next((name for magic, name in _MORE.items() if head.startswith(magic)), None)


def _is_markup(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head[: len(head) // 2 * 2].decode("utf-16", "replace").encode()
    return _MARKUP.match(head.removeprefix(b"\xef\xbb\xbf").lstrip()) is not None


def _may_be_markup(said: str | None, answered: str | None) -> bool:
    """Nothing said: then a page is believed only where the other side does not call it one (a login page)."""
    return bool(_TEXT.fullmatch(said)) if said else answered != "text/html"


def _tidy(mime_type: str | None) -> str | None:
    """The type alone, in small letters; ``None`` for one that says nothing."""
    plain = (mime_type or "").partition(";")[0].strip().lower()
    return plain if _TYPE.fullmatch(plain) and plain != UNKNOWN else None
