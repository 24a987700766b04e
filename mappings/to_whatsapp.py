"""One reply as the body of WhatsApp's ``POST /{phone_number_id}/messages``.

Source: github.com/facebook/openapi business-messaging-api_v23.0.yaml @ecba623 and
developers.facebook.com/documentation/business-messaging/whatsapp (business-scoped user ids), read 2026-10, documented.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mappings.errors import RejectedError
from mappings.ids import parse_message_key
from mappings.records import Handle


def message_request_for_whatsapp(
    to: Handle,
    *,
    token: str,
    text: str | None,
    template: str | None = None,
    template_language: str | None = None,
    template_parameters: Sequence[str] = (),
    reply_to_key: str | None = None,
) -> dict[str, Any]:
    """The request body.

    Args:
        to: ``phone`` (sent as ``to``) or ``whatsapp_user`` (a business-scoped id, sent as ``recipient``).
        token: comes back in every status of the message (``biz_opaque_callback_data``).
        text: the body, for a text message.
        template: an approved template's name; with `template_language` (``en_US`` by default) and its body parameters.
        reply_to_key: our key of the message that is answered.

    Raises:
        RejectedError: the handle is of a kind that WhatsApp cannot address.
    """
    body: dict[str, Any] = {
        "messaging_product": "whatsapp",
        # The published document requires it and Meta's prose calls it optional, so it is always sent.
        "recipient_type": "individual",
        "biz_opaque_callback_data": token,
    }
    if to.kind == "phone":
        body["to"] = to.value.removeprefix("+")
    elif to.kind == "whatsapp_user":
        body["recipient"] = to.value
    else:
        msg = f"WhatsApp: a handle of kind {to.kind!r} cannot be written to; it takes phone or whatsapp_user"
        raise RejectedError(msg)
    if reply_to_key is not None:
        body["context"] = {"message_id": parse_message_key(reply_to_key).platform_message_id}
    if template:
        body["type"] = "template"
        body["template"] = {"name": template, "language": {"code": template_language or "en_US"}}
        if template_parameters:
            parameters = [{"type": "text", "text": value} for value in template_parameters]
            body["template"]["components"] = [{"type": "body", "parameters": parameters}]
    else:
        body["type"] = "text"
        body["text"] = {"body": text or "", "preview_url": False}
    return body
