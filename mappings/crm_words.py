"""A message and a reply's fate in words for the people who read a CRM: what every CRM's mapping says the same way."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mappings.contact_points import clean_name
from mappings.policy import LIMITS
from mappings.records import ArchivedMessage, Attachment, Person, Receipt

_ACTORS: Mapping[str, str] = {
    "nobody": "",
    "agent": "You can act on it.",
    "operator": "Tell the person who runs onethread.",
    "platform": "The platform has to act.",
    "customer": "The customer has to act.",
}
_STATUS_PHRASES: Mapping[str, str] = {
    "queued": "taken up",
    "unknown": "sent or not? It is being checked, do not send it again",
    "accepted": "accepted by the platform",
    "sent": "sent",
    "failed": "failed",
    "refused": "not sent",
    "delivered": "delivered",
    "read": "read",
}
_CONTENT_LINES = 12


def channel_name(slug: str) -> str:
    """How people call a channel."""
    return LIMITS[slug].name if slug in LIMITS else slug.replace("_", " ").capitalize()


def header_line(message: ArchivedMessage) -> str:
    """Channel and who writes to whom, in one line."""
    name = clean_name(message.author_name, 80)
    profile = clean_name(message.profile.name, 80) if message.profile else None
    if message.direction == "inbound":
        who = f"{name or profile or 'customer'} → us"
    else:
        who = f"{name or message.author_kind} → {profile or 'customer'}"
    parts = [channel_name(message.channel), who]
    if message.origin != "direct":
        parts.append(f"from {message.origin}")
    return " · ".join(parts)


def closing_lines(message: ArchivedMessage) -> list[str]:
    """Reactions, edits and what became of it, one line each."""
    lines = []
    if message.reactions:
        lines.append(f"Reactions: {' '.join(message.reactions)}")
    if message.edited_at:
        lines.append(f"Edited, {clock_text(message.edited_at)}")
    if message.status and message.direction == "outbound":
        line = _STATUS_PHRASES[message.status].capitalize()
        if message.status_at:
            line += f", {clock_text(message.status_at)}"
        if message.status_reason:
            line += f": {message.status_reason}"
        lines.append(line)
    return lines


def words_of(message: ArchivedMessage) -> str:
    """The customer's text; of a form and a call also what stands beside it."""
    if message.kind not in {"form", "call"} or message.unsent_at:
        return message.text or _spoken(message)
    content = message.content or {}
    facts = _plain_facts(content.get("fields") or content.get("call") or {}, "")[:_CONTENT_LINES]
    return "\n".join([*filter(None, [message.text]), *facts]) or _spoken(message)


def _spoken(message: ArchivedMessage) -> str:
    """What to show of a message without text: its kind and the plain facts of its content."""
    if message.unsent_at or message.attachments:
        return ""
    lines = [f"[{message.kind}]", *_plain_facts(message.content or {}, "")]
    return "\n".join(lines[: _CONTENT_LINES + 1])


def _plain_facts(value: Mapping[str, Any], prefix: str) -> list[str]:
    lines: list[str] = []
    for key, child in value.items():
        if isinstance(child, dict):
            lines += _plain_facts(child, f"{prefix}{key} ")
        elif isinstance(child, list):
            for one in child:
                lines += _plain_facts(one, f"{prefix}{key} ") if isinstance(one, dict) else [f"{prefix}{key}: {one}"]
        elif child is not None:
            lines.append(f"{prefix}{key}: {child}")
    return lines


def attachment_line(attachment: Attachment) -> str:
    """A file by name, type and size."""
    details = [attachment.mime_type or attachment.kind]
    if attachment.size_bytes is not None:
        details.append(_size(attachment.size_bytes))
    return f"{clean_name(attachment.filename) or attachment.kind} ({', '.join(details)})"


def attachment_link(attachment: Attachment, template: str | None) -> str:
    """Where a file is: our own copy, else the platform's; empty where nobody knows.

    Args:
        attachment: the file.
        template: address of a stored file with ``{media_key}`` in it.
    """
    if attachment.media_key and template:
        return template.replace("{media_key}", attachment.media_key)
    url = attachment.url or ""
    return url if url.startswith(("https://", "http://")) else ""


def _size(size_bytes: int) -> str:
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    return f"{size_bytes / 1000:.0f} kB" if size_bytes < 1_000_000 else f"{size_bytes / 1_000_000:.1f} MB"


def clock_text(moment: datetime) -> str:
    """A moment for people: minutes, UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def emails_of(person: Person) -> list[str]:
    """The person's e-mail addresses, in the order of the handles."""
    return [handle.value for handle in person.handles if handle.kind == "email"]


def fate_words(receipt: Receipt) -> str:
    """What became of a reply, for the agent who wrote it: what, when, why and who must act."""
    parts = [f"{_STATUS_PHRASES[receipt.status].capitalize()}, {clock_text(receipt.occurred_at)}"]
    if receipt.channel:
        parts[0] += f", {channel_name(receipt.channel)}"
    if receipt.reason:
        parts.append(receipt.reason)
    if receipt.code:
        parts.append(f"(code {receipt.code})")
    if _ACTORS[receipt.actor]:
        parts.append(_ACTORS[receipt.actor])
    return "\n".join(parts)
