"""/metrics: right numbers, in a format that Prometheus reads, for those who may see them, and nothing personal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mappings.errors import SettingsError, SignatureError
from stores.database import Stores
from stores.deliveries import Deliveries
from taps.webhooks.items import WebhookRequest
from taps.webhooks.receiver import ReceiverSettings, WebhookRoute, metrics_of, serve
from tests.contract.webhook import PLENTY, HttpAnswer, RunningReceiver, running_receiver


def verify(settings: str, request: WebhookRequest) -> None:
    if request.headers.get("x-secret") != settings:
        msg = "the secret is wrong"
        raise SignatureError(msg)


MODULE = SimpleNamespace(verify=verify, challenge=lambda *_: None, MAX_BODY_BYTES=1000)
ROUTES = {("acme", name): WebhookRoute(MODULE, "one") for name in ("default", "shop2")}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def receiver(stores: Stores) -> Iterator[RunningReceiver]:
    with running_receiver(stores, ROUTES) as running:
        yield running


def post(receiver: RunningReceiver, body: bytes, path: str = "/webhooks/acme", secret: str = "one") -> int:
    return receiver.request("POST", path, body, [("X-Secret", secret)]).status


def samples(answer: HttpAnswer) -> dict[tuple[Any, ...], float]:
    """(name, label values by label name ...) -> value, read by Prometheus' own parser."""
    assert answer.status == 200
    families = text_string_to_metric_families(answer.body.decode())
    return {
        (one.name, *(one.labels[label] for label in sorted(one.labels))): one.value
        for family in families
        for one in family.samples
    }


def test_deliveries_are_counted_by_route_and_by_what_became_of_them(receiver: RunningReceiver) -> None:
    assert [post(receiver, body) for body in (b"1", b"2", b"2")] == [200] * 3
    assert post(receiver, b"1", "/webhooks/acme/shop2") == 200
    assert post(receiver, b"3", secret="forged") == 401
    found = samples(receiver.request("GET", "/metrics"))
    counted = {key[1:]: value for key, value in found.items() if key[0] == "onethread_receiver_deliveries_total"}
    assert counted == {
        ("stored", "acme", "default"): 2, ("repeated", "acme", "default"): 1, ("refused", "acme", "default"): 1,
        ("stored", "acme", "shop2"): 1, ("repeated", "acme", "shop2"): 0, ("refused", "acme", "shop2"): 0,
    }  # fmt: skip


def test_answers_commits_and_the_state_of_the_machine_are_shown(receiver: RunningReceiver) -> None:
    for path, secret in (("/webhooks/acme", "one"), ("/webhooks/acme", "two"), ("/webhooks/nobody", "one")):
        post(receiver, b"1", path, secret)
    found = samples(receiver.request("GET", "/metrics"))
    answers = {key[1]: value for key, value in found.items() if key[0] == "onethread_receiver_answers_total"}
    assert answers == {"200": 1, "401": 1, "404": 1}
    assert found["onethread_receiver_commit_rows_sum",] == found["onethread_receiver_commit_seconds_count",] == 1
    assert found["onethread_receiver_waiting_rows",] == 0
    assert found["onethread_receiver_disk_free_bytes",] == PLENTY.free
    assert found["onethread_receiver_write_ahead_log_bytes",] >= 0


def test_a_failed_commit_is_counted_and_stores_nothing(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver.writer, "add", lambda _: (_ for _ in ()).throw(OSError))
    assert post(receiver, b"1") == 503
    found = samples(receiver.request("GET", "/metrics"))
    assert found["onethread_receiver_commit_failures_total",] == 1
    assert found["onethread_receiver_deliveries_total", "stored", "acme", "default"] == 0


def test_the_last_delivery_of_each_route_is_known_after_a_restart_too(stores: Stores) -> None:
    with running_receiver(stores, ROUTES) as receiver:
        post(receiver, b"1")
        (stored,) = receiver.stored.read("acme", "default", 0, 1)
        before = samples(receiver.request("GET", "/metrics"))
    reader = Deliveries(stores)
    page = HttpAnswer(200, {}, metrics_of(ROUTES, reader).text().encode())
    reader.close()
    name = "onethread_receiver_last_delivery_timestamp_seconds"
    for found in (before, samples(page)):
        assert found[name, "acme", "default"] == pytest.approx(stored.received_at.timestamp())
        assert found[name, "acme", "shop2"] == 0


def test_nothing_of_a_request_is_in_the_metrics(receiver: RunningReceiver) -> None:
    for secret in ("one", "canary"):
        post(receiver, b"canary", "/webhooks/acme?canary=canary", secret)
    post(receiver, b"canary", "/webhooks/canary/canary")
    receiver.request("CANARY", "/webhooks/acme")
    assert b"canary" not in receiver.request("GET", "/metrics").body.lower()


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Forwarded-Proto", "X-Forwarded-Host"])
def test_what_came_through_a_proxy_on_this_machine_does_not_see_them(receiver: RunningReceiver, header: str) -> None:
    assert receiver.request("GET", "/metrics").status == 200
    assert receiver.request("GET", "/metrics", None, [(header, "127.0.0.1")]).status == 404


@pytest.mark.parametrize(
    "settings", [{"public_url": "https://hooks.shop.example"}, {"trusted_proxy": "127.0.0.1"}, {"trusted_proxy": "*"}]
)
def test_behind_a_proxy_they_need_a_token(stores: Stores, settings: dict[str, str]) -> None:
    with running_receiver(stores, ROUTES, settings=settings) as receiver:
        for headers in ([], [("X-Forwarded-For", "127.0.0.1")], [("Authorization", "Bearer ")]):
            assert receiver.request("GET", "/metrics", None, headers).status == 404


def test_with_a_token_it_is_asked_of_everybody(stores: Stores) -> None:
    with running_receiver(stores, ROUTES, settings={"metrics_token": "let-me-in"}) as receiver:
        for headers in (
            [], [("Authorization", "Bearer let-me-out")], [("Authorization", "let-me-in")],
            [("Authorization", "Bearer l\xe9t-me-in")], [("Authorization", "Bearer let-me-in")] * 2,
        ):  # fmt: skip
            answer = receiver.request("GET", "/metrics", None, headers)
            assert (answer.status, answer.body) == (401, b""), headers
        proxied = [("Authorization", "Bearer let-me-in"), ("X-Forwarded-For", "192.0.2.1")]
        answer = receiver.request("GET", "/metrics", None, proxied)
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")


@pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE"])
def test_metrics_are_only_read(receiver: RunningReceiver, method: str) -> None:
    assert receiver.request(method, "/metrics").status == 405


def test_an_empty_token_refuses_to_start(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONETHREAD_RECEIVER_METRICS_TOKEN", "")
    with pytest.raises(SettingsError, match="ONETHREAD_RECEIVER_METRICS_TOKEN"):
        serve(stores, "127.0.0.1", 0, routes=ROUTES)


def test_the_token_is_in_no_printed_settings() -> None:
    assert "canary" not in repr(ReceiverSettings(_env_file=None, metrics_token="canary"))
