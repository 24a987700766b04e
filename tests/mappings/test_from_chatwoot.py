"""Chatwoot's webhooks and conversations as records: golden files, tables, and what the golden files cannot say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import MissingFieldError, PayloadError
from mappings.fold import fold_message, join_sightings
from mappings.from_chatwoot import ChatwootContext, codes, moment_of_chatwoot, records_from_chatwoot
from mappings.records import Consent, Evidence, Handle, Message, Receipt, Record
from taps.webhooks.chatwoot import items_of_conversation, items_of_message, numbered, split, without_messages
from taps.webhooks.items import Item
from tests.contract.mapping import (
    check_golden,
    check_no_golden_is_left_over,
    fixture_names,
    load_delivery,
    load_items,
    told,
)

RECEIVED_AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
ACCOUNT = "chat.shop.example/2"


def split_fixture(body: bytes) -> list[Item]:
    """The items of a webhook, or of a conversation as the API tells it."""
    value = json.loads(body)
    if "messages" not in value or "event" in value:
        return split(body)
    around = {"event": None, "account": {"id": 2}, "inbox": None}
    conversation = without_messages(value["conversation"])
    items = items_of_conversation(conversation, around)
    for message in value["messages"]:
        items += items_of_message(message, conversation, around, created=True, listed=True)
    return numbered(items)


ITEMS = load_items("chatwoot", split_fixture)


def map_item(item: Item, **more: Any) -> list[Record]:
    named = {"installation": "chat.shop.example", "verified_by": "identifier", **more}
    return records_from_chatwoot(
        item, ChatwootContext(received_at=RECEIVED_AT, raw_ref=f"delivery:1#{item.index}", **named)
    )


def changed(name: str = "incoming", **message: Any) -> Item:
    item = ITEMS[name][0]
    return Item(0, item.kind, {**item.payload, "message": {**item.payload["message"], **message}}, item.key)


def only(records: list[Record], kind: type[Any]) -> Any:
    (record,) = [one for one in records if isinstance(one, kind)]
    return record


@pytest.mark.parametrize("name", fixture_names("chatwoot"))
def test_an_event_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("chatwoot", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("chatwoot")


def test_every_row_of_the_tables_has_a_fixture() -> None:
    messages = [one.payload["message"] for items in ITEMS.values() for one in items if one.payload.get("message")]
    seen = {name: {one.get(name) for one in messages} for name in ("message_type", "content_type", "status")}
    files = {one["file_type"] for message in messages for one in message.get("attachments") or []}
    assert seen["message_type"] - {"whispered", None} == set(codes.MESSAGE_TYPES)
    assert seen["content_type"] - {"hologram", None} == set(codes.CONTENT_TYPES)
    assert {"sent", "delivered", "read", "failed"} <= seen["status"]
    assert files - {"location", "contact", "fallback"} == set(codes.FILE_TYPES)


# -- private notes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["private_note", "private_note_updated"])
def test_a_private_note_never_becomes_a_record(name: str) -> None:
    assert [item.kind for item in ITEMS[name]] == ["private_note"]
    assert [record for item in ITEMS[name] for record in map_item(item)] == []


@pytest.mark.parametrize("value", ["yes", "true", 1, [], {}])
def test_a_message_that_may_be_private_is_parked(value: Any) -> None:
    with pytest.raises(MissingFieldError, match="private"):
        map_item(changed(private=value))


def test_the_other_message_that_stands_in_a_conversation_is_left_out() -> None:
    assert b"an older message" in load_delivery("chatwoot", "incoming")
    assert "an older message" not in json.dumps([item.payload for item in ITEMS["incoming"]])


# -- which inboxes -----------------------------------------------------------------------------------------------------


def test_inboxes_of_other_platforms_are_not_read_unless_they_are_named() -> None:
    item = ITEMS["whatsapp_inbox"][0]
    assert map_item(item) == []
    assert only(map_item(item, inboxes=frozenset({"9"})), Message).channel == "webchat"
    assert map_item(ITEMS["incoming"][0], inboxes=frozenset({"9"})) == []


def test_a_webhook_and_the_api_tell_one_message_of_one_thread() -> None:
    webhook = only(map_item(ITEMS["incoming"][0]), Message)
    listed = only(map_item(ITEMS["listed"][1], seen_by="poll"), Message)
    same = ("message_key", "conversation_key", "account", "handles", "text", "direction", "kind", "origin_detail")
    assert [getattr(webhook, name) for name in same] == [getattr(listed, name) for name in same]
    assert webhook.message_key == "webchat:chat.shop.example%2F2:654"
    assert webhook.conversation_key == "webchat:chat.shop.example%2F2:7"
    assert webhook.handles == [Handle(kind="chatwoot_contact", scope=ACCOUNT, value="4")]
    assert ITEMS["incoming"][0].key == ITEMS["listed"][1].key


def test_another_installation_has_other_people() -> None:
    one, other = (
        only(map_item(ITEMS["incoming"][0], installation=name), Message) for name in ("a.example", "b.example")
    )
    assert one.handles != other.handles
    assert one.message_key != other.message_key


# -- who it is ---------------------------------------------------------------------------------------------------------


def evidence(name: str, **more: Any) -> dict[str, str]:
    records = [record for item in ITEMS[name] for record in map_item(item, **more)]
    return {one.handles[1].value: one.strength for one in records if isinstance(one, Evidence)}


MIA, PHONE = "mia.rossi@mail.example", "+12025550101"


@pytest.mark.parametrize(
    ("verified_by", "expected"),
    [("none", {MIA: "claimed", PHONE: "claimed"}), ("identifier", {MIA: "verified", PHONE: "claimed"}),
     ("all", {MIA: "verified", PHONE: "verified"})],
)  # fmt: skip
def test_a_signed_identity_is_worth_what_the_operator_says(verified_by: str, expected: dict[str, str]) -> None:
    assert evidence("incoming_verified", verified_by=verified_by) == expected


def test_an_address_beside_a_signed_identifier_is_what_a_browser_said() -> None:
    assert evidence("incoming_claimed") == {"somebody@mail.example": "claimed"}


def test_without_a_signature_nothing_is_verified() -> None:
    item = ITEMS["incoming_verified"][1]
    meta = {**item.payload["conversation"]["meta"], "hmac_verified": False}
    unsigned = {**item.payload, "conversation": {**item.payload["conversation"], "meta": meta}}
    records = map_item(Item(1, "contact", unsigned, "x"), verified_by="all")
    assert {one.strength for one in records if isinstance(one, Evidence)} == {"claimed"}


@pytest.mark.parametrize("value", ["yes", 1, "true", {}])
def test_only_a_plain_true_verifies(value: Any) -> None:
    item = ITEMS["incoming_verified"][1]
    meta = {**item.payload["conversation"]["meta"], "hmac_verified": value}
    wrong = {**item.payload, "conversation": {**item.payload["conversation"], "meta": meta}}
    records = map_item(Item(1, "contact", wrong, "x"), verified_by="all")
    assert {one.strength for one in records if isinstance(one, Evidence)} == {"claimed"}


def test_a_message_links_nobody_by_itself() -> None:
    message = only(map_item(ITEMS["incoming_verified"][0]), Message)
    assert [one.kind for one in message.handles] == ["chatwoot_contact"]


def test_a_number_in_national_spelling_is_no_phone() -> None:
    item = ITEMS["contact_updated"][0]
    contact = {**item.payload["contact"], "phone_number": "202 555 0104", "identifier": "2025550104", "email": None}
    assert map_item(Item(0, "contact", {**item.payload, "contact": contact}, "x")) == []


# -- words and times ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "status"), [("STOP", "opted_out"), ("start", "opted_in"), ("do not stop", None)])
def test_stop_alone_is_about_advertising(text: str, status: str | None) -> None:
    consents = [one for one in map_item(changed(content=text)) if isinstance(one, Consent)]
    assert [(one.purpose, one.status) for one in consents] == ([("promotional", status)] if status else [])


def test_stop_from_an_agent_decides_nothing() -> None:
    assert len(map_item(changed("agent", content="STOP"))) == 1


@pytest.mark.parametrize(
    "value",
    [1772366403, "1772366403", 1772366403000, "2026-03-01T12:00:03Z", "2026-03-01T12:00:03.000Z",
     "2026-03-01T14:00:03+02:00", "2026-03-01T07:00:03-0500", "2026-03-01 12:00:03 UTC"],
)  # fmt: skip
def test_a_time_is_read_as_utc_however_it_is_written(value: Any) -> None:
    assert moment_of_chatwoot(value, "created_at", "test") == datetime(2026, 3, 1, 12, 0, 3, tzinfo=UTC)


@pytest.mark.parametrize("value", [None, "", "soon", "2026-03-01", "2026-13-01T12:00:03Z", "2026-03-01T12:00:03",
                                   "9999-12-31T23:59:59-23:00", 0, -1, 1.5, True, {}, [], 10**30])  # fmt: skip
def test_a_time_that_is_none_parks_the_message(value: Any) -> None:
    with pytest.raises(MissingFieldError, match="created_at"):
        map_item(changed(created_at=value))


@pytest.mark.parametrize("value", ["soon", {}, -1])
def test_another_systems_wrong_time_costs_nothing(value: Any) -> None:
    message = only(map_item(changed(content_attributes={"external_created_at": value})), Message)
    assert message.sent_at == datetime(2026, 3, 1, 12, 0, 0, 449000, tzinfo=UTC)


@pytest.mark.parametrize("value", ["654", None, True, 0, [654], {"id": 654}])
def test_what_is_no_message_number_is_no_reply(value: Any) -> None:
    assert only(map_item(changed(content_attributes={"in_reply_to": value})), Message).reply_to_key is None


@given(order=st.permutations([0, 1, 2]))
def test_message_and_sightings_fold_to_one_in_any_order(order: list[int]) -> None:
    sightings = [
        only(map_item(ITEMS["incoming"][0]), Message),
        only(map_item(ITEMS["listed"][1], seen_by="poll"), Message),
        only(map_item(ITEMS["incoming"][0]), Message),
    ]
    folded = fold_message(join_sightings([sightings[number] for number in order]))
    assert folded == fold_message(join_sightings(sightings))


@given(order=st.permutations(["sent", "delivered", "read", "delivered"]))
def test_a_status_never_goes_back(order: list[str]) -> None:
    template = next(item for item in ITEMS["listed"] if item.kind == "status")
    messages = [{**template.payload["message"], "status": status} for status in order]
    receipts = [
        only(map_item(Item(0, "status", {**template.payload, "message": one}, "x")), Receipt) for one in messages
    ]
    sent = only(map_item(ITEMS["agent"][0]), Message)
    assert fold_message([sent], receipts=receipts).status == "read"


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_a_payload_the_mapping_gives_records_or_says_why_not(data: st.DataObject) -> None:
    item = data.draw(st.sampled_from([item for name in sorted(ITEMS) for item in ITEMS[name]]))
    payload = json.loads(json.dumps(item.payload))
    nodes = [payload]
    for node in nodes:
        nodes += [child for child in node.values() if isinstance(child, dict)]
    part = data.draw(st.sampled_from([node for node in nodes if node]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(_VALUES)
    try:
        records = map_item(Item(item.index, item.kind, payload, item.key))
    except PayloadError:
        return
    for record in records:
        record.model_dump_json().encode()
