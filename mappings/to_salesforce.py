"""Canonical records as facts for Salesforce: contacts, conversations, messages (or Tasks), the fate of a reply.

Facts, not fields: which field a fact goes into is the field map's business (``targets/salesforce/fields.yml``).

Sources: developer.salesforce.com/docs, Object Reference (Task, Contact) and Metadata API field types (LongTextArea: at
most 131,072 characters; Task.Description: 32,000), read 2026-11; the two lengths are assumed where no page states them.
Whether Salesforce counts characters or UTF-16 units is not said: the shorter reading is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import phonenumbers

from mappings.contact_points import clean_name, is_role_mailbox
from mappings.crm_words import (
    attachment_line,
    channel_name,
    closing_lines,
    emails_of,
    fate_words,
    header_line,
    words_of,
)
from mappings.fields import storable
from mappings.ids import external_id, parse_reply_key
from mappings.policy import LIMITS
from mappings.records import ArchivedMessage, Attachment, Conversation, Person, Receipt

CRM = "salesforce"

Fact = str | bool | int | float | None

CONTACT = "Contact"
CONVERSATION = "Conversation__c"
MESSAGE = "Message__c"
TASK = "Task"

BODY_UNITS = 131_072
TASK_BODY_UNITS = 32_000
_TEXT_UNITS = 255
_ERROR_UNITS = 1_000
_CUT_MARK = "\n… cut here: the message continues, see it in full in onethread"
_NO_NAME = "Unknown"

# Receipt status -> (Message__c.Status__c, how far that is), in the order of `mappings.fold.STATUS_RANK`.
_FATES: Mapping[str, tuple[str, int]] = {
    "queued": ("Sending", 1),
    "unknown": ("Unknown", 2),
    "accepted": ("Accepted", 3),
    "sent": ("Sent", 4),
    "delivered": ("Delivered", 5),
    "read": ("Read", 6),
    "failed": ("Failed", 7),
    "refused": ("Refused", 7),
}
STATUSES = ("Draft", "Queued", *dict.fromkeys(status for status, _ in _FATES.values()))
STATUS_RANKS: Mapping[str, int] = {"Draft": 0, "Queued": 0, **dict(_FATES.values())}
"""How far a reply got, by its status in Salesforce; it never moves back."""

KINDS = (
    "text", "image", "video", "audio", "file", "sticker", "location", "contacts", "answer", "order", "template",
    "referral", "system", "call", "form", "unsupported",
)  # fmt: skip
AUTHOR_KINDS = ("customer", "agent", "bot", "system")
CHANNELS = tuple(LIMITS)


def salesforce_id(record_id: str) -> str:
    """A record id in its 18-character form, whose case does not matter; what is no 15-character id stays as it is.

    Source: developer.salesforce.com/docs, Object Reference, ID field type (the three last characters say which of the
    others are capitals), read 2026-11, documented.
    """
    if len(record_id) != 15 or not (record_id.isascii() and record_id.isalnum()):
        return record_id
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
    parts = (record_id[start : start + 5] for start in (0, 5, 10))
    return record_id + "".join(letters[sum(one.isupper() << bit for bit, one in enumerate(part))] for part in parts)


def contact_facts(person: Person) -> dict[str, Fact]:
    """What we know of a person, for a filter: our own fields of the contact; ``None`` clears one."""
    facts: dict[str, Fact] = {
        "person_id": person.person_id,
        "channels": _short(", ".join(channel_name(channel) for channel in person.channels)),
        "last_message_in": moment_text(person.last_inbound_at),
        "last_message_out": moment_text(person.last_outbound_at),
        "unanswered_since": moment_text(person.unanswered_since),
        "window_closes_at": moment_text(person.window_closes_at),
    }
    if person.last_inbound_channel:
        facts["preferred_channel"] = channel_name(person.last_inbound_channel)
    return facts


def name_facts(person: Person) -> dict[str, Fact]:
    """Name and addresses that a contact made by us starts with; absent facts are left out.

    A contact must have a last name (documented: Object Reference, Contact), so one is always there.
    """
    name = clean_name(person.name) or ""
    first, _, last = name.rpartition(" ")
    values = {
        "first_name": first[:40],
        "last_name": (last or _NO_NAME)[:80],
        "email": next(iter(emails_of(person)), ""),
        "phone": next((handle.value for handle in person.handles if handle.kind == "phone"), ""),
    }
    return {fact: value for fact, value in values.items() if value}


def search_emails(person: Person) -> list[str]:
    """The addresses by which a person's contact may be recognised; role mailboxes are read by several people."""
    return [address for address in emails_of(person) if not is_role_mailbox(address)]


