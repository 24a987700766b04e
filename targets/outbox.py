"""Queues agents' replies for `onethread send`. Nothing is sent from here."""

from __future__ import annotations

from typing import ClassVar

from mappings.errors import PayloadError
from mappings.records import Reply
from stores.graph import Graph
from stores.outbox import Outbox
from targets.base import CanonicalSink, OneThreadTarget, TargetSettings


class OutboxSettings(TargetSettings):
    """Settings of target-outbox."""


class RepliesSink(CanonicalSink[Reply]):
    """Adds replies to the outbox; one that is in already is left as it is."""

    record_model = Reply

    def write(self, records: list[Reply]) -> None:
        """One transaction for the batch."""
        try:
            self._add(records)
        except (PayloadError, ValueError):
            # One reply (a key that we did not make) spoils the transaction: it is found and put aside.
            for record in records:
                try:
                    self._add([record])
                except (PayloadError, ValueError) as error:
                    self.park(record, error)

    def _add(self, records: list[Reply]) -> None:
        graph = Graph(self.target.stores)
        new = Outbox(self.target.stores).add(
            records, same_person=lambda one, other: graph.current(one) == graph.current(other)
        )
        self.target.count("replies queued", new)
        self.target.count("replies known already", len(records) - new)


class TargetOutbox(OneThreadTarget[OutboxSettings]):
    """Singer target that queues the stream `replies` for sending; `onethread send` sends them."""

    name = "target-outbox"
    settings_model = OutboxSettings
    sink_classes: ClassVar = {"replies": RepliesSink}
