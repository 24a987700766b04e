"""Every id we mint survives a round trip and a bad one raises."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings import ids
from mappings.errors import PayloadError

parts = st.text(min_size=1).filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text))


@given(parts, parts, parts, st.none() | parts)
def test_a_message_key_round_trips(channel: str, account: str, platform_id: str, conversation: str | None) -> None:
    key = ids.message_key(channel, account, platform_id, conversation)
    assert ids.parse_message_key(key) == (channel, account, platform_id, conversation)


@given(parts, st.none() | parts.filter(lambda text: text != "-"), parts)
def test_a_handle_key_round_trips(kind: str, scope: str | None, value: str) -> None:
    assert ids.parse_handle_key(ids.handle_key(kind, scope, value)) == (kind, scope, value)


@given(parts, parts, parts, parts)
def test_a_reply_key_round_trips(crm: str, account: str, record_id: str, moment: str) -> None:
    assert ids.parse_reply_key(ids.reply_key(crm, account, record_id, moment)) == (crm, account, record_id, moment)


@pytest.mark.parametrize("key", ["", "a", "a:b", "a::c", "a:b:c:d:e"])
def test_a_bad_message_key_raises(key: str) -> None:
    with pytest.raises(PayloadError):
        ids.parse_message_key(key)


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(PayloadError):
        ids.message_key("whatsapp", "", "wamid.1")


def test_a_reply_token_is_stable_and_says_nothing() -> None:
    token = ids.reply_token("hubspot:1:2:3")
    assert token == ids.reply_token("hubspot:1:2:3")
    assert len(token) == 32
    assert token != ids.reply_token("hubspot:1:2:4")


@given(parts)
def test_a_part_that_is_written_as_it_is_is_what_quoting_would_make_of_it(value: str) -> None:
    assert ids.handle_key("phone", None, value) == f"phone:-:{quote(value, safe='@+.-_')}"
