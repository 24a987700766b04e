"""Customers' files in HubSpot: how one is uploaded, and how notes and inbox messages name it. Pure.

Sources, read 2026-11: PublicApiSpecs/Files of github.com/HubSpot/HubSpot-public-api-spec-collection @9989379 (upload as
multipart: ``file``, ``fileName``, ``folderPath``, ``options``; access, and what a duplicate is answered with) and
PublicApiSpecs/Conversations (an attachment of kind FILE), developers.hubspot.com/docs/api-reference/crm-notes-v3/guide
(``hs_attachment_ids``, separated by semicolons), documented. That an upload's options take the duplicate handling of an
import: observed (github.com/luan-tavares/hubspot, github.com/HubspotCommunity/hubspot-ruby). By what HubSpot knows a
duplicate (name or content) is not documented: each message has a folder of its own, so that both mean the same file.
That agents can open a private file in the inbox and on a note: assumed.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping
from typing import Any

from mappings.contact_points import clean_name
from mappings.records import ArchivedMessage, Attachment
from mappings.to_hubspot import communication_reference

ATTACHMENT_IDS = "hs_attachment_ids"
"""The property that hangs files on a note. Of communications no page tells it: set-up looks for it."""

_OPTIONS: Mapping[str, str] = {
    "access": "PRIVATE",
    "duplicateValidationStrategy": "RETURN_EXISTING",
    "duplicateValidationScope": "EXACT_FOLDER",
}
_USAGES: Mapping[str, str] = {"image": "IMAGE", "sticker": "STICKER", "audio": "AUDIO"}


def file_form(
    message: ArchivedMessage, position: int, content: bytes, mime_type: str, folder: str
) -> list[tuple[str, Any]]:
    """The multipart fields that upload one attachment; the same again gives the file that is there.

    Args:
        message: whose it is; its reference is the name of its folder.
        position: of the attachment.
        content: the bytes.
        mime_type: what they are.
        folder: in which the message's folder is, e.g. ``/onethread``.
    """
    name = _file_name(message.attachments[position], position, mime_type)
    return [
        ("file", (name, content, mime_type)),
        ("fileName", name),
        ("folderPath", f"{folder.rstrip('/')}/{communication_reference(message.message_key)[:12]}"),
        ("options", json.dumps(dict(_OPTIONS))),
    ]


def inbox_attachments(message: ArchivedMessage, file_ids: Mapping[str, str]) -> list[dict[str, str]]:
    """The attachments of an inbox message; `file_ids`: media key -> id of the uploaded file."""
    return [
        {"type": "FILE", "fileId": file_ids[one.media_key], "fileUsageType": _USAGES.get(one.kind, "OTHER")}
        for one in message.attachments
        if one.media_key and one.media_key in file_ids
    ]


def _file_name(attachment: Attachment, position: int, mime_type: str) -> str:
    """With an ending: HubSpot takes only kinds of files that it knows."""
    name = (clean_name(attachment.filename, 150) or attachment.kind).replace("/", "_").replace("\\", "_")
    ending = mimetypes.guess_extension(mime_type) or ""
    return f"{position + 1}. {name}" + ("" if "." in name[1:] else ending)
