"""A shop with all that `make demo` has: stand-ins, a receiver, a project folder, and its plugins as processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.demo import Theatre
from console.generate import meltano_yml, plugin_classes
from console.tally import Heard, Tally, heard_on_messenger, heard_on_whatsapp, tally
from mappings.errors import OneThreadError
from mappings.settings import load_settings
from sandbox.cast import Stage
from stores.database import Stores
from stores.parked import Parked
from targets.hubspot import HubSpotTargetSettings, setup_hubspot

_READING = ("/search", "/batch/read", "/details")


@dataclass(frozen=True, slots=True)
class Piped:
    """What a shell pipe did: its last STATE, all that it said on standard error, the exit code of the whole pipe."""

    state: dict[str, Any] | None
    log: str
    code: int


class Shop:
    """One shop in a folder of its own, its stand-ins in this process. See `open_shop`."""

    def __init__(self, folder: Path, stack: ExitStack, heir_of: Shop | None, *, full: bool = False) -> None:
        folder.mkdir(parents=True)
        if heir_of is not None:
            shutil.copytree(heir_of.folder / "state", folder / "state")
        self.folder: Path = folder
        self.theatre = Theatre(folder, stack, full=full)
        self.environment = self.theatre.environment
        self.state_url = self.environment["ONETHREAD_STATE_URL"]
        self.hubspot, self.whatsapp, self.messenger = (
            self.theatre.hubspot, self.theatre.whatsapp, self.theatre.messenger,
        )  # fmt: skip
        if heir_of is not None:
            self.whatsapp = self.theatre.whatsapp = heir_of.whatsapp
        self.stores = Stores(self.state_url)
        self.states: dict[tuple[str, ...], dict[str, Any]] = {}
        self._receiver: subprocess.Popen[bytes] | None = None
        stack.callback(self.close)

    @property
    def stage(self) -> Stage:
        """The demo's stage on these stand-ins."""
        return self.theatre.stage

    def close(self) -> None:
        """Stop what runs."""
        for app in (self.whatsapp, self.messenger):
            app.stop_delivery()
        self.stop_receiver()
        self.stores.close()

    # The receiver

    def start_receiver(self) -> None:
        """Start it, and let the platforms deliver to it."""
        self._receiver = self.theatre.start_receiver()
        base = f"http://127.0.0.1:{self.theatre.receiver_port}/webhooks"
        self.whatsapp.start_delivery(f"{base}/whatsapp")
        self.messenger.start_delivery(f"{base}/messenger")

    def stop_receiver(self, signum: int = signal.SIGTERM) -> None:
        """Stop it; the platforms go on trying."""
        if self._receiver is not None:
            self._receiver.send_signal(signum)
            self._receiver.wait()
            self._receiver = None

    def flush(self) -> None:
        """Until every webhook was accepted."""
        for app in (self.whatsapp, self.messenger):
            app.deliverer.flush(30)

    # HubSpot

    def set_up_hubspot(self) -> None:
        """`onethread setup hubspot`, in this process."""
        settings = load_settings(HubSpotTargetSettings, self.config_of("target-hubspot"), "hubspot")
        setup_hubspot(settings, self.stores)

    def hubspot_holds(self) -> dict[str, Any]:
        """Everything in the account: records with all their values, associations, merges."""
        state = self.hubspot.state()
        return {name: value for name, value in state.items() if name not in {"calls", "refused"}}

    def hubspot_writes(self) -> dict[str, int]:
        """How often each writing endpoint was called."""
        calls = self.hubspot.state()["calls"]
        return {name: n for name, n in calls.items() if not name.startswith("GET") and not name.endswith(_READING)}

    def contact(self, contact_id: str) -> dict[str, str]:
        """The values of one contact."""
        properties: dict[str, str] = self.hubspot.state()["contacts"][contact_id]["properties"]
        return properties

    def timeline(self, contact_id: str) -> list[str]:
        """What stands on a contact's timeline."""
        state = self.hubspot.state()
        entries = state["contacts"][contact_id]["communications"]
        return [state["communications"][one]["properties"]["hs_communication_body"] for one in entries]

    def contacts_with(self, words: str) -> list[str]:
        """The contacts on whose timeline `words` stand, once for each time that they do."""
        return [
            contact_id
            for one in self.hubspot.state()["communications"].values()
            if words in one["properties"]["hs_communication_body"]
            for contact_id in one["contacts"]
        ]

    # Counting

    def heard(self) -> list[Heard]:
        """All messages that the platforms took from customers."""
        told = heard_on_whatsapp(self.whatsapp.state(), self.stage.unsent, self.stage.edits)
        return [*told, *heard_on_messenger(self.messenger.state())]

    def tally(self) -> Tally:
        """Where they are, as the demo counts it."""
        return tally(self.heard(), list(self.hubspot.state()["communications"].values()))

    def parked(self) -> list[tuple[str, str]]:
        """(part, reason) of what is parked."""
        return [(item.part, item.reason) for item in Parked(self.stores).list(limit=10_000)]

    # Plugins in a shell pipe

    def config_of(self, plugin: str) -> dict[str, Any]:
        """The settings that a plugin needs here, as its ``--config`` file has them."""
        variables = {
            "tap-messenger": ("page_id", "app_id", "access_token", "api_url", "account_link_secret"),
            "tap-hubspot": ("access_token", "portal_id", "api_url"),
            "target-hubspot": ("access_token", "portal_id", "api_url"),
        }.get(plugin, ())
        prefix = f"ONETHREAD_{plugin.partition('-')[2].upper()}_"
        values: dict[str, Any] = {name: self.environment[f"{prefix}{name.upper()}"] for name in variables}
        if plugin == "tap-email":
            names = {"host": "HOST", "port": "PORT", "ssl": "SSL", "user": "USER", "password": "PASSWORD"}
            values = {name: self.environment[f"ONETHREAD_EMAIL_{variable}"] for name, variable in names.items()}
            values |= {"port": int(values["port"]), "ssl": values["ssl"] == "true"}
        if plugin == "target-hubspot":
            values |= {"retry_wait_seconds": 0.05, "settle_wait_seconds": 0.1}
        return {"state_url": self.state_url, **values}

    def pipe(self, *plugins: str, keep_state: bool = True) -> Piped:
        """Run ``tap | mapper | target`` in a shell, from where the same pipe ended when it ran last.

        Args:
            keep_state: start from the last STATE of the same pipe; without it, from the beginning.
        """
        stages = []
        for plugin in plugins:
            config = self.folder / f"{plugin}.json"
            config.write_text(json.dumps(self.config_of(plugin)), encoding="utf-8")
            stages.append(f"{plugin} --config {shlex.quote(str(config))}")
        state = self.states.get(plugins) if keep_state else None
        if state is not None:
            path = self.folder / "state.json"
            path.write_text(json.dumps(state), encoding="utf-8")
            stages[0] += f" --state {shlex.quote(str(path))}"
        done = self.shell(" | ".join(stages))
        lines = done.stdout.splitlines()
        if lines:
            self.states[plugins] = json.loads(lines[-1])
        return Piped(json.loads(lines[-1]) if lines else None, done.stderr, done.returncode)

    def play(self, *plugins: str, **settings: Any) -> OneThreadError | None:
        """The same as `pipe` without a shell, in this process and so much faster; the error that ended it, if any.

        Args:
            plugins: names, tap first.
            settings: of the last plugin, in addition.
        """
        classes = plugin_classes()
        lines, error = "", None
        for plugin in plugins:
            config = self.config_of(plugin) | (settings if plugin == plugins[-1] else {})
            with contextlib.redirect_stdout(io.StringIO()) as output:
                try:
                    if plugin.startswith("tap-"):
                        classes[plugin](config=config, state=self.states.get(plugins)).sync_all()
                    else:
                        classes[plugin](config=config).listen(io.StringIO(lines))
                except OneThreadError as caught:
                    error = caught
            lines = output.getvalue()
        if lines:
            self.states[plugins] = json.loads(lines.splitlines()[-1])
        return error

    def read_in(self) -> None:
        """What the platforms delivered, into the archive."""
        for tap in ("tap-whatsapp", "tap-messenger"):
            error = self.play(tap, "map-identity", "target-archive")
            if error is not None:
                raise error

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line in the shop's environment; a failing part of a pipe fails the pipe."""
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], cwd=self.folder, env=self.environment, umask=0o077,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    # Meltano and the command

    def write_project(self) -> None:
        """The project's meltano.yml, as `onethread init` would write it."""
        (self.folder / "meltano.yml").write_text(meltano_yml(), encoding="utf-8")

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command of our environment, in a process group of its own, its output to ``output.log``."""
        with (self.folder / "output.log").open("ab") as file:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip

    def run(self, *command: str) -> int:
        """Run a command to its end; the exit code."""
        return self.start(*command).wait(timeout=150)

    def meltano(self, *arguments: str) -> int:
        """Run ``meltano ...``."""
        return self.run("meltano", *arguments)

    def onethread(self, *arguments: str) -> int:
        """Run ``onethread ...``."""
        return self.run("onethread", *arguments)

    @property
    def output(self) -> str:
        """All that commands have printed so far."""
        path = self.folder / "output.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


@contextmanager
def open_shop(folder: Path, heir_of: Shop | None = None, *, full: bool = False) -> Iterator[Shop]:
    """A shop whose HubSpot is set up; the receiver does not run yet.

    Args:
        heir_of: take over what this shop has read so far, and its WhatsApp.
        full: with the stand-ins of all platforms.
    """
    with ExitStack() as stack:
        shop = Shop(folder, stack, heir_of, full=full)
        shop.set_up_hubspot()
        yield shop


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 a process and all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(condition: Callable[[], bool], timeout_seconds: float = 60) -> None:
    """Until `condition` holds; raises `TimeoutError` when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def files_with(folder: Path, words: Iterable[str]) -> dict[str, list[str]]:
    """Which of `words` stand in clear in which files below `folder`."""
    wanted = list(words)
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            hits = [word for word in wanted if word.encode() in content]
            if hits:
                found[str(path.relative_to(folder))] = hits
    return found
