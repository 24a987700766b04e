"""Records and raw payloads that could not be understood or written: kept with the reason, replayed after a fix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stores.database import Row, Stores

PASSING = ("CredentialsError", "RateLimitedError", "UnavailableError")
"""Errors that may be gone another time, without a change of ours."""
RETRIES = 6


@dataclass(frozen=True, slots=True)
class ParkedItem:
    """One parked thing. `payload` is the JSON value that was parked (raw bytes come as ``{"base64": ...}``)."""

    parked_id: int
    part: str
    stream: str
    error: str
    reason: str
    raw_ref: str | None
    status: str
    tries: int
    parked_at: str
    replay_sequence: int | None
    payload: Any


class Parked:
    """The parked store. Status: ``parked`` -> ``replay`` (asked for) -> ``replayed``; or ``dropped``."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._database = stores.database("parked")

    def park(
        self, part: str, stream: str, key: str, error: Exception, payload: Any, raw_ref: str | None = None
    ) -> None:
        """Park `payload` of `part` (``tap-whatsapp``); the same `key` again counts one more try and keeps one row."""
        now = datetime.now(UTC).isoformat()
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO parked (part, stream, fingerprint, error, reason, raw_ref, payload, status, tries,"
                " parked_at, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'parked', 1, ?, ?)"
                " ON CONFLICT (part, stream, fingerprint) DO UPDATE SET error = excluded.error,"
                " reason = excluded.reason, payload = excluded.payload, status = 'parked', tries = parked.tries + 1,"
                " changed_at = excluded.changed_at",
                (
                    part, stream, self._stores.codec.fingerprint(key), type(error).__name__, str(error), raw_ref,
                    self._stores.codec.encrypt_json(payload), now, now,
                ),
            )  # fmt: skip

    def ask_replay(self, parked_ids: list[int]) -> int:
        """Mark rows to be taken up by the next run of their part; the number of rows marked."""
        now = datetime.now(UTC).isoformat()
        marked = 0
        with self._database.transaction() as database:
            for parked_id in sorted(parked_ids):
                marked += database.execute(
                    "UPDATE parked SET status = 'replay', changed_at = ?, replay_sequence ="
                    " (SELECT COALESCE(MAX(replay_sequence), 0) + 1 FROM parked) WHERE id = ?"
                    " AND status IN ('parked', 'replayed')",
                    (now, parked_id),
                )
        return marked

    def ask_retry(self, part: str, stream: str, now: datetime) -> int:
        """Ask for the replay of what a passing trouble kept out; the number of rows marked.

        Each row `RETRIES` times at most, after 4, 16, 64 ... minutes: within four days, then a person must ask.
        """
        rows = self._database.query(
            "SELECT id, tries, changed_at FROM parked WHERE part = ? AND stream = ? AND status = 'parked'"  # noqa: S608
            f" AND tries <= ? AND error IN ({', '.join('?' * len(PASSING))}) ORDER BY id",
            (part, stream, RETRIES, *PASSING),
        )
        return self.ask_replay(
            [
                row["id"]
                for row in rows
                if datetime.fromisoformat(row["changed_at"]) + timedelta(minutes=4 ** row["tries"]) <= now
            ]
        )

    def drop(self, parked_ids: list[int]) -> int:
        """Give rows up for good; the number of rows dropped."""
        now = datetime.now(UTC).isoformat()
        with self._database.transaction() as database:
            return sum(
                database.execute("UPDATE parked SET status = 'dropped', changed_at = ? WHERE id = ?", (now, parked_id))
                for parked_id in parked_ids
            )

    def to_replay(self, part: str, *, after_sequence: int = 0, stream: str | None = None) -> Iterator[ParkedItem]:
        """Rows of `part` whose replay was asked for, in the order of asking."""
        sql = "SELECT * FROM parked WHERE part = ? AND status = 'replay' AND replay_sequence > ?"
        parameters: list[Any] = [part, after_sequence]
        if stream is not None:
            sql += " AND stream = ?"
            parameters.append(stream)
        for row in self._database.query(f"{sql} ORDER BY replay_sequence", parameters):
            yield self._item(row)

    def mark_replayed(self, parked_ids: list[int]) -> None:
        """Say that rows went through; one that failed again has been parked again and stays so."""
        now = datetime.now(UTC).isoformat()
        with self._database.transaction() as database:
            database.execute_many(
                "UPDATE parked SET status = 'replayed', changed_at = ? WHERE id = ? AND status = 'replay'",
                [(now, parked_id) for parked_id in parked_ids],
            )

    def list(self, status: str | None = "parked", limit: int = 200) -> list[ParkedItem]:
        """The newest rows of that status (``None``: of any)."""
        where, parameters = ("WHERE status = ?", [status]) if status else ("", [])
        rows = self._database.query(f"SELECT * FROM parked {where} ORDER BY id DESC LIMIT ?", [*parameters, limit])  # noqa: S608
        return [self._item(row) for row in rows]

    def count(self, status: str = "parked") -> int:
        """How many rows have that status."""
        row = self._database.query_one("SELECT COUNT(*) AS n FROM parked WHERE status = ?", (status,))
        return int(row["n"]) if row else 0

    def _item(self, row: Row) -> ParkedItem:
        return ParkedItem(
            row["id"], row["part"], row["stream"], row["error"], row["reason"], row["raw_ref"], row["status"],
            row["tries"], row["parked_at"], row["replay_sequence"], self._stores.codec.decrypt_json(row["payload"]),
        )  # fmt: skip
