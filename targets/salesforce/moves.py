"""Merges, splits and erasures of persons, carried out on contacts.

By default contacts are not merged in Salesforce: that cannot be undone there. Records move from one contact to the
other, and a split moves them back by the ledger. With `crm_merge` the contacts are merged too, where at most one of
them is the work of people. Each change is carried out once; the ledger remembers its sequence.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from mappings.errors import MissingFieldError, RejectedError
from mappings.records import Handle, Person, PersonChange
from mappings.to_salesforce import CONTACT
from stores.ledger import Ledger, LedgerContact
from targets.salesforce.answers import Written
from targets.salesforce.api import SalesforceApi
from targets.salesforce.contacts import Contacts
from targets.salesforce.links import Links, deleted_in_salesforce
from targets.salesforce.settings import SalesforceTargetSettings
from targets.salesforce.timeline import Timeline

_LOG = logging.getLogger(__name__)


class Moves:
    """Changes of persons in one org. Called under the org's create-lock."""

    def __init__(
        self,
        api: SalesforceApi,
        ledger: Ledger,
        links: Links,
        contacts: Contacts,
        timeline: Timeline,
        settings: SalesforceTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._links = links
        self._contacts = contacts
        self._timeline = timeline
        self._settings = settings
        self._count = count

    def carry_out(self, change: PersonChange) -> None:
        """Carry out one change, unless it was before.

        Raises:
            OneThreadError: it could not be carried out whole; what was moved stays moved, and again is harmless.
        """
        if self._ledger.carried_out(change.sequence):
            return
        counts: dict[str, int] | None = None
        if change.change == "merge":
            self._merge(change)
        elif change.change == "split":
            self._split(change)
        else:
            counts = self._erase(change)
        self._ledger.mark_carried_out(change.sequence, counts)
        self._count(f"persons {change.change} carried out", 1)

    def _merge(self, change: PersonChange) -> None:
        into = _into(change)
        for person_id in change.from_person_ids:
            if person_id == into:
                continue
            records = self._ledger.messages_of_person(person_id)
            source = self._ledger.contact(person_id)
            merged = self._merge_in_salesforce(source, self._ledger.contact(into))
            if records:
                target = self._contact_of(into, change.handles)
                self._timeline.move(self._ledger.messages_of_person(person_id), target, into)
                source = self._ledger.contact(person_id)
            if source is not None and source.merged_into is None:
                self._contacts.carry_consents(source, into)
                target_row = self._ledger.contact(into)
                other = target_row is None or target_row.record_id != source.record_id
                if other and not merged:
                    self._contacts.retire(source)
            if source is not None or records:
                self._ledger.save_contact(LedgerContact(person_id, None, merged_into=into))

    def _merge_in_salesforce(self, source: LedgerContact | None, target: LedgerContact | None) -> bool:
        """Merge two contacts for good, if that is asked for and one of them is only a projection. Whether it was."""
        if not self._settings.crm_merge or source is None or target is None:
            return False
        if source.record_id is None or target.record_id is None or source.record_id == target.record_id:
            return False
        if not source.projection and not target.projection:
            self._count("contacts of people not merged", 1)
            return False
        master, victim = (target, source) if source.projection else (source, target)
        if master.record_id is None or victim.record_id is None:
            return False
        _LOG.warning("contact %s is merged into %s; Salesforce cannot undo that", victim.record_id, master.record_id)
        (result,) = self._api.merge([(master.record_id, victim.record_id)])
        if not result.success:
            now = self._links.survivors([victim.record_id])
            if now[victim.record_id] != master.record_id:
                codes = ", ".join(result.codes) or "no reason given"
                msg = f"Salesforce: merging contacts was refused ({codes}); they stay apart"
                raise RejectedError(msg, code=result.codes[0] if result.codes else None)
        self._check_children(victim.record_id, master.record_id)
        self._ledger.rename_record(victim.record_id, master.record_id)
        self._count("contacts merged in Salesforce", 1)
        return True

    def _check_children(self, victim_id: str, master_id: str) -> None:
        """A merge takes records along (documented for related lists; custom lookups: observed); what it left moves."""
        left = self._timeline.still_on(victim_id)
        if left:
            self._timeline.repoint(left, master_id)

    def _split(self, change: PersonChange) -> None:
        into = _into(change)
        pointer = self._ledger.contact(into)
        if pointer is not None and pointer.merged_into:
            self._ledger.forget_contact(into)
        records = [
            record
            for person_id in change.from_person_ids
            if person_id != into
            for record in self._ledger.messages_of_person(
                person_id, handles=change.handles, conversation_keys=change.conversation_keys, spans=change.spans
            )
        ]
        if records:
            self._timeline.move(records, self._contact_of(into, change.handles), into)

    def _erase(self, change: PersonChange) -> dict[str, int]:
        """What we wrote goes; a contact that we made goes for good. One that people made is theirs to delete.

        What was removed is the receipt of the erasure; see `targets.base`.
        """
        counts = {"records": 0, "contacts deleted": 0, "contacts cleared": 0}
        for person_id in change.from_person_ids:
            records = self._ledger.messages_of_person(person_id)
            self._timeline.erase(records)
            counts["records"] += len(records)
            contact = self._ledger.contact(person_id)
            if contact is None:
                continue
            if contact.record_id is not None:
                alone = len(self._ledger.contacts_of_record(contact.record_id)) == 1
                if contact.projection and alone:
                    failed = self._api.delete([contact.record_id])
                    if failed:
                        raise next(iter(failed.values())).error
                    self._api.empty_bin([contact.record_id])
                    counts["contacts deleted"] += 1
                else:
                    self._contacts.retire(contact, keep_record=True)
                    counts["contacts cleared"] += 1
                self._ledger.forget_record(contact.record_id)
            self._ledger.forget_contact(person_id)
        return counts

    def _contact_of(self, person_id: str, handles: Sequence[Handle]) -> str:
        """The contact of a person, made if there is none."""
        contact = self._contacts.of(person_id)
        if contact is None:
            self._contacts.prepare([], {person_id: Person(person_id=person_id, handles=list(handles))}, {}, {})
            write_contacts(self._api, self._contacts)
            contact = self._contacts.of(person_id)
        if contact is None or contact.record_id is None:
            why = self._contacts.refused.get(person_id)
            raise why or RejectedError(f"Salesforce: no {CONTACT} can be had for the person")
        if contact.gone:
            raise deleted_in_salesforce()
        return contact.record_id


ROUNDS = 4


def write_contacts(api: SalesforceApi, contacts: Contacts) -> None:
    """Write the drafted contacts alone, trying again what there is a way for."""
    for _ in range(ROUNDS):
        rows = contacts.rows()
        if not rows:
            return
        written: Written = api.write(rows, contacts.save)
        if not contacts.settle(written.refused):
            return


def _into(change: PersonChange) -> str:
    if change.into_person_id is None:
        msg = f"person change {change.sequence}: a {change.change} without into_person_id"
        raise MissingFieldError(msg)
    return change.into_person_id
