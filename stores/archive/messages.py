"""Messages with their changes and receipts folded in, inside one write transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mappings import fold, ids
from mappings.records import ArchivedMessage, Message, MessageChange, Receipt
from stores.archive.former import owners_then, part_of, save_parts, with_parts
from stores.archive.mail_threads import MailThreads
from stores.archive.writing import Writing, time_text, unseal
from stores.codec import Codec
from stores.database import Row

_DEFAULTS = {name: ArchivedMessage.model_fields[name].get_default(call_default_factory=True)
             for name in ArchivedMessage.model_fields.keys() - Message.model_fields.keys()}  # fmt: skip


@dataclass(slots=True)
class _Draft:
    """One message on its way through a fold."""

    row: Row | None
    before: list[Message]
    sightings: list[Message]
    merged: Message
    changes: list[MessageChange]
    thread_key: str = ""
    key: str | None = None
    token_mark: str | None = None

    @property
    def conversation_key(self) -> str:
        return self.key or self.merged.conversation_key


def fold_messages(
    writing: Writing, messages: Sequence[Message], changes: Sequence[MessageChange], receipts: Sequence[Receipt]
) -> None:
    """Take what came and bring every message that it touches, known or new, up to date."""
    messages = _mails_apart(writing, messages)
    new: dict[str, list[Message]] = {}
    for message in messages:
        new.setdefault(writing.mark(message.message_key), []).append(message)
    touched = {*new, *writing.refold, *save_receipts(writing, receipts)}
    touched |= _messages_of(writing, MailThreads(writing).join(messages))
    changes_of = save_changes(writing, changes, touched)
    drafts = _drafts(writing, touched | changes_of.keys(), new, changes_of)
    keys = MailThreads(writing).keys_of((mark, draft.merged) for mark, draft in drafts.items())
    for mark, draft in drafts.items():
        draft.thread_key = keys.get(mark) or draft.merged.conversation_key
        draft.key = part_of(writing, draft.thread_key, draft.merged)
        token = draft.merged.reply_token or (draft.merged.reply_key and ids.reply_token(draft.merged.reply_key))
        draft.token_mark = token_mark(writing, token) if token else None
    _save(writing, drafts)
    save_parts(writing)


def save_receipts(writing: Writing, receipts: Sequence[Receipt]) -> set[str]:
    """Keep receipts; the marks of the messages, known or not yet, that they speak of."""
    joined: dict[str, Receipt] = {}
    for receipt in receipts:
        mark = writing.mark(f"{receipt.subject_key}|{receipt.status}")
        joined[mark] = fold.join_receipts(joined[mark], receipt) if mark in joined else receipt
    rows = []
    for row in writing.select("SELECT * FROM receipt WHERE receipt_mark IN [keys]", joined):
        before = Receipt.model_validate(writing.unseal(row["body"]))
        joined[row["receipt_mark"]] = fold.join_receipts(before, joined[row["receipt_mark"]])
        if writing.content_mark(joined[row["receipt_mark"]].model_dump(mode="json")) == row["content_mark"]:
            del joined[row["receipt_mark"]]
    touched: set[str] = set()
    tokens: set[str] = set()
    for mark in sorted(joined):
        receipt = joined[mark]
        record = receipt.model_dump(mode="json")
        reply_key = receipt.subject_key if receipt.subject_kind == "reply" else receipt.reply_key
        token = receipt.reply_token or (reply_key and ids.reply_token(reply_key))
        row_token = token_mark(writing, token) if token else None
        subject = writing.mark(receipt.subject_key)
        touched |= {subject} if receipt.subject_kind == "message" else set()
        tokens |= {row_token} if row_token else set()
        rows.append(
            {
                "receipt_mark": mark,
                "sequence": writing.number("receipts"),
                "content_mark": writing.content_mark(record),
                "body": writing.seal(record),
                "subject_mark": subject,
                "subject_kind": receipt.subject_kind,
                "token_mark": row_token,
            }
        )
    writing.upsert("receipt", rows)
    touched |= {
        row["message_mark"]
        for row in writing.select("SELECT message_mark FROM message WHERE token_mark IN [keys]", tokens)
    }
    return touched | _save_watermarks(writing, receipts)


def save_changes(
    writing: Writing, changes: Sequence[MessageChange], message_marks: Iterable[str]
) -> dict[str, list[MessageChange]]:
    """Keep changes; all changes, old and new, of these messages and of those that the new ones speak of, by message.

    What an edit brought goes as soon as its message is taken back, whichever came first.
    """
    fresh: dict[str, dict[str, MessageChange]] = {}
    for change in changes:
        message_mark = writing.mark(change.message_key)
        mark = writing.mark(f"{change.message_key}|{change.change_key}")
        of_message = fresh.setdefault(message_mark, {})
        of_message[mark] = fold.join_changes(of_message[mark], change) if mark in of_message else change
    content_marks: dict[str, str] = {}
    known: dict[str, dict[str, MessageChange]] = {}
    for row in writing.select("SELECT * FROM message_change WHERE message_mark IN [keys]", {*message_marks, *fresh}):
        stored = MessageChange.model_validate(writing.unseal(row["body"]))
        known.setdefault(row["message_mark"], {})[row["change_mark"]] = stored
        content_marks[row["change_mark"]] = row["content_mark"]
    rows = []
    for message_mark in sorted(fresh):
        of_message = known.setdefault(message_mark, {})
        for mark, change in fresh[message_mark].items():
            of_message[mark] = fold.join_changes(of_message[mark], change) if mark in of_message else change
        if fold.is_unsent(of_message.values()):
            for mark, change in of_message.items():
                of_message[mark] = fold.change_without_content(change)
        for mark in sorted(of_message):
            change = of_message[mark]
            record = change.model_dump(mode="json")
            content_mark = writing.content_mark(record)
            owners = owners_then(writing, change.handles, change.changed_at)
            head = writing.meet(owners, change.person_id if owners[:1] == change.handles[:1] else None)
            if content_marks.get(mark) == content_mark:
                continue
            rows.append(
                {
                    "change_mark": mark,
                    "sequence": writing.number("message_changes"),
                    "content_mark": content_mark,
                    "body": writing.seal(record),
                    "message_mark": message_mark,
                    "head_mark": head,
                }
            )
    writing.upsert("message_change", rows)
    return {message_mark: list(of_message.values()) for message_mark, of_message in known.items()}


def message_record(codec: Codec, body: bytes, person_id: str | None) -> dict[str, Any]:
    """The archived message that a row's body holds, as JSON."""
    stored = unseal(codec, body)
    seen = stored["seen"]
    if len(seen) > 1:
        seen = [fold.merge_sightings([Message.model_validate(one) for one in seen]).model_dump(mode="json")]
    return {**seen[0], **_DEFAULTS, **stored["fold"], "person_id": person_id}


