"""The register of platforms: entry-point group ``onethread.platforms``, slug -> `Platform`.

Ours are registered the same way as anybody else's, so another package adds a platform without an edit here. Parts are
named as ``module:attribute`` and loaded only when used: importing a tap costs a second of CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from typing import Any, NamedTuple

from mappings.errors import SettingsError

GROUP = "onethread.platforms"
CRMS_GROUP = "onethread.crms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Where the parts of one platform are; ``None`` says that it has no such part."""

    slug: str
    name: str
    tap: str
    mapping: str
    webhook: str | None = None
    sender: str | None = None
    sandbox: str | None = None
    reads: str = ""
    sends: str = ""

    def load(self, part: str) -> Any:
        """The object behind `part` (``tap``, ``webhook``, ``mapping``, ``sender``, ``sandbox``)."""
        where: str | None = getattr(self, part)
        if where is None:
            msg = f"{self.name} has no {part}"
            raise SettingsError(msg)
        module, _, attribute = where.partition(":")
        loaded = import_module(module)
        return getattr(loaded, attribute) if attribute else loaded


class Retired(NamedTuple):
    """A platform that is no more: nothing can be read from it; its history comes in by ``onethread import``."""

    name: str
    year: int
    source: str


RETIRED = (
    Retired("Google+", 2019, "documented: workspaceupdates.googleblog.com (consumer product closed 2019-04-02)"),
    Retired(
        "Google Business Messages",
        2024,
        "documented: developers.google.com/business-communications/business-messages (closed 2024-07-31)",
    ),
)


@cache
def load_platforms() -> dict[str, Platform]:
    """Every registered platform by slug, sorted."""
    return dict(sorted((entry.name, _loaded(entry)) for entry in metadata.entry_points(group=GROUP)))


@cache
def load_crms() -> dict[str, Platform]:
    """Every registered CRM that pushes something to the receiver, by slug, sorted. They are no channels."""
    return dict(sorted((entry.name, _loaded(entry)) for entry in metadata.entry_points(group=CRMS_GROUP)))


def _loaded(entry: metadata.EntryPoint) -> Platform:
    try:
        platform = entry.load()
    except (ImportError, AttributeError) as error:
        msg = f"platform {entry.name!r} ({entry.value}) cannot be loaded: {error}; reinstall or remove its package"
        raise SettingsError(msg) from error
    if not isinstance(platform, Platform):
        msg = f"platform {entry.name!r} ({entry.value}) is not a mappings.platforms.Platform"
        raise SettingsError(msg)
    return platform


def load_platform(slug: str) -> Platform:
    """The platform of that slug; raises `SettingsError` that lists those there are."""
    platforms = load_platforms()
    if slug not in platforms:
        msg = f"no platform {slug!r} is installed; there are: {', '.join(platforms)}"
        raise SettingsError(msg)
    return platforms[slug]
