"""``onethread doctor``: is everything that is configured also in order? Looks and asks; changes nothing.

Each account of each platform is asked through its own tap's `check`, with the settings that a run would have.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from console.generate import CRMS, plugin_classes
from mappings.errors import OneThreadError, SettingsError
from mappings.http import redact
from mappings.platforms import Platform
from mappings.settings import environment_prefix, tap_config_from_environment
from stores.codec import Codec
from stores.database import DEFAULT_STATE_URL, Stores, folder_of
from stores.tokens import Tokens
from taps.base import Check, OneThreadTap
from taps.channels import configured_accounts
from taps.webhooks.receiver import ReceiverSettings, build_routes

_MACHINE = "this machine"
_READY_SECONDS = 10
_MARKS = {True: "ok", False: "FAILED", None: "unknown"}
_WIDTHS = (9, 20, 20)


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and where it belongs: an account (``whatsapp``, ``whatsapp/shop2``), or this machine."""

    account: str
    check: Check

    def line(self) -> str:
        """For a person: mark, account, what, detail, and what to do about it."""
        cells = (_MARKS[self.check.ok], self.account, self.check.what)
        aligned = "".join(f"{cell:<{width - 1}} " for cell, width in zip(cells, _WIDTHS, strict=True))
        fix = f"  ->  {self.check.fix}" if self.check.fix and self.check.ok is not True else ""
        return f"{aligned}{self.check.detail}{fix}"

    def values(self) -> dict[str, Any]:
        """For a program."""
        check = self.check
        return {"account": self.account, "what": check.what, "ok": check.ok, "detail": check.detail, "fix": check.fix}


