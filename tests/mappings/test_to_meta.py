"""Replies as WhatsApp and Messenger requests."""

from __future__ import annotations

from typing import Any

import pytest

from mappings.errors import RejectedError
from mappings.ids import message_key
from mappings.records import Handle
from mappings.to_messenger import message_request_for_messenger
from mappings.to_whatsapp import message_request_for_whatsapp

PHONE = Handle(kind="phone", value="+12025550101")
USER = Handle(kind="whatsapp_user", scope="p1", value="US.abc")
PSID = Handle(kind="messenger_psid", scope="page", value="77")


def test_whatsapp_text(golden: Any) -> None:
    golden("to_whatsapp/text.json", message_request_for_whatsapp(PHONE, token="t" * 32, text="Hello & <b>"))


def test_whatsapp_to_a_user_without_a_phone(golden: Any) -> None:
    answered = message_key("whatsapp", "1", "wamid.X=")
    request = message_request_for_whatsapp(USER, token="t" * 32, text="Hi", reply_to_key=answered)
    golden("to_whatsapp/user_id_reply.json", request)


def test_whatsapp_template(golden: Any) -> None:
    request = message_request_for_whatsapp(
        PHONE, token="t" * 32, text=None, template="order_update", template_language="de", template_parameters=["4711"]
    )
    golden("to_whatsapp/template.json", request)


def test_messenger_text(golden: Any) -> None:
    golden("to_messenger/text.json", message_request_for_messenger(PSID, token="t" * 32, text="Hello"))


def test_messenger_with_a_tag(golden: Any) -> None:
    answered = message_key("messenger", "page", "m_1")
    request = message_request_for_messenger(
        PSID, token="t" * 32, text="Hello", tag="HUMAN_AGENT", reply_to_key=answered
    )
    golden("to_messenger/human_agent.json", request)


def test_a_handle_of_another_platform_is_refused() -> None:
    with pytest.raises(RejectedError, match="whatsapp_user"):
        message_request_for_whatsapp(PSID, token="t", text="x")
    with pytest.raises(RejectedError, match="messenger_psid"):
        message_request_for_messenger(PHONE, token="t", text="x")
