"""The stand-in of LINE: what it refuses, tells and counts; LINE's own SDK and documents as judges of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mappings.errors import SignatureError
from mappings.from_line.access import asserted_form
from mappings.settings import tap_config_from_environment
from sandbox.base import SandboxServer
from sandbox.deliverer import Delivery
from sandbox.line import LineApp
from sandbox.line.people import PICTURE
from sandbox.line.rules import OPENAPI, RULES, SDK
from sandbox.meta import TokenBucket
from stores.database import Stores
from taps.line import LineSettings, TapLine
from taps.webhooks import line
from taps.webhooks.items import WebhookRequest
from taps.webhooks.receiver import WebhookRoute
from tests.contract.webhook import running_receiver
from tests.judges.environment import ask_judge
from tests.sandbox.conftest import Inbox, StandingClock

HEADERS = {"Authorization": "Bearer sandbox-access-token"}
SPECS = Path(os.environ.get("ONETHREAD_SPECS", "")) / "line"
Call = Callable[..., requests.Response]


class RecordedLineApp(LineApp):
    """The stand-in with all that was said to it and by it, for the judges."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.exchanges: list[dict[str, Any]] = []

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        data = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(data)
        headers = {name[5:].replace("_", "-").title(): value for name, value in environ.items() if name[:5] == "HTTP_"}
        headers["Content-Type"] = environ.get("CONTENT_TYPE", "")
        exchange = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"],
                    "query": environ["QUERY_STRING"], "headers": headers, "body": data.decode()}  # fmt: skip

        def start(status: str, answer_headers: Any, *rest: Any) -> Any:
            exchange.update(status=int(status[:3]), answer_headers=dict(answer_headers))
            return start_response(status, answer_headers, *rest)

        answer = b"".join(super().__call__(environ, start))
        self.exchanges.append({**exchange, "answer": answer.decode("latin-1")})
        return [answer]


@pytest.fixture
def app(clock: StandingClock) -> Iterator[RecordedLineApp]:
    app = RecordedLineApp(retry_seconds=(0.01, 0.02))
    app.clock = clock
    yield app
    app.stop()


