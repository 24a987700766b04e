"""What a rebuild of who is who costs, beside DuckDB and SciPy without any rule, and beside Splink's clustering.

Everybody gets the same evidence. Machines differ, and busy ones more, so the numbers to compare are the ratios of one
run. Run it with::

    python -m benchmarks.identity_batch --edges 1000000

Peers: the pipeline that one would write first (DuckDB and SciPy's connected components), which knows no caps, no
limits, no decisions and no renamed ids. It runs three times: from Parquet of strings to Parquet of labels, which never
sees the store; from the store's evidence to Parquet of labels, which reads less than a rebuild and compares nothing;
and as the rebuild does, from the store's evidence, handles and persons to a list of the handles whose person is another
one. And Splink 5, which is installed into ``.venvs/splink`` at first use.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from identity.batch import rebuild
from identity.batch.components import smallest_connected
from identity.rules import load_rules
from stores.database import Stores
from stores.graph import Graph

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venvs" / "splink"
PACKAGES = ["splink==5.0.0", "duckdb==2.0.0", "pyarrow"]
KINDS = ("whatsapp_user", "phone", "email", "hubspot_contact", "messenger_psid", "instagram_igsid")
SCOPES = ("portfolio", None, None, "1001", "page", "account")
SIZES = (0.45, 0.25, 0.15, 0.10, 0.05)
"""How many people have 2, 3, 4, 5 and 6 handles."""
HUBS = 10
START = 1_767_225_600_000_000
DAY = 86_400_000_000

UNGUARDED = """
import sys, time, duckdb, numpy as np, pyarrow as pa
from adbc_driver_sqlite import dbapi as sqlite
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
source, target, *compare = sys.argv[1:]
started = time.perf_counter(), time.process_time()
db = duckdb.connect()
db.execute("SET enable_progress_bar = false; SET preserve_insertion_order = false")
given = f"read_parquet('{source}')"
if source.endswith(".db"):
    with sqlite.connect(f"file:{source}?mode=ro") as store, store.cursor() as cursor:
        def read(sql):
            cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": "65536"})
            cursor.execute(sql)
            return cursor.fetch_arrow_table()
        evidence = read("SELECT a, b FROM evidence")
        if compare:
            handle = read("SELECT id, person_id FROM handle")
            person = read("SELECT id, anchor_id FROM person")
    given = "evidence"
db.execute(f"CREATE TABLE pair AS SELECT DISTINCT a, b FROM {given}")
db.execute("CREATE TABLE node AS SELECT v, row_number() OVER () - 1 AS id FROM"
           " (SELECT a AS v FROM pair UNION SELECT b FROM pair)")
ends = db.execute("SELECT x.id AS a, y.id AS b FROM pair p"
                  " JOIN node x ON x.v = p.a JOIN node y ON y.v = p.b").fetchnumpy()
count = db.execute("SELECT COUNT(*) FROM node").fetchall()[0][0]
graph = coo_array((np.ones(len(ends["a"]), bool), (ends["a"], ends["b"])), shape=(count, count))
found, labels = connected_components(graph, directed=False)
label = pa.table({"id": np.arange(count), "label": labels})
result = "SELECT n.v, l.label FROM node n JOIN label l ON l.id = n.id"
if compare:
    db.execute(f"CREATE TABLE member AS {result}")
    db.execute("CREATE TABLE named AS SELECT m.label, MIN(p.id) AS person_id FROM person p"
               " JOIN member m ON m.v = p.anchor_id GROUP BY m.label")
    result = ("SELECT h.id, n.person_id FROM handle h JOIN member m ON m.v = h.id JOIN named n ON n.label = m.label"
              " WHERE n.person_id <> h.person_id")
db.execute(f"COPY ({result}) TO '{target}' (FORMAT parquet)")
print(time.perf_counter() - started[0], time.process_time() - started[1], found)
"""

SPLINK = """
import logging, sys, time, duckdb
from splink import DuckDBAPI
from splink.clustering import cluster_pairwise_predictions_at_threshold as cluster
logging.getLogger("splink").setLevel(logging.ERROR)
nodes, edges, target = sys.argv[1:]
started = time.perf_counter(), time.process_time()
connection = duckdb.connect()
connection.execute("SET enable_progress_bar = false")
api = DuckDBAPI(connection)
found = cluster(api.register(connection.sql(f"SELECT id FROM read_parquet('{nodes}')")),
                api.register(connection.sql(f"SELECT a AS id_l, b AS id_r FROM read_parquet('{edges}')")),
                api, "id")
