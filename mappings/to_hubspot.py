"""Canonical records as HubSpot wants them: contacts, activities on their timeline, inbox messages, a reply's fate.

Facts of a contact, not properties: which property a fact goes into is the field map's business
(``targets/hubspot/fields.yml``).

Sources: developers.hubspot.com/docs/api-reference/crm-communications-v3/guide (modified 2026-03-31),
developers.hubspot.com/docs/api-reference/crm-properties-v3/guide, the models of hubspot-api-client 12.0.0 and (inbox
messages) of hubspot-sdk 0.1.0a9, read 2026-11, documented. Longest ``hs_communication_body``: not documented, so a
setting; ``hs_note_body``: 65,536 characters, read by others in 2026-10 (documented, second-hand).
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable, Mapping, Sequence
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
from mappings.ids import parse_reply_key
from mappings.policy import LIMITS
from mappings.records import ArchivedMessage, Attachment, Handle, Person, Receipt, ReceiptStatus

LinkOf = Callable[[Attachment], str]
"""Where an attachment's file is, shown beside its name; empty: nothing is shown."""

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
OPTED_IN = "onethread_opted_in"
OPTED_OUT = "onethread_opted_out"
OTHER_CHANNEL = "other"

REPLY_STATUSES = (
    "DRAFT", "QUEUED", "SENDING", "ACCEPTED", "SENT", "DELIVERED", "READ", "FAILED", "REFUSED", "UNKNOWN",
)  # fmt: skip

# (name, label, type, fieldType, what the admin reads about it)
CONTACT_PROPERTIES: tuple[tuple[str, str, str, str, str], ...] = (
    (PERSON_ID, "Thread: person", "string", "text", "The person behind this contact, as onethread knows it."),
    (PROJECTION, "Thread: made by onethread", "bool", "booleancheckbox", "onethread created this contact."),
    ("onethread_channels", "Thread: channels", "string", "text", "Where this person writes from."),
    ("onethread_preferred_channel", "Thread: preferred channel", "string", "text", "Where this person wrote last."),
    ("onethread_last_message_in", "Thread: last message in", "datetime", "date", "Their last message."),
    ("onethread_last_message_out", "Thread: last message out", "datetime", "date", "Our last message."),
    ("onethread_unanswered_since", "Thread: unanswered since", "datetime", "date", "Oldest message without an answer."),
    ("onethread_window_expires_at", "Thread: window closes", "datetime", "date", "Until then a free text can be sent."),
    (OPTED_IN, "Thread: advertising wanted", "enumeration", "checkbox", "Channels on which they said yes to it."),
    (OPTED_OUT, "Thread: advertising refused", "enumeration", "checkbox", "Channels on which they said no to it."),
    (REPLY_TEXT, "Reply: text", "string", "textarea", "What to send. Then set the status to Queued."),
    (REPLY_CHANNEL, "Reply: channel", "enumeration", "select", "Where to send it; auto is where they wrote last."),
    (REPLY_TEMPLATE, "Reply: template", "string", "text", "Name of an approved template, instead of a text."),
    (REPLY_TEMPLATE_LANGUAGE, "Reply: template language", "string", "text", "For example en_US."),
    (REPLY_TEMPLATE_PARAMETERS, "Reply: template parameters", "string", "textarea", "One per line, in order."),
    (REPLY_STATUS, "Reply: status", "enumeration", "select", "Set to Queued to send; onethread writes the rest."),
    (REPLY_DETAIL, "Reply: what happened", "string", "textarea", "Written by onethread."),
)

NOTE = "NOTE"
"""Not a channel type of HubSpot's: such a message becomes a note."""
DEFAULT_CHANNEL_TYPES: Mapping[str, str] = {"whatsapp": "WHATS_APP", "sms": "SMS"}
"""HubSpot has WHATS_APP, LINKEDIN_MESSAGE and SMS only; the first line of the body names the real channel."""
BODY_PROPERTIES: Mapping[str, str] = {"communications": "hs_communication_body", "notes": "hs_note_body"}
"""Object type of an activity -> the property that holds its body."""

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


