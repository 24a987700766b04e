"""Tables of the graph, read through ADBC into Arrow files by a process of its own: see `stores.graph.bulk.export`.

Run as a script. It imports neither the project nor NumPy, which would take it as long as a million rows.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

sys.modules["numpy"] = None  # type: ignore[assignment]  # PyArrow and ADBC go without it

import adbc_driver_manager as adbc  # noqa: E402
import pyarrow as pa  # noqa: E402

_READERS = 2
_TRIES = 50


def main() -> None:
    """Export what standard input asks for; print the counter of the state that was exported.

    Standard input, one line: ``{"uri": .., "postgresql": false, "options": {..}, "counter": "SELECT ..", "folder": ..,
    "tables": {"handle": {"sql": "SELECT ..", "columns": {"id": "int64", ..}}}}``; ``options``: of ADBC, for each query.
    It stays open until whoever asked has the answer: when it closes before, nobody wants it any more.
    """
    asked = json.loads(sys.stdin.readline())
    Thread(target=_end_with_who_asked, daemon=True).start()
    os.umask(0o077)
    connect = _connect_postgresql if asked["postgresql"] else _connect_sqlite
    connections, counter = _of_one_moment(connect, asked["uri"], asked["counter"])
    waiting = iter(asked["tables"].items())

    def read_some(connection: Any) -> None:
        for name, table in waiting:
            _write(connection, table, asked["options"], Path(asked["folder"], f"{name}.arrow"))

    with ThreadPoolExecutor() as pool:
        for reader in [pool.submit(read_some, connection) for connection in connections]:
            reader.result()
    for connection in connections:
        connection.close()
    sys.stdout.write(str(counter))


def _end_with_who_asked() -> None:
    sys.stdin.read()
    os._exit(1)


def _of_one_moment(connect: Callable[[str], Any], uri: str, counter: str) -> tuple[list[Any], int]:
    """Connections that see one state of the graph, and its counter; only one where others write all the time."""
    for _ in range(_TRIES):
        connections = [connect(uri) for _ in range(_READERS)]
        seen = [_number(connection, counter) for connection in connections]
        if len(set(seen)) == 1:
            return connections, seen[0]
        for connection in connections:
            connection.close()
    connection = connect(uri)
    return [connection], _number(connection, counter)


def _connect_sqlite(uri: str) -> Any:
    import adbc_driver_sqlite

    connection = adbc.AdbcConnection(adbc_driver_sqlite.connect(uri))
    connection.set_autocommit(False)
    return connection


def _connect_postgresql(uri: str) -> Any:
    import adbc_driver_postgresql

    connection = adbc.AdbcConnection(adbc_driver_postgresql.connect(uri))
    connection.set_autocommit(False)
    for sql in (
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
        "SET LOCAL search_path TO onethread_graph",
    ):
        with adbc.AdbcStatement(connection) as statement:
            statement.set_sql_query(sql)
            statement.execute_update()
    return connection


def _number(connection: Any, sql: str) -> int:
    [number] = [row for batch in _batches(connection, sql, {}) for row in batch.column(0).to_pylist()]
    return int(number)


def _batches(connection: Any, sql: str, options: Mapping[str, str]) -> Iterator[Any]:
    with adbc.AdbcStatement(connection) as statement:
        statement.set_options(**options)
        statement.set_sql_query(sql)
        stream, _ = statement.execute_query()
        with pa.RecordBatchReader.from_stream(stream) as batches:
            yield from batches


def _write(connection: Any, table: Mapping[str, Any], options: Mapping[str, str], path: Path) -> None:
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in table["columns"].items()])
    # As it is in memory: whoever asked maps it. Parquet takes longer to write and to read than the store to be read.
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in _batches(connection, table["sql"], options):
            writer.write_batch(batch if batch.schema.equals(schema) else batch.cast(schema))


if __name__ == "__main__":
    main()
