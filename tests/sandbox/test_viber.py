"""The stand-in of Viber: what it refuses, tells and counts; Viber's own SDK as a judge of it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
import requests

from mappings.errors import SignatureError
from mappings.settings import tap_config_from_environment
from sandbox.base import SandboxServer
from sandbox.deliverer import Delivery
from sandbox.viber import ViberApp
from sandbox.viber.account import MEDIA_SECONDS
from sandbox.viber.people import PICTURE
from sandbox.viber.rules import RULES, SDK
from stores.database import Stores
from taps.viber import TapViber, ViberSettings
from taps.webhooks import viber
from taps.webhooks.items import WebhookRequest
from taps.webhooks.receiver import WebhookRoute
from tests.contract.webhook import running_receiver
from tests.judges.environment import ask_judge
from tests.sandbox.conftest import Inbox, StandingClock

Call = Callable[..., dict[str, Any]]
HOUR = 3600


@pytest.fixture
def app(clock: StandingClock) -> Iterator[ViberApp]:
    app = ViberApp(retry_seconds=(0.01, 0.02))
    app.clock = clock
    yield app
    app.stop()


@pytest.fixture
def server(app: ViberApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as server:
        app.media_url = server.url
        yield server


@pytest.fixture
def call(app: ViberApp, server: SandboxServer) -> Call:
    def made(name: str, token: str | None = None, **body: Any) -> dict[str, Any]:
        headers = {"X-Viber-Auth-Token": app.auth_token if token is None else token}
        answer = requests.post(f"{server.url}/pa/{name}", json=body, headers=headers, timeout=10)
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        return found

    return made


@pytest.fixture
def olena(app: ViberApp) -> str:
    return app.add_user("Olena", subscribed=True)


def send(call: Call, to: str, **message: Any) -> dict[str, Any]:
    return call("send_message", receiver=to, sender={"name": "Shop"}, **{"type": "text", "text": "Hi", **message})


def arrived(app: ViberApp, inbox: Inbox) -> list[dict[str, Any]]:
    """The events that the callback got, without the ping."""
    assert app.subscribe(inbox.url)
    app.flush()
    return [body for body in inbox.bodies() if body["event"] != "webhook"]


# -- the webhook -------------------------------------------------------------------------------------------------------


def test_set_webhook_pings_the_address_inside_the_call_with_garbage_for_a_time(
    app: ViberApp, call: Call, inbox: Inbox
) -> None:
    answer = call("set_webhook", url=inbox.url)
    assert answer["status"] == 0
    assert len(answer["event_types"]) == 6
    (ping,) = inbox.bodies()
    assert (ping["event"], ping["timestamp"]) == ("webhook", 4987034606158369000)
    assert call("get_account_info")["webhook"] == inbox.url


@pytest.mark.parametrize("status", [401, 404, 419, 500, 204])
def test_an_address_that_does_not_answer_200_is_not_taken(app: ViberApp, call: Call, inbox: Inbox, status: int) -> None:
    inbox.answers = [status]
    assert call("set_webhook", url=inbox.url) == {"status": 1, "status_message": "invalidUrl"}
    assert app.webhook == ""


def test_an_address_without_tls_or_without_a_server_is_not_taken(call: Call) -> None:
    assert call("set_webhook", url="http://hooks.shop.example/viber")["status"] == 1
    assert call("set_webhook", url="http://127.0.0.1:1/viber")["status"] == 1
    assert call("set_webhook")["status"] == 4
    assert call("set_webhook", url="https://x.example", event_types="all")["status"] == 3


def test_an_empty_address_takes_the_webhook_away(app: ViberApp, call: Call, inbox: Inbox, olena: str) -> None:
    call("set_webhook", url=inbox.url)
    assert call("set_webhook", url="")["status"] == 0
    assert app.webhook == ""
    assert send(call, olena)["status"] == 10


def test_only_the_chosen_events_are_told_and_messages_always(
    app: ViberApp, call: Call, inbox: Inbox, olena: str
) -> None:
    assert call("set_webhook", url=inbox.url, event_types=["seen"])["event_types"] == ["seen"]
    app.open_chat(olena)
    app.text(olena, "Hello")
    app.unsubscribe(olena)
    app.flush()
    assert [body["event"] for body in inbox.bodies()] == ["webhook", "message"]


def test_everything_that_people_do_arrives_each_alone(app: ViberApp, inbox: Inbox, olena: str) -> None:
    everything(app, olena)
    events = arrived(app, inbox)
    assert [event["event"] for event in events if event["event"] != "delivered"] == [
        "conversation_started", "subscribed", *["message"] * 8, "unsubscribed",
    ]  # fmt: skip
    kinds = [event["message"]["type"] for event in events if event["event"] == "message"]
    assert kinds == ["text", "url", "picture", "video", "file", "contact", "location", "sticker"]
    own = {event["message_token"] for event in events if event["event"] == "message"}
    assert {event["message_token"] for event in events if event["event"] == "delivered"} == own
    assert all(2**53 < token < 2**63 for token in own)
    assert "user" not in events[-1]
    assert events[-1]["user_id"] == olena


def everything(app: ViberApp, user: str) -> None:
    """All that people can do, in order."""
    app.open_chat(user, "summer")
    app.subscribe_user(user)
    app.text(user, "Добрий день 😀")
    app.url(user, "https://shop.example/")
    app.picture(user, "this one")
    app.video(user)
    app.file(user, "invoice.pdf")
    app.contact(user, "Olena", "+12025550161")
    app.location(user, 50.45, 30.52)
    app.sticker(user)
    app.unsubscribe(user)


def test_a_body_is_signed_as_its_bytes_and_not_escaped(app: ViberApp, inbox: Inbox, olena: str) -> None:
    app.text(olena, "Добрий день 😀")
    arrived(app, inbox)
    for headers, body in inbox.posts:
        expected = hmac.new(app.auth_token.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Viber-Content-Signature"] == expected
    assert "Добрий день 😀".encode() in inbox.posts[1][1]


def test_what_is_not_taken_comes_again_and_after_six_tries_is_given_up(app: ViberApp, inbox: Inbox, olena: str) -> None:
    app.event_types = ()
    app.text(olena, "late")
    app.text(olena, "lost", delivery=Delivery(delay_seconds=0.5))
    inbox.answers = [200, 500, 503, 200, *[500] * 6]
    assert [event["message"]["text"] for event in arrived(app, inbox)] == ["late"]
    rows = app.state()["customer_messages"]
    assert [(row["attempts"], row["accepted"], row["given_up"]) for row in rows] == [(3, 1, False), (6, 0, True)]
    assert [words for _, words, _ in app.heard()] == ["late"]


def test_a_repeat_is_posted_twice_and_a_lost_callback_never(app: ViberApp, inbox: Inbox, olena: str) -> None:
    app.event_types = ()
    app.text(olena, "twice", delivery=Delivery(duplicate=1))
    app.text(olena, "never", delivery=Delivery(drop=True))
    assert [event["message"]["text"] for event in arrived(app, inbox)] == ["twice", "twice"]


# -- calls -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "wrong"])
@pytest.mark.parametrize("name", ["set_webhook", "get_account_info", "get_user_details", "get_online", "send_message"])
def test_without_a_good_token_every_call_is_status_2(call: Call, name: str, token: str) -> None:
    answer = call(name, token)
    assert (answer["status"], answer["status_message"]) == (2, "invalidAuthToken" if token else "missing_auth_token")


def test_the_token_may_be_in_the_body(app: ViberApp, call: Call) -> None:
    assert call("get_account_info", "", auth_token=app.auth_token)["status"] == 0


def test_details_of_a_user_are_told_twice_in_twelve_hours(call: Call, clock: StandingClock, olena: str) -> None:
    assert [call("get_user_details", id=olena)["status"] for _ in range(3)] == [0, 0, 12]
    clock.advance(12 * HOUR)
    assert call("get_user_details", id=olena)["user"]["language"] == "uk"
    assert call("get_user_details", id="nobody")["status"] == 5


def test_who_is_online_is_told_of_at_most_a_hundred(call: Call, olena: str) -> None:
    users = call("get_online", ids=[olena, "nobody"])["users"]
    assert [one["online_status"] for one in users] == [0, 4]
    assert [call("get_online", ids=ids)["status"] for ids in ([], ["x"] * 101, "x")] == [3, 3, 3]


def test_a_file_is_had_without_a_token_for_an_hour(
    app: ViberApp, server: SandboxServer, clock: StandingClock, olena: str
) -> None:
    app.picture(olena)
    url = app.deliverer.events[0].part["message"]["media"]
    assert requests.get(url, timeout=10).content == PICTURE
    clock.advance(MEDIA_SECONDS)
    assert requests.get(url, timeout=10).status_code == 403
    assert requests.get(f"{server.url}/media/none", timeout=10).status_code == 403


def test_a_send_is_delivered_then_seen_and_its_tracking_data_comes_back(
    app: ViberApp, call: Call, inbox: Inbox, olena: str
) -> None:
    app.subscribe(inbox.url)
    token = send(call, olena, tracking_data="t0ken")["message_token"]
    assert app.see(olena) == 1
    app.fail(token)
    app.text(olena, "Thanks")
    app.flush()
    told = [(body["event"], body["message_token"]) for body in inbox.bodies()[1:4]]
    assert told == [("delivered", token), ("seen", token), ("failed", token)]
    assert inbox.bodies()[4]["message"]["tracking_data"] == "t0ken"


def test_only_subscribers_get_something_and_writing_subscribes(app: ViberApp, call: Call, inbox: Inbox) -> None:
    app.subscribe(inbox.url)
    taras = app.add_user("Taras")
    app.open_chat(taras)
    assert [send(call, taras)["status"], send(call, "nobody")["status"]] == [6, 5]
    app.text(taras, "Hello")
    assert send(call, taras)["status"] == 0
    app.unsubscribe(taras)
    assert send(call, taras)["status"] == 6


def test_a_hundred_messages_an_hour_without_an_answer_are_the_limit(
    app: ViberApp, call: Call, inbox: Inbox, clock: StandingClock, olena: str
) -> None:
    app.subscribe(inbox.url)
    app.users[olena].unanswered = [clock.epoch()] * 99
    assert [send(call, olena)["status"] for _ in range(2)] == [0, 12]
    app.text(olena, "an answer")
    assert send(call, olena)["status"] == 0
    app.users[olena].unanswered = [clock.epoch()] * 100
    clock.advance(HOUR)
    assert send(call, olena)["status"] == 0


def test_the_same_send_twice_arrives_twice(app: ViberApp, call: Call, inbox: Inbox, olena: str) -> None:
    app.subscribe(inbox.url)
    tokens = {send(call, olena, tracking_data="same")["message_token"] for _ in range(2)}
    assert len(tokens) == len(app.sent) == 2


WRONG: dict[str, tuple[int, dict[str, Any]]] = {
    "no receiver": (4, {"receiver": ""}),
    "no sender": (4, {"sender": None}),
    "a sender without a name": (4, {"sender": {}}),
    "a name of 29 characters": (3, {"sender": {"name": "x" * 29}}),
    "an unknown type": (3, {"type": "hologram"}),
    "no text": (4, {"text": ""}),
    "7001 characters": (3, {"text": "x" * 7001}),
    "tracking data of 4001 characters": (3, {"tracking_data": "x" * 4001}),
    "more than 30 kB": (3, {"keyboard": "x" * 31_000}),
    "a video without a size": (4, {"type": "video", "media": "https://x.example/a.mp4"}),
    "a video of 27 MB": (3, {"type": "video", "media": "https://x.example/a.mp4", "size": 27 * 2**20}),
    "a file name of 257 characters": (
        3,
        {"type": "file", "media": "https://x.example/a", "size": 1, "file_name": "x" * 257},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_refuses(app: ViberApp, call: Call, olena: str, name: str) -> None:
    status, wrong = WRONG[name]
    body = {"receiver": olena, "sender": {"name": "Shop"}, "type": "text", "text": "Hi", **wrong}
    assert call("send_message", **body)["status"] == status
    assert app.sent == {}


def test_what_is_no_call_has_a_real_status(server: SandboxServer) -> None:
    assert requests.post(f"{server.url}/pa/nothing", timeout=10).status_code == 404
    assert requests.get(f"{server.url}/pa/get_account_info", timeout=10).status_code == 405


# -- the scene ---------------------------------------------------------------------------------------------------------


def test_the_scene_ends_up_in_records_through_receiver_and_tap(
    stores: Stores, state_url: str, run_tap: Callable[[Any], list[dict[str, Any]]]
) -> None:
    app = ViberApp()
    with SandboxServer(app) as server:
        environment = app.environment(server.url)
        settings = viber.Settings.model_validate({"auth_token": environment["ONETHREAD_VIBER_AUTH_TOKEN"]})
        with running_receiver(stores, {("viber", "default"): WebhookRoute(viber, settings)}) as receiver:
            app.connect(f"http://127.0.0.1:{receiver.port}")
            app.play()
            app.flush()
            app.stop()
        config = tap_config_from_environment("tap-viber", ViberSettings, environment)
        written = run_tap(TapViber(config={**config, "state_url": state_url}))
    records = [(one["stream"], one["record"]) for one in written if one["type"] == "RECORD"]
    messages = [one for stream, one in records if stream == "messages"]
    spoken = sorted((one["text"] or "", datetime.fromisoformat(one["sent_at"]).timestamp()) for one in messages
                    if one["author_kind"] == "customer")  # fmt: skip
    assert spoken == sorted((words or "", at) for _, words, at in app.heard())
    assert len({one["message_key"] for one in messages}) == len(messages)
    assert all(one["media_key"] for row in messages for one in row["attachments"])
    evidence = [one for stream, one in records if stream == "evidence"]
    assert [(one["method"], one["strength"]) for one in evidence] == [("shared_phone", "claimed")]
    consents = [(one["status"], one["source"]) for stream, one in records if stream == "consents"]
    assert consents == [("opted_out", "keyword"), ("opted_out", "unsubscribed")]
    assert {one["profile"]["name"] for one in messages if one["profile"]} == {"Olena", "Taras", "Ivan"}


def test_a_receiver_that_does_not_know_the_token_is_not_connected(stores: Stores) -> None:
    app = ViberApp()
    settings = viber.Settings.model_validate({"auth_token": "another token"})
    with running_receiver(stores, {("viber", "default"): WebhookRoute(viber, settings)}) as receiver:
        with pytest.raises(RuntimeError, match="ping"):
            app.connect(f"http://127.0.0.1:{receiver.port}")
        assert receiver.stored.count() == 0


# -- the judge ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_vibers_own_sdk_takes_the_signature_and_understands_every_event(
    app: ViberApp, inbox: Inbox, olena: str
) -> None:
    everything(app, olena)
    app.subscribe(inbox.url)
    app.flush()
    posts = [
        {"body": body.decode(), "signature": headers["X-Viber-Content-Signature"]} for headers, body in inbox.posts
    ]
    judged = ask_judge("viber", "viber_client.py", {"url": "", "token": app.auth_token, "posts": posts})["posts"]
    assert {(one["good"], one["tampered"]) for one in judged} == {(True, False)}
    told = [one["request"] for one in judged if one["request"]]
    for body, request in zip(inbox.bodies()[1:], told, strict=True):
        assert (request["event"], request["at"]) == (body["event"], body["timestamp"])
        assert request.get("message_token", body["message_token"]) == body["message_token"]
    classes = {one["message"]["class"] for one in told if "message" in one}
    assert classes == {"TextMessage", "URLMessage", "PictureMessage", "VideoMessage", "FileMessage", "ContactMessage",
                       "LocationMessage", "StickerMessage"}  # fmt: skip
    assert {one["user"]["name"] for one in told if "user" in one} == {"Olena"}


@pytest.mark.slow
def test_our_verifier_and_vibers_own_agree_on_every_signature(app: ViberApp, olena: str) -> None:
    app.text(olena, "Добрий день 😀")
    body = json.dumps(app.deliverer.events[0].part, ensure_ascii=False).encode()
    good = hmac.new(app.auth_token.encode(), body, hashlib.sha256).hexdigest()
    signatures = [good, good[:-1] + "x", good.upper(), "0" * 64, ""]
    posts = [{"body": body.decode(), "signature": one} for one in signatures]
    judged = ask_judge("viber", "viber_client.py", {"url": "", "token": app.auth_token, "posts": posts})["posts"]
    settings = viber.Settings.model_validate({"auth_token": app.auth_token})
    ours = []
    for signature in signatures:
        try:
            viber.verify(settings, WebhookRequest(headers={"x-viber-content-signature": signature}, body=body))
        except SignatureError:
            ours.append(False)
        else:
            ours.append(True)
    assert ours == [one["good"] for one in judged] == [True, False, False, False, False]


@pytest.mark.slow
def test_vibers_own_sdk_works_against_the_stand_in(
    app: ViberApp, server: SandboxServer, inbox: Inbox, olena: str
) -> None:
    stranger = app.add_user("Taras")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("set_webhook", {"url": inbox.url, "webhook_events": ["delivered", "seen"]}),
        ("get_account_info", {}),
        ("get_user_details", {"user_id": olena}),
        ("get_online", {"ids": [olena]}),
        ("send", {"to": olena, "type": "text", "text": "Hi"}),
        ("send", {"to": olena, "type": "picture", "text": "look", "media": "https://x.example/a.jpg"}),
        ("send", {"to": stranger, "type": "text", "text": "Hi"}),
        ("unset_webhook", {}),
    ]
    work = {"url": server.url, "token": app.auth_token,
            "calls": [{"call": name, "arguments": given} for name, given in calls]}  # fmt: skip
    answers = ask_judge("viber", "viber_client.py", work)["calls"]
    assert answers[0] == {"ok": ["delivered", "seen"]}
    assert answers[1]["ok"]["webhook"] == inbox.url
    assert answers[2]["ok"]["name"] == "Olena"
    assert [answers[4]["ok"][0], answers[5]["ok"][0]] == list(app.sent)
    assert "status: 6" in answers[6]["error"]
    assert answers[7] == {"error": "'event_types'"}  # its unset_webhook wants what the answer to an empty url lacks
    assert app.webhook == ""
    wrong = ask_judge("viber", "viber_client.py", {**work, "token": "wrong", "calls": work["calls"][:1]})["calls"]
    assert "status: 2" in wrong[0]["error"]


def test_every_rule_has_a_source_and_names_only_judges_that_there_are() -> None:
    assert {rule.judge for rule in RULES} == {None, SDK}
    assert {rule.kind for rule in RULES} == {"documented", "observed", "assumed"}
    assert all(rule.source for rule in RULES)