@pytest.fixture
def server(app: RecordedLineApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as server:
        yield server


@pytest.fixture
def call(server: SandboxServer) -> Call:
    def made(method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> requests.Response:
        own = HEADERS if headers is None else headers
        return requests.request(method, server.url + path, headers=own, timeout=10, **more)

    return made


@pytest.fixture
def yuki(app: RecordedLineApp) -> str:
    return app.add_user("Yuki")


@pytest.fixture
def key(app: RecordedLineApp) -> str:
    """A private key whose public part is registered as ``kid-1``."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = made.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    app.assertion_keys["kid-1"] = public.decode()
    return str(jwt.algorithms.RSAAlgorithm.to_jwk(made))


def push(call: Call, to: str, *texts: str, **headers: str) -> requests.Response:
    messages = [{"type": "text", "text": text} for text in texts]
    return call("POST", "/v2/bot/message/push", {**HEADERS, **headers}, json={"to": to, "messages": messages})


def arrived(app: LineApp, inbox: Inbox) -> list[dict[str, Any]]:
    """The events that the callback got."""
    app.set_endpoint(inbox.url)
    app.flush()
    return [event for body in inbox.bodies() for event in body["events"]]


# -- webhooks ----------------------------------------------------------------------------------------------------------


def test_everything_that_people_do_arrives(app: RecordedLineApp, inbox: Inbox, yuki: str) -> None:
    everything(app, yuki)
    events = arrived(app, inbox)
    assert [event["type"] for event in events] == [
        "follow", *["message"] * 10, "unsend", "postback", "beacon", "accountLink", "accountLink", "join", "message",
        "message", "messageEdited", "unfollow",
    ]  # fmt: skip
    kinds = [event["message"]["type"] for event in events if event["type"] == "message"]
    assert kinds == ["text", "text", "image", "image", "video", "audio", "file", "location", "sticker", "sticker",
                     "text", "text"]  # fmt: skip
    assert len({event["webhookEventId"] for event in events}) == len(events)
    assert all(len(event["webhookEventId"]) == 26 for event in events)
    assert [event["type"] for event in events if "replyToken" not in event] == ["unsend", "accountLink", "unfollow"]
    assert events[2]["message"]["quotedMessageId"] == events[1]["message"]["id"]
    assert "userId" not in events[-3]["source"]
    assert events[-2]["message"]["id"] == events[-4]["message"]["id"]


def everything(app: LineApp, yuki: str) -> None:
    """All that people can do, in order."""
    ken = app.add_user("Ken")
    app.deliverer.hold()
    app.follow(yuki)
    first = app.text(yuki, "荷物はいつ届きますか? 😀")
    second = app.text(yuki, "this one", reply_to=first)
    app.image(yuki)
    app.image_elsewhere(yuki, "https://pictures.example/a.jpg")
    app.video(yuki)
    app.audio(yuki)
    app.file(yuki, "invoice.pdf")
    app.location(yuki, 35.68, 139.74)
    app.sticker(yuki)
    app.sticker(yuki, "Thank you")
    app.unsend(yuki, second)
    app.postback(yuki, "action=buy")
    app.beacon(yuki)
    assert app.log_in(yuki, app.issue_link_token(yuki), "x" * 10) == "ok"
    assert app.log_in(yuki, app.issue_link_token(ken), "x" * 10) == "failed"
    group = app.open_group(yuki, ken)
    typo = app.text(yuki, "helo", group=group)
    app.text(ken, "hi", group=group, desktop=True)
    app.edit(yuki, typo, "hello")
    app.unfollow(yuki)
    app.deliverer.release(together=False)


def test_a_body_is_signed_as_its_bytes_and_not_escaped(app: RecordedLineApp, inbox: Inbox, yuki: str) -> None:
    app.text(yuki, "荷物 😀")
    arrived(app, inbox)
    ((headers, body),) = inbox.posts
    digest = hmac.new(app.channel_secret.encode(), body, hashlib.sha256).digest()
    assert headers["X-Line-Signature"] == base64.b64encode(digest).decode()
    assert "荷物 😀".encode() in body


def test_events_held_back_come_in_one_post(app: RecordedLineApp, inbox: Inbox, yuki: str) -> None:
    app.deliverer.hold()
    for word in ("one", "two", "three"):
        app.text(yuki, word)
    app.deliverer.release()
    assert len(arrived(app, inbox)) == 3
    assert len(inbox.posts) == 1


def test_what_is_not_taken_is_lost_as_long_as_redelivery_is_off(app: RecordedLineApp, inbox: Inbox, yuki: str) -> None:
    inbox.answers = [500]
    app.text(yuki, "lost")
    assert arrived(app, inbox) == []
    (written,) = app.state()["customer_messages"]
    assert (written["attempts"], written["accepted"], written["given_up"]) == (1, 0, True)
    assert app.heard() == []


def test_with_redelivery_it_comes_again_marked_under_the_same_id(clock: StandingClock, inbox: Inbox) -> None:
    app = LineApp(redelivery=True, retry_seconds=(0.01,))
    app.clock = clock
    try:
        inbox.answers = [500, 503]
        app.text(app.add_user("Yuki"), "here")
        (event,) = arrived(app, inbox)
    finally:
        app.stop()
    told = app.deliverer.events[0].part
    assert event["deliveryContext"] == {"isRedelivery": True}
    assert (event["webhookEventId"], event["timestamp"]) == (told["webhookEventId"], told["timestamp"])
    assert len(app.heard()) == 1


def test_only_a_friend_can_write_and_only_a_member_in_a_group(app: RecordedLineApp, yuki: str) -> None:
    ken = app.add_user("Ken", friend=False)
    group = app.open_group(yuki)
    app.unfollow(yuki)
    for who, where in ((yuki, None), (ken, None), (ken, group)):
        with pytest.raises(ValueError, match="only a"):
            app.text(who, "x", group=where)


def test_only_a_text_in_a_group_can_be_edited_and_only_by_its_author(app: RecordedLineApp, yuki: str) -> None:
    ken = app.add_user("Ken")
    group = app.open_group(yuki, ken)
    alone, picture = app.text(yuki, "x"), app.image(yuki, group=group)
    for message_id in (alone, picture):
        with pytest.raises(ValueError, match="only a text in a group"):
            app.edit(yuki, message_id, "y")
    with pytest.raises(ValueError, match="another's"):
        app.edit(ken, alone, "y")


def test_the_verify_button_sends_no_events_or_once_invented_ones(app: RecordedLineApp) -> None:
    assert json.loads(app.verify_button()) == {"destination": app.bot_id, "events": []}
    tokens = [event["replyToken"] for event in json.loads(app.verify_button(of_the_past=True))["events"]]
    assert tokens == ["0" * 32, "f" * 32]


def test_the_webhook_address_is_read_set_and_tested(app: RecordedLineApp, call: Call, inbox: Inbox) -> None:
    path = "/v2/bot/channel/webhook/endpoint"
    assert call("GET", path).json() == {"endpoint": "", "active": False}
    assert call("PUT", path, json={"endpoint": "http://shop.example/hook"}).status_code == 400
    assert call("PUT", path, json={"endpoint": "https://x.example/" + "a" * 500}).status_code == 400
    assert call("PUT", path, json={"endpoint": inbox.url}).json() == {}
    assert call("GET", path).json() == {"endpoint": inbox.url, "active": True}
    assert call("POST", "/v2/bot/channel/webhook/test", json={}).json()["success"] is True
    assert inbox.bodies() == [{"destination": app.bot_id, "events": []}]
    inbox.answers = [500]
    assert call("POST", "/v2/bot/channel/webhook/test", json={}).json()["statusCode"] == 500


# -- access tokens -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "sandbox-access-token"}])
def test_without_a_good_token_every_call_is_401(call: Call, yuki: str, headers: dict[str, str]) -> None:
    answers = [call("GET", "/v2/bot/info", headers), call("GET", f"/v2/bot/profile/{yuki}", headers)]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json()["message"].startswith("Authentication failed")


def test_a_stateless_token_is_good_for_fifteen_minutes(app: RecordedLineApp, call: Call, clock: StandingClock) -> None:
    form = {"grant_type": "client_credentials", "client_id": app.channel_id, "client_secret": app.channel_secret}
    answer = call("POST", "/oauth2/v3/token", {}, data=form).json()
    bearer = {"Authorization": f"Bearer {answer['access_token']}"}
    assert answer["expires_in"] == 899
    assert call("GET", "/v2/bot/info", bearer).status_code == 200
    clock.advance(901)
    assert call("GET", "/v2/bot/info", bearer).status_code == 401


def test_a_token_of_kind_v2_1_wants_a_signed_assertion_and_lasts_as_long_as_wanted(
    app: RecordedLineApp, call: Call, clock: StandingClock, key: str
) -> None:
    form = asserted_form(app.channel_id, key, "kid-1", clock.now(), timedelta(days=30))
    answer = call("POST", "/oauth2/v2.1/token", {}, data=form).json()
    assert (answer["expires_in"], answer["key_id"]) == (30 * 86_400, "kid-1")
    verified = call("GET", "/oauth2/v2.1/verify", {}, params={"access_token": answer["access_token"]}).json()
    assert verified["client_id"] == app.channel_id
    call("POST", "/oauth2/v2.1/revoke", {}, data={"access_token": answer["access_token"]})
    assert call("GET", "/v2/bot/info", {"Authorization": f"Bearer {answer['access_token']}"}).status_code == 401


def test_at_most_thirty_tokens_of_kind_v2_1_live(
    app: RecordedLineApp, call: Call, clock: StandingClock, key: str
) -> None:
    form = asserted_form(app.channel_id, key, "kid-1", clock.now(), timedelta(days=1))
    statuses = [call("POST", "/oauth2/v2.1/token", {}, data=form).status_code for _ in range(31)]
    assert statuses == [200] * 30 + [400]


def _refused_forms(app: LineApp, key: str, clock: StandingClock) -> dict[str, tuple[str, dict[str, str]]]:
    good = asserted_form(app.channel_id, key, "kid-1", clock.now(), timedelta(days=1))
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    stranger = str(jwt.algorithms.RSAAlgorithm.to_jwk(other))

    def assertion(**claims: Any) -> dict[str, str]:
        signing = jwt.PyJWK(json.loads(key), algorithm="RS256").key
        now = int(clock.epoch())
        whole = {"iss": app.channel_id, "sub": app.channel_id, "aud": "https://api.line.me/", "exp": now + 60,
                 "token_exp": 60, **claims}  # fmt: skip
        return {**good, "client_assertion": jwt.encode(whole, signing, algorithm="RS256", headers={"kid": "kid-1"})}

    return {
        "wrong secret": ("v3", {"grant_type": "client_credentials", "client_id": app.channel_id, "client_secret": "x"}),
        "wrong grant": ("v3", {"grant_type": "password", "client_id": app.channel_id,
                               "client_secret": app.channel_secret}),
        "another key": ("v2.1", asserted_form(app.channel_id, stranger, "kid-1", clock.now(), timedelta(days=1))),
        "unknown key id": ("v2.1", asserted_form(app.channel_id, key, "kid-2", clock.now(), timedelta(days=1))),
        "another channel": ("v2.1", asserted_form("99", key, "kid-1", clock.now(), timedelta(days=1))),
        "too long": ("v2.1", asserted_form(app.channel_id, key, "kid-1", clock.now(), timedelta(days=31))),
        "no assertion": ("v2.1", {**good, "client_assertion": ""}),
        "wrong audience": ("v2.1", assertion(aud="https://api.line.me")),
        "expired": ("v2.1", assertion(exp=int(clock.epoch()) - 60)),
        "good for an hour": ("v2.1", assertion(exp=int(clock.epoch()) + 3600)),
        "another subject": ("v2.1", assertion(sub="99")),
        "wrong type": ("v2.1", {**good, "client_assertion_type": "saml"}),
    }  # fmt: skip


def test_a_wrong_request_for_a_token_is_400_with_a_code(
    app: RecordedLineApp, call: Call, clock: StandingClock, key: str
) -> None:
    for name, (version, form) in _refused_forms(app, key, clock).items():
        answer = call("POST", f"/oauth2/{version}/token", {}, data=form)
        assert (answer.status_code, set(answer.json())) == (400, {"error", "error_description"}), name
    assert app.issued == {}


# -- people and files --------------------------------------------------------------------------------------------------


def test_a_profile_is_told_of_friends_and_members(app: RecordedLineApp, call: Call, yuki: str) -> None:
    ken = app.add_user("Ken", friend=False, language=None, picture=False)
    group = app.open_group(yuki, ken)
    profile = call("GET", f"/v2/bot/profile/{yuki}").json()
    member = call("GET", f"/v2/bot/group/{group}/member/{ken}").json()
    assert (profile["displayName"], profile["language"]) == ("Yuki", "ja")
    assert member == {"userId": ken, "displayName": "Ken"}
    app.unfollow(yuki)
    paths = [f"profile/{yuki}", f"profile/{ken}", "profile/U1", f"group/{group}/member/U1", f"group/C1/member/{ken}"]
    assert [call("GET", f"/v2/bot/{path}").status_code for path in paths] == [404] * 5


def test_a_file_is_had_once_it_is_prepared_and_not_after_it_was_taken_back(
    app: RecordedLineApp, call: Call, yuki: str
) -> None:
    picture, film = app.image(yuki), app.video(yuki, prepared="processing")
    content = "/v2/bot/message/{}/content"
    answer = call("GET", content.format(picture))
    assert (answer.content, answer.headers["Content-Type"]) == (PICTURE, "image/png")
    assert call("GET", content.format(film)).status_code == 202
    assert call("GET", content.format(film) + "/transcoding").json() == {"status": "processing"}
    app.messages[film].prepared = "succeeded"
    assert call("GET", content.format(film)).status_code == 200
    app.unsend(yuki, picture)
    assert call("GET", content.format(picture)).status_code == 410
    assert call("GET", content.format(app.text(yuki, "no file"))).status_code == 404


def test_a_link_token_works_once_for_ten_minutes_for_its_user(
    app: RecordedLineApp, call: Call, clock: StandingClock, yuki: str
) -> None:
    ken = app.add_user("Ken")

    def issue() -> str:
        return str(call("POST", f"/v2/bot/user/{yuki}/linkToken").json()["linkToken"])

    once = issue()
    assert [app.log_in(yuki, once, "x" * 10) for _ in range(2)] == ["ok", "failed"]
    assert app.log_in(ken, issue(), "x" * 10) == "failed"
    late = issue()
    clock.advance(600)
    assert app.log_in(yuki, late, "x" * 10) == "failed"
    for nonce in ("x" * 9, "x" * 256):
        with pytest.raises(ValueError, match="10 to 255"):
            app.log_in(yuki, issue(), nonce)


def test_followers_are_listed_page_by_page_for_verified_accounts(app: RecordedLineApp, call: Call) -> None:
    people = [app.add_user(str(number)) for number in range(5)]
    app.unfollow(people[0])
    first = call("GET", "/v2/bot/followers/ids", params={"limit": 3}).json()
    rest = call("GET", "/v2/bot/followers/ids", params={"limit": 3, "start": first["next"]}).json()
    assert first["userIds"] + rest["userIds"] == people[1:]
    assert "next" not in rest
    app.verified = False
    assert call("GET", "/v2/bot/followers/ids").status_code == 403


# -- sending -----------------------------------------------------------------------------------------------------------


def test_the_same_retry_key_again_is_409_with_the_first_answer(app: RecordedLineApp, call: Call, yuki: str) -> None:
    headers = {"X-Line-Retry-Key": str(uuid.uuid4())}
    first, again = (push(call, yuki, "Hi", **headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 409)
    assert again.json()["sentMessages"][0]["id"] == first.json()["sentMessages"][0]["id"]
    assert again.headers["X-Line-Accepted-Request-Id"]
    assert len(app.sent) == 1


def test_who_blocked_the_bot_gets_nothing_though_the_answer_is_200(app: RecordedLineApp, call: Call, yuki: str) -> None:
    app.unfollow(yuki)
    assert push(call, yuki, "Hi").status_code == 200
    assert app.state()["sent"][0]["arrived"] is False


def test_a_reply_token_works_once_for_a_minute_and_takes_no_retry_key(
    app: RecordedLineApp, call: Call, clock: StandingClock, yuki: str
) -> None:
    def reply(token: str, **headers: str) -> int:
        body = {"replyToken": token, "messages": [{"type": "text", "text": "Hi"}]}
        return call("POST", "/v2/bot/message/reply", {**HEADERS, **headers}, json=body).status_code

    app.text(yuki, "one")
    app.text(yuki, "two")
    first, second = (event.part["replyToken"] for event in app.deliverer.events)
    assert reply(first, **{"X-Line-Retry-Key": str(uuid.uuid4())}) == 400
    assert [reply(first), reply(first), reply("x")] == [200, 400, 400]
    clock.advance(61)
    assert reply(second) == 400


TEXT = {"type": "text", "text": "x"}
WRONG: dict[str, Any] = {
    "no messages": [],
    "six messages": [TEXT] * 6,
    "an unknown type": [{"type": "nope"}],
    "no text": [{"type": "text"}],
    "an empty text": [{"type": "text", "text": ""}],
    "5001 characters": [{"type": "text", "text": "x" * 5001}],
    "2501 emojis": [{"type": "text", "text": "😀" * 2501}],
    "an image without TLS": [{"type": "image", "originalContentUrl": "http://x.example/a", "previewImageUrl": "x"}],
    "no list": "hello",
}


@pytest.mark.parametrize("name", WRONG)
def test_it_refuses(app: RecordedLineApp, call: Call, yuki: str, name: str) -> None:
    answer = call("POST", "/v2/bot/message/push", json={"to": yuki, "messages": WRONG[name]})
    assert (answer.status_code, list(answer.json()["details"][0])) == (400, ["message", "property"])
    assert app.sent == []


def test_a_push_wants_json_a_known_reader_a_uuid_and_a_quota(app: RecordedLineApp, call: Call, yuki: str) -> None:
    path = "/v2/bot/message/push"
    assert call("POST", path, data="x").status_code == 415
    assert call("POST", path, {**HEADERS, "Content-Type": "application/json"}, data="x").status_code == 400
    assert push(call, "U1", "Hi").status_code == 400
    assert push(call, yuki, "Hi", **{"X-Line-Retry-Key": "1"}).status_code == 400
    app.monthly_quota = 1
    assert [push(call, yuki, "Hi").status_code for _ in range(2)] == [200, 429]
    assert call("GET", "/v2/bot/message/quota").json() == {"type": "limited", "value": 1}
    assert call("GET", "/v2/bot/message/quota/consumption").json() == {"totalUsage": 1}


def test_more_calls_than_the_endpoint_allows_are_429(app: RecordedLineApp, call: Call) -> None:
    app.calls = TokenBucket(2, 2)
    assert [call("GET", "/v2/bot/info").status_code for _ in range(3)] == [200, 200, 429]
    assert call("GET", "/v2/bot/message/quota").status_code == 200


def test_an_unknown_path_is_404_in_lines_words_and_every_answer_has_a_request_id(call: Call) -> None:
    answer = call("GET", "/v2/bot/nothing")
    assert (answer.status_code, answer.json()) == (404, {"message": "Not found"})
    assert answer.headers["X-Line-Request-Id"]


# -- the scene ---------------------------------------------------------------------------------------------------------


def test_the_scene_ends_up_in_records_through_receiver_and_tap(
    stores: Stores, state_url: str, run_tap: Callable[[Any], list[dict[str, Any]]]
) -> None:
    app = LineApp()
    with SandboxServer(app) as server:
        environment = app.environment(server.url)
        settings = line.Settings.model_validate({"channel_secret": environment["ONETHREAD_LINE_CHANNEL_SECRET"]})
        routes = {("line", "default"): WebhookRoute(line, settings)}
        with running_receiver(stores, routes) as receiver:
            app.connect(f"http://127.0.0.1:{receiver.port}")
            app.play()
            app.flush()
            app.stop()
        config = tap_config_from_environment("tap-line", LineSettings, environment)
        written = run_tap(TapLine(config={**config, "state_url": state_url}))
    records = [(one["stream"], one["record"]) for one in written if one["type"] == "RECORD"]
    messages = {one["message_key"]: one for stream, one in records if stream == "messages"}
    changes = {(one["change"], one["text"]) for stream, one in records if stream == "message_changes"}
    spoken = sorted((one["channel"], datetime_of(one["sent_at"])) for one in messages.values()
                    if one["author_kind"] == "customer")  # fmt: skip
    assert spoken == sorted((channel, at) for channel, _, at in app.heard())
    assert len(messages) == len([one for stream, one in records if stream == "messages"])
    assert changes == {("unsend", None), ("edit", "Is your shop open on Sunday?")}
    evidence = [one for stream, one in records if stream == "evidence"]
    assert [one["strength"] for one in evidence if one["method"] == "account_link"] == ["verified"]
    assert {one["profile"]["name"] for one in evidence if one["method"] == "profile"} == {"Yuki", "Ken", "Mei"}
    assert {one["purpose"] for stream, one in records if stream == "consents" and one["status"] == "opted_out"} == {
        "service", "promotional",
    }  # fmt: skip
    assert [one["media_key"] is not None for row in messages.values() for one in row["attachments"]] == [True]
    words = {text for _, text, _ in app.heard() if text}
    assert "Is your shop open on Sunday?" in words
    assert not any("card number" in word for word in words)


def datetime_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# -- judges ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_lines_own_sdk_takes_the_signature_and_understands_every_event(
    app: RecordedLineApp, inbox: Inbox, yuki: str
) -> None:
    everything(app, yuki)
    question = app.text(app.add_user("Mei"), "again?")
    app.redeliver(question)
    arrived(app, inbox)
    bodies = [*(body for _, body in inbox.posts), app.verify_button()]
    posts = [{"body": body.decode(), "signature": _signature(app, body)} for body in bodies]
    judged = ask_judge("line", "line_webhooks.py", {"secret": app.channel_secret, "posts": posts})
    assert {(one["good"], one["tampered"]) for one in judged} == {(True, False)}
    events = [event for one in judged for event in one["events"]]
    assert [event["class"] for event in events if event["class"].startswith("Unknown")] == []
    assert [event["type"] for event in events][:-2] == [event["type"] for event in app_events(inbox)][:-2]
    assert {event["message"]["class"] for event in events if "message" in event} == {
        "TextMessageContent", "ImageMessageContent", "VideoMessageContent", "AudioMessageContent",
        "FileMessageContent", "LocationMessageContent", "StickerMessageContent",
    }  # fmt: skip
    assert "MessageEditedEvent" in {event["class"] for event in events}
    assert [event["again"] for event in events[-2:]] == [False, True]
    assert events[-1]["id"] == events[-2]["id"]


def app_events(inbox: Inbox) -> list[dict[str, Any]]:
    return [event for body in inbox.bodies() for event in body["events"]]


def _signature(app: LineApp, body: bytes) -> str:
    return base64.b64encode(hmac.new(app.channel_secret.encode(), body, hashlib.sha256).digest()).decode()


@pytest.mark.slow
def test_our_verifier_and_lines_own_agree_on_every_signature(app: RecordedLineApp) -> None:
    app.text(app.add_user("Yuki"), "荷物 😀 1")
    body = app.compose([app.deliverer.events[0].part])
    good = _signature(app, body)
    signatures = [good, good[:-1] + "A", good.lower(), base64.b64encode(b"x" * 32).decode(), ""]
    posts = [{"body": body.decode(), "signature": one} for one in signatures]
    judged = ask_judge("line", "line_webhooks.py", {"secret": app.channel_secret, "posts": posts})
    settings = line.Settings.model_validate({"channel_secret": app.channel_secret})
    ours = []
    for signature in signatures:
        try:
            line.verify(settings, WebhookRequest(headers={"x-line-signature": signature}, body=body))
        except SignatureError:
            ours.append(False)
        else:
            ours.append(True)
    assert ours == [one["good"] for one in judged] == [True, False, False, False, False]


@pytest.mark.slow
def test_lines_own_sdk_works_against_the_stand_in(app: RecordedLineApp, server: SandboxServer, yuki: str) -> None:
    group = app.open_group(yuki)
    picture, film = app.image(yuki), app.video(yuki)
    reply_token = app.deliverer.events[-1].part["replyToken"]
    retry = str(uuid.uuid4())
    token_form = {"grant_type": "client_credentials", "client_id": app.channel_id, "client_secret": app.channel_secret}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("MessagingApi", "get_bot_info", {}),
        ("MessagingApi", "get_profile", {"user_id": yuki}),
        ("MessagingApi", "get_group_member_profile", {"group_id": group, "user_id": yuki}),
        ("MessagingApi", "get_group_summary", {"group_id": group}),
        ("MessagingApi", "get_followers", {"limit": 10}),
        ("MessagingApi", "issue_link_token", {"user_id": yuki}),
        ("MessagingApi", "set_webhook_endpoint", {"endpoint": "https://hooks.shop.example/webhooks/line"}),
        ("MessagingApi", "get_webhook_endpoint", {}),
        ("MessagingApi", "push_message", {"to": yuki, "texts": ["Hi"], "x_line_retry_key": retry}),
        ("MessagingApi", "reply_message", {"reply_token": reply_token, "texts": ["Hi", "there"]}),
        ("MessagingApi", "get_message_quota", {}),
        ("MessagingApi", "get_message_quota_consumption", {}),
        ("MessagingApiBlob", "get_message_content", {"message_id": picture}),
        ("MessagingApiBlob", "get_message_content_transcoding_by_message_id", {"message_id": film}),
        ("ChannelAccessToken", "issue_stateless_channel_token", token_form),
        ("ChannelAccessToken", "verify_channel_token", {"access_token": app.access_token}),
    ]
    work = {"url": server.url, "token": app.access_token,
            "calls": [{"api": api, "call": name, "arguments": given} for api, name, given in calls]}  # fmt: skip
    answers = ask_judge("line", "line_client.py", work)
    wrong = {name: answer for (_, name, _), answer in zip(calls, answers, strict=True) if "ok" not in answer}
    assert wrong == {}
    assert answers[1]["ok"]["displayName"] == "Yuki"
    assert bytes.fromhex(answers[12]["ok"]["bytes"]) == PICTURE
    again = ask_judge("line", "line_client.py", {**work, "calls": work["calls"][8:10]})
    assert [one["status"] for one in again] == [409, 400]
    assert json.loads(again[0]["body"])["sentMessages"][0]["id"] == answers[8]["ok"]["sentMessages"][0]["id"]
    assert len(app.sent) == 3


@pytest.mark.slow
@pytest.mark.skipif(not SPECS.is_dir(), reason="ONETHREAD_SPECS does not name a folder with LINE's documents")
def test_every_request_of_our_tap_and_every_answer_fits_lines_own_documents(
    app: RecordedLineApp, server: SandboxServer, call: Call, yuki: str, key: str, state_url: str, inbox: Inbox
) -> None:
    group = app.open_group(yuki)
    film = app.video(yuki)
    app.endpoint = "https://hooks.shop.example/webhooks/line"
    url = {"api_url": server.url, "data_url": server.url, "state_url": state_url, "channel_id": app.channel_id}
    doctors = [{"access_token": app.access_token}, {"channel_secret": app.channel_secret}]
    for given in [*doctors, {"assertion_key": key, "assertion_key_id": "kid-1", "state_url": f"{state_url}-2"}]:
        assert all(one.ok is not False or one.what == "webhook" for one in TapLine(config={**url, **given}).check())
    tap = TapLine(config={**url, "access_token": app.access_token})
    for path in (f"v2/bot/profile/{yuki}", f"v2/bot/group/{group}/member/{yuki}"):
        tap._ask(path)
    tap._data.fetch_json(f"v2/bot/message/{film}/content/transcoding")
    call("POST", f"/v2/bot/user/{yuki}/linkToken")
    call("GET", "/v2/bot/followers/ids", params={"limit": 10})
    call("GET", f"/v2/bot/group/{group}/summary")
    call("PUT", "/v2/bot/channel/webhook/endpoint", json={"endpoint": inbox.url})
    call("POST", "/v2/bot/channel/webhook/test", json={"endpoint": inbox.url})
    call("GET", "/v2/bot/message/quota")
    call("GET", "/v2/bot/message/quota/consumption")
    retry = {"X-Line-Retry-Key": str(uuid.uuid4())}
    for _ in range(2):  # 200, then 409
        push(call, yuki, "Hi", **retry)
    call("POST", "/v2/bot/message/push", json={"to": "U1", "messages": [TEXT]})  # 400
    app.monthly_quota = 0
    push(call, yuki, "Hi")  # 429
    reply = {"replyToken": app.deliverer.events[-1].part["replyToken"], "messages": [TEXT]}
    call("POST", "/v2/bot/message/reply", json=reply)
    exchanges = list(app.exchanges)
    broken = [{**one, "answer": "{}"} for one in exchanges if one["path"].endswith(("/info", "/push", "/v3/token"))]
    call("POST", "/v2/bot/message/push", json={"to": yuki, "messages": [{"type": "text"}]})
    everything(app, yuki)
    arrived(app, inbox)
    events = [(event["type"], json.dumps({"destination": app.bot_id, "events": [event]}))
              for body in inbox.bodies() for event in body["events"]]  # fmt: skip
    known = [body for kind, body in events if kind != "messageEdited"]  # newer than the document
    without_text = json.dumps({**json.loads(known[-3]), "events": [{"type": "message"}]})
    work = {"specs": str(SPECS.parent), "exchanges": [*exchanges, *broken, app.exchanges[-1]],
            "webhooks": [*known, app.verify_button().decode(), without_text]}  # fmt: skip
    judged = ask_judge("line", "line_documents.py", work)
    verdicts = judged["exchanges"]
    ours, spoiled, unasked = verdicts[: len(exchanges)], verdicts[len(exchanges) : -1], verdicts[-1]
    assert [one for one in ours if one["operation"] is None or one["request"] or one["answer"]] == []
    assert len({one["operation"] for one in ours}) >= 17
    assert all(one["answer"] for one in spoiled)
    assert unasked["request"]
    assert judged["webhooks"][:-1] == [[]] * (len(known) + 1)
    assert judged["webhooks"][-1] != []


def test_every_rule_has_a_source_and_names_only_judges_that_there_are() -> None:
    assert {rule.judge for rule in RULES} == {None, SDK, OPENAPI}
    assert {rule.kind for rule in RULES} == {"documented", "observed", "assumed"}
    assert all(rule.source for rule in RULES)


def test_a_repeat_is_posted_twice_and_a_lost_webhook_never(app: RecordedLineApp, inbox: Inbox, yuki: str) -> None:
    app.text(yuki, "twice", delivery=Delivery(duplicate=1))
    app.text(yuki, "never", delivery=Delivery(drop=True))
    assert [event["message"]["text"] for event in arrived(app, inbox)] == ["twice", "twice"]
