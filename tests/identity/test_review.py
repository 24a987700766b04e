"""The review queue and the desk: what waits, in which order, what a decision comes to, and that a no is for ever."""

from __future__ import annotations

import pytest

from identity.desk import Desk, Outcome
from identity.review import Item, ReviewQueue
from identity.rules import load_rules
from identity.suggest import suggest
from mappings.errors import SettingsError
from mappings.records import Handle
from stores.database import Stores
from stores.graph import Graph
from tests.identity.worlds import (
    TIGHT_RULES,
    answer_of,
    contact,
    email,
    evidence,
    hubspot,
    message,
    messenger,
    phone,
    whatsapp,
)
from tests.targets.sending_world import World

RULES = load_rules()


@pytest.fixture
def world(stores: Stores) -> World:
    return World(stores)


@pytest.fixture
def queue(world: World) -> ReviewQueue:
    return ReviewQueue(world.stores, RULES)


def desk(world: World) -> Desk:
    return Desk(world.stores, RULES, "ann")


def person(world: World, handle: Handle) -> str:
    person_id = world.graph.person_of(handle)
    assert person_id is not None
    return person_id


def pairs(items: list[Item]) -> list[tuple[set[str], str]]:
    return [({handle.value for handle in item.handles}, item.notes[0].source) for item in items]


def conflict(world: World, one: str = "7", other: str = "8") -> None:
    """Two contacts, and a link between them that the limit refuses."""
    world.take(contact(one, email(f"a{one}"), minute=1), contact(other, email(f"b{other}"), minute=2))
    world.resolver.resolve([evidence(email(f"a{one}"), email(f"b{other}"), minute=3)])


def claim(world: World, who: str = "u", what: str = "a") -> None:
    """Somebody on WhatsApp typed another person's address."""
    world.take(message(whatsapp(who)), message(email(what)))
    world.resolver.resolve([evidence(whatsapp(who), email(what), method="contact_card", strength="claimed")])


# What waits


def test_refused_links_typed_in_handles_and_suggestions_wait_the_likeliest_first(
    world: World, queue: ReviewQueue
) -> None:
    world.take(message(messenger("x"), name="Ottilie Brandvold"), message(messenger("y"), name="Ottilie Brandvold"))
    claim(world)
    conflict(world)
    suggest(world.stores, RULES)
    # All three senders wait for an answer; the contacts never wrote.
    world.take(*(message(handle, minute=9, direction="outbound", author_kind="agent")
                 for handle in (messenger("x"), messenger("y"), whatsapp("u"), email("a"))))  # fmt: skip
    assert [source for _, source in pairs(queue.items())] == ["suggestion", "conflict", "claimed"]


def test_what_waits_for_an_answer_comes_before_what_is_likelier(world: World, queue: ReviewQueue) -> None:
    conflict(world)
    claim(world)
    assert [(item.notes[0].source, item.unanswered) for item in queue.items()] == [("claimed", 1), ("conflict", 0)]
    world.take(message(whatsapp("u"), minute=9, direction="outbound", author_kind="agent"))
    assert [(item.notes[0].source, item.unanswered) for item in queue.items()] == [("conflict", 0), ("claimed", 0)]


def test_several_reasons_about_two_persons_are_one_item(world: World, queue: ReviewQueue) -> None:
    conflict(world)
    world.resolver.resolve([evidence(email("a7"), hubspot("8"), strength="claimed")])
    [item] = queue.items()
    assert sorted(note.source for note in item.notes) == ["claimed", "conflict"]


def test_a_typed_in_address_that_is_nobody_s_does_not_wait(world: World, queue: ReviewQueue) -> None:
    world.resolver.resolve([message(whatsapp("u"))])
    world.resolver.resolve([evidence(whatsapp("u"), email("a"), strength="claimed")])
    assert queue.items() == []


def test_a_typed_in_role_mailbox_or_shared_line_does_not_wait(world: World, queue: ReviewQueue) -> None:
    world.resolver.resolve([message(whatsapp("u")), message(email("info"))])
    world.resolver.resolve([evidence(whatsapp("u"), email("info"), strength="claimed")])
    assert queue.items() == []


