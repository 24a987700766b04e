"""`onethread identity export`, `erase` and `erasures`."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import click
import pytest
from click.testing import CliRunner, Result

from console.identity_privacy import COMMANDS, OVERDUE
from identity.erasure import Eraser
from mappings.records import Handle
from stores.database import Stores
from tests.identity.erasure_world import CONTACT, EMAIL, PAGE, PHONE, Life, message


@click.group()
@click.pass_context
def identity(context: click.Context) -> None:
    """What the commands hang on."""
    context.obj = None


for one in COMMANDS:
    identity.add_command(one)


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(identity, arguments, input=answer)


@pytest.fixture
def life(stores: Stores, state_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Life:
    monkeypatch.chdir(tmp_path)
    made = Life(stores, state_url)
    made.live()
    return made


def known_in(path: Path) -> dict[str, Any]:
    text = ZipFile(path).read("person.json") if path.suffix == ".zip" else (path / "person.json").read_bytes()
    found: dict[str, Any] = json.loads(text)
    return found


def texts(records: Sequence[dict[str, Any]]) -> set[str]:
    return {str(record["text"]) for record in records}


def test_an_export_has_everything_of_one_person_and_nothing_of_another(life: Life, tmp_path: Path) -> None:
    done = run("export", life.ana(), "--to", "ana.zip")
    assert done.exit_code == 0, done.output
    assert done.output == "ana.zip: 6 messages, 2 files\n"
    assert stat.S_IMODE((tmp_path / "ana.zip").stat().st_mode) == 0o600
    known = known_in(tmp_path / "ana.zip")
    assert texts(known["messages"]) == {
        "How is my parrot?", "A parrot in company", "Is the parrot well? Anabel", "The parrot is well.",
        "My green parrot again", "Here: the parrot",
    }  # fmt: skip
    assert {one["kind"] for one in known["handles"]} == {
        "phone", "email", "whatsapp_user", "messenger_psid", "hubspot_contact"
    }  # fmt: skip
    assert {one["method"] for one in known["evidence"]} >= {"message", "contact", "account_link", "contact_card"}
    assert {one["change"] for one in known["message_changes"]} == {"edit", "react"}
    assert {one["value"] for one in known["names"]} == {"Anabel Canary", "en_US"}
    assert {one["status"] for one in known["receipts"]} == {"delivered", "read"}
    assert [one["status"] for one in known["consents"]] == ["opted_in"]
    assert [one["record_id"] for one in known["contacts"]] == ["5001"]
    assert [one["reply"]["text"] for one in known["replies"]] == ["Dear Anabel, the parrot is on its way"]
    assert [one["payload"]["text"] for one in known["parked"]] == ["a parrot?"]
    assert [one["from"] for one in known["spool"]] == [EMAIL.value]
    assert [one["delivery_id"] for one in known["deliveries"]] == [1, 2]
    assert known["crm_contacts"] == [{"crm": "hubspot", "account": "8800001", "record_id": "9001", "made_by_us": True}]
    assert len(known["crm_records"]) == 6
    assert ZipFile(tmp_path / "ana.zip").read("media/0001.png").endswith(b"parrot picture")
    (reply,) = known["replies"]
    assert ZipFile(tmp_path / "ana.zip").read(reply["reply"]["attachments"][0]["exported_as"]).endswith(b"invoice")
    ours = {name: value for name, value in known.items() if name != "deliveries"}  # a raw delivery may hold others
    assert "dog" not in json.dumps(ours)


def test_an_export_into_a_folder_is_for_its_owner_alone(life: Life, tmp_path: Path) -> None:
    assert run("export", EMAIL.value, "--to", "ana").exit_code == 0
    assert known_in(tmp_path / "ana")["person"]["person_id"] == life.ana()
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "ana", *(tmp_path / "ana").rglob("*")]
    }
    assert modes == {"ana": 0o700, "person.json": 0o600, "media": 0o700, "0001.png": 0o600, "0002.png": 0o600}
    again = run("export", EMAIL.value, "--to", "ana")
    assert again.exit_code == 1
    assert "is there already" in str(again.exception)


def test_an_export_after_a_split_has_exactly_theirs(life: Life, tmp_path: Path) -> None:
    life.resolver.decide("different", [PAGE, EMAIL], actor="ann", reason="a sister")
    sides = {}
    for name, handle in (("page", PAGE), ("mail", EMAIL)):
        assert run("export", life.graph.person_of(handle) or "", "--to", name).exit_code == 0
        sides[name] = known_in(tmp_path / name)
    assert texts(sides["page"]["messages"]) == {"My green parrot again", "Here: the parrot"}
    assert texts(sides["mail"]["messages"]) == {
        "How is my parrot?", "A parrot in company", "Is the parrot well? Anabel", "The parrot is well."
    }  # fmt: skip
    assert [one["value"] for one in sides["page"]["handles"]] == [PAGE.value]
    assert {one["value"] for one in sides["mail"]["handles"]} >= {EMAIL.value, PHONE.value, CONTACT.value}
    assert [one["reason"] for one in sides["page"]["decisions"]] == ["a sister"]
    assert sides["page"]["replies"] == []
    assert len(sides["mail"]["replies"]) == 1


def test_an_export_of_a_former_owner_ends_with_the_change_of_hands(
    stores: Stores, state_url: str, tmp_path: Path
) -> None:
    life = Life(stores, state_url)
    life.take([message(1, PHONE, "old words", 1), message(2, PHONE, "new words", 5000)])
    from tests.identity.erasure_world import at

    life.resolver.decide("recycled", [PHONE], actor="ann", since=at(1000))
    for place, moment in (("old", at(0)), ("new", None)):
        person_id = life.graph.person_of(PHONE, moment) or ""
        assert run("export", person_id, "--to", str(tmp_path / place)).exit_code == 0
    old, new = known_in(tmp_path / "old"), known_in(tmp_path / "new")
    assert (texts(old["messages"]), texts(new["messages"])) == ({"old words"}, {"new words"})
    assert [(one["first_at"][:16], one["last_at"][:16]) for one in (*old["evidence"], *new["evidence"])] == [
        ("2026-03-01T12:01", "2026-03-02T04:39"), ("2026-03-02T04:40", "2026-03-04T23:20")
    ]  # fmt: skip
    assert old["handles"] == [{**PHONE.model_dump(), "since": None, "until": at(1000).isoformat()}]
    assert new["handles"] == [{**PHONE.model_dump(), "since": at(1000).isoformat(), "until": None}]


def test_a_dry_run_says_what_would_go_and_erases_nothing(life: Life) -> None:
    ana = life.ana()
    done = run("erase", EMAIL.value, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "  6 messages\n" in done.output
    assert "hubspot 8800001 contact 9001: made by onethread, will be deleted" in done.output
    assert "parrot" not in done.output
    assert life.ana() == ana


def test_it_asks_before_it_erases(life: Life) -> None:
    assert run("erase", life.ana(), answer="n\n").exit_code == 1
    assert life.ana() != ""
    assert run("erase", life.ana(), answer="y\n").exit_code == 0
    assert life.ana() == ""


def test_erase_says_what_went_and_what_is_waited_for(life: Life) -> None:
    ana = life.ana()
    done = run("erase", EMAIL.value, "--yes", "--reason", "asked on the phone")
    assert done.exit_code == 0, done.output
    assert "erased: 6 messages\n" in done.output
    assert f"person {ana}: erased here" in done.output
    assert "waits for hubspot 8800001, the receiver and the taps (1 deliveries)" in done.output
    again = run("erase", ana, "--yes")
    assert again.exit_code == 0
    assert "waits for hubspot 8800001" in again.output


def test_nobody_is_an_error_that_says_so(life: Life) -> None:
    done = run("erase", "018f0000-0000-7000-8000-000000000000", "--yes")
    assert done.exit_code == 1
    assert "nobody is known" in str(done.exception)
    assert run("export", "nobody@mail.example").exit_code == 1


def test_erasures_shows_what_is_open_and_fails_when_one_is_overdue(life: Life) -> None:
    assert run("erasures").output == "every erasure is done\n"
    assert run("erase", life.ana(), "--yes", "--due-days", "0").exit_code == 0
    late = run("erasures")
    assert late.exit_code == OVERDUE
    assert "OVERDUE, waits for hubspot 8800001" in late.output
    life.run_tap()
    life.run_tap()
    life.confirm(Eraser(life.stores, life.rules).waiting()[0].erasure)
    done = run("erasures")
    assert (done.exit_code, done.output) == (0, "every erasure is done\n")


def test_tombstones_are_dropped_when_their_time_is_over(life: Life) -> None:
    eraser = Eraser(life.stores, life.rules, datetime.now(UTC) - timedelta(days=10))
    eraser.erase(life.ana(), due=timedelta(days=30))
    kept, dropped = run("erasures", "--forget-tombstones-days", "20"), run("erasures", "--forget-tombstones-days", "5")
    assert kept.output.startswith("dropped 0 tombstones")
    assert not dropped.output.startswith("dropped 0 tombstones")
    assert life.graph.tombstones.exist() is False


def test_a_handle_that_is_nobodys_is_named_as_such(life: Life) -> None:
    typed = Handle(kind="email", value="typed.canary@mail.example")
    done = run("export", typed.value)
    assert done.exit_code == 1
    assert "nobody's" in str(done.exception)
