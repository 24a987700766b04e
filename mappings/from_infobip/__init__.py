"""Infobip's webhooks, its SMS inbox and its Conversations API as canonical records.

Shapes: api.infobip.com/platform/1/openapi/{sms,whatsapp,viber,apple-mfb}, version 3.210.0, read 2026-11, documented.
The Conversations API: dev.infobip.com/conversations/get-messages, documented; its ids are its own, so a message that
was read there and by webhook is two records unless somebody compares the words (the tap does).

Each channel has the words of its direct counterpart (`mappings.sms`, WhatsApp, Viber, Apple); the account is our sender
at Infobip. Infobip tells no edits and no unsends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from mappings.contact_points import clean_name
from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import (
    PlatformEvent,
    chosen,
    object_of,
    optional_object_of,
    optional_text_of,
    text_of,
)
from mappings.from_infobip.cards import evidence_of_cards
from mappings.from_infobip.codes import (
    APPLE_SILENT,
    IGNORED,
    INTEGRATIONS,
    PREFERENCES,
    VIBER_BOT_EVENTS,
)
from mappings.from_infobip.content import (
    Said,
    said_in_conversation,
    said_in_sms,
    said_on_apple,
    said_on_viber,
    said_on_whatsapp,
    viber_bot_event,
)
from mappings.from_infobip.event import (
    APPLE,
    VIBER,
    WHATSAPP,
    InfobipContext,
    Parties,
    account_of,
    channel_of,
    flags_of,
    moment_of_infobip,
    parties_of,
    short_name,
)
from mappings.from_infobip.reports import report, seen
from mappings.from_viber import ViberContext, records_from_viber
from mappings.ids import change_key
from mappings.keywords import Decision
from mappings.platforms import Platform
from mappings.records import (
    Consent,
    Message,
    MessageChange,
    Profile,
    Purpose,
    Record,
)
from mappings.sms import CHANNEL as SMS
from mappings.sms import sms_consents, sms_decisions

__all__ = ["PLATFORM", "InfobipContext", "account_of", "records_from_infobip"]


class _Event(NamedTuple):
    """An event of a Viber bot in Viber's own words."""

    kind: str
    payload: dict[str, Any]


