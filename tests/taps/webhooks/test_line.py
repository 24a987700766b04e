from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any, ClassVar

import pytest

from mappings.errors import SignatureError
from taps.webhooks import line
from taps.webhooks.items import WebhookRequest
from tests.contract.mapping import load_delivery
from tests.contract.webhook import JsonBodyContract, RunningReceiver, WebhookContract

BOT, PERSON = "U0123456789abcdef0123456789abcdef", "U11111111111111111111111111111111"


def event(kind: str, event_id: str | None = None, **fields: Any) -> dict[str, Any]:
    own = {"webhookEventId": event_id} if event_id else {}
    source = {"type": "user", "userId": PERSON}
    return {"type": kind, "timestamp": 1760000000000, "mode": "active", "source": source, **own, **fields}


def delivery(*events: Any) -> bytes:
    return json.dumps({"destination": BOT, "events": [*events]}, ensure_ascii=False).encode()


class TestLineWebhook(WebhookContract, JsonBodyContract):
    slug = "line"
    module: ClassVar[Any] = line
    signature_header = "X-Line-Signature"
    body = delivery(
        event("message", "01E1", message={"id": "1", "type": "text", "text": "荷物 😀"}),
        event("follow", "01E2", follow={"isUnblocked": False}),
        event("unsend", "01E3", unsend={"messageId": "1"}),
    )
    kinds = ("message", "follow", "unsend")

    def settings(self, secret: str, previous: str | None = None) -> line.Settings:
        return line.Settings.model_validate({"channel_secret": secret, "previous_channel_secret": previous})

    def sign(self, secret: str, body: bytes) -> str:
        return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()

    def wrong_signatures(self, good: str) -> list[str]:
        digest = base64.b64decode(good)
        return [
            *super().wrong_signatures(good), digest.hex(), base64.urlsafe_b64encode(digest).decode().replace("=", ""),
            base64.b64encode(hashlib.sha256(self.body).digest()).decode(),
        ]  # fmt: skip

    def test_the_consoles_verify_button_is_answered_200(self, receiver: RunningReceiver) -> None:
        body = load_delivery("line", "verification")
        assert self.post(receiver, body, self.sign(self.current, body)).status == 200
        assert receiver.stored.count() == 1

    def test_the_name_of_the_header_may_be_written_in_any_case(self, receiver: RunningReceiver) -> None:
        headers = [("Content-Type", self.content_type), ("x-LINE-signature", self.sign(self.current, self.body))]
        assert receiver.request("POST", "/webhooks/line", self.body, headers).status == 200

    def test_a_get_is_no_handshake(self, receiver: RunningReceiver) -> None:
        assert receiver.request("GET", "/webhooks/line").status == 405


def test_a_body_that_was_decoded_and_encoded_again_is_not_authentic() -> None:
    body = delivery(event("message", message={"id": "1", "type": "text", "text": "荷物 😀"}))
    signature = base64.b64encode(hmac.new(b"secret", body, hashlib.sha256).digest()).decode()
    settings = line.Settings.model_validate({"channel_secret": "secret"})
    line.verify(settings, WebhookRequest(headers={"x-line-signature": signature}, body=body))
    again = json.dumps(json.loads(body)).encode()
    with pytest.raises(SignatureError):
        line.verify(settings, WebhookRequest(headers={"x-line-signature": signature}, body=again))


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_secret_refuses_to_start(value: str) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        line.Settings.model_validate({"channel_secret": value})


def test_an_item_carries_the_bot_that_it_came_to() -> None:
    follow = event("follow", "01E1")
    (item,) = line.split(delivery(follow))
    assert item.payload == {"destination": BOT, "event": follow}


def test_a_delivery_without_events_is_one_item_that_says_so() -> None:
    (item,) = line.split(delivery())
    assert (item.kind, item.payload["destination"]) == ("verification", BOT)


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"kind": "message", "event_id": "01E1", "message": {"id": "7"}}, "01E1"),
        ({"kind": "message", "message": {"id": "7"}}, "message:7"),
        ({"kind": "message", "message": {"type": "text"}}, None),
        ({"kind": "messageEdited", "message": {"id": "7"}}, None),
        ({"kind": "unsend", "unsend": {"messageId": "7"}}, None),
        ({"kind": "follow", "event_id": ""}, None),
        ({"kind": "something_of_2027", "event_id": "01E9"}, "01E9"),
    ],
)
def test_every_event_has_its_own_key(fields: dict[str, Any], key: str | None) -> None:
    (item,) = line.split(delivery(event(**fields)))
    assert item.kind == fields["kind"]
    assert item.key == key or (key is None and item.key.startswith(f"{item.kind}:"))


def test_an_event_that_is_delivered_again_has_the_same_key() -> None:
    contexts = [{"deliveryContext": {"isRedelivery": again}} for again in (False, True)]
    first, again = (line.split(delivery(event("follow", "01E1", **one)))[0].key for one in contexts)
    assert first == again


def test_two_edits_of_the_past_are_two_items() -> None:
    edits = [event("messageEdited", message={"id": "7", "type": "text", "text": text}) for text in ("a", "b")]
    assert len({item.key for item in line.split(delivery(*edits))}) == 2


def test_a_broken_event_among_good_ones_becomes_other_and_the_good_ones_flow() -> None:
    items = line.split(delivery(None, event("follow"), "x", {"type": 3}, {"type": "x" * 61}, event("unfollow")))
    assert [item.kind for item in items] == ["other", "follow", "other", "other", "other", "unfollow"]
