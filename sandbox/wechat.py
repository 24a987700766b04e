"""A stand-in for one WeChat Official Account: people who follow it and write, and the interfaces that tell of them.

It keeps the platform's own account (`WeChatApp.state`). The page wechat.md beside this file says what it does and does
not do.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from werkzeug.wrappers import Request, Response

from sandbox.base import Rule, json_response
from sandbox.deliverer import Delivery, Event
from sandbox.tencent import RULES as TENCENT_RULES
from sandbox.tencent import UNIONIDS, TencentApp, json_of, refuse, sign

_MESSAGES = "developers.weixin.qq.com/doc/service/guide/product/message/, read 2026-11"
_USERS = "developers.weixin.qq.com/doc/service/api/usermanage/userinfo/api_userinfo.html, read 2026-11"
_TOKEN = "developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken.html, read 2026-11"  # noqa: S105 (a page)
_MEDIA = "developers.weixin.qq.com/doc/service/api/material/temporary/, read 2026-11"
_HANDLERS = "public handlers, e.g. github.com/zhayujie/chatgpt-on-wechat"

RULES = (
    *TENCENT_RULES,
    Rule("the handshake is a signed GET whose echostr comes back", _MESSAGES, "documented", "wechatpy"),
    Rule("a message has a 64-bit MsgId, an event has none", _MESSAGES, "documented", "wechatpy"),
    Rule("times are whole seconds", _MESSAGES, "documented", "wechatpy"),
    Rule("a sticker comes as a text that says that it is not supported", _HANDLERS, "observed"),
    Rule("a first scan of a QR code is a subscription with qrscene_ before the scene", _MESSAGES, "documented",
         "wechatpy"),
    Rule("what became of a template message is told under MsgID, not MsgId", _MESSAGES, "documented", "wechatpy"),
    Rule("a stable token is the same for all who ask, a new one in its last five minutes", _TOKEN, "documented"),
    Rule("user info has no name since 2021-12-27, and nothing of one who does not follow", _USERS, "documented",
         "wechatpy"),
    Rule("user info has a unionid when the account is in an Open Platform", _USERS, "documented", "wechatpy"),
    Rule("of one who does not follow the unionid is still told", _USERS, "assumed"),
    Rule("an unknown openid is 40003, a used-up day 45009", _USERS, "documented", "wechatpy"),
    Rule("a video is answered with the address that it is at", _MEDIA, "documented", "wechatpy"),
)  # fmt: skip

_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
_AMR = b"#!AMR\n\x3c\x91\x17\x16\xbe\x66\x79\xe1\xe0\x01\xe7\xaf\xf0\x00\x00\x00"
_MP4 = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom\x00\x00\x00\x08free"


@dataclass(slots=True)
class Follower:
    """Somebody who writes to the account."""

    name: str
    openid: str
    unionid: str | None
    language: str
    subscribed_at: int | None


@dataclass(slots=True)
class Said:
    """One message of a customer, and whether the callback took it."""

    id: str
    openid: str
    kind: str
    words: str | None
    at: float
    event: Event


class WeChatApp(TencentApp):
    """One Official Account.

    Args:
        app_id: its AppID.
        app_secret: its AppSecret.
        original_id: what its messages are addressed to.
        in_open_platform: whether it tells union ids.
        user_calls_a_day: how often the user API may be asked.
        token: see `TencentApp`.
        encoding_aes_key: ``None``: plain mode.
    """

    name = slug = "wechat"
    rules = RULES

    def __init__(
        self,
        *,
        app_id: str = "wx5a4d0b0x00000001",
        app_secret: str = "sandbox-app-secret",  # noqa: S107 - invented, nothing else accepts it
        original_id: str = "gh_5a4db0c00001",
        in_open_platform: bool = True,
        user_calls_a_day: int = 500_000,
        token: str = "sandboxWeChatToken",  # noqa: S107 - as above
        encoding_aes_key: str | None = "sandboxWeChatEncodingAESKeyOf43Characters00",
        **more: Any,
    ) -> None:
        self.app_secret = app_secret
        self.original_id = original_id
        self.in_open_platform = in_open_platform
        self.user_calls_a_day = user_calls_a_day
        self.user_calls = 0
        self.public_url = ""
        self.followers: dict[str, Follower] = {}
        self.said: list[Said] = []
        super().__init__(
            receiver_id=app_id, token=token, encoding_aes_key=encoding_aes_key, renews_before_end=300, **more
        )

    # -- the API --

    def open_api(self) -> Iterable[tuple[str, str, Callable[..., Response]]]:
        """The token, and where videos lie."""
        yield "POST", "/cgi-bin/stable_token", self._stable_token
        yield "GET", "/videos/<media_id>", self._video

    def api(self) -> Iterable[tuple[str, str, Callable[[Request], Response]]]:
        """What needs a token."""
        yield "GET", "/cgi-bin/user/info", self._user_info
        yield "GET", "/cgi-bin/media/get", self._media
        yield "POST", "/cgi-bin/openapi/quota/get", self._quota

    def _stable_token(self, request: Request) -> Response:
        body = json_of(request)
        if body.get("grant_type") != "client_credential":
            refuse(40002, "invalid grant_type")
        if body.get("appid") != self.receiver_id:
            refuse(40013, "invalid appid")
        if body.get("secret") != self.app_secret:
            refuse(40125, "invalid appsecret")
        return json_response(self.tokens.issue(self.clock.epoch(), force=body.get("force_refresh") is True))

    def _user_info(self, request: Request) -> Response:
        if self.user_calls >= self.user_calls_a_day:
            refuse(45009, "reach max api daily quota limit")
        self.user_calls += 1
        follower = self.followers.get(request.args.get("openid", ""))
        if follower is None:
            refuse(40003, "invalid openid")
        told: dict[str, Any] = {"subscribe": int(follower.subscribed_at is not None), "openid": follower.openid}
        if follower.subscribed_at is not None:
            told |= {
                "language": follower.language, "subscribe_time": follower.subscribed_at, "remark": "", "groupid": 0,
                "tagid_list": [], "subscribe_scene": "ADD_SCENE_QR_CODE", "qr_scene": 0, "qr_scene_str": "",
            }  # fmt: skip
        if self.in_open_platform and follower.unionid is not None:
            told["unionid"] = follower.unionid
        return json_response(told)

    def _media(self, request: Request) -> Response:
        file = self.file_of(request)
        if file.kind in {"video", "shortvideo"}:
            return json_response({"video_url": f"{self.public_url}/videos/{request.args['media_id']}"})
        disposition = {"Content-Disposition": f'attachment; filename="{file.name}"'}
        return Response(file.data, content_type=file.content_type, headers=disposition)

    def _video(self, request: Request, media_id: str) -> Response:
        del request
        file = self.files.get(media_id)
        return Response(file.data if file else b"", status=200 if file else 404, content_type="video/mp4")

    def _quota(self, request: Request) -> Response:
        if json_of(request).get("cgi_path") != "/cgi-bin/user/info":
            refuse(76021, "cgi_path not found")
        left = self.user_calls_a_day - self.user_calls
        quota = {"daily_limit": self.user_calls_a_day, "used": self.user_calls, "remain": left}
        return json_response({"errcode": 0, "errmsg": "ok", "quota": quota})

    # -- the callback --

    def handshake(self) -> tuple[str, dict[str, str]]:
        """The echostr comes back as it is, in secure mode as well."""
        echostr = str(secrets.randbelow(10**19))
        return echostr, {**self.signed_query(None), "echostr": echostr}

    def query_of(self, body: bytes) -> dict[str, str]:
        """In secure mode both signatures are there; the one without ``msg_`` does not cover the body."""
        signed = super().query_of(body)
        if self.encoding_aes_key is None:
            return signed
        plain = sign(self.token, signed["timestamp"], signed["nonce"])
        return {"signature": plain, "encrypt_type": "aes", **signed}

    def _tell(
        self, openid: str, kind: str, fields: dict[str, Any], words: str | None, delivery: Delivery | None
    ) -> str:
        """A message of a customer; its id."""
        msgid = 23_456_789_012_345_000 + self.next_number()
        push = {**self._head(openid, kind), **fields, "MsgId": msgid}
        event = self.push(kind, str(msgid), push, delivery)
        self.said.append(Said(str(msgid), openid, kind, words, self.now(), event))
        return str(msgid)

    def _head(self, openid: str, kind: str) -> dict[str, Any]:
        return {"ToUserName": self.original_id, "FromUserName": openid, "CreateTime": self.now(), "MsgType": kind}

    def _happens(self, openid: str, event: str, delivery: Delivery | None = None, **fields: Any) -> Event:
        """An event of a customer."""
        push = {**self._head(openid, "event"), "Event": event, **fields}
        return self.push(event, openid, push, delivery)

    # -- people --

    def add_follower(
        self, name: str, *, unionid: str | None = None, language: str = "zh_CN", subscribed: bool = True
    ) -> str:
        """Somebody who may write; the openid. Nothing is told."""
        openid = f"oSandbox{secrets.token_urlsafe(15)}"
        self.followers[openid] = Follower(name, openid, unionid, language, self.now() if subscribed else None)
        return openid

    def subscribe(self, openid: str, scene: str | None = None, *, delivery: Delivery | None = None) -> None:
        """Follow, by the QR code of a scene or by searching."""
        self.followers[openid].subscribed_at = self.now()
        key = {"EventKey": f"qrscene_{scene}", "Ticket": "gQSandboxTicket"} if scene else {"EventKey": ""}
        self._happens(openid, "subscribe", delivery, **key)

    def unsubscribe(self, openid: str, *, delivery: Delivery | None = None) -> None:
        """Follow no more."""
        self.followers[openid].subscribed_at = None
        self._happens(openid, "unsubscribe", delivery, EventKey="")

    def scan(self, openid: str, scene: str, *, delivery: Delivery | None = None) -> None:
        """Scan a QR code of ours, as a follower."""
        self._happens(openid, "SCAN", delivery, EventKey=scene, Ticket="gQSandboxTicket")

    def text(self, openid: str, words: str, *, delivery: Delivery | None = None) -> str:
        """Write."""
        return self._tell(openid, "text", {"Content": words}, words, delivery)

    def choose(self, openid: str, words: str, menu_id: str, *, delivery: Delivery | None = None) -> str:
        """Tap an entry of a menu message of ours."""
        return self._tell(openid, "text", {"Content": words, "bizmsgmenuid": menu_id}, words, delivery)

    def sticker(self, openid: str, *, delivery: Delivery | None = None) -> str:
        """Send a sticker: the account gets a sentence instead."""
        return self._tell(openid, "text", {"Content": "【收到不支持的消息类型，暂无法显示】"}, None, delivery)

    def image(self, openid: str, *, delivery: Delivery | None = None) -> str:
        """Send a picture."""
        media_id = self.add_file("image", _PNG, "image/png", "picture.png")
        fields = {"PicUrl": f"http://mmbiz.qpic.cn/mmbiz_jpg/{media_id[:32]}/0", "MediaId": media_id}
        return self._tell(openid, "image", fields, None, delivery)

    def voice(self, openid: str, recognition: str = "", *, delivery: Delivery | None = None) -> str:
        """Send a voice message; `recognition`: what WeChat made of it, where that is switched on."""
        media_id = self.add_file("voice", _AMR, "audio/amr", "voice.amr")
        fields = {"MediaId": media_id, "Format": "amr", "Recognition": recognition}
        return self._tell(openid, "voice", fields, None, delivery)

    def video(self, openid: str, *, delivery: Delivery | None = None) -> str:
        """Send a video."""
        fields = {
            "MediaId": self.add_file("video", _MP4, "video/mp4", "video.mp4"),
            "ThumbMediaId": self.add_file("thumb", _PNG, "image/png", "thumb.png"),
        }
        return self._tell(openid, "video", fields, None, delivery)

    def location(self, openid: str, latitude: float, longitude: float, *, delivery: Delivery | None = None) -> str:
        """Send a place."""
        fields = {"Location_X": latitude, "Location_Y": longitude, "Scale": 15, "Label": "a place"}
        return self._tell(openid, "location", fields, None, delivery)

    def link(self, openid: str, url: str, *, delivery: Delivery | None = None) -> str:
        """Share an article."""
        fields = {"Title": "An article", "Description": "about lamps", "Url": url}
        return self._tell(openid, "link", fields, url, delivery)

    def click(self, openid: str, key: str, *, delivery: Delivery | None = None) -> None:
        """Press a button of the account's menu."""
        event = self._happens(openid, "CLICK", delivery, EventKey=key)
        self.said.append(Said(key, openid, "CLICK", None, self.now(), event))

    def view(self, openid: str, url: str, *, delivery: Delivery | None = None) -> None:
        """Press a button that opens a page."""
        self._happens(openid, "VIEW", delivery, EventKey=url, MenuId=secrets.randbelow(10**9))

    def template_result(self, openid: str, message_id: str, status: str = "success") -> None:
        """Tell what became of a template message of ours."""
        self._happens(openid, "TEMPLATESENDJOBFINISH", None, MsgID=int(message_id), Status=status)

    # -- the demo --

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect receiver and tap to this account, which answers at `url`."""
        self.public_url = url
        found = {
            "TOKEN": self.token, "APP_ID": self.receiver_id, "APP_SECRET": self.app_secret, "API_URL": url,
            "OPEN_PLATFORM_ID": "sandbox",
        }  # fmt: skip
        if self.encoding_aes_key is not None:
            found["ENCODING_AES_KEY"] = self.encoding_aes_key
        return {f"ONETHREAD_WECHAT_{name}": value for name, value in found.items()}

    def play(self) -> None:
        """Three customers: one who is also on WeCom, one whose deliveries overtake each other, one who says STOP."""
        mia = self.add_follower("Mia Chen", unionid=UNIONIDS["Mia Chen"], subscribed=False)
        bo = self.add_follower("Bo Lin", unionid=UNIONIDS["Bo Lin"])
        hana = self.add_follower("Hana Sato", language="ja")
        self.subscribe(mia, "shop-window")
        self.text(mia, "Hello, do you ship lamps to Suzhou?", delivery=Delivery(duplicate=1))
        self.image(mia)
        self.click(mia, "ORDER_STATUS")
        self.click(mia, "OPENING_HOURS")
        self.deliverer.hold()
        self.text(bo, "First: my order is 4711")
        self.text(bo, "Second: when does it leave?")
        self.location(bo, 31.2304, 121.4737)
        self.deliverer.release(reverse=True, together=False)
        self.voice(bo, "please call me")
        self.sticker(hana)
        self.link(hana, "https://lamps.example/news")
        self.text(hana, "STOP")

    def heard(self) -> list[tuple[str, str | None, float]]:
        """Every message of a customer: channel, words, when."""
        return [(self.slug, one.words, one.at) for one in self.said]

    def state(self) -> dict[str, Any]:
        """Followers, what they said and whether the callback took it, the account of callbacks, tokens issued."""
        said = [
            {
                "id": one.id, "customer": one.openid, "kind": one.kind, "text": one.words, "at": one.at,
                "dropped": one.event.dropped, "given_up": one.event.given_up, "accepted": one.event.accepted,
            }
            for one in self.said
        ]  # fmt: skip
        return {
            "customers": [asdict(one) for one in self.followers.values()],
            "customer_messages": said,
            "webhooks": self.deliverer.account(),
            "tokens_issued": self.tokens.issued,
            "user_calls": self.user_calls,
        }
