"""Apple's messages as records: golden files, tables, and what the golden files cannot say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import MissingFieldError, PayloadError
from mappings.from_apple import ANSWERS, AppleContext, records_from_apple
from mappings.records import Consent, Handle, Message, Record
from taps.webhooks.apple import split
from taps.webhooks.items import Item
from tests.contract.mapping import check_golden, check_no_golden_is_left_over, fixture_names, load_items, told

RECEIVED_AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
DEVICE = {"capability-list": "LIST,TIME,QUICK", "device-agent": "iPhone OS", "id": "not kept"}
ITEMS = load_items("apple", lambda body: split(body, DEVICE))


def map_item(item: Item) -> list[Record]:
    return list(records_from_apple(item, AppleContext(received_at=RECEIVED_AT, raw_ref=f"delivery:1#{item.index}")))


def changed(name: str = "text", **message: Any) -> Item:
    item = ITEMS[name][0]
    return Item(0, item.kind, {**item.payload, "message": {**item.payload["message"], **message}}, item.key)


def message_of(item: Item) -> Message:
    (message,) = [one for one in map_item(item) if isinstance(one, Message)]
    return message


def decisions(records: list[Record]) -> dict[str, str]:
    return {one.purpose: one.status for one in records if isinstance(one, Consent)}


@pytest.mark.parametrize("name", fixture_names("apple"))
def test_an_event_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("apple", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("apple")


def test_every_kind_of_answer_has_a_fixture() -> None:
    said = [item.payload["message"].get("interactiveData") or {} for items in ITEMS.values() for item in items]
    assert {name for one in said for name in one.get("data") or {}} >= set(ANSWERS)


def test_no_key_and_no_token_gets_into_a_record() -> None:
    text = json.dumps([told(items, map_item) for items in ITEMS.values()])
    assert "SECRET" not in text
    assert "0f0f0f0f" not in text
    assert "0e0e0e0e" not in text
    assert "gaurq" not in text


def test_the_account_is_the_business_and_the_customer_is_known_to_it_alone() -> None:
    message = message_of(ITEMS["text"][0])
    business, customer = (ITEMS["text"][0].payload["message"][name] for name in ("destinationId", "sourceId"))
    assert (message.channel, message.account) == ("apple", business)
    assert message.handles == [Handle(kind="apple_opaque", scope=business, value=customer)]


def test_a_message_counts_from_its_receipt_and_says_so() -> None:
    message = message_of(ITEMS["text"][0])
    assert (message.sent_at, message.flags) == (RECEIVED_AT, ["time_of_receipt"])


def test_words_keep_everything_but_the_places_of_files() -> None:
    assert message_of(changed(body=" \ufffc kept ")).text == " \ufffc kept "
    assert message_of(changed("picture", body="\ufffclook \ufffc")).text == "look"


@pytest.mark.parametrize(
    ("size", "expected"),
    [("12", 12), (12, 12), ("x", None), (None, None), (-1, None), (True, None), ("9" * 40, None), (1.5, None)],
)
def test_a_size_is_a_number_or_its_digits(size: Any, expected: int | None) -> None:
    file = {**ITEMS["picture"][0].payload["message"]["attachments"][0], "size": size}
    assert message_of(changed("picture", attachments=[file])).attachments[0].size_bytes == expected


@pytest.mark.parametrize("wrong", [{"sourceId": None}, {"destinationId": ""}, {"id": 5}, {"body": {}},
                                   {"attachments": {}}, {"attachments": ["x"]}])  # fmt: skip
def test_a_message_without_what_it_needs_is_parked(wrong: dict[str, Any]) -> None:
    with pytest.raises(MissingFieldError):
        map_item(changed(**wrong))


# -- who may be answered -----------------------------------------------------------------------------------------------


def test_whoever_writes_may_be_answered_and_whoever_closes_may_not() -> None:
    assert decisions(map_item(ITEMS["text"][0])) == {"service": "opted_in"}
    assert decisions(map_item(ITEMS["quick_reply"][0])) == {"service": "opted_in"}
    assert decisions(map_item(ITEMS["close"][0])) == {"service": "opted_out", "promotional": "opted_out"}


@pytest.mark.parametrize("name", ["text_stop", "quick_reply_stop"])
def test_stop_is_about_advertising(name: str) -> None:
    assert decisions(map_item(ITEMS[name][0])) == {"service": "opted_in", "promotional": "opted_out"}


@pytest.mark.parametrize("body", ["please stop", "Loved “STOP”"])
def test_stop_in_a_sentence_decides_nothing_more(body: str) -> None:
    assert decisions(map_item(changed(body=body))) == {"service": "opted_in"}


def test_stop_under_a_picture_decides_nothing_more() -> None:
    assert decisions(map_item(changed("picture", body="\ufffcSTOP"))) == {"service": "opted_in"}


# -- hostile values ----------------------------------------------------------------------------------------------------

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_a_message_the_mapping_gives_records_or_says_why_not(data: st.DataObject) -> None:
    item = data.draw(st.sampled_from([item for name in sorted(ITEMS) for item in ITEMS[name]]))
    payload = json.loads(json.dumps(item.payload))
    nodes: list[Any] = [payload]
    for node in nodes:
        children = node.values() if isinstance(node, dict) else node
        nodes += [child for child in children if isinstance(child, dict | list)]
    part = data.draw(st.sampled_from([node for node in nodes if isinstance(node, dict) and node]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(_VALUES)
    try:
        records = map_item(Item(item.index, item.kind, payload, item.key))
    except PayloadError:
        return
    for record in records:
        record.model_dump_json().encode()
