"""The jobs as an operator runs them: under Meltano, from an empty project to an answered customer, and once more."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mappings.to_hubspot import REPLY_DETAIL, REPLY_STATUS
from sandbox.cast import LOGIN_SECRET
from stores.archive import Archive
from stores.items import Items
from tests.end_to_end.shop import Shop, files_with, kill_group, open_shop, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ANSWER = "It leaves today, says the canary."
QUESTIONS = ("Where is my order, canary one?", "Me again on Messenger, canary two")
PHONE = "+12025550101"
EMAIL = "mia.canary@mail.example"


@dataclass
class Story:
    """Mia asked on two channels, an agent answered on WhatsApp, every job ran a second time.

    Attributes:
        held, writes, sent: what HubSpot and WhatsApp held before the second time.
    """

    shop: Shop
    mia: str
    codes: list[int]
    held: dict[str, Any]
    writes: dict[str, int]
    sent: list[dict[str, Any]]
    codes_of_repeats: list[int]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Everything once, then everything again."""
    with open_shop(tmp_path_factory.mktemp("meltano") / "shop") as shop:
        shop.write_project()
        shop.start_receiver()
        contact = {"firstname": "Mia", "lastname": "Rossi", "phone": "+1 202 555 0101", "email": EMAIL}
        mia = shop.hubspot.create_contact_as_person(contact)
        on_whatsapp = shop.whatsapp.add_customer("Mia", PHONE, "US.mia1rossi")
        on_messenger = shop.messenger.add_person("Mia", "Rossi")
        shop.whatsapp.text(on_whatsapp, QUESTIONS[0])
        shop.messenger.text(on_messenger, QUESTIONS[1])
        shop.stage.link(on_messenger, f"phone:{PHONE}")
        shop.flush()
        codes = [shop.meltano("run", job) for job in ("contacts", "inbound", "deliver")]
        answer = {
            "onethread_reply_text": ANSWER, "onethread_reply_channel": "whatsapp", "onethread_reply_status": "QUEUED",
        }  # fmt: skip
        shop.hubspot.edit_contact_as_agent(mia, answer)
        shop.hubspot.clock.advance(5)  # search has caught up
        codes.append(shop.onethread("run", "replies"))
        shop.flush()  # the statuses of the answer
        codes.append(shop.onethread("run", "inbound", "replies"))
        held, writes, sent = shop.hubspot_holds(), shop.hubspot_writes(), shop.whatsapp.state()["sent"]
        repeats = [shop.meltano("run", "contacts", "inbound", "deliver"), shop.onethread("run", "replies")]
        yield Story(shop, mia, codes, held, writes, sent, repeats)


def test_every_job_ends_well(story: Story) -> None:
    assert story.codes == [0] * 5, story.shop.output
    assert story.codes_of_repeats == [0, 0], story.shop.output
    assert story.shop.parked() == []


def test_a_customer_on_two_channels_is_one_contact_with_one_thread(story: Story) -> None:
    for words in QUESTIONS:
        assert story.shop.contacts_with(words) == [story.mia]
    counted = story.shop.tally()
    assert (counted.received, counted.lost, counted.doubled, counted.persons) == (2, 0, 0, 1)


def test_the_reply_reaches_the_customer_once(story: Story) -> None:
    (sent,) = story.shop.whatsapp.state()["sent"]
    assert (sent["text"], sent["times_seen"], sent["status"]) == (ANSWER, 1, "delivered")


def test_the_reply_and_its_fate_are_on_the_contact(story: Story) -> None:
    assert story.shop.contact(story.mia)[REPLY_STATUS] == "DELIVERED"
    assert "elivered" in story.shop.contact(story.mia)[REPLY_DETAIL]
    assert story.shop.contacts_with(ANSWER) == [story.mia]


def test_the_second_time_writes_nothing(story: Story) -> None:
    assert story.shop.hubspot_writes() == story.writes
    assert story.shop.hubspot_holds() == story.held
    assert story.shop.whatsapp.state()["sent"] == story.sent


def test_meltano_keeps_a_state_for_each_pipe(story: Story) -> None:
    done = story.shop.shell("meltano --log-level=error state list")
    assert set(done.stdout.split()) == {
        "dev:tap-hubspot-contacts-to-target-archive",
        "dev:tap-channels-to-target-archive",
        "dev:tap-archive-to-target-hubspot",
        "dev:tap-hubspot-replies-to-target-outbox",
    }, done.stderr
    kept = story.shop.shell("meltano --log-level=error state get dev:tap-channels-to-target-archive")
    assert '"delivery_id"' in kept.stdout


def test_no_secret_text_or_address_is_in_a_log_or_in_any_file_after_the_runs(story: Story) -> None:
    shop = story.shop
    canaries = [
        *QUESTIONS, ANSWER, PHONE, PHONE[1:], EMAIL, "US.mia1rossi", "Rossi", LOGIN_SECRET,
        *(
            shop.environment[f"ONETHREAD_{name}"]
            for name in (
                "HUBSPOT_ACCESS_TOKEN", "WHATSAPP_ACCESS_TOKEN", "WHATSAPP_APP_SECRET", "WHATSAPP_VERIFY_TOKEN",
                "MESSENGER_ACCESS_TOKEN", "MESSENGER_APP_SECRET", "MESSENGER_VERIFY_TOKEN",
            )
        ),
    ]  # fmt: skip
    assert "tap-channels" in shop.output
    assert (shop.folder / "receiver.log").stat().st_size > 0
    assert (shop.folder / "state" / "archive.db").stat().st_size > 0
    assert files_with(shop.folder, canaries) == {}
    assert list((shop.folder / ".meltano").rglob("*.config.json")) == []


def test_after_a_job_was_killed_the_next_run_goes_on_at_once(tmp_path: Path) -> None:
    with open_shop(tmp_path / "shop") as shop:
        shop.write_project()
        shop.start_receiver()
        asking = shop.whatsapp.add_customer("Jonas", "+12025550120", "US.jonas2weber")
        words = [f"Question {number:02d}" for number in range(30)]
        for one in words:
            shop.whatsapp.text(asking, one)
        shop.flush()

        job = shop.start("onethread", "run", "inbound")
        wait_for(lambda: bool(Items(shop.stores).counts("whatsapp")) or job.poll() is not None)
        assert job.poll() is None, shop.output
        left_behind = [one.stat().st_mode for one in (shop.folder / ".meltano" / "run").rglob("*.config.json")]
        kill_group(job)

        assert shop.onethread("run", "inbound") == 0, shop.output
        archive = Archive(shop.stores)
        (person,) = archive.people()
        assert sorted(str(one.text) for one in archive.thread(person.person_id)) == words
        # What Meltano wrote for its plugins holds their secrets: it must not be for others to read.
        assert left_behind
        assert all(not mode & (stat.S_IRWXG | stat.S_IRWXO) for mode in left_behind)
