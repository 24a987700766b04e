"""Twilio's webhooks, and messages of its list, as canonical records: SMS and MMS, and WhatsApp numbers at Twilio.

Shapes: twilio.com/docs/messaging/guides/webhook-request (2026-03-09), .../track-outbound-message-status and
github.com/twilio/twilio-oai @d50069b (twilio_api_v2010.yaml), read 2026-11, documented; ``ExternalUserId``,
``MessageType`` and ``ChannelMetadata`` are observed in public code that keeps a real webhook.

No webhook tells a time: a message counts from its receipt and is flagged ``time_of_receipt``, until the list of
messages tells its ``date_sent``. SMS has no edits, no reactions and no read receipts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mappings.contact_points import clean_name
from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import (
    PlatformEvent,
    chosen,
    object_of,
    objects_of,
    optional_text_of,
    storable,
    text_of,
)
from mappings.from_twilio.codes import (
    DIRECTIONS,
    ERRORS,
    OPT_OUT_TYPES,
    REFERRAL,
    STATUSES,
    UNSUBSCRIBED,
    WAITING,
    WHATSAPP_KINDS,
)
from mappings.from_twilio.event import (
    Parties,
    TwilioContext,
    attachment_of,
    clock_flags,
    moment_of_twilio,
    optional_code,
    parties_of,
)
from mappings.keywords import Decision
from mappings.platforms import Platform
from mappings.records import (
    Attachment,
    Consent,
    Message,
    MessageKind,
    Origin,
    Profile,
    Purpose,
    Receipt,
    Record,
)
from mappings.sms import BOTH, sms_consents, sms_decisions
from mappings.sms import CHANNEL as SMS

__all__ = [
    "PLATFORM",
    "TwilioContext",
    "is_waiting",
    "moment_of_row",
    "moment_of_twilio",
    "our_address_of_row",
    "records_from_twilio",
]

_MEDIA_URL = re.compile(r"MediaUrl([0-9]{1,2})")
_NUMBER = re.compile(r"-?[0-9]{1,3}(?:\.[0-9]{1,20})?")
_DIGITS = re.compile(r"[0-9]{1,3}")
_SENT = ("date_sent", "date_created")


def records_from_twilio(item: PlatformEvent, context: TwilioContext) -> list[Record]:
    """The records of one event; none for a status that says nothing of a message of ours.

    `item` is what `taps.webhooks.twilio.split` gives, kind ``message`` or ``status`` with payload::

        {"form": {"MessageSid": "SM...", "AccountSid": "AC...", "From": "+447700900123", "To": "+12025550100",
                  "Body": "Hello", "NumMedia": "0", "SmsStatus": "received"}}

    or a message of the list, kind ``listed`` or ``listed_status`` with payload ``{"row": {"sid": "SM...", ...},
    "media": [{"sid": "ME...", "content_type": "image/jpeg", "url": "https://..."}] or None}``; ``None``: not asked.

    Raises:
        UnknownShapeError: no rule for this kind of event, status, direction or channel.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    rule = _RULES.get(item.kind)
    if rule is None:
        msg = (
            f"Twilio: no rule for a webhook without a message ({item.kind}); does another product post to this address?"
        )
        raise UnknownShapeError(msg)
    return rule(item.payload, context)


def is_waiting(row: Mapping[str, Any]) -> bool:
    """Whether a message of the list has not left Twilio: its sender and its time may still change."""
    status = row.get("status")
    return isinstance(status, str) and status in WAITING


def moment_of_row(row: Mapping[str, Any]) -> datetime:
    """When a message of the list was sent; raises `MissingFieldError` when it does not say."""
    return moment_of_twilio(row, _SENT, "Twilio list")


def our_address_of_row(row: Mapping[str, Any]) -> str | None:
    """Which of our numbers a message of the list belongs to, as it stands there."""
    return optional_text_of(row, "to" if row.get("direction") == "inbound" else "from", "Twilio list")


# -- What customers write ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Said:
    """What an incoming message says."""

    kind: MessageKind
    text: str | None
    attachments: list[Attachment]
    content: dict[str, Any] = field(default_factory=dict)
    button: tuple[str | None, ...] = ()


