"""What an HTTP answer means: the one table from status to error class, and what may be said of it in a message."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mappings.errors import CredentialsError, OneThreadError, RateLimitedError, RejectedError, UnavailableError

_TOKEN_SHAPES = re.compile(
    r"(?i)(bearer\s+)[\w.~+/=-]+|((?:access_token|appsecret_proof|hapikey|token|secret|password)=)[^&\s]+"
    r"|\bEAA[A-Za-z0-9]{8,}|\bpat-[a-z0-9-]{8,}|\bxox[a-z]-[\w-]+|\bbot\d+:[\w-]+"
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the given secrets and without anything shaped like a token."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return _TOKEN_SHAPES.sub(lambda match: f"{match.group(1) or match.group(2) or ''}***", text)


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """A ``Retry-After`` value (seconds or an HTTP date) as seconds from `now`, never negative."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    moment = http_date(header)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def http_date(header: str | None) -> datetime | None:
    """An HTTP date (``Date``, ``Retry-After``) as aware UTC; ``None`` when it is none."""
    try:
        moment = parsedate_to_datetime(header or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def error_for_status(
    platform: str, endpoint: str, status: int, *, retry_after: float | None = None, code: str | None = None
) -> OneThreadError:
    """The error that an answer of `status` (400 or above) stands for.

    Args:
        platform: display name, for the message.
        endpoint: method and path without query, without ids that name a customer.
        status: HTTP status.
        retry_after: seconds, when the platform said so.
        code: the platform's own error code.
    """
    what = f"{platform}: {endpoint} answered {status}" + (f" (code {code})" if code else "")
    if status in {401, 403}:
        return CredentialsError(f"{what}; check the access token and its permissions")
    if status == 429:
        return RateLimitedError(f"{what}; slowing down", retry_after_seconds=retry_after)
    if status in {408, 423, 425, 477} or status >= 500:
        return UnavailableError(f"{what}; trying again later")
    return RejectedError(f"{what}; this request will not succeed unchanged", code=code)
