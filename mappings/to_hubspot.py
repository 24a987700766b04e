"""Canonical records as HubSpot wants them: contacts, communications on their timeline, the fate of a reply.

Sources: developers.hubspot.com/docs/api-reference/crm-communications-v3/guide (modified 2026-03-31),
developers.hubspot.com/docs/api-reference/crm-properties-v3/guide and the models of hubspot-api-client 12.0.0, read
2026-11, documented. Longest ``hs_communication_body``: not documented, so a setting.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mappings.contact_points import clean_name
from mappings.crm_words import (
    attachment_line,
    channel_name,
    clock_text,
    closing_lines,
    emails_of,
    fate_words,
    header_line,
    words_of,
)
from mappings.records import ArchivedMessage, Person, Receipt

PROPERTY_GROUP = "onethread"

PERSON_ID = "onethread_person_id"
PROJECTION = "onethread_projection"
REPLY_TEXT = "onethread_reply_text"
REPLY_CHANNEL = "onethread_reply_channel"
REPLY_TEMPLATE = "onethread_reply_template"
REPLY_TEMPLATE_LANGUAGE = "onethread_reply_template_language"
REPLY_TEMPLATE_PARAMETERS = "onethread_reply_template_parameters"
REPLY_STATUS = "onethread_reply_status"
REPLY_DETAIL = "onethread_reply_detail"
MESSAGE_KEY = "onethread_message_key"

REPLY_STATUSES = (
    "DRAFT", "QUEUED", "SENDING", "ACCEPTED", "SENT", "DELIVERED", "READ", "FAILED", "REFUSED", "UNKNOWN",
)  # fmt: skip

# (name, label, type, fieldType, what the admin reads about it)
CONTACT_PROPERTIES: tuple[tuple[str, str, str, str, str], ...] = (
    (PERSON_ID, "Thread: person", "string", "text", "The person behind this contact, as onethread knows it."),
    (PROJECTION, "Thread: made by onethread", "bool", "booleancheckbox", "onethread created this contact."),
    ("onethread_channels", "Thread: channels", "string", "text", "Where this person writes from."),
    ("onethread_last_message_in", "Thread: last message in", "datetime", "date", "Their last message."),
    ("onethread_last_message_out", "Thread: last message out", "datetime", "date", "Our last message."),
    ("onethread_unanswered_since", "Thread: unanswered since", "datetime", "date", "Oldest message without an answer."),
    ("onethread_window_expires_at", "Thread: window closes", "datetime", "date", "Until then a free text can be sent."),
    (REPLY_TEXT, "Reply: text", "string", "textarea", "What to send. Then set the status to Queued."),
    (REPLY_CHANNEL, "Reply: channel", "enumeration", "select", "Where to send it; auto is where they wrote last."),
    (REPLY_TEMPLATE, "Reply: template", "string", "text", "Name of an approved template, instead of a text."),
    (REPLY_TEMPLATE_LANGUAGE, "Reply: template language", "string", "text", "For example en_US."),
    (REPLY_TEMPLATE_PARAMETERS, "Reply: template parameters", "string", "textarea", "One per line, in order."),
    (REPLY_STATUS, "Reply: status", "enumeration", "select", "Set to Queued to send; onethread writes the rest."),
    (REPLY_DETAIL, "Reply: what happened", "string", "textarea", "Written by onethread."),
)

DEFAULT_CHANNEL_TYPES: Mapping[str, str] = {"whatsapp": "WHATS_APP", "messenger": "SMS", "email": "SMS"}
"""HubSpot has WHATS_APP, LINKEDIN_MESSAGE and SMS only; the first line of the body names the real channel."""

# Receipt status -> (what the contact's property says, how far that is), in the order of `mappings.fold.STATUS_RANK`.
_REPLY_FATES: Mapping[str, tuple[str, int]] = {
    "queued": ("SENDING", 1),
    "unknown": ("UNKNOWN", 2),
    "accepted": ("ACCEPTED", 3),
    "sent": ("SENT", 4),
    "delivered": ("DELIVERED", 5),
    "read": ("READ", 6),
    "failed": ("FAILED", 7),
    "refused": ("REFUSED", 7),
}
REPLY_RANKS: Mapping[str, int] = {"DRAFT": 0, "QUEUED": 0, **dict(_REPLY_FATES.values())}
"""How far a reply got, by what its contact's status says; it never moves back."""

_REFERENCE = re.compile(r"\bref ([0-9a-f]{12})\b")
_CUT_MARK = "… cut here: the message continues, see it in full in onethread"


def communication_reference(message_key: str) -> str:
    """32 hexadecimal digits that stand for a message in HubSpot: the unique value, where there can be one.

    Not the key itself: it can contain a phone number. The first 12 are the reference in the body.
    """
    return hashlib.sha256(f"onethread message {message_key}".encode()).hexdigest()[:32]


def reference_in_body(body: str | None) -> str | None:
    """The 12-digit reference that `communication_properties` put at the end of a body; ``None`` without one.

    The last one counts: a customer can write the same words, but only above it.
    """
    found = _REFERENCE.findall(body or "")
    return found[-1] if found else None


