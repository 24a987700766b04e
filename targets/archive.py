"""Writes messages, their changes and receipts, consents and CRM contacts into the archive."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, ClassVar

from mappings.errors import PayloadError
from mappings.records import Consent, Contact, Message, MessageChange, Receipt, Record
from stores.archive import Archive
from targets.base import CanonicalSink, OneThreadTarget, RecordModel, TargetSettings

_ARGUMENTS = {
    "messages": "messages",
    "message_changes": "changes",
    "receipts": "receipts",
    "consents": "consents",
    "contacts": "contacts",
}


class ArchiveTargetSettings(TargetSettings):
    """Settings of target-archive."""


class ArchiveSink(CanonicalSink[RecordModel]):
    """Hands its batch to the target, which writes the batches of all streams together."""

    def write(self, records: list[RecordModel]) -> None:
        """Written with the other streams of this drain, or at once outside of one."""
        if not isinstance(self.target, TargetArchive):
            msg = f"{type(self).__name__} belongs to target-archive"
            raise TypeError(msg)
        self.target.take(self, records)


class MessagesSink(ArchiveSink[Message]):
    """Messages, in and out."""

    record_model = Message


class MessageChangesSink(ArchiveSink[MessageChange]):
    """Edits, unsends and reactions, of messages known or not yet."""

    record_model = MessageChange


class ReceiptsSink(ArchiveSink[Receipt]):
    """What became of messages, replies and conversations."""

    record_model = Receipt


class ConsentsSink(ArchiveSink[Consent]):
    """Opt-ins and opt-outs."""

    record_model = Consent


class ContactsSink(ArchiveSink[Contact]):
    """The CRM's contacts."""

    record_model = Contact


class TargetArchive(OneThreadTarget[ArchiveTargetSettings]):
    """Singer target that writes into the archive and derives conversations and persons.

    Everything between two drains is one transaction, whatever streams it came from.
    """

    name = "target-archive"
    settings_model = ArchiveTargetSettings
    sink_classes: ClassVar = {
        "messages": MessagesSink,
        "message_changes": MessageChangesSink,
        "receipts": ReceiptsSink,
        "consents": ConsentsSink,
        "contacts": ContactsSink,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._draining = False
        self._taken: list[tuple[ArchiveSink[Any], Record]] = []

    @cached_property
    def archive(self) -> Archive:
        """The archive behind `state_url`."""
        return Archive(self.stores)

    def take(self, sink: ArchiveSink[RecordModel], records: Iterable[RecordModel]) -> None:
        """Take a batch of one stream; outside of a drain it is written at once."""
        self._taken += [(sink, record) for record in records]
        if not self._draining:
            self._write_taken()

    def _drain_all(self, sink_list: Any, parallelism: int) -> None:
        """Collect the batches of all sinks, then write them together."""
        with self.uninterrupted():
            self._draining = True
            try:
                super()._drain_all(sink_list, parallelism)
            finally:
                self._draining = False
            self._write_taken()

    def _write_taken(self) -> None:
        taken, self._taken = self._taken, []
        if not taken:
            return
        try:
            self._fold(taken)
        except (PayloadError, ValueError, ArithmeticError):
            # One record spoils the transaction: it is found by writing them one by one, and put aside.
            for one in taken:
                try:
                    self._fold([one])
                except (PayloadError, ValueError, ArithmeticError) as error:
                    one[0].park(one[1], error)

    def _fold(self, taken: list[tuple[ArchiveSink[Any], Record]]) -> None:
        batches: dict[str, list[Any]] = {}
        for sink, record in taken:
            batches.setdefault(_ARGUMENTS[sink.stream_name], []).append(record)
        before = self.archive.left_out
        for stream, number in self.archive.fold(**batches).items():
            self.count(f"{stream} changed", number)
        if self.archive.left_out > before:
            self.count("records of erased persons left out", self.archive.left_out - before)
