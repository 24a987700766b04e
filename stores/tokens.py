"""Credentials that expire or rotate: refreshed in time, by one process, and never lost without a word.

A rotating refresh token works once: whoever uses it a second time is locked out, and some platforms then end the whole
login. So a refresh happens under a lock that all processes share, its intent is on disk before the platform is called,
and the new token is on disk before anybody uses it. One gap cannot be closed: a process that dies after the platform
has answered and before the commit takes the only good token with it. The next run says so, and what to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from mappings.errors import (
    CredentialsError,
    RateLimitedError,
    RejectedError,
    SettingsError,
    UnavailableError,
)
from stores.database import Row, Stores

AHEAD = timedelta(minutes=5)
"""How long before its end a token is replaced."""

_NOTHING_HAPPENED = (CredentialsError, RateLimitedError, RejectedError, SettingsError)
"""Refreshes that ended so have used up nothing. After any other error the platform may have replaced the token."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """What opens an account.

    Attributes:
        access_token: sent with requests; an empty one says that a refresh must bring it.
        refresh_token: what a refresh is asked with, where the platform has such.
        expires_at: when the access token ends; ``None`` when it does not, or when nobody knows.
    """

    access_token: SecretStr
    refresh_token: SecretStr | None = None
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.expires_at is not None and self.expires_at.tzinfo is None:
            msg = "expires_at needs a time zone"
            raise ValueError(msg)

    def lasts(self, ahead: timedelta) -> bool:
        """Whether it can be used and will not end within `ahead`."""
        if not self.access_token.get_secret_value():
            return False
        return self.expires_at is None or self.expires_at - ahead > datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """What may be said of a stored token."""

    name: str
    expires_at: datetime | None
    refreshable: bool
    refreshed_at: datetime | None
    refreshing_since: datetime | None


class Tokens:
    """The tokens of one state folder; names are ``<slug>:<account or route>``."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._database = stores.database("tokens")

    def get(
        self,
        name: str,
        initial: Callable[[], Token] | Token,
        refresh: Callable[[Token], Token],
        ahead: timedelta = AHEAD,
    ) -> Token:
        """The token to use now. Cheap while it lasts, so that it can be asked for before every request.

        Args:
            name: ``<slug>:<account or route>``.
            initial: the token that the operator configured; another one than last time replaces what is stored. A
                function fetches the first one (client credentials); it is called only while nothing is stored.
            refresh: asks the platform for the successor of a token. One that comes without a refresh token keeps the
                one that it was asked with (RFC 6749, section 6; documented).
            ahead: how long before its end a token is replaced.

        Raises:
            CredentialsError: the platform refused the refresh; the message names the command that helps.
            OneThreadError: what `refresh` raised. A platform that cannot answer now is no error while the token lasts.
        """
        row = self._row(name)
        if row is not None and self._is_settled(row, initial):
            token = self._token(row)
            if token.lasts(ahead):
                return token
        with self._locked(name):
            token = self._current(name, initial)
            return token if token.lasts(ahead) else self._refreshed(name, token, refresh, token.lasts(timedelta(0)))

    def renew(self, name: str, refused: Token, refresh: Callable[[Token], Token]) -> Token:
        """A successor of a token that the platform `refused` before its end: another process's, else a new one.

        Raises:
            OneThreadError: as `get`.
        """
        with self._locked(name):
            row = self._row(name)
            if row is None:
                self._save(name, refused)
            token = self._token(row) if row is not None else refused
            if token.access_token != refused.access_token:
                return token
            return self._refreshed(name, token, refresh, usable=False)

    def put(self, name: str, token: Token) -> None:
        """Keep `token` from now on: the operator has logged in again. It wins until another one is configured."""
        with self._locked(name), self._database.transaction():
            self._save(name, token)
            self._set(name, "put_fingerprint", self._fingerprint(token))

    def listing(self) -> list[TokenStatus]:
        """All stored tokens by name, without their secrets."""
        return [self._status(row) for row in self._database.query("SELECT * FROM token ORDER BY name")]

    # Under the lock

    def _locked(self, name: str) -> AbstractContextManager[None]:
        return self._stores.lock(f"token-{self._stores.codec.fingerprint(name)}")

    def _current(self, name: str, initial: Callable[[], Token] | Token) -> Token:
        """The stored token, read again; the configured one when that is new."""
        row = self._row(name)
        if row is not None and self._is_settled(row, initial):
            return self._token(row)
        put_first = row is not None and row["put_fingerprint"] and row["configured_fingerprint"] is None
        with self._database.transaction():
            if row is not None and put_first:  # what the operator put before the first run wins over the settings
                token = self._token(row)
            else:
                token = initial if isinstance(initial, Token) else initial()
                self._save(name, token)
            if isinstance(initial, Token):
                self._set(name, "configured_fingerprint", self._fingerprint(initial))
        return token

    def _refreshed(self, name: str, token: Token, refresh: Callable[[Token], Token], usable: bool) -> Token:
        row = self._row(name)
        cut_off: str | None = row["refreshing_since"] if row is not None else None
        self._set(name, "refreshing_since", cut_off or _text(datetime.now(UTC)))
        try:
            new = refresh(token)
        except _NOTHING_HAPPENED as error:
            self._set(name, "refreshing_since", cut_off)
            if isinstance(error, CredentialsError):
                raise CredentialsError(_advice(name, error, cut_off)) from error
            if isinstance(error, RateLimitedError) and usable:
                return _still_good(name, token, error)
            raise
        except UnavailableError as error:  # the platform may have done it: the intent stays
            if usable:
                return _still_good(name, token, error)
            raise
        new = replace(new, refresh_token=new.refresh_token or token.refresh_token)
        self._save(name, new, refreshed_at=datetime.now(UTC))
        return new

    # The rows

    def _row(self, name: str) -> Row | None:
        return self._database.query_one("SELECT * FROM token WHERE name = ?", (name,))

    def _save(self, name: str, token: Token, refreshed_at: datetime | None = None) -> None:
        """Keep `token`; whatever was under way is over."""
        value = {
            "access_token": token.access_token.get_secret_value(),
            "refresh_token": token.refresh_token.get_secret_value() if token.refresh_token else None,
            "expires_at": _text(token.expires_at) if token.expires_at else None,
        }
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO token (name, value, refreshed_at, changed_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value, refreshing_since = NULL,"
                " refreshed_at = COALESCE(excluded.refreshed_at, token.refreshed_at), changed_at = excluded.changed_at",
                (
                    name, self._stores.codec.encrypt_json(value), _text(refreshed_at) if refreshed_at else None,
                    _text(datetime.now(UTC)),
                ),
            )  # fmt: skip

    def _set(self, name: str, column: str, value: str | None) -> None:
        with self._database.transaction() as database:
            database.execute(f"UPDATE token SET {column} = ? WHERE name = ?", (value, name))  # noqa: S608 (our names)

    def _token(self, row: Row) -> Token:
        value = self._stores.codec.decrypt_json(row["value"])
        return Token(
            access_token=SecretStr(value["access_token"]),
            refresh_token=SecretStr(value["refresh_token"]) if value["refresh_token"] else None,
            expires_at=_moment(value["expires_at"]),
        )

    def _status(self, row: Row) -> TokenStatus:
        token = self._token(row)
        return TokenStatus(
            name=row["name"],
            expires_at=token.expires_at,
            refreshable=token.refresh_token is not None,
            refreshed_at=_moment(row["refreshed_at"]),
            refreshing_since=_moment(row["refreshing_since"]),
        )

    def _is_settled(self, row: Row, initial: Callable[[], Token] | Token) -> bool:
        """Whether what is stored descends from what is configured, or was put in its place."""
        if not isinstance(initial, Token):
            return True
        return self._fingerprint(initial) in {row["configured_fingerprint"], row["put_fingerprint"]}

    def _fingerprint(self, token: Token) -> str:
        secret = token.refresh_token or token.access_token
        return self._stores.codec.fingerprint(secret.get_secret_value())


def _still_good(name: str, token: Token, error: Exception) -> Token:
    _log.warning("the token %s cannot be refreshed now, it is used to its end: %s", name, error)
    return token


def _advice(name: str, error: CredentialsError, cut_off: str | None) -> str:
    lost = (
        f". A refresh that began at {cut_off} was cut off before its answer was kept, so the platform has probably "
        "replaced the token that is stored here"
        if cut_off
        else ""
    )
    return f"{error}{lost}. Log in again at the platform, then: onethread tokens set {name}"


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
