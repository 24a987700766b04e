"""How two persons are compared: one family of comparisons, of which those apply whose columns there are.

Records are golden records of persons: ``unique_id`` and any of the `COLUMNS`, in small letters or ``None``.

The numbers are fixed (assumed, 2026-11): an archive has few doubles to learn from, and the same archive must give the
same suggestions. What is counted in the archive itself is how rare a name is, how often phones are much the same, how
many persons seem to be there twice, and how many live with others.

Members of a household are the trap: surname and place (an address, a firm's domain) agree together, so that counting
both finds families. Hence the two are one comparison, which says no more than that somebody lives or works there; who
of them it is, first name and date of birth must tell (see `agrees`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import combinations
from math import prod, sqrt
from typing import Any, NamedTuple, TypeVar

from identity.matching import Comparison, Level, Model, Reason

VERSION = "persons-2"
COLUMNS = {
    "first_name": "", "last_name": "", "middle": "a letter", "birth": "19800131", "house_number": "", "street": "",
    "premises": "flat, floor, name of the house", "town": "", "postcode": "", "domain": "of an address of one's own",
    "word": "the part before the @ where it says more than the name", "phone": "E.164", "country": "DE",
}  # fmt: skip
"""What a record may have, and how it is written."""

HOUSEHOLD = "surname and place"
SAME_ADDRESS = "the same address"
_MOST_IN_BLOCK = 40
"""A key that more persons have says nothing and would make pairs without end (40 persons are 780)."""
_MOST_AT_HOME = 20
"""An address of more persons is a dormitory or an office, and says nothing."""

Row = Mapping[str, Any]
_Row = TypeVar("_Row", bound=Row)


def prepared(records: Sequence[Row]) -> tuple[list[dict[str, Any]], Model]:
    """The records as they are compared, and the model of their columns.

    Args:
        records: all with the same columns; they are left as they are.
    """
    rows = [dict.fromkeys(COLUMNS) | dict(one) for one in records]
    for column in ("domain", "town", "postcode", "premises"):
        _forget_common(rows, column, max(20, len(rows) // 100))
    for group in _together(rows, ("house_number", "street")):
        if len(group) > _MOST_AT_HOME:
            for one in group:
                one["house_number"] = one["street"] = None
    filled = {column for one in rows for column in COLUMNS if one[column]}
    for column, limits in _RARE_BELOW.items():
        _rate(rows, column, limits)
    columns = COLUMNS.keys() & {column for one in records for column in one}
    comparisons = [_first_name(), household(columns, at_home(rows)), *_others(rows, columns)]
    return rows, Model(VERSION, comparisons, _block(rows, filled), agrees, _prior(rows))


def agrees(reasons: Sequence[Reason]) -> bool:
    """Whether a pair may be told at all: first names or dates of birth agree, or it is known how many live together.

    Where only a workplace is the same, brother and sister are not suggested, whatever else agrees.
    """
    return any(
        reason.outcome in _AGREES.get(reason.name, ())
        or (reason.name == HOUSEHOLD and reason.outcome.endswith(f", {SAME_ADDRESS}"))
        for reason in reasons
    )


# Names

RARE, MIDDLING, COMMON = 0, 1, 2
_RARITY = ((RARE, "rare"), (MIDDLING, "middling"), (COMMON, "common"))
_RARE_BELOW = {"first_name": (0.001, 0.008), "last_name": (0.0005, 0.004)}
"""Up to which share of the persons here a name is rare, and up to which middling."""
_SHARE = {RARE: 0.35, MIDDLING: 0.4, COMMON: 0.25}
"""Which part of people has a name of that rarity."""
_FIRST = {RARE: 0.0005, MIDDLING: 0.003, COMMON: 0.02}
_LAST = {RARE: 0.0002, MIDDLING: 0.001, COMMON: 0.01}
"""How often another person has that very name."""
_SWAPPED = "first_name_l = last_name_r AND last_name_l = first_name_r"
_HALF_SWAPPED = "first_name_l = last_name_r OR last_name_l = first_name_r"


def _absent(column: str) -> str:
    return f"{column}_l IS NULL OR {column}_r IS NULL"


def _alike(column: str, least: float) -> str:
    return f"jaro_winkler_similarity({column}_l, {column}_r) >= {least}"


def _close(column: str) -> str:
    # Maria and Mario, Paul and Paula are siblings as often as a slip of the pen: a vowel at the end must agree.
    consonants = " AND ".join(f"NOT regexp_matches({column}_{side}, '[aeiouy]$')" for side in "lr")
    return f"{_alike(column, 0.9)} AND (right({column}_l, 1) = right({column}_r, 1) OR ({consonants}))"


def _completed(levels: Sequence[Level]) -> list[Level]:
    """The levels with what is left as the last one."""
    m, u = (1 - sum(getattr(level, name) for level in levels) for name in ("m", "u"))
    return [*levels, Level("", "another", max(m, 0.01), max(u, 0.01))]


def _first_name() -> Comparison:
    same = [
        Level(f"first_name_l = first_name_r AND first_name_rarity_l = {rank}", f"the same, {word}",
              0.8 * _SHARE[rank], _FIRST[rank] * _SHARE[rank])
        for rank, word in _RARITY
    ]  # fmt: skip
    return Comparison("first name", _absent("first_name"), _completed([
        *same,
        Level(_SWAPPED, "swapped with the surname", 0.01, 0.00001),
        Level(_close("first_name"), "close", 0.08, 0.002),
        Level(_HALF_SWAPPED, "the other's surname", 0.01, 0.0005),
        Level(_alike("first_name", 0.8), "alike, not close", 0.04, 0.012),
    ]))  # fmt: skip


# Surname and place


class _Surname(NamedTuple):
    """One outcome for surnames: `u` of any two persons, `u_at_home` of two at one address."""

    sql: str
    label: str
    m: float
    u: float
    u_at_home: float
    related: bool = False


class Place(NamedTuple):
    """One outcome for places: `u` of any two persons, `u_related` of two with one surname."""

    sql: str
    label: str
    m: float
    u: float
    u_related: float


_SURNAMES = [
    *(_Surname(f"last_name_l = last_name_r AND last_name_rarity_l = {rank}", f"the same surname, {word}",
               0.74 * _SHARE[rank], _LAST[rank] * _SHARE[rank], 0.78 * _SHARE[rank], True) for rank, word in _RARITY),
    # What it says that names are swapped is told under the first name.
    _Surname(_SWAPPED, "swapped", 0.01, 0.01, 0.01),
    _Surname(_close("last_name"), "a close surname", 0.08, 0.001, 0.05, True),
    _Surname(_HALF_SWAPPED, "the other's first name", 0.01, 0.0005, 0.002),
    _Surname(_alike("last_name", 0.8), "an alike surname", 0.03, 0.008, 0.02),
    _Surname(_absent("last_name"), "no surname", 0.08, 0.08, 0.08),
    _Surname("true", "another surname", 0.05, 0.9, 0.08),
]  # fmt: skip
_ADDRESS = {
    "house_number": "house_number_l = house_number_r", "street": _alike("street", 0.88),
    "premises": _alike("premises", 0.88), "town": _alike("town", 0.9),
    "postcode": "damerau_levenshtein(postcode_l, postcode_r) <= 1",
}  # fmt: skip


def household(columns: Set[str], home: float) -> Comparison:
    """Surname and place together: `home` is how often two different persons are at one address."""
    found_at = places(columns)
    levels = []
    for surname in _SURNAMES:
        for place in found_at:
            u = surname.u * (place.u_related if surname.related else place.u)
            levels.append(Level(
                f"({surname.sql}) AND ({place.sql})", ", ".join(word for word in (surname.label, place.label) if word),
                surname.m * place.m, surname.u_at_home * home if place.label == SAME_ADDRESS else u,
            ))  # fmt: skip
    levels[-1] = levels[-1]._replace(sql="")
    nowhere = " AND ".join(f"NOT coalesce({place.sql}, false)" for place in found_at[:-1]) or "true"
    return Comparison(HOUSEHOLD, f"({_absent('last_name')}) AND {nowhere}", levels)


def places(columns: Set[str]) -> list[Place]:
    """The outcomes; the last one is that there is nothing to compare."""
    if "street" in columns:
        parts = [one for one in _ADDRESS if one in columns]
        same = {one: f"coalesce({_ADDRESS[one]}, false)" for one in parts}
        agree = " + ".join(f"{same[one]}::int" for one in parts)
        known = " + ".join(f"(NOT ({_absent(one)}))::int" for one in parts)
        # There is a Main Street in every town.
        far = [f"NOT coalesce({_ADDRESS[one]}, {one}_l IS NULL AND {one}_r IS NULL)"
               for one in ("town", "postcode") if one in columns]  # fmt: skip
        house = f"{same['street']} AND {same.get('house_number', 'false')} AND NOT ({' AND '.join(far) or 'false'})"
        return [
            Place(f"{agree} >= 3 OR ({house})", SAME_ADDRESS, 0.7, 0, 0),
            Place(f"{agree} >= 2", "partly the same address", 0.1, 0.004, 0.03),
            Place(f"{known} >= 2", "another address", 0.1, 0.896, 0.87),
            Place("true", "", 0.1, 0.1, 0.1),
        ]
    if "domain" in columns:
        return [
            Place("domain_l = domain_r", "the same workplace", 0.4, 0.004, 0.1),
            Place("domain_l <> domain_r", "another workplace", 0.2, 0.3, 0.3),
            Place("true", "", 0.4, 0.696, 0.6),
        ]
    return [Place("true", "", 1, 1, 1)]


def at_home(rows: Sequence[Row]) -> float:
    """How often two different persons are at one address: counted, and rather too much.

    Those count whose first name and date of birth are both another, less as many as slips of the pen explain: among
    those who agree in the one, it shows how often the other is wrong. Without dates of birth the first name decides.
    """
    if not any(one["house_number"] for one in rows):
        return min(0.01, 2 / max(1, len(rows)))
    pairs = [
        (a, b) for group in _together(rows, ("house_number", "street")) for a, b in combinations(group, 2)
        if a["town"] == b["town"] or a["postcode"] == b["postcode"]
    ]  # fmt: skip
    births = any(one["birth"] for one in rows)
    told = [(_other_first_name(a, b), _other_birth(a, b) if births else True) for a, b in pairs]
    count = Counter(one for one in told if None not in one)
    both = count[True, True]
    slips = count[True, False] * count[False, True] / max(1, count[False, False])
    of_all = len(pairs) / max(1, count.total())
    # Two standard deviations more; and half of the addresses are written in two ways.
    return min(0.01, 2 * of_all * (max(0, both - slips) + 2 * sqrt(both + 1)) / max(1, _pairs(len(rows))))


def _other_first_name(a: Row, b: Row) -> bool | None:
    """Whether one has another first name: by the first letter, which slips of the pen mostly leave."""
    one, two = a["first_name"], b["first_name"]
    if not one or not two:
        return None
    return bool(one[0] != two[0] and one != b["last_name"] and two != a["last_name"])


def _other_birth(a: Row, b: Row) -> bool | None:
    """Whether at least two of year, month and day are others."""
    one, two = a["birth"], b["birth"]
    if not one or not two:
        return None
    return sum(bool(one[start:end] != two[start:end]) for start, end in ((0, 4), (4, 6), (6, 8))) >= 2


# What else there is

_TURNED = "birth_l = substr(birth_r, 1, 4) || substr(birth_r, 7, 2) || substr(birth_r, 5, 2)"
_PARTS = " + ".join(f"(substr(birth_l, {at}) = substr(birth_r, {at}))::int" for at in ("1, 4", "5, 2", "7, 2"))
_DIGITS = "abs(length(phone_l) - length(phone_r)) <= 1 AND levenshtein(phone_l, phone_r) <= 1"
_AGREES = {
    "first name": {
        *(f"the same, {word}" for _, word in _RARITY), "swapped with the surname", "close", "the other's surname",
    },
    "date of birth": {"the same", "day and month turned", "one digit differs"},
}  # fmt: skip


def _others(rows: Sequence[Row], columns: Set[str]) -> list[Comparison]:
    one_digit, endings = _much_the_same([one["phone"] for one in rows if one["phone"]])
    made = {
        "middle": ("middle name", [Level("middle_l = middle_r", "the same", 0.95, 0.07)]),
        "birth": ("date of birth", [
            Level("birth_l = birth_r", "the same", 0.78, 0.00004),
            Level(_TURNED, "day and month turned", 0.01, 0.00004),
            Level("damerau_levenshtein(birth_l, birth_r) <= 1", "one digit differs", 0.06, 0.001),
            Level(f"{_PARTS} >= 2", "two parts of three the same", 0.05, 0.0035),
            Level("damerau_levenshtein(birth_l, birth_r) <= 2", "two digits differ", 0.03, 0.01),
        ]),
        "word": ("word in the address", [Level("word_l = word_r", "the same", 0.35, 0.0005)]),
        "phone": ("phone", [
            Level(_DIGITS, "one digit differs", 0.04, max(0.0003, one_digit)),
            Level("right(phone_l, 7) = right(phone_r, 7)", "the same last digits", 0.06, max(0.000001, endings)),
        ]),
        "country": ("country", [Level("country_l = country_r", "the same", 0.9, 0.4)]),
    }  # fmt: skip
    return [
        Comparison(name, _absent(column), _completed(levels))
        for column, (name, levels) in made.items() if column in columns
    ]  # fmt: skip


def _much_the_same(phones: Sequence[str]) -> tuple[float, float]:
    """How often two numbers differ in one digit or end alike: a firm's and a family's come in rows.

    A thousand numbers more are imagined, so that two in a small archive are not half of everybody.
    """
    near = Counter(f"{one[:at]}?{one[at + 1 :]}" for one in phones for at in range(1, len(one)))
    endings = Counter(one[-7:] for one in phones)
    one_digit, ending = (sum(map(_pairs, counts.values())) for counts in (near, endings))
    return one_digit / _pairs(len(phones) + 1_000), ending / _pairs(len(phones) + 1_000)


# Counting

_BLOCKS = (
    ("first_name:2", "last_name:4"), ("first_name", "last_name:3"), ("first_name:3", "last_name"),
    ("word",), ("phone:-7",), ("birth",),
    ("house_number", "street:5"), ("house_number", "postcode"), ("house_number", "town"), ("street", "postcode"),
    *((name, place) for name in ("first_name", "last_name") for place in ("street", "premises", "town", "postcode")),
)  # fmt: skip
"""What must agree for a pair to be looked at: columns, or so many letters of their beginning or end."""


def _block(rows: Sequence[dict[str, Any]], filled: Set[str]) -> list[list[str]]:
    """Write the blocks into the rows; the names of their columns."""
    for row in rows:
        names = sorted(name for name in (row["first_name"], row["last_name"]) if name)
        # Sorted, for names that were swapped; whoever told only a first name is compared with others like that.
        row["block_names"] = " ".join(names) if len(names) == 2 else None
        row["block_letters"] = " ".join(name[:3] for name in names) if len(names) == 2 else row["first_name"]
    blocks = ["block_names", "block_letters"]
    for number, parts in enumerate(_BLOCKS):
        if filled >= {part.partition(":")[0] for part in parts}:
            blocks.append(f"block_{number}")
            for row in rows:
                row[blocks[-1]] = _key(row, parts)
    for name in blocks:
        _forget_common(rows, name, _MOST_IN_BLOCK)
    return [[name] for name in blocks]


def _key(row: Row, parts: Iterable[str]) -> str | None:
    values = []
    for part in parts:
        column, _, letters = part.partition(":")
        value = row[column]
        if not value:
            return None
        length = int(letters or len(value))
        values.append(value[:length] if length > 0 else value[length:])
    return "|".join(values)


def _prior(rows: Sequence[Row]) -> float:
    """How likely any two are one: one in twenty persons is there twice, or as many as there seem to be."""
    sure: set[tuple[str, str]] = set()
    for column in (("birth",), ("house_number", "street")):
        for group in _together(rows, ("first_name", "last_name", *column)):
            sure.update(combinations(sorted(one["unique_id"] for one in group), 2))
    # As many again have a slip of the pen in one of the three.
    seem = max(0.05 * len(rows), 2 * len(sure), _namesakes(rows))
    return min(1e-3, seem / max(1, _pairs(len(rows))))


def _namesakes(rows: Sequence[Row]) -> float:
    """How many pairs have one full name beyond what chance makes, times three: names are not mixed at random."""
    columns = ["first_name", "last_name"]
    if 2 * sum(bool(row["middle"]) for row in rows) > len(rows):
        columns.append("middle")
    named = [row for row in rows if all(row[column] for column in columns)]
    pairs = max(1, _pairs(len(named)))
    chance = prod(sum(_pairs(k) for k in Counter(row[one] for row in named).values()) / pairs for one in columns)
    found = sum(_pairs(len(group)) for group in _together(named, columns))
    return found - 3 * chance * pairs


def _pairs(count: int) -> float:
    return count * (count - 1) / 2


def _together(rows: Iterable[_Row], columns: Sequence[str]) -> list[list[_Row]]:
    """The rows that have the same in all these columns, two or more."""
    groups: defaultdict[tuple[str, ...], list[_Row]] = defaultdict(list)
    for row in rows:
        if all(row[name] for name in columns):
            groups[tuple(row[name] for name in columns)].append(row)
    return [group for group in groups.values() if len(group) > 1]


def _rate(rows: Sequence[dict[str, Any]], column: str, limits: tuple[float, float]) -> None:
    """How rare each value is here; a thousand people more are imagined, so that a small archive has no rare names."""
    counts = Counter(one[column] for one in rows if one[column])
    for one in rows:
        share = counts[one[column]] / (len(rows) + 1_000)
        one[f"{column}_rarity"] = RARE if share <= limits[0] else MIDDLING if share <= limits[1] else COMMON


def _forget_common(rows: Sequence[dict[str, Any]], column: str, most: int) -> None:
    counts = Counter(one[column] for one in rows)
    for one in rows:
        if counts[one[column]] > most:
            one[column] = None
