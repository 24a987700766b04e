"""The stand-in of WeCom customer service: what it tells and refuses; wechatpy as the judge of it, and of us."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from mappings.errors import SignatureError
from mappings.settings import tap_config_from_environment
from sandbox.base import SandboxServer
from sandbox.meta import TokenBucket
from sandbox.wecom import WeComApp
from stores.database import Stores
from stores.items import Items
from taps.webhooks import wecom
from taps.webhooks.items import Answer, WebhookRequest
from taps.webhooks.receiver import WebhookRoute
from taps.webhooks.tencent import Keys
from taps.wecom import TapWeCom, WeComSettings
from tests.contract.webhook import PUBLIC_URL, RunningReceiver, running_receiver
from tests.judges.environment import ask_judge
from tests.sandbox.conftest import StandingClock

BASE = "/cgi-bin"
SERVICE, REPAIRS = "wkSandboxService00000000000001", "wkSandboxRepairs00000000000002"


@pytest.fixture
def app(clock: StandingClock) -> Iterator[WeComApp]:
    made = WeComApp(retry_seconds=(0.01, 0.02))
    made.clock = clock
    yield made
    made.stop()


@pytest.fixture
def server(app: WeComApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        yield running


@pytest.fixture
def mia(app: WeComApp) -> str:
    return app.add_customer("Mia", unionid="oUnionMia")


def settings_of(app: WeComApp, url: str) -> wecom.Settings:
    environment = app.environment(url)
    return wecom.Settings.model_validate({
        name: environment[f"ONETHREAD_WECOM_{name.upper()}"] for name in ("token", "encoding_aes_key")
    })  # fmt: skip


@pytest.fixture
def receiver(app: WeComApp, server: SandboxServer, stores: Stores) -> Iterator[RunningReceiver]:
    """The product's own receiver, which the stand-in rings at."""
    route = WebhookRoute(wecom, settings_of(app, server.url))
    with running_receiver(stores, {("wecom", "default"): route}, public_url=PUBLIC_URL) as running:
        yield running


def get_token(server: SandboxServer, app: WeComApp, **wrong: str) -> dict[str, Any]:
    query = {"corpid": app.receiver_id, "corpsecret": app.secret, **wrong}
    answer: dict[str, Any] = requests.get(f"{server.url}{BASE}/gettoken", params=query, timeout=5).json()
    return answer


def call(server: SandboxServer, app: WeComApp, path: str, **body: Any) -> dict[str, Any]:
    token = {"access_token": get_token(server, app)["access_token"]}
    answer: dict[str, Any] = requests.post(f"{server.url}{BASE}/{path}", params=token, json=body, timeout=5).json()
    return answer


def bell_token(app: WeComApp) -> str:
    return str(app.deliverer.events[-1].part["xml"]["Token"])


def words(answer: dict[str, Any]) -> list[Any]:
    return [one["text"]["content"] for one in answer["msg_list"] if one["msgtype"] == "text"]


# -- the API -----------------------------------------------------------------------------------------------------------


def test_the_token_is_the_same_for_all_until_it_ends(
    app: WeComApp, server: SandboxServer, clock: StandingClock
) -> None:
    first = get_token(server, app)
    clock.advance(7_199)
    assert get_token(server, app)["access_token"] == first["access_token"]
    clock.advance(1)
    assert get_token(server, app)["access_token"] != first["access_token"]


@pytest.mark.parametrize(("wrong", "code"), [({"corpid": "ww0"}, 40013), ({"corpsecret": "x"}, 40001)])
def test_a_token_is_refused_in_the_platforms_words(
    app: WeComApp, server: SandboxServer, wrong: dict[str, str], code: int
) -> None:
    assert get_token(server, app, **wrong)["errcode"] == code


def test_every_call_wants_a_token(server: SandboxServer) -> None:
    for path in ("kf/sync_msg", "kf/account/list", "kf/customer/batchget"):
        assert requests.post(f"{server.url}{BASE}/{path}", json={}, timeout=5).json()["errcode"] == 41001


