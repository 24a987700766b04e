"""One client's connection: bytes in, one request after the other to the application, answers out in the same order.

httptools (llhttp, the parser of Node.js) reads the requests; what it lets pass and a proxy could read in another way is
refused here, and so is everything that is too large, too slow or without end. Why not a server that exists: README.md.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, cast

import httptools

MAX_HEADER_BYTES = 32 * 1024
REQUEST_SECONDS = 9.0
"""For a whole request to arrive; and for a client to take its answers."""
IDLE_SECONDS = 9.0
"""For the first request to begin."""
KEEP_ALIVE_SECONDS = 75.0
"""For the next one. Longer than the 60 s after which nginx, by default, closes the ones it keeps: it must be first."""
ANSWER_SECONDS = 5.0
"""For the application to answer; then it is a 503."""
RETRY_AFTER_SECONDS = 10
MAX_HELD_BYTES = 64 * 1024 * 1024
"""Of bodies that have not arrived whole, all connections together."""
_MOST_DIGITS = 12
_CLOSE = "Connection: close\r\n"
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 1024 * 1024
"""So long, and so much, is thrown away after a refusal: closing at once would take it from the client's hands."""
_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 415: "Unsupported Media Type",
    431: "Request Header Fields Too Large", 503: "Service Unavailable",
}  # fmt: skip


@dataclass(slots=True)
class Request:
    """One request. Header names are lowercase; one that came twice is joined with a comma, as HTTP means it.

    Attributes:
        path: as it was sent, nothing decoded, without the query.
        query: what follows the question mark.
        peer: address of the other end of the connection.
        scheme: ``http``, or what a trusted proxy says.
        body_bytes: the announced length; ``None`` when it comes in chunks.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    peer: str
    scheme: str = "http"
    body_bytes: int | None = 0
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; `headers` besides length, date, and what every answer has."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Sequence[tuple[str, str]] = ()


Respond = Callable[[Response], None]
_NO_REQUEST = Request("", "", "", {}, "")


class Application(Protocol):
    """What answers. All of it is called in the server's thread and must not wait for anything."""

    def begin(self, request: Request) -> Response | int:
        """With all but the body there: how long the body may be, or why nobody needs to read it."""

    def take(self, request: Request, respond: Respond) -> None:
        """With the whole request: call `respond` now, or later in the server's thread."""

    def answered(self, status: int) -> None:
        """An answer was sent, of whoever's making."""


class Owner(Protocol):
    """What all connections of one server share."""

    application: Application
    date: str
    max_body_bytes: int
    held_bytes: int
    is_draining: bool

    def opened(self, connection: Connection) -> None:
        """A client has connected."""

    def closed(self, connection: Connection) -> None:
        """It is gone."""

    def make_room(self, connection: Connection) -> None:
        """Too much is held: give up what has been unfinished for longest, but not `connection`."""

    def see_through_proxy(self, request: Request) -> Response | None:
        """Correct host, scheme and peer by what a trusted proxy says; the refusal if that makes no sense."""


class _RefusedError(Exception):
    """What is being read is not to be read further."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


@dataclass(slots=True)
class _Exchange:
    """A request on its way in, then in the application's hands."""

    request: Request
    keep_alive: bool
    body_limit: int = 0
    refusal: Response | None = None
    parts: list[bytes] = field(default_factory=list)
    body_bytes: int = 0
    held_bytes: int = 0


