"""What the archive makes of what it was told, in whatever order and however often.

Everything here is pure, and every ``join`` is commutative, associative and idempotent: webhook and poll, send and echo,
a receipt before its message, the same thing five times, all end in the same record. Where two sources contradict each
other, a fixed order decides, never the time of arrival.

Words: a *sighting* is one `Message` as one source saw it (webhook, poll, send, import); the archive keeps one joined
sighting per source and tells the merged one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, cast

from pydantic_core import to_jsonable_python

from mappings import ids, policy
from mappings.records import (
    ArchivedMessage,
    Consent,
    Contact,
    Conversation,
    Handle,
    Message,
    MessageChange,
    Person,
    Receipt,
    ReceiptStatus,
)

SOURCES: tuple[str, ...] = ("webhook", "poll", "send", "import")
"""Who is believed first when sources contradict each other."""

OURS_FIRST: tuple[str, ...] = ("reply_key", "reply_token", "author_name", "author_kind", "text")
"""What our own sending knows better than the platform's echo of it."""

PLATFORM_TIME_FIRST: tuple[str, ...] = ("webhook", "poll", "import", "send")
"""Whose time of sending counts: the platform's own before our note of the moment of sending."""

TIME_OF_RECEIPT = "time_of_receipt"
"""Flag of a sighting whose platform told no time: another sighting that has one decides."""

STATUS_RANK: Mapping[str, int] = {
    "queued": 0,
    "unknown": 1,
    "accepted": 2,
    "sent": 3,
    "delivered": 4,
    "read": 5,
    "failed": 6,
    "refused": 7,
}
"""A message's status never moves down; failed and refused are final."""

REQUESTS_KEPT: Mapping[str, timedelta] = {"instagram": timedelta(days=30), "messenger": timedelta(days=30)}
"""How long a message request may lie idle before the channel's API has it no more.

Source: developers.facebook.com/documentation/business-messaging/messenger-platform/conversations (2026-02-11) and
developers.facebook.com/docs/instagram-platform/instagram-api-with-instagram-login/conversations-api (read 2026-11),
documented. That an answer makes a request an ordinary conversation is assumed.
"""

NOT_A_WORD: frozenset[str] = frozenset({"auto_reply", "bounce", "system"})
"""Flags of messages that no person wrote: they ask nothing and answer nothing."""

CONTENT_FIELDS: Mapping[str, Any] = {
    "text": None,
    "text_stripped": None,
    "text_stripped_by": None,
    "subject": None,
    "attachments": [],
    "content": None,
}
"""What an unsent message loses, and what is left in its place."""

_APART = {"handles", "conversation_key", "flags", "sent_at", "received_at", "raw_ref", "person_id", "kind", "seen_by"}

_BLANK: ArchivedMessage = cast(
    "Any", ArchivedMessage
).model_construct()  # what a message is before anything became of it

Role = Literal["in", "out", "none"]


class Watermark(NamedTuple):
    """Every own message of a conversation sent up to `up_to_at` has `status`, said the platform at `occurred_at`."""

    status: ReceiptStatus
    up_to_at: datetime
    occurred_at: datetime


class MessageFacts(NamedTuple):
    """What a conversation is derived from: one line per message."""

    sent_at: datetime
    role: Role
    unsent: bool = False
    request_folder: bool = False


# Messages


def join_sightings(sightings: Iterable[Message]) -> list[Message]:
    """One message per source, in the order of `SOURCES`; each the union of what that source said."""
    joined: dict[str, Message] = {}
    for sighting in sightings:
        before = joined.get(sighting.seen_by)
        joined[sighting.seen_by] = _tidy(sighting) if before is None else _join_messages(before, sighting)
    return [joined[source] for source in SOURCES if source in joined]


def is_same_mail(one: Message, other: Message) -> bool:
    """Whether two sightings under one Message-ID are one mail.

    Senders choose these ids, so two mails can share one: from a faulty program, or from somebody who wants a mail to
    take another's place. Copies of one mail agree in who wrote to whom, when, and what; of what we sent (only we know
    the token) the copy in Sent may read differently. A mail that was too large to fetch has no words to compare.
    """
    if one.reply_token is not None or other.reply_token is not None:
        return one.reply_token == other.reply_token
    if _mail_identity(one)[:-1] != _mail_identity(other)[:-1]:
        return False
    return bool({"oversized"} & {*one.flags, *other.flags}) or _mail_identity(one)[-1] == _mail_identity(other)[-1]


