from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, ClassVar

import pytest

from taps.webhooks import viber
from tests.contract.mapping import load_delivery
from tests.contract.webhook import JsonBodyContract, RunningReceiver, WebhookContract

PERSON = "01234567890AbCdEfGhIjA=="


def delivery(**event: Any) -> bytes:
    return json.dumps({"timestamp": 1760000000000, **event}, ensure_ascii=False).encode()


class TestViberWebhook(WebhookContract, JsonBodyContract):
    slug = "viber"
    module: ClassVar[Any] = viber
    signature_header = "X-Viber-Content-Signature"
    body = delivery(
        event="message",
        message_token=4912661846655238145,
        sender={"id": PERSON, "name": "Ада"},
        message={"type": "text", "text": "Добрий день 😀"},
    )
    kinds = ("message",)

    def settings(self, secret: str, previous: str | None = None) -> viber.Settings:
        return viber.Settings.model_validate({"auth_token": secret, "previous_auth_token": previous})

    def sign(self, secret: str, body: bytes) -> str:
        return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()

    def wrong_signatures(self, good: str) -> list[str]:
        return [*super().wrong_signatures(good), good.upper(), hashlib.sha256(self.body).hexdigest()]

    def test_the_ping_inside_set_webhook_is_answered_200(self, receiver: RunningReceiver) -> None:
        body = load_delivery("viber", "webhook")
        assert self.post(receiver, body, self.sign(self.current, body)).status == 200
        assert receiver.stored.count() == 1

    def test_a_get_is_no_handshake(self, receiver: RunningReceiver) -> None:
        assert receiver.request("GET", "/webhooks/viber").status == 405


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_token_refuses_to_start(value: str) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        viber.Settings.model_validate({"auth_token": value})


def test_an_item_is_the_whole_event() -> None:
    (item,) = viber.split(delivery(event="seen", message_token=1, user_id=PERSON))
    assert (item.index, item.kind) == (0, "seen")
    assert item.payload["event"]["user_id"] == PERSON


@pytest.mark.parametrize(
    ("event", "key"),
    [
        ({"event": "message", "message_token": 4912661846655238145}, "message:4912661846655238145"),
        ({"event": "message", "message_token": "4912661846655238145"}, "message:4912661846655238145"),
        ({"event": "message", "message_token": 2**64 - 1}, f"message:{2**64 - 1}"),
        ({"event": "message", "message_token": 2**64}, None),
        ({"event": "message", "message_token": 4.9e18}, None),
        ({"event": "message", "message_token": True}, None),
        ({"event": "message"}, None),
        ({"event": "delivered", "message_token": 1, "user_id": PERSON}, f"delivered:1:{PERSON}"),
        ({"event": "seen", "message_token": 1, "user_id": PERSON}, f"seen:1:{PERSON}"),
        ({"event": "something_of_2027", "message_token": 1}, "something_of_2027:1"),
    ],
)
def test_every_event_has_its_own_key(event: dict[str, Any], key: str | None) -> None:
    (item,) = viber.split(delivery(**event))
    assert item.kind == event["event"]
    assert item.key == key or (key is None and item.key.startswith(f"{item.kind}:"))


def test_a_receipt_is_no_repeat_of_its_message() -> None:
    events = [{"event": kind, "message_token": 1, "user_id": PERSON} for kind in ("message", "delivered", "seen")]
    assert len({viber.split(delivery(**event))[0].key for event in events}) == 3


@pytest.mark.parametrize("event", [{}, {"event": 3}, {"event": ""}, {"event": "x" * 61}, {"event": None}])
def test_an_event_without_a_name_is_other(event: dict[str, Any]) -> None:
    assert [item.kind for item in viber.split(delivery(**event))] == ["other"]
