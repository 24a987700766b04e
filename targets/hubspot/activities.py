"""Activities on contacts' timelines: each made once, whatever happens on the way.

Two ways, and set-up found out which one the account allows. With a unique property on the object type (`PROPERTY`) a
batch is upserted, so it can be sent again after any failure. Without (`READBACK`) what is about to be created is
committed to the ledger first; when the answer stays away, the contacts' timelines are read and the reference in each
body says what was created. Associations are read, never the search index: that lags behind (documented).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mappings.errors import UnavailableError
from mappings.records import ArchivedMessage
from mappings.to_hubspot import BODY_PROPERTIES, MESSAGE_KEY, reference_in_body
from stores.ledger import Ledger, LedgerMessage
from targets.crm_messages import Parkable
from targets.hubspot.answers import Input, Refused, Written, object_in
from targets.hubspot.api import COMMUNICATIONS, TO_CONTACT, HubSpotApi
from targets.hubspot.links import Links
from targets.hubspot.places import INBOX, Place, place_of
from targets.hubspot.settings import HubSpotTargetSettings

PROPERTY = "property"
READBACK = "readback"
_ROUNDS = 3


@dataclass(slots=True)
class Draft:
    """One message on its way.

    Attributes:
        reference: what stands at the end of its body (the first digits), and in the unique property.
        entry: what the ledger will say.
        kind: object type, or the inbox.
    """

    message: ArchivedMessage
    reference: str
    entry: LedgerMessage
    properties: dict[str, str]
    kind: str

    @property
    def key(self) -> str:
        """Of the message."""
        return self.message.message_key


class Activities:
    """New communications and notes of one HubSpot account. Called under the account's create-lock.

    Args:
        modes: object type -> how it is written once, `PROPERTY` or `READBACK`.
    """

    def __init__(
        self,
        api: HubSpotApi,
        ledger: Ledger,
        links: Links,
        settings: HubSpotTargetSettings,
        count: Callable[[str, int], None],
        *,
        modes: Mapping[str, str],
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._links = links
        self._settings = settings
        self._count = count
        self._modes = modes

    def settle(self) -> None:
        """Find out what came of creations without an answer, from a run that died too."""
        intents = self._intents()
        if not intents:
            return
        now = self._links.survivors({one.contact_id for one in intents if one.contact_id})
        contacts = {contact for contact in now.values() if contact is not None}
        kinds = {_kind_of_intent(one) for one in intents}
        found = {kind: self._references_on(kind, contacts) for kind in kinds}
        settled, lost = [], []
        for intent in self._intents():  # read again: their contacts may have been renamed
            kind = _kind_of_intent(intent)
            record_id = found[kind].get((intent.kept or {}).get("reference", ""))
            if record_id is None:
                lost.append(intent.message)
            else:
                kept = {key: value for key, value in (intent.kept or {}).items() if key not in {"reference", "kind"}}
                place = Place(kind, record_id)
                settled.append(replace(intent, state="written", record_id=place.text, kept=kept or None))
        with self._ledger.transaction():
            self._ledger.save_messages(settled)
            self._ledger.forget_messages(lost)
        self._count("messages written", len(settled))

    def _intents(self) -> list[LedgerMessage]:
        """Intents of the inbox settle themselves: they are published again under the same id."""
        return [one for one in self._ledger.intents() if INBOX not in (one.kept or {})]

    def _references_on(self, kind: str, contacts: set[str]) -> dict[str, str]:
        """What is on these timelines and not in the ledger: reference in the body -> id of the oldest such record."""
        on_timeline = self._api.activities_of(kind, contacts)
        known = {one for contact in contacts for one in self._ledger.records_on_contact(contact)}
        unknown = {one for ones in on_timeline.values() for one in ones if Place(kind, one).text not in known}
        found: dict[str, str] = {}
        body = BODY_PROPERTIES[kind]
        for record in self._api.read_batch(kind, sorted(unknown), [body]):
            reference = reference_in_body(object_in(record.get("properties")).get(body))
            if reference:
                found[reference] = min(found.get(reference, str(record["id"])), str(record["id"]), key=int)
        return found

    def create(self, kind: str, drafts: Sequence[Draft]) -> Parkable:
        """Put new activities of one object type on their contacts; why some are on none."""
        create = self._with_property if self._modes[kind] == PROPERTY else self._with_readback
        return create(kind, drafts)

    def _with_property(self, kind: str, drafts: Sequence[Draft]) -> Parkable:
        by_reference = {draft.reference: draft for draft in drafts}

        def save(part: Written) -> None:
            entries = [
                replace(by_reference[reference].entry, record_id=Place(kind, str(record["id"])).text, contact_id=None)
                for reference, record in part.results.items()
            ]
            self._ledger.save_messages(entries)
            self._count("messages written", len(entries))

        inputs = [
            {
                "id": draft.reference,
                "idProperty": MESSAGE_KEY,
                "properties": {MESSAGE_KEY: draft.reference, **draft.properties},
                "objectWriteTraceId": draft.reference,
            }
            for draft in drafts
        ]
        written = self._api.write_batch(
            kind,
            "upsert",
            inputs,
            size=self._settings.message_batch_size,
            id_property=MESSAGE_KEY,
            recognise=_reference_digits(kind, by_reference),
            written_so_far=save,
        )
        ids = {
            Place(kind, str(record["id"])).text: by_reference[reference]
            for reference, record in written.results.items()
        }
        parkable: Parkable = {by_reference[one].key: refused.error for one, refused in written.refused.items()}
        return parkable | self._attach(kind, ids)

    def _attach(self, kind: str, drafts: Mapping[str, Draft]) -> Parkable:
        """Associate what was just upserted: place -> draft."""
        done, errors = self._links.attach({one: draft.entry.contact_id or "" for one, draft in drafts.items()})
        self._ledger.save_messages(
            [replace(drafts[one].entry, record_id=one, contact_id=contact_id) for one, contact_id in done.items()]
        )
        if errors:
            # On no timeline nobody would see it; it is made again when it is replayed.
            self._api.archive(kind, [place_of(one).record_id for one in errors])
            self._ledger.forget_messages(drafts[one].entry.message for one in errors)
        return {drafts[one].key: error for one, error in errors.items()}

    def _with_readback(self, kind: str, drafts: Sequence[Draft]) -> Parkable:
        waiting = list(drafts)
        parkable: Parkable = {}
        for _ in range(_ROUNDS):
            refused, unknown = self._create_once(kind, waiting)
            waiting = []
            if unknown:
                if self._settings.settle_wait_seconds:
                    time.sleep(self._settings.settle_wait_seconds)  # a slow server may still be writing
                self.settle()
                written = self._ledger.messages(draft.entry.message for draft in unknown)
                waiting = [draft for draft in unknown if draft.entry.message not in written]
            waiting += self._with_survivors(refused, parkable)
            if not waiting:
                return parkable
        msg = "HubSpot: creating messages keeps ending without an answer; run again later, nothing is written twice"
        raise UnavailableError(msg)

    def _create_once(self, kind: str, drafts: Sequence[Draft]) -> tuple[list[tuple[Draft, Refused]], list[Draft]]:
        """Create with intents; returns what was refused, and what nobody knows."""
        by_reference = {draft.reference: draft for draft in drafts}
        refused: list[tuple[Draft, Refused]] = []
        unknown: list[Draft] = []

        def save(part: Written) -> None:
            entries = [
                replace(by_reference[one].entry, record_id=Place(kind, str(record["id"])).text)
                for one, record in part.results.items()
            ]
            with self._ledger.transaction():
                self._ledger.save_messages(entries)
                self._ledger.forget_messages(by_reference[one].entry.message for one in part.refused)
            self._count("messages written", len(entries))
            refused.extend((by_reference[one], why) for one, why in part.refused.items())
            unknown.extend(by_reference[one] for one in part.unknown)

        size = self._settings.message_batch_size
        for start in range(0, len(drafts), size):
            chunk = drafts[start : start + size]
            self._ledger.save_messages([_intent(one) for one in chunk])
            self._api.write_batch(
                kind,
                "create",
                [_creation(draft) for draft in chunk],
                size=size,
                repeatable=False,
                recognise=_reference_digits(kind, by_reference),
                written_so_far=save,
            )
        return refused, unknown

    def _with_survivors(self, refused: Sequence[tuple[Draft, Refused]], parkable: Parkable) -> list[Draft]:
        """Those whose contact was merged into another, for that one; the others are noted with their reason."""
        if not refused:
            return []
        now = self._links.survivors(draft.entry.contact_id or "" for draft, _ in refused)
        again = []
        for draft, why in refused:
            survivor = now[draft.entry.contact_id or ""]
            if survivor is None:
                parkable[draft.key] = self._links.deleted()
            elif survivor == draft.entry.contact_id:
                parkable[draft.key] = why.error
            else:
                again.append(replace(draft, entry=replace(draft.entry, contact_id=survivor)))
        return again


def _intent(draft: Draft) -> LedgerMessage:
    kept = {**(draft.entry.kept or {}), "reference": draft.reference[:12], "kind": draft.kind}
    return replace(draft.entry, state="intended", kept=kept)


def _kind_of_intent(intent: LedgerMessage) -> str:
    return str((intent.kept or {}).get("kind") or COMMUNICATIONS)


def _creation(draft: Draft) -> Input:
    to = {"id": draft.entry.contact_id}
    return {
        "properties": draft.properties,
        "associations": [{"to": to, "types": [TO_CONTACT[draft.kind]]}],
        "objectWriteTraceId": draft.reference,
    }


def _reference_digits(kind: str, by_reference: Mapping[str, Draft]) -> Callable[[dict[str, Any]], str | None]:
    """Recognises a result that came without trace id by the reference at the end of its body."""
    short = {reference[:12]: reference for reference in by_reference}

    def recognise(record: dict[str, Any]) -> str | None:
        body = object_in(record.get("properties")).get(BODY_PROPERTIES[kind])
        return short.get(reference_in_body(body) or "")

    return recognise