def key_of_another_mail(mail: Message) -> str:
    """The key for a mail whose Message-ID another mail has: the same whenever the same mail is read again."""
    parts = ids.parse_message_key(mail.message_key)
    digest = hashlib.sha256(json.dumps(_mail_identity(mail), sort_keys=True, default=str).encode()).hexdigest()[:16]
    return ids.message_key(parts.channel, parts.account, f"{parts.platform_message_id}#{digest}")


def merge_sightings(joined: Sequence[Message]) -> Message:
    """The one message that joined sightings (see `join_sightings`) tell together."""
    best = joined[0]
    if len(joined) == 1:
        return best
    by_source = {message.seen_by: message for message in joined}
    ours_first = sorted(joined, key=lambda message: message.seen_by != "send")
    values: dict[str, Any] = {}
    for name in Message.model_fields.keys() - _APART:
        order = ours_first if name in OURS_FIRST else joined
        values[name] = next((value for one in order if not _is_empty(value := getattr(one, name))), getattr(best, name))
    values["thread_ids"] = max((one.thread_ids for one in joined), key=_weight)
    values["origin"] = next((one.origin for one in joined if one.origin != "direct"), "direct")
    values["kind"] = next((one.kind for one in joined if one.kind != "unsupported"), "unsupported")
    first = next((one for one in joined if one.handles), best)
    values["handles"] = join_handles([first.handles, *(one.handles for one in joined)], head=first.handles[:1])
    values["conversation_key"] = first.conversation_key
    values["flags"] = sorted({flag for one in joined for flag in one.flags})
    told = [by_source[source] for source in PLATFORM_TIME_FIRST if source in by_source]
    timed = next((one for one in told if TIME_OF_RECEIPT not in one.flags), None)
    values["sent_at"] = (timed or told[0]).sent_at
    if timed is not None:
        values["flags"] = [flag for flag in values["flags"] if flag != TIME_OF_RECEIPT]
    arrival = next((one for one in joined if one.raw_ref or one.received_at), best)
    values["raw_ref"], values["received_at"] = arrival.raw_ref, arrival.received_at
    values["person_id"] = min((one.person_id for one in joined if one.person_id), default=None)
    return best.model_copy(update=values)


def fold_message(
    sightings: Sequence[Message],
    changes: Iterable[MessageChange] = (),
    receipts: Iterable[Receipt] = (),
    reply_receipts: Iterable[Receipt] = (),
    watermarks: Iterable[Watermark] = (),
    conversation_key: str | None = None,
) -> ArchivedMessage:
    """The message as the archive tells it.

    Args:
        sightings: joined, at least one.
        changes: all of this message.
        receipts: those whose subject is this message.
        reply_receipts: those of the reply that this message is; they count until the platform says something itself.
        watermarks: of its conversation.
        conversation_key: the final key, where it is derived (e-mail).
    """
    message = merge_sightings(sightings)
    if conversation_key is not None:
        message = message.model_copy(update={"conversation_key": conversation_key})
    values: dict[str, Any] = {}
    receipts, reply_receipts = list(receipts), list(reply_receipts)
    named = {receipt.reply_key for receipt in receipts} | {one.reply_key or one.subject_key for one in reply_receipts}
    values["reply_key"] = message.reply_key or min(filter(None, named), default=None)
    values |= _content_now(list(changes))
    values |= _status_of(message, receipts, reply_receipts, watermarks)
    # A copy costs a quarter of a construction, and all values were validated when they came in.
    return _BLANK.model_copy(update=vars(message) | values)


def _mail_identity(mail: Message) -> tuple[Any, ...]:
    """What every copy of a mail shares, its words last."""
    content = mail.content or {}
    words = (mail.text, [(one.kind, one.filename, one.size_bytes) for one in mail.attachments])
    return (
        mail.direction,
        mail.handles[0].key if mail.handles else None,
        content.get("to"),
        content.get("cc"),
        content.get("date_header") or mail.sent_at,
        mail.subject,
        words,
    )


def is_unsent(changes: Iterable[MessageChange]) -> bool:
    """Whether the message was taken back; its content must then be kept nowhere."""
    return any(change.change == "unsend" for change in changes)


