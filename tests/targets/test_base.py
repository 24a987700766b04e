"""The traps of the SDK that the target base closes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mappings.records import Receipt
from mappings.schema import singer_schema
from stores.parked import Parked
from targets.base import CanonicalSink, OneThreadTarget, TargetSettings

RunTarget = Callable[[Any, list[dict[str, Any]]], list[dict[str, Any]]]


class ReceiptsSink(CanonicalSink[Receipt]):
    record_model = Receipt

    def write(self, records: list[Receipt]) -> None:
        target = self.target
        assert isinstance(target, TargetToy)
        target.batches.append([record.subject_key for record in records])
        if target.fail_at_batch == len(target.batches):
            message = "the other side broke"
            raise RuntimeError(message)


class TargetToy(OneThreadTarget[TargetSettings]):
    name = "target-toy"
    settings_model = TargetSettings
    sink_classes: ClassVar = {"receipts": ReceiptsSink}
    fail_at_batch = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batches: list[list[str]] = []


SCHEMA = {
    "type": "SCHEMA", "stream": "receipts", "schema": singer_schema(Receipt),
    "key_properties": ["subject_key", "status"],
}  # fmt: skip


def record(number: int) -> dict[str, Any]:
    receipt = Receipt(
        subject_key=f"toy:a:{number}", subject_kind="message", status="sent", channel="toy", account="a",
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    return {"type": "RECORD", "stream": "receipts", "record": receipt.model_dump(mode="json")}


def state(number: int) -> dict[str, Any]:
    return {"type": "STATE", "value": {"n": number}}


def test_state_comes_out_during_the_run_not_only_at_its_end(run_target: RunTarget) -> None:
    target = TargetToy(config={"drain_rows": 10, "drain_seconds": 1000})
    messages = [SCHEMA, *(one for n in range(30) for one in (record(n), state(n)))]
    states = run_target(target, messages)
    assert [one["n"] for one in states] == [9, 19, 29, 29]
    assert [len(batch) for batch in target.batches] == [10, 10, 10]


def test_a_failure_in_the_middle_keeps_the_state_of_what_was_written() -> None:
    target = TargetToy(config={"drain_rows": 10, "drain_seconds": 1000})
    target.fail_at_batch = 3
    lines = "".join(json.dumps(one) + "\n" for one in [SCHEMA, *(x for n in range(30) for x in (record(n), state(n)))])
    with contextlib.redirect_stdout(io.StringIO()) as output, pytest.raises(RuntimeError):
        target.listen(io.StringIO(lines))
    assert json.loads(output.getvalue().splitlines()[-1]) == {"n": 19}


def test_a_split_batch_covers_every_record_once(run_target: RunTarget) -> None:
    target = TargetToy(config={"drain_rows": 7, "drain_seconds": 1000})
    run_target(target, [SCHEMA, *(record(n) for n in range(20)), state(20)])
    assert [key for batch in target.batches for key in batch] == [f"toy:a:{n}" for n in range(20)]


def test_a_bad_record_is_parked_and_the_rest_goes_on(run_target: RunTarget) -> None:
    target = TargetToy(config={})
    bad = {"type": "RECORD", "stream": "receipts", "record": {"subject_key": "toy:a:1", "status": "vanished"}}
    states = run_target(target, [SCHEMA, record(0), bad, record(2), state(1)])
    assert target.batches == [["toy:a:0", "toy:a:2"]]
    (item,) = Parked(target.stores).list()
    assert "status" in item.reason
    assert "vanished" not in item.reason
    assert states[-1] == {"n": 1}


def test_a_parked_record_is_written_when_its_replay_is_asked_for(run_target: RunTarget) -> None:
    first = TargetToy(config={})
    first.park("receipts", "k", ValueError("was broken"), record(7)["record"])
    (item,) = Parked(first.stores).list()
    Parked(first.stores).ask_replay([item.parked_id])
    second = TargetToy(config={})
    run_target(second, [SCHEMA, record(8), state(1)])
    assert second.batches == [["toy:a:8"], ["toy:a:7"]]
    assert Parked(second.stores).count("replayed") == 1


def test_a_stream_that_is_not_used_is_counted_and_left(run_target: RunTarget) -> None:
    target = TargetToy(config={})
    other = {"type": "SCHEMA", "stream": "weather", "schema": {"properties": {"a": {"type": "string"}}}}
    run_target(target, [other, {"type": "RECORD", "stream": "weather", "record": {"a": "x"}}, state(1)])
    assert target.counts == {"weather not used": 1}


def test_an_unreadable_line_is_named_by_its_length_not_shown(run_target: RunTarget) -> None:
    from singer_sdk.singerlib.exceptions import InvalidInputLine

    with pytest.raises(InvalidInputLine) as refused:
        TargetToy(config={}).listen(io.StringIO("my secret question {\n"))
    assert "secret" not in str(refused.value)


SLOW_TARGET = """
    import pathlib, sys, time
    from typing import ClassVar
    from mappings.records import Receipt
    from targets.base import CanonicalSink, OneThreadTarget, TargetSettings

    WRITTEN = pathlib.Path(sys.argv.pop())

    class SlowSink(CanonicalSink[Receipt]):
        record_model = Receipt
        def write(self, records):
            for record in records:
                with WRITTEN.open("a") as file:
                    file.write(record.subject_key + "\\n")
                time.sleep(0.02)

    class TargetSlow(OneThreadTarget[TargetSettings]):
        name = "target-slow"
        settings_model = TargetSettings
        sink_classes: ClassVar = {"receipts": SlowSink}

    TargetSlow.cli()
"""


def test_sigterm_in_a_batch_never_reports_more_than_was_written(tmp_path: Path) -> None:
    script, config, written = tmp_path / "slow.py", tmp_path / "config.json", tmp_path / "written"
    script.write_text(textwrap.dedent(SLOW_TARGET))
    config.write_text(json.dumps({"drain_rows": 25, "drain_seconds": 1000, "state_url": str(tmp_path / "state")}))
    lines = "".join(json.dumps(one) + "\n" for one in [SCHEMA, *(x for n in range(500) for x in (record(n), state(n)))])
    process = subprocess.Popen(
        [sys.executable, str(script), "--config", str(config), str(written)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    process.stdin.write(lines)
    process.stdin.flush()
    first = json.loads(process.stdout.readline())
    os.kill(process.pid, signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    last = json.loads(rest.splitlines()[-1]) if rest.strip() else first
    done = set(written.read_text().split())
    assert process.returncode == 128 + signal.SIGTERM
    assert {f"toy:a:{n}" for n in range(last["n"] + 1)} <= done
    assert len(done) < 500
