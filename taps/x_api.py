"""X's API as the tap reads it: user tokens that live two hours, budgets per quarter of an hour, problems as errors.

Sources: github.com/xdevplatform/docs @2871328, x-api/fundamentals/{rate-limits,response-codes-and-errors}.mdx (15 reads
of ``/2/dm_events`` in 15 minutes for each user, ``x-rate-limit-*`` headers, problem types, errors inside a 200),
fundamentals/authentication/oauth-2-0/user-access-token.mdx (refresh; two hours), openapi.json 2.167 of github.com/
xdevplatform/xdk @84c2654; read 2026-11, documented. That a refresh token works once is what X's own client relies on
(observed); the shape of the token endpoint's errors is that of RFC 6749, section 5.2 (assumed).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from mappings.errors import CredentialsError, MissingFieldError, OneThreadError, RateLimitedError
from mappings.fields import optional_text_of, text_of
from stores.tokens import Token
from taps.base import HttpSession

_CAP_SECONDS = 3600.0
"""When to ask again after the app's monthly cap: nobody says, and each try is free."""


class TokenRefusedError(CredentialsError):
    """The access token is not good (any more); a refresh may bring another."""


class XSession(HttpSession):
    """Calls of one account.

    Args:
        api_url: scheme and host.
        token: the access token to use now; asked before every call.
        renew: called with a token that X has refused; the token to try instead, or ``None``.
        max_seconds: the longest wait for the next quarter of an hour; beyond it the run ends its polling.
    """

    def __init__(
        self,
        api_url: str,
        token: Callable[[], SecretStr],
        renew: Callable[[SecretStr], SecretStr | None] = lambda _: None,
        *,
        max_seconds: float = 30,
    ) -> None:
        super().__init__("X", api_url, max_seconds=max_seconds, max_tries=4)
        self._token = token
        self._renew = renew
        self._resets_at: datetime | None = None

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """The answer of ``GET path``. ``__`` in a parameter's name is a dot; those that are ``None`` are left out.

        Raises:
            OneThreadError: see `classify`.
        """
        given = {name.replace("__", "."): value for name, value in parameters.items() if value is not None}
        token = self._token()
        try:
            return self._get(path, given, token)
        except TokenRefusedError:
            renewed = self._renew(token)
            if renewed is None:
                raise
            return self._get(path, given, renewed)

    def check_answer(self, endpoint: str, body: Any) -> None:
        """An answer that has errors and nothing else is one; errors beside data tell of objects that are gone."""
        if not isinstance(body, dict):
            msg = f"X: {endpoint} answered {type(body).__name__}, not an object"
            raise MissingFieldError(msg)
        errors = body.get("errors")
        if isinstance(errors, list) and errors and "data" not in body and "meta" not in body:
            first = errors[0] if isinstance(errors[0], dict) else {}
            status = first.get("status")
            status = status if isinstance(status, int) and 400 <= status < 600 else _STATUS.get(_type(first), 400)
            raise self.classify(endpoint, status, first, None)

    def budget_of(self, headers: Mapping[str, str]) -> str | None:
        """E.g. ``13 of 15 reads until 14:45:00 UTC``."""
        limit, remaining, reset = (headers.get(f"x-rate-limit-{name}") for name in ("limit", "remaining", "reset"))
        self._resets_at = None
        if reset is not None and reset.isdecimal() and len(reset) <= 10:
            self._resets_at = datetime.fromtimestamp(int(reset), UTC)
        if limit is None or remaining is None or self._resets_at is None:
            return None
        return f"{remaining[:9]} of {limit[:9]} reads until {self._resets_at:%H:%M:%S} UTC"

    def error_code(self, body: Any) -> str | None:
        """The last part of the problem's type, e.g. ``usage-capped``."""
        return _type(body) or super().error_code(body)

    def classify(self, endpoint: str, status: int, body: Any, retry_after: float | None) -> OneThreadError:
        """By status and problem type; a 429 says by a header when to go on."""
        code = self.error_code(body)
        what = f"X: {endpoint} answered {status}" + (f" ({code})" if code else "")
        if code == "usage-capped":
            msg = f"{what}: the app's usage cap is reached; raise it in the developer console"
            return RateLimitedError(msg, retry_after_seconds=self._wait() or _CAP_SECONDS)
        if status == 429:
            wait = retry_after if retry_after is not None else self._wait()
            return RateLimitedError(f"{what}; slowing down", retry_after_seconds=wait)
        if status == 401:
            return TokenRefusedError(f"{what}; check the access token")
        if status == 403:
            return CredentialsError(
                f"{what}; the app or the token may not do that: a token made before the scopes dm.read, tweet.read and "
                "users.read were asked for does not have them, log in again"
            )
        return super().classify(endpoint, status, body, retry_after)

    def _wait(self) -> float | None:
        if self._resets_at is None:
            return None
        return max(1.0, (self._resets_at - datetime.now(UTC)).total_seconds() + 1)

    def _get(self, path: str, parameters: Mapping[str, Any], token: SecretStr) -> dict[str, Any]:
        self._session.headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        self._secrets = [token.get_secret_value()]
        answer: dict[str, Any] = self.fetch_json(path, parameters)
        return answer