def activity_properties(
    message: ArchivedMessage,
    kind: str = "communications",
    *,
    channel_type: str = "SMS",
    owner_ids: Mapping[str, str] | None = None,
    max_characters: int = 60_000,
    link_of: LinkOf | None = None,
) -> dict[str, str]:
    """The properties of the communication or note that shows `message` on a contact's timeline.

    Args:
        message: with its changes and receipts folded in, where they are known.
        kind: ``communications`` or ``notes``.
        channel_type: HubSpot's, of a communication.
        owner_ids: our author's name -> HubSpot owner id; shown as the author of the activity.
        max_characters: longest body, counted as UTF-16 units of HTML.
        link_of: see `LinkOf`.
    """
    properties = _activity(kind, channel_type, _body(message, max_characters, link_of), message.sent_at)
    owner_id = (owner_ids or {}).get(message.author_name or "")
    if owner_id and message.direction == "outbound":
        properties["hubspot_owner_id"] = owner_id
    return properties


def day_properties(
    messages: Sequence[ArchivedMessage],
    key: str,
    kind: str = "communications",
    *,
    channel_type: str = "SMS",
    max_characters: int = 60_000,
    link_of: LinkOf | None = None,
) -> dict[str, str]:
    """The same of all messages of a conversation on one day, oldest first, in one activity.

    Args:
        messages: at least one.
        key: that stands for this day of this conversation.
        kind: ``communications`` or ``notes``.
        channel_type: HubSpot's, of a communication.
        max_characters: of the body. What does not fit is counted in its place.
        link_of: see `LinkOf`.
    """
    ordered = sorted(messages, key=lambda one: (one.sent_at, one.message_key))
    day = f"{ordered[0].sent_at.astimezone(UTC):%Y-%m-%d}"
    head = _paragraph(f"<strong>{_escape(channel_name(ordered[0].channel))} · {day}</strong>")
    end = _paragraph(f"ref {communication_reference(key)[:12]}")
    room = max_characters - _units(head) - _units(end) - 200
    parts: list[str] = []
    for number, message in enumerate(ordered):
        part = "".join(_parts(message, room, link_of, reference=False, clock=True))
        room -= _units(part)
        if room < 0:
            parts.append(_paragraph(f"… {len(ordered) - number} more, see them in full in onethread"))
            break
        parts.append(part)
    return _activity(kind, channel_type, "".join([head, *parts, end]), ordered[0].sent_at)


def _activity(kind: str, channel_type: str, body: str, moment: datetime) -> dict[str, str]:
    said = {BODY_PROPERTIES[kind]: body, "hs_timestamp": datetime_text(moment)}
    if kind != "communications":
        return said
    return {"hs_communication_channel_type": channel_type, "hs_communication_logged_from": "CRM", **said}


def contact_facts(person: Person) -> dict[str, str]:
    """What we know of a person, for a filter: our own properties of the contact; an empty text clears one."""
    facts = {
        "person_id": person.person_id,
        "channels": ", ".join(channel_name(channel) for channel in person.channels),
        "last_message_in": _optional_datetime_text(person.last_inbound_at),
        "last_message_out": _optional_datetime_text(person.last_outbound_at),
        "unanswered_since": _optional_datetime_text(person.unanswered_since),
        "window_closes_at": _optional_datetime_text(person.window_closes_at),
    }
    if person.last_inbound_channel:
        facts["preferred_channel"] = channel_name(person.last_inbound_channel)
    return facts


def consent_facts(agreed: Sequence[str], declined: Sequence[str]) -> dict[str, str]:
    """On which channels advertising is wanted, and refused; channels that are no choice there are "another channel"."""
    no = dict.fromkeys(one if one in LIMITS else OTHER_CHANNEL for one in declined)
    yes = dict.fromkeys(one if one in LIMITS else OTHER_CHANNEL for one in agreed)
    return {"opted_in": ";".join(one for one in yes if one not in no), "opted_out": ";".join(no)}


