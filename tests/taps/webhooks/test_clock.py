"""Our own clock is wrong: deliveries that are refused for their time are told from forged ones, once."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Iterator

import pytest

from stores.database import Stores
from taps.webhooks import clock as clock_module
from taps.webhooks import slack
from taps.webhooks.receiver import WebhookRoute
from tests.contract.webhook import RunningReceiver, running_receiver

SECRET = "a-signing-secret-0123456789abcdef"
ALARM = 'onethread_receiver_clock_alarm{platform="slack",route="default"}'


@pytest.fixture
def receiver(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningReceiver]:
    monkeypatch.setattr(clock_module, "_PAUSE_SECONDS", 0)
    settings = slack.Settings(signing_secret=SECRET)
    with running_receiver(stores, {("slack", "default"): WebhookRoute(slack, settings)}) as running:
        yield running


def post(receiver: RunningReceiver, minutes_off: float, secret: str = SECRET) -> int:
    """A delivery of a platform whose clock differs from ours by that much."""
    body, at = b'{"type": "event_callback"}', str(int(time.time() + minutes_off * 60))
    digest = hmac.new(secret.encode(), f"v0:{at}:".encode() + body, hashlib.sha256).hexdigest()
    headers = [("X-Slack-Request-Timestamp", at), ("X-Slack-Signature", f"v0={digest}")]
    return receiver.request("POST", "/webhooks/slack", body, headers).status


def alarm(receiver: RunningReceiver) -> str:
    page = receiver.request("GET", "/metrics").body.decode()
    return next(line.rpartition(" ")[2] for line in page.splitlines() if line.startswith(ALARM))


@pytest.mark.parametrize(("minutes_off", "words"), [(-10, "10 minutes ahead"), (10, "10 minutes behind")])
def test_a_wrong_clock_of_ours_is_one_alarm_in_the_log_and_in_the_metrics_until_it_is_right(
    receiver: RunningReceiver, caplog: pytest.LogCaptureFixture, minutes_off: float, words: str
) -> None:
    assert [post(receiver, minutes_off) for _ in range(4)] == [401] * 4
    assert alarm(receiver) == "0.0"
    assert [post(receiver, minutes_off) for _ in range(8)] == [401] * 8
    assert alarm(receiver) == "1.0"
    told = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert len(told) == 1
    assert words in told[0]
    assert post(receiver, 0) == 200
    assert alarm(receiver) == "0.0"
    assert receiver.stored.count() == 1


def test_forged_deliveries_raise_no_alarm(receiver: RunningReceiver, caplog: pytest.LogCaptureFixture) -> None:
    assert {post(receiver, -10, "a-forgers-secret-0123456789abcdef") for _ in range(10)} == {401}
    assert alarm(receiver) == "0.0"
    assert not [one for one in caplog.records if one.levelno == logging.ERROR]


def test_a_captured_delivery_that_is_sent_again_between_others_raises_none(receiver: RunningReceiver) -> None:
    for _ in range(4):
        assert post(receiver, -10) == 401
        assert post(receiver, -10) == 401
        assert post(receiver, 0) == 200
    assert alarm(receiver) == "0.0"


def test_a_flood_is_tried_once_in_a_while_only(receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "_PAUSE_SECONDS", 3600)
    assert {post(receiver, -10) for _ in range(10)} == {401}
    assert alarm(receiver) == "0.0"
