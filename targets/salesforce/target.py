"""target-salesforce: persons as contacts, conversations and messages on them, the fate of replies.

Sinks only collect; at the end of a drain everything goes out together, parents and children in the same calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from stores.graph import Graph
from stores.ledger import Ledger
from targets.base import CanonicalSink, OneThreadTarget, TargetSettings
from targets.crm_people import CrmPeople
from targets.salesforce.api import SalesforceApi
from targets.salesforce.contacts import Contacts
from targets.salesforce.fields import Fields
from targets.salesforce.files import Files
from targets.salesforce.links import Links
from targets.salesforce.moves import ROUNDS, Moves, write_contacts
from targets.salesforce.replies import Replies
from targets.salesforce.settings import SalesforceTargetSettings
from targets.salesforce.timeline import Timeline

_MOST_STAGED = 20_000


@dataclass(slots=True)
class _Staged:
    """What was collected since the last writing, in the order of arrival."""

    records: dict[str, list[Any]] = field(default_factory=dict)

    def of(self, stream: str) -> list[Any]:
        return self.records.get(stream, [])

    @property
    def number(self) -> int:
        return sum(map(len, self.records.values()))


class SalesforceSink(CanonicalSink[Any]):
    """Collects records of one stream."""

    @property
    def salesforce(self) -> TargetSalesforce:
        """The target, by its own type."""
        if not isinstance(self.target, TargetSalesforce):
            msg = f"{type(self).__name__} belongs to a TargetSalesforce"
            raise TypeError(msg)
        return self.target

    def write(self, records: list[Any]) -> None:
        """Keep them for the next writing."""
        self.salesforce.stage(self.stream_name, records, self)

    def replay_parked(self) -> None:
        """Written at once: a row is marked as replayed only after it is written or parked again."""
        with self.salesforce.at_once():
            super().replay_parked()


class PersonsSink(SalesforceSink):
    """Persons with messages: their contacts."""

    record_model = Person


class PersonChangesSink(SalesforceSink):
    """Merges, splits and erasures."""

    record_model = PersonChange


class ConversationsSink(SalesforceSink):
    """Threads."""

    record_model = Conversation


class MessagesSink(SalesforceSink):
    """Messages."""

    # Whatever the archive folds into a message has a default, so a plain message is one too.
    record_model = ArchivedMessage

    @property
    def folded(self) -> bool:
        """Whether the messages come with their changes and receipts folded in (from an archive)."""
        return "status" in self.schema.get("properties", {})


class MessageChangesSink(SalesforceSink):
    """Changes of messages, which an archive would have folded in."""

    record_model = MessageChange


class ReceiptsSink(SalesforceSink):
    """What became of agents' replies."""

    record_model = Receipt


class ConsentsSink(SalesforceSink):
    """Who wants advertising, and who does not."""

    record_model = Consent


