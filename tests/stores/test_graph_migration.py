"""A graph of an older version: it is brought up to date with everybody's id, and what was decided can be taken back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from itertools import permutations
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from identity.resolver import Resolver
from identity.rules import load_rules
from stores.database import Stores, upgrade
from stores.graph import Graph
from stores.graph.anchors import START as BEGINNING
from stores.graph.nodes import former_handle, time_number
from tests.identity.worlds import START, email, hubspot, messenger, person_ids, phone, whatsapp

ROWS = Path(__file__).with_name("graph_0004.sql")
KEYS = {"encryption_key": f"{1:064x}", "fingerprint_key": f"{2:064x}"}
SAME, SHARED, RECYCLED, RECYCLED_AGAIN = 1, 2, 3, 4

ADA, X = "01a202c0-ca47-7965-bb0a-c4b8123a2d11", "01a202c0-ca58-72ac-b52e-572508ee130e"
CLEO, FIRST_OWNER = "01a202c0-ca5f-7a64-b239-7b42bc510e34", "01a202c0-ca73-72fc-a61b-5c3b9163a4c8"
CLEO_IN_CRM, SHARED_LINE = "01a202c0-ca97-727a-9e12-06e355b0550a", "01a202c0-ca98-7115-afb0-7b36d04baffc"
LAST_OWNER, SECOND_OWNER = "01a202c0-caa5-7601-994a-a5aa6c6f410c", "01a202c0-cab1-74af-9c3e-65a953487a1e"

CUTS = {RECYCLED: START + timedelta(minutes=100), RECYCLED_AGAIN: START + timedelta(minutes=300)}


def owners(*taken_back: int) -> dict[str, str]:
    """Who has which handle, when these decisions have been taken back."""
    found = dict.fromkeys((whatsapp("u"), phone(1), hubspot("7"), email("ada")), ADA)
    found[messenger("x")] = X if SAME in taken_back else ADA
    found |= dict.fromkeys((whatsapp("v"), phone(2), hubspot("9"), email("cleo")), CLEO)
    if SHARED not in taken_back:
        found |= {phone(2): SHARED_LINE, hubspot("9"): CLEO_IN_CRM, email("cleo"): CLEO_IN_CRM}
    # Who had the phone first keeps the id, and whoever came later has another.
    cuts = [moment for number, moment in CUTS.items() if number not in taken_back]
    former = [former_handle(phone(3), f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}") for moment in cuts]
    found |= zip(
        (*former, phone(3)), (FIRST_OWNER, *([SECOND_OWNER] if len(cuts) > 1 else []), LAST_OWNER), strict=False
    )
    return {handle.key: person_id for handle, person_id in found.items()}


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    """Opened by this version, which upgrades it."""
    path, keys = tmp_path / "old" / "graph.db", tmp_path / "keys.json"
    path.parent.mkdir()
    keys.touch(mode=0o600)
    keys.write_text(json.dumps(KEYS))
    monkeypatch.setenv("ONETHREAD_KEY_FILE", str(keys))
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    upgrade(engine, "graph", "graph_0004_erasure", str(path))
    engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(ROWS.read_text(encoding="utf-8"))
    stores = Stores(f"sqlite:///{path.parent}")
    yield stores
    stores.close()


def test_everybody_keeps_their_handles_and_their_id(old: Stores) -> None:
    assert person_ids(old) == owners()
    graph = Graph(old)
    assert graph.current(X) == ADA
    assert [one.decision_id for one in graph.decisions()] == [RECYCLED_AGAIN, RECYCLED, SHARED, SAME]
    assert graph.best_name(ADA) == "Ada Example"
    assert graph.is_shared(SHARED_LINE)


def test_every_anchor_says_since_when_it_was_the_persons_and_whether_it_is_a_line_of_its_own(old: Stores) -> None:
    rows = old.database("graph").query("SELECT id, claimed, since, alone FROM person")
    assert {row["id"]: (row["since"], row["alone"]) for row in rows if row["since"] > BEGINNING or row["alone"]} == {
        SHARED_LINE: (BEGINNING, 1),
        SECOND_OWNER: (time_number(CUTS[RECYCLED]), 0),
        LAST_OWNER: (time_number(CUTS[RECYCLED_AGAIN]), 0),
    }
    assert {row["claimed"] for row in rows} == {0}


@pytest.mark.parametrize("order", [*permutations((SAME, SHARED, RECYCLED, RECYCLED_AGAIN))][::5])
def test_a_decision_of_before_can_be_taken_back_with_the_ids_of_before_it(old: Stores, order: tuple[int, ...]) -> None:
    resolver = Resolver(Graph(old), load_rules())
    for number in range(1, len(order) + 1):
        assert resolver.undo(order[number - 1], actor="bob")
        assert person_ids(old) == owners(*order[:number])


def test_what_is_decided_now_can_be_taken_back_too(old: Stores) -> None:
    resolver = Resolver(Graph(old), load_rules())
    now = [
        resolver.decide("same", [email("cleo"), messenger("x")], actor="bob"),
        resolver.decide("shared", [phone(1)], actor="bob"),
        resolver.decide("private", [phone(2)], actor="bob"),
        resolver.decide("recycled", [phone(3)], actor="bob", since=START + timedelta(minutes=350)),
    ]
    assert person_ids(old) != owners()
    for number in now:
        assert resolver.undo(number, actor="bob")
    assert person_ids(old) == owners()
