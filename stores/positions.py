"""How far the taps have come with the deliveries: what may be purged because nobody needs it any more.

A tap notes the bookmark that it was *started* with. That is what its target has confirmed; what it emits itself may
still be lost on the way. It does not know which pipeline it serves, and two pipelines may run the same tap. So a
position is kept for each day, the lowest of that day, and what counts is the lowest of all days within the retention: a
pipeline that ran at least once in that time is never passed by a faster one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from stores.database import Stores

_KEEP = timedelta(days=400)
"""For how long a reader's own older positions are kept beside its newer ones."""


class Position(NamedTuple):
    """One reader has read one route up to `delivery_id`, or further; `noted_on` is the day of its last run."""

    platform: str
    route: str
    reader: str
    delivery_id: int
    noted_on: str


class Positions:
    """The positions of one state; in the store of the taps, so that the deliveries have one writer."""

    def __init__(self, stores: Stores, *, read_only: bool = False) -> None:
        self._database = stores.open("items", read_only=True) if read_only else stores.database("items")

    def note(self, platform: str, route: str, reader: str, delivery_id: int, now: datetime) -> None:
        """Note with which bookmark `reader` was started. Repeats: the lowest of a day stays."""
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO read_position (platform, route, reader, noted_on, delivery_id) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (platform, route, reader, noted_on) DO UPDATE SET delivery_id = excluded.delivery_id"
                " WHERE excluded.delivery_id < read_position.delivery_id",
                (platform, route, reader, _day(now), delivery_id),
            )
            database.execute(
                "DELETE FROM read_position WHERE platform = ? AND route = ? AND reader = ? AND noted_on < ?",
                (platform, route, reader, _day(now - _KEEP)),
            )

    def confirmed(self, since: datetime) -> list[Position]:
        """For every reader of every route, how far it has surely come.

        The lowest position of its runs since `since`; of a reader that has not run since then, its last one: it holds
        the deliveries back until it runs again or is forgotten.
        """
        found: dict[tuple[str, str, str], Position] = {}
        rows = self._database.query(
            "SELECT platform, route, reader, delivery_id, noted_on FROM read_position"
            " ORDER BY platform, route, reader, noted_on"
        )
        for row in rows:
            position = Position(*(row[name] for name in Position._fields))
            before = found.get(position[:3])
            if before is not None and before.noted_on >= _day(since):
                position = position._replace(delivery_id=min(before.delivery_id, position.delivery_id))
            found[position[:3]] = position
        return list(found.values())

    def forget(self, platform: str, route: str, reader: str) -> int:
        """Wait no longer for a reader that is gone; the number of its notes."""
        with self._database.transaction() as database:
            return database.execute(
                "DELETE FROM read_position WHERE platform = ? AND route = ? AND reader = ?", (platform, route, reader)
            )

    def close(self) -> None:
        """Close a connection that was opened for reading."""
        self._database.close()


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d")
