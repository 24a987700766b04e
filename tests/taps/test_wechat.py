"""tap-wechat over the deliveries of its fixtures, and asking the stand-in who wrote."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from mappings.errors import RejectedError, SettingsError
from mappings.from_wechat import WeChatContext, records_from_wechat
from mappings.records import Attachment, Message
from sandbox.base import Fault, SandboxServer
from sandbox.tencent import encrypt, to_xml
from sandbox.wechat import WeChatApp
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from taps.tencent import TencentSession
from taps.webhooks.wechat import split
from taps.wechat import TapWeChat
from tests.contract.mapping import FIXTURES
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource
from tests.taps.webhooks.tencent import envelope

RunTap = Callable[[Any], list[dict[str, Any]]]
MIA, BO = "oMia0000000000000000000000001", "oBo00000000000000000000000002"
PARTS = {1: ["text", "image", "click"], 2: ["text_stop", "template_delivered", "voice"]}


class WeChatSource(WebhookSource):
    """Deliveries of an account that is asked who its writers are."""

    def __init__(self, stores: Stores, state_url: str, url: str, app: WeChatApp) -> None:
        super().__init__(stores, state_url, TapWeChat, PARTS)
        self._url = url
        self._app = app

    def config(self, **more: Any) -> dict[str, Any]:
        api = {"app_id": self._app.receiver_id, "app_secret": self._app.app_secret, "api_url": self._url}
        return super().config(**{**api, **more})

    def deliver_fixture(self, name: str, **more: Any) -> int:
        return self.deliver((FIXTURES / "wechat" / f"{name}.xml").read_bytes(), **more)

    def deliver_text(self, openid: str, words: str, number: int) -> int:
        fields = {"ToUserName": self._app.original_id, "FromUserName": openid, "CreateTime": 1772366400,
                  "MsgType": "text", "Content": words, "MsgId": number}  # fmt: skip
        return self.deliver(to_xml(fields))


@pytest.fixture
def app() -> WeChatApp:
    """The account with the two writers of the fixtures."""
    made = WeChatApp()
    for openid, name in ((MIA, "Mia"), (BO, "Bo")):
        there = made.add_follower(name, unionid=f"oUnion{name}")
        follower = made.followers.pop(there)
        follower.openid = openid
        made.followers[openid] = follower
    return made


@pytest.fixture
def server(app: WeChatApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        app.public_url = running.url
        yield running


@pytest.fixture
def source(stores: Stores, state_url: str, server: SandboxServer, app: WeChatApp) -> Iterator[WeChatSource]:
    made = WeChatSource(stores, state_url, server.url, app)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""
    monkeypatch.setattr("taps.base._WaitSeconds.__call__", lambda _self, _error: 0.0)


class TestTapWeChat(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str, server: SandboxServer, app: WeChatApp) -> Iterator[WeChatSource]:
        made = WeChatSource(stores, state_url, server.url, app)
        yield made
        made.close()


def records_of(messages: list[dict[str, Any]], stream: str) -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def asked(app: WeChatApp) -> list[str]:
    return [str(parse_qs(one["query"])["openid"][0]) for one in app.journal if one["path"] == "/cgi-bin/user/info"]


def test_an_encrypted_delivery_is_read_with_the_key_of_the_settings(
    source: WeChatSource, app: WeChatApp, run_tap: RunTap
) -> None:
    key = str(app.encoding_aes_key)
    body = (FIXTURES / "wechat" / "text.xml").read_bytes()
    source.deliver(envelope(encrypt(body, key, app.receiver_id)))
    (message,) = records_of(run_tap(TapWeChat(config=source.config(encoding_aes_key=key))), "messages")
    assert message["text"].startswith("Hello, do you ship")


def test_a_delivery_that_no_key_opens_is_parked_and_read_once_the_key_is_there(
    source: WeChatSource, app: WeChatApp, run_tap: RunTap, stores: Stores
) -> None:
    key = str(app.encoding_aes_key)
    source.deliver(envelope(encrypt((FIXTURES / "wechat" / "text.xml").read_bytes(), key, app.receiver_id)))
    source.deliver_text(MIA, "in clear", 7)
    first = run_tap(TapWeChat(config=source.config()))
    assert [one["text"] for one in records_of(first, "messages")] == ["in clear"]
    parked = Parked(stores)
    (row,) = parked.list()
    assert "encoding_aes_key" in row.reason
    parked.ask_replay([row.parked_id])
    second = run_tap(TapWeChat(config=source.config(encoding_aes_key=key), state=state_of(first)))
    assert len(records_of(second, "messages")) == 1


def test_a_delivery_for_another_account_is_parked(
    source: WeChatSource, app: WeChatApp, run_tap: RunTap, stores: Stores
) -> None:
    key = str(app.encoding_aes_key)
    source.deliver(envelope(encrypt((FIXTURES / "wechat" / "text.xml").read_bytes(), key, "wx0000000000000000")))
    messages = run_tap(TapWeChat(config=source.config(encoding_aes_key=key)))
    assert records_of(messages, "messages") == []
    assert len(Parked(stores).list()) == 1


def test_the_three_tries_of_the_platform_are_one_message(source: WeChatSource, app: WeChatApp, run_tap: RunTap) -> None:
    key = str(app.encoding_aes_key)
    for name in ("text", "click"):
        for _ in range(3):
            body = (FIXTURES / "wechat" / f"{name}.xml").read_bytes()
            source.deliver(envelope(encrypt(body, key, app.receiver_id)))
    messages = run_tap(TapWeChat(config=source.config(encoding_aes_key=key)))
    assert len(records_of(messages, "messages")) == 2


def test_the_union_id_of_somebody_who_wrote_is_asked_for_once(
    source: WeChatSource, app: WeChatApp, run_tap: RunTap
) -> None:
    source.deliver_fixture("text")
    source.deliver_fixture("image")
    first = run_tap(TapWeChat(config=source.config(open_platform_id="ours")))
    source.deliver_fixture("link")
    second = run_tap(TapWeChat(config=source.config(), state=state_of(first)))
    (evidence,) = records_of([*first, *second], "evidence")
    assert evidence["handles"] == [
        {"kind": "wechat_openid", "scope": app.original_id, "value": MIA},
        {"kind": "wechat_unionid", "scope": "ours", "value": "oUnionMia"},
    ]
    assert asked(app) == [MIA]
    assert evidence["strength"] == "verified"


def test_after_a_week_it_is_asked_for_again(
    source: WeChatSource, app: WeChatApp, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.deliver_fixture("text")
    first = run_tap(TapWeChat(config=source.config()))
    source.deliver_fixture("image")
    later = TapWeChat(config=source.config(), state=state_of(first))
    monkeypatch.setattr(later, "now", lambda: datetime.now(UTC) + timedelta(days=8))
    run_tap(later)
    assert asked(app) == [MIA, MIA]


def test_who_asks_is_no_missed_webhook(source: WeChatSource, run_tap: RunTap, stores: Stores) -> None:
    source.deliver_fixture("text")
    run_tap(TapWeChat(config=source.config()))
    assert Items(stores).missed() == {}


def test_without_a_secret_nobody_is_asked(source: WeChatSource, app: WeChatApp, run_tap: RunTap) -> None:
    source.deliver_fixture("text")
    config = {name: value for name, value in source.config().items() if name != "app_secret"}
    messages = run_tap(TapWeChat(config=config))
    assert len(records_of(messages, "messages")) == 1
    assert records_of(messages, "evidence") == []
    assert app.journal == []


@pytest.mark.parametrize(
    ("status", "code", "calls"), [(200, 45009, 1), (200, 48001, 1), (500, None, 5), (200, 40003, 1)]
)
def test_a_user_api_that_refuses_costs_no_message_and_is_left_alone_for_the_run(
    source: WeChatSource, app: WeChatApp, run_tap: RunTap, caplog: Any, status: int, code: int | None, calls: int
) -> None:
    source.deliver_fixture("text")
    source.deliver_fixture("text_stop")
    body = {"errcode": code, "errmsg": "no"} if code else {}
    app.faults.append(Fault("/user/info", status=status, times=100, body=body))
    with caplog.at_level(logging.WARNING):
        messages = run_tap(TapWeChat(config=source.config()))
    assert len(records_of(messages, "messages")) == 2
    assert records_of(messages, "evidence") == []
    assert len(asked(app)) == calls
    assert "cannot be asked now" in caplog.text


def test_a_busy_user_api_is_asked_again(source: WeChatSource, app: WeChatApp, run_tap: RunTap) -> None:
    source.deliver_fixture("text")
    app.faults.append(Fault("/user/info", status=200, times=2, body={"errcode": -1, "errmsg": "system error"}))
    assert len(records_of(run_tap(TapWeChat(config=source.config())), "evidence")) == 1


def test_one_token_does_for_many_runs_and_a_refused_one_is_replaced(
    source: WeChatSource, app: WeChatApp, run_tap: RunTap
) -> None:
    source.deliver_fixture("text")
    first = run_tap(TapWeChat(config=source.config()))
    source.deliver_fixture("text_stop")
    app.tokens.revoke()
    second = run_tap(TapWeChat(config=source.config(), state=state_of(first)))
    assert len(records_of(second, "evidence")) == 1
    issued = [one for one in app.journal if one["path"] == "/cgi-bin/stable_token"]
    assert len(issued) == 2
    assert all('"force_refresh": false' in one["body"] for one in issued)


def test_a_wrong_secret_costs_no_message_and_is_not_told(
    source: WeChatSource, app: WeChatApp, run_tap: RunTap, caplog: Any
) -> None:
    source.deliver_fixture("text")
    with caplog.at_level(logging.DEBUG):
        messages = run_tap(TapWeChat(config=source.config(app_secret="wrong-secret-0123456789")))
    assert len(records_of(messages, "messages")) == 1
    assert "40125" in caplog.text
    assert "wrong-secret" not in caplog.text


def test_neither_token_nor_text_gets_into_the_log(
    source: WeChatSource, app: WeChatApp, run_tap: RunTap, caplog: Any
) -> None:
    source.deliver_fixture("text")
    app.faults.append(Fault("/user/info", status=503, times=1))
    with caplog.at_level(logging.DEBUG):
        run_tap(TapWeChat(config=source.config()))
    (token,) = app.tokens._ends
    assert token not in caplog.text
    assert "do you ship" not in caplog.text


@pytest.mark.parametrize(
    "given",
    [{"encoding_aes_key": "firstEncodingAESKeyOf43CharactersForTests01"}, {"app_secret": "s"}, {"look_up_users": True}],
)
def test_settings_that_need_each_other_say_so(source: WeChatSource, run_tap: RunTap, given: dict[str, Any]) -> None:
    config = {name: value for name, value in source.config().items() if name not in {"app_id", "app_secret"}}
    with pytest.raises(SettingsError, match="app_id"):
        run_tap(TapWeChat(config={**config, **given}))


def test_an_aes_key_that_is_none_is_refused_without_telling_it(source: WeChatSource, run_tap: RunTap) -> None:
    with pytest.raises(SettingsError, match="43 letters") as caught:
        run_tap(TapWeChat(config=source.config(encoding_aes_key="too-short")))
    assert "too-short" not in str(caught.value)


# -- files -------------------------------------------------------------------------------------------------------------


def message_of(app: WeChatApp, send: Callable[[str], str]) -> tuple[Message, Attachment]:
    """The record of what a follower sent."""
    send(MIA)
    (item,) = split(to_xml(app.deliverer.events[-1].part["xml"]))
    (message,) = records_from_wechat(item, WeChatContext(received_at=datetime.now(UTC), raw_ref="delivery:1#0"))
    assert isinstance(message, Message)
    return message, message.attachments[0]


def test_a_file_is_at_the_api_under_its_id_and_nowhere_else(
    source: WeChatSource, app: WeChatApp, server: SandboxServer
) -> None:
    message, attachment = message_of(app, app.image)
    request = TapWeChat(config=source.config()).media_request(attachment, message)
    assert request is not None
    assert request.hosts == frozenset({"127.0.0.1"})
    assert request.url.startswith(f"{server.url}/cgi-bin/media/get?")
    assert "access_token" not in repr(request)
    assert requests.get(request.url, timeout=5).content.startswith(b"\x89PNG")


def test_a_video_is_where_the_api_says_on_tencents_hosts_only(
    source: WeChatSource, app: WeChatApp, server: SandboxServer
) -> None:
    app.public_url = "http://vweixinp.tc.qq.com"
    message, attachment = message_of(app, app.video)
    request = TapWeChat(config=source.config()).media_request(attachment, message)
    assert request is not None
    assert urlsplit(request.url)[:2] == ("https", "vweixinp.tc.qq.com")
    assert request.hosts == frozenset({".qq.com", ".qpic.cn"})


def test_a_file_that_is_gone_after_three_days_says_so(source: WeChatSource, app: WeChatApp) -> None:
    message, attachment = message_of(app, app.video)
    app.clock.advance(3 * 86_400 + 1)
    app.tokens.revoke()
    with pytest.raises(RejectedError, match="40007"):
        TapWeChat(config=source.config()).media_request(attachment, message)


def test_without_a_secret_only_pictures_can_be_had(source: WeChatSource, app: WeChatApp) -> None:
    config = {name: value for name, value in source.config().items() if name != "app_secret"}
    found = []
    for send in (app.image, app.voice):
        message, attachment = message_of(app, send)
        found.append(TapWeChat(config=config).media_request(attachment, message))
    picture, voice = found
    assert voice is None
    assert picture is not None
    assert picture.url.startswith("https://mmbiz.qpic.cn/")
    assert picture.hosts == frozenset({"mmbiz.qpic.cn"})


def test_a_picture_on_a_strangers_host_is_never_asked_for(source: WeChatSource, app: WeChatApp) -> None:
    config = {name: value for name, value in source.config().items() if name != "app_secret"}
    message, attachment = message_of(app, app.image)
    forged = attachment.model_copy(update={"url": "http://mmbiz.qpic.cn.evil.test/x"})
    assert TapWeChat(config=config).media_request(forged, message) is None


def test_fetched_files_are_kept(source: WeChatSource, app: WeChatApp, server: SandboxServer, run_tap: RunTap) -> None:
    for send in (app.image, app.voice, app.video):
        send(MIA)
        source.deliver(to_xml(app.deliverer.events[-1].part["xml"]))
    hosts = [urlsplit(server.url).netloc]
    messages = run_tap(TapWeChat(config=source.config(fetch_media=True, media_private_hosts=hosts)))
    kept = {one["kind"]: bool(one["attachments"][0]["media_key"]) for one in records_of(messages, "messages")}
    # The video's address is on the stand-in, which is no host of Tencent's.
    assert kept == {"image": True, "audio": True, "video": False}


# -- doctor ------------------------------------------------------------------------------------------------------------


def checks(source: WeChatSource, **more: Any) -> dict[str, Any]:
    return {one.what: one for one in TapWeChat(config=source.config(**more)).check()}


def test_the_doctor_tells_token_clock_and_quota(source: WeChatSource, app: WeChatApp) -> None:
    app.user_calls = 499_990
    found = checks(source, encoding_aes_key=app.encoding_aes_key)
    assert {name: one.ok for name, one in found.items()} == {
        "settings": True, "webhook": None, "access token": True, "clock": True, "user API": True,
    }  # fmt: skip
    assert found["user API"].detail == "10 of 500000 calls left today"
    assert "valid until" in found["access token"].detail


def test_the_doctor_warns_of_plain_mode_and_a_refused_secret(source: WeChatSource) -> None:
    found = checks(source, app_secret="wrong-secret-0123456789")
    assert (found["message mode"].ok, found["access token"].ok) == (False, False)
    assert "wrong-secret" not in str(found)


def test_the_doctor_names_the_address_that_is_not_allowed(source: WeChatSource, app: WeChatApp) -> None:
    app.faults.append(
        Fault("/stable_token", status=200, times=1,
              body={"errcode": 40164, "errmsg": "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist"})
    )  # fmt: skip
    assert "203.0.113.7" in checks(source)["access token"].detail


def test_the_doctor_notices_a_wrong_clock(source: WeChatSource, monkeypatch: pytest.MonkeyPatch) -> None:
    original = TencentSession.budget_of

    def late(self: TencentSession, headers: Any) -> str | None:
        original(self, headers)
        self.answered_at = datetime.now(UTC) - timedelta(minutes=10)
        return None

    monkeypatch.setattr(TencentSession, "budget_of", late)
    assert checks(source)["clock"].ok is False
