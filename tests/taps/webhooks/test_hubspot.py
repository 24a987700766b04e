"""HubSpot's webhook of a custom channel; HubSpot's own client judges the signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from hubspot.utils.signature import Signature

from mappings.errors import PayloadError, SignatureError
from taps.webhooks import hubspot
from taps.webhooks.items import WebhookRequest
from tests.contract.mapping import load_delivery
from tests.contract.webhook import PUBLIC_URL, JsonBodyContract, RunningReceiver, WebhookContract

TOKEN = "a-word-in-the-address"
SECRET = "current-secret-0123456789"
BODY = load_delivery("hubspot", "inbox_answer")
URL = f"{PUBLIC_URL}/webhooks/hubspot?token={TOKEN}"
NOW = datetime(2026, 11, 3, 10, tzinfo=UTC)


def sign(secret: str, body: bytes, stamp: str, url: str = URL) -> str:
    """As HubSpot's page on validating requests describes it."""
    text = b"POST" + url.encode() + body + stamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()


def settings(**values: Any) -> hubspot.Settings:
    return hubspot.Settings.model_validate({"webhook_token": TOKEN, **values})


class TestHubSpotWebhook(WebhookContract, JsonBodyContract):
    slug = "hubspot"
    module: ClassVar[Any] = hubspot
    signature_header = "X-HubSpot-Signature-v3"
    query = f"token={TOKEN}"
    body = json.dumps([json.loads(BODY), {"type": "CHANNEL_ACCOUNT_CREATED", "portalId": "8800001"}]).encode()
    kinds = ("answer", "other")

    @pytest.fixture(autouse=True)
    def _signed_now(self) -> None:
        self.more_headers = {"X-HubSpot-Request-Timestamp": str(int(time.time() * 1000))}

    def settings(self, secret: str, previous: str | None = None) -> hubspot.Settings:
        return settings(client_secret=secret, previous_client_secret=previous, require_signature=True)

    def sign(self, secret: str, body: bytes) -> str:
        return sign(secret, body, self.more_headers["X-HubSpot-Request-Timestamp"])

    def test_a_get_is_405(self, receiver: RunningReceiver) -> None:
        assert receiver.request("GET", f"/webhooks/hubspot?token={TOKEN}").status == 405

    @pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", f"?other={TOKEN}"])
    def test_a_signed_post_without_the_token_is_401(self, receiver: RunningReceiver, query: str) -> None:
        stamp = self.more_headers["X-HubSpot-Request-Timestamp"]
        signature = sign(SECRET, BODY, stamp, f"{PUBLIC_URL}/webhooks/hubspot{query}")
        headers = [("Content-Type", "application/json"), (self.signature_header, signature)]
        headers += list(self.more_headers.items())
        assert receiver.request("POST", f"/webhooks/hubspot{query}", BODY, headers).status == 401
        assert receiver.stored.count() == 0


def request(headers: dict[str, str], token: str = TOKEN, url: str = URL, at: datetime = NOW) -> WebhookRequest:
    return WebhookRequest(url=url, query={"token": token}, headers=headers, body=BODY, received_at=at)


def signed(at: datetime, url: str = URL) -> dict[str, str]:
    stamp = str(int(at.timestamp() * 1000))
    return {hubspot.SIGNATURE_HEADER: sign(SECRET, BODY, stamp, url), hubspot.TIMESTAMP_HEADER: stamp}


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_a_post_of_the_last_five_minutes_is_taken(seconds: int) -> None:
    hubspot.verify(settings(client_secret=SECRET), request(signed(NOW + timedelta(seconds=seconds))))


@pytest.mark.parametrize("seconds", [-86_400, -301, 301])
def test_an_older_or_future_post_is_refused_although_it_is_signed(seconds: int) -> None:
    with pytest.raises(SignatureError, match="limit is 300"):
        hubspot.verify(settings(client_secret=SECRET), request(signed(NOW + timedelta(seconds=seconds))))


def test_without_a_signature_the_token_is_enough_unless_it_is_required() -> None:
    hubspot.verify(settings(client_secret=SECRET), request({}))
    with pytest.raises(SignatureError):
        hubspot.verify(settings(client_secret=SECRET, require_signature=True), request({}))


def test_a_wrong_signature_is_refused_although_the_token_is_right() -> None:
    headers = {**signed(NOW), hubspot.SIGNATURE_HEADER: sign("another", BODY, "1")}
    with pytest.raises(SignatureError, match="does not match"):
        hubspot.verify(settings(client_secret=SECRET), request(headers))


def test_the_previous_token_is_taken_while_it_is_set() -> None:
    hubspot.verify(settings(webhook_token="new-word", previous_webhook_token=TOKEN), request({}))
    with pytest.raises(SignatureError):
        hubspot.verify(settings(webhook_token="new-word"), request({}))


def test_an_address_with_escaped_characters_is_signed_decoded() -> None:
    escaped, plain = f"{URL}&back=https%3A%2F%2Fa.example%21", f"{URL}&back=https://a.example!"
    hubspot.verify(settings(client_secret=SECRET), request(signed(NOW, plain), url=escaped))


@pytest.mark.parametrize("secret", [SECRET, "another"])
def test_hubspots_own_client_judges_as_we_do(secret: str) -> None:
    now = datetime.now(UTC)
    stamp = str(int(now.timestamp() * 1000))
    made = hubspot.sign(secret, "POST", URL, BODY, stamp)
    theirs = Signature.is_valid(made, SECRET, BODY.decode(), URL, "POST", "v3", stamp)
    try:
        headers = {hubspot.SIGNATURE_HEADER: made, hubspot.TIMESTAMP_HEADER: stamp}
        hubspot.verify(settings(client_secret=SECRET), request(headers, at=now))
        mine = True
    except SignatureError:
        mine = False
    assert mine == theirs == (secret == SECRET)


def test_one_event_and_a_list_of_it_are_the_same_item() -> None:
    (alone,) = hubspot.split(BODY)
    (listed,) = hubspot.split(b" [" + BODY + b"]")
    assert alone == listed
    assert alone.key == "answer:9c2e0000000000000000000000000001"


def test_a_list_without_events_is_refused() -> None:
    with pytest.raises(PayloadError):
        hubspot.split(b"[ ]")
