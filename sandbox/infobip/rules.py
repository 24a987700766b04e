"""The rules that the stand-in of Infobip enforces, each with its source and the independent part that shows it.

A judge of ``sdk`` means that Infobip's own library understands it; ``openapi`` that the official API document takes the
body.
"""

from __future__ import annotations

from sandbox.base import Rule

_SMS = "api.infobip.com/platform/1/openapi/sms, version 3.210.0, read 2026-11"
_WHATSAPP = "api.infobip.com/platform/1/openapi/whatsapp, version 3.210.0, read 2026-11"
_VIBER = "api.infobip.com/platform/1/openapi/viber, version 3.210.0, read 2026-11"
_APPLE = "api.infobip.com/platform/1/openapi/apple-mfb, version 3.210.0, read 2026-11"
_SUBSCRIPTIONS = "api.infobip.com/platform/1/openapi/subscriptions-api, version 3.210.0, read 2026-11"
_CONVERSATIONS = "dev.infobip.com/conversations/get-messages, read 2026-11"

RULES = (
    Rule("the key is sent as Authorization: App, else 401 and UNAUTHORIZED", _SMS, "documented", "sdk"),
    Rule("an SMS comes in a batch of results with messageCount and pendingMessageCount", _SMS, "documented", "openapi"),
    Rule("times have milliseconds and an offset without a colon", _SMS, "documented", "sdk"),
    Rule("what is not forwarded waits in the inbox", _SMS, "documented", "sdk"),
    Rule("the inbox gives each message out once", _SMS, "documented", "sdk"),
    Rule("the inbox gives at most 1000, 50 when not asked, and nothing older than 48 hours", _SMS, "documented"),
    Rule("more than 1000 is 400 and BAD_REQUEST", _SMS, "assumed"),
    Rule("which of the waiting messages come first: the oldest", _SMS, "assumed"),
    Rule("delivery reports are given out once as well", _SMS, "documented", "sdk"),
    Rule("a send is 200 with a status for each message, also a refused one", _SMS, "documented", "sdk"),
    Rule("a report comes in a batch and tells status group, error and times", _SMS, "documented", "openapi"),
    Rule("WhatsApp messages name phone, user id and username of the contact", _WHATSAPP, "documented", "openapi"),
    Rule("reports of WhatsApp do not name our sender", _WHATSAPP, "documented", "openapi"),
    Rule("WhatsApp's files are at the API, by the key", _WHATSAPP, "documented"),
    Rule("Viber messages have sender and to, and TEXT or FILE", _VIBER, "documented", "openapi"),
    Rule("Apple messages have an opaque sender and a context", _APPLE, "documented", "openapi"),
    Rule("a push proves itself by BASIC, HMAC or a header of the profile", _SUBSCRIPTIONS, "documented"),
    Rule("the HMAC covers the raw body, as hex, in a header that the account names", _SUBSCRIPTIONS, "assumed"),
    Rule("a push that was not taken is repeated a few times", "no page of Infobip's says how often", "assumed"),
    Rule("profiles tell where webhooks go", _SUBSCRIPTIONS, "documented"),
    Rule("conversations and their messages come in pages from 0, sorted by id, with totalItems", _CONVERSATIONS,
         "documented"),
    Rule("at most 999 rows a page", _CONVERSATIONS, "assumed"),
    Rule("ids of the Conversations API are its own", _CONVERSATIONS, "documented"),
    Rule("conversations are filtered by updatedAfter, messages by createdAfter", _CONVERSATIONS, "documented"),
)  # fmt: skip
