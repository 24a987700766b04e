"""What Messenger and Instagram have in common: times and files of the Conversations API, and what buttons give away.

Source: developers.facebook.com/docs/graph-api/reference/message (v26.0, read 2026-11), documented; the members of an
attachment beside its URL are assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from mappings.contact_points import normalize_email, normalize_phone
from mappings.errors import MissingFieldError
from mappings.fields import optional_object_of, optional_text_of
from mappings.records import Attachment, Handle

DASHBOARD_TEST_ID = "0"
"""``entry.id`` of what the app dashboard's Test button sends (observed: github.com/fazer-ai/chatwoot @6a5c0b5)."""

AD_REFERRAL = ("ref", "source", "type", "ad_id", "referer_uri", "ads_context_data", "product")
"""What a referral tells of the ad, link or product that a chat came from, in the vendor's order."""


def moment_of_graph(value: Any, name: str, where: str) -> datetime:
    """A time as Graph writes it (``2026-03-01T19:11:07+0000``)."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        msg = f"{where}: {name} is not a time"
        raise MissingFieldError(msg) from None
    if moment.tzinfo is None:
        msg = f"{where}: {name} has no time zone"
        raise MissingFieldError(msg)
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # the first and the last day that there is, in another time zone
        msg = f"{where}: {name} is not a time"
        raise MissingFieldError(msg) from None


def attachment_of_graph(one: Mapping[str, Any], where: str) -> Attachment:
    """An attachment of the Conversations API: where its bytes are depends on its kind.

    `one`: ``{"id": "1", "mime_type": "image/jpeg", "image_data": {"url": "https://..."}}``; or ``video_data``, or
    ``file_url``.
    """
    mime_type = optional_text_of(one, "mime_type", where)
    size = one.get("size")
    image = optional_object_of(one, "image_data", where)
    video = optional_object_of(one, "video_data", where)
    data = image or video or {}
    family = (mime_type or "").partition("/")[0]
    kind: Literal["image", "video", "audio", "file", "sticker"] = "file"
    if image is not None:
        kind = "sticker" if image.get("render_as_sticker") is True else "image"
    elif video is not None:
        kind = "video"
    elif family == "audio":
        kind = "audio"
    return Attachment(
        kind=kind,
        platform_media_id=optional_text_of(one, "id", where),
        url=optional_text_of(data, "url", where) or optional_text_of(one, "file_url", where),
        mime_type=mime_type,
        filename=optional_text_of(one, "name", where),
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63 else None,
    )


def given_contact(text: str | None, payload: str | None) -> Handle | None:
    """The phone or address that the buttons ``user_phone_number`` and ``user_email`` put into text and payload.

    Meta proposes what it knows of the customer, but the customer may send any other; so it is *claimed* only.
    """
    if payload is None or text not in {None, payload}:
        return None
    email = normalize_email(payload)
    if email:
        return Handle(kind="email", value=email)
    phone = normalize_phone(payload) if payload.startswith("+") else None
    return Handle(kind="phone", value=phone) if phone else None
