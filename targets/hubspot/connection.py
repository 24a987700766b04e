"""How a call to HubSpot is made: a timeout on each, bounded retries, one pause for all processes of an account.

The client is hubspot-api-client 12. Its functions know v3 and v4 paths only, so calls go through its `call_api`, with
the paths of the version that is set; its models are passed by: answers are plain dicts in which every field may be
missing, as HubSpot asks clients to read them.

Sources: developers.hubspot.com/docs/api-reference/error-handling and /docs/developer-tooling/platform/usage-guidelines,
read 2026-11, documented; what is otherwise is said where it is used.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import backoff
import urllib3

from mappings.errors import (
    CredentialsError,
    OneThreadError,
    OutcomeUnknownError,
    RateLimitedError,
    UnavailableError,
)
from mappings.http import redact, retry_after_seconds
from mappings.hubspot_paths import Paths
from stores.control import Pauses
from stores.database import Stores
from targets.hubspot.answers import Answer, needed_scopes
from targets.hubspot.settings import HubSpotTargetSettings


class Connection:
    """Calls one HubSpot account.

    Errors of a call: `CredentialsError`, `RateLimitedError` (the day's calls are used up, or the pause is too long),
    `UnavailableError` after the last try, `OutcomeUnknownError` only where `repeatable` is false.
    """

    def __init__(self, settings: HubSpotTargetSettings, stores: Stores) -> None:
        self.paths = Paths(settings.api_version)
        self.calls = 0
        self._settings = settings
        self._account = f"hubspot:{settings.portal_id}"
        self._pauses = Pauses(stores)
        # The client logs bodies at DEBUG; they hold messages.
        logging.getLogger("hubspot").setLevel(logging.INFO)
        waiting = backoff.on_exception(
            backoff.runtime,
            RateLimitedError,
            value=_asked_seconds,
            jitter=None,
            giveup=self._is_too_long,
            max_tries=settings.max_tries,
            max_time=settings.max_retry_seconds,
            logger=None,
        )
        retrying = backoff.on_exception(
            backoff.expo,
            UnavailableError,
            factor=settings.retry_wait_seconds,
            max_value=60,
            jitter=lambda seconds: seconds * random.uniform(0.5, 1.0),  # noqa: S311  # spreads load, guards nothing
            max_tries=settings.max_tries,
            max_time=settings.max_retry_seconds,
            logger=None,
        )
        self._persist = waiting(retrying(self._call_once))

    def call(
        self,
        method: str,
        path: str,
        endpoint: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        repeatable: bool = True,
    ) -> Answer:
        """Make one call and wait, retry or raise as its answer asks.

        Args:
            method: of HTTP.
            path: made by `paths`.
            endpoint: what errors name it by, without ids: ``contacts/batch/read``.
            body: JSON.
            query: parameters of the address.
            repeatable: whether it can be sent again when nobody knows what came of it.
        """
        answer: Answer = self._persist(method, path, f"{method} {endpoint}", body, query, repeatable)
        return answer

    def _call_once(
        self, method: str, path: str, endpoint: str, body: Any, query: Mapping[str, Any] | None, repeatable: bool
    ) -> Answer:
        left = self._pauses.seconds_left(self._account)
        if left:
            msg = f"HubSpot: account paused for {left:.0f} more seconds"
            raise RateLimitedError(msg, retry_after_seconds=left)
        self.calls += 1
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            response = self._client.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["oauth2"],
                _preload_content=False,
                _request_timeout=self._settings.timeout_seconds,
            )
            status, told, raw = response.status, response.headers, response.data
        except self._api_exception as error:
            failed: Any = error
            status, told, raw = failed.status or 0, failed.headers or {}, failed.body
        except urllib3.exceptions.HTTPError as error:
            raise self._without_answer(endpoint, error, repeatable) from None
        parsed = _parsed(raw)
        self._slow_down(told)
        if 200 <= status < 300 and (parsed or not raw):
            return Answer(status, parsed)
        return self._judge(endpoint, status, told, parsed, repeatable)

    def _judge(
        self, endpoint: str, status: int, headers: Mapping[str, str], body: dict[str, Any], repeatable: bool
    ) -> Answer:
        """Refusals of this request are for the caller; the rest is raised."""
        what = f"HubSpot: {endpoint} answered {status}"
        asked = retry_after_seconds(headers.get("Retry-After"), datetime.now(UTC))
        if status in {401, 403}:
            scopes = needed_scopes(body)
            hint = f"; the token needs {', '.join(scopes)}" if scopes else "; check the access token and its scopes"
            raise CredentialsError(what + hint)
        if status == 429 and body.get("policyName") == "DAILY":
            msg = f"{what}: the account's calls for today are used up. Nothing is lost; run again after midnight"
            raise RateLimitedError(msg)
        if status in {423, 429, 477}:
            # 423: locked, wait at least 2 s; 477: the account is being moved, Retry-After says how long (documented).
            default = 2.0 if status == 423 else _interval_seconds(headers)
            seconds = asked if asked is not None else default
            self._pauses.pause(self._account, seconds)
            msg = f"{what}; waiting {seconds:.0f} s"
            raise RateLimitedError(msg, retry_after_seconds=seconds)
        if status == 408 or status >= 500 or status < 400:  # a success without JSON was cut short on its way
            if repeatable:
                raise UnavailableError(f"{what}; trying again later")
            raise OutcomeUnknownError(f"{what}; reading back what came of it")
        return Answer(status, body)

    def _without_answer(self, endpoint: str, error: Exception, repeatable: bool) -> OneThreadError:
        reason = getattr(error, "reason", None)
        cause = reason if isinstance(reason, Exception) else error
        msg = redact(f"HubSpot: {endpoint} gave no answer ({type(cause).__name__})")
        never_sent = isinstance(cause, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)
        if repeatable or never_sent:
            return UnavailableError(msg)
        return OutcomeUnknownError(msg)

    def _is_too_long(self, error: Exception) -> bool:
        asked = getattr(error, "retry_after_seconds", None)
        return asked is None or asked > self._settings.max_retry_seconds

    def _slow_down(self, headers: Mapping[str, str]) -> None:
        """Rather a short pause for every process than a refusal: refusals over 5 % cost an app its listing."""
        remaining = headers.get("X-HubSpot-RateLimit-Remaining")
        if remaining is not None and remaining.isdigit() and int(remaining) <= 2:
            self._pauses.pause(self._account, _interval_seconds(headers) / 10)

    # Each access to a part of the client would build a new connection pool, so one is kept

    @cached_property
    def _client(self) -> Any:
        import hubspot

        # Everything is retried here, by meaning; the client itself must not, or a create could go out twice.
        retry = urllib3.Retry(total=None, connect=0, read=0, redirect=3, status=0, other=0)
        client = hubspot.Client.create(
            access_token=self._settings.access_token.get_secret_value(),
            retry=retry,
            host=self._settings.api_url.rstrip("/"),
        )
        return client.crm.objects.basic_api.api_client

    @cached_property
    def _api_exception(self) -> type[Exception]:
        from hubspot.crm.objects.exceptions import ApiException

        return ApiException  # type: ignore[no-any-return]


def _asked_seconds(error: RateLimitedError) -> float:
    return error.retry_after_seconds or 0.0


def _interval_seconds(headers: Mapping[str, str]) -> float:
    text = headers.get("X-HubSpot-RateLimit-Interval-Milliseconds") or ""
    return int(text) / 1000 if text.isdigit() else 10.0


def _parsed(raw: Any) -> dict[str, Any]:
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        body = {}
    return body if isinstance(body, dict) else {}