def _message(payload: Mapping[str, Any], context: TwilioContext) -> list[Record]:
    """A message as its webhook tells it."""
    where = "Twilio message"
    form = object_of(payload, "form", where)
    parties = parties_of(
        text_of(form, "To", where),
        text_of(form, "From", where),
        where,
        scope=context.portfolio_id or optional_text_of(form, "AccountSid", where),
        user_id=optional_text_of(form, "ExternalUserId", where),
    )
    sid = text_of(form, "MessageSid", where)
    said = _said(form, parties, where)
    name = clean_name(optional_text_of(form, "ProfileName", where))
    replied_to = optional_text_of(form, "OriginalRepliedMessageSid", where)
    referral = chosen(form, REFERRAL)
    origin: Origin = "ad" if form.get("ReferralSourceType") == "ad" else "direct"
    told = optional_text_of(form, "OptOutType", where)
    flags = [flag for flag, name_of in _FORWARDED.items() if form.get(name_of) == "true"]
    message = Message(
        message_key=parties.message_key(sid),
        channel=parties.channel,
        account=parties.account,
        conversation_key=parties.conversation_key(),
        direction="inbound",
        kind=said.kind,
        text=said.text,
        attachments=said.attachments,
        content={**said.content, **({"opt_out_type": told[:20]} if told else {})} or None,
        reply_to_key=parties.message_key(replied_to) if replied_to else None,
        origin=origin,
        origin_detail=referral or None,
        flags=[*flags, "time_of_receipt"],
        sent_at=context.received_at,
        received_at=context.received_at,
        author_kind="customer",
        author_name=name,
        handles=parties.handles,
        profile=Profile(name=name) if name else None,
        raw_ref=context.raw_ref,
    )
    return [message, *_decided(message, parties, said, told, context)]


_FORWARDED = {"forwarded": "Forwarded", "frequently_forwarded": "FrequentlyForwarded"}


def _said(form: Mapping[str, Any], parties: Parties, where: str) -> _Said:
    text = optional_text_of(form, "Body", where)
    kind_name = optional_text_of(form, "MessageType", where)
    urls = sorted((int(match.group(1)), name) for name in form if (match := _MEDIA_URL.fullmatch(name)))
    attachments = [
        attachment_of(
            optional_text_of(form, name, where),
            optional_text_of(form, f"MediaContentType{number}", where),
            sticker=kind_name == "sticker",
        )
        for number, name in urls
    ]
    expected = _count(form.get("NumMedia"))
    content: dict[str, Any] = {"media": expected} if expected > len(attachments) else {}
    if parties.channel == SMS:
        return _Said(_kind_of(attachments, expected), text, attachments, content)
    return _said_on_whatsapp(form, text, kind_name, attachments, content, where)


def _said_on_whatsapp(
    form: Mapping[str, Any],
    text: str | None,
    kind_name: str | None,
    attachments: list[Attachment],
    content: dict[str, Any],
    where: str,
) -> _Said:
    """WhatsApp's own kinds: a place, a pressed button, a chosen row, a filled form."""
    if form.get("Latitude") is not None or form.get("Longitude") is not None:
        place = {name.lower(): _degrees(form, name, limit, where) for name, limit in _DEGREES}
        names = {"Label": "name", "Address": "address"}
        place |= {ours: storable(form[theirs]) for theirs, ours in names.items() if form.get(theirs)}
        return _Said("location", text, attachments, {**content, **place})
    button = tuple(optional_text_of(form, name, where) for name in ("ButtonText", "ButtonPayload"))
    if any(button):
        told = {name: value for name, value in zip(("title", "payload"), button, strict=True) if value}
        return _Said("answer", text or button[0], attachments, {**content, "answer": "button", **told}, button)
    row = tuple(optional_text_of(form, name, where) for name in ("ListTitle", "ListId"))
    if any(row):
        told = {name: value for name, value in zip(("title", "id"), row, strict=True) if value}
        return _Said("answer", text or row[0], attachments, {**content, "answer": "list_reply", **told}, row)
    form_answer = optional_text_of(form, "InteractiveData", where)
    if form_answer:
        return _Said("answer", text, attachments, {**content, "answer": "form", "response": form_answer})
    known = WHATSAPP_KINDS.get(kind_name or "text")
    if attachments:
        return _Said(attachments[0].kind, text, attachments, content)
    if known is None or (text is None and known != "text"):
        return _Said("unsupported", text, attachments, {**content, "type": (kind_name or "")[:60]})
    return _Said("text", text, attachments, content)


