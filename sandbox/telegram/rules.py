"""The rules that the stand-in of Telegram enforces, each with its source and the independent part that shows it.

The judges: python-telegram-bot and aiogram are clients that others wrote; they show that answers and updates have the
shapes of the Bot API, and what an error is taken for. The machine-readable copy of the vendor's page shows which fields
an object must have. None of them knows how the server keeps its queue: that is read in the server's own code.
"""

from __future__ import annotations

from sandbox.base import Rule

_DOCS = "core.telegram.org/bots/api, Bot API 10.1 of 2026-06-11"
_SERVER = "github.com/tdlib/telegram-bot-api @01a3679 telegram-bot-api/Client.cpp"
_HOOK = "github.com/tdlib/telegram-bot-api @01a3679 telegram-bot-api/WebhookActor.cpp"
_CLIENTS = "python-telegram-bot 22.8, aiogram 3.31.0"
_SPEC = "PaulSonOfLars/telegram-bot-api-spec @160fd99"

RULES = (
    Rule("every answer is an object with ok, and result or error_code and description", _DOCS, "documented", _CLIENTS),
    Rule("objects have the fields that the page requires", _DOCS, "documented", _SPEC),
    Rule("parameters come in the query, a form or JSON, by GET or POST; method names in any case", _DOCS, "documented",
         _CLIENTS),
    Rule("a wrong token is 401, an address without one 404", _SERVER, "observed", _CLIENTS),
    Rule("getUpdates gives the oldest first, at most 100", _DOCS, "documented", _CLIENTS),
    Rule("an offset deletes everything below it", _DOCS, "documented"),
    Rule("a negative offset keeps the newest ones only", _DOCS, "documented"),
    Rule("an offset that is not near the queue is taken for none", _SERVER, "observed"),
    Rule("the same offset again within 3 seconds waits 3 seconds; within half a second it gives one update", _SERVER,
         "observed"),
    Rule("an update is kept for 24 hours from the moment of its message", _SERVER, "observed"),
    Rule("update numbers rise one by one, and start anew at random after a week without updates", _DOCS, "documented"),
    Rule("getUpdates while a webhook is set: 409", _DOCS, "documented", _CLIENTS),
    Rule("a second getUpdates ends the first one that waits: 409", _SERVER, "observed", _CLIENTS),
    Rule("setWebhook ends a getUpdates that waits: 409", _SERVER, "observed"),
    Rule("a webhook is HTTPS, on port 443, 80, 88 or 8443", _DOCS, "documented", _CLIENTS),
    Rule("a secret token has 1 to 256 of A-Z a-z 0-9 _ -", _DOCS, "documented", _CLIENTS),
    Rule("each post to a webhook has the secret token in its header", _DOCS, "documented", "aiogram 3.31.0"),
    Rule("each post to a webhook has one update in its body", _HOOK, "observed"),
    Rule("a post that was not answered 2xx comes again, later and later", _HOOK, "observed"),
    Rule("what the webhook did not take can be had by getUpdates once it is removed", _DOCS, "assumed"),
    Rule("without allowed_updates everything but chat_member and reactions is told; the last list is kept", _DOCS,
         "documented"),
    Rule("message numbers are unique in their chat only", _DOCS, "documented"),
    Rule("a chat of a business account has the customer's id, as the bot's own chat with them has", _DOCS, "assumed"),
    Rule("a group that becomes a supergroup has another id; both chats are told", _DOCS, "documented", _CLIENTS),
    Rule("a send to the old id: 400 with migrate_to_chat_id", _DOCS, "documented", _CLIENTS),
    Rule("a bot cannot write first (403), nor to whom has blocked it (403)", _SERVER, "observed", _CLIENTS),
    Rule("a text has 1 to 4096 characters", _DOCS, "documented", _CLIENTS),
    Rule("one message a second and chat, 20 a minute and group, 30 a second in all: 429 with retry_after",
         "core.telegram.org/bots/faq#broadcasting-to-users", "documented", _CLIENTS),
    Rule("getFile gives a path for an hour, of files up to 20 MB", _DOCS, "documented", _CLIENTS),
)  # fmt: skip
