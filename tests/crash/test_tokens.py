"""A process is killed (-9) at every moment of a refresh: the token is whole, or the next run says what was lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from stores.database import Stores
from stores.tokens import Tokens

ASK = """
import sys
from datetime import UTC, datetime, timedelta
import requests
from pydantic import SecretStr
from mappings.errors import CredentialsError
from stores.database import Stores
from stores.tokens import Token, Tokens

def die(*_):
    __import__('os').kill(__import__('os').getpid(), 9)

def dying(name, *, before=False, when=lambda *a, **k: True):
    original = getattr(Tokens, name)
    def wrapped(*args, **kwargs):
        if before and when(*args, **kwargs):
            die()
        result = original(*args, **kwargs)
        if when(*args, **kwargs):
            die()
        return result
    setattr(Tokens, name, wrapped)

def refresh(token):
    answer = requests.post(sys.argv[1], data=token.refresh_token.get_secret_value(), timeout=10)
    if answer.status_code == 400:
        raise CredentialsError("Platform: the refresh token was used before")
    got = answer.json()
    return Token(SecretStr(got["access"]), SecretStr(got["refresh"]), datetime.now(UTC) + timedelta(hours=1))

[MOMENT]
try:
    configured = Token(SecretStr(""), SecretStr("r0"))
    print(Tokens(Stores()).get("x:shop", configured, refresh).access_token.get_secret_value())
except CredentialsError as error:
    print(error)
"""
NOT_YET_ASKED = {
    "before the intent": "dying('_set', before=True, when=lambda *a: a[2] == 'refreshing_since')",
    "after the intent, before the call": "dying('_set', when=lambda *a: a[2] == 'refreshing_since')",
}
ANSWER_LOST = {
    "after the platform answered": "original = requests.post; requests.post = lambda *a, **k: die(original(*a, **k))",
    "before the commit": "dying('_save', before=True, when=lambda *a, refreshed_at=None: refreshed_at is not None)",
    "in the commit": "kind = type(Stores().database('tokens')); original = kind.execute; kind.execute = lambda"
    " self, sql, parameters=(): (original(self, sql, parameters), 'INSERT' in sql and parameters[2] and die())[0]",
}
KEPT = {
    "after the commit": "dying('_save', when=lambda *a, refreshed_at=None: refreshed_at is not None)",
}


class Platform(ThreadingHTTPServer):
    """Takes each refresh token once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.valid = "r0"
        self.refreshes = 0


class _Handler(BaseHTTPRequestHandler):
    server: Platform

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if asked != self.server.valid:
            self.send_response(400)
            self.end_headers()
            return
        self.server.refreshes += 1
        self.server.valid = f"r{self.server.refreshes}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"access": f"a{self.server.refreshes}", "refresh": self.server.valid}).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the standard library)
        """Say nothing."""


@pytest.fixture
def platform(stores: Stores) -> Iterator[Platform]:
    stores.database("tokens")  # made once, outside of what is killed
    server = Platform()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(platform: Platform, moment: str = "") -> tuple[int, str]:
    """Ask for the token in a process of its own; its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", ASK.replace("[MOMENT]", moment), f"http://127.0.0.1:{platform.server_port}/token"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize("moment", NOT_YET_ASKED)
def test_killed_before_the_call_the_next_run_refreshes(platform: Platform, moment: str) -> None:
    assert ask(platform, NOT_YET_ASKED[moment]) == (-signal.SIGKILL, "")
    assert platform.refreshes == 0
    assert ask(platform) == (0, "a1")
    assert ask(platform) == (0, "a1")
    assert platform.refreshes == 1


@pytest.mark.parametrize("moment", ANSWER_LOST)
def test_killed_before_the_answer_is_kept_the_next_run_says_what_to_do(
    platform: Platform, stores: Stores, moment: str
) -> None:
    assert ask(platform, ANSWER_LOST[moment]) == (-signal.SIGKILL, "")
    assert platform.refreshes == 1
    for _ in range(2):
        code, said = ask(platform)
        assert code == 0
        assert "cut off" in said
        assert "onethread tokens set x:shop" in said
    [status] = Tokens(stores).listing()
    assert status.refreshing_since is not None
    assert platform.refreshes == 1


@pytest.mark.parametrize("moment", KEPT)
def test_killed_after_the_commit_nothing_is_lost(platform: Platform, moment: str) -> None:
    assert ask(platform, KEPT[moment]) == (-signal.SIGKILL, "")
    assert ask(platform) == (0, "a1")
    assert platform.refreshes == 1
