"""X's events as records: golden files for every kind, the three shapes of one message, traps, hostile payloads."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import MissingFieldError, PayloadError, UnknownShapeError
from mappings.from_x import (
    IGNORED_ACTIVITIES,
    IGNORED_LISTS,
    XContext,
    account_of_event,
    moment_of_event,
    records_from_x,
)
from mappings.from_x.content import MEDIA_KEYS, MEDIA_TYPES, content_of_read
from mappings.from_x.times import moment_of_snowflake
from mappings.records import Consent, Message, Receipt, Record
from taps.webhooks import x
from taps.webhooks.items import Item
from taps.x_pages import items_of_answer
from tests.contract.mapping import check_golden, check_no_golden_is_left_over, fixture_names, load_delivery, told

RECEIVED_AT = datetime(2026, 3, 1, 12, 5, 5, tzinfo=UTC)
US, ADA, BO = "1500000000000000001", "1600000000000000002", "1700000000000000003"
BOT_APP = "29820954"


def split(body: bytes) -> list[Item]:
    """The items of a fixture: a delivery's, or those of an answer of ``/2/dm_events``."""
    answer = json.loads(body)
    if "meta" in answer:
        return [item for item, _ in items_of_answer(answer, US)]
    return x.split(body)


ITEMS = {name: split(load_delivery("x", name)) for name in fixture_names("x")}


def map_item(item: Item, **more: Any) -> list[Record]:
    polled = item.kind == "polled"
    raw_ref = f"poll:1#{item.index}" if polled else f"delivery:1#{item.index}"
    context = XContext(
        received_at=RECEIVED_AT, raw_ref=raw_ref, polled=polled, bot_app_ids=frozenset({BOT_APP}), **more
    )
    return records_from_x(item, context)


def message_of(name: str, **more: Any) -> Message:
    (message,) = [one for one in map_item(ITEMS[name][0], **more) if isinstance(one, Message)]
    return message


def pushed(**create: Any) -> Item:
    """A pushed message of Ada's, its ``message_create`` changed as told."""
    item = deepcopy(ITEMS["dm_received"][0])
    item.payload["event"]["message_create"] |= create
    return item


def read(**event: Any) -> Item:
    """A message of Ada's as ``/2/dm_events`` shows it, changed as told; ``None`` takes a field away."""
    item = deepcopy(ITEMS["read_messages"][1])
    whole = {**item.payload["event"], **event}
    item.payload["event"] = {name: value for name, value in whole.items() if value is not None}
    return item


