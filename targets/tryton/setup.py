"""Looks whether a Tryton database is ready. Creates nothing: parties and notes are all that onethread needs there."""

from __future__ import annotations

from mappings.errors import CredentialsError, OneThreadError, RejectedError, SettingsError
from mappings.from_tryton import PLATFORM
from stores.database import Stores
from targets.tryton.api import IDENTIFIER, MECHANISM, NOTE, PARTY, TrytonApi
from targets.tryton.settings import TrytonTargetSettings

_FIRST_SERIES = 8
"""The address of a database's calls, ``/<database>/rpc/``, is that of series 8 (observed on 8.2; 7 has another)."""
_NEEDED = {PARTY: ("read", "write", "create"), MECHANISM: ("read", "write", "create"),
           IDENTIFIER: ("read", "write", "create", "delete"), NOTE: ("read", "write", "create", "delete")}  # fmt: skip
_WIZARDS = {"party.erase": "erase persons", "party.replace": "replace parties (crm_merge)"}


def setup_tryton(settings: TrytonTargetSettings, stores: Stores, *, dry_run: bool = False) -> list[str]:
    """Check server, login, module and rights, one line for each; `dry_run` is the same: nothing is changed anyway.

    Raises:
        SettingsError: no such server or database, too old a server, or the module ``party`` is not activated.
        CredentialsError: the login is refused, or the user may not do something that is needed.
    """
    del dry_run
    api = TrytonApi(settings, stores)
    lines = [_check_version(api), f"login: works, user {api.user_id} ({settings.username})"]
    lines += _check_access(api)
    lines += [_check_wizard(api, name, what, settings) for name, what in _WIZARDS.items()]
    return lines


def _check_version(api: TrytonApi) -> str:
    version = api.server_version()
    series = version.partition(".")[0]
    if not series.isdigit() or int(series) < _FIRST_SERIES:
        msg = f"{PLATFORM}: the server is of series {version}; {_FIRST_SERIES}.0 or later is needed"
        raise SettingsError(msg)
    return f"server: series {version}"


def _check_access(api: TrytonApi) -> list[str]:
    lines = []
    try:
        api.search_read(PARTY, [["id", "=", 0]], ["name", "replaced_by"])
    except RejectedError:
        msg = f"{PLATFORM}: the database has no parties; activate the module `party`"
        raise SettingsError(msg) from None
    access = api.call("model.ir.model.access.get_access", list(_NEEDED))
    for model, modes in _NEEDED.items():
        rights = access.get(model) if isinstance(access, dict) else None
        missing = [mode for mode in modes if isinstance(rights, dict) and not rights.get(mode)]
        if missing:
            msg = f"{PLATFORM}: the user may not {' or '.join(missing)} {model}; put it into a group that may"
            raise CredentialsError(msg)
        lines.append(f"access: {model}: {', '.join(modes)}")
    return lines


def _check_wizard(api: TrytonApi, name: str, what: str, settings: TrytonTargetSettings) -> str:
    """Whether the user may start a wizard; it is started and ended at once, which changes nothing."""
    try:
        session_id = api.call(f"wizard.{name}.create")[0]
        api.call(f"wizard.{name}.delete", session_id)
    except OneThreadError as error:
        group = "put the user into the group Party Administration"
        if name == "party.replace" and not settings.crm_merge:
            return f"wizard {name}: not allowed, and not needed while crm_merge is off"
        if name == "party.erase":
            return f"wizard {name}: not allowed; needed to {what}: {group}"
        msg = f"{PLATFORM}: the user may not start the wizard {name}, needed to {what}; {group}"
        raise CredentialsError(msg) from error
    return f"wizard {name}: allowed"
