"""Which raw deliveries must go before their time, because they hold what an erased person wrote.

The receiver alone writes the deliveries, so it is asked to remove them: it looks here once a minute. While none runs,
whoever erases does it in its place. A delivery with others' events too goes as a whole, once every tap that reads its
route has read it: what it brought is in the archive then, and nothing of it is ever written again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from stores.database import Stores
from stores.deliveries import Deliveries
from stores.graph.nodes import chunks


class Removals:
    """The deliveries that were asked to be removed; in the store of the taps."""

    def __init__(self, stores: Stores, *, read_only: bool = False) -> None:
        self._database = stores.open("items", read_only=True) if read_only else stores.database("items")

    def ask(self, delivery_ids: Mapping[int, bool]) -> None:
        """Ask for these: id -> whether nothing else is in it. Repeats: harmless."""
        now = datetime.now(UTC).isoformat()
        with self._database.transaction() as database:
            database.execute_many(
                "INSERT INTO removal (delivery_id, alone, asked_at) VALUES (?, ?, ?)"
                " ON CONFLICT (delivery_id) DO UPDATE SET alone = excluded.alone WHERE excluded.alone > removal.alone",
                [(number, int(alone), now) for number, alone in sorted(delivery_ids.items())],
            )

    def asked(self) -> dict[int, bool]:
        """What was asked for: id -> whether nothing else is in it."""
        rows = self._database.query("SELECT delivery_id, alone FROM removal ORDER BY delivery_id")
        return {row["delivery_id"]: bool(row["alone"]) for row in rows}

    def forget(self, delivery_ids: Iterable[int]) -> None:
        """These are gone."""
        with self._database.transaction() as database:
            database.execute_many(
                "DELETE FROM removal WHERE delivery_id = ?", [(number,) for number in sorted(delivery_ids)]
            )

    def alone(self, delivery_ids: Iterable[int], refs: Iterable[str]) -> dict[int, bool]:
        """Of these deliveries, whether all events in them that a tap has seen (one, at least) are among `refs`."""
        known = set(refs)
        seen: dict[int, list[str]] = {}
        for chunk in chunks(sorted(delivery_ids)):
            places = ", ".join("?" for _ in chunk)
            sql = f"SELECT delivery_id, first_ref FROM item WHERE delivery_id IN ({places})"  # noqa: S608
            for row in self._database.query(sql, chunk):
                seen.setdefault(row["delivery_id"], []).append(row["first_ref"])
        return {number: bool(seen.get(number)) and known.issuperset(seen[number]) for number in delivery_ids}

    def close(self) -> None:
        """Close a connection that was opened for reading."""
        self._database.close()


def ask_removal(stores: Stores, refs: Iterable[str]) -> None:
    """Ask for the deliveries that these references name, when all taps have read them."""
    found = (re.match(r"delivery:(\d+)(?:#|$)", ref) for ref in refs)
    numbers = {int(one[1]): False for one in found if one}
    if numbers:
        Removals(stores).ask(numbers)


def due(asked: Mapping[int, bool], deliveries: Deliveries, read_up_to: Mapping[tuple[str, str], int]) -> list[int]:
    """Those of the asked deliveries that are there and may go now.

    Args:
        asked: see `Removals.asked`.
        deliveries: where they are.
        read_up_to: (platform, route) -> up to which delivery every tap has read it.
    """
    return [
        number
        for number, route in deliveries.routes_of(asked).items()
        if asked[number] or number <= read_up_to.get(route, 0)
    ]
