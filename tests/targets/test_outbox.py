"""target-outbox queues replies, once each, and sends nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from identity.resolver import Resolver
from identity.rules import load_rules
from mappings.ids import reply_key
from mappings.records import Contact, Handle, Reply
from mappings.schema import singer_schema
from stores.database import Stores
from stores.graph import Graph
from stores.outbox import Outbox
from stores.parked import Parked
from targets.outbox import TargetOutbox
from tests.contract.target import TargetContract

RunTarget = Callable[[Any, list[dict[str, Any]]], list[dict[str, Any]]]
NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
MOMENT = "2026-11-01T12:00:00.000Z"


def hubspot(record_id: str) -> Handle:
    return Handle(kind="hubspot_contact", scope="1", value=record_id)


def reply(record_id: str = "2", moment: str = MOMENT, **changes: Any) -> Reply:
    values: dict[str, Any] = {
        "reply_key": reply_key("hubspot", "1", record_id, moment), "crm": "hubspot", "account": "1",
        "record_id": record_id, "text": "Hello", "written_at": NOW, "handles": [hubspot(record_id)],
    }  # fmt: skip
    return Reply(**{**values, **changes})


def singer(*replies: Reply) -> list[dict[str, Any]]:
    schema = {
        "type": "SCHEMA", "stream": "replies", "schema": singer_schema(Reply), "key_properties": ["reply_key"],
    }  # fmt: skip
    records = [{"type": "RECORD", "stream": "replies", "record": one.model_dump(mode="json")} for one in replies]
    return [schema, *records, {"type": "STATE", "value": {"bookmark": len(replies)}}]


class TestTargetOutboxContract(TargetContract):
    target_class = TargetOutbox
    record_model = Reply

    def record(self, number: int) -> dict[str, Any]:
        return reply(str(number), text=f"reply {number}").model_dump(mode="json")

    def written(self, destination: Any) -> set[int]:
        stores = Stores(destination)
        found = {int(one.reply.record_id) for one in Outbox(stores).listing(limit=100_000)}
        stores.close()
        return found

    def effect(self, destination: Any) -> Any:
        stores = Stores(destination)
        found = sorted((one.token, one.changed_at) for one in Outbox(stores).listing(limit=100_000))
        stores.close()
        return found

    def break_destination(self, destination: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        add, calls = Outbox.add, []

        def failing(outbox: Outbox, *args: Any, **kwargs: Any) -> int:
            calls.append(1)
            if len(calls) > 2:
                message = "the disk is gone"
                raise OSError(message)
            return add(outbox, *args, **kwargs)

        monkeypatch.setattr(Outbox, "add", failing)


def test_replies_are_queued_in_order_and_state_follows(run_target: RunTarget, stores: Stores) -> None:
    states = run_target(TargetOutbox(config={}), singer(reply("2", text="one"), reply("3", text="two")))
    assert [one.reply.text for one in Outbox(stores).queued()] == ["one", "two"]
    assert states[-1] == {"bookmark": 2}


def test_a_reply_that_is_on_its_way_is_left_as_it_is(run_target: RunTarget, stores: Stores) -> None:
    run_target(TargetOutbox(config={}), singer(reply()))
    outbox = Outbox(stores)
    (one,) = outbox.queued()
    outbox.begin(one.token, {"channel": "whatsapp"})
    again = TargetOutbox(config={})
    run_target(again, singer(reply()))
    found = outbox.find(one.token)
    assert found
    assert found.state == "sending"
    assert again.counts == {"replies queued": 0, "replies known already": 1}


def test_the_same_words_at_another_moment_are_another_reply(run_target: RunTarget, stores: Stores) -> None:
    run_target(TargetOutbox(config={}), singer(reply(), reply(moment="2026-11-01T12:00:01.000Z")))
    assert len(Outbox(stores).queued()) == 2


def test_a_reply_that_comes_again_under_the_contact_it_was_merged_into_is_known(
    run_target: RunTarget, stores: Stores
) -> None:
    resolver = Resolver(Graph(stores), load_rules())
    first = Contact(crm="hubspot", account="1", record_id="2", handles=[hubspot("2")], modified_at=NOW)
    survivor = first.model_copy(update={"record_id": "9", "handles": [hubspot("9")]})
    persons = [resolver.resolve([one])[0] for one in (first, survivor)]
    assert persons[0] != persons[1]
    run_target(TargetOutbox(config={}), singer(reply("2", person_id=persons[0])))
    resolver.resolve([survivor.model_copy(update={"merged_record_ids": ["2"], "modified_at": NOW.replace(hour=13)})])
    run_target(TargetOutbox(config={}), singer(reply("9", person_id=persons[1])))
    assert [one.reply.record_id for one in Outbox(stores).queued()] == ["2"]


def test_a_reply_that_is_none_is_parked_and_the_rest_is_queued(run_target: RunTarget, stores: Stores) -> None:
    lines = singer(reply("2"), reply("3"))
    lines[1]["record"]["channel"] = None
    run_target(TargetOutbox(config={}), lines)
    assert [one.reply.record_id for one in Outbox(stores).queued()] == ["3"]
    (item,) = Parked(stores).list()
    assert (item.part, item.stream) == ("target-outbox", "replies")
    assert "Hello" not in item.reason


def test_a_reply_with_a_key_that_nobody_made_is_parked_and_the_rest_is_queued(
    run_target: RunTarget, stores: Stores
) -> None:
    run_target(TargetOutbox(config={}), singer(reply("2", reply_key="not a key of ours"), reply("3")))
    assert [one.reply.record_id for one in Outbox(stores).queued()] == ["3"]
    assert [item.error for item in Parked(stores).list()] == ["PayloadError"]
