"""Files of Apple Messages for Business: a look-up, a download, a decryption.

Sources: developer.apple.com/documentation/businesschatapi (getting the attachment's URL, downloading and decrypting the
attachment), read 2026-11, documented: ``GET /preDownload`` with the headers source-id, url, owner and signature answers
``download-url``; the bytes are encrypted with AES-256 in counter mode, the counter beginning at zero, by the key of the
message without its leading ``00``. That the signature header is base64: observed in public code that serves real
traffic. The mode has no check of its own: with a wrong key the bytes are noise, and the store of files refuses what is
not what the message announced.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pydantic import SecretStr

from mappings.errors import MissingFieldError, RejectedError
from mappings.fields import optional_text_of, text_of
from mappings.records import Attachment
from stores.database import Stores
from stores.download import Downloader
from stores.media import Media, MediaRequest, StoredMedia
from taps.base import HttpSession
from taps.webhooks.apple import key_of_secret

_KEY = re.compile(r"00([0-9a-fA-F]{64})", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){1,128}", re.ASCII)
_HEADER = re.compile(r"[\x21-\x7e]{1,4096}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AppleMediaRequest(MediaRequest):
    """How to get a file from Apple: what to ask, and the key. None of it is part of a record."""

    asked: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: bytes = field(default=b"", repr=False)


def apple_media_request(raw: Mapping[str, Any], business_id: str) -> AppleMediaRequest:
    """The request for an attachment as the message tells it; raises `MissingFieldError` when a part is missing."""
    where = "Apple attachment"
    key = _KEY.fullmatch(text_of(raw, "key", where))
    if key is None:
        msg = f"{where}: key is not 00 and 64 hexadecimal digits"
        raise MissingFieldError(msg)
    signature = optional_text_of(raw, "signature-base64", where)
    if signature is None:
        digits = text_of(raw, "signature", where)
        if not _HEX.fullmatch(digits):
            msg = f"{where}: signature is not hexadecimal"
            raise MissingFieldError(msg)
        signature = base64.b64encode(bytes.fromhex(digits)).decode()
    url = text_of(raw, "url", where)
    asked = {"source-id": business_id, "url": url, "owner": text_of(raw, "owner", where), "signature": signature}
    for name, value in asked.items():
        if not _HEADER.fullmatch(value):
            msg = f"{where}: {name} cannot be a header"
            raise MissingFieldError(msg)
    return AppleMediaRequest(url=url, asked=asked, key=bytes.fromhex(key.group(1)))


class AppleSession(HttpSession):
    """Calls of Apple's service, each with a token of its own."""

    def __init__(self, api_url: str, msp_id: str, secret: SecretStr, **more: Any) -> None:
        super().__init__("Apple", api_url, secrets=[secret], **more)
        self._msp_id = msp_id
        self._key = key_of_secret(secret)

    def token(self) -> str:
        """A token that says who we are, made now."""
        claims = {"iss": self._msp_id, "iat": int(datetime.now(UTC).timestamp())}
        return jwt.encode(claims, self._key, algorithm="HS256")

    def download_url(self, asked: Mapping[str, str]) -> str:
        """Where the encrypted bytes of a file are, for some minutes."""
        headers = {**asked, "Authorization": f"Bearer {self.token()}"}
        answer = self.call_json("GET", "/preDownload", headers=headers)
        if not isinstance(answer, dict):
            msg = "Apple: the answer of /preDownload is not an object"
            raise MissingFieldError(msg)
        return text_of(answer, "download-url", "Apple preDownload")


class AppleMedia(Media):
    """The store of files, which decrypts Apple's on their way in."""

    def __init__(self, stores: Stores, api: AppleSession, *, private_hosts: Iterable[str] = ()) -> None:
        private_hosts = list(private_hosts)
        super().__init__(stores, private_hosts=private_hosts)
        self._api = api
        self._encrypted = Downloader(private_hosts)

    def fetch(
        self, request: MediaRequest, *, max_bytes: int, expected: Attachment, message_key: str, position: int = 0
    ) -> StoredMedia:
        """See `stores.media.Media.fetch`. The file is in memory while it is decrypted, never in clear on the disk."""
        stored = self.find(message_key, position)
        if stored is not None:
            return stored
        if not isinstance(request, AppleMediaRequest):
            msg = "this is no file of Apple's"
            raise RejectedError(msg)
        plain = self._encrypted.fetch(
            self._api.download_url(request.asked),
            lambda chunks, _: b"".join(decrypted(chunks, request.key)),
            max_bytes=max_bytes,
        )
        return self.keep([plain], max_bytes=max_bytes, expected=expected, message_key=message_key, position=position)


def decrypted(chunks: Iterable[bytes], key: bytes) -> Iterator[bytes]:
    """The bytes of a file in clear."""
    cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).decryptor()
    for chunk in chunks:
        yield cipher.update(chunk)
    yield cipher.finalize()
