"""The way to one Salesforce org: log-in, a timeout on every call, bounded retries, the day's calls watched.

Built on simple-salesforce 1.12, with its traps closed: https is hard-coded in it (here a base URL can stand in); it
has no timeout of its own; after a refused session it repeats a call without its headers (here permanent headers are the
session's, and the repeat is ours); its deploy changes the content type of every later call (here it gets a client of
its own). Observed in its source and by running it, 2026-11.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import jwt
import requests

from mappings.errors import CredentialsError, RateLimitedError, UnavailableError
from mappings.salesforce_login import log_in_without_answer, odd_log_in, refused_log_in, unreadable_key_file
from stores.control import Pauses
from stores.database import Stores
from stores.patience import while_unavailable
from targets.salesforce.answers import api_usage, error_for_answer, is_day_limit
from targets.salesforce.settings import SalesforceTargetSettings


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that the caller has to judge: success, or a refusal of this one request (4xx)."""

    status: int
    body: Any
    text: str = field(default="", repr=False)

    @property
    def ok(self) -> bool:
        """Whether the request was carried out; single rows of it may be refused all the same."""
        return self.status < 300


class Connection:
    """Calls one org.

    Errors of a call: `CredentialsError`, `RateLimitedError` (the day's calls are used up), `UnavailableError` after
    the last try, `SettingsError` for a retired version.

    Attributes:
        calls: API calls made so far.
        usage: calls used and allowed in 24 hours, as the org said last.
    """

    def __init__(self, settings: SalesforceTargetSettings, stores: Stores) -> None:
        self._settings = settings
        self._account = settings.account
        self._pauses = Pauses(stores)
        self._client: Any = None
        self.calls = 0
        self.usage: tuple[int, int] | None = None
        # The client logs whole bodies at DEBUG; they hold messages.
        logging.getLogger("simple_salesforce").setLevel(logging.INFO)
        self._persist = while_unavailable(self.call_once, settings)

    def call(self, method: str, path: str, **options: Any) -> Answer:
        """One call that can be repeated, tried again while the org is unavailable.

        Args:
            method: HTTP method.
            path: below ``/services/data/vNN.N/``, or from the root with a leading slash.
            options: `json`, `params`, `data`, `headers` of requests.
        """
        answer: Answer = self._persist(method, path, **options)
        return answer

    def call_once(self, method: str, path: str, **options: Any) -> Answer:
        """The same without a second try."""
        answer = self._send(method, path, options)
        if answer.status == 401:
            # Expired, or ended by an admin: one new session, then the same call with the same headers.
            self._client = None
            answer = self._send(method, path, options)
        endpoint = f"{method} {path.partition('?')[0]}"
        if is_day_limit(answer.status, answer.body):
            raise self._day_limit(endpoint)
        error = error_for_answer(endpoint, answer.status, answer.body)
        if error is not None:
            raise error
        return answer

    def stop_at_day_limit(self, status: int, body: Any) -> None:
        """Raise if a part of an answer, or a call of the client's own, says that the day's calls are used up."""
        if is_day_limit(status, body):
            raise self._day_limit("a part of a call")

    def call_soap(self, envelope: Callable[[str], str]) -> str:
        """One call of the SOAP API (partner); `envelope` makes it for a session id. Its XML answer."""
        from targets.salesforce.soap import fault_code

        path = f"/services/Soap/u/{self._settings.api_version}"
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""'}
        for last in (False, True):
            answer = self._send("POST", path, {"headers": headers}, soap=envelope)
            code = fault_code(answer.text) if answer.text else None
            if code == "INVALID_SESSION_ID" and not last:
                self._client = None
                continue
            if code == "REQUEST_LIMIT_EXCEEDED":
                raise self._day_limit("SOAP")
            if code is not None or not answer.ok:
                msg = f"Salesforce: SOAP answered {answer.status} ({code or 'no fault code'})"
                raise UnavailableError(msg) if answer.status != 403 else CredentialsError(msg)
            return answer.text
        raise UnavailableError("Salesforce: SOAP gave no answer")

    def new_client(self) -> Any:
        """A client of its own, for what spoils the client's headers; raises `CredentialsError`."""
        return self._log_in()

    @property
    def client(self) -> Any:
        """The simple-salesforce client, logged in."""
        if self._client is None:
            self._client = self._log_in()
        return self._client

    def forget_session(self) -> None:
        """Log in anew with the next call."""
        self._client = None

    # How a call is made

    def _send(
        self, method: str, path: str, options: Mapping[str, Any], soap: Callable[[str], str] | None = None
    ) -> Answer:
        self._check_allowed()
        client = self.client
        root = f"https://{client.sf_instance}"
        url = f"{root}{path}" if path.startswith("/") else f"{root}/services/data/v{self._settings.api_version}/{path}"
        headers = {"Authorization": f"Bearer {client.session_id}", "Content-Type": "application/json"}
        extra = dict(options)
        headers |= extra.pop("headers", {})
        if soap is not None:
            extra["data"] = soap(client.session_id).encode()
        self.calls += 1
        try:
            response = client.session.request(method, url, headers=headers, **extra)
        except requests.RequestException as error:
            msg = f"Salesforce: {method} {path.partition('?')[0]} gave no answer ({type(error).__name__})"
            raise UnavailableError(msg) from None
        self.usage = api_usage(response.headers.get("Sforce-Limit-Info")) or self.usage
        text = response.text
        try:
            body = json.loads(text) if text and soap is None else None
        except ValueError:
            if response.status_code < 300 and "json" in response.headers.get("Content-Type", "json"):
                msg = f"Salesforce: {method} {path.partition('?')[0]} gave an answer that was cut short"
                raise UnavailableError(msg) from None
            body = None
        return Answer(response.status_code, body, text)

    def _check_allowed(self) -> None:
        """Rather no call than the org's last ones: other integrations need some too."""
        left = self._pauses.seconds_left(self._account)
        if left:
            until = datetime.now(UTC) + timedelta(seconds=left)
            msg = (
                f"Salesforce: org paused, its API calls are used up. Nothing is lost; run again after {until:%H:%M} UTC"
            )
            raise RateLimitedError(msg, retry_after_seconds=left)
        if self.usage is not None:
            used, allowed = self.usage
            if used >= allowed * (100 - self._settings.quota_reserve_percent) / 100:
                raise self._pause(f"{used} of {allowed} API calls of the last 24 hours are used")

    def _day_limit(self, endpoint: str) -> RateLimitedError:
        return self._pause(f"{endpoint} was refused, the API calls of the last 24 hours are used up")

    def _pause(self, why: str) -> RateLimitedError:
        """The limit counts the last 24 hours, so it frees itself bit by bit (documented: API Request Limits)."""
        seconds = self._settings.limit_pause_seconds
        self._pauses.pause(self._account, seconds)
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        return RateLimitedError(f"Salesforce: {why}. Nothing is lost; run again after {until:%H:%M} UTC")

    # Logging in

    def _log_in(self) -> Any:
        """A new client; see `mappings.salesforce_login`."""
        from simple_salesforce.api import Salesforce
        from simple_salesforce.exceptions import SalesforceAuthenticationFailed

        settings = self._settings
        session = _Session(settings.api_url, settings.timeout_seconds)
        session.headers["Sforce-Duplicate-Rule-Header"] = duplicate_rule_header(settings)
        options = settings.client_options(_key_of_file(settings.needed_key_file))
        try:
            return Salesforce(**options, session=session)
        except SalesforceAuthenticationFailed as error:
            raise refused_log_in(getattr(error, "code", None)) from None
        except requests.RequestException as error:
            raise log_in_without_answer(error) from None
        except (ValueError, TypeError, KeyError, AttributeError, jwt.PyJWTError) as error:
            raise odd_log_in(error, settings) from None