def search_phones(person: Person) -> list[str]:
    """The spellings of a person's phones that people and Salesforce write into a phone field, E.164 first.

    Phone fields are free text (documented: Object Reference, Phone field type; the web form writes North American
    numbers as ``(202) 555-0100``). A shared line says nothing of who writes.
    """
    if person.shared_line:
        return []
    found: list[str] = []
    for handle in person.handles:
        if handle.kind == "phone":
            found += _spellings(handle.value)
    return list(dict.fromkeys(found))


def conversation_facts(conversation: Conversation, name: str | None = None) -> dict[str, Fact]:
    """One thread; `name` is the customer's."""
    return {
        **thread_facts(conversation.conversation_key, conversation.channel, conversation.account),
        "name": _short(f"{channel_name(conversation.channel)} · {clean_name(name, 60) or 'customer'}", 80),
        "customer_handle": _short(conversation.handles[0].value) if conversation.handles else None,
        "subject": _short(conversation.subject),
        "first_message_at": moment_text(conversation.first_message_at),
        "last_message_in": moment_text(conversation.last_inbound_at),
        "last_message_out": moment_text(conversation.last_outbound_at),
        "unanswered_since": moment_text(conversation.unanswered_since),
        "window_closes_at": moment_text(conversation.window_closes_at),
        "message_count": conversation.message_count,
    }


def thread_facts(conversation_key: str, channel: str, account: str) -> dict[str, Fact]:
    """What a single message says of its thread."""
    return {
        "external_id": external_id("conversation", conversation_key),
        "name": channel_name(channel),
        "channel": channel_name(channel),
        "account": _short(account),
    }


def message_facts(message: ArchivedMessage, links: Sequence[str] = ()) -> dict[str, Fact]:
    """One message, in or out, with its changes and receipts folded in where they are known.

    Args:
        message: the message.
        links: what to show with each attachment: where its file is.
    """
    words = storable(words_of(message)) or None
    return {
        "external_id": external_id("message", message.message_key),
        "channel": channel_name(message.channel),
        "direction": message.direction.capitalize(),
        "kind": message.kind,
        "body": cut_body(words, BODY_UNITS) if words else None,
        "preview": preview(message),
        "sent_at": moment_text(message.sent_at),
        "author": _short(clean_name(author_of(message))),
        "author_kind": message.author_kind,
        "status": status_text(message),
        "error": _short(message.status_reason, _ERROR_UNITS),
        "attachments": _attachments(message.attachments, links),
        "in_reply_to": external_id("message", message.reply_to_key) if message.reply_to_key else None,
        "edited_at": moment_text(message.edited_at),
        "removed_at": moment_text(message.unsent_at),
        "reactions": _short(" ".join(message.reactions)),
        "origin": message.origin,
    }


def sent_reply_facts(message: ArchivedMessage) -> dict[str, Fact]:
    """What the message of an agent's reply adds to the record that the agent made: the words stay the agent's."""
    facts = message_facts(message)
    return {name: facts[name] for name in ("external_id", "sent_at", "status", "error", "preview", "removed_at")}


def task_facts(message: ArchivedMessage) -> dict[str, Fact]:
    """One message as a completed Task: who, when and where in the subject, the words in the description."""
    closing = [*(attachment_line(one) for one in message.attachments), *closing_lines(message)]
    words = storable("\n\n".join(part for part in (words_of(message), "\n".join(closing)) if part))
    return {
        "external_id": external_id("message", message.message_key),
        "subject": _short(header_line(message)),
        "body": cut_body(words, TASK_BODY_UNITS) if words else None,
        "day": f"{message.sent_at:%Y-%m-%d}",
        "status": "Completed",
        "priority": "Normal",
    }


