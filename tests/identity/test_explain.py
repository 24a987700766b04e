"""Why two handles are one person, or not: what is told is the evidence, and it is enough to join them again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from identity.explain import Explanation, explain, find_handle, strongest_handle
from identity.resolver import Resolver
from identity.rules import load_rules
from mappings.errors import SettingsError
from mappings.records import Evidence, Handle, Strength
from stores.database import Stores
from stores.graph import Graph
from tests.identity.worlds import (
    PORTAL,
    START,
    TIGHT_RULES,
    World,
    contact,
    email,
    empty,
    evidence,
    hubspot,
    message,
    messenger,
    phone,
    resolve_world,
    whatsapp,
    worlds,
)

_YEAR = 525_600
RULES = load_rules()


def told(graph: Graph, a: Handle, b: Handle) -> Explanation:
    return explain(graph, RULES, a, b)


def chain(explanation: Explanation) -> list[tuple[str, ...]]:
    return [(*(handle.value for handle in step.handles), step.method, step.strength) for step in explanation.steps]


def obstacles(explanation: Explanation) -> list[str]:
    return [one.kind for one in explanation.obstacles]


# The chain


def test_the_chain_names_each_step_with_method_strength_and_times(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([
        message(whatsapp("u"), phone(1), minute=5), message(whatsapp("u"), phone(1), minute=9),
        contact("7", phone(1), email("ann"), minute=2),
    ])  # fmt: skip
    explanation = told(graph, whatsapp("u"), email("ann"))
    assert explanation.together
    assert chain(explanation) == [
        ("u", phone(1).value, "message", "verified"), (phone(1).value, "ann@mail.example", "contact", "crm"),
    ]  # fmt: skip
    first = explanation.steps[0]
    assert [(time - START).seconds // 60 for time in (first.first_at, first.last_at)] == [5, 9]


def test_of_two_ways_the_shorter_is_told_and_of_two_as_short_the_stronger_then_the_earlier(
    graph: Graph, resolver: Resolver
) -> None:
    resolver.resolve([
        evidence(messenger("x"), email("a"), minute=9), evidence(email("a"), whatsapp("u"), minute=9),
        evidence(messenger("x"), phone(1), minute=1), evidence(phone(1), whatsapp("u"), minute=1),
        contact("7", phone(1), minute=0),
    ])  # fmt: skip
    assert [one[1] for one in chain(told(graph, messenger("x"), whatsapp("u")))] == [phone(1).value, "u"]
    resolver.resolve([evidence(messenger("x"), whatsapp("u"), minute=99)])
    assert len(told(graph, messenger("x"), whatsapp("u")).steps) == 1


def test_the_evidence_told_between_two_handles_is_the_best_of_them(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", phone(1), email("a"), minute=1), evidence(phone(1), email("a"), minute=50)])
    assert chain(told(graph, phone(1), email("a")))[0][2:] == ("account_link", "verified")


def test_a_decision_is_a_step_with_who_said_so(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(messenger("x")), message(email("a"))])
    resolver.decide("same", [messenger("x"), email("a")], actor="ann", reason="she told me")
    [step] = told(graph, messenger("x"), email("a")).steps
    assert (step.method, step.decisions[0].actor, step.decisions[0].reason) == ("decision", "ann", "she told me")


def test_a_renamed_id_that_the_chain_needs_is_told_beside_it(graph: Graph, resolver: Resolver) -> None:
    """Two WhatsApp ids on one phone would make it a shared one; that one became the other is why they do not."""
    resolver.resolve([
        message(whatsapp("u"), phone(1), minute=1), message(whatsapp("v"), phone(1), minute=2),
        evidence(whatsapp("u"), whatsapp("v"), method="user_id_changed", minute=3),
        evidence(whatsapp("u"), email("a")), evidence(whatsapp("v"), messenger("x")),
        evidence(phone(1), email("a")), evidence(phone(1), messenger("x")),
    ])  # fmt: skip
    explanation = told(graph, whatsapp("u"), whatsapp("v"))
    assert [step.method for step in explanation.steps] == ["user_id_changed"]


def test_a_handle_and_itself_need_no_evidence(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(phone(1))])
    assert told(graph, phone(1), phone(1)).steps == ()


# What keeps apart


def test_nothing_known_is_said_of_the_handle_that_is_unknown(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(phone(1))])
    [one] = told(graph, phone(1), phone(2)).obstacles
    assert (one.kind, one.handles) == ("unknown", (phone(2),))


def test_no_link_is_said_when_nothing_connects_them(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(phone(1)), message(phone(2))])
    assert obstacles(told(graph, phone(1), phone(2))) == ["no link"]


def test_what_somebody_only_typed_is_shown_and_said_to_be_claimed(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(whatsapp("u")), message(email("a"))])
    resolver.resolve([evidence(whatsapp("u"), email("a"), method="contact_card", strength="claimed")])
    explanation = told(graph, whatsapp("u"), email("a"))
    assert obstacles(explanation) == ["claimed"]
    assert chain(explanation)[0][2:] == ("contact_card", "claimed")


def test_a_claim_through_another_handle_is_found_too(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(whatsapp("u")), message(email("a")), message(messenger("x"))])
    resolver.resolve([evidence(whatsapp("u"), messenger("x"), strength="inferred"),
                      evidence(messenger("x"), email("a"), strength="claimed")])  # fmt: skip
    assert set(obstacles(told(graph, whatsapp("u"), email("a")))) == {"claimed"}


def test_a_shared_handle_between_them_is_named_with_the_cap(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", phone(1), email("a")), contact("8", phone(1), email("b"))])
    explanation = told(graph, email("a"), email("b"))
    [one] = explanation.obstacles
    assert (one.kind, one.handles) == ("shared", (phone(1),))
    assert "seen with 2 hubspot_contact, and more than 1 is a crowd" in one.text
    assert obstacles(told(graph, email("a"), phone(1))) == ["shared"]


def test_a_role_mailbox_between_them_is_named(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([evidence(phone(1), email("info")), evidence(phone(2), email("info"))])
    assert set(obstacles(told(graph, phone(1), phone(2)))) == {"role"}


def test_a_limit_is_named(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", email("a"), minute=1), contact("8", email("b"), minute=2)])
    resolver.resolve([evidence(email("a"), email("b"), minute=3)])
    explanation = told(graph, hubspot("7"), hubspot("8"))
    assert obstacles(explanation) == ["limit"]
    assert explanation.obstacles[0].text == "at most 1 hubspot_contact per person"


def test_a_person_s_no_is_named_with_its_number(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([evidence(phone(1), email("a"))])
    number = resolver.decide("different", [phone(1), email("a")], actor="ann")
    [one] = told(graph, phone(1), email("a")).obstacles
    assert one.kind == "decision"
    assert one.decision is not None
    assert one.decision.decision_id == number


def test_somebody_s_word_that_a_handle_is_shared_is_named(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([evidence(phone(1), email("a"))])
    resolver.decide("shared", [phone(1)], actor="ann")
    [one] = told(graph, phone(1), email("a")).obstacles
    assert one.kind == "shared"
    assert one.text.startswith("ann said on")


def test_a_number_that_changed_hands_is_named(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(whatsapp("u"), phone(1)), message(whatsapp("v"), phone(1), minute=_YEAR)])
    for other in (phone(1), whatsapp("v")):
        [one] = told(graph, whatsapp("u"), other).obstacles
        assert (one.kind, one.text) == ("changed hands", "this phone changed hands on 2027-01-01")


def test_a_contact_that_our_own_target_made_is_said_to_be_no_evidence(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(phone(1))])
    resolver.resolve([contact("7", phone(1), projection=True, identity_key=person_id)])
    assert obstacles(told(graph, hubspot("7"), phone(1))) == ["projection"]


# Finding what is meant


@pytest.mark.parametrize(
    "text",
    ["+1 (212) 555-0101", "phone:+12125550101", "phone:-:+12125550101", "phone:-:%2B12125550101"],
)
def test_a_phone_is_found_in_every_spelling(graph: Graph, resolver: Resolver, text: str) -> None:
    resolver.resolve([message(phone(1))])
    assert find_handle(graph, text) == phone(1)


@pytest.mark.parametrize("text", ["7", "hubspot_contact:7", f"hubspot_contact:{PORTAL}:7"])
def test_a_scoped_id_needs_its_kind(graph: Graph, resolver: Resolver, text: str) -> None:
    resolver.resolve([contact("7", email("a"))])
    if text == "7":
        with pytest.raises(SettingsError, match="is no handle"):
            find_handle(graph, text)
    else:
        assert find_handle(graph, text) == hubspot("7")


def test_an_id_in_two_scopes_asks_for_the_scope(graph: Graph, resolver: Resolver) -> None:
    other = Handle(kind="messenger_psid", scope="other", value="x")
    resolver.resolve([message(messenger("x")), message(other)])
    with pytest.raises(SettingsError, match=r"several scopes \(other, page\)"):
        find_handle(graph, "messenger_psid:x")
    assert find_handle(graph, "messenger_psid:other:x") == other


def test_an_address_is_found_whatever_its_case_and_an_unknown_one_says_so(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(email("ann"))])
    assert find_handle(graph, " Ann@Mail.example ") == email("ann")
    with pytest.raises(SettingsError, match="nothing is known of"):
        find_handle(graph, "bob@mail.example")


def test_a_person_s_id_is_no_handle(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(email("ann"))])
    assert find_handle(graph, str(person_id)) is None


def test_the_strongest_handle_is_a_platform_s_own_id(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(whatsapp("u"), phone(1))])
    node = strongest_handle(graph.nodes_of([str(person_id)]).values(), RULES)
    assert node is not None
    assert node.handle == whatsapp("u")


# The property: what is told is enough


@pytest.fixture(scope="module")
def two_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stores, Stores]]:
    folders: list[Path] = [tmp_path_factory.mktemp(name) for name in ("whole", "told")]
    opened = (Stores(str(folders[0])), Stores(str(folders[1])))
    yield opened
    for stores in opened:
        stores.close()


def replay(stores: Stores, explanation: Explanation) -> tuple[str | None, str | None]:
    """The persons of the two handles in an empty graph that was given only what was told."""
    empty(stores)
    resolver = Resolver(Graph(stores), TIGHT_RULES)
    steps = [*explanation.steps, *explanation.supports]
    said = {one.decision_id: one for step in steps for one in step.decisions if one.kind in {"same", "private"}}
    records = []
    for number, step in enumerate(steps):
        if step.method == "decision":
            continue
        strength: Strength = step.strength  # type: ignore[assignment]
        for moment in (step.first_at, step.last_at):
            records.append(
                Evidence(
                    evidence_key=f"whatsapp:1:{step.method}:{number}-{moment.timestamp()}", method=step.method,
                    strength=strength, channel="whatsapp", account="1", handles=list(step.handles),
                    observed_at=moment,
                )
            )  # fmt: skip
    resolver.resolve(records)
    for one in said.values():
        if one.kind == "private" or any(step.method == "decision" and one in step.decisions for step in steps):
            resolver.decide(one.kind, one.handles, actor="ann")  # type: ignore[arg-type]
    graph = Graph(stores)
    return graph.person_of(explanation.handles[0]), graph.person_of(explanation.handles[1])


def check_every_chain(whole: Stores, fresh: Stores, world: World) -> None:
    graph = resolve_world(whole, world, TIGHT_RULES)
    members: dict[str, list[Handle]] = {}
    for handle, person_id in graph.members():
        members.setdefault(person_id, []).append(handle)
    firsts = []
    for handles in members.values():
        handles.sort(key=lambda handle: handle.key)
        firsts.append(handles[0])
        for other in handles[1:]:
            explanation = explain(graph, TIGHT_RULES, handles[0], other)
            assert explanation.together
            assert explanation.steps[0].handles[0] == handles[0]
            assert explanation.steps[-1].handles[1] == other
            a, b = replay(fresh, explanation)
            assert a == b
            assert a is not None
    for a_handle, b_handle in pairwise(firsts):
        explanation = explain(graph, TIGHT_RULES, a_handle, b_handle)
        assert not explanation.together
        assert explanation.obstacles


def test_what_is_told_joins_the_two_again_in_any_world(two_stores: tuple[Stores, Stores]) -> None:
    @settings(max_examples=60, deadline=None, derandomize=True, database=None,
              suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])  # fmt: skip
    @given(worlds())
    def check(world: World) -> None:
        check_every_chain(*two_stores, world)

    check()


@pytest.mark.slow
def test_what_is_told_joins_the_two_again_in_many_more_worlds(two_stores: tuple[Stores, Stores]) -> None:
    @settings(max_examples=1500, deadline=None, derandomize=True, database=None,
              suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])  # fmt: skip
    @given(worlds(40))
    def check(world: World) -> None:
        check_every_chain(*two_stores, world)

    check()
