"""The contract of a sender: one reply -> one call -> one outcome, and nothing in doubt without saying so.

A sender never retries: the outbox does, and only what certainly was not sent. So a sender must tell apart

- `Accepted`: the platform took it and named it;
- `RejectedError`: the platform refused it for good, nothing was sent;
- `RateLimitedError`, `UnavailableError`: nothing was sent, certainly (refused connection, refusal before the content);
- `CredentialsError`: nothing was sent and nothing will be until an operator acts;
- `OutcomeUnknownError`: it may have been sent (timeout, reset or 5xx after the request was written).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

import requests
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import (
    CredentialsError,
    OneThreadError,
    OutcomeUnknownError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from mappings.http import error_for_status, redact, retry_after_seconds
from mappings.records import Handle


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One reply, ready for its channel.

    Attributes:
        reply_key: our key of the reply.
        token: 32 hexadecimal characters that the platform carries back to us; see `mappings.ids.reply_token`.
        to: the customer's handle on that channel.
        thread_ids: e-mail: Message-IDs of the thread so far, oldest first.
        tag: Messenger: the message tag that the policy allows (``HUMAN_AGENT``).
    """

    reply_key: str
    token: str
    channel: str
    account: str
    to: Handle
    conversation_key: str | None = None
    text: str | None = None
    template: str | None = None
    template_language: str | None = None
    template_parameters: list[str] = field(default_factory=list)
    subject: str | None = None
    reply_to_key: str | None = None
    thread_ids: list[str] = field(default_factory=list)
    tag: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON, for the outbox."""
        return {**asdict(self), "to": self.to.model_dump(mode="json")}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Outgoing:
        """What `to_json` gave."""
        return cls(**{**value, "to": Handle.model_validate(value["to"])})


@dataclass(frozen=True, slots=True)
class Accepted:
    """The platform took the reply. `sent_at` is our clock at the answer, or the platform's time where it gives one."""

    message_key: str
    platform_message_id: str
    sent_at: datetime


class SenderSettings(BaseSettings):
    """Base of sender settings: read from ``ONETHREAD_<SLUG>_*`` and ``.env``."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)


class Sender(Protocol):
    """What every sender offers."""

    slug: ClassVar[str]

    @property
    def account(self) -> str:
        """Ours on the platform: phone number id, page id, mailbox."""

    def send(self, outgoing: Outgoing) -> Accepted:
        """Send one reply; see the module for what each error means."""

    def settle(self, outgoing: Outgoing) -> Accepted | None:
        """Look for evidence that an unknown outcome was a success. ``None`` proves nothing."""


def post_json(
    session: requests.Session, platform: str, url: str, endpoint: str, body: dict[str, Any], *,
    timeout_seconds: float, secrets: list[str],
) -> tuple[int, Any, float | None]:  # fmt: skip
    """POST `body` once; status, JSON answer (``None`` if it has none) and Retry-After in seconds.

    Raises:
        UnavailableError: the connection was never made: nothing was sent.
        OutcomeUnknownError: it broke later: the platform may have taken the request.
    """
    try:
        response = session.post(url, json=body, timeout=timeout_seconds)
    except requests.ConnectTimeout:
        msg = f"{platform}: {endpoint}: no connection within {timeout_seconds:g} s; nothing was sent"
        raise UnavailableError(msg) from None
    except requests.RequestException as error:
        if _never_connected(error):
            msg = f"{platform}: {endpoint}: connection refused; nothing was sent"
            raise UnavailableError(msg) from None
        msg = f"{platform}: {endpoint}: no answer ({type(error).__name__}) after the request was written"
        raise OutcomeUnknownError(redact(msg, secrets)) from None
    try:
        answer = response.json()
    except ValueError:
        answer = None
    return response.status_code, answer, retry_after_seconds(response.headers.get("Retry-After"), datetime.now(UTC))


def _never_connected(error: BaseException) -> bool:
    """Whether a requests error means that no connection was made, so that no byte left us."""
    from urllib3.exceptions import NameResolutionError, NewConnectionError

    seen: BaseException | None = error
    for _ in range(6):
        if seen is None:
            return False
        if isinstance(seen, NewConnectionError | NameResolutionError):
            return True
        reason = getattr(seen, "reason", None)
        if isinstance(reason, BaseException):
            seen = reason
            continue
        seen = next((one for one in seen.args if isinstance(one, BaseException)), None)
    return False


def error_of_send(
    platform: str, endpoint: str, status: int, *, code: str | None, detail: str | None, retry_after: float | None,
    limit_codes: frozenset[str], credential_codes: frozenset[str],
) -> OneThreadError:  # fmt: skip
    """The error of a refused send. A 5xx is *unknown*: the platform may have taken the message before it failed."""
    what = f"{platform}: {endpoint} answered {status}" + (f" (code {code})" if code else "")
    if code in limit_codes or status == 429:
        return RateLimitedError(f"{what}; it is sent later", retry_after_seconds=retry_after)
    if code in credential_codes or status == 401:
        return CredentialsError(f"{what}; check the access token and its permissions")
    if status >= 500:
        return OutcomeUnknownError(f"{what}; it may have been sent")
    if 400 <= status < 500:
        return RejectedError(f"{what}: {detail}" if detail else what, code=code)
    return error_for_status(platform, endpoint, status)
