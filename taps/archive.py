"""Reads what changed in the archive: the way out to every CRM, one bookmark per destination."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from mappings.records import Record
from mappings.settings import PluginSettings
from stores.archive import EXPORTED, Archive
from taps.base import Checkpoint, OneThreadTap

_PAGE_ROWS = 1_000
_LOOK_EVERY_SECONDS = 0.5

_MODELS: dict[str, type[Record]] = {model.stream: model for model in EXPORTED}


class ArchiveTapSettings(PluginSettings):
    """Settings of tap-archive."""

    follow_seconds: float = Field(
        0, ge=0, description="Keep reading what arrives for this long before ending; 0: end when all is read."
    )


class TapArchive(OneThreadTap[ArchiveTapSettings]):
    """Singer tap of the archive: persons, conversations, messages with all that became of them, in that order.

    A message never precedes its person or its conversation.
    """

    name = "tap-archive"
    settings_model = ArchiveTapSettings
    record_models: ClassVar = EXPORTED

    def read(self) -> Iterator[Record | Checkpoint]:
        """What changed since the bookmark; with `follow_seconds` also what changes while it runs."""
        archive = Archive(self.stores)
        streams = [stream for stream in _MODELS if stream in self.selected_streams]
        after = self._start(archive, streams)
        expected = archive.count_changes(after, streams)
        deadline = time.monotonic() + self.settings.follow_seconds
        while True:
            archive.follow_graph()
            yield from self._round(archive, streams, after, expected)
            if self.stop_requested or time.monotonic() >= deadline:
                return
            yield Checkpoint(dict(after), heartbeat=True)
            time.sleep(max(0.0, min(_LOOK_EVERY_SECONDS, deadline - time.monotonic())))

    def _start(self, archive: Archive, streams: list[str]) -> dict[str, int]:
        """The bookmark; from the start when the archive was made anew since, as its numbers then began again."""
        after = {stream: int(self.cursor.get(stream, 0)) for stream in streams}
        if max(after.values(), default=0) > archive.high_water():
            self.logger.warning("the archive is younger than this bookmark: everything is read again")
            return dict.fromkeys(streams, 0)
        return after

    def _round(
        self, archive: Archive, streams: list[str], after: dict[str, int], expected: int
    ) -> Iterator[Record | Checkpoint]:
        """Everything up to what the archive holds now. `after` moves along."""
        goal = archive.high_water()
        while not self.stop_requested:
            page = archive.changes_page(after, streams, _PAGE_ROWS)
            for stream, record in page.records:
                yield _MODELS[stream].model_validate(record)
            after.update(page.after)
            self.share_read = min(1.0, sum(self.emitted.values()) / expected) if expected else None
            yield Checkpoint(dict(after))
            if page.complete or min(after.values()) >= goal:
                return
