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
    REPLY_RANKS,
    REPLY_STATUS,
    REPLY_STATUSES,
    communication_properties,
    communication_reference,
    contact_properties,
    property_definitions,
    reference_in_body,
    reply_properties,
    standard_properties,
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
    return communication_properties(one, **options)["hs_communication_body"]


@pytest.mark.parametrize("name", CASES)
def test_a_message_becomes_what_its_golden_file_says(name: str) -> None:
    check_golden("hubspot", f"communication_{name}", [communication_properties(CASES[name])])


def test_no_golden_file_is_left_over() -> None:
    golden = {path.stem for path in (GOLDEN / "hubspot").glob("*.json")}
    fixtures = {path.stem for path in (FIXTURES / "hubspot").glob("*.json")}
    assert golden == {f"communication_{name}" for name in CASES} | fixtures


def test_a_channel_that_hubspot_does_not_know_is_named_in_the_body() -> None:
    properties = communication_properties(message(channel="telegram"))
    assert properties["hs_communication_channel_type"] == "SMS"
    assert "Telegram" in properties["hs_communication_body"]


def test_the_channel_type_is_a_setting() -> None:
    properties = communication_properties(message(), channel_types={"whatsapp": "LINKEDIN_MESSAGE"})
    assert properties["hs_communication_channel_type"] == "LINKEDIN_MESSAGE"


def test_an_owner_is_set_for_our_messages_only() -> None:
    owners = {"Ada Agent": "70001"}
    assert communication_properties(message(**OUT), owner_ids=owners)["hubspot_owner_id"] == "70001"
    assert "hubspot_owner_id" not in communication_properties(message(author_name="Ada Agent"), owner_ids=owners)
    assert "hubspot_owner_id" not in communication_properties(message(**OUT))


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
    properties = contact_properties(Person(person_id="p", handles=[]))
    assert properties.pop("onethread_person_id") == "p"
    assert set(properties.values()) == {""}


def test_only_what_is_known_becomes_a_standard_property() -> None:
    handles = [Handle(kind="email", value="a@shop.example"), Handle(kind="email", value="b@shop.example")]
    assert standard_properties(Person(person_id="p", handles=handles, name="Ana")) == {
        "email": "a@shop.example",
        "firstname": "Ana",
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
