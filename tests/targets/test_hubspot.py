"""target-hubspot against the stand-in account: contacts, timelines, failures, and what people do in the CRM."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from identity.resolver import Resolver
from identity.rules import load_rules
from mappings.errors import RateLimitedError, SettingsError, UnavailableError
from mappings.records import ArchivedMessage, Contact, Handle, MessageChange, Record
from sandbox.base import json_response
from sandbox.hubspot.objects import COMMUNICATIONS, CONTACTS
from stores.graph import Graph
from stores.parked import Parked
from targets.crm_people import CrmPeople
from targets.hubspot import TargetHubSpot
from tests.contract.target import TargetContract
from tests.targets.hubspot_world import (
    NOON,
    PORTAL,
    World,
    erasure,
    merge,
    message,
    person,
    phone,
    split,
    world,
)

Make = Callable[..., World]


@pytest.fixture
def make(state_url: str) -> Iterator[Make]:
    """Makes a world; stopped at the end."""
    made: list[World] = []

    def build(**options: Any) -> World:
        made.append(World(state_url, **options))
        return made[-1]

    yield build
    for one in made:
        one.stop()


@pytest.fixture
def account(make: Make) -> World:
    """An account that takes a unique property on communications."""
    return make()


@pytest.fixture(params=[True, False], ids=["property", "readback"])
def either(request: pytest.FixtureRequest, make: Make) -> World:
    """An account of either kind; search shows nothing for an hour."""
    return make(unique=request.param, search_lag_seconds=3600)


def _creating(account: World) -> str:
    unique = account.app.state()["properties"]["communications"]
    return "communications/batch/upsert" if unique else "communications/batch/create"


class TestWriting:
    def test_each_person_gets_a_contact_and_each_message_an_activity_on_it(self, either: World) -> None:
        either.write(person(1), person(2), message(1), message(2), message(3, of=1))
        assert len(either.contacts()) == 2
        ana = either.contact_of("person-1")
        assert ana["firstname"] == "Ana"
        assert ana["lastname"] == "Example1"
        assert ana["phone"] == phone(1).value
        assert ana["onethread_projection"] == "true"
        assert [body.count("words of message") for body in either.bodies_on(ana["id"])] == [1, 1]
        assert "words of message 3." in either.bodies_on(ana["id"])[1]

    def test_the_same_again_makes_no_request(self, either: World) -> None:
        records = (person(1), person(2), message(1), message(2), message(3, of=1))
        either.write(*records)
        either.calls()
        assert either.write(*records)[-1] == {"bookmarks": {"cursor": {"done": True}}}
        assert not either.calls()

    def test_a_thousand_messages_of_a_hundred_people_cost_fourteen_calls_at_most(self, either: World) -> None:
        people = [person(number) for number in range(100)]
        messages = [message(number, of=number % 100) for number in range(1000)]
        either.calls()
        either.write(*people, *messages)
        assert len(either.bodies()) == 1000
        assert either.calls().total() <= 14

    def test_results_in_another_order_are_matched(self, make: Make) -> None:
        account = make(batch_results_reversed=True)
        account.write(person(1), person(2), *(message(number, of=1 + number % 2) for number in range(10)))
        for number in (1, 2):
            bodies = account.bodies_on(account.contact_of(f"person-{number}")["id"])
            assert len(bodies) == 5
            assert all(f"words of message {2 * index + number - 1}." in body for index, body in enumerate(bodies))

    def test_a_message_that_changed_is_changed_in_place(self, either: World) -> None:
        either.write(person(1), message(1, direction="outbound", author_kind="agent", status="sent"))
        either.write(
            person(1), message(1, direction="outbound", author_kind="agent", status="delivered", status_at=NOON)
        )
        (body,) = either.bodies()
        assert "Delivered, 2026-11-02 12:00 UTC" in body

    def test_a_person_without_messages_is_not_made_a_contact(self, account: World) -> None:
        account.write(person(1, message_count=0))
        assert account.contacts() == {}

    def test_the_contact_of_somebody_who_never_wrote_is_not_touched(self, account: World) -> None:
        contact_id = account.app.create_contact_as_person({"email": "ana@shop.example"})
        record = Handle(kind="hubspot_contact", scope=PORTAL, value=contact_id)
        account.calls()
        account.write(person(1, record, message_count=0))
        assert not account.calls()

    def test_a_person_who_changed_is_updated_in_one_call(self, account: World) -> None:
        account.write(person(1), message(1))
        account.calls()
        account.write(person(1, channels=["email", "whatsapp"], last_inbound_at=NOON))
        assert account.calls() == {"POST /crm/v3/objects/contacts/batch/update": 1}
        contact = account.contact_of("person-1")
        assert contact["onethread_channels"] == "E-mail, WhatsApp"
        assert contact["onethread_last_message_in"] == "2026-11-02T12:00:00.000Z"

    def test_an_answered_person_is_no_longer_unanswered(self, account: World) -> None:
        account.write(person(1, unanswered_since=NOON), message(1))
        assert "onethread_unanswered_since" in account.contact_of("person-1")
        account.write(person(1))
        assert "onethread_unanswered_since" not in account.contact_of("person-1")

    def test_a_message_without_a_customer_is_counted_and_left(self, account: World) -> None:
        account.write(message(1, handles=[], person_id=None, flags=["bounce"]))
        assert account.bodies() == []
        assert account.parked() == []
        assert account.target.counts == {"messages without a customer": 1}

    def test_a_message_that_has_a_customer_but_no_person_is_parked(self, account: World) -> None:
        account.write(message(1, person_id=None))
        assert account.bodies() == []
        assert [item.error for item in account.parked()] == ["RejectedError"]

    def test_a_bare_pipe_makes_contacts_from_messages_alone(self, account: World) -> None:
        account.write(message(1), message(2, of=1), folded=False)
        contact = account.contact_of("person-1")
        assert contact["phone"] == phone(1).value
        assert len(account.bodies_on(contact["id"])) == 2

    def test_nothing_is_asked_of_an_account_that_is_not_set_up(self, make: Make) -> None:
        account = make(setup=False)
        with pytest.raises(SettingsError, match="onethread setup"):
            account.write(person(1), message(1))
        assert account.app.journal == []


class TestFindingContacts:
    def test_a_contact_that_people_made_keeps_their_values(self, account: World) -> None:
        contact_id = account.app.create_contact_as_person({"firstname": "Anita", "phone": "020"})
        account.write(person(1, phone(1), Handle(kind="hubspot_contact", scope=PORTAL, value=contact_id)), message(1))
        assert list(account.contacts()) == [contact_id]
        contact = account.contacts()[contact_id]
        assert (contact["firstname"], contact["phone"]) == ("Anita", "020")
        assert contact["onethread_person_id"] == "person-1"
        assert contact["onethread_projection"] == "false"

    def test_a_contact_of_another_account_is_not_taken_for_ours(self, account: World) -> None:
        other = Handle(kind="hubspot_contact", scope="999", value="1001")
        account.write(person(1, phone(1), other), message(1))
        assert account.contact_of("person-1")["onethread_projection"] == "true"

    @pytest.mark.parametrize(
        "values",
        [{"email": "ana@shop.example"}, {"email": "a@shop.example", "hs_additional_emails": "ana@shop.example"}],
        ids=["first", "additional"],
    )
    def test_a_contact_with_one_of_the_addresses_is_adopted(self, account: World, values: dict[str, str]) -> None:
        contact_id = account.app.create_contact_as_person(values)
        account.write(person(1, phone(1), Handle(kind="email", value="ana@shop.example")), message(1))
        assert list(account.contacts()) == [contact_id]
        assert len(account.bodies_on(contact_id)) == 1

    def test_two_contacts_with_the_addresses_are_left_to_people(self, account: World) -> None:
        account.app.create_contact_as_person({"email": "ana@shop.example"})
        account.app.create_contact_as_person({"email": "ana@home.example"})
        emails = [Handle(kind="email", value=f"ana@{place}.example") for place in ("shop", "home")]
        account.write(person(1, *emails), message(1, handles=emails))
        assert len(account.contacts()) == 2
        assert account.bodies() == []
        assert {(item.stream, item.error) for item in account.parked()} == {
            ("persons", "IdentityConflictError"),
            ("messages", "IdentityConflictError"),
        }

    def test_two_persons_do_not_share_the_contact_that_has_both_addresses(self, account: World) -> None:
        account.app.create_contact_as_person({"email": "a@shop.example", "hs_additional_emails": "b@shop.example"})
        people = [person(one, Handle(kind="email", value=f"{name}@shop.example")) for one, name in ((1, "a"), (2, "b"))]
        account.write(*people, message(1), message(2))
        assert account.contact_of("person-1")["id"] != account.contact_of("person-2")["id"]
        assert account.contact_of("person-2")["onethread_projection"] == "true"

    def test_a_contact_that_appeared_between_look_up_and_creation_is_adopted(self, account: World) -> None:
        contact_id = account.app.create_contact_as_person({"email": "ana@shop.example"})
        account.fail("contacts/batch/read", 200, times=2, body={"results": []})
        account.write(person(1, Handle(kind="email", value="ana@shop.example")), message(1))
        assert list(account.contacts()) == [contact_id]
        assert account.contacts()[contact_id]["onethread_person_id"] == "person-1"
        assert len(account.bodies_on(contact_id)) == 1

    def test_an_address_that_hubspot_refuses_keeps_no_conversation_out(self, account: World) -> None:
        account.app.crm.blocked_emails.add("ana@shop.example")
        account.write(person(1, Handle(kind="email", value="ana@shop.example")), message(1))
        contact = account.contact_of("person-1")
        assert "email" not in contact
        assert len(account.bodies_on(contact["id"])) == 1

    def test_contacts_are_found_again_when_the_ledger_is_lost(self, make: Make, state_url: str) -> None:
        account = make()
        records = (person(1), person(2), message(1), message(2))
        account.write(*records)
        account.stores.close()
        account.target.stores.close()
        for path in Path(state_url.removeprefix("sqlite:///")).glob("ledger.db*"):
            path.unlink()
        account.write(*records)
        assert len(account.contacts()) == 2
        assert len(account.bodies()) == 2

    def test_a_name_that_an_agent_corrected_stays(self, account: World) -> None:
        account.write(person(1), message(1))
        contact_id = account.contact_of("person-1")["id"]
        account.app.edit_contact_as_agent(contact_id, {"firstname": "Anita"})
        account.write(person(1, name="Anna Other"))
        contact = account.contacts()[contact_id]
        assert contact["firstname"] == "Anita"
        assert contact["lastname"] == "Other"

    def test_one_refused_update_does_not_hold_up_the_others(self, account: World) -> None:
        account.app.create_contact_as_person({"email": "taken@shop.example"})
        account.write(*(person(number) for number in range(5)), *(message(number) for number in range(5)))
        taken = Handle(kind="email", value="taken@shop.example")
        people = [person(number, phone(number), name=f"Eva Example{number}") for number in range(5)]
        people[3] = person(3, phone(3), taken, name="Eva Example3", last_inbound_at=NOON)
        account.write(*people)
        assert [account.contact_of(f"person-{one}")["firstname"] for one in (0, 1, 2, 4)] == ["Eva"] * 4
        assert account.contact_of("person-3")["onethread_last_message_in"] == "2026-11-02T12:00:00.000Z"
        assert "email" not in account.contact_of("person-3")

    def test_a_contact_that_the_graph_learns_of_later_takes_over(self, either: World) -> None:
        either.write(person(1), message(1), message(2, of=1))
        old_id = either.contact_of("person-1")["id"]
        contact_id = either.app.create_contact_as_person({"email": "ana@shop.example"})
        either.write(person(1, phone(1), Handle(kind="hubspot_contact", scope=PORTAL, value=contact_id)))
        assert list(either.contacts()) == [contact_id]
        assert len(either.bodies_on(contact_id)) == 2
        assert either.contacts()[contact_id]["onethread_person_id"] == "person-1"
        assert either.app.state()["archived_contacts"] == [old_id]


class TestFailures:
    def test_one_refused_message_is_parked_and_the_others_are_written(self, either: World) -> None:
        agent: dict[str, Any] = {"direction": "outbound", "author_kind": "agent"}
        messages = [message(number, of=1, **agent, author_name="Ben") for number in range(5)]
        messages[2] = message(2, of=1, **agent, author_name="Gone Agent")
        either.write(person(1), *messages, owner_ids={"Gone Agent": "1"})
        assert len(either.bodies()) == 4
        (item,) = either.parked()
        assert item.payload["message_key"] == messages[2].message_key
        assert "INVALID_OWNER_ID" in item.reason

    def test_a_batch_refused_as_a_whole_is_halved(self, either: World) -> None:
        either.fail(_creating(either), 400, body={"status": "error", "category": "VALIDATION_ERROR"})
        either.write(person(1), *(message(number, of=1) for number in range(8)))
        assert len(either.bodies()) == 8
        assert either.calls()[f"POST /crm/v3/objects/{_creating(either)}"] == 3

    @pytest.mark.parametrize("status", [423, 429, 477])
    def test_a_call_that_is_told_to_wait_is_made_again(self, either: World, status: int) -> None:
        either.fail(_creating(either), status, headers={"Retry-After": "0.05"}, times=2)
        either.write(person(1), message(1))
        assert len(either.bodies()) == 1

    def test_a_pause_is_seen_by_every_process(self, account: World) -> None:
        account.fail("contacts/batch/upsert", 429, headers={"Retry-After": "9000"})
        with pytest.raises(RateLimitedError):
            account.write(person(1), message(1))
        account.calls()
        with pytest.raises(RateLimitedError, match="paused"):
            account.write(person(1), message(1))
        assert not account.calls()

    def test_when_the_days_calls_are_used_up_the_run_stops_and_a_later_one_goes_on(self, either: World) -> None:
        body = {"status": "error", "errorType": "RATE_LIMIT", "policyName": "DAILY"}
        either.fail(_creating(either), 429, body=body)
        with pytest.raises(RateLimitedError, match="today"):
            either.write(person(1), message(1))
        either.write(person(1), message(1))
        assert len(either.bodies()) == 1

    @pytest.mark.parametrize("status", [500, 502, 504, 521])
    def test_an_error_before_anything_was_written_leads_to_one_activity(self, either: World, status: int) -> None:
        either.fail(_creating(either), status)
        either.write(person(1), message(1), message(2, of=1))
        assert len(either.bodies()) == 2

    @pytest.mark.parametrize("status", [500, 502, 504, 521])
    def test_an_error_after_everything_was_written_leads_to_one_activity(self, either: World, status: int) -> None:
        either.fail(_creating(either), status, when="after")
        either.write(person(1), message(1), message(2, of=1))
        assert len(either.bodies_on(either.contact_of("person-1")["id"])) == 2
        assert len(either.bodies()) == 2

    def test_a_timeout_after_everything_was_written_leads_to_one_activity(self, either: World) -> None:
        either.fail(_creating(either), when="hang", delay_seconds=0.6)
        either.write(person(1), message(1), message(2, of=1), timeout_seconds=0.3)
        assert len(either.bodies()) == 2

    def test_a_lost_answer_to_creating_a_contact_leads_to_one_contact(self, either: World) -> None:
        either.fail("contacts/batch/upsert", 500, when="after")
        either.write(person(1), message(1))
        assert len(either.contacts()) == 1

    def test_an_answer_that_was_cut_short_leads_to_one_activity(self, either: World) -> None:
        either.fail(_creating(either), 200, when="after", body={"status": "COMPLETE"})
        either.write(person(1), message(1))
        assert len(either.bodies_on(either.contact_of("person-1")["id"])) == 1
        assert len(either.bodies()) == 1
        assert either.parked() == []

    def test_an_account_that_never_says_what_it_wrote_leaves_a_reason_behind(self, account: World) -> None:
        account.fail("communications/batch/upsert", 200, body={"status": "COMPLETE"}, times=2)
        account.write(person(1), message(1))
        assert ["said nothing" in item.reason for item in account.parked()] == [True]

    def test_results_without_trace_ids_are_matched(self, either: World, monkeypatch: pytest.MonkeyPatch) -> None:
        answer = either.app.endpoints.batch_answer

        def forgetful(outcome: Any, status: int = 200) -> Any:
            for result in outcome.results:
                result.pop("objectWriteTraceId", None)
            return answer(outcome, status)

        monkeypatch.setattr(either.app.endpoints, "batch_answer", forgetful)
        either.write(person(1), person(2), message(1), message(2))
        either.calls()
        either.write(person(1), person(2, channels=["email"]), message(1), message(2))
        assert either.calls() == {"POST /crm/v3/objects/contacts/batch/update": 1}
        assert len(either.bodies()) == 2

    def test_it_slows_down_before_it_is_told_to(self, account: World) -> None:
        nearly_out = {"X-HubSpot-RateLimit-Remaining": "1", "X-HubSpot-RateLimit-Interval-Milliseconds": "600000"}
        account.fail("contacts/batch/read", 200, body={"results": []}, headers=nearly_out)
        ana = person(1, Handle(kind="email", value="ana@shop.example"))
        with pytest.raises(RateLimitedError, match="paused"):
            account.write(ana, message(1), max_retry_seconds=5)
        assert account.calls().total() == 1

    def test_what_was_parked_is_written_when_its_reason_is_gone_and_a_replay_was_asked_for(
        self, account: World
    ) -> None:
        one = account.app.create_contact_as_person({"email": "ana@shop.example"})
        other = account.app.create_contact_as_person({"email": "ana@home.example"})
        emails = [Handle(kind="email", value=f"ana@{place}.example") for place in ("shop", "home")]
        account.write(person(1, *emails), message(1, handles=emails))
        survivor = account.app.merge_contacts_as_admin(one, other)
        Parked(account.stores).ask_replay([item.parked_id for item in account.parked()])
        account.write(person(2, message_count=0), message(2))
        assert len(account.bodies_on(survivor)) == 1
        assert account.parked() == []

    def test_a_look_up_that_fails_in_part_creates_nothing(self, account: World) -> None:
        account.app.create_contact_as_person({"email": "ana@shop.example"})
        broken = {"results": [], "errors": [{"category": "INTERNAL_ERROR"}]}
        account.fail("contacts/batch/read", 207, times=2, body=broken)
        with pytest.raises(UnavailableError):
            account.write(person(1, Handle(kind="email", value="ana@shop.example")), message(1))
        assert len(account.contacts()) == 1

    def test_an_account_that_stays_away_ends_the_run_without_state(self, either: World) -> None:
        either.fail("/crm/", 503, times=50)
        with pytest.raises(UnavailableError):
            either.write(person(1), message(1), max_tries=3)
        either.app.faults.clear()
        either.write(person(1), message(1))
        assert len(either.bodies()) == 1

    def test_neither_words_nor_numbers_nor_tokens_get_into_logs_or_reasons(
        self, either: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        logging.getLogger("hubspot").setLevel(logging.DEBUG)
        email = Handle(kind="email", value="ana@shop.example")
        either.app.create_contact_as_person({"email": "ana@shop.example"})
        either.fail("contacts/batch/read", 200, times=2, body={"results": []})
        either.fail(_creating(either), 500, when="after")
        agent: dict[str, Any] = {"direction": "outbound", "author_kind": "agent", "author_name": "Gone Agent"}
        either.write(person(1, phone(1), email), message(1), message(2, of=1, **agent), owner_ids={"Gone Agent": "1"})
        said = caplog.text + "".join(item.reason for item in either.parked())
        assert "parked" in said
        for secret in ("words of message", phone(1).value, "ana@shop.example", "sandbox-token"):
            assert secret not in said


class TestWhatPeopleDo:
    def test_after_a_merge_in_hubspot_messages_go_to_the_survivor(self, either: World) -> None:
        either.write(person(1), message(1))
        human = either.app.create_contact_as_person({"email": "ana@shop.example"})
        survivor = either.app.merge_contacts_as_admin(human, either.contact_of("person-1")["id"])
        either.write(message(2, of=1))
        assert list(either.contacts()) == [survivor]
        assert len(either.bodies_on(survivor)) == 2
        either.calls()
        either.write(message(2, of=1))
        assert not either.calls()

    def test_a_merge_between_a_lost_answer_and_its_settling_leads_to_one_activity(self, either: World) -> None:
        either.write(person(1), message(1))
        either.fail(_creating(either), 500, when="after")
        either.fail("associations/", 503, times=9)
        with pytest.raises(UnavailableError):
            either.write(message(2, of=1), max_tries=2)
        either.app.faults.clear()
        human = either.app.create_contact_as_person({"email": "ana@shop.example"})
        survivor = either.app.merge_contacts_as_admin(human, either.contact_of("person-1")["id"])
        either.write(message(2, of=1))
        assert len(either.bodies_on(survivor)) == 2
        assert len(either.bodies()) == 2

    def test_after_a_merge_in_hubspot_the_contact_is_kept_up_to_date(self, account: World) -> None:
        account.write(person(1), message(1))
        human = account.app.create_contact_as_person({"email": "ana@shop.example", "firstname": "Anita"})
        survivor = account.app.merge_contacts_as_admin(human, account.contact_of("person-1")["id"])
        account.write(person(1, name="Anna Other", last_inbound_at=NOON))
        contact = account.contacts()[survivor]
        assert contact["onethread_last_message_in"] == "2026-11-02T12:00:00.000Z"
        assert contact["firstname"] == "Anita"
        assert account.parked() == []

    def test_a_contact_that_was_deleted_is_not_made_again(self, either: World) -> None:
        either.write(person(1), message(1))
        either.app.delete_contact_as_admin(either.contact_of("person-1")["id"])
        either.write(person(1, last_inbound_at=NOON), message(2, of=1))
        assert either.contacts() == {}
        (item,) = either.parked()
        assert "deleted" in item.reason
        assert len(either.bodies()) == 1

    def test_a_contact_that_was_brought_back_is_written_to_again(self, either: World) -> None:
        either.write(person(1), message(1))
        contact_id = either.contact_of("person-1")["id"]
        either.app.delete_contact_as_admin(contact_id)
        either.write(message(2, of=1))
        either.app.restore_contact_as_admin(contact_id)
        either.write(message(3, of=1))
        assert ["words of message 3." in body for body in either.bodies_on(contact_id)] == [True]

    def test_an_activity_that_was_deleted_is_not_made_again(self, either: World) -> None:
        either.write(person(1), message(1), message(2, of=1))
        gone = next(iter(either.app.state()["communications"]))
        either.app.crm.archive(COMMUNICATIONS, gone)
        edited: dict[str, Any] = {"text": "other words", "edited_at": NOON}
        either.write(message(1, **edited), message(2, of=1, **edited))
        assert len(either.bodies()) == 1
        assert either.parked() == []


class TestPersonChanges:
    def test_a_merge_moves_the_timeline_and_archives_the_empty_contact(self, either: World) -> None:
        either.write(person(1), person(2), message(1), message(2))
        old_id = either.contact_of("person-2")["id"]
        either.write(person(1, phone(1), phone(2)), merge(1, 1, 2))
        assert list(either.contacts()) == [either.contact_of("person-1")["id"]]
        assert len(either.bodies_on(either.contact_of("person-1")["id"])) == 2
        assert either.app.state()["archived_contacts"] == [old_id]

    def test_a_merge_that_comes_again_makes_no_request(self, either: World) -> None:
        records = (person(1), person(2), message(1), message(2))
        either.write(*records)
        either.write(merge(1, 1, 2))
        either.calls()
        either.write(merge(1, 1, 2))
        assert not either.calls()

    def test_a_merge_cut_off_in_the_middle_is_completed(self, either: World) -> None:
        either.write(person(1), person(2), message(1), message(2))
        either.fail("associations/communications/contacts/batch/archive", 503, times=9)
        with pytest.raises(UnavailableError):
            either.write(merge(1, 1, 2), max_tries=2)
        either.app.faults.clear()
        either.write(merge(1, 1, 2))
        assert len(either.contacts()) == 1
        assert len(either.bodies_on(either.contact_of("person-1")["id"])) == 2

    def test_a_message_with_the_id_of_a_merged_person_goes_to_the_survivor(self, either: World) -> None:
        either.write(person(1), person(2), message(1), message(2))
        either.write(merge(1, 1, 2))
        either.write(message(3, of=2))
        assert len(either.contacts()) == 1
        assert len(either.bodies_on(either.contact_of("person-1")["id"])) == 3

    def test_a_split_moves_the_messages_back(self, either: World) -> None:
        either.write(person(1), person(2), message(1), message(2), message(3, of=2))
        either.write(merge(1, 1, 2))
        either.write(person(2), split(2, 1, 2))
        one, two = either.contact_of("person-1"), either.contact_of("person-2")
        assert [body.count("message 1.") for body in either.bodies_on(one["id"])] == [1]
        assert [body.count("message 2.") + body.count("message 3.") for body in either.bodies_on(two["id"])] == [1, 1]
        assert len(either.bodies()) == 3

    def test_a_split_makes_the_contact_that_is_needed(self, account: World) -> None:
        account.write(person(1, phone(1), phone(2)), message(1), message(2, person_id="person-1"))
        account.write(split(1, 1, 2))
        assert len(account.bodies_on(account.contact_of("person-1")["id"])) == 1
        assert len(account.bodies_on(account.contact_of("person-2")["id"])) == 1
        assert account.contact_of("person-2")["phone"] == phone(2).value

    def test_all_changes_again_leave_everything_as_it_is(self, either: World) -> None:
        records: tuple[Record, ...] = (person(1), person(2), message(1), message(2))
        either.write(*records)
        changes = (merge(1, 1, 2), split(2, 1, 2))
        either.write(*changes)
        before = either.app.state()["contacts"]
        either.calls()
        either.write(*changes)
        assert not either.calls()
        assert either.app.state()["contacts"] == before

    def test_a_contact_that_people_made_is_left_and_only_our_properties_are_cleared(self, account: World) -> None:
        contact_id = account.app.create_contact_as_person({"email": "ben@shop.example"})
        record = Handle(kind="hubspot_contact", scope=PORTAL, value=contact_id)
        account.write(person(1), person(2, phone(2), record), message(1), message(2))
        account.write(merge(1, 1, 2))
        contact = account.contacts()[contact_id]
        assert contact["email"] == "ben@shop.example"
        assert "onethread_person_id" not in contact
        assert contact["communications"] == []

    @pytest.mark.parametrize("touch", [{"hubspot_owner_id": "70001"}, {"firstname": "Benno"}])
    def test_a_contact_that_an_agent_has_worked_on_is_not_archived(self, account: World, touch: dict[str, str]) -> None:
        account.write(person(1), person(2), message(1), message(2))
        contact_id = account.contact_of("person-2")["id"]
        account.app.edit_contact_as_agent(contact_id, touch)
        account.write(merge(1, 1, 2))
        assert contact_id in account.contacts()

    def test_a_contact_with_an_agents_note_is_not_archived(self, account: World) -> None:
        account.write(person(1), person(2), message(1), message(2))
        contact_id = account.contact_of("person-2")["id"]
        account.app.log_activity_as_agent(contact_id, "notes")
        account.write(merge(1, 1, 2))
        assert contact_id in account.contacts()

    def test_empty_contacts_stay_when_the_setting_says_so(self, account: World) -> None:
        account.write(person(1), person(2), message(1), message(2))
        account.write(merge(1, 1, 2), archive_empty_projections=False)
        assert len(account.contacts()) == 2

    def test_an_erased_person_leaves_nothing_and_does_not_come_back(self, either: World) -> None:
        either.write(person(1), person(2), message(1), message(2))
        either.write(erasure(1, 1))
        either.write(message(1))
        assert list(either.contacts()) == [either.contact_of("person-2")["id"]]
        assert len(either.bodies()) == 1
        assert either.app.state()["archived_contacts"] == []

    @pytest.mark.parametrize("touch", [{}, {"lastname": "Typed"}])
    def test_erasing_reaches_a_contact_that_a_merge_left(self, account: World, touch: dict[str, str]) -> None:
        account.write(
            person(1), person(2, phone(2), Handle(kind="email", value="two@mail.example")), message(1), message(2)
        )
        left = account.contact_of("person-2")["id"]
        if touch:
            account.app.edit_contact_as_agent(left, touch)
        account.write(merge(1, 1, 2))
        assert (left in account.contacts()) == bool(touch)
        account.write(erasure(2, 1, 2))
        assert account.contacts() == {}
        record = account.app.crm.archived(CONTACTS, left)
        assert record is None or not any(map(record.value, ("email", "phone", "firstname", "lastname")))
        assert account.ledger.left_contacts("person-2") == []

    def test_erasing_leaves_alone_what_people_made_of_a_contact_that_was_left(self, account: World) -> None:
        account.write(person(1), person(2), message(1), message(2))
        left = account.contact_of("person-2")["id"]
        account.app.edit_contact_as_agent(left, {"lastname": "Typed"})
        account.write(merge(1, 1, 2))
        survivor = account.app.merge_contacts_as_admin(account.app.create_contact_as_person({"firstname": "Kim"}), left)
        account.write(erasure(2, 1, 2))
        assert list(account.contacts()) == [survivor]

    def test_a_split_that_names_no_person_is_parked(self, account: World) -> None:
        account.write(split(1, 1, 2).model_copy(update={"into_person_id": None}))
        assert [item.error for item in account.parked()] == ["MissingFieldError"]


class TestWithTheGraph:
    def test_a_message_stamped_before_a_merge_goes_to_the_person_of_its_sender_now(self, account: World) -> None:
        known = resolve(account, message(1))
        account.write(message(1, person_id="person-of-last-year"), message(2, of=1, person_id=known))
        assert len(account.bodies_on(account.contact_of(known)["id"])) == 2

    def test_a_bare_pipe_finds_the_contact_that_the_graph_knows(self, account: World) -> None:
        contact_id = account.app.create_contact_as_person({"firstname": "Anita"})
        record = Handle(kind="hubspot_contact", scope=PORTAL, value=contact_id)
        contact = Contact(
            crm="hubspot", account=PORTAL, record_id=contact_id, handles=[record, phone(1)], modified_at=NOON
        )
        known = resolve(account, contact, message(1))
        account.write(message(1, person_id=known), folded=False)
        assert list(account.contacts()) == [contact_id]
        assert len(account.bodies_on(contact_id)) == 1

    def test_a_message_that_cannot_go_to_another_contact_parks_its_person_and_stops_nothing(
        self, account: World
    ) -> None:
        account.write(person(1), message(1))
        contact_id = account.app.create_contact_as_person({"firstname": "Anita"})
        record = Handle(kind="hubspot_contact", scope=PORTAL, value=contact_id)
        account.fail("/crm/v4/associations/", 400, times=9)
        account.write(person(1, phone(1), record), person(2))
        account.app.faults.clear()
        assert [(one.stream, one.error) for one in account.parked()] == [("persons", "RejectedError")]
        assert len(account.bodies_on(account.contact_of("person-1")["id"])) == 1, "where it was"
        assert account.contact_of("person-2")
        Parked(account.stores).ask_replay([one.parked_id for one in account.parked()])
        account.write(person(2))
        assert len(account.bodies_on(contact_id)) == 1
        assert account.contact_of("person-1")["id"] == contact_id

    def test_a_merge_that_was_parked_and_is_undone_by_now_is_not_carried_out(self, account: World) -> None:
        """The contact that the messages were to go to was deleted, and is back."""
        graph = Graph(account.stores)
        resolver = Resolver(graph, load_rules())
        said = [message(1, person_id=None), message(2, person_id=None)]
        persons = [str(one) for one in resolver.resolve(said)]
        account.write(*(one.model_copy(update={"person_id": who}) for one, who in zip(said, persons, strict=True)))
        ids = {who: account.contact_of(who)["id"] for who in persons}
        decision = resolver.decide("same", [phone(1), phone(2)], actor="ann")
        into = graph.current(persons[0])
        account.app.delete_contact_as_admin(ids[into])
        account.write(*graph.changes_since(0, 10))
        (waiting,) = account.parked()
        resolver.undo(decision, actor="ann")
        account.write(*graph.changes_since(waiting.payload["sequence"], 10))
        account.app.restore_contact_as_admin(ids[into])
        Parked(account.stores).ask_replay([waiting.parked_id])
        account.write(erasure(99, 77))
        assert account.parked() == []
        (other,) = set(persons) - {into}
        assert len(account.bodies_on(account.contact_of(other)["id"])) == 1
        assert account.contact_of(other)["id"] == ids[other]

    def test_what_holds_of_merges_and_splits_is_what_the_graph_says_now(self, account: World) -> None:
        graph = Graph(account.stores)
        resolver = Resolver(graph, load_rules())
        people = CrmPeople(account.ledger, graph, "hubspot_contact", PORTAL)
        resolver.resolve([message(1, person_id=None), message(2, person_id=None)])
        decision = resolver.decide("same", [phone(1), phone(2)], actor="ann")
        (joined,) = graph.changes_since(0, 10)
        assert people.as_it_holds(joined) == joined
        resolver.undo(decision, actor="ann")
        (parted,) = graph.changes_since(joined.sequence, 10)
        assert people.as_it_holds(joined) is None
        assert people.as_it_holds(parted) == parted
        resolver.decide("same", [phone(1), phone(2)], actor="ann")
        assert people.as_it_holds(joined) == joined
        assert people.as_it_holds(parted) is None


def resolve(account: World, *records: Record) -> str:
    """Take records into the identity graph; the person of the last one."""
    persons = Resolver(Graph(account.stores), load_rules()).resolve(records)
    assert persons[-1] is not None
    return persons[-1]


class TestBarePipe:
    @pytest.mark.parametrize("first", ["message", "change"])
    def test_changes_are_shown_whichever_comes_first(self, either: World, first: str) -> None:
        edit = _change("edit", text="better words")
        reaction = _change("react", emoji="👍")
        order: list[list[Record]] = [[message(1)], [edit, reaction]]
        for records in order if first == "message" else order[::-1]:
            either.write(*records, folded=False)
        (body,) = either.bodies()
        assert "better words" in body
        assert "👍" in body
        assert "words of message" not in body

    def test_what_was_taken_back_is_kept_nowhere(self, account: World) -> None:
        account.write(message(1), folded=False)
        account.write(_change("unsend"), folded=False)
        (body,) = account.bodies()
        assert "words of message" not in body
        assert "Removed by the sender" in body
        rows = account.ledger.messages([account.ledger.fingerprint(message(1).message_key)])
        assert "words of message" not in str(rows)

    def test_changes_are_left_to_the_archive_where_there_is_one(self, account: World) -> None:
        account.write(message(1), _change("edit", text="better words"))
        (body,) = account.bodies()
        assert "words of message 1" in body


def _change(kind: str, **values: Any) -> MessageChange:
    return MessageChange.model_validate(
        {
            "change_key": f"{message(1).message_key}:{kind}:1", "message_key": message(1).message_key,
            "channel": "whatsapp", "account": "1", "change": kind, "changed_at": NOON, **values,
        }
    )  # fmt: skip


class TestTargetHubSpotContract(TargetContract):
    target_class = TargetHubSpot
    record_model = ArchivedMessage

    @pytest.fixture
    def destination(self, state_url: str) -> Iterator[World]:
        with world(state_url) as made:
            yield made

    def settings(self, destination: World) -> dict[str, Any]:
        return destination.config

    def record(self, number: int) -> dict[str, Any]:
        return message(number, of=number % 7).model_dump(mode="json")

    def written(self, destination: World) -> set[int]:
        return {int(body.partition("words of message ")[2].partition(".")[0]) for body in destination.bodies()}

    def effect(self, destination: World) -> Any:
        state = destination.app.state()
        return state["contacts"], state["communications"]

    def break_destination(self, destination: World, monkeypatch: pytest.MonkeyPatch) -> None:
        guard = destination.app.guard
        batches: list[str] = []

        def refuse(request: Any) -> Any:
            if request.path.endswith("communications/batch/upsert"):
                batches.append(request.path)
            return json_response({}, 403) if len(batches) > 2 else guard(request)

        monkeypatch.setattr(destination.app, "guard", refuse)
