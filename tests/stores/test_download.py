"""Downloads from addresses that strangers wrote: nothing leads into our own network, nothing is without end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest
import urllib3.util.connection

from mappings.errors import CredentialsError, OneThreadError, RateLimitedError, RejectedError, UnavailableError
from stores.download import Downloader
from tests.stores.file_server import FileServer, running_file_server

SECRET = {"Authorization": "Bearer a-secret-that-nobody-may-see"}
LIMIT = 1_000_000


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running_file_server() as made:
        yield made


def get(downloader: Downloader, url: str, **more: Any) -> bytes:
    return downloader.fetch(url, lambda chunks, _: b"".join(chunks), **{"max_bytes": LIMIT, **more})


def ours(server: FileServer, **more: Any) -> Downloader:
    """One that may ask the test's own server."""
    return Downloader([server.host], **{"tries": 1, **more})


def test_a_file_comes_whole_and_with_its_type(server: FileServer) -> None:
    server.files["/a"] = bytes(range(256)) * 1_000
    found = ours(server).fetch(f"{server.url}/a", lambda chunks, kind: (b"".join(chunks), kind), max_bytes=LIMIT)
    assert found == (server.files["/a"], "application/octet-stream")
    assert server.asked[0][1]["accept-encoding"] == "identity"


# Where it must not go

INTERNAL = [
    "https://127.0.0.1/x", "https://localhost/x", "https://[::1]/x", "https://[::ffff:127.0.0.1]/x", "https://0.0.0.0/x",
    "https://2130706433/x", "https://0x7f000001/x", "https://127.1/x", "https://10.0.0.1/x", "https://192.168.1.1/x",
    "https://172.16.0.1/x", "https://169.254.169.254/latest/meta-data/", "https://[fe80::1]/x", "https://[fd00::1]/x",
    "https://100.64.0.1/x", "https://224.0.0.1/x", "https://[ff02::1]/x", "https://255.255.255.255/x",
    "https://[64:ff9b::7f00:1]/x", "https://[2002:7f00:1::]/x", "https://[::]/x", "https://198.18.0.1/x",
]  # fmt: skip


@pytest.mark.parametrize("url", INTERNAL)
def test_an_address_in_a_private_network_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(urllib3.util.connection, "create_connection", _nobody)
    with pytest.raises(RejectedError, match="not public"):
        get(Downloader(tries=1), url)


@pytest.mark.parametrize(
    "url",
    [
        "http://media.example/x", "ftp://media.example/x", "file:///etc/passwd", "gopher://media.example/x",
        "data:text/plain,x", "//media.example/x", "media.example/x", "", "https://", "https:///x", "https://[::1/x",
        "https://user:password@media.example/x", "https://user@media.example/x", "https://a..example/x",
        "https://media.example:99999/x", "https://" + "a" * 70 + ".example/x", "https://media.example:x/",
    ],
)  # fmt: skip
def test_an_address_that_is_none_for_files_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(urllib3.util.connection, "create_connection", _nobody)
    with pytest.raises(RejectedError) as caught:
        get(Downloader(tries=1), url)
    assert "password" not in str(caught.value)


def test_a_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _resolving(["10.0.0.7"]))
    monkeypatch.setattr(urllib3.util.connection, "create_connection", _nobody)
    with pytest.raises(RejectedError, match=r"intranet\.example leads to an address that is not public"):
        get(Downloader(tries=1), "https://intranet.example/x")


def test_the_address_that_was_checked_is_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, connected = ["93.184.216.34", "127.0.0.1", "127.0.0.1"], []
    monkeypatch.setattr(socket, "getaddrinfo", _resolving(answers))

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        connected.append(address)
        raise OSError

    monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)
    with pytest.raises(UnavailableError):
        get(Downloader(tries=1), "https://rebinding.example/x")
    assert connected == [("93.184.216.34", 443)]


