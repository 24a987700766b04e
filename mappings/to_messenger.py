"""One reply as the body of Messenger's ``POST /{page_id}/messages``.

Source: developers.facebook.com/documentation/business-messaging/messenger-platform (send messages, message tags), read
2026-09, documented. Of the tags only ``HUMAN_AGENT`` is left since 2026-04-27.
"""

from __future__ import annotations

from typing import Any

from mappings.errors import RejectedError
from mappings.ids import parse_message_key
from mappings.records import Handle


def message_request_for_messenger(
    to: Handle, *, token: str, text: str | None, tag: str | None = None, reply_to_key: str | None = None
) -> dict[str, Any]:
    """The request body.

    Args:
        to: a ``messenger_psid`` of the page that sends.
        token: comes back in the message's echo (``metadata``).
        text: the body.
        tag: ``HUMAN_AGENT``, when the policy allows it outside the window.
        reply_to_key: our key of the message that is answered.

    Raises:
        RejectedError: the handle is not a page-scoped id.
    """
    if to.kind != "messenger_psid":
        msg = f"Messenger: a handle of kind {to.kind!r} cannot be written to; it takes messenger_psid"
        raise RejectedError(msg)
    body: dict[str, Any] = {
        "recipient": {"id": to.value},
        "messaging_type": "MESSAGE_TAG" if tag else "RESPONSE",
        "message": {"text": text or "", "metadata": token},
    }
    if tag:
        body["tag"] = tag
    if reply_to_key is not None:
        body["reply_to"] = {"mid": parse_message_key(reply_to_key).platform_message_id}
    return body
