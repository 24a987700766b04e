"""What a message of Chatwoot's says: its kind, its files, what is no file, an answer in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from mappings.contact_points import clean_name
from mappings.errors import MissingFieldError
from mappings.fields import chosen, objects_of, optional_text_of, storable
from mappings.from_chatwoot.codes import CONTENT_TYPES, FILE_TYPES
from mappings.records import Attachment, MessageKind


def kind_of(
    raw: Mapping[str, Any],
    text: str | None,
    attachments: list[Attachment],
    more: dict[str, Any],
    attributes: Mapping[str, Any],
    where: str,
) -> tuple[MessageKind, dict[str, Any]]:
    """What kind of message it is, and what its text does not say."""
    if attributes.get("deleted"):
        return "text", {"deleted": True}
    name = optional_text_of(raw, "content_type", where) or "text"
    known = CONTENT_TYPES.get(name)
    content = dict(more)
    if known not in {"text", "sticker"}:
        content |= {"type": name[:60], **chosen(attributes, ("items",))}
    if known is None:
        return "unsupported", content
    if known != "text":
        return known, content
    if attachments:
        return attachments[0].kind, content
    if "latitude" in more:
        return "location", content
    if "contacts" in more:
        return "contacts", content
    if text is None and (content or attributes.get("is_unsupported")):
        return "unsupported", content
    return "text", content


def files_of(raw: Mapping[str, Any], where: str) -> tuple[list[Attachment], dict[str, Any]]:
    """The files of a message, and the attachments that are none: a place, a contact, a link."""
    files: list[Attachment] = []
    more: dict[str, Any] = {}
    for one in objects_of(raw, "attachments", where):
        name = optional_text_of(one, "file_type", where) or "file"
        url = optional_text_of(one, "data_url", where)
        if name in FILE_TYPES:
            files.append(_file(one, FILE_TYPES[name], url))
        elif name == "location":
            more |= _place(one, where)
        elif name == "contact":
            more.setdefault("contacts", []).append(storable(chosen(one, ("fallback_title", "meta"))))
        else:
            link = {"type": name[:60], "title": optional_text_of(one, "fallback_title", where), "url": url}
            more.setdefault("links", []).append({key: value for key, value in link.items() if value})
    return files, more


def _file(raw: Mapping[str, Any], kind: Literal["image", "video", "audio", "file"], url: str | None) -> Attachment:
    size = raw.get("file_size")
    number = raw.get("id")
    return Attachment(
        kind=kind,
        platform_media_id=str(number) if is_number(number) else None,
        url=url,
        filename=_filename_of(url),
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
    )


def _filename_of(url: str | None) -> str | None:
    """The last part of the address: Chatwoot's storage puts the file's name there."""
    try:
        name = unquote(urlsplit(url or "").path.rpartition("/")[2])
    except ValueError:
        return None
    return clean_name(name) if "." in name else None


def _place(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    place: dict[str, Any] = {}
    for theirs, ours, limit in (("coordinates_lat", "latitude", 90), ("coordinates_long", "longitude", 180)):
        value = raw.get(theirs)
        if not isinstance(value, int | float) or isinstance(value, bool) or not -limit <= value <= limit:
            msg = f"{where}: {theirs} is not a number between -{limit} and {limit}"
            raise MissingFieldError(msg)
        place[ours] = value
    name = optional_text_of(raw, "fallback_title", where)
    return {**place, **({"name": name} if name else {})}


def words_of(told: Mapping[str, Any]) -> str | None:
    """An answer as a person would read it: titles of what was chosen, values of what was entered."""
    email = told.get("submitted_email")
    if isinstance(email, str):
        return email
    values = told.get("submitted_values")
    survey = told.get("csat_survey_response") or (isinstance(values, dict) and values.get("csat_survey_response"))
    if isinstance(survey, dict):
        feedback = survey.get("feedback_message")
        return feedback if isinstance(feedback, str) and feedback else None
    rows = values if isinstance(values, list) else [values]
    words = [row.get("title") or row.get("value") for row in rows if isinstance(row, dict)]
    return ", ".join(str(word) for word in words if isinstance(word, str | int)) or None


def is_number(value: Any) -> bool:
    """Whether a value is an id as Chatwoot numbers things."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
