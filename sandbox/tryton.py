"""A real Tryton server on this machine: installed into an environment of its own, never imported by us.

Tryton is under the GPL; it runs as a process of its own that is spoken to over the network, as a company's own server
would be. Sources: docs.tryton.org (trytond, topics install, setup_database and start_server) and trytond 8.2.1, read
2026-11 and observed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import requests

from mappings.from_tryton import result_from_tryton
from mappings.to_tryton import call_for_tryton

PACKAGES = ("trytond==8.2.1", "trytond-party==8.2.0")
DATABASE = "crm"
ADMIN = "admin"
USERNAME = "onethread"
AGENT = "agent"
_ROOT = Path(__file__).parent.parent
ENVIRONMENT = _ROOT / ".venvs" / "tryton"
_FRESH = ENVIRONMENT / "fresh"
"""A database as every new server gets it: making one takes half a minute."""


class TrytonMissingError(Exception):
    """Tryton is not installed and cannot be had here; says why."""


def install(environment: Path = ENVIRONMENT) -> Path:
    """The environment's folder of commands; installs Tryton from PyPI on first use (some 20 s, 80 MB).

    Raises:
        TrytonMissingError: the package index cannot be reached.

    Repeats: harmless, also by several processes at once.
    """
    commands = environment / "bin"
    mark = environment / "made-from"
    wanted = " ".join(PACKAGES)
    environment.parent.mkdir(exist_ok=True)
    with (environment.parent / "tryton.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.exists() and mark.read_text() == wanted:
            return commands
        python = str(commands / "python")
        try:
            _run([sys.executable, "-m", "venv", "--clear", str(environment)], timeout=120)
            _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            reason = (getattr(error, "stderr", None) or str(error)).strip()[-300:]
            msg = f"Tryton cannot be installed here: {reason}"
            raise TrytonMissingError(msg) from None
        mark.write_text(wanted)
    return commands


class TrytonServer:
    """One Tryton server with a database that has the module ``party``, three users, and an empty address book.

    Users: ``admin``; ``onethread``, the one we log in as; ``agent``, a person of the shop. All with `password`.

    Args:
        folder: where the database is; one that is there is used again.
        port: to listen on, on loopback; 0 takes a free one.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self._port = port or _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.password = ""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def process_id(self) -> int | None:
        """Of the running server."""
        return self._process.pid if self._process else None

    def start(self) -> TrytonServer:
        """Install and make a database on first use, and serve; returns when it answers.

        Raises:
            TrytonMissingError: Tryton cannot be installed here.
            TimeoutError: it did not start; its log is in the folder.
        """
        commands = install()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (self.folder / "ready").exists():
            _copy_fresh(commands, self.folder)
        self.password = (self.folder / "password").read_text()
        self._serve(commands)
        return self

    def _serve(self, commands: Path) -> None:
        config = self._write_config()
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(commands / "trytond"), "-c", str(config), "-d", DATABASE],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._wait()

    def _write_config(self) -> Path:
        config = self.folder / "trytond.conf"
        config.write_text(
            f"[database]\nuri = sqlite://\npath = {self.folder}\n\n[web]\nlisten = 127.0.0.1:{self._port}\n"
        )
        return config

    def make(self, commands: Path) -> None:
        """Make the database and its users from nothing."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(16))
        self.password = password.read_text()
        self._make_database(commands, self._write_config())
        try:
            self._serve(commands)
            self._make_users()
        finally:
            self.stop()
        (self.folder / "ready").touch()

    def stop(self) -> None:
        """End the server; the database stays."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def __enter__(self) -> TrytonServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """The variables that connect onethread to it."""
        return {
            "ONETHREAD_TRYTON_URL": self.url,
            "ONETHREAD_TRYTON_DATABASE": DATABASE,
            "ONETHREAD_TRYTON_USERNAME": USERNAME,
            "ONETHREAD_TRYTON_PASSWORD": self.password,
        }

    def log_in(self, username: str = AGENT) -> TrytonUser:
        """A session of one of its users."""
        return TrytonUser(self.url, username, self.password)

    def _make_database(self, commands: Path, config: Path) -> None:
        (self.folder / f"{DATABASE}.sqlite").unlink(missing_ok=True)
        (self.folder / f"{DATABASE}.sqlite").touch(mode=0o600)
        environment = {**os.environ, "TRYTONPASSFILE": str(self.folder / "password")}
        admin = [str(commands / "trytond-admin"), "-c", str(config), "-d", DATABASE]
        try:
            _run([*admin, "--all", "--email", "admin@shop.example"], timeout=300, environment=environment)
            _run([*admin, "-u", "party", "--activate-dependencies"], timeout=300, environment=environment)
        except subprocess.SubprocessError as error:
            msg = f"Tryton's database could not be made: {getattr(error, 'stderr', None) or error}"
            raise TimeoutError(msg) from None

    def _make_users(self) -> None:
        admin = self.log_in(ADMIN)
        # Without it the first client to log in is led through an assistant that adds modules and users.
        for item in admin.call("model.ir.module.config_wizard.item.search", [["state", "=", "open"]], 0, None, None):
            admin.call("model.ir.module.config_wizard.item.write", [item], {"state": "done"})
        group = admin.call("model.ir.model.data.get_id", "party", "group_party_admin")
        users = {USERNAME: "onethread", AGENT: "Alex Agent"}
        admin.call(
            "model.res.user.create",
            [
                {"login": login, "name": name, "password": self.password, "groups": [["add", [group]]]}
                for login, name in users.items()
            ],
        )

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                body = call_for_tryton("common.server.version", ())
                if requests.post(f"{self.url}/rpc/", json=body, timeout=5).status_code == 200:
                    return
            except requests.RequestException:
                time.sleep(0.1)
        self.stop()
        msg = f"Tryton did not start; see {self.folder / 'server.log'}"
        raise TimeoutError(msg)


class TrytonUser:
    """Somebody who is logged in: does what a client would do for a person."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self._url = f"{url}/{DATABASE}/rpc/"
        self._session = requests.Session()
        user_id, session, *_ = self._post(
            "common.db.login", call_for_tryton("common.db.login", (username, {"password": password}, "en"))
        )
        self.user_id: int = user_id
        self._session.auth = _SessionAuth(f"{username}:{user_id}:{session}")

    def call(self, method: str, *parameters: Any, **context: Any) -> Any:
        """One call."""
        return self._post(method, call_for_tryton(method, parameters, context))

    def search_read(self, model: str, domain: list[Any], fields: list[str]) -> list[dict[str, Any]]:
        """Rows, archived ones too, by id."""
        found: list[dict[str, Any]] = self.call(
            f"model.{model}.search_read", domain, 0, None, [["id", "ASC"]], fields, active_test=False
        )
        return found

    def add_party(self, name: str, **mechanisms: str) -> str:
        """A new party with contact mechanisms, by their type; its id."""
        rows = [{"type": kind, "value": value} for kind, value in mechanisms.items()]
        values = {"name": name, "contact_mechanisms": [["create", rows]]} if rows else {"name": name}
        return str(self.call("model.party.party.create", [values])[0])

    def add_note(self, party_id: str, text: str) -> str:
        """A note on a party; its id."""
        values = {"resource": f"party.party,{party_id}", "message": text}
        return str(self.call("model.ir.note.create", [values])[0])

    def notes(self, party_id: str) -> list[dict[str, Any]]:
        """The notes on a party, in the order in which they were made."""
        domain = [["resource", "=", f"party.party,{party_id}"]]
        return self.search_read("ir.note", domain, ["message", "resource", "create_uid"])

    def _post(self, method: str, body: dict[str, Any]) -> Any:
        answer = self._session.post(self._url, json=body, timeout=120)
        answer.raise_for_status()
        return result_from_tryton(method, answer.json())


class _SessionAuth(requests.auth.AuthBase):
    """Tryton's session as a header."""

    def __init__(self, session: str) -> None:
        import base64

        self._header = f"Session {base64.b64encode(session.encode()).decode()}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


def _copy_fresh(commands: Path, folder: Path) -> None:
    """Put a fresh database into a folder; it is made once for all."""
    with (ENVIRONMENT.parent / "tryton.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (_FRESH / "ready").exists():
            shutil.rmtree(_FRESH, ignore_errors=True)
            TrytonServer(_FRESH).make(commands)
        _copy_database(_FRESH, folder / f"{DATABASE}.sqlite")
        for name in ("password", "ready"):
            shutil.copy(_FRESH / name, folder / name)


def _copy_database(source: Path, to: Path) -> None:
    """By SQLite itself: part of a database can be in the files beside it."""
    to.unlink(missing_ok=True)
    to.touch(mode=0o600)
    with closing(sqlite3.connect(source / f"{DATABASE}.sqlite")) as old, closing(sqlite3.connect(to)) as new:
        old.backup(new)


def _run(command: list[str], *, timeout: float, environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout, env=environment)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
