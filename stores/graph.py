"""The identity graph: handles, the evidence between them, and the persons that follow from it.

Readers use the first half of `Graph`. The second half is for the resolver in ``identity``, inside `Graph.transaction`:
it writes evidence, reads the touched part of the graph back and writes what follows. No rule of who is who is here.

A pair (a, a) says that a handle was seen alone. Evidence of messages only grows; the evidence of a CRM contact is
replaced with each newer version of that contact.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import combinations
from typing import Any, NamedTuple, TypeVar

from mappings.records import Contact, Handle, PersonChange
from stores.codec import Codec
from stores.database import Row, Stores

_CHUNK = 500
_Item = TypeVar("_Item")

EvidenceKey = tuple[int, int, str, str]
"""Two handle ids (the smaller first), method, strength."""


class Edge(NamedTuple):
    """One piece of evidence that two handles belong together; ``a == b`` when a handle was seen alone."""

    a: int
    b: int
    method: str
    strength: str
    first_at: str


@dataclass(eq=False)
class Node:
    """A handle as stored; its value is decrypted only when somebody asks for it."""

    handle_id: int
    kind: str
    scope: str | None
    link: str
    person_id: str | None
    _value: bytes
    _codec: Codec

    @cached_property
    def handle(self) -> Handle:
        """The handle itself."""
        return Handle(kind=self.kind, scope=self.scope, value=self._codec.decrypt(self._value).decode())

    @property
    def key(self) -> str:
        """The canonical text of the handle: what ties are broken by, never by the row's id."""
        return self.handle.key


class Conflict(NamedTuple):
    """A link that a rule refused, with the persons that were kept apart."""

    handles: tuple[Handle, Handle]
    person_ids: tuple[str | None, str | None]
    reason: str


class NewChange(NamedTuple):
    """A merge or split to be logged; handles by their ids."""

    change: str
    from_person_ids: list[str]
    into_person_id: str
    handle_ids: list[int]
    why: str


@dataclass(slots=True)
class Touched:
    """What new evidence may have changed: handles to look at again, those that lost evidence, those renamed."""

    handle_ids: set[int] = field(default_factory=set)
    withdrawn: set[int] = field(default_factory=set)
    renamed: set[int] = field(default_factory=set)


