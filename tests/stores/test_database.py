"""State URLs, migrations, transactions and locks."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mappings.errors import SettingsError
from stores.control import Facts, Pauses
from stores.database import Stores, folder_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("sqlite:////var/lib/onethread", Path("/var/lib/onethread")),
        ("sqlite:///state", Path.cwd() / "state"),
        ("state", Path.cwd() / "state"),
    ],
)
def test_a_state_url_names_a_folder(url: str, folder: Path) -> None:
    assert folder_of(url) == folder


def test_an_unknown_state_url_says_what_is_possible() -> None:
    with pytest.raises(SettingsError, match="sqlite:///folder"):
        folder_of("mysql://host/db")


@pytest.mark.sqlite
def test_a_store_is_migrated_when_opened(stores: Stores) -> None:
    stores.database("parked")
    with sqlite3.connect(stores.folder / "parked.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version_parked").fetchone() == ("parked_0001_first",)


@pytest.mark.sqlite
def test_a_newer_schema_is_refused_and_left_alone(stores: Stores, state_url: str) -> None:
    stores.database("parked")
    stores.close()
    path = Path(folder_of(state_url)) / "parked.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version_parked SET version_num = 'parked_9999_future'")
    with pytest.raises(SettingsError, match="newer onethread"):
        Stores(state_url).database("parked")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version_parked").fetchone() == (
            "parked_9999_future",
        )


@pytest.mark.sqlite
def test_a_damaged_file_is_refused_and_left_alone(stores: Stores, state_url: str) -> None:
    path = stores.folder / "parked.db"
    path.write_bytes(b"SQLite format 3\x00" + b"garbage" * 400)
    before = path.read_bytes()
    with pytest.raises(SettingsError, match="damaged"):
        Stores(state_url).database("parked")
    assert path.read_bytes() == before


@pytest.mark.sqlite
def test_a_transaction_is_all_or_nothing(stores: Stores) -> None:
    database = stores.database("control")
    with pytest.raises(sqlite3.IntegrityError), database.transaction():
        database.execute_many("INSERT INTO fact (name, value, changed_at) VALUES ('a', ?, '')", [("1",), ("2",)])
    assert database.query("SELECT * FROM fact") == []


def test_two_holders_of_one_lock_are_refused(stores: Stores, state_url: str) -> None:
    other = Stores(state_url)
    with stores.lock("send"), pytest.raises(TimeoutError), other.lock("send", timeout_seconds=0):
        pass
    with other.lock("send", timeout_seconds=0):
        pass


def test_the_longer_pause_stays(stores: Stores) -> None:
    pauses = Pauses(stores)
    pauses.pause("hubspot:1", 100)
    pauses.pause("hubspot:1", 1)
    assert pauses.seconds_left("hubspot:1") > 50
    assert pauses.seconds_left("hubspot:2") == 0


def test_a_fact_is_kept(stores: Stores, state_url: str) -> None:
    Facts(stores).save("hubspot:1:communication_key", "property")
    assert Facts(Stores(state_url)).load("hubspot:1:communication_key") == "property"
    assert Facts(stores).load("other") is None


KILLED_WHILE_MIGRATING = """
import os, signal, sys
from alembic import op
op.create_index = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
from stores.database import Stores
Stores(sys.argv[1]).database("archive")
"""


def test_a_process_killed_while_migrating_leaves_a_store_that_the_next_one_can_open(state_url: str) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_MIGRATING, state_url], check=False, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert Stores(state_url).database("archive").query("SELECT version_num FROM alembic_version_archive")
