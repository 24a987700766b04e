"""`onethread run`: one run of a job at a time, once more after a crash, and an exit code that cron can act on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console.on_delivery import JobStarter
from console.run import EXIT_PARKED, run_job
from mappings.errors import MissingFieldError, SettingsError
from stores.database import Stores
from stores.parked import Parked

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable
HOLD = """
import sys
from stores.database import Stores
with Stores(sys.argv[1]).lock("run-inbound"):
    print("held", flush=True)
    sys.stdin.read()
"""
Meltano = Callable[[str], None]
"""Makes what stands beside the interpreter under the name meltano: a shell script, or Python with that first line."""


@pytest.fixture
def meltano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Meltano]:
    """A meltano of the test's own, and a folder to work in."""
    binaries, work = tmp_path / "bin", tmp_path / "work"
    binaries.mkdir()
    work.mkdir()
    monkeypatch.setattr(sys, "executable", str(binaries / "python"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(work)
    umask = os.umask(0o022)

    def write(script: str) -> None:
        path = binaries / "meltano"
        path.write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}")
        path.chmod(0o755)

    yield write
    os.umask(umask)


def run(stores: Stores, *jobs: str) -> tuple[int, list[str]]:
    """The exit code, and what was said."""
    said: list[str] = []
    return run_job(stores, list(jobs) or ["inbound"], say=said.append), said


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_exit_code_is_meltanos_own_and_a_failure_is_not_tried_again(
    stores: Stores, meltano: Meltano, code: int
) -> None:
    meltano(f"echo ran >> runs; exit {code}")
    assert run(stores) == (code, [])
    assert Path("runs").read_text() == "ran\n"


def test_meltano_is_asked_for_these_jobs_and_not_to_mind_a_stale_run(stores: Stores, meltano: Meltano) -> None:
    meltano('echo "$@" > asked; echo "$PATH" > path')
    run(stores, "contacts", "inbound")
    assert Path("asked").read_text() == "run --force contacts inbound\n"
    assert Path("path").read_text().startswith(f"{Path(sys.executable).parent}{os.pathsep}")


def test_options_for_meltano_come_before_the_jobs(stores: Stores, meltano: Meltano) -> None:
    meltano('echo "$@" > asked')
    run(stores, "--state-id-suffix", "shop", "inbound")
    assert Path("asked").read_text() == "run --force --state-id-suffix shop inbound\n"


def test_files_of_the_run_are_for_their_owner_alone(stores: Stores, meltano: Meltano) -> None:
    meltano("umask > umask; echo secret > settings.json")
    run(stores)
    assert Path("umask").read_text().strip() == "0077"
    assert Path("settings.json").stat().st_mode & 0o777 == 0o600
    assert os.umask(0o022) == 0o022


def test_without_meltano_it_is_said_what_to_do(stores: Stores, meltano: Meltano) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SettingsError, match="install meltano"):
        run(stores)
    assert signal.getsignal(signal.SIGTERM) is before


# One at a time


def test_a_second_run_of_the_job_says_that_one_is_busy_and_is_no_failure(
    stores: Stores, meltano: Meltano, state_url: str
) -> None:
    meltano("echo ran >> runs")
    with Stores(state_url).lock("run-inbound"):
        code, said = run(stores)
    assert code == 0
    assert said == ["inbound: another run is still busy with it; nothing to do"]
    assert not Path("runs").exists()


def test_a_job_that_reads_everything_again_is_the_same_job(stores: Stores, meltano: Meltano, state_url: str) -> None:
    meltano("echo ran >> runs")
    with Stores(state_url).lock("run-inbound"):
        assert run(stores, "--full-refresh", "inbound") == (
            0,
            ["inbound: another run is still busy with it; nothing to do"],
        )
    assert not Path("runs").exists()


def test_another_job_runs_beside_it(stores: Stores, meltano: Meltano, state_url: str) -> None:
    meltano("echo ran >> runs")
    with Stores(state_url).lock("run-inbound"):
        assert run(stores, "deliver") == (0, [])
    assert Path("runs").exists()


def test_a_pipe_given_by_its_plugins_can_be_locked_too(stores: Stores, meltano: Meltano) -> None:
    meltano("exit 0")
    assert run(stores, "tap-whatsapp", "a/b", "target-archive") == (0, [])


