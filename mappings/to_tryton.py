"""Canonical records as Tryton wants them: parties, contact mechanisms, notes, the fate of a reply; and the calls' form.

Sources: trytond 8.2.1 and trytond-party 8.2.0 (pypi.org; ``ir/note.py``, ``modules/party/party.py`` and
``contact_mechanism.py``, ``protocols/jsonrpc.py``), read 2026-11 and observed on a running server. A note is plain
text; its text can never be changed once it is there (observed: "You are not allowed to modify the field"), so what
changes is a new note in the old one's place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from mappings.contact_points import clean_name
from mappings.crm_words import (
    attachment_line,
    clock_text,
    closing_lines,
    fate_words,
    header_line,
    words_of,
)
from mappings.records import ArchivedMessage, Handle, Person, Receipt

CRM = "tryton"
CONTACT_KIND = "tryton_contact"
"""Kind of the handle of a party; its scope is the account."""

MADE_PREFIX = "onethread-made:"
"""An identifier of a party that we made, before the person's id."""
PERSON_PREFIX = "onethread:"
"""The same on a party that people made."""
MECHANISM_MARK = "Added by onethread."
"""Comment of the contact mechanisms that we add; it says that they are no evidence of who is who."""

REPLY_MARKER = "@reply"
TEMPLATE_MARKER = "@template"

# Receipt status -> how far that is, in the order of `mappings.fold.STATUS_RANK`.
REPLY_RANKS: Mapping[str, int] = {
    "queued": 1, "unknown": 2, "accepted": 3, "sent": 4, "delivered": 5, "read": 6, "failed": 7, "refused": 7,
}  # fmt: skip
"""How far a reply got; it never moves back."""

# A number that messages come from is a mobile one far more often than not; Tryton has no type for either.
_MECHANISM_TYPES: Mapping[str, str] = {"email": "email", "phone": "mobile"}
_NOT_SHOWN = frozenset({"login", "apple_opaque", "messenger_user_ref"})
"""Handles that say nothing to an agent: a hash, a one-time reference, an internal id."""
_REFERENCE = re.compile(r"^ref ([0-9a-f]{12})$", re.MULTILINE)
_CUT_MARK = "\n… cut here: the message continues, see it in full in onethread"
_UNSTORABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_RULE = "\n\n— — —\n\n"


class Mechanism(NamedTuple):
    """A contact mechanism: Tryton's type, the value, and what it is called."""

    type: str
    value: str
    name: str | None


