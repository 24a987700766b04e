"""One Infobip result with what stands around it: the channel, our sender, the customer, the time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from mappings.contact_points import normalize_phone
from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import optional_object_of, optional_text_of, text_of
from mappings.from_infobip.codes import INTEGRATIONS
from mappings.ids import conversation_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Keywords
from mappings.records import Handle
from mappings.sms import CHANNEL as SMS
from mappings.sms import sms_address, sms_conversation_key, sms_handle

WHATSAPP, VIBER, APPLE = "whatsapp", "viber", "apple"

_CUSTOMER_OF_APPLE = "urn:mbid:"
_USER_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9.]{1,128}")
_OFFSET = re.compile(r"(?:Z|[+-][0-9]{2}:?[0-9]{2})$")
_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class InfobipContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the delivery came, or the list was read.
        raw_ref: where its bytes are, e.g. ``delivery:17#3``.
        portfolio_id: the business portfolio that scopes WhatsApp's user ids; our number does when ``None``.
        default_region: of phones that customers write without country code, e.g. ``"GB"``.
        report_channel: of reports that cannot be told by their sender.
        senders: (channel, sender) of the account, for reports that name no sender or no channel.
    """

    received_at: datetime
    raw_ref: str
    portfolio_id: str | None = None
    default_region: str | None = None
    report_channel: str | None = None
    senders: Sequence[tuple[str, str]] = field(default_factory=tuple)
    keywords: Keywords = DEFAULT_KEYWORDS


@dataclass(frozen=True, slots=True)
class Parties:
    """Who talks to whom.

    Attributes:
        channel: ``sms``, ``whatsapp``, ``viber`` or ``apple``.
        account: our number in E.164, short code, sender name or business id.
        handles: the customer's, the address of the message first.
        thread: what the conversation is with: the customer, or a group.
    """

    channel: str
    account: str
    handles: list[Handle]
    thread: str | None = None

    @property
    def customer(self) -> Handle:
        """The address that the message came from or went to."""
        return self.handles[0]

    def message_key(self, message_id: str) -> str:
        """The key of a message of this account."""
        return message_key(self.channel, self.account, message_id)

    def conversation_key(self) -> str:
        """The key of the thread."""
        if self.channel == SMS:
            return sms_conversation_key(self.account, self.customer)
        return conversation_key(self.channel, self.account, self.thread or self.customer.value)


def channel_of(name: str, where: str) -> str:
    """Our channel for an integration type."""
    channel = INTEGRATIONS.get(name)
    if channel is None:
        msg = f"{where}: integration {short_name(name)} is not read, only {', '.join(INTEGRATIONS)}"
        raise UnknownShapeError(msg)
    return channel


def account_of(channel: str, raw: str) -> str:
    """The one spelling of a sender of ours."""
    return raw.strip() if channel == APPLE else sms_address(raw, bare_phones=True)[1]


def parties_of(
    channel: str,
    ours: str,
    theirs: str,
    where: str,
    *,
    contact: Mapping[str, Any] | None = None,
    portfolio_id: str | None = None,
    thread: str | None = None,
) -> Parties:
    """The parties of a message.

    Args:
        channel: one of ours.
        ours: the sender of ours, as Infobip writes it (phones without a plus).
        theirs: the customer's address.
        where: for errors.
        contact: what WhatsApp tells of the customer: phone, user id.
        portfolio_id: scope of WhatsApp's user ids.
        thread: the group, if it is one.

    Raises:
        MissingFieldError: what must be a phone number is none.
    """
    if channel == APPLE and ours.startswith(_CUSTOMER_OF_APPLE) and not theirs.startswith(_CUSTOMER_OF_APPLE):
        # Infobip's own examples exchange the two in what comes in; at Apple only customers are called so.
        ours, theirs = theirs, ours
    account = account_of(channel, ours)
    if channel == SMS:
        return Parties(SMS, account, [sms_handle(theirs, account, bare_phones=True)])
    if channel == APPLE:
        return Parties(APPLE, account, [Handle(kind="apple_opaque", scope=account, value=theirs)])
    if channel == WHATSAPP:
        handles = _whatsapp_handles(theirs, contact or {}, portfolio_id or account, where)
        return Parties(WHATSAPP, account, handles, thread)
    return Parties(channel, account, [Handle(kind="phone", value=_phone(theirs, where))])


