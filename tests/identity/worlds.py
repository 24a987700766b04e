"""Made-up worlds of records, and who is who in them worked out plainly from scratch.

`expected` shares no code with the resolver: it reads all records of a world at once and follows the rules as
identity/README.md tells them. Only the numbers of the rules and the test of a role mailbox are common.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any, NamedTuple

from hypothesis import strategies as st

from identity.resolver import Resolver
from identity.rules import Rules, load_rules
from mappings.contact_points import is_role_mailbox
from mappings.records import Consent, Contact, Evidence, Handle, Message, Profile, Record, Strength
from stores.database import Stores
from stores.graph import Graph

START = datetime(2026, 1, 1, tzinfo=UTC)
PORTAL = "1001"
TABLES = (
    "observation", "person_change", "conflict", "person", "contact_merge", "contact_evidence", "contact", "evidence",
    "handle", "setting",
)  # fmt: skip
TIGHT_RULES: Rules = load_rules().model_copy(update={"max_handles_per_person": 6, "max_handles_per_record": 5})
"""The packaged rules with limits that small worlds reach."""


def email(name: str) -> Handle:
    return Handle(kind="email", value=f"{name}@mail.example")


def phone(number: int) -> Handle:
    return Handle(kind="phone", value=f"+1212555{100 + number:04d}")


def whatsapp(name: str) -> Handle:
    return Handle(kind="whatsapp_user", scope="portfolio", value=name)


def messenger(name: str) -> Handle:
    return Handle(kind="messenger_psid", scope="page", value=name)


def hubspot(record_id: str, portal: str = PORTAL) -> Handle:
    return Handle(kind="hubspot_contact", scope=portal, value=record_id)


def message(*handles: Handle, minute: int = 0, name: str | None = None, **more: Any) -> Message:
    sent_at = START + timedelta(minutes=minute)
    return Message(
        message_key=f"whatsapp:1:{minute}-{'-'.join(handle.value for handle in handles)}".replace("+", "p"),
        channel="whatsapp",
        account="1",
        conversation_key="whatsapp:1:x",
        direction=more.pop("direction", "inbound"),
        kind="text",
        text="hello",
        sent_at=sent_at,
        author_kind=more.pop("author_kind", "customer"),
        handles=list(handles),
        profile=Profile(name=name) if name else None,
        **more,
    )


def evidence(
    *handles: Handle, method: str = "account_link", strength: Strength = "verified", minute: int = 0
) -> Evidence:
    return Evidence(
        evidence_key=f"whatsapp:1:{method}:{minute}-{'-'.join(handle.value for handle in handles)}",
        method=method,
        strength=strength,
        channel="whatsapp",
        account="1",
        handles=list(handles),
        observed_at=START + timedelta(minutes=minute),
    )


def contact(record_id: str, *handles: Handle, minute: int = 0, **more: Any) -> Contact:
    return Contact(
        crm="hubspot",
        account=PORTAL,
        record_id=record_id,
        handles=[hubspot(record_id), *handles],
        modified_at=START + timedelta(minutes=minute),
        **more,
    )


def consent(handle: Handle, minute: int = 0) -> Consent:
    return Consent(
        handle_key=handle.key,
        handle=handle,
        channel="whatsapp",
        account="1",
        purpose="promotional",
        status="opted_out",
        source="keyword",
        decided_at=START + timedelta(minutes=minute),
    )


_MINUTES = st.integers(0, 5)
_EMAILS = st.sampled_from(
    [*(email(name) for name in "abcde"), email("info"), Handle(kind="email", value="x@localhost")]
)
_PHONES = st.sampled_from([phone(number) for number in range(5)])
_WHATSAPP = st.sampled_from([whatsapp(name) for name in "stuvw"])
_MESSENGER = st.sampled_from([messenger(name) for name in "xyz"])
_ANY = st.one_of(_EMAILS, _PHONES, _WHATSAPP, _MESSENGER)
_NAMES = st.sampled_from([None, "Ann", "Bob", "Cem"])


@st.composite
def _messages(draw: st.DrawFn) -> Message:
    handles = draw(
        st.one_of(
            st.tuples(_WHATSAPP, _PHONES), st.tuples(_PHONES), st.tuples(_WHATSAPP), st.tuples(_EMAILS),
            st.tuples(_EMAILS, _EMAILS), st.tuples(_MESSENGER),
        )
    )  # fmt: skip
    return message(*handles, minute=draw(_MINUTES), name=draw(_NAMES))


@st.composite
def _evidence(draw: st.DrawFn) -> Evidence:
    method, handles = draw(
        st.one_of(
            st.tuples(st.just("account_link"), st.lists(_ANY, min_size=1, max_size=3)),
            st.tuples(st.just("user_id_changed"), st.lists(_WHATSAPP, min_size=2, max_size=2)),
            st.tuples(st.just("number_changed"), st.lists(_PHONES, min_size=2, max_size=2)),
            st.tuples(st.just("account_link"), st.lists(_ANY, min_size=6, max_size=7)),
        )
    )
    strength: Strength = draw(st.sampled_from(["verified", "verified", "verified", "claimed", "inferred"]))
    return evidence(*handles, method=method, strength=strength, minute=draw(_MINUTES))


@st.composite
def _contacts(draw: st.DrawFn) -> Contact:
    record_id = draw(st.sampled_from(["11", "12", "13", "14"]))
    return contact(
        record_id,
        *draw(st.lists(st.one_of(_EMAILS, _PHONES), max_size=3)),
        minute=draw(_MINUTES),
        name=draw(_NAMES),
        projection=draw(st.integers(0, 9)) == 0,
        deleted=draw(st.integers(0, 7)) == 0,
        merged_record_ids=draw(st.lists(st.sampled_from(["12", "15"]), max_size=1)) if record_id == "11" else [],
    )


@st.composite
def _contested(draw: st.DrawFn) -> Record:
    """One of few handles and two contacts with many links between them: rules break, shared handles come and go."""
    handles = [email("a"), email("b"), phone(0), messenger("x"), whatsapp("s")]
    if draw(st.booleans()):
        a, b = draw(st.permutations(handles))[:2]
        return evidence(a, b, minute=draw(_MINUTES))
    return contact(
        draw(st.sampled_from(["11", "12"])),
        *draw(st.lists(st.sampled_from(handles[:3]), max_size=2)),
        minute=draw(_MINUTES),
        deleted=draw(st.integers(0, 7)) == 0,
    )


# Two CRM records pull at one handle, and the order in time alone decides who gets it: by evidence, and by contacts.
_TUG_OF_EVIDENCE = st.builds(
    lambda record_id, minute: evidence(hubspot(record_id), messenger("x"), minute=minute),
    st.sampled_from(["11", "12"]),
    _MINUTES,
)
_TUG_OF_CONTACTS = st.one_of(
    st.builds(lambda minute: contact("11", email("a"), minute=minute), _MINUTES),
    st.builds(lambda minute: contact("12", email("b"), minute=minute), _MINUTES),
    st.just(evidence(email("a"), email("b"))),
)


class World(NamedTuple):
    """Records in the order they come, repetitions included, and how many are taken at a time."""

    records: list[Record]
    batch_rows: int


@st.composite
def worlds(draw: st.DrawFn, most: int = 25) -> World:
    mixed = st.one_of(_messages(), _messages(), _evidence(), _contacts(), _contacts())
    kind = draw(st.sampled_from([mixed, _contested(), _TUG_OF_EVIDENCE, _TUG_OF_CONTACTS]))
    records: list[Record] = list(draw(st.lists(kind, min_size=3, max_size=most)))
    repeated = draw(st.lists(st.sampled_from(records), max_size=5))
    return World(draw(st.permutations([*records, *repeated])), draw(st.sampled_from([1, 3, 1000])))


class Answer(NamedTuple):
    """Who is who: the persons as sets of handle keys, refused links, and the name of each person."""

    persons: set[frozenset[str]]
    refused: set[frozenset[str]]
    names: dict[frozenset[str], str]


def empty(stores: Stores) -> None:
    """Forget everything in the graph; quicker than a new one for each world."""
    database = stores.database("graph")
    database.execute("PRAGMA synchronous = OFF")
    with database.transaction():
        for table in TABLES:
            database.execute(f"DELETE FROM {table}")
        database.execute("UPDATE counter SET value = 0")


def resolve_world(stores: Stores, world: World, rules: Rules) -> Graph:
    """A graph that has taken the records of `world` in their order."""
    empty(stores)
    graph = Graph(stores)
    resolver = Resolver(graph, rules)
    for start in range(0, len(world.records), world.batch_rows):
        resolver.resolve(world.records[start : start + world.batch_rows])
    return graph


def person_ids(stores: Stores) -> dict[str, str]:
    """The person of each living handle: key -> id."""
    graph = Graph(stores)
    rows = stores.database("graph").query("SELECT id FROM handle WHERE person_id IS NOT NULL")
    nodes = graph.nodes([row["id"] for row in rows]).values()
    return {node.key: node.person_id for node in nodes if node.person_id is not None}


def answer_of(stores: Stores) -> Answer:
    """What the graph says now."""
    graph = Graph(stores)
    members: dict[str, set[str]] = {}
    for key, person_id in person_ids(stores).items():
        members.setdefault(person_id, set()).add(key)
    persons = {person_id: frozenset(keys) for person_id, keys in members.items()}
    names = {keys: name for person_id, keys in persons.items() if (name := graph.best_name(person_id)) is not None}
    refused = {frozenset(handle.key for handle in conflict.handles) for conflict in graph.conflicts(10_000)}
    return Answer(set(persons.values()), refused, names)


def expected(records: list[Record], rules: Rules, content_rank: Callable[[Contact], Any]) -> Answer:
    """Who is who in these records, from scratch.

    `content_rank` orders two versions of a contact of the same moment; any order of their content will do.
    """
    facts: list[tuple[str, str, int, datetime, bool]] = []  # key, key, strength rank, time, says "same id"
    handles: dict[str, Handle] = {}
    said: dict[str, tuple[datetime, str]] = {}

    def see(group: list[Handle], rank: int, moment: datetime, *, same: bool = False, of_message: bool = False) -> None:
        group = list(dict.fromkeys(group))
        handles.update({handle.key: handle for handle in group})
        facts.extend((handle.key, handle.key, rank, moment, False) for handle in group)
        if len(group) > rules.max_handles_per_record:
            return
        for a, b in combinations(group, 2):
            if not (of_message and a.kind == b.kind and a.scope == b.scope):
                facts.append((a.key, b.key, rank, moment, same))

    versions: dict[str, list[Contact]] = {}
    for record in records:
        if isinstance(record, Message):
            see(record.handles, 1, record.sent_at, of_message=True)
            if record.profile is not None and record.profile.name is not None:
                key, observation = record.handles[0].key, (record.sent_at, record.profile.name)
                said[key] = max(said.get(key, observation), observation)
        elif isinstance(record, Evidence) and record.strength in rules.linking_strengths:
            rank = rules.linking_strengths.index(record.strength) + 1
            see(record.handles, rank, record.observed_at, same=record.method == "user_id_changed")
        elif isinstance(record, Contact):
            versions.setdefault(record.record_id, []).append(record)
    merged_away = {old for told in versions.values() for record in told for old in record.merged_record_ids}
    crm_names: dict[str, tuple[datetime, str]] = {}
    for record_id, told in versions.items():
        newest = max(told, key=lambda record: (record.modified_at, content_rank(record)))
        if newest.deleted or newest.projection:
            continue
        first = min(record.modified_at for record in told)
        for old in {old for record in told for old in record.merged_record_ids}:
            see([hubspot(record_id), hubspot(old)], 2, first, same=True)
        if record_id not in merged_away:
            if len(newest.handles) > rules.max_handles_per_record:
                see(newest.handles[:1], 2, first)
            else:
                see(newest.handles, 2, first)
            if newest.name is not None:
                crm_names[hubspot(record_id).key] = (newest.modified_at, newest.name)

    def may_link(key: str) -> bool:
        handle = handles[key]
        return not (handle.kind == "email" and (is_role_mailbox(handle.value) or handle.value.endswith("@localhost")))

    best: dict[frozenset[str], tuple[int, datetime]] = {}
    same_ids: set[frozenset[str]] = set()
    for a, b, rank, moment, same in facts:
        pair = frozenset({a, b})
        if a != b and may_link(a) and may_link(b):
            order = (0 if same else rank, moment)
            best[pair] = min(best.get(pair, order), order)
            if same:
                same_ids.add(pair)
    shared = set()
    for key, handle in handles.items():
        for other_kind, cap in rules.of(handle.kind).caps.items():
            near = {
                other for pair in best if key in pair for other in pair - {key} if handles[other].kind == other_kind
            }
            if len(near) > cap:
                shared.add(key)
    links = [pair for pair in best if not pair & shared]

    def group(keys: set[str], pairs: list[frozenset[str]]) -> list[set[str]]:
        groups = [{key} for key in keys]
        for pair in pairs:
            joined = [part for part in groups if part & pair]
            groups = [part for part in groups if not part & pair] + [set().union(*joined)]
        return groups

    def breaks_a_rule(keys: set[str], whole: set[str]) -> bool:
        if len(keys) > rules.max_handles_per_person:
            return True
        for kind, most in ((kind, rules.of(kind).max_per_person) for kind in rules.kinds):
            for scope in {handles[key].scope for key in keys}:
                all_names = {key for key in whole if handles[key].kind == kind and handles[key].scope == scope}
                ids = group(all_names, [pair for pair in same_ids if pair <= all_names and pair in links])
                if most is not None and len([names for names in ids if names & keys]) > most:
                    return True
        return False

    persons: list[set[str]] = []
    refused: set[frozenset[str]] = set()
    for whole in group(set(handles), links):
        if not breaks_a_rule(whole, whole):
            persons.append(whole)
            continue
        parts = [{key} for key in whole]
        for pair in sorted((pair for pair in links if pair <= whole), key=lambda pair: (best[pair], sorted(pair))):
            sides = [part for part in parts if part & pair]
            if len(sides) == 1:
                continue
            if breaks_a_rule(sides[0] | sides[1], whole):
                refused.add(pair)
            else:
                parts = [part for part in parts if part not in sides] + [sides[0] | sides[1]]
        persons += parts

    names = {}
    for person in persons:
        candidates = [crm_names[key] for key in person if key in crm_names] or [
            said[key] for key in person if key in said
        ]
        if candidates:
            names[frozenset(person)] = max(candidates)[1]
    return Answer({frozenset(person) for person in persons}, refused, names)
