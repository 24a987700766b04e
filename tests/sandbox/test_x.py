"""The stand-in of X: what it refuses, tells and counts; X's own SDK and API document as judges."""

from __future__ import annotations

import base64
import hashlib
import hmac
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.base import SandboxServer
from sandbox.deliverer import Delivery
from sandbox.x import XApp
from sandbox.x.account import Account
from sandbox.x.people import PICTURE
from stores.database import Stores
from taps.webhooks import x
from taps.webhooks.receiver import WebhookRoute
from taps.x import TapX
from tests.contract.webhook import RunningReceiver, running_receiver
from tests.judges.environment import ask_judge
from tests.sandbox.conftest import ROOT, StandingClock


@pytest.fixture
def app(clock: StandingClock) -> Iterator[XApp]:
    made = XApp()
    made.clock = clock
    yield made
    made.stop()


@pytest.fixture
def server(app: XApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        yield running


@pytest.fixture
def receiver(app: XApp, stores: Stores) -> Iterator[RunningReceiver]:
    settings = x.Settings.model_validate({"consumer_secret": app.consumer_secret})
    with running_receiver(stores, {("x", "default"): WebhookRoute(x, settings)}) as running:
        yield running


@pytest.fixture
def ada(app: XApp) -> str:
    return app.add_user("Ada", "ada_example")


FULL = {
    "dm_event.fields": "attachments,created_at,dm_conversation_id,entities,event_type,id,text",
    "expansions": "sender_id,participant_ids,attachments.media_keys,referenced_posts",
    "user.fields": "name,profile_image_url,username",
    "media.fields": "media_key,type,url,variants",
    "post.fields": "text",
}


def call(
    server: SandboxServer, path: str, method: str = "GET", token: str = "sandbox-access-token", **more: Any
) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.request(method, f"{server.url}{path}", headers=headers, timeout=10, **more)


def as_app(server: SandboxServer, path: str, method: str = "GET", **more: Any) -> requests.Response:
    return call(server, path, method, "AAAA-sandbox-bearer", **more)


def connect(app: XApp, receiver: RunningReceiver) -> None:
    app.connect(f"http://127.0.0.1:{receiver.port}")


def bodies(receiver: RunningReceiver) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in receiver.stored.read("x", "default", 0, 100)]


# -- What it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        {"max_results": "101"}, {"max_results": "0"}, {"max_results": "x"}, {"pagination_token": "short"},
        {"pagination_token": "z" * 20}, {"dm_event.fields": "sender_id"}, {"expansions": "referenced_tweets.id"},
        {"tweet.fields": "text"}, {"since_id": "1"}, {"event_types": "Message"}, {"user.fields": "email"},
    ],
)  # fmt: skip
def test_a_parameter_that_is_not_in_the_document_is_refused(server: SandboxServer, query: dict[str, str]) -> None:
    answer = call(server, "/2/dm_events", params=query)
    assert (answer.status_code, answer.json()["type"]) == (400, "https://api.x.com/2/problems/invalid-request")
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_under_the_old_names_the_new_ones_are_refused(app: XApp, server: SandboxServer) -> None:
    app.old_names = True
    assert call(server, "/2/dm_events", params=FULL).status_code == 400
    old = {"expansions": "sender_id,referenced_tweets.id", "tweet.fields": "text", "dm_event.fields": "sender_id"}
    assert call(server, "/2/dm_events", params=old).status_code == 200


def test_each_call_has_its_own_token_and_scope(app: XApp, server: SandboxServer) -> None:
    assert call(server, "/2/dm_events", token="wrong").status_code == 401
    assert call(server, "/2/dm_events", token=app.bearer_token).status_code == 401
    assert call(server, "/2/webhooks").status_code == 401
    app.scopes.discard("dm.read")
    assert call(server, "/2/dm_events").status_code == 403
    assert call(server, "/2/users/me").status_code == 200


