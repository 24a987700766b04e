"""What a direct message or a post of X says: words as they were typed, files, shared posts.

Sources: github.com/xdevplatform/docs @2871328, x-api/direct-messages/lookup/integrate.mdx (fields and expansions),
x-api/account-activity/introduction.mdx (message_data), and openapi.json 2.167 of github.com/xdevplatform/xdk @84c2654,
read 2026-11, documented. Observed in public code that keeps real payloads: the node of an attachment in a webhook, and
that media of a message lies at ``https://ton.twitter.com/1.1/ton/data/dm/<message>/<media>/<file>``; that X writes
``&``, ``<`` and ``>`` in texts as in HTML (github.com/TwidereProject/Twidere-Android/issues/653; assumed for v2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mappings.errors import MissingFieldError
from mappings.fields import chosen, id_of, objects_of, optional_object_of, optional_text_of, storable
from mappings.records import Attachment, MessageKind

FileKind = Literal["image", "video", "audio", "file"]

MEDIA_TYPES: Mapping[str, FileKind] = {
    "photo": "image",
    "video": "video",
    "animated_gif": "video",
    "audio": "audio",
}
"""``type`` of a media object -> kind; any other is a file."""

MEDIA_KEYS: Mapping[str, FileKind] = {"3": "image", "7": "video", "13": "video", "16": "video"}
"""What stands before ``_`` in a media key -> kind, for media that came without its object (observed)."""

_OWN_MEDIA_LINKS = ("/messages/media/", "/i/dm_media/")


@dataclass(slots=True)
class Content:
    """What somebody wrote, in our words."""

    kind: MessageKind
    text: str | None = None
    attachments: list[Attachment] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def content_of_pushed(data: Mapping[str, Any], where: str, *, escaped: bool) -> Content:
    """What ``message_data`` of a webhook says.

    `data`: ``{"text": "Look https://t.co/a", "entities": {"urls": [{"url": "https://t.co/a", "expanded_url": ...}]},
    "attachment": {"type": "media", "media": {"id_str": "9", "type": "photo", "media_url_https": ...}}}``.
    """
    attachments: list[Attachment] = []
    details: dict[str, Any] = {}
    own_links: list[str] = []
    attachment = optional_object_of(data, "attachment", where)
    if attachment is not None:
        name = optional_text_of(attachment, "type", where)
        media = optional_object_of(attachment, "media", where) if name == "media" else None
        if media is not None:
            attachments = [_pushed_media(media, where)]
            own_links = [link for link in [optional_text_of(media, "url", where)] if link]
        else:
            details["unsupported"] = [storable(name or "attachment")[:60]]
    details |= chosen(data, ("quick_reply_response",))
    text = _words(data, own_links, where, escaped=escaped)
    return _content(text, attachments, details)


def content_of_read(
    event: Mapping[str, Any], includes: Mapping[str, Any], where: str, *, escaped: bool, text_field: str = "text"
) -> Content:
    """What an event of ``/2/dm_events``, or a post, says; objects that it names are in `includes`.

    `event`: ``{"text": "Look", "attachments": {"media_keys": ["3_9"]}, "referenced_posts": [{"id": "7"}]}``; X is about
    to rename ``referenced_tweets`` to ``referenced_posts``, and both are taken.
    """
    files = optional_object_of(event, "attachments", where) or {}
    media = {optional_text_of(one, "media_key", where): one for one in objects_of(includes, "media", where)}
    keys = _texts(files.get("media_keys"), "media_keys", where)
    attachments = [_read_media(key, media.get(key, {}), where) for key in keys]
    details: dict[str, Any] = {}
    cards = _texts(files.get("card_ids"), "card_ids", where)
    if cards:
        details["cards"] = cards
    shared = [_shared_post(one, includes, where) for one in referenced(event, where)]
    if shared:
        details["posts"] = shared
    return _content(_words(event, [], where, escaped=escaped, name=text_field), attachments, details)


def referenced(event: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The posts that an event or a post names, under the new name or the old one."""
    return objects_of(event, "referenced_posts", where) or objects_of(event, "referenced_tweets", where)


