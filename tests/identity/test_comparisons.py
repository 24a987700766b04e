"""How persons are compared: by what there is, and never so that a family looks like one person."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from identity.comparisons import COLUMNS, HOUSEHOLD, at_home, household, prepared
from identity.matching import MISSING, Pair, score

FIRST = [f"{a}{b}" for a in ("an", "ber", "car", "dar", "em", "fel", "gre", "hug", "id", "jon", "kar", "le")
         for b in ("na", "rik", "mut", "dia", "los")]  # fmt: skip
LAST = [f"{a}{b}" for a in ("brand", "haga", "linde", "moser", "olde", "stein", "tver", "zell", "quar", "fenn")
        for b in ("vold", "mann", "berg", "quist", "rup", "ski")]  # fmt: skip
STREETS = [f"{one} street" for one in ("harbour", "quarry", "willow", "station", "orchard", "chapel", "mill", "abbey")]
Row = dict[str, Any]


def person(unique_id: str, first: str | None, last: str | None, **more: str | None) -> Row:
    return {"unique_id": unique_id, "first_name": first, "last_name": last, **more}


def town(families: int = 60, size: int = 3, *, births: bool = False) -> list[Row]:
    """Families, each at an address of its own."""
    chance, rows = random.Random(7), []
    for number in range(families):
        for first in chance.sample(FIRST, size):
            birth = f"19{chance.randint(20, 99)}{chance.randint(1, 12):02d}{chance.randint(1, 28):02d}"
            rows.append(person(
                f"{number}-{first}", first, LAST[number % len(LAST)], street=STREETS[number % len(STREETS)],
                house_number=str(number), town="harbourtown", birth=birth if births else None,
            ))  # fmt: skip
    return rows


def suggested(records: Sequence[Row], above: float = 0.9) -> dict[tuple[str, str], Pair]:
    return {(one.a, one.b): one for one in score(*prepared(records), above)}


def outcomes(pair: Pair) -> dict[str, str]:
    return {reason.name: reason.outcome for reason in pair.reasons}


def again(row: Row, **changed: str | None) -> Row:
    return {**row, "unique_id": f"{row['unique_id']}-again", **changed}


def test_somebody_who_is_there_twice_is_found_and_none_of_the_family() -> None:
    rows = town(births=True)
    doubles = [again(rows[0]), again(rows[30], last_name=f"{rows[30]['last_name']}x"), again(rows[60], street=None),
               again(rows[90], birth=None, middle="x"), again(rows[120], first_name=rows[120]["last_name"],
                                                              last_name=rows[120]["first_name"])]  # fmt: skip
    rows[90]["middle"] = "x"
    assert suggested([{"middle": None, **one} for one in (*rows, *doubles)]).keys() == {
        (one["unique_id"].removesuffix("-again"), one["unique_id"]) for one in doubles
    }


def test_a_brother_and_a_sister_at_one_address_are_not_suggested_where_families_live() -> None:
    rows = town(births=True)
    assert suggested(rows, above=0.5) == {}


def test_an_address_weighs_less_the_more_live_together() -> None:
    families = prepared(town())[0]
    doubles = [one for row in town(size=1) for one in (row, again(row))]
    assert at_home(prepared(doubles)[0]) < at_home(families) / 10


def test_who_differs_in_first_name_and_birth_is_taken_for_a_relative_and_who_differs_in_one_is_not() -> None:
    rows = town(size=1, births=True)
    slips = [
        again(row, first_name="xenia") if number % 2 else again(row, birth="20010203")
        for number, row in enumerate(rows)
    ]
    relatives = [again(row, first_name="xenia", birth="20010203") for row in rows]
    assert at_home(prepared([*rows, *slips])[0]) < at_home(prepared([*rows, *relatives])[0]) / 10


def test_one_record_is_nobody_twice() -> None:
    assert suggested(town(1, 1)) == {}
    assert suggested([]) == {}


def test_where_there_are_no_house_numbers_two_live_with_everybody() -> None:
    rows = prepared([{**one, "house_number": None} for one in town()])[0]
    assert at_home(rows) == pytest.approx(0.01)


def test_a_dormitory_and_a_town_that_all_live_in_say_nothing() -> None:
    address = {"street": "harbour street", "house_number": "1", "town": "t"}
    rows = [person(str(number), FIRST[number % 12], LAST[number], **address) for number in range(60)]
    made, model = prepared(rows)
    assert {one[column] for one in made for column in ("street", "house_number", "town")} == {None}
    assert [one.name for one in model.comparisons] == ["first name", HOUSEHOLD]


def test_there_is_a_main_street_in_every_town() -> None:
    rows = [
        person(one, "anna", "brandvold", street="main street", house_number="5", town=f"{one[:-1]}port", postcode=code)
        for one, code in (("harbour1", "1111"), ("hill1", "2222"), ("hill2", "2222"))
    ]
    found = {pair: outcomes(one)[HOUSEHOLD] for pair, one in suggested(rows, above=0.0001).items()}
    assert found["hill1", "hill2"].endswith("the same address")
    assert found["harbour1", "hill1"].endswith("partly the same address")


def test_what_records_have_no_column_for_is_not_compared() -> None:
    everything = dict.fromkeys(COLUMNS, "x") | {"birth": "19800131", "phone": "+12125550101"}
    both = [{"unique_id": one, **everything} for one in "ab"]
    assert [one.name for one in prepared(both)[1].comparisons] == [
        "first name", HOUSEHOLD, "middle name", "date of birth", "word in the address", "phone", "country"
    ]  # fmt: skip
    assert [one.name for one in prepared([person("a", "anna", None)])[1].comparisons] == ["first name", HOUSEHOLD]


@pytest.mark.parametrize("columns", [{"street", "house_number", "town"}, {"street", "postcode"}, {"domain"}, set()])
def test_the_outcomes_of_surname_and_place_are_all_there_are(columns: set[str]) -> None:
    levels = household(columns, 1e-4).levels
    assert sum(level.m for level in levels) == pytest.approx(1, abs=0.03)
    assert all(0 < level.u < 1 for level in levels)
    assert len({level.label for level in levels}) == len(levels)
    assert [level for level in levels if not level.sql] == [levels[-1]]


CASES: list[tuple[Row, str, str]] = [
    ({"birth": "19800506"}, "date of birth", "the same"),
    ({"birth": "19800605"}, "date of birth", "day and month turned"),
    ({"birth": "19800507"}, "date of birth", "one digit differs"),
    ({"birth": "19810506"}, "date of birth", "one digit differs"),
    ({"birth": "19970506"}, "date of birth", "two parts of three the same"),
    ({"birth": "19870516"}, "date of birth", "two digits differ"),
    ({"birth": "20011231"}, "date of birth", "another"),
    ({"birth": None}, "date of birth", MISSING),
    ({"first_name": "brandvold", "last_name": "ottilie"}, "first name", "swapped with the surname"),
    ({"first_name": "brandvold", "last_name": None}, "first name", "the other's surname"),
    ({"first_name": "otilie"}, "first name", "close"),
    ({"first_name": "ottilia"}, "first name", "alike, not close"),
    ({"first_name": None}, "first name", MISSING),
    ({"first_name": "karl"}, "first name", "another"),
    ({"middle": "k"}, "middle name", "another"),
    ({"last_name": "brandvolt"}, HOUSEHOLD, "a close surname, the same address"),
    ({"last_name": None, "town": None}, HOUSEHOLD, "no surname, the same address"),
    ({"last_name": "x", "street": "mill lane", "town": "z"}, HOUSEHOLD, "another surname, partly the same address"),
]  # fmt: skip


@pytest.fixture(scope="module")
def compared() -> dict[str, dict[str, str]]:
    """How each case comes out beside one person; every case at an address of its own, with that person."""
    rows = []
    for number, (changed, _, _) in enumerate(CASES):
        address = {
            "street": f"{LAST[number]} street",
            "house_number": str(number),
            "town": "t",
            "postcode": f"{number}11",
        }
        row = person(f"{number:02d}", "ottilie", "brandvold", birth="19800506", middle="m", **address)
        rows += [row, {**row, **changed, "unique_id": f"{number:02d}-again"}]
    made, model = prepared(rows)
    found = score(made, replace(model, accept=lambda _: True), 1e-12)
    return {one.a: outcomes(one) for one in found if one.b == f"{one.a}-again"}


@pytest.mark.parametrize("number", range(len(CASES)))
def test_each_case_comes_out_as_it_should(number: int, compared: dict[str, dict[str, str]]) -> None:
    _, comparison, outcome = CASES[number]
    assert compared[f"{number:02d}"][comparison] == outcome


def test_a_firm_s_numbers_come_in_rows_and_then_say_little() -> None:
    def weight(extra: int) -> float:
        rows = [person(one, "ottilie", "brandvold", phone=f"+1212555010{number}") for number, one in enumerate("ab")]
        rows += [person(str(one), "karl", LAST[one % 60], phone=f"+1213555{one:04d}") for one in range(extra)]
        found = suggested(rows, above=1e-6)["a", "b"]
        return next(reason.bits for reason in found.reasons if reason.name == "phone")

    assert weight(0) > 6 > weight(400)


def test_the_order_of_the_records_does_not_matter_and_they_are_left_as_they_are() -> None:
    rows = town(births=True)
    rows += [again(rows[4]), again(rows[50])]
    before = [dict(one) for one in rows]
    found = suggested(rows)
    assert rows == before
    random.Random(3).shuffle(rows)
    other = suggested(rows)
    assert found.keys() == other.keys() != set()
    assert all(other[pair].score == pytest.approx(one.score) for pair, one in found.items())


def test_the_more_seem_to_be_there_twice_the_likelier_is_each_pair() -> None:
    rows = town(200, 1)
    few, many = ([*rows, *(again(one) for one in rows[:count])] for count in (5, 150))
    for columns in (("first_name", "last_name"), ("first_name", "last_name", "street", "house_number")):
        priors = [prepared([{one: row[one] for one in ("unique_id", *columns)} for row in told])[1].prior
                  for told in (few, many)]  # fmt: skip
        assert priors[0] == pytest.approx(0.1 / 204)
        assert priors[0] * 1.5 < priors[1] <= 1e-3


def test_namesakes_by_chance_are_nobody_twice() -> None:
    chance = random.Random(5)
    rows = [person(str(number), chance.choice(FIRST[:8]), chance.choice(LAST[:8])) for number in range(600)]
    assert prepared(rows)[1].prior == pytest.approx(0.1 / 599)


def test_no_block_has_more_pairs_than_forty_people_make() -> None:
    rows, model = prepared([person(str(number), "anna", "meier", domain="d.example") for number in range(100)])
    assert {row[name] for row in rows for [name] in model.blocks} == {None}
