from __future__ import annotations

import base64
import gzip
import hashlib
import json
import time
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import jwt
import pytest

from mappings.errors import PayloadError, SignatureError
from mappings.from_apple import PLATFORM
from sandbox.apple.account import signed_token
from stores.database import Stores
from taps.webhooks import apple
from taps.webhooks.items import WebhookRequest
from taps.webhooks.receiver import build_routes
from tests.contract.mapping import load_delivery
from tests.contract.webhook import (
    HOSTILE_BODIES,
    JsonBodyContract,
    RunningReceiver,
    WebhookContract,
    running_receiver,
)

BODY = load_delivery("apple", "text")
MSP = "sandbox-msp"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def secret_of(word: str) -> str:
    return base64.b64encode(hashlib.sha256(word.encode()).digest()).decode()


def token(word: str = "current", key: bytes | None = None, algorithm: str = "HS256", **claims: Any) -> str:
    """A token as PyJWT makes it."""
    whole = {"aud": MSP, "iat": int(NOW.timestamp()), **claims}
    given = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(given, key or base64.b64decode(secret_of(word)), algorithm=algorithm)


def settings(word: str = "current", previous: str | None = None, **more: Any) -> apple.Settings:
    secrets = {"secret": secret_of(word), "previous_secret": secret_of(previous) if previous else None}
    return apple.Settings.model_validate({"msp_id": MSP, **secrets, **more})


def request(authorization: str, at: datetime = NOW) -> WebhookRequest:
    return WebhookRequest(headers={"authorization": authorization}, body=BODY, received_at=at)


class TestAppleWebhook(WebhookContract, JsonBodyContract):
    slug = "apple"
    module: ClassVar[Any] = apple
    signature_header = "Authorization"
    body = json.dumps(json.loads(BODY)).encode()
    kinds = ("text",)
    tampering = False
    hostile_bodies: ClassVar = {
        **HOSTILE_BODIES,
        "gzip, cut off": gzip.compress(BODY)[:-9],
        "gzip, twice": gzip.compress(BODY) * 2,
        "gzip of nothing": gzip.compress(b""),
        "gzip of gzip": gzip.compress(gzip.compress(BODY)),
        "a bomb": gzip.compress(b" " * (apple.MAX_INFLATED_BYTES + 1)),
    }

    def settings(self, secret: str, previous: str | None = None) -> apple.Settings:
        return settings(secret, previous)

    def sign(self, secret: str, body: bytes) -> str:
        return f"Bearer {token(secret, iat=int(time.time()))}"

    def test_a_get_is_405(self, receiver: RunningReceiver) -> None:
        assert receiver.request("GET", "/webhooks/apple?challenge=x").status == 405

    def test_the_token_is_never_stored(self, receiver: RunningReceiver) -> None:
        signature = self.sign(self.current, self.body)
        self.more_headers = {"id": "m-1", "capability-list": "LIST", "Cookie": "x=1"}
        assert self.post(receiver, self.body, signature).status == 200
        (stored,) = receiver.stored.read("apple", "default", 0, 10)
        assert {"id", "capability-list"} < set(stored.headers)
        assert "authorization" not in stored.headers
        assert signature.split()[1] not in json.dumps(dict(stored.headers))

    def test_a_compressed_body_is_stored_as_it_came_and_read(self, receiver: RunningReceiver) -> None:
        body = gzip.compress(self.body)
        self.more_headers = {"Content-Encoding": "gzip"}
        assert self.post(receiver, body, self.sign(self.current, body)).status == 200
        (stored,) = receiver.stored.read("apple", "default", 0, 10)
        assert stored.body == body
        assert apple.split(stored.body, stored.headers) == apple.split(self.body)

    def test_a_bomb_is_stored_small(self, receiver: RunningReceiver) -> None:
        body = gzip.compress(b" " * 50_000_000)
        self.more_headers = {"Content-Encoding": "gzip"}
        assert self.post(receiver, body, self.sign(self.current, body)).status == 200
        with pytest.raises(PayloadError, match="inflated"):
            apple.split(body)


def test_the_path_that_apple_adds_is_a_route_of_its_own(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"ROUTES": "message", "MESSAGE_MSP_ID": MSP, "MESSAGE_SECRET": secret_of("current")}
    for name, value in named.items():
        monkeypatch.setenv(f"ONETHREAD_APPLE_{name}", value)
    headers = [("Authorization", f"Bearer {token(iat=int(time.time()))}"), ("Content-Type", "application/json")]
    with running_receiver(stores, build_routes({"apple": PLATFORM})) as receiver:
        assert receiver.request("POST", "/webhooks/apple/message", BODY, headers).status == 200
        assert receiver.request("POST", "/webhooks/apple", BODY, headers).status == 404


