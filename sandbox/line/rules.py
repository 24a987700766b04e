"""The rules that the stand-in of LINE enforces, each with its source and the independent part that shows it."""

from __future__ import annotations

from sandbox.base import Rule

_API = "github.com/line/line-openapi @6e4c2a2 messaging-api.yml, 2026-07-01"
_TOKENS = "github.com/line/line-openapi @6e4c2a2 channel-access-token.yml, 2026-07-01"
_EVENTS = "github.com/line/line-openapi @6e4c2a2 webhook.yml, 2026-07-01"
_EDITS = "github.com/line/line-openapi pull request 129, 2026-07-07"
_DOCS = "developers.line.biz/en/docs/messaging-api"
_RECEIVING = f"{_DOCS}/receiving-messages, read 2026-11"
_RETRY = f"{_DOCS}/retrying-api-request, read 2026-11"
_LINKING = f"{_DOCS}/linking-accounts, read 2026-11"
_JWT = f"{_DOCS}/generate-json-web-token, read 2026-11"
_ERRORS = f"{_DOCS}/check-webhook-error-statistics, read 2026-11"
_REFERENCE = "developers.line.biz/en/reference/messaging-api/nojs, read 2026-11"
_THREADS = "github.com/line/line-bot-sdk-python #37 and #188, read 2026-11"

SDK = "line-bot-sdk"
OPENAPI = "line-openapi"

RULES = (
    Rule("a webhook body is signed: X-Line-Signature is base64 of HMAC-SHA256 over the raw bytes", _RECEIVING,
         "documented", SDK),
    Rule("a webhook body has destination and events, events of documented types and members", _EVENTS, "documented",
         OPENAPI),
    Rule("messageEdited has the whole message, comes from groups alone and in any order", _EDITS, "documented", SDK),
    Rule("the Verify button and the webhook test send no events", _RECEIVING, "documented", SDK),
    Rule("once the Verify button sent invented events with reply tokens of zeros and of f", _THREADS, "observed"),
    Rule("a webhook must be answered within 2 seconds", _ERRORS, "documented"),
    Rule("what was not answered 2xx is lost, or with redelivery switched on comes again", _RECEIVING, "documented"),
    Rule("what comes again has the same webhookEventId and timestamp, and isRedelivery", _RECEIVING, "documented", SDK),
    Rule("how often and when it comes again is not told; here until it is taken", _RECEIVING, "assumed"),
    Rule("in groups the user id is left out for apps other than iOS and Android", _EVENTS, "documented", SDK),
    Rule("unfollow has no reply token", _EVENTS, "documented", OPENAPI),
    Rule("every call but those for tokens needs a Bearer token, else 401", _REFERENCE, "documented", OPENAPI),
    Rule("an error is message and perhaps details", _API, "documented", OPENAPI),
    Rule("a stateless token lasts 15 minutes, any number", _TOKENS, "documented", OPENAPI),
    Rule("a token of kind v2.1 wants an assertion signed with the registered key, RS256, 30 minutes at most", _JWT,
         "documented", OPENAPI),
    Rule("a token of kind v2.1 lasts 30 days at most, 30 of them at a time; the 31st is refused", _JWT, "assumed"),
    Rule("a refused request for a token is 400 with error and error_description", _TOKENS, "documented"),
    Rule("a profile is told of friends who have not blocked the bot, else 404", _REFERENCE, "documented", SDK),
    Rule("a group member's profile has no language", _API, "documented", OPENAPI),
    Rule("files are on a host of their own; those of unsent messages are 410", _REFERENCE, "assumed", SDK),
    Rule("video and audio are 202 until they are prepared; transcoding tells", _REFERENCE, "documented", OPENAPI),
    Rule("a link token works once, for ten minutes, for the user it was issued for", _LINKING, "documented"),
    Rule("a nonce has 10 to 255 characters", _LINKING, "documented"),
    Rule("followers are listed for verified accounts alone, else 403", _REFERENCE, "assumed", OPENAPI),
    Rule("a push or reply has 1 to 5 messages of known types; a text 1 to 5000 characters", _API, "documented", SDK),
    Rule("a text's characters are UTF-16 units", _REFERENCE, "assumed"),
    Rule("the same retry key again is 409 with the first answer", _RETRY, "documented", SDK),
    Rule("a retry key is a UUID; a reply with one is 400", _RETRY, "documented"),
    Rule("a reply token works once, for a minute", _RECEIVING, "documented"),
    Rule("who blocked the bot: a push is 200 and arrives nowhere", _RETRY, "documented"),
    Rule("pushes count against the month's quota, replies do not: 429", _REFERENCE, "documented"),
    Rule("2,000 calls a second and endpoint, then 429, without a header that tells when", _REFERENCE, "documented"),
)  # fmt: skip
