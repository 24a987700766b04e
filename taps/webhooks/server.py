"""waitress, as the receiver runs it: limits, a deadline for every request, and a stop that answers what it took.

Why waitress, and against what it was measured: README.md in this folder.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Collection
from typing import Any

from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError

THREADS = 32
CONNECTION_LIMIT = 1000
MAX_HEADER_BYTES = 32 * 1024
IDLE_SECONDS = 15
CLEANUP_SECONDS = 5
REQUEST_SECONDS = 15
DRAIN_SECONDS = 6


class _Request(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """A request that says its length in one way only: two ways are how a second request is smuggled past a proxy."""

    def __init__(self, adjustments: Any) -> None:
        super().__init__(adjustments)
        self.began_at = time.monotonic()

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        # waitress takes TRANSFER_ENCODING out for HTTP/1.1 and would ignore it, and what follows, for HTTP/1.0.
        if "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers):
            msg = "ambiguous length"
            raise ParsingError(msg)


class _Connection(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection whose requests must each arrive whole within `REQUEST_SECONDS`.

    waitress closes a silent connection after ``channel_timeout``; one byte a second would keep it open for ever.
    """

    parser_class = _Request

    def readable(self) -> bool:
        request = self.request
        if request is not None and time.monotonic() - request.began_at > REQUEST_SECONDS:
            self.will_close = True
        return bool(super().readable())


class Server:
    """`app` on a port; 0 takes a free one, and `port` says which.

    Args:
        app: the WSGI application.
        host: address to listen on.
        port: to listen on.
        max_body_bytes: larger requests are refused before they are read.
        trusted_proxy: the address of the one proxy whose headers are believed; ``*`` believes everybody.
        trusted_proxy_headers: which headers it sets.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        host: str,
        port: int,
        *,
        max_body_bytes: int,
        trusted_proxy: str | None = None,
        trusted_proxy_headers: Collection[str] = (),
    ) -> None:
        # One line per request that waits for a thread: noise under load, and the load is visible elsewhere.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=1024)
        self.port: int = listener.getsockname()[1]
        self._sockets: dict[int, Any] = {}
        self._server = create_server(
            app,
            map=self._sockets,
            sockets=[listener],
            threads=THREADS,
            connection_limit=CONNECTION_LIMIT,
            max_request_header_size=MAX_HEADER_BYTES,
            max_request_body_size=max_body_bytes + 1,  # waitress refuses from this size on
            inbuf_overflow=max_body_bytes + 1,  # a body is never spooled to a temporary file: it is not encrypted yet
            channel_timeout=IDLE_SECONDS,
            cleanup_interval=CLEANUP_SECONDS,
            asyncore_use_poll=True,  # select() fails from file descriptor 1024 on
            log_socket_errors=False,  # a client that hangs up is no news
            ident=None,
            trusted_proxy=trusted_proxy,
            trusted_proxy_headers=set(trusted_proxy_headers) if trusted_proxy else set(),
            clear_untrusted_proxy_headers=trusted_proxy is not None,  # else the application sees that there is a proxy
        )
        self._server.channel_class = _Connection
        self._stopping = False  # no Event: a second signal inside Event.set() would wait for itself

    def run(self) -> None:
        """Serve until `stop`; then answer the requests that have begun to arrive, and return. Then comes `close`."""
        while not self._stopping:
            self._turn(timeout_seconds=0.2)
        self._drain()

    def stop(self) -> None:
        """Make `run` return, from any thread or signal handler.

        Only a flag, which the loop sees within its timeout: waking it would write to a pipe that it may have closed.
        """
        self._stopping = True

    def close(self) -> None:
        """Give back threads and sockets; what is not answered by now is not."""
        self._server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._sockets)

    def _turn(self, timeout_seconds: float) -> None:
        wasyncore.loop(timeout=timeout_seconds, use_poll=True, map=self._sockets, count=1)

    def _drain(self) -> None:
        wasyncore.dispatcher.close(self._server)  # the listening socket alone; its own close() also stops the loop
        give_up_at = time.monotonic() + DRAIN_SECONDS
        while self._server.active_channels and time.monotonic() < give_up_at:
            for connection in list(self._server.active_channels.values()):
                if not connection.requests and connection.request is None:
                    connection.will_close = True
            self._turn(timeout_seconds=0.05)
