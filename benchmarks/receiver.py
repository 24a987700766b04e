"""How many deliveries a second the receiver makes durable, beside what one would use or write instead.

Each candidate is a process of its own, checks the same signature and answers 200 only when the delivery is stored (the
bare one stores nothing: it is what the server could do at most). One client process sends distinct signed deliveries
over 64 connections: as fast as they are answered (closed loop), then at fixed rates whatever the answers do (open loop;
the time counts from when a delivery was due). Machines and disks differ by a factor of ten, so the numbers to compare
are the ratios of one run (of each short round, then the median), and the processor time of each delivery. At the end
the receiver is killed 20 times under load, and what it had answered 200 is looked for. Run it with::

    python -m benchmarks.receiver

Flask and gunicorn are installed into ``.venvs/receiver-peers``. ``webhook`` is Debian's package of that name.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import itertools
import json
import os
import random
import re
import selectors
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taps.webhooks.connection import Request, Respond, Response
from taps.webhooks.server import Server

DEFAULT_ROUTE = "default"
ROOT = Path(__file__).parents[1]
SECRET = "benchmark-secret"
CLIENTS = 64
MAX_BODY_BYTES = 3 * 1024 * 1024
_TAKEN = Response(200)
PEERS = ROOT / ".venvs" / "receiver-peers"
PEER_PACKAGES = ("flask>=3.1,<4", "gunicorn>=23")

FLASK_APP = """
import hashlib, hmac, sqlite3
from flask import Flask, request
app = Flask(__name__)
with sqlite3.connect("naive.db") as first:
    first.execute("CREATE TABLE IF NOT EXISTS delivery (id INTEGER PRIMARY KEY, digest TEXT UNIQUE, body BLOB)")

@app.post("/webhooks/whatsapp")
def take():
    body = request.get_data()
    expected = "sha256=" + hmac.new(b"SECRET", body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("X-Hub-Signature-256", "")):
        return "", 401
    database = sqlite3.connect("naive.db", timeout=60)
    with database:
        database.execute("INSERT OR IGNORE INTO delivery (digest, body) VALUES (?, ?)",
                         (hashlib.sha256(body).hexdigest(), body))
    database.close()
    return ""
