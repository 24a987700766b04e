"""The whole graph at once: out as Arrow tables for the batch engines, and back in as differences.

Needs the extra ``batch``. Nothing personal leaves the store: the tables hold numbers of handles, their kinds and
scopes, evidence and person ids, and no values.

A large graph is read through ADBC (half a microsecond a row against 4 with plain cursors, measured on SQLite), two
tables at a time, in a process of its own, see export_process.py: the ADBC driver brings its own SQLite, and two SQLite
libraries in one process that have the same file open cancel each other's locks (documented,
https://www.sqlite.org/howtocorrupt.html section 2.2.1, read 2026-11). It writes files that only we may read; they are
mapped into memory and lose their names at once, so that they go with this process, however that ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar, cast

import numpy as np
import pyarrow as pa

from mappings.errors import UnavailableError
from stores.codec import Codec
from stores.database import Database, Stores, folder_of
from stores.graph.anchors import Anchor, follow_cuts, move_anchors, numbered
from stores.graph.nodes import Node, chunks, time_text
from stores.graph.rows import rows_of

_FEW = 20_000
_BATCH_ROWS = 65_536
_ROWS_PER_STATEMENT = 500
_Row = TypeVar("_Row", bound=Sequence[Any])

_WHOLE, _TEXT = pa.int64(), pa.string()
_BETWEEN = "\x1f"  # in no kind, link, method or strength

# Columns of few different texts leave the store as one, which is cheaper than several, and become numbers.
_NUMBERED = {"sort": ("kind", "link", "scope"), "how": ("method", "strength", "source")}
_SORT = f"kind || '{_BETWEEN}' || link || '{_BETWEEN}' || COALESCE(scope, '') AS sort"

# No NULL leaves the store, so that nobody has to think of it in a join: '' and -1 stand for it.
_STORED: dict[str, tuple[str, pa.Schema]] = {
    "handle": (
        f"SELECT id, {_SORT}, COALESCE(person_id, '') AS person_id FROM handle",  # noqa: S608 (our names)
        pa.schema([("id", _WHOLE), ("sort", _TEXT), ("person_id", _TEXT)]),
    ),
    "evidence": (
        f"SELECT a, b, method || '{_BETWEEN}' || strength AS how, first_at, last_at FROM evidence",  # noqa: S608
        pa.schema([("a", _WHOLE), ("b", _WHOLE), ("how", _TEXT), ("first_at", _WHOLE), ("last_at", _WHOLE)]),
    ),
    "contact_evidence": (
        f"SELECT e.a, e.b, e.method || '{_BETWEEN}crm{_BETWEEN}contact' AS how, c.first_at, c.first_at AS last_at FROM"  # noqa: S608, ISC004
        " contact_evidence e JOIN contact c ON c.record_id = e.record_id",
        pa.schema([("a", _WHOLE), ("b", _WHOLE), ("how", _TEXT), ("first_at", _WHOLE), ("last_at", _WHOLE)]),
    ),
    "person": (
        "SELECT id, anchor_id, claimed, since, alone FROM person",
        pa.schema([("id", _TEXT), ("anchor_id", _WHOLE), ("claimed", _WHOLE), ("since", _WHOLE), ("alone", _WHOLE)]),
    ),
    "other_anchor": (
        "SELECT person_id, handle_id, claimed, since, alone FROM other_anchor",
        pa.schema(
            [("person_id", _TEXT), ("handle_id", _WHOLE), ("claimed", _WHOLE), ("since", _WHOLE), ("alone", _WHOLE)]
        ),
    ),
    "decision": (
        "SELECT a, COALESCE(b, -1) AS b, kind, COALESCE(since, -1) AS since FROM decision WHERE revoked_at IS NULL",
        pa.schema([("a", _WHOLE), ("b", _WHOLE), ("kind", _TEXT), ("since", _WHOLE)]),
    ),
    "cut": (
        "SELECT handle_id, since, old_id FROM cut",
        pa.schema([("handle_id", _WHOLE), ("since", _WHOLE), ("old_id", _WHOLE)]),
    ),
    "conflict": (
        "SELECT a, b, reason FROM conflict",
        pa.schema([("a", _WHOLE), ("b", _WHOLE), ("reason", _TEXT)]),
    ),
}  # fmt: skip
_GENERATION = "SELECT value FROM counter WHERE name = 'generation'"


class Export(NamedTuple):
    """One state of the graph, and the counter that says whether it still is: writing transactions raise it.

    Attributes:
        tables: ``handle`` (id, sort, person_id), ``sort`` (sort, kind, link, scope), ``evidence`` (a, b, how, first_at,
            last_at), ``how`` (how, method, strength, source: ``contact`` or empty), ``person`` (number, id, anchor_id,
            claimed, since, alone), ``other_anchor`` (person_id, handle_id, claimed, since, alone), ``decision`` (a, b,
            kind, since), ``cut`` (handle_id, since, old_id) and ``conflict`` (a, b, reason). ``sort``, ``how`` and the
            number of a person count from 0 and are of this export only.
        generation: the counter.
    """

    tables: dict[str, pa.Table]
    generation: int


def export(stores: Stores, folder: Path) -> Export:
    """Every table, all as of one moment. Nobody who writes has to wait for it.

    Args:
        stores: whose graph.
        folder: an empty one, for files that are gone when this returns.
    """
    with closing(stores.open("graph", read_only=True)) as database:
        if _is_large(database):
            return _export_apart(stores, folder)
        with database.snapshot():
            row = database.query_one(_GENERATION)
            tables = {}
            for name, (sql, schema) in _STORED.items():
                columns = list(zip(*(tuple(found) for found in database.query(sql)), strict=True))
                arrays = [
                    pa.array(column, field.type)
                    for column, field in zip(columns or [()] * len(schema), schema, strict=True)
                ]
                tables[name] = pa.Table.from_arrays(arrays, schema=schema)
    return Export(_with_numbers(tables), int(row["value"]) if row else 0)


def _with_numbers(tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """All evidence as one table, numbers for texts of which there are few, these texts as tables, persons numbered."""
    result = dict(tables)
    result["evidence"] = pa.concat_tables([tables["evidence"], result.pop("contact_evidence")])
    for name, column in (("handle", "sort"), ("evidence", "how")):
        encoded = result[name].column(column).dictionary_encode()
        known = encoded.chunk(0).dictionary.to_pylist() if encoded.num_chunks else []
        numbers = pa.chunked_array([chunk.indices for chunk in encoded.chunks], pa.int32())
        result[name] = result[name].set_column(result[name].schema.get_field_index(column), column, numbers)
        parts = _NUMBERED[column]
        split = [[*text.split(_BETWEEN, len(parts) - 1), ""] for text in known]
        result[column] = pa.table(
            {
                column: pa.array(range(len(known)), pa.int32()),
                **{part: pa.array([one[place] for one in split], _TEXT) for place, part in enumerate(parts)},
            }
        )
    persons = tables["person"]
    result["person"] = persons.add_column(0, "number", pa.array(np.arange(persons.num_rows)))
    return result


def nodes_of(database: Database, codec: Codec, handle_ids: Iterable[int]) -> dict[int, Node]:
    """The handles of those ids, as stored; their values stay encrypted until somebody asks for one."""
    sql = "SELECT id, kind, scope, link, person_id, value, fingerprint FROM handle WHERE id IN [ids]"
    return {
        row["id"]: Node(
            row["id"], row["kind"], row["scope"], row["link"], row["person_id"], row["value"], codec,
            row["fingerprint"],
        )
        for row in rows_of(database, sql, handle_ids)
    }  # fmt: skip


def handle_ids_by_fingerprint(database: Database, fingerprints: Iterable[str]) -> dict[str, int]:
    """Which of the handles are known: fingerprint -> id."""
    found: dict[str, int] = {}
    for chunk in chunks(sorted(fingerprints)):
        marks = ", ".join("?" for _ in chunk)
        sql = "SELECT id, fingerprint FROM handle WHERE fingerprint IN ([])".replace("[]", marks)
        found |= {row["fingerprint"]: row["id"] for row in database.query(sql, chunk)}
    return found


@dataclass(frozen=True, slots=True)
class Differences:
    """What to write so that the graph is what a batch engine found. Every part is read once, and may be long.

    Attributes:
        handles: new ones, of which numbers changed hands: their nodes, with the number that they have in the rest.
        links: (handle id, link).
        cuts_gone: (handle id, since).
        cuts_new: (handle id, since, old handle id).
        assigned: (handle id, person id or '').
        minted: (person id, its anchor).
        anchors: (person id, another anchor) of persons that are known already.
        conflicts_gone: (handle id, handle id).
        conflicts_new: (handle id, handle id, reason).
        changes: (change, person ids before, person id after, handle ids), for the log.
        changed: persons that have other handles now, or another link on one of them.
    """

    handles: Sequence[Node]
    links: Iterable[tuple[int, str]]
    cuts_gone: Sequence[tuple[int, int]]
    cuts_new: Sequence[tuple[int, int, int]]
    assigned: Iterable[tuple[int, str]]
    minted: Iterable[tuple[str, Anchor]]
    anchors: Iterable[tuple[str, Anchor]]
    conflicts_gone: Iterable[tuple[int, int]]
    conflicts_new: Iterable[tuple[int, int, str]]
    changes: Iterable[tuple[str, list[str], str, list[int]]]
    changed: Iterable[tuple[str]]


def write(stores: Stores, generation: int, differences: Differences, settings: Mapping[str, str], why: str) -> bool:
    """Write the differences in one transaction, unless somebody wrote to the graph since `generation`.

    Args:
        stores: whose graph.
        generation: of the `Export` that the differences are to.
        differences: what to write.
        settings: saved in the same transaction.
        why: for the log of merges and splits.

    Returns:
        Whether it was written; ``False`` when the graph is not as it was, and then nothing was.
    """
    database = stores.database("graph")
    with database.transaction():
        row = database.query_one(_GENERATION)
        if row is None or row["value"] != generation:
            return False
        database.execute("UPDATE counter SET value = value + 1 WHERE name = 'generation'")
        for name, value in settings.items():
            database.execute(
                "INSERT INTO setting (name, value) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )
        _write(database, differences, why)
    return True


def _write(database: Database, differences: Differences, why: str) -> None:
    now = time_text(datetime.now(UTC))
    _insert(
        database,
        "handle (id, fingerprint, kind, scope, value, link)",
        (
            (node.handle_id, node.fingerprint, node.kind, node.scope, node.stored_value, node.link)
            for node in differences.handles
        ),
    )
    _update(database, "handle", "id", "link", differences.links)
    changed_hands = {row[0] for row in (*differences.cuts_gone, *differences.cuts_new)}
    cuts = _cuts(database, changed_hands)
    database.execute_many("DELETE FROM cut WHERE handle_id = ? AND since = ?", differences.cuts_gone)
    _insert(database, "cut (handle_id, since, old_id)", differences.cuts_new)
    if changed_hands:
        follow_cuts(database, cuts, _cuts(database, changed_hands))
        database.execute(
            "INSERT INTO counter (name, value) VALUES ('cuts', 1)"
            " ON CONFLICT (name) DO UPDATE SET value = counter.value + 1"
        )
    _update(database, "handle", "id", "person_id", differences.assigned)
    for rows in _pieces(differences.minted):
        anchors = numbered(database, dict(rows), _next_sequences(database, len(rows)))
        _insert(
            database,
            "person (id, created_at, sequence, claimed, anchor_id, since, alone)",
            (
                (person_id, now, anchor.number, anchor.number, anchor.handle_id, anchor.since, int(anchor.alone))
                for person_id, anchor in anchors.items()
            ),
        )
    for rows in _pieces(differences.anchors):
        move_anchors(database, numbered(database, dict(rows), _next_sequences(database, len(rows))))
    for gone in _pieces(differences.conflicts_gone):
        database.execute_many("DELETE FROM conflict WHERE a = ? AND b = ?", gone)
    _insert(database, "conflict (a, b, reason)", differences.conflicts_new)
    for changes in _pieces(differences.changes):
        first = _next_sequences(database, len(changes))
        spans = _spans(database, {handle_id for change in changes for handle_id in change[3]})
        _insert(
            database,
            "person_change (sequence, change, from_ids, into_id, handle_ids, why, changed_at, spans)",
            (
                (
                    first + index,
                    change,
                    json.dumps(before),
                    after,
                    json.dumps(handle_ids),
                    why,
                    now,
                    json.dumps(of_change) if (of_change := _spans_of(handle_ids, spans)) else None,
                )
                for index, (change, before, after, handle_ids) in enumerate(changes)
            ),
        )
    for changed in _pieces(differences.changed):
        first = _next_sequences(database, len(changed))
        numbers = ((person_id, first + index) for index, (person_id,) in enumerate(changed))
        _update(database, "person", "id", "sequence", numbers)


def _cuts(database: Database, handle_ids: Iterable[int]) -> dict[int, list[tuple[int, int]]]:
    """When these handles changed hands: each with (since, the handle until then), earliest first."""
    found: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    sql = "SELECT handle_id, since, old_id FROM cut WHERE handle_id IN [ids]"
    for handle_id, since, old_id in sorted(tuple(row) for row in rows_of(database, sql, handle_ids)):
        found[handle_id].append((since, old_id))
    return found


_Span = tuple[int, int | None, int | None]


def _spans(database: Database, handle_ids: Iterable[int]) -> dict[int, _Span]:
    """Of the handles that changed hands, or are the past of such a one: the handle as seen, since, until."""
    asked = set(handle_ids)
    whole = rows_of(database, "SELECT handle_id FROM cut WHERE old_id IN [ids] OR handle_id IN [ids]", asked)
    rows = rows_of(
        database,
        "SELECT handle_id, since, old_id FROM cut WHERE handle_id IN [ids]",
        {row["handle_id"] for row in whole},
    )
    found: dict[int, _Span] = {}
    last: tuple[int, int | None] = (0, None)
    for handle_id, until, old_id in sorted(tuple(row) for row in rows):
        since = last[1] if last[0] == handle_id else None
        found[old_id], last = (handle_id, since, until), (handle_id, until)
        found[handle_id] = (handle_id, until, None)
    return found


def _spans_of(handle_ids: Iterable[int], spans: Mapping[int, _Span]) -> list[_Span]:
    return sorted((spans[one] for one in handle_ids if one in spans), key=lambda span: (span[0], span[1] or 0))


def _pieces(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    waiting = iter(rows)
    while piece := list(islice(waiting, _ROWS_PER_STATEMENT)):
        yield piece


def _insert(database: Database, into: str, rows: Iterable[Sequence[Any]]) -> None:
    for piece in _pieces(rows):
        values = ", ".join(f"({', '.join('?' * len(row))})" for row in piece)
        sql = f"INSERT INTO {into} VALUES {values}"  # noqa: S608 (our names)
        database.execute(sql, [value for row in piece for value in row])


def _update(database: Database, table: str, key: str, column: str, rows: Iterable[tuple[Any, Any]]) -> None:
    """Set one column by its key; the empty text is NULL. One statement for many rows: a row each is 10 times slower."""
    for piece in _pieces(rows):
        values = ", ".join("(?, ?)" for _ in piece)
        new = "NULLIF(v.column2, '')" if isinstance(piece[0][1], str) else "v.column2"
        sql = f"UPDATE {table} SET {column} = {new} FROM (VALUES {values}) AS v WHERE {table}.{key} = v.column1"  # noqa: S608 (our names)
        database.execute(sql, [value for row in piece for value in row])


def _next_sequences(database: Database, count: int) -> int:
    sql = "UPDATE counter SET value = value + ? WHERE name = 'sequence' RETURNING value"
    return int(database.query(sql, (count,))[0]["value"]) - count + 1


def _is_large(database: Database) -> bool:
    return any(
        database.query_one(f"SELECT 1 FROM {table} LIMIT 1 OFFSET {_FEW}") is not None  # noqa: S608 (our names)
        for table in ("handle", "evidence", "contact_evidence")
    )


def _export_apart(stores: Stores, folder: Path) -> Export:
    postgresql = stores.url.startswith(("postgresql://", "postgres://"))
    asked = {
        "uri": stores.url if postgresql else f"file:{folder_of(stores.url) / 'graph.db'}?mode=ro",
        "postgresql": postgresql,
        "options": {} if postgresql else {"adbc.sqlite.query.batch_rows": str(_BATCH_ROWS)},
        "counter": _GENERATION,
        "folder": str(folder),
        "tables": {
            name: {"sql": sql, "columns": {field.name: str(field.type) for field in schema}}
            for name, (sql, schema) in _STORED.items()
        },
    }
    with subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).with_name("export_process.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        to, answer = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
        with suppress(BrokenPipeError):  # its exit code says more
            to.write(json.dumps(asked) + "\n")
            to.flush()
        counter = answer.read()  # only then is its input closed: the process ends when we do
    if process.returncode != 0:
        msg = f"the graph could not be exported to {folder} (exit code {process.returncode}; the reason is above)"
        raise UnavailableError(msg)
    return Export(_with_numbers({name: _mapped(folder / f"{name}.arrow") for name in _STORED}), int(counter))


def _mapped(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    path.unlink()
    return table
