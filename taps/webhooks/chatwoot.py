"""Chatwoot's webhooks: the signature over time and body, and the events of each delivery.

A webhook tells one thing that happened, with the conversation, its contact and the account around it. It is posted once
and never again, so `taps.chatwoot` reads the conversations as well.

Sources: github.com/chatwoot/chatwoot, swagger ``webhook`` (``X-Chatwoot-Signature: sha256=`` and the HMAC-SHA256 of
``{timestamp}.{raw body}``, ``X-Chatwoot-Timestamp``, ``X-Chatwoot-Delivery``; since pull request 13573), documented;
app/listeners/webhook_listener.rb and app/models/message.rb ``webhook_data`` (events and shapes), lib/webhooks/
trigger.rb (5 s, one try), observed; read 2026-11. The window of five minutes and the size limit are ours: a text has at
most 150,000 characters (app/models/message.rb, observed).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import SignatureError
from mappings.from_chatwoot.codes import ANSWERS
from taps.webhooks.items import Answer, Item, WebhookRequest
from taps.webhooks.meta import Secret, key_of_content, parse_body

MAX_BODY_BYTES = 2 * 1024 * 1024
SIGNATURE_HEADER = "x-chatwoot-signature"
TIMESTAMP_HEADER = "x-chatwoot-timestamp"
HEADERS = (SIGNATURE_HEADER, TIMESTAMP_HEADER, "x-chatwoot-delivery")

_WINDOW_SECONDS = 300
_SIGNATURE = re.compile(r"sha256=([0-9a-f]{64})", re.ASCII)
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_AROUND = frozenset({"event", "account", "conversation", "inbox"})
_TOLD_BY_CONTACT = ("id", "identifier", "email", "phone_number")
_ACTIVITY = (2, "activity")
_OURS = (1, 3, "outgoing", "template")


class Settings(BaseSettings):
    """The secrets of the webhook in Chatwoot."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_CHATWOOT_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    webhook_secret: Secret = Field(
        description="The secret of the webhook, as Settings, Integrations, Webhooks shows it; Chatwoot signs with it."
    )
    previous_webhook_secret: Secret | None = Field(
        None, description="Another secret that is taken as well: the one before, or that of an API inbox's webhook."
    )


