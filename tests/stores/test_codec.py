"""The codec: nothing readable on disk, one key file, refusals that say what to do."""

from __future__ import annotations

import hmac
import io
import json
from pathlib import Path

import pytest

from mappings.errors import SettingsError
from stores.codec import Codec
from stores.database import Stores


def test_a_value_survives_encryption_and_does_not_show(stores: Stores) -> None:
    stored = stores.codec.encrypt_json({"text": "Grüße 👋"})
    assert stores.codec.decrypt_json(stored) == {"text": "Grüße 👋"}
    assert b"Gr" not in stored


def test_a_lone_surrogate_is_stored_as_a_replacement_instead_of_raising(stores: Stores) -> None:
    assert stores.codec.decrypt_json(stores.codec.encrypt_json({"text": "a\ud800b"})) == {"text": "a?b"}


def test_the_same_text_encrypts_differently_and_fingerprints_alike(stores: Stores) -> None:
    assert stores.codec.encrypt(b"x") != stores.codec.encrypt(b"x")
    assert stores.codec.fingerprint("x") == stores.codec.fingerprint(b"x")
    assert stores.codec.fingerprint("x") != stores.codec.fingerprint("y")


def test_many_values_are_encrypted_as_each_of_them_alone(stores: Stores) -> None:
    stored = stores.codec.encrypt_each([b"x", b"x", b"y"])
    assert [stores.codec.decrypt(one) for one in stored] == [b"x", b"x", b"y"]
    assert len({bytes(one[:13]) for one in stored}) == 3  # no nonce twice
    assert stores.codec.encrypt_each([]) == []


def test_a_fingerprint_is_an_hmac_of_the_key_file(stores: Stores) -> None:
    keys = json.loads((stores.folder / "key.json").read_text())
    digest = hmac.digest(bytes.fromhex(keys["fingerprint_key"]), b"x", "sha256")
    assert stores.codec.fingerprint("x") == digest.hex()[:32]


def test_a_key_file_is_made_for_its_owner_alone(stores: Stores) -> None:
    assert (stores.folder / "key.json").stat().st_mode & 0o777 == 0o600


def test_a_key_file_that_others_can_read_is_refused(stores: Stores) -> None:
    path = stores.folder / "key.json"
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        Codec.from_key_file(path, create=False)


def test_no_new_key_is_made_where_encrypted_data_lies(stores: Stores, state_url: str) -> None:
    stores.database("parked")
    (stores.folder / "key.json").unlink()
    with pytest.raises(SettingsError, match="Put the key file back"):
        Stores(state_url)


def test_another_key_is_told_from_damage_to_nothing(stores: Stores, tmp_path: Path) -> None:
    other = Codec.from_key_file(tmp_path / "other.json", create=True)
    with pytest.raises(SettingsError, match="not the one that wrote it"):
        other.decrypt(stores.codec.encrypt(b"x"))


def test_a_file_that_is_no_key_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps({"encryption_key": "zz"}))
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="not a onethread key file"):
        Codec.from_key_file(path, create=False)


# Files


def encrypted(codec: Codec, data: bytes, chunk: int = 10_000) -> bytes:
    return b"".join(codec.encrypt_file(data[start : start + chunk] for start in range(0, len(data), chunk)))


def decrypted(codec: Codec, stored: bytes) -> bytes:
    return b"".join(codec.decrypt_file(io.BytesIO(stored).read))


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_a_file_survives_encryption_in_pieces_and_does_not_show(stores: Stores, size: int) -> None:
    data = b"private words. " * (size // 15 + 1)
    stored = encrypted(stores.codec, data[:size])
    assert decrypted(stores.codec, stored) == data[:size]
    assert b"private" not in stored
    assert encrypted(stores.codec, data[:size]) != stored


def test_a_file_that_was_cut_altered_or_put_together_anew_is_refused(stores: Stores) -> None:
    piece = 65_536 + 16
    stored = encrypted(stores.codec, bytes(150_000))
    head, first, second, last = (
        stored[:17],
        stored[17 : 17 + piece],
        stored[17 + piece : 17 + 2 * piece],
        stored[17 + 2 * piece :],
    )
    assert decrypted(stores.codec, head + first + second + last) == bytes(150_000)
    other = encrypted(stores.codec, bytes(150_000))
    for wrong in (
        head + first + second, head + first, head, head[:9], head + second + first + last, head + first + last,
        head + first + second + last[:-1], head + first + second + last + b"x", head + first + second + b"y" + last[1:],
        other[:17] + first + second + last,
    ):  # fmt: skip
        with pytest.raises(SettingsError, match="cut or altered"):
            decrypted(stores.codec, wrong)


def test_a_file_of_another_key_or_format_is_refused(stores: Stores) -> None:
    with pytest.raises(SettingsError, match="another key file"):
        decrypted(Codec(b"1" * 32, b"2" * 32), encrypted(stores.codec, b"x"))
    with pytest.raises(SettingsError, match="newer version"):
        decrypted(stores.codec, b"\x09" + bytes(100))
