"""Who is who in everything that is stored, as SQL: the same function as `identity.resolver`, over whole tables.

The text is the part of SQL that DuckDB and Spark share. What only few components need (a rule is broken, ties are
broken by the handles' text) goes through `identity.partition`, the same code as in the stream.

Tables that it starts from: those of `stores.graph.bulk.Export`. Tables that it makes, in this order:

=============  ======================================================================================
node           each handle with its space (kind and scope, as a number) and whether its value may link
pair           all evidence that links, with both spaces
watched        handles of whose evidence the rules may say something: the others need no second look
cut_now        when handles changed hands
told_pair      the same as pair, and which ends changed hands
retold         the evidence of these, told of the handle as it was at the time
off            handles that link nothing: by their value, or because several people share them
seen           the same as told_pair, and which ends several people share; of retold: seen_again
comp           the raw component of every living handle
member         the person of every living handle, as a number: the smallest handle in it
refused        links that a rule refused
=============  ======================================================================================
"""

# Names of tables and numbers are put into the SQL, never a value from outside.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import pyarrow as pa

from identity.batch.engine import TEXT, WHOLE, Engine, LookUp
from identity.partition import DECIDED, SAME_ID_METHODS, Link, persons_of_component
from identity.rules import Rules
from stores.codec import Codec
from stores.graph import FORMER, Node

_DAY = 86_400_000_000
_SAME_ID = ", ".join(f"'{method}'" for method in sorted(SAME_ID_METHODS))


def _seen(seen: str = "seen", again: str = "seen_again", *more: str) -> str:
    """All evidence, told of each handle as it was at the time, and whether it links (``free``)."""
    return " UNION ALL ".join(
        f"SELECT {', '.join(['a', 'b', 'rank', 'first_at', 'space_a', 'space_b', *more])},"
        f" may_a AND may_b AND a <> b AND NOT shared_a AND NOT shared_b AS free FROM {table}"
        for table in (f"{seen} WHERE NOT cut_a AND NOT cut_b", again)
    )


def upload_rules(engine: Engine, rules: Rules) -> None:
    """The rules as tables: ``strength``, ``kind_rule``, ``cap`` and ``recycled``, by kinds that handles have."""
    kinds = sorted(kind for (kind,) in engine.rows("SELECT DISTINCT kind FROM sort"))
    kinds += [FORMER + kind for kind in kinds if FORMER + kind not in kinds]
    engine.upload(
        "strength",
        pa.schema([("strength", TEXT), ("rank", WHOLE)]),
        ((strength, index + 1) for index, strength in enumerate(rules.linking_strengths)),
    )
    engine.upload(
        "kind_rule",
        pa.schema([("kind", TEXT), ("anchor_rank", WHOLE), ("most", WHOLE)]),
        (
            (kind, rules.of(kind).anchor_rank, rules.of(kind).max_per_person if kind in rules.limited_kinds else None)
            for kind in kinds
        ),
    )
    engine.upload(
        "cap",
        pa.schema([("kind", TEXT), ("other", TEXT), ("most", WHOLE)]),
        ((kind, other, most) for kind in kinds for other, most in rules.of(kind).caps.items()),
    )
    engine.upload(
        "recycled",
        pa.schema([("kind", TEXT), ("other", TEXT), ("idle", WHOLE)]),
        (
            (kind, other, days * _DAY)
            for kind in kinds
            if not kind.startswith(FORMER)
            for other, days in rules.of(kind).recycled.items()
        ),
    )