def test_a_run_that_was_killed_blocks_nobody(stores: Stores, meltano: Meltano, state_url: str) -> None:
    meltano("exit 0")
    holder = subprocess.Popen(
        [PYTHON, "-c", HOLD, state_url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    assert run(stores)[1] == ["inbound: another run is still busy with it; nothing to do"]
    holder.kill()
    holder.communicate()
    assert run(stores) == (0, [])


# After a crash


@pytest.mark.parametrize("crash", ["kill -9 $$", "kill -SEGV $$", "exit 137", "exit 139"])
def test_a_crash_is_tried_once_more_at_once(stores: Stores, meltano: Meltano, crash: str) -> None:
    meltano(f"echo ran >> runs; if [ $(wc -l < runs) = 1 ]; then {crash}; fi; exit 0")
    code, (said,) = run(stores)
    assert code == 0
    assert said.startswith("inbound: crashed")
    assert Path("runs").read_text() == "ran\nran\n"


def test_a_second_crash_is_the_end(stores: Stores, meltano: Meltano) -> None:
    meltano("echo ran >> runs; kill -9 $$")
    code, said = run(stores)
    assert (code, len(said)) == (128 + signal.SIGKILL, 1)
    assert Path("runs").read_text() == "ran\nran\n"


# Stopped


@pytest.mark.parametrize(("name", "number"), [("TERM", signal.SIGTERM), ("INT", signal.SIGINT)])
def test_a_stop_is_passed_on_and_the_job_may_end_in_its_own_way(
    stores: Stores, meltano: Meltano, name: str, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    meltano(f"trap 'echo stopped > stopped; exit 7' {name}; kill -{name} $PPID; while :; do sleep 0.02; done")
    assert run(stores) == (7, [])
    assert Path("stopped").exists()
    assert signal.getsignal(number) is before


def test_a_job_that_dies_of_the_stop_is_not_started_again(stores: Stores, meltano: Meltano) -> None:
    meltano("echo ran >> runs; kill -TERM $PPID; while :; do sleep 0.02; done")
    assert run(stores) == (128 + signal.SIGTERM, [])
    assert Path("runs").read_text() == "ran\n"


# Parked


def parking(code: int) -> str:
    """A meltano that parks something and ends with `code`."""
    return f"""#!{PYTHON}
import sys
from mappings.errors import MissingFieldError
from stores.database import Stores
from stores.parked import Parked
Parked(Stores()).park("tap-whatsapp", "items", "new", MissingFieldError("no id"), {{}})
sys.exit({code})
"""


def test_something_parked_ends_with_three(stores: Stores, meltano: Meltano) -> None:
    meltano(parking(0))
    assert run(stores) == (EXIT_PARKED, ["inbound: 1 parked; see `onethread parked`"])


def test_a_failure_outweighs_what_was_parked(stores: Stores, meltano: Meltano) -> None:
    meltano(parking(1))
    assert run(stores) == (1, ["inbound: 1 parked; see `onethread parked`"])


def test_what_was_parked_before_is_not_told_again(stores: Stores, meltano: Meltano) -> None:
    Parked(stores).park("tap-whatsapp", "items", "old", MissingFieldError("no id"), {})
    meltano("exit 0")
    assert run(stores) == (0, [])


# Started by a delivery


def wait_for(path: Path, runs: int) -> None:
    """Until so many runs are noted; the test's own time limit ends a wait for nothing."""
    while not path.exists() or len(path.read_text().splitlines()) < runs:
        time.sleep(0.02)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in which each started job notes itself: an interpreter that only writes down what it was asked."""
    interpreter, notes = tmp_path / "python", tmp_path / "notes"
    interpreter.write_text(f'#!/bin/sh\necho "$@" >> {notes}\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    return notes


def test_a_burst_of_deliveries_starts_each_job_once(jobs: Path) -> None:
    starter = JobStarter(["inbound", "deliver"], quiet_seconds=0.2)
    for _ in range(50):
        starter.notice()
    wait_for(jobs, 2)
    assert jobs.read_text().splitlines() == ["-m console.cli run inbound", "-m console.cli run deliver"]


def test_what_arrives_later_starts_another_run(jobs: Path) -> None:
    starter = JobStarter(["inbound"], quiet_seconds=0.01)
    starter.notice()
    wait_for(jobs, 1)
    starter.notice()
    wait_for(jobs, 2)


def test_a_job_that_cannot_be_started_does_not_end_the_starter(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starter = JobStarter(["inbound"], quiet_seconds=0.01)
    really_run = subprocess.run
    tried = threading.Event()

    def failing(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr("console.on_delivery.subprocess.run", really_run)
        tried.set()
        message = "no memory"
        raise OSError(message)

    monkeypatch.setattr("console.on_delivery.subprocess.run", failing)
    starter.notice()
    assert tried.wait(30)
    starter.notice()
    wait_for(jobs, 1)


def test_settings_that_a_killed_run_left_behind_are_deleted_after_a_day(stores: Stores, meltano: Meltano) -> None:
    meltano("exit 0")
    folder = Path(".meltano/run/tap-hubspot")
    folder.mkdir(parents=True)
    old, new = folder / "tap.old.config.json", folder / "tap.new.config.json"
    for path in (old, new):
        path.write_text("{}")
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    run(stores)
    assert not old.exists()
    assert new.exists()
