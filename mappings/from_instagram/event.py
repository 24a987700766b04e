"""One Instagram event with what stands around it, and what every mapping of one needs: parties, keys, records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mappings.fields import PlatformEvent, chosen, id_of, moment_of, object_of
from mappings.ids import conversation_key, evidence_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Decision, Keywords
from mappings.meta_graph import AD_REFERRAL
from mappings.records import AuthorKind, Consent, Direction, Evidence, Handle, Message, MessageKind, Origin

CHANNEL = "instagram"
HANDLE_KIND = "instagram_igsid"

_AHEAD = timedelta(hours=1)
_PART_OF = {"message_echo": "message", "message_deleted": "message"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InstagramContext:
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


def handle_of(account_id: str, igsid: str) -> Handle:
    """A customer: the id is the same in chat and comments, and valid for this account only."""
    return Handle(kind=HANDLE_KIND, scope=account_id, value=igsid)


class Event:
    """One chat event with what stands around it."""

    def __init__(self, item: PlatformEvent, context: InstagramContext) -> None:
        self.context = context
        self.where = f"Instagram {item.kind}"
        self.account_id = id_of(item.payload, "account_id", self.where)
        self.body = object_of(item.payload, "event", self.where)
        self.standby = item.payload.get("standby") is True
        self.part = object_of(self.body, _PART_OF.get(item.kind, item.kind), self.where)
        self.is_echo = self.part.get("is_echo") is True
        self.is_self = self.body.get("is_self") is True or self.part.get("is_self") is True

    def moment(self) -> datetime:
        """The platform's time of the event."""
        return moment_of(self.body.get("timestamp"), "timestamp", self.where)

    def customer(self) -> Handle:
        """Whoever of sender and recipient is not the account.

        An echo has them swapped, and so has what the account does to itself (`is_self`): the customer is the
        recipient. Where neither is the account (its id in ``entry`` can be another one than in the events), the flag
        decides.
        """
        sender = id_of(object_of(self.body, "sender", self.where), "id", self.where)
        if sender == self.account_id or self.is_echo:
            sender = id_of(object_of(self.body, "recipient", self.where), "id", self.where)
        return handle_of(self.account_id, sender)

    def from_account(self) -> bool:
        """Whether the account did it, and not one of its customers (or the account in a customer's place)."""
        if self.is_echo:
            return True
        sender = id_of(object_of(self.body, "sender", self.where), "id", self.where)
        return sender == self.account_id and not self.is_self

    def message_key(self, mid: str) -> str:
        """The key of a message of this account."""
        return message_key(CHANNEL, self.account_id, mid)

    def conversation_key(self, customer: Handle) -> str:
        """The key of the chat with one customer."""
        return conversation_key(CHANNEL, self.account_id, customer.value)

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
        **more: Any,
    ) -> Message:
        """A message with all that every kind of it shares."""
        sent_at = self.moment()
        customer = self.customer()
        if referral and referral.get("source") == "ADS":
            origin = "ad"
        detail = {**(origin_detail or {}), **(chosen(referral, AD_REFERRAL) if referral else {})}
        ahead = sent_at - self.context.received_at > _AHEAD
        flags = (("standby", self.standby), ("self", self.is_self), ("clock_ahead", ahead))
        return Message(
            message_key=self.message_key(mid),
            channel=CHANNEL,
            account=self.account_id,
            conversation_key=self.conversation_key(customer),
            direction=direction,
            kind=kind,
            content=dict(content) if content else None,
            origin=origin,
            origin_detail=detail or None,
            flags=[name for name, holds in flags if holds],
            sent_at=sent_at,
            received_at=self.context.received_at,
            author_kind=author_kind,
            handles=[customer],
            raw_ref=self.context.raw_ref,
            **more,
        )

    def claim(self, method: str, told: Handle, told_in: str) -> Evidence:
        """What the customer says of themselves, and nobody has checked."""
        return Evidence(
            evidence_key=evidence_key(CHANNEL, self.account_id, method, told_in),
            method=method,
            strength="claimed",
            channel=CHANNEL,
            account=self.account_id,
            handles=[self.customer(), told],
            observed_at=self.moment(),
            raw_ref=self.context.raw_ref,
        )

    def consent(self, decision: Decision, source: str, told_in: str | None) -> Consent:
        """The customer's decision about advertising."""
        customer = self.customer()
        return Consent(
            handle_key=customer.key,
            handle=customer,
            channel=CHANNEL,
            account=self.account_id,
            purpose="promotional",
            status=decision,
            source=source,
            source_message_key=told_in,
            decided_at=self.moment(),
            raw_ref=self.context.raw_ref,
        )
