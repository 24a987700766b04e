"""A server that gives files the way strangers do: too large, too slow, cut, elsewhere, as a web page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(300)


class FileServer(ThreadingHTTPServer):
    """What it answers is in `files`: a path -> bytes, or a function that writes a whole raw answer.

    Attributes:
        asked: method, path and headers of each request, in order.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes | Callable[[BinaryIO], None]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.hold = threading.Event()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def redirect(self, path: str, to: str, status: int = 302) -> None:
        """Answer `path` with a redirect."""
        line = f"HTTP/1.1 {status} Moved\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        self.files[path] = lambda out: _write(out, line.encode())

    def status(self, path: str, status: int) -> None:
        """Answer `path` with an error."""
        line = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        self.files[path] = lambda out: _write(out, line.encode())


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        answer = self.server.files.get(self.path)
        if callable(answer):
            answer(self.wfile)  # type: ignore[arg-type]  # a BufferedIOBase is what a test writes to
            self.close_connection = True
            return
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Length", str(len(answer or b"")))
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        self.wfile.write(answer or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the standard library)
        """Say nothing."""


def _write(out: BinaryIO, data: bytes) -> None:
    out.write(data)


@contextmanager
def running_file_server() -> Iterator[FileServer]:
    """A server for one test."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
