"""Records of a channel of one's own (see `mappings.from_custom.contract`) as canonical records.

What a record says of its customer is believed as far as it says that it was checked: with ``who.verified`` its id,
address and number belong to one person; without, the message belongs to the first of them and the rest is kept as
claimed evidence, which links nobody.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, Literal

from mappings import ids
from mappings.contact_points import clean_name, normalize_email, normalize_phone
from mappings.errors import MissingFieldError
from mappings.fields import PlatformEvent
from mappings.from_custom.contract import (
    KINDS,
    SPOKEN,
    Address,
    CallRecord,
    ChangeRecord,
    ConsentRecord,
    File,
    FormRecord,
    MessageRecord,
    ReceiptRecord,
    SamePersonRecord,
    Who,
    contract_schema,
    parse_record,
)
from mappings.keywords import DEFAULT_KEYWORDS, Keywords
from mappings.platforms import Platform
from mappings.records import (
    Attachment,
    AuthorKind,
    Consent,
    Evidence,
    Handle,
    Message,
    MessageChange,
    MessageKind,
    Profile,
    Receipt,
    Record,
)

__all__ = ["KINDS", "PLATFORM", "SPOKEN", "CustomContext", "contract_schema", "records_from_custom"]

HANDLE_KIND = "custom_user"
_AHEAD = timedelta(hours=1)
_FILE_KINDS: Mapping[str, Literal["image", "video", "audio"]] = {"image": "image", "video": "video", "audio": "audio"}

Spoken = MessageRecord | FormRecord | CallRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomContext:
    """What a mapping must be told.

    Attributes:
        channel: the name under which the messages are shown, e.g. ``forms``.
        account: ours, where a record does not name one.
        received_at: when the delivery came; ``None`` in an import, where every record needs its own time.
        raw_ref: where the bytes are, e.g. ``delivery:17#3``.
        id_scope: where the customers' own ids are unique; the channel by default.
        default_region: of phone numbers without country code, e.g. ``"GB"``.
        timezone: of times without one; without it they are an error.
        time_format: of times that are not ISO 8601, as `datetime.strptime` takes it.
        seen_by: ``import`` for what comes from files.
    """

    channel: str
    account: str
    received_at: datetime | None
    raw_ref: str
    id_scope: str | None = None
    default_region: str | None = None
    timezone: tzinfo | None = None
    time_format: str | None = None
    keywords: Keywords = DEFAULT_KEYWORDS
    seen_by: Literal["webhook", "import"] = "webhook"


def records_from_custom(item: PlatformEvent, context: CustomContext) -> list[Record]:
    """The records of one event: a message with its consent and evidence, or one of the others.

    `item` is what `taps.webhooks.custom.split` gives; its payload is ``{"record": ...}`` with a record of the contract.

    Raises:
        UnknownShapeError: it is of no kind that the contract has.
        PayloadError: a field is missing or wrong; the message says which and what to do.
    """
    options = {"timezone": context.timezone, "time_format": context.time_format}
    record = parse_record(item.payload.get("record"), f"Custom {context.channel}", options)
    reading = _Reading(record, context)
    match record:
        case ChangeRecord():
            return [_change(reading, record)]
        case ReceiptRecord():
            return [_receipt(reading, record)]
        case ConsentRecord():
            return _decisions(reading, record)
        case SamePersonRecord():
            return [_same_person(reading, record)]
        case _:
            return _spoken(reading, record)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A record with its context: what every kind needs."""

    record: Any
    context: CustomContext

    @property
    def where(self) -> str:
        return f"Custom {self.context.channel}"

    @property
    def account(self) -> str:
        return str(self.record.account or self.context.account)

    @property
    def digest(self) -> str:
        """The same for the same record, however it was written down; whatever the ids of others were."""
        text = json.dumps(self.record.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def message_key(self, message_id: str) -> str:
        return ids.message_key(self.context.channel, self.account, message_id)

    def moment(self, name: str) -> datetime:
        """The record's own time, else when it came."""
        moment: datetime | None = getattr(self.record, name) or self.context.received_at
        if moment is None:
            msg = f"{self.where}: {name}: is missing; what is imported needs its time"
            raise MissingFieldError(msg)
        return moment

    def handles(self, addresses: Iterable[Address], order: Sequence[str] = ("id", "email", "phone")) -> list[Handle]:
        """The handles of addresses; what is no address or number gives none."""
        found: list[Handle] = []
        for address in addresses:
            of_address = {
                "id": address.id
                and Handle(kind=HANDLE_KIND, scope=self.context.id_scope or self.context.channel, value=address.id),
                "email": (email := normalize_email(address.email or "")) and Handle(kind="email", value=email),
                "phone": (phone := normalize_phone(address.phone or "", self.context.default_region))
                and Handle(kind="phone", value=phone),
            }
            found += [handle for name in order if (handle := of_address[name])]
        if not found:
            msg = f"{self.where}: who: none of id, email, phone can be used; a phone number needs its country code"
            raise MissingFieldError(msg)
        return list(dict.fromkeys(found))

    def unusable(self, who: Who) -> dict[str, str]:
        """What stands for an address or number and is none, as it was written: it is shown, and links nobody."""
        email, phone = (who.email or "").strip(), (who.phone or "").strip()
        usable = {"email": normalize_email(email), "phone": normalize_phone(phone, self.context.default_region)}
        return {name: text for name, text in (("email", email), ("phone", phone)) if text and not usable[name]}

    def evidence(self, method: str, told: str, handles: list[Handle], moment: datetime, who: Who) -> Evidence:
        return Evidence(
            evidence_key=ids.evidence_key(self.context.channel, self.account, method, told),
            method=method,
            strength="verified" if who.verified else "claimed",
            channel=self.context.channel,
            account=self.account,
            handles=handles,
            observed_at=moment,
            profile=_profile(who),
            raw_ref=self.context.raw_ref,
        )

    def consent(
        self, handle: Handle, decision: Any, source: str, moment: datetime, told_in: str | None
    ) -> Consent:  # fmt: skip
        return Consent(
            handle_key=handle.key,
            handle=handle,
            channel=self.context.channel,
            account=self.account,
            purpose=getattr(decision, "purpose", "promotional"),
            status=getattr(decision, "status", decision),
            source=source,
            source_message_key=told_in,
            decided_at=moment,
            raw_ref=self.context.raw_ref,
        )


def _spoken(reading: _Reading, record: Spoken) -> list[Record]:
    context, who = reading.context, record.who
    order = ("phone", "id", "email") if record.kind == "call" else ("id", "email", "phone")
    told = reading.handles([who], order)
    handles = told if who.verified else told[:1]
    sent_at = reading.moment("sent_at")
    key = reading.message_key(record.id or _id_from_content(record, handles[0], sent_at))
    inbound = record.direction == "in"
    author = record.author.kind if record.author and record.author.kind else "customer" if inbound else "agent"
    name = clean_name(record.author.name if record.author else None) or (clean_name(who.name) if inbound else None)
    message = Message(
        message_key=key,
        channel=context.channel,
        account=reading.account,
        conversation_key=ids.conversation_key(context.channel, reading.account, record.thread or handles[0].key),
        direction="inbound" if inbound else "outbound",
        kind=_kind_of(record),
        text=record.text or None,
        subject=record.subject or None,
        attachments=_attachments(record),
        content=_content(reading, record) or None,
        reply_to_key=reading.message_key(record.reply_to) if record.reply_to else None,
        origin=record.origin if isinstance(record, MessageRecord) else record.kind,
        flags=_flags(record, context, sent_at),
        sent_at=sent_at,
        received_at=context.received_at,
        author_kind=author,
        author_name=name,
        handles=handles,
        profile=_profile(who),
        seen_by=context.seen_by,
        raw_ref=context.raw_ref,
    )
    records: list[Record] = [message]
    if len(told) > len(handles):
        records.append(reading.evidence(f"{record.kind}_details", key, told, sent_at, who))
    return records + _consents_of_message(reading, record, message)


def _consents_of_message(reading: _Reading, record: Spoken, message: Message) -> list[Consent]:
    """A ticked box, else a word that is all of the message (STOP)."""
    decision: Any = record.consent
    source: str = record.kind
    if decision is None and message.direction == "inbound" and message.author_kind == "customer":
        decision = reading.context.keywords.decision_of_text(message.text)
        source = "keyword"
    if decision is None:
        return []
    key, moment = message.message_key, message.sent_at
    return [reading.consent(handle, decision, source, moment, key) for handle in message.handles]


def _kind_of(record: Spoken) -> MessageKind:
    if isinstance(record, MessageRecord):
        return "text" if record.text else _file_kind(record.attachments[0])
    return record.kind


def _attachments(record: Spoken) -> list[Attachment]:
    files = list(record.attachments)
    if isinstance(record, CallRecord) and record.call.recording_url:
        files.append(File(url=record.call.recording_url, kind="audio"))
    return [
        Attachment(
            kind=_file_kind(file),
            url=file.url,
            mime_type=file.type,
            filename=clean_name(file.name),
            size_bytes=file.size,
        )
        for file in files
    ]


def _file_kind(file: File) -> Literal["image", "video", "audio", "file", "sticker"]:
    return file.kind or _FILE_KINDS.get((file.type or "").partition("/")[0].lower()) or "file"


def _content(reading: _Reading, record: Spoken) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "call": record.call.model_dump(exclude_none=True, exclude={"recording_url"})
        if isinstance(record, CallRecord)
        else None,
        "fields": {name: value for name, value in record.fields.items() if value not in (None, "")},
        "unusable": reading.unusable(record.who),
    }
    return {name: part for name, part in parts.items() if part}


