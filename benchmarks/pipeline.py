"""How many messages a second go through the pipes, and what identity, the tap and Meltano add to that.

Every pipe is run with nothing to read and with all messages, three times each; the difference of the least is what the
messages cost, without the start of Python. CPU seconds are those of all processes of a pipe together. Machines differ
by a factor of ten and busy ones by more, so the numbers to compare are the ratios of one run. Run it with::

    python -m benchmarks.pipeline --messages 5000

Peer: meltano-map-transform, the mapper that Meltano users have; it computes a field where ours looks up a person. Both
mappers read the messages once and, which is easier to measure, twenty times in one process. To ours nobody is known at
first, and everybody after the first reading: the table has both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEER = "meltano-map-transform==0.12.3"
PEERS = ROOT / ".venvs" / "peers"
BINARIES = Path(sys.executable).parent
STARTED_AT = datetime(2026, 3, 1, 9, tzinfo=UTC)
AREAS = (202, 212, 303, 312, 404, 415, 503, 512, 602, 617)
"""Area codes; with 555-01xx behind them they are numbers that nobody has."""
PEOPLE = 1000
SECONDS_AT_MOST = 120
ROUNDS = 3
TIMES = 20


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took."""

    wall_seconds: float
    cpu_seconds: float

    def least(self, other: Cost) -> Cost:
        """The lesser of both times, each by itself."""
        return Cost(min(self.wall_seconds, other.wall_seconds), min(self.cpu_seconds, other.cpu_seconds))

    def __sub__(self, other: Cost) -> Cost:
        return Cost(max(self.wall_seconds - other.wall_seconds, 1e-9), max(self.cpu_seconds - other.cpu_seconds, 1e-9))


def deliveries(number_of_messages: int) -> Iterator[bytes]:
    """WhatsApp webhooks with one message each, the same at every run: a thousand people write, some of them often."""
    for number in range(number_of_messages):
        person = number * 7919 % min(PEOPLE, max(1, number_of_messages // 5))
        phone = f"1{AREAS[person // 100 % 10]}55501{person % 100:02d}"
        user = f"US.invented{person:04d}"
        at = STARTED_AT + timedelta(seconds=number)
        text = f"Message {number}: where is my order {4000 + number % 977}? " + "It was to come on Monday. " * (
            number % 9
        )
        message = {
            "id": f"wamid.{number:08d}", "from": phone, "from_user_id": user, "timestamp": str(int(at.timestamp())),
            "type": "text", "text": {"body": text},
        }  # fmt: skip
        value = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "12025550199", "phone_number_id": "106540352242922"},
            "contacts": [{"profile": {"name": f"Person {person}"}, "wa_id": phone, "user_id": user}],
            "messages": [message],
        }
        entry = {"id": "102290129340398", "changes": [{"field": "messages", "value": value}]}
        yield json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


