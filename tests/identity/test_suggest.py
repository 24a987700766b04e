"""Suggestions: who may be one person by name and what else fits; never a merge, never a family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from identity.comparisons import VERSION
from identity.resolver import Resolver
from identity.rules import load_rules
from identity.suggest import split_name, suggest
from mappings.errors import SettingsError
from mappings.records import Handle, Record
from stores.database import Stores
from stores.graph import Graph
from stores.graph.review import Kept, Reviews
from tests.identity.worlds import answer_of, contact, email, evidence, message, messenger, phone, whatsapp

RULES = load_rules()


def work(name: str, firm: str = "harbour.example") -> Handle:
    return Handle(kind="email", value=f"{name}@{firm}")


def found(stores: Stores) -> list[tuple[str, str]]:
    """The suggested pairs, by the handles that stand for them."""
    graph, kept = Graph(stores), Reviews(stores).kept()
    nodes = graph.nodes({one for pair in kept for one in pair[:2]})
    return [tuple(sorted((nodes[one.a].handle.value, nodes[one.b].handle.value))) for one in kept]  # type: ignore[misc]


def run(stores: Stores, resolver: Resolver, *records: Record) -> list[tuple[str, str]]:
    resolver.resolve(list(records))
    suggest(stores, RULES)
    return found(stores)


def reasons(kept: Kept) -> dict[str, str]:
    return {name: outcome for name, outcome, _ in kept.details["reasons"]}


def test_one_name_on_two_channels_is_suggested_and_merges_nobody(stores: Stores, resolver: Resolver) -> None:
    records = [message(whatsapp("u"), phone(1), name="Ottilie Brandvold"),
               message(messenger("x"), name="ottilie BRANDVOLD")]  # fmt: skip
    before = (resolver.resolve(records), answer_of(stores))[1]
    assert run(stores, resolver, *records) == [("u", "x")]
    assert answer_of(stores) == before


def test_the_weights_of_the_reasons_add_up_to_the_score(stores: Stores, resolver: Resolver) -> None:
    run(stores, resolver, message(messenger("x"), name="Ottilie Brandvold"), message(whatsapp("u"), phone(1)),
        contact("7", work("skipper82"), name="Ottilie Brandvold"))  # fmt: skip
    [kept] = Reviews(stores).kept()
    bits = sum(weight for _, _, weight in kept.details["reasons"])
    assert kept.score is not None
    assert math.isclose(1 / (1 + 2**-bits), kept.score, abs_tol=1e-3)
    assert kept.model == VERSION
    assert reasons(kept)["first name"].startswith("the same")


def test_the_family_of_one_surname_and_one_firm_is_not_suggested(stores: Stores, resolver: Resolver) -> None:
    names = ["Maria", "Mario", "Paul", "Paula", "Daniel", "Daniela", "Jean", "Jeanne", "Karl"]
    assert run(stores, resolver, *(
        contact(str(number), work(f"{name.lower()}.brandvold"), name=f"{name} Brandvold")
        for number, name in enumerate(names, 10)
    )) == []  # fmt: skip


def test_a_father_and_a_son_of_one_name_on_the_family_s_phone_need_more_than_the_surname(
    stores: Stores, resolver: Resolver
) -> None:
    apart = [contact("7", work("a1b2c3"), name="Karl Brandvold"), contact("8", work("d4e5f6"), name="Karl Brandvold")]
    resolver.resolve(apart)
    suggest(stores, RULES, above=0.5)
    [before] = Reviews(stores).kept()
    shared = [contact("7", work("a1b2c3"), phone(1), name="Karl Brandvold", minute=1),
              contact("8", work("d4e5f6"), phone(1), name="Karl Brandvold", minute=1)]  # fmt: skip
    resolver.resolve(shared)
    suggest(stores, RULES, above=0.5)
    after = Reviews(stores).kept()
    assert before.score is not None
    assert not after or (after[0].score or 0) < before.score


def test_a_slip_of_the_pen_is_close_enough_where_the_phones_differ_in_one_digit(
    stores: Stores, resolver: Resolver
) -> None:
    assert len(run(stores, resolver, message(phone(1), name="Katherine Brandvold"),
                   message(phone(2), name="Katharine Brandvold"))) == 1  # fmt: skip
    assert reasons(Reviews(stores).kept()[0])["phone"] == "one digit differs"


def test_first_names_alone_are_no_suggestion(stores: Stores, resolver: Resolver) -> None:
    assert run(stores, resolver, message(messenger("x"), name="Ottilie"), message(whatsapp("u"), name="Ottilie")) == []


def test_another_first_name_is_never_suggested_whatever_else_agrees(stores: Stores, resolver: Resolver) -> None:
    other = Handle(kind="email", value="skipper82@other.example")
    assert run(stores, resolver, contact("7", work("skipper82"), name="Anna Brandvold"),
               contact("8", other, name="Otto Brandvold")) == []  # fmt: skip


def test_what_somebody_said_no_to_is_not_suggested_again_also_after_they_grew(
    stores: Stores, resolver: Resolver
) -> None:
    records = [message(messenger("x"), name="Ottilie Brandvold"), message(whatsapp("u"), name="Ottilie Brandvold")]
    assert run(stores, resolver, *records) == [("u", "x")]
    number = resolver.decide("different", [messenger("x"), whatsapp("u")], actor="ann")
    assert (
        run(stores, resolver, evidence(whatsapp("u"), email("a")), contact("7", email("a"), name="Ottilie Brandvold"))
        == []
    )
    resolver.undo(number, actor="ann")
    assert run(stores, resolver) != []


def test_who_was_merged_is_not_suggested_any_more(stores: Stores, resolver: Resolver) -> None:
    assert run(stores, resolver, message(messenger("x"), name="Ottilie Brandvold"),
               message(whatsapp("u"), name="Ottilie Brandvold"))  # fmt: skip
    resolver.decide("same", [messenger("x"), whatsapp("u")], actor="ann")
    assert run(stores, resolver) == []


def test_a_shared_line_is_nobody_to_suggest(stores: Stores, resolver: Resolver) -> None:
    resolver.resolve([message(phone(1), name="Ottilie Brandvold"), message(messenger("x"), name="Ottilie Brandvold")])
    resolver.decide("shared", [phone(1)], actor="ann")
    assert run(stores, resolver) == []


def test_a_second_run_changes_nothing_and_what_was_put_off_stays_put_off(stores: Stores, resolver: Resolver) -> None:
    run(stores, resolver, message(messenger("x"), name="Ottilie Brandvold"),
        message(whatsapp("u"), name="Ottilie Brandvold"))  # fmt: skip
    [kept] = Reviews(stores).kept()
    Reviews(stores).put_off(kept.a, kept.b, actor="ann")
    result = suggest(stores, RULES)
    assert (result.suggestions, result.new, result.gone) == (1, 0, 0)
    [again] = Reviews(stores).kept()
    assert again.later_at is not None
    assert again._replace(later_at=None) == kept


def test_a_name_that_many_have_makes_no_pairs_without_end(stores: Stores, resolver: Resolver) -> None:
    resolver.resolve([message(messenger(f"n{number}"), name="Anna Meier") for number in range(60)])
    result = suggest(stores, RULES)
    assert (result.persons, result.suggestions) == (60, 0)


def test_only_the_likeliest_are_kept_and_the_rest_is_counted(stores: Stores, resolver: Resolver) -> None:
    resolver.resolve([
        message(messenger(f"{name}{number}"), name=f"Ottilie {name}")
        for name in ("Brandvold", "Aagaard", "Zeltinger") for number in range(2)
    ])  # fmt: skip
    result = suggest(stores, RULES, most=2)
    assert (result.suggestions, result.left_out) == (2, 1)


def test_nothing_is_on_disk_in_clear_and_nothing_is_printed(
    stores: Stores,
    resolver: Resolver,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run(stores, resolver, contact("7", work("skipper82"), name="Ottilie Brandvold"),
        message(messenger("x"), name="Ottilie Brandvold"))  # fmt: skip
    assert Reviews(stores).kept()
    assert capfd.readouterr() == ("", "")
    stores.close()
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()).lower()
    for word in (b"ottilie", b"brandvold", b"skipper82"):
        assert word not in content


def test_two_runs_at_once_are_one(stores: Stores) -> None:
    other = Stores(stores.url)
    with other.lock("identity-suggest"), pytest.raises(TimeoutError):
        suggest(stores, RULES)
    other.close()


def test_without_splink_the_message_names_the_extra(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"onethread\[suggest\]"):
        suggest(stores, RULES)


def test_an_empty_graph_has_nothing_to_suggest(stores: Stores) -> None:
    assert suggest(stores, RULES).suggestions == 0


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Dr. Ann-Marie O'Neill", ("ann", "m", "oneill")), ("NÚÑEZ, José", ("jose", None, "nunez")),
        ("ann", ("ann", None, None)), ("", (None, None, None)), ("🌸", (None, None, None)), ("A B", (None, None, None)),
        ("李 小龙", (None, None, None)), ("~ Ann 🌸 Smith ~", ("ann", None, "smith")), ("Ann B", ("ann", None, None)),
        ("Ann B. Smith", ("ann", "b", "smith")), ("Smith, Ann Berta", ("ann", "b", "smith")),
    ],
)  # fmt: skip
def test_names_are_read(name: str, parts: Sequence[str | None]) -> None:
    assert split_name(name) == tuple(parts)
