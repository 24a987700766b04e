"""Canonical records as HubSpot wants them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from mappings.ids import message_key
from mappings.records import ArchivedMessage, Attachment, Handle, Person, Profile, Receipt, ReceiptStatus
from mappings.to_hubspot import (
    CONTACT_PROPERTIES,
    DEFAULT_CHANNEL_TYPES,
    INBOX_RANKS,
    REPLY_RANKS,
    REPLY_STATUS,
    REPLY_STATUSES,
    activity_properties,
    communication_reference,
    contact_facts,
    day_properties,
    inbox_message,
    inbox_of_reply,
    inbox_status,
    name_facts,
    property_definitions,
    reference_in_body,
    reply_properties,
)
from tests.contract.mapping import FIXTURES, GOLDEN, check_golden

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def message(**values: Any) -> ArchivedMessage:
    return ArchivedMessage.model_validate(
        {
            "message_key": message_key("whatsapp", "106540352242922", "wamid.1"), "channel": "whatsapp",
            "account": "106540352242922", "conversation_key": "whatsapp:1:2", "direction": "inbound", "kind": "text",
            "text": "Hello", "sent_at": NOON, "author_kind": "customer",
            "handles": [Handle(kind="phone", value="+12025550101")], **values,
        }
    )  # fmt: skip


OUT: dict[str, Any] = {"direction": "outbound", "author_kind": "agent", "author_name": "Ada Agent"}
CASES: dict[str, ArchivedMessage] = {
    "inbound": message(profile=Profile(name="Ana Example"), text="Hello,\nis <b>it</b> ready? {{ contact.email }} &"),
    "outbound": message(**OUT, profile=Profile(name="Ana Example"), status="delivered", status_at=NOON),
    "failed": message(**OUT, status="failed", status_at=NOON, status_reason="The number is not on WhatsApp."),
    "email": message(
        channel="email",
        subject="Re: your <order>",
        text="The full text\n\n> with the quote",
        text_stripped="The full text",
        reply_to_key="email:care%40shop.example:1%40mail.example",
        attachments=[
            Attachment(kind="file", filename="invoice <1>.pdf", mime_type="application/pdf", size_bytes=12_300),
            Attachment(kind="image", mime_type="image/png", size_bytes=2_400_000),
            Attachment(kind="audio", size_bytes=900),
        ],
    ),
    "changed": message(edited_at=NOON + timedelta(minutes=1), reactions=["❤", "👍"]),
    "unsent": message(text=None, unsent_at=NOON + timedelta(minutes=1)),
    "location": message(
        kind="location", text=None, content={"latitude": 51.5, "longitude": -0.12, "name": "The <Shop>", "none": None}
    ),
    "contacts": message(
        kind="contacts", text=None, content={"contacts": [{"name": {"formatted": "Ben"}, "phones": ["+12025550102"]}]}
    ),
    "form": message(
        kind="form", channel="forms", origin="form", text="How much?",
        content={"fields": {"Product": "Vase", "Pieces": 20}},
    ),
    "call": message(
        kind="call", channel="calls", origin="call", text=None,
        content={"call": {"outcome": "missed", "seconds": 31}},
        attachments=[Attachment(kind="audio", filename="call.mp3", mime_type="audio/mpeg", size_bytes=900)],
    ),
    "messenger_ad": message(channel="messenger", origin="ad", author_name="Ana Example"),
    "bot": message(direction="outbound", author_kind="bot"),
}  # fmt: skip


def body(one: ArchivedMessage, **options: Any) -> str:
    return activity_properties(one, **options)["hs_communication_body"]


@pytest.mark.parametrize("name", CASES)
def test_a_message_becomes_what_its_golden_file_says(name: str) -> None:
    kind = DEFAULT_CHANNEL_TYPES.get(CASES[name].channel, "SMS")
    check_golden("hubspot", f"communication_{name}", [activity_properties(CASES[name], channel_type=kind)])


def test_a_message_becomes_a_note_as_its_golden_file_says() -> None:
    check_golden("hubspot", "note", [activity_properties(CASES["email"], "notes")])


def test_a_day_becomes_what_its_golden_file_says() -> None:
    later = [
        message(message_key=f"whatsapp:1:{number}", text=f"<{number}>", sent_at=NOON + timedelta(minutes=number))
        for number in (2, 1)
    ]
    check_golden("hubspot", "day", [day_properties([*later, CASES["inbound"]], "day", channel_type="WHATS_APP")])


def test_a_day_that_is_too_long_says_how_much_is_left_out() -> None:
    parts = [message(message_key=f"whatsapp:1:{number}", text="x" * 300) for number in range(10)]
    told = day_properties(parts, "day", max_characters=1_500)["hs_communication_body"]
    assert len(told) <= 1_500
    assert re.search(r"… \d more, see them in full in onethread", told)
    assert reference_in_body(told) == communication_reference("day")[:12]


@pytest.mark.parametrize("name", ["inbound", "outbound", "email", "location", "unsent"])
def test_a_message_becomes_an_inbox_message_as_its_golden_file_says(name: str) -> None:
    check_golden("hubspot", f"inbox_{name}", [inbox_message(CASES[name], "151", "42")])


@pytest.mark.parametrize("status", get_args(ReceiptStatus))
def test_every_status_is_told_in_the_inbox_or_nothing_is(status: ReceiptStatus) -> None:
    receipt = Receipt(
        subject_key="r", subject_kind="reply", status=status, channel="whatsapp", account="1", occurred_at=NOON
    )
    told = inbox_status(receipt)
    assert (told is None) == (status in {"queued", "unknown"})
    assert told is None or told["statusType"] in INBOX_RANKS


def test_only_a_reply_of_this_accounts_inbox_has_a_place_there() -> None:
    assert inbox_of_reply("hubspot:88:inbox.41:9c2", "88") == ("41", "9c2")
    assert inbox_of_reply("hubspot:89:inbox.41:9c2", "88") is None
    assert inbox_of_reply("hubspot:88:151:2026-11-02T12%3A00", "88") is None
    assert inbox_of_reply(None, "88") is None


def test_no_golden_file_is_left_over() -> None:
    golden = {path.stem for path in (GOLDEN / "hubspot").glob("*.json")}
    fixtures = {path.stem for path in (FIXTURES / "hubspot").glob("*.json")}
    inbox = {f"inbox_{name}" for name in ("inbound", "outbound", "email", "location", "unsent")}
    assert golden == {f"communication_{name}" for name in CASES} | inbox | {"note", "day"} | fixtures


def test_a_channel_that_hubspot_does_not_know_is_named_in_the_body() -> None:
    properties = activity_properties(message(channel="telegram"), channel_type="SMS")
    assert "Telegram" in properties["hs_communication_body"]


def test_the_channel_type_is_a_setting() -> None:
    properties = activity_properties(message(), channel_type="LINKEDIN_MESSAGE")
    assert properties["hs_communication_channel_type"] == "LINKEDIN_MESSAGE"


def test_an_owner_is_set_for_our_messages_only() -> None:
    owners = {"Ada Agent": "70001"}
    assert activity_properties(message(**OUT), owner_ids=owners)["hubspot_owner_id"] == "70001"
    assert "hubspot_owner_id" not in activity_properties(message(author_name="Ada Agent"), owner_ids=owners)
    assert "hubspot_owner_id" not in activity_properties(message(**OUT))


@pytest.mark.parametrize("character", ["a", "<", "\n", "😀", "{"])
@pytest.mark.parametrize("length", [900, 1_000, 5_000])
def test_a_long_text_is_cut_visibly_and_never_over_the_limit(character: str, length: int) -> None:
    text = character * length
    whole = body(message(text=text))
    cut = body(message(text=text), max_characters=1_000)
    units = len(whole.encode("utf-16-le")) // 2
    assert len(cut.encode("utf-16-le")) // 2 <= 1_000
    assert (cut == whole) == (units <= 1_000)
    assert ("cut here" in cut) == (units > 1_000)
    assert reference_in_body(cut) == communication_reference(message().message_key)[:12]
    assert not re.search(r"&[#\w]*$", cut.partition("<br>…")[0]), "an entity was cut in two"


def test_the_reference_is_ours_whatever_the_customer_writes() -> None:
    text = body(message(text="see ref 0123456789ab please"))
    assert reference_in_body(text) == communication_reference(message().message_key)[:12]


@pytest.mark.parametrize("text", [None, "", "<p>ref 0123</p>", "<p>xref 0123456789ab</p>"])
def test_a_body_without_reference_has_none(text: str | None) -> None:
    assert reference_in_body(text) is None


def test_a_reference_says_nothing_of_the_key() -> None:
    reference = communication_reference("whatsapp:1:12025550101")
    assert re.fullmatch(r"[0-9a-f]{32}", reference)
    assert reference != communication_reference("whatsapp:1:12025550102")


def test_half_characters_and_nul_become_replacements() -> None:
    assert "a\ufffdb\ufffdc" in body(message(text="a\0b\ud83dc"))


def test_a_person_with_nothing_to_tell_clears_what_was_told() -> None:
    properties = contact_facts(Person(person_id="p", handles=[]))
    assert properties.pop("person_id") == "p"
    assert set(properties.values()) == {""}


def test_only_what_is_known_becomes_a_standard_property() -> None:
    handles = [Handle(kind="email", value="a@shop.example"), Handle(kind="email", value="b@shop.example")]
    assert name_facts(Person(person_id="p", handles=handles, name="Ana")) == {
        "email": "a@shop.example",
        "first_name": "Ana",
    }


@pytest.mark.parametrize("status", get_args(ReceiptStatus))
def test_every_status_has_its_words_and_none_queues_again(status: ReceiptStatus) -> None:
    receipt = Receipt(
        subject_key="r", subject_kind="reply", status=status, channel="whatsapp", account="1", occurred_at=NOON
    )
    written = reply_properties(receipt)[REPLY_STATUS]
    assert written in REPLY_STATUSES
    assert written not in {"QUEUED", "DRAFT"}
    assert written in REPLY_RANKS


def test_what_a_contact_is_told_names_reason_code_and_who_must_act() -> None:
    receipt = Receipt(
        subject_key="r",
        subject_kind="reply",
        status="failed",
        channel="whatsapp",
        account="1",
        occurred_at=NOON,
        code="131026",
        reason="The number is not on WhatsApp.",
        actor="operator",
    )
    detail = reply_properties(receipt)["onethread_reply_detail"]
    assert detail == (
        "Failed, 2026-11-02 12:00 UTC, WhatsApp\nThe number is not on WhatsApp.\n(code 131026)\n"
        "Tell the person who runs onethread."
    )


def test_the_definitions_cover_the_table_and_one_is_unique() -> None:
    definitions = property_definitions(["whatsapp", "email"])
    assert [one["name"] for one in definitions] == [name for name, *_ in CONTACT_PROPERTIES]
    assert [one["name"] for one in definitions if one["hasUniqueValue"]] == ["onethread_person_id"]
    assert all(bool(one["options"]) == (one["type"] in {"enumeration", "bool"}) for one in definitions)


def test_every_status_that_the_table_ranks_is_a_choice() -> None:
    assert set(REPLY_RANKS) == set(REPLY_STATUSES)