def without_content(message: Message) -> Message:
    """`message` with everything gone that its author took back."""
    return message.model_copy(update=CONTENT_FIELDS)


def change_without_content(change: MessageChange) -> MessageChange:
    """`change` with the text gone that an edit brought."""
    return change.model_copy(update={"text": None}) if change.text is not None else change


def role_of(message: ArchivedMessage) -> Role:
    """Whether a message is the customer's word (in), an answer to it (out) or neither.

    Automatic mail, bounces and what the system writes are neither; so is a reply that did not get through.
    """
    if NOT_A_WORD.intersection(message.flags) or message.status in {"failed", "refused"}:
        return "none"
    if message.direction == "inbound" and message.author_kind == "customer":
        return "in"
    if message.direction == "outbound" and message.author_kind in {"agent", "bot"}:
        return "out"
    return "none"


def _content_now(changes: list[MessageChange]) -> dict[str, Any]:
    """What edits, reactions and an unsend leave of the message."""
    unsent_at = min((change.changed_at for change in changes if change.change == "unsend"), default=None)
    if unsent_at is not None:
        return {**CONTENT_FIELDS, "unsent_at": unsent_at}
    values: dict[str, Any] = {}
    edits = [change for change in changes if change.change == "edit"]
    if edits:
        last = max(edits, key=_change_order)
        values = {"text": last.text, "edited_at": last.changed_at, "text_stripped": None, "text_stripped_by": None}
    reactions: dict[str, MessageChange] = {}
    for change in changes:
        if change.change in {"react", "unreact"}:
            author = change.author_kind
            if author == "customer" and change.handles:
                author += change.handles[0].key  # type: ignore[assignment]  # a key of this dict only
            before = reactions.get(author)
            reactions[author] = change if before is None else max(before, change, key=_change_order)
    values["reactions"] = sorted(
        change.emoji for change in reactions.values() if change.change == "react" and change.emoji
    )
    return values


def _change_order(change: MessageChange) -> tuple[int, datetime, str]:
    return (-1 if change.sequence is None else change.sequence, change.changed_at, change.change_key)


def _status_of(
    message: Message, receipts: Iterable[Receipt], reply_receipts: Iterable[Receipt], watermarks: Iterable[Watermark]
) -> dict[str, Any]:
    own = [(receipt.status, receipt.occurred_at, receipt.reason) for receipt in receipts]
    if message.direction == "outbound":
        own += [(mark.status, mark.occurred_at, None) for mark in watermarks if message.sent_at <= mark.up_to_at]
    said = own or [(receipt.status, receipt.occurred_at, receipt.reason) for receipt in reply_receipts]
    if not said:
        return {}
    top = max(STATUS_RANK[status] for status, _, _ in said)
    status, status_at, _ = min((one for one in said if STATUS_RANK[one[0]] == top), key=lambda one: one[1])
    reason = min((reason for one, _, reason in said if one == status and reason), default=None)
    return {"status": status, "status_at": status_at, "status_reason": reason}


def _tidy(message: Message) -> Message:
    """`message` with its lists in the order that a join would give them."""
    handles, flags = join_handles([message.handles], head=message.handles[:1]), sorted(set(message.flags))
    if handles == message.handles and flags == message.flags:
        return message
    return message.model_copy(update={"handles": handles, "flags": flags})


def _join_messages(a: Message, b: Message) -> Message:
    """Two sightings of one source as one."""
    if a == b:
        return a
    values: dict[str, Any] = {
        name: _richer(getattr(a, name), getattr(b, name)) for name in Message.model_fields.keys() - _APART
    }
    values["kind"] = max(a.kind, b.kind, key=lambda kind: (kind != "unsupported", kind))
    values["origin"] = max(a.origin, b.origin, key=lambda origin: (origin != "direct", origin))
    head = min(a, b, key=_head_order)
    values["handles"] = join_handles([a.handles, b.handles], head=head.handles[:1])
    values["conversation_key"] = head.conversation_key
    values["flags"] = sorted({*a.flags, *b.flags})
    values["sent_at"] = min(a.sent_at, b.sent_at)
    arrival = min(a, b, key=_arrival_order)
    values["raw_ref"], values["received_at"] = arrival.raw_ref, arrival.received_at
    values["person_id"] = min(filter(None, (a.person_id, b.person_id)), default=None)
    return a.model_copy(update=values)


