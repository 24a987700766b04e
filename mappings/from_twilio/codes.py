"""Twilio's codes as tables, in the vendor's order, so that they can be ticked off against the vendor's pages.

Sources: github.com/twilio/twilio-oai @d50069b (statuses, directions), twilio.com/docs/api/errors (error codes; who must
act is ours), twilio.com/docs/messaging/guides/webhook-request of 2026-03-09 (parameters), read 2026-11, documented,
where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mappings.keywords import Decision
from mappings.records import Actor, AuthorKind, MessageKind, ReceiptStatus

STATUSES: Mapping[str, ReceiptStatus | None] = {
    "queued": "queued",
    "sending": "accepted",
    "sent": "sent",
    "failed": "failed",
    "delivered": "delivered",
    "undelivered": "failed",
    "receiving": None,
    "received": None,
    "accepted": "accepted",
    "scheduled": "queued",
    "read": "read",
    "partially_delivered": "sent",
    "canceled": "failed",
}
"""``MessageStatus`` and ``status``; ``None``: of inbound messages, which have no receipt. ``sending``: on the way to
the carrier. What ``partially_delivered`` means is not documented: it is counted as sent (assumed)."""

WAITING = frozenset({"accepted", "scheduled", "queued", "sending"})
"""Statuses before anything left Twilio: a sender may not have been chosen yet, and there is no time of sending."""

DIRECTIONS: Mapping[str, AuthorKind] = {
    "inbound": "customer",
    "outbound-api": "agent",
    "outbound-call": "agent",
    "outbound-reply": "bot",
}
"""``direction`` -> who wrote. ``outbound-reply`` is the answer that a program gave to a webhook."""

OPT_OUT_TYPES: Mapping[str, Decision | None] = {"STOP": "opted_out", "START": "opted_in", "HELP": None}
"""``OptOutType``, which comes where Advanced Opt-Out is on."""

UNSUBSCRIBED = "21610"
"""The carrier's list says that the customer stopped all messages from this number."""

ERRORS: Mapping[str, tuple[str, Actor]] = {
    "20003": ("Twilio refuses the account's credentials", "operator"),
    "20429": ("too many requests at once", "platform"),
    "21211": ("the number is no phone number", "agent"),
    "21408": ("the account may not send to this country", "operator"),
    "21606": ("our number cannot send this kind of message to that country", "operator"),
    "21608": ("a trial account may write to verified numbers only", "operator"),
    "21610": ("the customer stopped all messages from this number with STOP", "customer"),
    "21611": ("the queue of our number is full", "platform"),
    "21612": ("our number cannot reach this number", "operator"),
    "21614": ("the number is no mobile phone", "customer"),
    "21617": ("the text is longer than 1600 characters", "agent"),
    "21635": ("the number is a landline", "customer"),
    "21703": ("the messaging service has no sender", "operator"),
    "30001": ("the queue was too long and the message expired in it", "platform"),
    "30002": ("the account is suspended", "operator"),
    "30003": ("the phone is off, out of reach or cannot receive", "customer"),
    "30004": ("the message was blocked by the phone or its carrier", "customer"),
    "30005": ("the number is unknown or no longer in use", "customer"),
    "30006": ("the number is a landline or its carrier cannot be reached", "customer"),
    "30007": ("the carrier filtered the message as spam", "operator"),
    "30008": ("the carrier gave no reason", "platform"),
    "30009": ("a part of the message got lost", "platform"),
    "30010": ("the message would have cost more than allowed", "operator"),
    "30022": ("more than the campaign may send in a minute (US A2P 10DLC)", "platform"),
    "30023": ("more than the brand may send in a day (US A2P 10DLC)", "operator"),
    "30027": ("more than the carrier takes from the campaign in a day (US A2P 10DLC)", "operator"),
    "30032": ("our toll-free number is not verified", "operator"),
    "30034": ("our number is not registered for business messages (US A2P 10DLC)", "operator"),
    "30036": ("the message expired before it could be sent", "platform"),
    "63003": ("the customer's address is none on that channel", "agent"),
    "63014": ("the customer blocked our messages on that channel", "customer"),
    "63016": ("the 24 hours after the customer's last message are over: a template is needed", "agent"),
    "63018": ("too many messages on that channel", "platform"),
    "63024": ("the customer cannot be reached on that channel", "customer"),
    "63032": ("the channel withholds the message from this customer", "platform"),
}
"""``ErrorCode`` and ``error_code`` -> what happened, who must act; other codes: the operator."""

WHATSAPP_KINDS: Mapping[str, MessageKind] = {
    "text": "text",
    "image": "image",
    "audio": "audio",
    "video": "video",
    "document": "file",
    "sticker": "sticker",
    "location": "location",
    "contacts": "contacts",
    "button": "answer",
    "interactive": "answer",
    "order": "order",
}
"""``MessageType`` of a WhatsApp message. ``interactive`` is observed (public code that keeps a real webhook), the
others are assumed; the parts that are there decide first."""

REFERRAL = (
    "ReferralSourceUrl", "ReferralSourceId", "ReferralSourceType", "ReferralHeadline", "ReferralBody",
    "ReferralMediaUrl", "ReferralMediaContentType", "ReferralCtwaClid",
)  # fmt: skip
"""The ad or post from which a WhatsApp chat was started."""

FILE_KINDS: Mapping[str, Literal["image", "video", "audio"]] = {"image": "image", "video": "video", "audio": "audio"}
"""First part of a media type -> kind of the attachment; anything else is a file."""
