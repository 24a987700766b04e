"""Access tokens of an OAuth app: kept and rotated in `stores.tokens`, asked for with a form (RFC 6749, section 6).

What is asked, and what the answer means, is the pure part of each platform (`mappings`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import requests
from pydantic import SecretStr

from mappings.errors import UnavailableError
from stores.database import Stores
from stores.tokens import Token, Tokens


class Grant(NamedTuple):
    """How a platform is asked for an access token.

    Attributes:
        platform: display name, for errors.
        url: of the token endpoint.
        form: its fields, given the refresh token.
        read: what an answer (status, headers, JSON, now) brought: access token, refresh token or ``None``, end; raises.
    """

    platform: str
    url: str
    form: Callable[[SecretStr], dict[str, str]]
    read: Callable[[int, Mapping[str, str], Any, datetime], tuple[SecretStr, SecretStr | None, datetime | None]]


class OAuthLogin:
    """The access token of one account. Processes of one state share it, and one of them refreshes it.

    Args:
        stores: where it is kept.
        name: ``<slug>:<account>``, as `onethread tokens` shows it.
        refresh_token: the configured one; what came in its place since is in the stores.
        grant: how the platform is asked.
        timeout_seconds: for its answer.
    """

    def __init__(
        self, stores: Stores, name: str, refresh_token: SecretStr, grant: Grant, *, timeout_seconds: float = 30
    ) -> None:
        self._tokens = Tokens(stores)
        self._name = name
        self._configured = Token(SecretStr(""), refresh_token)
        self._grant = grant
        self._timeout_seconds = timeout_seconds

    def access_token(self) -> SecretStr:
        """The one to use now, refreshed before its end; cheap, so ask before every call.

        Raises:
            OneThreadError: see `Tokens.get`.
        """
        return self._tokens.get(self._name, self._configured, self._refresh).access_token

    def renewed(self, refused: SecretStr) -> SecretStr:
        """Another one, for one that the platform refused before its end."""
        token = Token(refused, self._configured.refresh_token)
        return self._tokens.renew(self._name, token, self._refresh).access_token

    def _refresh(self, token: Token) -> Token:
        """Asked once: a refresh token that rotates is used up by it."""
        grant = self._grant
        form = grant.form(token.refresh_token or SecretStr(""))
        try:
            response = requests.post(grant.url, data=form, timeout=self._timeout_seconds, allow_redirects=False)
        except requests.RequestException as error:
            msg = f"{grant.platform}: the token endpoint gave no answer ({type(error).__name__})"
            raise UnavailableError(msg) from None
        try:
            body = response.json()
        except ValueError:
            body = None
        return Token(*grant.read(response.status_code, response.headers, body, datetime.now(UTC)))
