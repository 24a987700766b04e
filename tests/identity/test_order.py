"""Any order of arrival, any repetition, any batch size: the same persons."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from identity import partition
from identity.resolver import Resolver
from mappings.records import Contact
from stores.database import Stores
from stores.graph import Graph
from tests.identity.worlds import START, TIGHT_RULES, World, answer_of, expected, resolve_world, worlds


@pytest.fixture(scope="module")
def world_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    folder: Path = tmp_path_factory.mktemp("worlds")
    stores = Stores(str(folder))
    yield stores
    stores.close()


def check_world(stores: Stores, world: World) -> None:
    """The graph that took `world` record by record says what the plain reference says of all of it at once."""
    resolve_world(stores, world, TIGHT_RULES)

    def content_rank(contact: Contact) -> str:
        return stores.codec.fingerprint(contact.model_dump_json(exclude={"raw_ref", "person_id", "owner_id"}))

    reference, answer = expected(world.records, TIGHT_RULES, content_rank), answer_of(stores)
    assert answer.persons == reference.persons
    assert answer.refused == reference.refused
    assert answer.names == reference.names


def property_over_worlds(stores: Stores, examples: int, phases: tuple[Phase, ...]) -> Callable[[], None]:
    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=phases,
        report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(worlds())
    def check(world: World) -> None:
        check_world(stores, world)

    return check


def test_any_order_and_repetition_gives_the_persons_of_the_reference(world_stores: Stores) -> None:
    property_over_worlds(world_stores, 150, (Phase.generate, Phase.shrink))()


@pytest.mark.slow
def test_many_more_worlds_give_the_persons_of_the_reference(world_stores: Stores) -> None:
    property_over_worlds(world_stores, 3000, (Phase.generate, Phase.shrink))()


def ties_broken_by_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    def order(_nodes: Any, links: Any) -> Callable[[tuple[int, int]], Any]:
        return lambda pair: (links[pair].rank, links[pair].first_at, pair)

    monkeypatch.setattr(partition, "joining_order", order)


def caps_looked_at_only_at_first_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    recount = Resolver._recount

    def at_first_sight(self: Resolver, handle_ids: Any, withdrawn: Any) -> set[int]:
        known = {handle_id for handle_id, node in self._graph.nodes(handle_ids).items() if node.person_id is not None}
        return recount(self, set(handle_ids) - known, withdrawn)

    monkeypatch.setattr(Resolver, "_recount", at_first_sight)


def shared_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    recount = Resolver._recount
    monkeypatch.setattr(Resolver, "_recount", lambda self, handle_ids, _: recount(self, handle_ids, ()))


def late_evidence_not_decided_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    save = Graph.save_evidence

    def only_new_pairs(self: Graph, seen: Any) -> Any:
        rows = self._database.query("SELECT a, b, method, strength FROM evidence")
        known = {tuple(row) for row in rows}
        return [key for key in save(self, seen) if key not in known]

    monkeypatch.setattr(Graph, "save_evidence", only_new_pairs)


def late_contact_not_decided_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    refresh = Graph._refresh_contact
    monkeypatch.setattr(
        Graph, "_refresh_contact", lambda self, record_id, touched, **_: refresh(self, record_id, touched)
    )


def last_contact_to_arrive_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    save, moments = Graph.save_contact, itertools.count()

    def as_if_newest(self: Graph, contact: Contact, *more: Any) -> Any:
        return save(self, contact.model_copy(update={"modified_at": START + timedelta(days=next(moments))}), *more)

    monkeypatch.setattr(Graph, "save_contact", as_if_newest)


def withdrawn_contacts_keep_their_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    save = Graph.save_contact

    def never_deleted(self: Graph, contact: Contact, *more: Any) -> Any:
        return save(self, contact.model_copy(update={"deleted": False}), *more)

    monkeypatch.setattr(Graph, "save_contact", never_deleted)


def only_the_seed_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Resolver._load

    def without_neighbours(self: Resolver, seeds: set[int]) -> Any:
        nodes, edges = load(self, seeds)
        return {handle_id: node for handle_id, node in nodes.items() if handle_id in seeds}, edges

    monkeypatch.setattr(Resolver, "_load", without_neighbours)


@pytest.mark.parametrize(
    "mutant",
    [
        ties_broken_by_arrival, caps_looked_at_only_at_first_sight, shared_for_ever, late_evidence_not_decided_anew,
        late_contact_not_decided_anew, last_contact_to_arrive_wins, withdrawn_contacts_keep_their_evidence,
        only_the_seed_is_decided,
    ],
)  # fmt: skip
def test_the_worlds_are_rich_enough_to_catch(
    mutant: Callable[[pytest.MonkeyPatch], None], world_stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        property_over_worlds(world_stores, 1500, (Phase.generate,))()
