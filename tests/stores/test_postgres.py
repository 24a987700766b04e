"""State in PostgreSQL: the tests of the stores once more, on a real server, and what only a server can do."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from mappings.errors import SettingsError, UnavailableError
from stores.database import Stores

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from stores.database import Stores
with Stores(sys.argv[1]).lock("x"):
    print("held", flush=True)
    sys.stdin.read()
"""
SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "/nowhere").parent]
needs_server = pytest.mark.skipif(not (SERVERS[-1] / "initdb").exists(), reason="PostgreSQL is not installed here")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of our own on a free port; its URL without a database."""
    folder = tmp_path_factory.mktemp("postgres")
    user: str | None = None
    if os.geteuid() == 0:  # it refuses to run as root
        user = "nobody"
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        for parent in (folder, *folder.parents):
            if parent.stat().st_uid == 0 and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    log = (folder / "commands.log").open("wb")

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
        log.close()


@needs_server
def test_every_test_of_the_stores_passes_on_postgresql(server: str) -> None:
    suites = ["tests/stores", "tests/identity", "tests/taps/test_deliveries.py", "tests/targets/test_archive.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "-m", "not slow and not sqlite", *suites],
        cwd=ROOT, env={**os.environ, "TEST_POSTGRES_URL": server}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed.group(1)) > 200


@pytest.fixture
def url(server: str) -> str:
    """A database of this test's own."""
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server}/{name}"


@needs_server
def test_a_lock_is_free_as_soon_as_its_process_is_dead(url: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    stores = Stores(url)
    with pytest.raises(TimeoutError), stores.lock("x", timeout_seconds=0.2):
        pass
    holder.kill()
    holder.communicate()
    with stores.lock("x", timeout_seconds=20):
        pass


@needs_server
def test_a_connection_that_was_cut_is_made_again(url: str) -> None:
    database = Stores(url).database("parked")
    with pytest.raises(UnavailableError):
        database.query("SELECT pg_terminate_backend(pg_backend_pid())")
    assert [row["n"] for row in database.query("SELECT COUNT(*) AS n FROM parked")] == [0]


@needs_server
def test_a_key_that_is_missing_is_not_replaced_once_something_is_stored(url: str) -> None:
    stores = Stores(url)
    stores.database("parked")
    stores.close()
    (stores.folder / "key.json").unlink()
    with pytest.raises(SettingsError, match="key"):
        Stores(url)


def test_an_error_of_the_server_tells_no_password() -> None:
    with pytest.raises(UnavailableError) as raised:
        Stores("postgresql://onethread:canary@127.0.0.1:1/nowhere")
    assert "canary" not in str(raised.value)
