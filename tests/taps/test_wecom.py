"""tap-wecom against the stand-in: bells, pages, cursors, what was missed, and who wrote."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from singer_sdk.exceptions import ConfigValidationError

from mappings.errors import CredentialsError, RejectedError
from mappings.records import Attachment, Message
from sandbox.base import Fault, SandboxServer
from sandbox.deliverer import Event
from sandbox.meta import TokenBucket
from sandbox.tencent import encrypt, to_xml
from sandbox.wecom import WeComApp
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from taps.base import Checkpoint
from taps.wecom import TapWeCom
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource
from tests.taps.webhooks.tencent import envelope

RunTap = Callable[[Any], list[dict[str, Any]]]
SERVICE, REPAIRS = "wkSandboxService00000000000001", "wkSandboxRepairs00000000000002"


class WeComSource(WebhookSource):
    """A company whose bells are delivered when a test says so."""

    def __init__(self, stores: Stores, state_url: str, url: str, app: WeComApp) -> None:
        super().__init__(stores, state_url, TapWeCom, {})
        self.app = app
        self._url = url
        self._told = 0
        self.mia, self.bo = app.add_customer("Mia", unionid="oUnionMia"), app.add_customer("Bo")
        self._first = ""

    def config(self, **more: Any) -> dict[str, Any]:
        app = self.app
        api = {"corp_id": app.receiver_id, "secret": app.secret, "api_url": self._url}
        return super().config(**{**api, "encoding_aes_key": app.encoding_aes_key, **more})

    def add(self, part: int) -> None:
        app, kilobyte = self.app, b"\x89PNG\r\n\x1a\n"
        if part == 1:
            self._first = app.text(self.mia, "Does 4711 come this week?")
            app.file(self.mia, "image", kilobyte, "image/png", REPAIRS)
        else:
            app.text(self.bo, "STOP")
            app.recall(self.mia, self._first)
            app.fail_send(self.mia, "0123456789abcdef0123456789abcdef", 4)
        self.ring()

    def add_bad(self) -> None:
        self.app.send(self.bo, "location", {"latitude": 1000, "longitude": 0})
        self.ring()

    def ring(self, *events: Event) -> None:
        """Deliver these bells; by default all that were not yet."""
        for event in events or self.app.deliverer.events[self._told :]:
            body = to_xml(event.part["xml"])
            self.deliver(
                envelope(encrypt(body, str(self.app.encoding_aes_key), self.app.receiver_id)), at=self.app.clock.now()
            )
        self._told = len(self.app.deliverer.events)

    def forget_bells(self) -> None:
        """The bells until now are lost."""
        self._told = len(self.app.deliverer.events)


@pytest.fixture
def app() -> WeComApp:
    return WeComApp()


@pytest.fixture
def server(app: WeComApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        yield running


@pytest.fixture
def source(stores: Stores, state_url: str, server: SandboxServer, app: WeComApp) -> Iterator[WeComSource]:
    made = WeComSource(stores, state_url, server.url, app)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""
    monkeypatch.setattr("taps.base._WaitSeconds.__call__", lambda _self, _error: 0.0)


class TestTapWeCom(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str, server: SandboxServer, app: WeComApp) -> Iterator[WeComSource]:
        app.without_token = TokenBucket(10_000, 10_000)
        made = WeComSource(stores, state_url, server.url, app)
        yield made
        made.close()


def records_of(messages: list[dict[str, Any]], stream: str = "messages") -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def texts_of(messages: list[dict[str, Any]]) -> list[Any]:
    return [one["text"] for one in records_of(messages)]


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def cursor_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = state_of(messages)["bookmarks"]["cursor"]
    return found


def syncs(app: WeComApp) -> list[dict[str, Any]]:
    return [json.loads(one["body"]) for one in app.journal if one["path"] == "/cgi-bin/kf/sync_msg"]


# -- bells -------------------------------------------------------------------------------------------------------------


def test_a_bell_says_which_account_to_ask_and_with_which_token(
    source: WeComSource, app: WeComApp, run_tap: RunTap
) -> None:
    app.text(source.mia, "Hello", REPAIRS)
    source.ring()
    messages = run_tap(TapWeCom(config=source.config()))
    assert texts_of(messages) == ["Hello"]
    token = app.deliverer.events[0].part["xml"]["Token"]
    assert [(one["open_kfid"], one.get("token")) for one in syncs(app)] == [(REPAIRS, token), (SERVICE, None)]


def test_messages_whose_bell_was_lost_are_found_and_counted(
    source: WeComSource, app: WeComApp, run_tap: RunTap, stores: Stores
) -> None:
    app.clock.advance(-3600)
    app.text(source.mia, "rung")
    source.ring()
    state = state_of(run_tap(TapWeCom(config=source.config())))
    app.clock.advance(600)
    app.text(source.mia, "lost")
    source.forget_bells()
    assert texts_of(run_tap(TapWeCom(config=source.config(), state=state))) == ["lost"]
    assert Items(stores).missed() == {"wecom": 1}


def test_what_a_bell_announced_is_not_missed_even_if_it_was_asked_for_in_a_later_run(
    source: WeComSource, app: WeComApp, run_tap: RunTap, stores: Stores
) -> None:
    app.clock.advance(-3600)
    app.text(source.mia, "one")
    source.ring()
    fault = Fault("/kf/sync_msg", status=200, times=1000, body={"errcode": 45009})
    app.faults.append(fault)
    state = state_of(run_tap(TapWeCom(config=source.config())))
    app.faults.remove(fault)
    assert texts_of(run_tap(TapWeCom(config=source.config(), state=state))) == ["one"]
    assert Items(stores).missed() == {}


def test_a_message_of_the_last_minute_may_still_be_rung_for(
    source: WeComSource, app: WeComApp, run_tap: RunTap, stores: Stores
) -> None:
    app.clock.advance(-3600)
    app.text(source.mia, "one")
    source.ring()
    state = state_of(run_tap(TapWeCom(config=source.config())))
    app.clock.advance(3600)
    app.text(source.mia, "just now")
    assert texts_of(run_tap(TapWeCom(config=source.config(), state=state))) == ["just now"]
    assert Items(stores).missed() == {}


def test_without_any_webhook_everything_is_read_and_nothing_counts_as_missed(
    source: WeComSource, app: WeComApp, run_tap: RunTap, stores: Stores
) -> None:
    app.clock.advance(-3600)
    app.text(source.mia, "one")
    app.text(source.bo, "two", REPAIRS)
    config = {name: value for name, value in source.config().items() if name != "encoding_aes_key"}
    assert sorted(texts_of(run_tap(TapWeCom(config=config)))) == ["one", "two"]
    assert Items(stores).missed() == {}


def test_a_bell_that_rings_while_the_run_follows_is_answered_at_once(source: WeComSource, app: WeComApp) -> None:
    texts: list[str] = []
    for found in TapWeCom(config=source.config(follow_seconds=20)).read():
        if isinstance(found, Checkpoint) and "delivery_id" in found.cursor and not texts and not app.entries:
            continue_after_the_first_look(source, app)
        if isinstance(found, Message):
            texts.append(str(found.text))
            if len(texts) == 2:
                break
    assert texts == ["after the look", "and once more"]
    # Both accounts in the run's own look, then the one that rang alone.
    assert [one["open_kfid"] for one in syncs(app)] == [SERVICE, REPAIRS, SERVICE]


def continue_after_the_first_look(source: WeComSource, app: WeComApp) -> None:
    """Write once every account was asked."""
    if len(syncs(app)) >= 2:
        app.text(source.mia, "after the look")
        app.text(source.mia, "and once more")
        source.ring()


def test_a_pass_that_does_not_poll_asks_only_the_account_that_rang(
    source: WeComSource, app: WeComApp, run_tap: RunTap
) -> None:
    app.text(source.mia, "Hello", REPAIRS)
    source.ring()
    tap = TapWeCom(config=source.config())
    tap.polls = False
    assert texts_of(run_tap(tap)) == ["Hello"]
    assert [one["open_kfid"] for one in syncs(app)] == [REPAIRS]


def test_a_bell_of_an_hour_ago_is_answered_without_its_token(
    source: WeComSource, app: WeComApp, run_tap: RunTap
) -> None:
    app.clock.advance(-3600)
    app.text(source.mia, "Hello")
    source.ring()
    assert texts_of(run_tap(TapWeCom(config=source.config()))) == ["Hello"]
    assert all("token" not in one for one in syncs(app))


def test_a_token_that_is_refused_is_left_out(source: WeComSource, app: WeComApp, run_tap: RunTap) -> None:
    app.text(source.mia, "Hello")
    source.ring()
    app._bell_tokens.clear()
    assert texts_of(run_tap(TapWeCom(config=source.config()))) == ["Hello"]
    assert ["token" in one for one in syncs(app) if one["open_kfid"] == SERVICE] == [True, False]


def test_a_bell_for_another_company_is_parked_and_rings_nothing(
    source: WeComSource, app: WeComApp, run_tap: RunTap, stores: Stores
) -> None:
    bell = app.ring(SERVICE)
    source.deliver(envelope(encrypt(to_xml(bell.part["xml"]), str(app.encoding_aes_key), "ww0000000000000000")))
    run_tap(TapWeCom(config=source.config()))
    assert len(Parked(stores).list()) == 1
    assert all("token" not in one for one in syncs(app))


def test_a_bell_that_says_nothing_is_no_failure(source: WeComSource, app: WeComApp, run_tap: RunTap) -> None:
    app.text(source.mia, "Hello")
    broken = {"ToUserName": app.receiver_id, "MsgType": "event", "Event": "kf_msg_or_event", "Token": "x"}
    source.deliver(to_xml(broken))
    assert texts_of(run_tap(TapWeCom(config=source.config()))) == ["Hello"]


def test_only_the_accounts_of_the_settings_are_read(source: WeComSource, app: WeComApp, run_tap: RunTap) -> None:
    app.text(source.mia, "not ours", REPAIRS)
    app.text(source.mia, "ours", SERVICE)
    source.ring()
    assert texts_of(run_tap(TapWeCom(config=source.config(open_kfids=[SERVICE])))) == ["ours"]
    assert "/cgi-bin/kf/account/list" not in {one["path"] for one in app.journal}


# -- pages -------------------------------------------------------------------------------------------------------------


def test_pages_are_read_to_their_end_through_empty_ones(source: WeComSource, app: WeComApp, run_tap: RunTap) -> None:
    for number in range(25):
        app.text(source.mia, f"text {number}")
    source.ring()
    app.page_size = 10
    app.empty_pages = 3
    messages = run_tap(TapWeCom(config=source.config()))
    assert texts_of(messages) == [f"text {number}" for number in range(25)]


def test_what_comes_again_under_its_id_is_left_out(source: WeComSource, app: WeComApp, run_tap: RunTap) -> None:
    app.page_size = 2
    app.repeats = 3
    for number in range(7):
        app.text(source.mia, f"text {number}")
    source.ring()
    first = run_tap(TapWeCom(config=source.config()))
    app.text(source.mia, "text 7")
    source.ring()
    second = run_tap(TapWeCom(config=source.config(), state=state_of(first)))
    assert texts_of(first) == [f"text {number}" for number in range(7)]
    assert texts_of(second) == ["text 7"]


@pytest.mark.parametrize("more", [None, 2, "yes", [], {}, 0, "0"])
def test_only_a_one_says_that_there_is_more(source: WeComSource, app: WeComApp, run_tap: RunTap, more: Any) -> None:
    row = {"msgid": "m1", "open_kfid": SERVICE, "external_userid": source.mia, "send_time": 1772366400, "origin": 3,
           "msgtype": "text", "text": {"content": "once"}}  # fmt: skip
    body = {"errcode": 0, "next_cursor": "c1", "has_more": more, "msg_list": [row, row]}
    app.faults.append(Fault("/kf/sync_msg", status=200, times=1, body=body))
    assert texts_of(run_tap(TapWeCom(config=source.config(open_kfids=[SERVICE])))) == ["once"]
    assert len(syncs(app)) == 1


def test_a_cursor_that_does_not_move_ends_the_look(
    source: WeComSource, app: WeComApp, run_tap: RunTap, caplog: Any
) -> None:
    app.text(source.mia, "one")
    app.empty_pages = 1000
    with caplog.at_level(logging.WARNING):
        messages = run_tap(TapWeCom(config=source.config()))
    assert "does not move" in caplog.text
    assert "poll_pass" not in cursor_of(messages)
    assert len(syncs(app)) < 30
    app.empty_pages = 0
    assert texts_of(run_tap(TapWeCom(config=source.config(), state=state_of(messages)))) == ["one"]


def test_a_run_that_was_killed_between_pages_gives_what_is_left(
    source: WeComSource, app: WeComApp, run_tap: RunTap
) -> None:
    for number in range(6):
        app.text(source.mia, f"text {number}")
    app.page_size = 2
    tap = TapWeCom(config=source.config())
    seen: list[Any] = []
    cursor: dict[str, Any] = {}
    reading = tap.read()
    for found in reading:
        if isinstance(found, Checkpoint):
            cursor |= found.cursor
            if len(seen) >= 3:
                break
        elif isinstance(found, Message):
            seen.append(found.text)
    reading.close()  # type: ignore[attr-defined]
    rest = run_tap(TapWeCom(config=source.config(), state={"bookmarks": {"cursor": cursor}}))
    assert seen + texts_of(rest) == [f"text {number}" for number in range(6)]


def test_a_look_whose_state_was_lost_is_repeated(source: WeComSource, app: WeComApp, run_tap: RunTap) -> None:
    app.text(source.mia, "Hello")
    run_tap(TapWeCom(config=source.config()))
    assert texts_of(run_tap(TapWeCom(config=source.config()))) == ["Hello"]


def test_a_cursor_that_is_refused_is_left_out_and_the_three_days_are_read_again(
    source: WeComSource, app: WeComApp, run_tap: RunTap
) -> None:
    app.text(source.mia, "seen before")
    first = run_tap(TapWeCom(config=source.config()))
    app.text(source.mia, "new")
    state = state_of(first)
    state["bookmarks"]["cursor"]["kf_cursors"][SERVICE] = "too-old"
    second = run_tap(TapWeCom(config=source.config(), state=state))
    assert texts_of(second) == ["new"]
    assert cursor_of(second)["kf_cursors"][SERVICE] != "too-old"


def test_three_days_is_as_far_as_it_goes(source: WeComSource, app: WeComApp, run_tap: RunTap) -> None:
    app.clock.advance(-4 * 86_400)
    app.text(source.mia, "four days ago")
    app.clock.advance(2 * 86_400)
    app.text(source.mia, "two days ago")
    app.clock.advance(2 * 86_400)
    assert texts_of(run_tap(TapWeCom(config=source.config()))) == ["two days ago"]


def test_an_account_that_is_gone_does_not_hold_up_the_others(
    source: WeComSource, app: WeComApp, run_tap: RunTap
) -> None:
    app.text(source.mia, "here", REPAIRS)
    messages = run_tap(TapWeCom(config=source.config(open_kfids=["wkGone", REPAIRS])))
    assert texts_of(messages) == ["here"]


@pytest.mark.parametrize("row", [None, 7, "x", [], {}, {"msgid": "m", "msgtype": "text"}, {"msgid": 7, "msgtype": {}}])
def test_a_broken_entry_is_parked_and_the_rest_flows(
    source: WeComSource, app: WeComApp, run_tap: RunTap, stores: Stores, row: Any
) -> None:
    app.text(source.mia, "before")
    app.text(source.mia, "broken")
    app.text(source.mia, "after")
    app.entries[1].body = row
    assert texts_of(run_tap(TapWeCom(config=source.config()))) == ["before", "after"]
    assert len(Parked(stores).list()) == 1


def test_a_found_message_that_cannot_be_understood_can_be_replayed(
    source: WeComSource, app: WeComApp, run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.text(source.mia, "Hello")
    parked = Parked(stores)
    with monkeypatch.context() as patch:
        patch.setattr("taps.wecom.records_from_wecom", lambda *_: (_ for _ in ()).throw(TypeError()))
        state = state_of(run_tap(TapWeCom(config=source.config())))
    parked.ask_replay([one.parked_id for one in parked.list()])
    assert texts_of(run_tap(TapWeCom(config=source.config(), state=state))) == ["Hello"]


# -- limits and refusals -----------------------------------------------------------------------------------------------


def test_too_many_calls_end_the_look_and_the_next_run_goes_on(
    source: WeComSource, app: WeComApp, run_tap: RunTap, caplog: Any
) -> None:
    for number in range(9):
        app.text(source.mia, f"text {number}")
    app.page_size = 2
    app.without_token = TokenBucket(3, 0)
    with caplog.at_level(logging.WARNING):
        first = run_tap(TapWeCom(config=source.config(open_kfids=[SERVICE])))
    assert "go on after" in caplog.text
    app.without_token = TokenBucket(100, 0)
    second = run_tap(TapWeCom(config=source.config(open_kfids=[SERVICE]), state=state_of(first)))
    assert texts_of(first) + texts_of(second) == [f"text {number}" for number in range(9)]
    assert len(texts_of(first)) == 6


@pytest.mark.parametrize(("status", "code"), [(200, -1), (500, None), (503, None)])
def test_a_passing_refusal_is_tried_again(
    source: WeComSource, app: WeComApp, run_tap: RunTap, status: int, code: int | None
) -> None:
    app.text(source.mia, "Hello")
    app.faults.append(Fault("/kf/sync_msg", status=status, times=2, body={"errcode": code} if code else {}))
    assert texts_of(run_tap(TapWeCom(config=source.config()))) == ["Hello"]


@pytest.mark.parametrize("code", [42001, 40014])
def test_a_token_that_ended_early_is_replaced(source: WeComSource, app: WeComApp, run_tap: RunTap, code: int) -> None:
    app.text(source.mia, "Hello")
    state = state_of(run_tap(TapWeCom(config=source.config())))
    app.text(source.mia, "again")
    app.tokens.revoke()
    app.faults.append(Fault("/kf/account/list", status=200, times=1, body={"errcode": code}))
    assert texts_of(run_tap(TapWeCom(config=source.config(), state=state))) == ["again"]
    assert app.tokens.issued == 2


def test_a_wrong_secret_stops_the_run_and_is_not_told(source: WeComSource, run_tap: RunTap) -> None:
    with pytest.raises(CredentialsError) as caught:
        run_tap(TapWeCom(config=source.config(secret="wrong-secret-0123456789")))
    assert "40001" in str(caught.value)
    assert "wrong-secret" not in str(caught.value)


def test_neither_token_nor_text_gets_into_the_log(
    source: WeComSource, app: WeComApp, run_tap: RunTap, caplog: Any
) -> None:
    app.text(source.mia, "a private word")
    source.ring()
    app.faults.append(Fault("/kf/sync_msg", status=503, times=1))
    with caplog.at_level(logging.DEBUG):
        run_tap(TapWeCom(config=source.config()))
    (token,) = app.tokens._ends
    for secret in (token, app.secret, "private word", app.deliverer.events[0].part["xml"]["Token"], source.mia):
        assert secret not in caplog.text


@pytest.mark.parametrize("missing", ["corp_id", "secret"])
def test_company_and_secret_are_needed(source: WeComSource, run_tap: RunTap, missing: str) -> None:
    config = {name: value for name, value in source.config().items() if name != missing}
    with pytest.raises(ConfigValidationError) as caught:
        run_tap(TapWeCom(config=config))
    assert missing in str(caught.value.errors)


# -- who it is ---------------------------------------------------------------------------------------------------------


def test_names_and_union_ids_are_asked_for_once_a_week_together(
    source: WeComSource, app: WeComApp, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.text(source.mia, "one")
    app.text(source.bo, "two")
    app.text(source.mia, "one", REPAIRS)
    first = run_tap(TapWeCom(config=source.config(open_platform_id="ours")))
    app.text(source.mia, "three")
    second = run_tap(TapWeCom(config=source.config(), state=state_of(first)))
    told = {one["profile"]["name"]: one for one in records_of([*first, *second], "evidence")}
    assert sorted(told) == ["Bo", "Mia"]
    assert told["Mia"]["handles"] == [
        {"kind": "wecom_external_user", "scope": app.receiver_id, "value": source.mia},
        {"kind": "wechat_unionid", "scope": "ours", "value": "oUnionMia"},
    ]
    assert [one["path"] for one in app.journal].count("/cgi-bin/kf/customer/batchget") == 1
    app.text(source.mia, "four")
    later = TapWeCom(config=source.config(), state=state_of(second))
    monkeypatch.setattr(later, "now", lambda: datetime.now(UTC) + timedelta(days=8))
    assert len(records_of(run_tap(later), "evidence")) == 1


def test_a_hundred_customers_are_asked_for_at_once_and_no_more(
    source: WeComSource, app: WeComApp, run_tap: RunTap
) -> None:
    for number in range(150):
        app.text(app.add_customer(f"Person {number}"), "Hello")
    messages = run_tap(TapWeCom(config=source.config()))
    assert len(records_of(messages, "evidence")) == 150
    assert [one["path"] for one in app.journal].count("/cgi-bin/kf/customer/batchget") == 2


def test_names_that_are_refused_cost_no_message(
    source: WeComSource, app: WeComApp, run_tap: RunTap, caplog: Any
) -> None:
    app.text(source.mia, "one")
    app.text(source.bo, "two", REPAIRS)
    app.faults.append(Fault("/customer/batchget", status=200, times=100, body={"errcode": 48002}))
    with caplog.at_level(logging.WARNING):
        messages = run_tap(TapWeCom(config=source.config()))
    assert sorted(texts_of(messages)) == ["one", "two"]
    assert caplog.text.count("cannot be asked now") == 1
    assert [one["path"] for one in app.journal].count("/cgi-bin/kf/customer/batchget") == 1
    app.faults.clear()
    second = run_tap(TapWeCom(config=source.config(), state=state_of(messages)))
    assert sorted(one["profile"]["name"] for one in records_of(second, "evidence")) == ["Bo", "Mia"]


def test_a_broken_customer_among_good_ones_costs_its_own_name_only(
    source: WeComSource, app: WeComApp, run_tap: RunTap
) -> None:
    app.text(source.mia, "one")
    app.text(source.bo, "two")
    rows = [{"external_userid": [7]}, {"external_userid": source.bo, "nickname": 7}, {"nickname": "nobody"},
            {"external_userid": "wmSomebodyElse", "nickname": "x"},
            {"external_userid": source.mia, "nickname": "Mia"}]  # fmt: skip
    body = {"errcode": 0, "customer_list": rows}
    app.faults.append(Fault("/customer/batchget", status=200, times=1, body=body))
    (evidence,) = records_of(run_tap(TapWeCom(config=source.config())), "evidence")
    assert evidence["profile"]["name"] == "Mia"


def test_nobody_is_asked_about_where_that_is_switched_off(source: WeComSource, app: WeComApp, run_tap: RunTap) -> None:
    app.text(source.mia, "one")
    assert records_of(run_tap(TapWeCom(config=source.config(look_up_customers=False))), "evidence") == []


# -- files -------------------------------------------------------------------------------------------------------------


def sent(source: WeComSource, kind: str, data: bytes, content_type: str) -> tuple[Attachment, Message]:
    """The record of a file that Mia sent."""
    source.app.file(source.mia, kind, data, content_type)
    tap = TapWeCom(config=source.config())
    (message,) = [one for one in tap.read() if isinstance(one, Message)]
    return message.attachments[0], message


def test_a_file_is_at_the_api_under_its_id_and_nowhere_else(source: WeComSource, server: SandboxServer) -> None:
    request = TapWeCom(config=source.config()).media_request(*sent(source, "file", b"%PDF-1.7", "application/pdf"))
    assert request is not None
    assert request.hosts == frozenset({"127.0.0.1"})
    assert "access_token" not in repr(request)
    assert requests.get(request.url, timeout=5).content == b"%PDF-1.7"


def test_an_error_is_never_taken_for_a_file(source: WeComSource, app: WeComApp) -> None:
    attachment, message = sent(source, "file", b"%PDF-1.7", "application/pdf")
    app.files.clear()
    with pytest.raises(RejectedError, match="40007"):
        TapWeCom(config=source.config()).media_request(attachment, message)


def test_fetched_files_are_kept_and_those_of_a_message_that_was_taken_back_are_not(
    source: WeComSource, app: WeComApp, server: SandboxServer, run_tap: RunTap
) -> None:
    png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
    kept = app.file(source.mia, "image", png, "image/png")
    gone = app.file(source.mia, "image", png + b"2", "image/png")
    app.file(source.mia, "file", b'{"errcode":40007,"errmsg":"a file that looks like an error"}', "application/json")
    hosts = [urlsplit(server.url).netloc]
    tap = TapWeCom(config=source.config(fetch_media=True, media_private_hosts=hosts))
    messages = run_tap(tap)
    assert [bool(one["attachments"][0]["media_key"]) for one in records_of(messages)] == [True, True, True]
    app.recall(source.mia, gone)
    again = TapWeCom(config=source.config(fetch_media=True, media_private_hosts=hosts), state=state_of(messages))
    run_tap(again)
    keys = {one["message_key"].rpartition(":")[2]: one["message_key"] for one in records_of(messages)}
    assert again.media.find(keys[kept]) is not None
    assert again.media.find(keys[gone]) is None


# -- doctor ------------------------------------------------------------------------------------------------------------


def checks(source: WeComSource, **more: Any) -> dict[str, Any]:
    return {one.what: one for one in TapWeCom(config=source.config(**more)).check()}


def test_the_doctor_tells_token_clock_and_accounts(source: WeComSource) -> None:
    found = checks(source)
    assert {name: one.ok for name, one in found.items()} == {
        "settings": True, "access token": True, "clock": True, "webhook": None, "accounts": True,
    }  # fmt: skip
    assert found["accounts"].detail == "2 of 2 can be read and answered"


def test_the_doctor_names_an_account_that_the_application_does_not_see(source: WeComSource) -> None:
    found = checks(source, open_kfids=[SERVICE, "wkGone"])
    assert found["accounts"].ok is False
    assert "wkGone" in found["accounts"].fix


def test_the_doctor_tells_a_refused_secret_and_a_missing_permission(source: WeComSource, app: WeComApp) -> None:
    assert checks(source, secret="wrong")["access token"].ok is False
    app.faults.append(Fault("/account/list", status=200, times=1, body={"errcode": 60020, "errmsg": "ip 203.0.113.7"}))
    found = checks(source)
    assert found["accounts"].ok is False
    assert "203.0.113.7" in found["accounts"].detail
