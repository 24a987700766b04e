"""The stand-in of Telegram: what it refuses, tells and counts; two clients and the vendor's page as judges of it."""

from __future__ import annotations

import inspect
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests

from mappings.from_telegram import codes
from mappings.records import Message, MessageChange, Record
from mappings.settings import tap_config_from_environment
from sandbox.base import SandboxServer
from sandbox.deliverer import Delivery
from sandbox.telegram import TelegramApp
from sandbox.telegram.rules import RULES
from stores.database import Stores
from taps.base import Checkpoint
from taps.telegram import TapTelegram, TelegramSettings
from taps.webhooks import telegram
from taps.webhooks.receiver import WebhookRoute
from tests.contract.mapping import fixture_names, load_delivery
from tests.contract.webhook import running_receiver
from tests.judges.environment import ask_judge
from tests.sandbox.conftest import ROOT, Inbox, StandingClock

TOKEN = "7000000001:sandbox-telegram-token"
SPECS = Path(os.environ.get("ONETHREAD_SPECS", "")) / "telegram" / "api.json"
OBSERVED = frozenset(
    {"all_members_are_administrators", "new_chat_member", "new_chat_participant", "user_ids", "can_reply"}
)
"""Fields that the server gives and the page does not name."""
INVENTED = frozenset({"unknown_event", "message_unsupported"})
Ask = Callable[..., requests.Response]


@pytest.fixture
def app(clock: StandingClock) -> Iterator[TelegramApp]:
    app = TelegramApp(retry_seconds=(0.01, 0.02))
    app.clock = clock
    app.impatient_seconds = 0.0
    yield app
    app.stop()


