"""One Chatwoot event with its parties: the account, the conversation, the visitor; and its times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from mappings.contact_points import clean_name
from mappings.errors import MissingFieldError
from mappings.fields import id_of, moment_of, object_of, optional_object_of, optional_text_of
from mappings.from_chatwoot.codes import CHANNEL
from mappings.ids import conversation_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Keywords
from mappings.records import Handle, Profile

VerifiedBy = Literal["none", "identifier", "all"]

_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d{1,9})?) ?(Z|UTC|[+-]\d\d:?\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatwootContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the delivery came, or the API was asked.
        raw_ref: where its bytes are, e.g. ``delivery:17#0``.
        installation: which Chatwoot, e.g. ``app.chatwoot.com``: accounts are numbered anew in each.
        inboxes: ids of the inboxes to read; empty: those that are chat on a website.
        verified_by: what of a contact with ``hmac_verified`` counts as verified; see `taps.chatwoot`.
    """

    received_at: datetime
    raw_ref: str
    installation: str
    inboxes: frozenset[str] = frozenset()
    verified_by: VerifiedBy = "none"
    keywords: Keywords = DEFAULT_KEYWORDS
    seen_by: Literal["webhook", "poll"] = "webhook"


def channel_of(conversation: Mapping[str, Any]) -> str | None:
    """The kind of inbox: beside the conversation in a webhook, in ``meta`` by the API."""
    meta = optional_object_of(conversation, "meta", "Chatwoot conversation") or {}
    where = "Chatwoot conversation"
    return optional_text_of(conversation, "channel", where) or optional_text_of(meta, "channel", where)


def moment_of_chatwoot(value: Any, name: str, where: str) -> datetime:
    """A time as Chatwoot writes it: seconds (API), ISO 8601 (webhook), or ``2020-03-03 13:05:57 UTC`` (older ones).

    Raises:
        MissingFieldError: it is absent or none of these.
    """
    match = _ISO.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return moment_of(value, name, where)
    day, time, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{'+00:00' if zone in {'Z', 'UTC'} else zone}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        msg = f"{where}: {name} is not a time"
        raise MissingFieldError(msg) from None


@dataclass(frozen=True, slots=True)
class Thread:
    """One conversation: the account, the visitor, and its number."""

    account: str
    number: str
    contact: Mapping[str, Any]
    handle: Handle

    @property
    def key(self) -> str:
        """The key of the thread."""
        return conversation_key(CHANNEL, self.account, self.number)

    def message_key(self, number: str) -> str:
        """The key of a message of this account."""
        return message_key(CHANNEL, self.account, number)


def thread_of(payload: Mapping[str, Any], context: ChatwootContext) -> Thread:
    """The conversation of an event; raises `MissingFieldError` when it has no number or no visitor."""
    where = "Chatwoot conversation"
    conversation = object_of(payload, "conversation", where)
    contact = object_of(object_of(conversation, "meta", where), "sender", where)
    account = account_of(payload, context)
    return Thread(account, id_of(conversation, "id", where), contact, handle_of(contact, account))


def account_of(payload: Mapping[str, Any], context: ChatwootContext) -> str:
    """The account, with the installation that numbers it."""
    return f"{context.installation}/{id_of(object_of(payload, 'account', 'Chatwoot event'), 'id', 'Chatwoot account')}"


def handle_of(contact: Mapping[str, Any], account: str) -> Handle:
    """A contact, known within its account alone."""
    return Handle(kind="chatwoot_contact", scope=account, value=id_of(contact, "id", "Chatwoot contact"))


def profile_of(contact: Mapping[str, Any], conversation: Mapping[str, Any] | None = None) -> Profile | None:
    """What Chatwoot shows of a contact."""
    where = "Chatwoot contact"
    named = optional_object_of(conversation or {}, "additional_attributes", where) or {}
    profile = Profile(
        name=clean_name(optional_text_of(contact, "name", where)),
        locale=optional_text_of(named, "browser_language", where),
        picture_url=optional_text_of(contact, "thumbnail", where),
    )
    return profile if profile != Profile() else None
