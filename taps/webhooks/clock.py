"""Notices that our own clock is wrong: authentic deliveries are then refused one after the other, for their time.

Schemes that sign a time (Slack, Standard Webhooks, Chatwoot, WeChat ...) are refused when it is more than five minutes
off. To the platform that looks like a wrong secret, and to the operator like a forger. So a refused delivery is tried
again as if it had come earlier or later: one that would then be authentic was sent by the platform.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from mappings.errors import SignatureError
from taps.webhooks.items import WebhookRequest
from taps.webhooks.metrics import Metrics, RouteKey

log = logging.getLogger("onethread.receiver")

IN_A_ROW = 5
"""Fewer are a captured request that somebody sends again."""
_PAUSE_SECONDS = 1.0
"""Between two trials on one route: a flood of forged requests is not tried a dozen times each."""
_OFFSETS = [timedelta(minutes=sign * minutes) for minutes in range(10, 70, 10) for sign in (1, -1)]
"""Windows of five minutes to both sides, without gaps up to an hour and five minutes (a wrong summer time)."""


class ClockWatch:
    """Counts, for each route, the refused deliveries in a row that another time of day would make authentic."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._in_a_row: dict[RouteKey, int] = {}
        self._tried_at: dict[RouteKey, float] = {}

    def refused(self, key: RouteKey, verify: Callable[[WebhookRequest], None], request: WebhookRequest) -> None:
        """A delivery was refused; `verify` says why at any other time."""
        now = time.monotonic()
        if now - self._tried_at.get(key, float("-inf")) < _PAUSE_SECONDS:
            return
        self._tried_at[key] = now
        offset = next((one for one in _OFFSETS if _is_authentic(verify, request, one)), None)
        if offset is None:
            return
        self._in_a_row[key] = self._in_a_row.get(key, 0) + 1
        if self._in_a_row[key] == IN_A_ROW:
            self._metrics.clock_alarm(key, on=True)
            minutes, way = abs(offset) // timedelta(minutes=1), "ahead" if offset < timedelta() else "behind"
            log.error(
                "receiver: %s/%s refuses everything, yet at another time it would be authentic: is the clock of this "
                "machine about %d minutes %s?", *key, minutes, way,
            )  # fmt: skip

    def accepted(self, key: RouteKey) -> None:
        """A delivery was authentic as it came: the clock is right."""
        if self._in_a_row.pop(key, 0) >= IN_A_ROW:
            self._metrics.clock_alarm(key, on=False)
            log.warning("receiver: %s/%s accepts deliveries again", *key)


def _is_authentic(verify: Callable[[WebhookRequest], None], request: WebhookRequest, offset: timedelta) -> bool:
    try:
        verify(replace(request, received_at=request.received_at + offset))
    except SignatureError:
        return False
    return True
