"""map-identity as Singer sees it: what comes out, in which order, and what happens when it is ended."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from singer_sdk.exceptions import ConfigValidationError

from identity.mapper import MapIdentity
from mappings.errors import SettingsError
from mappings.records import STREAMS, Record
from mappings.schema import singer_schema
from stores.database import Stores
from stores.graph import Graph
from stores.graph.nodes import time_number
from stores.graph.tombstones import EVER, Tombstone, Tombstones
from stores.parked import Parked
from stores.removals import Removals
from tests.identity.worlds import (
    START,
    answer_of,
    contact,
    email,
    evidence,
    hubspot,
    message,
    person_ids,
    phone,
    whatsapp,
)

Messages = list[dict[str, Any]]
Run = Callable[[Any, Iterable[dict[str, Any]]], Messages]


def schema(stream: str) -> dict[str, Any]:
    model = STREAMS[stream]
    return {
        "type": "SCHEMA", "stream": stream, "schema": singer_schema(model), "key_properties": list(model.key_properties)
    }  # fmt: skip


def row(record: Record) -> dict[str, Any]:
    return {"type": "RECORD", "stream": record.stream, "record": record.model_dump(mode="json")}


def state(number: int) -> dict[str, Any]:
    return {"type": "STATE", "value": {"bookmarks": {"number": number}}}


def types(messages: Messages) -> str:
    """The messages by the first letters of their types: SC, R, ST."""
    return " ".join({"SCHEMA": "SC", "RECORD": "R", "STATE": "ST"}[one["type"]] for one in messages)


def lines(messages: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(one) + "\n" for one in messages)


def run_text(text: str | bytes, capfd: pytest.CaptureFixture[str], folder: Path, **config: Any) -> Messages:
    """Feed text to a mapper as standard input would; what it wrote."""
    file = folder / "input.jsonl"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    capfd.readouterr()
    with file.open(encoding="utf-8") as source:
        MapIdentity(config=config).listen(source)
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


# What passes


def test_records_come_out_with_their_person(run_target: Run, stores: Stores) -> None:
    out = run_target(MapIdentity(config={}), [schema("messages"), row(message(whatsapp("u"), phone(1))), state(1)])
    assert types(out) == "SC R ST"
    assert out[1]["record"]["person_id"] == Graph(stores).person_of(phone(1)) is not None


def test_nothing_but_the_person_changes(run_target: Run) -> None:
    sent = [schema("messages"), row(message(phone(1), name="Ann", content={"price": 1.5, "note": "ü"})), state(1)]
    out = run_target(MapIdentity(config={}), sent)
    out[1]["record"]["person_id"] = None
    assert out == sent


def test_streams_of_others_pass_untouched(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = (
        '{"type": "SCHEMA", "stream": "theirs", "schema": {}, "key_properties": [], "extra_key": 1}\n'
        '{"type": "RECORD", "stream": "theirs", "record": {"n": 123456789012345678901234567890, "x": 1.10}}\n'
        '{"type": "ACTIVATE_VERSION", "stream": "theirs", "version": 3}\n'
        '{"type": "STATE", "value": {"deep": {"number": 1.0}}}\n'
    )
    (tmp_path / "input").write_text(text, encoding="utf-8")
    mapper = MapIdentity(config={})
    capfd.readouterr()
    with (tmp_path / "input").open(encoding="utf-8") as source:
        mapper.listen(source)
    assert capfd.readouterr().out == text


def test_numbers_beyond_64_bits_survive_on_a_stamped_record(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    record = row(message(phone(1), content={"n": 123456789012345678901234567890}))
    out = run_text(lines([schema("messages"), record]), capfd, tmp_path)
    assert out[1]["record"]["content"]["n"] == 123456789012345678901234567890


def test_every_stream_of_ours_with_a_person_is_stamped(run_target: Run, stores: Stores) -> None:
    change = {
        "change_key": "c", "message_key": "m", "channel": "whatsapp", "account": "1", "change": "unsend",
        "changed_at": "2026-01-01T00:00:00Z", "handles": [phone(1).model_dump()],
    }  # fmt: skip
    agent = {
        "reply_key": "r", "crm": "hubspot", "account": "1001", "record_id": "7", "written_at": "2026-01-01T00:00:00Z",
        "handles": [hubspot("7").model_dump()],
    }  # fmt: skip
    opted_out = {
        "handle_key": phone(1).key, "handle": phone(1).model_dump(), "channel": "whatsapp", "account": "1",
        "purpose": "promotional", "status": "opted_out", "source": "keyword", "decided_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    out = run_target(
        MapIdentity(config={}),
        [
            row(message(phone(1))),
            {"type": "RECORD", "stream": "message_changes", "record": change},
            row(contact("7", phone(1))),
            {"type": "RECORD", "stream": "consents", "record": opted_out},
            {"type": "RECORD", "stream": "replies", "record": agent},
        ],
    )
    assert {one["record"]["person_id"] for one in out} == {Graph(stores).person_of(phone(1))}


def test_evidence_is_taken_in_and_passed_on(run_target: Run, stores: Stores) -> None:
    sent = [schema("evidence"), row(evidence(phone(1), email("ann"))), state(1)]
    assert run_target(MapIdentity(config={}), sent) == sent
    assert Graph(stores).person_of(phone(1)) == Graph(stores).person_of(email("ann")) is not None


def test_both_ways_of_reading_give_the_same_lines(
    run_target: Run, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What comes as text is read the long way; of what comes as bytes, messages go the short way."""
    sent: Messages = []
    for number in range(12):
        sent += [
            row(message(phone(number % 5), whatsapp(f"u{number % 3}"), minute=number, name=f"Zoë {number}")),
            row(evidence(phone(number), email(f"e{number}"), minute=number)),
            row(contact(str(number), phone(number), minute=number)),
            {"type": "RECORD", "stream": "theirs", "record": {"n": number}},
            *([state(number)] if number % 4 == 3 else []),
        ]
    for batch_rows in (1, 3, 1000):
        long, short = (str(tmp_path / f"{way}{batch_rows}") for way in ("long", "short"))
        by_text = run_target(MapIdentity(config={"state_url": long, "batch_rows": batch_rows}), sent)
        by_bytes = run_text(lines(sent), capfd, tmp_path, state_url=short, batch_rows=batch_rows)
        assert len(by_bytes) == len(sent)
        assert without_ids(by_bytes) == without_ids(by_text)


