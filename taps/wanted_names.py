"""Whose names a tap still has to ask its platform for, from one run to the next.

A webhook does not say the writer's name, and asking can fail for days: a limit, an outage, a permission that is granted
later. So who was not told yet stays in the bookmark, encrypted because it names people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from mappings.errors import SettingsError
from mappings.records import Record
from stores.codec import Codec
from taps.base import Checkpoint

_MOST = 1_000
"""People who are remembered; who waits longest is forgotten first, and asked for when they write again."""
_TRIES = 5
_AGAIN = timedelta(days=1)
_NEW: tuple[int, str] = (0, "")


class WantedNames:
    """People whose names are wanted, by their id: how often they were refused, and when to ask again."""

    def __init__(self, cursor: Mapping[str, Any], codec: Codec) -> None:
        self._codec = codec
        self._wanted: dict[str, tuple[int, str]] = {}
        self._changed = False
        if cursor.get("names"):
            try:
                kept = codec.decrypt_json(bytes.fromhex(cursor["names"]))
            except SettingsError:  # another key file: they are asked for when they write again
                return
            self._wanted = {user: (refused, again_at) for user, (refused, again_at) in kept.items()}

    def kept_with(self, found: Iterable[Record | Checkpoint]) -> Iterator[Record | Checkpoint]:
        """`found`, whose checkpoints say who is still wanted."""
        for one in found:
            if isinstance(one, Checkpoint) and self._changed:
                yield Checkpoint({**one.cursor, **self.save()}, heartbeat=one.heartbeat)
            else:
                yield one

    def save(self) -> dict[str, Any]:
        """What goes into the bookmark."""
        self._changed = False
        return {"names": self._codec.encrypt_json(self._wanted).hex() if self._wanted else None}

    def add(self, user: str) -> None:
        """Somebody wrote; whether the name was told before is asked later (`is_new`)."""
        if user not in self._wanted:
            self._put(user, _NEW)
            while len(self._wanted) > _MOST:
                self.told(next(iter(self._wanted)))

    def due(self, now: datetime) -> list[str]:
        """Who may be asked for now, who waits longest first."""
        return [user for user, (_, again_at) in self._wanted.items() if again_at <= now.isoformat()]

    def is_new(self, user: str) -> bool:
        """Whether nothing is known yet: the name may have been told in an earlier run."""
        return self._wanted[user] == _NEW

    def wait(self, user: str, now: datetime) -> None:
        """The name is wanted, and may be asked for at once."""
        self._put(user, (self._wanted[user][0], now.isoformat()))

    def told(self, user: str) -> None:
        """Nothing is to be asked any more."""
        del self._wanted[user]
        self._changed = True

    def refused(self, users: Sequence[str], now: datetime, *, for_themselves: bool) -> None:
        """Ask again tomorrow; who was refused for themselves several times (they blocked us) is given up."""
        for user in users:
            count = self._wanted.pop(user)[0] + for_themselves
            if count < _TRIES:
                self._put(user, (count, (now + _AGAIN).isoformat()))
            self._changed = True

    def _put(self, user: str, value: tuple[int, str]) -> None:
        self._wanted[user] = value
        self._changed = True
