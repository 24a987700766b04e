"""What one process remembers of the graph between its transactions: bounded, and forgotten when another one wrote."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from stores.graph.nodes import EvidenceKey, Ident, Node, Piece

_MOST = 20_000
_Value = TypeVar("_Value")


@dataclass(eq=False, slots=True)
class Seen:
    """What one combination of handles comes to: the handles, first the one whose person counts, and the evidence."""

    nodes: tuple[Node, ...]
    pieces: tuple[Piece, ...]


class Recent(Generic[_Value]):
    """The values asked for most recently, at least `most` and at most twice as many."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._young: dict[Hashable, _Value] = {}
        self._old: dict[Hashable, _Value] = {}

    def get(self, key: Hashable) -> _Value | None:
        """The value kept under `key`."""
        value = self._young.get(key)
        if value is None and (value := self._old.get(key)) is not None:
            self.put(key, value)
        return value

    def put(self, key: Hashable, value: _Value) -> None:
        """Keep `value` under `key`."""
        if len(self._young) >= self._most:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}


class Memory:
    """Handles and evidence as this process last wrote or read them; one object per handle as long as anybody has it."""

    def __init__(self) -> None:
        self.generation = -1
        self.seen: Recent[Seen] = Recent()
        self.nodes: WeakValueDictionary[int, Node] = WeakValueDictionary()
        self.by_ident: WeakValueDictionary[Ident, Node] = WeakValueDictionary()
        self.pieces: WeakValueDictionary[EvidenceKey, Piece] = WeakValueDictionary()
        self.next_handle_id: int | None = None
        self.has_decisions = self.has_cuts = self.has_tombstones = False

    def forget(self) -> None:
        """Start with nothing: another process wrote, or a transaction failed after it changed what is here."""
        self.generation = -1
        self.seen.clear()
        self.nodes = WeakValueDictionary()
        self.by_ident = WeakValueDictionary()
        self.pieces = WeakValueDictionary()
        self.next_handle_id = None