def address_of_post(post_id: str) -> str:
    """Where a post is for people."""
    return f"https://x.com/i/status/{post_id}"


def _content(text: str | None, attachments: list[Attachment], details: dict[str, Any]) -> Content:
    kind: MessageKind = "text"
    if attachments:
        kind = attachments[0].kind
    elif "unsupported" in details:
        kind = "unsupported"
    elif text is None and not details:
        kind, details = "unsupported", {"unsupported": ["message without words"]}
    elif "quick_reply_response" in details:
        kind = "answer"
    return Content(kind, text, attachments, details)


def _words(
    part: Mapping[str, Any], own_links: Iterable[str], where: str, *, escaped: bool, name: str = "text"
) -> str | None:
    """The text as it was typed: X puts a short link in place of each address, and one more for a file."""
    text = optional_text_of(part, name, where)
    if text is None:
        return None
    entities = optional_object_of(part, "entities", where) or {}
    for entity in objects_of(entities, "urls", where):
        short, long = optional_text_of(entity, "url", where), optional_text_of(entity, "expanded_url", where)
        if short is None or long is None:
            continue
        ours = any(mark in long for mark in _OWN_MEDIA_LINKS) or short in own_links or "media_key" in entity
        text = text.replace(short, "" if ours else long)
    for link in own_links:
        text = text.replace(link, "")
    if escaped:
        text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return text.strip() or None


def _pushed_media(media: Mapping[str, Any], where: str) -> Attachment:
    name = optional_text_of(media, "type", where)
    media_id = optional_text_of(media, "id_str", where) or id_of(media, "id", where)
    video = optional_object_of(media, "video_info", where) or {}
    best = _best(objects_of(video, "variants", where), "bitrate", where)
    url = optional_text_of(media, "media_url_https", where) or optional_text_of(media, "media_url", where)
    return Attachment(
        kind=MEDIA_TYPES.get(name or "", "file"),
        platform_media_id=media_id,
        url=best.get("url") or url,
        mime_type=best.get("content_type"),
    )


def _read_media(key: str, media: Mapping[str, Any], where: str) -> Attachment:
    name = optional_text_of(media, "type", where)
    prefix, _, media_id = key.rpartition("_")
    best = _best(objects_of(media, "variants", where), "bit_rate", where)
    return Attachment(
        kind=MEDIA_TYPES.get(name, "file") if name else MEDIA_KEYS.get(prefix, "file"),
        platform_media_id=media_id or key,
        url=best.get("url") or optional_text_of(media, "url", where),
        mime_type=best.get("content_type"),
    )


def _best(variants: list[dict[str, Any]], rate: str, where: str) -> dict[str, str]:
    """The variant of a video with the highest rate that is one file (a playlist has none)."""
    whole = [one for one in variants if optional_text_of(one, "content_type", where) == "video/mp4"]
    rates = [value if isinstance(value := one.get(rate), int) else 0 for one in whole]
    if not whole:
        return {}
    found = whole[rates.index(max(rates))]
    return {name: text for name in ("url", "content_type") if (text := optional_text_of(found, name, where))}


def _shared_post(reference: Mapping[str, Any], includes: Mapping[str, Any], where: str) -> dict[str, Any]:
    post_id = id_of(reference, "id", where)
    posts = objects_of(includes, "posts", where) or objects_of(includes, "tweets", where)
    post = next((one for one in posts if one.get("id") == post_id), {})
    return {
        "id": post_id,
        "url": address_of_post(post_id),
        **chosen(reference, ("type",)),
        **chosen(post, ("author_id", "text")),
    }


def _texts(value: Any, name: str, where: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        msg = f"{where}: {name} is not a list of texts"
        raise MissingFieldError(msg)
    return [storable(one) for one in value]
