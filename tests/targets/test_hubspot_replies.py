"""The fate of replies, told on the contact on which an agent queued them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mappings.from_hubspot import queued_versions
from mappings.ids import reply_key
from mappings.to_hubspot import datetime_text
from sandbox.hubspot.objects import CONTACTS
from tests.targets.hubspot_world import PORTAL, World, fate, world

TEXT, STATUS, DETAIL = "onethread_reply_text", "onethread_reply_status", "onethread_reply_detail"


@pytest.fixture
def account(state_url: str) -> Iterator[World]:
    """An account that is set up."""
    with world(state_url) as made:
        yield made


def queue(account: World, text: str = "We are on it", contact_id: str | None = None) -> tuple[str, str]:
    """An agent queues a reply: the contact's id, and the reply's key."""
    contact_id = contact_id or account.app.create_contact_as_person({"email": "ana@shop.example"})
    account.app.clock.advance(1)
    account.app.edit_contact_as_agent(contact_id, {TEXT: text, STATUS: "QUEUED"})
    record = account.app.crm.current(CONTACTS, contact_id)
    assert record is not None
    last = queued_versions(record.as_json([], [STATUS]))[-1]
    account.app.clock.advance(1)
    account.calls()
    return contact_id, reply_key("hubspot", PORTAL, contact_id, datetime_text(last.at))


def test_the_contact_says_what_became_of_its_reply(account: World) -> None:
    contact_id, key = queue(account)
    account.write(fate(key, "delivered"))
    contact = account.contacts()[contact_id]
    assert contact[STATUS] == "DELIVERED"
    assert contact[DETAIL] == "Delivered, 2026-11-02 12:00 UTC, WhatsApp"
    assert contact[TEXT] == "We are on it"


def test_a_refusal_says_why_and_who_must_act(account: World) -> None:
    contact_id, key = queue(account)
    account.write(fate(key, "refused", reason="The 24-hour window is closed; use a template.", actor="agent"))
    contact = account.contacts()[contact_id]
    assert contact[STATUS] == "REFUSED"
    assert "24-hour window" in contact[DETAIL]
    assert "You can act" in contact[DETAIL]


def test_a_reply_that_was_taken_up_is_not_queued_again(account: World) -> None:
    contact_id, key = queue(account)
    account.write(fate(key, "queued"))
    assert account.contacts()[contact_id][STATUS] == "SENDING"


def test_many_fates_of_one_reply_cost_one_write_and_the_furthest_counts(account: World) -> None:
    contact_id, key = queue(account)
    account.write(*(fate(key, status) for status in ("queued", "read", "accepted", "sent", "delivered")))
    assert account.contacts()[contact_id][STATUS] == "READ"
    assert account.calls()["POST /crm/v3/objects/contacts/batch/update"] == 1


def test_a_status_never_moves_back(account: World) -> None:
    contact_id, key = queue(account)
    account.write(fate(key, "delivered"))
    account.calls()
    account.write(fate(key, "sent"))
    assert not account.calls()
    assert account.contacts()[contact_id][STATUS] == "DELIVERED"


def test_the_same_again_makes_no_request(account: World) -> None:
    _, key = queue(account)
    account.write(fate(key, "sent"))
    account.calls()
    account.write(fate(key, "sent"))
    assert not account.calls()


def test_a_newer_reply_is_not_overwritten(account: World) -> None:
    contact_id, first = queue(account)
    account.write(fate(first, "sent"))
    _, second = queue(account, "And another thing", contact_id)
    account.write(fate(first, "delivered"))
    assert account.contacts()[contact_id][STATUS] == "QUEUED"
    account.write(fate(second, "sent"))
    assert account.contacts()[contact_id][STATUS] == "SENT"


def test_the_fate_follows_a_contact_that_was_merged(account: World) -> None:
    contact_id, key = queue(account)
    other = account.app.create_contact_as_person({"email": "b@shop.example"})
    survivor = account.app.merge_contacts_as_admin(contact_id, other)
    account.write(fate(key, "sent"))
    assert account.contacts()[survivor][STATUS] == "SENT"


def test_a_deleted_contact_is_told_nothing(account: World) -> None:
    contact_id, key = queue(account)
    account.app.delete_contact_as_admin(contact_id)
    account.write(fate(key, "sent"))
    assert account.parked() == []
    assert account.target.counts == {"replies on deleted contacts not told": 1}


def test_replies_of_another_account_and_receipts_of_messages_are_left(account: World) -> None:
    account.calls()
    account.write(
        fate(reply_key("hubspot", "999", "1", "2026-11-02T12:00:00.000Z"), "sent"),
        fate("whatsapp:1:wamid.1", "read", subject_kind="message", reply_key=None),
    )
    assert not account.calls()


def test_a_key_that_is_none_is_parked(account: World) -> None:
    account.write(fate("nonsense", "sent", reply_key=None))
    assert [item.error for item in account.parked()] == ["PayloadError"]


def test_many_replies_are_read_fifty_at_a_time(account: World) -> None:
    keys = []
    for number in range(60):
        contact_id = account.app.create_contact_as_person({"email": f"a{number}@shop.example"})
        keys.append(queue(account, "Hello", contact_id)[1])
    account.calls()
    account.write(*(fate(key, "sent") for key in keys))
    assert {one[STATUS] for one in account.contacts().values()} == {"SENT"}
    assert account.calls()["POST /crm/v3/objects/contacts/batch/read"] == 2
