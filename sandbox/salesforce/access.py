"""Who may do what: users, OAuth tokens, and the permission sets that open fields and objects.

Source: help.salesforce.com, "OAuth 2.0 Client Credentials Flow" and "OAuth 2.0 JWT Bearer Flow", second-hand, 2026-10
(documented); what the errors say: observed in public issues. Fields that were deployed are seen by nobody until a
permission set (or profile) opens them; documented in the Metadata API Developer Guide, "PermissionSet".
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from typing import Any

import jwt
from werkzeug.wrappers import Request

from sandbox.base import Clock
from sandbox.salesforce.refusals import Refusal

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LOGIN_HOSTS = ("login.salesforce.com", "test.salesforce.com")
STANDARD_RIGHTS = frozenset({"Account", "Contact", "Lead", "Task", "ContentVersion", "ContentDocument",
                             "ContentDocumentLink", "User", "Organization", "PermissionSet",
                             "PermissionSetAssignment"})  # fmt: skip


@dataclass(slots=True)
class User:
    """A user. `everything`: sees and edits all, as the people do who work in the org's pages."""

    user_id: str
    username: str
    name: str
    everything: bool = False
    may_deploy: bool = False


@dataclass(slots=True)
class PermissionSet:
    """What one permission set opens: per object the verbs (read, create, edit, delete), per field whether editable."""

    name: str
    label: str
    objects: dict[str, frozenset[str]] = field(default_factory=dict)
    fields: dict[tuple[str, str], bool] = field(default_factory=dict)


class OAuthRefusal(Refusal):
    """An error of the token endpoint, which has a shape of its own."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error, description, status=status)


class Sessions:
    """Access tokens and how they are had.

    Args:
        clock: the stand-in's time.
        consumer_key: the External Client App's key.
        consumer_secret: its secret, for client credentials.
        lifetime_seconds: a token dies when it was not used for so long.
    """

    def __init__(self, clock: Clock, *, consumer_key: str, consumer_secret: str, lifetime_seconds: float) -> None:
        self._clock = clock
        self._consumer_key = consumer_key
        self._consumer_secret = consumer_secret
        self._lifetime_seconds = lifetime_seconds
        self._tokens: dict[str, tuple[User, float]] = {}
        self.certificates: list[Any] = []

    def open(self, user: User) -> str:
        """A new access token of `user`."""
        token = f"{user.user_id[:15].replace('005', '00D', 1)}!AQ{secrets.token_urlsafe(32)}"
        self._tokens[token] = (user, self._clock.epoch())
        return token

    def user(self, token: str) -> User | None:
        """Whose token it is, if it lives; using it keeps it alive."""
        user, used_at = self._tokens.get(token, (None, 0.0))
        if user is None or self._clock.epoch() - used_at > self._lifetime_seconds:
            self._tokens.pop(token, None)
            return None
        self._tokens[token] = (user, self._clock.epoch())
        return user

    def close(self, token: str | None = None) -> None:
        """End one session, or all."""
        if token is None:
            self._tokens.clear()
        else:
            self._tokens.pop(token, None)

    def granted(self, request: Request, users: dict[str, User], run_as: User) -> User:
        """Who a token request may act as.

        Raises:
            OAuthRefusal: nobody.
        """
        if request.mimetype != "application/x-www-form-urlencoded":
            raise OAuthRefusal("unsupported_grant_type", "grant type not supported")
        grant = request.form.get("grant_type")
        if grant == "client_credentials":
            return self._by_client_credentials(request, run_as)
        if grant == JWT_BEARER:
            return self._by_assertion(request, users)
        if grant == "password":
            raise OAuthRefusal("invalid_grant", "authentication failure")  # External Client Apps have no such flow
        raise OAuthRefusal("unsupported_grant_type", "grant type not supported")

    def _by_client_credentials(self, request: Request, run_as: User) -> User:
        if request.host in LOGIN_HOSTS:
            raise OAuthRefusal("invalid_grant", "request not supported on this domain")
        key, secret = request.form.get("client_id"), request.form.get("client_secret")
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                key, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError) as error:
                raise OAuthRefusal("invalid_client", "invalid client credentials") from error
        if key != self._consumer_key:
            raise OAuthRefusal("invalid_client_id", "client identifier invalid")
        if secret != self._consumer_secret:
            raise OAuthRefusal("invalid_client", "invalid client credentials")
        return run_as

    def _by_assertion(self, request: Request, users: dict[str, User]) -> User:
        claims = self._claims(request.form.get("assertion", ""))
        audiences = {f"https://{host}" for host in (*LOGIN_HOSTS, request.host)}
        if str(claims.get("aud", "")).rstrip("/") not in audiences:
            raise OAuthRefusal("invalid_grant", "audience is invalid")
        try:
            expires_at = float(claims["exp"])
        except (KeyError, TypeError, ValueError) as error:
            raise OAuthRefusal("invalid_grant", "invalid assertion") from error
        if not self._clock.epoch() < expires_at <= self._clock.epoch() + 300:
            raise OAuthRefusal("invalid_grant", "expired authorization code")
        if claims.get("iss") != self._consumer_key:
            raise OAuthRefusal("invalid_client_id", "client identifier invalid")
        user = users.get(str(claims.get("sub")))
        if user is None:
            raise OAuthRefusal("invalid_grant", "user hasn't approved this consumer")
        return user

    def _claims(self, assertion: str) -> dict[str, Any]:
        options: Any = {"verify_exp": False, "verify_aud": False, "verify_iat": False, "verify_nbf": False}
        for certificate in self.certificates:
            try:
                return jwt.decode(assertion, certificate.public_key(), algorithms=["RS256"], options=options)
            except jwt.InvalidTokenError:
                continue
        raise OAuthRefusal("invalid_grant", "invalid assertion")
