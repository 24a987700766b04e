"""Rows of many handles or persons, asked for in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from stores.database import Database, Row
from stores.graph.nodes import chunks


def handle_ids_of(database: Database, person_ids: Iterable[str]) -> list[int]:
    """The ids of all handles of these persons, as stored."""
    ids: list[int] = []
    for chunk in chunks(sorted(person_ids)):
        marks = ", ".join("?" for _ in chunk)
        rows = database.query("SELECT id FROM handle WHERE person_id IN ([])".replace("[]", marks), chunk)
        ids.extend(row["id"] for row in rows)
    return ids


def rows_of(database: Database, sql: str, handle_ids: Iterable[int], parameters: Sequence[Any] = ()) -> list[Row]:
    """All rows of `sql` with ``[ids]`` standing for the handle ids, asked in pieces; ids are our own integers."""
    rows: list[Row] = []
    for chunk in chunks(sorted(handle_ids)):
        rows.extend(database.query(sql.replace("[ids]", f"({', '.join(map(str, chunk))})"), parameters))
    return rows
