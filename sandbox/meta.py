"""What Meta's platforms share: error object, access token, usage headers, rate budgets, and the sender of webhooks.

Sources, where a rule names none of its own: developers.facebook.com/docs/graph-api/webhooks (copy of 2026-05-05) and
developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks (copy of 2026-05-05), documented.
"""

from __future__ import annotations

import abc
import base64
import hashlib
import heapq
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import requests
from werkzeug.exceptions import HTTPException, abort
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import Rule, SandboxApp, json_response

_WEBHOOKS = "developers.facebook.com/docs/graph-api/webhooks, copy of 2026-05-05"
_CLIENTS = "error classes of pywa 4.5.0, session of facebook-business 26.0.3"

VERSION = "/v<float:version>"

RULES = (
    Rule("a webhook body is signed: X-Hub-Signature-256 over the raw bytes", _WEBHOOKS, "documented", "pywa"),
    Rule("a webhook body is escaped on the wire: \\uXXXX and \\/", _WEBHOOKS, "documented", "pywa"),
    Rule("a webhook that was not answered 2xx comes again, later and later", _WEBHOOKS, "documented"),
    Rule("several updates can come in one post, in any order, more than once", _WEBHOOKS, "documented", "pywa"),
    Rule("the callback answers the challenge of the verify GET or is not subscribed", _WEBHOOKS, "documented"),
    Rule("a wrong access token is code 190", _CLIENTS, "observed", "pywa"),
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


@dataclass(frozen=True, slots=True)
class Delivery:
    """What happens to one event on its way.

    Attributes:
        duplicate: how many times it is posted again although it was accepted.
        drop: never post it: a lost webhook.
        delay_seconds: post it this much later; what happens meanwhile overtakes it.
    """

    duplicate: int = 0
    drop: bool = False
    delay_seconds: float = 0.0


@dataclass(slots=True)
class Event:
    """One thing that the platform has to tell, and the account of telling it.

    `subject` is the message id that it is about, `part` what `compose` puts into a body.
    """

    kind: str
    subject: str
    part: dict[str, Any]
    dropped: bool = False
    attempts: int = 0
    accepted: int = 0


@dataclass(order=True, slots=True)
class _Post:
    due: float
    sequence: int
    body: bytes = field(compare=False)
    events: list[Event] = field(compare=False)
    tries: int = field(compare=False, default=0)


def wire(payload: Any) -> bytes:
    """`payload` as Meta writes JSON: compact, ASCII only, slashes escaped."""
    return json.dumps(payload, ensure_ascii=True, separators=(",", ":")).replace("/", "\\/").encode("ascii")


def signature(secret: str, body: bytes) -> str:
    """The value of ``X-Hub-Signature-256`` for `body`."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class Deliverer:
    """Posts events to the callback from a thread of its own, until each is accepted, and keeps account.

    Without a callback events wait. `hold` keeps them back, `release` lets them go in another order or in one post.

    Args:
        compose: the parts of the events of one post -> its JSON.
        retry_seconds: pauses before the second, third, ... try; the last one repeats. Meta's are minutes to hours
            over 36 hours to 7 days (its pages differ); here they are short.
        timeout_seconds: how long the callback may take (Meta: 5 s, documented).
    """

    def __init__(
        self,
        compose: Callable[[list[dict[str, Any]]], dict[str, Any]],
        *,
        retry_seconds: Sequence[float] = (0.05, 0.1, 0.2, 0.4, 0.8),
        timeout_seconds: float = 5.0,
    ) -> None:
        self.events: list[Event] = []
        self._compose = compose
        self._retry_seconds = retry_seconds
        self._timeout_seconds = timeout_seconds
        self._url: str | None = None
        self._secret = ""
        self._changed = threading.Condition()
        self._posts: list[_Post] = []
        self._held: list[tuple[Event, Delivery]] | None = None
        self._in_flight = 0
        self._sequence = 0
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self, url: str, secret: str) -> None:
        """Begin to post to `url`, signed with `secret`; a second call changes both."""
        with self._changed:
            self._url, self._secret = url, secret
            if self._thread is None:
                self._stopping = False
                self._thread = threading.Thread(target=self._run, name="meta-webhooks", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def stop(self) -> None:
        """Stop posting. What was not accepted stays and goes on with the next `start`."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(self._timeout_seconds + 1)

    def add(self, event: Event, delivery: Delivery | None = None) -> None:
        """Tell `event` to the callback, in the way that `delivery` says."""
        delivery = delivery or Delivery()
        with self._changed:
            self.events.append(event)
            if delivery.drop:
                event.dropped = True
            elif self._held is not None:
                self._held.append((event, delivery))
            else:
                self._queue([event], delivery)

    def hold(self) -> None:
        """Keep new events back until `release`."""
        with self._changed:
            self._held = self._held or []

    def release(self, *, reverse: bool = False, together: bool = True) -> int:
        """Let go of the events held back: newest first with `reverse`, in one post with `together`. How many."""
        with self._changed:
            held, self._held = self._held or [], None
            if reverse:
                held.reverse()
            if together and held:
                self._queue([event for event, _ in held], Delivery(max(one.duplicate for _, one in held)))
            elif not together:
                for event, delivery in held:
                    self._queue([event], delivery)
            return len(held)

    def flush(self, timeout_seconds: float = 10.0) -> None:
        """Wait until every event that is not held back was accepted; raises `TimeoutError` after the timeout."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._posts and not self._in_flight, timeout_seconds):
                message = f"{len(self._posts) + self._in_flight} webhook posts are still waiting to be accepted"
                raise TimeoutError(message)

    def account(self) -> dict[str, int]:
        """Counts: events, accepted (at least once), dropped, waiting, held, attempts, accepted_posts."""
        with self._changed:
            return {
                "events": len(self.events),
                "accepted": sum(1 for event in self.events if event.accepted),
                "dropped": sum(1 for event in self.events if event.dropped),
                "waiting": len(self._posts) + self._in_flight,
                "held": len(self._held or ()),
                "attempts": sum(event.attempts for event in self.events),
                "accepted_posts": sum(event.accepted for event in self.events),
            }

    def handshake(self, url: str, verify_token: str) -> bool:
        """The verify GET: is the challenge answered?"""
        challenge = str(secrets.randbelow(10**10))
        query = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": verify_token}
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(url, params=query, timeout=self._timeout_seconds)
        except requests.RequestException:
            return False
        return answer.status_code == 200 and answer.text == challenge

    def _queue(self, events: list[Event], delivery: Delivery) -> None:
        body = wire(self._compose([event.part for event in events]))
        for _ in range(1 + delivery.duplicate):
            self._sequence += 1
            heapq.heappush(self._posts, _Post(time.monotonic() + delivery.delay_seconds, self._sequence, body, events))
        self._changed.notify_all()

    def _run(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for post, url, secret in self._due():
                accepted = self._send(session, post, url, secret)
                with self._changed:
                    self._in_flight -= 1
                    for event in post.events:
                        event.attempts += 1
                        event.accepted += accepted
                    if not accepted:
                        pause = self._retry_seconds[min(post.tries, len(self._retry_seconds) - 1)]
                        post.tries, post.due = post.tries + 1, time.monotonic() + pause
                        heapq.heappush(self._posts, post)
                    self._changed.notify_all()

    def _due(self) -> Iterator[tuple[_Post, str, str]]:
        while True:
            with self._changed:
                while not self._stopping and not (self._posts and self._posts[0].due <= time.monotonic()):
                    self._changed.wait(self._posts[0].due - time.monotonic() if self._posts else None)
                if self._stopping or self._url is None:
                    return
                post = heapq.heappop(self._posts)
                self._in_flight += 1
                found = (post, self._url, self._secret)
            yield found

    def _send(self, session: requests.Session, post: _Post, url: str, secret: str) -> bool:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "facebookexternalua",
            "X-Hub-Signature-256": signature(secret, post.body),
        }
        try:
            answer = session.post(
                url, data=post.body, headers=headers, timeout=self._timeout_seconds, allow_redirects=False
            )
        except requests.RequestException:
            return False
        return 200 <= answer.status_code < 300


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
        self.deliverer = Deliverer(self.compose, retry_seconds=retry_seconds, timeout_seconds=timeout_seconds)
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
        if values.get("verify", True) and not self.deliverer.handshake(values["url"], self.verify_token):
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
