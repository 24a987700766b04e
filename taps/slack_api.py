"""Slack's Web API as the tap reads it: 200 with an error inside, limits by method, tokens that live twelve hours.

Sources: docs.slack.dev/apis/web-api (``ok`` and ``error``, bearer token), /apis/web-api/rate-limits (tiers, 429 with
``Retry-After``; 1 call a minute and 15 objects for commercially distributed apps outside the Marketplace),
docs.slack.dev/authentication/using-token-rotation (12 hours, refresh token for single use), github.com/slackapi/
java-slack-sdk @86ff7ca (error codes), read 2026-11, documented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr

from mappings.errors import (
    CredentialsError,
    MissingFieldError,
    OneThreadError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from mappings.fields import objects_of, optional_object_of, optional_text_of, text_of
from mappings.from_slack import ts_parts
from stores.tokens import Token
from taps.base import HttpSession

SMALL_PAGE = 15
"""What the severe limit gives at most, whatever was asked for."""

_EXPIRED = "token_expired"
_CREDENTIALS = frozenset(
    "access_denied accesslimited account_inactive app_missing_action_url ekm_access_denied enterprise_is_restricted "
    "invalid_auth missing_scope no_permission not_allowed_token_type not_authed org_login_required "
    "team_access_not_granted token_expired token_revoked two_factor_setup_required invalid_refresh_token "
    "invalid_client_id bad_client_secret".split()
)
_TRANSIENT = frozenset(
    "external_channel_migrating fatal_error internal_error request_timeout service_unavailable "
    "team_added_to_org".split()
)
_LIMITED = frozenset({"ratelimited", "rate_limited"})


class TokenExpiredError(CredentialsError):
    """The access token has lived its twelve hours; a refresh brings another."""


class SlackSession(HttpSession):
    """Calls of one workspace.

    Args:
        api_url: with ``/api``, no trailing slash.
        token: the access token to use now; asked before every call.
        renew: called with a token that Slack says has expired; the token to try instead, or ``None``.
        max_seconds: the longest wait that Slack may ask for; beyond it the run ends its polling.
        max_tries: 1 for a call that must not be repeated.
    """

    def __init__(
        self,
        api_url: str,
        token: Callable[[], SecretStr],
        renew: Callable[[SecretStr], SecretStr | None],
        *,
        max_seconds: float = 30,
        max_tries: int = 4,
    ) -> None:
        super().__init__("Slack", api_url, max_seconds=max_seconds, max_tries=max_tries)
        self._token = token
        self._renew = renew
        self.calls = 0
        self.scopes: frozenset[str] | None = None

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """The answer of a reading method; arguments that are ``None`` are left out.

        Raises:
            OneThreadError: by Slack's error code, else by status.
        """
        token = self._token()
        try:
            return self._get(method, arguments, token)
        except TokenExpiredError:
            renewed = self._renew(token)
            if renewed is None:
                raise
            return self._get(method, arguments, renewed)

    def pages(self, method: str, name: str, **arguments: Any) -> Iterator[list[dict[str, Any]]]:
        """The objects under `name` page by page, by cursor; raises when a cursor comes twice."""
        seen: set[str] = set()
        cursor: str | None = None
        while True:
            answer = self.call(method, cursor=cursor, **arguments)
            yield objects_of(answer, name, f"Slack {method}")
            about = optional_object_of(answer, "response_metadata", f"Slack {method}") or {}
            cursor = optional_text_of(about, "next_cursor", f"Slack {method}")
            if cursor is None:
                return
            if cursor in seen:
                msg = f"Slack: {method} repeats itself; giving up for this run"
                raise UnavailableError(msg)
            seen.add(cursor)

    def history(self, channel: str, *, oldest: str, latest: str, limit: int) -> tuple[list[dict[str, Any]], bool]:
        """The messages of a channel between two moments, newest first, and whether there are older ones still.

        Both ends are excluded. Only the newest `limit` come, or fewer.
        """
        answer = self.call(
            "conversations.history",
            channel=channel,
            oldest=oldest,
            latest=latest,
            limit=limit,
            include_all_metadata="true",
        )
        found = self._messages(answer, "conversations.history", newest_first=True)
        return found, answer.get("has_more") is True and bool(found)

    def replies(
        self, channel: str, thread: str, *, oldest: str, latest: str, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """The replies of a thread after `oldest`, one page of them, oldest first, and the cursor of the next page.

        Slack puts the parent in front of every page; it is left out.
        """
        answer = self.call(
            "conversations.replies",
            channel=channel,
            ts=thread,
            oldest=oldest,
            latest=latest,
            limit=limit,
            cursor=cursor,
            include_all_metadata="true",
        )
        found = self._messages(answer, "conversations.replies", newest_first=False)
        about = optional_object_of(answer, "response_metadata", "Slack conversations.replies") or {}
        following = optional_text_of(about, "next_cursor", "Slack conversations.replies")
        return [one for one in found if one.get("ts") != thread], following

    def check_answer(self, endpoint: str, body: Any) -> None:
        """Slack answers 200 to nearly everything and says in ``error`` what went wrong."""
        if not isinstance(body, dict) or not isinstance(body.get("ok"), bool):
            msg = f"Slack: {endpoint} answered without ok"
            raise MissingFieldError(msg)
        if not body["ok"]:
            raise self.classify(endpoint, 200, body, None)

    def classify(self, endpoint: str, status: int, body: Any, retry_after: float | None) -> OneThreadError:
        """By Slack's error code where there is one."""
        code = self.error_code(body)
        what = f"Slack: {endpoint} was refused (code {code})"
        if status == 429 or code in _LIMITED:
            return RateLimitedError(f"{what}; slowing down", retry_after_seconds=retry_after)
        if code is None or status >= 500:
            return super().classify(endpoint, status, body, retry_after)
        if code == _EXPIRED:
            return TokenExpiredError(f"{what}; the token has expired and there is nothing to refresh it with")
        if code in _CREDENTIALS:
            needed = body.get("needed")
            scope = f"; the app needs the scope {needed}" if isinstance(needed, str) and len(needed) < 200 else ""
            return CredentialsError(f"{what}; check the access token and its scopes{scope}")
        if code in _TRANSIENT:
            return UnavailableError(f"{what}; trying again later")
        return RejectedError(f"{what}; this request will not succeed unchanged", code=code)

    def error_code(self, body: Any) -> str | None:
        """Slack's ``error``."""
        code = body.get("error") if isinstance(body, dict) else None
        return code if isinstance(code, str) and len(code) < 100 else None

    def budget_of(self, headers: Mapping[str, str]) -> str | None:
        """``None``: Slack does not tell what is left. Keeps the token's scopes."""
        self.calls += 1
        scopes = headers.get("X-OAuth-Scopes")
        if scopes is not None:
            self.scopes = frozenset(one.strip() for one in scopes.split(",") if one.strip())
        return None

    def _get(self, method: str, arguments: Mapping[str, Any], token: SecretStr) -> dict[str, Any]:
        self._session.headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        self._secrets = [token.get_secret_value()]
        given = {name: value for name, value in arguments.items() if value is not None}
        answer: dict[str, Any] = self.fetch_json(method, given)
        return answer

    @staticmethod
    def _messages(answer: Mapping[str, Any], method: str, *, newest_first: bool) -> list[dict[str, Any]]:
        found = objects_of(answer, "messages", f"Slack {method}")
        return sorted(found, key=lambda one: ts_parts(one.get("ts")) or (0, 0), reverse=newest_first)


def refresh_slack_token(
    session: HttpSession, token: Token, client_id: str, client_secret: SecretStr, *, now: datetime
) -> Token:
    """The successor of `token`; its refresh token is used up by this.

    Repeats: never. A refresh token works once, so `session` must not try again when the answer is lost.

    Raises:
        CredentialsError: the refresh token is not good any more, or there is none.
        MissingFieldError: Slack's answer has no new token.
    """
    if token.refresh_token is None:
        msg = "Slack: the token has expired and there is no refresh token; install the app again"
        raise CredentialsError(msg)
    answer = session.call_json(
        "POST",
        "oauth.v2.access",
        data={
            "client_id": client_id,
            "client_secret": client_secret.get_secret_value(),
            "grant_type": "refresh_token",
            "refresh_token": token.refresh_token.get_secret_value(),
        },
    )
    return token_from_slack(answer, now=now)


def token_from_slack(answer: Mapping[str, Any], *, now: datetime) -> Token:
    """The token in an answer of ``oauth.v2.access``.

    `answer`: ``{"ok": true, "access_token": "xoxe.xoxb-1-...", "refresh_token": "xoxe-1-...", "expires_in": 43200}``.
    """
    where = "Slack oauth.v2.access"
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
