"""What a record says of who is who: which handles were seen together, when, and what the platform calls them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

from identity.reading import MessageLine
from identity.rules import Rules
from mappings.errors import MissingFieldError
from mappings.ids import handle_key
from mappings.records import Consent, Contact, Evidence, Message, MessageChange, Record, Reply
from stores.graph import AnyHandle, Ident, merged_handles, time_number

Known = Record | MessageLine
"""A record, or a line of which only what counts here is read."""


class Sighting(NamedTuple):
    """What one record says: these handles were seen (together) at that time (microseconds since 1970).

    ``name`` and ``locale`` are those of the person behind the first handle, when the platform itself says so.
    """

    handles: Sequence[AnyHandle]
    method: str
    strength: str
    seen_at: int
    name: str | None = None
    locale: str | None = None


sighted: Callable[[tuple[Sequence[AnyHandle], str, str, int, str | None, str | None]], Sighting] = partial(
    tuple.__new__, Sighting
)
"""A `Sighting` of its fields, at a fifth of the cost of naming them."""


def sighting_of(record: Known | None) -> Sighting | None:
    """The evidence in a record; ``None`` for one that gives none (a contact is evidence of another kind)."""
    if type(record) is MessageLine or isinstance(record, Message):  # to ask whether it is a struct takes longer
        name = locale = None
        if record.direction == "inbound" and record.author_kind == "customer":
            name, profile = record.author_name, record.profile
            if profile is not None:
                name, locale = profile.name or name, profile.locale
        return sighted((record.handles, "message", "verified", time_number(record.sent_at), name, locale))
    match record:
        case MessageChange():
            return Sighting(record.handles, "message", "verified", time_number(record.changed_at))
        case Consent():
            return Sighting([record.handle], "consent", "verified", time_number(record.decided_at))
        case Evidence():
            said = record.profile if record.strength == "verified" else None
            name, locale = (said.name, said.locale) if said is not None else (None, None)
            moment = time_number(record.observed_at)
            return Sighting(record.handles, record.method, record.strength, moment, name, locale)
        case _:
            return None


def moment_in(record: Known | None) -> int | None:
    """When what a record says happened; ``None`` for a contact or a reply, which speak of now."""
    sighting = sighting_of(record)
    return sighting.seen_at if sighting is not None else None


def pairs_of(handles: Sequence[Ident], method: str, rules: Rules) -> list[tuple[int, int]]:
    """The pairs that a sighting puts together, by their places; a handle that is in none is paired with itself.

    A bulk record links nothing. Two handles of one kind and scope on one message are two people (a mail to both), not
    one person with two addresses.
    """
    if len(handles) == 1:
        return [(0, 0)]
    places = [place for place, ident in enumerate(handles) if handles.index(ident) == place]
    pairs = [(a, b) for a, b in combinations(places, 2) if method != "message" or handles[a][:2] != handles[b][:2]]
    if len(places) > rules.max_handles_per_record:
        pairs = []
    paired = {place for pair in pairs for place in pair}
    return [*pairs, *((place, place) for place in places if place not in paired)]


def check(record: Record) -> None:
    """Raise `PayloadError` for a record that the resolver could not take: an empty handle, a contact without itself."""
    if isinstance(record, Contact) and (not record.handles or record.handles[0].value != record.record_id):
        msg = "contacts: the first handle is not the CRM record"
        raise MissingFieldError(msg)
    handles: list[AnyHandle] = list(record.handles) if isinstance(record, (Contact, Reply)) else []
    if isinstance(record, Contact):
        handles += merged_handles(record)
    elif (sighting := sighting_of(record)) is not None:
        handles += sighting.handles
    for handle in handles:
        handle_key(handle.kind, handle.scope, handle.value)
