"""A stand-in for WeCom customer service: one company, its accounts, the customers who write and the staff who answer.

Its callback only rings; what there is must be asked for. It keeps the platform's own account (`WeComApp.state`). The
page wecom.md beside this file says what it does and does not do.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from werkzeug.wrappers import Request, Response

from sandbox.base import Rule, json_response
from sandbox.deliverer import Delivery, Event
from sandbox.meta import TokenBucket
from sandbox.tencent import RULES as TENCENT_RULES
from sandbox.tencent import UNIONIDS, TencentApp, encrypt, json_of, refuse

_SYNC = "developer.work.weixin.qq.com/document/path/94670, read 2026-11"
_ACCOUNTS = "developer.work.weixin.qq.com/document/path/94661, read 2026-11"
_CUSTOMERS = "developer.work.weixin.qq.com/document/path/95159, read 2026-11"
_TOKEN = "developer.work.weixin.qq.com/document/path/91039, read 2026-11"  # noqa: S105 (a page)
_FILES = "developer.work.weixin.qq.com/document/path/90254, read 2026-11"
_CLIENTS = "public clients of the API (95007 'invalid msg token'; SKIT.FlurlHttpClient's models)"

RULES = (
    *TENCENT_RULES,
    Rule("the handshake's echostr is encrypted and comes back in clear", _SYNC, "documented", "wechatpy"),
    Rule("the callback says only which account has something new, and brings a token", _SYNC, "documented", "wechatpy"),
    Rule("that token is good for ten minutes, then it is 95007", _CLIENTS, "observed"),
    Rule("without it few calls are allowed, then 45009", _SYNC, "documented"),
    Rule("sync_msg reaches three days back and gives pages from a cursor on", _SYNC, "documented", "wechatpy"),
    Rule("a page may be empty and not the last", _SYNC, "documented"),
    Rule("an event has account and customer inside, not beside", _SYNC, "documented"),
    Rule("what the staff wrote is there, what was sent over the API is not", _SYNC, "documented"),
    Rule("the same event can come again under its id", _CLIENTS, "observed"),
    Rule("an account that is not ours is 95000", _CLIENTS, "assumed"),
    Rule("a cursor that is not ours is 40058", _CLIENTS, "assumed"),
    Rule("accounts are listed by offset, at most 100 at once", _ACCOUNTS, "documented", "wechatpy"),
    Rule("at most 100 customers are told at once, unknown ones beside", _CUSTOMERS, "documented", "wechatpy"),
    Rule("a customer has a unionid when the company is bound to an Open Platform", _CUSTOMERS, "documented",
         "wechatpy"),
    Rule("the token is the same for all who ask until it ends", _TOKEN, "documented", "wechatpy"),
    Rule("a wrong secret is 40001, a wrong company 40013", _TOKEN, "documented"),
    Rule("a file can be had in parts", _FILES, "documented"),
)  # fmt: skip

_HISTORY_SECONDS = 3 * 86_400
_BELL_TOKEN_SECONDS = 600


@dataclass(slots=True)
class Customer:
    """Somebody who writes from WeChat."""

    name: str
    external_userid: str
    unionid: str | None


@dataclass(slots=True)
class Entry:
    """One element of what ``sync_msg`` gives; `words`: of a customer's text that was not taken back."""

    account: str
    at: float
    body: dict[str, Any]
    words: str | None = None
    bell: Event | None = None