def find_nodes_and_pairs(engine: Engine) -> None:
    """``node`` and ``pair``, of handles as they are named today; reads ``judged`` (id, link, may)."""
    engine.create(
        "space",
        "SELECT d.kind, d.scope, CAST(ROW_NUMBER() OVER (ORDER BY d.kind, d.scope) AS INTEGER) AS space,"
        " k.anchor_rank, k.most"
        " FROM (SELECT DISTINCT kind, scope FROM sort) d JOIN kind_rule k ON k.kind = d.kind",
    )
    engine.create(
        "space_of_sort",
        "SELECT d.sort, s.space, d.link IN ('links', 'shared') AS may FROM sort d"
        " JOIN space s ON s.kind = d.kind AND s.scope = d.scope",
    )
    engine.look_up(
        "node",
        "handle",
        LookUp("space", "sort", "space_of_sort", "sort", "space", -1),
        LookUp("may_by_sort", "sort", "space_of_sort", "sort", "may", False),
        LookUp("may", "id", "judged", "id", "may", False, otherwise="may_by_sort"),
    )
    engine.create(
        "rank_of_how",
        f"SELECT h.how, CAST(CASE WHEN h.method IN ({_SAME_ID}) THEN 0 ELSE s.rank END AS SMALLINT) AS rank,"
        " h.source = 'contact' AS of_contact FROM how h JOIN strength s ON s.strength = h.strength",
    )
    not_linking = engine.rows(
        "SELECT h.how FROM how h WHERE NOT EXISTS (SELECT 1 FROM rank_of_how r WHERE r.how = h.how)"
    )
    engine.look_up(
        "pair",
        "evidence",
        LookUp("rank", "how", "rank_of_how", "how", "rank", -1),
        LookUp("of_contact", "how", "rank_of_how", "how", "of_contact", False),
        *_of_ends(("space", "node", "id", "space", -1), ("may", "node", "id", "may", False)),
        where="rank <> -1" if any(True for _ in not_linking) else "",
    )


def _of_ends(*columns: tuple[str, str, str, str, int | bool]) -> list[LookUp]:
    """Of both ends of a pair: (column, table, by, value, missing)."""
    return [
        LookUp(f"{column}_{end}", end, table, by, value, missing)
        for end in "ab"
        for column, table, by, value, missing in columns
    ]


def find_changes_of_hands(engine: Engine) -> None:
    """``watched``, and ``cut_wanted`` (handle_id, since): see `identity.partition.changes_of_hands`, what people said.

    ``watched`` (id): handles with several neighbours of which a rule may say that they are too many, or owners in turn.
    """
    engine.create(
        "rule_between",
        "SELECT h.space, o.space AS other_space, MIN(x.most) AS most, MIN(x.idle) AS idle FROM ("
        " SELECT kind, other, most, NULL AS idle FROM cap UNION ALL SELECT kind, other, NULL, idle FROM recycled) x"
        " JOIN space h ON h.kind = x.kind JOIN space o ON o.kind = x.other GROUP BY h.space, o.space",
    )
    near = (
        "SELECT p.{0} AS id, p.{1} AS other FROM pair p"
        " JOIN rule_between r ON r.space = p.space_{0} AND r.other_space = p.space_{1}"
        " WHERE p.may_{0} AND p.a <> p.b"
    )
    engine.several("watched", f"{near.format('a', 'b')} UNION ALL {near.format('b', 'a')}")
    engine.look_up("watched_pair", "pair", *_of_ends(("watched", "watched", "id", "id", -1)))
    seen = (
        "SELECT p.{0} AS handle_id, p.{1} AS other_id, r.other_space AS space, r.idle, p.first_at, p.last_at"
        " FROM watched_pair p JOIN rule_between r ON r.space = p.space_{0} AND r.other_space = p.space_{1}"
        " WHERE p.watched_{0} <> -1 AND r.idle IS NOT NULL AND p.may_{0} AND p.a <> p.b AND NOT p.of_contact"
    )
    engine.create(
        "owner",
        "SELECT handle_id, other_id, space, idle, MIN(first_at) AS first_at, MAX(last_at) AS last_at"
        f" FROM ({seen.format('a', 'b')} UNION ALL {seen.format('b', 'a')}) o"
        " GROUP BY handle_id, other_id, space, idle",
    )
    engine.create(
        "suspect",
        "SELECT handle_id, space FROM owner GROUP BY handle_id, space"
        " HAVING COUNT(*) > 1 AND MAX(first_at) - MIN(last_at) >= MIN(idle)",
    )
    engine.create(
        "suspect_owner",
        "SELECT o.*, ROW_NUMBER() OVER (ORDER BY o.handle_id, o.other_id) AS number FROM owner o"
        " JOIN suspect s ON s.handle_id = o.handle_id AND s.space = o.space",
    )
    _find_names(
        engine, "owner_name", "suspect_owner", "SELECT a, b FROM pair WHERE rank = 0 AND a <> b AND NOT of_contact"
    )
    engine.create(
        "cut_wanted",
        "SELECT handle_id, first_at AS since FROM ("
        " SELECT handle_id, first_at, idle, first_at - MAX(last_at) OVER (PARTITION BY handle_id, space"
        "  ORDER BY first_at, last_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS idle_for"
        " FROM (SELECT o.handle_id, o.space, o.idle, MIN(o.first_at) AS first_at, MAX(o.last_at) AS last_at"
        "  FROM suspect_owner o LEFT JOIN owner_name n ON n.id = o.number"
        "  GROUP BY o.handle_id, o.space, o.idle, COALESCE(n.label, o.number)) span"
        ") spans WHERE idle_for >= idle"
        " UNION SELECT d.a, d.since FROM decision d JOIN node n ON n.id = d.a AND n.may"
        " JOIN space s ON s.space = n.space"
        f" WHERE d.kind = 'recycled' AND d.since <> -1 AND SUBSTRING(s.kind, 1, {len(FORMER)}) <> '{FORMER}'",
    )
    engine.create(
        "cut_gone",
        "SELECT c.handle_id, c.since, c.old_id FROM cut c LEFT JOIN cut_wanted w"
        " ON w.handle_id = c.handle_id AND w.since = c.since WHERE w.handle_id IS NULL",
    )
    engine.create(
        "cut_missing",
        "SELECT w.handle_id, w.since FROM cut_wanted w LEFT JOIN cut c"
        " ON c.handle_id = w.handle_id AND c.since = w.since WHERE c.handle_id IS NULL",
    )
    engine.drop("watched_pair", "owner", "suspect", "suspect_owner", "owner_name")


