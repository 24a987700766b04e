"""The rules that the stand-in of Apple enforces, each with its source and the independent part that shows it.

A judge of ``pyjwt`` means that PyJWT reads the tokens that are made here by hand, and makes those that are read here.
"""

from __future__ import annotations

from sandbox.base import Rule

_SPECS = "register.apple.com/resources/messages/msp-rest-api/common-specs, read 2026-11"
_RECEIVED = "register.apple.com/resources/messages/msp-rest-api/messages-received, read 2026-11"
_SENT = "register.apple.com/resources/messages/msp-rest-api/messages-sent, read 2026-11"
_API = "developer.apple.com/documentation/businesschatapi, read 2026-11"
_CODE = "public code that fetches files of real traffic, read 2026-11"
_TWICE = "github.com/rhapsfx/chatwoot-amb, DUPLICATE_WEBHOOK_FIX.md, read 2026-11"

RULES = (
    Rule("a post carries a Bearer token: HS256 by the decoded secret, aud the provider, iat now", _API, "documented",
         "pyjwt"),
    Rule("our calls carry one with iss the provider, else 401; a wrong one is 403", _API, "documented", "pyjwt"),
    Rule("a post has the headers id, source-id, destination-id, capability-list, device-agent", _SPECS, "documented"),
    Rule("a body may be compressed", _SPECS, "documented"),
    Rule("a message tells no time", _RECEIVED, "documented"),
    Rule("types: text, interactive, typing_start, typing_end, close", _RECEIVED, "documented"),
    Rule("a tapback is a text", _RECEIVED, "documented"),
    Rule("after close nothing is taken until the customer writes: 404", _API, "documented"),
    Rule("a text has U+FFFC for each file", _API, "documented"),
    Rule("a file is encrypted with AES-256-CTR from zero; its key has a leading 00", _API, "documented"),
    Rule("GET /preDownload wants source-id, url, owner, signature and tells download-url", _API, "documented"),
    Rule("the signature of /preDownload is base64", _CODE, "observed"),
    Rule("a message wants id, source-id and destination-id in headers and body, and a type: 400", _SENT, "documented"),
    Rule("an answer can come twice under two ids and one sessionIdentifier", _TWICE, "observed"),
    Rule("an answer over 10 KB is a reference", _RECEIVED, "documented"),
    Rule("a post that was not taken is not repeated", _API, "assumed"),
    Rule("the download address is good for five minutes", _API, "assumed"),
)  # fmt: skip
