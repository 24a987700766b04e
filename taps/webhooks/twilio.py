"""Twilio's webhooks: the signature over address and form, and the one event of each request.

Twilio signs the address as it called it, followed by every form parameter, sorted, names and values without anything
between them. A JSON body is bound by its digest in the address. No time is signed: a repeat is told by its content.

Sources: twilio.com/docs/usage/webhooks/webhooks-security (signature, ``bodySHA256``), .../webhook-shared-keys of
2026-09-07 (shared keys), read 2026-11, documented; what no page says (a value that comes twice counts once, the address
is signed with its port or without) is github.com/twilio/twilio-python 9.13.0, ``request_validator.py``, observed. The
size limit is assumed: a message has at most 1600 characters, one of WhatsApp 4096, twice in JSON.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import PayloadError, SignatureError
from taps.webhooks.items import Answer, Item, WebhookRequest
from taps.webhooks.meta import Secret, key_of_content, parse_body

__all__ = ["HEADERS", "MAX_BODY_BYTES", "Settings", "answer", "challenge", "sign", "split", "verify"]

MAX_BODY_BYTES = 1024 * 1024
SIGNATURE_HEADER = "x-twilio-signature"
SETTINGS_HEADER = "x-twilio-webhooks-signature-settings"
HEADERS = (SIGNATURE_HEADER, SETTINGS_HEADER, "i-twilio-idempotency-token")

_ALGORITHMS = {"HMAC_SHA1": hashlib.sha1, "HMAC_SHA256": hashlib.sha256}
_SIGNATURE = re.compile(r"[A-Za-z0-9+/]{27}=|[A-Za-z0-9+/]{43}=")
_MAX_PARAMETERS = 1000


class Settings(BaseSettings):
    """What Twilio signs with."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_TWILIO_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    auth_token: Secret = Field(description="The account's primary auth token; Twilio signs every webhook with it.")
    previous_auth_token: Secret | None = Field(
        None,
        description="While you rotate: the other auth token (the secondary before it is promoted, the old primary "
        "after).",
    )
    shared_key: Secret | None = Field(
        None, description="Secret of a webhook shared key, where a webhook rule of yours signs with one (HMAC-SHA256)."
    )
    previous_shared_key: Secret | None = Field(None, description="The same, while you rotate.")


def challenge(settings: Settings, request: WebhookRequest) -> Answer | None:
    """Never an answer: Twilio asks nothing before it posts, and its webhooks must be set to POST."""
    del settings, request
    return None


