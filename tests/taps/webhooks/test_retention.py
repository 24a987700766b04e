"""What is removed, what stays, and that neither a reader nor a delivery suffers from it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mappings.records import Attachment
from stores import deliveries as deliveries_module
from stores.database import Stores
from stores.deliveries import Deliveries
from stores.media import Media
from stores.positions import Positions
from taps.webhooks import receiver as receiver_module
from taps.webhooks import retention as retention_module
from taps.webhooks.metrics import Metrics
from taps.webhooks.receiver import WebhookRoute, serve
from taps.webhooks.retention import INTERVAL_SECONDS, Retention, forget_media
from taps.whatsapp import TapWhatsApp
from tests.contract.webhook import PLENTY, running_receiver
from tests.taps.test_deliveries import state_of, text, texts
from tests.taps.webhook_source import WebhookSource

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MONTH = timedelta(days=30)
RunTap = Callable[[Any], list[dict[str, Any]]]


@pytest.fixture
def writer(stores: Stores) -> Iterator[Deliveries]:
    opened = Deliveries(stores, writable=True)
    yield opened
    opened.close()


def deliver(writer: Deliveries, days_ago: float, body: bytes | None = None, route: str = "default") -> int:
    """Store one delivery; its id."""
    at = NOW - timedelta(days=days_ago)
    writer.add([writer.encode("acme", route, at, {}, "", body or f"{days_ago}".encode())])
    return writer.last_id("acme", route)


def bodies(writer: Deliveries, route: str = "default") -> list[bytes]:
    return [one.body for one in writer.read("acme", route, 0, 1000)]


def run_to_end(retention: Retention) -> int:
    """Step until it wants to rest; how many portions that took."""
    for portions in range(1000):
        if retention.step() == INTERVAL_SECONDS:
            return portions
    raise AssertionError


def retention(stores: Stores, writer: Deliveries, keep: timedelta = MONTH, now: datetime = NOW) -> Retention:
    return Retention(stores, writer, keep, Metrics(), lambda: now)


def test_what_is_old_and_was_read_goes_and_the_rest_stays(stores: Stores, writer: Deliveries) -> None:
    deliver(writer, 40)
    read_to = deliver(writer, 35)
    deliver(writer, 32)
    deliver(writer, 5)
    Positions(stores).note("acme", "default", "tap-acme", read_to, NOW)
    run_to_end(retention(stores, writer))
    assert bodies(writer) == [b"32", b"5"]


def test_what_was_read_and_is_not_old_stays(stores: Stores, writer: Deliveries) -> None:
    deliver(writer, 31)
    read_to = deliver(writer, 29)
    Positions(stores).note("acme", "default", "tap-acme", read_to, NOW)
    run_to_end(retention(stores, writer))
    assert bodies(writer) == [b"29"]


def test_what_nobody_has_read_stays_however_old(
    stores: Stores, writer: Deliveries, caplog: pytest.LogCaptureFixture
) -> None:
    deliver(writer, 400)
    one = retention(stores, writer)
    run_to_end(one)
    run_to_end(one)
    assert bodies(writer) == [b"400"]
    assert [record.getMessage() for record in caplog.records] == [
        "receiver: acme/default keeps everything: no tap has read it twice yet"
    ]


def test_the_slowest_reader_decides_and_is_named(
    stores: Stores, writer: Deliveries, caplog: pytest.LogCaptureFixture
) -> None:
    slow = deliver(writer, 90)
    deliver(writer, 80)
    fast = deliver(writer, 70)
    positions = Positions(stores)
    positions.note("acme", "default", "tap-acme", fast, NOW)
    positions.note("acme", "default", "tap-report", slow, NOW - timedelta(days=60))
    run_to_end(retention(stores, writer))
    assert bodies(writer) == [b"80", b"70"]
    assert "keeps deliveries for tap-report, which last ran on 2026-09-02" in caplog.text
    positions.forget("acme", "default", "tap-report")
    run_to_end(retention(stores, writer))
    assert bodies(writer) == []


def test_each_route_is_purged_by_its_own_readers(stores: Stores, writer: Deliveries) -> None:
    deliver(writer, 40, b"unread", "shop2")
    read_to = deliver(writer, 40, b"read")
    Positions(stores).note("acme", "default", "tap-acme", read_to, NOW)
    run_to_end(retention(stores, writer))
    assert (bodies(writer), bodies(writer, "shop2")) == ([], [b"unread"])


def test_zero_keeps_for_ever(stores: Stores, writer: Deliveries) -> None:
    Positions(stores).note("acme", "default", "tap-acme", deliver(writer, 4000), NOW)
    run_to_end(retention(stores, writer, timedelta()))
    assert bodies(writer) == [b"4000"]


def test_it_goes_in_portions_of_rows_and_of_bytes(
    stores: Stores, writer: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "PORTION_ROWS", 4)
    monkeypatch.setattr(deliveries_module, "_MAX_PURGE_BYTES", 3000)
    for number in range(10):
        deliver(writer, 40, b"%d" % number)
    for number in range(3):
        last = deliver(writer, 40, b"%d" % number * 2000)
    Positions(stores).note("acme", "default", "tap-acme", last, NOW)
    sizes, purge = [], writer.purge

    def counted(*arguments: Any) -> int:
        sizes.append(purge(*arguments))
        return sizes[-1]

    monkeypatch.setattr(writer, "purge", counted)
    run_to_end(retention(stores, writer))
    assert sizes == [4, 4, 3, 1, 1, 0]
    assert bodies(writer) == []


def test_a_delivery_dated_in_the_future_does_not_keep_the_others(stores: Stores, writer: Deliveries) -> None:
    deliver(writer, -400, b"the clock was wrong")
    last = deliver(writer, 40)
    Positions(stores).note("acme", "default", "tap-acme", last, NOW)
    run_to_end(retention(stores, writer))
    assert bodies(writer) == [b"the clock was wrong"]


def test_a_purged_delivery_that_comes_again_is_new_with_a_new_id(stores: Stores, writer: Deliveries) -> None:
    first = deliver(writer, 40, b"x")
    Positions(stores).note("acme", "default", "tap-acme", first, NOW)
    run_to_end(retention(stores, writer))
    assert deliver(writer, 0, b"x") > first


@pytest.mark.sqlite
def test_what_was_purged_is_not_on_the_disk_any_more(stores: Stores, writer: Deliveries) -> None:
    body = b"x" * 100_000
    last = deliver(writer, 40, body)
    stored = writer._database.query_one("SELECT body FROM delivery")
    assert stored is not None
    sample = bytes(stored["body"])[50_000:50_100]
    Positions(stores).note("acme", "default", "tap-acme", last, NOW)
    run_to_end(retention(stores, writer))
    with sqlite3.connect(stores.folder / "deliveries.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert all(sample not in path.read_bytes() for path in stores.folder.iterdir() if path.is_file())


# Who has read what


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapWhatsApp, {})
    yield made
    made.close()


def confirmed(stores: Stores) -> list[int]:
    return [one.delivery_id for one in Positions(stores).confirmed(datetime.now(UTC) - MONTH)]


def test_a_tap_notes_what_it_was_started_with_and_never_what_it_emits(
    source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver(text("one", 1))
    state = state_of(run_tap(TapWhatsApp(config=source.config())))
    assert confirmed(stores) == []  # nothing says yet that a target has taken it
    source.deliver(text("two", 2))
    assert texts(run_tap(TapWhatsApp(config=source.config(), state=state))) == ["two"]
    assert confirmed(stores) == [1]


def test_a_run_that_was_lost_is_read_again_after_a_purge(
    source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver(text("one", 1))
    state = state_of(run_tap(TapWhatsApp(config=source.config())))
    source.deliver(text("two", 2))
    run_tap(TapWhatsApp(config=source.config(), state=state))  # its target was killed: the old state stays
    run_to_end(retention(stores, source._deliveries, now=datetime.now(UTC) + timedelta(days=365)))
    assert source._deliveries.count() == 1
    assert texts(run_tap(TapWhatsApp(config=source.config(), state=state))) == ["two"]


def test_a_tap_goes_on_after_everything_was_purged(source: WebhookSource, run_tap: RunTap, stores: Stores) -> None:
    source.deliver(text("one", 1))
    state = state_of(run_tap(TapWhatsApp(config=source.config())))
    state = state_of(run_tap(TapWhatsApp(config=source.config(), state=state)))
    run_to_end(retention(stores, source._deliveries, now=datetime.now(UTC) + timedelta(days=20)))
    assert source._deliveries.count() == 0
    source.deliver(text("two", 2))
    assert texts(run_tap(TapWhatsApp(config=source.config(), state=state))) == ["two"]


# In the receiver


ROUTES = {
    ("acme", "default"): WebhookRoute(
        SimpleNamespace(verify=lambda *_: None, challenge=lambda *_: None, MAX_BODY_BYTES=1000), ""
    )
}


def test_the_receiver_removes_between_commits_and_goes_on_taking(
    stores: Stores, writer: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "PORTION_ROWS", 5)
    monkeypatch.setattr(retention_module, "_PAUSE_SECONDS", 0)
    for number in range(100):
        last = deliver(writer, 40, b"old %d" % number)
    Positions(stores).note("acme", "default", "tap-acme", last, NOW)
    steps: list[float] = []

    def housekeeping(own: Deliveries, metrics: Metrics) -> Callable[[], float]:
        one = Retention(stores, own, MONTH, metrics, lambda: NOW)

        def step() -> float:
            steps.append(one.step())
            return steps[-1]

        return step

    with running_receiver(stores, ROUTES, housekeeping=housekeeping) as receiver:
        sent = 0
        while INTERVAL_SECONDS not in steps:
            assert receiver.request("POST", "/webhooks/acme", b"new %d" % sent).status == 200
            sent += 1
        page = receiver.request("GET", "/metrics").body.decode()
    assert bodies(writer) == [b"new %d" % number for number in range(sent)]
    assert 'onethread_receiver_deliveries_purged_total{platform="acme",route="default"} 100.0' in page


def test_a_failing_housekeeping_stops_no_delivery(stores: Stores, caplog: pytest.LogCaptureFixture) -> None:
    def housekeeping(*_: object) -> Callable[[], float]:
        def step() -> float:
            msg = "canary"
            raise RuntimeError(msg)

        return step

    with running_receiver(stores, ROUTES, housekeeping=housekeeping) as receiver:
        for number in range(3):
            assert receiver.request("POST", "/webhooks/acme", b"%d" % number).status == 200
    assert caplog.text.count("the housekeeping failed: RuntimeError") == 1
    assert "canary" not in caplog.text


def test_a_log_that_cannot_shrink_is_told(
    stores: Stores, writer: Deliveries, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "log_bytes", lambda: 300 * 2**20)
    run_to_end(retention(stores, writer))
    assert "SQLite's log has 300 MiB" in caplog.text


@pytest.mark.sqlite
def test_deliveries_are_taken_while_somebody_reads_an_old_state(stores: Stores) -> None:
    with running_receiver(stores, ROUTES) as receiver:
        assert receiver.request("POST", "/webhooks/acme", b"first").status == 200
        with receiver.stored._database.snapshot():
            assert receiver.stored.count() == 1
            size = receiver.writer.log_bytes()
            for number in range(50):
                assert receiver.request("POST", "/webhooks/acme", b"%d" % number).status == 200
            assert receiver.stored.count() == 1
            assert receiver.writer.log_bytes() > size
        assert receiver.stored.count() == 51


@pytest.mark.sqlite
def test_a_reader_that_does_not_end_makes_the_log_grow_until_it_is_told(
    stores: Stores, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "_LOG_ALARM_BYTES", 6_000_000)  # SQLite alone lets it grow to 4 MB
    body = bytes(900)
    for held, told in ((False, False), (True, True)):
        with running_receiver(stores, ROUTES) as receiver, ExitStack() as stack:
            if held:
                stack.enter_context(receiver.stored._database.snapshot())
                assert receiver.stored.count() >= 0  # only now the old state is held
            rows = [receiver.writer.encode("acme", "default", NOW, {}, f"{held}{one}", body) for one in range(8000)]
            for start in range(0, len(rows), 1000):
                receiver.writer.add(rows[start : start + 1000])
            assert receiver.request("POST", "/webhooks/acme", b"still taken %d" % held).status == 200
            run_to_end(retention(stores, receiver.writer))
            assert ("some process keeps reading an old state" in caplog.text) is told


def fetched(stores: Stores, message: str, at: datetime) -> Media:
    media = Media(stores)
    media.keep([b"\x89PNG\r\n\x1a\n" + message.encode()], max_bytes=100, expected=Attachment(kind="image"),
               message_key=message)  # fmt: skip
    media._database.execute(
        "UPDATE media_use SET used_at = ? WHERE message = ?",
        (at.isoformat(timespec="microseconds"), media._print(message)),
    )
    return media


def test_files_go_with_the_deliveries(stores: Stores) -> None:
    assert forget_media(stores, MONTH, NOW) == 0
    fetched(stores, "old", NOW - timedelta(days=31))
    media = fetched(stores, "new", NOW - timedelta(days=29))
    assert forget_media(stores, MONTH, NOW) == 1
    assert (media.find("old"), media.find("new") is None) == (None, False)


@pytest.mark.parametrize(
    ("days", "own_days", "left"), [("30", None, 0), ("0", None, 1), ("30", "0", 1), ("0", "30", 0)]
)
def test_the_receiver_removes_files_when_it_starts(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: str, own_days: str | None, left: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONETHREAD_RECEIVER_RETENTION_DAYS", days)
    if own_days is not None:
        monkeypatch.setenv("ONETHREAD_RECEIVER_MEDIA_RETENTION_DAYS", own_days)
    media = fetched(stores, "old", datetime.now(UTC) - timedelta(days=31))
    done: list[int] = []
    waited = threading.Event()

    def forget(*arguments: Any) -> int:
        done.append(forget_media(*arguments))
        waited.set()
        return done[-1]

    monkeypatch.setattr(receiver_module, "forget_media", forget)

    def ready(_: int) -> None:
        if not left:
            assert waited.wait(20)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(stores, "127.0.0.1", 0, ready, routes=ROUTES, disk_usage=lambda _: PLENTY)
    assert done == ([] if left else [1])
    assert (media.find("old") is not None) == bool(left)
