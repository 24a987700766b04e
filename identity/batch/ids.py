"""Which id each person of a batch keeps: `identity.partition.hold_ids`, in bulk where that is easy.

It is easy where all anchors have stayed in their persons: then a person has the oldest id whose anchor is in it, and a
new one where there is none. The rest (an anchor has left the person whose id it holds) goes through `hold_ids` itself.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa
import uuid6

from identity.batch.engine import TEXT, WHOLE, Engine
from identity.partition import hold_ids
from identity.rules import Rules
from stores.graph import Node

_HANDLES_AT_A_TIME = 20_000
_IDS_AT_A_TIME = 4_096
_IDS = pa.schema([("cluster", WHOLE), ("person_id", TEXT), ("anchor_id", WHOLE)])

NodesOf = Callable[[Iterable[int]], Mapping[int, Node]]


class Held(NamedTuple):
    """What `hold_ids` said of persons that anchors have left, beside the ids: the anchors that are new or moved."""

    minted: list[tuple[str, int]]
    anchors: list[tuple[str, int]]


def give_ids(engine: Engine, rules: Rules, nodes_of: NodesOf, anchor_moves: Mapping[int, int]) -> Held:
    """``person_of`` (cluster, person_id), ``minted`` (cluster, person_id, anchor_id) and ``moved`` (id, before, after).

    Args:
        engine: holds the tables that `identity.batch.steps` made.
        rules: for the rank of anchors.
        nodes_of: the handles of those ids, with their texts.
        anchor_moves: anchors that a number which changed hands takes with it: handle id -> handle id.
    """
    engine.upload(
        "anchor_move", pa.schema([("from_id", WHOLE), ("to_id", WHOLE)]), ((a, b) for a, b in anchor_moves.items())
    )
    engine.create(
        "person_now",
        "SELECT p.id, COALESCE(m.to_id, p.anchor_id) AS anchor_id FROM person p"
        " LEFT JOIN anchor_move m ON m.from_id = p.anchor_id",
    )
    # An anchor that is nobody's any more has no cluster; `away`: nothing links it to its person.
    engine.create(
        "anchor",
        "SELECT p.id AS person_id, p.anchor_id, COALESCE(m.cluster, -1) AS home,"
        " m.id IS NULL OR o.id IS NOT NULL AS away"
        " FROM person_now p LEFT JOIN member m ON m.id = p.anchor_id LEFT JOIN off o ON o.id = p.anchor_id",
    )
    engine.create(
        "claim",
        "SELECT home AS cluster, MIN(person_id) AS person_id FROM anchor WHERE home <> -1 GROUP BY home",
    )
    held = _hold_where_anchors_left(engine, rules, nodes_of)
    _mint(engine, nodes_of)
    engine.create(
        "person_of",
        "SELECT cluster, person_id FROM claim c WHERE NOT EXISTS (SELECT 1 FROM contested t WHERE t.id = c.cluster)"
        " UNION ALL SELECT cluster, person_id FROM held UNION ALL SELECT cluster, person_id FROM minted",
    )
    engine.create(
        "moved",
        "SELECT id, before, after FROM (SELECT h.id, h.person_id AS before, COALESCE(q.person_id, '') AS after FROM ("
        "  SELECT id, person_id FROM handle UNION ALL SELECT id, person_id FROM former) h"
        " LEFT JOIN member m ON m.id = h.id LEFT JOIN person_of q ON q.cluster = m.cluster) x WHERE before <> after",
    )
    return held


def _hold_where_anchors_left(engine: Engine, rules: Rules, nodes_of: NodesOf) -> Held:
    """``contested`` (id of a cluster, label of its group), ``held`` (cluster, person_id, anchor_id)."""
    engine.create(
        "stray",
        "SELECT DISTINCT p.person_id, p.anchor_id, p.home, m.cluster FROM anchor p"
        " JOIN handle h ON h.person_id = p.person_id JOIN member m ON m.id = h.id"
        " WHERE p.away AND m.cluster <> p.home",
    )
    engine.connect(
        "contested",
        "SELECT home AS a, cluster AS b FROM stray WHERE home <> -1 UNION ALL"
        " SELECT MIN(cluster) OVER (PARTITION BY person_id) AS a, cluster AS b FROM stray",
    )
    rows = engine.rows(
        "SELECT t.label, m.cluster, m.id, '' AS person_id,"
        "  CASE WHEN o.id IS NULL THEN 'links' ELSE 'shared' END AS link"
        " FROM contested t JOIN member m ON m.cluster = t.id LEFT JOIN off o ON o.id = m.id"
        " UNION ALL SELECT t.label, t.id, p.anchor_id, p.person_id, '' FROM anchor p JOIN contested t ON t.id = p.home"
        " UNION ALL SELECT DISTINCT t.label, -1, s.anchor_id, s.person_id, '' FROM stray s"
        "  JOIN contested t ON t.id = s.cluster WHERE s.home = -1"
        " ORDER BY 1, 2, 3, 4"
    )
    held = Held([], [])
    engine.upload("held", _IDS, _held_ids(_several(rows), rules, nodes_of, held))
    return held


def _several(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of whole groups, several groups at a time."""
    waiting: list[tuple[Any, ...]] = []
    for _, group in groupby(rows, key=itemgetter(0)):
        waiting += group
        if len(waiting) >= _HANDLES_AT_A_TIME:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _held_ids(
    pieces: Iterable[list[tuple[Any, ...]]], rules: Rules, nodes_of: NodesOf, held: Held
) -> Iterator[tuple[int, str, int]]:
    for rows in pieces:
        clusters: defaultdict[int, set[int]] = defaultdict(set)
        links: dict[int, str] = {}
        anchored: dict[str, int] = {}
        for _, cluster, handle_id, person_id, link in rows:
            if person_id:
                anchored[person_id] = handle_id
            else:
                clusters[cluster].add(handle_id)
                links[handle_id] = link
        nodes = dict(nodes_of(links))
        for handle_id, node in nodes.items():
            node.link = links[handle_id]
        ids = hold_ids([frozenset(one) for one in clusters.values()], nodes, anchored, rules, _new_id)
        held.minted.extend((person_id, ids.anchors[person_id]) for person_id in sorted(ids.minted))
        held.anchors.extend(one for one in ids.anchors.items() if one[0] not in ids.minted)
        yield from ((cluster, person_id, -1) for cluster, person_id in zip(clusters, ids.person_ids, strict=True))


