"""What the webhooks of WeChat and WeCom show alike: their signature stands in the query and covers one element.

Bodies are signed and encrypted by the stand-ins' code, which is not the product's.
"""

from __future__ import annotations

import re
import time
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

import pytest

from mappings.errors import PayloadError, SignatureError
from sandbox.tencent import encrypt, sign, to_xml
from taps.webhooks.items import Item, WebhookRequest
from taps.webhooks.tencent import AesKey, Keys
from tests.contract.webhook import PUBLIC_URL, HttpAnswer, RunningReceiver, WebhookContract

AES_KEY = "firstEncodingAESKeyOf43CharactersForTests01"
OTHER_AES_KEY = "otherEncodingAESKeyOf43CharactersForTests02"
_ENCRYPT = re.compile(rb"<Encrypt>(?:<!\[CDATA\[)?(.*?)(?:\]\]>)?</Encrypt>", re.DOTALL)

_BOMB = (
    '<!DOCTYPE xml [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]>'
    "<xml><Content>&c;</Content></xml>"
)
_FILE = '<!DOCTYPE xml [<!ENTITY a SYSTEM "file:///etc/hostname">]><xml><Content>&a;</Content></xml>'

HOSTILE_XML: dict[str, bytes] = {
    "empty": b"",
    "not XML": b"hello",
    "JSON": b'{"ToUserName":"x"}',
    "no elements": b"<xml>text</xml>",
    "cut off": b"<xml><ToUserName>gh_1</ToUserName><Cont",
    "two roots": b"<xml><a>1</a></xml><xml><a>1</a></xml>",
    "entities that multiply": _BOMB.encode(),
    "an entity from a file": _FILE.encode(),
    "a document type": b'<!DOCTYPE xml SYSTEM "http://169.254.169.254/x.dtd"><xml><a>1</a></xml>',
    "an entity that nobody declared": b"<xml><a>&x;</a></xml>",
    "a hundred thousand levels": b"<a>" * 100_000,
    "closed levels": b"<a>" * 5_000 + b"1" + b"</a>" * 5_000,
    "UTF-16": "<xml><a>1</a></xml>".encode("utf-16"),
    "bad UTF-8": b"<xml><a>\xff\xfe</a></xml>",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
}
"""What no parser should make sense of: in plain mode as a body, else inside the encryption."""


def query_of(token: str, name: str, *signed: str, at: float | None = None, nonce: str = "1320562132") -> str:
    """The query of a delivery."""
    timestamp = str(int(time.time() if at is None else at))
    return urlencode({name: sign(token, timestamp, nonce, *signed), "timestamp": timestamp, "nonce": nonce})


def signed_part(body: bytes) -> str:
    """What the signature of an encrypted body covers."""
    found = _ENCRYPT.search(body)
    return found.group(1).decode("latin-1") if found else ""


def envelope(encrypted: str, to: str = "gh_5a4db0c00001") -> bytes:
    """An encrypted body."""
    return to_xml({"ToUserName": to, "Encrypt": encrypted})


def request_of(body: bytes, query: str, slug: str) -> WebhookRequest:
    """A delivery as the module gets it."""
    return WebhookRequest(
        url=f"{PUBLIC_URL}/webhooks/{slug}?{query}",
        query=dict(reversed(parse_qsl(query, keep_blank_values=True))),
        headers={"content-type": "text/xml"},
        body=body,
    )


