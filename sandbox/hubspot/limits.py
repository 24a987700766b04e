"""Rate limits of the stand-in: rolling windows per family of endpoints, and the day.

Source: developers.hubspot.com/docs/api/usage-details, second-hand, 2026-09-21 (documented). That search and
associations do not use up the general window, that a refused call is not counted, that the day is UTC: assumed.
"""

from __future__ import annotations

from collections import deque
from datetime import date, datetime


class Window:
    """At most `limit` requests within any `seconds`."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self._taken: deque[float] = deque()

    def remaining(self, now: float) -> int:
        """How many requests are left at `now`."""
        while self._taken and self._taken[0] <= now - self.seconds:
            self._taken.popleft()
        return self.limit - len(self._taken)

    def take(self, now: float) -> None:
        """Count one request."""
        self._taken.append(now)


class Limits:
    """Which window a path falls under, and what the answer's headers say."""

    def __init__(self, ten_second_limit: int, associations_limit: int, search_limit: int, daily_limit: int) -> None:
        self._general = Window(ten_second_limit, 10.0)
        self._associations = Window(associations_limit, 10.0)
        self._search = Window(search_limit, 1.0)
        self._daily_limit = daily_limit
        self._day: date | None = None
        self._used = 0

    def refuse(self, path: str, now: datetime) -> str | None:
        """Count the request and return ``None``, or return the policy that forbids it (then it is not counted)."""
        if now.date() != self._day:
            self._day, self._used = now.date(), 0
        if self._used >= self._daily_limit:
            return "DAILY"
        window = self._window(path)
        if window.remaining(now.timestamp()) <= 0:
            return "SECONDLY" if window is self._search else "TEN_SECONDLY_ROLLING"
        window.take(now.timestamp())
        self._used += 1
        return None

    def headers(self, path: str, now: datetime) -> dict[str, str]:
        """The X-HubSpot-RateLimit headers; none on search."""
        window = self._window(path)
        if window is self._search:
            return {}
        return {
            "X-HubSpot-RateLimit-Max": str(window.limit),
            "X-HubSpot-RateLimit-Remaining": str(max(0, window.remaining(now.timestamp()))),
            "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
            "X-HubSpot-RateLimit-Daily": str(self._daily_limit),
            "X-HubSpot-RateLimit-Daily-Remaining": str(max(0, self._daily_limit - self._used)),
        }

    def _window(self, path: str) -> Window:
        if path.endswith("/search"):
            return self._search
        return self._associations if path.startswith(("/crm/v4/", "/crm/associations/")) else self._general
