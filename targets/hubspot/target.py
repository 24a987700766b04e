"""target-hubspot: persons as contacts, messages on their timelines or in the inbox, the fate of replies."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar

from singer_sdk.sinks import Sink

from mappings.errors import OneThreadError, SettingsError
from mappings.from_hubspot import CRM
from mappings.records import ArchivedMessage, Conversation, Person, Receipt
from stores.control import Facts
from targets.base import TargetSettings
from targets.crm_contacts import Refusals
from targets.crm_messages import Parkable
from targets.crm_moves import CrmMoves
from targets.crm_target import CrmTarget
from targets.hubspot.activities import PROPERTY, READBACK
from targets.hubspot.api import ACTIVITY_KINDS, HubSpotApi
from targets.hubspot.contacts import Contacts
from targets.hubspot.fields import Fields
from targets.hubspot.files import Files
from targets.hubspot.inbox import Inbox
from targets.hubspot.links import Links
from targets.hubspot.replies import Replies
from targets.hubspot.settings import HubSpotTargetSettings
from targets.hubspot.setup import message_key_fact
from targets.hubspot.timeline import Timeline


class TargetHubSpot(CrmTarget[HubSpotTargetSettings]):
    """Writes conversations into a HubSpot account."""

    name = "target-hubspot"
    crm = CRM
    contact_kind = "hubspot_contact"
    settings_model: ClassVar[type[TargetSettings]] = HubSpotTargetSettings
    sink_classes: ClassVar[dict[str, type[Sink]]] = {
        stream: sink for stream, sink in CrmTarget.sink_classes.items() if stream != Conversation.stream
    }

    @property
    def account(self) -> str:
        """The account's id."""
        return self.settings.portal_id

    def write_persons(self, persons: list[Person]) -> Refusals:
        """Make, find and update contacts."""
        return self.contacts.write(persons)

    def write_messages(self, messages: list[ArchivedMessage], *, keep: bool) -> Parkable:
        """Put them on timelines, or into the inbox."""
        if self.settings.roll_up and not self.messages_are_folded:
            msg = "target-hubspot: roll_up needs messages from an archive (tap-archive), which folds changes in"
            raise SettingsError(msg)
        return self.timeline.write(messages, keep=keep)

    def write_receipts(self, receipts: list[Receipt]) -> Iterable[tuple[Receipt, OneThreadError]]:
        """Tell the agents, where they wrote."""
        return self.replies.write(receipts)

    @cached_property
    def api(self) -> HubSpotApi:
        """The account's API."""
        return HubSpotApi(self.settings, self.stores)

    @cached_property
    def links(self) -> Links:
        """Its contacts' ids and timelines."""
        return Links(self.api, self.ledger)

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
        return Contacts(self.api, self.ledger, self.links, self.people, self.fields, self.settings, self.count)

    @cached_property
    def inbox(self) -> Inbox:
        """Its inbox."""
        return Inbox(self.api, self.ledger, self.links, self.files, self.stores, self.settings, self.count)

    @cached_property
    def files(self) -> Files:
        """Its customers' files."""
        return Files(self.api, self.ledger, self.stores, self.settings, self.count)

    @cached_property
    def timeline(self) -> Timeline:
        """Its timelines."""
        return Timeline(
            self.api,
            self.ledger,
            self.links,
            self.people,
            self.contacts,
            self.inbox,
            self.files,
            self.settings,
            self.count,
            modes=self._modes(),
        )

    @cached_property
    def moves(self) -> CrmMoves:
        """Merges, splits and erasures in it. Contacts are not merged in HubSpot: that cannot be undone there."""
        return CrmMoves(self.ledger, self.links, self.contacts, self.timeline, self.count)

    @cached_property
    def replies(self) -> Replies:
        """Its agents' replies."""
        self._modes()
        return Replies(self.api, self.ledger, self.inbox, self.settings, self.count)

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
