"""Twilio's webhooks and list as records: golden files, tables, and what the golden files cannot say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import MissingFieldError, PayloadError, UnknownShapeError
from mappings.fold import fold_message, join_sightings
from mappings.from_twilio import TwilioContext, codes, records_from_twilio
from mappings.records import Consent, Handle, Message, Receipt, Record
from taps.webhooks.items import Item
from taps.webhooks.twilio import split
from tests.contract.mapping import check_golden, check_no_golden_is_left_over, fixture_names, load_items, told

OURS, ADA = "+12025550100", "+447700900123"
RECEIVED_AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)


def split_fixture(body: bytes) -> list[Item]:
    """The items of a fixture: of the form that it stands for, or of a page of the list."""
    value = json.loads(body)
    if "messages" not in value:
        return split(urlencode(value).encode())
    items: list[Item] = []
    for row in value["messages"]:
        payload = {"row": row, "media": value.get("media", {}).get(row["sid"])}
        items.append(Item(len(items), "listed", payload, row["sid"]))
        if row["direction"].startswith("outbound"):
            items.append(Item(len(items), "listed_status", {"row": row, "media": None}, row["sid"]))
    return items


ITEMS = load_items("twilio", split_fixture)


def map_item(item: Item, **more: Any) -> list[Record]:
    context = TwilioContext(received_at=RECEIVED_AT, raw_ref=f"delivery:1#{item.index}", **more)
    return records_from_twilio(item, context)


def message_item(**form: Any) -> Item:
    """An SMS of Ada's, changed as told; ``None`` takes a parameter away."""
    whole = {
        "MessageSid": "SM1",
        "AccountSid": "AC1",
        "From": ADA,
        "To": OURS,
        "Body": "Hello",
        "NumMedia": "0",
        **form,
    }
    return Item(0, "message", {"form": {name: value for name, value in whole.items() if value is not None}}, "SM1")


def status_item(**form: Any) -> Item:
    whole = {"MessageSid": "SM1", "AccountSid": "AC1", "From": OURS, "To": ADA, "MessageStatus": "failed", **form}
    return Item(
        0, "status", {"form": {name: value for name, value in whole.items() if value is not None}}, "SM1:failed"
    )


def listed_item(kind: str = "listed", media: Any = None, **row: Any) -> Item:
    whole = {"sid": "SM1", "account_sid": "AC1", "direction": "inbound", "from": ADA, "to": OURS, "body": "Hello",
             "status": "received", "num_media": "0", "date_sent": "Sun, 01 Mar 2026 12:00:03 +0000",
             "date_created": "Sun, 01 Mar 2026 12:00:02 +0000", "date_updated": "Sun, 01 Mar 2026 12:00:09 +0000",
             **row}  # fmt: skip
    return Item(0, kind, {"row": whole, "media": media}, "SM1")


def only(records: list[Record], kind: type[Any]) -> Any:
    (record,) = [one for one in records if isinstance(one, kind)]
    return record


def decisions(records: list[Record]) -> dict[str, str]:
    return {one.purpose: one.status for one in records if isinstance(one, Consent)}


