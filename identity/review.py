"""The review queue: pairs of persons that somebody should look at, the most valuable first.

Three sources: links that a rule refused, evidence that somebody only typed in, and suggestions. A pair is open, put off
(later), or decided; it leaves the queue when the two are one person, and for ever when somebody said that they are not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from identity.explain import strongest_handle
from identity.partition import connected
from identity.rules import Rules
from mappings.records import Conversation, Handle
from stores.archive import Archive
from stores.database import Stores
from stores.graph import Graph, Node, moment_of, ordered
from stores.graph.review import Kept, Reviews

Source = Literal["conflict", "claimed", "suggestion"]
State = Literal["open", "later"]

SCORES = {"conflict": 0.8, "claimed": 0.5}
"""How likely a pair is one person, where no suggestion says so. Assumed: evidence links the two, and only a rule
refused it; whoever types an address in a chat mostly types their own, but the bait is typed in too."""
_MOST = 2_000


class Note(NamedTuple):
    """One thing that speaks for or against: from where, in words, and its weight in bits if a model gave one."""

    source: Source
    text: str
    handles: tuple[Handle, ...] = ()
    reasons: tuple[tuple[str, str, float], ...] = ()


@dataclass(slots=True)
class Item:
    """Two persons to be looked at.

    Attributes:
        item_id: for links; made of the two handles that stand for the persons.
        handles: these two handles; deciding of them decides of the persons.
        unanswered: conversations of the two that wait for an answer.
        cluster: the same number for items that hang together, in the order of the queue.
        model: which model suggested it.
    """

    item_id: str
    person_ids: tuple[str, str]
    handles: tuple[Handle, Handle]
    score: float
    state: State = "open"
    unanswered: int = 0
    cluster: int = 0
    model: str | None = None
    notes: list[Note] = field(default_factory=list)

    @property
    def value(self) -> float:
        """By which the queue is ordered: how likely it is one person, times what waits on it."""
        return self.score * (1 + self.unanswered)


class Side(NamedTuple):
    """One of the two persons, as far as it is worth comparing."""

    person_id: str
    name: str | None
    locale: str | None
    handles: list[tuple[Handle, str]]
    conversations: list[Conversation]
    crm_records: list[Handle]


class Row(NamedTuple):
    """One line of the comparison; `agrees` is ``None`` where there is nothing to compare."""

    label: str
    left: list[str]
    right: list[str]
    agrees: bool | None


class ReviewQueue:
    """The pairs that wait. Reads everything anew at each call: whatever was decided meanwhile is gone."""

    def __init__(self, stores: Stores, rules: Rules) -> None:
        self._graph = Graph(stores)
        self._archive = Archive(stores, self._graph)
        self._reviews = Reviews(stores, self._graph)
        self._rules = rules

    def items(self, limit: int = 500) -> list[Item]:
        """The queue: open pairs by their value, items that hang together side by side; then those put off."""
        pairs = self._pairs()
        items = [item for item in map(self._item, pairs.values()) if item is not None]
        self._count_unanswered(items)
        self._cluster(items)
        return items[:limit]

    def item(self, item_id: str) -> Item | None:
        """The item of that id, while it is in the queue."""
        return next((one for one in self.items(limit=_MOST * 3) if one.item_id == item_id), None)

    def put_off(self, item: Item, *, actor: str) -> None:
        """Show it last from now on."""
        self._reviews.put_off(*self._ids(item), actor=actor)

    def take_up(self, item: Item) -> None:
        """Take `put_off` back."""
        for one in self._reviews.kept(_MOST):
            persons = {node.person_id for node in self._graph.nodes(one[:2]).values()}
            if one.later_at and persons == {*item.person_ids}:
                self._reviews.take_up(one.a, one.b)

    def side(self, person_id: str) -> Side:
        """One person for the comparison."""
        nodes = sorted(self._graph.nodes_of([person_id]).values(), key=lambda node: node.key)
        return Side(
            person_id,
            self._graph.best_name(person_id),
            self._graph.best_locale(person_id),
            [(node.handle, node.link) for node in nodes],
            self._archive.conversations_of(person_id),
            [node.handle for node in nodes if node.kind.endswith("_contact")] + self._graph.projections_of(person_id),
        )

    def compare(self, item: Item) -> tuple[Side, Side, list[Row]]:
        """Both persons, and line by line what agrees and what does not."""
        a, b = (self.side(person_id) for person_id in item.person_ids)
        rows = [_row("name", [a.name], [b.name]), _row("locale", [a.locale], [b.locale])]
        kinds = sorted({handle.kind for side in (a, b) for handle, _ in side.handles})
        for kind in kinds:
            values = [[handle for handle, _ in side.handles if handle.kind == kind] for side in (a, b)]
            clash = kind in self._rules.limited_kinds and all(values) and _same_scope(*values)
            texts = [[handle.value for handle in side] for side in values]
            rows.append(Row(kind, texts[0], texts[1], False if clash else None))
        channels = [sorted({one.channel for one in side.conversations}) for side in (a, b)]
        rows.append(Row("channels", channels[0], channels[1], None))
        return a, b, [row for row in rows if row.left or row.right]

    def _pairs(self) -> dict[frozenset[str], list[Any]]:
        """Everything that the sources say, by the two persons that it is about."""
        found: defaultdict[frozenset[str], list[Any]] = defaultdict(list)
        conflicts = self._graph.conflicts(_MOST)
        for conflict in conflicts:
            found[frozenset(one or "" for one in conflict.person_ids)].append(
                Note("conflict", conflict.reason, conflict.handles)
            )
        claimed = self._reviews.unlinked_evidence(self._rules.linking_strengths, _MOST)
        kept = self._reviews.kept(_MOST)
        spoken_of = {one for told in claimed for one in (told.a, told.b)} | {
            one for row in kept for one in (row.a, row.b)
        }
        nodes = self._graph.nodes(spoken_of)
        for told in claimed:
            a, b = nodes[told.a], nodes[told.b]
            text = f"{told.method.replace('_', ' ')}, only {told.strength}, {moment_of(told.last_at):%Y-%m-%d}"
            found[_persons(a, b)].append(Note("claimed", text, (a.handle, b.handle)))
        for one in kept:
            found[_persons(nodes[one.a], nodes[one.b])].append(one)
        return {persons: notes for persons, notes in found.items() if len(persons) == 2 and "" not in persons}

    def _item(self, told: Sequence[Note | Kept]) -> Item | None:
        notes = [one for one in told if isinstance(one, Note)]
        kept = [one for one in told if isinstance(one, Kept)]
        suggested = max((one for one in kept if one.score is not None), key=lambda one: one.score or 0, default=None)
        if suggested is not None:
            reasons = tuple((name, outcome, bits) for name, outcome, bits in suggested.details.get("reasons", ()))
            notes.append(Note("suggestion", f"{suggested.score:.0%} by names and what else fits", (), reasons))
        if not notes:
            return None
        nodes = [self._graph.node_of(handle) for handle in notes[0].handles] if notes[0].handles else []
        ids = [node.handle_id for node in nodes if node] or list((suggested or kept[0])[:2])
        persons = sorted({str(node.person_id) for node in self._graph.nodes(ids).values()})
        sides = [self._graph.nodes_of([person_id]) for person_id in persons]
        if len(sides) != 2 or self._said_no(*sides):
            return None
        strongest = [strongest_handle(side.values(), self._rules) for side in sides]
        if strongest[0] is None or strongest[1] is None:
            return None
        a, b = sorted((strongest[0], strongest[1]), key=lambda node: node.handle_id)
        score = max([SCORES.get(note.source, 0.0) for note in notes] + [suggested.score or 0.0 if suggested else 0.0])
        return Item(
            f"{a.handle_id}-{b.handle_id}", (str(a.person_id), str(b.person_id)), (a.handle, b.handle), score,
            "later" if any(one.later_at for one in kept) else "open", model=suggested.model if suggested else None,
            notes=notes,
        )  # fmt: skip

    def _said_no(self, a: dict[int, Node], b: dict[int, Node]) -> bool:
        handles = [{node.handle for node in side.values()} for side in (a, b)]
        return any(
            one.kind == "different" and all(not side.isdisjoint(one.handles) for side in handles)
            for one in self._graph.decisions_about(a)
        )

    def _count_unanswered(self, items: Iterable[Item]) -> None:
        waiting: dict[str, int] = {}
        for item in items:
            for person_id in item.person_ids:
                if person_id not in waiting:
                    told = self._archive.conversations_of(person_id)
                    waiting[person_id] = sum(one.unanswered_since is not None for one in told)
            item.unanswered = sum(waiting[person_id] for person_id in item.person_ids)

    def _cluster(self, items: list[Item]) -> None:
        """Number what hangs together, and order: open first, the most valuable cluster first, then pair by pair."""
        persons = {person_id: number for number, person_id in enumerate({p for one in items for p in one.person_ids})}
        pairs = [ordered(persons[one.person_ids[0]], persons[one.person_ids[1]]) for one in items]
        parts = {one: index for index, part in enumerate(connected(persons.values(), pairs)) for one in part}
        part_of = {item.item_id: parts[pair[0]] for item, pair in zip(items, pairs, strict=True)}
        best: dict[tuple[int, str], tuple[float, str]] = {}
        for item in items:
            key = (part_of[item.item_id], item.state)
            best[key] = min(best.get(key, (0.0, item.item_id)), (-item.value, item.item_id))
        items.sort(
            key=lambda item: (
                item.state == "later", *best[part_of[item.item_id], item.state], -item.value, item.item_id
            )
        )  # fmt: skip
        numbers: dict[int, int] = {}
        for item in items:
            item.cluster = numbers.setdefault(part_of[item.item_id], len(numbers) + 1)

    def _ids(self, item: Item) -> tuple[int, int]:
        a, b = item.item_id.split("-")
        return int(a), int(b)


def _persons(a: Node, b: Node) -> frozenset[str]:
    return frozenset((a.person_id or "", b.person_id or ""))


def _row(label: str, left: Iterable[str | None], right: Iterable[str | None]) -> Row:
    a, b = [one for one in left if one], [one for one in right if one]
    agrees = None if not a or not b else {one.casefold() for one in a} == {one.casefold() for one in b}
    return Row(label, a, b, agrees)


def _same_scope(a: Iterable[Handle], b: Iterable[Handle]) -> bool:
    return not {handle.scope for handle in a}.isdisjoint(handle.scope for handle in b)
