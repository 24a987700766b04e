"""What a Slack message says: text, files, forwarded messages.

Shapes: docs.slack.dev/reference/objects/file-object (``mode``, ``file_access``, ``is_external``), docs.slack.dev/apis/
slack-connect (files of others come as ``check_file_info``), read 2026-11, documented; ``is_share``,
``is_msg_unfurl`` and ``slack_audio`` are observed in the type definitions of Slack's SDKs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mappings.fields import chosen, objects_of, optional_text_of
from mappings.from_slack.codes import CALLS, CONTENT
from mappings.from_slack.text import plain_text, text_of_blocks
from mappings.records import Attachment, MessageKind

_GONE = {"tombstone", "hidden_by_limit"}
_SHARED = ("author_name", "author_id", "from_url", "channel_id", "ts", "text", "fallback")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a message says; `details` is what text cannot say."""

    kind: MessageKind
    text: str | None = None
    attachments: list[Attachment] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def content_of(body: Mapping[str, Any], where: str) -> Content:
    """The content of a message with one of the subtypes in `CONTENT` or `CALLS`, or none.

    Any other subtype gives kind ``unsupported`` with its name: the message exists, so it must be seen.

    Raises:
        MissingFieldError: a field has the wrong type.
    """
    subtype = optional_text_of(body, "subtype", where)
    text = text_of_message(body, where)
    if subtype in CALLS:
        return Content(kind="call", text=text, details={"type": subtype})
    if subtype is not None and subtype not in CONTENT:
        return Content(kind="unsupported", text=text, details={"type": short_name(subtype)})
    files = objects_of(body, "files", where)
    gone = [one for one in files if optional_text_of(one, "mode", where) in _GONE]
    attachments = [_attachment(one, where) for one in files if one not in gone]
    shared = [one for one in objects_of(body, "attachments", where) if one.get("is_share") is True]
    details: dict[str, Any] = {}
    if gone:
        details["files_gone"] = [chosen(one, ("id", "mode")) for one in gone]
    if shared:
        details["shared"] = [chosen(one, _SHARED) for one in shared]
    kind: MessageKind = "text" if text else attachments[0].kind if attachments else "unsupported"
    if kind == "unsupported" and shared:
        kind, text = "text", plain_text(_first_text(shared, where))
    if kind == "unsupported":
        details.setdefault("type", subtype or "empty")
    flags = (
        *(("forwarded",) if shared else ()),
        *(("broadcast",) if subtype in {"thread_broadcast", "reply_broadcast"} else ()),
    )
    return Content(kind=kind, text=text, attachments=attachments, details=details, flags=flags)


def text_of_message(body: Mapping[str, Any], where: str) -> str | None:
    """The words of a message: its text, else those of its blocks, else of an app's attachments."""
    text = plain_text(optional_text_of(body, "text", where)) or text_of_blocks(body.get("blocks"))
    if text is not None:
        return text
    said = [one for one in objects_of(body, "attachments", where) if one.get("is_share") is not True]
    return plain_text(_first_text(said, where))


def short_name(value: Any) -> str:
    """A code of Slack's, fit for a message or a log: short and of harmless characters."""
    return re.sub(r"[^\w.-]", "?", str(value))[:60]


def _first_text(attachments: list[dict[str, Any]], where: str) -> str | None:
    for one in attachments:
        for name in ("text", "fallback", "pretext", "title"):
            text = optional_text_of(one, name, where)
            if text:
                return text
    return None


def _attachment(one: Mapping[str, Any], where: str) -> Attachment:
    """A file. Of one that another organisation shared, only the id may be there; ``files.info`` tells the rest."""
    mime_type = optional_text_of(one, "mimetype", where)
    size = one.get("size")
    url = optional_text_of(one, "url_private_download", where) or optional_text_of(one, "url_private", where)
    kind: Literal["image", "video", "audio", "file"] = "file"
    family = (mime_type or "").partition("/")[0]
    if family == "image":
        kind = "image"
    elif one.get("subtype") == "slack_audio" or family == "audio":  # a voice clip comes as video/mp4 or audio/mp4
        kind = "audio"
    elif family == "video":
        kind = "video"
    return Attachment(
        kind=kind,
        platform_media_id=optional_text_of(one, "id", where),
        url=url,
        mime_type=mime_type,
        filename=optional_text_of(one, "name", where) or optional_text_of(one, "title", where),
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63 else None,
    )
