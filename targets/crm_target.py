"""What the targets of CRMs share: the streams they take, and when what was collected is written. Knows no CRM.

Sinks only collect; at the end of a drain everything is written in order, under the account's create-lock: contacts,
changes of persons, messages, the fate of replies.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar

from singer_sdk.sinks import Sink

from mappings.errors import IdentityConflictError, OneThreadError, PayloadError, RejectedError
from mappings.records import (
    ArchivedMessage,
    Consent,
    Conversation,
    MessageChange,
    Person,
    PersonChange,
    Receipt,
    Record,
)
from stores.archive import Archive
from stores.graph import Graph
from stores.graph.tombstones import Tombstones
from stores.ledger import Ledger
from targets.base import CanonicalSink, OneThreadTarget, SettingsModel, UnusedStreamSink
from targets.crm_contacts import CrmContacts, Refusals
from targets.crm_links import CrmLinks
from targets.crm_messages import CrmMessages, Parkable
from targets.crm_moves import CrmMoves
from targets.crm_people import CrmPeople

_MOST_STAGED = 20_000


@dataclass(slots=True)
class Staged:
    """What was collected since the last writing, by stream, in the order of arrival."""

    persons: list[Person] = field(default_factory=list)
    person_changes: list[PersonChange] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    messages: list[ArchivedMessage] = field(default_factory=list)
    message_changes: list[MessageChange] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(getattr(self, one.name)) for one in fields(self))


class CrmSink(CanonicalSink[Any]):
    """Collects records of one stream."""

    @property
    def crm_target(self) -> CrmTarget[Any]:
        """The target, by its own type."""
        if not isinstance(self.target, CrmTarget):
            msg = f"{type(self).__name__} belongs to a CrmTarget"
            raise TypeError(msg)
        return self.target

    def write(self, records: list[Any]) -> None:
        """Keep them for the next writing."""
        self.crm_target.stage(self, records)

    def replay_parked(self) -> None:
        """Written at once: a row is marked as replayed only after it is written or parked again."""
        with self.crm_target.at_once():
            super().replay_parked()


class PersonsSink(CrmSink):
    """Persons with messages: their contacts."""

    record_model = Person

    def renew(self, record: Person) -> Person:
        """The person as the archive tells it now: an old "yes" must not take the place of a "no" said since."""
        return Archive(self.target.stores).person(record.person_id) or record


class PersonChangesSink(CrmSink):
    """Merges, splits and erasures."""

    record_model = PersonChange


class ConversationsSink(CrmSink):
    """Threads, where the CRM has a record for them."""

    record_model = Conversation


class MessagesSink(CrmSink):
    """Messages."""

    # Whatever the archive folds into a message has a default, so a plain message is one too.
    record_model = ArchivedMessage

    @property
    def folded(self) -> bool:
        """Whether the messages come with their changes and receipts folded in (from an archive)."""
        return "status" in self.schema.get("properties", {})


class MessageChangesSink(CrmSink):
    """Changes of messages, which an archive would have folded in."""

    record_model = MessageChange


class ReceiptsSink(CrmSink):
    """What became of agents' replies."""

    record_model = Receipt


class ConsentsSink(UnusedStreamSink):
    """Who wants advertising and who does not. An archive tells it with the persons; without one it is not shown."""

    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        """Keep count."""
        del record
        context["consents"] = context.get("consents", 0) + 1

    def process_batch(self, context: dict[str, Any]) -> None:
        """Say how many are shown nowhere; by now every stream of the pipe is known."""
        if isinstance(self.target, CrmTarget) and not self.target.messages_are_folded:
            self.target.count("consents not shown for want of an archive", context.get("consents", 0))


