"""The rules that the stand-in of Messenger enforces, each with its source and the independent part that shows it.

Meta publishes no document of bodies that a machine can check, so most rules have no judge: its own SDK sends what it is
given and believes what it gets.
"""

from __future__ import annotations

from sandbox.base import Rule
from sandbox.meta import RULES as META_RULES

_DOCS = "developers.facebook.com/documentation/business-messaging/messenger-platform"
_EVENTS = f"{_DOCS}/webhooks/webhook-events, copy of mid-2026"
_SEND = f"{_DOCS}/send-messages and /saving-assets, 2026-04-22"
_POLICY = f"{_DOCS}/policy, 2026-09-28"
_TAGS = f"{_DOCS}/send-messages/message-tags and /changelog, undated copy"
_ERRORS = f"{_DOCS}/error-codes, 2026-03-18"
_READING = f"{_DOCS}/conversations, 2026-02-11"
_RATES = f"{_DOCS}/overview/rate-limiting, 2026-03-23"
_FEED = "developers.facebook.com/docs/graph-api/webhooks/reference/page, read 2026-11"
_COURIER = "github.com/nyaruka/courier @350e935"
_DASHBOARD = "github.com/fazer-ai/chatwoot @6a5c0b5"
_ROUTING = f"{_DOCS}/conversation-routing, third-party notes of 2026-07-12"

RULES = (
    *META_RULES,
    Rule("a send is JSON or a form with JSON in its fields", _SEND, "documented", "facebook-business"),
    Rule("an answer has recipient_id and message_id", _SEND, "documented", "facebook-business"),
    Rule("messaging_type is RESPONSE, UPDATE or MESSAGE_TAG; RESPONSE when absent", _SEND, "assumed"),
    Rule("HUMAN_AGENT is the only tag left, the others are code 100 since 2026-04-27", _TAGS, "documented"),
    Rule("24 h after the person's last action: code 10, subcode 2018278", _ERRORS, "documented"),
    Rule("with HUMAN_AGENT 7 days", _POLICY, "documented"),
    Rule("a text has at most 2000 characters, metadata 1000, 13 quick replies, 30 images", _SEND, "documented"),
    Rule("an unknown recipient: code 100, subcode 2018001", _ERRORS, "assumed"),
    Rule("somebody who blocked the page: code 551, subcode 1545041", _ERRORS, "documented"),
    Rule("what we send comes back as an echo with app_id and metadata", _EVENTS, "documented"),
    Rule("a delivery event has mids and a watermark, no timestamp", _EVENTS, "documented"),
    Rule("a read event has a watermark only", _EVENTS, "documented"),
    Rule("an answer in the page inbox is an echo of another app id", _EVENTS, "documented"),
    Rule("with routing the inbox takes the thread, we get standby and may not send", _ROUTING, "assumed"),
    Rule("a postback in standby has no payload", _EVENTS, "documented"),
    Rule("at most 5 edits of a message; num_edit counts them", _EVENTS, "observed"),
    Rule("timestamps are milliseconds, at times seconds", _COURIER, "observed"),
    Rule("the test button of the dashboard sends changes[] and a text timestamp", _DASHBOARD, "observed"),
    Rule("conversations: newest first, cursors, no time filter", _READING, "documented", "facebook-business"),
    Rule("details of the 20 newest messages of a conversation, an error for the others", _READING, "documented"),
    Rule("that error is code 100, subcode 33", _READING, "assumed"),
    Rule("conversations in the Requests folder that are idle for 30 days are absent", _READING, "documented"),
    Rule("a conversation has a folder", "facebook-business 26.0.3, UnifiedThread", "observed", "facebook-business"),
    Rule("comments on the page's posts come in changes, field feed, with seconds", _FEED, "documented"),
    Rule("2 calls a second and page to conversations: code 613", _RATES, "documented"),
    Rule("300 sends a second: code 613", _RATES, "documented"),
)
