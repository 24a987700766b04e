"""The stand-in of a WeChat Official Account: what it tells and refuses; wechatpy as the judge of it, and of us."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
import requests

from mappings.errors import SignatureError
from mappings.settings import tap_config_from_environment
from sandbox.base import SandboxServer
from sandbox.deliverer import Delivery
from sandbox.wechat import WeChatApp
from stores.database import Stores
from taps.webhooks import wechat
from taps.webhooks.items import WebhookRequest
from taps.webhooks.receiver import WebhookRoute
from taps.webhooks.tencent import Keys
from taps.wechat import TapWeChat, WeChatSettings
from tests.contract.webhook import PUBLIC_URL, RunningReceiver, running_receiver
from tests.judges.environment import ask_judge
from tests.sandbox.conftest import StandingClock

BASE = "/cgi-bin"


@pytest.fixture
def app(clock: StandingClock) -> Iterator[WeChatApp]:
    made = WeChatApp(retry_seconds=(0.01, 0.02))
    made.clock = clock
    yield made
    made.stop()


@pytest.fixture
def server(app: WeChatApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        app.public_url = running.url
        yield running


@pytest.fixture
def mia(app: WeChatApp) -> str:
    return app.add_follower("Mia", unionid="oUnionMia")


def settings_of(app: WeChatApp, url: str) -> wechat.Settings:
    names = {"ONETHREAD_WECHAT_TOKEN": "token", "ONETHREAD_WECHAT_ENCODING_AES_KEY": "encoding_aes_key"}
    values = {names[name]: value for name, value in app.environment(url).items() if name in names}
    return wechat.Settings.model_validate(values)


@pytest.fixture
def receiver(app: WeChatApp, server: SandboxServer, stores: Stores) -> Iterator[RunningReceiver]:
    """The product's own receiver, which the stand-in pushes to."""
    route = WebhookRoute(wechat, settings_of(app, server.url))
    with running_receiver(stores, {("wechat", "default"): route}, public_url=PUBLIC_URL) as running:
        yield running


def token_of(server: SandboxServer, app: WeChatApp, **more: Any) -> dict[str, Any]:
    body = {"grant_type": "client_credential", "appid": app.receiver_id, "secret": app.app_secret, **more}
    answer: dict[str, Any] = requests.post(f"{server.url}{BASE}/stable_token", json=body, timeout=5).json()
    return answer


def ask(server: SandboxServer, path: str, **query: str) -> requests.Response:
    return requests.get(f"{server.url}{BASE}/{path}", params=query, timeout=5)


def code_of(answer: requests.Response) -> int:
    assert answer.status_code == 200
    return int(answer.json()["errcode"])


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_stable_token_is_the_same_for_all_until_five_minutes_before_its_end(
    app: WeChatApp, server: SandboxServer, clock: StandingClock
) -> None:
    first = token_of(server, app)
    clock.advance(6_800)
    assert token_of(server, app) == {**first, "expires_in": 400}
    clock.advance(150)
    renewed = token_of(server, app)
    assert renewed["access_token"] != first["access_token"]
    assert renewed["expires_in"] == 7200


def test_a_forced_token_ends_the_one_before_within_five_minutes(
    app: WeChatApp, server: SandboxServer, clock: StandingClock, mia: str
) -> None:
    first = token_of(server, app)["access_token"]
    assert token_of(server, app, force_refresh=True)["access_token"] != first
    assert "errcode" not in ask(server, "user/info", access_token=first, openid=mia).json()
    clock.advance(301)
    assert code_of(ask(server, "user/info", access_token=first, openid=mia)) == 42001


@pytest.mark.parametrize(
    ("wrong", "code"), [({"grant_type": "x"}, 40002), ({"appid": "wx0"}, 40013), ({"secret": "x"}, 40125)]
)
def test_a_token_is_refused_in_the_platforms_words(
    app: WeChatApp, server: SandboxServer, wrong: dict[str, str], code: int
) -> None:
    assert token_of(server, app, **wrong)["errcode"] == code


