"""The calls of HubSpot's API that tap-hubspot makes: contacts, their histories, names of agents, links to files.

Pages: developers.hubspot.com/docs/api-reference/crm-contacts-v3/guide, /docs/api-reference/search/guide (5 requests a
second, 200 a page, the first 10,000 results, index lags behind), read 2026-11, documented.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import backoff
import urllib3

from mappings.errors import CredentialsError, OneThreadError, RateLimitedError, RejectedError, UnavailableError
from mappings.from_hubspot import CONTACT_FIELDS, REPLY_FIELDS
from mappings.http import error_for_status, retry_after_seconds
from mappings.hubspot_paths import Paths
from stores.control import Pauses
from stores.database import Stores
from taps.base import HttpSession

if TYPE_CHECKING:
    from taps.hubspot import HubSpotSettings

PLATFORM = "HubSpot"
_CONTACTS = "contacts"
_LIST_PAGE = 100


class HubSpotAccount(HttpSession):
    """The few questions of ``onethread doctor``; keeps HubSpot's time."""

    def __init__(self, settings: HubSpotSettings) -> None:
        token = settings.access_token
        super().__init__(
            PLATFORM,
            settings.api_url,
            headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            secrets=[token],
            timeout_seconds=settings.timeout_seconds,
            max_tries=2,
            max_seconds=15,
        )