_DEGREES = (("Latitude", 90), ("Longitude", 180))


def _degrees(form: Mapping[str, Any], name: str, limit: int, where: str) -> float:
    text = text_of(form, name, where)
    value = float(text) if _NUMBER.fullmatch(text) else None
    if value is None or not -limit <= value <= limit:
        msg = f"{where}: {name} is not a number between -{limit} and {limit}"
        raise MissingFieldError(msg)
    return value


def _kind_of(attachments: Sequence[Attachment], expected: int) -> MessageKind:
    """That of the first file; a text without any, though it may be an empty one."""
    if attachments:
        return attachments[0].kind
    return "unsupported" if expected else "text"


def _count(value: Any) -> int:
    """``NumMedia``: a number, or its digits; 0 when it is none."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1000 else 0


def _decided(
    message: Message, parties: Parties, said: _Said, told: str | None, context: TwilioContext
) -> list[Consent]:
    """STOP and its relatives, when they are all of the message, or when Twilio itself says so (``OptOutType``)."""
    carrier = OPT_OUT_TYPES.get((told or "").upper())
    decisions: dict[Purpose, Decision] = {}
    source = "keyword"
    text = said.text if said.kind == "text" else None
    if said.button:
        decision = context.keywords.decision_of_button(*said.button)
        decisions = {} if decision is None else {"promotional": decision}
        source = "template_answer"
    elif parties.channel == SMS or carrier is not None:
        decisions = sms_decisions(text, parties.account, context.keywords, told=carrier)
    else:
        decision = context.keywords.decision_of_text(text)
        decisions = {} if decision is None else {"promotional": decision}
    return _consents(decisions, parties, source, message.sent_at, message.message_key, context)


def _consents(
    decisions: Mapping[Purpose, Decision],
    parties: Parties,
    source: str,
    decided_at: datetime,
    told_in: str | None,
    context: TwilioContext,
) -> list[Consent]:
    """The decisions for each of the customer's handles: whichever we write to later, the "no" is found."""
    return [
        consent
        for handle in parties.handles
        for consent in sms_consents(
            decisions,
            handle,
            parties.account,
            channel=parties.channel,
            source=source,
            decided_at=decided_at,
            told_in=told_in,
            raw_ref=context.raw_ref,
        )
    ]


# -- What became of our messages ---------------------------------------------------------------------------------------


def _status(payload: Mapping[str, Any], context: TwilioContext) -> list[Record]:
    """A status callback. It tells no time either."""
    where = "Twilio status"
    form = object_of(payload, "form", where)
    status = text_of(form, "MessageStatus", where)
    sender = optional_text_of(form, "From", where)
    if sender is None and status in WAITING:
        return []  # no sender is chosen yet, so no message of ours is named; a later status names it
    parties = parties_of(
        sender,
        text_of(form, "To", where),
        where,
        service=optional_text_of(form, "MessagingServiceSid", where),
        scope=context.portfolio_id or optional_text_of(form, "AccountSid", where),
        user_id=optional_text_of(form, "ExternalUserId", where),
    )
    code = optional_code(form, "ErrorCode", where)
    return _receipts(text_of(form, "MessageSid", where), status, code, context.received_at, parties, context, where)


def _listed_status(payload: Mapping[str, Any], context: TwilioContext) -> list[Record]:
    """The status of a message of ours, as the list has it."""
    where = "Twilio list"
    row = object_of(payload, "row", where)
    moment = moment_of_twilio(row, ("date_updated", *_SENT), where)
    status, code = text_of(row, "status", where), optional_code(row, "error_code", where)
    return _receipts(
        text_of(row, "sid", where), status, code, moment, _parties_of_row(row, context, where), context, where
    )