def test_every_call_wants_a_token_that_is_good(
    app: WeChatApp, server: SandboxServer, clock: StandingClock, mia: str
) -> None:
    token = token_of(server, app)["access_token"]
    assert code_of(ask(server, "user/info", openid=mia)) == 41001
    assert code_of(ask(server, "user/info", openid=mia, access_token="x")) == 40014
    clock.advance(7_201)
    assert code_of(ask(server, "user/info", openid=mia, access_token=token)) == 42001


# -- what it tells -----------------------------------------------------------------------------------------------------


def test_of_a_follower_the_language_and_the_union_id_are_told_and_no_name(
    app: WeChatApp, server: SandboxServer, mia: str
) -> None:
    token = token_of(server, app)["access_token"]
    told = ask(server, "user/info", access_token=token, openid=mia).json()
    assert (told["subscribe"], told["language"], told["unionid"]) == (1, "zh_CN", "oUnionMia")
    assert not {"nickname", "headimgurl"} & set(told)
    app.followers[mia].subscribed_at = None
    told = ask(server, "user/info", access_token=token, openid=mia).json()
    assert told == {"subscribe": 0, "openid": mia, "unionid": "oUnionMia"}
    app.in_open_platform = False
    assert "unionid" not in ask(server, "user/info", access_token=token, openid=mia).json()


def test_a_used_up_day_and_an_unknown_follower_are_refused(app: WeChatApp, server: SandboxServer, mia: str) -> None:
    token = token_of(server, app)["access_token"]
    assert code_of(ask(server, "user/info", access_token=token, openid="oNobody")) == 40003
    app.user_calls = app.user_calls_a_day
    assert code_of(ask(server, "user/info", access_token=token, openid=mia)) == 45009


def test_a_file_can_be_had_for_three_days(
    app: WeChatApp, server: SandboxServer, clock: StandingClock, mia: str
) -> None:
    app.image(mia)
    media_id = next(iter(app.files))
    token = token_of(server, app)["access_token"]
    assert ask(server, "media/get", access_token=token, media_id=media_id).headers["Content-Type"] == "image/png"
    assert code_of(ask(server, "media/get", access_token=token, media_id="x")) == 40007
    clock.advance(3 * 86_400 + 1)
    token = token_of(server, app)["access_token"]
    assert code_of(ask(server, "media/get", access_token=token, media_id=media_id)) == 40007


# -- callbacks ---------------------------------------------------------------------------------------------------------


def test_it_shakes_hands_before_it_pushes(app: WeChatApp, receiver: RunningReceiver, mia: str) -> None:
    app.connect(f"http://127.0.0.1:{receiver.port}")
    app.text(mia, "Hello")
    app.flush()
    assert receiver.stored.count() == 1


def test_a_callback_with_another_token_is_not_connected(app: WeChatApp, receiver: RunningReceiver) -> None:
    app.token = "anotherToken"
    with pytest.raises(ConnectionError, match="401"):
        app.connect(f"http://127.0.0.1:{receiver.port}")


def test_after_three_tries_a_message_is_given_up(app: WeChatApp, receiver: RunningReceiver, mia: str) -> None:
    app.connect(f"http://127.0.0.1:{receiver.port}")
    app.deliverer.start(f"http://127.0.0.1:{receiver.port}/webhooks/nobody", app.token)
    app.text(mia, "lost for ever")
    app.flush()
    (said,) = app.state()["customer_messages"]
    assert (said["given_up"], said["accepted"]) == (True, 0)
    assert app.deliverer.events[0].attempts == 3


def test_a_lost_callback_is_in_the_account(app: WeChatApp, mia: str) -> None:
    app.text(mia, "lost", delivery=Delivery(drop=True))
    assert app.state()["customer_messages"][0]["dropped"] is True


