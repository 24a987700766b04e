"""Infobip's webhooks: the proof of the sender that was configured, and every result of a batch.

Infobip signs nothing by itself: a security setting of the account says how its pushes prove where they come from.
Every proof that is configured here must hold. No time is signed, so repeats are told by the ids of the results.

Sources: api.infobip.com/platform/1/openapi/{sms,whatsapp,viber,apple-mfb} (webhooks: batches of ``results``) and
/subscriptions-api (BASIC, HMAC and its algorithms, headers of a profile), version 3.210.0, read 2026-11, documented. No
page names the header of the HMAC or how it is written: the name is a setting, hex and base64 are taken, and that it
covers the raw body is assumed. No size limit is documented; ours is assumed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import SignatureError
from taps.webhooks.items import Answer, Item, WebhookRequest
from taps.webhooks.meta import Secret, key_of_content, parse_body

__all__ = ["HEADERS", "MAX_BODY_BYTES", "Settings", "challenge", "split", "verify"]

MAX_BODY_BYTES = 4 * 1024 * 1024
HEADERS: tuple[str, ...] = ()

Algorithm = Literal["HMAC_MD5", "HMAC_SHA_1", "HMAC_SHA_224", "HMAC_SHA_256", "HMAC_SHA_384", "HMAC_SHA_512"]

_DIGESTS: Mapping[str, Any] = {
    "HMAC_MD5": hashlib.md5,
    "HMAC_SHA_1": hashlib.sha1,
    "HMAC_SHA_224": hashlib.sha224,
    "HMAC_SHA_256": hashlib.sha256,
    "HMAC_SHA_384": hashlib.sha384,
    "HMAC_SHA_512": hashlib.sha512,
}
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")


class Settings(BaseSettings):
    """How Infobip's pushes prove where they come from: at least one of three ways."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_INFOBIP_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    webhook_username: str | None = Field(None, description="User name of a BASIC security setting.")
    webhook_password: Secret | None = Field(None, description="Its password.")
    previous_webhook_password: Secret | None = Field(None, description="The password before, while you rotate.")
    hmac_secret: Secret | None = Field(None, description="Secret key of an HMAC security setting.")
    previous_hmac_secret: Secret | None = Field(None, description="The secret key before, while you rotate.")
    hmac_header: str | None = Field(
        None, description="Name of the header that has the HMAC, as it arrives; no page of Infobip's names it."
    )
    hmac_algorithm: Algorithm = Field("HMAC_SHA_256", description="Algorithm of the HMAC security setting.")
    webhook_header: str | None = Field(
        None, description="Name of a header that you gave the notification profile, e.g. X-Webhook-Secret."
    )
    webhook_header_value: Secret | None = Field(None, description="Its value: a long random word.")
    previous_webhook_header_value: Secret | None = Field(None, description="The value before, while you rotate.")

    @field_validator("hmac_header", "webhook_header")
    @classmethod
    def _is_a_header(cls, name: str | None) -> str | None:
        if name is not None and not _HEADER.fullmatch(name):
            msg = "is not the name of a header"
            raise ValueError(msg)
        return name

    @model_validator(mode="after")
    def _proves_something(self) -> Self:
        ways = {
            "webhook_username and webhook_password": (self.webhook_username or None, self.webhook_password),
            "hmac_secret and hmac_header": (self.hmac_secret, self.hmac_header),
            "webhook_header and webhook_header_value": (self.webhook_header, self.webhook_header_value),
        }
        for names, pair in ways.items():
            if (pair[0] is None) != (pair[1] is None):
                msg = f"{names} need each other"
                raise ValueError(msg)
        if all(first is None for first, _ in ways.values()):
            msg = f"anybody could post here: set one of {'; '.join(ways)}"
            raise ValueError(msg)
        return self


