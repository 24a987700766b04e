"""Each tap and target in a shell pipe without Meltano, run twice: the second time nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from stores.archive import EXPORTED, Archive
from stores.outbox import Outbox
from tests.end_to_end.shop import Piped, Shop, open_shop

pytestmark = pytest.mark.timeout(300)

PIPES = (
    ("tap-hubspot", "map-identity", "target-archive"),
    ("tap-whatsapp", "map-identity", "target-archive"),
    ("tap-messenger", "map-identity", "target-archive"),
    ("tap-archive", "target-hubspot"),
    ("tap-hubspot", "map-identity", "target-outbox"),
)
BARE = ("tap-whatsapp", "map-identity", "target-hubspot")


@dataclass
class Rounds:
    """What was there after the first round, and what the second one did.

    Attributes:
        held: what HubSpot held after the first round.
        writes: how often it was written to by then.
        high_water: the archive's last change by then.
    """

    shop: Shop
    mia: str
    first: list[Piped]
    second: list[Piped]
    held: dict[str, Any]
    writes: dict[str, int]
    high_water: int


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds]:
    """Mia, whom the shop has in HubSpot, writes on two channels; every pipe runs twice."""
    with open_shop(tmp_path_factory.mktemp("rounds") / "shop") as shop:
        shop.start_receiver()
        contact = {"firstname": "Mia", "lastname": "Rossi", "phone": "+1 202 555 0101"}
        mia = shop.hubspot.create_contact_as_person(contact)
        queued = {"onethread_reply_text": "It leaves today.", "onethread_reply_status": "QUEUED"}
        shop.hubspot.edit_contact_as_agent(mia, queued)
        shop.hubspot.clock.advance(5)  # search has caught up
        on_whatsapp = shop.whatsapp.add_customer("Mia", "+12025550101", "US.mia1rossi")
        on_messenger = shop.messenger.add_person("Mia", "Rossi")
        question = shop.whatsapp.text(on_whatsapp, "Where is my order 4711?")
        shop.whatsapp.text(on_whatsapp, "Any news?", reply_to=question)
        shop.whatsapp.react(on_whatsapp, question)
        shop.messenger.text(on_messenger, "Me again, on Messenger")
        shop.stage.link(on_messenger, "phone:+12025550101")
        shop.flush()
        first = [shop.pipe(*one) for one in PIPES]
        held, writes, high_water = shop.hubspot_holds(), shop.hubspot_writes(), Archive(shop.stores).high_water()
        second = [shop.pipe(*one) for one in PIPES]
        yield Rounds(shop, mia, first, second, held, writes, high_water)


def test_every_pipe_ends_well_and_its_last_line_is_a_state(rounds: Rounds) -> None:
    for names, one in zip(PIPES * 2, rounds.first + rounds.second, strict=True):
        assert one.code == 0, (names, one.log)
        assert one.state is not None, (names, one.log)
        assert one.state["bookmarks"]["cursor"], names


def test_a_customer_on_two_channels_is_one_contact_with_one_thread(rounds: Rounds) -> None:
    timeline = rounds.shop.timeline(rounds.mia)
    assert len(timeline) == 3
    for words in ("Where is my order 4711?", "Any news?", "Me again, on Messenger"):
        assert rounds.shop.contacts_with(words) == [rounds.mia]


def test_nothing_is_lost_doubled_or_parked(rounds: Rounds) -> None:
    counted = rounds.shop.tally()
    assert (counted.received, counted.on_records, counted.lost, counted.doubled) == (3, 3, 0, 0)
    assert (counted.persons, counted.persons_on_several_channels) == (1, 1)
    assert rounds.shop.parked() == []


def test_a_queued_reply_is_in_the_outbox_once(rounds: Rounds) -> None:
    assert [one.state for one in Outbox(rounds.shop.stores).listing()] == ["queued"]


def test_the_second_round_calls_no_writing_endpoint_of_hubspot(rounds: Rounds) -> None:
    assert rounds.writes["POST /crm/v3/objects/communications/batch/upsert"] == 1
    assert rounds.shop.hubspot_writes() == rounds.writes


def test_the_second_round_leaves_hubspot_as_it_was(rounds: Rounds) -> None:
    assert rounds.shop.hubspot_holds() == rounds.held


def test_the_second_round_changes_nothing_that_is_told_to_a_crm(rounds: Rounds) -> None:
    archive = Archive(rounds.shop.stores)
    assert archive.changes("messages")
    streams = {model.stream for model in EXPORTED} - {"contacts"}  # our own writing moved their time of change
    assert {one: archive.changes(one, rounds.high_water) for one in streams} == {one: [] for one in streams}


@dataclass
class Bare:
    """HubSpot after each run of a pipe without an archive: the first, the second, and one that lost its state."""

    shop: Shop
    lea: str
    runs: list[Piped]
    held: list[dict[str, Any]]
    writes: list[dict[str, int]]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    """Lea writes, corrects one message and takes another back; the pipe runs without an archive."""
    with open_shop(tmp_path_factory.mktemp("bare") / "shop") as shop:
        shop.start_receiver()
        on_whatsapp = shop.whatsapp.add_customer("Lea", "+12025550130", "US.lea4martin")
        typo = shop.whatsapp.text(on_whatsapp, "I ment the blue vase")
        regretted = shop.whatsapp.text(on_whatsapp, "My card number is secret")
        shop.whatsapp.text(on_whatsapp, "Is it in stock?")
        shop.whatsapp.edit(on_whatsapp, typo, "I meant the blue vase")
        shop.whatsapp.revoke(on_whatsapp, regretted)
        shop.flush()
        runs, held, writes = [], [], []
        for keep_state in (True, True, False):
            runs.append(shop.pipe(*BARE, keep_state=keep_state))
            held.append(shop.hubspot_holds())
            writes.append(shop.hubspot_writes())
        (lea,) = shop.hubspot.state()["contacts"]
        yield Bare(shop, lea, runs, held, writes)


@pytest.mark.slow
def test_a_pipe_without_an_archive_puts_the_messages_on_a_contact(bare: Bare) -> None:
    assert [one.code for one in bare.runs] == [0, 0, 0], bare.runs[0].log
    assert bare.shop.contacts_with("Is it in stock?") == [bare.lea]
    assert len(bare.shop.timeline(bare.lea)) == 3
    assert bare.shop.parked() == []


@pytest.mark.slow
def test_a_pipe_without_an_archive_shows_edits_and_forgets_what_was_taken_back(bare: Bare) -> None:
    timeline = "\n".join(bare.shop.timeline(bare.lea))
    assert "I meant the blue vase" in timeline
    assert "My card number is secret" not in timeline


@pytest.mark.slow
def test_a_pipe_without_an_archive_writes_nothing_the_second_time(bare: Bare) -> None:
    assert bare.writes[1] == bare.writes[0]
    assert bare.held[1] == bare.held[0]


@pytest.mark.slow
def test_a_pipe_that_lost_its_state_reads_everything_again_and_writes_nothing(bare: Bare) -> None:
    assert "emitted {'messages': 3" in bare.runs[2].log
    assert bare.writes[2] == bare.writes[0]
    assert bare.held[2] == bare.held[0]
