"""The `onethread` command: every command by its main paths; what is wrong is said in one line, without a secret."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr
from ruamel.yaml import YAML

import console.sending
from console.cli import main
from console.project import EDITABLE
from mappings.errors import MissingFieldError
from mappings.ids import reply_token
from stores.database import Stores
from stores.outbox import Outbox
from stores.parked import Parked
from stores.tokens import Token, Tokens
from targets.sending import Dispatcher
from tests.stores.test_outbox import nobody, reply
from tests.targets.sending_world import MIA, TOKEN, World, phone, running_world

FILES = {"meltano.yml", ".env.example", "opt-out-words.csv", *EDITABLE.values()}
SECRET = "a-secret-that-nobody-may-see"

pytestmark = pytest.mark.usefixtures("own_folder")


def onethread(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


def said(result: Result) -> str:
    """The one line that a person is told; no traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    return lines[0]


def commands(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command."""
    yield path
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))


# What it is


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_says_what_it_does(path: tuple[str, ...]) -> None:
    result = onethread(*path, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    sentence = result.output.split("\n\n")[1].strip()
    assert sentence.endswith((".", ":")) or len(sentence) > 20


def test_the_version_is_told() -> None:
    result = onethread("--version")
    assert (result.exit_code, "version" in result.output) == (0, True)


@pytest.mark.parametrize("arguments", [("nonsense",), ("--log-level", "LOUD", "status"), ("outbox", "decide", "abc")])
def test_what_nobody_understands_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    result = onethread(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


# A project


def test_init_writes_a_project_and_says_what_is_next() -> None:
    result = onethread("init", "shop")
    assert result.exit_code == 0
    assert {path.name for path in Path("shop").iterdir()} == FILES
    assert [line.split()[0] for line in result.output.splitlines()] == ["written"] * len(FILES) + ["next:"]
    assert {job["name"] for job in YAML(typ="safe").load(Path("shop/meltano.yml").read_text())["jobs"]} >= {"inbound"}
    values = [line for line in Path("shop/.env.example").read_text().splitlines() if line and not line.startswith("#")]
    assert values == []


def test_init_keeps_what_is_there() -> None:
    Path("meltano.yml").write_text("mine: true\n")
    result = onethread("init")
    assert Path("meltano.yml").read_text() == "mine: true\n"
    assert "kept    meltano.yml" in result.output
    assert Path("identity-rules.yml").exists()
    again = onethread("init")
    assert [line.split()[0] for line in again.output.splitlines()] == ["kept"] * len(FILES) + ["next:"]


def test_status_says_how_things_stand(stores: Stores) -> None:
    assert "outbox:     empty" in onethread("status").output
    Outbox(stores).add([reply()], nobody)
    Parked(stores).park("tap-whatsapp", "items", "k", MissingFieldError("no id"), {})
    output = onethread("status").output
    assert "outbox:     1 queued" in output
    assert "parked:     1" in output
    assert str(stores.folder) in output


# Settings


def test_settings_come_from_the_file_env_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONETHREAD_STATE_URL")
    Path(".env").write_text(f"ONETHREAD_STATE_URL=sqlite:///{tmp_path}/elsewhere\n")
    assert f"{tmp_path}/elsewhere" in onethread("status").output


@pytest.mark.parametrize(
    ("variables", "arguments", "words"),
    [
        ({"ONETHREAD_STATE_URL": f"mysql://u:{SECRET}@db/x"}, ["status"], "not supported"),
        ({"ONETHREAD_STATE_URL": f"postgresql://u:{SECRET}@127.0.0.1:1/x"}, ["status"], "does not answer"),
        ({"ONETHREAD_STATE_URL": "sqlite:////dev/null/state"}, ["status"], "ONETHREAD_STATE_URL"),
        (
            {
                "ONETHREAD_WHATSAPP_ACCESS_TOKEN": SECRET, "ONETHREAD_WHATSAPP_PHONE_NUMBER_ID": "1",
                "ONETHREAD_WHATSAPP_TIMEOUT_SECONDS": f"soon {SECRET}",
            },
            ["send"],
            "timeout_seconds",
        ),
        ({"ONETHREAD_POLICY_HUMAN_AGENT": SECRET}, ["send"], "human_agent"),
        ({"ONETHREAD_POLICY_MAX_REPLY_AGE_DAYS": "-1"}, ["send"], "max_reply_age_days"),
        ({"ONETHREAD_HUBSPOT_ACCESS_TOKEN": SECRET}, ["setup", "hubspot"], "portal_id"),
        ({"ONETHREAD_WHATSAPP_APP_SECRET": SECRET}, ["receive", "--port", "0"], "verify_token"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_in_one_line_without_any_value(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], arguments: list[str], words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = onethread(*arguments)
    line = said(result)
    assert words.lower() in line.lower()
    assert SECRET not in result.output + result.stderr


def test_a_missing_key_file_is_named_and_no_new_one_is_made(stores: Stores) -> None:
    Outbox(stores).add([reply()], nobody)
    key = stores.folder / "key.json"
    key.unlink()
    assert "key.json" in said(onethread("outbox"))
    assert not key.exists()


# Sending


@pytest.fixture
def world(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Mia wrote on WhatsApp; the environment has what is needed to answer her."""
    with running_world(stores) as made:
        made.whatsapp_customer("Mia", MIA)
        made.contact("2", phone(MIA))
        monkeypatch.setenv("ONETHREAD_WHATSAPP_ACCESS_TOKEN", TOKEN)
        monkeypatch.setenv("ONETHREAD_WHATSAPP_PHONE_NUMBER_ID", made.whatsapp.phone_number_id)
        settings = made.senders["whatsapp"].settings  # type: ignore[attr-defined]  # the real one
        monkeypatch.setenv("ONETHREAD_WHATSAPP_API_URL", settings.api_url)
        yield made


def test_send_with_nothing_queued_and_nothing_set_up_is_fine() -> None:
    result = onethread("send")
    assert (result.exit_code, result.stdout) == (0, "nothing to send\n")


def test_send_sends_what_is_queued(world: World) -> None:
    world.queue()
    result = onethread("send")
    assert (result.exit_code, result.stdout) == (0, "1 sent\n")
    assert world.seen_on_whatsapp() == ["It left today."]


def test_send_ends_with_one_and_the_reason_when_an_operator_must_act(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONETHREAD_WHATSAPP_ACCESS_TOKEN", SECRET)
    token = world.queue()
    result = onethread("send")
    assert (result.exit_code, result.stdout) == (1, "1 waiting\n")
    assert "check the access token" in result.stderr
    assert SECRET not in result.output + result.stderr
    assert world.state(token) == "queued"


@pytest.mark.parametrize("empty", ["", None])
def test_a_platform_of_which_only_the_number_is_set_is_not_set_up_for_sending(
    world: World, monkeypatch: pytest.MonkeyPatch, empty: str | None
) -> None:
    if empty is None:
        monkeypatch.delenv("ONETHREAD_WHATSAPP_ACCESS_TOKEN")
    else:
        monkeypatch.setenv("ONETHREAD_WHATSAPP_PHONE_NUMBER_ID", empty)
    token = world.queue()
    assert onethread("send").exit_code == 0
    assert world.receipts(token)["refused"].code == "not_configured"


def test_a_second_send_says_that_one_is_at_work(world: World, state_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.sending, "Dispatcher", partial(Dispatcher, wait_seconds=0))
    world.queue()
    with Stores(state_url).lock("send"):
        result = onethread("send")
    assert result.exit_code == 0
    assert "another `onethread send` is at work" in result.output
    assert world.seen_on_whatsapp() == []


# The outbox


def test_the_outbox_lists_replies_with_state_and_reason_and_without_their_words(stores: Stores) -> None:
    assert onethread("outbox").output == "no replies yet\n"
    outbox = Outbox(stores)
    outbox.add([reply(text="a very private sentence", channel="messenger")], nobody)
    (one,) = outbox.queued()
    outbox.begin(one.token, {"channel": "messenger"})
    outbox.mark_crashed()
    output = onethread("outbox").output
    assert one.token[:12] in output
    assert "unknown" in output
    assert "messenger" in output
    assert "it may have been sent" in output
    assert "private" not in output


@pytest.fixture
def doubtful(stores: Stores) -> str:
    """The token of a reply in doubt."""
    outbox = Outbox(stores)
    outbox.add([reply()], nobody)
    token = reply_token(reply().reply_key)
    outbox.begin(token, {"channel": "whatsapp"})
    outbox.mark_crashed()
    return token


@pytest.mark.parametrize(("decision", "state"), [("sent", "accepted"), ("not-sent", "queued"), ("cancel", "cancelled")])
def test_a_person_decides_by_the_first_letters_of_the_token(
    stores: Stores, doubtful: str, decision: str, state: str
) -> None:
    result = onethread("outbox", "decide", doubtful[:12], "--as", decision)
    assert result.exit_code == 0
    assert Outbox(stores).counts() == {state: 1}
    if decision != "not-sent":
        assert "settled already" in said(onethread("outbox", "decide", doubtful[:12], "--as", "sent"))


def test_a_token_that_names_none_or_several_changes_nothing(stores: Stores, doubtful: str) -> None:
    Outbox(stores).add([reply(moment="2026-11-01T12:00:01.000Z")], nobody)
    assert "0 replies start with" in said(onethread("outbox", "decide", "zzz", "--as", "sent"))
    assert "2 replies start with" in said(onethread("outbox", "decide", "", "--as", "sent"))
    assert Outbox(stores).counts() == {"queued": 1, "unknown": 1}


# What is parked


@pytest.fixture
def parked(stores: Stores) -> Parked:
    store = Parked(stores)
    for number in (1, 2):
        payload = {"text": f"private words {number}"}
        store.park("tap-whatsapp", "items", f"k{number}", MissingFieldError("no id"), payload, f"delivery:{number}#0")
    return store


def test_parked_lists_reasons_and_no_words(parked: Parked) -> None:
    output = onethread("parked").output
    assert output.count("MissingFieldError: no id") == 2
    assert "delivery:1#0" in output
    assert "private" not in output


def test_nothing_parked_is_said() -> None:
    assert onethread("parked").output == "nothing is parked\n"
    assert onethread("parked", "--status", "dropped").output == "nothing with status dropped\n"
    assert onethread("parked", "--status", "lost").exit_code == 2
    assert onethread("parked", "list", "--status", "dropped").output == "nothing with status dropped\n"


def test_parked_show_gives_the_payload_of_one(parked: Parked) -> None:
    assert "private words 2" in onethread("parked", "show", "2").output
    assert "nothing is parked under 99" in said(onethread("parked", "show", "99"))


def test_parked_replay_asks_for_one_or_for_all_and_says_how_many(parked: Parked) -> None:
    assert onethread("parked", "replay", "2", "99").output == "1 will be taken up by the next run\n"
    assert [one.parked_id for one in parked.to_replay("tap-whatsapp")] == [2]
    assert onethread("parked", "replay", "--all").output == "1 will be taken up by the next run\n"
    assert onethread("parked", "--status", "replay").output.count("no id") == 2
    assert onethread("parked", "replay").exit_code == 2


@pytest.mark.usefixtures("parked")
def test_parked_retry_is_another_word_for_replay() -> None:
    assert onethread("parked", "retry", "2").output == "1 will be taken up by the next run\n"


def test_parked_drop_gives_up(parked: Parked) -> None:
    assert onethread("parked", "drop", "1").output == "1 dropped\n"
    assert parked.count() == 1
    assert onethread("parked", "--status", "all").output.count("no id") == 2


# Tokens


@pytest.fixture
def renewed(stores: Stores) -> Tokens:
    """A token that was renewed once."""
    tokens = Tokens(stores)
    ends = datetime(2026, 12, 1, 10, tzinfo=UTC)
    configured = Token(SecretStr(""), SecretStr(SECRET))
    tokens.get("x:shop", configured, lambda _: Token(SecretStr(SECRET), SecretStr(SECRET), ends))
    return tokens


def test_tokens_lists_ends_and_no_secret(renewed: Tokens) -> None:
    output = onethread("tokens").output
    assert output.startswith("x:shop  until 2026-12-01 10:00 UTC  renewed ")
    assert SECRET not in output


def test_no_tokens_is_said() -> None:
    assert onethread("tokens").output.startswith("no token is stored")


@pytest.mark.parametrize(("flags", "kept"), [([], ("", "typed")), (["--access"], ("typed", None))])
def test_tokens_set_reads_the_new_one_from_its_input(
    renewed: Tokens, flags: list[str], kept: tuple[str, str | None]
) -> None:
    result = CliRunner().invoke(main, ["tokens", "set", "x:shop", *flags], input="typed\n")
    assert (result.exit_code, result.output) == (0, "x:shop: kept; the next run uses it\n")
    given: list[Token] = []

    def refresh(token: Token) -> Token:
        given.append(token)
        return token

    got = renewed.get("x:shop", Token(SecretStr(""), SecretStr(SECRET)), refresh)
    one = (given or [got])[0]
    assert (one.access_token.get_secret_value(), one.refresh_token and one.refresh_token.get_secret_value()) == kept


def test_tokens_set_asks_before_it_takes_a_new_name(renewed: Tokens) -> None:
    wrong = CliRunner().invoke(main, ["tokens", "set", "x:shpo"], input="typed\n")
    assert "there are: x:shop" in said(wrong)
    assert CliRunner().invoke(main, ["tokens", "set", "y:new", "--new"], input="typed\n").exit_code == 0
    assert [one.name for one in renewed.listing()] == ["x:shop", "y:new"]


def test_tokens_set_takes_no_empty_token_and_no_token_as_an_argument(renewed: Tokens) -> None:
    assert "no token was given" in said(CliRunner().invoke(main, ["tokens", "set", "x:shop"], input="\n"))
    assert onethread("tokens", "set", "x:shop", "typed").exit_code == 2


# Jobs


@pytest.mark.parametrize("code", [0, 3, 1])
def test_run_ends_with_the_code_of_the_job(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    asked: list[Any] = []

    def run_job(stores: Stores, jobs: list[str], **_: Any) -> int:
        asked.append(jobs)
        return code

    monkeypatch.setattr("console.run.run_job", run_job)
    assert onethread("run", "contacts", "inbound").exit_code == code
    assert asked == [["contacts", "inbound"]]


def test_what_a_command_writes_is_for_its_owner_alone() -> None:
    onethread("status")
    onethread("init")
    assert Path("meltano.yml").stat().st_mode & 0o077 == 0
