"""Phones, addresses and names: one canonical form, twice changes nothing, no guess."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.contact_points import clean_name, is_role_mailbox, normalize_email, normalize_phone, normalize_whatsapp_id


@pytest.mark.parametrize(
    ("raw", "region", "expected"),
    [
        ("+1 (202) 555-0101", None, "+12025550101"),
        ("(202) 555-0101", "US", "+12025550101"),
        ("(202) 555-0101", None, None),
        ("+44 7700 900123", None, "+447700900123"),
        ("+55 11 8765-4321", None, "+5511987654321"),
        ("+55 11 98765-4321", None, "+5511987654321"),
        ("+55 11 3765-4321", None, "+551137654321"),
        ("+52 1 998 123 4567", None, "+529981234567"),
        ("+1 202 555 0101 ext. 12", None, None),
        ("12345", None, None),
        ("call me", "US", None),
        ("+0000000000", None, None),
        ("+1\u200b2025550101", None, "+12025550101"),
        ("1" * 300, "US", None),
    ],
)
def test_a_phone_becomes_e164_or_nothing(raw: str, region: str | None, expected: str | None) -> None:
    assert normalize_phone(raw, region) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("12025550101", "+12025550101"), ("5219981234567", "+529981234567"), ("", None), ("abc", None), ("1" * 20, None)],
)
def test_a_whatsapp_id_becomes_e164_or_nothing(raw: str, expected: str | None) -> None:
    assert normalize_whatsapp_id(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Mia.Rossi@Mail.Example", "mia.rossi@mail.example"),
        (" <mia@mail.example> ", "mia@mail.example"),
        ("grüße@bücher.example", "grüße@xn--bcher-kva.example"),
        ("root@localhost", None),
        ("not an address", None),
        ("a@b@c.example", None),
        ("x" * 400 + "@mail.example", None),
    ],
)
def test_an_address_becomes_canonical_or_nothing(raw: str, expected: str | None) -> None:
    assert normalize_email(raw) == expected


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(raw: str) -> None:
    for normalize in (normalize_phone, normalize_email):
        once = normalize(raw)
        assert once is None or normalize(once) == once
    cleaned = clean_name(raw)
    assert cleaned is None or clean_name(cleaned) == cleaned


def test_a_name_loses_what_can_deceive() -> None:
    assert clean_name("Mia\u202eissoR\r\nBcc: x") == "MiaissoR Bcc: x"
    assert clean_name("\u200b \n") is None
    assert clean_name(None) is None
    assert len(clean_name("x" * 10_000) or "") == 200


@pytest.mark.parametrize(
    ("address", "role"), [("info@a.example", True), ("support+1@a.example", True), ("mia@a.example", False)]
)
def test_role_mailboxes_are_known(address: str, role: bool) -> None:
    assert is_role_mailbox(address) is role


_PART = st.text("abz09", min_size=1, max_size=12)


@given(st.lists(_PART, min_size=1, max_size=4), st.sampled_from("._+-"), st.lists(_PART, min_size=1, max_size=3))
def test_the_short_way_of_a_plain_address_says_what_the_library_says(
    local: list[str], between: str, domain: list[str]
) -> None:
    plain = f"{between.join(local)}@{'.'.join(domain)}.com"
    assert normalize_email(plain) == normalize_email(f" {plain} ")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=250))
def test_the_short_way_of_a_plain_name_says_what_the_long_one_says(name: str) -> None:
    assert clean_name(name) == clean_name(f"{name}\u200b")


_NUMBERS = st.tuples(
    st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)), st.text("0123456789", min_size=2, max_size=12)
).map(lambda parts: f"+{parts[0]}{parts[1]}")


@given(_NUMBERS)
@settings(max_examples=2000)
def test_the_short_way_of_a_plain_number_says_what_the_library_says(number: str) -> None:
    assert normalize_phone(number) == normalize_phone(f" {number[:3]} {number[3:]} ")
