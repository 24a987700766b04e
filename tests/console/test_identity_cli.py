"""`onethread identity`: every command by its main paths; what is wrong is said in one line."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from console.cli import main
from console.identity_cli import APART
from identity.rules import PACKAGED_RULES
from mappings.records import Handle, Message
from stores.database import Stores
from tests.identity.worlds import answer_of, contact, email, evidence, hubspot, message, messenger, phone, whatsapp
from tests.targets.sending_world import World

pytestmark = pytest.mark.usefixtures("own_folder")


def wrote(*handles: Handle, minute: int) -> Message:
    """A message of a conversation of its own."""
    made = message(*handles, minute=minute, name="Ottilie Brandvold")
    return made.model_copy(update={"conversation_key": f"whatsapp:1:{handles[0].value}"})


@pytest.fixture
def world(stores: Stores) -> World:
    made = World(stores)
    made.take(
        wrote(whatsapp("u"), phone(1), minute=1),
        wrote(messenger("x"), minute=2),
        contact("7", phone(1), email("ada"), minute=3), contact("8", email("byron"), minute=4),
    )  # fmt: skip
    made.resolver.resolve([evidence(email("ada"), email("byron"), minute=5)])
    made.archive.follow_graph()
    return made


def identity(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["identity", *arguments])


def said(*arguments: str) -> str:
    result = identity(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    """The one line that a person is told; no traceback."""
    result = identity(*arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


def person(world: World, name: str) -> str:
    [line] = [one for one in said("show", name).splitlines() if one.startswith("person ")]
    return line.split()[1]


def test_show_tells_a_person_by_any_of_its_handles(world: World) -> None:
    text = said("show", "+1 212 555 0101")
    assert text == said("show", "whatsapp_user:u") == said("show", person(world, "ada@mail.example"))
    for words in (
        "Ottilie Brandvold",
        "whatsapp_user:portfolio:u",
        "ada@mail.example",
        "conversations: 1, 1 unanswered",
    ):
        assert words in text
    assert "open conflict: byron@mail.example and hubspot_contact:1001:8: at most 1 hubspot_contact per person" in text


def test_show_tells_why_a_handle_is_shared_and_what_was_merged(world: World) -> None:
    world.take(contact("9", phone(1), minute=9))
    assert "shared: several people use it: seen with 2 hubspot_contact" in said("show", "+12125550101")
    ids = {person(world, "messenger_psid:x"), person(world, "whatsapp_user:u")}
    said("same", "messenger_psid:x", "whatsapp_user:u", "--by", "ann")
    [lost] = ids - {person(world, "messenger_psid:x")}
    assert f"merged from: {lost}" in said("show", "whatsapp_user:u")


def test_why_prints_the_chain(world: World) -> None:
    lines = said("why", "whatsapp_user:u", "ada@mail.example").splitlines()
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [
        "whatsapp_user:portfolio:u - +12125550101", "+12125550101 - ada@mail.example",
    ]  # fmt: skip
    assert "message, verified, 2026-01-01 00:01 UTC" in lines[1]


def test_why_not_says_what_keeps_them_apart_and_ends_with_three(world: World) -> None:
    result = identity("why", "hubspot_contact:7", "hubspot_contact:8")
    assert result.exit_code == APART
    assert "limit: at most 1 hubspot_contact per person" in result.output
    said("different", "messenger_psid:x", "whatsapp_user:u", "--by", "ann", "--reason", "two sisters")
    result = identity("why", "messenger_psid:x", "whatsapp_user:u")
    assert "(two sisters)" in result.output
    assert "to take it back: onethread identity undo 1" in result.output


def test_same_tells_what_moved_and_undo_brings_it_all_back(world: World) -> None:
    before = answer_of(world.stores)
    would = said("same", "messenger_psid:x", "ada@mail.example", "--by", "ann", "--dry-run")
    assert "would merge: " in would
    assert answer_of(world.stores) == before
    text = said("same", "messenger_psid:x", "ada@mail.example", "--by", "ann")
    assert "decision 1; to take it back: onethread identity undo 1" in text
    assert "merge: " in text
    assert "conversation: whatsapp, " in text
    assert world.graph.person_of(messenger("x")) == world.graph.person_of(email("ada"))
    text = said("undo", "1", "--by", "bob")
    assert "split: " in text
    assert answer_of(world.stores) == before


def test_same_of_two_persons_joins_them_by_their_contacts(world: World) -> None:
    text = said("same", person(world, "hubspot_contact:7"), person(world, "hubspot_contact:8"))
    assert "of hubspot_contact:1001:7 and hubspot_contact:1001:8" in text
    assert world.graph.person_of(hubspot("7")) == world.graph.person_of(hubspot("8"))


def test_shared_private_and_recycled_speak_of_one_handle(world: World) -> None:
    said("shared", "+12125550101")
    assert world.graph.person_of(phone(1)) != world.graph.person_of(whatsapp("u"))
    said("undo", "1")
    said("private", "+12125550101")
    said("recycled", "+12125550101", "--since", "2026-06-01")
    assert world.graph.person_of(phone(1)) != world.graph.person_of(whatsapp("u"))
    assert "decision 3: recycled +12125550101 since 2026-06-01" in said("decisions")


def test_decisions_are_listed_with_who_and_why_and_those_taken_back_on_demand(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "nobody has decided anything yet" in said("decisions")
    monkeypatch.setenv("USER", "carla")
    said("different", "messenger_psid:x", "whatsapp_user:u", "--reason", "two sisters")
    assert "by carla on" in said("decisions")
    assert said("decisions").rstrip().endswith("two sisters")
    said("undo", "1", "--by", "bob")
    assert "nobody has decided" in said("decisions")
    assert "(taken back by bob on" in said("decisions", "--all")


def test_review_lists_pairs_with_the_commands_to_decide_them(world: World) -> None:
    assert "2 pairs" not in said("review")
    assert "1 pairs to look at (1 new, 0 gone)" in said("suggest")
    text = said("review")
    assert "suggestion: 9" in text
    commands = [
        line.split("onethread identity ")[1].split("   or")[0] for line in text.splitlines() if "   or: " in line
    ]
    assert len(commands) == 2
    for command in commands:
        said(*command.split(), "--by", "ann")
    assert "nothing to look at" in said("review")


def test_review_as_json_has_everything_for_a_program(world: World) -> None:
    said("suggest")
    items = json.loads(said("review", "--json"))
    assert {note["source"] for item in items for note in item["notes"]} == {"suggestion", "conflict"}
    [reasons] = [note["reasons"] for item in items for note in item["notes"] if note["reasons"]]
    assert {"what", "outcome", "bits"} == set(reasons[0])
    assert said("review", "--json", "--limit", "1").count('"state"') == 1


def test_a_second_suggest_at_the_same_time_leaves_it_to_the_first(world: World) -> None:
    with world.stores.lock("identity-suggest"):
        assert "another `onethread identity suggest` is at work" in said("suggest")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nobody@mail.example"], "nothing is known of"),
        (["show", "ann"], "is no handle: write an e-mail address"),
        (["show", "00000000-0000-7000-8000-000000000000"], "there is no person"),
        (["why", "whatsapp_user:u", "messenger_psid:nobody"], "nothing is known of"),
        (["same", "whatsapp_user:u", "+12125550101", "--dry-run", "--by", "ann"], ""),
        (["same", "whatsapp_user:u", "whatsapp_user:u"], "both name the same"),
        (["undo", "7"], "`onethread identity decisions` lists"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(world: World, arguments: list[str], words: str) -> None:
    if words:
        assert words in refused(*arguments)
    else:
        assert "nobody would move" in said(*arguments)


def test_other_rules_than_the_graph_s_are_refused_by_every_command_that_could_move_somebody(
    world: World, tmp_path: Path
) -> None:
    before = answer_of(world.stores)
    other = tmp_path / "rules.yml"
    other.write_text(PACKAGED_RULES.read_text(encoding="utf-8").replace("person: 60", "person: 2"), encoding="utf-8")
    for arguments in (
        ["same", "whatsapp_user:u", "messenger_psid:x"],
        ["undo", "1"],
        ["suggest"],
        ["show", "whatsapp_user:u"],
    ):
        assert "ONETHREAD_IDENTITY_RULES_FILE" in refused("--rules-file", str(other), *arguments)
    assert answer_of(world.stores) == before


def test_no_handle_gets_into_a_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for arguments in (["suggest"], ["review"], ["same", "whatsapp_user:u", "messenger_psid:x"], ["undo", "1"],
                      ["show", "ada@mail.example"], ["why", "ada@mail.example", "+12125550101"]):  # fmt: skip
        said(*arguments)
    for secret in ("ada@mail", "2125550101", "Ottilie", "brandvold"):
        assert secret not in caplog.text
