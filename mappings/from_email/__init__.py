"""A mail (RFC 5322, MIME) as canonical records.

Sources: RFC 5322 (Message-ID, References, Date), RFC 2045-2049 (MIME), RFC 3464 and 3463 (delivery reports), RFC 3834
(Auto-Submitted), RFC 2919 and 2369 (List-Id, List-Unsubscribe), documented, read 2026-11. What only mail programs do
(X-Autoreply, Precedence, X-Original-From, ...) is observed in the fixtures of chatwoot/chatwoot, read 2026-11.

A From field is a claim of the sender's. Nothing here believes more than that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from email.message import Message as MimeMessage
from email.parser import BytesHeaderParser, BytesParser
from email.policy import compat32
from typing import Any

from mappings import ids
from mappings.contact_points import normalize_email
from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.from_email.body import Body, body_of, files_of, mime_type_of
from mappings.from_email.bounces import DeliveryReport, delivery_report_of
from mappings.from_email.headers import (
    Address,
    addresses_in,
    clean_text,
    date_of,
    message_ids_in,
    own_message_id,
    raw_field,
    raw_fields,
    sane_date,
    sender_in,
    subject_of,
)
from mappings.from_email.stripped import STRIPPED_BY, stripped_of
from mappings.keywords import DEFAULT_KEYWORDS, Keywords
from mappings.platforms import Platform
from mappings.records import (
    AuthorKind,
    Consent,
    Direction,
    Evidence,
    Handle,
    Message,
    MessageKind,
    Profile,
    Receipt,
    ReceiptStatus,
    Record,
)

__all__ = ["PLATFORM", "EmailContext", "files_from_email", "own_address_of", "records_from_email"]

CHANNEL = "email"
MOST_THREAD_IDS = 200

AUTO_HEADERS: tuple[str, ...] = ("X-Autoreply", "X-Autorespond", "X-Autoresponder")
AUTO_PRECEDENCE = frozenset({"auto_reply"})
LIST_HEADERS: tuple[str, ...] = ("List-Id", "List-Unsubscribe")
LIST_PRECEDENCE = frozenset({"bulk", "junk", "list"})
FORWARD_HEADERS: tuple[str, ...] = ("X-Original-From", "X-Forwarded-For", "X-Forwarded-To", "Resent-From")
GROUP_HEADERS: tuple[str, ...] = ("X-Original-From", "X-Original-Sender")
BOUNCE_SENDERS = frozenset({"mailer-daemon", "postmaster"})
REPORT_STATUSES: dict[str, ReceiptStatus] = {"failed": "failed", "delivered": "delivered"}
"""What a delivery report's action says of a mail; delayed, relayed, expanded say nothing final (RFC 3464 2.3.3)."""