def test_only_the_named_hosts_are_asked(server: FileServer) -> None:
    server.files["/a"] = b"file"
    assert get(ours(server), f"{server.url}/a", hosts=frozenset({"127.0.0.1"})) == b"file"
    for hosts in ({"cdn.example"}, {".0.0.1.example"}, {"7.0.0.1"}, set()):
        with pytest.raises(RejectedError, match=r"127\.0\.0\.1 is not a host"):
            get(ours(server), f"{server.url}/a", hosts=frozenset(hosts))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("host", "pattern", "allowed"),
    [
        ("a.cdn.example", ".cdn.example", True), ("a.b.cdn.example", "*.cdn.example", True),
        ("cdn.example", ".cdn.example", False), ("evilcdn.example", ".cdn.example", False),
        ("cdn.example.evil.example", ".cdn.example", False), ("CDN.example", "cdn.EXAMPLE", True),
    ],
)  # fmt: skip
def test_a_host_below_a_named_domain(monkeypatch: pytest.MonkeyPatch, host: str, pattern: str, allowed: bool) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _resolving(["10.0.0.7"]))
    expected = "not public" if allowed else "not a host that"
    with pytest.raises(RejectedError, match=expected):
        get(Downloader(tries=1), f"https://{host}/x", hosts=frozenset({pattern}))


def test_a_private_host_is_asked_by_its_name_and_port_only(server: FileServer) -> None:
    server.files["/a"] = b"file"
    with pytest.raises(RejectedError, match="without encryption"):
        get(Downloader(["127.0.0.1:1"], tries=1), f"{server.url}/a")
    assert get(Downloader(["127.0.0.1"], tries=1), f"{server.url}/a") == b"file"


def test_nothing_is_taken_from_the_environment_and_no_cookie_is_kept(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.files["/a"] = lambda out: _raw(out, b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nConnection: close\r\n\r\nx")
    downloader = ours(server)
    for _ in range(2):
        assert get(downloader, f"{server.url}/a") == b"x"
    assert "cookie" not in server.asked[1][1]


# Redirects


def test_redirects_are_followed_and_the_token_stays_with_its_host(server: FileServer) -> None:
    with running_file_server() as other:
        server.redirect("/a", "/b", 301)
        server.redirect("/b", f"{other.url}/c", 307)
        other.files["/c"] = b"file"
        downloader = Downloader([server.host, other.host], tries=1)
        assert get(downloader, f"{server.url}/a", headers=SECRET) == b"file"
        assert [headers.get("authorization") for _, headers in server.asked] == [SECRET["Authorization"]] * 2
        assert "authorization" not in other.asked[0][1]


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("https://169.254.169.254/latest", "not public"), ("http://169.254.169.254/latest", "without encryption"),
        ("file:///etc/passwd", "without encryption"), ("https://user@10.0.0.1/", "user name"),
        ("https://[", "cannot be"),
    ],
)  # fmt: skip
def test_a_redirect_is_checked_like_the_first_address(server: FileServer, to: str, words: str) -> None:
    server.redirect("/a", to)
    with pytest.raises(RejectedError, match=words):
        get(ours(server), f"{server.url}/a")


def test_a_redirect_to_another_than_the_named_hosts_is_refused(server: FileServer) -> None:
    server.redirect("/a", "https://evil.example/x")
    with pytest.raises(RejectedError, match=r"evil\.example is not a host"):
        get(ours(server), f"{server.url}/a", hosts=frozenset({"127.0.0.1"}))


def test_more_than_three_redirects_are_refused(server: FileServer) -> None:
    for number in range(4):
        server.redirect(f"/{number}", f"/{number + 1}")
    server.files["/4"] = b"file"
    assert get(ours(server), f"{server.url}/1") == b"file"
    with pytest.raises(RejectedError, match="more than 3 redirects"):
        get(ours(server), f"{server.url}/0")


# What is wrong with the file


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, CredentialsError), (403, CredentialsError), (404, RejectedError), (410, RejectedError),
     (429, RateLimitedError), (500, UnavailableError), (503, UnavailableError), (204, RejectedError)],
)  # fmt: skip
def test_a_status_says_what_to_do(server: FileServer, status: int, error: type[OneThreadError]) -> None:
    server.status("/a", status)
    with pytest.raises(error):
        get(ours(server), f"{server.url}/a")


