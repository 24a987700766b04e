"""Scores pairs of records by a model, in bits that can be told one by one; worked out by Splink in DuckDB.

Everything is in memory, and nothing is printed: see `score`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

MISSING = "not known"
"""The outcome of a comparison that has nothing to compare."""


class Level(NamedTuple):
    """One outcome of a comparison: an SQL condition (``""``: everything else), in words, and how often it is true.

    `m` of pairs that are one person, `u` of pairs that are not.
    """

    sql: str
    label: str
    m: float
    u: float


class Comparison(NamedTuple):
    """What is compared. Under the SQL condition `missing` it says nothing; else the first level that is true counts."""

    name: str
    missing: str
    levels: Sequence[Level]


class Reason(NamedTuple):
    """One bar of the waterfall: what was compared, how it came out, and its weight in bits."""

    name: str
    outcome: str
    bits: float


class Pair(NamedTuple):
    """Two records that may be one, with the probability and why. The first reason is what is true of any two."""

    a: str
    b: str
    score: float
    reasons: list[Reason]


@dataclass(frozen=True, slots=True)
class Model:
    """How records are compared.

    Attributes:
        version: kept with every suggestion.
        comparisons: independent of each other when the two records are not one.
        blocks: SQL expressions that must be equal together for a pair to be looked at.
        accept: which pairs may be told at all, by their reasons.
        prior: the probability that any two records are one.
    """

    version: str
    comparisons: Sequence[Comparison]
    blocks: Sequence[Sequence[str]]
    accept: Callable[[Sequence[Reason]], bool]
    prior: float


def score(records: Sequence[Mapping[str, Any]], model: Model, above: float) -> list[Pair]:
    """The pairs of `records` that `model` blocks together and scores at `above` or more.

    Args:
        records: all with the same keys, ``unique_id`` among them.
        model: the model.
        above: a probability.
    """
    if len(records) < 2:
        return []
    import duckdb
    from splink import Linker
    from splink.backends.duckdb import DuckDBAPI

    # No temp_directory: DuckDB would otherwise write what does not fit into memory beside the caller, in clear.
    connection = duckdb.connect(":memory:", config={"threads": 1, "temp_directory": "", "memory_limit": "2GB"})
    try:
        with _silent():
            table = DuckDBAPI(connection).register([dict(one) for one in records])
            linker = Linker(table, _settings(model), log_level=None)
            predicted = linker.inference.predict(threshold_match_probability=above).as_record_list()
    finally:
        connection.close()
    labels = {one.name: [level.label for level in one.levels] for one in model.comparisons}
    pairs = (_pair(row, labels, model.prior) for row in predicted)
    return [pair for pair in pairs if model.accept(pair.reasons)]


def probability(bits: float) -> float:
    """The probability that a sum of match weights comes to."""
    return 1 / (1 + 2 ** -max(-500.0, min(500.0, bits)))


def _settings(model: Model) -> Any:
    from splink import SettingsCreator, block_on
    from splink import comparison_level_library as levels
    from splink import comparison_library as comparisons

    def level(one: Level) -> Any:
        made: Any = levels.CustomLevel(one.sql, one.label) if one.sql else levels.ElseLevel()
        return made.configure(m_probability=one.m, u_probability=one.u)

    return SettingsCreator(
        link_type="dedupe_only",
        comparisons=[
            comparisons.CustomComparison(
                output_column_name=_column(one.name),
                comparison_levels=[
                    levels.CustomLevel(one.missing, MISSING).configure(is_null_level=True), *map(level, one.levels)
                ],
            )
            for one in model.comparisons
        ],
        blocking_rules_to_generate_predictions=[block_on(*block) for block in model.blocks],
        retain_intermediate_calculation_columns=True,
        retain_matching_columns=True,
        probability_two_random_records_match=model.prior,
    )  # fmt: skip


def _pair(row: Mapping[str, Any], labels: Mapping[str, Sequence[str]], prior: float) -> Pair:
    reasons = [Reason("any two", "", math.log2(prior / (1 - prior)))]
    for name, outcomes in labels.items():
        column = _column(name)
        gamma = row[f"gamma_{column}"]
        outcome = MISSING if gamma < 0 else outcomes[len(outcomes) - 1 - gamma]
        reasons.append(Reason(name, outcome, row[f"mw_{column}"]))
    a, b = sorted((str(row["unique_id_l"]), str(row["unique_id_r"])))
    return Pair(a, b, row["match_probability"], reasons)


def _column(name: str) -> str:
    return name.replace(" ", "_")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Splink prints and logs its progress; standard output belongs to whoever calls, and logs name no values."""
    noisy = logging.getLogger("splink")
    before = noisy.disabled, noisy.level, noisy.propagate
    noisy.setLevel(logging.CRITICAL)
    noisy.propagate = False
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        noisy.disabled, noisy.level, noisy.propagate = before
