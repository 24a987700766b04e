"""What one write transaction on the graph reads: the stored graph together with what it is about to write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stores.codec import Codec
from stores.database import Database, Row
from stores.graph.anchors import Anchors, anchors_at
from stores.graph.memory import Memory
from stores.graph.nodes import (
    Edge,
    EvidenceKey,
    Ident,
    Node,
    Piece,
    edge_of,
    ordered,
)
from stores.graph.rows import handle_ids_of, rows_of

_EDGES = (
    "SELECT a, b, method, strength, first_at, last_at FROM evidence WHERE a IN [ids]"
    " UNION SELECT a, b, method, strength, first_at, last_at FROM evidence WHERE b IN [ids]"
)
_CONTACT_EDGES = (
    "SELECT e.a, e.b, e.method, 'crm', c.first_at, c.first_at FROM contact_evidence e"
    " JOIN contact c ON c.record_id = e.record_id WHERE e.a IN [ids]"
    " UNION SELECT e.a, e.b, e.method, 'crm', c.first_at, c.first_at FROM contact_evidence e"
    " JOIN contact c ON c.record_id = e.record_id WHERE e.b IN [ids]"
)


class Reading:
    """The reading side of `Unit`: whatever is asked passes here, so that nothing unwritten is overlooked."""

    def __init__(self, database: Database, codec: Codec, memory: Memory) -> None:
        self._database = database
        self._codec = codec
        self._memory = memory
        self._held: dict[int, Node] = {}  # the memory forgets what nobody holds
        self._fresh: dict[int, Node] = {}  # added here and not written yet, so nothing stored speaks of them
        self._dirty: list[Piece] = []
        self._unwritten_of: defaultdict[int, list[Piece]] = defaultdict(list)
        self._sorted_in = 0  # so many of `_dirty` are in `_unwritten_of`
        self._said_anew: defaultdict[str, dict[int, tuple[int, str]]] = defaultdict(dict)
        self._said_again: defaultdict[str, dict[int, int]] = defaultdict(dict)  # the same, later
        self._renewed: dict[str, int] = {}
        self._open()

    @property
    def has_tombstones(self) -> bool:
        """Whether anything was ever erased."""
        return self._memory.has_tombstones

    def forget_what_was_read(self) -> None:
        """Read everything again: rows were deleted beside this class."""
        self._memory.forget()
        self._held.clear()

    # Handles, evidence, anchors

    def nodes(self, handle_ids: Iterable[int]) -> dict[int, Node]:
        """The handles of those ids; one object per handle."""
        asked, held = set(handle_ids), self._held
        if asked <= held.keys():
            return {handle_id: held[handle_id] for handle_id in asked}
        found: dict[int, Node] = {}
        missing: list[int] = []
        for handle_id in asked:
            node = held.get(handle_id) or self._memory.nodes.get(handle_id)
            if node is not None:
                found[handle_id] = node
            else:
                missing.append(handle_id)
        for row in self._rows(
            "SELECT id, kind, scope, link, person_id, value, fingerprint FROM handle WHERE id IN [ids]", missing
        ):
            found[row["id"]] = self._node(row, None)
        self._held.update(found)
        return found

    def edges(self, handle_ids: Iterable[int]) -> set[Edge]:
        """All evidence that speaks of any of the handles, of every strength.

        Evidence of a handle that changed hands is told of the handle that it was at the time: see `cuts`.
        """
        wanted = set(handle_ids)
        if not wanted:
            return set()
        asked = self._with_whole_history(wanted)
        stored = asked - self._fresh.keys()
        told = self._with_unwritten(self._rows(_EDGES, stored), asked)
        of_contacts = self._rows(_CONTACT_EDGES, stored)  # a pair may be on several contacts
        if not self._memory.has_cuts:
            edges = {edge_of((*key, first_at)) for key, (first_at, _) in told.items()}
            edges.update(edge_of(row[:5]) for row in map(tuple, of_contacts))
            return edges
        rows = [*((*key, *times) for key, times in told.items()), *map(tuple, of_contacts)]
        cuts = self.cuts({handle_id for row in rows for handle_id in row[:2]})
        edges = set()
        for a, b, method, strength, first_at, last_at in rows:
            pair = ordered(_at(a, last_at, cuts), _at(b, last_at, cuts))
            if not wanted.isdisjoint(pair):
                edges.add(Edge(*pair, method, strength, first_at))
            if a == b:  # seen alone, it was somebody's before each cut too
                owners = [old_id for since, old_id in cuts.get(a, ()) if first_at < since <= last_at]
                edges.update(Edge(one, one, method, strength, first_at) for one in owners if one in wanted)
        return edges

    def history(self, handle_ids: Iterable[int]) -> list[tuple[Edge, int]]:
        """All evidence of those handles with its last time, as it was seen: cuts left aside."""
        asked = set(handle_ids)
        told = self._with_unwritten(self._rows(_EDGES, asked - self._fresh.keys()), asked)
        return [(Edge(*key, first_at), last_at) for key, (first_at, last_at) in told.items()]

    def alive(self, handle_ids: Iterable[int], strengths: Sequence[str]) -> set[int]:
        """Those of the handles that any evidence of these strengths speaks of; not all of a busy one's is read."""
        asked = set(handle_ids)
        cut = asked & self.with_cuts(asked)
        found = {
            handle_id
            for edge in self.edges(cut)
            if edge.strength in strengths
            for handle_id in (edge.a, edge.b)
            if handle_id in cut
        }
        asked -= cut
        unwritten = self._unwritten()
        found |= {
            handle_id
            for handle_id in asked & unwritten.keys()
            if any(piece.key[3] in strengths for piece in unwritten[handle_id])
        }
        crm = (
            " OR EXISTS (SELECT 1 FROM contact_evidence e WHERE e.a = h.id)"
            " OR EXISTS (SELECT 1 FROM contact_evidence e WHERE e.b = h.id)"
        )
        sql = (
            "SELECT h.id FROM handle h WHERE h.id IN [ids] AND ("
            "EXISTS (SELECT 1 FROM evidence e WHERE e.a = h.id AND e.strength IN ([strengths]))"
            " OR EXISTS (SELECT 1 FROM evidence e WHERE e.b = h.id AND e.strength IN ([strengths]))[crm])"
        )
        marks = ", ".join("?" for _ in strengths)
        sql = sql.replace("[strengths]", marks).replace("[crm]", crm if "crm" in strengths else "")
        stored = asked - found - self._fresh.keys()
        return found | {row["id"] for row in self._rows(sql, stored, (*strengths, *strengths))}

    def handle_ids_after(self, handle_id: int, limit: int) -> list[int]:
        """The next ids of all handles, in order; 0 starts."""
        rows = self._database.query("SELECT id FROM handle WHERE id > ? ORDER BY id LIMIT ?", (handle_id, limit))
        return [row["id"] for row in rows]

    def handle_ids_of(self, person_ids: Iterable[str]) -> list[int]:
        """The ids of all handles of these persons, as stored."""
        return handle_ids_of(self._database, person_ids)

    def anchored_at(self, handle_ids: Iterable[int]) -> dict[str, Anchors]:
        """Every person, living or merged, that has an anchor at one of the handles, with all its anchors."""
        stored = set(handle_ids) - self._fresh.keys()
        return anchors_at(self._database, stored, others=self._memory.has_other_anchors)

    def anchors_beside(self, handle_ids: Iterable[int]) -> set[int]:
        """All anchors of the persons that have one at any of the handles, where these have more than one."""
        if not self._memory.has_other_anchors:
            return set()
        several = (mine for mine in self.anchored_at(handle_ids).values() if mine.others)
        return {anchor.handle_id for now, others in several for anchor in (now, *others)}

    # Decisions and cuts

    def decided(self, handle_ids: Iterable[int]) -> list[tuple[int, int | None, str, int | None]]:
        """What people decided about any of the handles and did not take back: (a, b, kind, since)."""
        if not self._memory.has_decisions:
            return []
        rows = self._rows(
            "SELECT a, b, kind, since FROM decision WHERE revoked_at IS NULL AND a IN [ids]"
            " UNION SELECT a, b, kind, since FROM decision WHERE revoked_at IS NULL AND b IN [ids]",
            handle_ids,
        )
        return sorted({(row["a"], row["b"], row["kind"], row["since"]) for row in rows}, key=repr)

    @property
    def has_cuts(self) -> bool:
        """Whether any handle ever changed hands."""
        return self._memory.has_cuts

    def cuts(self, handle_ids: Iterable[int]) -> dict[int, list[tuple[int, int]]]:
        """When handles changed hands, earliest first: handle id -> (since, id of the handle as it was until then)."""
        found: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        if self._memory.has_cuts:
            for row in self._rows("SELECT handle_id, since, old_id FROM cut WHERE handle_id IN [ids]", handle_ids):
                found[row["handle_id"]].append((row["since"], row["old_id"]))
        return {handle_id: sorted(cuts) for handle_id, cuts in found.items()}

    def with_cuts(self, handle_ids: Iterable[int]) -> set[int]:
        """Those of the handles that changed hands or are the past of such a one, and all that each has been."""
        if not self._memory.has_cuts:
            return set()
        asked = set(handle_ids)
        rows = self._rows(
            "SELECT handle_id, old_id FROM cut WHERE handle_id IN [ids]"
            " UNION SELECT handle_id, old_id FROM cut WHERE old_id IN [ids]",
            asked,
        )
        return {handle_id for row in rows for handle_id in tuple(row)}

    def as_they_were(self, heads: Sequence[tuple[Node | None, int | None]]) -> list[Node | None]:
        """Each handle as it was at its moment: itself, or that of a former owner."""
        cuts = self.cuts({head.handle_id for head, _ in heads if head is not None})
        then = {
            place: _at(head.handle_id, moment, cuts)
            for place, (head, moment) in enumerate(heads)
            if head is not None and moment is not None and head.handle_id in cuts
        }
        nodes = self.nodes(then.values())
        return [nodes[then[place]] if place in then else head for place, (head, _) in enumerate(heads)]

    # Inside

    def _open(self) -> None:
        memory = self._memory
        row = self._database.query("UPDATE counter SET value = value + 1 WHERE name = 'generation' RETURNING value")[0]
        if row["value"] != memory.generation + 1:
            memory.forget()
            for name in ("decision", "cut", "tombstone", "other_anchor"):
                found = self._database.query_one(f"SELECT 1 FROM {name} LIMIT 1")  # noqa: S608 (our names)
                setattr(memory, f"has_{name}s", found is not None)
        memory.generation = row["value"]

    def _rows(self, sql: str, handle_ids: Iterable[int], parameters: Sequence[Any] = ()) -> list[Row]:
        return rows_of(self._database, sql, handle_ids, parameters)

    def _node(self, row: Row, ident: Ident | None) -> Node:
        node = self._memory.nodes.get(row["id"])
        if node is None:
            node = Node(
                row["id"], row["kind"], row["scope"], row["link"], row["person_id"], row["value"], self._codec,
                row["fingerprint"],
            )  # fmt: skip
            self._memory.nodes.put(node.handle_id, node)
        if ident is not None:
            self._memory.by_ident.put(ident, node)
        return node

    def _with_whole_history(self, handle_ids: set[int]) -> set[int]:
        """The handles, and those of which they are the past."""
        if not self._memory.has_cuts:
            return handle_ids
        rows = self._rows("SELECT handle_id FROM cut WHERE old_id IN [ids]", handle_ids)
        return handle_ids | {row["handle_id"] for row in rows}

    def _with_unwritten(self, rows: Iterable[Row], handle_ids: set[int]) -> dict[EvidenceKey, tuple[int, int]]:
        told = {(row[0], row[1], row[2], row[3]): (row[4], row[5]) for row in rows}
        unwritten = self._unwritten()
        for handle_id in handle_ids & unwritten.keys():
            for piece in unwritten[handle_id]:
                told[piece.key] = (piece.first, piece.last)
        return told

    def _unwritten(self) -> Mapping[int, Sequence[Piece]]:
        """The evidence that is not written yet, by handle; sorted in when somebody asks, mostly nobody does."""
        for piece in self._dirty[self._sorted_in :]:
            a, b, _, _ = piece.key
            self._unwritten_of[a].append(piece)
            if a != b:
                self._unwritten_of[b].append(piece)
        self._sorted_in = len(self._dirty)
        return self._unwritten_of


def _at(handle_id: int, moment: int, cuts: Mapping[int, list[tuple[int, int]]]) -> int:
    """The handle as it was at that moment."""
    return next((old_id for since, old_id in cuts.get(handle_id, ()) if moment < since), handle_id)
