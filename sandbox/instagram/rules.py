"""The rules that the stand-in of Instagram enforces, each with its source and the independent part that shows it.

Meta publishes no document of bodies that a machine can check, so most rules have no judge: its own SDK sends what it is
given and believes what it gets.
"""

from __future__ import annotations

from sandbox.base import Rule
from sandbox.meta import RULES as META_RULES

_PLATFORM = "developers.facebook.com/docs/instagram-platform"
_EVENTS = f"{_PLATFORM}/webhooks/examples, 2025-11-24"
_NEW = f"{_PLATFORM}/webhooks/new, read 2026-11"
_FIELDS = "developers.facebook.com/docs/graph-api/webhooks/reference/instagram, read 2026-11"
_READING = f"{_PLATFORM}/instagram-api-with-instagram-login/conversations-api, read 2026-11"
_MESSAGE = "developers.facebook.com/docs/graph-api/reference/message (v26.0), read 2026-11"
_TOKEN = f"{_PLATFORM}/reference/refresh_access_token, read 2026-11"
_PROFILE = "developers.facebook.com/docs/messenger-platform/instagram/features/user-profile, read 2026-11"
_PRIVATE = f"{_PLATFORM}/private-replies, 2026-06-30"
_SELF = f"{_PLATFORM}/self-messaging, 2026-03-15"
_SEND = "developers.facebook.com/docs/instagram-platform/instagram-api-with-instagram-login/messaging-api, read 2026-11"
_RATES = (
    "developers.facebook.com/documentation/business-messaging/messenger-platform/overview/rate-limiting, 2026-03-23"
)
_COURIER = "github.com/nyaruka/courier @350e935"
_DASHBOARD = "github.com/fazer-ai/chatwoot @6a5c0b5"
_SDK = "facebook-business 26.0.3, UnifiedThread"

RULES = (
    *META_RULES,
    Rule("with Instagram login webhooks are signed with the Instagram app's secret", _EVENTS, "documented"),
    Rule("an echo has sender and recipient swapped and comes in the field messages", _EVENTS, "documented"),
    Rule("an echo need not say which app sent it", "github.com/chatwoot/chatwoot #12055", "observed"),
    Rule("an unsent message is told by is_deleted under its mid, without content", _EVENTS, "documented"),
    Rule("a read event names one message by its mid", _EVENTS, "documented"),
    Rule("a reaction that is taken back has neither name nor emoji", _EVENTS, "documented"),
    Rule("a shared post came as share and ig_post at once, since 2026-04 as ig_post alone", _NEW, "documented"),
    Rule("a heart is an attachment like_heart without payload", _COURIER, "observed"),
    Rule("what the account does to itself has is_self", _SELF, "documented"),
    Rule("comments come in changes, with Instagram login also flat in the entry", _EVENTS, "documented"),
    Rule("a comment has no time of its own; the account's own has self_ig_scoped_id", _FIELDS, "documented"),
    Rule("a mention is told by ids alone", _FIELDS, "documented"),
    Rule("the test button of the dashboard sends changes[] for entry 0", _DASHBOARD, "observed"),
    Rule("conversations: newest first, cursors, no time filter", _READING, "documented", "facebook-business"),
    Rule("a conversation has a folder", _SDK, "observed", "facebook-business"),
    Rule("details of the 20 newest messages of a conversation, an error for the others", _READING, "documented"),
    Rule("that error is code 100, subcode 33", _READING, "assumed"),
    Rule("conversations in the Requests folder that are idle for 30 days are absent", _READING, "documented"),
    Rule("a reply takes a conversation out of the Requests folder", _READING, "assumed"),
    Rule("2 calls a second and account to conversations: code 613", _RATES, "documented"),
    Rule("a message has from, to, shares, story, is_unsupported", _MESSAGE, "documented"),
    Rule("with Instagram login the account has a second id, which its messages carry in from", _READING, "assumed"),
    Rule("a profile can be read once the person has written or pressed, else code 230", _PROFILE, "documented"),
    Rule("an Instagram user token ends after 60 days: code 190, subcode 463", _TOKEN, "documented"),
    Rule("it can be refreshed from its 25th hour on", _TOKEN, "documented"),
    Rule("the refusal of a younger one is code 190", _TOKEN, "assumed"),
    Rule("a refreshed token is another text, and the one before lasts to its own end", _TOKEN, "assumed"),
    Rule("a text has at most 1000 bytes of UTF-8", _SEND, "documented"),
    Rule("24 h after the person's last action, 7 days with HUMAN_AGENT: code 10, subcode 2534022", _SEND, "documented"),
    Rule("an unknown recipient: code 100, subcode 2534014", _SEND, "documented"),
    Rule("one private reply to a comment, within 7 days: code 10, subcode 2534025", _PRIVATE, "documented"),
)  # fmt: skip
