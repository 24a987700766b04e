"""The webhook of a WeChat Official Account: handshake, signature, and the one item of a delivery.

One message or event comes in each post, as XML. In secure mode it is encrypted and the signature covers it; in plain
mode the signature covers the time and a random number alone, so that whoever sees the address of one delivery can post
another for five minutes. Once an EncodingAESKey is set, plain bodies are refused.

WeChat wants ``success`` or nothing within five seconds, else it posts again, three times in all. A message has a 64-bit
id, an event has none: customer, second, event and its key tell one from another.

Sources: developers.weixin.qq.com/doc/service/guide/product/message/ (receiving messages, receiving events) and
.../guide/dev/push/, documented, read 2026-11.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from taps.webhooks.items import Answer, Item, WebhookRequest
from taps.webhooks.meta import Secret, key_of_content
from taps.webhooks.tencent import MAX_BODY_BYTES, AesKey, Keys, check_signature, echo, encrypted_part, read_message

__all__ = ["MAX_BODY_BYTES", "Settings", "answer", "challenge", "split", "verify"]


class Settings(BaseSettings):
    """The secrets of one Official Account's webhook."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_WECHAT_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    token: Secret = Field(description="The token of the account's server configuration; it signs every delivery.")
    previous_token: Secret | None = Field(
        None, description="The token before the last change; deliveries signed with it are taken until you remove it."
    )
    encoding_aes_key: AesKey | None = Field(
        None,
        description="The EncodingAESKey of the server configuration, in secure mode. Once it is set, deliveries that "
        "are not encrypted are refused.",
    )


def challenge(settings: Settings, request: WebhookRequest) -> Answer | None:
    """The answer to WeChat's handshake; ``None`` when the request is not one.

    Raises:
        SignatureError: it is not signed with our token.
    """
    if "echostr" not in request.query:
        return None
    check_signature(request, "signature", (settings.token, settings.previous_token))
    return echo(request.query["echostr"])


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when the delivery is signed with the current or the previous token.

    Raises:
        SignatureError: it is not, or it is not encrypted though it should be.
    """
    tokens = (settings.token, settings.previous_token)
    if settings.encoding_aes_key is None:
        check_signature(request, "signature", tokens)
    else:
        check_signature(request, "msg_signature", tokens, [encrypted_part(request)])


def answer(settings: Settings, request: WebhookRequest) -> Answer:
    """What WeChat takes as "received"; anything else but nothing would be shown to the customer as a failure."""
    del settings, request
    return Answer("success")


def split(body: bytes, keys: Keys | None = None) -> list[Item]:
    """The message or event of a delivery, as a list of one; `keys` opens it where it is encrypted.

    The payload of the item::

        {"xml": {"ToUserName": "gh_123456789abc", "FromUserName": "oMia...", "CreateTime": "1750000000",
                 "MsgType": "text", "Content": "Hello", "MsgId": "23456789012345678"}}

    Raises:
        PayloadError: the body cannot be read, or not with these keys.
    """
    xml = read_message(body, keys)
    kind = xml.get("MsgType")
    name = "event" if kind == "event" else "message" if isinstance(kind, str) and kind else "other"
    return [Item(0, name, {"xml": xml}, _key(name, xml))]


def _key(kind: str, xml: Mapping[str, Any]) -> str:
    """The message's id; for an event what tells it from the next.

    Both are documented. The second must not be narrower: two menu buttons pressed in one second are two events, and a
    template's event has an id in ``MsgID`` (observed: github.com/Senparc/NeuChar #137).
    """
    message_id = xml.get("MsgId")
    if kind == "message" and isinstance(message_id, str) and message_id:
        return message_id
    told = [xml.get(name) for name in ("FromUserName", "CreateTime", "Event", "EventKey", "MsgID")]
    if kind == "event" and all(isinstance(one, str) and one for one in told[:3]):
        return key_of_content(kind, told)
    return key_of_content(kind, xml)
