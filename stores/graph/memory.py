"""What one process remembers of the graph between its transactions: bounded, and forgotten when another one wrote."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import ref

from stores.graph.nodes import EvidenceKey, Ident, Node, Piece

_MOST = 20_000
_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


@dataclass(eq=False, slots=True)
class Seen:
    """What one combination of handles comes to: the handles, first the one whose person counts, and the evidence."""

    nodes: tuple[Node, ...]
    pieces: tuple[Piece, ...]


class Recent(dict[Hashable, _Value | None]):
    """The values asked for most recently, at least `most` and at most twice as many; of others ``None``.

    What is here is found without a call of Python's; what was asked for longer ago is fetched back by `__missing__`.
    """

    def __init__(self, most: int = _MOST) -> None:
        super().__init__()
        self._most = most
        self._old: dict[Hashable, _Value | None] = {}

    def __missing__(self, key: Hashable) -> _Value | None:
        value = self._old.get(key)
        if value is not None:
            self.put(key, value)
        return value

    def put(self, key: Hashable, value: _Value) -> None:
        """Keep `value` under `key`."""
        if len(self) >= self._most:
            self._old = dict(self)
            super().clear()
        self[key] = value

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self._old = {}


class Living(Generic[_Key, _Value]):
    """The values that somebody still holds; a tenth of the cost of `weakref.WeakValueDictionary`.

    What nobody holds any more is dropped when as much was put again as was alive the last time.
    """

    def __init__(self) -> None:
        self._refs: dict[_Key, ref[_Value]] = {}
        self._room = _MOST

    def get(self, key: _Key) -> _Value | None:
        """The value kept under `key`."""
        found = self._refs.get(key)
        return None if found is None else found()

    def put(self, key: _Key, value: _Value) -> None:
        """Know `value` under `key` as long as anybody holds it."""
        self.put_all({key: value})

    def put_all(self, values: Mapping[_Key, _Value]) -> None:
        """Know each value under its key as long as anybody holds it."""
        if len(self._refs) >= self._room:
            self._refs = {one: found for one, found in self._refs.items() if found() is not None}
            self._room = max(_MOST, 2 * len(self._refs))
        self._refs.update(zip(values, map(ref, values.values()), strict=True))


class Memory:
    """Handles and evidence as this process last wrote or read them; one object per handle as long as anybody has it."""

    def __init__(self) -> None:
        self.generation = -1
        self.seen: Recent[Seen] = Recent()
        self.nodes: Living[int, Node] = Living()
        self.by_ident: Living[Ident, Node] = Living()
        self.pieces: Living[EvidenceKey, Piece] = Living()
        self.next_handle_id: int | None = None
        self.has_decisions = self.has_cuts = self.has_tombstones = self.has_other_anchors = False

    def forget(self) -> None:
        """Start with nothing: another process wrote, or a transaction failed after it changed what is here."""
        self.generation = -1
        self.seen.clear()
        self.nodes, self.by_ident, self.pieces = Living(), Living(), Living()
        self.next_handle_id = None
