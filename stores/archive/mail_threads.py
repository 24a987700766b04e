"""Which mails are one conversation: the ids they name, joined per account and customer address, in any order.

Each id that a mail names (its own, those it refers to) is a node; a mail joins its nodes into one set. A set's key is
the id of the mail that started it: the furthest that a mail refers to, and that itself refers to none; of several the
smallest. It follows from the mails alone, not from their order, and it seldom changes when a mail is added.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mappings import ids
from mappings.errors import PayloadError
from mappings.records import Handle, Message
from stores.archive.writing import Writing, unseal
from stores.codec import Codec
from stores.database import Database


def thread_now(database: Database, codec: Codec, key: str) -> str | None:
    """The key of the mail thread that the one with this key has become part of; ``None`` when it is no mail thread."""
    try:
        channel, account, thread = ids.parse_conversation_key(key)
    except PayloadError:
        return None
    local, at, rest = thread.partition("@")
    domain, slash, thread_id = rest.partition("/")
    if not slash:
        return None
    head = Handle(kind="email", value=f"{local}{at}{domain}")
    row = database.query_one(
        "SELECT t.body FROM mail_node n JOIN mail_thread t ON t.set_mark = n.set_mark WHERE n.node_mark = ?",
        (codec.fingerprint(_node_text(channel, account, head, thread_id)),),
    )
    return str(unseal(codec, row["body"])["key"]) if row else None


@dataclass(slots=True)
class _Node:
    set_mark: str
    starts: bool
    follows: bool
    thread_id: str | None
    changed: bool


class MailThreads:
    """The sets of joined mails, inside one write transaction."""

    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._parents: dict[str, str] = {}

    def join(self, messages: Iterable[Message]) -> set[str]:
        """Join what these messages name; the marks of conversations whose key is another now."""
        threaded = [message for message in messages if message.thread_ids and message.handles]
        if not threaded:
            return set()
        named = {
            mark: (thread_id, message)
            for message in threaded
            for thread_id in message.thread_ids
            for mark in [self._node_mark(message, message.handles[0], thread_id)]
        }
        nodes = {
            row["node_mark"]: _Node(row["set_mark"], bool(row["starts"]), bool(row["follows"]), None, changed=False)
            for row in self._writing.select("SELECT * FROM mail_node WHERE node_mark IN [keys]", named)
        }
        for mark, (thread_id, _) in named.items():
            nodes.setdefault(mark, _Node(mark, starts=False, follows=False, thread_id=thread_id, changed=True))
        touched = {node.set_mark: message for mark, (_, message) in named.items() if (node := nodes[mark]).changed}
        for message in threaded:
            touched |= dict.fromkeys(self._join_one(message, nodes), message)
        self._save_nodes(nodes)
        return self._name({self._root(mark): message for mark, message in touched.items()}, set(touched))

    def keys_of(self, messages: Iterable[tuple[str, Message]]) -> dict[str, str]:
        """The conversation key of each message (given with its mark) that belongs to a mail thread."""
        wanted: dict[str, list[str]] = {}
        for mark, message in messages:
            if message.thread_ids and message.handles:
                node = self._node_mark(message, message.handles[0], message.thread_ids[0])
                wanted.setdefault(node, []).append(mark)
        return {
            mark: self._writing.unseal(row["body"])["key"]
            for row in self._writing.select(
                "SELECT n.node_mark, t.body FROM mail_node n JOIN mail_thread t ON t.set_mark = n.set_mark"
                " WHERE n.node_mark IN [keys]",
                wanted,
            )
            for mark in wanted[row["node_mark"]]
        }

    def _join_one(self, message: Message, nodes: dict[str, _Node]) -> set[str]:
        """Join the nodes of one message; the marks of the sets that this changed."""
        own, *named = [self._node_mark(message, message.handles[0], one) for one in message.thread_ids]
        referred = [mark for mark in named if mark != own]
        touched = set()
        first = nodes[referred[-1] if referred else own]  # nearest first, so the root is the last
        if not first.starts:
            first.starts = first.changed = True
            touched.add(first.set_mark)
        if referred and not nodes[own].follows:
            nodes[own].follows = nodes[own].changed = True
            touched.add(nodes[own].set_mark)
        for mark in referred:
            a, b = sorted((self._root(nodes[own].set_mark), self._root(nodes[mark].set_mark)))
            if a != b:
                self._parents[b] = a
                touched |= {a, b}
        return touched

    def _save_nodes(self, nodes: dict[str, _Node]) -> None:
        codec = self._writing.codec
        new = [(mark, node) for mark, node in nodes.items() if node.thread_id is not None]
        self._writing.upsert(
            "mail_node",
            [
                {
                    "node_mark": mark,
                    "set_mark": self._root(node.set_mark),
                    "starts": node.starts,
                    "follows": node.follows,
                    "thread_id": codec.encrypt(str(node.thread_id).encode("utf-8", "surrogatepass")),
                }
                for mark, node in new
            ],
        )
        self._writing.database.execute_many(
            "UPDATE mail_node SET starts = ?, follows = ? WHERE node_mark = ?",
            sorted(
                (node.starts, node.follows, mark)
                for mark, node in nodes.items()
                if node.changed and node.thread_id is None
            ),
        )
        self._writing.database.execute_many(
            "UPDATE mail_node SET set_mark = ? WHERE set_mark = ?",
            [(self._root(absorbed), absorbed) for absorbed in sorted(self._parents)],
        )

    def _name(self, roots: dict[str, Message], sets: set[str]) -> set[str]:
        """Give each set its key; the marks of the conversations that are no more what they were."""
        codec = self._writing.codec
        starts: dict[str, list[tuple[bool, str]]] = {}
        for row in self._writing.select(
            "SELECT set_mark, follows, thread_id FROM mail_node WHERE starts = 1 AND set_mark IN [keys]", roots
        ):
            thread_id = codec.decrypt(row["thread_id"]).decode("utf-8", "surrogatepass")
            starts.setdefault(row["set_mark"], []).append((bool(row["follows"]), thread_id))
        before = {
            row["set_mark"]: row["conversation_mark"]
            for row in self._writing.select(
                "SELECT set_mark, conversation_mark FROM mail_thread WHERE set_mark IN [keys]", sets | roots.keys()
            )
        }
        rows: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        for set_mark, message in roots.items():
            thread = f"{message.handles[0].value}/{min(starts[set_mark])[1]}"
            key = ids.conversation_key(message.channel, message.account, thread)
            after[set_mark] = self._writing.mark(key)
            if before.get(set_mark) != after[set_mark]:
                body = self._writing.seal({"key": key})
                rows.append({"set_mark": set_mark, "conversation_mark": after[set_mark], "body": body})
        self._writing.upsert("mail_thread", rows)
        absorbed = sorted(before.keys() - after.keys())
        self._writing.database.execute_many(
            "DELETE FROM mail_thread WHERE set_mark = ?", [(set_mark,) for set_mark in absorbed]
        )
        return {mark for set_mark, mark in before.items() if after.get(self._root(set_mark)) != mark}

    def _root(self, set_mark: str) -> str:
        while set_mark in self._parents:
            set_mark = self._parents[set_mark]
        return set_mark

    def _node_mark(self, message: Message, head: Handle, thread_id: str) -> str:
        return self._writing.mark(_node_text(message.channel, message.account, head, thread_id))


def _node_text(channel: str, account: str, head: Handle, thread_id: str) -> str:
    return f"thread|{channel}|{account}|{head.key}|{thread_id}"
