"""What waits for somebody to look at it, and the reads over all persons that suggestions are made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from stores.database import Stores
from stores.graph import Graph, Told
from stores.graph.nodes import Node, ordered, time_text
from stores.graph.rows import rows_of

_PAGE = 1_000
_NEWEST = {
    "name": (
        "SELECT h.person_id, o.value, o.observed_at AS at FROM observation o JOIN handle h ON h.id = o.handle_id"
        " WHERE h.person_id IS NOT NULL AND o.field = 'name'"
    ),
    "locale": (
        "SELECT h.person_id, o.value, o.observed_at AS at FROM observation o JOIN handle h ON h.id = o.handle_id"
        " WHERE h.person_id IS NOT NULL AND o.field = 'locale'"
    ),
    "contact": (
        "SELECT h.person_id, c.name AS value, c.modified_at AS at FROM contact c JOIN handle h ON h.id = c.record_id"
        " WHERE h.person_id IS NOT NULL AND c.state = 'live' AND c.name IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM contact_merge m WHERE m.old_id = c.record_id)"
    ),
}


class Kept(NamedTuple):
    """One kept pair of handles: a suggestion (then with `score`), or a pair that was put off."""

    a: int
    b: int
    score: float | None
    model: str | None
    details: Mapping[str, Any]
    suggested_at: str | None
    later_at: str | None


class Suggested(NamedTuple):
    """A suggestion to keep: two handles that stand for two persons, the probability, and why (a JSON value)."""

    a: int
    b: int
    score: float
    details: Mapping[str, Any]


class Reviews:
    """The pairs of persons that wait for a decision, as far as the graph does not tell them by itself."""

    def __init__(self, stores: Stores, graph: Graph | None = None) -> None:
        self._codec = stores.codec
        self._graph = graph or Graph(stores)  # it opens and migrates the store
        self._database = stores.database("graph")

    def kept(self, limit: int = 5_000) -> list[Kept]:
        """The kept pairs, the most probable first."""
        rows = self._database.query("SELECT * FROM review ORDER BY score IS NULL, score DESC, a, b LIMIT ?", (limit,))
        return [
            Kept(
                row["a"], row["b"], row["score"], row["model"],
                self._codec.decrypt_json(row["details"]) if row["details"] else {}, row["suggested_at"],
                row["later_at"],
            )
            for row in rows
        ]  # fmt: skip

    def put_off(self, a: int, b: int, *, actor: str) -> None:
        """Show this pair of handles last from now on."""
        now = time_text(datetime.now(UTC))
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO review (a, b, later_at, later_by) VALUES (?, ?, ?, ?) ON CONFLICT (a, b) DO UPDATE SET"
                " later_at = excluded.later_at, later_by = excluded.later_by",
                (*ordered(a, b), now, self._codec.encrypt(actor.encode())),
            )

    def take_up(self, a: int, b: int) -> bool:
        """Take back `put_off`; whether there was anything to take back."""
        with self._database.transaction() as database:
            put_off = database.execute(
                "UPDATE review SET later_at = NULL, later_by = NULL WHERE a = ? AND b = ? AND later_at IS NOT NULL",
                ordered(a, b),
            )
            database.execute("DELETE FROM review WHERE a = ? AND b = ? AND score IS NULL", ordered(a, b))
        return bool(put_off)

    def replace_suggestions(self, suggested: Sequence[Suggested], model: str) -> tuple[int, int]:
        """The suggestions are now exactly these: how many are new, and how many went. What was put off stays so."""
        now = time_text(datetime.now(UTC))
        wanted = {ordered(one.a, one.b): one for one in suggested}
        with self._database.transaction() as database:
            known = {(row["a"], row["b"]) for row in database.query("SELECT a, b FROM review WHERE score IS NOT NULL")}
            gone = sorted(known - wanted.keys())
            database.execute_many("DELETE FROM review WHERE a = ? AND b = ? AND later_at IS NULL", gone)
            database.execute_many(
                "UPDATE review SET score = NULL, model = NULL, details = NULL, suggested_at = NULL"
                " WHERE a = ? AND b = ?",
                gone,
            )
            database.execute_many(
                "INSERT INTO review (a, b, score, model, details, suggested_at) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (a, b) DO UPDATE SET score = excluded.score, model = excluded.model,"
                " details = excluded.details, suggested_at = COALESCE(review.suggested_at, excluded.suggested_at)",
                [
                    (*pair, one.score, model, self._codec.encrypt_json(dict(one.details)), now)
                    for pair, one in sorted(wanted.items())
                ],
            )
        return len(wanted.keys() - known), len(gone)

    def unlinked_evidence(self, linking: Sequence[str], limit: int = 2_000) -> list[Told]:
        """The newest evidence of two handles that does not link them (somebody typed it), where both are somebody's."""
        marks = ", ".join("?" for _ in linking)
        sql = (
            "SELECT e.a, e.b, e.method, e.strength, e.first_at, e.last_at FROM evidence e JOIN handle x ON x.id = e.a"
            " JOIN handle y ON y.id = e.b WHERE x.person_id <> y.person_id AND x.link = 'links' AND y.link = 'links'"
            " AND e.strength NOT IN ([marks]) ORDER BY e.last_at DESC, e.a, e.b LIMIT ?"
        )
        return [Told(*row) for row in self._database.query(sql.replace("[marks]", marks), (*linking, limit))]

    def owned_nodes(self, most: int) -> Iterator[Node]:
        """The handles that link and are somebody's, in the order of the rows; of at most the first `most` rows."""
        last = seen = 0
        while seen < most and (
            rows := self._database.query(
                "SELECT id FROM handle WHERE id > ? AND person_id IS NOT NULL AND link = 'links' ORDER BY id LIMIT ?",
                (last, min(_PAGE, most - seen)),
            )
        ):
            last, seen = rows[-1]["id"], seen + len(rows)
            yield from self._graph.nodes(row["id"] for row in rows).values()

    def names(self) -> tuple[dict[str, str], dict[str, str]]:
        """The name to show of every person that has one (see `Graph.best_name`), and the locale."""
        contacts = self._newest("contact")
        return {**self._newest("name"), **contacts}, self._newest("locale")

    def seen_together(self, handle_ids: Iterable[int]) -> dict[int, set[int]]:
        """Of each of these handles the others that any evidence puts beside it."""
        near: dict[int, set[int]] = {}
        rows = rows_of(
            self._database,
            "SELECT a, b FROM evidence WHERE a IN [ids] OR b IN [ids]"
            " UNION SELECT a, b FROM contact_evidence WHERE a IN [ids] OR b IN [ids]",
            handle_ids,
        )
        for row in rows:
            near.setdefault(row["a"], set()).add(row["b"])
            near.setdefault(row["b"], set()).add(row["a"])
        return near

    def _newest(self, which: str) -> dict[str, str]:
        best: dict[str, tuple[Any, str]] = {}
        for row in self._database.query(_NEWEST[which]):
            told = (row["at"], self._codec.decrypt(row["value"]).decode())
            if row["person_id"] not in best or told > best[row["person_id"]]:
                best[row["person_id"]] = told
        return {person_id: value for person_id, (_, value) in best.items()}
