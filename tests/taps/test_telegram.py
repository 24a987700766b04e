"""tap-telegram over the deliveries of its fixtures, and polling the stand-in server: nothing is lost, whatever dies."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mappings.errors import CredentialsError, RejectedError, SettingsError
from mappings.records import Attachment, Message
from sandbox.base import Fault, SandboxServer
from sandbox.telegram import TelegramApp
from sandbox.telegram.account import Update
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from stores.spool import Spool
from taps.base import Checkpoint
from taps.telegram import WANTED, TapTelegram
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
PARTS = {
    1: ["text", "contact_own", "text_stop", "edited_message"],
    2: ["photo", "reaction", "contact_other", "unblocked", "business_customer", "deleted_business_messages"],
}
TOKEN = "7000000001:sandbox-telegram-token"
SECRET = TOKEN.partition(":")[2]


class BotSource(WebhookSource):
    """The deliveries of a bot whose number the settings name."""

    def config(self, **more: Any) -> dict[str, Any]:
        return super().config(**{"bot_id": "7000000001", **more})


class TestTapTelegramByWebhook(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[BotSource]:
        made = BotSource(stores, state_url, TapTelegram, PARTS)
        yield made
        made.close()


class QueueSource:
    """The queue of the stand-in."""

    tap_class = TapTelegram

    def __init__(self, app: TelegramApp, server: SandboxServer, state_url: str) -> None:
        self.app, self.server, self.state_url = app, server, state_url
        self.ada = app.add_person("Ada", "Example", phone="447700900123")

    def config(self, **more: Any) -> dict[str, Any]:
        return {"state_url": self.state_url, "mode": "poll", "bot_token": TOKEN, "api_url": self.server.url, **more}

    def add(self, part: int) -> None:
        number = self.app.text(self.ada, f"part {part}")
        if part == 1:
            self.app.share_contact(self.ada)
            self.app.edit(self.ada, number, "part one")
        else:
            self.app.text(self.ada, "STOP")
            self.app.sticker(self.ada)

    def add_bad(self) -> None:
        """An update that no document knows."""
        last = self.app.updates[-1]
        self.app.updates.append(Update(last.number + 1, "hologram", {"x": 1}, last.expires_at))
        self.app._next_number += 1


@pytest.fixture
def app() -> TelegramApp:
    made = TelegramApp()
    made.impatient_seconds = 0.0
    return made


@pytest.fixture
def server(app: TelegramApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        yield running


@pytest.fixture
def queue(app: TelegramApp, server: SandboxServer, state_url: str) -> QueueSource:
    return QueueSource(app, server, state_url)


class TestTapTelegramByPolling(TapContract):
    @pytest.fixture
    def source(self, queue: QueueSource, monkeypatch: pytest.MonkeyPatch) -> QueueSource:
        monkeypatch.setattr("taps.telegram._PAGE", 2)  # several pages, so that there is a middle to stop in
        return queue


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[BotSource]:
    made = BotSource(stores, state_url, TapTelegram, PARTS)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""

    def no_seconds(self: Any, error: Exception) -> float:
        return 0.0

    monkeypatch.setattr("taps.base._WaitSeconds.__call__", no_seconds)


Make = Callable[..., TapTelegram]


@pytest.fixture
def make_tap(queue: QueueSource) -> Make:
    """A tap that polls the stand-in."""

    def make(state: dict[str, Any] | None = None, **config: Any) -> TapTelegram:
        return TapTelegram(config=queue.config(**config), state=state or {})

    return make


def records(messages: list[dict[str, Any]], stream: str = "messages") -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def texts(messages: list[dict[str, Any]]) -> list[str | None]:
    return [one["text"] for one in records(messages)]


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


# -- The webhook -----------------------------------------------------------------------------------------------------


def test_nothing_is_asked_while_the_webhook_brings_updates(make_tap: Make, app: TelegramApp, run_tap: RunTap) -> None:
    run_tap(make_tap(mode="webhook"))
    assert app.journal == []


def test_what_is_no_message_is_counted(source: BotSource, run_tap: RunTap, stores: Stores) -> None:
    source.deliver_fixture("business_connection")
    tap = TapTelegram(config=source.config())
    run_tap(tap)
    assert tap.ignored == {"business_connection": 1}
    assert Items(stores).counts("telegram") == {"ignored:business_connection": 1}


def test_the_number_in_the_token_names_the_bot(source: BotSource, run_tap: RunTap) -> None:
    source.deliver_fixture("text")
    config = {name: value for name, value in source.config(bot_token="12345:abc").items() if name != "bot_id"}
    assert [one["account"] for one in records(run_tap(TapTelegram(config=config)))] == ["12345"]


def test_the_region_reaches_the_mapping(source: BotSource, run_tap: RunTap) -> None:
    contact = {"phone_number": "07700 900456", "first_name": "Bo"}
    chat = {"id": 5, "type": "private"}
    source.deliver({"update_id": 1, "message": {"message_id": 1, "date": 1772366400, "chat": chat, "contact": contact}})
    (evidence,) = records(run_tap(TapTelegram(config=source.config(default_region="GB"))), "evidence")
    assert evidence["handles"][0]["value"] == "+447700900456"


def test_a_group_that_became_a_supergroup_is_one_thread_in_the_next_run_too(source: BotSource, run_tap: RunTap) -> None:
    threads = []
    state: dict[str, Any] = {}
    for name in ("group", "group_migrated_from", "group_after_migration"):
        source.deliver_fixture(name)
        messages = run_tap(TapTelegram(config=source.config(), state=state))
        state = state_of(messages)
        threads += [one["conversation_key"] for one in records(messages)]
    assert len(threads) == 3
    assert set(threads) == {"telegram:7000000001:-4000000001"}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no bot at all": ({"bot_id": None}, "bot_token or bot_id is needed"),
    "polling without a token": ({"mode": "poll"}, "mode poll needs bot_token"),
    "a token of another shape": ({"bot_token": "sEcReT"}, "is not a bot's token"),
    "a token of another bot": ({"bot_token": "111:sEcReT"}, "of two bots"),
    "an unknown mode": ({"mode": "both"}, "validation failed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_contradict_each_other_stop_the_run(source: BotSource, run_tap: RunTap, name: str) -> None:
    wrong, reason = WRONG[name]
    with pytest.raises(Exception, match=reason) as raised:
        run_tap(TapTelegram(config={k: v for k, v in source.config(**wrong).items() if v is not None}))
    assert "sEcReT" not in str(raised.value)


# -- Polling ---------------------------------------------------------------------------------------------------------


def test_the_queue_is_read_to_its_end_in_order_and_then_confirmed(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap
) -> None:
    for number in range(250):
        app.text(queue.ada, f"text {number}")
    messages = run_tap(make_tap())
    assert texts(messages) == [f"text {number}" for number in range(250)]
    assert {one["seen_by"] for one in records(messages)} == {"poll"}
    assert [one["raw_ref"] for one in records(messages)][:2] == ["spool:1#0", "spool:2#0"]
    assert app.state()["pending_updates"] == 0


def test_updates_are_on_disk_before_telegram_is_told_to_delete_them(
    make_tap: Make, app: TelegramApp, queue: QueueSource, stores: Stores, run_tap: RunTap, monkeypatch: Any
) -> None:
    monkeypatch.setattr("taps.telegram._PAGE", 2)
    for number in range(7):
        app.text(queue.ada, f"text {number}")
    original, seen = app._queued, []

    def queued(offset: int, limit: int) -> list[Update]:
        found = original(offset, limit)
        confirmed = {one.number for one in app.updates if one.confirmed}
        stored = {entry.payload["update_id"] for entry in Spool(stores).read("telegram", "default", 0, 100)}
        seen.append(confirmed <= stored)
        return found

    monkeypatch.setattr(app, "_queued", queued)
    assert len(texts(run_tap(make_tap()))) == 7
    assert len(seen) >= 4
    assert all(seen)


def test_what_could_not_be_stored_is_not_confirmed(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.text(queue.ada, "precious")

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "add", full)
        with pytest.raises(OSError, match="No space"):
            run_tap(make_tap())
    assert app.state()["pending_updates"] == 1
    assert texts(run_tap(make_tap())) == ["precious"]


def test_a_run_whose_state_was_lost_is_repeated_although_telegram_has_forgotten(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap
) -> None:
    app.text(queue.ada, "once")
    assert texts(run_tap(make_tap())) == ["once"]
    assert app.state()["pending_updates"] == 0
    assert texts(run_tap(make_tap())) == ["once"]


def test_numbers_that_start_anew_below_the_old_ones_are_read(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap
) -> None:
    app.text(queue.ada, "before the holidays")
    state = state_of(run_tap(make_tap()))
    highest = app.updates[-1].number
    app.clock.advance(8 * 86_400)
    app.text(queue.ada, "after them")
    assert app.updates[-1].number < highest
    assert texts(run_tap(make_tap(state))) == ["after them"]
    assert app.state()["pending_updates"] == 0


def test_an_update_that_the_webhook_had_brought_is_not_read_again_from_the_queue(
    make_tap: Make, app: TelegramApp, queue: QueueSource, source: BotSource, run_tap: RunTap, stores: Stores
) -> None:
    app.text(queue.ada, "took it, but our 200 got lost")
    source.deliver(app.updates[-1].body)
    state = state_of(run_tap(make_tap(mode="webhook")))
    app.text(queue.ada, "after the webhook was removed")
    tap = make_tap(state)
    assert texts(run_tap(tap)) == ["after the webhook was removed"]
    assert tap.repeats == 1
    assert Items(stores).missed() == {}


def test_an_update_that_a_late_delivery_repeats_is_the_same_record(
    make_tap: Make, app: TelegramApp, queue: QueueSource, source: BotSource, run_tap: RunTap
) -> None:
    app.text(queue.ada, "polled")
    first = run_tap(make_tap())
    source.deliver(app.updates[-1].body)
    again = run_tap(make_tap(state_of(first), mode="webhook"))
    assert [one["message_key"] for one in records(again)] == [one["message_key"] for one in records(first)]


def test_an_update_that_nobody_can_read_is_parked_and_holds_nothing_up(
    make_tap: Make, queue: QueueSource, app: TelegramApp, run_tap: RunTap, stores: Stores
) -> None:
    queue.add(1)
    last = app.updates[-1]
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    app.updates.append(Update(last.number + 1, "message", {"deep": deep}, last.expires_at))
    app._next_number += 1
    queue.add(2)
    assert len(texts(run_tap(make_tap()))) == 5
    (parked,) = Parked(stores).list()
    assert (parked.stream, parked.raw_ref) == ("deliveries", "spool:4")
    assert app.state()["pending_updates"] == 0


def test_a_parked_update_keeps_how_it_came_when_it_is_replayed(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap, stores: Stores, monkeypatch: Any
) -> None:
    app.text(queue.ada, "Hello")
    with monkeypatch.context() as patch:
        patch.setattr("taps.telegram.records_from_telegram", lambda *_: (_ for _ in ()).throw(TypeError()))
        state = state_of(run_tap(make_tap()))
    parked = Parked(stores)
    parked.ask_replay([one.parked_id for one in parked.list()])
    (message,) = records(run_tap(make_tap(state)))
    assert (message["text"], message["seen_by"], message["raw_ref"]) == ("Hello", "poll", "spool:1#0")


def test_only_what_we_can_read_is_asked_for_reactions_among_it(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap
) -> None:
    number = app.text(queue.ada, "Hello")
    state = state_of(run_tap(make_tap()))
    assert app.allowed == list(WANTED)
    app.react(queue.ada, number, "👍")
    (change,) = records(run_tap(make_tap(state)), "message_changes")
    assert change["emoji"] == "👍"


def test_what_comes_while_it_follows_is_given_at_once(make_tap: Make, app: TelegramApp, queue: QueueSource) -> None:
    reading = make_tap(follow_seconds=60).read()
    spoken = False
    for item in reading:
        if isinstance(item, Message):
            assert item.text == "just now"
            break
        if isinstance(item, Checkpoint) and item.heartbeat and not spoken:
            spoken = True
            app.text(queue.ada, "just now")
    reading.close()  # type: ignore[attr-defined]
    assert spoken


def test_spooled_updates_stay_until_a_given_bookmark_says_that_the_target_has_them(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap, stores: Stores, monkeypatch: Any
) -> None:
    monkeypatch.setattr("taps.telegram.KEEP", timedelta(0))
    app.text(queue.ada, "one")
    state = state_of(run_tap(make_tap()))
    app.text(queue.ada, "two")
    run_tap(make_tap())
    spool = Spool(stores)
    assert len(spool.read("telegram", "default", 0, 10)) == 2
    tap = make_tap(state)
    run_tap(tap)
    assert [one.payload["message"]["text"] for one in spool.read("telegram", "default", 0, 10)] == ["two"]
    run_tap(tap)  # its own bookmark has gone on meanwhile, but nobody has given it one
    assert len(spool.read("telegram", "default", 0, 10)) == 1


@pytest.mark.parametrize("stored_before", [0, 1])
def test_a_bookmark_of_another_state_folder_is_refused(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap, stored_before: int
) -> None:
    for _ in range(stored_before):
        app.text(queue.ada, "old")
        run_tap(make_tap())
    app.text(queue.ada, "new")
    with pytest.raises(SettingsError, match="full-refresh"):
        run_tap(make_tap({"bookmarks": {"cursor": {"spool_id": 17}}}))
    assert "new" in texts(run_tap(make_tap()))


# -- What goes wrong -------------------------------------------------------------------------------------------------


def test_a_webhook_that_is_active_is_named_with_what_to_do(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap
) -> None:
    app.text(queue.ada, "Hello")
    app.webhook = {"url": "https://other.example/secret-path"}
    with pytest.raises(SettingsError) as raised:
        run_tap(make_tap())
    text = str(raised.value)
    assert "webhook to other.example is active" in text
    assert "mode to webhook" in text
    assert "deleteWebhook" in text
    assert "secret-path" not in text
    assert SECRET not in text
    app.webhook = {}
    assert texts(run_tap(make_tap())) == ["Hello"]


def test_another_reader_of_the_bot_is_named(make_tap: Make, app: TelegramApp, run_tap: RunTap) -> None:
    words = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
    app.faults.append(Fault("/getUpdates", status=409, body={"ok": False, "error_code": 409, "description": words}))
    with pytest.raises(SettingsError, match="another program polls this bot"):
        run_tap(make_tap())


@pytest.mark.parametrize("token", ["7000000001:another-token", "1:x"])
def test_a_refused_token_stops_the_run_and_is_not_told(make_tap: Make, run_tap: RunTap, token: str) -> None:
    with pytest.raises(CredentialsError, match="check bot_token") as raised:
        run_tap(make_tap(bot_token=token))
    assert token not in str(raised.value)


def test_a_long_pause_that_telegram_asks_for_ends_the_run_with_what_was_read(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap, caplog: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("taps.telegram._PAGE", 2)
    for number in range(4):
        app.text(queue.ada, f"text {number}")
    original, calls = app._get_updates, []

    def get_updates(parameters: dict[str, Any]) -> Any:
        calls.append(parameters)
        if len(calls) == 2:
            fault = Fault(
                "/getUpdates", status=429, body={"ok": False, "error_code": 429, "parameters": {"retry_after": 900}}
            )
            app.faults.append(fault)
        return original(parameters)

    monkeypatch.setitem(app._methods, "getupdates", get_updates)
    tap = make_tap()
    with caplog.at_level(logging.WARNING):
        first = run_tap(tap)
    assert texts(first) == [f"text {number}" for number in range(4)]
    assert "go on after" in caplog.text
    app.text(queue.ada, "text 4")
    assert texts(run_tap(make_tap(state_of(first)))) == ["text 4"]


@pytest.mark.parametrize("fault", [
    Fault("/getUpdates", status=500, times=2), Fault("/getUpdates", status=502, times=1, when="after"),
    Fault("/getUpdates", status=429, times=1, body={"ok": False, "parameters": {"retry_after": 0}}),
])  # fmt: skip
def test_a_passing_trouble_is_tried_again_and_nothing_is_lost(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap, fault: Fault
) -> None:
    queue.add(1)
    app.faults.append(fault)
    assert texts(run_tap(make_tap())) == ["part 1", None]


@pytest.mark.parametrize("body", [{"ok": True, "result": [{"message": {}}]}, {"ok": True, "result": "x"}, {"ok": False},
                                  {"ok": True, "result": [{"update_id": True}]}, [1]])  # fmt: skip
def test_an_answer_that_is_none_confirms_nothing(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap, body: Any, caplog: Any
) -> None:
    app.text(queue.ada, "Hello")
    app.faults.append(Fault("/getUpdates", status=200, body=body))
    with caplog.at_level(logging.WARNING):
        assert texts(run_tap(make_tap())) == []
    assert "polling is not complete" in caplog.text
    assert texts(run_tap(make_tap())) == ["Hello"]


def test_neither_token_nor_text_gets_into_the_log(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap, caplog: Any
) -> None:
    app.text(queue.ada, "a private word")
    app.faults.append(Fault("/getUpdates", status=503))
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "urllib3"):
        run_tap(make_tap())
    assert "urllib3" in {record.name.partition(".")[0] for record in caplog.records}  # which would tell the path
    assert "/getUpdates" in caplog.text
    assert SECRET not in caplog.text
    assert "private word" not in caplog.text


# -- Killed ----------------------------------------------------------------------------------------------------------

DIE = "__import__('os').kill(__import__('os').getpid(), 9)"
RUN = f"""
import sys
import taps.base, taps.telegram
from stores.spool import Spool
from taps.telegram import TapTelegram
taps.telegram._PAGE = 3
calls = []
def dying(original, when, number):
    def call(*args, **kwargs):
        calls.append(1)
        if when == "before" and len(calls) == number:
            {DIE}
        result = original(*args, **kwargs)
        if when == "after" and len(calls) == number:
            sys.stdout.flush()
            {DIE}
        return result
    return call
