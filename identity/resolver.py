"""Keeps persons up to date, batch by batch: what records say becomes evidence, and what it touched is decided anew.

What a set of evidence comes to is said by `identity.partition`, a pure function. This module feeds it with the part of
the graph that a batch has touched, always with all the evidence there, so that no order of arrival shows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal

from identity.new_ids import new_ids
from identity.partition import (
    DECIDED,
    SAME_ID_METHODS,
    Link,
    changes_between,
    changes_of_hands,
    connected,
    hold_ids,
    ids_under_all_names,
    persons_of_component,
    strongest_links,
)
from identity.reading import MessageLine
from identity.rules import Rules
from identity.sightings import Known, Sighting, moment_in, pairs_of, sighting_of
from mappings.contact_points import clean_name
from mappings.errors import SettingsError
from mappings.records import Contact, Evidence, Handle, Record, Reply
from stores.graph import (
    FORMER,
    Edge,
    EvidenceKey,
    Graph,
    Node,
    Seen,
    Touched,
    Unit,
    ident_of,
    merged_handles,
    ordered,
)
from stores.graph.tombstones import Tombstones

DecisionKind = Literal["same", "different", "shared", "private", "recycled"]

_STATIC = frozenset({"role", "blocked", "invalid"})
_REBUILD_CHUNK = 1000


@dataclass(slots=True)
class Tally:
    """What a resolver has done so far; counts only."""

    records: int = 0
    persons: int = 0
    merges: int = 0
    splits: int = 0
    erased: int = 0


class Resolver:
    """Takes records into the graph and says whose they are."""

    def __init__(self, graph: Graph, rules: Rules) -> None:
        self._graph = graph
        self._rules = rules
        self._rules_of = cache(rules.of)
        self._digest = rules.digest()
        self._followed = False
        self.tally = Tally()
        self.erased: frozenset[int] = frozenset()  # places in the last batch

    def follow_rules(self) -> bool:
        """Decide everything anew when the graph was made with other rules; whether that was so.

        Takes time and one transaction in proportion to the graph. Ids stay, except where persons split or merge.
        """
        with self._graph.transaction() as unit:
            return self._follow_rules(unit)

    def resolve(self, records: Sequence[Known]) -> list[str | None]:
        """The person of each record, after all of them were taken into the graph in one transaction.

        What is older than the erasure of its sender is left out: `erased` has the places of those records.

        Repeats: harmless; the same records in another order or again change nothing.

        Raises:
            SettingsError: another process has rebuilt the graph with other rules since `follow_rules`.
        """
        with self._graph.transaction() as unit:
            self._check_rules(unit)
            left = self._without_erased(unit, records) if unit.has_tombstones else records
            heads, touched = self._save(unit, left)
            self._update(unit, touched, None)
            self.tally.records += len(records)
            unit.flush()
            if unit.has_cuts:
                heads = unit.as_they_were([(head, moment_in(record)) for record, head in zip(left, heads, strict=True)])
            return [
                (head.person_id if head is not None else None) or self._person_of(record, head)
                for record, head in zip(left, heads, strict=True)
            ]

    def decide(
        self,
        kind: DecisionKind,
        handles: Sequence[Handle],
        *,
        actor: str,
        reason: str | None = None,
        since: datetime | None = None,
    ) -> int:
        """Keep what a person said, and follow it; the decision's number, by which it can be taken back.

        Args:
            kind: ``same`` and ``different`` speak of two handles; ``shared`` (several people use it), ``private``
                (it is one person's, however many it is seen with) and ``recycled`` of one.
            handles: what the decision speaks of.
            actor: who said so.
            reason: in their words, for whoever asks later.
            since: when a recycled handle got its new owner.

        Raises:
            SettingsError: the number of handles does not fit, `since` is missing, or the graph follows other rules.
        """
        needed = 2 if kind in {"same", "different"} else 1
        if len(set(map(ident_of, handles))) != needed or (kind == "recycled") != (since is not None):
            msg = f"a decision {kind!r} needs {needed} handle(s)" + (" and since when" if kind == "recycled" else "")
            raise SettingsError(msg)
        with self._graph.transaction() as unit:
            self._check_rules(unit)
            nodes = unit.handles(map(ident_of, handles), self._rules.link_of)
            a, *rest = (nodes[ident_of(handle)].handle_id for handle in handles)
            number = unit.save_decision(kind, a, rest[0] if rest else None, since=since, actor=actor, reason=reason)
            touched = Touched(handle_ids={a, *rest}, withdrawn={a, *rest})
            self._update(unit, touched, f"{actor} said: {kind}")
            return number

    def undo(self, decision_id: int, *, actor: str) -> bool:
        """Take a decision back; everybody is as if it had never been. Whether there was one to take back."""
        with self._graph.transaction() as unit:
            self._check_rules(unit)
            taken = unit.revoke_decision(decision_id, actor)
            if taken is None:
                return False
            handle_ids = {handle_id for handle_id in taken[:2] if isinstance(handle_id, int)}
            self._update(unit, Touched(set(handle_ids), set(handle_ids)), f"{actor} took back: {taken[2]}")
            return True

    def decide_anew(self, handle_ids: Collection[int], why: str) -> None:
        """Look at these handles again as if all that is stored of them had just come; `why` is for the log."""
        with self._graph.transaction() as unit:
            self._check_rules(unit)
            relinked = self._judge(unit, handle_ids)
            self._update(unit, Touched(set(handle_ids), set(handle_ids), relinked), why)

    def change(self, act: Callable[[Unit], Touched], why: str) -> None:
        """Let `act` change the graph in one transaction, and decide anew what it says that it has touched."""
        with self._graph.transaction() as unit:
            self._check_rules(unit)
            self._update(unit, act(unit), why)

    def _without_erased(self, unit: Unit, records: Sequence[Known]) -> Sequence[Known | None]:
        """The records without what was erased; `erased` says of which nothing is left."""
        tombstones = Tombstones(*unit.opened())
        keys = {place: record.keys for place, record in enumerate(records) if isinstance(record, MessageLine)}
        erased = tombstones.among(key for of_line in keys.values() for key in of_line)
        asked: dict[int, Record] = {}
        for place, record in enumerate(records):
            if not isinstance(record, MessageLine):
                asked[place] = record
            elif not erased.isdisjoint(keys[place]):  # nearly never, and to read a whole message takes long
                asked[place] = record.whole()
        left: list[Known | None] = list(records)
        for place, one in zip(asked, tombstones.without_erased(list(asked.values())), strict=True):
            left[place] = one
        self.erased = frozenset(place for place, record in enumerate(left) if record is None)
        self.tally.erased += len(self.erased)
        return left

    def _check_rules(self, unit: Unit) -> None:
        if not self._followed:
            self._follow_rules(unit)
        if self._graph.setting("rules") != self._digest:
            msg = "the identity graph follows other rules than this run; start it again with the same rules_file"
            raise SettingsError(msg)

    def _follow_rules(self, unit: Unit) -> bool:
        self._followed = True
        if self._graph.setting("rules") == self._digest:
            return False
        self._graph.save_setting("rules", self._digest)
        changed, relinked = set[str](), set[int]()
        actions: tuple[Callable[[list[int]], object], ...] = (
            lambda ids: relinked.update(self._judge(unit, ids)),
            lambda ids: self._cut(unit, ids),
            lambda ids: relinked.update(self._recount(unit, ids, ids)),
            lambda ids: changed.update(self._decide(unit, set(ids), "the rules changed")),
        )
        for action in actions:
            last = 0
            while chunk := unit.handle_ids_after(last, _REBUILD_CHUNK):
                action(chunk)
                last = chunk[-1]
        self._mark(unit, changed, relinked)
        return True

    def _save(self, unit: Unit, records: Sequence[Known | None]) -> tuple[list[Node | None], Touched]:
        """Take the records into the graph; the handle whose person each record belongs to, and what was touched."""
        touched, renamed_ids = Touched(), set[int]()
        heads: list[Node | None] = [None] * len(records)
        sightings = [sighting_of(record) for record in records]
        found = self._look_up(unit, sightings)
        linking, see, observe = self._rules.linking_strengths, unit.see, unit.observe
        for place, (record, sighting, seen) in enumerate(zip(records, sightings, found, strict=True)):
            if sighting is None or seen is None:
                continue
            _, method, strength, seen_at, name, locale = sighting
            for piece in seen.pieces:
                if see(piece, seen_at) and strength in linking:
                    touched.handle_ids.update(piece.key[:2])
                    if method in SAME_ID_METHODS:
                        renamed_ids.update(piece.key[:2])
            head = seen.nodes[0]
            if name and (name := clean_name(name)) and observe(head, "name", seen_at, name):
                touched.renamed.add(head.handle_id)
            if locale and observe(head, "locale", seen_at, locale):
                touched.renamed.add(head.handle_id)
            if type(record) is not Evidence:  # to ask whether something is a model takes longer
                heads[place] = head
        for edge in unit.edges(renamed_ids):  # whoever counts them must count again
            touched.handle_ids |= {edge.a, edge.b}
            touched.withdrawn |= {edge.a, edge.b}
        # That a handle was seen again later tells nothing new, unless it changed hands: then a former owner loses it.
        if unit.has_cuts:
            again = unit.seen_again()
            owners = unit.with_cuts(again)
            touched.handle_ids |= owners
            touched.withdrawn |= owners - again
        for place, record in enumerate(records):
            if type(record) is Contact:
                heads[place] = self._save_contact(unit, record, touched)
        return heads, touched

    def _look_up(self, unit: Unit, sightings: Sequence[Sighting | None]) -> list[Seen | None]:
        """The handles and the evidence of each sighting: remembered, stored or new."""
        remembered = unit.remembered
        found: list[Seen | None] = []
        waiting: list[tuple[int, tuple[Any, ...]]] = []
        for place, sighting in enumerate(sightings):
            seen = None
            if sighting is not None and sighting[0]:
                handles, method, strength, _, _, _ = sighting
                key: tuple[Any, ...] = (method, strength, *map(ident_of, handles))
                seen = remembered[key]
                if seen is None:
                    waiting.append((place, key))
            found.append(seen)
        if not waiting:
            return found
        missed = {key: key[2:] for _, key in waiting}
        nodes = unit.handles({ident for idents in missed.values() for ident in idents}, self._rules.link_of)
        unit.look_up_said(nodes.values())
        wanted: dict[tuple[Any, ...], tuple[tuple[Node, ...], list[EvidenceKey]]] = {}
        for key, idents in missed.items():
            method, strength = key[:2]
            seen_nodes = tuple([nodes[ident] for ident in idents])
            keys = [
                (*ordered(seen_nodes[a].handle_id, seen_nodes[b].handle_id), method, strength)
                for a, b in pairs_of(idents, method, self._rules)
            ]
            wanted[key] = seen_nodes, keys
        pieces = unit.pieces({piece for _, keys in wanted.values() for piece in keys})
        made: dict[tuple[Any, ...], Seen] = {}
        for key, (seen_nodes, keys) in wanted.items():
            made[key] = seen = Seen(seen_nodes, tuple([pieces[piece] for piece in keys]))
            remembered.put(key, seen)
        for place, key in waiting:
            found[place] = made[key]
        return found

    def _save_contact(self, unit: Unit, contact: Contact, touched: Touched) -> Node:
        handles = [*contact.handles, *merged_handles(contact)]
        nodes = unit.handles(map(ident_of, handles), self._rules.link_of)
        bulk = len(contact.handles) > self._rules.max_handles_per_record
        more = unit.save_contact(contact, nodes, contact.handles[:1] if bulk else contact.handles)
        touched.handle_ids |= more.handle_ids
        touched.withdrawn |= more.withdrawn
        touched.renamed |= more.renamed
        return nodes[ident_of(contact.handles[0])]

    def _update(self, unit: Unit, touched: Touched, why: str | None) -> None:
        """Decide what the touched evidence may have changed, and log it."""
        if not (touched.handle_ids or touched.withdrawn or touched.renamed):
            return
        # What a contact said, or says no more, of a number that changed hands may be of its former owner.
        touched.handle_ids |= unit.with_cuts(touched.handle_ids)
        touched.withdrawn |= unit.with_cuts(touched.withdrawn)
        moved = self._cut(unit, touched.handle_ids | touched.withdrawn)
        for edge in unit.edges(moved):
            moved |= {edge.a, edge.b}
        flipped = self._recount(unit, touched.handle_ids | moved, touched.withdrawn | moved)
        seeds = touched.handle_ids | touched.withdrawn | flipped | moved
        for edge in unit.edges(flipped):
            seeds |= {edge.a, edge.b}
        changed = self._decide(unit, seeds, why)
        self._mark(unit, changed, touched.renamed | flipped)

    def _mark(self, unit: Unit, person_ids: set[str], handle_ids: set[int]) -> None:
        """These persons are others than before, and so are those of these handles."""
        persons = {node.person_id for node in unit.nodes(handle_ids).values() if node.person_id is not None}
        unit.mark_changed(person_ids | persons)

    def _judge(self, unit: Unit, handle_ids: Collection[int]) -> set[int]:
        """What the values alone say of these handles, by the rules as they are now; those of which it is news."""
        links = {}
        for handle_id, node in unit.nodes(handle_ids).items():
            link: str = self._rules.link_of(node.handle)
            if link == "links" and node.link == "shared":
                continue
            if link != node.link:
                links[handle_id] = link
        unit.save_links(links)
        return set(links)

    def _cut(self, unit: Unit, handle_ids: Collection[int]) -> set[int]:
        """Find out which of these handles changed hands, and when; those for which that is news, with their past."""
        ids = [one for one, node in unit.nodes(handle_ids).items() if node.kind in self._rules.telling_kinds]
        owned = {handle_id for edge in unit.edges(ids) for handle_id in (edge.a, edge.b)}  # what the ids were seen with
        near = owned | set(handle_ids)
        told: defaultdict[int, set[int]] = defaultdict(set)
        for a, _, kind, since in unit.decided(near):
            if kind == "recycled" and since is not None:
                told[a].add(since)
        known = unit.cuts(near)
        nodes_near = unit.nodes(near)
        telling = {one for one, node in nodes_near.items() if self._rules_of(node.kind).recycled}
        histories: defaultdict[int, list[tuple[Edge, int]]] = defaultdict(list)
        for edge, last_at in unit.history(telling & (owned | told.keys() | known.keys())):
            for handle_id in telling & {edge.a, edge.b}:
                histories[handle_id].append((edge, last_at))
        moved: set[int] = set()
        several = {handle_id for handle_id in owned & histories.keys() if len(histories[handle_id]) > 1}
        for handle_id in several | told.keys() | known.keys():  # what was seen with one id only did not change hands
            node = nodes_near[handle_id]
            if node.kind.startswith(FORMER):
                continue
            if node.link in _STATIC:  # it links nobody, so nobody's past has to be kept apart
                if handle_id in known:
                    moved |= {handle_id, *unit.save_cuts(node, ())}
                continue
            history = histories[handle_id]
            others = {one for edge, _ in history for one in (edge.a, edge.b)}
            nodes = unit.nodes(others)
            ids = [one for one in others if nodes[one].kind in self._rules_of(node.kind).recycled]
            times = (
                told[handle_id]
                if len(ids) < 2
                else told[handle_id]
                | changes_of_hands(node, [*history, *unit.history(ids)], nodes | unit.nodes(ids), self._rules)
            )
            if times != {since for since, _ in known.get(handle_id, [])}:
                moved |= {handle_id, *unit.save_cuts(node, times)}
        return moved

    def _recount(self, unit: Unit, handle_ids: Collection[int], withdrawn: Collection[int]) -> set[int]:
        """Find out which of these handles several people share; those that changed.

        A shared handle that lost no evidence stays shared, so that a busy switchboard costs nothing.
        """
        told = {a: kind for a, _, kind, _ in unit.decided(handle_ids) if kind in {"shared", "private"}}
        nodes = {
            handle_id: node
            for handle_id, node in unit.nodes(handle_ids).items()
            if node.link not in _STATIC
            and (self._rules_of(node.kind).caps or handle_id in told or handle_id in withdrawn)
            and (node.link == "links" or handle_id in withdrawn)
        }
        linking = self._rules.linking_strengths
        neighbours: defaultdict[int, set[int]] = defaultdict(set)
        for a, b, _, strength, _ in unit.edges(nodes):
            if a != b and strength in linking:
                neighbours[a].add(b)
                neighbours[b].add(a)
        many = {one for one, node in nodes.items() if len(neighbours[one]) > self._least_cap(node.kind)}
        others = unit.nodes({other for handle_id in many for other in neighbours[handle_id]})
        links = {}
        for handle_id, node in nodes.items():
            link = "links"
            if handle_id in many:
                near = [others[other] for other in neighbours[handle_id] if others[other].link not in _STATIC]
                link = "shared" if self._is_shared(unit, node.kind, near) else "links"
            if handle_id in told:
                link = "shared" if told[handle_id] == "shared" else "links"
            if link != node.link:
                links[handle_id] = link
        unit.save_links(links)
        return set(links)

    def _is_shared(self, unit: Unit, kind: str, near: Sequence[Node]) -> bool:
        """Whether a handle of that kind, seen with these others, has too many of one kind; renamed ids count once."""
        if len(near) <= self._least_cap(kind):
            return False  # too few of all kinds together
        counts = Counter((other.kind, other.scope) for other in near)
        if not self._rules.cap_exceeded(kind, counts):
            return False
        for space in counts:
            ids = [other.handle_id for other in near if (other.kind, other.scope) == space]
            counts[space] = len(ids_under_all_names(ids, unit.edges(ids), self._rules))
        return self._rules.cap_exceeded(kind, counts) is not None

    def _least_cap(self, kind: str) -> int:
        return min(self._rules_of(kind).caps.values(), default=0)

    def _decide(self, unit: Unit, seeds: set[int], why: str | None) -> set[str]:
        """Decide the components around these handles anew; the persons whose handles changed."""
        nodes, edges, decided = self._load(unit, seeds)
        if not nodes:
            return set()
        links = {
            pair: link
            for pair, link in strongest_links(edges, self._rules.linking_strengths).items()
            if (a := nodes.get(pair[0])) and a.link == "links" and (b := nodes.get(pair[1])) and b.link == "links"
        }
        links.update(dict.fromkeys(decided["same"], Link(DECIDED, 0, "decision", "verified")))
        alive = self._alive(unit, nodes, edges) | {one for pair in decided["same"] for one in pair}
        clusters: list[frozenset[int]] = []
        refused: dict[tuple[int, int], str] = {}
        links_in: defaultdict[int, dict[tuple[int, int], Link]] = defaultdict(dict)
        components = connected(alive, links)
        component_of = {handle_id: index for index, component in enumerate(components) for handle_id in component}
        for pair, link in links.items():
            links_in[component_of[pair[0]]][pair] = link
        for index, component in enumerate(components):
            if len(component) == 1:  # one handle breaks no rule, and most that is new is one handle
                clusters.append(frozenset(component))
                continue
            part = persons_of_component(
                {handle_id: nodes[handle_id] for handle_id in component}, links_in[index], self._rules,
                decided["different"],
            )  # fmt: skip
            clusters += part.clusters
            refused |= part.refused
        ids = hold_ids(clusters, nodes, unit.anchored_at(nodes), self._rules, new_ids().__next__)
        after: dict[int, str | None] = dict.fromkeys(nodes)
        for person_id, cluster in zip(ids.person_ids, clusters, strict=True):
            after.update(dict.fromkeys(cluster, person_id))
        moved = {handle_id: after[handle_id] for handle_id, node in nodes.items() if node.person_id != after[handle_id]}
        changed = {one for handle_id in moved for one in (nodes[handle_id].person_id, after[handle_id]) if one}
        changes = changes_between(nodes, after, links, refused, why)
        unit.assign(moved)
        unit.save_persons(ids.anchors, ids.minted)
        unit.replace_conflicts(nodes, refused)
        unit.log_changes(changes)
        self.tally.persons += len(ids.minted)
        self.tally.merges += sum(change.change == "merge" for change in changes)
        self.tally.splits += sum(change.change == "split" for change in changes)
        return changed

    def _load(self, unit: Unit, seeds: set[int]) -> tuple[dict[int, Node], set[Edge], dict[str, set[tuple[int, int]]]]:
        """The raw components of the seeds with all their evidence and decisions, and all handles of their persons."""
        nodes: dict[int, Node] = {}
        edges: set[Edge] = set()
        decided: dict[str, set[tuple[int, int]]] = {"same": set(), "different": set()}
        looked_at: set[int] = set()
        persons: set[str] = set()
        linking = self._rules.linking_strengths
        waiting = set(seeds)
        while waiting:
            looked_at |= waiting
            found = unit.nodes(waiting)
            said = [(a, b, kind) for a, b, kind, _ in unit.decided(waiting) if b is not None and kind in decided]
            for a, b, kind in said:
                decided[kind].add(ordered(a, b))
            bound = {handle_id for pair in decided["same"] for handle_id in pair}
            nodes |= {
                handle_id: node
                for handle_id, node in found.items()
                if node.link == "links" or handle_id in seeds or handle_id in bound
            }
            near = unit.edges(handle_id for handle_id, node in found.items() if node.link == "links")
            edges |= near
            waiting = {handle_id for a, b, _, strength, _ in near if strength in linking for handle_id in (a, b)}
            waiting |= {handle_id for a, b, kind in said if kind == "same" for handle_id in (a, b)}
            waiting -= looked_at
            # A person's handles at once, not from one to the next along a chain of evidence.
            more = {node.person_id for node in nodes.values() if node.person_id is not None} - persons
            persons |= more
            theirs = set(unit.handle_ids_of(more)) - nodes.keys()
            if not waiting and not theirs:
                theirs = unit.anchors_beside(nodes) - nodes.keys()
            seeds = seeds | theirs
            waiting |= theirs
        return nodes, edges, decided

    def _alive(self, unit: Unit, nodes: Mapping[int, Node], edges: Iterable[Edge]) -> set[int]:
        """The handles that linking evidence speaks of; only they are anybody's."""
        linking = self._rules.linking_strengths
        spoken_of = {
            handle_id for a, b, _, strength, _ in edges if strength in linking for handle_id in (a, b)
        } & nodes.keys()
        others = {handle_id for handle_id, node in nodes.items() if node.link != "links"} - spoken_of
        return spoken_of | (unit.alive(others, linking) if others else set())

    def _person_of(self, record: Known | None, head: Node | None) -> str | None:
        if isinstance(record, Reply):
            return self._person_of_reply(record)
        return None if head is None else head.person_id or self._graph.projected_person(head.handle_id)

    def _person_of_reply(self, reply: Reply) -> str | None:
        """That of the record, or of the thread's address; else the one that our target wrote on it; else of the rest.

        A record that our target made may not have come back as a contact yet, and its phone may be a shared line.
        """
        for handle in reply.handles[:1]:
            if person_id := self._graph.person_of(handle):
                return person_id
        if reply.identity_key:
            current = self._graph.current(reply.identity_key)
            if self._graph.handles_of(current):
                return current
        return next(filter(None, map(self._graph.person_of, reply.handles[1:])), None)