@pytest.mark.parametrize("name", fixture_names("x"))
def test_an_event_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("x", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("x")


def test_a_message_is_the_same_record_however_it_came() -> None:
    ways = {
        "webhook": message_of("dm_received"),
        "poll": next(one for one in map_item(ITEMS["read_messages"][1]) if isinstance(one, Message)),
    }
    same = {
        "message_key",
        "conversation_key",
        "direction",
        "kind",
        "text",
        "sent_at",
        "handles",
        "profile",
        "author_kind",
    }
    values = [{name: getattr(one, name) for name in same} for one in ways.values()]
    assert values[0] == values[1]
    assert {way: one.seen_by for way, one in ways.items()} == {"webhook": "webhook", "poll": "poll"}
    assert ITEMS["dm_received"][0].key == ITEMS["read_messages"][1].key


def test_what_we_sent_is_outbound_and_its_customer_is_the_other_one() -> None:
    for message in (message_of("dm_sent"), message_of("account_sent"), message_of("read_messages")):
        assert (message.direction, message.author_kind, message.author_name) == ("outbound", "agent", "The Shop")
        assert [handle.value for handle in message.handles] == [ADA]
        assert message.conversation_key == message_of("dm_received").conversation_key
    assert message_of("account_sent").platform_app_id == "3033300"


def test_an_app_that_writes_by_itself_is_a_bot() -> None:
    assert message_of("dm_sent_by_a_bot").author_kind == "bot"
    item = ITEMS["dm_sent_by_a_bot"][0]
    (message,) = records_from_x(item, XContext(received_at=RECEIVED_AT, raw_ref="delivery:1#0"))
    assert isinstance(message, Message)
    assert message.author_kind == "agent"


def test_a_customers_app_says_nothing() -> None:
    assert message_of("account_message").platform_app_id is None


@pytest.mark.parametrize("pair", [f"{US}-{ADA}", f"{ADA}-{US}", f"{ADA}:{US}"])
def test_a_conversation_of_two_is_named_after_both_in_any_order(pair: str) -> None:
    (message,) = map_item(read(dm_conversation_id=pair))
    assert isinstance(message, Message)
    assert (message.handles[0].value, "group" in message.flags) == (ADA, False)


@pytest.mark.parametrize("pair", [f"{BO}-{ADA}", f"{US}-{BO}"])
def test_a_conversation_of_others_is_parked(pair: str) -> None:
    with pytest.raises(MissingFieldError):
        map_item(read(dm_conversation_id=pair))


def test_in_a_group_each_writer_is_a_person_and_ours_are_for_nobody() -> None:
    messages = [one for item in ITEMS["read_group"] for one in map_item(item) if isinstance(one, Message)]
    assert [[handle.value for handle in one.handles] for one in messages] == [[], [ADA], [ADA], [BO], [BO]]
    assert [one.kind for one in messages] == ["text", "text", "system", "system", "system"]
    assert len({one.message_key for one in messages}) == 5
    assert {tuple(one.flags) for one in messages} == {("group",)}


@pytest.mark.parametrize("name", ["read_shared_post", "read_shared_post_under_the_old_name"])
def test_a_shared_post_is_told_under_both_names(name: str) -> None:
    content = message_of(name).content
    assert content is not None
    assert content["posts"] == [{
        "id": "1580559079470145536", "url": "https://x.com/i/status/1580559079470145536", "author_id": BO,
        "text": "A table for sale",
    }]  # fmt: skip


def test_text_is_as_it_was_typed() -> None:
    assert message_of("dm_received").text == "Is the walnut table & the chair still there? <3"
    assert message_of("dm_received", escaped=False).text == "Is the walnut table &amp; the chair still there? &lt;3"
    assert message_of("dm_link").text == "This one: https://shop.example/tables?a=1&b=2"
    assert (message_of("dm_photo").text, message_of("read_photo").text) == ("Broken:", "Broken:")
    assert message_of("dm_video").text is None


def test_an_escaped_escape_is_opened_once() -> None:
    event = {"text": "&amp;lt; is how you write &lt;"}
    assert content_of_read(event, {}, "test", escaped=True).text == "&lt; is how you write <"


def test_a_file_has_the_same_id_in_both_shapes_and_a_video_its_best_variant() -> None:
    ids = {message_of(name).attachments[0].platform_media_id for name in ("dm_photo", "read_photo")}
    assert len(ids) == 1
    (video,) = message_of("dm_video").attachments
    assert (video.url, video.mime_type) == ("https://video.twimg.com/dm_video/1/vid/640x480/b.mp4", "video/mp4")


def test_every_type_of_file_has_a_case() -> None:
    kinds = {name: file.kind for name in ITEMS for item in ITEMS[name] for file in _files(item)}
    assert set(MEDIA_TYPES.values()) <= set(kinds.values())
    for prefix, kind in MEDIA_KEYS.items():
        (message,) = map_item(read(attachments={"media_keys": [f"{prefix}_77"]}))
        assert isinstance(message, Message)
        assert (message.kind, message.attachments[0].platform_media_id) == (kind, "77")


def _files(item: Item) -> list[Any]:
    try:
        return [file for one in map_item(item) if isinstance(one, Message) for file in one.attachments]
    except PayloadError:
        return []


def test_a_message_without_a_time_has_the_one_in_its_id() -> None:
    sent_at = message_of("read_without_a_time").sent_at
    assert abs(sent_at - datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)) < timedelta(milliseconds=50)


def test_ids_of_xs_own_samples_hold_their_time() -> None:
    moment = moment_of_snowflake("954491830116155396")
    assert moment == datetime(2018, 1, 19, 23, 12, 40, 557000, tzinfo=UTC)


@pytest.mark.parametrize("wrong", [None, "", "29700859247", "9" * 20, "abc", 954491830116155396, True])
def test_an_id_without_a_time_gives_none(wrong: Any) -> None:
    assert moment_of_snowflake(wrong) is None


@pytest.mark.parametrize(
    ("event", "good"),
    [
        ({"created_timestamp": "1772366400000"}, True), ({"created_at": "2026-03-01T12:00:00.000Z"}, True),
        ({"created_at": "2026-03-01T13:00:00+01:00"}, True), ({"created_at": "2026-03-01T12:00:00"}, False),
        ({"created_at": "yesterday"}, False), ({"created_at": 5}, False), ({"created_timestamp": "x"}, False),
        ({"created_at": "0001-01-01T00:00:00+14:00"}, False), ({"id": "1"}, False), ({}, False),
    ],
)  # fmt: skip
def test_times_come_in_two_shapes(event: dict[str, Any], good: bool) -> None:
    if good:
        assert moment_of_event(event) == datetime(2026, 3, 1, 12, tzinfo=UTC)
    else:
        with pytest.raises(MissingFieldError):
            moment_of_event(event)


def test_a_time_far_ahead_of_ours_is_kept_and_flagged() -> None:
    (message,) = map_item(read(created_at="2027-03-01T12:00:00.000Z"))
    assert isinstance(message, Message)
    assert (message.sent_at.year, message.flags) == (2027, ["clock_ahead"])


