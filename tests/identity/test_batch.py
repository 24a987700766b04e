"""Everything decided at once is what the stream decided record by record: persons, refused links, ids, to the byte."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from identity.batch import Report, components, rebuild
from identity.batch.embedded import EmbeddedEngine
from identity.batch.run import _Found
from identity.batch.steps import _Divide
from identity.partition import connected
from identity.resolver import Resolver
from identity.rules import Rules, load_rules
from mappings.errors import SettingsError
from stores.database import Stores
from stores.graph import Graph, bulk
from tests.identity.worlds import (
    TABLES,
    TIGHT_RULES,
    Said,
    World,
    answer_of,
    contact,
    email,
    evidence,
    hubspot,
    message,
    messenger,
    phone,
    resolve_world,
    whatsapp,
    worlds,
)

FOLLOWS = {
    "link": "SELECT id, link FROM handle",
    "person": "SELECT id, person_id FROM handle",
    "anchor": "SELECT id, anchor_id, claimed, since, alone FROM person",
    "other anchor": "SELECT person_id, claimed, handle_id, since, alone FROM other_anchor",
    "cut": "SELECT handle_id, since, old_id FROM cut",
    "conflict": "SELECT a, b, reason FROM conflict",
}
"""What follows from the evidence, the decisions and the rules, and the anchors."""


def quiet(_: str) -> None:
    return


def results(stores: Stores) -> dict[str, list[tuple[Any, ...]]]:
    """What the graph says, row by row."""
    database = stores.database("graph")
    return {name: sorted(map(tuple, database.query(sql)), key=repr) for name, sql in FOLLOWS.items()}


def by_text(stores: Stores) -> dict[str, Any]:
    """What the graph says in words that do not depend on numbers of rows: persons as sets, links, changes of hands."""
    graph, database = Graph(stores), stores.database("graph")
    answer = answer_of(stores)
    nodes = graph._nodes(row["id"] for row in database.query("SELECT id FROM handle"))
    living = {node.key: node.link for node in nodes.values() if node.person_id is not None}
    cuts = {
        (nodes[row["handle_id"]].key, row["since"], nodes[row["old_id"]].key)
        for row in database.query("SELECT * FROM cut")
    }
    reasons = {
        (frozenset(handle.key for handle in conflict.handles), conflict.reason) for conflict in graph.conflicts(10_000)
    }
    return {"persons": answer.persons, "names": answer.names, "refused": reasons, "links": living, "cuts": cuts}


def anchors(stores: Stores) -> set[str]:
    """The handles that hold the ids of persons."""
    rows = stores.database("graph").query(
        "SELECT anchor_id FROM person WHERE id IN (SELECT person_id FROM handle WHERE person_id IS NOT NULL)"
    )
    return {node.key for node in Graph(stores)._nodes(row["anchor_id"] for row in rows).values()}


def forget_persons(stores: Stores) -> None:
    """Leave evidence and decisions, as if nobody had ever decided what follows from them."""
    database = stores.database("graph")
    with database.transaction():
        for table in ("cut", "person", "conflict", "person_change"):
            database.execute(f"DELETE FROM {table}")
        database.execute("UPDATE handle SET person_id = NULL")
        database.execute("UPDATE handle SET link = 'links' WHERE link = 'shared'")
        database.execute("UPDATE counter SET value = value + 1 WHERE name = 'generation'")


def saved(stores: Stores) -> Callable[[], None]:
    """What brings the graph back to what it is now."""
    database = stores.database("graph")
    rows = {table: [tuple(row) for row in database.query(f"SELECT * FROM {table}")] for table in (*TABLES, "counter")}

    def restore() -> None:
        generation = database.query("SELECT value FROM counter WHERE name = 'generation'")[0]["value"]
        with database.transaction():
            for table in (*TABLES, "counter"):
                database.execute(f"DELETE FROM {table}")
            for table in (*reversed(TABLES), "counter"):
                for row in rows[table]:
                    database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
            database.execute("UPDATE counter SET value = ? WHERE name = 'generation'", (generation + 1,))

    return restore


def kinds_with(rules: Rules, kind: str, **changes: Any) -> Rules:
    content = rules.model_dump()
    content["kinds"][kind] = {**rules.of(kind).model_dump(), **changes}
    return Rules.model_validate(content)


OTHER_RULES: list[Rules] = [
    kinds_with(TIGHT_RULES, "phone", caps={"hubspot_contact": 0, "whatsapp_user": 2, "email": 1}),
    kinds_with(TIGHT_RULES, "phone", recycled={}),
    kinds_with(TIGHT_RULES, "phone", recycled={"whatsapp_user": 0, "email": 200}),
    kinds_with(TIGHT_RULES, "whatsapp_user", max_per_person=1),
    kinds_with(TIGHT_RULES, "email", anchor_rank=0, caps={}),
    TIGHT_RULES.model_copy(update={"max_handles_per_person": 2}),
    TIGHT_RULES.model_copy(update={"linking_strengths": ("crm", "verified", "claimed")}),
    TIGHT_RULES.model_copy(update={"linking_strengths": ("verified",)}),
    TIGHT_RULES.model_copy(update={"blocked": {"email": ("a@*",), "messenger_psid": ("x",)}}),
    TIGHT_RULES.model_copy(update={"blocked": {"phone": ("*0100", "*0101")}}),
]


@pytest.fixture(scope="module")
def world_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    folder: Path = tmp_path_factory.mktemp("worlds")
    stores = Stores(str(folder))
    yield stores
    stores.close()


def over_worlds(
    check: Callable[..., None], examples: int, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink), **more: Any
) -> None:
    settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=phases,
        report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )(given(world=worlds(), **more)(check))()  # fmt: skip


def check_nothing_changes(stores: Stores) -> Callable[[World], None]:
    def check(world: World) -> None:
        resolve_world(stores, world, TIGHT_RULES)
        before, sequence = results(stores), Graph(stores).last_sequence()
        report = rebuild(stores, TIGHT_RULES, say=quiet)
        assert results(stores) == before
        assert (report.differences, report.written) == (0, "nothing")
        assert Graph(stores).last_sequence() == sequence

    return check


def check_from_scratch(stores: Stores) -> Callable[[World], None]:
    def check(world: World) -> None:
        resolve_world(stores, world, TIGHT_RULES)
        expected = by_text(stores)
        forget_persons(stores)
        report = rebuild(stores, TIGHT_RULES, say=quiet)
        assert by_text(stores) == expected
        assert report.written == ("all" if report.persons else "nothing")
        assert rebuild(stores, TIGHT_RULES, say=quiet).differences == 0

    return check


def check_other_rules(stores: Stores) -> Callable[[World, Rules], None]:
    """A rebuild by other rules does what the resolver does when it finds other rules; new ids are new in both."""

    def check(world: World, rules: Rules) -> None:
        resolve_world(stores, world, TIGHT_RULES)
        restore = saved(stores)
        known = {row["id"] for row in stores.database("graph").query("SELECT id FROM person")}
        before = {person_id: Graph(stores).handles_of(person_id) for person_id in known}

        def told() -> dict[str, Any]:
            ids = {handle.key: person_id for handle, person_id in Graph(stores).members() if person_id in known}
            return {**by_text(stores), "ids": ids, "anchors": anchors(stores)}

        Resolver(Graph(stores), rules).follow_rules()
        expected = told()
        restore()
        dry = rebuild(stores, rules, dry_run=True, say=quiet)
        report = rebuild(stores, rules, say=quiet)
        assert told() == expected
        assert (dry.merges, dry.splits, dry.ids_changed) == (report.merges, report.splits, report.ids_changed)
        for person_id in known:
            if sorted(Graph(stores).handles_of(person_id), key=str) != sorted(before[person_id], key=str):
                assert report.ids_changed > 0
        assert rebuild(stores, rules, say=quiet).differences == 0

    return check


def test_a_rebuild_of_what_the_stream_decided_changes_nothing(world_stores: Stores) -> None:
    over_worlds(check_nothing_changes(world_stores), 12)


def test_from_evidence_and_decisions_alone_everybody_is_who_the_stream_says(world_stores: Stores) -> None:
    over_worlds(check_from_scratch(world_stores), 12)


def test_other_rules_do_what_the_stream_does_with_them(world_stores: Stores) -> None:
    over_worlds(check_other_rules(world_stores), 8, rules=st.sampled_from(OTHER_RULES))


@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_many_more_worlds(world_stores: Stores) -> None:
    over_worlds(check_nothing_changes(world_stores), 400)
    over_worlds(check_from_scratch(world_stores), 400)
    over_worlds(check_other_rules(world_stores), 300, rules=st.sampled_from(OTHER_RULES))


def interrupted(stores: Stores, rules: Rules, line: str, others: Callable[[], object]) -> Report:
    """A rebuild while somebody else writes to the graph: `others` runs each time that `line` is said."""

    def say(told: str) -> None:
        if told == line:
            others()

    return rebuild(stores, rules, say=say)


def check_while_others_write(stores: Stores) -> Callable[[World], None]:
    """What was wrong is put right, also where records that come meanwhile build on it."""

    def check(world: World) -> None:
        resolve_world(stores, world, TIGHT_RULES)
        expected = by_text(stores)
        half = len(world.steps) // 2
        early, late = world._replace(steps=world.steps[:half]), world.records
        resolve_world(stores, early, TIGHT_RULES)
        forget_persons(stores)
        for step in world.steps[half:]:
            if isinstance(step, Said) and not step.undone:
                Resolver(Graph(stores), TIGHT_RULES).decide(step.kind, step.handles, actor="ann", since=step.since)
        waiting = [late]

        def others() -> None:
            while waiting:
                Resolver(Graph(stores), TIGHT_RULES).resolve(waiting.pop())

        report = interrupted(stores, TIGHT_RULES, "found the persons", others)
        assert report.written in {"piecewise", "nothing"}
        assert by_text(stores) == expected
        assert rebuild(stores, TIGHT_RULES, say=quiet).differences == 0

    return check


def test_records_that_come_meanwhile_are_not_lost_and_nothing_stays_wrong(world_stores: Stores) -> None:
    over_worlds(check_while_others_write(world_stores), 8)


def test_other_rules_while_runs_with_the_old_and_then_the_new_rules_write(stores: Stores) -> None:
    rules = OTHER_RULES[0]
    old, new = Resolver(Graph(stores), TIGHT_RULES), Resolver(Graph(stores), rules)
    old.resolve([message(whatsapp("s"), phone(0)), contact("11", phone(1), email("a")), message(phone(1))])
    came: Iterator[Callable[[], object]] = iter(
        [
            lambda: old.resolve([message(whatsapp("t"), phone(0), minute=1), contact("12", email("a"), phone(2))]),
            lambda: new.resolve([message(whatsapp("u"), phone(2), minute=2), message(messenger("x"), minute=3)]),
        ]
    )
    report = interrupted(stores, rules, "found the persons", lambda: [one() for one in islice(came, 1)])
    assert (report.written, report.rules_changed, list(came)) == ("piecewise", True, [])
    decided = by_text(stores)
    assert rebuild(stores, rules, say=quiet).differences == 0
    forget_persons(stores)
    rebuild(stores, rules, say=quiet)
    assert by_text(stores) == decided
    assert "shared" in decided["links"].values()
    with pytest.raises(SettingsError):
        old.resolve([message(phone(3))])


def test_a_dry_run_tells_what_other_rules_would_do_and_writes_nothing(stores: Stores) -> None:
    resolver = Resolver(Graph(stores), TIGHT_RULES)
    resolver.resolve([contact("11", phone(1), email("a")), message(whatsapp("s"), phone(1))])
    resolver.resolve([message(whatsapp("t"), phone(2)), evidence(phone(2), email("b"))])
    before, sequence = results(stores), Graph(stores).last_sequence()
    report = rebuild(stores, OTHER_RULES[0], dry_run=True, say=quiet)
    assert (results(stores), Graph(stores).last_sequence()) == (before, sequence)
    assert (report.written, report.rules_changed, report.splits, report.merges) == ("nothing", True, 1, 0)
    assert [(hub.kind, hub.neighbours) for hub in report.hubs] == [("phone", 1)]
    assert (report.ids_changed, report.persons_new, report.links_changed) == (3, 2, 1)


def test_what_a_rebuild_changes_is_told_as_the_stream_tells_it(stores: Stores) -> None:
    graph = Graph(stores)
    resolver = Resolver(graph, TIGHT_RULES)
    [first] = resolver.resolve([message(whatsapp("s"), phone(1))])
    [second] = resolver.resolve([message(email("a"))])
    resolver.resolve([evidence(whatsapp("s"), email("a"))])
    sequence = graph.last_sequence()
    nobody = TIGHT_RULES.model_copy(update={"blocked": {"email": ("*",)}})
    rebuild(stores, nobody, say=quiet)
    [change] = graph.changes_since(sequence, 10)
    assert (change.change, change.from_person_ids, change.into_person_id) == ("split", [first], second)
    assert (change.handles, change.why) == ([email("a")], "the rules changed")
    assert {person_id for _, person_id in graph.persons_changed_since(sequence, 10)} == {first, second}
    stores.database("graph").execute("UPDATE handle SET person_id = ? WHERE kind = 'email'", (first,))
    rebuild(stores, nobody, say=quiet)
    assert graph.changes_since(sequence, 10)[-1].why == "rebuilt"
    rebuild(stores, TIGHT_RULES, say=quiet)
    change = graph.changes_since(sequence, 10)[-1]
    assert (change.change, change.from_person_ids, change.into_person_id) == ("merge", [second], first)
    assert graph.person_of(email("a")) == graph.current(str(second)) == first


def test_a_large_graph_is_read_by_another_process_and_is_the_same(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(Graph(stores), TIGHT_RULES)
    resolver.resolve([message(phone(0)), contact("11", phone(1), email("a")), contact("12", phone(1), minute=1)])
    resolver.resolve([message(whatsapp(name), phone(0), minute=minute) for name, minute in (("s", 0), ("t", 525_600))])
    resolver.resolve([evidence(hubspot("11"), messenger("x")), evidence(hubspot("12"), messenger("x"), minute=1)])
    resolver.decide("different", [email("a"), phone(0)], actor="ann")
    resolver.decide("shared", [email("a")], actor="ann")
    written: dict[str, tuple[bytes, int]] = {}
    mapped = bulk._mapped

    def look(path: Path) -> pa.Table:
        written[path.name] = (path.read_bytes(), path.stat().st_mode & 0o777)
        return mapped(path)

    monkeypatch.setattr(bulk, "_mapped", look)
    exports = []
    for few in (20_000, 0):
        monkeypatch.setattr(bulk, "_FEW", few)
        exports.append(bulk.export(stores, tmp_path))
        generation = stores.database("graph").query("SELECT value FROM counter WHERE name = 'generation'")[0]["value"]
        assert exports[-1].generation == generation
    assert exports[0].tables.keys() == exports[1].tables.keys()
    for name, few_rows in exports[0].tables.items():
        many_rows = exports[1].tables[name]
        assert few_rows.num_rows > 0, name
        assert few_rows.schema == many_rows.schema
        assert sorted(map(str, few_rows.to_pylist())) == sorted(map(str, many_rows.to_pylist()))
    contents = b"".join(content for content, _ in written.values())
    assert b"former_phone" in contents
    values = {handle.value for handle, _ in Graph(stores).members() if handle.kind in {"phone", "email"}}
    assert len(values) == 3
    assert not [value for value in values if value.encode() in contents]
    assert {mode for _, mode in written.values()} == {0o600}
    assert list(tmp_path.glob("*.arrow")) == []


_KILLED = """
import sys, time
from identity.batch import rebuild
from identity.batch.run import ids
from identity.rules import load_rules
from stores.database import Stores
from stores.graph import bulk