def test_a_token_ends_after_two_hours_and_its_refresh_token_works_once(clock: StandingClock) -> None:
    app = XApp(expires=True)
    app.clock = clock
    with SandboxServer(app) as server:
        assert call(server, "/2/users/me").status_code == 200
        clock.advance(7201)
        assert call(server, "/2/users/me").status_code == 401
        form = {"grant_type": "refresh_token", "refresh_token": app.refresh_token}
        auth = (app.client_id, app.client_secret)
        answers = [requests.post(f"{server.url}/2/oauth2/token", data=form, auth=auth, timeout=10) for _ in range(2)]
        assert [one.status_code for one in answers] == [200, 400]
        assert answers[0].json()["expires_in"] == 7200
        assert call(server, "/2/users/me", token=answers[0].json()["access_token"]).status_code == 200
        form["refresh_token"] = answers[0].json()["refresh_token"]
        assert requests.post(f"{server.url}/2/oauth2/token", data=form, timeout=10).status_code == 401


def test_reads_are_counted_by_endpoint_and_quarter_of_an_hour(
    server: SandboxServer, clock: StandingClock, ada: str
) -> None:
    answers = [call(server, "/2/dm_events") for _ in range(16)]
    assert [one.status_code for one in answers] == [200] * 15 + [429]
    assert [one.headers["x-rate-limit-remaining"] for one in answers[:2]] == ["14", "13"]
    assert answers[-1].headers["x-rate-limit-limit"] == "15"
    assert call(server, f"/2/dm_conversations/with/{ada}/dm_events").status_code == 200
    clock.advance(int(answers[-1].headers["x-rate-limit-reset"]) - clock.epoch())
    assert call(server, "/2/dm_events").status_code == 200


@pytest.mark.parametrize(
    "url", ["http://shop.example/x", "https://shop.example:8443/x", "ftp://shop.example", "", "https://" + "a" * 200]
)
def test_an_address_that_x_does_not_allow_is_refused(server: SandboxServer, url: str) -> None:
    assert as_app(server, "/2/webhooks", "POST", json={"url": url}).status_code == 400


def test_a_webhook_must_pass_the_handshake(app: XApp, server: SandboxServer, receiver: RunningReceiver) -> None:
    url = f"http://127.0.0.1:{receiver.port}/webhooks/x"
    app.consumer_secret, right = "another", app.consumer_secret
    assert as_app(server, "/2/webhooks", "POST", json={"url": url}).json()["detail"] == "CrcValidationFailed"
    app.consumer_secret = right
    made = as_app(server, "/2/webhooks", "POST", json={"url": url}).json()["data"]
    assert made["valid"] is True
    assert as_app(server, "/2/webhooks", "POST", json={"url": url}).json()["detail"] == "DuplicateUrlFailed"
    app.consumer_secret = "rotated"
    assert as_app(server, f"/2/webhooks/{made['id']}", "PUT").json() == {"data": {"valid": False}}
    assert as_app(server, "/2/webhooks").json()["data"][0]["valid"] is False
    assert as_app(server, f"/2/webhooks/{made['id']}", "DELETE").json() == {"data": {"deleted": True}}
    assert as_app(server, f"/2/webhooks/{made['id']}", "DELETE").status_code == 400


def test_an_invalid_webhook_is_told_nothing(app: XApp, receiver: RunningReceiver, ada: str) -> None:
    connect(app, receiver)
    app.text(ada, "told")
    for one in app.webhooks.values():
        one["valid"] = False
    app.text(ada, "not told")
    app.flush()
    assert len(bodies(receiver)) == 1
    assert [one[1] for one in app.heard()] == ["told", "not told"]


# -- What it tells ---------------------------------------------------------------------------------------------------


def test_a_delivery_is_signed_with_the_consumer_secret(app: XApp, receiver: RunningReceiver, ada: str) -> None:
    connect(app, receiver)
    app.text(ada, "Grüße & <3")
    app.flush()
    (body,) = bodies(receiver)
    assert body["data"]["payload"]["direct_message_events"][0]["message_create"]["message_data"]["text"] == (
        "Grüße &amp; &lt;3"
    )
    assert re.fullmatch(r"-?[0-9]{1,19}", body["data"]["event_uuid"])


def test_what_is_not_answered_is_not_repeated_and_stays_in_the_events(
    app: XApp, server: SandboxServer, receiver: RunningReceiver, ada: str
) -> None:
    connect(app, receiver)
    app.deliverer.hold()
    app.text(ada, "lost")
    app.consumer_secret = "unknown to the receiver"
    app.deliverer.start(f"http://127.0.0.1:{receiver.port}/webhooks/x", "unknown to the receiver")
    app.deliverer.release(together=False)
    app.flush()
    assert bodies(receiver) == []
    (one,) = app.state()["customer_messages"]
    assert (one["attempts"], one["given_up"]) == (1, True)
    assert call(server, "/2/dm_events").json()["data"][0]["text"] == "lost"


