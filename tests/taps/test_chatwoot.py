"""tap-chatwoot over the deliveries of its fixtures, and reconciling with the conversations of the stand-in server."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mappings.errors import CredentialsError, SettingsError
from mappings.records import Message
from sandbox.base import Fault, SandboxServer
from sandbox.chatwoot import ChatwootApp
from sandbox.meta import TokenBucket
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from taps.base import Checkpoint
from taps.chatwoot import TapChatwoot
from tests.contract.mapping import load_delivery
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
Make = Callable[..., TapChatwoot]
PARTS = {
    1: ["incoming", "agent", "conversation_read"],
    2: ["incoming_stop", "deleted", "incoming_verified", "answer_choice"],
}
TOKEN = "sandbox-access-token"


class TestTapChatwoot(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[WebhookSource]:
        made = WebhookSource(stores, state_url, TapChatwoot, PARTS)
        yield made
        made.close()


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapChatwoot, PARTS)
    yield made
    made.close()


@pytest.fixture
def app() -> ChatwootApp:
    """The account, ten minutes ago."""
    app = ChatwootApp()
    app.clock.advance(-600)
    return app


@pytest.fixture
def server(app: ChatwootApp) -> Iterator[SandboxServer]:
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
def make_tap(source: WebhookSource, app: ChatwootApp, server: SandboxServer) -> Make:
    """A tap that reconciles the account."""

    def make(state: dict[str, Any] | None = None, **config: Any) -> TapChatwoot:
        settings = {"account_id": "2", "access_token": TOKEN, "api_url": server.url, **config}
        return TapChatwoot(config=source.config(**settings), state=state or {})

    return make


def records_of(messages: list[dict[str, Any]], stream: str = "messages") -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def webhook_of(app: ChatwootApp, number: int, event: str = "message_created") -> dict[str, Any]:
    """The webhook of a message that the stand-in posted to nobody."""
    return {**app.webhook_row(app.messages[number]), "event": event}


def asked(app: ChatwootApp) -> list[str]:
    return [entry["path"].removeprefix("/api/v1/accounts/2/") for entry in app.journal]


# -- webhooks ----------------------------------------------------------------------------------------------------------


def test_a_message_that_comes_twice_is_one(source: WebhookSource, run_tap: RunTap) -> None:
    body = json.loads(load_delivery("chatwoot", "incoming"))
    source.deliver(body)
    source.deliver({**body, "something_of_2027": True})
    assert len(records_of(run_tap(TapChatwoot(config=source.config())))) == 1


def test_a_private_note_is_counted_and_leaves_no_trace(
    source: WebhookSource, run_tap: RunTap, stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    source.deliver_fixture("private_note")
    source.deliver_fixture("private_note_updated")
    with caplog.at_level(logging.INFO):
        messages = run_tap(TapChatwoot(config=source.config()))
    assert [one for one in messages if one["type"] == "RECORD"] == []
    assert "difficult" not in json.dumps(messages) + caplog.text
    assert Items(stores).counts("chatwoot") == {"ignored:private_note": 1}
    assert Parked(stores).list() == []


def test_a_contact_that_says_the_same_again_is_told_once(source: WebhookSource, run_tap: RunTap) -> None:
    body = json.loads(load_delivery("chatwoot", "incoming_verified"))
    source.deliver(body)
    source.deliver({**body, "id": 9001})
    messages = run_tap(TapChatwoot(config=source.config()))
    assert len(records_of(messages)) == 2
    assert len(records_of(messages, "evidence")) == 2  # an address and a phone


def test_nothing_is_verified_unless_the_operator_says_so(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("incoming_verified")
    for settings, expected in (({}, {"claimed"}), ({"verified_by": "identifier"}, {"claimed", "verified"})):
        found = records_of(run_tap(TapChatwoot(config=source.config(**settings))), "evidence")
        assert {one["strength"] for one in found} == expected


# -- reconciling -------------------------------------------------------------------------------------------------------


def test_what_no_webhook_brought_is_found_and_counted_as_missed(
    make_tap: Make, app: ChatwootApp, source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    chat = app.visitor()
    source.deliver(webhook_of(app, app.text(chat, "came")))
    app.text(chat, "got lost")
    app.agent(chat, "an answer that got lost")
    messages = run_tap(make_tap(installation="chat.shop.example"))
    found = records_of(messages)
    assert [(one["text"], one["seen_by"]) for one in found] == [
        ("came", "webhook"), ("got lost", "poll"), ("an answer that got lost", "poll"),
    ]  # fmt: skip
    assert Items(stores).missed() == {"chatwoot": 2}


def test_history_and_a_late_webhook_overlap_without_a_second_record(
    make_tap: Make, app: ChatwootApp, source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    number = app.text(app.visitor(), "hello")
    first = run_tap(make_tap())
    assert len(records_of(first)) == 1
    source.deliver(webhook_of(app, number))
    second = run_tap(make_tap(state_of(first)))
    keys = {one["message_key"] for one in [*records_of(first), *records_of(second)]}
    assert len(keys) == 1
    assert Items(stores).missed() == {}


def test_private_notes_and_activities_are_not_even_asked_for(make_tap: Make, app: ChatwootApp, run_tap: RunTap) -> None:
    chat = app.visitor()
    app.text(chat, "hello")
    app.agent(chat, "a private note", private=True)
    app.resolve(chat)
    assert [one["text"] for one in records_of(run_tap(make_tap()))] == ["hello"]
    queries = [entry["query"] for entry in app.journal if entry["path"].endswith("/messages")]
    assert queries
    assert all("filter_internal_messages=true" in query for query in queries)


def test_a_note_from_an_installation_that_does_not_filter_is_left_out(
    make_tap: Make, app: ChatwootApp, run_tap: RunTap
) -> None:
    chat = app.visitor()
    row = app.api_row(app.messages[app.agent(chat, "a private note", private=True)])
    app.faults.append(Fault("/messages", status=200, times=5, body={"payload": [row]}))
    messages = run_tap(make_tap())
    assert "a private note" not in json.dumps(messages)
    assert records_of(messages, "receipts") == []


def test_a_long_conversation_is_read_to_its_beginning(make_tap: Make, app: ChatwootApp, run_tap: RunTap) -> None:
    chat = app.visitor()
    for number in range(45):
        app.text(chat, f"text {number}")
    assert len(records_of(run_tap(make_tap()))) == 45


def test_many_conversations_are_read_page_by_page(make_tap: Make, app: ChatwootApp, run_tap: RunTap) -> None:
    for number in range(30):
        app.text(app.visitor(), f"text {number}")
    assert len(records_of(run_tap(make_tap()))) == 30


def test_an_old_message_is_history_that_the_first_look_takes_when_told_to(
    make_tap: Make, app: ChatwootApp, run_tap: RunTap
) -> None:
    chat = app.visitor()
    app.text(chat, "a month ago", at=app.clock.epoch() - 30 * 86_400)
    app.text(chat, "today")
    assert [one["text"] for one in records_of(run_tap(make_tap()))] == ["today"]
    found = records_of(run_tap(make_tap(history_days=31)))
    assert {one["text"] for one in found} == {"today", "a month ago"}


def test_a_status_that_changes_is_told_again(make_tap: Make, app: ChatwootApp, run_tap: RunTap) -> None:
    number = app.agent(app.visitor(), "hello")
    first = run_tap(make_tap())
    app.set_status(number, "failed")
    second = run_tap(make_tap(state_of(first)))
    assert [one["status"] for one in records_of(first, "receipts")] == ["sent"]
    assert [(one["status"], one["actor"]) for one in records_of(second, "receipts")] == [("failed", "operator")]
    assert records_of(second) == []


def test_what_has_just_been_written_is_left_to_its_webhook(
    make_tap: Make, app: ChatwootApp, source: WebhookSource, run_tap: RunTap
) -> None:
    chat = app.visitor()
    source.deliver(webhook_of(app, app.text(chat, "came")))
    app.text(chat, "just now", at=datetime.now(UTC).timestamp())
    assert [one["text"] for one in records_of(run_tap(make_tap(installation="x")))] == ["came"]


def test_what_became_of_an_answer_of_just_now_is_told_at_once_as_no_webhook_says_it(
    make_tap: Make, app: ChatwootApp, source: WebhookSource, run_tap: RunTap
) -> None:
    chat = app.visitor()
    app.clock.advance(600)
    source.deliver(webhook_of(app, app.agent(chat, "just answered")))
    first = run_tap(make_tap(installation="x"))
    assert [one["text"] for one in records_of(first)] == ["just answered"]
    assert [one["status"] for one in records_of(first, "receipts")] == ["sent"]
    second = run_tap(make_tap(state_of(first), installation="x"))
    assert records_of(second, "receipts") == []


def test_other_platforms_inboxes_are_not_read(make_tap: Make, app: ChatwootApp, run_tap: RunTap) -> None:
    app.text(app.visitor(channel="Channel::Whatsapp"), "by WhatsApp")
    assert records_of(run_tap(make_tap())) == []
    assert [path for path in asked(app) if path.endswith("/messages")] == []
    assert len(records_of(run_tap(make_tap(inboxes=["3"])))) == 1


def test_a_conversation_that_moves_up_meanwhile_is_not_skipped(make_tap: Make, app: ChatwootApp) -> None:
    chats = [app.visitor() for _ in range(30)]
    for chat in chats:
        app.text(chat, f"text {chat}")
    tap = make_tap()
    seen = []
    for item in tap.read():
        if isinstance(item, Message):
            seen.append(item.text)
            if len(seen) == 1:  # one of the second page comes to the top, where the first look has been
                app.text(chats[0], "again", at=datetime.now(UTC).timestamp())
    assert {f"text {chat}" for chat in chats} <= set(seen)


def test_a_look_that_was_cut_off_goes_on_and_takes_what_moved(
    make_tap: Make, app: ChatwootApp, run_tap: RunTap
) -> None:
    chats = [app.visitor() for _ in range(30)]
    for chat in chats:
        app.text(chat, f"text {chat}")
        app.clock.advance(1)
    tap = make_tap()
    seen: list[Any] = []
    for item in tap.read():
        seen.append(item)
        if isinstance(item, Checkpoint):
            tap._merge(item.cursor)
            if item.cursor.get("poll_done_to"):
                break
    app.text(chats[0], "again", at=datetime.now(UTC).timestamp())
    before = len(app.journal)
    rest = run_tap(make_tap({"bookmarks": {"cursor": tap.cursor}}))
    first = {item.text for item in seen if isinstance(item, Message)}
    second = {one["text"] for one in records_of(rest)}
    assert len(first) == 25
    assert first | second == {f"text {chat}" for chat in chats} | {"again"}
    assert state_of(rest)["bookmarks"]["cursor"]["poll_done_to"] is None
    assert sum(path.endswith("/messages") for path in asked(app)[before:]) < 20


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_refusal_is_tried_again(make_tap: Make, app: ChatwootApp, run_tap: RunTap, status: int) -> None:
    app.text(app.visitor(), "hello")
    app.faults.append(Fault("/conversations", status=status, times=2))
    assert len(records_of(run_tap(make_tap()))) == 1


def test_a_rate_limit_ends_the_look_and_the_next_run_goes_on(
    make_tap: Make, app: ChatwootApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        app.text(app.visitor(), f"text {number}")
    app.calls = TokenBucket(5, 0)  # the list, and two calls for each of two conversations
    first = run_tap(make_tap())
    assert len(records_of(first)) == 2
    assert "polling is not complete" in caplog.text
    app.calls = TokenBucket(100, 100)
    second = run_tap(make_tap(state_of(first)))
    texts = {one["text"] for one in [*records_of(first), *records_of(second)]}
    assert texts == {"text 0", "text 1", "text 2"}


def test_a_list_that_repeats_itself_ends_the_look(
    make_tap: Make, app: ChatwootApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    chat = app.visitor()
    row = app.conversation_row(app.conversations[chat], by_api=True)
    body = {"data": {"payload": [{**row, "last_activity_at": int(datetime.now(UTC).timestamp())}]}}
    app.faults.append(Fault("/conversations", status=200, times=100, body=body, method="GET"))
    assert "reconciled_to" not in state_of(run_tap(make_tap()))["bookmarks"]["cursor"]
    assert "polling is not complete" in caplog.text


def test_a_conversation_that_is_gone_does_not_stop_the_rest(make_tap: Make, app: ChatwootApp, run_tap: RunTap) -> None:
    chats = [app.visitor(), app.visitor()]
    for chat in chats:
        app.text(chat, f"text {chat}")
    app.faults.append(Fault(f"/conversations/{chats[0]}/messages", status=404))
    assert [one["text"] for one in records_of(run_tap(make_tap()))] == [f"text {chats[1]}"]


def test_a_message_that_cannot_be_read_is_parked_and_the_rest_flows(
    make_tap: Make, app: ChatwootApp, run_tap: RunTap, stores: Stores
) -> None:
    chat = app.visitor()
    good = app.api_row(app.messages[app.text(chat, "good")])
    rows = [
        {**good, "id": 1, "message_type": 9},
        {**good, "id": 2, "content": {}},
        {**good, "id": 3, "private": 1},
        good,
    ]
    app.faults.append(Fault("/messages", status=200, times=1, body={"payload": rows}))
    assert [one["text"] for one in records_of(run_tap(make_tap()))] == ["good"]
    assert len(Parked(stores).list()) == 3


def test_a_refused_token_stops_the_run_after_the_webhooks_were_read(
    make_tap: Make, app: ChatwootApp, source: WebhookSource
) -> None:
    source.deliver(webhook_of(app, app.text(app.visitor(), "came by webhook")))
    seen: list[Any] = []
    reading = make_tap(access_token="wrong-token-0123456789").read()
    with pytest.raises(CredentialsError) as caught:
        keep(reading, seen)
    assert "wrong-token" not in str(caught.value)
    assert [item.text for item in seen if isinstance(item, Message)] == ["came by webhook"]


def keep(items: Iterator[Any], seen: list[Any]) -> None:
    for item in items:
        seen.append(item)


def test_reconciling_needs_an_account_and_a_token(source: WebhookSource, run_tap: RunTap) -> None:
    with pytest.raises(SettingsError, match="reconcile needs"):
        run_tap(TapChatwoot(config=source.config(reconcile=True, account_id="2")))


def test_neither_token_nor_text_gets_into_the_log(
    make_tap: Make, app: ChatwootApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    app.text(app.visitor(), "a private word")
    app.faults.append(Fault("/conversations", status=503, times=1))
    with caplog.at_level(logging.DEBUG):
        run_tap(make_tap())
    assert TOKEN not in caplog.text
    assert "private word" not in caplog.text


def test_a_file_is_fetched_along_its_redirect_and_kept(
    make_tap: Make, app: ChatwootApp, server: SandboxServer, run_tap: RunTap
) -> None:
    app.picture(app.visitor(), data=b"\x89PNG\r\n\x1a\n a picture")
    private = [f"127.0.0.1:{server.port}"]
    (message,) = records_of(run_tap(make_tap(fetch_media=True, media_private_hosts=private)))
    (file,) = message["attachments"]
    assert (file["mime_type"], file["size_bytes"], file["filename"]) == ("image/png", 18, "chair.png")
    assert file["media_key"]


# -- doctor ------------------------------------------------------------------------------------------------------------


def checks(tap: TapChatwoot) -> dict[str, bool | None]:
    return {one.what: one.ok for one in tap.check()}


def test_the_doctor_finds_everything_in_order(make_tap: Make, app: ChatwootApp) -> None:
    app.webhook_url = "https://hooks.shop.example/webhooks/chatwoot"
    assert checks(make_tap(verified_by="identifier")) == {
        "settings": True, "account": True, "clock": True, "webhook": True, "identity validation of inbox 3": True,
    }  # fmt: skip


def test_the_doctor_sees_what_is_wrong(make_tap: Make, app: ChatwootApp, monkeypatch: pytest.MonkeyPatch) -> None:
    app.hmac_mandatory = False
    monkeypatch.setattr(TapChatwoot, "now", lambda _: datetime.now(UTC) + timedelta(minutes=10))
    found = checks(make_tap(verified_by="identifier"))
    assert {what: ok for what, ok in found.items() if ok is False} == {
        "clock": False, "webhook": False, "identity validation of inbox 3": False,
    }  # fmt: skip
    assert checks(make_tap(access_token="wrong"))["account"] is False
    assert checks(make_tap(reconcile=False))["account"] is None
