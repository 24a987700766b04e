"""Merges, splits and erasures of persons, carried out on contacts.

By default contacts are not merged in Salesforce: that cannot be undone there. Records move from one contact to the
other, and a split moves them back by the ledger. With `crm_merge` the contacts are merged too, where at most one of
them is the work of people.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mappings.errors import RejectedError
from stores.ledger import Ledger, LedgerContact
from targets.crm_moves import CrmMoves
from targets.salesforce.api import SalesforceApi
from targets.salesforce.contacts import Contacts
from targets.salesforce.links import Links
from targets.salesforce.settings import SalesforceTargetSettings
from targets.salesforce.timeline import Timeline

_LOG = logging.getLogger(__name__)


class Moves(CrmMoves):
    """Changes of persons in one org. Called under the org's create-lock."""

    _links: Links
    receipt = ("records", "contacts deleted", "contacts cleared")

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
        super().__init__(ledger, links, contacts, timeline, count)
        self._api = api
        self._settings = settings

    def _before_merge(self, source: LedgerContact | None, target: LedgerContact | None) -> None:
        """Merge two contacts for good, if that is asked for and one of them is only a projection."""
        if not self._settings.crm_merge or source is None or target is None:
            return
        if source.record_id is None or target.record_id is None or source.record_id == target.record_id:
            return
        if not source.projection and not target.projection:
            self._count("contacts of people not merged", 1)
            return
        master, victim = (target, source) if source.projection else (source, target)
        if master.record_id is None or victim.record_id is None:
            return
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

    def _check_children(self, victim_id: str, master_id: str) -> None:
        """A merge takes records along (documented for related lists; custom lookups: observed); what it left moves."""
        left = self._links.still_on(victim_id)
        if left:
            self._links.repoint(left, master_id)
