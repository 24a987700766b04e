"""The stand-in of Chatwoot: what it refuses, tells and counts."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from mappings.from_chatwoot import PLATFORM
from sandbox.base import SandboxServer
from sandbox.chatwoot import ChatwootApp
from sandbox.chatwoot.account import Account
from sandbox.deliverer import Delivery
from sandbox.meta import TokenBucket
from stores.database import Stores
from taps.chatwoot import TapChatwoot
from taps.webhooks.receiver import build_routes
from tests.contract.webhook import running_receiver
from tests.sandbox.conftest import ROOT, Inbox, StandingClock

TOKEN = "sandbox-access-token"
BASE = "/api/v1/accounts/2"


@pytest.fixture
def app(clock: StandingClock) -> Iterator[ChatwootApp]:
    app = ChatwootApp()
    app.clock = clock
    yield app
    app.stop()


@pytest.fixture
def server(app: ChatwootApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as server:
        app.public_url = server.url
        yield server


def get(server: SandboxServer, path: str, token: str | None = TOKEN, **query: Any) -> requests.Response:
    headers = {"api-access-token": token} if token else {}
    return requests.get(server.url + path, params=query, headers=headers, timeout=10)


def post(server: SandboxServer, path: str, **body: Any) -> requests.Response:
    return requests.post(server.url + path, json=body, headers={"api-access-token": TOKEN}, timeout=10)


def ids(answer: requests.Response) -> list[int]:
    return [row["id"] for row in answer.json()["payload"]]


# -- webhooks ----------------------------------------------------------------------------------------------------------


def test_a_webhook_says_words_and_iso_times_where_the_api_says_numbers(
    app: ChatwootApp, server: SandboxServer, inbox: Inbox
) -> None:
    app.connect(inbox.url)
    chat = app.visitor()
    number = app.text(chat, "Grüße")
    app.flush()
    (body,) = inbox.bodies()
    (row,) = get(server, f"{BASE}/conversations/{chat}/messages").json()["payload"]
    assert (body["message_type"], row["message_type"]) == ("incoming", 0)
    assert body["created_at"].endswith("Z")
    assert row["created_at"] == int(app.messages[number].at)
    assert (body["conversation"]["channel"], "status" in body) == ("Channel::WebWidget", False)
    assert body["conversation"]["messages"][0]["id"] == number


def test_a_webhook_that_nobody_took_is_not_repeated(app: ChatwootApp, inbox: Inbox) -> None:
    inbox.answers = [500]
    app.connect(inbox.url)
    chat = app.visitor()
    app.text(chat, "lost")
    app.text(chat, "taken")
    app.flush()
    assert [body["content"] for body in inbox.bodies()] == ["taken"]
    assert app.state()["webhooks"]["given_up"] == 1


def test_a_note_is_pushed_and_an_activity_is_not(app: ChatwootApp, inbox: Inbox) -> None:
    app.connect(inbox.url)
    chat = app.visitor()
    app.agent(chat, "a note", private=True)
    app.resolve(chat)
    app.flush()
    assert [(body["event"], body.get("private")) for body in inbox.bodies()] == [
        ("message_created", True), ("conversation_status_changed", None),
    ]  # fmt: skip


def test_a_repeat_has_the_same_message(app: ChatwootApp, inbox: Inbox) -> None:
    app.connect(inbox.url)
    app.text(app.visitor(), "twice", delivery=Delivery(duplicate=1))
    app.flush()
    one, other = inbox.bodies()
    assert one == other


def test_nobody_is_told_before_there_is_an_address(app: ChatwootApp) -> None:
    app.text(app.visitor(), "hello")
    assert app.state()["customer_messages"][0]["dropped"] is True


# -- who it is ---------------------------------------------------------------------------------------------------------


def test_a_wrong_hash_is_refused_and_where_it_must_be_none_is_too(app: ChatwootApp) -> None:
    chat = app.visitor()
    for wrong in ("0" * 64, None, app.signed_identifier("another@mail.example")):
        with pytest.raises(PermissionError):
            app.identify(chat, identifier="ivy@mail.example", identifier_hash=wrong)
    assert app.conversations[chat].contact.hmac_verified is False


def test_a_right_hash_verifies_the_visitor_whatever_else_the_browser_says(app: ChatwootApp) -> None:
    chat = app.visitor()
    app.identify(chat, identifier="4711", identifier_hash=app.signed_identifier("4711"), email="boss@mail.example")
    row = app.conversation_row(app.conversations[chat])
    assert row["meta"]["hmac_verified"] is True
    assert row["meta"]["sender"]["email"] == "boss@mail.example"


def test_without_enforcement_anybody_may_say_anything(app: ChatwootApp) -> None:
    app.hmac_mandatory = False
    chat = app.visitor()
    app.identify(chat, identifier="4711", identifier_hash=app.signed_identifier("4711"))
    app.identify(chat, identifier="4712")
    contact = app.conversations[chat].contact
    assert (contact.identifier, contact.hmac_verified) == ("4712", True)


# -- the API -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("token", "account", "status"), [(None, 2, 401), ("wrong", 2, 401), (TOKEN, 3, 404)])
def test_it_wants_a_token_of_the_account(server: SandboxServer, token: str | None, account: int, status: int) -> None:
    assert get(server, f"/api/v1/accounts/{account}/conversations", token).status_code == status


def test_too_many_requests_are_refused(app: ChatwootApp, server: SandboxServer) -> None:
    app.calls = TokenBucket(1, 0)
    answers = [get(server, f"{BASE}/conversations") for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 429]
    assert answers[1].headers["Retry-After"] == "60"


def test_conversations_come_by_latest_activity_25_a_page(app: ChatwootApp, server: SandboxServer) -> None:
    chats = [app.visitor() for _ in range(30)]
    for chat in chats:
        app.clock.advance(1)
        app.text(chat, "hello")
    pages = [get(server, f"{BASE}/conversations", status="all", page=page).json()["data"] for page in (1, 2, 3)]
    found = [[row["id"] for row in page["payload"]] for page in pages]
    assert found == [chats[:4:-1], chats[4::-1], []]


def test_messages_come_in_pages_of_20_before_and_100_after(app: ChatwootApp, server: SandboxServer) -> None:
    chat = app.visitor()
    numbers = [app.text(chat, f"{number}") for number in range(120)]
    path = f"{BASE}/conversations/{chat}/messages"
    assert ids(get(server, path)) == numbers[-20:]
    assert ids(get(server, path, before=numbers[50])) == numbers[30:50]
    assert ids(get(server, path, after=numbers[9])) == numbers[10:110]
    assert ids(get(server, path, after=numbers[9], before=numbers[12])) == numbers[9:12]


def test_notes_and_activities_can_be_left_out(app: ChatwootApp, server: SandboxServer) -> None:
    chat = app.visitor()
    number = app.text(chat, "hello")
    app.agent(chat, "a note", private=True)
    app.resolve(chat)
    path = f"{BASE}/conversations/{chat}/messages"
    assert len(ids(get(server, path))) == 3
    assert ids(get(server, path, filter_internal_messages="true")) == [number]


def test_what_is_sent_is_there_and_its_source_id_comes_back(
    app: ChatwootApp, server: SandboxServer, inbox: Inbox
) -> None:
    app.connect(inbox.url)
    chat = app.visitor()
    path = f"{BASE}/conversations/{chat}/messages"
    answer = post(server, path, content="Hi", source_id="0" * 32, echo_id="e-1").json()
    app.flush()
    assert (answer["message_type"], answer["echo_id"]) == (1, "e-1")
    assert inbox.bodies()[0]["source_id"] == "0" * 32
    assert post(server, path, content="").status_code == 422
    assert post(server, path, content="x" * 150_001).status_code == 422
    assert post(server, f"{BASE}/conversations/1/messages", content="Hi").status_code == 404


def test_a_file_is_behind_a_redirect_and_wants_no_token(app: ChatwootApp, server: SandboxServer) -> None:
    number = app.picture(app.visitor(), data=b"\x89PNG\r\n\x1a\n x")
    url = app.messages[number].attachments[0]["data_url"]
    first = requests.get(url, allow_redirects=False, timeout=10)
    assert first.status_code == 302
    assert requests.get(first.headers["Location"], timeout=10).content == b"\x89PNG\r\n\x1a\n x"


# -- the scene ---------------------------------------------------------------------------------------------------------


def test_the_scene_ends_with_every_message_on_our_side(
    app: ChatwootApp, server: SandboxServer, stores: Stores, state_url: str, run_tap: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    environment = app.environment(server.url)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    routes = {key: route for key, route in build_routes({"chatwoot": PLATFORM}).items() if key[0] == "chatwoot"}
    with running_receiver(stores, routes) as receiver:
        app.connect(f"http://127.0.0.1:{receiver.port}")
        app.play()
        app.flush()
        prefix = "ONETHREAD_CHATWOOT_"
        named = {name.removeprefix(prefix).lower(): value for name, value in environment.items()}
        named.pop("webhook_secret")
        messages = run_tap(TapChatwoot(config={"state_url": state_url, **named}))

    def records(stream: str) -> list[dict[str, Any]]:
        return [one["record"] for one in messages if one.get("stream") == stream and "record" in one]

    inbound = {one["message_key"]: one for one in records("messages") if one["direction"] == "inbound"}
    heard = app.heard()
    assert sorted(str(one["text"]) for one in inbound.values()) == sorted(str(words) for _, words, _ in heard)
    assert len(inbound) == len(heard) == 8
    assert "careful with discounts" not in json.dumps(messages)
    assert [one["text"] for one in records("messages") if one["seen_by"] == "poll"] == ["I asked five minutes ago"]
    assert [one["change"] for one in records("message_changes")] == ["unsend"]
    assert {one["status"] for one in records("consents")} == {"opted_out"}
    (found,) = records("evidence")
    assert (found["strength"], found["handles"][1]["value"]) == ("verified", "ivy.stone@mail.example")


# -- the account of itself ---------------------------------------------------------------------------------------------


def test_each_rule_has_a_source_and_no_judge() -> None:
    assert {rule.kind for rule in ChatwootApp.rules} <= {"documented", "observed", "assumed"}
    assert all(rule.source for rule in ChatwootApp.rules)
    assert {rule.judge for rule in ChatwootApp.rules} == {None}


def test_the_page_names_every_option_and_everything_that_people_do() -> None:
    page = (ROOT / "sandbox" / "chatwoot.md").read_text()
    options = set(inspect.signature(Account.__init__).parameters) - {"self"}
    deeds = {"visitor", "identify", "signed_identifier", "text", "picture", "see", "choose", "agent", "ask", "resolve",
             "delete", "set_status", "play", "heard", "connect", "environment"}  # fmt: skip
    assert sorted(name for name in {*options, *deeds} if f"`{name}`" not in page) == []