def _receipts(
    sid: str, name: str, code: str | None, moment: datetime, parties: Parties, context: TwilioContext, where: str
) -> list[Record]:
    if name not in STATUSES:
        msg = f"{where}: status {re.sub(r'[^a-z_]', '?', name)[:30]} is not known"
        raise UnknownShapeError(msg)
    status = STATUSES[name]
    if status is None:
        return []
    failed = status == "failed"
    reason, actor = ERRORS.get(code or "", (f"Twilio's error {code}" if code else None, "operator"))
    if failed and code is None:
        reason = "the message was taken back before it was sent" if name == "canceled" else f"Twilio only says {name}"
    receipt = Receipt(
        subject_key=parties.message_key(sid),
        subject_kind="message",
        status=status,
        channel=parties.channel,
        account=parties.account,
        conversation_key=parties.conversation_key(),
        occurred_at=moment,
        code=code,
        reason=reason,
        actor=actor if failed or code else "nobody",
        raw_ref=context.raw_ref,
    )
    stopped: dict[Purpose, Decision] = dict.fromkeys(BOTH, "opted_out") if code == UNSUBSCRIBED else {}
    return [receipt, *_consents(stopped, parties, "carrier", moment, receipt.subject_key, context)]


# -- The list of messages ----------------------------------------------------------------------------------------------


def _listed(payload: Mapping[str, Any], context: TwilioContext) -> list[Record]:
    """A message of the list, in or out. It has Twilio's own time, and neither names nor buttons of WhatsApp."""
    where = "Twilio list"
    row = object_of(payload, "row", where)
    direction = text_of(row, "direction", where)
    author = DIRECTIONS.get(direction)
    if author is None:
        msg = f"{where}: direction {re.sub(r'[^a-z-]', '?', direction)[:30]} is not known"
        raise UnknownShapeError(msg)
    inbound = author == "customer"
    parties = _parties_of_row(row, context, where)
    text = optional_text_of(row, "body", where)
    media = None if payload.get("media") is None else objects_of(payload, "media", where)
    attachments = [
        attachment_of(optional_text_of(one, "url", where), optional_text_of(one, "content_type", where))
        for one in media or []
    ]
    expected = _count(row.get("num_media"))
    missing = media is not None and expected > len(attachments)
    says_nothing = parties.channel != SMS and text is None and not attachments  # a place, a form: the list tells none
    sent_at = moment_of_row(row)
    message = Message(
        message_key=parties.message_key(text_of(row, "sid", where)),
        channel=parties.channel,
        account=parties.account,
        conversation_key=parties.conversation_key(),
        direction="inbound" if inbound else "outbound",
        kind="unsupported" if says_nothing else _kind_of(attachments, expected),
        text=text,
        attachments=attachments,
        content={"media": expected} if missing else None,
        flags=clock_flags(sent_at, context.received_at),
        sent_at=sent_at,
        received_at=context.received_at,
        author_kind=author,
        handles=parties.handles,
        seen_by="poll",
        raw_ref=context.raw_ref,
    )
    if not inbound:
        return [message]
    said = _Said(message.kind, text, attachments)
    return [message, *_decided(message, parties, said, None, context)]


def _parties_of_row(row: Mapping[str, Any], context: TwilioContext, where: str) -> Parties:
    inbound = row.get("direction") == "inbound"
    theirs = text_of(row, "from" if inbound else "to", where)
    service = None if inbound else optional_text_of(row, "messaging_service_sid", where)
    scope = context.portfolio_id or optional_text_of(row, "account_sid", where)
    return parties_of(our_address_of_row(row), theirs, where, service=service, scope=scope)


_RULES: Mapping[str, Callable[[Mapping[str, Any], TwilioContext], list[Record]]] = {
    "message": _message,
    "status": _status,
    "listed": _listed,
    "listed_status": _listed_status,
}


PLATFORM = Platform(
    slug="twilio",
    name="SMS by Twilio",
    tap="taps.twilio:TapTwilio",
    mapping="mappings.from_twilio",
    webhook="taps.webhooks.twilio",
    sandbox="sandbox.twilio:TwilioApp",
    reads="SMS and MMS both ways, WhatsApp at Twilio, statuses, STOP and START; history and gaps by polling",
    sends="",
)