def _find_names(engine: Engine, name: str, neighbours: str, renames: str) -> None:
    """Make the table (id, label) of the numbers of neighbours of one handle that are one under several names.

    Args:
        engine: for the tables.
        name: of the table.
        neighbours: the table (number, handle_id, space, other_id).
        renames: the pairs (a, b) of ids that are one.
    """
    engine.create(
        "renamed",
        f"SELECT x.handle_id, x.space, x.number, p.b FROM ({renames}) p JOIN {neighbours} x ON x.other_id = p.a",
    )
    engine.connect(
        name,
        f"SELECT x.number AS a, y.number AS b FROM renamed x JOIN {neighbours} y"
        " ON y.handle_id = x.handle_id AND y.space = x.space AND y.other_id = x.b",
    )
    engine.drop("renamed")


def tell_of_former_handles(engine: Engine, former: Sequence[Node]) -> None:
    """``cut_now``, ``space_now``, ``node_now``, ``retold``, and ``kept``: whose ends of ``pair`` changed hands.

    Reads ``cut_new`` (handle_id, since, old_id); `former` are the handles in it that the graph does not have yet.
    """
    engine.upload(
        "former",
        pa.schema([("id", WHOLE), ("kind", TEXT), ("scope", TEXT), ("link", TEXT), ("person_id", TEXT)]),
        ((node.handle_id, node.kind, node.scope or "", "links", "") for node in former),
    )
    engine.create(
        "cut_now",
        "SELECT handle_id, since, old_id, COALESCE(LAG(since) OVER (PARTITION BY handle_id ORDER BY since),"
        " -9223372036854775807) AS after_at FROM ("
        " SELECT c.handle_id, c.since, c.old_id FROM cut c"
        "  JOIN cut_wanted w ON w.handle_id = c.handle_id AND w.since = c.since"
        " UNION ALL SELECT handle_id, since, old_id FROM cut_new) c",
    )
    # Of former kinds no rule asks for the scope, save a cap for a former kind: they get numbers after all others.
    engine.create(
        "space_now",
        "SELECT kind, scope, space, anchor_rank, most FROM space UNION ALL"
        " SELECT d.kind, d.scope, CAST(ROW_NUMBER() OVER (ORDER BY d.kind, d.scope) + (SELECT COUNT(*) FROM space)"
        "  AS INTEGER), k.anchor_rank, k.most FROM (SELECT DISTINCT f.kind, f.scope FROM former f LEFT JOIN space s"
        "  ON s.kind = f.kind AND s.scope = f.scope WHERE s.kind IS NULL) d JOIN kind_rule k ON k.kind = d.kind",
    )
    engine.create(
        "node_now",
        "SELECT id, space, may FROM node UNION ALL SELECT f.id, s.space, TRUE AS may FROM former f"
        " JOIN space_now s ON s.kind = f.kind AND s.scope = f.scope",
    )
    engine.create("changed", "SELECT DISTINCT handle_id AS id, TRUE AS is_changed FROM cut_now")
    engine.look_up("told_pair", "pair", *_of_ends(("cut", "changed", "id", "is_changed", False)))
    engine.create("recalled", "SELECT a, b, rank, first_at, last_at FROM told_pair WHERE cut_a OR cut_b")
    engine.create(
        "retelling",
        "SELECT LEAST(COALESCE(c.old_id, p.a), COALESCE(d.old_id, p.b)) AS a,"
        "  GREATEST(COALESCE(c.old_id, p.a), COALESCE(d.old_id, p.b)) AS b, p.rank, p.first_at FROM recalled p"
        " LEFT JOIN cut_now c ON c.handle_id = p.a AND p.last_at >= c.after_at AND p.last_at < c.since"
        " LEFT JOIN cut_now d ON d.handle_id = p.b AND p.last_at >= d.after_at AND p.last_at < d.since"
        # Seen alone, a handle was somebody's before each change of hands too.
        " UNION ALL SELECT c.old_id, c.old_id, p.rank, p.first_at FROM recalled p"
        " JOIN cut_now c ON c.handle_id = p.a AND p.first_at < c.since AND c.since <= p.last_at WHERE p.a = p.b",
    )
    engine.create(
        "retold",
        "SELECT r.a, r.b, r.rank, r.first_at, x.space AS space_a, x.may AS may_a, y.space AS space_b, y.may AS may_b"
        " FROM retelling r JOIN node_now x ON x.id = r.a JOIN node_now y ON y.id = r.b",
    )
    engine.drop("node", "pair", "recalled", "retelling", "changed")


