"""What differs on contacts that are there is written, and what HubSpot refuses is tried once more with less.

Nothing that we did not write last is overwritten: of a contact that people made only our own properties, of a
projection its name and addresses while they are still ours or empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from mappings.records import Person
from mappings.to_hubspot import PERSON_ID, PROJECTION
from stores.ledger import Ledger, LedgerContact
from targets.crm_consents import with_consents
from targets.crm_contacts import Refusals
from targets.hubspot.answers import Refused, object_in
from targets.hubspot.api import CONTACTS, HubSpotApi
from targets.hubspot.fields import Fields
from targets.hubspot.links import Links
from targets.hubspot.settings import HubSpotTargetSettings


@dataclass(slots=True)
class Draft:
    """What is about to be written on a person's contact.

    Attributes:
        own: properties of ours; `standard` those that people own.
        consents: marks of what the person said of advertising, to stand in the ledger; ``None``: those that do.
        whole: whether this is all that there is to say of the person.
    """

    person: Person
    own: dict[str, str]
    standard: dict[str, str]
    consents: dict[str, str] | None = None
    whole: bool = True


class ContactUpdates:
    """Updates of contacts in one HubSpot account. Called under the account's create-lock."""

    def __init__(
        self,
        api: HubSpotApi,
        ledger: Ledger,
        links: Links,
        fields: Fields,
        settings: HubSpotTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._links = links
        self._fields = fields
        self._settings = settings
        self._count = count

    def write(self, drafts: Iterable[tuple[Draft, LedgerContact]]) -> Refusals:
        """Write what differs from what we wrote last; each draft with the ledger's row of a contact that is there."""
        inputs: dict[str, dict[str, str]] = {}
        hashes: dict[str, str | None] = {}
        guarded: dict[str, dict[str, str]] = {}
        consents: dict[str, dict[str, str] | None] = {}
        for draft, contact in drafts:
            if not contact.projection and draft.whole:
                draft = replace(draft, own={**draft.own, PROJECTION: "false"}, standard={})
            # With the consents: of two persons on one contact one can change its mind and the field stay as it is.
            content_hash = self._ledger.content_hash({**draft.own, **draft.standard, **(draft.consents or {})})
            if content_hash == contact.content_hash:
                continue
            hashes[contact.person_id] = content_hash if draft.whole else contact.content_hash
            inputs[contact.person_id] = self._changed(draft.own, contact)
            guarded[contact.person_id] = self._changed(draft.standard, contact) if contact.projection else {}
            consents[contact.person_id] = draft.consents
        self._allow(guarded, inputs)
        return self._write_updates(inputs, hashes, consents)

    def _changed(self, properties: Mapping[str, str], contact: LedgerContact) -> dict[str, str]:
        return {
            name: value
            for name, value in properties.items()
            if self._ledger.fingerprint(value) != contact.written.get(name) and (value or name in contact.written)
        }

    def _allow(self, guarded: Mapping[str, Mapping[str, str]], inputs: Mapping[str, dict[str, str]]) -> None:
        """Add the standard properties whose present value is ours or empty; people's values stay."""
        rows = {person_id: self._ledger.contact(person_id) for person_id, one in guarded.items() if one}
        asked = {person_id: row for person_id, row in rows.items() if row is not None}
        if not asked:
            return
        wanted = [one.record_id for one in asked.values() if one.record_id]
        records = self._api.read_batch(CONTACTS, wanted, self._fields.peoples)
        present = {str(record["id"]): object_in(record.get("properties")) for record in records}
        for person_id, contact in asked.items():
            values = present.get(contact.record_id or "", {})
            for name, value in guarded[person_id].items():
                now = values.get(name) or ""
                if not now or self._ledger.fingerprint(now) == contact.written.get(name):
                    inputs[person_id][name] = value

    def _write_updates(
        self,
        updates: Mapping[str, dict[str, str]],
        hashes: Mapping[str, str | None],
        consents: Mapping[str, Mapping[str, str] | None],
    ) -> Refusals:
        failed = self._write_once(updates, hashes, consents)
        refused: Refusals = {person_id: one.error for person_id, one in failed.items()}
        again = self._to_try_again(updates, failed, refused)
        # Not all of it is written then, so the next run looks again.
        failed = self._write_once(again, dict.fromkeys(again), consents)
        refused = {person_id: error for person_id, error in refused.items() if person_id not in again}
        return refused | {person_id: one.error for person_id, one in failed.items()}

    def _write_once(
        self,
        updates: Mapping[str, dict[str, str]],
        hashes: Mapping[str, str | None],
        consents: Mapping[str, Mapping[str, str] | None],
    ) -> dict[str, Refused]:
        rows = {person_id: self._ledger.contact(person_id) for person_id in updates}
        inputs = [
            {"id": row.record_id, "properties": updates[person_id], "objectWriteTraceId": person_id}
            for person_id, row in rows.items()
            if row is not None and updates[person_id]
        ]
        written = self._api.write_batch(CONTACTS, "update", inputs, size=self._settings.contact_batch_size)
        with self._ledger.transaction():
            for person_id, row in rows.items():
                if row is not None and person_id not in written.refused:
                    before = with_consents(row.written, consents[person_id])
                    now = {**before, **marks_of(updates[person_id], self._ledger)}
                    self._ledger.save_contact(replace(row, written=now, content_hash=hashes[person_id]))
        self._count("contacts updated", len(written.results))
        return written.refused

    def _to_try_again(
        self, updates: Mapping[str, dict[str, str]], failed: Mapping[str, Refused], refused: Refusals
    ) -> dict[str, dict[str, str]]:
        """Updates worth a second try: the contact was merged into another, or a single property was at fault."""
        rows = {person_id: self._ledger.contact(person_id) for person_id in failed if failed[person_id].missing}
        lost = {person_id: row.record_id for person_id, row in rows.items() if row is not None and row.record_id}
        now = self._links.survivors(lost.values()) if lost else {}
        again = {}
        for person_id in failed:
            properties = updates[person_id]
            own = {name: value for name, value in properties.items() if name not in self._fields.peoples}
            if person_id in lost:
                if now[lost[person_id]] is not None:
                    again[person_id] = {**own, PERSON_ID: person_id, PROJECTION: "false"}
                else:
                    refused.pop(person_id)  # deleted in HubSpot; its next message says so
                continue
            if own == properties:  # then another contact holds the person's id
                own = {name: value for name, value in properties.items() if name != PERSON_ID}
            if own and own != properties:
                again[person_id] = own
        return again


def marks_of(properties: Mapping[str, str], ledger: Ledger) -> dict[str, str]:
    """What the ledger notes of properties that were written: name -> fingerprint of the value."""
    return {name: ledger.fingerprint(value) for name, value in properties.items()}
