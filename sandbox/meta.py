"""What Meta's platforms share: error object, access token, usage headers, rate budgets, and the sender of webhooks.

Sources, where a rule names none of its own: developers.facebook.com/docs/graph-api/webhooks (copy of 2026-05-05) and
developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks (copy of 2026-05-05), documented.
"""

from __future__ import annotations

import abc
import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import requests
from werkzeug.exceptions import HTTPException, abort
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import Rule, SandboxApp, json_response
from sandbox.deliverer import Deliverer, Delivery, Event

_WEBHOOKS = "developers.facebook.com/docs/graph-api/webhooks, copy of 2026-05-05"
_DEBUGGING = "developers.facebook.com/docs/graph-api/reference/debug_token, read 2026-11"
_CLIENTS = "error classes of pywa 4.5.0, session of facebook-business 26.0.3"

VERSION = "/v<float:version>"

RULES = (
    Rule("a webhook body is signed: X-Hub-Signature-256 over the raw bytes", _WEBHOOKS, "documented", "pywa"),
    Rule("a webhook body is escaped on the wire: \\uXXXX and \\/", _WEBHOOKS, "documented", "pywa"),
    Rule("a webhook that was not answered 2xx comes again, later and later", _WEBHOOKS, "documented"),
    Rule("several updates can come in one post, in any order, more than once", _WEBHOOKS, "documented", "pywa"),
    Rule("the callback answers the challenge of the verify GET or is not subscribed", _WEBHOOKS, "documented"),
    Rule("a wrong access token is code 190", _CLIENTS, "observed", "pywa"),
    Rule("debug_token tells validity, end (0: never) and scopes of a token", _DEBUGGING, "documented"),
    Rule("a wrong appsecret_proof is code 100", _CLIENTS, "observed", "facebook-business"),
)  # fmt: skip


# -- answers -----------------------------------------------------------------------------------------------------------

# HTTP status by error code. Only the code is documented as stable ("branch on code"); the statuses are observed.
_STATUS = {0: 401, 190: 401, 104: 401, 3: 500, 10: 403, 200: 403, 131005: 403, 4: 429, 80007: 429, 130429: 429,
           131056: 429, 132001: 404, 1: 500, 2: 503, 131000: 500, 131016: 503, 131057: 503}  # fmt: skip


def graph_error(
    code: int, message: str, *, subcode: int | None = None, details: str | None = None, kind: str = "OAuthException"
) -> Response:
    """Meta's error object as an answer; `details` goes to ``error_data``, as WhatsApp has it."""
    error: dict[str, Any] = {"message": message, "type": kind, "code": code}
    if details is not None:
        error["error_data"] = {"messaging_product": "whatsapp", "details": details}
    if subcode is not None:
        error["error_subcode"] = subcode
    error["fbtrace_id"] = "A" + base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    return json_response({"error": error}, _STATUS.get(code, 400))


def refuse(code: int, message: str, **more: Any) -> NoReturn:
    """End the request with Meta's error object; the arguments are those of `graph_error`."""
    abort(graph_error(code, message, **more))


class TokenBucket:
    """A budget that refills: `capacity` calls at once, then `per_second` more; one bucket per key."""

    def __init__(self, capacity: float, per_second: float) -> None:
        self.capacity = capacity
        self.per_second = per_second
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, key: str, now: float) -> bool:
        """Take one call of `key` at the moment `now` (epoch seconds); False when there is none left."""
        level, at = self._levels.get(key, (self.capacity, now))
        level = min(self.capacity, level + max(0.0, now - at) * self.per_second)  # a test may turn the clock back
        allowed = level >= 1
        self._levels[key] = (level - 1 if allowed else level, now)
        return allowed


# -- webhooks ----------------------------------------------------------------------------------------------------------


def wire(payload: Any) -> bytes:
    """`payload` as Meta writes JSON: compact, ASCII only, slashes escaped."""
    return json.dumps(payload, ensure_ascii=True, separators=(",", ":")).replace("/", "\\/").encode("ascii")


def signature(secret: str, body: bytes) -> str:
    """The value of ``X-Hub-Signature-256`` for `body`."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def prepare(url: str, body: bytes, secret: str) -> tuple[str, dict[str, str]]:
    """Where and with which headers Meta posts `body`."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "facebookexternalua",
        "X-Hub-Signature-256": signature(secret, body),
    }
    return url, headers


