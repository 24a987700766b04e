"""Batch and stream say the same of a graph in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stores.database import Stores
from stores.graph import bulk
from tests.identity.test_batch import (
    OTHER_RULES,
    check_from_scratch,
    check_nothing_changes,
    check_other_rules,
    check_while_others_write,
    over_worlds,
)
from tests.identity.worlds import TABLES
from tests.postgres_server import needs_server, new_database, running_postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), needs_server]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_postgres() as running:
        yield running


@pytest.fixture
def world_stores(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    def empty(stores: Stores) -> None:
        database = stores.database("graph")
        with database.transaction():
            for table in TABLES:
                database.execute(f"DELETE FROM {table}")
            database.execute("UPDATE counter SET value = 0 WHERE name = 'sequence'")
            database.execute("UPDATE counter SET value = value + 1 WHERE name = 'generation'")

    monkeypatch.setattr("tests.identity.worlds.empty", empty)
    stores = Stores(new_database(server))
    yield stores
    stores.close()


def test_worlds_in_postgresql(world_stores: Stores) -> None:
    from hypothesis import strategies as st

    over_worlds(check_nothing_changes(world_stores), 15)
    over_worlds(check_from_scratch(world_stores), 25)
    over_worlds(check_other_rules(world_stores), 15, rules=st.sampled_from(OTHER_RULES))
    over_worlds(check_while_others_write(world_stores), 10)


def test_worlds_that_are_read_by_another_process(world_stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_FEW", 0)
    over_worlds(check_from_scratch(world_stores), 6)
