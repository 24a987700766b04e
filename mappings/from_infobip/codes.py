"""Infobip's codes as tables, in the vendor's order, so that they can be ticked off against the vendor's documents.

Sources: api.infobip.com/platform/1/openapi/{sms,whatsapp,viber,apple-mfb}, version 3.210.0, read 2026-11, documented:
integration types, message types, status groups. Groups of errors: infobip.com/docs/essentials/response-status-and-
error-codes, documented; who must act is ours. Message types of the Conversations API besides TEXT: assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mappings.keywords import Decision
from mappings.records import Actor, MessageKind, ReceiptStatus

INTEGRATIONS: Mapping[str, str] = {
    "SMS": "sms",
    "WHATSAPP": "whatsapp",
    "VIBER": "viber",
    "VIBER_BOT": "viber",
    "APPLE_BC": "apple",
}
"""``integrationType`` and, in the Conversations API, ``channel`` -> our channel. SMS tells none in its webhook;
``VIBER_BOT`` is assumed (no example has it)."""

STATUS_GROUPS: Mapping[int, ReceiptStatus] = {
    0: "accepted",
    1: "sent",
    2: "failed",
    3: "delivered",
    4: "failed",
    5: "failed",
}
"""``status.groupId`` -> status: ACCEPTED, PENDING, UNDELIVERABLE, DELIVERED, EXPIRED, REJECTED."""

GROUP_NAMES: Mapping[str, int] = {
    "OK": 0,
    "ACCEPTED": 0,
    "PENDING": 1,
    "UNDELIVERABLE": 2,
    "DELIVERED": 3,
    "EXPIRED": 4,
    "REJECTED": 5,
}
"""``status.groupName``, where there is no number."""

PENDING_ACCEPTED = 26
"""``status.id`` of group 1 that says: taken, not yet on its way."""

ERROR_GROUPS: Mapping[int, Actor] = {0: "nobody", 1: "customer", 2: "customer", 3: "platform"}
"""``error.groupId`` -> who must act: OK, HANDSET_ERRORS, USER_ERRORS, OPERATOR_ERRORS."""

FAILED_GROUPS: Mapping[int, Actor] = {2: "customer", 4: "platform", 5: "operator"}
"""The same by status group, where the error says nothing."""

PREFERENCES: Mapping[str, Decision] = {"stop": "opted_out", "resume": "opted_in"}
"""``content.notificationMessagesStatus``: the customer's switch for marketing messages in WhatsApp."""

WHATSAPP_FILES: Mapping[str, str] = {
    "IMAGE": "image",
    "DOCUMENT": "document",
    "AUDIO": "audio",
    "VIDEO": "video",
    "VOICE": "audio",
    "STICKER": "sticker",
}
"""``message.type`` with a file -> type in WhatsApp's own words."""

WHATSAPP_OTHERS = (
    "TEXT", "LOCATION", "CONTACT", "INFECTED_CONTENT", "BUTTON", "INTERACTIVE_BUTTON_REPLY", "INTERACTIVE_LIST_REPLY",
    "INTERACTIVE_FLOW_REPLY", "INTERACTIVE_PAYMENT_CONFIRMATION", "INTERACTIVE_PAYMENT_ACKNOWLEDGEMENT",
    "INTERACTIVE_CALL_PERMISSION_REPLY", "INTERACTIVE_IN_THREAD_AUTHENTICATION_REPLY", "ORDER", "REACTION",
    "UNSUPPORTED",
)  # fmt: skip
"""The other documented values of ``message.type`` of WhatsApp."""

VIBER_BOT_EVENTS: Mapping[str, str] = {
    "MESSAGE": "message",
    "DELIVERED": "delivered",
    "SUBSCRIBED": "subscribed",
    "UNSUBSCRIBED": "unsubscribed",
    "CONVERSATION_STARTED": "conversation_started",
}
"""``message.type`` of a Viber bot -> the event in Viber's own words."""

VIBER_BOT_MESSAGES: Mapping[str, str] = {
    "TEXT": "text",
    "IMAGE": "picture",
    "VIDEO": "video",
    "STICKER": "sticker",
    "FILE": "file",
    "CONTACT": "contact",
    "LOCATION": "location",
}
"""``message.message.type`` of a Viber bot -> the type in Viber's own words."""

APPLE_ANSWERS: Mapping[str, str] = {
    "LIST_PICKER_RESPONSE": "list_picker",
    "TIME_PICKER_RESPONSE": "time_picker",
    "AUTHENTICATION_RESPONSE": "authentication",
    "APPLE_PAY_RESPONSE": "apple_pay",
    "CUSTOM_INTERACTIVE_RESPONSE": "custom_interactive",
    "QUICK_REPLY": "quick_reply",
    "FORM_RESPONSE": "form",
    "INVITATION_RESPONSE": "invitation",
}
"""``message.type`` of Apple that answers something of ours. The code of an authentication is never kept."""

APPLE_SILENT = frozenset({"TYPING_INDICATOR"})
"""``message.type`` of Apple that says nothing."""

CONVERSATION_KINDS: Mapping[str, MessageKind] = {
    "TEXT": "text",
    "IMAGE": "image",
    "VIDEO": "video",
    "AUDIO": "audio",
    "VOICE": "audio",
    "DOCUMENT": "file",
    "FILE": "file",
    "STICKER": "sticker",
    "LOCATION": "location",
}
"""``contentType`` of the Conversations API; only TEXT is documented with an example."""

FILE_KINDS: Mapping[str, Literal["image", "video", "audio", "file", "sticker"]] = {
    "image": "image",
    "video": "video",
    "audio": "audio",
    "file": "file",
    "sticker": "sticker",
}

IGNORED = frozenset({"empty", "click", "template", "payment"})
"""Item kinds without a record: an empty batch, a followed link, a template's review, a payment's progress."""
