"""How a HubSpot account is opened, and what its refusals mean, for everything that calls it. Pure.

An account is opened with a token that lasts (service key, private app), or by an app on the developer platform (OAuth),
whose access tokens live for 30 minutes and are had with its refresh token.

Sources: developers.hubspot.com/docs/api-reference/latest/authentication/manage-oauth-tokens (form-encoded body, 30
minutes, ``expires_in``), .../legacy/authentication/oauth-tokens/v1/migration-guide (v1 ends on 2027-02-16), the
changelog new-oauth-v3-api-endpoints-and-standardized-error-responses (``error`` and ``error_description`` beside
``status`` and ``message``), PublicApiSpecs/Auth/Oauth of github.com/HubSpot/HubSpot-public-api-spec-collection @9989379
(every answer has a refresh token), read 2026-11, documented. ``BAD_REFRESH_TOKEN``: observed
(nango.dev/blog/hubspot-oauth-bad-refresh-token). Whether a refresh token is ever replaced is not documented: a new one
is kept, the old one else. Status codes: developers.hubspot.com/docs/api-reference/error-handling, read 2026-11,
documented.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator

from mappings.errors import CredentialsError, OneThreadError, RateLimitedError, UnavailableError
from mappings.fields import optional_text_of, text_of
from mappings.http import retry_after_seconds
from mappings.hubspot_paths import ApiVersion, Paths
from mappings.settings import PluginSettings

PLATFORM = "HubSpot"
_TOKEN_ENDPOINT = "POST oauth/token"  # noqa: S105  # a path
_LONGEST_SECONDS = 10**9


class HubSpotLogin(PluginSettings):
    """Which account, how it is opened, and how long a call goes on."""

    access_token: SecretStr | None = Field(
        None, description="Service key (or token of a private app) of the HubSpot account. Not with refresh_token."
    )
    client_id: str | None = Field(None, description="OAuth: client id of your app on HubSpot's developer platform.")
    client_secret: SecretStr | None = Field(
        None, description="OAuth: the app's client secret. The receiver holds signatures against it, too."
    )
    refresh_token: SecretStr | None = Field(
        None,
        description="OAuth: the refresh token that installing the app gave. Access tokens are had with it, and kept and"
        " renewed in the state folder.",
    )
    portal_id: str = Field(pattern=r"^\d+$", description="HubSpot account id (Hub ID); set-up checks the login for it.")
    api_url: str = Field("https://api.hubapi.com", description="Base URL of the API.")
    api_version: ApiVersion = Field(
        "v3", description="Version of HubSpot's API in every path; v3 is supported until September 2027."
    )
    timeout_seconds: float = Field(30, gt=0, description="Give up waiting for one answer after this long.")
    max_tries: int = Field(6, ge=1, description="Try one call at most this often while HubSpot is unavailable.")
    max_retry_seconds: float = Field(180, gt=0, description="Stop trying one call after this long.")
    retry_wait_seconds: float = Field(
        1.0, ge=0, description="First wait after an unavailable answer; doubles with each try, with jitter."
    )

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> Self:
        if self.access_token is None and self.refresh_token is None:
            msg = (
                "give access_token (service key or private app), or client_id, client_secret and refresh_token (OAuth)"
            )
            raise ValueError(msg)
        if self.access_token is not None and self.refresh_token is not None:
            msg = "give access_token or refresh_token, not both"
            raise ValueError(msg)
        if self.refresh_token is not None and (self.client_id is None or self.client_secret is None):
            msg = "refresh_token needs client_id and client_secret"
            raise ValueError(msg)
        return self

    @property
    def account(self) -> str:
        """What pauses and tokens name it by."""
        return f"hubspot:{self.portal_id}"

    @property
    def token_url(self) -> str:
        """Where an app asks for access tokens."""
        return self.api_url.rstrip("/") + Paths(self.api_version).token()

    def token_form(self, refresh_token: SecretStr) -> dict[str, str]:
        """The form that asks for one."""
        return {
            "grant_type": "refresh_token",
            "client_id": self.client_id or "",
            "client_secret": self.client_secret.get_secret_value() if self.client_secret else "",
            "refresh_token": refresh_token.get_secret_value(),
        }


def read_token_answer(
    status: int, headers: Mapping[str, str], body: Any, now: datetime
) -> tuple[SecretStr, SecretStr | None, datetime | None]:
    """Access token, refresh token and the end in ``{"access_token": "…", "refresh_token": "…", "expires_in": 1800}``.

    Raises:
        CredentialsError: the refresh token or the app is refused.
        RateLimitedError: asked too often.
        UnavailableError: HubSpot cannot answer now, or its answer was cut short.
    """
    what = f"{PLATFORM}: {_TOKEN_ENDPOINT} answered {status}"
    if status < 300:
        if not isinstance(body, dict):
            msg = f"{what} without JSON"
            raise UnavailableError(msg)
        seconds = body.get("expires_in")
        known = seconds if isinstance(seconds, int) and 0 < seconds < _LONGEST_SECONDS else None
        ends = now + timedelta(seconds=known) if known else None
        refresh_token = optional_text_of(body, "refresh_token", _TOKEN_ENDPOINT)
        return (
            SecretStr(text_of(body, "access_token", _TOKEN_ENDPOINT)),
            SecretStr(refresh_token) if refresh_token else None,
            ends,
        )
    if status == 429:
        asked = retry_after_seconds(headers.get("Retry-After"), now)
        raise RateLimitedError(f"{what}; slowing down", retry_after_seconds=asked)
    if status >= 500 or status in {408, 423, 477} or status < 400:
        msg = f"{what}; trying again later"
        raise UnavailableError(msg)
    said = body if isinstance(body, dict) else {}
    codes = [said.get(name) for name in ("error", "status")]
    named = ", ".join(one[:40] for one in codes if isinstance(one, str) and one.replace("_", "").isalnum())
    msg = f"{what} ({named or 'no reason given'}); check refresh_token, client_id and client_secret"
    raise CredentialsError(msg)


def error_of_answer(
    endpoint: str, status: int, headers: Mapping[str, str], body: Mapping[str, Any], now: datetime
) -> OneThreadError | None:
    """The error that an answer stands for; ``None`` when it refuses only this one request (other 4xx).

    A 401 says that the access token has ended (category EXPIRED_AUTHENTICATION, observed: github.com/airbytehq/airbyte/
    issues/74726, read 2026-11) or is no good; the call was not carried out, so it can be made again with another token.
    A `RateLimitedError` with a time is for every process that calls the account; one without is for the day.
    """
    what = f"{PLATFORM}: {endpoint} answered {status}"
    if status in {401, 403}:
        scopes = needed_scopes(body)
        hint = f"the token needs {', '.join(scopes)}" if scopes else "check the access token and its scopes"
        return CredentialsError(f"{what}; {hint}")
    if status == 429 and body.get("policyName") == "DAILY":
        return RateLimitedError(
            f"{what}: the account's calls for today are used up. Nothing is lost; run again after midnight"
        )
    if status in {423, 429, 477}:
        # 423: locked, wait at least 2 s; 477: the account is being moved, Retry-After says how long (documented).
        # Search has a limit per second of its own and no headers (documented); the others say their interval.
        default = 2.0 if status == 423 else interval_seconds(headers, 1.0 if endpoint.endswith("search") else 10.0)
        asked = retry_after_seconds(headers.get("Retry-After"), now)
        seconds = asked if asked is not None else default
        return RateLimitedError(f"{what}; waiting {seconds:.0f} s", retry_after_seconds=seconds)
    if status == 408 or status >= 500 or status < 400:  # a success without JSON was cut short on its way
        return UnavailableError(f"{what}; trying again later")
    return None


def interval_seconds(headers: Mapping[str, str], default: float = 10.0) -> float:
    """How long the window is that a rate limit counts in."""
    text = headers.get("X-HubSpot-RateLimit-Interval-Milliseconds") or ""
    return int(text) / 1000 if text.isdigit() else default


def needed_scopes(body: Mapping[str, Any]) -> list[str]:
    """The scopes that a 403 says are missing."""
    scopes: list[str] = []
    listed = body.get("errors")
    for one in (body, *(listed if isinstance(listed, list) else [])):
        context = one.get("context") if isinstance(one, dict) else None
        for name in ("requiredGranularScopes", "requiredScopes"):
            named = context.get(name) if isinstance(context, dict) else None
            scopes += [str(scope) for scope in named] if isinstance(named, list) else []
    return list(dict.fromkeys(scopes))
