"""target-tryton writes to a real Tryton server; what it did is read from the server by another user."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from mappings.errors import CredentialsError, SettingsError
from mappings.records import Handle, Record
from targets.tryton import TargetTryton, setup_tryton
from tests.targets.hubspot_world import NOON, erasure, fate, merge, message, person, phone, split
from tests.targets.tryton_world import World, numbers_in, world

pytestmark = pytest.mark.slow


@pytest.fixture
def crm(tmp_path: Path, state_url: str) -> Iterator[World]:
    with world(tmp_path / "tryton", state_url) as made:
        yield made


def test_each_message_is_a_note_once_and_the_second_run_costs_nothing(crm: World) -> None:
    records: list[Record] = [*(person(n) for n in range(100)), *(message(n, of=n % 100) for n in range(1000))]
    first = crm.write(*records)
    assert crm.numbers() == dict.fromkeys(range(1000), 1)
    assert len(crm.parties()) == 100
    assert first["model.ir.note.create"] == 2
    assert first["model.party.party.create"] == 1
    assert sum(first.values()) == 6, first
    again = crm.write(*records)
    assert not again, again
    assert crm.numbers_on("person-7") == list(range(7, 1000, 100))
    assert crm.parked() == []


def test_a_party_says_who_it_is(crm: World) -> None:
    mail = Handle(kind="email", value="ana@mail.example")
    psid = Handle(kind="messenger_psid", scope="page", value="4711")
    crm.write(person(1, mail, phone(1), psid, name="Ana Example"))
    (party,) = crm.parties().values()
    assert party["name"] == "Ana Example"
    assert party["codes"] == ["onethread-made:person-1"]
    assert party["mechanisms"] == ["email ana@mail.example", "mobile +12025550101", "other 4711"]


def test_a_party_of_people_is_found_by_address_and_keeps_what_people_wrote(crm: World) -> None:
    by_mail = crm.agent.add_party("Keller, Anna", email="Anna@Mail.example")
    by_phone = crm.agent.add_party("Mr. Smith", phone="+12025550102")
    mail = Handle(kind="email", value="anna@mail.example")
    crm.write(
        person(1, mail, phone(1), name="anna k."), person(2, name="Smithy"), message(1, handles=[mail]), message(2)
    )
    assert set(crm.parties()) == {by_mail, by_phone}
    anna, smith = crm.parties()[by_mail], crm.parties()[by_phone]
    assert (anna["name"], smith["name"]) == ("Keller, Anna", "Mr. Smith")
    assert anna["codes"] == ["onethread:person-1"]
    assert anna["mechanisms"] == ["email Anna@Mail.example", "mobile +12025550101"]
    assert smith["mechanisms"] == ["phone +12025550102"]
    assert (crm.numbers_on("person-1"), crm.numbers_on("person-2")) == ([1], [2])


def test_two_parties_of_people_with_one_address_are_not_chosen_between(crm: World) -> None:
    crm.agent.add_party("One", email="a@mail.example")
    crm.agent.add_party("Two", email="a@mail.example")
    mail = Handle(kind="email", value="a@mail.example")
    crm.write(person(1, mail), person(2), message(1, handles=[mail]), message(2))
    assert {one.stream for one in crm.parked()} == {"persons", "messages"}
    assert crm.numbers() == {2: 1}


def test_a_name_is_ours_until_somebody_changes_it(crm: World) -> None:
    crm.write(person(1, name=None), person(2, name="Bo"))
    assert crm.party_of("person-1")["name"] == "+12025550101"
    crm.agent.call("model.party.party.write", [crm.party_of("person-2")["id"]], {"name": "Bo the Great"})
    crm.write(person(1, name="Ana"), person(2, name="Bo Example"))
    assert crm.party_of("person-1")["name"] == "Ana"
    assert crm.party_of("person-2")["name"] == "Bo the Great"


def test_a_mechanism_comes_and_goes_with_its_handle_but_not_against_people(crm: World) -> None:
    mail = Handle(kind="email", value="ana@mail.example")
    crm.write(person(1, phone(1)))
    crm.write(person(1, phone(1), mail))
    assert crm.party_of("person-1")["mechanisms"] == ["mobile +12025550101", "email ana@mail.example"]
    (row,) = crm.agent.search_read("party.contact_mechanism", [["type", "=", "email"]], ["id"])
    crm.agent.call("model.party.contact_mechanism.write", [row["id"]], {"active": False})
    crm.write(person(1, phone(1), mail, phone(3)))
    assert crm.party_of("person-1")["mechanisms"] == ["mobile +12025550101", "mobile +12025550103"]
    crm.write(person(1, phone(3)))
    assert crm.party_of("person-1")["mechanisms"] == ["mobile +12025550103"]


def test_an_edit_comes_in_the_old_notes_place_and_a_removal_takes_the_words_away(crm: World) -> None:
    crm.write(person(1), message(1), message(2, of=1), message(3, of=1))
    crm.write(
        message(1, text="other words", edited_at=NOON),
        message(2, of=1, text=None, unsent_at=NOON),
        message(3, of=1),
    )
    notes = crm.party_of("person-1")["notes"]
    assert len(notes) == 3
    assert "words of message 3." in notes[0]
    assert "other words" in notes[1]
    assert "Edited, 2026-11-02 12:00 UTC" in notes[1]
    assert "Removed by the sender" in notes[2]
    assert not [text for text in notes if "words of message 1" in text or "words of message 2" in text]
    assert not crm.write(message(1, text="other words", edited_at=NOON))


def test_text_is_data(crm: World) -> None:
    words = "@reply whatsapp\n<b>{{ x }}</b> 'quoted' \U0001f600 \x00 %s\n\nref 0123456789ab"
    crm.write(person(1), message(1, text=words))
    (note,) = crm.party_of("person-1")["notes"]
    assert note.startswith(
        "WhatsApp · customer → us · 2026-11-02 12:01:00 UTC\n\n@reply whatsapp\n<b>{{ x }}</b> 'quoted'"
    )
    crm.write(person(1), message(1, text=words))
    assert crm.party_of("person-1")["notes"] == [note]


def test_a_deleted_note_is_not_made_again(crm: World) -> None:
    crm.write(person(1), message(1), message(2, of=1))
    (first, _) = crm.agent.notes(str(crm.party_of("person-1")["id"]))
    crm.agent.call("model.ir.note.delete", [first["id"]])
    crm.write(message(1), message(2, of=1))
    assert crm.numbers() == {2: 1}


def test_an_archived_party_is_not_made_again_until_it_is_activated(crm: World) -> None:
    crm.write(person(1), message(1))
    party_id = crm.party_of("person-1")["id"]
    crm.agent.call("model.party.party.write", [party_id], {"active": False})
    crm.write(message(2, of=1))
    assert [one.stream for one in crm.parked()] == ["messages"]
    assert len(crm.parties()) == 1
    crm.agent.call("model.party.party.write", [party_id], {"active": True})
    crm.write(message(2, of=1))
    assert crm.numbers_on("person-1") == [1, 2]


def test_notes_follow_when_people_replace_a_party(crm: World) -> None:
    crm.write(person(1), person(2), message(1), message(2))
    source, target = crm.party_of("person-1")["id"], crm.party_of("person-2")["id"]
    replace_as_agent(crm, source, target)
    crm.write(message(3, of=1))
    parties = crm.parties()
    assert [parties[str(one)]["notes"] == [] for one in (source, target)] == [True, False]
    assert crm.numbers() == {1: 1, 2: 1, 3: 1}


def test_a_merge_moves_notes_and_a_split_moves_them_back(crm: World) -> None:
    crm.write(person(1), person(2), message(1), message(2))
    before = crm.party_of("person-2")["id"]
    crm.write(merge(1, 1, 2))
    assert crm.numbers_on("person-1") == [1, 2]
    left = crm.parties()[str(before)]
    assert (left["active"], left["name"], left["mechanisms"]) == (False, None, [])
    crm.write(split(2, 1, 2))
    assert crm.party_of("person-2")["mechanisms"] == ["mobile +12025550102"]
    assert (crm.numbers_on("person-1"), crm.numbers_on("person-2")) == ([1], [2])
    assert crm.party_of("person-2")["id"] == before
    crm.write(merge(1, 1, 2), split(2, 1, 2))
    assert (crm.numbers_on("person-1"), crm.numbers_on("person-2")) == ([1], [2])


def test_a_merge_by_trytons_wizard_takes_peoples_notes_along(crm: World) -> None:
    crm.write(person(1), person(2), message(1), message(2))
    source, target = str(crm.party_of("person-2")["id"]), str(crm.party_of("person-1")["id"])
    crm.agent.add_note(source, "Called her, all is well.")
    crm.write(merge(1, 1, 2), crm_merge=True)
    parties = crm.parties()
    assert str(parties[source]["replaced_by"]) == target
    assert parties[source]["notes"] == []
    assert "Called her, all is well." in parties[target]["notes"]
    assert crm.numbers_on("person-1") == [1, 2]
    crm.write(person(1, phone(1), phone(2)), merge(1, 1, 2), crm_merge=True)
    assert crm.parties()[target]["mechanisms"] == ["mobile +12025550101", "mobile +12025550102"]


def test_a_party_of_people_is_never_replaced(crm: World) -> None:
    kept = crm.agent.add_party("Mr. Smith", phone="+12025550102")
    crm.write(person(1), person(2), message(1), message(2))
    crm.write(merge(1, 1, 2), crm_merge=True)
    assert crm.numbers_on("person-1") == [1, 2]
    smith = crm.parties()[kept]
    assert (smith["active"], smith["codes"], smith["mechanisms"]) == (True, [], ["phone +12025550102"])


def test_an_erased_person_is_gone_from_the_server_and_stays_gone(crm: World) -> None:
    people = crm.agent.add_party("Mr. Smith", phone="+12025550102")
    crm.write(person(1), person(2), message(1), message(2))
    made = str(crm.party_of("person-1")["id"])
    crm.agent.add_note(made, "Wants a discount.")
    crm.write(erasure(1, 1), erasure(2, 2))
    gone, kept = crm.parties()[made], crm.parties()[people]
    assert (gone["active"], gone["name"], gone["notes"], gone["mechanisms"]) == (False, None, [], [])
    assert (kept["name"], kept["notes"], kept["codes"]) == ("Mr. Smith", [], [])
    assert (crm.ledger.contact("person-1"), crm.ledger.contact("person-2")) == (None, None)
    crm.write(message(1), message(2))
    assert not crm.numbers()


def test_an_erasure_reaches_what_a_merge_left_on_peoples_parties(crm: World) -> None:
    people = crm.agent.add_party("Mr. Smith", email="smith@mail.example")
    mail = Handle(kind="email", value="smith@mail.example")
    crm.write(person(1, mail), person(2), message(1, handles=[mail]), message(2))
    crm.write(merge(1, 1, 2), person(1, mail, phone(2)), crm_merge=True)
    assert crm.parties()[people]["mechanisms"] == ["email smith@mail.example", "mobile +12025550102"]
    crm.write(erasure(2, 1))
    values = [one["value"] for one in crm.agent.search_read("party.contact_mechanism", [], ["value"])]
    assert values == ["smith@mail.example"]
    assert {one["name"] for one in crm.parties().values()} == {"Mr. Smith", None}
    assert not crm.numbers()


def test_the_fate_of_a_reply_is_one_note_beside_it(crm: World) -> None:
    crm.write(person(1), message(1))
    party_id = str(crm.party_of("person-1")["id"])
    key = f"tryton:crm:{crm.agent.add_note(party_id, '@reply')}:2026-11-02T12%3A00%3A00+00%3A00"
    crm.write(fate(key, "queued"))
    crm.write(fate(key, "sent"), fate(key, "delivered"))
    crm.write(fate(key, "sent"), fate(key, "queued", subject_key="hubspot:1:2:3", reply_key="hubspot:1:2:3"))
    told = [text for text in crm.party_of("person-1")["notes"] if text.startswith("Your reply")]
    assert [text.partition("\n")[0] for text in told] == [
        "Your reply of 2026-11-02 12:00 UTC: Delivered, 2026-11-02 12:00 UTC, WhatsApp"
    ]
    assert not crm.write(fate(key, "delivered"))
    assert crm.parked() == []


def test_a_day_can_be_one_note(crm: World) -> None:
    late = NOON + timedelta(days=1)
    records = [message(1), message(2, of=1), message(3, of=1, sent_at=late)]
    crm.write(person(1), *records[:1], notes="day")
    crm.write(*records, notes="day")
    assert [sorted(map(int, numbers)) for numbers in per_note(crm, "person-1")] == [[1, 2], [3]]
    assert not crm.write(*records, notes="day")
    crm.write(message(2, of=1, text="other words"), notes="day")
    assert per_note(crm, "person-1") == [[3], [1]]
    crm.write(message(1, text="words of message 1."), message(4, of=1))
    assert sorted(map(len, per_note(crm, "person-1"))) == [1, 1, 1]
    crm.write(person(2), message(5, of=2), notes="day")
    crm.write(merge(1, 1, 2), notes="day")
    assert crm.numbers() == {1: 1, 3: 1, 4: 1, 5: 1}
    crm.write(split(2, 1, 2), notes="day")
    assert crm.numbers_on("person-2") == [5]


def test_a_refused_row_is_parked_and_the_rest_is_written(crm: World) -> None:
    admin = crm.server.log_in("admin")
    admin.call(
        "model.ir.rule.group.create",
        [{"name": "No insults", "model": "ir.note", "global_p": True, "perm_create": True, "perm_read": False,
          "perm_write": False, "perm_delete": False,
          "rules": [["create", [{"domain": '[["message", "not ilike", "%forbidden%"]]'}]]]}],
    )  # fmt: skip
    words = [{"text": "forbidden"} if n == 7 else {} for n in range(20)]
    crm.write(person(1), *(message(n, of=1, **words[n]) for n in range(20)))
    assert crm.numbers() == {n: 1 for n in range(20) if n != 7}
    (parked,) = crm.parked()
    assert parked.stream == "messages"
    assert "forbidden" not in parked.reason


def test_a_lost_answer_is_settled_by_reading(crm: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_answers(monkeypatch, "model.party.party.create", "model.ir.note.create")
    crm.write(person(1), person(2), *(message(n, of=1 + n % 2) for n in range(10)))
    assert crm.numbers() == dict.fromkeys(range(10), 1)
    assert len(crm.parties()) == 2
    lose_answers(monkeypatch, "model.ir.note.create")
    crm.write(message(4, of=1, text="words of message 40."))
    assert crm.numbers() == dict.fromkeys((0, 1, 2, 3, 5, 6, 7, 8, 9, 40), 1)


def test_a_session_that_ended_is_begun_again(crm: World, monkeypatch: pytest.MonkeyPatch) -> None:
    target = TargetTryton(config=crm.config)
    assert target.api.user_id == crm.own.user_id
    crm.server.log_in("admin").call(
        "model.res.user.write", [crm.own.user_id], {"password": "another one that nobody knows 1"}
    )
    crm.server.log_in("admin").call("model.res.user.write", [crm.own.user_id], {"password": crm.server.password})
    assert target.api.search_read("party.party", [], ["name"]) == []
    assert target.api.calls["common.db.login"] == 2


def test_setup_says_what_is_missing(crm: World) -> None:
    lines = setup_tryton(crm.settings, crm.stores)
    assert lines[0] == "server: series 8.2"
    assert "wizard party.erase: allowed" in lines
    assert setup_tryton(crm.settings, crm.stores, dry_run=True) == lines
    with pytest.raises(CredentialsError, match="username or password is refused"):
        setup_tryton(crm.settings.model_copy(update={"password": SecretStr("wrong")}), crm.stores)
    with pytest.raises(SettingsError, match="check url and database"):
        setup_tryton(crm.settings.model_copy(update={"database": "nope"}), crm.stores)
    admin = crm.server.log_in("admin")
    admin.call("model.res.user.write", [crm.own.user_id], {"groups": [["remove", [1]]]})
    assert [line.partition(";")[0] for line in setup_tryton(crm.settings, crm.stores)][-2:] == [
        "wizard party.erase: not allowed", "wizard party.replace: not allowed, and not needed while crm_merge is off",
    ]  # fmt: skip
    with pytest.raises(CredentialsError, match="Party Administration"):
        setup_tryton(crm.settings.model_copy(update={"crm_merge": True}), crm.stores)


def replace_as_agent(crm: World, source: int, target: int) -> None:
    """What somebody does in the client: Parties, Replace."""
    session, *_ = crm.agent.call("wizard.party.replace.create")
    for name in ("name",):
        crm.agent.call("model.res.user.warning.skip", f"party.replace {name} {source} {target}")
    ask = {"ask": {"source": source, "destination": target}}
    crm.agent.call("wizard.party.replace.execute", session, ask, "replace")


def per_note(crm: World, person_id: str) -> list[list[int]]:
    """The numbers of the messages on each note of a person's party."""
    return [numbers_in(text) for text in crm.party_of(person_id)["notes"]]


def lose_answers(monkeypatch: pytest.MonkeyPatch, *methods: str) -> None:
    """The server carries out the next call of each method, and its answer is lost."""
    left = list(methods)
    post = requests.Session.post

    def post_and_lose(self: Any, url: str, **options: Any) -> Any:
        answer = post(self, url, **options)
        if options["json"]["method"] in left:
            left.remove(options["json"]["method"])
            raise requests.ReadTimeout
        return answer

    monkeypatch.setattr(requests.Session, "post", post_and_lose)
