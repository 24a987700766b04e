"""The traps of the SDK that the tap base closes."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr
from singer_sdk.exceptions import ConfigValidationError
from werkzeug.routing import Rule

from mappings.errors import CredentialsError, RateLimitedError, UnavailableError
from mappings.records import Receipt, Record
from mappings.settings import PluginSettings
from sandbox.base import Fault, SandboxApp, SandboxServer, json_response
from taps.base import Checkpoint, HttpSession, OneThreadTap, duration

RunTap = Callable[[Any], list[dict[str, Any]]]


class ToySettings(PluginSettings):
    total: int = 5
    fail_at: int | None = None
    secret: SecretStr | None = None


class TapToy(OneThreadTap[ToySettings]):
    """Counts up to `total`, one checkpoint per record."""

    name = "tap-toy"
    settings_model = ToySettings
    record_models = (Receipt,)

    def read(self) -> Iterator[Record | Checkpoint]:
        for number in range(self.cursor.get("number", 0), self.settings.total):
            if number == self.settings.fail_at:
                raise UnavailableError("Toy: GET /numbers answered 503")
            yield Receipt(
                subject_key=f"toy:a:{number}", subject_kind="message", status="sent", channel="toy", account="a",
                occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
            )  # fmt: skip
            self.share_read = (number + 1) / self.settings.total
            yield Checkpoint({"number": number + 1})
            if self.stop_requested:
                return


def keys(messages: list[dict[str, Any]]) -> list[str]:
    return [message["record"]["subject_key"] for message in messages if message["type"] == "RECORD"]


def states(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message["value"] for message in messages if message["type"] == "STATE"]


def test_a_tap_emits_schema_records_and_a_final_state(run_tap: RunTap) -> None:
    messages = run_tap(TapToy(config={"total": 2}))
    assert [message["type"] for message in messages] == ["SCHEMA", "RECORD", "RECORD", "STATE"]
    assert messages[0]["key_properties"] == ["subject_key", "status"]
    assert states(messages)[-1] == {"bookmarks": {"cursor": {"number": 2}}}


def test_a_second_run_emits_nothing_and_does_not_wipe_the_state(run_tap: RunTap) -> None:
    state = states(run_tap(TapToy(config={"total": 2})))[-1]
    again = run_tap(TapToy(config={"total": 2}, state=state))
    assert keys(again) == []
    assert all(one == state for one in states(again))


def test_a_run_that_finds_nothing_at_all_writes_no_state(run_tap: RunTap) -> None:
    assert states(run_tap(TapToy(config={"total": 0}))) == []


def test_a_failure_in_the_middle_leaves_a_state_that_covers_what_was_emitted(run_tap: RunTap) -> None:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(UnavailableError):
        TapToy(config={"total": 5, "fail_at": 3}).sync_all()
    messages = [json.loads(line) for line in output.getvalue().splitlines()]
    assert keys(messages) == ["toy:a:0", "toy:a:1", "toy:a:2"]
    rest = run_tap(TapToy(config={"total": 5}, state=states(messages)[-1]))
    assert keys(rest) == ["toy:a:3", "toy:a:4"]


def test_sigterm_stops_at_a_checkpoint_with_a_true_state_and_a_telling_exit_code() -> None:
    class Interrupted(TapToy):
        def read(self) -> Iterator[Record | Checkpoint]:
            for item in super().read():
                if isinstance(item, Checkpoint) and item.cursor["number"] == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield item

    before = signal.getsignal(signal.SIGTERM)
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as stopped:
            Interrupted(config={"total": 100}).sync_all()
    finally:
        signal.signal(signal.SIGTERM, before)
    messages = [json.loads(line) for line in output.getvalue().splitlines()]
    assert stopped.value.code == 143
    assert keys(messages) == ["toy:a:0", "toy:a:1"]
    assert states(messages)[-1] == {"bookmarks": {"cursor": {"number": 2}}}


def test_no_state_is_written_before_the_records_that_it_covers(run_tap: RunTap) -> None:
    seen = 0
    for message in run_tap(TapToy(config={"total": 2500})):
        if message["type"] == "RECORD":
            seen += 1
        if message["type"] == "STATE":
            assert message["value"]["bookmarks"]["cursor"]["number"] <= seen
    assert seen == 2500


def test_a_long_run_tells_how_far_it_is_and_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, run_tap: RunTap
) -> None:
    monkeypatch.setattr("taps.base._TELL_EVERY_SECONDS", 0.0)
    monkeypatch.setattr("taps.base._STATE_EVERY_RECORDS", 50)
    with caplog.at_level(logging.INFO):
        run_tap(TapToy(config={"total": 1000}))
    told = [match for line in caplog.messages if (match := re.search(r"(\d+) records so far, .*; (\d+)% read", line))]
    assert len(told) == 19
    assert all(abs(int(match[1]) / 10 - int(match[2])) <= 1 for match in told)
    assert re.search(r"500 records so far, [\d,]+ a second; 50% read, about \d+ s to go", caplog.text)


def test_a_short_run_says_nothing_of_its_pace(caplog: pytest.LogCaptureFixture, run_tap: RunTap) -> None:
    with caplog.at_level(logging.INFO):
        run_tap(TapToy(config={}))
    assert "so far" not in caplog.text


@pytest.mark.parametrize(("seconds", "said"), [(40, "40 s"), (700, "12 min"), (12_000, "3 h 20 min")])
def test_a_duration_is_said_in_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_deselected_stream_is_not_emitted(run_tap: RunTap) -> None:
    catalog = TapToy(config={}).catalog_dict
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            entry["metadata"]["selected"] = False
    assert [message["type"] for message in run_tap(TapToy(config={}, catalog=catalog))] == ["STATE"]


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigValidationError) as refused:
        TapToy(config={"totall": 3})
    assert "totall" in str(refused.value.errors)


def test_a_wrong_setting_is_named_without_its_value(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        TapToy.cli.main(["--config", _config({"fail_at": 1, "total": 3})], standalone_mode=True)
    assert ended.value.code == 1
    assert "UnavailableError: Toy: GET /numbers answered 503" in capfd.readouterr().err


def _config(values: dict[str, Any]) -> str:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(values, file)
    return file.name


def test_a_secret_setting_is_marked_secret() -> None:
    assert TapToy.config_jsonschema["properties"]["secret"]["secret"] is True


def test_a_record_parked_by_a_tap_keeps_its_reason(state_url: str) -> None:
    from stores.parked import Parked

    tap = TapToy(config={"state_url": state_url})
    tap.park("receipts", "k", UnavailableError("Toy: why"), {"raw": 1}, "delivery:1#0")
    (item,) = Parked(tap.stores).list()
    assert (item.part, item.reason, item.payload) == ("tap-toy", "Toy: why", {"raw": 1})


class NumbersApp(SandboxApp):
    """Answers GET /numbers."""

    def routes(self) -> list[Rule]:
        return [Rule("/numbers", endpoint=lambda request: json_response({"data": [1, 2]}), methods=["GET"])]


@pytest.fixture
def numbers() -> Iterator[SandboxServer]:
    with SandboxServer(NumbersApp()) as server:
        yield server


def session(server: SandboxServer, **options: Any) -> HttpSession:
    return HttpSession("Toy", server.url, secrets=[SecretStr("s3cret-token")], **options)


def test_retry_after_is_honoured_and_then_the_call_succeeds(
    numbers: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("backoff._sync.time.sleep", waited.append)
    numbers.app.faults.append(Fault("/numbers", status=429, headers={"Retry-After": "7"}))
    assert session(numbers).fetch_json("/numbers") == {"data": [1, 2]}
    assert waited == [7.0]


def test_a_server_error_is_tried_again_a_bounded_number_of_times(
    numbers: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backoff._sync.time.sleep", lambda _: None)
    numbers.app.faults.append(Fault("/numbers", status=503, times=100))
    with pytest.raises(UnavailableError):
        session(numbers, max_tries=3).fetch_json("/numbers")
    assert len(numbers.app.journal) == 3


def test_a_refused_token_stops_at_once_and_is_not_shown(numbers: SandboxServer) -> None:
    numbers.app.faults.append(
        Fault("/numbers", status=401, body={"error": {"code": 190, "message": "bad token s3cret-token"}}, times=9)
    )
    with pytest.raises(CredentialsError) as refused:
        session(numbers).fetch_json("/numbers", {"access_token": "s3cret-token"})
    assert "190" in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert len(numbers.app.journal) == 1


def test_a_rate_limit_without_retry_after_backs_off_by_itself() -> None:
    from taps.base import _WaitSeconds

    wait = _WaitSeconds()
    assert [wait(RateLimitedError("x")) for _ in range(4)] == [1, 2, 4, 8]
    assert wait(RateLimitedError("x", retry_after_seconds=3)) == 3
