"""Why several handles are one person: the shortest way through the evidence, and what it needs to hold by itself."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from identity.partition import (
    DECIDED,
    SAME_ID_METHODS,
    Link,
    changes_of_hands,
    connected,
    ids_under_all_names,
    persons_of_component,
    strongest_links,
)
from identity.rules import Rules
from mappings.records import Handle
from stores.graph import FORMER, Decision, Edge, Graph, Node, Told, moment_of, ordered


class Step(NamedTuple):
    """Two handles and the best evidence that puts them together; ``decision`` as method when a person said so.

    `decisions`: all that people said of the two handles.
    """

    handles: tuple[Handle, Handle]
    method: str
    strength: str
    first_at: datetime
    last_at: datetime
    decisions: tuple[Decision, ...] = ()


class Chain:
    """All that makes one person, and the shortest way through it."""

    def __init__(self, graph: Graph, rules: Rules, person_id: str) -> None:
        self._graph = graph
        self._rules = rules
        self._nodes = graph.nodes_of([person_id])
        about = graph.evidence_about(self._nodes)
        self._renames = [told for told in about if _renames(told, rules)]
        self._told = [told for told in about if self._links(told)]
        self._decisions = graph.decisions_about(self._nodes)
        self._ids = {node.handle: handle_id for handle_id, node in self._nodes.items()} if self._decisions else {}
        self._best = _best_of(self._told, rules)

    def between(self, a: int, b: int) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
        """The steps from `a` to `b`, and what they need besides."""
        if a == b:
            return (), ()
        links: dict[tuple[int, int], Link] = {pair: link for pair, (link, _) in self._best.items()}
        links.update(dict.fromkeys(self._said("same"), Link(DECIDED, 0, "decision", "verified")))
        path = _shortest(a, b, links, self._nodes)
        chain = {ordered(one, other): None for one, other in pairwise(path)}
        told = [self._best[pair][1] for pair in chain if links[pair].rank != DECIDED]
        same = [pair for pair in chain if links[pair].rank == DECIDED]
        steps = tuple(self._step(one, other, links[ordered(one, other)]) for one, other in pairwise(path))
        private = [pair[0] for pair in self._said("private") if pair[0] in path]
        if self._joins(told, same, private, a, b):
            return steps, ()
        more_told, more_same = self._supports(told, same, private, a, b)
        supports = [self._support(one) for one in more_told]
        supports += [self._decided(decision) for decision in self._decisions if self._pair_of(decision) in more_same]
        return steps, tuple(supports)

    def _supports(
        self, told: list[Told], same: list[tuple[int, int]], private: list[int], a: int, b: int
    ) -> tuple[list[Told], list[tuple[int, int]]]:
        """What else it takes for the chain to hold: first renamed ids and decisions, then all there is."""
        renames, said = self._all_renames(), [pair for pair in self._said("same") if pair not in same]
        for more in (renames, [*renames, *(one for one in self._told if one not in told)]):
            if self._joins([*told, *more], [*same, *said], private, a, b):
                break
        kept = list(dict.fromkeys(one for one in more if one not in told))
        for pair in list(said):
            rest = [one for one in said if one != pair]
            if self._joins([*told, *kept], [*same, *rest], private, a, b):
                said = rest
        for piece in list(kept) if len(kept) <= 200 else ():
            fewer = [one for one in kept if one != piece]
            if self._joins([*told, *fewer], [*same, *said], private, a, b):
                kept = fewer
        return kept, said

    def _all_renames(self) -> list[Told]:
        """The evidence that ids of this person were renamed, over however many names."""
        found, seen = dict.fromkeys(self._renames), set(self._nodes)
        while new := {one for told in found for one in told[:2]} - seen:
            seen |= new
            self._nodes |= self._graph.nodes(new)
            found |= dict.fromkeys(told for told in self._graph.evidence_about(new) if _renames(told, self._rules))
        return list(found)

    def _links(self, told: Told) -> bool:
        pair = told[:2]
        return (
            told.a != told.b
            and told.strength in self._rules.linking_strengths
            and all(one in self._nodes and self._nodes[one].link == "links" for one in pair)
        )

    def _said(self, kind: str) -> list[tuple[int, int]]:
        pairs = [self._pair_of(decision) for decision in self._decisions if decision.kind == kind]
        return list(dict.fromkeys(pair for pair in pairs if pair is not None))

    def _pair_of(self, decision: Decision) -> tuple[int, int] | None:
        """The handles that it speaks of, when all are this person's."""
        ids = [self._ids[handle] for handle in decision.handles if handle in self._ids]
        return ordered(ids[0], ids[-1]) if len(ids) == len(decision.handles) else None

    def _step(self, one: int, other: int, link: Link) -> Step:
        if link.rank == DECIDED:
            decision = next(
                decision
                for decision in self._decisions
                if decision.kind == "same" and self._pair_of(decision) == ordered(one, other)
            )
            return self._decided(decision)._replace(handles=(self._nodes[one].handle, self._nodes[other].handle))
        told = self._best[ordered(one, other)][1]
        return self._support(told)._replace(handles=(self._nodes[one].handle, self._nodes[other].handle))

    def _support(self, told: Told) -> Step:
        handles = (self._nodes[told.a].handle, self._nodes[told.b].handle)
        return step_of(told, handles, [one for one in self._decisions if not set(handles).isdisjoint(one.handles)])

    def _decided(self, decision: Decision) -> Step:
        a, b = decision.handles
        return Step((a, b), "decision", "verified", decision.decided_at, decision.decided_at, (decision,))

    def _joins(
        self,
        told: Sequence[Told],
        same: Sequence[tuple[int, int]],
        private: Collection[int],
        a: int,
        b: int,
    ) -> bool:
        """Whether this much alone, by the rules, makes `a` and `b` one person."""
        rules = self._rules
        edges = [Edge(*one[:5]) for one in told]
        pairs = [*((one.a, one.b) for one in told), *same]
        nodes = {one: self._nodes[one] for pair in pairs for one in pair}
        links = strongest_links(edges, rules.linking_strengths)
        near: defaultdict[int, set[int]] = defaultdict(set)
        for one, other in links:
            near[one].add(other)
            near[other].add(one)
        shared = set()
        for handle_id, node in nodes.items():
            if rules.of(node.kind).recycled and not node.kind.startswith(FORMER):
                history = [(Edge(*one[:5]), one.last_at) for one in told]
                if changes_of_hands(node, history, nodes, rules):
                    return False
            counts: Counter[tuple[str, str | None]] = Counter()
            others = {other: nodes[other] for other in near[handle_id]}
            for space in {(other.kind, other.scope) for other in others.values()}:
                ids = [other for other, known in others.items() if (known.kind, known.scope) == space]
                counts[space] = len(ids_under_all_names(ids, edges, rules))
            if handle_id not in private and rules.cap_exceeded(node.kind, counts):
                shared.add(handle_id)
        links = {pair: link for pair, link in links.items() if shared.isdisjoint(pair)}
        links.update(dict.fromkeys(same, Link(DECIDED, 0, "decision", "verified")))
        for part in connected(nodes, links):
            if a in part:
                inside = {pair: link for pair, link in links.items() if pair[0] in part}
                made = persons_of_component({one: nodes[one] for one in part}, inside, rules)
                return any({a, b} <= cluster for cluster in made.clusters)
        return False