def without_ids(messages: Messages) -> Messages:
    """The messages with each person's id as the place where it comes first."""
    seen: dict[str, str] = {}
    for one in messages:
        record = one.get("record", {})
        if record.get("person_id"):
            record["person_id"] = seen.setdefault(record["person_id"], f"person {len(seen)}")
    return messages


# Order of records and states


def test_no_state_goes_ahead_of_a_record(run_target: Run) -> None:
    sent: Messages = [schema("messages")]
    for number in range(20):
        sent += [row(message(phone(number % 3), minute=number)) for _ in range(number % 4)]
        sent.append(state(number))
    sent.append(row(message(phone(9), minute=99)))
    for batch_rows in (1, 2, 500):
        out = run_target(MapIdentity(config={"batch_rows": batch_rows}), sent)
        assert types(out) == types(sent)
        assert [one["value"] for one in out if one["type"] == "STATE"] == [
            one["value"] for one in sent if one["type"] == "STATE"
        ]


def test_a_full_batch_comes_out_without_a_state(capfd: pytest.CaptureFixture[str]) -> None:
    mapper = MapIdentity(config={"batch_rows": 2})
    assert list(mapper.map_record_message(row(message(phone(1))))) == []
    assert len(list(mapper.map_record_message(row(message(phone(2)))))) == 2


def test_what_waits_at_the_end_of_the_pipe_comes_out(run_target: Run) -> None:
    assert types(run_target(MapIdentity(config={}), [schema("messages"), row(message(phone(1)))])) == "SC R"


