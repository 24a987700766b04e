"""tap-custom over the deliveries of its fixtures: each route a channel of its own name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mappings.errors import SettingsError
from mappings.from_custom import PLATFORM
from mappings.platforms import Platform
from mappings.settings import tap_config_from_environment
from stores.database import Stores
from stores.parked import Parked
from taps.custom import CustomSettings, TapCustom
from tests.contract.mapping import load_delivery
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource
from tests.taps.webhooks.test_custom import SECRET

RunTap = Callable[[Any], list[dict[str, Any]]]
PARTS = {1: ["message", "change_edit", "form"], 2: ["receipt", "consent", "same_person", "call"]}


class TestTapCustom(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[WebhookSource]:
        made = WebhookSource(stores, state_url, TapCustom, PARTS, bad="unknown_kind")
        yield made
        made.close()


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapCustom, PARTS)
    yield made
    made.close()


def messages_of(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == "messages"]


def test_a_route_is_a_channel_under_its_name(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(load_delivery("custom", "message"), route="forms")
    source.deliver(load_delivery("custom", "message"), route="calls")
    source.deliver(load_delivery("custom", "message"))
    found = [messages_of(run_tap(TapCustom(config=source.config(route=route)))) for route in ("forms", "calls")]
    found.append(messages_of(run_tap(TapCustom(config=source.config()))))
    assert [[(one["channel"], one["account"]) for one in of_route] for of_route in found] == [
        [("forms", "forms")], [("calls", "calls")], [("custom", "default")],
    ]  # fmt: skip
    assert len({one["message_key"] for of_route in found for one in of_route}) == 3


def test_settings_name_channel_account_and_scope(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(load_delivery("custom", "message"), route="calls_rome")
    settings = {"route": "calls_rome", "channel": "calls", "account": "+12025550100", "id_scope": "shop"}
    (message,) = messages_of(run_tap(TapCustom(config=source.config(**settings))))
    assert message["message_key"] == "calls:+12025550100:m-1"
    assert message["handles"][0]["scope"] == "shop"


@pytest.mark.parametrize("where", [{"route": "pigeon"}, {"route": "x", "channel": "pigeon"}])
def test_a_route_cannot_pass_for_another_platform(
    source: WebhookSource, run_tap: RunTap, where: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Platform(slug="pigeon", name="Pigeon Post", tap="x:y", mapping="x")
    monkeypatch.setattr("taps.custom.load_platforms", lambda: {"custom": PLATFORM, "pigeon": other})
    source.deliver(load_delivery("custom", "message"), route=where["route"])
    with pytest.raises(SettingsError, match="pigeon is the channel of Pigeon Post"):
        run_tap(TapCustom(config=source.config(**where)))


def test_every_good_record_of_a_list_is_read_and_every_bad_one_parked(
    source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_fixture("batch")
    assert [one["text"] for one in messages_of(run_tap(TapCustom(config=source.config())))] == ["one", "four"]
    reasons = sorted(one.reason for one in Parked(stores).list())
    assert reasons == [
        "Custom custom: colour: is no field of the contract; correct its name, or put it into `fields`",
        "Custom custom: is no object; a record is written as {...}",
    ]


def test_a_record_that_comes_again_under_its_id_is_not_doubled(source: WebhookSource, run_tap: RunTap) -> None:
    record = {"kind": "message", "id": 1, "who": {"id": 7}, "text": "Hello"}
    source.deliver([record])
    source.deliver([{**record, "text": "Hello again"}, {**record, "id": 2}])
    tap = TapCustom(config=source.config())
    assert [one["text"] for one in messages_of(run_tap(tap))] == ["Hello", "Hello"]
    assert tap.repeats == 1


def test_two_accounts_may_have_the_same_ids(source: WebhookSource, run_tap: RunTap) -> None:
    record = {"kind": "message", "id": 1, "who": {"id": 7}, "text": "Hello"}
    source.deliver([{**record, "account": "rome"}, {**record, "account": "paris"}])
    assert len(messages_of(run_tap(TapCustom(config=source.config())))) == 2


def test_phone_numbers_get_the_country_of_the_settings(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver({"kind": "call", "id": 1, "who": {"phone": "07700 900123"}})
    (message,) = messages_of(run_tap(TapCustom(config=source.config(default_region="GB"))))
    assert message["handles"][0]["value"] == "+447700900123"


@pytest.mark.parametrize("wrong", [{"channel": "Forms"}, {"channel": "a:b"}, {"default_region": "uk "}])
def test_a_wrong_setting_is_named(source: WebhookSource, wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        _ = TapCustom(config=source.config(**wrong)).settings


def test_each_route_has_its_own_variables() -> None:
    environment = {
        "ONETHREAD_CUSTOM_ROUTES": "forms,calls",
        "ONETHREAD_CUSTOM_FORMS_SECRET": SECRET,
        "ONETHREAD_CUSTOM_CALLS_ACCOUNT": "+12025550100",
        "ONETHREAD_CUSTOM_DEFAULT_REGION": "GB",
    }
    configs = [
        tap_config_from_environment("tap-custom", CustomSettings, environment, one) for one in ("forms", "calls")
    ]
    assert configs == [
        {"route": "forms", "default_region": "GB"},
        {"route": "calls", "default_region": "GB", "account": "+12025550100"},
    ]


def test_the_check_says_whether_the_secret_is_set(source: WebhookSource, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> dict[str, tuple[bool | None, str]]:
        checks = TapCustom(config=source.config(route="forms")).check()
        return {one.what: (one.ok, one.detail + one.fix) for one in checks}

    assert found()["channel"] == (True, "messages are on channel forms")
    assert found()["webhook secret"][0] is False
    assert "ONETHREAD_CUSTOM_FORMS_SECRET" in found()["webhook secret"][1]
    monkeypatch.setenv("ONETHREAD_CUSTOM_FORMS_SECRET", "a short word")
    assert "cannot be used" in found()["webhook secret"][1]
    assert "a short word" not in found()["webhook secret"][1]
    monkeypatch.setenv("ONETHREAD_CUSTOM_FORMS_SECRET", SECRET)
    assert found()["webhook secret"] == (True, "is set")


def test_the_unnamed_route_needs_no_secret_where_others_are_named(
    source: WebhookSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verdict() -> bool | None:
        (check,) = [one for one in TapCustom(config=source.config()).check() if one.what == "webhook secret"]
        return check.ok

    assert verdict() is False
    monkeypatch.setenv("ONETHREAD_CUSTOM_ROUTES", "forms")
    assert verdict() is None


def test_what_meltano_hands_over_empty_is_not_set(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("message")
    optional = [name for name, field in CustomSettings.model_fields.items() if field.default is None]
    empty = {name: "" for name in optional if name != "state_url"}
    assert len(messages_of(run_tap(TapCustom(config=source.config(**empty))))) == 1
