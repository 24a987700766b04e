"""tap-channels: all channels in one process, each with its own cursor, none stopped by another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mappings.errors import CredentialsError, SettingsError
from mappings.settings import tap_config_from_environment
from sandbox.base import Fault, SandboxServer
from sandbox.messenger import MessengerApp
from stores.database import Stores
from taps.channels import TapChannels, configured_accounts
from taps.messenger import MessengerSettings, TapMessenger
from taps.whatsapp import TapWhatsApp
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
WHATSAPP = {1: ["text", "image", "reaction", "status_sent"], 2: ["text_stop", "user_id_update", "echo"]}
MESSENGER = {1: ["message", "delivery"], 2: ["message_reply", "reaction"]}


class TwoChannels:
    """WhatsApp and Messenger deliveries in one store."""

    tap_class = TapChannels
    parked_by = "tap-whatsapp"

    def __init__(self, stores: Stores, state_url: str) -> None:
        self.whatsapp = WebhookSource(stores, state_url, TapWhatsApp, WHATSAPP, bad="unknown_field")
        self.messenger = WebhookSource(stores, state_url, TapMessenger, MESSENGER)

    def config(self, **more: Any) -> dict[str, Any]:
        return self.whatsapp.config(**more)

    def add(self, part: int) -> None:
        self.whatsapp.add(part)
        self.messenger.add(part)

    def add_bad(self) -> None:
        self.whatsapp.add_bad()

    def close(self) -> None:
        self.whatsapp.close()
        self.messenger.close()


@pytest.fixture
def source(stores: Stores, state_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoChannels]:
    monkeypatch.setenv("ONETHREAD_WHATSAPP_APP_SECRET", "one")
    monkeypatch.setenv("ONETHREAD_MESSENGER_APP_SECRET", "two")
    made = TwoChannels(stores, state_url)
    yield made
    made.close()


class TestTapChannels(TapContract):
    @pytest.fixture
    def source(self, source: TwoChannels) -> TwoChannels:
        return source


def texts(messages: list[dict[str, Any]]) -> set[tuple[str, str | None]]:
    return {
        (one["record"]["channel"], one["record"]["text"])
        for one in messages
        if one["type"] == "RECORD" and one["stream"] == "messages"
    }


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def test_each_account_has_a_cursor_of_its_own(source: TwoChannels, run_tap: RunTap) -> None:
    source.add(1)
    cursor = state_of(run_tap(TapChannels(config=source.config())))["bookmarks"]["cursor"]
    assert {name: one["delivery_id"] for name, one in cursor.items()} == {"tap-messenger": 6, "tap-whatsapp": 4}


def test_it_tells_what_the_single_taps_tell(source: TwoChannels, run_tap: RunTap, tmp_path: Any) -> None:
    source.add(1)
    together = texts(run_tap(TapChannels(config=source.config())))
    elsewhere = f"sqlite:///{tmp_path}/elsewhere"
    alone: set[tuple[str, str | None]] = set()
    other = TwoChannels(Stores(elsewhere), elsewhere)
    other.add(1)
    for tap_class in (TapWhatsApp, TapMessenger):
        alone |= texts(run_tap(tap_class(config=other.config())))
    other.close()
    assert together == alone
    assert {channel for channel, _ in together} == {"whatsapp", "messenger"}


def test_a_channel_that_is_refused_stops_no_other_and_the_run_fails_at_its_end(
    source: TwoChannels, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source.add(1)
    app = MessengerApp()
    app.faults.append(Fault("/conversations", status=401, times=99, body={"error": {"code": 190}}))
    with SandboxServer(app) as server:
        for name, value in {"ACCESS_TOKEN": "wrong", "PAGE_ID": "1", "API_URL": server.url}.items():
            monkeypatch.setenv(f"ONETHREAD_MESSENGER_{name}", value)
        tap = TapChannels(config=source.config())
        with pytest.raises(CredentialsError):
            run_tap(tap)
    assert tap.cursor["tap-whatsapp"]["delivery_id"] == 4
    assert "tap-messenger could not be read" in caplog.text


def test_what_arrives_while_it_follows_is_read_in_the_same_run(source: TwoChannels, run_tap: RunTap) -> None:
    timer = threading.Timer(0.2, source.add, [1])
    timer.start()
    messages = run_tap(TapChannels(config=source.config(follow_seconds=2)))
    timer.join()
    assert {channel for channel, _ in texts(messages)} == {"whatsapp", "messenger"}


def test_no_configured_channel_is_an_error_that_says_what_to_set(state_url: str, run_tap: RunTap) -> None:
    with pytest.raises(SettingsError, match="no channel is configured"):
        run_tap(TapChannels(config={"state_url": state_url}))


def accounts(environment: dict[str, str], *channels: str) -> list[tuple[str, str | None]]:
    return [(platform.slug, route) for platform, route in configured_accounts(environment, channels)]


def test_a_platform_is_read_when_a_variable_of_its_own_is_set() -> None:
    assert accounts({"ONETHREAD_WHATSAPP_APP_SECRET": "x", "ONETHREAD_EMAIL_HOST": ""}) == [("whatsapp", None)]


def test_further_accounts_are_named_in_routes() -> None:
    environment = {"ONETHREAD_WHATSAPP_ROUTES": "shop2", "ONETHREAD_WHATSAPP_SHOP2_APP_SECRET": "x"}
    assert accounts(environment) == [("whatsapp", "shop2")]
    both = accounts({**environment, "ONETHREAD_WHATSAPP_APP_SECRET": "y"})
    assert both == [("whatsapp", None), ("whatsapp", "shop2")]


def test_named_channels_are_read_whatever_is_set() -> None:
    assert accounts({}, "messenger") == [("messenger", None)]
    with pytest.raises(SettingsError, match="no platform 'fax'"):
        accounts({}, "fax")


def test_settings_come_from_variables_as_their_types() -> None:
    config = tap_config_from_environment(
        "tap-messenger", MessengerSettings,
        {"ONETHREAD_MESSENGER_RECONCILE": "true", "ONETHREAD_MESSENGER_RECONCILE_HOURS": "1.5",
         "ONETHREAD_MESSENGER_PAGE_ID": "77", "ONETHREAD_MESSENGER_ACCESS_TOKEN": ""},
    )  # fmt: skip
    assert config == {"reconcile": True, "reconcile_hours": 1.5, "page_id": "77"}


def test_a_value_of_another_type_names_the_variable_and_not_the_value() -> None:
    with pytest.raises(SettingsError, match="ONETHREAD_MESSENGER_RECONCILE_HOURS is not a JSON number") as raised:
        tap_config_from_environment(
            "tap-messenger", MessengerSettings, {"ONETHREAD_MESSENGER_RECONCILE_HOURS": "canary"}
        )
    assert "canary" not in str(raised.value)


def test_a_further_account_takes_no_secret_and_no_id_of_the_first() -> None:
    environment = {
        "ONETHREAD_MESSENGER_API_URL": "https://graph.test",
        "ONETHREAD_MESSENGER_ACCESS_TOKEN": "of the first",
        "ONETHREAD_MESSENGER_PAGE_ID": "1",
        "ONETHREAD_MESSENGER_SHOP2_PAGE_ID": "2",
    }
    assert tap_config_from_environment("tap-messenger", MessengerSettings, environment, "shop2") == {
        "route": "shop2", "api_url": "https://graph.test", "page_id": "2",
    }  # fmt: skip
