"""Instagram's codes as tables, in the vendor's order, so that they can be ticked off against the vendor's pages.

Source: developers.facebook.com/docs/instagram-platform/webhooks/examples (2025-11-24) and .../webhooks/new (ig_post,
read 2026-11), documented, where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

FILES: Mapping[str, Literal["image", "video", "audio", "file"]] = {
    "audio": "audio",
    "file": "file",
    "image": "image",
    "media": "file",
    "video": "video",
    "ig_reel": "video",
    "reel": "video",
    "story_mention": "file",
    "story": "file",
    "ig_story": "file",
}
"""``attachments[].type`` that is a file. GIFs and stickers come as ``image``; a story is a picture or a film, which
its type does not tell."""

SHARES = frozenset(
    {"share", "ig_post", "ig_reel", "reel", "story", "ig_story", "story_mention", "template", "fallback"}
)
"""``attachments[].type`` that points at something on Instagram or elsewhere. ``share`` ended between 2026-02 and
2026-04; until then a shared post came as ``share`` and as ``ig_post``. ``template`` is what an app sent."""

REACTIONS: Mapping[str, str | None] = {
    "angry": "😠",
    "sad": "😢",
    "wow": "😮",
    "love": "❤",
    "like": "👍",
    "laugh": "😆",
    "other": None,
}
"""``reaction.reaction`` -> emoji, for when ``emoji`` is absent. The pictures are assumed."""

IGNORED = frozenset({
    "pass_thread_control",
    "take_thread_control",
    "request_thread_control",
    "pass_thread_metadata",
    "app_roles",
    "policy_enforcement",
    "response_feedback",
    "story_insights",
})  # fmt: skip
"""Kinds without a record: who answers the thread, what Meta thinks of the account, statistics. They are counted."""
