"""Puts the sender together from what is set up: every platform whose settings are there."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mappings.platforms import load_platforms
from mappings.policy import LIMITS, ChannelLimits, Policy
from stores.database import Stores
from targets.senders.base import Sender
from targets.sending import Dispatcher

logger = logging.getLogger(__name__)


class PolicySettings(BaseSettings):
    """Overrides of the sending rules, read from ``ONETHREAD_POLICY_*``."""

    model_config = SettingsConfigDict(
        env_prefix="ONETHREAD_POLICY_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    max_reply_age_days: float = Field(3, gt=0, description="A reply that waited longer is refused.")
    human_agent: list[str] = Field(
        default_factory=list, description='Channels with Meta\'s Human Agent permission, e.g. ["messenger"].'
    )
    text_limits: dict[str, int] = Field(
        default_factory=dict, description='Longest text per channel where it differs, e.g. {"whatsapp": 4096}.'
    )
    window_hours: dict[str, float] = Field(
        default_factory=dict, description='Length of the service window where it differs, e.g. {"whatsapp": 24}.'
    )

    def policy(self) -> Policy:
        """The rules in force."""
        limits: dict[str, ChannelLimits] = dict(LIMITS)
        for channel, limit in self.text_limits.items():
            limits[channel] = _replaced(limits, channel, text_limit=limit)
        for channel, hours in self.window_hours.items():
            limits[channel] = _replaced(limits, channel, window=timedelta(hours=hours))
        return Policy(
            limits=limits,
            human_agent=frozenset(self.human_agent),
            max_reply_age=timedelta(days=self.max_reply_age_days),
        )


def _replaced(limits: dict[str, ChannelLimits], channel: str, **changes: object) -> ChannelLimits:
    base = limits.get(channel) or ChannelLimits(name=channel, window=None, source="setting")
    return replace(base, **changes)  # type: ignore[arg-type]


def configured_senders() -> dict[str, Sender]:
    """The senders whose settings are set; the others are named in the log.

    Raises:
        ValidationError: a setting is there and wrong. To go on without that platform would refuse its replies for good.
    """
    senders: dict[str, Sender] = {}
    for slug, platform in load_platforms().items():
        if platform.sender is None:
            continue
        try:
            sender = platform.load("sender")()
        except ValidationError as error:
            if any(one["type"] != "missing" and one["input"] != "" for one in error.errors()):
                raise
            missing = ", ".join(sorted({str(one["loc"][0]) for one in error.errors() if one["loc"]}))
            logger.info("%s: not set up for sending (%s)", platform.name, missing)
        else:
            if sender.account:  # an empty line in .env is a setting that is not there
                senders[slug] = sender
    return senders


def build_dispatcher(stores: Stores) -> Dispatcher:
    """The sender with every configured platform and the rules in force."""
    return Dispatcher(stores, configured_senders(), policy=PolicySettings().policy())
