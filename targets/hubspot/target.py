"""target-hubspot: persons as contacts, messages on their timelines or in the inbox, the fate of replies.

Sinks only collect; at the end of a drain everything is written in order: contacts, changes of persons, messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

from singer_sdk.sinks import Sink

from mappings.errors import IdentityConflictError, OneThreadError, PayloadError, RejectedError, SettingsError
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
from stores.control import Facts
from stores.graph import Graph
from stores.ledger import Ledger
from targets.base import CanonicalSink, OneThreadTarget, TargetSettings
from targets.crm_people import CrmPeople
from targets.hubspot.api import ACTIVITY_KINDS, HubSpotApi
from targets.hubspot.contacts import Contacts
from targets.hubspot.fields import Fields
from targets.hubspot.inbox import Inbox
from targets.hubspot.links import Links
from targets.hubspot.moves import Moves
from targets.hubspot.replies import Replies
from targets.hubspot.settings import HubSpotTargetSettings
from targets.hubspot.setup import message_key_fact
from targets.hubspot.timeline import PROPERTY, READBACK, Timeline

_MOST_STAGED = 20_000


class HubSpotSink(CanonicalSink[Any]):
    """Collects records of one stream."""

    @property
    def hubspot(self) -> TargetHubSpot:
        """The target, by its own type."""
        if not isinstance(self.target, TargetHubSpot):
            msg = f"{type(self).__name__} belongs to a TargetHubSpot"
            raise TypeError(msg)
        return self.target

    def write(self, records: list[Any]) -> None:
        """Keep them for the next writing."""
        self.hubspot.stage(self, records)

    def replay_parked(self) -> None:
        """Written at once: a row is marked as replayed only after it is written or parked again."""
        with self.hubspot.at_once():
            super().replay_parked()


class PersonsSink(HubSpotSink):
    """Persons with messages: their contacts."""

    record_model = Person


class PersonChangesSink(HubSpotSink):
    """Merges, splits and erasures."""

    record_model = PersonChange


class ConversationsSink(HubSpotSink):
    """Threads: on which channel a person wrote last."""

    record_model = Conversation


class MessagesSink(HubSpotSink):
    """Messages: activities on timelines, or threads in the inbox."""

    # Whatever the archive folds into a message has a default, so a plain message is one too.
    record_model = ArchivedMessage

    @property
    def folded(self) -> bool:
        """Whether the messages come with their changes and receipts folded in (from an archive)."""
        return "status" in self.schema.get("properties", {})


class MessageChangesSink(HubSpotSink):
    """Changes of messages, which an archive would have folded in."""

    record_model = MessageChange


class ReceiptsSink(HubSpotSink):
    """What became of agents' replies."""

    record_model = Receipt


class ConsentsSink(HubSpotSink):
    """Who wants advertising, and who does not."""

    record_model = Consent


