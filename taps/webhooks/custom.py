"""The webhook of a channel of one's own: signed after the Standard Webhooks specification, one item per record.

Three headers: ``webhook-id``, ``webhook-timestamp`` (seconds) and ``webhook-signature``, a list of ``v1,<base64>`` with
spaces between them. Each is the HMAC-SHA256 of ``<id>.<timestamp>.<body>``, keyed with the bytes behind ``whsec_``. A
sender who changes its secret signs with both for a while. Other versions (``v1a``: ed25519) are not looked at.

Source: github.com/standard-webhooks/standard-webhooks spec/standard-webhooks.md @b2fa7b8 (documented, read 2026-11):
headers, content, secrets of 24 to 64 bytes, no full stop in an id. The 5 minutes are those of its Python library
(same commit); the specification leaves them open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.errors import PayloadError, SignatureError
from mappings.from_custom.contract import KINDS, SPOKEN
from taps.webhooks.items import Item, WebhookRequest
from taps.webhooks.meta import key_of_content, parse_body

MAX_BODY_BYTES = 1024 * 1024
ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"
HEADERS = (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)
TOLERANCE = timedelta(minutes=5)

_PREFIX = "whsec_"
_SHORTEST_SECRET, _LONGEST_SECRET = 24, 64
_ID = re.compile(r"[^\s.,]{1,256}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"v[0-9]{1,3}[a-z]?,[A-Za-z0-9+/]{1,512}={0,2}")
_MOST_SIGNATURES = 20


def key_of_secret(secret: str) -> bytes:
    """The bytes behind ``whsec_``; raises `ValueError` when they are no base64, too few or too many."""
    text = secret.strip().removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        msg = f"must be {_PREFIX} and base64"
        raise ValueError(msg) from None
    if not _SHORTEST_SECRET <= len(key) <= _LONGEST_SECRET:
        msg = f"must be {_PREFIX} and the base64 of {_SHORTEST_SECRET} to {_LONGEST_SECRET} random bytes"
        raise ValueError(msg)
    return key


def _is_key(secret: SecretStr) -> SecretStr:
    key_of_secret(secret.get_secret_value())
    return secret


Secret = Annotated[SecretStr, AfterValidator(_is_key)]


class Settings(BaseSettings):
    """The secrets of one route."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_CUSTOM_", frozen=True, extra="ignore", env_file=".env", hide_input_in_errors=True
    )

    secret: Secret = Field(
        description="whsec_ and the base64 of 24 to 64 random bytes; the other side signs with it. "
        "`onethread custom secret` makes one."
    )
    previous_secret: Secret | None = Field(
        None, description="The secret before the last change; deliveries signed with it are taken until you remove it."
    )


def challenge(settings: Settings, request: WebhookRequest) -> None:
    """None: the scheme has no handshake."""
    del settings, request


def verify(settings: Settings, request: WebhookRequest) -> None:
    """Nothing, when the body is signed with the current or the previous secret, in the last five minutes.

    Raises:
        SignatureError: it is not, or a header is missing, malformed or there twice.
    """
    message_id, timestamp, signatures = (_header(request, name) for name in HEADERS)
    if not _ID.fullmatch(message_id):
        msg = f"{ID_HEADER} is not one id without full stop"
        raise SignatureError(msg)
    if not _TIMESTAMP.fullmatch(timestamp):
        msg = f"{TIMESTAMP_HEADER} is not a number of seconds"
        raise SignatureError(msg)
    given = signatures.split(" ")
    if len(given) > _MOST_SIGNATURES or not all(map(_SIGNATURE.fullmatch, given)):
        msg = f"{SIGNATURE_HEADER} is not a list of v1,<base64> with single spaces between them"
        raise SignatureError(msg)
    content = f"{message_id}.{timestamp}.".encode() + request.body
    keys = [key_of_secret(one.get_secret_value()) for one in (settings.secret, settings.previous_secret) if one]
    expected = [f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}" for key in keys]
    # All are compared, whichever matches: the time tells nothing about which secret is in use.
    if not any([hmac.compare_digest(one, other) for one in expected for other in given]):  # noqa: C419 (no short cut)
        msg = "the signature does not match; is the secret of this route the one that the sender has?"
        raise SignatureError(msg)
    if abs(request.received_at.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        msg = f"{TIMESTAMP_HEADER} is more than five minutes off; is one of the clocks wrong?"
        raise SignatureError(msg)


def _header(request: WebhookRequest, name: str) -> str:
    given = request.headers.get(name)
    if given is None:
        msg = f"there is no {name} header"
        raise SignatureError(msg)
    return given


def split(body: bytes) -> list[Item]:
    """One item per record: the body is one record or a list of them.

    The payload of an item is ``{"record": {"kind": "form", "id": 4711, "who": {...}, ...}}``. Kind ``other`` holds
    whatever is no record of a kind that the contract has.

    Raises:
        PayloadError: the body as a whole cannot be read, or is an empty list.
    """
    # The shared reader takes objects only; in one, a list is read by the same strict rules.
    found = parse_body(b'{"records":' + body + b"}")
    records = found.get("records")
    if len(found) != 1 or not isinstance(records, dict | list) or records == []:
        msg = "the delivery is neither a record ({...}) nor a list of records ([{...}, ...])"
        raise PayloadError(msg)
    listed = records if isinstance(records, list) else [records]
    return [_item(index, record) for index, record in enumerate(listed)]


def _item(index: int, record: Any) -> Item:
    """A record keyed by its id; one without goes by what it says."""
    fields = record if isinstance(record, dict) else {}
    kind = fields.get("kind")
    if not (isinstance(kind, str) and kind in KINDS):
        kind = "other"
    record_id = fields.get("id")
    named = isinstance(record_id, str) or (isinstance(record_id, int) and not isinstance(record_id, bool))
    if kind == "other" or not named or not str(record_id).strip():
        return Item(index, kind, {"record": record}, key_of_content(kind, record))
    # Messages, calls and forms share their ids.
    space = "message" if kind in SPOKEN else kind
    return Item(index, kind, {"record": record}, json.dumps([space, str(record_id).strip()]))