@pytest.fixture
def server(app: TelegramApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as server:
        yield server


@pytest.fixture
def ask(server: SandboxServer) -> Ask:
    def call(method: str, token: str = TOKEN, **parameters: Any) -> requests.Response:
        return requests.post(f"{server.url}/bot{token}/{method}", json=parameters, timeout=20)

    return call


@pytest.fixture
def ana(app: TelegramApp) -> int:
    """Somebody who has just written."""
    person = app.add_person("Ana", "Lima", username="ana_lima")
    app.text(person, "Hello")
    return person


def result(response: requests.Response) -> Any:
    assert response.json()["ok"] is True, response.text
    return response.json()["result"]


def error_of(response: requests.Response) -> tuple[int, str]:
    body = response.json()
    assert (body["ok"], body["error_code"]) == (False, response.status_code)
    return body["error_code"], body["description"]


def said(updates: list[dict[str, Any]]) -> list[str]:
    return [one["message"]["text"] for one in updates]


# -- The queue -------------------------------------------------------------------------------------------------------


def test_the_oldest_come_first_and_at_most_as_many_as_asked_for(app: TelegramApp, ask: Ask, ana: int) -> None:
    for number in range(150):
        app.text(ana, str(number))
    updates = result(ask("getUpdates"))
    assert said(updates) == ["Hello", *map(str, range(99))]
    assert [one["update_id"] for one in updates] == list(range(updates[0]["update_id"], updates[0]["update_id"] + 100))
    assert len(result(ask("getUpdates", limit=7))) == 7
    assert len(result(ask("getUpdates", limit=1000))) == 100


def test_an_offset_deletes_what_is_below_it_for_good(app: TelegramApp, ask: Ask, ana: int) -> None:
    app.text(ana, "two")
    first, second = result(ask("getUpdates"))
    assert result(ask("getUpdates")) == [first, second]
    assert result(ask("getUpdates", offset=second["update_id"])) == [second]
    assert result(ask("getUpdates")) == [second]
    assert result(ask("getUpdates", offset=second["update_id"] + 1)) == []
    assert result(ask("getUpdates")) == []


def test_a_negative_offset_keeps_the_newest_only(app: TelegramApp, ask: Ask, ana: int) -> None:
    for text in ("two", "three"):
        app.text(ana, text)
    assert said(result(ask("getUpdates", offset=-1))) == ["three"]
    assert said(result(ask("getUpdates"))) == ["three"]


@pytest.mark.parametrize("offset", [1, 2**31 - 1])
def test_an_offset_that_is_nowhere_near_confirms_nothing(ask: Ask, ana: int, offset: int) -> None:
    assert said(result(ask("getUpdates", offset=offset))) == ["Hello"]


def test_an_update_is_gone_a_day_after_its_message(clock: StandingClock, ask: Ask, ana: int) -> None:
    clock.advance(86_390)
    assert len(result(ask("getUpdates"))) == 1
    clock.advance(20)
    assert result(ask("getUpdates")) == []


def test_numbers_start_anew_after_an_idle_week(app: TelegramApp, clock: StandingClock, ask: Ask, ana: int) -> None:
    (before,) = result(ask("getUpdates"))
    clock.advance(7 * 86_400)
    app.text(ana, "back")
    (after,) = result(ask("getUpdates"))
    assert abs(after["update_id"] - before["update_id"]) > 1000


def test_reactions_are_told_only_when_they_are_named_and_the_list_is_kept(app: TelegramApp, ask: Ask, ana: int) -> None:
    app.react(ana, 1, "👍")
    assert [list(one)[1] for one in result(ask("getUpdates"))] == ["message"]
    ask("getUpdates", allowed_updates=["message_reaction"])
    ask("getUpdates")
    app.react(ana, 1, "🔥")
    app.text(ana, "not asked for")
    assert [list(one)[1] for one in result(ask("getUpdates"))] == ["message", "message_reaction"]


def test_who_waits_gets_what_comes(app: TelegramApp, ask: Ask, ana: int) -> None:
    (first,) = result(ask("getUpdates"))
    found: list[Any] = []
    waiting = threading.Thread(
        target=lambda: found.extend(result(ask("getUpdates", offset=first["update_id"] + 1, timeout=20)))
    )
    waiting.start()
    _until(lambda: app._waiting == 1)
    app.text(ana, "now")
    waiting.join(20)
    assert said(found) == ["now"]


def _until(condition: Callable[[], bool]) -> None:
    """Wait for another thread to get somewhere; the test's own timeout ends it."""
    turn = threading.Event()
    while not condition():
        turn.wait(0.005)


def _conflict_of_a_waiting_call(app: TelegramApp, ask: Ask, meanwhile: Callable[[], Any]) -> tuple[int, str]:
    found: list[tuple[int, str]] = []
    waiting = threading.Thread(target=lambda: found.append(error_of(ask("getUpdates", timeout=20))))
    waiting.start()
    _until(lambda: app._waiting == 1)
    meanwhile()
    waiting.join(20)
    return found[0]


def test_a_second_reader_ends_the_first(app: TelegramApp, ask: Ask) -> None:
    second = threading.Thread(target=lambda: ask("getUpdates", timeout=1))
    code, words = _conflict_of_a_waiting_call(app, ask, second.start)
    second.join(20)
    assert (code, "terminated by other getUpdates request" in words) == (409, True)


def test_a_webhook_ends_a_reader_and_lets_no_other_in(app: TelegramApp, ask: Ask, inbox: Inbox) -> None:
    app.reach = inbox.url
    url = "https://hooks.shop.example/webhooks/telegram"
    code, words = _conflict_of_a_waiting_call(app, ask, lambda: ask("setWebhook", url=url))
    assert (code, "terminated by setWebhook" in words) == (409, True)
    code, words = error_of(ask("getUpdates"))
    assert (code, "webhook is active" in words) == (409, True)
    assert result(ask("getWebhookInfo"))["url"] == url
    assert result(ask("deleteWebhook")) is True
    assert result(ask("getUpdates")) == []


def test_the_same_question_again_at_once_is_answered_slowly_and_shortly(app: TelegramApp, ask: Ask, ana: int) -> None:
    app.text(ana, "two")
    app.impatient_seconds = 600.0
    assert len(result(ask("getUpdates"))) == 2
    assert len(result(ask("getUpdates"))) == 1


# -- The webhook -----------------------------------------------------------------------------------------------------


def test_what_waits_and_what_comes_is_posted_with_the_secret(app: TelegramApp, inbox: Inbox, ana: int) -> None:
    app.reach = inbox.url
    app.connect("http://127.0.0.1:1")
    app.text(ana, "two")
    app.flush()
    assert sorted(said(inbox.bodies())) == ["Hello", "two"]
    assert {headers["X-Telegram-Bot-Api-Secret-Token"] for headers, _ in inbox.posts} == {app.secret_token}
    assert app.state()["pending_updates"] == 0


def test_a_post_that_is_refused_comes_again_and_one_that_never_gets_through_is_left_in_the_queue(
    app: TelegramApp, ask: Ask, inbox: Inbox, ana: int
) -> None:
    inbox.answers = [500, 503]
    app.reach = inbox.url
    app.connect("http://127.0.0.1:1")
    app.flush()
    assert app.state()["webhooks"]["attempts"] == 3
    app.text(ana, "never gets through", delivery=Delivery(drop=True))
    assert result(ask("deleteWebhook")) is True
    assert said(result(ask("getUpdates"))) == ["never gets through"]


BAD_WEBHOOKS: dict[str, tuple[dict[str, Any], str]] = {
    "no TLS": ({"url": "http://hooks.shop.example/x"}, "An HTTPS URL must be provided"),
    "no address": ({"url": "shop"}, "An HTTPS URL must be provided"),
    "another port": ({"url": "https://hooks.shop.example:8080/x"}, "only on ports 80, 88, 443 or 8443"),
    "a secret with a space": ({"url": "https://hooks.shop.example/x", "secret_token": "a b"}, "unallowed characters"),
    "a long secret": ({"url": "https://hooks.shop.example/x", "secret_token": "a" * 257}, "too long"),
}


@pytest.mark.parametrize("name", BAD_WEBHOOKS)
def test_a_webhook_that_telegram_would_not_take_is_refused(app: TelegramApp, ask: Ask, name: str) -> None:
    parameters, reason = BAD_WEBHOOKS[name]
    code, words = error_of(ask("setWebhook", **parameters))
    assert (code, reason in words) == (400, True)
    assert app.webhook == {}


def test_pending_updates_can_be_dropped(app: TelegramApp, ask: Ask, ana: int) -> None:
    assert result(ask("deleteWebhook", drop_pending_updates=True)) is True
    assert result(ask("getUpdates")) == []


# -- Sends, files, tokens --------------------------------------------------------------------------------------------


def test_a_send_is_answered_with_the_message_and_told_to_nobody(app: TelegramApp, ask: Ask, ana: int) -> None:
    message = result(ask("sendMessage", chat_id=ana, text="Hi"))
    assert (message["message_id"], message["chat"]["id"], message["from"]["id"]) == (2, ana, 7000000001)
    assert said(result(ask("getUpdates"))) == ["Hello"]
    assert [one["text"] for one in app.state()["sent"]] == ["Hi"]


def test_what_a_bot_writes_in_a_business_account_is_told(app: TelegramApp, ask: Ask, ana: int) -> None:
    connection = app.connect_business(app.add_person("Carla"))
    result(ask("sendMessage", chat_id=ana, text="Hi", business_connection_id=connection))
    told = result(ask("getUpdates"))[-1]["business_message"]
    assert (told["sender_business_bot"]["id"], told["business_connection_id"]) == (7000000001, connection)


BAD_SENDS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "no text": (400, "message text is empty", {"text": ""}),
    "a long text": (400, "message is too long", {"text": "x" * 4097}),
    "an unknown chat": (400, "chat not found", {"chat_id": 17}),
    "an unknown connection": (400, "business connection not found", {"business_connection_id": "x"}),
}


