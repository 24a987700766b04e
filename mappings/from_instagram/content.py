"""What the attachments of an Instagram message say: files, shared posts and stories, and what cannot be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mappings.fields import chosen, objects_of, optional_object_of, optional_text_of, storable, text_of
from mappings.from_instagram.codes import FILES, SHARES
from mappings.records import Attachment, MessageKind

_SHARE = ("title", "url", "id", "ig_post_media_id", "reel_video_id", "product", "generic", "template_type", "elements",
          "buttons", "text")  # fmt: skip


@dataclass(slots=True)
class Said:
    """What the attachments of a message say; `kind` is that of the first. `story_mention`: it mentions the account."""

    kind: MessageKind | None = None
    attachments: list[Attachment] = field(default_factory=list)
    content: dict[str, Any] = field(default_factory=dict)
    story_mention: dict[str, Any] | None = None


def said_in(part: Mapping[str, Any], where: str) -> Said:
    """Read ``attachments`` of a message."""
    said = Said()
    rows = objects_of(part, "attachments", where)
    posts = {_post_of(one) for one in rows if one.get("type") == "ig_post"} - {None}
    for one in rows:
        kind = text_of(one, "type", where)
        payload = optional_object_of(one, "payload", where) or {}
        if kind == "share" and _post_of(one) in posts:
            continue  # the same post once more, in the form that went away in 2026
        url = optional_text_of(payload, "url", where)
        if kind == "like_heart":  # it has no payload (observed: github.com/nyaruka/courier @350e935)
            said.kind = said.kind or "sticker"
            said.content["sticker"] = "like_heart"
        elif kind not in FILES and kind not in SHARES:
            said.kind = said.kind or ("text" if part.get("text") else "unsupported")
            said.content.setdefault("unsupported", []).append(storable(kind[:60]))
        else:
            if kind in FILES:
                said.kind = said.kind or FILES[kind]
                said.attachments.append(Attachment(kind=FILES[kind], url=url))
            if kind in SHARES:
                said.kind = said.kind or ("template" if kind == "template" else "text")
                share = {"type": kind, **chosen(one, ("title", "url")), **chosen(payload, _SHARE)}
                said.content.setdefault("shares", []).append(share)
            if kind == "story_mention":
                said.story_mention = {"type": kind, **chosen(payload, ("id", "url"))}
    if part.get("is_unsupported") is True:
        said.kind = said.kind or "unsupported"
        said.content.setdefault("unsupported", []).append("is_unsupported")
    return said


def _post_of(one: Mapping[str, Any]) -> str | None:
    """The post that an attachment shows: its media id, else its address."""
    payload = one.get("payload")
    found = (payload.get("ig_post_media_id") or payload.get("url")) if isinstance(payload, dict) else None
    return found if isinstance(found, str) else None