def records_from_infobip(item: PlatformEvent, context: InfobipContext) -> list[Record]:
    """The records of one event; none for `IGNORED` kinds, typing, and channels of the history that are not read here.

    `item` is what `taps.webhooks.infobip.split` gives, e.g. kind ``message`` with payload::

        {"result": {"messageId": "817790313235066447", "from": "447700900123", "to": "447700900990", "text": "Hello",
                    "receivedAt": "2026-03-01T12:00:00.000+0000", "smsCount": 1}}

    or a message of the Conversations API, kind ``conversation_message``.

    Raises:
        UnknownShapeError: no rule for this kind of event, integration or status.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    if item.kind in IGNORED:
        return []
    rule = _RULES.get(item.kind)
    if rule is None:
        msg = f"Infobip: no rule for a webhook of kind {item.kind}; does another product post to this address?"
        raise UnknownShapeError(msg)
    return rule(object_of(item.payload, "result", f"Infobip {item.kind}"), context)


# -- What customers write ----------------------------------------------------------------------------------------------


def _message(result: Mapping[str, Any], context: InfobipContext) -> list[Record]:
    """``results[]`` of what came in."""
    where = "Infobip message"
    name = optional_text_of(result, "integrationType", where)
    if name is None and result.get("message") is None:
        return _message_in(SMS, result, said_in_sms(result, where), context, where)
    channel = channel_of(name or "unnamed", where)
    if channel == SMS:
        return _message_in(SMS, result, said_in_sms(result, where), context, where)
    message = object_of(result, "message", where)
    kind = text_of(message, "type", where)
    if channel == APPLE:
        return [] if kind in APPLE_SILENT else _message_in(APPLE, result, said_on_apple(message, where), context, where)
    if channel == VIBER and kind in VIBER_BOT_EVENTS:
        return _viber_bot(VIBER_BOT_EVENTS[kind], result, message, context, where)
    if channel == VIBER:
        return _message_in(VIBER, result, said_on_viber(message, where), context, where)
    if kind == "REACTION":
        return [_reaction(result, message, context, where)]
    return _message_in(WHATSAPP, result, said_on_whatsapp(message, where), context, where)


def _parties(
    channel: str, result: Mapping[str, Any], context: InfobipContext, where: str, group: str | None
) -> Parties:
    sender = optional_text_of(result, "from", where) or text_of(result, "sender", where)
    return parties_of(
        channel,
        text_of(result, "to", where),
        sender,
        where,
        contact=optional_object_of(result, "contact", where),
        portfolio_id=context.portfolio_id,
        thread=group,
    )


def _message_in(
    channel: str, result: Mapping[str, Any], said: Said, context: InfobipContext, where: str
) -> list[Record]:
    group = optional_text_of(said.context, "groupId", where)
    parties = _parties(channel, result, context, where, group)
    message_id = text_of(result, "messageId", where)
    sent_at = moment_of_infobip(result, "receivedAt", where)
    contact = optional_object_of(result, "contact", where) or {}
    name = clean_name(optional_text_of(contact, "name", where))
    username = clean_name(optional_text_of(contact, "username", where))
    profile = Profile(name=name, username=username, locale=said.locale)
    replied_to = optional_text_of(said.context, "id", where)
    product = chosen(said.context, ("referredProduct",))
    message = Message(
        message_key=parties.message_key(message_id),
        channel=channel,
        account=parties.account,
        conversation_key=parties.conversation_key(),
        direction="inbound",
        kind=said.kind,
        text=said.text,
        attachments=said.attachments,
        content={**said.details, **product} or None,
        reply_to_key=parties.message_key(replied_to) if replied_to else None,
        origin="ad" if said.origin.get("source_type") == "ad" else "direct",
        origin_detail=said.origin or None,
        flags=[*(["group"] if group else []), *flags_of(sent_at, context.received_at)],
        sent_at=sent_at or context.received_at,
        received_at=context.received_at,
        author_kind="system" if said.kind == "system" else "customer",
        author_name=name,
        handles=parties.handles,
        profile=profile if profile != Profile() else None,
        seen_by=_seen_by(context),
        raw_ref=context.raw_ref,
    )
    clean = optional_text_of(result, "cleanText", where) if channel == SMS else None
    cards = evidence_of_cards(said, message, context, where)
    return [message, *cards, *_decided(message, parties, said, clean, context)]


def _decided(
    message: Message, parties: Parties, said: Said, clean_text: str | None, context: InfobipContext
) -> list[Consent]:
    """STOP and its relatives, when they are all of the message.

    Infobip itself blocks nothing by such a word, so they are about advertising alone.
    """
    decision: Decision | None = None
    source = "keyword"
    if said.button:
        decision, source = context.keywords.decision_of_button(*said.button), "template_answer"
    elif parties.channel == SMS:
        words = [sms_decisions(one, parties.account, context.keywords) for one in (said.text, clean_text)]
        decision = words[0].get("promotional") or words[1].get("promotional")
    elif said.kind == "text":
        decision = context.keywords.decision_of_text(said.text)
    return _consents(decision, parties, source, message.sent_at, message.message_key, context)


def _consents(
    decision: Decision | None,
    parties: Parties,
    source: str,
    decided_at: datetime,
    told_in: str | None,
    context: InfobipContext,
) -> list[Consent]:
    """The decision for each of the customer's handles: whichever we write to later, the "no" is found."""
    decisions: dict[Purpose, Decision] = {} if decision is None else {"promotional": decision}
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


def _reaction(
    result: Mapping[str, Any], message: Mapping[str, Any], context: InfobipContext, where: str
) -> MessageChange:
    """A reaction of WhatsApp, or that it was taken back."""
    about = object_of(message, "context", where)
    parties = _parties(WHATSAPP, result, context, where, optional_text_of(about, "groupId", where))
    subject = parties.message_key(text_of(about, "id", where))
    emoji = optional_text_of(message, "emoji", where)
    removed = message.get("action") == "REMOVED" or emoji is None
    change = "unreact" if removed else "react"
    return MessageChange(
        change_key=change_key(subject, change, text_of(result, "messageId", where)),
        message_key=subject,
        channel=WHATSAPP,
        account=parties.account,
        conversation_key=parties.conversation_key(),
        change="unreact" if removed else "react",
        emoji=None if removed else emoji,
        changed_at=moment_of_infobip(result, "receivedAt", where) or context.received_at,
        handles=parties.handles,
        raw_ref=context.raw_ref,
    )


