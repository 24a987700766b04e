"""One WhatsApp event with what stands around it, and what every mapping of one needs: handles, keys, evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mappings.contact_points import normalize_whatsapp_id
from mappings.errors import MissingFieldError
from mappings.fields import PlatformEvent, id_of, moment_of, object_of, optional_object_of, optional_text_of
from mappings.ids import conversation_key, evidence_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Decision, Keywords
from mappings.records import Consent, Evidence, Handle, Strength

CHANNEL = "whatsapp"


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatsAppContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the delivery came.
        raw_ref: where its bytes are, e.g. ``delivery:17#3``.
        portfolio_id: the business portfolio, which scopes business-scoped user ids; the WABA does when ``None``.
        default_region: of phones that customers write without country code, e.g. ``"GB"``.
    """

    received_at: datetime
    raw_ref: str
    portfolio_id: str | None = None
    default_region: str | None = None
    keywords: Keywords = DEFAULT_KEYWORDS


class Event:
    """One event with what stands around it, read once."""

    def __init__(self, item: PlatformEvent, context: WhatsAppContext) -> None:
        self.context = context
        self.kind = item.kind
        self.where = f"WhatsApp {item.kind}"
        self.payload = item.payload
        self.body = object_of(item.payload, "item", self.where)
        self.metadata = object_of(item.payload, "metadata", self.where)
        self.account = id_of(self.metadata, "phone_number_id", self.where)
        self.contact = optional_object_of(item.payload, "contact", self.where) or {}

    @property
    def scope(self) -> str:
        """What scopes a business-scoped user id."""
        return self.context.portfolio_id or id_of(self.payload, "waba_id", self.where)

    def moment(self) -> datetime:
        """The platform's time of the event."""
        return moment_of(self.body.get("timestamp"), "timestamp", self.where)

    def user(self, value: str) -> Handle:
        """A business-scoped user id as a handle."""
        return Handle(kind="whatsapp_user", scope=self.scope, value=value)

    def find_handles(self, *sources: tuple[Mapping[str, Any], str, str]) -> list[Handle]:
        """User id, then phone, each from the first source (payload, its user id field, its phone field) that has one.

        Raises:
            MissingFieldError: what stands for the phone is none, and there is no user id to go by.
        """
        user_ids = [optional_text_of(source, user, self.where) for source, user, _ in sources]
        phones = [optional_text_of(source, phone, self.where) for source, _, phone in sources]
        user_id = next((one for one in user_ids if one), None)
        raw_phone = next((one for one in phones if one), None)
        phone = None if raw_phone is None else normalize_whatsapp_id(raw_phone)
        if raw_phone and not phone and not user_id:
            msg = f"{self.where}: what stands for the customer's phone number is none"
            raise MissingFieldError(msg)
        found = [self.user(user_id)] if user_id else []
        return [*found, Handle(kind="phone", value=phone)] if phone else found

    def handles(self, *sources: tuple[Mapping[str, Any], str, str]) -> list[Handle]:
        """The same, and raises `MissingFieldError` when there is neither."""
        found = self.find_handles(*sources)
        if not found:
            msg = f"{self.where}: there is neither a phone number nor a user id"
            raise MissingFieldError(msg)
        return found

    def customer(self) -> list[Handle]:
        """The handles of the customer who sent the event."""
        return self.handles((self.body, "from_user_id", "from"), (self.contact, "user_id", "wa_id"))

    def message_key(self, wamid: str) -> str:
        """The key of a message of this account."""
        return message_key(CHANNEL, self.account, wamid)

    def conversation_key(self, handles: list[Handle]) -> str:
        """The key of the thread: with a group if there is one, else with the first handle."""
        group = optional_text_of(self.body, "group_id", self.where)
        return conversation_key(CHANNEL, self.account, group or handles[0].value)

    def evidence(self, method: str, strength: Strength, handles: list[Handle], told: str | None = None) -> Evidence:
        """Handles seen together; `told` makes it an observation of its own, else the same handles are one."""
        return Evidence(
            evidence_key=evidence_key(
                CHANNEL, self.account, method, told or "|".join(handle.key for handle in handles)
            ),
            method=method,
            strength=strength,
            channel=CHANNEL,
            account=self.account,
            handles=handles,
            observed_at=self.moment(),
            raw_ref=self.context.raw_ref,
        )

    def consents(self, decision: Decision, source: str, handles: list[Handle], told_in: str | None) -> list[Consent]:
        """The decision for each of the customer's handles: whichever we write to later, the "no" is found."""
        return [
            Consent(
                handle_key=handle.key,
                handle=handle,
                channel=CHANNEL,
                account=self.account,
                purpose="promotional",
                status=decision,
                source=source,
                source_message_key=told_in,
                decided_at=self.moment(),
                raw_ref=self.context.raw_ref,
            )
            for handle in handles
        ]


def short_name(value: Any) -> str:
    """A code of the vendor's, fit for a message or a log: short and of harmless characters."""
    return re.sub(r"[^\w.-]", "?", str(value))[:60]
