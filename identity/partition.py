"""Persons as a pure function of evidence and rules, and which ids they keep. No I/O.

Nothing here depends on the order in which evidence came: ties are broken by the handles themselves, never by a row's
id (which is the order of arrival).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from identity.rules import Rules
from stores.graph import Edge, NewChange, Node
from stores.graph.anchors import NEW, START, Anchor, Anchors, anchor_of

SAME_ID_METHODS = frozenset({"crm_merge", "user_id_changed"})
"""Evidence that two ids of one kind are one id under two names: they count as one for ``max_per_person``."""


class Link(NamedTuple):
    """All evidence between two handles, as far as the order of joining is concerned; sorts strongest first."""

    rank: int
    first_at: int
    method: str
    strength: str


class Component(NamedTuple):
    """What a raw component came to: the persons in it and the links that were refused, with the reason."""

    clusters: list[frozenset[int]]
    refused: dict[tuple[int, int], str]


_DAY = 86_400_000_000

DECIDED = -1
"""The rank of a link that a person decided: before all evidence."""


def strongest_links(edges: Iterable[Edge], linking: Sequence[str]) -> dict[tuple[int, int], Link]:
    """The best evidence of each pair: same id before all else, then by strength, then the earliest."""
    ranks = {strength: index + 1 for index, strength in enumerate(linking)}
    links: dict[tuple[int, int], Link] = {}
    for a, b, method, strength, first_at in edges:
        if a == b or strength not in ranks:
            continue
        link = Link(0 if method in SAME_ID_METHODS else ranks[strength], first_at, method, strength)
        pair = (a, b)
        if pair not in links or link < links[pair]:
            links[pair] = link
    return links


def persons_of_component(
    nodes: Mapping[int, Node],
    links: Mapping[tuple[int, int], Link],
    rules: Rules,
    apart: Collection[tuple[int, int]] = (),
) -> Component:
    """The persons in one raw component.

    One person, unless that breaks ``max_per_person`` or ``max_handles_per_person``, or joins two handles that a person
    said are not the same (`apart`). Then links are taken strongest first, decided ones before all, and one that would
    break a rule is refused (constrained Kruskal). A decided link is refused by `apart` only.
    """
    apart = [pair for pair in apart if pair[0] in nodes and pair[1] in nodes] if apart else ()
    if not apart and len(nodes) <= rules.max_handles_per_person:
        limited = sum(node.kind in rules.limited_kinds for node in nodes.values())
        if limited <= 1:
            return Component([frozenset(nodes)], {})
    ids = _exclusive_ids(nodes, links, rules)
    if not apart and _refusal(frozenset(ids.values()), len(nodes), rules) is None:
        return Component([frozenset(nodes)], {})
    cluster_of = {handle_id: frozenset({handle_id}) for handle_id in nodes}
    exclusive = {handle_id: frozenset({ids[handle_id]}) if handle_id in ids else frozenset() for handle_id in nodes}
    refused: dict[tuple[int, int], str] = {}
    for pair in sorted(links, key=joining_order(nodes, links)):
        a, b = cluster_of[pair[0]], cluster_of[pair[1]]
        if a is b:
            continue
        together = exclusive[pair[0]] | exclusive[pair[1]]
        reason = "a person said they are not the same" if _parts(apart, a, b) else None
        if reason is None and links[pair].rank != DECIDED:
            reason = _refusal(together, len(a) + len(b), rules)
        if reason is not None:
            refused[pair] = reason
            continue
        for handle_id in (joined := a | b):
            cluster_of[handle_id], exclusive[handle_id] = joined, together
    return Component(list(dict.fromkeys(cluster_of.values())), refused)


def _parts(apart: Iterable[tuple[int, int]], a: Collection[int], b: Collection[int]) -> bool:
    return any((one in a and other in b) or (one in b and other in a) for one, other in apart)


def joining_order(
    nodes: Mapping[int, Node], links: Mapping[tuple[int, int], Link]
) -> Callable[[tuple[int, int]], tuple[int, int, list[str]]]:
    """The sort key of pairs: rank and first time of their evidence, then the handles themselves."""
    return lambda pair: (links[pair].rank, links[pair].first_at, sorted(nodes[handle_id].key for handle_id in pair))


def ids_under_all_names(ids: Iterable[int], edges: Iterable[Edge], rules: Rules) -> list[set[int]]:
    """These ids of one kind and scope, those together of which linking evidence says that one became the other."""
    known = set(ids)
    same = [
        (edge.a, edge.b)
        for edge in edges
        if edge.method in SAME_ID_METHODS and edge.strength in rules.linking_strengths and {edge.a, edge.b} <= known
    ]
    return connected(known, same)


def changes_of_hands(
    node: Node, history: Iterable[tuple[Edge, int]], others: Mapping[int, Node], rules: Rules
) -> set[int]:
    """When a handle (a phone number) got another owner, by the platform's own ids: the times (microseconds).

    An id was seen with it until some day, then for ``recycled`` days or more none, and then another id of that kind
    and scope. Ids of which the platform said that one became the other count as one.

    Args:
        node: the handle.
        history: all evidence of the handle, and of the ids seen with it among each other, with the last time.
        others: the handles that the history speaks of.
        rules: for the kinds of ids that tell, and the days.
    """
    told = list(history)
    seen: defaultdict[tuple[str, str | None], dict[int, tuple[int, int]]] = defaultdict(dict)
    for edge, last_at in told:
        if node.handle_id not in {edge.a, edge.b} or edge.a == edge.b or edge.strength not in rules.linking_strengths:
            continue
        other = others[edge.b if edge.a == node.handle_id else edge.a]
        if other.kind in rules.of(node.kind).recycled:
            first, last = seen[_space(other)].get(other.handle_id, (edge.first_at, last_at))
            seen[_space(other)][other.handle_id] = (min(first, edge.first_at), max(last, last_at))
    times = set[int]()
    for (kind, _), ids in seen.items():
        spans = sorted(
            (min(ids[one][0] for one in names), max(ids[one][1] for one in names))
            for names in ids_under_all_names(ids, (edge for edge, _ in told), rules)
        )
        idle, until = rules.of(node.kind).recycled[kind] * _DAY, spans[0][1]
        for first, last in spans[1:]:
            if first - until >= idle:
                times.add(first)
            until = max(until, last)
    return times


_ExclusiveId = tuple[str, str | None, int]


def _exclusive_ids(
    nodes: Mapping[int, Node], links: Mapping[tuple[int, int], Link], rules: Rules
) -> dict[int, _ExclusiveId]:
    """Of each handle whose kind is limited per person: kind, scope and which id it is under all its names.

    Two ids are one when the platform or the CRM renamed one to the other, and when a person said so.
    """
    limited = {handle_id for handle_id, node in nodes.items() if node.kind in rules.limited_kinds}
    if len(limited) < 2:
        return {handle_id: (*_space(nodes[handle_id]), handle_id) for handle_id in limited}
    decided = [pair for pair, link in links.items() if link.rank == DECIDED]
    same = [
        pair
        for pair, link in links.items()
        if link.rank == 0 and limited.issuperset(pair) and _space(nodes[pair[0]]) == _space(nodes[pair[1]])
    ]
    looked_at = limited.union(*decided) if decided else limited
    return {
        handle_id: (*_space(nodes[handle_id]), min(names))
        for names in connected(looked_at, [*same, *decided])
        for handle_id in names & limited
    }


def _space(node: Node) -> tuple[str, str | None]:
    return node.kind, node.scope


def _refusal(ids: frozenset[_ExclusiveId], size: int, rules: Rules) -> str | None:
    """Why these exclusive ids and that many handles cannot be one person; ``None`` when they can."""
    if len(ids) < 2 and size <= rules.max_handles_per_person:  # `max_per_person` is at least 1
        return None
    for (kind, _), count in sorted(Counter(exclusive[:2] for exclusive in ids).items(), key=repr):
        most = rules.of(kind).max_per_person
        if most is not None and count > most:
            return f"at most {most} {kind} per person"
    if size > rules.max_handles_per_person:
        return f"at most {rules.max_handles_per_person} handles per person"
    return None


def connected(handle_ids: Iterable[int], pairs: Iterable[tuple[int, int]]) -> list[set[int]]:
    """The connected components of a graph, lone handles included."""
    neighbours: dict[int, list[int]] = {handle_id: [] for handle_id in handle_ids}
    for a, b in pairs:
        neighbours[a].append(b)
        neighbours[b].append(a)
    components, seen = [], set[int]()
    for start, near in neighbours.items():
        if start in seen:
            continue
        if not near:  # most of what is new
            components.append({start})
            continue
        component, waiting = {start}, [start]
        while waiting:
            new = [other for other in neighbours[waiting.pop()] if other not in component]
            component.update(new)
            waiting.extend(new)
        seen |= component
        components.append(component)
    return components


@dataclass(slots=True)
class Ids:
    """Which person each cluster is: ids by cluster, and the anchors of persons that are new or moved."""

    person_ids: list[str]
    anchors: dict[str, Anchor]
    minted: set[str]


def hold_ids(
    clusters: Sequence[frozenset[int]],
    nodes: Mapping[int, Node],
    anchored: Mapping[str, Anchors],
    rules: Rules,
    mint: Callable[[], str],
) -> Ids:
    """The id of each cluster: that of the earliest anchor inside; a new one where there is none.

    A person's id is at the earliest of its anchors that can hold it. An anchor cannot while nothing speaks of it, nor
    while it is a line of its own, unless it was one when it took the id. A merged person's id stays at its anchor, so
    a split gives it back. When no anchor of a person can hold the id any more, the person's largest part that has no
    other gets it, with an anchor that comes after all others. So whatever happens later, the same clusters of the same
    handles have the same ids when they come back.

    Args:
        clusters: every living handle of `nodes` in exactly one.
        nodes: with the persons as they were before.
        anchored: every person that has an anchor among `nodes`; all of its anchors are among them.
        rules: for the rank of anchors.
        mint: gives a new id, higher than all before.
    """
    cluster_of = {handle_id: index for index, cluster in enumerate(clusters) for handle_id in cluster}
    rules_of = cache(rules.of)

    def is_line(index: int) -> bool:
        cluster = clusters[index]
        return len(cluster) == 1 and nodes[next(iter(cluster))].link != "links"

    def holds(anchor: Anchor) -> bool:
        home = cluster_of.get(anchor.handle_id)
        return home is not None and (anchor.alone or not is_line(home))

    def strongest(cluster: Collection[int]) -> int:
        if len(cluster) == 1:
            return next(iter(cluster))
        ranks = {handle_id: rules_of(nodes[handle_id].kind).anchor_rank for handle_id in cluster}
        rank = min(ranks.values())
        best = [handle_id for handle_id in ranks if ranks[handle_id] == rank]
        return best[0] if len(best) == 1 else min(best, key=lambda handle_id: nodes[handle_id].key)

    anchors: dict[str, Anchor] = {}
    claims: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    left: list[str] = []

    def claim(person_id: str, index: int) -> None:
        anchors[person_id] = Anchor(NEW, strongest(clusters[index]), alone=is_line(index))
        claims[index].append((NEW, person_id))

    for person_id, (now, others) in anchored.items():
        anchor = next(filter(holds, sorted((now, *others)) if others else (now,)), None)
        if anchor is None:
            left.append(person_id)
            continue
        claims[cluster_of[anchor.handle_id]].append((anchor.number, person_id))
        if anchor != now:
            anchors[person_id] = anchor
    if left:
        held: defaultdict[str, Counter[int]] = defaultdict(Counter)
        for handle_id, index in cluster_of.items():
            held[nodes[handle_id].person_id or ""][index] += 1

        def largest(part: int) -> tuple[bool, int, str]:
            return is_line(part), -parts[part], min(nodes[handle_id].key for handle_id in clusters[part])

        for person_id in sorted(left, key=lambda person_id: (anchored[person_id].now.number, person_id)):
            home = cluster_of.get(anchored[person_id].now.handle_id)
            parts = held[person_id] | Counter([] if home is None else [home])
            free = [part for part in parts if not claims[part]]
            if free:
                claim(person_id, min(free, key=largest))
    person_ids, minted = [], set[str]()
    for index, cluster in enumerate(clusters):
        if claimed := claims.get(index):
            person_ids.append(min(claimed)[1])
            continue
        person_id = mint()
        minted.add(person_id)
        person_ids.append(person_id)
        holder = strongest(cluster)
        anchors[person_id] = anchor_of((NEW, holder, START, len(cluster) == 1 and nodes[holder].link != "links"))
    return Ids(person_ids, anchors, minted)


def changes_between(
    nodes: Mapping[int, Node],
    after: Mapping[int, str | None],
    links: Mapping[tuple[int, int], Link],
    refused: Mapping[tuple[int, int], str],
    why: str | None,
) -> list[NewChange]:
    """The merges and splits between the persons before (in `nodes`) and `after`."""
    moves: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for handle_id, node in nodes.items():
        into = after[handle_id]
        if node.person_id is not None and into is not None and into != node.person_id:
            moves[node.person_id][into].append(handle_id)
    living = set(after.values())
    changes = []
    merged: defaultdict[str, list[str]] = defaultdict(list)
    for person_id, targets in sorted(moves.items()):
        if person_id not in living and len(targets) == 1:
            merged[next(iter(targets))].append(person_id)
            continue
        for into, handle_ids in sorted(targets.items()):
            reason = why or _why_split(person_id, handle_ids, nodes, refused)
            changes.append(NewChange("split", [person_id], into, sorted(handle_ids), reason))
    for into, person_ids in sorted(merged.items()):
        handle_ids = sorted(handle_id for person_id in person_ids for handle_id in moves[person_id][into])
        reason = why or _why_merge(frozenset(handle_ids), into, nodes, after, links)
        changes.append(NewChange("merge", person_ids, into, handle_ids, reason))
    return changes


def _why_split(
    person_id: str, moved: Collection[int], nodes: Mapping[int, Node], refused: Mapping[tuple[int, int], str]
) -> str:
    before = {handle_id for handle_id, node in nodes.items() if node.person_id == person_id}
    for handle_id in sorted(before, key=lambda handle_id: (handle_id not in moved, nodes[handle_id].key)):
        node = nodes[handle_id]
        if node.link != "links":
            return f"several people use this {node.kind} ({node.link})"
    for (a, b), reason in sorted(refused.items()):
        if {a, b} & before:
            return reason
    return "the evidence between them was withdrawn"


def _why_merge(
    moved: frozenset[int],
    into: str,
    nodes: Mapping[int, Node],
    after: Mapping[int, str | None],
    links: Mapping[tuple[int, int], Link],
) -> str:
    if any(
        link.rank == DECIDED and after[pair[0]] == into for pair, link in links.items() if not moved.isdisjoint(pair)
    ):
        return "a person said they are the same"
    bridges = [
        pair
        for pair in links
        if {after[handle_id] for handle_id in pair} == {into}
        and len({nodes[handle_id].person_id for handle_id in pair}) > 1
        and not moved.isdisjoint(pair)
    ]
    if not bridges:
        return "several people no longer share their handle"
    pair = min(bridges, key=joining_order(nodes, links))
    a, b = sorted(nodes[handle_id].kind for handle_id in pair)
    return f"{links[pair].method} ({links[pair].strength}) links {a} and {b}"
