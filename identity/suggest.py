"""Suggests pairs of persons that may be one, by names and what else fits; never merges anybody.

A score is a match weight in bits, added up over the comparisons of a `Model` (Fellegi and Sunter), worked out by Splink
in DuckDB. Everything is in memory: nothing of it is ever on disk in clear. What is kept is an open item of the review
queue, encrypted, with the model's version and the weight of every comparison.

How persons are compared, and why families are not suggested: `comparisons`. What hangs on a shared line counts for
nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import phonenumbers

from identity.comparisons import HOUSEHOLD, prepared
from identity.explain import strongest_handle
from identity.matching import Pair, probability, score
from identity.rules import Rules
from mappings.errors import SettingsError
from stores.database import Stores
from stores.graph import Graph, Node, ordered
from stores.graph.review import Reviews, Suggested

REVIEW_ABOVE = 0.9
MOST_SUGGESTIONS = 1_000
MOST_HANDLES = 2_000_000


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
        rows, model = prepared(records)
        found = [
            pair
            for pair in map(people.without_shared_lines, score(rows, model, above))
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
            first, middle, last = split_name(self._names[person_id])
            if first is not None:
                records.append({"unique_id": person_id, "first_name": first, "middle": middle, "last_name": last,
                                **_contact_points(self._nodes[person_id], {first, last or ""}),
                                })  # fmt: skip
        for person in records:
            person["country"] = person["country"] or _country_of(self._locales.get(person["unique_id"]))
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
            reason._replace(bits=min(reason.bits, 0.0)) if reason.name == HOUSEHOLD else reason
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
def split_name(name: str) -> tuple[str | None, str | None, str | None]:
    """First name, middle initial, last name in small letters, no accents, no titles; ``None`` for what is not there."""
    if name.count(",") == 1:
        last, _, first = name.partition(",")
        name = f"{first} {last}"
    folded = unicodedata.normalize("NFKD", name).casefold()
    letters = "".join(
        one if one.isalpha() else " " if not unicodedata.combining(one) and one not in "'’" else "" for one in folded
    )
    words = [word for word in letters.split() if word not in _TITLES]
    if not words or len(words[0]) < 2:
        return None, None, None
    if not any(len(word) > 1 for word in words[1:]):
        return words[0], None, None
    return words[0], words[1][0] if len(words) > 2 else None, [word for word in words if len(word) > 1][-1]


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
