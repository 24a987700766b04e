"""Shared pauses of rate-limited accounts, and facts that set-up found out."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from stores.database import Stores


class Pauses:
    """Until when an account must not be called, shared by every process that calls it."""

    def __init__(self, stores: Stores) -> None:
        self._database = stores.database("control")

    def pause(self, account: str, seconds: float) -> None:
        """Nobody calls `account` (``hubspot:<portal>``) for that many seconds; a longer pause stays."""
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO pause (account, until_epoch) VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET"
                " until_epoch = CASE WHEN excluded.until_epoch > pause.until_epoch"
                " THEN excluded.until_epoch ELSE pause.until_epoch END",
                (account, time.time() + seconds),
            )

    def seconds_left(self, account: str) -> float:
        """How long `account` is still paused; 0 when it is not."""
        row = self._database.query_one("SELECT until_epoch FROM pause WHERE account = ?", (account,))
        return max(0.0, row["until_epoch"] - time.time()) if row else 0.0


class Facts:
    """What set-up found out about an account, e.g. whether it takes a unique property on communications."""

    def __init__(self, stores: Stores) -> None:
        self._database = stores.database("control")

    def load(self, name: str) -> Any:
        """The fact saved under `name`, or ``None``."""
        row = self._database.query_one("SELECT value FROM fact WHERE name = ?", (name,))
        return json.loads(row["value"]) if row else None

    def save(self, name: str, value: Any) -> None:
        """Keep `value` (JSON, nothing personal or secret) under `name`."""
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO fact (name, value, changed_at) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at",
                (name, json.dumps(value), datetime.now(UTC).isoformat()),
            )
