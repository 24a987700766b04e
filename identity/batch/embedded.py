"""The embedded engine: DuckDB for the SQL, SciPy for connected components, in one process and one temporary folder."""

# Names of tables and numbers are put into the SQL, never a value from outside.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
_ROWS_LOOKED_UP = 262_144


class EmbeddedEngine:
    """Everything that does not fit into memory goes to files in `folder`."""

    def __init__(self, folder: Path, memory_limit: str | None = None) -> None:
        self._connection = duckdb.connect(
            config={"temp_directory": str(folder / "spilled"), "preserve_insertion_order": False}
        )
        self._connection.execute("SET enable_progress_bar = false")
        self._given: dict[str, pa.Table] = {}
        if memory_limit is not None:
            self._connection.execute(f"SET memory_limit = '{memory_limit}'")

    def read(self, tables: Mapping[str, pa.Table]) -> None:
        """See `Engine.read`; nothing is copied."""
        for name, table in tables.items():
            self._connection.register(name, table)
        self._given |= tables

    def upload(self, name: str, schema: pa.Schema, rows: Iterable[Sequence[Any]]) -> None:
        """See `Engine.upload`."""
        waiting = iter(rows)
        pieces = iter(lambda: list(islice(waiting, _ROWS_AT_A_TIME)), [])
        tables = (
            pa.Table.from_arrays(
                [pa.array(column, field.type) for column, field in zip(zip(*piece, strict=True), schema, strict=True)],
                schema=schema,
            )
            for piece in pieces
        )
        self._fill_all(name, chain([schema.empty_table()], tables))

    def create(self, name: str, sql: str) -> None:
        """See `Engine.create`."""
        self._connection.execute(f"CREATE TABLE {name} AS {sql}")

    def connect(self, name: str, sql: str) -> None:
        """See `Engine.connect`. The pairs are in memory: 16 bytes each, and some for each handle up to the highest."""
        pairs = self._connection.sql(f"SELECT x.a, x.b FROM ({sql}) x").to_arrow_table()
        ids, labels = smallest_connected(*(np.asarray(pairs.column(end), np.int64) for end in ("a", "b")))
        self.read({name: pa.table({"id": ids, "label": labels})})

    def look_up(self, name: str, source: str, *columns: LookUp, where: str = "") -> None:
        """See `Engine.look_up`. In memory: what is looked up, for each number up to the highest; the rest at times."""
        sources = {key: self._source(*key, columns) for key in {(one.table, one.by) for one in columns}}

        def more(piece: pa.Table) -> pa.Table:
            for one in columns:
                values = sources[one.table, one.by].values(one, piece)
                piece = piece.append_column(one.column, values)
            return piece

        if source not in self._given:
            sql = f"SELECT * FROM {source}" if source.isidentifier() else source
            self._fill_all(name, (more(piece) for piece in self._pieces(sql)), where)
        elif where:
            whole = self._given[source]
            places = range(0, max(whole.num_rows, 1), _ROWS_LOOKED_UP)
            self._fill_all(name, (more(whole.slice(place, _ROWS_LOOKED_UP)) for place in places), where)
        else:
            self.read({name: more(self._given[source])})

    def several(self, name: str, sql: str) -> None:
        """See `Engine.several`. In memory: 16 bytes for each row, and 8 for each number up to the highest."""
        found = self._connection.sql(f"SELECT x.id, x.other FROM ({sql}) x").to_arrow_table()
        ids, others = (np.asarray(found.column(column), np.int64) for column in ("id", "other"))
        one = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
        one[ids] = others  # of several values for one place any is kept
        self.read({name: pa.table({"id": np.unique(ids[one[ids] != others])})})

    def frequent(self, name: str, sql: str, most: int) -> None:
        """See `Engine.frequent`. In memory: 8 bytes for each row, and for each number up to the highest, if less."""
        found = self._connection.sql(f"SELECT x.id FROM ({sql}) x").to_arrow_table()
        ids = np.asarray(found.column("id"), np.int64)
        if ids.max(initial=0) < 4 * len(ids):
            often = np.flatnonzero(np.bincount(ids) > most)
        else:
            numbers, counts = np.unique(ids, return_counts=True)
            often = numbers[counts > most]
        self.read({name: pa.table({"id": often})})

    def map_groups(
        self, name: str, schema: pa.Schema, sql: str, group: Callable[[list[tuple[Any, ...]]], list[tuple[Any, ...]]]
    ) -> None:
        """See `Engine.map_groups`."""
        rows = self.rows(f"SELECT * FROM ({sql}) x ORDER BY 1")
        self.upload(name, schema, (row for _, rows in groupby(rows, key=itemgetter(0)) for row in group(list(rows))))

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """See `Engine.rows`."""
        cursor = self._cursor(sql)
        cursor.execute(sql)
        try:
            while piece := cursor.fetchmany(_ROWS_AT_A_TIME):
                yield from piece
        finally:
            cursor.close()

    def drop(self, *names: str) -> None:
        """See `Engine.drop`."""
        for name in names:
            if self._given.pop(name, None) is None:
                self._connection.execute(f"DROP TABLE {name}")
            else:
                self._connection.unregister(name)

    def close(self) -> None:
        """See `Engine.close`."""
        self._connection.close()

    def _cursor(self, sql: str) -> duckdb.DuckDBPyConnection:
        """For results that are read while other queries run; what was only registered has to be again."""
        cursor = self._connection.cursor()
        for name, table in self._given.items():
            if name in sql:
                cursor.register(name, table)
        return cursor

    def _pieces(self, sql: str) -> Iterator[pa.Table]:
        """The rows of a query, at least an empty piece."""
        cursor = self._cursor(sql)
        try:
            rows = cursor.sql(sql).to_arrow_reader(_ROWS_LOOKED_UP)
            yield rows.schema.empty_table()
            for batch in rows:
                yield pa.Table.from_batches([batch])
        finally:
            cursor.close()

    def _source(self, table: str, by: str, columns: Iterable[LookUp]) -> _Source:
        if table in self._given:
            return _Source(self._given[table], by)
        wanted = ", ".join(sorted({by, *(one.value for one in columns if (one.table, one.by) == (table, by))}))
        return _Source(self._connection.sql(f"SELECT {wanted} FROM {table}").to_arrow_table(), by)

    def _fill_all(self, name: str, pieces: Iterable[pa.Table], where: str = "") -> None:
        """A table of all pieces, of which there is one at least."""
        for place, piece in enumerate(pieces):
            self._connection.register("piece_given", piece)
            into = f"INSERT INTO {name}" if place else f"CREATE TABLE {name} AS"
            self._connection.execute(f"{into} SELECT * FROM piece_given WHERE {where or 'TRUE'}")
            self._connection.unregister("piece_given")


