"""tap-archive: the shared suite over a real identity graph, its order, and following."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import taps.archive
from identity.resolver import Resolver
from identity.rules import load_rules
from mappings.records import Evidence, Handle, Record
from stores.archive import EXPORTED, Archive
from stores.database import Stores
from stores.graph import Graph
from taps.archive import TapArchive
from tests.contract.tap import Messages, TapContract, _add_all, _records, _run, _state
from tests.stores.archive_world import (
    PAGE,
    answer,
    at,
    change,
    consent,
    contact,
    email,
    fold,
    mail,
    message,
    psid,
    receipt,
)

RunTap = Callable[[Any], Messages]
MODELS = {model.stream: model for model in EXPORTED}


class ArchiveSource:
    """An archive and its graph; each part is one person, met on two channels and then found to be one."""

    tap_class = TapArchive

    def __init__(self, stores: Stores, state_url: str) -> None:
        self._stores = stores
        self._state_url = state_url
        self._resolver = Resolver(Graph(stores), load_rules())

    def config(self) -> dict[str, Any]:
        return {"state_url": self._state_url}

    def take(self, *records: Record) -> None:
        """As map-identity and target-archive would."""
        self._resolver.resolve(records)
        fold(Archive(self._stores), *(one for one in records if not isinstance(one, Evidence)))

    def add(self, part: int) -> None:
        who = f"person{part}"
        key = message(f"m{part}", 0).message_key
        self.take(
            message(f"m{part}", part, who=who),
            answer(f"n{part}", part + 1, who=who),
            change(f"m{part}", "react", 3, emoji="+", handles=[psid(who)]),
            receipt(f"n{part}", "read", 4),
            consent("opted_out", 5, who, source_message_key=key),
            contact(f"{part}", 6, email(who), name="Ada"),
            mail(f"mail{part}", 7, who=who),
        )
        self.take(link(psid(who), email(who)))

    def add_bad(self) -> None:
        """Nothing in an archive is impossible to understand."""


def link(*handles: Handle) -> Evidence:
    """The platform says that these belong together."""
    return Evidence(
        evidence_key=f"link {handles[0].value}", method="account_link", strength="verified", channel="messenger",
        account=PAGE, handles=list(handles), observed_at=at(8),
    )  # fmt: skip


@pytest.fixture
def source(stores: Stores, state_url: str, monkeypatch: pytest.MonkeyPatch) -> ArchiveSource:
    monkeypatch.setattr(taps.archive, "_PAGE_ROWS", 2)
    return ArchiveSource(stores, state_url)


class TestTapArchive(TapContract):
    test_one_bad_thing_is_parked_and_the_rest_flows = None  # type: ignore[assignment]  # it reads what we wrote alone

    @pytest.fixture
    def source(self, stores: Stores, state_url: str, monkeypatch: pytest.MonkeyPatch) -> ArchiveSource:
        monkeypatch.setattr(taps.archive, "_PAGE_ROWS", 2)
        return ArchiveSource(stores, state_url)

    def test_every_record_fits_its_model(self, source: Any) -> None:
        """Its messages say more than those of other taps: what became of them."""
        _add_all(source)
        for one in _records(_run(source)):
            MODELS[one["stream"]].model_validate(one["record"])


def order_of(messages: Messages) -> list[str]:
    return list(dict.fromkeys(one["stream"] for one in _records(messages)))


def test_streams_come_in_the_order_in_which_they_need_each_other(
    source: ArchiveSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taps.archive, "_PAGE_ROWS", 1_000)
    source.add(1)
    assert order_of(_run(source)) == [
        "persons", "person_changes", "conversations", "messages", "message_changes", "receipts", "consents", "contacts",
    ]  # fmt: skip


def test_a_message_carries_all_that_became_of_it(source: ArchiveSource) -> None:
    source.add(1)
    told = [one["record"] for one in _records(_run(source)) if one["stream"] == "messages"]
    by_text = {one["text"]: one for one in told}
    assert by_text["text of m1"]["reactions"] == ["+"]
    assert by_text["text of n1"]["status"] == "read"
    assert len({one["person_id"] for one in told}) == 1


def test_every_message_follows_its_person_and_its_conversation(source: ArchiveSource) -> None:
    _add_all(source)
    known: dict[str, set[str]] = {"persons": set(), "conversations": set()}
    messages = 0
    for one in _records(_run(source)):
        record = one["record"]
        if one["stream"] == "persons":
            known["persons"].add(record["person_id"])
        if one["stream"] == "conversations":
            known["conversations"].add(record["conversation_key"])
        if one["stream"] == "messages":
            messages += 1
            assert record["person_id"] in known["persons"]
            assert record["conversation_key"] in known["conversations"]
    assert messages == 6


def test_a_merge_since_the_bookmark_tells_persons_and_the_change_but_no_message_again(source: ArchiveSource) -> None:
    source.take(message("m1", 1), mail("a", 2))
    state = _state(_run(source))
    source.take(link(psid("ada"), email("ada")))
    after = _records(_run(source, state))
    assert order_of(after) == ["persons", "person_changes", "conversations"]
    (merge,) = [one["record"] for one in after if one["stream"] == "person_changes"]
    assert merge["change"] == "merge"
    assert len(merge["conversation_keys"]) == 1


def test_a_decision_taken_while_nothing_was_written_is_told(source: ArchiveSource) -> None:
    source.take(message("m1", 1), mail("a", 2))
    state = _state(_run(source))
    source._resolver.resolve([link(psid("ada"), email("ada"))])  # the graph alone: no target-archive ran since
    assert order_of(_run(source, state)) == ["persons", "person_changes", "conversations"]


def test_an_archive_that_was_made_anew_is_read_from_its_start(source: ArchiveSource) -> None:
    source.add(1)
    state = {"bookmarks": {"cursor": {model.stream: 1_000_000 for model in EXPORTED}}}
    assert len(_records(_run(source, state))) == len(_records(_run(source)))


def test_following_tells_what_arrives_while_it_runs(
    source: ArchiveSource, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taps.archive, "_LOOK_EVERY_SECONDS", 0.05)
    source.add(1)
    tap = TapArchive(config={**source.config(), "follow_seconds": 60})
    rounds: list[float] = []

    def look(seconds: float) -> None:
        """The second part arrives between two looks; some looks later a signal ends the run."""
        rounds.append(seconds)
        if len(rounds) == 2:
            source.add(2)
        if len(rounds) == 4:
            tap._handle_termination(15, None)

    monkeypatch.setattr("taps.archive.time.sleep", look)
    with pytest.raises(SystemExit) as stopped:
        run_tap(tap)
    assert stopped.value.code == 143
    assert tap.emitted["messages"] == 6
    assert tap.cursor["messages"] == Archive(source._stores).high_water()


def test_an_unselected_stream_is_not_told_and_keeps_no_bookmark(source: ArchiveSource, run_tap: RunTap) -> None:
    source.add(1)
    catalog = TapArchive(config=source.config()).catalog_dict
    for entry in catalog["streams"]:
        for piece in entry["metadata"]:
            if not piece["breadcrumb"]:
                piece["metadata"]["selected"] = entry["stream"] == "messages"
    messages = run_tap(TapArchive(config=source.config(), catalog=catalog))
    assert order_of(messages) == ["messages"]
    assert set(_state(messages)["bookmarks"]["cursor"]) == {"messages"}
