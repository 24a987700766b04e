"""target-salesforce is killed at every call that it makes, and run again: nothing is lost, nothing is there twice.

The stand-in carries the call out and kills the target before it can read the answer: the worst moment there is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mappings.records import Record
from tests.targets.hubspot_world import lines_of, merge, message, person
from tests.targets.salesforce_world import World, body_number, conversation, world

PEOPLE = 2
MESSAGES = 60


class Killer:
    """Kills a process when the org has carried out so many of its calls (logging in does not count)."""

    def __init__(self, org: World, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.process_id: int | None = None
        self.struck = False
        self._left = calls
        answer = org.app._answer

        def answer_or_kill(request: Any) -> Any:
            response = answer(request)
            if self.process_id is not None and "oauth2" not in request.path:
                self._left -= 1
                if self._left == 0:
                    os.kill(self.process_id, signal.SIGKILL)
                    self.struck = True
            return response

        monkeypatch.setattr(org.app, "_answer", answer_or_kill)


def run_and_kill(org: World, killer: Killer, folder: Path, *records: Record, **settings: Any) -> None:
    """Run the target in a process of its own until the killer strikes."""
    config = folder / "config.json"
    config.write_text(json.dumps({**org.config, "rows_per_call": 25, **settings}))
    lines = folder / "lines.jsonl"
    lines.write_text("".join(lines_of(records)))
    script = "from targets.salesforce import TargetSalesforce as T; T.cli()"
    with lines.open() as pipe:
        process = subprocess.Popen(
            [sys.executable, "-c", script, "--config", str(config)],
            stdin=pipe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        killer.process_id = process.pid
        assert process.wait(120) == -signal.SIGKILL
    killer.process_id = None
    assert killer.struck


def people_and_messages() -> list[Record]:
    return [
        *(person(number, name=f"Ana Example{number}") for number in range(PEOPLE)),
        *(conversation(number) for number in range(PEOPLE)),
        *(message(number, of=number % PEOPLE) for number in range(MESSAGES)),
    ]


def check_once(org: World) -> None:
    """Every message is there once, on a contact that is there."""
    assert Counter(map(body_number, org.bodies())) == Counter(dict.fromkeys(range(MESSAGES), 1))
    contacts = set(org.contacts())
    assert {one["Contact__c"] for one in org.records("messages").values()} <= contacts
    assert {one["Contact__c"] for one in org.records("conversations").values()} <= contacts
    assert org.parked() == []


@pytest.mark.slow
@pytest.mark.parametrize("calls", [1, 2, 3, 4, 5])
def test_killed_while_writing(state_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    records = people_and_messages()
    with world(state_url) as org:
        killer = Killer(org, calls, monkeypatch)
        run_and_kill(org, killer, tmp_path, *records)
        org.write(*records)
        check_once(org)
        assert len(org.contacts()) == len(org.records("conversations")) == PEOPLE
        org.calls()
        org.write(*records)
        assert not org.calls()


@pytest.mark.slow
@pytest.mark.parametrize("calls", [4, 6, 8, 10])
def test_killed_in_a_bulk_job(state_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    records = people_and_messages()
    with world(state_url) as org:
        killer = Killer(org, calls, monkeypatch)
        run_and_kill(org, killer, tmp_path, *records, bulk_threshold_rows=50)
        org.write(*records, bulk_threshold_rows=50)
        check_once(org)
        assert len(org.contacts()) == PEOPLE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calls", "crm_merge"), [(1, False), (2, False), (3, False), (4, False), (1, True), (2, True), (3, True)]
)
def test_killed_while_moving_a_person(
    state_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int, crm_merge: bool
) -> None:
    with world(state_url) as org:
        org.write(*people_and_messages())
        killer = Killer(org, calls, monkeypatch)
        run_and_kill(org, killer, tmp_path, merge(1, 0, 1), crm_merge=crm_merge)
        org.write(merge(1, 0, 1), crm_merge=crm_merge)
        check_once(org)
        assert len(org.contacts()) == 1
