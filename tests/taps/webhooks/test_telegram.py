"""Telegram's webhook: the suite of all webhooks, the names and keys of updates, and what a secret in a header means."""

from __future__ import annotations

import hmac
import json
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from mappings.errors import SignatureError
from taps.webhooks import telegram
from taps.webhooks.items import WebhookRequest
from tests.contract.webhook import JsonBodyContract, RunningReceiver, WebhookContract

CHAT = {"id": 5000000001, "type": "private", "first_name": "Ada"}
MESSAGE = {"message_id": 7, "from": {"id": 5000000001, "is_bot": False, "first_name": "Ada"}, "chat": CHAT,
           "date": 1772366400, "text": "Grüße"}  # fmt: skip


def update(update_id: Any = 900000001, **fields: Any) -> bytes:
    return json.dumps({"update_id": update_id, **fields}).encode()


class TestTelegramWebhook(WebhookContract, JsonBodyContract):
    slug = "telegram"
    module: ClassVar[Any] = telegram
    signature_header = "X-Telegram-Bot-Api-Secret-Token"
    tampering = False
    body = update(message=MESSAGE)
    kinds = ("message",)
    unknown_bodies: ClassVar[tuple[bytes, ...]] = (
        *JsonBodyContract.unknown_bodies, update(), update(hologram={"chat": CHAT}), update(message=3),
    )  # fmt: skip

    def settings(self, secret: str, previous: str | None = None) -> telegram.Settings:
        return telegram.Settings.model_validate({"secret_token": secret, "previous_secret_token": previous})

    def sign(self, secret: str, body: bytes) -> str:
        return secret

    def test_the_secret_is_never_kept_with_a_delivery(self, receiver: RunningReceiver) -> None:
        self.post(receiver, self.body, self.current)
        (delivery,) = receiver.stored.read(self.slug, "default", 0, 10)
        assert self.current not in json.dumps(delivery.headers)

    def test_telegram_asks_nothing_before_it_pushes(self, receiver: RunningReceiver) -> None:
        assert receiver.request("GET", "/webhooks/telegram").status == 405


def request(given: str) -> WebhookRequest:
    return WebhookRequest(headers={telegram.SECRET_HEADER: given}, body=b"{}")


def settings(**values: Any) -> telegram.Settings:
    return telegram.Settings.model_validate({"secret_token": "a-secret", **values})


@pytest.mark.parametrize("secret", ["", " ", "with space", "ümlaut", "x" * 257, "a\nb", "a+b"])
def test_a_secret_that_telegram_would_not_take_refuses_to_start(secret: str) -> None:
    for name in ("secret_token", "previous_secret_token"):
        with pytest.raises(ValidationError) as raised:
            settings(**{name: secret})
        assert "with space" not in str(raised.value)


@pytest.mark.parametrize("secret", ["a", "A-Za-z0-9_-", "x" * 256])
def test_every_secret_that_telegram_takes_is_taken(secret: str) -> None:
    telegram.verify(settings(secret_token=secret), request(secret))


@pytest.mark.parametrize("given", ["", "A-SECRET", "a-secre", "a-secret ", "ä", "\udc80" * 3, "a-secret,a-secret"])
def test_nothing_but_the_secret_itself_is_taken(given: str) -> None:
    with pytest.raises(SignatureError):
        telegram.verify(settings(), request(given))


def test_both_secrets_are_compared_in_constant_time_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    original = hmac.compare_digest

    def compare(a: Any, b: Any) -> bool:
        compared.append(a)
        return original(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    both = settings(previous_secret_token="the-one-before")
    telegram.verify(both, request("a-secret"))
    telegram.verify(both, request("the-one-before"))
    assert compared == [b"a-secret", b"the-one-before"] * 2


@pytest.mark.parametrize("name", telegram.UPDATES)
def test_every_kind_of_update_is_named(name: str) -> None:
    (item,) = telegram.split(update(**{name: {"x": 1}}))
    assert (item.kind, item.payload) == (name, {"update_id": 900000001, "event": {"x": 1}})


@pytest.mark.parametrize(
    ("name", "event", "key"),
    [
        ("message", MESSAGE, "message:5000000001:7"),
        ("channel_post", MESSAGE, "channel_post:5000000001:7"),
        ("business_message", {**MESSAGE, "business_connection_id": "bc1"}, "business_message:bc1/5000000001:7"),
        ("callback_query", {"id": "42", "data": "x"}, "callback_query:42"),
    ],
)
def test_what_has_an_id_of_its_own_is_keyed_by_it(name: str, event: dict[str, Any], key: str) -> None:
    assert [telegram.split(update(number, **{name: event}))[0].key for number in (1, 2)] == [key, key]


@pytest.mark.parametrize("name", ["edited_message", "message_reaction", "my_chat_member", "poll_answer"])
def test_what_has_none_is_keyed_by_its_update_and_what_it_says(name: str) -> None:
    first, again, other_update, other_words = (
        telegram.split(update(number, **{name: {**MESSAGE, "text": text}}))[0].key
        for number, text in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))
    )
    assert first == again
    assert len({first, other_update, other_words}) == 3


def test_a_number_that_comes_again_after_an_idle_week_is_no_repeat() -> None:
    first, later = (
        telegram.split(update(5, message={**MESSAGE, "message_id": number, "date": date}))[0].key
        for number, date in ((7, 1772366400), (8, 1773500000))
    )
    assert first != later


def test_a_second_event_in_one_update_is_not_lost() -> None:
    body = update(message=MESSAGE, message_reaction={"date": 1}, hologram={"x": 1})
    assert [item.kind for item in telegram.split(body)] == ["message", "message_reaction", "other"]
    assert len({item.key for item in telegram.split(body)}) == 3


@pytest.mark.parametrize("chat", [None, 3, {}, {"id": "5"}, {"id": True}])
def test_a_message_without_a_readable_chat_is_keyed_all_the_same(chat: Any) -> None:
    (item,) = telegram.split(update(message={**MESSAGE, "chat": chat}))
    assert item.key.startswith("900000001:message:")
