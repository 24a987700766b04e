"""Taking back is exact: persons, ids, names and the log's end are as if nothing had been decided."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from identity.resolver import Resolver
from stores.database import Stores
from stores.graph import Graph
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
    whatsapp,
    worlds,
)


@pytest.fixture(scope="module")
def world_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    folder: Path = tmp_path_factory.mktemp("worlds")
    stores = Stores(str(folder))
    yield stores
    stores.close()


def check_chain(stores: Stores, world: World, chain: list[Said], order: list[int]) -> None:
    """Decide a chain, take all of it back in `order`; everybody has the id that they had before."""
    graph = resolve_world(stores, world, TIGHT_RULES)
    resolver = Resolver(graph, TIGHT_RULES)
    ids, answer = person_ids(stores), answer_of(stores)
    numbers = [resolver.decide(one.kind, one.handles, actor="ann", since=one.since) for one in chain]
    for place in order:
        assert resolver.undo(numbers[place], actor="bob")
    assert answer_of(stores) == answer
    assert person_ids(stores) == ids


def property_over_chains(stores: Stores, examples: int, most: int) -> Any:
    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(worlds(15, with_decisions=False), st.lists(decisions(), min_size=1, max_size=most), st.data())
    def check(world: World, chain: list[Said], data: st.DataObject) -> None:
        check_chain(stores, world, chain, data.draw(st.permutations(range(len(chain)))))

    return check


def test_a_chain_of_decisions_taken_back_in_any_order_leaves_no_trace(world_stores: Stores) -> None:
    property_over_chains(world_stores, 100, 6)()


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
