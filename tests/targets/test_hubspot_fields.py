"""Which fact goes into which property of a contact, who owns it, and that two sides that both write come to rest."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from identity.resolver import Resolver
from identity.rules import load_rules
from mappings.errors import SettingsError
from mappings.records import Consent, Contact, Handle
from sandbox.hubspot.objects import CONTACTS
from stores.archive import Archive
from stores.graph import Graph
from stores.ledger import Ledger
from stores.parked import Parked
from taps.hubspot import TapHubSpot
from targets.field_map import parse_field_map
from targets.hubspot import setup_hubspot
from targets.hubspot.fields import FACTS, PACKAGED
from tests.targets.hubspot_world import ACCOUNT, NOON, PORTAL, World, merge, message, person, phone, split, world

PEOPLE = 12
ROUNDS = 3


@pytest.fixture
def account(state_url: str) -> Iterator[World]:
    """An account that is set up."""
    with world(state_url) as made:
        made.calls()
        yield made


@pytest.fixture
def fields_file(tmp_path: Path) -> Path:
    """The packaged map, to be changed."""
    path = tmp_path / "fields.yml"
    path.write_text(PACKAGED.read_text(encoding="utf-8"), encoding="utf-8")
    return path


def said_no(number: int) -> Consent:
    """A person's "no" to advertising by WhatsApp, as a tap tells it."""
    handle = phone(number)
    return Consent(
        handle_key=handle.key, handle=handle, channel="whatsapp", account=ACCOUNT, purpose="promotional",
        status="opted_out", source="keyword", decided_at=NOON, person_id=f"person-{number}",
    )  # fmt: skip


def wishes(account: World, number: int) -> tuple[Any, Any]:
    """What the contact of a person says: advertising on which channels, and on which not."""
    contact = account.contact_of(f"person-{number}")
    return contact.get("onethread_opted_in"), contact.get("onethread_opted_out")


