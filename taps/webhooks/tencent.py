"""What the webhooks of WeChat and of WeCom have in common: the signature, the encryption, the XML.

The signature stands in the query: SHA-1 of token, timestamp, nonce and, where the body is encrypted, the text of its
``Encrypt`` element, sorted and joined. The encryption is AES-256-CBC; its key is the EncodingAESKey, its first 16 bytes
are the initial vector, and it is padded as PKCS#7 to blocks of 32. Inside are 16 random bytes, the length of the
message (4 bytes, most significant first), the message, and for whom it is: the app id, the corp id.

Sources: developers.weixin.qq.com/doc/service/guide/dev/push/encryption.html and
developer.work.weixin.qq.com/document/path/90968, documented, read 2026-11; confirmed by wechatpy 2.0.0a26.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit
from xml.etree.ElementTree import Element, ParseError

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydantic import AfterValidator, SecretStr

from mappings.errors import PayloadError, SignatureError
from taps.webhooks.items import Answer, WebhookRequest

MAX_BODY_BYTES = 1024 * 1024
"""Undocumented (assumed): a text has some 2 KB, files come as ids."""

REPLAY_WINDOW = timedelta(minutes=5)

_SIGNATURE = re.compile(r"[0-9a-f]{40}")
_AES_KEY = re.compile(r"[A-Za-z0-9+/]{43}")
_SECONDS = re.compile(r"[0-9]{1,12}")
# An echostr is a word. Whoever replays the body of a delivery as a handshake must not get it back in clear.
_ECHO = re.compile(r"[A-Za-z0-9._~-]{1,256}")
# A customer can type what XML cannot carry; the platform sends it all the same (observed in public handlers).
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BLOCK = 32
_RANDOM_BYTES = 16
_MAX_LEVELS = 8


def _check_aes_key(key: SecretStr) -> SecretStr:
    if not _AES_KEY.fullmatch(key.get_secret_value().strip()):
        msg = "must be the 43 letters and digits of the EncodingAESKey"
        raise ValueError(msg)
    return SecretStr(key.get_secret_value().strip())


AesKey = Annotated[SecretStr, AfterValidator(_check_aes_key)]


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens encrypted bodies: the keys in force (two while they change), and for whom the bodies must be."""

    receiver_id: str
    aes_keys: Sequence[SecretStr] = field(repr=False)


def check_signature(
    request: WebhookRequest, name: str, tokens: Sequence[SecretStr | None], signed: Sequence[str] = ()
) -> None:
    """Nothing, when the query's parameter `name` signs its timestamp, its nonce and `signed` with one of the tokens.

    Raises:
        SignatureError: it does not, there is more than one of a parameter, or the time is over five minutes away.
    """
    given = _only(request, name)
    timestamp, nonce = _only(request, "timestamp"), _only(request, "nonce")
    if not _SIGNATURE.fullmatch(given) or not _SECONDS.fullmatch(timestamp):
        msg = f"the query has no {name} of 40 hexadecimal digits, or no timestamp"
        raise SignatureError(msg)
    expected = [
        hashlib.sha1("".join(sorted((token.get_secret_value(), timestamp, nonce, *signed))).encode()).hexdigest()  # noqa: S324 (the platform's choice)
        for token in tokens
        if token is not None
    ]
    # All are compared, whichever matches: the time tells nothing about which token is in use.
    if not any([hmac.compare_digest(one, given) for one in expected]):  # noqa: C419 (no short cut)
        msg = f"{name} does not match; is the token the one that was entered at the platform?"
        raise SignatureError(msg)
    if abs(request.received_at.timestamp() - int(timestamp)) > REPLAY_WINDOW.total_seconds():
        msg = f"the time that {name} covers is over five minutes away; is this computer's clock right?"
        raise SignatureError(msg)


def encrypted_part(request: WebhookRequest) -> str:
    """The text that the signature of an encrypted body covers.

    Raises:
        SignatureError: the body is not encrypted, so nothing in it is signed.
    """
    try:
        encrypted = parse_xml(_decoded(request.body)).get("Encrypt")
    except PayloadError:
        encrypted = None
    if not isinstance(encrypted, str) or not encrypted:
        msg = "the body is not encrypted, though an EncodingAESKey is set; is the message mode at the platform secure?"
        raise SignatureError(msg)
    return encrypted


