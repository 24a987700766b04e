"""What the senders of Meta's Graph API share: one POST with a bearer token, and how its errors are told apart."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import requests
from pydantic import Field, SecretStr

from targets.senders.base import SenderSettings, error_of_send, post_json


class GraphSenderSettings(SenderSettings):
    """What every Graph sender takes."""

    access_token: SecretStr = Field(description="Token that may send: system-user token, or page access token.")
    api_url: str = Field("https://graph.facebook.com", description="Base URL of the Graph API.")
    api_version: str = Field("v26.0", description="Graph API version, released 2026-07-29.")
    timeout_seconds: float = Field(20.0, gt=0, description="How long to wait for an answer.")


class GraphSender:
    """Posts to ``/{version}/{account}/messages``."""

    platform: ClassVar[str]
    limit_codes: ClassVar[frozenset[str]]
    credential_codes: ClassVar[frozenset[str]]
    settings: GraphSenderSettings

    @property
    def account(self) -> str:
        """Ours on the platform."""
        raise NotImplementedError

    @cached_property
    def _session(self) -> requests.Session:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {self.settings.access_token.get_secret_value()}"
        return session

    def post(self, body: dict[str, Any]) -> tuple[str, Any]:
        """POST `body` once; the endpoint (for messages) and the answer of a call that was accepted.

        Raises:
            OneThreadError: see `targets.senders.base` for what each class means.
        """
        path = f"/{self.settings.api_version}/{self.account}/messages"
        endpoint = f"POST {path}"
        status, answer, wait = post_json(
            self._session,
            self.platform,
            self.settings.api_url.rstrip("/") + path,
            endpoint,
            body,
            timeout_seconds=self.settings.timeout_seconds,
            secrets=[self.settings.access_token.get_secret_value()],
        )
        if status >= 400:
            code, detail = graph_error(answer)
            raise error_of_send(
                self.platform,
                endpoint,
                status,
                code=code,
                detail=detail,
                retry_after=wait,
                limit_codes=self.limit_codes,
                credential_codes=self.credential_codes,
            )
        return endpoint, answer


def graph_error(answer: Any) -> tuple[str | None, str | None]:
    """Code and text of a Graph error body ``{"error": {"code", "message", "error_data": {"details"}}}``.

    The code is ``code`` or ``code/subcode``. Meta's own texts name the rule that was broken, not the customer or the
    message. Source: developers.facebook.com/docs/graph-api (error object), documented, read 2026-10.
    """
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return None, None
    code = error.get("code")
    subcode = error.get("error_subcode")
    details = error.get("error_data")
    text = details.get("details") if isinstance(details, dict) else None
    whole = None if code is None else f"{code}/{subcode}" if subcode and subcode != code else str(code)
    return whole, str(text or error.get("message") or "") or None