class TestWhatAnAdminFiltersOn:
    def test_the_preferred_channel_is_where_they_wrote_last(self, account: World) -> None:
        account.write(person(1, last_inbound_channel="telegram"))
        assert account.contact_of("person-1")["onethread_preferred_channel"] == "Telegram"
        account.write(person(1, last_inbound_channel="whatsapp"))
        assert account.contact_of("person-1")["onethread_preferred_channel"] == "WhatsApp"

    def test_a_consent_on_a_channel_of_your_own_is_one_on_another_channel(self, account: World) -> None:
        account.write(person(1, opted_in=["line", "pigeon"], opted_out=[]))
        assert wishes(account, 1) == ("line;other", None)
        account.write(person(1, opted_in=["line", "pigeon"], opted_out=["forms"]))
        assert wishes(account, 1) == ("line", "other")
        assert account.parked() == []

    def test_consents_are_told_by_channel_and_taken_back(self, account: World) -> None:
        account.write(person(1, opted_in=["line", "whatsapp"], opted_out=[]))
        assert wishes(account, 1) == ("line;whatsapp", None)
        account.write(person(1, opted_in=["line"], opted_out=["whatsapp"]))
        assert wishes(account, 1) == ("line", "whatsapp")
        account.calls()
        account.write(person(1, opted_in=["line"], opted_out=["whatsapp"]))
        assert not account.calls()
        account.write(person(1, opted_in=[], opted_out=[]))
        assert wishes(account, 1) == (None, None)

    def test_who_says_nothing_of_consents_takes_none_back(self, account: World) -> None:
        """As a person does that was parked before persons told them."""
        account.write(person(1, opted_in=[], opted_out=["whatsapp"]))
        account.write(person(1, unanswered_since=NOON))
        assert wishes(account, 1) == (None, "whatsapp")

    def test_a_no_said_before_there_was_a_contact_is_on_the_contact(self, account: World) -> None:
        account.write(person(1, message_count=0, opted_in=[], opted_out=["whatsapp"]))
        assert account.contacts() == {}, "nobody who wrote"
        account.write(person(1, opted_in=[], opted_out=["whatsapp"]), message(1))
        assert wishes(account, 1) == (None, "whatsapp")

    def test_the_no_of_somebody_who_never_wrote_is_on_the_contact_that_people_made(self, account: World) -> None:
        contact_id = account.app.create_contact_as_person({"email": "known@shop.example"})
        known = Handle(kind="hubspot_contact", scope=PORTAL, value=contact_id)
        account.write(person(1, known, message_count=0))
        assert "onethread_person_id" not in account.contacts()[contact_id]
        account.write(person(1, known, message_count=0, opted_in=[], opted_out=["email"]))
        assert account.contacts()[contact_id]["onethread_opted_out"] == "email"

    def test_a_no_that_was_refused_is_parked_and_a_replay_tells_what_holds_by_then(self, account: World) -> None:
        archive = Archive(account.stores)
        account.write(person(1), message(1))
        account.fail("/crm/v3/objects/contacts/batch/update", 400, times=9)
        account.write(person(1, opted_in=["whatsapp"], opted_out=[]))
        account.app.faults.clear()
        (row,) = account.parked()
        archive.fold(messages=[message(1)], consents=[said_no(1)])
        Parked(account.stores).ask_replay([row.parked_id])
        account.write(person(2))
        assert wishes(account, 1) == (None, "whatsapp")
        assert account.parked() == []

    def test_a_pipe_without_an_archive_says_that_consents_are_not_shown(self, account: World) -> None:
        account.write(message(1), said_no(1), folded=False)
        assert account.target.counts["consents not shown for want of an archive"] == 1
        account.write(message(1), said_no(1))
        assert "consents not shown for want of an archive" not in account.target.counts

    def test_a_no_goes_along_when_persons_become_one_and_back_when_they_are_two_again(self, account: World) -> None:
        account.write(person(1, opted_in=["whatsapp"], opted_out=[]), message(1))
        account.write(person(2, opted_in=[], opted_out=["whatsapp"]), message(2))
        account.write(person(1, opted_in=[], opted_out=["whatsapp"], message_count=2), merge(1, 1, 2))
        assert wishes(account, 1) == (None, "whatsapp")
        account.write(
            person(1, opted_in=["whatsapp"], opted_out=[]), person(2, opted_in=[], opted_out=["whatsapp"]),
            split(2, 1, 2),
        )  # fmt: skip
        assert wishes(account, 1) == ("whatsapp", None)
        assert wishes(account, 2) == (None, "whatsapp")

    @pytest.mark.parametrize("survivor", [1, 2])
    @pytest.mark.parametrize("first", [1, 2])
    def test_a_no_survives_when_people_merge_two_contacts(self, account: World, survivor: int, first: int) -> None:
        """Identity may still keep the two persons apart: whoever writes next, each one's "no" is on the contact."""
        said: dict[int, dict[str, Any]] = {
            1: {"opted_in": ["telegram"], "opted_out": ["whatsapp"]},
            2: {"opted_in": ["whatsapp"], "opted_out": ["line"]},
        }
        for number in (1, 2):
            account.write(person(number, **said[number]), message(number))
        ids = {number: account.contact_of(f"person-{number}")["id"] for number in (1, 2)}
        account.app.merge_contacts_as_admin(ids[survivor], ids[3 - survivor])
        for number, who in enumerate((first, 3 - first, first), 3):
            account.write(person(who, message_count=number, last_inbound_at=NOON, **said[who]), message(number, of=who))
            (contact,) = account.contacts().values()
            told = (contact["onethread_opted_out"], contact["onethread_opted_in"])
            assert told == ("line;whatsapp", "telegram")
        assert account.parked() == []

    def test_a_no_of_two_persons_on_one_contact_is_there_until_both_take_it_back(self, account: World) -> None:
        yes: dict[str, Any] = {"opted_in": ["whatsapp"], "opted_out": []}
        no: dict[str, Any] = {"opted_in": [], "opted_out": ["whatsapp"]}
        account.write(person(1, **yes), message(1), person(2, **yes), message(2))
        first, second = (account.contact_of(f"person-{number}")["id"] for number in (1, 2))
        account.app.merge_contacts_as_admin(first, second)
        account.write(message(3, of=1), message(4, of=2))
        (contact_id,) = account.contacts()
        told = []
        for who, wish in ((1, no), (2, no), (1, yes), (2, yes), (2, no), (2, yes), (1, no)):
            account.write(person(who, **wish))
            told.append(account.contacts()[contact_id].get("onethread_opted_out"))
        assert told == ["whatsapp", "whatsapp", "whatsapp", None, "whatsapp", None, "whatsapp"]