name = found.physical_name
connection.execute(f"COPY {name} TO '{target}' (FORMAT parquet)")
spent = time.perf_counter() - started[0], time.process_time() - started[1]
print(*spent, connection.execute(f"SELECT COUNT(DISTINCT cluster_id) FROM {name}").fetchall()[0][0])
"""


class World:
    """Made-up handles and evidence: mostly small groups, some chains, hubs, families and numbers that changed hands."""

    def __init__(self, edges: int) -> None:
        random = np.random.default_rng(7)
        wanted = int(edges * 0.97 / 1.25)  # a quarter is repeated
        sizes = random.choice(np.arange(2, 7), int(wanted / 2) + 10, p=SIZES)
        people = int(np.searchsorted(np.cumsum(sizes - 1), wanted)) + 1
        sizes = sizes[:people]
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]]) + 1
        owner = np.repeat(np.arange(people), sizes)
        place = np.arange(int(sizes.sum())) - (first[owner] - 1)
        self._kind = [place.astype(np.int8)]
        self._next = int(sizes.sum()) + 1
        inner = place > 0
        a, b = first[owner[inner]], (np.arange(len(place)) + 1)[inner]
        self._pairs = [(a, b, "message", random.integers(0, 300, len(a)))]
        again = random.random(len(a)) < 0.25
        self._pairs.append((a[again], b[again], "account_link", random.integers(0, 300, int(again.sum()))))
        leaves = int(edges * 0.015)
        hubs = self._new(HUBS, 1)
        known = random.choice(first, leaves // 2, replace=False)
        users = np.concatenate([known, self._new(leaves - len(known), 0)])
        self._pair(users, hubs[random.integers(0, HUBS, leaves)], "message", random.integers(0, 300, leaves))
        links = int(edges * 0.015)
        chain = self._new(links, 1)
        self._kind[-1][1::2] = 2  # phone, e-mail, phone ...
        breaks = random.integers(0, 25, links - 1) > 0
        self._pair(chain[:-1][breaks], chain[1:][breaks], "account_link", random.integers(0, 300, int(breaks.sum())))
        families = random.choice(first[sizes >= 4], max(1, people // 100), replace=False)  # two CRM contacts each
        half = len(families) // 2
        self._pair(families[:half], families[half : 2 * half], "account_link", random.integers(0, 300, half))
        sold = random.choice(first, max(1, people // 200), replace=False) + 1  # whose phones others have later
        self._pair(sold, self._new(len(sold), 0), "message", random.integers(700, 800, len(sold)))
        self.kinds = np.concatenate(self._kind)

    def _new(self, count: int, kind: int) -> Any:
        self._kind.append(np.full(count, kind, np.int8))
        self._next += count
        return np.arange(self._next - count, self._next)

    def _pair(self, a: Any, b: Any, method: str, days: Any) -> None:
        self._pairs.append((np.minimum(a, b), np.maximum(a, b), method, days))

    def evidence(self) -> pa.Table:
        """As the graph has it."""
        tables = []
        for a, b, method, days in self._pairs:
            at = START + days.astype(np.int64) * DAY
            tables.append(
                pa.table(
                    {
                        "a": a, "b": b, "method": pa.array([method] * len(a)),
                        "strength": pa.array(["verified"] * len(a)), "first_at": at, "last_at": at,
                    }
                )
            )  # fmt: skip
        db = duckdb.connect()
        db.register("given", pa.concat_tables(tables))
        return db.sql(
            "SELECT a, b, method, strength, MIN(first_at) AS first_at, MAX(last_at) AS last_at FROM given"
            " GROUP BY a, b, method, strength ORDER BY a, b"
        ).to_arrow_table()

    def value(self, handle_id: int, kind: int) -> str:
        """An address or id that nobody has; numbers here are too long to be anybody's."""
        return {1: f"+999{handle_id:010d}", 2: f"p{handle_id}@people.example"}.get(kind, str(handle_id))

    def handles(self, stores: Stores) -> Iterator[tuple[Any, ...]]:
        """Rows of the handle table."""
        codec = stores.codec
        for place, kind in enumerate(self.kinds.tolist()):
            value = self.value(place + 1, kind)
            key = f"{KINDS[kind]}:{SCOPES[kind] or ''}:{value}"
            yield (
                place + 1, codec.fingerprint(key), KINDS[kind], SCOPES[kind], codec.encrypt(value.encode()), "links",
            )  # fmt: skip


