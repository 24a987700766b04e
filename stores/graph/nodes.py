"""What the identity graph is made of: handles, and the evidence between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import NamedTuple, Protocol, TypeVar

from mappings.ids import handle_key
from mappings.records import Contact, Handle
from stores.codec import Codec

Ident = tuple[str, str | None, str]
"""A handle as a tuple (kind, scope, value): much cheaper to look up than the model."""

EvidenceKey = tuple[int, int, str, str]
"""Two handle ids (the smaller first), method, strength."""

FORMER = "former_"
"""Before the kind of a handle that changed hands: ``former_phone`` is whose number it was."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CHUNK = 500
_Item = TypeVar("_Item")


class Edge(NamedTuple):
    """One piece of evidence that two handles belong together; ``a == b`` when a handle was seen alone."""

    a: int
    b: int
    method: str
    strength: str
    first_at: int


edge_of: Callable[[tuple[int, int, str, str, int]], Edge] = partial(tuple.__new__, Edge)
"""An `Edge` of its fields, at a fifth of the cost of naming them."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class Node:
    """A handle as stored; its value is decrypted only when somebody asks for it.

    ``said``: what was last said of it (field -> time, value); ``None`` until it is looked up. Times are numbers: see
    `time_number`.
    """

    handle_id: int
    kind: str
    scope: str | None
    link: str
    person_id: str | None
    stored_value: bytes | bytearray
    codec: Codec
    fingerprint: str = ""
    said: dict[str, tuple[int, str]] | None = None
    known: Handle | None = None

    @property
    def handle(self) -> Handle:
        """The handle itself."""
        if self.known is None:
            value = self.codec.decrypt(self.stored_value).decode()
            self.known = Handle(kind=self.kind, scope=self.scope, value=value)
        return self.known

    @property
    def key(self) -> str:
        """The canonical text of the handle: what ties are broken by, never by the row's id."""
        return self.handle.key


@dataclass(eq=False, slots=True, weakref_slot=True)
class Piece:
    """One piece of evidence with the first and the last time that it was seen."""

    key: EvidenceKey
    first: int
    last: int
    stored: bool
    dirty: bool = False


@dataclass(slots=True)
class Touched:
    """What new evidence may have changed: handles to look at again, those that lost evidence, those renamed."""

    handle_ids: set[int] = field(default_factory=set)
    withdrawn: set[int] = field(default_factory=set)
    renamed: set[int] = field(default_factory=set)


class NewChange(NamedTuple):
    """A merge, split or erasure to be logged; handles by their ids."""

    change: str
    from_person_ids: list[str]
    into_person_id: str | None
    handle_ids: list[int]
    why: str


class AnyHandle(Protocol):
    """A handle in whatever form it was read."""

    @property
    def kind(self) -> str:
        """What it is."""

    @property
    def scope(self) -> str | None:
        """Where it is unique."""

    @property
    def value(self) -> str:
        """The address."""


ident_of: Callable[[AnyHandle], Ident] = attrgetter("kind", "scope", "value")
"""The handle as a tuple."""


def ident_key(ident: Ident) -> str:
    """The canonical text of a handle; see `mappings.ids.handle_key`."""
    return handle_key(*ident)


def former_handle(handle: Handle, since: str) -> Handle:
    """The handle as it was until `since`, when it changed hands: of a kind of its own, so nothing is sent to it."""
    scope = f"until {since}" if handle.scope is None else f"{handle.scope} until {since}"
    return Handle(kind=FORMER + handle.kind, scope=scope, value=handle.value)


def merged_handles(contact: Contact) -> list[Handle]:
    """The record handles of the CRM records that were merged into `contact`."""
    record = contact.handles[0]
    return [Handle(kind=record.kind, scope=record.scope, value=old) for old in contact.merged_record_ids]


def time_number(moment: datetime) -> int:
    """An aware moment in microseconds since 1970."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_of(number: int) -> datetime:
    """The moment of `time_number`."""
    return _EPOCH + number * _MICROSECOND


def time_text(moment: datetime) -> str:
    """An aware moment as text whose order is the order in time."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def ordered(a: int, b: int) -> tuple[int, int]:
    """Two handle ids, the smaller first."""
    return (a, b) if a <= b else (b, a)


def chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """The items in pieces that fit one statement."""
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
