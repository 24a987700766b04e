"""The rules that the stand-in of Twilio enforces, each with its source and the independent part that shows it.

A judge of ``twilio`` means that Twilio's own library signs, verifies or understands it; ``openapi`` that the official
API document takes the request and the answer.
"""

from __future__ import annotations

from sandbox.base import Rule

_OAI = "github.com/twilio/twilio-oai @d50069b, twilio_api_v2010.yaml, 2026-04-14"
_SDK = "github.com/twilio/twilio-python 9.13.0"
_DOCS = "twilio.com/docs"
_SECURITY = f"{_DOCS}/usage/webhooks/webhooks-security and /webhook-shared-keys, 2026-09-07"
_WEBHOOK = f"{_DOCS}/messaging/guides/webhook-request, 2026-03-09"
_STATUS = f"{_DOCS}/messaging/guides/outbound-message-status-in-status-callbacks, read 2026-11"
_OVERRIDES = f"{_DOCS}/usage/webhooks/webhooks-connection-overrides, read 2026-11"
_MEDIA = f"{_DOCS}/messaging/api/media-resource, 2026-09-28"
_ERRORS = f"{_DOCS}/api/errors, read 2026-11"
_OPT_OUT = f"{_DOCS}/messaging/tutorials/advanced-opt-out, read 2026-11"
_CDN = "public code that fetches media (redirect to mms.twiliocdn.com), read 2026-11"

RULES = (
    Rule("a webhook is a form, signed over the address and its sorted parameters", _SECURITY, "documented", "twilio"),
    Rule("with a shared key the signature is HMAC-SHA256 and a header says so", _SECURITY, "documented", "twilio"),
    Rule("the address is signed with its port at times", f"{_SDK}, request_validator.py", "observed", "twilio"),
    Rule("a webhook tells no time", _WEBHOOK, "documented"),
    Rule("empty parameters are posted and signed", _WEBHOOK, "documented", "twilio"),
    Rule("a webhook that was not taken is not repeated, unless the address asks for it", _OVERRIDES, "documented"),
    Rule("every try of one webhook has the same I-Twilio-Idempotency-Token", _OVERRIDES, "documented"),
    Rule("user and password by HTTP Basic, else 401 and code 20003", _OAI, "documented", "twilio"),
    Rule("an unknown account or message is 404 and code 20404", _ERRORS, "documented", "twilio"),
    Rule("too many requests: 429 and code 20429", _ERRORS, "documented", "twilio"),
    Rule("the list has both directions, at most 1000 a page, 50 by default", _OAI, "documented", "openapi"),
    Rule("the list is filtered by To, From and GMT days of date_sent", _OAI, "documented", "openapi"),
    Rule("the next page is where next_page_uri says, null on the last", _OAI, "documented", "twilio"),
    Rule("the list is sorted by date_sent, the newest first", f"{_DOCS}/messaging/api/message-resource", "assumed"),
    Rule("times are RFC 2822, num_media and num_segments are texts", _OAI, "documented", "openapi"),
    Rule("a message of ours is queued, then sent, then delivered or not", _STATUS, "documented", "twilio"),
    Rule("the first status is told by no callback", _STATUS, "documented"),
    Rule("To, a sender of ours and something to say are required", _OAI, "documented", "openapi"),
    Rule("a text has at most 1600 characters: 21617", _ERRORS, "documented", "twilio"),
    Rule("at most 10 media: 21623", _ERRORS, "assumed"),
    Rule("a number that is none: 21211; a sender that is not ours: 21606", _ERRORS, "documented", "twilio"),
    Rule("after STOP and its relatives: 21610, until START, YES or UNSTOP", _OPT_OUT, "documented", "twilio"),
    Rule("Twilio itself confirms STOP, as a message in the list", _OPT_OUT, "assumed"),
    Rule("OptOutType comes with Advanced Opt-Out only", _OPT_OUT, "documented"),
    Rule("WhatsApp: free text within 24 h, else the message fails with 63016", _ERRORS, "documented"),
    Rule("media wants the password", _MEDIA, "documented"),
    Rule("and is a redirect (307) to an address that wants none", _CDN, "observed"),
)
