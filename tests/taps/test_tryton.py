"""tap-tryton reads a real Tryton server, on which a person works as people do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mappings.errors import CredentialsError
from taps.tryton import TapTryton
from tests.targets.hubspot_world import fate, message, person
from tests.targets.tryton_world import World, world

pytestmark = pytest.mark.slow

RunTap = Callable[[Any], list[dict[str, Any]]]
_ONLY_TARGETS = {"settle_wait_seconds", "retry_wait_seconds"}


@pytest.fixture
def crm(tmp_path: Path, state_url: str) -> Iterator[World]:
    with world(tmp_path / "tryton", state_url) as made:
        yield made


class Reader:
    """The tap, run again and again with the state that the run before left."""

    def __init__(self, crm: World, run_tap: RunTap, *streams: str, **settings: Any) -> None:
        config = {name: value for name, value in crm.config.items() if name not in _ONLY_TARGETS}
        self._config = {**config, **settings}
        self._run = run_tap
        self._streams = streams
        self.state: dict[str, Any] | None = None
        self.last: TapTryton

    def read(self) -> list[dict[str, Any]]:
        """The records of one run."""
        self.last = TapTryton(config=self._config, state=self.state)
        for name, stream in self.last.streams.items():
            stream.selected = name in self._streams
        lines = self._run(self.last)
        states = [one["value"] for one in lines if one["type"] == "STATE"]
        self.state = states[-1] if states else self.state
        return [one["record"] for one in lines if one["type"] == "RECORD"]


def test_all_parties_and_then_what_changed(crm: World, run_tap: RunTap) -> None:
    ids = [crm.agent.add_party(f"Party {n}", email=f"p{n}@mail.example") for n in range(5)]
    reader = Reader(crm, run_tap, "contacts", page_size=2)
    first = reader.read()
    assert [one["record_id"] for one in first] == ids
    assert first[0]["handles"] == [
        {"kind": "tryton_contact", "scope": "crm", "value": ids[0]},
        {"kind": "email", "scope": None, "value": "p0@mail.example"},
    ]
    assert reader.read() == []
    crm.agent.call("model.party.contact_mechanism.create", [{"party": int(ids[3]), "type": "phone", "value": "x"}])
    crm.agent.call("model.party.party.write", [int(ids[1])], {"name": "Changed"})
    assert [(one["record_id"], one["name"]) for one in reader.read()] == [(ids[1], "Changed"), (ids[3], "Party 3")]
    assert reader.read() == []


def test_an_archived_party_is_deleted_and_a_replaced_one_merged(crm: World, run_tap: RunTap) -> None:
    one, two, three = (crm.agent.add_party("Same") for _ in range(3))
    reader = Reader(crm, run_tap, "contacts")
    reader.read()
    for source, target in ((one, two), (two, three)):
        session, *_ = crm.agent.call("wizard.party.replace.create")
        ask = {"ask": {"source": int(source), "destination": int(target)}}
        crm.agent.call("wizard.party.replace.execute", session, ask, "replace")
    (survivor,) = reader.read()
    assert (survivor["record_id"], sorted(survivor["merged_record_ids"])) == (three, sorted([one, two]))
    assert not survivor["deleted"]
    crm.agent.add_note(one, "@reply\nHello")
    (reply,) = Reader(crm, run_tap, "replies").read()
    assert reply["record_id"] == three
    crm.agent.call("model.party.party.write", [int(three)], {"active": False})
    (archived,) = reader.read()
    assert archived["deleted"]


def test_what_we_wrote_is_no_evidence(crm: World, run_tap: RunTap) -> None:
    crm.agent.add_party("Mr. Smith", phone="+12025550102", email="smith@mail.example")
    crm.write(person(1), person(2), message(1), message(2))
    by_person = {one["identity_key"]: one for one in Reader(crm, run_tap, "contacts").read()}
    assert by_person["person-1"]["projection"]
    assert [one["kind"] for one in by_person["person-1"]["handles"]] == ["tryton_contact"]
    assert not by_person["person-2"]["projection"]
    assert [one["kind"] for one in by_person["person-2"]["handles"]] == ["tryton_contact", "email", "phone"]


@pytest.mark.parametrize("administrator", [False, True])
def test_each_reply_once(crm: World, run_tap: RunTap, administrator: bool) -> None:
    crm.write(person(1), message(1, text="@reply\nI am only a customer"))
    made = str(crm.party_of("person-1")["id"])
    people = crm.agent.add_party("Mr. Smith", phone="+12025550102")
    crm.agent.add_note(people, "Called him. He said: @reply is a funny word")
    plain = crm.agent.add_note(made, "@reply\nHello Ana,\n\nit leaves today.")
    chosen = crm.agent.add_note(people, "@Reply WhatsApp:\nYes!")
    crm.agent.add_note(people, "@template order_update en_US whatsapp\n4711\nFriday")
    crm.own.add_note(people, "@reply\nwritten by our own user")
    more = {"username": "admin"} if administrator else {}
    reader = Reader(crm, run_tap, "replies", **more)
    found = reader.read()
    if administrator:
        found = [one for one in found if "our own user" not in (one["text"] or "")]
    assert reader.last.reader.may_search_all_notes is administrator
    assert [one["record_id"] for one in found] == [made, people, people]
    assert [(one["channel"], one["text"], one["template"]) for one in found] == [
        ("auto", "Hello Ana,\n\nit leaves today.", None),
        ("whatsapp", "Yes!", None),
        ("whatsapp", None, "order_update"),
    ]
    assert found[2]["template_language"] == "en_US"
    assert found[2]["template_parameters"] == ["4711", "Friday"]
    assert {one["author_name"] for one in found} == {"Alex Agent"}
    assert found[0]["identity_key"] == "person-1"
    assert [one["reply_key"].split(":")[2] for one in found[:2]] == [plain, chosen]
    assert reader.read() == []
    crm.write(fate(found[0]["reply_key"], "refused", reason="@reply: the window is closed"))
    crm.write(fate(found[1]["reply_key"], "sent"))
    assert reader.read() == []
    later = crm.agent.add_note(made, "@reply\nOne more")
    assert [one["reply_key"].split(":")[2] for one in reader.read()] == [later]


def test_a_reply_keeps_its_key_when_its_party_is_replaced(crm: World, run_tap: RunTap) -> None:
    one, two = (crm.agent.add_party("Same") for _ in range(2))
    note = crm.agent.add_note(one, "@reply\nHello")
    (first,) = Reader(crm, run_tap, "replies").read()
    crm.agent.call("model.ir.note.write", [int(note)], {"resource": f"party.party,{two}"})
    (again,) = Reader(crm, run_tap, "replies").read()
    assert (first["record_id"], again["record_id"]) == (one, two)
    assert first["reply_key"] == again["reply_key"]


def test_the_doctor_says_what_it_found(crm: World, run_tap: RunTap) -> None:
    reader = Reader(crm, run_tap, "contacts")
    reader.read()
    assert all(check.ok for check in reader.last.check())
    wrong = TapTryton(config={**reader._config, "password": "wrong"})
    assert [check.what for check in wrong.check() if check.ok is False] == ["login"]
    with pytest.raises(CredentialsError, match="check username and password"):
        _ = wrong.reader.user_id
