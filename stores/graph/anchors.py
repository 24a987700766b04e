"""Where the ids of persons are held: all anchors that each ever had, numbered in the order in which they came to be.

One of them holds the id at present: the earliest that can (`identity.partition.hold_ids`). As an anchor never goes and
a later one never outranks an earlier one, the same evidence and decisions give the same ids whenever they come back,
whatever was decided and taken back meanwhile.

Nearly every person has only ever had one anchor, which is in the row of the person. The table ``other_anchor`` has
those of the rest, beside the present one.
"""

# Names of tables and columns are put into the SQL, never a value from outside.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from stores.database import Database, Row
from stores.graph.nodes import chunks
from stores.graph.rows import rows_of

START = -(2**62)
"""Before all times, in microseconds."""

NEW = 2**62
"""After all numbers that anchors have: of one that is not stored yet."""

_PRESENT = "SELECT id, claimed, anchor_id AS handle_id, since, alone FROM person"
_OTHERS = "SELECT person_id AS id, claimed, handle_id, since, alone FROM other_anchor"

Cuts = Mapping[int, Sequence[tuple[int, int]]]
"""Handles that changed hands, with (since, id of the handle as it was until then), earliest first."""


class Anchor(NamedTuple):
    """A handle that holds a person's id, has held it, or would hold it again; the earliest sorts first.

    Attributes:
        number: in the order in which all anchors came to be; `NEW` until it is stored.
        handle_id: the handle; of one that changed hands, as it was at the time of `since`.
        since: from when the handle was this person's (microseconds); `START` unless it had changed hands before.
        alone: whether it holds the id also as a line of its own, which links nothing.
    """

    number: int
    handle_id: int
    since: int = START
    alone: bool = False


anchor_of: Callable[[tuple[int, int, int, bool]], Anchor] = partial(tuple.__new__, Anchor)
"""An `Anchor` of its fields, at a fifth of the cost of naming them."""


class Anchors(NamedTuple):
    """The anchor at which a person's id is at present, and those at which it was or may be again."""

    now: Anchor
    others: tuple[Anchor, ...] = ()


def anchors_at(database: Database, handle_ids: Iterable[int], *, others: bool) -> dict[str, Anchors]:
    """Every person, living or merged, that has any anchor at one of the handles.

    Args:
        database: the store of the graph.
        handle_ids: where.
        others: whether anybody has more than one anchor; otherwise they are not looked for.
    """
    wanted = set(handle_ids)
    found = {
        row["id"]: Anchors(_anchor(row)) for row in rows_of(database, f"{_PRESENT} WHERE anchor_id IN [ids]", wanted)
    }
    if not others:
        return found
    rows = rows_of(database, "SELECT person_id FROM other_anchor WHERE handle_id IN [ids]", wanted)
    for chunk in chunks(sorted({row["person_id"] for row in rows} - found.keys())):
        for row in database.query(f"{_PRESENT} WHERE id IN ({_marks(chunk)})", chunk):
            found[row["id"]] = Anchors(_anchor(row))
    for chunk in chunks(sorted(found)):
        for row in database.query(f"{_OTHERS} WHERE person_id IN ({_marks(chunk)})", chunk):
            now, before = found[row["id"]]
            found[row["id"]] = Anchors(now, (*before, _anchor(row)))
    return found


def move_anchors(database: Database, anchors: Mapping[str, Anchor]) -> None:
    """These persons' ids are at these anchors from now on; where they were before is kept."""
    moved = sorted(anchors.items())
    database.execute_many(
        "INSERT INTO other_anchor (person_id, claimed, handle_id, since, alone)"
        " SELECT id, claimed, anchor_id, since, alone FROM person WHERE id = ?",
        [(person_id,) for person_id, _ in moved],
    )
    database.execute_many(
        "DELETE FROM other_anchor WHERE person_id = ? AND claimed = ?",
        [(person_id, anchor.number) for person_id, anchor in moved],
    )
    database.execute_many(
        "UPDATE person SET claimed = ?, anchor_id = ?, since = ?, alone = ? WHERE id = ?",
        [(*_values(anchor), person_id) for person_id, anchor in moved],
    )


def numbered(database: Database, anchors: dict[str, Anchor], first: int) -> dict[str, Anchor]:
    """The same, with a number for each new one, from `first` on, and the time from which its handle was theirs."""
    new = sorted(
        (person_id, anchor.handle_id, anchor.alone) for person_id, anchor in anchors.items() if anchor[0] == NEW
    )
    starts = _starts(database, {handle_id for _, handle_id, _ in new})
    return anchors | {
        person_id: anchor_of((number, handle_id, starts.get(handle_id, START), alone))
        for number, (person_id, handle_id, alone) in enumerate(new, first)
    }


def follow_cuts(database: Database, before: Cuts, after: Cuts) -> None:
    """Put all anchors at these handles where their time is now: each handle had those cuts, and has these.

    Who had a handle first keeps the id, and whoever comes later has another one.
    """
    whole = {handle_id: handle_id for handle_id in {*before, *after}}
    whole |= {old_id: handle_id for handle_id, cuts in before.items() for _, old_id in cuts}
    for table, person, handle in (("person", "id", "anchor_id"), ("other_anchor", "person_id", "handle_id")):
        sql = f"SELECT {person}, claimed, {handle}, since FROM {table} WHERE {handle} IN [ids]"
        moved = []
        for person_id, number, handle_id, since in map(tuple, rows_of(database, sql, whole)):
            owner = whole[handle_id]
            then = next((old_id for until, old_id in sorted(after.get(owner, ())) if since < until), owner)
            if then != handle_id:
                moved.append((then, person_id, number))
        database.execute_many(f"UPDATE {table} SET {handle} = ? WHERE {person} = ? AND claimed = ?", moved)


def _anchor(row: Row) -> Anchor:
    return Anchor(row["claimed"], row["handle_id"], row["since"], bool(row["alone"]))


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" for _ in values)


def _values(anchor: Anchor) -> tuple[int, int, int, int]:
    return anchor.number, anchor.handle_id, anchor.since, int(anchor.alone)


def _starts(database: Database, handle_ids: set[int]) -> dict[int, int]:
    """Since when the handles are what they are: those that had changed hands before."""
    if not handle_ids or database.query_one("SELECT 1 FROM cut LIMIT 1") is None:
        return {}
    cuts = rows_of(
        database,
        "SELECT handle_id, since, old_id FROM cut WHERE handle_id IN [ids]"
        " OR handle_id IN (SELECT handle_id FROM cut WHERE old_id IN [ids])",
        handle_ids,
    )
    starts: dict[int, int] = {}
    last: dict[int, int] = {}
    for handle_id, since, old_id in sorted({tuple(row) for row in cuts}):
        starts[old_id] = last.get(handle_id, START)
        starts[handle_id] = last[handle_id] = since
    return starts
