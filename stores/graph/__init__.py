"""The identity graph: handles, the evidence between them, and the persons that follow from it.

Readers use the first half of `Graph`. The second half is for the resolver in ``identity``, inside `Graph.transaction`:
it writes evidence, reads the touched part of the graph back and writes what follows. No rule of who is who is here.

A pair (a, a) says that a handle was seen alone. Evidence of messages only grows; the evidence of a CRM contact is
replaced with each newer version of that contact.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from mappings.records import Handle, HandleSpan, PersonChange
from stores.database import Row, Stores
from stores.graph.erasing import GraphReader, Subject
from stores.graph.memory import Memory, Seen
from stores.graph.nodes import (
    FORMER,
    AnyHandle,
    Edge,
    EvidenceKey,
    Ident,
    NewChange,
    Node,
    Piece,
    Touched,
    ident_of,
    merged_handles,
    moment_of,
    ordered,
    time_number,
    time_text,
)
from stores.graph.rows import handle_ids_of, rows_of
from stores.graph.tombstones import Tombstones
from stores.graph.unit import Unit

__all__ = [
    "FORMER", "AnyHandle", "Conflict", "Decision", "Edge", "EvidenceKey", "Graph", "Ident", "NewChange", "Node",
    "Piece", "Seen", "Told", "Touched", "Unit", "ident_of", "merged_handles", "moment_of", "ordered", "time_number",
    "time_text",
]  # fmt: skip


_PAGE = 1000


class Conflict(NamedTuple):
    """A link that a rule refused, with the persons that were kept apart."""

    handles: tuple[Handle, Handle]
    person_ids: tuple[str | None, str | None]
    reason: str


class Decision(NamedTuple):
    """What somebody decided: `kind` is same, different, shared, private or recycled (then `since` says from when)."""

    decision_id: int
    kind: str
    handles: tuple[Handle, ...]
    since: datetime | None
    actor: str
    reason: str | None
    decided_at: datetime
    revoked_at: datetime | None
    revoked_by: str | None


class Told(NamedTuple):
    """One piece of evidence with its times (microseconds since 1970); handles that changed hands as they were then."""

    a: int
    b: int
    method: str
    strength: str
    first_at: int
    last_at: int


class Graph:
    """Who is who, as last decided."""

    def __init__(self, stores: Stores) -> None:
        self._codec = stores.codec
        self._database = stores.database("graph")
        self._memory = Memory()
        self.tombstones = Tombstones(self._database, self._codec)

    def subject(self, person_id: str) -> Subject | None:
        """The person with everything that is theirs, and only that; ``None`` for an id that no handle has."""
        return GraphReader(self._database, self._codec).subject(self.current(person_id))

    def known_of(self, subject: Subject) -> dict[str, list[dict[str, Any]]]:
        """What the graph holds of a person: ``evidence`` and ``names``, as JSON values."""
        reader = GraphReader(self._database, self._codec)
        return {"evidence": reader.evidence_of(subject), "names": reader.names_of(subject)}

    def person_of(self, handle: Handle, at: datetime | None = None) -> str | None:
        """The person this handle belongs to; ``None`` when nothing is known of it.

        A CRM contact that our own target made is no evidence; it gives the person that was written on it.

        Args:
            handle: whose.
            at: a moment, for a handle that has changed hands since; by default, now.
        """
        row = self._database.query_one(
            "SELECT id, person_id FROM handle WHERE fingerprint = ?", (self._codec.fingerprint(handle.key),)
        )
        if row is None:
            return None
        if at is not None:
            old = self._database.query_one(
                "SELECT h.id, h.person_id FROM cut c JOIN handle h ON h.id = c.old_id"
                " WHERE c.handle_id = ? AND c.since > ? ORDER BY c.since LIMIT 1",
                (row["id"], time_number(at)),
            )
            row = old or row
        return row["person_id"] or self.projected_person(row["id"])

    def current(self, person_id: str) -> str:
        """The person that `person_id` is part of now: itself, or the survivor of its merges. Unknown ids: itself."""
        row = self._database.query_one(
            "SELECT h.person_id FROM person p JOIN handle h ON h.id = p.anchor_id WHERE p.id = ?", (person_id,)
        )
        return (row["person_id"] if row else None) or person_id

    def handles_of(self, person_id: str) -> list[Handle]:
        """All handles of a person, sorted by their keys; none for a person that was merged or never was."""
        ids = handle_ids_of(self._database, [person_id])
        return sorted((node.handle for node in self._nodes(ids).values()), key=lambda handle: handle.key)

    def members(self) -> Iterator[tuple[Handle, str]]:
        """Every handle that is somebody's, with the person, in the order of the rows."""
        last = 0
        while rows := self._database.query(
            "SELECT id FROM handle WHERE id > ? AND person_id IS NOT NULL ORDER BY id LIMIT ?", (last, _PAGE)
        ):
            for node in self._nodes(row["id"] for row in rows).values():
                yield node.handle, node.person_id or ""
            last = rows[-1]["id"]

    def is_shared(self, person_id: str) -> bool:
        """Whether this is the person of a handle that several people use (a shared line, a role mailbox)."""
        row = self._database.query_one(
            "SELECT COUNT(*) AS handles, SUM(CASE WHEN link = 'links' THEN 1 ELSE 0 END) AS linking FROM handle"
            " WHERE person_id = ?",
            (person_id,),
        )
        return row is not None and row["handles"] > 0 and not row["linking"]

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
        spans = {row["sequence"]: json.loads(row["spans"]) if row["spans"] else [] for row in rows}
        spoken_of = {handle_id for handle_ids in ids.values() for handle_id in handle_ids}
        nodes = self._nodes(spoken_of | {span[0] for of_change in spans.values() for span in of_change})
        return [
            PersonChange(
                sequence=row["sequence"],
                change=row["change"],
                from_person_ids=json.loads(row["from_ids"]),
                into_person_id=row["into_id"],
                handles=sorted(
                    (nodes[handle_id].handle for handle_id in ids[row["sequence"]]), key=lambda handle: handle.key
                ),
                spans=[
                    HandleSpan(
                        handle=nodes[handle_id].handle,
                        since=None if since is None else moment_of(since),
                        until=None if until is None else moment_of(until),
                    )
                    for handle_id, since, until in spans[row["sequence"]]
                ],
                why=row["why"],
                changed_at=datetime.fromisoformat(row["changed_at"]),
            )
            for row in rows
        ]

    def last_sequence(self) -> int:
        """The highest sequence given out, to persons and changes alike."""
        row = self._database.query_one("SELECT value FROM counter WHERE name = 'sequence'")
        return int(row["value"]) if row else 0

    def cut_version(self) -> int:
        """Another number whenever a handle changed hands, or turned out not to have."""
        row = self._database.query_one("SELECT value FROM counter WHERE name = 'cuts'")
        return int(row["value"]) if row else 0

    def cuts(self) -> list[tuple[Handle, datetime]]:
        """Every handle that changed hands, with each time that it did."""
        rows = self._database.query("SELECT handle_id, since FROM cut ORDER BY handle_id, since")
        nodes = self._nodes({row["handle_id"] for row in rows})
        return [(nodes[row["handle_id"]].handle, moment_of(row["since"])) for row in rows]

    def why(self, person_id: str, limit: int = 500) -> list[dict[str, Any]]:
        """The evidence that speaks of a person's handles, oldest first, at most `limit` pieces.

        Each: ``handles`` (two, or one that was seen alone), ``method``, ``strength``, ``first_at``, ``last_at``,
        ``same_person`` (whether both ended up in this person) and ``refused`` (the rule that kept them apart).
        """
        ids = handle_ids_of(self._database, [person_id])
        rows = self._rows(
            "SELECT a, b, method, strength, first_at, last_at FROM evidence WHERE a IN [ids] OR b IN [ids]"
            " UNION ALL SELECT e.a, e.b, e.method, 'crm', c.first_at, c.first_at FROM contact_evidence e"
            " JOIN contact c ON c.record_id = e.record_id WHERE e.a IN [ids] OR e.b IN [ids]"
            " ORDER BY first_at, method, a, b LIMIT ?",
            ids,
            (limit,),
        )
        nodes = self._nodes({handle_id for row in rows for handle_id in (row["a"], row["b"])})
        refused = {
            (row["a"], row["b"]): row["reason"]
            for row in self._rows("SELECT a, b, reason FROM conflict WHERE a IN [ids] OR b IN [ids]", ids)
        }
        return [
            {
                "handles": [nodes[handle_id].handle for handle_id in dict.fromkeys((row["a"], row["b"]))],
                "method": row["method"],
                "strength": row["strength"],
                "first_at": time_text(moment_of(row["first_at"])),
                "last_at": time_text(moment_of(row["last_at"])),
                "same_person": {nodes[row["a"]].person_id, nodes[row["b"]].person_id} == {person_id},
                "refused": refused.get((row["a"], row["b"])),
            }
            for row in rows
        ]

    def conflicts(self, limit: int = 200) -> list[Conflict]:
        """Links that a rule refused, with both persons as they are now."""
        rows = self._database.query("SELECT a, b, reason FROM conflict ORDER BY a, b LIMIT ?", (limit,))
        nodes = self._nodes({handle_id for row in rows for handle_id in (row["a"], row["b"])})
        return [
            Conflict(
                (nodes[row["a"]].handle, nodes[row["b"]].handle),
                (nodes[row["a"]].person_id, nodes[row["b"]].person_id),
                row["reason"],
            )
            for row in rows
        ]

    def decisions(self, *, revoked: bool = False, limit: int = 500) -> list[Decision]:
        """What people decided, newest first; with `revoked` also what was taken back."""
        where = "" if revoked else " WHERE revoked_at IS NULL"
        rows = self._database.query(f"SELECT * FROM decision{where} ORDER BY id DESC LIMIT ?", (limit,))  # noqa: S608
        return self._decisions(rows)

    def decisions_about(self, handle_ids: Iterable[int]) -> list[Decision]:
        """What people decided about any of these handles and did not take back, oldest first."""
        if self._database.query_one("SELECT 1 FROM decision LIMIT 1") is None:
            return []
        rows = self._rows("SELECT * FROM decision WHERE revoked_at IS NULL AND (a IN [ids] OR b IN [ids])", handle_ids)
        return self._decisions(sorted({row["id"]: row for row in rows}.values(), key=lambda row: int(row["id"])))

    def node_of(self, handle: Handle) -> Node | None:
        """The handle as it is stored; ``None`` when nothing is known of it."""
        row = self._database.query_one(
            "SELECT id FROM handle WHERE fingerprint = ?", (self._codec.fingerprint(handle.key),)
        )
        return self._nodes([row["id"]])[row["id"]] if row else None

    def nodes(self, handle_ids: Iterable[int]) -> dict[int, Node]:
        """The handles of those ids, as they are stored."""
        return self._nodes(handle_ids)

    def nodes_of(self, person_ids: Iterable[str]) -> dict[int, Node]:
        """All handles of those persons, as they are stored."""
        return self._nodes(handle_ids_of(self._database, person_ids))

    def scopes_of(self, kind: str) -> list[str | None]:
        """The scopes in which handles of that kind are known."""
        rows = self._database.query("SELECT DISTINCT scope FROM handle WHERE kind = ? ORDER BY scope", (kind,))
        return [row["scope"] for row in rows]

    def evidence_about(self, handle_ids: Iterable[int], limit: int = 20_000) -> list[Told]:
        """The evidence of every strength that speaks of any of these handles; at most `limit` pieces of 500 handles."""
        wanted = set(handle_ids)
        cut = self._database.query_one("SELECT 1 FROM cut LIMIT 1") is not None
        asked = wanted | {now for now, _, _ in self.cuts_about(wanted)} if cut else wanted
        found = {
            tuple(row)
            for row in self._rows(
                "SELECT a, b, method, strength, first_at, last_at FROM evidence WHERE a IN [ids]"
                " UNION SELECT a, b, method, strength, first_at, last_at FROM evidence WHERE b IN [ids]"
                " UNION SELECT e.a, e.b, e.method, 'crm', c.first_at, c.first_at FROM contact_evidence e"
                " JOIN contact c ON c.record_id = e.record_id WHERE e.a IN [ids] OR e.b IN [ids] LIMIT ?",
                asked,
                (limit,),
            )
        }
        if not cut:
            return [Told(*row) for row in sorted(found)]
        cuts = defaultdict(list)
        for now, since, old in self.cuts_about({one for row in found for one in row[:2]}):
            cuts[now].append((since, old))

        def then(handle_id: int, moment: int) -> int:
            return next((old for since, old in sorted(cuts[handle_id]) if moment < since), handle_id)

        pairs = ((ordered(then(row[0], row[5]), then(row[1], row[5])), row[2:]) for row in sorted(found))
        return [Told(*pair, *rest) for pair, rest in pairs if not wanted.isdisjoint(pair)]

    def cuts_about(self, handle_ids: Iterable[int]) -> list[tuple[int, int, int]]:
        """When any of these handles, or what it was before, changed hands: (handle, since, the handle until then)."""
        rows = self._rows(
            "SELECT handle_id, since, old_id FROM cut WHERE handle_id IN [ids]"
            " OR handle_id IN (SELECT handle_id FROM cut WHERE old_id IN [ids])",
            handle_ids,
        )
        return sorted({(row["handle_id"], row["since"], row["old_id"]) for row in rows})

    def refused_about(self, handle_ids: Iterable[int]) -> dict[tuple[int, int], str]:
        """The links of these handles that a rule refused, with the reason."""
        rows = self._rows("SELECT a, b, reason FROM conflict WHERE a IN [ids] OR b IN [ids]", handle_ids)
        return {(row["a"], row["b"]): row["reason"] for row in rows}

    def merged_into(self, person_id: str) -> list[str]:
        """The ids of the persons that this one took up, the oldest first; a split gives them back."""
        rows = self._database.query(
            "SELECT p.id FROM person p JOIN handle h ON h.id = p.anchor_id WHERE h.person_id = ? AND p.id <> ?"
            " ORDER BY p.id",
            (person_id, person_id),
        )
        return [row["id"] for row in rows]

    def projections_of(self, person_id: str) -> list[Handle]:
        """The CRM contacts that our own target made for a person, as the CRM told them."""
        rows = self._database.query(
            "SELECT record_id FROM contact WHERE state = 'projection' AND identity_key = ? ORDER BY record_id",
            (person_id,),
        )
        return [node.handle for node in self._nodes(row["record_id"] for row in rows).values()]

    def _decisions(self, rows: Sequence[Row]) -> list[Decision]:
        nodes = self._nodes({one for row in rows for one in (row["a"], row["b"]) if one is not None})
        return [
            Decision(
                row["id"],
                row["kind"],
                tuple(nodes[one].handle for one in (row["a"], row["b"]) if one is not None),
                moment_of(row["since"]) if row["since"] else None,
                self._codec.decrypt(row["actor"]).decode(),
                self._codec.decrypt(row["reason"]).decode() if row["reason"] else None,
                datetime.fromisoformat(row["decided_at"]),
                datetime.fromisoformat(row["revoked_at"]) if row["revoked_at"] else None,
                self._codec.decrypt(row["revoked_by"]).decode() if row["revoked_by"] else None,
            )
            for row in rows
        ]

    def projected_person(self, handle_id: int) -> str | None:
        """The person written on a CRM contact that our target made, also when other records were merged into it."""
        row = self._database.query_one(
            "SELECT identity_key FROM contact WHERE state = 'projection' AND identity_key IS NOT NULL"
            " AND (record_id = ? OR record_id IN (SELECT record_id FROM contact_merge WHERE old_id = ?))"
            " ORDER BY version DESC LIMIT 1",
            (handle_id, handle_id),
        )
        return self.current(row["identity_key"]) if row else None

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

    @contextmanager
    def transaction(self) -> Iterator[Unit]:
        """One write transaction for the resolver; what other processes wrote before is seen in it."""
        try:
            with self._database.transaction():
                unit = Unit(self._database, self._codec, self._memory)
                yield unit
                unit.flush()
        except BaseException:
            self._memory.forget()
            raise

    def _nodes(self, handle_ids: Iterable[int]) -> dict[int, Node]:
        return {
            row["id"]: Node(
                row["id"], row["kind"], row["scope"], row["link"], row["person_id"], row["value"], self._codec
            )
            for row in self._rows(
                "SELECT id, kind, scope, link, person_id, value FROM handle WHERE id IN [ids]", handle_ids
            )
        }

    def _rows(self, sql: str, handle_ids: Iterable[int], parameters: Sequence[Any] = ()) -> list[Row]:
        return rows_of(self._database, sql, handle_ids, parameters)

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