def read_message(codec: Codec, body: bytes, person_id: str | None) -> ArchivedMessage:
    """The archived message that a row's body holds."""
    return ArchivedMessage.model_validate(message_record(codec, body, person_id))


def token_mark(writing: Writing, token: str) -> str:
    """The fingerprint of a reply's token."""
    return writing.mark(f"token|{token}")


def _mails_apart(writing: Writing, messages: Sequence[Message]) -> Sequence[Message]:
    """The messages, where a mail under the Message-ID of another mail has a key of its own.

    Which of them keeps the plain key is decided by which came first.
    """
    marks = {writing.mark(message.message_key) for message in messages if message.thread_ids}
    known: dict[str, list[Message]] = {}
    for row in writing.select("SELECT message_mark, body FROM message WHERE message_mark IN [keys]", marks):
        known[row["message_mark"]] = [Message.model_validate(one) for one in writing.unseal(row["body"])["seen"]]
    apart = []
    for message in messages:
        if message.thread_ids:
            same = known.setdefault(writing.mark(message.message_key), [])
            if same and not any(fold.is_same_mail(message, one) for one in same):
                message = message.model_copy(update={"message_key": fold.key_of_another_mail(message)})
            else:
                same.append(message)
        apart.append(message)
    return apart


def _save_watermarks(writing: Writing, receipts: Sequence[Receipt]) -> set[str]:
    """Keep how far each conversation was delivered or read, and when; the marks of the messages this speaks of.

    All are kept, not the furthest alone: a message that comes late has the time of the first that reached it.
    """
    touched: set[str] = set()
    for receipt in receipts:
        if receipt.subject_kind != "conversation":
            continue
        conversation_mark = writing.mark(receipt.subject_key)
        up_to_at, occurred_at = time_text(receipt.up_to_at or receipt.occurred_at), time_text(receipt.occurred_at)
        written = writing.database.execute(
            "INSERT INTO watermark (conversation_mark, status, up_to_at, occurred_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (conversation_mark, status, up_to_at) DO UPDATE SET occurred_at = excluded.occurred_at"
            " WHERE excluded.occurred_at < watermark.occurred_at",
            (conversation_mark, receipt.status, up_to_at, occurred_at),
        )
        if written:
            # What an earlier watermark covers has an earlier time already: without this bound every receipt would
            # fold the whole conversation again.
            reached = writing.database.query_one(
                "SELECT MAX(up_to_at) AS at FROM watermark WHERE conversation_mark = ? AND status = ?"
                " AND up_to_at < ? AND occurred_at <= ?",
                (conversation_mark, receipt.status, up_to_at, occurred_at),
            )
            for part in with_parts(writing, [conversation_mark]):
                rows = writing.database.query(
                    "SELECT message_mark FROM message WHERE conversation_mark = ? AND direction = 'outbound'"
                    " AND sent_at <= ? AND sent_at > ?",
                    (part, up_to_at, (reached["at"] if reached else None) or ""),
                )
                touched.update(row["message_mark"] for row in rows)
    return touched


def _messages_of(writing: Writing, conversation_marks: Iterable[str]) -> set[str]:
    return {
        row["message_mark"]
        for row in writing.select(
            "SELECT message_mark FROM message WHERE conversation_mark IN [keys]",
            with_parts(writing, conversation_marks),
        )
    }


