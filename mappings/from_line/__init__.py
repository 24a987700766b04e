"""LINE Messaging API webhooks as canonical records.

Shapes: github.com/line/line-openapi @6e4c2a2 webhook.yml (2026-07-01), documented, read 2026-11; ``messageEdited``:
github.com/line/line-openapi pull request 129 (merged 2026-07-07) and the models of line-bot-sdk 3.27.0, documented.
Deliveries without ``webhookEventId`` and ``deliveryContext``, and ``follow`` without a body, are in the sample files of
github.com/line/line-bot-sdk-python @e1fa933, observed. LINE tells no receipts and no reactions, and nothing of what
people answer in its own LINE Official Account Manager.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import PlatformEvent, chosen, optional_object_of, optional_text_of, text_of
from mappings.from_line.account_links import handle_of_nonce, sign_nonce
from mappings.from_line.codes import DUMMY_REPLY_TOKENS, IGNORED
from mappings.from_line.content import content_of
from mappings.from_line.event import CHANNEL, Event, LineContext
from mappings.from_line.profiles import profile_from_line
from mappings.ids import change_key
from mappings.platforms import Platform
from mappings.records import MessageChange, Record

__all__ = ["PLATFORM", "LineContext", "profile_from_line", "records_from_line", "sign_nonce"]


def records_from_line(item: PlatformEvent, context: LineContext) -> list[Record]:
    """The records of one event; none for `IGNORED` kinds and for the console's invented events.

    `item` is what `taps.webhooks.line.split` gives, e.g. kind ``message`` with payload::

        {"destination": "U0123456789abcdef0123456789abcdef",
         "event": {"type": "message", "timestamp": 1772366400000, "source": {"type": "user", "userId": "U89..."},
                   "webhookEventId": "01H8...", "message": {"id": "444573844083572737", "type": "text", "text": "Hi"}}}

    Raises:
        UnknownShapeError: no rule for this kind of event.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    if item.kind in IGNORED:
        return []
    rule = _RULES.get(item.kind)
    if rule is None:
        msg = f"LINE: no rule for an event of kind {item.kind}"
        raise UnknownShapeError(msg)
    body = optional_object_of(item.payload, "event", "LINE event") or {}
    token = body.get("replyToken")
    if isinstance(token, str) and token in DUMMY_REPLY_TOKENS:
        return []
    return rule(Event(item, context))


def _message(event: Event) -> list[Record]:
    """``message``: what a customer wrote."""
    part = event.part("message")
    content = content_of(part, event.where)
    replied_to = optional_text_of(part, "quotedMessageId", event.where)
    message = event.message(
        text_of(part, "id", event.where),
        content.kind,
        content=content.details,
        text=content.text,
        attachments=content.attachments,
        reply_to_key=event.message_key(replied_to) if replied_to else None,
    )
    decision = event.context.keywords.decision_of_text(content.text) if content.kind == "text" else None
    if decision is None or not event.is_person:
        return [message]
    return [message, event.consent(decision, "keyword", message.message_key)]


def _edit(event: Event) -> list[Record]:
    """``messageEdited``: the whole message as it reads now. Of two, the one with the later time holds."""
    part = event.part("message")
    return [_change(event, "edit", text_of(part, "id", event.where), optional_text_of(part, "text", event.where))]


def _unsend(event: Event) -> list[Record]:
    """``unsend``: the customer took a message back, and LINE asks us to forget what it said."""
    return [_change(event, "unsend", text_of(event.part("unsend"), "messageId", event.where))]


def _change(event: Event, change: Literal["edit", "unsend"], message_id: str, text: str | None = None) -> MessageChange:
    subject = event.message_key(message_id)
    return MessageChange(
        change_key=change_key(subject, change, event.own_id()),
        message_key=subject,
        channel=CHANNEL,
        account=event.account,
        conversation_key=event.conversation_key,
        change=change,
        text=text,
        changed_at=event.moment(),
        handles=[event.customer],
        raw_ref=event.context.raw_ref,
    )


def _postback(event: Event) -> list[Record]:
    """``postback``: a button of ours was pressed; the event does not say what was written on it."""
    part = event.part("postback")
    data = text_of(part, "data", event.where)
    content = {"answer": "postback", "payload": data, **chosen(part, ("params",))}
    message = event.message(event.own_id(), "answer", content=content)
    decision = event.context.keywords.decision_of_button(data) if event.is_person else None
    return [message, *([event.consent(decision, "template_answer", message.message_key)] if decision else [])]


def _follow(event: Event) -> list[Record]:
    """``follow``: the customer added the bot, or lifted a block. Being a friend is no consent to advertising."""
    content = {"type": "follow", **chosen(event.optional_part("follow"), ("isUnblocked",))}
    message = event.message(event.own_id(), "system", author_kind="system", content=content)
    return [message, event.consent("opted_in", "follow", message.message_key, "service")]


def _unfollow(event: Event) -> list[Record]:
    """``unfollow``: the customer blocked the bot. LINE takes what we send all the same and delivers nothing."""
    message = event.message(event.own_id(), "system", author_kind="system", content={"type": "unfollow"})
    return [message, *(event.consent("opted_out", "block", message.message_key, one) for one in _ALL_PURPOSES)]


_ALL_PURPOSES: tuple[Literal["service", "promotional"], ...] = ("service", "promotional")


def _account_link(event: Event) -> list[Record]:
    """``accountLink``: the customer logged in on our site from the chat."""
    part = event.part("link")
    result = text_of(part, "result", event.where)
    if result == "failed":  # somebody opened the link of another: nothing was proved
        return []
    if result != "ok":
        msg = f"{event.where}: result {result[:20]!r} is not known"
        raise UnknownShapeError(msg)
    if not event.is_person:
        msg = f"{event.where}: it names no user"
        raise MissingFieldError(msg)
    nonce = text_of(part, "nonce", event.where)
    handle, strength = handle_of_nonce(nonce, event.account, event.moment(), event.context.account_link_secret)
    told = f"{event.customer.value}|{handle.key}|{strength}"
    return [event.evidence("account_link", strength, [event.customer, handle], told)]


_RULES: Mapping[str, Callable[[Event], list[Record]]] = {
    "message": _message,
    "messageEdited": _edit,
    "unsend": _unsend,
    "follow": _follow,
    "unfollow": _unfollow,
    "postback": _postback,
    "accountLink": _account_link,
}


PLATFORM = Platform(
    slug="line",
    name="LINE",
    tap="taps.line:TapLine",
    mapping="mappings.from_line",
    webhook="taps.webhooks.line",
    sandbox="sandbox.line:LineApp",
    reads="messages, edits (groups), unsends, buttons, follows and blocks, account linking; names",
    sends="",
)
