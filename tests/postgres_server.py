"""A PostgreSQL server of the tests' own, where PostgreSQL is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import psycopg
import pytest

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "/nowhere").parent]
needs_server = pytest.mark.skipif(not (SERVERS[-1] / "initdb").exists(), reason="PostgreSQL is not installed here")


@contextmanager
def running_postgres() -> Iterator[str]:
    """A server on a free port; its URL without a database.

    Its data are not in pytest's temporary folder: whichever pytest starts next takes all rights of others off that, and
    as root the server runs as somebody else.
    """
    with (
        tempfile.TemporaryDirectory(prefix="onethread-postgres-", ignore_cleanup_errors=True) as name,
        (Path(name) / "commands.log").open("wb") as log,
    ):
        yield from _run(Path(name), log)


def _run(folder: Path, log: BinaryIO) -> Iterator[str]:
    user: str | None = None
    if os.geteuid() == 0:  # it refuses to run as root
        user = "nobody"
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"

    def run(*command: str | Path) -> None:
        subprocess.run(command, user=user, cwd=folder, stdout=log, stderr=log, check=True)

    run(SERVERS[-1] / "initdb", "-D", data, "-U", "onethread", "-A", "trust", "-E", "UTF8")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    control: list[str | Path] = [SERVERS[-1] / "pg_ctl", "-D", data, "-w"]
    run(*control, "-o", options, "-l", folder / "server.log", "start")
    try:
        yield f"postgresql://onethread@127.0.0.1:{port}"
    finally:
        run(*control, "-m", "immediate", "stop")


def new_database(server: str) -> str:
    """The URL of a new, empty database."""
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server}/{name}"
