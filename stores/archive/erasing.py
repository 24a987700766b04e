"""Everything in the archive that is one person's: read for an export, and deleted by an erasure.

What is theirs follows from the handle that heads a record, as it was at the record's time. A conversation is theirs as
a whole only if all its messages are: in a group others keep what they wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mappings import fold, ids
from mappings.records import Consent, Handle, Message, PersonChange
from stores.archive.former import HANDLE_PREFIX, owners_then
from stores.archive.messages import message_record
from stores.archive.writing import Writing, select_in, unseal
from stores.codec import Codec
from stores.database import Database, Row
from stores.graph.erasing import Subject


@dataclass(slots=True)
class Theirs:
    """What is a person's, as records (JSON values) by stream, and by which marks it is found again.

    Attributes:
        records: stream -> records.
        message_keys: of their messages, by mark; of a message that never came only changes or receipts are here.
        conversation_keys: of the conversations that are theirs as a whole.
        reply_keys: of our replies among the messages.
        raw_refs: where the raw bytes of all this are.
        heads: marks of their handles.
        changes: the changes, by mark.
    """

    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    message_keys: dict[str, str] = field(default_factory=dict)
    conversation_keys: dict[str, str] = field(default_factory=dict)
    reply_keys: set[str] = field(default_factory=set)
    raw_refs: set[str] = field(default_factory=set)
    heads: set[str] = field(default_factory=set)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known to be theirs before the archive is asked.

    Attributes:
        handles: of which the graph has nothing left.
        message_keys: of messages.
        reply_keys: of our replies to them.
    """

    handles: tuple[Handle, ...] = ()
    message_keys: tuple[str, ...] = ()
    reply_keys: tuple[str, ...] = ()


class ArchiveReader:
    """Finds what is a person's; reads only."""

    def __init__(self, database: Database, codec: Codec) -> None:
        self._database = database
        self._codec = codec

    def heads_of(self, subject: Subject) -> set[str]:
        """The marks of the subject's handles, and of those that only the archive has (stamped, or made by a target)."""
        marks = {self._codec.fingerprint(handle.key) for handle in subject.heads}
        rows = self._select(
            "SELECT handle_mark FROM handle WHERE graph_sequence IS NULL AND person_id IN [keys]", subject.person_ids
        )
        return marks | {row["handle_mark"] for row in rows}

    def find(self, subject: Subject, known: Known) -> Theirs:
        """Everything that the handles of a person head, and what is `known` besides."""
        heads = self.heads_of(subject) | {self._codec.fingerprint(one.key) for one in known.handles}
        theirs = Theirs(heads=heads, reply_keys=set(known.reply_keys))
        theirs.message_keys = {self._codec.fingerprint(key): key for key in known.message_keys}
        conversations = self._find_messages(theirs, subject)
        self._find_conversations(theirs, conversations)
        self._find_changes(theirs, subject)
        self._find_receipts(theirs)
        for stream, table, time in (("consents", "consent", "decided_at"), ("contacts", "contact", "modified_at")):
            rows = self._select(f"SELECT body FROM {table} WHERE head_mark IN [keys]", theirs.heads)  # noqa: S608
            found = [self._unseal(row) for row in rows]
            theirs.records[stream] = [one for one in found if subject.is_in_time(_moment(one[time]))]
        marks = [self._consent_mark(one) for one in theirs.records["consents"]]
        rows = self._select("SELECT body FROM consent_decision WHERE consent_mark IN [keys]", marks)
        decisions = [Consent.model_validate(self._unseal(row)) for row in rows]
        theirs.records["consent_decisions"] = [
            one.model_dump(mode="json")
            for one in decisions
            if subject.is_in_time(one.decided_at) and subject.owns(one.handle, one.decided_at) is not False
        ]
        for records in theirs.records.values():
            theirs.raw_refs |= {record["raw_ref"] for record in records if record.get("raw_ref")}
        return theirs

    def _find_messages(self, theirs: Theirs, subject: Subject) -> set[str]:
        conversations: set[str] = set()
        found: list[dict[str, Any]] = []
        marks: set[str] = set()
        for sql, keys in (
            ("SELECT message_mark, conversation_mark, body FROM message WHERE head_mark IN [keys]", theirs.heads),
            (
                "SELECT message_mark, conversation_mark, body FROM message WHERE message_mark IN [keys]",
                set(theirs.message_keys),
            ),
        ):
            for row in self._select(sql, keys):
                if row["message_mark"] in marks:
                    continue
                record = message_record(self._codec, row["body"], None)
                if not subject.is_in_time(_moment(record["sent_at"])):
                    continue
                marks.add(row["message_mark"])
                found.append(record)
                conversations.add(row["conversation_mark"])
                theirs.message_keys[row["message_mark"]] = record["message_key"]
                seen = self._unseal(row)["seen"]
                theirs.raw_refs |= {one["raw_ref"] for one in seen if one.get("raw_ref")}
                theirs.reply_keys |= {one["reply_key"] for one in seen if one.get("reply_key")}
        theirs.records["messages"] = sorted(found, key=lambda one: (one["sent_at"], one["message_key"]))
        return conversations

    def _find_conversations(self, theirs: Theirs, marks: set[str]) -> None:
        others = {
            row["conversation_mark"]
            for row in self._select(
                "SELECT conversation_mark, message_mark FROM message WHERE conversation_mark IN [keys]", marks
            )
            if row["message_mark"] not in theirs.message_keys
        }  # fmt: skip
        found = []
        for row in self._select(
            "SELECT conversation_mark, body FROM conversation WHERE conversation_mark IN [keys]", marks
        ):
            record = self._unseal(row)
            found.append({**record, "shared_with_others": row["conversation_mark"] in others})
            if row["conversation_mark"] not in others:
                theirs.conversation_keys[row["conversation_mark"]] = record["conversation_key"]
        theirs.records["conversations"] = found

    def _find_changes(self, theirs: Theirs, subject: Subject) -> None:
        found = theirs.changes
        for column, keys in (("message_mark", set(theirs.message_keys)), ("head_mark", theirs.heads)):
            sql = f"SELECT change_mark, message_mark, body FROM message_change WHERE {column} IN [keys]"  # noqa: S608
            for row in self._select(sql, keys):
                # A reaction of theirs to somebody else's message goes, and that message stays.
                record = self._unseal(row)
                if row["message_mark"] in theirs.message_keys or subject.is_in_time(_moment(record["changed_at"])):
                    found[row["change_mark"]] = record
        theirs.records["message_changes"] = [found[mark] for mark in sorted(found)]

    def _find_receipts(self, theirs: Theirs) -> None:
        replies = {self._codec.fingerprint(key) for key in theirs.reply_keys}
        subjects = {*theirs.message_keys, *theirs.conversation_keys, *replies}
        tokens = {self._codec.fingerprint(f"token|{ids.reply_token(key)}") for key in theirs.reply_keys}
        found = {}
        for column, keys in (("subject_mark", subjects), ("token_mark", tokens)):
            sql = f"SELECT receipt_mark, body FROM receipt WHERE {column} IN [keys]"  # noqa: S608
            found.update({row["receipt_mark"]: self._unseal(row) for row in self._select(sql, keys)})
        theirs.records["receipts"] = [found[mark] for mark in sorted(found)]

    def _consent_mark(self, consent: Mapping[str, Any]) -> str:
        key = "|".join(consent[name] for name in ("handle_key", "channel", "account", "purpose"))
        return self._codec.fingerprint(f"consent|{key}")

    def _unseal(self, row: Row) -> Any:
        return unseal(self._codec, row["body"])

    def _select(self, sql: str, keys: Iterable[str]) -> list[Row]:
        return list(select_in(self._database, sql, keys))