@pytest.mark.parametrize("name", fixture_names("twilio"))
def test_an_event_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("twilio", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("twilio")


def test_every_status_of_the_table_has_a_fixture() -> None:
    forms = [item.payload["form"] for items in ITEMS.values() for item in items if item.kind == "status"]
    rows = [item.payload["row"] for items in ITEMS.values() for item in items if "row" in item.payload]
    seen = {form["MessageStatus"] for form in forms} | {row["status"] for row in rows}
    assert seen - {"teleported"} == set(codes.STATUSES) - {"receiving"}


def test_every_direction_of_the_table_has_a_fixture() -> None:
    rows = [item.payload["row"] for items in ITEMS.values() for item in items if "row" in item.payload]
    assert {row["direction"] for row in rows} - {"sideways"} == set(codes.DIRECTIONS)


@pytest.mark.parametrize("code", [*sorted(codes.ERRORS), "39999"])
def test_a_failure_says_what_happened_and_who_must_act(code: str) -> None:
    receipt = only(map_item(status_item(ErrorCode=code)), Receipt)
    reason, actor = codes.ERRORS.get(code, ("Twilio's error 39999", "operator"))
    assert (receipt.status, receipt.code, receipt.reason, receipt.actor) == ("failed", code, reason, actor)


@pytest.mark.parametrize("value", [None, "", "0", 0])
def test_no_error_code_is_no_code(value: Any) -> None:
    receipt = only(map_item(listed_item("listed_status", direction="outbound-api", status="sent", error_code=value)),
                   Receipt)  # fmt: skip
    assert (receipt.code, receipt.reason, receipt.actor) == (None, None, "nobody")


# -- the parties -------------------------------------------------------------------------------------------------------


def test_the_account_is_our_number_and_the_customer_a_phone_of_the_whole_world() -> None:
    message = only(map_item(message_item()), Message)
    assert (message.channel, message.account) == ("sms", OURS)
    assert message.handles == [Handle(kind="phone", value=ADA)]
    assert message.message_key == "sms:+12025550100:SM1"
    assert message.conversation_key == "sms:+12025550100:+447700900123"


@pytest.mark.parametrize(
    ("sender", "handle"),
    [("32665", Handle(kind="sms_short_code", scope=OURS, value="32665")),
     ("BIG SHOP", Handle(kind="sms_sender", scope=OURS, value="BIG SHOP")),
     ("+1", Handle(kind="sms_sender", scope=OURS, value="+1")),
     ("4477009001", Handle(kind="sms_sender", scope=OURS, value="4477009001"))],
)  # fmt: skip
def test_what_is_no_phone_is_no_phone(sender: str, handle: Handle) -> None:
    assert only(map_item(message_item(From=sender)), Message).handles == [handle]


def test_a_message_and_its_row_in_the_list_are_one_message_in_one_thread() -> None:
    webhook, row = only(map_item(message_item()), Message), only(map_item(listed_item()), Message)
    same = ("message_key", "conversation_key", "channel", "account", "handles", "text", "direction", "kind")
    assert [getattr(webhook, name) for name in same] == [getattr(row, name) for name in same]
    assert (webhook.seen_by, webhook.sent_at, webhook.flags) == ("webhook", RECEIVED_AT, ["time_of_receipt"])
    assert (row.seen_by, row.sent_at, row.flags) == ("poll", datetime(2026, 3, 1, 12, 0, 3, tzinfo=UTC), [])


@pytest.mark.parametrize(("ours", "theirs"), [("whatsapp:+12025550100", ADA), (OURS, "whatsapp:+447700900123"),
                                              ("whatsapp:+12025550100", "whatsapp:+447700900123")])  # fmt: skip
def test_a_whatsapp_address_on_either_side_makes_it_whatsapp(ours: str, theirs: str) -> None:
    message = only(map_item(message_item(From=theirs, To=ours)), Message)
    assert (message.channel, message.account) == ("whatsapp", OURS)
    assert message.handles == [Handle(kind="phone", value=ADA)]


def test_a_whatsapp_user_id_is_scoped_by_the_portfolio_or_else_by_the_twilio_account() -> None:
    item = ITEMS["whatsapp"][0]
    scopes = [only(map_item(item, **more), Message).handles[1].scope for more in ({"portfolio_id": "300400"}, {})]
    assert scopes == ["300400", item.payload["form"]["AccountSid"]]


@pytest.mark.parametrize("address", ["rcs:+447700900123", "messenger:6890", "chat:ada"])
def test_other_channels_are_refused_by_name(address: str) -> None:
    with pytest.raises(UnknownShapeError, match=f"of the kind {address.partition(':')[0]} are not read"):
        map_item(message_item(From=address))


@pytest.mark.parametrize("wrong", [{"From": None}, {"To": ""}, {"From": "whatsapp:Ada"}, {"From": 447700900123}])
def test_a_message_without_parties_is_parked(wrong: dict[str, Any]) -> None:
    with pytest.raises(MissingFieldError):
        map_item(message_item(**wrong))


def test_a_status_without_a_sender_belongs_to_the_messaging_service() -> None:
    receipt = only(map_item(status_item(From=None, MessagingServiceSid="MG1")), Receipt)
    assert receipt.subject_key == "sms:MG1:SM1"


def test_a_status_that_names_neither_sender_nor_service_is_parked() -> None:
    with pytest.raises(MissingFieldError, match="neither our number nor a messaging service"):
        map_item(status_item(From=None))


# -- words of consent --------------------------------------------------------------------------------------------------

OUT, IN = "opted_out", "opted_in"


@pytest.mark.parametrize("word", ["STOP", "unsubscribe", " End ", "QUIT", "stopall", "REVOKE", "OptOut", "Cancel."])
def test_a_carriers_stop_ends_all_messages(word: str) -> None:
    assert decisions(map_item(message_item(Body=word))) == {"service": OUT, "promotional": OUT}


@pytest.mark.parametrize(
    ("form", "expected"),
    [({"Body": "START"}, {"service": IN, "promotional": IN}),
     ({"Body": "UNSTOP"}, {"service": IN, "promotional": IN}),
     ({"Body": "YES"}, {"service": IN}),  # it mostly answers a question, so it is no yes to advertising
     ({"Body": "Basta!"}, {"promotional": OUT}),  # our own word: no carrier knows it
     ({"Body": "HELP"}, {}),
     ({"Body": "please stop"}, {}),
     ({"Body": "ferma tutto", "OptOutType": "STOP"}, {"service": OUT, "promotional": OUT}),
     ({"Body": "JOIN", "OptOutType": "START"}, {"service": IN}),
     ({"Body": "START", "OptOutType": "START"}, {"service": IN, "promotional": IN}),
     ({"Body": "INFO", "OptOutType": "HELP"}, {}),
     ({"Body": "what", "OptOutType": "SHRUG"}, {})],
)  # fmt: skip
def test_words_and_twilios_own_word_decide(form: dict[str, str], expected: dict[str, str]) -> None:
    assert decisions(map_item(message_item(**form))) == expected


@pytest.mark.parametrize(("word", "expected"), [("STOP", {"service": OUT, "promotional": OUT}),
                                                ("CANCEL", {"promotional": OUT}), ("YES", {}),
                                                ("UNSTOP", {"service": IN, "promotional": IN})])  # fmt: skip
def test_toll_free_numbers_know_fewer_words(word: str, expected: dict[str, str]) -> None:
    assert decisions(map_item(message_item(Body=word, To="+18885550123"))) == expected


def test_stop_under_a_picture_decides_nothing() -> None:
    media = {"NumMedia": "1", "MediaUrl0": "https://api.twilio.com/x", "MediaContentType0": "image/png"}
    assert decisions(map_item(message_item(Body="STOP", **media))) == {}


def test_stop_on_whatsapp_is_about_advertising_and_holds_for_both_ids() -> None:
    consents = [one for one in map_item(ITEMS["whatsapp_stop"][0]) if isinstance(one, Consent)]
    assert [(one.handle.kind, one.purpose, one.status) for one in consents] == [
        ("phone", "promotional", OUT), ("whatsapp_user", "promotional", OUT),
    ]  # fmt: skip


def test_the_carriers_list_of_those_who_stopped_is_a_consent() -> None:
    records = map_item(status_item(ErrorCode="21610"))
    assert decisions(records) == {"service": OUT, "promotional": OUT}
    assert {one.source for one in records if isinstance(one, Consent)} == {"carrier"}
    assert decisions(map_item(status_item(ErrorCode="30003"))) == {}


# -- times and hostile values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "hour"),
    [("Sun, 01 Mar 2026 12:00:03 +0000", 12), ("Sun, 01 Mar 2026 12:00:03 -0000", 12),
     ("Sun, 01 Mar 2026 07:00:03 -0500", 12), (None, 12)],
)  # fmt: skip
def test_a_time_is_read_as_utc(sent: str | None, hour: int) -> None:
    sent_at = only(map_item(listed_item(date_sent=sent)), Message).sent_at
    assert (sent_at.hour, sent_at.tzinfo) == (hour, UTC)


