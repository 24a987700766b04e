"""Records of invented people, a graph that does what it is told, and what an archive tells of it all."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from mappings import ids
from mappings.records import Consent, Contact, Handle, Message, MessageChange, PersonChange, Receipt, Record
from stores.archive import EXPORTED, Archive
from stores.database import Stores

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PAGE = "110022003300"
MAILBOX = "care@shop.example"


def at(minutes: float) -> datetime:
    """That many minutes after the start."""
    return START + timedelta(minutes=minutes)


def psid(name: str) -> Handle:
    return Handle(kind="messenger_psid", scope=PAGE, value=name)


def email(name: str) -> Handle:
    return Handle(kind="email", value=f"{name}@mail.example")


def phone(last: int) -> Handle:
    return Handle(kind="phone", value=f"+1415555{last:04d}")


def message(name: str, minutes: float, *, who: str = "ada", **fields: Any) -> Message:
    """A Messenger message of `who`; the customer's, unless fields say otherwise."""
    values: dict[str, Any] = {
        "message_key": ids.message_key("messenger", PAGE, name),
        "channel": "messenger",
        "account": PAGE,
        "conversation_key": ids.conversation_key("messenger", PAGE, who),
        "direction": "inbound",
        "kind": "text",
        "text": f"text of {name}",
        "sent_at": at(minutes),
        "author_kind": "customer",
        "handles": [psid(who)],
    }
    return Message(**(values | fields))


def answer(name: str, minutes: float, **fields: Any) -> Message:
    """A Messenger message of an agent."""
    return message(name, minutes, **({"direction": "outbound", "author_kind": "agent"} | fields))


def mail(name: str, minutes: float, *refers_to: str, who: str = "ada", **fields: Any) -> Message:
    """A mail, with the ids that it refers to, nearest first and the thread's root last."""
    values: dict[str, Any] = {
        "message_key": ids.message_key("email", MAILBOX, f"{name}@mail.example"),
        "channel": "email",
        "account": MAILBOX,
        "conversation_key": ids.conversation_key("email", MAILBOX, f"{(name, *refers_to)[-1]}@mail.example"),
        "thread_ids": [f"{one}@mail.example" for one in (name, *refers_to)],
        "subject": f"subject of {name}",
        "handles": [email(who)],
    }
    return message(name, minutes, **(values | fields))


def change(of: str, what: str, minutes: float, **fields: Any) -> MessageChange:
    key = ids.message_key("messenger", PAGE, of)
    values: dict[str, Any] = {
        "change_key": ids.change_key(key, what, f"{minutes}"),
        "message_key": key,
        "channel": "messenger",
        "account": PAGE,
        "change": what,
        "changed_at": at(minutes),
        "handles": [psid("ada")],
    }
    return MessageChange(**(values | fields))


def receipt(of: str, status: str, minutes: float, **fields: Any) -> Receipt:
    values: dict[str, Any] = {
        "subject_key": ids.message_key("messenger", PAGE, of),
        "subject_kind": "message",
        "status": status,
        "channel": "messenger",
        "account": PAGE,
        "occurred_at": at(minutes),
    }
    return Receipt(**(values | fields))


def watermark(status: str, up_to: float, minutes: float, who: str = "ada") -> Receipt:
    key = ids.conversation_key("messenger", PAGE, who)
    return receipt("-", status, minutes, subject_key=key, subject_kind="conversation", up_to_at=at(up_to))


def consent(status: str, minutes: float, who: str = "ada", **fields: Any) -> Consent:
    values: dict[str, Any] = {
        "handle_key": psid(who).key,
        "handle": psid(who),
        "channel": "messenger",
        "account": PAGE,
        "purpose": "promotional",
        "status": status,
        "source": "keyword",
        "decided_at": at(minutes),
    }
    return Consent(**(values | fields))


def contact(record_id: str, minutes: float, *handles: Handle, **fields: Any) -> Contact:
    record = Handle(kind="hubspot_contact", scope="4711", value=record_id)
    values: dict[str, Any] = {
        "crm": "hubspot",
        "account": "4711",
        "record_id": record_id,
        "handles": [record, *handles],
        "modified_at": at(minutes),
    }
    return Contact(**(values | fields))


