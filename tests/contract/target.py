"""What every target must do. A target joins with one class::

    class TestTargetArchiveContract(TargetContract):
        target_class = TargetArchive
        record_model = Message

        def record(self, number): ...           # the number-th good record, as JSON
        def written(self, destination): ...     # the numbers of the records that arrived over there
        def effect(self, destination): ...      # something that changes with every write over there
        def break_destination(self, destination, monkeypatch): ...   # let the third batch fail

A `destination` is what the fixture of that name gives: here the state URL, for a CRM its running sandbox.
The SDK's own suite for targets is part of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from singer_sdk.testing.config import SuiteConfig
from singer_sdk.testing.runners import TargetTestRunner
from singer_sdk.testing.suites import target_tests

from mappings.records import Record
from mappings.schema import singer_schema
from stores.database import Stores
from stores.parked import Parked
from targets.base import OneThreadTarget


class TargetContract:
    """The suite; a subclass says what is written and where to look for it."""

    target_class: ClassVar[type[OneThreadTarget[Any]]]
    record_model: ClassVar[type[Record]]

    # What a target gives

    @pytest.fixture
    def destination(self, state_url: str) -> Any:
        """Where it writes to."""
        return state_url

    def settings(self, destination: Any) -> dict[str, Any]:
        """The target's settings; `drain_rows` and such are added by the tests."""
        return {"state_url": destination}

    def record(self, number: int) -> dict[str, Any]:
        """The good record of that number."""
        raise NotImplementedError

    def bad_record(self, number: int) -> dict[str, Any]:
        """A record that cannot be written; by default its first key is missing."""
        record = self.record(number)
        del record[self.record_model.key_properties[0]]
        return record

    def written(self, destination: Any) -> set[int]:
        """The numbers of the records that are there."""
        raise NotImplementedError

    def effect(self, destination: Any) -> Any:
        """What changes with every write."""
        raise NotImplementedError

    def break_destination(self, destination: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """From its third batch on it fails, in a way that ends the run."""
        raise NotImplementedError

    def parked(self, destination: Any) -> int:
        """How many records are parked."""
        stores = Stores(self.settings(destination).get("state_url"))
        try:
            return Parked(stores).count()
        finally:
            stores.close()

    # What the tests do with it

    def _lines(self, *numbers: int, bad: frozenset[int] = frozenset(), states: bool = True) -> list[str]:
        stream = self.record_model.stream
        messages: list[dict[str, Any]] = [
            {
                "type": "SCHEMA",
                "stream": stream,
                "schema": singer_schema(self.record_model),
                "key_properties": list(self.record_model.key_properties),
            }
        ]
        for number in numbers:
            record = self.bad_record(number) if number in bad else self.record(number)
            messages.append({"type": "RECORD", "stream": stream, "record": record})
            if states:
                messages.append({"type": "STATE", "value": {"bookmarks": {"cursor": {"number": number}}}})
        if not states:
            messages.append({"type": "STATE", "value": {"bookmarks": {"cursor": {"number": numbers[-1]}}}})
        return [json.dumps(message) + "\n" for message in messages]

    def _target(self, destination: Any, **settings: Any) -> OneThreadTarget[Any]:
        config = {"drain_rows": 5, "drain_seconds": 1_000} | settings | self.settings(destination)
        return self.target_class(config=config)

    def _run(self, target: OneThreadTarget[Any], lines: list[str]) -> list[int]:
        """Feed the lines; the numbers of the STATEs that came out, also when the run fails."""
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                target.listen(io.StringIO("".join(lines)))
        finally:
            self.states = [state_number(line) for line in output.getvalue().splitlines()]
        return self.states

    @pytest.mark.parametrize("standard", target_tests.tests, ids=lambda test: str(test.name))
    def test_passes_the_sdk_suite(self, standard: Any, destination: Any, capsys: pytest.CaptureFixture[str]) -> None:
        runner = TargetTestRunner(self.target_class, config=self.settings(destination))
        standard().run(SuiteConfig(), None, runner)
        if runner.target_input is not None:
            runner.target_input.close()  # the SDK leaves it open

    def test_every_record_arrives(self, destination: Any) -> None:
        assert self._run(self._target(destination), self._lines(*range(12)))[-1] == 11
        assert self.written(destination) == set(range(12))

    def test_the_same_input_again_writes_nothing(self, destination: Any) -> None:
        lines = self._lines(*range(12))
        self._run(self._target(destination), lines)
        before = self.effect(destination)
        assert self._run(self._target(destination), lines)[-1] == 11
        assert self.effect(destination) == before

    def test_a_batch_cut_at_another_place_writes_the_same(self, destination: Any) -> None:
        self._run(self._target(destination), self._lines(*range(12), states=False))
        before = self.effect(destination)
        self._run(self._target(destination, drain_rows=1), self._lines(*range(12)))
        assert self.written(destination) == set(range(12))
        assert self.effect(destination) == before

    def test_a_bad_record_is_parked_and_the_rest_goes_on(self, destination: Any) -> None:
        states = self._run(self._target(destination), self._lines(*range(12), bad=frozenset({3})))
        assert self.written(destination) == set(range(12)) - {3}
        assert self.parked(destination) == 1
        assert states[-1] == 11

    def test_state_covers_only_what_is_written(self, destination: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        target = self._target(destination)
        write_state = target._write_state_message
        missing: list[set[int]] = []

        def look(state: dict[str, Any]) -> None:
            number = state["bookmarks"]["cursor"]["number"]
            missing.append(set(range(number + 1)) - self.written(destination))
            write_state(state)

        monkeypatch.setattr(target, "_write_state_message", look)
        assert self._run(target, self._lines(*range(12)))[-1] == 11
        assert missing
        assert missing == [set()] * len(missing)

    def test_a_failure_in_the_middle_keeps_the_state_of_what_was_written(
        self, destination: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = self._target(destination)
        with monkeypatch.context() as broken:
            self.break_destination(destination, broken)
            with pytest.raises(Exception):  # noqa: B017 (each destination has its own)
                self._run(target, self._lines(*range(30)))
        assert self.states == [4, 9]
        assert self.written(destination) >= set(range(10))
        assert self._run(self._target(destination), self._lines(*range(self.states[-1] + 1, 30)))[-1] == 29
        assert self.written(destination) == set(range(30))

    def test_a_termination_in_a_batch_reports_no_more_than_is_written(self, destination: Any, tmp_path: Path) -> None:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"drain_rows": 5, "drain_seconds": 1_000} | self.settings(destination)))
        script = f"from {self.target_class.__module__} import {self.target_class.__name__} as T; T.cli()"
        process = subprocess.Popen(
            [sys.executable, "-c", script, "--config", str(config)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        feeder = threading.Thread(target=_feed, args=(process.stdin, self._lines(*range(3_000))), daemon=True)
        feeder.start()
        reported = [process.stdout.readline()]
        process.send_signal(signal.SIGTERM)
        reported += process.stdout.readlines()
        assert process.wait(60) not in {0, None}
        feeder.join(60)
        process.stdout.close()
        last = max(state_number(line) for line in reported)
        assert last < 2_999
        assert set(range(last + 1)) <= self.written(destination)


def state_number(line: str) -> int:
    """The number in one STATE line; -1 in one of the SDK suite or an empty one."""
    value = json.loads(line) if line.strip() else {}
    return int(value.get("bookmarks", {}).get("cursor", {}).get("number", -1))


def _feed(pipe: Any, lines: list[str]) -> None:
    """Write until the reader is gone."""
    with contextlib.suppress(BrokenPipeError):
        for line in lines:
            pipe.write(line)
            pipe.flush()
    with contextlib.suppress(BrokenPipeError):
        pipe.close()
