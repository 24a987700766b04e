from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, ClassVar

import pytest

from taps.webhooks import messenger
from tests.contract.webhook import HandshakeContract, JsonBodyContract, WebhookContract

PAGE, PERSON = "682498302938465", "5912345678901234"


def event(**fields: Any) -> dict[str, Any]:
    return {"sender": {"id": PERSON}, "recipient": {"id": PAGE}, "timestamp": 1760000000000, **fields}


def entry(**fields: Any) -> dict[str, Any]:
    return {"id": PAGE, "time": 1760000000123, **fields}


def delivery(*entries: Any) -> bytes:
    return json.dumps({"object": "page", "entry": [*entries]}).encode()


class TestMessengerWebhook(WebhookContract, HandshakeContract, JsonBodyContract):
    slug = "messenger"
    module: ClassVar[Any] = messenger
    signature_header = "X-Hub-Signature-256"
    body = delivery(
        entry(messaging=[event(message={"mid": "m_1", "text": "Grüße"}), event(read={"watermark": 1760000000000})]),
        entry(standby=[event(message={"mid": "m_2", "text": "to a person", "is_echo": True, "app_id": 12345})]),
    )
    kinds = ("message", "read", "message_echo")
    handshake: ClassVar = {"hub.mode": "subscribe", "hub.verify_token": "our-word", "hub.challenge": "1158201444"}
    handshake_answer = "1158201444"
    wrong_handshakes: ClassVar = (
        {**handshake, "hub.verify_token": "their-word"},
        {**handshake, "hub.challenge": "<b>1</b>"},
    )

    def settings(self, secret: str, previous: str | None = None) -> messenger.Settings:
        return messenger.Settings.model_validate(
            {"app_secret": secret, "previous_app_secret": previous, "verify_token": "our-word"}
        )

    def sign(self, secret: str, body: bytes) -> str:
        return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_several_events_of_one_entry_are_all_there() -> None:
    events = [event(message={"mid": f"m_{n}"}) for n in range(5)]
    items = messenger.split(delivery(entry(messaging=events), entry(messaging=events[:2], standby=events[:1])))
    assert [item.key for item in items] == ["m_0", "m_1", "m_2", "m_3", "m_4", "m_0", "m_1", "m_0"]
    assert [item.payload["standby"] for item in items] == [False] * 7 + [True]


def test_an_item_carries_its_page_and_the_time_of_its_entry() -> None:
    (item,) = messenger.split(delivery(entry(messaging=[event(message={"mid": "m_1"})])))
    assert item.payload == {
        "page_id": PAGE,
        "standby": False,
        "entry_time": 1760000000123,
        "field": None,
        "event": event(message={"mid": "m_1"}),
    }


