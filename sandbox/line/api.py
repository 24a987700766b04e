"""The calls of the Messaging API that the stand-in answers: access tokens, the bot, people, files, sends."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import jwt
import requests
from werkzeug.exceptions import HTTPException, abort
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.line.account import ANSWER_WITHIN_SECONDS, Sent, prepare
from sandbox.line.people import People

_AUDIENCE = "https://api.line.me/"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_STATELESS_SECONDS = 900
_LONGEST_SECONDS = 30 * 86_400
_LONGEST_ASSERTION_SECONDS = 1800
_LIVE_TOKENS = 30
_LIVES_FOR_EVER = 3_138_007_490  # what LINE answers of a long-lived token
_TYPES = frozenset("text textV2 sticker image video audio location imagemap template flex coupon".split())


class LineApp(People):
    """The stand-in as a server: see `Account` for its options and `People` for what people can do."""

    def routes(self) -> Iterable[Route]:
        """The calls that this stand-in answers."""
        calls: list[tuple[str, str, Callable[..., Response]]] = [
            ("POST", "/oauth2/v3/token", self._post_stateless),
            ("POST", "/oauth2/v2.1/token", self._post_asserted),
            ("GET", "/oauth2/v2.1/verify", self._get_verify),
            ("POST", "/oauth2/v2.1/revoke", self._post_revoke),
            ("POST", "/v2/oauth/verify", self._post_verify),
            ("GET", "/v2/bot/info", self._get_info),
            ("GET", "/v2/bot/channel/webhook/endpoint", self._get_endpoint),
            ("PUT", "/v2/bot/channel/webhook/endpoint", self._put_endpoint),
            ("POST", "/v2/bot/channel/webhook/test", self._post_test),
            ("GET", "/v2/bot/profile/<user>", self._get_profile),
            ("GET", "/v2/bot/group/<group>/member/<user>", self._get_member),
            ("GET", "/v2/bot/group/<group>/summary", self._get_group),
            ("GET", "/v2/bot/followers/ids", self._get_followers),
            ("POST", "/v2/bot/user/<user>/linkToken", self._post_link_token),
            ("GET", "/v2/bot/message/<message_id>/content", self._get_content),
            ("GET", "/v2/bot/message/<message_id>/content/transcoding", self._get_transcoding),
            ("POST", "/v2/bot/message/push", self._post_push),
            ("POST", "/v2/bot/message/reply", self._post_reply),
            ("GET", "/v2/bot/message/quota", self._get_quota),
            ("GET", "/v2/bot/message/quota/consumption", self._get_consumption),
        ]
        for method, path, handler in calls:
            yield Route(path, endpoint=handler, methods=[method])

    def refusal(self, error: HTTPException) -> Response:
        """LINE's words for an unknown path and a wrong method."""
        return _error(error.code or 500, "Not found" if error.code == 404 else "Method not allowed")

    def guard(self, request: Request) -> Response | None:
        """The access token and the endpoint's budget. Tokens themselves are asked for without a token."""
        if not self.calls.take(f"{request.method} {request.path}", self.clock.epoch()):
            return _error(429, "The API rate limit has been exceeded. Try again later.")
        if "oauth" in request.path:
            return None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer" and (token == self.access_token or self._lasts(token) > 0):
            return None
        return _error(401, "Authentication failed. Confirm that the access token in the authorization header is valid.")

    def _with_faults(self, request: Request, handler: Callable[..., Response], arguments: Any) -> Response:
        try:
            return super()._with_faults(request, handler, arguments)
        except HTTPException as error:  # a handler refused
            return error.get_response()

    # -- access tokens --

    def _lasts(self, token: str) -> float:
        """For how many more seconds a token that was issued is good."""
        _, expires_at = self.issued.get(token, ("", 0.0))
        return expires_at - self.clock.epoch()

    def _post_stateless(self, request: Request) -> Response:
        form = request.form
        if "client_assertion" in form:
            self._assertion(form)
        elif (form.get("client_id"), form.get("client_secret")) != (self.channel_id, self.channel_secret):
            _refuse_token("invalid_client", "invalid client_id or client_secret")
        if form.get("grant_type") != "client_credentials":
            _refuse_token("unsupported_grant_type", "grant_type is not supported")
        token = self._issue("stateless", _STATELESS_SECONDS)
        return json_response({"token_type": "Bearer", "access_token": token, "expires_in": _STATELESS_SECONDS - 1})

    def _post_asserted(self, request: Request) -> Response:
        key_id, claims = self._assertion(request.form)
        if request.form.get("grant_type") != "client_credentials":
            _refuse_token("unsupported_grant_type", "grant_type is not supported")
        lasts = claims.get("token_exp")
        if not isinstance(lasts, int) or not 0 < lasts <= _LONGEST_SECONDS:
            _refuse_token("invalid_request", "invalid token_exp")
        live = [token for token, (kind, _) in self.issued.items() if kind == "v2.1" and self._lasts(token) > 0]
        if len(live) >= _LIVE_TOKENS:
            _refuse_token("invalid_request", "the number of valid channel access tokens is at its limit")
        token = self._issue("v2.1", lasts)
        return json_response({"access_token": token, "token_type": "Bearer", "expires_in": lasts, "key_id": key_id})

    def _assertion(self, form: Any) -> tuple[str, dict[str, Any]]:
        """The key id and the claims of a good assertion."""
        if form.get("client_assertion_type") != _ASSERTION:
            _refuse_token("invalid_request", "invalid client_assertion_type")
        try:
            assertion = form.get("client_assertion", "")
            key_id = str(jwt.get_unverified_header(assertion).get("kid"))
            claims: dict[str, Any] = jwt.decode(
                assertion, self.assertion_keys[key_id], algorithms=["RS256"], audience=_AUDIENCE,
                issuer=self.channel_id, options={"require": ["exp", "iss", "sub", "aud"]},
            )  # fmt: skip
        except (jwt.PyJWTError, KeyError):
            _refuse_token("invalid_client", "invalid client_assertion")
        if claims["sub"] != self.channel_id or claims["exp"] - self.clock.epoch() > _LONGEST_ASSERTION_SECONDS:
            _refuse_token("invalid_client", "invalid client_assertion")
        return key_id, claims

    def _issue(self, kind: str, seconds: int) -> str:
        token = secrets.token_urlsafe(90)
        self.issued[token] = (kind, self.clock.epoch() + seconds)
        return token

    def _get_verify(self, request: Request) -> Response:
        return self._verified(request.args.get("access_token", ""))

    def _post_verify(self, request: Request) -> Response:
        return self._verified(request.form.get("access_token", ""))

    def _verified(self, token: str) -> Response:
        seconds = _LIVES_FOR_EVER if token == self.access_token else int(self._lasts(token))
        if seconds <= 0:
            _refuse_token("invalid_request", "access token expired")
        return json_response({"client_id": self.channel_id, "expires_in": seconds, "scope": "P CM"})

    def _post_revoke(self, request: Request) -> Response:
        self.issued.pop(request.form.get("access_token", ""), None)
        return Response(status=200)

    # -- the bot --

    def _get_info(self, request: Request) -> Response:
        del request
        return json_response({
            "userId": self.bot_id, "basicId": "@sandbox", "displayName": "Sandbox Shop", "chatMode": "bot",
            "markAsReadMode": "auto",
        })  # fmt: skip

    def _get_endpoint(self, request: Request) -> Response:
        del request
        return json_response({"endpoint": self.endpoint, "active": self.active})

    def _put_endpoint(self, request: Request) -> Response:
        url = _body_of(request).get("endpoint")
        local = isinstance(url, str) and url.startswith("http://127.0.0.1:")  # the one thing the platform would refuse
        if not isinstance(url, str) or len(url) > 500 or not (local or url.startswith("https://")):
            _refuse(400, "Invalid webhook endpoint URL")
        self.set_endpoint(url)
        return json_response({})

    def _post_test(self, request: Request) -> Response:
        body = _body_of(request) if request.get_data() else {}
        url, headers = prepare(str(body.get("endpoint") or self.endpoint), self.verify_button(), self.channel_secret)
        try:
            answer = requests.post(url, data=self.verify_button(), headers=headers, timeout=ANSWER_WITHIN_SECONDS)
            status, reason = answer.status_code, "OK" if answer.ok else "ERROR_STATUS_CODE"
        except requests.RequestException:
            status, reason = 0, "COULD_NOT_CONNECT"
        now = self.clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return json_response(
            {"success": status == 200, "timestamp": now, "statusCode": status, "reason": reason, "detail": str(status)}
        )

    # -- people --

    def _get_profile(self, request: Request, user: str) -> Response:
        del request
        person = self.users.get(user)
        if person is None or not person.friend or person.blocked:
            _refuse(404, "Not found")
        return json_response({**self._face(user), **({"language": person.language} if person.language else {})})

    def _get_member(self, request: Request, group: str, user: str) -> Response:
        del request
        if user not in self.groups.get(group, ()):
            _refuse(404, "Not found")
        return json_response(self._face(user))

    def _get_group(self, request: Request, group: str) -> Response:
        del request
        if group not in self.groups:
            _refuse(404, "Not found")
        return json_response({"groupId": group, "groupName": "Sandbox group"})

    def _face(self, user: str) -> dict[str, str]:
        person = self.users[user]
        face = {"userId": person.user_id, "displayName": person.name}
        return {**face, **({"pictureUrl": person.picture_url} if person.picture_url else {})}

    def _get_followers(self, request: Request) -> Response:
        if not self.verified:
            _refuse(403, "Access to this API is not available for your account")
        limit, start = request.args.get("limit", "300"), request.args.get("start", "0")
        if not limit.isdecimal() or not 1 <= int(limit) <= 1000 or not start.isdecimal():
            _refuse(400, "The value for the 'limit' or 'start' parameter is invalid")
        friends = [one.user_id for one in self.users.values() if one.friend and not one.blocked]
        end = int(start) + int(limit)
        more = {"next": str(end)} if end < len(friends) else {}
        return json_response({"userIds": friends[int(start) : end], **more})

    def _post_link_token(self, request: Request, user: str) -> Response:
        del request
        if user not in self.users:
            _refuse(400, "The property, 'userId', in the request URI is invalid")
        return json_response({"linkToken": self.issue_link_token(user)})

    # -- files --

    def _get_content(self, request: Request, message_id: str) -> Response:
        del request
        message = self.messages.get(message_id)
        if message is None or message.data is None or message.prepared == "failed":
            _refuse(404, "Not found")
        if message.unsent:
            _refuse(410, "Gone")
        if message.prepared != "succeeded":
            return Response(status=202)
        return Response(message.data, content_type=message.mime_type)

    def _get_transcoding(self, request: Request, message_id: str) -> Response:
        del request
        message = self.messages.get(message_id)
        if message is None or message.kind not in {"video", "audio"}:
            _refuse(404, "Not found")
        return json_response({"status": message.prepared})

    # -- sending --

    def _post_push(self, request: Request) -> Response:
        body = _body_of(request)
        key = request.headers.get("X-Line-Retry-Key")
        if key is not None and not _is_uuid(key):
            _refuse(400, "Invalid retry key")
        before = [one for one in self.sent if key is not None and one.retry_key == key]
        if before:
            answer = {
                "message": "The retry key is already accepted",
                "sentMessages": [{"id": one.id} for one in before],
            }
            return json_response(answer, 409, {"X-Line-Accepted-Request-Id": secrets.token_hex(16)})
        to = body.get("to")
        if not isinstance(to, str) or (to not in self.users and to not in self.groups):
            _refuse(400, "The property, 'to', in the request body is invalid (line: -, column: -)")
        messages = _checked_messages(body)
        readers = len(self.groups[to]) if to in self.groups else 1
        if self.monthly_quota is not None and self.used_quota + readers > self.monthly_quota:
            _refuse(429, "You have reached your monthly limit.")
        self.used_quota += readers
        return self._send(to, messages, key)

    def _post_reply(self, request: Request) -> Response:
        if "X-Line-Retry-Key" in request.headers:
            _refuse(400, "The retry key is not supported by this API")
        body = _body_of(request)
        messages = _checked_messages(body)
        to, expires_at = self.reply_tokens.get(str(body.get("replyToken")), ("", 0.0))
        if self.clock.epoch() > expires_at:
            _refuse(400, "Invalid reply token")
        del self.reply_tokens[str(body.get("replyToken"))]
        return self._send(to, messages, None)

    def _send(self, to: str, messages: list[dict[str, Any]], key: str | None) -> Response:
        person = self.users.get(to)
        arrives = person is None or (person.friend and not person.blocked)
        sent = [
            Sent(str(10**17 + secrets.randbelow(9 * 10**17)), to, one, self.clock.epoch(), key, arrives)
            for one in messages
        ]
        self.sent += sent
        return json_response(
            {"sentMessages": [{"id": one.id, "quoteToken": secrets.token_urlsafe(40)} for one in sent]}
        )

    def _get_quota(self, request: Request) -> Response:
        del request
        limited = {"type": "limited", "value": self.monthly_quota}
        return json_response({"type": "none"} if self.monthly_quota is None else limited)

    def _get_consumption(self, request: Request) -> Response:
        del request
        return json_response({"totalUsage": self.used_quota})