def _head_order(message: Message) -> tuple[bool, bool, str, str]:
    if not message.handles:
        return (True, True, "", message.conversation_key)
    return (False, *_handle_order(message.handles[0]), message.conversation_key)


def _arrival_order(message: Message) -> tuple[bool, str, bool, str]:
    at = message.received_at
    return (at is None, at.isoformat() if at else "", message.raw_ref is None, message.raw_ref or "")


# Handles


def join_handles(lists: Iterable[Sequence[Handle]], head: Sequence[Handle] = ()) -> list[Handle]:
    """Every handle once: the head first, the others by their keys.

    Args:
        lists: each with its own head (the sender) first.
        head: the head of the result; by default the lowest of the lists' heads, scoped ids (a platform's) first.
    """
    lists = [handles for handles in lists if handles]
    if not lists:
        return []
    if len(lists) == 1 and len(lists[0]) == 1:
        return list(lists[0])
    first = head[0] if head else min({handles[0] for handles in lists}, key=_handle_order)
    others = {handle for handles in lists for handle in handles} - {first}
    return [first, *(others if len(others) < 2 else sorted(others, key=lambda handle: handle.key))]


def _handle_order(handle: Handle) -> tuple[bool, str]:
    return (handle.scope is None, handle.key)


# Changes, receipts, consents, contacts


def join_changes(a: MessageChange, b: MessageChange) -> MessageChange:
    """One change told twice."""
    values: dict[str, Any] = {name: _richer(getattr(a, name), getattr(b, name)) for name in MessageChange.model_fields}
    values["handles"] = join_handles([a.handles, b.handles])
    values["changed_at"] = min(a.changed_at, b.changed_at)
    values["person_id"] = min(filter(None, (a.person_id, b.person_id)), default=None)
    return a.model_copy(update=values)


def join_receipts(a: Receipt, b: Receipt) -> Receipt:
    """Two receipts of one subject and status: the earliest; of watermarks the one that reaches furthest."""
    moment = min(a, b, key=_receipt_order)
    why = max(
        a,
        b,
        key=lambda one: (one.code is not None, one.reason is not None, one.code or "", one.reason or "", one.actor),
    )
    values = {name: _richer(getattr(a, name), getattr(b, name)) for name in ("conversation_key", "reply_key")}
    values["reply_token"] = _richer(a.reply_token, b.reply_token)
    values |= {name: getattr(why, name) for name in ("code", "reason", "actor")}
    return moment.model_copy(update=values)


def _receipt_order(receipt: Receipt) -> tuple[float, datetime, str]:
    reach = receipt.up_to_at.timestamp() if receipt.up_to_at else 0.0
    core = receipt.model_dump_json(exclude={"conversation_key", "reply_key", "reply_token", "code", "reason", "actor"})
    return (-reach, receipt.occurred_at, core)


def join_consents(a: Consent, b: Consent) -> Consent:
    """The later decision; of two at one time the "no"."""
    return max(a, b, key=lambda one: (one.decided_at, one.status == "opted_out", _canonical(one)))


def join_contacts(a: Contact, b: Contact) -> Contact:
    """The newer version of a CRM record; a deletion is final among versions of one time."""
    return max(a, b, key=lambda one: (one.modified_at, one.deleted, _canonical(one)))


# Conversations and persons


