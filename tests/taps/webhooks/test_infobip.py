from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any, ClassVar

import pytest

from mappings.errors import PayloadError, SignatureError
from taps.webhooks import infobip
from taps.webhooks.items import WebhookRequest
from tests.contract.mapping import load_delivery
from tests.contract.webhook import JsonBodyContract, RunningReceiver, WebhookContract

SMS = {"messageId": "817790313235066447", "from": "447700900123", "to": "447700900990", "text": "Grüße 😀",
       "cleanText": "Grüße 😀", "keyword": "", "receivedAt": "2026-03-01T12:00:03.000+0000", "smsCount": 1,
       "price": {"pricePerMessage": 0, "currency": "EUR"}}  # fmt: skip
REPORT = {"messageId": "M1", "to": "447700900123", "sender": "447700900990",
          "status": {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET"}}  # fmt: skip
SEEN = {"messageId": "M1", "to": "447700900123", "from": "447700900990", "seenAt": "2026-03-01T12:00:09.000+0000"}


class InfobipContract(WebhookContract, JsonBodyContract):
    slug = "infobip"
    module: ClassVar[Any] = infobip
    body = json.dumps(
        {"results": [SMS, {**SMS, "messageId": "2"}, REPORT, SEEN], "messageCount": 4, "pendingMessageCount": 2},
        ensure_ascii=False,
    ).encode()
    kinds = ("message", "message", "report", "seen")

    def test_a_get_is_no_handshake(self, receiver: RunningReceiver) -> None:
        assert receiver.request("GET", "/webhooks/infobip").status == 405


class TestInfobipByHmac(InfobipContract):
    signature_header = "X-Infobip-Sandbox-Hmac"

    def settings(self, secret: str, previous: str | None = None) -> infobip.Settings:
        values = {"hmac_secret": secret, "previous_hmac_secret": previous, "hmac_header": self.signature_header}
        return infobip.Settings.model_validate(values)

    def sign(self, secret: str, body: bytes) -> str:
        return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class TestInfobipByBasic(InfobipContract):
    signature_header = "Authorization"
    tampering = False

    def settings(self, secret: str, previous: str | None = None) -> infobip.Settings:
        values = {
            "webhook_username": "infobip",
            "webhook_password": secret,
            "previous_webhook_password": previous,
        }
        return infobip.Settings.model_validate(values)

    def sign(self, secret: str, body: bytes) -> str:
        return f"Basic {base64.b64encode(f'infobip:{secret}'.encode()).decode()}"

    def wrong_signatures(self, good: str) -> list[str]:
        other = base64.b64encode(f"somebody:{self.current}".encode()).decode()
        return [*super().wrong_signatures(good), f"Basic {other}", good.replace("Basic", "Bearer"), self.current]


class TestInfobipByHeader(InfobipContract):
    signature_header = "X-Webhook-Secret"
    tampering = False

    def settings(self, secret: str, previous: str | None = None) -> infobip.Settings:
        values = {
            "webhook_header": self.signature_header,
            "webhook_header_value": secret,
            "previous_webhook_header_value": previous,
        }
        return infobip.Settings.model_validate(values)

    def sign(self, secret: str, body: bytes) -> str:
        return secret


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "reason"),
    [({}, "anybody could post here"), ({"hmac_algorithm": "HMAC_SHA_512"}, "anybody could post here"),
     ({"webhook_username": "a"}, "need each other"), ({"webhook_password": "a"}, "need each other"),
     ({"hmac_secret": "a"}, "need each other"), ({"hmac_header": "X-A"}, "need each other"),
     ({"webhook_header": "X-A"}, "need each other"), ({"webhook_header_value": "a"}, "need each other"),
     ({"webhook_header": "X A", "webhook_header_value": "a"}, "name of a header"),
     ({"webhook_header": "X-A", "webhook_header_value": "  "}, "must not be empty"),
     ({"webhook_username": "", "webhook_password": "a"}, "need each other"),
     ({"hmac_secret": "a", "hmac_header": "X-A", "hmac_algorithm": "ROT13"}, "HMAC_SHA_256")],
)  # fmt: skip
def test_without_one_whole_proof_the_receiver_does_not_start(given: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        infobip.Settings.model_validate(given)


def request(body: bytes = b"{}", /, **headers: str) -> WebhookRequest:
    return WebhookRequest(body=body, headers={name.lower().replace("_", "-"): text for name, text in headers.items()})


def test_every_proof_that_is_configured_must_hold() -> None:
    settings = infobip.Settings.model_validate(
        {"hmac_secret": "key", "hmac_header": "X-Hmac", "webhook_header": "X-Secret", "webhook_header_value": "word"}
    )
    signature = hmac.new(b"key", b"{}", hashlib.sha256).hexdigest()
    infobip.verify(settings, request(x_hmac=signature, x_secret="word"))
    for headers in ({"x_hmac": signature}, {"x_secret": "word"}, {"x_hmac": "0" * 64, "x_secret": "word"}):
        with pytest.raises(SignatureError):
            infobip.verify(settings, request(**headers))


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [("HMAC_MD5", hashlib.md5), ("HMAC_SHA_1", hashlib.sha1), ("HMAC_SHA_224", hashlib.sha224),
     ("HMAC_SHA_256", hashlib.sha256), ("HMAC_SHA_384", hashlib.sha384), ("HMAC_SHA_512", hashlib.sha512)],
)  # fmt: skip
def test_each_algorithm_is_taken_as_hex_and_as_base64_and_no_other(algorithm: str, digest: Any) -> None:
    settings = infobip.Settings.model_validate(
        {"hmac_secret": "key", "hmac_header": "X-Hmac", "hmac_algorithm": algorithm}
    )
    signature = hmac.new(b"key", b"{}", digest)
    for text in (signature.hexdigest(), base64.b64encode(signature.digest()).decode()):
        infobip.verify(settings, request(x_hmac=text))
        with pytest.raises(SignatureError):
            infobip.verify(settings, request(b"[]", x_hmac=text))
    other = hashlib.sha1 if digest is hashlib.sha256 else hashlib.sha256
    with pytest.raises(SignatureError):
        infobip.verify(settings, request(x_hmac=hmac.new(b"key", b"{}", other).hexdigest()))