def test_events_come_newest_first_with_pages_for_thirty_days(
    app: XApp, server: SandboxServer, clock: StandingClock, ada: str
) -> None:
    app.text(ada, "too old")
    clock.advance(30 * 86_400 + 1)
    for number in range(3):
        app.text(ada, str(number))
    first = call(server, "/2/dm_events", params={**FULL, "max_results": 2}).json()
    token = first["meta"]["next_token"]
    second = call(server, "/2/dm_events", params={**FULL, "max_results": 2, "pagination_token": token}).json()
    assert [one["text"] for one in first["data"] + second["data"]] == ["2", "1", "0"]
    assert "next_token" not in second["meta"]
    assert call(server, "/2/dm_events", params={"event_types": "ParticipantsJoin"}).json() == {
        "meta": {"result_count": 0}
    }


def test_what_is_not_asked_for_is_not_shown(app: XApp, server: SandboxServer, ada: str) -> None:
    app.photo(ada, "look")
    bare = call(server, "/2/dm_events").json()
    assert set(bare["data"][0]) == {"id", "event_type", "text"}
    assert "includes" not in bare
    full = call(server, "/2/dm_events", params=FULL).json()
    assert full["data"][0]["dm_conversation_id"] == app.pair(ada)
    assert {"users", "media"} <= set(full["includes"])


def test_an_encrypted_chat_is_told_and_never_shown(
    app: XApp, server: SandboxServer, receiver: RunningReceiver, ada: str
) -> None:
    connect(app, receiver)
    app.encrypted(ada)
    app.flush()
    assert [one["data"]["event_type"] for one in bodies(receiver)] == ["chat.received"]
    assert call(server, "/2/dm_events").json()["meta"]["result_count"] == 0
    assert app.heard() == []


def test_a_send_arrives_comes_back_and_can_be_refused(
    app: XApp, server: SandboxServer, receiver: RunningReceiver, ada: str
) -> None:
    connect(app, receiver)
    closed = app.add_user("Bo", "bo_example", receives_dm=False)
    path = "/2/dm_conversations/with/{}/messages"
    sent = call(server, path.format(ada), "POST", json={"text": "Hi"})
    assert (sent.status_code, sent.json()["data"]["dm_conversation_id"]) == (201, app.pair(ada))
    again = call(server, f"/2/dm_conversations/{app.pair(ada)}/messages", "POST", json={"text": "Hi"})
    assert again.json()["data"]["dm_event_id"] != sent.json()["data"]["dm_event_id"]
    refused = [call(server, path.format(one), "POST", json={"text": "Hi"}).status_code for one in (closed, "77")]
    wrong = [call(server, path.format(ada), "POST", json=one).status_code for one in ({}, {"text": ""}, {"txt": "x"})]
    assert (refused, wrong) == ([403, 404], [400, 400, 400])
    app.flush()
    assert [one["data"]["event_type"] for one in bodies(receiver)] == ["dm.sent", "dm.sent"]
    assert len(app.state()["sent"]) == 2


def test_a_file_is_given_to_our_token_alone(app: XApp, server: SandboxServer, ada: str) -> None:
    event_id = app.photo(ada)
    media = app.events[-1].media
    assert media is not None
    path = f"/2/dm_conversations/media/{event_id}/{media[0]}"
    assert call(server, f"{path}/file.jpg").content == PICTURE
    assert call(server, f"{path}/other.jpg").status_code == 404
    assert call(server, f"{path}/file.jpg", token="wrong").status_code == 401


