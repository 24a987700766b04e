"""Counts what happened from the states of the platforms and of the CRM alone, not from what our code believes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mappings.policy import LIMITS

_NOT_MESSAGES = frozenset({"reaction", "edit", "revoke", "system"})


@dataclass(frozen=True, slots=True)
class Heard:
    """One message that a platform took from a customer.

    Attributes:
        words: what must be readable on the contact's record; ``None`` when the time alone must do (a sticker, or a
            message that was taken back).
        at: seconds since 1970.
    """

    channel: str
    words: str | None
    at: float


def heard_on_whatsapp(state: Mapping[str, Any], unsent: Iterable[str], edits: Mapping[str, str]) -> list[Heard]:
    """Customer messages on WhatsApp. `edits`: message id -> its text after the last edit."""
    gone = set(unsent)
    return [
        Heard("whatsapp", None if one["id"] in gone else edits.get(one["id"], one["text"]), one["at"])
        for one in state["customer_messages"]
        if one["kind"] not in _NOT_MESSAGES
    ]


def heard_on_messenger(state: Mapping[str, Any]) -> list[Heard]:
    """Customer messages on Messenger."""
    return [Heard("messenger", one["text"], one["at"]) for one in state["customer_messages"]]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many messages of customers are where they belong."""

    received: int
    on_records: int
    lost: int
    doubled: int
    persons: int
    persons_on_several_channels: int


def tally(heard: Sequence[Heard], communications: Sequence[Mapping[str, Any]]) -> Tally:
    """Find each message on the contacts' timelines.

    Args:
        heard: what the platforms took.
        communications: HubSpot's, each with ``properties`` and the ids of its contacts under ``contacts``.
    """
    rows = [_Row.of(one) for one in communications if one["contacts"]]
    free = set(range(len(rows)))
    found = lost = doubled = 0
    # Several can say the same at one moment, and what has no words is told by its time alone: each message takes the
    # nearest entry that is left, the most telling words first. What then says the same once more is a double; what says
    # something else is a note of the platform's.
    taken: set[tuple[str, str]] = set()
    for message in sorted(heard, key=lambda one: len(one.words or ""), reverse=True):
        near = [number for number in sorted(free) if rows[number].tells(message)]
        nearest = min(near, key=lambda number: abs(rows[number].at - message.at), default=None)
        found += nearest is not None
        lost += nearest is None
        if nearest is not None:
            free.remove(nearest)
            taken.add((rows[nearest].channel, rows[nearest].says))
            doubled += len(rows[nearest].contacts) - 1
    left = [
        number
        for number in free
        if (rows[number].channel, rows[number].says) in taken and any(rows[number].tells(one) for one in heard)
    ]
    doubled += sum(len(rows[number].contacts) for number in left)
    channels: dict[str, set[str]] = {}
    for row in rows:
        for contact in row.contacts:
            channels.setdefault(contact, set()).add(row.channel)
    return Tally(
        received=len(heard), on_records=found, lost=lost, doubled=doubled, persons=len(channels),
        persons_on_several_channels=sum(len(used) > 1 for used in channels.values()),
    )  # fmt: skip


_CHANNELS = {limits.name: slug for slug, limits in LIMITS.items()}
_SAME_MOMENT_SECONDS = 2.0
"""WhatsApp and mail tell whole seconds."""
_TIME_OF_RECEIPT_SECONDS = {"sms": 60.0, "apple": 60.0}
"""Channels whose webhooks tell no time: the entry has the time at which the webhook came."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One timeline entry, as HubSpot holds it."""

    body: str
    at: float
    contacts: tuple[str, ...]
    channel: str
    inbound: bool

    @property
    def says(self) -> str:
        """The body without the reference at its end, which every entry has its own of."""
        return self.body.rpartition("<p>ref ")[0] or self.body

    def tells(self, message: Heard) -> bool:
        """Whether this entry is that message of the customer."""
        apart = _TIME_OF_RECEIPT_SECONDS.get(message.channel, _SAME_MOMENT_SECONDS)
        if not self.inbound or self.channel != message.channel or abs(self.at - message.at) >= apart:
            return False
        return message.words is None or message.words in self.body

    @classmethod
    def of(cls, communication: Mapping[str, Any]) -> _Row:
        properties = communication["properties"]
        body = html.unescape(str(properties.get("hs_communication_body") or ""))
        moment = str(properties["hs_timestamp"])
        at = float(moment) / 1000 if moment.isdigit() else datetime.fromisoformat(moment).timestamp()
        heading = body[:300].partition("</p>")[0]
        name = re.sub(r"<[^>]*>", "", heading).partition(" · ")[0]
        channel = _CHANNELS.get(name, name.lower())  # a channel that only the user knows is told by its slug
        return cls(body, at, tuple(communication["contacts"]), channel, "→ us" in heading)
