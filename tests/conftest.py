"""Fixtures that every test may use: a state of its own, and taps and targets run in this process."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from stores import database
from stores.database import Stores

MIGRATIONS = database._MIGRATIONS

# A busy machine is no fault of the code: nothing here is timed.
hypothesis_settings.register_profile("onethread", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("onethread")


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, state_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees this machine's settings, and nothing is written outside its own folder."""
    for name in list(os.environ):
        if name.startswith("ONETHREAD_") and name not in {"ONETHREAD_SPECS", "ONETHREAD_DATA"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("ONETHREAD_STATE_URL", state_url)
    monkeypatch.setenv("ONETHREAD_STATE_FOLDER", f"{tmp_path}/state")


@pytest.fixture(scope="session", autouse=True)
def _new_stores_are_copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The migrations make each store once, in this process; to make it for each test would take most of its time."""
    folder, migrate = tmp_path_factory.mktemp("new-stores"), database._migrate

    def copy_or_migrate(path: Path, name: str, head: str) -> None:
        new = folder / f"{head}.db"
        if path.exists() or database._MIGRATIONS != MIGRATIONS:
            migrate(path, name, head)
            return
        if not new.exists():
            migrate(new, name, head)
        shutil.copy(new, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_migrate", copy_or_migrate)
        yield


@pytest.fixture(autouse=True)
def _no_handler_without_a_stream() -> None:
    """The SDK logs to the standard error of the moment; a command that a test ran has closed that one since."""
    loggers = [logging.getLogger(), *(one for one in logging.root.manager.loggerDict.values())]
    for logger in loggers:
        for handler in list(getattr(logger, "handlers", ())):
            if isinstance(handler, logging.StreamHandler) and getattr(handler.stream, "closed", False):
                logging.Logger.removeHandler(logger, handler)  # type: ignore[arg-type]


@pytest.fixture
def state_url(tmp_path: Path) -> Iterator[str]:
    """The state URL of this test: files, or a new database where TEST_POSTGRES_URL names a server."""
    server = os.environ.get("TEST_POSTGRES_URL")
    if server is None:
        yield f"sqlite:///{tmp_path}/state"
        return
    import psycopg

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        yield f"{server}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def stores(state_url: str) -> Iterator[Stores]:
    """The stores of this test."""
    opened = Stores(state_url)
    yield opened
    opened.close()


@pytest.fixture
def run_tap() -> Callable[[Any], list[dict[str, Any]]]:
    """Run a tap; the Singer messages that it wrote."""

    def run(tap: Any) -> list[dict[str, Any]]:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            tap.sync_all()
        return [json.loads(line) for line in output.getvalue().splitlines()]

    return run


@pytest.fixture
def run_target() -> Callable[[Any, Iterable[dict[str, Any]]], list[dict[str, Any]]]:
    """Feed Singer messages to a target (or mapper); the lines that it wrote: STATE values (or messages)."""

    def run(target: Any, messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        lines = io.StringIO("".join(json.dumps(message) + "\n" for message in messages))
        with contextlib.redirect_stdout(io.StringIO()) as output:
            target.listen(lines)
        return [json.loads(line) for line in output.getvalue().splitlines()]

    return run


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-golden`` rewrites golden files; reading the difference is the developer's duty."""
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Any], None]:
    """Compare a JSON value with ``tests/golden/<name>``; an empty golden value is refused."""

    def check(name: str, value: Any) -> None:
        path = Path(__file__).parent / "golden" / name
        text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        assert value, f"an empty golden value says nothing: {name}"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no golden file {name}; make it with --update-golden and read it"
        assert text == path.read_text(encoding="utf-8"), f"{name} differs; if it should, run with --update-golden"

    return check


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With ONETHREAD_NO_SKIP a skipped test is a failed one: in CI no real part may be missing."""
    import os

    outcome: Any = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("ONETHREAD_NO_SKIP") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may skip: {report.longrepr}"
