"""The settings of target-salesforce and of its set-up."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from mappings.to_salesforce import salesforce_id
from targets.base import TargetSettings

OrgId = Annotated[str, Field(pattern=r"^00D[A-Za-z0-9]{12}([A-Za-z0-9]{3})?$"), AfterValidator(salesforce_id)]


class SalesforceTargetSettings(TargetSettings):
    """Where to write and how."""

    org_id: OrgId = Field(description="Organization id (Setup, Company Information); checked against the org.")
    domain: str = Field(
        "login",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$",
        description="Where to log in: login, test, or My Domain without .salesforce.com (acme.my); client credentials"
        " need My Domain.",
    )
    consumer_key: SecretStr = Field(description="Consumer key of the External Client App.")
    consumer_secret: SecretStr | None = Field(None, description="Client credentials: the app's consumer secret.")
    username: str | None = Field(None, description="JWT bearer: the integration user's name.")
    private_key: SecretStr | None = Field(None, description="JWT bearer: the private key itself (PEM).")
    private_key_file: str | None = Field(None, description="JWT bearer: file of the private key (PEM).")
    api_url: str | None = Field(
        None, description="Base URL for every call instead of the org's own hosts (a proxy or a stand-in)."
    )
    api_version: str = Field("67.0", pattern=r"^\d+\.0$", description="Version of Salesforce's APIs.")
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
    limit_pause_seconds: float = Field(
        900, ge=0, description="After the day's calls are used up, no process calls the org for this long."
    )
    timeout_seconds: float = Field(60, gt=0, description="Give up waiting for one answer after this long.")
    max_tries: int = Field(6, ge=1, description="Try one call at most this often while Salesforce is unavailable.")
    max_retry_seconds: float = Field(180, gt=0, description="Stop trying one call after this long.")
    retry_wait_seconds: float = Field(
        1.0, ge=0, description="First wait after an unavailable answer or a locked row; doubles, with jitter."
    )
    drain_rows: int = Field(2000, ge=1, description="Write out, and so save state, after this many records.")

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> SalesforceTargetSettings:
        by_key = self.private_key is not None or self.private_key_file is not None
        if self.consumer_secret is not None and by_key:
            msg = "give consumer_secret (client credentials) or a private key (JWT bearer), not both"
            raise ValueError(msg)
        if self.consumer_secret is None and not (by_key and self.username):
            msg = "give consumer_secret (client credentials), or username and private_key or private_key_file (JWT)"
            raise ValueError(msg)
        if self.consumer_secret is not None and self.domain in {"login", "test"}:
            msg = "client credentials need My Domain in domain (acme.my), not login or test"
            raise ValueError(msg)
        return self
