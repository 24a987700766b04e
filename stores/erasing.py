"""What is one person's beside the graph and the archive: the inbox, the outbox, parked rows, files and the ledgers.

Items and ledger rows go by fingerprints; raw bytes, parked payloads and replies are opened and looked through.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from mappings.records import Handle, Reply
from stores.codec import Codec
from stores.database import Database, Stores
from stores.graph.erasing import Subject
from stores.graph.nodes import chunks

_SHORTEST = 6
"""Shorter values stand in too many payloads by accident; such handles are found by the keys of records alone."""
_MOST_INFLATED = 64 * 2**20
_NEEDED = ("reference", "object", "kind", "was", "replaces")
"""What a target needs to find the records of a message, and to know of which kind they are; it names nobody."""
_ERASED = -1
"""The delivery that an erased event belongs to: every real one is a repeat of it, and brings no record."""


@dataclass(slots=True)
class Traces:
    """By what a person's rows are recognised.

    Attributes:
        values: texts that are theirs alone: addresses, numbers, ids.
        message_keys: of all their messages.
        reply_keys: of our replies to them.
        raw_refs: where the raw bytes of their records are.
        conversation_keys: of the conversations that are theirs as a whole.
    """

    values: set[str] = field(default_factory=set)
    message_keys: set[str] = field(default_factory=set)
    reply_keys: set[str] = field(default_factory=set)
    raw_refs: set[str] = field(default_factory=set)
    conversation_keys: set[str] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        subject: Subject,
        message_keys: Iterable[str],
        reply_keys: Iterable[str],
        raw_refs: Iterable[str],
        conversation_keys: Iterable[str] = (),
    ) -> Traces:
        """Those of a subject. A handle that was somebody else's too says nothing by itself."""
        values = set()
        for one in subject.owned:
            value = one.handle.value
            if one.is_shared_in_time or len(value) < _SHORTEST:
                continue
            values |= {value, value.lstrip("+")} if one.handle.kind == "phone" else {value}
        return cls(values, set(message_keys), set(reply_keys), set(raw_refs), set(conversation_keys))

    def pattern(self) -> re.Pattern[str] | None:
        """Finds any of the values and keys, not as a part of a longer word or number."""
        found = {*self.values, *self.message_keys, *self.reply_keys, *self.conversation_keys}
        if not found:
            return None
        texts = sorted(found, key=lambda text: (-len(text), text))
        return re.compile(rf"(?<![0-9A-Za-z])(?:{'|'.join(map(re.escape, texts))})(?![0-9A-Za-z])", re.IGNORECASE)