""".replace("SECRET", SECRET)


class SkippedError(Exception):
    """A candidate cannot run here; says why."""


# The candidates


def serve_ours(folder: str) -> None:
    """The receiver: encrypted rows, one committer, shared commits."""
    from pydantic import SecretStr

    from stores.database import Stores
    from taps.webhooks import whatsapp
    from taps.webhooks.receiver import WebhookRoute, serve

    settings = whatsapp.Settings(app_secret=SecretStr(SECRET), verify_token=SecretStr("x"))
    routes = {("whatsapp", DEFAULT_ROUTE): WebhookRoute(whatsapp, settings)}
    serve(Stores(folder), "127.0.0.1", 0, lambda port: print(port, flush=True), routes=routes)


def serve_bare(folder: str) -> None:
    """The same server and signature; nothing is stored."""
    del folder
    _serve_simple(lambda _, done: done())


def serve_naive(folder: str) -> None:
    """A thread of 32, one connection and one commit per request, rows in clear, in WAL mode."""
    path = f"{folder}/naive.db"
    first = sqlite3.connect(path)
    first.execute("PRAGMA journal_mode = WAL")
    first.execute("CREATE TABLE delivery (id INTEGER PRIMARY KEY, digest TEXT UNIQUE, body BLOB)")
    first.commit()

    def store(body: bytes) -> None:
        connection = sqlite3.connect(path, timeout=60)
        connection.execute("PRAGMA synchronous = FULL")
        digest = hashlib.sha256(body).hexdigest()
        connection.execute("INSERT OR IGNORE INTO delivery (digest, body) VALUES (?, ?)", (digest, body))
        connection.commit()
        connection.close()

    with ThreadPoolExecutor(32) as pool:
        _serve_simple(lambda body, done: pool.submit(store, body).add_done_callback(lambda _: done()))


class _Simple:
    """Checks the signature, has `store` called with the body, and answers when that is done."""

    def __init__(self, store: Callable[[bytes, Callable[[], None]], object]) -> None:
        self._store = store

    def start(self, call_soon: Callable[[Callable[[], None]], object], stop: Callable[[], None]) -> None:
        del stop
        self._call_soon = call_soon
        self._thread = threading.get_ident()

    def answered(self, status: int) -> None:
        pass

    def begin(self, request: Request) -> Response | int:
        return MAX_BODY_BYTES if request.method == "POST" else Response(405)

    def take(self, request: Request, respond: Respond) -> None:
        expected = "sha256=" + hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, request.headers.get("x-hub-signature-256", "")):
            respond(Response(401))
            return

        def done() -> None:
            if threading.get_ident() == self._thread:
                respond(_TAKEN)
            else:
                self._call_soon(lambda: respond(_TAKEN))

        self._store(request.body, done)


def _serve_simple(store: Callable[[bytes, Callable[[], None]], object]) -> None:
    server = Server(_Simple(store), "127.0.0.1", 0, max_body_bytes=MAX_BODY_BYTES)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    print(server.port, flush=True)
    server.run()
    server.close()


OWN: dict[str, Callable[[str], None]] = {"ours": serve_ours, "bare": serve_bare, "naive": serve_naive}


@contextmanager
def _own(name: str, folder: str) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "benchmarks.receiver", "--serve", name, "--folder", folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ONETHREAD_RECEIVER_MINIMUM_FREE_PERCENT": "0"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def _foreign(command: list[str], port: int, folder: str) -> Iterator[tuple[int, int]]:
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            give_up_at = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > give_up_at:
                        msg = "it does not start here"
                        raise SkippedError(msg) from None
                    time.sleep(0.05)
            yield process.pid, port
        finally:
            process.terminate()


@contextmanager
def _flask(folder: str) -> Iterator[tuple[int, int]]:
    python = PEERS / "bin" / "python"
    if not (PEERS / "bin" / "gunicorn").exists():
        uv = str(Path(sys.executable).with_name("uv"))
        try:
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(PEERS)],
                [uv, "pip", "install", "--quiet", "--python", str(python), *PEER_PACKAGES],
            ):
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=150)
        except (OSError, subprocess.SubprocessError) as error:
            msg = f"its environment cannot be made here ({type(error).__name__})"
            raise SkippedError(msg) from None
    Path(folder, "naive_app.py").write_text(FLASK_APP, encoding="utf-8")
    port = _free_port()
    gunicorn = ["-m", "gunicorn", "--workers", "2", "--threads", "16", "--bind", f"127.0.0.1:{port}", "naive_app:app"]
    with _foreign([str(python), *gunicorn], port, folder) as found:
        yield found


@contextmanager
def _debian(folder: str) -> Iterator[tuple[int, int]]:
    program = shutil.which("webhook")
    if program is None:
        msg = "not installed (Debian: apt-get install webhook)"
        raise SkippedError(msg)
    script = Path(folder, "store.sh")
    script.write_text('#!/bin/sh\nprintf "%s\\n" "$1" >> deliveries.jsonl\n', encoding="utf-8")
    script.chmod(0o755)
    hook = {
        "id": "whatsapp",
        "execute-command": str(script),
        "command-working-directory": folder,
        "include-command-output-in-response": True,
        "pass-arguments-to-command": [{"source": "entire-payload"}],
        "trigger-rule-mismatch-http-response-code": 401,
        "trigger-rule": {
            "match": {
                "type": "payload-hmac-sha256",
                "secret": SECRET,
                "parameter": {"source": "header", "name": "X-Hub-Signature-256"},
            }
        },
    }
    hooks, port = Path(folder, "hooks.json"), _free_port()
    hooks.write_text(json.dumps([hook]), encoding="utf-8")
    command = [program, "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(port), "-urlprefix", "webhooks"]
    with _foreign(command, port, folder) as found:
        yield found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


CANDIDATES: dict[str, Callable[[str], Any]] = {
    "onethread receiver": lambda folder: _own("ours", folder),
    "the same server, storing nothing": lambda folder: _own("bare", folder),
    "the same server, a commit per request": lambda folder: _own("naive", folder),
    "Flask, gunicorn (2 x 16 threads), sqlite3": _flask,
    "webhook (Debian), a shell script, no fsync": _debian,
}


# The load


@dataclass(slots=True)
class _Client:
    connection: socket.socket
    number: int = 0
    due_at: float = 0.0
    received: bytearray = field(default_factory=bytearray)


@dataclass
class Load:
    """What was answered: seconds from due to answered of each 200, their numbers, and how many were not 200."""

    latencies: list[float]
    failures: int
    acked: list[int] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3 if ordered else float("nan")


def _request(number: int) -> bytes:
    item = {"id": f"wamid.{os.getpid()}.{number}", "type": "text", "text": {"body": "x" * 350}}
    body = json.dumps({"entry": [{"changes": [{"value": {"messages": [item]}}]}]}).encode()
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    head = (
        "POST /webhooks/whatsapp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"X-Hub-Signature-256: sha256={digest}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_WAMID = re.compile(rb"wamid\.[0-9]+\.([0-9]+)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_numbers = iter(range(10**12))
_PREPARED_A_SECOND = 6000
"""Made beforehand, so that the client's own work is not what is measured; more are made as they are needed."""