def test_one_batch_is_one_transaction(run_target: Run, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    transaction = Graph.transaction

    def counted(graph: Graph) -> Any:
        begun.append(graph)
        return transaction(graph)

    monkeypatch.setattr(Graph, "transaction", counted)
    mapper = MapIdentity(config={})
    begun.clear()
    run_target(mapper, [row(message(phone(number))) for number in range(9)])
    assert len(begun) == 1


# What cannot be read


def test_a_bad_record_is_parked_and_the_rest_flows(run_target: Run, stores: Stores) -> None:
    bad = row(message(phone(2)))
    del bad["record"]["sent_at"]
    bad["record"]["raw_ref"] = "delivery:7#0"
    out = run_target(
        MapIdentity(config={}), [schema("messages"), row(message(phone(1))), bad, row(message(phone(3))), state(1)]
    )
    assert types(out) == "SC R R ST"
    [item] = Parked(stores).list()
    assert (item.part, item.stream, item.error, item.raw_ref) == (
        "map-identity", "messages", "MissingFieldError", "delivery:7#0",
    )  # fmt: skip
    assert "sent_at" in item.reason
    assert item.payload == bad["record"]


@pytest.mark.parametrize(
    "spoil",
    [
        {"handles": [{"kind": "phone", "value": ""}]},
        {"handles": "x"},
        {"handles": None},
        {"sent_at": "yesterday"},
        {"sent_at": "0001-01-01T00:00:00+14:00"},
        {"sent_at": "2026-01-01T00:00:00"},
        {"direction": "sideways"},
        {"unknown_field": 1},
    ],
)
def test_no_record_however_odd_ends_the_run(run_target: Run, stores: Stores, spoil: dict[str, Any]) -> None:
    bad = row(message(phone(2)))
    bad["record"].update(spoil)
    assert types(run_target(MapIdentity(config={}), [bad, row(message(phone(1))), state(1)])) == "R ST"
    assert Parked(stores).count() == 1


@pytest.mark.parametrize(
    "sent_at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00", "yesterday"]
)
def test_the_short_way_lets_no_odd_time_in(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, stores: Stores, sent_at: str
) -> None:
    bad = row(message(phone(2)))
    bad["record"]["sent_at"] = sent_at
    assert types(run_text(lines([bad, row(message(phone(1))), state(1)]), capfd, tmp_path)) == "R ST"
    assert Parked(stores).count() == 1


def test_after_an_erasure_an_odd_message_still_ends_no_run(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, stores: Stores
) -> None:
    gone = Tombstone(stores.codec.fingerprint(phone(2).key), -EVER, time_number(START + timedelta(minutes=5)))
    Tombstones.of(stores).add([gone], erased_at=0)
    late, odd, later = (
        row(message(phone(number), minute=minute, raw_ref=f"delivery:{minute}#0"))
        for number, minute in ((2, 4), (1, 3), (2, 6))
    )
    odd["record"]["unknown_field"] = odd["record"]["kind"] = 5
    out = run_text(lines([late, odd, later, state(1)]), capfd, tmp_path)
    assert [one["record"]["raw_ref"] for one in out[:-1]] == ["delivery:3#0", "delivery:6#0"]
    assert out[-1] == state(1)
    assert list(Removals(stores).asked()) == [4]


def test_a_contact_without_its_own_record_handle_is_parked(run_target: Run, stores: Stores) -> None:
    bad = row(contact("7", phone(1)))
    bad["record"]["handles"].pop(0)
    assert run_target(MapIdentity(config={}), [bad]) == []
    assert Parked(stores).list()[0].error == "MissingFieldError"


