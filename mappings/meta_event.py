"""What the webhook events of Messenger and Instagram have in common: parties, keys, and the records that both give.

The two APIs have one shape, described in both platforms' pages of webhook events (documented; see `mappings.
from_messenger` and `mappings.from_instagram`); each names its account and tells what else it can say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import (
    PlatformEvent,
    chosen,
    id_of,
    moment_of,
    object_of,
    optional_object_of,
    optional_text_of,
    reply_token_of,
    storable,
    text_of,
)
from mappings.ids import change_key, conversation_key, evidence_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Decision, Keywords
from mappings.meta_graph import AD_REFERRAL
from mappings.records import (
    Attachment,
    AuthorKind,
    Consent,
    Direction,
    Evidence,
    Handle,
    Message,
    MessageChange,
    MessageKind,
    Origin,
    Record,
    Strength,
)

_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the delivery came.
        raw_ref: where its bytes are, e.g. ``delivery:17#3``.
        app_id: ours; an echo of ours without our token was sent by a bot under the same app.
    """

    received_at: datetime
    raw_ref: str
    app_id: str | None = None
    keywords: Keywords = DEFAULT_KEYWORDS


class MetaEvent:
    """One event with what stands around it; `part` is the object that tells what it is."""

    channel: ClassVar[str]
    display: ClassVar[str]
    account_field: ClassVar[str]
    """What the payload calls the account."""
    parts: ClassVar[Mapping[str, str]] = {"message_echo": "message", "message_deleted": "message"}
    """Kind -> key of the part, where the two differ."""

    def __init__(self, item: PlatformEvent, context: MetaContext) -> None:
        self.context = context
        self.where = f"{self.display} {item.kind}"
        self.account = id_of(item.payload, self.account_field, self.where)
        self.body = object_of(item.payload, "event", self.where)
        self.standby = item.payload.get("standby") is True
        self.part = object_of(self.body, self.parts.get(item.kind, item.kind), self.where)

    def customer(self) -> Handle:
        """Whoever of sender and recipient is not the account."""
        raise NotImplementedError

    def is_own(self) -> bool:
        """Whether the account did it, and not one of its customers."""
        raise NotImplementedError

    def moment(self) -> datetime:
        """The platform's time of the event."""
        return moment_of(self.body.get("timestamp"), "timestamp", self.where)

    def own_id(self, kind: str) -> str:
        """An id for what has none: kind, moment and customer are the same in every repeat."""
        return f"{kind}.{int(self.moment().timestamp() * 1000)}.{self.customer().value}"

    def message_key(self, mid: str) -> str:
        """The key of a message of this account."""
        return message_key(self.channel, self.account, mid)

    def replied_to(self) -> str | None:
        """The key of the message that this one answers."""
        replied = optional_object_of(self.part, "reply_to", self.where) or {}
        mid = optional_text_of(replied, "mid", self.where)
        return self.message_key(mid) if mid else None

    def conversation_key(self, customer: Handle) -> str:
        """The key of the chat with one customer."""
        return conversation_key(self.channel, self.account, customer.value)

    def message(
        self,
        mid: str,
        kind: MessageKind,
        direction: Direction,
        *,
        author_kind: AuthorKind,
        referral: Mapping[str, Any] | None = None,
        origin: Origin = "direct",
        origin_detail: Mapping[str, Any] | None = None,
        content: Mapping[str, Any] | None = None,
        flags: Sequence[str] = (),
        **more: Any,
    ) -> Message:
        """A message with all that every kind of it shares."""
        sent_at = self.moment()
        customer = self.customer()
        if referral and referral.get("source") == "ADS":
            origin = "ad"
        detail = {**(origin_detail or {}), **(chosen(referral, AD_REFERRAL) if referral else {})}
        ahead = sent_at - self.context.received_at > _AHEAD
        return Message(
            message_key=self.message_key(mid),
            channel=self.channel,
            account=self.account,
            conversation_key=self.conversation_key(customer),
            direction=direction,
            kind=kind,
            content=dict(content) if content else None,
            origin=origin,
            origin_detail=detail or None,
            flags=[*(["standby"] if self.standby else []), *flags, *(["clock_ahead"] if ahead else [])],
            sent_at=sent_at,
            received_at=self.context.received_at,
            author_kind=author_kind,
            handles=[customer],
            raw_ref=self.context.raw_ref,
            **more,
        )

    def change(
        self, change: Literal["edit", "unsend", "react", "unreact"], *, repeat: str | None = None, **more: Any
    ) -> MessageChange:
        """A change of the message that the part names."""
        subject = self.message_key(text_of(self.part, "mid", self.where))
        moment = self.moment()
        customer = self.customer()
        return MessageChange(
            change_key=change_key(subject, change, repeat or f"{int(moment.timestamp() * 1000)}.{customer.value}"),
            message_key=subject,
            channel=self.channel,
            account=self.account,
            conversation_key=self.conversation_key(customer),
            change=change,
            author_kind="agent" if self.is_own() else "customer",
            changed_at=moment,
            handles=[customer],
            raw_ref=self.context.raw_ref,
            **more,
        )

    def evidence(self, method: str, strength: Strength, handles: list[Handle], told: str) -> Evidence:
        """Handles seen together."""
        return Evidence(
            evidence_key=evidence_key(self.channel, self.account, method, told),
            method=method,
            strength=strength,
            channel=self.channel,
            account=self.account,
            handles=handles,
            observed_at=self.moment(),
            raw_ref=self.context.raw_ref,
        )

    def consent(self, decision: Decision, source: str, told_in: str | None) -> Consent:
        """The customer's decision about advertising."""
        customer = self.customer()
        return Consent(
            handle_key=customer.key,
            handle=customer,
            channel=self.channel,
            account=self.account,
            purpose="promotional",
            status=decision,
            source=source,
            source_message_key=told_in,
            decided_at=self.moment(),
            raw_ref=self.context.raw_ref,
        )


