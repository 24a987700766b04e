"""Faults that are neither the platform's module's nor one request's: a slow store, a burst, replays, odd signatures."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.hostile import statuses
from stores.database import Stores
from stores.deliveries import DeliveryRow
from stores.positions import Positions
from taps.webhooks import committer as committer_module
from taps.webhooks import connection as connection_module
from taps.webhooks import whatsapp
from taps.webhooks.metrics import Metrics
from taps.webhooks.receiver import Routes, WebhookRoute
from taps.webhooks.retention import INTERVAL_SECONDS, Retention
from taps.whatsapp import TapWhatsApp
from tests.contract.webhook import RunningReceiver, running_receiver
from tests.taps.test_deliveries import state_of, text, texts
from tests.taps.webhook_source import RECEIVED_AT, WebhookSource
from tests.taps.webhooks.test_hostile_clients import PeakMemory

SECRET = "current-secret-0123456789"
OPEN: Routes = {
    ("acme", "default"): WebhookRoute(
        SimpleNamespace(verify=lambda *_: None, challenge=lambda *_: None, MAX_BODY_BYTES=1_000_000), ""
    )
}


@pytest.fixture
def receiver(stores: Stores) -> Iterator[RunningReceiver]:
    settings = whatsapp.Settings(app_secret=SECRET, verify_token="word")
    with running_receiver(stores, {("whatsapp", "default"): WebhookRoute(whatsapp, settings)}) as running:
        yield running


def signature(body: bytes) -> str:
    return "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


BODY = json.dumps(text("hello"), separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY, [("X-Hub-Signature", "sha1=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest())]),
        (BODY, [("X-Hub-Signature-256", signature(BODY).upper())]),
        (BODY, [("X-Hub-Signature-256", "sha256=" + signature(BODY))]),
        (BODY, [("X-Hub-Signature-256", signature(BODY) + "00")]),
        (BODY.decode().encode("utf-16"), [("X-Hub-Signature-256", signature(BODY))]),
        (json.dumps(json.loads(BODY)).encode(), [("X-Hub-Signature-256", signature(BODY))]),
        (BODY, [("X-Hub-Signature-256", signature(BODY)), ("Content-Type", "application/json; charset=utf-16")]),
    ],
    ids=["SHA-1 alone", "upper case", "prefix twice", "padded", "in UTF-16", "serialised again", "another charset"],
)
def test_what_differs_from_what_was_signed_is_401(
    receiver: RunningReceiver, body: bytes, headers: list[tuple[str, str]]
) -> None:
    status = receiver.request("POST", "/webhooks/whatsapp", body, headers).status
    # The charset is no part of the bytes that are signed: the delivery is authentic and kept as it came.
    expected = 200 if ("Content-Type", "application/json; charset=utf-16") in headers else 401
    assert (status, receiver.stored.count()) == (expected, int(expected == 200))


def test_a_delivery_of_100_000_keys_is_stored_and_read(receiver: RunningReceiver) -> None:
    body = json.dumps({f"key{number}": number for number in range(100_000)}).encode()
    assert (
        receiver.request("POST", "/webhooks/whatsapp", body, [("X-Hub-Signature-256", signature(body))]).status == 200
    )
    (stored,) = receiver.stored.read("whatsapp", "default", 0, 1)
    assert stored.body == body
    assert [item.kind for item in whatsapp.split(stored.body)] == ["other"]


def test_a_captured_delivery_that_is_sent_again_after_its_purge_is_a_repeat(
    stores: Stores, state_url: str, run_tap: Callable[[Any], list[dict[str, Any]]]
) -> None:
    """Meta signs no time. The row that would have told the repeat is gone; the memory of the event is not."""
    source = WebhookSource(stores, state_url, TapWhatsApp, {})
    source.deliver(text("once"))
    state = state_of(run_tap(TapWhatsApp(config=source.config())))
    Positions(stores).note("whatsapp", "default", "tap-whatsapp", 1, datetime.now(UTC))
    retention = Retention(stores, source._deliveries, timedelta(days=1), Metrics())
    while retention.step() != INTERVAL_SECONDS:
        pass
    assert source._deliveries.count() == 0
    source.deliver(text("once"), at=RECEIVED_AT + timedelta(days=20))
    assert source._deliveries.count() == 1
    assert texts(run_tap(TapWhatsApp(config=source.config(), state=state))) == []
    source.close()


class SlowStore:
    """`Deliveries.add` that takes its time, or does not end until it may."""

    def __init__(self, receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch, seconds: float | None) -> None:
        self.opened, self.entered = threading.Event(), threading.Event()
        self.most_waiting = 0
        self._receiver, self._seconds = receiver, seconds
        self._add: Callable[[Sequence[DeliveryRow]], Counter[tuple[str, str]]] = receiver.writer.add
        monkeypatch.setattr(receiver.writer, "add", self.add)

    def add(self, rows: Sequence[DeliveryRow]) -> Counter[tuple[str, str]]:
        self.entered.set()
        if self._seconds is None:
            self.opened.wait(60)
        else:
            time.sleep(self._seconds)
        self.most_waiting = max(self.most_waiting, self._receiver.committer._waiting.qsize())
        return self._add(rows)


def test_memory_does_not_grow_while_the_store_is_slow(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 MB pass through; what is held is what the threads have in hand."""
    with running_receiver(stores, OPEN) as receiver:
        store = SlowStore(receiver, monkeypatch, 0.02)

        def send(number: int) -> int:
            return receiver.request("POST", "/webhooks/acme", (b"%d " % number) * 20_000).status

        with ThreadPoolExecutor(40) as pool:
            list(pool.map(send, range(10_000, 10_040)))
            with PeakMemory() as memory:
                answers = Counter(pool.map(send, range(20_000, 20_850)))
        assert answers == {200: 850}
        assert store.most_waiting <= 40
        assert memory.grown_bytes < 50_000_000


def test_a_store_that_hangs_takes_nothing_more_into_memory(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "STALLED_SECONDS", 0.3)
    monkeypatch.setattr(connection_module, "ANSWER_SECONDS", 0.3)
    with running_receiver(stores, OPEN) as receiver:
        store = SlowStore(receiver, monkeypatch, None)
        assert receiver.request("POST", "/webhooks/acme", b"first").status == 503
        assert store.entered.is_set()
        with PeakMemory() as memory:
            answers = [receiver.request("POST", "/webhooks/acme", bytes(900_000)) for _ in range(100)]
        assert {(one.status, one.headers["retry-after"]) for one in answers} == {(503, "10")}
        assert receiver.committer._waiting.qsize() == 0
        assert memory.grown_bytes < 30_000_000
        store.opened.set()


def test_a_burst_is_taken_or_asked_to_come_again_and_what_was_taken_is_there(stores: Stores) -> None:
    """5,000 deliveries at once over 100 connections, each with 50 requests one behind the other."""
    with running_receiver(stores, OPEN) as receiver:

        def send(connection: int) -> list[int]:
            requests = b"".join(
                b"POST /webhooks/acme HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
                for body in (b"%d.%d" % (connection, number) for number in range(50))
            )
            with socket.create_connection(("127.0.0.1", receiver.port), timeout=60) as client:
                client.sendall(requests)
                received = b""
                while received.count(b"\r\n\r\n") < 50 and (part := client.recv(65536)):
                    received += part
            return statuses(received)

        with ThreadPoolExecutor(100) as pool:
            answers = Counter(status for found in pool.map(send, range(100)) for status in found)
        assert set(answers) <= {200, 503}
        assert answers.total() == 5000
        assert receiver.stored.count() >= answers[200] > 0