def _key_of_file(path: str | None) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii") if path else None
    except (OSError, UnicodeError) as error:
        raise unreadable_key_file(error) from None


class _Session(requests.Session):
    """A timeout on every call, and another base URL where one is set."""

    def __init__(self, base_url: str | None, timeout_seconds: float) -> None:
        super().__init__()
        self._base = urlsplit(base_url.rstrip("/")) if base_url else None
        self._timeout_seconds = timeout_seconds

    def request(self, method: str, url: str, *arguments: Any, **options: Any) -> requests.Response:  # type: ignore[override]
        """As `requests.Session.request`."""
        if options.get("timeout") is None:
            options["timeout"] = self._timeout_seconds
        if self._base is not None:
            url = urlunsplit(urlsplit(url)._replace(scheme=self._base.scheme, netloc=self._base.netloc))
        return super().request(method, url, *arguments, **options)


def duplicate_rule_header(settings: SalesforceTargetSettings) -> str:
    """What duplicate rules are told.

    Source: developer.salesforce.com/docs, REST API Developer Guide, Duplicate Rule Header, read 2026-11, documented:
    ``allowSave`` passes rules that warn, never rules that block.
    """
    allowed = "true" if settings.on_duplicate == "allow" else "false"
    return f"allowSave={allowed}; includeRecordDetails=false; runAsCurrentUser=true"


def wait_before_retry(settings: SalesforceTargetSettings, number: int) -> None:
    """Wait before the next try of something; doubles with each, with jitter, at most a minute."""
    seconds = min(60.0, settings.retry_wait_seconds * 2**number)
    time.sleep(seconds * random.uniform(0.5, 1.0))  # noqa: S311  # spreads load, guards nothing
