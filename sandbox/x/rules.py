"""The rules that the stand-in of X enforces, each with its source and the independent part that shows it."""

from __future__ import annotations

from sandbox.base import Rule

_DOCS = "github.com/xdevplatform/docs @2871328"
_HOOKS = f"{_DOCS} x-api/webhooks, read 2026-11"
_ACTIVITY = f"{_DOCS} x-api/activity/event-payloads.mdx, read 2026-11"
_ACCOUNT = f"{_DOCS} x-api/account-activity/introduction.mdx, read 2026-11"
_LOOKUP = f"{_DOCS} x-api/direct-messages/lookup/integrate.mdx, read 2026-11"
_MANAGE = f"{_DOCS} x-api/direct-messages/manage/integrate.mdx, read 2026-11"
_LIMITS = f"{_DOCS} x-api/fundamentals/rate-limits.mdx, read 2026-11"
_ERRORS = f"{_DOCS} x-api/fundamentals/response-codes-and-errors.mdx, read 2026-11"
_OAUTH = f"{_DOCS} fundamentals/authentication/oauth-2-0/user-access-token.mdx, read 2026-11"
_OPENAPI = "github.com/xdevplatform/xdk @84c2654 specs/openapi.json 2.167, read 2026-11"
_CODE = "public code that keeps real payloads, read 2026-11"

SDK = "xdk"
DOCUMENT = "openapi"

RULES = (
    Rule("a delivery is signed: x-twitter-webhooks-signature is sha256= and base64 of HMAC-SHA256 with the consumer "
         "secret over the raw bytes; no time is signed", _HOOKS, "documented"),
    Rule("the handshake is a GET with crc_token; the answer is JSON with response_token", _HOOKS, "documented"),
    Rule("a webhook is taken and enabled only after a handshake; without a good one nothing is pushed", _HOOKS,
         "documented", SDK),
    Rule("a webhook's address is https without a port", _HOOKS, "documented"),
    Rule("one webhook for an address", _HOOKS, "documented", SDK),
    Rule("webhooks and subscriptions belong to the app's bearer token", _HOOKS, "documented", SDK),
    Rule("an event is pushed for each subscription of its type and user, one in a delivery", _ACTIVITY, "documented",
         DOCUMENT),
    Rule("event_uuid is a signed decimal number as text", _ACTIVITY, "documented"),
    Rule("a direct message has created_timestamp in milliseconds as text, and people in a map of {data: user}",
         _ACTIVITY, "documented"),
    Rule("the deprecated shape has for_user_id, lists of events and people by id", _ACCOUNT, "documented"),
    Rule("how often an unanswered delivery is repeated is not told; here never", _HOOKS, "assumed"),
    Rule("an encrypted chat is told with ciphertext and is not in /2/dm_events", _ACTIVITY, "documented"),
    Rule("ids are snowflakes as text; a message's own time is 30 ms after the one in its id", _ACTIVITY, "observed"),
    Rule("events newest first, 30 days, at most 100 a page, with next_token", _LOOKUP, "documented", SDK),
    Rule("a page token is base 32 (hex) of at least 16 characters", _OPENAPI, "documented", DOCUMENT),
    Rule("fields, expansions and other parameters that are not in the document are refused with invalid-request",
         _OPENAPI, "documented", DOCUMENT),
    Rule("sender, participants and posts are shown where they are expanded", _OPENAPI, "documented", SDK),
    Rule("a conversation of two is named by both ids, the smaller first; a group by an id of its own", _LOOKUP,
         "documented", SDK),
    Rule("people who join and leave a group are events", _LOOKUP, "documented", SDK),
    Rule("& < > in texts are written as in HTML", "github.com/TwidereProject/Twidere-Android/issues/653, read 2026-11",
         "observed"),
    Rule("an address in a text becomes a t.co link, and so does a file", _ACCOUNT, "documented"),
    Rule("a file of a message lies at ton.twitter.com and is fetched by /2/dm_conversations/media", _CODE, "observed",
         SDK),
    Rule("15 reads of /2/dm_events in 15 minutes for each user, 75 of /2/users/me, 300 of mentions", _LIMITS,
         "documented"),
    Rule("every answer has x-rate-limit-limit, -remaining, -reset; beyond them 429", _LIMITS, "documented", SDK),
    Rule("errors are problem+json with type, title, detail, status", _ERRORS, "documented", SDK),
    Rule("a user's token lives 7200 s; then 401", _OAUTH, "documented", SDK),
    Rule("a refresh token brings a new pair, with Basic authentication of a confidential client", _OAUTH, "documented",
         SDK),
    Rule("a refresh token works once", _OAUTH, "observed"),
    Rule("a send goes to a conversation of two or to a group that we are in: 201; 403 to who takes no messages",
         _MANAGE, "documented", SDK),
    Rule("15 sends in 15 minutes", _LIMITS, "documented"),
    Rule("a send is not told apart from its repeat: both arrive", _MANAGE, "documented"),
    Rule("a message that the API sends comes back as dm.sent", _HOOKS, "documented"),
)  # fmt: skip