def _mint(engine: Engine, nodes_of: NodesOf) -> None:
    """``minted``: new ids for clusters in which no anchor is, held by the strongest handle."""
    engine.create(  # a cluster is named after the smallest handle in it
        "without_id",
        "SELECT m.cluster FROM member m WHERE m.id = m.cluster"
        " AND NOT EXISTS (SELECT 1 FROM claim c WHERE c.cluster = m.cluster)"
        " AND NOT EXISTS (SELECT 1 FROM contested t WHERE t.id = m.cluster)",
    )
    engine.create(
        "unclaimed",
        "SELECT m.cluster, m.id, s.anchor_rank FROM without_id w JOIN member m ON m.cluster = w.cluster"
        " JOIN node_now n ON n.id = m.id JOIN space_now s ON s.space = n.space",
    )
    engine.create(
        "strongest",
        "SELECT u.cluster, MIN(u.id) AS id, COUNT(*) AS ties FROM unclaimed u JOIN"
        " (SELECT cluster, MIN(anchor_rank) AS anchor_rank FROM unclaimed GROUP BY cluster) b"
        " ON b.cluster = u.cluster AND b.anchor_rank = u.anchor_rank GROUP BY u.cluster",
    )
    engine.upload("minted", _IDS, _minted(engine, nodes_of))
    engine.drop("without_id", "unclaimed", "strongest")


def _minted(engine: Engine, nodes_of: NodesOf) -> Iterator[tuple[int, str, int]]:
    new_ids = _new_ids()
    for cluster, handle_id in engine.rows("SELECT cluster, id FROM strongest WHERE ties = 1"):
        yield cluster, next(new_ids), handle_id
    tied = engine.rows(
        "SELECT u.cluster, u.id FROM unclaimed u JOIN (SELECT u.cluster, MIN(u.anchor_rank) AS anchor_rank"
        " FROM unclaimed u JOIN strongest s ON s.cluster = u.cluster WHERE s.ties > 1 GROUP BY u.cluster) b"
        " ON b.cluster = u.cluster AND b.anchor_rank = u.anchor_rank ORDER BY u.cluster, u.id"
    )
    for piece in _several(tied):
        nodes = nodes_of([handle_id for _, handle_id in piece])
        for cluster, rows in groupby(piece, key=itemgetter(0)):
            yield cluster, next(new_ids), min((handle_id for _, handle_id in rows), key=lambda one: nodes[one].key)


def _new_id() -> str:
    return str(uuid6.uuid7())


def _new_ids() -> Iterator[str]:
    """New ids (UUIDv7), many of one millisecond: `uuid6` lends itself a millisecond of the future for each."""
    while True:
        random, now = os.urandom(10 * _IDS_AT_A_TIME), (time.time_ns() // 1_000_000).to_bytes(6, "big").hex()
        first = f"{now[:8]}-{now[8:]}-7"
        for place in range(0, len(random), 10):
            text = random[place : place + 10].hex()
            yield f"{first}{text[:3]}-{'89ab'[int(text[3], 16) % 4]}{text[4:7]}-{text[7:19]}"
