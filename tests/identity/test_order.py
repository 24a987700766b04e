"""Any order of arrival, any repetition, any batch size: the same persons."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from identity import partition, resolver
from identity.resolver import Resolver
from mappings.records import Contact
from stores.database import Stores
from stores.graph import Piece, Unit
from stores.graph.memory import Memory
from tests.identity.worlds import (
    START,
    TIGHT_RULES,
    Said,
    World,
    answer_of,
    contact,
    email,
    expected,
    message,
    phone,
    resolve_world,
    whatsapp,
    worlds,
)

MANY = int(os.environ.get("ONETHREAD_WORLDS", "1000"))
"""How many worlds the long run looks at."""


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

    reference = expected(world.records, TIGHT_RULES, content_rank, world.decisions)
    answer = answer_of(stores)
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


def test_what_a_contact_says_no_more_is_taken_from_the_former_owner_of_its_number(world_stores: Stores) -> None:
    """The phone was shared by two contacts before it changed hands; when one of them drops it, it no longer is."""
    year = 525_600
    owners = [message(whatsapp("w"), phone(1), minute=year), message(whatsapp("s"), phone(1))]
    contacts = [contact("13", email("a"), phone(1)), contact("11", email("a"), phone(1))]
    for dropped in ([], [contact("11", email("a"), minute=2)]):
        check_world(world_stores, World([*owners, *contacts, *dropped], 4, (0,)))
        check_world(world_stores, World([*owners, *dropped, *contacts], 1, (0,)))


def test_what_is_seen_again_later_is_taken_from_the_former_owner_of_a_number(world_stores: Stores) -> None:
    """Two WhatsApp ids on a number make it shared; one of them turns out to be the next owner's."""
    seen = [message(whatsapp("s"), phone(0)), message(whatsapp("t"), phone(0))]
    cut = Said("recycled", (phone(0),), START + timedelta(minutes=1))
    check_world(world_stores, World([*seen, cut, message(whatsapp("s"), phone(0), minute=1)], 1, (0,)))


@pytest.mark.slow
@pytest.mark.timeout(20_000)
def test_many_more_worlds_give_the_persons_of_the_reference(world_stores: Stores) -> None:
    property_over_worlds(world_stores, MANY, (Phase.generate, Phase.shrink))()


def ties_broken_by_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    def order(_nodes: Any, links: Any) -> Callable[[tuple[int, int]], Any]:
        return lambda pair: (links[pair].rank, links[pair].first_at, pair)

    monkeypatch.setattr(partition, "joining_order", order)


def caps_looked_at_only_at_first_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    recount = Resolver._recount

    def at_first_sight(self: Resolver, unit: Unit, handle_ids: Any, withdrawn: Any) -> set[int]:
        known = {handle_id for handle_id, node in unit.nodes(handle_ids).items() if node.person_id is not None}
        return recount(self, unit, set(handle_ids) - known, withdrawn)

    monkeypatch.setattr(Resolver, "_recount", at_first_sight)


def shared_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    recount = Resolver._recount
    monkeypatch.setattr(Resolver, "_recount", lambda self, unit, handle_ids, _: recount(self, unit, handle_ids, ()))


def late_evidence_not_decided_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    see = Unit.see

    def only_new_pairs(self: Unit, piece: Piece, moment: int) -> bool:
        known = piece.stored or piece.dirty
        return see(self, piece, moment) and not known

    monkeypatch.setattr(Unit, "see", only_new_pairs)


def late_contact_not_decided_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    refresh = Unit._refresh_contact
    monkeypatch.setattr(
        Unit, "_refresh_contact", lambda self, record_id, touched, **_: refresh(self, record_id, touched)
    )


def last_contact_to_arrive_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    save, moments = Unit.save_contact, itertools.count()

    def as_if_newest(self: Unit, contact: Contact, *more: Any) -> Any:
        return save(self, contact.model_copy(update={"modified_at": START + timedelta(days=next(moments))}), *more)

    monkeypatch.setattr(Unit, "save_contact", as_if_newest)


def withdrawn_contacts_keep_their_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    save = Unit.save_contact

    def never_deleted(self: Unit, contact: Contact, *more: Any) -> Any:
        return save(self, contact.model_copy(update={"deleted": False}), *more)

    monkeypatch.setattr(Unit, "save_contact", never_deleted)


def only_the_seed_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Resolver._load

    def without_neighbours(self: Resolver, unit: Unit, seeds: set[int]) -> Any:
        nodes, edges, decided = load(self, unit, seeds)
        kept = {handle_id: node for handle_id, node in nodes.items() if handle_id in seeds}
        same = {pair for pair in decided["same"] if kept.keys() >= set(pair)}
        return kept, edges, {**decided, "same": same}

    monkeypatch.setattr(Resolver, "_load", without_neighbours)


def another_process_is_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "forget", lambda self: setattr(self, "next_handle_id", None))


def a_no_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "_parts", lambda *_: False)


def what_is_taken_back_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_touched(self: Resolver, unit: Unit, touched: Any, why: str | None) -> None:
        if why is None or "took back" not in why:
            update(self, unit, touched, why)

    update = Resolver._update
    monkeypatch.setattr(Resolver, "_update", nothing_touched)


def a_change_of_hands_is_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    save = Unit.save_cuts

    def never_removed(self: Unit, node: Any, times: Any) -> set[int]:
        return save(self, node, {*times, *(since for since, _ in self.cuts([node.handle_id]).get(node.handle_id, []))})

    monkeypatch.setattr(Unit, "save_cuts", never_removed)


def later_sightings_never_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unit, "seen_again", lambda self: set())


def a_renamed_id_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "ids_under_all_names", lambda ids, *_: [{one} for one in ids])


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutant",
    [
        ties_broken_by_arrival, caps_looked_at_only_at_first_sight, shared_for_ever, late_evidence_not_decided_anew,
        late_contact_not_decided_anew, last_contact_to_arrive_wins, withdrawn_contacts_keep_their_evidence,
        only_the_seed_is_decided, another_process_is_not_noticed, a_no_is_forgotten, what_is_taken_back_stays,
        a_change_of_hands_is_for_ever, later_sightings_never_matter, a_renamed_id_counts_twice,
    ],
)  # fmt: skip
def test_the_worlds_are_rich_enough_to_catch(
    mutant: Callable[[pytest.MonkeyPatch], None], world_stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        property_over_worlds(world_stores, 1500, (Phase.generate,))()
