"""WeCom's messages and events as records: golden files, tables, and what the golden files cannot say."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import MissingFieldError, PayloadError, UnknownShapeError
from mappings.from_wecom import (
    FAILURES,
    FILES,
    IGNORED,
    ORIGINS,
    SHARES,
    WeComContext,
    customer_from_wecom,
    records_from_wecom,
)
from mappings.records import Consent, Handle, Message, MessageChange, Receipt, Record
from taps.webhooks.items import Item
from taps.webhooks.wecom import split
from tests.contract.mapping import (
    FIXTURES,
    check_golden,
    check_no_golden_is_left_over,
    fixture_names,
    load_items,
    told,
)

RECEIVED_AT = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
CORP = "ww12345678910"


def entry_of(body: bytes) -> list[Item]:
    """A fixture as the tap makes it of an element of a page."""
    message = json.loads(body)
    return [Item(0, "message", {"message": message}, message["msgid"])]


ITEMS = load_items("wecom", entry_of)
CONTEXT = WeComContext(received_at=RECEIVED_AT, raw_ref="poll:1", corp_id=CORP)


def map_item(item: Item) -> list[Record]:
    return records_from_wecom(item, CONTEXT)


def changed(name: str, **fields: Any) -> Item:
    """A fixture with some fields changed; ``None`` takes one away."""
    (item,) = copy.deepcopy(ITEMS[name])
    for field, value in fields.items():
        item.payload["message"].pop(field, None)
        if value is not None:
            item.payload["message"][field] = value
    return item


def only(records: list[Record], kind: type[Any]) -> Any:
    (record,) = [one for one in records if isinstance(one, kind)]
    return record


@pytest.mark.parametrize("name", fixture_names("wecom"))
def test_an_entry_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("wecom", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("wecom")


def test_every_type_of_the_tables_has_a_fixture() -> None:
    seen = {item.payload["message"]["msgtype"] for (item,) in ITEMS.values()}
    assert seen >= {*FILES, *SHARES}
    assert {item.payload["message"]["origin"] for (item,) in ITEMS.values()} - {7} == set(ORIGINS)


def test_every_ignored_event_has_a_fixture() -> None:
    assert {
        item.payload["message"]["event"]["event_type"] for (item,) in ITEMS.values() if map_or_none(item) == []
    } == set(IGNORED)


def map_or_none(item: Item) -> list[Record] | None:
    try:
        return map_item(item)
    except PayloadError:
        return None


def test_the_bell_itself_gives_no_record() -> None:
    (bell,) = split((FIXTURES / "wecom" / "bell.xml").read_bytes())
    assert (bell.kind, map_item(bell)) == ("bell", [])


@pytest.mark.parametrize(
    ("xml", "known"),
    [({"Event": "kf_account_auth_change"}, True), ({"MsgType": "text", "Content": "a colleague"}, False), ({}, False)],
)
def test_what_else_comes_to_the_callback_is_known_or_parked(xml: dict[str, str], known: bool) -> None:
    item = Item(0, "other", {"xml": xml}, "x")
    if known:
        assert map_item(item) == []
    else:
        with pytest.raises(UnknownShapeError, match="another application"):
            map_item(item)


@pytest.mark.parametrize("fail_type", [*map(int, FAILURES), 99])
def test_a_failure_names_the_reason_and_who_must_act(fail_type: int) -> None:
    item = changed("send_failed")
    item.payload["message"]["event"]["fail_type"] = fail_type
    receipt = only(map_item(item), Receipt)
    assert (receipt.status, receipt.code) == ("failed", str(fail_type))
    assert (receipt.reason, receipt.actor) == FAILURES.get(str(fail_type), FAILURES["0"])


def test_only_an_id_of_our_own_shape_is_kept_as_our_token() -> None:
    tokens = [only(map_item(ITEMS[name][0]), Receipt).reply_token
              for name in ("send_failed", "send_failed_for_unknown_reason")]  # fmt: skip
    assert tokens == ["0123456789abcdef0123456789abcdef", None]


def test_a_recall_belongs_to_the_message_that_it_names() -> None:
    message = only(map_item(ITEMS["text"][0]), Message)
    change = only(map_item(ITEMS["recalled_by_customer"][0]), MessageChange)
    assert (change.change, change.author_kind) == ("unsend", "customer")
    assert (change.message_key, change.conversation_key) == (message.message_key, message.conversation_key)


def test_a_recall_that_comes_again_under_another_id_is_the_same_change() -> None:
    first, again = (
        only(map_item(changed("recalled_by_customer", msgid=msgid)), MessageChange) for msgid in ("event-1", "event-2")
    )
    assert first.change_key == again.change_key


def test_what_the_staff_wrote_is_outbound_and_decides_nothing() -> None:
    item = changed("text_stop", origin=5, servicer_userid="ZhangSan")
    (message,) = map_item(item)
    assert isinstance(message, Message)
    assert (message.direction, message.author_kind, message.content) == (
        "outbound",
        "agent",
        {"servicer_userid": "ZhangSan"},
    )


def test_entering_the_chat_asks_nothing() -> None:
    assert only(map_item(ITEMS["enter_session"][0]), Message).author_kind == "system"


@pytest.mark.parametrize(("text", "status"), [("STOP", "opted_out"), ("stop.", "opted_out"), ("START", "opted_in")])
def test_a_word_alone_decides_about_advertising(text: str, status: str) -> None:
    consent = only(map_item(changed("text", text={"content": text})), Consent)
    assert (consent.status, consent.source) == (status, "keyword")


@pytest.mark.parametrize("wrong", [None, "", 0, -5, 1.5, True, "1e9", [], 253402300800_000])
def test_a_time_that_is_none_parks_the_entry(wrong: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(changed("text", send_time=wrong))


@pytest.mark.parametrize("field", ["open_kfid", "external_userid", "msgid", "msgtype", "text"])
@pytest.mark.parametrize("wrong", [None, "", 7, [], {}])
def test_a_field_that_is_needed_and_wrong_parks_the_entry(field: str, wrong: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(changed("text", **{field: wrong}))


@pytest.mark.parametrize("wrong", ["3", None, 3.5, 3.0, [3], True, 0])
def test_an_origin_that_is_not_known_parks_the_entry(wrong: Any) -> None:
    with pytest.raises(UnknownShapeError):
        map_item(changed("text", origin=wrong))


def test_the_union_id_is_evidence_in_the_scope_of_the_open_platform() -> None:
    row = {"external_userid": "wmMia", "nickname": "Mia\u202e Chen", "avatar": "", "gender": 2, "unionid": "oUnionMia"}
    evidence = customer_from_wecom(row, CONTEXT, open_platform_id="our platform")
    assert evidence is not None
    assert (evidence.method, evidence.strength) == ("unionid", "verified")
    assert evidence.handles == [
        Handle(kind="wecom_external_user", scope=CORP, value="wmMia"),
        Handle(kind="wechat_unionid", scope="our platform", value="oUnionMia"),
    ]
    assert evidence.profile is not None
    assert evidence.profile.name == "Mia Chen"


def test_a_customer_of_whom_nothing_is_told_is_no_evidence() -> None:
    row = {"external_userid": "wmBo", "nickname": "", "avatar": "", "gender": 0}
    assert customer_from_wecom(row, CONTEXT, open_platform_id=None) is None


def test_a_name_alone_links_nobody() -> None:
    evidence = customer_from_wecom({"external_userid": "wmBo", "nickname": "Bo"}, CONTEXT, open_platform_id=None)
    assert evidence is not None
    assert (evidence.method, len(evidence.handles)) == ("profile", 1)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    return [path, *(deeper for name, child in children for deeper in _paths(child, (*path, name)))]


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_an_entry_the_mapping_gives_records_or_says_why_not(data: st.DataObject) -> None:
    (item,) = copy.deepcopy(ITEMS[data.draw(st.sampled_from(sorted(ITEMS)))])
    path = data.draw(st.sampled_from(_paths(item.payload)[1:]))
    holder: Any = item.payload
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = data.draw(_VALUES)
    try:
        records = map_item(item)
    except PayloadError:
        return
    for record in records:
        record.model_dump_json().encode()
