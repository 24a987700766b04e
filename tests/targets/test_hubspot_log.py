"""Activities of target-hubspot that are not one communication for each message: notes, and one record for each day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mappings.errors import SettingsError, UnavailableError
from mappings.ids import conversation_key
from sandbox.hubspot.objects import COMMUNICATIONS
from targets.hubspot.days import day_key
from tests.targets.hubspot_world import ACCOUNT, NOON, World, erasure, merge, message, person, phone, split, world


@pytest.fixture(params=[True, False], ids=["property", "readback"])
def account(state_url: str, request: pytest.FixtureRequest) -> Iterator[World]:
    """An account of either kind that is set up."""
    with world(state_url, unique=request.param, search_lag_seconds=3600) as made:
        yield made


def notes(account: World) -> list[str]:
    """The bodies of all notes, oldest first."""
    rows = [one["properties"] for one in account.app.state()["notes"].values()]
    return [str(one["hs_note_body"]) for one in sorted(rows, key=lambda one: str(one["hs_timestamp"]))]


def notes_on(account: World, person_id: str) -> int:
    contact = account.contact_of(person_id)["id"]
    return sum(contact in one["contacts"] for one in account.app.state()["notes"].values())


def telegram(number: int, of: int = 1, **values: Any) -> Any:
    """A message on a channel for which HubSpot has no word."""
    return message(number, of=of, **values).model_copy(update={"channel": "telegram"})


class TestNotes:
    def test_a_channel_that_hubspot_has_no_word_for_becomes_a_note(self, account: World) -> None:
        account.write(person(1), telegram(1), message(2, of=1))
        assert len(notes(account)) == len(account.bodies()) == 1
        assert "Telegram" in notes(account)[0]
        assert notes_on(account, "person-1") == 1

    def test_the_same_again_makes_no_request_and_a_change_is_written_in_place(self, account: World) -> None:
        account.write(person(1), telegram(1))
        account.calls()
        account.write(person(1), telegram(1))
        assert not account.calls()
        account.write(telegram(1, text="better words", edited_at=NOON))
        assert ["better words" in body for body in notes(account)] == [True]

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_lost_answer_leads_to_one_note(self, account: World, when: str) -> None:
        for verb in ("create", "upsert"):
            account.fail(f"notes/batch/{verb}", 502, when=when)
        account.write(person(1), telegram(1), telegram(2))
        assert len(notes(account)) == 2
        assert notes_on(account, "person-1") == 2

    def test_a_message_stays_where_it_is_when_its_channel_gets_another_type(self, account: World) -> None:
        account.write(person(1), telegram(1), other_channels="SMS")
        account.write(person(1), telegram(1, edited_at=NOON), telegram(2))
        assert len(account.bodies()) == len(notes(account)) == 1

    def test_notes_move_with_their_person_and_back(self, account: World) -> None:
        account.write(person(1), person(2), telegram(1), telegram(2, of=2))
        account.write(merge(1, 1, 2))
        assert notes_on(account, "person-1") == 2
        account.write(person(2), split(2, 1, 2))
        assert (notes_on(account, "person-1"), notes_on(account, "person-2")) == (1, 1)

    def test_an_erased_persons_notes_go(self, account: World) -> None:
        account.write(person(1), telegram(1), message(2, of=1))
        account.write(erasure(1, 1))
        assert notes(account) == account.bodies() == []


class TestRollUp:
    def test_a_day_of_a_conversation_is_one_record(self, account: World) -> None:
        tomorrow = {"sent_at": NOON + timedelta(days=1)}
        account.write(person(1), *(message(n, of=1) for n in range(9)), message(9, of=1, **tomorrow), roll_up=True)
        first, second = account.bodies_on(account.contact_of("person-1")["id"])
        assert [f"words of message {n}." in first for n in range(10)] == [True] * 9 + [False]
        assert "words of message 9." in second

    def test_a_later_message_and_an_edit_change_the_day(self, account: World) -> None:
        account.write(person(1), message(1), roll_up=True)
        account.write(message(2, of=1), message(1, text="better words", edited_at=NOON), roll_up=True)
        (body,) = account.bodies()
        assert body.index("better words") < body.index("words of message 2.")

    def test_the_same_again_makes_no_request(self, account: World) -> None:
        records = (person(1), message(1), message(2, of=1))
        account.write(*records, roll_up=True)
        account.calls()
        account.write(*records, roll_up=True)
        account.write(message(2, of=1), roll_up=True)
        assert not account.calls()

    def test_turning_it_on_and_off_doubles_nothing(self, account: World) -> None:
        account.write(person(1), message(1))
        account.write(message(1), message(2, of=1), roll_up=True)
        account.write(message(1), message(2, of=1), message(3, of=1))
        assert sum(body.count("words of message") for body in account.bodies()) == 3
        assert len(account.bodies()) == 3

    def test_what_was_taken_back_is_in_no_day(self, account: World) -> None:
        account.write(person(1), message(1), message(2, of=1), roll_up=True)
        account.write(message(1, text=None, unsent_at=NOON), roll_up=True)
        (body,) = account.bodies()
        assert "words of message 1." not in body
        assert "Removed by the sender" in body

    def test_a_lost_answer_leads_to_one_record(self, account: World) -> None:
        for verb in ("create", "upsert"):
            account.fail(f"communications/batch/{verb}", 502, when="after")
        account.write(person(1), message(1), message(2, of=1), roll_up=True)
        assert len(account.bodies()) == 1

    def test_a_day_that_is_refused_parks_each_of_its_messages(self, account: World) -> None:
        for verb in ("create", "upsert"):
            account.fail(f"communications/batch/{verb}", 400, body={"category": "VALIDATION_ERROR"})
        account.write(person(1), message(1), message(2, of=1), roll_up=True)
        assert {item.payload["message_key"] for item in account.parked()} == {
            message(1).message_key, message(2, of=1).message_key,
        }  # fmt: skip

    def test_days_move_with_their_person(self, account: World) -> None:
        account.write(person(1), person(2), message(1), message(2), message(3, of=2), roll_up=True)
        account.write(merge(1, 1, 2), roll_up=True)
        assert len(account.bodies_on(account.contact_of("person-1")["id"])) == 2

    def test_in_a_group_each_persons_day_is_their_own(self, account: World) -> None:
        group = {"conversation_key": conversation_key("whatsapp", ACCOUNT, "group-1")}
        said = [message(n, of=who).model_copy(update=group) for n, who in ((1, 1), (2, 2), (3, 1), (4, 2))]
        account.write(person(1), person(2), *said, roll_up=True)
        (first,), (second,) = (account.bodies_on(account.contact_of(f"person-{n}")["id"]) for n in (1, 2))
        assert [f"message {n}." in first for n in (1, 2, 3, 4)] == [True, False, True, False]
        assert [f"message {n}." in second for n in (1, 2, 3, 4)] == [False, True, False, True]
        account.write(merge(1, 1, 2), roll_up=True)
        account.write(person(2), split(2, 1, 2), roll_up=True)
        assert account.bodies_on(account.contact_of("person-2")["id"]) == [second]
        account.write(erasure(3, 2), roll_up=True)
        assert account.bodies() == [first]

    def test_a_message_stays_in_its_day_when_its_person_becomes_another(self, account: World) -> None:
        account.write(person(1), person(2), message(1), message(2), roll_up=True)
        account.write(merge(1, 1, 2), roll_up=True)
        account.write(message(2, person_id="person-1", text="better words", edited_at=NOON), roll_up=True)
        assert [body.count("words") for body in account.bodies()] == [1, 1]

    def test_what_is_said_after_somebody_deleted_the_day_is_a_record_of_its_own(self, account: World) -> None:
        account.write(person(1), message(1), message(2, of=1), roll_up=True)
        for number in (3, 4):
            (record_id,) = account.app.state()["communications"]
            account.app.crm.archive(COMMUNICATIONS, record_id)
            # Whatever becomes of those that were on the day that is gone, they are not shown again.
            account.write(message(1, text="other words", edited_at=NOON), message(number, of=1), roll_up=True)
            account.write(message(2, of=1, text="other words", edited_at=NOON), message(number, of=1), roll_up=True)
            (body,) = account.bodies()
            assert [f"words of message {n}." in body for n in range(5)] == [n == number for n in range(5)]
            assert "other words" not in body
        account.write(message(5, of=1), roll_up=True)
        (body,) = account.bodies()
        assert "words of message 4." in body
        assert "words of message 5." in body
        assert account.parked() == []

    def test_whoever_writes_again_on_the_day_of_their_erasure_is_somebody_new(self, account: World) -> None:
        account.write(person(1), message(1), roll_up=True)
        account.write(erasure(1, 1), roll_up=True)
        account.write(person(9, phone(1)), message(2, of=1, person_id="person-9"), message(1), roll_up=True)
        (body,) = account.bodies()
        assert "words of message 2." in body
        assert "words of message 1." not in body

    def test_a_day_that_was_begun_before_days_were_each_persons_own_keeps_its_messages(self, account: World) -> None:
        """Its row has another key, and its messages have none."""
        account.write(person(1), message(1), message(2, of=1), roll_up=True)
        ledger = account.ledger
        (day,) = ledger.messages_of_person("person-1")
        marks = [ledger.fingerprint(one.message_key) for one in (message(1), message(2, of=1))]
        ledger.forget_messages([day.message, *marks])
        ledger.save_messages([replace(day, message=ledger.fingerprint(day_key(message(1))))])
        for roll_up in (True, False):
            edited = message(1, text=f"better words {roll_up}", edited_at=NOON)
            account.write(edited, message(2, of=1), roll_up=roll_up)
            (body,) = account.bodies()
            assert [body.count(words) for words in (f"better words {roll_up}", "words of message 2.")] == [1, 1]

    def test_a_pipe_without_an_archive_is_told_that_it_needs_one(self, account: World) -> None:
        with pytest.raises(SettingsError, match="tap-archive"):
            account.write(message(1), folded=False, roll_up=True)

    def test_an_account_that_stays_away_ends_the_run_and_the_next_one_writes_the_day(self, account: World) -> None:
        account.fail("/crm/", 503, times=50)
        with pytest.raises(UnavailableError):
            account.write(person(1), message(1), roll_up=True, max_tries=2)
        account.app.faults.clear()
        account.write(person(1), message(1), roll_up=True)
        assert len(account.bodies()) == 1
