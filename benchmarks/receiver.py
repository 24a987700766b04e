"""How many deliveries a second the receiver makes durable, beside the way one would write it first.

Each candidate is a process of its own behind the same waitress settings, checks the same signature and answers 200 only
after its commit. 64 clients on keep-alive connections send distinct signed deliveries. Machines and disks differ by a
factor of ten, so the numbers to compare are the ratios of one run. Run it with::

    python -m benchmarks.receiver
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import http.client
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

SECRET = "benchmark-secret"
CLIENTS = 64


def serve_ours(folder: str) -> None:
    """The receiver: encrypted rows, one committer, shared commits."""
    from pydantic import SecretStr

    from stores.database import Stores
    from taps.webhooks import whatsapp
    from taps.webhooks.receiver import WebhookRoute, serve

    settings = whatsapp.Settings(app_secret=SecretStr(SECRET), verify_token=SecretStr("x"))
    routes = {("whatsapp", "default"): WebhookRoute(whatsapp, settings)}
    serve(Stores(folder), "127.0.0.1", 0, lambda port: print(port, flush=True), routes=routes)


def serve_naive(folder: str, prepare: Callable[[sqlite3.Connection], object]) -> None:
    """One connection and one commit per request, rows in clear."""
    import signal

    from taps.webhooks.server import Server

    path = f"{folder}/naive.db"
    first = sqlite3.connect(path)
    prepare(first)
    first.execute("CREATE TABLE delivery (id INTEGER PRIMARY KEY, digest TEXT UNIQUE, body BLOB)")
    first.commit()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        expected = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, environ.get("HTTP_X_HUB_SIGNATURE_256", "")):
            start_response("401 Unauthorized", [("Content-Length", "0")])
            return []
        connection = sqlite3.connect(path, timeout=60)
        connection.execute("PRAGMA synchronous = FULL")
        digest = hashlib.sha256(body).hexdigest()
        connection.execute("INSERT OR IGNORE INTO delivery (digest, body) VALUES (?, ?)", (digest, body))
        connection.commit()
        connection.close()
        start_response("200 OK", [("Content-Length", "0")])
        return []

    server = Server(app, "127.0.0.1", 0, max_body_bytes=3 * 1024 * 1024)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    print(server.port, flush=True)
    server.run()
    server.close()


CANDIDATES: dict[str, Callable[[str], None]] = {
    "onethread receiver (shared commits)": serve_ours,
    "commit per request, SQLite with WAL": lambda folder: serve_naive(
        folder, lambda connection: connection.execute("PRAGMA journal_mode = WAL")
    ),
    "commit per request, SQLite as it comes": lambda folder: serve_naive(folder, lambda _: None),
}


def load(port: int, seconds: float) -> list[float]:
    """Latencies (seconds) of every delivery that was answered 200 within the time."""
    latencies: list[list[float]] = [[] for _ in range(CLIENTS)]
    ends_at = time.monotonic() + seconds

    def run(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        count = 0
        while time.monotonic() < ends_at:
            item = {"id": f"wamid.{number}.{count}", "type": "text", "text": {"body": "x" * 350}}
            body = json.dumps({"entry": [{"changes": [{"value": {"messages": [item]}}]}]}).encode()
            digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            began_at = time.monotonic()
            connection.request("POST", "/webhooks/whatsapp", body, {"X-Hub-Signature-256": f"sha256={digest}"})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                msg = f"answered {response.status}"
                raise RuntimeError(msg)
            if time.monotonic() < ends_at:
                latencies[number].append(time.monotonic() - began_at)
            count += 1
        connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(latency for client in latencies for latency in client)


def measure(name: str, seconds: float) -> tuple[float, float, float, float]:
    """Deliveries a second, median and 99th percentile (ms), and the server's CPU time per delivery (us)."""
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": root}
        command = [sys.executable, "-m", "benchmarks.receiver", "--serve", name, "--folder", folder]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=root) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            load(port, 0.5)
            used_before = cpu_seconds(process.pid)
            latencies = load(port, seconds)
            used = cpu_seconds(process.pid) - used_before
            process.terminate()
    count = len(latencies)
    return (
        count / seconds,
        latencies[count // 2] * 1e3,
        latencies[int(count * 0.99)] * 1e3,
        used / count * 1e6,
    )


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure every candidate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each candidate is under load")
    parser.add_argument("--serve", choices=list(CANDIDATES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        CANDIDATES[arguments.serve](arguments.folder)
        return
    print(f"{CLIENTS} clients, {arguments.seconds:g} s each, one client process on {os.cpu_count()} processors\n")
    print("| candidate | durable/s | ours is faster by | p50 ms | p99 ms | server CPU us each |\n|--|--|--|--|--|--|")
    ours = 0.0
    for name in CANDIDATES:
        rate, median, p99, cpu = measure(name, arguments.seconds)
        ours = ours or rate
        print(f"| {name} | {rate:,.0f} | {ours / rate:.1f} x | {median:.0f} | {p99:.0f} | {cpu:.0f} |", flush=True)


if __name__ == "__main__":
    main()