def erase_from_archive(writing: Writing, subject: Subject, theirs: Theirs) -> dict[str, int]:
    """Delete what is theirs, inside one write transaction; how many rows of each kind.

    Conversations and persons that have others' messages are derived again at its end. Repeats: harmless.
    """
    eraser = _Eraser(writing, subject, theirs)
    eraser.erase()
    return eraser.counts


class _Eraser:
    def __init__(self, writing: Writing, subject: Subject, theirs: Theirs) -> None:
        self._writing = writing
        self._database = writing.database
        self._subject = subject
        self._theirs = theirs
        self.counts: dict[str, int] = {}

    def erase(self) -> None:
        theirs, delete = self._theirs, self._delete
        touched = {
            row["conversation_mark"]
            for row in self._writing.select(
                "SELECT conversation_mark FROM message WHERE message_mark IN [keys]", theirs.message_keys
            )
        } | theirs.conversation_keys.keys()
        self._erase_mail_threads()
        self._writing.refold |= self._reacted_to() | self._strip_others()
        delete("messages", "message", "message_mark", theirs.message_keys)
        delete("changes", "message_change", "message_mark", theirs.message_keys)
        delete("changes", "message_change", "change_mark", theirs.changes)
        replies = {self._writing.mark(key) for key in theirs.reply_keys}
        delete("receipts", "receipt", "subject_mark", {*theirs.message_keys, *theirs.conversation_keys, *replies})
        tokens = {self._writing.mark(f"token|{ids.reply_token(key)}") for key in theirs.reply_keys}
        delete("receipts", "receipt", "token_mark", tokens)
        self._erase_consents()
        contacts = {
            row["contact_mark"]
            for row in self._writing.select("SELECT contact_mark FROM contact WHERE head_mark IN [keys]", theirs.heads)
        }
        delete("contacts", "contact", "contact_mark", contacts)
        delete(None, "contact_merge", "contact_mark", contacts)
        delete(None, "contact_merge", "into_mark", contacts)
        delete(None, "name_word", "handle_mark", theirs.heads)
        delete(None, "handle", "handle_mark", theirs.heads)
        self._erase_conversations(touched)
        self._erase_from_log()
        persons = set(self._subject.person_ids)
        delete("persons", "person", "person_id", persons)
        self._database.execute_many(
            "UPDATE conversation SET person_id = NULL WHERE person_id = ?", [(one,) for one in sorted(persons)]
        )

    def _strip_others(self) -> set[str]:
        """Take their handles off messages that others head; the marks of these."""
        prefixes = {self._writing.mark(one.handle.key)[:HANDLE_PREFIX] for one in self._subject.owned}
        if not prefixes:
            return set()
        where = " OR ".join("handles_mark LIKE ?" for _ in prefixes)
        rows = self._database.query(
            f"SELECT message_mark, body FROM message WHERE {where}",  # noqa: S608
            [f"%{one}%" for one in sorted(prefixes)],
        )
        stripped = set()
        for row in rows:
            stored = self._writing.unseal(row["body"])
            if row["message_mark"] in self._theirs.message_keys:
                continue
            for record in (*stored["seen"], stored["fold"]):
                moment = _moment(stored["seen"][0]["sent_at"])
                left = [one for one in record.get("handles", ()) if not self._is_theirs(one, moment)]
                if len(left) != len(record.get("handles", ())):
                    record["handles"] = left
                    stripped.add(row["message_mark"])
            if row["message_mark"] in stripped:
                self._database.execute(
                    "UPDATE message SET body = ? WHERE message_mark = ?",
                    (self._writing.seal(stored), row["message_mark"]),
                )
        return stripped

    def _is_theirs(self, handle: Mapping[str, Any], moment: datetime) -> bool:
        return bool(self._subject.owns(Handle.model_validate(handle), moment))

    def _reacted_to(self) -> set[str]:
        """What is folded again: messages of others that they reacted to, and what came by their handles since."""
        marks = {
            row["message_mark"]
            for row in self._writing.select(
                "SELECT message_mark FROM message_change WHERE change_mark IN [keys]", self._theirs.changes
            )
        }
        marks |= {
            row["message_mark"]
            for row in self._writing.select(
                "SELECT message_mark FROM message WHERE head_mark IN [keys]", self._theirs.heads
            )
        }
        return marks - self._theirs.message_keys.keys()

    def _emptied(self) -> set[str]:
        """Conversations of theirs that another absorbed: what is left of them is a key, which may name them."""
        values = {one.handle.value for one in self._subject.owned}
        found = set()
        for row in self._database.query("SELECT conversation_mark, body FROM conversation WHERE message_count = 0"):
            thread = ids.parse_conversation_key(self._writing.unseal(row["body"])["conversation_key"])[2]
            if any(thread == value or thread.startswith((f"{value}/", f"{value} until ")) for value in values):
                found.add(row["conversation_mark"])
        return found

    def _erase_conversations(self, touched: Iterable[str]) -> None:
        """Those of which nothing is left go without a word; the others are derived again from what is left."""
        marks = set(touched) | self._emptied()
        marks |= {
            row["conversation_mark"]
            for row in self._writing.select(
                "SELECT conversation_mark FROM conversation WHERE head_mark IN [keys]", self._theirs.heads
            )
        }
        alive = {
            row["conversation_mark"]
            for row in self._writing.select(
                "SELECT DISTINCT conversation_mark FROM message WHERE conversation_mark IN [keys]", marks
            )
        }
        self._delete("conversations", "conversation", "conversation_mark", marks - alive)
        bases = {
            row["base_mark"]
            for row in self._writing.select(
                "SELECT base_mark FROM conversation_part WHERE conversation_mark IN [keys]", marks - alive
            )
        }
        self._delete(None, "conversation_part", "conversation_mark", marks - alive)
        empty = {
            mark
            for mark in (marks | bases) - alive
            if self._database.query_one("SELECT 1 FROM message WHERE conversation_mark = ?", (mark,)) is None
            and self._database.query_one("SELECT 1 FROM conversation_part WHERE base_mark = ?", (mark,)) is None
        }
        self._delete(None, "watermark", "conversation_mark", empty)
        self._writing.conversations |= alive

    def _erase_consents(self) -> None:
        """Delete the decisions of the time in which the handle was theirs; another owner's stay and count."""
        rows = self._writing.select("SELECT consent_mark FROM consent WHERE head_mark IN [keys]", self._theirs.heads)
        by_head = {row["consent_mark"] for row in rows}
        marks = by_head | self._consents_in_time()
        rows = self._writing.select("SELECT head_mark FROM consent WHERE consent_mark IN [keys]", marks)
        self._writing.deciders.update(row["head_mark"] for row in rows)
        for mark in sorted(marks):
            left: list[Consent] = []
            for row in self._database.query("SELECT * FROM consent_decision WHERE consent_mark = ?", (mark,)):
                decision = Consent.model_validate(self._writing.unseal(row["body"]))
                is_theirs = self._subject.owns(decision.handle, decision.decided_at)
                in_time = self._subject.is_in_time(decision.decided_at)
                if is_theirs or (is_theirs is None and mark in by_head and in_time):
                    self._delete("consents", "consent_decision", "decision_mark", [row["decision_mark"]])
                else:
                    left.append(decision)
            self._database.execute("DELETE FROM consent WHERE consent_mark = ?", (mark,))
            if left:
                self._keep_consent(mark, left)

    def _consents_in_time(self) -> set[str]:
        """Marks of consents of handles that others had too: their last word may be another owner's."""
        handles = {one.handle.key for one in self._subject.owned if one.is_shared_in_time}
        if not handles:
            return set()
        return {
            row["consent_mark"]
            for row in self._database.query("SELECT consent_mark, body FROM consent")
            if self._writing.unseal(row["body"])["handle_key"] in handles
        }

    def _keep_consent(self, mark: str, decisions: Sequence[Consent]) -> None:
        consent = decisions[0]
        for other in decisions[1:]:
            consent = fold.join_consents(consent, other)
        record = consent.model_dump(mode="json")
        head = self._writing.meet(owners_then(self._writing, [consent.handle], consent.decided_at), None)
        self._writing.deciders.update([head] if head else [])
        row = {
            "consent_mark": mark,
            "sequence": self._writing.number("consents"),
            "content_mark": self._writing.content_mark(record),
            "body": self._writing.seal(record),
            "head_mark": head,
        }
        self._writing.upsert("consent", [row])

    def _erase_mail_threads(self) -> None:
        """Delete the ids by which their mails were joined."""
        nodes: set[str] = set()
        for record in self._theirs.records.get("messages", ()):
            message = Message.model_validate({name: record[name] for name in Message.model_fields})
            for handle in message.handles[:1]:
                nodes |= {
                    self._writing.mark(f"thread|{message.channel}|{message.account}|{handle.key}|{one}")
                    for one in message.thread_ids
                }
        sets = {
            row["set_mark"]
            for row in self._writing.select("SELECT set_mark FROM mail_node WHERE node_mark IN [keys]", nodes)
        }
        self._delete(None, "mail_node", "node_mark", nodes)
        alive = {
            row["set_mark"]
            for row in self._writing.select("SELECT DISTINCT set_mark FROM mail_node WHERE set_mark IN [keys]", sets)
        }
        self._delete(None, "mail_thread", "set_mark", sets - alive)

    def _erase_from_log(self) -> None:
        """Take their handles and conversations out of the merges and splits that are still told."""
        handles = {one.key for one in (*self._subject.heads, *self._subject.former)}
        conversations = set(self._theirs.conversation_keys.values())
        for row in self._database.query("SELECT graph_sequence, body FROM person_change"):
            change = PersonChange.model_validate(self._writing.unseal(row["body"]))
            if change.change == "erase":
                continue
            left = [one for one in change.handles if one.key not in handles]
            keys = [one for one in change.conversation_keys if one not in conversations]
            if (left, keys) == (change.handles, change.conversation_keys):
                continue
            if not left:
                self._database.execute("DELETE FROM person_change WHERE graph_sequence = ?", (row["graph_sequence"],))
                continue
            known = {one.key for one in left}
            spans = [one for one in change.spans if one.handle.key in known]
            record = change.model_copy(update={"handles": left, "conversation_keys": keys, "spans": spans})
            body = self._writing.seal(record.model_dump(mode="json"))
            self._database.execute(
                "UPDATE person_change SET body = ?, content_mark = ? WHERE graph_sequence = ?",
                (body, self._writing.content_mark(record.model_dump(mode="json")), row["graph_sequence"]),
            )

    def _delete(self, what: str | None, table: str, column: str, keys: Iterable[str]) -> None:
        wanted = sorted(set(keys))
        before = self.counts.get(what or "", 0)
        number = 0
        for start in range(0, len(wanted), 500):
            chunk = wanted[start : start + 500]
            places = ", ".join("?" for _ in chunk)
            number += self._database.execute(f"DELETE FROM {table} WHERE {column} IN ({places})", chunk)  # noqa: S608
        if what is not None and number:
            self.counts[what] = before + number


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
