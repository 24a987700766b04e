"""The receiver: HTTP in, verify, store the raw bytes, answer 200. It knows no platform.

``/webhooks/<platform>`` and ``/webhooks/<platform>/<route>`` take deliveries and handshakes, ``/healthz`` says that the
process lives, ``/readyz`` that it can store, ``/metrics`` what it has done. What the bytes mean is asked later, by the
tap that reads them: a parser can be fixed, a delivery cannot be asked for again.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import re
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import OneThreadError, SettingsError, SignatureError, UnavailableError
from mappings.platforms import Platform, load_crms, load_platforms
from stores.database import Stores
from stores.deliveries import Deliveries
from taps.webhooks.clock import ClockWatch
from taps.webhooks.committer import Committer
from taps.webhooks.connection import Request, Respond, Response, unavailable
from taps.webhooks.items import Answer, WebhookRequest
from taps.webhooks.metrics import CONTENT_TYPE, Metrics
from taps.webhooks.retention import Retention, forget_media
from taps.webhooks.server import Server

log = logging.getLogger("onethread.receiver")

DEFAULT_ROUTE = "default"
_ROUTE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_COMMON_HEADERS = ("content-type", "user-agent")
_FORWARDED = frozenset(f"x-forwarded-{name}" for name in ("for", "host", "proto", "port", "by"))
_PROXY_HEADERS = _FORWARDED | {"forwarded", "via"}
"""Who sends them unasked is not believed; one that is there tells that a proxy stands in front."""
_MEDIA_INTERVAL_SECONDS = 24 * 3600.0
_OWN_PATHS = frozenset({"/health", "/healthz", "/ready", "/readyz", "/metrics"})
_STORED = Response(200)
_NOT_FOUND = Response(404)
_NOT_ALLOWED = Response(405, headers=(("Allow", "GET, POST"),))


def _proxy_address(text: str) -> str:
    return text if text == "*" else str(ipaddress.ip_address(text))


def _proxy_headers(text: str) -> str:
    names = set(text.lower().split())
    if not names or (names != {"forwarded"} and not names <= _FORWARDED):
        msg = "name x-forwarded-for, -host, -proto, -port or -by, or forwarded alone; with spaces in between"
        raise ValueError(msg)
    return " ".join(sorted(names))


class ReceiverSettings(BaseSettings):
    """What the receiver itself can be told; the secrets are in the settings of each platform's webhook."""

    model_config = SettingsConfigDict(env_prefix="ONETHREAD_RECEIVER_", frozen=True, extra="ignore", env_file=".env")

    minimum_free_bytes: int = Field(500_000_000, ge=0, description="Below this, deliveries are answered 503.")
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^/?#]+(/[^?#]*[^/?#])?$",
        description="Scheme, host and path before /webhooks, as platforms call it, e.g. https://hooks.shop.example. "
        "Twilio signs the address: behind a proxy its deliveries are refused without this.",
    )
    minimum_free_percent: float = Field(5.0, ge=0, le=100, description="The same, as a share of the disk.")
    trusted_proxy: Annotated[str, AfterValidator(_proxy_address)] | None = Field(
        None,
        description="Address of the one proxy in front, as it connects to us; what it says about scheme, host and peer "
        "of a request is then believed. * believes everybody: only where nobody but the proxy can connect.",
    )
    trusted_proxy_headers: Annotated[str, AfterValidator(_proxy_headers)] = Field(
        "x-forwarded-for x-forwarded-host x-forwarded-proto",
        description="Those that the proxy sets itself, whatever its clients send; or `forwarded` alone.",
    )
    metrics_token: SecretStr | None = Field(
        None,
        min_length=1,
        description="/metrics is for those who send it (Authorization: Bearer ...). Without it only for this machine, "
        "and for nobody when a proxy stands in front.",
    )
    retention_days: int = Field(
        30,
        ge=0,
        le=36_500,
        description="Raw deliveries are removed after that many days, once every tap that reads them has read them. 0 "
        "keeps them for ever.",
    )
    media_retention_days: int | None = Field(
        None,
        ge=0,
        le=36_500,
        description="The same for the files of messages, by the day on which they were fetched. Default: as "
        "retention_days.",
    )