def records_of_echo(
    event: MetaEvent,
    kind: MessageKind | None,
    attachments: list[Attachment],
    content: Mapping[str, Any],
) -> list[Record]:
    """``message`` with ``is_echo``: what the account sent: we, another app, or a person in the platform's app.

    Args:
        event: the echo.
        kind: what its attachments make it, if they do.
        attachments: its files.
        content: what else the attachments say.
    """
    part, where = event.part, event.where
    text = optional_text_of(part, "text", where)
    app_id = None if part.get("app_id") is None else id_of(part, "app_id", where)
    token = reply_token_of(part.get("metadata"))
    by_us = app_id is not None and app_id == event.context.app_id
    message = event.message(
        text_of(part, "mid", where),
        kind or ("text" if text else "unsupported"),
        "outbound",
        author_kind="bot" if by_us and token is None else "agent",
        content=content,
        text=text,
        attachments=attachments,
        reply_to_key=event.replied_to(),
        reply_token=token,
        platform_app_id=app_id,
    )
    return [message]


def records_of_postback(event: MetaEvent) -> list[Record]:
    """``postback``: an icebreaker, a menu entry or a button of ours was pressed. In standby it has no payload."""
    part, where = event.part, event.where
    title = optional_text_of(part, "title", where)
    message = event.message(
        optional_text_of(part, "mid", where) or event.own_id("postback"),
        "answer",
        "inbound",
        author_kind="customer",
        referral=optional_object_of(part, "referral", where),
        content={"answer": "postback", **chosen(part, ("payload",))},
        text=title,
    )
    decision = event.context.keywords.decision_of_menu(title, optional_text_of(part, "payload", where))
    return [message, *([event.consent(decision, "template_answer", message.message_key)] if decision else [])]


def records_of_referral(event: MetaEvent) -> list[Record]:
    """``referral``: somebody with a chat came back by a link or an ad; no text."""
    mid = event.own_id("referral")
    return [event.message(mid, "referral", "inbound", author_kind="customer", referral=event.part)]


def records_of_optin(event: MetaEvent) -> list[Record]:
    """``optin``: consent to marketing messages given or taken back; or an entry of another kind."""
    kind = optional_text_of(event.part, "type", event.where)
    if kind == "notification_messages":
        state = optional_text_of(event.part, "notification_messages_status", event.where)
        return [event.consent("opted_out" if state == "STOP_NOTIFICATIONS" else "opted_in", "preference", None)]
    content = {"optin": storable(kind) if kind else "plugin", **chosen(event.part, ("ref", "payload"))}
    return [event.message(event.own_id("optin"), "referral", "inbound", author_kind="customer", content=content)]


def records_of_reaction(event: MetaEvent, emojis: Mapping[str, str | None]) -> list[Record]:
    """``reaction``: an emoji on a message, or its removal (which names no emoji); `emojis` by a reaction's name."""
    action = text_of(event.part, "action", event.where)
    if action not in {"react", "unreact"}:
        msg = f"{event.where}: action {action[:20]!r} is not known"
        raise UnknownShapeError(msg)
    named = optional_text_of(event.part, "reaction", event.where)
    emoji = optional_text_of(event.part, "emoji", event.where) or emojis.get(named or "")
    return [event.change("react" if action == "react" else "unreact", emoji=emoji)]


def records_of_edit(event: MetaEvent) -> list[Record]:
    """``message_edit``: the new text. The counter is documented as a number and seen as text."""
    count = id_of(event.part, "num_edit", event.where)
    if not (count.isascii() and count.isdecimal() and len(count) < 10):
        msg = f"{event.where}: num_edit is not a number"
        raise MissingFieldError(msg)
    text = optional_text_of(event.part, "text", event.where)
    return [event.change("edit", text=text, sequence=int(count), repeat=count)]