def _flags(record: Spoken, context: CustomContext, sent_at: datetime) -> list[str]:
    flags = {
        "time_of_receipt": record.sent_at is None,
        "clock_ahead": context.received_at is not None and sent_at - context.received_at > _AHEAD,
    }
    return [name for name, holds in flags.items() if holds]


def _id_from_content(record: Spoken, handle: Handle, sent_at: datetime) -> str:
    """An id for what has none: who, when, which way and which words. Two equal ones in one second are one."""
    said = [record.kind, record.direction, handle.key, sent_at.isoformat(), record.text, record.subject, record.thread,
            [file.url or file.name for file in record.attachments], record.fields]  # fmt: skip
    return f"sha256-{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()}"


def _profile(who: Who) -> Profile | None:
    profile = Profile(
        name=clean_name(who.name), username=clean_name(who.username), locale=who.locale, picture_url=who.picture_url
    )
    return profile if any(value for _, value in profile) else None


def _change(reading: _Reading, record: ChangeRecord) -> MessageChange:
    author: AuthorKind = record.author.kind if record.author and record.author.kind else "customer"
    key = reading.message_key(record.message)
    return MessageChange(
        change_key=ids.change_key(key, record.change, record.id or reading.digest),
        message_key=key,
        channel=reading.context.channel,
        account=reading.account,
        change=record.change,
        text=record.text if record.change == "edit" else None,
        emoji=record.emoji,
        author_kind=author,
        changed_at=reading.moment("changed_at"),
        raw_ref=reading.context.raw_ref,
    )