def handshake(url: str, verify_token: str, timeout_seconds: float = 5.0) -> bool:
    """The verify GET: is the challenge answered?"""
    challenge = str(secrets.randbelow(10**10))
    query = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": verify_token}
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(url, params=query, timeout=timeout_seconds)
    except requests.RequestException:
        return False
    return answer.status_code == 200 and answer.text == challenge


# -- the application ---------------------------------------------------------------------------------------------------


class MetaApp(SandboxApp, abc.ABC):
    """A Graph API application with a webhook subscription. WhatsApp and Messenger build on it.

    Args:
        app_secret: signs webhooks and checks ``appsecret_proof``.
        access_token: the one token that is accepted.
        app_id: our app's id, a number; it is in the echo of what we send.
        callback_url: where webhooks go; later by `start_delivery` or ``POST /_sandbox/subscribe``.
        verify_token: sent in the verify GET.
        retry_seconds: see `Deliverer`.
        timeout_seconds: see `Deliverer`.
    """

    rules: tuple[Rule, ...] = RULES
    actions: frozenset[str] = frozenset()
    calls_per_hour = 100_000
    scopes: tuple[str, ...] = ()
    """The permissions of the access token."""
    token_ends = 0
    """When the access token ends, in epoch seconds; 0: never."""

    def __init__(
        self,
        *,
        app_secret: str = "sandbox-app-secret",  # noqa: S107 - invented, nothing else accepts it
        access_token: str = "sandbox-access-token",  # noqa: S107 - as above
        app_id: int = 100000000000001,
        callback_url: str | None = None,
        verify_token: str = "sandbox-verify-token",  # noqa: S107 - as above
        retry_seconds: Sequence[float] = (0.05, 0.1, 0.2, 0.4, 0.8),
        timeout_seconds: float = 5.0,
    ) -> None:
        self.app_secret = app_secret
        self.access_token = access_token
        self.app_id = app_id
        self.verify_token = verify_token
        self.require_proof = False
        self.deliverer = Deliverer(
            lambda parts: wire(self.compose(parts)),
            prepare,
            retry_seconds=retry_seconds,
            timeout_seconds=timeout_seconds,
        )
        self._calls = 0
        super().__init__()
        if callback_url is not None:
            self.start_delivery(callback_url)

    @abc.abstractmethod
    def compose(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """The body of one webhook post that tells all `parts`."""

    @abc.abstractmethod
    def graph_routes(self) -> Iterable[tuple[str, str, Callable[..., Response]]]:
        """Method, path and handler of each call of the platform; paths of the API begin with `VERSION`."""

    @abc.abstractmethod
    def add_customer_from_json(self, values: dict[str, Any]) -> dict[str, Any]:
        """Make a customer as ``POST /_sandbox/customers`` asks; what tells the caller whom it made."""

    def start_delivery(self, url: str | None, *, app_secret: str | None = None) -> None:
        """Post webhooks to `url` from now on (and what waited), signed with `app_secret`."""
        self.app_secret = app_secret or self.app_secret
        if url is not None:
            self.deliverer.start(url, self.app_secret)

    def stop_delivery(self) -> None:
        """Stop the webhook thread."""
        self.deliverer.stop()

    def routes(self) -> Iterable[Route]:
        """The platform's calls under every version, and what plays the other side under ``/_sandbox/``."""
        for method, path, handler in self.graph_routes():
            yield Route(path, endpoint=self._graph(handler), methods=[method])
        for path, handler in (
            ("subscribe", self._post_subscribe), ("customers", self._post_customer), ("act", self._post_act),
            ("hold", self._post_hold), ("release", self._post_release), ("flush", self._post_flush),
        ):  # fmt: skip
            yield Route(f"/_sandbox/{path}", endpoint=handler, methods=["POST"])

    def get_debug_token(self, request: Request) -> Response:
        """What the platform tells of a token: the handler of ``GET /v{N}.0/debug_token``."""
        now = int(self.clock.epoch())
        valid = request.args.get("input_token") == self.access_token and not 0 < self.token_ends <= now
        return json_response({"data": {
            "app_id": str(self.app_id), "application": "Sandbox app", "is_valid": valid, "expires_at": self.token_ends,
            "data_access_expires_at": 0, "scopes": list(self.scopes) if valid else [],
        }})  # fmt: skip

    def refusal(self, error: HTTPException) -> Response:
        """An unknown path is code 2500, a wrong method code 100."""
        if error.code == 404:
            return graph_error(2500, "Unknown path components")
        return graph_error(100, "Unsupported request", kind="GraphMethodException")

    def guard(self, request: Request) -> Response | None:
        """The access token (header, query, form or JSON), and the proof of the app secret when one is given."""
        parameters = self.parameters(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or parameters.get("access_token")
        if not token:
            return graph_error(104, "An access token is required to request this resource.")
        if token != self.access_token:
            return graph_error(190, "Invalid OAuth access token - Cannot parse access token")
        expected = hmac.new(self.app_secret.encode(), token.encode(), hashlib.sha256).hexdigest()
        proof = parameters.get("appsecret_proof")
        if proof is None and self.require_proof:
            return graph_error(100, "API calls from the server require an appsecret_proof argument")
        if proof is not None and proof != expected:
            return graph_error(100, "Invalid appsecret_proof provided in the API argument", kind="GraphMethodException")
        return None

    @staticmethod
    def parameters(request: Request) -> dict[str, Any]:
        """Query, form and JSON body as one: in a form, objects are JSON text, as Graph accepts them."""
        found: dict[str, Any] = dict(request.args)
        for name, value in request.form.items():
            try:
                found[name] = json.loads(value) if value[:1] in {"{", "["} else value
            except ValueError:
                found[name] = value
        if request.mimetype == "application/json" and request.get_data():
            body = request.get_json(silent=True)
            found.update(body if isinstance(body, dict) else {})
        return found

    def tell(self, kind: str, subject: str, part: dict[str, Any], delivery: Delivery | None = None) -> Event:
        """Queue one event for the webhook."""
        event = Event(kind, subject, part)
        self.deliverer.add(event, delivery)
        return event

    def _answer(self, request: Request) -> Response:
        try:
            return super()._answer(request)
        finally:
            request.close()  # uploaded files

    def _graph(self, handler: Callable[..., Response]) -> Callable[..., Response]:
        def answer(request: Request, version: float = 0.0, **arguments: Any) -> Response:
            del version
            try:
                response = handler(request, **arguments)
            except HTTPException as error:
                response = error.get_response()
            self._calls += 1
            share = min(100, self._calls * 100 // self.calls_per_hour)
            usage = {"call_count": share, "total_cputime": share, "total_time": share}
            response.headers["X-App-Usage"] = json.dumps(usage)
            response.headers["X-Business-Use-Case-Usage"] = json.dumps(
                {str(self.app_id): [{"type": "messenger", **usage, "estimated_time_to_regain_access": 0}]}
            )
            return response

        return answer

    def _post_subscribe(self, request: Request) -> Response:
        """``{"url", "app_secret"?, "verify_token"?, "verify"?: true}``; the verify GET comes first."""
        values = request.get_json()
        self.verify_token = values.get("verify_token", self.verify_token)
        if values.get("verify", True) and not handshake(values["url"], self.verify_token):
            return graph_error(2200, "(#2200) Callback verification failed")
        self.start_delivery(values["url"], app_secret=values.get("app_secret"))
        return json_response({"success": True})

    def _post_customer(self, request: Request) -> Response:
        with self.lock:
            return json_response(self.add_customer_from_json(request.get_json()))

    def _post_act(self, request: Request) -> Response:
        """``{"customer", "action", ...arguments, "delivery"?: {"duplicate"?, "drop"?, "delay_seconds"?}}``."""
        values = request.get_json()
        action = values.pop("action", None)
        if action not in self.actions:
            return json_response({"error": f"there are these actions: {', '.join(sorted(self.actions))}"}, 400)
        if "delivery" in values:
            values["delivery"] = Delivery(**values["delivery"])
        try:
            return json_response({"id": getattr(self, action)(values.pop("customer"), **values)})
        except (KeyError, TypeError, ValueError) as error:
            return json_response({"error": str(error)}, 400)

    def _post_hold(self, request: Request) -> Response:
        del request
        self.deliverer.hold()
        return json_response({})

    def _post_release(self, request: Request) -> Response:
        """``{"reverse"?, "together"?}``."""
        return json_response({"released": self.deliverer.release(**request.get_json())})

    def _post_flush(self, request: Request) -> Response:
        """``{"timeout_seconds"?}``; 504 when something was not accepted in that time."""
        try:
            self.deliverer.flush(**request.get_json())
        except TimeoutError as error:
            return json_response({"error": str(error)}, 504)
        return json_response(self.deliverer.account())