class HubSpotReader:
    """The few calls that reading takes: a timeout on each, bounded retries, one pause for all processes.

    Every call may raise `CredentialsError`, `RejectedError`, and after the last try `RateLimitedError` or
    `UnavailableError`.
    """

    def __init__(self, settings: HubSpotSettings, stores: Stores) -> None:
        self.paths = Paths(settings.api_version)
        self._settings = settings
        self._account = f"hubspot:{settings.portal_id}"
        self._pauses = Pauses(stores)
        self._next_search_at = 0.0
        # The client logs bodies at DEBUG; they hold customers' data.
        logging.getLogger("hubspot").setLevel(logging.INFO)
        waiting = backoff.on_exception(
            backoff.runtime,
            RateLimitedError,
            value=lambda error: error.retry_after_seconds,
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
        self._persist = waiting(retrying(self._fetch_once))

    def list_contacts(self, after: str | None, *, archived: bool = False) -> dict[str, Any]:
        """One page of all contacts."""
        query = {"limit": str(_LIST_PAGE), "properties": ",".join(CONTACT_FIELDS), "archived": str(archived).lower()}
        if after is not None:
            query["after"] = after
        return self._fetch("GET", self.paths.objects(_CONTACTS), _CONTACTS, query=query)

    def search_contacts(self, request: dict[str, Any]) -> dict[str, Any]:
        """One page of a search."""
        time.sleep(max(0.0, self._next_search_at - time.monotonic()))
        self._next_search_at = time.monotonic() + self._settings.search_interval_seconds
        return self._fetch("POST", self.paths.objects(_CONTACTS, "search"), "contacts/search", body=request)

    def read_with_history(self, record_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Contacts with the history of their reply properties; those deleted meanwhile are left out."""
        body = {
            "inputs": [{"id": one} for one in record_ids],
            "properties": list(CONTACT_FIELDS),
            "propertiesWithHistory": list(REPLY_FIELDS),
        }
        path = self.paths.objects(_CONTACTS, "batch", "read")
        return results_of(self._fetch("POST", path, "contacts/batch/read", body=body))

    def signed_url(self, file_id: str) -> str:
        """A link to a file that an agent attached, good for some hours; it needs no token."""
        told = self._fetch("GET", self.paths.signed_url(file_id), "files/id/signed-url", needs="url")
        return str(told["url"])

    @cached_property
    def agent_names(self) -> dict[str, str]:
        """HubSpot user id -> name; empty when the token may not read owners."""
        names = {}
        try:
            for owner in results_of(self._fetch("GET", self.paths.owners(), "owners", query={"limit": "500"})):
                name = " ".join(str(owner[key]) for key in ("firstName", "lastName") if owner.get(key))
                if owner.get("userId") is not None and name:
                    names[str(owner["userId"])] = name
        except (CredentialsError, RejectedError):
            logging.getLogger(__name__).info("HubSpot: owners cannot be read; agents are named by their user id")
        return names

    def _fetch(
        self, method: str, path: str, endpoint: str, *, body: Any = None, query: Any = None, needs: str = "results"
    ) -> dict[str, Any]:
        """One answer, waited and retried for; `needs`: what a whole answer has."""
        answer: dict[str, Any] = self._persist(method, path, f"{method} {endpoint}", body, query, needs)
        return answer

    def _fetch_once(
        self, method: str, path: str, endpoint: str, body: Any, query: Mapping[str, str] | None, needs: str
    ) -> dict[str, Any]:
        left = self._pauses.seconds_left(self._account)
        if left:
            raise RateLimitedError(f"{PLATFORM}: account paused", retry_after_seconds=left)
        try:
            response = self._client.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                auth_settings=["oauth2"],
                _preload_content=False,
                _request_timeout=self._settings.timeout_seconds,
            )
            status, headers, raw = response.status, response.headers, response.data
        except self._api_exceptions as error:
            failed: Any = error
            status, headers, raw = failed.status or 0, failed.headers or {}, failed.body
        except urllib3.exceptions.HTTPError as error:
            msg = f"{PLATFORM}: {endpoint} gave no answer ({type(error).__name__})"
            raise UnavailableError(msg) from None
        told = _parsed(raw)
        if not 200 <= status < 300:
            raise self._error(endpoint, status, headers, told)
        if not isinstance(told.get(needs), list if needs == "results" else str):
            # An answer that was cut short must not look like the end of the data.
            msg = f"{PLATFORM}: {endpoint} answered {status} without {needs}"
            raise UnavailableError(msg)
        return told

    def _error(self, endpoint: str, status: int, headers: Mapping[str, str], body: Mapping[str, Any]) -> OneThreadError:
        asked = retry_after_seconds(headers.get("Retry-After"), datetime.now(UTC))
        if status == 429 and body.get("policyName") == "DAILY":
            msg = f"{PLATFORM}: {endpoint} answered 429: the account's calls for today are used up. Run again tomorrow"
            return RateLimitedError(msg)
        if status in {423, 429, 477}:
            # Search has a limit per second of its own and no headers (documented); the others say their interval.
            interval = headers.get("X-HubSpot-RateLimit-Interval-Milliseconds") or ""
            default = int(interval) / 1000 if interval.isdigit() else 1.0 if endpoint.endswith("search") else 10.0
            seconds = asked if asked is not None else default
            self._pauses.pause(self._account, seconds)
            msg = f"{PLATFORM}: {endpoint} answered {status}; waiting {seconds:.0f} s"
            return RateLimitedError(msg, retry_after_seconds=seconds)
        if status < 400:
            return UnavailableError(f"{PLATFORM}: {endpoint} answered {status}; trying again later")
        category = body.get("category")
        return error_for_status(PLATFORM, endpoint, status, code=category if isinstance(category, str) else None)

    def _is_too_long(self, error: Exception) -> bool:
        asked = getattr(error, "retry_after_seconds", None)
        return asked is None or asked > self._settings.max_retry_seconds

    # hubspot-api-client knows the paths of v3 only, so its `call_api` is given ours

    @cached_property
    def _client(self) -> Any:
        import hubspot

        retry = urllib3.Retry(total=None, connect=0, read=0, redirect=3, status=0, other=0)
        token = self._settings.access_token.get_secret_value()
        client = hubspot.Client.create(access_token=token, retry=retry, host=self._settings.api_url.rstrip("/"))
        return client.crm.objects.basic_api.api_client

    @cached_property
    def _api_exceptions(self) -> type[Exception]:
        from hubspot.crm.objects.exceptions import ApiException

        return ApiException  # type: ignore[no-any-return]


def results_of(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The objects of an answer."""
    return [one for one in page["results"] if isinstance(one, dict)]


def _parsed(raw: Any) -> dict[str, Any]:
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        body = {}
    return body if isinstance(body, dict) else {}
