"""Slack's Events API: the handshake, the signature, and one item per delivery.

A delivery holds one event. Slack's handshake is a signed POST like any other, so it is stored, and answered with its
challenge by `answer`.

Sources: docs.slack.dev/apis/events-api (envelope, url_verification, three retries), docs.slack.dev/authentication/
verifying-requests-from-slack (``v0=`` hexadecimal HMAC-SHA256 over ``v0:<timestamp>:<raw body>``, five minutes), read
2026-11, documented. That the same message can come again under a new event id and without a retry header:
github.com/slackapi/node-slack-sdk/issues/2141 (observed), so a message goes by channel and ``ts``. The size limit is
assumed: none is documented.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import PayloadError, SignatureError
from taps.webhooks.items import Answer, Item, WebhookRequest
from taps.webhooks.meta import Secret, key_of_content, parse_body

MAX_BODY_BYTES = 1024 * 1024
SIGNATURE_HEADER = "x-slack-signature"
TIMESTAMP_HEADER = "x-slack-request-timestamp"
HEADERS = (SIGNATURE_HEADER, TIMESTAMP_HEADER, "x-slack-retry-num", "x-slack-retry-reason")

_WINDOW_SECONDS = 300
_SIGNATURE = re.compile(r"v0=([0-9a-f]{64})", re.ASCII)
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_CHALLENGE = re.compile(r"[A-Za-z0-9._~=-]{1,256}")
_HIDDEN = {"message_changed": "message_changed", "message_deleted": "message_deleted", "message_replied": "message"}
_TYPE = re.compile(r"[a-z][a-z0-9_]{0,59}", re.ASCII)


class Settings(BaseSettings):
    """The secrets of the app that receives Slack's events."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_SLACK_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    signing_secret: Secret = Field(description="The app's signing secret; Slack signs every delivery with it.")
    previous_signing_secret: Secret | None = Field(
        None,
        description="The secret before the last regeneration; deliveries signed with it are taken until you remove it.",
    )


def challenge(settings: Settings, request: WebhookRequest) -> Answer | None:
    """``None``: Slack never asks by GET; see `answer`."""
    del settings, request
    return None


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when time and body are signed with the current or the previous secret, at most five minutes ago.

    Raises:
        SignatureError: they are not, or a header is missing, malformed or there twice.
    """
    given, timestamp = request.headers.get(SIGNATURE_HEADER, ""), request.headers.get(TIMESTAMP_HEADER, "")
    match = _SIGNATURE.fullmatch(given)
    if match is None:
        msg = f"{SIGNATURE_HEADER} is not one v0= and 64 hexadecimal digits"
        raise SignatureError(msg)
    if not _TIMESTAMP.fullmatch(timestamp):
        msg = f"{TIMESTAMP_HEADER} is not one number of seconds"
        raise SignatureError(msg)
    signed = b"v0:" + timestamp.encode() + b":" + request.body
    secrets = [settings.signing_secret, settings.previous_signing_secret]
    expected = [
        hmac.new(secret.get_secret_value().encode(), signed, hashlib.sha256).hexdigest()
        for secret in secrets
        if secret is not None
    ]
    # All are compared, whichever matches: the time tells nothing about which secret is in use.
    if not any([hmac.compare_digest(one, match.group(1)) for one in expected]):  # noqa: C419 (no short cut)
        msg = "the signature does not match; is the signing secret the one of the app that sends?"
        raise SignatureError(msg)
    age = request.received_at.timestamp() - int(timestamp)
    if abs(age) > _WINDOW_SECONDS:
        msg = f"the delivery was signed {age:.0f} s ago, the limit is {_WINDOW_SECONDS}; is our clock right?"
        raise SignatureError(msg)


def answer(settings: Settings, request: WebhookRequest) -> Answer:
    """The challenge of a handshake; nothing to any other delivery."""
    del settings
    if b"url_verification" not in request.body:
        return Answer()
    try:
        whole = parse_body(request.body)
    except PayloadError:
        return Answer()
    text = whole.get("challenge")
    if whole.get("type") != "url_verification" or not isinstance(text, str) or not _CHALLENGE.fullmatch(text):
        return Answer()
    return Answer(text)


def split(body: bytes) -> list[Item]:
    """The event of a delivery.

    The payload of the item::

        {"envelope": {"type": "event_callback", "team_id": "T0OURS", "api_app_id": "A0APP", "event_id": "Ev0...",
                      "event_time": 1772366400, "authorizations": [...], "is_ext_shared_channel": True},
         "event": {"type": "message", "channel": "C0SHARED", "user": "U0...", "text": "Hello", "ts": "177...", ...}}

    The deprecated verification token is left out. Kind ``other`` holds in ``event`` whatever nobody documented.

    Raises:
        PayloadError: the body as a whole cannot be read.
    """
    whole = parse_body(body)
    envelope = {name: value for name, value in whole.items() if name not in {"event", "token"}}
    event = whole.get("event")
    if whole.get("type") == "event_callback":
        kind = kind_of(event)
        return [Item(0, kind, {"envelope": envelope, "event": event}, key_of(kind, event))]
    kind = next((one for one in ("url_verification", "app_rate_limited") if whole.get("type") == one), "other")
    payload = {"envelope": envelope, "event": envelope if event is None else event}
    return [Item(0, kind, payload, key_of_content(kind, whole))]


def kind_of(event: Any) -> str:
    """What an event is: its type, with a changed and a deleted message apart; a mention is the message it is in."""
    if not isinstance(event, dict) or not isinstance(event.get("type"), str) or not _TYPE.fullmatch(event["type"]):
        return "other"
    kind: str = event["type"]
    if kind in {"message", "app_mention"}:
        subtype = event.get("subtype")
        return _HIDDEN.get(subtype, "message") if isinstance(subtype, str) else "message"
    return "other" if kind in _HIDDEN else kind


def key_of(kind: str, event: Any) -> str:
    """A message by channel and ``ts``, an edit and a deletion by what they change; the rest by content."""
    if not isinstance(event, dict):
        return key_of_content(kind, event)
    channel, ts = event.get("channel"), event.get("ts")
    message = event.get("message") if kind == "message_changed" else event
    if kind == "message_changed":
        ts = message.get("ts") if isinstance(message, dict) else None
    elif kind == "message_deleted":
        ts = event.get("deleted_ts")
    if kind == "message_deleted" or (isinstance(message, dict) and message.get("subtype") == "tombstone"):
        more = ":deleted"
    elif kind == "message_changed":
        at = _edited_at(event)
        if at is None:
            return key_of_content(kind, event)
        more = f":edit:{at}"
    elif kind == "message" and event.get("subtype") != "message_replied":
        more = ""
    else:
        return key_of_content(kind, event)
    if isinstance(channel, str) and channel and isinstance(ts, str) and ts:
        return f"{channel}:{ts}{more}"
    return key_of_content(kind, event)


def _edited_at(event: dict[str, Any]) -> str | None:
    """When the edit was that this change tells of; ``None`` for one that is no edit, such as a link's preview."""
    message, before = event.get("message"), event.get("previous_message")
    edited = message.get("edited") if isinstance(message, dict) else None
    at = edited.get("ts") if isinstance(edited, dict) else None
    edited_before = before.get("edited") if isinstance(before, dict) else None
    return at if isinstance(at, str) and at and edited != edited_before else None
