"""What every webhook must do. A platform joins with one class, over the suites that fit it::

    class TestWhatsAppWebhook(WebhookContract, HandshakeContract, JsonBodyContract):
        slug = "whatsapp"
        module: ClassVar[Any] = whatsapp
        body = b'{"object": ...}'
        kinds = ("message", "status")
        ...

`WebhookContract` is for all, `HandshakeContract` for those that ask by GET before they push, `JsonBodyContract` for
bodies of JSON. The receiver is the real one: its server on a free port, a real store, requests over a socket.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

import pytest

from mappings.errors import PayloadError, SignatureError
from stores.database import Stores
from stores.deliveries import Deliveries
from taps.webhooks.committer import Committer
from taps.webhooks.items import Item, WebhookRequest
from taps.webhooks.metrics import Metrics
from taps.webhooks.receiver import Receiver, ReceiverSettings, Routes, WebhookRoute, make_server, metrics_of
from taps.webhooks.server import Server

Usage = namedtuple("Usage", ["total", "free"])
PUBLIC_URL = "https://hooks.shop.example"
PLENTY = Usage(100_000_000_000, 90_000_000_000)


@dataclass(frozen=True)
class HttpAnswer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class RunningReceiver:
    """A receiver that serves, and a reader of what it stored."""

    port: int
    stored: Deliveries
    committer: Committer
    writer: Deliveries
    server: Server

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> HttpAnswer:
        """Send one request on a connection of its own; header names may repeat."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = list(headers)
            own_host = any(name.lower() == "host" for name, _ in headers)
            connection.putrequest(method, path, skip_host=own_host, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return HttpAnswer(
                response.status, {name.lower(): text for name, text in response.getheaders()}, response.read()
            )
        finally:
            connection.close()


@contextmanager
def running_receiver(
    stores: Stores,
    routes: Routes,
    *,
    disk_usage: Callable[[Path], Any] = lambda _: PLENTY,
    on_delivery: Callable[[], None] | None = None,
    public_url: str | None = None,
    settings: Mapping[str, Any] | None = None,
    housekeeping: Callable[[Deliveries, Metrics], Callable[[], float]] | None = None,
) -> Iterator[RunningReceiver]:
    """A receiver in threads of this process; `settings` of `ReceiverSettings`."""
    writer, reader = Deliveries(stores, writable=True), Deliveries(stores)
    given = ReceiverSettings(_env_file=None, **{"public_url": public_url, **(settings or {})})
    metrics = metrics_of(routes, writer)
    committer = Committer(
        writer,
        stores.folder,
        minimum_free_bytes=500_000_000,
        minimum_free_percent=5,
        disk_usage=disk_usage,
        on_delivery=on_delivery,
        metrics=metrics,
        housekeeping=housekeeping(writer, metrics) if housekeeping else None,
    )
    server = make_server(Receiver(routes, writer, committer, given, metrics), given, routes, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield RunningReceiver(server.port, reader, committer, writer, server)
    finally:
        server.stop()
        thread.join()
        server.close()
        assert committer.close()
        writer.close()
        reader.close()


HOSTILE_BODIES = {
    "empty": b"",
    "not JSON": b"hello",
    "a number": b"1",
    "a list": b"[]",
    "a text": b'"x"',
    "null": b"null",
    "one million levels": b"[" * 1_000_000,
    "closed levels": b'{"a":' * 900 + b"1" + b"}" * 900,
    "a number of 100,000 digits": b'{"object":' + b"9" * 100_000 + b"}",
    "infinity by size": b'{"object":1e999}',
    "NaN": b'{"object":NaN}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": json.dumps({"object": "page"}).encode("utf-16"),
    "bad UTF-8": b'{"object":"\xff\xfe"}',
    "repeated key": b'{"object":"a","object":"b"}',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
}
"""Bodies that no parser can make sense of; signed, they are stored all the same."""

_WRONG_VALUES: tuple[Any, ...] = (None, 3, "x", [], {}, [None], True, {"__proto__": 1})


class WebhookContract:
    """The suite. `settings` and `sign` are the two things that differ by platform.

    Attributes:
        body: a delivery with several events, where the platform batches.
        kinds: the kinds of its items.
        content_type: of the body.
        signature_header: where `sign` goes.
        more_headers: what the scheme needs besides (a timestamp).
        query: of the address that deliveries come to.
        answer: what the 200 to a delivery says.
        tampering: whether the signature covers the body (a secret in a header alone does not).
        hostile_bodies: what `split` must refuse with `PayloadError`.
    """

    slug: ClassVar[str]
    module: ClassVar[Any]
    body: ClassVar[bytes]
    kinds: ClassVar[tuple[str, ...]]
    signature_header: ClassVar[str]
    content_type: ClassVar[str] = "application/json"
    more_headers: Mapping[str, str] = {}
    query: ClassVar[str] = ""
    answer: ClassVar[bytes] = b""
    tampering: ClassVar[bool] = True
    hostile_bodies: ClassVar[Mapping[str, bytes]] = HOSTILE_BODIES

    current = "current-secret-0123456789"
    previous = "previous-secret-0123456789"

    def settings(self, secret: str, previous: str | None = None) -> Any:
        """The module's settings with these secrets."""
        raise AssertionError

    def sign(self, secret: str, body: bytes) -> str:
        """The value of the signature header."""
        raise AssertionError

    def wrong_signatures(self, good: str) -> list[str]:
        """What looks like a signature and is none."""
        return [
            "", self.sign("another tenant's secret", self.body), good[:-1], good + "0", f" {good},",
            good.replace("=", "==") if "=" in good else f"{good}=", f"sha1={good[-40:]}", "sha256=",
            f"sha256={'٣' * 64}".encode().decode("latin-1"),
        ]  # fmt: skip

    def signed(self, body: bytes, signature: str) -> WebhookRequest:
        """A delivery as the module gets it."""
        headers = {"content-type": self.content_type, self.signature_header.lower(): signature}
        headers |= {name.lower(): value for name, value in self.more_headers.items()}
        query = dict(parse_qsl(self.query, keep_blank_values=True))
        url = f"{PUBLIC_URL}/webhooks/{self.slug}{'?' if self.query else ''}{self.query}"
        return WebhookRequest(url=url, query=query, headers=headers, body=body)

    def read(self, body: bytes) -> list[Item]:
        """The items of a body; overridden where `split` takes more than the bytes."""
        items: list[Item] = self.module.split(body)
        return items

    @pytest.fixture
    def receiver(self, stores: Stores) -> Iterator[RunningReceiver]:
        route = WebhookRoute(self.module, self.settings(self.current, self.previous))
        with running_receiver(stores, {(self.slug, "default"): route}, public_url=PUBLIC_URL) as running:
            yield running

    def post(self, receiver: RunningReceiver, body: bytes, *signatures: str) -> HttpAnswer:
        headers = [
            ("Content-Type", self.content_type),
            *((self.signature_header, one) for one in signatures),
            *self.more_headers.items(),
        ]
        path = f"/webhooks/{self.slug}{'?' if self.query else ''}{self.query}"
        return receiver.request("POST", path, body, headers)

    def test_a_signed_delivery_is_stored_byte_for_byte_and_answered_200(self, receiver: RunningReceiver) -> None:
        answer = self.post(receiver, self.body, self.sign(self.current, self.body))
        assert (answer.status, answer.body) == (200, self.answer)
        (delivery,) = receiver.stored.read(self.slug, "default", 0, 10)
        assert delivery.body == self.body
        assert delivery.headers["content-type"] == self.content_type

    def test_the_previous_secret_is_taken_while_it_is_set(self, receiver: RunningReceiver) -> None:
        assert self.post(receiver, self.body, self.sign(self.previous, self.body)).status == 200
        assert receiver.stored.count() == 1

    def test_the_old_secret_is_refused_once_it_is_taken_out(self) -> None:
        request = self.signed(self.body, self.sign(self.previous, self.body))
        with pytest.raises(SignatureError):
            self.module.verify(self.settings(self.current), request)

    def test_a_forged_missing_empty_or_malformed_signature_is_401_and_stores_nothing(
        self, receiver: RunningReceiver
    ) -> None:
        good = self.sign(self.current, self.body)
        attempts: list[tuple[str, ...]] = [(), *((one,) for one in self.wrong_signatures(good))]
        answers = [self.post(receiver, self.body, *attempt) for attempt in attempts]
        assert [answer.status for answer in answers] == [401] * len(attempts)
        assert [answer.body for answer in answers] == [b""] * len(attempts)
        assert receiver.stored.count() == 0

    def test_two_signature_headers_are_401_whichever_is_good(self, receiver: RunningReceiver) -> None:
        good, bad = self.sign(self.current, self.body), self.sign("other", self.body)
        attempts = [(good, bad), (bad, good), (good, good)]
        assert [self.post(receiver, self.body, *attempt).status for attempt in attempts] == [401] * 3
        assert receiver.stored.count() == 0

    def test_a_change_of_any_byte_breaks_the_signature(self) -> None:
        signature = self.sign(self.current, self.body)
        settings = self.settings(self.current)
        self.module.verify(settings, self.signed(self.body, signature))
        for position in range(len(self.body)):
            tampered = bytearray(self.body)
            tampered[position] ^= 0x01
            if self.tampering:
                with pytest.raises(SignatureError):
                    self.module.verify(settings, self.signed(bytes(tampered), signature))
            else:
                self.module.verify(settings, self.signed(bytes(tampered), signature))

    def test_a_signature_error_tells_no_secret_and_no_content(self) -> None:
        wrong = self.signed(self.body, self.sign("other", self.body))
        with pytest.raises(SignatureError) as raised:
            self.module.verify(self.settings(self.current), wrong)
        text = str(raised.value) + repr(self.settings(self.current, self.previous))
        assert self.current not in text
        assert self.previous not in text
        assert self.sign(self.current, self.body) not in text

    def test_a_delivery_that_comes_twice_is_one_row_and_200(self, receiver: RunningReceiver) -> None:
        signature = self.sign(self.current, self.body)
        assert [self.post(receiver, self.body, signature).status for _ in range(2)] == [200, 200]
        assert receiver.stored.count() == 1

    def test_fifty_at_once_of_the_same_delivery_are_one_row_and_200(self, receiver: RunningReceiver) -> None:
        signature = self.sign(self.current, self.body)
        barrier = threading.Barrier(50)

        def send(_: int) -> int:
            barrier.wait()
            return self.post(receiver, self.body, signature).status

        with ThreadPoolExecutor(50) as pool:
            assert list(pool.map(send, range(50))) == [200] * 50
        assert receiver.stored.count() == 1

    def test_a_body_over_the_limit_is_413_and_the_limit_itself_is_taken(self, receiver: RunningReceiver) -> None:
        full = b" " * self.module.MAX_BODY_BYTES
        assert self.post(receiver, full, self.sign(self.current, full)).status == 200
        # Refused by its announced length, before the body is sent.
        announced = [("Content-Length", str(len(full) + 1)), ("Content-Type", self.content_type)]
        assert receiver.request("POST", f"/webhooks/{self.slug}", None, announced).status == 413
        assert receiver.stored.count() == 1

    def test_an_authentic_body_that_nobody_can_read_is_stored_and_200(self, receiver: RunningReceiver) -> None:
        for name, body in self.hostile_bodies.items():
            assert self.post(receiver, body, self.sign(self.current, body)).status == 200, name
        assert receiver.stored.count() == len(self.hostile_bodies)

    def test_every_event_of_a_delivery_becomes_one_item(self) -> None:
        items = self.read(self.body)
        assert tuple(item.kind for item in items) == self.kinds
        assert [item.index for item in items] == list(range(len(self.kinds)))
        assert len({item.key for item in items}) == len(self.kinds)

    def test_the_same_bytes_give_the_same_items(self) -> None:
        assert self.read(self.body) == self.read(self.body)

    def test_a_body_that_nobody_can_read_is_a_payload_error(self) -> None:
        for body in self.hostile_bodies.values():
            with pytest.raises(PayloadError):
                self.read(body)


class HandshakeContract:
    """For platforms that ask by GET before they push.

    Attributes:
        handshake: query of a good handshake; `wrong_handshakes` are refused.
        handshake_answer: what the good one gets.
    """

    slug: ClassVar[str]
    handshake: ClassVar[Mapping[str, str]]
    handshake_answer: ClassVar[str]
    handshake_content_type: ClassVar[str] = "text/plain; charset=utf-8"
    wrong_handshakes: ClassVar[tuple[Mapping[str, str], ...]]

    def test_a_good_handshake_is_answered_in_plain_text(self, receiver: RunningReceiver) -> None:
        answer = receiver.request("GET", f"/webhooks/{self.slug}?{urlencode(self.handshake)}")
        assert (answer.status, answer.body.decode()) == (200, self.handshake_answer)
        assert answer.headers["content-type"] == self.handshake_content_type
        assert answer.headers["x-content-type-options"] == "nosniff"

    def test_a_wrong_handshake_is_401_and_reflects_nothing(self, receiver: RunningReceiver) -> None:
        for query in self.wrong_handshakes:
            answer = receiver.request("GET", f"/webhooks/{self.slug}?{urlencode(query)}")
            assert (answer.status, answer.body) == (401, b""), query

    def test_a_get_that_is_no_handshake_is_405(self, receiver: RunningReceiver) -> None:
        assert receiver.request("GET", f"/webhooks/{self.slug}").status == 405


class JsonBodyContract:
    """For bodies of JSON. `unknown_bodies` are authentic and hold no event that anybody knows."""

    slug: ClassVar[str]
    body: ClassVar[bytes]
    unknown_bodies: ClassVar[tuple[bytes, ...]] = (
        b"{}",
        b'{"object":"something new","entry":[]}',
        b'{"entry":{"id":1}}',
        b'{"object":1,"entry":[1]}',
    )

    def read(self, body: bytes) -> list[Item]:
        """See `WebhookContract.read`."""
        raise AssertionError

    def test_a_body_that_was_cut_off_is_a_payload_error(self) -> None:
        for end in range(0, len(self.body), 7):
            with pytest.raises(PayloadError):
                self.read(self.body[:end])

    def test_an_authentic_body_without_known_events_is_an_item_all_the_same(self) -> None:
        for body in self.unknown_bodies:
            assert [item.kind for item in self.read(body)] == ["other"], body

    def test_a_wrong_value_anywhere_spoils_its_own_part_only(self) -> None:
        """Every node of the sample, replaced by every wrong value: never an exception, never nothing."""
        sample = json.loads(self.body)
        for path in _paths(sample):
            for wrong in _WRONG_VALUES:
                items = self.read(json.dumps(_replaced(sample, path, wrong)).encode())
                assert items, (path, wrong)
                assert [item.index for item in items] == list(range(len(items)))
                assert all(item.key for item in items), (path, wrong)

    def test_a_half_surrogate_pair_becomes_a_replacement_character(self) -> None:
        items = self.read(json.dumps({"object": "cut \ud83d", "entry": ["x\udc00y"]}).encode())
        assert items
        text = json.dumps([item.payload for item in items], ensure_ascii=False)
        assert "cut \ufffd" in text
        text.encode("utf-8")


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from _paths(child, (*path, name))


def _replaced(value: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    copy = deepcopy(value)
    node = copy
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = wrong
    return copy
