"""Which contact a record id stands for now, and on which contact a message is. Knows no CRM."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mappings.errors import OneThreadError, RejectedError
from stores.ledger import Ledger, LedgerMessage


class CrmLinks(ABC):
    """Contacts of one account, alive, merged and deleted, and what is on them.

    Args:
        ledger: of the account.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._survivors: set[str] = set()

    def survivors(self, record_ids: Iterable[str]) -> dict[str, str | None]:
        """The live contact behind each id, ``None`` when it was deleted; the ledger follows what is found."""
        now = self._look_up(sorted(set(record_ids)))
        for record_id, survivor in now.items():
            if survivor is None:
                for contact in self._ledger.contacts_of_record(record_id):
                    self._ledger.save_contact(replace(contact, gone=True))
            elif survivor != record_id:
                self._follow(record_id, survivor)
                self._survivors.add(survivor)
        return now

    def take_survivors(self) -> list[str]:
        """The contacts that were found to be survivors of merges since the last call of this method."""
        found, self._survivors = sorted(self._survivors), set()
        return found

    @abstractmethod
    def deleted(self) -> RejectedError:
        """Why a message cannot be shown: somebody deleted its contact. Says what to do."""

    @abstractmethod
    def move(self, messages: Sequence[LedgerMessage], contact_id: str, person_id: str) -> Mapping[str, OneThreadError]:
        """Take written messages to another contact; those that are there already only change person.

        Returns:
            Why a message (by its fingerprint) could not be moved; it stays where it was.

        Repeats: harmless. The ledger is written last, so after a crash everything is done again.
        """

    @abstractmethod
    def _look_up(self, record_ids: Sequence[str]) -> dict[str, str | None]:
        """The live contact behind each of these ids, ``None`` when there is none; asks the CRM.

        Other ids of the ledger that were merged into one of the contacts found may be among them.
        """

    def _follow(self, record_id: str, survivor: str) -> None:
        """People merged `record_id` into `survivor`. A CRM that leaves our messages behind moves them here first."""
        self._ledger.rename_record(record_id, survivor)