@pytest.mark.parametrize("name", BAD_SENDS)
def test_a_send_that_telegram_would_not_take_is_refused(ask: Ask, ana: int, name: str) -> None:
    code, words, parameters = BAD_SENDS[name]
    found = error_of(ask("sendMessage", **{"chat_id": ana, "text": "Hi", **parameters}))
    assert (found[0], words in found[1]) == (code, True)


def test_a_bot_cannot_write_first_nor_to_whom_has_blocked_it(app: TelegramApp, ask: Ask, ana: int) -> None:
    bo = app.add_person("Bo", is_open=False)
    assert error_of(ask("sendMessage", chat_id=bo, text="Hi"))[1].endswith("can't initiate conversation with a user")
    app.start(bo)
    assert result(ask("sendMessage", chat_id=bo, text="Hi"))
    app.block(ana)
    assert error_of(ask("sendMessage", chat_id=ana, text="Hi")) == (403, "Forbidden: bot was blocked by the user")
    app.block(ana, blocked=False)
    assert result(ask("sendMessage", chat_id=ana, text="Hi"))


def test_a_group_that_moved_says_where_to(app: TelegramApp, ask: Ask, ana: int) -> None:
    group = app.add_group("Friends of tea")
    before = app.group_text(ana, group, "hi")
    new = app.migrate(group)
    answer = ask("sendMessage", chat_id=group, text="Hi")
    assert answer.json()["parameters"] == {"migrate_to_chat_id": new}
    assert result(ask("sendMessage", chat_id=new, text="Hi"))["chat"]["id"] == new
    assert before == 1
    told = [one["message"] for one in result(ask("getUpdates"))[-2:]]
    assert [(one["chat"]["id"], one.get("migrate_to_chat_id"), one.get("migrate_from_chat_id")) for one in told] == [
        (group, new, None), (new, None, group),
    ]  # fmt: skip


