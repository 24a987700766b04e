"""`onethread run JOB`: the safe way to run a Meltano job from cron.

One run of a job at a time (a kernel lock, freed when the process dies, so a crash never blocks the next run), umask 077
(Meltano writes each plugin's settings, secrets included, to a file while it runs), one more try after a crash, and an
exit code that says when something was parked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from mappings.errors import SettingsError
from stores.database import Stores
from stores.parked import Parked

EXIT_PARKED = 3
"""The job went through, but something was parked: somebody should look."""

_TRIES = 2
_SETTINGS_KEPT_SECONDS = 24 * 3600
_HOW = frozenset({"--full-refresh", "--refresh-catalog", "--no-state-update", "--dry-run"})
"""Options of `meltano run` with which a job is the same job; another --state-id-suffix makes another one of it."""


def run_job(stores: Stores, jobs: Sequence[str], *, say: Callable[[str], None]) -> int:
    """Run Meltano jobs (or plugin chains) once; the exit code for the shell.

    Args:
        stores: have the lock.
        jobs: for Meltano as they are; options of `meltano run` can stand before them.
        say: is told what a person should know.

    Returns:
        0 done, or another run of the same job is busy with it; 3 done with something parked; else Meltano's own code.
    """
    name = "+".join(one for one in jobs if one not in _HOW)
    _remove_old_settings(Path.cwd())
    try:
        with stores.lock(f"run-{name.replace('/', '_')}", timeout_seconds=0):
            parked = Parked(stores)
            before = parked.count()
            code = _run_meltano(jobs, say)
            newly_parked = parked.count() - before
    except TimeoutError:
        say(f"{name}: another run is still busy with it; nothing to do")
        return 0
    if newly_parked > 0:
        say(f"{name}: {newly_parked} parked; see `onethread parked`")
    if code == 0 and newly_parked > 0:
        return EXIT_PARKED
    return code


def _remove_old_settings(project: Path) -> None:
    """Delete the settings files that plugins of killed runs left behind: they hold the secrets.

    Meltano writes one for each run of a plugin into a folder of its own and deletes it at the end. A day is longer
    than any run, and other jobs use the same folder.
    """
    before = time.time() - _SETTINGS_KEPT_SECONDS
    for path in project.glob(".meltano/run/**/*.config.json"):
        try:
            if path.stat().st_mtime < before:
                path.unlink()
        except FileNotFoundError:
            continue


def _run_meltano(jobs: Sequence[str], say: Callable[[str], None]) -> int:
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}"}
    # --force: Meltano refuses a pipeline for 5 minutes after a crash; our lock already says that nobody runs it.
    command = [str(binaries / "meltano"), "run", "--force", *jobs]
    old_umask = os.umask(0o077)
    try:
        for attempt in range(1, _TRIES + 1):
            code = _run_and_forward_signals(command, environment)
            crashed = code < 0 or code in {128 + signal.SIGKILL, 128 + signal.SIGSEGV}
            if not crashed or attempt == _TRIES:
                return 128 - code if code < 0 else code
            say(f"{'+'.join(jobs)}: crashed (exit {code}); starting it again")
    finally:
        os.umask(old_umask)
    return 1


def _run_and_forward_signals(command: Sequence[str], environment: dict[str, str]) -> int:
    stopped: int | None = None
    process: subprocess.Popen[bytes] | None = None

    def forward(signum: int, frame: FrameType | None) -> None:
        nonlocal stopped
        del frame
        stopped = signum
        if process is not None:
            process.send_signal(signum)

    previous = {one: signal.signal(one, forward) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        process = subprocess.Popen(command, env=environment)
        if stopped is not None:  # it came while the process was being made
            process.send_signal(stopped)
        code = process.wait()
    except FileNotFoundError:
        msg = f"{command[0]} is not there: install meltano into the environment of onethread"
        raise SettingsError(msg) from None
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)
    return 128 + stopped if stopped is not None and code < 0 else code
