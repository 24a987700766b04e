from __future__ import annotations

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from mappings.errors import SignatureError
from taps.webhooks import slack
from taps.webhooks.items import Answer, WebhookRequest
from tests.contract.webhook import JsonBodyContract, RunningReceiver, WebhookContract

OURS, CHANNEL, ADA = "T0OURS0001", "C0SHARED01", "U0ADA00001"
SECRET = "current-secret-0123456789"


def event(**fields: Any) -> dict[str, Any]:
    return {"type": "message", "channel": CHANNEL, "user": ADA, "text": "Grüße", "ts": "1772366400.000100",
            "event_ts": "1772366400.000100", **fields}  # fmt: skip


def delivery(inner: Any, event_id: str = "Ev0000000A", **more: Any) -> bytes:
    installed = {"team_id": OURS, "user_id": "U0BOT00001", "is_bot": True}
    body = {"token": "XXYYZZ", "team_id": OURS, "api_app_id": "A0APP", "event": inner, "type": "event_callback",
            "event_id": event_id, "event_time": 1772366400, "authorizations": [installed],
            "is_ext_shared_channel": True, **more}  # fmt: skip
    return json.dumps(body).encode()


def handshake(challenge: Any = "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P") -> bytes:
    return json.dumps({"token": "XXYYZZ", "challenge": challenge, "type": "url_verification"}).encode()


def sign(secret: str, body: bytes, timestamp: str) -> str:
    return "v0=" + hmac.new(secret.encode(), f"v0:{timestamp}:".encode() + body, hashlib.sha256).hexdigest()


def settings(secret: str = SECRET, previous: str | None = None) -> slack.Settings:
    return slack.Settings.model_validate({"signing_secret": secret, "previous_signing_secret": previous})


class TestSlackWebhook(WebhookContract, JsonBodyContract):
    slug = "slack"
    module: ClassVar[Any] = slack
    signature_header = "X-Slack-Signature"
    body = delivery(event(edited={"user": ADA, "ts": "1772366460.000000"}, metadata={"event_payload": {"x": 1}}))
    kinds = ("message",)

    @pytest.fixture(autouse=True)
    def _signed_now(self) -> None:
        self.more_headers = {"X-Slack-Request-Timestamp": str(int(time.time()))}

    def settings(self, secret: str, previous: str | None = None) -> slack.Settings:
        return settings(secret, previous)

    def sign(self, secret: str, body: bytes) -> str:
        return sign(secret, body, self.more_headers["X-Slack-Request-Timestamp"])

    def test_a_get_is_405(self, receiver: RunningReceiver) -> None:
        assert receiver.request("GET", "/webhooks/slack?challenge=x").status == 405

    def test_a_signed_handshake_is_answered_with_its_challenge(self, receiver: RunningReceiver) -> None:
        body = handshake("c-1_2.3~=")
        answer = self.post(receiver, body, self.sign(self.current, body))
        assert (answer.status, answer.body) == (200, b"c-1_2.3~=")
        assert answer.headers["content-type"].startswith("text/plain")

    def test_a_handshake_that_nobody_signed_is_401_and_reflects_nothing(self, receiver: RunningReceiver) -> None:
        answer = self.post(receiver, handshake(), self.sign("another", handshake()))
        assert (answer.status, answer.body) == (401, b"")

    def test_the_headers_that_say_why_it_came_again_are_kept(self, receiver: RunningReceiver) -> None:
        self.more_headers = {**self.more_headers, "X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"}
        assert self.post(receiver, self.body, self.sign(self.current, self.body)).status == 200
        (stored,) = receiver.stored.read("slack", "default", 0, 10)
        assert (stored.headers["x-slack-retry-num"], stored.headers["x-slack-retry-reason"]) == ("1", "http_timeout")


def request(timestamp: str, signature: str, at: datetime, body: bytes = b"{}") -> WebhookRequest:
    headers = {"x-slack-signature": signature, "x-slack-request-timestamp": timestamp}
    return WebhookRequest(headers=headers, body=body, received_at=at)


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_a_delivery_of_the_last_five_minutes_is_taken(seconds: int) -> None:
    stamp = str(int((NOW + timedelta(seconds=seconds)).timestamp()))
    slack.verify(settings(), request(stamp, sign(SECRET, b"{}", stamp), NOW))


@pytest.mark.parametrize("seconds", [-86_400, -301, 301])
def test_an_older_or_future_delivery_is_refused_although_it_is_signed(seconds: int) -> None:
    stamp = str(int((NOW + timedelta(seconds=seconds)).timestamp()))
    with pytest.raises(SignatureError, match="limit is 300"):
        slack.verify(settings(), request(stamp, sign(SECRET, b"{}", stamp), NOW))


