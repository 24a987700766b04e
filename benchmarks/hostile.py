"""What a receiver does with clients that mean harm or are broken; against any receiver that runs, yours too.

It knows no secret, so nothing that it sends may be taken. Run it with the address that a platform would call::

    python -m benchmarks.hostile http://127.0.0.1:8480/webhooks/whatsapp

Each line is one kind of attack; exit code 1 when the receiver took something, answered twice, kept a connection open or
did not serve others meanwhile. Against a proxy in front it judges the two together.
"""

from __future__ import annotations

import argparse
import gzip
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

_HEADER_BYTES = 60_000_000
_BODY_BYTES = 200_000_000


@dataclass(frozen=True)
class Target:
    """Where to send: the parts of the address, and for how long a slow client may be tolerated."""

    host: str
    port: int
    path: str
    tls: bool = False
    patience_seconds: float = 40

    def connect(self) -> socket.socket:
        """A new connection."""
        client = socket.create_connection((self.host, self.port), timeout=self.patience_seconds)
        return ssl.create_default_context().wrap_socket(client, server_hostname=self.host) if self.tls else client

    def begin(self, headers: str = "", method: str = "POST", path: str | None = None) -> str:
        """The beginning of a request, up to where more headers can come."""
        return f"{method} {self.path if path is None else path} HTTP/1.1\r\nHost: {self.host}\r\n{headers}"

    def exchange(self, raw: bytes) -> list[int]:
        """Send `raw` and nothing more; the statuses of all that is answered until the other side hangs up."""
        with self.connect() as client:
            try:
                client.sendall(raw)
                if not self.tls:
                    client.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # cut off while we were still sending
            return statuses(read_to_end(client))


def ambiguous(begin: str) -> dict[str, str]:
    """Requests that two readers can understand in two ways, by name; `begin` is one up to its first headers."""
    chunked = "Transfer-Encoding: chunked\r\n"
    return {
        "length and chunks": f"{begin}Content-Length: 5\r\n{chunked}\r\n0\r\n\r\n",
        "chunks and length": f"{begin}{chunked}Content-Length: 5\r\n\r\n0\r\n\r\n",
        "a second request smuggled behind chunks": f"{begin}Content-Length: 100\r\n{chunked}\r\n0\r\n\r\n"
        f"{begin}Content-Length: 3\r\n\r\nbad",
        "two lengths": f"{begin}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "two equal lengths": f"{begin}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "a list of lengths": f"{begin}Content-Length: 3, 3\r\n\r\nabc",
        "a length with a sign": f"{begin}Content-Length: +3\r\n\r\nabc",
        "a negative length": f"{begin}Content-Length: -3\r\n\r\nabc",
        "a length in hexadecimal": f"{begin}Content-Length: 0x3\r\n\r\nabc",
        "a length with an underscore": f"{begin}Content-Length: 1_0\r\n\r\nabcabcabca",
        "a length in Arabic digits": f"{begin}Content-Length: ٣\r\n\r\nabc",
        "chunks that are not the last coding": f"{begin}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "an unknown coding": f"{begin}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "a coding behind a vertical tab": f"{begin}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "chunks in HTTP/1.0": begin.replace("1.1", "1.0", 1) + f"{chunked}\r\n0\r\n\r\n",
        "a chunk size with a sign": f"{begin}{chunked}\r\n+3\r\nabc\r\n0\r\n\r\n",
        "a chunk without its end": f"{begin}{chunked}\r\n3\r\nabcX\r\n0\r\n\r\n",
        "a space before the colon": f"{begin}Content-Length : 3\r\n\r\nabc",
        "NUL in a header": f"{begin}X-Other: a\x00b\r\nContent-Length: 3\r\n\r\nabc",
        "a bare line feed in a header": f"{begin}X-Other: a\nContent-Length: 3\r\n\r\nabc",
        "a header without a name": f"{begin}: x\r\nContent-Length: 3\r\n\r\nabc",
        "no request line": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        "a request line of one word": "POST\r\nX-Secret: one\r\n\r\n",
    }


