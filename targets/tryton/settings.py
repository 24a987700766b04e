"""The settings of target-tryton and of its set-up."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from targets.base import TargetSettings


class TrytonTargetSettings(TargetSettings):
    """Where to write and how."""

    url: str = Field(pattern=r"^https?://[^\s?#]+$", description="Address of the Tryton server, without the database.")
    database: str = Field(pattern=r"^[^\s/?#]+$", description="Name of the database.")
    username: str = Field(description="Login of a user of onethread's own; agents have theirs.")
    password: SecretStr = Field(description="Its password.")
    account: str | None = Field(
        None,
        description="Name of this Tryton in onethread's own records. Default: the database. Needed only with two"
        " servers whose databases have the same name; never change it afterwards.",
    )
    notes: Literal["message", "day"] = Field(
        "message",
        description="One note per message, or one per conversation and day. A day's note is written anew with each of"
        " its messages, and so is unread again.",
    )
    crm_merge: bool = Field(
        False,
        description="Also replace parties by Tryton's own wizard when two persons turn out to be one; only parties that"
        " onethread made are replaced. Tryton cannot undo it.",
    )
    deactivate_empty_parties: bool = Field(
        True,
        description="Deactivate a party that onethread made once its conversations have moved to another party.",
    )
    rows_per_call: int = Field(500, ge=1, le=5000, description="Parties or notes written with one call.")
    max_note_characters: int = Field(
        60_000, ge=1_000, description="Longest text of one message; a longer one is cut, visibly. Tryton has no limit."
    )
    timeout_seconds: float = Field(120, gt=0, description="Give up waiting for one answer after this long.")
    max_tries: int = Field(6, ge=1, description="Try one call at most this often while Tryton is unavailable.")
    max_retry_seconds: float = Field(180, gt=0, description="Stop trying one call after this long.")
    retry_wait_seconds: float = Field(
        1.0, ge=0, description="First wait after an unavailable answer; doubles with each try, with jitter."
    )
    settle_wait_seconds: float = Field(
        10, ge=0, description="After a create without an answer, wait this long before reading back what came of it."
    )
    drain_rows: int = Field(2000, ge=1, description="Write out, and so save state, after this many records.")

    @property
    def account_name(self) -> str:
        """What this Tryton is called in handles, keys and the ledger."""
        return self.account or self.database
