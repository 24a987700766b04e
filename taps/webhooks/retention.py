"""Deliveries do not stay for ever: they go once they are old enough and every tap that reads them has read them.

The receiver alone writes the deliveries, so it removes them too, in its committer's thread, in portions so small that
no delivery waits noticeably. How far the taps are, they say themselves (`stores.positions`). A route that no tap has
read yet keeps everything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta

from mappings.errors import UnavailableError
from stores.database import Stores
from stores.deliveries import Deliveries
from stores.media import Media
from stores.positions import Position, Positions
from stores.removals import Removals, due
from taps.webhooks.metrics import Metrics, RouteKey

log = logging.getLogger("onethread.receiver")

PORTION_ROWS = 200
INTERVAL_SECONDS = 60.0
"""An erasure waits for this; looking for what is old costs next to nothing."""
_LOOK_BACK = timedelta(days=30)
"""How long a tap may not have run and is still waited for, where deliveries are kept for ever."""
_PAUSE_SECONDS = 0.05
_LOG_ALARM_BYTES = 256 * 1024 * 1024


class Retention:
    """Removes deliveries, a portion at each `step`.

    Args:
        stores: where the taps' positions are.
        deliveries: the receiver's own writer; `step` is called in the thread that commits.
        keep: for how long at least; zero keeps for ever.
        metrics: where it is counted.
        now: the clock.
    """

    def __init__(
        self,
        stores: Stores,
        deliveries: Deliveries,
        keep: timedelta,
        metrics: Metrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._stores = stores
        self._deliveries = deliveries
        self._keep = keep
        self._metrics = metrics
        self._now = now
        self._pending: list[tuple[RouteKey, int]] = []
        self._is_under_way = False
        self._asked: list[int] = []
        self._removed = self._removed_on_request = 0
        self._warned_on: date | None = None

    def step(self) -> float:
        """Remove one portion; after how many seconds to call again."""
        if not self._is_under_way:
            self._begin()
        if self._asked:
            self._removed_on_request += self._deliveries.remove(self._asked[:PORTION_ROWS])
            del self._asked[:PORTION_ROWS]
            return _PAUSE_SECONDS
        if not self._pending:
            return self._end()
        key, up_to_id = self._pending[0]
        removed = self._deliveries.purge(*key, up_to_id, self._now() - self._keep, PORTION_ROWS)
        if removed:
            self._removed += removed
            self._metrics.purged(key, removed)
        else:
            self._pending.pop(0)
        return _PAUSE_SECONDS

    def _begin(self) -> None:
        """Find out what may go; and look at the log, which grows while somebody reads for very long."""
        size = self._deliveries.log_bytes()
        if size > _LOG_ALARM_BYTES:
            log.warning("receiver: SQLite's log has %d MiB: some process keeps reading an old state", size // 2**20)
        self._is_under_way, self._removed, self._removed_on_request = True, 0, 0
        slowest = slowest_of(self._positions())
        self._asked = self._asked_for({key: position.delivery_id for key, position in slowest.items()})
        if not self._keep:
            return
        self._pending = [(key, position.delivery_id) for key, position in slowest.items()]
        self._tell_what_is_held_back(slowest)

    def _asked_for(self, read_up_to: dict[RouteKey, int]) -> list[int]:
        removals = Removals(self._stores, read_only=True)
        try:
            return due(removals.asked(), self._deliveries, read_up_to)
        finally:
            removals.close()

    def _tell_what_is_held_back(self, slowest: dict[RouteKey, Position]) -> None:
        """Say once a day which route keeps far more than it should, and for whom."""
        now = self._now()
        if self._warned_on == now.date():
            return
        self._warned_on = now.date()
        for key, since in self._deliveries.oldest().items():
            if since > now - 2 * self._keep:
                continue
            if key in slowest:
                reader, day = slowest[key].reader, slowest[key].noted_on
                log.warning("receiver: %s/%s keeps deliveries for %s, which last ran on %s", *key, reader, day)
            else:
                log.warning("receiver: %s/%s keeps everything: no tap has read it twice yet", *key)

    def _positions(self) -> list[Position]:
        positions = Positions(self._stores, read_only=True)
        try:
            return positions.confirmed(self._now() - (self._keep or _LOOK_BACK))
        finally:
            positions.close()

    def _end(self) -> float:
        if self._removed:
            log.info("receiver: removed %d deliveries older than %d days", self._removed, self._keep.days)
        if self._removed_on_request:
            log.info("receiver: removed %d deliveries of erased persons", self._removed_on_request)
        self._is_under_way = False
        return INTERVAL_SECONDS


def slowest_of(positions: Iterable[Position]) -> dict[RouteKey, Position]:
    """Of each route the tap that is the furthest behind."""
    slowest: dict[RouteKey, Position] = {}
    for position in positions:
        key = (position.platform, position.route)
        if key not in slowest or position.delivery_id < slowest[key].delivery_id:
            slowest[key] = position
    return slowest


def remove_asked(stores: Stores, now: datetime) -> bool:
    """Remove what an erasure asks for in the receiver's place; whether none is running."""
    try:
        with stores.lock("receiver", timeout_seconds=0):
            deliveries = Deliveries(stores, writable=True)
            retention = Retention(stores, deliveries, timedelta(0), Metrics(), lambda: now)
            try:
                while retention.step() != INTERVAL_SECONDS:
                    pass
            finally:
                deliveries.close()
    except TimeoutError:
        return False
    return True


def forget_media(stores: Stores, keep: timedelta, now: datetime) -> int:
    """Delete the files that no message brought for that long; how many. Takes as long as it takes: not for a committer.

    Raises:
        UnavailableError: the folder cannot be cleaned now.
    """
    if not (stores.folder / "media").is_dir():
        return 0  # no file was ever fetched
    try:
        return Media(stores).forget(now - keep)
    except OSError as error:
        msg = f"media cannot be removed ({error.strerror})"
        raise UnavailableError(msg) from None
