"""How a call to HubSpot is made: a timeout on each, bounded retries, one pause for all processes of an account.

The client is hubspot-api-client 12. Its functions know v3 and v4 paths only, so calls go through its `call_api`, with
the paths of the version that is set; its models are passed by: answers are plain dicts in which every field may be
missing, as HubSpot asks clients to read them.

What an answer means, and how the account is opened, is in `mappings.hubspot_login`. Source: developers.hubspot.com/
docs/developer-tooling/platform/usage-guidelines, read 2026-11, documented; what is otherwise is said where it is used.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import urllib3
from pydantic import SecretStr

from mappings.errors import OneThreadError, OutcomeUnknownError, RateLimitedError, UnavailableError
from mappings.http import redact
from mappings.hubspot_login import PLATFORM, error_of_answer, interval_seconds, read_token_answer
from mappings.hubspot_paths import Paths
from stores.control import Pauses
from stores.database import Stores
from stores.oauth import Grant, OAuthLogin
from stores.patience import with_patience
from targets.hubspot.answers import Answer
from targets.hubspot.settings import HubSpotTargetSettings

Form = Sequence[tuple[str, Any]]
"""Fields of a multipart body; a file is (name, bytes, type)."""


class Connection:
    """Calls one HubSpot account.

    Errors of a call: `CredentialsError`, `RateLimitedError` (the day's calls are used up, or the pause is too long),
    `UnavailableError` after the last try, `OutcomeUnknownError` only where `repeatable` is false.
    """

    def __init__(self, settings: HubSpotTargetSettings, stores: Stores) -> None:
        self.paths = Paths(settings.api_version)
        self.calls = 0
        self._settings = settings
        self._account = settings.account
        self._pauses = Pauses(stores)
        self._stores = stores
        # The client logs bodies at DEBUG; they hold messages.
        logging.getLogger("hubspot").setLevel(logging.INFO)
        self._persist = with_patience(self._call_once, settings)

    def call(
        self,
        method: str,
        path: str,
        endpoint: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        form: Form | None = None,
        repeatable: bool = True,
    ) -> Answer:
        """Make one call and wait, retry or raise as its answer asks.

        Args:
            method: of HTTP.
            path: made by `paths`.
            endpoint: what errors name it by, without ids: ``contacts/batch/read``.
            body: JSON.
            query: parameters of the address.
            form: a multipart body, in the place of `body`.
            repeatable: whether it can be sent again when nobody knows what came of it.
        """
        answer: Answer = self._persist(method, path, f"{method} {endpoint}", body, query, form, repeatable)
        return answer

    def _call_once(
        self,
        method: str,
        path: str,
        endpoint: str,
        body: Any,
        query: Mapping[str, Any] | None,
        form: Form | None,
        repeatable: bool,
    ) -> Answer:
        left = self._pauses.seconds_left(self._account)
        if left:
            msg = f"{PLATFORM}: account paused for {left:.0f} more seconds"
            raise RateLimitedError(msg, retry_after_seconds=left)
        token = self._token()
        try:
            status, headers, raw = self._send(method, path, token, body, query, form)
            if status == 401 and self._login is not None:
                # Ended before its time: nothing was carried out, so once more with another one.
                renewed = self._login.renewed(token)
                status, headers, raw = self._send(method, path, renewed, body, query, form)
        except urllib3.exceptions.HTTPError as error:
            raise self._without_answer(endpoint, error, repeatable) from None
        parsed = _parsed(raw)
        self._slow_down(headers)
        if 200 <= status < 300 and (parsed or not raw):
            return Answer(status, parsed)
        failed = error_of_answer(endpoint, status, headers, parsed, datetime.now(UTC))
        if failed is None:  # a refusal of this one request: the caller's business
            return Answer(status, parsed)
        if isinstance(failed, RateLimitedError) and failed.retry_after_seconds is not None:
            self._pauses.pause(self._account, failed.retry_after_seconds)
        if isinstance(failed, UnavailableError) and not repeatable:
            msg = f"{PLATFORM}: {endpoint} answered {status}; reading back what came of it"
            raise OutcomeUnknownError(msg)
        raise failed

    def _send(
        self, method: str, path: str, token: SecretStr, body: Any, query: Mapping[str, Any] | None, form: Form | None
    ) -> tuple[int, Mapping[str, str], Any]:
        """Status, headers and body of one answer; raises `urllib3.exceptions.HTTPError` when there is none."""
        self.calls += 1
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token.get_secret_value()}"}
        if body is not None or form is not None:
            headers["Content-Type"] = "application/json" if form is None else "multipart/form-data"
        try:
            response = self._client.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                post_params=list(form) if form is not None else None,
                _preload_content=False,
                _request_timeout=self._settings.timeout_seconds,
            )
        except self._api_exception as error:
            failed: Any = error
            return failed.status or 0, failed.headers or {}, failed.body
        return response.status, response.headers, response.data

    def _token(self) -> SecretStr:
        """The access token to use now."""
        if self._login is not None:
            return self._login.access_token()
        return self._settings.access_token or SecretStr("")

    @cached_property
    def _login(self) -> OAuthLogin | None:
        """``None`` with a token that lasts."""
        settings = self._settings
        if settings.refresh_token is None:
            return None
        grant = Grant(PLATFORM, settings.token_url, settings.token_form, read_token_answer)
        timeout = settings.timeout_seconds
        return OAuthLogin(self._stores, settings.account, settings.refresh_token, grant, timeout_seconds=timeout)

    def _without_answer(self, endpoint: str, error: Exception, repeatable: bool) -> OneThreadError:
        reason = getattr(error, "reason", None)
        cause = reason if isinstance(reason, Exception) else error
        msg = redact(f"HubSpot: {endpoint} gave no answer ({type(cause).__name__})")
        never_sent = isinstance(cause, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)
        if repeatable or never_sent:
            return UnavailableError(msg)
        return OutcomeUnknownError(msg)

    def _slow_down(self, headers: Mapping[str, str]) -> None:
        """Rather a short pause for every process than a refusal: refusals over 5 % cost an app its listing."""
        remaining = headers.get("X-HubSpot-RateLimit-Remaining")
        if remaining is not None and remaining.isdigit() and int(remaining) <= 2:
            self._pauses.pause(self._account, interval_seconds(headers) / 10)

    # Each access to a part of the client would build a new connection pool, so one is kept

    @cached_property
    def _client(self) -> Any:
        import hubspot

        # Everything is retried here, by meaning; the client itself must not, or a create could go out twice.
        retry = urllib3.Retry(total=None, connect=0, read=0, redirect=3, status=0, other=0)
        client = hubspot.Client.create(retry=retry, host=self._settings.api_url.rstrip("/"))
        return client.crm.objects.basic_api.api_client

    @cached_property
    def _api_exception(self) -> type[Exception]:
        from hubspot.crm.objects.exceptions import ApiException

        return ApiException  # type: ignore[no-any-return]


def _parsed(raw: Any) -> dict[str, Any]:
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        body = {}
    return body if isinstance(body, dict) else {}
