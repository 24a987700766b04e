"""The rules that the stand-in of Slack enforces, each with its source and the independent part that shows it."""

from __future__ import annotations

from sandbox.base import Rule

_DOCS = "docs.slack.dev"
_EVENTS = f"{_DOCS}/apis/events-api, read 2026-11"
_SIGNING = f"{_DOCS}/authentication/verifying-requests-from-slack, read 2026-11"
_RATES = f"{_DOCS}/apis/web-api/rate-limits and /reference/methods/conversations.history, read 2026-11"
_TIERS = "github.com/slackapi/java-slack-sdk @86ff7ca, rate_limit_tiers.json"
_METHODS = f"{_DOCS}/reference/methods, read 2026-11"
_CONNECT = f"{_DOCS}/apis/slack-connect, read 2026-11"
_ROTATION = f"{_DOCS}/authentication/using-token-rotation, read 2026-11"
_SPEC = "github.com/slackapi/slack-api-specs @bc08db4"
_METADATA = f"{_DOCS}/messaging/message-metadata, read 2026-11"

RULES = (
    Rule("an answer is 200 with ok; a refusal has ok false and error", _METHODS, "documented", "slack_sdk"),
    Rule("a call without a token is not_authed, with a wrong one invalid_auth", _METHODS, "documented", "slack_sdk"),
    Rule("a method that the token has no scope for is missing_scope, with needed", _METHODS, "documented", "slack_sdk"),
    Rule("a delivery is signed: v0= HMAC-SHA256 over v0:time:body", _SIGNING, "documented", "slack_sdk"),
    Rule("the callback answers a signed url_verification with its challenge", _EVENTS, "documented", "slack_sdk"),
    Rule("one event in a delivery", _EVENTS, "documented"),
    Rule("an event that was not answered 2xx comes three times more, with x-slack-retry-num", _EVENTS, "documented"),
    Rule("the same message can come under another event id without a retry header",
         "github.com/slackapi/node-slack-sdk/issues/2141", "observed"),
    Rule("message, user and conversation objects have the documented fields", _SPEC, "documented", "openapi"),
    Rule("a ts is ten digits, a point and six digits, unique in its channel", _SPEC, "documented", "openapi"),
    Rule("history: newest first, replies are not in it, 999 at most", _METHODS, "documented", "slack_sdk"),
    Rule("replies: the parent first on every page, then the oldest first", _METHODS, "documented", "slack_sdk"),
    Rule("a parent has reply_count and latest_reply", _SPEC, "documented", "openapi"),
    Rule("a cursor that nobody gave is invalid_cursor", _METHODS, "documented", "slack_sdk"),
    Rule("a channel that the bot is not in is not_in_channel, a private one channel_not_found", _METHODS, "documented"),
    Rule("a deleted message is absent, one with replies leaves a tombstone", "types of slack_sdk 3.47.0", "observed"),
    Rule("metadata's payload comes with include_all_metadata only", _METADATA, "documented", "slack_sdk"),
    Rule("calls a minute by tier and method; 429 with Retry-After", f"{_RATES}; {_TIERS}", "documented", "slack_sdk"),
    Rule("distributed outside the Marketplace: one call a minute and 15 messages", _RATES, "documented", "slack_sdk"),
    Rule("a rotated token lives 43200 s, its refresh token works once", _ROTATION, "documented", "slack_sdk"),
    Rule("an expired token is token_expired", _ROTATION, "documented", "slack_sdk"),
    Rule("people of another organisation have its team, and is_ext_shared_channel is set", _CONNECT, "documented"),
    Rule("a private channel gets another id when it is shared: channel_id_changed",
         f"{_DOCS}/reference/events/channel_id_changed, read 2026-11", "documented"),
    Rule("a file that another organisation shared is told by its id alone", _CONNECT, "documented"),
    Rule("a file without a good token is 200 with a login page",
         f"{_DOCS}/reference/objects/file-object, read 2026-11", "documented"),
    Rule("a link's preview is a message_changed with the same text",
         "github.com/matrix-hacks/matrix-puppet-slack/issues/64", "observed"),
    Rule("what our app posts comes back as an event with bot_id, app_id and metadata", _EVENTS, "documented"),
    Rule("a post needs a channel that the bot is in, and a text or blocks", _METHODS, "documented", "slack_sdk"),
    Rule("a text has at most 40,000 characters, then it is cut", _METHODS, "documented"),
)  # fmt: skip
