"""The stand-in's token endpoint: an app's refresh token brings access tokens that end.

Source: see `mappings.hubspot_login`; what is otherwise is in `sandbox.hubspot.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from werkzeug.wrappers import Request, Response

from sandbox.base import Clock, json_response
from sandbox.hubspot.objects import iso
from sandbox.hubspot.refusals import Refusal


@dataclass(slots=True)
class OAuthApp:
    """An app on the developer platform, installed in the account.

    Attributes:
        rotates: whether each refresh replaces the refresh token; the pages do not say.
        refreshes: how many access tokens were given out.
    """

    client_id: str = "sandbox-app"
    client_secret: str = "sandbox-secret"  # noqa: S105  # a stand-in's secret protects nothing
    refresh_token: str = "sandbox-refresh-1"  # noqa: S105
    token_seconds: int = 1800
    rotates: bool = False
    refreshes: int = 0
    _ends: dict[str, float] = field(default_factory=dict)

    def answer(self, request: Request, clock: Clock, portal_id: str) -> Response:
        """What the token endpoint says."""
        if request.mimetype != "application/x-www-form-urlencoded":
            raise Refusal(415, "VALIDATION_ERROR", "application/x-www-form-urlencoded is required")
        form = request.form
        if form.get("grant_type") != "refresh_token":
            return _refused("unsupported_grant_type", "BAD_GRANT_TYPE", "missing or unknown grant type")
        if form.get("client_id") != self.client_id or form.get("client_secret") != self.client_secret:
            return _refused("invalid_client", "BAD_CLIENT_ID", "missing or invalid client id or secret")
        if form.get("refresh_token") != self.refresh_token:
            return _refused("invalid_grant", "BAD_REFRESH_TOKEN", "missing or invalid refresh token")
        self.refreshes += 1
        access_token = f"sandbox-access-{self.refreshes}"
        self._ends[access_token] = clock.epoch() + self.token_seconds
        if self.rotates:
            self.refresh_token = f"sandbox-refresh-{self.refreshes + 1}"
        return json_response(
            {
                "token_type": "bearer", "access_token": access_token, "refresh_token": self.refresh_token,
                "expires_in": self.token_seconds, "hub_id": int(portal_id), "scopes": [], "token_use": "access_token",
            }
        )  # fmt: skip

    def end_all(self, clock: Clock) -> None:
        """Every access token ends now, before the time that was told."""
        self._ends = dict.fromkeys(self._ends, clock.epoch())

    def check(self, access_token: str, clock: Clock) -> bool:
        """Whether it is one of ours; raises the refusal of one that has ended."""
        ends = self._ends.get(access_token)
        if ends is None:
            return False
        if ends <= clock.epoch():
            message = "The OAuth token used to make this call expired 0 second(s) ago."
            context = {"expire time": [iso(clock.now())]}
            raise Refusal(401, "EXPIRED_AUTHENTICATION", message, context=context)
        return True


def _refused(error: str, status: str, message: str) -> Response:
    body: dict[str, Any] = {"error": error, "error_description": message, "status": status, "message": message}
    return json_response(body, 400)
