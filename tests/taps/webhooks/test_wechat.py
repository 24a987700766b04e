from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import pytest

from mappings.errors import PayloadError, SignatureError
from sandbox.tencent import encrypt, to_xml
from taps.webhooks import wechat
from taps.webhooks.tencent import Keys
from tests.contract.webhook import HandshakeContract
from tests.taps.webhooks.tencent import (
    AES_KEY,
    HOSTILE_XML,
    TencentContract,
    check_old_and_new_key,
    envelope,
    hostile_bodies,
    query_of,
    request_of,
    signed_part,
    test_an_aes_key_that_is_none_refuses_to_start,
)

__all__ = ["test_an_aes_key_that_is_none_refuses_to_start"]

APP = "wx5a4d0b0000000001"
PLAIN = to_xml({
    "ToUserName": "gh_5a4db0c00001", "FromUserName": "oMia", "CreateTime": 1772366400, "MsgType": "text",
    "Content": "Grüße, 你好", "MsgId": 23456789012345678,
})  # fmt: skip


class _Handshakes(HandshakeContract):
    """Signed now, for the time is checked."""

    handshake_answer = "5746482389745837456"

    @property
    def handshake(self) -> dict[str, str]:  # type: ignore[override]
        return {**dict(parse_qsl(query_of(TencentContract.current, "signature"))), "echostr": self.handshake_answer}

    @property
    def wrong_handshakes(self) -> tuple[dict[str, str], ...]:  # type: ignore[override]
        good = self.handshake
        late = dict(parse_qsl(query_of(TencentContract.current, "signature", at=time.time() - 400)))
        return (
            {**good, "signature": "0" * 40},
            {**good, "nonce": "1"},
            {**good, "echostr": "<b>1</b>"},
            {**good, "echostr": ""},
            {**late, "echostr": "1"},
            {"echostr": "1"},
        )


class TestSecureWeChatWebhook(TencentContract, _Handshakes):
    slug = "wechat"
    module: ClassVar[Any] = wechat
    receiver_id = APP
    plain = PLAIN
    body = envelope(encrypt(PLAIN, AES_KEY, APP))
    kinds = ("message",)
    answer = b"success"
    hostile_bodies: ClassVar = hostile_bodies(APP)

    def settings(self, secret: str, previous: str | None = None) -> wechat.Settings:
        values = {"token": secret, "previous_token": previous, "encoding_aes_key": AES_KEY}
        return wechat.Settings.model_validate(values)

    def test_a_body_that_is_not_encrypted_is_refused_however_it_is_signed(self) -> None:
        """The signature of the time alone, which each delivery's address shows, must not do for another body."""
        for query in (query_of(self.current, "signature"), query_of(self.current, "msg_signature", "")):
            with pytest.raises(SignatureError, match=r"not encrypted"):
                wechat.verify(self.settings(self.current), request_of(PLAIN, query, "wechat"))

    def test_a_hostile_body_without_an_encrypted_part_is_refused_before_it_can_harm(self) -> None:
        for body in HOSTILE_XML.values():
            query = query_of(self.current, "msg_signature", signed_part(body))
            with pytest.raises(SignatureError):
                wechat.verify(self.settings(self.current), request_of(body, query, "wechat"))

    def test_in_compatible_mode_only_the_encrypted_part_is_read(self) -> None:
        encrypted = encrypt(PLAIN, AES_KEY, APP)
        both = to_xml({"ToUserName": "gh_5a4db0c00001", "Content": "forged", "MsgId": 1, "Encrypt": encrypted})
        assert self.read(both) == self.read(self.body)


