"""tap-messenger over the deliveries of its fixtures, and reconciling against the stand-in server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mappings.errors import CredentialsError, SettingsError
from mappings.records import Message
from sandbox.base import Fault, SandboxServer
from sandbox.messenger import MessengerApp
from sandbox.meta import TokenBucket
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from taps.base import Checkpoint
from taps.messenger import TapMessenger
from taps.meta_session import GraphSession
from taps.wanted_names import WantedNames
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
PARTS = {1: ["message", "echo", "reaction", "read"], 2: ["message_stop", "account_linking", "message_edit", "postback"]}
TOKEN = "sandbox-access-token"


class TestTapMessenger(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[WebhookSource]:
        parts = {**PARTS, 2: [name for name in PARTS[2] if name != "postback"]}  # the consent of both is one record
        made = WebhookSource(stores, state_url, TapMessenger, parts)
        yield made
        made.close()


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapMessenger, PARTS)
    yield made
    made.close()


@pytest.fixture
def page() -> MessengerApp:
    """The page, an hour ago, without the limit of two readings a second."""
    app = MessengerApp()
    app.clock.advance(-3600)
    app.reading = TokenBucket(10_000, 10_000)
    return app


@pytest.fixture
def server(page: MessengerApp) -> Iterator[SandboxServer]:
    with SandboxServer(page) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""

    def no_seconds(self: Any, error: Exception) -> float:
        return 0.0

    monkeypatch.setattr("taps.base._WaitSeconds.__call__", no_seconds)


Make = Callable[..., TapMessenger]


@pytest.fixture
def make_tap(source: WebhookSource, page: MessengerApp, server: SandboxServer) -> Make:
    """A tap that reconciles the page."""

    def make(state: dict[str, Any] | None = None, **config: Any) -> TapMessenger:
        settings = {"page_id": page.page_id, "access_token": TOKEN, "api_url": server.url,
                    "calls_per_second": 10_000, **config}  # fmt: skip
        return TapMessenger(config=source.config(**settings), state=state or {})

    return make


def messages_of(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == "messages"]


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def webhook_of(page: MessengerApp, psid: str, mid: str, text: str) -> dict[str, Any]:
    event = {"sender": {"id": psid}, "recipient": {"id": page.page_id}, "timestamp": int(page.clock.epoch() * 1000),
             "message": {"mid": mid, "text": text}}  # fmt: skip
    return {"object": "page", "entry": [{"id": page.page_id, "time": 1, "messaging": [event]}]}


def asked(page: MessengerApp) -> list[str]:
    return [entry["path"].rpartition("/")[2] for entry in page.journal]


def test_standby_events_are_read_too(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("standby")
    records = messages_of(run_tap(TapMessenger(config=source.config())))
    assert [one["flags"] for one in records] == [["standby"], ["standby"]]


def test_the_settings_reach_the_mapping(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("echo")
    source.deliver_fixture("account_linking")
    settings = {"app_id": "200000000000001", "account_link_secret": "example link secret"}
    messages = run_tap(TapMessenger(config=source.config(**settings)))
    assert [one["author_kind"] for one in messages_of(messages)].count("bot") == 1
    linked = [one["record"]["strength"] for one in messages if one.get("stream") == "evidence" and "record" in one]
    assert linked == ["verified", "claimed", "verified"]


def test_a_message_that_no_webhook_brought_is_found_and_counted(
    make_tap: Make, page: MessengerApp, source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_fixture("read")
    ada = page.add_person("Ada", "Example")
    mid = page.text(ada, "Did you get this?")
    (message,) = messages_of(run_tap(make_tap()))
    assert (message["text"], message["seen_by"], message["author_name"]) == ("Did you get this?", "poll", "Ada Example")
    assert message["message_key"].endswith(mid.replace(":", "%3A"))
    assert Items(stores).missed() == {"messenger": 1}


def test_a_message_that_a_webhook_brought_is_not_asked_for(
    make_tap: Make, page: MessengerApp, source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    ada = page.add_person("Ada", "Example")
    seen, unseen = page.text(ada, "one"), page.text(ada, "two")
    source.deliver(webhook_of(page, ada, seen, "one"))
    assert [one["seen_by"] for one in messages_of(run_tap(make_tap()))] == ["webhook", "poll"]
    assert seen not in asked(page)
    assert unseen in asked(page)
    assert Items(stores).missed() == {"messenger": 1}


def test_a_webhook_that_comes_late_takes_the_message_off_the_count(
    make_tap: Make, page: MessengerApp, source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    ada = page.add_person("Ada", "Example")
    mid = page.text(ada, "slow")
    state = state_of(run_tap(make_tap()))
    source.deliver(webhook_of(page, ada, mid, "slow"))
    assert [one["seen_by"] for one in messages_of(run_tap(make_tap(state)))] == ["webhook"]
    assert Items(stores).missed() == {}


def profiles_of(messages: list[dict[str, Any]]) -> list[str]:
    records = [one["record"] for one in messages if one.get("stream") == "evidence" and "record" in one]
    return [one["profile"]["name"] for one in records if one["method"] == "profile"]


def test_the_name_of_somebody_who_wrote_is_asked_for_once(
    make_tap: Make, page: MessengerApp, source: WebhookSource, run_tap: RunTap
) -> None:
    ada = page.add_person("Ada", "Example")
    source.deliver(webhook_of(page, ada, page.text(ada, "one"), "one"))
    first = run_tap(make_tap())
    assert profiles_of(first) == ["Ada Example"]
    source.deliver(webhook_of(page, ada, page.text(ada, "two"), "two"))
    assert profiles_of(run_tap(make_tap(state_of(first)))) == []


def test_a_page_that_may_not_read_names_goes_on_without_them(
    make_tap: Make, page: MessengerApp, source: WebhookSource, run_tap: RunTap
) -> None:
    page.profile_access = False
    ada = page.add_person("Ada", "Example")
    source.deliver(webhook_of(page, ada, page.text(ada, "one"), "one"))
    messages = run_tap(make_tap())
    assert profiles_of(messages) == []
    assert [one["text"] for one in messages_of(messages)] == ["one"]


@pytest.mark.parametrize(("status", "code"), [(500, 2), (429, 4)])
def test_a_name_that_could_not_be_had_is_asked_for_by_the_next_run(
    make_tap: Make, page: MessengerApp, source: WebhookSource, run_tap: RunTap, status: int, code: int
) -> None:
    ada = page.add_person("Ada", "Example")
    source.deliver(webhook_of(page, ada, page.text(ada, "one"), "one"))
    page.faults.append(Fault(f"/{ada}", status=status, times=5, body={"error": {"code": code}}))
    first = run_tap(make_tap())
    assert profiles_of(first) == []
    assert ada not in str(state_of(first))
    second = run_tap(make_tap(state_of(first)))
    assert profiles_of(second) == ["Ada Example"]
    assert profiles_of(run_tap(make_tap(state_of(second)))) == []


def test_a_refused_name_is_asked_for_tomorrow_and_given_up_after_five_days(
    make_tap: Make, page: MessengerApp, source: WebhookSource, run_tap: RunTap
) -> None:
    page.profile_access = False
    ada = page.add_person("Ada", "Example")
    source.deliver(webhook_of(page, ada, page.text(ada, "one"), "one"))
    state, now = None, datetime.now(UTC)

    def run(days: float) -> bool:
        """Whether a run that many days later asks for the name."""
        nonlocal state
        page.journal.clear()
        tap = make_tap(state)
        tap.now = lambda: now + timedelta(days=days)  # type: ignore[method-assign]
        state = state_of(run_tap(tap))
        return ada in asked(page)

    assert [run(days) for days in (0, 0.5, 1, 1.5, 2, 3, 4, 5, 6)] == [
        True, False, True, False, True, True, True, False, False,
    ]  # fmt: skip


def test_a_permission_that_comes_late_gives_all_their_names(
    make_tap: Make, page: MessengerApp, source: WebhookSource, run_tap: RunTap
) -> None:
    page.profile_access = False
    people = [page.add_person("Person", str(number)) for number in range(5)]
    for one in people:
        source.deliver(webhook_of(page, one, page.text(one, "Hello"), "Hello"))
    state = state_of(run_tap(make_tap()))
    page.profile_access = True
    tap = make_tap(state)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    tap.now = lambda: tomorrow  # type: ignore[method-assign]
    assert sorted(profiles_of(run_tap(tap))) == [f"Person {number}" for number in range(5)]


def test_wanted_names_are_bounded_and_another_key_file_forgets_them(stores: Stores, tmp_path: Path) -> None:
    names = WantedNames({}, stores.codec)
    for number in range(1_100):
        names.add(f"person-{number}")
    saved = names.save()
    again = WantedNames(saved, stores.codec).due(datetime.now(UTC))
    assert (len(again), again[0]) == (1_000, "person-100")
    assert WantedNames(saved, Stores(str(tmp_path / "other")).codec).due(datetime.now(UTC)) == []


def test_what_the_staff_wrote_in_the_inbox_is_found(make_tap: Make, page: MessengerApp, run_tap: RunTap) -> None:
    ada = page.add_person("Ada", "Example")
    page.text(ada, "Hello")
    page.inbox_text(ada, "We are here")
    found = [(one["direction"], one["text"]) for one in messages_of(run_tap(make_tap()))]
    assert sorted(found) == [("inbound", "Hello"), ("outbound", "We are here")]


def test_files_of_found_messages_keep_their_place(make_tap: Make, page: MessengerApp, run_tap: RunTap) -> None:
    ada = page.add_person("Ada", "Example")
    page.attachment(ada, "image")
    (message,) = messages_of(run_tap(make_tap()))
    assert message["kind"] == "image"
    assert message["attachments"][0]["url"].startswith("https://cdn.example/cdn/")


def test_a_second_look_finds_nothing_more(make_tap: Make, page: MessengerApp, run_tap: RunTap) -> None:
    page.text(page.add_person("Ada", "Example"), "Hello")
    state = state_of(run_tap(make_tap()))
    assert messages_of(run_tap(make_tap(state))) == []


def test_a_look_whose_state_was_lost_is_repeated(make_tap: Make, page: MessengerApp, run_tap: RunTap) -> None:
    page.text(page.add_person("Ada", "Example"), "Hello")
    run_tap(make_tap())
    assert len(messages_of(run_tap(make_tap()))) == 1


def test_a_look_that_is_cut_off_gives_what_is_left_in_the_next(
    make_tap: Make, page: MessengerApp, run_tap: RunTap
) -> None:
    for number in range(3):
        page.text(page.add_person("Person", str(number)), f"text {number}")
    reading = make_tap().read()
    first = next(item for item in reading if not isinstance(item, Checkpoint))
    reading.close()  # type: ignore[attr-defined]
    again = {one["text"] for one in messages_of(run_tap(make_tap()))}
    assert isinstance(first, Message)
    assert first.text in again
    assert again == {"text 0", "text 1", "text 2"}


def test_a_message_of_the_last_minute_is_left_to_its_webhook(
    make_tap: Make, page: MessengerApp, run_tap: RunTap
) -> None:
    page.clock.advance(3600)
    page.text(page.add_person("Ada", "Example"), "just now")
    assert messages_of(run_tap(make_tap())) == []


def test_conversations_older_than_the_look_back_are_left_alone(
    make_tap: Make, page: MessengerApp, run_tap: RunTap
) -> None:
    page.text(page.add_person("Ada", "Example"), "an hour ago")
    assert messages_of(run_tap(make_tap(reconcile_hours=0.5))) == []


def test_a_look_back_reaches_to_the_last_complete_one(make_tap: Make, page: MessengerApp, run_tap: RunTap) -> None:
    page.text(page.add_person("Ada", "Example"), "while nothing ran")
    last = datetime.now(UTC) - timedelta(hours=9)
    state = {"bookmarks": {"cursor": {"poll_pass": 3, "reconciled_to": last.isoformat()}}}
    assert len(messages_of(run_tap(make_tap(state, reconcile_hours=0.5)))) == 1


def test_the_list_of_conversations_is_read_to_its_end(make_tap: Make, page: MessengerApp, run_tap: RunTap) -> None:
    for number in range(60):
        page.text(page.add_person("Person", str(number)), f"text {number}")
    assert len({one["text"] for one in messages_of(run_tap(make_tap()))}) == 60


def test_only_the_twenty_newest_messages_of_a_conversation_can_be_had(
    make_tap: Make, page: MessengerApp, run_tap: RunTap
) -> None:
    ada = page.add_person("Ada", "Example")
    for number in range(25):
        page.clock.advance(1)
        page.text(ada, f"text {number}")
    found = {one["text"] for one in messages_of(run_tap(make_tap()))}
    assert found == {f"text {number}" for number in range(5, 25)}


def test_a_list_that_repeats_itself_ends_the_look(
    make_tap: Make, page: MessengerApp, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    page.text(page.add_person("Ada", "Example"), "Hello")
    original = GraphSession.fetch_json

    def fetch(self: GraphSession, path: str, parameters: Any = None) -> Any:
        answer = original(self, path, {name: value for name, value in parameters.items() if name != "after"})
        if path.endswith("/conversations"):
            answer["paging"]["next"] = "again"
        return answer

    monkeypatch.setattr(GraphSession, "fetch_json", fetch)
    with caplog.at_level(logging.WARNING):
        messages = run_tap(make_tap())
    assert "reconciled_to" not in state_of(messages)["bookmarks"]["cursor"]
    assert "repeats itself" in caplog.text


@pytest.mark.parametrize(("status", "code"), [(400, 613), (400, 32), (500, 2), (503, None), (429, None)])
def test_a_passing_refusal_is_tried_again(
    make_tap: Make, page: MessengerApp, run_tap: RunTap, status: int, code: int | None
) -> None:
    page.text(page.add_person("Ada", "Example"), "Hello")
    page.faults.append(Fault("/conversations", status=status, times=2, body={"error": {"code": code}} if code else {}))
    assert len(messages_of(run_tap(make_tap()))) == 1


def test_a_lasting_refusal_leaves_the_look_to_the_next_run(make_tap: Make, page: MessengerApp, run_tap: RunTap) -> None:
    page.text(page.add_person("Ada", "Example"), "Hello")
    fault = Fault("/conversations", status=400, times=1000, body={"error": {"code": 613}})
    page.faults.append(fault)
    state = state_of(run_tap(make_tap()))
    assert "reconciled_to" not in state["bookmarks"]["cursor"]
    page.faults.remove(fault)
    assert len(messages_of(run_tap(make_tap(state)))) == 1


def test_a_refused_token_stops_the_run_after_the_webhooks_were_read(
    make_tap: Make, page: MessengerApp, source: WebhookSource
) -> None:
    source.deliver(webhook_of(page, "1", "m_1", "came by webhook"))
    seen: list[Any] = []
    with pytest.raises(CredentialsError) as caught:
        seen.extend(_until_it_fails(make_tap(access_token="wrong-token-0123456789").read(), seen))
    assert "wrong-token" not in str(caught.value)
    assert [item.text for item in seen if not isinstance(item, Checkpoint)] == ["came by webhook"]
    assert {"delivery_id": 1} in [item.cursor for item in seen if isinstance(item, Checkpoint)]


def _until_it_fails(items: Iterator[Any], seen: list[Any]) -> Iterator[Any]:
    for item in items:
        seen.append(item)
    yield from ()


def test_a_message_that_is_gone_does_not_stop_the_look(make_tap: Make, page: MessengerApp, run_tap: RunTap) -> None:
    ada = page.add_person("Ada", "Example")
    gone = page.text(ada, "gone")
    page.text(ada, "here")
    page.faults.append(Fault(gone, status=400, times=1, body={"error": {"code": 100}}))
    assert [one["text"] for one in messages_of(run_tap(make_tap()))] == ["here"]


def test_a_found_message_that_cannot_be_understood_is_parked_and_can_be_replayed(
    make_tap: Make, page: MessengerApp, run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.text(page.add_person("Ada", "Example"), "Hello")
    parked = Parked(stores)
    with monkeypatch.context() as patch:
        patch.setattr("taps.messenger.message_from_messenger_poll", lambda *_, **__: (_ for _ in ()).throw(TypeError()))
        state = state_of(run_tap(make_tap()))
    parked.ask_replay([one.parked_id for one in parked.list()])
    assert [one["text"] for one in messages_of(run_tap(make_tap(state)))] == ["Hello"]


def test_what_arrives_during_a_look_is_not_kept_waiting(
    make_tap: Make, page: MessengerApp, source: WebhookSource
) -> None:
    for number in range(5):
        page.text(page.add_person("Person", str(number)), f"polled {number}")
    texts: list[str] = []
    for item in make_tap().read():
        if not isinstance(item, Message):
            continue
        texts.append(str(item.text))
        if len(texts) == 1:
            source.deliver(webhook_of(page, "1", "m_1", "by webhook"))
    assert texts.index("by webhook") < 5


@pytest.mark.parametrize("given", [{"access_token": TOKEN}, {"page_id": "1"}, {}])
def test_reconciling_needs_a_page_and_its_token(source: WebhookSource, run_tap: RunTap, given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="access_token and page_id"):
        run_tap(TapMessenger(config=source.config(reconcile=True, **given)))


def test_reconciling_can_be_switched_off(make_tap: Make, page: MessengerApp, run_tap: RunTap) -> None:
    page.text(page.add_person("Ada", "Example"), "Hello")
    assert messages_of(run_tap(make_tap(reconcile=False))) == []
    assert page.journal == []


def test_neither_token_nor_text_gets_into_the_log(
    make_tap: Make, page: MessengerApp, run_tap: RunTap, caplog: Any
) -> None:
    page.text(page.add_person("Ada", "Example"), "a private word")
    page.faults.append(Fault("/conversations", status=503, times=1))
    with caplog.at_level(logging.DEBUG):
        run_tap(make_tap())
    assert TOKEN not in caplog.text
    assert "private word" not in caplog.text
