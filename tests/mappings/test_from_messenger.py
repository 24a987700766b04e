"""Messenger webhooks and polled messages as records: golden files, tables, and what the golden files cannot say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.from_messenger import (
    MessengerContext,
    codes,
    message_from_messenger_poll,
    records_from_messenger,
    sign_authorization_code,
)
from mappings.records import Attachment, Consent, Evidence, Handle, Message, MessageChange, Receipt, Record
from taps.webhooks.items import Item
from taps.webhooks.messenger import split
from tests.contract.mapping import (
    check_golden,
    check_no_golden_is_left_over,
    check_spoiled,
    fixture_names,
    load_items,
    spoiled_items,
    told,
)

PAGE = "108812345678901"
ADA = "6890123456789012"
RECEIVED_AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
SECRET = "example link secret"
ITEMS = load_items("messenger", split)


def map_item(item: Item, **more: Any) -> list[Record]:
    values = {"app_id": "200000000000001", "account_link_secret": SECRET, **more}
    context = MessengerContext(received_at=RECEIVED_AT, raw_ref=f"delivery:1#{item.index}", **values)
    return records_from_messenger(item, context)


def item_of(kind: str, event: dict[str, Any], **around: Any) -> Item:
    """An item of one event from Ada to the page."""
    whole = {"sender": {"id": ADA}, "recipient": {"id": PAGE}, "timestamp": 1772366400000, **event}
    whole = {name: value for name, value in whole.items() if value is not None}
    payload = {"page_id": PAGE, "standby": False, "entry_time": None, "field": None, "event": whole, **around}
    return Item(0, kind, payload, "key")


def only(records: list[Record], kind: type[Any]) -> Any:
    (record,) = [one for one in records if isinstance(one, kind)]
    return record


@pytest.mark.parametrize("name", fixture_names("messenger"))
def test_a_delivery_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("messenger", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("messenger")


def test_every_attachment_type_of_the_tables_has_a_fixture() -> None:
    messages = [item.payload["event"]["message"] for items in ITEMS.values() for item in items
                if item.kind in {"message", "message_echo"} and item.payload["field"] is None]  # fmt: skip
    seen = {one["type"] for message in messages for one in message.get("attachments") or ()}
    assert seen - {"hologram"} == set(codes.FILES) | set(codes.SHARES)


def test_every_ignored_kind_has_a_fixture() -> None:
    fixtures = [item for name in ("handover", "page_notices", "feed_other") for item in ITEMS[name]]
    assert {item.kind for item in fixtures if not map_item(item)} == set(codes.IGNORED)


def test_the_dashboards_test_form_makes_no_customer() -> None:
    assert map_item(ITEMS["dashboard_test"][0]) == []


@pytest.mark.parametrize("name", sorted(codes.REACTIONS))
def test_a_reaction_without_its_emoji_is_told_by_its_name(name: str) -> None:
    item = item_of("reaction", {"reaction": {"reaction": name, "action": "react", "mid": "m_1"}})
    assert only(map_item(item), MessageChange).emoji == codes.REACTIONS[name]


@pytest.mark.parametrize("sticker", sorted(codes.LIKES))
def test_the_thumb_is_known_in_all_its_sizes(sticker: int) -> None:
    attachment = {"type": "image", "payload": {"url": "https://cdn.example/1.png", "sticker_id": sticker}}
    message = only(map_item(item_of("message", {"message": {"mid": "m_1", "attachments": [attachment]}})), Message)
    assert (message.kind, message.content) == ("sticker", {"sticker": "like"})


def test_the_customer_of_an_echo_is_the_one_who_got_it() -> None:
    messages = [only(map_item(item), Message) for item in ITEMS["echo"]]
    assert {handle.value for message in messages for handle in message.handles} == {ADA}
    assert {message.direction for message in messages} == {"outbound"}


def test_an_echo_says_who_wrote_it_by_app_and_token() -> None:
    messages = [only(map_item(item), Message) for item in ITEMS["echo"]]
    assert [(message.author_kind, message.reply_token is not None) for message in messages] == [
        ("agent", False), ("agent", True), ("bot", False), ("agent", False), ("agent", False),
    ]  # fmt: skip


def test_without_our_app_id_nobody_is_taken_for_a_bot() -> None:
    assert only(map_item(ITEMS["echo"][2], app_id=None), Message).author_kind == "agent"


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


def test_a_delivery_without_a_time_takes_its_watermark() -> None:
    receipts = [record for item in ITEMS["delivery"] for record in map_item(item) if isinstance(record, Receipt)]
    assert [receipt.subject_kind for receipt in receipts] == ["message", "message", "conversation"]
    assert receipts[0].occurred_at == datetime(2026, 3, 1, 12, 0, 1, tzinfo=UTC)
    assert receipts[2].up_to_at == datetime(2026, 3, 1, 12, 0, 2, tzinfo=UTC)


def test_a_delivery_with_neither_time_nor_watermark_is_parked() -> None:
    with pytest.raises(MissingFieldError):
        map_item(item_of("delivery", {"timestamp": None, "delivery": {"mids": ["m_1"]}}))


def linked(code: str, secret: str | None = SECRET) -> Evidence:
    item = item_of("account_linking", {"account_linking": {"status": "linked", "authorization_code": code}})
    evidence: Evidence = only(map_item(item, account_link_secret=secret), Evidence)
    return evidence


@pytest.mark.parametrize(
    ("identity", "handle"),
    [("email:Ada@Shop.example", Handle(kind="email", value="ada@shop.example")),
     ("phone:+44 7700 900123", Handle(kind="phone", value="+447700900123")),
     ("login:customer 7", Handle(kind="login", scope=PAGE, value="customer 7"))],
)  # fmt: skip
def test_a_signed_code_proves_who_logged_in(identity: str, handle: Handle) -> None:
    evidence = linked(sign_authorization_code(identity, SECRET))
    assert evidence.handles == [Handle(kind="messenger_psid", scope=PAGE, value=ADA), handle]
    assert (evidence.method, evidence.strength) == ("account_link", "verified")


@pytest.mark.parametrize("code", ["email:vip@shop.example", "vip@shop.example", "phone:+447700900123",
                                  "email:vip@shop.example:" + "0" * 64])  # fmt: skip
@pytest.mark.parametrize("secret", [SECRET, None])
def test_an_unsigned_address_is_only_a_claim(code: str, secret: str | None) -> None:
    assert linked(code, secret).strength == "claimed"


def test_a_signature_holds_for_its_own_address_only() -> None:
    signature = sign_authorization_code("email:ada@shop.example", SECRET).rpartition(":")[2]
    assert linked(f"email:vip@shop.example:{signature}").strength == "claimed"


def test_a_code_of_the_sites_own_making_is_kept_as_a_login() -> None:
    evidence = linked("c7a1f0", None)
    assert evidence.handles[1] == Handle(kind="login", scope=PAGE, value="c7a1f0")
    assert evidence.strength == "verified"


def test_with_a_secret_set_an_unsigned_login_is_a_claim() -> None:
    assert linked("c7a1f0").strength == "claimed"


def test_the_secret_is_not_in_the_contexts_text() -> None:
    assert SECRET not in repr(MessengerContext(received_at=RECEIVED_AT, raw_ref="x", account_link_secret=SECRET))


def test_contact_data_out_of_a_quick_reply_is_only_a_claim() -> None:
    evidence = [only(map_item(item), Evidence) for item in ITEMS["message_quick_reply"][1:]]
    assert [(one.strength, one.handles[1].kind) for one in evidence] == [("claimed", "email"), ("claimed", "phone")]


def test_a_word_alone_is_an_opt_out() -> None:
    assert only(map_item(ITEMS["message_stop"][0]), Consent).status == "opted_out"


def test_opt_ins_and_their_withdrawal_are_consents() -> None:
    consents = [record for item in ITEMS["optin"] for record in map_item(item) if isinstance(record, Consent)]
    assert [consent.status for consent in consents] == ["opted_in", "opted_out"]


def test_an_unknown_reaction_action_is_parked() -> None:
    with pytest.raises(UnknownShapeError):
        map_item(item_of("reaction", {"reaction": {"action": "shrug", "mid": "m_1"}}))


def polled(**more: Any) -> dict[str, Any]:
    return {"id": "m_1", "created_time": "2026-03-01T12:00:00+0000", "message": "Hello",
            "from": {"name": "Ada Example", "email": f"{ADA}@facebook.com", "id": ADA},
            "to": {"data": [{"name": "Page", "id": PAGE}]}, **more}  # fmt: skip


def poll(payload: dict[str, Any]) -> Message:
    return message_from_messenger_poll(payload, PAGE, received_at=RECEIVED_AT, raw_ref="poll:1")


def test_a_polled_message_has_the_same_key_and_thread_as_its_webhook() -> None:
    webhook = only(map_item(item_of("message", {"message": {"mid": "m_1", "text": "Hello"}})), Message)
    message = poll(polled())
    same = ("message_key", "conversation_key", "handles", "sent_at", "text", "direction", "kind")
    assert [getattr(message, name) for name in same] == [getattr(webhook, name) for name in same]
    assert (message.seen_by, message.author_name) == ("poll", "Ada Example")


def test_a_polled_answer_belongs_to_the_customer_who_got_it() -> None:
    message = poll(polled(**{"from": {"id": PAGE, "name": "Page"}, "to": {"data": [{"id": PAGE}, {"id": ADA}]}}))
    assert (message.direction, message.author_kind, message.handles[0].value) == ("outbound", "agent", ADA)
    assert message.profile is None


@pytest.mark.parametrize(
    ("attachment", "expected"),
    [({"id": "1", "mime_type": "image/jpeg", "image_data": {"url": "https://cdn.example/1"}},
      Attachment(kind="image", platform_media_id="1", mime_type="image/jpeg", url="https://cdn.example/1")),
     ({"id": "2", "mime_type": "image/png", "image_data": {"url": "https://cdn.example/2", "render_as_sticker": True}},
      Attachment(kind="sticker", platform_media_id="2", mime_type="image/png", url="https://cdn.example/2")),
     ({"id": "3", "mime_type": "video/mp4", "video_data": {"url": "https://cdn.example/3"}, "size": 7},
      Attachment(kind="video", platform_media_id="3", mime_type="video/mp4", url="https://cdn.example/3",
                 size_bytes=7)),
     ({"id": "4", "mime_type": "audio/mp4", "file_url": "https://cdn.example/4"},
      Attachment(kind="audio", platform_media_id="4", mime_type="audio/mp4", url="https://cdn.example/4")),
     ({"id": "5", "mime_type": "application/pdf", "name": "a.pdf", "file_url": "https://cdn.example/5"},
      Attachment(kind="file", platform_media_id="5", mime_type="application/pdf", filename="a.pdf",
                 url="https://cdn.example/5"))],
)  # fmt: skip
def test_a_polled_attachment_keeps_its_kind_and_place(attachment: dict[str, Any], expected: Attachment) -> None:
    assert poll(polled(attachments={"data": [attachment]})).attachments == [expected]


@pytest.mark.parametrize("wrong", [{"from": None}, {"created_time": "yesterday"}, {"created_time": 5}, {"id": None},
                                   {"created_time": "2026-03-01T12:00:00"},
                                   {"from": {"id": PAGE}, "to": {"data": [{"id": PAGE}]}}])  # fmt: skip
def test_a_polled_message_without_what_it_needs_is_parked(wrong: dict[str, Any]) -> None:
    with pytest.raises(MissingFieldError):
        poll(polled(**wrong))


@settings(max_examples=400, deadline=None)
@given(item=spoiled_items(ITEMS))
def test_whatever_stands_in_a_payload_the_mapping_gives_records_or_says_why_not(item: Item) -> None:
    check_spoiled(item, map_item)