class TargetSalesforce(OneThreadTarget[SalesforceTargetSettings]):
    """Writes conversations into a Salesforce org."""

    name = "target-salesforce"
    settings_model: ClassVar[type[TargetSettings]] = SalesforceTargetSettings
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
        self._staged = _Staged()
        self._sinks_by_stream: dict[str, SalesforceSink] = {}
        self._immediate = False

    # Collecting

    def stage(self, stream: str, records: list[Any], sink: SalesforceSink) -> None:
        """Keep records for the next writing."""
        self._sinks_by_stream[stream] = sink
        self._staged.records.setdefault(stream, []).extend(records)
        if self._immediate or self._staged.number >= _MOST_STAGED:
            self.write_staged()

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
            self.write_staged()

    # Writing

    def write_staged(self) -> None:
        """Write what was collected. Each record is written or parked, or the method raises."""
        staged, self._staged = self._staged, _Staged()
        if not staged.number:
            return
        with self.stores.lock(f"salesforce-create-{self.settings.org_id}"):
            self._write(staged)

    def process_endofpipe(self) -> None:
        """Write what is left, replay what was asked for, and say what was done and what the org has left."""
        super().process_endofpipe()
        if "api" in self.__dict__:
            used = f"{self.api.calls} API calls"
            if self.api.usage is not None:
                used += f"; {self.api.usage[1] - self.api.usage[0]} of {self.api.usage[1]} left of the last 24 hours"
            self.logger.info("Salesforce: %s", used)

    def _write(self, staged: _Staged) -> None:
        messages: list[ArchivedMessage] = staged.of(ArchivedMessage.stream)
        changes: list[MessageChange] = staged.of(MessageChange.stream)
        self._prepare_contacts(staged, messages)
        if staged.of(PersonChange.stream):
            write_contacts(self.api, self.contacts)
            self._carry_out(staged.of(PersonChange.stream))
            # Who is whose has changed; what is unchanged costs nothing the second time.
            self._prepare_contacts(staged, messages)
        names = {one.person_id: one.name for one in staged.of(Person.stream) if one.name}
        keep = not self.messages_are_folded
        self.timeline.prepare(staged.of(Conversation.stream), messages, names, keep=keep)
        self.replies.prepare(staged.of(Receipt.stream))
        self._write_rounds()
        self._park_refused_persons(staged)
        self._park_refused_messages(messages)
        for receipt, why in self.replies.failed:
            self._park(Receipt.stream, receipt, why)
        if changes:
            self._write_changes(changes)

    def _prepare_contacts(self, staged: _Staged, messages: list[ArchivedMessage]) -> None:
        seen, preferred = self.timeline.people_seen(staged.of(Conversation.stream), messages)
        consents: dict[str, list[Consent]] = {}
        for one in staged.of(Consent.stream):
            person_id = self.people.person_of_handle(one.handle, one.person_id)
            if person_id is not None:
                consents.setdefault(person_id, []).append(one)
        self.contacts.prepare(staged.of(Person.stream), seen, preferred, consents)
        while self.contacts.switched:
            # Another contact is the person's now: what we wrote moves there, and the old one is left.
            old, record_id = self.contacts.switched.pop()
            self.timeline.move(self.ledger.messages_of_person(old.person_id), record_id, old.person_id)
            self.contacts.retire(old)

    def _write_rounds(self) -> None:
        """Write all drafts together; what was refused for a reason that passes is tried again."""
        for _ in range(ROUNDS):
            if self.timeline.needs_contact_first():
                write_contacts(self.api, self.contacts)
            rows = [*self.contacts.rows(), *self.timeline.rows(), *self.replies.rows()]
            if not rows:
                break
            written = self.api.write(rows, self._save)
            self.replies.settle(written.refused)
            again = self.contacts.settle(written.refused)
            if not self.timeline.settle(written.refused, again) and not again:
                break
        self.timeline.give_up()
        self.timeline.upload()

    def _save(self, part: Any) -> None:
        """After each call: contacts first, as the others name them."""
        with self.ledger.transaction():
            self.contacts.save(part)
            self.timeline.save(part)
            self.replies.save(part)

    def _write_changes(self, changes: list[MessageChange]) -> None:
        if self.messages_are_folded:
            self.count("message_changes not used", len(changes))
            return
        again = self.timeline.keep_changes(changes)
        seen, preferred = self.timeline.people_seen([], again)
        self.contacts.prepare([], seen, preferred, {})
        self.timeline.prepare([], again, {}, keep=True)
        self._write_rounds()
        by_key = {change.message_key: change for change in changes}
        for key, error in self.timeline.parkable.items():
            if key in by_key:
                self._park(MessageChange.stream, by_key[key], error)

    def _carry_out(self, changes: list[PersonChange]) -> None:
        for change in sorted(changes, key=lambda one: one.sequence):
            try:
                self.moves.carry_out(change)
            except (RejectedError, PayloadError, IdentityConflictError) as error:
                self._park(PersonChange.stream, change, error)

    def _park_refused_persons(self, staged: _Staged) -> None:
        persons = {one.person_id: one for one in staged.of(Person.stream)}
        for person_id, error in self.contacts.refused.items():
            if person_id in persons:
                self._park(Person.stream, persons[person_id], error)

    def _park_refused_messages(self, messages: list[ArchivedMessage]) -> None:
        by_key = {message.message_key: message for message in messages}
        for key, error in self.timeline.parkable.items():
            if key in by_key:
                self._park(ArchivedMessage.stream, by_key[key], error)

    def _park(self, stream: str, record: Record, error: OneThreadError) -> None:
        self._sinks_by_stream[stream].park(record, error)

    # The parts

    @property
    def messages_are_folded(self) -> bool:
        """Whether this pipe's messages come from an archive."""
        sinks = [sink for sink in self._sinks_active.values() if isinstance(sink, MessagesSink)]
        return any(sink.folded for sink in sinks)

    @cached_property
    def api(self) -> SalesforceApi:
        """The org's API."""
        return SalesforceApi(self.settings, self.stores)

    @cached_property
    def ledger(self) -> Ledger:
        """What we wrote in this org."""
        return Ledger(self.stores, "salesforce", self.settings.org_id)

    @cached_property
    def links(self) -> Links:
        """Its records, merged and deleted ones too."""
        return Links(self.api, self.ledger)

    @cached_property
    def people(self) -> CrmPeople:
        """Its persons."""
        return CrmPeople(self.ledger, Graph(self.stores), "salesforce_contact", self.settings.org_id)

    @cached_property
    def fields(self) -> Fields:
        """Its fields."""
        return Fields(self.api, self.settings)

    @cached_property
    def contacts(self) -> Contacts:
        """Its contacts."""
        return Contacts(self.api, self.ledger, self.links, self.people, self.fields, self.settings, self.count)

    @cached_property
    def timeline(self) -> Timeline:
        """Its conversations and messages."""
        files = Files(self.api, self.stores, self.settings, self.count)
        return Timeline(
            self.api, self.ledger, self.links, self.people, self.contacts, self.fields, files, self.settings, self.count
        )

    @cached_property
    def moves(self) -> Moves:
        """Merges, splits and erasures in it."""
        return Moves(self.api, self.ledger, self.links, self.contacts, self.timeline, self.settings, self.count)

    @cached_property
    def replies(self) -> Replies:
        """Its agents' replies."""
        return Replies(self.ledger, self.fields, self.settings, self.count)

    def count(self, what: str, number: int = 1) -> None:
        """Add to the summary; nothing is not worth a line."""
        if number:
            super().count(what, number)
