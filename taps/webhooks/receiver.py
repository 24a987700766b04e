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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, quote

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import OneThreadError, SettingsError, SignatureError, UnavailableError
from mappings.platforms import Platform, load_platforms
from stores.database import Stores
from stores.deliveries import Deliveries
from taps.webhooks.committer import Committer
from taps.webhooks.items import Answer, WebhookRequest
from taps.webhooks.metrics import CONTENT_TYPE, Metrics
from taps.webhooks.retention import Retention, forget_media
from taps.webhooks.server import Server

log = logging.getLogger("onethread.receiver")

DEFAULT_ROUTE = "default"
RETRY_AFTER_SECONDS = 10
_ROUTE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_COMMON_HEADERS = ("content-type", "user-agent")
_PROXY_HEADERS = ("forwarded", "via", *(f"x-forwarded-{name}" for name in ("for", "host", "proto", "port", "by")))
"""Who sends them unasked is not believed; one that is there tells that a proxy stands in front."""
_MEDIA_INTERVAL_SECONDS = 24 * 3600.0
_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
    413: "Content Too Large", 415: "Unsupported Media Type", 503: "Service Unavailable",
}  # fmt: skip


def _proxy_address(text: str) -> str:
    return text if text == "*" else str(ipaddress.ip_address(text))


def _proxy_headers(text: str) -> str:
    names = set(text.lower().split())
    if not names or (names != {"forwarded"} and not names <= set(_PROXY_HEADERS[2:])):
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


