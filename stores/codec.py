"""Everything personal passes this codec on its way to disk: values are encrypted, look-ups go by fingerprint.

Values are AES-256-GCM with a random nonce; a file is AES-256-GCM in pieces, so that it never has to be in memory; a
fingerprint is a keyed HMAC-SHA256, so that a stolen database is not a contact list. Both keys come from one key file
(mode 0600), which is made when none is given.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mappings.errors import SettingsError

_FORMAT = b"\x01"
_NONCE_BYTES = 12
_FILE_FORMAT = b"\x02"
_SALT_BYTES = 16
_PIECE_BYTES = 64 * 1024
_TAG_BYTES = 16


class Codec:
    """Encrypts, decrypts and fingerprints with the keys of one key file."""

    def __init__(self, encryption_key: bytes, fingerprint_key: bytes) -> None:
        self._encryption_key = encryption_key
        self._cipher = AESGCM(encryption_key)
        self._fingerprints = HMAC(fingerprint_key, SHA256())  # copied: to set up the key takes longer than the rest

    @classmethod
    def from_key_file(cls, path: Path, *, create: bool) -> Codec:
        """The codec of the key file at `path`.

        Args:
            path: JSON with ``encryption_key`` and ``fingerprint_key``, 64 hexadecimal digits each.
            create: whether a missing file is made (mode 0600). It must not be when encrypted data exists already.

        Raises:
            SettingsError: the file is missing, readable by others, or not a key file.
        """
        if create and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_new_key(path)
        try:
            if path.stat().st_mode & 0o077:
                msg = f"key file {path} can be read by others; run: chmod 600 {path}"
                raise SettingsError(msg)
            keys = json.loads(path.read_text(encoding="ascii"))
            return cls(bytes.fromhex(keys["encryption_key"]), bytes.fromhex(keys["fingerprint_key"]))
        except FileNotFoundError:
            msg = (
                f"key file {path} is missing but encrypted data exists. Put the key file back (or point "
                "ONETHREAD_KEY_FILE to it); a new key could not read what is stored"
            )
            raise SettingsError(msg) from None
        except (ValueError, KeyError, TypeError) as error:
            msg = f"key file {path} is not a onethread key file ({type(error).__name__})"
            raise SettingsError(msg) from None

    def encrypt(self, plain: bytes) -> bytes:
        """`plain` as format byte, nonce and ciphertext. Two calls give two results."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, plain, None)

    def encrypt_each(self, plains: Sequence[bytes]) -> list[bytearray]:
        """What `encrypt` gives for each of `plains`; the system is asked for random bytes once.

        As `bytearray`, because `sqlite3` first looks for adapters of anything that is `bytes`, for longer than it
        takes to write it (CPython 3.11, observed).
        """
        nonces, encrypt = os.urandom(_NONCE_BYTES * len(plains)), self._cipher.encrypt
        parts = (nonces[start : start + _NONCE_BYTES] for start in range(0, len(nonces), _NONCE_BYTES))
        return [
            bytearray(b"".join((_FORMAT, nonce, encrypt(nonce, plain, None))))
            for nonce, plain in zip(parts, plains, strict=True)
        ]

    def decrypt(self, stored: bytes | bytearray) -> bytes:
        """What `encrypt` was given; raises `SettingsError` when another key wrote it or it was altered."""
        if stored[:1] != _FORMAT:
            msg = "stored value has an unknown format; it was written by a newer version"
            raise SettingsError(msg)
        nonce, cipher = stored[1 : 1 + _NONCE_BYTES], stored[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, cipher, None)
        except InvalidTag:
            msg = "a stored value cannot be decrypted: the key file is not the one that wrote it"
            raise SettingsError(msg) from None

    def encrypt_json(self, value: Any) -> bytes:
        """`value` as encrypted JSON."""
        return self.encrypt(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))

    def decrypt_json(self, stored: bytes) -> Any:
        """The value that `encrypt_json` was given."""
        return json.loads(self.decrypt(stored))

    def encrypt_file(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """A file's bytes, encrypted piece by piece: format byte, salt, then pieces of 64 KiB with a tag each.

        Each file has a key of its own (HKDF of the salt), so that the number of a piece can be its nonce; the last one
        is marked in it. A piece that is missing, moved or from another file is therefore noticed, and so is the end.
        """
        salt = os.urandom(_SALT_BYTES)
        cipher = self._file_cipher(salt)
        yield _FILE_FORMAT + salt
        number, waiting = 0, bytearray()
        for chunk in chunks:
            waiting += chunk
            while len(waiting) > _PIECE_BYTES:
                yield cipher.encrypt(_piece_nonce(number, last=False), bytes(waiting[:_PIECE_BYTES]), None)
                del waiting[:_PIECE_BYTES]
                number += 1
        yield cipher.encrypt(_piece_nonce(number, last=True), bytes(waiting), None)

    def decrypt_file(self, read: Callable[[int], bytes]) -> Iterator[bytes]:
        """What `encrypt_file` was given, from a file's ``read``; raises `SettingsError` as `decrypt`, also when cut."""
        if read(1) != _FILE_FORMAT:
            msg = "a stored file has an unknown format; it was written by a newer version"
            raise SettingsError(msg)
        cipher = self._file_cipher(read(_SALT_BYTES))
        number, piece = 0, read(_PIECE_BYTES + _TAG_BYTES)
        while True:
            following = read(_PIECE_BYTES + _TAG_BYTES)
            try:
                yield cipher.decrypt(_piece_nonce(number, last=not following), piece, None)
            except InvalidTag:
                msg = "a stored file cannot be decrypted: it was cut or altered, or another key file wrote it"
                raise SettingsError(msg) from None
            if not following:
                return
            number, piece = number + 1, following

    def _file_cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(HKDF(SHA256(), 32, salt, b"onethread file").derive(self._encryption_key))

    def fingerprint(self, text: str | bytes) -> str:
        """32 hexadecimal digits, the same for the same text and key; the only form in which an id is indexed."""
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        mac = self._fingerprints.copy()
        mac.update(data)
        return mac.finalize().hex()[:32]


def _piece_nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(_NONCE_BYTES - 1, "big") + bytes([last])


def _write_new_key(path: Path) -> None:
    """Write a fresh key file; of two processes that try at once, one wins and both use it."""
    keys = {"version": 1, "encryption_key": secrets.token_hex(32), "fingerprint_key": secrets.token_hex(32)}
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump(keys, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
