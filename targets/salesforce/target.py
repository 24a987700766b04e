"""target-salesforce: persons as contacts, conversations and messages on them, the fate of replies.

Everything that was collected goes out together, parents and children in the same calls.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from mappings.records import ArchivedMessage
from mappings.to_salesforce import CRM
from targets.base import TargetSettings
from targets.crm_messages import Parkable
from targets.crm_target import CrmTarget, Staged
from targets.salesforce.api import SalesforceApi
from targets.salesforce.contacts import ROUNDS, Contacts
from targets.salesforce.fields import Fields
from targets.salesforce.files import Files
from targets.salesforce.links import Links
from targets.salesforce.moves import Moves
from targets.salesforce.replies import Replies
from targets.salesforce.settings import SalesforceTargetSettings
from targets.salesforce.timeline import Timeline


class TargetSalesforce(CrmTarget[SalesforceTargetSettings]):
    """Writes conversations into a Salesforce org."""

    name = "target-salesforce"
    crm = CRM
    contact_kind = "salesforce_contact"
    settings_model: ClassVar[type[TargetSettings]] = SalesforceTargetSettings

    @property
    def account(self) -> str:
        """The org's id."""
        return self.settings.org_id

    # Writing

    def write_all(self, staged: Staged) -> None:
        """Write what was collected, together."""
        self._prepare_contacts(staged)
        if staged.person_changes:
            self.contacts.write_drafts()
            self.carry_out(staged.person_changes)
            # Who is whose has changed; what is unchanged costs nothing the second time.
            self._prepare_contacts(staged)
        names = {one.person_id: one.name for one in staged.persons if one.name}
        keep = not self.messages_are_folded
        self.timeline.prepare(staged.conversations, staged.messages, names, keep=keep)
        self.replies.prepare(staged.receipts)
        self._write_rounds()
        self.park_refused(staged.persons, "person_id", self.contacts.refused)
        self.park_refused(staged.messages, "message_key", self.timeline.parkable)
        self.park_each(self.replies.failed)
        self.write_changes(staged.message_changes)

    def write_messages(self, messages: list[ArchivedMessage], *, keep: bool) -> Parkable:
        """Write messages alone: those that are written again because they changed."""
        self._prepare_contacts(Staged(messages=messages))
        self.timeline.prepare([], messages, {}, keep=keep)
        self._write_rounds()
        return self.timeline.parkable

    def _prepare_contacts(self, staged: Staged) -> None:
        seen = self.people.seen_on(
            (person_id, one) for one in staged.messages if (person_id := self.people.person_of(one)) is not None
        )
        self.contacts.prepare(staged.persons, seen)

    def _write_rounds(self) -> None:
        """Write all drafts together; what was refused for a reason that passes is tried again."""
        for _ in range(ROUNDS):
            if self.timeline.needs_contact_first():
                self.contacts.write_drafts()
            rows = [*self.contacts.rows(), *self.timeline.rows(), *self.replies.rows()]
            if not rows:
                break
            written = self.api.write(rows, self._save)
            self.replies.judge(written.refused)
            again = self.contacts.judge(written.refused)
            if not self.timeline.judge(written.refused, again) and not again:
                break
        self.timeline.give_up()
        self.timeline.upload()

    def _save(self, part: Any) -> None:
        """After each call: contacts first, as the others name them."""
        with self.ledger.transaction():
            self.contacts.save(part)
            self.timeline.save(part)
            self.replies.save(part)

    def process_endofpipe(self) -> None:
        """Write what is left, replay what was asked for, and say what was done and what the org has left."""
        super().process_endofpipe()
        if "api" in self.__dict__:
            used = f"{self.api.calls} API calls"
            if self.api.usage is not None:
                used += f"; {self.api.usage[1] - self.api.usage[0]} of {self.api.usage[1]} left of the last 24 hours"
            self.logger.info("Salesforce: %s", used)

    # The parts

    @cached_property
    def api(self) -> SalesforceApi:
        """The org's API."""
        return SalesforceApi(self.settings, self.stores)

    @cached_property
    def links(self) -> Links:
        """Its records, merged and deleted ones too."""
        return Links(self.api, self.ledger, self.fields)

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
        return Replies(self.api, self.ledger, self.fields, self.settings, self.count)
