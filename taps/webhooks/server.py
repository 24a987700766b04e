"""The receiver's HTTP server: one event loop, limits, deadlines, and a stop that answers what it took.

`connection.py` speaks HTTP; this accepts connections, watches their deadlines and what they hold together.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import time
from collections.abc import Callable, Collection
from email.utils import formatdate
from typing import Any, Protocol

from waitress.proxy_headers import MalformedProxyHeader, parse_proxy_headers

from taps.webhooks import connection as protocol
from taps.webhooks.connection import Connection, Request, Response

log = logging.getLogger("onethread.receiver")

CONNECTION_LIMIT = 4000
DRAIN_SECONDS = 6.0
_BACKLOG = 1024
_SPARE_FILES = 200
"""File descriptors that are left for the stores."""
_SWEEP_SECONDS = 0.25
_DRAIN_SWEEP_SECONDS = 0.02


class Application(protocol.Application, Protocol):
    """What answers the requests."""

    def start(self, call_soon: Callable[[Callable[[], None]], object], stop: Callable[[], None]) -> None:
        """The server runs; `call_soon` is how other threads have something done in its own, `stop` ends it."""


class Server:
    """`application` on a port; 0 takes a free one, and `port` says which.

    Args:
        application: what answers.
        host: address to listen on.
        port: to listen on.
        max_body_bytes: larger requests are refused before they are read.
        trusted_proxy: the address of the one proxy whose headers are believed; ``*`` believes everybody.
        trusted_proxy_headers: which headers it sets.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(
        self,
        application: Application,
        host: str,
        port: int,
        *,
        max_body_bytes: int,
        trusted_proxy: str | None = None,
        trusted_proxy_headers: Collection[str] = (),
    ) -> None:
        self.application: protocol.Application = application
        self.max_body_bytes = max_body_bytes
        self.held_bytes = 0
        self.is_draining = False
        self.date = ""
        self._start = application.start
        self._trusted_proxy = trusted_proxy
        self._trusted_proxy_headers = set(trusted_proxy_headers)
        self._connections: dict[Connection, None] = {}  # in the order in which they came
        self._connection_limit = min(CONNECTION_LIMIT, _file_limit() - _SPARE_FILES)
        self._stopping = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        """Serve until `stop`; then answer the requests that have begun to arrive, and return. Then comes `close`."""
        loop = asyncio.new_event_loop()
        # No message of an exception: it could hold what a customer wrote.
        loop.set_exception_handler(
            lambda _, context: log.error("receiver: %s in the server", type(context.get("exception")).__name__)
        )
        try:
            loop.run_until_complete(self._serve(loop))
        finally:
            loop.close()

    def stop(self) -> None:
        """Make `run` return, from any thread or signal handler. Only a flag, which the loop sees a moment later."""
        self._stopping = True

    def close(self) -> None:
        """Give back the port, if it never ran."""
        self._listener.close()

    def opened(self, connection: Connection) -> None:
        """Let a client in; one too many drives out the one that has been unfinished for longest."""
        if len(self._connections) >= self._connection_limit:
            unfinished = (one for one in self._connections if not (one.is_busy or one.was_answered))
            unused = (one for one in self._connections if not one.is_busy)
            oldest = next(unfinished, None) or next(unused, connection)
            self._connections.pop(oldest, None)
            oldest.abort()
            if oldest is connection:
                return
        self._connections[connection] = None

    def closed(self, connection: Connection) -> None:
        """A client is gone."""
        self._connections.pop(connection, None)

    def make_room(self, connection: Connection) -> None:
        """Give up the body that has been on its way for longest."""
        for one in self._connections:
            if one.holds_body and one is not connection:
                one.give_up()
                return

    def see_through_proxy(self, request: Request) -> Response | None:
        """Host, scheme and peer as the trusted proxy says; 400 when it says what makes no sense."""
        if self._trusted_proxy is None or self._trusted_proxy not in {"*", request.peer}:
            return None
        environ: dict[str, Any] = {
            "REMOTE_ADDR": request.peer, "wsgi.url_scheme": request.scheme, "SERVER_NAME": "",
            "HTTP_HOST": request.headers.get("host", ""), "SERVER_PORT": str(self.port),
            **{
                f"HTTP_{name.upper().replace('-', '_')}": request.headers[name]
                for name in self._trusted_proxy_headers & request.headers.keys()
            },
        }  # fmt: skip
        try:
            parse_proxy_headers(environ, trusted_proxy_count=1, trusted_proxy_headers=self._trusted_proxy_headers)
        except MalformedProxyHeader as error:
            log.warning("receiver: the proxy's header %s makes no sense: %s", error.header, error.reason)
            return Response(400)
        request.peer, request.scheme = environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]
        request.headers["host"] = environ["HTTP_HOST"]
        return None

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._start(loop.call_soon_threadsafe, self.stop)
        self.date = formatdate(usegmt=True)
        listening = await loop.create_server(lambda: Connection(self), sock=self._listener, backlog=_BACKLOG)
        while not self._stopping:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._sweep()
        listening.close()
        self.is_draining = True
        give_up_at = time.monotonic() + DRAIN_SECONDS
        while self._connections and time.monotonic() < give_up_at:
            for one in [one for one in self._connections if one.is_idle]:
                one.close()
            self._sweep()
            await asyncio.sleep(_DRAIN_SWEEP_SECONDS)
        for one in list(self._connections):
            one.abort()
        await asyncio.sleep(_DRAIN_SWEEP_SECONDS)  # for the loop to close them

    def _sweep(self) -> None:
        """Once for all connections: a timer for each request costs more than the request."""
        self.date = formatdate(usegmt=True)
        now = time.monotonic()
        for one in [one for one in self._connections if one.deadline < now]:
            one.expire()


def _file_limit() -> int:
    """How many files this process may have open, after asking for as many as we can use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTION_LIMIT + 2 * _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft
