"""What was read from an inbox that deletes what it hands out: on disk first, given up by the platform afterwards.

Some platforms have a queue instead of a history (Telegram's ``getUpdates``, Infobip's pulled inbox): what was read and
confirmed cannot be asked for again. A Singer tap's bookmark is too late to confirm by, for it is safe only once the
target has taken the records. So a tap writes what it got here, and confirms when `Spool.add` has returned; then it
reads from here as it reads deliveries, with the id of the last entry as its bookmark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stores.database import Stores

KEEP = timedelta(days=30)
"""How long entries stay after their records were taken: as long as repeats are known (`stores.items`)."""

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class SpoolEntry:
    """One thing that was read. `spool_id` grows and is never used twice; `payload` is the JSON value as it came."""

    spool_id: int
    added_at: datetime
    payload: Any


class Spool:
    """The spools of one state folder; each platform's route has its own."""

    def __init__(self, stores: Stores) -> None:
        self._codec = stores.codec
        self._database = stores.database("spool")

    def add(self, platform: str, route: str, entries: Sequence[tuple[str, Any]]) -> int:
        """Commit `entries` (key, JSON value) in one transaction; the number of those that were new.

        They are on disk when this returns: now, and not before, the platform may be told to delete them.
        Repeats: an entry whose key is there already stays as it was.
        """
        now = datetime.now(UTC).strftime(_TIME_FORMAT)
        rows = [
            (platform, route, self._codec.fingerprint(key), now, self._codec.encrypt_json(payload))
            for key, payload in entries
        ]
        with self._database.transaction() as database:
            return sum(
                database.execute(
                    "INSERT INTO spool (platform, route, fingerprint, added_at, payload) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (platform, route, fingerprint) DO NOTHING",
                    row,
                )
                for row in rows
            )

    def read(self, platform: str, route: str, after_id: int, limit: int) -> list[SpoolEntry]:
        """The next entries of one route after `after_id`, oldest first, at most `limit`; empty when there are none."""
        rows = self._database.query(
            "SELECT id, added_at, payload FROM spool WHERE platform = ? AND route = ? AND id > ? ORDER BY id LIMIT ?",
            (platform, route, after_id, limit),
        )
        return [
            SpoolEntry(
                row["id"],
                datetime.strptime(row["added_at"], _TIME_FORMAT).replace(tzinfo=UTC),
                self._codec.decrypt_json(row["payload"]),
            )
            for row in rows
        ]

    def last_id(self, platform: str, route: str) -> int:
        """The newest id of one route; 0 when it has none."""
        row = self._database.query_one(
            "SELECT MAX(id) AS last_id FROM spool WHERE platform = ? AND route = ?", (platform, route)
        )
        return int(row["last_id"] or 0) if row else 0

    def forget(self, platform: str, route: str, up_to_id: int, before: datetime) -> int:
        """Drop entries up to `up_to_id` that were added before that time; how many. Repeats are harmless.

        Args:
            platform: the platform's slug.
            route: the account's route.
            up_to_id: the bookmark that the *last* run left, for only its records are known to be with the target.
            before: entries that are younger stay, so that a run can be repeated from further back.
        """
        with self._database.transaction() as database:
            return database.execute(
                "DELETE FROM spool WHERE platform = ? AND route = ? AND id <= ? AND added_at < ?",
                (platform, route, up_to_id, before.astimezone(UTC).strftime(_TIME_FORMAT)),
            )