def _connected(port: int) -> _Client:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _Client(connection)


def put_load(port: int, seconds: float, rate: float | None = None, load: Load | None = None) -> Load:
    """Send for that long: as fast as answers come, or `rate` a second at random moments (Poisson).

    Raises:
        OSError: the server is gone; what it had answered is in `load`.
    """
    chance = random.Random(20261101)
    count = int(seconds * (_PREPARED_A_SECOND if rate is None else rate))
    prepared = deque((number, _request(number)) for number in itertools.islice(_numbers, count))
    selector = selectors.DefaultSelector()
    free: deque[_Client] = deque(_connected(port) for _ in range(CLIENTS))
    due: deque[float] = deque()
    load = Load([], 0) if load is None else load
    now = began_at = time.monotonic()
    ends_at = began_at + seconds
    next_due_at = began_at
    busy = 0
    while True:
        now = time.monotonic()
        while rate is not None and next_due_at <= min(now, ends_at):
            due.append(next_due_at)
            next_due_at += chance.expovariate(rate)
        while free and ((rate is None and now < ends_at) or due):
            client = free.popleft()
            client.due_at = due.popleft() if rate is not None else time.monotonic()
            client.received.clear()
            if not prepared:
                number = next(_numbers)
                prepared.append((number, _request(number)))
            client.number, request = prepared.popleft()
            try:
                client.connection.sendall(request)
            except OSError:  # closed since its last answer
                client.connection.close()
                client.connection = _connected(port).connection
                client.connection.sendall(request)
            selector.register(client.connection, selectors.EVENT_READ, client)
            busy += 1
        if not busy and now >= ends_at and not due:
            break
        if now > ends_at + 60:
            load.failures += busy + len(due)
            break
        wait = 0.5 if rate is None or now >= ends_at else max(0.0, min(0.5, next_due_at - now))
        for key, _ in selector.select(wait):
            client = key.data
            part = client.connection.recv(65536)
            client.received += part
            done = _is_whole(client.received)
            if part and not done:
                continue
            selector.unregister(client.connection)
            busy -= 1
            answered_at = time.monotonic()
            if client.received.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")) and done:
                load.acked.append(client.number)
                if rate is not None or answered_at <= ends_at:
                    load.latencies.append(answered_at - client.due_at)
            else:
                load.failures += 1
            if not part or b"onnection: close" in client.received:
                client.connection.close()
                client.connection = _connected(port).connection
            free.append(client)
    for client in free:
        client.connection.close()
    selector.close()
    return load


def _is_whole(received: bytearray) -> bool:
    head = received.find(b"\r\n\r\n")
    if head < 0:
        return False
    length = _LENGTH.search(received, 0, head)
    return length is None or len(received) >= head + 4 + int(length.group(1))


def cpu_seconds(pid: int) -> float:
    """User and system time so far of a process and all that it started, ended ones included."""
    parents: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
            used[int(entry.name)] = sum(int(value) for value in fields[11:15])
    waiting, total = [pid], 0
    while waiting:
        one = waiting.pop()
        total += used.get(one, 0)
        waiting += parents.get(one, [])
    return total / os.sysconf("SC_CLK_TCK")


# The measurement


@dataclass(frozen=True)
class Figures:
    """Of one candidate."""

    rate: float
    p50: float
    p99: float
    cpu_us: float
    failures: int
    open_loops: tuple[tuple[float, float, int], ...]


