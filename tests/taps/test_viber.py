"""tap-viber over the deliveries of its fixtures, and its calls against the stand-in server."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from singer_sdk.exceptions import ConfigValidationError

from sandbox.base import Fault, SandboxServer
from sandbox.viber import ViberApp
from sandbox.viber.account import MEDIA_SECONDS
from sandbox.viber.people import PICTURE
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from taps.base import Check
from taps.viber import TapViber
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
Make = Callable[..., TapViber]
PARTS = {1: ["text", "delivered", "contact_own"], 2: ["text_stop", "seen", "picture", "subscribed"]}


class TestTapViber(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[WebhookSource]:
        made = WebhookSource(stores, state_url, TapViber, PARTS)
        yield made
        made.close()


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapViber, PARTS)
    yield made
    made.close()


@pytest.fixture
def app() -> ViberApp:
    return ViberApp()


@pytest.fixture
def server(app: ViberApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        app.media_url = running.url
        yield running


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""

    def no_seconds(self: Any, error: Exception) -> float:
        return 0.0

    monkeypatch.setattr("taps.base._WaitSeconds.__call__", no_seconds)


@pytest.fixture
def make_tap(source: WebhookSource, app: ViberApp, server: SandboxServer) -> Make:
    """A tap that may call the stand-in, unless told otherwise."""

    def make(state: dict[str, Any] | None = None, **config: Any) -> TapViber:
        settings = {"auth_token": app.auth_token, "bot_id": app.bot_id, "api_url": server.url,
                    "media_private_hosts": ["127.0.0.1"], **config}  # fmt: skip
        given = {name: value for name, value in settings.items() if value is not None}
        return TapViber(config=source.config(**given), state=state or {})

    return make


def records(messages: list[dict[str, Any]], stream: str = "messages") -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def event_of(app: ViberApp, token: int) -> dict[str, Any]:
    """The event ``message`` with that token."""
    return next(one.part for one in app.deliverer.events if one.kind == "message" and one.subject == str(token))


def checks(tap: TapViber) -> dict[str, Check]:
    return {one.what: one for one in tap.check()}


def test_the_ping_is_counted_and_makes_neither_a_record_nor_an_error(
    source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_fixture("webhook")
    tap = TapViber(config=source.config())
    assert [one for one in run_tap(tap) if one["type"] == "RECORD"] == []
    assert tap.ignored == {"webhook": 1}
    assert Parked(stores).list() == []


def test_a_callback_that_comes_twice_in_other_bytes_is_one_message(
    app: ViberApp, source: WebhookSource, run_tap: RunTap
) -> None:
    event = event_of(app, app.text(app.add_user("Olena"), "Are you there?"))
    source.deliver(event)
    source.deliver({**event, "chat_hostname": "SN-CHAT-07_"})
    tap = TapViber(config=source.config())
    assert [one["text"] for one in records(run_tap(tap))] == ["Are you there?"]
    assert tap.repeats == 1


def test_the_bots_id_names_the_account_and_the_route_does_without_it(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("text")
    (by_route,) = records(run_tap(TapViber(config=source.config())))
    (by_id,) = records(run_tap(TapViber(config=source.config(bot_id="pa:1"))))
    assert (by_route["account"], by_id["account"]) == ("default", "pa:1")
    assert by_id["handles"][0]["scope"] == "pa:1"


def test_the_settings_reach_the_mapping(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("contact_without_country_code")
    evidence = records(run_tap(TapViber(config=source.config(default_region="GB"))), "evidence")
    assert evidence[0]["handles"][0]["value"] == "+447700900456"


def test_a_region_that_is_none_is_a_wrong_setting(source: WebhookSource, run_tap: RunTap) -> None:
    with pytest.raises(ConfigValidationError):
        run_tap(TapViber(config=source.config(default_region="Britain")))


def test_a_bad_event_is_parked_and_the_others_flow(source: WebhookSource, run_tap: RunTap, stores: Stores) -> None:
    for name in ("unknown_event", "text"):
        source.deliver_fixture(name)
    assert len(records(run_tap(TapViber(config=source.config())))) == 1
    (parked,) = Parked(stores).list()
    assert "teleported" in parked.reason
    assert Items(stores).counts("viber") == {"message": 1, "teleported": 1}


def test_a_number_too_large_for_a_double_survives_the_pipe(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("text")
    (message,) = records(run_tap(TapViber(config=source.config())))
    assert message["message_key"].endswith(":4912661846655238146")
    assert json.loads(json.dumps(message)) == message


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_when_its_message_is_read(
    make_tap: Make, app: ViberApp, source: WebhookSource, run_tap: RunTap
) -> None:
    source.deliver(event_of(app, app.picture(app.add_user("Olena"))))
    tap = make_tap(fetch_media=True)
    (attachment,) = records(run_tap(tap))[0]["attachments"]
    assert b"".join(tap.media.open(attachment["media_key"])) == PICTURE


def test_a_file_whose_address_has_run_out_is_parked_and_the_message_flows(
    make_tap: Make, app: ViberApp, source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver(event_of(app, app.picture(app.add_user("Olena"), "look")))
    app.clock.advance(MEDIA_SECONDS)
    (message,) = records(run_tap(make_tap(fetch_media=True)))
    assert (message["text"], message["attachments"][0]["media_key"]) == ("look", None)
    (parked,) = Parked(stores).list()
    assert parked.stream == "media"


def test_files_come_from_the_hosts_that_are_allowed_alone(
    make_tap: Make, app: ViberApp, source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver(event_of(app, app.picture(app.add_user("Olena"))))
    run_tap(make_tap(fetch_media=True, media_hosts=[".viber.com"]))
    (parked,) = Parked(stores).list()
    assert "not a host" in parked.reason


def test_a_message_without_files_asks_for_none(
    make_tap: Make, app: ViberApp, source: WebhookSource, run_tap: RunTap
) -> None:
    source.deliver_fixture("text")
    run_tap(make_tap(fetch_media=True))
    assert app.journal == []


# -- doctor ------------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_all_well(make_tap: Make, app: ViberApp) -> None:
    app.webhook = "https://hooks.shop.example/webhooks/viber"
    found = checks(make_tap())
    assert {name: one.ok for name, one in found.items()} == {
        "settings": True, "auth token": True, "bot": True, "webhook": True, "events": True, "clock": True,
    }  # fmt: skip
    assert app.bot_id in found["bot"].detail


@pytest.mark.parametrize(
    ("webhook", "route", "ok"),
    [("https://hooks.shop.example/webhooks/viber/shop2", "shop2", True),
     ("https://hooks.shop.example/x", "default", False), ("", "default", False),
     ("https://hooks.shop.example/webhooks/viber", "shop2", False)],
)  # fmt: skip
def test_the_doctor_tells_whether_viber_calls_us(
    make_tap: Make, app: ViberApp, webhook: str, route: str, ok: bool
) -> None:
    app.webhook = webhook
    found = checks(make_tap(route=route))["webhook"]
    assert found.ok is ok
    assert bool(found.fix) is not ok


def test_the_doctor_tells_which_events_are_not_subscribed(make_tap: Make, app: ViberApp) -> None:
    app.event_types = ("delivered", "subscribed")
    found = checks(make_tap())["events"]
    assert found.ok is False
    assert found.detail == "not subscribed: seen, failed, unsubscribed, conversation_started"


def test_the_doctor_tells_of_another_bot(make_tap: Make) -> None:
    assert checks(make_tap(bot_id="pa:1"))["bot"].ok is False


def test_the_doctor_tells_that_a_token_is_refused_without_showing_it(make_tap: Make) -> None:
    found = checks(make_tap(auth_token="wrong-token-0123456789"))
    assert found["auth token"].ok is False
    assert "status 2" in found["auth token"].detail
    assert "wrong-token" not in "".join(one.detail + one.fix for one in found.values())


@pytest.mark.parametrize(
    ("body", "words"),
    [({"status": 12}, "slowing down"), ({"status": 3}, "will not succeed"), ({"status": 9}, "not blocked"),
     ({"status": "0"}, "without a status"), ({}, "without a status"), ([], "without a status"),
     ({"status": 0}, "id is missing")],
)  # fmt: skip
def test_an_answer_of_200_that_is_none_is_told(make_tap: Make, app: ViberApp, body: Any, words: str) -> None:
    app.faults.append(Fault("/pa/get_account_info", status=200, times=100, body=body or {"x": 1}))
    found = [one for one in checks(make_tap()).values() if one.ok is False]
    assert words in found[0].detail


def test_the_doctor_tells_of_a_clock_that_is_wrong(make_tap: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taps.base.CLOCK_SKEW", timedelta(seconds=-1))
    assert checks(make_tap())["clock"].ok is False


def test_the_doctor_asks_nothing_without_a_token(make_tap: Make, app: ViberApp) -> None:
    assert checks(make_tap(auth_token=None))["auth token"].ok is None
    assert app.journal == []


def test_neither_token_nor_text_gets_into_the_log(
    make_tap: Make, app: ViberApp, source: WebhookSource, run_tap: RunTap, caplog: Any
) -> None:
    source.deliver(event_of(app, app.text(app.add_user("Olena"), "a private word")))
    app.faults.append(Fault("/pa/get_account_info", status=503, times=1))
    with caplog.at_level(logging.DEBUG):
        run_tap(make_tap())
        list(make_tap().check())
    assert app.auth_token not in caplog.text
    assert "private word" not in caplog.text