class Connection(asyncio.Protocol):
    """One connection, for the event loop.

    Attributes:
        deadline: on the monotonic clock; `expire` is to be called after it.
        was_answered: at least one request was.
    """

    def __init__(self, owner: Owner) -> None:
        self.deadline = 0.0
        self.was_answered = False
        self._owner = owner
        self._transport = cast("asyncio.Transport", None)
        self._parser = httptools.HttpRequestParser(self)
        self._peer = ""
        self._headers: dict[str, str] = {}
        self._target = b""
        self._header_bytes = 0
        self._message_bytes = 0
        self._is_receiving = False
        self._arriving: _Exchange | None = None  # whose header is complete
        self._waiting: deque[_Exchange] = deque()  # complete, behind the current one
        self._current: _Exchange | None = None  # in the application's hands
        self._reads_no_more = False
        self._discarded_bytes = 0
        self._is_at_end = self._is_write_paused = self._is_read_paused = self._is_answering = False

    @property
    def is_busy(self) -> bool:
        """A whole request is there and not answered yet."""
        return self._current is not None or bool(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Nothing has begun that wants an answer."""
        return not (self.is_busy or self._is_receiving)

    @property
    def holds_body(self) -> bool:
        """A part of a body is here, and not all of it."""
        return self._arriving is not None and self._arriving.held_bytes > 0

    # The event loop calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("peername")
        self._peer = address[0] if address else ""
        self.deadline = time.monotonic() + IDLE_SECONDS
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._reads_no_more:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > _LINGER_BYTES:
                self._transport.abort()
            return
        if not self._is_receiving:
            self._is_receiving = True
            if not self.is_busy:
                self.deadline = time.monotonic() + REQUEST_SECONDS
        self._message_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _RefusedError):
                raise
            self._refuse(error.__context__.response)
        except httptools.HttpParserError:
            self._refuse(Response(400))
        if self._is_receiving and not self._reads_no_more:
            # What is no body: a header that does not end; sizes, extensions and trailers of chunks.
            body_bytes = self._arriving.body_bytes if self._arriving else 0
            if self._message_bytes - body_bytes > MAX_HEADER_BYTES + body_bytes:
                self._refuse(Response(431))
        self._answer_waiting()

    def eof_received(self) -> bool:
        """The client sends nothing more; true to keep the other direction open."""
        self._is_at_end = True
        return self.is_busy

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        del exc
        self._forget_unfinished()
        self._drop_waiting()
        self._current = None
        self._reads_no_more = True
        self._owner.closed(self)

    def pause_writing(self) -> None:
        """The client does not take its answers."""
        self._is_write_paused = True
        self.deadline = time.monotonic() + REQUEST_SECONDS

    def resume_writing(self) -> None:
        """It does again."""
        self._is_write_paused = False
        self._set_deadline()
        self._answer_waiting()

    # The server calls these.

    def expire(self) -> None:
        """The deadline has passed: cut off who is silent or slow, and answer for an application that is."""
        if self._is_write_paused or (self._reads_no_more and not self.is_busy):
            self._transport.abort()
        elif self._current is not None:
            text = f"storing took more than {ANSWER_SECONDS:.0f} s"
            self._answer(self._current, unavailable(text))
        elif self._is_receiving:
            self.give_up()
        else:
            self._transport.close()

    def give_up(self) -> None:
        """Refuse what has not arrived whole; close when nothing has begun."""
        if self._is_receiving:
            self._refuse(Response(408))
            self._answer_waiting()
        else:
            self._transport.close()

    def close(self) -> None:
        """Hang up once what was written is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Hang up."""
        self._transport.abort()

    # The parser calls these.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_receiving = True
        self._headers = {}
        self._target = b""
        self._header_bytes = self._message_bytes = 0

    def on_url(self, url: bytes) -> None:
        """The target, or a part of it."""
        self._target += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if self._arriving is not None:
            return  # behind the last chunk: nothing that anybody would believe
        self._count_header(len(name) + len(value) + 4)
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")
        before = self._headers.get(key)
        self._headers[key] = text if before is None else f"{before}, {text}"

    def on_headers_complete(self) -> None:
        """All but the body is there."""
        if self._parser.should_upgrade():
            if self._parser.get_method() == b"CONNECT":
                raise _RefusedError(Response(405, headers=(("Allow", "GET, POST"),)))
            return  # see _parse
        headers, version = self._headers, self._parser.get_http_version()
        chunked, length = "transfer-encoding" in headers, headers.get("content-length", "0")
        host = headers.get("host")
        if (
            version not in {"1.0", "1.1"}
            or (version == "1.1" and (host is None or "," in host))
            # The one coding that every reader understands alike; HTTP/1.0 has none.
            or (chunked and (version == "1.0" or headers["transfer-encoding"].lower() != "chunked"))
            or (chunked and "content-length" in headers)
            or not (length.isascii() and length.isdecimal())
        ):
            raise _RefusedError(Response(400))
        if len(length) > _MOST_DIGITS or int(length) > self._owner.max_body_bytes:
            raise _RefusedError(Response(413))
        path, _, query = _path_of(self._target.decode("latin-1")).partition("?")
        request = Request(
            self._parser.get_method().decode("latin-1"), path, query, headers, self._peer,
            body_bytes=None if chunked else int(length),
        )  # fmt: skip
        begun = self._owner.see_through_proxy(request) or self._owner.application.begin(request)
        waits_for_leave = headers.get("expect", "").lower() == "100-continue" and version == "1.1"
        self._arriving = exchange = _Exchange(request, version == "1.1" and self._parser.should_keep_alive())
        if isinstance(begun, Response):
            if begun.status == 413 or waits_for_leave:
                raise _RefusedError(begun)
            # The body is thrown away as it comes, and the connection stays good for the next request.
            exchange.refusal, exchange.body_limit = begun, self._owner.max_body_bytes
        else:
            exchange.body_limit = begun
            if waits_for_leave and not self.is_busy:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        exchange = self._arriving
        if exchange is None:
            return  # the header was refused
        exchange.body_bytes += len(body)
        if exchange.body_bytes > exchange.body_limit:
            raise _RefusedError(Response(413))
        if exchange.refusal is None:
            exchange.parts.append(body)
            exchange.held_bytes += len(body)
            self._owner.held_bytes += len(body)
            if self._owner.held_bytes > MAX_HELD_BYTES:
                self._owner.make_room(self)

    def on_message_complete(self) -> None:
        """The request is whole."""
        exchange, self._arriving = self._arriving, None
        self._is_receiving = False
        self._message_bytes = 0
        if exchange is not None:
            self._waiting.append(exchange)

    def _parse(self, data: bytes) -> None:
        """Feed the parser, and decline offers to speak something else (Java's client offers HTTP/2 with each request).

        The parser stops behind a header with such an offer and would leave the body out. HTTP lets us ignore it: so a
        new parser gets the same request without it.
        """
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                line = b" ".join((self._parser.get_method(), self._target, b"HTTP/1.1\r\n"))
                kept = {name: text for name, text in self._headers.items() if name not in {"connection", "upgrade"}}
                head = "".join(f"{name}: {text}\r\n" for name, text in kept.items()).encode("latin-1")
                data = b"".join((line, head, b"\r\n", data[offer.args[0] :]))
                self._parser = httptools.HttpRequestParser(self)
            else:
                return

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            raise _RefusedError(Response(431))

    def _refuse(self, response: Response) -> None:
        """Answer `response` after what is still to be answered, and hang up."""
        request = self._arriving.request if self._arriving else _NO_REQUEST
        self._forget_unfinished()
        self._waiting.append(_Exchange(request, keep_alive=False, refusal=response))
        self._reads_no_more = True

    def _forget_unfinished(self) -> None:
        if self._arriving is not None:
            self._let_go(self._arriving)
        self._arriving = None
        self._is_receiving = False

    def _drop_waiting(self) -> None:
        while self._waiting:
            self._let_go(self._waiting.popleft())

    def _let_go(self, exchange: _Exchange) -> None:
        self._owner.held_bytes -= exchange.held_bytes
        exchange.held_bytes = 0
        exchange.parts.clear()

    def _answer_waiting(self) -> None:
        """Hand the requests that are complete to the application, one by one."""
        if self._is_answering:
            return  # from within `take`: the loop below goes on
        self._is_answering = True
        while self._waiting and self._current is None and not self._is_write_paused:
            self._current = exchange = self._waiting.popleft()
            if exchange.refusal is not None:
                self._answer(exchange, exchange.refusal)
                continue
            self.deadline = time.monotonic() + ANSWER_SECONDS
            exchange.request.body = b"".join(exchange.parts)
            self._let_go(exchange)
            self._owner.application.take(exchange.request, partial(self._answer, exchange))
        self._is_answering = False
        # Who sends requests faster than they are answered waits, and not in our memory.
        if bool(self._waiting) != self._is_read_paused and not self._transport.is_closing():
            self._is_read_paused = not self._is_read_paused
            (self._transport.pause_reading if self._is_read_paused else self._transport.resume_reading)()

    def _answer(self, exchange: _Exchange, response: Response) -> None:
        if self._current is not exchange:
            return  # too late: it was answered for the application, or the client is gone
        self._current = None
        if self._transport.is_closing():
            return
        is_last = not exchange.keep_alive or (self._owner.is_draining and self.is_idle)
        content = b"" if exchange.request.method == "HEAD" else response.body
        self._transport.write(_head(response, self._owner.date, closes=is_last) + content)
        self._owner.application.answered(response.status)
        self.was_answered = True
        if is_last:
            self._drop_waiting()  # what comes behind a last request is none
        if is_last and self._reads_no_more:
            # Closing now would take the answer from a client that is still sending.
            self._transport.write_eof()
            self.deadline = time.monotonic() + _LINGER_SECONDS
        elif is_last or (self._is_at_end and not self._waiting):
            self._reads_no_more = True
            self._transport.close()
        else:
            self._set_deadline()
            self._answer_waiting()

    def _set_deadline(self) -> None:
        self.deadline = time.monotonic() + (REQUEST_SECONDS if self._is_receiving else KEEP_ALIVE_SECONDS)


def unavailable(reason: str) -> Response:
    """The answer to what we cannot do now, and can later."""
    return Response(503, reason.encode(), headers=(("Retry-After", str(RETRY_AFTER_SECONDS)),))


def _head(response: Response, date: str, *, closes: bool) -> bytes:
    more = "".join(f"{name}: {value}\r\n" for name, value in response.headers)
    return (
        f"HTTP/1.1 {response.status} {_REASONS[response.status]}\r\nDate: {date}\r\n"
        f"Content-Type: {response.content_type}\r\nContent-Length: {len(response.body)}\r\n"
        f"X-Content-Type-Options: nosniff\r\n{more}{_CLOSE if closes else ''}\r\n"
    ).encode("latin-1")


def _path_of(target: str) -> str:
    """Path and query of a target that may be a whole address."""
    if target.startswith("/") or "://" not in target:
        return target
    return "/" + target.partition("://")[2].partition("/")[2]