class TestPlainWeChatWebhook(TencentContract, _Handshakes):
    slug = "wechat"
    module: ClassVar[Any] = wechat
    signature_name = "signature"
    receiver_id = APP
    body = PLAIN
    kinds = ("message",)
    answer = b"success"
    tampering = False
    hostile_bodies: ClassVar = HOSTILE_XML

    test_the_same_message_encrypted_anew_is_the_same_item = None  # type: ignore[assignment]  # nothing is encrypted

    def settings(self, secret: str, previous: str | None = None) -> wechat.Settings:
        return wechat.Settings.model_validate({"token": secret, "previous_token": previous})

    def sign(self, secret: str, body: bytes) -> str:
        del body
        return query_of(secret, "signature")

    def covered(self, body: bytes) -> list[str]:
        del body
        return []

    def keys(self) -> Keys | None:
        return None

    def test_a_change_of_any_byte_breaks_the_signature(self) -> None:
        """It does not: the page of the platform warns of plain mode."""
        request = request_of(PLAIN.replace(b"text", b"link"), self.sign(self.current, PLAIN), "wechat")
        wechat.verify(self.settings(self.current), request)

    def test_an_encrypted_delivery_waits_for_the_key(self) -> None:
        with pytest.raises(PayloadError, match="set encoding_aes_key"):
            wechat.split(envelope(encrypt(PLAIN, AES_KEY, APP)), None)


def items(xml: dict[str, Any]) -> tuple[str, str]:
    (item,) = wechat.split(to_xml(xml))
    return item.kind, item.key


HEAD = {"ToUserName": "gh_1", "FromUserName": "oMia", "CreateTime": 1772366400}
EVENT = {**HEAD, "MsgType": "event", "Event": "CLICK", "EventKey": "ORDER"}


def test_a_message_goes_by_its_id_and_an_event_by_who_when_and_what() -> None:
    assert items({**HEAD, "MsgType": "text", "MsgId": 18446744073709551615}) == ("message", "18446744073709551615")
    keys = [
        items(one)[1]
        for one in (
            EVENT,
            {**EVENT, "EventKey": "HOURS"},
            {**EVENT, "CreateTime": 1772366401},
            {**EVENT, "FromUserName": "oBo"},
            {**EVENT, "Event": "VIEW"},
            {**EVENT, "Event": "TEMPLATESENDJOBFINISH", "EventKey": "", "MsgID": 1},
            {**EVENT, "Event": "TEMPLATESENDJOBFINISH", "EventKey": "", "MsgID": 2},
        )
    ]
    assert len(set(keys)) == len(keys)
    assert items({**EVENT, "MenuId": 7}) == items(EVENT)


@pytest.mark.parametrize(
    "xml", [{"ToUserName": "gh_1"}, {"MsgType": ""}, {"MsgType": {"a": "1"}}, {**EVENT, "Event": ""}]
)
def test_what_is_neither_message_nor_event_is_an_item_all_the_same(xml: dict[str, Any]) -> None:
    kind, key = items(xml)
    assert kind == ("event" if xml.get("MsgType") == "event" else "other")
    assert key.startswith(f"{kind}:")


def test_an_element_that_comes_twice_is_a_list_and_not_the_last_one() -> None:
    (item,) = wechat.split(b"<xml><MsgType>text</MsgType><MsgId>1</MsgId><MsgId>2</MsgId><MsgId>3</MsgId></xml>")
    assert item.payload["xml"]["MsgId"] == ["1", "2", "3"]
    assert item.key.startswith("message:")


def test_a_character_that_xml_cannot_carry_becomes_a_replacement_character() -> None:
    (item,) = wechat.split(b"<xml><MsgType>text</MsgType><Content><![CDATA[a\x0bb\x00c]]></Content></xml>")
    assert item.payload["xml"]["Content"] == "a\ufffdb\ufffdc"


def test_an_encoding_that_the_document_claims_is_not_believed() -> None:
    body = '<?xml version="1.0" encoding="gb2312"?><xml><MsgType>text</MsgType><Content>你好</Content></xml>'
    (item,) = wechat.split(body.encode())
    assert item.payload["xml"]["Content"] == "你好"


def test_both_keys_are_tried_while_they_change() -> None:
    check_old_and_new_key(wechat, PLAIN, APP)


def test_a_file_that_an_entity_names_is_never_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("classified")
    body = f'<!DOCTYPE x [<!ENTITY a SYSTEM "{secret.as_uri()}">]><xml><MsgType>&a;</MsgType></xml>'.encode()
    with pytest.raises(PayloadError) as caught:
        wechat.split(body)
    assert "classified" not in str(caught.value)