@pytest.mark.parametrize(
    "line",
    [
        b"{not json\n",
        b'"a text"\n',
        b"[]\n",
        b"{}\n",
        b'{"type": 5}\n',
        b'{"type": "RUBBISH"}\n',
        b'{"type": "RECORD"}\n',
        b'{"type": "RECORD", "stream": "messages"}\n',
        b'{"type": "RECORD", "stream": 4, "record": {}}\n',
        b'{"type": "RECORD", "stream": "theirs", "record": "\xff\xfe"}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_line_that_is_no_message_is_parked_and_the_rest_flows(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, stores: Stores, line: bytes
) -> None:
    text = lines([schema("messages")]).encode() + line + lines([row(message(phone(1))), state(1)]).encode()
    assert types(run_text(text, capfd, tmp_path)) == "SC R ST"
    [item] = Parked(stores).list()
    assert item.stream == "line"
    assert set(item.payload) == {"base64"}


@settings(
    max_examples=100, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    stream=st.sampled_from([*STREAMS, "theirs"]),
    fields=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    name=st.sampled_from(["handles", "sent_at", "record_id", "handle", "profile", "modified_at", "observed_at"]),
)
def test_whatever_a_record_holds_the_run_goes_on(run_target: Run, stream: str, fields: Any, name: str) -> None:
    odd = {"type": "RECORD", "stream": stream, "record": {name: fields}}
    whole = row(message(phone(1)))
    whole["record"][name] = fields
    out = run_target(MapIdentity(config={}), [odd, whole, state(1)])
    assert out[-1] == state(1)


def test_an_empty_line_is_passed_over(capfd: pytest.CaptureFixture[str], tmp_path: Path, stores: Stores) -> None:
    assert types(run_text("\n" + lines([state(1)]) + "\n", capfd, tmp_path)) == "ST"
    assert Parked(stores).count() == 0


def test_the_same_bad_record_again_is_one_more_try(run_target: Run, stores: Stores) -> None:
    bad = {"type": "RECORD", "stream": "messages", "record": {"message_key": "m"}}
    run_target(MapIdentity(config={}), [bad, bad])
    assert [item.tries for item in Parked(stores).list()] == [2]


def test_batch_messages_are_refused(run_target: Run) -> None:
    with pytest.raises(SettingsError, match="BATCH"):
        run_target(MapIdentity(config={}), [{"type": "BATCH", "stream": "messages", "encoding": {}, "manifest": []}])


def test_no_value_reaches_a_log_or_a_reason(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tmp_path: Path, stores: Stores
) -> None:
    caplog.set_level(logging.DEBUG)
    bad = row(message(phone(2), name="Secret Name"))
    bad["record"].update(direction="+12125550102 sideways", sent_at="Secret Time", text="Secret Text")
    text = lines([bad]) + '{"type": "RECORD", "stream": "messages", "record": "Secret Line"\n' + '{"Secret": "Shape"}\n'
    file = tmp_path / "input.jsonl"
    file.write_text(text, encoding="utf-8")
    with file.open(encoding="utf-8") as source:
        MapIdentity(config={}).listen(source)
    told = caplog.text + capfd.readouterr().err + "".join(item.reason for item in Parked(stores).list())
    assert "Secret" not in told
    assert "+1212" not in told


# Replay of what was parked


def park_one(stores: Stores, record: dict[str, Any]) -> int:
    parked = Parked(stores)
    parked.park("map-identity", "messages", json.dumps(record, sort_keys=True), ValueError("not yet"), record)
    parked_id = parked.list()[0].parked_id
    parked.ask_replay([parked_id])
    return parked_id


def test_a_parked_record_comes_out_behind_the_schema_of_its_stream(run_target: Run, stores: Stores) -> None:
    park_one(stores, row(message(phone(5)))["record"])
    out = run_target(MapIdentity(config={}), [schema("contacts"), schema("messages"), row(message(phone(1))), state(1)])
    assert types(out) == "SC SC R R ST"
    assert out[2]["record"]["handles"] == [phone(5).model_dump()]
    assert out[2]["record"]["person_id"] == Graph(stores).person_of(phone(5)) is not None
    assert Parked(stores).count("replayed") == 1


def test_a_parked_record_waits_for_a_run_that_has_its_stream(run_target: Run, stores: Stores) -> None:
    park_one(stores, row(message(phone(5)))["record"])
    assert types(run_target(MapIdentity(config={}), [schema("contacts"), state(1)])) == "SC ST"
    assert Parked(stores).count("replay") == 1


def test_a_parked_record_that_fails_again_is_parked_again(run_target: Run, stores: Stores) -> None:
    park_one(stores, {"message_key": "m"})
    assert types(run_target(MapIdentity(config={}), [schema("messages"), state(1)])) == "SC ST"
    [item] = Parked(stores).list()
    assert (item.status, item.tries) == ("parked", 2)


# Settings


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigValidationError):
        MapIdentity(config={"bach_rows": 5})


def test_it_says_what_it_can_do_and_nothing_else() -> None:
    assert [capability.value for capability in MapIdentity.capabilities] == ["about", "structured-logging"]
    assert set(MapIdentity.config_jsonschema["properties"]) == {"state_url", "key_file", "rules_file", "batch_rows"}
    assert MapIdentity.get_plugin_version() != "[could not be detected]"