_TOKEN_ID = re.compile(r"([0-9a-f]{32})@([^@]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailContext:
    """What the mailbox knows of a mail, besides its bytes.

    Attributes:
        account: our mailbox, normalised; see `own_address_of`.
        own_addresses: our addresses, normalised; ``@shop.example`` stands for all of that domain.
        internal_date: when the mailbox got it (INTERNALDATE); ``None`` when the server does not say.
        sent_folder: whether it lies in the folder of what we sent.
        size_bytes: set when only the header was fetched, because the mail is this large.
    """

    account: str
    own_addresses: Collection[str]
    folder: str
    uid: int
    uidvalidity: int
    internal_date: datetime | None
    sent_folder: bool = False
    size_bytes: int | None = None
    keywords: Keywords = DEFAULT_KEYWORDS

    @property
    def raw_ref(self) -> str:
        """Where the mail is."""
        return f"imap:{self.folder}/{self.uidvalidity}/{self.uid}"

    def is_own(self, email: str | None) -> bool:
        """Whether an address is ours."""
        if email is None:
            return False
        return (
            email == self.account or email in self.own_addresses or f"@{email.partition('@')[2]}" in self.own_addresses
        )

    def is_own_domain(self, domain: str) -> bool:
        """Whether one of our addresses is in `domain`."""
        return any(one.partition("@")[2] == domain.lower() for one in (self.account, *self.own_addresses))


def own_address_of(setting: str) -> str:
    """A mailbox or own address as settings write it, in the one form that keys use."""
    text = setting.strip()
    return text.lower() if text.startswith("@") else normalize_email(text) or text


def records_from_email(raw: bytes, context: EmailContext) -> list[Record]:
    """The message, and what else the mail says: a receipt (delivery report), evidence (Reply-To), a consent (STOP).

    Repeats: the same mail in two folders gives the same keys.

    Raises:
        PayloadError: nested beyond reason, or without any usable date.
    """
    try:
        parser = BytesParser if context.size_bytes is None else BytesHeaderParser
        return _records(parser(policy=compat32).parsebytes(raw), raw, context)
    except RecursionError:
        msg = "the mail is nested too deeply to be read"
        raise UnknownShapeError(msg) from None


def files_from_email(raw: bytes) -> dict[str, bytes]:
    """The bytes of the attachments of a mail that `records_from_email` could read, by `platform_media_id`."""
    return files_of(BytesParser(policy=compat32).parsebytes(raw))


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the header fields say, read once."""

    context: EmailContext
    sender: Address | None
    addressees: dict[str, list[Address]]
    reply_to: list[Address]
    report: DeliveryReport | None
    flags: frozenset[str]
    direction: Direction
    customer: Address | None
    platform_id: str
    token: str | None
    named_ids: list[str]
    sent_at: datetime

    @property
    def message_key(self) -> str:
        return ids.message_key(CHANNEL, self.context.account, self.platform_id)

    @property
    def by_machine(self) -> bool:
        return self.sender is None or self.sender.email is None or bool(self.flags & {"auto_reply", "bounce"})

    @property
    def is_told_by_customer(self) -> bool:
        return self.direction == "inbound" and self.report is None and "bounce" not in self.flags

    @property
    def moment(self) -> datetime:
        return self.context.internal_date or self.sent_at


def _records(mail: MimeMessage, raw: bytes, context: EmailContext) -> list[Record]:
    facts = _facts_of(mail, raw, context)
    body = Body() if context.size_bytes is not None else body_of(mail)
    message = _message(mail, facts, body)
    found: list[Record | None] = [
        message,
        _receipt(facts),
        _evidence(facts),
        _consent(facts, message, context.keywords),
    ]
    return [record for record in found if record is not None]


def _facts_of(mail: MimeMessage, raw: bytes, context: EmailContext) -> _Facts:
    sender = sender_in(raw_fields(mail, "From"))
    addressees = {name: addresses_in(raw_fields(mail, name)) for name in ("To", "Cc", "Bcc")}
    reply_to = addresses_in(raw_fields(mail, "Reply-To"))
    report = None if context.size_bytes is not None else delivery_report_of(mail)
    written_for = _written_for(mail, reply_to, context)
    own = context.is_own(sender.email if sender else None)
    outbound = context.sent_folder or (own and written_for is None)
    platform_id = own_message_id(mail) or _hashed_id(mail, raw)
    token = _token_in(platform_id, context)
    if token is not None and not outbound:
        # Only who got our reply knows its id: a mail that comes in under it must not take that reply's place.
        platform_id, token = _hashed_id(mail, raw), None
    sent_at = sane_date(date_of(mail), context.internal_date) or context.internal_date
    if sent_at is None:
        msg = "the mail has no usable Date and the server gave no INTERNALDATE"
        raise MissingFieldError(msg)
    if outbound:
        customer = next(
            (one for field in addressees.values() for one in field if one.email and not context.is_own(one.email)), None
        )
    else:
        customer = written_for if own else sender
    return _Facts(
        context=context,
        sender=sender,
        addressees=addressees,
        reply_to=reply_to,
        report=report,
        flags=_flags_of(mail, sender, report),
        direction="outbound" if outbound else "inbound",
        customer=customer if customer is not None and customer.email else None,
        platform_id=platform_id,
        token=token,
        named_ids=_named_ids(mail, report),
        sent_at=sent_at,
    )


def _message(mail: MimeMessage, facts: _Facts, body: Body) -> Message:
    context = facts.context
    thread_ids = list(dict.fromkeys([facts.platform_id, *facts.named_ids]))[:MOST_THREAD_IDS]
    references = message_ids_in(raw_field(mail, "References"))
    root = next(iter(references or facts.named_ids), facts.platform_id)
    parent = next((one for one in facts.named_ids if one != facts.platform_id), None)
    person = facts.sender if facts.direction == "outbound" else facts.customer or facts.sender
    stripped = stripped_of(body.text)
    author: AuthorKind = "agent" if facts.direction == "outbound" else "customer"
    return Message(
        message_key=facts.message_key,
        channel=CHANNEL,
        account=context.account,
        conversation_key=ids.conversation_key(CHANNEL, context.account, root),
        thread_ids=thread_ids,
        direction=facts.direction,
        kind=_kind_of(facts, body),
        text=body.text,
        text_stripped=stripped,
        text_stripped_by=STRIPPED_BY if stripped is not None else None,
        subject=subject_of(mail),
        attachments=body.attachments,
        content=_content_of(mail, facts),
        reply_to_key=ids.message_key(CHANNEL, context.account, parent) if parent else None,
        flags=sorted(facts.flags | ({"oversized"} if context.size_bytes is not None else set())),
        sent_at=facts.sent_at,
        received_at=context.internal_date,
        author_kind="system" if facts.by_machine else author,
        author_name=person.name if person else None,
        handles=_handles_of(facts),
        profile=Profile(name=person.name) if person and person.name and facts.is_told_by_customer else None,
        reply_token=facts.token,
        seen_by="poll",
        raw_ref=context.raw_ref,
    )


def _kind_of(facts: _Facts, body: Body) -> MessageKind:
    if facts.sender is None or facts.sender.email is None or "bounce" in facts.flags or facts.report:
        return "system"
    if facts.context.size_bytes is not None:
        return "unsupported"
    if body.text is None and body.attachments:
        return body.attachments[0].kind
    return "text"


def _handles_of(facts: _Facts) -> list[Handle]:
    """The customer's address. A delivery report is about the customer whom our mail did not reach."""
    email = facts.customer.email if facts.customer else None
    if facts.direction == "inbound" and not facts.is_told_by_customer:
        email = facts.report.recipient if facts.report and _is_about_ours(facts.report, facts.context) else None
    return [Handle(kind="email", value=email)] if email and not facts.context.is_own(email) else []


def _is_about_ours(report: DeliveryReport, context: EmailContext) -> bool:
    """Whether the mail was ours, by its Message-ID: forged senders earn us reports about strangers' mails."""
    return report.message_id is not None and context.is_own_domain(report.message_id.rpartition("@")[2])


def _content_of(mail: MimeMessage, facts: _Facts) -> dict[str, Any]:
    def listed(addresses: list[Address]) -> list[dict[str, str]]:
        return [
            {name: value for name, value in (("name", one.name), ("email", one.email)) if value} for one in addresses
        ]

    content: dict[str, Any] = {
        "from": listed([facts.sender] if facts.sender else []),
        **{name.lower(): listed(addresses) for name, addresses in facts.addressees.items()},
        "reply_to": listed(facts.reply_to),
        "date_header": clean_text(raw_field(mail, "Date")),
        "auto_submitted": clean_text(raw_field(mail, "Auto-Submitted")),
        "size_bytes": facts.context.size_bytes,
    }
    if facts.report is not None:
        content["delivery_report"] = {
            "action": facts.report.action,
            "code": facts.report.code,
            "recipient": facts.report.recipient,
            "message_id": facts.report.message_id,
        }
    return {name: value for name, value in content.items() if value}


def _receipt(facts: _Facts) -> Receipt | None:
    """What a delivery report says of the mail that it is about."""
    report = facts.report
    status = REPORT_STATUSES.get(report.action) if report else None
    if report is None or report.message_id is None or status is None:
        return None
    reason, actor = report.reason
    return Receipt(
        subject_key=ids.message_key(CHANNEL, facts.context.account, report.message_id),
        subject_kind="message",
        status=status,
        channel=CHANNEL,
        account=facts.context.account,
        occurred_at=facts.moment,
        reply_token=_token_in(report.message_id, facts.context),
        code=report.code,
        reason=reason if status == "failed" else None,
        actor=actor if status == "failed" else "nobody",
        raw_ref=facts.context.raw_ref,
    )


def _evidence(facts: _Facts) -> Evidence | None:
    """A person who asks to be answered elsewhere claims both addresses. Machines and lists do so for other reasons."""
    customer = facts.customer
    if facts.direction == "outbound" or facts.by_machine or "list" in facts.flags or customer is not facts.sender:
        return None
    others = [one.email for one in facts.reply_to if one.email]
    if customer is None or customer.email is None or len(others) != 1:
        return None
    (other,) = others
    if other == customer.email or facts.context.is_own(other):
        return None
    return Evidence(
        evidence_key=ids.evidence_key(CHANNEL, facts.context.account, "reply_to", facts.platform_id),
        method="reply_to",
        strength="claimed",
        channel=CHANNEL,
        account=facts.context.account,
        handles=[Handle(kind="email", value=customer.email), Handle(kind="email", value=other)],
        observed_at=facts.moment,
        profile=Profile(name=customer.name) if customer.name else None,
        raw_ref=facts.context.raw_ref,
    )


def _consent(facts: _Facts, message: Message, keywords: Keywords) -> Consent | None:
    """A mail that is one word, or that says nothing under a subject of one word (what unsubscribe links write)."""
    if message.author_kind != "customer" or not message.handles or message.attachments:
        return None
    decision = keywords.decision_of_text(message.text) or keywords.decision_of_text(message.text_stripped)
    if decision is None and message.text is None and facts.context.size_bytes is None:
        decision = keywords.decision_of_text(message.subject)
    if decision is None:
        return None
    return Consent(
        handle_key=message.handles[0].key,
        handle=message.handles[0],
        channel=CHANNEL,
        account=facts.context.account,
        purpose="promotional",
        status=decision,
        source="keyword",
        source_message_key=facts.message_key,
        decided_at=facts.moment,
        raw_ref=facts.context.raw_ref,
    )


def _written_for(mail: MimeMessage, reply_to: list[Address], context: EmailContext) -> Address | None:
    """The stranger in whose name one of our addresses wrote: groups and contact forms put them in these fields."""
    original = addresses_in(value for name in GROUP_HEADERS for value in raw_fields(mail, name))
    return next((one for one in (*original, *reply_to) if one.email and not context.is_own(one.email)), None)


def _flags_of(mail: MimeMessage, sender: Address | None, report: DeliveryReport | None) -> frozenset[str]:
    flags = set()
    precedence = raw_field(mail, "Precedence").strip().lower()
    auto_submitted = re.split(r"[;\s(]", raw_field(mail, "Auto-Submitted").strip().lower())[0]
    null_return_path = raw_field(mail, "Return-Path").replace(" ", "") == "<>"
    local_part = (sender.email or "").partition("@")[0] if sender else ""
    if (report is not None and report.action == "failed") or (
        report is None
        and (
            raw_field(mail, "X-Failed-Recipients")
            or (null_return_path and (local_part in BOUNCE_SENDERS or not local_part))
        )
    ):
        flags.add("bounce")
    if (
        auto_submitted not in {"", "no"}
        or any(raw_field(mail, name).strip().lower() not in {"", "no"} for name in AUTO_HEADERS)
        or precedence in AUTO_PRECEDENCE
        or null_return_path
        or mime_type_of(mail) == "multipart/report"
    ):
        flags.add("auto_reply")
    if precedence in LIST_PRECEDENCE or any(raw_field(mail, name) for name in LIST_HEADERS):
        flags.add("list")
    if raw_field(mail, "X-Auto-Response-Suppress"):
        flags.add("no_auto_reply")
    if any(raw_field(mail, name) for name in FORWARD_HEADERS):
        flags.add("forwarded")
    return frozenset(flags)


def _named_ids(mail: MimeMessage, report: DeliveryReport | None) -> list[str]:
    """The ids that a mail refers to, nearest first: In-Reply-To, then References from the newest to the oldest."""
    named = [one for value in raw_fields(mail, "In-Reply-To") for one in message_ids_in(value)]
    if report is not None and report.message_id is not None:
        named += [report.message_id, *report.references]
    references = [one for value in raw_fields(mail, "References") for one in message_ids_in(value)][::-1]
    if len(references) > MOST_THREAD_IDS // 2:  # the oldest is the root of the thread: it stays
        references = [*references[: MOST_THREAD_IDS // 2], references[-1]]
    return list(dict.fromkeys([*named[: MOST_THREAD_IDS // 4], *references]))


def _token_in(message_id: str, context: EmailContext) -> str | None:
    """Our reply token in a Message-ID that the sender of replies made."""
    found = _TOKEN_ID.fullmatch(message_id)
    return found.group(1) if found and context.is_own_domain(found.group(2)) else None


def _hashed_id(mail: MimeMessage, raw: bytes) -> str:
    """An id for a mail without one, from what every copy of it shares: From, Date, Subject and body."""
    _, separator, body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
    fields = "\n".join(raw_field(mail, name) for name in ("From", "Date", "Subject"))
    digest = hashlib.sha256(fields.encode("utf-8", "surrogatepass") + b"\n\n" + (body.rstrip() if separator else b""))
    return f"sha256-{digest.hexdigest()}"


PLATFORM = Platform(
    slug=CHANNEL,
    name="E-mail",
    tap="taps.email:TapEmail",
    mapping="mappings.from_email",
    sender="targets.senders.email:EmailSender",
    sandbox="sandbox.mail:MailSandbox",
    reads="mail in INBOX and in Sent, delivery reports, attachments, opt-outs",
    sends="text, in the thread",
)