class TargetHubSpot(OneThreadTarget[HubSpotTargetSettings]):
    """Writes conversations into a HubSpot account."""

    name = "target-hubspot"
    settings_model: ClassVar[type[TargetSettings]] = HubSpotTargetSettings
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
        self._staged: dict[str, list[Any]] = {}
        self._sinks_by_stream: dict[str, HubSpotSink] = {}
        self._immediate = False

    # Collecting

    def stage(self, sink: HubSpotSink, records: list[Any]) -> None:
        """Keep records for the next writing."""
        self._sinks_by_stream[sink.stream_name] = sink
        self._staged.setdefault(sink.stream_name, []).extend(records)
        if self._immediate or sum(map(len, self._staged.values())) >= _MOST_STAGED:
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
        staged, self._staged = self._staged, {}
        if any(staged.values()):
            with self.stores.lock(f"hubspot-create-{self.settings.portal_id}"):
                self._write(staged)

    def _write(self, staged: dict[str, list[Any]]) -> None:
        persons: list[Person] = staged.get(Person.stream, [])
        messages: list[ArchivedMessage] = staged.get(ArchivedMessage.stream, [])
        consents = self._consents(staged.get(Consent.stream, []))
        if persons or consents:
            preferred = self._preferred(staged.get(Conversation.stream, []), messages) if persons else {}
            self._park_all(persons, "person_id", self.contacts.write(persons, preferred, consents))
        for change in sorted(staged.get(PersonChange.stream, []), key=lambda one: one.sequence):
            try:
                self.moves.carry_out(change)
            except (RejectedError, PayloadError, IdentityConflictError) as error:
                self._sinks_by_stream[PersonChange.stream].park(change, error)
        if messages:
            if self.settings.roll_up and not self.messages_are_folded:
                msg = "target-hubspot: roll_up needs messages from an archive (tap-archive), which folds changes in"
                raise SettingsError(msg)
            errors = self.timeline.write(messages, keep=not self.messages_are_folded)
            self._park_all(messages, "message_key", errors)
        if changes := staged.get(MessageChange.stream, []):
            self._write_changes(changes)
        if receipts := staged.get(Receipt.stream, []):
            for receipt, why in self.replies.write(receipts):
                self._sinks_by_stream[Receipt.stream].park(receipt, why)

    def _write_changes(self, changes: list[MessageChange]) -> None:
        if self.messages_are_folded:
            self.count("message_changes not used", len(changes))
            return
        self._park_all(changes, "message_key", self.timeline.change(changes))

    def _park_all(self, records: Sequence[Record], key: str, errors: dict[str, OneThreadError]) -> None:
        """Put aside the records that could not be written."""
        by_key = {str(getattr(record, key)): record for record in records}
        for name, error in errors.items():
            if name in by_key:
                self._sinks_by_stream[by_key[name].stream].park(by_key[name], error)

    def _consents(self, records: list[Consent]) -> dict[str, list[Consent]]:
        found: dict[str, list[Consent]] = {}
        for one in records:
            person_id = self.people.person_of_handle(one.handle, one.person_id)
            if person_id is not None:
                found.setdefault(person_id, []).append(one)
        return found

    def _preferred(self, conversations: list[Conversation], messages: list[ArchivedMessage]) -> dict[str, str]:
        """Person id -> the channel on which the person wrote last, of those that came now."""
        wrote = [
            (one.last_inbound_at, self.people.current(one.person_id), one.channel)
            for one in conversations
            if one.last_inbound_at and one.person_id
        ]
        wrote += [
            (one.sent_at, person_id, one.channel)
            for one in messages
            if one.direction == "inbound" and (person_id := self.people.person_of(one)) is not None
        ]
        return {person_id: channel for _, person_id, channel in sorted(wrote)}

    # The parts

    @property
    def messages_are_folded(self) -> bool:
        """Whether this pipe's messages come from an archive."""
        sinks = [sink for sink in self._sinks_active.values() if isinstance(sink, MessagesSink)]
        return any(sink.folded for sink in sinks)

    @cached_property
    def api(self) -> HubSpotApi:
        """The account's API."""
        return HubSpotApi(self.settings, self.stores)

    @cached_property
    def ledger(self) -> Ledger:
        """What we wrote in this account."""
        return Ledger(self.stores, "hubspot", self.settings.portal_id)

    @cached_property
    def links(self) -> Links:
        """Its contacts' ids and timelines."""
        return Links(self.api, self.ledger)

    @cached_property
    def people(self) -> CrmPeople:
        """Its persons."""
        return CrmPeople(self.ledger, Graph(self.stores), "hubspot_contact", self.settings.portal_id)

    @cached_property
    def fields(self) -> Fields:
        """Its properties, checked."""
        fields = Fields(self.settings)
        fields.check(self.api, self.stores)
        return fields

    @cached_property
    def contacts(self) -> Contacts:
        """Its contacts."""
        self._modes()
        graph = Graph(self.stores)
        return Contacts(self.api, self.ledger, self.links, graph, self.fields, self.settings, self.count)

    @cached_property
    def inbox(self) -> Inbox:
        """Its inbox."""
        return Inbox(self.api, self.ledger, self.links, self.stores, self.settings, self.count)

    @cached_property
    def timeline(self) -> Timeline:
        """Its timelines."""
        modes = self._modes()
        graph = Graph(self.stores)
        return Timeline(
            self.api, self.ledger, self.links, self.contacts, self.inbox, graph, self.settings, self.count, modes=modes
        )

    @cached_property
    def moves(self) -> Moves:
        """Merges, splits and erasures in it."""
        return Moves(self.api, self.ledger, self.links, self.contacts, self.timeline, self.count)

    @cached_property
    def replies(self) -> Replies:
        """Its agents' replies."""
        self._modes()
        return Replies(self.api, self.ledger, self.inbox, self.settings, self.count)

    def count(self, what: str, number: int = 1) -> None:
        """Add to the summary; nothing is not worth a line."""
        if number:
            super().count(what, number)

    def _modes(self) -> dict[str, str]:
        """Object type of an activity -> how it is written once; set-up found it out.

        An account that was set up before notes were used has the safe way for them.
        """
        facts = Facts(self.stores)
        told = {kind: facts.load(message_key_fact(self.settings.portal_id, kind)) for kind in ACTIVITY_KINDS}
        if told[ACTIVITY_KINDS[0]] not in {PROPERTY, READBACK}:
            msg = (
                f"target-hubspot: HubSpot account {self.settings.portal_id} has not been set up;"
                " run `onethread setup hubspot` first"
            )
            raise SettingsError(msg)
        return {kind: PROPERTY if mode == PROPERTY else READBACK for kind, mode in told.items()}
