"""The log of erasures: what is still to do, who still has to erase, and until when."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from stores.codec import Codec
from stores.database import Database, Row, Stores


@dataclass(frozen=True, slots=True)
class Erasure:
    """One erasure.

    Attributes:
        state: ``planned`` (ours is not done), ``told`` (it is, and the log tells the CRMs), ``swept`` (the bytes are
            gone too), ``done`` (every CRM and the receiver are done).
        sequence: of the `person_changes` record that tells it.
        destinations: (crm, account) of each CRM in which we had written something.
        counts: what was removed here, how many.
        plan: what is needed to go on after a crash; empty once it is told.
    """

    erasure_id: int
    person_id: str
    state: str
    asked_at: datetime
    due_at: datetime
    done_at: datetime | None
    sequence: int | None
    destinations: tuple[tuple[str, str], ...]
    counts: Mapping[str, int]
    plan: Mapping[str, Any] = field(default_factory=dict)


class Erasures:
    """The erasures of one state; in the store of the graph, where they begin and are told."""

    def __init__(self, database: Database, codec: Codec) -> None:
        self._database = database
        self._codec = codec

    @classmethod
    def of(cls, stores: Stores) -> Erasures:
        """Those behind `stores`."""
        return cls(stores.database("graph"), stores.codec)

    def begin(self, person_id: str, asked_at: datetime, due_at: datetime, plan: Mapping[str, Any]) -> int:
        """Note that a person is to be erased; inside the transaction in which the graph forgets them."""
        row = self._database.query(
            "INSERT INTO erasure (person_id, state, asked_at, due_at, destinations, counts, plan)"
            " VALUES (?, 'planned', ?, ?, '[]', '{}', ?) RETURNING id",
            (person_id, asked_at.isoformat(), due_at.isoformat(), self._codec.encrypt_json(dict(plan))),
        )[0]
        return int(row["id"])

    def save_plan(self, erasure: Erasure, plan: Mapping[str, Any], destinations: Iterable[tuple[str, str]]) -> None:
        """Keep what was found out meanwhile."""
        self._database.execute(
            "UPDATE erasure SET plan = ?, destinations = ? WHERE id = ?",
            (self._codec.encrypt_json(dict(plan)), json.dumps(sorted(map(list, destinations))), erasure.erasure_id),
        )

    def add_counts(self, erasure_id: int, counts: Mapping[str, int]) -> None:
        """Add to what was removed."""
        row = self._database.query_one("SELECT counts FROM erasure WHERE id = ?", (erasure_id,))
        known = json.loads(row["counts"]) if row else {}
        total = {name: known.get(name, 0) + counts.get(name, 0) for name in sorted({*known, *counts})}
        self._database.execute("UPDATE erasure SET counts = ? WHERE id = ?", (json.dumps(total), erasure_id))

    def tell(self, erasure_id: int, sequence: int) -> None:
        """It is in the log under that sequence; nothing of the plan is needed any more."""
        self._database.execute(
            "UPDATE erasure SET state = 'told', sequence = ?, plan = NULL WHERE id = ?", (sequence, erasure_id)
        )

    def set_state(self, erasure_id: int, state: str, done_at: datetime | None = None) -> None:
        """It is so far now."""
        self._database.execute(
            "UPDATE erasure SET state = ?, done_at = ? WHERE id = ?",
            (state, done_at.isoformat() if done_at else None, erasure_id),
        )

    def open(self) -> list[Erasure]:
        """Those that are not done, oldest first."""
        return [
            self._erasure(row)
            for row in self._database.query("SELECT * FROM erasure WHERE state <> 'done' ORDER BY id")
        ]

    def find(self, erasure_id: int) -> Erasure:
        """The erasure of that number."""
        return self._erasure(self._database.query("SELECT * FROM erasure WHERE id = ?", (erasure_id,))[0])

    def persons_of(self, erasure: Erasure) -> list[str]:
        """The ids by which the log names whom it tells of: the person, and those merged into it."""
        row = self._database.query_one(
            "SELECT from_ids FROM person_change WHERE sequence = ? AND change = 'erase'", (erasure.sequence,)
        )
        return list(json.loads(row["from_ids"])) if row else [erasure.person_id]

    def last_of(self, person_id: str) -> Erasure | None:
        """The last erasure of that person."""
        row = self._database.query_one(
            "SELECT * FROM erasure WHERE person_id = ? ORDER BY id DESC LIMIT 1", (person_id,)
        )
        return self._erasure(row) if row else None

    def forget(self, before: datetime) -> int:
        """Drop the entries of erasures that were done before that time; how many."""
        return self._database.execute(
            "DELETE FROM erasure WHERE state = 'done' AND asked_at < ?", (before.isoformat(),)
        )

    def _erasure(self, row: Row) -> Erasure:
        return Erasure(
            row["id"], row["person_id"], row["state"], datetime.fromisoformat(row["asked_at"]),
            datetime.fromisoformat(row["due_at"]),
            datetime.fromisoformat(row["done_at"]) if row["done_at"] else None, row["sequence"],
            tuple((crm, account) for crm, account in json.loads(row["destinations"])), json.loads(row["counts"]),
            self._codec.decrypt_json(row["plan"]) if row["plan"] else {},
        )  # fmt: skip
