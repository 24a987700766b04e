"""Which id each person of a batch keeps: `identity.partition.hold_ids`, in bulk where that is easy.

It is easy where an anchor of each person can hold its id: then a cluster has the id of the earliest such anchor in it,
and a new one where there is none. Persons of which no anchor can go through `hold_ids` itself.
"""

# Names of tables are put into the SQL, never a value from outside.
# ruff: noqa: S608

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count, groupby
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
_IDS = pa.schema([("cluster", WHOLE), ("person", WHOLE), ("person_id", TEXT), ("anchor_id", WHOLE), ("alone", WHOLE)])
_ANCHOR = "person, claimed, handle_id, since, alone, present"
_UNKNOWN = "?"  # no id of a person

NodesOf = Callable[[Iterable[int]], Mapping[int, Node]]


class Held(NamedTuple):
    """What `hold_ids` said of persons of which no anchor can hold the id, beside the ids: the anchors that are new."""

    minted: list[tuple[str, Anchor]]
    anchors: list[tuple[str, Anchor]]


def give_ids(engine: Engine, rules: Rules, nodes_of: NodesOf) -> Held:
    """``person_of`` (cluster, person), ``minted``, ``returned`` and ``moved``.

    ``person`` is the number of a person in the table ``person``; new ones, which are in ``new_person`` (person,
    person_id), have the numbers after these. ``minted`` (cluster, person, person_id, anchor_id, alone) are new; the ids
    of ``returned`` (person, claimed, handle_id, since, alone) go to another anchor that they have had. ``moved`` (id,
    before, after): handles whose person's id is another one now.

    Args:
        engine: holds the tables that `identity.batch.steps` made.
        rules: for the rank of anchors.
        nodes_of: the handles of those ids, with their texts.
    """
    _find_anchors(engine)
    engine.several("rivals", "SELECT home AS id, person AS other FROM anchor WHERE NOT away")
    engine.create(
        "claim",
        "SELECT a.home AS cluster, a.person FROM anchor a WHERE NOT a.away"
        "  AND NOT EXISTS (SELECT 1 FROM rivals r WHERE r.id = a.home)"
        " UNION ALL SELECT cluster, person FROM (SELECT a.home AS cluster, a.person,"
        "   ROW_NUMBER() OVER (PARTITION BY a.home ORDER BY a.claimed, p.id) AS place"
        "   FROM anchor a JOIN rivals r ON r.id = a.home JOIN person p ON p.number = a.person WHERE NOT a.away) x"
        "  WHERE place = 1",
    )
    engine.create(
        "returned",
        "SELECT person, claimed, handle_id, since, alone FROM anchor WHERE NOT away AND present = 0",
    )
    [(persons,)] = engine.rows("SELECT COUNT(*) FROM person")
    numbers = count(persons)
    held = _hold_where_anchors_left(engine, rules, nodes_of, numbers)
    _mint(engine, nodes_of, numbers)
    engine.create(
        "person_of",
        "SELECT cluster, person FROM claim c WHERE NOT EXISTS (SELECT 1 FROM contested t WHERE t.id = c.cluster)"
        " UNION ALL SELECT cluster, person FROM held UNION ALL SELECT cluster, person FROM minted",
    )
    engine.create(
        "new_person",
        f"SELECT person, person_id FROM minted UNION ALL SELECT person, person_id FROM held WHERE person >= {persons}",
    )
    engine.look_up(
        "perhaps_moved",
        "handle",
        LookUp("cluster", "id", "member", "id", "cluster", -1),
        LookUp("person", "cluster", "person_of", "cluster", "person", -1),
        LookUp("known", "person", "person", "number", "id", _UNKNOWN),
        where="person_id <> known",
    )
    of_former = (
        " UNION ALL SELECT f.id, '' AS before, p.person_id AS after FROM former f JOIN member m ON m.id = f.id"
        " JOIN person_of q ON q.cluster = m.cluster JOIN (SELECT number AS person, id AS person_id FROM person"
        "  UNION ALL SELECT person, person_id FROM new_person) p ON p.person = q.person"
    )
    engine.create(
        "moved",
        "SELECT id, before, after FROM (SELECT m.id, m.person_id AS before,"
        f" CASE WHEN m.known <> '{_UNKNOWN}' THEN m.known ELSE COALESCE(n.person_id, '') END AS after"
        " FROM perhaps_moved m LEFT JOIN new_person n ON n.person = m.person) x WHERE before <> after"
        + (of_former if any(True for _ in engine.rows("SELECT id FROM former LIMIT 1")) else ""),
    )
    engine.drop("perhaps_moved")
    return held