# -- The scene -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old_api", [False, True])
def test_the_scene_arrives_whole_through_receiver_and_tap(
    old_api: bool, stores: Stores, state_url: str, run_tap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = XApp(old_api=old_api)
    settings = x.Settings.model_validate({"consumer_secret": app.consumer_secret})
    routes = {("x", "default"): WebhookRoute(x, settings)}
    with SandboxServer(app) as server, running_receiver(stores, routes) as receiver:
        connect(app, receiver)
        app.play()
        app.flush()
        app.stop()
        environment = app.environment(server.url)
        config = {
            name.removeprefix("ONETHREAD_X_").lower(): value
            for name, value in environment.items()
            if not name.endswith(("CONSUMER_SECRET", "MINUTES", "MEDIA", "HOSTS"))
        }
        tap = TapX(
            config={**config, "state_url": state_url, "reconcile_minutes": 0, "fetch_media": True,
                    "media_private_hosts": ["127.0.0.1"]}
        )  # fmt: skip
        messages = run_tap(tap)
    found = [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == "messages"]
    inbound = [one for one in found if one["direction"] == "inbound" and one["author_kind"] == "customer"]
    heard = app.heard()
    assert sorted(str(one["text"]) for one in inbound) == sorted(str(one[1]) for one in heard)
    assert sorted(one["sent_at"][:19] for one in inbound) == sorted(_second(one[2]) for one in heard)
    assert len(heard) == 9
    assert len({one["message_key"] for one in found}) == len(found)
    assert tap.missed == 1
    assert tap.ignored == {"typing": 1, "chat.received": 1}
    streams = {one["stream"] for one in messages if one["type"] == "RECORD"}
    assert streams == {"messages", "receipts", "consents"}
    assert [bool(file["media_key"]) for one in found for file in one["attachments"]] == [True]


def _second(epoch: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def test_a_webhook_that_is_late_or_lost_is_counted(app: XApp, receiver: RunningReceiver, ada: str) -> None:
    connect(app, receiver)
    app.text(ada, "late", delivery=Delivery(delay_seconds=0.05))
    app.text(ada, "lost", delivery=Delivery(drop=True))
    app.text(ada, "on time", delivery=Delivery(duplicate=1))
    app.flush()
    assert [one["dropped"] for one in app.state()["customer_messages"]] == [False, True, False]
    assert [one["accepted"] for one in app.state()["customer_messages"]] == [1, 0, 2]


# -- Judges ----------------------------------------------------------------------------------------------------------


def ask_sdk(app: XApp, server: SandboxServer, calls: list[dict[str, Any]], **login: Any) -> Any:
    given = {"access_token": app.access_token, "bearer_token": app.bearer_token, **login}
    return ask_judge("x", "x_client.py", {"url": server.url, "login": given, "calls": calls})


EVERYTHING = {
    "dm_event_fields": ["attachments", "created_at", "dm_conversation_id", "entities", "event_type", "id", "text"],
    "expansions": ["attachments.media_keys", "participant_ids", "referenced_posts", "sender_id"],
    "user_fields": ["name", "username"],
    "media_fields": ["type", "url"],
    "post_fields": ["text"],
}


@pytest.mark.slow
def test_xs_sdk_reads_sends_and_pages(app: XApp, server: SandboxServer, ada: str) -> None:
    app.share_post(ada, "1580559079470145536", "Have you seen this?")
    photo = app.photo(ada, "look")
    group = app.add_group(ada)
    app.group_text(ada, group, "Hi all")
    media = next(one.media for one in app.events if one.media)
    answers = ask_sdk(app, server, [
        {"of": "direct_messages", "method": "create_by_participant_id", "arguments": {"participant_id": ada},
         "body": ["CreateByParticipantIdRequest", {"text": "Grüße <&>"}]},
        {"of": "direct_messages", "method": "get_events", "arguments": {"max_results": 2, **EVERYTHING}, "pages": 9},
        {"of": "direct_messages", "method": "get_events_by_participant_id", "pages": 1,
         "arguments": {"participant_id": ada, **EVERYTHING}},
        {"of": "direct_messages", "method": "dm_conversations_media_download",
         "arguments": {"dm_id": photo, "media_id": media[0], "resource_id": "file.jpg"}},
        {"of": "users", "method": "get_me", "arguments": {"user_fields": ["name", "username"]}},
    ])  # fmt: skip
    sent, pages, pair, picture, me = [one["ok"] for one in answers]
    events = [event for page in pages for event in page["data"]]
    assert [one["event_type"] for one in events] == [
        "MessageCreate", "MessageCreate", "ParticipantsJoin", "MessageCreate", "MessageCreate",
    ]  # fmt: skip
    assert events[0]["id"] == sent["data"]["dm_event_id"]
    assert {one["sender_id"] for one in events} == {app.user_id, ada}
    assert events[-1]["referenced_posts"] == [{"id": "1580559079470145536"}]
    assert events[2]["participant_ids"] == [ada]
    assert {one["dm_conversation_id"] for one in pair[0]["data"]} == {app.pair(ada)}
    assert base64.b64decode(picture) == PICTURE
    assert me["data"]["id"] == app.user_id


@pytest.mark.slow
def test_xs_sdk_keeps_webhooks_and_subscriptions(
    app: XApp, server: SandboxServer, receiver: RunningReceiver, ada: str
) -> None:
    url = f"http://127.0.0.1:{receiver.port}/webhooks/x"
    (made,) = ask_sdk(app, server, [{"of": "webhooks", "method": "create", "body": ["CreateRequest", {"url": url}]}])
    webhook_id = made["ok"]["data"]["id"]
    wanted = {"event_type": "dm.received", "filter": {"user_id": app.user_id}, "webhook_id": webhook_id}
    answers = ask_sdk(app, server, [
        {"of": "activity", "method": "create_subscription", "body": ["CreateSubscriptionRequest", wanted]},
        {"of": "activity", "method": "get_subscriptions", "arguments": {}, "pages": 1},
        {"of": "webhooks", "method": "validate", "arguments": {"webhook_id": webhook_id}},
        {"of": "webhooks", "method": "get"},
        {"of": "webhooks", "method": "create", "body": ["CreateRequest", {"url": url}]},
    ])  # fmt: skip
    assert [one.get("status") for one in answers] == [None, None, None, None, 400]
    assert answers[1]["ok"][0]["data"][0]["webhook_id"] == webhook_id
    assert (answers[2]["ok"]["data"]["valid"], answers[3]["ok"]["data"][0]["url"]) == (True, url)
    app.text(ada, "Hello")
    app.flush()
    assert [one["data"]["event_type"] for one in bodies(receiver)] == ["dm.received"]


@pytest.mark.slow
def test_xs_sdk_understands_the_refusals(app: XApp, server: SandboxServer) -> None:
    app.limits["me"] = 1
    closed = app.add_user("Bo", "bo_example", receives_dm=False)
    answers = ask_sdk(app, server, [
        {"of": "users", "method": "get_me"},
        {"of": "users", "method": "get_me"},
        {"of": "direct_messages", "method": "get_events", "arguments": {"pagination_token": "z" * 20}, "pages": 1},
        {"of": "direct_messages", "method": "create_by_participant_id", "arguments": {"participant_id": closed},
         "body": ["CreateByParticipantIdRequest", {"text": "Hi"}]},
    ])  # fmt: skip
    assert [one.get("status") for one in answers] == [None, 429, 400, 403]
    assert int(answers[1]["reset"]) == int(app.clock.epoch()) + 900
    assert answers[2]["problem"]["title"] == "Invalid Request"
    assert ask_sdk(app, server, [{"of": "users", "method": "get_me"}], access_token="wrong")[0]["status"] == 401


@pytest.mark.slow
def test_xs_sdk_rotates_the_token_once(app: XApp, server: SandboxServer) -> None:
    token = {"access_token": "old", "refresh_token": app.refresh_token, "token_type": "bearer", "expires_in": 7200}
    login = {"client_id": app.client_id, "client_secret": app.client_secret, "token": token, "access_token": None,
             "redirect_uri": "https://shop.example/back"}  # fmt: skip
    (rotated,) = ask_sdk(app, server, [{"of": "refresh"}], **login)
    assert (rotated["ok"]["access_token"], rotated["ok"]["refresh_token"]) == (app.access_token, app.refresh_token)
    (again,) = ask_sdk(app, server, [{"of": "refresh"}], **login)
    assert "error" in again


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """The official API document made strict; the project does not hold it."""
    folder = os.environ.get("ONETHREAD_SPECS")
    if not folder:
        pytest.skip("set ONETHREAD_SPECS to the folder of API documents")
    strict = tmp_path / "x.json"
    source = Path(folder) / "x-xdk" / "openapi.json"
    subprocess.run([sys.executable, f"{folder}/spec_tune.py", str(source), str(strict)], check=True, timeout=60)
    return strict


@pytest.mark.slow
def test_requests_and_answers_are_those_of_the_official_document(
    app: XApp, server: SandboxServer, receiver: RunningReceiver, document: Path, ada: str, run_tap: Any, state_url: str
) -> None:
    connect(app, receiver)
    app.clock.advance(-120)
    app.text(ada, "see https://shop.example/a")
    app.photo(ada, "look")
    app.share_post(ada, "1580559079470145536", "and this")
    app.add_group(ada)
    app.mention(ada, "hey @sandboxshop")
    mentions = {"post.fields": "created_at,conversation_id,entities", "expansions": "author_id", "max_results": 5}
    webhook = next(iter(app.webhooks))
    wanted = {"event_type": "dm.read", "filter": {"user_id": app.user_id}, "webhook_id": webhook}
    good = [
        exchange(call(server, "/2/dm_events", params={**FULL, "max_results": 2})),
        exchange(call(server, "/2/dm_events", params=FULL)),
        exchange(call(server, "/2/users/me")),
        exchange(call(server, f"/2/users/{app.user_id}/mentions", params=mentions)),
        exchange(call(server, f"/2/dm_conversations/with/{ada}/messages", "POST", json={"text": "Hi"}), {"text": "Hi"}),
        exchange(as_app(server, "/2/webhooks")),
        exchange(as_app(server, f"/2/webhooks/{webhook}", "PUT")),
        exchange(as_app(server, "/2/activity/subscriptions")),
        exchange(as_app(server, "/2/activity/subscriptions", "POST", json=wanted), wanted),
    ]
    refused = exchange(call(server, "/2/dm_events", params={"max_results": "500"}))
    before = len(app.journal)
    config = {"state_url": state_url, "access_token": app.access_token, "api_url": server.url, "read_mentions": True,
              "page_size": 2}  # fmt: skip
    run_tap(TapX(config=config))
    asked = [
        {"method": one["method"], "path": one["path"], "query": one["query"], "status": 200, "answer": {}}
        for one in app.journal[before:]
    ]
    event = good[0]["answer"]["data"][0]
    bad = [
        {**good[0], "answer": {"data": [{**event, "id": 5}]}},
        {**good[0], "answer": {"data": [{**event, "sender": "5"}]}},
        {**good[0], "query": "max_results=500"},
        {**good[4], "json": {"txt": "Hi"}},
    ]
    work = {"document": str(document), "exchanges": [*good, refused, *asked, *bad]}
    verdicts = ask_judge("x", "x_document.py", work)
    assert verdicts[: len(good)] == [{"request": [], "answer": []}] * len(good)
    assert (verdicts[len(good)]["answer"], bool(verdicts[len(good)]["request"])) == ([], True)
    assert {one["path"] for one in asked} == {"/2/users/me", "/2/dm_events", f"/2/users/{app.user_id}/mentions"}
    assert [one["request"] for one in verdicts[len(good) + 1 : -len(bad)]] == [[]] * len(asked)
    assert [bool(one["answer"]) for one in verdicts[-len(bad) :]] == [True, True, False, False]
    assert [bool(one["request"]) for one in verdicts[-len(bad) :]] == [False, False, True, True]


def exchange(answer: requests.Response, body: Any = None) -> dict[str, Any]:
    """A call with its answer, for the judge."""
    assert answer.request.url is not None
    path, _, query = answer.request.url.partition("?")
    return {
        "method": answer.request.method, "path": "/" + path.split("/", 3)[3], "query": query, "json": body,
        "status": answer.status_code, "content_type": answer.headers["Content-Type"], "answer": answer.json(),
    }  # fmt: skip


def test_the_signature_is_the_one_of_xs_pages() -> None:
    from sandbox.x.account import signature

    digest = hmac.new(b"secret", b"{}", hashlib.sha256).digest()
    assert signature("secret", b"{}") == "sha256=" + base64.b64encode(digest).decode("utf-8")


# -- The account of itself -------------------------------------------------------------------------------------------


def test_each_rule_has_a_source_and_says_who_confirms_it() -> None:
    assert {rule.kind for rule in XApp.rules} <= {"documented", "observed", "assumed"}
    assert all(rule.source for rule in XApp.rules)
    assert {rule.judge for rule in XApp.rules} == {"xdk", "openapi", None}


def test_the_page_names_every_option_and_every_call() -> None:
    page = (ROOT / "sandbox" / "x.md").read_text()
    options = set(inspect.signature(Account.__init__).parameters) - {"self"}
    paths = {re.sub(r"<[a-z_]+>", "...", route.rule) for route in XApp().routes()}
    assert sorted(name for name in options if not re.search(rf"`{re.escape(name)}`", page)) == []
    assert sorted(path for path in paths if path not in page) == []
