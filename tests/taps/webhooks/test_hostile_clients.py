"""Clients that mean harm, or are broken: each is cut off or refused, and everybody else is served meanwhile."""

from __future__ import annotations

import gzip
import http.client
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from benchmarks import hostile
from benchmarks.hostile import cut_off_within, flood, read_to_end, statuses
from mappings.errors import SignatureError
from stores.database import Stores
from taps.webhooks import connection as connection_module
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


def exchange(receiver: RunningReceiver, raw: bytes) -> bytes:
    """Send `raw` and nothing more; everything that comes back."""
    with connect(receiver) as client:
        try:
            client.sendall(raw)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # cut off while we were still sending
        return read_to_end(client)


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


AMBIGUOUS = hostile.ambiguous(SIGNED)


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_request_that_can_be_read_in_two_ways_is_refused_once_and_cut_off(
    receiver: RunningReceiver, name: str
) -> None:
    answers = statuses(exchange(receiver, AMBIGUOUS[name].encode()))
    assert len(answers) == 1
    assert answers[0] in {400, 501}
    assert receiver.stored.count() == 0
    assert serves_others(receiver)


def test_an_absolute_address_is_read_as_its_path(receiver: RunningReceiver) -> None:
    raw = SIGNED.replace("/webhooks", "http://elsewhere.example/webhooks") + "Content-Length: 3\r\n\r\nabc"
    assert statuses(exchange(receiver, raw.encode())) == [200]


def test_bytes_after_the_announced_length_are_not_part_of_the_delivery(receiver: RunningReceiver) -> None:
    answers = statuses(exchange(receiver, (SIGNED + "Content-Length: 3\r\n\r\nabcTRAILING").encode()))
    assert answers[0] == 200
    assert [one.body for one in receiver.stored.read("acme", "default", 0, 9)] == [b"abc"]
    assert serves_others(receiver)


def test_what_comes_behind_the_last_request_is_none(receiver: RunningReceiver) -> None:
    last = SIGNED + "Connection: close\r\nContent-Length: 3\r\n\r\nabc"
    for behind in ("TRAILING", SIGNED + "Content-Length: 3\r\n\r\ndef"):
        assert statuses(exchange(receiver, (last + behind).encode())) == [200]
    assert [one.body for one in receiver.stored.read("acme", "default", 0, 9)] == [b"abc"]


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
        assert statuses(read_to_end(client)) in ([], [431])
    assert sent < 60_000_000
    assert memory.grown_bytes < 20_000_000
    assert receiver.stored.count() == 0
    assert serves_others(receiver)


def test_a_request_line_without_end_is_cut_off(receiver: RunningReceiver) -> None:
    answers = statuses(exchange(receiver, b"GET /" + b"a" * 5_000_000))
    assert answers in ([], [431])
    assert serves_others(receiver)


def test_a_body_of_200_megabytes_is_refused_by_its_length(receiver: RunningReceiver) -> None:
    with PeakMemory() as memory, connect(receiver) as client:
        client.sendall((SIGNED + "Content-Length: 200000000\r\n\r\n").encode())
        assert statuses(read_to_end(client)) == [413]
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
        assert statuses(read_to_end(client)) in ([], [413])
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
    monkeypatch.setattr(connection_module, "REQUEST_SECONDS", 0.5)
    with connect(receiver) as client:
        client.sendall(begin.encode())
        assert cut_off_within(client, drip, seconds=20)
    assert receiver.stored.count() == 0
    assert serves_others(receiver)


def test_a_silent_connection_is_closed(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "IDLE_SECONDS", 1)
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


MODULE = SimpleNamespace(verify=verify, challenge=lambda *_: None, MAX_BODY_BYTES=MAX_BODY_BYTES)
ROUTES = {("acme", "default"): WebhookRoute(MODULE, "one")}


