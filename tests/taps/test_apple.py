"""tap-apple over the deliveries of its fixtures, and files from the stand-in server."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mappings.errors import MissingFieldError, SettingsError
from sandbox.apple import AppleApp
from sandbox.apple.account import claims_of
from sandbox.base import Fault, SandboxServer
from stores.database import Stores
from stores.items import Items
from stores.media import Media
from stores.parked import Parked
from taps.apple import TapApple
from taps.apple_media import apple_media_request, decrypted
from tests.contract.mapping import load_delivery
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
PARTS = {1: ["text", "list_reply", "picture"], 2: ["text_without_locale", "close"]}
PNG = b"\x89PNG\r\n\x1a\n a picture"


class TestTapApple(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[WebhookSource]:
        made = WebhookSource(stores, state_url, TapApple, PARTS)
        yield made
        made.close()


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapApple, PARTS)
    yield made
    made.close()


@pytest.fixture
def app() -> AppleApp:
    return AppleApp()


@pytest.fixture
def server(app: AppleApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        app.public_url = running.url
        yield running


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""

    def no_seconds(self: Any, error: Exception) -> float:
        return 0.0

    monkeypatch.setattr("taps.base._WaitSeconds.__call__", no_seconds)
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.fixture
def make_tap(source: WebhookSource, app: AppleApp, server: SandboxServer) -> Callable[..., TapApple]:
    """A tap that fetches files."""

    def make(**config: Any) -> TapApple:
        named = {"msp_id": app.msp_id, "secret": app.secret, "api_url": f"{server.url}/v1"}
        private = [f"127.0.0.1:{server.port}"]
        return TapApple(
            config=source.config(**{"fetch_media": True, "media_private_hosts": private, **named, **config})
        )

    return make


def records_of(messages: list[dict[str, Any]], stream: str = "messages") -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def fixture(name: str, **changes: Any) -> dict[str, Any]:
    return {**json.loads(load_delivery("apple", name)), **changes}


def test_a_compressed_delivery_is_read(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(gzip.compress(load_delivery("apple", "text")))
    assert len(records_of(run_tap(TapApple(config=source.config())))) == 1


def test_an_answer_that_comes_twice_under_two_ids_is_one(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(fixture("list_reply"))
    source.deliver(fixture("list_reply", id="another-id"))
    assert [one["text"] for one in records_of(run_tap(TapApple(config=source.config())))] == ["Oak, Walnut"]


def test_typing_is_counted_and_gives_nothing(source: WebhookSource, run_tap: RunTap, stores: Stores) -> None:
    source.deliver_fixture("typing_start")
    source.deliver_fixture("typing_end")
    assert records_of(run_tap(TapApple(config=source.config()))) == []
    assert Items(stores).counts("apple") == {"ignored:typing": 2}


def test_that_somebody_may_be_answered_is_said_once_and_again_after_they_closed(
    source: WebhookSource, run_tap: RunTap
) -> None:
    for number, (name, kind) in enumerate([("text", "text")] * 3 + [("close", "close")] + [("text", "text")] * 2):
        source.deliver(fixture(name, id=f"id-{number}", sourceId="urn:mbid:one", type=kind))
    found = records_of(run_tap(TapApple(config=source.config())), "consents")
    assert [one["status"] for one in found if one["purpose"] == "service"] == ["opted_in", "opted_out", "opted_in"]


# -- files -------------------------------------------------------------------------------------------------------------


def deliver_picture(source: WebhookSource, app: AppleApp, **file: Any) -> dict[str, Any]:
    told = {**app.encrypt(PNG, "photo.png", "image/png"), **file}
    source.deliver(
        gzip.compress(json.dumps(fixture("picture", attachments=[told], destinationId=app.business_id)).encode())
    )
    return told


def test_a_file_is_looked_up_fetched_decrypted_and_kept(
    make_tap: Callable[..., TapApple], app: AppleApp, source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    deliver_picture(source, app)
    (message,) = records_of(run_tap(make_tap()))
    (file,) = message["attachments"]
    assert b"".join(Media(stores).open(file["media_key"])) == PNG
    assert (file["mime_type"], file["size_bytes"], file["url"]) == ("image/png", len(PNG), None)


def test_the_key_is_in_no_record_no_log_and_no_parked_row(
    make_tap: Callable[..., TapApple], app: AppleApp, source: WebhookSource, run_tap: RunTap, stores: Stores,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    told = deliver_picture(source, app)
    app.faults.append(Fault("/preDownload", status=404))
    with caplog.at_level(logging.DEBUG):
        messages = run_tap(make_tap())
    (row,) = Parked(stores).list()
    text = json.dumps(messages) + caplog.text + json.dumps(row.payload) + str(row.reason)
    assert told["key"][2:] not in text
    assert told["signature-base64"] not in text
    assert app.secret not in text


def test_a_second_run_over_the_same_delivery_fetches_nothing_again(
    make_tap: Callable[..., TapApple], app: AppleApp, source: WebhookSource, run_tap: RunTap
) -> None:
    deliver_picture(source, app)
    assert records_of(run_tap(make_tap())) == records_of(run_tap(make_tap()))
    assert [entry["path"] for entry in app.journal].count("/v1/preDownload") == 1


def test_a_wrong_key_gives_noise_which_is_refused(
    make_tap: Callable[..., TapApple], app: AppleApp, source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    deliver_picture(source, app, key="00" + "11" * 32)
    (message,) = records_of(run_tap(make_tap()))
    assert message["attachments"][0]["media_key"] is None
    (row,) = Parked(stores).list()
    assert "no image" in row.reason


def test_a_file_over_the_limit_is_left(
    make_tap: Callable[..., TapApple], app: AppleApp, source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    deliver_picture(source, app)
    (message,) = records_of(run_tap(make_tap(media_max_bytes=5)))
    assert message["attachments"][0]["media_key"] is None
    assert len(Parked(stores).list()) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"key": "11" * 32}, {"key": "00xyz"}, {"key": None}, {"owner": ""}, {"url": "x\r\nevil: 1"}, {"url": {}},
     {"signature-base64": None, "signature": "xyz"}, {"signature-base64": None, "signature": "abc"}],
)  # fmt: skip
def test_a_file_that_is_told_wrongly_is_no_request(app: AppleApp, wrong: dict[str, Any]) -> None:
    with pytest.raises(MissingFieldError):
        apple_media_request({**app.encrypt(PNG, "a.png", "image/png"), **wrong}, "business")


def test_the_hexadecimal_signature_stands_for_the_other(app: AppleApp) -> None:
    told = app.encrypt(PNG, "a.png", "image/png")
    both, one = (apple_media_request({**told, **more}, "b") for more in ({}, {"signature-base64": None}))
    assert both.asked == one.asked
    assert told["key"][2:] not in repr(both)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100_000])
def test_what_was_encrypted_comes_back_in_whatever_pieces(app: AppleApp, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    told = app.encrypt(data, "a.bin", "application/octet-stream")
    file = next(reversed(app.files.values())).data
    pieces = [file[start : start + 7] for start in range(0, min(size, 700), 7)] + [file[700:]]
    assert b"".join(decrypted(pieces, bytes.fromhex(told["key"][2:]))) == data


def test_each_call_has_a_token_of_its_own_that_names_us(make_tap: Callable[..., TapApple], app: AppleApp) -> None:
    claims = claims_of(make_tap()._api.token(), app.secret)
    assert claims is not None
    assert claims["iss"] == app.msp_id
    assert abs(claims["iat"] - datetime.now(UTC).timestamp()) < 60


def test_a_delivery_that_was_purged_leaves_the_file(make_tap: Callable[..., TapApple], app: AppleApp) -> None:
    tap = make_tap()
    (message, *_) = tap.records_of(
        tap.split(json.dumps(fixture("picture")).encode(), {})[0], datetime.now(UTC), "delivery:99#0"
    )
    assert tap.media_request(message.attachments[0], message) is None  # type: ignore[attr-defined, arg-type]


# -- settings and doctor -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"msp_id": "x"}, {"fetch_media": True}, {"msp_id": "x", "secret": "not base64!"}])
def test_half_settings_are_refused(source: WebhookSource, run_tap: RunTap, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        run_tap(TapApple(config=source.config(**wrong)))


def checks(tap: TapApple) -> dict[str, bool | None]:
    return {one.what: one.ok for one in tap.check()}


def test_the_doctor_finds_token_and_clock_in_order(make_tap: Callable[..., TapApple]) -> None:
    assert checks(make_tap()) == {"settings": True, "token": True, "clock": True, "webhook": None}


def test_the_doctor_sees_a_wrong_secret_and_a_wrong_clock(
    make_tap: Callable[..., TapApple], source: WebhookSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checks(make_tap(secret="d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I="))["token"] is False
    monkeypatch.setattr(TapApple, "now", lambda _: datetime.now(UTC) + timedelta(minutes=10))
    assert checks(make_tap())["clock"] is False
    assert checks(TapApple(config=source.config()))["token"] is None
