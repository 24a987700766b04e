"""Handles that changed hands, as the archive follows them: what was sent before belongs to the former owner.

A phone number that somebody else has now is two handles: itself, and ``former_phone`` for the time before. Which of the
two heads a record follows from the record's own time, so it does not matter whether the change of hands was known when
the record came. A conversation with both owners is two, the former owner's under a key of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from mappings import ids
from mappings.errors import PayloadError
from mappings.records import Consent, Handle, Message, MessageChange
from stores.archive.writing import Writing, counter, save_counter, time_text
from stores.graph.nodes import former_handle

HANDLE_PREFIX = 16
"""How much of each handle's mark stands in `message.handles_mark`."""


def follow_cuts(writing: Writing) -> None:
    """Take over which handles changed hands, and when; where that is news, their messages are folded again."""
    version = writing.graph.cut_version()
    if version == counter(writing.database, "cuts"):
        return
    now: dict[str, set[str]] = {}
    handles: dict[str, Handle] = {}
    for handle, since in writing.graph.cuts():
        mark = writing.handle_mark(handle)
        handles[mark] = handle
        now.setdefault(mark, set()).add(time_text(since))
    before: dict[str, set[str]] = {}
    for row in writing.database.query("SELECT handle_mark, since FROM cut"):
        before.setdefault(row["handle_mark"], set()).add(row["since"])
    changed = sorted(mark for mark in now.keys() | before.keys() if now.get(mark) != before.get(mark))
    writing.database.execute_many("DELETE FROM cut WHERE handle_mark = ?", [(mark,) for mark in changed])
    writing.upsert(
        "cut",
        [{"handle_mark": mark, "since": since} for mark in changed for since in now.get(mark, ())],
        keys=2,
    )
    writing.note_cuts()
    save_counter(writing.database, "cuts", version)
    _head_again(writing, changed)


def owner_then(writing: Writing, handle: Handle, moment: datetime) -> Handle:
    """The handle as it was at that moment: itself, or that of a former owner."""
    at = time_text(moment)
    since = next((one for one in writing.cuts_of(handle) if at < one), None)
    return handle if since is None else former_handle(handle, since)


def owners_then(writing: Writing, handles: Sequence[Handle], moment: datetime) -> Sequence[Handle]:
    """The handles as they were at that moment."""
    return [owner_then(writing, handle, moment) for handle in handles] if writing.has_cuts else handles


def part_of(writing: Writing, key: str, message: Message) -> str:
    """The key of the conversation that the message belongs to: that of a former owner, or `key` itself."""
    if not writing.has_cuts:
        return key
    at = time_text(message.sent_at)
    later = [since for handle in message.handles for since in writing.cuts_of(handle) if at < since]
    if not later:
        return key
    since = min(later)
    part = part_key(key, since)
    writing.parts[writing.mark(part)] = {
        "conversation_mark": writing.mark(part),
        "base_mark": writing.mark(key),
        "since": since,
        "body": writing.seal({"key": part}),
    }
    return part


def part_key(key: str, since: str) -> str:
    """The key of the part of a conversation that a former owner had until `since`."""
    try:
        channel, account, thread = ids.parse_conversation_key(key)
    except PayloadError:  # of a channel that makes its keys in another way
        return f"{key} until {since}"
    return ids.conversation_key(channel, account, f"{thread} until {since}")


def save_parts(writing: Writing) -> None:
    """Keep which conversations are parts of which."""
    if writing.parts:
        known = {
            row["conversation_mark"]
            for row in writing.select(
                "SELECT conversation_mark FROM conversation_part WHERE conversation_mark IN [keys]", writing.parts
            )
        }
        writing.upsert("conversation_part", [row for mark, row in writing.parts.items() if mark not in known])


def with_parts(writing: Writing, conversation_marks: Iterable[str]) -> set[str]:
    """These conversations, and the parts of them that former owners had."""
    marks = set(conversation_marks)
    if not writing.has_cuts:
        return marks
    found = writing.select("SELECT conversation_mark FROM conversation_part WHERE base_mark IN [keys]", marks)
    return marks | {row["conversation_mark"] for row in found}


def owners_of_parts(writing: Writing, conversation_marks: Iterable[str]) -> dict[str, str]:
    """Of the conversations that are parts: until when the former owner had them."""
    if not writing.has_cuts:
        return {}
    sql = "SELECT conversation_mark, since FROM conversation_part WHERE conversation_mark IN [keys]"
    return {row["conversation_mark"]: row["since"] for row in writing.select(sql, conversation_marks)}


def handles_until(writing: Writing, handles: Sequence[Handle], since: str) -> list[Handle]:
    """The handles of a conversation with a former owner: nothing is ever sent to those."""
    return [former_handle(handle, since) if since in writing.cuts_of(handle) else handle for handle in handles]


def _head_again(writing: Writing, changed: Sequence[str]) -> None:
    """Give what was archived of these handles to whom they belonged at the time, now that this is told otherwise."""
    heads: set[str] = set()
    for mark in changed:
        rows = writing.database.query(
            "SELECT message_mark, conversation_mark, head_mark FROM message WHERE handles_mark LIKE ?",
            (f"%{mark[:HANDLE_PREFIX]}%",),
        )
        writing.refold.update(row["message_mark"] for row in rows)
        writing.conversations.update(row["conversation_mark"] for row in rows)
        heads.update(row["head_mark"] for row in rows if row["head_mark"] is not None)
        heads.add(mark)
    # Names are learned again from the messages, each by the owner it was.
    writing.database.execute_many("DELETE FROM name_word WHERE handle_mark = ?", [(mark,) for mark in sorted(heads)])
    _head_changes(writing, heads)
    _head_consents(writing, heads)


def _head_changes(writing: Writing, heads: Iterable[str]) -> None:
    rows = []
    for row in writing.select("SELECT change_mark, body FROM message_change WHERE head_mark IN [keys]", heads):
        change = MessageChange.model_validate(writing.unseal(row["body"]))
        rows.append((writing.meet(owners_then(writing, change.handles, change.changed_at), None), row["change_mark"]))
    writing.database.execute_many("UPDATE message_change SET head_mark = ? WHERE change_mark = ?", rows)


def _head_consents(writing: Writing, heads: Iterable[str]) -> None:
    rows = []
    for row in writing.select("SELECT consent_mark, head_mark, body FROM consent WHERE head_mark IN [keys]", heads):
        consent = Consent.model_validate(writing.unseal(row["body"]))
        head = writing.meet(owners_then(writing, [consent.handle], consent.decided_at), None)
        writing.deciders.update(one for one in (head, row["head_mark"]) if one)
        rows.append((head, row["consent_mark"]))
    writing.database.execute_many("UPDATE consent SET head_mark = ? WHERE consent_mark = ?", rows)
