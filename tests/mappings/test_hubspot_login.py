"""How HubSpot is logged in to, and what its refusals mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from mappings.errors import (
    CredentialsError,
    MissingFieldError,
    OneThreadError,
    RateLimitedError,
    SettingsError,
    UnavailableError,
)
from mappings.hubspot_login import HubSpotLogin, error_of_answer, read_token_answer
from mappings.settings import load_settings

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
APP = {"client_id": "c", "client_secret": "s", "refresh_token": "r"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "give access_token"),
        ({"client_id": "c", "client_secret": "s"}, "give access_token"),
        ({"access_token": "t", **APP}, "not both"),
        ({"refresh_token": "r"}, "refresh_token needs client_id and client_secret"),
        ({"refresh_token": "r", "client_id": "c"}, "refresh_token needs"),
    ],
)
def test_one_way_to_log_in_is_needed(values: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        load_settings(HubSpotLogin, {"portal_id": "1", **values}, "hubspot")
    assert "'r'" not in str(caught.value)


@pytest.mark.parametrize("values", [{"access_token": "t"}, {"access_token": "t", "client_secret": "s"}, APP])
def test_either_way_is_enough(values: dict[str, str]) -> None:
    assert load_settings(HubSpotLogin, {"portal_id": "1", **values}, "hubspot").account == "hubspot:1"


@pytest.mark.parametrize("version", ["v3", "2026-03", "2026-09"])
def test_a_token_is_asked_for_with_a_form(version: str) -> None:
    login = load_settings(HubSpotLogin, {"portal_id": "1", "api_version": version, **APP}, "hubspot")
    assert login.token_url == f"https://api.hubapi.com/oauth/{version}/token"
    assert login.token_form(SecretStr("r2")) == {
        "grant_type": "refresh_token", "client_id": "c", "client_secret": "s", "refresh_token": "r2",
    }  # fmt: skip


def test_an_answer_brings_tokens_and_their_end() -> None:
    body = {"access_token": "a", "refresh_token": "r2", "expires_in": 1800, "token_type": "bearer"}
    access, refresh, ends = read_token_answer(200, {}, body, NOW)
    assert (access.get_secret_value(), ends) == ("a", NOW + timedelta(minutes=30))
    assert refresh is not None
    assert refresh.get_secret_value() == "r2"


@pytest.mark.parametrize("seconds", [None, "1800", 0, -5, 10**12, True])
def test_an_end_that_is_none_is_not_known(seconds: Any) -> None:
    _, refresh, ends = read_token_answer(200, {}, {"access_token": "a", "expires_in": seconds}, NOW)
    assert refresh is None
    assert ends is None or ends == NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("status", "headers", "body", "error", "words"),
    [
        (
            400,
            {},
            {"error": "invalid_grant", "status": "BAD_REFRESH_TOKEN"},
            CredentialsError,
            "invalid_grant, BAD_REFR",
        ),
        (401, {}, {"error": "invalid_client"}, CredentialsError, "invalid_client"),
        (403, {}, "<html>", CredentialsError, "no reason given"),
        (400, {}, {"error": "a text with words"}, CredentialsError, "no reason given"),
        (429, {"Retry-After": "7"}, {}, RateLimitedError, "slowing down"),
        (503, {}, None, UnavailableError, "trying again"),
        (302, {}, None, UnavailableError, "trying again"),
        (200, {}, None, UnavailableError, "without JSON"),
        (200, {}, {"expires_in": 1}, MissingFieldError, "access_token is missing"),
    ],
)
def test_a_refusal_says_who_must_act(
    status: int, headers: dict[str, str], body: Any, error: type[OneThreadError], words: str
) -> None:
    with pytest.raises(error, match=words):
        read_token_answer(status, headers, body, NOW)


@pytest.mark.parametrize(
    ("endpoint", "status", "headers", "body", "error", "seconds"),
    [
        ("GET contacts", 401, {}, {"category": "EXPIRED_AUTHENTICATION"}, CredentialsError, None),
        ("GET contacts", 429, {}, {"policyName": "DAILY"}, RateLimitedError, None),
        ("GET contacts", 429, {}, {}, RateLimitedError, 10.0),
        ("GET contacts", 429, {"X-HubSpot-RateLimit-Interval-Milliseconds": "2500"}, {}, RateLimitedError, 2.5),
        ("POST contacts/search", 429, {}, {}, RateLimitedError, 1.0),
        ("GET contacts", 423, {}, {}, RateLimitedError, 2.0),
        ("GET contacts", 477, {"Retry-After": "30"}, {}, RateLimitedError, 30.0),
        ("GET contacts", 502, {}, {}, UnavailableError, None),
        ("GET contacts", 408, {}, {}, UnavailableError, None),
        ("GET contacts", 200, {}, {}, UnavailableError, None),
    ],
)
def test_what_an_answer_stands_for(
    endpoint: str, status: int, headers: dict[str, str], body: Any, error: type[OneThreadError], seconds: float | None
) -> None:
    found = error_of_answer(endpoint, status, headers, body, NOW)
    assert type(found) is error
    assert getattr(found, "retry_after_seconds", None) == seconds


@pytest.mark.parametrize("status", [400, 404, 409, 413, 414])
def test_other_refusals_are_of_this_request_alone(status: int) -> None:
    assert error_of_answer("POST notes", status, {}, {}, NOW) is None


def test_a_403_names_the_scopes() -> None:
    body = {"errors": [{"context": {"requiredGranularScopes": ["files", "files"]}}, "odd"], "context": []}
    assert "the token needs files" in str(error_of_answer("POST files", 403, {}, body, NOW))
