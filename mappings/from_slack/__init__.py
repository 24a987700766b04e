"""Slack events, and messages of its history, as canonical records.

Shapes: docs.slack.dev/reference/events/message and its subtypes, /reaction_added, /channel_id_changed, read 2026-11,
documented. A message of the history (``conversations.history``, ``.replies``) has the same shape as its event, so both
are mapped by the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from mappings.errors import MissingFieldError, PayloadError, UnknownShapeError
from mappings.fields import PlatformEvent, object_of, optional_object_of, optional_text_of, text_of
from mappings.from_slack.codes import EMOJI, IGNORED, NOTICES, TOMBSTONE
from mappings.from_slack.content import content_of, short_name, text_of_message
from mappings.from_slack.event import (
    CHANNEL,
    Author,
    Event,
    Move,
    SlackContext,
    account_of_envelope,
    channel_at,
    moment_of_ts,
    team_of,
    ts_parts,
)
from mappings.from_slack.profiles import evidence_from_slack_user, profile_of, team_of_user
from mappings.ids import change_key
from mappings.platforms import Platform
from mappings.records import AuthorKind, ChangeKind, Message, MessageChange, Record

__all__ = [
    "PLATFORM",
    "Move",
    "SlackContext",
    "account_of_envelope",
    "channel_at",
    "customer_of_slack",
    "evidence_from_slack_user",
    "moment_of_ts",
    "records_from_slack",
    "team_of",
    "team_of_user",
    "ts_parts",
]

_AHEAD = timedelta(hours=1)


def records_from_slack(item: PlatformEvent, context: SlackContext) -> list[Record]:
    """The records of one event; none for `IGNORED` types, for notices and for what happens among ourselves.

    `item` is what `taps.webhooks.slack.split` gives, e.g. kind ``message`` with payload::

        {"envelope": {"team_id": "T0OURS", "api_app_id": "A0APP", "is_ext_shared_channel": True,
                      "authorizations": [{"team_id": "T0OURS", "user_id": "U0BOT", "is_bot": True}], ...},
         "event": {"type": "message", "channel": "C0SHARED", "user": "U0CUSTOMER", "team": "T0PARTNER",
                   "text": "Hello", "ts": "1772366400.000100", "channel_type": "channel"}}

    Raises:
        UnknownShapeError: no rule for this type of event.
        MissingFieldError: a field that is needed is absent or of the wrong type, or nothing tells which side wrote.
    """
    if item.kind in IGNORED:
        return []
    rule = _RULES.get(item.kind)
    if rule is None:
        event = item.payload.get("event")
        name = short_name(event.get("type")) if isinstance(event, dict) else "none"
        msg = f"Slack: no rule for an event of type {name}"
        raise UnknownShapeError(msg)
    return rule(Event(item, context))


def customer_of_slack(item: PlatformEvent, context: SlackContext) -> str | None:
    """The user id of the customer who wrote a message; ``None`` when one of us did, or when nothing tells."""
    try:
        event = Event(item, context)
        author = event.author(event.body)
    except PayloadError:
        return None
    return author.user if author.inbound and author.kind == "customer" else None


# -- Messages --------------------------------------------------------------------------------------------------------


def _message(event: Event) -> list[Record]:
    """``message`` and ``app_mention``: somebody wrote."""
    body, where = event.body, event.where
    subtype = optional_text_of(body, "subtype", where)
    if subtype in NOTICES:
        return []
    channel, ts = text_of(body, "channel", where), text_of(body, "ts", where)
    sent_at = moment_of_ts(ts, "ts", where)
    if subtype == TOMBSTONE:
        return _unsent(event, channel, ts, {}, ts)  # polled: when it was deleted is told nowhere
    author, token = event.author(body), event.token(body)
    if author.kind == "system" or not event.is_with_customers(
        channel, inbound=author.inbound, ours_by_token=token is not None
    ):
        return []
    thread = optional_text_of(body, "thread_ts", where)
    customer = author.user if author.inbound else event.addressee(channel, thread)
    content = content_of(body, where)
    key = event.message_key(channel, ts)
    about = optional_object_of(body, "user_profile", where)
    profile = profile_of(about, where) if about else None
    message = Message(
        message_key=key,
        channel=CHANNEL,
        account=event.account,
        conversation_key=event.conversation_key(channel, customer),
        direction="inbound" if author.inbound else "outbound",
        kind=content.kind,
        text=content.text,
        attachments=content.attachments,
        content=content.details or None,
        reply_to_key=event.message_key(channel, thread) if thread and thread != ts else None,
        origin="call" if content.kind == "call" else "direct",
        flags=[
            *content.flags,
            *(() if _is_direct(event, channel) else ("group",)),
            *(("clock_ahead",) if sent_at - event.context.received_at > _AHEAD else ()),
        ],
        sent_at=sent_at,
        received_at=event.context.received_at,
        author_kind=_author_kind(author, token),
        author_name=profile.name if profile else None,
        handles=[event.user(customer)] if customer else [],
        profile=profile if author.inbound else None,
        reply_token=token,
        platform_app_id=None if author.inbound else optional_text_of(body, "app_id", where),
        seen_by=event.context.seen_by,
        raw_ref=event.context.raw_ref,
    )
    records: list[Record] = [message]
    if author.kind == "customer" and author.user and not content.attachments:
        decision = event.context.keywords.decision_of_text(content.text)
        if decision is not None:
            records.append(event.consent(decision, event.user(author.user), key, sent_at))
    return records


def _author_kind(author: Author, token: str | None) -> AuthorKind:
    """Our bot's message with our token is what an agent wrote in the CRM."""
    return "agent" if author.kind == "bot" and not author.inbound and token else author.kind