def time_text(moment: datetime) -> str:
    """An aware moment as text whose order is the order in time."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Graph:
    """Who is who, as last decided."""

    def __init__(self, stores: Stores) -> None:
        self._codec = stores.codec
        self._database = stores.database("graph")

    def person_of(self, handle: Handle) -> str | None:
        """The person this handle belongs to now; ``None`` when nothing is known of it.

        A CRM contact that our own target made is no evidence; it gives the person that was written on it.
        """
        row = self._database.query_one(
            "SELECT id, person_id FROM handle WHERE fingerprint = ?", (self._codec.fingerprint(handle.key),)
        )
        if row is None:
            return None
        return row["person_id"] or self.projected_person(row["id"])

    def current(self, person_id: str) -> str:
        """The person that `person_id` is part of now: itself, or the survivor of its merges. Unknown ids: itself."""
        row = self._database.query_one(
            "SELECT h.person_id FROM person p JOIN handle h ON h.id = p.anchor_id WHERE p.id = ?", (person_id,)
        )
        return (row["person_id"] if row else None) or person_id

    def handles_of(self, person_id: str) -> list[Handle]:
        """All handles of a person, sorted by their keys; none for a person that was merged or never was."""
        ids = self.handle_ids_of([person_id])
        return sorted((node.handle for node in self.nodes(ids).values()), key=lambda handle: handle.key)

    def is_shared(self, person_id: str) -> bool:
        """Whether this is the person of a handle that several people use (a shared line, a role mailbox)."""
        row = self._database.query_one(
            "SELECT 1 FROM handle WHERE person_id = ? AND link <> 'links' LIMIT 1", (person_id,)
        )
        return row is not None

    def best_name(self, person_id: str) -> str | None:
        """The name to show: of a CRM contact if there is one, else as a platform said; the newest, then the text."""
        rows = self._database.query(
            "SELECT c.name AS value, c.modified_at AS at FROM contact c JOIN handle h ON h.id = c.record_id"
            " WHERE h.person_id = ? AND c.state = 'live' AND c.name IS NOT NULL AND NOT EXISTS"
            " (SELECT 1 FROM contact_merge m WHERE m.old_id = c.record_id)",
            (person_id,),
        )
        return self._newest(rows) or self._newest_observation(person_id, "name")

    def best_locale(self, person_id: str) -> str | None:
        """The locale that a platform said last."""
        return self._newest_observation(person_id, "locale")

    def persons_changed_since(self, sequence: int, limit: int) -> list[tuple[int, str]]:
        """(sequence, person id) of the persons that changed after `sequence`, oldest change first, each once."""
        rows = self._database.query(
            "SELECT sequence, id FROM person WHERE sequence > ? ORDER BY sequence LIMIT ?", (sequence, limit)
        )
        return [(row["sequence"], row["id"]) for row in rows]

    def changes_since(self, sequence: int, limit: int) -> list[PersonChange]:
        """The merges and splits after `sequence`, in their order. `conversation_keys` are the archive's to fill."""
        rows = self._database.query(
            "SELECT * FROM person_change WHERE sequence > ? ORDER BY sequence LIMIT ?", (sequence, limit)
        )
        ids = {row["sequence"]: json.loads(row["handle_ids"]) for row in rows}
        nodes = self.nodes({handle_id for handle_ids in ids.values() for handle_id in handle_ids})
        return [
            PersonChange(
                sequence=row["sequence"],
                change=row["change"],
                from_person_ids=json.loads(row["from_ids"]),
                into_person_id=row["into_id"],
                handles=sorted(
                    (nodes[handle_id].handle for handle_id in ids[row["sequence"]]), key=lambda handle: handle.key
                ),
                why=row["why"],
                changed_at=datetime.fromisoformat(row["changed_at"]),
            )
            for row in rows
        ]

    def last_sequence(self) -> int:
        """The highest sequence given out, to persons and changes alike."""
        row = self._database.query_one("SELECT value FROM counter WHERE name = 'sequence'")
        return int(row["value"]) if row else 0

    def why(self, person_id: str, limit: int = 500) -> list[dict[str, Any]]:
        """The evidence that speaks of a person's handles, oldest first, at most `limit` pieces.

        Each: ``handles`` (two, or one that was seen alone), ``method``, ``strength``, ``first_at``, ``last_at``,
        ``same_person`` (whether both ended up in this person) and ``refused`` (the rule that kept them apart).
        """
        ids = self.handle_ids_of([person_id])
        rows = self._rows(
            "SELECT a, b, method, strength, first_at, last_at FROM evidence WHERE a IN [ids] OR b IN [ids]"
            " UNION ALL SELECT e.a, e.b, e.method, 'crm', c.first_at, c.modified_at FROM contact_evidence e"
            " JOIN contact c ON c.record_id = e.record_id WHERE e.a IN [ids] OR e.b IN [ids]"
            " ORDER BY first_at, method, a, b LIMIT ?",
            ids,
            (limit,),
        )
        nodes = self.nodes({handle_id for row in rows for handle_id in (row["a"], row["b"])})
        refused = {
            (row["a"], row["b"]): row["reason"]
            for row in self._rows("SELECT a, b, reason FROM conflict WHERE a IN [ids] OR b IN [ids]", ids)
        }
        return [
            {
                "handles": [nodes[handle_id].handle for handle_id in dict.fromkeys((row["a"], row["b"]))],
                "method": row["method"],
                "strength": row["strength"],
                "first_at": row["first_at"],
                "last_at": row["last_at"],
                "same_person": {nodes[row["a"]].person_id, nodes[row["b"]].person_id} == {person_id},
                "refused": refused.get((row["a"], row["b"])),
            }
            for row in rows
        ]

    def conflicts(self, limit: int = 200) -> list[Conflict]:
        """Links that a rule refused, with both persons as they are now."""
        rows = self._database.query("SELECT a, b, reason FROM conflict ORDER BY a, b LIMIT ?", (limit,))
        nodes = self.nodes({handle_id for row in rows for handle_id in (row["a"], row["b"])})
        return [
            Conflict(
                (nodes[row["a"]].handle, nodes[row["b"]].handle),
                (nodes[row["a"]].person_id, nodes[row["b"]].person_id),
                row["reason"],
            )
            for row in rows
        ]

    # For the resolver, inside `transaction`.

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One write transaction: everything is read again inside it, so that several processes agree."""
        with self._database.transaction():
            yield

    def setting(self, name: str) -> str | None:
        """What `save_setting` kept under `name`."""
        row = self._database.query_one("SELECT value FROM setting WHERE name = ?", (name,))
        return row["value"] if row else None

    def save_setting(self, name: str, value: str) -> None:
        """Keep `value` (nothing personal) under `name`."""
        self._database.execute(
            "INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    def save_handles(self, handles: Iterable[Handle], link_of: Callable[[Handle], str]) -> dict[Handle, int]:
        """The id of each handle; those not known yet are added, and `link_of` says what they may do."""
        fingerprints = {handle: self._codec.fingerprint(handle.key) for handle in handles}
        by_fingerprint = {mark: handle for handle, mark in fingerprints.items()}
        known = self._ids_by_fingerprint(by_fingerprint)
        missing = sorted(by_fingerprint.keys() - known.keys())
        self._database.execute_many(
            "INSERT INTO handle (fingerprint, kind, scope, value, link) VALUES (?, ?, ?, ?, ?)",
            [
                (mark, handle.kind, handle.scope, self._codec.encrypt(handle.value.encode()), link_of(handle))
                for mark, handle in ((mark, by_fingerprint[mark]) for mark in missing)
            ],
        )
        known |= self._ids_by_fingerprint(missing)
        return {handle: known[mark] for handle, mark in fingerprints.items()}

    def save_evidence(self, seen: Mapping[EvidenceKey, tuple[str, str]]) -> list[EvidenceKey]:
        """Add evidence with its first and last time; those pieces that are new or turn out to be older than known.

        Only sets, the earliest and the latest time are kept, so that order and repetition do not matter.
        """
        known: dict[EvidenceKey, tuple[str, str]] = {}
        pairs = sorted({key[:2] for key in seen})
        for chunk in _chunks(pairs):
            values = ", ".join(f"({a}, {b})" for a, b in chunk)
            # A join, in this order: SQLite reads all of evidence for `(a, b) IN (VALUES ...)`.
            sql = (
                "WITH pair (a, b) AS (VALUES [pairs]) SELECT e.a, e.b, e.method, e.strength, e.first_at, e.last_at"
                " FROM pair p CROSS JOIN evidence e WHERE e.a = p.a AND e.b = p.b"
            )
            for row in self._database.query(sql.replace("[pairs]", values)):
                known[row["a"], row["b"], row["method"], row["strength"]] = (row["first_at"], row["last_at"])
        news = []
        rows = []
        for key in sorted(seen):
            first_at, last_at = seen[key]
            before = known.get(key)
            if before is None or first_at < before[0]:
                news.append(key)
            if before is not None:
                first_at, last_at = min(first_at, before[0]), max(last_at, before[1])
            if (first_at, last_at) != before:
                rows.append((*key, first_at, last_at))
        self._database.execute_many(
            "INSERT INTO evidence (a, b, method, strength, first_at, last_at) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (a, b, method, strength) DO UPDATE SET first_at = excluded.first_at,"
            " last_at = excluded.last_at",
            rows,
        )
        return news

    def save_contact(self, contact: Contact, ids: Mapping[Handle, int], linked: Sequence[Handle]) -> Touched:
        """Take one version of a CRM contact; the newest version counts, whatever order they come in.

        Args:
            contact: its record handle is the first of `handles`.
            ids: of all its handles and of `merged_handles`.
            linked: the handles that its evidence links, the record's own first.
        """
        record_id, modified_at = ids[contact.handles[0]], time_text(contact.modified_at)
        content = contact.model_dump_json(exclude={"raw_ref", "person_id", "owner_id"})
        version = f"{modified_at}|{self._codec.fingerprint(content)}"
        state = "deleted" if contact.deleted else "projection" if contact.projection else "live"
        name = self._codec.encrypt(contact.name.encode()) if contact.name else None
        before = self._database.query_one("SELECT version, first_at FROM contact WHERE record_id = ?", (record_id,))
        touched = Touched()
        newer = before is None or version > before["version"]
        earlier = before is None or modified_at < before["first_at"]
        if newer:
            self._database.execute(
                "INSERT INTO contact (record_id, version, first_at, modified_at, state, handle_ids, name,"
                " identity_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (record_id) DO UPDATE SET"
                " version = excluded.version, modified_at = excluded.modified_at, state = excluded.state,"
                " handle_ids = excluded.handle_ids, name = excluded.name, identity_key = excluded.identity_key",
                (
                    record_id, version, modified_at, modified_at, state,
                    json.dumps([ids[handle] for handle in linked]), name, contact.identity_key,
                ),
            )  # fmt: skip
            touched.renamed.add(record_id)
        if before is not None and earlier:
            self._database.execute("UPDATE contact SET first_at = ? WHERE record_id = ?", (modified_at, record_id))
        old_ids = {ids[handle] for handle in merged_handles(contact)} - {record_id}
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

    def observe(self, observations: Mapping[tuple[int, str], tuple[str, str]]) -> set[int]:
        """Keep what was said of handles: (handle id, field) -> (time, value), the newest; the handles renamed."""
        rows = self._rows(
            "SELECT handle_id, field, value, observed_at FROM observation WHERE handle_id IN [ids]",
            {handle_id for handle_id, _ in observations},
        )
        known = {(row["handle_id"], row["field"]): row for row in rows}
        renamed: set[int] = set()
        changed = []
        for key in sorted(observations):
            observed_at, value = observations[key]
            before = known.get(key)
            if before is not None:
                old = self._codec.decrypt(before["value"]).decode()
                if (observed_at, value) <= (before["observed_at"], old):
                    continue
            if before is None or old != value:
                renamed.add(key[0])
            changed.append((*key, self._codec.encrypt(value.encode()), observed_at))
        self._database.execute_many(
            "INSERT INTO observation (handle_id, field, value, observed_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (handle_id, field) DO UPDATE SET value = excluded.value, observed_at = excluded.observed_at",
            changed,
        )
        return renamed

    def nodes(self, handle_ids: Iterable[int]) -> dict[int, Node]:
        """The stored handles of those ids."""
        return {
            row["id"]: Node(
                row["id"], row["kind"], row["scope"], row["link"], row["person_id"], row["value"], self._codec
            )
            for row in self._rows(
                "SELECT id, kind, scope, link, person_id, value FROM handle WHERE id IN [ids]", handle_ids
            )
        }

    def edges(self, handle_ids: Iterable[int]) -> set[Edge]:
        """All evidence that speaks of any of the handles, of every strength."""
        rows = self._rows(
            "SELECT a, b, method, strength, first_at FROM evidence WHERE a IN [ids]"
            " UNION SELECT a, b, method, strength, first_at FROM evidence WHERE b IN [ids]"
            " UNION SELECT e.a, e.b, e.method, 'crm', c.first_at FROM contact_evidence e"
            " JOIN contact c ON c.record_id = e.record_id WHERE e.a IN [ids]"
            " UNION SELECT e.a, e.b, e.method, 'crm', c.first_at FROM contact_evidence e"
            " JOIN contact c ON c.record_id = e.record_id WHERE e.b IN [ids]",
            handle_ids,
        )
        return {Edge(*row) for row in rows}

    def alive(self, handle_ids: Iterable[int], strengths: Sequence[str]) -> set[int]:
        """Those of the handles that any evidence of these strengths speaks of."""
        crm = (
            " OR EXISTS (SELECT 1 FROM contact_evidence e WHERE e.a = h.id)"
            " OR EXISTS (SELECT 1 FROM contact_evidence e WHERE e.b = h.id)"
        )
        marks = ", ".join("?" for _ in strengths)
        sql = (
            "SELECT h.id FROM handle h WHERE h.id IN [ids] AND ("
            "EXISTS (SELECT 1 FROM evidence e WHERE e.a = h.id AND e.strength IN ([strengths]))"
            " OR EXISTS (SELECT 1 FROM evidence e WHERE e.b = h.id AND e.strength IN ([strengths]))[crm])"
        )
        sql = sql.replace("[strengths]", marks).replace("[crm]", crm if "crm" in strengths else "")
        return {row["id"] for row in self._rows(sql, handle_ids, (*strengths, *strengths))}

    def handle_ids_after(self, handle_id: int, limit: int) -> list[int]:
        """The next ids of all handles, in order; 0 starts."""
        rows = self._database.query("SELECT id FROM handle WHERE id > ? ORDER BY id LIMIT ?", (handle_id, limit))
        return [row["id"] for row in rows]

    def handle_ids_of(self, person_ids: Iterable[str]) -> list[int]:
        """The ids of all handles of these persons."""
        ids: list[int] = []
        for chunk in _chunks(sorted(person_ids)):
            marks = ", ".join("?" for _ in chunk)
            rows = self._database.query("SELECT id FROM handle WHERE person_id IN ([])".replace("[]", marks), chunk)
            ids.extend(row["id"] for row in rows)
        return ids

    def anchored_at(self, handle_ids: Iterable[int]) -> dict[str, int]:
        """Every person, living or merged, whose id is held by one of the handles: person id -> handle id."""
        rows = self._rows("SELECT id, anchor_id FROM person WHERE anchor_id IN [ids]", handle_ids)
        return {row["id"]: row["anchor_id"] for row in rows}

    def projected_person(self, handle_id: int) -> str | None:
        """The person written on a CRM contact that our target made, also when other records were merged into it."""
        row = self._database.query_one(
            "SELECT identity_key FROM contact WHERE state = 'projection' AND identity_key IS NOT NULL"
            " AND (record_id = ? OR record_id IN (SELECT record_id FROM contact_merge WHERE old_id = ?))"
            " ORDER BY version DESC LIMIT 1",
            (handle_id, handle_id),
        )
        return self.current(row["identity_key"]) if row else None

    def save_links(self, links: Mapping[int, str]) -> None:
        """What each of the handles may do from now on."""
        self._database.execute_many(
            "UPDATE handle SET link = ? WHERE id = ?", [(link, handle_id) for handle_id, link in sorted(links.items())]
        )

    def save_persons(self, anchors: Mapping[str, int]) -> None:
        """Add persons, or move the anchor of those that exist: person id -> handle id."""
        now = time_text(datetime.now(UTC))
        self._database.execute_many(
            "INSERT INTO person (id, anchor_id, created_at, sequence) VALUES (?, ?, ?, 0)"
            " ON CONFLICT (id) DO UPDATE SET anchor_id = excluded.anchor_id",
            [(person_id, anchor_id, now) for person_id, anchor_id in sorted(anchors.items())],
        )

    def assign(self, persons: Mapping[int, str | None]) -> None:
        """Give handles to persons: handle id -> person id, ``None`` for a handle nothing speaks of any more."""
        self._database.execute_many(
            "UPDATE handle SET person_id = ? WHERE id = ?",
            [(person_id, handle_id) for handle_id, person_id in sorted(persons.items())],
        )

    def replace_conflicts(self, handle_ids: Iterable[int], conflicts: Mapping[tuple[int, int], str]) -> None:
        """The refused links among these handles are now exactly `conflicts`: pair -> reason."""
        for chunk in _chunks(sorted(handle_ids)):
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
        first = self._next_sequences(len(changes))
        now = time_text(datetime.now(UTC))
        self._database.execute_many(
            "INSERT INTO person_change (sequence, change, from_ids, into_id, handle_ids, why, changed_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    first + index, change.change, json.dumps(change.from_person_ids), change.into_person_id,
                    json.dumps(change.handle_ids), change.why, now,
                )
                for index, change in enumerate(changes)
            ],
        )  # fmt: skip

    def mark_changed(self, person_ids: Iterable[str]) -> None:
        """Move these persons to the end of `persons_changed_since`."""
        changed = sorted(person_ids)
        if not changed:
            return
        first = self._next_sequences(len(changed))
        self._database.execute_many(
            "UPDATE person SET sequence = ? WHERE id = ?",
            [(first + index, person_id) for index, person_id in enumerate(changed)],
        )

    def _refresh_contact(self, record_id: int, touched: Touched, *, reorder: bool = False) -> None:
        """Make the evidence of one contact what its newest version says; a merged one has none of its own."""
        row = self._database.query_one("SELECT state, handle_ids FROM contact WHERE record_id = ?", (record_id,))
        if row is None:
            return
        wanted: set[tuple[int, int, str]] = set()
        if row["state"] == "live":
            merges = self._database.query("SELECT old_id FROM contact_merge WHERE record_id = ?", (record_id,))
            wanted = {(*_pair(record_id, merge["old_id"]), "crm_merge") for merge in merges}
            if self._database.query_one("SELECT 1 FROM contact_merge WHERE old_id = ?", (record_id,)) is None:
                handle_ids = dict.fromkeys(json.loads(row["handle_ids"]))
                wanted |= {(*_pair(a, b), "contact") for a, b in combinations(handle_ids, 2)}
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

    def _ids_by_fingerprint(self, fingerprints: Iterable[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for chunk in _chunks(sorted(fingerprints)):
            marks = ", ".join("?" for _ in chunk)
            for row in self._database.query(
                "SELECT fingerprint, id FROM handle WHERE fingerprint IN ([])".replace("[]", marks), chunk
            ):
                found[row["fingerprint"]] = row["id"]
        return found

    def _rows(self, sql: str, handle_ids: Iterable[int], parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows of `sql` with ``[ids]`` standing for the handle ids, asked in pieces; ids are our own integers."""
        rows: list[Row] = []
        for chunk in _chunks(sorted(handle_ids)):
            rows.extend(self._database.query(sql.replace("[ids]", f"({', '.join(map(str, chunk))})"), parameters))
        return rows

    def _newest(self, rows: Iterable[Row]) -> str | None:
        values = [(row["at"], self._codec.decrypt(row["value"]).decode()) for row in rows]
        return max(values)[1] if values else None

    def _newest_observation(self, person_id: str, name: str) -> str | None:
        return self._newest(
            self._database.query(
                "SELECT o.value, o.observed_at AS at FROM observation o JOIN handle h ON h.id = o.handle_id"
                " WHERE h.person_id = ? AND o.field = ?",
                (person_id, name),
            )
        )

    def _next_sequences(self, count: int) -> int:
        row = self._database.query(
            "UPDATE counter SET value = value + ? WHERE name = 'sequence' RETURNING value", (count,)
        )[0]
        return int(row["value"]) - count + 1


def merged_handles(contact: Contact) -> list[Handle]:
    """The record handles of the CRM records that were merged into `contact`."""
    record = contact.handles[0]
    return [Handle(kind=record.kind, scope=record.scope, value=old) for old in contact.merged_record_ids]


def _pair(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a <= b else (b, a)


def _chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
