from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any, ClassVar

import pytest

from mappings.errors import SignatureError
from taps.webhooks import x
from taps.webhooks.items import WebhookRequest
from tests.contract.mapping import load_delivery
from tests.contract.webhook import HandshakeContract, JsonBodyContract, RunningReceiver, WebhookContract

MESSAGE = {
    "type": "message_create",
    "id": "2080765901528535096",
    "created_timestamp": "1784928224372",
    "message_create": {
        "target": {"recipient_id": "1111111111111111111"},
        "sender_id": "2222222222222222222",
        "message_data": {"text": "Grüße 😀", "entities": {"urls": []}},
    },
}
ACTIVITY = {
    "data": {
        "event_uuid": "-6850472171600526495",
        "filter": {"user_id": "1111111111111111111"},
        "event_type": "dm.received",
        "payload": {"direct_message_events": [MESSAGE], "users": {"2222222222222222222": {"data": {"name": "Ada"}}}},
    }
}
ACCOUNT = {
    "for_user_id": "1111111111111111111",
    "direct_message_events": [MESSAGE, {**MESSAGE, "id": "2080765901528535097"}],
    "direct_message_mark_read_events": [{"sender_id": "2222222222222222222", "last_read_event_id": "2080765901528535"}],
    "follow_events": [{"type": "follow", "created_timestamp": "1517588749178"}],
    "users": {"2222222222222222222": {"screen_name": "ada"}},
}


def sign(secret: str, body: bytes) -> str:
    return f"sha256={base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()}"


class TestXWebhook(WebhookContract, HandshakeContract, JsonBodyContract):
    slug = "x"
    module: ClassVar[Any] = x
    signature_header = "X-Twitter-Webhooks-Signature"
    body = json.dumps(ACCOUNT).encode()
    kinds = ("message", "message", "read", "follow_events")
    handshake: ClassVar = {"crc_token": "OTg2YzM0ZjctYzk0Yi00NTVkLTgyOGU+/w=="}
    handshake_answer: ClassVar = json.dumps(
        {"response_token": sign("current-secret-0123456789", b"OTg2YzM0ZjctYzk0Yi00NTVkLTgyOGU+/w==")}
    )
    handshake_content_type = "application/json"
    wrong_handshakes: ClassVar = (
        {"crc_token": ""},
        {"crc_token": json.dumps(ACTIVITY)},
        {"crc_token": "{}"},
        {"crc_token": "<script>"},
        {"crc_token": "a" * 401},
        {"crc_token": "é"},
    )

    def settings(self, secret: str, previous: str | None = None) -> x.Settings:
        return x.Settings.model_validate({"consumer_secret": secret, "previous_consumer_secret": previous})

    def sign(self, secret: str, body: bytes) -> str:
        return sign(secret, body)

    def test_the_handshake_signs_nothing_that_could_be_a_delivery(self, receiver: RunningReceiver) -> None:
        forged = json.dumps(ACTIVITY).encode()
        for text in (forged.decode(), "{", '"', "[", ":", "a,b"):
            with pytest.raises(SignatureError):
                x.challenge(self.settings(self.current), WebhookRequest(method="GET", query={"crc_token": text}))
        assert self.post(receiver, forged, sign("", forged)).status == 401
        assert receiver.stored.count() == 0

    def test_a_hexadecimal_signature_is_refused(self) -> None:
        digest = hmac.new(self.current.encode(), self.body, hashlib.sha256).hexdigest()
        with pytest.raises(SignatureError):
            x.verify(self.settings(self.current), self.signed(self.body, f"sha256={digest}"))

    def test_the_handshake_answers_with_the_current_secret_while_two_are_set(self) -> None:
        answer = x.challenge(self.settings("new", "old"), WebhookRequest(method="GET", query={"crc_token": "abc"}))
        assert answer is not None
        assert json.loads(answer.body) == {"response_token": sign("new", b"abc")}


@pytest.mark.parametrize("body", [ACTIVITY, ACCOUNT])
def test_both_shapes_give_a_message_the_same_key(body: dict[str, Any]) -> None:
    first = x.split(json.dumps(body).encode())[0]
    assert (first.kind, first.key) == ("message", "dm:2080765901528535096")
    assert (first.key, first.payload["account"]) == (x.dm_key(MESSAGE["id"]), "1111111111111111111")
    assert first.payload["users"]


@pytest.mark.parametrize(
    ("fixture", "kind"),
    [("chat_received", "chat.received"), ("typing", "typing"), ("mention", "mention"), ("dm_read", "read"),
     ("oauth_revoke", "oauth.revoke"), ("account_revoke", "user_event"), ("account_favorite", "favorite_events")],
)  # fmt: skip
def test_each_event_has_its_kind(fixture: str, kind: str) -> None:
    assert [item.kind for item in x.split(load_delivery("x", fixture))] == [kind]


def test_the_same_chat_event_told_twice_has_one_key_and_two_have_two() -> None:
    body = json.loads(load_delivery("x", "chat_received"))
    keys = [x.split(json.dumps(body).encode())[0].key]
    body["data"]["tag"] = "another tag"
    keys.append(x.split(json.dumps(body).encode())[0].key)
    body["data"]["event_uuid"] = "1"
    keys.append(x.split(json.dumps(body).encode())[0].key)
    assert (keys[0] == keys[1], keys[0] == keys[2]) == (True, False)


@pytest.mark.parametrize("wrong", [None, "", "12a", "1" * 21, True, -1, 1.5, [], {}, "١٢"])
def test_an_id_that_is_none_gives_no_key(wrong: Any) -> None:
    assert x.dm_key(wrong) is None
    assert x.post_key(wrong) is None


def test_a_number_where_a_text_should_be_is_the_same_id() -> None:
    assert x.dm_key(2080765901528535096) == x.dm_key("2080765901528535096")
