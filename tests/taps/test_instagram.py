"""tap-instagram over the deliveries of its fixtures, and reconciling against the stand-in server, with both logins."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from mappings.errors import CredentialsError, MissingFieldError, SettingsError
from mappings.records import Message
from sandbox.base import Fault, SandboxServer
from sandbox.deliverer import Delivery
from sandbox.instagram import InstagramApp
from sandbox.meta import TokenBucket
from stores.archive import Archive
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from stores.tokens import Tokens
from taps.base import Checkpoint
from taps.instagram import TapInstagram, refresh_parameters, token_of_answer
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
Make = Callable[..., TapInstagram]
PARTS = {
    1: ["message", "echo", "reaction", "read", "message_stop"],
    2: ["comment", "message_deleted", "message_quick_reply", "message_edit"],
}
TOKEN = "sandbox-access-token"
DAY = 86_400.0


class Source(WebhookSource):
    """Webhooks, and an account to poll."""

    def __init__(
        self, stores: Stores, state_url: str, parts: dict[int, list[str]], app: InstagramApp, url: str
    ) -> None:
        super().__init__(stores, state_url, TapInstagram, parts)
        self._app, self._url = app, url

    def polling(self, **more: Any) -> dict[str, Any]:
        """The settings with which the stand-in is polled."""
        return {
            "login": self._app.login, "account_id": self._app.account_id, "access_token": TOKEN, "api_url": self._url,
            "page_id": self._app.page_id, "calls_per_second": 10_000, **more,
        }  # fmt: skip


@pytest.fixture
def app() -> InstagramApp:
    """The account, an hour ago, without the limit of two readings a second."""
    return an_hour_ago(InstagramApp())


def an_hour_ago(app: InstagramApp) -> InstagramApp:
    app.clock.advance(-3600)
    app.reading = TokenBucket(10_000, 10_000)
    return app


@pytest.fixture
def server(app: InstagramApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        yield running


@pytest.fixture
def source(stores: Stores, state_url: str, app: InstagramApp, server: SandboxServer) -> Iterator[Source]:
    made = Source(stores, state_url, PARTS, app, server.url)
    yield made
    made.close()


class TestTapInstagram(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[WebhookSource]:
        made = WebhookSource(stores, state_url, TapInstagram, PARTS)
        yield made
        made.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""

    def no_seconds(self: Any, error: Exception) -> float:
        return 0.0

    monkeypatch.setattr("taps.base._WaitSeconds.__call__", no_seconds)


@pytest.fixture
def make_tap(source: Source) -> Make:
    """A tap that reconciles the account."""

    def make(state: dict[str, Any] | None = None, **config: Any) -> TapInstagram:
        return TapInstagram(config=source.config(**source.polling(**config)), state=state or {})

    return make


def records(messages: list[dict[str, Any]], stream: str = "messages") -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def webhook_of(app: InstagramApp, igsid: str, mid: str, text: str) -> dict[str, Any]:
    event = {"sender": {"id": igsid}, "recipient": {"id": app.account_id}, "timestamp": int(app.clock.epoch() * 1000),
             "message": {"mid": mid, "text": text}}  # fmt: skip
    return {"object": "instagram", "entry": [{"id": app.account_id, "time": 1, "messaging": [event]}]}


def asked(app: InstagramApp) -> list[str]:
    return [entry["path"].rpartition("/")[2] for entry in app.journal]


# -- Deliveries -------------------------------------------------------------------------------------------------------


def test_our_app_id_reaches_the_mapping(source: Source, run_tap: RunTap) -> None:
    source.deliver_fixture("echo")
    found = records(run_tap(TapInstagram(config=source.config(app_id="200000000000001"))))
    assert [one["author_kind"] for one in found].count("bot") == 1


def test_accounts_in_one_delivery_keep_apart(source: Source, run_tap: RunTap) -> None:
    source.deliver_fixture("batch")
    found = records(run_tap(TapInstagram(config=source.config())))
    assert [one["text"] for one in found] == ["one", "three", "to the other account"]
    assert len({one["handles"][0]["scope"] for one in found}) == 2


def test_statistics_and_handovers_are_counted_and_no_records(source: Source, run_tap: RunTap) -> None:
    source.deliver_fixture("notices")
    tap = TapInstagram(config=source.config())
    assert [one for one in run_tap(tap) if one["type"] == "RECORD"] == []
    assert sum(tap.ignored.values()) == 8


def test_a_comment_that_comes_again_for_its_ad_is_told_once(source: Source, run_tap: RunTap) -> None:
    source.deliver_fixture("comment_flat")
    again = {"id": "17865799348089045", "text": "A flat one", "from": {"id": "1"}, "media": {"id": "2", "ad_id": "3"}}
    change = {"field": "comments", "value": again}
    entry = {"id": "17841405822304914", "time": 1772366999, "changes": [change]}
    source.deliver({"object": "instagram", "entry": [entry]})
    tap = TapInstagram(config=source.config())
    assert len(records(run_tap(tap))) == 1
    assert tap.repeats == 1


def test_an_unsent_message_loses_its_words_in_the_archive_whatever_came_first(
    source: Source, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_fixture("message_deleted")
    source.deliver_fixture("message")
    messages = run_tap(TapInstagram(config=source.config()))
    archive = Archive(stores)
    archive.fold(
        messages=[Message.model_validate(one) for one in records(messages)],
        changes=[_change(one) for one in records(messages, "message_changes")],
    )
    kept = archive.message(records(messages)[0]["message_key"])
    assert kept is not None
    assert (kept.text, kept.unsent_at is not None) == (None, True)


def _change(record: dict[str, Any]) -> Any:
    from mappings.records import MessageChange

    return MessageChange.model_validate(record)


# -- Reconciling ------------------------------------------------------------------------------------------------------


def test_a_message_that_no_webhook_brought_is_found_and_counted(
    make_tap: Make, app: InstagramApp, source: Source, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_fixture("read")
    mid = app.text(app.add_person("Mia", "mia.rossi"), "Did you get this?")
    (message,) = records(run_tap(make_tap()))
    assert (message["text"], message["seen_by"], message["author_name"]) == ("Did you get this?", "poll", "mia.rossi")
    assert message["message_key"].endswith(mid)
    assert Items(stores).missed() == {"instagram": 1}


def test_polling_alone_reads_the_recent_past_and_counts_nothing_as_missed(
    make_tap: Make, app: InstagramApp, run_tap: RunTap, stores: Stores
) -> None:
    mia = app.add_person("Mia", "mia.rossi")
    app.text(mia, "Hello")
    app.app_text(mia, "Hello Mia")
    found = {(one["direction"], one["text"]) for one in records(run_tap(make_tap()))}
    assert found == {("inbound", "Hello"), ("outbound", "Hello Mia")}
    assert Items(stores).missed() == {}


def test_a_message_that_a_webhook_brought_is_not_asked_for(
    make_tap: Make, app: InstagramApp, source: Source, run_tap: RunTap
) -> None:
    mia = app.add_person("Mia", "mia.rossi")
    seen, unseen = app.text(mia, "one"), app.text(mia, "two")
    source.deliver(webhook_of(app, mia, seen, "one"))
    assert [one["seen_by"] for one in records(run_tap(make_tap()))] == ["webhook", "poll"]
    assert seen not in asked(app)
    assert unseen in asked(app)


def test_a_webhook_that_comes_late_takes_the_message_off_the_count(
    make_tap: Make, app: InstagramApp, source: Source, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_fixture("read")
    mia = app.add_person("Mia", "mia.rossi")
    mid = app.text(mia, "slow")
    state = state_of(run_tap(make_tap()))
    source.deliver(webhook_of(app, mia, mid, "slow"))
    assert [one["seen_by"] for one in records(run_tap(make_tap(state)))] == ["webhook"]
    assert Items(stores).missed() == {}


def test_only_instagrams_conversations_are_asked_for(make_tap: Make, app: InstagramApp, run_tap: RunTap) -> None:
    app.text(app.add_person("Mia", "mia.rossi"), "Hello")
    run_tap(make_tap())
    (listing,) = [one for one in app.journal if one["path"].endswith("/conversations")]
    assert "platform=instagram" in listing["query"]
    assert f"/{app.page_id}/" in listing["path"]


def test_a_second_look_finds_nothing_more(make_tap: Make, app: InstagramApp, run_tap: RunTap) -> None:
    app.text(app.add_person("Mia", "mia.rossi"), "Hello")
    state = state_of(run_tap(make_tap()))
    assert records(run_tap(make_tap(state))) == []


def test_a_look_that_is_cut_off_gives_what_is_left_in_the_next(
    make_tap: Make, app: InstagramApp, run_tap: RunTap
) -> None:
    for number in range(3):
        app.text(app.add_person("Person", f"person.{number}"), f"text {number}")
    reading = make_tap().read()
    first = next(item for item in reading if not isinstance(item, Checkpoint))
    reading.close()  # type: ignore[attr-defined]
    again = {one["text"] for one in records(run_tap(make_tap()))}
    assert isinstance(first, Message)
    assert first.text in again
    assert again == {"text 0", "text 1", "text 2"}


def test_only_the_twenty_newest_messages_of_a_conversation_can_be_had(
    make_tap: Make, app: InstagramApp, run_tap: RunTap
) -> None:
    mia = app.add_person("Mia", "mia.rossi")
    for number in range(25):
        app.clock.advance(1)
        app.text(mia, f"text {number}")
    found = {one["text"] for one in records(run_tap(make_tap()))}
    assert found == {f"text {number}" for number in range(5, 25)}


def test_an_unsent_message_is_not_found_again(make_tap: Make, app: InstagramApp, run_tap: RunTap) -> None:
    mia = app.add_person("Mia", "mia.rossi")
    app.unsend(mia, app.text(mia, "forget it"))
    app.text(mia, "this stays")
    assert [one["text"] for one in records(run_tap(make_tap()))] == ["this stays"]


@pytest.mark.parametrize("code", [613, 4, 2])
def test_a_passing_refusal_is_tried_again(make_tap: Make, app: InstagramApp, run_tap: RunTap, code: int) -> None:
    app.text(app.add_person("Mia", "mia.rossi"), "Hello")
    app.faults.append(Fault("/conversations", status=400, times=2, body={"error": {"code": code}}))
    assert len(records(run_tap(make_tap()))) == 1


def test_a_limit_that_lasts_an_hour_ends_the_look_at_once_and_says_when_to_go_on(
    make_tap: Make, app: InstagramApp, run_tap: RunTap, caplog: Any
) -> None:
    app.text(app.add_person("Mia", "mia.rossi"), "Hello")
    usage = {"17841": [{"type": "instagram", "call_count": 100, "estimated_time_to_regain_access": 59}]}
    headers = {"X-Business-Use-Case-Usage": json.dumps(usage)}
    fault = Fault("/conversations", status=400, times=100, body={"error": {"code": 4}}, headers=headers)
    app.faults.append(fault)
    with caplog.at_level(logging.INFO):
        state = state_of(run_tap(make_tap()))
    assert "go on after" in caplog.text
    assert "100 % of the hour's calls used" in caplog.text
    assert fault.times == 99
    assert "reconciled_to" not in state["bookmarks"]["cursor"]
    app.faults.remove(fault)
    assert len(records(run_tap(make_tap(state)))) == 1


def test_a_look_ends_with_what_is_left_of_the_budget(
    make_tap: Make, app: InstagramApp, run_tap: RunTap, caplog: Any
) -> None:
    app.calls_per_hour = 10
    app.text(app.add_person("Mia", "mia.rossi"), "Hello")
    with caplog.at_level(logging.INFO):
        run_tap(make_tap())
    assert "30 % of the hour's calls used" in caplog.text


def test_a_refused_token_stops_the_run_after_the_webhooks_were_read(
    make_tap: Make, app: InstagramApp, source: Source
) -> None:
    source.deliver(webhook_of(app, "1", "m_1", "came by webhook"))
    seen: list[Any] = []
    with pytest.raises(CredentialsError) as caught:
        _read_into(seen, make_tap(access_token="wrong-token-0123456789"))
    assert "wrong-token" not in str(caught.value)
    assert [item.text for item in seen if not isinstance(item, Checkpoint)] == ["came by webhook"]


def _read_into(seen: list[Any], tap: TapInstagram) -> None:
    for item in tap.read():
        seen.append(item)


def test_an_account_id_that_is_not_the_tokens_makes_no_customer_of_us(
    make_tap: Make, app: InstagramApp, run_tap: RunTap, stores: Stores
) -> None:
    mia = app.add_person("Mia", "mia.rossi")
    app.app_text(mia, "We are here")
    assert records(run_tap(make_tap(account_id="17841499999999999"))) == []
    (parked,) = Parked(stores).list()
    assert "account_id" in parked.reason


def test_a_found_message_that_could_not_be_understood_can_be_replayed(
    make_tap: Make, app: InstagramApp, run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.text(app.add_person("Mia", "mia.rossi"), "Hello")
    parked = Parked(stores)
    with monkeypatch.context() as patch:
        patch.setattr("taps.instagram.message_from_instagram_poll", lambda *_, **__: (_ for _ in ()).throw(TypeError()))
        state = state_of(run_tap(make_tap()))
    parked.ask_replay([one.parked_id for one in parked.list()])
    assert [one["text"] for one in records(run_tap(make_tap(state)))] == ["Hello"]


@pytest.mark.parametrize(
    "given",
    [
        {"access_token": TOKEN},
        {"account_id": "1", "access_token": TOKEN},
        {"login": "instagram", "account_id": "1"},
        {},
    ],
)
def test_reconciling_needs_the_account_and_its_token(source: Source, run_tap: RunTap, given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="access_token and account_id"):
        run_tap(TapInstagram(config=source.config(reconcile=True, **given)))


def test_without_a_token_webhooks_alone_are_read(source: Source, app: InstagramApp, run_tap: RunTap) -> None:
    source.deliver_fixture("message")
    assert len(records(run_tap(TapInstagram(config=source.config())))) == 1
    assert app.journal == []


def test_neither_token_nor_text_gets_into_the_log(
    make_tap: Make, app: InstagramApp, run_tap: RunTap, caplog: Any
) -> None:
    app.text(app.add_person("Mia", "mia.rossi"), "a private word")
    app.faults.append(Fault("/conversations", status=503, times=1))
    with caplog.at_level(logging.DEBUG):
        run_tap(make_tap())
    assert TOKEN not in caplog.text
    assert "private word" not in caplog.text


# -- Names ------------------------------------------------------------------------------------------------------------


def names_of(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["profile"]["name"], one["profile"]["username"]) for one in records(messages, "evidence")]


def test_the_name_of_somebody_who_wrote_is_asked_for_once(
    make_tap: Make, app: InstagramApp, source: Source, run_tap: RunTap
) -> None:
    mia = app.add_person("Mia Rossi", "mia.rossi")
    source.deliver(webhook_of(app, mia, app.text(mia, "one"), "one"))
    first = run_tap(make_tap())
    assert names_of(first) == [("Mia Rossi", "mia.rossi")]
    source.deliver(webhook_of(app, mia, app.text(mia, "two"), "two"))
    assert names_of(run_tap(make_tap(state_of(first)))) == []


def test_one_person_who_cannot_be_looked_up_does_not_cost_the_others_their_names(
    make_tap: Make, app: InstagramApp, source: Source, run_tap: RunTap
) -> None:
    blocking, mia = app.add_person("Bo", "bo"), app.add_person("Mia Rossi", "mia.rossi")
    for one in (blocking, mia):
        source.deliver(webhook_of(app, one, app.text(one, "Hello"), "Hello"))
    app.block(blocking)
    assert names_of(run_tap(make_tap())) == [("Mia Rossi", "mia.rossi")]


def test_an_account_that_may_not_read_names_stops_asking(
    make_tap: Make, app: InstagramApp, source: Source, run_tap: RunTap
) -> None:
    people = [app.add_person("Person", f"person.{number}") for number in range(10)]
    for one in people:
        source.deliver(webhook_of(app, one, app.text(one, "Hello"), "Hello"))
        app.faults.append(Fault(f"/{one}", status=400, times=100, body={"error": {"code": 200}}))
    messages = run_tap(make_tap())
    assert (names_of(messages), len(records(messages))) == ([], 10)
    assert len([path for path in asked(app) if path in people]) == 3


def test_somebody_who_only_commented_is_not_asked_for(
    make_tap: Make, app: InstagramApp, source: Source, run_tap: RunTap
) -> None:
    noor = app.add_person("Noor", "noor.h")
    value = {"id": "1786", "text": "How much?", "from": {"id": noor, "username": "noor.h"}, "media": {"id": "1"}}
    change = {"field": "comments", "value": value}
    source.deliver({"object": "instagram", "entry": [{"id": app.account_id, "time": 1772366400, "changes": [change]}]})
    messages = run_tap(make_tap())
    assert names_of(messages) == []
    assert noor not in asked(app)
    assert [one["profile"]["username"] for one in records(messages)] == ["noor.h"]


# -- Message requests -------------------------------------------------------------------------------------------------


def test_a_message_request_is_flagged_even_when_its_webhook_came(
    make_tap: Make, app: InstagramApp, source: Source, run_tap: RunTap, stores: Stores
) -> None:
    noor = app.add_person("Noor", "noor.h", in_requests=True)
    mia = app.add_person("Mia", "mia.rossi")
    source.deliver(webhook_of(app, noor, app.text(noor, "Is anybody there?"), "Is anybody there?"))
    source.deliver(webhook_of(app, mia, app.text(mia, "Hello"), "Hello"))
    first = run_tap(make_tap(request_folders=["Pending"]))
    flagged = [(one["text"], one["seen_by"]) for one in records(first) if "request_folder" in one["flags"]]
    assert flagged == [("Is anybody there?", "poll")]
    assert Items(stores).missed() == {}
    archive = Archive(stores)
    archive.fold(messages=[Message.model_validate(one) for one in records(first)])
    key = next(one["conversation_key"] for one in records(first) if one["flags"])
    conversation = archive.conversation(key)
    assert conversation is not None
    assert conversation.request_folder
    assert records(run_tap(make_tap(state_of(first), request_folders=["Pending"]))) == []


def test_a_request_that_somebody_answered_is_none_any_more(make_tap: Make, app: InstagramApp, run_tap: RunTap) -> None:
    noor = app.add_person("Noor", "noor.h", in_requests=True)
    app.text(noor, "Is anybody there?")
    app.clock.advance(5)
    app.app_text(noor, "Yes")
    assert [one["flags"] for one in records(run_tap(make_tap(request_folders=["pending"])))] == [[], []]


def test_folders_are_not_asked_for_when_there_are_none_to_look_for(
    make_tap: Make, app: InstagramApp, run_tap: RunTap
) -> None:
    app.text(app.add_person("Noor", "noor.h", in_requests=True), "Is anybody there?")
    (message,) = records(run_tap(make_tap(request_folders=[])))
    assert message["flags"] == []
    assert not [one for one in app.journal if "folder" in one["query"]]


def test_a_request_is_flagged_without_a_setting(make_tap: Make, app: InstagramApp, run_tap: RunTap) -> None:
    app.text(app.add_person("Noor", "noor.h", in_requests=True), "Is anybody there?")
    assert [one["flags"] for one in records(run_tap(make_tap()))] == [["request_folder"]]


def test_a_folder_that_nobody_knows_is_told_once(
    make_tap: Make, app: InstagramApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    app.request_folder = "hidden_requests"
    for name in ("noor.h", "bo.d"):
        app.text(app.add_person("Somebody", name, in_requests=True), "Is anybody there?")
    with caplog.at_level("INFO"):
        assert [one["flags"] for one in records(run_tap(make_tap()))] == [[], []]
    assert caplog.text.count("a folder 'hidden_requests'") == 1


def test_a_graph_that_does_not_know_folders_is_read_without_them(
    make_tap: Make, app: InstagramApp, run_tap: RunTap, caplog: pytest.LogCaptureFixture
) -> None:
    app.text(app.add_person("Noor", "noor.h", in_requests=True), "Is anybody there?")
    refusal = {"error": {"code": 100, "message": "(#100) Tried accessing nonexisting field (folder)"}}
    app.faults.append(Fault("/conversations", status=400, body=refusal))
    with caplog.at_level("INFO"):
        assert [(one["text"], one["flags"]) for one in records(run_tap(make_tap()))] == [("Is anybody there?", [])]
    assert "Graph does not tell the folders" in caplog.text


def test_requests_that_are_about_to_vanish_are_told_by_number(
    make_tap: Make, app: InstagramApp, run_tap: RunTap, stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    noor = app.add_person("Noor", "noor.h", in_requests=True)
    app.text(noor, "Is anybody there?")
    mia = app.add_person("Mia", "mia.rossi")
    app.text(mia, "And here?")
    messages = [Message.model_validate(one) for one in records(run_tap(make_tap()))]
    Archive(stores).fold(messages=messages)
    caplog.clear()

    def told(days: float, **config: Any) -> str:
        """What a run that many days later warns of."""
        caplog.clear()
        tap = make_tap(**config)
        tap.now = lambda: messages[0].sent_at + timedelta(days=days)  # type: ignore[method-assign]
        run_tap(tap)
        (check,) = [one for one in tap.check() if one.what == "message requests"]
        found = [one.getMessage() for one in caplog.records if "vanish" in one.getMessage()]
        assert check.ok is not bool(found)
        return " ".join(found)

    assert told(22) == ""
    assert told(24).startswith("2 conversations that nobody answered")
    assert "(1 are)" in told(24)
    assert noor not in told(24)
    assert told(24, request_warning_days=3) == ""
    assert told(31) == ""  # gone: nobody can do anything about it
    assert told(24, account_id="17840000000000001", reconcile=True) == ""  # another account's


# -- Instagram login --------------------------------------------------------------------------------------------------


@pytest.fixture
def logged_in(stores: Stores, state_url: str) -> Iterator[tuple[InstagramApp, Source]]:
    """An account with Instagram login, a token of two days, and its source."""
    app = InstagramApp(login="instagram")
    app.tokens[TOKEN] = (app.clock.epoch() - 2 * DAY, app.clock.epoch() + 58 * DAY)
    an_hour_ago(app)
    with SandboxServer(app) as server:
        source = Source(stores, state_url, PARTS, app, server.url)
        yield app, source
        source.close()


def logged_in_tap(source: Source, state: dict[str, Any] | None = None, **config: Any) -> TapInstagram:
    settings = {name: value for name, value in source.polling(**config).items() if name != "page_id"}
    return TapInstagram(config=source.config(**settings), state=state or {})


def later(monkeypatch: pytest.MonkeyPatch, app: InstagramApp, days: float) -> None:
    """Let days pass for the platform, and for the tap and the store of tokens, which are an hour ahead of it."""
    app.clock.advance(days * DAY)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Later:
            return cls.fromtimestamp(app.clock.epoch() + 3600, tz)

    monkeypatch.setattr("stores.tokens.datetime", Later)
    monkeypatch.setattr(TapInstagram, "now", lambda self: Later.now(UTC))


def test_with_instagram_login_the_token_opens_its_own_account(
    logged_in: tuple[InstagramApp, Source], run_tap: RunTap
) -> None:
    app, source = logged_in
    mia = app.add_person("Mia", "mia.rossi")
    app.text(mia, "Hello")
    app.app_text(mia, "Hello Mia")
    found = {(one["direction"], one["handles"][0]["value"], one["text"])
             for one in records(run_tap(logged_in_tap(source)))}  # fmt: skip
    assert found == {("inbound", mia, "Hello"), ("outbound", mia, "Hello Mia")}
    assert "/v26.0/me/conversations" in {one["path"] for one in app.journal}


def test_a_young_token_is_left_alone(logged_in: tuple[InstagramApp, Source], run_tap: RunTap) -> None:
    app, source = logged_in
    app.text(app.add_person("Mia", "mia.rossi"), "Hello")
    run_tap(logged_in_tap(source))
    run_tap(logged_in_tap(source))
    assert "refresh_access_token" not in asked(app)


def test_the_token_is_replaced_from_its_second_day_on_and_kept(
    logged_in: tuple[InstagramApp, Source], run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, source = logged_in
    run_tap(logged_in_tap(source))
    later(monkeypatch, app, 2)
    run_tap(logged_in_tap(source))
    run_tap(logged_in_tap(source))
    assert asked(app).count("refresh_access_token") == 1
    assert app.access_token != TOKEN
    (stored,) = Tokens(stores).listing()
    assert stored.name == "instagram:default"
    assert stored.expires_at is not None
    assert stored.expires_at - datetime.now(UTC) > timedelta(days=59)


def test_months_of_daily_runs_never_lose_the_account(
    logged_in: tuple[InstagramApp, Source], run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, source = logged_in
    for number, days in enumerate((0, 2, 20, 20, 20, 20, 20, 20)):
        later(monkeypatch, app, days)
        app.text(app.add_person("Person", f"person.{number}"), f"message {number}")
        found = [one["text"] for one in records(run_tap(logged_in_tap(source)))]
        assert found == [f"message {number}"]
    assert asked(app).count("refresh_access_token") >= 3


def test_a_token_that_slept_sixty_days_is_refused_and_says_what_to_do(
    logged_in: tuple[InstagramApp, Source], run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, source = logged_in
    run_tap(logged_in_tap(source))
    later(monkeypatch, app, 61)
    with pytest.raises(CredentialsError, match="Log in again") as caught:
        run_tap(logged_in_tap(source))
    assert TOKEN not in str(caught.value)


def test_a_refresh_that_fails_for_now_does_not_stop_the_reading(
    logged_in: tuple[InstagramApp, Source], run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, source = logged_in
    run_tap(logged_in_tap(source))
    later(monkeypatch, app, 2)
    app.text(app.add_person("Mia", "mia.rossi"), "Hello")
    app.faults.append(Fault("/refresh_access_token", status=503, times=100))
    assert len(records(run_tap(logged_in_tap(source)))) == 1


def test_a_page_token_is_never_refreshed(
    make_tap: Make, app: InstagramApp, run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, app, 100)
    app.text(app.add_person("Mia", "mia.rossi"), "Hello")
    assert len(records(run_tap(make_tap()))) == 1
    assert Tokens(stores).listing() == []


def test_the_request_and_the_answer_of_a_refresh() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert refresh_parameters(SecretStr("old")) == {"grant_type": "ig_refresh_token", "access_token": "old"}
    token = token_of_answer({"access_token": "new", "token_type": "bearer", "expires_in": 86_400}, now)
    assert (token.access_token.get_secret_value(), token.expires_at) == ("new", datetime(2026, 3, 2, tzinfo=UTC))


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"access_token": "new"}, {"access_token": "new", "expires_in": "86400"}, {"expires_in": 5},
     {"access_token": "new", "expires_in": 0}, {"access_token": "new", "expires_in": True},
     {"access_token": "new", "expires_in": 10**12}, {"access_token": "", "expires_in": 5}],
)  # fmt: skip
def test_an_answer_without_a_token_or_its_end_is_an_error(answer: Any) -> None:
    with pytest.raises(MissingFieldError):
        token_of_answer(answer, datetime(2026, 3, 1, tzinfo=UTC))


# -- onethread doctor -------------------------------------------------------------------------------------------------


def checks_of(tap: TapInstagram) -> dict[str, tuple[bool | None, str]]:
    return {one.what: (one.ok, one.detail) for one in tap.check()}


def test_the_doctor_finds_a_healthy_account_healthy(make_tap: Make, app: InstagramApp) -> None:
    app.clock.advance(3600)
    app.scopes = ("instagram_basic", "instagram_manage_messages")
    found = checks_of(make_tap())
    assert {what: ok for what, (ok, _) in found.items()} == {
        "settings": True, "message requests": True, "access token": True, "token's end": True,
        "permissions": False, "clock": True, "webhook": True,
    }  # fmt: skip
    assert found["permissions"][1] == "missing: pages_manage_metadata"


def test_the_doctor_tells_until_when_a_token_of_instagram_login_is_good_and_what_is_not_subscribed(
    logged_in: tuple[InstagramApp, Source],
) -> None:
    app, source = logged_in
    app.fields = {"messages", "comments"}
    found = checks_of(logged_in_tap(source))
    assert found["access token"][0] is True
    assert f"{datetime.now(UTC) + timedelta(days=31):%Y-%m}" in found["access token"][1]
    assert found["webhook"] == (False, "missing: message_reactions, messaging_postbacks, messaging_seen")


def test_the_doctor_sees_what_is_wrong(make_tap: Make, app: InstagramApp) -> None:
    app.fields = set()
    assert checks_of(make_tap())["webhook"] == (False, "no app is subscribed")
    assert checks_of(make_tap(account_id="17841499999999999"))["access token"][0] is False
    assert checks_of(make_tap(access_token="wrong-token"))["access token"][0] is False
    app.faults.append(Fault("/v26.0/", status=400, times=100, body={"error": {"code": 100}}))
    assert checks_of(make_tap())["Graph API"][0] is False


def test_the_doctor_sees_a_clock_that_is_wrong(make_tap: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime.now(UTC) + timedelta(minutes=10)
    monkeypatch.setattr(TapInstagram, "now", lambda self: moment)
    assert checks_of(make_tap())["clock"][0] is False


def test_the_doctor_does_not_guess_where_nothing_can_be_asked(source: Source, app: InstagramApp) -> None:
    assert checks_of(TapInstagram(config=source.config()))["Graph API"][0] is None
    assert app.journal == []


# -- The whole way ----------------------------------------------------------------------------------------------------


def test_everything_that_customers_wrote_in_the_scene_is_read_though_one_webhook_was_lost(
    source: Source, app: InstagramApp, run_tap: RunTap, stores: Stores
) -> None:
    app.clock.advance(3600)
    app.play()
    bodies = [app.deliverer._compose([one.part]) for one in app.deliverer.events if not one.dropped]
    for body in [*reversed(bodies), bodies[0]]:
        source.deliver(body)
    messages = run_tap(TapInstagram(config=source.config(**source.polling(request_folders=["pending"]))))
    heard = [words for _, words, _ in app.heard() if words]
    archive = Archive(stores)
    archive.fold(
        messages=[Message.model_validate(one) for one in records(messages)],
        changes=[_change(one) for one in records(messages, "message_changes")],
    )
    kept = [archive.message(key) for key in {one["message_key"] for one in records(messages)}]
    told = [one.text for one in kept if one is not None and one.direction == "inbound" and one.text]
    assert sorted(told) == sorted(heard)
    assert Items(stores).missed() == {"instagram": 1}
    assert len(records(messages, "consents")) == 1


def test_a_dropped_webhook_is_the_only_thing_the_platform_did_not_tell(app: InstagramApp) -> None:
    app.text(app.add_person("Mia", "mia.rossi"), "lost", delivery=Delivery(drop=True))
    assert [one.dropped for one in app.deliverer.events] == [True]