class Rows:
    """A person's rows in the stores beside the graph and the archive."""

    def __init__(self, stores: Stores, subject: Subject, traces: Traces) -> None:
        self._stores = stores
        self._codec: Codec = stores.codec
        self._subject = subject
        self._traces = traces
        self._pattern = traces.pattern()

    # Found

    def deliveries(self) -> Iterator[tuple[int, Any]]:
        """(id, what it holds) of each raw delivery that is theirs, or names them."""
        database = self._stores.open("deliveries", read_only=True) if self._has("deliveries") else None
        if database is None:
            return
        wanted = {number for ref in self._traces.raw_refs if (number := _number(ref, "delivery")) is not None}
        last = 0
        try:
            while rows := database.query(
                "SELECT id, received_at, body FROM delivery WHERE id > ? ORDER BY id LIMIT 200", (last,)
            ):
                last = rows[-1]["id"]
                for row in rows:
                    if not self._is_in_time(row["received_at"]):
                        continue
                    body = self._codec.decrypt(row["body"])
                    if row["id"] in wanted or self._names_them_in(body):
                        yield row["id"], _shown(_inflated(body))
        finally:
            database.close()

    def spool(self) -> Iterator[tuple[int, Any]]:
        """(id, payload) of each entry of a spool that is theirs."""
        wanted = {number for ref in self._traces.raw_refs if (number := _number(ref, "spool")) is not None}
        for row in self._pages("spool", "SELECT id, added_at, payload FROM spool WHERE id > ? ORDER BY id LIMIT 200"):
            if not self._is_in_time(row["added_at"]):
                continue
            payload = self._codec.decrypt_json(row["payload"])
            if row["id"] in wanted or self._names_them(payload):
                yield row["id"], payload

    def parked(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(id, row) of each parked row that names them."""
        sql = (
            "SELECT id, part, stream, error, parked_at, raw_ref, payload FROM parked WHERE id > ? ORDER BY id LIMIT 200"
        )
        for row in self._pages("parked", sql):
            if not self._is_in_time(row["parked_at"]):
                continue
            payload = self._codec.decrypt_json(row["payload"])
            theirs = row["raw_ref"] in self._traces.raw_refs or self._is_record_of_theirs(row["stream"], payload)
            if theirs or self._names_them(payload):
                shown = {name: row[name] for name in ("part", "stream", "error", "parked_at")}
                yield row["id"], {**shown, "payload": payload}

    def replies(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(id, row) of each reply in the outbox that went, or is to go, to them."""
        for row in self._pages("outbox", "SELECT * FROM reply WHERE id > ? ORDER BY id LIMIT 200"):
            reply = Reply.model_validate(self._codec.decrypt_json(row["body"]))
            outcome = self._codec.decrypt_json(row["outcome"]) if row["outcome"] else {}
            if self._is_to_them(reply, row["person_id"], outcome):
                facts = {name: row[name] for name in ("state", "channel", "queued_at", "changed_at", "code", "reason")}
                yield row["id"], {**facts, "reply": reply.model_dump(mode="json"), "outcome": outcome}

    def ledger_contacts(self) -> list[dict[str, Any]]:
        """Their contacts in CRMs: crm, account, record id, and whether our target made it; those that were left too."""
        left = self._of_persons(
            "SELECT crm, account, record_id, 1 AS projection FROM left_contact WHERE person_id IN [keys]"
        )
        return [
            {"crm": row["crm"], "account": row["account"], "record_id": row["record_id"],
             "made_by_us": bool(row["projection"])}
            for row in (
                *self._of_persons("SELECT * FROM contact WHERE record_id IS NOT NULL AND person_id IN [keys]"), *left
            )
        ]  # fmt: skip

    def ledger_records(self) -> list[dict[str, Any]]:
        """The activity records of their messages: crm, account, record id."""
        rows = self._of_messages(
            "SELECT crm, account, record_id FROM message WHERE record_id IS NOT NULL AND message IN [keys]"
        )
        return [{name: row[name] for name in ("crm", "account", "record_id")} for row in rows]

    def items(self) -> list[dict[str, Any]]:
        """The events that brought what is theirs: where, when and what they were."""
        sql = "SELECT platform, kind, first_ref, recorded_at FROM item WHERE first_ref IN [keys]"
        return [dict(zip(row.keys(), tuple(row), strict=True)) for row in self._in("items", sql, self._refs_of_one())]

    # Erased

    def erase_items(self) -> int:
        """Leave of the events only that they were seen, so that the platform's late retry is a repeat."""
        database = self._stores.database("items")
        number = 0
        with database.transaction():
            for chunk in chunks(sorted(self._refs_of_one())):
                places = ", ".join("?" for _ in chunk)
                number += database.execute(
                    "UPDATE item SET kind = 'erased', first_ref = 'erased', platform_time = NULL, poll_pass = NULL,"  # noqa: S608
                    f" delivery_id = {_ERASED} WHERE first_ref IN ({places})",
                    chunk,
                )
        return number

    def erase_spool(self) -> int:
        """Delete their entries in the spools."""
        return self._delete("spool", "spool", [number for number, _ in self.spool()])

    def erase_parked(self) -> int:
        """Delete the parked rows that name them, also those that name others besides: nothing can tell them apart."""
        return self._delete("parked", "parked", [number for number, _ in self.parked()])

    def erase_replies(self) -> int:
        """Delete the replies to them. One that is being sent at this moment goes out; nothing is kept of it."""
        return self._delete("outbox", "reply", [number for number, _ in self.replies()])

    def destinations(self) -> list[tuple[str, str]]:
        """(crm, account) of each CRM in which we wrote something of theirs that is still there."""
        found = {
            (row["crm"], row["account"])
            for row in (
                *self._of_persons("SELECT crm, account FROM contact WHERE person_id IN [keys]"),
                *self._of_persons("SELECT crm, account FROM left_contact WHERE person_id IN [keys]"),
                *self._of_persons(
                    "SELECT crm, account, message FROM message WHERE state <> 'erased' AND person_id IN [keys]"
                ),
                *self._of_messages("SELECT crm, account FROM message WHERE state <> 'erased' AND message IN [keys]"),
            )
        }
        return sorted(found)

    def erase_from_ledgers(self, last_sequence: int) -> int:
        """Leave in the ledgers only which CRM records are theirs, for the targets to erase; how many rows.

        A message that a ledger still has under somebody else becomes theirs here: what would have moved it may be gone
        from the log.
        """
        database = self._stores.database("ledger")
        marks = sorted({self._codec.fingerprint(key) for key in self._traces.message_keys})
        number = 0
        with database.transaction():
            # No receipt can be for a change that is still to come: such a row speaks of a graph that is no more.
            database.execute("DELETE FROM person_change WHERE sequence > ?", (last_sequence,))
            rows = self._of_messages("SELECT * FROM message WHERE message IN [keys]")
            for row in (*rows, *self._of_conversations(), *self._without_archive()):
                if row["state"] == "erased":
                    continue
                kept = self._codec.decrypt_json(row["kept"]) if row["kept"] is not None else {}
                left = {name: kept[name] for name in _NEEDED if name in kept}
                if parts := kept.get("parts"):  # a day: by these marks its files are found
                    left["part_marks"] = [self._codec.fingerprint(str(one["message_key"])) for one in parts]
                number += database.execute(
                    "UPDATE message SET person_id = ?, handle = NULL, conversation = NULL, content_hash = NULL,"
                    " sent_at = NULL, kept = ? WHERE crm = ? AND account = ? AND message = ?",
                    (
                        self._subject.person_id, self._codec.encrypt_json(left) if left else None, row["crm"],
                        row["account"], row["message"],
                    ),
                )  # fmt: skip
            for chunk in chunks(marks):
                places = ", ".join("?" for _ in chunk)
                database.execute(f"DELETE FROM message_change WHERE message IN ({places})", chunk)  # noqa: S608
            for row in self._of_persons("SELECT * FROM contact WHERE person_id IN [keys]"):
                number += database.execute(
                    "UPDATE contact SET content_hash = NULL, written = ?"
                    " WHERE crm = ? AND account = ? AND person_id = ?",
                    (
                        json.dumps(dict.fromkeys(json.loads(row["written"]), "")), row["crm"], row["account"],
                        row["person_id"],
                    ),
                )  # fmt: skip
            replies = [(self._codec.fingerprint(key),) for key in sorted(self._traces.reply_keys)]
            database.execute_many("DELETE FROM reply WHERE reply = ?", replies)
        return number

    # Inside

    def _of_conversations(self) -> list[Any]:
        marks = [self._codec.fingerprint(key) for key in self._traces.conversation_keys]
        return self._in("ledger", "SELECT * FROM message WHERE conversation IN [keys]", marks)

    def _without_archive(self) -> list[Any]:
        """Rows under their name that no archive gives to somebody: of a pipe that had none."""
        mine = {self._codec.fingerprint(key) for key in self._traces.message_keys}
        talks = {self._codec.fingerprint(key) for key in self._traces.conversation_keys}
        archive = self._stores.database("archive")

        def is_anothers(row: Any) -> bool:
            """A split that the CRM has not followed yet gives it to whoever it is."""
            if row["message"] in mine or row["conversation"] in talks:
                return False
            by_message = "SELECT 1 FROM message WHERE message_mark = ?"
            by_talk = "SELECT 1 FROM conversation WHERE conversation_mark = ? AND message_count > 0"
            return (
                archive.query_one(by_message, (row["message"],)) is not None
                or archive.query_one(by_talk, (row["conversation"],)) is not None
            )

        rows = self._of_persons("SELECT * FROM message WHERE person_id IN [keys]")
        return [row for row in rows if not is_anothers(row)]

    def _refs_of_one(self) -> set[str]:
        """The references that name one event; that of a polling pass names all that it found."""
        return {ref for ref in self._traces.raw_refs if "#" in ref}

    def _is_to_them(self, reply: Reply, person_id: str | None, outcome: Mapping[str, Any]) -> bool:
        to = (outcome.get("outgoing") or {}).get("to")
        if to is not None:
            moment = datetime.fromisoformat(outcome["sent_at"]) if "sent_at" in outcome else reply.written_at
            mine = self._subject.owns(Handle.model_validate(to), moment)
            return bool(mine) or outcome.get("message_key") in self._traces.message_keys
        if reply.reply_key in self._traces.reply_keys or person_id in self._subject.person_ids:
            return True
        if reply.conversation_key in self._traces.conversation_keys:
            return True
        return bool(reply.handles) and bool(self._subject.owns(reply.handles[0], reply.written_at))

    def _is_record_of_theirs(self, stream: str, payload: Any) -> bool:
        """Whether a parked record is theirs by what cannot be looked for as text: a short handle, the person's id.

        Only the golden record is known by that id: on other records it is a stamp, which a split may have made untrue,
        and a merge or split that waits to be carried out may move what is another's.
        """
        if stream == "persons" and isinstance(payload, dict) and payload.get("person_id") in self._subject.person_ids:
            return True
        alone = [one.handle.model_dump() for one in self._subject.owned if not one.is_shared_in_time]
        return any({"scope": None, **one} in alone for one in _objects_in(payload))

    def _names_them(self, payload: Any) -> bool:
        """Whether a JSON value names them, in raw bytes inside it too."""
        if self._pattern is None:
            return False
        if self._pattern.search(json.dumps(payload, ensure_ascii=False)):
            return True
        raw = payload.get("base64") if isinstance(payload, dict) else None
        if not isinstance(raw, str):
            return False
        try:
            return self._names_them_in(base64.b64decode(raw))
        except binascii.Error:
            return False

    def _names_them_in(self, body: bytes) -> bool:
        """Whether raw bytes name them: as they are, as a form, as JSON with escapes, each compressed or not."""
        if self._pattern is None:
            return False
        text = _inflated(body).decode("utf-8", "replace")
        if self._pattern.search(text):
            return True
        if "%" in text and self._pattern.search(unquote_plus(text)):
            return True
        if "\\" in text:
            try:
                return bool(self._pattern.search(json.dumps(json.loads(text), ensure_ascii=False)))
            except ValueError:
                return False
        return False

    def _is_in_time(self, stored: str) -> bool:
        return self._subject.is_in_time(datetime.fromisoformat(stored))

    def _has(self, store: str) -> bool:
        """Whether there is such a store: one that nobody made yet is not made to be looked into."""
        return self._stores.url.startswith("postgres") or (self._stores.folder / f"{store}.db").exists()

    def _pages(self, store: str, sql: str) -> Iterator[Any]:
        database = self._stores.database(store)
        last = 0
        while rows := database.query(sql, (last,)):
            last = rows[-1]["id"]
            yield from rows

    def _in(self, store: str, sql: str, keys: Iterable[str]) -> list[Any]:
        database, found = self._stores.database(store), []
        for chunk in chunks(sorted(set(keys))):
            found += database.query(sql.replace("[keys]", f"({', '.join('?' for _ in chunk)})"), chunk)
        return found

    def _of_persons(self, sql: str) -> list[Any]:
        return self._in("ledger", sql, self._subject.person_ids)

    def _of_messages(self, sql: str) -> list[Any]:
        return self._in("ledger", sql, (self._codec.fingerprint(key) for key in self._traces.message_keys))

    def _delete(self, store: str, table: str, numbers: Sequence[int]) -> int:
        database = self._stores.database(store)
        with database.transaction():
            database.execute_many(f"DELETE FROM {table} WHERE id = ?", [(number,) for number in numbers])  # noqa: S608
        return len(numbers)


def _objects_in(payload: Any) -> Iterator[Mapping[str, Any]]:
    """Every object in a JSON value."""
    waiting = [payload]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def outgoing_keys(replies: Iterable[Mapping[str, Any]]) -> tuple[set[str], set[str]]:
    """The keys of these replies, and of the messages that they became."""
    rows = list(replies)
    keys = {str(row["reply"]["reply_key"]) for row in rows}
    return keys, {str(row["outcome"]["message_key"]) for row in rows if row["outcome"].get("message_key")}


def forget_in_ledgers(database: Database, person_ids: Sequence[str]) -> None:
    """Drop what the ledgers still hold of persons whom every CRM has erased: the ids of their records."""
    with database.transaction():
        for person_id in person_ids:
            for row in database.query("SELECT crm, account, record_id FROM contact WHERE person_id = ?", (person_id,)):
                if row["record_id"]:
                    database.execute(
                        "DELETE FROM alias WHERE crm = ? AND account = ? AND survivor_id = ?",
                        (row["crm"], row["account"], row["record_id"]),
                    )
            database.execute("DELETE FROM contact WHERE person_id = ? OR merged_into = ?", (person_id, person_id))
            database.execute("DELETE FROM left_contact WHERE person_id = ?", (person_id,))
            database.execute("DELETE FROM message WHERE person_id = ? AND state <> 'erased'", (person_id,))


def _number(ref: str, kind: str) -> int | None:
    """The row that a reference like ``delivery:17#3`` names."""
    found = re.match(rf"{kind}:(\d+)(?:#|$)", ref)
    return int(found[1]) if found else None


def _inflated(body: bytes) -> bytes:
    """A body as it was before it was compressed; as it is when it was not, or is larger than can be looked through."""
    if body[:2] != b"\x1f\x8b":
        return body
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
            return file.read(_MOST_INFLATED)
    except (OSError, EOFError):
        return body


def _shown(body: bytes) -> Any:
    """A body for a person to read: as JSON, as text, or in base64."""
    try:
        return json.loads(body)
    except ValueError:
        pass
    try:
        return body.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}
