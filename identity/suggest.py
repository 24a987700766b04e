"""Suggests pairs of persons that may be one, by names and what else fits; never merges anybody.

A score is a match weight in bits, added up over the comparisons of a `Model` (Fellegi and Sunter), worked out by Splink
in DuckDB. Everything is in memory: nothing of it is ever on disk in clear. What is kept is an open item of the review
queue, encrypted, with the model's version and the weight of every comparison.

Members of a household are the trap: surname and address (or the firm's domain) agree together, so that counting both
finds families (of 7,106 false pairs at p >= .95 in a census sample, all were of one household). Hence the two are one
comparison, first names must agree, and what hangs on a shared line counts for nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import phonenumbers

from identity.explain import strongest_handle
from identity.matching import MISSING, Comparison, Level, Model, Pair, probability, score
from identity.rules import Rules
from mappings.errors import SettingsError
from stores.database import Stores
from stores.graph import Graph, Node, ordered
from stores.graph.review import Reviews, Suggested

REVIEW_ABOVE = 0.9
MOST_SUGGESTIONS = 1_000
MOST_HANDLES = 2_000_000
_MOST_IN_BLOCK = 40
"""A key that more persons have says nothing and would make pairs without end (40 persons are 780)."""


# The model of persons. Its numbers are fixed (assumed, 2026-11): an archive has few doubles to learn from, and the same
# archive must give the same suggestions.

RARE, MIDDLING, COMMON = 0, 1, 2
_RARITY = ((RARE, "rare"), (MIDDLING, "middling"), (COMMON, "common"))
_SHARE = {RARE: 0.35, MIDDLING: 0.4, COMMON: 0.25}
"""Which part of people has a name of that rarity."""
_FIRST = {RARE: 0.0005, MIDDLING: 0.003, COMMON: 0.02}
_LAST = {RARE: 0.0002, MIDDLING: 0.001, COMMON: 0.01}
"""How often another person has that very name."""


def _similar(column: str, least: float) -> str:
    return f"jaro_winkler_similarity({column}_l, {column}_r) >= {least} AND right({column}_l, 1) = right({column}_r, 1)"


def _first_name() -> Comparison:
    same = [
        Level(f"first_name_l = first_name_r AND first_rarity_l = {rank}", f"the same, {word}",
              0.88 * _SHARE[rank], _FIRST[rank] * _SHARE[rank])
        for rank, word in _RARITY
    ]  # fmt: skip
    # Maria and Mario, Paul and Paula are siblings as often as a slip of the pen: the last letters must agree.
    close = Level(_similar("first_name", 0.9), "close", 0.08, 0.002)
    return Comparison("first name", "first_name_l IS NULL OR first_name_r IS NULL", _completed([*same, close]))


def _household() -> Comparison:
    """Surname and workplace (the domain of an address of one's own) together: they are not independent."""
    workplaces = (
        ("domain_l = domain_r", "the same workplace", 0.4, 0.1, 0.004),
        ("domain_l <> domain_r", "another workplace", 0.2, 0.3, 0.3),
        ("true", "", 0.4, 0.6, 0.696),
    )
    surnames = [
        *((f"last_name_l = last_name_r AND last_rarity_l = {rank}", f"the same surname, {word}",
           0.8 * _SHARE[rank], _LAST[rank] * _SHARE[rank], True) for rank, word in _RARITY),
        (_similar("last_name", 0.9), "a close surname", 0.08, 0.001, True),
        ("last_name_l IS NULL OR last_name_r IS NULL", "no surname", 0.08, 0.08, False),
    ]  # fmt: skip
    levels = []
    for sql, label, m, u, related in surnames:
        for where, workplace, m_part, u_related, u_any in workplaces:
            words = ", ".join(word for word in (label, workplace) if word)
            levels.append(Level(f"({sql}) AND ({where})", words, m * m_part, u * (u_related if related else u_any)))
    levels.append(Level("domain_l = domain_r", "another surname, the same workplace", 0.01, 0.004))
    return Comparison(
        "surname and workplace",
        "(last_name_l IS NULL OR last_name_r IS NULL) AND (domain_l IS NULL OR domain_r IS NULL)",
        _completed(levels, "another surname"),
    )


def _completed(levels: Sequence[Level], label: str = "another") -> list[Level]:
    """The levels with what is left as the last one."""
    m, u = (1 - sum(getattr(level, name) for level in levels) for name in ("m", "u"))
    return [*levels, Level("", label, max(m, 0.01), u)]


_DIGITS = "abs(length(phone_l) - length(phone_r)) <= 1 AND levenshtein(phone_l, phone_r) <= 1"
PERSONS = Model(
    version="persons-1",
    comparisons=[
        _first_name(),
        _household(),
        Comparison("word in the address", "word_l IS NULL OR word_r IS NULL",
                   _completed([Level("word_l = word_r", "the same", 0.35, 0.0005)])),
        Comparison("phone", "phone_l IS NULL OR phone_r IS NULL", _completed([
            Level(_DIGITS, "one digit differs", 0.04, 0.0003),
            Level("right(phone_l, 7) = right(phone_r, 7)", "the same last digits", 0.06, 0.000001),
        ])),
        Comparison("country", "country_l IS NULL OR country_r IS NULL",
                   _completed([Level("country_l = country_r", "the same", 0.9, 0.4)])),
    ],
    blocks=[["block_name"], ["block_close"], ["block_word"], ["block_phone"]],
    accept=lambda reasons: any(
        reason.name == "first name" and reason.outcome not in {"another", MISSING} for reason in reasons
    ),
)  # fmt: skip


@dataclass(slots=True)
class Result:
    """What a run of `suggest` came to."""

    persons: int = 0
    suggestions: int = 0
    new: int = 0
    gone: int = 0
    left_out: int = 0


def suggest(stores: Stores, rules: Rules, *, above: float = REVIEW_ABOVE, most: int = MOST_SUGGESTIONS) -> Result:
    """Look for persons that may be one, and keep the pairs for review in place of those of the last run.

    Repeats: harmless; the same graph gives the same suggestions. What a person decided is not suggested again, what was
    put off stays so. At most the `most` likeliest are kept.

    Raises:
        SettingsError: Splink is not installed.
        TimeoutError: another run is at work.
    """
    _need_splink()
    with stores.lock("identity-suggest", timeout_seconds=0):
        graph = Graph(stores)
        reviews = Reviews(stores, graph)
        people = _People(reviews, MOST_HANDLES)
        records = people.records()
        result = Result(persons=len(records))
        model = replace(PERSONS, prior=min(1e-3, 0.1 / max(len(records), 1)))
        found = [
            pair
            for pair in map(people.without_shared_lines, score(records, model, above))
            if pair.score >= above and not people.decided(graph, pair)
        ]
        found.sort(key=lambda pair: (-pair.score, pair.a, pair.b))
        result.left_out = max(0, len(found) - most)
        kept = [people.suggested(pair, rules) for pair in found[:most]]
        result.suggestions = len(kept)
        result.new, result.gone = reviews.replace_suggestions(kept, model.version)
    return result


class _People:
    """The persons as they are compared: one golden record each, of handles that are theirs alone."""

    def __init__(self, reviews: Reviews, most: int) -> None:
        self._reviews = reviews
        self._nodes: defaultdict[str, list[Node]] = defaultdict(list)
        for node in reviews.owned_nodes(most):
            self._nodes[str(node.person_id)].append(node)
        self._names, self._locales = reviews.names()

    def records(self) -> list[dict[str, Any]]:
        """The golden records of all persons with a first name."""
        records: list[dict[str, Any]] = []
        for person_id in sorted(self._nodes.keys() & self._names.keys()):
            first, last = split_name(self._names[person_id])
            if first is not None:
                records.append({"unique_id": person_id, "first_name": first, "last_name": last,
                                **_contact_points(self._nodes[person_id], {first, last or ""}),
                                })  # fmt: skip
        for person in records:
            person["country"] = person["country"] or _country_of(self._locales.get(person["unique_id"]))
        for name, limits in (("first", (0.001, 0.008)), ("last", (0.0005, 0.004))):
            _rate(records, f"{name}_name", f"{name}_rarity", limits)
        _forget_common(records, "domain", max(20, len(records) // 100))
        for person in records:
            first, last = person["first_name"], person["last_name"]
            person["block_name"] = f"{first} {last}" if last else None
            person["block_close"] = f"{first[:2]} {last[:4]}" if last else first
            person["block_word"], person["block_phone"] = person["word"], (person["phone"] or "")[-7:] or None
        for name in ("block_name", "block_close", "block_word", "block_phone"):
            _forget_common(records, name, _MOST_IN_BLOCK)
        return records

    def without_shared_lines(self, pair: Pair) -> Pair:
        """Two persons beside one shared handle are a household: that surnames agree there is no news."""
        near = [
            {other for others in self._reviews.seen_together(node.handle_id for node in self._nodes[one]).values()
             for other in others}
            for one in (pair.a, pair.b)
        ]  # fmt: skip
        own = {node.handle_id for one in (pair.a, pair.b) for node in self._nodes[one]}
        if not (near[0] & near[1]) - own:
            return pair
        reasons = [
            reason._replace(bits=min(reason.bits, 0.0)) if reason.name == "surname and workplace" else reason
            for reason in pair.reasons
        ]
        return Pair(pair.a, pair.b, probability(sum(reason.bits for reason in reasons)), reasons)

    def decided(self, graph: Graph, pair: Pair) -> bool:
        """Whether somebody said that the two are different."""
        sides = [{node.handle for node in self._nodes[one]} for one in (pair.a, pair.b)]
        about = graph.decisions_about(node.handle_id for one in (pair.a, pair.b) for node in self._nodes[one])
        return any(
            decision.kind == "different" and all(not side.isdisjoint(decision.handles) for side in sides)
            for decision in about
        )

    def suggested(self, pair: Pair, rules: Rules) -> Suggested:
        """The pair as it is kept: by the handle that stands for each."""
        a, b = (strongest_handle(self._nodes[one], rules) for one in (pair.a, pair.b))
        assert a is not None  # noqa: S101 (a person with a name has handles)
        assert b is not None  # noqa: S101
        reasons = [[reason.name, reason.outcome, round(reason.bits, 2)] for reason in pair.reasons]
        return Suggested(*ordered(a.handle_id, b.handle_id), round(pair.score, 6), {"reasons": reasons})


def _need_splink() -> None:
    from importlib.util import find_spec

    if find_spec("splink") is None or find_spec("duckdb") is None:
        msg = "suggestions need Splink: pip install 'onethread[suggest]'"
        raise SettingsError(msg)


# Golden records

_TITLES = frozenset("mr mrs ms miss dr prof sir herr frau sig sra sr mme mlle ing avv dott".split())
_FREE_MAIL = re.compile(
    r"(gmail|googlemail|outlook|hotmail|live|msn|yahoo|ymail|icloud|me|aol|gmx|web|t-online|libero|virgilio|orange|"
    r"wanadoo|free|qq|163|126|mail|yandex|proton|protonmail|pm|zoho|fastmail|uol|bol|terra)\.[a-z.]{2,6}"
)


@lru_cache(maxsize=100_000)
def split_name(name: str) -> tuple[str | None, str | None]:
    """First and last name in small letters without accents and titles; ``None`` for what is not there."""
    if name.count(",") == 1:
        last, _, first = name.partition(",")
        name = f"{first} {last}"
    folded = unicodedata.normalize("NFKD", name).casefold()
    letters = "".join(
        one if one.isalpha() else " " if not unicodedata.combining(one) and one not in "'’" else "" for one in folded
    )
    words = [word for word in letters.split() if word not in _TITLES]
    if not words or len(words[0]) < 2:
        return None, None
    last_words = [word for word in words[1:] if len(word) > 1]
    return words[0], last_words[-1] if last_words else None


def _contact_points(nodes: Iterable[Node], names: set[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {"domain": None, "word": None, "phone": None, "country": None}
    for handle in sorted((node.handle for node in nodes if node.kind in {"email", "phone"}), key=lambda one: one.key):
        if handle.kind == "phone":
            found["phone"] = handle.value
            found["country"] = _region_of(handle.value)
            continue
        local, _, domain = handle.value.partition("@")
        found["domain"] = found["domain"] or (None if _FREE_MAIL.fullmatch(domain) else domain)
        found["word"] = found["word"] or _own_word(local, names)
    return found


def _own_word(local_part: str, names: set[str]) -> str | None:
    """The part before the @ when it says more than the name: ``annsmith82``, ``skipper``; not ``ann.smith``."""
    rest = local_part.partition("+")[0]
    for name in sorted(names - {""}, key=len, reverse=True):
        rest = rest.replace(name, "").replace(name[0], "", 1) if name not in rest else rest.replace(name, "", 1)
    left = re.sub(r"[^a-z0-9]", "", rest)
    return local_part.partition("+")[0] if len(left) >= 2 and len(local_part) >= 5 else None


@lru_cache(maxsize=100_000)
def _region_of(phone: str) -> str | None:
    try:
        region: str | None = phonenumbers.region_code_for_number(phonenumbers.parse(phone))
    except phonenumbers.NumberParseException:
        return None
    return region


def _country_of(locale: str | None) -> str | None:
    match = re.fullmatch(r"[a-zA-Z]{2,3}[-_]([A-Z]{2})\b.*", locale or "")
    return match.group(1) if match else None


def _rate(records: Sequence[dict[str, Any]], column: str, into: str, limits: tuple[float, float]) -> None:
    """How rare each value is here; a thousand people more are imagined, so that a small archive has no rare names."""
    counts = Counter(one[column] for one in records if one[column])
    for one in records:
        share = counts[one[column]] / (len(records) + 1_000)
        one[into] = RARE if share <= limits[0] else MIDDLING if share <= limits[1] else COMMON


def _forget_common(records: Sequence[dict[str, Any]], column: str, most: int) -> None:
    counts = Counter(one[column] for one in records)
    for one in records:
        if counts[one[column]] > most:
            one[column] = None
