"""What people complain of in other connectors to HubSpot, each as a test; the docstring says the complaint."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from mappings.records import Handle
from taps.hubspot import TapHubSpot
from tests.targets.hubspot_world import NOON, World, message, person, world


@pytest.fixture(params=[True, False], ids=["property", "readback"])
def account(state_url: str, request: pytest.FixtureRequest) -> Iterator[World]:
    """An account of either kind that is set up."""
    with world(state_url, unique=request.param, search_lag_seconds=3600) as made:
        made.calls()
        yield made


def owned(number: int, author: str) -> Any:
    """A message of ours; HubSpot refuses one whose owner it does not know."""
    return message(number, of=1, direction="outbound", author_kind="agent", author_name=author)


def test_records_that_a_mixed_answer_refuses_are_not_taken_for_written(account: World) -> None:
    """The destination answers 207, the connector counts success, and nobody ever learns which rows are missing."""
    owners = {"Ada": "70001", "Gone": "1"}
    account.write(person(1), *(owned(n, "Gone" if n == 3 else "Ada") for n in range(6)), owner_ids=owners)
    assert len(account.bodies()) == 5
    (item,) = account.parked()
    assert item.payload["message_key"] == owned(3, "Gone").message_key
    assert account.target.counts["parked"] == 1


def test_a_refusal_says_which_record_which_property_and_why(account: World) -> None:
    """An import "had errors", and not a word about the row."""
    account.write(person(1), owned(1, "Gone"), owner_ids={"Gone": "1"})
    (item,) = account.parked()
    assert "hubspot_owner_id" in item.reason
    assert "INVALID_OWNER_ID" in item.reason


@pytest.mark.parametrize("times", [1, 3])
def test_trying_again_after_a_timeout_makes_no_second_record(account: World, times: int) -> None:
    """Creating was tried again after a timeout, and every message was there twice."""
    for verb in ("create", "upsert"):
        account.fail(f"communications/batch/{verb}", 504, when="after", times=times)
    with contextlib.suppress(Exception):
        account.write(person(1), message(1), message(2, of=1))
    account.app.faults.clear()
    account.write(person(1), message(1), message(2, of=1))
    assert len(account.bodies()) == 2


def test_a_refused_upsert_never_becomes_a_create(account: World) -> None:
    """An upsert that failed for any reason quietly became an insert: duplicates with every run."""
    account.fail("contacts/batch/upsert", 400, times=4, body={"category": "VALIDATION_ERROR"})
    account.write(person(1), message(1))
    assert account.contacts() == {}
    account.write(person(1), message(1))
    assert len(account.contacts()) == 1
    assert not [call for call in account.calls() if call.endswith("objects/contacts")]


def test_no_record_is_looked_up_by_search(account: World) -> None:
    """Looking records up by search is slow (five a second) and blind to what was written a moment ago."""
    email = Handle(kind="email", value="ana@shop.example")
    for number in range(3):
        account.write(person(1, email), message(number, of=1))
    assert len(account.contacts()) == 1
    assert not [call for call in account.calls() if call.endswith("/search")]


def test_a_few_rows_cost_a_few_calls(account: World) -> None:
    """A batch interface that needs a dozen calls and a minute for three rows."""
    account.write(person(1), message(1), message(2, of=1))
    assert account.calls().total() <= 3


def test_a_second_run_writes_nothing(account: World) -> None:
    """Each run sends everything again, and the day's calls are gone by noon."""
    records = (person(1, last_inbound_at=NOON), message(1))
    account.write(*records)
    account.calls()
    account.write(*records)
    assert not account.calls()


def test_a_property_that_the_admin_requires_holds_up_that_record_alone(account: World) -> None:
    """Since validation rules count for the API, one rule of the admin stopped a whole sync."""
    account.write(person(1), person(2), message(1), message(2))
    body = {"status": "error", "category": "VALIDATION_ERROR", "message": "Property values were not valid"}
    account.fail("contacts/batch/update", 400, times=3, body=body)
    account.write(*(person(n, last_inbound_at=NOON) for n in (1, 2)), message(3, of=1))
    assert len(account.bodies()) == 3
    account.write(*(person(n, last_inbound_at=NOON) for n in (1, 2)))
    assert [account.contact_of(f"person-{n}").get("onethread_last_message_in") is not None for n in (1, 2)] == [
        True
    ] * 2


def test_a_reader_that_is_told_to_wait_moves_on_afterwards(account: World) -> None:
    """A poller that got a 429 never moved its bookmark, read the same again and got the next 429."""
    for number in range(3):
        account.app.create_contact_as_person({"email": f"a{number}@shop.example"})
    config = {key: account.config[key] for key in ("access_token", "portal_id", "api_url", "state_url")}
    state: dict[str, Any] = {}
    seen = []
    for _ in range(2):
        account.fail("/crm/v3/objects/contacts", 429, times=2, headers={"Retry-After": "0.05"})
        tap = TapHubSpot(config={**config, "search_interval_seconds": 0}, state=state)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            tap.sync_all()
        lines = [json.loads(line) for line in output.getvalue().splitlines()]
        state = next((one["value"] for one in reversed(lines) if one["type"] == "STATE"), state)
        seen.append(sum(one.get("stream") == "contacts" and "record" in one for one in lines))
        account.app.faults.clear()
    assert seen == [3, 0]


def test_a_deleted_contact_does_not_come_back(account: World) -> None:
    """What a colleague deleted was there again after the next sync."""
    account.write(person(1), message(1))
    account.app.delete_contact_as_admin(account.contact_of("person-1")["id"])
    account.write(person(1, last_inbound_at=NOON), message(2, of=1))
    assert account.contacts() == {}


def test_a_merge_that_a_colleague_made_is_followed(account: World) -> None:
    """After a merge the connector wrote to an id that batches no longer know, and failed until somebody reset it."""
    account.write(person(1), message(1))
    other = account.app.create_contact_as_person({"email": "ana@shop.example"})
    survivor = account.app.merge_contacts_as_admin(other, account.contact_of("person-1")["id"])
    account.write(person(1, last_inbound_at=NOON), message(1, edited_at=NOON), message(2, of=1))
    assert len(account.bodies_on(survivor)) == 2
    assert account.parked() == []
    account.calls()
    account.write(message(3, of=1))
    assert not [call for call in account.calls() if call.startswith("GET")]  # the new id is known by now
