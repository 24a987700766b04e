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
from mappings.ids import handle_key
from mappings.records import Consent, Contact, Handle
from sandbox.hubspot.objects import CONTACTS
from stores.graph import Graph
from stores.ledger import Ledger
from taps.hubspot import TapHubSpot
from targets.field_map import parse_field_map
from targets.hubspot import setup_hubspot
from targets.hubspot.fields import FACTS, PACKAGED
from tests.targets.hubspot_world import ACCOUNT, NOON, PORTAL, World, merge, message, person, phone, world

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


def consent(number: int, status: str, channel: str = "whatsapp", **values: Any) -> Consent:
    handle = phone(number)
    return Consent.model_validate(
        {
            "handle_key": handle_key(handle.kind, handle.scope, handle.value), "handle": handle, "channel": channel,
            "account": ACCOUNT, "purpose": "promotional", "status": status, "source": "keyword", "decided_at": NOON,
            "person_id": f"person-{number}", **values,
        }
    )  # fmt: skip


class TestWhatAnAdminFiltersOn:
    def test_the_preferred_channel_is_where_they_wrote_last(self, account: World) -> None:
        account.write(person(1, last_inbound_channel="telegram"))
        assert account.contact_of("person-1")["onethread_preferred_channel"] == "Telegram"
        account.write(person(1, last_inbound_channel="whatsapp"))
        assert account.contact_of("person-1")["onethread_preferred_channel"] == "WhatsApp"

    def test_a_consent_on_a_channel_of_your_own_is_one_on_another_channel(self, account: World) -> None:
        account.write(person(1), consent(1, "opted_in", "pigeon"), consent(1, "opted_in", "line"))
        assert account.contact_of("person-1")["onethread_opted_in"] == "line;other"
        account.write(consent(1, "opted_out", "forms"))
        contact = account.contact_of("person-1")
        assert (contact["onethread_opted_in"], contact["onethread_opted_out"]) == ("line", "other")
        assert account.parked() == []

    def test_consents_are_told_by_channel_and_a_no_outranks_every_yes(self, account: World) -> None:
        account.write(person(1), consent(1, "opted_in"), consent(1, "opted_in", "line"))
        assert account.contact_of("person-1")["onethread_opted_in"] == "line;whatsapp"
        account.write(consent(1, "opted_out", decided_at=NOON.replace(hour=13)))
        contact = account.contact_of("person-1")
        assert (contact["onethread_opted_in"], contact["onethread_opted_out"]) == ("line", "whatsapp")

    def test_no_no_is_lost_when_people_merge_two_contacts(self, account: World) -> None:
        account.write(person(1), message(1), consent(1, "opted_out"))
        account.write(person(2), message(2), consent(2, "opted_out", "line"))
        first, second = (account.contact_of(f"person-{number}")["id"] for number in (1, 2))
        account.app.merge_contacts_as_admin(second, first)
        account.write(message(3, of=1), message(4, of=2))  # finds the survivor
        account.write(merge(1, 2, 1))
        account.write(person(2, message_count=4))
        assert account.contact_of("person-2")["onethread_opted_out"] == "line;whatsapp"

    def test_a_consent_that_is_told_again_makes_no_request(self, account: World) -> None:
        account.write(person(1), consent(1, "opted_out"))
        account.calls()
        account.write(person(1), consent(1, "opted_out"))
        assert not account.calls()

    def test_a_consent_to_service_messages_is_not_one_to_advertising(self, account: World) -> None:
        account.write(person(1), consent(1, "opted_in", purpose="service"))
        assert "onethread_opted_in" not in account.contact_of("person-1")


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

    def test_the_no_of_one_person_stays_when_two_become_one(self, account: World) -> None:
        account.write(person(1), person(2), message(1), message(2), consent(2, "opted_out"))
        source = account.ledger.contact("person-2")
        assert source is not None
        account.target.contacts.carry_consents(source, "person-1")
        account.write(merge(1, 1, 2))
        account.write(person(1))
        assert account.contact_of("person-1")["onethread_opted_out"] == "whatsapp"


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