def test_a_file_that_says_it_is_too_large_is_not_read(server: FileServer) -> None:
    server.files["/a"] = lambda out: _raw(out, b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\nx")
    with pytest.raises(RejectedError, match="larger than 10 bytes"):
        get(ours(server), f"{server.url}/a", max_bytes=10)


def test_a_file_that_goes_on_and_on_is_cut(server: FileServer) -> None:
    server.files["/a"] = lambda out: _raw(out, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(300_000))
    assert len(get(ours(server), f"{server.url}/a", max_bytes=300_000)) == 300_000
    with pytest.raises(RejectedError, match="larger than 299999 bytes"):
        get(ours(server), f"{server.url}/a", max_bytes=299_999)


def test_a_file_that_ends_early_is_no_file(server: FileServer) -> None:
    server.files["/a"] = lambda out: _raw(out, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
    with pytest.raises(UnavailableError):
        get(ours(server), f"{server.url}/a")


def test_a_compressed_answer_is_refused(server: FileServer) -> None:
    server.files["/a"] = lambda out: _raw(
        out, b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"
    )
    with pytest.raises(RejectedError, match="compressed"):
        get(ours(server), f"{server.url}/a")


def test_bytes_that_drip_for_ever_are_given_up(server: FileServer) -> None:
    def drip(out: BinaryIO) -> None:
        _raw(out, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        try:
            while not server.hold.wait(0.01):
                _raw(out, b"x")
        except OSError:
            pass

    server.files["/a"] = drip
    with pytest.raises(UnavailableError, match=r"longer than 0\.2 seconds"):
        get(ours(server, max_seconds=0.2), f"{server.url}/a")


def test_headers_that_never_end_are_given_up(server: FileServer) -> None:
    def hold(out: BinaryIO) -> None:
        _raw(out, b"HTTP/1.1 200 OK\r\n")
        server.hold.wait(10)

    server.files["/a"] = hold
    with pytest.raises(UnavailableError, match="longer than"):
        get(ours(server, max_seconds=0.2), f"{server.url}/a")


# A host that does not answer


def test_a_lost_answer_is_asked_for_again(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    answers = iter([b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"])
    server.files["/a"] = lambda out: _raw(out, next(answers))
    assert get(ours(server, tries=2), f"{server.url}/a") == b"x"


def test_a_host_that_does_not_answer_is_left_alone_for_a_while(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status("/a", 503)
    server.files["/b"] = b"file"
    downloader = ours(server)
    for path in "aabaaa":
        if path == "b":  # it does answer: the count begins anew
            assert get(downloader, f"{server.url}/b") == b"file"
            continue
        with pytest.raises(UnavailableError, match="503"):
            get(downloader, f"{server.url}/{path}")
    with pytest.raises(UnavailableError, match="not asked again now"):
        get(downloader, f"{server.url}/b")
    assert len(server.asked) == 6
    monkeypatch.setattr("stores.download.time.monotonic", lambda: float("inf"))
    assert get(downloader, f"{server.url}/b") == b"file"


def test_no_message_holds_more_of_an_address_than_its_host(server: FileServer) -> None:
    server.status("/private-path?token=hidden", 404)
    for url in (f"{server.url}/private-path?token=hidden", "http://media.example/private-path?token=hidden"):
        with pytest.raises(RejectedError) as caught:
            get(ours(server), url)
        assert "hidden" not in str(caught.value)
        assert "private-path" not in str(caught.value)


def _raw(out: BinaryIO, data: bytes) -> None:
    out.write(data)


def _nobody(*_: Any, **__: Any) -> socket.socket:
    pytest.fail("a connection was made")


def _resolving(addresses: list[str]) -> Any:
    """A resolver that gives these, one after the other, then the last one."""
    left = list(addresses)

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return resolve