class Bench:
    """A folder with the input, and a fresh state for each run."""

    def __init__(self, folder: Path, number_of_messages: int) -> None:
        self.folder = folder
        self.messages = number_of_messages
        self._runs = 0
        self._delivered = {True: folder / "delivered", False: folder / "undelivered"}
        for full, state in self._delivered.items():
            self._deliver(state, number_of_messages if full else 0)
        for full in (True, False):
            self.shell(f"tap-whatsapp --config config.json > {self.input(full=full).name}", self.state(full=full))
        records = sum(b'"RECORD"' in line for line in self.input(full=True).read_bytes().splitlines())
        if records != number_of_messages:
            msg = f"the tap made {records} records of {number_of_messages} messages"
            raise RuntimeError(msg)

    def input(self, *, full: bool) -> Path:
        """The tap's output: every message, or only the schemas."""
        return self.folder / ("messages.singer" if full else "nothing.singer")

    def state(self, *, full: bool) -> Path:
        """A state in which the messages are delivered, or nothing is, and nothing is read yet."""
        self._runs += 1
        fresh = self.folder / f"state-{self._runs}"
        shutil.copytree(self._delivered[full], fresh)
        return fresh

    def shell(self, command: str, state: Path) -> Cost:
        """Run a command line on a state; raises when a part of it fails."""
        (self.folder / "config.json").write_text(json.dumps({"state_url": f"sqlite:///{state}"}), encoding="utf-8")
        return self._run(["bash", "-o", "pipefail", "-c", command], self.environment(state))

    def pipes(self, commands: Sequence[tuple[str, int]]) -> list[tuple[Cost, Cost]]:
        """For each pipe its cost with nothing to read, and that of the messages.

        They take turns, so that a busy moment of the machine is not one pipe's alone.

        Args:
            commands: with ``{input}`` for what to read, and how often in one run; the cost is the mean of that.
        """
        endless = Cost(float("inf"), float("inf"))
        idle, whole = [endless] * len(commands), [endless] * len(commands)
        for _ in range(ROUNDS):
            for place, (command, times) in enumerate(commands):
                nothing, everything = self.input(full=False), " ".join([str(self.input(full=True))] * times)
                start = self.shell(command.format(input=nothing), self.state(full=False))
                idle[place] = idle[place].least(start)
                run = self.shell(command.format(input=everything), self.state(full=True))
                whole[place] = whole[place].least(run)
        costs = [one - start for one, start in zip(whole, idle, strict=True)]
        return [
            (start, Cost(cost.wall_seconds / times, cost.cpu_seconds / times))
            for start, cost, (_, times) in zip(idle, costs, commands, strict=True)
        ]

    def fixed_costs(self, pipe: str) -> dict[str, Cost]:
        """One pipe with nothing to read, by itself and as a job of Meltano, each where it has run before."""
        from console.generate import meltano_yml

        (self.folder / "meltano.yml").write_text(meltano_yml(), encoding="utf-8")
        state = self.state(full=False)
        ways = {"in a shell": ["bash", "-o", "pipefail", "-c", pipe], "`meltano run`": ["meltano", "run", "inbound"]}
        self.shell(pipe, state)
        self._run(ways["`meltano run`"], self.environment(state))
        return {name: self._run(command, self.environment(state)) for name, command in ways.items()}

    def environment(self, state: Path) -> dict[str, str]:
        """As a user has it, with our commands first on the path."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ONETHREAD_", "TAP_"))},
            "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}",
            "ONETHREAD_STATE_URL": f"sqlite:///{state}",
            "ONETHREAD_WHATSAPP_DEFAULT_REGION": "US",  # an account of WhatsApp is configured, so tap-channels reads it
            "MELTANO_PROJECT_ROOT": str(self.folder),
        }

    def _run(self, command: list[str], environment: dict[str, str]) -> Cost:
        before, began_at = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, timeout=SECONDS_AT_MOST, check=False
        )
        wall, after = time.monotonic() - began_at, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace")[-2000:])
        return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    @staticmethod
    def _deliver(state: Path, number_of_messages: int) -> None:
        from stores.database import Stores
        from stores.deliveries import Deliveries

        stores = Stores(str(state))
        written = Deliveries(stores, writable=True)
        rows = [
            written.encode("whatsapp", "default", STARTED_AT, {}, str(number), body)
            for number, body in enumerate(deliveries(number_of_messages))
        ]
        for start in range(0, len(rows), 1000):
            written.add(rows[start : start + 1000])
        written.close()
        stores.close()


def peer_mapper(folder: Path) -> str | None:
    """The peer's command, installed on demand; ``None`` when it cannot be installed here."""
    command = PEERS / "bin" / "meltano-map-transform"
    if not command.exists():
        uv = str(BINARIES / "uv")
        for step in (["venv", "--quiet", str(PEERS)], ["pip", "install", "--quiet", "--python", str(PEERS), PEER]):
            if subprocess.run([uv, *step], check=False).returncode:
                return None
    config: dict[str, Any] = {"stream_maps": {"messages": {"person_id": "md5(conversation_key)"}}}
    (folder / "peer.json").write_text(json.dumps(config), encoding="utf-8")
    return f"{command} --config peer.json"


def main() -> None:
    """Measure every pipe and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=5000, help="how many messages go through each pipe")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.messages)
        _report(bench)


def _report(bench: Bench) -> None:
    mapper, target = "map-identity --config config.json", "target-archive --config config.json"
    tap = "tap-whatsapp --config config.json"
    ours = f"cat {{input}} | {mapper} > /dev/null"
    pipes = [
        ("file → target-archive", f"cat {{input}} | {target}", 1),
        ("file → map-identity → target-archive", f"cat {{input}} | {mapper} | {target}", 1),
        ("tap-whatsapp → map-identity → target-archive", f"{tap} | {mapper} | {target}", 1),
        ("file → map-identity, the first reading: everybody is new", ours, 1),
        (f"file → map-identity, mean of {TIMES} readings", ours, TIMES),
    ]
    peer = peer_mapper(bench.folder)
    if peer is None:
        print(f"{PEER} cannot be installed here: no peer in this run\n")
    else:
        name, theirs = f"file → {PEER.replace('==', ' ')} (one md5 field)", f"cat {{input}} | {peer} > /dev/null"
        pipes += [(f"{name}, the first reading", theirs, 1), (f"{name}, mean of {TIMES} readings", theirs, TIMES)]
    print(f"{bench.messages} messages of {PEOPLE} people at most, {os.cpu_count()} processors\n")
    print("| pipe | messages per wall second | messages per CPU second | CPU against the first | CPU s to start |")
    print("|--|--|--|--|--|")
    measured = bench.pipes([(command, times) for _, command, times in pipes])
    _, first = measured[0]
    for (name, _, _), (idle, cost) in zip(pipes, measured, strict=True):
        print(
            f"| {name} | {bench.messages / cost.wall_seconds:,.0f} | {bench.messages / cost.cpu_seconds:,.0f} |"
            f" {cost.cpu_seconds / first.cpu_seconds:.2f} x | {idle.cpu_seconds:.1f} |"
        )
    print("\n| one pipe with nothing to read | wall s | CPU s | CPU against the bare pipe |\n|--|--|--|--|")
    costs = bench.fixed_costs(f"tap-channels --config config.json | {mapper} | {target}")
    for name, cost in costs.items():
        ratio = cost.cpu_seconds / costs["in a shell"].cpu_seconds
        print(f"| {name} | {cost.wall_seconds:.1f} | {cost.cpu_seconds:.1f} | {ratio:.2f} x |")


if __name__ == "__main__":
    main()
