"""One `state_url` -> every durable store: a folder of SQLite files (or PostgreSQL), one writer at a time each.

SQL is written in the dialect that SQLite and PostgreSQL share (``INSERT .. ON CONFLICT DO UPDATE``, ``RETURNING``).
Schemas come from Alembic migrations, one history per store (`stores/migrations/<store>/`), applied when a store is
opened. SQL text goes straight to the driver: SQLAlchemy's expression layer costs 2.5 to 4 times on the hot path and is
used for schemas only.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mappings.errors import SettingsError
from stores.codec import Codec

if TYPE_CHECKING:
    from sqlalchemy import Engine

DEFAULT_STATE_URL = "sqlite:///.onethread"
_BUSY_SECONDS = 30
_MIGRATIONS = Path(__file__).parent / "migrations"

Row = Any
"""One row; its columns by name."""
Parameters = Sequence[Any]


class Database:
    """One open store. Reads see committed data; writes happen inside `transaction`."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        mode = "ro" if read_only else "rwc"
        self._connection = sqlite3.connect(
            f"file:{path}?mode={mode}", uri=True, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        if not read_only:
            self._connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a commit is on disk before anybody is told; shared commits make it nearly free.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA secure_delete = ON")
        self._connection.execute("PRAGMA foreign_keys = ON")

    def query(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a SELECT."""
        return self._connection.execute(sql, parameters).fetchall()

    def query_one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row of a SELECT, or ``None``."""
        row: Row | None = self._connection.execute(sql, parameters).fetchone()
        return row

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement; the number of rows it touched."""
        return self._connection.execute(sql, parameters).rowcount

    def execute_many(self, sql: str, rows: Sequence[Parameters]) -> None:
        """Run one statement for each of `rows`."""
        self._connection.executemany(sql, rows)

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """A write transaction: committed at the end, rolled back on any exception. Nesting joins the outer one.

        ``BEGIN IMMEDIATE`` takes the writer's lock at once: a deferred one fails at its first write when another
        process was faster (149,074 busy errors against 0, measured).
        """
        if self._is_writing():
            yield self
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self
            self._connection.execute("COMMIT")
        except BaseException:
            if self._is_writing():  # a full disk rolls back by itself
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Several reads that see one state of the store."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    def empty_log(self) -> bool:
        """Copy the write-ahead log into the file and cut it to nothing; whether nobody was in the way. Never waits."""
        self._connection.execute("PRAGMA busy_timeout = 0")
        try:
            row = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
        return not row[0]

    def sweep(self) -> bool:
        """Write the store anew without what was deleted, so that its bytes are gone; whether nobody was in the way.

        Takes as long as copying the file. Repeats: harmless.
        """
        try:
            self._connection.execute("VACUUM")
        except sqlite3.OperationalError:  # somebody writes for longer than one waits
            return False
        return self.empty_log()

    def __del__(self) -> None:
        if hasattr(self, "_connection"):  # a file that is not there raises in __init__
            self._connection.close()

    def _is_writing(self) -> bool:
        return self._connection.in_transaction

    def close(self) -> None:
        """Close the connection; the object cannot be used again."""
        self._connection.close()


class Stores:
    """All stores behind one state URL, opened when first used.

    Args:
        state_url: ``sqlite:///folder`` (relative), ``sqlite:////absolute/folder``, a plain path, or
            ``postgresql://user@host/database``; then the key file and media are in the folder that
            ONETHREAD_STATE_FOLDER names, by default ``.onethread``.
        key_file: the codec's key file; by default ``key.json`` in the folder, made when the folder is new.
    """

    def __init__(self, state_url: str | None = None, key_file: str | None = None) -> None:
        url = state_url or os.environ.get("ONETHREAD_STATE_URL") or DEFAULT_STATE_URL
        self.url = url
        self._postgres = url if url.startswith(("postgresql://", "postgres://")) else None
        if self._postgres:
            url = os.environ.get("ONETHREAD_STATE_FOLDER") or ".onethread"
            _need_psycopg()
        self.folder = folder_of(url)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_path = Path(key_file or os.environ.get("ONETHREAD_KEY_FILE") or self.folder / "key.json")
        with self.lock("key"):
            self.codec = Codec.from_key_file(key_path, create=not self._has_stores())
        self._open: dict[str, Database] = {}

    def database(self, name: str) -> Database:
        """The store `name`, migrated to the newest schema; the same object at each call."""
        if name not in self._open:
            self._open[name] = self.open(name)
        return self._open[name]

    def open(self, name: str, *, read_only: bool = False) -> Database:
        """A connection of its own to the store `name`; the caller closes it."""
        head = newest_revision(name)
        if self._postgres:
            from stores import postgres

            postgres.migrate(self._postgres, name, head)
            return postgres.PostgresDatabase(self._postgres, name, read_only=read_only)
        path = self.folder / f"{name}.db"
        if not path.exists() or _revision(path, name) != head:
            with self.lock(f"migrate-{name}"):
                _migrate(path, name, head)
        return Database(path, read_only=read_only)

    @contextmanager
    def lock(self, name: str, *, timeout_seconds: float | None = None) -> Iterator[None]:
        """Hold the lock `name` across all processes of this state URL; the kernel frees it when a process dies.

        Raises:
            TimeoutError: another process still holds it after `timeout_seconds` (``None`` waits for ever).
        """
        if self._postgres:
            from stores.postgres import PostgresLock

            with PostgresLock(self._postgres, name).hold(timeout_seconds):
                yield
            return
        path = self.folder / f"{name}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _flock(descriptor, name, timeout_seconds)
            yield
        finally:
            os.close(descriptor)

    def _has_stores(self) -> bool:
        """Whether something was written already: then the key must be there, a new one could read nothing."""
        if self._postgres is None:
            return any(self.folder.glob("*.db"))
        from stores import postgres

        with postgres.connect(self._postgres, None) as connection:
            found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'onethread\\_%'").fetchone()
            return found is not None

    def close(self) -> None:
        """Close every store that is open."""
        while self._open:
            self._open.popitem()[1].close()


def folder_of(state_url: str) -> Path:
    """The folder a state URL names; raises `SettingsError` for a URL that this version cannot use."""
    if "://" not in state_url:
        return Path(state_url).expanduser().absolute()
    parts = urlsplit(state_url)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return Path(unquote(parts.path[1:])).expanduser().absolute()
    msg = (
        f"state_url with scheme {parts.scheme!r} is not supported; use sqlite:///folder, sqlite:////absolute/folder or "
        "postgresql://user@host/database"
    )
    raise SettingsError(msg)


def newest_revision(name: str) -> str:
    """The last migration of the store `name`: files are named ``<store>_<number>_<what>.py``."""
    scripts = sorted(path.stem for path in (_MIGRATIONS / name).glob(f"{name}_*.py"))
    if not scripts:
        msg = f"there is no store named {name!r}"
        raise SettingsError(msg)
    return scripts[-1]


def _revision(path: Path, name: str) -> str | None:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    try:
        row = connection.execute(f"SELECT version_num FROM alembic_version_{name}").fetchone()  # noqa: S608 (our name)
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as error:
        msg = f"{path} is damaged ({error}); restore it from a backup. It has not been touched"
        raise SettingsError(msg) from None
    finally:
        connection.close()
    return row[0] if row else None


def _migrate(path: Path, name: str, head: str) -> None:
    """Bring one store to `head`. Alembic is imported only here: it costs a third of a second."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    if path.exists() and _revision(path, name) == head:
        return
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    # Python's sqlite3 commits before each CREATE by itself, and a process killed between two of them would leave a
    # schema that is neither old nor new. With its own transactions off, the whole migration is one.
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    old_umask = os.umask(0o077)
    try:
        upgrade(engine, name, head, str(path))
    finally:
        os.umask(old_umask)
        engine.dispose()


def upgrade(engine: Engine, name: str, head: str, where: str) -> None:
    """Run the migrations of one store in one transaction; `where` is what an error calls the place."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    logging.getLogger("alembic").setLevel(logging.WARNING)  # each store is made once, and says so three times
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("version_locations", str(_MIGRATIONS / name))
    config.set_main_option("path_separator", "os")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            config.attributes["version_table"] = f"alembic_version_{name}"
            command.upgrade(config, head)
    except CommandError as error:
        msg = f"{where} has a schema that this version does not know ({error}); it was written by a newer onethread"
        raise SettingsError(msg) from None


def _need_psycopg() -> None:
    from importlib.util import find_spec

    if find_spec("psycopg") is None:
        msg = "a state_url of postgresql:// needs psycopg: pip install 'onethread[postgresql]'"
        raise SettingsError(msg)


def _flock(descriptor: int, name: str, timeout_seconds: float | None) -> None:
    if timeout_seconds is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                msg = f"another process holds the lock {name!r}"
                raise TimeoutError(msg) from None
            time.sleep(0.05)
        else:
            return
