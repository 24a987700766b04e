"""Calls of Meta's Graph API, with its error codes and its rate limits."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from mappings.errors import (
    CredentialsError,
    MissingFieldError,
    OneThreadError,
    RateLimitedError,
    UnavailableError,
)
from taps.base import HttpSession

_LIMIT_CODES = frozenset({"4", "17", "32", "613", "80001", "80006"})
_TRANSIENT_CODES = frozenset({"1", "2"})
_CREDENTIAL_CODES = frozenset({"10", "102", "190", *map(str, range(200, 300))})


class GraphSession(HttpSession):
    """Reads Meta's Graph API, whose error codes say more than its HTTP statuses.

    Source: developers.facebook.com/docs/graph-api/guides/error-handling and /overview/rate-limiting, read 2026-11,
    documented; 80006 assumed.
    """

    def __init__(self, platform: str, base_url: str, token: SecretStr, calls_per_second: float) -> None:
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
        super().__init__(platform, base_url, headers=headers, secrets=[token])
        self._pause_seconds = 1 / calls_per_second
        self._next_call = 0.0
        self._regain_seconds: float | None = None

    def fetch_json(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The JSON object that ``GET path`` answers, asked for at most as often as the account allows."""
        wait = self._next_call - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._next_call = time.monotonic() + self._pause_seconds
        answer = super().fetch_json(path, parameters)
        if not isinstance(answer, dict):
            msg = f"{self.platform}: an answer is {type(answer).__name__}, not an object"
            raise MissingFieldError(msg)
        return answer

    def budget_of(self, headers: Mapping[str, str]) -> str | None:
        """The highest share of the hour's calls, from the usage headers; keeps what else the headers tell."""
        usages = [_json(headers.get("X-App-Usage")), _json(headers.get("X-Page-Usage"))]
        for rows in _json(headers.get("X-Business-Use-Case-Usage")).values():
            usages += [one for one in (rows if isinstance(rows, list) else []) if isinstance(one, dict)]
        names = ("call_count", "total_cputime", "total_time")
        shares = [one[name] for one in usages for name in names if isinstance(one.get(name), int | float)]
        waits = [one.get("estimated_time_to_regain_access") for one in usages]
        minutes = max((one for one in waits if isinstance(one, int | float)), default=0)
        self._regain_seconds = minutes * 60.0 if minutes > 0 else None
        return f"{max(shares)} % of the hour's calls used" if shares else None

    def classify(self, endpoint: str, status: int, body: Any, retry_after: float | None) -> OneThreadError:
        """By Graph's code where it has a meaning of its own."""
        code = self.error_code(body)
        what = f"{self.platform}: {endpoint} answered {status} (code {code})"
        if code in _LIMIT_CODES:
            wait = self._regain_seconds if retry_after is None else retry_after
            return RateLimitedError(f"{what}; slowing down", retry_after_seconds=wait)
        if code in _TRANSIENT_CODES:
            return UnavailableError(f"{what}; trying again later")
        if code in _CREDENTIAL_CODES:
            return CredentialsError(f"{what}; check the account's access token and its permissions")
        return super().classify(endpoint, status, body, retry_after)


def _json(text: str | None) -> dict[str, Any]:
    """A header's JSON object; empty when it is none."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
