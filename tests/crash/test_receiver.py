"""What was answered 200 is on disk, whatever happens to the process: killed, stopped, out of disk."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stores.database import Stores
from stores.deliveries import Deliveries

SECRET = "the-app-secret"
CLIENTS = 16

SERVE = """
import sys
from collections import namedtuple
from mappings.errors import OneThreadError
from mappings.platforms import Platform
from stores.database import Stores
from taps.webhooks.receiver import build_routes, serve

acme = Platform(slug="whatsapp", name="WhatsApp", tap="x", mapping="x", webhook="taps.webhooks.whatsapp")
plenty = namedtuple("Usage", "total free")(10**11, 10**11)
try:
    serve(
        Stores(sys.argv[1]), "127.0.0.1", 0, lambda port: print(port, flush=True),
        routes=build_routes({"whatsapp": acme}), disk_usage=lambda _: plenty,
    )
except OneThreadError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def start(state_url: str, first: str = "", **more: str) -> subprocess.Popen[str]:
    """A receiver in a process of its own; `first` is code that it runs before, `more` its environment besides."""
    environment = {
        **os.environ,
        **more,
        "ONETHREAD_WHATSAPP_APP_SECRET": SECRET,
        "ONETHREAD_WHATSAPP_VERIFY_TOKEN": "our-word",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    return subprocess.Popen(
        [sys.executable, "-c", first + SERVE, state_url],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return int(line)


@contextmanager
def receiving(state_url: str, first: str = "", **more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A receiver as `start` makes it; killed at the end if it still runs."""
    process = start(state_url, first, **more)
    try:
        yield process, port_of(process)
    finally:
        process.kill()
        process.communicate()


def signed(body: bytes) -> dict[str, str]:
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


def new_body(name: str, size: int = 0) -> bytes:
    item = {"id": f"wamid.{name}", "type": "text", "text": {"body": "x" * size}}
    value = {"metadata": {"phone_number_id": "1"}, "messages": [item]}
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def post(connection: http.client.HTTPConnection, body: bytes) -> int:
    connection.request("POST", "/webhooks/whatsapp", body, signed(body))
    response = connection.getresponse()
    response.read()
    return response.status


class Load:
    """Clients that send new deliveries until the server is gone, and remember which ones were answered 200."""

    def __init__(self, port: int, name: str, size: int = 0) -> None:
        self._size = size
        self.sent: list[bytes] = []
        self.acked: list[bytes] = []
        self._port, self._name = port, name
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            for count in range(1_000_000):
                body = new_body(f"{self._name}.{number}.{count}", self._size)
                self.sent.append(body)
                if post(connection, body) == 200:
                    self.acked.append(body)
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()

    def wait_for(self, acked: int) -> None:
        while len(self.acked) < acked:
            assert any(thread.is_alive() for thread in self._threads), "all clients have given up"
            time.sleep(0.005)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def stored_bodies(state_url: str) -> list[bytes]:
    stores = Stores(state_url)
    deliveries = Deliveries(stores)
    bodies: list[bytes] = []
    after_id = 0
    while portion := deliveries.read("whatsapp", "default", after_id, 1000):
        bodies += [one.body for one in portion]
        after_id = portion[-1].delivery_id
    deliveries.close()
    stores.close()
    return bodies


def kill_again_and_again(state_url: str, rounds: int) -> None:
    """Kill a receiver under load that many times: what it answered 200 is there, and nothing twice."""
    chance = random.Random(20260301)
    sent: set[bytes] = set()
    acked: set[bytes] = set()
    for round_number in range(rounds):
        with receiving(state_url) as (process, port):
            load = Load(port, str(round_number))
            load.wait_for(chance.randint(20, 300))
            process.kill()
            load.join()
        sent |= {*load.sent}
        acked |= {*load.acked}
        stored = stored_bodies(state_url)
        assert acked <= {*stored}
        assert {*stored} <= sent
        assert len(stored) == len({*stored})
    # The platform tries everything again that it got no answer for.
    with receiving(state_url) as (_, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        assert {post(connection, body) for body in sent - acked} == {200}
        connection.close()
    assert sorted(stored_bodies(state_url)) == sorted(sent)


def test_kill_9_under_load_loses_nothing_that_was_answered_200(state_url: str) -> None:
    kill_again_and_again(state_url, rounds=4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_under_load_lose_nothing_that_was_answered_200(state_url: str) -> None:
    kill_again_and_again(state_url, rounds=20)


@pytest.mark.parametrize(("number", "slow_clients"), [(signal.SIGTERM, 5), (signal.SIGINT, 0)])
def test_a_stop_under_load_loses_nothing_and_ends_well_despite_slow_clients(
    state_url: str, number: int, slow_clients: int
) -> None:
    with receiving(state_url) as (process, port):
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(slow_clients)]
        for client in slow:
            client.sendall(b"POST /webhooks/whatsapp HTTP/1.1\r\nContent-Length: 1000\r\n\r\nx")
        load = Load(port, "0")
        load.wait_for(100)
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
        load.join()
        for client in slow:
            client.close()
    assert {*load.acked} <= {*stored_bodies(state_url)}


def test_a_second_receiver_on_the_same_state_refuses_to_start_and_says_why(state_url: str) -> None:
    with receiving(state_url) as (process, port):
        second = start(state_url)
        output, errors = second.communicate(timeout=60)
        assert (second.returncode, output) == (1, "")
        assert "another onethread receiver is running" in errors
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        assert post(connection, new_body("still here")) == 200
        connection.close()
        assert process.poll() is None


def test_a_disk_that_is_really_full_is_503_until_there_is_room_and_loses_nothing(state_url: str) -> None:
    """The kernel refuses writes beyond a file size: what SQLite then meets is a failed write, as on a full disk."""
    acked = []
    with receiving(state_url) as (process, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1_000_000, hard))
        answers = []
        for number in range(40):
            body = new_body(f"big.{number}", size=60_000)
            answers.append(post(connection, body))
            acked += [body] * (answers[-1] == 200)
        assert {*answers} == {200, 503}
        assert sorted(stored_bodies(state_url)) == sorted(acked)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        after = new_body("after")
        assert post(connection, after) == 200
        connection.close()
        process.kill()
        process.wait()
    assert sorted(stored_bodies(state_url)) == sorted([*acked, after])
