"""The archive: every message, change, receipt, consent and contact, and the conversations and persons that follow.

It is the hub. `Archive.fold` takes records in any order and any number of times and ends in the same state; whatever
thereby really changes gets the next number of one change sequence, by which `Archive.changes` tells any number of
readers what they have not seen yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from mappings.contact_points import normalize_email, normalize_phone
from mappings.records import (
    ArchivedMessage,
    Consent,
    Contact,
    Conversation,
    Handle,
    Message,
    MessageChange,
    Person,
    PersonChange,
    Receipt,
    Record,
)
from stores.archive.contacts import save_consents, save_contacts
from stores.archive.conversations import refresh_conversations
from stores.archive.erasing import ArchiveReader, Known, Theirs, erase_from_archive
from stores.archive.mail_threads import thread_now
from stores.archive.messages import fold_messages, message_record, read_message
from stores.archive.persons import follow_graph, is_behind, learn_handles, refresh_persons
from stores.archive.writing import Writing, counter, name_words, select_in, unseal
from stores.database import Row, Stores
from stores.graph import Graph
from stores.graph.erasing import Subject
from stores.graph.tombstones import AnyRecord
from stores.removals import ask_removal

EXPORTED: tuple[type[Record], ...] = (
    Person,
    PersonChange,
    Conversation,
    ArchivedMessage,
    MessageChange,
    Receipt,
    Consent,
    Contact,
)
"""What the archive tells, in the order in which a reader needs it: who before what, what before what became of it."""

_SELECTS: Mapping[str, str] = {
    "persons": "SELECT x.* FROM person x",
    "person_changes": "SELECT x.* FROM person_change x",
    "conversations": "SELECT x.* FROM conversation x",
    "messages": "SELECT x.*, h.person_id AS owner FROM message x LEFT JOIN handle h ON h.handle_mark = x.head_mark",
    "message_changes": "SELECT x.*, COALESCE(h.person_id, o.person_id) AS owner, COALESCE(c.body, t.body) AS thread"
    " FROM message_change x LEFT JOIN message m ON m.message_mark = x.message_mark"
    " LEFT JOIN mail_thread t ON t.conversation_mark = m.conversation_mark"
    " LEFT JOIN conversation_part c ON c.conversation_mark = m.conversation_mark"
    " LEFT JOIN handle h ON h.handle_mark = x.head_mark LEFT JOIN handle o ON o.handle_mark = m.head_mark",
    "receipts": "SELECT x.*, COALESCE(c.body, t.body) AS thread FROM receipt x"
    " LEFT JOIN message m ON m.message_mark = x.subject_mark"
    " LEFT JOIN mail_thread t ON t.conversation_mark = m.conversation_mark"
    " LEFT JOIN conversation_part c ON c.conversation_mark = m.conversation_mark",
    "consents": "SELECT x.*, h.person_id AS owner FROM consent x LEFT JOIN handle h ON h.handle_mark = x.head_mark",
    "contacts": "SELECT x.*, h.person_id AS owner FROM contact x LEFT JOIN handle h ON h.handle_mark = x.head_mark",
}


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One piece of the change sequence, as of one moment.

    Attributes:
        records: (stream, record) in an order in which nothing precedes what it needs.
        after: where the next piece starts, by stream.
        complete: whether there was no more at that moment.
    """

    records: list[tuple[str, dict[str, Any]]]
    after: dict[str, int]
    complete: bool


