"""State in PostgreSQL: the tests of the stores once more, on a real server, and what only a server can do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mappings.errors import SettingsError, UnavailableError
from stores.database import Stores
from tests.postgres_server import needs_server, new_database, running_postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from stores.database import Stores
with Stores(sys.argv[1]).lock("x"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL of our own; its URL without a database."""
    with running_postgres() as running:
        yield running


@needs_server
def test_every_test_of_the_stores_passes_on_postgresql(server: str) -> None:
    suites = [
        "tests/stores",
        "tests/identity/test_resolver.py",
        "tests/taps/test_deliveries.py",
        "tests/targets/test_archive.py",
    ]
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
    return new_database(server)


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
