"""LINE webhooks as records: golden files for every kind of event, tables, and what the golden files cannot say."""

from __future__ import annotations

import base64
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import MissingFieldError, SettingsError, UnknownShapeError
from mappings.fold import fold_message
from mappings.from_line import LineContext, codes, profile_from_line, records_from_line, sign_nonce
from mappings.from_line.access import asserted_form, stateless_form, token_of
from mappings.from_line.account_links import handle_of_nonce
from mappings.records import Consent, Evidence, Handle, Message, MessageChange, Record
from taps.webhooks.items import Item
from taps.webhooks.line import split
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
ITEMS = load_items("line", split)
BOT, YUKI = "U0123456789abcdef0123456789abcdef", "U11111111111111111111111111111111"
GROUP = "C33333333333333333333333333333333"
SECRET = "example link secret"


def context(index: int = 0, **more: Any) -> LineContext:
    return LineContext(received_at=RECEIVED_AT, raw_ref=f"delivery:1#{index}", **more)


def map_item(item: Item) -> list[Record]:
    return records_from_line(item, context(item.index, provider_id="2000000001", account_link_secret=SECRET))


def event_item(kind: str = "message", **event: Any) -> Item:
    """An item of a text, changed as told; ``None`` takes a field away."""
    whole = {"type": kind, "timestamp": 1772366400000, "source": {"type": "user", "userId": YUKI}, "mode": "active",
             "webhookEventId": "01KJM7Z8", "message": {"id": "1", "type": "text", "text": "Hello"},
             **event}  # fmt: skip
    event = {name: value for name, value in whole.items() if value is not None}
    return Item(0, kind, {"destination": BOT, "event": event}, "01KJM7Z8")


def message_item(**message: Any) -> Item:
    return event_item(message={"id": "1", "type": "text", "text": "Hello", **message})


def only(records: list[Record], kind: type[Any]) -> Any:
    (record,) = [one for one in records if isinstance(one, kind)]
    return record


