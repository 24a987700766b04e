"""What the stand-ins of WeChat and WeCom share: signed and encrypted callbacks, access tokens that end, error codes.

Nothing here is the product's own code for the same things: what one of the two gets wrong, the other must notice.

Sources, where a rule names none of its own: developers.weixin.qq.com/doc/service/guide/dev/push/encryption.html and
developer.work.weixin.qq.com/document/path/90968, read 2026-11, documented.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import struct
import xml.sax.saxutils
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import requests
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from werkzeug.exceptions import HTTPException, abort
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import Rule, SandboxApp, json_response
from sandbox.deliverer import Deliverer, Delivery, Event

_PUSH = "developers.weixin.qq.com/doc/service/guide/dev/push/, read 2026-11"
_CODES = "developers.weixin.qq.com/doc/service/guide/dev/api/errorcode.html, read 2026-11"
_MEDIA = "developers.weixin.qq.com/doc/service/api/material/temporary/, read 2026-11"

UNIONIDS: Mapping[str, str] = {"Mia Chen": "oSandboxUnion-MiaChen-000001", "Bo Lin": "oSandboxUnion-BoLin-00000002"}
"""Whom both stand-ins know: the same people in the accounts of one Open Platform."""

MEDIA_SECONDS = 3 * 86_400

RULES = (
    Rule("a callback is signed: SHA-1 of token, timestamp, nonce and Encrypt, sorted", _PUSH, "documented", "wechatpy"),
    Rule("Encrypt is AES-256-CBC, padded to 32, with the receiver's id at the end", _PUSH, "documented", "wechatpy"),
    Rule("a callback is posted three times at most, five seconds each", _PUSH, "documented"),
    Rule("an error is HTTP 200 with errcode", _CODES, "documented", "wechatpy"),
    Rule("an access token stands in the query, ends after 7200 seconds", _CODES, "documented", "wechatpy"),
    Rule("no access token is 41001, an expired one 42001", _CODES, "documented", "wechatpy"),
    Rule("a media id is good for three days, then 40007", _MEDIA, "documented"),
)  # fmt: skip


# -- what goes over the wire -------------------------------------------------------------------------------------------


def sign(*parts: str) -> str:
    """The signature of a token and what goes with it."""
    digest = hashlib.sha1(usedforsecurity=False)
    for part in sorted(parts):
        digest.update(part.encode())
    return digest.hexdigest()


def encrypt(message: bytes, encoding_aes_key: str, receiver_id: str) -> str:
    """`message` as the text of an ``Encrypt`` element; another one each time."""
    key = base64.b64decode(f"{encoding_aes_key}=")
    padder = padding.PKCS7(32 * 8).padder()
    content = secrets.token_hex(8).encode() + struct.pack(">I", len(message)) + message + receiver_id.encode()
    padded = padder.update(content) + padder.finalize()
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(key[:16])).encryptor()
    return base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode()


def to_xml(fields: Mapping[str, Any]) -> bytes:
    """A message as Tencent writes it: texts as CDATA, numbers bare."""
    return f"<xml>{_elements(fields)}</xml>".encode()


def _elements(fields: Mapping[str, Any]) -> str:
    return "".join(f"<{name}>{_content(value)}</{name}>" for name, value in fields.items())


def _content(value: Any) -> str:
    if isinstance(value, Mapping):
        return _elements(value)
    if isinstance(value, int | float):
        return xml.sax.saxutils.escape(str(value))
    return f"<![CDATA[{str(value).replace(']]>', ']]]]><![CDATA[>')}]]>"


def refuse(code: int, message: str) -> NoReturn:
    """End the request with an error, which is a 200."""
    abort(json_response({"errcode": code, "errmsg": f"{message} rid: {secrets.token_hex(4)}"}))


class AccessTokens:
    """The tokens of one application: the same one for everybody until `renews_before_end` seconds before its end."""

    lasts_seconds = 7200

    def __init__(self, renews_before_end: float) -> None:
        self._renews_before_end = renews_before_end
        self._current: tuple[str, float] | None = None
        self._ends: dict[str, float] = {}
        self.issued = 0

    def issue(self, now: float, *, force: bool = False) -> dict[str, Any]:
        """A token with the seconds that it lasts; `force` ends the one before in five minutes at most."""
        if self._current is None or force or self._current[1] - now <= self._renews_before_end:
            if self._current is not None:
                self._ends[self._current[0]] = min(self._current[1], now + 300)
            self._current = (secrets.token_urlsafe(96), now + self.lasts_seconds)
            self._ends[self._current[0]] = self._current[1]
            self.issued += 1
        return {"access_token": self._current[0], "expires_in": int(self._current[1] - now)}

    def revoke(self) -> None:
        """End all tokens now, as the platform may."""
        self._current = None
        self._ends.clear()

    def check(self, token: str | None, now: float) -> None:
        """Refuse a token that is missing, unknown or over."""
        if not token:
            refuse(41001, "access_token missing")
        if token not in self._ends:
            refuse(40014, "invalid access_token")
        if self._ends[token] < now:
            refuse(42001, "access_token expired")


# -- the applications --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class File:
    """Something that was sent; `name` is what the download is called."""

    kind: str
    data: bytes
    content_type: str
    name: str
    at: float


class TencentApp(SandboxApp):
    """An application with one callback.

    Args:
        receiver_id: at the end of every encrypted body: app id, corp id.
        token: signs callbacks.
        encoding_aes_key: encrypts them; ``None``: plain mode.
        renews_before_end: see `AccessTokens`.
        retry_seconds: see `Deliverer`.
    """

    slug: str
    rules: tuple[Rule, ...] = RULES

    def __init__(
        self,
        *,
        receiver_id: str,
        token: str,
        encoding_aes_key: str | None,
        renews_before_end: float,
        retry_seconds: Sequence[float] = (0.05, 0.1),
    ) -> None:
        self.receiver_id = receiver_id
        self.token = token
        self.encoding_aes_key = encoding_aes_key
        self.tokens = AccessTokens(renews_before_end)
        self.files: dict[str, File] = {}
        self.deliverer = Deliverer(self._compose, self._prepare, max_tries=3, retry_seconds=retry_seconds)
        self._sequence = 0
        super().__init__()

    def api(self) -> Iterable[tuple[str, str, Callable[[Request], Response]]]:
        """Method, path and handler of each call that wants an access token."""
        return ()

    def open_api(self) -> Iterable[tuple[str, str, Callable[..., Response]]]:
        """Method, path and handler of each call that wants none."""
        return ()

    def routes(self) -> Iterable[Route]:
        """Every call, those with an access token behind its check."""
        for method, path, handler in self.open_api():
            yield Route(path, endpoint=_answering(handler), methods=[method])
        for method, path, handler in self.api():
            yield Route(path, endpoint=_answering(self._with_token(handler)), methods=[method])

    def refusal(self, error: HTTPException) -> Response:
        """An unknown path is a page, a wrong method an error code."""
        if error.code == 404:
            return Response("404 page not found", status=404, content_type="text/plain")
        return json_response({"errcode": 43002, "errmsg": "require POST method"})

    def connect(self, receiver_url: str) -> None:
        """Shake hands with the callback, then post to it; raises `ConnectionError` when it does not answer."""
        url = f"{receiver_url.rstrip('/')}/webhooks/{self.slug}"
        expected, query = self.handshake()
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(url, params=query, timeout=5)
        except requests.RequestException as error:
            message = f"the callback cannot be reached ({type(error).__name__})"
            raise ConnectionError(message) from None
        if answer.status_code != 200 or answer.text != expected:
            message = f"the callback answered the handshake with {answer.status_code} and not with its echostr"
            raise ConnectionError(message)
        self.deliverer.start(url, self.token)

    def handshake(self) -> tuple[str, dict[str, str]]:
        """What the callback must answer, and the query of the GET."""
        raise NotImplementedError

    def flush(self, timeout: float = 10) -> None:
        """Wait until every callback was accepted."""
        self.deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop posting."""
        self.deliverer.stop()

    def push(self, kind: str, subject: str, fields: Mapping[str, Any], delivery: Delivery | None = None) -> Event:
        """Tell the callback something."""
        event = Event(kind, subject, {"xml": dict(fields)})
        self.deliverer.add(event, delivery)
        return event

    def now(self) -> int:
        """The second that it is, as callbacks and messages have it."""
        return int(self.clock.epoch())

    def next_number(self) -> int:
        """1, 2, 3 ..."""
        self._sequence += 1
        return self._sequence

    def add_file(self, kind: str, data: bytes, content_type: str, name: str) -> str:
        """Somebody's file; its media id."""
        media_id = secrets.token_urlsafe(48)
        self.files[media_id] = File(kind, data, content_type, name, self.clock.epoch())
        return media_id

    def file_of(self, request: Request) -> File:
        """The file that is asked for."""
        file = self.files.get(request.args.get("media_id", ""))
        if file is None or self.clock.epoch() - file.at > MEDIA_SECONDS:
            refuse(40007, "invalid media_id")
        return file

    def signed_query(self, encrypted: str | None) -> dict[str, str]:
        """Timestamp, nonce and the signature over them and over what is encrypted."""
        timestamp, nonce = str(self.now()), str(secrets.randbelow(10**10))
        name, parts = ("msg_signature", [encrypted]) if encrypted is not None else ("signature", [])
        return {name: sign(self.token, timestamp, nonce, *parts), "timestamp": timestamp, "nonce": nonce}

    def envelope(self, message: bytes, fields: Mapping[str, Any]) -> bytes:
        """The body of a callback: encrypted, if there is a key."""
        if self.encoding_aes_key is None:
            return message
        encrypted = encrypt(message, self.encoding_aes_key, self.receiver_id)
        return to_xml({"ToUserName": fields["ToUserName"], "Encrypt": encrypted})

    def query_of(self, body: bytes) -> dict[str, str]:
        """The query under which `body` is posted; signed anew for each try."""
        if self.encoding_aes_key is None:
            return self.signed_query(None)
        return self.signed_query(body.decode().partition("<Encrypt><![CDATA[")[2].partition("]]>")[0])

    def _compose(self, parts: list[dict[str, Any]]) -> bytes:
        if len(parts) != 1:
            message = "a callback has one message: release them one by one (together=False)"
            raise ValueError(message)
        fields = parts[0]["xml"]
        return self.envelope(to_xml(fields), fields)

    def _prepare(self, url: str, body: bytes, token: str) -> tuple[str, Mapping[str, str]]:
        self.token = token
        prepared = requests.Request("POST", url, params=self.query_of(body)).prepare()
        return prepared.url or url, {"Content-Type": "text/xml", "User-Agent": "Mozilla/4.0"}

    def _with_token(self, handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            self.tokens.check(request.args.get("access_token"), self.clock.epoch())
            return handler(request)

        return answer


def _answering(handler: Callable[..., Response]) -> Callable[..., Response]:
    def answer(request: Request, **arguments: Any) -> Response:
        try:
            return handler(request, **arguments)
        except HTTPException as error:
            return error.get_response()

    return answer


def json_of(request: Request) -> dict[str, Any]:
    """The JSON object of a request."""
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        refuse(47001, "data format error")
    return body