def test_one_connection_too_many_drives_out_the_one_that_has_been_silent_for_longest(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONNECTION_LIMIT", 10)
    with running_receiver(stores, ROUTES) as receiver:
        clients = [connect(receiver) for _ in range(30)]
        assert serves_others(receiver)
        assert read_to_end(clients[0]) == b""
        clients[-1].sendall((SIGNED + "Connection: close\r\nContent-Length: 3\r\n\r\nabc").encode())
        assert statuses(read_to_end(clients[-1])) == [200]
        for client in clients:
            client.close()


def test_bodies_that_do_not_end_hold_a_bounded_amount_of_memory(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest one makes room, with an answer; 100 bodies of a megabyte would be 100 MB."""
    monkeypatch.setattr(connection_module, "MAX_HELD_BYTES", 5_000_000)
    part = (SIGNED + "Content-Length: 1000000\r\n\r\n").encode() + bytes(900_000)
    with PeakMemory() as memory:
        clients = []
        for _ in range(100):
            client = connect(receiver)
            client.sendall(part)
            clients.append(client)
        assert serves_others(receiver)
    assert statuses(read_to_end(clients[0])) == [408]
    assert receiver.server.held_bytes <= 5_000_000
    assert memory.grown_bytes < 30_000_000
    for client in clients:
        client.close()
    wait_until(lambda: receiver.server.held_bytes == 0)


def test_a_client_that_never_takes_its_answers_is_asked_no_more_and_cut_off(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "REQUEST_SECONDS", 0.5)
    with PeakMemory() as memory, connect(receiver) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sent = flood(client, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100, 100_000_000)
    assert sent < 100_000_000
    assert memory.grown_bytes < 20_000_000
    assert serves_others(receiver)


def test_an_offer_to_speak_something_else_is_declined_and_the_delivery_taken_whole(receiver: RunningReceiver) -> None:
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\nContent-Length: 3\r\n\r\nabc"
    assert statuses(exchange(receiver, (SIGNED + offer).encode() * 2)) == [200, 200]
    assert statuses(exchange(receiver, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\nabc")) == [405]
    assert [one.body for one in receiver.stored.read("acme", "default", 0, 9)] == [b"abc"]


def test_who_asks_before_sending_is_told_to_go_on_or_not(receiver: RunningReceiver) -> None:
    for signed, length, expected in ((SIGNED, 3, b"100 Continue"), (SIGNED, 2_000_000, b"413"), ("", 3, b"404")):
        begin = signed or "POST /webhooks/nobody HTTP/1.1\r\nHost: x\r\n"
        with connect(receiver) as client:
            client.sendall(f"{begin}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n".encode())
            assert expected in client.recv(1000)
            if expected == b"100 Continue":
                client.sendall(b"abc")
                assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert receiver.stored.count() == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Other: a\r\n b\r\n\r\n",
        b"GET /health HTTP/1.1\nHost: x\n\n",
        b"GET /he\x00alth HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CANARY /health HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["0.9", "2.0", "no host", "two hosts", "folded", "line feeds", "NUL in the path", "unknown method"],
)
def test_what_is_not_the_http_of_today_is_400(receiver: RunningReceiver, raw: bytes) -> None:
    assert statuses(exchange(receiver, raw)) == [400]
    assert serves_others(receiver)


def test_trailers_are_believed_by_nobody_and_have_an_end(receiver: RunningReceiver) -> None:
    chunked = SIGNED.replace("X-Secret: one\r\n", "") + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
    assert statuses(exchange(receiver, (chunked + "X-Secret: one\r\n\r\n").encode())) == [401]
    with connect(receiver) as client:
        client.sendall(chunked.encode())
        assert flood(client, b"X-Other: x\r\n" * 5000, 60_000_000) < 60_000_000
    assert serves_others(receiver)


def test_answers_of_the_server_itself_are_counted(receiver: RunningReceiver) -> None:
    exchange(receiver, b"no http\r\n\r\n")
    exchange(receiver, SIGNED.encode() + b"X-Other: x\r\n" * 5000)
    exchange(receiver, (SIGNED + "Content-Length: 200000000\r\n\r\n").encode())
    page = receiver.request("GET", "/metrics").body.decode()
    for status in (400, 431, 413):
        assert f'onethread_receiver_answers_total{{status="{status}"}} 1.0' in page


SERVE = """
import sys
from collections import namedtuple
from types import SimpleNamespace
from stores.database import Stores
from taps.webhooks.receiver import WebhookRoute, serve
acme = SimpleNamespace(verify=lambda *_: None, challenge=lambda *_: None, MAX_BODY_BYTES=1_000_000)
plenty = namedtuple("Usage", "total free")(10**11, 10**11)
serve(Stores(sys.argv[1]), "127.0.0.1", 0, lambda port: print(port, flush=True),
      routes={("acme", "default"): WebhookRoute(acme, "")}, disk_usage=lambda _: plenty)
"""


@pytest.mark.slow
@pytest.mark.sqlite
@pytest.mark.timeout(120)
def test_a_thousand_each_of_slow_headers_slow_bodies_and_silent_ones_are_cut_off_and_others_served(
    stores: Stores, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3500:
        pytest.skip(f"this machine allows {hard} open files in one process, 3,500 are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3500), hard))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", SERVE, f"sqlite:///{tmp_path}/crowd"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        before = _memory_bytes(process.pid)
        begin = b"POST /webhooks/acme HTTP/1.1\r\nHost: x\r\n"
        crowd = []
        for number in range(3000):
            client = socket.create_connection(("127.0.0.1", port), timeout=20)
            client.sendall((begin, begin + b"Content-Length: 1000\r\n\r\nx", b"")[number % 3])
            crowd.append(client)
        answers = []
        for number in range(50):
            other = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            other.request("POST", "/webhooks/acme", b"%d" % number)
            answers.append(other.getresponse().status)
            other.close()
        assert answers == [200] * 50
        assert _memory_bytes(process.pid) - before < 60_000_000
        ends = Counter(tuple(statuses(read_to_end(client))) for client in crowd)
        assert ends == {(408,): 2000, (): 1000}
        for client in crowd:
            client.close()
        process.terminate()
        assert process.wait(timeout=30) == 0


def _memory_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not come about"
        time.sleep(0.01)


def test_the_suite_for_live_receivers_finds_nothing_here(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "REQUEST_SECONDS", 0.5)
    said: list[str] = []
    target = hostile.target_of(f"http://127.0.0.1:{receiver.port}/webhooks/acme", 20)
    assert hostile.examine(target, said.append) == 0, said
    assert len(said) > 40
    assert receiver.stored.count() == 0


class _Careless(BaseHTTPRequestHandler):
    """Takes whatever comes, and shows it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self.path.encode())

    def do_POST(self) -> None:
        length = self.headers["Content-Length"] or "0"
        self.rfile.read(int(length) if length.isdecimal() else 0)
        self._answer(b"taken")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_the_suite_for_live_receivers_finds_what_a_careless_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "_BODY_BYTES", 1_000_000)
    monkeypatch.setattr(hostile, "_HEADER_BYTES", 1_000_000)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Careless)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    said: list[str] = []
    try:
        target = hostile.target_of(f"http://127.0.0.1:{server.server_port}/webhooks/acme", 1)
        hostile.examine(target, said.append)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    failed = {line.removeprefix("FAILED").strip().partition(":")[0] for line in said if line.startswith("FAILED")}
    assert failed >= {
        "no signature", "a wrong signature", "markup in a handshake", "length and chunks", "two lengths",
        "a second request smuggled behind chunks", "a body of 200 MB", "a header that drips in", "a body that drips in",
    }  # fmt: skip


@pytest.mark.parametrize("url", ["127.0.0.1:8480", "ftp://x/y", "http://"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(SystemExit, match="not an address"):
        hostile.target_of(url)
