"""The embedded engine: DuckDB for the SQL, SciPy for connected components, in one process and one temporary folder."""

# Names of tables and numbers are put into the SQL, never a value from outside.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from identity.batch.components import smallest_connected
from identity.batch.engine import LookUp

_ROWS_AT_A_TIME = 65_536
_ROWS_LOOKED_UP = 1_000_000


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

    def look_up(self, name: str, sql: str, *columns: LookUp, where: str = "TRUE") -> None:
        """See `Engine.look_up`. In memory: the columns looked up in, and 4 bytes for each number up to the highest."""
        sources = {
            (table, by): _Source(self._connection.sql(f"SELECT * FROM {table}").to_arrow_table(), by)
            for table, by in {(one.table, one.by): None for one in columns}
        }
        cursor = self._connection.cursor()
        try:
            rows = cursor.sql(sql).to_arrow_reader(_ROWS_LOOKED_UP)
            pieces = (pa.Table.from_batches([batch]) for batch in rows)
            for place, table in enumerate(chain([rows.schema.empty_table()], pieces)):
                for one in columns:
                    values = sources[one.table, one.by].values(one, table.column(one.key))
                    table = table.append_column(one.column, values)
                self._fill(f"INSERT INTO {name}" if place else f"CREATE TABLE {name} AS", table, where)
        finally:
            cursor.close()

    def several(self, name: str, sql: str) -> None:
        """See `Engine.several`. In memory: 16 bytes for each row, and 8 for each number up to the highest."""
        found = self._connection.sql(f"SELECT x.id, x.other FROM ({sql}) x").to_arrow_table()
        ids, others = (np.asarray(found.column(column), np.int64) for column in ("id", "other"))
        one = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
        one[ids] = others  # of several values for one place any is kept
        self._create_from(name, pa.table({"id": np.unique(ids[one[ids] != others])}))

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
        self._fill(f"CREATE TABLE {name} AS", table)

    def _append(self, name: str, table: pa.Table) -> None:
        self._fill(f"INSERT INTO {name}", table)

    def _fill(self, what: str, table: pa.Table, where: str = "TRUE") -> None:
        self._connection.register("given", table)
        self._connection.execute(f"{what} SELECT * FROM given WHERE {where}")
        self._connection.unregister("given")


class _Source:
    """A table by the numbers in one of its columns."""

    def __init__(self, table: pa.Table, by: str) -> None:
        numbers = table.column(by).to_numpy()
        self._table = table
        self._columns: dict[tuple[str, Any], pa.Array] = {}
        # What is missing is behind the last row. So is -1, which is nobody: Python counts it from the end.
        kind = np.int32 if len(numbers) < 2**31 else np.int64
        self._rows = np.full(int(numbers.max(initial=-1)) + 2, len(numbers), kind)
        self._rows[numbers] = np.arange(len(numbers), dtype=kind)

    def values(self, one: LookUp, numbers: pa.ChunkedArray) -> pa.Array:
        """What stands in the column beside these numbers."""
        key = (one.value, one.missing)
        if key not in self._columns:
            column = self._table.column(one.value)
            kind = pa.large_string() if pa.types.is_string(column.type) else column.type  # there may be more than 2 GB
            self._columns[key] = pa.concat_arrays([*column.cast(kind).chunks, pa.array([one.missing], kind)])
        rows = self._rows[np.minimum(numbers.to_numpy(), len(self._rows) - 1)]
        return self._columns[key].take(pa.array(rows))
