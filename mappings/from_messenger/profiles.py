"""The User Profile API's answer as evidence that carries the customer's name.

Source: developers.facebook.com/docs/messenger-platform/identity/user-profile (fields first_name, last_name,
profile_pic; needs "Business Asset User Profile Access"), documented, read 2026-11.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mappings.contact_points import clean_name
from mappings.fields import optional_text_of
from mappings.ids import evidence_key
from mappings.records import Evidence, Handle, Profile


def profile_from_messenger(
    payload: Mapping[str, Any], page_id: str, psid: str, *, observed_at: datetime, raw_ref: str
) -> Evidence | None:
    """Who the platform says a page-scoped id is; ``None`` when it says no name.

    Args:
        payload: ``{"id": "6890", "first_name": "Mia", "last_name": "Rossi", "profile_pic": "https://..."}``.
        page_id: the page.
        psid: whom was asked for.
        observed_at: when.
        raw_ref: where the answer came from.

    Raises:
        MissingFieldError: a field has the wrong type.
    """
    where = "Messenger profile"
    parts = (optional_text_of(payload, "first_name", where), optional_text_of(payload, "last_name", where))
    name = clean_name(" ".join(part for part in parts if part))
    if name is None:
        return None
    return Evidence(
        evidence_key=evidence_key("messenger", page_id, "profile", psid),
        method="profile",
        strength="verified",
        channel="messenger",
        account=page_id,
        handles=[Handle(kind="messenger_psid", scope=page_id, value=psid)],
        observed_at=observed_at,
        profile=Profile(name=name, picture_url=optional_text_of(payload, "profile_pic", where)),
        raw_ref=raw_ref,
    )