bulk._FEW = 0
when, state = sys.argv[1:]

def stop(*_):
    print("now", flush=True)
    time.sleep(600)

if when == "exported":
    bulk._mapped = stop
else:
    ids.give_ids = stop
rebuild(Stores(state), load_rules(), say=lambda _: None)
"""


@pytest.mark.parametrize("when", ["exported", "computing"])
def test_what_a_killed_rebuild_leaves_goes_with_the_next_one(
    when: str, stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Resolver(Graph(stores), load_rules()).resolve([message(phone(0), whatsapp("s")), message(phone(1))])
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    with subprocess.Popen([sys.executable, "-c", _KILLED, when, stores.url], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"now\n"
        [folder] = temporary.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        rebuild(stores, load_rules(), say=quiet)
        assert list(temporary.iterdir()) == [folder]  # it is at work
        assert bool(list(folder.glob("*.arrow"))) == (when == "exported")  # once mapped they have no names
        killed.kill()
    rebuild(stores, load_rules(), say=quiet)
    assert list(temporary.iterdir()) == []


def test_the_exporting_process_ends_with_who_asked(stores: Stores, tmp_path: Path) -> None:
    script = str(Path(bulk.__file__).with_name("export_process.py"))
    stores.database("graph")
    forever = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i FROM n) SELECT MAX(i) FROM n"
    asked: dict[str, Any] = {"postgresql": False, "options": {}, "folder": str(tmp_path), "tables": {}}
    asked |= {"uri": f"file:{stores.folder / 'graph.db'}?mode=ro", "counter": forever}
    with subprocess.Popen([sys.executable, "-P", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.close()
        try:
            assert process.wait(60) == 1
        finally:
            process.kill()


def test_a_graph_that_nobody_has_written_to_is_rebuilt_too(stores: Stores) -> None:
    report = rebuild(stores, TIGHT_RULES, say=quiet)
    assert (report.handles, report.persons, report.differences) == (0, 0, 0)


@pytest.mark.parametrize("pairs", [0, 1, 40, 3000])
def test_both_ways_to_find_components_are_one(pairs: int) -> None:
    random = np.random.default_rng(pairs)
    a, b = random.integers(0, 2000, pairs), random.integers(0, 2000, pairs)
    ids, labels = components.smallest_connected(a, b)
    parts = connected({*a.tolist(), *b.tolist()}, zip(a.tolist(), b.tolist(), strict=True))
    expected = {one: min(part) for part in parts for one in part}
    assert dict(zip(ids.tolist(), labels.tolist(), strict=True)) == expected
    if pairs:
        found = components._joined(a, b, int(max(a.max(), b.max())) + 1)
        assert [one.tolist() for one in found] == [ids.tolist(), labels.tolist()]


def in_sql(table: str, old: str, new: str) -> Callable[[pytest.MonkeyPatch], None]:
    """A mutant: the query that makes `table` says `new` where it should say `old`."""

    def mutate(monkeypatch: pytest.MonkeyPatch) -> None:
        for method in ("create", "connect", "look_up", "several", "frequent"):
            original = getattr(EmbeddedEngine, method)

            def changed(
                self: EmbeddedEngine, name: str, sql: str, *columns: Any, original: Any = original, **more: str
            ) -> None:
                if name == table and old not in sql:
                    msg = f"the query for {table} does not say {old}"
                    raise ValueError(msg)
                original(self, name, sql.replace(old, new) if name == table else sql, *columns, **more)

            monkeypatch.setattr(EmbeddedEngine, method, changed)

    return mutate


def ties_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Found, "_places", lambda self, handle_ids: {one: one for one in handle_ids})


def anchors_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity.batch.ids.min", lambda ids, key: min(ids), raising=False)


def the_latest_evidence_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    divide = _Divide.__call__
    monkeypatch.setattr(
        _Divide, "__call__", lambda self, rows: divide(self, [(*row[:5], -row[5], *row[6:]) for row in rows])
    )


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "cap one too high": in_sql("crowded", "neighbours > most", "neighbours > most + 1"),
    "cap one too low": in_sql("crowded", "neighbours > most", "neighbours >= most"),
    "cap looked at too late": in_sql("eyed", "SELECT id FROM watched", "SELECT id FROM watched WHERE FALSE"),
    "a renamed id counts twice": in_sql("crowded", "COALESCE(m.label, n.number)", "n.number"),
    "role mailboxes count": in_sql("neighbour", "p.may_a AND p.may_b AND", ""),
    "a person's word on sharing is not heard": in_sql("told", "('shared', 'private')", "('none')"),
    "only the first evidence of a pair": in_sql("crowded", "COUNT(DISTINCT COALESCE(m.label, n.number))", "1"),
    "shared handles link": in_sql("shared", "WHERE t.handle_id IS NULL", "WHERE FALSE"),
    "nobody changes hands": in_sql("cut_wanted", "idle_for >= idle", "idle_for > idle * 9"),
    "everybody changes hands": in_sql("cut_wanted", "idle_for >= idle", "idle_for > 0"),
    "a number told to be recycled is not": in_sql("cut_wanted", "d.kind = 'recycled'", "d.kind = 'none'"),
    "a renamed id is another owner": in_sql("cut_wanted", "COALESCE(n.label, o.number)", "o.number"),
    "nothing was before": in_sql("retelling", "p.last_at < c.since", "p.last_at <= c.since"),
    "seen alone only at the end": in_sql("retelling", "p.first_at < c.since AND", "FALSE AND"),
    "a yes is not heard": in_sql("same", "kind = 'same'", "kind = 'none'"),
    "a no is not heard": in_sql("broken", "kind = 'different'", "kind = 'none'"),
    "a no is not heard inside": in_sql("piece", "kind = 'different'", "kind = 'none'"),
    "as many ids as come": in_sql("broken", "WHERE ids > most", "WHERE FALSE"),
    "a merged contact counts twice": in_sql("broken", "COALESCE(o.label, n.id)", "n.id"),
    "as many handles as come": in_sql("large", "FROM comp", "FROM comp WHERE FALSE"),
    "several of a kind are not looked at": in_sql("several_ids", "FROM limited_node", "FROM limited_node WHERE FALSE"),
    "who is alone is nobody": in_sql("comp", ") e UNION ALL SELECT b, b", ") e WHERE free UNION ALL SELECT b, b"),
    "the youngest id": in_sql("claim", "a.claimed, p.id", "a.claimed DESC, p.id DESC"),
    "an anchor that left is not followed": in_sql("anchor", "home = -1 OR", ""),
    "an anchor of a shared handle keeps the id": in_sql("anchor", "OR (alone = 0 AND is_line)", ""),
    "the weakest anchor": in_sql("strongest", "MIN(anchor_rank)", "MAX(anchor_rank)"),
    "renames are like any link": in_sql("rank_of_how", "THEN 0 ELSE", "THEN s.rank ELSE"),
    "contacts say nothing": in_sql(
        "rank_of_how", "s.strength = h.strength", "s.strength = h.strength AND h.source <> 'contact'"
    ),
    "ties by number": ties_by_number,
    "the latest evidence counts": the_latest_evidence_counts,
    "anchors stay where they were": in_sql("any_anchor", "n.old_id, c.handle_id, ", ""),
    "a line that took the id gives it away": in_sql("anchor", "alone = 0 AND ", ""),
    "an id stays where it went last": in_sql("anchor", "1 - present ELSE claimed", "1 - present ELSE -claimed"),
    "anchors by number": anchors_by_number,
}
OF_IDS = {
    "the youngest id", "an anchor that left is not followed", "an anchor of a shared handle keeps the id",
    "the weakest anchor", "anchors by number", "anchors stay where they were",
    "a line that took the id gives it away", "an id stays where it went last",
}  # fmt: skip
"""Mutants that leave everybody who they are, with another id: to be seen where ids are known before."""
EQUAL = {"a merged contact counts twice"}
"""Mutants that only do more work: a component is looked at that turns out to break no rule."""


def test_what_was_seen_of_each_of_three_owners_of_a_number_stays_theirs(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    year = 525_600
    records = [
        record
        for minute, name, other in ((0, "s", "a"), (year, "t", "b"), (2 * year, "u", "c"))
        for record in (
            message(whatsapp(name), phone(0), minute=minute), evidence(phone(0), email(other), minute=minute + 1)
        )
    ]  # fmt: skip
    Resolver(Graph(stores), TIGHT_RULES).resolve(records)
    expected = by_text(stores)
    assert sorted(map(len, expected["persons"])) == [3, 3, 3]
    forget_persons(stores)
    rebuild(stores, TIGHT_RULES, say=quiet)
    assert by_text(stores) == expected
    forget_persons(stores)
    in_sql("cut_now", "COALESCE(LAG(since)", "COALESCE(LEAD(since)")(monkeypatch)
    rebuild(stores, TIGHT_RULES, say=quiet)
    assert by_text(stores) != expected


@pytest.mark.nightly
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", MUTANTS)
def test_the_worlds_are_rich_enough_to_catch(name: str, world_stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    from_scratch, other_rules = check_from_scratch(world_stores), check_other_rules(world_stores)

    def check(world: World, rules: Rules) -> None:
        if name in OF_IDS:
            other_rules(world, rules)
        else:
            from_scratch(world)

    def look(examples: int) -> None:
        over_worlds(check, examples, (Phase.generate,), rules=st.sampled_from(OTHER_RULES))

    if name in EQUAL:
        look(30)
        return
    with pytest.raises(AssertionError):
        look(400)
