"""HubSpot's contacts and queued replies as canonical records."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mappings.errors import MissingFieldError, PayloadError
from mappings.from_hubspot import (
    contact_from_hubspot,
    moment_from_hubspot,
    replies_from_hubspot,
    reply_from_hubspot_inbox,
)
from mappings.records import Contact, Reply
from tests.contract.mapping import FIXTURES, check_golden

PORTAL = "8800001"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
CONTACTS = sorted(path.stem for path in (FIXTURES / "hubspot").glob("contact*.json"))


def load(name: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads((FIXTURES / "hubspot" / f"{name}.json").read_text(encoding="utf-8"))
    return payload


def contact(name: str) -> Contact:
    return contact_from_hubspot(load(name), portal_id=PORTAL, default_region="GB")


def replies(payload: dict[str, Any], not_before: datetime = LONG_AGO) -> list[Reply]:
    return replies_from_hubspot(payload, portal_id=PORTAL, not_before=not_before, agent_names={"9001": "Ada Agent"})


@pytest.mark.parametrize("name", CONTACTS)
def test_a_contact_is_mapped_as_its_golden_file_says(name: str) -> None:
    check_golden("hubspot", name, [contact(name).model_dump(mode="json", exclude_defaults=True)])


def test_the_replies_are_mapped_as_their_golden_file_says() -> None:
    check_golden("hubspot", "replies", [one.model_dump(mode="json") for one in replies(load("replies"))])


def inbox(event: dict[str, Any]) -> Reply | None:
    return reply_from_hubspot_inbox(event, portal_id=PORTAL, received_at=LONG_AGO)


def test_an_agents_answer_in_the_inbox_is_mapped_as_its_golden_file_says() -> None:
    reply = inbox(load("inbox_answer"))
    assert reply is not None
    check_golden("hubspot", "inbox_answer", [reply.model_dump(mode="json", exclude_defaults=True)])


@pytest.mark.parametrize(
    ("identifier", "handle"),
    [
        ({"type": "HS_EMAIL_ADDRESS", "value": "Ana@Shop.example"}, "email:-:ana@shop.example"),
        ({"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "messenger_psid:1:2"}, "messenger_psid:1:2"),
        ({"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "no handle"}, None),
    ],
)
def test_the_customer_is_named_by_the_address_that_we_gave(identifier: dict[str, str], handle: str | None) -> None:
    event = load("inbox_answer")
    event["message"]["recipients"][0]["deliveryIdentifier"] = identifier
    reply = inbox(event)
    assert reply is not None
    assert [one.key for one in reply.handles] == [*([handle] if handle else []), "hubspot_contact:8800001:151"]


@pytest.mark.parametrize(("actor", "kind"), [("A-9001", "agent"), ("B-7", "bot"), ("I-1", "bot"), ("", "bot")])
def test_only_people_are_agents_in_the_inbox(actor: str, kind: str) -> None:
    event = load("inbox_answer")
    event["message"]["senders"][0]["actorId"] = event["message"]["createdBy"] = actor
    reply = inbox(event)
    assert reply is not None
    assert reply.author_kind == kind


def test_what_is_no_answer_of_an_agent_is_none() -> None:
    event = load("inbox_answer")
    assert inbox({**event, "type": "CHANNEL_ACCOUNT_CREATED"}) is None
    assert inbox({**event, "message": {**event["message"], "direction": "INCOMING"}}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"portalId": "1"},
        {"message": None},
        {"channelIntegrationThreadIds": []},
        {"channelIntegrationThreadIds": ["whatsapp:1:2", "whatsapp:1:3"]},
    ],
)
def test_an_event_that_cannot_be_placed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PayloadError):
        inbox({**load("inbox_answer"), **change})


def test_the_argument_is_not_changed() -> None:
    payload = load("replies")
    before = copy.deepcopy(payload)
    replies(payload)
    contact_from_hubspot(payload, portal_id=PORTAL)
    assert payload == before


def test_an_address_is_there_once_whatever_its_spelling() -> None:
    assert [handle.value for handle in contact("contact").handles if handle.kind == "email"] == [
        "ana.example@shop.example",
        "ana@home.example",
    ]


def test_a_national_number_needs_the_region() -> None:
    without = contact_from_hubspot(load("contact"), portal_id=PORTAL)
    assert [handle.value for handle in without.handles if handle.kind == "phone"] == ["+12025550101"]
    assert "+447700900123" in [handle.value for handle in contact("contact").handles]


def test_a_deleted_contact_was_modified_when_it_was_deleted() -> None:
    archived = contact("contact_archived")
    assert archived.deleted
    assert archived.modified_at == datetime(2026, 11, 3, 10, tzinfo=UTC)


@pytest.mark.parametrize("lost", ["id", "properties and updatedAt"])
def test_a_contact_without_id_or_time_is_not_understood(lost: str) -> None:
    payload = load("contact")
    for name in lost.split(" and "):
        del payload[name]
    with pytest.raises(MissingFieldError):
        contact_from_hubspot(payload, portal_id=PORTAL)


def test_a_merge_of_contacts_queues_nothing() -> None:
    moments = {one.written_at.isoformat(timespec="seconds") for one in replies(load("replies"))}
    assert "2026-11-03T12:00:00+00:00" not in moments
    assert len(moments) == 3


def test_a_reply_has_the_words_of_its_moment() -> None:
    texts = [one.text for one in replies(load("replies"))]
    assert texts == ["An older text", "Your order is on its way.\nKind regards", None]


def test_only_people_are_agents() -> None:
    assert [one.author_kind for one in replies(load("replies"))] == ["agent", "agent", "bot"]


def test_an_agent_without_a_name_is_named_by_the_user_id() -> None:
    assert [one.author_name for one in replies(load("replies"))] == ["HubSpot user 9002", "Ada Agent", None]


def test_old_replies_are_left_out() -> None:
    assert len(replies(load("replies"), not_before=datetime(2026, 11, 1, tzinfo=UTC))) == 2


def test_a_text_written_after_the_next_reply_was_queued_is_not_the_first_ones() -> None:
    payload = load("replies")
    payload["propertiesWithHistory"]["onethread_reply_status"] = [
        {"value": "QUEUED", "timestamp": f"2026-11-03T10:00:00.{part}00Z", "sourceType": "CRM_UI"} for part in (5, 1)
    ]
    payload["propertiesWithHistory"]["onethread_reply_text"] = [
        {"value": text, "timestamp": f"2026-11-03T10:00:00.{part}00Z", "sourceType": "CRM_UI"}
        for text, part in (("third", 6), ("second", 5), ("first", 1))
    ]
    assert [one.text for one in replies(payload)] == ["second", "third"]


@pytest.mark.parametrize(
    ("text_at", "template_at", "expected"),
    [(9, 8, ("a text", None)), (8, 9, (None, "a_template")), (9, 9, ("a text", "a_template"))],
    ids=["text newer", "template newer", "one save"],
)
def test_what_is_left_over_from_an_earlier_reply_is_not_sent(
    text_at: int, template_at: int, expected: tuple[str | None, str | None]
) -> None:
    payload = load("replies")
    for name, value, hour in (("text", "a text", text_at), ("template", "a_template", template_at)):
        entry = {"value": value, "timestamp": f"2026-11-03T0{hour}:00:00.000Z", "sourceType": "CRM_UI"}
        payload["propertiesWithHistory"][f"onethread_reply_{name}"] = [entry]
    reply = replies(payload, not_before=datetime(2026, 11, 3, 10, 1, tzinfo=UTC))[0]
    assert (reply.text, reply.template) == expected


def test_a_reply_key_is_the_same_for_every_spelling_of_its_moment() -> None:
    payload = load("replies")
    keys = [one.reply_key for one in replies(payload)]
    for entry in payload["propertiesWithHistory"]["onethread_reply_status"]:
        moment = moment_from_hubspot(entry["timestamp"], "test")
        entry["timestamp"] = str(int(moment.timestamp() * 1000))
    assert [one.reply_key for one in replies(payload)] == keys


@pytest.mark.parametrize("broken", [None, [], {"onethread_reply_status": "QUEUED"}, {"onethread_reply_status": [{}]}])
def test_a_history_of_another_shape_is_not_understood(broken: Any) -> None:
    with pytest.raises(MissingFieldError):
        replies(load("replies") | {"propertiesWithHistory": broken})


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "9" * 30])
def test_what_is_no_time_is_an_error_without_the_value(text: str) -> None:
    with pytest.raises(MissingFieldError) as caught:
        moment_from_hubspot(text, "HubSpot contact 1: timestamp")
    assert not text or text not in str(caught.value)