def _find_anchors(engine: Engine) -> None:
    """``anchor``: where each person's id is, with its cluster (``home``), or is ``away``; ``line`` (id)."""
    engine.frequent("in_company", "SELECT cluster AS id FROM member", 1)
    engine.look_up(
        "off_member",
        "off",
        LookUp("cluster", "id", "member", "id", "cluster", -1),
        LookUp("company", "cluster", "in_company", "id", "id", -1),
    )
    engine.create(  # handles that are a cluster of their own because they link nothing
        "line",
        "SELECT id, TRUE AS is_line FROM off_member WHERE cluster <> -1 AND company = -1",
    )
    anchors = (
        "SELECT number AS person, claimed, anchor_id AS handle_id, since, alone, 1 AS present FROM person"
        " UNION ALL SELECT p.number, o.claimed, o.handle_id, o.since, o.alone, 0 AS present FROM other_anchor o"
        "  JOIN person p ON p.id = o.person_id"
    )
    if any(True for _ in engine.rows("SELECT handle_id FROM cut_now UNION ALL SELECT handle_id FROM cut LIMIT 1")):
        # Where its time is now: a handle may have changed hands, or turned out not to have.
        anchors = (
            "SELECT x.person, x.claimed, COALESCE(n.old_id, c.handle_id, x.handle_id) AS handle_id, x.since,"
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
    several = "SELECT 1 FROM any_anchor o WHERE o.present = 0 AND o.person = a.person"
    engine.create(
        "anchor",
        f"SELECT {_ANCHOR}, home, {away} AS away FROM any_anchor a WHERE NOT EXISTS ({several})"
        f" UNION ALL SELECT {_ANCHOR}, home, {away} AS away FROM (SELECT a.*, ROW_NUMBER() OVER (PARTITION BY person"
        f"  ORDER BY {away}, CASE WHEN {away} THEN 1 - present ELSE claimed END) AS place"
        f"  FROM any_anchor a WHERE EXISTS ({several})) x WHERE place = 1",
    )
    engine.drop("any_anchor", "in_company", "off_member")


def _hold_where_anchors_left(engine: Engine, rules: Rules, nodes_of: NodesOf, numbers: Iterator[int]) -> Held:
    """``contested`` (id of a cluster, label of its group), ``held`` (cluster, person, person_id, anchor_id, alone)."""
    engine.create(  # where the id of a person could go: parts of it that have no other
        "stray",
        "SELECT s.person, s.cluster FROM ("
        " SELECT DISTINCT a.person, m.cluster FROM anchor a JOIN person p ON p.number = a.person"
        "  JOIN handle h ON h.person_id = p.id JOIN member m ON m.id = h.id WHERE a.away"
        " UNION SELECT a.person, a.home FROM anchor a WHERE a.away AND a.home <> -1) s"
        " WHERE NOT EXISTS (SELECT 1 FROM claim c WHERE c.cluster = s.cluster)",
    )
    engine.connect("contested", "SELECT MIN(cluster) OVER (PARTITION BY person) AS a, cluster AS b FROM stray")
    rows = engine.rows(
        "SELECT t.label, m.cluster, m.id, '' AS person_id, -1 AS person, 0 AS claimed,"
        "  CASE WHEN o.id IS NULL THEN 'links' ELSE 'shared' END AS link"
        " FROM contested t JOIN member m ON m.cluster = t.id LEFT JOIN off o ON o.id = m.id"
        " UNION ALL SELECT DISTINCT t.label, -1, a.handle_id, p.id, p.number, a.claimed, '' FROM stray s"
        "  JOIN contested t ON t.id = s.cluster JOIN anchor a ON a.person = s.person"
        "  JOIN person p ON p.number = s.person"
        " ORDER BY 1, 2, 3, 4"
    )
    held = Held([], [])
    engine.upload("held", _IDS, _held_ids(_several(rows), rules, nodes_of, held, numbers))
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
    pieces: Iterable[list[tuple[Any, ...]]], rules: Rules, nodes_of: NodesOf, held: Held, numbers: Iterator[int]
) -> Iterator[tuple[int, int, str, int, int]]:
    for rows in pieces:
        clusters: defaultdict[int, set[int]] = defaultdict(set)
        links: dict[int, str] = {}
        anchored: dict[str, Anchors] = {}
        persons: dict[str, int] = {}
        for _, cluster, handle_id, person_id, person, claimed, link in rows:
            if person_id:
                anchored[person_id], persons[person_id] = Anchors(Anchor(claimed, handle_id)), person
            else:
                clusters[cluster].add(handle_id)
                links[handle_id] = link
        nodes = dict(nodes_of(links))
        for handle_id, node in nodes.items():
            node.link = links[handle_id]
        ids = hold_ids([frozenset(one) for one in clusters.values()], nodes, anchored, rules, new_ids().__next__)
        held.minted.extend((person_id, ids.anchors[person_id]) for person_id in sorted(ids.minted))
        held.anchors.extend(one for one in ids.anchors.items() if one[0] not in ids.minted)
        persons |= zip(sorted(ids.minted), numbers, strict=False)
        for cluster, person_id in zip(clusters, ids.person_ids, strict=True):
            yield cluster, persons[person_id], person_id, -1, 0


