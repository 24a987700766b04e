from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from taps.webhooks import instagram
from tests.contract.webhook import HandshakeContract, JsonBodyContract, WebhookContract

ACCOUNT, PERSON = "17841405822304914", "8901234567890123"


def event(**fields: Any) -> dict[str, Any]:
    return {"sender": {"id": PERSON}, "recipient": {"id": ACCOUNT}, "timestamp": 1760000000000, **fields}


def entry(**fields: Any) -> dict[str, Any]:
    return {"id": ACCOUNT, "time": 1760000000123, **fields}


def delivery(*entries: Any) -> bytes:
    return json.dumps({"object": "instagram", "entry": [*entries]}).encode()


def comment(**fields: Any) -> dict[str, Any]:
    return {"id": "1786", "text": "How much?", "from": {"id": PERSON, "username": "mia"}, **fields}


class TestInstagramWebhook(WebhookContract, HandshakeContract, JsonBodyContract):
    slug = "instagram"
    module: ClassVar[Any] = instagram
    signature_header = "X-Hub-Signature-256"
    body = delivery(
        entry(messaging=[event(message={"mid": "a_1", "text": "Grüße"}), event(read={"mid": "a_0"})]),
        entry(standby=[event(message={"mid": "a_2", "is_echo": True})]),
        entry(changes=[{"field": "comments", "value": comment()}]),
    )
    kinds = ("message", "read", "message_echo", "comment")
    handshake: ClassVar = {"hub.mode": "subscribe", "hub.verify_token": "our-word", "hub.challenge": "1158201444"}
    handshake_answer = "1158201444"
    wrong_handshakes: ClassVar = (
        {**handshake, "hub.verify_token": "their-word"},
        {**handshake, "hub.challenge": "<b>1</b>"},
    )

    def settings(self, secret: str, previous: str | None = None) -> instagram.Settings:
        return instagram.Settings.model_validate(
            {"app_secret": secret, "previous_app_secret": previous, "verify_token": "our-word"}
        )

    def sign(self, secret: str, body: bytes) -> str:
        return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_its_secrets_are_not_those_of_messenger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONETHREAD_MESSENGER_APP_SECRET", "of the facebook app")
    monkeypatch.setenv("ONETHREAD_MESSENGER_VERIFY_TOKEN", "a word")
    with pytest.raises(ValidationError):
        instagram.Settings()
    monkeypatch.setenv("ONETHREAD_INSTAGRAM_APP_SECRET", "of the instagram app")
    monkeypatch.setenv("ONETHREAD_INSTAGRAM_VERIFY_TOKEN", "a word")
    assert instagram.Settings().app_secret.get_secret_value() == "of the instagram app"


def test_several_events_of_one_entry_are_all_there() -> None:
    events = [event(message={"mid": f"a_{n}"}) for n in range(5)]
    items = instagram.split(delivery(entry(messaging=events), entry(messaging=events[:2], standby=events[:1])))
    assert [item.key for item in items] == ["a_0", "a_1", "a_2", "a_3", "a_4", "a_0", "a_1", "a_0"]
    assert [item.payload["standby"] for item in items] == [False] * 7 + [True]


@pytest.mark.parametrize(
    ("fields", "kind", "key"),
    [
        ({"message": {"mid": "a_1", "text": "hi"}}, "message", "a_1"),
        ({"message": {"mid": "a_1", "is_echo": True}}, "message_echo", "a_1"),
        ({"message": {"mid": "a_1", "is_echo": "true"}}, "message", "a_1"),
        ({"message": {"mid": "a_1", "is_deleted": True}}, "message_deleted", "a_1:unsend"),
        ({"message": {"mid": "a_1", "is_deleted": True, "is_echo": True}}, "message_deleted", "a_1:unsend"),
        ({"message_edit": {"mid": "a_1", "text": "ho", "num_edit": "2"}}, "message_edit", "a_1:edit:2"),
        ({"message_edit": {"mid": "a_1", "text": "ho", "num_edit": 2}}, "message_edit", "a_1:edit:2"),
        ({"message_edit": {"mid": "a_1", "text": "ho"}}, "message_edit", None),
        ({"postback": {"mid": "a_2", "payload": "START", "referral": {"ref": "x"}}}, "postback", "a_2"),
        ({"postback": {"payload": "START"}}, "postback", None),
        ({"read": {"mid": "a_1"}}, "read", "a_1:read"),
        ({"read": {"watermark": 1}}, "read", None),
        ({"reaction": {"mid": "a_1", "action": "react", "emoji": "👍"}}, "reaction", None),
        ({"referral": {"ref": "x", "source": "ADS"}}, "referral", None),
        ({"optin": {"type": "notification_messages"}}, "optin", None),
        ({"pass_thread_control": {"new_owner_app_id": "1"}}, "pass_thread_control", None),
        ({"take_thread_control": {"previous_owner_app_id": "1"}}, "take_thread_control", None),
        ({"request_thread_control": {"requested_owner_app_id": 1}}, "request_thread_control", None),
        ({"pass_thread_metadata": {"caller_app_id": "1"}}, "pass_thread_metadata", None),
        ({"app_roles": {"1": ["primary_receiver"]}}, "app_roles", None),
        ({"policy_enforcement": {"action": "block"}}, "policy_enforcement", None),
        ({"response_feedback": {"feedback": "Good response"}}, "response_feedback", None),
        ({"something_of_2027": {"x": 1}}, "other", None),
        ({"message": "a comment's text"}, "other", None),
        ({"message": {"text": "no mid"}}, "message", None),
    ],
)
def test_every_kind_of_event_is_named_and_keyed(fields: dict[str, Any], kind: str, key: str | None) -> None:
    (item,) = instagram.split(delivery(entry(messaging=[event(**fields)])))
    assert item.kind == kind
    assert item.key == key or (key is None and item.key.startswith(f"{kind}:"))