def test_a_wrong_rules_file_stops_it_before_the_first_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="rules_file"):
        MapIdentity(config={"rules_file": str(tmp_path / "none.yml")})


def test_a_rules_file_of_ones_own_is_followed(run_target: Run, stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text('version: 1\nblocked: {phone: ["*"]}\n', encoding="utf-8")
    run_target(MapIdentity(config={"rules_file": str(tmp_path / "rules.yml")}), [row(message(whatsapp("u"), phone(1)))])
    assert Graph(stores).person_of(whatsapp("u")) != Graph(stores).person_of(phone(1))


# A process of its own

COMMAND = [sys.executable, "-c", "from identity.mapper import MapIdentity; MapIdentity.cli()"]


def start(folder: Path, stores: Stores, **config: Any) -> subprocess.Popen[bytes]:
    file = folder / "config.json"
    file.write_text(json.dumps({"state_url": stores.url, **config}), encoding="utf-8")
    return subprocess.Popen(
        [*COMMAND, "--config", str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def read_to_state(process: subprocess.Popen[bytes], number: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line) == state(number):
            return
    raise AssertionError(process.communicate()[1].decode())


def feed(process: subprocess.Popen[bytes], messages: Iterable[dict[str, Any]]) -> None:
    assert process.stdin is not None
    process.stdin.write(lines(messages).encode())
    process.stdin.flush()


STORY: Messages = [
    row(record)
    for number in range(40)
    for record in (
        message(whatsapp(f"u{number}"), phone(number), minute=number, name=f"Name {number}"),
        contact(str(number), phone(number // 2), email(f"e{number}"), minute=number),
        evidence(email(f"e{number}"), whatsapp(f"u{number}"), minute=number),
    )
]


def test_a_killed_run_taken_up_from_its_last_state_ends_in_the_same_graph(
    stores: Stores, tmp_path: Path, run_target: Run
) -> None:
    process = start(tmp_path, stores, batch_rows=7)
    feed(process, [*STORY[:50], state(50)])
    read_to_state(process, 50)
    feed(process, STORY[50:100])
    assert process.stdout is not None
    for _ in range(14):  # two batches are decided and no state covers them
        assert json.loads(process.stdout.readline())["type"] == "RECORD"
    process.kill()
    process.communicate()
    process = start(tmp_path, stores, batch_rows=11)
    _, errors = process.communicate(lines([*STORY[50:], state(120)]).encode(), timeout=120)
    assert process.returncode == 0, errors.decode()
    clean = Stores(str(tmp_path / "clean"))
    run_target(MapIdentity(config={"state_url": str(clean.folder)}), STORY)
    assert answer_of(stores) == answer_of(clean)
    assert person_ids(stores).keys() == person_ids(clean).keys()
    clean.close()


def test_sigterm_while_waiting_ends_it_with_a_failure_and_no_state(stores: Stores, tmp_path: Path) -> None:
    process = start(tmp_path, stores)
    feed(process, [schema("messages"), row(message(phone(1))), state(1)])
    read_to_state(process, 1)
    feed(process, [row(message(phone(2), minute=2))])
    os.kill(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"STATE" not in out


def test_sigterm_in_the_middle_of_work_never_lets_a_state_overtake(stores: Stores, tmp_path: Path) -> None:
    sent = [message for number, record in enumerate(STORY) for message in (record, state(number))]
    process = start(tmp_path, stores, batch_rows=3)
    feed(process, sent[:2])
    read_to_state(process, 0)
    feed(process, sent[2:])
    os.kill(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    got = [json.loads(line) for line in out.splitlines()]
    for passed, original in zip(got, sent[2:], strict=False):
        assert passed["type"] == original["type"]
        assert passed.get("value") == original.get("value")


def test_a_wrong_setting_is_one_clear_line_and_no_traceback(stores: Stores, tmp_path: Path) -> None:
    process = start(tmp_path, stores, rules_file=str(tmp_path / "none.yml"))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"SettingsError: rules_file" in errors
    assert b"Traceback" not in errors
