"""The receiver with its deliveries in PostgreSQL: its tests once more, killed, and cut off from its server."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.crash import test_receiver as crash
from tests.postgres_server import needs_server, new_database, running_postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), needs_server]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_postgres() as running:
        yield running


@pytest.fixture
def url(server: str) -> str:
    return new_database(server)


def test_every_test_of_the_receiver_passes_on_postgresql(server: str) -> None:
    suites = [f"tests/taps/webhooks/test_{name}.py" for name in ("receiver", "retention", "metrics", "whatsapp")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "-m", "not slow and not sqlite", *suites],
        cwd=ROOT, env={**os.environ, "TEST_POSTGRES_URL": server}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed.group(1)) > 150


def test_kill_9_under_load_loses_nothing_that_was_answered_200(url: str) -> None:
    crash.kill_again_and_again(url, rounds=3)


def test_a_server_that_cuts_every_connection_is_found_again(url: str, server: str) -> None:
    acked: list[bytes] = []
    with crash.receiving(url) as (_, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for number in range(30):
            if number % 10 == 5:
                with psycopg.connect(f"{server}/postgres", autocommit=True) as other:
                    other.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name = 'onethread' AND query LIKE '%delivery%'"
                    )
            body = crash.new_body(str(number))
            answer = crash.post(connection, body)
            assert answer in {200, 503}
            acked += [body] * (answer == 200)
        connection.close()
    assert len(acked) >= 24
    assert sorted(crash.stored_bodies(url)) == sorted(acked)