class TestFieldMap:
    def test_facts_go_where_the_file_says(self, account: World, fields_file: Path) -> None:
        text = fields_file.read_text(encoding="utf-8")
        text = text.replace("channels: onethread_channels", "channels: jobtitle")
        fields_file.write_text(text.replace("phone: {field: phone,", "phone: {field: mobilephone,"), encoding="utf-8")
        account.write(person(1), message(1), fields_file=str(fields_file))
        contact = account.contact_of("person-1")
        assert (contact["jobtitle"], contact["mobilephone"]) == ("WhatsApp", phone(1).value)
        assert "phone" not in contact
        assert "onethread_channels" not in contact

    def test_a_fact_that_is_left_out_is_not_written(self, account: World, fields_file: Path) -> None:
        text = fields_file.read_text(encoding="utf-8").replace("last_name: {field: lastname, owner: people}", "")
        fields_file.write_text(text, encoding="utf-8")
        account.write(person(1), message(1), fields_file=str(fields_file))
        assert "lastname" not in account.contact_of("person-1")

    @pytest.mark.parametrize(
        ("fact", "wrong", "why"),
        [
            ("channels", "no_such_property", "does not exist"),
            ("last_message_in", "jobtitle", "takes no datetime"),
            ("channels", "hs_merged_object_ids", "may not be written"),
        ],
    )
    def test_a_map_that_does_not_fit_the_account_ends_the_run_before_the_first_write(
        self, account: World, fields_file: Path, fact: str, wrong: str, why: str
    ) -> None:
        rules = parse_field_map(PACKAGED.read_text(encoding="utf-8"), "packaged", FACTS, {}).rules["contact"]
        text = PACKAGED.read_text(encoding="utf-8").replace(f"{fact}: {rules[fact].field}", f"{fact}: {wrong}")
        fields_file.write_text(text, encoding="utf-8")
        with pytest.raises(SettingsError, match=f"{wrong} {why}.*onethread setup hubspot"):
            account.write(person(1), message(1), fields_file=str(fields_file))
        assert {call.split()[0] for call in account.calls()} == {"GET"}
        assert account.contacts() == {}

    @pytest.mark.parametrize("name", ["onethread_person_id", "onethread_reply_status"])
    def test_what_records_are_found_by_is_no_place_for_a_fact(
        self, account: World, fields_file: Path, name: str
    ) -> None:
        text = PACKAGED.read_text(encoding="utf-8").replace("channels: onethread_channels", f"channels: {name}")
        fields_file.write_text(text, encoding="utf-8")
        with pytest.raises(SettingsError, match=name):
            account.write(person(1), message(1), fields_file=str(fields_file))

    def test_a_property_that_goes_missing_is_noticed_by_set_up(self, account: World) -> None:
        account.app.crm.properties.remove(CONTACTS, "onethread_channels")
        setup_hubspot(account.settings, account.stores)
        account.write(person(1), message(1))
        assert account.contact_of("person-1")["onethread_channels"] == "WhatsApp"


class TestWhoOwnsAValue:
    def test_what_people_own_is_written_only_while_it_is_empty_or_ours(self, account: World, fields_file: Path) -> None:
        text = fields_file.read_text(encoding="utf-8")
        text = text.replace("channels: onethread_channels", "channels: {field: onethread_channels, owner: people}")
        fields_file.write_text(text, encoding="utf-8")
        account.write(person(1), message(1), fields_file=str(fields_file))
        contact_id = account.contact_of("person-1")["id"]
        account.write(person(1, channels=["email"]), fields_file=str(fields_file))
        assert account.contacts()[contact_id]["onethread_channels"] == "E-mail"
        account.app.edit_contact_as_agent(contact_id, {"onethread_channels": "ring her"})
        account.write(person(1, channels=["email", "line"]), fields_file=str(fields_file))
        assert account.contacts()[contact_id]["onethread_channels"] == "ring her"

    def test_a_value_that_people_cleared_or_changed_is_never_nulled(self, account: World) -> None:
        """A person's name is taken away from what we know; what an agent typed instead stays."""
        account.write(person(1), message(1))
        contact_id = account.contact_of("person-1")["id"]
        account.app.edit_contact_as_agent(contact_id, {"lastname": "Typed"})
        account.write(person(1, name=None))
        assert account.contacts()[contact_id]["lastname"] == "Typed"


def read_contacts(account: World, state: dict[str, Any]) -> tuple[list[Contact], dict[str, Any]]:
    """What tap-hubspot reads from this bookmark on, and the next bookmark."""
    config = {key: account.config[key] for key in ("access_token", "portal_id", "api_url", "state_url")}
    tap = TapHubSpot(config={**config, "search_interval_seconds": 0}, state=state)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        tap.sync_all()
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    rows = [one["record"] for one in lines if one.get("stream") == "contacts" and "record" in one]
    state = next((one["value"] for one in reversed(lines) if one["type"] == "STATE"), state)
    return [Contact.model_validate(one) for one in rows], state


