"""Header fields of a mail as a stranger wrote them: decoded, never trusted, never a crash.

The parser's own header classes (`email.policy.default`) raise on some broken fields, so fields are read raw
(`compat32`) and understood here.
"""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import Message as MimeMessage
from email.utils import getaddresses, parsedate_to_datetime
from inspect import signature
from typing import Any

from mappings.contact_points import clean_name, normalize_email

_BROKEN = re.compile("[\x00\ud800-\udfff]")
_BRACKETED_ID = re.compile(r"<([^<>]+)>")
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,80})\?([bBqQ])\?([^?]*)\?=")
_BARE_ADDRESS = re.compile(r"[^\s<>,;:\"()\[\]]{1,200}@[^\s<>,;:\"()\[\]]{1,255}")
_ALIASES = {"iso-8859-1": "cp1252", "latin-1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252", "gb2312": "gb18030"}
"""What senders mean by these names: as browsers read them (wiki.whatwg.org/wiki/Charset, documented, read 2026-11)."""
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})
"""Codecs of Python's that are not character sets; punycode and idna take quadratic time."""
MOST_ADDRESSES = 500
_LENIENT: dict[str, Any] = {"strict": False} if "strict" in signature(getaddresses).parameters else {}
"""Newer patch releases of Python give up on a field that is broken anywhere; we take what can be read, on all."""
OLDEST_DATE = datetime(1990, 1, 1, tzinfo=UTC)
FUTURE_TOLERANCE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox of a From, To or Reply-To field; `email` is normalised, ``None`` when it is no address."""

    name: str | None
    email: str | None


def clean_text(text: str) -> str:
    """`text` with LF line ends; NUL and lone surrogates, which databases refuse, become U+FFFD."""
    return _BROKEN.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def decode_bytes(data: bytes, charset: str | None) -> str:
    """`data` as text: by its charset if that works, else as UTF-8, else as Windows-1252. Never raises."""
    name = (charset or "utf-8").strip().strip("\"'").lower()
    for candidate in ("utf-8" if name in {"us-ascii", "ascii"} else _ALIASES.get(name, name), "utf-8"):
        try:
            if codecs.lookup(candidate).name not in _NO_CHARSETS:
                return clean_text(data.decode(candidate))
        except (LookupError, UnicodeError, ValueError):
            continue
    return clean_text(data.decode("cp1252", errors="replace"))


def raw_fields(part: MimeMessage, name: str) -> list[str]:
    """Each value of a header field, unfolded, in order; bytes beyond ASCII are read as UTF-8 or Windows-1252."""
    wanted = name.lower()
    values = [str(value) for field, value in part.raw_items() if field.lower() == wanted]
    return [_unfolded(value) for value in values]


def raw_field(part: MimeMessage, name: str) -> str:
    """The first value of a header field, ``""`` when it is absent."""
    return next(iter(raw_fields(part, name)), "")


def decode_words(value: str) -> str:
    """`value` with its encoded words (RFC 2047) decoded; what is broken stays as it is written.

    The standard library's `decode_header` writes other letters beside an encoded word as backslash sequences.
    """
    pieces: list[str] = []
    charset, data = "", b""
    end = 0
    for word in _ENCODED_WORD.finditer(value):
        between = value[end : word.start()]
        name = word.group(1).partition("*")[0].lower()
        found = _word_bytes(word.group(2), word.group(3))
        if data and not between.strip() and found is not None and name == charset:
            data += found  # a letter may be cut in two between words
        else:
            pieces.append(decode_bytes(data, charset))
            pieces.append(between if between.strip() or not data else "")
            charset, data = (name, found) if found is not None else ("", b"")
            if found is None:
                pieces.append(word.group(0))
        end = word.end()
    return clean_text("".join([*pieces, decode_bytes(data, charset), value[end:]]))


def subject_of(part: MimeMessage) -> str | None:
    """The subject in one line."""
    return " ".join(decode_words(raw_field(part, "Subject")).split()) or None


def addresses_in(values: Iterable[str]) -> list[Address]:
    """The mailboxes of address fields, each once. A field that nobody understands gives what stands in it."""
    found: list[Address] = []
    for value in values:
        if len(found) >= MOST_ADDRESSES:
            break
        parsed = _parsed(value)
        if not any(one.email for one in parsed):
            parsed = [Address(None, email) for email in _standing_in(value)] or parsed
        found += parsed
    unique: dict[object, Address] = {}
    for one in found[:MOST_ADDRESSES]:
        unique.setdefault(one.email or one, one)
    return list(unique.values())


def sender_in(values: Iterable[str]) -> Address | None:
    """The first mailbox of a From field. An unreadable field that holds several addresses names nobody."""
    for value in values:
        parsed = _parsed(value)
        if sender := next((one for one in parsed if one.email), None):
            return sender
        if len(standing := _standing_in(value)) == 1:
            return Address(None, standing[0])
        if parsed:
            return parsed[0]
    return None


def message_ids_in(value: str) -> list[str]:
    """The Message-IDs of a References, In-Reply-To or Message-ID field, without brackets, each once, in order.

    Folded, several, without brackets: read. Prose ("Your message of Tuesday"): no ids.
    """
    found = ["".join(one.split()) for one in _BRACKETED_ID.findall(value)]
    if not found:
        words = value.replace(",", " ").split()
        found = words if words and all(word.count("@") == 1 for word in words) else []
    return list(dict.fromkeys(clean_text(one) for one in found if one))


def own_message_id(part: MimeMessage) -> str | None:
    """The Message-ID of a mail, trimmed of brackets and white space, case kept; ``None`` when it has none."""
    value = raw_field(part, "Message-ID")
    ids = message_ids_in(value)
    if ids:
        return ids[0]
    bare = clean_text(value).strip().strip("<>").strip()
    return bare if bare and not any(character.isspace() for character in bare) else None


def date_of(part: MimeMessage) -> datetime | None:
    """The Date field; without a usable time zone it is taken as UTC, without sense it is ``None``."""
    value = raw_field(part, "Date")
    if not value.strip():
        return None
    try:
        moment = parsedate_to_datetime(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def sane_date(claimed: datetime | None, arrived: datetime | None) -> datetime | None:
    """`claimed`, unless it is before 1990 or more than a day after arrival: a sender may claim anything."""
    if claimed is None or claimed < OLDEST_DATE:
        return None
    if arrived is not None and claimed > arrived + FUTURE_TOLERANCE:
        return None
    return claimed


def _word_bytes(encoding: str, text: str) -> bytes | None:
    written = text.encode("ascii", "replace")
    try:
        if encoding in "qQ":
            return binascii.a2b_qp(written, header=True)
        return binascii.a2b_base64(written + b"=" * (-len(written) % 4))
    except binascii.Error:
        return None


def _parsed(value: str) -> list[Address]:
    try:
        pairs = getaddresses([value[:100_000]], **_LENIENT)[:MOST_ADDRESSES]
    except (ValueError, IndexError, RecursionError):
        return []
    return [
        # An address that does not stand in the field was glued together: "a@x.example www" gives a@x.examplewww.
        Address(clean_name(decode_words(name)), normalize_email(email) if email in value else None)
        for name, email in pairs
        if name or email
    ]


def _standing_in(value: str) -> list[str]:
    emails = (normalize_email(one) for one in _BARE_ADDRESS.findall(value[:10_000]))
    return list(dict.fromkeys(email for email in emails if email))


def _unfolded(value: str) -> str:
    data = value.encode("utf-8", "surrogateescape") if _BROKEN.search(value) else None
    text = value if data is None else decode_bytes(data.replace(b"\x00", b""), None)
    return " ".join(text.splitlines()).strip() if "\n" in text or "\r" in text else text.strip()
