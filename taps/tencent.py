"""What the APIs of WeChat and of WeCom have in common: a token in the query that expires, and errors that come as 200.

Sources: developers.weixin.qq.com/doc/service/guide/dev/api/errorcode.html (global return codes),
developer.work.weixin.qq.com/document/path/90313 (global error codes), read 2026-11, documented where nothing else is
said. How long a limit lasts is not documented for most (assumed).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from pydantic import SecretStr

from mappings.errors import (
    CredentialsError,
    MissingFieldError,
    OneThreadError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from mappings.fields import text_of
from stores.tokens import Token, Tokens
from taps.base import Check, HttpSession

MEDIA_PATH = "cgi-bin/media/get"

TOKEN_CODES = frozenset({"40001", "40014", "41001", "42001"})
"""The access token is wrong, missing or has expired. WeCom ends tokens early at times (documented)."""

_BUSY_CODES = frozenset({"-1", "45033"})
_LIMIT_CODES = frozenset({"45009", "45011"})
_CREDENTIAL_CODES = TOKEN_CODES | {
    "40013",  # app id, corp id
    "40125",  # secret
    "40164",  # our address is not on the list, WeChat
    "41002",
    "41004",
    "48001",  # the interface is not granted
    "48002",
    "48004",
    "50002",  # the account is restricted
    "60011",  # WeCom: no privilege
    "60020",  # our address is not on the list, WeCom
    "89501",  # WeChat: the owner must confirm our address
    "89503",
    "89506",
    "89507",
    "301002",  # WeCom: the application may not
}
_WAIT_SECONDS = 600
"""How long to leave a platform alone that says "too many calls" without saying until when (assumed)."""

_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")


class TencentSession(HttpSession):
    """JSON from WeChat or WeCom, with the access token of the moment in each request's query.

    Args:
        platform: display name for errors.
        base_url: scheme and host.
        tokens: where the token is kept between runs and shared with the sending side.
        name: the token's name there.
        fetch: asks the platform for a token; called with this session.
        ahead: how long before its end a token is replaced.
        secrets: values that must never be seen in an error.
    """

    def __init__(
        self,
        platform: str,
        base_url: str,
        *,
        tokens: Tokens,
        name: str,
        fetch: Callable[[HttpSession], Token],
        ahead: timedelta,
        secrets: Iterable[SecretStr],
    ) -> None:
        super().__init__(platform, base_url, secrets=secrets)
        self._tokens = tokens
        self._name = name
        self._fetch_for = fetch
        self._ahead = ahead
        # At DEBUG it logs the address of each request, and the token is a part of it.
        logging.getLogger("urllib3").setLevel(logging.INFO)

    def token(self) -> Token:
        """The access token to use now."""
        return self._tokens.get(self._name, self._fetched, lambda _: self._fetched(), self._ahead)

    def _fetched(self) -> Token:
        return self._fetch_for(self)

    def ask(self, method: str, path: str, parameters: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """The object that a call answers; once more with a new token when the platform refuses the old one.

        `more` goes to requests (``json=``, ``headers=``).

        Raises:
            OneThreadError: by the answer's code.
        """
        token = self.token()
        try:
            return self._ask(token, method, path, parameters, more)
        except _TokenRefusedError:
            token = self._tokens.renew(self._name, token, lambda _: self._fetched())
        return self._ask(token, method, path, parameters, more)

    def media_url(self, media_id: str) -> str:
        """Where the bytes of a file are; the access token is in it."""
        query = urlencode({"access_token": self.token().access_token.get_secret_value(), "media_id": media_id})
        return f"{self._base_url}/{MEDIA_PATH}?{query}"

    def _ask(
        self, token: Token, method: str, path: str, parameters: Mapping[str, Any] | None, more: Mapping[str, Any]
    ) -> dict[str, Any]:
        query = {"access_token": token.access_token.get_secret_value(), **(parameters or {})}
        answer = self.call_json(method, path, query, **more)
        if not isinstance(answer, dict):
            msg = f"{self.platform}: an answer is {type(answer).__name__}, not an object"
            raise MissingFieldError(msg)
        return answer

    def check_answer(self, endpoint: str, body: Any) -> None:
        """Raise the error that a 200 has inside: ``{"errcode": 45009, "errmsg": "..."}``."""
        code = self.error_code(body)
        if code is not None and code != "0":
            raise self.classify(endpoint, 200, body, None)

    def error_code(self, body: Any) -> str | None:
        """The ``errcode``."""
        code = body.get("errcode") if isinstance(body, dict) else None
        return None if code is None else str(code)

    def classify(self, endpoint: str, status: int, body: Any, retry_after: float | None) -> OneThreadError:
        """By code where there is one, else by status."""
        code = self.error_code(body)
        if code is None or code == "0":
            return super().classify(endpoint, status, body, retry_after)
        what = f"{self.platform}: {endpoint} answered code {code}"
        if code in _BUSY_CODES:
            return UnavailableError(f"{what}; trying again later")
        if code in _LIMIT_CODES:
            return RateLimitedError(f"{what}: too many calls", retry_after_seconds=retry_after or _WAIT_SECONDS)
        if code in TOKEN_CODES:
            return _TokenRefusedError(f"{what}; check the secret")
        if code in _CREDENTIAL_CODES:
            found = _ADDRESS.search(str(body.get("errmsg", "")))
            ours = f"; it sees us at {found.group()}, is that address on the account's list?" if found else ""
            return CredentialsError(f"{what}; check id, secret and permissions{ours}")
        return RejectedError(f"{what}; this request will not succeed unchanged", code=code)


class _TokenRefusedError(CredentialsError):
    """The access token is refused; a new one may do."""


def token_of(answer: Mapping[str, Any], now: datetime, where: str) -> Token:
    """The token of ``{"access_token": "...", "expires_in": 7200}``.

    Raises:
        MissingFieldError: there is none, or it does not say for how long it is good.
    """
    seconds = answer.get("expires_in")
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 <= seconds <= 10**9:
        msg = f"{where}: expires_in is missing or no number of seconds"
        raise MissingFieldError(msg)
    return Token(SecretStr(text_of(answer, "access_token", where)), expires_at=now + timedelta(seconds=seconds))


def check_token(session: TencentSession) -> Check:
    """Whether the platform gives us a token, and until when it is good."""
    try:
        token = session.token()
    except OneThreadError as error:
        return Check("access token", ok=False, detail=str(error), fix="correct id and secret; see the platform's page")
    until = f"valid until {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at else "valid"
    return Check("access token", ok=True, detail=until)