def test_a_reading_covers_the_message_that_it_names_and_no_later_one() -> None:
    (receipt,) = map_item(ITEMS["dm_read"][0])
    assert isinstance(receipt, Receipt)
    sent = message_of("dm_sent")
    assert (receipt.subject_key, receipt.subject_kind) == (sent.conversation_key, "conversation")
    assert receipt.up_to_at is not None
    assert sent.sent_at <= receipt.up_to_at < sent.sent_at + timedelta(seconds=2) < receipt.occurred_at


def test_what_we_read_ourselves_is_no_receipt() -> None:
    assert map_item(ITEMS["dm_read_by_us"][0]) == []


def test_a_mention_is_public_and_has_its_own_thread() -> None:
    message = message_of("mention")
    assert (message.origin, message.flags, message.direction) == ("mention", ["public"], "inbound")
    assert message.text == "hey @theshop is this <normal>?"
    assert message.conversation_key != message_of("dm_received").conversation_key
    assert message.handles == message_of("dm_received").handles
    assert message_of("mention_in_a_long_reply").text == "@theshop first words of a long post, and the rest of it"
    assert map_item(ITEMS["mention_by_us"][0]) == []


@pytest.mark.parametrize(("text", "status"), [("STOP", "opted_out"), ("Stop!", "opted_out"), ("START", "opted_in")])
def test_a_word_alone_decides_about_advertising(text: str, status: str) -> None:
    message, consent = map_item(read(text=text))
    assert isinstance(message, Message)
    assert isinstance(consent, Consent)
    assert (consent.status, consent.purpose) == (status, "promotional")
    assert consent.source_message_key == message.message_key


def test_a_word_of_ours_in_a_group_or_in_public_decides_nothing() -> None:
    mention = deepcopy(ITEMS["mention"][0])
    mention.payload["event"] |= {"text": "STOP", "attachments": {}}
    for item in (read(text="STOP", sender_id=US), read(text="STOP", dm_conversation_id="1578398451921985538"), mention):
        assert [type(record) for record in map_item(item)] == [Message]


@pytest.mark.parametrize(
    "name", ["chat_received", "chat_sent", "typing", "account_typing", "post_reply", "oauth_revoke"]
)
def test_what_is_encrypted_or_no_message_is_ignored(name: str) -> None:
    assert map_item(ITEMS[name][0], user_id=US) == []


def test_every_name_that_is_ignored_gives_nothing_and_no_other_does() -> None:
    for kind in (*IGNORED_LISTS, *(f"{prefix}anything" for prefix in IGNORED_ACTIVITIES)):
        assert map_item(Item(0, kind, {"event": {}}, "x")) == []
    with pytest.raises(UnknownShapeError):
        map_item(Item(0, "dm.teleported", {"event": {}}, "x"))


def test_an_event_that_names_no_account_is_known_by_its_direction_or_by_the_setting() -> None:
    create = ITEMS["dm_received"][0].payload["event"]
    assert account_of_event({"event_type": "dm.received", "event": create}) == US
    assert account_of_event({"event_type": "dm.sent", "event": create}) == ADA
    assert account_of_event({"event": create}, "77") == "77"
    assert account_of_event({"account": "12a", "event": None}) is None
    with pytest.raises(MissingFieldError, match="user_id"):
        map_item(Item(0, "message", {"account": None, "event": create}, "x"))


def test_ids_of_two_accounts_never_meet() -> None:
    keys = {ITEMS["dm_received"][0].payload["account"]: message_of("dm_received").message_key}
    other = deepcopy(ITEMS["dm_received"][0])
    other.payload["account"] = ADA  # she is subscribed as well
    (message,) = map_item(other)
    assert isinstance(message, Message)
    assert message.message_key not in keys.values()
    assert (message.direction, message.handles[0].value) == ("outbound", US)


@pytest.mark.parametrize("wrong", [None, "", "abc", -1, True, 1.5, [], {}])
def test_a_writer_that_is_none_parks_the_message(wrong: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(pushed(sender_id=wrong))


_WRONG = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4), st.just([]), st.just({}),
    st.just([None]), st.just({"id": []}),
)  # fmt: skip
_HOSTS = ["dm_received", "dm_photo", "dm_video", "read_photo", "read_group", "read_shared_post", "mention", "dm_read"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(_HOSTS), st.data())
def test_a_wrong_value_anywhere_is_a_payload_error_or_a_record_and_nothing_else(name: str, data: st.DataObject) -> None:
    item = deepcopy(ITEMS[name][0])
    node: Any = item.payload
    while True:
        step = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        child = node[step]
        if not isinstance(child, dict | list) or not child or data.draw(st.booleans()):
            node[step] = data.draw(_WRONG)
            break
        node = child
    try:
        for record in map_item(item):
            json.dumps(record.model_dump(mode="json"), ensure_ascii=False).encode()
    except PayloadError:
        pass