@pytest.mark.parametrize("key", ["sandboxWeChatEncodingAESKeyOf43Characters00", None])
def test_everything_that_was_heard_is_on_a_record_once(
    clock: StandingClock, stores: Stores, state_url: str, run_tap: Any, key: str | None
) -> None:
    app = WeChatApp(encoding_aes_key=key, retry_seconds=(0.01, 0.02))
    with SandboxServer(app) as server:
        environment = app.environment(server.url)
        route = WebhookRoute(wechat, settings_of(app, server.url))
        with running_receiver(stores, {("wechat", "default"): route}, public_url=PUBLIC_URL) as receiver:
            app.connect(f"http://127.0.0.1:{receiver.port}")
            app.play()
            app.flush()
            app.stop()
        config = tap_config_from_environment("tap-wechat", WeChatSettings, environment)
        messages = run_tap(TapWeChat(config={**config, "state_url": state_url}))
    records = [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == "messages"]
    by_customers = [one for one in records if one["author_kind"] == "customer"]
    spoken = [words for _, words, _ in app.heard() if words is not None]
    texts = [one["text"] for one in by_customers if one["text"] is not None and one["kind"] != "unsupported"]
    assert sorted(texts) == sorted(spoken)
    assert len(by_customers) == len(app.heard())
    assert len({one["message_key"] for one in records}) == len(records)
    evidence = [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == "evidence"]
    assert sum(one["method"] == "unionid" for one in evidence) == 2
    assert [one["record"]["status"] for one in messages if one.get("stream") == "consents" and "record" in one] == [
        "opted_in", "opted_out",
    ]  # fmt: skip


# -- judges ------------------------------------------------------------------------------------------------------------


def every_kind(app: WeChatApp, mia: str) -> list[str]:
    """Each kind of message and event, once; the models that wechatpy has for them."""
    app.subscribe(mia)
    app.subscribe(mia, "shop-window")
    app.scan(mia, "4711")
    app.text(mia, "Grüße, 你好 ]]> <b>&amp;</b> 🙏")
    app.choose(mia, "Yes", "101")
    app.sticker(mia)
    app.image(mia)
    app.voice(mia, "please call me")
    app.video(mia)
    app.location(mia, 23.134521, 113.358803)
    app.link(mia, "https://lamps.example/ten?a=1&b=2")
    app.click(mia, "ORDER_STATUS")
    app.view(mia, "https://lamps.example/")
    app.template_result(mia, "200163836")
    app.unsubscribe(mia)
    return [
        "SubscribeEvent", "SubscribeScanEvent", "ScanEvent", "TextMessage", "TextMessage", "TextMessage",
        "ImageMessage", "VoiceMessage", "VideoMessage", "LocationMessage", "LinkMessage", "ClickEvent", "ViewEvent",
        "TemplateSendJobFinishEvent", "UnsubscribeEvent",
    ]  # fmt: skip


def posts_of(app: WeChatApp) -> list[dict[str, Any]]:
    """Every callback as it would be posted."""
    posts = []
    for event in app.deliverer.events:
        body = app._compose([event.part])
        posts.append({"query": app.query_of(body), "body": body.decode()})
    return posts


