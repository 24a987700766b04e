"""Raw webhook deliveries: the bytes that a platform pushed, in the order in which they were committed.

The receiver alone writes here (one process, one connection), removing included; everybody else opens the file
read-only. Ids grow and are never reused, so the last id that a tap has read is its bookmark. A delivery that is
repeated byte for byte on the same route is one row, as long as the first is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from stores.database import Row, Stores

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_MAX_READ_BYTES = 16 * 1024 * 1024
_MAX_PURGE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery: `body` is what was signed, byte for byte; header names are lowercase."""

    delivery_id: int
    platform: str
    route: str
    received_at: datetime
    headers: dict[str, str]
    body: bytes


class DeliveryRow(NamedTuple):
    """A delivery as it is stored: personal parts encrypted, the repeat found by fingerprint."""

    platform: str
    route: str
    received_at: str
    headers: bytes
    body: bytes
    fingerprint: str


class Deliveries:
    """The deliveries of one state folder.

    Args:
        stores: where they are.
        writable: only for the receiver, which holds the lock ``receiver`` meanwhile.
    """

    def __init__(self, stores: Stores, *, writable: bool = False) -> None:
        self._codec = stores.codec
        self._database = stores.open("deliveries", read_only=not writable)
        self._log_path = stores.folder / "deliveries.db-wal"
        if writable and self._log_path.exists():
            # What a failed flush left in the log can be read and still be gone after a power cut. Copied into the file
            # and flushed again it is safe, before a repeat of it is answered.
            self._database.query("PRAGMA wal_checkpoint(PASSIVE)")

    def encode(
        self, platform: str, route: str, received_at: datetime, headers: Mapping[str, str], query: str, body: bytes
    ) -> DeliveryRow:
        """The row that keeps this delivery. Touches no database: any thread may call it."""
        return DeliveryRow(
            platform,
            route,
            _text(received_at),
            self._codec.encrypt(msgspec.json.encode(headers)),  # a tenth of what json.dumps takes
            self._codec.encrypt(body),
            self._codec.fingerprint(query.encode("latin-1", "replace") + b"\0" + body),
        )

    def add(self, rows: Sequence[DeliveryRow]) -> Counter[tuple[str, str]]:
        """Commit `rows` in one transaction; how many were new, by (platform, route). On disk when this returns.

        Repeats: a row that is there already stays as it was.
        """
        new: Counter[tuple[str, str]] = Counter()
        by_route: dict[tuple[str, str], list[DeliveryRow]] = {}
        for row in rows:
            by_route.setdefault(row[:2], []).append(row)
        with self._database.transaction() as database:
            # A statement for each route says how many of its rows are new; RETURNING would say so row by row, and at
            # each one this thread would have to wait for the one that serves.
            for key, some in by_route.items():
                places = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(some))
                count = database.execute(
                    "INSERT INTO delivery (platform, route, received_at, headers, body, fingerprint)"  # noqa: S608 (places)
                    f" VALUES {places} ON CONFLICT (platform, route, fingerprint) DO NOTHING",
                    [value for row in some for value in row],
                )
                if count:
                    new[key] = count
        return new

    def read(self, platform: str, route: str, after_id: int, limit: int) -> list[Delivery]:
        """The next deliveries of one route after `after_id`, oldest first; empty when there are none.

        At most `limit`, and fewer when their bodies would fill more than 16 MiB (one always comes): a run of 3 MiB
        history deliveries must not fill the memory.
        """
        sizes = self._database.query(
            "SELECT id, LENGTH(body) AS size FROM delivery WHERE platform = ? AND route = ? AND id > ?"
            " ORDER BY id LIMIT ?",
            (platform, route, after_id, limit),
        )
        last_id, total = after_id, 0
        for row in sizes:
            total += row["size"]
            if total > _MAX_READ_BYTES and last_id != after_id:
                break
            last_id = row["id"]
        rows = self._database.query(
            "SELECT * FROM delivery WHERE platform = ? AND route = ? AND id > ? AND id <= ? ORDER BY id",
            (platform, route, after_id, last_id),
        )
        return [self._delivery(row) for row in rows]

    def get(self, delivery_id: int) -> Delivery | None:
        """The delivery of that id, or ``None``."""
        row = self._database.query_one("SELECT * FROM delivery WHERE id = ?", (delivery_id,))
        return self._delivery(row) if row else None

    def last_id(self, platform: str, route: str) -> int:
        """The newest id of one route; 0 when it has none."""
        row = self._database.query_one(
            "SELECT MAX(id) AS last_id FROM delivery WHERE platform = ? AND route = ?", (platform, route)
        )
        return int(row["last_id"] or 0) if row else 0

    def last_received_at(self, platform: str, route: str) -> datetime | None:
        """When the newest delivery of one route came; ``None`` when it has none."""
        row = self._database.query_one(
            "SELECT received_at FROM delivery WHERE platform = ? AND route = ? ORDER BY id DESC LIMIT 1",
            (platform, route),
        )
        return _moment(row["received_at"]) if row else None

    def oldest(self) -> dict[tuple[str, str], datetime]:
        """When the oldest delivery came that is kept, for each route that has any."""
        found: dict[tuple[str, str], datetime] = {}
        after = ("", "")
        # From one route to the next by the index: DISTINCT would read all rows.
        while row := self._database.query_one(
            "SELECT platform, route, received_at FROM delivery WHERE (platform, route) > (?, ?)"
            " ORDER BY platform, route, id LIMIT 1",
            after,
        ):
            after = (row["platform"], row["route"])
            found[after] = _moment(row["received_at"])
        return found

    def purge(self, platform: str, route: str, up_to_id: int, before: datetime, limit: int) -> int:
        """Remove the oldest deliveries of one route that came before `before`; how many: 0 when none is left.

        At most `limit`, and fewer when their bodies are large: whoever waits to commit waits for this. What was removed
        is overwritten with zeros on disk.

        Args:
            up_to_id: what has been read by all; nothing after it is removed.
        """
        rows = self._database.query(
            "SELECT id, received_at, LENGTH(body) AS size FROM delivery"
            " WHERE platform = ? AND route = ? AND id <= ? ORDER BY id LIMIT ?",
            (platform, route, up_to_id, limit),
        )
        gone: list[int] = []
        total = 0
        for row in rows:
            if row["received_at"] >= _text(before):
                continue
            total += row["size"]
            if total > _MAX_PURGE_BYTES and gone:
                break
            gone.append(row["id"])
        if gone:
            with self._database.transaction() as database:
                places = ", ".join("?" * len(gone))
                database.execute(f"DELETE FROM delivery WHERE id IN ({places})", gone)  # noqa: S608 (places)
        return len(gone)

    def routes_of(self, delivery_ids: Iterable[int]) -> dict[int, tuple[str, str]]:
        """(platform, route) of those of the deliveries that are there."""
        found: dict[int, tuple[str, str]] = {}
        wanted = sorted(delivery_ids)
        for start in range(0, len(wanted), 500):
            chunk = wanted[start : start + 500]
            places = ", ".join("?" * len(chunk))
            sql = f"SELECT id, platform, route FROM delivery WHERE id IN ({places})"  # noqa: S608 (places)
            found |= {row["id"]: (row["platform"], row["route"]) for row in self._database.query(sql, chunk)}
        return found

    def remove(self, delivery_ids: Sequence[int]) -> int:
        """Remove these deliveries, whatever their age; how many. Repeats: harmless.

        They are overwritten with zeros on disk, and SQLite's log is emptied if nobody is reading it.
        """
        with self._database.transaction() as database:
            places = ", ".join("?" * len(delivery_ids))
            number = database.execute(f"DELETE FROM delivery WHERE id IN ({places})", list(delivery_ids))  # noqa: S608
        self._database.empty_log()
        return number

    def log_bytes(self) -> int:
        """The size of SQLite's write-ahead log, which cannot shrink while somebody reads an old state; 0 without."""
        try:
            return self._log_path.stat().st_size
        except FileNotFoundError:
            return 0

    def count(self) -> int:
        """How many deliveries are kept, of all routes."""
        row = self._database.query_one("SELECT COUNT(*) AS n FROM delivery")
        return int(row["n"]) if row else 0

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def _delivery(self, row: Row) -> Delivery:
        return Delivery(
            row["id"],
            row["platform"],
            row["route"],
            _moment(row["received_at"]),
            self._codec.decrypt_json(row["headers"]),
            self._codec.decrypt(row["body"]),
        )


def _text(moment: datetime) -> str:
    """As `_TIME_FORMAT`, at a tenth of what strftime costs."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def _moment(text: str) -> datetime:
    return datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
