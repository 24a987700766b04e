"""What was erased and must not come back: keyed fingerprints with times, and nothing else.

An erased person leaves the fingerprints of their handles, each with the time in which it was theirs (a number may have
had another owner before and have one since), of their messages, conversations and replies, and of their own ids. A
record of that time that comes again (a replay, a late retry, an old backup, an import) is left out on its way in; a
later message by the same handle is somebody new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from mappings.records import (
    Consent,
    Contact,
    Evidence,
    Handle,
    Message,
    MessageChange,
    Receipt,
    Record,
    Reply,
)
from stores.codec import Codec
from stores.database import Database, Stores
from stores.graph.nodes import chunks, time_number

EVER = 2**62
"""Before all and, negative, after all times: microseconds."""

AnyRecord = TypeVar("AnyRecord", bound=Record)


class Tombstone(NamedTuple):
    """What `fingerprint` stands for is erased where its time is in ``since <= time < until`` (microseconds)."""

    fingerprint: str
    since: int
    until: int


class Tombstones:
    """The tombstones of one state; in the store of the graph."""

    def __init__(self, database: Database, codec: Codec) -> None:
        self._database = database
        self._codec = codec

    @classmethod
    def of(cls, stores: Stores) -> Tombstones:
        """Those behind `stores`."""
        return cls(stores.database("graph"), stores.codec)

    def exist(self) -> bool:
        """Whether anything was ever erased."""
        return self._database.query_one("SELECT 1 FROM tombstone LIMIT 1") is not None

    def add(self, tombstones: Iterable[Tombstone], erased_at: int) -> None:
        """Keep these. Repeats: harmless; of two for the same time the longer counts."""
        self._database.execute_many(
            "INSERT INTO tombstone (fingerprint, since, until, erased_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (fingerprint, since) DO UPDATE SET erased_at = excluded.erased_at,"
            " until = CASE WHEN excluded.until > tombstone.until THEN excluded.until ELSE tombstone.until END",
            [(*one, erased_at) for one in sorted(set(tombstones))],
        )

    def forget(self, before: int) -> int:
        """Drop those of erasures before that time; how many."""
        return self._database.execute("DELETE FROM tombstone WHERE erased_at < ?", (before,))

    def among(self, keys: Iterable[str]) -> Set[str]:
        """Those of the keys of handles and messages of which anything was erased, at any time."""
        return self._erased(set(keys)).keys()

    def without_erased(self, records: Sequence[AnyRecord]) -> list[AnyRecord | None]:
        """Each record without what was erased, ``None`` for one of which nothing is left.

        A record is its first handle's. Of one whose first handle lives only the other handles go that were erased.
        """
        if not records or not self.exist():
            return list(records)
        erased = self._erased({key for record in records for key in _keys_in(record)})
        if not erased:
            return list(records)
        return [_left_of(record, erased) for record in records]

    def _erased(self, keys: Iterable[str]) -> dict[str, list[tuple[int, int]]]:
        by_print = {self._codec.fingerprint(key): key for key in keys}
        found: dict[str, list[tuple[int, int]]] = {}
        for chunk in chunks(sorted(by_print)):
            marks = ", ".join("?" for _ in chunk)
            rows = self._database.query(
                f"SELECT fingerprint, since, until FROM tombstone WHERE fingerprint IN ({marks})",  # noqa: S608
                chunk,
            )
            for row in rows:
                found.setdefault(by_print[row["fingerprint"]], []).append((row["since"], row["until"]))
        return found


def person_key(person_id: str) -> str:
    """Under which text a person's id has its tombstone."""
    return f"person|{person_id}"


def _keys_in(record: Record) -> Iterable[str]:
    if isinstance(record, Receipt):
        return filter(None, (record.subject_key, record.reply_key))
    keys = [handle.key for handle in _handles_in(record)]
    if isinstance(record, (Message, MessageChange)):
        keys.append(record.message_key)
    if isinstance(record, Reply):
        keys += [record.reply_key, *filter(None, [record.conversation_key])]
        keys += [person_key(one) for one in (record.identity_key, record.person_id) if one]
    return keys


def _handles_in(record: Record) -> Sequence[Handle]:
    if isinstance(record, Consent):
        return [record.handle]
    return list(getattr(record, "handles", ()))


def _left_of(record: AnyRecord, erased: Mapping[str, Sequence[tuple[int, int]]]) -> AnyRecord | None:
    def gone(key: str | None, moment: datetime) -> bool:
        return any(since <= time_number(moment) < until for since, until in erased.get(key or "", ()))

    match record:
        case Receipt():
            moment = record.occurred_at
            return None if gone(record.subject_key, moment) or gone(record.reply_key, moment) else record
        case Message():
            moment, dead = record.sent_at, gone(record.message_key, record.sent_at)
        case MessageChange():
            moment, dead = record.changed_at, gone(record.message_key, record.changed_at)
        case Consent():
            return None if gone(record.handle.key, record.decided_at) else record
        case Contact():
            # Whatever its time: clearing our properties there was a change too, and the contact comes again with it.
            moment, dead = record.modified_at, record.handles[0].key in erased if record.handles else False
        case Reply():
            moment = record.written_at
            persons = [person_key(one) for one in (record.identity_key, record.person_id) if one]
            dead = any(gone(key, moment) for key in (record.reply_key, record.conversation_key, *persons))
        case Evidence():
            moment, dead = record.observed_at, False
        case _:
            return record
    handles = _handles_in(record)
    left = [handle for handle in handles if not gone(handle.key, moment)]
    of_its_own = handles[:1] == left[:1] or isinstance(record, Evidence)
    if dead or not of_its_own:
        return None
    if len(left) == len(handles):
        return record
    if isinstance(record, Evidence) and len(left) < 2:
        return None  # it said only what two were to each other
    update: dict[str, Any] = {"handles": left}
    return record.model_copy(update=update)