def find_shared(engine: Engine) -> None:
    """``crowded`` (handle_id, neighbours): over a cap; ``shared`` (id); ``off`` (id)."""
    engine.create(
        "cap_by_space",
        "SELECT h.space, o.space AS other_space, c.most FROM cap c"
        " JOIN space_now h ON h.kind = c.kind JOIN space_now o ON o.kind = c.other",
    )
    # Only these can have more neighbours than a cap: a change of hands makes fewer, save of another kind.
    engine.create(
        "eyed",
        "SELECT id FROM watched UNION SELECT a FROM retold UNION SELECT b FROM retold"
        + "".join(
            f" UNION SELECT p.{end} FROM told_pair p JOIN rule_between r ON r.most = 0 AND r.space = p.space_{end}"
            f" AND r.other_space = p.space_{other}"
            for end, other in ("ab", "ba")
        ),
    )
    for name, table in (("eyed_pair", "told_pair"), ("eyed_retold", "retold")):
        engine.look_up(name, table, *_of_ends(("eyed", "eyed", "id", "id", -1)))
    near = (
        "SELECT p.{0} AS handle_id, p.{1} AS other_id, c.other_space AS space, c.most FROM {2} p"
        " JOIN cap_by_space c ON c.space = p.space_{0} AND c.other_space = p.space_{1}"
        " WHERE p.eyed_{0} <> -1 AND p.may_a AND p.may_b AND p.a <> p.b"
    )
    kept = " AND NOT p.cut_a AND NOT p.cut_b"
    both = " UNION ALL ".join(
        near.format(*ends, table) + more
        for ends in ("ab", "ba")
        for table, more in (("eyed_pair", kept), ("eyed_retold", ""))
    )
    engine.create(
        "neighbour",
        "SELECT n.*, ROW_NUMBER() OVER (ORDER BY n.handle_id, n.other_id) AS number FROM ("
        f" SELECT DISTINCT n.handle_id, n.other_id, n.space, n.most FROM ({both}) n) n",
    )
    _find_names(
        engine,
        "neighbour_name",
        "neighbour",
        f"SELECT a, b FROM told_pair p WHERE rank = 0 AND a <> b{kept}"
        " UNION ALL SELECT a, b FROM retold WHERE rank = 0 AND a <> b",
    )
    engine.create(
        "crowded",
        "SELECT handle_id, MAX(neighbours) AS neighbours FROM ("
        " SELECT n.handle_id, n.space, COUNT(DISTINCT COALESCE(m.label, n.number)) AS neighbours, MIN(n.most) AS most"
        " FROM neighbour n LEFT JOIN neighbour_name m ON m.id = n.number GROUP BY n.handle_id, n.space) c"
        " WHERE neighbours > most GROUP BY handle_id",
    )
    engine.create(
        "told",
        "SELECT a AS handle_id, MAX(kind) AS kind FROM decision WHERE kind IN ('shared', 'private') GROUP BY a",
    )
    engine.create(
        "shared",
        "SELECT id, TRUE AS is_shared FROM ("
        " SELECT c.handle_id AS id FROM crowded c LEFT JOIN told t ON t.handle_id = c.handle_id"
        "  WHERE t.handle_id IS NULL"
        " UNION SELECT t.handle_id FROM told t JOIN node_now n ON n.id = t.handle_id AND n.may"
        "  WHERE t.kind = 'shared') x",
    )
    engine.create("off", "SELECT id FROM shared UNION ALL SELECT id FROM node_now WHERE NOT may")
    engine.drop("watched", "rule_between", "eyed", "eyed_pair", "eyed_retold")
    engine.drop("neighbour", "neighbour_name", "cap_by_space")


