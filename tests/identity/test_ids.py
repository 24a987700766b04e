"""Person ids: minted once, kept by an anchor, given back by a split; and the log that says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings

from identity.erasure import Eraser
from identity.partition import hold_ids
from identity.resolver import Resolver
from identity.rules import load_rules
from stores.codec import Codec
from stores.database import Stores
from stores.graph import Graph, Node
from stores.graph.anchors import Anchor, Anchors
from tests.identity.worlds import (
    START,
    TIGHT_RULES,
    World,
    contact,
    email,
    empty,
    evidence,
    hubspot,
    message,
    messenger,
    person_ids,
    phone,
    whatsapp,
    worlds,
)


@pytest.fixture(scope="module")
def world_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    folder: Path = tmp_path_factory.mktemp("worlds")
    stores = Stores(str(folder))
    yield stores
    stores.close()


def test_a_person_id_is_a_time_ordered_uuid(resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(phone(1))])
    assert UUID(str(person_id)).version == 7


def test_the_oldest_person_survives_a_merge(graph: Graph, resolver: Resolver) -> None:
    [older] = resolver.resolve([message(messenger("m"))])
    [younger] = resolver.resolve([message(email("ann"))])
    resolver.resolve([evidence(messenger("m"), email("ann"))])
    assert graph.person_of(email("ann")) == older
    assert graph.current(str(younger)) == older
    assert graph.handles_of(str(younger)) == []


def test_a_split_undoes_a_merge_and_gives_the_old_ids_back(graph: Graph, resolver: Resolver) -> None:
    before = resolver.resolve([message(messenger("m")), message(email("ann")), message(phone(1))])
    resolver.resolve([contact("7", email("ann"), phone(1)), evidence(messenger("m"), phone(1))])
    assert len({graph.person_of(handle) for handle in (messenger("m"), email("ann"), phone(1))}) == 1
    resolver.resolve([contact("7", phone(1), minute=1)])
    assert graph.person_of(email("ann")) == before[1]
    assert graph.person_of(messenger("m")) == min(str(before[0]), str(before[2]))
    assert graph.current(str(before[1])) == before[1]


def test_a_handle_that_comes_to_be_shared_leaves_the_id_with_the_larger_part(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(phone(1))])
    resolver.resolve([contact("7", phone(1), email("ann"), email("anna"))])
    assert graph.person_of(hubspot("7")) == person_id
    resolver.resolve([contact("8", phone(1), minute=1)])
    assert graph.person_of(email("ann")) == graph.person_of(email("anna")) == person_id
    assert graph.person_of(phone(1)) not in {None, person_id}


def test_a_shared_handle_that_is_private_again_comes_back_to_the_old_id(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(whatsapp("u"), phone(1))])
    resolver.resolve([contact("7", phone(1)), contact("8", phone(1))])
    assert graph.person_of(phone(1)) != person_id
    resolver.resolve([contact("8", minute=1), contact("7", minute=1)])
    assert graph.person_of(phone(1)) == graph.person_of(whatsapp("u")) == person_id


def test_a_handle_that_nothing_speaks_of_any_more_leaves_its_id_behind(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([contact("7", email("ann"))])
    resolver.resolve([message(messenger("m")), evidence(messenger("m"), hubspot("7"))])
    resolver.resolve([contact("7", minute=1)])
    assert graph.person_of(email("ann")) is None
    assert graph.person_of(hubspot("7")) == person_id


def test_the_same_records_again_change_no_id_and_log_nothing(graph: Graph, stores: Stores, resolver: Resolver) -> None:
    records = [message(whatsapp("u"), phone(1), name="Ann"), contact("7", phone(1)), evidence(phone(1), email("ann"))]
    resolver.resolve(records)
    before, sequence = person_ids(stores), graph.last_sequence()
    resolver.resolve([*records, *reversed(records)])
    assert person_ids(stores) == before
    assert graph.last_sequence() == sequence


def test_a_merge_is_logged_with_what_moved_and_why(graph: Graph, resolver: Resolver) -> None:
    [older] = resolver.resolve([message(whatsapp("u"))])
    [younger] = resolver.resolve([message(email("ann"))])
    resolver.resolve([evidence(whatsapp("u"), email("ann"))])
    [change] = graph.changes_since(0, 10)
    assert (change.change, change.from_person_ids, change.into_person_id) == ("merge", [younger], older)
    assert change.handles == [email("ann")]
    assert change.conversation_keys == []
    assert change.why == "account_link (verified) links email and whatsapp_user"


def test_a_split_is_logged_with_what_moved_and_why(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(whatsapp("u"), phone(1))])
    resolver.resolve([contact("7", phone(1)), contact("8", phone(1))])
    [change] = graph.changes_since(0, 10)
    assert (change.change, change.from_person_ids) == ("split", [person_id])
    assert change.into_person_id == graph.person_of(phone(1))
    assert change.handles == [phone(1)]
    assert change.why == "several people use this phone (shared)"


def test_a_split_by_withdrawal_says_so(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(email("ann")), message(phone(1)), contact("7", email("ann"), phone(1))])
    resolver.resolve([contact("7", email("ann"), minute=1)])
    assert graph.changes_since(0, 10)[-1].why == "the evidence between them was withdrawn"


def test_a_split_by_other_rules_says_so(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(whatsapp("u"), phone(1))])
    Resolver(graph, load_rules().model_copy(update={"blocked": {"phone": ("*",)}})).follow_rules()
    assert [change.why for change in graph.changes_since(0, 10)] == ["the rules changed"]


def test_persons_that_other_rules_change_are_changed_persons(graph: Graph, resolver: Resolver) -> None:
    first, second = resolver.resolve([message(whatsapp("u"), phone(1)), message(email("ann"))])
    [alone] = resolver.resolve([message(phone(2))])
    before = graph.last_sequence()
    blocked = load_rules().model_copy(update={"blocked": {"phone": ("*",)}})
    Resolver(graph, blocked).follow_rules()
    changed = {person_id for _, person_id in graph.persons_changed_since(before, 10)}
    assert changed == {first, alone, graph.person_of(phone(1))}
    assert second not in changed
    assert graph.is_shared(str(alone))


def test_a_number_that_changed_hands_and_is_blocked_later_is_one_number_again(
    graph: Graph, stores: Stores, resolver: Resolver
) -> None:
    [first] = resolver.resolve([message(phone(1)), evidence(phone(1), email("ann"))])[:1]
    resolver.decide("recycled", [phone(1)], actor="ann", since=START + timedelta(days=30))
    [second] = resolver.resolve([message(phone(1), messenger("m"), minute=60 * 24 * 40)])
    ids = person_ids(stores)
    blocked = load_rules().model_copy(update={"blocked": {"phone": ("*",)}})
    Resolver(graph, blocked).follow_rules()
    assert graph.cuts() == []
    assert graph.person_of(phone(1), at=START) == graph.person_of(phone(1)) not in {None, first, second}
    assert (graph.person_of(email("ann")), graph.person_of(messenger("m"))) == (first, second)
    Resolver(graph, load_rules()).follow_rules()
    assert person_ids(stores) == ids


def node(handle_id: int, person_id: str | None = None, link: str = "links") -> Node:
    known = email(str(handle_id))
    return Node(handle_id, "email", None, link, person_id, b"", cast("Codec", None), known=known)


def test_an_anchor_that_came_later_never_outranks_an_earlier_one() -> None:
    """Though its person is older: where both are together, the id is the one that it was before."""
    nodes = {1: node(1, "b"), 2: node(2, "a")}
    anchored = {"a": Anchors(Anchor(7, 2), (Anchor(1, 9),)), "b": Anchors(Anchor(2, 1))}
    ids = hold_ids([frozenset({1, 2})], nodes, anchored, load_rules(), lambda: "new")
    assert (ids.person_ids, ids.anchors, ids.minted) == (["b"], {}, set())


def test_an_id_is_at_its_earliest_anchor_that_can_hold_it() -> None:
    here, there = Anchor(1, 1), Anchor(7, 2)
    clusters = [frozenset({1}), frozenset({2})]
    for link, place in (("links", 0), ("shared", 1)):
        nodes = {1: node(1, None, link), 2: node(2, "a")}
        ids = hold_ids(clusters, nodes, {"a": Anchors(there, (here,))}, load_rules(), lambda: "new")
        assert ids.person_ids.index("a") == place
        assert ids.anchors.get("a") == (here if link == "links" else None)
    line = {"a": Anchors(there, (here._replace(alone=True),))}
    ids = hold_ids(clusters, {1: node(1, None, "shared"), 2: node(2, "a")}, line, load_rules(), lambda: "new")
    assert ids.person_ids == ["a", "new"]


def test_nothing_is_left_of_the_anchors_of_an_erased_person(stores: Stores, graph: Graph, resolver: Resolver) -> None:
    """The id was at the phone first, which stays as a shared line of its own."""
    database = stores.database("graph")
    [erased] = resolver.resolve([message(phone(1))])
    resolver.resolve([contact("7", phone(1), email("ann"))])
    resolver.decide("shared", [phone(1)], actor="ann")
    assert [row["person_id"] for row in database.query("SELECT person_id FROM other_anchor")] == [erased]
    assert graph.person_of(email("ann")) == erased
    line = graph.person_of(phone(1))
    Eraser(stores, load_rules()).erase(str(erased), due=timedelta(days=30))
    assert graph.person_of(email("ann")) is None
    assert {row["id"] for row in database.query("SELECT id FROM person")} == {line} == {graph.person_of(phone(1))}
    assert database.query("SELECT 1 FROM other_anchor") == database.query("PRAGMA foreign_key_check") == []


def test_new_handles_and_names_move_a_person_to_the_end_of_the_changed_ones(graph: Graph, resolver: Resolver) -> None:
    first, second = resolver.resolve([message(phone(1)), message(phone(2))])
    for change in (message(phone(1), name="Ann"), message(phone(1), whatsapp("u")), contact("7", phone(1), name="A")):
        before = graph.last_sequence()
        resolver.resolve([change])
        assert [person_id for _, person_id in graph.persons_changed_since(before, 10)] == [first]
    assert {person_id for _, person_id in graph.persons_changed_since(0, 10)} == {first, second}


def test_a_person_that_turns_into_a_shared_line_is_a_changed_person(graph: Graph, resolver: Resolver) -> None:
    rules = load_rules()
    [person_id] = resolver.resolve([message(phone(1))])
    kinds = {**rules.kinds, "phone": rules.of("phone").model_copy(update={"caps": {"hubspot_contact": 0}})}
    resolver = Resolver(graph, rules.model_copy(update={"kinds": kinds}))
    resolver.follow_rules()
    before = graph.last_sequence()
    resolver.resolve([contact("7", phone(1))])
    assert graph.is_shared(str(person_id))
    assert person_id in {changed for _, changed in graph.persons_changed_since(before, 10)}


@settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(world=worlds())
def test_whoever_follows_the_log_knows_who_is_who(world_stores: Stores, world: World) -> None:
    """A reader that polls after each batch, as the archive does, ends with the graph's own answer."""
    empty(world_stores)
    graph = Graph(world_stores)
    resolver = Resolver(graph, TIGHT_RULES)
    known: dict[str, str] = {}
    ever: set[str] = set()
    changes_seen = persons_seen = 0
    for start in range(0, len(world.records), world.batch_rows):
        resolver.resolve(world.records[start : start + world.batch_rows])
        for change in graph.changes_since(changes_seen, 10_000):
            changes_seen = change.sequence
            for handle in change.handles:
                assert known[handle.key] in change.from_person_ids
                known[handle.key] = str(change.into_person_id)
        for sequence, person_id in graph.persons_changed_since(persons_seen, 10_000):
            persons_seen = sequence
            keys = {handle.key for handle in graph.handles_of(person_id)}
            for key in [key for key, owner in known.items() if owner == person_id and key not in keys]:
                del known[key]
            for key in keys:
                assert known.get(key, person_id) == person_id
                known[key] = person_id
        now = person_ids(world_stores)
        assert known == now
        for person_id in ever:
            assert graph.current(person_id) in {*now.values(), person_id}
        ever |= set(now.values())


@settings(
    max_examples=40, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(world=worlds(most=12))
def test_taking_a_contact_back_restores_persons_and_their_ids(world_stores: Stores, world: World) -> None:
    """A contact that links what was there before, and is then deleted, leaves every id as it was."""
    empty(world_stores)
    graph = Graph(world_stores)
    resolver = Resolver(graph, TIGHT_RULES)
    resolver.resolve(world.records)
    before = person_ids(world_stores)
    resolver.resolve([contact("99", email("a"), phone(0), minute=50)])
    resolver.resolve([contact("99", minute=51, deleted=True)])
    after = person_ids(world_stores)
    assert {key: after[key] for key in before} == before
    assert after.keys() == before.keys()
