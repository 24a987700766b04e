"""Messages as records on contacts: which of them are written, on whose contact, and what is kept of them.

Knows no CRM: how a record is made once and changed later is the CRM's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mappings.errors import OneThreadError, RejectedError
from mappings.fold import change_without_content, fold_message, is_unsent, without_content
from mappings.records import ArchivedMessage, MessageChange
from stores.ledger import Ledger, LedgerMessage
from targets.crm_contacts import CrmContacts
from targets.crm_links import CrmLinks
from targets.crm_people import CrmPeople

Parkable = dict[str, OneThreadError]
"""Message key (or conversation key) -> why it is not in the CRM."""


@dataclass(frozen=True, slots=True)
class Addressed:
    """A message with the contact that it belongs on, and its row in the ledger if it was written before."""

    message: ArchivedMessage
    person_id: str
    contact_id: str
    row: LedgerMessage | None


class CrmMessages(ABC):
    """The messages in one account. Called under the account's create-lock.

    Args:
        ledger: of the account.
        links: its contacts, alive, merged and deleted.
        people: whose they are.
        contacts: its contacts.
        count: adds to the summary.
    """

    def __init__(
        self,
        ledger: Ledger,
        links: CrmLinks,
        people: CrmPeople,
        contacts: CrmContacts,
        count: Callable[[str, int], None],
    ) -> None:
        self._ledger = ledger
        self._links = links
        self._people = people
        self._contacts = contacts
        self._count = count

    def keep_changes(self, changes: Sequence[MessageChange]) -> list[ArchivedMessage]:
        """Keep edits, removals and reactions of a pipe without an archive; the messages to write again with them."""
        for change in changes:
            self._ledger.save_change(change)
        for key in {change.message_key for change in changes}:
            known = self._ledger.changes(key)
            if is_unsent(known):  # what its author took back is kept nowhere
                for change in known:
                    self._ledger.save_change(change_without_content(change))
        rows = self._ledger.messages(self._ledger.fingerprint(change.message_key) for change in changes)
        kept = [row.kept["message"] for row in rows.values() if row.kept and "message" in row.kept]
        return [ArchivedMessage.model_validate(one) for one in kept]

    def move(self, messages: Sequence[LedgerMessage], contact_id: str, person_id: str) -> Mapping[str, OneThreadError]:
        """Take written messages to another contact; why some (by fingerprint) could not be moved.

        Repeats: harmless.
        """
        return self._links.move(messages, contact_id, person_id)

    def settle(self) -> None:
        """Find out what came of creations without an answer, where creating is not the same as creating twice."""
        return

    @abstractmethod
    def erase(self, messages: Sequence[LedgerMessage]) -> None:
        """Remove written messages from the CRM for good; they are never written again."""

    # What a CRM's own module builds on

    def _addressed(
        self, latest: Mapping[str, ArchivedMessage], rows: Mapping[str, LedgerMessage]
    ) -> tuple[list[Addressed], Parkable]:
        """Messages with their contacts, made where there are none.

        Args:
            latest: by their fingerprints.
            rows: of the ledger, of those that were written before.

        Returns:
            Those that can be written, and why others cannot; who has none to be written on is counted.
        """
        parkable: Parkable = {}
        persons = {
            mark: person_id
            for mark, message in latest.items()
            if (person_id := self._whose(message, rows.get(mark), parkable)) is not None
        }
        seen = self._people.seen_on((person_id, latest[mark]) for mark, person_id in persons.items())
        refused = self._contacts.ensure(seen)
        found = []
        for mark, person_id in persons.items():
            message, contact = latest[mark], self._contacts.of(person_id)
            if contact is None or contact.record_id is None:
                parkable[message.message_key] = refused.get(person_id) or self._contacts.none_to_be_had()
            elif contact.gone:
                parkable[message.message_key] = self._links.deleted()
            else:
                found.append(Addressed(message, person_id, contact.record_id, rows.get(mark)))
        return found, parkable

    def _whose(self, message: ArchivedMessage, row: LedgerMessage | None, parkable: Parkable) -> str | None:
        """Whose a message is; ``None`` where it is not to be written: that is counted, or noted with its reason."""
        if row is not None and row.state in {"gone", "erased"}:
            self._count(f"messages {row.state} before", 1)
            return None
        person_id = self._people.person_of(message)
        if person_id is None and message.handles:
            why = RejectedError(f"{self._contacts.crm}: no person on the message; run map-identity first")
            parkable[message.message_key] = why
        elif person_id is None:
            self._count("messages without a customer", 1)
        return person_id

    def _kept_and_folded(self, message: ArchivedMessage) -> tuple[dict[str, Any], ArchivedMessage]:
        """In a pipe without an archive: what is kept of a message to write it again, and what is shown of it now."""
        changes = self._ledger.changes(message.message_key)
        original = without_content(message) if is_unsent(changes) else message
        return {"message": original.model_dump(mode="json")}, fold_message([message], changes)
