"""tap-line over the deliveries of its fixtures, and its calls against the stand-in server."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mappings.errors import SettingsError
from mappings.records import Attachment
from sandbox.base import Fault, SandboxServer
from sandbox.line import LineApp
from sandbox.line.people import PICTURE
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from stores.tokens import Tokens
from taps.base import Check
from taps.line import TapLine
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
Make = Callable[..., TapLine]
PARTS = {1: ["text", "message_edited", "unsend"], 2: ["text_stop", "account_link", "image"]}
TOKEN = "sandbox-access-token"


class LineSource(WebhookSource):
    """LINE's webhooks of a site that signs its nonces."""

    def config(self, **more: Any) -> dict[str, Any]:
        """The tap's settings."""
        return super().config(account_link_secret="example link secret", **more)


class TestTapLine(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[WebhookSource]:
        made = LineSource(stores, state_url, TapLine, PARTS)
        yield made
        made.close()


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapLine, PARTS)
    yield made
    made.close()


@pytest.fixture
def app() -> LineApp:
    return LineApp(access_token=TOKEN)


@pytest.fixture
def server(app: LineApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""

    def no_seconds(self: Any, error: Exception) -> float:
        return 0.0

    monkeypatch.setattr("taps.base._WaitSeconds.__call__", no_seconds)


@pytest.fixture
def make_tap(source: WebhookSource, server: SandboxServer) -> Make:
    """A tap that may call the stand-in with the long-lived token, unless told otherwise."""

    def make(state: dict[str, Any] | None = None, **config: Any) -> TapLine:
        settings = {"access_token": TOKEN, "api_url": server.url, "data_url": server.url,
                    "media_private_hosts": ["127.0.0.1"], **config}  # fmt: skip
        given = {name: value for name, value in settings.items() if value is not None}
        return TapLine(config=source.config(**given), state=state or {})

    return make


def records(messages: list[dict[str, Any]], stream: str = "messages") -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def names(messages: list[dict[str, Any]]) -> list[str]:
    return [one["profile"]["name"] for one in records(messages, "evidence") if one["method"] == "profile"]


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def told(app: LineApp, *message_ids: str) -> bytes:
    """The delivery with the events of these messages."""
    return app.compose([one.part for one in app.deliverer.events if one.subject in message_ids])


def checks(tap: TapLine) -> dict[str, Check]:
    return {one.what: one for one in tap.check()}


# -- deliveries --------------------------------------------------------------------------------------------------------


def test_every_event_of_a_batch_is_read_and_a_bad_one_is_parked(
    source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_fixture("batch")
    messages = run_tap(TapLine(config=source.config()))
    assert [one["text"] for one in records(messages)] == ["one", "three", None]
    (parked,) = Parked(stores).list()
    assert "text is list" in parked.reason


@pytest.mark.parametrize("fixture", ["verification", "verification_of_the_past"])
def test_the_consoles_verify_button_makes_no_record_and_nothing_is_parked(
    source: WebhookSource, run_tap: RunTap, stores: Stores, fixture: str
) -> None:
    source.deliver_fixture(fixture)
    tap = TapLine(config=source.config())
    assert [one for one in run_tap(tap) if one["type"] == "RECORD"] == []
    assert sum(tap.ignored.values()) == (1 if fixture == "verification" else 2)
    assert Parked(stores).list() == []


def test_what_line_delivers_again_is_no_second_message(app: LineApp, source: WebhookSource, run_tap: RunTap) -> None:
    question = app.text(app.add_user("Yuki"), "Did you get this?")
    source.deliver(told(app, question))
    first = len(app.deliverer.events)
    app.redeliver(question)
    source.deliver(app.compose([one.part for one in app.deliverer.events[first:]]))
    tap = TapLine(config=source.config())
    assert [one["text"] for one in records(run_tap(tap))] == ["Did you get this?"]
    assert tap.repeats == 1


def test_an_event_that_came_only_as_a_redelivery_is_read(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("redelivered")
    assert len(records(run_tap(TapLine(config=source.config())))) == 1


def test_deliveries_of_the_past_are_read(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("older_shapes")
    kinds = [one["kind"] for one in records(run_tap(TapLine(config=source.config())))]
    assert kinds == ["text", "image", "system", "system", "answer"]


def test_the_settings_reach_the_mapping(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("account_link")
    settings = {"account_link_secret": "example link secret", "provider_id": "2000000001"}
    evidence = records(run_tap(TapLine(config=source.config(**settings))), "evidence")
    assert [one["strength"] for one in evidence] == ["verified", "verified", "claimed", "claimed", "claimed"]
    assert evidence[0]["handles"][0]["scope"] == "2000000001"


# -- names -------------------------------------------------------------------------------------------------------------


def test_the_name_of_somebody_who_wrote_is_asked_for_once(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    yuki = app.add_user("Yuki")
    source.deliver(told(app, app.text(yuki, "one")))
    first = run_tap(make_tap())
    assert names(first) == ["Yuki"]
    source.deliver(told(app, app.text(yuki, "two")))
    assert names(run_tap(make_tap(state_of(first)))) == []
    assert Items(stores).missed() == {}


def test_who_was_asked_for_is_not_kept_in_mind(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap
) -> None:
    source.deliver(told(app, app.text(app.add_user("Yuki"), "hello")))
    tap = make_tap()
    run_tap(tap)
    assert tap._writers == {}


def test_a_member_of_a_group_is_asked_for_in_the_group(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap
) -> None:
    stranger = app.add_user("Ken", friend=False)
    group = app.open_group(stranger)
    source.deliver(
        told(app, app.text(stranger, "hello", group=group), app.text(stranger, "x", group=group, desktop=True))
    )
    assert names(run_tap(make_tap())) == ["Ken"]
    assert [one["path"] for one in app.journal] == [f"/v2/bot/group/{group}/member/{stranger}"]


def test_who_has_gone_stays_nameless_and_the_others_are_asked_for(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap
) -> None:
    gone, here = app.add_user("Gone"), app.add_user("Here")
    source.deliver(told(app, app.text(gone, "bye"), app.text(here, "hello")))
    app.users[gone].blocked = True
    assert names(run_tap(make_tap())) == ["Here"]


def test_who_blocked_the_bot_is_not_asked_for(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap
) -> None:
    source.deliver_fixture("unfollow")
    assert len(records(run_tap(make_tap()), "consents")) == 2
    assert app.journal == []


def test_a_run_asks_for_as_many_names_as_it_may_and_not_twice_for_one(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap
) -> None:
    people = [app.add_user(f"Person {number}") for number in range(4)]
    source.deliver(told(app, *(app.text(one, "hello") for one in people[:3])))
    state = state_of(run_tap(make_tap(profiles_per_run=2)))
    source.deliver(told(app, *(app.text(one, "again") for one in people)))
    assert names(run_tap(make_tap(state, profiles_per_run=2))) == ["Person 2", "Person 3"]


@pytest.mark.parametrize("given", [{"access_token": None}, {"profiles_per_run": 0}])
def test_without_access_or_budget_people_stay_nameless(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap, given: dict[str, Any]
) -> None:
    source.deliver(told(app, app.text(app.add_user("Yuki"), "hello")))
    assert len(records(run_tap(make_tap(**given)))) == 1
    assert app.journal == []


@pytest.mark.parametrize("status", [429, 500, 401, 403])
def test_a_refusal_costs_names_and_nothing_else_and_the_next_run_asks_again(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap, status: int
) -> None:
    yuki = app.add_user("Yuki")
    source.deliver(told(app, app.text(yuki, "one")))
    fault = Fault("/v2/bot/profile", status=status, times=1000, body={"message": "no"})
    app.faults.append(fault)
    first = run_tap(make_tap())
    assert ([one["text"] for one in records(first)], names(first)) == (["one"], [])
    app.faults.remove(fault)
    source.deliver(told(app, app.text(yuki, "two")))
    assert names(run_tap(make_tap(state_of(first)))) == ["Yuki"]


def test_a_run_that_was_killed_while_asking_asks_again(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap
) -> None:
    people = [app.add_user(name) for name in ("Yuki", "Ken")]
    source.deliver(told(app, *(app.text(one, "hello") for one in people)))
    reading = make_tap().read()
    next(one for one in reading if getattr(one, "method", None) == "profile")
    reading.close()  # type: ignore[attr-defined]
    assert names(run_tap(make_tap())) == ["Yuki", "Ken"]


def test_neither_token_nor_text_nor_secret_gets_into_the_log(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap, caplog: Any
) -> None:
    source.deliver(told(app, app.text(app.add_user("Yuki"), "a private word")))
    app.faults.append(Fault("/v2/bot/profile", status=503, times=1))
    with caplog.at_level(logging.DEBUG):
        run_tap(make_tap(access_token=None, channel_id=app.channel_id, channel_secret=app.channel_secret))
    for secret in (app.channel_secret, "private word", *app.issued):
        assert secret not in caplog.text


# -- access tokens -----------------------------------------------------------------------------------------------------


def test_with_id_and_secret_a_stateless_token_is_issued_and_used_until_it_nears_its_end(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    given = {"access_token": None, "channel_id": app.channel_id, "channel_secret": app.channel_secret}
    source.deliver(told(app, *(app.text(app.add_user(f"Person {one}"), "hello") for one in range(3))))
    assert len(names(run_tap(make_tap(**given)))) == 3
    assert [kind for kind, _ in app.issued.values()] == ["stateless"]
    (status,) = Tokens(stores).listing()
    assert status.name == f"line:{app.channel_id}"
    assert status.expires_at is not None
    assert timedelta(minutes=14) < status.expires_at - datetime.now(UTC) <= timedelta(minutes=15)


def test_a_token_near_its_end_is_replaced(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"access_token": None, "channel_id": app.channel_id, "channel_secret": app.channel_secret}
    source.deliver(told(app, *(app.text(app.add_user(f"Person {one}"), "hello") for one in range(2))))
    monkeypatch.setattr("taps.line._AHEAD_STATELESS", timedelta(minutes=16))
    assert len(names(run_tap(make_tap(**given)))) == 2
    assert len(app.issued) > 1


@pytest.fixture
def signing_key(app: LineApp) -> str:
    """A key whose public part is registered at the channel as ``kid-1``."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    app.assertion_keys["kid-1"] = public.decode()
    return str(jwt.algorithms.RSAAlgorithm.to_jwk(key))


def test_with_a_registered_key_a_token_of_kind_v2_1_is_issued_for_as_long_as_wanted(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap, signing_key: str
) -> None:
    given = {"access_token": None, "channel_id": app.channel_id, "assertion_key": signing_key,
             "assertion_key_id": "kid-1", "token_days": 7}  # fmt: skip
    for name in ("Yuki", "Ken"):
        source.deliver(told(app, app.text(app.add_user(name), "hello")))
        run_tap(make_tap(**given))
    ((kind, expires_at),) = app.issued.values()
    assert kind == "v2.1"
    assert 6.9 * 86_400 < expires_at - app.clock.epoch() <= 7 * 86_400


def test_a_key_with_its_own_id_needs_no_setting(make_tap: Make, app: LineApp, signing_key: str) -> None:
    key = json.dumps({**json.loads(signing_key), "kid": "kid-1"})
    tap = make_tap(access_token=None, channel_id=app.channel_id, assertion_key=key)
    assert checks(tap)["access token"].ok is True


@pytest.mark.parametrize(("key_id", "words"), [(None, "assertion_key_id"), ("kid-2", "answered 400")])
def test_a_key_that_line_does_not_know_is_told_by_the_doctor(
    make_tap: Make, app: LineApp, signing_key: str, key_id: str | None, words: str
) -> None:
    tap = make_tap(access_token=None, channel_id=app.channel_id, assertion_key=signing_key, assertion_key_id=key_id)
    found = checks(tap)["access token"]
    assert found.ok is False
    assert words in found.detail


def test_a_token_that_was_revoked_is_replaced_once(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap
) -> None:
    given = {"access_token": None, "channel_id": app.channel_id, "channel_secret": app.channel_secret}
    source.deliver(told(app, app.text(app.add_user("Yuki"), "hello")))
    state = state_of(run_tap(make_tap(**given)))
    app.issued.clear()
    source.deliver(told(app, app.text(app.add_user("Ken"), "hello")))
    assert names(run_tap(make_tap(state, **given))) == ["Ken"]
    assert len(app.issued) == 1


def test_a_wrong_secret_costs_names_and_is_not_shown(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap, caplog: Any
) -> None:
    source.deliver(told(app, app.text(app.add_user("Yuki"), "hello")))
    with caplog.at_level(logging.DEBUG):
        found = run_tap(make_tap(access_token=None, channel_id=app.channel_id, channel_secret="wrong-secret-0123"))
    assert (len(records(found)), names(found)) == (1, [])
    assert "wrong-secret" not in caplog.text


def test_a_key_without_a_channel_is_a_wrong_setting(make_tap: Make, run_tap: RunTap) -> None:
    with pytest.raises(SettingsError, match="channel_id"):
        run_tap(make_tap(assertion_key="{}"))


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_from_the_data_host_with_the_token(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap
) -> None:
    source.deliver(told(app, app.image(app.add_user("Yuki"))))
    tap = make_tap(fetch_media=True, profiles_per_run=0)
    (attachment,) = records(run_tap(tap))[0]["attachments"]
    assert b"".join(tap.media.open(attachment["media_key"])) == PICTURE
    assert attachment["mime_type"] == "image/png"


def test_the_token_goes_to_the_data_host_alone(make_tap: Make) -> None:
    tap = make_tap(data_url="https://api-data.line.me")
    kept = tap.media_request(Attachment(kind="image", platform_media_id="1/2"), _any_message())
    elsewhere = tap.media_request(Attachment(kind="image", url="https://pictures.example/a.jpg"), _any_message())
    assert kept is not None
    assert kept.url == "https://api-data.line.me/v2/bot/message/1%2F2/content"
    assert kept.hosts == frozenset({"api-data.line.me"})
    assert kept.headers == {"Authorization": f"Bearer {TOKEN}"}
    assert elsewhere is not None
    assert (elsewhere.url, dict(elsewhere.headers)) == ("https://pictures.example/a.jpg", {})


def test_without_access_a_file_stays_where_it_is(make_tap: Make) -> None:
    attachment = Attachment(kind="image", platform_media_id="1")
    assert make_tap(access_token=None).media_request(attachment, _any_message()) is None


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_what_is_being_prepared_is_waited_for(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap, kind: str
) -> None:
    source.deliver(told(app, getattr(app, kind)(app.add_user("Yuki"))))
    app.faults.append(Fault("/transcoding", status=200, times=2, body={"status": "processing"}))
    (attachment,) = records(run_tap(make_tap(fetch_media=True, profiles_per_run=0)))[0]["attachments"]
    assert attachment["media_key"]
    assert [one["path"].rpartition("/")[2] for one in app.journal] == [*["transcoding"] * 3, "content"]


@pytest.mark.parametrize("prepared", ["processing", "failed"])
def test_what_is_never_prepared_is_parked_and_the_message_flows(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap, stores: Stores, prepared: str
) -> None:
    source.deliver(told(app, app.video(app.add_user("Yuki"), prepared=prepared)))
    (message,) = records(run_tap(make_tap(fetch_media=True, profiles_per_run=0)))
    assert message["attachments"][0]["media_key"] is None
    (parked,) = Parked(stores).list()
    assert parked.stream == "media"
    assert "prepared" in parked.reason


def test_the_file_of_a_message_that_was_taken_back_is_deleted(
    make_tap: Make, app: LineApp, source: WebhookSource, run_tap: RunTap
) -> None:
    yuki = app.add_user("Yuki")
    picture = app.image(yuki)
    source.deliver(told(app, picture))
    tap = make_tap(fetch_media=True, profiles_per_run=0)
    first = run_tap(tap)
    key = records(first)[0]["attachments"][0]["media_key"]
    app.unsend(yuki, picture)
    source.deliver(app.compose([app.deliverer.events[-1].part]))
    run_tap(make_tap(state_of(first), fetch_media=True, profiles_per_run=0))
    assert tap.media.facts(key) is None


def _any_message() -> Any:
    return None


# -- doctor ------------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_all_well(make_tap: Make, app: LineApp) -> None:
    app.endpoint, app.active = "https://hooks.shop.example/webhooks/line", True
    found = checks(make_tap())
    assert {name: one.ok for name, one in found.items()} == {
        "settings": True, "access token": True, "bot": True, "webhook": True, "clock": True, "redelivery": None,
    }  # fmt: skip
    assert found["access token"].detail == "long-lived, valid without an end"


def test_the_doctor_tells_until_when_an_issued_token_is_valid(make_tap: Make, app: LineApp) -> None:
    tap = make_tap(access_token=None, channel_id=app.channel_id, channel_secret=app.channel_secret)
    assert checks(tap)["access token"].detail.startswith("stateless, valid until 20")


def test_the_doctor_tells_that_a_token_is_refused_without_showing_it(make_tap: Make) -> None:
    found = checks(make_tap(access_token="wrong-token-0123456789"))
    assert found["access token"].ok is False
    assert found["access token"].fix
    assert "wrong-token" not in "".join(one.detail for one in found.values())


@pytest.mark.parametrize(
    ("endpoint", "active", "route", "ok"),
    [("https://hooks.shop.example/webhooks/line", True, "default", True),
     ("https://hooks.shop.example/in/webhooks/line/", True, "default", True),
     ("https://hooks.shop.example/webhooks/line/default", True, "default", True),
     ("https://hooks.shop.example/webhooks/line/shop2", True, "shop2", True),
     ("https://hooks.shop.example/webhooks/line", True, "shop2", False),
     ("https://hooks.shop.example/webhooks/line", False, "default", False),
     ("https://other.example/line", True, "default", False), ("", False, "default", False)],
)  # fmt: skip
def test_the_doctor_tells_whether_line_calls_us(
    make_tap: Make, app: LineApp, endpoint: str, active: bool, route: str, ok: bool
) -> None:
    app.endpoint, app.active = endpoint, active
    found = checks(make_tap(route=route))["webhook"]
    assert found.ok is ok
    assert ok or found.fix


def test_the_doctor_tells_of_a_clock_that_is_wrong(
    make_tap: Make, app: LineApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taps.base.CLOCK_SKEW", timedelta(seconds=-1))
    assert checks(make_tap())["clock"].ok is False


def test_the_doctor_says_what_is_missing_without_access(make_tap: Make, app: LineApp) -> None:
    found = checks(make_tap(access_token=None))
    assert found["access token"].ok is None
    assert app.journal == []
