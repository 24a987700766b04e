"""Tryton's JSON-RPC as this target uses it: a timeout on every call, bounded retries, a batch told apart by record.

Every call is one transaction: it is carried out whole or not at all (trytond 8.2.1, ``protocols/dispatcher.py``, read
2026-11; observed). So a refused batch is halved until the rows that are to blame stand alone, and a call that was
undone can be made again. Nothing of Tryton is imported: its licence is its own, and it runs elsewhere.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import requests

from mappings.errors import (
    CredentialsError,
    MissingFieldError,
    OutcomeUnknownError,
    RateLimitedError,
    RejectedError,
    SettingsError,
    UnavailableError,
)
from mappings.from_tryton import PLATFORM, result_from_tryton, status_error
from mappings.http import retry_after_seconds
from mappings.to_tryton import call_for_tryton
from stores.control import Pauses
from stores.database import Stores
from stores.patience import with_patience
from targets.tryton.settings import TrytonTargetSettings

PARTY = "party.party"
MECHANISM = "party.contact_mechanism"
IDENTIFIER = "party.identifier"
NOTE = "ir.note"
ATTACHMENT = "ir.attachment"

Row = dict[str, Any]

_IDS_PER_SEARCH = 1000
# Archived parties and mechanisms count everywhere: what somebody archived must not be made again.
_WITH_INACTIVE = {"active_test": False}
_DEFAULT_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class Created:
    """What came of creating rows, by their keys: ids, refusals, and what nobody knows."""

    ids: dict[str, str] = field(default_factory=dict)
    refused: dict[str, RejectedError] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


class TrytonApi:
    """Calls one Tryton database.

    Errors of a call: `CredentialsError`, `SettingsError` (no such database), `RateLimitedError`, `UnavailableError`
    after the last try, `RejectedError`, and `OutcomeUnknownError` only where `repeatable` is false.

    Attributes:
        calls: how many calls were made, for the log and the tests.
    """

    def __init__(self, settings: TrytonTargetSettings, stores: Stores) -> None:
        self._settings = settings
        self._account = f"tryton:{settings.account_name}"
        self._pauses = Pauses(stores)
        self._session = requests.Session()
        self._user_id: int | None = None
        self.calls: dict[str, int] = {}
        self._persist = with_patience(self._call_once, settings)

    @property
    def user_id(self) -> int:
        """Our own user; logs in when that has not happened yet."""
        if self._user_id is None:
            self._persist("common.db.login", (), None, True)
        if self._user_id is None:
            msg = f"{PLATFORM}: the login gave no user"
            raise MissingFieldError(msg)
        return self._user_id

    def server_version(self) -> str:
        """The server's series, ``8.2``; asked without a login."""
        body = call_for_tryton("common.server.version", ())
        endpoint = "common.server.version"
        return str(result_from_tryton(endpoint, self._post("rpc/", body, endpoint, repeatable=True)))

    def call(
        self, method: str, *parameters: Any, context: Mapping[str, Any] | None = None, repeatable: bool = True
    ) -> Any:
        """One call; logs in first where that is needed.

        Args:
            method: e.g. ``model.ir.note.create``.
            parameters: its own, without the context.
            context: of the transaction; our language is English, so that refusals can be understood.
            repeatable: whether it may be made again when nobody knows what came of it.
        """
        _ = self.user_id
        return self._persist(method, parameters, {"language": "en", **(context or {})}, repeatable)

    # What this target needs, by purpose

    def search_read(self, model: str, domain: Sequence[Any], fields: Sequence[str]) -> list[Row]:
        """All rows that match, archived ones too, by ascending id."""
        rows = self.call(
            f"model.{model}.search_read", list(domain), 0, None, [["id", "ASC"]], list(fields), context=_WITH_INACTIVE
        )
        return [row for row in rows or [] if isinstance(row, dict) and isinstance(row.get("id"), int)]

    def read_where(
        self, model: str, name: str, values: Iterable[Any], fields: Sequence[str], more: Sequence[Any] = ()
    ) -> list[Row]:
        """Rows whose field is one of `values` (and that match `more`), in as many calls as it takes."""
        found: list[Row] = []
        for chunk in chunks(list(dict.fromkeys(values)), _IDS_PER_SEARCH):
            found += self.search_read(model, [[name, "in", list(chunk)], *more], fields)
        return found

    def create_each(
        self, model: str, rows: Mapping[str, Row], settled: Callable[[Created], None] = lambda _: None
    ) -> Created:
        """Create rows; each has an id, is refused, or nobody knows. `settled` is told after each call."""
        whole = Created()
        for chunk in chunks(list(rows), self._settings.rows_per_call):
            for part in self._create_chunk(model, {key: rows[key] for key in chunk}):
                settled(part)
                whole.ids |= part.ids
                whole.refused |= part.refused
                whole.unknown += part.unknown
        return whole

    def _create_chunk(self, model: str, rows: Mapping[str, Row]) -> Iterator[Created]:
        keys = list(rows)
        try:
            made = self.call(f"model.{model}.create", list(rows.values()), repeatable=False)
        except OutcomeUnknownError:
            yield Created(unknown=keys)
            return
        except RejectedError as error:
            if len(keys) == 1:
                yield Created(refused={keys[0]: error})
                return
            middle = len(keys) // 2
            for half in (keys[:middle], keys[middle:]):
                yield from self._create_chunk(model, {key: rows[key] for key in half})
            return
        if not isinstance(made, list) or len(made) != len(keys):
            yield Created(unknown=keys)  # whatever it was, it is read back
        else:
            yield Created(ids={key: str(one) for key, one in zip(keys, made, strict=True)})  # in their order (observed)

    def write_each(self, model: str, updates: Mapping[str, Row]) -> dict[str, RejectedError]:
        """Write values on records, id by id; why some were refused.

        Raises:
            UnavailableError: nobody knows what came of it. The next run reads before it writes, so nothing doubles.
        """
        refused: dict[str, RejectedError] = {}
        for chunk in chunks(list(updates), self._settings.rows_per_call):
            refused |= self._write_chunk(model, {key: updates[key] for key in chunk})
        return refused

    def _write_chunk(self, model: str, updates: Mapping[str, Row]) -> dict[str, RejectedError]:
        keys = list(updates)
        arguments = [part for key in keys for part in ([int(key)], updates[key])]
        try:
            self.call(f"model.{model}.write", *arguments, repeatable=False)
        except OutcomeUnknownError as error:
            raise UnavailableError(str(error)) from None
        except RejectedError as error:
            if len(keys) == 1:
                return {keys[0]: error}
            middle = len(keys) // 2
            halves = (keys[:middle], keys[middle:])
            return {
                key: why
                for half in halves
                for key, why in self._write_chunk(model, {one: updates[one] for one in half}).items()
            }
        return {}

    def write_all(self, model: str, record_ids: Iterable[str], values: Row) -> None:
        """The same values on several records; again is harmless."""
        for chunk in chunks(list(record_ids), self._settings.rows_per_call):
            self.call(f"model.{model}.write", [int(one) for one in chunk], values)

    def delete(self, model: str, record_ids: Iterable[str]) -> None:
        """Delete records; those that are gone already are no error."""
        for chunk in chunks(list(record_ids), self._settings.rows_per_call):
            wanted = [int(one) for one in chunk]
            try:
                self.call(f"model.{model}.delete", wanted)
            except RejectedError:
                # One that somebody deleted must not keep the others.
                there = [row["id"] for row in self._existing(model, wanted)]
                if there == wanted:
                    raise
                if there:
                    self.call(f"model.{model}.delete", there)

    def _existing(self, model: str, record_ids: Sequence[int]) -> list[Row]:
        """Those of the records that are there, read one by one where a search needs to know the party."""
        found = []
        for one in record_ids:
            try:
                found += self.call(f"model.{model}.read", [one], ["id"])
            except RejectedError:
                continue
        return found

    def run_wizard(self, name: str, party_id: str, data: Mapping[str, Any], state: str) -> None:
        """Run a wizard of parties to its end, warnings acknowledged.

        Args:
            name: ``party.replace`` or ``party.erase``.
            party_id: the party that it is started on.
            data: what is filled in.
            state: the button that is pressed.
        """
        context = {"active_model": PARTY, "active_id": int(party_id), "active_ids": [int(party_id)]}
        session_id = self.call(f"wizard.{name}.create", context=context)[0]
        try:
            for _ in range(5):  # each warning is told once
                try:
                    self.call(f"wizard.{name}.execute", session_id, dict(data), state, context=context)
                except RejectedError as error:
                    if error.code is None or not error.code.startswith(f"{name} "):
                        raise
                    self.call("model.res.user.warning.skip", error.code)
                else:
                    return
            msg = f"{PLATFORM}: the wizard {name} keeps warning"
            raise RejectedError(msg)
        finally:
            self.call(f"wizard.{name}.delete", session_id, context=context)

    # One call

    def _call_once(
        self, method: str, parameters: Sequence[Any], context: Mapping[str, Any] | None, repeatable: bool
    ) -> Any:
        left = self._pauses.seconds_left(self._account)
        if left:
            raise RateLimitedError(f"{PLATFORM}: paused", retry_after_seconds=left)
        if method == "common.db.login":
            self._log_in()
            return None
        for attempt in range(2):
            try:
                return self._ask(method, call_for_tryton(method, parameters, context), repeatable=repeatable)
            except _SessionOverError:
                if attempt:
                    break
                self._log_in()
        msg = f"{PLATFORM}: {method} is refused right after the login; check the user's rights"
        raise CredentialsError(msg)

    def _ask(self, method: str, body: Row, *, repeatable: bool) -> Any:
        path = f"{self._settings.database}/rpc/"
        return result_from_tryton(method, self._post(path, body, method, repeatable=repeatable))

    def _log_in(self) -> None:
        secret = self._settings.password.get_secret_value()
        self._session.headers.pop("Authorization", None)
        body = call_for_tryton("common.db.login", (self._settings.username, {"password": secret}, "en"))
        try:
            result = self._ask("common.db.login", body, repeatable=True)
        except _SessionOverError:
            msg = f"{PLATFORM}: username or password is refused"
            raise CredentialsError(msg) from None
        if not isinstance(result, list) or len(result) < 2 or not isinstance(result[0], int):
            msg = f"{PLATFORM}: the login answered without a session"
            raise MissingFieldError(msg)
        self._user_id = result[0]
        session = f"{self._settings.username}:{result[0]}:{result[1]}".encode()
        self._session.headers["Authorization"] = f"Session {base64.b64encode(session).decode()}"

    def _post(self, path: str, body: Row, endpoint: str, *, repeatable: bool) -> Any:
        self.calls[endpoint] = self.calls.get(endpoint, 0) + 1
        url = f"{self._settings.url.rstrip('/')}/{path}"
        try:
            answer = self._session.post(url, json=body, timeout=self._settings.timeout_seconds, allow_redirects=False)
        except requests.exceptions.ConnectTimeout:
            raise UnavailableError(f"{PLATFORM}: no connection; check url") from None
        except requests.RequestException as error:
            refused = isinstance(error, requests.ConnectionError) and "NewConnectionError" in repr(error)
            msg = f"{PLATFORM}: {endpoint} gave no answer ({type(error).__name__})"
            raise (UnavailableError if repeatable or refused else OutcomeUnknownError)(msg) from None
        if answer.status_code == 200:
            try:
                return answer.json()
            except ValueError:
                msg = f"{PLATFORM}: {endpoint} answered without JSON; check url"
                raise (MissingFieldError if repeatable else OutcomeUnknownError)(msg) from None
        raise self._status_error(endpoint, answer, repeatable=repeatable)

    def _status_error(self, endpoint: str, answer: requests.Response, *, repeatable: bool) -> Exception:
        status = answer.status_code
        if status == 401:
            return _SessionOverError()
        if 300 <= status < 400:
            return SettingsError(f"{PLATFORM}: {endpoint} was redirected; set url to where the server answers itself")
        wait = retry_after_seconds(answer.headers.get("Retry-After"), datetime.now(UTC))
        if status == 429:
            wait = _DEFAULT_PAUSE_SECONDS if wait is None else wait
            self._pauses.pause(self._account, wait)
            logging.getLogger(__name__).info("Tryton asks for a pause of %.0f s", wait)
        error = status_error(endpoint, status, wait)
        if isinstance(error, UnavailableError) and not repeatable:
            return OutcomeUnknownError(str(error))
        return error


class _SessionOverError(Exception):
    """The server knows our session no more; it ends after five minutes without a call."""


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """`items` in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