def test_a_message_and_what_becomes_of_it_are_different_items() -> None:
    message, unsent, read, edit = (
        instagram.split(delivery(entry(messaging=[event(**fields)])))[0].key
        for fields in (
            {"message": {"mid": "a_1", "text": "hi"}},
            {"message": {"mid": "a_1", "is_deleted": True}},
            {"read": {"mid": "a_1"}},
            {"message_edit": {"mid": "a_1", "text": "ho", "num_edit": 1}},
        )
    )
    assert len({message, unsent, read, edit}) == 4


@pytest.mark.parametrize(
    ("field", "value", "kind", "key"),
    [
        ("comments", comment(), "comment", "1786"),
        ("comments", {"comment_id": "1787", "text": "How much?"}, "comment", "1787"),
        ("comments", {"text": "no id"}, "comment", None),
        ("comments", {"id": ["1786"], "text": "x"}, "comment", None),
        ("live_comments", comment(), "comment", "1786"),
        ("mentions", {"media_id": "1791", "comment_id": "1786"}, "mention", None),
        ("story_insights", {"media_id": "1791", "reach": 5}, "story_insights", None),
        ("something_of_2027", {"x": 1}, "other", None),
    ],
)
def test_changes_are_named_by_their_field(field: str, value: dict[str, Any], kind: str, key: str | None) -> None:
    (item,) = instagram.split(delivery(entry(changes=[{"field": field, "value": value}])))
    assert (item.kind, item.payload["field"], item.payload["event"]) == (kind, field, value)
    assert item.key == key or (key is None and item.key.startswith(f"{kind}:"))


def test_a_comment_straight_in_its_entry_is_the_same_item_as_one_in_changes() -> None:
    (flat,) = instagram.split(delivery(entry(field="comments", value=comment())))
    (nested,) = instagram.split(delivery(entry(changes=[{"field": "comments", "value": comment()}])))
    assert flat == nested


def test_a_comment_told_twice_because_its_post_is_an_ad_is_one_item_by_key() -> None:
    plain = {"field": "comments", "value": comment(media={"id": "1"})}
    boosted = {"field": "comments", "value": comment(media={"id": "2", "ad_id": "3"})}
    items = instagram.split(delivery(entry(changes=[plain]), entry(changes=[boosted])))
    assert len({item.key for item in items}) == 1


def test_the_test_button_of_the_dashboard_keeps_its_field() -> None:
    value = {"sender": {"id": "1"}, "recipient": {"id": "2"}, "timestamp": "1527459824", "message": {"mid": "t"}}
    (item,) = instagram.split(delivery({"id": "0", "changes": [{"field": "messages", "value": value}]}))
    assert (item.kind, item.key, item.payload["field"], item.payload["event"]) == ("message", "t", "messages", value)


def test_a_delivery_about_another_object_is_not_read_as_instagrams() -> None:
    (item,) = instagram.split(b'{"object":"page","entry":[{"id":"1","messaging":[]}]}')
    assert item.kind == "other"


def test_who_passed_the_thread_on_is_no_event() -> None:
    items = instagram.split(
        delivery(entry(messaging=[event(message={"mid": "a_1"})], hop_context=[{"app_id": 1, "metadata": "x"}]))
    )
    assert [item.kind for item in items] == ["message"]


def test_a_broken_part_among_good_ones_becomes_other_and_the_good_ones_flow() -> None:
    items = instagram.split(
        delivery(None, entry(messaging=["x", event(message={"mid": "a_1"})], standby=None), entry(), entry(new=[1]))
    )
    assert [item.kind for item in items] == ["other", "other", "message", "other", "other", "other"]
