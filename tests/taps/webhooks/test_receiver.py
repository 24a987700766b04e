from __future__ import annotations

import http.client
import logging
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from pydantic import model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import SettingsError, SignatureError, UnavailableError
from mappings.platforms import Platform
from stores.database import Stores
from stores.deliveries import Deliveries, DeliveryRow
from taps.webhooks import committer as committer_module
from taps.webhooks import connection as connection_module
from taps.webhooks import receiver as receiver_module
from taps.webhooks.committer import Committer
from taps.webhooks.items import Answer, WebhookRequest
from taps.webhooks.receiver import Routes, WebhookRoute, build_routes, serve
from tests.contract.webhook import PLENTY, HttpAnswer, RunningReceiver, Usage, running_receiver


def verify(settings: str, request: WebhookRequest) -> None:
    """A platform that sends its secret along."""
    if request.body == b"bug":
        msg = "a bug that shows canary-body"
        raise RuntimeError(msg)
    if request.headers.get("x-secret") != settings:
        msg = "the secret is wrong"
        raise SignatureError(msg)


def challenge(settings: str, request: WebhookRequest) -> Answer | None:
    if request.query.get("token", settings) != settings:
        msg = "the token is wrong"
        raise SignatureError(msg)
    return Answer(request.query["echo"]) if "echo" in request.query else None


def module(max_body_bytes: int = 1000) -> Any:
    return SimpleNamespace(verify=verify, challenge=challenge, MAX_BODY_BYTES=max_body_bytes)


ROUTES: Routes = {
    ("acme", "default"): WebhookRoute(module(), "one"),
    ("acme", "shop2"): WebhookRoute(module(), "two"),
    ("large", "default"): WebhookRoute(module(100_000), "one"),
}


@pytest.fixture
def receiver(stores: Stores) -> Iterator[RunningReceiver]:
    with running_receiver(stores, ROUTES) as running:
        yield running


def post(
    receiver: RunningReceiver, body: bytes, path: str = "/webhooks/acme", secret: str = "one", **headers: str
) -> HttpAnswer:
    sent = [("X-Secret", secret), *((name.replace("_", "-"), value) for name, value in headers.items())]
    return receiver.request("POST", path, body, sent)


def test_each_route_takes_its_own_secret_only_and_keeps_its_own_deliveries(receiver: RunningReceiver) -> None:
    assert post(receiver, b"1", "/webhooks/acme", "one").status == 200
    assert post(receiver, b"1", "/webhooks/acme/shop2", "two").status == 200
    assert post(receiver, b"2", "/webhooks/acme", "two").status == 401
    assert post(receiver, b"2", "/webhooks/acme/shop2", "one").status == 401
    bodies = [[one.body for one in receiver.stored.read("acme", route, 0, 9)] for route in ("default", "shop2")]
    assert bodies == [[b"1"], [b"1"]]


def test_the_default_route_can_be_named(receiver: RunningReceiver) -> None:
    assert post(receiver, b"1", "/webhooks/acme/default").status == 200
    assert post(receiver, b"1", "/webhooks/acme").status == 200
    assert receiver.stored.count() == 1


@pytest.mark.parametrize(
    "path",
    [
        "/", "/webhooks", "/webhooks/", "/webhooks/nobody", "/webhooks/acme/nowhere", "/webhooks/acme/",
        "/webhooks/acme/default/more", "/webhooks/acme/../acme", "/webhooks/%2e%2e/webhooks/acme", "/webhooks//acme",
        "/WEBHOOKS/acme", "/webhooks/Acme", "/webhooks/acme;x=1", "/webhooks/acme%00", "/webhooks/acme%2fdefault%2f",
        "/webhooks/acme%20", "/webhooks/acme.json", "/admin", "/health/", "/webhooks/acme\\default", "*",
    ],
)  # fmt: skip
def test_any_other_path_is_404_and_stores_nothing(receiver: RunningReceiver, path: str) -> None:
    assert post(receiver, b"1", path).status == 404
    assert receiver.stored.count() == 0


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_other_methods_are_405_and_say_what_is_allowed(receiver: RunningReceiver, method: str) -> None:
    answer = receiver.request(method, "/webhooks/acme", b"1", [("X-Secret", "one")])
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")
    assert receiver.stored.count() == 0


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "identity, gzip", "deflate"])
def test_a_compressed_body_is_415(receiver: RunningReceiver, encoding: str) -> None:
    assert post(receiver, b"1", Content_Encoding=encoding).status == 415
    assert receiver.stored.count() == 0


