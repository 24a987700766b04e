"""tap-channels: every configured account of every platform, read in one process.

A pass under Meltano starts three processes, whatever there is to read; one pipe for all channels costs that once. Each
account keeps a cursor of its own under its name (``tap-whatsapp``, ``tap-whatsapp/shop2``). What one platform refuses
stops only that platform's share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from mappings.errors import OneThreadError, SettingsError
from mappings.platforms import Platform, load_platform, load_platforms
from mappings.records import Consent, Evidence, Message, MessageChange, Receipt, Record
from mappings.settings import PluginSettings, tap_config_from_environment
from taps.base import Checkpoint, OneThreadTap
from taps.deliveries import DeliveryTap

_PAUSE_SECONDS = 0.3
_HEARTBEAT_SECONDS = 1.0


class ChannelsSettings(PluginSettings):
    """The settings of tap-channels. Those of each channel are the variables that its own tap has."""

    channels: list[str] = Field(
        default_factory=list,
        description="Slugs of the platforms to read. Default: those for which a variable ONETHREAD_<SLUG>_... is set.",
    )
    follow_seconds: float = Field(
        0,
        ge=0,
        description="Keep reading what webhooks bring for that long, so that a message is through in a second. 0: read "
        "what is there and end.",
    )
    poll_interval_seconds: float = Field(
        60, gt=0, description="While following: how often mailboxes and the platforms' own APIs are read again."
    )


class TapChannels(OneThreadTap[ChannelsSettings]):
    """Reads all channels, one after the other, again and again while it follows."""

    name = "tap-channels"
    settings_model = ChannelsSettings
    record_models = (Message, MessageChange, Receipt, Consent, Evidence)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.failed: dict[str, OneThreadError] = {}

    def read(self) -> Iterator[Record | Checkpoint]:
        """Everything that every account has; raises what the first failed one raised, once all others are read."""
        deadline = time.monotonic() + self.settings.follow_seconds
        taps = self._taps()
        polled_at = beat = float("-inf")
        while True:
            now = time.monotonic()
            poll = now - polled_at >= self.settings.poll_interval_seconds
            polled_at = now if poll else polled_at
            for name, tap in taps.items():
                if name not in self.failed and (poll or isinstance(tap, DeliveryTap)):
                    yield from self._read_one(name, tap, poll=poll)
                if self.stop_requested:
                    return
            if time.monotonic() >= deadline:
                break
            if time.monotonic() - beat >= _HEARTBEAT_SECONDS:
                beat = time.monotonic()
                yield Checkpoint({}, heartbeat=True)
            time.sleep(max(0.0, min(_PAUSE_SECONDS, deadline - time.monotonic())))
        if self.failed:
            for name, error in self.failed.items():
                self.logger.error("%s could not be read: %s: %s", name, type(error).__name__, error)
            raise next(iter(self.failed.values()))

    def _taps(self) -> dict[str, OneThreadTap[Any]]:
        """The taps to read, by name; one for each account."""
        accounts = configured_accounts(os.environ, self.settings.channels)
        if not accounts:
            msg = f"{self.name}: no channel is configured; set the variables of one (see .env.example), or `channels`"
            raise SettingsError(msg)
        return {
            f"tap-{platform.slug}" + (f"/{route}" if route else ""): self._tap(platform, route)
            for platform, route in accounts
        }

    def _tap(self, platform: Platform, route: str | None) -> OneThreadTap[Any]:
        cls: type[OneThreadTap[Any]] = platform.load("tap")
        config = tap_config_from_environment(cls.name, cls.settings_model, os.environ, route)
        own = {"state_url": self.settings.state_url, "key_file": self.settings.key_file}
        config = {**config, **{name: value for name, value in own.items() if value is not None}, "follow_seconds": 0}
        name = f"{cls.name}/{route}" if route else cls.name
        state = {"bookmarks": {"cursor": dict(self.cursor.get(name, {}))}}
        tap = cls(config=config, state=state)
        tap.__dict__["stores"] = self.stores  # one set of open files, not one for each channel
        return tap

    def _read_one(self, name: str, tap: OneThreadTap[Any], *, poll: bool) -> Iterator[Record | Checkpoint]:
        if isinstance(tap, DeliveryTap):
            tap.polls = poll
        try:
            for found in tap.read():
                if not isinstance(found, Checkpoint):
                    yield found
                    continue
                tap._merge(found.cursor)
                yield Checkpoint({name: tap.cursor}, heartbeat=found.heartbeat)
                if self.stop_requested:
                    return
        except OneThreadError as error:
            self.failed[name] = error
            self.logger.warning("%s: %s: %s; the other channels go on", name, type(error).__name__, error)


def configured_accounts(
    environment: Mapping[str, str], channels: Sequence[str] = ()
) -> list[tuple[Platform, str | None]]:
    """(platform, route) of every account that the environment configures; the route ``None`` is the default one.

    Args:
        environment: with variables ``ONETHREAD_<SLUG>_<SETTING>``; further accounts of a platform are named in
            ``ONETHREAD_<SLUG>_ROUTES`` and have ``ONETHREAD_<SLUG>_<ROUTE>_<SETTING>``.
        channels: slugs to look at, configured or not; by default every platform with a variable of its own.

    Raises:
        SettingsError: a slug that no installed platform has.
    """
    wanted = [load_platform(slug) for slug in channels] or list(load_platforms().values())
    found: list[tuple[Platform, str | None]] = []
    for platform in wanted:
        prefix = f"ONETHREAD_{platform.slug.upper()}_"
        routes = [one.strip().lower() for one in environment.get(f"{prefix}ROUTES", "").split(",") if one.strip()]
        of_routes = tuple(f"{prefix}{route.upper()}_" for route in routes)
        own = any(
            name.startswith(prefix)
            and not name.startswith(of_routes or ("\0",))
            and name != f"{prefix}ROUTES"
            and value
            for name, value in environment.items()
        )
        found += [(platform, route) for route in ([None] if own or channels else []) + routes]
    return found


if __name__ == "__main__":
    TapChannels.cli()
