"""The identity graph as its readers use it, and what it leaves on disk."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from identity.resolver import Resolver
from identity.rules import load_rules
from mappings.records import Profile
from stores.database import Database, Row, Stores
from stores.graph import Graph, Unit
from tests.identity.worlds import TABLES, contact, email, evidence, hubspot, message, messenger, phone, whatsapp


@pytest.fixture
def graph(stores: Stores) -> Graph:
    return Graph(stores)


@pytest.fixture
def resolver(graph: Graph) -> Resolver:
    return Resolver(graph, load_rules())


def test_an_empty_graph_knows_nobody(graph: Graph) -> None:
    assert graph.person_of(phone(1)) is None
    assert graph.current("0190-nobody") == "0190-nobody"
    assert graph.handles_of("0190-nobody") == []
    assert graph.persons_changed_since(0, 10) == []
    assert graph.changes_since(0, 10) == []
    assert graph.conflicts() == []
    assert graph.why("0190-nobody") == []
    assert graph.best_name("0190-nobody") is None
    assert not graph.is_shared("0190-nobody")
    assert graph.last_sequence() == 0


def test_no_handle_and_no_name_is_on_disk_in_clear(stores: Stores, resolver: Resolver) -> None:
    resolver.resolve(
        [
            message(whatsapp("user-of-whatsapp"), phone(1), name="Ann Marigold"),
            contact("8675309", email("ann.marigold"), name="Ann Marigold-Lee", merged_record_ids=["8675310"]),
        ]
    )
    stores.close()
    stored = b"".join(file.read_bytes() for file in stores.folder.glob("graph.db*"))
    for secret in (b"user-of-whatsapp", b"5550101", b"arigold", b"8675309", b"8675310"):
        assert secret not in stored


def test_a_graph_is_read_by_another_process_as_it_was_committed(stores: Stores, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(phone(1), name="Ann")])
    elsewhere = Stores(stores.url)
    assert Graph(elsewhere).person_of(phone(1)) == person_id
    assert Graph(elsewhere).best_name(str(person_id)) == "Ann"
    elsewhere.close()


def test_nothing_is_kept_of_a_batch_that_failed(
    graph: Graph, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError

    resolver.resolve([message(phone(1))])
    before = graph.last_sequence()
    monkeypatch.setattr(Unit, "log_changes", fail)
    with pytest.raises(OSError):
        resolver.resolve([message(phone(2))])
    assert graph.person_of(phone(2)) is None
    assert graph.last_sequence() == before


def test_handles_are_told_sorted_by_their_keys(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", phone(2), phone(1), email("ann"))])
    handles = graph.handles_of(str(graph.person_of(phone(1))))
    assert handles == [email("ann"), hubspot("7"), phone(1), phone(2)]


def test_changed_persons_are_read_page_by_page_without_a_gap(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(phone(number)) for number in range(7)])
    seen: list[str] = []
    sequence = 0
    while page := graph.persons_changed_since(sequence, 3):
        assert len(page) <= 3
        seen += [person_id for _, person_id in page]
        sequence = page[-1][0]
    assert len(seen) == len(set(seen)) == 7
    assert sequence == graph.last_sequence()


def test_changes_are_read_page_by_page_in_their_order(graph: Graph, resolver: Resolver) -> None:
    for number in range(5):
        resolver.resolve([message(phone(number)), message(messenger(str(number)))])
        resolver.resolve([evidence(phone(number), messenger(str(number)))])
    first = graph.changes_since(0, 3)
    rest = graph.changes_since(first[-1].sequence, 10)
    assert [change.sequence for change in (*first, *rest)] == sorted(
        change.sequence for change in graph.changes_since(0, 10)
    )
    assert len(first) == 3
    assert len(rest) == 2


def test_why_tells_every_piece_of_evidence_with_its_times(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(whatsapp("u"), phone(1), minute=5), message(whatsapp("u"), phone(1), minute=2)])
    resolver.resolve([contact("7", phone(1), minute=9)])
    told = graph.why(str(graph.person_of(phone(1))))
    pairs = [(row["method"], row["strength"], row["first_at"][14:16], row["last_at"][14:16]) for row in told]
    assert pairs == [
        ("message", "verified", "02", "05"),
        ("contact", "crm", "09", "09"),
        ("contact", "crm", "09", "09"),
    ]
    assert {handle.key for handle in told[0]["handles"]} == {whatsapp("u").key, phone(1).key}
    assert all(row["same_person"] and row["refused"] is None for row in told)


def test_why_names_the_rule_that_kept_two_apart(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([contact("7", email("ann")), contact("8", email("bob")), evidence(email("ann"), email("bob"))])
    reasons = {row["refused"] for row in graph.why(str(graph.person_of(hubspot("7"))))}
    assert "at most 1 hubspot_contact per person" in reasons


def test_why_of_a_busy_line_is_bounded(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(messenger(str(number)), phone(1), minute=number) for number in range(30)])
    told = graph.why(str(graph.person_of(phone(1))), limit=10)
    assert [row["first_at"] for row in told] == sorted(row["first_at"] for row in told)
    assert len(told) == 10


def test_a_busy_shared_line_is_not_counted_again_with_each_message(graph: Graph, resolver: Resolver) -> None:
    resolver.resolve([message(messenger(str(number)), phone(1)) for number in range(30)])
    read: list[int] = []
    edges = Unit.edges

    def counted(self: Unit, handle_ids: object) -> object:
        found = edges(self, handle_ids)  # type: ignore[arg-type]
        read.append(len(found))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Unit, "edges", counted)
        resolver.resolve([message(messenger("new"), phone(1))])
    assert max(read) <= 2


def test_no_question_on_the_way_in_reads_a_whole_table(
    graph: Graph, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: dict[str, str] = {}
    query = Database.query

    def explained(self: Database, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        for step in query(self, f"EXPLAIN QUERY PLAN {sql}", parameters):
            if re.match(f"SCAN ({'|'.join(TABLES)}|[a-z])\\b(?<!SCAN p)", step["detail"]):
                plans[sql] = step["detail"]
        return query(self, sql, parameters)

    monkeypatch.setattr(Database, "query", explained)
    resolver.follow_rules()
    resolver.resolve([message(whatsapp(name), phone(number), name="Ann") for number, name in enumerate("uvw")])
    resolver.resolve([contact("7", phone(1), merged_record_ids=["6"])])
    resolver.resolve(
        [contact("7", email("ann"), minute=1), contact("8", email("ann"), phone(1)), message(email("ann"))]
    )
    for handle in (phone(1), email("ann"), hubspot("7")):
        person_id = str(graph.person_of(handle))
        graph.current(person_id)
        graph.why(person_id)
        graph.best_name(person_id)
        graph.is_shared(person_id)
    graph.changes_since(0, 10)
    graph.persons_changed_since(0, 10)
    assert plans == {}


def test_the_locale_said_last_is_told(graph: Graph, resolver: Resolver) -> None:
    [person_id] = resolver.resolve([message(phone(1), minute=1)])
    for minute, locale in ((5, "pt_BR"), (3, "en_GB")):
        told = evidence(phone(1), minute=minute)
        resolver.resolve([told.model_copy(update={"profile": Profile(locale=locale)})])
    assert graph.best_locale(str(person_id)) == "pt_BR"
