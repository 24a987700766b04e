"""One write transaction of the archive: numbers for what really changed, and what has to be derived again."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from mappings.records import ArchivedMessage, Handle
from stores.codec import Codec
from stores.database import Database, Row
from stores.graph import Graph

_CHUNK = 500
_HANDLE_MARKS = 100_000


@dataclass(slots=True)
class Seen:
    """A handle met in this transaction; `stamps` are the person ids that map-identity put on records it headed."""

    handle: Handle
    stamps: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)


class Writing:
    """What the parts of one fold share.

    Attributes:
        conversations: marks of those to derive again.
        persons: ids of those to derive again.
        renewed: of these, the persons whose handles or name may have changed in the graph.
        deciders: marks of handles whose consents changed: their persons are derived again as well.
        handles: every handle met, by mark.
        folded: the messages written so far, by mark.
        refold: marks of messages that must be folded again though nothing new came.
        parts: rows of `conversation_part` met, by mark.
        has_cuts: whether any handle ever changed hands.
        written: how many rows of each table got a new number.
    """

    def __init__(self, database: Database, codec: Codec, graph: Graph, handle_marks: dict[Handle, str]) -> None:
        self.database = database
        self.codec = codec
        self.graph = graph
        self.conversations: set[str] = set()
        self.persons: set[str] = set()
        self.renewed: set[str] = set()
        self.deciders: set[str] = set()
        self.handles: dict[str, Seen] = {}
        self.folded: dict[str, ArchivedMessage] = {}
        self.refold: set[str] = set()
        self.parts: dict[str, dict[str, Any]] = {}
        self.written: dict[str, int] = {}
        self._cuts: dict[str, list[str]] = {}
        self.has_cuts = False
        self.note_cuts()
        self._handle_marks = handle_marks
        self._sequence = self._first = counter(database, "sequence")

    def mark(self, text: str) -> str:
        """The fingerprint of a key: the only form in which it is indexed."""
        return self.codec.fingerprint(text)

    def handle_mark(self, handle: Handle) -> str:
        """The fingerprint of a handle's key; the same few handles come again and again."""
        known = self._handle_marks.get(handle)
        if known is None:
            if len(self._handle_marks) >= _HANDLE_MARKS:
                self._handle_marks.clear()
            known = self._handle_marks[handle] = self.codec.fingerprint(handle.key)
        return known

    def note_cuts(self) -> None:
        """Look again whether any handle changed hands."""
        self._cuts.clear()
        self.has_cuts = self.database.query_one("SELECT 1 FROM cut LIMIT 1") is not None

    def cuts_of(self, handle: Handle) -> Sequence[str]:
        """When that handle changed hands, earliest first."""
        if not self.has_cuts:
            return ()
        mark = self.handle_mark(handle)
        if mark not in self._cuts:
            rows = self.database.query("SELECT since FROM cut WHERE handle_mark = ? ORDER BY since", (mark,))
            self._cuts[mark] = [row["since"] for row in rows]
        return self._cuts[mark]

    def content_mark(self, record: Mapping[str, Any], *, with_person: bool = False) -> str:
        """The fingerprint of an exported record: two records with one mark say the same.

        Whose a message is does not count: a merge is told by its own record, not by every message again.
        """
        if "person_id" in record and not with_person:
            record = {**record, "person_id": None}
        return self.codec.fingerprint(encode(record))

    def seal(self, value: Any) -> bytes:
        """A JSON value, encrypted."""
        return self.codec.encrypt(encode(value))

    def unseal(self, body: bytes) -> Any:
        """The JSON value that `seal` was given."""
        return unseal(self.codec, body)

    def number(self, table: str) -> int:
        """The next number of the change sequence, for a row of `table`."""
        self._sequence += 1
        self.written[table] = self.written.get(table, 0) + 1
        return self._sequence

    def meet(self, handles: Sequence[Handle], stamp: str | None, name: str | None = None) -> str | None:
        """Remember the handles of a record; the mark of the first.

        Args:
            handles: the first is whose record it is.
            stamp: the record's `person_id`.
            name: what the first is called.
        """
        head = None
        for handle in handles:
            mark = self.handle_mark(handle)
            seen = self.handles.setdefault(mark, Seen(handle))
            if head is None:
                head = mark
                if stamp:
                    seen.stamps.add(stamp)
                if name:
                    seen.words.update(name_words(name))
        return head

    def select(self, sql: str, keys: Iterable[str], parameters: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows of `sql` for all `keys`, which stand in it as ``IN [keys]``, behind the other parameters."""
        return select_in(self.database, sql, keys, parameters)

    def upsert(self, table: str, rows: Sequence[Mapping[str, Any]], keys: int = 1) -> None:
        """Insert or replace rows of `table`, all with the same columns, of which the first `keys` are its key."""
        if not rows:
            return
        columns = list(rows[0])
        changed = ", ".join(f"{column} = excluded.{column}" for column in columns[keys:])
        sql = (
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)})"  # noqa: S608
            f" ON CONFLICT ({', '.join(columns[:keys])}) DO {f'UPDATE SET {changed}' if changed else 'NOTHING'}"
        )
        ordered = sorted((tuple(row.values()) for row in rows), key=lambda values: values[:keys])
        self.database.execute_many(sql, ordered)

    def close(self) -> None:
        """Keep the last number that was given out."""
        if self._sequence != self._first:
            save_counter(self.database, "sequence", self._sequence)


def select_in(database: Database, sql: str, keys: Iterable[str], parameters: Sequence[Any] = ()) -> Iterator[Row]:
    """The rows of `sql` for all `keys` (``IN [keys]``), asked for in pieces, keys in order."""
    ordered = sorted(set(keys))
    for start in range(0, len(ordered), _CHUNK):
        chunk = ordered[start : start + _CHUNK]
        places = f"({', '.join('?' for _ in chunk)})"
        yield from database.query(sql.replace("[keys]", places), [*parameters, *chunk])


def counter(database: Database, name: str) -> int:
    """The value of a counter; 0 before it was first saved."""
    row = database.query_one("SELECT value FROM counter WHERE name = ?", (name,))
    return int(row["value"]) if row else 0


def save_counter(database: Database, name: str, value: int) -> None:
    """Keep the value of a counter."""
    database.execute(
        "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def encode(value: Any) -> bytes:
    """A JSON value as text that does not depend on the order of its keys."""
    try:
        return msgspec.json.encode(value, order="deterministic")
    except UnicodeEncodeError:  # half a surrogate pair, which no UTF-8 can say
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def unseal(codec: Codec, body: bytes) -> Any:
    """The JSON value of an encrypted body."""
    return msgspec.json.decode(codec.decrypt(body))


def time_text(moment: datetime) -> str:
    """An aware moment as text whose order is the order in time."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def name_words(name: str) -> set[str]:
    """The words of a name as it is searched: case and accents do not matter."""
    plain = "".join(
        character
        for character in unicodedata.normalize("NFKD", name.casefold())
        if not unicodedata.combining(character)
    )
    return {word for word in "".join(c if c.isalnum() else " " for c in plain).split() if word}