class WeComApp(TencentApp):
    """One company's customer service.

    Args:
        corp_id: the company.
        secret: of customer service.
        accounts: customer service account -> its name.
        bound: whether WeCom tells union ids.
        page_size: the largest page, whatever is asked for.
        token: see `TencentApp`.
        encoding_aes_key: see `TencentApp`.

    Attributes:
        empty_pages: so many of the next pages are empty although there is more.
        repeats: so many entries before the cursor are given again.
        without_token: the calls that are allowed without a bell's token.
    """

    name = slug = "wecom"
    rules = RULES

    def __init__(
        self,
        *,
        corp_id: str = "ww5a4db0c0000001",
        secret: str = "sandbox-kf-secret",  # noqa: S107 - invented, nothing else accepts it
        accounts: dict[str, str] | None = None,
        bound: bool = True,
        page_size: int = 1000,
        token: str = "sandboxWeComToken",  # noqa: S107 - as above
        encoding_aes_key: str = "sandboxWeComEncodingAESKeyOf43Characters000",
        **more: Any,
    ) -> None:
        self.secret = secret
        self.accounts = accounts or {
            "wkSandboxService00000000000001": "Service",
            "wkSandboxRepairs00000000000002": "Repairs",
        }
        self.bound = bound
        self.page_size = page_size
        self.empty_pages = 0
        self.repeats = 0
        self.without_token = TokenBucket(60, 1)
        self.customers: dict[str, Customer] = {}
        self.entries: list[Entry] = []
        self._bell_tokens: dict[str, float] = {}
        super().__init__(
            receiver_id=corp_id, token=token, encoding_aes_key=encoding_aes_key, renews_before_end=0, **more
        )

    # -- the API --

    def open_api(self) -> Iterable[tuple[str, str, Callable[..., Response]]]:
        """The token."""
        yield "GET", "/cgi-bin/gettoken", self._get_token

    def api(self) -> Iterable[tuple[str, str, Callable[[Request], Response]]]:
        """What needs a token."""
        yield "POST", "/cgi-bin/kf/sync_msg", self._sync
        yield "POST", "/cgi-bin/kf/account/list", self._list_accounts
        yield "GET", "/cgi-bin/kf/account/list", self._list_accounts
        yield "POST", "/cgi-bin/kf/customer/batchget", self._batch_get
        yield "GET", "/cgi-bin/media/get", self._media

    def _get_token(self, request: Request) -> Response:
        if request.args.get("corpid") != self.receiver_id:
            refuse(40013, "invalid corpid")
        if request.args.get("corpsecret") != self.secret:
            refuse(40001, "invalid credential")
        return json_response({"errcode": 0, "errmsg": "ok", **self.tokens.issue(self.clock.epoch())})

    def _sync(self, request: Request) -> Response:
        body = json_of(request)
        account = body.get("open_kfid")
        limit = body.get("limit", 1000)
        if account is not None and account not in self.accounts:
            refuse(95000, "invalid open_kfid")
        if not isinstance(limit, int) or not 1 <= limit <= 1000 or body.get("voice_format", 0) not in {0, 1}:
            refuse(40058, "invalid Request Parameter")
        self._check_bell_token(body.get("token"))
        start = self._position(body.get("cursor"))
        oldest = self.clock.epoch() - _HISTORY_SECONDS
        there = [
            (number, one)
            for number, one in enumerate(self.entries, start=1)
            if one.at >= oldest and account in {None, one.account}
        ]
        rest = [(number, one) for number, one in there if number > start]
        page = rest[: min(limit, self.page_size)]
        if self.empty_pages and rest:
            self.empty_pages -= 1
            return self._answer_page([], start, more=True)
        again = [one for number, one in there if number <= start][-self.repeats :] if self.repeats else []
        end = page[-1][0] if page else start
        return self._answer_page([*again, *(one for _, one in page)], end, more=len(page) < len(rest))

    def _answer_page(self, page: list[Entry], end: int, *, more: bool) -> Response:
        cursor = base64.urlsafe_b64encode(f"kf|{self.receiver_id}|{end}".encode()).decode()
        found = {"next_cursor": cursor, "has_more": int(more), "msg_list": [one.body for one in page]}
        return json_response({"errcode": 0, "errmsg": "ok", **found})

    def _check_bell_token(self, token: Any) -> None:
        if not token:
            if not self.without_token.take("", self.clock.epoch()):
                refuse(45009, "api freq out of limit")
        elif self._bell_tokens.get(str(token), 0) < self.clock.epoch():
            refuse(95007, "invalid msg token")

    def _position(self, cursor: Any) -> int:
        if not cursor:
            return 0
        try:
            name, company, position = base64.urlsafe_b64decode(str(cursor)).decode().split("|")
        except (binascii.Error, ValueError):
            name, company, position = "", "", ""
        if len(str(cursor)) > 64 or name != "kf" or company != self.receiver_id:
            refuse(40058, "invalid Request Parameter")
        return int(position)

    def _list_accounts(self, request: Request) -> Response:
        body = json_of(request) if request.method == "POST" and request.get_data() else {}
        offset, limit = int(body.get("offset", 0)), int(body.get("limit", 100))
        if not 1 <= limit <= 100:
            refuse(40058, "invalid Request Parameter")
        rows = [
            {"open_kfid": account, "name": name, "avatar": "https://cdn.example/kf.png", "manage_privilege": True}
            for account, name in list(self.accounts.items())[offset : offset + limit]
        ]
        return json_response({"errcode": 0, "errmsg": "ok", "account_list": rows})

    def _batch_get(self, request: Request) -> Response:
        ids = json_of(request).get("external_userid_list")
        if not isinstance(ids, list) or not 1 <= len(ids) <= 100:
            refuse(40058, "invalid Request Parameter")
        rows = []
        for one in (self.customers[each] for each in ids if each in self.customers):
            row = {"external_userid": one.external_userid, "nickname": one.name, "avatar": "", "gender": 0}
            rows.append({**row, **({"unionid": one.unionid} if self.bound and one.unionid else {})})
        unknown = [each for each in ids if each not in self.customers]
        found = {"customer_list": rows, "invalid_external_userid": unknown}
        return json_response({"errcode": 0, "errmsg": "ok", **found})

    def _media(self, request: Request) -> Response:
        file = self.file_of(request)
        response = Response(
            file.data,
            content_type=file.content_type,
            headers={"Content-Disposition": f'attachment; filename="{file.name}"'},
        )
        return response.make_conditional(request, accept_ranges=True, complete_length=len(file.data))

    # -- the callback --

    def handshake(self) -> tuple[str, dict[str, str]]:
        """The echostr is encrypted, as everything is."""
        echostr = str(secrets.randbelow(10**19))
        encrypted = encrypt(echostr.encode(), str(self.encoding_aes_key), self.receiver_id)
        return echostr, {**self.signed_query(encrypted), "echostr": encrypted}

    def ring(self, account: str, delivery: Delivery | None = None) -> Event:
        """Say that an account has something new."""
        token = f"ENC{secrets.token_urlsafe(40)}"
        self._bell_tokens[token] = self.clock.epoch() + _BELL_TOKEN_SECONDS
        fields = {
            "ToUserName": self.receiver_id, "CreateTime": self.now(), "MsgType": "event", "Event": "kf_msg_or_event",
            "Token": token, "OpenKfId": account,
        }  # fmt: skip
        return self.push("kf_msg_or_event", account, fields, delivery)

    def grant_changed(self, account: str) -> None:
        """Say that the application may do more, or less."""
        fields = {
            "ToUserName": self.receiver_id, "CreateTime": self.now(), "MsgType": "event",
            "Event": "kf_account_auth_change", "AuthAddOpenKfId": account,
        }  # fmt: skip
        self.push("kf_account_auth_change", account, fields)

    # -- people --

    def add_customer(self, name: str, *, unionid: str | None = None) -> str:
        """Somebody who may write; the external user id."""
        external_userid = f"wmSandbox{secrets.token_urlsafe(16)}"
        self.customers[external_userid] = Customer(name, external_userid, unionid)
        return external_userid

    def text(
        self,
        customer: str,
        words: str,
        account: str | None = None,
        *,
        menu_id: str | None = None,
        delivery: Delivery | None = None,
    ) -> str:
        """Write, or tap the entry `menu_id` of a menu of ours."""
        said = {"content": words, **({"menu_id": menu_id} if menu_id else {})}
        return self._say(customer, "text", said, account, words, delivery)

    def file(
        self,
        customer: str,
        kind: str,
        data: bytes,
        content_type: str,
        account: str | None = None,
        *,
        delivery: Delivery | None = None,
    ) -> str:
        """Send an image, voice, video or file."""
        media_id = self.add_file(kind, data, content_type, f"{kind}.bin")
        return self._say(customer, kind, {"media_id": media_id}, account, None, delivery)

    def send(
        self,
        customer: str,
        kind: str,
        said: dict[str, Any],
        account: str | None = None,
        *,
        delivery: Delivery | None = None,
    ) -> str:
        """Send anything else: location, link, miniprogram, ..."""
        return self._say(customer, kind, said, account, said.get("url"), delivery)

    def recall(self, customer: str, msgid: str, *, delivery: Delivery | None = None) -> None:
        """Take a message back; it stays in what ``sync_msg`` gives."""
        entry = next(one for one in self.entries if one.body["msgid"] == msgid)
        entry.words = None
        self._happens(entry.account, customer, "user_recall_msg", delivery, recall_msgid=msgid)

    def enter(
        self, customer: str, scene: str = "", account: str | None = None, *, delivery: Delivery | None = None
    ) -> None:
        """Open the chat by one of our links."""
        about = {"scene": scene, "scene_param": "", "welcome_code": secrets.token_urlsafe(16)}
        self._happens(account or next(iter(self.accounts)), customer, "enter_session", delivery, **about)

    def answer_as_staff(
        self, customer: str, words: str, account: str | None = None, *, delivery: Delivery | None = None
    ) -> str:
        """One of the staff answers in WeCom's own app."""
        return self._say(customer, "text", {"content": words}, account, None, delivery, origin=5)

    def fail_send(self, customer: str, msgid: str, fail_type: int, account: str | None = None) -> None:
        """Tell that a message which was sent over the API did not arrive."""
        account = account or next(iter(self.accounts))
        self._happens(account, customer, "msg_send_fail", None, fail_msgid=msgid, fail_type=fail_type)

    def _say(
        self,
        customer: str,
        kind: str,
        said: dict[str, Any],
        account: str | None,
        words: str | None,
        delivery: Delivery | None,
        *,
        origin: int = 3,
    ) -> str:
        account = account or next(iter(self.accounts))
        body: dict[str, Any] = {
            "msgid": self._msgid(), "open_kfid": account, "external_userid": customer, "send_time": self.now(),
            "origin": origin, "msgtype": kind, kind: said,
        }  # fmt: skip
        if origin == 5:
            body["servicer_userid"] = "ZhangSan"
        self._add(Entry(account, self.clock.epoch(), body, words), delivery)
        return str(body["msgid"])

    def _happens(self, account: str, customer: str, event: str, delivery: Delivery | None, **about: Any) -> None:
        told = {"event_type": event, "open_kfid": account, "external_userid": customer, **about}
        body = {"msgid": self._msgid(), "send_time": self.now(), "origin": 4, "msgtype": "event", "event": told}
        self._add(Entry(account, self.clock.epoch(), body), delivery)

    def _add(self, entry: Entry, delivery: Delivery | None) -> None:
        self.entries.append(entry)
        entry.bell = self.ring(entry.account, delivery)

    def _msgid(self) -> str:
        return f"{self.next_number()}{secrets.token_hex(15)}"[:32]

    # -- the demo --

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect receiver and tap to this company, which answers at `url`."""
        found = {
            "TOKEN": self.token, "ENCODING_AES_KEY": str(self.encoding_aes_key), "CORP_ID": self.receiver_id,
            "SECRET": self.secret, "API_URL": url, "OPEN_PLATFORM_ID": "sandbox",
        }  # fmt: skip
        return {f"ONETHREAD_WECOM_{name}": value for name, value in found.items()}

    def play(self) -> None:
        """Three customers on two accounts: one who is also on WeChat, one who takes something back, one who stops.

        One bell is lost, one comes twice, two overtake each other.
        """
        service, repairs = self.accounts
        mia = self.add_customer("Mia Chen", unionid=UNIONIDS["Mia Chen"])
        kai = self.add_customer("Kai Wong")
        ines = self.add_customer("Ines Sousa")
        self.enter(mia, "order-page", service)
        self.text(mia, "It is me again: does 4711 come this week?", service, delivery=Delivery(duplicate=1))
        self.file(mia, "image", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "image/png", service)
        self.answer_as_staff(mia, "It leaves today.", service)
        self.deliverer.hold()
        self.text(kai, "My lamp flickers", repairs)
        self.text(kai, "Here is where I live", repairs)
        self.deliverer.release(reverse=True, together=False)
        place = {"latitude": 22.3193, "longitude": 114.1694, "name": "Home", "address": "Example Road 1"}
        self.send(kai, "location", place, repairs)
        regretted = self.text(kai, "My door code is ... no, forget that", repairs)
        self.recall(kai, regretted)
        self.text(ines, "Do you repair clocks too?", repairs, delivery=Delivery(drop=True))
        self.send(ines, "link", {"title": "A clock", "desc": "", "url": "https://clocks.example/7"}, service)
        self.text(ines, "STOP", service)

    def heard(self) -> list[tuple[str, str | None, float]]:
        """Every message of a customer: channel, words (none if it was taken back), when."""
        return [(self.slug, one.words, one.at) for one in self.entries if one.body["origin"] == 3]

    def state(self) -> dict[str, Any]:
        """Customers, what they said and whether its bell was taken, what the staff wrote, the account of bells."""
        rows = [
            {
                "id": one.body["msgid"], "customer": one.body["external_userid"], "account": one.account,
                "kind": one.body["msgtype"], "text": one.words, "at": one.at, "origin": one.body["origin"],
                "dropped": bool(one.bell and one.bell.dropped), "accepted": one.bell.accepted if one.bell else 0,
            }
            for one in self.entries
            if one.body["msgtype"] != "event"
        ]  # fmt: skip
        return {
            "customers": [asdict(one) for one in self.customers.values()],
            "customer_messages": [row for row in rows if row["origin"] == 3],
            "staff_messages": [row for row in rows if row["origin"] == 5],
            "webhooks": self.deliverer.account(),
            "tokens_issued": self.tokens.issued,
        }
