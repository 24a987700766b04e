"""Made-up worlds of records, and who is who in them worked out plainly from scratch.

`expected` shares no code with the resolver: it reads all records of a world at once and follows the rules as
identity/README.md tells them. Only the numbers of the rules and the test of a role mailbox are common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations, cycle
from typing import Any, NamedTuple

from hypothesis import strategies as st

from identity.resolver import DecisionKind, Resolver
from identity.rules import Rules, load_rules
from mappings.contact_points import is_role_mailbox
from mappings.records import Consent, Contact, Evidence, Handle, Message, Profile, Record, Strength
from stores.database import Stores
from stores.graph import Graph

START = datetime(2026, 1, 1, tzinfo=UTC)
PORTAL = "1001"
TABLES = (
    "review", "decision", "cut", "observation", "person_change", "conflict", "other_anchor", "person", "contact_merge",
    "contact_evidence", "contact", "evidence", "handle", "setting",
)  # fmt: skip
TIGHT_RULES: Rules = Rules.model_validate(
    {**load_rules().model_dump(), "max_handles_per_person": 6, "max_handles_per_record": 5}
)
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


_YEAR = 525_600
_MINUTES = st.one_of(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5).map(lambda minute: minute + _YEAR))
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


# One phone and two WhatsApp users, years apart or not, and what else hangs on the phone: it changes hands, or not.
_RECYCLED = st.one_of(
    st.builds(lambda name, minute: message(whatsapp(name), phone(0), minute=minute), st.sampled_from("stu"), _MINUTES),
    st.builds(lambda minute: message(phone(0), minute=minute), _MINUTES),
    st.builds(lambda name, minute: evidence(phone(0), email(name), minute=minute), st.sampled_from("ab"), _MINUTES),
    st.builds(lambda minute: contact("11", phone(0), email("a"), minute=minute), _MINUTES),
    st.builds(lambda minute: evidence(whatsapp("s"), whatsapp("t"), method="user_id_changed", minute=minute), _MINUTES),
)

# The same, and nothing else: the phone comes back to its first owner, or never left.
_COMING_BACK = st.builds(
    lambda name, minute: message(whatsapp(name), phone(0), minute=minute), st.sampled_from("st"), _MINUTES
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


class Said(NamedTuple):
    """What a person decided; `undone` when it is taken back some steps later."""

    kind: DecisionKind
    handles: tuple[Handle, ...]
    since: datetime | None = None
    undone: bool = False


@st.composite
def decisions(draw: st.DrawFn) -> Said:
    kind: DecisionKind = draw(
        st.sampled_from(["same", "same", "different", "different", "shared", "private", "recycled"])
    )
    any_handle = st.one_of(_ANY, st.sampled_from([hubspot("11"), hubspot("12"), email("a"), phone(0)]))
    handles = draw(st.lists(any_handle, min_size=2, max_size=2, unique_by=lambda one: one.key))
    if kind not in {"same", "different"}:
        handles = [draw(_PHONES) if kind == "recycled" else handles[0]]
    since = START + timedelta(minutes=draw(_MINUTES)) if kind == "recycled" else None
    return Said(kind, tuple(handles), since, draw(st.booleans()))


class World(NamedTuple):
    """Records and decisions in the order they come, repetitions included, and how many are taken at a time.

    `writers`: which of two processes takes each batch, over and over.
    """

    steps: list[Record | Said]
    batch_rows: int
    writers: tuple[int, ...]

    @property
    def records(self) -> list[Record]:
        """The records."""
        return [step for step in self.steps if not isinstance(step, Said)]

    @property
    def decisions(self) -> list[Said]:
        """The decisions that stand in the end."""
        return [step for step in self.steps if isinstance(step, Said) and not step.undone]


def some_records() -> st.SearchStrategy[Record]:
    """Records of all kinds, of few handles."""
    return st.one_of(_messages(), _evidence(), _contacts(), _contested(), _RECYCLED, _TUG_OF_EVIDENCE, _TUG_OF_CONTACTS)


@st.composite
def worlds(draw: st.DrawFn, most: int = 25, *, with_decisions: bool = True) -> World:
    mixed = st.one_of(_messages(), _messages(), _evidence(), _contacts(), _contacts())
    kind = draw(st.sampled_from([mixed, _contested(), _RECYCLED, _COMING_BACK, _TUG_OF_EVIDENCE, _TUG_OF_CONTACTS]))
    records: list[Record] = list(draw(st.lists(kind, min_size=3, max_size=most)))
    repeated = draw(st.lists(st.sampled_from(records), max_size=5))
    said = draw(st.lists(decisions(), max_size=4)) if with_decisions else []
    return World(
        draw(st.permutations([*records, *repeated, *said])),
        draw(st.sampled_from([1, 3, 1000])),
        draw(st.sampled_from([(0,), (0, 1), (0, 0, 1), (0, 1, 1)])),
    )


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
        database.execute("UPDATE counter SET value = 0 WHERE name = 'sequence'")
        database.execute("UPDATE counter SET value = value + 1 WHERE name = 'generation'")


def resolve_world(stores: Stores, world: World, rules: Rules) -> Graph:
    """A graph that has taken the steps of `world` in their order, by two processes in turn."""
    empty(stores)
    resolvers = [Resolver(Graph(stores), rules) for _ in range(2)]
    turns = cycle(world.writers)
    undo: list[int] = []
    waiting: list[Record] = []

    def settle() -> None:
        if waiting:
            resolvers[next(turns)].resolve(waiting)
            waiting.clear()

    for step in world.steps:
        if isinstance(step, Said):
            settle()
            number = resolvers[next(turns)].decide(step.kind, step.handles, actor="ann", since=step.since)
            if step.undone:
                undo.append(number)
            continue
        waiting.append(step)
        if len(waiting) == world.batch_rows:
            settle()
    settle()
    for number in undo:
        assert resolvers[next(turns)].undo(number, actor="bob")
    return Graph(stores)


def saved(stores: Stores) -> Callable[[], None]:
    """What brings the graph back to what it is now."""
    database = stores.database("graph")
    rows = {table: [tuple(row) for row in database.query(f"SELECT * FROM {table}")] for table in (*TABLES, "counter")}

    def restore() -> None:
        generation = database.query("SELECT value FROM counter WHERE name = 'generation'")[0]["value"]
        with database.transaction():
            for table in (*TABLES, "counter"):
                database.execute(f"DELETE FROM {table}")
            for table in (*reversed(TABLES), "counter"):
                for row in rows[table]:
                    database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
            database.execute("UPDATE counter SET value = ? WHERE name = 'generation'", (generation + 1,))

    return restore


def person_ids(stores: Stores) -> dict[str, str]:
    """The person of each living handle: key -> id."""
    return {handle.key: person_id for handle, person_id in Graph(stores).members()}


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


class Fact(NamedTuple):
    """One thing seen: these two handles (or one) by a method, how strong, when, and whether it renames an id."""

    pair: frozenset[str]
    method: str
    rank: int
    moment: datetime
    renames: bool
    of_contact: bool = False
    alone: bool = False


def expected(
    records: list[Record], rules: Rules, content_rank: Callable[[Contact], Any], decisions: Sequence[Said] = ()
) -> Answer:
    """Who is who in these records, from scratch.

    `content_rank` orders two versions of a contact of the same moment; any order of their content will do.
    """
    facts: list[Fact] = []
    handles: dict[str, Handle] = {}
    said: dict[str, tuple[datetime, str]] = {}

    def see(
        group: list[Handle], method: str, rank: int, moment: datetime, *, same: bool = False, of_message: bool = False
    ) -> None:
        group = list(dict.fromkeys(group))
        handles.update({handle.key: handle for handle in group})
        crm = method in {"contact", "crm_merge"}
        facts.extend(
            Fact(frozenset({handle.key}), method, rank, moment, renames=False, of_contact=crm) for handle in group
        )
        pairs = [
            (a, b) for a, b in combinations(group, 2) if not (of_message and (a.kind, a.scope) == (b.kind, b.scope))
        ]
        if len(group) > rules.max_handles_per_record:
            pairs = []
        facts.extend(Fact(frozenset({a.key, b.key}), method, rank, moment, same, crm) for a, b in pairs)
        facts.extend(
            Fact(frozenset({one.key}), method, rank, moment, renames=False, of_contact=crm, alone=True)
            for one in group if not any(one in pair for pair in pairs)
        )  # fmt: skip

    versions: dict[str, list[Contact]] = {}
    for record in records:
        if isinstance(record, Message):
            see(record.handles, "message", 1, record.sent_at, of_message=True)
            if record.profile is not None and record.profile.name is not None:
                key, observation = record.handles[0].key, (record.sent_at, record.profile.name)
                said[key] = max(said.get(key, observation), observation)
        elif isinstance(record, Evidence) and record.strength in rules.linking_strengths:
            rank = rules.linking_strengths.index(record.strength) + 1
            see(record.handles, record.method, rank, record.observed_at, same=record.method == "user_id_changed")
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
            see([hubspot(record_id), hubspot(old)], "crm_merge", 2, first, same=True)
        if record_id not in merged_away:
            if len(newest.handles) > rules.max_handles_per_record:
                see(newest.handles[:1], "contact", 2, first)
            else:
                see(newest.handles, "contact", 2, first)
            if newest.name is not None:
                crm_names[hubspot(record_id).key] = (newest.modified_at, newest.name)

    by_people: dict[str, set[Any]] = {"same": set(), "different": set(), "shared": set(), "private": set()}
    cuts: dict[str, set[datetime]] = {}
    for one in decisions:
        if one.kind == "recycled":
            assert one.since is not None
            cuts.setdefault(one.handles[0].key, set()).add(one.since)
        else:
            by_people[one.kind].add(frozenset(handle.key for handle in one.handles))
        if one.kind == "same":
            handles.update({handle.key: handle for handle in one.handles})

    def may_link(key: str) -> bool:
        handle = handles[key]
        return not (handle.kind == "email" and (is_role_mailbox(handle.value) or handle.value.endswith("@localhost")))

    def group(keys: set[str], pairs: Iterable[frozenset[str]]) -> list[set[str]]:
        groups = [{key} for key in keys]
        for pair in pairs:
            joined = [part for part in groups if part & pair]
            groups = [part for part in groups if not part & pair] + [set().union(*joined)]
        return groups

    def renamed(keys: set[str]) -> list[set[str]]:
        return group(keys, [fact.pair for fact in facts if fact.renames and fact.pair <= keys])

    # Phones that changed hands: what was last seen before is the old owner's.
    for key in [key for key, handle in handles.items() if handle.kind == "phone"]:
        times: dict[str, list[datetime]] = {}
        for fact in facts:
            for other in fact.pair - {key}:
                if key in fact.pair and handles[other].kind == "whatsapp_user" and not fact.of_contact:
                    times.setdefault(other, []).append(fact.moment)
        spans = sorted(
            (min(min(times[one]) for one in ids), max(max(times[one]) for one in ids)) for ids in renamed(set(times))
        )
        for index, (first, _) in enumerate(spans):
            before = [last for _, last in spans[:index]]
            if before and first - max(before) >= timedelta(days=90):
                cuts.setdefault(key, set()).add(first)
    last_seen: dict[tuple[frozenset[str], str, int, bool], datetime] = {}
    for fact in facts:
        if not fact.of_contact:
            of = (fact.pair, fact.method, fact.rank, fact.alone)
            last_seen[of] = max(last_seen.get(of, fact.moment), fact.moment)

    def at_the_time(fact: Fact) -> Fact:
        last = last_seen.get((fact.pair, fact.method, fact.rank, fact.alone), fact.moment)
        pair = set()
        for key in fact.pair:
            since = min((time for time in cuts.get(key, ()) if last < time), default=None)
            if since is not None:
                text = since.isoformat(timespec="microseconds").replace("+00:00", "Z")
                former = Handle(kind="former_phone", scope=f"until {text}", value=handles[key].value)
                handles[former.key] = former
                key = former.key
            pair.add(key)
        return fact._replace(pair=frozenset(pair))

    def while_it_was_theirs(fact: Fact) -> list[Fact]:
        """Of a handle that was seen alone: once more for each owner who had it meanwhile."""
        if not fact.alone or fact.of_contact:
            return []
        (key,) = fact.pair
        same = (fact.pair, fact.method, fact.rank, True)
        of = [one for one in facts if (one.pair, one.method, one.rank, one.alone) == same]
        first, last = min(one.moment for one in of), max(one.moment for one in of)
        owners = []
        for since in cuts.get(key, ()):
            if first < since <= last:
                text = since.isoformat(timespec="microseconds").replace("+00:00", "Z")
                former = Handle(kind="former_phone", scope=f"until {text}", value=handles[key].value)
                handles[former.key] = former
                owners.append(fact._replace(pair=frozenset({former.key})))
        return owners

    facts = [
        *(at_the_time(fact) for fact in facts), *(one for fact in facts for one in while_it_was_theirs(fact))
    ]  # fmt: skip
    alive = {key for fact in facts for key in fact.pair} | {key for pair in by_people["same"] for key in pair}
    handles = {key: handle for key, handle in handles.items() if key in alive}

    best: dict[frozenset[str], tuple[int, datetime]] = {}
    same_ids: set[frozenset[str]] = set()
    for fact in facts:
        if len(fact.pair) == 2 and all(map(may_link, fact.pair)):
            order = (0 if fact.renames else fact.rank, fact.moment)
            best[fact.pair] = min(best.get(fact.pair, order), order)
            if fact.renames:
                same_ids.add(fact.pair)
    shared = set()
    for key, handle in handles.items():
        for other_kind, cap in rules.of(handle.kind).caps.items():
            near = {
                other for pair in best if key in pair for other in pair - {key} if handles[other].kind == other_kind
            }
            for scope in {handles[other].scope for other in near}:
                if len(renamed({other for other in near if handles[other].scope == scope})) > cap:
                    shared.add(key)
        if frozenset({key}) in by_people["private"]:
            shared.discard(key)
        if frozenset({key}) in by_people["shared"]:
            shared.add(key)
    links = [pair for pair in best if not pair & shared]
    best.update(dict.fromkeys(by_people["same"], (-1, START)))
    links = [*(pair for pair in links if pair not in by_people["same"]), *by_people["same"]]

    def breaks_a_rule(keys: set[str], whole: set[str]) -> bool:
        if len(keys) > rules.max_handles_per_person:
            return True
        decided = [pair for pair in by_people["same"] if pair <= whole]
        for kind, most in ((kind, rules.of(kind).max_per_person) for kind in rules.kinds):
            for scope in {handles[key].scope for key in keys}:
                all_names = {key for key in whole if handles[key].kind == kind and handles[key].scope == scope}
                renames = [pair for pair in same_ids if pair <= all_names and pair in links]
                ids = group(all_names.union(*decided), [*renames, *decided])
                if most is not None and len([names for names in ids if names & keys & all_names]) > most:
                    return True
        return False

    def parted(keys: set[str]) -> bool:
        return any(pair <= keys for pair in by_people["different"])

    persons: list[set[str]] = []
    refused: set[frozenset[str]] = set()
    for whole in group(set(handles), links):
        if not breaks_a_rule(whole, whole) and not parted(whole):
            persons.append(whole)
            continue
        parts = [{key} for key in whole]
        for pair in sorted((pair for pair in links if pair <= whole), key=lambda pair: (best[pair], sorted(pair))):
            sides = [part for part in parts if part & pair]
            if len(sides) == 1:
                continue
            together = sides[0] | sides[1]
            if parted(together) or (pair not in by_people["same"] and breaks_a_rule(together, whole)):
                refused.add(pair)
            else:
                parts = [part for part in parts if part not in sides] + [together]
        persons += parts

    names = {}
    for person in persons:
        candidates = [crm_names[key] for key in person if key in crm_names] or [
            said[key] for key in person if key in said
        ]
        if candidates:
            names[frozenset(person)] = max(candidates)[1]
    return Answer({frozenset(person) for person in persons}, refused, names)
