"""target-tryton: persons as parties, messages as notes on them, the fate of replies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

from singer_sdk.sinks import Sink

from mappings.errors import IdentityConflictError, OneThreadError, PayloadError, RejectedError
from mappings.records import ArchivedMessage, MessageChange, Person, PersonChange, Receipt
from mappings.to_tryton import CRM
from stores.graph import Graph
from stores.ledger import Ledger
from targets.base import CanonicalSink, OneThreadTarget, TargetSettings
from targets.tryton.api import TrytonApi
from targets.tryton.links import Links
from targets.tryton.moves import Moves
from targets.tryton.notes import Notes
from targets.tryton.parties import Parties
from targets.tryton.replies import Replies
from targets.tryton.settings import TrytonTargetSettings


class TrytonSink(CanonicalSink[Any]):
    """What the sinks of this target share."""

    @property
    def tryton(self) -> TargetTryton:
        """The target, by its own type."""
        if not isinstance(self.target, TargetTryton):
            msg = f"{type(self).__name__} belongs to a TargetTryton"
            raise TypeError(msg)
        return self.target

    def park_all(self, records: dict[str, Any], errors: dict[str, OneThreadError]) -> None:
        """Put aside the records that could not be written."""
        for key, error in errors.items():
            if key in records:
                self.park(records[key], error)


class PersonsSink(TrytonSink):
    """Persons with messages: their parties."""

    record_model = Person

    def write(self, records: list[Person]) -> None:
        """Make, find and update parties."""
        with self.tryton.account_lock():
            errors = self.tryton.parties.write(records)
        self.park_all({person.person_id: person for person in records}, errors)


class PersonChangesSink(TrytonSink):
    """Merges, splits and erasures."""

    record_model = PersonChange

    def write(self, records: list[PersonChange]) -> None:
        """Carry them out in their order."""
        with self.tryton.account_lock():
            for change in sorted(records, key=lambda one: one.sequence):
                try:
                    self.tryton.moves.carry_out(change)
                except (RejectedError, PayloadError, IdentityConflictError) as error:
                    self.park(change, error)


class MessagesSink(TrytonSink):
    """Messages: notes on parties."""

    # Whatever the archive folds into a message has a default, so a plain message is one too.
    record_model = ArchivedMessage

    @property
    def folded(self) -> bool:
        """Whether the messages come with their changes and receipts folded in (from an archive)."""
        return "status" in self.schema.get("properties", {})

    def write(self, records: list[ArchivedMessage]) -> None:
        """Put them on parties."""
        with self.tryton.account_lock():
            errors = self.tryton.notes.write(records, keep=not self.folded)
        self.park_all({message.message_key: message for message in records}, errors)


class MessageChangesSink(TrytonSink):
    """Changes of messages, which an archive would have folded in."""

    record_model = MessageChange

    def write(self, records: list[MessageChange]) -> None:
        """Show them, unless the messages come folded."""
        if self.tryton.messages_are_folded:
            self.target.count("message_changes not used", len(records))
            return
        with self.tryton.account_lock():
            errors = self.tryton.notes.change(records)
        self.park_all({change.message_key: change for change in records}, errors)


class ReceiptsSink(TrytonSink):
    """What became of agents' replies."""

    record_model = Receipt

    def write(self, records: list[Receipt]) -> None:
        """Tell the agents, on the parties on which they wrote."""
        with self.tryton.account_lock():
            failed = self.tryton.replies.write(records)
        for receipt, error in failed:
            self.park(receipt, error)


class TargetTryton(OneThreadTarget[TrytonTargetSettings]):
    """Writes conversations into a Tryton database."""

    name = "target-tryton"
    settings_model: ClassVar[type[TargetSettings]] = TrytonTargetSettings
    sink_classes: ClassVar[dict[str, type[Sink]]] = {
        Person.stream: PersonsSink,
        PersonChange.stream: PersonChangesSink,
        ArchivedMessage.stream: MessagesSink,
        MessageChange.stream: MessageChangesSink,
        Receipt.stream: ReceiptsSink,
    }

    @property
    def messages_are_folded(self) -> bool:
        """Whether this pipe's messages come from an archive."""
        sinks = [sink for sink in self._sinks_active.values() if isinstance(sink, MessagesSink)]
        return any(sink.folded for sink in sinks)

    @contextmanager
    def account_lock(self) -> Iterator[None]:
        """One process at a time makes parties and settles intents in one database."""
        with self.stores.lock(f"tryton-create-{self.settings.account_name}"):
            yield

    @cached_property
    def api(self) -> TrytonApi:
        """The database's API."""
        return TrytonApi(self.settings, self.stores)

    @cached_property
    def ledger(self) -> Ledger:
        """What we wrote in this database."""
        return Ledger(self.stores, CRM, self.settings.account_name)

    @cached_property
    def links(self) -> Links:
        """Its parties' ids, and where notes are."""
        return Links(self.api, self.ledger)

    @cached_property
    def parties(self) -> Parties:
        """Its parties."""
        return Parties(self.api, self.ledger, self.links, Graph(self.stores), self.settings, self.count)

    @cached_property
    def notes(self) -> Notes:
        """Its notes."""
        graph = Graph(self.stores)
        return Notes(self.api, self.ledger, self.links, self.parties, graph, self.settings, self.count)

    @cached_property
    def moves(self) -> Moves:
        """Merges, splits and erasures in it."""
        return Moves(self.api, self.ledger, self.links, self.parties, self.notes, self.settings, self.count)

    @cached_property
    def replies(self) -> Replies:
        """Its agents' replies."""
        return Replies(self.api, self.ledger, self.notes, self.settings, self.count)

    def count(self, what: str, number: int = 1) -> None:
        """Add to the summary; nothing is not worth a line."""
        if number:
            super().count(what, number)
