"""Canonical records as facts for Salesforce."""

from __future__ import annotations

import string
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings.ids import external_id, reply_key
from mappings.records import Handle, MessageKind, Person, ReceiptStatus
from mappings.to_salesforce import (
    BODY_UNITS,
    CHANNELS,
    KINDS,
    STATUS_RANKS,
    STATUSES,
    channel_slug,
    contact_facts,
    conversation_facts,
    cut_body,
    message_facts,
    name_facts,
    reply_facts,
    reply_record_id,
    salesforce_id,
    search_phones,
    task_facts,
)
from sandbox.salesforce import ids as org_ids
from tests.contract.mapping import FIXTURES, GOLDEN, check_golden
from tests.mappings.test_to_hubspot import CASES
from tests.targets.hubspot_world import fate, message, person
from tests.targets.salesforce_world import conversation


@pytest.mark.parametrize("name", CASES)
def test_a_message_becomes_what_its_golden_file_says(name: str) -> None:
    check_golden(
        "salesforce", f"message_{name}", [{"message": message_facts(CASES[name]), "task": task_facts(CASES[name])}]
    )


def test_no_golden_file_is_left_over() -> None:
    golden = {path.stem for path in (GOLDEN / "salesforce").glob("*.json")}
    fixtures = {path.stem for path in (FIXTURES / "salesforce").glob("*.json")}
    assert golden == {f"message_{name}" for name in CASES} | fixtures


def test_an_external_id_says_nothing_of_the_key_and_fits_the_field() -> None:
    one = external_id("message", "whatsapp:1:+12025550101")
    assert len(one) == 32
    assert set(one) <= set(string.hexdigits)
    assert one != external_id("conversation", "whatsapp:1:+12025550101")


@given(st.text(alphabet=string.ascii_letters + string.digits, min_size=15, max_size=15))
def test_a_record_id_gets_the_three_characters_that_say_its_case(short: str) -> None:
    long = salesforce_id(short)
    assert long[:15] == short
    assert salesforce_id(long) == long
    assert long == org_ids.long_id(short)


def test_a_known_record_id() -> None:
    assert salesforce_id("001A0000006Vm9r") == "001A0000006Vm9rIAC"


@given(st.text(max_size=60), st.integers(70, 90))
def test_a_cut_text_fits_and_is_never_half_a_character(text: str, units: int) -> None:
    cut = cut_body(text * 3, units)
    assert len(cut.encode("utf-16-le")) // 2 <= units
    cut.encode("utf-8")


def test_a_text_that_fits_is_not_touched() -> None:
    assert message_facts(message(1, text="x" * BODY_UNITS))["body"] == "x" * BODY_UNITS


def test_a_contact_always_has_a_last_name() -> None:
    nameless = Person(person_id="p", handles=[Handle(kind="x_user", value="1")])
    assert name_facts(nameless) == {"last_name": "Unknown"}
    assert name_facts(person(1, name="Ana Maria de la Cruz"))["last_name"] == "Cruz"
    assert name_facts(person(1, name="Ana"))["last_name"] == "Ana"


def test_a_person_with_nothing_to_tell_clears_what_was_told() -> None:
    facts = contact_facts(person(1))
    assert facts["unanswered_since"] is None
    assert "preferred_channel" not in facts


def test_phones_are_searched_in_the_spellings_people_use() -> None:
    found = search_phones(person(1))
    assert found[0] == "+12025550101"
    assert {"(202) 555-0101", "2025550101", "12025550101", "+1 202-555-0101"} <= set(found)


def test_a_conversation_is_called_by_channel_and_name() -> None:
    assert conversation_facts(conversation(1), "Ana")["name"] == "WhatsApp · Ana"
    assert conversation_facts(conversation(1))["name"] == "WhatsApp · customer"


@pytest.mark.parametrize("status", get_args(ReceiptStatus))
def test_every_status_has_its_word_and_none_queues_again(status: ReceiptStatus) -> None:
    facts = reply_facts(fate(reply_key("salesforce", "o", "m", "m"), status))
    assert facts["status"] in STATUSES
    assert facts["status"] not in {"Queued", "Draft"}
    assert STATUS_RANKS[str(facts["status"])] > 0


def test_every_kind_is_a_choice() -> None:
    assert get_args(MessageKind) == KINDS


def test_a_reply_of_another_crm_has_no_record_here() -> None:
    assert reply_record_id(reply_key("hubspot", "o", "m", "m"), "o") is None
    assert reply_record_id(reply_key("salesforce", "o", "m", "m"), "o") == "m"


def test_channels_are_found_by_name_and_by_slug() -> None:
    assert channel_slug(None) is None
    assert channel_slug("whatsapp ") == channel_slug("WhatsApp") == "whatsapp"
    assert {channel_slug(one) for one in CHANNELS} == set(CHANNELS)