def test_one_message_a_second_and_chat(app: TelegramApp, clock: StandingClock, ask: Ask, ana: int) -> None:
    assert result(ask("sendMessage", chat_id=ana, text="one"))
    refused = ask("sendMessage", chat_id=ana, text="two")
    assert error_of(refused)[0] == 429
    assert (refused.json()["parameters"], refused.headers["Retry-After"]) == ({"retry_after": 1}, "1")
    clock.advance(1)
    assert result(ask("sendMessage", chat_id=ana, text="two"))


def test_a_file_can_be_had_for_an_hour_after_it_was_asked_for(
    app: TelegramApp, clock: StandingClock, server: SandboxServer, ask: Ask, ana: int
) -> None:
    app.photo(ana, data=b"the picture")
    largest = result(ask("getUpdates"))[-1]["message"]["photo"][-1]
    path = result(ask("getFile", file_id=largest["file_id"]))["file_path"]
    url = f"{server.url}/file/bot{TOKEN}/{path}"
    assert requests.get(url, timeout=10).content == b"the picture"
    assert requests.get(url.replace(TOKEN, "1:x"), timeout=10).status_code == 401
    clock.advance(3601)
    assert requests.get(url, timeout=10).status_code == 404
    assert error_of(ask("getFile", file_id="nothing")) == (400, "Bad Request: invalid file_id")
    app.document(ana, "film.mp4", size=20_000_001)
    large = result(ask("getUpdates"))[-1]["message"]["document"]["file_id"]
    assert error_of(ask("getFile", file_id=large)) == (400, "Bad Request: file is too big")


def test_only_the_token_opens_the_bot(ask: Ask) -> None:
    assert result(ask("GETME"))["is_bot"] is True
    assert error_of(ask("getMe", token="7000000001:wrong"))[0] == 401
    assert error_of(ask("getMe", token="nonsense"))[0] == 404
    assert error_of(ask("getNothing"))[0] == 404


def test_actions_can_be_asked_for_over_http(app: TelegramApp, server: SandboxServer) -> None:
    def act(**values: Any) -> requests.Response:
        return requests.post(f"{server.url}/_sandbox/act", json=values, timeout=10)

    person = act(action="add_person", first_name="Ana").json()["id"]
    assert act(action="text", person=person, text="Hi", delivery={"duplicate": 1}).json() == {"id": 1}
    assert [one["words"] for one in app.state()["customer_messages"]] == ["Hi"]
    for wrong in (
        {"action": "_say"},
        {"action": "stop"},
        {},
        {"action": "text"},
        {"action": "text", "person": 1, "text": ""},
    ):
        assert act(**wrong).status_code == 400


# -- The demo --------------------------------------------------------------------------------------------------------


