"""target-archive is killed at every bad moment: run again from its last STATE, all is as if nothing had happened."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mappings.records import STREAMS, Record
from mappings.schema import singer_schema
from stores.archive import Archive
from stores.database import Stores
from tests.stores.archive_world import (
    answer,
    change,
    consent,
    contact,
    email,
    mail,
    message,
    psid,
    receipt,
    told,
    watermark,
)

RUN = "from targets.archive import TargetArchive as T; T.cli()"
DIE = "__import__('os').kill(__import__('os').getpid(), 9)"
COUNTED = f"""
import targets.archive, stores.archive
calls = []
def dying(original):
    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) == [NUMBER]:
            {DIE}
        return original(*args, **kwargs)
    return call
"""
MOMENTS = {
    "before_the_messages_are_written": "stores.archive.fold_messages = dying(stores.archive.fold_messages)",
    "before_the_commit": "stores.archive.refresh_persons = dying(stores.archive.refresh_persons)",
    "between_commit_and_state": "T = targets.archive.TargetArchive;"
    " T._write_state_message = dying(T._write_state_message)",
}


def world(rounds: int = 12) -> list[Record]:
    """A stream in which later records complete earlier ones, so that a lost or doubled batch would show."""
    records: list[Record] = []
    for n in range(rounds):
        who = f"w{n % 3}"
        stamp = f"p-{n % 3}"
        records += [
            receipt(f"a{n}", "delivered", n + 3),
            message(f"m{n}", n, who=who, person_id=stamp),
            answer(f"a{n}", n + 1, who=who, person_id=stamp),
            change(f"m{n}", "edit", n + 2, text=f"edited {n}", handles=[psid(who)]),
            change(f"m{n - 1}", "unsend" if n % 4 == 0 else "react", n + 2, emoji="+", handles=[psid(who)]),
            watermark("read", n, n + 5, who),
            mail(f"mail{n}", n, f"mail{max(n - 2, 0)}", who=who),
            consent("opted_out" if n % 2 else "opted_in", n, who),
            contact(f"{n % 4}", n, email(who), name=f"Name {n}"),
        ]
    return records


def lines(records: list[Record], start: int = 0) -> str:
    """The records from `start` on as Singer lines, a STATE with the next start after each."""
    schemas = [
        {
            "type": "SCHEMA", "stream": stream, "schema": singer_schema(STREAMS[stream]),
            "key_properties": list(STREAMS[stream].key_properties),
        }
        for stream in dict.fromkeys(record.stream for record in records)
    ]  # fmt: skip
    messages: list[dict[str, Any]] = [*schemas]
    for number, record in enumerate(records[start:], start=start + 1):
        messages.append({"type": "RECORD", "stream": record.stream, "record": record.model_dump(mode="json")})
        messages.append({"type": "STATE", "value": {"next": number}})
    return "".join(json.dumps(one) + "\n" for one in messages)


def run(folder: Path, script: str, text: str) -> tuple[int, int]:
    """Run target-archive on `text`; its exit code and the `next` of its last STATE (0: none came)."""
    config = folder / "config.json"
    config.write_text(json.dumps({"state_url": f"sqlite:///{folder}/state", "drain_rows": 7, "drain_seconds": 1_000}))
    done = subprocess.run(
        [sys.executable, "-c", script, "--config", str(config)],
        input=text, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    states = [json.loads(line)["next"] for line in done.stdout.splitlines()]
    return done.returncode, states[-1] if states else 0


@contextmanager
def archive_in(folder: Path) -> Iterator[Archive]:
    stores = Stores(f"sqlite:///{folder}/state")
    yield Archive(stores)
    stores.close()


@pytest.fixture(scope="module")
def new_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty stores, made once: their migrations take longer than the tests."""
    folder = tmp_path_factory.mktemp("new")
    stores = Stores(f"sqlite:///{folder}/state")
    for name in ("archive", "graph", "parked"):
        stores.database(name)
    stores.close()
    return folder / "state"


@pytest.fixture
def folder(tmp_path: Path, new_state: Path) -> Path:
    """A folder with empty stores of its own."""
    shutil.copytree(new_state, tmp_path / "state")
    return tmp_path


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the archive tells after one run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("clean")
    assert run(folder, RUN, lines(world())) == (0, len(world()))
    with archive_in(folder) as archive:
        return told(archive)


@pytest.mark.parametrize(
    "number", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(9, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_loses_nothing_and_doubles_nothing(folder: Path, clean: list[str], moment: str, number: int) -> None:
    script = f"{COUNTED.replace('[NUMBER]', str(number))}\n{MOMENTS[moment]}\n{RUN}"
    code, reached = run(folder, script, lines(world()))
    assert code == -signal.SIGKILL
    assert reached == 7 * (number - 1)
    assert run(folder, RUN, lines(world(), start=reached)) == (0, len(world()))
    with archive_in(folder) as archive:
        assert told(archive) == clean


@pytest.mark.slow
def test_kill_after_kill_ends_where_a_clean_run_ends(folder: Path, clean: list[str]) -> None:
    reached, kills = 0, 0
    moments = list(MOMENTS.values())
    while True:
        script = f"{COUNTED.replace('[NUMBER]', '3')}\n{moments[kills % len(moments)]}\n{RUN}"
        code, more = run(folder, script, lines(world(), start=reached))
        reached = max(reached, more)
        if code == 0:
            break
        kills += 1
    assert kills >= 3
    assert reached == len(world())
    with archive_in(folder) as archive:
        assert told(archive) == clean