def find_components(engine: Engine, rules: Rules) -> None:
    """``seen``, ``same`` (a, b), ``comp`` (id, label) and ``broken`` (component); `_seen` has the evidence."""
    engine.create(
        "same",
        "SELECT DISTINCT LEAST(a, b) AS a, GREATEST(a, b) AS b FROM decision WHERE kind = 'same'",
    )
    for name, table in (("seen", "told_pair"), ("seen_again", "retold")):
        engine.look_up(name, table, *_of_ends(("shared", "shared", "id", "is_shared", False)))
    # What does not link says that both handles are there.
    engine.connect(
        "comp",
        f"SELECT a, CASE WHEN free THEN b ELSE a END AS b FROM ({_seen()}) e"
        f" UNION ALL SELECT b, b FROM ({_seen()}) e WHERE NOT free UNION ALL SELECT a, b FROM same",
    )
    engine.create("limited", "SELECT space, most FROM space_now WHERE most IS NOT NULL")
    engine.connect(
        "one_id",
        f"SELECT l.a, l.b FROM ({_seen()}) l JOIN limited m ON m.space = l.space_a"
        " WHERE l.free AND l.rank = 0 AND l.space_a = l.space_b"
        " UNION ALL SELECT a, b FROM same",
    )
    engine.frequent("large", "SELECT label AS id FROM comp", rules.max_handles_per_person)
    # Nothing is over its limit where there is one handle of a kind and scope only: nearly everywhere.
    [(spaces,)] = engine.rows("SELECT COALESCE(MAX(space), 0) + 1 FROM space_now")
    engine.look_up(
        "limited_node",
        "SELECT n.id, CAST(n.space AS BIGINT) AS space, m.most FROM node_now n JOIN limited m ON m.space = n.space",
        LookUp("component", "id", "comp", "id", "label", -1),
        where="component <> -1",
    )
    engine.frequent("several_ids", f"SELECT component * {spaces} + space AS id FROM limited_node", 1)
    engine.look_up("decided", "decision", *_of_ends(("component", "comp", "id", "label", -1)))
    engine.create(
        "broken",
        "SELECT id AS component FROM large"
        " UNION SELECT component FROM (SELECT n.component, n.space,"
        "  COUNT(DISTINCT COALESCE(o.label, n.id)) AS ids, MIN(n.most) AS most FROM limited_node n"
        f"  JOIN several_ids s ON s.id = n.component * {spaces} + n.space LEFT JOIN one_id o ON o.id = n.id"
        "  GROUP BY n.component, n.space) x WHERE ids > most"
        " UNION SELECT component_a FROM decided WHERE kind = 'different' AND component_a = component_b",
    )
    engine.drop("one_id", "limited", "large", "limited_node", "several_ids", "told_pair", "retold")


