"""One Twilio event with its parties: which channel carries it, which number is ours, who the customer is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from mappings.contact_points import normalize_phone
from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import optional_text_of, text_of
from mappings.from_twilio.codes import FILE_KINDS
from mappings.ids import conversation_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Keywords
from mappings.records import Attachment, Handle
from mappings.sms import CHANNEL as SMS
from mappings.sms import sms_address, sms_conversation_key, sms_handle

WHATSAPP = "whatsapp"

_PREFIXED = re.compile(r"([a-z_]{2,20}):(.*)", re.DOTALL)
_USER_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9.]{1,128}")
_MEDIA_ID = re.compile(r"/(ME[0-9a-fA-F]{32})(?:$|[?#.])")
_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the delivery came, or the list was read.
        raw_ref: where its bytes are, e.g. ``delivery:17#0``.
        portfolio_id: the business portfolio that scopes WhatsApp's user ids; the Twilio account does when ``None``.
    """

    received_at: datetime
    raw_ref: str
    portfolio_id: str | None = None
    keywords: Keywords = DEFAULT_KEYWORDS


@dataclass(frozen=True, slots=True)
class Parties:
    """Who talks to whom.

    Attributes:
        channel: ``sms`` or ``whatsapp``.
        account: our number in E.164, short code or sender id; the messaging service while no sender is chosen.
        handles: the customer's, the address of the message first.
    """

    channel: str
    account: str
    handles: list[Handle]

    @property
    def customer(self) -> Handle:
        """The address that the message came from or went to."""
        return self.handles[0]

    def message_key(self, sid: str) -> str:
        """The key of a message of this account."""
        return message_key(self.channel, self.account, sid)

    def conversation_key(self) -> str:
        """The key of the thread."""
        if self.channel == SMS:
            return sms_conversation_key(self.account, self.customer)
        return conversation_key(self.channel, self.account, self.customer.value)


def parties_of(
    ours: str | None,
    theirs: str,
    where: str,
    *,
    service: str | None = None,
    scope: str | None = None,
    user_id: str | None = None,
) -> Parties:
    """The parties of a message.

    Args:
        ours: our address, e.g. ``+12025550100`` or ``whatsapp:+12025550100``.
        theirs: the customer's.
        where: for errors.
        service: the messaging service, which stands for our number while none is chosen.
        scope: of WhatsApp's user ids.
        user_id: the customer's WhatsApp user id, where it stands apart.

    Raises:
        UnknownShapeError: the addresses are of another channel than SMS and WhatsApp.
        MissingFieldError: nothing says which of our numbers it is.
    """
    channel, address = _channel_of(theirs, where)
    if ours is None:
        if service is None:
            msg = f"{where}: neither our number nor a messaging service is named"
            raise MissingFieldError(msg)
        own_channel, own = channel, service
    else:
        own_channel, own = _channel_of(ours, where)
        own = sms_address(own)[1]
    if own_channel not in {channel, SMS}:  # beside a prefixed address the other may have none
        channel, address = own_channel, theirs
    if channel == SMS:
        return Parties(SMS, own, [sms_handle(address, own)])
    return Parties(WHATSAPP, own, _whatsapp_handles(address, scope, user_id, where))


def _channel_of(raw: str, where: str) -> tuple[str, str]:
    """The channel of an address and the address without its prefix."""
    match = _PREFIXED.fullmatch(raw.strip())
    if match is None:
        return SMS, raw
    if match.group(1) != WHATSAPP:
        msg = f"{where}: addresses of the kind {match.group(1)} are not read, only SMS and WhatsApp"
        raise UnknownShapeError(msg)
    return WHATSAPP, match.group(2)


def _whatsapp_handles(address: str, scope: str | None, user_id: str | None, where: str) -> list[Handle]:
    """The customer's handles: the address first; a user id of somebody who hides the phone can stand there as well."""
    found: list[Handle] = []
    for one in (address, (user_id or "").removeprefix(f"{WHATSAPP}:")):
        phone = normalize_phone(one) if one.startswith("+") else None
        if phone:
            found.append(Handle(kind="phone", value=phone))
        elif scope and _USER_ID.fullmatch(one):
            found.append(Handle(kind="whatsapp_user", scope=scope, value=one))
    if not found:
        msg = f"{where}: the WhatsApp address is neither a phone number nor a user id"
        raise MissingFieldError(msg)
    return list(dict.fromkeys(found))


def moment_of_twilio(payload: Mapping[str, Any], names: Iterable[str], where: str) -> datetime:
    """The first of these fields that is there, a time as Twilio writes it (``Fri, 24 May 2019 17:44:46 +0000``).

    Raises:
        MissingFieldError: none is there, or it is no time.
    """
    names = list(names)
    name = next((one for one in names if payload.get(one) is not None), names[0])
    try:
        moment = parsedate_to_datetime(text_of(payload, name, where))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        msg = f"{where}: {name} is not a time"
        raise MissingFieldError(msg) from None


def clock_flags(sent_at: datetime, received_at: datetime) -> list[str]:
    """A flag for a time that is far ahead of ours."""
    return ["clock_ahead"] if sent_at - received_at > _AHEAD else []


def attachment_of(url: str | None, mime_type: str | None, *, sticker: bool = False) -> Attachment:
    """A media file by its address and type."""
    kind = FILE_KINDS.get((mime_type or "").partition("/")[0].strip().lower())
    match = _MEDIA_ID.search(url or "")
    return Attachment(
        kind="sticker" if sticker else kind or "file",
        platform_media_id=match.group(1) if match else None,
        url=url,
        mime_type=mime_type,
    )


def optional_code(payload: Mapping[str, Any], name: str, where: str) -> str | None:
    """An error code, a number or its digits; ``None`` when there is none (also written as 0)."""
    value = payload.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    code = optional_text_of({name: value}, name, where)
    return None if code in {None, "0", "null"} else code
