"""The stand-in of a channel of one's own: its posts are signed as the scheme says and hold what the contract allows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest

from console.tally import Heard
from mappings.from_custom import PLATFORM, contract_schema
from mappings.platforms import Platform
from mappings.settings import tap_config_from_environment
from sandbox.custom import ROUTES, CustomSite, secret_of
from stores.database import Stores
from stores.parked import Parked
from taps.custom import CustomSettings, TapCustom
from taps.webhooks import custom
from taps.webhooks.items import WebhookRequest
from taps.webhooks.receiver import build_routes
from tests.contract.webhook import RunningReceiver, running_receiver
from tests.judges.environment import ask_judge
from tests.sandbox.conftest import Inbox

RunTap = Callable[[Any], list[dict[str, Any]]]
CUSTOM: dict[str, Platform] = {"custom": PLATFORM}


@pytest.fixture
def site() -> Iterator[CustomSite]:
    made = CustomSite()
    yield made
    made.stop()


@pytest.fixture
def receiver(site: CustomSite, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningReceiver]:
    """The real one, set up by the site's own variables."""
    for name, value in site.environment("").items():
        monkeypatch.setenv(name, value)
    with running_receiver(stores, build_routes(CUSTOM)) as running:
        yield running


def read(site: CustomSite, run_tap: RunTap, state_url: str) -> list[dict[str, Any]]:
    """What tap-custom makes of each route, with the site's own variables."""
    messages: list[dict[str, Any]] = []
    for route in ROUTES:
        config = tap_config_from_environment("tap-custom", CustomSettings, site.environment(""), route)
        messages += run_tap(TapCustom(config={**config, "state_url": state_url}))
    return [one for one in messages if one["type"] == "RECORD"]


def test_the_scene_goes_through_receiver_and_tap_and_nothing_is_lost_doubled_or_parked(
    site: CustomSite, receiver: RunningReceiver, run_tap: RunTap, state_url: str, stores: Stores
) -> None:
    site.connect(f"http://127.0.0.1:{receiver.port}")
    site.play()
    site.flush()
    records = read(site, run_tap, state_url)
    messages = [one["record"] for one in records if one["stream"] == "messages"]
    edited = {
        one["record"]["message_key"]: one["record"]["text"] for one in records if one["stream"] == "message_changes"
    }
    found = sorted(
        (one["channel"], str(edited.get(one["message_key"], one["text"])))
        for one in messages
        if one["direction"] == "inbound"
    )
    assert found == sorted((route, str(words)) for route, words, _ in site.heard())
    assert len({one["message_key"] for one in messages}) == len(messages) == len(site.told)
    assert {one["stream"] for one in records} >= {"messages", "message_changes", "consents", "evidence"}
    assert Parked(stores).count() == 0
    assert receiver.stored.count() < sum(one["accepted_posts"] for one in site.state()["webhooks"].values())


def test_what_was_heard_is_what_the_demo_counts(site: CustomSite) -> None:
    site.play()
    heard = [Heard(*one) for one in site.heard()]
    assert {one.channel for one in heard} == set(ROUTES)
    assert len(heard) == 8
    assert [one.words for one in heard if one.words is None] == [None, None]  # the missed call, the unsent message


def test_everything_that_is_posted_fits_the_published_schema(site: CustomSite, inbox: Inbox) -> None:
    site.connect(inbox.url.removesuffix("/webhook"))
    site.play()
    site.say(4711, "one")
    site.read(site.answer(4711, "two", "Omar"))
    site.flush()
    validator = jsonschema.Draft202012Validator(contract_schema())
    bodies = inbox.bodies()
    assert len(bodies) >= 15
    for body in bodies:
        validator.validate(body)
    assert not validator.is_valid({**bodies[0], "misspelt": 1})
    assert not validator.is_valid([])


def test_a_post_is_tried_again_under_its_id_until_it_is_taken(site: CustomSite, inbox: Inbox) -> None:
    inbox.answers = [503, 500]
    site.connect(inbox.url.removesuffix("/webhook"))
    site.say(1, "Hello")
    site.flush()
    ((headers, _),) = inbox.posts
    assert headers["Webhook-Id"].startswith("msg_")
    assert site.state()["webhooks"]["chat"]["attempts"] == 3


def test_while_a_secret_is_replaced_old_and_new_receivers_take_it(inbox: Inbox) -> None:
    new, old = secret_of("the new secret of the chat"), secret_of("the old secret of the chat")
    site = CustomSite({"chat": (new, old)})
    site.connect(inbox.url.removesuffix("/webhook"))
    site.say(1, "Hello")
    site.flush()
    site.stop()
    ((headers, body),) = inbox.posts
    request = WebhookRequest(headers={name.lower(): value for name, value in headers.items()}, body=body)
    for secret in (new, old):
        custom.verify(custom.Settings.model_validate({"secret": secret}), request)
    assert site.environment("")["ONETHREAD_CUSTOM_CHAT_PREVIOUS_SECRET"] == old


@pytest.mark.slow
def test_the_projects_own_library_takes_what_it_signs(site: CustomSite, inbox: Inbox) -> None:
    site.secrets["chat"] = (site.secrets["chat"][0], secret_of("the one before"))
    site.connect(inbox.url.removesuffix("/webhook"))
    site.say(1, "Grüße 😀")
    site.flush()
    ((headers, body),) = inbox.posts
    shared = {"id": "x", "timestamp": int(time.time()), "body": body.decode(), "headers": headers}
    secrets = (*site.secrets["chat"], secret_of("another one"))
    verdicts = ask_judge(
        "standardwebhooks", "standard_webhooks.py", {"cases": [{**shared, "secret": secret} for secret in secrets]}
    )
    assert [one["valid"] for one in verdicts] == [True, True, False]


def test_every_rule_says_where_it_is_from() -> None:
    assert all(rule.source and rule.kind == "documented" for rule in CustomSite.rules)
    assert [rule.name for rule in CustomSite.rules if rule.judge is None] == [
        "webhook-id stays, webhook-timestamp is new with every try",
        "10 tries in 75 hours, then it is given up; here the pauses are short",
    ]


def test_the_state_is_json(site: CustomSite) -> None:
    site.play()
    assert json.loads(json.dumps(site.state()))["told"]