@dataclass(frozen=True)
class WebhookRoute:
    """One webhook address: a platform's webhook module with the settings of this route.

    `module` has ``Settings``, ``challenge``, ``verify``, ``split``, ``MAX_BODY_BYTES`` and, where there is need,
    ``HEADERS`` (lowercase names worth keeping besides content type and user agent), ``GZIP`` (compressed
    bodies are taken and stored as they came) and ``answer`` (what the 200 to a stored delivery says).
    """

    module: Any
    settings: Any = field(repr=False)


Routes = Mapping[tuple[str, str], WebhookRoute]
Settings = TypeVar("Settings", bound=BaseSettings)


class _Address:
    """What is served at one address, looked up once and not at every delivery."""

    def __init__(self, key: tuple[str, str], route: WebhookRoute) -> None:
        module = route.module
        self.key = key
        self.challenge: Callable[[WebhookRequest], Answer | None] = partial(module.challenge, route.settings)
        self.verify: Callable[[WebhookRequest], None] = partial(module.verify, route.settings)
        self.answer: Callable[[WebhookRequest], Answer] | None = (
            partial(module.answer, route.settings) if hasattr(module, "answer") else None
        )
        self.max_body_bytes: int = module.MAX_BODY_BYTES
        self.takes_gzip: bool = getattr(module, "GZIP", False)
        self.kept_headers: tuple[str, ...] = (*_COMMON_HEADERS, *getattr(module, "HEADERS", ()), "content-encoding")


