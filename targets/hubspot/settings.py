"""The settings of target-hubspot and of its set-up."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from mappings.hubspot_login import HubSpotLogin
from mappings.to_hubspot import DEFAULT_CHANNEL_TYPES
from targets.base import TargetSettings

ChannelType = Literal["WHATS_APP", "LINKEDIN_MESSAGE", "SMS", "NOTE"]


def _default_channel_types() -> dict[str, ChannelType]:
    return dict(DEFAULT_CHANNEL_TYPES)  # type: ignore[arg-type]  # a table of the same words


class HubSpotTargetSettings(HubSpotLogin, TargetSettings):
    """Where to write and how."""

    settle_wait_seconds: float = Field(
        10, ge=0, description="After a create without an answer, wait this long before reading back what came of it."
    )
    contact_batch_size: int = Field(100, ge=1, le=100, description="Contacts per call; HubSpot takes 100.")
    message_batch_size: int = Field(100, ge=1, le=100, description="Messages per call; HubSpot takes 100.")
    association_batch_size: int = Field(2000, ge=1, le=2000, description="Associations per call; HubSpot takes 2000.")
    fields_file: str | None = Field(
        None, description="Your own map of facts to contact properties (YAML). Default: the packaged fields.yml."
    )
    channel_types: dict[str, ChannelType] = Field(
        default_factory=_default_channel_types,
        description="Channel -> what a message of it becomes: a logged message of HubSpot's kind WHATS_APP,"
        " LINKEDIN_MESSAGE or SMS, or a NOTE. The first line names the real channel.",
    )
    other_channels: ChannelType = Field("NOTE", description="The same for channels that channel_types leaves out.")
    roll_up: bool = Field(
        False,
        description="One record for each person, conversation and day (UTC) instead of one for each message. Messages"
        " that are written already stay as they are. Needs an archive in front (tap-archive).",
    )
    max_body_characters: int = Field(
        60_000,
        ge=1_000,
        le=65_536,
        description="Longest message body; a longer one is cut, visibly. HubSpot documents 65,536 for notes only.",
    )
    inbox_channels: list[str] = Field(
        default_factory=list,
        description="Channels whose conversations become threads in HubSpot's inbox, where agents answer; all others"
        " are logged on timelines. Needs Sales or Service Hub Professional and an app on the developer platform.",
    )
    inbox_id: str | None = Field(
        None, pattern=r"^\d+$", description="The inbox (or help desk) in which these threads appear."
    )
    inbox_accounts: dict[str, str] = Field(
        default_factory=dict,
        description='Name of each of our accounts in the inbox, e.g. {"whatsapp:106540352242922": "Shop"}. An account'
        " that is not named here is added with its first message.",
    )
    inbox_history_days: float = Field(
        7, ge=0, description="Older messages are logged on timelines: they would open threads in the inbox."
    )
    inbox_webhook_url: str | None = Field(
        None,
        pattern=r"^https?://[^?#]+$",
        description="Where HubSpot posts agents' answers: the receiver's public address with /webhooks/hubspot.",
    )
    webhook_token: SecretStr | None = Field(
        None, description="A long random word that HubSpot's posts carry in their address; the receiver asks for it."
    )
    developer_api_key: SecretStr | None = Field(
        None, description="Developer API key; set-up registers inbox channels with it where api_version is v3."
    )
    app_id: str | None = Field(None, pattern=r"^\d+$", description="Id of the app that the inbox channels belong to.")
    archive_empty_projections: bool = Field(
        True, description="Archive a contact that onethread made once its conversations have moved to another contact."
    )
    attachments: Literal["name", "link", "upload"] = Field(
        "name",
        description="Files of customers. name: by name, type and size. link: also their address. upload: also the files"
        " themselves, from our media, as private files of the account; needs the scope files.",
    )
    attachment_url: str | None = Field(
        None,
        pattern=r"^https?://.*\{media_key\}",
        description="Address of a stored file, with {media_key} in it; without it the platform's own address is shown.",
    )
    files_folder: str = Field(
        "/onethread",
        pattern=r"^/[^/]+(/[^/]+)*$",
        description="Folder of HubSpot's files in which uploaded files are kept: one of its own below it for each"
        " message.",
    )
    max_upload_bytes: int = Field(
        20_000_000, ge=1, le=100_000_000, description="Larger files are named or linked, not uploaded."
    )
    files_as_notes: bool = Field(
        True,
        description="With upload: log a message with files as a note where the account's logged messages cannot have"
        " files (set-up finds it out); off: its files are named or linked.",
    )
    owner_ids: dict[str, str] | None = Field(
        None,
        description="Agent's name as the channel gives it -> HubSpot owner id, shown as author of our messages.",
    )
    drain_rows: int = Field(1000, ge=1, description="Write out, and so save state, after this many records.")

    @model_validator(mode="after")
    def _inbox_is_whole(self) -> Self:
        if self.inbox_channels and self.inbox_id is None:
            msg = "inbox_channels needs inbox_id"
            raise ValueError(msg)
        if self.inbox_webhook_url and self.webhook_token is None:
            msg = "inbox_webhook_url needs webhook_token"
            raise ValueError(msg)
        return self

    def channel_type(self, channel: str) -> ChannelType:
        """What a message of a channel becomes on a timeline."""
        return self.channel_types.get(channel, self.other_channels)