def test_messages_come_in_pages_by_account_from_a_cursor_on(app: WeComApp, server: SandboxServer, mia: str) -> None:
    for number in range(5):
        app.text(mia, f"service {number}", SERVICE)
        app.text(mia, f"repairs {number}", REPAIRS)
    first = call(server, app, "kf/sync_msg", open_kfid=SERVICE, limit=3)
    second = call(server, app, "kf/sync_msg", open_kfid=SERVICE, limit=3, cursor=first["next_cursor"])
    third = call(server, app, "kf/sync_msg", open_kfid=SERVICE, limit=3, cursor=second["next_cursor"])
    assert words(first) + words(second) == [f"service {number}" for number in range(5)]
    assert [first["has_more"], second["has_more"], third["has_more"]] == [1, 0, 0]
    assert (third["msg_list"], third["next_cursor"]) == ([], second["next_cursor"])
    assert len(words(call(server, app, "kf/sync_msg"))) == 10


def test_a_page_can_be_empty_and_not_the_last(app: WeComApp, server: SandboxServer, mia: str) -> None:
    app.text(mia, "one")
    app.empty_pages = 1
    first = call(server, app, "kf/sync_msg", open_kfid=SERVICE)
    assert (first["msg_list"], first["has_more"]) == ([], 1)
    assert words(call(server, app, "kf/sync_msg", open_kfid=SERVICE, cursor=first["next_cursor"])) == ["one"]


def test_it_reaches_three_days_back(app: WeComApp, server: SandboxServer, clock: StandingClock, mia: str) -> None:
    app.text(mia, "old")
    clock.advance(3 * 86_400)
    app.text(mia, "new")
    assert words(call(server, app, "kf/sync_msg")) == ["old", "new"]
    clock.advance(1)
    assert words(call(server, app, "kf/sync_msg")) == ["new"]


def test_an_event_has_account_and_customer_inside(app: WeComApp, server: SandboxServer, mia: str) -> None:
    app.recall(mia, app.text(mia, "regretted"))
    _, event = call(server, app, "kf/sync_msg")["msg_list"]
    assert not {"open_kfid", "external_userid"} & set(event)
    assert {"open_kfid", "external_userid", "recall_msgid"} <= set(event["event"])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"open_kfid": "wkNobody"}, 95000), ({"limit": 1001}, 40058), ({"limit": 0}, 40058),
        ({"voice_format": 2}, 40058), ({"cursor": "x"}, 40058), ({"cursor": "x" * 65}, 40058), ({"token": "x"}, 95007),
    ],
)  # fmt: skip
def test_a_wrong_question_is_refused(app: WeComApp, server: SandboxServer, body: dict[str, Any], code: int) -> None:
    assert call(server, app, "kf/sync_msg", **body)["errcode"] == code


def test_a_bells_token_is_good_for_ten_minutes_and_without_it_few_calls_are_allowed(
    app: WeComApp, server: SandboxServer, clock: StandingClock, mia: str
) -> None:
    app.without_token = TokenBucket(1, 0)
    app.text(mia, "one")
    for _ in range(5):
        assert call(server, app, "kf/sync_msg", token=bell_token(app))["errcode"] == 0
    codes = [call(server, app, "kf/sync_msg")["errcode"] for _ in range(2)]
    assert codes == [0, 45009]
    clock.advance(601)
    assert call(server, app, "kf/sync_msg", token=bell_token(app))["errcode"] == 95007


def test_customers_are_told_with_the_union_id_if_the_company_is_bound(
    app: WeComApp, server: SandboxServer, mia: str
) -> None:
    told = call(server, app, "kf/customer/batchget", external_userid_list=[mia, "wmNobody"])
    assert told["customer_list"][0]["unionid"] == "oUnionMia"
    assert told["invalid_external_userid"] == ["wmNobody"]
    app.bound = False
    told = call(server, app, "kf/customer/batchget", external_userid_list=[mia])
    assert "unionid" not in told["customer_list"][0]
    for wrong in ([], [mia] * 101, "x"):
        assert call(server, app, "kf/customer/batchget", external_userid_list=wrong)["errcode"] == 40058


def test_accounts_are_listed_by_offset(app: WeComApp, server: SandboxServer) -> None:
    rows = [call(server, app, "kf/account/list", offset=offset, limit=1)["account_list"] for offset in range(3)]
    assert [[row["open_kfid"] for row in each] for each in rows] == [[SERVICE], [REPAIRS], []]
    assert call(server, app, "kf/account/list", offset=0, limit=101)["errcode"] == 40058


