"""Telegram updates as records: golden files for every kind of event, tables, and what the golden files cannot say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings

from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.from_telegram import TelegramContext, codes, migration_of, records_from_telegram
from mappings.ids import parse_conversation_key, parse_message_key
from mappings.records import Consent, Evidence, Handle, Message, MessageChange, Record
from taps.webhooks.items import Item
from taps.webhooks.telegram import UPDATES, split
from tests.contract.mapping import (
    check_golden,
    check_no_golden_is_left_over,
    check_spoiled,
    fixture_names,
    load_items,
    spoiled_items,
    told,
)

RECEIVED_AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
SENT_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ITEMS = load_items("telegram", split)
BOT = "7000000001"
GROUP, SUPERGROUP = "-4000000001", "-1003000000001"


def context(**more: Any) -> TelegramContext:
    return TelegramContext(**{"received_at": RECEIVED_AT, "raw_ref": "delivery:1#0", "bot_id": BOT, **more})


def map_item(item: Item, **more: Any) -> list[Record]:
    return records_from_telegram(item, context(**more))


def message_item(kind: str = "message", **message: Any) -> Item:
    """An item of a text of a private chat, changed as told; ``sender`` is ``from``; ``None`` takes a field away."""
    if "sender" in message:
        message["from"] = message.pop("sender")
    event = {"message_id": 7, "date": 1772366400, "text": "Hello",
             "from": {"id": 5000000001, "is_bot": False, "first_name": "Ada"},
             "chat": {"id": 5000000001, "type": "private", "first_name": "Ada"}, **message}  # fmt: skip
    event = {name: value for name, value in event.items() if value is not None}
    return split(json.dumps({"update_id": 1, kind: event}).encode())[0]


def only(records: list[Record], kind: type[Any]) -> Any:
    (record,) = [one for one in records if isinstance(one, kind)]
    return record


@pytest.mark.parametrize("name", fixture_names("telegram"))
def test_an_update_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("telegram", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("telegram")


# -- Tables ----------------------------------------------------------------------------------------------------------


def test_every_content_of_the_table_has_a_fixture() -> None:
    seen = {name for items in ITEMS.values() for item in items for name in item.payload["event"]}
    assert set(codes.CONTENTS) <= seen


def test_every_update_is_mapped_or_left_out_on_purpose() -> None:
    from mappings.from_telegram import _RULES

    assert set(_RULES) | codes.IGNORED == set(UPDATES)
    assert not set(_RULES) & codes.IGNORED


@pytest.mark.parametrize("name", sorted(codes.IGNORED))
def test_what_no_customer_says_gives_no_record(name: str) -> None:
    assert map_item(Item(0, name, {"update_id": 1, "event": {}}, "x")) == []


@pytest.mark.parametrize("name", codes.SERVICE)
def test_a_service_message_is_the_systems(name: str) -> None:
    message = only(map_item(_with(message_item(text=None), name, {"secret": "s"})), Message)
    assert (message.kind, message.author_kind, message.content) == ("system", "system", {"type": name})


@pytest.mark.parametrize("name", sorted(codes.AROUND - {"message_id", "from", "chat", "date"}))
def test_what_stands_around_a_message_is_not_taken_for_its_content(name: str) -> None:
    assert only(map_item(_with(message_item(text=None), name, None)), Message).content == {"type": "empty"}


# -- Who and where ---------------------------------------------------------------------------------------------------


def test_the_same_number_in_two_chats_is_two_messages() -> None:
    ada, group = only(map_item(message_item()), Message), only(map_item(message_item(chat=_group())), Message)
    assert ada.message_key != group.message_key
    assert parse_message_key(ada.message_key) == ("telegram", BOT, "7", "5000000001")


def test_the_owners_chat_with_a_customer_is_not_the_bots_chat_with_them() -> None:
    own = only(map_item(message_item()), Message)
    of_owner = only(map_item(message_item("business_message", business_connection_id="bc1")), Message)
    assert own.message_key != of_owner.message_key
    assert own.conversation_key != of_owner.conversation_key
    assert own.handles == of_owner.handles == [Handle(kind="telegram_user", value="5000000001")]


def test_who_writes_in_a_business_account_is_told_apart() -> None:
    seen = {
        name: (message.direction, message.author_kind, message.handles[0].value, message.platform_app_id)
        for name in ("business_customer", "business_owner", "business_by_our_bot")
        for message in [only(map_item(ITEMS[name][0]), Message)]
    }
    assert seen == {
        "business_customer": ("inbound", "customer", "5000000002", None),
        "business_owner": ("outbound", "agent", "5000000002", None),
        "business_by_our_bot": ("outbound", "bot", "5000000002", BOT),
    }


def test_an_away_message_answers_nobody() -> None:
    assert "auto_reply" in only(map_item(ITEMS["business_away"][0]), Message).flags


def test_each_topic_of_a_channels_direct_messages_is_a_thread_with_its_customer() -> None:
    asked, answered = (only(map_item(ITEMS[name][0]), Message) for name in ("direct_message", "direct_message_answer"))
    assert asked.conversation_key == answered.conversation_key
    assert asked.handles == answered.handles == [Handle(kind="telegram_user", value="5000000002")]
    assert [asked.direction, answered.direction] == ["inbound", "outbound"]


def test_a_group_keeps_its_thread_when_it_becomes_a_supergroup() -> None:
    told_by = [migration_of(ITEMS[name][0]) for name in ("group_migrated_to", "group_migrated_from")]
    assert told_by == [(SUPERGROUP, GROUP)] * 2
    before = only(map_item(ITEMS["group"][0]), Message)
    item = ITEMS["group_after_migration"][0]
    after, strange = only(map_item(item, moved={SUPERGROUP: GROUP}), Message), only(map_item(item), Message)
    assert after.conversation_key == before.conversation_key != strange.conversation_key
    assert parse_message_key(after.message_key).conversation == SUPERGROUP  # its numbers began anew


@pytest.mark.parametrize("wrong", ["-1", True, 1.5, {}, 2**60])
def test_a_migration_that_cannot_be_read_moves_nothing(wrong: Any) -> None:
    assert migration_of(message_item(migrate_to_chat_id=wrong)) is None
    assert migration_of(message_item()) is None


def test_a_channel_post_is_ours_and_names_no_customer() -> None:
    message = only(map_item(ITEMS["channel_post"][0]), Message)
    assert (message.direction, message.author_kind, message.author_name) == ("outbound", "agent", "Carla")
    assert message.handles == [Handle(kind="telegram_chat", value="-1003000000002")]


def test_a_username_is_a_description_and_no_handle() -> None:
    message = only(map_item(ITEMS["text"][0]), Message)
    assert [handle.kind for handle in message.handles] == ["telegram_user"]
    assert message.profile.username == "ada_example"


@pytest.mark.parametrize("wrong", [None, "7", 7.5, True, [], 2**53 + 1])
@pytest.mark.parametrize("name", ["message_id", "date"])
def test_a_number_that_is_none_parks_the_message(name: str, wrong: Any) -> None:
    item = message_item(text="x")
    item.payload["event"][name] = wrong
    if (name, wrong) == ("date", "7"):  # digits are a time in other APIs, and harmless
        assert only(map_item(item), Message).sent_at.year == 1970
        return
    with pytest.raises(MissingFieldError):
        map_item(item)


@pytest.mark.parametrize("number", [2**31, 2**52, -(2**52)])
def test_ids_of_52_bits_survive(number: int) -> None:
    message = only(map_item(message_item(chat={"id": number, "type": "private"})), Message)
    assert parse_conversation_key(message.conversation_key)[2] == str(number)


# -- What they say ---------------------------------------------------------------------------------------------------


def test_the_largest_size_of_a_photo_is_taken() -> None:
    (attachment,) = only(map_item(ITEMS["photo"][0]), Message).attachments
    assert (attachment.platform_media_id, attachment.size_bytes) == ("AgACAgIAAxkBAAMl", 98000)


def test_an_animation_is_no_document_and_a_venue_no_bare_location() -> None:
    assert [one.kind for one in only(map_item(ITEMS["animation"][0]), Message).attachments] == ["video"]
    assert only(map_item(ITEMS["venue"][0]), Message).content["title"] == "The Tea House"


def test_no_address_of_a_file_is_kept_for_it_would_hold_the_token() -> None:
    attachments = [
        attachment
        for items in ITEMS.values()
        for item in items
        if item.kind in {"message", "business_message"}
        for attachment in only(map_item(item), Message).attachments
    ]
    assert len(attachments) > 8
    assert {attachment.url for attachment in attachments} == {None}


def test_the_messages_of_an_album_share_its_id_and_stay_apart() -> None:
    first, second = (only(map_item(ITEMS[name][0]), Message) for name in ("album_first", "album_second"))
    assert first.content["album"] == second.content["album"]
    assert first.message_key != second.message_key


def test_identity_documents_are_not_kept() -> None:
    assert only(map_item(ITEMS["passport"][0]), Message).content == {"type": "passport_data"}


@pytest.mark.parametrize(
    ("text", "ref"),
    [("/start abc_-1", "abc_-1"), ("/start@example_shop_bot abc", "abc"), ("/start " + "x" * 64, "x" * 64),
     ("/start", None), ("/start two words", None), ("/start " + "x" * 65, None), ("/start a=b", None),
     ("/starts abc", None), ("see /start abc", None)],
)  # fmt: skip
def test_a_deep_link_is_a_referral(text: str, ref: str | None) -> None:
    message = only(map_item(message_item(text=text)), Message)
    assert message.text == text
    assert message.kind == ("referral" if ref else "text")
    assert message.origin_detail == ({"source": "start", "ref": ref} if ref else None)


@pytest.mark.parametrize(
    ("text", "status"),
    [("STOP", "opted_out"), ("/stop", "opted_out"), ("ABMELDEN", "opted_out"), ("START", "opted_in"),
     ("subscribe", "opted_in")],
)  # fmt: skip
def test_a_word_alone_decides_about_advertising(text: str, status: str) -> None:
    records = map_item(message_item(text=text))
    consent = only(records, Consent)
    assert (consent.status, consent.source, consent.decided_at) == (status, "keyword", SENT_AT)
    assert consent.source_message_key == only(records, Message).message_key


@pytest.mark.parametrize("text", ["/start", " /START", "/subscribe", "/start STOP", "please stop"])
def test_opening_the_chat_is_no_yes_to_advertising(text: str) -> None:
    assert [type(record) for record in map_item(message_item(text=text))] == [Message]


@pytest.mark.parametrize("name", ["group", "forwarded"])
def test_a_word_that_was_not_said_to_us_decides_nothing(name: str) -> None:
    item = ITEMS[name][0]
    assert item.payload["event"]["text"] == "STOP"
    assert [type(record) for record in map_item(item)] == [Message]


def test_the_owner_of_a_business_account_does_not_opt_out_for_the_customer() -> None:
    owner = {"id": 5000000009, "is_bot": False, "first_name": "Carla"}
    item = message_item("business_message", business_connection_id="bc1", text="STOP", sender=owner)
    assert [type(record) for record in map_item(item)] == [Message]


def test_blocking_the_bot_is_a_no_and_unblocking_is_no_yes() -> None:
    assert only(map_item(ITEMS["blocked"][0]), Consent).status == "opted_out"
    assert [type(record) for record in map_item(ITEMS["unblocked"][0])] == [Message]
    assert map_item(ITEMS["joined_group"][0]) == []


def test_an_unknown_status_of_the_bot_is_parked() -> None:
    item = ITEMS["blocked"][0]
    event = {**item.payload["event"], "new_chat_member": {"status": "hovering"}}
    with pytest.raises(UnknownShapeError, match="hovering"):
        map_item(Item(0, item.kind, {**item.payload, "event": event}, "x"))


# -- A shared phone number -------------------------------------------------------------------------------------------


def shared(**contact: Any) -> list[Record]:
    contact = {"phone_number": "447700900123", "first_name": "Ada", "user_id": 5000000001, **contact}
    return map_item(message_item(text=None, contact={k: v for k, v in contact.items() if v is not None}))


def test_the_senders_own_number_is_verified() -> None:
    evidence = only(shared(), Evidence)
    assert (evidence.method, evidence.strength) == ("contact_shared", "verified")
    assert evidence.handles == [
        Handle(kind="telegram_user", value="5000000001"),
        Handle(kind="phone", value="+447700900123"),
    ]


@pytest.mark.parametrize("user_id", [5000000002, None])
def test_anybody_elses_number_is_a_claim_that_does_not_name_the_sender(user_id: int | None) -> None:
    evidence = only(shared(user_id=user_id, phone_number="+44 7700 900123"), Evidence)
    assert (evidence.method, evidence.strength) == ("contact_card", "claimed")
    assert "5000000001" not in [handle.value for handle in evidence.handles]


def test_a_forwarded_card_proves_nothing() -> None:
    assert only(map_item(ITEMS["contact_own_forwarded"][0]), Evidence).strength == "claimed"


def test_the_owner_who_sends_a_card_proves_nothing_about_the_customer() -> None:
    owner = {"id": 5000000009, "is_bot": False, "first_name": "Carla"}
    for user_id in (5000000009, 5000000001):
        contact = {"phone_number": "447700900123", "first_name": "X", "user_id": user_id}
        item = message_item("business_message", business_connection_id="bc", text=None, sender=owner, contact=contact)
        assert only(map_item(item), Evidence).strength == "claimed"


def test_a_group_that_shares_a_contact_proves_nothing() -> None:
    chat = {"id": -5000000001, "type": "supergroup", "title": "x"}
    contact = {"phone_number": "447700900123", "first_name": "X", "user_id": -5000000001}
    item = message_item(text=None, chat=chat, sender_chat=chat, contact=contact)
    assert only(map_item(item), Evidence).strength == "claimed"


@pytest.mark.parametrize("wrong", ["", None, "12", "tea", 447700900123])
def test_what_is_no_number_is_no_evidence(wrong: Any) -> None:
    item = message_item(text=None, contact={"phone_number": wrong, "first_name": "Ada", "user_id": 5000000001})
    if isinstance(wrong, str) and wrong:
        assert [type(record) for record in map_item(item)] == [Message]
    else:
        with pytest.raises(MissingFieldError):
            map_item(item)


def test_a_typed_number_in_national_notation_needs_the_default_region() -> None:
    item = message_item(text=None, contact={"phone_number": "07700 900456", "first_name": "Bo"})
    assert [type(record) for record in map_item(item)] == [Message]
    evidence = only(map_item(item, default_region="GB"), Evidence)
    assert evidence.handles == [Handle(kind="phone", value="+447700900456")]


def test_what_was_entered_for_a_payment_is_a_claim() -> None:
    evidence = only(map_item(ITEMS["successful_payment"][0]), Evidence)
    assert evidence.strength == "claimed"
    assert [handle.kind for handle in evidence.handles] == ["telegram_user", "email", "phone"]


# -- Changes ---------------------------------------------------------------------------------------------------------


def test_a_pressed_button_is_an_answer_to_its_message() -> None:
    message = only(map_item(ITEMS["callback"][0]), Message)
    assert (message.kind, message.text, message.content["payload"]) == ("answer", "Green", "tea:green")
    assert parse_message_key(message.reply_to_key).platform_message_id == "21"
    assert message.conversation_key == only(map_item(ITEMS["text"][0]), Message).conversation_key
    assert (message.sent_at, message.flags) == (RECEIVED_AT, ["time_of_receipt"])


def test_a_button_of_a_message_that_is_too_old_has_no_words() -> None:
    message = only(map_item(ITEMS["callback_old"][0]), Message)
    assert (message.text, message.content["payload"]) == (None, "tea:black")
    assert parse_message_key(message.reply_to_key).platform_message_id == "3"


def test_two_edits_of_one_second_are_two_changes_in_order() -> None:
    item = ITEMS["edited_message"][0]
    later = Item(0, item.kind, {**item.payload, "update_id": item.payload["update_id"] + 1}, "x")
    first, again, second = (only(map_item(one), MessageChange) for one in (item, item, later))
    assert first.change_key == again.change_key < second.change_key


def test_an_edit_is_about_the_message_that_came_first() -> None:
    first = only(map_item(message_item()), Message)
    change = only(map_item(message_item("edited_message", edit_date=1772366460, text="Hi")), MessageChange)
    assert (change.message_key, change.text, change.changed_at) == (
        first.message_key, "Hi", SENT_AT + timedelta(minutes=1),
    )  # fmt: skip


def test_every_message_that_was_deleted_is_named() -> None:
    changes = [one for one in map_item(ITEMS["deleted_business_messages"][0]) if isinstance(one, MessageChange)]
    assert [parse_message_key(one.message_key).platform_message_id for one in changes] == ["301", "302"]
    assert {one.change for one in changes} == {"unsend"}
    sent = only(map_item(ITEMS["business_customer"][0]), Message)
    assert parse_message_key(changes[0].message_key).conversation == parse_message_key(sent.message_key).conversation


def test_reactions_are_what_they_are_now() -> None:
    changes = {
        name: only(map_item(ITEMS[name][0]), MessageChange)
        for name in ("reaction", "reaction_removed", "reaction_several")
    }
    assert [(one.change, one.emoji) for one in changes.values()] == [
        ("react", "👍"), ("unreact", None), ("react", "🔥⭐"),
    ]  # fmt: skip
    assert len({one.change_key for one in changes.values()}) == 3


def test_text_is_kept_as_written_save_what_cannot_be_stored() -> None:
    body = '=HYPERLINK("x") {{ secret }} <b>\u202e \0 a\u0301'
    assert only(map_item(message_item(text=body)), Message).text == body.replace("\0", "\ufffd")


def test_a_time_far_ahead_of_ours_is_kept_and_flagged() -> None:
    message = only(map_item(message_item(date=1803902400)), Message)
    assert (message.sent_at.year, message.flags) == (2027, ["clock_ahead"])


def test_an_error_never_tells_what_the_payload_held() -> None:
    item = message_item(text=None, contact={"phone_number": ["+447700900999 secret"], "first_name": "x"})
    with pytest.raises(MissingFieldError) as caught:
        map_item(item)
    assert "secret" not in str(caught.value)
    assert "447700900999" not in str(caught.value)


def test_a_kind_without_a_rule_says_which() -> None:
    with pytest.raises(UnknownShapeError, match="kind other"):
        map_item(ITEMS["unknown_event"][0])


def _with(item: Item, name: str, value: Any) -> Item:
    item.payload["event"][name] = value
    return item


def _group() -> dict[str, Any]:
    return {"id": int(GROUP), "type": "group", "title": "Friends of tea"}


@settings(max_examples=600, deadline=None)
@given(item=spoiled_items(ITEMS))
def test_whatever_stands_in_a_payload_the_mapping_gives_records_or_says_why_not(item: Item) -> None:
    migration_of(item)
    check_spoiled(item, map_item)
