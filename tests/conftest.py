"""Fixtures that every test may use: a state of its own, and taps and targets run in this process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stores.database import Stores


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees this machine's settings, and nothing is written outside its own folder."""
    import os

    for name in list(os.environ):
        if name.startswith("ONETHREAD_") and name not in {"ONETHREAD_SPECS", "ONETHREAD_DATA"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("ONETHREAD_STATE_URL", f"sqlite:///{tmp_path}/state")


@pytest.fixture
def state_url(tmp_path: Path) -> str:
    """The state URL of this test."""
    return f"sqlite:///{tmp_path}/state"


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
