"""target-tryton is killed after calls that the server has carried out, and run again; the server says what is there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mappings.records import Record
from tests.targets.hubspot_world import NOON, lines_of, merge, message, person
from tests.targets.tryton_world import World, world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PEOPLE, MESSAGES = 4, 60

# Runs the target; after so many calls the answer is there, and the process is not.
_SCRIPT = """
import os, signal, sys, requests
left = int(sys.argv.pop(1))
post = requests.Session.post
def post_and_die(self, url, **options):
    global left
    answer = post(self, url, **options)
    if options["json"]["method"] != "common.db.login":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return answer
requests.Session.post = post_and_die
from targets.tryton import TargetTryton
TargetTryton.cli()
"""


@pytest.fixture
def crm(tmp_path: Path, state_url: str) -> Iterator[World]:
    with world(tmp_path / "tryton", state_url) as made:
        yield made


def run_and_kill(crm: World, folder: Path, calls: int, *records: Record, **settings: object) -> bool:
    """Run the target in a process of its own; whether it was killed before it was done."""
    config, lines = folder / "config.json", folder / "lines.jsonl"
    config.write_text(json.dumps({**crm.config, "rows_per_call": 25, **settings}))
    lines.write_text("".join(lines_of(records)))
    with lines.open() as pipe:
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(calls), "--config", str(config)],
            stdin=pipe, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr.decode()[-2000:]
    return done.returncode != 0


def test_killed_at_every_call(crm: World, tmp_path: Path) -> None:
    first: list[Record] = [*(person(n) for n in range(PEOPLE)), *(message(n, of=n % PEOPLE) for n in range(MESSAGES))]
    kills = 0
    # Each run is killed one call later than the one before, until one gets through.
    for calls in range(1, 40):
        if not run_and_kill(crm, tmp_path, calls, *first):
            break
        kills += 1
        assert max(crm.numbers().values(), default=0) <= 1, f"killed at call {calls}"
    assert kills >= 4
    assert crm.numbers() == Counter(range(MESSAGES))
    assert len(crm.parties()) == PEOPLE
    assert not crm.write(*first)


@pytest.mark.parametrize("notes", ["message", "day"])
def test_killed_while_notes_are_replaced(crm: World, tmp_path: Path, notes: str) -> None:
    crm.write(person(0), *(message(n, of=0) for n in range(10)), notes=notes)
    changed = [message(n, of=0, text=f"words of message {100 + n}.", edited_at=NOON) for n in range(5)]
    kills = 0
    for calls in range(1, 40):
        if not run_and_kill(crm, tmp_path, calls, *changed, notes=notes):
            break
        kills += 1
    assert kills >= 2
    assert crm.numbers() == Counter([*range(100, 105), *range(5, 10)])


@pytest.mark.parametrize("crm_merge", [False, True])
def test_killed_while_persons_are_merged(crm: World, tmp_path: Path, crm_merge: bool) -> None:
    crm.write(person(0), person(1), *(message(n, of=n % 2) for n in range(20)))
    kills = 0
    for calls in range(1, 40):
        if not run_and_kill(crm, tmp_path, calls, merge(1, 0, 1), crm_merge=crm_merge):
            break
        kills += 1
    assert kills >= 3
    assert sorted(crm.numbers_on("person-0")) == list(range(20))
    assert crm.numbers() == Counter(range(20))
    assert [one["active"] for one in crm.parties().values()].count(True) == 1