def name_facts(person: Person) -> dict[str, str]:
    """Name and addresses that a contact made by us starts with; absent facts are left out."""
    name = clean_name(person.name)
    first, _, last = (name or "").partition(" ")
    values = {
        "email": next(iter(emails_of(person)), ""),
        "phone": next((handle.value for handle in person.handles if handle.kind == "phone"), ""),
        "first_name": first,
        "last_name": last,
    }
    return {key: value for key, value in values.items() if value}


# Threads in the inbox

INBOX_CAPABILITIES: Mapping[str, Any] = {
    "deliveryIdentifierTypes": ["CHANNEL_SPECIFIC_OPAQUE_ID", "HS_EMAIL_ADDRESS", "HS_PHONE_NUMBER"],
    "threadingModel": "INTEGRATION_THREAD_ID",
    "richText": [],
    "allowInlineImages": False,
    "allowOutgoingMessages": True,
    "allowConversationStart": False,
    "outgoingAttachmentTypes": [],
}
"""What a channel of ours can do, told when it is registered. Names of the capabilities: observed in public code
(HubSpot's API document leaves them open), that an empty list means none: assumed. A rich text cannot be carried by most
platforms, so none is offered; nor are files, which no sender sends yet (see `mappings.policy`)."""

_INBOX_STATUSES: Mapping[ReceiptStatus, str] = {
    "accepted": "SENT", "sent": "SENT", "delivered": "SENT", "read": "READ", "failed": "FAILED", "refused": "FAILED",
}  # fmt: skip
INBOX_RANKS: Mapping[str, int] = {"SENT": 1, "READ": 2, "FAILED": 3}
"""How far an inbox message got; it never moves back."""


def inbox_identifier(handle: Handle | None, fallback: str) -> dict[str, str]:
    """A customer's address as HubSpot names it; contacts are matched by phones and e-mail addresses."""
    if handle is not None and handle.kind == "email":
        return {"type": "HS_EMAIL_ADDRESS", "value": handle.value}
    if handle is not None and handle.kind == "phone":
        return {"type": "HS_PHONE_NUMBER", "value": handle.value}
    return {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": handle.key if handle is not None else fallback}


def inbox_message(
    message: ArchivedMessage, contact_id: str, channel_account_id: str, link_of: LinkOf | None = None
) -> dict[str, Any]:
    """The body that publishes a message into its thread of the inbox; the same again is the same message there.

    Args:
        message: in or out.
        contact_id: whose thread it is.
        channel_account_id: of our account in HubSpot's inbox.
        link_of: see `LinkOf`.
    """
    handle = message.handles[0] if message.handles else None
    profile = clean_name(message.profile.name, 80) if message.profile else None
    customer: dict[str, Any] = {"deliveryIdentifier": inbox_identifier(handle, message.conversation_key)}
    us: dict[str, Any] = {"deliveryIdentifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": message.account}}
    inbound = message.direction == "inbound"
    author = clean_name(message.author_name, 80)
    customer["name"] = (author if inbound else None) or profile or "Customer"
    us["name"] = (None if inbound else author) or channel_name(message.channel)
    return {
        "text": inbox_text(message, link_of),
        "messageDirection": "INCOMING" if inbound else "OUTGOING",
        "timestamp": datetime_text(message.sent_at),
        "channelAccountId": channel_account_id,
        "attachments": [],
        "senders": [customer if inbound else us],
        "recipients": [us if inbound else customer],
        "integrationThreadId": message.conversation_key,
        "integrationIdempotencyId": communication_reference(message.message_key),
        "associateWithContactId": int(contact_id),
    }


