"""The short way of reading a message says what the long way says, or leaves the line to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.reading import read_message_line
from identity.sightings import sighting_of
from mappings.records import Message
from tests.identity.worlds import email, message, phone, whatsapp

NASTY = ['"person_id":null', '{"person_id": "x"}', "\\", '"', "\n", "\u2028", "é", "", '\\"person_id\\":null,']


def line_of(record: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"type": "RECORD", "stream": "messages", "record": record, **more}).encode() + b"\n"


@given(
    st.one_of(st.sampled_from(NASTY), st.text(max_size=20)),
    st.one_of(st.none(), st.sampled_from(NASTY)),
    st.sampled_from(["inbound", "outbound"]),
    st.booleans(),
    st.one_of(st.none(), st.uuids().map(str)),
)
def test_the_short_way_says_what_the_long_way_says(
    text: str, name: str | None, direction: str, ascii_only: bool, person_id: str | None
) -> None:
    whole = message(whatsapp("u"), phone(1), email("a"), name=name, direction=direction, author_name=text or None)
    whole = whole.model_copy(update={"text": text, "content": {"note": text}})
    line = (
        json.dumps(
            {"type": "RECORD", "stream": "messages", "record": whole.model_dump(mode="json")}, ensure_ascii=ascii_only
        )
        .encode("utf-8", "surrogatepass")
        .rstrip()
    )
    short = read_message_line(line)
    if short is None:
        assert b'\\"person_id' not in line or line.count(b'"person_id"') > 1 or b"\xed" in line
        return
    known, read = sighting_of(whole), sighting_of(short)
    assert known is not None
    assert read is not None
    assert [(one.kind, one.scope, one.value) for one in read.handles] == [
        (one.kind, one.scope, one.value) for one in known.handles
    ]
    assert read[1:] == known[1:]
    stamped = json.loads(short.stamped(person_id))
    assert stamped["record"] == {**whole.model_dump(mode="json"), "person_id": person_id}
    assert short.stamped(person_id).endswith(b"\n")
    assert short.whole() == whole


@pytest.mark.parametrize(
    "spoiled",
    [
        {"handles": []},
        {"handles": [{"kind": "phone", "value": ""}]},
        {"handles": [{"kind": "phone"}]},
        {"handles": None},
        {"sent_at": "2026-01-01T00:00:00"},
        {"sent_at": "yesterday"},
        {"direction": "sideways"},
        {"author_kind": "ghost"},
        {"message_key": ""},
        {"content": {"person_id": None}},
        {"profile": "Ann"},
        {"person_id": 7},
    ],
)
def test_whatever_is_odd_goes_the_long_way(spoiled: dict[str, Any]) -> None:
    record = message(whatsapp("u")).model_dump(mode="json")
    assert read_message_line(line_of(record)) is not None
    assert read_message_line(line_of({**record, **spoiled})) is None


def test_a_record_without_the_field_for_the_person_goes_the_long_way() -> None:
    record = message(whatsapp("u")).model_dump(mode="json")
    del record["person_id"]
    assert read_message_line(line_of(record)) is None


def test_a_person_that_was_stamped_before_is_replaced() -> None:
    record = {**message(whatsapp("u")).model_dump(mode="json"), "person_id": "old"}
    short = read_message_line(line_of(record, time_extracted="2026-01-01T00:00:00Z"))
    assert short is not None
    assert json.loads(short.stamped("new"))["record"]["person_id"] == "new"
    assert json.loads(short.stamped(None))["record"]["person_id"] is None


@pytest.mark.parametrize("line", [b"", b"{", b'{"type":"STATE","value":{}}', b'{"type":"RECORD","stream":"messages"}'])
def test_other_lines_go_the_long_way(line: bytes) -> None:
    assert read_message_line(line) is None


def test_the_fields_that_are_read_are_those_of_the_record() -> None:
    assert {"direction", "author_kind", "handles", "sent_at", "author_name", "profile"} <= Message.model_fields.keys()