@pytest.mark.parametrize(
    ("fields", "kind", "key"),
    [
        ({"message": {"mid": "m_1", "text": "hi"}}, "message", "m_1"),
        ({"message": {"mid": "m_1", "is_echo": True}}, "message_echo", "m_1"),
        ({"message": {"mid": "m_1", "is_echo": "true"}}, "message", "m_1"),
        ({"message_edit": {"mid": "m_1", "text": "ho", "num_edit": "2"}}, "message_edit", "m_1:edit:2"),
        ({"message_edit": {"mid": "m_1", "text": "ho", "num_edit": 2}}, "message_edit", "m_1:edit:2"),
        ({"postback": {"mid": "m_2", "payload": "START", "referral": {"ref": "x"}}}, "postback", "m_2"),
        ({"postback": {"payload": "START"}}, "postback", None),
        ({"delivery": {"mids": ["m_1"], "watermark": 1}}, "delivery", None),
        ({"read": {"watermark": 1}}, "read", None),
        ({"reaction": {"mid": "m_1", "action": "react", "emoji": "👍"}}, "reaction", None),
        ({"referral": {"ref": "x", "source": "ADS"}}, "referral", None),
        ({"optin": {"type": "notification_messages"}}, "optin", None),
        ({"account_linking": {"status": "linked", "authorization_code": "c"}}, "account_linking", None),
        ({"pass_thread_control": {"new_owner_app_id": "1"}}, "pass_thread_control", None),
        ({"take_thread_control": {"previous_owner_app_id": "1"}}, "take_thread_control", None),
        ({"request_thread_control": {"requested_owner_app_id": 1}}, "request_thread_control", None),
        ({"app_roles": {"1": ["primary_receiver"]}}, "app_roles", None),
        ({"policy_enforcement": {"action": "block"}}, "policy_enforcement", None),
        ({"response_feedback": {"feedback": "Good response"}}, "response_feedback", None),
        ({"order": {"products": []}}, "order", None),
        ({"something_of_2027": {"x": 1}}, "other", None),
        ({"message": "a comment's text"}, "other", None),
        ({"message": {"text": "no mid"}}, "message", None),
    ],
)
def test_every_kind_of_event_is_named_and_keyed(fields: dict[str, Any], kind: str, key: str | None) -> None:
    (item,) = messenger.split(delivery(entry(messaging=[event(**fields)])))
    assert item.kind == kind
    assert item.key == key or (key is None and item.key.startswith(f"{kind}:"))


def test_the_same_reaction_at_another_time_is_another_item() -> None:
    react = {"reaction": {"mid": "m_1", "action": "react", "emoji": "👍"}}
    first, again, later = (
        messenger.split(delivery(entry(messaging=[{**event(**react), "timestamp": when}])))[0].key for when in (1, 1, 2)
    )
    assert first == again != later


def test_the_test_button_of_the_dashboard_sends_changes() -> None:
    value = {
        "sender": {"id": "12334"},
        "recipient": {"id": "23245"},
        "timestamp": "1527459824",
        "message": {"mid": "t"},
    }
    (item,) = messenger.split(
        delivery({"id": "0", "time": 1527459824, "changes": [{"field": "messages", "value": value}]})
    )
    assert (item.kind, item.key, item.payload["field"], item.payload["event"]) == ("message", "t", "messages", value)


@pytest.mark.parametrize(
    ("value", "kind", "key"),
    [
        ({"item": "comment", "verb": "add", "comment_id": "1_2", "message": "How much?"}, "comment", "1_2"),
        ({"item": "comment", "verb": "remove", "comment_id": "1_2"}, "comment", "1_2:remove"),
        ({"item": "comment", "verb": "edited", "comment_id": "1_2", "message": "How much is it?"}, "comment", None),
        ({"item": "comment", "verb": ["add"], "comment_id": "1_2"}, "comment", None),
        ({"item": "comment", "verb": "add", "comment_id": None}, "comment", None),
        ({"item": "like", "verb": "add", "post_id": "1"}, "feed", None),
        ({"item": ["comment"]}, "feed", None),
    ],
)
def test_news_of_the_pages_feed_are_comments_or_other_news(value: dict[str, Any], kind: str, key: str | None) -> None:
    (item,) = messenger.split(delivery(entry(changes=[{"field": "feed", "value": value}])))
    assert (item.kind, item.payload["field"], item.payload["event"]) == (kind, "feed", value)
    assert item.key == key or (key is None and item.key.startswith(f"{kind}:"))


def test_who_passed_the_thread_on_is_no_event() -> None:
    items = messenger.split(
        delivery(entry(messaging=[event(message={"mid": "m_1"})], hop_context=[{"app_id": 1, "metadata": "x"}]))
    )
    assert [item.kind for item in items] == ["message"]


def test_a_broken_part_among_good_ones_becomes_other_and_the_good_ones_flow() -> None:
    items = messenger.split(
        delivery(None, entry(messaging=["x", event(message={"mid": "m_1"})], standby=None), entry(), entry(new=[1]))
    )
    assert [item.kind for item in items] == ["other", "other", "message", "other", "other", "other"]
