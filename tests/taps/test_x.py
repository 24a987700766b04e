"""tap-x over the deliveries of its fixtures, and reading the events of the stand-in server."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from mappings.errors import CredentialsError, RateLimitedError, RejectedError, SettingsError, UnavailableError
from mappings.records import Attachment, Message
from sandbox.base import Fault, SandboxServer
from sandbox.x import XApp
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from stores.tokens import Token, Tokens
from taps.base import Check
from taps.x import TapX
from taps.x_api import XSession, token_from_x
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
PARTS = {1: ["dm_received", "dm_sent", "dm_read"], 2: ["dm_stop", "account_message", "mention"]}


class TestTapX(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[WebhookSource]:
        made = WebhookSource(stores, state_url, TapX, PARTS)
        yield made
        made.close()


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapX, PARTS)
    yield made
    made.close()


@pytest.fixture
def app() -> XApp:
    """An account an hour ago."""
    made = XApp()
    made.clock.advance(-3600)
    return made


@pytest.fixture
def server(app: XApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""

    def no_seconds(self: Any, error: Exception) -> float:
        return 0.0

    monkeypatch.setattr("taps.base._WaitSeconds.__call__", no_seconds)


Make = Callable[..., TapX]


@pytest.fixture
def make_tap(source: WebhookSource, app: XApp, server: SandboxServer) -> Make:
    """A tap that reads the events."""

    def make(state: dict[str, Any] | None = None, **config: Any) -> TapX:
        settings = {
            "access_token": app.access_token, "api_url": server.url, "reconcile_minutes": 0, "user_id": app.user_id,
            **config,
        }  # fmt: skip
        return TapX(config=source.config(**settings), state=state or {})

    return make


@pytest.fixture
def ada(app: XApp) -> str:
    return app.add_user("Ada", "ada_example")


def records_of(messages: list[dict[str, Any]], stream: str = "messages") -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def texts_of(messages: list[dict[str, Any]]) -> list[str]:
    return sorted(one["text"] for one in records_of(messages))


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def cursor_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    cursor: dict[str, Any] = state_of(messages)["bookmarks"]["cursor"]
    return cursor


def pushed(app: XApp, event_id: str) -> dict[str, Any]:
    """The delivery that would tell a message of the stand-in."""
    event = next(one for one in app.events if one.event_id == event_id)
    kind = "dm.sent" if event.sender == app.user_id else "dm.received"
    subscription = {"filter": {"user_id": app.user_id}}
    return app._body(kind, subscription, app._pushed(event), None)


def reads(app: XApp) -> int:
    return sum(entry["path"] == "/2/dm_events" for entry in app.journal)


# -- Deliveries ------------------------------------------------------------------------------------------------------


def test_a_message_of_both_apis_and_of_another_delivery_is_read_once(
    source: WebhookSource, run_tap: RunTap, app: XApp, ada: str
) -> None:
    event_id = app.text(ada, "Hello")
    source.deliver(pushed(app, event_id))
    source.deliver(pushed(app, event_id))  # another event_uuid
    app.old_api = True
    source.deliver(pushed(app, event_id))
    tap = TapX(config=source.config())
    assert len(records_of(run_tap(tap))) == 1
    assert tap.repeats == 2


def test_two_messages_with_the_same_words_are_two(source: WebhookSource, run_tap: RunTap, app: XApp, ada: str) -> None:
    for _ in range(2):
        source.deliver(pushed(app, app.text(ada, "ok")))
    assert len(records_of(run_tap(TapX(config=source.config())))) == 2


def test_what_is_encrypted_is_counted_by_name_and_said_once(
    source: WebhookSource, run_tap: RunTap, stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    source.deliver_fixture("chat_received")
    source.deliver_fixture("chat_sent")
    source.deliver_fixture("typing")
    source.deliver_fixture("account_favorite")
    tap = TapX(config=source.config())
    with caplog.at_level(logging.INFO):
        assert records_of(run_tap(tap)) == []
    assert tap.ignored == {"chat.received": 1, "chat.sent": 1, "typing": 1, "favorite_events": 1}
    assert Items(stores).counts("x")["ignored:chat.received"] == 1
    assert caplog.text.count("an encrypted message (XChat) came") == 1
    assert "chat.received" in caplog.text
    assert Parked(stores).list() == []


def test_a_permission_taken_back_is_an_alarm(
    source: WebhookSource, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    source.deliver_fixture("oauth_revoke")
    source.deliver_fixture("account_revoke")
    with caplog.at_level(logging.WARNING):
        run_tap(TapX(config=source.config(user_id="1500000000000000001")))
    assert caplog.text.count("log in again") == 1


def test_one_broken_event_of_a_delivery_is_parked_and_the_rest_flows(
    source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_fixture("dm_batch_with_a_broken_one")
    assert texts_of(run_tap(TapX(config=source.config()))) == ["one", "two"]
    assert len(Parked(stores).list()) == 1


# -- Reading the events ----------------------------------------------------------------------------------------------


def test_events_without_any_delivery_are_history_and_no_miss(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap, stores: Stores
) -> None:
    app.text(ada, "Hello")
    app.answer(ada, "Hi Ada")
    tap = make_tap()
    messages = run_tap(tap)
    assert texts_of(messages) == ["Hello", "Hi Ada"]
    assert {one["direction"]: one["seen_by"] for one in records_of(messages)} == {"inbound": "poll", "outbound": "poll"}
    assert (tap.missed, Items(stores).missed()) == (0, {})


def test_what_a_webhook_brought_is_not_told_again_and_what_it_missed_is_counted(
    make_tap: Make, app: XApp, source: WebhookSource, ada: str, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver(pushed(app, app.text(ada, "seen")))
    app.text(ada, "missed")
    source.deliver(pushed(app, app.answer(ada, "seen answer")))
    tap = make_tap()
    messages = run_tap(tap)
    assert Counter((one["text"], one["seen_by"]) for one in records_of(messages)) == {
        ("seen", "webhook"): 1, ("seen answer", "webhook"): 1, ("missed", "poll"): 1,
    }  # fmt: skip
    assert (tap.missed, Items(stores).missed()) == (1, {"x": 1})
    again = make_tap(state_of(messages))
    assert (records_of(run_tap(again)), again.missed) == ([], 0)


def test_what_is_older_than_a_look_back_is_history_even_when_webhooks_come(
    make_tap: Make, app: XApp, source: WebhookSource, ada: str, run_tap: RunTap, stores: Stores
) -> None:
    app.clock.advance(-86_400)
    app.text(ada, "yesterday")
    app.clock.advance(86_400)
    source.deliver(pushed(app, app.text(ada, "today")))
    assert texts_of(run_tap(make_tap())) == ["today", "yesterday"]
    assert Items(stores).missed() == {}


def test_a_message_of_this_minute_is_left_to_its_webhook(
    make_tap: Make, app: XApp, source: WebhookSource, ada: str, run_tap: RunTap
) -> None:
    source.deliver(pushed(app, app.text(ada, "an hour ago")))
    app.clock.advance(3600)
    fresh = app.text(ada, "just now")
    messages = run_tap(make_tap())
    assert texts_of(messages) == ["an hour ago"]
    source.deliver(pushed(app, fresh))
    assert [one["seen_by"] for one in records_of(run_tap(make_tap(state_of(messages))))] == ["webhook"]


def test_a_webhook_that_comes_late_takes_the_message_off_the_count(
    make_tap: Make, app: XApp, source: WebhookSource, ada: str, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver(pushed(app, app.text(ada, "first")))
    slow = app.text(ada, "slow")
    state = state_of(run_tap(make_tap()))
    assert Items(stores).missed() == {"x": 1}
    source.deliver(pushed(app, slow))
    again = records_of(run_tap(make_tap(state)))
    assert [(one["text"], one["seen_by"]) for one in again] == [("slow", "webhook")]
    assert Items(stores).missed() == {}


def test_a_second_pass_ends_where_the_first_began(make_tap: Make, app: XApp, ada: str, run_tap: RunTap) -> None:
    app.clock.advance(-10 * 86_400)
    for number in range(9):
        app.text(ada, f"old {number}")
    app.clock.advance(10 * 86_400)
    state = state_of(run_tap(make_tap(page_size=2)))
    before = reads(app)
    app.text(ada, "new")
    assert texts_of(run_tap(make_tap(state, page_size=2))) == ["new"]
    assert reads(app) - before == 1


def test_nothing_older_than_the_history_that_is_wanted_is_paged_through(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap
) -> None:
    app.clock.advance(-10 * 86_400)
    for number in range(9):
        app.text(ada, f"old {number}")
    run_tap(make_tap(page_size=2, history_days=1))
    assert reads(app) == 1


def test_a_pass_soon_after_another_is_left_out(make_tap: Make, app: XApp, ada: str, run_tap: RunTap) -> None:
    app.text(ada, "Hello")
    state = state_of(run_tap(make_tap(reconcile_minutes=5)))
    assert reads(app) == 1
    run_tap(make_tap(state, reconcile_minutes=5))
    assert reads(app) == 1
    run_tap(make_tap(state, reconcile_minutes=0))
    assert reads(app) == 2


def test_the_budget_ends_a_run_cleanly_and_the_next_goes_on_at_the_page(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    app.clock.advance(3600)
    for number in range(20):
        app.text(ada, str(number))
    with caplog.at_level(logging.INFO):
        first = run_tap(make_tap(page_size=1))
    assert len(records_of(first)) == 15
    assert "go on after" in caplog.text
    assert "0 of 15 reads until" in caplog.text
    assert cursor_of(first)["poll_page"]
    app.text(ada, "meanwhile")
    app.clock.advance(901)
    second = run_tap(make_tap(state_of(first)))
    assert sorted(texts_of(first) + texts_of(second)) == sorted([*map(str, range(20)), "meanwhile"])
    assert cursor_of(second)["poll_page"] is None


def test_a_run_that_is_killed_goes_on_at_its_page(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        app.text(ada, str(number))
    tap = make_tap(page_size=2)
    original = tap._news

    def stop_after_one(*args: Any) -> Any:
        yield from original(*args)
        tap._stop_requested = True

    monkeypatch.setattr(tap, "_news", stop_after_one)
    with pytest.raises(SystemExit):
        run_tap(tap)
    state = {"bookmarks": {"cursor": tap.cursor}}
    assert tap.cursor["poll_page"]
    assert texts_of(run_tap(make_tap(state, page_size=2))) == ["0", "1", "2", "3"]


def test_a_page_that_is_gone_begins_again_at_the_newest(make_tap: Make, app: XApp, ada: str, run_tap: RunTap) -> None:
    app.text(ada, "Hello")
    state = {"bookmarks": {"cursor": {"poll_page": "x" * 20, "poll_began": "2026-03-01T12:00:00+00:00"}}}
    messages = run_tap(make_tap(state))
    assert texts_of(messages) == ["Hello"]
    assert cursor_of(messages)["poll_page"] is None


def test_pages_that_repeat_themselves_end_the_run(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    app.text(ada, "Hello")
    answer = {"data": [], "meta": {"next_token": "a" * 20}}
    monkeypatch.setattr(TapX, "_page", lambda *_: answer)
    with caplog.at_level(logging.WARNING):
        run_tap(make_tap())
    assert "repeat themselves" in caplog.text


def test_the_old_names_are_used_where_the_new_ones_are_refused_and_remembered(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap
) -> None:
    app.old_names = True
    app.share_post(ada, "1580559079470145536", "Have you seen this?")
    messages = run_tap(make_tap())
    (message,) = records_of(messages)
    assert message["content"]["posts"][0]["text"] == "A table for sale"
    before = reads(app)
    run_tap(make_tap(state_of(messages)))
    assert reads(app) - before == 1


def test_groups_are_read_and_no_webhook_is_missed_for_them(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap, source: WebhookSource, stores: Stores
) -> None:
    source.deliver_fixture("typing")
    bo = app.add_user("Bo", "bo_example")
    group = app.add_group(ada, bo)
    app.group_text(bo, group, "Hi all")
    app.leave(bo, group)
    messages = records_of(run_tap(make_tap()))
    assert Counter((one["kind"], one["handles"][0]["value"]) for one in messages) == {
        ("system", ada): 1, ("system", bo): 2, ("text", bo): 1,
    }  # fmt: skip
    assert Items(stores).missed() == {}


def test_an_event_that_nobody_understands_is_parked_and_can_be_replayed(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap, stores: Stores
) -> None:
    app.text(ada, "Hello")
    app._event("ConversationRenamed", app.pair(ada), ada)
    app.events[-1].event_type = "MessageCreate"
    app.events[-1].conversation = ""
    messages = run_tap(make_tap())
    assert texts_of(messages) == ["Hello"]
    parked = Parked(stores)
    (row,) = parked.list()
    parked.ask_replay([row.parked_id])
    assert records_of(run_tap(make_tap(state_of(messages)))) == []
    assert len(parked.list()) == 1


def test_mentions_are_read_once_where_they_are_wanted(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap, source: WebhookSource
) -> None:
    app.mention(ada, "hey @sandboxshop")
    assert records_of(run_tap(make_tap())) == []
    first = run_tap(make_tap(read_mentions=True))
    assert [(one["origin"], one["text"]) for one in records_of(first)] == [("mention", "hey @sandboxshop")]
    app.mention(ada, "@sandboxshop again")
    second = run_tap(make_tap(state_of(first), read_mentions=True))
    assert texts_of(second) == ["@sandboxshop again"]
    assert "since_id" in app.journal[-1]["query"]


def test_a_tier_without_mentions_costs_no_messages(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    app.mentions_allowed = False
    app.text(ada, "Hello")
    with caplog.at_level(logging.WARNING):
        assert texts_of(run_tap(make_tap(read_mentions=True))) == ["Hello"]
    assert "mentions are not read" in caplog.text


def test_without_the_setting_the_account_is_asked_for(make_tap: Make, app: XApp, ada: str, run_tap: RunTap) -> None:
    app.text(ada, "Hello")
    (message,) = records_of(run_tap(make_tap(user_id=None)))
    assert message["account"] == app.user_id


# -- Tokens ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def login(app: XApp) -> dict[str, Any]:
    """Settings of a login whose tokens rotate."""
    return {"refresh_token": app.refresh_token, "client_id": app.client_id, "client_secret": app.client_secret}


def test_a_token_that_x_refuses_is_refreshed_and_the_new_one_is_kept(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap, login: dict[str, Any], stores: Stores
) -> None:
    app.text(ada, "Hello")
    first = make_tap(**login, access_token="an old one")
    messages = run_tap(first)
    assert texts_of(messages) == ["Hello"]
    status = next(one for one in Tokens(stores).listing() if one.name == "x:default")
    assert (status.refreshable, status.expires_at is not None) == (True, True)
    app.text(ada, "again")
    assert texts_of(run_tap(make_tap(state_of(messages), **login, access_token="an old one"))) == ["again"]
    assert sum(entry["path"] == "/2/oauth2/token" for entry in app.journal) == 1


def test_a_login_may_begin_with_a_refresh_token_alone(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap, login: dict[str, Any]
) -> None:
    app.text(ada, "Hello")
    assert texts_of(run_tap(make_tap(**login, access_token=None))) == ["Hello"]


def test_a_used_up_refresh_token_says_what_to_do(make_tap: Make, app: XApp, run_tap: RunTap) -> None:
    login = {"refresh_token": "used up", "client_id": app.client_id, "client_secret": app.client_secret}
    with pytest.raises(CredentialsError, match="onethread tokens set x:default") as raised:
        run_tap(make_tap(**login, access_token=None))
    assert "used up" not in str(raised.value)


def test_a_refresh_is_not_tried_twice(make_tap: Make, app: XApp, run_tap: RunTap, login: dict[str, Any]) -> None:
    app.faults.append(Fault("/2/oauth2/token", status=503, times=9))
    run_tap(make_tap(**login, access_token=None))
    assert sum(entry["path"] == "/2/oauth2/token" for entry in app.journal) == 1


def test_a_refused_token_without_a_refresh_token_stops_the_run(make_tap: Make, run_tap: RunTap) -> None:
    with pytest.raises(CredentialsError):
        run_tap(make_tap(access_token="wrong"))


@pytest.mark.parametrize("seconds", [0, -1, True, "7200", 1.5, 10**10])
def test_a_lifetime_that_is_none_is_refused(seconds: Any) -> None:
    with pytest.raises(Exception, match="expires_in"):
        token_from_x({"access_token": "a", "expires_in": seconds}, now=datetime.now(UTC))


def test_a_new_token_may_come_without_a_refresh_token() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    token = token_from_x({"access_token": "a", "expires_in": 7200}, now=now)
    assert token == Token(SecretStr("a"), None, now + timedelta(hours=2))


# -- Answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("me", status=401), CredentialsError),
        (Fault("me", status=403), CredentialsError),
        (Fault("me", status=404, body={"type": "https://api.x.com/2/problems/resource-not-found"}), RejectedError),
        (Fault("me", status=503, times=9), UnavailableError),
        (Fault("me", status=429, times=9), RateLimitedError),
        (Fault("me", status=429, times=9, body={"type": "https://api.x.com/2/problems/usage-capped"}),
         RateLimitedError),
        (Fault("me", status=200, body={"errors": [{"status": 403}]}), CredentialsError),
        (Fault("me", status=200, body={"errors": [{"type": "https://api.x.com/2/problems/resource-not-found"}]}),
         RejectedError),
        (Fault("me", status=200, body={"errors": ["x"]}), RejectedError),
    ],
)  # fmt: skip
def test_an_error_has_its_class(app: XApp, server: SandboxServer, fault: Fault, error: type[Exception]) -> None:
    app.faults.append(fault)
    with pytest.raises(error) as raised:
        XSession(server.url, lambda: SecretStr("sandbox-access-token")).get("2/users/me")
    assert "sandbox-access-token" not in str(raised.value)


def test_a_limit_says_when_to_go_on(app: XApp, server: SandboxServer) -> None:
    app.clock.advance(3600)
    app.limits["me"] = 0
    with pytest.raises(RateLimitedError) as raised:
        XSession(server.url, lambda: SecretStr(app.access_token)).get("2/users/me")
    assert raised.value.retry_after_seconds is not None
    assert 800 < raised.value.retry_after_seconds <= 902


def test_errors_beside_data_spoil_nothing(app: XApp, server: SandboxServer) -> None:
    app.faults.append(Fault("me", status=200, body={"data": {"id": "1"}, "errors": [{"status": 404}]}))
    assert XSession(server.url, lambda: SecretStr("t")).get("2/users/me")["data"] == {"id": "1"}


# -- Files and settings ----------------------------------------------------------------------------------------------


def test_a_file_of_a_message_is_fetched_with_the_token_and_kept(
    make_tap: Make, app: XApp, ada: str, run_tap: RunTap
) -> None:
    app.photo(ada, "look")
    (message,) = records_of(run_tap(make_tap(fetch_media=True, media_private_hosts=["127.0.0.1"])))
    (file,) = message["attachments"]
    assert (file["mime_type"], bool(file["media_key"])) == ("image/jpeg", True)


def test_the_token_goes_to_the_api_alone(make_tap: Make) -> None:
    tap = make_tap()
    message = Message.model_construct()  # type: ignore[call-arg]  # nobody looks at it

    def asked(url: str | None) -> Any:
        return tap.media_request(Attachment(kind="image", url=url), message)

    private = asked("https://ton.twitter.com/1.1/ton/data/dm/1/2/a.jpg")
    assert private.url.endswith("/2/dm_conversations/media/1/2/a.jpg")
    assert (set(private.headers), private.hosts) == ({"Authorization"}, {"127.0.0.1"})
    for url in ("https://pbs.twimg.com/a.jpg", "https://evil.example/?https://ton.twitter.com/x/dm/1/2/a"):
        open_one = asked(url)
        assert (open_one.headers, open_one.hosts) == ({}, {"pbs.twimg.com", "video.twimg.com"})
    assert asked(None) is None


@pytest.mark.parametrize(
    "config",
    [{"refresh_token": "r"}, {"reconcile": True}, {"user_id": "abc"}, {"page_size": 101}, {"history_days": 31}],
)
def test_settings_that_do_not_fit_together_are_refused(source: WebhookSource, config: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        _ = TapX(config=source.config(**config), validate_config=False).settings


# -- Doctor ----------------------------------------------------------------------------------------------------------


def told(tap: TapX) -> dict[str, Check]:
    return {one.what: one for one in tap.check()}


def test_doctor_finds_nothing_wrong(make_tap: Make, app: XApp) -> None:
    app.clock.advance(3600)
    app.webhooks["1"] = {"id": "1", "url": "https://hooks.shop.example/webhooks/x", "valid": True, "created_at": ""}
    for event_type in ("dm.received", "dm.sent"):
        app.subscribe(event_type, app.user_id, "1")
    checks = told(make_tap(bearer_token=app.bearer_token))
    assert {name: one.ok for name, one in checks.items()} == {
        "settings": True, "access token": True, "clock": True, "direct messages": True, "encrypted chats": None,
        "webhook": True, "subscriptions": True,
    }  # fmt: skip
    assert "@sandboxshop" in checks["access token"].detail
    assert "of 15 reads" in checks["direct messages"].detail


def test_doctor_names_what_is_wrong(make_tap: Make, app: XApp) -> None:
    app.scopes.discard("dm.read")
    app.webhooks["1"] = {"id": "1", "url": "https://hooks.shop.example/webhooks/x", "valid": False, "created_at": ""}
    app.subscribe("dm.received", app.user_id, "1")
    app.subscribe("dm.sent", "77", "1")
    checks = told(make_tap(bearer_token=app.bearer_token))
    assert [checks[one].ok for one in ("direct messages", "webhook", "subscriptions")] == [False, False, False]
    assert checks["subscriptions"].detail == "missing: dm.sent"
    assert "PUT /2/webhooks/1" in checks["webhook"].fix
    del app.webhooks["1"]
    assert told(make_tap(bearer_token=app.bearer_token))["webhook"].detail == "none of the app's posts here"
    assert told(make_tap(bearer_token="wrong"))["webhook"].ok is False
    assert told(make_tap())["webhook"].ok is None
    assert told(make_tap(access_token="wrong"))["access token"].ok is False
    assert told(make_tap(access_token=None))["access token"].ok is None


def test_doctor_says_until_when_a_token_lasts(make_tap: Make, app: XApp, login: dict[str, Any]) -> None:
    checks = told(make_tap(**login, access_token=None))
    assert "UTC, then refreshed" in checks["access token"].detail
