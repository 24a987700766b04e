"""A person is erased everywhere, stays erased whatever comes again, and nobody else loses a word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity.erasure import Eraser
from identity.mapper import MapIdentity
from identity.resolver import Resolver
from mappings.errors import PayloadError, SettingsError
from mappings.ids import conversation_key, reply_key
from mappings.records import Contact, Handle, Receipt
from stores.database import Stores
from stores.graph import Touched, Unit, merged_handles, time_number
from stores.graph.erasing import GraphEraser
from stores.outbox import Outbox
from stores.parked import Parked
from stores.removals import Removals
from tests.identity.erasure_world import (
    ANA,
    BEN,
    CANARIES,
    CONTACT,
    EMAIL,
    OTHERS,
    PAGE,
    PHONE,
    PORTAL,
    REPLY,
    Life,
    at,
    leftovers,
    message,
)
from tests.identity.worlds import TIGHT_RULES, World, resolve_world, worlds

RunTarget = Callable[[Any, Iterable[dict[str, Any]]], list[dict[str, Any]]]
NOW = datetime(2031, 1, 1, tzinfo=UTC)
LATER = 60 * 24 * 365 * 6


@pytest.fixture
def life(stores: Stores, state_url: str) -> Life:
    made = Life(stores, state_url)
    made.live()
    return made


@pytest.fixture
def folder(stores: Stores) -> Path:
    return stores.folder


def bens_side(life: Life) -> Any:
    """All that is Ben's, without the reaction of somebody who is gone."""
    person = life.archive.person(life.ben())
    thread = [one.model_copy(update={"reactions": []}) for one in life.archive.thread(life.ben())]
    parked = [one.payload for one in Parked(life.stores).list() if "+12025550102" in str(one.payload)]
    return person, thread, life.graph.why(life.ben()), parked


@pytest.mark.sqlite
def test_not_a_byte_is_left_after_every_part_has_erased(life: Life, folder: Path) -> None:
    before = leftovers(folder, life.stores)
    assert {where.partition("/")[0] for where in before if "/" in where} >= {
        "graph.db", "archive.db", "deliveries.db", "outbox.db", "parked.db", "spool.db", "ledger.db"
    }  # fmt: skip
    assert {one for one in CANARIES if not any(where.endswith(one) for where in before)} == set()
    ben = bens_side(life)
    erasure = life.erase(now=NOW)
    assert erasure.state == "swept"
    life.run_tap()  # both taps' bookmarks move on: the mixed delivery may go
    life.run_tap()
    life.confirm(erasure)
    assert Eraser(life.stores, life.rules).waiting() == []
    assert leftovers(folder, life.stores) == []
    assert bens_side(life) == ben
    assert life.words_of(life.ben()) == ["I am Ben and I have a dog.", "The dog is fine."]


def test_nothing_comes_back_whatever_comes_again(life: Life) -> None:
    ana = life.ana()
    erasure = life.erase(now=NOW)
    life.confirm(erasure)
    told = life.archive.changes("messages"), life.graph.last_sequence()
    persons = {one.person_id for one in life.persons()}
    life.everything_again()
    assert life.graph.person_of(PAGE) is None
    assert [life.graph.person_of(one) for one in (EMAIL, PHONE, CONTACT)] == [None, None, None]
    assert {one.person_id for one in life.persons()} == persons
    assert ana not in persons
    assert (life.archive.changes("messages"), life.graph.last_sequence()) == told
    assert Outbox(life.stores).listing() == []
    assert all(record["handles"] != [PAGE.model_dump()] for _, record in life.archive.changes("contacts"))
    assert life.resolver.tally.erased > 0


def test_who_writes_again_is_somebody_new(life: Life) -> None:
    ana = life.ana()
    life.erase(now=NOW)
    life.take([message(50, PAGE, "Hello, I am new here", LATER)])
    new = life.graph.person_of(PAGE)
    assert new is not None
    assert new != ana
    assert life.words_of(new) == ["Hello, I am new here"]
    assert life.archive.find_person(EMAIL.value) == []


