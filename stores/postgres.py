"""The stores in PostgreSQL: one schema for each, the same SQL, the same promises.

Chosen by ``state_url=postgresql://user@host/database``; needs ``pip install 'onethread[postgresql]'`` (psycopg: the
alternative, asyncpg, is for asyncio only). A write transaction takes the store's advisory lock first: as with SQLite
there is one writer at a time, so ids and sequences are committed in the order in which they were given out, and a
reader's bookmark never passes a row that is not there yet.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.types.numeric import IntDumper

from mappings.errors import SettingsError, UnavailableError
from stores.database import Database, Row, upgrade

_CONNECT_SECONDS = 10


class _BoolDumper(IntDumper):
    """Truth is 0 or 1 in our schemas, as SQLite has it."""

    def dump(self, obj: Any) -> Any:
        return super().dump(int(obj))


def _rows(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], Any]:
    """Rows as SQLite's: by name and by number, and their values in order."""
    numbers = {column.name: number for number, column in enumerate(cursor.description or ())}

    class _Row(tuple[Any, ...]):
        __slots__ = ()

        def __getitem__(self, key: Any) -> Any:
            return super().__getitem__(numbers[key] if isinstance(key, str) else key)

        def keys(self) -> list[str]:
            return list(numbers)

    return _Row


class PostgresDatabase(Database):
    """One open store. The connection is made again after it was lost, save inside a transaction."""

    def __init__(self, url: str, name: str, *, read_only: bool = False) -> None:
        self._url, self._name, self._read_only = url, name, read_only
        self._using = threading.RLock()
        self._postgres: psycopg.Connection[Any] | None = None
        self._connected()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows of a SELECT."""
        with self._using, _told(self._url):
            return self._run(sql, parameters).fetchall()

    def query_one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        """The first row of a SELECT, or ``None``."""
        with self._using, _told(self._url):
            return self._run(sql, parameters).fetchone()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement; the number of rows it touched."""
        with self._using, _told(self._url):
            return self._run(sql, parameters).rowcount

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each of `rows`."""
        if rows:
            with self._using, _told(self._url), self._connected().cursor() as cursor:
                cursor.executemany(_placeholders(sql), rows)

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """A write transaction: committed at the end, rolled back on any exception. Nesting joins the outer one."""
        with self._using, _told(self._url):
            if self._is_writing():
                yield self
                return
            with self._connected().transaction():
                self._run("SELECT pg_advisory_xact_lock(?)", (lock_number(f"write-{self._name}"),))
                yield self

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Several reads that see one state of the store."""
        with self._using, _told(self._url), self._connected().transaction():
            self._run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", ())
            yield

    def empty_log(self) -> bool:
        """Nothing: the server looks after its own log."""
        return True

    def sweep(self) -> bool:
        """Free what was deleted, so that the server writes over it."""
        with self._using, _told(self._url):
            self._run("VACUUM", ())
        return True

    def close(self) -> None:
        """Close the connection; the object cannot be used again."""
        with self._using:
            if self._postgres is not None:
                self._postgres.close()

    def __del__(self) -> None:
        connection = getattr(self, "_postgres", None)
        if connection is not None:
            connection.close()

    def _is_writing(self) -> bool:
        connection = self._postgres
        return connection is not None and connection.info.transaction_status in {
            psycopg.pq.TransactionStatus.INTRANS,
            psycopg.pq.TransactionStatus.INERROR,
        }

    def _run(self, sql: str, parameters: Sequence[Any]) -> psycopg.Cursor[Any]:
        return self._connected().execute(_placeholders(sql), parameters)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._postgres is None or self._postgres.closed:
            self._postgres = connect(self._url, self._name)
            self._postgres.read_only = self._read_only
        return self._postgres


class PostgresLock:
    """A lock of the server's, held by a connection of its own: it is free as soon as that connection is gone."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name

    @contextmanager
    def hold(self, timeout_seconds: float | None) -> Iterator[None]:
        """Hold it; raises `TimeoutError` when another process does so for longer than `timeout_seconds`."""
        number = lock_number(self._name)
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with _told(self._url):
            connection = connect(self._url, None)
        try:
            while connection.execute("SELECT 1 WHERE pg_try_advisory_lock(%s)", (number,)).fetchone() is None:
                if deadline is not None and time.monotonic() >= deadline:
                    msg = f"another process holds the lock {self._name!r}"
                    raise TimeoutError(msg)
                time.sleep(0.05)
            yield
        finally:
            connection.close()


def connect(url: str, name: str | None) -> psycopg.Connection[Any]:
    """A connection to the database, in the schema of the store `name`."""
    options = f"-c search_path=onethread_{name}" if name else ""
    connection = psycopg.connect(
        url,
        autocommit=True,
        row_factory=_rows,
        connect_timeout=_CONNECT_SECONDS,
        options=f"{options} -c synchronous_commit=on",
        application_name="onethread",
    )
    connection.adapters.register_dumper(bool, _BoolDumper)
    return connection


def migrate(url: str, name: str, head: str) -> None:
    """Bring the schema of one store to `head`, all or nothing."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    with _told(url), PostgresLock(url, f"migrate-{name}").hold(None):
        with connect(url, None) as connection:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS onethread_{name}".encode())
            table = connection.execute(
                "SELECT to_regclass(%s) AS found", (f"onethread_{name}.alembic_version_{name}",)
            ).fetchone()
            if table is not None and table["found"] is not None:
                version = f"SELECT version_num FROM onethread_{name}.alembic_version_{name}".encode()  # noqa: S608 (our name)
                row = connection.execute(version).fetchone()
                if row is not None and row["version_num"] == head:
                    return

        def make() -> Any:
            return psycopg.connect(url, connect_timeout=_CONNECT_SECONDS, options=f"-c search_path=onethread_{name}")

        engine = create_engine("postgresql+psycopg://", creator=make, poolclass=NullPool)
        try:
            upgrade(engine, name, head, f"the schema onethread_{name}")
        finally:
            engine.dispose()


def lock_number(name: str) -> int:
    """The number by which PostgreSQL knows a lock."""
    return int.from_bytes(hashlib.sha256(f"onethread {name}".encode()).digest()[:8], "big", signed=True)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Say what went wrong with the server in words that hold no password."""
    try:
        yield
    except psycopg.OperationalError as error:
        host = urlsplit(url).hostname or "the local socket"
        msg = f"PostgreSQL at {host} does not answer ({type(error).__name__}): is it running, and may we log in?"
        raise UnavailableError(msg) from error
    except psycopg.errors.InsufficientPrivilege:
        msg = "PostgreSQL: the role of state_url may not create schemas; GRANT CREATE ON DATABASE ... TO it"
        raise SettingsError(msg) from None


@lru_cache(maxsize=512)
def _placeholders(sql: str) -> Any:
    return sql.replace("%", "%%").replace("?", "%s")