# -- the token ---------------------------------------------------------------------------------------------------------


def test_a_token_that_was_made_by_hand_is_read_by_pyjwt() -> None:
    by_hand = signed_token({"aud": MSP, "iat": int(NOW.timestamp())}, secret_of("current"))
    apple.verify(settings(), request(f"Bearer {by_hand}"))


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_a_token_of_the_last_five_minutes_is_taken(seconds: int) -> None:
    apple.verify(settings(), request(f"Bearer {token()}", NOW + timedelta(seconds=seconds)))


@pytest.mark.parametrize("seconds", [-86_400, -301, 301, 86_400])
def test_an_older_or_future_token_is_refused(seconds: int) -> None:
    with pytest.raises(SignatureError, match="limit is 300"):
        apple.verify(settings(), request(f"Bearer {token()}", NOW + timedelta(seconds=seconds)))


def test_the_age_is_a_setting() -> None:
    apple.verify(settings(token_seconds=3600), request(f"Bearer {token()}", NOW + timedelta(minutes=59)))


@pytest.mark.parametrize(
    "claims",
    [{"aud": "another-msp"}, {"aud": None}, {"aud": [MSP + "x"]}, {"aud": 5}, {"iat": None}, {"iat": "now"},
     {"iat": True}, {"iat": 1e300}, {"exp": 1}],
)  # fmt: skip
def test_a_token_that_is_not_for_us_or_has_no_time_is_refused(claims: dict[str, Any]) -> None:
    by_hand = signed_token(
        {
            name: value
            for name, value in {"aud": MSP, "iat": int(NOW.timestamp()), **claims}.items()
            if value is not None
        },
        secret_of("current"),
    )
    with pytest.raises(SignatureError):
        apple.verify(settings(), request(f"Bearer {by_hand}"))


def test_no_other_algorithm_is_taken() -> None:
    key = base64.b64decode(secret_of("current"))
    for other in ("HS384", "HS512"):
        with pytest.raises(SignatureError):
            apple.verify(settings(), request(f"Bearer {token(key=key * 2, algorithm=other)}"))
    unsigned = jwt.encode({"aud": MSP, "iat": int(NOW.timestamp())}, "", algorithm="none")
    with pytest.raises(SignatureError):
        apple.verify(settings(), request(f"Bearer {unsigned}"))


def test_the_secret_is_decoded_first() -> None:
    with pytest.raises(SignatureError):
        apple.verify(settings(), request(f"Bearer {token(key=secret_of('current').encode())}"))


@pytest.mark.parametrize("shape", ["{}", "bearer {}", "Bearer  {}", "Basic {}", "Bearer {} ", "Bearer {}, Bearer {}",
                                   "Bearer {}=", "Bearer {}.x"])  # fmt: skip
def test_anything_but_one_bearer_token_is_refused(shape: str) -> None:
    with pytest.raises(SignatureError):
        apple.verify(settings(), request(shape.replace("{}", token())))


@pytest.mark.parametrize("secret", ["", " ", "not base64!", "===="])
def test_a_secret_that_is_none_refuses_to_start(secret: str) -> None:
    with pytest.raises(ValueError, match=r"must (not be empty|be the base64)"):
        apple.Settings.model_validate({"msp_id": MSP, "secret": secret})


# -- what is one event -------------------------------------------------------------------------------------------------


def key_of(name: str, **message: Any) -> str:
    (item,) = apple.split(json.dumps({**json.loads(load_delivery("apple", name)), **message}).encode())
    return item.key


def test_an_answer_that_comes_twice_under_two_ids_is_one_event() -> None:
    assert key_of("list_reply", id="other-id") == key_of("list_reply")


def test_another_answer_in_the_same_session_is_another_event() -> None:
    said = json.loads(load_delivery("apple", "list_reply"))["interactiveData"]
    assert key_of("list_reply", interactiveData={**said, "data": {}}) != key_of("list_reply")


def test_the_same_answer_of_somebody_else_is_another_event() -> None:
    assert key_of("list_reply", sourceId="urn:mbid:other") != key_of("list_reply")


def test_a_text_goes_by_its_id() -> None:
    assert key_of("text", id="other-id") == "other-id"
    assert key_of("text", body="other words") == key_of("text")


def test_inflating_stops_at_the_cap() -> None:
    exact = gzip.compress(b"x" * apple.MAX_INFLATED_BYTES)
    assert len(apple.inflate(exact)) == apple.MAX_INFLATED_BYTES
    with pytest.raises(PayloadError):
        apple.inflate(gzip.compress(b"x" * (apple.MAX_INFLATED_BYTES + 1)))
    with pytest.raises(PayloadError):
        apple.inflate(b"\x1f\x8b" + zlib.compress(BODY))
