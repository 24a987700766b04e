"""tap-import: lines, rows and mails as records; resumed, repeated and replayed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mappings import fold
from mappings.errors import PayloadError, SettingsError
from mappings.from_email import EmailContext, records_from_email
from mappings.records import Message
from stores.database import Stores
from stores.parked import Parked
from taps.importing import ImportSettings, TapImport
from tests.contract.mapping import FIXTURES
from tests.contract.tap import TapContract

RunTap = Callable[[Any], list[dict[str, Any]]]
START = "From ada@mail.example Sun Mar  1 12:00:00 2026\n"
MAIL = (
    "Message-ID: <1@mail.example>\nFrom: Ada <ada@mail.example>\nTo: shop@shop.example\n"
    "Date: Sun, 01 Mar 2026 12:00:00 +0000\nSubject: Vase\n\nIs it back?\n"
)


def message(number: int, **more: Any) -> dict[str, Any]:
    return {"kind": "message", "id": f"m-{number}", "sent_at": "2026-03-01T12:00:00Z",
            "who": {"id": number, "email": f"p{number}@mail.example"}, "text": f"Hello {number}", **more}  # fmt: skip


class FileSource:
    """One JSONL file that grows."""

    tap_class = TapImport
    parts = {  # noqa: RUF012
        1: ["message", "change_edit", "form", "receipt"],
        2: ["message_out", "same_person", "consent", "call"],
    }

    def __init__(self, folder: Path, state_url: str) -> None:
        self.path = folder / "history.jsonl"
        self.path.touch()
        self._state_url = state_url

    def config(self, **more: Any) -> dict[str, Any]:
        return {"state_url": self._state_url, "files": [str(self.path)], "channel": "chat", **more}

    def write(self, *values: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in values)

    def add(self, part: int) -> None:
        for name in self.parts[part]:
            self.write(json.loads((FIXTURES / "custom" / f"{name}.json").read_text(encoding="utf-8")))

    def add_bad(self) -> None:
        self.write({"kind": "message", "id": 1, "txt": "misspelt"})


class TestTapImport(TapContract):
    @pytest.fixture
    def source(self, tmp_path: Path, state_url: str) -> FileSource:
        return FileSource(tmp_path, state_url)


@pytest.fixture
def source(tmp_path: Path, state_url: str) -> FileSource:
    return FileSource(tmp_path, state_url)


def messages_of(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == "messages"]


def texts(messages: list[dict[str, Any]]) -> list[str | None]:
    return [one["text"] for one in messages_of(messages)]


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def test_a_line_becomes_a_message_that_says_where_it_is_from(source: FileSource, run_tap: RunTap) -> None:
    source.write(message(1))
    (found,) = messages_of(run_tap(TapImport(config=source.config())))
    assert (found["message_key"], found["seen_by"], found["raw_ref"], found["received_at"]) == (
        "chat:chat:m-1", "import", "import:history.jsonl#1", None,
    )  # fmt: skip


def test_bad_lines_are_parked_with_file_line_and_reason(
    source: FileSource, run_tap: RunTap, stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    bad: list[Any] = ["{cut", message(2, sent_at=None), message(3, colour="blue"), [message(4)], "7"]
    source.write(message(1), *bad, message(9))
    assert texts(run_tap(TapImport(config=source.config()))) == ["Hello 1", "Hello 9"]
    parked = sorted(Parked(stores).list(), key=lambda one: one.parked_id)
    assert [one.raw_ref for one in parked] == [f"import:history.jsonl#{line}" for line in (2, 3, 4, 5, 6)]
    for one, said in zip(
        parked, ["not JSON", "sent_at: is missing", "colour: is no field", "is a list", "neither a record"], strict=True
    ):
        assert one.reason.startswith(f"history.jsonl, line {one.payload['line']}: ")
        assert said in one.reason
    assert "Hello" not in caplog.text


def test_a_file_that_is_imported_twice_parks_a_bad_line_once(
    source: FileSource, run_tap: RunTap, stores: Stores
) -> None:
    source.write("{cut")
    for _ in range(2):
        run_tap(TapImport(config=source.config()))
    (parked,) = Parked(stores).list()
    assert parked.tries == 2


def test_a_parked_line_is_read_again_without_its_file(
    source: FileSource, run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source.write(message(1), message(2))
    with monkeypatch.context() as patch:
        patch.setattr("taps.importing.records_from_custom", lambda *_: (_ for _ in ()).throw(TypeError()))
        state = state_of(run_tap(TapImport(config=source.config())))
    parked = Parked(stores)
    assert {one.reason.partition(": ")[2] for one in parked.list()} == {"the mapping failed with TypeError"}
    parked.ask_replay([one.parked_id for one in parked.list()])
    source.path.write_text("", encoding="utf-8")
    other = source.config(channel="another", account="x")
    again = run_tap(TapImport(config=other, state=state))
    assert [one["message_key"] for one in messages_of(again)] == ["chat:chat:m-1", "chat:chat:m-2"]
    run_tap(TapImport(config=other, state=state_of(again)))
    assert [one.status for one in parked.list(None)] == ["replayed", "replayed"]


def test_another_file_under_the_same_name_is_read_from_its_start(source: FileSource, run_tap: RunTap) -> None:
    source.write(message(1), message(2))
    state = state_of(run_tap(TapImport(config=source.config())))
    source.path.write_text("", encoding="utf-8")
    source.write(message(3), message(4), message(5))
    assert texts(run_tap(TapImport(config=source.config(), state=state))) == ["Hello 3", "Hello 4", "Hello 5"]


def test_a_file_that_is_read_in_another_way_is_read_again(source: FileSource, run_tap: RunTap) -> None:
    source.write(message(1))
    state = state_of(run_tap(TapImport(config=source.config())))
    found = messages_of(run_tap(TapImport(config=source.config(account="rome"), state=state)))
    assert [one["account"] for one in found] == ["rome"]


def test_several_files_are_read_in_order_and_resumed_each(source: FileSource, run_tap: RunTap, tmp_path: Path) -> None:
    second = tmp_path / "second.jsonl"
    second.write_text(json.dumps(message(2)) + "\n", encoding="utf-8")
    source.write(message(1))
    config = source.config(files=[str(source.path), str(second)])
    first = run_tap(TapImport(config=config))
    assert texts(first) == ["Hello 1", "Hello 2"]
    source.write(message(3))
    assert texts(run_tap(TapImport(config=config, state=state_of(first)))) == ["Hello 3"]


def test_the_bookmark_holds_no_text(source: FileSource, run_tap: RunTap) -> None:
    source.write(message(1, text="a private word"))
    state = json.dumps(state_of(run_tap(TapImport(config=source.config()))))
    assert "private" not in state
    assert "p1@mail" not in state


# Tables


def test_a_table_is_read_with_its_columns_mapped(source: FileSource, run_tap: RunTap, tmp_path: Path) -> None:
    path = tmp_path / "Export.csv"
    path.write_text(
        "Datum;E-Mail;Richtung;Nachricht;Filiale;Notiz\n"
        '01.03.2026 13:00;Ada@Mail.Example;Received;"Ist sie da?\nDie Vase";Rom;geheim\n'
        "gestern;ada@mail.example;Sent;Ja;Rom;\n",
        encoding="utf-8",
    )
    columns = {"Datum": "sent_at", "E-Mail": "email", "Richtung": "direction", "Nachricht": "text", "Notiz": "-"}
    config = source.config(
        files=[str(path)], columns=columns, timezone="Europe/Rome", time_format="%d.%m.%Y %H:%M", account="shop"
    )
    (found,) = messages_of(run_tap(TapImport(config=config)))
    assert (found["sent_at"], found["text"], found["content"]) == (
        "2026-03-01T12:00:00Z", "Ist sie da?\nDie Vase", {"fields": {"Filiale": "Rom"}},
    )  # fmt: skip
    assert found["handles"] == [{"kind": "email", "scope": None, "value": "ada@mail.example"}]
    again = messages_of(run_tap(TapImport(config=config)))
    assert [one["message_key"] for one in again] == [found["message_key"]]


def test_a_parked_row_is_read_again_with_the_columns_that_it_had(
    source: FileSource, run_tap: RunTap, stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text('Wann|Wer|text\n2026-03-01T12:00:00Z|ada@mail.example|"a|b"\n', encoding="utf-8")
    config = source.config(files=[str(path)], columns={"Wann": "sent_at", "Wer": "email"})
    with monkeypatch.context() as patch:
        patch.setattr("taps.importing.records_from_custom", lambda *_: (_ for _ in ()).throw(TypeError()))
        state = state_of(run_tap(TapImport(config=config)))
    parked = Parked(stores)
    parked.ask_replay([one.parked_id for one in parked.list()])
    assert texts(run_tap(TapImport(config=source.config(), state=state))) == ["a|b"]


# Mails


def mbox_config(source: FileSource, path: Path, **more: Any) -> dict[str, Any]:
    settings = {"files": [str(path)], "account": "Shop@Shop.Example", **more}
    return {name: value for name, value in source.config(**settings).items() if name != "channel"}


def test_a_mailbox_is_read_as_the_mailbox_itself_would_be(source: FileSource, run_tap: RunTap, tmp_path: Path) -> None:
    path = tmp_path / "takeout.mbox"
    out = MAIL.replace("<1@", "<2@").replace("From: Ada <ada@mail.example>\nTo: shop@shop.example",
                                             "From: omar@shop.example\nTo: ada@mail.example")  # fmt: skip
    path.write_text(f"{START}{MAIL}\n>From me\n\n{START}{out}\n", encoding="utf-8")
    first, second = messages_of(run_tap(TapImport(config=mbox_config(source, path, own_addresses=["@shop.example"]))))
    assert (first["channel"], first["account"], first["seen_by"], first["raw_ref"]) == (
        "email", "shop@shop.example", "import", "import:takeout.mbox#1",
    )  # fmt: skip
    assert (first["direction"], second["direction"]) == ("inbound", "outbound")
    live = EmailContext(
        account="shop@shop.example", own_addresses=frozenset(), folder="INBOX", uid=7, uidvalidity=1,
        internal_date=datetime(2026, 3, 1, 12, 0, 3, tzinfo=UTC),
    )  # fmt: skip
    (polled,) = records_from_email((MAIL + "\nFrom me\n").replace("\n", "\r\n").encode(), live)
    assert isinstance(polled, Message)
    imported = Message.model_validate(first)
    assert imported.message_key == polled.message_key
    assert fold.is_same_mail(imported, polled)


def test_a_mail_that_cannot_be_read_is_parked_and_the_next_is_read(
    source: FileSource, run_tap: RunTap, stores: Stores, tmp_path: Path
) -> None:
    path = tmp_path / "a.mbox"
    path.write_text(f"From nobody\nSubject: without any date\n\nx\n\n{START}{MAIL}", encoding="utf-8")
    first = run_tap(TapImport(config=mbox_config(source, path)))
    assert len(messages_of(first)) == 1
    (parked,) = Parked(stores).list()
    assert parked.reason.startswith("a.mbox, mail 1: ")
    parked_store = Parked(stores)
    parked_store.ask_replay([parked.parked_id])
    run_tap(TapImport(config=mbox_config(source, path), state=state_of(first)))
    assert parked_store.list()[0].tries == 2


def test_of_a_large_mail_the_header_is_kept(source: FileSource, run_tap: RunTap, tmp_path: Path) -> None:
    path = tmp_path / "a.mbox"
    path.write_text(START + MAIL + "x" * 5_000 + "\n", encoding="utf-8")
    (found,) = messages_of(run_tap(TapImport(config=mbox_config(source, path, max_mail_bytes=2_000))))
    assert (found["subject"], found["text"], found["flags"]) == ("Vase", None, ["oversized"])


# Settings


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("a.jsonl", {"channel": ""}, "give the channel"),
        ("a.mbox", {"channel": "", "account": "shop"}, "give the mailbox's address"),
        ("a.mbox", {"channel": "forms", "account": "shop@shop.example"}, "no other channel"),
        ("a.xlsx", {}, "of what format"),
        ("a.csv", {"columns": {"nowhere": "text"}}, "no column 'nowhere'"),
        ("a.csv", {"encoding": "klingon"}, "name the file's encoding"),
        ("b.mbox", {"channel": "", "account": "shop@shop.example"}, "is no mbox"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_read(
    source: FileSource, run_tap: RunTap, tmp_path: Path, name: str, more: dict[str, Any], said: str
) -> None:
    path = tmp_path / name
    path.write_text("From ada\nSubject: x\n\n" if name == "a.mbox" else "text,id\nx,1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=said):
        run_tap(TapImport(config=source.config(files=[str(path)], **more)))


def test_a_file_that_is_not_there_is_told_before_any_is_read(source: FileSource, run_tap: RunTap) -> None:
    source.write(message(1))
    tap = TapImport(config=source.config(files=[str(source.path), "nowhere.jsonl"]))
    with pytest.raises(SettingsError, match=r"no file nowhere\.jsonl"):
        run_tap(tap)
    assert tap.emitted == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "xlsx"},
        {"separator": ";;"},
        {"separator": '"'},
        {"timezone": "Mars/Olympus"},
        {"timezone": "/etc/passwd"},
        {"channel": "A B"},
        {"default_region": "England"},
    ],
)
def test_a_wrong_setting_is_named(source: FileSource, wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        _ = TapImport(config=source.config(**wrong)).settings


def test_what_meltano_hands_over_empty_is_not_set(source: FileSource, run_tap: RunTap) -> None:
    source.write(message(1))
    optional = [name for name, field in ImportSettings.model_fields.items() if field.default is None]
    empty = {name: "" for name in optional if name not in {"channel", "state_url"}}
    assert texts(run_tap(TapImport(config=source.config(**empty)))) == ["Hello 1"]


def test_a_look_parks_nothing_and_makes_no_state(source: FileSource, tmp_path: Path) -> None:
    source.write(message(1), "{cut")
    outcomes: Iterator[Any] = TapImport(config=source.config()).look()
    found = [(piece.line, isinstance(outcome, PayloadError)) for _, piece, outcome in outcomes]
    assert found == [(1, False), (2, True)]
    assert not (tmp_path / "state").exists()


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in ImportSettings.model_fields.items() if not field.description] == []
