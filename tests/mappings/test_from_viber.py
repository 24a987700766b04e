"""Viber webhooks as records: golden files for every kind of event, tables, and what the golden files cannot say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from mappings.errors import MissingFieldError
from mappings.from_viber import IGNORED, MESSAGE_KINDS, STATUSES, ViberContext, records_from_viber
from mappings.records import Consent, Evidence, Handle, Message, Receipt, Record
from taps.webhooks.items import Item
from taps.webhooks.viber import split
from tests.contract.mapping import (
    check_golden,
    check_no_golden_is_left_over,
    check_spoiled,
    fixture_names,
    load_items,
    spoiled_items,
    told,
)

RECEIVED_AT = datetime(2026, 3, 1, 12, 5, 5, tzinfo=UTC)
ITEMS = load_items("viber", split)
BOT, ADA = "pa:75346594275468546724", "01234567890AbCdEfGhIjA=="


def map_item(item: Item, **more: Any) -> list[Record]:
    context = ViberContext(received_at=RECEIVED_AT, raw_ref=f"delivery:1#{item.index}", account=BOT, **more)
    return records_from_viber(item, context)


def event_item(kind: str = "message", **event: Any) -> Item:
    """An item of a text, changed as told; ``None`` takes a field away."""
    whole = {"event": kind, "timestamp": 1772366400000, "message_token": 1, "sender": {"id": ADA, "name": "Ada"},
             "message": {"type": "text", "text": "Hello"}, **event}  # fmt: skip
    return Item(0, kind, {"event": {name: value for name, value in whole.items() if value is not None}}, "x")


def message_item(**message: Any) -> Item:
    return event_item(message={"type": "text", "text": "Hello", **message})


def only(records: list[Record], kind: type[Any]) -> Any:
    (record,) = [one for one in records if isinstance(one, kind)]
    return record


@pytest.mark.parametrize("name", fixture_names("viber"))
def test_a_delivery_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("viber", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("viber")


def test_every_row_of_the_tables_has_a_fixture() -> None:
    items = [item for found in ITEMS.values() for item in found]
    types = {item.payload["event"]["message"]["type"] for item in items if item.kind == "message"}
    assert types - {"hologram"} == set(MESSAGE_KINDS)
    assert {item.kind for item in items} >= set(STATUSES) | IGNORED


@pytest.mark.parametrize("token", [4912661846655238145, "4912661846655238145"])
def test_a_token_is_kept_digit_by_digit(token: Any) -> None:
    message = only(map_item(event_item(message_token=token)), Message)
    assert message.message_key.endswith(":4912661846655238145")


@pytest.mark.parametrize("token", [None, "", 4.912661846655238e18, -1, 2**64, True, [], "12a", "1" * 21])
def test_a_token_that_is_none_parks_the_message(token: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(event_item(message_token=token))


@pytest.mark.parametrize("wrong", [None, "", "0", 0, -5, 1.5, True, [], 4987034606158369000])
def test_a_time_that_is_none_parks_the_message(wrong: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(event_item(timestamp=wrong))


def test_a_time_far_ahead_of_ours_is_kept_and_flagged() -> None:
    message = only(map_item(event_item(timestamp=1803902400000)), Message)
    assert (message.sent_at.year, message.flags) == (2027, ["clock_ahead"])


@pytest.mark.parametrize("sender", [None, {}, {"name": "Ada"}, {"id": 3}, {"id": ""}, "Ada", []])
def test_an_event_that_names_nobody_is_parked(sender: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(event_item(sender=sender))


def test_ids_of_two_bots_never_meet() -> None:
    keys = set()
    for account in ("pa:1", "pa:2"):
        context = ViberContext(received_at=RECEIVED_AT, raw_ref="delivery:1#0", account=account)
        keys |= {only(records_from_viber(event_item(), context), Message).handles[0].key}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("contact", "method", "kinds"),
    [
        ({"name": "Ada", "phone_number": "+447700900123"}, "shared_phone", ["viber_user", "phone"]),
        ({"phone_number": "447700900123"}, "shared_phone", ["viber_user", "phone"]),
        ({"name": "Bo", "phone_number": "+447700900123"}, "contact_card", ["phone"]),
    ],
)
def test_a_shared_contact_is_never_more_than_a_claim(contact: dict[str, str], method: str, kinds: list[str]) -> None:
    evidence = only(map_item(message_item(type="contact", contact=contact)), Evidence)
    assert (evidence.strength, evidence.method) == ("claimed", method)
    assert [handle.kind for handle in evidence.handles] == kinds
    assert evidence.handles[-1] == Handle(kind="phone", value="+447700900123")


def test_a_number_in_national_notation_needs_the_default_region() -> None:
    item = ITEMS["contact_without_country_code"][0]
    assert [type(record) for record in map_item(item)] == [Message]
    evidence = only(map_item(item, default_region="GB"), Evidence)
    assert evidence.handles == [Handle(kind="phone", value="+447700900456")]


@pytest.mark.parametrize("number", ["", "0", "call me", "1" * 200])
def test_a_number_that_is_none_makes_no_evidence_and_costs_no_message(number: str) -> None:
    item = message_item(type="contact", contact={"name": "Bo", "phone_number": number})
    assert [type(record) for record in map_item(item)] == [Message]


@pytest.mark.parametrize(("lat", "lon"), [(91, 0), (0, -181), (1e308, 0), ("1", 0), (None, 0), (True, 0)])
def test_a_place_outside_the_world_parks_the_message(lat: Any, lon: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(message_item(type="location", location={"lat": lat, "lon": lon}))


@pytest.mark.parametrize(("text", "status"), [("STOP", "opted_out"), ("Stop!", "opted_out"), ("START", "opted_in")])
def test_a_word_alone_decides_about_advertising(text: str, status: str) -> None:
    records = map_item(message_item(text=text))
    consent = only(records, Consent)
    assert (consent.status, consent.purpose, consent.source) == (status, "promotional", "keyword")
    assert consent.source_message_key == only(records, Message).message_key


@pytest.mark.parametrize(
    "message", [{"text": "please stop"}, {"type": "picture", "media": "https://x.example", "text": "STOP"}]
)
def test_a_word_in_a_sentence_or_under_a_picture_decides_nothing(message: dict[str, str]) -> None:
    assert [type(record) for record in map_item(message_item(**message))] == [Message]


def test_leaving_declines_advertising_and_not_answers() -> None:
    consent = only(map_item(ITEMS["unsubscribed"][0]), Consent)
    assert (consent.status, consent.purpose, consent.source) == ("opted_out", "promotional", "unsubscribed")


@pytest.mark.parametrize("name", ["conversation_started", "subscribed"])
def test_opening_the_chat_and_subscribing_allow_nothing_and_are_no_word_of_the_customer(name: str) -> None:
    records = map_item(ITEMS[name][0])
    assert [type(record) for record in records] == [Message]
    assert only(records, Message).author_kind == "system"


def test_a_receipt_is_about_the_message_with_that_token() -> None:
    ours = only(map_item(event_item(message_token=4987381189870374000)), Message)
    receipts = [only(map_item(ITEMS[name][0]), Receipt) for name in ("delivered", "seen")]
    assert {receipt.subject_key for receipt in receipts} == {ours.message_key}
    assert [receipt.status for receipt in receipts] == ["delivered", "read"]


def test_the_ping_with_its_garbage_for_a_time_is_no_record_and_no_error() -> None:
    assert map_item(ITEMS["webhook"][0]) == []


def test_text_is_kept_as_written_save_what_cannot_be_stored() -> None:
    body = '=HYPERLINK("x") {{ secret }} <b>\u202e \0 \ud800 a\u0301'
    kept = body.replace("\0", "\ufffd").replace("\ud800", "\ufffd")
    assert only(map_item(message_item(text=body)), Message).text == kept


def test_a_name_loses_what_could_deceive_a_reader() -> None:
    sender = {"id": ADA, "name": "Ada\u202e\u200b\r\nBcc: x" + "y" * 500}
    name = only(map_item(event_item(sender=sender)), Message).author_name
    assert name.startswith("Ada Bcc: x")
    assert len(name) == 200


def test_an_error_never_tells_what_the_payload_held() -> None:
    with pytest.raises(MissingFieldError) as caught:
        map_item(message_item(text=["+447700900999 secret"]))
    assert "secret" not in str(caught.value)


@settings(max_examples=400, deadline=None)
@given(item=spoiled_items(ITEMS))
def test_whatever_stands_in_a_payload_the_mapping_gives_records_or_says_why_not(item: Item) -> None:
    check_spoiled(item, map_item)
