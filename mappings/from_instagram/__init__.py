"""Instagram webhooks, and messages of the Conversations API, as canonical records.

Shapes: developers.facebook.com/docs/instagram-platform/webhooks/examples (2025-11-24) and .../self-messaging
(2026-03-15), documented. Quirks seen in public code that serves real traffic are marked observed where they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import (
    PlatformEvent,
    chosen,
    id_of,
    optional_object_of,
    optional_text_of,
    reply_token_of,
    storable,
    text_of,
)
from mappings.from_instagram.codes import IGNORED, REACTIONS
from mappings.from_instagram.comments import message_of_comment, message_of_mention
from mappings.from_instagram.content import Said, said_in
from mappings.from_instagram.event import CHANNEL, Event, InstagramContext
from mappings.from_instagram.poll import message_from_instagram_poll
from mappings.from_instagram.profiles import profile_from_instagram
from mappings.ids import change_key
from mappings.meta_graph import DASHBOARD_TEST_ID, given_contact
from mappings.platforms import Platform
from mappings.records import MessageChange, MessageKind, Receipt, Record

__all__ = [
    "PLATFORM",
    "InstagramContext",
    "message_from_instagram_poll",
    "profile_from_instagram",
    "records_from_instagram",
]


def records_from_instagram(item: PlatformEvent, context: InstagramContext) -> list[Record]:
    """The records of one event; none for `IGNORED` kinds and for the dashboard's test form.

    `item` is what `taps.webhooks.instagram.split` gives, e.g. kind ``message`` with payload::

        {"account_id": "17841405822304914", "standby": False, "entry_time": 1750000000000, "field": None,
         "event": {"sender": {"id": "8901234567890123"}, "recipient": {"id": "17841405822304914"},
                   "timestamp": 1750000000000, "message": {"mid": "aWdf...", "text": "Hello"}}}

    Raises:
        UnknownShapeError: no rule for this kind of event.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    rule = _RULES.get(item.kind)
    public = _PUBLIC.get(item.kind)
    is_test = item.payload.get("account_id") == DASHBOARD_TEST_ID or (
        rule is not None and item.payload.get("field") is not None
    )
    if item.kind in IGNORED or ((rule or public) and is_test):
        return []
    if public is not None:
        return [public(item, context)]
    if rule is None:
        msg = f"Instagram: no rule for an event of kind {item.kind}"
        raise UnknownShapeError(msg)
    return rule(Event(item, context))


# -- Messages --------------------------------------------------------------------------------------------------------


def _message(event: Event) -> list[Record]:
    """``message``: what a customer wrote; what the account wrote, should an echo come without its flag."""
    if event.from_account():
        return _echo(event)
    part, where = event.part, event.where
    text = optional_text_of(part, "text", where)
    said = said_in(part, where)
    quick = optional_object_of(part, "quick_reply", where)
    replied = optional_object_of(part, "reply_to", where) or {}
    story = optional_object_of(replied, "story", where)
    content, payload = said.content, None
    kind: MessageKind = _kind(said, text)
    if quick is not None:
        payload = optional_text_of(quick, "payload", where)
        kind, content = "answer", {**content, "answer": "quick_reply", **chosen(quick, ("payload",))}
    message = event.message(
        text_of(part, "mid", where),
        kind,
        "inbound",
        author_kind="customer",
        referral=optional_object_of(part, "referral", where),
        origin="mention" if said.story_mention is not None else "direct",
        origin_detail=said.story_mention or ({"story": chosen(story, ("id", "url"))} if story else None),
        content=content,
        text=text,
        attachments=said.attachments,
        reply_to_key=_replied_to(event, replied),
    )
    records: list[Record] = [message]
    if quick is not None:
        decision, source = event.context.keywords.decision_of_menu(text, payload), "template_answer"
        given = given_contact(text, payload)
        if given is not None:
            records.append(event.claim("quick_reply_contact", given, message.message_key))
    else:
        decision = event.context.keywords.decision_of_text(text if not said.attachments else None)
        source = "keyword"
    return [*records, *([event.consent(decision, source, message.message_key)] if decision else [])]


def _echo(event: Event) -> list[Record]:
    """``message`` with ``is_echo``: what the account sent: we, another app, or a person in the Instagram app."""
    part, where = event.part, event.where
    said = said_in(part, where)
    text = optional_text_of(part, "text", where)
    app_id = None if part.get("app_id") is None else id_of(part, "app_id", where)
    token = reply_token_of(part.get("metadata"))
    by_us = app_id is not None and app_id == event.context.app_id
    message = event.message(
        text_of(part, "mid", where),
        _kind(said, text),
        "outbound",
        author_kind="bot" if by_us and token is None else "agent",
        content=said.content,
        text=text,
        attachments=said.attachments,
        reply_to_key=_replied_to(event, optional_object_of(part, "reply_to", where) or {}),
        reply_token=token,
        platform_app_id=app_id,
    )
    return [message]


def _kind(said: Said, text: str | None) -> MessageKind:
    return said.kind or ("text" if text else "unsupported")


def _replied_to(event: Event, replied: Mapping[str, Any]) -> str | None:
    mid = optional_text_of(replied, "mid", event.where)
    return event.message_key(mid) if mid else None