class Receiver:
    """The application behind the server. `routes` maps (platform, route name) to what serves it."""

    def __init__(
        self,
        routes: Routes,
        deliveries: Deliveries,
        committer: Committer,
        settings: ReceiverSettings,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._deliveries = deliveries
        self._committer = committer
        self._metrics = metrics
        self._clock = ClockWatch(metrics)
        self._refused: Counter[tuple[str, str]] = Counter()
        # As they are sent: nothing is decoded, so there is one way to write each.
        self._addresses: dict[str, _Address] = {}
        for key, route in routes.items():
            address = _Address(key, route)
            self._addresses["/webhooks/" + "/".join(key)] = address
            if key[1] == DEFAULT_ROUTE:
                self._addresses[f"/webhooks/{key[0]}"] = address

    def start(self, call_soon: Callable[[Callable[[], None]], object], stop: Callable[[], None]) -> None:
        """The server runs: deliveries are answered in its thread; it stops when nothing can be stored any more."""
        self._committer.tell(call_soon, stop)

    def answered(self, status: int) -> None:
        """Count what was answered, by the server itself too."""
        self._metrics.answered(status)

    def begin(self, request: Request) -> Response | int:
        """How long the body of a delivery may be; everything else needs none and is answered at once."""
        address = self._addresses.get(request.path)
        try:
            return self._page(request) if address is None else self._begin(address, request)
        except Exception as error:  # noqa: BLE001 (see _refusal)
            return self._refusal(address, error)

    def take(self, request: Request, respond: Respond) -> None:
        """Answer a delivery, when it is on disk."""
        address = self._addresses[request.path]
        try:
            refusal = self._delivery(address, request, respond)
        except Exception as error:  # noqa: BLE001 (see _refusal)
            refusal = self._refusal(address, error)
        if refusal is not None:
            respond(refusal)

    def _page(self, request: Request) -> Response:
        if request.path not in _OWN_PATHS:
            return _NOT_FOUND
        if request.method != "GET":
            return _NOT_ALLOWED
        if request.path == "/metrics":
            return self._show_metrics(request)
        if request.path.startswith("/ready"):
            self._committer.check()
        return Response(200, b"ok")

    def _begin(self, address: _Address, request: Request) -> Response | int:
        if request.method != "POST":
            return self._handshake(address, request) if request.method == "GET" else _NOT_ALLOWED
        encoding = request.headers.get("content-encoding")
        if encoding is not None:
            encoding = encoding.lower()
            if encoding == "gzip" and address.takes_gzip:
                request.headers["content-encoding"] = encoding
            elif encoding == "identity":
                del request.headers["content-encoding"]
            else:
                return Response(415)  # 1 MB of gzip can be 1 GB of zeros
        if (request.body_bytes or 0) > address.max_body_bytes:
            return Response(413)
        self._committer.check()
        return address.max_body_bytes

    def _refusal(self, address: _Address | None, error: Exception) -> Response:
        """401 to who is not authentic; whatever else goes wrong is our fault: 503, and the platform tries again."""
        if isinstance(error, SignatureError) and address is not None:
            self._count_refused(address.key, error)
            return Response(401)
        if isinstance(error, UnavailableError):
            return unavailable(str(error))
        # No traceback and no message: they can hold what the customer wrote.
        log.error("receiver: %s while taking a delivery", type(error).__name__)
        return unavailable("internal error")

    def _request(self, request: Request, received_at: datetime) -> WebhookRequest | None:
        """The request as a webhook module sees it; ``None`` when its query cannot be read."""
        query: dict[str, str] = {}
        if request.query:
            try:
                query = dict(reversed(parse_qsl(request.query, keep_blank_values=True, max_num_fields=50)))
            except ValueError:
                return None
        headers = request.headers
        for name in _PROXY_HEADERS & headers.keys():
            del headers[name]
        headers.setdefault("content-type", "")
        base = self._settings.public_url or f"{request.scheme}://{headers.get('host', '')}"
        return WebhookRequest(
            method=request.method,
            url=f"{base}{request.path}{'?' if request.query else ''}{request.query}",
            query=query,
            headers=headers,
            body=request.body,
            received_at=received_at,
        )

    def _handshake(self, address: _Address, request: Request) -> Response:
        seen = self._request(request, datetime.now(UTC))
        if seen is None:
            return Response(400)
        answer = address.challenge(seen)
        return _NOT_ALLOWED if answer is None else _response(answer)

    def _delivery(self, address: _Address, request: Request, respond: Respond) -> Response | None:
        """Why it is refused; ``None`` when `respond` will be called."""
        received_at = datetime.now(UTC)
        seen = self._request(request, received_at)
        if seen is None:
            return Response(400)
        try:
            address.verify(seen)
        except SignatureError:
            self._clock.refused(address.key, address.verify, seen)
            raise
        self._clock.accepted(address.key)
        headers = seen.headers
        kept = {name: headers[name] for name in address.kept_headers if name in headers}
        response = _STORED if address.answer is None else _response(address.answer(seen))
        row = self._deliveries.encode(*address.key, received_at, kept, request.query, request.body)

        def done(failure: str | None) -> None:
            respond(unavailable(failure) if failure else response)

        self._committer.submit(row, done)
        self._metrics.delivered(address.key, received_at)
        return None

    def _show_metrics(self, request: Request) -> Response:
        """The counters, for those who may see them; for everybody else there is no such page."""
        token = self._settings.metrics_token
        if token is not None:
            given = request.headers.get("authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, f"Bearer {token.get_secret_value()}".encode()):
                return Response(401)
        elif self._settings.public_url or self._settings.trusted_proxy or not _is_this_machine(request):
            return _NOT_FOUND
        return Response(200, self._metrics.text().encode(), CONTENT_TYPE)

    def _count_refused(self, key: tuple[str, str], error: SignatureError) -> None:
        """Log the 1st, 2nd, 4th, 8th ... refusal: a flood of forged requests must not fill the disk with log lines."""
        self._metrics.refused(key)
        self._refused[key] += 1
        count = self._refused[key]
        if count & (count - 1) == 0:
            log.warning("receiver: %s/%s refused %d requests so far; the last: %s", *key, count, error)


def _response(answer: Answer) -> Response:
    return Response(200, answer.body.encode(), answer.content_type)


def _is_this_machine(request: Request) -> bool:
    """Whether the request comes from this machine, and not from elsewhere through a proxy on it."""
    if _PROXY_HEADERS & request.headers.keys():
        return False
    try:
        return ipaddress.ip_address(request.peer).is_loopback
    except ValueError:
        return False


def metrics_of(routes: Routes, deliveries: Deliveries) -> Metrics:
    """Counters that show every route from the start, with its last delivery."""
    metrics = Metrics()
    for key in routes:
        metrics.serves(key, deliveries.last_received_at(*key))
    return metrics


def build_routes(platforms: Mapping[str, Platform] | None = None) -> dict[tuple[str, str], WebhookRoute]:
    """Every webhook whose secrets are set, with its settings from the environment (or ``.env``).

    The route ``default`` reads ``ONETHREAD_<PLATFORM>_...``; more routes are named in ``ONETHREAD_<PLATFORM>_ROUTES``
    (``shop2,shop3``) and read ``ONETHREAD_<PLATFORM>_<ROUTE>_...``. A platform without any of its secrets is left out
    and logged.

    Args:
        platforms: slug -> platform; all registered ones by default.

    Raises:
        SettingsError: a secret is empty, only some are set, or no webhook has any.
    """
    routes: dict[tuple[str, str], WebhookRoute] = {}
    for slug, platform in ({**load_platforms(), **load_crms()} if platforms is None else platforms).items():
        if platform.webhook is None:
            continue
        module = platform.load("webhook")
        prefix = f"ONETHREAD_{slug.upper()}_"
        if _is_unset(module.Settings, prefix):
            log.warning("receiver: %s is not served: no %s... secret is set", slug, prefix)
        else:
            routes[slug, DEFAULT_ROUTE] = WebhookRoute(module, _load_settings(module.Settings, prefix))
        for name in _route_names(module.Settings, prefix):
            settings = _load_settings(module.Settings, f"{prefix}{name.upper()}_")
            routes[slug, name] = WebhookRoute(module, settings)
    if not routes:
        msg = "no webhook can be served: no platform has its secrets set; see the page of each platform"
        raise SettingsError(msg)
    return routes


def serve(
    stores: Stores,
    host: str,
    port: int,
    on_ready: Callable[[int], None] | None = None,
    on_delivery: Callable[[], None] | None = None,
    *,
    routes: Routes | None = None,
    disk_usage: Callable[[Path], Any] = shutil.disk_usage,
) -> None:
    """Receive until SIGTERM or SIGINT; then answer what has begun to arrive and return, within 10 seconds.

    Args:
        stores: the state; nobody else may receive into it at the same time.
        host: address to listen on.
        port: 0 takes a free one.
        on_ready: called once with the port, when deliveries can come.
        on_delivery: called after each commit that stored something new, in the committer's thread: return at once.
        routes: what to serve; by default `build_routes`.
        disk_usage: free and total bytes of the disk of a folder.

    Raises:
        SettingsError: another receiver runs, the address is taken, or a secret is missing.
        UnavailableError: the disk fails, and what was answered 200 so far is all that it surely holds.
    """
    routes = build_routes() if routes is None else routes
    settings = _load_settings(ReceiverSettings, "ONETHREAD_RECEIVER_")
    with ExitStack() as stack:
        try:
            stack.enter_context(stores.lock("receiver", timeout_seconds=1))
        except TimeoutError:
            msg = f"another onethread receiver is running on {stores.folder}; stop it, or use another state_url"
            raise SettingsError(msg) from None
        deliveries = Deliveries(stores, writable=True)
        metrics = metrics_of(routes, deliveries)
        retention = Retention(stores, deliveries, timedelta(days=settings.retention_days), metrics)
        committer = Committer(
            deliveries,
            stores.folder,
            minimum_free_bytes=settings.minimum_free_bytes,
            minimum_free_percent=settings.minimum_free_percent,
            on_delivery=on_delivery,
            disk_usage=disk_usage,
            metrics=metrics,
            housekeeping=retention.step,
        )
        stack.enter_context(_forgetting_media(stores, settings))
        try:
            app = Receiver(routes, deliveries, committer, settings, metrics)
            _serve(app, settings, routes, host, port, on_ready)
        finally:
            # Before its thread has ended, closing the connection would pull it from under a commit.
            if committer.close(timeout_seconds=2):
                deliveries.close()
        if committer.broken:
            msg = (
                f"{committer.broken}. The receiver has stopped: what it answered 200 is stored, the rest was refused. "
                "Look at the disk and at the kernel's log before you start it again"
            )
            raise UnavailableError(msg)


@contextmanager
def _forgetting_media(stores: Stores, settings: ReceiverSettings) -> Iterator[None]:
    """Meanwhile, once a day, files that are old enough are removed; in a thread of its own, for it may take long."""
    days = settings.retention_days if settings.media_retention_days is None else settings.media_retention_days
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            try:
                count = forget_media(stores, timedelta(days=days), datetime.now(UTC))
                if count:
                    log.info("receiver: removed %d files of messages older than %d days", count, days)
            except OneThreadError as error:
                log.error("receiver: %s: %s", type(error).__name__, error)
            except Exception as error:  # noqa: BLE001 (another day; deliveries are taken all the same)
                log.error("receiver: removing files of messages failed: %s", type(error).__name__)
            stopped.wait(_MEDIA_INTERVAL_SECONDS)

    thread = threading.Thread(target=run, name="media", daemon=True)
    if days:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        if days:
            thread.join(timeout=1)


def make_server(app: Receiver, settings: ReceiverSettings, routes: Routes, host: str, port: int) -> Server:
    """The server in front of `app`; raises `OSError` when it cannot listen."""
    return Server(
        app,
        host,
        port,
        max_body_bytes=max(route.module.MAX_BODY_BYTES for route in routes.values()),
        trusted_proxy=settings.trusted_proxy,
        trusted_proxy_headers=settings.trusted_proxy_headers.split(),
    )


def _serve(
    app: Receiver,
    settings: ReceiverSettings,
    routes: Routes,
    host: str,
    port: int,
    on_ready: Callable[[int], None] | None,
) -> None:
    try:
        server = make_server(app, settings, routes, host, port)
    except OSError as error:
        msg = f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}"
        raise SettingsError(msg) from None
    log.info("receiver: listening on http://%s:%d for %s", host, server.port, ", ".join(map("/".join, sorted(routes))))
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, lambda *_: server.stop())
    try:
        if on_ready is not None:
            on_ready(server.port)
        server.run()
    finally:
        server.close()
        for number, handler in previous.items():
            signal.signal(number, handler)
    log.info("receiver: stopped")