def test_the_identity_encoding_is_no_encoding(receiver: RunningReceiver) -> None:
    assert post(receiver, b"1", Content_Encoding="identity").status == 200


def test_a_platforms_own_limit_holds_beside_one_with_a_higher(receiver: RunningReceiver) -> None:
    assert post(receiver, b"x" * 1001).status == 413
    assert post(receiver, b"x" * 1001, "/webhooks/large").status == 200


def test_a_chunked_body_is_taken_like_any_other(receiver: RunningReceiver) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=20)
    connection.request("POST", "/webhooks/acme", iter([b"ab", b"cd"]), {"X-Secret": "one"}, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert receiver.stored.read("acme", "default", 0, 1)[0].body == b"abcd"


def test_only_the_headers_that_were_asked_for_are_kept(receiver: RunningReceiver) -> None:
    post(receiver, b"1", User_Agent="acme/1", Authorization="Bearer x", Cookie="y", X_Forwarded_For="192.0.2.1")
    assert set(receiver.stored.read("acme", "default", 0, 1)[0].headers) == {"content-type", "user-agent"}


def test_a_delivery_differs_by_its_query_too(receiver: RunningReceiver) -> None:
    for query in ("a=1", "a=2", "a=1"):
        assert post(receiver, b"1", f"/webhooks/acme?{query}").status == 200
    assert receiver.stored.count() == 2


def test_a_bug_while_verifying_is_503_and_the_log_has_no_content(
    receiver: RunningReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    answer = post(receiver, b"bug")
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text
    assert receiver.stored.count() == 0


def test_no_query_no_body_and_no_secret_gets_into_the_log(
    receiver: RunningReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    post(receiver, b"canary-body", "/webhooks/acme?canary-query=1", "canary-secret")
    post(receiver, b"canary-body", "/webhooks/acme?canary-query=1")
    receiver.request("GET", "/webhooks/acme?token=canary-token&echo=canary-echo")
    receiver.request("GET", "/webhooks/nobody?token=canary-token")
    assert "refused" in caplog.text
    assert "canary" not in caplog.text


def test_a_flood_of_forged_requests_leaves_few_log_lines(
    receiver: RunningReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        post(receiver, b"1", secret="forged")
    counts = [record.args[2] for record in caplog.records if isinstance(record.args, tuple) and "refused" in record.msg]
    assert counts == [1, 2, 4, 8, 16]


def test_a_query_of_thousands_of_fields_is_400(receiver: RunningReceiver) -> None:
    assert receiver.request("GET", "/webhooks/acme?" + "&".join(["a=1"] * 5000)).status == 400


@pytest.mark.parametrize("path", ["/health", "/healthz", "/ready", "/readyz"])
def test_health_and_ready_answer_200_while_all_is_well(receiver: RunningReceiver, path: str) -> None:
    assert receiver.request("GET", path).status == 200
    assert receiver.request("POST", path, b"").status == 405


def test_a_nearly_full_disk_is_503_until_there_is_room(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "_DISK_CHECK_SECONDS", 0)
    usage = PLENTY
    with running_receiver(stores, ROUTES, disk_usage=lambda _: usage) as receiver:
        for low in (Usage(5_000_000_000, 499_999_999), Usage(100_000_000_000, 4_999_999_999)):
            usage = low
            answer = post(receiver, b"1")
            assert (answer.status, answer.headers["retry-after"]) == (503, "10")
            assert {receiver.request("GET", path).status for path in ("/ready", "/readyz")} == {503}
            assert {receiver.request("GET", path).status for path in ("/health", "/healthz")} == {200}
        usage = PLENTY
        assert post(receiver, b"1").status == 200
        assert receiver.stored.count() == 1


@pytest.mark.sqlite
def test_a_failed_commit_is_503_and_the_next_one_is_tried(receiver: RunningReceiver) -> None:
    limit = receiver.writer._database.query_one("PRAGMA page_count")
    assert limit is not None
    receiver.writer._database.query(f"PRAGMA max_page_count = {limit[0]}")
    bodies = [b"%d" % number * 90_000 for number in range(3)]
    assert [post(receiver, body, "/webhooks/large").status for body in bodies] == [503] * 3
    assert receiver.stored.count() == 0
    receiver.writer._database.query("PRAGMA max_page_count = 100000")
    assert [post(receiver, body, "/webhooks/large").status for body in bodies] == [200] * 3
    assert receiver.stored.count() == 3


class Gate:
    """`Deliveries.add` that waits until it is opened, and remembers the sizes of the batches."""

    def __init__(self, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.batches: list[int] = []
        self._add: Callable[[Sequence[DeliveryRow]], Counter[tuple[str, str]]] = deliveries.add
        monkeypatch.setattr(deliveries, "add", self.add)

    def add(self, rows: Sequence[DeliveryRow]) -> Counter[tuple[str, str]]:
        self.batches.append(len(rows))
        self.entered.set()
        self.opened.wait(30)
        return self._add(rows)


def test_a_commit_that_hangs_is_503_for_those_who_wait_and_those_who_come(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "STALLED_SECONDS", 0.3)
    monkeypatch.setattr(connection_module, "ANSWER_SECONDS", 0.3)
    gate = Gate(receiver.writer, monkeypatch)
    assert post(receiver, b"1").status == 503
    assert post(receiver, b"2").status == 503
    assert receiver.request("GET", "/ready").status == 503
    assert receiver.request("GET", "/health").status == 200
    gate.opened.set()
    wait_until(lambda: receiver.request("GET", "/ready").status == 200)
    assert [post(receiver, body).status for body in (b"1", b"2")] == [200, 200]
    assert receiver.stored.count() == 2


def test_whatever_waits_during_a_commit_shares_the_next_one(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(receiver.writer, monkeypatch)
    with ThreadPoolExecutor(21) as pool:
        first = pool.submit(post, receiver, b"first")
        assert gate.entered.wait(10)
        others = [pool.submit(post, receiver, b"%d" % number) for number in range(20)]
        wait_until(lambda: receiver.committer._waiting.qsize() == 20)
        gate.opened.set()
        assert {answer.result().status for answer in [first, *others]} == {200}
    assert gate.batches == [1, 20]


def test_a_disk_that_fails_is_written_to_no_more(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    deliveries = Deliveries(stores, writable=True)
    told: list[str] = []
    tried: list[int] = []

    def fail(rows: Sequence[DeliveryRow]) -> Counter[tuple[str, str]]:
        tried.append(len(rows))
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    monkeypatch.setattr(deliveries, "add", fail)
    running = committer(deliveries, stores)
    running.tell(lambda call: call(), lambda: told.append("stop"))
    assert "the disk of the state folder fails" in (Outcome(running, b"first").result() or "")
    wait_until(lambda: told == ["stop"])
    with pytest.raises(UnavailableError, match="the disk of the state folder fails"):
        Outcome(running, b"second")
    assert tried == [1]
    assert running.close()
    deliveries.close()


def test_more_bytes_than_may_wait_are_503(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "MAX_WAITING_BYTES", 100_000)
    with running_receiver(stores, ROUTES) as receiver, ThreadPoolExecutor(4) as pool:
        gate = Gate(receiver.writer, monkeypatch)
        bodies = [b"%d" % number * 60_000 for number in range(3)]
        taken = [pool.submit(post, receiver, body, "/webhooks/large") for body in bodies[:2]]
        assert gate.entered.wait(10)
        wait_until(lambda: receiver.committer._taken_bytes > 120_000)
        assert post(receiver, bodies[2], "/webhooks/large").status == 503
        gate.opened.set()
        assert {answer.result().status for answer in taken} == {200}
        assert post(receiver, bodies[2], "/webhooks/large").status == 200


def test_too_many_waiting_rows_are_503(receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "MAX_WAITING_ROWS", 2)
    gate = Gate(receiver.writer, monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        taken = [pool.submit(post, receiver, b"first")]
        assert gate.entered.wait(10)
        taken += [pool.submit(post, receiver, b"%d" % number) for number in range(3)]
        wait_until(lambda: receiver.committer._waiting.qsize() == 3)
        assert post(receiver, b"late").status == 503
        gate.opened.set()
        assert {answer.result().status for answer in taken} == {200}
    assert receiver.stored.count() == 4


def committer(deliveries: Deliveries, stores: Stores, **arguments: Any) -> Committer:
    return Committer(
        deliveries,
        stores.folder,
        minimum_free_bytes=0,
        minimum_free_percent=0,
        disk_usage=lambda _: PLENTY,
        **arguments,
    )


class Outcome:
    """What a waiter is told."""

    def __init__(self, running: Committer, body: bytes) -> None:
        self._told: Future[str | None] = Future()
        running.submit(row(body), self._told.set_result)

    def result(self) -> str | None:
        return self._told.result(timeout=20)


def row(body: bytes) -> DeliveryRow:
    return DeliveryRow("acme", "default", "2026-03-01T00:00:00.000000Z", b"{}", body, body.hex())


@pytest.mark.parametrize(("name", "value"), [("MAX_BATCH_ROWS", 4), ("MAX_BATCH_BYTES", 40)])
def test_a_transaction_is_bounded_in_rows_and_in_bytes(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    monkeypatch.setattr(committer_module, name, value)
    deliveries = Deliveries(stores, writable=True)
    gate = Gate(deliveries, monkeypatch)
    running = committer(deliveries, stores)
    outcomes = [Outcome(running, b"first")]
    assert gate.entered.wait(10)
    outcomes += [Outcome(running, b"%010d" % number) for number in range(10)]
    gate.opened.set()
    assert {one.result() for one in outcomes} == {None}
    assert gate.batches == [1, 4, 4, 2]
    assert running.close()
    deliveries.close()


def test_closing_commits_what_waits_and_takes_nothing_more(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    deliveries = Deliveries(stores, writable=True)
    gate = Gate(deliveries, monkeypatch)
    running = committer(deliveries, stores)
    outcomes = [Outcome(running, b"first")]
    assert gate.entered.wait(10)
    outcomes += [Outcome(running, b"%d" % number) for number in range(2)]
    assert not running.close(timeout_seconds=0)
    with pytest.raises(UnavailableError):
        Outcome(running, b"late")
    gate.opened.set()
    assert {one.result() for one in outcomes} == {None}
    assert running.close()
    assert deliveries.count() == 3
    deliveries.close()


def test_who_waits_for_deliveries_is_told_of_new_ones_only(stores: Stores) -> None:
    told: list[int] = []
    with running_receiver(stores, ROUTES, on_delivery=lambda: told.append(1)) as receiver:
        for body, count in ((b"1", 1), (b"1", 1), (b"2", 2)):
            post(receiver, body)
            wait_until(lambda count=count: len(told) == count)  # type: ignore[misc]
    assert len(told) == 2


def test_what_follows_a_delivery_may_fail_without_harm(stores: Stores, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        msg = "canary"
        raise RuntimeError(msg)

    with running_receiver(stores, ROUTES, on_delivery=fail) as receiver:
        assert [post(receiver, body).status for body in (b"1", b"2")] == [200, 200]
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text


def test_stopping_answers_what_has_begun_and_refuses_what_has_not(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_receiver(stores, ROUTES) as receiver:
        gate = Gate(receiver.writer, monkeypatch)
        idle = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=10)
        idle.request("GET", "/health")
        idle.getresponse().read()
        with ThreadPoolExecutor(1) as pool:
            begun = pool.submit(post, receiver, b"begun")
            assert gate.entered.wait(10)
            half = socket.create_connection(("127.0.0.1", receiver.port), timeout=10)
            half.sendall(b"POST /webhooks/acme HTTP/1.1\r\nHost: x\r\nX-Secret: one\r\nContent-Length: 4\r\n\r\nha")
            assert receiver.request("GET", "/health").status == 200  # the half request has been read by now
            receiver.server.stop()
            wait_until(lambda: refuses(receiver.port))
            gate.opened.set()
            half.sendall(b"lf")
            assert half.recv(100).startswith(b"HTTP/1.1 200")
            half.close()
            assert begun.result().status == 200
        assert idle.sock.recv(1) == b""
        idle.close()
    reader = Deliveries(stores)
    assert sorted(one.body for one in reader.read("acme", "default", 0, 9)) == [b"begun", b"half"]
    reader.close()


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionError:
        return True
    return False


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not come about"
        time.sleep(0.01)


def test_a_second_receiver_on_the_same_state_refuses_to_start(stores: Stores) -> None:
    with stores.lock("receiver"), pytest.raises(SettingsError, match="another onethread receiver is running"):
        serve(stores, "127.0.0.1", 0, routes=ROUTES)


def test_a_port_that_is_taken_is_a_settings_error(stores: Stores) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError, match="cannot listen on"):
        serve(stores, "127.0.0.1", taken.getsockname()[1], routes=ROUTES)


def test_the_port_that_was_found_free_is_told_and_everything_is_given_back(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ports: list[int] = []

    def ready(port: int) -> None:
        ports.append(port)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            serve(stores, "127.0.0.1", 0, ready, routes=ROUTES, disk_usage=lambda _: PLENTY)
    assert f"http://127.0.0.1:{ports[0]}" in caplog.text
    assert refuses(ports[0])


PLATFORMS = {
    "whatsapp": Platform(slug="whatsapp", name="WhatsApp", tap="x", mapping="x", webhook="taps.webhooks.whatsapp"),
    "messenger": Platform(slug="messenger", name="Messenger", tap="x", mapping="x", webhook="taps.webhooks.messenger"),
    "email": Platform(slug="email", name="E-mail", tap="x", mapping="x"),
}


def set_secrets(monkeypatch: pytest.MonkeyPatch, prefix: str, **secrets: str) -> None:
    for name, value in secrets.items():
        monkeypatch.setenv(f"ONETHREAD_{prefix}_{name.upper()}", value)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .env of whoever runs the tests is none of theirs."""
    monkeypatch.chdir(tmp_path)


def test_a_platform_whose_secrets_are_set_is_served_and_the_others_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_secrets(monkeypatch, "WHATSAPP", app_secret="canary-a", verify_token="canary-b")
    routes = build_routes(PLATFORMS)
    assert set(routes) == {("whatsapp", "default")}
    assert routes["whatsapp", "default"].settings.app_secret.get_secret_value() == "canary-a"
    assert "messenger is not served" in caplog.text
    assert "email" not in caplog.text
    assert "canary" not in caplog.text + repr(routes)


def test_more_routes_of_a_platform_have_secrets_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    set_secrets(monkeypatch, "WHATSAPP", app_secret="a", verify_token="b", routes="shop2, SHOP3")
    set_secrets(monkeypatch, "WHATSAPP_SHOP2", app_secret="c", verify_token="d", previous_app_secret="e")
    set_secrets(monkeypatch, "WHATSAPP_SHOP3", app_secret="f", verify_token="g")
    routes = build_routes(PLATFORMS)
    secrets = {key: route.settings.app_secret.get_secret_value() for key, route in routes.items()}
    assert secrets == {("whatsapp", "default"): "a", ("whatsapp", "shop2"): "c", ("whatsapp", "shop3"): "f"}


def test_named_routes_do_not_need_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    set_secrets(monkeypatch, "MESSENGER", routes="page2")
    set_secrets(monkeypatch, "MESSENGER_PAGE2", app_secret="c", verify_token="d")
    assert set(build_routes(PLATFORMS)) == {("messenger", "page2")}


def test_secrets_are_read_from_dotenv_too(tmp_path: Path) -> None:
    lines = "ONETHREAD_WHATSAPP_APP_SECRET=a\nONETHREAD_WHATSAPP_VERIFY_TOKEN=b\nONETHREAD_OTHER=c\n"
    (tmp_path / ".env").write_text(lines, encoding="utf-8")
    assert set(build_routes(PLATFORMS)) == {("whatsapp", "default")}


@pytest.mark.parametrize(
    ("secrets", "named"),
    [
        ({"app_secret": "", "verify_token": "b"}, "ONETHREAD_WHATSAPP_APP_SECRET"),
        ({"app_secret": ""}, "ONETHREAD_WHATSAPP_APP_SECRET"),
        ({"app_secret": " \n", "verify_token": "b"}, "ONETHREAD_WHATSAPP_APP_SECRET"),
        ({"app_secret": "canary", "verify_token": ""}, "ONETHREAD_WHATSAPP_VERIFY_TOKEN"),
        ({"app_secret": "canary", "verify_token": "b", "previous_app_secret": ""}, "PREVIOUS_APP_SECRET"),
        ({"app_secret": "canary"}, "ONETHREAD_WHATSAPP_VERIFY_TOKEN"),
        ({"app_secret": "canary", "verify_token": "b", "routes": "shop2"}, "ONETHREAD_WHATSAPP_SHOP2_APP_SECRET"),
        ({"app_secret": "canary", "verify_token": "b", "routes": "default"}, "ONETHREAD_WHATSAPP_ROUTES"),
        ({"app_secret": "canary", "verify_token": "b", "routes": "previous"}, "ONETHREAD_WHATSAPP_ROUTES"),
        ({"app_secret": "canary", "verify_token": "b", "routes": "a/b"}, "ONETHREAD_WHATSAPP_ROUTES"),
    ],
)
def test_empty_or_half_set_secrets_refuse_to_start_and_say_which(
    monkeypatch: pytest.MonkeyPatch, secrets: dict[str, str], named: str
) -> None:
    set_secrets(monkeypatch, "WHATSAPP", **secrets)
    with pytest.raises(SettingsError, match=named) as raised:
        build_routes(PLATFORMS)
    assert "canary" not in str(raised.value)


def test_a_receiver_without_any_secret_refuses_to_start() -> None:
    with pytest.raises(SettingsError, match="no platform has its secrets set"):
        build_routes(PLATFORMS)


def test_a_wrong_limit_refuses_to_start(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONETHREAD_RECEIVER_MINIMUM_FREE_PERCENT", "lots")
    with pytest.raises(SettingsError, match="ONETHREAD_RECEIVER_MINIMUM_FREE_PERCENT"):
        serve(stores, "127.0.0.1", 0, routes=ROUTES)


def test_the_registered_platforms_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver_module, "load_platforms", lambda: PLATFORMS)
    set_secrets(monkeypatch, "MESSENGER", app_secret="a", verify_token="b")
    assert set(build_routes()) == {("messenger", "default")}


def test_the_first_of_two_values_in_a_query_counts(stores: Stores) -> None:
    with running_receiver(stores, ROUTES) as receiver:
        assert receiver.request("GET", "/webhooks/acme?echo=one&echo=two").body == b"one"


def seen_by(stores: Stores, public_url: str | None, path: str) -> WebhookRequest:
    """The request as the webhook module gets it."""
    seen: list[WebhookRequest] = []
    acme = SimpleNamespace(verify=lambda _, request: seen.append(request), challenge=lambda *_: None, MAX_BODY_BYTES=10)
    with running_receiver(stores, {("acme", "default"): WebhookRoute(acme, "")}, public_url=public_url) as receiver:
        assert receiver.request("POST", path, b"x", [("Host", "inside:8080")]).status == 200
    (request,) = seen
    return request


@pytest.mark.parametrize(
    ("public_url", "path", "url"),
    [
        (None, "/webhooks/acme?b=2&a=%20", "http://inside:8080/webhooks/acme?b=2&a=%20"),
        ("https://hooks.shop.example", "/webhooks/acme", "https://hooks.shop.example/webhooks/acme"),
        ("https://shop.example/crm", "/webhooks/acme?a=1", "https://shop.example/crm/webhooks/acme?a=1"),
    ],
)
def test_a_module_sees_the_address_that_the_platform_called(
    stores: Stores, public_url: str | None, path: str, url: str
) -> None:
    assert seen_by(stores, public_url, path).url == url


FORWARDED = [
    ("Host", "inside:8080"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "hooks.shop.example"),
    ("X-Forwarded-For", "198.51.100.7"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "headers", "url"),
    [
        ({}, FORWARDED, "http://inside:8080/"),
        ({"trusted_proxy": "192.0.2.9"}, FORWARDED, "http://inside:8080/"),
        ({"trusted_proxy": "127.0.0.1"}, FORWARDED, "https://hooks.shop.example/"),
        ({"trusted_proxy": "*"}, FORWARDED, "https://hooks.shop.example/"),
        ({"trusted_proxy": "127.0.0.1"}, [FORWARDED[0]], "http://inside:8080/"),
        ({"trusted_proxy": "127.0.0.1"}, FORWARDED[:2], "https://inside:8080/"),
        ({"trusted_proxy": "127.0.0.1"}, [*FORWARDED[:2], ("X-Forwarded-Host", "forged.example, real.example")],
         "https://real.example/"),
        ({"trusted_proxy": "127.0.0.1", "trusted_proxy_headers": "X-Forwarded-Proto"}, FORWARDED,
         "https://inside:8080/"),
        ({"trusted_proxy": "127.0.0.1", "trusted_proxy_headers": "forwarded"},
         [*FORWARDED[:1], ("Forwarded", "for=198.51.100.7;host=hooks.shop.example;proto=https")],
         "https://hooks.shop.example/"),
        ({"trusted_proxy": "127.0.0.1", "public_url": "https://public.example/crm"}, FORWARDED,
         "https://public.example/crm/"),
    ],
)  # fmt: skip
def test_a_proxy_is_believed_only_where_it_is_trusted(
    stores: Stores, settings: dict[str, str], headers: list[tuple[str, str]], url: str
) -> None:
    seen: list[WebhookRequest] = []
    acme = SimpleNamespace(verify=lambda _, request: seen.append(request), challenge=lambda *_: None, MAX_BODY_BYTES=10)
    with running_receiver(stores, {("acme", "default"): WebhookRoute(acme, "")}, settings=settings) as receiver:
        assert receiver.request("POST", "/webhooks/acme?a=1", b"x", headers).status == 200
    assert seen[0].url == f"{url}webhooks/acme?a=1"
    assert not {name for name in seen[0].headers if "forwarded" in name}


def test_a_forwarded_header_that_makes_no_sense_is_400_and_stores_nothing(stores: Stores) -> None:
    with running_receiver(stores, ROUTES, settings={"trusted_proxy": "127.0.0.1"}) as receiver:
        for proto in ("gopher", "http,https"):
            assert post(receiver, b"1", X_Forwarded_Proto=proto).status == 400
        assert receiver.stored.count() == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trusted_proxy", "proxy.example"), ("trusted_proxy", ""), ("trusted_proxy_headers", "x-real-ip"),
        ("trusted_proxy_headers", "forwarded x-forwarded-for"), ("trusted_proxy_headers", ""), ("retention_days", "-1"),
    ],
)  # fmt: skip
def test_a_wrong_setting_refuses_to_start_and_is_named(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"ONETHREAD_RECEIVER_{name.upper()}", value)
    with pytest.raises(SettingsError, match=f"ONETHREAD_RECEIVER_{name.upper()}"):
        serve(stores, "127.0.0.1", 0, routes=ROUTES)


def test_a_module_says_what_a_delivery_is_answered(stores: Stores) -> None:
    acme = module()
    acme.answer = lambda _, request: Answer(f"<got>{request.body.decode()}</got>", "text/xml")
    with running_receiver(stores, {("acme", "default"): WebhookRoute(acme, "one")}) as receiver:
        answer = receiver.request("POST", "/webhooks/acme", b"x", [("X-Secret", "one")])
        assert (answer.body, answer.headers["content-type"]) == (b"<got>x</got>", "text/xml")
        assert receiver.request("POST", "/webhooks/acme", b"x", [("X-Secret", "two")]).body == b""


def test_a_compressed_body_is_stored_as_it_came_where_the_platform_compresses(stores: Stores) -> None:
    acme = module()
    acme.GZIP = True
    headers = [("X-Secret", "one"), ("Content-Encoding", "gzip")]
    with running_receiver(stores, {("acme", "default"): WebhookRoute(acme, "one")}) as receiver:
        assert receiver.request("POST", "/webhooks/acme", b"\x1f\x8b", headers).status == 200
        (delivery,) = receiver.stored.read("acme", "default", 0, 10)
        assert (delivery.body, delivery.headers["content-encoding"]) == (b"\x1f\x8b", "gzip")
        headers[1] = ("Content-Encoding", "br")
        assert receiver.request("POST", "/webhooks/acme", b"x", headers).status == 415


class OneOfTwo(BaseSettings):
    """A webhook of which any one proof must be set."""

    model_config = SettingsConfigDict(env_prefix="ONETHREAD_ACME_", env_file=".env")

    password: str | None = None
    hmac_secret: str | None = None

    @model_validator(mode="after")
    def _has_a_proof(self) -> Self:
        if self.password is None and self.hmac_secret is None:
            msg = "set one of password and hmac_secret"
            raise ValueError(msg)
        return self


def test_a_platform_of_which_one_of_several_secrets_is_needed_is_left_out_without_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    acme = module()
    acme.Settings = OneOfTwo
    platform = SimpleNamespace(slug="acme", webhook="x", load=lambda _: acme)
    with pytest.raises(SettingsError, match="no webhook can be served"):
        build_routes({"acme": platform})  # type: ignore[dict-item]  # what is used of a Platform
    monkeypatch.setenv("ONETHREAD_ACME_HMAC_SECRET", "s")
    assert set(build_routes({"acme": platform})) == {("acme", "default")}  # type: ignore[dict-item]
