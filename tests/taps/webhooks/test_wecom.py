from __future__ import annotations

import time
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import pytest

from mappings.errors import SignatureError
from sandbox.tencent import encrypt, to_xml
from taps.webhooks import wecom
from taps.webhooks.items import Answer
from tests.contract.webhook import HandshakeContract
from tests.taps.webhooks.tencent import (
    AES_KEY,
    OTHER_AES_KEY,
    TencentContract,
    check_old_and_new_key,
    envelope,
    hostile_bodies,
    query_of,
    request_of,
)

CORP = "ww5a4d0b0000000001"
BELL = {
    "ToUserName": CORP, "CreateTime": 1772366400, "MsgType": "event", "Event": "kf_msg_or_event", "Token": "ENCApHx",
    "OpenKfId": "wkA",
}  # fmt: skip
PLAIN = to_xml(BELL)


def settings_of(token: str, **more: str | None) -> wecom.Settings:
    return wecom.Settings.model_validate({"token": token, "encoding_aes_key": AES_KEY, **more})


def handshake_of(echostr: bytes, key: str = AES_KEY, at: float | None = None) -> dict[str, str]:
    encrypted = encrypt(echostr, key, CORP)
    query = query_of(TencentContract.current, "msg_signature", encrypted, at=at)
    return {**dict(parse_qsl(query)), "echostr": encrypted}


class TestWeComWebhook(TencentContract, HandshakeContract):
    slug = "wecom"
    module: ClassVar[Any] = wecom
    receiver_id = CORP
    plain = PLAIN
    body = envelope(encrypt(PLAIN, AES_KEY, CORP), CORP)
    kinds = ("bell",)
    hostile_bodies: ClassVar = hostile_bodies(CORP)
    handshake_answer = "8432749827498237498"

    def settings(self, secret: str, previous: str | None = None) -> wecom.Settings:
        return settings_of(secret, previous_token=previous)

    @property
    def handshake(self) -> dict[str, str]:  # type: ignore[override]
        return handshake_of(self.handshake_answer.encode())

    @property
    def wrong_handshakes(self) -> tuple[dict[str, str], ...]:  # type: ignore[override]
        good = self.handshake
        return (
            {**good, "msg_signature": "0" * 40},
            {**good, "nonce": "1"},
            {**good, "echostr": good["echostr"][:-4]},
            handshake_of(b"<b>1</b>"),
            handshake_of(b""),
            handshake_of(b"\xff\xfe"),
            handshake_of(b"1", OTHER_AES_KEY),
            handshake_of(b"1", at=time.time() - 400),
        )


def test_a_delivery_that_is_replayed_as_a_handshake_is_not_decrypted_for_whoever_asks() -> None:
    encrypted = encrypt(PLAIN, AES_KEY, CORP)
    query = {**dict(parse_qsl(query_of("token", "msg_signature", encrypted))), "echostr": encrypted}
    request = request_of(b"", "&".join(f"{name}={value}" for name, value in query.items()), "wecom")
    with pytest.raises(SignatureError) as caught:
        wecom.challenge(settings_of("token"), request)
    assert "ENCApHx" not in str(caught.value)


def test_a_handshake_with_the_key_before_the_last_change_is_answered() -> None:
    encrypted = encrypt(b"123", OTHER_AES_KEY, CORP)
    query = query_of("token", "msg_signature", encrypted)
    request = request_of(b"", query, "wecom")
    with_echo = type(request)(url=request.url, query={**request.query, "echostr": encrypted})
    settings = settings_of("token", previous_encoding_aes_key=OTHER_AES_KEY)
    assert wecom.challenge(settings, with_echo) == Answer("123")


@pytest.mark.parametrize(
    "xml",
    [
        {**BELL, "Event": "kf_account_auth_change"},
        {**BELL, "MsgType": "text", "Content": "a colleague writes to the application"},
        {"ToUserName": CORP},
    ],
)
def test_what_else_comes_to_the_address_is_an_item_of_its_own(xml: dict[str, Any]) -> None:
    (item,) = wecom.split(to_xml(xml))
    assert (item.kind, item.payload["xml"]["ToUserName"]) == ("other", CORP)


def test_two_bells_are_two_items() -> None:
    keys = {
        wecom.split(to_xml(one))[0].key for one in (BELL, {**BELL, "Token": "ENCother"}, {**BELL, "OpenKfId": "wkB"})
    }
    assert len(keys) == 3


def test_both_keys_are_tried_while_they_change() -> None:
    check_old_and_new_key(wecom, PLAIN, CORP)
