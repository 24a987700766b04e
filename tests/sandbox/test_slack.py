"""The stand-in of Slack: what it refuses, tells and counts; Slack's own SDK and API document as judges."""

from __future__ import annotations

import copy
import inspect
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mappings.from_slack import records_from_slack
from mappings.records import Consent, Message, MessageChange
from sandbox.base import SandboxServer
from sandbox.deliverer import Delivery
from sandbox.slack import SlackApp
from sandbox.slack.workspace import Workspace
from stores.database import Stores
from taps.slack import TapSlack
from taps.webhooks import slack
from taps.webhooks.items import WebhookRequest
from taps.webhooks.receiver import WebhookRoute
from tests.contract.webhook import running_receiver
from tests.judges.environment import ask_judge
from tests.sandbox.conftest import ROOT, Inbox, StandingClock

PARTNER = "T0PARTNER1"


@pytest.fixture
def app(clock: StandingClock) -> Iterator[SlackApp]:
    made = SlackApp(retry_seconds=(0.01, 0.01, 0.01))
    made.clock = clock
    yield made
    made.stop()


@pytest.fixture
def server(app: SlackApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        app.public_url = running.url
        yield running


@pytest.fixture
def ada(app: SlackApp) -> str:
    return app.add_member("ada", "Ada Example", PARTNER, email="ada@partner.example").id


@pytest.fixture
def channel(app: SlackApp) -> str:
    return app.add_channel("ext-partner", shared=True)


def call(server: SandboxServer, method: str, token: str | None = "xoxb-sandbox-token", **arguments: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.get(f"{server.url}/api/{method}", params=arguments, headers=headers, timeout=10).json()


def arrived(app: SlackApp, inbox: Inbox) -> list[dict[str, Any]]:
    app.start_delivery(inbox.url)
    app.flush()
    return [body["event"] for body in inbox.bodies()]


# -- What it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "arguments", "code"),
    [
        ("no.such", {}, "unknown_method"),
        ("conversations.history", {}, "channel_not_found"),
        ("conversations.history", {"channel": "C0NOWHERE1"}, "channel_not_found"),
        ("conversations.history", {"channel": "HERE", "limit": "1000"}, "invalid_limit"),
        ("conversations.history", {"channel": "HERE", "limit": "x"}, "invalid_limit"),
        ("conversations.history", {"channel": "HERE", "oldest": "yesterday"}, "invalid_ts_oldest"),
        ("conversations.history", {"channel": "HERE", "latest": "1e9"}, "invalid_ts_latest"),
        ("conversations.history", {"channel": "HERE", "cursor": "mine"}, "invalid_cursor"),
        ("conversations.replies", {"channel": "HERE", "ts": "1.000001"}, "thread_not_found"),
        ("users.conversations", {"types": "public"}, "invalid_types"),
        ("users.info", {"user": "U0NOBODY01"}, "user_not_found"),
        ("files.info", {"file": "F0NOTHING1"}, "file_not_found"),
        ("chat.postMessage", {"channel": "HERE"}, "no_text"),
        ("chat.postMessage", {"channel": "C0NOWHERE1", "text": "x"}, "channel_not_found"),
        ("chat.postMessage", {"channel": "HERE", "text": "x", "metadata": "{}"}, "invalid_metadata_format"),
        ("conversations.open", {"users": "U0NOBODY01"}, "user_not_found"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_refused_by_name(
    server: SandboxServer, channel: str, method: str, arguments: dict[str, str], code: str
) -> None:
    given = {name: channel if value == "HERE" else value for name, value in arguments.items()}
    assert (call(server, method, **given)["ok"], call(server, method, **given)["error"]) == (False, code)


def test_a_channel_that_the_bot_is_not_in_cannot_be_read(app: SlackApp, server: SandboxServer) -> None:
    public, private = app.add_channel("a", bot_is_in=False), app.add_channel("b", private=True, bot_is_in=False)
    errors = [call(server, "conversations.history", channel=one)["error"] for one in (public, private)]
    assert errors == ["not_in_channel", "channel_not_found"]
    assert call(server, "users.conversations")["channels"] == []


def test_a_call_without_a_good_token_is_refused(server: SandboxServer) -> None:
    assert call(server, "auth.test", None)["error"] == "not_authed"
    assert call(server, "auth.test", "xoxb-other")["error"] == "invalid_auth"


def test_a_missing_scope_is_named(app: SlackApp, server: SandboxServer, channel: str) -> None:
    app.scopes -= {"channels:history", "users:read"}
    assert call(server, "conversations.history", channel=channel)["needed"] == "channels:history"
    assert call(server, "users.info", user=app.bot)["needed"] == "users:read"


def test_calls_are_limited_by_method_and_minute(
    app: SlackApp, clock: StandingClock, server: SandboxServer, channel: str
) -> None:
    url, headers = f"{server.url}/api/conversations.list", {"Authorization": "Bearer xoxb-sandbox-token"}
    answers = [requests.get(url, headers=headers, timeout=10) for _ in range(21)]
    assert [one.status_code for one in answers] == [200] * 20 + [429]
    assert (answers[-1].headers["Retry-After"], answers[-1].json()["error"]) == ("3", "ratelimited")
    assert call(server, "conversations.history", channel=channel)["ok"]
    clock.advance(3)
    assert requests.get(url, headers=headers, timeout=10).status_code == 200


def test_the_severe_limit_is_a_call_a_minute_and_fifteen_messages(
    app: SlackApp, clock: StandingClock, server: SandboxServer, ada: str, channel: str
) -> None:
    app.restricted = True
    for number in range(20):
        app.write(ada, channel, str(number))
    first = call(server, "conversations.history", channel=channel, limit=200)
    assert (len(first["messages"]), first["has_more"]) == (15, True)
    assert call(server, "conversations.history", channel=channel)["error"] == "ratelimited"
    clock.advance(60)
    last = first["messages"][-1]["ts"]
    assert len(call(server, "conversations.history", channel=channel, latest=last)["messages"]) == 5


def test_a_rotated_token_ends_and_its_refresh_token_works_once(clock: StandingClock) -> None:
    app = SlackApp(rotation=True)
    app.clock = clock
    with SandboxServer(app) as server:
        assert call(server, "auth.test")["ok"]
        clock.advance(43_201)
        assert call(server, "auth.test")["error"] == "token_expired"
        given = {"client_id": app.client_id, "client_secret": app.client_secret, "grant_type": "refresh_token",
                 "refresh_token": app.refresh_token}  # fmt: skip
        new = call(server, "oauth.v2.access", None, **given)
        assert (new["expires_in"], call(server, "auth.test", new["access_token"])["ok"]) == (43_200, True)
        assert call(server, "oauth.v2.access", None, **given)["error"] == "invalid_refresh_token"
        wrong = {**given, "refresh_token": new["refresh_token"], "client_secret": "x"}
        assert call(server, "oauth.v2.access", None, **wrong)["error"] == "bad_client_secret"


# -- What it shows ---------------------------------------------------------------------------------------------------


def test_history_is_newest_first_and_has_no_replies_but_broadcast_ones(
    app: SlackApp, server: SandboxServer, ada: str, channel: str
) -> None:
    parent = app.write(ada, channel, "parent")
    app.write(ada, channel, "reply", thread=parent)
    app.write(ada, channel, "broadcast", thread=parent, broadcast=True)
    app.write(ada, channel, "next")
    messages = call(server, "conversations.history", channel=channel)["messages"]
    assert [one["text"] for one in messages] == ["next", "broadcast", "parent"]
    assert (messages[2]["reply_count"], messages[2]["thread_ts"]) == (2, parent)
    replies = call(server, "conversations.replies", channel=channel, ts=parent, limit=1)
    assert [one["text"] for one in replies["messages"]] == ["parent", "reply"]
    following = call(server, "conversations.replies", channel=channel, ts=parent, limit=1,
                     cursor=replies["response_metadata"]["next_cursor"])  # fmt: skip
    assert [one["text"] for one in following["messages"]] == ["parent", "broadcast"]
    assert following["has_more"] is False


def test_both_ends_of_a_time_are_excluded(app: SlackApp, server: SandboxServer, ada: str, channel: str) -> None:
    first, second, third = (app.write(ada, channel, name) for name in "abc")
    given = {"channel": channel, "oldest": first, "latest": third}
    assert [one["ts"] for one in call(server, "conversations.history", **given)["messages"]] == [second]
    inclusive = call(server, "conversations.history", **given, inclusive="true")["messages"]
    assert [one["ts"] for one in inclusive] == [third, second, first]


def test_a_deleted_message_is_absent_and_one_with_replies_a_tombstone(
    app: SlackApp, server: SandboxServer, ada: str, channel: str
) -> None:
    alone, parent = app.write(ada, channel, "alone"), app.write(ada, channel, "parent")
    app.write(ada, channel, "reply", thread=parent)
    app.delete(channel, alone)
    app.delete(channel, parent)
    (left,) = call(server, "conversations.history", channel=channel)["messages"]
    assert (left["subtype"], left["ts"]) == ("tombstone", parent)


def test_the_payload_of_metadata_must_be_asked_for(
    app: SlackApp, server: SandboxServer, ada: str, channel: str
) -> None:
    metadata = {"event_type": "onethread_reply", "event_payload": {"outbox_id": "t0ken"}}
    call(server, "chat.postMessage", channel=channel, text="Hi", metadata=json.dumps(metadata))
    shown = [
        call(server, "conversations.history", channel=channel, **more)["messages"][0]["metadata"]
        for more in ({}, {"include_all_metadata": "true"})
    ]
    assert shown == [{"event_type": "onethread_reply"}, metadata]
    assert app.state()["sent"][0]["token"] == "t0ken"


def test_a_file_is_a_login_page_without_the_token(app: SlackApp, server: SandboxServer, ada: str, channel: str) -> None:
    app.share_file(ada, channel, data=b"\x89PNG bytes")
    url = call(server, "conversations.history", channel=channel)["messages"][0]["files"][0]["url_private_download"]
    without = requests.get(url, timeout=10)
    assert (without.status_code, without.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    given = requests.get(url, headers={"Authorization": "Bearer xoxb-sandbox-token"}, timeout=10)
    assert given.content == b"\x89PNG bytes"


# -- Events ----------------------------------------------------------------------------------------------------------


def test_everything_that_people_do_arrives(app: SlackApp, inbox: Inbox, ada: str, channel: str) -> None:
    app.deliverer.hold()
    ts = app.write(ada, channel, "helo")
    reply = app.write(ada, channel, "a reply", thread=ts)
    app.edit(channel, reply, "an edited reply")
    app.preview(channel, reply, "https://a.example")
    app.react(ada, channel, ts)
    app.react(ada, channel, ts, remove=True)
    app.share_file(ada, channel)
    app.delete(channel, reply)
    app.deliverer.release(together=False)
    events = arrived(app, inbox)
    assert [(one["type"], one.get("subtype")) for one in events] == [
        ("message", None), ("message", None), ("message", "message_changed"), ("message", "message_changed"),
        ("reaction_added", None), ("reaction_removed", None), ("message", "file_share"), ("message", "message_deleted"),
    ]  # fmt: skip
    assert (events[1]["thread_ts"], events[1]["parent_user_id"]) == (ts, ada)
    assert events[2]["message"]["edited"]["user"] == ada
    assert events[3]["message"]["text"] == events[3]["previous_message"]["text"]
    assert events[7]["deleted_ts"] == reply
    assert all(body["is_ext_shared_channel"] for body in inbox.bodies())


def test_events_are_understood_by_the_mapping(app: SlackApp, inbox: Inbox, ada: str, channel: str) -> None:
    ts = app.write(ada, channel, "STOP")
    app.edit(channel, ts, "Stop it")
    app.start_delivery(inbox.url)
    app.flush()
    tap = TapSlack(config={})
    records = [
        record
        for _, body in inbox.posts
        for item in slack.split(body)
        for record in records_from_slack(item, tap.context(app.clock.now(), "delivery:1#0"))
    ]
    assert [type(one) for one in records] == [Message, Consent, MessageChange]


def test_what_our_app_posts_comes_back(
    app: SlackApp, server: SandboxServer, inbox: Inbox, ada: str, channel: str
) -> None:
    answer = call(server, "chat.postMessage", channel=channel, text="Hi")
    (event,) = arrived(app, inbox)
    assert (event["ts"], event["app_id"], event["user"]) == (answer["ts"], app.app_id, app.bot)
    assert event["bot_id"] == call(server, "auth.test")["bot_id"]


def test_an_event_that_is_not_taken_comes_three_times_more_and_says_so(
    app: SlackApp, inbox: Inbox, ada: str, channel: str
) -> None:
    inbox.answers = [500, 500]
    app.start_delivery(inbox.url)
    app.write(ada, channel, "x")
    app.flush()
    assert inbox.posts[0][0]["X-Slack-Retry-Num"] == "2"
    inbox.answers = [500] * 4
    app.write(ada, channel, "y")
    app.flush()
    assert len(inbox.posts) == 1
    assert app.state()["webhooks"]["given_up"] == 1


def test_the_same_message_can_come_under_another_event_id(app: SlackApp, inbox: Inbox, ada: str, channel: str) -> None:
    ts = app.write(ada, channel, "x")
    app.tell_again(channel, ts)
    first, second = arrived(app, inbox)
    assert first == second
    assert len({body["event_id"] for body in inbox.bodies()}) == 2
    assert not [headers for headers, _ in inbox.posts if "X-Slack-Retry-Num" in headers]


def test_a_shared_private_channel_gets_another_id(app: SlackApp, inbox: Inbox, server: SandboxServer, ada: str) -> None:
    old = app.add_channel("support", private=True)
    app.write(ada, old, "before")
    new = app.share_channel(old)
    event = arrived(app, inbox)[-1]
    assert (event["type"], event["old_channel_id"], event["new_channel_id"]) == ("channel_id_changed", old, new)
    assert call(server, "conversations.history", channel=old)["error"] == "channel_not_found"
    assert [one["text"] for one in call(server, "conversations.history", channel=new)["messages"]] == ["before"]


def test_a_callback_that_does_not_answer_the_challenge_is_not_connected(app: SlackApp, inbox: Inbox) -> None:
    with pytest.raises(RuntimeError, match="challenge"):
        app.connect(inbox.url.removesuffix("/webhook"))


def test_the_scene_is_received_and_read_whole(
    app: SlackApp, server: SandboxServer, stores: Stores, state_url: str, run_tap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in, the real receiver and the tap, connected as the demo connects them."""
    values = app.environment(server.url)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with running_receiver(stores, {("slack", "default"): WebhookRoute(slack, slack.Settings())}) as receiver:
        app.connect(f"http://127.0.0.1:{receiver.port}")
        app.play()
        app.flush()
    config = {"state_url": state_url, "access_token": values["ONETHREAD_SLACK_ACCESS_TOKEN"],
              "api_url": values["ONETHREAD_SLACK_API_URL"],
              "trusted_teams": json.loads(values["ONETHREAD_SLACK_TRUSTED_TEAMS"])}  # fmt: skip
    tap = TapSlack(config=config)
    records = [one for one in run_tap(tap) if one["type"] == "RECORD"]
    messages = {one["record"]["message_key"]: one["record"] for one in records if one["stream"] == "messages"}
    inbound = [one for one in messages.values() if one["direction"] == "inbound"]
    changes = [one["record"] for one in records if one["stream"] == "message_changes"]
    assert len(messages) == sum(one["stream"] == "messages" for one in records)
    edits = {one["message_key"]: one["text"] for one in changes if one["change"] == "edit"}
    gone = {one["message_key"] for one in changes if one["change"] == "unsend"}
    words = [None if key in gone else edits.get(key, one["text"]) for key, one in messages.items() if one in inbound]
    heard = app.heard()
    assert sorted(map(str, words)) == sorted(str(one[1]) for one in heard)
    assert (len(heard), tap.missed, tap.repeats) == (9, 1, 1)
    assert all(one["handles"] for one in messages.values())
    assert {one["change"] for one in changes} == {"edit", "unsend", "react"}
    assert "consents" in {one["stream"] for one in records}
    verified = [one["record"] for one in records if one["stream"] == "evidence"]
    assert {one["strength"] for one in verified if one["method"] == "workspace_email"} == {"verified", "claimed"}
    assert app.state()["webhooks"]["dropped"] == 1


# -- Judges ----------------------------------------------------------------------------------------------------------


def ask_sdk(server: SandboxServer, calls: list[tuple[str, dict[str, Any]]], token: str = "xoxb-sandbox-token") -> Any:
    work = {"url": server.url, "token": token, "calls": [{"method": one, "arguments": given} for one, given in calls]}
    return ask_judge("slack", "slack_client.py", work)


@pytest.mark.slow
def test_slacks_sdk_reads_writes_and_pages(app: SlackApp, server: SandboxServer, ada: str, channel: str) -> None:
    parent = app.write(ada, channel, "parent")
    for number in range(5):
        app.write(ada, channel, f"reply {number}", thread=parent)
        app.write(ada, channel, f"message {number}")
    metadata = {"event_type": "onethread_reply", "event_payload": {"outbox_id": "t0ken"}}
    answers = ask_sdk(server, [
        ("auth_test", {}),
        ("chat_postMessage", {"channel": channel, "text": "Grüße <&>", "metadata": metadata, "thread_ts": parent}),
        ("pages", {"of": "conversations_history", "name": "messages", "channel": channel, "limit": 2}),
        ("pages", {"of": "users_conversations", "name": "channels", "limit": 1}),
        ("conversations_replies", {"channel": channel, "ts": parent, "include_all_metadata": True}),
        ("users_info", {"user": ada, "include_locale": True}),
        ("conversations_open", {"users": [ada]}),
    ])  # fmt: skip
    who, sent, history, channels, replies, user, opened = [one["ok"] for one in answers]
    assert who["team_id"] == app.team_id
    assert [one["text"] for one in history] == [*(f"message {number}" for number in (4, 3, 2, 1, 0)), "parent"]
    assert [one["id"] for one in channels] == [channel]
    assert (replies["messages"][-1]["ts"], replies["messages"][-1]["metadata"]) == (sent["ts"], metadata)
    assert user["user"]["profile"]["email"] == "ada@partner.example"
    assert opened["channel"]["id"] == app.open_direct(ada)


@pytest.mark.slow
def test_slacks_sdk_understands_the_refusals(app: SlackApp, server: SandboxServer, channel: str) -> None:
    app.scopes -= {"files:read"}
    app.per_minute["conversations.info"] = 1
    answers = ask_sdk(server, [
        ("conversations_history", {"channel": "C0NOWHERE1"}),
        ("files_info", {"file": "F0NOTHING1"}),
        ("conversations_info", {"channel": channel}),
        ("conversations_info", {"channel": channel}),
        ("conversations_history", {"channel": channel, "cursor": "mine"}),
    ])  # fmt: skip
    assert [one.get("error") for one in answers] == [
        "channel_not_found", "missing_scope", None, "ratelimited", "invalid_cursor",
    ]  # fmt: skip
    assert (answers[1]["needed"], answers[3]["status"], answers[3]["retry_after"]) == ("files:read", 429, "60")
    assert ask_sdk(server, [("auth_test", {})], "xoxb-wrong")[0]["error"] == "invalid_auth"


@pytest.mark.slow
def test_slacks_sdk_rotates_the_token_once(clock: StandingClock) -> None:
    app = SlackApp(rotation=True)
    app.clock = clock
    with SandboxServer(app) as server:
        given = {"client_id": app.client_id, "client_secret": app.client_secret, "refresh_token": app.refresh_token}
        rotated, again = ask_sdk(server, [("rotate", given), ("rotate", given)])
        assert rotated["ok"] == {"token": app.access_token, "refresh": app.refresh_token}
        assert again["error"] == "invalid_refresh_token"
        assert ask_sdk(server, [("auth_test", {})], app.access_token)[0]["ok"]["ok"] is True


@pytest.mark.slow
def test_slacks_sdk_and_ours_agree_on_signatures(app: SlackApp, inbox: Inbox, ada: str, channel: str) -> None:
    app.write(ada, channel, "Grüße")
    app.start_delivery(inbox.url)
    app.flush()
    ((headers, body),) = inbox.posts
    stamp, signature = headers["X-Slack-Request-Timestamp"], headers["X-Slack-Signature"]
    good = {"secret": app.signing_secret, "timestamp": stamp, "signature": signature, "body": body.decode()}
    cases = [good, {**good, "secret": "x"}, {**good, "body": good["body"] + " "}, {**good, "timestamp": "1772366400"}]
    now = str(int(time.time()))
    told = ask_judge("slack", "slack_signatures.py", {
        "verify": cases, "sign": [{"secret": "s3cret", "timestamp": now, "body": good["body"]}],
    })  # fmt: skip
    assert told["verify"] == [True, False, False, False]
    signed = {"x-slack-signature": told["sign"][0], "x-slack-request-timestamp": now}
    settings = slack.Settings.model_validate({"signing_secret": "other", "previous_signing_secret": "s3cret"})
    slack.verify(settings, WebhookRequest(headers=signed, body=body))


NEWER = {"app_id", "metadata", "edited", "hidden"}
"""Fields of messages that the document of 2021 does not know."""


@pytest.mark.slow
def test_slacks_own_document_finds_nothing_wrong_with_what_is_shown(
    app: SlackApp, server: SandboxServer, ada: str, channel: str
) -> None:
    folder = os.environ.get("ONETHREAD_SPECS")
    if not folder:
        pytest.skip("set ONETHREAD_SPECS to the folder of API documents")
    parent = app.write(ada, channel, "parent")
    app.write(ada, channel, "reply", thread=parent)
    app.share_file(ada, channel)
    app.react(ada, channel, parent)
    app.preview(channel, parent, "https://a.example")
    posted = call(server, "chat.postMessage", channel=channel, text="Hi")
    app.open_direct(ada)
    shown = call(server, "conversations.history", channel=channel)["messages"]
    shown += call(server, "conversations.replies", channel=channel, ts=parent)["messages"]
    shown += [one["event"] for one in (event.part for event in app.deliverer.events) if "subtype" not in one["event"]]
    messages = [{name: value for name, value in one.items() if name not in NEWER} for one in shown if "text" in one]
    for one in messages:
        for name in ("channel", "event_ts", "channel_type"):
            one.pop(name, None)
    conversations = call(server, "users.conversations", types="public_channel,im")["channels"]
    posted["message"] = {name: value for name, value in posted["message"].items() if name not in NEWER}
    objects = [
        *({"schema": "objs_message", "value": one} for one in messages),
        *({"schema": "objs_conversation", "value": one} for one in conversations),
        *({"schema": "objs_user", "value": call(server, "users.info", user=one)["user"]} for one in (ada, app.bot)),
        {"schema": "/auth.test", "value": call(server, "auth.test")},
        {"schema": "/chat.postMessage", "value": posted},
    ]
    document = Path(folder) / "slack" / "slack_web_openapi_v2_without_examples.json"
    work = {"document": str(document), "objects": objects}
    assert [one for one in ask_judge("slack", "slack_document.py", work) if one] == []
    assert len(messages) >= 6
    spoilt = copy.deepcopy(objects[0])
    spoilt["value"]["ts"] = float(parent)
    wrong = [
        spoilt,
        {"schema": "objs_conversation", "value": {"id": "x"}},
        {"schema": "/auth.test", "value": {"ok": True}},
    ]
    assert all(ask_judge("slack", "slack_document.py", {**work, "objects": wrong}))


def test_each_rule_has_a_source_and_says_who_confirms_it() -> None:
    assert {rule.kind for rule in SlackApp.rules} <= {"documented", "observed"}
    assert all(rule.source for rule in SlackApp.rules)
    assert {rule.judge for rule in SlackApp.rules} == {"slack_sdk", "openapi", None}


def test_the_page_names_every_option_and_every_method() -> None:
    page = (ROOT / "sandbox" / "slack.md").read_text()
    options = set(inspect.signature(Workspace.__init__).parameters) - {"self"}
    methods = set(SlackApp().per_minute)
    assert sorted(name for name in {*options, *methods} if not re.search(rf"`{re.escape(name)}`", page)) == []


def test_an_event_that_is_late_or_lost_is_counted(app: SlackApp, inbox: Inbox, ada: str, channel: str) -> None:
    app.start_delivery(inbox.url)
    app.write(ada, channel, "late", delivery=Delivery(delay_seconds=0.05))
    app.write(ada, channel, "lost", delivery=Delivery(drop=True))
    app.write(ada, channel, "on time")
    app.flush()
    assert [body["event"]["text"] for body in inbox.bodies()] == ["on time", "late"]
    assert [one["dropped"] for one in app.state()["customer_messages"]] == [False, True, False]
