"""Which id each person of a batch keeps: `identity.partition.hold_ids`, in bulk where that is easy.

It is easy where an anchor of each person can hold its id: then a cluster has the id of the earliest such anchor in it,
and a new one where there is none. Persons of which no anchor can go through `hold_ids` itself.
"""

# Names of tables are put into the SQL, never a value from outside.
# ruff: noqa: S608

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa

from identity.batch.engine import TEXT, WHOLE, Engine, LookUp
from identity.new_ids import new_ids
from identity.partition import hold_ids
from identity.rules import Rules
from stores.graph import Node
from stores.graph.anchors import Anchor, Anchors

_HANDLES_AT_A_TIME = 20_000
_IDS = pa.schema([("cluster", WHOLE), ("person_id", TEXT), ("anchor_id", WHOLE), ("alone", WHOLE)])
_ANCHOR = "person_id, claimed, handle_id, since, alone, present"

NodesOf = Callable[[Iterable[int]], Mapping[int, Node]]


class Held(NamedTuple):
    """What `hold_ids` said of persons of which no anchor can hold the id, beside the ids: the anchors that are new."""

    minted: list[tuple[str, Anchor]]
    anchors: list[tuple[str, Anchor]]


def give_ids(engine: Engine, rules: Rules, nodes_of: NodesOf) -> Held:
    """``person_of`` (cluster, person_id), ``minted``, ``returned`` and ``moved`` (id, before, after).

    ``minted`` (cluster, person_id, anchor_id, alone) are new; the ids of ``returned`` (person_id, claimed, handle_id,
    since, alone) go to another anchor that they have had.

    Args:
        engine: holds the tables that `identity.batch.steps` made.
        rules: for the rank of anchors.
        nodes_of: the handles of those ids, with their texts.
    """
    _find_anchors(engine)
    engine.create("rivals", "SELECT home AS cluster FROM anchor WHERE NOT away GROUP BY home HAVING COUNT(*) > 1")
    engine.create(
        "claim",
        "SELECT a.home AS cluster, a.person_id FROM anchor a WHERE NOT a.away"
        "  AND NOT EXISTS (SELECT 1 FROM rivals r WHERE r.cluster = a.home)"
        " UNION ALL SELECT cluster, person_id FROM (SELECT a.home AS cluster, a.person_id,"
        "   ROW_NUMBER() OVER (PARTITION BY a.home ORDER BY a.claimed, a.person_id) AS place"
        "   FROM anchor a JOIN rivals r ON r.cluster = a.home WHERE NOT a.away) x WHERE place = 1",
    )
    engine.create(
        "returned",
        "SELECT person_id, claimed, handle_id, since, alone FROM anchor WHERE NOT away AND present = 0",
    )
    held = _hold_where_anchors_left(engine, rules, nodes_of)
    _mint(engine, nodes_of)
    engine.create(
        "person_of",
        "SELECT cluster, person_id FROM claim c WHERE NOT EXISTS (SELECT 1 FROM contested t WHERE t.id = c.cluster)"
        " UNION ALL SELECT cluster, person_id FROM held UNION ALL SELECT cluster, person_id FROM minted",
    )
    engine.look_up(
        "moved",
        "SELECT id, person_id AS before FROM handle UNION ALL SELECT id, person_id AS before FROM former",
        LookUp("cluster", "id", "member", "id", "cluster", -1),
        LookUp("after", "cluster", "person_of", "cluster", "person_id", ""),
        where="before <> after",
    )
    return held


def _find_anchors(engine: Engine) -> None:
    """``anchor``: where each person's id is, with its cluster (``home``), or is ``away``; ``line`` (id)."""
    engine.create(  # handles that are a cluster of their own because they link nothing
        "line",
        "SELECT o.id, TRUE AS is_line FROM off o JOIN member m ON m.id = o.id WHERE NOT EXISTS ("
        " SELECT 1 FROM member x WHERE x.cluster = m.cluster AND x.id <> o.id)",
    )
    anchors = (
        "SELECT id AS person_id, claimed, anchor_id AS handle_id, since, alone, 1 AS present FROM person"
        " UNION ALL SELECT person_id, claimed, handle_id, since, alone, 0 AS present FROM other_anchor"
    )
    if any(True for _ in engine.rows("SELECT handle_id FROM cut_now UNION ALL SELECT handle_id FROM cut LIMIT 1")):
        # Where its time is now: a handle may have changed hands, or turned out not to have.
        anchors = (
            "SELECT x.person_id, x.claimed, COALESCE(n.old_id, c.handle_id, x.handle_id) AS handle_id, x.since,"
            f" x.alone, x.present FROM ({anchors}) x LEFT JOIN cut c ON c.old_id = x.handle_id LEFT JOIN cut_now n"
            " ON n.handle_id = COALESCE(c.handle_id, x.handle_id) AND x.since >= n.after_at AND x.since < n.since"
        )
    engine.look_up(
        "any_anchor",
        f"SELECT {_ANCHOR} FROM ({anchors}) a",
        LookUp("home", "handle_id", "member", "id", "cluster", -1),
        LookUp("is_line", "handle_id", "line", "id", "is_line", False),
    )
    # An anchor of which nothing speaks any more has no cluster.
    away = "(home = -1 OR (alone = 0 AND is_line))"
    # The earliest that can hold the id; where none can, that at which it is.
    several = "SELECT 1 FROM other_anchor o WHERE o.person_id = a.person_id"
    engine.create(
        "anchor",
        f"SELECT {_ANCHOR}, home, {away} AS away FROM any_anchor a WHERE NOT EXISTS ({several})"
        f" UNION ALL SELECT {_ANCHOR}, home, {away} AS away FROM (SELECT a.*, ROW_NUMBER() OVER (PARTITION BY person_id"
        f"  ORDER BY {away}, CASE WHEN {away} THEN 1 - present ELSE claimed END) AS place"
        f"  FROM any_anchor a WHERE EXISTS ({several})) x WHERE place = 1",
    )
    engine.drop("any_anchor")