_STATUS: Mapping[str | None, int] = {
    "not-authorized-for-resource": 403,
    "client-forbidden": 403,
    "resource-not-found": 404,
    "rate-limit-exceeded": 429,
    "usage-capped": 429,
}


def _type(problem: Any) -> str | None:
    """``https://api.x.com/2/problems/usage-capped`` -> ``usage-capped``; nothing for ``about:blank``."""
    value = problem.get("type") if isinstance(problem, dict) else None
    if not isinstance(value, str) or "/problems/" not in value:
        return None
    return value.rpartition("/")[2][:60] or None


class _TokenSession(HttpSession):
    """The token endpoint. A refresh token works once, so nothing is asked twice."""

    def classify(self, endpoint: str, status: int, body: Any, retry_after: float | None) -> OneThreadError:
        code = body.get("error") if isinstance(body, dict) else None
        if status in {400, 401} and isinstance(code, str):
            return CredentialsError(
                f"X: {endpoint} was refused ({code[:40]}); check the refresh token and the client id"
            )
        return super().classify(endpoint, status, body, retry_after)


def refresh_x_token(
    api_url: str, token: Token, client_id: str, client_secret: SecretStr | None, *, now: datetime
) -> Token:
    """The successor of `token`; its refresh token is used up by this.

    Raises:
        CredentialsError: the refresh token is not good any more, or there is none.
        UnavailableError: no answer; the refresh token may be used up.
        MissingFieldError: the answer has no new token.
    """
    if token.refresh_token is None:
        msg = "X: the token has expired and there is no refresh token; log in again (scope offline.access)"
        raise CredentialsError(msg)
    secrets = [token.refresh_token, *([client_secret] if client_secret else [])]
    auth = (client_id, client_secret.get_secret_value()) if client_secret else None
    session = _TokenSession("X", api_url, auth=auth, secrets=secrets, max_tries=1)
    form = {"grant_type": "refresh_token", "refresh_token": token.refresh_token.get_secret_value()}
    answer = session.call_json("POST", "2/oauth2/token", data={**form, "client_id": client_id})
    if not isinstance(answer, dict):
        msg = "X oauth2/token: the answer is no object"
        raise MissingFieldError(msg)
    return token_from_x(answer, now=now)


def token_from_x(answer: Mapping[str, Any], *, now: datetime) -> Token:
    """The token in an answer of ``/2/oauth2/token``.

    `answer`: ``{"token_type": "bearer", "expires_in": 7200, "access_token": ..., "refresh_token": ..., "scope": ...}``.
    """
    where = "X oauth2/token"
    seconds = answer.get("expires_in")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds < 10**9):
        msg = f"{where}: expires_in is not a number of seconds"
        raise MissingFieldError(msg)
    refresh = optional_text_of(answer, "refresh_token", where)
    return Token(
        access_token=SecretStr(text_of(answer, "access_token", where)),
        refresh_token=SecretStr(refresh) if refresh else None,
        expires_at=now + timedelta(seconds=seconds) if seconds else None,
    )
