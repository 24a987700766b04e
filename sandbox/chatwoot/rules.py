"""The rules that the stand-in of Chatwoot enforces, each with its source. No independent part judges them."""

from __future__ import annotations

from sandbox.base import Rule

_SOURCE = "github.com/chatwoot/chatwoot"
_SWAGGER = f"{_SOURCE}, swagger of the application API, read 2026-11"
_WEBHOOK = f"{_SOURCE}, lib/webhooks/trigger.rb and app/models/message.rb (webhook_data), read 2026-11"
_FINDERS = f"{_SOURCE}, app/finders/message_finder.rb and conversation_finder.rb, read 2026-11"
_RACK = f"{_SOURCE}, config/initializers/rack_attack.rb, read 2026-11"
_FILES = f"{_SOURCE}, app/models/attachment.rb, read 2026-11"
_IDENTITY = f"{_SOURCE}, app/controllers/api/v1/widget/contacts_controller.rb, read 2026-11"

RULES = (
    Rule("a webhook is signed: sha256= and the HMAC-SHA256 of <timestamp>.<raw body>", _SWAGGER, "documented"),
    Rule("X-Chatwoot-Timestamp is seconds, X-Chatwoot-Delivery differs for each event", _SWAGGER, "documented"),
    Rule("a webhook is posted once, with 5 s to answer", _WEBHOOK, "observed"),
    Rule("private notes are pushed like messages", _WEBHOOK, "observed"),
    Rule("activities are not pushed", f"{_SOURCE}, app/models/message.rb (webhook_sendable), read 2026-11", "observed"),
    Rule("message_type is a word in a webhook and a number in the API", _WEBHOOK, "observed"),
    Rule("created_at of a message is ISO 8601 in a webhook and seconds in the API", _WEBHOOK, "observed"),
    Rule("a webhook repeats a message inside its conversation", _WEBHOOK, "observed"),
    Rule("the same message_created can come twice", f"{_SOURCE}/issues/11901", "observed"),
    Rule("the token goes in api_access_token (or with dashes), else 401", _SWAGGER, "documented"),
    Rule("conversations: 25 a page, the latest activity first", _FINDERS, "observed"),
    Rule("messages: the newest 20, or 20 before an id, or 100 after one", _FINDERS, "observed"),
    Rule("filter_internal_messages leaves out notes and activities", _FINDERS, "observed"),
    Rule("3000 requests a minute, then 429", _RACK, "observed"),
    Rule("a wrong identifier_hash is refused; a right one covers the identifier alone", _IDENTITY, "observed"),
    Rule("a text has at most 150,000 characters", _WEBHOOK, "observed"),
    Rule("a file is a redirect, which wants no token", _FILES, "observed"),
)