def inbox_text(message: ArchivedMessage, link_of: LinkOf | None = None) -> str:
    """What an agent reads: subject, words, the files by name; a message that was taken back says so."""
    if message.unsent_at:
        return f"Removed by the sender, {clock_text(message.unsent_at)}"
    lines = [f"Subject: {message.subject}"] if message.subject else []
    lines += [words_of(message), *(f"[{_file_line(one, link_of)}]" for one in message.attachments)]
    text = "\n".join(line for line in lines if line) or f"[{message.kind}]"
    return "".join("\ufffd" if one == "\0" or "\ud800" <= one <= "\udfff" else one for one in text)


def inbox_status(receipt: Receipt) -> dict[str, str] | None:
    """What an inbox message is told of its fate; ``None`` while there is nothing to tell."""
    status = _INBOX_STATUSES.get(receipt.status)
    if status is None:
        return None
    return {"statusType": status, "errorMessage": fate_words(receipt)} if status == "FAILED" else {"statusType": status}


def inbox_status_of(message: ArchivedMessage) -> str | None:
    """The same of a message that we sent elsewhere."""
    return _INBOX_STATUSES.get(message.status) if message.status and message.direction == "outbound" else None


_INBOX_RECORD = "inbox."


def inbox_record(channel_id: str) -> str:
    """How a reply key names a custom channel where it else names a contact."""
    return f"{_INBOX_RECORD}{channel_id}"


def inbox_of_reply(reply_key: str | None, portal_id: str) -> tuple[str, str] | None:
    """Custom channel and message of a reply that an agent wrote in this account's inbox; ``None`` of any other.

    Raises:
        PayloadError: it is no reply key.
    """
    if reply_key is None:
        return None
    crm, account, record, message_id = parse_reply_key(reply_key)
    if (crm, account) != ("hubspot", portal_id) or not record.startswith(_INBOX_RECORD):
        return None
    return record.removeprefix(_INBOX_RECORD), message_id


# Replies, definitions


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
    consents = [*((slug, channel_name(slug)) for slug in LIMITS), (OTHER_CHANNEL, "Another channel")]
    options = {
        REPLY_CHANNEL: [("auto", "Automatic"), *((slug, channel_name(slug)) for slug in channels)],
        OPTED_IN: consents,
        OPTED_OUT: consents,
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


def _body(message: ArchivedMessage, max_characters: int, link_of: LinkOf | None) -> str:
    return "".join(_parts(message, max_characters, link_of, reference=True))


def _file_line(attachment: Attachment, link_of: LinkOf | None) -> str:
    link = link_of(attachment) if link_of else ""
    return " ".join(part for part in (attachment_line(attachment), link) if part)


def _file_item(attachment: Attachment, link_of: LinkOf | None) -> str:
    link, line = link_of(attachment) if link_of else "", _escape(attachment_line(attachment))
    return f'<li><a href="{_escape(link)}">{line}</a></li>' if link else f"<li>{line}</li>"


def _parts(
    message: ArchivedMessage, max_characters: int, link_of: LinkOf | None, *, reference: bool, clock: bool = False
) -> list[str]:
    head = f"{message.sent_at.astimezone(UTC):%H:%M} · {header_line(message)}" if clock else header_line(message)
    before = [_paragraph(f"<strong>{_escape(head)}</strong>")]
    if message.subject:
        before.append(_paragraph(f"<strong>Subject:</strong> {_escape(message.subject)}"))
    if message.reply_to_key and reference:
        before.append(_paragraph(f"In reply to ref {communication_reference(message.reply_to_key)[:12]}"))
    if message.unsent_at:
        before.append(_paragraph(f"Removed by the sender, {clock_text(message.unsent_at)}"))
    after = [_paragraph(_escape(line)) for line in closing_lines(message)]
    if message.attachments:
        items = "".join(_file_item(one, link_of) for one in message.attachments)
        after.insert(0, f"<ul>{items}</ul>")
    if reference:
        after.append(_paragraph(f"ref {communication_reference(message.message_key)[:12]}"))
    room = max_characters - sum(_units(part) for part in [*before, *after]) - len("<p></p>")
    text = _cut(words_of(message), room)
    return [*before, _paragraph(text) if text else "", *after]


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
