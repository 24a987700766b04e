"""Every id that we mint is made and parsed here.

A key is a colon-separated list of percent-encoded parts, so that any vendor id survives a round trip::

    message_key("whatsapp", "106540352242922", "wamid.HBg=")  ->  "whatsapp:106540352242922:wamid.HBg%3D"

Keys are opaque to everybody else. They can contain a phone number or an address (vendor ids do), so a store keeps
their fingerprint and never the key itself in clear.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

from mappings.errors import PayloadError

_SAFE = "@+.-_"
_PLAIN = re.compile(r"[A-Za-z0-9@+.\-_~]+", re.ASCII)
"""What `quote` leaves as it is."""


def _join(*parts: str) -> str:
    for part in parts:
        if not part:
            msg = f"an id part is empty in {len(parts)}-part key starting with {parts[0]!r}"
            raise PayloadError(msg)
    if all(map(_PLAIN.fullmatch, parts)):
        return ":".join(parts)
    return ":".join(quote(part, safe=_SAFE) for part in parts)


def _split(key: str, lengths: tuple[int, ...], what: str) -> list[str]:
    parts = [unquote(part) for part in key.split(":")]
    if len(parts) not in lengths or not all(parts):
        msg = f"not a {what}: expected {' or '.join(map(str, lengths))} parts, found {len(parts)}"
        raise PayloadError(msg)
    return parts


class MessageId(NamedTuple):
    """The parts of a message key; `conversation` is set only where the id is unique per conversation."""

    channel: str
    account: str
    platform_message_id: str
    conversation: str | None


def message_key(channel: str, account: str, platform_message_id: str, conversation: str | None = None) -> str:
    """The key of one message: channel, account and the platform's id (plus the conversation where ids repeat)."""
    if conversation is None:
        return _join(channel, account, platform_message_id)
    return _join(channel, account, conversation, platform_message_id)


def parse_message_key(key: str) -> MessageId:
    """The parts of `key`; raises `PayloadError` on anything `message_key` did not make."""
    parts = _split(key, (3, 4), "message key")
    if len(parts) == 3:
        return MessageId(parts[0], parts[1], parts[2], None)
    return MessageId(parts[0], parts[1], parts[3], parts[2])


def conversation_key(channel: str, account: str, handle_or_thread: str) -> str:
    """The key of one thread of one handle (or one mail thread) with one account."""
    return _join(channel, account, handle_or_thread)


def parse_conversation_key(key: str) -> tuple[str, str, str]:
    """Channel, account and the handle or thread of a conversation key."""
    channel, account, thread = _split(key, (3,), "conversation key")
    return channel, account, thread


_PUBLIC = ("comment:", "mention:", "post.")


def is_public_thread(conversation: str) -> bool:
    """Whether a conversation key names a comment or a mention: it opens no chat window and takes no private answer."""
    try:
        return parse_conversation_key(conversation)[2].startswith(_PUBLIC)
    except PayloadError:
        return False


def external_id(what: str, key: str) -> str:
    """32 hexadecimal digits that stand for one of our keys in a CRM; not the key itself: it can hold a phone.

    Args:
        what: ``message`` or ``conversation``.
        key: message key or conversation key.
    """
    return hashlib.sha256(f"onethread {what} {key}".encode()).hexdigest()[:32]


def change_key(subject_message_key: str, change: str, discriminator: str) -> str:
    """The key of one change of a message; the discriminator makes a repeated change its own (time or platform id)."""
    return _join(subject_message_key, change, discriminator)


def handle_key(kind: str, scope: str | None, value: str) -> str:
    """A handle as text: kind, scope (``-`` when the kind has none) and canonical value."""
    if value and _PLAIN.fullmatch(value):
        return f"{_handle_space(kind, scope)}:{value}"
    return _join(kind, scope or "-", value)


@lru_cache
def _handle_space(kind: str, scope: str | None) -> str:
    return _join(kind, scope or "-")


def parse_handle_key(key: str) -> tuple[str, str | None, str]:
    """Kind, scope and value of a handle key."""
    kind, scope, value = _split(key, (3,), "handle key")
    return kind, None if scope == "-" else scope, value


def evidence_key(channel: str, account: str, method: str, discriminator: str) -> str:
    """The key of one observation that handles belong together."""
    return _join(channel, account, method, discriminator)


def reply_key(crm: str, account: str, record_id: str, moment: str) -> str:
    """The key of one reply that an agent wrote: CRM, CRM account, record and the moment it was queued (or its id)."""
    return _join(crm, account, record_id, moment)


def parse_reply_key(key: str) -> tuple[str, str, str, str]:
    """CRM, CRM account, record id and moment of a reply key."""
    crm, account, record_id, moment = _split(key, (4,), "reply key")
    return crm, account, record_id, moment


def reply_token(key: str) -> str:
    """What a platform carries for us to recognise our own reply when it comes back (echo, status, Message-ID).

    32 hexadecimal characters, the same for the same reply key, saying nothing about customer or text.
    """
    return hashlib.sha256(f"onethread reply {key}".encode()).hexdigest()[:32]