def answer(settings: Settings, request: WebhookRequest) -> Answer:
    """TwiML that says nothing to the customer; plain text would be sent to them as an SMS."""
    del settings, request
    return Answer("<Response/>", "text/xml; charset=utf-8")


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when one of the secrets signed this address with this body.

    Raises:
        SignatureError: none did, there is more than one signature, or the body is not part of what was signed.
    """
    given = request.headers.get(SIGNATURE_HEADER)
    if given is None:
        msg = f"there is no {SIGNATURE_HEADER} header"
        raise SignatureError(msg)
    if not _SIGNATURE.fullmatch(given):
        msg = f"{SIGNATURE_HEADER} is not the base64 of one digest"
        raise SignatureError(msg)
    algorithm, secrets = _keys(settings, request.headers.get(SETTINGS_HEADER))
    pairs = _signed_pairs(request)
    expected = [
        sign(secret.get_secret_value(), url, pairs, algorithm)
        for secret in secrets
        if secret is not None
        for url in _spellings(request.url)
    ]
    # All are compared, whichever matches: the time tells nothing about which secret is in use.
    if not any([hmac.compare_digest(one, given) for one in expected]):  # noqa: C419 (no short cut)
        msg = (
            "the signature does not match; is the auth token the primary one of the account that sends, and is "
            "ONETHREAD_RECEIVER_PUBLIC_URL the address as Twilio has it?"
        )
        raise SignatureError(msg)


def sign(secret: str, url: str, pairs: Iterable[tuple[bytes, bytes]], algorithm: str = "HMAC_SHA1") -> str:
    """The signature over an address and its form parameters."""
    text = url.encode() + b"".join(name + value for name, value in sorted(set(pairs)))
    return base64.b64encode(hmac.new(secret.encode(), text, _ALGORITHMS[algorithm]).digest()).decode()


def split(body: bytes) -> list[Item]:
    """The event of a webhook.

    The payload of an item is ``{"form": {"MessageSid": "SM...", ...}}``: each parameter once, the first of several.
    Kind ``message`` is one that came in, ``status`` tells of one that went out, ``other`` is about no message.

    Raises:
        PayloadError: the body is no form.
    """
    form = parse_body(body) if body.lstrip()[:1] in {b"{", b"["} else _form(body)
    kind, key = _kind_and_key(form)
    return [Item(0, kind, {"form": form}, key)]


def _kind_and_key(form: dict[str, Any]) -> tuple[str, str]:
    """A message by its sid, a status by sid and status; the rest has no id that we know."""
    sid, status = form.get("MessageSid"), form.get("MessageStatus")
    if isinstance(sid, str) and sid:
        if status is None:
            return "message", sid
        if isinstance(status, str) and status:
            return "status", f"{sid}:{status}"
    return "other", key_of_content("other", form)


def _form(body: bytes) -> dict[str, Any]:
    pairs = form_pairs(body)
    if not pairs or len(pairs) > _MAX_PARAMETERS or any(b"=" not in part for part in body.split(b"&") if part):
        msg = f"the delivery is not a form of 1 to {_MAX_PARAMETERS} parameters"
        raise PayloadError(msg)
    form: dict[str, Any] = {}
    for name, value in pairs:
        # A character that was cut in the middle must not cost the message; the raw bytes keep what came.
        form.setdefault(name.decode(errors="replace"), value.decode(errors="replace"))
    return form


def form_pairs(body: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values of a form, empty values too: Twilio signs those as well."""
    parts = [part.partition(b"=") for part in body.split(b"&") if part]
    return [(_decoded(name), _decoded(value)) for name, _, value in parts]


def _decoded(part: bytes) -> bytes:
    return unquote_to_bytes(part.replace(b"+", b" "))


def _keys(settings: Settings, named: str | None) -> tuple[str, list[SecretStr | None]]:
    """The algorithm, and the secrets that may have been used: shared keys only where the header says so."""
    if named is None:
        return "HMAC_SHA1", [settings.auth_token, settings.previous_auth_token]
    told = [part.strip().partition("=")[::2] for part in named.split(",")]
    algorithms = [value.strip().upper() for name, value in told if name.strip() == "algorithm"]
    if len(algorithms) != 1 or algorithms[0] not in _ALGORITHMS:
        msg = f"{SETTINGS_HEADER} names no algorithm that is known here, or more than one"
        raise SignatureError(msg)
    if settings.shared_key is None:
        msg = "the webhook is signed with a shared key; set ONETHREAD_TWILIO_SHARED_KEY"
        raise SignatureError(msg)
    return algorithms[0], [settings.shared_key, settings.previous_shared_key]


def _signed_pairs(request: WebhookRequest) -> list[tuple[bytes, bytes]]:
    """The parameters that the signature covers; none of a JSON body, which a digest in the signed address covers.

    Raises:
        SignatureError: the digest is not that of the body, or a JSON body has none.
    """
    digest = request.query.get("bodySHA256")
    is_json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    if digest is None and not is_json:
        return form_pairs(request.body)
    # Compared as bytes: a digest that is no ASCII must be refused, not raise.
    if not hmac.compare_digest(hashlib.sha256(request.body).hexdigest().encode(), (digest or "").lower().encode()):
        msg = "the body is not the one whose digest (bodySHA256) stands in the signed address"
        raise SignatureError(msg)
    return [] if is_json else form_pairs(request.body)


def _spellings(url: str) -> list[str]:
    """The address with its port and without: Twilio signs now the one, now the other."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a Host header that is none
        return [url]
    user, at, host = parts.netloc.rpartition("@")
    match = re.fullmatch(r"(.*?)(?::(\d{0,5}))?", host)
    name, port = (match.group(1), match.group(2)) if match else (host, None)
    default = "443" if parts.scheme == "https" else "80"
    return [
        url,
        _with_host(parts, f"{user}{at}{name}"),
        _with_host(parts, f"{user}{at}{name}:{port or default}"),
    ]


def _with_host(parts: SplitResult, netloc: str) -> str:
    return parts._replace(netloc=netloc).geturl()