def test_a_file_can_be_had_in_parts(app: WeComApp, server: SandboxServer, mia: str) -> None:
    app.file(mia, "file", b"%PDF-1.7 and more", "application/pdf")
    query = {"access_token": get_token(server, app)["access_token"], "media_id": next(iter(app.files))}
    part = requests.get(f"{server.url}{BASE}/media/get", params=query, headers={"Range": "bytes=0-3"}, timeout=5)
    assert (part.status_code, part.content) == (206, b"%PDF")


# -- callbacks ---------------------------------------------------------------------------------------------------------


def test_it_shakes_hands_and_rings(app: WeComApp, receiver: RunningReceiver, mia: str) -> None:
    app.connect(f"http://127.0.0.1:{receiver.port}")
    app.text(mia, "Hello")
    app.grant_changed(REPAIRS)
    app.flush()
    assert receiver.stored.count() == 2
    assert b"Hello" not in b"".join(one.body for one in receiver.stored.read("wecom", "default", 0, 10))


def test_a_callback_with_another_key_is_not_connected(app: WeComApp, receiver: RunningReceiver) -> None:
    app.encoding_aes_key = "anotherEncodingAESKeyOf43CharactersForTests"
    with pytest.raises(ConnectionError, match="401"):
        app.connect(f"http://127.0.0.1:{receiver.port}")


def test_everything_that_was_heard_is_on_a_record_once(
    app: WeComApp, server: SandboxServer, receiver: RunningReceiver, stores: Stores, state_url: str, run_tap: Any
) -> None:
    app.connect(f"http://127.0.0.1:{receiver.port}")
    app.play()
    app.flush()
    app.stop()
    config = tap_config_from_environment("tap-wecom", WeComSettings, app.environment(server.url))
    messages = run_tap(TapWeCom(config={**config, "state_url": state_url}))
    records = [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == "messages"]
    unsent = {
        one["record"]["message_key"] for one in messages if one.get("stream") == "message_changes" and "record" in one
    }
    by_customers = [one for one in records if one["author_kind"] == "customer"]
    assert len(by_customers) == len(app.heard())
    spoken = [said for _, said, _ in app.heard() if said is not None]
    assert sorted(one["text"] for one in by_customers if one["text"] and one["message_key"] not in unsent) == sorted(
        spoken
    )
    assert [one["text"] for one in records if one["author_kind"] == "agent"] == ["It leaves today."]
    assert len({one["message_key"] for one in records}) == len(records)
    assert len(unsent) == 1
    evidence = [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == "evidence"]
    assert sorted(one["profile"]["name"] for one in evidence) == ["Ines Sousa", "Kai Wong", "Mia Chen"]
    assert app.state()["webhooks"]["dropped"] == 1
    assert Items(stores).missed() == {}  # a bell of the last minute may still ring


def test_the_people_of_both_stand_ins_have_the_same_union_ids() -> None:
    from sandbox.wechat import WeChatApp

    chat, work = WeChatApp(), WeComApp()
    chat.play()
    work.play()
    on_chat = {one.unionid for one in chat.followers.values() if one.unionid}
    on_work = {one.unionid for one in work.customers.values() if one.unionid}
    assert on_work < on_chat
    names = [app.environment("http://x.test") for app in (chat, work)]
    assert names[0]["ONETHREAD_WECHAT_OPEN_PLATFORM_ID"] == names[1]["ONETHREAD_WECOM_OPEN_PLATFORM_ID"]


# -- judges ------------------------------------------------------------------------------------------------------------


