"""Records of a channel of one's own: golden files for every kind, what is believed of them, and what a typo is told."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings.errors import MissingFieldError, PayloadError, SettingsError, UnknownShapeError
from mappings.from_custom import KINDS, PLATFORM, CustomContext, contract_schema, records_from_custom
from mappings.from_custom.columns import COLUMNS, LEFT_OUT, places_of, record_from_row
from mappings.ids import parse_message_key
from mappings.records import Consent, Evidence, Handle, Message, Record
from taps.webhooks.custom import split
from taps.webhooks.items import Item
from tests.contract.mapping import check_golden, check_no_golden_is_left_over, fixture_names, load_items, told

RECEIVED_AT = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
ITEMS = load_items("custom", split)
PAGES = Path(__file__).parents[2] / "taps"
ADA = {"id": 4711, "email": "ada@mail.example", "phone": "+447700900123"}


def context(index: int = 0, **more: Any) -> CustomContext:
    values: dict[str, Any] = {"channel": "forms", "account": "forms", "received_at": RECEIVED_AT, **more}
    return CustomContext(raw_ref=f"delivery:1#{index}", **values)


def map_item(item: Item) -> list[Record]:
    return records_from_custom(item, context(item.index))


def record(**fields: Any) -> dict[str, Any]:
    """A message, changed as told; ``None`` takes a field away."""
    whole = {"kind": "message", "id": "m-1", "sent_at": "2026-03-01T12:00:00Z", "who": {"id": 1}, "text": "Hello"}
    return {name: value for name, value in (whole | fields).items() if value is not None}


def mapped(fields: Any, **more: Any) -> list[Record]:
    return records_from_custom(Item(0, "message", {"record": fields}, "k"), context(**more))


def only(records: list[Record], kind: type[Any]) -> Any:
    (one,) = [one for one in records if isinstance(one, kind)]
    return one


@pytest.mark.parametrize("name", fixture_names("custom"))
def test_a_delivery_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("custom", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("custom")


def test_every_kind_of_the_contract_has_a_fixture() -> None:
    assert {item.kind for items in ITEMS.values() for item in items} == {*KINDS, "other"}


def test_the_published_schema_is_what_was_reviewed(golden: Callable[[str, Any], None]) -> None:
    golden("custom_contract/schema.json", contract_schema())


# Who


def test_what_a_form_says_of_its_sender_links_nobody() -> None:
    records = mapped(record(who=ADA))
    assert [one.kind for one in only(records, Message).handles] == ["custom_user"]
    evidence = only(records, Evidence)
    assert (evidence.strength, [one.kind for one in evidence.handles]) == ("claimed", ["custom_user", "email", "phone"])


def test_what_a_login_proves_is_verified() -> None:
    records = mapped(record(who={**ADA, "verified": True}))
    assert [one.kind for one in only(records, Message).handles] == ["custom_user", "email", "phone"]
    assert [one for one in records if isinstance(one, Evidence)] == []


@pytest.mark.parametrize("value", ["true", "yes", 1, "1", [True], None])
def test_nothing_but_true_is_verified(value: Any) -> None:
    with pytest.raises(PayloadError, match=r"who\.verified: is neither true nor false|who\.verified"):
        mapped(record(who={**ADA, "verified": value}))


def test_a_call_is_from_its_number() -> None:
    message = only(mapped(record(kind="call", who=ADA, text=None)), Message)
    assert message.handles == [Handle(kind="phone", value="+447700900123")]


def test_own_ids_are_of_the_channel_unless_a_scope_is_given() -> None:
    assert only(mapped(record()), Message).handles[0].scope == "forms"
    assert only(mapped(record(), id_scope="shop"), Message).handles[0].scope == "shop"


def test_a_phone_without_country_code_needs_a_region() -> None:
    fields = record(who={"phone": "07700 900123"})
    with pytest.raises(MissingFieldError, match="country code"):
        mapped(fields)
    assert only(mapped(fields, default_region="GB"), Message).handles[0].value == "+447700900123"


def test_what_is_no_address_is_shown_and_links_nobody() -> None:
    message = only(mapped(record(who={"id": 1, "email": "none of your business"})), Message)
    assert [one.kind for one in message.handles] == ["custom_user"]
    assert message.content == {"unusable": {"email": "none of your business"}}


def test_the_decision_of_somebody_who_only_claims_an_address_is_of_the_first_handle_alone() -> None:
    fields = {"kind": "consent", "who": ADA, "status": "opted_in", "decided_at": "2026-03-01T12:00:00Z"}
    assert [one.handle.kind for one in mapped(fields) if isinstance(one, Consent)] == ["custom_user"]


# Keys


def test_the_same_record_has_the_same_keys_however_it_is_written_down() -> None:
    one = record(id=None, who={"email": "Mia@Mail.Example"}, sent_at="2026-03-01T12:00:00Z")
    other = record(id=None, who={"email": "mia@mail.example", "name": "Mia"}, sent_at="2026-03-01T13:00:00+01:00")
    keys = {only(mapped(fields), Message).message_key for fields in (one, other)}
    assert len(keys) == 1


@pytest.mark.parametrize(
    "difference",
    [{"text": "Hello!"}, {"sent_at": "2026-03-01T12:00:01Z"}, {"who": {"id": 2}}, {"direction": "out"},
     {"thread": "t"}, {"kind": "form"}, {"subject": "s"}, {"fields": {"a": "b"}}],
)  # fmt: skip
def test_records_without_id_that_differ_are_two(difference: dict[str, Any]) -> None:
    keys = {only(mapped(record(id=None, **more)), Message).message_key for more in ({}, difference)}
    assert len(keys) == 2


def test_an_id_may_be_a_number_and_an_account_may_be_named() -> None:
    key = parse_message_key(only(mapped(record(id=12, account="shop.example")), Message).message_key)
    assert (key.channel, key.account, key.platform_message_id) == ("forms", "shop.example", "12")


def test_a_thread_and_a_customer_of_the_same_name_are_two_conversations() -> None:
    keys = {only(mapped(record(**more)), Message).conversation_key for more in ({"who": {"id": "7"}}, {"thread": "7"})}
    assert len(keys) == 2


# Times


@pytest.mark.parametrize(
    ("written", "more"),
    [
        ("2026-03-01T12:00:00Z", {}),
        ("2026-03-01T13:00:00+01:00", {}),
        (1772366400, {}),
        (1772366400000, {}),
        ("1772366400", {}),
        ("2026-03-01 13:00", {"timezone": ZoneInfo("Europe/Rome")}),
        ("01/03/2026 13:00", {"timezone": ZoneInfo("Europe/Rome"), "time_format": "%d/%m/%Y %H:%M"}),
        ("01/03/2026 12:00 +0000", {"time_format": "%d/%m/%Y %H:%M %z"}),
    ],
)
def test_times_are_understood(written: Any, more: dict[str, Any]) -> None:
    assert only(mapped(record(sent_at=written), **more), Message).sent_at == datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2026-03-01T12:00:00", "has no time zone"),
        ("yesterday", "is no time"),
        (12, None),
        (True, "is no time"),
        (1.5, "is no time"),
        (10**30, "is no time"),
        ("0001-01-01T00:00:00+14:00", "is outside the years|is before 1970"),
        ("1969-12-31T23:59:59Z", "is before 1970"),
    ],
)
def test_what_is_no_time_is_told(written: Any, said: str | None) -> None:
    if said is None:
        assert only(mapped(record(sent_at=written)), Message).sent_at.year == 1970
        return
    with pytest.raises(PayloadError, match=f"sent_at: ({said})"):
        mapped(record(sent_at=written))


def test_a_delivery_lends_its_time_and_an_import_has_none_to_lend() -> None:
    message = only(mapped(record(sent_at=None)), Message)
    assert (message.sent_at, message.flags) == (RECEIVED_AT, ["time_of_receipt"])
    with pytest.raises(MissingFieldError, match="sent_at: is missing"):
        mapped(record(sent_at=None), received_at=None)


def test_a_clock_that_is_ahead_is_flagged() -> None:
    ahead = (RECEIVED_AT + timedelta(hours=2)).astimezone(timezone(timedelta(hours=9)))
    assert only(mapped(record(sent_at=ahead.isoformat())), Message).flags == ["clock_ahead"]


def test_of_an_hour_that_comes_twice_the_earlier_is_taken() -> None:
    message = only(mapped(record(sent_at="2026-10-25 02:30"), timezone=ZoneInfo("Europe/Rome")), Message)
    assert message.sent_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


# What is told


def test_an_error_names_the_path_and_what_to_do_and_no_value() -> None:
    canary = "canary@mail.example"
    fields = record(who={"email": 5, canary: 1}, attachments=[{"url": canary}], direction=canary, subject=[canary])
    with pytest.raises(PayloadError) as raised:
        mapped(fields)
    text = str(raised.value)
    for part in ("who.email: is no text", "attachments.0.url: is no link", "direction: ", "subject: is no text"):
        assert part in text
    assert canary not in text


def test_a_record_with_a_hundred_faults_is_told_five() -> None:
    with pytest.raises(PayloadError, match="and 95 more"):
        mapped(record(**{f"field{number}": 1 for number in range(100)}))


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, {"kind": "fax"}, {"kind": None}, {"kind": ["message"]}])
def test_what_is_no_record_is_of_unknown_shape(value: Any) -> None:
    with pytest.raises(UnknownShapeError):
        mapped(value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    ["kind", "id", "who", "sent_at", "direction", "text", "subject", "thread", "reply_to", "attachments", "author",
     "consent", "fields", "call", "account", "message", "change", "emoji", "status", "decided_at", "also"]
)  # fmt: skip


@given(
    sample=st.sampled_from(sorted(ITEMS)),
    changes=st.dictionaries(_NAMES, _JSON, max_size=3),
    who=st.dictionaries(
        st.sampled_from(["id", "email", "phone", "name", "verified", "picture_url"]), _JSON, max_size=2
    ),
)
def test_whatever_is_written_it_is_records_or_a_payload_error(
    sample: str, changes: dict[str, Any], who: dict[str, Any]
) -> None:
    before = ITEMS[sample][0].payload["record"]
    whole = {**(before if isinstance(before, dict) else {}), **changes}
    if isinstance(whole.get("who"), dict):
        whole["who"] = {**whole["who"], **who}
    try:
        records = mapped(whole)
    except PayloadError:
        return
    assert records
    for one in records:
        json.dumps(one.model_dump(mode="json"), ensure_ascii=False).encode("utf-8")


# Tables


def row(header: str, values: str, **mapping: str) -> dict[str, Any]:
    return record_from_row(values.split(","), places_of(header.split(","), mapping))


def test_a_row_becomes_a_record_and_an_empty_value_is_absent() -> None:
    found = row("id,Sent_At,email,verified,text,subject", "7,2026-03-01T12:00:00Z, mia@mail.example ,yes, hi ,")
    assert found == {
        "kind": "message", "id": "7", "sent_at": "2026-03-01T12:00:00Z",
        "who": {"email": "mia@mail.example", "verified": True}, "text": " hi ",
    }  # fmt: skip
    assert only(mapped(found), Message).text == " hi "


def test_every_column_leads_to_a_field_of_the_contract() -> None:
    values = dict.fromkeys(COLUMNS, "x") | {
        "kind": "call", "sent_at": "2026-03-01T12:00:00Z", "direction": "in", "verified": "no", "author_kind": "bot",
        "consent": "opted_in", "call_seconds": "12.5", "recording_url": "https://a.example/1",
        "attachment_url": "https://a.example/2 https://a.example/3",
    }  # fmt: skip
    message = only(mapped(record_from_row(values.values(), places_of(values, {}))), Message)
    assert message.content is not None
    assert message.content["call"] == {"seconds": 12.5, "result": "x"}
    assert [one.url[-1] for one in message.attachments if one.url] == ["2", "3", "1"]


def test_columns_of_other_names_are_kept_and_can_be_mapped_or_left_out() -> None:
    found = row("Datum,Shop,Notiz", "2026-03-01,Rom,x", Datum="sent_at", Notiz=LEFT_OUT)
    assert found == {"kind": "message", "sent_at": "2026-03-01", "fields": {"Shop": "Rom"}}


@pytest.mark.parametrize(
    ("header", "mapping", "said"),
    [
        ("a,b", {"c": "text"}, "no column 'c'; there are: 'a', 'b'"),
        ("a,b", {"a": "txt"}, "no field 'txt'"),
        ("text,a", {"a": "text"}, "several columns are text"),
    ],
)
def test_a_wrong_mapping_is_told_before_anything_is_read(header: str, mapping: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        places_of(header.split(","), mapping)


@pytest.mark.parametrize(("values", "said"), [("1", "1 values, the header 2"), ("1,maybe", "neither yes nor no")])
def test_a_wrong_row_is_told(values: str, said: str) -> None:
    with pytest.raises(PayloadError, match=said):
        row("id,verified", values)


def test_the_platform_is_what_it_says() -> None:
    assert (PLATFORM.slug, PLATFORM.name, PLATFORM.sender) == ("custom", "Any other", None)


# The pages


@pytest.mark.parametrize("block", re.findall(r"```json\n(.*?)```", (PAGES / "custom.md").read_text("utf-8"), re.DOTALL))
def test_every_record_on_the_page_is_one(block: str) -> None:
    items = split(block.encode())
    assert [record for item in items for record in map_item(item)]


def test_every_field_and_column_is_on_its_page() -> None:
    contract, imports = ((PAGES / name).read_text(encoding="utf-8") for name in ("custom.md", "import.md"))
    fields = {name for one in contract_schema()["$defs"].values() for name in one.get("properties", {})}
    assert [name for name in sorted(fields) if f"`{name}`" not in contract and f'"{name}"' not in contract] == []
    assert [name for name in COLUMNS if f"`{name}`" not in imports] == []


@pytest.mark.parametrize("block", re.findall(r"```csv\n(.*?)```", (PAGES / "import.md").read_text("utf-8"), re.DOTALL))
def test_every_table_on_the_page_is_read(block: str) -> None:
    separator = ";" if ";" in block else ","
    header, *rows = csv.reader(block.splitlines(), delimiter=separator)
    german = {"Datum": "sent_at", "E-Mail": "email", "Richtung": "direction", "Nachricht": "text", "Notiz": LEFT_OUT}
    places = places_of(header, german if "Datum" in header else {})
    form = "%d.%m.%Y %H:%M" if "Datum" in header else None
    more = {"received_at": None, "timezone": ZoneInfo("Europe/Rome"), "time_format": form, "default_region": "GB"}
    assert [mapped(record_from_row(row, places), **more) for row in rows]
