"""Infobip's webhooks and conversations as records: golden files, tables, and what the golden files cannot say."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import MissingFieldError, PayloadError, UnknownShapeError
from mappings.from_infobip import InfobipContext, codes, records_from_infobip
from mappings.records import Consent, Handle, Message, MessageChange, Receipt, Record
from taps.webhooks.infobip import split
from taps.webhooks.items import Item
from tests.contract.mapping import check_golden, check_no_golden_is_left_over, fixture_names, load_items, told

OURS, ADA = "+447700900990", "+447700900123"
BUSINESS, OPAQUE = "a42fa0e0-1d5f-44f6-a321-0e40300f7712", "urn:mbid:AQAAYexampleExample/q1IF4WbOLgbiYg="
RECEIVED_AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
SENDERS = (("sms", OURS), ("whatsapp", OURS), ("viber", "Example Shop"), ("apple", BUSINESS))


def split_fixture(body: bytes) -> list[Item]:
    """The items of a fixture: of a delivery, or of a page of a conversation."""
    value = json.loads(body)
    if "messages" not in value:
        return split(body)
    return [
        Item(index, "conversation_message", {"result": row}, f"message:{row['id']}")
        for index, row in enumerate(value["messages"])
    ]


ITEMS = load_items("infobip", split_fixture)


def map_item(item: Item, **more: Any) -> list[Record]:
    given: dict[str, Any] = {"received_at": RECEIVED_AT, "raw_ref": f"delivery:1#{item.index}", "senders": SENDERS}
    return records_from_infobip(item, InfobipContext(**{**given, **more}))


def item_of(name: str, index: int = 0, **changes: Any) -> Item:
    """An item of a fixture, its result changed as told; ``None`` takes a field away."""
    item = copy.deepcopy(ITEMS[name][index])
    result = {**item.payload["result"], **changes}
    result = {name: value for name, value in result.items() if value is not None}
    return Item(item.index, item.kind, {"result": result}, item.key)


def only(records: list[Record], kind: type[Any]) -> Any:
    (record,) = [one for one in records if isinstance(one, kind)]
    return record


def types_in(prefix: str, integration: str) -> set[str]:
    results = [item.payload["result"] for name, items in ITEMS.items() if name.startswith(prefix) for item in items]
    return {one["message"]["type"] for one in results if one.get("integrationType") == integration}


@pytest.mark.parametrize("name", fixture_names("infobip"))
def test_an_event_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("infobip", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("infobip")


def test_every_row_of_the_tables_has_a_fixture() -> None:
    assert types_in("whatsapp", "WHATSAPP") - {"HOLOGRAM"} == {*codes.WHATSAPP_FILES, *codes.WHATSAPP_OTHERS}
    assert types_in("viber_bot", "VIBER_BOT") == set(codes.VIBER_BOT_EVENTS)
    bots = [item.payload["result"]["message"] for item in ITEMS["viber_bot"]]
    assert {one["message"]["type"] for one in bots if "message" in one} == set(codes.VIBER_BOT_MESSAGES)
    assert types_in("apple_answers", "APPLE_BC") == set(codes.APPLE_ANSWERS)
    reports = [item.payload["result"] for items in ITEMS.values() for item in items if item.kind == "report"]
    assert {one["status"]["groupId"] for one in reports} - {9} == set(codes.STATUS_GROUPS)


# -- the parties -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channel", "account", "handles"),
    [("sms", "sms", OURS, [Handle(kind="phone", value=ADA)]),
     ("whatsapp_text", "whatsapp", OURS,
      [Handle(kind="phone", value=ADA), Handle(kind="whatsapp_user", scope=OURS, value="GB.123123123")]),
     ("viber", "viber", "Example Shop", [Handle(kind="phone", value=ADA)]),
     ("viber_bot", "viber", "examplebot",
      [Handle(kind="viber_user", scope="examplebot", value="01234567890AbCdEfGhIjA==")]),
     ("apple", "apple", BUSINESS, [Handle(kind="apple_opaque", scope=BUSINESS, value=OPAQUE)])],
)  # fmt: skip
def test_each_channel_has_its_own_words(name: str, channel: str, account: str, handles: list[Handle]) -> None:
    message = only(map_item(item_of(name)), Message)
    assert (message.channel, message.account, message.handles) == (channel, account, handles)


def test_a_user_id_of_whatsapp_belongs_to_the_portfolio_that_was_set() -> None:
    message = only(map_item(item_of("whatsapp_text"), portfolio_id="300400"), Message)
    assert message.handles[1] == Handle(kind="whatsapp_user", scope="300400", value="GB.123123123")


def test_a_customer_without_a_phone_is_found_by_user_id() -> None:
    message = only(map_item(item_of("whatsapp_without_phone")), Message)
    assert message.handles == [Handle(kind="whatsapp_user", scope=OURS, value="GB.123123123")]


def test_at_apple_only_a_customer_is_called_mbid() -> None:
    good, exchanged = (only(map_item(item_of(name)), Message) for name in ("apple", "apple_exchanged"))
    assert (good.account, good.handles) == (exchanged.account, exchanged.handles)


def test_webhook_and_conversation_are_one_thread() -> None:
    pushed = only(map_item(item_of("sms")), Message)
    listed = only(map_item(item_of("conversation")), Message)
    assert pushed.conversation_key == listed.conversation_key
    assert pushed.message_key != listed.message_key


# -- times -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["2026-03-01T12:00:03.000+0000", "2026-03-01T09:00:03.000-0300", "2026-03-01T12:00:03Z",
     "2026-03-01T13:00:03.000+01:00"],
)  # fmt: skip
def test_an_offset_is_read_with_a_colon_and_without(text: str) -> None:
    message = only(map_item(item_of("sms", receivedAt=text)), Message)
    assert message.sent_at == datetime(2026, 3, 1, 12, 0, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-03-01T12:00:03", "soon", "2026-13-01T12:00:03+0000", "0001-01-01T00:00:00+1400"]
)
def test_what_is_no_time_is_no_time(text: str) -> None:
    with pytest.raises(MissingFieldError, match="receivedAt"):
        map_item(item_of("sms", receivedAt=text))


def test_a_message_without_a_time_counts_from_its_receipt_and_says_so() -> None:
    message = only(map_item(item_of("sms_without_time")), Message)
    assert (message.sent_at, message.flags) == (RECEIVED_AT, ["time_of_receipt"])


# -- consents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "index", "status"),
    [("sms_stop", 0, "opted_out"), ("sms_keyword", 0, "opted_in"), ("whatsapp_stop", 0, "opted_out"),
     ("whatsapp_button", 0, "opted_out"), ("viber", 2, "opted_out"), ("whatsapp_marketing_stop", 0, "opted_out"),
     ("whatsapp_marketing_resume", 0, "opted_in"), ("conversation", 8, "opted_out")],
)  # fmt: skip
def test_a_stop_word_is_about_advertising_alone(name: str, index: int, status: str) -> None:
    consents = [one for one in map_item(item_of(name, index)) if isinstance(one, Consent)]
    assert {(one.purpose, one.status) for one in consents} == {("promotional", status)}


@pytest.mark.parametrize("text", ["YES", "CANCEL the order", "when will it stop?"])
def test_other_words_decide_nothing(text: str) -> None:
    records = map_item(item_of("sms", text=text, cleanText=text))
    assert [one for one in records if isinstance(one, Consent)] == []


# -- reports -----------------------------------------------------------------------------------------------------------


def test_a_report_carries_our_token_back() -> None:
    receipt = only(map_item(item_of("report")), Receipt)
    assert (receipt.status, receipt.reply_token) == ("delivered", "0123456789abcdef0123456789abcdef")
    assert receipt.occurred_at == datetime(2026, 3, 1, 12, 0, 2, tzinfo=UTC)


def test_a_report_that_names_no_sender_is_of_the_one_that_the_channel_has() -> None:
    receipt = only(map_item(item_of("report_whatsapp")), Receipt)
    assert receipt.subject_key == "whatsapp:+447700900990:MESSAGE-1"
    for senders in ((), (("whatsapp", OURS), ("whatsapp", "+447700900991"))):
        with pytest.raises(MissingFieldError, match="senders"):
            map_item(item_of("report_whatsapp"), senders=senders)


@pytest.mark.parametrize(
    ("name", "more", "channel"),
    [("report", {"senders": ()}, "sms"), ("report", {"senders": (("whatsapp", OURS),)}, "whatsapp"),
     ("report", {"report_channel": "viber"}, "viber"), ("report_viber", {}, "viber"), ("report_apple", {}, "apple"),
     ("report_whatsapp", {}, "whatsapp"), ("report_of_the_older_sms_api", {}, "sms")],
)  # fmt: skip
def test_the_channel_of_a_report_is_found(name: str, more: dict[str, Any], channel: str) -> None:
    assert only(map_item(item_of(name), **more), Receipt).channel == channel


def test_messages_of_one_number_on_two_channels_are_told_by_the_routes_channel() -> None:
    item = item_of("report")
    found = {only(map_item(item, report_channel=one), Receipt).channel for one in ("sms", "whatsapp")}
    assert found == {"sms", "whatsapp"}


def test_a_failure_says_what_happened_and_who_must_act() -> None:
    receipts = [only(map_item(item_of("report_failed", index)), Receipt) for index in range(4)]
    assert [(one.status, one.code, one.reason, one.actor) for one in receipts] == [
        ("failed", "27", "Absent Subscriber", "customer"), ("failed", "15", "Message expired", "platform"),
        ("failed", "6", "Network is forbidden", "operator"), ("failed", "512", "Operator error", "platform"),
    ]  # fmt: skip


# -- changes, repeats, secrets -----------------------------------------------------------------------------------------


def test_a_reaction_is_a_change_of_the_message_that_it_is_about() -> None:
    changes = [only(map_item(item_of("whatsapp_reaction", index)), MessageChange) for index in range(2)]
    assert [(one.change, one.emoji) for one in changes] == [("react", "👍"), ("unreact", None)]
    answer = only(map_item(item_of("whatsapp_text", 1)), Message)
    assert {one.message_key for one in changes} == {answer.reply_to_key}


def test_the_code_of_an_authentication_is_never_kept() -> None:
    assert "never-kept" not in json.dumps(
        [one.model_dump(mode="json") for one in map_item(item_of("apple_answers", 2))]
    )


def test_no_message_disappears() -> None:
    for name, items in ITEMS.items():
        for item in items:
            if item.kind != "message" or name in {"live_chat", "viber_bot", "whatsapp_reaction"}:
                continue
            if item.payload["result"].get("message", {}).get("type") != "TYPING_INDICATOR":
                assert only(map_item(item), Message)


def test_a_channel_that_is_not_read_is_an_error_that_names_it() -> None:
    with pytest.raises(UnknownShapeError, match="LIVE_CHAT"):
        map_item(item_of("live_chat"))


def test_the_order_of_results_changes_no_record() -> None:
    results = json.loads(json.dumps([item.payload["result"] for item in ITEMS["viber"]]))
    sets = []
    for order in list(permutations(results))[:6]:
        items = split(json.dumps({"results": order}).encode())
        sets.append({json.dumps(one.model_dump(mode="json", exclude={"raw_ref"}), sort_keys=True)
                     for item in items for one in map_item(item)})  # fmt: skip
    assert all(one == sets[0] for one in sets)


WRONG = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just([]), st.just({}),
    st.just([None]), st.just("\ud83d"), st.integers(min_value=2**64),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_wrong_value_anywhere_spoils_no_more_than_its_own_event(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(ITEMS)))
    item = copy.deepcopy(data.draw(st.sampled_from(ITEMS[name])))
    node: Any = item.payload["result"]
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else list(range(len(node)))))
        child = node[key]
        if not isinstance(child, dict | list) or not child or data.draw(st.booleans()):
            node[key] = data.draw(WRONG)
            break
        node = child
    try:
        records = map_item(item)
    except PayloadError:
        return
    for record in records:
        record.model_dump_json()