def test_what_arrives_while_the_erasure_is_under_way_stays(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    eraser = Eraser(life.stores, life.rules, NOW)
    carry_out = Eraser._carry_out

    def late(self: Eraser, erasure: Any) -> None:
        life.take([message(50, PAGE, "Hello, I am new here", LATER), message(3, PAGE, "My parrot again", 20)])
        carry_out(self, erasure)

    monkeypatch.setattr(Eraser, "_carry_out", late)
    eraser.erase(life.ana(), due=timedelta(days=30))
    new = life.graph.person_of(PAGE)
    assert life.words_of(new or "") == ["Hello, I am new here"]
    (conversation,) = life.archive.conversations_of(new or "")
    assert conversation.message_count == 1


def test_a_phone_that_others_use_too_stays_theirs(life: Life) -> None:
    family = Handle(kind="phone", value="+12025550199")
    wife, husband = (Handle(kind="whatsapp_user", scope="p", value=name) for name in ("wife", "husband"))
    life.take(
        [message(60, wife, "w", 1, handles=[wife, family]), message(61, husband, "h", 2, handles=[husband, family])]
    )
    shared = life.graph.person_of(family)
    assert life.graph.is_shared(shared or "")
    life.erase(life.graph.person_of(wife), now=NOW)
    assert life.graph.person_of(wife) is None
    assert life.graph.person_of(family) == life.graph.person_of(husband)  # one neighbour is left: it links again
    assert life.words_of(life.graph.person_of(husband) or "") == ["h"]


def test_what_only_they_had_goes_with_them(life: Life) -> None:
    typed = Handle(kind="email", value="typed.canary@mail.example")
    assert life.graph.node_of(typed) is not None
    life.erase(now=NOW)
    assert life.graph.node_of(typed) is None
    assert life.graph.node_of(BEN) is not None


def test_a_mailbox_that_was_only_seen_with_them_keeps_what_came_from_it(life: Life) -> None:
    """A role mailbox is nobody's by rule; one mail from it names Ana's login besides."""
    office = Handle(kind="email", value="info@firm.example")
    life.take([message(80, office, "From the office", 30, handles=[office, PAGE])])
    life.archive.follow_graph()
    of_office = life.graph.person_of(office)
    assert of_office not in {None, life.ana()}
    life.erase(now=NOW)
    life.archive.follow_graph()
    assert life.graph.person_of(office) == of_office
    assert life.words_of(of_office or "") == ["From the office"]
    (left,) = life.archive.thread(of_office or "")
    assert left.handles == [office]


def test_parked_rows_of_somebody_with_a_short_id_go_too(life: Life) -> None:
    visitor, other = (Handle(kind="chatwoot_contact", scope="1", value=value) for value in ("412", "413"))
    said, replied = message(70, visitor, "Only I know", 1), reply_key("hubspot", "1", "51", "m1")
    life.take([said, message(71, other, "Not mine", 1)])
    person_id = life.graph.person_of(visitor) or ""
    theirs = {
        "persons": {"person_id": person_id, "name": "Anonymous"},
        "message_changes": {"message_key": said.message_key, "text": "Only I know, edited"},
        "consents": {"handle": visitor.model_dump(), "status": "opted_out"},
        "replies": {"reply_key": replied, "handles": [visitor.model_dump()], "text": "Dear visitor"},
        "receipts": {"subject_key": conversation_key("messenger", "1100", "412"), "status": "read"},
    }
    others = {
        "persons": {"person_id": life.graph.person_of(other), "name": "Another"},
        "messages": {"message_key": "chatwoot:1:412", "person_id": person_id, "handles": [other.model_dump()]},
        "person_changes": {"change": "split", "from_person_ids": [person_id], "handles": [other.model_dump()]},
    }
    parked = Parked(life.stores)
    for kept in (theirs, others):
        for stream, payload in kept.items():
            parked.park("target-hubspot", stream, str(payload), PayloadError("odd"), payload)
    before = len(parked.list())
    life.erase(person_id, now=NOW)
    left = [one.payload for one in parked.list()]
    assert len(left) == before - len(theirs)
    assert [one for one in theirs.values() if one in left] == []
    assert [one for one in others.values() if one in left] == list(others.values())


def test_an_owner_of_a_number_that_changed_hands_leaves_no_parked_row(stores: Stores, state_url: str) -> None:
    life = Life(stores, state_url)
    old, new = message(1, PHONE, "old words", 1), message(2, PHONE, "new words", 5000)
    life.take([old, new])
    life.resolver.decide("recycled", [PHONE], actor="ann", since=at(1000))
    life.archive.follow_graph()
    parked = Parked(stores)
    for one in (old, new):
        parked.park("target-hubspot", "messages", one.message_key, PayloadError("odd"), one.model_dump(mode="json"))
    life.erase(life.graph.person_of(PHONE, at(0)), now=NOW)
    assert [one.payload["text"] for one in parked.list()] == ["new words"]


def test_an_answer_in_their_thread_goes_with_them_and_one_on_their_contact_to_another_stays(life: Life) -> None:
    hers, bens = (conversation_key("messenger", "1100", one.value) for one in (PAGE, BEN))
    bens_contact = Handle(kind="hubspot_contact", scope=PORTAL, value="6001")
    answers = [
        REPLY.model_copy(
            update={"reply_key": reply_key("hubspot", PORTAL, "inbox.41", number), "conversation_key": key,
                    "handles": handles}
        )
        for number, key, handles in (("1", hers, [bens_contact]), ("2", bens, [BEN, CONTACT]))
    ]  # fmt: skip
    outbox = Outbox(life.stores)
    outbox.add(answers, lambda one, other: one == other)
    life.erase(now=NOW)
    late = answers[0].model_copy(update={"reply_key": reply_key("hubspot", PORTAL, "inbox.41", "3")})
    outbox.add([*answers, late], lambda one, other: one == other)
    assert [one.reply.conversation_key for one in outbox.listing()] == [bens]


def test_the_other_half_after_a_split_is_not_touched(life: Life) -> None:
    life.resolver.decide("different", [PAGE, EMAIL], actor="ann")
    life.archive.follow_graph()
    ana, other = life.graph.person_of(PAGE), life.graph.person_of(EMAIL)
    assert ana != other
    words, handles = life.words_of(other or ""), life.graph.handles_of(other or "")
    life.erase(ana, now=NOW)
    life.archive.follow_graph()
    assert life.words_of(other or "") == words
    assert life.graph.handles_of(other or "") == handles
    assert life.graph.person_of(PAGE) is None


@pytest.mark.parametrize("whose", ["former", "present"])
def test_one_owner_of_a_number_is_erased_and_the_other_stays(stores: Stores, state_url: str, whose: str) -> None:
    life = Life(stores, state_url)
    old = [message(1, PHONE, "old words", 1), message(2, PHONE, "more old words", 2)]
    new = [message(3, PHONE, "new words", 5000), message(4, PHONE, "more new words", 5001)]
    life.take([*old, *new])
    life.resolver.decide("recycled", [PHONE], actor="ann", since=at(1000))
    life.archive.follow_graph()
    former, present = life.graph.person_of(PHONE, at(0)), life.graph.person_of(PHONE)
    assert life.words_of(former or "") == ["old words", "more old words"]
    erased, stays = (former, present) if whose == "former" else (present, former)
    words = life.words_of(stays or "")
    life.erase(erased, now=NOW)
    life.take([*old, *new])
    assert life.words_of(stays or "") == words
    assert life.words_of(erased or "") == []
    assert {one["text"] for _, one in life.archive.changes("messages")} == set(words)
    life.take([message(9, PHONE, "later words", LATER)])
    later = life.graph.person_of(PHONE)
    assert later not in {None, former if whose == "present" else None}
    assert "later words" in life.words_of(later or "")


def test_again_is_harmless_and_an_unknown_person_is_an_error(life: Life) -> None:
    ana = life.ana()
    first = life.erase(ana, now=NOW)
    again = life.erase(ana, now=NOW)
    assert (again.erasure_id, again.sequence) == (first.erasure_id, first.sequence)
    with pytest.raises(SettingsError, match="nobody is known"):
        life.erase("018f0000-0000-7000-8000-000000000000", now=NOW)


def test_the_log_names_nobody(life: Life) -> None:
    ana = life.ana()
    erasure = life.erase(now=NOW)
    life.archive.follow_graph()
    changes = [record for _, record in life.archive.changes("person_changes")]
    (change,) = [one for one in changes if one["change"] == "erase"]
    assert change["sequence"] == erasure.sequence
    assert ana in change["from_person_ids"]
    assert (change["handles"], change["conversation_keys"], change["spans"]) == ([], [], [])


def test_it_waits_for_each_destination_and_for_the_receiver(life: Life) -> None:
    erasure = life.erase(now=NOW)
    eraser = Eraser(life.stores, life.rules, NOW)
    (waiting,) = eraser.waiting()
    assert waiting.open_parts[0] == "hubspot 8800001"
    assert "deliveries" in waiting.open_parts[1]
    assert not waiting.is_overdue(NOW + timedelta(days=30))
    assert waiting.is_overdue(NOW + timedelta(days=31))
    assert life.ledger.messages_of_person(erasure.person_id)  # which records are theirs is still known
    life.run_tap()
    life.run_tap()
    life.confirm(erasure)
    assert eraser.waiting() == []
    assert life.ledger.contact(erasure.person_id) is None
    assert life.ledger.messages_of_person(erasure.person_id) == []


def test_a_delivery_with_others_in_it_goes_only_when_every_tap_has_read_it(life: Life) -> None:
    erasure = life.erase(now=NOW)
    from stores.deliveries import Deliveries

    def there() -> list[int]:
        deliveries = Deliveries(life.stores)
        found = [one.delivery_id for one in deliveries.read("whatsapp", "default", 0, 100)]
        deliveries.close()
        return found

    life.confirm(erasure)
    assert there() == [2, 3]
    life.run_tap()
    life.confirm(erasure)
    assert there() == [3]


def test_a_late_retry_goes_no_further_and_leaves_no_raw_bytes(life: Life, run_target: RunTarget) -> None:
    life.erase(now=NOW)
    late = message(70, PAGE, "A late parrot", 4, raw_ref="delivery:7#0")
    bens = message(71, BEN, "A late dog", 4, raw_ref="delivery:8#0")
    lines = [
        {"type": "SCHEMA", "stream": "messages", "schema": {}, "key_properties": ["message_key"]},
        *({"type": "RECORD", "stream": "messages", "record": one.model_dump(mode="json")} for one in (late, bens)),
        {"type": "STATE", "value": {}},
    ]  # fmt: skip
    passed = run_target(MapIdentity(config={"state_url": life.state_url}), lines)
    assert [one["record"]["text"] for one in passed if one["type"] == "RECORD"] == ["A late dog"]
    assert 7 in Removals(life.stores).asked()
    assert 8 not in Removals(life.stores).asked()


def test_the_archive_lets_nothing_in_that_came_past_map_identity(life: Life) -> None:
    life.erase(now=NOW)
    before = life.archive.changes("messages"), life.archive.changes("receipts")
    life.archive.fold(
        messages=[message(72, PAGE, "A late parrot", 4, raw_ref="delivery:9#0")],
        receipts=[one for one in ANA if isinstance(one, Receipt)],
    )
    assert (life.archive.changes("messages"), life.archive.changes("receipts")) == before
    assert life.archive.left_out == 3
    assert 9 in Removals(life.stores).asked()


def test_tombstones_can_be_dropped(life: Life) -> None:
    life.erase(now=NOW)
    eraser = Eraser(life.stores, life.rules, NOW)
    assert eraser.forget(NOW) == 0
    assert eraser.forget(NOW + timedelta(seconds=1)) > 10
    life.take([*ANA, *OTHERS])
    assert life.ana() != ""


@pytest.fixture(scope="module")
def world_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    stores = Stores(str(tmp_path_factory.mktemp("worlds")))
    yield stores
    stores.close()


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(world=worlds(15), data=st.data())
def test_whoever_is_erased_from_whatever_world_nobody_comes_back_and_nobody_else_moves(
    world_stores: Stores, world: World, data: st.DataObject
) -> None:
    with world_stores.database("graph").transaction() as database:
        database.execute("DELETE FROM tombstone")
    graph = resolve_world(world_stores, world, TIGHT_RULES)
    persons = sorted({person_id for _, person_id in graph.members()})
    if not persons:
        return
    subject = graph.subject(data.draw(st.sampled_from(persons)))
    assert subject is not None
    resolver = Resolver(graph, TIGHT_RULES)

    def act(unit: Unit) -> Touched:
        eraser = GraphEraser(unit)
        graph.tombstones.add(eraser.tombstones(subject, time_number(NOW)), time_number(NOW))
        return eraser.erase(subject).touched

    resolver.change(act, "a person was erased")
    others = {handle.key: person_id for handle, person_id in graph.members()}
    erased = {one.handle.key for one in subject.owned if not one.is_shared_in_time} - {
        handle.key for record in world.records if isinstance(record, Contact) for handle in merged_handles(record)
    }
    for _ in range(2):
        resolver.resolve(data.draw(st.permutations(world.records)))
        after = {handle.key: person_id for handle, person_id in graph.members()}
        assert not erased & after.keys()
        kept = others.keys() & after.keys()
        assert {key: after[key] for key in kept} == {key: others[key] for key in kept}
        others = after
