"""Instagram webhooks and polled messages as records: golden files, tables, and what the golden files cannot say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from mappings.errors import MissingFieldError, PayloadError, UnknownShapeError
from mappings.from_instagram import (
    InstagramContext,
    codes,
    message_from_instagram_poll,
    profile_from_instagram,
    records_from_instagram,
)
from mappings.from_messenger import MessengerContext, records_from_messenger
from mappings.records import Attachment, Consent, Evidence, Handle, Message, MessageChange, Receipt, Record
from taps.webhooks import messenger
from taps.webhooks.instagram import split
from taps.webhooks.items import Item
from tests.contract.mapping import (
    check_golden,
    check_no_golden_is_left_over,
    check_spoiled,
    fixture_names,
    load_items,
    spoiled,
    spoiled_items,
    told,
)

ACCOUNT = "17841405822304914"
MIA = "8901234567890123"
RECEIVED_AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
ITEMS = load_items("instagram", split)
CUSTOMER = Handle(kind="instagram_igsid", scope=ACCOUNT, value=MIA)


def map_item(item: Item, **more: Any) -> list[Record]:
    values = {"app_id": "200000000000001", **more}
    context = InstagramContext(received_at=RECEIVED_AT, raw_ref=f"delivery:1#{item.index}", **values)
    return records_from_instagram(item, context)


def item_of(kind: str, event: dict[str, Any], **around: Any) -> Item:
    """An item of one event from Mia to the account."""
    whole = {"sender": {"id": MIA}, "recipient": {"id": ACCOUNT}, "timestamp": 1772366400000, **event}
    whole = {name: value for name, value in whole.items() if value is not None}
    payload = {"account_id": ACCOUNT, "standby": False, "entry_time": None, "field": None, "event": whole, **around}
    return Item(0, kind, payload, "key")


def comment_of(value: dict[str, Any], **around: Any) -> Item:
    payload = {"account_id": ACCOUNT, "standby": False, "entry_time": 1772366400, "field": "comments", "event": value}
    return Item(0, "comment", {**payload, **around}, "key")


def only(records: list[Record], kind: type[Any]) -> Any:
    (record,) = [one for one in records if isinstance(one, kind)]
    return record


def messages_in(name: str) -> list[Message]:
    return [record for item in ITEMS[name] for record in map_item(item) if isinstance(record, Message)]


@pytest.mark.parametrize("name", fixture_names("instagram"))
def test_a_delivery_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("instagram", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("instagram")


def test_every_attachment_type_of_the_tables_has_a_fixture() -> None:
    messages = [item.payload["event"]["message"] for items in ITEMS.values() for item in items
                if item.kind in {"message", "message_echo"} and item.payload["field"] is None]  # fmt: skip
    seen = {one["type"] for message in messages for one in message.get("attachments") or ()}
    assert seen - {"hologram", "ephemeral", "like_heart"} == set(codes.FILES) | set(codes.SHARES)


def test_every_ignored_kind_has_a_fixture() -> None:
    assert {item.kind for item in ITEMS["notices"] if not map_item(item)} == set(codes.IGNORED)


def test_the_dashboards_test_form_makes_no_customer() -> None:
    assert [map_item(item) for item in ITEMS["dashboard_test"]] == [[], [], []]


@pytest.mark.parametrize("name", sorted(codes.REACTIONS))
def test_a_reaction_without_its_emoji_is_told_by_its_name(name: str) -> None:
    item = item_of("reaction", {"reaction": {"reaction": name, "action": "react", "mid": "m_1"}})
    assert only(map_item(item), MessageChange).emoji == codes.REACTIONS[name]


def test_a_reaction_that_is_taken_back_has_no_emoji() -> None:
    removal = only(map_item(ITEMS["reaction"][1]), MessageChange)
    assert (removal.change, removal.emoji) == ("unreact", None)


# -- Who is the customer ---------------------------------------------------------------------------------------------


def test_the_customer_of_an_echo_is_the_one_who_got_it() -> None:
    messages = messages_in("echo")
    assert {handle for message in messages for handle in message.handles} == {CUSTOMER}
    assert {message.conversation_key for message in messages} == {messages_in("message")[0].conversation_key}
    assert {message.direction for message in messages} == {"outbound"}


def test_an_echo_says_who_wrote_it_by_app_and_token() -> None:
    assert [(one.author_kind, one.reply_token is not None) for one in messages_in("echo")] == [
        ("agent", False), ("agent", True), ("bot", False), ("agent", False), ("agent", False), ("agent", False),
    ]  # fmt: skip


def test_without_our_app_id_nobody_is_taken_for_a_bot() -> None:
    assert only(map_item(ITEMS["echo"][2], app_id=None), Message).author_kind == "agent"


@pytest.mark.parametrize("entry_id", ["108812345678901", ACCOUNT])
@pytest.mark.parametrize("is_echo", [True, False])
def test_an_entry_with_another_id_than_its_events_does_not_swap_the_parties(entry_id: str, is_echo: bool) -> None:
    parties = (ACCOUNT, MIA) if is_echo else (MIA, ACCOUNT)
    message = {"mid": "m_1", "text": "x", **({"is_echo": True} if is_echo else {})}
    item = item_of("message_echo" if is_echo else "message", {
        "sender": {"id": parties[0]}, "recipient": {"id": parties[1]}, "message": message,
    }, account_id=entry_id)  # fmt: skip
    found = only(map_item(item), Message)
    assert (found.handles[0].value, found.handles[0].scope) == (MIA, entry_id)
    assert found.direction == ("outbound" if is_echo else "inbound")


def test_an_account_that_presses_its_own_button_is_in_a_customers_place() -> None:
    echo, postback = messages_in("self_message")
    assert (echo.direction, postback.direction) == ("outbound", "inbound")
    assert echo.handles == postback.handles == [Handle(kind="instagram_igsid", scope=ACCOUNT, value="8900000000000001")]
    assert echo.flags == postback.flags == ["self"]


def test_an_id_is_valid_for_its_account_only() -> None:
    here, _, there = (map_item(item) if index != 1 else [] for index, item in enumerate(
        [ITEMS["batch"][0], ITEMS["batch"][1], ITEMS["batch"][3]]))  # fmt: skip
    one, other = only(here, Message).handles[0], only(there, Message).handles[0]
    assert one.value == other.value
    assert one.key != other.key


def test_the_same_number_on_messenger_is_somebody_else() -> None:
    body = {"object": "page", "entry": [{"id": ACCOUNT, "messaging": [
        {"sender": {"id": MIA}, "recipient": {"id": ACCOUNT}, "timestamp": 1772366400000,
         "message": {"mid": "m_1", "text": "x"}}]}]}  # fmt: skip
    (item,) = messenger.split(json.dumps(body).encode())
    records = records_from_messenger(item, MessengerContext(received_at=RECEIVED_AT, raw_ref="x"))
    assert only(records, Message).handles[0].key != CUSTOMER.key


# -- Unsent, read, edited ---------------------------------------------------------------------------------------------


def test_an_unsent_message_leaves_a_tombstone_under_its_key() -> None:
    by_customer, by_us = (only(map_item(item), MessageChange) for item in ITEMS["message_deleted"])
    assert (by_customer.change, by_customer.author_kind) == ("unsend", "customer")
    assert by_customer.message_key == messages_in("message")[0].message_key
    assert by_customer.text is None
    assert (by_us.author_kind, by_us.handles) == ("agent", [CUSTOMER])


def test_unsending_told_again_at_another_time_is_the_same_change() -> None:
    keys = {
        only(map_item(item_of("message_deleted", {"timestamp": at, "message": {"mid": "m_1", "is_deleted": True}})),
             MessageChange).change_key
        for at in (1772366400000, 1772366500000)
    }  # fmt: skip
    assert len(keys) == 1


def test_a_message_is_read_by_its_id_and_no_other_with_it() -> None:
    receipts = [only(map_item(item), Receipt) for item in ITEMS["read"]]
    assert [(one.subject_kind, one.up_to_at) for one in receipts] == [("message", None)] * 2
    assert len({one.subject_key for one in receipts}) == 2


@pytest.mark.parametrize("count", ["3", 3])
def test_an_edit_is_counted_whether_its_number_is_text_or_not(count: Any) -> None:
    item = item_of("message_edit", {"message_edit": {"mid": "m_1", "text": "x", "num_edit": count}})
    assert only(map_item(item), MessageChange).sequence == 3


@pytest.mark.parametrize("count", ["", "three", None, -1, 1.5, True, "²", "9" * 40])
def test_an_edit_without_a_number_is_parked(count: Any) -> None:
    item = item_of("message_edit", {"message_edit": {"mid": "m_1", "text": "x", "num_edit": count}})
    with pytest.raises(MissingFieldError):
        map_item(item)


# -- Content ----------------------------------------------------------------------------------------------------------


def test_a_post_that_came_as_share_and_as_ig_post_is_shown_once() -> None:
    shares = [message.content["shares"] for message in messages_in("message_shares") if message.content]
    assert [[one["type"] for one in share] for share in shares[:3]] == [["ig_post"], ["ig_post"], ["share"]]


def test_a_heart_has_no_file() -> None:
    heart = messages_in("message_attachments")[-1]
    assert (heart.kind, heart.content, heart.attachments) == ("sticker", {"sticker": "like_heart"}, [])


def test_a_mention_in_a_story_says_that_it_is_one() -> None:
    (message,) = messages_in("story_mention")
    assert message.origin == "mention"
    assert message.origin_detail == {"type": "story_mention", "url": "https://cdn.example/story"}
    assert message.handles == [CUSTOMER]


def test_a_reply_to_a_story_names_the_story() -> None:
    (message,) = messages_in("story_reply")
    assert (message.origin, message.reply_to_key) == ("direct", None)
    assert message.origin_detail == {"story": {"id": "17900000000000001", "url": "https://cdn.example/ours"}}


def test_an_ad_is_where_the_chat_came_from_and_a_product_is_not() -> None:
    from_ad, about_product = messages_in("message_from_ad")
    assert (from_ad.origin, (from_ad.origin_detail or {})["ad_id"]) == ("ad", "6045246247433")
    assert (about_product.origin, about_product.origin_detail) == ("direct", {"product": {"id": "blue-1"}})


def test_what_cannot_be_shown_is_a_message_all_the_same() -> None:
    unsupported, ephemeral, hologram = messages_in("message_unsupported")
    assert [one.kind for one in (unsupported, ephemeral, hologram)] == ["unsupported", "unsupported", "text"]
    assert [(one.content or {})["unsupported"] for one in (unsupported, ephemeral, hologram)] == [
        ["is_unsupported"], ["ephemeral"], ["hologram"],
    ]  # fmt: skip


def test_contact_data_out_of_a_quick_reply_is_only_a_claim() -> None:
    evidence = [only(map_item(item), Evidence) for item in ITEMS["message_quick_reply"][1:]]
    assert [(one.strength, one.handles[0], one.handles[1].kind) for one in evidence] == [
        ("claimed", CUSTOMER, "email"), ("claimed", CUSTOMER, "phone"),
    ]  # fmt: skip


def test_a_word_alone_and_an_unsubscribe_button_are_opt_outs() -> None:
    assert only(map_item(ITEMS["message_stop"][0]), Consent).status == "opted_out"
    assert only(map_item(ITEMS["postback"][1]), Consent).source == "template_answer"


@pytest.mark.parametrize(
    ("title", "payload", "decision"),
    [("Get started", "START", None), ("START", "x", "opted_in"), ("No more of this", "STOP", "opted_out"),
     ("Unsubscribe", None, "opted_out"), ("Hours", "HOURS", None)],
)  # fmt: skip
def test_a_buttons_hidden_payload_can_say_no_and_never_yes(title: str, payload: str | None, decision: str) -> None:
    records = map_item(item_of("postback", {"postback": {"mid": "m_1", "title": title, "payload": payload}}))
    assert next((one.status for one in records if isinstance(one, Consent)), None) == decision


@pytest.mark.parametrize("value", [1772366400000, 1772366400, "1772366400", "1772366400000"])
def test_a_time_is_read_in_the_forms_that_occur(value: Any) -> None:
    item = item_of("message", {"timestamp": value, "message": {"mid": "m_1", "text": "x"}})
    assert only(map_item(item), Message).sent_at == datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("wrong", [None, 0, -1, 1.5, "soon", True, 10**18, "9" * 30])
def test_a_time_that_is_none_parks_the_message(wrong: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(item_of("message", {"timestamp": wrong, "message": {"mid": "m_1", "text": "x"}}))


@pytest.mark.parametrize("wrong", [None, {}, {"id": None}, {"id": ["1"]}, {"id": 1.5}, {"id": ""}, "1"])
def test_a_sender_that_is_none_parks_the_message(wrong: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(item_of("message", {"sender": wrong, "message": {"mid": "m_1", "text": "x"}}))


def test_an_unknown_reaction_action_is_parked() -> None:
    with pytest.raises(UnknownShapeError):
        map_item(item_of("reaction", {"reaction": {"action": "shrug", "mid": "m_1"}}))


# -- Comments and mentions --------------------------------------------------------------------------------------------


def test_a_comment_is_a_message_outside_the_chat() -> None:
    comment, chat = messages_in("comment")[0], messages_in("message")[0]
    assert (comment.origin, comment.handles) == ("comment", chat.handles)
    assert comment.conversation_key != chat.conversation_key


def test_our_answer_to_a_comment_stands_in_the_comments_thread_and_is_no_customers() -> None:
    comment, by_customer, answer = messages_in("comment")[:3]
    assert answer.conversation_key == comment.conversation_key
    assert (answer.direction, answer.handles, answer.reply_to_key) == ("outbound", [], comment.message_key)
    assert (by_customer.reply_to_key, by_customer.direction) == (comment.message_key, "inbound")
    assert by_customer.conversation_key != comment.conversation_key


@pytest.mark.parametrize("author", [{"id": ACCOUNT}, {"id": "17841499", "self_ig_scoped_id": "8900000000000001"}])
def test_our_own_comment_is_known_by_either_mark(author: dict[str, str]) -> None:
    message = only(map_item(comment_of({"id": "1", "text": "Welcome", "from": author})), Message)
    assert (message.direction, message.handles, message.author_kind) == ("outbound", [], "agent")


def test_a_comment_is_read_in_both_documented_forms() -> None:
    (flat,) = messages_in("comment_flat")
    assert (flat.text, flat.handles) == ("A flat one", [CUSTOMER])
    by_ad = messages_in("comment")[3]
    assert by_ad.message_key.endswith("17865799348089042")
    assert (by_ad.origin_detail or {})["media"]["ad_id"] == "6045246247433"


def test_a_comment_without_an_author_is_kept_without_a_customer() -> None:
    message = only(map_item(comment_of({"id": "1", "text": "Who am I?"})), Message)
    assert (message.direction, message.handles) == ("inbound", [])


def test_a_comment_has_the_time_of_its_notification_or_of_its_arrival() -> None:
    told_at = only(map_item(comment_of({"id": "1", "text": "x"})), Message)
    untold = only(map_item(comment_of({"id": "1", "text": "x"}, entry_time=None)), Message)
    assert (told_at.sent_at, told_at.flags) == (datetime(2026, 3, 1, 12, tzinfo=UTC), ["time_of_notification"])
    assert (untold.sent_at, untold.flags) == (RECEIVED_AT, ["time_of_receipt"])


def test_stop_in_a_comment_is_no_opt_out() -> None:
    records = map_item(comment_of({"id": "1", "text": "STOP", "from": {"id": MIA}}))
    assert [type(one) for one in records] == [Message]


def test_a_mention_is_kept_without_words_and_without_a_customer() -> None:
    caption, comment = messages_in("mention")
    assert {one.origin for one in (caption, comment)} == {"mention"}
    assert caption.message_key != comment.message_key
    assert (caption.kind, caption.handles, caption.text) == ("unsupported", [], None)


def test_a_mention_of_nothing_is_parked() -> None:
    payload = {"account_id": ACCOUNT, "entry_time": 1772366400, "field": "mentions", "event": {}}
    with pytest.raises(MissingFieldError):
        map_item(Item(0, "mention", payload, "key"))


# -- Polled -----------------------------------------------------------------------------------------------------------


def polled(**more: Any) -> dict[str, Any]:
    return {"id": "m_1", "created_time": "2026-03-01T12:00:00+0000", "message": "Hello",
            "from": {"username": "mia.rossi", "id": MIA},
            "to": {"data": [{"username": "example.shop", "id": ACCOUNT}]}, **more}  # fmt: skip


def poll(payload: dict[str, Any], own_ids: tuple[str, ...] = (), **more: Any) -> Message:
    return message_from_instagram_poll(payload, ACCOUNT, own_ids, received_at=RECEIVED_AT, raw_ref="poll:1", **more)


def test_a_polled_message_has_the_same_key_and_thread_as_its_webhook() -> None:
    webhook = only(map_item(item_of("message", {"message": {"mid": "m_1", "text": "Hello"}})), Message)
    message = poll(polled())
    same = ("message_key", "conversation_key", "handles", "sent_at", "text", "direction", "kind")
    assert [getattr(message, name) for name in same] == [getattr(webhook, name) for name in same]
    assert (message.seen_by, message.author_name) == ("poll", "mia.rossi")


@pytest.mark.parametrize("ours", [ACCOUNT, "26000000000000001"])
def test_a_polled_answer_belongs_to_the_customer_who_got_it(ours: str) -> None:
    answer = polled(**{"from": {"id": ours}, "to": {"data": [{"id": ours}, {"id": MIA}]}})
    message = poll(answer, ("26000000000000001",))
    assert (message.direction, message.author_kind, message.handles) == ("outbound", "agent", [CUSTOMER])
    assert message.profile is None


def test_a_message_of_another_account_is_parked_instead_of_making_a_customer_of_us() -> None:
    with pytest.raises(MissingFieldError, match="account_id"):
        poll(polled(**{"from": {"id": "1784999"}, "to": {"data": [{"id": MIA}]}}))


def test_only_what_a_customer_wrote_is_flagged_as_a_request() -> None:
    assert poll(polled(), flags=("request_folder",)).flags == ["request_folder"]
    answer = polled(**{"from": {"id": ACCOUNT}, "to": {"data": [{"id": MIA}]}})
    assert poll(answer, flags=("request_folder",)).flags == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [({"message": "", "attachments": {"data": [{"id": "1", "image_data": {"url": "https://cdn.example/1"}}]}},
      ("image", "direct", None)),
     ({"message": "", "shares": {"data": [{"link": "https://cdn.example/p"}]}}, ("text", "direct", None)),
     ({"message": "", "story": {"mention": {"link": "https://cdn.example/s", "id": "9"}}},
      ("text", "mention", {"type": "story_mention", "id": "9", "link": "https://cdn.example/s"})),
     ({"story": {"reply_to": {"link": "https://cdn.example/s", "id": "9"}}},
      ("text", "direct", {"story": {"id": "9", "link": "https://cdn.example/s"}})),
     ({"message": "", "is_unsupported": True}, ("unsupported", "direct", None))],
)  # fmt: skip
def test_what_a_polled_message_holds_is_kept(more: dict[str, Any], expected: tuple[Any, ...]) -> None:
    message = poll(polled(**more))
    assert (message.kind, message.origin, message.origin_detail) == expected


def test_a_polled_file_keeps_its_place() -> None:
    film = {"id": "3", "mime_type": "video/mp4", "video_data": {"url": "https://cdn.example/3"}}
    message = poll(polled(attachments={"data": [film]}))
    expected = Attachment(kind="video", platform_media_id="3", mime_type="video/mp4", url="https://cdn.example/3")
    assert message.attachments == [expected]


@pytest.mark.parametrize("wrong", [{"from": None}, {"to": None}, {"created_time": "yesterday"}, {"created_time": 5},
                                   {"id": None}, {"created_time": "2026-03-01T12:00:00"},
                                   {"created_time": "0001-01-01T00:00:00+2300"},
                                   {"from": {"id": ACCOUNT}, "to": {"data": [{"id": ACCOUNT}]}}])  # fmt: skip
def test_a_polled_message_without_what_it_needs_is_parked(wrong: dict[str, Any]) -> None:
    with pytest.raises(MissingFieldError):
        poll(polled(**wrong))


def test_a_profile_describes_and_links_nobody() -> None:
    answer = {"id": MIA, "name": None, "username": "mia.rossi", "profile_pic": "https://cdn.example/mia.jpg"}
    found = profile_from_instagram(answer, ACCOUNT, MIA, observed_at=RECEIVED_AT, raw_ref="poll:1")
    assert found is not None
    assert found.handles == [CUSTOMER]
    assert found.profile is not None
    assert (found.profile.name, found.profile.username) == (None, "mia.rossi")
    assert profile_from_instagram({"id": MIA}, ACCOUNT, MIA, observed_at=RECEIVED_AT, raw_ref="poll:1") is None


# -- Hostile ----------------------------------------------------------------------------------------------------------


@settings(max_examples=500, deadline=None)
@given(item=spoiled_items(ITEMS))
def test_whatever_stands_in_a_payload_the_mapping_gives_records_or_says_why_not(item: Item) -> None:
    check_spoiled(item, map_item)


POLLED = polled(
    attachments={"data": [{"id": "1", "mime_type": "image/png", "image_data": {"url": "https://cdn.example/1"}}]},
    shares={"data": [{"link": "https://cdn.example/p"}]}, reply_to={"mid": "m_0"},
    story={"mention": {"link": "https://cdn.example/s", "id": "9"}}, is_unsupported=False,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(payload=spoiled(POLLED))
def test_whatever_stands_in_a_polled_message_it_becomes_a_message_or_is_parked(payload: dict[str, Any]) -> None:
    try:
        message = poll(payload)
    except PayloadError:
        return
    message.model_dump_json().encode()
