"""What a batch engine can do: tables made by SQL, connected components, and rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

WHOLE, TEXT = pa.int64(), pa.string()


class LookUp(NamedTuple):
    """One more column: what `table` says in `value` of the number that stands in `key`, or `missing`.

    `by` is the column of `table` that has the numbers, from 0 on, each in one row. Of numbers that are missing the
    column `otherwise` tells, where it has a name.
    """

    column: str
    key: str
    table: str
    by: str
    value: str
    missing: int | bool | str
    otherwise: str = ""


class Engine(Protocol):
    """The function of `identity.batch.steps` is written once, in the SQL that DuckDB and Spark share."""

    def read(self, tables: Mapping[str, pa.Table]) -> None:
        """Make a table of each of these."""

    def upload(self, name: str, schema: pa.Schema, rows: Iterable[Sequence[Any]]) -> None:
        """Make a table of `rows`, which are not all in memory at once."""

    def create(self, name: str, sql: str) -> None:
        """Make a table of the result of a query."""

    def connect(self, name: str, sql: str) -> None:
        """Make the table (id, label) of the ends of the pairs (a, b) of a query; label: the smallest id connected."""

    def look_up(self, name: str, source: str, *columns: LookUp, where: str = "") -> None:
        """Make a table of the rows of a table or query with more columns, which may build on each other.

        The same as joins from the left; for many rows, where numbers are to be looked up in a long table. Only the rows
        where `where` is so, if it says anything.
        """

    def several(self, name: str, sql: str) -> None:
        """Make the table (id) of the numbers beside which a query (id, other) has more than one number; from 0 on."""

    def frequent(self, name: str, sql: str, most: int) -> None:
        """Make the table (id) of the numbers, from 0 on, that more than `most` rows of a query (id) have."""

    def map_groups(
        self, name: str, schema: pa.Schema, sql: str, group: Callable[[list[tuple[Any, ...]]], list[tuple[Any, ...]]]
    ) -> None:
        """Make a table of what `group` answers for the rows of each value of the first column of `sql`."""

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, read as they are asked for."""

    def drop(self, *names: str) -> None:
        """Forget tables that nobody asks for any more."""

    def close(self) -> None:
        """Give everything back."""