def call_for_tryton(method: str, parameters: Sequence[Any], context: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The body of a JSON-RPC call; the context comes last (login has none: ``context=None``)."""
    given = list(parameters) if context is None else [*parameters, dict(context)]
    return {"id": 1, "method": method, "params": given}


def datetime_for_tryton(moment: datetime) -> dict[str, Any]:
    """A moment as Tryton's JSON has it: naive UTC."""
    there = moment.astimezone(UTC)
    return {
        "__class__": "datetime", "year": there.year, "month": there.month, "day": there.day, "hour": there.hour,
        "minute": there.minute, "second": there.second, "microsecond": there.microsecond,
    }  # fmt: skip


def resource_of(party_id: str) -> str:
    """What a note is attached to."""
    return f"party.party,{party_id}"


# Parties


def party_name(person: Person) -> str:
    """What a party made by us is called: the person's name, else the first address that says something."""
    shown = [one.value for one in mechanisms_of(person)]
    return clean_name(person.name) or next(iter(shown), person.person_id)


def person_code(person_id: str, *, made: bool) -> str:
    """The identifier by which a party is found again."""
    return f"{MADE_PREFIX if made else PERSON_PREFIX}{person_id}"


def mechanisms_of(person: Person) -> list[Mechanism]:
    """The person's handles as contact mechanisms, each once: e-mails, phones, then ids on other channels."""
    shown = [one for one in person.handles if not one.kind.endswith("_contact") and one.kind not in _NOT_SHOWN]
    order = {"email": 0, "phone": 1}
    shown.sort(key=lambda one: order.get(one.kind, 2))
    return list(dict.fromkeys(_mechanism(one) for one in shown))


def _mechanism(handle: Handle) -> Mechanism:
    kind = _MECHANISM_TYPES.get(handle.kind)
    if kind:
        return Mechanism(kind, handle.value, None)
    return Mechanism("other", handle.value, handle.kind.replace("_", " "))


def mechanism_values(mechanism: Mechanism, *, plain: bool = False) -> dict[str, Any]:
    """A row of contact mechanisms. `plain`: as type ``other``, which a server never checks for validity."""
    kind = "other" if plain else mechanism.type
    values: dict[str, Any] = {"type": kind, "value": mechanism.value, "comment": MECHANISM_MARK}
    if mechanism.name or plain:
        values["name"] = mechanism.name or mechanism.type
    return values


def party_values(person: Person, *, plain: bool = False, bare: bool = False) -> dict[str, Any]:
    """A new party with its identifier and mechanisms, made in one transaction.

    Args:
        person: who it stands for.
        plain: all mechanisms as type ``other``, for a server that takes an address or number for invalid.
        bare: no mechanisms at all.
    """
    rows = [] if bare else [mechanism_values(one, plain=plain) for one in mechanisms_of(person)]
    values: dict[str, Any] = {
        "name": party_name(person),
        "identifiers": [["create", [{"code": person_code(person.person_id, made=True)}]]],
    }
    if rows:
        values["contact_mechanisms"] = [["create", rows]]
    return values


def party_facts(person: Person) -> dict[str, str]:
    """All that a person's party says, to see whether anything changed."""
    return {"name": party_name(person), **{f"{one.type} {one.value}": "" for one in mechanisms_of(person)}}


# Notes


def note_reference(key: str) -> str:
    """12 hexadecimal digits that stand for a note's content in Tryton; the key itself can contain a phone number."""
    return hashlib.sha256(f"onethread message {key}".encode()).hexdigest()[:12]


def day_key(conversation_key: str, person_id: str, day: date) -> str:
    """The key of one person's day in one conversation, where a note holds a day."""
    return f"{conversation_key} {person_id} {day.isoformat()}"


def reference_in_note(text: str | None) -> str | None:
    """The reference in the last line of a note of ours; ``None`` without one.

    The last one counts: a customer can write the same words, but only above it.
    """
    found = _REFERENCE.findall(text or "")
    return found[-1] if found else None


def note_text(message: ArchivedMessage, *, max_characters: int = 60_000) -> str:
    """The note that shows one message: channel, who writes to whom, when, the text untouched, what became of it.

    Its first line begins with the channel's name, so a customer's words can never look like an agent's command.
    """
    return _closed(_block(message, max_characters), note_reference(message.message_key))


def day_note_text(messages: Sequence[ArchivedMessage], key: str, *, max_characters: int = 60_000) -> str:
    """The note that shows one day of one conversation, oldest message first; `key` is its `day_key`."""
    in_order = sorted(messages, key=lambda one: (one.sent_at, one.message_key))
    blocks = [_block(one, max_characters) for one in in_order]
    return _closed(_RULE.join(blocks), note_reference(key))


def fate_note_text(receipt: Receipt, written_at: datetime | None, key: str) -> str:
    """What became of an agent's reply, as a note; `key` is the reply key."""
    when = f" of {clock_text(written_at)}" if written_at else ""
    return _closed(f"Your reply{when}: {_storable(fate_words(receipt))}", note_reference(f"reply {key}"))


def _closed(text: str, reference: str) -> str:
    return f"{text}\n\nref {reference}"


def _block(message: ArchivedMessage, max_characters: int) -> str:
    # Seconds: in a lively chat a minute holds a dozen messages, and Tryton sorts notes by when they were written.
    lines = [f"{header_line(message)} · {message.sent_at:%Y-%m-%d %H:%M:%S} UTC"]
    if message.subject:
        lines.append(f"Subject: {clean_name(message.subject, 1000)}")
    if message.reply_to_key:
        lines.append(f"In reply to ref {note_reference(message.reply_to_key)}")
    if message.unsent_at:
        lines.append(f"Removed by the sender, {clock_text(message.unsent_at)}")
    after = [f"[{attachment_line(one)}]" for one in message.attachments]
    after += closing_lines(message)
    room = max_characters - sum(len(line) + 1 for line in [*lines, *after])
    text = _cut(words_of(message), room)
    parts = ["\n".join(lines), text, "\n".join(after)]
    return _storable("\n\n".join(part for part in parts if part))


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(0, room - len(_CUT_MARK))] + _CUT_MARK


def _storable(text: str) -> str:
    """`text` with what no database takes (NUL, halves of characters, control characters) shown as a question mark."""
    return _UNSTORABLE.sub("\ufffd", text.replace("\r\n", "\n"))
