"""Telegram's webhook: a secret in a header, and one update a delivery.

The secret is the one that was given to ``setWebhook`` as ``secret_token``. **It covers no body**: whoever learns it can
write anything, so it must be long, random and sent over TLS alone. No time is signed either; repeats are told by the
event's key.

Sources: core.telegram.org/bots/api#setwebhook and #update (Bot API 10.1 of 2026-06-11, documented; read 2026-11);
github.com/tdlib/telegram-bot-api @01a3679 telegram-bot-api/WebhookActor.cpp (repeats, observed). The size limit is
assumed: no update that is documented comes near it.
"""

from __future__ import annotations

import hmac
import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import SignatureError
from taps.webhooks.items import Answer, Item, WebhookRequest
from taps.webhooks.meta import key_of_content, parse_body

__all__ = ["MAX_BODY_BYTES", "SECRET_HEADER", "UPDATES", "Settings", "challenge", "split", "verify"]

MAX_BODY_BYTES = 1024 * 1024
SECRET_HEADER = "x-telegram-bot-api-secret-token"  # noqa: S105 - the header's name; it is never kept

UPDATES = (
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "guest_message",
    "message_reaction",
    "message_reaction_count",
    "inline_query",
    "chosen_inline_result",
    "callback_query",
    "shipping_query",
    "pre_checkout_query",
    "purchased_paid_media",
    "poll",
    "poll_answer",
    "my_chat_member",
    "chat_member",
    "chat_join_request",
    "chat_boost",
    "removed_chat_boost",
    "managed_bot",
)
"""The fields of an update, in the vendor's order: the one that is there is the item's kind."""

_MESSAGES = frozenset({"message", "channel_post", "business_message", "guest_message"})
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")


def _allowed(secret: SecretStr) -> SecretStr:
    """Telegram takes no other characters; an empty secret would let everybody in."""
    if not _SECRET.fullmatch(secret.get_secret_value()):
        msg = "must be 1 to 256 of the characters A-Z a-z 0-9 _ -"
        raise ValueError(msg)
    return secret


Secret = Annotated[SecretStr, AfterValidator(_allowed)]


class Settings(BaseSettings):
    """The secrets of one bot's webhook."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_TELEGRAM_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    secret_token: Secret = Field(
        description="A long random word of your choice (A-Z a-z 0-9 _ -), given to setWebhook as secret_token as well. "
        "It is all that tells Telegram's deliveries from forged ones."
    )
    previous_secret_token: Secret | None = Field(
        None, description="The one before, taken while you change it: take it out once setWebhook knows the new one."
    )


def challenge(settings: Settings, request: WebhookRequest) -> Answer | None:
    """Telegram asks nothing before it pushes."""
    del settings, request
    return None


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when the header holds the current or the previous secret. It says nothing about the body.

    Raises:
        SignatureError: it does not.
    """
    given = request.headers.get(SECRET_HEADER)
    if given is None:
        msg = f"there is no {SECRET_HEADER} header; was setWebhook given a secret_token?"
        raise SignatureError(msg)
    secrets = [settings.secret_token, settings.previous_secret_token]
    expected = [secret.get_secret_value().encode() for secret in secrets if secret is not None]
    # All are compared, whichever matches: the time tells nothing about which secret is in use.
    if not any([hmac.compare_digest(one, given.encode("utf-8", "replace")) for one in expected]):  # noqa: C419 (no short cut)
        msg = "the secret in the header is not ours; does setWebhook have the secret_token of the settings?"
        raise SignatureError(msg)


def split(body: bytes) -> list[Item]:
    """The event of an update: one item; more only if Telegram breaks its promise of one event an update.

    The payload of an item::

        {"update_id": 10000, "event": {"message_id": 1365, "date": 1772366400, "chat": {"id": 1111, ...}, ...}}

    Kind ``other`` holds in ``event`` what no field of `UPDATES` names: the whole update when nothing else is in it.

    Raises:
        PayloadError: the body as a whole cannot be read.
    """
    whole = parse_body(body)
    update_id = whole.get("update_id")
    known = [(name, whole[name]) for name in UPDATES if isinstance(whole.get(name), dict)]
    rest = {name: value for name, value in whole.items() if name not in {"update_id", *(name for name, _ in known)}}
    found: list[tuple[str, dict[str, Any]]] = [*known]
    if rest or not known:
        found.append(("other", rest if known else whole))
    return [
        Item(index, kind, {"update_id": update_id, "event": event}, _key(update_id, kind, event))
        for index, (kind, event) in enumerate(found)
    ]


def _key(update_id: Any, kind: str, event: dict[str, Any]) -> str:
    """A message by chat and number, a pressed button by its id, the rest by the update's number and what it says.

    The number alone would not do: after a week without updates Telegram goes on at a random one (documented), so a
    number can come again.
    """
    if kind in _MESSAGES:
        chat = event.get("chat")
        parts = [chat.get("id") if isinstance(chat, dict) else None, event.get("message_id")]
        if all(isinstance(part, int) and not isinstance(part, bool) for part in parts):
            connection = event.get("business_connection_id")
            place = f"{connection}/" if isinstance(connection, str) else ""
            return f"{kind}:{place}{parts[0]}:{parts[1]}"
    if kind == "callback_query" and isinstance(event.get("id"), str) and event["id"]:
        return f"{kind}:{event['id']}"
    return f"{update_id}:{key_of_content(kind, event)}" if isinstance(update_id, int) else key_of_content(kind, event)
