"""Which events of a platform were seen before: platforms repeat a delivery for up to seven days.

An event belongs to the first delivery that brought it. Another delivery with the same event is a repeat; the *same*
delivery read again is not, because then a run ended before its target had taken everything, and all of it is wanted
again. Polling works the same way with the number of its pass in place of the delivery.

Only fingerprints of the events' keys are kept, so this is no list of customers, and they are kept longer than the
deliveries themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from stores.database import Database, Stores

KEEP = timedelta(days=30)
"""How long at least: Meta repeats a delivery for seven days (documented), and a captured one must not work later."""

_CHUNK = 500
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


class Sighting(NamedTuple):
    """One event as it was seen.

    Attributes:
        key: unique for the event within its platform: route, account and the event's own key.
        kind: in the words of the platform's webhook module; ``ignored:...`` for one that gave no record,
            ``history:...`` for one that was polled where no webhook has ever come (it is not counted as missed).
        ref: where it stands, e.g. ``delivery:17#3``.
        source: the delivery's id, or the number of the polling pass.
        platform_time: when it happened.
    """

    key: str
    kind: str
    ref: str
    source: int
    platform_time: datetime | None = None


class Items:
    """The events of one state folder."""

    def __init__(self, stores: Stores) -> None:
        self._fingerprint = stores.codec.fingerprint
        self._database = stores.database("items")

    def claim(self, platform: str, sightings: Sequence[Sighting]) -> list[bool]:
        """Record what deliveries brought, in order; for each, whether it belongs to its delivery (else: a repeat).

        Of two in one delivery the first counts. Repeats: the same call gives the same answer.
        """
        prints = [self._fingerprint(f"{platform}|{one.key}") for one in sightings]
        with self._database.transaction() as database:
            owners = self._owners(database, prints)
            new: dict[str, Sighting] = {}
            late: dict[str, int] = {}
            answers: list[bool] = []
            taken: set[str] = set()
            for fingerprint, one in zip(prints, sightings, strict=True):
                if fingerprint not in owners:
                    new[fingerprint] = one
                    owners[fingerprint] = one.source
                elif owners[fingerprint] is None:  # polling found it before the webhook came
                    late[fingerprint] = one.source
                    owners[fingerprint] = one.source
                answers.append(owners[fingerprint] == one.source and fingerprint not in taken)
                taken.add(fingerprint)
            self._insert(database, platform, "webhook", new.items())
            database.execute_many(
                "UPDATE item SET delivery_id = ? WHERE fingerprint = ?",
                [(delivery_id, fingerprint) for fingerprint, delivery_id in late.items()],
            )
        return answers

    def claim_polled(self, platform: str, sightings: Sequence[Sighting]) -> list[bool]:
        """Record what a polling pass found; for each, whether no delivery and no earlier pass had it."""
        prints = [self._fingerprint(f"{platform}|{one.key}") for one in sightings]
        with self._database.transaction() as database:
            known = self._poll_state(database, prints)
            new = {
                fingerprint: one for fingerprint, one in zip(prints, sightings, strict=True) if fingerprint not in known
            }
            self._insert(database, platform, "poll", new.items())
        return [
            fingerprint in new or known[fingerprint] >= one.source
            for fingerprint, one in zip(prints, sightings, strict=True)
        ]

    def missed(self, platform: str | None = None) -> dict[str, int]:
        """How many events only polling has seen, by platform: what the webhook missed."""
        where, parameters = (" AND platform = ?", [platform]) if platform else ("", [])
        rows = self._database.query(
            "SELECT platform, COUNT(*) AS n FROM item WHERE delivery_id IS NULL AND kind <> 'profile'"  # noqa: S608
            f" AND kind NOT LIKE 'history:%'{where}"
            " GROUP BY platform",
            parameters,
        )
        return {row["platform"]: row["n"] for row in rows}

    def counts(self, platform: str) -> dict[str, int]:
        """How many events of each kind were seen, each once; kinds ``ignored:...`` gave no record."""
        rows = self._database.query(
            "SELECT kind, COUNT(*) AS n FROM item WHERE platform = ? GROUP BY kind ORDER BY kind", (platform,)
        )
        return {row["kind"]: row["n"] for row in rows}

    def forget(self, now: datetime, keep: timedelta = KEEP) -> int:
        """Drop what was recorded longer than `keep` ago; the number of rows dropped. Repeats are harmless."""
        with self._database.transaction() as database:
            return database.execute("DELETE FROM item WHERE recorded_at < ?", (_text(now - keep),))

    @staticmethod
    def _owners(database: Database, prints: Sequence[str]) -> dict[str, int | None]:
        """The delivery of each event that is known; ``None``: only polling has seen it."""
        found: dict[str, int | None] = {}
        for chunk in _chunks(prints):
            marks = ", ".join("?" * len(chunk))
            rows = database.query(f"SELECT fingerprint, delivery_id FROM item WHERE fingerprint IN ({marks})", chunk)  # noqa: S608
            found |= {row["fingerprint"]: row["delivery_id"] for row in rows}
        return found

    @staticmethod
    def _poll_state(database: Database, prints: Sequence[str]) -> dict[str, int]:
        """The pass of each event that only polling has seen; -1 for one that a delivery brought."""
        found: dict[str, int] = {}
        for chunk in _chunks(prints):
            marks = ", ".join("?" * len(chunk))
            rows = database.query(
                f"SELECT fingerprint, delivery_id, poll_pass FROM item WHERE fingerprint IN ({marks})",  # noqa: S608
                chunk,
            )
            found |= {row["fingerprint"]: -1 if row["delivery_id"] is not None else row["poll_pass"] for row in rows}
        return found

    @staticmethod
    def _insert(database: Database, platform: str, seen_by: str, rows: Iterable[tuple[str, Sighting]]) -> None:
        now = _text(datetime.now(UTC))
        database.execute_many(
            "INSERT INTO item (fingerprint, platform, kind, first_ref, first_seen_by, platform_time, delivery_id,"
            " poll_pass, recorded_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    fingerprint, platform, one.kind, one.ref, seen_by,
                    _text(one.platform_time) if one.platform_time else None,
                    one.source if seen_by == "webhook" else None, one.source if seen_by == "poll" else None, now,
                )
                for fingerprint, one in rows
            ],
        )  # fmt: skip


def _chunks(prints: Sequence[str]) -> Iterable[Sequence[str]]:
    return (prints[start : start + _CHUNK] for start in range(0, len(prints), _CHUNK))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_TIME_FORMAT)