def _mint(engine: Engine, nodes_of: NodesOf, numbers: Iterator[int]) -> None:
    """``minted``: new ids for clusters in which no anchor is, held by the strongest handle."""
    engine.look_up(  # a cluster is named after the smallest handle in it
        "without_id",
        "SELECT cluster FROM member WHERE id = cluster",
        LookUp("person", "cluster", "claim", "cluster", "person", -1),
        LookUp("rival", "cluster", "contested", "id", "label", -1),
        where="person = -1 AND rival = -1",
    )
    engine.look_up(
        "without_person",
        "member",
        LookUp("wanting", "cluster", "without_id", "cluster", "cluster", -1),
        where="wanting <> -1",
    )
    engine.create(
        "unclaimed",
        "SELECT m.cluster, m.id, s.anchor_rank FROM without_person m JOIN node_now n ON n.id = m.id"
        " JOIN space_now s ON s.space = n.space",
    )
    engine.create(
        "strongest",
        "SELECT u.cluster, MIN(u.id) AS id, COUNT(*) AS ties FROM unclaimed u JOIN"
        " (SELECT cluster, MIN(anchor_rank) AS anchor_rank FROM unclaimed GROUP BY cluster) b"
        " ON b.cluster = u.cluster AND b.anchor_rank = u.anchor_rank GROUP BY u.cluster",
    )
    engine.upload("minted", _IDS, _minted(engine, nodes_of, numbers))
    engine.drop("without_id", "without_person", "unclaimed", "strongest")


def _minted(engine: Engine, nodes_of: NodesOf, numbers: Iterator[int]) -> Iterator[tuple[int, int, str, int, int]]:
    ids = new_ids()
    for cluster, handle_id, alone in engine.rows(
        "SELECT s.cluster, s.id, CASE WHEN l.id IS NULL THEN 0 ELSE 1 END FROM strongest s"
        " LEFT JOIN line l ON l.id = s.id WHERE s.ties = 1"
    ):
        yield cluster, next(numbers), next(ids), handle_id, alone
    tied = engine.rows(
        "SELECT u.cluster, u.id FROM unclaimed u JOIN (SELECT u.cluster, MIN(u.anchor_rank) AS anchor_rank"
        " FROM unclaimed u JOIN strongest s ON s.cluster = u.cluster WHERE s.ties > 1 GROUP BY u.cluster) b"
        " ON b.cluster = u.cluster AND b.anchor_rank = u.anchor_rank ORDER BY u.cluster, u.id"
    )
    for piece in _several(tied):
        nodes = nodes_of([handle_id for _, handle_id in piece])
        for cluster, rows in groupby(piece, key=itemgetter(0)):
            best = min((handle_id for _, handle_id in rows), key=lambda one: nodes[one].key)
            yield cluster, next(numbers), next(ids), best, 0  # with others in the cluster
