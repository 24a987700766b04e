"""`onethread import` is killed at bad moments: the same command again, and all is as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stores.archive import Archive
from stores.database import Stores
from stores.parked import Parked

LINES = 60
IMPORT = "console.importing.AT_A_TIME = 20\nconsole.cli.main(['import', 'history.jsonl', '--channel', 'chat'])"
DYING = """
import os, signal
import console.cli, console.importing, identity.resolver, stores.archive, stores.parked, taps.importing
calls = []
def dying(original):
    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) == [NUMBER]:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    return call
"""
MOMENTS = {
    "while_reading": ("taps.importing.Recipe.records_of = dying(taps.importing.Recipe.records_of)", 17),
    "before_a_line_is_parked": ("stores.parked.Parked.park = dying(stores.parked.Parked.park)", 2),
    "before_persons_are_decided": ("identity.resolver.Resolver.resolve = dying(identity.resolver.Resolver.resolve)", 2),
    "before_the_archive_writes": ("stores.archive.fold_messages = dying(stores.archive.fold_messages)", 2),
    "before_the_archive_commits": ("stores.archive.refresh_persons = dying(stores.archive.refresh_persons)", 2),
}


def write_history(folder: Path) -> None:
    records: list[Any] = []
    for number in range(LINES):
        who = {"id": number % 7, "email": f"p{number % 7}@mail.example", "verified": number % 2 == 0}
        records.append({"kind": "message", "id": number, "sent_at": "2026-03-01T12:00:00Z", "who": who, "text": "Hi"})
        if number % 9 == 0:
            records.append({"kind": "message", "id": f"bad {number}"})
    (folder / "history.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")


def run(folder: Path, moment: str = "", number: int = 0) -> int:
    script = f"{DYING.replace('[NUMBER]', str(number))}\n{moment}\n{IMPORT}"
    environment = {"ONETHREAD_STATE_URL": f"sqlite:///{folder}/state", "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, check=False, timeout=120
    ).returncode


def told(folder: Path) -> tuple[list[str], list[list[str]], list[str]]:
    """Every message, who belongs together, and what was parked; without the ids of persons, which are new each time."""
    stores = Stores(f"sqlite:///{folder}/state")
    try:
        archive = Archive(stores)
        messages = [{**record, "person_id": None} for _, record in archive.changes("messages", limit=10_000)]
        persons = [record["handles"] for _, record in archive.changes("persons", limit=10_000)]
        together = [sorted(f"{one['kind']} {one['value']}" for one in handles) for handles in persons]
        parked = [one.reason for one in Parked(stores).list()]
    finally:
        stores.close()
    return sorted(json.dumps(one, sort_keys=True) for one in messages), sorted(together), sorted(parked)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[list[str]], list[str]]:
    folder = tmp_path_factory.mktemp("clean")
    write_history(folder)
    assert run(folder) == 3
    found = told(folder)
    assert (len(found[0]), len(found[2])) == (LINES, 7)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_import_that_was_killed_is_repeated_whole(
    tmp_path: Path, clean: tuple[list[str], list[list[str]], list[str]], moment: str
) -> None:
    write_history(tmp_path)
    assert run(tmp_path, *MOMENTS[moment]) == -signal.SIGKILL
    assert run(tmp_path) == 3
    assert told(tmp_path) == clean