def fill(stores: Stores, world: World, evidence: pa.Table) -> None:
    """Put handles and evidence into the graph, as a stream would have left them; nobody is anybody yet."""
    database = stores.database("graph")
    with database.transaction():
        rows = world.handles(stores)
        while piece := [row for _, row in zip(range(100_000), rows, strict=False)]:
            database.execute_many(
                "INSERT INTO handle (id, fingerprint, kind, scope, value, link) VALUES (?, ?, ?, ?, ?, ?)", piece
            )
        for batch in evidence.to_batches(max_chunksize=100_000):
            columns = [column.to_pylist() for column in batch.columns]
            database.execute_many(
                "INSERT INTO evidence (a, b, method, strength, first_at, last_at) VALUES (?, ?, ?, ?, ?, ?)",
                list(zip(*columns, strict=True)),
            )
    Graph(stores).save_setting("rules", load_rules().digest())


class Clock:
    """Wall and processor seconds of this process and what it started."""

    def __init__(self) -> None:
        self._started = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in spent)

    def read(self) -> tuple[float, float]:
        """Seconds since it was made."""
        now = self._now()
        return now[0] - self._started[0], now[1] - self._started[1]


def peer(python: Path | str, script: str, *arguments: Path | str) -> tuple[float, float, int]:
    """Wall seconds, processor seconds and the components that a peer found."""
    done = subprocess.run([python, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=True)
    wall, cpu, found = done.stdout.split()
    return float(wall), float(cpu), int(found)


def splink_python() -> Path | None:
    """The interpreter that has Splink; ``None`` where it cannot be installed."""
    python = PEERS / "bin" / "python"
    if python.exists():
        return python
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    if not Path(uv).exists():
        return None
    for step in (["venv", "-q", str(PEERS)], ["pip", "install", "-q", "--python", str(python), *PACKAGES]):
        if subprocess.run([uv, *step], check=False).returncode:
            return None
    return python


def cluster(nodes: Path, edges: Path, target: Path) -> tuple[float, float, int]:
    """The engine's own clustering, from Parquet to Parquet, as Splink is asked to do it."""
    clock = Clock()
    db = duckdb.connect()
    db.execute("SET enable_progress_bar = false")
    db.execute("SET preserve_insertion_order = false")
    pairs = db.execute(f"SELECT a, b FROM read_parquet('{edges}')").fetchnumpy()
    ids, labels = smallest_connected(pairs["a"], pairs["b"])
    db.register("label", pa.table({"id": ids, "label": labels}))
    db.execute(
        f"COPY (SELECT n.id, COALESCE(l.label, n.id) AS label FROM read_parquet('{nodes}') n"
        f" LEFT JOIN label l ON l.id = n.id) TO '{target}' (FORMAT parquet)"
    )
    wall, cpu = clock.read()
    [(found,)] = db.execute(f"SELECT COUNT(DISTINCT label) FROM read_parquet('{target}')").fetchall()
    return wall, cpu, int(found)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--edges", type=int, default=1_000_000, help="how many pieces of evidence")
    parser.add_argument("--engine", choices=["embedded", "spark"], default="embedded")
    parser.add_argument("--rounds", type=int, default=3, help="how often ours and each peer run in turn")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="onethread-bench-") as name:
        measure(Path(name), arguments.edges, arguments.engine, arguments.rounds)