class Receiver:
    """The WSGI application. `routes` maps (platform, route name) to what serves it."""

    def __init__(
        self,
        routes: Routes,
        deliveries: Deliveries,
        committer: Committer,
        settings: ReceiverSettings,
        metrics: Metrics,
    ) -> None:
        self._routes = routes
        self._settings = settings
        self._deliveries = deliveries
        self._committer = committer
        self._metrics = metrics
        self._refused: Counter[tuple[str, str]] = Counter()

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The WSGI entry. Whatever goes wrong on our side is a 503, so that the platform tries again."""
        try:
            status, answer = self._answer(environ)
        except UnavailableError as error:
            status, answer = 503, Answer(str(error))
        except Exception as error:  # noqa: BLE001 (a bug of ours must not look final to the platform)
            # No traceback and no message: they can hold what the customer wrote.
            log.error("receiver: %s while taking a delivery", type(error).__name__)
            status, answer = 503, Answer("internal error")
        self._metrics.answered(status)
        content = answer.body.encode()
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(content))),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if status == 503:
            headers.append(("Retry-After", str(RETRY_AFTER_SECONDS)))
        if status == 405:
            headers.append(("Allow", "GET, POST"))
        start_response(f"{status} {_REASONS[status]}", headers)
        return [content]

    def _answer(self, environ: Mapping[str, Any]) -> tuple[int, Answer]:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        if path in {"/health", "/healthz", "/ready", "/readyz"}:
            if path.startswith("/ready"):
                self._committer.check()
            return (200, Answer("ok")) if method == "GET" else (405, Answer())
        if path == "/metrics":
            return self._show_metrics(environ) if method == "GET" else (405, Answer())
        match path.split("/"):
            case ["", "webhooks", platform]:
                key = (platform, DEFAULT_ROUTE)
            case ["", "webhooks", platform, name]:
                key = (platform, name)
            case _:
                return 404, Answer()
        route = self._routes.get(key)
        if route is None:
            return 404, Answer()
        try:
            if method == "GET":
                return self._handshake(route, environ)
            return self._delivery(key, route, environ) if method == "POST" else (405, Answer())
        except SignatureError as error:
            self._count_refused(key, error)
            return 401, Answer()

    def _request(self, environ: Mapping[str, Any], received_at: datetime, body: bytes = b"") -> WebhookRequest | None:
        """The request as a webhook module sees it; ``None`` when its query cannot be read."""
        text = environ.get("QUERY_STRING", "")
        try:
            query = dict(reversed(parse_qsl(text, keep_blank_values=True, max_num_fields=50)))
        except ValueError:
            return None
        headers = {
            name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        for name in _PROXY_HEADERS:
            headers.pop(name, None)
        headers["content-type"] = environ.get("CONTENT_TYPE", "")
        base = self._settings.public_url or f"{environ.get('wsgi.url_scheme', 'http')}://{headers.get('host', '')}"
        path = quote(environ.get("PATH_INFO", "").encode("latin-1"), safe="/:@-._~!$&'()*+,;=")
        return WebhookRequest(
            method=environ["REQUEST_METHOD"],
            url=f"{base}{path}{'?' if text else ''}{text}",
            query=query,
            headers=headers,
            body=body,
            received_at=received_at,
        )

    def _handshake(self, route: WebhookRoute, environ: Mapping[str, Any]) -> tuple[int, Answer]:
        request = self._request(environ, datetime.now(UTC))
        if request is None:
            return 400, Answer()
        answer = route.module.challenge(route.settings, request)
        return (405, Answer()) if answer is None else (200, answer)

    def _delivery(self, key: tuple[str, str], route: WebhookRoute, environ: Mapping[str, Any]) -> tuple[int, Answer]:
        received_at = datetime.now(UTC)
        encoding = environ.get("HTTP_CONTENT_ENCODING", "identity").lower()
        if encoding != "identity" and not (encoding == "gzip" and getattr(route.module, "GZIP", False)):
            return 415, Answer()  # 1 MB of gzip can be 1 GB of zeros
        length = environ.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal():
            return 400, Answer()
        if int(length) > route.module.MAX_BODY_BYTES:
            return 413, Answer()
        self._committer.check()
        body = environ["wsgi.input"].read(int(length))
        request = self._request(environ, received_at, body) if len(body) == int(length) else None
        if request is None:
            return 400, Answer()
        route.module.verify(route.settings, request)
        names = (*_COMMON_HEADERS, *getattr(route.module, "HEADERS", ()))
        kept = {name: request.headers[name] for name in names if name in request.headers}
        if encoding != "identity":
            kept["content-encoding"] = encoding
        query = environ.get("QUERY_STRING", "")
        self._committer.store(self._deliveries.encode(*key, received_at, kept, query, body))
        self._metrics.delivered(key, received_at)
        return 200, route.module.answer(route.settings, request) if hasattr(route.module, "answer") else Answer()

    def _show_metrics(self, environ: Mapping[str, Any]) -> tuple[int, Answer]:
        """The counters, for those who may see them; for everybody else there is no such page."""
        token = self._settings.metrics_token
        if token is not None:
            given = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, f"Bearer {token.get_secret_value()}".encode()):
                return 401, Answer()
        elif self._settings.public_url or self._settings.trusted_proxy or not _is_this_machine(environ):
            return 404, Answer()
        return 200, Answer(self._metrics.text(), CONTENT_TYPE)

    def _count_refused(self, key: tuple[str, str], error: SignatureError) -> None:
        """Log the 1st, 2nd, 4th, 8th ... refusal: a flood of forged requests must not fill the disk with log lines."""
        self._metrics.refused(key)
        self._refused[key] += 1
        count = self._refused[key]
        if count & (count - 1) == 0:
            log.warning("receiver: %s/%s refused %d requests so far; the last: %s", *key, count, error)


def _is_this_machine(environ: Mapping[str, Any]) -> bool:
    """Whether the request comes from this machine, and not from elsewhere through a proxy on it."""
    if any(f"HTTP_{name.replace('-', '_').upper()}" in environ for name in _PROXY_HEADERS):
        return False
    try:
        return ipaddress.ip_address(environ.get("REMOTE_ADDR", "")).is_loopback
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
    for slug, platform in (load_platforms() if platforms is None else platforms).items():
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