def items_of(app: WeChatApp, posts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the product's webhook verifies and makes of the same."""
    settings = settings_of(app, "http://sandbox.example")
    keys = Keys(app.receiver_id, [settings.encoding_aes_key]) if settings.encoding_aes_key else None
    found = []
    for post in posts:
        body, url = post["body"].encode(), f"{PUBLIC_URL}/webhooks/wechat?{urlencode(post['query'])}"
        wechat.verify(settings, WebhookRequest(url=url, query=post["query"], body=body))
        (item,) = wechat.split(body, keys)
        found.append(item.payload["xml"])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("key", ["sandboxWeChatEncodingAESKeyOf43Characters00", None])
def test_wechatpy_reads_what_the_stand_in_says_and_so_do_we(key: str | None) -> None:
    app = WeChatApp(encoding_aes_key=key)
    mia = app.add_follower("Mia")
    models = every_kind(app, mia)
    posts = posts_of(app)
    (echo, handshake) = app.handshake()
    work = {"work": False, "token": app.token, "aes_key": key, "id": app.receiver_id, "posts": posts,
            "handshakes": [handshake], "compose": []}  # fmt: skip
    judged = ask_judge("wechat", "wechatpy_callbacks.py", work)
    assert {(one["good"], one["tampered"], one["other_receiver"]) for one in judged["posts"]} == {(True, False, False)}
    assert judged["handshakes"] == [echo]
    said = [one["message"] for one in judged["posts"]]
    assert [one["model"] for one in said] == models
    assert {one["from"] for one in said} == {mia}
    assert [one["id"] for one in said if one["model"] == "TemplateSendJobFinishEvent"] == ["200163836"]
    assert next(one["content"] for one in said if one["model"] == "TextMessage") == "Grüße, 你好 ]]> <b>&amp;</b> 🙏"
    # Element by element the same as another XML reader finds, save that it has nothing where we have an empty text.
    ours = items_of(app, posts)
    assert ours == [{name: value or "" for name, value in one["elements"].items()} for one in said]


@pytest.mark.slow
def test_we_take_what_wechatpy_signs_and_encrypts_and_nothing_that_was_touched() -> None:
    app = WeChatApp()
    xml = "<xml><ToUserName>gh_1</ToUserName><FromUserName>oMia</FromUserName><MsgType>text</MsgType></xml>"
    work = {"work": False, "token": app.token, "aes_key": app.encoding_aes_key, "id": app.receiver_id, "posts": [],
            "handshakes": [], "compose": [xml, xml]}  # fmt: skip
    composed = ask_judge("wechat", "wechatpy_callbacks.py", work)["composed"]
    assert composed[0]["body"] != composed[1]["body"]
    assert items_of(app, composed) == [{"ToUserName": "gh_1", "FromUserName": "oMia", "MsgType": "text"}] * 2
    touched = {**composed[0], "query": {**composed[0]["query"], "nonce": "1"}}
    with pytest.raises(SignatureError):
        items_of(app, [touched])


@pytest.mark.slow
def test_wechatpy_as_a_client_gets_users_files_and_refusals(app: WeChatApp, server: SandboxServer, mia: str) -> None:
    app.image(mia)
    app.video(mia)
    image, video, _ = app.files
    token = token_of(server, app)["access_token"]
    calls = [
        {"call": "user.get", "arguments": [mia]}, {"call": "user.get", "arguments": ["oNobody"]},
        {"call": "media.download", "arguments": [image]}, {"call": "media.download", "arguments": [video]},
        {"call": "media.download", "arguments": ["x"]},
    ]  # fmt: skip
    work = {"work": False, "url": server.url, "id": app.receiver_id, "secret": app.app_secret, "calls": calls}
    user, nobody, picture, film, missing = ask_judge("wechat", "wechatpy_client.py", {**work, "token": token})
    assert user["ok"]["unionid"] == "oUnionMia"
    assert nobody["code"] == 40003
    assert picture["type"] == "image/png"
    assert film["ok"]["video_url"].startswith(server.url)
    assert missing["code"] == 40007
    refused = ask_judge("wechat", "wechatpy_client.py", {**work, "token": "wrong", "calls": calls[:1]})
    assert refused == [{"code": 40014, "message": refused[0]["message"]}]
    app.user_calls = app.user_calls_a_day
    (limited,) = ask_judge("wechat", "wechatpy_client.py", {**work, "token": token, "calls": calls[:1]})
    assert limited["code"] == 45009


def test_every_rule_has_a_source_and_names_only_judges_that_there_are() -> None:
    assert all(rule.source and rule.kind in {"documented", "observed", "assumed"} for rule in WeChatApp.rules)
    assert {rule.judge for rule in WeChatApp.rules} == {"wechatpy", None}
    assert len({rule.name for rule in WeChatApp.rules}) == len(WeChatApp.rules)


def test_queries_are_signed_anew_for_each_try(app: WeChatApp) -> None:
    body = app._compose([{"xml": {"ToUserName": "gh_1", "MsgType": "text"}}])
    queries = [dict(parse_qsl(app._prepare("http://x.test/", body, app.token)[0].partition("?")[2])) for _ in range(2)]
    assert queries[0]["nonce"] != queries[1]["nonce"]
    assert {"signature", "msg_signature", "timestamp", "nonce", "encrypt_type"} == set(queries[0])
