"""A person's rows beside the graph and the archive, and what is not theirs though it looks so."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mappings.records import Handle
from stores.database import Stores
from stores.erasing import Rows, Traces
from stores.graph.erasing import Owned, Subject
from stores.graph.tombstones import EVER
from stores.items import Items, Sighting
from stores.ledger import Ledger, LedgerMessage

PHONE = Handle(kind="phone", value="+12025550101")
EMAIL = Handle(kind="email", value="ana.canary@mail.example")
SUBJECT = Subject("p", ("p", "q"), (Owned(1, PHONE, -EVER, EVER), Owned(2, EMAIL, -EVER, EVER)))
KEY = "acme:1:m1"


@pytest.fixture
def rows(stores: Stores) -> Rows:
    traces = Traces.of(SUBJECT, [KEY], ["hubspot:1:5:m"], ["delivery:7#0", "poll:3"])
    traces.conversation_keys = {"acme:1:+12025550101"}
    return Rows(stores, SUBJECT, traces)


@pytest.mark.parametrize(
    ("body", "theirs"),
    [
        (b'{"from": "12025550101"}', True),
        (b'{"from": "+12025550101"}', True),
        (b"From=%2B12025550101&Body=hi", True),
        (b"From=whatsapp%3A%2B12025550101", True),
        (b'{"mail": "Ana.Canary@Mail.Example"}', True),
        (json.dumps({"mail": "ana.canary@mail.example"}).replace("@", "\\u0040").encode(), True),
        (gzip.compress(b'{"from": "12025550101"}', mtime=0), True),
        (b'{"from": "120255501017"}', False),
        (b'{"from": "9912025550101"}', False),
        (b'{"mail": "banana.canary@mail.example"}', False),
        (b"\xff\xfe\x00", False),
        (b"", False),
    ],
)
def test_raw_bytes_name_somebody_as_they_are_as_a_form_escaped_or_compressed(
    rows: Rows, body: bytes, theirs: bool
) -> None:
    assert rows._names_them_in(body) is theirs
    assert rows._names_them({"base64": base64.b64encode(body).decode()}) is theirs


def test_short_values_and_numbers_that_others_had_too_say_nothing() -> None:
    owned = (
        Owned(1, Handle(kind="hubspot_contact", scope="1", value="51"), -EVER, EVER),
        Owned(2, PHONE, 5, EVER),
        Owned(3, EMAIL, -EVER, EVER),
    )
    assert Traces.of(Subject("p", ("p",), owned), [], [], []).values == {EMAIL.value}


def test_an_erased_event_that_comes_again_is_a_repeat(stores: Stores, rows: Rows) -> None:
    items = Items(stores)
    mine = Sighting("k1", "message", "delivery:7#0", 7, datetime(2026, 1, 1, tzinfo=UTC))
    other = Sighting("k2", "message", "delivery:7#1", 7)
    polled = Sighting("k3", "message", "poll:3", 3)
    items.claim("acme", [mine, other])
    items.claim_polled("acme", [polled])
    assert rows.erase_items() == 1  # what a pass of polling found cannot be told apart
    assert items.claim("acme", [mine, other]) == [False, True]
    assert items.claim("acme", [mine._replace(source=8)]) == [False]
    assert items.claim_polled("acme", [mine._replace(source=9)]) == [False]
    row = stores.database("items").query_one("SELECT * FROM item WHERE first_ref = 'erased'")
    assert row is not None
    assert (row["kind"], row["platform_time"]) == ("erased", None)


def _entry(mark: str, person_id: str, **more: Any) -> LedgerMessage:
    return LedgerMessage(mark, "written", record_id=f"r-{mark[:4]}", person_id=person_id, **more)


def test_the_ledger_keeps_which_records_are_theirs_and_nothing_else(stores: Stores, rows: Rows) -> None:
    ledger = Ledger(stores, "hubspot", "1")
    talk = ledger.fingerprint("acme:1:+12025550101")
    mine = _entry(ledger.fingerprint(KEY), "somebody", handle="h", content_hash="c", kept={"message": {"text": "t"}})
    thread = _entry("t" * 32, "somebody", conversation=talk, kept={"object": "conversation", "message": "x"})
    needed = {"reference": "abc", "kind": "notes", "was": "5", "replaces": ["4"]}
    intent = LedgerMessage("i" * 32, "intended", person_id="q", kept={**needed, "message": "x"})
    day = _entry("d" * 32, "q", kept={"parts": [{"message_key": "acme:1:m8", "text": "t"}]})
    others = _entry("o" * 32, "r", handle="h2", content_hash="c2")
    ledger.save_messages([mine, thread, intent, day, others])
    assert rows.destinations() == [("hubspot", "1")]
    rows.erase_from_ledgers(last_sequence=5)
    kept = {one.message: one for one in (*ledger.messages_of_person("p"), *ledger.intents())}
    assert kept == {
        mine.message: LedgerMessage(mine.message, "written", mine.record_id, person_id="p"),
        thread.message: LedgerMessage(thread.message, "written", thread.record_id, person_id="p",
                                      kept={"object": "conversation"}),
        intent.message: LedgerMessage(intent.message, "intended", person_id="p", kept=needed),
        day.message: LedgerMessage(day.message, "written", day.record_id, person_id="p",
                                   kept={"part_marks": [ledger.fingerprint("acme:1:m8")]}),
    }  # fmt: skip
    assert ledger.messages([others.message]) == {others.message: others}


def test_a_receipt_of_a_graph_that_is_no_more_confirms_nothing(stores: Stores, rows: Rows) -> None:
    ledger = Ledger(stores, "hubspot", "1")
    ledger.mark_carried_out(5)
    ledger.mark_carried_out(6)
    rows.erase_from_ledgers(last_sequence=5)
    assert (ledger.carried_out(5), ledger.carried_out(6)) == (True, False)