class CrmTarget(OneThreadTarget[SettingsModel]):
    """Base of the targets of CRMs.

    A subclass names its CRM, settings and account, makes its parts and says how each kind of record is written; one
    that cannot show a stream takes it out of `sink_classes`. One that writes all kinds in the same calls overrides
    `write_all`.
    """

    crm: ClassVar[str]
    """Slug of the CRM, as in the ledger; `contact_kind` is the handle of its contact records."""
    contact_kind: ClassVar[str]
    sink_classes: ClassVar[dict[str, type[Sink]]] = {
        Person.stream: PersonsSink,
        PersonChange.stream: PersonChangesSink,
        Conversation.stream: ConversationsSink,
        ArchivedMessage.stream: MessagesSink,
        MessageChange.stream: MessageChangesSink,
        Receipt.stream: ReceiptsSink,
        Consent.stream: ConsentsSink,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._staged = Staged()
        self._sinks_by_stream: dict[str, CrmSink] = {}
        self._immediate = False

    # The parts

    @property
    @abstractmethod
    def account(self) -> str:
        """The CRM's account (portal, org, database), as in the ledger."""

    @property
    @abstractmethod
    def links(self) -> CrmLinks:
        """Its contacts, alive, merged and deleted."""

    @property
    @abstractmethod
    def contacts(self) -> CrmContacts:
        """Its contacts, as they are found and written."""

    @property
    @abstractmethod
    def timeline(self) -> CrmMessages:
        """Its messages."""

    @property
    @abstractmethod
    def moves(self) -> CrmMoves:
        """Merges, splits and erasures in it."""

    @cached_property
    def ledger(self) -> Ledger:
        """What we wrote in this account."""
        return Ledger(self.stores, self.crm, self.account)

    @cached_property
    def people(self) -> CrmPeople:
        """Its persons."""
        return CrmPeople(self.ledger, Graph(self.stores), self.contact_kind, self.account)

    @property
    def messages_are_folded(self) -> bool:
        """Whether this pipe's messages come from an archive."""
        sinks = [sink for sink in self._sinks_active.values() if isinstance(sink, MessagesSink)]
        return any(sink.folded for sink in sinks)

    # Writing: what a CRM says of its own

    def write_persons(self, persons: list[Person]) -> Refusals:
        """Write the contacts of these persons."""
        raise NotImplementedError

    def write_messages(self, messages: list[ArchivedMessage], *, keep: bool) -> Parkable:
        """Write messages; with `keep` they are kept in the ledger, to be written again when they change."""
        raise NotImplementedError

    def write_receipts(self, receipts: list[Receipt]) -> Iterable[tuple[Receipt, OneThreadError]]:
        """Tell agents the fate of their replies; what could not be told."""
        raise NotImplementedError

    def write_all(self, staged: Staged) -> None:
        """Write what was collected. Each record is written or parked, or the method raises."""
        if staged.persons:
            self.park_refused(staged.persons, "person_id", self.write_persons(staged.persons))
        self.carry_out(staged.person_changes)
        if staged.messages:
            errors = self.write_messages(staged.messages, keep=not self.messages_are_folded)
            self.park_refused(staged.messages, "message_key", errors)
        self.write_changes(staged.message_changes)
        if staged.receipts:
            self.park_each(self.write_receipts(staged.receipts))

    # Writing: the same everywhere

    def carry_out(self, changes: Iterable[PersonChange]) -> None:
        """Carry out merges, splits and erasures in their order, as far as they hold still."""
        for change in sorted(changes, key=lambda one: one.sequence):
            now = self.people.as_it_holds(change)
            if now is None:
                self.ledger.mark_carried_out(change.sequence)
                self.count(f"persons {change.change} undone since")
                continue
            try:
                self.moves.carry_out(now)
            except (RejectedError, PayloadError, IdentityConflictError) as error:
                self.park_each([(change, error)])

    def write_changes(self, changes: Sequence[MessageChange]) -> None:
        """Show edits, removals and reactions, unless the messages come folded."""
        if self.messages_are_folded:
            self.count("message_changes not used", len(changes))
        elif changes:
            again = self.timeline.keep_changes(changes)
            self.park_refused(changes, "message_key", self.write_messages(again, keep=True) if again else {})

    def park_refused(self, records: Iterable[Record], key: str, errors: Mapping[str, OneThreadError]) -> None:
        """Put aside the records that could not be written; `key` is the field by which `errors` names them."""
        by_key = {str(getattr(record, key)): record for record in records}
        self.park_each((by_key[name], error) for name, error in errors.items() if name in by_key)

    def park_each(self, failed: Iterable[tuple[Record, OneThreadError]]) -> None:
        """Put aside these records with their reasons."""
        for record, error in failed:
            self._sinks_by_stream[record.stream].park(record, error)

    def count(self, what: str, number: int = 1) -> None:
        """Add to the summary; nothing is not worth a line."""
        if number:
            super().count(what, number)

    # Collecting

    def stage(self, sink: CrmSink, records: list[Any]) -> None:
        """Keep records for the next writing."""
        self._sinks_by_stream[sink.stream_name] = sink
        getattr(self._staged, sink.stream_name).extend(records)
        if self._immediate or len(self._staged) >= _MOST_STAGED:
            self._write_staged()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While this is held, what is staged is written at once."""
        before, self._immediate = self._immediate, True
        try:
            yield
        finally:
            self._immediate = before

    def _drain_all(self, sink_list: Any, parallelism: int) -> None:
        """The sinks hand over what they have, then it is written; the SDK writes the STATE after this."""
        with self.uninterrupted():
            super()._drain_all(sink_list, parallelism)
            self._write_staged()

    def _without_erased(self, staged: Staged) -> Staged:
        """What is left of it: whoever was erased since, or is by a change among it, is not written again."""
        changes = [change for change in staged.person_changes if change.change == "erase"]
        erased = {person_id for change in changes for person_id in change.from_person_ids}
        tombstones = Tombstones.of(self.stores)

        def left(records: list[Any]) -> list[Any]:
            kept = [one for one in tombstones.without_erased(records) if one is not None]
            return [one for one in kept if getattr(one, "person_id", None) not in erased]

        kept = Staged(
            persons=left(staged.persons),
            person_changes=staged.person_changes,
            conversations=left(staged.conversations),
            messages=left(staged.messages),
            message_changes=left(staged.message_changes),
            receipts=left(staged.receipts),
        )
        self.count("records of erased persons left out", len(staged) - len(kept))
        return kept

    def _write_staged(self) -> None:
        """One process at a time makes contacts and settles intents in one account."""
        staged, self._staged = self._without_erased(self._staged), Staged()
        if len(staged):
            with self.stores.lock(f"{self.crm}-create-{self.account}"):
                self.write_all(staged)
                if survivors := self.links.take_survivors():
                    self.contacts.show_consents_on(survivors)
