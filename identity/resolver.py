"""Keeps persons up to date, batch by batch: what records say becomes evidence, and what it touched is decided anew.

What a set of evidence comes to is said by `identity.partition`, a pure function. This module feeds it with the part of
the graph that a batch has touched, always with all the evidence there, so that no order of arrival shows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import uuid6

from identity.partition import Link, changes_between, connected, hold_ids, persons_of_component, strongest_links
from identity.rules import Rules
from mappings.contact_points import clean_name
from mappings.errors import MissingFieldError, SettingsError
from mappings.ids import handle_key
from mappings.records import Consent, Contact, Evidence, Handle, Message, MessageChange, Profile, Record, Reply
from stores.graph import Edge, EvidenceKey, Graph, Node, Touched, merged_handles, time_text

_STATIC = frozenset({"role", "blocked", "invalid"})
_REBUILD_CHUNK = 1000


class Sighting(NamedTuple):
    """What one record says: these handles were seen (together) at that time."""

    handles: Sequence[Handle]
    method: str
    strength: str
    seen_at: str


def sighting_of(record: Record) -> Sighting | None:
    """The evidence in a record; ``None`` for one that gives none (a contact is evidence of another kind)."""
    match record:
        case Message():
            return Sighting(record.handles, "message", "verified", time_text(record.sent_at))
        case MessageChange():
            return Sighting(record.handles, "message", "verified", time_text(record.changed_at))
        case Consent():
            return Sighting([record.handle], "consent", "verified", time_text(record.decided_at))
        case Evidence():
            return Sighting(record.handles, record.method, record.strength, time_text(record.observed_at))
        case _:
            return None


def profile_of(record: Record) -> Profile | None:
    """What a record says of the person behind its first handle, when the platform itself says so."""
    match record:
        case Message(direction="inbound", author_kind="customer"):
            profile = record.profile or Profile()
            return profile if profile.name else profile.model_copy(update={"name": record.author_name})
        case Evidence(strength="verified"):
            return record.profile
        case _:
            return None


def pairs_of(sighting: Sighting, rules: Rules) -> list[tuple[Handle, Handle]]:
    """The pairs that a sighting puts together; a handle that is in none is paired with itself.

    A bulk record links nothing. Two handles of one kind and scope on one message are two people (a mail to both), not
    one person with two addresses.
    """
    handles = list(dict.fromkeys(sighting.handles))
    pairs = [
        (a, b)
        for a, b in combinations(handles, 2)
        if sighting.method != "message" or (a.kind, a.scope) != (b.kind, b.scope)
    ]
    if len(handles) > rules.max_handles_per_record:
        pairs = []
    paired = {handle for pair in pairs for handle in pair}
    return [*pairs, *((handle, handle) for handle in handles if handle not in paired)]


@dataclass(slots=True)
class Tally:
    """What a resolver has done so far; counts only."""

    records: int = 0
    persons: int = 0
    merges: int = 0
    splits: int = 0


class Resolver:
    """Takes records into the graph and says whose they are."""

    def __init__(self, graph: Graph, rules: Rules) -> None:
        self._graph = graph
        self._rules = rules
        self._digest = rules.digest()
        self._followed = False
        self.tally = Tally()

    def follow_rules(self) -> bool:
        """Decide everything anew when the graph was made with other rules; whether that was so.

        Takes time and one transaction in proportion to the graph. Ids stay, except where persons split or merge.
        """
        with self._graph.transaction():
            self._followed = True
            if self._graph.setting("rules") == self._digest:
                return False
            self._graph.save_setting("rules", self._digest)
            self._for_all_handles(self._judge)
            self._for_all_handles(lambda ids: self._recount(ids, ids))
            self._for_all_handles(lambda ids: self._decide(set(ids), "the rules changed"))
            return True

    def resolve(self, records: Sequence[Record]) -> list[str | None]:
        """The person of each record, after all of them were taken into the graph in one transaction.

        Repeats: harmless; the same records in another order or again change nothing.

        Raises:
            SettingsError: another process has rebuilt the graph with other rules since `follow_rules`.
        """
        with self._graph.transaction():
            if not self._followed:
                self.follow_rules()
            if self._graph.setting("rules") != self._digest:
                msg = "the identity graph follows other rules than this run; start it again with the same rules_file"
                raise SettingsError(msg)
            ids = self._graph.save_handles(_handles_in(records), self._rules.link_of)
            touched = self._save(records, ids)
            self._update(touched)
            self.tally.records += len(records)
            nodes = self._graph.nodes({ids[handle] for record in records for handle in _first_handle(record)})
            return [self._person_of(record, ids, nodes) for record in records]

    def _save(self, records: Sequence[Record], ids: Mapping[Handle, int]) -> Touched:
        touched = Touched()
        seen: dict[EvidenceKey, tuple[str, str]] = {}
        observed: dict[tuple[int, str], tuple[str, str]] = {}
        contacts: list[Contact] = []
        for record in records:
            if isinstance(record, Contact):
                contacts.append(record)
            if (sighting := sighting_of(record)) is None:
                continue
            for a, b in pairs_of(sighting, self._rules):
                pair = min(ids[a], ids[b]), max(ids[a], ids[b])
                key = (*pair, sighting.method, sighting.strength)
                first_at, last_at = seen.get(key, (sighting.seen_at, sighting.seen_at))
                seen[key] = (min(first_at, sighting.seen_at), max(last_at, sighting.seen_at))
            profile = profile_of(record)
            if profile is not None and sighting.handles:
                subject = ids[sighting.handles[0]]
                for field, value in (("name", clean_name(profile.name)), ("locale", profile.locale)):
                    if value:
                        said = (sighting.seen_at, value)
                        observed[subject, field] = max(observed.get((subject, field), said), said)
        for handle_id, other_id, _, strength in self._graph.save_evidence(seen):
            if strength in self._rules.linking_strengths:
                touched.handle_ids.update((handle_id, other_id))
        touched.renamed |= self._graph.observe(observed)
        for contact in contacts:
            bulk = len(contact.handles) > self._rules.max_handles_per_record
            more = self._graph.save_contact(contact, ids, contact.handles[:1] if bulk else contact.handles)
            touched.handle_ids |= more.handle_ids
            touched.withdrawn |= more.withdrawn
            touched.renamed |= more.renamed
        return touched

    def _update(self, touched: Touched) -> None:
        """Decide what the touched evidence may have changed, and log it."""
        flipped = self._recount(touched.handle_ids, touched.withdrawn)
        seeds = touched.handle_ids | flipped
        for edge in self._graph.edges(flipped):
            seeds |= {edge.a, edge.b}
        changed = self._decide(seeds, None)
        looked_at = self._graph.nodes(touched.renamed | flipped)
        self._graph.mark_changed(
            changed | {node.person_id for node in looked_at.values() if node.person_id is not None}
        )

    def _judge(self, handle_ids: Collection[int]) -> None:
        """What the values alone say of these handles, by the rules as they are now."""
        links = {}
        for handle_id, node in self._graph.nodes(handle_ids).items():
            link: str = self._rules.link_of(node.handle)
            if link == "links" and node.link == "shared":
                continue
            if link != node.link:
                links[handle_id] = link
        self._graph.save_links(links)

    def _recount(self, handle_ids: Collection[int], withdrawn: Collection[int]) -> set[int]:
        """Find out which of these handles several people share; those that changed.

        A shared handle that lost no evidence stays shared, so that a busy switchboard costs nothing.
        """
        nodes = {
            handle_id: node
            for handle_id, node in self._graph.nodes(handle_ids).items()
            if node.link not in _STATIC
            and self._rules.of(node.kind).caps
            and (node.link == "links" or handle_id in withdrawn)
        }
        neighbours: defaultdict[int, set[int]] = defaultdict(set)
        for a, b in strongest_links(self._graph.edges(nodes), self._rules.linking_strengths):
            neighbours[a].add(b)
            neighbours[b].add(a)
        others = self._graph.nodes({other for handle_id in nodes for other in neighbours[handle_id]})
        links = {}
        for handle_id, node in nodes.items():
            kinds = Counter(others[other].kind for other in neighbours[handle_id] if others[other].link not in _STATIC)
            link = "shared" if self._rules.cap_exceeded(node.kind, kinds) else "links"
            if link != node.link:
                links[handle_id] = link
        self._graph.save_links(links)
        return set(links)

    def _decide(self, seeds: set[int], why: str | None) -> set[str]:
        """Decide the components around these handles anew; the persons whose handles changed."""
        nodes, edges = self._load(seeds)
        if not nodes:
            return set()
        links = {
            pair: link
            for pair, link in strongest_links(edges, self._rules.linking_strengths).items()
            if all(handle_id in nodes and nodes[handle_id].link == "links" for handle_id in pair)
        }
        alive = self._alive(nodes, edges)
        clusters: list[frozenset[int]] = []
        refused: dict[tuple[int, int], str] = {}
        links_in: defaultdict[int, dict[tuple[int, int], Link]] = defaultdict(dict)
        components = connected(alive, links)
        component_of = {handle_id: index for index, component in enumerate(components) for handle_id in component}
        for pair, link in links.items():
            links_in[component_of[pair[0]]][pair] = link
        for index, component in enumerate(components):
            part = persons_of_component(
                {handle_id: nodes[handle_id] for handle_id in component}, links_in[index], self._rules
            )
            clusters += part.clusters
            refused |= part.refused
        ids = hold_ids(clusters, nodes, self._graph.anchored_at(nodes), self._rules, lambda: str(uuid6.uuid7()))
        after: dict[int, str | None] = dict.fromkeys(nodes)
        for person_id, cluster in zip(ids.person_ids, clusters, strict=True):
            after.update(dict.fromkeys(cluster, person_id))
        moved = {handle_id: after[handle_id] for handle_id, node in nodes.items() if node.person_id != after[handle_id]}
        self._graph.save_persons(ids.anchors)
        self._graph.assign(moved)
        self._graph.replace_conflicts(nodes, refused)
        changes = changes_between(nodes, after, links, refused, why)
        self._graph.log_changes(changes)
        self.tally.persons += len(ids.minted)
        self.tally.merges += sum(change.change == "merge" for change in changes)
        self.tally.splits += sum(change.change == "split" for change in changes)
        return {
            person_id
            for handle_id in moved
            for person_id in (nodes[handle_id].person_id, after[handle_id])
            if person_id
        }

    def _load(self, seeds: set[int]) -> tuple[dict[int, Node], set[Edge]]:
        """The raw components of the seeds with all their evidence, and all other handles of their persons."""
        nodes: dict[int, Node] = {}
        edges: set[Edge] = set()
        looked_at: set[int] = set()
        persons: set[str] = set()
        waiting = set(seeds)
        while waiting:
            looked_at |= waiting
            found = self._graph.nodes(waiting)
            nodes |= {
                handle_id: node for handle_id, node in found.items() if node.link == "links" or handle_id in seeds
            }
            near = self._graph.edges(handle_id for handle_id, node in found.items() if node.link == "links")
            edges |= near
            waiting = {
                handle_id
                for edge in near
                if edge.strength in self._rules.linking_strengths
                for handle_id in (edge.a, edge.b)
            } - looked_at
            if not waiting:
                more = {node.person_id for node in nodes.values() if node.person_id is not None} - persons
                persons |= more
                waiting = set(self._graph.handle_ids_of(more)) - nodes.keys()
                seeds = seeds | waiting
        return nodes, edges

    def _alive(self, nodes: Mapping[int, Node], edges: Iterable[Edge]) -> set[int]:
        """The handles that linking evidence speaks of; only they are anybody's."""
        linking = self._rules.linking_strengths
        spoken_of = {
            handle_id for edge in edges if edge.strength in linking for handle_id in (edge.a, edge.b)
        } & nodes.keys()
        return spoken_of | self._graph.alive(
            (handle_id for handle_id, node in nodes.items() if node.link != "links"), linking
        )

    def _for_all_handles(self, action: Callable[[list[int]], object]) -> None:
        last = 0
        while chunk := self._graph.handle_ids_after(last, _REBUILD_CHUNK):
            action(chunk)
            last = chunk[-1]

    def _person_of(self, record: Record, ids: Mapping[Handle, int], nodes: Mapping[int, Node]) -> str | None:
        if isinstance(record, Reply):
            return self._person_of_reply(record)
        for handle in _first_handle(record):
            return nodes[ids[handle]].person_id or self._graph.projected_person(ids[handle])
        return None

    def _person_of_reply(self, reply: Reply) -> str | None:
        """The record's own person; else the one that our target wrote on it; else that of its e-mails and phones.

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


def check(record: Record) -> None:
    """Raise `PayloadError` for a record that the resolver could not take: an empty handle, a contact without itself."""
    if isinstance(record, Contact) and (not record.handles or record.handles[0].value != record.record_id):
        msg = "contacts: the first handle is not the CRM record"
        raise MissingFieldError(msg)
    for handle in _handles_in([record]) | set(record.handles if isinstance(record, Reply) else ()):
        handle_key(handle.kind, handle.scope, handle.value)


def _first_handle(record: Record) -> Sequence[Handle]:
    """The handle whose person is the record's person; nothing for a record that is only looked up."""
    match record:
        case Message() | MessageChange() | Contact():
            return record.handles[:1]
        case Consent():
            return [record.handle]
        case _:
            return []


def _handles_in(records: Iterable[Record]) -> set[Handle]:
    handles: set[Handle] = set()
    for record in records:
        if isinstance(record, Contact):
            handles.update(record.handles, merged_handles(record))
        elif (sighting := sighting_of(record)) is not None:
            handles.update(sighting.handles)
    return handles
