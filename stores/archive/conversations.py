"""Conversations: derived again from their messages inside one write transaction, and those that are about to vanish."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from mappings import fold
from mappings.records import ArchivedMessage, Conversation, Handle
from stores.archive.former import handles_until, owners_of_parts
from stores.archive.messages import read_message
from stores.archive.writing import Writing, time_text, unseal
from stores.database import Row, Stores

REQUEST_WARNING = timedelta(days=7)
"""How long before a message request vanishes somebody should be told."""


_CHUNK = 300
ALIKE = (
    "SELECT conversation_mark, handles_mark, role, unsent, request_folder, has_subject, COUNT(*) AS many,"
    " MIN(sent_at) AS first_at, MAX(sent_at) AS last_at, MAX(sent_at || ' ' || message_mark) AS newest FROM message"
    " WHERE conversation_mark IN [keys]"
    " GROUP BY conversation_mark, handles_mark, role, unsent, request_folder, has_subject"
)
"""A conversation may be long: messages that differ in nothing but their time are told together, out of the index."""


def refresh_conversations(writing: Writing) -> None:
    """Derive again every conversation that the transaction touched."""
    marks = writing.conversations
    alike: defaultdict[str, list[Row]] = defaultdict(list)
    for row in writing.select(ALIKE, marks):
        alike[row["conversation_mark"]].append(row)
    stored = {
        row["conversation_mark"]: row
        for row in writing.select("SELECT * FROM conversation WHERE conversation_mark IN [keys]", marks)
    }
    wanted = _speakers(writing, alike)
    waiting = _waiting_since(writing, alike)
    bodies = writing.folded | {
        row["message_mark"]: read_message(writing.codec, row["body"], None)
        for row in writing.select(
            "SELECT message_mark, body FROM message WHERE message_mark IN [keys]",
            {message for speakers in wanted.values() for message in speakers} - writing.folded.keys(),
        )
    }
    derived = {
        mark: _derive(rows, [bodies[message] for message in wanted[mark]], waiting.get(mark))
        for mark, rows in alike.items()
    }
    for mark, since in owners_of_parts(writing, derived).items():
        handles = handles_until(writing, derived[mark].handles, since)
        derived[mark] = derived[mark].model_copy(update={"handles": handles})
    heads = {mark: writing.handle_mark(one.handles[0]) if one.handles else None for mark, one in derived.items()}
    persons = {
        row["handle_mark"]: row["person_id"]
        for row in writing.select(
            "SELECT handle_mark, person_id FROM handle WHERE handle_mark IN [keys]", filter(None, heads.values())
        )
    }
    rows = []
    for mark in sorted(marks):
        before = stored.get(mark)
        if mark in derived:
            conversation = derived[mark].model_copy(update={"person_id": persons.get(heads[mark] or "")})
        elif before is not None and before["message_count"]:
            conversation = _emptied(Conversation.model_validate(writing.unseal(before["body"])))
        else:
            continue
        writing.persons.update(
            one for one in (conversation.person_id, before["person_id"] if before else None) if one is not None
        )
        told = _row(writing, mark, conversation, heads.get(mark), before)
        if told is not None:
            rows.append(told)
    writing.upsert("conversation", rows)


def _speakers(writing: Writing, alike: Mapping[str, Sequence[Row]]) -> dict[str, set[str]]:
    """The messages that must be read: the newest for each set of handles, and those with the first subject."""
    found: dict[str, set[str]] = {}
    titled: list[tuple[str, str]] = []
    for mark, rows in alike.items():
        newest: dict[str, str] = {}
        for row in rows:
            newest[row["handles_mark"]] = max(row["newest"], newest.get(row["handles_mark"], ""))
        found[mark] = {one.rpartition(" ")[2] for one in newest.values()}
        if times := [row["first_at"] for row in rows if row["has_subject"]]:
            titled.append((mark, min(times)))
    for row in _at(
        writing, "SELECT m.conversation_mark, m.message_mark FROM [asked] m.sent_at = a.moment AND m.has_subject = 1",
        titled,
    ):  # fmt: skip
        found[row["conversation_mark"]].add(row["message_mark"])
    return found


def _waiting_since(writing: Writing, alike: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """When the customer first wrote since the account last did, where both have."""
    asked = []
    for mark, rows in alike.items():
        answered_at = max((row["last_at"] for row in rows if row["role"] == "out"), default=None)
        asked_at = max((row["last_at"] for row in rows if row["role"] == "in" and not row["unsent"]), default="")
        if answered_at is not None and asked_at > answered_at:
            asked.append((mark, answered_at))
    sql = (
        "SELECT m.conversation_mark, MIN(m.sent_at) AS since FROM [asked] m.sent_at > a.moment"
        " AND m.role = 'in' AND m.unsent = 0 GROUP BY m.conversation_mark"
    )
    return {row["conversation_mark"]: row["since"] for row in _at(writing, sql, asked)}


def _at(writing: Writing, sql: str, asked: Sequence[tuple[str, str]]) -> Iterator[Row]:
    """The rows of `sql` for pairs of a conversation and a moment, which stand in it as ``FROM [asked]``."""
    for start in range(0, len(asked), _CHUNK):
        chunk = asked[start : start + _CHUNK]
        # A join, in this order: SQLite reads all messages for `(a, b) IN (VALUES ...)`.
        pairs = (
            f"(SELECT column1 AS mark, column2 AS moment FROM (VALUES {', '.join('(?, ?)' for _ in chunk)}) v) a"  # noqa: S608
            " CROSS JOIN message m WHERE m.conversation_mark = a.mark AND"
        )
        yield from writing.database.query(sql.replace("[asked]", pairs), [value for pair in chunk for value in pair])


def _derive(rows: Sequence[Row], speakers: Sequence[ArchivedMessage], waiting_since: str | None) -> Conversation:
    any_message = min(speakers, key=lambda message: message.message_key)
    titled = [message for message in speakers if message.subject is not None]
    first = min(titled, key=lambda message: (message.sent_at, message.message_key)) if titled else None
    handles: list[list[Handle]] = [message.handles for message in speakers]
    facts = [
        fold.MessageFacts(datetime.fromisoformat(moment), row["role"], bool(row["unsent"]), bool(row["request_folder"]))
        for row in rows
        for moment in {row["first_at"], row["last_at"]}
    ]
    if waiting_since is not None:
        facts.append(fold.MessageFacts(datetime.fromisoformat(waiting_since), "in"))
    return fold.derive_conversation(
        any_message.conversation_key,
        any_message.channel,
        any_message.account,
        facts,
        handles,
        first.subject if first else None,
        message_count=sum(row["many"] for row in rows),
    )


def _emptied(conversation: Conversation) -> Conversation:
    """What is told of a conversation whose messages all belong to another now, so that no reader keeps the old one."""
    return Conversation(
        conversation_key=conversation.conversation_key, channel=conversation.channel, account=conversation.account
    )


def _row(
    writing: Writing, mark: str, conversation: Conversation, head: str | None, before: Row | None
) -> dict[str, Any] | None:
    record = conversation.model_dump(mode="json")
    content_mark = writing.content_mark(record, with_person=True)
    if before is not None and before["content_mark"] == content_mark:
        return None
    sequence = writing.number("conversations")
    spoken = (conversation.last_inbound_at, conversation.last_outbound_at, conversation.first_message_at)
    times = [one for one in spoken if one is not None]
    return {
        "conversation_mark": mark,
        "sequence": sequence,
        "content_mark": content_mark,
        "body": writing.seal(record),
        "first_sequence": before["first_sequence"] if before is not None else sequence,
        "message_count": conversation.message_count,
        "channel": conversation.channel,
        "person_id": conversation.person_id,
        "head_mark": head,
        "unanswered_since": time_text(conversation.unanswered_since) if conversation.unanswered_since else None,
        "last_at": time_text(max(times)) if times else None,
    }


def vanishing_requests(stores: Stores, now: datetime, within: timedelta = REQUEST_WARNING) -> list[Conversation]:
    """Conversations whose `request_vanishes_at` is between now and then, the first to vanish first.

    Of one with `request_folder` it is certain that it is a message request; the others may be.
    """
    found: list[Conversation] = []
    for channel, kept in fold.REQUESTS_KEPT.items():
        rows = stores.database("archive").query(
            "SELECT body FROM conversation WHERE unanswered_since IS NOT NULL AND channel = ?"
            " AND last_at > ? AND last_at <= ?",
            (channel, time_text(now - kept), time_text(now - kept + within)),
        )
        found += [Conversation.model_validate(unseal(stores.codec, row["body"])) for row in rows]
    soon = [one for one in found if one.request_vanishes_at and now < one.request_vanishes_at <= now + within]
    return sorted(soon, key=lambda one: (str(one.request_vanishes_at), one.conversation_key))