def examine(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Everything, one finding after the other, as soon as it is known."""
    for check in _guarded("state", lambda: _machine(environment)):
        yield Finding(_MACHINE, check)
    for check in _guarded("receiver", lambda: _receiver(environment)):
        yield Finding("receiver", check)
    yield from _accounts(environment)


# This machine


def _machine(environment: Mapping[str, str]) -> Iterator[Check]:
    yield _meltano()
    url = environment.get("ONETHREAD_STATE_URL") or DEFAULT_STATE_URL
    if url.startswith(("postgresql://", "postgres://")):
        stored: set[str] = set()
        yield from _guarded("PostgreSQL", lambda: _postgresql(url, stored))
        state = folder_of(environment.get("ONETHREAD_STATE_FOLDER") or DEFAULT_STATE_URL)
    else:
        state = folder_of(url)
        stored = {path.stem for path in state.glob("*.db")}
    if not state.is_dir():
        yield Check("state folder", ok=None, detail=f"{state} is not there yet", fix="the first run makes it")
        return
    mode = state.stat().st_mode & 0o777
    usable = os.access(state, os.R_OK | os.W_OK | os.X_OK)
    if not usable:
        yield Check("state folder", ok=False, detail=f"{state} cannot be written", fix="run as the user who owns it")
    else:
        fix = f"chmod 700 {state}" if mode & 0o077 else ""
        yield Check("state folder", ok=not mode & 0o077, detail=f"{state}, mode {mode:o}", fix=fix)
    yield _free_disk(state)
    yield from _guarded("key file", lambda: _key_file(state, environment, in_use=bool(stored)))
    if usable and "tokens" in stored:
        yield from _guarded("tokens", _tokens)


def _postgresql(url: str, stored: set[str]) -> Iterator[Check]:
    """Whether the server lets us in; puts the names of the stores that it has into `stored`."""
    try:
        import psycopg

        from stores.postgres import connect
    except ImportError:
        yield Check("PostgreSQL", ok=False, detail="psycopg is missing", fix="pip install 'onethread[postgresql]'")
        return
    host = urlsplit(url).hostname or "the local socket"
    try:
        with connect(url, None) as connection:
            rows = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'onethread%'").fetchall()
    except psycopg.Error as error:
        detail = f"{host} does not answer ({type(error).__name__})"
        yield Check("PostgreSQL", ok=False, detail=detail, fix="is it running, and may this role log in?")
        return
    stored |= {str(row[0]).removeprefix("onethread_") for row in rows}
    yield Check("PostgreSQL", ok=True, detail=f"{host}, {len(stored)} stores")


def _meltano() -> Check:
    try:
        version = metadata.version("meltano")
    except metadata.PackageNotFoundError:
        return Check("Meltano", ok=False, detail="not in this environment", fix="pip install 'meltano>=4.4,<5'")
    command = Path(sys.executable).with_name("meltano")
    if not command.exists() and shutil.which("meltano") is None:
        return Check("Meltano", ok=False, detail=f"{version}, but no command `meltano`", fix="install it again")
    if not Path("meltano.yml").exists():
        return Check("Meltano", ok=None, detail=f"{version}; no meltano.yml in this folder", fix="onethread init")
    return Check("Meltano", ok=True, detail=version)


def _free_disk(state: Path) -> Check:
    disk = shutil.disk_usage(state)
    limits = ReceiverSettings()
    needed = max(limits.minimum_free_bytes, disk.total * limits.minimum_free_percent / 100)
    enough = disk.free > needed
    detail = f"{disk.free // 2**20} MiB free of {disk.total // 2**20}"
    fix = f"below {needed // 2**20:.0f} MiB webhooks are answered 503: make room" if not enough else ""
    return Check("free disk", ok=enough, detail=detail, fix=fix)


def _key_file(state: Path, environment: Mapping[str, str], *, in_use: bool) -> Iterator[Check]:
    path = Path(environment.get("ONETHREAD_KEY_FILE") or state / "key.json")
    if not path.exists() and not in_use:
        yield Check("key file", ok=None, detail=f"{path} is not there yet", fix="the first run makes it")
        return
    Codec.from_key_file(path, create=False)
    yield Check("key file", ok=True, detail=f"{path}; without it nothing that is stored can be read: keep a copy")


def _tokens() -> Iterator[Check]:
    stores = Stores()
    try:
        for one in Tokens(stores).listing():
            fix = f"log in again, then: onethread tokens set {one.name}"
            if one.refreshing_since is not None:
                since = f"{one.refreshing_since:%Y-%m-%d %H:%M} UTC"
                yield Check("token", ok=None, detail=f"{one.name}: a refresh was cut off at {since}", fix=fix)
            elif one.expires_at is not None and one.expires_at < datetime.now(UTC) and not one.refreshable:
                yield Check("token", ok=False, detail=f"{one.name} ended {one.expires_at:%Y-%m-%d}", fix=fix)
            else:
                ends = f"until {one.expires_at:%Y-%m-%d %H:%M} UTC" if one.expires_at else "end not known"
                yield Check("token", ok=True, detail=f"{one.name} {ends}")
    finally:
        stores.close()


# The receiver


def _receiver(environment: Mapping[str, str]) -> Iterator[Check]:
    """What `onethread receive` would serve, and whether the platforms can reach it."""
    if not any(platform.webhook for platform, _ in configured_accounts(environment)):
        return
    try:
        served = sorted("/".join(route) for route in build_routes())
        yield Check("webhooks", ok=True, detail=f"{', '.join(served)}")
    except SettingsError as error:
        none = "no webhook can be served" in str(error)
        fix = "" if none else "set the missing secrets"
        yield Check("webhooks", ok=None if none else False, detail=str(error), fix=fix)
    url = environment.get("ONETHREAD_RECEIVER_PUBLIC_URL")
    if not url:
        yield Check(
            "address", ok=None, detail="ONETHREAD_RECEIVER_PUBLIC_URL is not set", fix="set it to have it asked"
        )
        return
    yield _reachable(url.rstrip("/"))


def _reachable(url: str) -> Check:
    parts = urlsplit(url)
    try:
        status = requests.get(f"{url}/ready", timeout=_READY_SECONDS, allow_redirects=False).status_code
    except requests.RequestException as error:
        fix = "start `onethread receive`; look at the proxy, DNS and the certificate"
        return Check("address", ok=False, detail=f"{parts.netloc} does not answer ({type(error).__name__})", fix=fix)
    if status == 200:
        plain = parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}
        fix = "platforms want HTTPS: put TLS in front" if plain else ""
        return Check("address", ok=not plain, detail=f"{url} is ready", fix=fix)
    if status == 503:
        return Check("address", ok=False, detail=f"{url} cannot store now", fix="see the receiver's log and the disk")
    fix = "let the proxy pass /ready to have it asked from here"
    return Check("address", ok=None, detail=f"{url}/ready answered {status}: something is there", fix=fix)


# The accounts


def _accounts(environment: Mapping[str, str]) -> Iterator[Finding]:
    accounts = configured_accounts(environment)
    crms = [crm for crm in CRMS if _is_configured(f"tap-{crm}", environment)]
    if not accounts and not crms:
        detail, fix = "none is configured", "set the variables of one, see .env.example"
        yield Finding("channels", Check("accounts", ok=None, detail=detail, fix=fix))
    for platform, route in accounts:
        name = f"{platform.slug}/{route}" if route else platform.slug
        for check in _guarded("tap", lambda: _ask(_tap_class(platform), environment, route)):  # noqa: B023 (used at once)
            yield Finding(name, check)
    for crm in crms:
        for check in _guarded("tap", lambda: _ask(plugin_classes()[f"tap-{crm}"], environment, None)):  # noqa: B023
            yield Finding(crm, check)


def _tap_class(platform: Platform) -> type[OneThreadTap[Any]]:
    found: type[OneThreadTap[Any]] = platform.load("tap")
    return found


def _ask(cls: type[OneThreadTap[Any]], environment: Mapping[str, str], route: str | None) -> Iterator[Check]:
    config = tap_config_from_environment(cls.name, cls.settings_model, environment, route)
    # Our own error names each wrong field; the SDK's would quote values.
    tap = cls(config=config, validate_config=False)
    try:
        yield from tap.check()
    finally:
        if "stores" in tap.__dict__:
            tap.stores.close()


def _is_configured(plugin: str, environment: Mapping[str, str]) -> bool:
    prefix = environment_prefix(plugin)
    return any(name.startswith(prefix) and value for name, value in environment.items())


def _guarded(what: str, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The checks; one that raises is a failed one that says why. No secret is in what is said."""
    try:
        for check in checks():
            yield Check(check.what, check.ok, redact(check.detail), check.fix)
    except OneThreadError as error:
        yield Check(what, ok=False, detail=redact(f"{type(error).__name__}: {error}"))
    except Exception as error:  # noqa: BLE001 (one broken part must not hide the others; its text may hold secrets)
        yield Check(what, ok=False, detail=f"the check itself failed with {type(error).__name__}", fix="report this")
