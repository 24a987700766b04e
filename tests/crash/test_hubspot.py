"""target-hubspot is killed at every call that it makes, and run again: nothing is lost, nothing is there twice.

The stand-in carries the call out and kills the target before it can read the answer: the worst moment there is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mappings.records import Attachment, Record
from stores.media import Media
from targets.hubspot import setup_hubspot
from tests.targets.hubspot_world import World, lines_of, merge, message, person, world

PEOPLE = 2
MESSAGES = 25
SMALL_BATCHES = {"message_batch_size": 10, "association_batch_size": 20}


class Killer:
    """Kills a process when the account has carried out so many of its calls."""

    def __init__(self, account: World, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.process_id: int | None = None
        self.struck = False
        self._left = calls
        answer = account.app._answer

        def answer_or_kill(request: Any) -> Any:
            response = answer(request)
            if self.process_id is not None:
                self._left -= 1
                if self._left == 0:
                    os.kill(self.process_id, signal.SIGKILL)
                    self.struck = True
            return response

        monkeypatch.setattr(account.app, "_answer", answer_or_kill)


def run_and_kill(account: World, killer: Killer, folder: Path, *records: Record) -> None:
    """Run the target in a process of its own until the killer strikes, or to its end."""
    config = folder / "config.json"
    config.write_text(json.dumps({**account.config, **SMALL_BATCHES}))
    lines = folder / "lines.jsonl"
    lines.write_text("".join(lines_of(records)))
    script = "from targets.hubspot import TargetHubSpot as T; T.cli()"
    with lines.open() as pipe:
        process = subprocess.Popen(
            [sys.executable, "-c", script, "--config", str(config)],
            stdin=pipe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        killer.process_id = process.pid
        assert process.wait(120) == -signal.SIGKILL
    killer.process_id = None
    assert killer.struck


def check_once(account: World) -> None:
    """Every message is there once, on one timeline."""
    state = account.app.state()
    words = Counter(body.partition("words of message ")[2].partition(".")[0] for body in account.bodies())
    assert words == Counter({str(number): 1 for number in range(MESSAGES)})
    assert {len(one["contacts"]) for one in state["communications"].values()} == {1}
    assert account.parked() == []


CALLS = [(True, number) for number in range(1, 7)] + [(False, number) for number in range(1, 5)]


@pytest.mark.slow
@pytest.mark.parametrize(("unique", "calls"), CALLS)
def test_killed_while_writing(
    state_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique: bool, calls: int
) -> None:
    people = [person(number) for number in range(PEOPLE)]
    records = [*people, *(message(number, of=number % PEOPLE) for number in range(MESSAGES))]
    with world(state_url, unique=unique, search_lag_seconds=3600) as account:
        killer = Killer(account, calls, monkeypatch)
        run_and_kill(account, killer, tmp_path, *records)
        account.write(*records)
        check_once(account)
        assert len(account.contacts()) == PEOPLE
        account.calls()
        account.write(*records)
        assert not account.calls()


@pytest.mark.parametrize("unique", [True, False], ids=["property", "readback"])
def test_killed_between_the_last_write_and_the_state(
    state_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique: bool
) -> None:
    people = [person(number) for number in range(PEOPLE)]
    records = [*people, *(message(number, of=number % PEOPLE) for number in range(MESSAGES))]
    with world(state_url, unique=unique, search_lag_seconds=3600) as account:
        killer = Killer(account, 6 if unique else 4, monkeypatch)
        run_and_kill(account, killer, tmp_path, *records)
        assert len(account.bodies()) == MESSAGES
        account.write(*records)
        check_once(account)
        assert len(account.contacts()) == PEOPLE


@pytest.mark.parametrize("calls", [3, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 2, 4, 5, 7))])
def test_killed_while_publishing_into_the_inbox(
    state_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    now = datetime.now(UTC)
    ours = {"direction": "outbound", "author_kind": "bot"}
    records = [
        *(person(number) for number in range(PEOPLE)),
        *(message(n, of=n % PEOPLE, sent_at=now + timedelta(seconds=n), **(ours if n % 3 else {})) for n in range(5)),
    ]
    with world(state_url, setup=False) as account:
        account.config |= {
            "inbox_channels": ["whatsapp"], "inbox_id": "9", "webhook_token": "word", "app_id": "1",
            "inbox_webhook_url": "https://hooks.shop.example/webhooks/hubspot", "developer_api_key": "key",
        }  # fmt: skip
        setup_hubspot(account.settings, account.stores)
        killer = Killer(account, calls, monkeypatch)
        run_and_kill(account, killer, tmp_path, *records)
        account.write(*records)
        threads = account.app.state()["inbox"]["threads"].values()
        said = Counter(one["text"] for thread in threads for one in thread["messages"])
        assert said == Counter({f"words of message {number}.": 1 for number in range(5)})
        assert len(account.app.channels.accounts) == 1
        account.calls()
        account.write(*records)
        assert not account.calls()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unique", "calls"), [*((True, one) for one in range(1, 5)), *((False, one) for one in range(1, 4))]
)
def test_killed_while_uploading_files(
    state_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique: bool, calls: int
) -> None:
    expected = Attachment(kind="file", mime_type="text/plain")
    with world(state_url, unique=unique, setup=False) as account:
        account.config |= {"attachments": "upload"}
        setup_hubspot(account.settings, account.stores)
        plain = message(1)
        kept = Media(account.stores).keep([b"hello"], max_bytes=9, expected=expected, message_key=plain.message_key)
        file = expected.model_copy(update={"media_key": kept.media_key, "filename": "note.txt"})
        records = [person(1), plain.model_copy(update={"attachments": [file]})]
        killer = Killer(account, calls, monkeypatch)
        run_and_kill(account, killer, tmp_path, *records)
        account.write(*records)
        (note,) = account.app.state()["notes"].values()
        assert [note["properties"]["hs_attachment_ids"]] == list(account.app.files.stored)
        account.calls()
        account.write(*records)
        assert not account.calls()


@pytest.mark.slow
@pytest.mark.parametrize("calls", [1, 2, 3, 4, 5])
def test_killed_while_moving_a_person(
    state_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    people = [person(number) for number in range(PEOPLE)]
    records = [*people, *(message(number, of=number % PEOPLE) for number in range(MESSAGES))]
    with world(state_url) as account:
        account.write(*records)
        killer = Killer(account, calls, monkeypatch)
        run_and_kill(account, killer, tmp_path, merge(1, 0, 1))
        account.write(merge(1, 0, 1))
        check_once(account)
        assert len(account.contacts()) == 1