class Archive:
    """What was said, by whom, and what became of it. Writes are `fold`, `follow_graph` and `erase`; all else reads.

    Records come back with the person they belong to now, whatever was stamped on them.

    Attributes:
        left_out: how many records of erased persons came again and were not taken.
    """

    def __init__(self, stores: Stores, graph: Graph | None = None) -> None:
        self._codec = stores.codec
        self._database = stores.database("archive")
        self._graph = graph or Graph(stores)
        self._handle_marks: dict[Handle, str] = {}
        self._on_left_out = partial(ask_removal, stores)
        self.left_out = 0

    # Writing

    def fold(
        self,
        *,
        messages: Sequence[Message] = (),
        changes: Sequence[MessageChange] = (),
        receipts: Sequence[Receipt] = (),
        consents: Sequence[Consent] = (),
        contacts: Sequence[Contact] = (),
    ) -> dict[str, int]:
        """Take records in, all or none; how many exported records of each stream changed.

        Repeats: harmless, in any order; what is known already writes nothing.
        """
        with self._writing() as writing:
            follow_graph(writing)
            # Asked inside the transaction: what an erasure finds afterwards is all there is.
            fold_messages(writing, self._unerased(messages), self._unerased(changes), self._unerased(receipts))
            save_contacts(writing, self._unerased(contacts))
            save_consents(writing, self._unerased(consents))
        return writing.written

    def find_theirs(self, subject: Subject, known: Known) -> Theirs:
        """Everything that is a person's. What was being written when this was called is in it."""
        with self._database.transaction() as database:
            return ArchiveReader(database, self._codec).find(subject, known)

    def is_written_by(self, handle: Handle) -> bool:
        """Whether there is a conversation with that handle."""
        mark = self._codec.fingerprint(handle.key)
        sql = "SELECT 1 FROM conversation WHERE head_mark = ? AND message_count > 0"
        return self._database.query_one(sql, (mark,)) is not None

    def erase(self, subject: Subject, theirs: Theirs) -> dict[str, int]:
        """Delete what is theirs, all or none; how many rows of each kind. Repeats: harmless."""
        with self._writing() as writing:
            follow_graph(writing)
            counts = erase_from_archive(writing, subject, theirs)
            if writing.refold:
                fold_messages(writing, (), (), ())
        return counts

    def follow_graph(self) -> bool:
        """Bring persons up to date with the identity graph; whether there was anything to do."""
        if not is_behind(self._database, self._graph):
            return False
        with self._writing() as writing:
            follow_graph(writing)
            if writing.refold:
                fold_messages(writing, (), (), ())
        return bool(writing.written)

    # The change sequence

    def high_water(self) -> int:
        """The last number of the change sequence."""
        return counter(self._database, "sequence")

    def changes(
        self, stream: str, after_sequence: int = 0, up_to: int | None = None, limit: int = 1_000
    ) -> list[tuple[int, dict[str, Any]]]:
        """(sequence, record) of what changed in `stream` after that number, oldest change first, each record once.

        A conversation that was absorbed by another is told once more, empty, to a reader who may have seen it.
        """
        condition, parameters = "x.sequence > ?", [after_sequence]
        if up_to is not None:
            condition += " AND x.sequence <= ?"
            parameters.append(up_to)
        if stream == "conversations":
            condition += " AND (x.message_count > 0 OR x.first_sequence <= ?)"
            parameters.append(after_sequence)
        rows = self._database.query(
            f"{_SELECTS[stream]} WHERE {condition} ORDER BY x.sequence LIMIT ?",
            [*parameters, limit],
        )
        return [(row["sequence"], self._record(stream, row)) for row in rows]

    def count_changes(self, after: Mapping[str, int], streams: Sequence[str]) -> int:
        """How many records `changes_page` has to tell after that, roughly: absorbed conversations count as well."""
        count = 0
        for stream in streams:
            sql = f"SELECT COUNT(*) AS records FROM {stream.removesuffix('s')} WHERE sequence > ?"  # noqa: S608 (our names)
            row = self._database.query_one(sql, (after.get(stream, 0),))
            count += row["records"] if row else 0
        return count

    def changes_page(self, after: Mapping[str, int], streams: Sequence[str], limit: int = 1_000) -> ChangePage:
        """What changed in `streams` since `after`, at most `limit` records, all as of one moment.

        A stream begins only when those before it are told up to that moment. So a message never precedes its person,
        while other processes go on writing.
        """
        records: list[tuple[str, dict[str, Any]]] = []
        position = {stream: after.get(stream, 0) for stream in streams}
        with self._database.snapshot():
            now = self.high_water()
            for stream in streams:
                room = limit - len(records)
                found = self.changes(stream, position[stream], limit=room) if room else []
                records.extend((stream, record) for _, record in found)
                if len(found) == room:
                    if found:
                        position[stream] = found[-1][0]
                    return ChangePage(records, position, complete=False)
                position[stream] = now
        return ChangePage(records, position, complete=True)

    # Messages and conversations

    def message(self, message_key: str) -> ArchivedMessage | None:
        """One message with all that became of it."""
        row = self._database.query_one(
            f"{_SELECTS['messages']} WHERE x.message_mark = ?",
            (self._codec.fingerprint(message_key),),
        )
        return self._message(row) if row else None

    def thread(self, person_id: str, limit: int = 200) -> list[ArchivedMessage]:
        """The last `limit` messages with a person, over all channels, oldest first."""
        rows = self._database.query(
            f"{_SELECTS['messages']} WHERE x.conversation_mark IN"  # noqa: S608
            " (SELECT conversation_mark FROM conversation WHERE person_id = ?) ORDER BY x.sent_at DESC LIMIT ?",
            (self._graph.current(person_id), limit),
        )
        return sorted(map(self._message, rows), key=_told_order)

    def messages_of(self, conversation_key: str, limit: int = 200) -> list[ArchivedMessage]:
        """The last `limit` messages of one conversation, oldest first."""
        rows = self._database.query(
            f"{_SELECTS['messages']} WHERE x.conversation_mark = ? ORDER BY x.sent_at DESC LIMIT ?",
            (self._codec.fingerprint(conversation_key), limit),
        )
        return sorted(map(self._message, rows), key=_told_order)

    def changes_of(self, message_key: str) -> list[MessageChange]:
        """All changes of one message, oldest first: its versions, reactions, and its end."""
        rows = self._database.query(
            f"{_SELECTS['message_changes']} WHERE x.message_mark = ?",
            (self._codec.fingerprint(message_key),),
        )
        found = [MessageChange.model_validate(self._record("message_changes", row)) for row in rows]
        return sorted(found, key=lambda change: (change.changed_at, change.change_key))

    def conversation(self, conversation_key: str) -> Conversation | None:
        """One conversation; ``None`` for an unknown key and for one that another absorbed."""
        row = self._database.query_one(
            "SELECT * FROM conversation WHERE conversation_mark = ? AND message_count > 0",
            (self._codec.fingerprint(conversation_key),),
        )
        return Conversation.model_validate(self._record("conversations", row)) if row else None

    def conversation_now(self, conversation_key: str) -> Conversation | None:
        """The same; of a mail thread that another absorbed, the one that it is part of by now."""
        return self.conversation(thread_now(self._database, self._codec, conversation_key) or conversation_key)

    def conversations_of(self, person_id: str) -> list[Conversation]:
        """All conversations with a person, the last active first."""
        rows = self._database.query(
            "SELECT * FROM conversation WHERE person_id = ? AND message_count > 0"
            " ORDER BY last_at DESC, conversation_mark",
            (self._graph.current(person_id),),
        )
        return [Conversation.model_validate(self._record("conversations", row)) for row in rows]

    # Receipts, consents

    def receipts_for(self, subject_key: str) -> list[Receipt]:
        """What became of a message, a reply or a conversation, in the order in which it happened."""
        return self._receipts("x.subject_mark", self._codec.fingerprint(subject_key))

    def by_reply_token(self, token: str) -> tuple[str | None, list[Receipt]]:
        """The message that one of our replies became, if any was seen, and every receipt that speaks of it."""
        mark = self._codec.fingerprint(f"token|{token}")
        rows = self._database.query(f"{_SELECTS['messages']} WHERE x.token_mark = ?", (mark,))
        found = sorted(map(self._message, rows), key=_told_order)
        receipts = self._receipts("x.token_mark", mark)
        for message in found:
            receipts += self.receipts_for(message.message_key)
        unique = {(receipt.subject_key, receipt.status): receipt for receipt in receipts}
        return (found[0].message_key if found else None, sorted(unique.values(), key=_receipt_order))

    def consent(self, handle_key: str, channel: str, account: str, purpose: str) -> Consent | None:
        """What this handle last decided; ``None`` when it never said anything.

        What a former owner of the handle allowed is nothing that the present one said; a "no" stands.
        """
        row = self._database.query_one(
            f"{_SELECTS['consents']} WHERE x.consent_mark = ?",
            (self._consent_mark(handle_key, channel, account, purpose),),
        )
        if row is None:
            return None
        consent = Consent.model_validate(self._record("consents", row))
        is_former = row["head_mark"] != self._codec.fingerprint(handle_key)
        return None if is_former and consent.status == "opted_in" else consent

    # Persons

    def person(self, person_id: str) -> Person | None:
        """The golden record of a person; a merged person's id gives the survivor."""
        row = self._database.query_one(
            "SELECT * FROM person WHERE person_id IN (?, ?) ORDER BY CASE person_id WHEN ? THEN 0 ELSE 1 END LIMIT 1",
            (person_id, current := self._graph.current(person_id), current),
        )
        return Person.model_validate(self._record("persons", row)) if row else None

    def people(
        self, search: str | None = None, *, unanswered_first: bool = True, limit: int = 50, offset: int = 0
    ) -> list[Person]:
        """Persons, those who wait for an answer first (the longest first), then the last active.

        Args:
            search: an e-mail address, phone, handle or words of a name; see `find_person`.
        """
        order = "last_at IS NULL, last_at DESC, person_id"
        if unanswered_first:
            order = f"unanswered_since IS NULL, unanswered_since, {order}"
        if search is None or not search.strip():
            rows = self._database.query(
                f"SELECT * FROM person ORDER BY {order} LIMIT ? OFFSET ?",  # noqa: S608
                (limit, offset),
            )
        else:
            found = self.find_person(search)
            ordered = select_in(self._database, "SELECT * FROM person WHERE person_id IN [keys]", found)
            rows = sorted(ordered, key=lambda row: _people_order(row, unanswered_first=unanswered_first))
            rows = rows[offset : offset + limit]
        return [Person.model_validate(self._record("persons", row)) for row in rows]

    def find_person(self, text: str) -> list[str]:
        """The ids of the persons with this e-mail address, phone, platform id or name, sorted.

        A phone needs its country (``+44 7700 900123``, or only its digits). Every word of a name must match whole.
        """
        text = text.strip()
        values = {text, normalize_email(text), normalize_phone(text), normalize_phone(f"+{text}")} - {None, ""}
        marks = [self._codec.fingerprint(f"value|{value}") for value in values]
        found = {
            row["person_id"]
            for row in select_in(
                self._database,
                "SELECT person_id FROM handle WHERE person_id IS NOT NULL AND value_mark IN [keys]",
                marks,
            )
        }
        if found:
            return sorted(found)
        named: set[str] | None = None
        for word in sorted(name_words(text)):
            rows = self._database.query(
                "SELECT DISTINCT h.person_id FROM name_word w JOIN handle h ON h.handle_mark = w.handle_mark"
                " WHERE h.person_id IS NOT NULL AND w.word_mark = ?",
                (self._codec.fingerprint(f"word|{word}"),),
            )
            having = {row["person_id"] for row in rows}
            named = having if named is None else named & having
        return sorted(named or ())

    # Inside

    @contextmanager
    def _writing(self) -> Iterator[Writing]:
        """One write transaction, at whose end conversations and persons are what the rest says."""
        with self._database.transaction() as database:
            writing = Writing(database, self._codec, self._graph, self._handle_marks)
            yield writing
            learn_handles(writing)
            refresh_conversations(writing)
            refresh_persons(writing)
            writing.close()

    def _unerased(self, records: Sequence[AnyRecord]) -> list[AnyRecord]:
        """The records without what an erasure does not let in again; the raw bytes of that are to go too."""
        left = self._graph.tombstones.without_erased(records)
        kept = [record for record in left if record is not None]
        if len(kept) != len(records):
            self.left_out += len(records) - len(kept)
            gone = [record for record, one in zip(records, left, strict=True) if one is None]
            refs = {ref for record in gone if (ref := getattr(record, "raw_ref", None))}
            self._on_left_out(refs)
        return kept

    def _receipts(self, column: str, mark: str) -> list[Receipt]:
        rows = self._database.query(f"{_SELECTS['receipts']} WHERE {column} = ?", (mark,))
        found = [Receipt.model_validate(self._record("receipts", row)) for row in rows]
        return sorted(found, key=_receipt_order)

    def _message(self, row: Row) -> ArchivedMessage:
        return read_message(self._codec, row["body"], row["owner"])

    def _record(self, stream: str, row: Row) -> dict[str, Any]:
        """The record of a row as it is told."""
        if stream == "messages":
            return message_record(self._codec, row["body"], row["owner"])
        record: dict[str, Any] = unseal(self._codec, row["body"])
        if stream in {"message_changes", "consents", "contacts"}:
            record["person_id"] = row["owner"]
        if stream == "contacts":
            record["deleted"] = record["deleted"] or bool(row["merged"])
        if stream in {"message_changes", "receipts"} and row["thread"] is not None:
            record["conversation_key"] = unseal(self._codec, row["thread"])["key"]
        return record

    def _consent_mark(self, handle_key: str, channel: str, account: str, purpose: str) -> str:
        return self._codec.fingerprint(f"consent|{handle_key}|{channel}|{account}|{purpose}")


def _told_order(message: ArchivedMessage) -> tuple[Any, ...]:
    """Platforms tell whole seconds: what was sent in one second stands in the order of its arrival."""
    return (message.sent_at, message.received_at or message.sent_at, message.message_key)


def _receipt_order(receipt: Receipt) -> tuple[Any, ...]:
    return (receipt.occurred_at, receipt.subject_key, receipt.status)


def _people_order(row: Row, *, unanswered_first: bool) -> tuple[Any, ...]:
    waits = row["unanswered_since"] if unanswered_first else None
    last_at = row["last_at"] or ""
    return (waits is None, waits or "", [-ord(character) for character in last_at], row["person_id"])