def derive_conversation(
    conversation_key: str,
    channel: str,
    account: str,
    facts: Iterable[MessageFacts],
    handles: Iterable[Sequence[Handle]] = (),
    subject: str | None = None,
    person_id: str | None = None,
    message_count: int | None = None,
) -> Conversation:
    """The conversation of these messages.

    What the customer took back asks for no answer any more, but it did open the window. Whether a conversation is a
    message request is not always told, so one that the account never answered may be one (`request_vanishes_at`).

    Args:
        facts: one per message, any order. Of many that differ in nothing but their time the first and the last will do,
            and the first one since the account last wrote.
        handles: the messages' handles, each list with its sender first.
        subject: of its first mail.
        person_id: whose it is.
        message_count: how many messages there are, where not all are among the `facts`.
    """
    facts = list(facts)
    last_inbound_at = max((one.sent_at for one in facts if one.role == "in"), default=None)
    last_outbound_at = max((one.sent_at for one in facts if one.role == "out"), default=None)
    unanswered_since = min(
        (
            one.sent_at
            for one in facts
            if one.role == "in" and not one.unsent and (last_outbound_at is None or one.sent_at > last_outbound_at)
        ),
        default=None,
    )
    flagged_at = max((one.sent_at for one in facts if one.request_folder), default=None)
    accepted_at = max((one.sent_at for one in facts if one.role != "none" and not one.request_folder), default=None)
    request_folder = flagged_at is not None and (accepted_at is None or accepted_at <= flagged_at)
    is_public = ids.is_public_thread(conversation_key)
    may_vanish = (request_folder or last_outbound_at is None) and unanswered_since is not None and not is_public
    return Conversation(
        conversation_key=conversation_key,
        channel=channel,
        account=account,
        person_id=person_id,
        handles=join_handles(handles),
        subject=subject,
        message_count=len(facts) if message_count is None else message_count,
        first_message_at=min((one.sent_at for one in facts), default=None),
        last_inbound_at=last_inbound_at,
        last_outbound_at=last_outbound_at,
        unanswered_since=unanswered_since,
        window_closes_at=None if is_public else _window(channel, last_inbound_at),
        request_folder=request_folder,
        request_vanishes_at=_request_vanishes_at(channel, last_inbound_at) if may_vanish else None,
    )


def derive_person(
    person_id: str,
    handles: Sequence[Handle],
    conversations: Iterable[Conversation],
    *,
    name: str | None = None,
    locale: str | None = None,
    shared_line: bool = False,
    consents: Iterable[Consent] = (),
) -> Person:
    """The golden record: who it is, the sum of the person's conversations, and where advertising is wanted.

    `unanswered_since` is the oldest of any channel: a reply on one channel does not answer a question on another.
    `window_closes_at` is the latest: until then there is a channel on which free text can be sent.

    Args:
        person_id: whose.
        handles: the person's.
        conversations: with those.
        name: the best known.
        locale: the best known.
        shared_line: whether several people use the handle.
        consents: the last decision of each handle of theirs, for each channel, account and purpose.
    """
    conversations = list(conversations)
    decisions = {(one.channel, one.status) for one in consents if one.purpose == "promotional"}
    opted_out = {channel for channel, status in decisions if status == "opted_out"}
    heard = max(((one.last_inbound_at, one.channel) for one in conversations if one.last_inbound_at), default=None)
    return Person(
        person_id=person_id,
        handles=list(handles),
        name=name,
        locale=locale,
        shared_line=shared_line,
        channels=sorted({one.channel for one in conversations}),
        last_inbound_at=heard[0] if heard else None,
        last_inbound_channel=heard[1] if heard else None,
        last_outbound_at=max((one.last_outbound_at for one in conversations if one.last_outbound_at), default=None),
        unanswered_since=min((one.unanswered_since for one in conversations if one.unanswered_since), default=None),
        window_closes_at=max((one.window_closes_at for one in conversations if one.window_closes_at), default=None),
        message_count=sum(one.message_count for one in conversations),
        opted_in=sorted({channel for channel, _ in decisions} - opted_out),
        opted_out=sorted(opted_out),
    )


def _window(channel: str, last_inbound_at: datetime | None) -> datetime | None:
    try:
        return policy.window_closes_at(channel, last_inbound_at)
    except OverflowError:  # a platform time in the year 9999: there is no such moment
        return None


def _request_vanishes_at(channel: str, last_inbound_at: datetime | None) -> datetime | None:
    kept = REQUESTS_KEPT.get(channel)
    try:
        return None if kept is None or last_inbound_at is None else last_inbound_at + kept
    except OverflowError:  # as above
        return None


# The order that decides between contradicting values


def _richer(a: Any, b: Any) -> Any:
    """The value that says more: something before nothing, longer before shorter, then by its text."""
    return max(a, b, key=_weight)


def _weight(value: Any) -> tuple[bool, int, str]:
    if _is_empty(value):
        return (False, int(value is not None), "")
    text = value if isinstance(value, str) else _canonical(value)
    return (True, len(text), text)


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _canonical(value: Any) -> str:
    return json.dumps(to_jsonable_python(value), sort_keys=True, ensure_ascii=False)
