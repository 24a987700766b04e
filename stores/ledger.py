"""The ledger: what we wrote where, so that nothing is written twice and everything can be found again.

One ledger per CRM account. A person's contact, a message's activity record, the changes of persons that were carried
out, notes such as the fate of a reply as last told. Messages and handles are kept as fingerprints; the text of a
message only where a pipe has no archive behind it, encrypted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from mappings.records import Handle, HandleSpan, Message, MessageChange
from stores.database import Row, Stores

MessageState = Literal["intended", "written", "gone", "erased"]
_CHUNK = 400


@dataclass(frozen=True, slots=True)
class LedgerContact:
    """The contact of one person.

    Attributes:
        record_id: in the CRM; ``None`` only when `merged_into` is set.
        projection: our target made it; else a person did and we adopted it.
        content_hash: of everything we would write; equal means nothing to do.
        written: property name -> fingerprint of the value that we wrote last. Names with a space are no properties:
            what is to be remembered of the person, see `targets.crm_consents`.
        merged_into: the person that this one was merged into; its contact is the one to use.
        gone: somebody deleted the contact in the CRM; it is not made again.
    """

    person_id: str
    record_id: str | None
    projection: bool = False
    content_hash: str | None = None
    written: Mapping[str, str] = field(default_factory=dict)
    merged_into: str | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class LedgerMessage:
    """One message as an activity record.

    Attributes:
        message: fingerprint of the message key.
        state: ``intended`` is committed before a call that cannot be repeated blindly.
        record_id: in the CRM; ``None`` while intended.
        contact_id: the contact it is associated with; ``None`` while it is not.
        handle: fingerprint of the sender's handle; `conversation` of the conversation key.
        kept: what is needed to settle an intent or to write the message again; stored encrypted.
        sent_at: by the platform's time; ``None`` on rows that are older than this note.
    """

    message: str
    state: MessageState
    record_id: str | None = None
    contact_id: str | None = None
    person_id: str | None = None
    handle: str | None = None
    conversation: str | None = None
    content_hash: str | None = None
    kept: Mapping[str, Any] | None = None
    sent_at: datetime | None = None


class Ledger:
    """What we wrote in one CRM account.

    Args:
        stores: the stores.
        crm: slug of the CRM.
        account: the CRM's account (HubSpot portal id).
    """

    def __init__(self, stores: Stores, crm: str, account: str) -> None:
        self._codec = stores.codec
        self._database = stores.database("ledger")
        self._scope = (crm, account)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Several writes, all or none."""
        with self._database.transaction():
            yield

    def fingerprint(self, text: str) -> str:
        """The form in which a key or value is kept."""
        return self._codec.fingerprint(text)

    def content_hash(self, properties: Mapping[str, str]) -> str:
        """Equal for equal properties, whatever their order."""
        return self._codec.fingerprint(json.dumps(properties, sort_keys=True))

    # Contacts

    def contact(self, person_id: str) -> LedgerContact | None:
        """The row of exactly this person; a merged person's row says into whom."""
        row = self._one("SELECT * FROM contact WHERE crm = ? AND account = ? AND person_id = ?", person_id)
        return _contact(row) if row else None

    def contacts_of_record(self, record_id: str) -> list[LedgerContact]:
        """The persons whose contact a record is (more than one after a merge in the CRM)."""
        rows = self._all("SELECT * FROM contact WHERE crm = ? AND account = ? AND record_id = ?", record_id)
        return [_contact(row) for row in rows]

    def save_contact(self, contact: LedgerContact) -> None:
        """Keep the row of a person."""
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO contact (crm, account, person_id, record_id, projection, content_hash, written,"
                " merged_into, gone, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (crm, account, person_id) DO UPDATE SET record_id = excluded.record_id,"
                " projection = excluded.projection, content_hash = excluded.content_hash, written = excluded.written,"
                " merged_into = excluded.merged_into, gone = excluded.gone, changed_at = excluded.changed_at",
                (
                    *self._scope, contact.person_id, contact.record_id, int(contact.projection), contact.content_hash,
                    json.dumps(dict(contact.written)), contact.merged_into, int(contact.gone), _now(),
                ),
            )  # fmt: skip

    def forget_contact(self, person_id: str) -> None:
        """Drop the row of a person."""
        with self._database.transaction() as database:
            database.execute(
                "DELETE FROM contact WHERE crm = ? AND account = ? AND person_id = ?", (*self._scope, person_id)
            )

    def save_left_contact(self, person_id: str, record_id: str) -> None:
        """Keep that we made this record for a person who has another by now. Repeats: harmless."""
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO left_contact (crm, account, person_id, record_id) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (crm, account, person_id, record_id) DO NOTHING",
                (*self._scope, person_id, record_id),
            )

    def left_contacts(self, person_id: str) -> list[str]:
        """The records that we made for a person and that were left since; one of them may be somebody's again."""
        sql = "SELECT record_id FROM left_contact WHERE crm = ? AND account = ? AND person_id = ? ORDER BY record_id"
        return [row["record_id"] for row in self._all(sql, person_id)]

    def forget_left_contacts(self, person_id: str) -> None:
        """Drop what was noted of the records that a person left."""
        with self._database.transaction() as database:
            database.execute(
                "DELETE FROM left_contact WHERE crm = ? AND account = ? AND person_id = ?", (*self._scope, person_id)
            )

    def forget_record(self, record_id: str) -> None:
        """Drop what was noted of other records that the CRM merged into this one."""
        with self._database.transaction() as database:
            database.execute(
                "DELETE FROM alias WHERE crm = ? AND account = ? AND survivor_id = ?", (*self._scope, record_id)
            )

    def rename_record(self, record_id: str, survivor_id: str) -> None:
        """The CRM merged `record_id` into `survivor_id`: everything that pointed to it points to the survivor.

        The survivor is the work of a person, whoever made its parts, and what we wrote on them may not be on it.
        What we remember of the persons stays.
        """
        with self._database.transaction() as database:
            for contact in self.contacts_of_record(record_id):
                remembered = {name: mark for name, mark in contact.written.items() if " " in name}
                self.save_contact(
                    replace(contact, record_id=survivor_id, projection=False, content_hash=None, written=remembered)
                )
            for sql in (
                "UPDATE message SET contact_id = ? WHERE contact_id = ? AND crm = ? AND account = ?",
                "UPDATE alias SET survivor_id = ? WHERE survivor_id = ? AND crm = ? AND account = ?",
            ):
                database.execute(sql, (survivor_id, record_id, *self._scope))
            database.execute(
                "INSERT INTO alias (crm, account, record_id, survivor_id) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (crm, account, record_id) DO UPDATE SET survivor_id = excluded.survivor_id",
                (*self._scope, record_id, survivor_id),
            )

    def survivor(self, record_id: str) -> str:
        """What a record was merged into as far as we know, else itself."""
        row = self._one("SELECT survivor_id FROM alias WHERE crm = ? AND account = ? AND record_id = ?", record_id)
        return row["survivor_id"] if row else record_id

    # Messages

    def messages(self, marks: Iterable[str]) -> dict[str, LedgerMessage]:
        """The rows of these message fingerprints."""
        wanted = list(dict.fromkeys(marks))
        found: dict[str, LedgerMessage] = {}
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            where = f"message IN ({', '.join('?' for _ in chunk)})"
            for row in self._all(f"SELECT * FROM message WHERE crm = ? AND account = ? AND {where}", *chunk):  # noqa: S608
                found[row["message"]] = self._message(row)
        return found

    def intents(self) -> list[LedgerMessage]:
        """Messages whose writing was begun and not settled."""
        rows = self._all("SELECT * FROM message WHERE crm = ? AND account = ? AND state = 'intended'")
        return [self._message(row) for row in rows]

    def messages_of_person(
        self,
        person_id: str,
        *,
        handles: Iterable[Handle] | None = None,
        conversation_keys: Iterable[str] = (),
        spans: Iterable[HandleSpan] = (),
    ) -> list[LedgerMessage]:
        """The written messages of a person; with `handles`, only theirs and those of `conversation_keys`.

        Args:
            person_id: whose.
            handles: those whose messages are wanted.
            conversation_keys: the same, for messages of other handles.
            spans: handles of which only the messages of that time are wanted (`PersonChange.spans`).
        """
        rows = self._all(
            "SELECT * FROM message WHERE crm = ? AND account = ? AND person_id = ? AND state = 'written'", person_id
        )
        found = [self._message(row) for row in rows]
        if handles is None:
            return found
        marks = {self.fingerprint(handle.key) for handle in handles}
        conversations = {self.fingerprint(key) for key in conversation_keys}
        times: dict[str | None, list[HandleSpan]] = {}
        for span in spans:
            times.setdefault(self.fingerprint(span.handle.key), []).append(span)
        return [
            one
            for one in found
            if (
                any(_is_within(one, span) for span in times[one.handle])
                if one.handle in times
                else one.handle in marks or one.conversation in conversations
            )
        ]

    def count_on_contact(self, record_id: str) -> int:
        """How many messages are on a contact's timeline, as far as we wrote them."""
        row = self._one("SELECT COUNT(*) AS n FROM message WHERE crm = ? AND account = ? AND contact_id = ?", record_id)
        return int(row["n"]) if row else 0

    def records_on_contact(self, record_id: str) -> set[str]:
        """The activity records that we put on a contact's timeline."""
        rows = self._all("SELECT record_id FROM message WHERE crm = ? AND account = ? AND contact_id = ?", record_id)
        return {row["record_id"] for row in rows if row["record_id"]}

    def save_messages(self, messages: Sequence[LedgerMessage]) -> None:
        """Keep these rows, all or none."""
        now = _now()
        with self._database.transaction() as database:
            database.execute_many(
                "INSERT INTO message (crm, account, message, state, record_id, contact_id, person_id, handle,"
                " conversation, content_hash, kept, sent_at, changed_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (crm, account, message) DO UPDATE SET state = excluded.state,"
                " record_id = excluded.record_id, contact_id = excluded.contact_id, person_id = excluded.person_id,"
                " handle = excluded.handle, conversation = excluded.conversation,"
                " content_hash = excluded.content_hash, kept = excluded.kept, sent_at = excluded.sent_at,"
                " changed_at = excluded.changed_at",
                [
                    (
                        *self._scope, one.message, one.state, one.record_id, one.contact_id, one.person_id, one.handle,
                        one.conversation, one.content_hash,
                        None if one.kept is None else self._codec.encrypt_json(dict(one.kept)),
                        one.sent_at.isoformat() if one.sent_at else None, now,
                    )
                    for one in messages
                ],
            )  # fmt: skip

    def forget_messages(self, marks: Iterable[str]) -> None:
        """Drop these rows."""
        with self._database.transaction() as database:
            database.execute_many(
                "DELETE FROM message WHERE crm = ? AND account = ? AND message = ?",
                [(*self._scope, mark) for mark in marks],
            )

    def erase_messages(self, messages: Iterable[LedgerMessage]) -> None:
        """Leave of these messages only that they were erased, so that none of them is written again."""
        erased = [LedgerMessage(one.message, "erased") for one in messages]
        with self._database.transaction() as database:
            self.save_messages(erased)
            database.execute_many(
                "DELETE FROM message_change WHERE crm = ? AND account = ? AND message = ?",
                [(*self._scope, one.message) for one in erased],
            )

    def entry_for(self, message: Message, state: MessageState, **values: Any) -> LedgerMessage:
        """A row for `message`, with the fingerprints by which it is found again."""
        handle = message.handles[0].key if message.handles else None
        entry = LedgerMessage(
            self.fingerprint(message.message_key),
            state,
            handle=self.fingerprint(handle) if handle else None,
            conversation=self.fingerprint(message.conversation_key),
            sent_at=message.sent_at,
        )
        return replace(entry, **values)

    # Changes of messages, where no archive folds them

    def save_change(self, change: MessageChange) -> None:
        """Keep one change of a message; again is harmless."""
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO message_change (crm, account, message, change, body) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (crm, account, message, change) DO UPDATE SET body = excluded.body",
                (
                    *self._scope, self.fingerprint(change.message_key), self.fingerprint(change.change_key),
                    self._codec.encrypt_json(change.model_dump(mode="json")),
                ),
            )  # fmt: skip

    def changes(self, message_key: str) -> list[MessageChange]:
        """The changes of a message so far."""
        rows = self._all(
            "SELECT body FROM message_change WHERE crm = ? AND account = ? AND message = ?",
            self.fingerprint(message_key),
        )
        return [MessageChange.model_validate(self._codec.decrypt_json(row["body"])) for row in rows]

    # Changes of persons

    def carried_out(self, sequence: int) -> bool:
        """Whether a merge, split or erasure was carried out."""
        sql = "SELECT 1 FROM person_change WHERE crm = ? AND account = ? AND sequence = ?"
        return self._one(sql, sequence) is not None

    def mark_carried_out(self, sequence: int, counts: Mapping[str, int] | None = None) -> None:
        """A merge, split or erasure was carried out. Of an erasure this is the CRM's receipt: what it removed."""
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO person_change (crm, account, sequence, carried_out_at, counts) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (crm, account, sequence) DO NOTHING",
                (*self._scope, sequence, _now(), json.dumps(dict(counts or {}))),
            )

    # Notes

    def note(self, name: str) -> str | None:
        """What was last noted under this name; ``None`` when nothing was."""
        row = self._one("SELECT status FROM reply WHERE crm = ? AND account = ? AND reply = ?", self.fingerprint(name))
        return row["status"] if row else None

    def save_note(self, name: str, text: str) -> None:
        """Note one fact that has no table of its own, in place of what was noted under this name before.

        Under a reply's key: the status that the CRM was told last. Under other names, which say what they are for:
        what a target or tap has to know again on its next run. The name is kept as a fingerprint, the text as it is: no
        secret, and nothing that a person wrote.
        """
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO reply (crm, account, reply, status) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (crm, account, reply) DO UPDATE SET status = excluded.status",
                (*self._scope, self.fingerprint(name), text),
            )

    def _one(self, sql: str, *parameters: Any) -> Row | None:
        return self._database.query_one(sql, (*self._scope, *parameters))

    def _all(self, sql: str, *parameters: Any) -> list[Row]:
        return self._database.query(sql, (*self._scope, *parameters))

    def _message(self, row: Row) -> LedgerMessage:
        kept = self._codec.decrypt_json(row["kept"]) if row["kept"] is not None else None
        return LedgerMessage(
            row["message"], row["state"], row["record_id"], row["contact_id"], row["person_id"], row["handle"],
            row["conversation"], row["content_hash"], kept,
            datetime.fromisoformat(row["sent_at"]) if row["sent_at"] else None,
        )  # fmt: skip


def _contact(row: Row) -> LedgerContact:
    return LedgerContact(
        row["person_id"], row["record_id"], bool(row["projection"]), row["content_hash"], json.loads(row["written"]),
        row["merged_into"], bool(row["gone"]),
    )  # fmt: skip


def _is_within(message: LedgerMessage, span: HandleSpan) -> bool:
    """Whether a message is of that time. Of an old row nobody knows; the archive tells it again if it is another's."""
    if message.sent_at is None:
        return True
    return (span.since is None or message.sent_at >= span.since) and (
        span.until is None or message.sent_at < span.until
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()
