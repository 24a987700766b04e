"""One Messenger event with what stands around it, and what every mapping of one needs: parties, keys, records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mappings.fields import PlatformEvent, chosen, id_of, moment_of, object_of
from mappings.ids import conversation_key, evidence_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Decision, Keywords
from mappings.meta_graph import AD_REFERRAL
from mappings.records import AuthorKind, Consent, Direction, Evidence, Handle, Message, MessageKind, Origin, Strength

CHANNEL = "messenger"

_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessengerContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the delivery came.
        raw_ref: where its bytes are, e.g. ``delivery:17#3``.
        app_id: ours; an echo of ours without our token was sent by a bot under the same app.
        account_link_secret: key of the signature on authorization codes; see `handle_of_authorization_code`.
    """

    received_at: datetime
    raw_ref: str
    app_id: str | None = None
    account_link_secret: str | None = field(default=None, repr=False)
    keywords: Keywords = DEFAULT_KEYWORDS


class Event:
    """One event with what stands around it."""

    def __init__(self, item: PlatformEvent, context: MessengerContext) -> None:
        self.context = context
        self.where = f"Messenger {item.kind}"
        self.page_id = id_of(item.payload, "page_id", self.where)
        self.body = object_of(item.payload, "event", self.where)
        self.standby = item.payload.get("standby") is True
        self.part = object_of(self.body, "message" if item.kind == "message_echo" else item.kind, self.where)

    def moment(self) -> datetime:
        """The platform's time of the event."""
        return moment_of(self.body.get("timestamp"), "timestamp", self.where)

    def party(self, name: str) -> Handle:
        """The ``sender`` or ``recipient`` as a handle; from a plugin's checkbox it has a ``user_ref`` instead."""
        party = object_of(self.body, name, self.where)
        if party.get("id") is None and party.get("user_ref") is not None:
            return Handle(kind="messenger_user_ref", scope=self.page_id, value=id_of(party, "user_ref", self.where))
        return Handle(kind="messenger_psid", scope=self.page_id, value=id_of(party, "id", self.where))

    def customer(self) -> Handle:
        """Whoever of sender and recipient is not the page."""
        sender = self.party("sender")
        return self.party("recipient") if sender.value == self.page_id else sender

    def from_page(self) -> bool:
        """Whether the page did it."""
        return self.party("sender").value == self.page_id

    def message_key(self, mid: str) -> str:
        """The key of a message of this page."""
        return message_key(CHANNEL, self.page_id, mid)

    def conversation_key(self, customer: Handle) -> str:
        """The key of the thread with one customer."""
        return conversation_key(CHANNEL, self.page_id, customer.value)

    def message(
        self,
        mid: str,
        kind: MessageKind,
        direction: Direction,
        *,
        author_kind: AuthorKind,
        referral: Mapping[str, Any] | None = None,
        flags: tuple[str, ...] = (),
        content: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Message:
        """A message with all that every kind of it shares."""
        sent_at = self.moment()
        customer = self.customer()
        origin: Origin = "ad" if referral and referral.get("source") == "ADS" else "direct"
        ahead = ("clock_ahead",) if sent_at - self.context.received_at > _AHEAD else ()
        return Message(
            message_key=self.message_key(mid),
            channel=CHANNEL,
            account=self.page_id,
            conversation_key=self.conversation_key(customer),
            direction=direction,
            kind=kind,
            content=dict(content) if content else None,
            origin=origin,
            origin_detail=chosen(referral, AD_REFERRAL) if referral else None,
            flags=[*(("standby",) if self.standby else ()), *flags, *ahead],
            sent_at=sent_at,
            received_at=self.context.received_at,
            author_kind=author_kind,
            handles=[customer],
            raw_ref=self.context.raw_ref,
            **more,
        )

    def evidence(self, method: str, strength: Strength, handles: list[Handle], told: str) -> Evidence:
        """Handles seen together."""
        return Evidence(
            evidence_key=evidence_key(CHANNEL, self.page_id, method, told),
            method=method,
            strength=strength,
            channel=CHANNEL,
            account=self.page_id,
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
            channel=CHANNEL,
            account=self.page_id,
            purpose="promotional",
            status=decision,
            source=source,
            source_message_key=told_in,
            decided_at=self.moment(),
            raw_ref=self.context.raw_ref,
        )
