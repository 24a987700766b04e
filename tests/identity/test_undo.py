"""Taking back is exact: persons, ids, names and the log's end are as if nothing had been decided.

Stronger than that, and what the chains below look at after each step: whenever the same evidence and the same decisions
come back, by whatever way, everybody has the id that they had when these were there first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from identity import resolver as resolver_module
from identity.partition import hold_ids
from identity.resolver import Resolver
from mappings.records import Record
from stores.database import Stores
from stores.graph import Graph, Unit
from stores.graph import unit as unit_module
from stores.graph.anchors import Anchors
from tests.identity.worlds import (
    START,
    TIGHT_RULES,
    Said,
    World,
    answer_of,
    contact,
    decisions,
    email,
    evidence,
    message,
    messenger,
    person_ids,
    phone,
    resolve_world,
    saved,
    some_records,
    whatsapp,
    worlds,
)


@pytest.fixture(scope="module")
def world_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    folder: Path = tmp_path_factory.mktemp("worlds")
    stores = Stores(str(folder))
    yield stores
    stores.close()


class Step(NamedTuple):
    """One operation of a chain: records that come, a decision, or a decision that stands (by its place) taken back."""

    records: tuple[Record, ...] = ()
    said: Said | None = None
    place: int = 0


def steps(records_too: bool = True) -> st.SearchStrategy[Step]:
    said = decisions().map(lambda one: Step(said=one))
    undone = st.integers(0, 50).map(lambda place: Step(place=place))
    told = st.lists(some_records(), min_size=1, max_size=3).map(lambda records: Step(tuple(records)))
    return st.one_of(said, said, said, undone, undone, undone, *([told] if records_too else []))


def what_is_told(stores: Stores) -> frozenset[tuple[Any, ...]]:
    """All evidence and all decisions that stand: what everything follows from."""
    database = stores.database("graph")
    queries = (
        "SELECT a, b, method, strength, first_at, last_at FROM evidence",
        "SELECT e.a, e.b, e.method, c.first_at FROM contact_evidence e JOIN contact c ON c.record_id = e.record_id",
        "SELECT MIN(a, COALESCE(b, a)), MAX(a, COALESCE(b, a)), kind, since FROM decision WHERE revoked_at IS NULL",
    )
    return frozenset((sql, *row) for sql in queries for row in database.query(sql))


def check_chain(stores: Stores, world: World, chain: list[Step], order: Callable[[list[int]], list[int]]) -> None:
    """Take the steps of a chain, and then all decisions in it back in `order`.

    The same evidence and decisions always come with the same ids; and in the end everybody is as without the decisions,
    and has the same id where it is held by an anchor from before the chain.
    """
    resolver = Resolver(resolve_world(stores, world, TIGHT_RULES), TIGHT_RULES)
    [(last,)] = stores.database("graph").query("SELECT COALESCE(MAX(claimed), 0) FROM person")
    known: dict[frozenset[tuple[Any, ...]], dict[str, str]] = {}
    standing: list[int] = []

    def look() -> None:
        ids = person_ids(stores)
        assert known.setdefault(what_is_told(stores), ids) == ids

    look()
    restore = saved(stores)
    for step in chain:
        if step.said is not None:
            one = step.said
            standing.append(resolver.decide(one.kind, one.handles, actor="ann", since=one.since))
        elif step.records:
            resolver.resolve(step.records)
        elif standing:
            assert resolver.undo(standing.pop(step.place % len(standing)), actor="bob")
        look()
    for number in order(standing):
        assert resolver.undo(number, actor="bob")
        look()
    ids, answer = person_ids(stores), answer_of(stores)
    restore()
    resolver = Resolver(Graph(stores), TIGHT_RULES)
    for step in chain:
        resolver.resolve(step.records)
    assert answer_of(stores) == answer
    rows = stores.database("graph").query("SELECT id FROM person WHERE claimed <= ?", (last,))
    old = {row["id"] for row in rows}
    without = {key: person_id for key, person_id in person_ids(stores).items() if person_id in old}
    assert {key: ids[key] for key in without} == without


def property_over_chains(
    stores: Stores, examples: int, most: int, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)
) -> Any:
    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=phases,
        report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(worlds(15), st.lists(steps(), min_size=most, max_size=most), st.data())
    def check(world: World, chain: list[Step], data: st.DataObject) -> None:
        check_chain(stores, world, chain, lambda standing: data.draw(st.permutations(standing)))

    return check


def test_a_chain_of_decisions_taken_back_in_any_order_leaves_no_trace(world_stores: Stores) -> None:
    property_over_chains(world_stores, 100, 8)()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_chains_of_fifty_operations_leave_no_trace(world_stores: Stores) -> None:
    property_over_chains(world_stores, 200, 50)()


def only_the_last_anchor_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_others(clusters: Any, nodes: Any, anchored: dict[str, Anchors], *more: Any) -> Any:
        return hold_ids(clusters, nodes, {person_id: Anchors(mine.now) for person_id, mine in anchored.items()}, *more)

    monkeypatch.setattr(resolver_module, "hold_ids", without_others)


def other_anchors_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unit, "anchors_beside", lambda self, handle_ids: set())


def anchors_do_not_follow_a_change_of_hands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_module, "follow_cuts", lambda *_: None)


def lines_take_no_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    def never_alone(*given: Any) -> Any:
        ids = hold_ids(*given)
        ids.anchors = {person_id: anchor._replace(alone=False) for person_id, anchor in ids.anchors.items()}
        return ids

    monkeypatch.setattr(resolver_module, "hold_ids", never_alone)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("mutant", [only_the_last_anchor_counts, other_anchors_are_not_looked_for])
def test_the_chains_are_rich_enough_to_catch(
    mutant: Callable[[pytest.MonkeyPatch], None], world_stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        property_over_chains(world_stores, 600, 20, (Phase.generate,))()


def test_a_shared_line_keeps_its_id_whatever_was_said_of_it_meanwhile(
    stores: Stores, graph: Graph, resolver: Resolver
) -> None:
    resolver.resolve([contact("7", phone(1)), contact("8", phone(1))])
    before = person_ids(stores)
    assert graph.is_shared(before[phone(1).key])
    first = resolver.decide("same", [email("ann"), phone(1)], actor="ann")
    second = resolver.decide("same", [email("ann"), email("anna")], actor="ann")
    assert graph.person_of(email("anna")) == before[phone(1).key]
    assert resolver.undo(first, actor="bob")
    assert graph.person_of(phone(1)) == before[phone(1).key]
    assert graph.person_of(email("anna")) == graph.person_of(email("ann")) != before[phone(1).key]
    assert resolver.undo(second, actor="bob")
    assert person_ids(stores) == before


def test_an_id_goes_back_to_the_handle_that_it_left(stores: Stores, graph: Graph, resolver: Resolver) -> None:
    """It left the phone, while that was shared, for a handle that had lost its own id to a split."""
    resolver.resolve([message(phone(1))])
    resolver.resolve([message(email("ann"))])
    resolver.resolve([evidence(email("ann"), messenger("m")), evidence(phone(1), messenger("m"), minute=1)])
    no = resolver.decide("different", [phone(1), messenger("m")], actor="ann")
    before = person_ids(stores)
    assert before[phone(1).key] != before[messenger("m").key] == before[email("ann").key]
    assert resolver.undo(no, actor="bob")
    split = resolver.decide("different", [email("ann"), messenger("m")], actor="ann")
    shared = resolver.decide("shared", [phone(1)], actor="ann")
    assert graph.person_of(messenger("m")) == before[phone(1).key]
    assert resolver.undo(split, actor="bob")
    resolver.decide("different", [phone(1), messenger("m")], actor="ann")
    assert resolver.undo(shared, actor="bob")
    assert person_ids(stores) == before


def test_the_first_owner_of_a_number_keeps_the_id_however_the_changes_of_hands_come_and_go(
    graph: Graph, resolver: Resolver
) -> None:
    [first] = resolver.resolve([message(phone(1))])
    resolver.resolve([message(phone(1), minute=60 * 24 * 90)])
    late = resolver.decide("recycled", [phone(1)], actor="ann", since=START + timedelta(days=60))
    second = graph.person_of(phone(1))
    early = resolver.decide("recycled", [phone(1)], actor="ann", since=START + timedelta(days=30))
    assert graph.person_of(phone(1), at=START) == first
    assert graph.person_of(phone(1)) == second
    between = graph.person_of(phone(1), at=START + timedelta(days=40))
    assert between not in {first, second, None}
    assert resolver.undo(late, actor="bob")
    assert graph.person_of(phone(1), at=START) == first
    assert resolver.undo(early, actor="bob")
    assert graph.person_of(phone(1)) == first


@pytest.mark.parametrize(
    ("mutant", "caught_by"),
    [
        (only_the_last_anchor_counts, test_an_id_goes_back_to_the_handle_that_it_left),
        (lines_take_no_ids, test_a_shared_line_keeps_its_id_whatever_was_said_of_it_meanwhile),
        (
            anchors_do_not_follow_a_change_of_hands,
            test_the_first_owner_of_a_number_keeps_the_id_however_the_changes_of_hands_come_and_go,
        ),
    ],
)
def test_each_rule_of_anchors_has_a_case_that_needs_it(
    mutant: Callable[[pytest.MonkeyPatch], None],
    caught_by: Callable[..., None],
    stores: Stores,
    graph: Graph,
    resolver: Resolver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutant(monkeypatch)
    given_to_it = {"stores": stores, "graph": graph, "resolver": resolver}
    with pytest.raises(AssertionError):
        caught_by(**{name: given_to_it[name] for name in inspect.signature(caught_by).parameters})


def test_a_merge_is_taken_back_with_its_ids(graph: Graph, resolver: Resolver) -> None:
    before = resolver.resolve([message(messenger("m")), message(email("ann"))])
    number = resolver.decide("same", [messenger("m"), email("ann")], actor="ann", reason="she told me on the phone")
    assert graph.person_of(messenger("m")) == graph.person_of(email("ann")) == min(map(str, before))
    assert resolver.undo(number, actor="bob")
    assert [graph.person_of(messenger("m")), graph.person_of(email("ann"))] == before
    assert not resolver.undo(number, actor="bob")


def test_a_no_outranks_all_evidence_that_ever_comes(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(whatsapp("u")), message(email("ann"))])
    resolver.decide("different", [whatsapp("u"), email("ann")], actor="ann")
    resolver.resolve(
        [
            evidence(whatsapp("u"), email("ann")),
            evidence(whatsapp("u"), phone(1)),
            contact("7", phone(1), email("ann")),
        ]
    )
    assert graph.person_of(whatsapp("u")) != graph.person_of(email("ann"))
    resolver.decide("same", [whatsapp("u"), email("ann")], actor="bob")
    assert graph.person_of(whatsapp("u")) != graph.person_of(email("ann"))
    assert any("not the same" in conflict.reason for conflict in graph.conflicts())


def test_two_contacts_that_a_person_calls_the_same_are_one_with_all_that_hangs_on_them(
    graph: Graph, resolver: Resolver
) -> None:
    first, second = contact("7", email("ann")), contact("8", email("anna"))
    resolver.resolve([first, second, evidence(email("ann"), email("anna"))])
    assert graph.person_of(first.handles[0]) != graph.person_of(second.handles[0])
    resolver.decide("same", [first.handles[0], second.handles[0]], actor="ann")
    assert len({graph.person_of(one) for one in (*first.handles, *second.handles)}) == 1


def test_a_phone_that_a_person_calls_shared_or_private_is_so(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(whatsapp("u"), phone(1))])
    shared = resolver.decide("shared", [phone(1)], actor="ann")
    assert graph.person_of(phone(1)) != graph.person_of(whatsapp("u"))
    assert graph.is_shared(str(graph.person_of(phone(1))))
    resolver.undo(shared, actor="ann")
    resolver.resolve([message(messenger(str(number)), phone(1)) for number in range(5)])
    assert graph.is_shared(str(graph.person_of(phone(1))))
    resolver.decide("private", [phone(1)], actor="ann")
    assert len({graph.person_of(one) for one in (phone(1), messenger("0"), messenger("4"))}) == 1


def test_a_number_with_a_new_owner_stays_with_the_old_one_for_what_was_before(graph: Graph, resolver: Resolver) -> None:
    [old] = resolver.resolve([contact("7", phone(1), email("ann"))])
    resolver.decide("recycled", [phone(1)], actor="ann", since=START + timedelta(days=30))
    resolver.resolve([message(phone(1), messenger("m"), minute=60 * 24 * 40)])
    assert graph.person_of(phone(1)) == graph.person_of(messenger("m")) != old
    assert graph.person_of(phone(1), at=START) == graph.person_of(email("ann")) == old


def test_a_decision_is_told_with_its_reason(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(email("ann"))])
    number = resolver.decide("same", [email("ann"), phone(1)], actor="ann", reason="on her card")
    [told] = graph.decisions()
    assert (told.decision_id, told.kind, told.actor, told.reason) == (number, "same", "ann", "on her card")
    assert {handle.key for handle in told.handles} == {email("ann").key, phone(1).key}
    resolver.undo(number, actor="bob")
    assert graph.decisions() == []
    assert graph.decisions(revoked=True)[0].revoked_by == "bob"
