"""Why two handles are one person, or what keeps them apart: the evidence itself, in the order that makes the point.

What is told can be checked: the steps of a chain (with its `Explanation.supports`), given to an empty graph and nothing
else, join the two handles again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from identity.apart import Gap, Obstacle
from identity.chain import Chain, Step
from identity.rules import Rules
from mappings.contact_points import normalize_email, normalize_phone
from mappings.errors import PayloadError, SettingsError
from mappings.ids import parse_handle_key
from mappings.records import Handle
from stores.graph import Graph, Node

_PERSON_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Explanation:
    """What there is between two handles.

    Attributes:
        steps: the chain from the first to the second when they are one person; else what nearly connects them.
        supports: further evidence without which the chain alone would break a rule (an id that was renamed, a
            decision that a handle is private).
        obstacles: what keeps them apart; none when they are one person.
    """

    handles: tuple[Handle, Handle]
    person_ids: tuple[str | None, str | None]
    steps: tuple[Step, ...] = ()
    supports: tuple[Step, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def together(self) -> bool:
        """Whether they are one person."""
        return self.person_ids[0] is not None and self.person_ids[0] == self.person_ids[1]


def explain(graph: Graph, rules: Rules, a: Handle, b: Handle) -> Explanation:
    """Why `a` and `b` are one person, or what keeps them apart."""
    nodes = graph.node_of(a), graph.node_of(b)
    unknown = [handle for handle, node in zip((a, b), nodes, strict=True) if node is None]
    if unknown or nodes[0] is None or nodes[1] is None:
        gone = [Obstacle("unknown", "nothing is known of it", (handle,)) for handle in unknown]
        return Explanation((a, b), (None, None), obstacles=tuple(gone))
    person_ids = (nodes[0].person_id, nodes[1].person_id)
    if person_ids[0] is not None and person_ids[0] == person_ids[1]:
        steps, supports = Chain(graph, rules, person_ids[0]).between(nodes[0].handle_id, nodes[1].handle_id)
        return Explanation((a, b), person_ids, steps, supports)
    steps, obstacles = Gap(graph, rules, nodes[0], nodes[1]).told()
    return Explanation((a, b), person_ids, steps, obstacles=obstacles)


def find_handle(graph: Graph, text: str) -> Handle | None:
    """The handle that `text` names: an e-mail address, a phone, ``kind:value``, ``kind:scope:value`` or the key.

    ``None`` for a person's id. ``kind:value`` of a kind with scopes must be known in one scope only.

    Raises:
        SettingsError: it is none of these, nothing is known of it, or it is known in several scopes.
    """
    text = text.strip()
    if _PERSON_ID.fullmatch(text):
        return None
    candidates = _spelled(graph, text)
    if not candidates:
        msg = (
            f"{text!r} is no handle: write an e-mail address, a phone with its country (+44...), kind:value, "
            "kind:scope:value or a person's id"
        )
        raise SettingsError(msg)
    known = [handle for handle in {one.key: one for one in candidates}.values() if graph.node_of(handle) is not None]
    if len(known) == 1:
        return known[0]
    if known:
        scopes = ", ".join(str(handle.scope) for handle in known)
        msg = f"{text!r} is known in several scopes ({scopes}): write kind:scope:value"
        raise SettingsError(msg)
    msg = f"nothing is known of {text!r}; `onethread console` searches by name, e-mail, phone and any id"
    raise SettingsError(msg)


def _spelled(graph: Graph, text: str) -> list[Handle]:
    kind, colon, rest = text.partition(":")
    if not colon:
        email, phone = normalize_email(text), normalize_phone(text) if text.startswith("+") else None
        found = [Handle(kind="email", scope=None, value=email)] if email else []
        return found + ([Handle(kind="phone", scope=None, value=phone)] if phone else [])
    found = []
    try:
        parsed = parse_handle_key(text)
        found.append(Handle(kind=parsed[0], scope=parsed[1], value=parsed[2]))
    except PayloadError:
        pass
    scope, colon, value = rest.partition(":")
    if colon and scope and value:
        found.append(Handle(kind=kind, scope=scope, value=value))
    if kind == "email":
        rest = normalize_email(rest) or rest
    elif kind == "phone":
        rest = normalize_phone(rest) or rest
    if rest:
        found += [Handle(kind=kind, scope=scope, value=rest) for scope in graph.scopes_of(kind)]
    return found


def strongest_handle(nodes: Iterable[Node], rules: Rules) -> Node | None:
    """The handle that stands for a person: of the lowest anchor rank, then the first by its text."""
    best = list(nodes)
    if not best:
        return None
    rank = min(rules.of(node.kind).anchor_rank for node in best)
    return min((node for node in best if rules.of(node.kind).anchor_rank == rank), key=lambda node: node.key)