def measure(folder: Path, edges: int, engine: Any, rounds: int) -> None:
    """All measurements in `folder`."""
    world = World(edges)
    evidence = world.evidence()
    stores = Stores(f"sqlite:///{folder}/state")
    fill(stores, world, evidence)
    kinds = pa.table({"id": np.arange(1, len(world.kinds) + 1), "kind": world.kinds.astype(np.int64)})
    db = duckdb.connect()
    db.execute("SET enable_progress_bar = false")
    db.register("evidence", evidence)
    db.register("handle", kinds)
    value = (
        "CASE {0}.kind WHEN 1 THEN format('+999{{:010d}}', {0}.id) WHEN 2 THEN format('p{{}}@people.example', {0}.id)"
    )
    value = f"{value} ELSE CAST({{0}}.id AS VARCHAR) END"
    key = f"CAST({{0}}.kind AS VARCHAR) || ':' || {value}"
    strings, numbers, nodes = (folder / f"{one}.parquet" for one in ("strings", "numbers", "nodes"))
    db.execute(
        f"COPY (SELECT {key.format('x')} AS a, {key.format('y')} AS b FROM evidence e JOIN handle x ON x.id = e.a"
        f" JOIN handle y ON y.id = e.b) TO '{strings}' (FORMAT parquet)"
    )
    db.execute(f"COPY (SELECT a, b FROM evidence) TO '{numbers}' (FORMAT parquet)")
    db.execute(f"COPY (SELECT id FROM handle) TO '{nodes}' (FORMAT parquet)")
    db.close()
    print(f"{evidence.num_rows:,} pieces of evidence, {kinds.num_rows:,} handles, {os.cpu_count()} processors\n")

    clock = Clock()
    report = rebuild(stores, load_rules(), engine=engine, say=lambda _: None)
    wall, cpu = clock.read()
    print(
        f"From nothing, all written: {wall:.1f} s, {cpu:.1f} CPU s; {report.persons:,} persons,"
        f" {report.shared:,} shared handles, {report.refused:,} links refused,"
        f" {report.hands_changed:,} changes of hands\n"
    )
    python = splink_python()
    rebuilds, unguarded, from_store, compared, clusters, splinks = [], [], [], [], [], []
    labels, store = folder / "labels.parquet", folder / "state" / "graph.db"
    for _ in range(rounds):
        clock = Clock()
        again = rebuild(stores, load_rules(), engine=engine, say=lambda _: None)
        rebuilds.append((*clock.read(), again.differences))
        unguarded.append(peer(sys.executable, UNGUARDED, strings, labels))
        from_store.append(peer(sys.executable, UNGUARDED, store, labels))
        compared.append(peer(sys.executable, UNGUARDED, store, labels, "compare"))
        clusters.append(cluster(nodes, numbers, folder / "ours.parquet"))
        if python is not None:
            splinks.append(peer(python, SPLINK, nodes, numbers, folder / "splink.parquet"))
            if splinks[-1][2] != clusters[-1][2]:
                msg = f"Splink found {splinks[-1][2]} components, ours {clusters[-1][2]}"
                raise RuntimeError(msg)
    print(f"Medians of {rounds} rounds in turn; beside it: the median of the ratios of each round.\n")
    print("| what | wall s | CPU s | ours beside it: wall | CPU |")
    print("|--|--|--|--|--|")
    _row("rebuild, guarded, from the store, nothing changed", rebuilds)
    _row("unguarded: the store's evidence, handles and persons to what is different", compared, rebuilds)
    _row("unguarded: the store's evidence to Parquet of labels", from_store, rebuilds)
    _row("unguarded: Parquet of strings to Parquet of labels", unguarded, rebuilds)
    _row("clustering alone, Parquet to Parquet", clusters)
    if splinks:
        _row("Splink 5.0.0, the same edges", splinks, clusters)
    churn = sum(again for *_, again in rebuilds)
    print(f"\nids and links changed by {rounds} rebuilds of an unchanged graph: {churn}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"memory of this process at its peak: {peak:.1f} GB")
    print(json.dumps({"edges": evidence.num_rows, "rebuild": min(rebuilds), "unguarded": min(unguarded)}))


def _row(name: str, spent: list[tuple[float, float, int]], ours: Sequence[tuple[float, float, int]] = ()) -> None:
    times = [f"{median(one[place] for one in spent):.2f}" for place in (0, 1)]
    ratios = [median(our[place] / one[place] for our, one in zip(ours, spent, strict=True)) for place in (0, 1) if ours]
    beside = [f"{ratio:.2f} x" for ratio in ratios] or ["", ""]
    print(f"| {' | '.join([name, *times, *beside])} |")


if __name__ == "__main__":
    main()