@pytest.mark.parametrize("wrong", ["yesterday", "2026-03-01", 1772366400, {}, "Sun, 99 Mar 2026 12:00:03 +0000",
                                   "Fri, 31 Dec 9999 23:59:59 -2300", "1, 1 1 1 1:1 -9999999"])  # fmt: skip
def test_a_time_that_is_none_parks_the_message(wrong: Any) -> None:
    with pytest.raises(MissingFieldError, match="date_sent"):
        map_item(listed_item(date_sent=wrong))


def test_a_time_far_ahead_of_ours_is_kept_and_flagged() -> None:
    message = only(map_item(listed_item(date_sent="Mon, 01 Mar 2027 12:00:03 +0000")), Message)
    assert (message.sent_at.year, message.flags) == (2027, ["clock_ahead"])


@pytest.mark.parametrize("latitude", ["91", "1e3", "", "north", "٣", "-90.0000001"])
def test_a_place_outside_the_world_parks_the_message(latitude: str) -> None:
    with pytest.raises(MissingFieldError, match="Latitude"):
        map_item(message_item(From=f"whatsapp:{ADA}", Latitude=latitude, Longitude="0"))


def test_files_come_in_the_order_of_their_numbers_however_many() -> None:
    urls = {f"MediaUrl{number}": f"https://api.twilio.com/{number}" for number in (10, 2, 0)}
    attachments = only(map_item(message_item(NumMedia="3", **urls)), Message).attachments
    assert [one.url.rpartition("/")[2] for one in attachments] == ["0", "2", "10"]