def test_what_hangs_together_stands_side_by_side(world: World, queue: ReviewQueue) -> None:
    claim(world, "u", "a")
    claim(world, "v", "b")
    world.resolver.resolve([message(messenger("x"))])
    world.resolver.resolve([evidence(messenger("x"), email("a"), strength="claimed")])
    clusters = [item.cluster for item in queue.items()]
    assert sorted(clusters) == clusters
    assert sorted(clusters.count(one) for one in set(clusters)) == [1, 2]


# What becomes of it


def test_a_no_removes_a_pair_for_ever_and_an_undo_brings_it_back(world: World, queue: ReviewQueue) -> None:
    for make in (conflict, claim):
        make(world)
    world.take(message(messenger("x"), name="Ottilie Brandvold"), message(messenger("y"), name="Ottilie Brandvold"))
    suggest(world.stores, RULES)
    numbers = []
    for item in queue.items():
        numbers += desk(world).say("different", item.person_ids).decision_ids
    assert queue.items() == []
    conflict(world)
    claim(world)
    world.resolver.resolve([evidence(whatsapp("u"), email("a"), method="typed", strength="claimed", minute=99)])
    suggest(world.stores, RULES)
    assert queue.items() == []
    for number in numbers:
        desk(world).undo(number)
    suggest(world.stores, RULES)
    assert len(queue.items()) == 3


def test_a_yes_removes_a_pair_because_they_are_one_person(world: World, queue: ReviewQueue) -> None:
    claim(world)
    [item] = queue.items()
    desk(world).say("same", item.person_ids)
    assert queue.items() == []
    assert person(world, whatsapp("u")) == person(world, email("a"))


def test_what_is_put_off_comes_last_until_it_is_taken_up(world: World, queue: ReviewQueue) -> None:
    conflict(world)
    claim(world)
    first = queue.items()[0]
    queue.put_off(first, actor="ann")
    items = queue.items()
    assert [item.state for item in items] == ["open", "later"]
    assert items[1].item_id == first.item_id
    queue.take_up(items[1])
    assert [item.state for item in queue.items()] == ["open", "open"]


def test_both_persons_are_compared_line_by_line(world: World, queue: ReviewQueue) -> None:
    conflict(world)
    world.take(
        contact("7", email("a7"), name="Ada Byron", minute=5), contact("8", email("b8"), name="ada byron", minute=5)
    )
    [item] = queue.items()
    a, b, rows = queue.compare(item)
    told = {row.label: row for row in rows}
    assert told["name"].agrees is True
    assert told["hubspot_contact"].agrees is False
    assert {*told["hubspot_contact"].left, *told["hubspot_contact"].right} == {"7", "8"}
    assert {a.person_id, b.person_id} == {*item.person_ids}


# The desk


def moved(outcome: Outcome) -> list[tuple[str, set[str]]]:
    return [(one.change.change, {handle.value for handle in one.change.handles}) for one in outcome.moved]


def test_two_persons_with_a_contact_each_are_made_one_by_their_contacts(world: World) -> None:
    conflict(world)
    outcome = desk(world).say("same", [person(world, hubspot("7")), person(world, hubspot("8"))])
    assert {handle for group in outcome.handles for handle in group} == {hubspot("7"), hubspot("8")}
    assert [one.change.change for one in outcome.moved] == ["merge"]
    assert person(world, hubspot("7")) == person(world, hubspot("8"))
    assert outcome.notes == []


def test_contacts_of_two_crms_each_are_joined_in_both(world: World) -> None:
    others = [Handle(kind="salesforce_contact", scope="org", value=value) for value in "pq"]
    conflict(world)
    world.resolver.resolve([evidence(others[0], hubspot("7")), evidence(others[1], hubspot("8"))])
    outcome = desk(world).say("same", [person(world, hubspot("7")), person(world, hubspot("8"))])
    assert len(outcome.handles) == 2
    assert len({person(world, handle) for handle in (hubspot("7"), hubspot("8"), *others)}) == 1


def test_two_handles_of_persons_that_cannot_be_one_say_what_to_do(world: World) -> None:
    conflict(world)
    [note] = desk(world).say("same", ["a7@mail.example", "b8@mail.example"]).notes
    assert "at most 1 hubspot_contact per person" in note
    assert "name the persons" in note


