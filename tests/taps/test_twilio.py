"""tap-twilio over the deliveries of its fixtures, and reconciling with the list of the stand-in server."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from singer_sdk.exceptions import ConfigValidationError

from mappings.errors import CredentialsError, RejectedError, SettingsError
from mappings.records import Attachment, Message
from sandbox.base import Fault, SandboxServer
from sandbox.meta import TokenBucket
from sandbox.twilio import TwilioApp
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from taps.base import Checkpoint
from taps.twilio import TapTwilio
from taps.webhooks.twilio import split
from tests.contract.mapping import load_delivery
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
Make = Callable[..., TapTwilio]
PARTS = {1: ["sms", "mms", "status_sent"], 2: ["sms_stop", "whatsapp", "status_delivered", "status_undelivered"]}
ADA, BEN = "+447700900123", "+12025550177"
FORM = {"MessageSid": "SM1", "AccountSid": "AC1", "From": ADA, "To": "+12025550100", "Body": "Hello"}
SID, TOKEN = "AC0123456789abcdef0123456789abcdef", "sandbox-auth-token"


class TwilioSource(WebhookSource):
    """Deliveries of Twilio: a fixture is posted as the form that it stands for."""

    def deliver_fixture(self, name: str, **more: Any) -> int:
        return self.deliver_form(json.loads(load_delivery("twilio", name)), **more)

    def deliver_form(self, form: dict[str, str], **more: Any) -> int:
        return self.deliver(urlencode(form).encode(), **more)


class TestTapTwilio(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[TwilioSource]:
        made = TwilioSource(stores, state_url, TapTwilio, PARTS, bad="voice")
        yield made
        made.close()


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[TwilioSource]:
    made = TwilioSource(stores, state_url, TapTwilio, PARTS)
    yield made
    made.close()


@pytest.fixture
def app() -> TwilioApp:
    """The account, ten minutes ago."""
    app = TwilioApp()
    app.clock.advance(-600)
    return app


@pytest.fixture
def server(app: TwilioApp) -> Iterator[SandboxServer]:
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
def make_tap(source: TwilioSource, app: TwilioApp, server: SandboxServer) -> Make:
    """A tap that reconciles the account. Late in the evening the list of a day is as long as in the morning."""

    def make(state: dict[str, Any] | None = None, **config: Any) -> TapTwilio:
        settings = {"account_sid": SID, "auth_token": TOKEN, "api_url": server.url, **config}
        return TapTwilio(config=source.config(**settings), state=state or {})

    return make


def records_of(messages: list[dict[str, Any]], stream: str = "messages") -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def form_of(app: TwilioApp, sid: str) -> dict[str, str]:
    """The webhook of a message that the stand-in posted to nobody."""
    message = app.messages[sid]
    return {"MessageSid": sid, "AccountSid": SID, "From": message.address, "To": message.number or "",
            "Body": message.text, "NumMedia": "0"}  # fmt: skip


def asked(app: TwilioApp) -> list[str]:
    return [entry["path"].rpartition("/")[2] for entry in app.journal]


# -- webhooks ----------------------------------------------------------------------------------------------------------


def test_a_message_that_comes_twice_is_one(source: TwilioSource, run_tap: RunTap) -> None:
    form = json.loads(load_delivery("twilio", "sms"))
    source.deliver_form(form)
    source.deliver_form({**form, "SomethingOf2027": "yes"})
    assert len(records_of(run_tap(TapTwilio(config=source.config())))) == 1


def test_two_messages_with_the_same_words_are_two(source: TwilioSource, run_tap: RunTap) -> None:
    form = json.loads(load_delivery("twilio", "sms"))
    for sid in ("SM1", "SM2"):
        source.deliver_form({**form, "MessageSid": sid})
    assert len(records_of(run_tap(TapTwilio(config=source.config())))) == 2


def test_every_status_of_a_message_is_told_once(source: TwilioSource, run_tap: RunTap) -> None:
    form = json.loads(load_delivery("twilio", "status_sent"))
    for status in ("sent", "delivered", "sent", "delivered"):
        source.deliver_form({**form, "MessageStatus": status, "SmsStatus": status})
    receipts = records_of(run_tap(TapTwilio(config=source.config())), "receipts")
    assert [one["status"] for one in receipts] == ["sent", "delivered"]


def test_the_settings_reach_the_mapping(source: TwilioSource, run_tap: RunTap, tmp_path: Any) -> None:
    words = tmp_path / "words.csv"
    words.write_text("decision,language,word,on_buttons\nopted_in,en,yes please,yes\n", encoding="utf-8")
    source.deliver_form({**json.loads(load_delivery("twilio", "whatsapp")), "Body": "Yes please"})
    messages = run_tap(TapTwilio(config=source.config(portfolio_id="300400", keywords_file=str(words))))
    assert records_of(messages)[0]["handles"][1]["scope"] == "300400"
    assert {one["status"] for one in records_of(messages, "consents")} == {"opted_in"}


# -- what no webhook brought -------------------------------------------------------------------------------------------


def test_a_message_that_no_webhook_brought_is_found_and_counted(
    make_tap: Make, app: TwilioApp, source: TwilioSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_form(form_of(app, app.text(BEN, "this one came")))
    lost = app.text(ADA, "did you get this?")
    messages = run_tap(make_tap())
    found = [one for one in records_of(messages) if one["message_key"].endswith(lost)]
    assert [(one["text"], one["seen_by"], one["flags"]) for one in found] == [("did you get this?", "poll", [])]
    assert Items(stores).missed() == {"twilio": 1}


def test_without_any_webhook_nothing_was_missed(
    make_tap: Make, app: TwilioApp, run_tap: RunTap, stores: Stores
) -> None:
    app.text(ADA, "read from the list alone")
    assert len(records_of(run_tap(make_tap()))) == 1
    assert Items(stores).missed() == {}


def test_a_webhooks_message_gets_twilios_own_time_from_the_list_once(
    make_tap: Make, app: TwilioApp, source: TwilioSource, run_tap: RunTap, stores: Stores
) -> None:
    sid = app.text(ADA, "when?")
    source.deliver_form(form_of(app, sid))
    first = run_tap(make_tap())
    webhook, listed = records_of(first)
    assert webhook["message_key"] == listed["message_key"]
    assert (webhook["seen_by"], webhook["flags"]) == ("webhook", ["time_of_receipt"])
    assert (listed["seen_by"], listed["flags"]) == ("poll", [])
    assert datetime.fromisoformat(listed["sent_at"]).timestamp() == int(app.messages[sid].at)
    assert records_of(run_tap(make_tap(state_of(first)))) == []
    assert Items(stores).missed() == {}


def test_a_webhook_that_comes_late_takes_the_message_off_the_count(
    make_tap: Make, app: TwilioApp, source: TwilioSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_form(form_of(app, app.text(BEN, "first")))
    late = app.text(ADA, "late")
    state = state_of(run_tap(make_tap()))
    assert Items(stores).missed() == {"twilio": 1}
    source.deliver_form(form_of(app, late))
    assert [one["seen_by"] for one in records_of(run_tap(make_tap(state)))] == ["webhook"]
    assert Items(stores).missed() == {}


def test_a_message_of_the_last_minute_is_left_to_its_webhook(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    app.clock.advance(600)
    app.text(ADA, "just now")
    assert records_of(run_tap(make_tap())) == []


def test_one_of_the_last_minute_that_a_webhook_brought_gets_its_time_at_once(
    make_tap: Make, app: TwilioApp, source: TwilioSource, run_tap: RunTap
) -> None:
    app.clock.advance(600)
    source.deliver_form(form_of(app, app.text(ADA, "just now")), at=datetime.now(UTC))
    assert [one["seen_by"] for one in records_of(run_tap(make_tap()))] == ["webhook", "poll"]


def test_what_we_sent_is_found_with_its_status_and_is_not_missed(
    make_tap: Make, app: TwilioApp, source: TwilioSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_form(form_of(app, app.text(ADA, "hello")))
    app.staff_text(ADA, "we are here")
    messages = run_tap(make_tap())
    (sent,) = [one for one in records_of(messages) if one["direction"] == "outbound"]
    assert (sent["text"], sent["author_kind"], sent["handles"][0]["value"]) == ("we are here", "agent", ADA)
    assert [one["status"] for one in records_of(messages, "receipts")] == ["delivered"]
    assert Items(stores).missed() == {}


def test_a_status_that_changes_later_is_told_once_more(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    app.told_after["delivered"] = None
    sid = app.staff_text(ADA, "sale!")
    first = run_tap(make_tap())
    app.fail(sid, 21610)
    second = run_tap(make_tap(state_of(first)))
    assert [one["status"] for one in records_of(first, "receipts")] == ["sent"]
    assert [(one["status"], one["code"]) for one in records_of(second, "receipts")] == [("failed", "21610")]
    assert {one["purpose"] for one in records_of(second, "consents")} == {"service", "promotional"}
    assert records_of(second) == []


def test_a_status_that_a_callback_told_is_not_told_again(
    make_tap: Make, app: TwilioApp, source: TwilioSource, run_tap: RunTap
) -> None:
    sid = app.staff_text(ADA, "sale!")
    source.deliver_form({"MessageSid": sid, "AccountSid": SID, "From": app.number, "To": ADA,
                         "MessageStatus": "delivered"})  # fmt: skip
    assert [one["raw_ref"] for one in records_of(run_tap(make_tap()), "receipts")] == ["delivery:1#0"]


def test_what_waits_at_twilio_is_read_when_it_has_left(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    app.told_after = {"sent": None, "delivered": None}
    sid = app.staff_text(ADA, "later")
    first = run_tap(make_tap())
    assert records_of(first) == []
    app.set_status(app.messages[sid], "sent")
    assert [one["text"] for one in records_of(run_tap(make_tap(state_of(first))))] == ["later"]


def test_only_the_senders_that_were_named_are_read(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    app.text(ADA, "to us")
    app.text(f"whatsapp:{ADA}", "on WhatsApp")
    assert len(records_of(run_tap(make_tap(senders=["+1 202 555 0100"])))) == 2
    assert records_of(run_tap(make_tap(senders=["+12025550199", "SHOP"]))) == []


def test_a_picture_is_found_with_its_file(
    make_tap: Make, app: TwilioApp, server: SandboxServer, run_tap: RunTap
) -> None:
    sid = app.picture(ADA, "look")
    (message,) = records_of(run_tap(make_tap()))
    (file,) = message["attachments"]
    name = app.messages[sid].media[0]
    assert (message["kind"], file["mime_type"], file["platform_media_id"]) == ("image", "image/png", name)
    assert file["url"] == f"{server.url}{app.media_path(sid, name)}"


def test_a_picture_that_a_webhook_brought_is_not_asked_for(
    make_tap: Make, app: TwilioApp, source: TwilioSource, run_tap: RunTap
) -> None:
    source.deliver_form(form_of(app, app.picture(ADA, "look")))
    run_tap(make_tap())
    assert "Media.json" not in asked(app)


def test_a_picture_that_was_deleted_does_not_stop_the_rest(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    app.text(ADA, "before")
    app.picture(ADA, "gone")
    app.faults.append(Fault("/Media.json", status=404, body={"code": 20404}))
    found = {one["text"]: (one["kind"], one["content"]) for one in records_of(run_tap(make_tap()))}
    assert found == {"before": ("text", None), "gone": ("unsupported", {"media": 1})}


# -- pages, places, refusals -------------------------------------------------------------------------------------------


def test_the_list_is_read_to_its_end(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    for number in range(25):
        app.text(ADA, f"text {number}")
    messages = run_tap(make_tap(page_size=10))
    assert {one["text"] for one in records_of(messages)} == {f"text {number}" for number in range(25)}
    assert len(asked(app)) == 3


def test_the_look_asks_for_whole_days_since_the_last_look(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    last = datetime(2026, 3, 1, 0, 1, tzinfo=UTC)
    state = {"bookmarks": {"cursor": {"poll_pass": 3, "reconciled_to": last.isoformat(), "deep_at": last.isoformat()}}}
    run_tap(make_tap(state))
    assert "DateSent%3E=2026-02-28" in app.journal[0]["query"]


def test_once_a_day_the_look_reaches_further(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    now = datetime.now(UTC)
    days = []
    for deep_at in (now - timedelta(hours=23), now - timedelta(hours=25)):
        cursor = {"poll_pass": 3, "reconciled_to": now.isoformat(), "deep_at": deep_at.isoformat()}
        state = run_tap(make_tap({"bookmarks": {"cursor": cursor}}, deep_days=40))
        days.append(app.journal[-1]["query"].split("&")[0])
    assert days[0] in {f"DateSent%3E={now - timedelta(hours=hours):%Y-%m-%d}" for hours in (2, 3)}
    assert days[1] == f"DateSent%3E={now - timedelta(days=40):%Y-%m-%d}"
    assert state_of(state)["bookmarks"]["cursor"]["deep_at"] > now.isoformat()


def test_the_first_look_takes_history_which_nobody_missed(
    make_tap: Make, app: TwilioApp, source: TwilioSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_form(form_of(app, app.text(BEN, "came")))
    app.text(ADA, "a month ago", at=app.clock.epoch() - 30 * 86_400)
    assert [one["text"] for one in records_of(run_tap(make_tap(history_days=31)))][-1] == "a month ago"
    assert Items(stores).missed() == {}


def test_a_look_that_was_cut_off_goes_on_where_it_was(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    for number in range(25):
        app.text(ADA, f"text {number}")
    tap = make_tap(page_size=10)
    seen: list[Any] = []
    for item in tap.read():
        seen.append(item)
        if isinstance(item, Checkpoint):
            tap._merge(item.cursor)
            if item.cursor.get("poll_page"):
                break
    rest = run_tap(make_tap({"bookmarks": {"cursor": tap.cursor}}, page_size=10))
    first = {item.text for item in seen if isinstance(item, Message)}
    second = {one["text"] for one in records_of(rest)}
    assert len(first) == 10
    assert first.isdisjoint(second)
    assert first | second == {f"text {number}" for number in range(25)}
    assert len(asked(app)) == 3
    assert state_of(rest)["bookmarks"]["cursor"]["poll_page"] is None


def test_a_look_whose_state_was_lost_is_repeated(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    app.text(ADA, "hello")
    run_tap(make_tap())
    assert len(records_of(run_tap(make_tap()))) == 1


def test_a_place_in_the_list_that_is_gone_begins_again(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    app.text(ADA, "hello")
    page = f"/2010-04-01/Accounts/{SID}/Messages.json?PageSize=10&Page=1&PageToken=PASM0"
    state = {"bookmarks": {"cursor": {"poll_page": page, "poll_began": datetime.now(UTC).isoformat()}}}
    messages = run_tap(make_tap(state))
    assert [one["text"] for one in records_of(messages)] == ["hello"]
    assert state_of(messages)["bookmarks"]["cursor"]["poll_page"] is None


def test_a_list_that_repeats_itself_ends_the_look(
    make_tap: Make, app: TwilioApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    page = f"/2010-04-01/Accounts/{SID}/Messages.json?Page=1"
    app.faults.append(Fault("/Messages.json", status=200, times=100, body={"messages": [], "next_page_uri": page}))
    messages = run_tap(make_tap())
    assert "reconciled_to" not in state_of(messages)["bookmarks"]["cursor"]
    assert "repeats itself" in caplog.text


@pytest.mark.parametrize(("status", "code"), [(429, 20429), (503, None), (500, 20500)])
def test_a_passing_refusal_is_tried_again(
    make_tap: Make, app: TwilioApp, run_tap: RunTap, status: int, code: int | None
) -> None:
    app.text(ADA, "hello")
    app.faults.append(Fault("/Messages.json", status=status, times=2, body={"code": code}))
    assert len(records_of(run_tap(make_tap()))) == 1


def test_a_rate_limit_ends_the_look_and_the_next_run_goes_on(
    make_tap: Make, app: TwilioApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        app.text(ADA, f"text {number}")
    app.calls = TokenBucket(1, 0)
    first = run_tap(make_tap(page_size=2))
    assert len(records_of(first)) == 2
    assert "polling is not complete" in caplog.text
    app.calls = TokenBucket(100, 100)
    second = run_tap(make_tap(state_of(first), page_size=2))
    assert len(records_of(second)) == 1
    assert len(asked(app)) == 1 + 5 + 1  # a page, five refusals, the next page


def test_a_long_wait_that_twilio_asks_for_ends_the_look_at_once(
    make_tap: Make, app: TwilioApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    app.faults.append(Fault("/Messages.json", status=429, times=9, headers={"Retry-After": "3600"}))
    run_tap(make_tap())
    assert len(app.journal) == 1
    assert "go on after" in caplog.text


def test_a_refused_token_stops_the_run_after_the_webhooks_were_read(
    make_tap: Make, app: TwilioApp, source: TwilioSource
) -> None:
    source.deliver_form(form_of(app, app.text(ADA, "came by webhook")))
    seen: list[Any] = []
    reading = make_tap(auth_token="wrong-token-0123456789").read()
    with pytest.raises(CredentialsError) as caught:
        seen.extend(_until_it_fails(reading, seen))
    assert "wrong-token" not in str(caught.value)
    assert "20003" in str(caught.value)
    assert [item.text for item in seen if isinstance(item, Message)] == ["came by webhook"]


def _until_it_fails(items: Iterator[Any], seen: list[Any]) -> Iterator[Any]:
    for item in items:
        seen.append(item)
    yield from ()


def test_an_account_that_is_unknown_stops_the_run(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    app.faults.append(Fault("/Messages.json", status=404, body={"code": 20404}))
    with pytest.raises(RejectedError, match="20404"):
        run_tap(make_tap())


def test_a_row_that_cannot_be_read_is_parked_and_the_rest_flows(
    make_tap: Make, app: TwilioApp, run_tap: RunTap, stores: Stores
) -> None:
    good = app._row(app.messages[app.text(ADA, "good")])
    sent = app._row(app.messages[app.staff_text(ADA, "sent")])
    broken: list[dict[str, Any]] = [
        {**good, "sid": None}, {**good, "sid": "SM1", "date_sent": "soon"}, {**good, "sid": "SM2", "from": {}},
        {**sent, "sid": "SM3", "status": "teleported"}, {**sent, "sid": "SM4", "status": {}}, {"sid": "SM5"},
        {**good, "sid": "SM6", "num_media": []},
    ]  # fmt: skip
    body = {"messages": [*broken, good], "next_page_uri": None}
    app.faults.append(Fault("/Messages.json", status=200, times=1, body=body))
    found = {one["text"] for one in records_of(run_tap(make_tap()))}
    assert "good" in found
    reasons = [one.error for one in Parked(stores).list()]
    assert set(reasons) <= {"MissingFieldError", "UnknownShapeError"}
    assert len(reasons) >= 5


# -- settings ----------------------------------------------------------------------------------------------------------


def test_an_api_key_reads_instead_of_the_auth_token(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    app.text(ADA, "hello")
    app.keys = {"SK1": "a secret"}
    assert len(records_of(run_tap(make_tap(api_key="SK1", api_key_secret="a secret")))) == 1
    with pytest.raises(CredentialsError):
        run_tap(make_tap())


@pytest.mark.parametrize("given", [{"account_sid": SID}, {"auth_token": TOKEN}, {}])
def test_reconciling_needs_an_account_and_a_password(
    source: TwilioSource, run_tap: RunTap, given: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match="reconcile needs account_sid"):
        run_tap(TapTwilio(config=source.config(reconcile=True, **given)))


@pytest.mark.parametrize("wrong", [{"account_sid": "SK1"}, {"page_size": 1001}, {"deep_days": 0}])
def test_settings_out_of_bounds_are_refused(source: TwilioSource, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigValidationError):
        TapTwilio(config=source.config(**wrong))


def test_half_an_api_key_is_refused(source: TwilioSource, run_tap: RunTap) -> None:
    with pytest.raises(SettingsError, match="need each other"):
        run_tap(TapTwilio(config=source.config(api_key="SK1")))


def test_reconciling_can_be_switched_off(make_tap: Make, app: TwilioApp, run_tap: RunTap) -> None:
    app.text(ADA, "hello")
    assert records_of(run_tap(make_tap(reconcile=False))) == []
    assert app.journal == []


def test_neither_token_nor_text_nor_number_gets_into_the_log(
    make_tap: Make, app: TwilioApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    app.text(ADA, "a private word")
    app.faults.append(Fault("/Messages.json", status=503, times=1))
    with caplog.at_level(logging.DEBUG):
        run_tap(make_tap())
    for secret in (TOKEN, base64.b64encode(f"{SID}:{TOKEN}".encode()).decode(), "private word", ADA):
        assert secret not in caplog.text


# -- files -------------------------------------------------------------------------------------------------------------


def media_request(tap: TapTwilio, url: str | None) -> Any:
    (message,) = tap.records_of(split(urlencode(FORM).encode())[0], datetime.now(UTC), "delivery:1#0")
    assert isinstance(message, Message)
    return tap.media_request(Attachment(kind="image", url=url), message)


def test_a_file_is_asked_for_with_the_password_at_twilio_alone(make_tap: Make) -> None:
    tap = make_tap(api_url="https://api.twilio.com")
    request = media_request(tap, "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1")
    expected = base64.b64encode(f"{SID}:{TOKEN}".encode()).decode()
    assert request.headers == {"Authorization": f"Basic {expected}"}
    assert request.hosts == {"api.twilio.com", ".twiliocdn.com", "s3-external-1.amazonaws.com"}
    elsewhere = media_request(tap, "https://api.twilio.com.evil.example/ME1")
    assert elsewhere.headers == {}
    assert "api.twilio.com.evil.example" not in elsewhere.hosts
    assert media_request(tap, None) is None


def test_a_file_is_fetched_and_kept(make_tap: Make, app: TwilioApp, server: SandboxServer, run_tap: RunTap) -> None:
    app.picture(ADA, "look", data=b"\x89PNG\r\n\x1a\n a picture")
    private = [f"127.0.0.1:{server.port}"]
    (message,) = records_of(run_tap(make_tap(fetch_media=True, media_private_hosts=private)))
    (file,) = message["attachments"]
    assert (file["mime_type"], file["size_bytes"]) == ("image/png", 18)
    assert file["media_key"]


# -- doctor ------------------------------------------------------------------------------------------------------------


def checks(tap: TapTwilio) -> dict[str, tuple[bool | None, str]]:
    return {one.what: (one.ok, one.detail) for one in tap.check()}


def test_the_doctor_finds_account_clock_and_webhook_in_order(make_tap: Make, app: TwilioApp) -> None:
    app.webhook_url = "https://hooks.shop.example/webhooks/twilio"
    found = checks(make_tap())
    assert {what: ok for what, (ok, _) in found.items()} == {
        "settings": True, "account": True, "clock": True, "webhook of the number ending in 0100": True,
    }  # fmt: skip


@pytest.mark.parametrize("url", [None, "https://hooks.shop.example/webhooks/twilio/shop2", "https://demo.twilio.com/x"])
def test_the_doctor_sees_a_number_that_posts_elsewhere(make_tap: Make, app: TwilioApp, url: str | None) -> None:
    app.webhook_url = url
    assert checks(make_tap())["webhook of the number ending in 0100"] == (False, "does not post here")


def test_the_doctor_says_what_is_wrong_with_the_password(make_tap: Make) -> None:
    found = {one.what: one for one in make_tap(auth_token="wrong-token-0123456789").check()}
    assert found["account"].ok is False
    assert "auth token" in found["account"].fix
    assert "wrong-token" not in found["account"].detail


def test_the_doctor_says_that_nothing_is_reconciled_without_a_password(source: TwilioSource) -> None:
    found = {one.what: one for one in TapTwilio(config=source.config()).check()}
    assert found["account"].ok is None


def test_a_clock_that_is_wrong_is_seen(make_tap: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TapTwilio, "now", lambda _: datetime.now(UTC) + timedelta(minutes=10))
    ok, detail = checks(make_tap())["clock"]
    assert ok is False
    assert detail.startswith(("599", "600", "601"))
