"""The calls of HubSpot's API that tap-hubspot makes: contacts, their histories, names of agents, links to files.

Pages: developers.hubspot.com/docs/api-reference/crm-contacts-v3/guide, /docs/api-reference/search/guide (5 requests a
second, 200 a page, the first 10,000 results, index lags behind), read 2026-11, documented.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import urllib3
from pydantic import SecretStr

from mappings.errors import CredentialsError, RateLimitedError, RejectedError, UnavailableError
from mappings.from_hubspot import CONTACT_FIELDS, REPLY_FIELDS
from mappings.http import error_for_status
from mappings.hubspot_login import PLATFORM, error_of_answer, read_token_answer
from mappings.hubspot_paths import Paths
from stores.control import Pauses
from stores.database import Stores
from stores.oauth import Grant, OAuthLogin
from stores.patience import with_patience
from taps.base import HttpSession

if TYPE_CHECKING:
    from taps.hubspot import HubSpotSettings

_CONTACTS = "contacts"
_LIST_PAGE = 100


class HubSpotAccount(HttpSession):
    """The few questions of ``onethread doctor``; keeps HubSpot's time."""

    def __init__(self, settings: HubSpotSettings, token: SecretStr) -> None:
        super().__init__(
            PLATFORM,
            settings.api_url,
            headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            secrets=[token],
            timeout_seconds=settings.timeout_seconds,
            max_tries=2,
            max_seconds=15,
        )


def login_of(settings: HubSpotSettings, stores: Stores) -> OAuthLogin | None:
    """The login of an app on the developer platform; ``None`` with a token that lasts."""
    if settings.refresh_token is None:
        return None
    grant = Grant(PLATFORM, settings.token_url, settings.token_form, read_token_answer)
    timeout = settings.timeout_seconds
    return OAuthLogin(stores, settings.account, settings.refresh_token, grant, timeout_seconds=timeout)


class HubSpotReader:
    """The few calls that reading takes: a timeout on each, bounded retries, one pause for all processes.

    Every call may raise `CredentialsError`, `RejectedError`, and after the last try `RateLimitedError` or
    `UnavailableError`.
    """

    def __init__(self, settings: HubSpotSettings, stores: Stores) -> None:
        self.paths = Paths(settings.api_version)
        self._settings = settings
        self._account = settings.account
        self._pauses = Pauses(stores)
        self._login = login_of(settings, stores)
        self._next_search_at = 0.0
        # The client logs bodies at DEBUG; they hold customers' data.
        logging.getLogger("hubspot").setLevel(logging.INFO)
        self._persist = with_patience(self._fetch_once, settings)

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
        token = self._login.access_token() if self._login else self._settings.access_token or SecretStr("")
        try:
            status, headers, raw = self._send(method, path, token, body, query)
            if status == 401 and self._login is not None:
                # Ended before its time: nothing was carried out, so once more with another one.
                status, headers, raw = self._send(method, path, self._login.renewed(token), body, query)
        except urllib3.exceptions.HTTPError as error:
            msg = f"{PLATFORM}: {endpoint} gave no answer ({type(error).__name__})"
            raise UnavailableError(msg) from None
        told = _parsed(raw)
        if not 200 <= status < 300:
            category = told.get("category")
            code = category if isinstance(category, str) else None
            refused = error_of_answer(endpoint, status, headers, told, datetime.now(UTC))
            if isinstance(refused, RateLimitedError) and refused.retry_after_seconds is not None:
                self._pauses.pause(self._account, refused.retry_after_seconds)
            raise refused or error_for_status(PLATFORM, endpoint, status, code=code)
        if not isinstance(told.get(needs), list if needs == "results" else str):
            # An answer that was cut short must not look like the end of the data.
            msg = f"{PLATFORM}: {endpoint} answered {status} without {needs}"
            raise UnavailableError(msg)
        return told

    def _send(
        self, method: str, path: str, token: SecretStr, body: Any, query: Mapping[str, str] | None
    ) -> tuple[int, Mapping[str, str], Any]:
        """Status, headers and body of one answer; raises `urllib3.exceptions.HTTPError` when there is none."""
        try:
            response = self._client.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={
                    "Accept": "application/json",
                    "Content-Type": "application/json",
                    "Authorization": f"Bearer {token.get_secret_value()}",
                },
                body=body,
                _preload_content=False,
                _request_timeout=self._settings.timeout_seconds,
            )
        except self._api_exceptions as error:
            failed: Any = error
            return failed.status or 0, failed.headers or {}, failed.body
        return response.status, response.headers, response.data

    # hubspot-api-client knows the paths of v3 only, so its `call_api` is given ours

    @cached_property
    def _client(self) -> Any:
        import hubspot

        retry = urllib3.Retry(total=None, connect=0, read=0, redirect=3, status=0, other=0)
        client = hubspot.Client.create(retry=retry, host=self._settings.api_url.rstrip("/"))
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