def communication_properties(
    message: ArchivedMessage,
    *,
    channel_types: Mapping[str, str] = DEFAULT_CHANNEL_TYPES,
    owner_ids: Mapping[str, str] | None = None,
    max_characters: int = 60_000,
) -> dict[str, str]:
    """The properties of the communication that shows `message` on a contact's timeline.

    Args:
        message: with its changes and receipts folded in, where they are known.
        channel_types: our channel -> HubSpot's channel type; what is not in it becomes SMS.
        owner_ids: our author's name -> HubSpot owner id; shown as the author of the activity.
        max_characters: longest body, counted as UTF-16 units of HTML.
    """
    properties = {
        "hs_communication_channel_type": channel_types.get(message.channel, "SMS"),
        "hs_communication_logged_from": "CRM",
        "hs_communication_body": _body(message, max_characters),
        "hs_timestamp": datetime_text(message.sent_at),
    }
    owner_id = (owner_ids or {}).get(message.author_name or "")
    if owner_id and message.direction == "outbound":
        properties["hubspot_owner_id"] = owner_id
    return properties


def contact_properties(person: Person) -> dict[str, str]:
    """Our own properties of a person's contact; an empty text clears a property."""
    return {
        PERSON_ID: person.person_id,
        "onethread_channels": ", ".join(channel_name(channel) for channel in person.channels),
        "onethread_last_message_in": _optional_datetime_text(person.last_inbound_at),
        "onethread_last_message_out": _optional_datetime_text(person.last_outbound_at),
        "onethread_unanswered_since": _optional_datetime_text(person.unanswered_since),
        "onethread_window_expires_at": _optional_datetime_text(person.window_closes_at),
    }


def standard_properties(person: Person) -> dict[str, str]:
    """HubSpot's own properties that a contact made by us starts with; absent facts are left out."""
    name = clean_name(person.name)
    first, _, last = (name or "").partition(" ")
    values = {
        "email": next(iter(emails_of(person)), ""),
        "phone": next((handle.value for handle in person.handles if handle.kind == "phone"), ""),
        "firstname": first,
        "lastname": last,
    }
    return {key: value for key, value in values.items() if value}


def reply_properties(receipt: Receipt) -> dict[str, str]:
    """What a reply's contact says of its fate. Never QUEUED: that would queue it again."""
    status, _ = _REPLY_FATES[receipt.status]
    return {REPLY_STATUS: status, REPLY_DETAIL: fate_words(receipt)}


def datetime_text(moment: datetime) -> str:
    """A moment as HubSpot takes and gives it: UTC with milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def property_definitions(channels: Sequence[str]) -> list[dict[str, Any]]:
    """The bodies that create our contact properties.

    Args:
        channels: the slugs an agent can choose from for a reply, besides ``auto``.
    """
    options = {
        REPLY_CHANNEL: [("auto", "Automatic"), *((slug, channel_name(slug)) for slug in channels)],
        REPLY_STATUS: [(status, status.capitalize()) for status in REPLY_STATUSES],
        PROJECTION: [("true", "Yes"), ("false", "No")],
    }
    return [
        {
            "name": name, "label": label, "type": kind, "fieldType": field, "description": description,
            "groupName": PROPERTY_GROUP, "hasUniqueValue": name == PERSON_ID,
            "options": [
                {"value": value, "label": text, "displayOrder": order, "hidden": False}
                for order, (value, text) in enumerate(options.get(name, []))
            ],
        }
        for name, label, kind, field, description in CONTACT_PROPERTIES
    ]  # fmt: skip


def message_key_definition() -> dict[str, Any]:
    """The body that creates the unique property of communications; an account may refuse it."""
    return {
        "name": MESSAGE_KEY, "label": "Thread: message", "type": "string", "fieldType": "text",
        "description": "The message behind this activity, as onethread knows it.", "groupName": PROPERTY_GROUP,
        "hasUniqueValue": True,
    }  # fmt: skip


# The body of a communication


def _body(message: ArchivedMessage, max_characters: int) -> str:
    before = [_paragraph(f"<strong>{_escape(header_line(message))}</strong>")]
    if message.subject:
        before.append(_paragraph(f"<strong>Subject:</strong> {_escape(message.subject)}"))
    if message.reply_to_key:
        before.append(_paragraph(f"In reply to ref {communication_reference(message.reply_to_key)[:12]}"))
    if message.unsent_at:
        before.append(_paragraph(f"Removed by the sender, {clock_text(message.unsent_at)}"))
    after = [_paragraph(_escape(line)) for line in closing_lines(message)]
    if message.attachments:
        items = "".join(f"<li>{_escape(attachment_line(one))}</li>" for one in message.attachments)
        after.insert(0, f"<ul>{items}</ul>")
    after.append(_paragraph(f"ref {communication_reference(message.message_key)[:12]}"))
    room = max_characters - sum(_units(part) for part in [*before, *after]) - len("<p></p>")
    text = _cut(words_of(message), room)
    return "".join([*before, _paragraph(text) if text else "", *after])


def _paragraph(inner: str) -> str:
    return f"<p>{inner}</p>"


def _escape(text: str) -> str:
    """`text` as HTML. Braces too: HubSpot's templates would read ``{{ }}`` of a customer as theirs."""
    return "".join(_escape_character(character) for character in text)


def _escape_character(character: str) -> str:
    if character == "\n":
        return "<br>"
    if character in "{}":
        return f"&#{ord(character)};"
    if character == "\0" or "\ud800" <= character <= "\udfff":
        return "\ufffd"
    return "" if character == "\r" else html.escape(character)


def _cut(text: str, room: int) -> str:
    """`text` escaped, in at most `room` UTF-16 units; what does not fit is cut and the cut is said."""
    escaped = [_escape_character(character) for character in text]
    if sum(map(_units, escaped)) <= room:
        return "".join(escaped)
    mark = f"<br>{_CUT_MARK}"
    left = room - _units(mark)
    kept = []
    for piece in escaped:
        left -= _units(piece)
        if left < 0:
            break
        kept.append(piece)
    return "".join(kept) + mark


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _optional_datetime_text(moment: datetime | None) -> str:
    return datetime_text(moment) if moment else ""
