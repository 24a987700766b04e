"""The demo with each CRM: what its people do there, what it then holds, and the whole story with Salesforce."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

import console.generate
from console.demo import all_went_well, play, write_environment
from console.demo_crms import CRMS, open_crm
from console.tally import Heard, tally
from sandbox.hubspot import HubSpotApp
from sandbox.salesforce import SalesforceApp
from sandbox.salesforce.app import INTEGRATION
from sandbox.salesforce_shop import SalesforceShop
from targets.salesforce.metadata import lacking, package_files, package_zip

NINE = "2026-11-02T09:00:00.000Z"
NINE_SECONDS = 1_793_610_000.0
ADDRESS = {"firstname": "Mia", "lastname": "Rossi", "email": "mia.rossi@mail.example", "phone": "+1 202 555 0101"}


class Org:
    """An org that is set up, with Mia's contact and her thread on WhatsApp."""

    def __init__(self) -> None:
        self.app = SalesforceApp()
        none = dict.fromkeys(("Contact", "Conversation__c", "Message__c", "Task"))
        package = package_files(lacking(none, permission_sets=False, tasks=False), "67.0")
        self.app.install_package_as_admin(package_zip(package).getvalue())
        self.shop = SalesforceShop(self.app, "http://127.0.0.1:1")
        self.mia = self.shop.create_contact_as_person(ADDRESS)
        self.thread = self.write("Conversation__c", External_Id__c="t1", Channel__c="WhatsApp", Contact__c=self.mia)

    def write(self, kind: str, **values: Any) -> str:
        """A record that onethread writes; its id."""
        return self.app.create_as_person(kind, values, username=INTEGRATION)

    def message(self, words: str, **values: Any) -> str:
        """What Mia wrote at nine, as onethread writes it; its id."""
        made = {
            "External_Id__c": f"m{len(self.app.state()['messages'])}", "Channel__c": "WhatsApp", "Body__c": words,
            "Direction__c": "Inbound", "Author__c": "Mia", "Sent_At__c": NINE, "Contact__c": self.mia, **values,
        }  # fmt: skip
        return self.write("Message__c", **{name: value for name, value in made.items() if value is not None})

    def answer(self, words: str, channel: str) -> dict[str, Any]:
        """An agent answers Mia; the record."""
        values = {"onethread_reply_text": words, "onethread_reply_channel": channel, "onethread_reply_status": "QUEUED"}
        self.shop.edit_contact_as_agent(self.mia, values)
        (found,) = [one for one in self.app.state()["messages"].values() if one["Body__c"] == words]
        return dict(found)

    def counted(self, *heard: Heard) -> tuple[int, int, int]:
        """(on records, lost, doubled)."""
        told = tally(heard, list(self.shop.state()["communications"].values()))
        return told.on_records, told.lost, told.doubled

    def properties(self) -> dict[str, str]:
        """Of Mia's contact, as the demo reads them."""
        found: dict[str, str] = self.shop.state()["contacts"][self.mia]["properties"]
        return found


@pytest.fixture
def org() -> Org:
    """An org of this test's own."""
    return Org()


def test_every_crm_that_has_jobs_can_be_played() -> None:
    assert set(CRMS) == set(console.generate.CRMS)


def test_hubspot_is_its_stand_in_itself_and_needs_nothing_more(tmp_path: Path) -> None:
    hubspot = HubSpotApp()
    with ExitStack() as stack:
        crm = open_crm("hubspot", stack, tmp_path, hubspot)
    assert crm.app is hubspot
    assert (crm.environment, crm.guide, crm.counted) == ({}, (), None)


def test_salesforce_is_a_new_org_that_the_environment_leads_to(tmp_path: Path) -> None:
    with ExitStack() as stack:
        crm = open_crm("salesforce", stack, tmp_path, HubSpotApp())
        names = {name.removeprefix("ONETHREAD_SALESFORCE_") for name in crm.environment}
        assert names == {"ORG_ID", "DOMAIN", "API_URL", "CONSUMER_KEY", "CONSUMER_SECRET"}
        assert any(f"{crm.environment['ONETHREAD_SALESFORCE_API_URL']}/_sandbox/state" in line for line in crm.guide)
        assert crm.app.state()["contacts"] == {}