def test_a_person_stands_for_its_strongest_handle(world: World) -> None:
    world.take(message(whatsapp("u"), phone(1)), message(messenger("x")))
    outcome = desk(world).say("same", [person(world, phone(1)), person(world, messenger("x"))])
    assert set(outcome.handles[0]) == {whatsapp("u"), messenger("x")}


def test_what_moves_is_told_with_conversations_and_crm_records_and_can_be_taken_back(world: World) -> None:
    claim(world)
    world.take(contact("7", email("a")))
    before = answer_of(world.stores)
    outcome = desk(world).say("same", ["whatsapp_user:u", "a@mail.example"], reason="she said so")
    assert [kind for kind, _ in moved(outcome)] == ["merge"]
    everything = [one for part in outcome.moved for one in (*part.conversations, *part.crm_records)]
    assert everything
    assert world.archive.person(person(world, email("a"))) is not None
    desk(world).undo(outcome.decision_ids[0])
    assert answer_of(world.stores) == before


def test_a_dry_run_tells_the_same_and_changes_nothing(world: World) -> None:
    claim(world)
    before, sequence = answer_of(world.stores), world.graph.last_sequence()
    would = desk(world).say("same", ["whatsapp_user:u", "a@mail.example"], dry_run=True)
    assert (would.decision_ids, answer_of(world.stores), world.graph.last_sequence()) == ([], before, sequence)
    assert world.graph.decisions(revoked=True) == []
    assert moved(would) == moved(desk(world).say("same", ["whatsapp_user:u", "a@mail.example"]))


def test_the_archive_follows_a_decision_at_once(world: World) -> None:
    claim(world)
    desk(world).say("same", ["whatsapp_user:u", "a@mail.example"])
    told = world.archive.person(person(world, email("a")))
    assert told is not None
    assert {handle.kind for handle in told.handles} == {"whatsapp_user", "email"}


def test_a_yes_against_a_no_says_which_no_to_take_back(world: World) -> None:
    claim(world)
    number = desk(world).say("different", ["whatsapp_user:u", "a@mail.example"]).decision_ids[0]
    with pytest.raises(SettingsError, match=f"onethread identity undo {number}"):
        desk(world).say("same", ["whatsapp_user:u", "a@mail.example"])


@pytest.mark.parametrize(
    ("kind", "names", "message"),
    [
        ("same", ["a@mail.example", "a@mail.example"], "both name the same"),
        ("different", ["a@mail.example", "z@mail.example"], "nothing is known of"),
        ("shared", ["00000000-0000-7000-8000-000000000000"], "there is no person"),
    ],
)
def test_what_cannot_be_decided_says_why(world: World, kind: str, names: list[str], message: str) -> None:
    claim(world)
    with pytest.raises(SettingsError, match=message):
        desk(world).say(kind, names)  # type: ignore[arg-type]


def test_shared_speaks_of_a_handle_and_not_of_a_person(world: World) -> None:
    world.take(message(whatsapp("u"), phone(1)))
    with pytest.raises(SettingsError, match="name the handle"):
        desk(world).say("shared", [person(world, phone(1))])
    desk(world).say("shared", [phone(1).value])
    assert person(world, phone(1)) != person(world, whatsapp("u"))


@pytest.mark.parametrize("number", [1, 99])
def test_a_decision_that_does_not_stand_cannot_be_taken_back(world: World, number: int) -> None:
    claim(world)
    desk(world).undo(desk(world).say("different", ["whatsapp_user:u", "a@mail.example"]).decision_ids[0])
    with pytest.raises(SettingsError, match="taken back already" if number == 1 else "is not known"):
        desk(world).undo(number)


def test_a_graph_of_other_rules_is_left_alone(world: World) -> None:
    claim(world)
    digest = Graph(world.stores).setting("rules")
    with pytest.raises(SettingsError, match="ONETHREAD_IDENTITY_RULES_FILE"):
        Desk(world.stores, TIGHT_RULES, "ann")
    assert Graph(world.stores).setting("rules") == digest