class _Source:
    """A table by the numbers in one of its columns."""

    def __init__(self, table: pa.Table, by: str) -> None:
        self._table = table
        self._numbers = table.column(by).to_numpy()
        # What is missing is behind the highest. So is -1, which is nobody: Python counts it from the end.
        self._places = int(self._numbers.max(initial=-1)) + 2
        self._columns: dict[tuple[str, Any], Any] = {}

    def values(self, one: LookUp, table: pa.Table) -> pa.Array:
        """What stands in the column beside the numbers in a table."""
        column = self._table.column(one.value)
        places = np.minimum(table.column(one.key).to_numpy(), self._places - 1)
        if pa.types.is_string(column.type):
            rows = self._by_number("", np.arange(len(column)), len(column))[places]
            return self._texts(one.value, column, str(one.missing)).take(pa.array(rows))
        values = self._by_number(one.value, column, one.missing)[places]
        if one.otherwise:
            known = self._by_number("", np.arange(len(column)), len(column))[places] < len(column)
            values = np.where(known, values, table.column(one.otherwise).to_numpy())
        return pa.array(values)

    def _by_number(self, name: str, values: Any, missing: Any) -> Any:
        """The value for each number at that place."""
        if (name, missing) not in self._columns:
            kept = np.asarray(values)
            self._columns[name, missing] = np.full(self._places, missing, kept.dtype)
            self._columns[name, missing][self._numbers] = kept
        return self._columns[name, missing]

    def _texts(self, name: str, column: pa.ChunkedArray, missing: str) -> pa.Array:
        """The texts as they stand in the table, and what stands for others behind them."""
        if (name, missing) not in self._columns:
            # There may be more than 2 GB of text, which is too much for a string array.
            last = pa.array([missing], pa.large_string())
            self._columns[name, missing] = pa.concat_arrays([*column.cast(pa.large_string()).chunks, last])
        return self._columns[name, missing]
