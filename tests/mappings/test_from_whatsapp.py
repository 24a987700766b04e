"""WhatsApp webhooks as records: golden files for every kind of event, tables, and what the golden files cannot say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.from_whatsapp import WhatsAppContext, codes, records_from_whatsapp
from mappings.records import Consent, Evidence, Handle, Message, MessageChange, Receipt, Record
from taps.webhooks.items import Item
from taps.webhooks.whatsapp import split
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
ITEMS = load_items("whatsapp", split)


def context(index: int = 0, **more: Any) -> WhatsAppContext:
    return WhatsAppContext(received_at=RECEIVED_AT, raw_ref=f"delivery:1#{index}", **more)


def map_item(item: Item) -> list[Record]:
    return records_from_whatsapp(item, context(item.index, portfolio_id="300400500600700"))


def message_item(**message: Any) -> Item:
    """An item of a text by phone, changed as told; ``None`` takes a field away."""
    event = {"from": "447700900123", "id": "wamid.TEST", "timestamp": "1772366400", "type": "text",
             "text": {"body": "Hello"}, **message}  # fmt: skip
    event = {name: value for name, value in event.items() if value is not None}
    payload = {"waba_id": "200300400500600", "field": "messages", "contact": None, "item": event,
               "metadata": {"display_phone_number": "447700900001", "phone_number_id": "100200300400500"}}  # fmt: skip
    return Item(0, "message", payload, "wamid.TEST")


def only(records: list[Record], kind: type[Any]) -> Any:
    (record,) = [one for one in records if isinstance(one, kind)]
    return record


@pytest.mark.parametrize("name", fixture_names("whatsapp"))
def test_a_delivery_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("whatsapp", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("whatsapp")


def _events(kind: str) -> list[dict[str, Any]]:
    return [item.payload["item"] for items in ITEMS.values() for item in items if item.kind == kind]


def test_every_message_type_of_the_table_has_a_fixture() -> None:
    seen = {event["type"] for kind in ("message", "message_echo", "history_message") for event in _events(kind)}
    assert seen - {"hologram"} == set(codes.MESSAGE_KINDS) | set(codes.CHANGES)


def test_every_status_of_the_table_has_a_fixture() -> None:
    assert {event["status"] for event in _events("status")} - {"teleported"} == set(codes.STATUSES)


def test_every_preference_of_the_table_has_a_fixture() -> None:
    assert {event["value"] for event in _events("user_preference")} - {"pause"} == set(codes.PREFERENCES)


@pytest.mark.parametrize("status", sorted(codes.HISTORY_STATUSES))
def test_the_status_of_an_old_message_of_ours_becomes_a_receipt(status: str) -> None:
    item = message_item(**{"from": "+44 7700 900001", "history_context": {"status": status}})
    item.payload["thread"] = {"id": "447700900123"}
    records = map_item(Item(0, "history_message", item.payload, item.key))
    assert only(records, Message).direction == "outbound"
    told_status = [record.status for record in records if isinstance(record, Receipt)]
    assert told_status == [one for one in [codes.HISTORY_STATUSES[status]] if one]


@pytest.mark.parametrize("kind", sorted(codes.SYSTEM_METHODS))
def test_every_system_message_of_the_table_is_evidence(kind: str) -> None:
    system = {"type": kind, "wa_id": "447700900124", "body": "..."}
    records = map_item(message_item(type="system", text=None, system=system))
    evidence = only(records, Evidence)
    assert (evidence.method, evidence.strength) == (codes.SYSTEM_METHODS[kind], "verified")
    assert [handle.value for handle in evidence.handles] == ["+447700900124", "+447700900123"]


@pytest.mark.parametrize("field", sorted(codes.ACCOUNT_FIELDS))
def test_an_account_notification_gives_no_record(field: str) -> None:
    payload = {"waba_id": "1", "field": field, "metadata": None, "contact": None, "item": {"event": "X"}}
    assert map_item(Item(0, "other", payload, "x")) == []


@pytest.mark.parametrize("code", [*sorted(codes.ACTORS), "999999"])
def test_a_failure_names_who_must_act(code: str) -> None:
    status = {"id": "wamid.X", "status": "failed", "timestamp": "1772366400", "recipient_id": "447700900123",
              "errors": [{"code": int(code), "title": "Title", "message": "m"}]}  # fmt: skip
    payload = {**message_item().payload, "item": status}
    receipt = only(map_item(Item(0, "status", payload, "x")), Receipt)
    assert (receipt.code, receipt.reason) == (code, "Title")
    assert receipt.actor == codes.ACTORS.get(code, "operator")


def test_a_customer_with_both_ids_has_the_scoped_id_first_and_the_phone_beside_it() -> None:
    message = only(map_item(ITEMS["text"][0]), Message)
    assert message.handles == [
        Handle(kind="whatsapp_user", scope="300400500600700", value="GB.10000000000000000001"),
        Handle(kind="phone", value="+447700900123"),
    ]


def test_without_a_portfolio_the_business_account_scopes_the_user_id() -> None:
    message = only(records_from_whatsapp(ITEMS["text_user_id_only"][0], context()), Message)
    assert message.handles == [Handle(kind="whatsapp_user", scope="200300400500600", value="GB.10000000000000000002")]


def test_the_ids_beside_the_message_serve_when_the_message_names_nobody() -> None:
    item = message_item(**{"from": None})
    item.payload["contact"] = {"profile": {"name": "Bo"}, "user_id": "GB.2"}
    assert [handle.value for handle in only(map_item(item), Message).handles] == ["GB.2"]


def test_an_unreadable_phone_beside_a_user_id_does_not_cost_the_message() -> None:
    item = message_item(**{"from": "1" * 200, "from_user_id": "GB.3"})
    assert [handle.kind for handle in only(map_item(item), Message).handles] == ["whatsapp_user"]


@pytest.mark.parametrize(
    "wrong", [447700900123, 4.47e11, ["447700900123"], {"id": 1}, True, "", None, "1" * 200, "abc"]
)
def test_a_sender_that_is_no_phone_number_parks_the_message(wrong: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(message_item(**{"from": wrong}))


@pytest.mark.parametrize("wrong", [None, "", "0", "-5", 0, -5, 1.5, "1e9", True, [], "9" * 19, 253402300800_000])
def test_a_time_that_is_none_parks_the_message(wrong: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(message_item(timestamp=wrong))


@pytest.mark.parametrize("value", ["1772366400", 1772366400, "1772366400000"])
def test_a_time_is_read_in_the_forms_that_occur(value: Any) -> None:
    message = only(map_item(message_item(timestamp=value)), Message)
    assert message.sent_at == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_time_far_ahead_of_ours_is_kept_and_flagged() -> None:
    message = only(map_item(message_item(timestamp="1803902400")), Message)
    assert (message.sent_at.year, message.flags) == (2027, ["clock_ahead"])


@pytest.mark.parametrize(("latitude", "longitude"), [(91, 0), (0, -181), (1e308, 0), ("1", 0), (None, 0), (True, 0)])
def test_a_place_outside_the_world_parks_the_message(latitude: Any, longitude: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(message_item(type="location", location={"latitude": latitude, "longitude": longitude}))


@pytest.mark.parametrize(
    ("text", "status"),
    [("STOP", "opted_out"), ("stop.", "opted_out"), ("\u200bS\u200bTOP", "opted_out"), ("Basta!", "opted_out"),
     ("ABMELDEN", "opted_out"), ("darme de baja", "opted_out"), ("Désabonner", "opted_out"), ("sair", "opted_out"),
     ("ＳＴＯＰ", "opted_out"), ("START", "opted_in")],
)  # fmt: skip
def test_a_word_alone_decides_about_advertising(text: str, status: str) -> None:
    records = map_item(message_item(text={"body": text}))
    consent = only(records, Consent)
    assert (consent.status, consent.purpose, consent.source) == (status, "promotional", "keyword")
    assert consent.source_message_key == only(records, Message).message_key


@pytest.mark.parametrize("text", ["please stop", "When does it stop?", "stop stop", "YES", "non-stop", "st op", "."])
def test_a_word_in_a_sentence_decides_nothing(text: str) -> None:
    assert [type(record) for record in map_item(message_item(text={"body": text}))] == [Message]


def test_the_decision_holds_for_every_handle_of_the_customer() -> None:
    consents = [record for record in map_item(ITEMS["text_stop"][0]) if isinstance(record, Consent)]
    assert [consent.handle.kind for consent in consents] == ["whatsapp_user", "phone"]


def test_a_cancel_button_is_about_an_order_and_not_about_advertising() -> None:
    assert [type(record) for record in map_item(ITEMS["interactive_button"][0])] == [Message]


def test_a_shared_card_with_the_senders_own_number_stays_a_claim() -> None:
    card = {"name": {"formatted_name": "Vip Example"}, "emails": [{"email": "vip@shop.example"}],
            "phones": [{"phone": "+44 7700 900123", "wa_id": "447700900123"}]}  # fmt: skip
    evidence = only(map_item(message_item(type="contacts", contacts=[card])), Evidence)
    assert (evidence.method, evidence.strength) == ("contact_card", "claimed")


@pytest.mark.parametrize("cards", [2, 1])
def test_only_the_one_number_that_was_asked_for_is_verified(cards: int) -> None:
    phones = [{"phone": "+44 7700 900789"}] * (1 if cards == 2 else 2)
    if cards == 1:
        phones[1] = {"phone": "+44 7700 900790"}
    card = {"phones": phones}
    records = map_item(message_item(type="contacts", origin="contact_request", contacts=[card] * cards))
    assert {record.strength for record in records if isinstance(record, Evidence)} == {"claimed"}


def test_a_card_number_in_national_notation_needs_the_default_region() -> None:
    item = message_item(type="contacts", contacts=[{"phones": [{"phone": "07700 900456"}]}])
    assert [type(record) for record in records_from_whatsapp(item, context())] == [Message]
    evidence = only(records_from_whatsapp(item, context(default_region="GB")), Evidence)
    assert evidence.handles == [Handle(kind="phone", value="+447700900456")]


def test_a_profile_name_cannot_forge_an_old_user_id() -> None:
    evidence = only(map_item(ITEMS["system_user_id_changed"][0]), Evidence)
    assert [handle.value for handle in evidence.handles] == ["GB.10000000000000000008", "GB.10000000000000000002"]


def test_foreign_callback_data_is_not_kept_as_our_token() -> None:
    receipts = [only(map_item(item), Receipt) for item in ITEMS["status_delivered_and_read"]]
    assert [receipt.reply_token for receipt in receipts] == ["0123456789abcdef0123456789abcdef", None]


def test_a_repeated_reaction_is_the_same_change() -> None:
    first, again = (only(map_item(ITEMS["reaction"][0]), MessageChange) for _ in range(2))
    assert first.change_key == again.change_key


def test_text_is_kept_as_written_save_what_cannot_be_stored() -> None:
    body = '=HYPERLINK("x") {{ secret }} <b>\u202e \0 \ud800 a\u0301'
    assert only(map_item(message_item(text={"body": body})), Message).text == body.replace("\0", "\ufffd").replace(
        "\ud800", "\ufffd"
    )


def test_a_name_loses_what_could_deceive_a_reader() -> None:
    item = message_item()
    item.payload["contact"] = {"profile": {"name": "Ada\u202e\u200b\r\nBcc: x" + "y" * 500}, "wa_id": "447700900123"}
    profile = only(map_item(item), Message).profile
    assert profile is not None
    assert profile.name is not None
    assert profile.name.startswith("Ada Bcc: x")
    assert len(profile.name) == 200


def test_an_error_never_tells_what_the_payload_held() -> None:
    item = message_item(type="image", image={"caption": ["+447700900999 secret"], "id": "1"})
    with pytest.raises(MissingFieldError) as caught:
        map_item(item)
    assert "secret" not in str(caught.value)
    assert "447700900999" not in str(caught.value)


def test_a_kind_without_a_rule_says_which() -> None:
    with pytest.raises(UnknownShapeError, match="field calls"):
        map_item(ITEMS["call"][0])


@settings(max_examples=400, deadline=None)
@given(item=spoiled_items(ITEMS))
def test_whatever_stands_in_a_payload_the_mapping_gives_records_or_says_why_not(item: Item) -> None:
    check_spoiled(item, map_item)
