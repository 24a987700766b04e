from __future__ import annotations

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from mappings.errors import SignatureError
from taps.webhooks import chatwoot
from taps.webhooks.items import WebhookRequest
from tests.contract.mapping import load_delivery
from tests.contract.webhook import JsonBodyContract, RunningReceiver, WebhookContract

SECRET = "current-secret-0123456789"
BODY = load_delivery("chatwoot", "incoming_verified")


def sign(secret: str, body: bytes, timestamp: str) -> str:
    """As the API's own document describes it."""
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def settings(secret: str = SECRET, previous: str | None = None) -> chatwoot.Settings:
    return chatwoot.Settings.model_validate({"webhook_secret": secret, "previous_webhook_secret": previous})


class TestChatwootWebhook(WebhookContract, JsonBodyContract):
    slug = "chatwoot"
    module: ClassVar[Any] = chatwoot
    signature_header = "X-Chatwoot-Signature"
    body = json.dumps(
        {
            "event": "message_created", "account": {"id": 2}, "id": 1, "content": "Grüße", "private": False,
            "message_type": "incoming", "created_at": "2026-03-01T12:00:00Z",
            "conversation": {"id": 7, "meta": {"sender": {"id": 4, "email": "a@b.example"}}},
        }
    ).encode()  # fmt: skip
    kinds = ("message", "contact")

    @pytest.fixture(autouse=True)
    def _signed_now(self) -> None:
        self.more_headers = {"X-Chatwoot-Timestamp": str(int(time.time()))}

    def settings(self, secret: str, previous: str | None = None) -> chatwoot.Settings:
        return settings(secret, previous)

    def sign(self, secret: str, body: bytes) -> str:
        return sign(secret, body, self.more_headers["X-Chatwoot-Timestamp"])

    def test_a_get_is_405(self, receiver: RunningReceiver) -> None:
        assert receiver.request("GET", "/webhooks/chatwoot?challenge=x").status == 405

    def test_the_number_of_a_delivery_is_kept_and_no_token(self, receiver: RunningReceiver) -> None:
        self.more_headers = {**self.more_headers, "X-Chatwoot-Delivery": "d-1", "api_access_token": "x"}
        assert self.post(receiver, self.body, self.sign(self.current, self.body)).status == 200
        (stored,) = receiver.stored.read("chatwoot", "default", 0, 10)
        assert stored.headers["x-chatwoot-delivery"] == "d-1"
        assert "x" not in stored.headers.values()

    def test_an_installation_that_signs_nothing_is_refused(self, receiver: RunningReceiver) -> None:
        assert self.post(receiver, self.body).status == 401
        assert receiver.stored.count() == 0


def request(timestamp: str, signature: str, at: datetime, body: bytes = BODY) -> WebhookRequest:
    headers = {"x-chatwoot-signature": signature, "x-chatwoot-timestamp": timestamp}
    return WebhookRequest(headers=headers, body=body, received_at=at)


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_a_delivery_of_the_last_five_minutes_is_taken(seconds: int) -> None:
    stamp = str(int((NOW + timedelta(seconds=seconds)).timestamp()))
    chatwoot.verify(settings(), request(stamp, sign(SECRET, BODY, stamp), NOW))


@pytest.mark.parametrize("seconds", [-86_400, -301, 301])
def test_an_older_or_future_delivery_is_refused_although_it_is_signed(seconds: int) -> None:
    stamp = str(int((NOW + timedelta(seconds=seconds)).timestamp()))
    with pytest.raises(SignatureError, match="limit is 300"):
        chatwoot.verify(settings(), request(stamp, sign(SECRET, BODY, stamp), NOW))


@pytest.mark.parametrize("stamp", ["", "abc", "1772366400.0", "-1", " 1772366400", "1772366400,1772366400", "٣" * 10])
def test_a_time_that_is_no_number_is_refused(stamp: str) -> None:
    with pytest.raises(SignatureError, match="timestamp"):
        chatwoot.verify(settings(), request(stamp, sign(SECRET, BODY, stamp), NOW))


def test_another_time_breaks_the_signature() -> None:
    stamp = str(int(NOW.timestamp()))
    with pytest.raises(SignatureError, match="does not match"):
        chatwoot.verify(settings(), request(str(int(stamp) + 1), sign(SECRET, BODY, stamp), NOW))


def test_an_empty_secret_refuses_to_start() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        settings(" ")


def kinds_and_keys(name: str) -> list[tuple[str, str]]:
    return [(item.kind, item.key) for item in chatwoot.split(load_delivery("chatwoot", name))]


def test_created_and_updated_are_events_of_their_own_and_a_repeat_is_none() -> None:
    assert kinds_and_keys("incoming") == kinds_and_keys("incoming")
    (created,), (deleted,) = kinds_and_keys("incoming"), kinds_and_keys("deleted")
    assert created == ("message", "message:654")
    assert deleted == ("deleted", "message:654:deleted")


def test_a_contact_of_whom_nothing_is_known_is_no_event() -> None:
    assert [kind for kind, _ in kinds_and_keys("conversation_created")] == ["conversation"]


def test_a_contact_is_news_when_it_has_changed_or_was_verified() -> None:
    whole = json.loads(BODY)
    keys = []
    for verified, name in ((False, "a"), (True, "a"), (True, "c"), (True, "a")):
        whole["conversation"]["meta"]["hmac_verified"] = verified
        whole["conversation"]["meta"]["sender"]["email"] = f"{name}@b.example"
        keys.append(chatwoot.split(json.dumps(whole).encode())[1].key)
    assert len(set(keys)) == 3
    assert keys[1] == keys[3]