def test_a_message_on_its_contact_is_found_with_its_words_and_its_time(org: Org) -> None:
    org.message("5 < 6 & 7, <b>Mia</b>")
    assert org.counted(Heard("whatsapp", "5 < 6 & 7, <b>Mia</b>", NINE_SECONDS)) == (1, 0, 0)
    assert org.counted(Heard("messenger", "5 < 6 & 7, <b>Mia</b>", NINE_SECONDS)) == (0, 1, 0)
    assert org.counted(Heard("whatsapp", "5 < 6 & 7, <b>Mia</b>", NINE_SECONDS + 60)) == (0, 1, 0)


def test_a_message_on_no_contact_is_lost_and_one_that_stands_twice_is_doubled(org: Org) -> None:
    asked = Heard("whatsapp", "Where is it?", NINE_SECONDS)
    org.message("Where is it?", Contact__c=None)
    assert org.counted(asked) == (0, 1, 0)
    org.message("Where is it?")
    assert org.counted(asked) == (1, 0, 0)
    org.message("Where is it?")
    assert org.counted(asked) == (1, 0, 1)


def test_an_answer_of_ours_does_not_stand_for_a_message_of_a_customer(org: Org) -> None:
    org.message("Where is it?", Direction__c="Outbound")
    assert org.counted(Heard("whatsapp", "Where is it?", NINE_SECONDS)) == (0, 1, 0)


def test_an_answer_is_written_on_the_thread_of_its_channel(org: Org) -> None:
    told = org.answer("It leaves today", "whatsapp")
    assert (told["Conversation__c"], told["Direction__c"], told["Status__c"]) == (org.thread, "Outbound", "Queued")


@pytest.mark.parametrize(("channel", "name"), [("auto", None), ("email", "E-mail")])
def test_an_answer_where_there_is_no_thread_names_the_contact(org: Org, channel: str, name: str | None) -> None:
    told = org.answer("It leaves today", channel)
    assert told.get("Conversation__c") is None
    assert (told["Contact__c"], told.get("Channel__c"), told["Status__c"]) == (org.mia, name, "Queued")


def test_the_fate_of_the_last_answer_is_told_with_the_contact(org: Org) -> None:
    org.answer("The first", "auto")
    last = org.answer("The second", "auto")
    assert org.properties()["onethread_reply_status"] == "Queued"
    org.app.edit_as_person(last["Id"], {"Status__c": "Refused", "Error__c": "Too late"}, username=INTEGRATION)
    properties = org.properties()
    assert (properties["onethread_reply_status"], properties["onethread_reply_detail"]) == ("Refused", "Too late")


def test_an_answer_on_a_thread_counts_for_the_contact_and_the_channel_of_the_thread(org: Org) -> None:
    answer = org.answer("It leaves today", "whatsapp")
    assert org.properties()["onethread_reply_status"] == "Queued"
    sent = {"Status__c": "Sent", "Sent_At__c": NINE, "Contact__c": org.mia}
    org.app.edit_as_person(answer["Id"], sent, username=INTEGRATION)
    (shown,) = org.shop.state()["communications"].values()
    assert shown["contacts"] == [org.mia]
    assert shown["properties"]["hs_communication_body"].startswith("<p>WhatsApp · us")


def test_an_answer_that_waits_or_was_refused_is_no_message_yet(org: Org) -> None:
    org.answer("It leaves today", "auto")
    assert org.shop.state()["communications"] == {}


