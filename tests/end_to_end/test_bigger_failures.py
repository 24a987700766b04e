"""The receiver, a platform's webhooks or HubSpot fail for a while; afterwards nothing is lost and nothing doubled."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import console.demo
from sandbox.base import Fault
from sandbox.deliverer import Delivery
from sandbox.hubspot import HubSpotApp
from stores.archive import Archive
from stores.items import Items
from tests.end_to_end.shop import Shop, kill_group, open_shop, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OUT = ("tap-archive", "target-hubspot")
SMALL_BATCHES = {"message_batch_size": 4, "contact_batch_size": 2}
NOTHING_WRONG = (0, 0)


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Five customers wrote four messages each, which are in the archive."""
    with open_shop(tmp_path_factory.mktemp("guests") / "shop") as shop:
        shop.start_receiver()
        for number in range(5):
            name = f"Guest {number}"
            one = shop.whatsapp.add_customer(name, f"+1202555013{number}", f"US.guest{number}")
            for turn in range(4):
                shop.whatsapp.text(one, f"{name} asks for the {turn}. time")
        shop.flush()
        shop.read_in()
        yield shop


@pytest.fixture(params=[True, False], ids=["unique property", "no unique property"])
def crowded(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guests: Shop
) -> Iterator[Shop]:
    """A shop with these guests whose HubSpot is empty; it can refuse doubles itself, or it cannot."""
    app = partial(HubSpotApp, unique_communication_property=request.param)
    monkeypatch.setattr(console.demo, "HubSpotApp", app)
    with open_shop(tmp_path / "shop", heir_of=guests) as shop:
        yield shop


def wrong(shop: Shop) -> tuple[int, int]:
    """(lost, doubled)."""
    counted = shop.tally()
    return counted.lost, counted.doubled


def deliver_until_done(shop: Shop, **settings: object) -> int:
    """Run the pipe to HubSpot again and again, as cron does; how many runs failed before one went through."""
    for failed in range(12):
        if shop.play(*OUT, **SMALL_BATCHES, **settings) is None:
            return failed
    msg = "the pipe to HubSpot does not get through"
    raise AssertionError(msg)


def test_what_customers_write_while_the_receiver_is_down_comes_with_the_retries(shop: Shop) -> None:
    noor = shop.messenger.add_person("Noor", "Haddad")
    jonas = shop.whatsapp.add_customer("Jonas", "+12025550120", "US.jonas2weber")
    shop.whatsapp.text(jonas, "Before")
    shop.flush()
    shop.stop_receiver(signal.SIGKILL)
    for number in range(10):
        shop.whatsapp.text(jonas, f"Jonas asks, question {number}")
        shop.messenger.text(noor, f"Noor asks, question {number}")
    wait_for(lambda: shop.whatsapp.state()["webhooks"]["attempts"] > 10)
    shop.start_receiver()
    shop.flush()
    shop.read_in()
    assert shop.play(*OUT) is None
    assert shop.tally().received == 21
    assert wrong(shop) == NOTHING_WRONG


def test_a_message_whose_webhook_was_lost_is_found_by_polling_and_counted_as_missed(shop: Shop) -> None:
    noor = shop.messenger.add_person("Noor", "Haddad")
    shop.messenger.clock.advance(-300)  # a webhook on its way is not a missed one
    shop.messenger.text(noor, "This one arrives")
    for number in range(3):
        shop.messenger.text(noor, f"Webhook {number} is lost", delivery=Delivery(drop=True))
    shop.messenger.clock.advance(300)
    shop.flush()
    for _ in range(2):
        shop.read_in()
        assert shop.play(*OUT) is None
    assert Items(shop.stores).missed() == {"messenger": 3}
    assert shop.tally().received == 4
    assert wrong(shop) == NOTHING_WRONG


def test_a_webhook_that_comes_after_polling_has_found_its_message_doubles_nothing(shop: Shop) -> None:
    noor = shop.messenger.add_person("Noor", "Haddad")
    shop.messenger.clock.advance(-300)
    shop.messenger.text(noor, "Webhook in time")  # where none ever came, nothing counts as missed
    shop.flush()
    shop.messenger.deliverer.hold()
    shop.messenger.text(noor, "Slow webhook")
    shop.messenger.clock.advance(300)
    shop.read_in()
    assert Items(shop.stores).missed() == {"messenger": 1}
    shop.messenger.deliverer.release()
    shop.flush()
    shop.read_in()
    assert shop.play(*OUT) is None
    assert Items(shop.stores).missed() == {}
    assert wrong(shop) == NOTHING_WRONG


