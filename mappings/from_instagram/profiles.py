"""The User Profile API's answer as evidence that carries the customer's name.

Source: developers.facebook.com/docs/messenger-platform/instagram/features/user-profile and .../instagram-platform/
instagram-api-with-instagram-login/messaging-api/user-profile (read 2026-11), documented: readable once the person has
written or pressed something; the picture's address dies within days; a username can change.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mappings.contact_points import clean_name
from mappings.fields import optional_text_of
from mappings.from_instagram.event import CHANNEL, handle_of
from mappings.ids import evidence_key
from mappings.records import Evidence, Profile


def profile_from_instagram(
    payload: Mapping[str, Any], account_id: str, igsid: str, *, observed_at: datetime, raw_ref: str
) -> Evidence | None:
    """Who the platform says an Instagram-scoped id is; ``None`` when it says neither name nor username.

    Args:
        payload: ``{"id": "8901", "name": "Mia Rossi", "username": "mia.rossi", "profile_pic": "https://..."}``.
        account_id: the account.
        igsid: whom was asked for.
        observed_at: when.
        raw_ref: where the answer came from.

    Raises:
        MissingFieldError: a field has the wrong type.
    """
    where = "Instagram profile"
    name = clean_name(optional_text_of(payload, "name", where))
    username = clean_name(optional_text_of(payload, "username", where))
    if name is None and username is None:
        return None
    return Evidence(
        evidence_key=evidence_key(CHANNEL, account_id, "profile", igsid),
        method="profile",
        strength="verified",
        channel=CHANNEL,
        account=account_id,
        handles=[handle_of(account_id, igsid)],
        observed_at=observed_at,
        profile=Profile(name=name, username=username, picture_url=optional_text_of(payload, "profile_pic", where)),
        raw_ref=raw_ref,
    )
