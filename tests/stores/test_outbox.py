"""The outbox: intent before the call, outcome after it, and nothing moves back."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from mappings.ids import reply_key, reply_token
from mappings.records import Handle, Reply
from stores.database import Stores
from stores.outbox import Outbox

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
OUTGOING: dict[str, Any] = {"channel": "whatsapp"}


def reply(record_id: str = "2", moment: str = "2026-11-01T12:00:00.000Z", **changes: Any) -> Reply:
    values: dict[str, Any] = {
        "reply_key": reply_key("hubspot", "1", record_id, moment), "crm": "hubspot", "account": "1",
        "record_id": record_id, "text": "Hello", "written_at": NOW, "person_id": "p1",
        "handles": [Handle(kind="hubspot_contact", scope="1", value=record_id)],
    }  # fmt: skip
    return Reply(**{**values, **changes})


def nobody(one: str, other: str) -> bool:
    return one == other


@pytest.fixture
def outbox(stores: Stores) -> Outbox:
    return Outbox(stores)


@pytest.fixture
def token(outbox: Outbox) -> str:
    outbox.add([reply()], nobody)
    return reply_token(reply().reply_key)


def test_the_same_reply_is_queued_once(outbox: Outbox) -> None:
    assert outbox.add([reply(), reply()], nobody) == 1
    assert outbox.add([reply()], nobody) == 0
    assert [one.reply.text for one in outbox.queued()] == ["Hello"]


def test_a_reply_that_comes_again_under_a_merged_contact_is_not_new(outbox: Outbox) -> None:
    outbox.add([reply("2", person_id="p1")], nobody)
    merged = {frozenset({"p1", "p9"})}
    again = reply("77", person_id="p9")
    assert outbox.add([again], lambda one, other: frozenset({one, other}) in merged) == 0


def test_the_same_words_to_two_persons_at_one_moment_are_two_replies(outbox: Outbox) -> None:
    assert outbox.add([reply("2", person_id="p1"), reply("3", person_id="p2")], nobody) == 2


def test_a_reply_is_begun_once(outbox: Outbox, token: str) -> None:
    outbox.begin(token, OUTGOING)
    with pytest.raises(RuntimeError, match="not queued"):
        outbox.begin(token, OUTGOING)
    assert outbox.queued() == []


def test_a_row_left_sending_becomes_unknown_and_is_not_queued(outbox: Outbox, token: str) -> None:
    outbox.begin(token, OUTGOING)
    assert outbox.mark_crashed() == 1
    assert [one.state for one in outbox.unsettled()] == ["unknown"]
    assert outbox.queued() == []


def test_an_accepted_reply_keeps_its_message_and_time(outbox: Outbox, token: str) -> None:
    outbox.begin(token, OUTGOING)
    outbox.accept(token, "whatsapp:a:wamid.1", NOW)
    (one,) = outbox.under_way()
    assert (one.state, one.message_key, one.sent_at, one.channel) == ("accepted", "whatsapp:a:wamid.1", NOW, "whatsapp")


@pytest.mark.parametrize("order", list(itertools.permutations(["sent", "delivered", "read"])))
def test_statuses_in_any_order_end_the_same(outbox: Outbox, token: str, order: tuple[Any, ...]) -> None:
    outbox.begin(token, OUTGOING)
    outbox.accept(token, "whatsapp:a:wamid.1", NOW)
    for state in order:
        outbox.advance(token, state)
    found = outbox.find(token)
    assert found
    assert found.state == "read"


def test_a_refused_reply_stays_refused(outbox: Outbox, token: str) -> None:
    outbox.end(token, "refused", code="window_closed", reason="The window is closed.", actor="agent")
    outbox.end(token, "failed", code="x", reason="later", actor="nobody")
    found = outbox.find(token)
    assert found
    assert (found.state, found.reason) == ("refused", "The window is closed.")


def test_a_reply_for_later_waits(outbox: Outbox, token: str) -> None:
    outbox.begin(token, OUTGOING)
    outbox.later(token, 3600, "rate limit")
    assert outbox.queued() == []
    assert outbox.counts() == {"queued": 1}


@pytest.mark.parametrize(("decision", "state"), [("sent", "accepted"), ("not_sent", "queued"), ("cancel", "cancelled")])
def test_a_person_settles_an_unknown_reply_once(outbox: Outbox, token: str, decision: Any, state: str) -> None:
    outbox.begin(token, OUTGOING)
    outbox.mark_crashed()
    assert outbox.decide(token, decision)
    found = outbox.find(token)
    assert found
    assert found.state == state
    assert not outbox.decide(token, "sent")


def test_what_was_told_is_told_again_only_after_a_change(outbox: Outbox, token: str) -> None:
    outbox.mark_told(outbox.untold())
    assert outbox.untold() == []
    outbox.begin(token, OUTGOING)
    outbox.accept(token, "whatsapp:a:wamid.1", NOW)
    (changed,) = outbox.untold()
    outbox.advance(token, "delivered")
    outbox.mark_told([changed])
    assert [one.state for one in outbox.untold()] == ["delivered"]


def test_words_and_addresses_cannot_be_read_off_the_disk(outbox: Outbox, stores: Stores) -> None:
    outbox.add([reply(text="a very private sentence")], nobody)
    stores.close()
    assert b"private sentence" not in b"".join(path.read_bytes() for path in stores.folder.glob("outbox.db*"))
