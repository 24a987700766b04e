"""WhatsApp's codes as tables, in the vendor's order, so that they can be ticked off against the vendor's pages.

Sources: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference (messages/*, status,
system, history, user_preferences; list of fields) and .../support/error-codes, read 2026-11, documented. What only the
models of pywa 4.5.0 show is marked observed.
"""

from __future__ import annotations

from collections.abc import Mapping

from mappings.keywords import Decision
from mappings.records import Actor, MessageKind, ReceiptStatus

MESSAGE_KINDS: Mapping[str, MessageKind] = {
    "audio": "audio",
    "button": "answer",
    "contacts": "contacts",
    "document": "file",
    "image": "image",
    "interactive": "answer",
    "location": "location",
    "order": "order",
    "sticker": "sticker",
    "system": "system",
    "text": "text",
    "unsupported": "unsupported",
    "video": "video",
    "request_welcome": "system",
    "media_placeholder": "unsupported",
}
"""``messages[].type`` -> kind. ``request_welcome``: a chat was opened for the first time; ``media_placeholder``: the
file of a history message, which comes later and only for the last 14 days."""

CHANGES = ("reaction", "edit", "revoke")
"""``messages[].type`` that says something about another message."""

STATUSES: Mapping[str, ReceiptStatus] = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "played": "read",
    "failed": "failed",
    "warning": "sent",
}
"""``statuses[].status``. ``played``: a voice message was listened to; ``warning`` (observed): sent, with a remark."""

HISTORY_STATUSES: Mapping[str, ReceiptStatus | None] = {
    "DELIVERED": "delivered",
    "ERROR": "failed",
    "PENDING": None,
    "PLAYED": "read",
    "READ": "read",
    "SENT": "sent",
}
"""``history_context.status`` of a message that the business sent."""

PREFERENCES: Mapping[str, Decision] = {"stop": "opted_out", "resume": "opted_in", "signup": "opted_in"}
"""``user_preferences[].value`` of category ``marketing_messages``; ``signup`` is observed."""

SYSTEM_METHODS: Mapping[str, str] = {
    "user_changed_number": "number_changed",
    "customer_changed_number": "number_changed",
    "user_changed_user_id": "user_id_changed",
    "customer_identity_changed": "identity_changed",
    "user_identity_changed": "identity_changed",
}
"""``system.type`` -> what the evidence is called. The second and fifth are older names (observed)."""

ACTORS: Mapping[str, Actor] = {
    "0": "operator",  # authentication
    "3": "operator",
    "10": "operator",
    "190": "operator",
    "200": "operator",
    "368": "operator",  # policy block
    "130497": "operator",  # country restriction of the account
    "131031": "operator",  # account locked
    "4": "platform",  # rate limits: time heals them
    "80007": "platform",
    "130429": "platform",
    "131048": "operator",  # spam rate: quality must be looked after
    "131056": "platform",
    "133016": "platform",
    "1": "platform",
    "2": "platform",
    "33": "operator",
    "100": "operator",
    "130472": "platform",  # the customer is part of an experiment: marketing is withheld
    "131000": "platform",
    "131005": "operator",
    "131008": "operator",
    "131009": "operator",
    "131016": "platform",
    "131021": "agent",  # written to ourselves
    "131026": "customer",  # cannot receive: no WhatsApp, old version, terms not accepted
    "131030": "operator",
    "131037": "operator",
    "131042": "operator",  # payment
    "131045": "operator",
    "131047": "agent",  # window closed: a template is needed
    "131049": "platform",  # withheld to keep the customer's inbox healthy
    "131050": "customer",  # stopped marketing
    "131051": "agent",
    "131052": "customer",  # the customer's file could not be fetched
    "131053": "agent",
    "131057": "platform",
    "131062": "operator",  # this kind of message needs the phone number
    "132000": "operator",
    "132001": "operator",
    "132005": "operator",
    "132007": "operator",
    "132012": "operator",
    "132015": "operator",
    "132016": "operator",
    "132068": "operator",
    "132069": "operator",
    "133000": "operator",
    "133004": "platform",
    "133010": "operator",
    "135000": "operator",
}
"""``errors[].code`` -> who must act; other codes: the operator. The codes are documented, the third column is ours."""

ACCOUNT_FIELDS = frozenset(
    "account_alerts account_offboarded account_reconnected account_review_update account_settings_update "
    "account_update automatic_events business_capability_update business_status_update business_username_update flows "
    "message_template_components_update message_template_quality_update message_template_status_update "
    "partner_solutions payment_configuration_update phone_number_name_update phone_number_quality_update security "
    "template_category_update tracking_events template_correct_category_detection".split()
)
"""Webhook fields about the business account. No customer speaks in them: they give no record and are counted."""

NO_CUSTOMER_SPEAKS = frozenset({"error", "group_event", "contact_sync"})
"""Item kinds without a record: errors of our account or of a refused history, groups, the business's address book."""