def test_a_text_is_kept_as_written_save_what_cannot_be_stored() -> None:
    body = '=HYPERLINK("x") <b>\u202e \0 a\u0301'
    assert only(map_item(message_item(Body=body)), Message).text == body.replace("\0", "\ufffd")


def test_an_error_never_tells_what_the_payload_held() -> None:
    with pytest.raises(MissingFieldError) as caught:
        map_item(message_item(From="whatsapp:+44 secret 7700900999"))
    assert "secret" not in str(caught.value)
    assert "7700900999" not in str(caught.value)


@given(order=st.permutations(["queued", "sent", "delivered", "sent", "delivered"]), polled=st.booleans())
def test_a_status_never_goes_back_in_whatever_order_it_comes(order: list[str], polled: bool) -> None:
    receipts = [only(map_item(status_item(MessageStatus=status)), Receipt) for status in order]
    listed = only(map_item(listed_item(direction="outbound-api", **{"from": OURS, "to": ADA})), Message)
    if polled:
        item = listed_item("listed_status", direction="outbound-api", status="sent", **{"from": OURS, "to": ADA})
        receipts.append(only(map_item(item), Receipt))
    assert {receipt.subject_key for receipt in receipts} == {listed.message_key}
    assert fold_message([listed], receipts=receipts).status == "delivered"


@given(order=st.permutations([0, 1, 0, 1]))
def test_webhook_and_list_make_one_message_in_whatever_order_they_come(order: list[int]) -> None:
    picture = {"NumMedia": "1", "MediaUrl0": "https://api.twilio.com/x", "MediaContentType0": "image/png"}
    sightings = [
        only(map_item(message_item(**picture)), Message),
        only(map_item(listed_item(num_media="1")), Message),
    ]
    folded = fold_message(join_sightings([sightings[number] for number in order]))
    assert folded == fold_message(join_sightings(sightings))
    assert (folded.kind, folded.text, len(folded.attachments)) == ("image", "Hello", 1)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_a_payload_the_mapping_gives_records_or_says_why_not(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(ITEMS)))
    item = data.draw(st.sampled_from(ITEMS[name]))
    payload = json.loads(json.dumps(item.payload))
    part = payload["form" if "form" in payload else "row"]
    part[data.draw(st.sampled_from([*part, "MediaUrl0", "Latitude", "OptOutType", "error_code"]))] = data.draw(_VALUES)
    try:
        records = map_item(Item(item.index, item.kind, payload, item.key))
    except PayloadError:
        return
    for record in records:
        record.model_dump_json().encode()