# -- splitting ---------------------------------------------------------------------------------------------------------


def test_every_result_of_a_batch_becomes_an_item() -> None:
    results = [{**SMS, "messageId": str(number)} for number in range(250)]
    items = infobip.split(json.dumps({"results": results}).encode())
    assert [item.payload["result"]["messageId"] for item in items] == [str(number) for number in range(250)]
    assert len({item.key for item in items}) == 250


@pytest.mark.parametrize(
    ("name", "kind"),
    [("empty", "empty"), ("click", "click"), ("whatsapp_template", "template"),
     ("whatsapp_payment_progress", "payment"), ("whatsapp_identity", "notification"),
     ("whatsapp_marketing_stop", "notification"), ("unknown", "other"), ("sms_without_time", "message")],
)  # fmt: skip
def test_each_body_has_its_kind(name: str, kind: str) -> None:
    assert [item.kind for item in infobip.split(load_delivery("infobip", name))] == [kind]


def test_a_report_is_one_for_each_status() -> None:
    statuses = [{**REPORT["status"], "id": number} for number in (5, 7)]  # type: ignore[dict-item]
    keys = [infobip.split(json.dumps({"results": [{**REPORT, "status": one}]}).encode())[0].key for one in statuses]
    assert len({*keys, "report:M1:3:5:DELIVERED_TO_HANDSET"}) == 2


def apple(message_id: str, **message: Any) -> dict[str, Any]:
    return {"messageId": message_id, "integrationType": "APPLE_BC", "sender": "urn:mbid:A", "to": "biz",
            "receivedAt": "2026-03-01T12:00:03.000+0000", "message": message}  # fmt: skip


def test_the_answer_to_a_picker_that_apple_sends_twice_is_one() -> None:
    answer = {"type": "LIST_PICKER_RESPONSE", "requestIdentifier": "r1", "listPickerSelectedItems": [{"title": "Red"}]}
    other = {**answer, "listPickerSelectedItems": [{"title": "Blue"}]}
    results = [apple("1", **answer), apple("2", **answer), apple("3", **other), apple("4", type="TEXT", text="Red")]
    keys = [item.key for item in infobip.split(json.dumps({"results": results}).encode())]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_a_report_in_xml_is_a_payload_error() -> None:
    with pytest.raises(PayloadError):
        infobip.split(b"<?xml version='1.0'?><DeliveryReports/>")