def _postback(event: Event) -> list[Record]:
    """``postback``: an icebreaker, a menu entry or a button of ours was pressed. In standby it has no payload."""
    part, where = event.part, event.where
    title = optional_text_of(part, "title", where)
    message = event.message(
        optional_text_of(part, "mid", where) or _own_id(event, "postback"),
        "answer",
        "inbound",
        author_kind="customer",
        referral=optional_object_of(part, "referral", where),
        content={"answer": "postback", **chosen(part, ("payload",))},
        text=title,
    )
    decision = event.context.keywords.decision_of_menu(title, optional_text_of(part, "payload", where))
    return [message, *([event.consent(decision, "template_answer", message.message_key)] if decision else [])]


def _referral(event: Event) -> list[Record]:
    """``referral``: somebody with a chat came back by an ig.me link or an ad; no text."""
    message = event.message(
        _own_id(event, "referral"), "referral", "inbound", author_kind="customer", referral=event.part
    )
    return [message]


def _optin(event: Event) -> list[Record]:
    """``optin``: consent to marketing messages given or taken back; or an entry of another kind."""
    kind = optional_text_of(event.part, "type", event.where)
    if kind == "notification_messages":
        state = optional_text_of(event.part, "notification_messages_status", event.where)
        return [event.consent("opted_out" if state == "STOP_NOTIFICATIONS" else "opted_in", "preference", None)]
    content = {"optin": storable(kind) if kind else "plugin", **chosen(event.part, ("ref", "payload"))}
    message = event.message(_own_id(event, "optin"), "referral", "inbound", author_kind="customer", content=content)
    return [message]


def _own_id(event: Event, kind: str) -> str:
    """An id for what has none: kind, moment and customer are the same in every repeat."""
    return f"{kind}.{int(event.moment().timestamp() * 1000)}.{event.customer().value}"


# -- Changes and receipts --------------------------------------------------------------------------------------------


def _deleted(event: Event) -> list[Record]:
    """``message`` with ``is_deleted``: its author took it back; nothing of it may be shown any more."""
    return [_change(event, "unsend", repeat="1")]


def _reaction(event: Event) -> list[Record]:
    """``reaction``: an emoji on a message, or its removal (which names no emoji)."""
    action = text_of(event.part, "action", event.where)
    if action not in {"react", "unreact"}:
        msg = f"{event.where}: action {action[:20]!r} is not known"
        raise UnknownShapeError(msg)
    named = optional_text_of(event.part, "reaction", event.where)
    emoji = optional_text_of(event.part, "emoji", event.where) or REACTIONS.get(named or "")
    return [_change(event, "react" if action == "react" else "unreact", emoji=emoji)]


def _edit(event: Event) -> list[Record]:
    """``message_edit``: the new text. The counter is documented as a number and shown as text."""
    count = id_of(event.part, "num_edit", event.where)
    if not (count.isascii() and count.isdecimal() and len(count) < 10):
        msg = f"{event.where}: num_edit is not a number"
        raise MissingFieldError(msg)
    text = optional_text_of(event.part, "text", event.where)
    return [_change(event, "edit", text=text, sequence=int(count), repeat=count)]


def _change(
    event: Event, change: Literal["edit", "unsend", "react", "unreact"], *, repeat: str | None = None, **more: Any
) -> MessageChange:
    subject = event.message_key(text_of(event.part, "mid", event.where))
    moment = event.moment()
    customer = event.customer()
    return MessageChange(
        change_key=change_key(subject, change, repeat or f"{int(moment.timestamp() * 1000)}.{customer.value}"),
        message_key=subject,
        channel=CHANNEL,
        account=event.account_id,
        conversation_key=event.conversation_key(customer),
        change=change,
        author_kind="agent" if event.from_account() else "customer",
        changed_at=moment,
        handles=[customer],
        raw_ref=event.context.raw_ref,
        **more,
    )


def _read(event: Event) -> list[Record]:
    """``read``: one message of the account, by its id; there is no watermark."""
    customer = event.customer()
    receipt = Receipt(
        subject_key=event.message_key(text_of(event.part, "mid", event.where)),
        subject_kind="message",
        status="read",
        channel=CHANNEL,
        account=event.account_id,
        conversation_key=event.conversation_key(customer),
        occurred_at=event.moment(),
        raw_ref=event.context.raw_ref,
    )
    return [receipt]


_RULES: Mapping[str, Callable[[Event], list[Record]]] = {
    "message": _message,
    "message_echo": _echo,
    "message_deleted": _deleted,
    "message_edit": _edit,
    "read": _read,
    "reaction": _reaction,
    "postback": _postback,
    "referral": _referral,
    "optin": _optin,
}

_PUBLIC: Mapping[str, Callable[[PlatformEvent, InstagramContext], Record]] = {
    "comment": message_of_comment,
    "mention": message_of_mention,
}


PLATFORM = Platform(
    slug="instagram",
    name="Instagram",
    tap="taps.instagram:TapInstagram",
    mapping="mappings.from_instagram",
    webhook="taps.webhooks.instagram",
    sandbox="sandbox.instagram:InstagramApp",
    reads="messages, echoes, edits, unsent, reactions, reads, story replies, comments, mentions; gaps by polling",
    sends="",
)
