"""target-hubspot: persons as contacts, messages on their timelines, the fate of replies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

from singer_sdk.sinks import Sink

from mappings.errors import IdentityConflictError, OneThreadError, PayloadError, RejectedError, SettingsError
from mappings.records import ArchivedMessage, MessageChange, Person, PersonChange, Receipt
from stores.control import Facts
from stores.graph import Graph
from stores.ledger import Ledger
from targets.base import CanonicalSink, OneThreadTarget, TargetSettings
from targets.hubspot.api import HubSpotApi
from targets.hubspot.contacts import Contacts
from targets.hubspot.links import Links
from targets.hubspot.moves import Moves
from targets.hubspot.replies import Replies
from targets.hubspot.settings import HubSpotTargetSettings
from targets.hubspot.setup import communication_key_fact
from targets.hubspot.timeline import PROPERTY, READBACK, Timeline


class HubSpotSink(CanonicalSink[Any]):
    """What the sinks of this target share."""

    @property
    def hubspot(self) -> TargetHubSpot:
        """The target, by its own type."""
        if not isinstance(self.target, TargetHubSpot):
            msg = f"{type(self).__name__} belongs to a TargetHubSpot"
            raise TypeError(msg)
        return self.target

    def park_all(self, records: dict[str, Any], errors: dict[str, OneThreadError]) -> None:
        """Put aside the records that could not be written."""
        for key, error in errors.items():
            if key in records:
                self.park(records[key], error)


class PersonsSink(HubSpotSink):
    """Persons with messages: their contacts."""

    record_model = Person

    def write(self, records: list[Person]) -> None:
        """Make, find and update contacts."""
        with self.hubspot.account_lock():
            errors = self.hubspot.contacts.write(records)
        self.park_all({person.person_id: person for person in records}, errors)


class PersonChangesSink(HubSpotSink):
    """Merges, splits and erasures."""

    record_model = PersonChange

    def write(self, records: list[PersonChange]) -> None:
        """Carry them out in their order."""
        with self.hubspot.account_lock():
            for change in sorted(records, key=lambda one: one.sequence):
                try:
                    self.hubspot.moves.carry_out(change)
                except (RejectedError, PayloadError, IdentityConflictError) as error:
                    self.park(change, error)


class MessagesSink(HubSpotSink):
    """Messages: activities on timelines."""

    # Whatever the archive folds into a message has a default, so a plain message is one too.
    record_model = ArchivedMessage

    @property
    def folded(self) -> bool:
        """Whether the messages come with their changes and receipts folded in (from an archive)."""
        return "status" in self.schema.get("properties", {})

    def write(self, records: list[ArchivedMessage]) -> None:
        """Put them on timelines."""
        with self.hubspot.account_lock():
            errors = self.hubspot.timeline.write(records, keep=not self.folded)
        self.park_all({message.message_key: message for message in records}, errors)


class MessageChangesSink(HubSpotSink):
    """Changes of messages, which an archive would have folded in."""

    record_model = MessageChange

    def write(self, records: list[MessageChange]) -> None:
        """Show them, unless the messages come folded."""
        if self.hubspot.messages_are_folded:
            self.target.count("message_changes not used", len(records))
            return
        with self.hubspot.account_lock():
            errors = self.hubspot.timeline.change(records)
        self.park_all({change.message_key: change for change in records}, errors)


class ReceiptsSink(HubSpotSink):
    """What became of agents' replies."""

    record_model = Receipt

    def write(self, records: list[Receipt]) -> None:
        """Tell the contacts on which they were queued."""
        with self.hubspot.account_lock():
            failed = self.hubspot.replies.write(records)
        for receipt, error in failed:
            self.park(receipt, error)


class TargetHubSpot(OneThreadTarget[HubSpotTargetSettings]):
    """Writes conversations into a HubSpot account."""

    name = "target-hubspot"
    settings_model: ClassVar[type[TargetSettings]] = HubSpotTargetSettings
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
        """One process at a time makes contacts and settles intents in one account."""
        with self.stores.lock(f"hubspot-create-{self.settings.portal_id}"):
            yield

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
    def contacts(self) -> Contacts:
        """Its contacts."""
        self._communication_mode()
        graph = Graph(self.stores)
        return Contacts(self.api, self.ledger, self.links, graph, self.settings, self.count)

    @cached_property
    def timeline(self) -> Timeline:
        """Its timelines."""
        mode = self._communication_mode()
        graph = Graph(self.stores)
        return Timeline(self.api, self.ledger, self.links, self.contacts, graph, self.settings, self.count, mode=mode)

    @cached_property
    def moves(self) -> Moves:
        """Merges, splits and erasures in it."""
        return Moves(self.api, self.ledger, self.links, self.contacts, self.timeline, self.count)

    @cached_property
    def replies(self) -> Replies:
        """Its agents' replies."""
        self._communication_mode()
        return Replies(self.api, self.ledger, self.settings, self.count)

    def count(self, what: str, number: int = 1) -> None:
        """Add to the summary; nothing is not worth a line."""
        if number:
            super().count(what, number)

    def _communication_mode(self) -> str:
        mode = Facts(self.stores).load(communication_key_fact(self.settings.portal_id))
        if mode not in {PROPERTY, READBACK}:
            msg = (
                f"target-hubspot: HubSpot account {self.settings.portal_id} has not been set up;"
                " run `onethread setup hubspot` first"
            )
            raise SettingsError(msg)
        return str(mode)
