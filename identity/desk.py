"""Where people decide: same, different, shared, private, recycled, undo; and what each of these comes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from identity.explain import explain, find_handle, strongest_handle
from identity.resolver import DecisionKind, Resolver
from identity.rules import Rules
from mappings.errors import SettingsError
from mappings.records import Conversation, Handle, PersonChange
from stores.archive import Archive
from stores.database import Stores
from stores.graph import Decision, Graph, Node


@dataclass(frozen=True, slots=True)
class Moved:
    """One merge or split, with what goes with it: conversations, and CRM records (those we made among them)."""

    change: PersonChange
    conversations: tuple[Conversation, ...]
    crm_records: tuple[Handle, ...]


@dataclass(slots=True)
class Outcome:
    """What a decision came to.

    Attributes:
        decision_ids: what was decided, to take it back by; empty after an undo.
        handles: the handles that it was decided of.
        moved: what merged and split.
        notes: what a person should know, the reason among them if it took no effect.
    """

    decision_ids: list[int] = field(default_factory=list)
    handles: list[tuple[Handle, ...]] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _NothingKeptError(Exception):
    """Ends a transaction that was only to show what would happen."""


class Desk:
    """Takes what people say of who is who, and says what followed.

    A and B are named as `find_handle` reads them, or by a person's id. A person's id stands for the handles by which
    the decision holds for the whole person: of CRM contacts that exclude each other these, else the strongest.

    Args:
        stores: the stores.
        rules: the same as map-identity's.
        actor: who decides.

    Raises:
        SettingsError: the graph was made with other rules; deciding would move everybody.
    """

    def __init__(self, stores: Stores, rules: Rules, actor: str) -> None:
        self.graph = Graph(stores)
        self._stores = stores
        self._rules = rules
        self._actor = actor
        if self.graph.setting("rules") not in {None, rules.digest()}:
            msg = (
                "the identity graph was made with other rules; set ONETHREAD_IDENTITY_RULES_FILE to the rules_file of "
                "map-identity, or decide everything anew with `onethread identity rebuild`"
            )
            raise SettingsError(msg)

    def find(self, text: str) -> dict[int, Node]:
        """The handle that `text` names, or all handles of the person that it is the id of.

        Raises:
            SettingsError: there is no such handle or person.
        """
        handle = find_handle(self.graph, text)
        if handle is None:
            nodes = self.graph.nodes_of([self.graph.current(text.strip())])
            if not nodes:
                msg = f"there is no person {text.strip()}; `onethread identity show HANDLE` tells a handle's person"
                raise SettingsError(msg)
            return nodes
        node = self.graph.node_of(handle)
        assert node is not None  # noqa: S101 (found a moment ago)
        projected = self.graph.projected_person(node.handle_id) if node.person_id is None else None
        return self.graph.nodes_of([projected]) if projected else {node.handle_id: node}

    def say(
        self,
        kind: DecisionKind,
        names: Sequence[str],
        *,
        reason: str | None = None,
        since: datetime | None = None,
        dry_run: bool = False,
    ) -> Outcome:
        """Decide `kind` of what is named; with `dry_run` only tell what would follow.

        Raises:
            SettingsError: something named is not known, or somebody's decision stands against it.
        """
        found = [self.find(name) for name in names]
        if kind in {"same", "different"}:
            groups = self._pairs(kind, found[0], found[1])
        else:
            if len(found[0]) != 1:
                msg = f"`{kind}` speaks of one handle, not of a person; name the handle"
                raise SettingsError(msg)
            groups = [tuple(node.handle for node in found[0].values())]
        if kind == "same":
            self._check_no(*found)

        def decide(resolver: Resolver) -> list[int]:
            return [resolver.decide(kind, group, actor=self._actor, reason=reason, since=since) for group in groups]

        persons = {node.person_id for nodes in found for node in nodes.values() if node.person_id}
        outcome = self._follow(decide, persons, dry_run=dry_run)
        outcome.handles = groups
        if not dry_run:
            outcome.notes += self._effect(kind, groups)
        return outcome

    def undo(self, decision_id: int, *, dry_run: bool = False) -> Outcome:
        """Take a decision back.

        Raises:
            SettingsError: there is no such decision, or it was taken back already.
        """
        decision = self.decision(decision_id)
        if decision is None or decision.revoked_at is not None:
            state = "was taken back already" if decision else "is not known"
            msg = f"decision {decision_id} {state}; `onethread identity decisions` lists those that stand"
            raise SettingsError(msg)

        def take_back(resolver: Resolver) -> list[int]:
            resolver.undo(decision_id, actor=self._actor)
            return []

        persons = {self.graph.person_of(handle) for handle in decision.handles} - {None}
        outcome = self._follow(take_back, {one for one in persons if one}, dry_run=dry_run)
        outcome.handles = [decision.handles]
        return outcome

    def decision(self, decision_id: int) -> Decision | None:
        """The decision of that number, taken back or not."""
        every = self.graph.decisions(revoked=True, limit=1_000_000)
        return next((one for one in every if one.decision_id == decision_id), None)

    def last_decision(self) -> Decision | None:
        """The newest decision that stands."""
        return next(iter(self.graph.decisions(limit=1)), None)

    def _pairs(self, kind: str, a: Mapping[int, Node], b: Mapping[int, Node]) -> list[tuple[Handle, ...]]:
        if not a.keys().isdisjoint(b):
            msg = "both name the same; name two handles, or two persons"
            raise SettingsError(msg)
        if len(a) == len(b) == 1:
            return [tuple(node.handle for node in (*a.values(), *b.values()))]
        spaces = sorted(
            {(one.kind, one.scope or "") for one in a.values() if one.kind in self._rules.limited_kinds}
            & {(one.kind, one.scope or "") for one in b.values() if one.kind in self._rules.limited_kinds}
        )
        sides = [
            [[node for node in side.values() if (node.kind, node.scope or "") == space] for side in (a, b)]
            for space in (spaces if kind == "same" else spaces[:1])
        ] or [[list(a.values()), list(b.values())]]
        chosen = [[strongest_handle(side, self._rules) for side in pair] for pair in sides]
        return [tuple(node.handle for node in pair if node is not None) for pair in chosen]

    def _check_no(self, a: Mapping[int, Node], b: Mapping[int, Node]) -> None:
        """A no outranks a yes: it has to be taken back first."""
        persons = [{node.person_id for node in side.values() if node.person_id} for side in (a, b)]
        nodes = [dict(side) | self.graph.nodes_of(ids) for side, ids in zip((a, b), persons, strict=True)]
        handles = [{node.handle for node in side.values()} for side in nodes]
        for one in self.graph.decisions_about(nodes[0]):
            if one.kind == "different" and all(not side.isdisjoint(one.handles) for side in handles):
                if persons[0] == persons[1]:
                    continue
                msg = (
                    f"{one.actor} said on {one.decided_at:%Y-%m-%d} that they are different, and that outranks this; "
                    f"take it back first: onethread identity undo {one.decision_id}"
                )
                raise SettingsError(msg)

    def _follow(self, act: Callable[[Resolver], list[int]], persons: set[str], *, dry_run: bool) -> Outcome:
        """Do it, see what merged and split, and bring the archive up to date."""
        archive = Archive(self._stores, self.graph)
        conversations = {one.conversation_key: one for person in persons for one in archive.conversations_of(person)}
        made_by_us = {person: self.graph.projections_of(person) for person in persons}
        outcome = Outcome()
        changes: list[PersonChange] = []
        with suppress(_NothingKeptError), self.graph.transaction():
            before = self.graph.last_sequence()
            outcome.decision_ids = act(Resolver(self.graph, self._rules))
            changes = self.graph.changes_since(before, 10_000)
            if dry_run:
                raise _NothingKeptError
        if dry_run:
            outcome.decision_ids = []
        else:
            archive.follow_graph()
        for change in changes:
            keys = {handle.key for handle in change.handles}
            moving = [one for one in conversations.values() if any(handle.key in keys for handle in one.handles)]
            records = [handle for handle in change.handles if handle.kind.endswith("_contact")]
            if change.change == "merge":
                records += [handle for person in change.from_person_ids for handle in made_by_us.get(person, [])]
            outcome.moved.append(
                Moved(
                    change, tuple(sorted(moving, key=lambda one: one.conversation_key)), tuple(dict.fromkeys(records))
                )
            )
        return outcome

    def _effect(self, kind: str, groups: Sequence[tuple[Handle, ...]]) -> list[str]:
        if kind != "same":
            return []
        notes = []
        for a, b in groups:
            explanation = explain(self.graph, self._rules, a, b)
            persons = [self.graph.nodes_of([one]) for one in explanation.person_ids if one]
            if not explanation.together:
                why = "; ".join(one.text for one in explanation.obstacles)
                notes.append(f"they are still two persons: {why}")
            elif limits := {one for nodes in persons for one in self.graph.refused_about(nodes).values()}:
                notes.append(
                    f"some links were refused ({', '.join(sorted(limits))}): if whole persons are meant, name the "
                    "persons and not two of their handles"
                )
        return notes
