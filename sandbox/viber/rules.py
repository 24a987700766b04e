"""The rules that the stand-in of Viber enforces, each with its source and the independent part that shows it.

Viber publishes no document of bodies that a machine can check; its own SDK is the only judge.
"""

from __future__ import annotations

from sandbox.base import Rule

_REST = "developers.viber.com/docs/api/rest-bot-api, read 2026-11"
_FAQ = "developers.viber.com/docs/faq, read 2026-11"
_CREATORS = "creators.viber.com/docs/bots-api, read 2026-11"
_SDK = "github.com/viber/viber-bot-python @5cfe34e, read 2026-11"
_INFOBIP = "infobip.com/docs/viber/bots/message-types, read 2026-11"
_DUPLICATES = "github.com/Bogdaan/viber-bot-php #37, read 2026-11"

SDK = "viberbot"

RULES = (
    Rule("a delivery is signed: X-Viber-Content-Signature is hex HMAC-SHA256 with the token over the raw bytes", _REST,
         "documented", SDK),
    Rule("one event in a delivery", _REST, "documented", SDK),
    Rule("set_webhook posts an event webhook, and without a 200 to it answers status 1", _REST,
         "documented", SDK),
    Rule("the timestamp of the event webhook is no time", _SDK, "observed", SDK),
    Rule("one webhook for a bot; an empty address takes it away", _FAQ, "documented", SDK),
    Rule("event_types choose among delivered, seen, failed, subscribed, unsubscribed, conversation_started", _REST,
         "documented", SDK),
    Rule("a message token is a 64-bit number", _REST, "documented", SDK),
    Rule("what was not answered 200 comes again several times within an hour", _FAQ, "documented"),
    Rule("how many times is not told; here 6", _FAQ, "assumed"),
    Rule("an answer that takes 5 s brings the event twice", _DUPLICATES, "observed"),
    Rule("delivered also comes for what the customer wrote", _REST, "documented", SDK),
    Rule("seen names the message alone", _REST, "documented", SDK),
    Rule("a first message subscribes without an event subscribed", _REST, "documented"),
    Rule("conversation_started is no subscription", _REST, "documented", SDK),
    Rule("unsubscribed names the user id alone", _REST, "documented", SDK),
    Rule("every answer is 200 with status and status_message; 0 is good", _REST, "documented", SDK),
    Rule("the token is in X-Viber-Auth-Token, or in the body as auth_token; else status 2", _REST, "documented", SDK),
    Rule("a send wants a subscribed receiver: status 5 unknown, 6 not subscribed", _REST, "documented", SDK),
    Rule("a send wants a sender's name of at most 28 characters and a known type", _REST, "documented", SDK),
    Rule("a text has at most 7000 characters, tracking_data 4000, a request 30 kB", _REST, "documented", SDK),
    Rule("a file name has at most 256 characters, a file 50 MB, a video 26 MB with its size", _INFOBIP, "documented"),
    Rule("100 messages an hour to somebody who does not answer, then status 12", _CREATORS, "documented"),
    Rule("a send is not told apart from its repeat: both arrive", _REST, "documented"),
    Rule("tracking_data of the last send comes back with the customer's next message", _REST, "documented", SDK),
    Rule("details of a user: twice in 12 hours, then status 12", _REST, "documented", SDK),
    Rule("online status of at most 100 users", _CREATORS, "documented", SDK),
    Rule("the address of a file in a message works without a token; for an hour here", _REST, "assumed"),
)  # fmt: skip