def test_every_word_of_the_scene_arrives_by_webhook_and_by_polling_alike(
    app: TelegramApp, server: SandboxServer, stores: Stores, state_url: str
) -> None:
    heard = {}
    for mode in ("webhook", "poll"):
        environment = {**app.environment(server.url), "ONETHREAD_TELEGRAM_MODE": mode}
        config = tap_config_from_environment("tap-telegram", TelegramSettings, environment)
        settings = telegram.Settings(_env_prefix="", secret_token=environment["ONETHREAD_TELEGRAM_SECRET_TOKEN"])
        tap = TapTelegram(config={**config, "state_url": f"{state_url}-{mode}"})
        if mode == "webhook":
            routes = {("telegram", "default"): WebhookRoute(telegram, settings)}
            with running_receiver(Stores(f"{state_url}-{mode}"), routes) as receiver:
                app.connect(f"http://127.0.0.1:{receiver.port}")
                app.play()
                app.flush()
                app.stop()
                found = [one for one in tap.read() if isinstance(one, Record)]
                assert tap.repeats == 0  # the same bytes are one delivery
        else:
            app.stop_pushing()
            for update in app.updates:
                update.event = None
            found = [one for one in tap.read() if not isinstance(one, Checkpoint)]
        heard[mode] = _words(found)
        wanted = sorted((words or "", int(at)) for _, words, at in app.heard())
        assert len(wanted) == 10
        assert heard[mode] == wanted
    assert heard["webhook"] == heard["poll"]


def _words(records: list[Any]) -> list[tuple[str, int]]:
    """What customers said, as it is after edits and deletions."""
    changes = {one.message_key: one for one in records if isinstance(one, MessageChange) and one.change != "react"}
    found = []
    for one in records:
        if isinstance(one, Message) and one.direction == "inbound" and one.kind != "system":
            change = changes.get(one.message_key)
            found.append(((one.text if change is None else change.text) or "", int(one.sent_at.timestamp())))
    return sorted(found)


def test_the_state_says_what_the_webhook_took(app: TelegramApp, inbox: Inbox) -> None:
    app.reach = inbox.url
    app.connect("http://127.0.0.1:1")
    app.play()
    app.flush()
    assert all(one["taken"] for one in app.state()["customer_messages"])
    assert len(inbox.posts) == len(app.updates) + 1  # one was told twice


# -- The judges ------------------------------------------------------------------------------------------------------


def played(app: TelegramApp) -> list[dict[str, Any]]:
    """An update of every kind that the stand-in can tell."""
    app._allow(list(telegram.UPDATES))
    app.play()
    mia = next(iter(app.people))
    group = app.add_group("Friends of tea")
    app.group_text(mia, group, "hi")
    app.migrate(group)
    app.channel_post("Tea news", "New tea!")
    app.text(mia, "an answer", reply_to=1)
    app.forward(mia, "look", "Somebody Else")
    app.location(mia, 51.5, -0.12)
    app.document(mia, "receipt.pdf")
    app.share_contact(mia, phone="+44 7700 900789")
    buttons = {"inline_keyboard": [[{"text": "Green", "callback_data": "g"}]]}
    content = {"text": "Which tea?", "reply_markup": buttons}
    asked = app.write("message", app.chats[mia], app.bot, content, by_customer=False, tell=False)
    app.press(mia, asked.number, "g")
    app.block(mia)
    return [one.body for one in app.updates]


def fixtures() -> dict[str, dict[str, Any]]:
    return {name: json.loads(load_delivery("telegram", name)) for name in fixture_names("telegram")}


@pytest.mark.slow
def test_both_clients_read_every_update_of_the_stand_in_and_of_the_fixtures(
    app: TelegramApp, server: SandboxServer
) -> None:
    updates = [*played(app), *(one for name, one in fixtures().items() if name != "unknown_event")]
    verdicts = ask_judge("telegram", "telegram_clients.py", {"url": server.url, "token": TOKEN, "updates": updates})
    assert len(verdicts["updates"]) == len(updates) > 100
    for update, verdict in zip(updates, verdicts["updates"], strict=True):
        name = next(name for name in update if name != "update_id")
        part = update[name]
        for client in ("ptb", "aiogram"):
            assert verdict[client] == {
                "kind": name,
                "update_id": update["update_id"],
                "number": part.get("message_id"),
                "text": part.get("text") or part.get("caption"),
                "user": (part.get("from") or part.get("user") or {}).get("id"),
                "chat": part["chat"]["id"] if "chat" in part else None,
                "at": part.get("date"),
            }, (client, name)