def echo(text: str) -> Answer:
    """The answer to a handshake; raises `SignatureError` when `text` is not the word that one consists of."""
    if not _ECHO.fullmatch(text):
        msg = "the handshake's echostr is not a plain number or word"
        raise SignatureError(msg)
    return Answer(text)


def read_message(body: bytes, keys: Keys | None) -> dict[str, Any]:
    """The elements of the message in `body`, decrypted where it is encrypted; an element is a text, or again elements.

    Raises:
        PayloadError: it cannot be read: no XML, a document type, no key that opens it, another receiver.
    """
    outer = parse_xml(_decoded(body))
    encrypted = outer.get("Encrypt")
    if encrypted is None:
        return outer
    if keys is None:
        msg = "the delivery is encrypted: set encoding_aes_key, then have it read again (onethread parked replay)"
        raise PayloadError(msg)
    if not isinstance(encrypted, str):
        msg = "the delivery has more than one encrypted part"
        raise PayloadError(msg)
    return parse_xml(_decoded(decrypt(encrypted, keys.aes_keys, keys.receiver_id)))


def decrypt(encrypted: str, aes_keys: Sequence[SecretStr], receiver_id: str | None) -> bytes:
    """What is in `encrypted`, by whichever key opens it; `receiver_id`: whom it must be for, ``None`` for anybody.

    Raises:
        PayloadError: none does.
    """
    try:
        data = base64.b64decode(encrypted, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or len(data) % _RANDOM_BYTES:
        msg = "the encrypted part is cut off or no base64"
        raise PayloadError(msg)
    for aes_key in aes_keys:
        content = _opened(data, base64.b64decode(aes_key.get_secret_value() + "="))
        if content is None:
            continue
        message, receiver = content
        if receiver_id is None or hmac.compare_digest(receiver, receiver_id.encode()):
            return message
    msg = "no EncodingAESKey of the settings opens the delivery, or it is for another account"
    raise PayloadError(msg)


def _opened(data: bytes, key: bytes) -> tuple[bytes, bytes] | None:
    """The message and for whom it is; ``None`` when the key is another one."""
    decryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).decryptor()
    plain = decryptor.update(data) + decryptor.finalize()
    padding = plain[-1]
    if not 1 <= padding <= _BLOCK or plain[-padding:] != bytes([padding]) * padding:
        return None
    content = plain[_RANDOM_BYTES:-padding]
    length = int.from_bytes(content[:4], "big")
    message, receiver = content[4 : 4 + length], content[4 + length :]
    return (message, receiver) if len(content) >= 4 and len(message) == length else None


def parse_xml(text: str) -> dict[str, Any]:
    """The child elements of the document by name: a text, a dict of its own children, a list where a name repeats.

    Attributes say nothing here and are left out. A character that XML cannot carry becomes U+FFFD.

    Raises:
        PayloadError: it is no XML, has a document type (and so perhaps entities), or more than 8 levels.
    """
    try:
        root = fromstring(_NO_XML.sub("\ufffd", text), forbid_dtd=True)
    except (ParseError, DefusedXmlException) as error:
        msg = f"the delivery is not XML that can be read ({type(error).__name__})"
        raise PayloadError(msg) from None
    value = _value(root, 1)
    if not isinstance(value, dict):
        msg = "the delivery is XML without elements"
        raise PayloadError(msg)
    return value


def _value(element: Element, level: int) -> Any:
    if level > _MAX_LEVELS:
        msg = f"the delivery is nested more than {_MAX_LEVELS} levels deep"
        raise PayloadError(msg)
    if len(element) == 0:
        return element.text or ""
    found: dict[str, Any] = {}
    for child in element:
        value = _value(child, level + 1)
        if child.tag in found:
            before = found[child.tag]
            value = [*before, value] if isinstance(before, list) else [before, value]
        found[child.tag] = value
    return found


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        msg = "the delivery is not UTF-8"
        raise PayloadError(msg) from None


def _only(request: WebhookRequest, name: str) -> str:
    """The one value of a parameter, empty when there is none; two of them could be understood differently."""
    values = parse_qs(urlsplit(request.url).query, keep_blank_values=True, max_num_fields=50).get(name, [])
    if len(values) > 1:
        msg = f"the query has {name} more than once"
        raise SignatureError(msg)
    return request.query.get(name, "")
