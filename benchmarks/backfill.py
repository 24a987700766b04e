"""A long history into a CRM: how fast, how many calls, and whether memory stays where it is.

Invented messages (in, out; a contact for each hundred) go from a file into the archive (`tap-import | map-identity |
target-archive`), and from there into a CRM's stand-in (`tap-archive | target-hubspot` or `target-salesforce`). The
memory of every part of each pipe is looked at while it runs: what it was after a tenth of the time, and at its peak.
Run it with::

    python -m benchmarks.backfill --messages 100000 --crm salesforce

The stand-in keeps everything in memory and shares the processors: a million messages want 8 GB and an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from stores.archive import Archive
from stores.database import Stores
from tests.targets import hubspot_world, salesforce_world

BINARIES = Path(sys.executable).parent
STARTED_AT = datetime(2024, 3, 1, 9, tzinfo=UTC)
MESSAGES_OF_ONE = 100
LOOK_EVERY_SECONDS = 1.0
WORLDS: dict[str, Callable[[str], AbstractContextManager[Any]]] = {
    "hubspot": hubspot_world.world,
    "salesforce": salesforce_world.world,
}


@dataclass(frozen=True, slots=True)
class Run:
    """One pipe. `memory`: of each part, in MB after a tenth of the time and at its peak."""

    seconds: float
    memory: dict[str, tuple[float, float]]


def write_history(path: Path, messages: int) -> None:
    """Lines of the contract of `tap-import`, the same ones at every run; each person's spread over all the time."""
    people = max(1, messages // MESSAGES_OF_ONE)
    with path.open("w", encoding="utf-8") as file:
        for number in range(messages):
            person = number * 7919 % people
            mail = f"person{person}@mail.example"
            line = {
                "kind": "message", "id": f"m{number}", "sent_at": (STARTED_AT + timedelta(minutes=number)).isoformat(),
                "direction": "in" if number % 3 else "out",
                "who": {"id": f"c{person}", "name": f"Person {person}", "email": mail, "verified": True},
                "text": f"Message {number}: where is order {4000 + number % 977}? " + "It was to come. " * (number % 7),
            }  # fmt: skip
            file.write(json.dumps(line) + "\n")


def run_pipe(parts_of_it: Mapping[str, dict[str, Any]], folder: Path, log: IO[bytes]) -> Run:
    """Run a pipe (command -> its settings) to its end; raises `RuntimeError` when a part of it fails."""
    commands = list(parts_of_it)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ONETHREAD_", "TAP_"))}
    parts: list[subprocess.Popen[bytes]] = []
    began = time.monotonic()
    for place, name in enumerate(commands):
        file = folder / f"{name}.json"
        file.write_text(json.dumps(parts_of_it[name]), encoding="utf-8")
        source = parts[-1].stdout if parts else None
        target = subprocess.DEVNULL if place == len(commands) - 1 else subprocess.PIPE
        command = [str(BINARIES / name), "--config", str(file)]
        parts.append(subprocess.Popen(command, stdin=source, stdout=target, stderr=log, env=environment))
        if source is not None:
            source.close()
    seen: list[list[float]] = [[] for _ in parts]
    while parts[-1].poll() is None:
        for one, sizes in zip(parts, seen, strict=True):
            if (size := _memory_mb(one.pid)) is not None:
                sizes.append(size)
        time.sleep(LOOK_EVERY_SECONDS)
    codes = [one.wait() for one in parts]
    if any(codes):
        msg = f"the pipe {' | '.join(commands)} ended with {codes}; see its log"
        raise RuntimeError(msg)
    memory = {name: (sizes[len(sizes) // 10], max(sizes)) for name, sizes in zip(commands, seen, strict=True) if sizes}
    return Run(time.monotonic() - began, memory)


def _memory_mb(pid: int) -> float | None:
    """Resident memory of a process; ``None`` when it is over, or this is no Linux."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(found[0].split()[1]) / 1024 if found else None


def measure(folder: Path, messages: int, crm: str, log: IO[bytes]) -> None:
    """Both pipes, and the second one again; prints a table."""
    write_history(folder / "history.jsonl", messages)
    state_url = f"sqlite:///{folder / 'state'}"
    with ExitStack() as stack:
        world = stack.enter_context(WORLDS[crm](state_url))
        state = {"state_url": state_url}
        history = {**state, "files": [str(folder / "history.jsonl")], "channel": "oldchat"}
        out = {"tap-archive": state, f"target-{crm}": {**world.config, "timeout_seconds": 120}}
        print(f"{messages:,} messages of {max(1, messages // MESSAGES_OF_ONE):,} people\n")
        print("| pipe | messages a second | calls | MB after a tenth of the time, and at the peak |\n|--|--|--|--|")
        run = run_pipe({"tap-import": history, "map-identity": state, "target-archive": state}, folder, log)
        _row("file into the archive", run, messages, 0)
        stores = Stores(state_url)
        archived = Archive(stores).count_changes({}, ["messages"])
        stores.close()
        world.calls()
        run = run_pipe(out, folder, log)
        _row(f"archive into {crm}", run, messages, world.calls().total())
        run = run_pipe(out, folder, log)
        _row("the same again", run, messages, world.calls().total())
        parked = len(world.parked())
    print(f"\narchived {archived:,}, parked {parked:,}")
    if archived != messages or parked:
        sys.exit(1)


def _row(name: str, run: Run, messages: int, calls: int) -> None:
    memory = "; ".join(f"{part} {tenth:,.0f}, {peak:,.0f}" for part, (tenth, peak) in run.memory.items())
    print(f"| {name} | {messages / run.seconds:,.0f} | {calls:,} | {memory} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=20_000, help="how long the history is")
    parser.add_argument("--crm", choices=sorted(WORLDS), default="hubspot")
    parser.add_argument("--log", type=Path, help="where the pipes' logs go; default: nowhere")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="onethread-bench-") as folder,
        (arguments.log or Path(os.devnull)).open("wb") as log,
    ):
        measure(Path(folder), arguments.messages, arguments.crm, log)


if __name__ == "__main__":
    main()
