"""Files of messages, fetched when the messages are read: by link (Messenger), by id and token (WhatsApp)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mappings.errors import SettingsError
from sandbox.base import SandboxServer
from sandbox.whatsapp import WhatsAppApp
from stores.database import Stores
from stores.media import Media
from stores.parked import Parked
from taps.messenger import TapMessenger
from taps.whatsapp import TapWhatsApp
from tests.stores.file_server import PNG, FileServer, running_file_server
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
TOKEN = "sandbox-access-token"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running_file_server() as made:
        made.files["/a.png"] = PNG
        yield made


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapMessenger, {})
    yield made
    made.close()


def tap_of(source: WebhookSource, server: FileServer, **more: Any) -> TapMessenger:
    return TapMessenger(config=source.config(fetch_media=True, media_private_hosts=[server.host], **more))


def event(mid: str = "m_1", *urls: str, **message: Any) -> dict[str, Any]:
    files = [{"type": "image", "payload": {"url": url}} for url in urls]
    said = {"mid": mid, **({"attachments": files} if files else {}), **message}
    one = {"sender": {"id": "9001"}, "recipient": {"id": "7001"}, "timestamp": 1772366400000, "message": said}
    return {"object": "page", "entry": [{"id": "7001", "time": 1772366400000, "messaging": [one]}]}


def files_of(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == "messages"]
    return [file for row in rows for file in row["attachments"]]


def content(stores: Stores, media_key: str) -> bytes:
    return b"".join(Media(stores).open(media_key))


def test_files_are_left_where_they_are_unless_asked_for(
    source: WebhookSource, server: FileServer, run_tap: RunTap
) -> None:
    source.deliver(event("m_1", f"{server.url}/a.png"))
    (file,) = files_of(run_tap(TapMessenger(config=source.config())))
    assert (file["media_key"], file["url"]) == (None, f"{server.url}/a.png")
    assert server.asked == []


def test_the_record_says_where_each_file_is(
    source: WebhookSource, server: FileServer, run_tap: RunTap, stores: Stores
) -> None:
    server.files["/b.png"] = PNG + b"other"
    source.deliver(event("m_1", f"{server.url}/a.png", f"{server.url}/b.png"))
    first, second = files_of(run_tap(tap_of(source, server)))
    assert [content(stores, one["media_key"]) for one in (first, second)] == [PNG, PNG + b"other"]
    assert (first["size_bytes"], first["mime_type"], len(first["sha256"])) == (len(PNG), "image/png", 64)


def test_reading_again_after_a_crash_fetches_nothing_again(
    source: WebhookSource, server: FileServer, run_tap: RunTap
) -> None:
    source.deliver(event("m_1", f"{server.url}/a.png"))
    assert files_of(run_tap(tap_of(source, server))) == files_of(run_tap(tap_of(source, server)))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"<html>expired", "no image"), (PNG + bytes(2_000), "larger than 1000 bytes"), (None, "404")],
)
def test_a_file_that_cannot_be_had_is_parked_and_the_message_goes_on(
    source: WebhookSource, server: FileServer, run_tap: RunTap, stores: Stores, content: bytes | None, reason: str
) -> None:
    if content is not None:
        server.files["/bad.png"] = content
    source.deliver(event("m_1", f"{server.url}/bad.png", f"{server.url}/a.png"))
    source.deliver(event("m_2", text="next"))
    messages = run_tap(tap_of(source, server, media_max_bytes=1_000))
    bad, good = files_of(messages)
    assert (bad["media_key"], bad["url"], bool(good["media_key"])) == (None, f"{server.url}/bad.png", True)
    assert [one["record"]["text"] for one in messages if one["type"] == "RECORD"] == [None, "next"]
    (row,) = Parked(stores).list()
    assert (row.part, row.stream, reason in row.reason) == ("tap-messenger", "media", True)


def test_a_parked_file_is_fetched_when_it_is_replayed(
    source: WebhookSource, server: FileServer, run_tap: RunTap, stores: Stores
) -> None:
    server.status("/late.png", 503)
    source.deliver(event("m_1", f"{server.url}/late.png"))
    state = [one["value"] for one in run_tap(tap_of(source, server)) if one["type"] == "STATE"][-1]
    parked = Parked(stores)
    parked.ask_replay([one.parked_id for one in parked.list()])
    server.files["/late.png"] = PNG
    tap = TapMessenger(
        config=source.config(fetch_media=True, media_private_hosts=[server.host]), state=state
    )  # fmt: skip
    messages = run_tap(tap)
    (file,) = files_of(messages)
    assert content(stores, file["media_key"]) == PNG
    state = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    run_tap(TapMessenger(config=source.config(), state=state))
    assert parked.count("replayed") == 1


def test_a_file_that_could_not_be_had_is_fetched_by_the_next_runs_while_it_may_help(
    source: WebhookSource, server: FileServer, run_tap: RunTap, stores: Stores
) -> None:
    server.status("/late.png", 503)
    source.deliver(event("m_1", f"{server.url}/late.png", f"{server.url}/gone.png"))
    state = [one["value"] for one in run_tap(tap_of(source, server)) if one["type"] == "STATE"][-1]

    def run(minutes: float) -> list[bool]:
        """Whether the files of what a run that many minutes later emits are there."""
        nonlocal state
        server.asked.clear()
        tap = TapMessenger(config=source.config(fetch_media=True, media_private_hosts=[server.host]), state=state)
        later = datetime.now(UTC) + timedelta(minutes=minutes)
        tap.now = lambda: later  # type: ignore[method-assign]
        messages = run_tap(tap)
        state = [one["value"] for one in messages if one["type"] == "STATE"][-1]
        return [one["media_key"] is not None for one in files_of(messages)]

    assert run(1) == []
    assert server.asked == []  # too early
    assert run(5) == []  # nothing new to tell
    assert "/late.png" in [path for path, _ in server.asked]
    server.files["/late.png"] = PNG
    assert run(10) == []  # longer pauses
    assert run(17) == [True, False]
    assert run(10_000) == []
    parked = Parked(stores)
    assert (parked.count("replayed"), parked.count("parked")) == (1, 1)  # what is gone is gone


def test_an_address_in_our_own_network_is_never_asked(
    source: WebhookSource, server: FileServer, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver(event("m_1", f"{server.url}/a.png", "https://169.254.169.254/x", "file:///etc/passwd"))
    files = files_of(run_tap(TapMessenger(config=source.config(fetch_media=True))))
    assert [one["media_key"] for one in files] == [None] * 3
    assert Parked(stores).count() == 3
    assert server.asked == []


def test_the_file_of_a_message_that_is_taken_back_is_deleted_and_stays_away(
    source: WebhookSource, server: FileServer, run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mappings.records import MessageChange
    from taps.deliveries import Outcome
    from taps.webhooks.items import Item
    from tests.taps.webhook_source import RECEIVED_AT

    source.deliver(event("m_1", f"{server.url}/a.png"))
    messages = run_tap(tap_of(source, server))
    (file,) = files_of(messages)
    (message,) = [one["record"] for one in messages if one["type"] == "RECORD"]
    unsend = MessageChange(
        change_key="c", message_key=message["message_key"], channel="messenger", account="7001", change="unsend",
        changed_at=RECEIVED_AT,
    )  # fmt: skip
    tap = tap_of(source, server)
    assert list(tap.emit(Outcome(Item(0, "unsend", {}, "u"), RECEIVED_AT, "", [unsend]))) == [unsend]
    assert Media(stores).facts(file["media_key"]) is None
    (again,) = files_of(run_tap(tap_of(source, server)))
    assert again["media_key"] is None
    assert Parked(stores).count() == 0


# WhatsApp


@pytest.fixture
def whatsapp() -> Iterator[tuple[WhatsAppApp, SandboxServer]]:
    app = WhatsAppApp()
    with SandboxServer(app) as running:
        yield app, running
    app.stop_delivery()


@pytest.fixture
def deliveries(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapWhatsApp, {})
    yield made
    made.close()


def whatsapp_tap(deliveries: WebhookSource, running: SandboxServer, **more: Any) -> TapWhatsApp:
    config = {"fetch_media": True, "access_token": TOKEN, "api_url": running.url, "media_private_hosts": ["127.0.0.1"]}
    return TapWhatsApp(config=deliveries.config(**{**config, **more}))


def image(app: WhatsAppApp, data: bytes = PNG) -> dict[str, Any]:
    """A webhook with an image that the stand-in has."""
    said = {"from": "447700900123", "id": "wamid.1", "timestamp": "1772366400", "type": "image",
            "image": {"id": app._store(data, "image/png", None, "customer"), "mime_type": "image/png",
                      "sha256": "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="}}  # fmt: skip
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": "1"}, "messages": [said]}
    return {"object": "whatsapp_business_account", "entry": [{"id": "2", "changes": [{"field": "messages",
                                                                                     "value": value}]}]}  # fmt: skip


def test_whatsapps_file_is_asked_for_by_its_id_with_the_token(
    whatsapp: tuple[WhatsAppApp, SandboxServer], deliveries: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    app, running = whatsapp
    deliveries.deliver(image(app))
    (file,) = files_of(run_tap(whatsapp_tap(deliveries, running)))
    assert content(stores, file["media_key"]) == PNG
    assert file["sha256"] == "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="  # as WhatsApp wrote it
    assert [one["status"] for one in app.journal] == [200, 200]


def test_whatsapps_token_goes_to_no_other_host(
    whatsapp: tuple[WhatsAppApp, SandboxServer], deliveries: WebhookSource, run_tap: RunTap, stores: Stores,
    server: FileServer, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    app, running = whatsapp
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    monkeypatch.setattr(app, "_media_url", lambda *_: f"{elsewhere}/a.png")
    deliveries.deliver(image(app))
    hosts = ["127.0.0.1", "localhost"]
    (file,) = files_of(run_tap(whatsapp_tap(deliveries, running, media_private_hosts=hosts)))
    assert file["media_key"] is None
    assert server.asked == []
    assert "localhost is not a host" in Parked(stores).list()[0].reason


@pytest.mark.parametrize(("token", "days", "error"), [("wrong", 0, "CredentialsError"), (TOKEN, 8, "RejectedError")])
def test_a_refused_token_or_an_old_file_parks_the_file_without_the_token(
    whatsapp: tuple[WhatsAppApp, SandboxServer], deliveries: WebhookSource, run_tap: RunTap, stores: Stores,
    token: str, days: int, error: str,
) -> None:  # fmt: skip
    app, running = whatsapp
    deliveries.deliver(image(app))
    app.clock.advance(days * 86_400)
    (file,) = files_of(run_tap(whatsapp_tap(deliveries, running, access_token=token)))
    (row,) = Parked(stores).list()
    assert (file["media_key"], row.error) == (None, error)
    assert token not in row.reason


def test_fetching_whatsapps_files_needs_a_token(deliveries: WebhookSource) -> None:
    with pytest.raises(SettingsError, match="fetch_media needs access_token"):
        _ = TapWhatsApp(config=deliveries.config(fetch_media=True)).settings