SOON = {"X-HubSpot-RateLimit-Interval-Milliseconds": "50"}
BURST = {"status": "error", "errorType": "RATE_LIMIT", "policyName": "TEN_SECONDLY_ROLLING"}
FAULTS: dict[str, Callable[[], list[Fault]]] = {
    "a burst of 429": lambda: [Fault("/crm/", status=429, times=7, body=BURST, headers=SOON)],
    "502 from the proxy in front": lambda: [Fault("/crm/", status=502, times=7)],
    "contacts are made and 500 is answered": lambda: [
        Fault("/objects/contacts", status=500, times=5, when="after", method="POST")
    ],
    "messages are made and 500 is answered": lambda: [
        Fault("/objects/communications", status=500, times=5, when="after", method="POST")
    ],
    "messages are made and the answer comes too late": lambda: [
        Fault("/objects/communications", when="hang", delay_seconds=0.6, times=3, method="POST")
    ],
    "associations are made and 503 is answered": lambda: [
        Fault("/associations", status=503, times=5, when="after", method="POST")
    ],
    "everything at once": lambda: [
        Fault("/objects/contacts", status=504, times=2, when="after", method="POST"),
        Fault("/objects/communications", status=500, times=2, when="after", method="POST"),
        Fault("/crm/", status=429, times=3, body=BURST, headers=SOON),
        Fault("/objects/communications", when="hang", delay_seconds=0.6, times=2, method="POST"),
        Fault("/crm/", status=503, times=5),
    ],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_failures_of_hubspot_lose_and_double_nothing(crowded: Shop, fault: str) -> None:
    crowded.hubspot.faults.extend(FAULTS[fault]())
    # Two tries a call: most of these end the run, and the next one has to find out what the last one did.
    deliver_until_done(crowded, max_tries=2, timeout_seconds=0.3)
    # Without a unique property a message is made with its association: there is no such call.
    assert {one.path for one in crowded.hubspot.faults} <= {"/associations"}, "the fault did not happen"
    assert crowded.tally().received == 20
    assert wrong(crowded) == NOTHING_WRONG
    assert crowded.tally().persons == 5
    assert crowded.parked() == []
    writes = crowded.hubspot_writes()
    assert crowded.play(*OUT) is None
    assert crowded.hubspot_writes() == writes


def test_a_run_that_outlasts_the_failures_of_hubspot_needs_no_second_one(crowded: Shop) -> None:
    crowded.hubspot.faults.append(Fault("/objects/communications", status=503, times=3))
    assert deliver_until_done(crowded, max_tries=5) == 0
    assert wrong(crowded) == NOTHING_WRONG


def test_a_pipe_killed_while_hubspot_keeps_it_waiting_goes_on_without_loss_or_double(crowded: Shop) -> None:
    path = crowded.folder / "small.json"
    path.write_text(json.dumps(crowded.config_of("target-hubspot") | SMALL_BATCHES), encoding="utf-8")
    (crowded.folder / "tap.json").write_text(json.dumps(crowded.config_of("tap-archive")), encoding="utf-8")
    hanging = Fault("/objects/communications", when="hang", delay_seconds=5, method="POST")
    crowded.hubspot.faults.append(hanging)
    pipe = crowded.start("bash", "-c", "tap-archive --config tap.json | target-hubspot --config small.json")
    wait_for(lambda: bool(crowded.hubspot.state()["communications"]) or pipe.poll() is not None)
    assert pipe.poll() is None, crowded.output
    kill_group(pipe)
    assert deliver_until_done(crowded) == 0
    assert wrong(crowded) == NOTHING_WRONG
    assert crowded.parked() == []


def test_a_merge_that_hubspot_interrupts_ends_with_one_contact(crowded: Shop) -> None:
    shop = crowded
    shop.start_receiver()
    noor = shop.messenger.add_person("Noor", "Haddad")
    shop.messenger.text(noor, "It is me on Messenger")
    shop.flush()
    shop.read_in()
    assert deliver_until_done(shop) == 0
    assert shop.tally().persons == 6
    shop.stage.link(noor, "phone:+12025550130")
    shop.flush()
    shop.read_in()
    shop.hubspot.faults += [
        Fault("/associations", status=500, times=3, when="after", method="POST"),
        Fault("/objects/", status=502, times=4, method="POST"),
    ]
    deliver_until_done(shop, max_tries=2)
    assert wrong(shop) == NOTHING_WRONG
    assert shop.tally().persons == 5
    assert set(shop.contacts_with("It is me on Messenger")) == set(shop.contacts_with("Guest 0 asks"))
    assert shop.parked() == []


def test_a_pipe_that_is_torn_in_the_middle_loses_nothing(shop: Shop) -> None:
    asking = shop.whatsapp.add_customer("Jonas", "+12025550120", "US.jonas2weber")
    for number in range(20):
        shop.whatsapp.text(asking, f"Question {number:02d}")
    shop.flush()
    tap, mapper, target = "tap-whatsapp", "map-identity", "target-archive"
    for name in (tap, mapper, target):
        (shop.folder / f"{name}.json").write_text(json.dumps(shop.config_of(name)), encoding="utf-8")
    # `head` ends after half of the lines: the target gets a torn pipe, the tap a broken one.
    shop.shell(f"{tap} --config {tap}.json | {mapper} --config {mapper}.json | head -n 15"
               f" | {target} --config {target}.json")  # fmt: skip
    shop.read_in()
    archive = Archive(shop.stores)
    (person,) = archive.people()
    assert [one.text for one in archive.thread(person.person_id)] == [f"Question {number:02d}" for number in range(20)]