def divide_broken(engine: Engine, rules: Rules, places: Callable[[Iterable[int]], Mapping[int, int]]) -> None:
    """``split`` (id, cluster) and ``refused`` (a, b, reason), of the components that break a rule; ``member``.

    Args:
        engine: holds the tables.
        rules: as the stream follows them.
        places: of these handles, which comes first by its text: numbers instead of texts, so that no text leaves us.
    """
    component = LookUp("component", "label", "broken", "component", "component", -1)
    engine.look_up("broken_handle", "comp", component, where="component <> -1")
    component = LookUp("component", "a", "broken_handle", "id", "component", -1)
    for name, table in (("broken_seen", "seen"), ("broken_seen_again", "seen_again")):
        engine.look_up(name, table, component, where="component <> -1")
    engine.create(
        "link",
        "SELECT component, a, b, rank, first_at"
        f" FROM ({_seen('broken_seen', 'broken_seen_again', 'component')}) l WHERE free"
        f" UNION ALL SELECT h.component, m.a, m.b, {DECIDED} AS rank, 0 AS first_at"
        " FROM same m JOIN broken_handle h ON h.id = m.a",
    )
    # Texts are dear, as they are encrypted: only where links are as strong and as old do they tell which comes first.
    tied = engine.rows(
        "SELECT DISTINCT e.id FROM (SELECT component, rank, first_at, a AS id FROM link"
        "  UNION ALL SELECT component, rank, first_at, b FROM link) e JOIN (SELECT component, rank, first_at"
        "  FROM (SELECT DISTINCT component, a, b, rank, first_at FROM link) l GROUP BY component, rank, first_at"
        "  HAVING COUNT(*) > 1) t ON t.component = e.component AND t.rank = e.rank AND t.first_at = e.first_at"
    )
    places_of_tied = places(handle_id for (handle_id,) in tied)
    engine.upload("place", pa.schema([("id", WHOLE), ("place", WHOLE)]), places_of_tied.items())
    # What makes up a broken component, one row each: a handle, a link, or two handles that are not to be together.
    engine.create(
        "piece",
        "SELECT h.component, 'handle' AS what, h.id AS a, COALESCE(p.place, 0) AS b, 0 AS rank, 0 AS first_at,"
        "  s.kind, s.scope FROM broken_handle h LEFT JOIN place p ON p.id = h.id JOIN node_now n ON n.id = h.id"
        "  JOIN space_now s ON s.space = n.space"
        " UNION ALL SELECT component, 'link', a, b, rank, first_at, '', '' FROM link"
        " UNION ALL SELECT component_a, 'apart', a, b, 0, 0, '', '' FROM decided"
        "  WHERE kind = 'different' AND component_a = component_b AND component_a <> -1",
    )
    engine.map_groups(
        "outcome",
        pa.schema([("a", WHOLE), ("b", WHOLE), ("reason", TEXT)]),
        "SELECT component, what, a, b, rank, first_at, kind, scope FROM piece",
        _Divide(rules),
    )
    engine.create("refused", "SELECT a, b, reason FROM outcome WHERE reason <> ''")
    engine.create("divided", "SELECT a AS id, b AS cluster FROM outcome WHERE reason = ''")
    engine.look_up("member", "comp", LookUp("cluster", "id", "divided", "id", "cluster", -1, otherwise="label"))
    engine.drop("comp", "seen", "seen_again", "broken_handle", "broken_seen", "broken_seen_again")
    engine.drop("decided", "divided", "link", "piece", "place", "same")


class _Placed(Node):
    """A handle whose text is not here: a number says where it comes among the others."""

    __slots__ = ("key",)

    key: str


class _Divide:
    """`persons_of_component` over the rows of one component; an object, as Spark sends it to its workers."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def __reduce__(self) -> tuple[Callable[[str], _Divide], tuple[str]]:
        return _divide_by, (self._rules.model_dump_json(),)

    def __call__(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        nodes: dict[int, Node] = {}
        links: dict[tuple[int, int], Link] = {}
        apart: set[tuple[int, int]] = set()
        for _, what, a, b, rank, first_at, kind, scope in rows:
            if what == "handle":
                node = _Placed(a, kind, scope or None, "links", None, b"", cast("Codec", None))
                node.key, nodes[a] = f"{b:020d}", node
            elif what == "link":
                link = Link(rank, first_at, "", "")
                links[a, b] = min(links.get((a, b), link), link)
            else:
                apart.add((a, b) if a <= b else (b, a))
        part = persons_of_component(nodes, links, self._rules, apart)
        return [
            *((handle_id, min(cluster), "") for cluster in part.clusters for handle_id in cluster),
            *((*pair, reason) for pair, reason in part.refused.items()),
        ]


@lru_cache(maxsize=1)
def _divide_by(rules: str) -> _Divide:
    return _Divide(Rules.model_validate_json(rules))