def _phone(raw: str, where: str) -> str:
    kind, value = sms_address(raw, bare_phones=True)
    if kind != "phone":
        msg = f"{where}: what stands for the customer's phone number is none"
        raise MissingFieldError(msg)
    return value


def _whatsapp_handles(address: str, contact: Mapping[str, Any], scope: str, where: str) -> list[Handle]:
    """The address first, which is a user id when the customer hides the phone; then what the contact adds."""
    told = [optional_text_of(contact, name, where) for name in ("phoneNumber", "userId")]
    found: list[Handle] = []
    for one in (address, *told):
        phone = normalize_phone(f"+{one.lstrip('+')}") if one and one.lstrip("+").isdecimal() else None
        if phone:
            found.append(Handle(kind="phone", value=phone))
        elif one and _USER_ID.fullmatch(one):
            found.append(Handle(kind="whatsapp_user", scope=scope, value=one))
    if not found:
        msg = f"{where}: the WhatsApp address is neither a phone number nor a user id"
        raise MissingFieldError(msg)
    return list(dict.fromkeys(found))


def parties_of_report(result: Mapping[str, Any], context: InfobipContext, where: str) -> Parties:
    """The parties of a message of ours that a report is about.

    Reports do not say their channel, and WhatsApp's not even the sender, so this asks in turn: the report's own words,
    the contact that only WhatsApp has, the account's list of senders, the channel that was set for this route.

    Raises:
        MissingFieldError: nothing says from which of our senders the message was.
    """
    theirs = optional_text_of(result, "to", where) or text_of(result, "destination", where)
    ours = optional_text_of(result, "sender", where) or optional_text_of(result, "from", where)
    contact = optional_object_of(result, "contact", where)
    channel = _channel_of_report(result, ours, theirs, context, where, has_contact=contact is not None)
    if ours is None:
        known = [sender for name, sender in context.senders if name == channel]
        if len(known) != 1:
            msg = f"{where}: it does not name our sender; put the one {channel} sender of this route into `senders`"
            raise MissingFieldError(msg)
        ours = known[0]
    return parties_of(channel, ours, theirs, where, contact=contact, portfolio_id=context.portfolio_id)


def _channel_of_report(
    result: Mapping[str, Any], ours: str | None, theirs: str, context: InfobipContext, where: str, *, has_contact: bool
) -> str:
    told = optional_text_of(result, "channel", where)
    if told is not None:
        return channel_of(told, where)
    if any(one and one.startswith(_CUSTOMER_OF_APPLE) for one in (ours, theirs)):
        return APPLE
    if has_contact:
        return WHATSAPP
    if context.report_channel is not None:
        return context.report_channel
    if "smsCount" in result:
        return SMS
    fitting = {name for name, sender in context.senders if ours and account_of(name, sender) == account_of(name, ours)}
    if len(fitting) == 1:
        return fitting.pop()
    if "seenAt" in result:
        return VIBER  # an SMS is never seen, and WhatsApp has a contact
    channels = {name for name, _ in context.senders}
    return channels.pop() if len(channels) == 1 else SMS


def moment_of_infobip(payload: Mapping[str, Any], name: str, where: str) -> datetime | None:
    """A time as Infobip writes it (``2019-11-09T16:00:00.000+0000``); ``None`` when there is none.

    Raises:
        MissingFieldError: it is no time, or one without an offset.
    """
    text = optional_text_of(payload, name, where)
    if text is None:
        return None
    try:
        if not _OFFSET.search(text):
            raise ValueError
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        msg = f"{where}: {name} is not a time with an offset"
        raise MissingFieldError(msg) from None


def flags_of(sent_at: datetime | None, received_at: datetime) -> list[str]:
    """A flag for a time that is not the platform's, or far ahead of ours."""
    if sent_at is None:
        return ["time_of_receipt"]
    return ["clock_ahead"] if sent_at - received_at > _AHEAD else []


def short_name(value: Any) -> str:
    """A code of the vendor's, fit for a message or a log: short and of harmless characters."""
    return re.sub(r"[^\w.-]", "?", str(value))[:60]