def storm(account: World, *, ledger: bool) -> list[int]:
    """Agents and our side edit every contact for two rounds; how many writes each round took after that.

    A round: tap-hubspot reads what changed, identity takes it in, target-hubspot writes what that makes of the persons.
    Without the ledger nothing is known of what was written before.
    """
    graph = Graph(account.stores)
    resolver = Resolver(graph, load_rules())
    for number in range(3):
        account.app.create_contact_as_person({"email": f"a{number}@shop.example", "phone": phone(number).value})
    stored = Ledger(account.stores, "hubspot", PORTAL)
    known = set(filter(None, resolver.resolve([message(number, person_id=None) for number in range(PEOPLE)])))
    state: dict[str, Any] = {}
    writes = []
    for number in range(2 + ROUNDS):
        for contact_id in account.contacts() if number < 2 else ():
            account.app.clock.advance(1)
            change = {"firstname": f"Edited{number}", "onethread_channels": f"by hand {number}"}
            account.app.edit_contact_as_agent(contact_id, change)
        rows, state = read_contacts(account, state)
        known |= set(filter(None, resolver.resolve(rows)))
        told = {graph.current(one) for one in known}
        persons = [
            person(
                0, *graph.handles_of(one), person_id=one, name=graph.best_name(one) or "Ana",
                channels=["line", f"c{min(number, 1)}"],
            )
            for one in sorted(told)
        ]  # fmt: skip
        for one in persons if not ledger else ():
            stored.forget_contact(one.person_id)
        account.calls()
        account.write(*persons)
        calls = account.calls()
        writes.append(sum(n for path, n in calls.items() if path.endswith(("update", "upsert", "create", "archive"))))
        account.app.clock.advance(5)
    assert len(account.contacts()) == PEOPLE
    return writes[2:]


class TestLoops:
    """Two systems that answer each other's edits for ever: the fear of everybody who syncs both ways."""

    def test_an_edit_storm_of_both_sides_comes_to_rest(self, account: World) -> None:
        assert storm(account, ledger=True)[-1] == 0

    def test_the_same_storm_never_rests_without_the_ledger(self, account: World) -> None:
        assert all(storm(account, ledger=False))

    def test_the_echo_of_our_own_write_is_read_once(self, account: World) -> None:
        """Our write changes the contact's date of modification; it is read once, and then no more."""
        account.write(person(1), message(1))
        state: dict[str, Any] = {}
        seen = []
        for _ in range(3):
            rows, state = read_contacts(account, state)
            seen.append(len(rows))
        assert seen == [1, 0, 0]


class TestBudget:
    """The commonest complaint about CRM connectors: a call for each record, and the day's calls are gone by noon."""

    def test_a_thousand_messages_of_a_hundred_people_cost_twelve_calls_and_none_the_second_time(
        self, account: World
    ) -> None:
        records = [*(person(n) for n in range(100)), *(message(n, of=n % 100) for n in range(1000))]
        account.write(*records)
        assert account.calls() == {
            "POST /crm/v3/objects/contacts/batch/upsert": 1,
            "POST /crm/v3/objects/communications/batch/upsert": 10,
            "POST /crm/v4/associations/communications/contacts/batch/create": 1,
        }
        account.write(*records)
        assert not account.calls()

    def test_rolled_up_they_cost_three(self, account: World) -> None:
        messages = [message(n, of=n % 100, sent_at=NOON) for n in range(1000)]
        account.write(*(person(n) for n in range(100)), *messages, roll_up=True)
        assert account.calls().total() == 3
        assert len(account.bodies()) == 100

    def test_a_run_that_died_while_creating_looks_before_it_creates_again(self, account: World) -> None:
        """Otherwise values that people typed meanwhile would be overwritten."""
        account.fail("contacts/batch/upsert", 503, when="after", times=9)
        with pytest.raises(Exception, match="503"):
            account.write(person(1), message(1), max_tries=2)
        account.app.faults.clear()
        contact_id = account.contact_of("person-1")["id"]
        account.app.edit_contact_as_agent(contact_id, {"firstname": "Typed"})
        account.write(person(1), message(1))
        assert account.contacts()[contact_id]["firstname"] == "Typed"


def test_a_handle_of_a_contact_is_no_address(account: World) -> None:
    account.write(person(1, Handle(kind="login", scope="shop", value="ana")), message(1))
    assert "email" not in account.contact_of("person-1")
