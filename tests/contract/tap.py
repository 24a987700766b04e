"""What every tap shows. A tap joins with one class and a fixture ``source``::

    class TestTapX(TapContract):
        @pytest.fixture
        def source(self, stores, state_url): return XSource(stores, state_url)

Two of the SDK's own tests cannot fail (its key test puts generators into a set, its state test looks in the wrong
place), so keys and state are tested here once more.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from singer_sdk.exceptions import ConfigValidationError
from singer_sdk.testing import SuiteConfig
from singer_sdk.testing.runners import TapTestRunner
from singer_sdk.testing.suites import tap_stream_attribute_tests, tap_stream_tests, tap_tests

import taps.base
from mappings.records import STREAMS, Record
from stores.database import Stores
from stores.parked import Parked
from taps.base import Checkpoint, OneThreadTap

Messages = list[dict[str, Any]]
Keys = set[tuple[Any, ...]]


class Source(Protocol):
    """What a tap reads from, filled in two parts. Each part gives records and at least two checkpoints.

    It may have an attribute ``parked_by``: under whose name the tap parks, where that is not its own.
    """

    @property
    def tap_class(self) -> type[OneThreadTap[Any]]:
        """The tap."""

    def config(self) -> dict[str, Any]:
        """Its settings for this source."""

    def add(self, part: int) -> None:
        """Put part 1 or part 2 in place. Both together give every stream of the tap at least once."""

    def add_bad(self) -> None:
        """Put one thing in place that cannot be understood."""


class TapContract:
    """The suite.

    A tap that reads nothing but what onethread wrote itself cannot meet anything bad, and sets
    ``test_one_bad_thing_is_parked_and_the_rest_flows = None``.
    """

    @pytest.fixture
    def source(self) -> Source:
        """The subclass's source, empty."""
        raise NotImplementedError

    # The SDK's suite

    @pytest.mark.parametrize("test_class", tap_tests.tests, ids=lambda one: one.name)
    def test_the_sdks_tests_of_taps_pass(self, source: Source, test_class: Any) -> None:
        runner = _sdk_runner(source)
        test_class().run(runner.suite_config, None, runner)

    @pytest.mark.parametrize("test_class", tap_stream_tests.tests, ids=lambda one: one.name)
    def test_the_sdks_tests_of_streams_pass(self, source: Source, test_class: Any) -> None:
        runner = _sdk_runner(source)
        for stream in runner.new_tap().streams.values():
            test_class().run(runner.suite_config, None, runner, stream)

    @pytest.mark.parametrize("test_class", tap_stream_attribute_tests.tests, ids=lambda one: one.name)
    def test_the_sdks_tests_of_attributes_pass(self, source: Source, test_class: Any) -> None:
        runner = _sdk_runner(source, empty_attributes=True)
        for stream in runner.new_tap().streams.values():
            for name, schema in stream.stream_maps[-1].transformed_schema["properties"].items():
                if test_class.evaluate(stream=stream, property_name=name, property_schema=schema):
                    test_class().run(runner.suite_config, None, runner, stream, name)

    # Ours

    def test_the_sample_has_every_stream(self, source: Source) -> None:
        _add_all(source)
        given = {message["stream"] for message in _records(_run(source))}
        assert given == {model.stream for model in source.tap_class.record_models}

    def test_every_record_fits_its_model(self, source: Source) -> None:
        _add_all(source)
        for message in _records(_run(source)):
            model: type[Record] = STREAMS[message["stream"]]
            model.model_validate(message["record"])

    def test_no_key_comes_twice(self, source: Source) -> None:
        _add_all(source)
        counted = Counter(_key(message) for message in _records(_run(source)))
        assert [key for key, times in counted.items() if times > 1] == []

    def test_a_run_ends_with_a_state_that_has_a_bookmark_and_nothing_unfinished(self, source: Source) -> None:
        _add_all(source)
        last = _run(source)[-1]
        assert last["type"] == "STATE"
        assert last["value"]["bookmarks"]["cursor"]
        assert "progress_markers" not in json.dumps(last)

    def test_a_second_run_gives_nothing_more(self, source: Source) -> None:
        _add_all(source)
        state = _state(_run(source))
        again = _run(source, state)
        assert _records(again) == []
        assert _state(again) == state

    def test_a_run_without_anything_to_read_gives_no_records(self, source: Source) -> None:
        assert _records(_run(source)) == []

    def test_what_comes_later_is_read_by_the_next_run_alone(self, source: Source) -> None:
        source.add(1)
        first = _run(source)
        source.add(2)
        second = _run(source, _state(first))
        assert _keys(first)
        assert _keys(second)
        assert _keys(first).isdisjoint(_keys(second))
        assert _keys(first) | _keys(second) == _keys(_run(source))

    def test_a_run_that_is_stopped_in_the_middle_is_continued_by_the_next(self, source: Source) -> None:
        _add_all(source)
        tap = _tap(source)
        original = tap.read

        def read_until_the_first_checkpoint_with_records() -> Iterator[Record | Checkpoint]:
            seen = False
            for item in original():
                yield item
                seen = seen or not isinstance(item, Checkpoint)
                if seen and isinstance(item, Checkpoint):
                    tap._stop_requested = True  # what the handler of SIGTERM sets

        tap.read = read_until_the_first_checkpoint_with_records  # type: ignore[method-assign]
        with contextlib.redirect_stdout(io.StringIO()) as output, pytest.raises(SystemExit) as stopped:
            tap.sync_all()
        first = [json.loads(line) for line in output.getvalue().splitlines()]
        second = _run(source, _state(first))
        everything = _keys(_run(source))
        assert stopped.value.code == 143
        assert _keys(first) < everything
        assert _keys(first) | _keys(second) == everything

    def test_no_state_is_ahead_of_the_records_before_it(self, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
        _add_all(source)
        monkeypatch.setattr(taps.base, "_STATE_EVERY_SECONDS", 0.0)
        messages = _run(source)
        everything = _keys(messages)
        states = [number for number, message in enumerate(messages) if message["type"] == "STATE"]
        assert len(states) > 1
        for number in states:
            resumed = _run(source, messages[number]["value"])
            assert _keys(messages[:number]) | _keys(resumed) == everything

    def test_a_run_that_left_no_state_is_repeated_whole(self, source: Source) -> None:
        _add_all(source)
        first = _run(source)
        assert _keys(_run(source)) == _keys(first)

    def test_one_bad_thing_is_parked_and_the_rest_flows(self, source: Source, state_url: str) -> None:
        source.add(1)
        source.add_bad()
        source.add(2)
        messages = _run(source)
        stores = Stores(state_url)
        try:
            (parked,) = Parked(stores).list()
        finally:
            stores.close()
        assert (parked.part, parked.status) == (getattr(source, "parked_by", source.tap_class.name), "parked")
        assert {message["stream"] for message in _records(messages)} == {
            model.stream for model in source.tap_class.record_models
        }

    def test_an_unknown_setting_is_refused(self, source: Source) -> None:
        with pytest.raises(ConfigValidationError):
            source.tap_class(config={**source.config(), "no_such_setting": 1})


def _add_all(source: Source) -> None:
    source.add(1)
    source.add(2)


def _tap(source: Source, state: dict[str, Any] | None = None) -> OneThreadTap[Any]:
    return source.tap_class(config=source.config(), state=json.loads(json.dumps(state or {})))


def _run(source: Source, state: dict[str, Any] | None = None) -> Messages:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        _tap(source, state).sync_all()
    return [json.loads(line) for line in output.getvalue().splitlines()]


def _sdk_runner(source: Source, *, empty_attributes: bool = False) -> TapTestRunner:
    """A runner after one run; `empty_attributes`: an attribute may be null in all records of the sample."""
    _add_all(source)
    config = SuiteConfig(ignore_no_records=empty_attributes)
    runner = TapTestRunner(source.tap_class, config=source.config(), suite_config=config)
    runner.sync_all()
    return runner


def _records(messages: Messages) -> Messages:
    return [message for message in messages if message["type"] == "RECORD"]


def _state(messages: Messages) -> dict[str, Any]:
    value: dict[str, Any] = [message["value"] for message in messages if message["type"] == "STATE"][-1]
    return value


def _key(message: dict[str, Any]) -> tuple[Any, ...]:
    """The stream and the primary key of a RECORD."""
    names = STREAMS[message["stream"]].key_properties
    return (message["stream"], *(message["record"][name] for name in names))


def _keys(messages: Messages) -> Keys:
    return {_key(message) for message in _records(messages)}