def _is_direct(event: Event, channel: str) -> bool:
    return channel.startswith("D") or event.body.get("channel_type") == "im"


# -- Changes ---------------------------------------------------------------------------------------------------------


def _changed(event: Event) -> list[Record]:
    """``message_changed``: an edit by a person or an app; or a preview that Slack added to a link, which is none."""
    body, where = event.body, event.where
    new = object_of(body, "message", where)
    before = optional_object_of(body, "previous_message", where)
    channel, ts = text_of(body, "channel", where), text_of(new, "ts", where)
    if optional_text_of(new, "subtype", where) == TOMBSTONE:
        return _unsent(event, channel, ts, before or {}, _told_at(event))
    edited = _edited_ts(new, where)
    text = text_of_message(new, where)
    if before is not None and text == text_of_message(before, where):
        return []
    if before is None and edited is None:
        return []
    author = event.author(new)
    if author.kind == "system" or not event.is_with_customers(channel, inbound=author.inbound):
        return []
    if edited is None or (before is not None and edited == _edited_ts(before, where)):
        edited = _told_at(event)
    return [_change(event, channel, ts, "edit", edited, author, edited, text=text)]


def _deleted(event: Event) -> list[Record]:
    """``message_deleted``: a message is gone. Who removed it is not told; it counts as its writer's doing."""
    body, where = event.body, event.where
    before = optional_object_of(body, "previous_message", where) or {}
    channel, ts = text_of(body, "channel", where), text_of(body, "deleted_ts", where)
    return _unsent(event, channel, ts, before, _told_at(event))


def _unsent(event: Event, channel: str, ts: str, before: Mapping[str, Any], when: str) -> list[Record]:
    try:
        author = event.author(before) if before else None
    except MissingFieldError:  # the deletion counts, whoever it was
        author = None
    if author is not None and author.kind == "system":
        return []
    if not event.is_with_customers(channel, inbound=author is not None and author.inbound):
        return []
    return [_change(event, channel, ts, "unsend", ts, author, when)]