class TencentContract(WebhookContract):
    """The suite for a signature in the query. `sign` gives the whole query.

    Attributes:
        signature_name: the parameter.
        receiver_id: for whom bodies are encrypted.
    """

    content_type = "text/xml"
    signature_header = "none"
    signature_name: ClassVar[str] = "msg_signature"
    receiver_id: ClassVar[str]

    def sign(self, secret: str, body: bytes) -> str:
        return query_of(secret, self.signature_name, signed_part(body))

    def wrong_signatures(self, good: str) -> list[str]:
        other = dict(parse_qsl(self.sign("another tenant's secret", self.body)))
        right = dict(parse_qsl(good))
        signature = right[self.signature_name]
        wrong = [
            {}, other, {**right, self.signature_name: ""}, {**right, self.signature_name: signature[:-1]},
            {**right, self.signature_name: signature + "0"}, {**right, self.signature_name: signature.upper() + " "},
            {**right, "timestamp": str(int(right["timestamp"]) + 1)}, {**right, "timestamp": ""},
            {**right, "nonce": "1"},
            {name: value for name, value in right.items() if name != "nonce"},
            {name: value for name, value in right.items() if name != self.signature_name},
            {**right, "timestamp": "٣" * 10},
        ]  # fmt: skip
        return [urlencode(one) for one in wrong]

    def signed(self, body: bytes, signature: str) -> WebhookRequest:
        return request_of(body, signature, self.slug)

    def post(self, receiver: RunningReceiver, body: bytes, *signatures: str) -> HttpAnswer:
        path = f"/webhooks/{self.slug}?{'&'.join(signatures)}"
        return receiver.request("POST", path, body, [("Content-Type", self.content_type)])

    def keys(self) -> Keys | None:
        """What opens the bodies of this suite."""
        return Keys(self.receiver_id, [_secret(AES_KEY)])

    def read(self, body: bytes) -> list[Item]:
        items: list[Item] = self.module.split(body, self.keys())
        return items

    def test_a_change_of_any_byte_breaks_the_signature(self) -> None:
        """Of the element that it covers; around it nothing is read, so nothing that is read changes."""
        query, settings = self.sign(self.current, self.body), self.settings(self.current)
        self.module.verify(settings, self.signed(self.body, query))
        start = self.body.index(signed_part(self.body).encode())
        covered = range(start, start + len(signed_part(self.body)))
        for position in range(len(self.body)):
            tampered = bytearray(self.body)
            tampered[position] ^= 0x01
            request = self.signed(bytes(tampered), query)
            if position in covered:
                with pytest.raises(SignatureError):
                    self.module.verify(settings, request)
                continue
            try:
                self.module.verify(settings, request)
            except SignatureError:
                continue
            assert self.read(bytes(tampered)) == self.read(self.body)

    def test_a_body_over_the_limit_is_413_and_the_limit_itself_is_taken(self, receiver: RunningReceiver) -> None:
        full = self.body + b" " * (self.module.MAX_BODY_BYTES - len(self.body))
        assert self.post(receiver, full, self.sign(self.current, full)).status == 200
        announced = [("Content-Length", str(len(full) + 1)), ("Content-Type", self.content_type)]
        assert receiver.request("POST", f"/webhooks/{self.slug}", None, announced).status == 413
        assert receiver.stored.count() == 1

    @pytest.mark.parametrize(
        ("seconds", "taken"), [(-290, True), (290, True), (-310, False), (310, False), (-40 * 86_400, False)]
    )
    def test_a_delivery_is_taken_for_five_minutes(self, seconds: float, taken: bool) -> None:
        at = time.time() + seconds
        request = self.signed(self.body, query_of(self.current, self.signature_name, *self.covered(self.body), at=at))
        if taken:
            self.module.verify(self.settings(self.current), request)
        else:
            with pytest.raises(SignatureError, match="five minutes"):
                self.module.verify(self.settings(self.current), request)

    def covered(self, body: bytes) -> list[str]:
        """What of the body is signed."""
        return [signed_part(body)]

    def test_the_same_message_encrypted_anew_is_the_same_item(self) -> None:
        """A repeat of the platform has other random bytes, another time and another signature."""
        again = self.encrypted(self.plain)
        assert again != self.body
        assert self.read(again) == self.read(self.body)

    plain: ClassVar[bytes]

    def encrypted(self, message: bytes, key: str = AES_KEY, receiver_id: str | None = None) -> bytes:
        """A body with `message` inside."""
        return envelope(encrypt(message, key, receiver_id or self.receiver_id))


def hostile_bodies(receiver_id: str) -> dict[str, bytes]:
    """Encrypted bodies that say nothing: each is signed, so each is stored."""
    good = encrypt(b"<xml><MsgType>text</MsgType></xml>", AES_KEY, receiver_id)
    inside = {f"inside: {name}": envelope(encrypt(body, AES_KEY, receiver_id)) for name, body in HOSTILE_XML.items()}
    return {
        **inside,
        "for another account": envelope(encrypt(b"<xml><a>1</a></xml>", AES_KEY, "wx0000000000000000")),
        "for nobody": envelope(encrypt(b"<xml><a>1</a></xml>", AES_KEY, "")),
        "with another key": envelope(encrypt(b"<xml><a>1</a></xml>", OTHER_AES_KEY, receiver_id)),
        "no base64": envelope("!!!!"),
        "half a block": envelope(good[:28]),
        "blocks are missing": envelope(good[:64]),
        "not a block": envelope("QUFBQQ=="),
    }


def test_an_aes_key_that_is_none_refuses_to_start() -> None:
    from pydantic import TypeAdapter, ValidationError

    adapter: TypeAdapter[Any] = TypeAdapter(AesKey)
    assert adapter.validate_python(f" {AES_KEY}\n").get_secret_value() == AES_KEY
    for wrong in ("", " ", AES_KEY[:-1], AES_KEY + "=", AES_KEY[:-1] + "!"):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


def _secret(text: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(text)


def check_old_and_new_key(module: Any, message: bytes, receiver_id: str) -> None:
    """While the key changes, bodies of both are read, and of a third none."""
    both = Keys(receiver_id, [_secret(OTHER_AES_KEY), _secret(AES_KEY)])
    read = [module.split(envelope(encrypt(message, key, receiver_id)), both) for key in (AES_KEY, OTHER_AES_KEY)]
    assert read[0] == read[1]
    with pytest.raises(PayloadError, match="no EncodingAESKey"):
        module.split(envelope(encrypt(message, AES_KEY[::-1], receiver_id)), both)
