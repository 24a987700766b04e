"""Decide everything that is stored anew, and write what is different.

The long part reads one state of the graph and writes nothing; records go on being resolved meanwhile. What is different
is written in one short transaction. When somebody wrote to the graph in between, it is not written: the handles that
were found to be different are decided by the stream's resolver instead, some at a time, with the evidence of that
moment. All others were right, and whoever touched them since has decided them.
"""

# Names of tables and numbers are put into the SQL, and kinds from the rules in quotes.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa

from identity.batch import ids, steps
from identity.batch.engine import TEXT, WHOLE, Engine
from identity.batch.scratch import Scratch
from identity.resolver import Resolver
from identity.rules import Rules
from mappings.errors import SettingsError
from stores.database import Database, Stores
from stores.graph import Graph, Node, bulk, moment_of, time_text
from stores.graph.anchors import NEW, Anchor
from stores.graph.nodes import former_handle

EngineName = Literal["embedded", "spark"]
Say = Callable[[str], None]

_HUBS = 10
_AT_A_TIME = 500


class Hub(NamedTuple):
    """A handle that comes to be shared by several people."""

    handle_id: int
    kind: str
    neighbours: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a rebuild found; counts, and the handles that come to be shared, those with most neighbours first.

    Attributes:
        handles: that the graph has.
        persons: that there are now.
        shared: handles that several people use now.
        refused: links that a rule refuses now.
        persons_new: persons that did not exist before.
        merges: persons that become part of another one.
        splits: persons of which a part goes to another one.
        ids_changed: handles whose person has another id now, or none any more.
        links_changed: handles that come to be shared, or no longer are, or are judged otherwise by the rules.
        hands_changed: numbers of which it turned out, or is no longer thought, that somebody else has them now.
        conflicts_changed: refused links that are new, or no longer refused.
        hubs: see `Hub`.
        rules_changed: whether the graph followed other rules before.
        written: ``nothing`` (a dry run, or there was nothing), ``all`` at once, or ``piecewise`` by the resolver,
            because somebody else wrote to the graph at the same time.
    """

    handles: int
    persons: int
    shared: int
    refused: int
    persons_new: int
    merges: int
    splits: int
    ids_changed: int
    links_changed: int
    hands_changed: int
    conflicts_changed: int
    hubs: tuple[Hub, ...]
    rules_changed: bool
    written: Literal["nothing", "all", "piecewise"] = "nothing"

    @property
    def differences(self) -> int:
        """How much is different from what was stored; 0 says that the stored graph is right to the byte."""
        return self.ids_changed + self.links_changed + self.hands_changed + self.conflicts_changed


def rebuild(
    stores: Stores,
    rules: Rules,
    *,
    engine: EngineName = "embedded",
    dry_run: bool = False,
    say: Say = print,
) -> Report:
    """Decide all persons anew from the stored evidence and decisions, by these rules.

    Args:
        stores: with the graph.
        rules: to decide by. Other rules than the graph follows are what the graph follows afterwards.
        engine: ``embedded`` (DuckDB and SciPy) or ``spark``; both find the same.
        dry_run: only tell what would change.
        say: told the progress, a line each.

    Repeats: a second one finds nothing to do.

    Raises:
        SettingsError: the extra ``batch`` (or ``spark``) is not installed.
    """
    why = "rebuilt"
    graph = Graph(stores)
    rules_changed = graph.setting("rules") not in {None, rules.digest()}
    while True:
        with _Found(stores, rules, engine, say) as found:
            report = found.report(rules_changed=rules_changed)
            if dry_run:
                return report
            settings = {"rules": rules.digest()}
            if rules_changed:
                why = "the rules changed"
            if not report.differences and graph.setting("rules") == rules.digest():
                return report
            if bulk.write(stores, found.generation, found.differences(), settings, why):
                say(f"wrote {report.differences} differences")
                return replace(report, written="all")
            if graph.setting("rules") == rules.digest():
                resolver = Resolver(graph, rules)
                handle_ids = found.different_handles()
                while piece := set(islice(handle_ids, _AT_A_TIME)):
                    resolver.decide_anew(piece, why)
                say("others wrote to the graph at the same time; what was different was decided piece by piece")
                return replace(report, written="piecewise")
        # Others follow these rules from now on, so what they do while we look once more is right.
        with graph.transaction():
            graph.save_setting("rules", rules.digest())


class _Found:
    """What an engine found in one state of the graph, as tables of the engine; a context that cleans up."""

    def __init__(self, stores: Stores, rules: Rules, engine: EngineName, say: Say) -> None:
        self._stores, self._rules, self._say = stores, rules, say
        self._database: Database = stores.database("graph")
        self._scratch = Scratch()
        try:
            self._engine: Engine = _open(engine, self._scratch.path)
        except BaseException:
            self._scratch.close()
            raise
        self._former: dict[int, Node] = {}
        self._cuts_new: list[tuple[int, int, int]] = []
        self._first_new_id = 0

    def __enter__(self) -> _Found:
        try:
            self._find()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()
        self._scratch.close()

    def _find(self) -> None:
        engine, rules = self._engine, self._rules
        exported = bulk.export(self._stores, self._scratch.path)
        self.generation = exported.generation
        engine.read(exported.tables)
        self._say("read the graph")
        steps.upload_rules(engine, rules)
        judged = pa.schema([("id", WHOLE), ("link", TEXT), ("may", pa.bool_())])
        engine.upload("judged", judged, self._judged())
        steps.find_nodes_and_pairs(engine)
        steps.find_changes_of_hands(engine)
        self._name_former_handles()
        steps.tell_of_former_handles(engine, list(self._former.values()))
        steps.find_shared(engine)
        steps.find_components(engine, rules)
        self._say("found what is connected")
        steps.divide_broken(engine, rules, self._places)
        self._held = ids.give_ids(engine, rules, self._nodes_of)
        engine.create(
            "relinked",
            "SELECT id, kind, link FROM (SELECT h.id, h.kind, h.link AS before,"
            " CASE WHEN s.id IS NOT NULL THEN 'shared'"
            " WHEN COALESCE(j.link, h.link) = 'shared' THEN 'links' ELSE COALESCE(j.link, h.link) END AS link FROM ("
            "  SELECT h.id, s.kind, s.link FROM handle h JOIN sort s ON s.sort = h.sort"
            "  UNION ALL SELECT id, kind, link FROM former) h"
            " LEFT JOIN shared s ON s.id = h.id LEFT JOIN judged j ON j.id = h.id"
            " WHERE s.id IS NOT NULL OR j.id IS NOT NULL OR h.link = 'shared') x WHERE before <> link",
        )
        engine.create(
            "shift",
            "SELECT m.id, m.before, m.after, f.targets = 1 AND q.person IS NULL AS merged FROM moved m JOIN"
            " (SELECT before, COUNT(DISTINCT after) AS targets FROM moved WHERE before <> '' AND after <> ''"
            "  GROUP BY before) f ON f.before = m.before LEFT JOIN person p ON p.id = m.before"
            " LEFT JOIN person_of q ON q.person = p.number WHERE m.after <> ''",
        )
        for name, one, other in (("gone", "conflict", "refused"), ("new", "refused", "conflict")):
            engine.create(
                f"conflict_{name}",
                f"SELECT x.a, x.b, x.reason FROM {one} x LEFT JOIN {other} y"
                " ON y.a = x.a AND y.b = x.b AND y.reason = x.reason WHERE y.a IS NULL",
            )
        self._say("found the persons")

    def report(self, *, rules_changed: bool) -> Report:
        """What is different from what is stored."""
        hubs = self._engine.rows(
            "SELECT r.id, r.kind, COALESCE(c.neighbours, 0) AS neighbours FROM relinked r LEFT JOIN crowded c"
            f" ON c.handle_id = r.id WHERE r.link = 'shared' ORDER BY neighbours DESC, r.id LIMIT {_HUBS}"
        )
        return Report(
            handles=self._count("handle"),
            persons=self._count("person_of"),
            shared=self._count("shared"),
            refused=self._count("refused"),
            persons_new=self._count("minted") + len(self._held.minted),
            merges=self._count("shift WHERE merged", "DISTINCT before"),
            splits=self._count("shift WHERE NOT merged", "DISTINCT before"),
            ids_changed=self._count("moved"),
            links_changed=self._count("relinked"),
            hands_changed=self._count("cut_gone") + len(self._cuts_new),
            conflicts_changed=self._count("conflict_gone") + self._count("conflict_new"),
            hubs=tuple(Hub(*row) for row in hubs),
            rules_changed=rules_changed,
        )

    def differences(self) -> bulk.Differences:
        """The same, to be written."""
        engine = self._engine
        minted = {person_id for person_id, _ in self._held.minted}
        return bulk.Differences(
            handles=list(self._former.values()),
            links=engine.rows("SELECT id, link FROM relinked ORDER BY id"),
            cuts_gone=[row[:2] for row in engine.rows("SELECT handle_id, since FROM cut_gone")],
            cuts_new=self._cuts_new,
            assigned=engine.rows("SELECT id, after FROM moved ORDER BY id"),
            minted=self._minted(),
            anchors=self._anchors(),
            conflicts_gone=engine.rows("SELECT a, b FROM conflict_gone ORDER BY a, b"),
            conflicts_new=engine.rows("SELECT a, b, reason FROM conflict_new ORDER BY a, b"),
            changes=self._changes(),
            changed=(row for row in self._changed() if row[0] not in minted),
        )

    def different_handles(self) -> Iterator[int]:
        """The stored handles of which anything is different."""
        rows = self._engine.rows(
            "SELECT id FROM (SELECT id FROM moved UNION SELECT id FROM relinked UNION SELECT handle_id FROM cut_gone"
            " UNION SELECT old_id FROM cut_gone UNION SELECT handle_id FROM cut_missing"
            " UNION SELECT a FROM conflict_new"
            " UNION SELECT b FROM conflict_new UNION SELECT a FROM conflict_gone UNION SELECT b FROM conflict_gone) x"
            f" WHERE id < {self._first_new_id} ORDER BY id"
        )
        return (row[0] for row in rows)

    def _judged(self) -> Iterator[tuple[int, str, bool]]:
        """What the values alone say, where the graph was made with other rules and these say something else."""
        if Graph(self._stores).setting("rules") == self._rules.digest():
            return
        # Of other kinds the value says nothing, see `Rules.link_of`.
        kinds = ", ".join("'" + kind.replace("'", "''") + "'" for kind in ("email", "phone", *self._rules.blocked))
        handle_ids = (
            row[0]
            for row in self._engine.rows(
                f"SELECT h.id FROM handle h JOIN sort s ON s.sort = h.sort WHERE s.kind IN ({kinds})"
                " OR s.link NOT IN ('links', 'shared')"
            )
        )
        while piece := list(islice(handle_ids, _AT_A_TIME)):
            for handle_id, node in self._nodes_of(piece).items():
                link: str = self._rules.link_of(node.handle)
                if link != ("links" if node.link == "shared" else node.link):
                    yield handle_id, link, link in {"links", "shared"}

    def _name_former_handles(self) -> None:
        """``cut_new``: the handles that a number was until it changed hands; known already, or new."""
        [(highest,)] = self._engine.rows("SELECT COALESCE(MAX(id), 0) FROM handle")
        self._first_new_id = highest + 1
        missing = self._engine.rows("SELECT handle_id, since FROM cut_missing ORDER BY handle_id, since")
        while piece := list(islice(missing, _AT_A_TIME)):
            nodes = self._nodes_of({handle_id for handle_id, _ in piece})
            codec = self._stores.codec
            handles = [
                former_handle(nodes[handle_id].handle, time_text(moment_of(since))) for handle_id, since in piece
            ]
            prints = [codec.fingerprint(handle.key) for handle in handles]
            known = bulk.handle_ids_by_fingerprint(self._database, prints)
            for (handle_id, since), handle, fingerprint in zip(piece, handles, prints, strict=True):
                old_id = known.get(fingerprint, self._first_new_id + len(self._former))
                if fingerprint not in known:
                    self._former[old_id] = Node(
                        old_id, handle.kind, handle.scope, "links", None, codec.encrypt(handle.value.encode()), codec,
                        fingerprint, known=handle,
                    )  # fmt: skip
                self._cuts_new.append((handle_id, since, old_id))
        self._engine.upload(
            "cut_new", pa.schema([("handle_id", WHOLE), ("since", WHOLE), ("old_id", WHOLE)]), self._cuts_new
        )

    def _nodes_of(self, handle_ids: Iterable[int]) -> Mapping[int, Node]:
        wanted = set(handle_ids)
        stored = bulk.nodes_of(self._database, self._stores.codec, wanted - self._former.keys())
        return stored | {one: self._former[one] for one in wanted & self._former.keys()}

    def _places(self, handle_ids: Iterable[int]) -> Mapping[int, int]:
        keys = {}
        waiting = iter(handle_ids)
        while piece := list(islice(waiting, _AT_A_TIME)):
            keys.update({handle_id: node.key for handle_id, node in self._nodes_of(piece).items()})
        return {handle_id: place for place, handle_id in enumerate(sorted(keys, key=keys.__getitem__))}

    def _minted(self) -> Iterator[tuple[str, Anchor]]:
        yield from self._held.minted
        rows = self._engine.rows("SELECT person_id, anchor_id, alone FROM minted ORDER BY person_id")
        yield from ((person_id, Anchor(NEW, handle_id, alone=bool(alone))) for person_id, handle_id, alone in rows)

    def _anchors(self) -> Iterator[tuple[str, Anchor]]:
        yield from self._held.anchors
        rows = self._engine.rows(
            "SELECT p.id, r.claimed, r.handle_id, r.since, r.alone FROM returned r JOIN person p ON p.number = r.person"
            " ORDER BY p.id"
        )
        for person_id, number, handle_id, since, alone in rows:
            yield person_id, Anchor(number, handle_id, since, bool(alone))

    def _changes(self) -> Iterator[tuple[str, list[str], str, list[int]]]:
        splits = self._engine.rows("SELECT before, after, id FROM shift WHERE NOT merged ORDER BY before, after, id")
        for (before, after), rows in groupby(splits, key=itemgetter(0, 1)):
            yield "split", [before], after, [handle_id for _, _, handle_id in rows]
        merges = self._engine.rows("SELECT after, before, id FROM shift WHERE merged ORDER BY after, before, id")
        for after, rows in groupby(merges, key=itemgetter(0)):
            merged = list(rows)
            handle_ids = sorted(handle_id for _, _, handle_id in merged)
            yield "merge", list(dict.fromkeys(before for _, before, _ in merged)), after, handle_ids

    def _changed(self) -> Iterator[tuple[str]]:
        return self._engine.rows(
            "SELECT person_id FROM (SELECT before AS person_id FROM moved UNION SELECT after FROM moved"
            " UNION SELECT p.id FROM relinked r JOIN member m ON m.id = r.id"
            "  JOIN person_of q ON q.cluster = m.cluster JOIN person p ON p.number = q.person) x"
            " WHERE person_id <> '' AND NOT EXISTS (SELECT 1 FROM minted n WHERE n.person_id = x.person_id)"
            " ORDER BY person_id"
        )

    def _count(self, source: str, what: str = "*") -> int:
        [(count,)] = self._engine.rows(f"SELECT COUNT({what}) FROM {source}")
        return int(count)


def _open(engine: EngineName, folder: Path) -> Engine:
    try:
        if engine == "spark":
            from identity.batch.spark import SparkEngine

            return SparkEngine(folder)
        from identity.batch.embedded import EmbeddedEngine

        return EmbeddedEngine(folder)
    except ImportError as error:
        extra = "spark" if engine == "spark" else "batch"
        msg = f"identity rebuild needs {error.name}: pip install 'onethread[{extra}]'"
        raise SettingsError(msg) from None
