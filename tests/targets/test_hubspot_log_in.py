"""An app on HubSpot's developer platform: access tokens that end, one login for target and tap."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from console.cli import main
from mappings.errors import CredentialsError, UnavailableError
from mappings.records import Contact
from sandbox.hubspot.oauth import OAuthApp
from stores.tokens import Token, Tokens
from taps.hubspot import TapHubSpot
from targets.hubspot import setup_hubspot
from tests.targets.hubspot_world import PORTAL, World, message, person, world

NAME = f"hubspot:{PORTAL}"
APP = {"client_id": "sandbox-app", "client_secret": "sandbox-secret", "refresh_token": "sandbox-refresh-1"}


def by_oauth(account: World) -> World:
    account.config = {key: one for key, one in account.config.items() if key != "access_token"} | APP
    account.app._access_token = "of another app"
    setup_hubspot(account.settings, account.stores)
    account.calls()
    return account


@pytest.fixture(params=[False, True], ids=["one refresh token", "rotating"])
def account(state_url: str, request: pytest.FixtureRequest) -> Iterator[World]:
    """An account that is opened by an app only."""
    with world(state_url, setup=False, oauth=OAuthApp(rotates=request.param)) as made:
        yield by_oauth(made)


@pytest.fixture
def one(state_url: str) -> Iterator[World]:
    """The same, with a refresh token that is good for one refresh."""
    with world(state_url, setup=False, oauth=OAuthApp(rotates=True)) as made:
        yield by_oauth(made)


def refreshes(account: World) -> int:
    return account.app.oauth.refreshes


def contacts_read(account: World) -> list[dict[str, Any]]:
    config = {key: one for key, one in account.config.items() if key not in {"settle_wait_seconds"}}
    tap = TapHubSpot(config=config)
    try:
        return [one.model_dump() for one in tap.read() if isinstance(one, Contact)]
    finally:
        tap.stores.close()


def test_one_token_serves_run_after_run_and_the_tap(account: World) -> None:
    assert refreshes(account) == 1
    account.write(person(1), message(1))
    account.write(person(2), message(2))
    assert len(contacts_read(account)) == 2
    assert refreshes(account) == 1


@pytest.mark.parametrize("version", ["v3", "2026-03", "2026-09"])
def test_every_version_of_the_token_endpoint(one: World, version: str) -> None:
    one.app.oauth.end_all(one.app.clock)
    one.write(person(1), api_version=version)
    assert one.calls()[f"POST /oauth/{version}/token"] == 1


def test_a_token_that_is_about_to_end_is_refreshed_first(account: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(Tokens):
        def get(self, name: str, initial: Any, refresh: Any, ahead: timedelta = timedelta(0)) -> Token:
            return super().get(name, initial, refresh, timedelta(minutes=31))

    monkeypatch.setattr("stores.oauth.Tokens", Later)
    account.write(person(1))
    assert refreshes(account) > 1
    assert account.app.state()["refused"] == {}


def test_one_that_ended_before_its_time_is_refreshed_once_in_the_middle_of_a_run(account: World) -> None:
    account.write(person(1), message(1))
    account.app.oauth.end_all(account.app.clock)
    account.write(person(1), message(1), message(2, of=1))
    assert len(account.bodies()) == 2
    assert refreshes(account) == 2
    assert account.app.state()["refused"] == {"401": 1}


def test_the_tap_refreshes_in_the_middle_too(account: World) -> None:
    account.write(person(1))
    account.app.oauth.end_all(account.app.clock)
    assert len(contacts_read(account)) == 1
    assert refreshes(account) == 2


def test_a_refresh_token_that_was_ended_stops_the_run_and_says_what_to_do(one: World) -> None:
    one.app.oauth.end_all(one.app.clock)
    one.app.oauth.refresh_token = "of a new installation"
    with pytest.raises(CredentialsError, match=rf"invalid_grant.*onethread tokens set {NAME}") as caught:
        one.write(person(1))
    assert "sandbox-refresh" not in str(caught.value)
    environment = {"ONETHREAD_STATE_URL": one.state_url}
    put = CliRunner().invoke(main, ["tokens", "set", NAME], input="of a new installation\n", env=environment)
    assert put.exit_code == 0, put.output
    one.write(person(1))
    assert len(one.contacts()) == 1


def test_a_crash_between_answer_and_commit_is_told_with_the_way_out(one: World) -> None:
    one.app.oauth.end_all(one.app.clock)
    one.fail("/oauth/v3/token", 503, when="after")
    with pytest.raises(UnavailableError):
        one.write(person(1), max_tries=1)
    with pytest.raises(CredentialsError, match=rf"was cut off.*onethread tokens set {NAME}"):
        one.write(person(1), max_tries=1)


def test_a_401_that_another_token_does_not_cure_ends_the_run(one: World) -> None:
    one.fail("/crm/v3/objects/contacts", 401, times=9)
    with pytest.raises(CredentialsError, match="401"):
        one.write(person(1))
    assert refreshes(one) == 2


def test_the_command_lists_the_token(one: World) -> None:
    told = CliRunner().invoke(main, ["tokens"], env={"ONETHREAD_STATE_URL": one.state_url})
    assert told.exit_code == 0
    assert NAME in told.output
    assert "sandbox-access" not in told.output


def doctors(account: World) -> dict[str, Any]:
    tap = TapHubSpot(config={key: one for key, one in account.config.items() if key != "settle_wait_seconds"})
    try:
        return {check.what: check for check in tap.check()}
    finally:
        tap.stores.close()


def test_doctor_asks_with_the_apps_token(one: World) -> None:
    checks = doctors(one)
    assert all(checks[name].ok for name in ("access token", "account", "read files"))
    Tokens(one.stores).put(NAME, Token(SecretStr(""), SecretStr("of another installation")))
    refused = doctors(one)["access token"]
    assert refused.ok is False
    assert f"onethread tokens set {NAME}" in refused.detail


def test_doctor_names_a_missing_scope(one: World) -> None:
    one.app.missing_scopes = frozenset(["files"])
    check = doctors(one)["read files"]
    assert check.ok is None
    assert check.fix == "give the token the scope files"
