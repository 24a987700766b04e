"""WeChat's messages and events as records: golden files, tables, and what the golden files cannot say."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import MissingFieldError, PayloadError, UnknownShapeError
from mappings.from_wechat import (
    FILES,
    IGNORED,
    TEMPLATE_STATUSES,
    UNSUPPORTED_TEXTS,
    WeChatContext,
    records_from_wechat,
    user_from_wechat,
)
from mappings.records import Consent, Evidence, Handle, Message, Receipt, Record
from taps.webhooks.items import Item
from taps.webhooks.wechat import split
from tests.contract.mapping import FIXTURES, GOLDEN, check_golden, told

RECEIVED_AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
FOLDER: Path = FIXTURES / "wechat"
ITEMS = {path.stem: split(path.read_bytes()) for path in sorted(FOLDER.glob("*.xml"))}
USERS: dict[str, dict[str, Any]] = json.loads((FOLDER / "users.json").read_text(encoding="utf-8"))
MIA = Handle(kind="wechat_openid", scope="gh_5a4db0c00001", value="oMia0000000000000000000000001")


def map_item(item: Item) -> list[Record]:
    return records_from_wechat(item, WeChatContext(received_at=RECEIVED_AT, raw_ref=f"delivery:1#{item.index}"))


def changed(name: str, **fields: Any) -> Item:
    """A fixture with some elements changed; ``None`` takes one away."""
    (item,) = copy.deepcopy(ITEMS[name])
    for field, value in fields.items():
        item.payload["xml"].pop(field, None)
        if value is not None:
            item.payload["xml"][field] = value
    return item


def only(records: list[Record], kind: type[Any]) -> Any:
    (record,) = [one for one in records if isinstance(one, kind)]
    return record


@pytest.mark.parametrize("name", sorted(ITEMS))
def test_a_delivery_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("wechat", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    assert {path.stem for path in (GOLDEN / "wechat").glob("*.json")} == set(ITEMS)


def test_every_file_type_of_the_table_has_a_fixture() -> None:
    assert set(FILES) < {item.payload["xml"].get("MsgType") for (item,) in ITEMS.values()}


@pytest.mark.parametrize("event", sorted(IGNORED))
@pytest.mark.parametrize("write", [str.lower, str.upper])
def test_an_event_of_the_table_gives_no_record_however_it_is_written(event: str, write: Any) -> None:
    assert map_item(changed("click", Event=write(event))) == []


@pytest.mark.parametrize("status", sorted(TEMPLATE_STATUSES))
def test_every_outcome_of_a_template_message_is_a_receipt(status: str) -> None:
    receipt = only(map_item(changed("template_delivered", Status=status)), Receipt)
    assert (receipt.status, receipt.actor, receipt.reason) == TEMPLATE_STATUSES[status]
    assert receipt.subject_key == "wechat:gh_5a4db0c00001:200163836"


@pytest.mark.parametrize("text", sorted(UNSUPPORTED_TEXTS))
def test_what_stands_for_a_sticker_is_no_text_of_the_customer(text: str) -> None:
    assert only(map_item(changed("text", Content=text)), Message).kind == "unsupported"


def test_a_64_bit_id_is_kept_digit_by_digit() -> None:
    message = only(map_item(changed("text", MsgId="18446744073709551615")), Message)
    assert message.message_key == "wechat:gh_5a4db0c00001:18446744073709551615"


def test_two_buttons_pressed_in_one_second_are_two_messages() -> None:
    first, second = (only(map_item(changed("click", EventKey=key)), Message) for key in ("A", "B"))
    assert first.message_key != second.message_key


@pytest.mark.parametrize("name", ["text", "click", "subscribe", "template_delivered"])
@pytest.mark.parametrize("wrong", [None, "", "0", "-5", "1.5", "soon", "9" * 19, ["1", "2"], {"x": "1"}])
def test_a_time_that_is_none_parks_the_delivery(name: str, wrong: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(changed(name, CreateTime=wrong))


@pytest.mark.parametrize("field", ["ToUserName", "FromUserName", "MsgId"])
@pytest.mark.parametrize("wrong", [None, "", ["a", "b"], {"x": "y"}])
def test_an_id_that_is_none_parks_the_delivery(field: str, wrong: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(changed("text", **{field: wrong}))


@pytest.mark.parametrize(("x", "y"), [("91", "0"), ("0", "-181"), ("nan", "0"), ("1e999", "0"), ("", "0"), ("a", "0")])
def test_a_place_outside_the_world_parks_the_message(x: str, y: str) -> None:
    with pytest.raises(MissingFieldError):
        map_item(changed("location", Location_X=x, Location_Y=y))


@pytest.mark.parametrize("text", ["please stop", "When does it stop?", "non-stop"])
def test_a_word_in_a_sentence_decides_nothing(text: str) -> None:
    assert [type(record) for record in map_item(changed("text", Content=text))] == [Message]


def test_following_is_a_yes_to_service_alone_and_its_end_a_no_to_everything() -> None:
    decided = {
        name: [(one.purpose, one.status) for one in map_item(ITEMS[name][0]) if isinstance(one, Consent)]
        for name in ("subscribe", "unsubscribe")
    }
    assert decided == {
        "subscribe": [("service", "opted_in")],
        "unsubscribe": [("service", "opted_out"), ("promotional", "opted_out")],
    }
    for name in decided:
        assert only(map_item(ITEMS[name][0]), Message).author_kind == "system"


def test_the_union_id_is_evidence_in_the_scope_of_the_open_platform() -> None:
    evidence = user_from_wechat(
        USERS["follower"], MIA, open_platform_id="our platform", observed_at=RECEIVED_AT, raw_ref="lookup:1"
    )
    assert evidence is not None
    assert (evidence.method, evidence.strength) == ("unionid", "verified")
    assert evidence.handles == [
        MIA,
        Handle(kind="wechat_unionid", scope="our platform", value="oUnionMia00000000000000000001"),
    ]
    assert evidence.profile is not None
    assert (evidence.profile.name, evidence.profile.locale) == (None, "zh_CN")


@pytest.mark.parametrize(
    ("name", "handles", "shown"),
    [("no_open_platform", 1, (None, "en")), ("with_name", 2, ("Mia Chen", "zh_CN")), ("not_following", 0, None)],
)
def test_without_a_union_id_the_user_api_proves_nothing(name: str, handles: int, shown: Any) -> None:
    evidence = user_from_wechat(USERS[name], MIA, open_platform_id=None, observed_at=RECEIVED_AT, raw_ref="lookup:1")
    assert (evidence is None) == (handles == 0)
    if evidence is not None:
        assert len(evidence.handles) == handles
        assert evidence.profile is not None
        assert (evidence.profile.name, evidence.profile.locale) == shown


def test_an_answer_about_somebody_else_is_never_taken() -> None:
    with pytest.raises(MissingFieldError, match="another user"):
        user_from_wechat(
            {**USERS["follower"], "openid": "oSomebody"},
            MIA,
            open_platform_id=None,
            observed_at=RECEIVED_AT,
            raw_ref="x",
        )


def test_a_union_id_that_comes_later_is_another_observation() -> None:
    keys = set()
    for name in ("no_open_platform", "follower"):
        found = user_from_wechat(USERS[name], MIA, open_platform_id=None, observed_at=RECEIVED_AT, raw_ref="x")
        assert isinstance(found, Evidence)
        keys.add(found.evidence_key)
    assert len(keys) == 2


def test_an_error_never_tells_what_the_payload_held() -> None:
    with pytest.raises(MissingFieldError) as caught:
        map_item(changed("image", MediaId={"secret": "+44 7700 900999"}))
    assert "secret" not in str(caught.value)
    assert "900999" not in str(caught.value)


def test_an_event_without_a_rule_says_which() -> None:
    with pytest.raises(UnknownShapeError, match="teleported"):
        map_item(ITEMS["unknown_event"][0])


_VALUES = st.recursive(
    st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(ITEMS)), data=st.data())
def test_whatever_stands_in_an_element_the_mapping_gives_records_or_says_why_not(
    name: str, data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from(sorted(ITEMS[name][0].payload["xml"])))
    try:
        records = map_item(changed(name, **{field: data.draw(_VALUES)}))
    except PayloadError:
        return
    for record in records:
        record.model_dump_json().encode()