def challenge(settings: Settings, request: WebhookRequest) -> Answer | None:
    """Never an answer: Chatwoot asks nothing before it posts."""
    del settings, request
    return None


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when time and body are signed with one of the secrets, at most five minutes ago.

    Raises:
        SignatureError: they are not, or a header is missing, malformed or there twice. An installation from before
            signatures is refused: what it posts could be anybody's.
    """
    given, timestamp = request.headers.get(SIGNATURE_HEADER, ""), request.headers.get(TIMESTAMP_HEADER, "")
    match = _SIGNATURE.fullmatch(given)
    if match is None:
        msg = (
            f"{SIGNATURE_HEADER} is not one sha256= and 64 hexadecimal digits; is Chatwoot old enough to sign nothing?"
        )
        raise SignatureError(msg)
    if not _TIMESTAMP.fullmatch(timestamp):
        msg = f"{TIMESTAMP_HEADER} is not one number of seconds"
        raise SignatureError(msg)
    secrets = [settings.webhook_secret, settings.previous_webhook_secret]
    expected = [
        sign(secret.get_secret_value(), timestamp, request.body).removeprefix("sha256=")
        for secret in secrets
        if secret is not None
    ]
    # All are compared, whichever matches: the time tells nothing about which secret is in use.
    if not any([hmac.compare_digest(one, match.group(1)) for one in expected]):  # noqa: C419 (no short cut)
        msg = "the signature does not match; is the secret the one that this webhook's own form shows?"
        raise SignatureError(msg)
    age = request.received_at.timestamp() - int(timestamp)
    if abs(age) > _WINDOW_SECONDS:
        msg = f"the delivery was signed {age:.0f} s ago, the limit is {_WINDOW_SECONDS}; is our clock right?"
        raise SignatureError(msg)


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature header of a body that is posted at `timestamp` (seconds since 1970)."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def split(body: bytes) -> list[Item]:
    """The events of a delivery: what happened, and the contact that it happened with.

    The payload of an item::

        {"event": "message_created", "account": {"id": 2, "name": "Shop"}, "inbox": {"id": 3},
         "conversation": {"id": 7, "channel": "Channel::WebWidget", "meta": {"sender": {"id": 4, ...}}, ...},
         "message": {"id": 654, "content": "Hello", "message_type": "incoming", "private": False, ...}}

    Kinds: ``message``, ``private_note``, ``activity``, ``answer``, ``deleted``, ``update``, ``conversation``,
    ``contact``, ``widget_opened``, by the API ``status``; ``other`` holds in ``message`` whatever nobody documented.

    Raises:
        PayloadError: the body as a whole cannot be read.
    """
    whole = parse_body(body)
    event = whole.get("event") if isinstance(whole.get("event"), str) else None
    around = {name: whole.get(name) for name in ("event", "account", "inbox")}
    rest = {name: value for name, value in whole.items() if name not in _AROUND}
    if event in {"message_created", "message_updated"}:
        conversation = without_messages(whole.get("conversation"))
        return items_of_message(rest, conversation, around, created=event == "message_created")
    if event in {"conversation_created", "conversation_updated", "conversation_status_changed"}:
        return items_of_conversation(without_messages(rest), around)
    if event in {"contact_created", "contact_updated"}:
        return numbered(_contact(rest, {**around, "conversation": None}, None))
    kind = "widget_opened" if event == "webwidget_triggered" else "other"
    return [Item(0, kind, {**around, "message": rest}, key_of_content(kind, whole))]


def items_of_message(
    message: Mapping[str, Any], conversation: Any, around: Mapping[str, Any], *, created: bool, listed: bool = False
) -> list[Item]:
    """The events in one message and its conversation, as a webhook or the API tells them.

    Args:
        message: the message alone.
        conversation: its conversation, without messages.
        around: account and inbox.
        created: whether the message itself is news, not what became of it.
        listed: whether the API tells it, which knows the status of what we sent.
    """
    payload = {**around, "conversation": conversation, "message": message}
    if message.get("private") is True:
        return numbered([_item("private_note", payload, f"private:{message.get('id')}")])
    if message.get("message_type") in _ACTIVITY:
        return numbered([_item("activity", payload, f"activity:{message.get('id')}")])
    found = [_item("message", payload, _key(message))] if created else []
    attributes = message.get("content_attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    if attributes.get("deleted"):
        found.append(_item("deleted", payload, f"{_key(message)}:deleted"))
    told = {name: attributes[name] for name in ANSWERS if attributes.get(name)}
    if told:
        found.append(_item("answer", payload, f"{_key(message)}:{key_of_content('answer', told)}"))
    if listed and message.get("message_type") in _OURS and message.get("status") is not None:
        found.append(_item("status", payload, f"{_key(message)}:status:{message['status']}"))
    if not found:
        # Chatwoot does not say what has changed: mostly whether it got through.
        found = [_item("update", payload, f"{_key(message)}:{key_of_content('update', message)}")]
    return numbered([*found, *_contact_of(conversation, around)])


def items_of_conversation(conversation: Any, around: Mapping[str, Any]) -> list[Item]:
    """The events in a conversation: how far its visitor has read, and who that is."""
    if not isinstance(conversation, dict):
        return numbered([_item("other", {**around, "message": conversation}, key_of_content("other", conversation))])
    seen = {name: conversation.get(name) for name in ("id", "contact_last_seen_at")}
    payload = {**around, "conversation": conversation, "message": None}
    return numbered(
        [_item("conversation", payload, key_of_content("conversation", seen)), *_contact_of(conversation, around)]
    )


def without_messages(conversation: Any) -> Any:
    """A conversation without the message that it repeats, which may be another one than the delivery tells of."""
    if not isinstance(conversation, dict):
        return conversation
    return {
        name: value for name, value in conversation.items() if name not in {"messages", "last_non_activity_message"}
    }


def _contact_of(conversation: Any, around: Mapping[str, Any]) -> list[Item]:
    meta = conversation.get("meta") if isinstance(conversation, dict) else None
    contact = meta.get("sender") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or not isinstance(contact, dict):
        return []
    if not any(contact.get(name) for name in _TOLD_BY_CONTACT[1:]):
        return []
    return _contact(contact, {**around, "conversation": conversation}, meta.get("hmac_verified"))


def _contact(contact: Mapping[str, Any], around: Mapping[str, Any], hmac_verified: Any) -> list[Item]:
    told = {name: contact.get(name) for name in _TOLD_BY_CONTACT}
    payload = {**around, "message": None, "contact": contact}
    return [_item("contact", payload, key_of_content("contact", {**told, "hmac_verified": hmac_verified is True}))]


def _key(message: Mapping[str, Any]) -> str:
    number = message.get("id")
    # Older installations write the id as text.
    return f"message:{number}" if isinstance(number, int | str) and number else key_of_content("message", message)


def _item(kind: str, payload: dict[str, Any], key: str) -> Item:
    return Item(0, kind, payload, key)


def numbered(items: list[Item]) -> list[Item]:
    """The items with their positions."""
    return [Item(index, one.kind, one.payload, one.key) for index, one in enumerate(items)]
