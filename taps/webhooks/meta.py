"""What Meta's webhooks have in common (WhatsApp, Messenger): the handshake, the signature, the JSON around the events.

Sources: developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks (documented; copy of
2026-05-05): handshake by ``hub.*`` query, ``X-Hub-Signature-256: sha256=<lowercase hex>`` over the raw bytes, which
arrive with escaped unicode, so that hashing a decoded and re-encoded body gives another result. No time is signed:
repeats are told by their content alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import PayloadError, SignatureError
from taps.webhooks.items import Answer, WebhookRequest

SIGNATURE_HEADER = "x-hub-signature-256"

_SIGNATURE = re.compile(r"sha256=([0-9a-f]{64})")
_CHALLENGE = re.compile(r"[A-Za-z0-9._~-]{1,256}")
# The deepest documented event (an interactive WhatsApp message) is below 15 levels.
_MAX_DEPTH = 64


def _not_empty(secret: SecretStr) -> SecretStr:
    """An empty key would accept what anybody signs with it: refuse to start instead."""
    if not secret.get_secret_value().strip():
        msg = "must not be empty"
        raise ValueError(msg)
    return SecretStr(secret.get_secret_value().strip())


Secret = Annotated[SecretStr, AfterValidator(_not_empty)]


class MetaWebhookSettings(BaseSettings):
    """The secrets of one Meta app's webhook; each platform's `Settings` adds its environment prefix."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True)

    app_secret: Secret = Field(description="The app's secret; Meta signs every delivery with it.")
    previous_app_secret: Secret | None = Field(
        None, description="The secret before the last reset; deliveries signed with it are taken until you remove it."
    )
    verify_token: Secret = Field(description="A word of your choice, entered in the app's webhook form as well.")


def challenge(settings: MetaWebhookSettings, request: WebhookRequest) -> Answer | None:
    """The answer to Meta's handshake; ``None`` when the request is not one.

    Raises:
        SignatureError: the verify token is not ours, or the challenge is not the number that Meta documents.
    """
    query = request.query
    if query.get("hub.mode") != "subscribe":
        return None
    given = query.get("hub.verify_token", "").encode()
    if not hmac.compare_digest(given, settings.verify_token.get_secret_value().encode()):
        msg = "the handshake's verify token is not the one in the settings"
        raise SignatureError(msg)
    text = query.get("hub.challenge", "")
    # Documented as an integer; letters are let through, markup is not, so that nobody gets a page out of us.
    if not _CHALLENGE.fullmatch(text):
        msg = "the handshake's challenge is not a plain number or word"
        raise SignatureError(msg)
    return Answer(text)


def verify(settings: MetaWebhookSettings, request: WebhookRequest) -> None:
    """Nothing, when the body is signed with the current or the previous app secret.

    Raises:
        SignatureError: it is not, or there is more than one signature.
    """
    given = request.headers.get(SIGNATURE_HEADER)
    if given is None:
        msg = f"there is no {SIGNATURE_HEADER} header"
        raise SignatureError(msg)
    match = _SIGNATURE.fullmatch(given)
    if match is None:
        msg = f"{SIGNATURE_HEADER} is not one sha256= and 64 hexadecimal digits"
        raise SignatureError(msg)
    secrets = [settings.app_secret, settings.previous_app_secret]
    expected = [
        hmac.new(secret.get_secret_value().encode(), request.body, hashlib.sha256).hexdigest()
        for secret in secrets
        if secret is not None
    ]
    # All are compared, whichever matches: the time tells nothing about which secret is in use.
    if not any([hmac.compare_digest(one, match.group(1)) for one in expected]):  # noqa: C419 (no short cut)
        msg = "the signature does not match; is the app secret the one of the app that sends?"
        raise SignatureError(msg)


def parse_body(body: bytes) -> dict[str, Any]:
    """The JSON object that `body` is.

    A half surrogate pair (a text that the platform cut in the middle of an emoji) becomes U+FFFD: it can neither be
    stored nor sent on, and the raw bytes keep what came.

    Raises:
        PayloadError: it is none, or one whose meaning two readers could disagree about: not UTF-8, a byte order mark,
            NaN or infinity, a number of thousands of digits, a repeated key, hundreds of levels.
    """
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
        )
    except RecursionError:
        msg = "the delivery is nested too deeply to be read"
        raise PayloadError(msg) from None
    except ValueError as error:  # also UnicodeDecodeError, JSONDecodeError and an integer over 4,300 digits
        msg = f"the delivery is not JSON that can be read ({type(error).__name__})"
        raise PayloadError(msg) from None
    if not isinstance(value, dict):
        msg = f"the delivery is a JSON {type(value).__name__}, not an object"
        raise PayloadError(msg)
    if _depth(value) > _MAX_DEPTH:
        msg = f"the delivery is nested more than {_MAX_DEPTH} levels deep"
        raise PayloadError(msg)
    return _without_lone_surrogates(value)


def key_of_content(kind: str, content: Any) -> str:
    """The key of an event that has no id of its own: its kind and a digest of what it says."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"{kind}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        msg = "repeated key"
        raise ValueError(msg)
    return value


def _constant(name: str) -> Any:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _float(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        msg = "number out of range"
        raise ValueError(msg)
    return value


def _depth(value: Any) -> int:
    """Levels of lists and objects, counted without recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        children = (child for node in level for child in (node.values() if isinstance(node, dict) else node))
        level = [child for child in children if isinstance(child, dict | list)]
    return depth


def _without_lone_surrogates(value: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        repaired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        clean: dict[str, Any] = json.loads(repaired)
        return clean
    return value