def _error(status: int, message: str, details: list[dict[str, str]] | None = None) -> Response:
    """An error in LINE's shape."""
    return json_response({"message": message, **({"details": details} if details else {})}, status)


def _refuse(status: int, message: str, details: list[dict[str, str]] | None = None) -> NoReturn:
    abort(_error(status, message, details))


def _refuse_token(code: str, description: str) -> NoReturn:
    abort(json_response({"error": code, "error_description": description}, 400))


def _body_of(request: Request) -> dict[str, Any]:
    if request.mimetype != "application/json":
        _refuse(415, "Unsupported media type")
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        _refuse(400, "The request body could not be parsed as JSON")
    return body


def _checked_messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a send, each of a known type with what it needs."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not 1 <= len(messages) <= 5:
        _refuse_part("messages", "Size must be between 1 and 5")
    for number, one in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(one, dict) or one.get("type") not in _TYPES:
            _refuse_part(f"{where}.type", "Must be one of the documented message types")
        text = one.get("text")
        if one["type"] == "text":
            if not isinstance(text, str) or not text:
                _refuse_part(f"{where}.text", "May not be empty")
            if len(text.encode("utf-16-le")) // 2 > 5000:
                _refuse_part(f"{where}.text", "Length must be between 0 and 5000")
        for name in ("originalContentUrl", "previewImageUrl"):
            if one["type"] in {"image", "video"} and not str(one.get(name, "")).startswith("https://"):
                _refuse_part(f"{where}.{name}", "Must be a HTTPS URL")
    return messages


def _refuse_part(name: str, reason: str) -> NoReturn:
    _refuse(400, "The request body has 1 error(s)", [{"message": reason, "property": name}])


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