def _drafts(
    writing: Writing, marks: Iterable[str], new: dict[str, list[Message]], changes_of: dict[str, list[MessageChange]]
) -> dict[str, _Draft]:
    """Every message of `marks` that is known or new, with all sightings joined. What was taken back has no content."""
    rows = {
        row["message_mark"]: row for row in writing.select("SELECT * FROM message WHERE message_mark IN [keys]", marks)
    }
    drafts = {}
    for mark in sorted(rows.keys() | new.keys()):
        row, changes = rows.get(mark), changes_of.get(mark, [])
        before: list[Message] = []
        if row is not None:
            before = [Message.model_validate(one) for one in writing.unseal(row["body"])["seen"]]
        sightings = fold.join_sightings([*before, *new.get(mark, ())])
        if fold.is_unsent(changes):
            sightings = [fold.without_content(sighting) for sighting in sightings]
        drafts[mark] = _Draft(row, before, sightings, fold.merge_sightings(sightings), changes)
    return drafts


def _save(writing: Writing, drafts: dict[str, _Draft]) -> None:
    receipts: dict[str, list[Receipt]] = {}
    for row in writing.select(
        "SELECT subject_mark, body FROM receipt WHERE subject_kind = 'message' AND subject_mark IN [keys]", drafts
    ):
        receipts.setdefault(row["subject_mark"], []).append(_receipt(writing, row))
    of_replies: dict[str, list[Receipt]] = {}
    tokens = {draft.token_mark for draft in drafts.values() if draft.token_mark}
    for row in writing.select(
        "SELECT token_mark, body FROM receipt WHERE subject_kind = 'reply' AND token_mark IN [keys]", tokens
    ):
        of_replies.setdefault(row["token_mark"], []).append(_receipt(writing, row))
    marks = {mark: writing.mark(draft.conversation_key) for mark, draft in drafts.items()}
    threads = {mark: writing.mark(draft.thread_key) for mark, draft in drafts.items()}
    watermarks: dict[str, list[fold.Watermark]] = {}
    for row in writing.select("SELECT * FROM watermark WHERE conversation_mark IN [keys]", threads.values()):
        watermarks.setdefault(row["conversation_mark"], []).append(_watermark(row))
    rows = []
    for mark, draft in drafts.items():
        archived = fold.fold_message(
            draft.sightings,
            draft.changes,
            receipts.get(mark, ()),
            of_replies.get(draft.token_mark or "", ()),
            watermarks.get(threads[mark], ()),
            draft.key,
        )
        told = _row(writing, mark, draft, archived, marks[mark])
        if told is not None:
            rows.append(told)
            writing.conversations.add(marks[mark])
            if draft.row is not None:
                writing.conversations.add(draft.row["conversation_mark"])
    writing.upsert("message", rows)


def _row(
    writing: Writing, mark: str, draft: _Draft, archived: ArchivedMessage, conversation_mark: str
) -> dict[str, Any] | None:
    """The row to write; ``None`` when it says what is stored already."""
    record = archived.model_dump(mode="json")
    content_mark = writing.content_mark(record)
    profile = archived.profile if archived.author_kind == "customer" else None
    owners = owners_then(writing, archived.handles, archived.sent_at)
    stamp = archived.person_id if owners[:1] == archived.handles[:1] else None
    head = writing.meet(owners, stamp, profile.name if profile else None)
    before = draft.row
    same = before is not None and before["content_mark"] == content_mark
    if same and before is not None and before["head_mark"] == head and draft.before == draft.sightings:
        return None
    if len(draft.sightings) == 1 and all(vars(archived)[name] is value for name, value in vars(draft.merged).items()):
        seen = [{name: record[name] for name in Message.model_fields}]
        merged = {**_DEFAULTS, **seen[0]}
    else:
        seen = [one.model_dump(mode="json") for one in draft.sightings]
        merged = {**_DEFAULTS, **draft.merged.model_dump(mode="json")}
    writing.folded[mark] = archived
    return {
        "message_mark": mark,
        "sequence": before["sequence"] if same and before is not None else writing.number("messages"),
        "content_mark": content_mark,
        "body": writing.seal(
            {"seen": seen, "fold": {name: value for name, value in record.items() if value != merged[name]}}
        ),
        "channel": archived.channel,
        "direction": archived.direction,
        "role": fold.role_of(archived),
        "status": archived.status,
        "sent_at": time_text(archived.sent_at),
        "unsent": archived.unsent_at is not None,
        "request_folder": "request_folder" in archived.flags,
        "has_subject": archived.subject is not None,
        "conversation_mark": conversation_mark,
        "head_mark": head,
        "handles_mark": "|".join(writing.handle_mark(handle)[:16] for handle in archived.handles),
        "token_mark": draft.token_mark,
    }


def _receipt(writing: Writing, row: Row) -> Receipt:
    return Receipt.model_validate(writing.unseal(row["body"]))


def _watermark(row: Row) -> fold.Watermark:
    return fold.Watermark(
        row["status"], datetime.fromisoformat(row["up_to_at"]), datetime.fromisoformat(row["occurred_at"])
    )