class _RouteNames(BaseSettings):
    """Which routes besides the default one a platform has."""

    model_config = SettingsConfigDict(extra="ignore", env_file=".env")

    routes: str = ""


def _route_names(model: type[BaseSettings], prefix: str) -> list[str]:
    listed = _RouteNames(_env_prefix=prefix).routes
    names = [name.strip().lower() for name in listed.split(",") if name.strip()]
    for name in names:
        # ONETHREAD_X_PREVIOUS_APP_SECRET would be both the default's previous secret and the current one of "previous".
        ambiguous = {f"{name}_{setting}" for setting in model.model_fields} & set(model.model_fields)
        if not _ROUTE_NAME.fullmatch(name) or name == DEFAULT_ROUTE or ambiguous:
            msg = f"{prefix}ROUTES: {name!r} cannot be a route; use a letter, then letters, digits and _, not 'default'"
            raise SettingsError(msg)
    return names


def _load_settings(model: type[Settings], prefix: str) -> Settings:
    try:
        return model(_env_prefix=prefix)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
    wrong = (f"{prefix}{'_'.join(map(str, one['loc'])).upper()} ({one['msg']})" for one in problems)
    msg = f"the receiver cannot start safely; set or correct {', '.join(wrong)}"
    raise SettingsError(msg)


def _is_unset(model: type[BaseSettings], prefix: str) -> bool:
    """Whether nothing that `model` needs is there; a setting that is there and empty is set.

    Where no single setting is required (one of several must be), any of them counts.
    """
    required = [name for name, setting in model.model_fields.items() if setting.is_required()]
    if not required:
        given = {**dotenv_values(".env"), **os.environ}
        return not any(f"{prefix}{name.upper()}" in given for name in model.model_fields)
    try:
        model(_env_prefix=prefix)
    except ValidationError as error:
        missing = [problem["loc"] for problem in error.errors(include_input=False) if problem["type"] == "missing"]
        return len(missing) == len(required) == error.error_count()
    return False