def test_contacts_are_told_apart_by_who_made_them_and_whether_they_live(org: Org) -> None:
    ours = org.write("Contact", LastName="Weber", Thread_Made_By_onethread__c=True)
    contacts = org.shop.state()["contacts"]
    assert {key: one["properties"]["onethread_projection"] for key, one in contacts.items()} == {
        org.mia: "false", ours: "true",
    }  # fmt: skip
    org.app.delete_as_admin(ours)
    assert (set(org.shop.state()["contacts"]), org.shop.state()["archived_contacts"]) == ({org.mia}, [ours])


def test_a_change_of_any_record_shows_and_what_people_do_costs_no_call(org: Org) -> None:
    before = org.shop.records()
    assert org.shop.records() == before
    org.app.edit_as_person(org.thread, {"Subject__c": "4711"})
    after = org.shop.records()
    assert [key for key in after if after[key] != before.get(key)] == [org.thread]
    assert org.shop.api_calls() == 0


@pytest.mark.parametrize("wrong", ["lost", "doubled", "changed_by_a_repeat"])
def test_the_demo_fails_when_something_went_wrong(wrong: str) -> None:
    numbers = {"lost": 0, "doubled": 0, "parked": 0}  # a CRM that does not count its calls has no repeat
    assert all_went_well(numbers)
    assert not all_went_well(numbers | {wrong: 1})


def test_whoever_goes_on_playing_finds_our_variables_and_no_others(tmp_path: Path) -> None:
    ours = {"ONETHREAD_CUSTOM_SECRETS": '{"site": "it\'s $ecret"}', "ONETHREAD_PRIVATE_KEY": "-----BEGIN\nx\n-----END"}
    write_environment(tmp_path / ".env", {"HOME": "/nowhere", **ours})
    assert dotenv_values(tmp_path / ".env") == ours
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0


@dataclass(frozen=True, slots=True)
class Performance:
    """What one performance came to: exit code, report, and all that it printed."""

    code: int
    numbers: dict[str, Any]
    told: str

    def contacts(self, name: str) -> list[str]:
        """What the epilogue says of the contacts of this name: who made each, and what is on it."""
        return re.findall(rf"^  {name} \(contact \w+, (.*)$", self.told, re.MULTILINE)


@pytest.fixture(scope="module")
def with_salesforce(tmp_path_factory: pytest.TempPathFactory) -> Performance:
    """The whole story with Salesforce as the CRM."""
    folder, told = tmp_path_factory.mktemp("demo"), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(told):
        patch.chdir(folder)
        try:
            code = play(keep=False, report=folder / "report.json", crm="salesforce")
        finally:
            signal.signal(signal.SIGTERM, handler)
    report = folder / "report.json"
    return Performance(code, json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}, told.getvalue())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_with_salesforce_nothing_is_lost_doubled_or_parked(with_salesforce: Performance) -> None:
    numbers = with_salesforce.numbers
    assert with_salesforce.code == 0, with_salesforce.told
    assert numbers["messages_received"] == numbers["messages_on_contact_records"] > 70
    assert (numbers["lost"], numbers["doubled"], numbers["parked"]) == (0, 0, 0)
    assert numbers["replies_delivered"] == numbers["replies_sent"] > 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_with_salesforce_a_repeat_changes_no_record_and_the_calls_are_counted(with_salesforce: Performance) -> None:
    numbers = with_salesforce.numbers
    assert numbers["changed_by_a_repeat"] == 0
    assert 0 < numbers["api_calls_of_a_repeat"] < numbers["api_calls"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_with_salesforce_a_merge_and_a_split_show_on_the_contacts(with_salesforce: Performance) -> None:
    (jonas,) = with_salesforce.contacts("Jonas Weber")
    assert jonas.endswith("messages on Messenger, WhatsApp")
    assert "1 contact(s) that turned out to be somebody else's second self" in with_salesforce.told
    found = {one.partition("): ")[0]: one.rpartition(" on ")[2] for one in with_salesforce.contacts("Mia Rossi")}
    assert found.keys() == {"was there before", "made by us"}
    assert "Messenger" not in found["was there before"]
    assert found["made by us"] == "Messenger"
