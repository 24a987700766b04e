"""Spark finds what the embedded engine finds, to the byte."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.identity_batch import World, fill
from identity.batch import rebuild
from identity.resolver import Resolver
from identity.rules import load_rules
from stores.database import Stores
from stores.graph import Graph
from tests.identity.test_batch import quiet, results
from tests.identity.worlds import contact, email, evidence, message, phone, whatsapp

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java"),
    pytest.mark.skipif(find_spec("pyspark") is None, reason="pyspark is not installed (extra: spark)"),
    pytest.mark.filterwarnings("default"),  # the JVM's sockets are closed when the process ends
]


@pytest.fixture
def decided(tmp_path: Path) -> Iterator[Stores]:
    """Ten thousand pieces of evidence, some decisions, and everybody has an id."""
    stores = Stores(str(tmp_path / "large"))
    world = World(10_000)
    fill(stores, world, world.evidence())
    rebuild(stores, load_rules(), say=quiet)
    resolver = Resolver(Graph(stores), load_rules())
    resolver.resolve([message(whatsapp("s"), phone(0)), message(whatsapp("t"), phone(0), minute=525_600)])
    resolver.resolve([contact("11", email("a"), email("b")), contact("12", email("c"), merged_record_ids=["13"])])
    resolver.resolve([evidence(email("b"), email("c"), minute=7), evidence(whatsapp("s"), email("a"))])
    resolver.decide("different", [email("a"), phone(0)], actor="ann")
    resolver.decide("same", [whatsapp("t"), email("c")], actor="ann")
    resolver.decide("shared", [email("b")], actor="ann")
    for anchor, other in ((email("anchor1"), phone(1)), (email("anchor2"), phone(2))):  # their ids go to other anchors
        resolver.resolve([message(anchor)])
        resolver.resolve([evidence(anchor, other)])
        resolver.decide("shared", [anchor], actor="ann")
    yield stores
    stores.close()


def test_spark_puts_right_what_is_wrong(decided: Stores) -> None:
    expected = results(decided)
    assert all(len(rows) > 1 for rows in expected.values()), {name: len(rows) for name, rows in expected.items()}
    database = decided.database("graph")
    with database.transaction():
        database.execute("UPDATE handle SET person_id = NULL")
        database.execute("UPDATE handle SET link = 'links' WHERE link = 'shared'")
        database.execute("DELETE FROM conflict")
    report = rebuild(decided, load_rules(), engine="spark", say=quiet)
    assert (report.written, report.persons_new) == ("all", 0)
    assert results(decided) == expected
    assert rebuild(decided, load_rules(), say=quiet).differences == 0


def test_spark_tells_the_same_of_other_rules(decided: Stores) -> None:
    rules = load_rules()
    phone_rules = rules.of("phone").model_copy(update={"recycled": {}})
    email_rules = rules.of("email").model_copy(update={"caps": {"whatsapp_user": 0}})
    kinds = {**rules.kinds, "phone": phone_rules, "email": email_rules}
    other = rules.model_copy(update={"kinds": kinds, "max_handles_per_person": 4, "linking_strengths": ("verified",)})
    reports = [rebuild(decided, other, engine=engine, dry_run=True, say=quiet) for engine in ("embedded", "spark")]
    assert reports[0] == reports[1]
    assert min(reports[0].splits, reports[0].links_changed, reports[0].hands_changed, len(reports[0].hubs)) > 0


@pytest.mark.nightly
@pytest.mark.timeout(5400)
def test_a_million_pieces_of_evidence_come_to_the_same(tmp_path: Path) -> None:
    with closing(Stores(str(tmp_path / "large"))) as stores:
        world = World(1_000_000)
        fill(stores, world, world.evidence())
        assert rebuild(stores, load_rules(), say=quiet).persons_new > 300_000
        reports = [rebuild(stores, load_rules(), engine="spark", say=quiet) for _ in range(2)]
        assert [(one.differences, one.written) for one in reports] == [(0, "nothing")] * 2
