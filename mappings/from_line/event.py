"""One LINE event with what stands around it, and what every mapping of one needs: parties, keys, records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mappings.errors import MissingFieldError
from mappings.fields import PlatformEvent, moment_of, object_of, optional_object_of, optional_text_of, text_of
from mappings.from_line.codes import GROUPS
from mappings.ids import conversation_key, evidence_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Decision, Keywords
from mappings.records import AuthorKind, Consent, Evidence, Handle, Message, MessageKind, Purpose, Strength

CHANNEL = "line"

_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the delivery came.
        raw_ref: where its bytes are, e.g. ``delivery:17#3``.
        provider_id: the provider, which scopes user ids; the bot does when ``None``.
        account_link_secret: key of the signature on nonces; see `mappings.from_line.account_links`.
    """

    received_at: datetime
    raw_ref: str
    provider_id: str | None = None
    account_link_secret: str | None = field(default=None, repr=False)
    keywords: Keywords = DEFAULT_KEYWORDS


class Event:
    """One event with what stands around it.

    Attributes:
        account: the bot's own user id.
        customer: who did it. A member of a group whose app does not tell ids is known as the group itself.
        group: the id of the group or room in which it was done.
    """

    def __init__(self, item: PlatformEvent, context: LineContext) -> None:
        self.context = context
        self.kind = item.kind
        self.where = f"LINE {item.kind}"
        self.account = text_of(item.payload, "destination", self.where)
        self.body = object_of(item.payload, "event", self.where)
        source = object_of(self.body, "source", self.where)
        user_id = optional_text_of(source, "userId", self.where)
        id_field, group_kind = GROUPS.get(str(source.get("type")), ("", ""))
        self.group = text_of(source, id_field, self.where) if id_field else None
        self.is_person = user_id is not None
        if user_id is not None:
            self.customer = Handle(kind="line_user", scope=context.provider_id or self.account, value=user_id)
        elif self.group is not None:
            self.customer = Handle(kind=group_kind, scope=self.account, value=self.group)
        else:
            msg = f"{self.where}: it names nobody"
            raise MissingFieldError(msg)

    def part(self, name: str) -> dict[str, Any]:
        """The object in the event that says what happened."""
        return object_of(self.body, name, self.where)

    def optional_part(self, name: str) -> dict[str, Any]:
        """The same where older deliveries have none."""
        return optional_object_of(self.body, name, self.where) or {}

    def moment(self) -> datetime:
        """The platform's time of the event: when it happened, also when it is delivered again."""
        return moment_of(self.body.get("timestamp"), "timestamp", self.where)

    def message_key(self, message_id: str) -> str:
        """The key of a message to this bot."""
        return message_key(CHANNEL, self.account, message_id)

    @property
    def conversation_key(self) -> str:
        """The key of the customer's thread with us. What they say in a group is a thread of its own: it is public."""
        parts = (self.group, self.customer.value) if self.group and self.is_person else (self.customer.value,)
        return conversation_key(CHANNEL, self.account, "/".join(part for part in parts if part))

    def own_id(self) -> str:
        """An id for what is no message: the event's own, else kind, moment and customer, the same in every repeat."""
        event_id = optional_text_of(self.body, "webhookEventId", self.where)
        return event_id or f"{self.kind}.{int(self.moment().timestamp() * 1000)}.{self.customer.value}"

    def message(
        self,
        message_id: str,
        kind: MessageKind,
        *,
        author_kind: AuthorKind = "customer",
        content: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Message:
        """An inbound message with all that every kind of it shares."""
        sent_at = self.moment()
        flags = {
            "standby": self.body.get("mode") == "standby",
            "group": self.group is not None,
            "clock_ahead": sent_at - self.context.received_at > _AHEAD,
        }
        return Message(
            message_key=self.message_key(message_id),
            channel=CHANNEL,
            account=self.account,
            conversation_key=self.conversation_key,
            direction="inbound",
            kind=kind,
            content={**(content or {}), **({"group": self.group} if self.group else {})} or None,
            flags=[name for name, holds in flags.items() if holds],
            sent_at=sent_at,
            received_at=self.context.received_at,
            author_kind=author_kind,
            handles=[self.customer],
            raw_ref=self.context.raw_ref,
            **more,
        )

    def evidence(self, method: str, strength: Strength, handles: list[Handle], told: str) -> Evidence:
        """Handles seen together."""
        return Evidence(
            evidence_key=evidence_key(CHANNEL, self.account, method, told),
            method=method,
            strength=strength,
            channel=CHANNEL,
            account=self.account,
            handles=handles,
            observed_at=self.moment(),
            raw_ref=self.context.raw_ref,
        )

    def consent(self, decision: Decision, source: str, told_in: str, purpose: Purpose = "promotional") -> Consent:
        """The customer's decision about being written to."""
        return Consent(
            handle_key=self.customer.key,
            handle=self.customer,
            channel=CHANNEL,
            account=self.account,
            purpose=purpose,
            status=decision,
            source=source,
            source_message_key=told_in,
            decided_at=self.moment(),
            raw_ref=self.context.raw_ref,
        )
