"""Chatwoot's codes as tables, in the order of its source.

Source: github.com/chatwoot/chatwoot, app/models/message.rb and attachment.rb, read 2026-11, observed, where
nothing else is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mappings.records import MessageKind, ReceiptStatus

CHANNEL = "webchat"

WEB_CHANNELS = frozenset({"Channel::WebWidget", "Channel::Api"})
"""Kinds of inbox that are chat on a website. The others bring platforms that have a tap of their own."""

MESSAGE_TYPES: Mapping[int | str, str] = {
    0: "incoming", 1: "outgoing", 2: "activity", 3: "template",
    "incoming": "incoming", "outgoing": "outgoing", "activity": "activity", "template": "template",
}  # fmt: skip
"""``message_type``: words in webhooks, codes in the API."""

CONTENT_TYPES: Mapping[str, MessageKind] = {
    "text": "text",
    "input_text": "template",
    "input_textarea": "template",
    "input_email": "template",
    "input_select": "template",
    "cards": "template",
    "form": "form",
    "article": "template",
    "incoming_email": "text",
    "input_csat": "form",
    "integrations": "template",
    "sticker": "sticker",
    "voice_call": "call",
}
"""``content_type``. ``voice_call``: observed in _message.json.jbuilder, the others in app/models/message.rb."""

STATUSES: Mapping[int | str, ReceiptStatus] = {
    0: "sent", 1: "delivered", 2: "read", 3: "failed",
    "sent": "sent", "delivered": "delivered", "read": "read", "failed": "failed",
}  # fmt: skip
"""``status`` of what we send; only the API tells it."""

FILE_TYPES: Mapping[str, Literal["image", "video", "audio", "file"]] = {
    "image": "image", "audio": "audio", "video": "video", "file": "file", "ig_reel": "video", "story_mention": "image",
}  # fmt: skip
"""``file_type`` of an attachment that is a file. Others: ``location``, ``contact``, ``fallback``, ``share`` ..."""

ANSWERS = ("submitted_values", "submitted_email", "csat_survey_response")
"""Where in ``content_attributes`` the visitor's answer to a bot's question stands."""