def measure(candidate: Callable[[str], Any], seconds: float, rates: list[float]) -> Figures:
    """Closed loop, then open loops; raises `SkippedError`."""
    with tempfile.TemporaryDirectory() as folder, candidate(folder) as (pid, port):
        put_load(port, 0.5)
        used = cpu_seconds(pid)
        closed = put_load(port, seconds)
        used = cpu_seconds(pid) - used
        count = max(1, len(closed.latencies))
        loops = []
        for rate in rates:
            one = put_load(port, seconds, rate)
            loops.append((one.percentile(0.5), one.percentile(0.99), one.failures))
        return Figures(
            count / seconds, closed.percentile(0.5), closed.percentile(0.99), used / count * 1e6, closed.failures,
            tuple(loops),
        )  # fmt: skip


def count_lost(kills: int) -> tuple[int, int]:
    """Kill the receiver that many times under load, on one store: how many answered 200, how many of them are lost."""
    from stores.database import Stores
    from stores.deliveries import Deliveries

    chance = random.Random(20261102)
    load = Load([], 0)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(kills):
            with _own("ours", folder) as (pid, port):
                timer = threading.Timer(0.5 + chance.random(), os.kill, (pid, signal.SIGKILL))
                timer.start()
                try:
                    while True:
                        put_load(port, 0.5, load=load)
                except OSError:
                    pass
                timer.join()
        deliveries = Deliveries(Stores(folder))
        stored: set[int] = set()
        after_id = 0
        while portion := deliveries.read("whatsapp", DEFAULT_ROUTE, after_id, 1000):
            stored |= {int(match.group(1)) for one in portion if (match := _WAMID.search(one.body))}
            after_id = portion[-1].delivery_id
        deliveries.close()
    return len(load.acked), len({*load.acked} - stored)


def main() -> None:
    """Measure every candidate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each load lasts")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all candidates; the median is shown")
    parser.add_argument("--rates", default="100,500", help="deliveries a second of the open loops")
    parser.add_argument("--kills", type=int, default=20, help="how often the receiver is killed under load")
    parser.add_argument("--serve", choices=list(OWN), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        OWN[arguments.serve](arguments.folder)
        return
    rates = [float(rate) for rate in arguments.rates.split(",")]
    found: dict[str, list[Figures]] = {}
    skipped: dict[str, str] = {}
    for _ in range(arguments.rounds):  # round by round, so that a busy neighbour disturbs all alike
        for name, candidate in CANDIDATES.items():
            if name in skipped:
                continue
            try:
                found.setdefault(name, []).append(measure(candidate, arguments.seconds, rates))
            except SkippedError as error:
                skipped[name] = str(error)
    _print_table(found, skipped, rates, arguments)
    acked, lost = count_lost(arguments.kills)
    print(f"\n{arguments.kills} kills under load: {acked:,} answered 200, {lost} of them lost")


def _print_table(
    found: dict[str, list[Figures]], skipped: dict[str, str], rates: list[float], arguments: argparse.Namespace
) -> None:
    ours = found[next(iter(CANDIDATES))]
    print(f"{CLIENTS} connections, {arguments.seconds:g} s a load, median of {arguments.rounds} rounds, "
          f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}\n")  # fmt: skip
    opened = " | ".join(f"p50 / p99 ms at {rate:g}/s" for rate in rates)
    print(f"| candidate | answered/s | ours beside it | p50 / p99 ms | CPU us each | {opened} | not 200 |")
    print("|--" * (6 + len(rates)) + "|")
    for name in CANDIDATES:
        if name in skipped:
            print(f"| {name} | skipped: {skipped[name]} |")
            continue
        runs = found[name]

        def middle(read: Callable[[Figures], float], runs: list[Figures] = runs) -> float:
            return statistics.median(read(one) for one in runs)

        rate = middle(lambda one: one.rate)
        loops = " | ".join(
            f"{middle(lambda one: one.open_loops[at][0]):,.1f} / {middle(lambda one: one.open_loops[at][1]):,.0f}"  # noqa: B023 (used at once)
            for at in range(len(rates))
        )
        failures = sum(one.failures + sum(loop[2] for loop in one.open_loops) for one in runs)
        p50, p99, cpu = (middle(read) for read in (lambda one: one.p50, lambda one: one.p99, lambda one: one.cpu_us))
        ratio = statistics.median(own.rate / one.rate for own, one in zip(ours, runs, strict=True))
        line = f"{rate:,.0f} | {ratio:.2f} x | {p50:,.0f} / {p99:,.0f} | {cpu:,.0f} | {loops} | {failures}"
        print(f"| {name} | {line} |")


if __name__ == "__main__":
    main()