def verified(app: WeComApp, posts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the product's webhook verifies and makes of callbacks."""
    settings = settings_of(app, "http://sandbox.example")
    found = []
    for post in posts:
        body, url = post["body"].encode(), f"{PUBLIC_URL}/webhooks/wecom?{urlencode(post['query'])}"
        wecom.verify(settings, WebhookRequest(url=url, query=post["query"], body=body))
        (item,) = wecom.split(body, Keys(app.receiver_id, [settings.encoding_aes_key]))
        found.append(item.payload["xml"])
    return found


@pytest.mark.slow
def test_wechatpy_reads_what_the_stand_in_says_and_so_do_we(app: WeComApp) -> None:
    app.ring(SERVICE)
    app.grant_changed(REPAIRS)
    posts = []
    for event in app.deliverer.events:
        body = app._compose([event.part])
        posts.append({"query": app.query_of(body), "body": body.decode()})
    echo, handshake = app.handshake()
    bell = "<xml><ToUserName>ww1</ToUserName><MsgType>event</MsgType><Event>kf_msg_or_event</Event></xml>"
    work = {"work": True, "token": app.token, "aes_key": app.encoding_aes_key, "id": app.receiver_id, "posts": posts,
            "handshakes": [handshake], "compose": [bell]}  # fmt: skip
    judged = ask_judge("wechat", "wechatpy_callbacks.py", work)
    assert {(one["good"], one["tampered"], one["other_receiver"]) for one in judged["posts"]} == {(True, False, False)}
    assert verified(app, posts) == [one["message"]["elements"] for one in judged["posts"]]
    # The handshake: what wechatpy decrypts is what we answer.
    assert judged["handshakes"] == [echo]
    url = f"{PUBLIC_URL}/webhooks/wecom?{urlencode(handshake)}"
    request = WebhookRequest(method="GET", url=url, query=handshake)
    assert wecom.challenge(settings_of(app, "http://sandbox.example"), request) == Answer(echo)
    # And the other way round: wechatpy signs and encrypts, we verify and read.
    assert verified(app, judged["composed"]) == [{"ToUserName": "ww1", "MsgType": "event", "Event": "kf_msg_or_event"}]
    with pytest.raises(SignatureError):
        verified(app, [{**judged["composed"][0], "query": {**judged["composed"][0]["query"], "timestamp": "1"}}])


@pytest.mark.slow
def test_wechatpy_as_a_client_gets_messages_customers_and_refusals(
    app: WeComApp, server: SandboxServer, mia: str
) -> None:
    for number in range(3):
        app.text(mia, f"text {number}")
    app.file(mia, "image", b"\x89PNG\r\n\x1a\n", "image/png")
    media_id, token = next(iter(app.files)), bell_token(app)
    calls = [
        {"call": "kf.sync_msg", "arguments": [token, "", 2]},
        {"call": "kf.sync_msg", "arguments": ["wrong", "", 2]},
        {"call": "kf.get_account_list"},
        {"call": "kf.batchget_customer", "arguments": [[mia, "wmNobody"]]},
        {"call": "get", "arguments": ["media/get"], "keywords": {"params": {"media_id": media_id}}},
        {"call": "get", "arguments": ["media/get"], "keywords": {"params": {"media_id": "x"}}},
    ]
    work = {"work": True, "url": server.url, "id": app.receiver_id, "secret": app.secret, "calls": calls}
    page, stale, accounts, customers, picture, missing = ask_judge("wechat", "wechatpy_client.py", work)
    assert words(page["ok"]) == ["text 0", "text 1"]
    assert page["ok"]["has_more"] == 1
    assert stale["code"] == 95007
    assert [row["open_kfid"] for row in accounts["ok"]["account_list"]] == [SERVICE, REPAIRS]
    assert customers["ok"]["customer_list"][0]["unionid"] == "oUnionMia"
    assert picture["type"] == "image/png"
    assert missing["code"] == 40007
    following = [{"call": "kf.sync_msg", "arguments": [token, page["ok"]["next_cursor"], 2]}]
    (rest,) = ask_judge("wechat", "wechatpy_client.py", {**work, "calls": following})
    assert (words(rest["ok"]), rest["ok"]["has_more"]) == (["text 2"], 0)
    (refused,) = ask_judge("wechat", "wechatpy_client.py", {**work, "secret": "wrong", "calls": calls[2:3]})
    assert refused["code"] == 40001


def test_every_rule_has_a_source_and_names_only_judges_that_there_are() -> None:
    assert all(rule.source and rule.kind in {"documented", "observed", "assumed"} for rule in WeComApp.rules)
    assert {rule.judge for rule in WeComApp.rules} == {"wechatpy", None}
    assert len({rule.name for rule in WeComApp.rules}) == len(WeComApp.rules)
