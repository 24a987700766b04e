"""tap-infobip over the deliveries of its fixtures, the inbox that reading empties, and conversations."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from singer_sdk.exceptions import ConfigValidationError

from mappings.errors import CredentialsError, SettingsError
from mappings.records import Attachment, Message
from sandbox.base import Fault, SandboxServer
from sandbox.infobip import InfobipApp
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from stores.spool import Spool
from taps.infobip import TapInfobip
from tests.contract.mapping import load_delivery
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
Make = Callable[..., TapInfobip]
PARTS = {
    1: ["sms", "whatsapp_contact", "report"],
    2: ["sms_stop", "whatsapp_reaction", "whatsapp_text", "seen", "viber", "apple"],
}
ADA, BEN = "447700900123", "12025550177"
SENDERS = ["sms:+447700900990", "whatsapp:+447700900990", "viber:Example Shop"]
INBOX = "/sms/1/inbox/reports"


class InfobipSource(WebhookSource):
    def config(self, **more: Any) -> dict[str, Any]:
        return super().config(senders=SENDERS, **more)


class TestTapInfobip(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[InfobipSource]:
        made = InfobipSource(stores, state_url, TapInfobip, PARTS, bad="unknown")
        yield made
        made.close()


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[InfobipSource]:
    made = InfobipSource(stores, state_url, TapInfobip, PARTS)
    yield made
    made.close()


@pytest.fixture
def app() -> InfobipApp:
    """The account, an hour ago."""
    app = InfobipApp(forward_sms=False)
    app.clock.advance(-3600)
    return app


@pytest.fixture
def server(app: InfobipApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        app.public_url = running.url
        yield running


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""

    def no_seconds(self: Any, error: Exception) -> float:
        return 0.0

    monkeypatch.setattr("taps.base._WaitSeconds.__call__", no_seconds)


@pytest.fixture
def make_tap(source: InfobipSource, app: InfobipApp, server: SandboxServer) -> Make:
    def make(state: dict[str, Any] | None = None, **config: Any) -> TapInfobip:
        settings = {"api_url": server.url, "api_key": app.api_key, **config}
        return TapInfobip(config=source.config(**settings), state=json.loads(json.dumps(state or {})))

    return make


def records_of(messages: list[dict[str, Any]], stream: str = "messages") -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return sorted(one["text"] for one in records_of(messages))


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def webhook_of(app: InfobipApp, customer: str, text: str, at: float, message_id: str = "1") -> dict[str, Any]:
    """The push of an SMS."""
    result = {**app._result("sms", customer, {"text": text}, ""), "messageId": message_id}
    moment = datetime.fromtimestamp(at, UTC)
    return {"results": [{**result, "receivedAt": f"{moment:%Y-%m-%dT%H:%M:%S}.000+0000"}]}


def inbox_reads(app: InfobipApp) -> int:
    return [entry["path"] for entry in app.journal].count(INBOX)


# -- webhooks ----------------------------------------------------------------------------------------------------------


def test_every_result_of_a_batch_is_read(source: InfobipSource, run_tap: RunTap) -> None:
    (sms,) = json.loads(load_delivery("infobip", "sms_stop"))["results"]
    batch = [{**sms, "messageId": str(number), "text": f"text {number}"} for number in range(120)]
    source.deliver({"results": batch, "messageCount": 120, "pendingMessageCount": 0})
    assert len(records_of(run_tap(TapInfobip(config=source.config())))) == 120


def test_a_message_that_comes_twice_is_one(source: InfobipSource, run_tap: RunTap) -> None:
    whole = json.loads(load_delivery("infobip", "sms"))
    source.deliver(whole)
    source.deliver({"results": [{**whole["results"][1], "somethingOf2027": 1}, whole["results"][0]]})
    assert len(records_of(run_tap(TapInfobip(config=source.config())))) == 2


def test_one_bad_result_spoils_no_other(source: InfobipSource, run_tap: RunTap, stores: Stores) -> None:
    (good,) = json.loads(load_delivery("infobip", "sms_stop"))["results"]
    source.deliver({"results": [None, {**good, "receivedAt": "soon", "messageId": "7"}, good]})
    assert texts(run_tap(TapInfobip(config=source.config()))) == ["Stop"]
    assert len(Parked(stores).list()) == 2


def test_a_report_that_names_nobody_is_parked_until_senders_are_set(
    source: InfobipSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_fixture("report_whatsapp")
    assert records_of(run_tap(TapInfobip(config={**source.config(), "senders": []})), "receipts") == []
    (parked,) = Parked(stores).list()
    assert "senders" in parked.reason


# -- the inbox ---------------------------------------------------------------------------------------------------------


def test_the_inbox_is_left_alone_unless_it_is_switched_on(make_tap: Make, app: InfobipApp, run_tap: RunTap) -> None:
    app.text(ADA, "waiting")
    assert records_of(run_tap(make_tap())) == []
    assert (len(app.inbox), inbox_reads(app)) == (1, 0)


def test_the_inbox_is_read_until_nothing_is_pending(make_tap: Make, app: InfobipApp, run_tap: RunTap) -> None:
    for number in range(25):
        app.text(ADA, f"text {number}")
    first = run_tap(make_tap(inbox=True, inbox_limit=10))
    assert texts(first) == sorted(f"text {number}" for number in range(25))
    assert (len(app.inbox), inbox_reads(app)) == (0, 3)
    assert records_of(run_tap(make_tap(state_of(first), inbox=True))) == []


def test_what_was_read_is_kept_when_the_run_dies_before_anything_was_emitted(
    make_tap: Make, app: InfobipApp, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.text(ADA, "only once")
    with monkeypatch.context() as broken:
        broken.setattr("taps.infobip.records_from_infobip", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            run_tap(make_tap(inbox=True))
    assert app.inbox == []
    assert texts(run_tap(make_tap())) == ["only once"]  # also when the inbox is switched off meanwhile


def test_a_run_whose_state_was_lost_gives_the_inbox_again(make_tap: Make, app: InfobipApp, run_tap: RunTap) -> None:
    app.text(ADA, "only once")
    run_tap(make_tap(inbox=True))
    assert texts(run_tap(make_tap(inbox=True))) == ["only once"]


def test_an_answer_that_nobody_can_read_is_kept_whole(
    make_tap: Make, app: InfobipApp, run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b'{"results":[{"messageId":"1","text":"cut'
    monkeypatch.setattr("taps.infobip_api.InfobipSession.fetch_bytes", lambda *_: body)
    assert records_of(run_tap(make_tap(inbox=True))) == []
    (parked,) = Parked(stores).list()
    assert parked.error == "PayloadError"
    assert len(Spool(stores).read("infobip", "default", 0, 10)) == 1


def test_a_message_that_was_forwarded_and_is_in_the_inbox_is_one(
    make_tap: Make, app: InfobipApp, source: InfobipSource, run_tap: RunTap, stores: Stores
) -> None:
    app.text(ADA, "both ways")
    source.deliver({"results": [app.inbox[0][1]]})
    assert texts(run_tap(make_tap(inbox=True))) == ["both ways"]
    assert Items(stores).missed() == {}


def test_the_inbox_is_asked_once_when_the_answer_is_lost(
    make_tap: Make, app: InfobipApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    app.faults.append(Fault(INBOX, status=503, times=9))
    run_tap(make_tap(inbox=True))
    assert inbox_reads(app) == 1
    assert "polling is not complete" in caplog.text


def test_a_rate_limit_ends_the_run_and_the_next_goes_on(
    make_tap: Make, app: InfobipApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    app.text(ADA, "later")
    app.faults.append(Fault(INBOX, status=429, headers={"Retry-After": "60"}))
    first = run_tap(make_tap(inbox=True))
    assert "go on after" in caplog.text
    assert texts(run_tap(make_tap(inbox=True, state=state_of(first) if first else None))) == ["later"]


def test_a_state_folder_that_was_replaced_is_told(make_tap: Make, app: InfobipApp, run_tap: RunTap) -> None:
    app.text(ADA, "one")
    run_tap(make_tap(inbox=True))
    with pytest.raises(SettingsError, match="full-refresh"):
        run_tap(make_tap({"bookmarks": {"cursor": {"spool_id": 99}}}, inbox=True))


# -- conversations -----------------------------------------------------------------------------------------------------


def test_history_has_both_directions_and_nothing_was_missed(
    make_tap: Make, app: InfobipApp, run_tap: RunTap, stores: Stores
) -> None:
    app.text(ADA, "question", channel="whatsapp")
    app.send(ADA, "answer", channel="whatsapp")
    messages = run_tap(make_tap(conversations=True))
    assert sorted((one["direction"], one["text"]) for one in records_of(messages)) == [
        ("inbound", "question"), ("outbound", "answer"),
    ]  # fmt: skip
    assert Items(stores).missed() == {}
    assert records_of(run_tap(make_tap(state_of(messages), conversations=True))) == []


def test_what_a_webhook_brought_is_not_told_again_and_what_it_lost_is_found(
    make_tap: Make, app: InfobipApp, source: InfobipSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver(webhook_of(app, ADA, "came", app.clock.epoch()))
    app.text(ADA, "came")
    first = run_tap(make_tap(conversations=True))
    assert texts(first) == ["came"]
    app.text(ADA, "got lost", at=datetime.now(UTC).timestamp() - 18 * 60)
    second = run_tap(make_tap(state_of(first), conversations=True))
    assert texts(second) == ["got lost"]
    assert Items(stores).missed() == {"infobip": 1}


def test_a_webhook_that_comes_after_all_is_not_a_second_message(
    make_tap: Make, app: InfobipApp, source: InfobipSource, run_tap: RunTap
) -> None:
    app.text(ADA, "late")
    first = run_tap(make_tap(conversations=True))
    source.deliver(webhook_of(app, ADA, "late", app.clock.epoch()))
    source.deliver(webhook_of(app, ADA, "late", app.clock.epoch(), "2"))
    second = run_tap(make_tap(state_of(first), conversations=True))
    assert texts(first) == ["late"]
    assert [one["message_key"] for one in records_of(second)] == ["sms:+447700900990:2"]  # the same words, again
    assert [one["message_key"] for one in records_of(run_tap(make_tap(state_of(first), conversations=True)))] == [
        "sms:+447700900990:2"
    ]


def test_a_message_of_the_last_minutes_is_left_to_its_webhook(
    make_tap: Make, app: InfobipApp, source: InfobipSource, run_tap: RunTap
) -> None:
    source.deliver_fixture("sms")
    app.clock.advance(3600)
    app.text(ADA, "just now")
    first = run_tap(make_tap(conversations=True))
    assert "just now" not in texts(first)
    assert texts(run_tap(make_tap(state_of(first), conversations=True, settle_minutes=0))) == ["just now"]


def test_all_pages_are_read_and_a_look_that_was_cut_off_goes_on(
    make_tap: Make, app: InfobipApp, run_tap: RunTap
) -> None:
    for number in range(7):
        for word in ("a", "b", "c"):
            app.text(f"4477009001{number:02d}", f"{word}{number}")
    expected = sorted(f"{word}{number}" for number in range(7) for word in ("a", "b", "c"))
    tap = make_tap(conversations=True, page_size=2)
    seen: list[str] = []
    for item in tap.read():
        if isinstance(item, Message):
            seen.append(item.text or "")
        elif item.__class__.__name__ == "Checkpoint":
            tap._merge(item.cursor)  # type: ignore[union-attr]
            if tap.cursor.get("look_page") == 2:
                break
    rest = run_tap(make_tap({"bookmarks": {"cursor": tap.cursor}}, conversations=True, page_size=2))
    assert sorted([*seen, *texts(rest)]) == expected
    assert len(seen) == 12


def test_a_list_that_repeats_itself_ends_the_look(
    make_tap: Make, app: InfobipApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    rows = {"conversations": [{"id": "A"}], "pagination": {"totalItems": 1000, "page": 0, "limit": 1}}
    app.faults += [Fault("/messages", status=200, times=9, body={"messages": []}),
                   Fault("/ccaas/1/conversations", status=200, times=9, body=rows)]  # fmt: skip
    run_tap(make_tap(conversations=True, page_size=1))
    assert "repeats itself" in caplog.text


def test_a_refused_key_stops_the_run(make_tap: Make, run_tap: RunTap) -> None:
    for config in ({"inbox": True}, {"conversations": True}):
        with pytest.raises(CredentialsError, match="UNAUTHORIZED") as caught:
            run_tap(make_tap(api_key="wrong-key-0123456789", **config))
        assert "wrong-key" not in str(caught.value)


# -- settings, files, log ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{"inbox": True}, {"conversations": True, "api_key": "k"}])
def test_asking_needs_an_address_and_a_key(source: InfobipSource, run_tap: RunTap, given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="api_url and api_key"):
        run_tap(TapInfobip(config=source.config(**given)))


def test_a_sender_without_its_channel_is_refused(source: InfobipSource, run_tap: RunTap) -> None:
    with pytest.raises(SettingsError, match="begin with sms:"):
        run_tap(TapInfobip(config={**source.config(), "senders": ["+447700900990"]}))


@pytest.mark.parametrize("wrong", [{"inbox_limit": 1001}, {"page_size": 1000}, {"report_channel": "fax"}])
def test_settings_out_of_bounds_are_refused(source: InfobipSource, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigValidationError):
        TapInfobip(config=source.config(**wrong))


def test_neither_key_nor_text_nor_number_gets_into_the_log(
    make_tap: Make, app: InfobipApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    app.text(ADA, "a private word")
    with caplog.at_level(logging.DEBUG):
        run_tap(make_tap(inbox=True, conversations=True))
    for secret in (app.api_key, "private word", ADA):
        assert secret not in caplog.text


def test_only_infobip_gets_the_key_with_a_file(make_tap: Make) -> None:
    tap = make_tap(api_url="https://abc123.api.infobip.com")
    (item,) = tap.split(load_delivery("infobip", "sms_stop"), {})
    message = tap.records_of(item, datetime.now(UTC), "delivery:1#0")[0]
    assert isinstance(message, Message)
    for host, key in (("abc123.api.infobip.com", True), ("xyz.api.infobip.com", True),
                      ("api.infobip.com.evil.example", False), ("files.example", False)):  # fmt: skip
        url = f"https://{host}/whatsapp/1/senders/4/media/a"
        request = tap.media_request(Attachment(kind="image", url=url), message)
        assert request is not None
        assert bool(request.headers) is key
    assert tap.media_request(Attachment(kind="image"), message) is None


def test_a_file_is_fetched_and_kept(
    make_tap: Make, app: InfobipApp, source: InfobipSource, server: SandboxServer, run_tap: RunTap
) -> None:
    app.picture(ADA, "look", data=b"\x89PNG\r\n\x1a\n a picture")
    (said,) = app.said
    message = {"type": "IMAGE", **said.content}
    source.deliver({"results": [app._result("whatsapp", ADA, message, "2026-03-01T12:00:00.000+0000")]})
    tap = make_tap(fetch_media=True, media_private_hosts=[f"127.0.0.1:{server.port}"])
    (record,) = records_of(run_tap(tap))
    (file,) = record["attachments"]
    assert (file["mime_type"], file["size_bytes"]) == ("image/png", 18)
    assert file["media_key"]


# -- doctor ------------------------------------------------------------------------------------------------------------


def checks(tap: TapInfobip) -> dict[str, bool | None]:
    return {one.what: one.ok for one in tap.check()}


def test_the_doctor_finds_everything_in_order_and_leaves_the_inbox_alone(make_tap: Make, app: InfobipApp) -> None:
    app.webhook_url = "https://hooks.shop.example/webhooks/infobip"
    app.clock.advance(3600)
    app.text(ADA, "waiting")
    assert checks(make_tap(conversations=True, inbox=True)) == {
        "settings": True, "API key": True, "clock": True, "conversations": True, "webhook": True, "inbox": None,
    }  # fmt: skip
    assert inbox_reads(app) == 0


def test_the_doctor_says_what_is_wrong(make_tap: Make, app: InfobipApp, source: InfobipSource) -> None:
    assert checks(make_tap(api_key="wrong-key-0123456789"))["API key"] is False
    assert checks(TapInfobip(config=source.config()))["API key"] is None
    app.webhook_url = "https://hooks.shop.example/webhooks/twilio"
    assert checks(make_tap())["webhook"] is None
    app.faults.append(Fault("/ccaas", status=403))
    assert checks(make_tap(conversations=True))["conversations"] is False


def test_a_profile_without_any_proof_is_seen(make_tap: Make, app: InfobipApp) -> None:
    rows = [{"profileId": "p", "webhook": {"notifyUrl": "https://hooks.shop.example/webhooks/infobip"}}]
    app.faults.append(Fault("/subscriptions", status=200, body={"results": rows}))
    assert checks(make_tap())["webhook"] is False


def test_a_clock_that_is_wrong_is_seen(make_tap: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TapInfobip, "now", lambda _: datetime.now(UTC) + timedelta(minutes=10))
    assert checks(make_tap())["clock"] is False