def _receipt(reading: _Reading, record: ReceiptRecord) -> Receipt:
    failed = record.status == "failed"
    return Receipt(
        subject_key=reading.message_key(record.message),
        subject_kind="message",
        status=record.status,
        channel=reading.context.channel,
        account=reading.account,
        occurred_at=reading.moment("occurred_at"),
        code=record.code if failed else None,
        reason=record.reason if failed else None,
        actor="operator" if failed else "nobody",
        raw_ref=reading.context.raw_ref,
    )


def _decisions(reading: _Reading, record: ConsentRecord) -> list[Record]:
    """The decision for each handle that is verified to be theirs; else for the first, under which it was said."""
    told = reading.handles([record.who])
    moment = reading.moment("decided_at")
    handles = told if record.who.verified else told[:1]
    return [reading.consent(handle, record, "preference", moment, None) for handle in handles]


def _same_person(reading: _Reading, record: SamePersonRecord) -> Evidence:
    handles = reading.handles([record.who, *record.also])
    if len(handles) < 2:
        msg = f"{reading.where}: same_person needs two usable ids, addresses or numbers"
        raise MissingFieldError(msg)
    told = record.id or "|".join(sorted(handle.key for handle in handles))
    return reading.evidence("same_person", told, handles, reading.moment("observed_at"), record.who)


PLATFORM = Platform(
    slug="custom",
    name="Any other",
    tap="taps.custom:TapCustom",
    mapping="mappings.from_custom",
    webhook="taps.webhooks.custom",
    sandbox="sandbox.custom:CustomSite",
    reads="messages, calls, forms, edits, receipts, opt-outs of a channel of your own, in one JSON contract",
    sends="",
)
