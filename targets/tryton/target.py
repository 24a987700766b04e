"""target-tryton: persons as parties, messages as notes on them, the fate of replies."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar

from singer_sdk.sinks import Sink

from mappings.errors import OneThreadError
from mappings.records import ArchivedMessage, Consent, Conversation, Person, Receipt
from mappings.to_tryton import CONTACT_KIND, CRM
from targets.base import TargetSettings
from targets.crm_contacts import Refusals
from targets.crm_messages import Parkable
from targets.crm_target import CrmTarget
from targets.tryton.api import TrytonApi
from targets.tryton.links import Links
from targets.tryton.moves import Moves
from targets.tryton.notes import Notes
from targets.tryton.parties import Parties
from targets.tryton.replies import Replies
from targets.tryton.settings import TrytonTargetSettings


class TargetTryton(CrmTarget[TrytonTargetSettings]):
    """Writes conversations into a Tryton database."""

    name = "target-tryton"
    crm = CRM
    contact_kind = CONTACT_KIND
    settings_model: ClassVar[type[TargetSettings]] = TrytonTargetSettings
    # A party has no field for what conversations and consents say.
    sink_classes: ClassVar[dict[str, type[Sink]]] = {
        stream: sink
        for stream, sink in CrmTarget.sink_classes.items()
        if stream not in {Conversation.stream, Consent.stream}
    }

    @property
    def account(self) -> str:
        """What the database is called in the ledger."""
        return self.settings.account_name

    def write_persons(self, persons: list[Person]) -> Refusals:
        """Make, find and update parties."""
        return self.contacts.write(persons)

    def write_messages(self, messages: list[ArchivedMessage], *, keep: bool) -> Parkable:
        """Put them on parties."""
        return self.timeline.write(messages, keep=keep)

    def write_receipts(self, receipts: list[Receipt]) -> Iterable[tuple[Receipt, OneThreadError]]:
        """Tell the agents, on the parties on which they wrote."""
        return self.replies.write(receipts)

    @cached_property
    def api(self) -> TrytonApi:
        """The database's API."""
        return TrytonApi(self.settings, self.stores)

    @cached_property
    def links(self) -> Links:
        """Its parties' ids, and where notes are."""
        return Links(self.api, self.ledger)

    @cached_property
    def contacts(self) -> Parties:
        """Its parties."""
        return Parties(self.api, self.ledger, self.links, self.people, self.settings, self.count)

    @cached_property
    def timeline(self) -> Notes:
        """Its notes."""
        return Notes(self.api, self.ledger, self.links, self.people, self.contacts, self.settings, self.count)

    @cached_property
    def moves(self) -> Moves:
        """Merges, splits and erasures in it."""
        return Moves(self.api, self.ledger, self.links, self.contacts, self.timeline, self.settings, self.count)

    @cached_property
    def replies(self) -> Replies:
        """Its agents' replies."""
        return Replies(self.api, self.ledger, self.timeline, self.settings, self.count)
