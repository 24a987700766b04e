"""API calls of the last 24 hours, and the room for records.

Source: developer.salesforce.com, "API Request Limits and Allocations", second-hand, 2026-10 (documented): a rolling
day; over it 403 REQUEST_LIMIT_EXCEEDED. A record takes 2 KB of data storage (help.salesforce.com, "Data and File
Storage", documented).
"""

from __future__ import annotations

from collections import deque

from sandbox.salesforce.refusals import Refusal

_DAY_SECONDS = 24 * 3600.0


class Quota:
    """At most `limit` calls within any 24 hours; refused calls are not counted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._calls: deque[float] = deque()

    def used(self, now: float) -> int:
        """Calls of the last 24 hours."""
        while self._calls and self._calls[0] <= now - _DAY_SECONDS:
            self._calls.popleft()
        return len(self._calls)

    def take(self, now: float) -> None:
        """Count one call.

        Raises:
            Refusal: there is none left.
        """
        if self.used(now) >= self.limit:
            raise Refusal("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", status=403)
        self._calls.append(now)

    def header(self, now: float) -> str:
        """The value of ``Sforce-Limit-Info``."""
        return f"api-usage={self.used(now)}/{self.limit}"

    def as_json(self, now: float) -> dict[str, int]:
        """The entry of the limits resource."""
        return {"Max": self.limit, "Remaining": max(0, self.limit - self.used(now))}
