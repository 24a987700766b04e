"""Clients that mean harm, or are broken: each is cut off or refused, and everybody else is served meanwhile."""

from __future__ import annotations

import gzip
import select
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from mappings.errors import SignatureError
from stores.database import Stores
from taps.webhooks import server as server_module
from taps.webhooks.items import WebhookRequest
from taps.webhooks.receiver import WebhookRoute
from tests.contract.webhook import RunningReceiver, running_receiver

MAX_BODY_BYTES = 1_000_000
SIGNED = "POST /webhooks/acme HTTP/1.1\r\nHost: x\r\nX-Secret: one\r\n"


def verify(settings: str, request: WebhookRequest) -> None:
    if request.headers.get("x-secret") != settings:
        msg = "the secret is wrong"
        raise SignatureError(msg)


@pytest.fixture
def receiver(stores: Stores) -> Iterator[RunningReceiver]:
    module = SimpleNamespace(verify=verify, challenge=lambda *_: None, MAX_BODY_BYTES=MAX_BODY_BYTES)
    with running_receiver(stores, {("acme", "default"): WebhookRoute(module, "one")}) as running:
        yield running


def connect(receiver: RunningReceiver) -> socket.socket:
    return socket.create_connection(("127.0.0.1", receiver.port), timeout=20)


def read_to_end(client: socket.socket) -> bytes:
    """What the server sends until it hangs up (a reset counts as that)."""
    received = b""
    try:
        while part := client.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def exchange(receiver: RunningReceiver, raw: bytes) -> bytes:
    """Send `raw` and nothing more; everything that comes back."""
    with connect(receiver) as client:
        try:
            client.sendall(raw)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # cut off while we were still sending
        return read_to_end(client)


