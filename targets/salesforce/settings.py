"""The settings of target-salesforce and of its set-up."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mappings.salesforce_login import SalesforceLogin
from targets.base import TargetSettings


class SalesforceTargetSettings(SalesforceLogin, TargetSettings):
    """Where to write and how."""

    mode: Literal["objects", "tasks"] = Field(
        "objects",
        description="objects: Conversation__c and Message__c on the contact. tasks: one completed Task per message;"
        " agents cannot reply from Tasks.",
    )
    fields_file: str | None = Field(
        None, description="Your copy of fields.yml: which fact goes into which field. Default: the packaged one."
    )
    attachments: Literal["link", "upload"] = Field(
        "link",
        description="link: name, type, size and address of a file. upload: also the file itself, from our media.",
    )
    attachment_url: str | None = Field(
        None,
        pattern=r"^https?://.*\{media_key\}",
        description="Address of a stored file, with {media_key} in it; without it the platform's own address is shown.",
    )
    max_upload_bytes: int = Field(
        25_000_000, ge=1, le=37_000_000, description="Larger files are linked, not uploaded; JSON takes 37.5 MB."
    )
    on_duplicate: Literal["link", "allow", "park"] = Field(
        "link",
        description="When a duplicate rule stops a new contact. link: use the contact that it names; allow: save past"
        " rules that only warn; park: put the person aside.",
    )
    match_phones: bool = Field(
        True, description="Recognise an existing contact by its phone, too, not by e-mail address alone."
    )
    crm_merge: bool = Field(
        False,
        description="When two persons turn out to be one, also merge their contacts in Salesforce. Salesforce cannot"
        " undo that. Two contacts that people made are never merged.",
    )
    delete_empty_projections: bool = Field(
        True,
        description="Put a contact that onethread made into the recycle bin once its conversations have moved and"
        " nobody has worked on it.",
    )
    composite: bool = Field(True, description="Five collections of 200 rows in one call; off: one collection a call.")
    rows_per_call: int = Field(
        1000, ge=1, le=1000, description="Most rows in one call; less is sent after slow or unavailable answers."
    )
    slow_call_seconds: float = Field(
        15, gt=0, description="An answer that takes longer halves the next calls; Salesforce limits calls over 20 s."
    )
    bulk_threshold_rows: int = Field(
        2000, ge=1, description="From this many messages in one drain on, Bulk API 2.0 is used for them."
    )
    bulk_poll_seconds: int = Field(5, ge=0, description="Time between two looks at a bulk job.")
    lock_tries: int = Field(4, ge=1, description="Tries of a row that another writer has locked.")
    quota_reserve_percent: int = Field(
        5, ge=0, le=90, description="Stop when no more than this share of the day's API calls is left."
    )
    drain_rows: int = Field(2000, ge=1, description="Write out, and so save state, after this many records.")