@pytest.mark.parametrize("name", fixture_names("line"))
def test_a_delivery_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("line", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("line")


def test_every_message_type_of_the_table_has_a_fixture() -> None:
    seen = {item.payload["event"]["message"]["type"] for items in ITEMS.values() for item in items
            if item.kind == "message"}  # fmt: skip
    assert seen - {"hologram"} == set(codes.MESSAGE_KINDS)


def test_every_ignored_kind_of_the_table_has_a_fixture() -> None:
    seen = {item.kind for items in ITEMS.values() for item in items}
    assert seen >= codes.IGNORED


def test_without_a_provider_the_bot_scopes_the_user_id() -> None:
    message = only(records_from_line(event_item(), context()), Message)
    assert message.handles == [Handle(kind="line_user", scope=BOT, value=YUKI)]


def test_what_a_customer_says_in_a_group_is_a_thread_of_its_own() -> None:
    alone = only(map_item(event_item()), Message)
    in_group = only(map_item(event_item(source={"type": "group", "groupId": GROUP, "userId": YUKI})), Message)
    assert alone.handles == in_group.handles
    assert alone.conversation_key != in_group.conversation_key
    assert in_group.flags == ["group"]


def test_a_member_of_a_group_without_an_id_is_known_as_the_group() -> None:
    message = only(map_item(event_item(source={"type": "group", "groupId": GROUP})), Message)
    assert message.handles == [Handle(kind="line_group", scope=BOT, value=GROUP)]


@pytest.mark.parametrize(
    "source",
    [None, {}, {"type": "user"}, {"type": "user", "userId": 3}, {"type": "group"}, {"type": "group", "groupId": []},
     {"type": "planet", "planetId": "P1"}, "U1"],
)  # fmt: skip
def test_an_event_that_names_nobody_is_parked(source: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(event_item(source=source))


def test_a_source_of_a_new_type_with_a_user_is_that_user() -> None:
    item = event_item(source={"type": "planet", "planetId": "P1", "userId": YUKI})
    assert only(map_item(item), Message).handles[0].value == YUKI


@pytest.mark.parametrize("wrong", [None, "", "0", 0, -5, 1.5, True, [], "9" * 19, 253402300800_000])
def test_a_time_that_is_none_parks_the_message(wrong: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(event_item(timestamp=wrong))


def test_a_time_far_ahead_of_ours_is_kept_and_flagged() -> None:
    message = only(map_item(event_item(timestamp=1803902400000)), Message)
    assert (message.sent_at.year, message.flags) == (2027, ["clock_ahead"])


@pytest.mark.parametrize(("latitude", "longitude"), [(91, 0), (0, -181), (1e308, 0), ("1", 0), (None, 0), (True, 0)])
def test_a_place_outside_the_world_parks_the_message(latitude: Any, longitude: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(message_item(type="location", latitude=latitude, longitude=longitude))


def test_a_file_of_an_older_delivery_is_kept_by_line() -> None:
    message = only(map_item(message_item(type="image")), Message)
    assert message.attachments[0].platform_media_id == "1"


@pytest.mark.parametrize("size", [None, "2138", -1, True, 2**63, 1.5])
def test_a_size_that_is_none_does_not_cost_the_file(size: Any) -> None:
    message = only(map_item(message_item(type="file", fileName="a.pdf", fileSize=size)), Message)
    assert message.attachments[0].size_bytes is None


def test_tokens_for_our_own_calls_are_not_shown_to_people() -> None:
    item = event_item(
        replyToken="reply-secret",
        message={"id": "1", "type": "sticker", "quoteToken": "quote-secret", "markAsReadToken": "read-secret"},
    )
    assert "secret" not in only(map_item(item), Message).model_dump_json()


@pytest.mark.parametrize(
    ("text", "status"),
    [("STOP", "opted_out"), ("stop.", "opted_out"), ("ＳＴＯＰ", "opted_out"), ("START", "opted_in")],
)
def test_a_word_alone_decides_about_advertising(text: str, status: str) -> None:
    records = map_item(message_item(text=text))
    consent = only(records, Consent)
    assert (consent.status, consent.purpose, consent.source) == (status, "promotional", "keyword")
    assert consent.source_message_key == only(records, Message).message_key


@pytest.mark.parametrize("text", ["please stop", "stop stop", "YES", "."])
def test_a_word_in_a_sentence_decides_nothing(text: str) -> None:
    assert [type(record) for record in map_item(message_item(text=text))] == [Message]


def test_a_block_declines_everything_and_its_lifting_gives_back_service_alone() -> None:
    blocked = [(one.purpose, one.status) for one in map_item(ITEMS["unfollow"][0]) if isinstance(one, Consent)]
    lifted = [(one.purpose, one.status) for one in map_item(ITEMS["follow_after_block"][0]) if isinstance(one, Consent)]
    assert blocked == [("service", "opted_out"), ("promotional", "opted_out")]
    assert lifted == [("service", "opted_in")]


def test_what_the_system_tells_is_no_word_of_the_customer() -> None:
    authors = {only(map_item(ITEMS[name][0]), Message).author_kind for name in ("follow", "unfollow")}
    assert authors == {"system"}


def test_of_two_edits_the_one_with_the_later_time_holds_in_whatever_order_they_come() -> None:
    original = only(map_item(message_item(id="325709")), Message)
    edits = [only(map_item(item), MessageChange) for item in ITEMS["message_edited"]]
    folded = {fold_message([original], order, [], [], []).text for order in itertools.permutations(edits)}
    assert folded == {"second version"}


def test_a_redelivered_event_is_the_same_record() -> None:
    item = ITEMS["redelivered"][0]
    before = json.loads(json.dumps(item.payload))
    before["event"]["deliveryContext"]["isRedelivery"] = False
    assert map_item(Item(0, item.kind, before, item.key)) == map_item(item)


def test_a_button_of_the_past_has_an_id_that_repeats_with_it() -> None:
    item = event_item("postback", webhookEventId=None, message=None, postback={"data": "x"})
    first, again = (only(map_item(item), Message).message_key for _ in range(2))
    assert first == again
    assert "postback.1772366400000" in first


# -- Account linking ---------------------------------------------------------------------------------------------------

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age", "strength"),
    [(0, "verified"), (600, "verified"), (660, "verified"), (661, "claimed"), (-60, "verified"), (-61, "claimed")],
)
def test_a_signed_nonce_is_believed_as_long_as_a_link_token_lives(age: int, strength: str) -> None:
    nonce = sign_nonce("email:Yuki@Mail.example", NOW - timedelta(seconds=age), SECRET)
    assert handle_of_nonce(nonce, BOT, NOW, SECRET) == (Handle(kind="email", value="yuki@mail.example"), strength)


@pytest.mark.parametrize("secret", [None, "", "another secret"])
def test_without_the_right_secret_a_signature_proves_nothing(secret: str | None) -> None:
    assert handle_of_nonce(sign_nonce("phone:+12025550101", NOW, SECRET), BOT, NOW, secret)[1] == "claimed"


def test_a_nonce_signed_for_one_is_not_good_for_another() -> None:
    nonce = sign_nonce("email:yuki@mail.example", NOW, SECRET)
    text = base64.urlsafe_b64decode(nonce + "=" * (-len(nonce) % 4)).decode().replace("yuki", "olga")
    forged = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    handle, strength = handle_of_nonce(forged, BOT, NOW, SECRET)
    assert (handle.value, strength) == ("olga@mail.example", "claimed")


@pytest.mark.parametrize(
    "nonce",
    ["xRCB2nBMtWHVyVN5Yg0Pyw", "a-word-of-the-site", "email:yuki@mail.example", "bm90aGluZyBoZXJl",
     "é:1772366400:" + "0" * 64, "a", "====", "\x00", base64.urlsafe_b64encode(b"login:").decode()],
)  # fmt: skip
def test_what_is_not_signed_is_claimed_at_most(nonce: str) -> None:
    assert handle_of_nonce(nonce, BOT, NOW, SECRET)[1] == "claimed"


def test_a_nonce_fits_what_line_takes() -> None:
    nonce = sign_nonce("email:" + "a" * 96 + "@mail.example", NOW, SECRET)
    assert 10 <= len(nonce) <= 255
    assert nonce.replace("-", "").replace("_", "").isalnum()


@given(identity=st.text(min_size=1, max_size=60), age=st.integers(0, 600))
def test_whatever_a_site_signs_is_read_back(identity: str, age: int) -> None:
    try:
        nonce = sign_nonce(f"login:{identity}", NOW - timedelta(seconds=age), SECRET)
    except UnicodeEncodeError:
        return
    handle, strength = handle_of_nonce(nonce, BOT, NOW, SECRET)
    if identity.isprintable():
        assert (handle, strength) == (Handle(kind="login", scope=BOT, value=identity), "verified")
    else:
        assert strength == "claimed"


def test_a_link_that_failed_proves_nothing() -> None:
    assert map_item(ITEMS["account_link"][5]) == []


def test_a_link_in_a_group_by_nobody_is_parked() -> None:
    link = {"result": "ok", "nonce": "xRCB2nBMtWHVyVN5Yg0Pyw"}
    with pytest.raises(MissingFieldError):
        map_item(event_item("accountLink", link=link, source={"type": "group", "groupId": GROUP}))


def test_an_unknown_result_of_a_link_is_parked() -> None:
    with pytest.raises(UnknownShapeError, match="'maybe'"):
        map_item(event_item("accountLink", link={"result": "maybe", "nonce": "x"}))


# -- Names and access tokens -------------------------------------------------------------------------------------------


def test_a_name_is_evidence_that_links_nobody() -> None:
    user = Handle(kind="line_user", scope="2000000001", value=YUKI)
    payload = {
        "userId": YUKI,
        "displayName": "Yuki\u202e \u200b田中",
        "pictureUrl": "https://p.example/1",
        "language": "ja",
    }
    evidence = profile_from_line(payload, BOT, user, observed_at=NOW, raw_ref="poll:1")
    assert evidence is not None
    assert evidence.handles == [user]
    assert evidence.profile is not None
    assert (evidence.profile.name, evidence.profile.locale) == ("Yuki 田中", "ja")


def test_an_answer_without_a_name_is_no_evidence() -> None:
    user = Handle(kind="line_user", scope=BOT, value=YUKI)
    assert profile_from_line({"userId": YUKI}, BOT, user, observed_at=NOW, raw_ref="poll:1") is None


def test_a_token_ends_when_the_answer_says() -> None:
    assert token_of({"access_token": "t", "expires_in": 899}, NOW) == ("t", NOW + timedelta(seconds=899))
    assert stateless_form("1", "s") == {"grant_type": "client_credentials", "client_id": "1", "client_secret": "s"}


@pytest.mark.parametrize(
    "answer", [{}, {"access_token": "t"}, {"expires_in": 899}, {"access_token": "t", "expires_in": "9"}]
)
def test_an_answer_that_is_no_token_says_what_is_missing(answer: dict[str, Any]) -> None:
    with pytest.raises(MissingFieldError):
        token_of(answer, NOW)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB"}',
        '{"kty": "oct", "k": "c2VjcmV0", "kid": "k"}',
    ],
)
def test_a_key_that_is_none_is_a_wrong_setting_and_is_not_told(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        asserted_form("1", key, None, NOW, timedelta(days=30))
    assert "c2VjcmV0" not in str(caught.value)


# -- Hostile payloads --------------------------------------------------------------------------------------------------


def test_text_is_kept_as_written_save_what_cannot_be_stored() -> None:
    body = '=HYPERLINK("x") {{ secret }} <b>\u202e \0 \ud800 a\u0301'
    assert only(map_item(message_item(text=body)), Message).text == body.replace("\0", "\ufffd").replace(
        "\ud800", "\ufffd"
    )


def test_an_error_never_tells_what_the_payload_held() -> None:
    with pytest.raises(MissingFieldError) as caught:
        map_item(message_item(text=["+447700900999 secret"]))
    assert "secret" not in str(caught.value)


@settings(max_examples=400, deadline=None)
@given(item=spoiled_items(ITEMS))
def test_whatever_stands_in_a_payload_the_mapping_gives_records_or_says_why_not(item: Item) -> None:
    check_spoiled(item, map_item)


def test_a_verified_link_joins_the_user_and_the_address() -> None:
    evidence = only(map_item(ITEMS["account_link"][0]), Evidence)
    assert (evidence.method, evidence.strength) == ("account_link", "verified")
    assert [handle.kind for handle in evidence.handles] == ["line_user", "email"]