def statuses(answers: bytes) -> list[bytes]:
    return [line.split(b" ")[1] for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.")]


def serves_others(receiver: RunningReceiver) -> bool:
    """A delivery of somebody else is answered and stored."""
    body = uuid4().bytes
    answer = receiver.request("POST", "/webhooks/acme", body, [("X-Secret", "one")])
    stored = receiver.stored.read("acme", "default", 0, 1000)
    return answer.status == 200 and body in [one.body for one in stored]


class PeakMemory:
    """How much resident memory this process took at most, above what it had at the beginning of the block."""

    def __enter__(self) -> PeakMemory:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
        self._before = self._peak()
        return self

    def __exit__(self, *_: object) -> None:
        self.grown_bytes = self._peak() - self._before

    @staticmethod
    def _peak() -> int:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


AMBIGUOUS = {
    "length and chunks": SIGNED + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": SIGNED + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a second request smuggled behind chunks": SIGNED
    + "Content-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SIGNED
    + "Content-Length: 3\r\n\r\nbad",
    "two lengths": SIGNED + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "two equal lengths": SIGNED + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": SIGNED + "Content-Length: 3, 3\r\n\r\nabc",
    "a length with a sign": SIGNED + "Content-Length: +3\r\n\r\nabc",
    "a negative length": SIGNED + "Content-Length: -3\r\n\r\nabc",
    "a length in hexadecimal": SIGNED + "Content-Length: 0x3\r\n\r\nabc",
    "a length with an underscore": SIGNED + "Content-Length: 1_0\r\n\r\nabcabcabca",
    "a length in Arabic digits": SIGNED + "Content-Length: ٣\r\n\r\nabc",
    "chunks that are not the last coding": SIGNED + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "an unknown coding": SIGNED + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding behind a vertical tab": SIGNED + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": SIGNED.replace("1.1", "1.0") + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk size with a sign": SIGNED + "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    "a chunk without its end": SIGNED + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
    "a space before the colon": SIGNED + "Content-Length : 3\r\n\r\nabc",
    "NUL in a header": SIGNED + "X-Other: a\x00b\r\nContent-Length: 3\r\n\r\nabc",
    "a bare line feed in a header": SIGNED + "X-Other: a\nContent-Length: 3\r\n\r\nabc",
    "a header without a name": SIGNED + ": x\r\nContent-Length: 3\r\n\r\nabc",
    "no request line": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a request line of one word": "POST\r\nX-Secret: one\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_request_that_can_be_read_in_two_ways_is_refused_once_and_cut_off(
    receiver: RunningReceiver, name: str
) -> None:
    answers = statuses(exchange(receiver, AMBIGUOUS[name].encode()))
    assert len(answers) == 1
    assert answers[0] in {b"400", b"501"}
    assert receiver.stored.count() == 0
    assert serves_others(receiver)


def test_an_absolute_address_is_read_as_its_path(receiver: RunningReceiver) -> None:
    raw = SIGNED.replace("/webhooks", "http://elsewhere.example/webhooks") + "Content-Length: 3\r\n\r\nabc"
    assert statuses(exchange(receiver, raw.encode())) == [b"200"]


def test_bytes_after_the_announced_length_are_not_part_of_the_delivery(receiver: RunningReceiver) -> None:
    answers = statuses(exchange(receiver, (SIGNED + "Content-Length: 3\r\n\r\nabcTRAILING").encode()))
    assert answers[0] == b"200"
    assert [one.body for one in receiver.stored.read("acme", "default", 0, 9)] == [b"abc"]
    assert serves_others(receiver)


def test_a_body_shorter_than_announced_is_not_stored(receiver: RunningReceiver) -> None:
    with connect(receiver) as client:
        client.sendall((SIGNED + "Content-Length: 10\r\n\r\nabc").encode())
        client.shutdown(socket.SHUT_WR)
        assert statuses(read_to_end(client)) == []
    assert receiver.stored.count() == 0
    assert serves_others(receiver)


def test_a_client_that_leaves_before_its_answer_harms_nobody(receiver: RunningReceiver) -> None:
    for number in range(50):
        with connect(receiver) as client:
            client.sendall((SIGNED + f"Content-Length: 5\r\n\r\ngone{number % 10}").encode())
    assert serves_others(receiver)


@pytest.mark.parametrize("line", [b"X-%d: x\r\n", b"X-Same: %d\r\n"])
def test_a_header_without_end_is_cut_off_before_it_fills_the_memory(receiver: RunningReceiver, line: bytes) -> None:
    sent = 0
    with PeakMemory() as memory, connect(receiver) as client:
        client.sendall(SIGNED.encode())
        try:
            while sent < 60_000_000:
                sent += client.send(b"".join(line % number for number in range(5000)))
        except OSError:
            pass
        assert statuses(read_to_end(client)) in ([], [b"431"])
    assert sent < 60_000_000
    assert memory.grown_bytes < 20_000_000
    assert receiver.stored.count() == 0
    assert serves_others(receiver)


def test_a_request_line_without_end_is_cut_off(receiver: RunningReceiver) -> None:
    answers = statuses(exchange(receiver, b"GET /" + b"a" * 5_000_000))
    assert answers in ([], [b"431"])
    assert serves_others(receiver)


def test_a_body_of_200_megabytes_is_refused_by_its_length(receiver: RunningReceiver) -> None:
    with PeakMemory() as memory, connect(receiver) as client:
        client.sendall((SIGNED + "Content-Length: 200000000\r\n\r\n").encode())
        assert statuses(read_to_end(client)) == [b"413"]
    assert memory.grown_bytes < 20_000_000
    assert serves_others(receiver)


def test_chunks_without_end_are_cut_off_at_the_limit(receiver: RunningReceiver) -> None:
    sent = 0
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with connect(receiver) as client:
        client.sendall((SIGNED + "Transfer-Encoding: chunked\r\n\r\n").encode())
        try:
            while sent < 100 * MAX_BODY_BYTES:
                client.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        assert statuses(read_to_end(client)) in ([], [b"413"])
    assert sent < 100 * MAX_BODY_BYTES
    assert receiver.stored.count() == 0
    assert serves_others(receiver)


@pytest.mark.parametrize("compress", [gzip.compress, lambda data: gzip.compress(gzip.compress(data)), zlib.compress])
def test_a_bomb_is_refused_unopened(receiver: RunningReceiver, compress: Any) -> None:
    bomb = compress(bytes(50_000_000))
    headers = [("X-Secret", "one"), ("Content-Encoding", "gzip")]
    with PeakMemory() as memory:
        assert receiver.request("POST", "/webhooks/acme", bomb, headers).status == 415
    assert memory.grown_bytes < 20_000_000
    assert receiver.stored.count() == 0


def cut_off_within(client: socket.socket, drip: bytes, seconds: float) -> bool:
    """Whether the server hangs up although a byte comes all the time."""
    give_up_at = time.monotonic() + seconds
    try:
        while time.monotonic() < give_up_at:
            client.sendall(drip)
            readable, _, _ = select.select([client], [], [], 0.05)
            if readable and not client.recv(65536):
                return True
    except OSError:
        return True
    return False


@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        (SIGNED, b"X"),
        ("POST", b"T"),
        (SIGNED + "Content-Length: 100000\r\n\r\n", b"x"),
        (SIGNED + "Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
def test_a_request_that_drips_in_is_cut_off_at_its_deadline(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch, begin: str, drip: bytes
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.5)
    with connect(receiver) as client:
        client.sendall(begin.encode())
        assert cut_off_within(client, drip, seconds=20)
    assert receiver.stored.count() == 0
    assert serves_others(receiver)


def test_a_silent_connection_is_closed(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 1)
    monkeypatch.setattr(server_module, "CLEANUP_SECONDS", 1)
    module = SimpleNamespace(verify=verify, challenge=lambda *_: None, MAX_BODY_BYTES=10)
    with (
        running_receiver(stores, {("acme", "default"): WebhookRoute(module, "one")}) as receiver,
        connect(receiver) as client,
    ):
        assert read_to_end(client) == b""


def test_hundreds_of_slow_clients_hold_no_thread(receiver: RunningReceiver) -> None:
    clients = []
    for number in range(300):
        client = connect(receiver)
        client.sendall((SIGNED + "Content-Length: 1000\r\n\r\nx" if number % 2 else SIGNED).encode())
        clients.append(client)
    assert serves_others(receiver)
    for client in clients:
        client.close()


def test_connections_beyond_the_limit_wait_and_are_served_when_others_leave(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONNECTION_LIMIT", 10)
    module = SimpleNamespace(verify=verify, challenge=lambda *_: None, MAX_BODY_BYTES=1000)
    with running_receiver(stores, {("acme", "default"): WebhookRoute(module, "one")}) as receiver:
        clients = [connect(receiver) for _ in range(30)]
        for client in clients:
            client.close()
        assert serves_others(receiver)