[PATCH]
TapTelegram.cli()
"""
MOMENTS = {
    "when the first page has come and is not stored": "Spool.add = dying(Spool.add, 'before', 1)",
    "when the first page is stored and not confirmed": "Spool.add = dying(Spool.add, 'after', 1)",
    "when the first page is confirmed and the second not stored": "Spool.add = dying(Spool.add, 'before', 2)",
    "when all is stored and the last page not confirmed": "Spool.add = dying(Spool.add, 'after', 3)",
    "when all is confirmed and nothing has a STATE": "S = taps.telegram.BotSession; S.ask = dying(S.ask, 'after', 4)",
    "between two records": "TapTelegram.emit = dying(TapTelegram.emit, 'before', 5)",
    "before the first STATE": "T = taps.base.OneThreadTap; T._write_state = dying(T._write_state, 'before', 1)",
    "after the last STATE": "B = taps.base.BufferedWriter; B.flush = dying(B.flush, 'after', 2)",
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_loses_nothing(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap, tmp_path: Path, moment: str
) -> None:
    wanted = [f"text {number}" for number in range(8)]
    for text in wanted:
        app.text(queue.ada, text)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(queue.config()))
    script = RUN.replace("[PATCH]", MOMENTS[moment])
    command = [sys.executable, "-c", script, "--config", str(config)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    whole = [line for line in killed.stdout.splitlines(keepends=True) if line.endswith("\n")]
    first = [json.loads(line) for line in whole]
    states = [number for number, message in enumerate(first) if message["type"] == "STATE"]
    # A target vouches for what a STATE covers, and for nothing after it.
    covered = first[: states[-1]] if states else []
    second = run_tap(make_tap(first[states[-1]]["value"] if states else {}))
    assert sorted([*texts(covered), *texts(second)], key=str) == wanted
    assert app.state()["pending_updates"] == 0


# -- Files -----------------------------------------------------------------------------------------------------------


def photo_of(app: TelegramApp, person: int, **more: Any) -> Attachment:
    app.photo(person, **more)
    sizes = app.updates[-1].part["photo"]
    return Attachment(kind="image", platform_media_id=sizes[-1]["file_id"], size_bytes=sizes[-1]["file_size"])


def some_message(run_tap: RunTap, make_tap: Make) -> Message:
    return Message.model_validate(records(run_tap(make_tap()))[0])


def test_a_file_is_found_by_its_id_at_an_address_that_holds_the_token(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap
) -> None:
    attachment = photo_of(app, queue.ada, data=b"the picture")
    request = make_tap().media_request(attachment, some_message(run_tap, make_tap))
    assert request is not None
    assert request.hosts == frozenset({"127.0.0.1"})
    assert SECRET not in repr(request)
    with urllib.request.urlopen(request.url, timeout=10) as answer:
        assert answer.read() == b"the picture"


def test_files_are_fetched_when_they_are_read_and_no_record_holds_the_token(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap, stores: Stores, caplog: Any
) -> None:
    app.photo(queue.ada, "The broken cup", data=b"\x89PNG\r\n\x1a\n" + b"\0" * 32)
    app.document(queue.ada, "gone.pdf")
    app.files.pop(app.updates[-1].part["document"]["file_id"])
    host = queue.server.url.removeprefix("http://")
    with caplog.at_level(logging.DEBUG):
        messages = run_tap(make_tap(fetch_media=True, media_private_hosts=[host]))
    picture, gone = (one["attachments"][0] for one in records(messages))
    assert picture["media_key"]
    assert gone["media_key"] is None
    (parked,) = Parked(stores).list()
    assert parked.stream == "media"
    told = json.dumps(messages) + caplog.text + json.dumps(parked.payload) + parked.reason
    assert SECRET not in told


def test_a_file_that_telegram_would_not_give_is_not_asked_for(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap
) -> None:
    app.text(queue.ada, "x")
    message = some_message(run_tap, make_tap)
    app.journal.clear()
    for attachment in (
        Attachment(kind="file", platform_media_id="f", size_bytes=20_000_001), Attachment(kind="file"),
    ):  # fmt: skip
        assert make_tap().media_request(attachment, message) is None
    without = TapTelegram(config={"state_url": queue.state_url, "bot_id": "1"})
    assert without.media_request(Attachment(kind="file", platform_media_id="f"), message) is None
    assert app.journal == []


def test_a_file_whose_size_is_not_told_and_too_large_is_refused_for_good(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap
) -> None:
    app.document(queue.ada, "film.mp4", size=20_000_001)
    file_id = app.updates[-1].part["document"]["file_id"]
    with pytest.raises(RejectedError):
        make_tap().media_request(Attachment(kind="file", platform_media_id=file_id), some_message(run_tap, make_tap))


@pytest.mark.parametrize("path", ["/etc/passwd", "../../x", "a/../b", None, 3])
def test_a_path_that_is_none_of_the_bot_api_is_refused(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap, path: Any
) -> None:
    attachment = photo_of(app, queue.ada)
    message = some_message(run_tap, make_tap)
    app.faults.append(Fault("/getFile", status=200, body={"ok": True, "result": {"file_path": path}}))
    with pytest.raises(Exception, match="file_path"):
        make_tap().media_request(attachment, message)


def test_a_path_cannot_lead_to_another_host(
    make_tap: Make, app: TelegramApp, queue: QueueSource, run_tap: RunTap
) -> None:
    attachment = photo_of(app, queue.ada)
    message = some_message(run_tap, make_tap)
    app.faults.append(Fault("/getFile", status=200, body={"ok": True, "result": {"file_path": "a?b#c@evil.test/d e"}}))
    request = make_tap().media_request(attachment, message)
    assert request is not None
    assert request.url == f"{queue.server.url}/file/bot{TOKEN}/a%3Fb%23c%40evil.test/d%20e"


# -- Health ----------------------------------------------------------------------------------------------------------


def verdicts(tap: TapTelegram) -> dict[str, tuple[bool | None, str]]:
    return {check.what: (check.ok, f"{check.detail} | {check.fix}") for check in tap.check()}


def test_a_bot_that_polls_and_has_no_webhook_is_well(make_tap: Make) -> None:
    seen = verdicts(make_tap())
    assert {what: ok for what, (ok, _) in seen.items()} == {
        "settings": True, "bot token": True, "groups": None, "webhook": True, "clock": True,
    }  # fmt: skip
    assert "example_shop_bot" in seen["bot token"][1]
    assert SECRET not in str(seen)


def test_a_webhook_is_a_fault_for_who_polls(make_tap: Make, app: TelegramApp) -> None:
    app.webhook = {"url": "https://other.example/x"}
    ok, words = verdicts(make_tap())["webhook"]
    assert ok is False
    assert "other.example" in words
    assert "deleteWebhook" in words


@pytest.mark.parametrize(
    ("url", "route", "good"),
    [("https://hooks.shop.example/webhooks/telegram", "default", True), ("", "default", False),
     ("https://hooks.shop.example/webhooks/telegram/shop2", "shop2", True),
     ("https://hooks.shop.example/webhooks/telegram/shop2", "default", False),
     ("https://other.example/bot", "default", False)],
)  # fmt: skip
def test_the_webhook_must_lead_to_our_receiver(
    make_tap: Make, app: TelegramApp, url: str, route: str, good: bool
) -> None:
    app.webhook = {"url": url} if url else {}
    ok, words = verdicts(make_tap(mode="webhook", route=route))["webhook"]
    assert ok is good
    assert good or "setWebhook" in words


def test_trouble_with_deliveries_and_updates_that_are_not_told_are_shown(
    make_tap: Make, app: TelegramApp, queue: QueueSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC).timestamp()
    words = "Wrong response from the webhook: 401 Unauthorized"
    info = {"url": "https://hooks.shop.example/webhooks/telegram", "pending_update_count": 3,
            "last_error_date": int(now), "last_error_message": words}  # fmt: skip
    monkeypatch.setitem(app._methods, "getwebhookinfo", lambda _: info)
    seen = verdicts(make_tap(mode="webhook"))
    assert seen["deliveries"][0] is False
    assert "3 updates wait" in seen["deliveries"][1]
    assert "401 Unauthorized" in seen["deliveries"][1]
    assert seen["updates"][0] is False
    assert "message_reaction" in seen["updates"][1]
    info |= {"last_error_date": int(now) - 2 * 86_400, "allowed_updates": list(WANTED)}
    seen = verdicts(make_tap(mode="webhook"))
    assert seen["deliveries"][0] is True
    assert seen["updates"][0] is True


def test_a_wrong_token_an_api_that_is_down_and_no_token_are_told_apart(make_tap: Make, app: TelegramApp) -> None:
    assert verdicts(make_tap(bot_token="7000000001:x"))["bot token"][0] is False
    app.faults.append(Fault("/getMe", status=503, times=100))
    assert verdicts(make_tap())["Bot API"][0] is False
    without = TapTelegram(config={"bot_id": "7000000001"})
    assert verdicts(without)["bot token"][0] is None


def test_a_clock_that_is_wrong_is_shown(make_tap: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TapTelegram, "now", lambda _: datetime.now(UTC) + timedelta(hours=1))
    assert verdicts(make_tap())["clock"][0] is False
