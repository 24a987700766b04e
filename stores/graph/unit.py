"""One write transaction on the graph: what it reads is the stored graph together with what it is about to write.

New handles and evidence are written at the end, with the person they got, so that each row is written once. Everything
that is read here therefore passes `Unit`, which adds what is not written yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import combinations, count
from operator import attrgetter
from typing import Any, NamedTuple

from mappings.records import Contact, Handle
from stores.codec import Codec
from stores.database import Database
from stores.graph.anchors import Anchor, follow_cuts, move_anchors, numbered
from stores.graph.memory import Recent, Seen
from stores.graph.nodes import (
    EvidenceKey,
    Ident,
    NewChange,
    Node,
    Piece,
    Touched,
    chunks,
    former_handle,
    ident_key,
    ident_of,
    merged_handles,
    moment_of,
    ordered,
    time_number,
    time_text,
)
from stores.graph.reading import Reading

_KEY = attrgetter("key")


class _NewHandle(NamedTuple):
    """A handle that was read for the first time; making a model of each would cost as much as encrypting it."""

    kind: str
    scope: str | None
    value: str


_new_handle: Callable[[Ident], _NewHandle] = partial(tuple.__new__, _NewHandle)


class Unit(Reading):
    """What the resolver reads and writes, inside one transaction."""

    def opened(self) -> tuple[Database, Codec]:
        """The store of this transaction and the codec of its values, for what `stores.graph` does beside this class."""
        self.flush()
        return self._database, self._codec

    # Handles and evidence

    @property
    def remembered(self) -> Recent[Seen]:
        """What was found for combinations of handles; ``None`` for those that are not remembered."""
        return self._memory.seen

    def handles(self, wanted: Iterable[Ident], link_of: Callable[[Any], str]) -> dict[Ident, Node]:
        """The stored handle of each; those not known yet are added, and `link_of` says what an `AnyHandle` may do."""
        found: dict[Ident, Node] = {}
        missing: dict[str, Ident] = {}
        for ident in wanted:
            node = self._memory.by_ident.get(ident)
            if node is not None:
                found[ident] = node
            else:
                missing[self._codec.fingerprint(ident_key(ident))] = ident
        for chunk in chunks(sorted(missing)):
            sql = "SELECT id, kind, scope, link, person_id, value, fingerprint FROM handle WHERE fingerprint IN ([])"
            for row in self._database.query(sql.replace("[]", ", ".join("?" for _ in chunk)), chunk):
                ident = missing.pop(row["fingerprint"])
                found[ident] = self._node(row, ident)
        if missing:
            self._add(missing, found, link_of)
        self._held.update({node.handle_id: node for node in found.values()})
        return found

    def _add(self, missing: Mapping[str, Ident], found: dict[Ident, Node], link_of: Callable[[Any], str]) -> None:
        memory, codec = self._memory, self._codec
        new = [(fingerprint, _new_handle(missing[fingerprint])) for fingerprint in sorted(missing)]
        values = codec.encrypt_each([handle.value.encode() for _, handle in new])
        first = self._new_handle_ids(len(new))
        made: dict[Ident, Node] = {}
        for handle_id, (fingerprint, handle), value in zip(count(first), new, values, strict=False):
            kind, scope, _ = handle
            node = Node(handle_id, kind, scope, link_of(handle), None, value, codec, fingerprint, {})
            self._fresh[handle_id] = made[handle] = node
        memory.nodes.put_all({node.handle_id: node for node in made.values()})
        memory.by_ident.put_all(made)
        found.update(made)

    def _new_handle_ids(self, many: int) -> int:
        """The first of so many new ids."""
        memory = self._memory
        if memory.next_handle_id is None:
            row = self._database.query_one("SELECT COALESCE(MAX(id), 0) + 1 AS next FROM handle")
            memory.next_handle_id = int(row["next"]) if row else 1
        memory.next_handle_id += many
        return memory.next_handle_id - many

    def pieces(self, keys: Iterable[EvidenceKey]) -> dict[EvidenceKey, Piece]:
        """The evidence of those keys; what is not known yet has no time, until `see`."""
        found: dict[EvidenceKey, Piece] = {}
        unknown: set[EvidenceKey] = set()
        for key in keys:
            if (piece := self._memory.pieces.get(key)) is not None:
                found[key] = piece
            else:
                unknown.add(key)
        fresh = self._fresh
        pairs = {key[:2] for key in unknown if not (key[0] in fresh or key[1] in fresh)}
        for chunk in chunks(sorted(pairs)):
            values = ", ".join(f"({a}, {b})" for a, b in chunk)
            # A join, in this order: SQLite reads all of evidence for `(a, b) IN (VALUES ...)`.
            sql = (
                "WITH pair (a, b) AS (VALUES [pairs]) SELECT e.a, e.b, e.method, e.strength, e.first_at, e.last_at"
                " FROM pair p CROSS JOIN evidence e WHERE e.a = p.a AND e.b = p.b"
            )
            for row in self._database.query(sql.replace("[pairs]", values)):
                key = (row["a"], row["b"], row["method"], row["strength"])
                if key in unknown:
                    found[key] = Piece(key, row["first_at"], row["last_at"], stored=True)
        for key in unknown - found.keys():
            found[key] = Piece(key, 0, 0, False)
        self._memory.pieces.put_all({key: found[key] for key in unknown})
        return found

    def see(self, piece: Piece, moment: int) -> bool:
        """Take one sighting into a piece of evidence; whether it is new or turns out to be older than known.

        Only sets, the earliest and the latest time are kept, so that order and repetition do not matter.
        """
        news = False
        if not piece.stored and not piece.dirty:
            piece.first = piece.last = moment
            news = True
        elif moment < piece.first:
            piece.first, news = moment, True
        elif moment > piece.last:
            piece.last = moment
        else:
            return False
        if not piece.dirty:
            piece.dirty = True
            self._dirty.append(piece)
        return news

    def seen_again(self) -> set[int]:
        """The handles of which this transaction tells an earlier or later time, or new evidence, so far."""
        return {handle_id for piece in self._dirty for handle_id in piece.key[:2]}

    def look_up_said(self, nodes: Iterable[Node]) -> None:
        """Fill in `Node.said` where it is not known."""
        unknown = {node.handle_id: node for node in nodes if node.said is None}
        for node in unknown.values():
            node.said = {}
        for row in self._rows(
            "SELECT handle_id, field, value, observed_at FROM observation WHERE handle_id IN [ids]", unknown
        ):
            said = unknown[row["handle_id"]].said
            assert said is not None  # noqa: S101 (set above)
            value = self._codec.decrypt(row["value"]).decode()
            said[row["field"]] = (row["observed_at"], value)

    def observe(self, node: Node, field: str, moment: int, value: str) -> bool:
        """Keep what was said of a handle if it is the newest; whether its value is another one now."""
        if node.said is None:
            self.look_up_said([node])
        said = node.said = node.said or {}
        before = said.get(field)
        if before is not None and (moment, value) <= before:
            return False
        said[field] = now = (moment, value)
        anew = self._said_anew[field]
        if before is not None and before[1] == value and node.handle_id not in anew:
            self._said_again[field][node.handle_id] = moment
            return False
        anew[node.handle_id] = now
        return before is None or before[1] != value

    # Contacts

    def save_contact(self, contact: Contact, nodes: Mapping[Ident, Node], linked: Sequence[Handle]) -> Touched:
        """Take one version of a CRM contact; the newest version counts, whatever order they come in.

        Args:
            contact: its record handle is the first of `handles`.
            nodes: of all its handles and of `merged_handles`.
            linked: the handles that its evidence links, the record's own first.
        """
        self.flush()
        record_id, modified_at = nodes[ident_of(contact.handles[0])].handle_id, time_text(contact.modified_at)
        first_at = time_number(contact.modified_at)
        content = contact.model_dump_json(exclude={"raw_ref", "person_id", "owner_id"})
        version = f"{modified_at}|{self._codec.fingerprint(content)}"
        state = "deleted" if contact.deleted else "projection" if contact.projection else "live"
        name = self._codec.encrypt(contact.name.encode()) if contact.name else None
        before = self._database.query_one("SELECT version, first_at FROM contact WHERE record_id = ?", (record_id,))
        touched = Touched()
        newer = before is None or version > before["version"]
        earlier = before is None or first_at < before["first_at"]
        if newer:
            self._database.execute(
                "INSERT INTO contact (record_id, version, first_at, modified_at, state, handle_ids, name,"
                " identity_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (record_id) DO UPDATE SET"
                " version = excluded.version, modified_at = excluded.modified_at, state = excluded.state,"
                " handle_ids = excluded.handle_ids, name = excluded.name, identity_key = excluded.identity_key",
                (
                    record_id, version, first_at, modified_at, state,
                    json.dumps([nodes[ident_of(handle)].handle_id for handle in linked]), name, contact.identity_key,
                ),
            )  # fmt: skip
            touched.renamed.add(record_id)
        if before is not None and earlier:
            self._database.execute("UPDATE contact SET first_at = ? WHERE record_id = ?", (first_at, record_id))
        old_ids = {nodes[ident_of(handle)].handle_id for handle in merged_handles(contact)} - {record_id}
        new_merges = [
            old_id
            for old_id in sorted(old_ids)
            if self._database.execute(
                "INSERT INTO contact_merge (old_id, record_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (old_id, record_id),
            )
        ]
        if newer or new_merges or earlier:
            self._refresh_contact(record_id, touched, reorder=earlier)
        for old_id in new_merges:
            self._refresh_contact(old_id, touched)
        return touched

    def _refresh_contact(self, record_id: int, touched: Touched, *, reorder: bool = False) -> None:
        """Make the evidence of one contact what its newest version says; a merged one has none of its own."""
        row = self._database.query_one("SELECT state, handle_ids FROM contact WHERE record_id = ?", (record_id,))
        if row is None:
            return
        wanted: set[tuple[int, int, str]] = set()
        if row["state"] == "live":
            merges = self._database.query("SELECT old_id FROM contact_merge WHERE record_id = ?", (record_id,))
            wanted = {(*ordered(record_id, merge["old_id"]), "crm_merge") for merge in merges}
            if self._database.query_one("SELECT 1 FROM contact_merge WHERE old_id = ?", (record_id,)) is None:
                handle_ids = dict.fromkeys(json.loads(row["handle_ids"]))
                wanted |= {(*ordered(a, b), "contact") for a, b in combinations(handle_ids, 2)}
                wanted.add((record_id, record_id, "contact"))
        known = {
            (pair["a"], pair["b"], pair["method"])
            for pair in self._database.query(
                "SELECT a, b, method FROM contact_evidence WHERE record_id = ?", (record_id,)
            )
        }
        gone, new = sorted(known - wanted), sorted(wanted - known)
        self._database.execute_many(
            "DELETE FROM contact_evidence WHERE record_id = ? AND a = ? AND b = ? AND method = ?",
            [(record_id, *pair) for pair in gone],
        )
        self._database.execute_many(
            "INSERT INTO contact_evidence (record_id, a, b, method) VALUES (?, ?, ?, ?)",
            [(record_id, *pair) for pair in new],
        )
        touched.withdrawn.update(handle_id for pair in gone for handle_id in pair[:2])
        changed = wanted | known if reorder else {*gone, *new}
        touched.handle_ids.update(handle_id for pair in changed for handle_id in pair[:2])
        touched.renamed.add(record_id)

    # What follows

    def save_links(self, links: Mapping[int, str]) -> None:
        """What each of the handles may do from now on."""
        for handle_id, node in self.nodes(links).items():
            node.link = links[handle_id]
        self._database.execute_many(
            "UPDATE handle SET link = ? WHERE id = ?",
            [(link, handle_id) for handle_id, link in sorted(links.items()) if handle_id not in self._fresh],
        )

    def assign(self, persons: Mapping[int, str | None]) -> None:
        """Give handles to persons: handle id -> person id, ``None`` for a handle nothing speaks of any more."""
        for handle_id, node in self.nodes(persons).items():
            node.person_id = persons[handle_id]
        stored = sorted(persons.keys() - self._fresh.keys())
        self._database.execute_many(
            "UPDATE handle SET person_id = ? WHERE id = ?", [(persons[handle_id], handle_id) for handle_id in stored]
        )

    def save_persons(self, anchors: dict[str, Anchor], minted: Iterable[str]) -> None:
        """Add the minted persons, and put the ids of the others at other anchors: person id -> anchor."""
        self.flush()
        if not anchors:
            return
        new, now = set(minted), time_text(datetime.now(UTC))
        anchors = numbered(self._database, anchors, self._next_sequences(len(anchors)))
        self._renewed.update({person_id: anchors[person_id].number for person_id in new})
        self._database.execute_many(
            "INSERT INTO person (id, created_at, sequence, claimed, anchor_id, since, alone)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (person_id, now, anchor.number, anchor.number, anchor.handle_id, anchor.since, int(anchor.alone))
                for person_id, anchor in sorted(anchors.items())
                if person_id in new
            ],
        )
        moved = {person_id: anchor for person_id, anchor in anchors.items() if person_id not in new}
        if moved:
            move_anchors(self._database, moved)
            self._memory.has_other_anchors = True

    def replace_conflicts(self, handle_ids: Iterable[int], conflicts: Mapping[tuple[int, int], str]) -> None:
        """The refused links among these handles are now exactly `conflicts`: pair -> reason."""
        if self._database.query_one("SELECT 1 FROM conflict LIMIT 1") is not None:
            for chunk in chunks(sorted(handle_ids)):
                listed = f"({', '.join(map(str, chunk))})"
                self._database.execute("DELETE FROM conflict WHERE a IN [ids] OR b IN [ids]".replace("[ids]", listed))
        self._database.execute_many(
            "INSERT INTO conflict (a, b, reason) VALUES (?, ?, ?)",
            [(*pair, reason) for pair, reason in sorted(conflicts.items())],
        )

    def log_changes(self, changes: Sequence[NewChange]) -> None:
        """Append merges and splits to the log, in this order."""
        if not changes:
            return
        first, now = self._next_sequences(len(changes)), time_text(datetime.now(UTC))
        self._database.execute_many(
            "INSERT INTO person_change (sequence, change, from_ids, into_id, handle_ids, why, changed_at, spans)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    first + index, change.change, json.dumps(change.from_person_ids), change.into_person_id,
                    json.dumps(change.handle_ids), change.why, now, self._spans(change.handle_ids),
                )
                for index, change in enumerate(changes)
            ],
        )  # fmt: skip

    def _spans(self, handle_ids: Iterable[int]) -> str | None:
        """Of the handles that changed hands: [handle as seen, since, until] as JSON; ``None`` when none did."""
        if not self._memory.has_cuts:
            return None
        asked = set(handle_ids)
        spans: list[tuple[int, int | None, int | None]] = []
        for handle_id, cuts in sorted(self.cuts(self.with_cuts(asked)).items()):
            since: int | None = None
            for until, old_id in cuts:
                if old_id in asked:
                    spans.append((handle_id, since, until))
                since = until
            if handle_id in asked:
                spans.append((handle_id, since, None))
        return json.dumps(spans) if spans else None

    def mark_changed(self, person_ids: Iterable[str]) -> None:
        """Move these persons to the end of `Graph.persons_changed_since`; those just added are there already."""
        changed = sorted(set(person_ids) - self._renewed.keys())
        if not changed:
            return
        first = self._next_sequences(len(changed))
        self._database.execute_many(
            "UPDATE person SET sequence = ? WHERE id = ?",
            [(first + index, person_id) for index, person_id in enumerate(changed)],
        )

    def _next_sequences(self, count: int) -> int:
        row = self._database.query(
            "UPDATE counter SET value = value + ? WHERE name = 'sequence' RETURNING value", (count,)
        )[0]
        return int(row["value"]) - count + 1

    def flush(self) -> None:
        """Write the new handles, evidence and observations."""
        fresh, self._fresh = self._fresh, {}
        self._database.execute_many(
            "INSERT INTO handle (id, fingerprint, kind, scope, value, link, person_id)"
            " VALUES (?, ?, ?, NULLIF(?, ''), ?, ?, ?)",
            [
                (
                    node.handle_id, node.fingerprint, node.kind, node.scope or "", node.stored_value, node.link,
                    node.person_id,
                )
                for node in fresh.values()
            ],
        )  # fmt: skip
        dirty, self._dirty = self._dirty, []
        dirty.sort(key=_KEY)
        for piece in dirty:
            piece.stored, piece.dirty = True, False
        # As an UPDATE, those that are stored already would be looked up by `b` and then once more by the whole key.
        self._database.execute_many(
            "INSERT INTO evidence (first_at, last_at, a, b, method, strength) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT"
            " (a, b, method, strength) DO UPDATE SET first_at = excluded.first_at, last_at = excluded.last_at",
            [(piece.first, piece.last, *piece.key) for piece in dirty],
        )
        self._unwritten_of.clear()
        self._sorted_in = 0
        for field, again in self._said_again.items():
            self._database.execute_many(
                "UPDATE observation SET observed_at = ? WHERE handle_id = ? AND field = ?",
                [(again[handle_id], handle_id, field) for handle_id in sorted(again)],
            )
        for field, anew in self._said_anew.items():
            handle_ids = sorted(anew)
            values = self._codec.encrypt_each([anew[handle_id][1].encode() for handle_id in handle_ids])
            self._database.execute_many(
                "INSERT INTO observation (observed_at, handle_id, field, value) VALUES (?, ?, ?, ?) ON CONFLICT"
                " (handle_id, field) DO UPDATE SET value = excluded.value, observed_at = excluded.observed_at",
                [
                    (anew[handle_id][0], handle_id, field, value)
                    for handle_id, value in zip(handle_ids, values, strict=True)
                ],
            )
        self._said_again.clear()
        self._said_anew.clear()

    # Decisions and cuts

    def save_decision(
        self, kind: str, a: int, b: int | None, *, since: datetime | None, actor: str, reason: str | None
    ) -> int:
        """Keep what somebody decided; its number."""
        self.flush()
        row = self._database.query(
            "INSERT INTO decision (kind, a, b, since, actor, reason, decided_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " RETURNING id",
            (
                kind, a, b, time_number(since) if since else None, self._codec.encrypt(actor.encode()),
                self._codec.encrypt(reason.encode()) if reason else None, time_text(datetime.now(UTC)),
            ),
        )[0]  # fmt: skip
        self._memory.has_decisions = True
        return int(row["id"])

    def revoke_decision(self, decision_id: int, actor: str) -> tuple[int, int | None, str] | None:
        """Take a decision back: its handles and kind; ``None`` when there is none, or it was taken back before."""
        rows = self._database.query(
            "UPDATE decision SET revoked_at = ?, revoked_by = ? WHERE id = ? AND revoked_at IS NULL"
            " RETURNING a, b, kind",
            (time_text(datetime.now(UTC)), self._codec.encrypt(actor.encode()), decision_id),
        )
        return (rows[0]["a"], rows[0]["b"], rows[0]["kind"]) if rows else None

    def save_cuts(self, node: Node, times: Iterable[int]) -> set[int]:
        """The handle changed hands at exactly these times; the ids of what it was until each, and no longer is."""
        self.flush()
        cuts = self.cuts([node.handle_id])
        known = dict(cuts.get(node.handle_id, []))
        wanted = set(times)
        touched = set(known.values())
        for since in sorted(known.keys() - wanted):
            self._database.execute("DELETE FROM cut WHERE handle_id = ? AND since = ?", (node.handle_id, since))
        for since in sorted(wanted - known.keys()):
            former = former_handle(node.handle, time_text(moment_of(since)))
            old_id = self.handles([ident_of(former)], lambda _: "links")[ident_of(former)].handle_id
            self.flush()
            self._database.execute(
                "INSERT INTO cut (handle_id, since, old_id) VALUES (?, ?, ?)", (node.handle_id, since, old_id)
            )
            touched.add(old_id)
            self._memory.has_cuts = True
        if known.keys() != wanted:
            follow_cuts(self._database, cuts, {node.handle_id: self.cuts([node.handle_id]).get(node.handle_id, [])})
            self._database.execute(
                "INSERT INTO counter (name, value) VALUES ('cuts', 1)"
                " ON CONFLICT (name) DO UPDATE SET value = counter.value + 1"
            )
        return touched
