"""Which contact a record id stands for now, and on which timeline a message is.

People merge and delete contacts in HubSpot whenever they like. Single reads of a merged-away id lead to the survivor,
batches and associations do not (documented: developers.hubspot.com/docs/api-reference/crm-contacts-v3/guide and
/changelog/updated-merge-functionality-for-contacts-and-companies, read 2026-11), so an id that fails is looked up once
and replaced everywhere in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mappings.errors import RejectedError
from stores.ledger import Ledger, LedgerMessage
from targets.crm_links import CrmLinks
from targets.hubspot.answers import object_in
from targets.hubspot.api import ACTIVITY_KINDS, CONTACTS, HubSpotApi
from targets.hubspot.places import INBOX, Place, place_of


class Links(CrmLinks):
    """Contacts and timelines of one HubSpot account."""

    def __init__(self, api: HubSpotApi, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._api = api

    def deleted(self) -> RejectedError:
        """Why a message cannot be shown: somebody deleted its contact."""
        return RejectedError(
            "HubSpot: the person's contact was deleted there, so it is not made again. Restore the contact (or link the"
            " person to another one) and replay this",
            code="CONTACT_DELETED",
        )

    def _look_up(self, record_ids: Sequence[str]) -> dict[str, str | None]:
        now: dict[str, str | None] = {}
        for one in self._api.read_batch(CONTACTS, record_ids, ["hs_merged_object_ids"]):
            now |= dict.fromkeys(_ids_of(one), str(one["id"]))
        for record_id in record_ids:
            if record_id not in now:
                now[record_id] = None
                if (found := self._api.fetch(CONTACTS, record_id, ["hs_merged_object_ids"])) is not None:
                    now |= dict.fromkeys([*_ids_of(found), record_id], str(found["id"]))
        # A merge makes a contact of its own: the other one that went into it is found with this one.
        return {one: survivor for one, survivor in now.items() if one in record_ids or self._is_known(one)}

    def _is_known(self, record_id: str) -> bool:
        return bool(self._ledger.contacts_of_record(record_id))

    def attach(self, messages: Mapping[str, str]) -> tuple[dict[str, str], dict[str, RejectedError]]:
        """Put activities on timelines: place -> contact id. A thread of the inbox stays with its contact.

        Returns:
            Place -> the contact it is on now (a survivor, perhaps), and why the others are on none.
        """
        failed = self._associate(messages)
        done = {one: contact for one, contact in messages.items() if one not in failed}
        if not failed:
            return done, {}
        now = self.survivors(failed.values())
        again = {one: survivor for one, contact in failed.items() if (survivor := now[contact]) is not None}
        refused = self._associate(again)
        errors: dict[str, RejectedError] = {}
        for one in failed:
            if one not in again:
                errors[one] = self.deleted()
            elif one in refused:
                errors[one] = RejectedError("HubSpot: the message could not be put on its contact's timeline")
            else:
                done[one] = again[one]
        return done, errors

    def _associate(self, messages: Mapping[str, str]) -> dict[str, str]:
        """What HubSpot did not take of place -> contact id."""
        failed: dict[str, str] = {}
        for kind, places in _by_kind(messages).items():
            pairs = [(one.record_id, messages[one.text]) for one in places]
            failed |= {Place(kind, one).text: contact for one, contact in self._api.associate(kind, pairs)}
        return failed

    def move(self, messages: Sequence[LedgerMessage], contact_id: str, person_id: str) -> dict[str, RejectedError]:
        """Take written messages to another contact's timeline; see `CrmLinks.move`."""
        waiting = {one.record_id: one for one in messages if one.record_id and one.contact_id != contact_id}
        done, errors = self.attach(dict.fromkeys(waiting, contact_id)) if waiting else ({}, {})
        old = [
            (record_id, before)
            for record_id, now in done.items()
            if (entry := waiting[record_id]).contact_id
            and (before := self._ledger.survivor(entry.contact_id)) not in {now, contact_id}
        ]
        for kind, places in _by_kind(dict(old)).items():
            self._api.dissociate(kind, [(one.record_id, dict(old)[one.text]) for one in places])
        moved = [replace(waiting[record_id], contact_id=now, person_id=person_id) for record_id, now in done.items()]
        stayed = [replace(one, person_id=person_id) for one in messages if one.contact_id == contact_id]
        self._ledger.save_messages([*moved, *stayed])
        missing = [record_id for record_id in errors if self._is_deleted(record_id)]
        self._ledger.save_messages([replace(waiting[record_id], state="gone") for record_id in missing])
        return {waiting[record_id].message: errors[record_id] for record_id in errors if record_id not in missing}

    def _is_deleted(self, text: str) -> bool:
        place = place_of(text)
        return place.kind != INBOX and self._api.fetch(place.kind, place.record_id, ["hs_object_id"]) is None


def _ids_of(record: Mapping[str, Any]) -> list[str]:
    """The id of a contact, and those of the contacts that were merged into it."""
    merged = object_in(record.get("properties")).get("hs_merged_object_ids") or ""
    return [*(old.strip() for old in str(merged).split(";") if old.strip()), str(record["id"])]


def _by_kind(places: Iterable[str]) -> dict[str, list[Place]]:
    """The activities among the places, by their object type."""
    found: dict[str, list[Place]] = {}
    for place in map(place_of, places):
        if place.kind in ACTIVITY_KINDS:
            found.setdefault(place.kind, []).append(place)
    return found
