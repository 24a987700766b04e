"""How long a call to a CRM goes on: it waits as the account asks, and is tried again while the account is unavailable.

Every client of a CRM does this alike; what an answer means is in the pure part of each (`mappings`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import backoff

from mappings.errors import RateLimitedError, UnavailableError

Call = TypeVar("Call", bound=Callable[..., Any])


class RetrySettings(Protocol):
    """What a client's settings say of it."""

    @property
    def max_tries(self) -> int:
        """Of one call."""

    @property
    def max_retry_seconds(self) -> float:
        """After this long one call is given up."""

    @property
    def retry_wait_seconds(self) -> float:
        """The first wait; it doubles, up to a minute."""


def while_unavailable(call: Call, settings: RetrySettings) -> Call:
    """`call`, made again after an `UnavailableError`; the last one is raised."""
    again = backoff.on_exception(
        backoff.expo,
        UnavailableError,
        factor=settings.retry_wait_seconds,
        max_value=60,
        jitter=lambda seconds: seconds * random.uniform(0.5, 1.0),  # noqa: S311  # spreads load, guards nothing
        max_tries=settings.max_tries,
        max_time=settings.max_retry_seconds,
        logger=None,
    )
    return again(call)


def with_patience(call: Call, settings: RetrySettings) -> Call:
    """The same, and made again after a `RateLimitedError` when the time that it names is over.

    One that names no time, or a longer one than a call may go on, is raised at once.
    """

    def is_too_long(error: Exception) -> bool:
        asked = getattr(error, "retry_after_seconds", None)
        return asked is None or asked > settings.max_retry_seconds

    waiting = backoff.on_exception(
        backoff.runtime,
        RateLimitedError,
        value=lambda error: error.retry_after_seconds or 0.0,
        jitter=None,
        giveup=is_too_long,
        max_tries=settings.max_tries,
        max_time=settings.max_retry_seconds,
        logger=None,
    )
    return waiting(while_unavailable(call, settings))