@pytest.mark.parametrize("stamp", ["", "abc", "1772366400.0", "-1", " 1772366400", "1772366400,1772366400", "٣" * 10])
def test_a_time_that_is_no_number_is_refused(stamp: str) -> None:
    with pytest.raises(SignatureError, match="timestamp"):
        slack.verify(settings(), request(stamp, sign(SECRET, b"{}", stamp), NOW))


def test_another_time_breaks_the_signature() -> None:
    stamp = str(int(NOW.timestamp()))
    with pytest.raises(SignatureError, match="does not match"):
        slack.verify(settings(), request(str(int(stamp) + 1), sign(SECRET, b"{}", stamp), NOW))


def test_an_empty_secret_refuses_to_start() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        settings(" ")


@pytest.mark.parametrize(
    "body",
    [handshake("<b>1</b>"), handshake("x" * 257), handshake(None), handshake(["x"]), delivery(event()),
     b'{"type":"message","challenge":"x","text":"url_verification"}', b"url_verification", b"\xff url_verification"],
)  # fmt: skip
def test_only_a_plain_challenge_of_a_handshake_is_reflected(body: bytes) -> None:
    assert slack.answer(settings(), WebhookRequest(body=body)) == Answer()


def test_the_same_message_under_another_event_id_is_the_same_item() -> None:
    first, again = (slack.split(delivery(event(), one))[0] for one in ("Ev1", "Ev2"))
    assert first.key == again.key == f"{CHANNEL}:1772366400.000100"


def test_a_mention_is_the_message_that_it_is_in() -> None:
    (mention,) = slack.split(delivery(event(type="app_mention")))
    assert (mention.kind, mention.key) == ("message", f"{CHANNEL}:1772366400.000100")


def test_an_item_carries_its_envelope_without_the_verification_token() -> None:
    (item,) = slack.split(delivery(event()))
    assert item.payload["event"] == event()
    assert item.payload["envelope"]["event_id"] == "Ev0000000A"
    assert "XXYYZZ" not in json.dumps(item.payload)


EDITED = {"type": "message", "ts": "1772366400.000100", "edited": {"ts": "1772366460.000000"}}


@pytest.mark.parametrize(
    ("fields", "kind", "key"),
    [
        ({}, "message", f"{CHANNEL}:1772366400.000100"),
        ({"subtype": "file_share"}, "message", f"{CHANNEL}:1772366400.000100"),
        ({"ts": 1772366400.0001}, "message", None),
        ({"channel": None}, "message", None),
        ({"subtype": "message_replied"}, "message", None),
        ({"subtype": "tombstone"}, "message", f"{CHANNEL}:1772366400.000100:deleted"),
        ({"subtype": "message_deleted", "deleted_ts": "1.2"}, "message_deleted", f"{CHANNEL}:1.2:deleted"),
        (
            {"subtype": "message_changed", "message": EDITED},
            "message_changed",
            f"{CHANNEL}:1772366400.000100:edit:1772366460.000000",
        ),
        ({"subtype": "message_changed", "message": EDITED, "previous_message": EDITED}, "message_changed", None),
        (
            {"subtype": "message_changed", "message": {"subtype": "tombstone", "ts": "1.2"}},
            "message_changed",
            f"{CHANNEL}:1.2:deleted",
        ),
        ({"type": "reaction_added", "reaction": "+1"}, "reaction_added", None),
        ({"type": "user_change", "user": {"id": ADA}}, "user_change", None),
        ({"type": "something_of_2028"}, "something_of_2028", None),
        ({"type": "message_changed"}, "other", None),
        ({"type": "No Word"}, "other", None),
        ({"type": None}, "other", None),
    ],
)
def test_every_kind_of_event_is_named_and_keyed(fields: dict[str, Any], kind: str, key: str | None) -> None:
    (item,) = slack.split(delivery(event(**fields)))
    assert item.kind == kind
    assert item.key == key or (key is None and item.key.startswith(f"{kind}:"))


@pytest.mark.parametrize("name", ["url_verification", "app_rate_limited"])
def test_what_comes_without_an_event_is_named(name: str) -> None:
    (item,) = slack.split(json.dumps({"type": name, "team_id": OURS}).encode())
    assert item.kind == name


def test_the_same_reaction_at_another_time_is_another_item() -> None:
    react = event(type="reaction_added", reaction="+1", item={"type": "message", "channel": CHANNEL, "ts": "1.2"})
    first, again, later = (
        slack.split(delivery({**react, "event_ts": when}, event_id))[0].key
        for when, event_id in (("1.1", "Ev1"), ("1.1", "Ev2"), ("1.2", "Ev3"))
    )
    assert first == again != later