def read_to_end(client: socket.socket) -> bytes:
    """What the server sends until it hangs up (a reset counts as that)."""
    received = b""
    try:
        while part := client.recv(65536):
            received += part
    except (ConnectionResetError, TimeoutError):
        pass
    return received


def statuses(answers: bytes) -> list[int]:
    """The statuses of the answers in what came back."""
    return [int(line.split(b" ")[1]) for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.")]


def cut_off_within(client: socket.socket, drip: bytes, seconds: float) -> bool:
    """Whether the server hangs up although a byte comes all the time."""
    give_up_at = time.monotonic() + seconds
    try:
        while time.monotonic() < give_up_at:
            client.sendall(drip)
            readable, _, _ = select.select([client], [], [], 0.05)
            if readable and not client.recv(65536):
                return True
    except OSError:
        return True
    return False


def flood(client: socket.socket, piece: bytes, limit: int) -> int:
    """Send `piece` again and again until the server hangs up, or `limit` bytes are sent; how many were."""
    sent = 0
    try:
        while sent < limit:
            client.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


# The attacks: each says what is wrong, or nothing.


def _refused(target: Target, raw: str | bytes, *also: int) -> str | None:
    found = target.exchange(raw if isinstance(raw, bytes) else raw.encode())
    good = {400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 421, 431, 501, *also}
    if len(found) > 1:
        return f"answered {len(found)} times: {found}"
    return None if set(found) <= good else f"answered {found[0]}"


def _unsigned(target: Target) -> Iterator[tuple[str, Callable[[], str | None]]]:
    good = "0" * 64
    signatures = {
        "no signature": "",
        "an empty signature": "X-Hub-Signature-256: sha256=\r\n",
        "a wrong signature": f"X-Hub-Signature-256: sha256={good}\r\n",
        "a SHA-1 signature alone": f"X-Hub-Signature: sha1={good[:40]}\r\n",
        "two signatures": f"X-Hub-Signature-256: sha256={good}\r\nX-Hub-Signature-256: sha256={good}\r\n",
        "a signature that is not ASCII": "X-Hub-Signature-256: sha256=٣\r\n",
    }
    for name, header in signatures.items():
        yield name, lambda header=header: _refused(target, target.begin(header) + "Content-Length: 2\r\n\r\n{}")  # type: ignore[misc]


def _paths(target: Target) -> Iterator[tuple[str, Callable[[], str | None]]]:
    for path in ("/../admin", "/%2e%2e/admin", "//", ";x=1", "%00", "/a/b/c", "\\x", ".json"):
        raw = target.begin("Content-Length: 2\r\n", path=target.path + path) + "\r\n{}"
        yield f"the path ...{path}", lambda raw=raw: _refused(target, raw)  # type: ignore[misc]


def _reflection(target: Target) -> str | None:
    word = "<script>alert(1)</script>"
    path = f"{target.path}?hub.mode=subscribe&hub.verify_token=x&hub.challenge={word}&echostr={word}&crc_token={word}"
    with target.connect() as client:
        client.sendall(target.begin("Connection: close\r\n\r\n", "GET", path).encode())
        answer = read_to_end(client)
    if word.encode() in answer:
        return "gives markup back"
    return "answered 200" if statuses(answer) == [200] else None


def _endless_header(target: Target) -> str | None:
    with target.connect() as client:
        client.sendall(target.begin().encode())
        sent = flood(client, b"X-Other: x\r\n" * 5000, _HEADER_BYTES)
    return "takes a header of 60 MB" if sent >= _HEADER_BYTES else None


def _endless_line(target: Target) -> str | None:
    return _refused(target, b"GET /" + b"a" * 5_000_000)


def _large_body(target: Target) -> str | None:
    with target.connect() as client:
        client.sendall(target.begin(f"Content-Length: {_BODY_BYTES}\r\n\r\n").encode())
        sent = flood(client, b"x" * 65536, _BODY_BYTES)
    return "takes a body of 200 MB" if sent >= _BODY_BYTES else None


def _endless_chunks(target: Target) -> str | None:
    with target.connect() as client:
        client.sendall(target.begin("Transfer-Encoding: chunked\r\n\r\n").encode())
        sent = flood(client, b"10000\r\n" + b"x" * 65536 + b"\r\n", _BODY_BYTES)
    return "takes 200 MB in chunks" if sent >= _BODY_BYTES else None


def _bomb(target: Target) -> str | None:
    bomb = gzip.compress(gzip.compress(bytes(50_000_000)))
    head = target.begin(f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n")
    return _refused(target, head.encode() + bomb)


def _drips(target: Target) -> Iterator[tuple[str, Callable[[], str | None]]]:
    def try_it(begin: str, drip: bytes) -> str | None:
        with target.connect() as client:
            client.sendall(begin.encode())
            closed = cut_off_within(client, drip, target.patience_seconds)
        return None if closed else f"is still open after {target.patience_seconds:.0f} s"

    yield "a header that drips in", lambda: try_it(target.begin(), b"X")
    yield "a body that drips in", lambda: try_it(target.begin("Content-Length: 100000\r\n\r\n"), b"x")
    chunks = target.begin("Transfer-Encoding: chunked\r\n\r\n")
    yield "chunks that drip in", lambda: try_it(chunks, b"1\r\nx\r\n")


@contextmanager
def _slow_clients(target: Target, count: int) -> Iterator[None]:
    clients = []
    try:
        for number in range(count):
            client = target.connect()
            clients.append(client)
            client.sendall(target.begin("Content-Length: 1000\r\n\r\nx" if number % 2 else "").encode())
        yield
    finally:
        for client in clients:
            client.close()


def _slow_crowd(target: Target) -> str | None:
    with _slow_clients(target, 300):
        return _others(target)


def _others(target: Target) -> str | None:
    """Nothing, when somebody else is served."""
    found = target.exchange(target.begin("Connection: close\r\nContent-Length: 2\r\n\r\n{}").encode())
    return None if found and found[0] < 500 else f"others are answered {found or 'nothing'}"


def attacks(target: Target) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """(name, what to do) of each; what it returns is what is wrong."""
    yield from _unsigned(target)
    yield from _paths(target)
    yield "markup in a handshake", lambda: _reflection(target)
    for name, raw in ambiguous(target.begin()).items():
        yield name, lambda raw=raw: _refused(target, raw)  # type: ignore[misc]
    for name, attack in (
        ("a header without end", _endless_header),
        ("a request line without end", _endless_line),
        ("a body of 200 MB", _large_body),
        ("chunks without end", _endless_chunks),
        ("a bomb", _bomb),
        ("300 clients that never finish", _slow_crowd),
    ):
        yield name, lambda attack=attack: attack(target)  # type: ignore[misc]
    yield from _drips(target)


def examine(target: Target, say: Callable[[str], None] = print) -> int:
    """Try everything; how many attacks had an effect."""
    failures = 0
    for name, attack in attacks(target):
        try:
            wrong = attack() or _others(target)
        except OSError as error:
            wrong = f"does not answer ({type(error).__name__})"
        failures += bool(wrong)
        say(f"{'FAILED' if wrong else 'ok':8}{name}{f': {wrong}' if wrong else ''}")
    return failures


def target_of(url: str, patience_seconds: float = 40) -> Target:
    """The target that an address names."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"{url!r} is not an address like http://127.0.0.1:8480/webhooks/whatsapp"
        raise SystemExit(msg)
    port = parts.port or (443 if tls else 80)
    return Target(parts.hostname, port, parts.path or "/webhooks/whatsapp", tls, patience_seconds)


def main() -> None:
    """Attack what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url", nargs="?", help="e.g. http://127.0.0.1:8480/webhooks/whatsapp; yours, or with leave")
    parser.add_argument("--patience", type=float, default=40, help="seconds after which a slow client must be cut off")
    arguments = parser.parse_args()
    if arguments.url is None:
        print("hostile clients: no address given, nothing tried")
        return
    failures = examine(target_of(arguments.url, arguments.patience))
    print(f"{failures} with an effect" if failures else "none had an effect")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