def _renames(told: Told, rules: Rules) -> bool:
    return told.a != told.b and told.method in SAME_ID_METHODS and told.strength in rules.linking_strengths


def step_of(told: Told, handles: tuple[Handle, Handle], decisions: Iterable[Decision]) -> Step:
    """One piece of evidence as a step."""
    return Step(
        handles, told.method, told.strength, moment_of(told.first_at), moment_of(told.last_at), tuple(decisions)
    )


def _best_of(told: Iterable[Told], rules: Rules) -> dict[tuple[int, int], tuple[Link, Told]]:
    """The best evidence of each pair, as `identity.partition` ranks it, with its last time."""
    pieces = {Edge(*one[:5]): one for one in told}
    found = {}
    for pair, link in strongest_links(pieces, rules.linking_strengths).items():
        piece = pieces[Edge(*pair, link.method, link.strength, link.first_at)]
        found[pair] = (link, piece)
    return found


def _shortest(a: int, b: int, links: Mapping[tuple[int, int], Link], nodes: Mapping[int, Node]) -> list[int]:
    """The path with the fewest steps; of those the one with the strongest, then the earliest evidence, then by text."""
    near: defaultdict[int, list[tuple[int, Link]]] = defaultdict(list)
    for (one, other), link in links.items():
        near[one].append((other, link))
        near[other].append((one, link))
    came_from: dict[int, int] = {}
    done: set[int] = set()
    best: dict[int, tuple[int, int, int]] = {a: (0, 0, 0)}
    waiting = [((0, 0, 0), nodes[a].key, a, a)]
    while waiting:
        cost, _, here, before = heapq.heappop(waiting)
        if here in done:
            continue
        done.add(here)
        came_from[here] = before
        if here == b:
            break
        for other, link in near[here]:
            more = (cost[0] + 1, cost[1] + link.rank, cost[2] + link.first_at)
            if other not in done and more <= best.get(other, more):
                best[other] = more
                heapq.heappush(waiting, (more, nodes[here].key, other, here))
    path = [b]
    while path[-1] != a:
        path.append(came_from[path[-1]])
    return path[::-1]
