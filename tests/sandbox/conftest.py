"""Parts that the tests of the stand-ins share: a webhook callback, a clock that stands still, the judges."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from sandbox.base import Clock
from tests.sandbox.hubspot_world import Account, AccountServer

ROOT = Path(__file__).parents[2]
JUDGES = ROOT / "tests" / "judges"


class StandingClock(Clock):
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._start = super().epoch()

    def epoch(self) -> float:
        """The moment of the start plus what was added."""
        return self._start + self._ahead_seconds


@dataclass
class Inbox:
    """A callback that keeps what it gets. `answers` are the statuses to answer first; then 200."""

    verify_token: str = "sandbox-verify-token"
    answers: list[int] = field(default_factory=list)
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        if request.method == "GET":
            right = request.args.get("hub.verify_token") == self.verify_token
            response = Response(request.args.get("hub.challenge", ""), status=200 if right else 403)
        else:
            body = request.get_data()
            status = self.answers.pop(0) if self.answers else 200
            if status == 200:
                self.posts.append((dict(request.headers), body))
            response = Response(status=status)
        return response(environ, start_response)

    def bodies(self) -> list[dict[str, Any]]:
        """The accepted posts as JSON."""
        return [json.loads(body) for _, body in self.posts]


@pytest.fixture
def clock() -> StandingClock:
    """A clock for ``app.clock``."""
    return StandingClock()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """A running callback."""
    app = Inbox()
    server = make_server("127.0.0.1", 0, app, threaded=True)
    app.url = f"http://127.0.0.1:{server.server_port}/webhook"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield app
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture(scope="module")
def account_server() -> Iterator[AccountServer]:
    """One server for the HubSpot accounts of a module."""
    with AccountServer() as running:
        assert isinstance(running, AccountServer)
        yield running


@pytest.fixture
def account(account_server: AccountServer) -> Account:
    """A new HubSpot account."""
    return account_server.account()


@pytest.fixture(scope="session")
def judge_python() -> Path:
    """The interpreter of the judges' environment, made from tests/judges/requirements.txt when it is not there."""
    wanted = JUDGES / "requirements.txt"
    place = ROOT / ".venvs" / "judges"
    mark = place / "made-from"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    place.parent.mkdir(exist_ok=True)
    with (place.parent / "judges.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists() or mark.read_text() != digest:
            uv = str(Path(sys.executable).with_name("uv"))
            python = str(place / "bin" / "python")
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
                [uv, "pip", "install", "--quiet", "--python", python, "-r", str(wanted)],
            ):
                try:
                    subprocess.run(command, check=True, capture_output=True, text=True, timeout=150)
                except (OSError, subprocess.SubprocessError) as error:
                    reason = (getattr(error, "stderr", None) or str(error)).strip()[-300:]
                    pytest.skip(f"the judges' environment cannot be made here: {reason}")
            mark.write_text(digest)
    return place / "bin" / "python"


@pytest.fixture
def judge(judge_python: Path) -> Callable[[str, dict[str, Any]], list[dict[str, Any]]]:
    """Run a script of tests/judges with JSON on its stdin; the JSON that it wrote."""

    def run(script: str, work: dict[str, Any]) -> list[dict[str, Any]]:
        done = subprocess.run(
            [str(judge_python), str(JUDGES / script)],
            input=json.dumps(work), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    return run
