"""Messenger's codes as tables, in the vendor's order, so that they can be ticked off against the vendor's pages.

Source: developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks/webhook-events/* (copies of
mid-2026), documented, where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mappings.records import MessageKind

FILES: Mapping[str, Literal["image", "video", "audio", "file", "sticker"]] = {
    "image": "image",
    "audio": "audio",
    "video": "video",
    "file": "file",
    "sticker": "sticker",
    "reel": "video",
    "ig_reel": "video",
}
"""``attachments[].type`` that is a file. Until 2026-08-30 a sticker came as ``image`` with a ``sticker_id``."""

SHARES: Mapping[str, MessageKind] = {
    "post": "text",
    "ig_post": "text",
    "appointment_booking": "form",
    "template": "template",
    "fallback": "text",
    "location": "location",
}
"""``attachments[].type`` that is a link or a form; ``location`` is of the past (observed)."""

LIKES = frozenset({369239263222822, 369239343222814, 369239383222810})
"""Stickers that are the thumb in three sizes (observed: sticker ids in public handlers)."""

REACTIONS: Mapping[str, str | None] = {
    "smile": "😆",
    "angry": "😠",
    "sad": "😢",
    "wow": "😮",
    "love": "❤",
    "like": "👍",
    "dislike": "👎",
    "other": None,
}
"""``reaction.reaction`` -> emoji, for when ``emoji`` is absent. The pictures are assumed."""

IGNORED = frozenset({
    "pass_thread_control",
    "take_thread_control",
    "request_thread_control",
    "app_roles",
    "policy_enforcement",
    "response_feedback",
    "feed",
})  # fmt: skip
"""Kinds without a record: who answers the thread, what Meta thinks of the page, posts and likes. They are counted."""
