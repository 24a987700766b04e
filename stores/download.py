"""Fetches a file from an address that a stranger may have written, without being led into our own network.

`requests-hardened` resolves a name once, refuses every address that is not public and connects to the one it checked
(so a name that resolves differently a moment later leads nowhere); redirects, schemes, hosts, sizes and times are
checked here.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from queue import Empty, SimpleQueue
from typing import TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

import backoff
import requests
import urllib3
from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter

from mappings.errors import OneThreadError, RejectedError, UnavailableError
from mappings.http import error_for_status

_CHUNK = 64 * 1024
_TIMEOUT = (5, 15)  # seconds to connect, and between two bytes
_MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FAILURES = 3
_REST_SECONDS = 60.0

Taken = TypeVar("Taken")
Take = Callable[[Iterator[bytes], str | None], Taken]


class Downloader:
    """Fetches files.

    Args:
        private_hosts: ``host`` or ``host:port`` that may be asked although they are in a private network, and by plain
            HTTP. Everywhere else only HTTPS and public addresses count.
        tries: how often one file is asked for while the other side does not answer.
        max_seconds: for one try, from the look-up of the name to the last byte, however slowly they drip.
    """

    def __init__(self, private_hosts: Iterable[str] = (), *, tries: int = 3, max_seconds: float = 60) -> None:
        self._private_hosts = frozenset(host.lower() for host in private_hosts)
        self._max_seconds = max_seconds
        self._public, self._private = _session(), _session()
        self._public.mount("https://", IPFilterAdapter(is_https_proto=True))
        self._failures: Counter[str] = Counter()
        self._resting: dict[str, float] = {}
        self._again = backoff.on_exception(backoff.expo, UnavailableError, max_tries=tries, max_time=30, logger=None)

    def fetch(
        self,
        url: str,
        take: Take[Taken],
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        hosts: frozenset[str] | None = None,
    ) -> Taken:
        """What `take` makes of the file's bytes and of its ``Content-Type``.

        A host that did not answer for three files in a row is left alone for a minute: it would hold up everything.

        Args:
            url: where the file is.
            take: called with the bytes, piece by piece; in a thread of its own. It must clean up when they raise.
            max_bytes: a larger file is refused.
            headers: sent to the first host only, never along a redirect to another one.
            hosts: the only ones that the bytes may come from; ``.example.com`` means all below it. ``None``: any.

        Raises:
            RejectedError: it must not, or cannot ever, be fetched.
            CredentialsError: the other side wants another token.
            UnavailableError: it may work later.
        """
        host = _host_of(url)
        if self._resting.get(host, 0) > time.monotonic():
            msg = f"{host} did not answer a moment ago; it is not asked again now"
            raise UnavailableError(msg)
        try:
            taken: Taken = self._again(self._in_time)(
                lambda late: self._fetch(url, take, headers or {}, hosts, max_bytes, late), host
            )
        except UnavailableError:
            self._failures[host] += 1
            if self._failures[host] >= _FAILURES:
                self._resting[host] = time.monotonic() + _REST_SECONDS
            raise
        del self._failures[host]
        return taken

    def _in_time(self, work: Callable[[threading.Event], Taken], host: str) -> Taken:
        """The result of `work`, or an error when the time is over.

        Neither the look-up of a name nor headers that come byte by byte can be bounded otherwise. What is late ends by
        itself at its next byte.
        """
        late, results = threading.Event(), SimpleQueue[tuple[Taken | None, Exception | None]]()

        def run() -> None:
            try:
                results.put((work(late), None))
            except Exception as error:  # noqa: BLE001 (raised again below, in the caller's thread)
                results.put((None, error))

        threading.Thread(target=run, daemon=True).start()
        try:
            taken, error = results.get(timeout=self._max_seconds)
        except Empty:
            late.set()
            msg = f"{host} took longer than {self._max_seconds:g} seconds"
            raise UnavailableError(msg) from None
        if error is not None:
            raise error
        return taken  # type: ignore[return-value]  # without an error there is a result

    def _fetch(
        self, url: str, take: Take[Taken], headers: Mapping[str, str], hosts: frozenset[str] | None, max_bytes: int,
        late: threading.Event,
    ) -> Taken:  # fmt: skip
        try:
            with self._open(url, headers, hosts) as response:
                return take(_chunks(response, max_bytes, late), response.headers.get("Content-Type"))
        except InvalidIPAddress:
            msg = f"{_host_of(url)} leads to an address that is not public; see media_private_hosts"
            raise RejectedError(msg) from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, ValueError) as error:
            msg = f"the address of the file cannot be used ({type(error).__name__})"
            raise RejectedError(msg) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            msg = f"{_host_of(url)} did not answer ({type(error).__name__})"
            raise UnavailableError(msg) from None

    def _open(self, url: str, headers: Mapping[str, str], hosts: frozenset[str] | None) -> requests.Response:
        """The answer that has the bytes, after at most three redirects, each checked like the first address."""
        sent = dict(headers)
        for _ in range(_MAX_REDIRECTS + 1):
            # A compressed answer would have to be inflated under a cap; files of media gain nothing by it.
            request = requests.Request("GET", url, headers={**sent, "Accept-Encoding": "identity"})
            prepared = self._public.prepare_request(request)
            parts = urlsplit(prepared.url or "")  # as the connection will read it, not as it was written
            session = self._allowed(parts, hosts)
            response = session.send(prepared, stream=True, timeout=_TIMEOUT, allow_redirects=False)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return _checked(response, parts.hostname or "")
            response.close()
            following = urljoin(prepared.url or "", location)
            if _origin(urlsplit(following)) != _origin(parts):
                sent = {}
            url = following
        msg = f"{_host_of(url)}: more than {_MAX_REDIRECTS} redirects"
        raise RejectedError(msg)

    def _allowed(self, parts: SplitResult, hosts: frozenset[str] | None) -> requests.Session:
        """The session for an address; raises when it must not be asked."""
        host = (parts.hostname or "").rstrip(".")
        if parts.username is not None or parts.password is not None:
            msg = f"the address at {host} has a user name in it"
            raise RejectedError(msg)
        if hosts is not None and not any(_matches(host, one) for one in hosts):
            msg = f"{host} is not a host that this platform's files come from"
            raise RejectedError(msg)
        if {host, f"{host}:{parts.port}"} & self._private_hosts and parts.scheme in {"http", "https"}:
            return self._private
        if parts.scheme != "https":
            msg = f"{host} would be asked without encryption ({parts.scheme}); see media_private_hosts"
            raise RejectedError(msg)
        return self._public


def _session() -> requests.Session:
    """A session that takes nothing from the environment (proxies, .netrc) and keeps no cookies."""
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def _checked(response: requests.Response, host: str) -> requests.Response:
    error: OneThreadError | None = None
    if response.status_code != 200:
        error = error_for_status("media", f"GET from {host}", max(response.status_code, 400))
    elif response.headers.get("Content-Encoding", "identity") not in {"", "identity"}:
        error = RejectedError(f"{host} compressed the file although it was asked not to")
    if error is not None:
        response.close()
        raise error
    return response


def _chunks(response: requests.Response, max_bytes: int, late: threading.Event) -> Iterator[bytes]:
    """The bytes as they come; raises when there are too many, too few, or when nobody waits for them any more."""
    length = response.headers.get("Content-Length", "")
    announced = int(length) if length.isdecimal() else None
    total = 0
    while announced is None or announced <= max_bytes:
        chunk = response.raw.read1(_CHUNK, decode_content=False)
        if late.is_set():
            msg = "nobody waits for it any more"
            raise UnavailableError(msg)
        if not chunk:
            break
        total += len(chunk)
        if total > max_bytes:
            break
        yield chunk
    if max(total, announced or 0) > max_bytes:
        msg = f"the file is larger than {max_bytes} bytes; see media_max_bytes"
        raise RejectedError(msg)
    if announced is not None and total != announced:
        msg = f"the file ended after {total} of {announced} bytes"
        raise UnavailableError(msg)


def _matches(host: str, pattern: str) -> bool:
    pattern = pattern.removeprefix("*").lower()
    return host.endswith(pattern) if pattern.startswith(".") else host == pattern


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port


def _host_of(url: str) -> str:
    """The host, for a message: the rest of an address may hold a token."""
    try:
        return urlsplit(url).hostname or "no host"
    except ValueError:
        return "no host"
