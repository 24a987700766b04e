"""The engine for graphs that one machine does not hold: the same SQL on Apache Spark (``--engine spark``).

Needs the extra ``spark`` and Java 17. A cluster is chosen as always with Spark (``SPARK_MASTER``, spark-defaults.conf);
without one it runs in this process. No values, and no keys, go to Spark: see `stores.graph.bulk`.

Components are found by alternating the large star and the small star (Kiveris et al., "Connected Components in
MapReduce and Beyond", SoCC 2014), in DataFrames. GraphFrames would be faster on a cluster, but its JAR is in Maven
repositories only, and a rebuild should need nothing that pip cannot install.
"""

# Names of tables and numbers are put into the SQL, never a value from outside.
# ruff: noqa: S608

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from identity.batch.engine import LookUp

_ROWS_AT_A_TIME = 65_536


class SparkEngine:
    """Tables are Parquet files in a folder that driver and workers see: ``ONETHREAD_SPARK_FOLDER``, or a temporary one.

    Written to disk, a table is computed once, and the plans of later ones stay short.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.environ.get("ONETHREAD_SPARK_FOLDER") or folder) / f"tables-{os.getpid()}"
        self._folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else whatever python3 is on the workers' path
        builder = SparkSession.builder.appName("onethread identity rebuild")
        for name, value in {
            "spark.master": os.environ.get("SPARK_MASTER", "local[*]"),
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.adaptive.enabled": "true",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.ansi.enabled": "true",
            # By the size of the files, where numbers take a fiftieth of the room: 10 MB, the default, fill the driver.
            "spark.sql.autoBroadcastJoinThreshold": "1m",
        }.items():
            builder = builder.config(name, value)
        if "SPARK_MASTER" not in os.environ:
            builder = builder.config("spark.sql.shuffle.partitions", str(2 * (os.cpu_count() or 1)))
            builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
        self._spark = builder.getOrCreate()
        self._spark.sparkContext.setLogLevel("ERROR")

    def read(self, tables: Mapping[str, pa.Table]) -> None:
        """See `Engine.read`."""
        for name, table in tables.items():
            path = str(self._folder / f"{name}.parquet")
            pq.write_table(table, path)
            self._spark.read.parquet(path).createOrReplaceTempView(name)

    def upload(self, name: str, schema: pa.Schema, rows: Iterable[Sequence[Any]]) -> None:
        """See `Engine.upload`."""
        path = self._folder / f"{name}.parquet"
        waiting = iter(rows)
        with pq.ParquetWriter(path, schema) as writer:
            while piece := list(islice(waiting, _ROWS_AT_A_TIME)):
                columns = zip(*piece, strict=True)
                arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        self._spark.read.parquet(str(path)).createOrReplaceTempView(name)

    def create(self, name: str, sql: str) -> None:
        """See `Engine.create`."""
        self._keep(name, self._spark.sql(sql))

    def connect(self, name: str, sql: str) -> None:
        """See `Engine.connect`; a few rounds over all pairs, each a join with itself."""
        pairs = self._spark.sql(f"SELECT x.a, x.b FROM ({sql}) x")
        ids = self._keep("connect_ids", pairs.selectExpr("a AS id").union(pairs.selectExpr("b")).distinct())
        edges = self._keep("connect_0", pairs.where("a <> b").selectExpr("LEAST(a, b) AS a", "GREATEST(a, b) AS b"))
        turn = 0
        while not self._are_stars(edges):
            turn += 1
            large = self._keep(f"connect_large_{turn % 2}", self._star(edges, large=True))
            edges = self._keep(f"connect_{turn % 2 + 1}", self._star(large, large=False))
        edges.createOrReplaceTempView("connect_last")
        ids.createOrReplaceTempView("connect_ids")
        self.create(
            name,
            "SELECT i.id, COALESCE(MIN(e.a), i.id) AS label FROM connect_ids i"
            " LEFT JOIN connect_last e ON e.b = i.id GROUP BY i.id",
        )

    def look_up(self, name: str, source: str, *columns: LookUp, where: str = "") -> None:
        """See `Engine.look_up`."""
        sql = f"SELECT * FROM {source}" if source.isidentifier() else source
        for column, key, table, by, value, missing, otherwise in columns:
            other = f"x.{otherwise}" if otherwise else f"'{missing}'" if isinstance(missing, str) else str(missing)
            sql = (
                f"SELECT x.*, COALESCE(y.{value}, {other}) AS {column} FROM ({sql}) x"
                f" LEFT JOIN {table} y ON y.{by} = x.{key}"
            )
        self.create(name, f"SELECT * FROM ({sql}) x WHERE {where or 'TRUE'}")

    def several(self, name: str, sql: str) -> None:
        """See `Engine.several`."""
        self.create(name, f"SELECT x.id FROM ({sql}) x GROUP BY x.id HAVING MIN(x.other) < MAX(x.other)")

    def frequent(self, name: str, sql: str, most: int) -> None:
        """See `Engine.frequent`."""
        self.create(name, f"SELECT x.id FROM ({sql}) x GROUP BY x.id HAVING COUNT(*) > {most}")

    def map_groups(
        self, name: str, schema: pa.Schema, sql: str, group: Callable[[list[tuple[Any, ...]]], list[tuple[Any, ...]]]
    ) -> None:
        """See `Engine.map_groups`; the groups are divided among the workers."""
        answers = self._spark.sql(sql).rdd.map(tuple).groupBy(itemgetter(0)).flatMap(lambda one: group(list(one[1])))
        kinds = {pa.int64(): "bigint", pa.string(): "string"}
        types = ", ".join(f"{field.name} {kinds[field.type]}" for field in schema)
        self._keep(name, self._spark.createDataFrame(answers, types))

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """See `Engine.rows`; a partition at a time comes to the driver."""
        return (tuple(row) for row in self._spark.sql(sql).toLocalIterator())

    def drop(self, *names: str) -> None:
        """See `Engine.drop`; the files go with the folder."""
        for name in names:
            self._spark.catalog.dropTempView(name)

    def close(self) -> None:
        """See `Engine.close`. The session stays for the next one in this process: a second JVM cannot be started."""
        for name in [table.name for table in self._spark.catalog.listTables()]:
            self._spark.catalog.dropTempView(name)

    def _keep(self, name: str, frame: DataFrame) -> DataFrame:
        path = str(self._folder / name)
        frame.write.mode("overwrite").parquet(path)
        kept = self._spark.read.schema(frame.schema).parquet(path)
        kept.createOrReplaceTempView(name)
        return kept

    def _star(self, edges: DataFrame, *, large: bool) -> DataFrame:
        """Join the neighbours of each handle, the larger ones or the smaller ones, to the smallest of them."""
        edges.createOrReplaceTempView("star_edge")
        both = "SELECT b AS one, a AS other FROM star_edge"
        if large:
            both += " UNION ALL SELECT a, b FROM star_edge"
        joined = "SELECT s.smallest AS a, n.other AS b FROM near n JOIN smallest s ON s.one = n.one" + (
            " WHERE n.other > n.one" if large else " UNION SELECT s.smallest, s.one FROM smallest s"
        )
        return self._spark.sql(
            f"WITH near AS ({both}), smallest AS"
            f" (SELECT one, LEAST(one, MIN(other)) AS smallest FROM near GROUP BY one)"
            f" SELECT DISTINCT a, b FROM ({joined}) x WHERE a <> b"
        )

    def _are_stars(self, edges: DataFrame) -> bool:
        """Whether every larger handle has one smaller one, which has none: then that is the smallest of them all."""
        edges.createOrReplaceTempView("star_edge")
        [row] = self._spark.sql(
            "SELECT COUNT(*) = COUNT(DISTINCT b) AND NOT EXISTS"
            " (SELECT 1 FROM star_edge e JOIN star_edge f ON e.a = f.b) FROM star_edge"
        ).collect()
        return bool(row[0])