def _reaction(event: Event) -> list[Record]:
    """``reaction_added`` and ``reaction_removed``; of a file: no record.

    The event tells nothing of the person but the id. Somebody of whom nothing else is known counts as a customer
    without a name: the reaction is shown, and no person is made of it.
    """
    body, where = event.body, event.where
    target = object_of(body, "item", where)
    if target.get("type") != "message":
        return []
    channel, ts = text_of(target, "channel", where), text_of(target, "ts", where)
    user, name = text_of(body, "user", where), text_of(body, "reaction", where)
    when = text_of(body, "event_ts", where)
    side = event.is_customer(user)
    if not event.is_with_customers(channel, inbound=side is True):
        return []
    author = None if side is None else Author("customer" if side else "agent", inbound=side, user=user)
    change: ChangeKind = "react" if event.body.get("type") == "reaction_added" else "unreact"
    plain = name.partition("::")[0]
    return [_change(event, channel, ts, change, f"{user}:{name}:{when}", author, when,
                    emoji=EMOJI.get(plain, f":{short_name(plain)}:"))]  # fmt: skip


def _change(
    event: Event,
    channel: str,
    ts: str,
    change: ChangeKind,
    discriminator: str,
    author: Author | None,
    when: str,
    *,
    text: str | None = None,
    emoji: str | None = None,
) -> MessageChange:
    """One change. What one of us changed names no customer: the message that it is about does."""
    customer = author.user if author and author.inbound else None
    key = event.message_key(channel, ts)
    return MessageChange(
        change_key=change_key(key, change, discriminator),
        message_key=key,
        channel=CHANNEL,
        account=event.account,
        conversation_key=event.conversation_key(channel, customer) if customer else None,
        change=change,
        text=text,
        emoji=emoji,
        author_kind=author.kind if author else "customer",
        changed_at=moment_of_ts(when, "event_ts", event.where),
        handles=[event.user(customer)] if customer else [],
        raw_ref=event.context.raw_ref,
    )


def _told_at(event: Event) -> str:
    """When a change happened: ``event_ts``, or the ``ts`` of the hidden message that tells it."""
    return text_of(event.body, "event_ts" if event.body.get("event_ts") else "ts", event.where)


def _edited_ts(message: Mapping[str, Any], where: str) -> str | None:
    edited = optional_object_of(message, "edited", where)
    return None if edited is None else text_of(edited, "ts", where)


# -- People ----------------------------------------------------------------------------------------------------------


def _user_change(event: Event) -> list[Record]:
    """``user_change``: somebody has another name or address. Of our own people nothing is kept."""
    user = object_of(event.body, "user", event.where)
    if event.is_customer(text_of(user, "id", event.where), team_of_user(user)) is not True:
        return []
    return list(
        evidence_from_slack_user(
            user,
            event.account,
            own_teams=event.own_teams,
            trusted_teams=event.context.trusted_teams,
            observed_at=event.context.received_at,
            raw_ref=event.context.raw_ref,
        )
    )


def _channel_moved(event: Event) -> list[Record]:
    """``channel_id_changed`` changes no record: the tap keeps the new id, and keys of old messages stay as they are."""
    text_of(event.body, "old_channel_id", event.where)
    text_of(event.body, "new_channel_id", event.where)
    return []


_RULES: Mapping[str, Callable[[Event], list[Record]]] = {
    "message": _message,
    "message_changed": _changed,
    "message_deleted": _deleted,
    "reaction_added": _reaction,
    "reaction_removed": _reaction,
    "user_change": _user_change,
    "channel_id_changed": _channel_moved,
}

PLATFORM = Platform(
    slug="slack",
    name="Slack",
    tap="taps.slack:TapSlack",
    mapping="mappings.from_slack",
    webhook="taps.webhooks.slack",
    sandbox="sandbox.slack:SlackApp",
    reads="messages with threads and files, edits, deletions, reactions, names and e-mail addresses; full history",
    sends="",
)
