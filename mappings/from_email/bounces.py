"""Delivery reports (RFC 3464): which of our mails did not arrive, and who must act."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message as MimeMessage
from email.parser import BytesHeaderParser
from typing import Literal

from mappings.contact_points import normalize_email
from mappings.from_email.body import bytes_of, children_of, is_container, mime_type_of
from mappings.from_email.headers import addresses_in, message_ids_in, own_message_id, raw_field, raw_fields
from mappings.records import Actor

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]
_ACTIONS: tuple[Action, ...] = ("failed", "delayed", "delivered", "relayed", "expanded")
"""RFC 3464 section 2.3.3, documented; the first of a report with several recipients counts."""
_STATUS = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")

REASONS: dict[str, tuple[str, Actor]] = {
    "1": ("The address does not exist or cannot receive mail.", "agent"),
    "2.2": ("The mailbox is full.", "customer"),
    "2": ("The mailbox does not take mail.", "customer"),
    "3.4": ("The mail is too large for the receiving server.", "agent"),
    "3": ("The receiving server could not take mail.", "platform"),
    "4": ("The receiving server could not be reached.", "platform"),
    "5": ("The mail servers did not understand each other.", "operator"),
    "6": ("The receiving server cannot show this content.", "agent"),
    "7": ("The receiving server refuses mail from this mailbox or domain.", "operator"),
}
"""By subject, or subject and detail, of the enhanced status code (RFC 3463 section 3, documented, read 2026-11).

Who must act: assumed."""
UNKNOWN_REASON: tuple[str, Actor] = ("The receiving server did not say why.", "agent")


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What a report says of one mail of ours.

    Attributes:
        message_id: the mail that it is about; ``None`` when the report does not name it.
        recipient: the address that it was for, normalised.
        references: what that mail itself referred to, newest first.
    """

    action: Action
    code: str | None
    message_id: str | None
    recipient: str | None
    references: list[str]

    @property
    def reason(self) -> tuple[str, Actor]:
        """Why, for a person to read, and who must act."""
        parts = self.code.split(".") if self.code else []
        if len(parts) != 3:
            return UNKNOWN_REASON
        return REASONS.get(f"{parts[1]}.{parts[2]}") or REASONS.get(parts[1]) or UNKNOWN_REASON


def delivery_report_of(mail: MimeMessage) -> DeliveryReport | None:
    """The report in a ``multipart/report; report-type=delivery-status``; ``None`` for any other mail.

    The mail it is about is named by the returned mail or its headers, else by the report's own In-Reply-To or
    References (Gmail sets them; observed).
    """
    if mime_type_of(mail) != "multipart/report" or not is_container(mail):
        return None
    parts = children_of(mail)
    status = next((one for one in parts if mime_type_of(one) == "message/delivery-status"), None)
    if status is None:
        return None
    groups = _groups_of(status)
    told = [(action, group) for group in groups if (action := _action_of(group)) is not None]
    if not told:
        return None
    action, group = min(told, key=lambda one: _ACTIONS.index(one[0]))
    returned = _returned_headers(parts)
    recipient = _recipient_of(group, returned)
    if returned is not None and (message_id := own_message_id(returned)):
        named = [
            *message_ids_in(raw_field(returned, "In-Reply-To")),
            *message_ids_in(raw_field(returned, "References"))[::-1],
        ]
        return DeliveryReport(action, _code_of(group), message_id, recipient, list(dict.fromkeys(named)))
    ids = message_ids_in(raw_field(mail, "In-Reply-To")) or message_ids_in(raw_field(mail, "References"))[::-1]
    return DeliveryReport(action, _code_of(group), next(iter(ids), None), recipient, ids[1:])


def _groups_of(status: MimeMessage) -> list[MimeMessage]:
    """The field groups of a delivery status: the mail's own, then one per recipient."""
    groups = children_of(status)
    if groups:
        return groups
    parser = BytesHeaderParser()
    return [parser.parsebytes(one) for one in re.split(rb"\r?\n\r?\n", bytes_of(status)) if one.strip()]


def _action_of(group: MimeMessage) -> Action | None:
    word = raw_field(group, "Action").partition(";")[0].strip().lower()
    return next((one for one in _ACTIONS if word == one), None)


def _code_of(group: MimeMessage) -> str | None:
    found = _STATUS.search(raw_field(group, "Status")) or _STATUS.search(raw_field(group, "Diagnostic-Code"))
    return found.group(0) if found else None


def _recipient_of(group: MimeMessage, returned: MimeMessage | None) -> str | None:
    """To whom the mail was written: as we wrote it, before any forwarding changed it."""
    original = raw_field(group, "Original-Recipient").partition(";")[2]
    if email := normalize_email(original):
        return email
    if returned is not None:
        written = [one.email for one in addresses_in(raw_fields(returned, "To")) if one.email]
        if len(written) == 1:
            return written[0]
    return normalize_email(raw_field(group, "Final-Recipient").partition(";")[2])


def _returned_headers(parts: list[MimeMessage]) -> MimeMessage | None:
    for part in parts:
        kind = mime_type_of(part)
        if kind == "message/rfc822" and children_of(part):
            return children_of(part)[0]
        if kind in {"text/rfc822-headers", "message/rfc822-headers"}:
            return (
                children_of(part)[0] if children_of(part) else BytesHeaderParser().parsebytes(bytes_of(part).lstrip())
            )
    return None
