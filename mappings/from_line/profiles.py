"""What LINE says of a customer when asked, as evidence that carries their name.

Source: github.com/line/line-openapi @6e4c2a2 messaging-api.yml (``/v2/bot/profile/{userId}``, ``/v2/bot/group/...``,
``/v2/bot/room/...``), documented, read 2026-11: ``language`` only with the customer's consent, none for group members.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mappings.contact_points import clean_name
from mappings.fields import optional_text_of
from mappings.from_line.event import CHANNEL
from mappings.ids import evidence_key
from mappings.records import Evidence, Handle, Profile


def profile_from_line(
    payload: Mapping[str, Any], account: str, customer: Handle, *, observed_at: datetime, raw_ref: str
) -> Evidence | None:
    """Who LINE says a user id is; ``None`` when it says no name.

    Args:
        payload: ``{"userId": "U12...", "displayName": "Yuki", "pictureUrl": "https://...", "language": "ja"}``.
        account: the bot.
        customer: whom was asked for.
        observed_at: when.
        raw_ref: where the answer came from.

    Raises:
        MissingFieldError: a field has the wrong type.
    """
    where = "LINE profile"
    name = clean_name(optional_text_of(payload, "displayName", where))
    if name is None:
        return None
    return Evidence(
        evidence_key=evidence_key(CHANNEL, account, "profile", customer.value),
        method="profile",
        strength="verified",
        channel=CHANNEL,
        account=account,
        handles=[customer],
        observed_at=observed_at,
        profile=Profile(
            name=name,
            locale=optional_text_of(payload, "language", where),
            picture_url=optional_text_of(payload, "pictureUrl", where),
        ),
        raw_ref=raw_ref,
    )