def _viber_bot(
    name: str, result: Mapping[str, Any], message: Mapping[str, Any], context: InfobipContext, where: str
) -> list[Record]:
    """A Viber bot at Infobip: Viber's own event in other words."""
    viber = ViberContext(
        received_at=context.received_at,
        raw_ref=context.raw_ref,
        account=account_of(VIBER, text_of(result, "to", where)),
        default_region=context.default_region,
        keywords=context.keywords,
    )
    return records_from_viber(_Event(name, {"event": viber_bot_event(name, message, where)}), viber)


def _notification(result: Mapping[str, Any], context: InfobipContext) -> list[Record]:
    """What WhatsApp tells of a customer: the switch for marketing messages, a changed security code."""
    where = "Infobip notification"
    content = object_of(result, "content", where)
    preference = optional_text_of(content, "notificationMessagesStatus", where)
    theirs = optional_text_of(content, "from" if preference else "userNumber", where)
    customer = theirs or text_of(content, "userId", where)
    ours = text_of(result, "from", where)
    parties = parties_of(WHATSAPP, ours, customer, where, contact=content, portfolio_id=context.portfolio_id)
    told_at = moment_of_infobip(result, "createdAt", where)
    moment = told_at or context.received_at
    if preference is not None:
        decision = PREFERENCES.get(preference.lower())
        if decision is None:
            msg = f"{where}: preference {short_name(preference)} is not known"
            raise UnknownShapeError(msg)
        return list(_consents(decision, parties, "preference", moment, None, context))
    kind = short_name(text_of(content, "type", where))
    return [
        Message(
            message_key=parties.message_key(f"{kind}.{int(moment.timestamp() * 1000)}.{parties.customer.value}"),
            channel=WHATSAPP,
            account=parties.account,
            conversation_key=parties.conversation_key(),
            direction="inbound",
            kind="system",
            text=optional_text_of(content, "description", where),
            content={"type": kind},
            flags=flags_of(told_at, context.received_at),
            sent_at=moment,
            received_at=context.received_at,
            author_kind="system",
            handles=parties.handles,
            raw_ref=context.raw_ref,
        )
    ]


# -- The Conversations API ---------------------------------------------------------------------------------------------


def _listed(row: Mapping[str, Any], context: InfobipContext) -> list[Record]:
    """A message of a conversation, in or out, of the channels that are read here."""
    where = "Infobip conversation"
    name = text_of(row, "channel", where)
    if name not in INTEGRATIONS:
        return []  # the account's e-mail, live chat and Meta channels: their own taps read them
    direction = text_of(row, "direction", where)
    if direction not in {"INBOUND", "OUTBOUND"}:
        msg = f"{where}: direction {short_name(direction)} is not known"
        raise UnknownShapeError(msg)
    inbound = direction == "INBOUND"
    ours, theirs = (text_of(row, one, where) for one in (("to", "from") if inbound else ("from", "to")))
    parties = parties_of(channel_of(name, where), ours, theirs, where, portfolio_id=context.portfolio_id)
    sent_at = moment_of_infobip(row, "createdAt", where)
    if sent_at is None:
        msg = f"{where}: createdAt is missing"
        raise MissingFieldError(msg)
    said = said_in_conversation(row, where)
    message = Message(
        message_key=parties.message_key(text_of(row, "id", where)),
        channel=parties.channel,
        account=parties.account,
        conversation_key=parties.conversation_key(),
        direction="inbound" if inbound else "outbound",
        kind=said.kind,
        text=said.text,
        attachments=said.attachments,
        content=said.details or None,
        flags=flags_of(sent_at, context.received_at),
        sent_at=sent_at,
        received_at=context.received_at,
        author_kind="customer" if inbound else "agent",
        handles=parties.handles,
        seen_by="poll",
        raw_ref=context.raw_ref,
    )
    return [message, *(_decided(message, parties, said, None, context) if inbound else [])]


def _seen_by(context: InfobipContext) -> Any:
    return "webhook" if re.match(r"delivery:", context.raw_ref) else "poll"


_RULES: Mapping[str, Callable[[Mapping[str, Any], InfobipContext], list[Record]]] = {
    "message": _message,
    "report": report,
    "seen": seen,
    "notification": _notification,
    "conversation_message": _listed,
}


PLATFORM = Platform(
    slug="infobip",
    name="Infobip",
    tap="taps.infobip:TapInfobip",
    mapping="mappings.from_infobip",
    webhook="taps.webhooks.infobip",
    sandbox="sandbox.infobip:InfobipApp",
    reads="SMS, WhatsApp, Viber and Apple Messages at Infobip, delivery and seen reports; the SMS inbox; conversations",
    sends="",
)