@pytest.mark.slow
def test_a_client_refuses_an_update_that_lacks_what_it_must_have(server: SandboxServer) -> None:
    broken = fixtures()["text"]
    del broken["message"]["message_id"]
    work = {"url": server.url, "token": TOKEN, "updates": [broken]}
    (verdict,) = ask_judge("telegram", "telegram_clients.py", work)["updates"]
    assert ["problem" in verdict[client] for client in ("ptb", "aiogram")] == [True, True]


CLIENT_CALLS: list[tuple[str, dict[str, Any]]] = [
    ("get_me", {}),
    ("get_updates", {"timeout": 0}),
    ("get_webhook_info", {}),
    ("send_message", {"chat_id": 5000000001, "text": "Hi"}),
    ("download", {"file_id": "AgACAgIAAxkBAAM5000000004"}),
    ("set_webhook", {"url": "https://hooks.shop.example/webhooks/telegram", "secret_token": "a-b_C1",
                     "allowed_updates": ["message"]}),
    ("get_webhook_info", {}),
    ("get_updates", {"timeout": 0}),
    ("set_webhook", {"url": "http://hooks.shop.example/x"}),
    ("delete_webhook", {}),
    ("send_message", {"chat_id": 5000000001, "text": "x" * 4097}),
    ("send_message", {"chat_id": 5000000002, "text": "Hi"}),
    ("send_message", {"chat_id": -5000000005, "text": "Hi"}),
    ("send_message", {"chat_id": 5000000001, "text": "too fast"}),
    ("get_file", {"file_id": "nothing"}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("client", ["ptb", "aiogram"])
def test_a_client_takes_answers_and_errors_for_what_they_are(
    app: TelegramApp, server: SandboxServer, inbox: Inbox, client: str
) -> None:
    ana = app.add_person("Ana", "Lima")
    bo = app.add_person("Bo", is_open=False)
    app.photo(ana, "Look", data=b"the picture")
    group = app.add_group("Friends of tea")
    new = app.migrate(group)
    assert (ana, bo, group) == (5000000001, 5000000002, -5000000005)
    app.reach = inbox.url
    calls = [{"client": client, "method": method, "arguments": arguments} for method, arguments in CLIENT_CALLS]
    found = ask_judge("telegram", "telegram_clients.py", {"url": server.url, "token": TOKEN, "calls": calls})["calls"]
    me, updates, info, sent, data, was_set, active, conflict, no_tls, was_deleted, *refused = found
    assert me["ok"]["username"] == "example_shop_bot"
    assert [one["message"].get("caption") for one in updates["ok"]] == ["Look", None, None]
    assert info["ok"]["url"] == ""
    assert (sent["ok"]["message_id"], sent["ok"]["text"]) == (2, "Hi")
    assert data["ok"] == "the picture"
    assert was_set["ok"] is was_deleted["ok"] is True
    assert active["ok"]["url"] == "https://hooks.shop.example/webhooks/telegram"
    errors = {"ptb": ["Conflict", "BadRequest", "BadRequest", "Forbidden", "ChatMigrated", "RetryAfter", "BadRequest"],
              "aiogram": ["TelegramConflictError", "TelegramBadRequest", "TelegramBadRequest", "TelegramForbiddenError",
                          "TelegramMigrateToChat", "TelegramRetryAfter", "TelegramBadRequest"]}  # fmt: skip
    seen = [conflict, no_tls, *refused]
    assert [one.get("error") for one in seen] == errors[client]
    assert str(new) in json.dumps(seen[4]["more"])
    assert seen[5]["more"]["retry_after"] in {1, "1", "0:00:01"}


@pytest.mark.slow
@pytest.mark.parametrize("client", ["ptb", "aiogram"])
def test_a_client_takes_a_wrong_token_for_what_it_is(server: SandboxServer, client: str) -> None:
    work = {"url": server.url, "token": "7000000001:wrong", "calls": [{"client": client, "method": "get_me"}]}
    (found,) = ask_judge("telegram", "telegram_clients.py", work)["calls"]
    assert found["error"] in {"InvalidToken", "TelegramUnauthorizedError"}


@pytest.mark.slow
def test_aiogram_takes_the_header_of_the_stand_in_and_refuses_what_we_refuse(
    app: TelegramApp, server: SandboxServer, inbox: Inbox, ana: int
) -> None:
    app.reach = inbox.url
    app.connect("http://127.0.0.1:1")
    app.flush()
    header = inbox.posts[0][0]["X-Telegram-Bot-Api-Secret-Token"]
    pairs = [[app.secret_token, header], [app.secret_token, header[:-1]], [app.secret_token, ""], ["other", header]]
    work = {"url": server.url, "token": TOKEN, "secrets": pairs}
    assert ask_judge("telegram", "telegram_clients.py", work)["secrets"] == [True, False, False, False]


class Page:
    """The vendor's page as a judge: required fields, known fields, types."""

    def __init__(self) -> None:
        if not SPECS.is_file():
            pytest.skip("ONETHREAD_SPECS does not lead to telegram/api.json")
        document = json.loads(SPECS.read_text(encoding="utf-8"))
        self.types, self.methods = document["types"], document["methods"]

    def problems(self, value: Any, wanted: list[str], where: str) -> list[str]:
        """What is wrong with `value`, which may be of any of these types; empty when it fits one."""
        found = [self._problems(value, one, where) for one in wanted]
        return min(found, key=len) if found else []

    def _problems(self, value: Any, wanted: str, where: str) -> list[str]:
        if wanted.startswith("Array of "):
            if not isinstance(value, list):
                return [f"{where} is no list"]
            inner = wanted.removeprefix("Array of ")
            return [
                one for number, each in enumerate(value) for one in self._problems(each, inner, f"{where}[{number}]")
            ]
        basic: dict[str, Any] = {"Integer": int, "Float": (int, float), "String": str, "Boolean": bool}
        if wanted in basic:
            right = isinstance(value, basic[wanted]) and (wanted == "Boolean" or not isinstance(value, bool))
            return [] if right else [f"{where} is no {wanted}"]
        kind = self.types[wanted]
        if kind.get("subtypes"):
            return self.problems(value, kind["subtypes"], where)
        if not isinstance(value, dict):
            return [f"{where} is no {wanted}"]
        fields = {one["name"]: one for one in kind.get("fields", [])}
        wrong = [f"{where}.{name} is missing" for name, one in fields.items() if one["required"] and name not in value]
        wrong += [f"{where}.{name} is not known" for name in value if name not in fields and name not in OBSERVED]
        for name, each in value.items():
            if name in fields:
                wrong += self.problems(each, fields[name]["types"], f"{where}.{name}")
        return wrong

    def problems_of_call(self, method: str, parameters: dict[str, Any]) -> list[str]:
        """What is wrong with the parameters of a call."""
        fields = {one["name"]: one for one in self.methods[method].get("fields", [])}
        wrong = [f"{name} is missing" for name, one in fields.items() if one["required"] and name not in parameters]
        return wrong + [f"{name} is not known" for name in parameters if name not in fields]


@pytest.fixture
def page() -> Page:
    return Page()


def test_every_update_of_the_stand_in_is_as_the_page_says(app: TelegramApp, page: Page) -> None:
    updates = played(app)
    kinds = {name for one in updates for name in one if name != "update_id"}
    assert kinds >= {"message", "edited_message", "channel_post", "business_connection", "business_message",
                     "deleted_business_messages", "message_reaction", "callback_query", "my_chat_member"}  # fmt: skip
    assert [page.problems(one, ["Update"], "update") for one in updates] == [[]] * len(updates)


def test_every_fixture_is_as_the_page_says(page: Page) -> None:
    wrong = {name: page.problems(one, ["Update"], "update") for name, one in fixtures().items()}
    assert {name for name, problems in wrong.items() if problems} == INVENTED


def test_the_page_notices_what_is_wrong(page: Page) -> None:
    for name, value in (("date", "yesterday"), ("chat", {"id": 1}), ("hologram", 1), ("text", 3)):
        broken = fixtures()["text"]
        broken["message"][name] = value
        assert page.problems(broken, ["Update"], "update")


def test_every_answer_of_the_stand_in_is_as_the_page_says(
    app: TelegramApp, ask: Ask, page: Page, inbox: Inbox, ana: int
) -> None:
    app.photo(ana)
    app.reach = inbox.url
    file_id = app.updates[-1].part["photo"][-1]["file_id"]
    connection = app.connect_business(ana)
    ask("setWebhook", url="https://hooks.shop.example/x", allowed_updates=["message"])
    for method, parameters in (
        ("getMe", {}), ("getWebhookInfo", {}), ("deleteWebhook", {}), ("getWebhookInfo", {}), ("getUpdates", {}),
        ("getFile", {"file_id": file_id}), ("sendMessage", {"chat_id": ana, "text": "Hi"}),
        ("getBusinessConnection", {"business_connection_id": connection}),
    ):  # fmt: skip
        assert page.problems_of_call(method, parameters) == []
        returns = page.methods[method]["returns"]
        assert page.problems(result(ask(method, **parameters)), returns, method) == []


def test_every_call_of_the_tap_is_as_the_page_says(
    app: TelegramApp, server: SandboxServer, page: Page, state_url: str, ana: int
) -> None:
    app.photo(ana)
    config = {"state_url": state_url, "mode": "poll", "bot_token": TOKEN, "api_url": server.url}
    tap = TapTelegram(config=config)
    messages = [one for one in tap.read() if isinstance(one, Message)]
    assert tap.media_request(messages[-1].attachments[0], messages[-1]) is not None
    list(tap.check())
    asked = [(one["path"].rpartition("/")[2], dict(parse_qsl(one["query"]))) for one in app.journal]
    assert {method for method, _ in asked} == {"getUpdates", "getFile", "getMe", "getWebhookInfo"}
    assert [page.problems_of_call(method, parameters) for method, parameters in asked] == [[]] * len(asked)
    wanted = json.loads(next(parameters for method, parameters in asked if method == "getUpdates")["allowed_updates"])
    assert set(wanted) <= {one["name"] for one in page.types["Update"]["fields"]}


def test_the_tables_of_the_mapping_name_every_field_of_the_page(page: Page) -> None:
    fields = {one["name"] for one in page.types["Message"]["fields"]}
    named = {*codes.CONTENTS, *codes.SERVICE, *codes.AROUND}
    assert fields == named
    assert [one["name"] for one in page.types["Update"]["fields"]][1:] == list(telegram.UPDATES)


# -- The rules -------------------------------------------------------------------------------------------------------


UNJUDGED = {
    "an offset deletes everything below it",
    "a negative offset keeps the newest ones only",
    "an offset that is not near the queue is taken for none",
    "the same offset again within 3 seconds waits 3 seconds; within half a second it gives one update",
    "an update is kept for 24 hours from the moment of its message",
    "update numbers rise one by one, and start anew at random after a week without updates",
    "setWebhook ends a getUpdates that waits: 409",
    "each post to a webhook has one update in its body",
    "a post that was not answered 2xx comes again, later and later",
    "what the webhook did not take can be had by getUpdates once it is removed",
    "without allowed_updates everything but chat_member and reactions is told; the last list is kept",
    "message numbers are unique in their chat only",
    "a chat of a business account has the customer's id, as the bot's own chat with them has",
}
"""What no client can see: how the server keeps its queue and numbers, and how its webhook repeats."""


def test_every_rule_names_its_source_and_those_without_a_judge_are_known() -> None:
    assert all(rule.source and rule.kind in {"documented", "observed", "assumed"} for rule in RULES)
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert {rule.name for rule in RULES if rule.judge is None} == UNJUDGED


def test_every_action_is_on_the_page_of_the_stand_in() -> None:
    from sandbox.telegram.people import People

    text = (ROOT / "sandbox" / "telegram.md").read_text(encoding="utf-8")
    actions = [name for name, value in vars(People).items() if inspect.isfunction(value) and name[0] != "_"]
    assert len(actions) >= 20
    assert [name for name in actions if f"`{name}`" not in text] == []