def _hold_where_anchors_left(engine: Engine, rules: Rules, nodes_of: NodesOf) -> Held:
    """``contested`` (id of a cluster, label of its group), ``held`` (cluster, person_id, anchor_id, alone)."""
    engine.create(  # where the id of a person could go: parts of it that have no other
        "stray",
        "SELECT p.person_id, p.cluster FROM ("
        " SELECT DISTINCT a.person_id, m.cluster FROM anchor a JOIN handle h ON h.person_id = a.person_id"
        "  JOIN member m ON m.id = h.id WHERE a.away"
        " UNION SELECT a.person_id, a.home FROM anchor a WHERE a.away AND a.home <> -1) p"
        " WHERE NOT EXISTS (SELECT 1 FROM claim c WHERE c.cluster = p.cluster)",
    )
    engine.connect("contested", "SELECT MIN(cluster) OVER (PARTITION BY person_id) AS a, cluster AS b FROM stray")
    rows = engine.rows(
        "SELECT t.label, m.cluster, m.id, '' AS person_id, 0 AS claimed,"
        "  CASE WHEN o.id IS NULL THEN 'links' ELSE 'shared' END AS link"
        " FROM contested t JOIN member m ON m.cluster = t.id LEFT JOIN off o ON o.id = m.id"
        " UNION ALL SELECT DISTINCT t.label, -1, a.handle_id, a.person_id, a.claimed, '' FROM stray s"
        "  JOIN contested t ON t.id = s.cluster JOIN anchor a ON a.person_id = s.person_id"
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
) -> Iterator[tuple[int, str, int, int]]:
    for rows in pieces:
        clusters: defaultdict[int, set[int]] = defaultdict(set)
        links: dict[int, str] = {}
        anchored: dict[str, Anchors] = {}
        for _, cluster, handle_id, person_id, claimed, link in rows:
            if person_id:
                anchored[person_id] = Anchors(Anchor(claimed, handle_id))
            else:
                clusters[cluster].add(handle_id)
                links[handle_id] = link
        nodes = dict(nodes_of(links))
        for handle_id, node in nodes.items():
            node.link = links[handle_id]
        ids = hold_ids([frozenset(one) for one in clusters.values()], nodes, anchored, rules, new_ids().__next__)
        held.minted.extend((person_id, ids.anchors[person_id]) for person_id in sorted(ids.minted))
        held.anchors.extend(one for one in ids.anchors.items() if one[0] not in ids.minted)
        yield from ((cluster, person_id, -1, 0) for cluster, person_id in zip(clusters, ids.person_ids, strict=True))


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


def _minted(engine: Engine, nodes_of: NodesOf) -> Iterator[tuple[int, str, int, int]]:
    ids = new_ids()
    for cluster, handle_id, alone in engine.rows(
        "SELECT s.cluster, s.id, CASE WHEN l.id IS NULL THEN 0 ELSE 1 END FROM strongest s"
        " LEFT JOIN line l ON l.id = s.id WHERE s.ties = 1"
    ):
        yield cluster, next(ids), handle_id, alone
    tied = engine.rows(
        "SELECT u.cluster, u.id FROM unclaimed u JOIN (SELECT u.cluster, MIN(u.anchor_rank) AS anchor_rank"
        " FROM unclaimed u JOIN strongest s ON s.cluster = u.cluster WHERE s.ties > 1 GROUP BY u.cluster) b"
        " ON b.cluster = u.cluster AND b.anchor_rank = u.anchor_rank ORDER BY u.cluster, u.id"
    )
    for piece in _several(tied):
        nodes = nodes_of([handle_id for _, handle_id in piece])
        for cluster, rows in groupby(piece, key=itemgetter(0)):
            best = min((handle_id for _, handle_id in rows), key=lambda one: nodes[one].key)
            yield cluster, next(ids), best, 0  # with others in the cluster
