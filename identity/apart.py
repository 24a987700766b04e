"""What keeps two handles apart: a person's no, a rule, a handle that several people use, or no evidence at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from identity.chain import Step, step_of
from identity.rules import Rules
from mappings.records import Handle
from stores.graph import Decision, Graph, Node, Told, moment_of, ordered

_HUB = 1_000
"""How much evidence of a handle that several people use is looked at to say why it is shared."""


class Obstacle(NamedTuple):
    """One thing that keeps two handles apart.

    `kind`: ``unknown``, ``no link``, ``claimed`` (somebody only typed it), ``shared``, ``role``, ``blocked``,
    ``invalid``, ``limit``, ``decision`` (a person said no), ``changed hands``, ``projection``.
    """

    kind: str
    text: str
    handles: tuple[Handle, ...] = ()
    decision: Decision | None = None


class Gap:
    """What stands between two handles that are not one person: looked for directly, and through one other handle."""

    def __init__(self, graph: Graph, rules: Rules, a: Node, b: Node) -> None:
        self._graph = graph
        self._rules = rules
        self._ends = (a, b)
        self._sides = (self._side(a), self._side(b))
        self._both = self._sides[0] | self._sides[1]
        self._decisions = graph.decisions_about(self._both)

    def told(self) -> tuple[tuple[Step, ...], tuple[Obstacle, ...]]:
        """What nearly connects them, and what keeps them apart."""
        obstacles = [*self._nobody(), *self._no(), *self._limits()]
        steps, more = self._near()
        obstacles += more
        obstacles += self._changed_hands()
        if not obstacles:
            text = "no evidence connects them, neither directly nor through one other handle"
            obstacles.append(Obstacle("no link", text))
        unique = {(one.kind, one.text, frozenset(handle.key for handle in one.handles)): one for one in obstacles}
        return tuple(steps), tuple(unique.values())

    def _side(self, node: Node) -> dict[int, Node]:
        if node.person_id is None:
            return {node.handle_id: node}
        return self._graph.nodes_of([node.person_id])

    def _nobody(self) -> list[Obstacle]:
        found = []
        for node in self._ends:
            if node.person_id is not None:
                continue
            projected = self._graph.projected_person(node.handle_id)
            if projected:
                text = f"onethread made this CRM contact itself, for person {projected}; it is no evidence"
                found.append(Obstacle("projection", text, (node.handle,)))
            else:
                text = "nothing that links speaks of it, now or any more; so it is nobody's"
                found.append(Obstacle("unknown", text, (node.handle,)))
        return found

    def _no(self) -> list[Obstacle]:
        a, b = ({node.handle for node in side.values()} for side in self._sides)
        return [
            Obstacle("decision", _who_said(decision, "they are not the same"), decision.handles, decision)
            for decision in self._decisions
            if decision.kind == "different"
            and ((decision.handles[0] in a and decision.handles[1] in b)
                 or (decision.handles[0] in b and decision.handles[1] in a))
        ]  # fmt: skip

    def _limits(self) -> list[Obstacle]:
        a, b = self._sides
        return [
            Obstacle("limit", reason, (self._both[pair[0]].handle, self._both[pair[1]].handle))
            for pair, reason in self._graph.refused_about(a).items()
            if (pair[0] in a and pair[1] in b) or (pair[0] in b and pair[1] in a)
            if reason != "a person said they are not the same"
        ]

    def _near(self) -> tuple[list[Step], list[Obstacle]]:
        """Evidence between the two persons, or of both with one other handle, none of which links."""
        a, b = self._sides
        beside: tuple[dict[int, Told], dict[int, Told]] = ({}, {})
        direct: dict[tuple[int, int], Told] = {}
        for place, side in enumerate((a, b)):
            asked = [handle_id for handle_id, node in side.items() if node.link == "links"]
            for told in sorted(self._graph.evidence_about(asked), key=lambda one: (self._rank(one), one.first_at)):
                for own, other in ((told.a, told.b), (told.b, told.a)):
                    if own not in side or other in side:
                        continue
                    if other in self._both:
                        direct.setdefault(ordered(own, other), told)
                    beside[place].setdefault(other, told)
        steps, obstacles = [], []
        for told in direct.values():
            steps.append(self._step(told, self._both))
            obstacles += self._why_not(told, self._both)
        common = sorted((beside[0].keys() & beside[1].keys()) - self._both.keys())
        between = self._graph.nodes(common) | self._both
        for handle_id in [] if direct else common:
            pieces = (beside[0][handle_id], beside[1][handle_id])
            steps += [self._step(told, between) for told in pieces]
            found = [one for told in pieces for one in self._why_not(told, between)]
            obstacles += found or self._apart_beyond(between[handle_id])
        return steps, obstacles

    def _apart_beyond(self, node: Node) -> list[Obstacle]:
        """A handle between the two that is a third person's, by links that were refused."""
        refused = self._graph.refused_about([node.handle_id])
        return [
            Obstacle("limit", reason, (node.handle,))
            for pair, reason in refused.items()
            if not self._both.keys().isdisjoint(pair)
        ]

    def _why_not(self, told: Told, nodes: Mapping[int, Node]) -> list[Obstacle]:
        found = []
        pair = (nodes[told.a], nodes[told.b])
        if told.strength not in self._rules.linking_strengths:
            text = f"{told.method.replace('_', ' ')} is only {told.strength}: it is shown, but links nobody"
            found.append(Obstacle("claimed", text, (pair[0].handle, pair[1].handle)))
        return found + [self._unlinking(node) for node in pair if node.link != "links"]

    def _unlinking(self, node: Node) -> Obstacle:
        if node.link != "shared":
            text = {
                "role": "a mailbox that several people read", "blocked": "the rules block this value",
                "invalid": "not a valid value of its kind",
            }.get(node.link, node.link)  # fmt: skip
            return Obstacle(node.link, f"{text}; it links nobody", (node.handle,))
        return Obstacle("shared", f"{why_shared(self._graph, self._rules, node)}; it links nobody", (node.handle,))

    def _changed_hands(self) -> list[Obstacle]:
        a, b = self._sides
        found = []
        for now, since, old in self._graph.cuts_about(self._both):
            names = {now, old}
            if not (names.isdisjoint(a) or names.isdisjoint(b)) or self._is_past_of(old, now):
                text = f"this {self._graph.nodes([now])[now].kind} changed hands on {moment_of(since):%Y-%m-%d}"
                found.append(Obstacle("changed hands", text, (self._graph.nodes([now])[now].handle,)))
        return found

    def _is_past_of(self, old: int, now: int) -> bool:
        return {old, now} <= {node.handle_id for node in self._ends}

    def _rank(self, told: Told) -> int:
        linking = self._rules.linking_strengths
        return linking.index(told.strength) if told.strength in linking else len(linking)

    def _step(self, told: Told, nodes: Mapping[int, Node]) -> Step:
        handles = (nodes[told.a].handle, nodes[told.b].handle)
        return step_of(told, handles, [one for one in self._decisions if not set(handles).isdisjoint(one.handles)])


def why_shared(graph: Graph, rules: Rules, node: Node) -> str:
    """Why a handle counts as used by several people: somebody said so, or what it was seen with."""
    said = [one for one in graph.decisions_about([node.handle_id]) if one.kind == "shared"]
    if said:
        return _who_said(said[-1], "several people use it")
    near = {
        other
        for told in graph.evidence_about([node.handle_id], _HUB)
        if told.strength in rules.linking_strengths
        for other in told[:2]
        if other != node.handle_id
    }
    counts = Counter(
        (other.kind, other.scope) for other in graph.nodes(near).values() if other.link in {"links", "shared"}
    )
    kind = rules.cap_exceeded(node.kind, counts)
    if kind is None:
        return "several people use it"
    seen = max(count for (other, _), count in counts.items() if other == kind)
    return f"several people use it: seen with {seen} {kind}, and more than {rules.of(node.kind).caps[kind]} is a crowd"


def _who_said(decision: Decision, what: str) -> str:
    because = f" ({decision.reason})" if decision.reason else ""
    return (
        f"{decision.actor} said on {decision.decided_at:%Y-%m-%d} that {what}{because}, decision {decision.decision_id}"
    )
