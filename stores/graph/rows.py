"""Rows of many handles, asked for in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from stores.database import Database, Row
from stores.graph.nodes import chunks


def rows_of(database: Database, sql: str, handle_ids: Iterable[int], parameters: Sequence[Any] = ()) -> list[Row]:
    """All rows of `sql` with ``[ids]`` standing for the handle ids, asked in pieces; ids are our own integers."""
    rows: list[Row] = []
    for chunk in chunks(sorted(handle_ids)):
        rows.extend(database.query(sql.replace("[ids]", f"({', '.join(map(str, chunk))})"), parameters))
    return rows
