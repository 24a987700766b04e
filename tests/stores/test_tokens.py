"""Rotating tokens: refreshed in time and once, never lost without a word, never seen."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from mappings.errors import (
    CredentialsError,
    MissingFieldError,
    OneThreadError,
    RateLimitedError,
    UnavailableError,
)
from stores.database import Stores
from stores.tokens import Token, Tokens

NAME = "x:shop"
SOON = timedelta(minutes=2)
LATER = timedelta(hours=2)


def token(access: str, refresh: str | None = None, ends_in: timedelta | None = None) -> Token:
    expires_at = datetime.now(UTC) + ends_in if ends_in is not None else None
    return Token(SecretStr(access), SecretStr(refresh) if refresh else None, expires_at)


def secrets_of(one: Token) -> tuple[str, str | None]:
    return one.access_token.get_secret_value(), one.refresh_token.get_secret_value() if one.refresh_token else None


class Login:
    """A platform that takes each refresh token once."""

    def __init__(self, *, fails: OneThreadError | None = None) -> None:
        self.asked: list[str | None] = []
        self.fails = fails

    def __call__(self, old: Token) -> Token:
        self.asked.append(secrets_of(old)[1])
        if self.fails:
            raise self.fails
        number = len(self.asked) + 1
        return token(f"a{number}", f"r{number}", LATER)


def nobody(_: Token) -> Token:
    pytest.fail("nothing was to be refreshed")


def test_a_token_that_lasts_is_given_as_it_is(stores: Stores) -> None:
    for ends_in in (None, LATER):
        given = token("a1", "r1", ends_in)
        assert secrets_of(Tokens(stores).get(f"{NAME}{ends_in}", given, nobody)) == ("a1", "r1")


@pytest.mark.parametrize("first", [token("a1", "r1", SOON), token("a1", "r1", -LATER), token("", "r1")])
def test_a_token_that_ends_soon_is_refreshed_and_kept(stores: Stores, state_url: str, first: Token) -> None:
    login = Login()
    assert secrets_of(Tokens(stores).get(NAME, first, login)) == ("a2", "r2")
    assert secrets_of(Tokens(Stores(state_url)).get(NAME, first, nobody)) == ("a2", "r2")
    assert login.asked == ["r1"]


def test_how_long_ahead_is_for_the_caller_to_say(stores: Stores) -> None:
    first = token("a1", "r1", timedelta(days=5))
    tokens = Tokens(stores)
    assert secrets_of(tokens.get(NAME, first, nobody))[0] == "a1"
    assert secrets_of(tokens.get(NAME, first, Login(), ahead=timedelta(days=7)))[0] == "a2"


def test_a_refresh_without_a_new_refresh_token_keeps_the_old_one(stores: Stores) -> None:
    got = Tokens(stores).get(NAME, token("", "r1"), lambda _: token("a2", None, LATER))
    assert secrets_of(got) == ("a2", "r1")


def test_a_function_fetches_the_first_token_once(stores: Stores, state_url: str) -> None:
    calls: list[int] = []

    def first() -> Token:
        calls.append(1)
        return token("a1", None, LATER)

    assert secrets_of(Tokens(stores).get(NAME, first, nobody))[0] == "a1"
    assert secrets_of(Tokens(Stores(state_url)).get(NAME, first, nobody))[0] == "a1"
    assert calls == [1]


def test_another_configured_token_wins_over_what_is_stored(stores: Stores) -> None:
    tokens = Tokens(stores)
    tokens.get(NAME, token("", "r1"), Login())
    assert secrets_of(tokens.get(NAME, token("new", "s1", LATER), nobody)) == ("new", "s1")
    login = Login()
    assert secrets_of(tokens.get(NAME, token("", "r1"), login)) == ("a2", "r2")  # back again: that is a change too
    assert login.asked == ["r1"]


def test_what_is_put_wins_until_another_is_configured(stores: Stores) -> None:
    tokens = Tokens(stores)
    configured = token("", "r1")
    tokens.get(NAME, configured, Login())
    tokens.put(NAME, token("", "p1"))
    login = Login()
    assert secrets_of(tokens.get(NAME, configured, login)) == ("a2", "r2")
    assert login.asked == ["p1"]
    # The same token in the settings afterwards is no news: it is used up.
    assert secrets_of(tokens.get(NAME, token("", "p1"), nobody)) == ("a2", "r2")
    assert secrets_of(tokens.get(NAME, token("b", "q1", LATER), nobody)) == ("b", "q1")


def test_what_is_put_before_the_first_run_wins(stores: Stores) -> None:
    tokens = Tokens(stores)
    tokens.put(NAME, token("p", "p1", LATER))
    for _ in range(2):
        assert secrets_of(tokens.get(NAME, token("", "r1"), nobody)) == ("p", "p1")


def test_a_token_refused_before_its_end_is_renewed_once(stores: Stores, state_url: str) -> None:
    tokens, login = Tokens(stores), Login()
    refused = tokens.get(NAME, token("a1", "r1", LATER), nobody)
    assert secrets_of(tokens.renew(NAME, refused, login)) == ("a2", "r2")
    assert secrets_of(Tokens(Stores(state_url)).renew(NAME, refused, login)) == ("a2", "r2")
    assert login.asked == ["r1"]


# When the platform does not give a new one


@pytest.mark.parametrize("error", [UnavailableError("X: timeout"), RateLimitedError("X: slow down")])
def test_a_platform_that_cannot_answer_is_no_error_while_the_token_lasts(stores: Stores, error: OneThreadError) -> None:
    tokens = Tokens(stores)
    assert secrets_of(tokens.get(NAME, token("a1", "r1", SOON), Login(fails=error))) == ("a1", "r1")
    with pytest.raises(type(error)):
        tokens.get("x:other", token("a1", "r1", -SOON), Login(fails=error))


def test_a_refusal_names_the_command_that_helps(stores: Stores) -> None:
    for _ in range(2):
        with pytest.raises(CredentialsError) as caught:
            Tokens(stores).get(NAME, token("", "secret-r1"), Login(fails=CredentialsError("X: refused")))
        assert f"onethread tokens set {NAME}" in str(caught.value)
        assert "cut off" not in str(caught.value)
        assert "secret-r1" not in str(caught.value)


@pytest.mark.parametrize("lost", [UnavailableError("X: no answer"), MissingFieldError("X: no access_token")])
def test_a_refusal_after_an_answer_that_was_lost_says_so(stores: Stores, lost: OneThreadError) -> None:
    tokens, configured = Tokens(stores), token("", "r1")
    with pytest.raises(type(lost)):
        tokens.get(NAME, configured, Login(fails=lost))
    for _ in range(2):
        with pytest.raises(CredentialsError, match="cut off"):
            tokens.get(NAME, configured, Login(fails=CredentialsError("X: used twice")))
    tokens.put(NAME, token("", "p1"))
    with pytest.raises(CredentialsError) as caught:
        tokens.get(NAME, configured, Login(fails=CredentialsError("X: refused")))
    assert "cut off" not in str(caught.value)


def test_a_lost_answer_that_cost_nothing_is_forgotten(stores: Stores) -> None:
    tokens, configured = Tokens(stores), token("", "r1")
    with pytest.raises(UnavailableError):
        tokens.get(NAME, configured, Login(fails=UnavailableError("X: no answer")))
    assert secrets_of(tokens.get(NAME, configured, Login())) == ("a2", "r2")
    assert [one.refreshing_since for one in tokens.listing()] == [None]


def test_the_intent_is_on_disk_before_the_platform_is_called(stores: Stores, state_url: str) -> None:
    seen: list[datetime | None] = []

    def look(_: Token) -> Token:
        seen.extend(one.refreshing_since for one in Tokens(Stores(state_url)).listing())
        return token("a2", "r2", LATER)

    Tokens(stores).get(NAME, token("", "r1"), look)
    assert len(seen) == 1
    assert seen[0] is not None


# One refresh, whoever asks


def _use(state_url: str, start: Callable[[], object], results: multiprocessing.Queue[str]) -> None:
    def fetch(old: Token) -> Token:
        results.put(f"refreshed {secrets_of(old)[1]}")
        return token("a2", "r2", LATER)

    tokens = Tokens(Stores(state_url))
    start()
    results.put(secrets_of(tokens.get(NAME, token("a1", "r1", SOON), fetch))[0])


def test_processes_that_ask_at_once_refresh_once(stores: Stores, state_url: str) -> None:
    Tokens(stores)
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    barrier = context.Barrier(3)
    processes = [context.Process(target=_use, args=(state_url, barrier.wait, results)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(results.get(timeout=5) for _ in range(4)) == ["a2", "a2", "a2", "refreshed r1"]


# What may be seen


@pytest.mark.sqlite
def test_no_secret_is_shown_or_stored_in_clear(stores: Stores) -> None:
    first = token("hidden-a", "hidden-r", LATER)
    tokens = Tokens(stores)
    tokens.get(NAME, first, nobody)
    assert "hidden" not in repr(first) + str(first) + repr(tokens.listing())
    stores.close()
    with sqlite3.connect(stores.folder / "tokens.db") as connection:
        assert "hidden" not in "".join(connection.iterdump())
    assert b"hidden" not in b"".join(path.read_bytes() for path in Path(stores.folder).iterdir() if path.is_file())


def test_the_list_says_until_when_and_since_when(stores: Stores) -> None:
    tokens = Tokens(stores)
    tokens.get("x:b", token("", "r1"), Login())
    tokens.get("x:a", token("a1"), nobody)
    first, second = tokens.listing()
    assert (first.name, first.expires_at, first.refreshable, first.refreshed_at) == ("x:a", None, False, None)
    assert (second.name, second.refreshable, second.refreshing_since) == ("x:b", True, None)
    assert second.expires_at is not None
    assert second.refreshed_at is not None
    assert timedelta(hours=1) < second.expires_at - second.refreshed_at <= LATER


def test_an_end_without_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Token(SecretStr("a"), None, datetime(2026, 12, 1))
