"""target-archive: the shared suite, and what only it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mappings.ids import conversation_key
from mappings.records import STREAMS, Message, Record
from mappings.schema import singer_schema
from stores.archive import Archive
from stores.database import Stores
from stores.parked import Parked
from targets.archive import TargetArchive
from tests.contract.target import TargetContract
from tests.stores.archive_world import PAGE, answer, change, consent, contact, mail, message, psid, receipt

RunTarget = Callable[[Any, list[dict[str, Any]]], list[dict[str, Any]]]


class TestTargetArchiveContract(TargetContract):
    target_class = TargetArchive
    record_model = Message

    def record(self, number: int) -> dict[str, Any]:
        return message(f"m{number}", number, who=f"person{number % 4}").model_dump(mode="json")

    def written(self, destination: Any) -> set[int]:
        stores = Stores(destination)
        rows = Archive(stores).changes("messages", limit=100_000)
        stores.close()
        return {int(record["message_key"].rpartition(":m")[2]) for _, record in rows}

    def effect(self, destination: Any) -> Any:
        stores = Stores(destination)
        number = Archive(stores).high_water()
        stores.close()
        return number

    def break_destination(self, destination: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        fold, calls = Archive.fold, []

        def failing(archive: Archive, **records: Any) -> dict[str, int]:
            calls.append(1)
            if len(calls) > 2:
                message = "the disk is gone"
                raise OSError(message)
            return fold(archive, **records)

        monkeypatch.setattr(Archive, "fold", failing)


def singer(*records: Record) -> list[dict[str, Any]]:
    """The records as Singer messages, their schemas first."""
    streams = dict.fromkeys(record.stream for record in records)
    schemas = [
        {
            "type": "SCHEMA", "stream": stream, "schema": singer_schema(STREAMS[stream]),
            "key_properties": list(STREAMS[stream].key_properties),
        }
        for stream in streams
    ]  # fmt: skip
    return [
        *schemas,
        *({"type": "RECORD", "stream": one.stream, "record": one.model_dump(mode="json")} for one in records),
        {"type": "STATE", "value": {"done": True}},
    ]


def test_all_streams_of_one_drain_are_one_transaction(
    run_target: RunTarget, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    fold = Archive.fold

    def counted(archive: Archive, **records: Any) -> dict[str, int]:
        calls.append(sorted(records))
        return fold(archive, **records)

    monkeypatch.setattr(Archive, "fold", counted)
    run_target(
        TargetArchive(config={}),
        singer(answer("m1", 1), change("m1", "react", 2, emoji="+"), receipt("m1", "read", 3), consent("opted_out", 4),
               contact("1", 5)),
    )  # fmt: skip
    assert calls == [["changes", "consents", "contacts", "messages", "receipts"]]
    archive = Archive(stores)
    archived = archive.message(answer("m1", 1).message_key)
    assert archived is not None
    assert (archived.reactions, archived.status) == (["+"], "read")
    assert archive.consent(psid("ada").key, "messenger", PAGE, "promotional") is not None
    assert len(archive.changes("contacts")) == 1


def test_a_record_that_spoils_its_transaction_is_found_and_parked(run_target: RunTarget, stores: Stores) -> None:
    homeless = mail("a", 1, account="")  # no key can be made of an empty account
    states = run_target(TargetArchive(config={}), singer(message("m1", 0), homeless, message("m2", 1)))
    archive = Archive(stores)
    assert len(archive.changes("messages")) == 2
    (item,) = Parked(stores).list()
    assert (item.stream, item.error) == ("messages", "PayloadError")
    assert states[-1] == {"done": True}


def test_more_records_than_a_sink_holds_arrive_before_a_state(run_target: RunTarget, stores: Stores) -> None:
    target = TargetArchive(config={"drain_rows": 100_000, "drain_seconds": 1_000, "batch_size_rows": 10})
    run_target(target, singer(*(message(f"m{number}", number) for number in range(25))))
    conversation = Archive(stores).conversation(conversation_key("messenger", PAGE, "ada"))
    assert conversation is not None
    assert conversation.message_count == 25


def test_a_parked_record_is_written_when_its_replay_is_asked_for(run_target: RunTarget, stores: Stores) -> None:
    first = TargetArchive(config={})
    first.park("messages", "k", ValueError("was broken"), message("m7", 7).model_dump(mode="json"))
    Parked(stores).ask_replay([item.parked_id for item in Parked(stores).list()])
    run_target(TargetArchive(config={}), singer(message("m8", 8)))
    assert Archive(stores).message(message("m7", 7).message_key) is not None
    assert Parked(stores).count("replayed") == 1


def test_records_of_persons_and_evidence_are_left_alone(run_target: RunTarget, stores: Stores) -> None:
    target = TargetArchive(config={})
    schema = {"type": "SCHEMA", "stream": "evidence", "schema": {"properties": {"evidence_key": {"type": "string"}}}}
    record = {"type": "RECORD", "stream": "evidence", "record": {"evidence_key": "e"}}
    run_target(target, [schema, record, {"type": "STATE", "value": {"n": 1}}])
    assert target.counts == {"evidence not used": 1}