def challenge(settings: Settings, request: WebhookRequest) -> Answer | None:
    """Nothing: Infobip asks nothing before it posts."""
    del settings, request
    return None


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when every proof that is configured holds.

    Raises:
        SignatureError: one does not, or its header is not there or came twice.
    """
    if settings.webhook_username is not None:
        user = settings.webhook_username
        _check(
            request,
            "authorization",
            [
                f"Basic {base64.b64encode(f'{user}:{secret.get_secret_value()}'.encode()).decode()}"
                for secret in _set(settings.webhook_password, settings.previous_webhook_password)
            ],
        )
    if settings.hmac_header is not None:
        _check(
            request,
            settings.hmac_header,
            [
                spelling
                for secret in _set(settings.hmac_secret, settings.previous_hmac_secret)
                for spelling in _spellings(sign(secret.get_secret_value(), request.body, settings.hmac_algorithm))
            ],
        )
    if settings.webhook_header is not None:
        given = _set(settings.webhook_header_value, settings.previous_webhook_header_value)
        _check(request, settings.webhook_header, [secret.get_secret_value() for secret in given])


def sign(secret: str, body: bytes, algorithm: str = "HMAC_SHA_256") -> bytes:
    """The HMAC of a body."""
    return hmac.new(secret.encode(), body, _DIGESTS[algorithm]).digest()


def split(body: bytes) -> list[Item]:
    """The results of a delivery, every one of them; a notification that is not in a batch is the only item.

    The payload of an item is ``{"result": {"messageId": "817790313235066447", "from": "447700900123", ...}}``. Kind
    ``message`` is what a customer sent, ``report`` and ``seen`` what became of a message of ours, ``notification`` what
    WhatsApp tells of a customer, ``click``, ``template`` and ``payment`` concern nobody's words.

    Raises:
        PayloadError: the body is no JSON object (reports can be had as XML: choose JSON).
    """
    whole = parse_body(body)
    results = whole.get("results")
    if not isinstance(results, list) or not results:
        if "results" in whole and results == []:
            return [Item(0, "empty", {"result": whole}, key_of_content("empty", whole))]
        kind = _kind_of_notification(whole)
        return [Item(0, kind, {"result": whole}, key_of_content(kind, whole))]
    return [_item(index, one) for index, one in enumerate(results)]


def _item(index: int, result: Any) -> Item:
    if not isinstance(result, dict):
        return Item(index, "other", {"result": {"value": result}}, key_of_content(f"other{index}", result))
    kind = _kind_of(result)
    return Item(index, kind, {"result": result}, _key(kind, result))


def _kind_of(result: Mapping[str, Any]) -> str:
    """What a result is, by the parts that only such a one has."""
    if "seenAt" in result:
        return "seen"
    if any(name in result for name in ("receivedAt", "integrationType", "text")):
        return "message"
    if isinstance(result.get("status"), dict):
        return "report"
    return "other"


def _kind_of_notification(whole: Mapping[str, Any]) -> str:
    content = whole.get("content")
    if isinstance(content, dict) and whole.get("createdAt") is not None:
        return "payment" if "paymentStatus" in content else "notification"
    if "notificationType" in whole and "recipient" in whole:
        return "click"
    return "template" if "messageTemplateId" in whole else "other"


def _key(kind: str, result: Mapping[str, Any]) -> str:
    """A message by its id, a report by message and status; whatever has no id goes by its content.

    Apple sends the answer to a picker twice, each time with another id: such an answer goes by what it answers.
    """
    message_id = result.get("messageId")
    if kind == "other" or not isinstance(message_id, str) or not message_id:
        return key_of_content(kind, result)
    if kind == "report":
        status = result["status"]
        return f"report:{message_id}:{status.get('groupId')}:{status.get('id')}:{status.get('name')}"
    message = result.get("message")
    if kind == "message" and isinstance(message, dict) and result.get("integrationType") == "APPLE_BC":
        request = message.get("requestIdentifier") or message.get("sessionIdentifier")
        if isinstance(request, str):
            return key_of_content("answer", [result.get("sender"), message])
    return f"{kind}:{message_id}"


def _check(request: WebhookRequest, name: str, expected: list[str]) -> None:
    given = request.headers.get(name.lower())
    if given is None:
        msg = f"there is no {name} header"
        raise SignatureError(msg)
    # All are compared, whichever matches: the time tells nothing about which secret is in use.
    if not any([hmac.compare_digest(one.encode(), given.encode("utf-8", "replace")) for one in expected]):  # noqa: C419
        msg = f"the {name} header is not the one that the settings ask for"
        raise SignatureError(msg)


def _spellings(digest: bytes) -> list[str]:
    return [digest.hex(), digest.hex().upper(), base64.b64encode(digest).decode()]


def _set(*secrets: SecretStr | None) -> list[SecretStr]:
    return [secret for secret in secrets if secret is not None]
