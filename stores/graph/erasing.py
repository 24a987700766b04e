"""Taking a person out of the identity graph: what is theirs, and what stays because it is somebody else's too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from mappings.records import Handle
from stores.codec import Codec
from stores.database import Database, Row
from stores.graph.nodes import FORMER, Node, Touched, chunks, moment_of, time_number, time_text
from stores.graph.rows import rows_of
from stores.graph.tombstones import EVER, Tombstone, person_key
from stores.graph.unit import Unit

ACTOR = "erasure"
"""Who keeps it noted that a handle changed hands, when the evidence of one of its owners is erased."""


class Owned(NamedTuple):
    """A handle of a person, as it stands on records, and the time in which it was theirs (microseconds)."""

    handle_id: int
    handle: Handle
    since: int
    until: int

    @property
    def is_shared_in_time(self) -> bool:
        """Whether somebody else had the handle before, or has it since."""
        return (self.since, self.until) != (-EVER, EVER)

    def covers(self, moment: datetime) -> bool:
        """Whether it was theirs then."""
        return self.since <= time_number(moment) < self.until


@dataclass(frozen=True, slots=True)
class Subject:
    """A person as whom the graph knows now.

    Attributes:
        person_id: the person.
        person_ids: it, and those that were merged into it.
        owned: their handles, CRM contacts that our targets made for them included.
        former: the handles that stand in the graph for numbers they had formerly.
        before: of an erasure: when (microseconds). What came later by the same handles is somebody new's.
    """

    person_id: str
    person_ids: tuple[str, ...]
    owned: tuple[Owned, ...]
    former: tuple[Handle, ...] = ()
    before: int = EVER

    def owns(self, handle: Handle, moment: datetime) -> bool | None:
        """Whether a handle was theirs at that moment; ``None`` for one that never was."""
        mine = [one for one in self.owned if one.handle == handle]
        return any(one.covers(moment) for one in mine) and self.is_in_time(moment) if mine else None

    def is_in_time(self, moment: datetime) -> bool:
        """Whether what happened then can be theirs: it was before their erasure."""
        return time_number(moment) < self.before

    @property
    def heads(self) -> list[Handle]:
        """By which handles the archive knows what is theirs."""
        whole = [one.handle for one in self.owned if one.until == EVER]
        return [*whole, *self.former]


@dataclass(slots=True)
class Gone:
    """What went: all handles of which nothing is left, and what the resolver has to decide anew."""

    handles: list[Handle] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    touched: Touched = field(default_factory=Touched)


class GraphReader:
    """Finds out what is whose; reads only.

    Args:
        database: the store of the graph.
        codec: of its values.
    """

    def __init__(self, database: Database, codec: Codec) -> None:
        self._database = database
        self._codec = codec

    def subject(self, person_id: str) -> Subject | None:
        """The person with everything that is theirs; ``None`` for an id that no handle has."""
        rows = self._database.query("SELECT id FROM handle WHERE person_id = ?", (person_id,))
        made = self._database.query(
            "SELECT record_id AS id FROM contact WHERE state = 'projection' AND identity_key = ?", (person_id,)
        )
        nodes = self._nodes({row["id"] for row in (*rows, *made)})
        if not nodes:
            return None
        owned: list[Owned] = []
        former: list[Handle] = []
        for node in nodes.values():
            if not node.kind.startswith(FORMER):
                owned.append(self._owned_now(node))
                continue
            cut = self._database.query_one("SELECT handle_id, since FROM cut WHERE old_id = ?", (node.handle_id,))
            if cut is not None:
                former.append(node.handle)
                owned.append(self._owned_then(cut["handle_id"], cut["since"]))
        anchored = self._rows("SELECT id FROM person WHERE anchor_id IN [ids]", nodes)
        ids = {person_id, *(row["id"] for row in anchored)}
        return Subject(
            person_id, tuple(sorted(ids)), tuple(sorted(owned, key=lambda one: one.handle.key)),
            tuple(sorted(former, key=lambda one: one.key)),
        )  # fmt: skip

    def evidence_of(self, subject: Subject) -> list[dict[str, Any]]:
        """What was seen of their handles while these were theirs: handles, method, strength, first and last time."""
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for one in subject.owned:
            rows = self._rows(
                "SELECT a, b, method, strength, first_at, last_at FROM evidence WHERE a IN [ids] OR b IN [ids]"
                " UNION SELECT e.a, e.b, e.method, 'crm', c.first_at, c.first_at FROM contact_evidence e"
                " JOIN contact c ON c.record_id = e.record_id WHERE e.a IN [ids] OR e.b IN [ids]",
                [one.handle_id],
            )
            for a, b, method, strength, first_at, last_at in map(tuple, rows):
                seen = (max(first_at, one.since), min(last_at, one.until - 1)) if a == b else (first_at, last_at)
                if seen[0] > seen[1] or not one.since <= seen[1] < one.until:
                    continue  # another owner's
                nodes = self._nodes((a, b))
                found[a, b, method, strength, one.until] = {
                    "handles": [nodes[handle_id].handle.model_dump() for handle_id in dict.fromkeys((a, b))],
                    "method": method,
                    "strength": strength,
                    "first_at": time_text(moment_of(seen[0])),
                    "last_at": time_text(moment_of(seen[1])),
                }
        return sorted(found.values(), key=lambda one: (one["first_at"], one["method"], str(one["handles"])))

    def names_of(self, subject: Subject) -> list[dict[str, Any]]:
        """What platforms said of their handles last: handle, field (name, locale), value and time."""
        return [
            {
                "handle": one.handle.model_dump(),
                "field": row["field"],
                "value": self._codec.decrypt(row["value"]).decode(),
                "observed_at": time_text(moment_of(row["observed_at"])),
            }
            for one in subject.owned
            for row in self._rows("SELECT * FROM observation WHERE handle_id IN [ids]", [one.handle_id])
            if one.since <= row["observed_at"] < one.until
        ]

    def _owned_now(self, node: Node) -> Owned:
        last = self._database.query_one("SELECT MAX(since) AS at FROM cut WHERE handle_id = ?", (node.handle_id,))
        since = last["at"] if last and last["at"] is not None else -EVER
        return Owned(node.handle_id, node.handle, since, EVER)

    def _owned_then(self, handle_id: int, until: int) -> Owned:
        before = self._database.query_one(
            "SELECT MAX(since) AS at FROM cut WHERE handle_id = ? AND since < ?", (handle_id, until)
        )
        since = before["at"] if before and before["at"] is not None else -EVER
        return Owned(handle_id, self._nodes([handle_id])[handle_id].handle, since, until)

    def _nodes(self, handle_ids: Iterable[int]) -> dict[int, Node]:
        rows = self._rows("SELECT id, kind, scope, link, person_id, value FROM handle WHERE id IN [ids]", handle_ids)
        return {
            row["id"]: Node(
                row["id"], row["kind"], row["scope"], row["link"], row["person_id"], row["value"], self._codec
            )
            for row in rows
        }

    def _rows(self, sql: str, handle_ids: Iterable[int], parameters: Sequence[Any] = ()) -> list[Row]:
        return rows_of(self._database, sql, handle_ids, parameters)


class GraphEraser(GraphReader):
    """Deletes what is a person's, inside one transaction of the graph.

    Args:
        unit: of that transaction; written out, and with nothing remembered of what is deleted here afterwards.
        wrote: whether somebody wrote by a handle: then it lives on by itself, though it was only ever seen with theirs.
    """

    def __init__(self, unit: Unit, wrote: Callable[[Handle], bool] = lambda _: False) -> None:
        super().__init__(*unit.opened())
        self._unit = unit
        self._wrote = wrote
        self._lost: dict[int, tuple[str, str, int, int]] = {}
        self.gone = Gone()

    def erase(self, subject: Subject) -> Gone:
        """Delete the subject's handles with all that was seen and said of them. What is left of others is untouched."""
        self._keep_changes_of_hands(subject)
        neighbours: set[int] = set()
        for owned in subject.owned:
            neighbours |= self._erase_evidence(owned)
        whole = {one.handle_id for one in subject.owned if not one.is_shared_in_time}
        for owned in subject.owned:
            if owned.is_shared_in_time:
                self._erase_observations(owned)
        anchors = whole | {one.handle_id for one in subject.owned if one.until == EVER} | self._former_ids(subject)
        self._erase_persons(anchors)
        self._erase_handles(whole)
        neighbours -= whole
        orphans = {one for one in neighbours if self._is_orphan(one)}
        orphans -= self._keep_writers(orphans)
        self._erase_persons(orphans)
        self._erase_handles(orphans)
        self._scrub_log(whole | orphans)
        kept = {one.handle_id for one in subject.owned} - whole
        self.gone.touched.handle_ids |= (neighbours - orphans) | kept | self._former_ids(subject)
        self.gone.touched.withdrawn |= self.gone.touched.handle_ids
        self._unit.forget_what_was_read()
        return self.gone

    def tombstones(self, subject: Subject, now: int) -> list[Tombstone]:
        """Those of the subject's handles and ids: what is older than `now` does not come back."""
        stones = [
            Tombstone(self._codec.fingerprint(one.handle.key), one.since, min(one.until, now)) for one in subject.owned
        ]
        ids = [Tombstone(self._codec.fingerprint(person_key(one)), -EVER, now) for one in subject.person_ids]
        return [*stones, *ids]

    def _keep_changes_of_hands(self, subject: Subject) -> None:
        """Note as decided that a handle changed hands: with one owner's evidence gone nothing else would say so."""
        for handle_id in sorted({one.handle_id for one in subject.owned if one.is_shared_in_time}):
            decided = {
                row["since"]
                for row in self._database.query(
                    "SELECT since FROM decision WHERE a = ? AND kind = 'recycled' AND revoked_at IS NULL", (handle_id,)
                )
            }
            for row in self._database.query("SELECT since FROM cut WHERE handle_id = ? ORDER BY since", (handle_id,)):
                if row["since"] not in decided:
                    moment = moment_of(row["since"])
                    self._unit.save_decision("recycled", handle_id, None, since=moment, actor=ACTOR, reason=None)

    def _erase_evidence(self, owned: Owned) -> set[int]:
        """Delete the evidence of the time in which the handle was theirs; the other handles it spoke of."""
        sql = "SELECT a, b, method, strength, first_at, last_at FROM evidence WHERE a = ? OR b = ?"
        neighbours: set[int] = set()
        for row in self._database.query(sql, (owned.handle_id, owned.handle_id)):
            key = (row["a"], row["b"], row["method"], row["strength"])
            alone = row["a"] == row["b"]
            if owned.since <= row["last_at"] < owned.until:
                neighbours |= {row["a"], row["b"]}
                self._lost[row["b"] if row["a"] == owned.handle_id else row["a"]] = (
                    *key[2:],
                    row["first_at"],
                    row["last_at"],
                )
                if alone and row["first_at"] < owned.since:
                    self._set_times(key, row["first_at"], owned.since - 1)
                    continue
                self._delete_evidence(key)
            elif alone and owned.since <= row["first_at"] < owned.until:
                self._set_times(key, owned.until, row["last_at"])
        return neighbours - {owned.handle_id}

    def _keep_writers(self, handle_ids: Iterable[int]) -> set[int]:
        """Leave it noted of handles that others wrote by that they were seen; which these are."""
        kept = {one for one, node in self._nodes(handle_ids).items() if one in self._lost and self._wrote(node.handle)}
        self._database.execute_many(
            "INSERT INTO evidence (a, b, method, strength, first_at, last_at) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (a, b, method, strength) DO NOTHING",
            [(one, one, *self._lost[one]) for one in sorted(kept)],
        )
        return kept

    def _set_times(self, key: tuple[Any, ...], first: int, last: int) -> None:
        self._database.execute(
            "UPDATE evidence SET first_at = ?, last_at = ? WHERE a = ? AND b = ? AND method = ? AND strength = ?",
            (first, last, *key),
        )

    def _delete_evidence(self, key: tuple[Any, ...]) -> None:
        self._count(
            "evidence",
            self._database.execute("DELETE FROM evidence WHERE a = ? AND b = ? AND method = ? AND strength = ?", key),
        )

    def _erase_observations(self, owned: Owned) -> None:
        self._count(
            "names",
            self._database.execute(
                "DELETE FROM observation WHERE handle_id = ? AND observed_at >= ? AND observed_at < ?",
                (owned.handle_id, owned.since, owned.until),
            ),
        )

    def _erase_handles(self, handle_ids: Iterable[int]) -> None:
        """Delete handles with every row that speaks of them."""
        ids = sorted(handle_ids)
        self.gone.handles += [node.handle for node in self._nodes(ids).values()]
        for row in self._rows("SELECT record_id FROM contact_evidence WHERE a IN [ids] OR b IN [ids]", ids):
            self._strip_contact(row["record_id"], set(ids))
        for sql, what in (
            ("DELETE FROM contact_evidence WHERE a IN [ids] OR b IN [ids] OR record_id IN [ids]", None),
            ("DELETE FROM contact_merge WHERE old_id IN [ids] OR record_id IN [ids]", None),
            ("DELETE FROM contact WHERE record_id IN [ids]", "contacts"),
            ("DELETE FROM observation WHERE handle_id IN [ids]", "names"),
            ("DELETE FROM conflict WHERE a IN [ids] OR b IN [ids]", None),
            ("DELETE FROM review WHERE a IN [ids] OR b IN [ids]", None),
            ("DELETE FROM decision WHERE a IN [ids] OR b IN [ids]", "decisions"),
            ("DELETE FROM evidence WHERE a IN [ids] OR b IN [ids]", "evidence"),
            ("DELETE FROM cut WHERE handle_id IN [ids] OR old_id IN [ids]", None),
            ("DELETE FROM handle WHERE id IN [ids]", "handles"),
        ):
            number = 0
            for chunk in chunks(ids):
                number += self._database.execute(sql.replace("[ids]", f"({', '.join(map(str, chunk))})"))
            if what is not None:
                self._count(what, number)

    def _strip_contact(self, record_id: int, gone: set[int]) -> None:
        """Take handles off somebody else's CRM contact."""
        row = self._database.query_one("SELECT handle_ids FROM contact WHERE record_id = ?", (record_id,))
        if row is not None:
            left = [one for one in json.loads(row["handle_ids"]) if one not in gone]
            self._database.execute(
                "UPDATE contact SET handle_ids = ? WHERE record_id = ?", (json.dumps(left), record_id)
            )
            self.gone.touched.handle_ids |= set(left) - gone

    def _erase_persons(self, anchors: Iterable[int]) -> None:
        for chunk in chunks(sorted(anchors)):
            for sql in (
                "DELETE FROM other_anchor WHERE handle_id IN [ids]",
                "DELETE FROM person WHERE anchor_id IN [ids]",
                "UPDATE handle SET person_id = NULL WHERE id IN [ids]",
            ):
                self._database.execute(sql.replace("[ids]", f"({', '.join(map(str, chunk))})"))

    def _is_orphan(self, handle_id: int) -> bool:
        """Whether nothing speaks of a handle any more: neither evidence nor a contact, nor somebody's decision."""
        for sql in (
            "SELECT 1 FROM evidence WHERE a = ? OR b = ? LIMIT 1",
            "SELECT 1 FROM contact_evidence WHERE a = ? OR b = ? LIMIT 1",
            "SELECT 1 FROM contact_merge WHERE old_id = ? OR record_id = ? LIMIT 1",
            "SELECT 1 FROM decision WHERE (a = ? OR b = ?) AND revoked_at IS NULL LIMIT 1",
            "SELECT 1 FROM cut WHERE handle_id = ? OR old_id = ? LIMIT 1",
        ):
            if self._database.query_one(sql, (handle_id, handle_id)) is not None:
                return False
        return self._database.query_one("SELECT 1 FROM contact WHERE record_id = ?", (handle_id,)) is None

    def _scrub_log(self, gone: set[int]) -> None:
        """Take the deleted handles out of the log of merges and splits: their numbers may be given out again."""
        for row in self._database.query("SELECT sequence, change, handle_ids, spans FROM person_change"):
            handle_ids = json.loads(row["handle_ids"])
            if row["change"] == "erase" or gone.isdisjoint(handle_ids):
                continue
            left = [one for one in handle_ids if one not in gone]
            spans = [one for one in json.loads(row["spans"] or "[]") if one[0] not in gone]
            if left:
                self._database.execute(
                    "UPDATE person_change SET handle_ids = ?, spans = ? WHERE sequence = ?",
                    (json.dumps(left), json.dumps(spans) if spans else None, row["sequence"]),
                )
            else:
                self._database.execute("DELETE FROM person_change WHERE sequence = ?", (row["sequence"],))

    def _former_ids(self, subject: Subject) -> set[int]:
        prints = [self._codec.fingerprint(one.key) for one in subject.former]
        found: set[int] = set()
        for one in prints:
            row = self._database.query_one("SELECT id FROM handle WHERE fingerprint = ?", (one,))
            if row is not None:
                found.add(row["id"])
        return found

    def _count(self, what: str, number: int) -> None:
        if number:
            self.gone.counts[what] = self.gone.counts.get(what, 0) + number


def subject_to_json(subject: Subject) -> dict[str, Any]:
    """A subject as a JSON value, to be kept encrypted."""
    return {
        "person_id": subject.person_id,
        "person_ids": list(subject.person_ids),
        "owned": [
            {"handle_id": one.handle_id, "handle": one.handle.model_dump(), "since": one.since, "until": one.until}
            for one in subject.owned
        ],
        "former": [one.model_dump() for one in subject.former],
        "before": subject.before,
    }


def subject_from_json(value: Mapping[str, Any]) -> Subject:
    """What `subject_to_json` was given."""
    return Subject(
        value["person_id"],
        tuple(value["person_ids"]),
        tuple(
            Owned(one["handle_id"], Handle.model_validate(one["handle"]), one["since"], one["until"])
            for one in value["owned"]
        ),
        tuple(Handle.model_validate(one) for one in value["former"]),
        value["before"],
    )
