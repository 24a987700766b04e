"""`onethread import` and `onethread custom`: through the whole pipe, in parts, twice, and dry."""

from __future__ import annotations

import base64
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import console.importing
from console.cli import main
from console.run import EXIT_PARKED
from mappings.from_custom import contract_schema
from mappings.records import ArchivedMessage
from stores.archive import Archive
from stores.database import Stores
from stores.graph import Graph
from stores.parked import Parked
from taps.webhooks.custom import key_of_secret

pytestmark = pytest.mark.usefixtures("own_folder")


def onethread(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


def message(number: int, **more: Any) -> dict[str, Any]:
    who = {"id": number % 5, "email": f"p{number % 5}@mail.example", "verified": True}
    return {"kind": "message", "id": number, "sent_at": f"2026-03-01T12:00:{number % 60:02}Z", "who": who,
            "text": f"Hello {number}", **more}  # fmt: skip


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(message(number)) + "\n" for number in range(50)), encoding="utf-8")
    return path


def archived(stores: Stores) -> list[ArchivedMessage]:
    rows = Archive(stores).changes("messages", limit=1_000_000)
    return [ArchivedMessage.model_validate(record) for _, record in rows]


def test_a_file_goes_through_the_whole_pipe_in_parts(
    history: Path, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.importing, "AT_A_TIME", 7)
    result = onethread("import", str(history), "--channel", "chat")
    assert (result.exit_code, result.output) == (
        0, "50 read: 50 messages; new or changed in the archive: 50 messages\n",
    )  # fmt: skip
    found = archived(stores)
    assert {one.text for one in found} == {f"Hello {number}" for number in range(50)}
    assert len({one.person_id for one in found}) == 5
    for person_id in {str(one.person_id) for one in found}:
        assert {handle.kind for handle in Graph(stores).handles_of(person_id)} == {"custom_user", "email"}


def test_a_second_import_doubles_nothing(history: Path, stores: Stores) -> None:
    for expected in ("50 messages", "nothing"):
        result = onethread("import", str(history), "--channel", "chat")
        assert result.output.endswith(f"new or changed in the archive: {expected}\n")
    assert len(archived(stores)) == 50


def test_what_cannot_be_read_is_parked_and_told(history: Path, stores: Stores) -> None:
    with history.open("a", encoding="utf-8") as file:
        file.write('{"kind": "message"}\n' + json.dumps(message(99)) + "\n")
    result = onethread("import", str(history), "--channel", "chat")
    assert result.exit_code == EXIT_PARKED
    assert "1 parked, with file, line and reason" in result.output
    assert len(archived(stores)) == 51
    (parked,) = Parked(stores).list()
    assert parked.reason == "history.jsonl, line 51: Custom chat: who: is missing"


def test_what_was_asked_for_again_is_marked_when_it_is_through(
    history: Path, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("taps.importing.records_from_custom", lambda *_: (_ for _ in ()).throw(TypeError()))
        assert onethread("import", str(history), "--channel", "chat").exit_code == EXIT_PARKED
    assert onethread("parked", "replay", "--all").exit_code == 0
    empty = history.with_name("empty.jsonl")
    empty.touch()
    assert onethread("import", str(empty), "--channel", "chat").exit_code == 0
    assert (len(archived(stores)), Parked(stores).count(), Parked(stores).count("replayed")) == (50, 0, 50)


def test_a_dry_run_says_what_is_there_and_writes_nothing(history: Path, tmp_path: Path) -> None:
    with history.open("a", encoding="utf-8") as file:
        file.write("{cut\n" * 30)
    result = onethread("import", str(history), "--channel", "chat", "--dry-run")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == "history.jsonl: 30 lines or mails that cannot be read, 50 messages of kind text"
    assert lines[1].startswith("  history.jsonl, line 51: ")
    assert len(lines) == 1 + console.importing.MOST_PROBLEMS + 1
    assert lines[-1] == "  and 10 more"
    assert not (tmp_path / "state").exists()
    good = history.with_name("good.jsonl")
    good.write_text(json.dumps(message(1)) + "\n", encoding="utf-8")
    assert onethread("import", str(good), "--channel", "chat", "--dry-run").exit_code == 0


def test_a_table_is_mapped_by_arguments(tmp_path: Path, stores: Stores) -> None:
    path = tmp_path / "calls.csv"
    path.write_text("When;Number;Length=s;Secret\n01/03/2026 13:00;07700 900123;95;x\n", encoding="utf-8")
    result = onethread(
        "import", str(path), "--channel", "calls", "--account", "+12025550100", "--map", "When=sent_at",
        "--map", "Number=phone", "--map", "Length=s=call_seconds", "--map", "Secret=-", "--timezone", "Europe/Rome",
        "--time-format", "%d/%m/%Y %H:%M", "--default-region", "GB", "--id-scope", "shop",
    )  # fmt: skip
    assert result.exit_code == EXIT_PARKED, result.output  # a call is no message: the kind is not said
    path.write_text("kind;" + path.read_text().replace("\n01/", "\ncall;01/"), encoding="utf-8")
    result = onethread(
        "import", str(path), "--channel", "calls", "--account", "+12025550100", "--map", "When=sent_at",
        "--map", "Number=phone", "--map", "Length=s=call_seconds", "--map", "Secret=-", "--timezone", "Europe/Rome",
        "--time-format", "%d/%m/%Y %H:%M", "--default-region", "GB",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (call,) = archived(stores)
    assert (call.kind, call.account, call.content) == ("call", "+12025550100", {"call": {"seconds": 95.0}})
    assert call.handles[0].value == "+447700900123"


def test_a_mailbox_is_imported(tmp_path: Path, stores: Stores) -> None:
    path = tmp_path / "takeout.mbox"
    path.write_text(
        "From x@mail.example Sun Mar  1 12:00:00 2026\nMessage-ID: <1@a.example>\nFrom: omar@shop.example\n"
        "To: ada@mail.example\nSubject: Hello\n\nDear Ada\n",
        encoding="utf-8",
    )
    result = onethread("import", str(path), "--account", "shop@shop.example", "--own-address", "@shop.example")
    assert result.exit_code == 0, result.output
    (mail,) = archived(stores)
    assert (mail.channel, mail.direction, mail.seen_by) == ("email", "outbound", "import")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give the channel"),
        (["--channel", "chat", "--map", "nonsense"], "--map nonsense: write it as COLUMN=FIELD"),
        (["--channel", "chat", "--timezone", "Nowhere"], "timezone"),
        (["--channel", "chat", "--format", "mbox"], "mbox is mail"),
    ],
)
def test_what_cannot_be_is_one_line(history: Path, arguments: list[str], said: str) -> None:
    result = onethread("import", str(history), *arguments)
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert result.output.startswith("Error: ")
    assert said in result.output


def test_the_signals_of_the_process_are_its_own_again(history: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    onethread("import", str(history), "--channel", "chat")
    assert signal.getsignal(signal.SIGINT) == before


def test_the_schema_is_printed() -> None:
    assert json.loads(onethread("custom", "schema").output) == json.loads(json.dumps(contract_schema()))


def test_a_secret_is_new_each_time_and_one_that_is_taken() -> None:
    made = {onethread("custom", "secret").output.strip() for _ in range(3)}
    assert len(made) == 3
    for one in made:
        assert key_of_secret(one) == base64.b64decode(one.removeprefix("whsec_"))