class PlainGraph:
    """Has the face of `stores.graph.Graph` and holds what a test puts in."""

    def __init__(self) -> None:
        self.owners: dict[Handle, str] = {}
        self.merged: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.log: list[PersonChange] = []
        self.changed: dict[str, int] = {}
        self.sequence = 0
        self.cut: list[tuple[Handle, datetime]] = []
        self.tombstones = self

    def assign(self, person_id: str, *handles: Handle, name: str | None = None) -> None:
        touched = {person_id, *(self.owners[handle] for handle in handles if handle in self.owners)}
        self.owners |= dict.fromkeys(handles, person_id)
        if name:
            self.names[person_id] = name
        self.touch(*touched)

    def merge(self, loser: str, winner: str) -> None:
        moved = self.handles_of(loser)
        self.merged[loser] = winner
        self.change("merge", [loser], winner, moved)
        self.assign(winner, *moved)
        self.touch(loser)

    def split(self, person_id: str, new: str, *handles: Handle) -> None:
        self.merged.pop(new, None)
        self.change("split", [person_id], new, list(handles))
        self.assign(new, *handles)

    def forget(self, handle: Handle) -> None:
        self.touch(self.owners.pop(handle))

    def change(self, what: Any, old: list[str], new: str, handles: list[Handle]) -> None:
        self.sequence += 1
        self.log.append(
            PersonChange(
                sequence=self.sequence,
                change=what,
                from_person_ids=old,
                into_person_id=new,
                handles=handles,
                why="the test says so",
                changed_at=at(0),
            )
        )

    def touch(self, *person_ids: str) -> None:
        for person_id in sorted(person_ids):
            self.sequence += 1
            self.changed[person_id] = self.sequence

    def person_of(self, handle: Handle) -> str | None:
        return self.owners.get(handle)

    def current(self, person_id: str) -> str:
        while person_id in self.merged:
            person_id = self.merged[person_id]
        return person_id

    def handles_of(self, person_id: str) -> list[Handle]:
        return sorted((one for one, owner in self.owners.items() if owner == person_id), key=lambda one: one.key)

    def is_shared(self, person_id: str) -> bool:
        return person_id == "shared"

    def best_name(self, person_id: str) -> str | None:
        return self.names.get(person_id)

    def best_locale(self, person_id: str) -> str | None:
        return None

    def persons_changed_since(self, sequence: int, limit: int) -> list[tuple[int, str]]:
        return sorted((number, one) for one, number in self.changed.items() if number > sequence)[:limit]

    def changes_since(self, sequence: int, limit: int) -> list[PersonChange]:
        return [one for one in self.log if one.sequence > sequence][:limit]

    def last_sequence(self) -> int:
        return self.sequence

    def without_erased(self, records: Any) -> list[Any]:
        return list(records)

    def cut_version(self) -> int:
        return len(self.cut)

    def cuts(self) -> list[tuple[Handle, datetime]]:
        return self.cut


ARGUMENTS = {
    "messages": "messages",
    "message_changes": "changes",
    "receipts": "receipts",
    "consents": "consents",
    "contacts": "contacts",
}


def fold(archive: Archive, *records: Record) -> dict[str, int]:
    """Fold records of any streams in one transaction."""
    batches: dict[str, list[Any]] = {}
    for record in records:
        batches.setdefault(ARGUMENTS[record.stream], []).append(record)
    return archive.fold(**batches)


def told(archive: Archive, *streams: str) -> list[str]:
    """Everything an archive tells, without the numbers, in an order that depends on the content alone."""
    return sorted(
        f"{model.stream} {json.dumps(record, sort_keys=True)}"
        for model in EXPORTED
        if not streams or model.stream in streams
        for _, record in archive.changes(model.stream, limit=1_000_000)
    )


def tables(stores: Stores) -> list[str]:
    """The archive's tables."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    if stores.url.startswith("postgresql"):
        sql = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'onethread_archive'"
    return [row["name"] for row in stores.database("archive").query(sql)]


def empty(stores: Stores) -> None:
    """Make the archive as new."""
    database = stores.database("archive")
    with database.transaction():
        for name in tables(stores):
            if not name.startswith("alembic"):
                database.execute(f"DELETE FROM {name}")
