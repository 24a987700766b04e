"""The webhook of WeCom customer service: it rings, and says nothing of what there is.

``kf_msg_or_event`` means that one of the customer service accounts has something new, and brings a token with which
``sync_msg`` may be asked for it during ten minutes without its strict rate limit. Other events of the same address
become items of kind ``other``. Bodies are always encrypted.

Sources: developer.work.weixin.qq.com/document/path/94670 (customer service), /90930 and /90968 (callbacks, encryption),
documented, read 2026-11.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import PayloadError, SignatureError
from taps.webhooks.items import Answer, Item, WebhookRequest
from taps.webhooks.meta import Secret, key_of_content
from taps.webhooks.tencent import (
    MAX_BODY_BYTES,
    AesKey,
    Keys,
    check_signature,
    decrypt,
    echo,
    encrypted_part,
    read_message,
)

__all__ = ["BELL", "MAX_BODY_BYTES", "Settings", "challenge", "split", "verify"]

BELL = "bell"
"""The kind of the item that says "ask for what is new"."""

_BELL_EVENT = "kf_msg_or_event"


class Settings(BaseSettings):
    """The secrets of one WeCom application's callback."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_WECOM_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    token: Secret = Field(description="The token of the callback configuration; it signs every delivery.")
    previous_token: Secret | None = Field(
        None, description="The token before the last change; deliveries signed with it are taken until you remove it."
    )
    encoding_aes_key: AesKey = Field(description="The EncodingAESKey of the callback configuration.")
    previous_encoding_aes_key: AesKey | None = Field(
        None, description="The EncodingAESKey before the last change; it is tried as well until you remove it."
    )


def challenge(settings: Settings, request: WebhookRequest) -> Answer | None:
    """The answer to WeCom's handshake: what its ``echostr`` says once it is decrypted; ``None`` when it is none.

    Raises:
        SignatureError: it is not signed with our token, or not encrypted with our key.
    """
    encrypted = request.query.get("echostr")
    if encrypted is None:
        return None
    check_signature(request, "msg_signature", (settings.token, settings.previous_token), [encrypted])
    keys = [key for key in (settings.encoding_aes_key, settings.previous_encoding_aes_key) if key is not None]
    try:
        return echo(decrypt(encrypted, keys, None).decode("ascii", "replace"))
    except PayloadError as error:
        msg = f"the handshake cannot be decrypted: {error}"
        raise SignatureError(msg) from None


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when the delivery is signed with the current or the previous token.

    Raises:
        SignatureError: it is not, or it is not encrypted.
    """
    tokens = (settings.token, settings.previous_token)
    check_signature(request, "msg_signature", tokens, [encrypted_part(request)])


def split(body: bytes, keys: Keys | None = None) -> list[Item]:
    """The event of a delivery, as a list of one; `keys` opens it.

    The payload of the item::

        {"xml": {"ToUserName": "ww12345678910", "CreateTime": "1750000000", "MsgType": "event",
                 "Event": "kf_msg_or_event", "Token": "ENCApHx...", "OpenKfId": "wkAJ2GCAAA..."}}

    Raises:
        PayloadError: the body cannot be read, or not with these keys.
    """
    xml = read_message(body, keys)
    kind = BELL if xml.get("MsgType") == "event" and xml.get("Event") == _BELL_EVENT else "other"
    return [Item(0, kind, {"xml": xml}, key_of_content(kind, xml))]
