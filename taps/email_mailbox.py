"""One mailbox over IMAP, read only: folders are opened with EXAMINE, mails fetched with BODY.PEEK; nothing is marked.

Sources: RFC 3501 (IMAP4rev1), RFC 2177 (IDLE), RFC 5530 (response codes), documented, read 2026-11.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import CapabilityError, IMAPClientAbortError, IMAPClientError, LoginError
from pydantic import SecretStr

from mappings.errors import CredentialsError, MissingFieldError, SettingsError, UnavailableError
from mappings.from_email.folders import Listing

_CONNECT_SECONDS = 15.0
_WINDOW = 50_000
"""UIDs asked for at once: imaplib refuses an answer line of more than a million characters (Python 3.11, observed)."""
_TEMPORARY = ("[UNAVAILABLE]", "[INUSE]", "[LIMIT]", "[SERVERBUG]", "TOO MANY", "TEMPORAR", "TRY AGAIN")
"""What a server says when the password is not at fault (RFC 5530 codes, documented; the words: assumed)."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A folder as EXAMINE shows it; `uidnext` is ``None`` when the server does not say."""

    uidvalidity: int
    uidnext: int | None
    mails: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A mail before it is fetched."""

    uid: int
    size_bytes: int
    internal_date: datetime | None


class Mailbox:
    """A logged-in connection; use it as a context manager.

    Raises:
        CredentialsError: the password is refused.
        SettingsError: the port does not speak what the settings say.
        UnavailableError: no connection, or it broke: connect again.
    """

    def __init__(
        self, host: str, port: int, *, use_ssl: bool, user: str, password: SecretStr, timeout_seconds: float
    ) -> None:
        self._where = f"{host}:{port}"
        self._address = (host, port)
        self._use_ssl = use_ssl
        self._user = user
        self._password = password
        self._timeout_seconds = timeout_seconds
        self._connection: IMAPClient | None = None

    def __enter__(self) -> Self:
        """Connect and log in."""
        with self._guarded("connect"):
            self._connect()
        try:
            self._log_in()
        except BaseException:
            self._hang_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Log out, or hang up when something went wrong."""
        if kind is None:
            with contextlib.suppress(IMAPClientError, OSError):
                self._client.logout()
        self._hang_up()

    @property
    def can_idle(self) -> bool:
        """Whether the server tells of new mail by itself."""
        return bool(self._client.has_capability("IDLE"))

    def list_folders(self) -> Listing:
        """Every folder: flags, delimiter, name."""
        with self._answered("LIST"):
            listing: Listing = self._client.list_folders()
        return listing

    def examine(self, folder: str) -> Opened:
        """Open `folder` for reading; raises `SettingsError` when the server does not let us."""
        try:
            with self._guarded("EXAMINE"):
                told = self._client.select_folder(folder, readonly=True)
        except IMAPClientError:
            msg = f"E-mail: {self._where} does not open the folder {folder!r}; leave it out of `folders`"
            raise SettingsError(msg) from None
        if b"UIDVALIDITY" not in told:
            msg = f"E-mail: {self._where} opened {folder!r} without UIDVALIDITY, which IMAP4rev1 demands"
            raise MissingFieldError(msg)
        uidnext = told.get(b"UIDNEXT")
        return Opened(int(told[b"UIDVALIDITY"]), int(uidnext) if uidnext else None, int(told.get(b"EXISTS", 0)))

    def uids_after(self, opened: Opened, uid: int, since: date | None) -> Iterator[list[int]]:
        """The UIDs above `uid` of the open folder, ascending, in pieces; with `since`, arrived on that day or later."""
        newest = opened.uidnext - 1 if opened.uidnext else None
        if not opened.mails or (newest is not None and newest <= uid):
            return
        if newest is None or opened.mails <= _WINDOW:
            windows: Iterable[str] = [f"{uid + 1}:*"]
        else:
            windows = (f"{first}:{first + _WINDOW - 1}" for first in range(uid + 1, newest + 1, _WINDOW))
        # A day earlier: the server compares days of its own time zone.
        criteria = ["SINCE", since - timedelta(days=1)] if since is not None else []
        for window in windows:
            with self._answered("SEARCH"):
                found = self._client.search(["UID", window, *criteria])
            # `n:*` names the last mail even when its UID is below n (RFC 3501 section 6.4.8).
            if fresh := sorted(one for one in found if one > uid):
                yield fresh

    def list_mails(self, uids: Sequence[int]) -> dict[int, Listed]:
        """Size and arrival of mails; those that were deleted meanwhile are absent.

        A mail that the server fails on does not take its neighbours along: it is told without size and arrival.
        """
        try:
            with self._guarded("FETCH"):
                found = self._client.fetch(uids, ["RFC822.SIZE", "INTERNALDATE"])
        except IMAPClientError:
            if len(uids) == 1:
                return {uids[0]: Listed(uids[0], 0, None)}
            return {one: listed for uid in uids for one, listed in self.list_mails([uid]).items()}
        return {
            uid: Listed(uid, int(data.get(b"RFC822.SIZE", 0)), _utc(data.get(b"INTERNALDATE")))
            for uid, data in found.items()
        }

    def fetch_mails(self, uids: Sequence[int], *, header_only: bool = False) -> dict[int, bytes]:
        """The bytes of mails (or of their headers); one that the server cannot give is absent.

        A mail that the server fails on does not take its neighbours along: then each is asked for alone.
        """
        section = "HEADER" if header_only else ""
        key = f"BODY[{section}]".encode()
        try:
            with self._guarded("FETCH"):
                found = self._client.fetch(uids, [f"BODY.PEEK[{section}]"])
        except IMAPClientError:
            if len(uids) == 1:
                return {}
            return {one: raw for uid in uids for one, raw in self.fetch_mails([uid], header_only=header_only).items()}
        return {uid: data[key] for uid, data in found.items() if isinstance(data.get(key), bytes)}

    def still_there(self, uids: Sequence[int]) -> set[int]:
        """Those of `uids` that were not deleted."""
        with self._answered("SEARCH"):
            return set(self._client.search(["UID", ",".join(map(str, uids))])) & set(uids)

    def wait(self, seconds: float, *, slice_seconds: float) -> Generator[bool, None, None]:
        """Wait in the open folder, in slices: whether something new was announced, once per slice.

        Without IDLE nothing is ever announced. The caller may stop at any slice.
        """
        deadline = time.monotonic() + seconds
        if not self.can_idle:
            while (left := deadline - time.monotonic()) > 0:
                time.sleep(min(slice_seconds, left))
                yield False
            return
        with self._answered("IDLE"):
            self._client.idle()
        try:
            while (left := deadline - time.monotonic()) > 0:
                with self._guarded("IDLE"):
                    told = self._client.idle_check(timeout=min(slice_seconds, left))
                yield any(len(one) > 1 and one[1] == b"EXISTS" for one in told)
                if any(one[0] == b"BYE" for one in told):
                    msg = f"E-mail: {self._where} said goodbye while waiting; connecting again"
                    raise UnavailableError(msg)
        finally:
            # After the server hung up, `idle_check` returns nothing at once; this is what notices.
            with self._answered("IDLE"):
                self._client.idle_done()

    # Inside

    @property
    def _client(self) -> IMAPClient:
        if self._connection is None:
            msg = f"E-mail: not connected to {self._where}"
            raise UnavailableError(msg)
        return self._connection

    def _connect(self) -> None:
        host, port = self._address
        timeout = SocketTimeout(min(_CONNECT_SECONDS, self._timeout_seconds), self._timeout_seconds)
        context = ssl.create_default_context()
        try:
            self._connection = IMAPClient(host, port=port, ssl=self._use_ssl, ssl_context=context, timeout=timeout)
            self._connection.normalise_times = False  # else INTERNALDATE comes without a zone, in this machine's time
            if not self._use_ssl and self._connection.has_capability("STARTTLS"):
                self._connection.starttls(context)
        except ssl.SSLCertVerificationError as error:
            msg = (
                f"E-mail: the certificate of {self._where} is not trusted ({error.verify_message}); check `host`, or "
                "name your own authority in SSL_CERT_FILE"
            )
            self._hang_up()
            raise SettingsError(msg) from None
        except ssl.SSLError as error:
            msg = f"E-mail: {self._where} does not speak TLS ({error.reason}); check `port` and `ssl`"
            self._hang_up()
            raise SettingsError(msg) from None

    def _log_in(self) -> None:
        client = self._client
        password = self._password.get_secret_value()
        with self._guarded("LOGIN"):
            if client.has_capability("LOGINDISABLED"):
                msg = f"E-mail: {self._where} takes no password on an open connection; set `ssl` and its port (993)"
                raise SettingsError(msg)
            try:
                if f"{self._user}{password}".isascii():
                    client.login(self._user, password)
                else:
                    client.plain_login(self._user, password)
            except LoginError as error:
                # imapclient wraps a broken connection, too.
                if isinstance(error.__context__, IMAPClientAbortError):
                    raise error.__context__ from None
                raise self._refusal(str(error)) from None

    def _refusal(self, said: str) -> CredentialsError | UnavailableError:
        if any(word in said.upper() for word in _TEMPORARY):
            msg = f"E-mail: {self._where} does not take logins now; trying again later"
            return UnavailableError(msg)
        msg = (
            f"E-mail: {self._where} refuses the login; check `user` and `password` (Gmail, iCloud and Yahoo want an "
            "app password, Microsoft 365 takes no passwords over IMAP at all)"
        )
        return CredentialsError(msg)

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """A broken connection as `UnavailableError`. What the server refuses (NO, BAD) passes as it is."""
        try:
            yield
        except (IMAPClientAbortError, OSError) as error:
            msg = f"E-mail: {self._where} broke off in {what} ({type(error).__name__}); connecting again"
            raise UnavailableError(msg) from None
        except CapabilityError as error:
            msg = f"E-mail: {self._where} cannot {what}: {error}"
            raise SettingsError(msg) from None

    @contextlib.contextmanager
    def _answered(self, what: str) -> Iterator[None]:
        """A refusal as `UnavailableError` too, where every server must answer."""
        try:
            with self._guarded(what):
                yield
        except IMAPClientError as error:
            msg = f"E-mail: {self._where} refused {what} ({type(error).__name__}); trying again later"
            raise UnavailableError(msg) from None

    def _hang_up(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(IMAPClientError, OSError):
                self._connection.shutdown()
            self._connection = None


def _utc(moment: Any) -> datetime | None:
    if not isinstance(moment, datetime):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
