"""The rules that the stand-in of WhatsApp enforces, each with its source and the independent part that shows it.

A judge of ``pywa`` means that the client understands the answer or the webhook, or names the error code as we do; what
it cannot see (a number of hours, a length) has no judge.
"""

from __future__ import annotations

from sandbox.base import Rule
from sandbox.meta import RULES as META_RULES

_DOCS = "developers.facebook.com/documentation/business-messaging/whatsapp"
_COPY = "in the copy github.com/yvfl/api-whatsapp-docs @6afd685"
_API = "github.com/facebook/openapi business-messaging-api_v23.0.yaml @ecba623, 2025-11-21"
_BSUID = f"{_DOCS}/business-scoped-user-ids, 2026-03-31"
_SYSTEM = f"{_DOCS}/webhooks/reference/messages/system, 2026-05-21"
_STATUS = f"{_DOCS}/webhooks/reference/messages/status, undated copy read 2026-11"
_ERRORS = f"{_DOCS}/support/error-codes, {_COPY}"
_SENDING = f"{_DOCS}/messages/send-messages, {_COPY}"
_MEDIA = f"{_DOCS}/reference/media, {_COPY}"
_RATES = f"{_DOCS}/throughput, {_COPY}"
_PYWA = "github.com/david-lev/pywa @0bcf2f1, 4.5.0"

RULES = (
    *META_RULES,
    Rule("a request keeps to the Message schema of the API document", _API, "documented", "openapi"),
    Rule("an answer names the contact and one wamid", _API, "documented", "pywa"),
    Rule("200 means accepted, not delivered; failures come later as a status", _STATUS, "documented"),
    Rule("recipient_type may be absent; the API document requires it", _SENDING, "assumed"),
    Rule("`to` wins over `recipient`; the answer has wa_id or user_id, never both", _BSUID, "documented", "pywa"),
    Rule("a status is sent, delivered, read or failed", _API, "documented", "openapi"),
    Rule("statuses carry contacts and recipient_user_id", _BSUID, "documented", "pywa"),
    Rule("failed statuses carry errors and no contacts; pywa 4.5.0 wants contacts", _BSUID, "documented"),
    Rule("biz_opaque_callback_data comes back in every status", _API, "documented", "pywa"),
    Rule("biz_opaque_callback_data has at most 512 characters", _PYWA, "observed"),
    Rule("inbound messages have the shape of the document's webhook examples", _API, "documented", "openapi"),
    Rule("wa_id and from are absent, not empty, when the number is hidden", _BSUID, "documented", "pywa"),
    Rule("a new number is told by a system message", _BSUID, "documented", "pywa"),
    Rule("a new user id is told by user_id_update as well", _BSUID, "documented"),
    Rule("a system message has no contacts", _SYSTEM, "documented", "pywa"),
    Rule("stop and resume of marketing messages come as user_preferences", _BSUID, "documented", "pywa"),
    Rule("edits and revokes arrive in coexistence only, else as unsupported 131051", _PYWA, "observed", "pywa"),
    Rule("edits up to 15 minutes, revokes up to 2 days", _PYWA, "observed"),
    Rule("messages of the Business app arrive as smb_message_echoes", f"{_DOCS}, 2025-10-22", "documented", "pywa"),
    Rule("without a message of the customer in 24 h only templates: 131047", _ERRORS, "documented", "pywa"),
    Rule("a number without WhatsApp: 131026", _ERRORS, "documented", "pywa"),
    Rule("a template that is not approved in that language: 132001", _ERRORS, "documented", "pywa"),
    Rule("a wrong number of template parameters: 132000", _ERRORS, "documented", "pywa"),
    Rule("a marketing template to who stopped them: 131050", _ERRORS, "documented", "pywa"),
    Rule("an authentication template to a user id: 131062", _BSUID, "documented", "pywa"),
    Rule("more than 45 at once, then one in 6 s, to one customer: 131056", _RATES, "documented", "pywa"),
    Rule("more than 80 messages in a second: 130429", _RATES, "documented", "pywa"),
    Rule("a text has at most 4096 characters, a caption 1024: code 100", _API, "documented"),
    Rule("at most 3 buttons of 20 characters, at most 10 list rows: 131009", _SENDING, "documented"),
    Rule("an unknown media id is 131053, an unknown quoted or reacted-to id 131009", _ERRORS, "assumed"),
    Rule("file_size is text in the API document, a number in pywa", _API, "documented", "openapi"),
    Rule("a media id leads to a url that wants the bearer token", _MEDIA, "documented", "pywa"),
    Rule("subscribed_apps tells the apps that get the account's webhooks", _API, "documented"),
    Rule("a media url lives 5 minutes; uploaded media 30 days, received media 7", _MEDIA, "documented"),
)
