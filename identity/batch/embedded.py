"""The embedded engine: DuckDB for the SQL, SciPy for connected components, in one process and one temporary folder."""

# Names of tables and numbers are put into the SQL, never a value from outside.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from identity.batch.components import smallest_connected

_ROWS_AT_A_TIME = 65_536


class EmbeddedEngine:
    """Everything that does not fit into memory goes to files in `folder`."""

    def __init__(self, folder: Path, memory_limit: str | None = None) -> None:
        self._connection = duckdb.connect(
            config={"temp_directory": str(folder / "spilled"), "preserve_insertion_order": False}
        )
        self._connection.execute("SET enable_progress_bar = false")
        if memory_limit is not None:
            self._connection.execute(f"SET memory_limit = '{memory_limit}'")

    def read(self, folder: Path, names: Iterable[str]) -> None:
        """See `Engine.read`; nothing is copied."""
        for name in names:
            path = str(folder / f"{name}.parquet").replace("'", "''")
            self._connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}')")

    def upload(self, name: str, schema: pa.Schema, rows: Iterable[Sequence[Any]]) -> None:
        """See `Engine.upload`."""
        self._create_from(name, schema.empty_table())
        waiting = iter(rows)
        while piece := list(islice(waiting, _ROWS_AT_A_TIME)):
            columns = zip(*piece, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            self._append(name, pa.Table.from_arrays(arrays, schema=schema))

    def create(self, name: str, sql: str) -> None:
        """See `Engine.create`."""
        self._connection.execute(f"CREATE TABLE {name} AS {sql}")

    def connect(self, name: str, sql: str) -> None:
        """See `Engine.connect`. The pairs are in memory: 16 bytes each, and some for each handle up to the highest."""
        pairs = self._connection.execute(f"SELECT x.a, x.b FROM ({sql}) x").fetchnumpy()
        a, b = np.asarray(pairs["a"], np.int64), np.asarray(pairs["b"], np.int64)
        ids, labels = smallest_connected(a, b)
        self._create_from(name, pa.table({"id": ids, "label": labels}))

    def map_groups(
        self, name: str, schema: pa.Schema, sql: str, group: Callable[[list[tuple[Any, ...]]], list[tuple[Any, ...]]]
    ) -> None:
        """See `Engine.map_groups`."""
        rows = self.rows(f"SELECT * FROM ({sql}) x ORDER BY 1")
        self.upload(name, schema, (row for _, rows in groupby(rows, key=itemgetter(0)) for row in group(list(rows))))

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """See `Engine.rows`."""
        cursor = self._connection.cursor()
        cursor.execute(sql)
        try:
            while piece := cursor.fetchmany(_ROWS_AT_A_TIME):
                yield from piece
        finally:
            cursor.close()

    def drop(self, *names: str) -> None:
        """See `Engine.drop`."""
        for name in names:
            self._connection.execute(f"DROP TABLE {name}")

    def close(self) -> None:
        """See `Engine.close`."""
        self._connection.close()

    def _create_from(self, name: str, table: pa.Table) -> None:
        self._connection.register("given", table)
        self._connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
        self._connection.unregister("given")

    def _append(self, name: str, table: pa.Table) -> None:
        self._connection.register("given", table)
        self._connection.execute(f"INSERT INTO {name} SELECT * FROM given")
        self._connection.unregister("given")
