"""The settings of target-hubspot and of its set-up."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from mappings.to_hubspot import DEFAULT_CHANNEL_TYPES
from targets.base import TargetSettings

ChannelType = Literal["WHATS_APP", "LINKEDIN_MESSAGE", "SMS"]


def _default_channel_types() -> dict[str, ChannelType]:
    return dict(DEFAULT_CHANNEL_TYPES)  # type: ignore[arg-type]  # a table of the same words


class HubSpotTargetSettings(TargetSettings):
    """Where to write and how."""

    access_token: SecretStr = Field(description="Service key (or token of a private app) of the HubSpot account.")
    portal_id: str = Field(pattern=r"^\d+$", description="HubSpot account id (Hub ID); checked against the token.")
    api_url: str = Field("https://api.hubapi.com", description="Base URL of the API.")
    timeout_seconds: float = Field(30, gt=0, description="Give up waiting for one answer after this long.")
    max_tries: int = Field(6, ge=1, description="Try one call at most this often while HubSpot is unavailable.")
    max_retry_seconds: float = Field(180, gt=0, description="Stop trying one call after this long.")
    retry_wait_seconds: float = Field(
        1.0, ge=0, description="First wait after an unavailable answer; doubles with each try, with jitter."
    )
    settle_wait_seconds: float = Field(
        10, ge=0, description="After a create without an answer, wait this long before reading back what came of it."
    )
    contact_batch_size: int = Field(100, ge=1, le=100, description="Contacts per call; HubSpot takes 100.")
    message_batch_size: int = Field(100, ge=1, le=100, description="Messages per call; HubSpot takes 100.")
    association_batch_size: int = Field(2000, ge=1, le=2000, description="Associations per call; HubSpot takes 2000.")
    channel_types: dict[str, ChannelType] = Field(
        default_factory=_default_channel_types,
        description="Channel -> HubSpot's channel type (WHATS_APP, LINKEDIN_MESSAGE or SMS). Others become SMS; the"
        " first line of each message names the real channel.",
    )
    max_body_characters: int = Field(
        60_000,
        ge=1_000,
        description="Longest message body; a longer one is cut, visibly. HubSpot documents no limit.",
    )
    archive_empty_projections: bool = Field(
        True, description="Archive a contact that onethread made once its conversations have moved to another contact."
    )
    owner_ids: dict[str, str] | None = Field(
        None,
        description="Agent's name as the channel gives it -> HubSpot owner id, shown as author of our messages.",
    )
    drain_rows: int = Field(1000, ge=1, description="Write out, and so save state, after this many records.")