def reply_facts(receipt: Receipt) -> dict[str, Fact]:
    """What the record of a reply says of its fate. Never Queued: that would queue it again."""
    status, _ = _FATES[receipt.status]
    told = fate_words(receipt) if receipt.status in {"unknown", "failed", "refused"} else None
    return {"status": status, "error": _short(told, _ERROR_UNITS)}


def reply_record_id(reply_key: str, org_id: str) -> str | None:
    """The record on which a reply was written, ``None`` when it was not written in this org.

    Raises:
        PayloadError: the key is none of ours.
    """
    crm, account, record_id, _ = parse_reply_key(reply_key)
    return record_id if (crm, account) == (CRM, org_id) else None


def status_text(message: ArchivedMessage) -> str | None:
    """How far one of our messages got; of a customer's nothing is said."""
    if message.direction == "inbound" or message.status is None:
        return None if message.direction == "inbound" else "Sent"
    return _FATES[message.status][0]


def author_of(message: ArchivedMessage) -> str | None:
    """Who wrote it, as far as the channel says."""
    if message.author_name:
        return message.author_name
    if message.direction == "inbound" and message.profile is not None:
        return message.profile.name or message.profile.username
    return None


def preview(message: ArchivedMessage) -> str | None:
    """The beginning of a message in one line, so that a list of messages reads like a thread."""
    if message.unsent_at:
        return "(removed by the sender)"
    words = clean_name(words_of(message), 200)
    files = ", ".join(attachment_line(one) for one in message.attachments)
    return _short(" ".join(part for part in (words, f"[{files}]" if files else "") if part))


def cut_body(text: str, units: int) -> str:
    """`text` in at most `units` UTF-16 units; what does not fit is cut and the cut is said."""
    encoded = text.encode("utf-16-le", "replace")
    if len(encoded) <= 2 * units:
        return text
    room = units - len(_CUT_MARK.encode("utf-16-le")) // 2
    return encoded[: 2 * room].decode("utf-16-le", "ignore") + _CUT_MARK


def moment_text(moment: datetime | None) -> str | None:
    """A moment as Salesforce takes and gives it: UTC with milliseconds (documented: REST API, date formats)."""
    if moment is None:
        return None
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def channel_slug(name: str | None) -> str | None:
    """The channel that people call `name` (or whose slug it is), ``None`` without one."""
    if not name:
        return None
    slugs = {channel_name(slug).casefold(): slug for slug in CHANNELS}
    return slugs.get(name.strip().casefold(), name.strip().lower())


def _attachments(attachments: Sequence[Attachment], links: Sequence[str]) -> str | None:
    lines = []
    for position, attachment in enumerate(attachments):
        link = links[position] if position < len(links) else ""
        lines.append(" ".join(part for part in (attachment_line(attachment), link) if part))
    text = storable("\n".join(lines))
    return cut_body(text, TASK_BODY_UNITS) if text else None


def _spellings(e164: str) -> list[str]:
    try:
        number = phonenumbers.parse(e164)
    except phonenumbers.NumberParseException:
        return [e164]
    forms = phonenumbers.PhoneNumberFormat
    national = phonenumbers.format_number(number, forms.NATIONAL)
    return [
        e164,
        e164.removeprefix("+"),
        phonenumbers.format_number(number, forms.INTERNATIONAL),
        national,
        "".join(one for one in national if one.isdigit()),
    ]


def _short(text: str | None, units: int = _TEXT_UNITS) -> str | None:
    if not text:
        return None
    cleaned = str(storable(text))
    encoded = cleaned.encode("utf-16-le", "replace")
    if len(encoded) <= 2 * units:
        return cleaned
    return encoded[: 2 * (units - 1)].decode("utf-16-le", "ignore") + "…"
