"""What SMS is on every platform: addresses, threads, the carriers' words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mappings.keywords import DEFAULT_KEYWORDS, Keyword, Keywords
from mappings.records import Handle
from mappings.sms import (
    BOTH,
    CARRIER_WORDS,
    TOLL_FREE_WORDS,
    sms_address,
    sms_consents,
    sms_conversation_key,
    sms_decisions,
    sms_handle,
)

OURS = "+12025550100"


@pytest.mark.parametrize(
    ("raw", "bare_phones", "expected"),
    [("+447700900123", False, ("phone", "+447700900123")), (" +44 7700 900123 ", False, ("phone", "+447700900123")),
     ("447700900123", True, ("phone", "+447700900123")), ("447700900123", False, ("sms_sender", "447700900123")),
     ("32665", True, ("sms_short_code", "32665")), ("32665", False, ("sms_short_code", "32665")),
     ("000000000000000", True, ("sms_sender", "000000000000000")), ("SHOP 24", True, ("sms_sender", "SHOP 24")),
     ("٣٢٦٦٥", True, ("sms_sender", "٣٢٦٦٥")), ("+", False, ("sms_sender", "+")),
     ("1" * 16, True, ("sms_sender", "1" * 16))],
)  # fmt: skip
def test_an_address_is_a_phone_a_short_code_or_a_sender_id(
    raw: str, bare_phones: bool, expected: tuple[str, str]
) -> None:
    assert sms_address(raw, bare_phones=bare_phones) == expected


@pytest.mark.parametrize("raw", ["+447700900123", "32665", "SHOP", "+5511912345678", "+5215512345678"])
def test_an_address_stays_what_it_is_when_read_again(raw: str) -> None:
    kind, value = sms_address(raw)
    assert sms_address(value) == (kind, value)


def test_only_a_phone_is_the_same_everywhere() -> None:
    assert sms_handle("+447700900123", OURS) == Handle(kind="phone", value="+447700900123")
    assert sms_handle("32665", OURS) != sms_handle("32665", "+12025550199")


def test_the_thread_is_with_the_customers_address() -> None:
    key = sms_conversation_key(OURS, sms_handle("BIG SHOP", OURS))
    assert key == "sms:+12025550100:BIG%20SHOP"


@pytest.mark.parametrize("words", [CARRIER_WORDS, TOLL_FREE_WORDS])
@pytest.mark.parametrize("text", ["when does it stop?", "yes please", "st op", "", None, "STOP STOP"])
def test_a_word_in_a_sentence_decides_nothing(words: Keywords, text: str | None) -> None:
    assert words.decision_of_text(text) is None


def test_our_own_yes_cannot_undo_a_carriers_no() -> None:
    own = Keywords([Keyword("opted_in", "en", "cancel")])
    assert sms_decisions("cancel", OURS, own) == {"service": "opted_out", "promotional": "opted_out"}


def test_a_platforms_own_word_comes_before_the_table() -> None:
    assert sms_decisions("STOP", OURS, DEFAULT_KEYWORDS, told="opted_in") == {
        "service": "opted_in", "promotional": "opted_out",
    }  # fmt: skip


def test_each_purpose_is_a_consent_of_its_own() -> None:
    customer, moment = sms_handle("+447700900123", OURS), datetime(2026, 3, 1, tzinfo=UTC)
    consents = sms_consents(
        dict.fromkeys(BOTH, "opted_out"), customer, OURS, source="carrier", decided_at=moment, told_in=None, raw_ref="x"
    )
    assert [(one.channel, one.account, one.purpose) for one in consents] == [
        ("sms", OURS, "service"), ("sms", OURS, "promotional"),
    ]  # fmt: skip
    assert {one.handle_key for one in consents} == {customer.key}
