"""LINE's codes as tables, in the vendor's order, so that they can be ticked off against the vendor's document.

Source: github.com/line/line-openapi @6e4c2a2 webhook.yml (2026-07-01), documented, read 2026-11.
"""

from __future__ import annotations

from collections.abc import Mapping

from mappings.records import MessageKind

MESSAGE_KINDS: Mapping[str, MessageKind] = {
    "text": "text",
    "image": "image",
    "video": "video",
    "audio": "audio",
    "file": "file",
    "location": "location",
    "sticker": "sticker",
}
"""``message.type`` -> kind; any other is ``unsupported`` under its own name."""

GROUPS: Mapping[str, tuple[str, str]] = {"group": ("groupId", "line_group"), "room": ("roomId", "line_room")}
"""``source.type`` -> the field with the id of the chat, and the kind of handle that the chat itself is."""

IGNORED = frozenset({
    "verification",
    "join",
    "leave",
    "memberJoined",
    "memberLeft",
    "videoPlayComplete",
    "beacon",
    "membership",
    "module",
    "activated",
    "deactivated",
    "botSuspended",
    "botResumed",
    "delivery",
})  # fmt: skip
"""Kinds without a record: our bot's life, who is in a group, what a phone or a video player noticed. They are counted.

``verification`` is our word for a delivery without events.
"""

DUMMY_REPLY_TOKENS = frozenset({"0" * 32, "f" * 32})
"""What the console's Verify button once put into invented events (observed: line-bot-sdk-python #37, #188)."""
