"""The CRM's state and what may be done to it: records, unique values, associations, merges, and the search index."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sandbox.base import Clock
from sandbox.hubspot.objects import (
    ACTIVITIES,
    ACTIVITY_TYPE_IDS,
    API,
    ASSOCIATION_TYPE_IDS,
    COMMUNICATIONS,
    CONTACTS,
    HISTORY_LIMIT,
    MERGE,
    NOTES,
    OBJECT_TYPES,
    ObjectType,
    Record,
    Source,
    Version,
    with_value,
)
from sandbox.hubspot.properties import Properties
from sandbox.hubspot.refusals import Refusal, invalid, not_found, values_invalid

MERGE_LIMIT = 250
_REQUIRED = ("hs_timestamp", "hs_communication_channel_type", "hs_communication_logged_from")


@dataclass(frozen=True, slots=True)
class _Change:
    visible_at: float
    record: Record | None
    kind: ObjectType
    record_id: str


class Crm:
    """Everything that one account holds. Not locked: the server calls it under its own lock."""

    def __init__(self, clock: Clock, properties: Properties, *, portal_id: str, search_lag_seconds: float) -> None:
        self.properties = properties
        self.merged: dict[str, str] = {}
        self.blocked_emails: set[str] = set()
        self.activities: dict[tuple[str, str], list[str]] = {}
        self._clock = clock
        self._portal_id = portal_id
        self._lag_seconds = search_lag_seconds
        self._records: dict[str, dict[str, Record]] = {kind.name: {} for kind in OBJECT_TYPES}
        self._holders: dict[tuple[str, str, str], str] = {}
        self._links: dict[tuple[str, str, str], dict[str, None]] = {}
        self._last_id = {"contacts": 1000, "communications": 500_000, "notes": 700_000}
        self._pending: deque[_Change] = deque()
        self._indexed: dict[str, dict[str, Record]] = {kind.name: {} for kind in OBJECT_TYPES}
        self._undo: list[Callable[[], object]] | None = None

    def now(self) -> datetime:
        """The stand-in's time, cut to the milliseconds that HubSpot keeps."""
        moment = self._clock.now()
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """A refusal inside leaves no trace of what was written before it. Not nested."""
        self._undo = []
        try:
            yield
        except Refusal:
            for step in reversed(self._undo):
                step()
            raise
        finally:
            self._undo = None

    # -- reading

    def records(self, kind: ObjectType, *, archived: bool = False) -> list[Record]:
        """Live (or archived) records, oldest first."""
        return [one for one in self._records[kind.name].values() if (one.archived_at is not None) == archived]

    def live(self, kind: ObjectType, record_id: str) -> Record | None:
        """The record with exactly this id, unless it is archived."""
        record = self._records[kind.name].get(record_id)
        return record if record is not None and record.archived_at is None else None

    def archived(self, kind: ObjectType, record_id: str) -> Record | None:
        """The archived record with exactly this id."""
        record = self._records[kind.name].get(record_id)
        return record if record is not None and record.archived_at is not None else None

    def current(self, kind: ObjectType, record_id: str) -> Record | None:
        """The live record that an id stands for now: merged-away ids lead to their survivor."""
        return self.live(kind, self.merged.get(record_id, record_id) if kind is CONTACTS else record_id)

    def holder(self, kind: ObjectType, name: str, value: str) -> Record | None:
        """The record that has this value of a unique property; for ``email`` additional addresses count."""
        if name == "email" and kind is CONTACTS:
            value = value.strip().lower()
        elif name not in self.properties.unique_names(kind):
            raise invalid(
                f"Unable to perform update/upsert by non-unique {kind.type_id} property {name} "
                f"in portal ID {self._portal_id}"
            )
        record_id = self._holders.get((kind.name, name, value))
        return self.live(kind, record_id) if record_id else None

    def indexed(self, kind: ObjectType) -> list[Record]:
        """What search can see: records as they were `search_lag_seconds` ago, without archived ones."""
        now = self._clock.epoch()
        while self._pending and self._pending[0].visible_at <= now:
            change = self._pending.popleft()
            if change.record is None:
                self._indexed[change.kind.name].pop(change.record_id, None)
            else:
                self._indexed[change.kind.name][change.record_id] = change.record
        return [one for one in self._indexed[kind.name].values() if self.live(kind, one.record_id)]

    def linked(self, kind: ObjectType, record_id: str, other: ObjectType | None = None) -> list[str]:
        """Ids on the other side of the record's associations, oldest first; of a contact its communications."""
        other = other or (COMMUNICATIONS if kind is CONTACTS else CONTACTS)
        return list(self._links.get((kind.name, record_id, other.name), ()))

    # -- writing

    def create(
        self, kind: ObjectType, values: Mapping[str, Any], source: Source, *,
        links: list[str] | None = None, may_set: tuple[str, ...] = (),
    ) -> Record:  # fmt: skip
        """Add a record; `links` are ids on the other side, all of which must be live."""
        checked = self.properties.checked(kind, values, may_set=may_set)
        _check_required(kind, checked)
        self._check_free(kind, None, checked)
        now = self.now()
        self._last_id[kind.name] += 1
        record = Record(kind, str(self._last_id[kind.name]), now, now)
        history = {name: (Version(value, now, source),) for name, value in checked.items() if value}
        record = replace(record, history=history)
        self._store(kind, record.record_id, record)
        for other_id in links or ():
            self.link(kind, record.record_id, other_id)
        return record

    def update(
        self, record: Record, values: Mapping[str, Any], source: Source, *, may_set: tuple[str, ...] = ()
    ) -> Record:
        """Write values; a value that is already there makes no history and no modification."""
        checked = self.properties.checked(record.kind, values, may_set=may_set)
        changed = {name: value for name, value in checked.items() if value != (record.value(name) or "")}
        if not changed:
            return record
        self._check_free(record.kind, record.record_id, changed)
        now = self.now()
        history = record.history
        for name, value in changed.items():
            history = with_value(history, name, Version(value, now, source))
        updated = replace(record, history=history, updated_at=now)
        _check_required(record.kind, updated.present())
        self._store(record.kind, record.record_id, updated)
        return updated

    def archive(self, kind: ObjectType, record_id: str) -> None:
        """Archive a record and drop its associations; an id that is not live is ignored."""
        record = self.live(kind, record_id)
        if record is not None:
            for other in ACTIVITIES if kind is CONTACTS else (CONTACTS,):
                for other_id in self.linked(kind, record_id, other):
                    self.unlink(kind, record_id, other_id, other)
            self._store(kind, record_id, replace(record, archived_at=self.now()))

    def restore(self, record: Record) -> Record:
        """Bring an archived record back, without its associations."""
        checked = {name: value for name in record.history if (value := record.value(name)) is not None}
        self._check_free(record.kind, record.record_id, checked)
        restored = replace(record, archived_at=None, updated_at=self.now())
        self._store(record.kind, record.record_id, restored)
        return restored

    def add_activity(self, contact_id: str, activity_type: str) -> str:
        """Hang a note, call or the like on a contact; of others than notes only the id is kept."""
        if activity_type == NOTES.name and self.live(CONTACTS, contact_id) is not None:
            words = {"hs_timestamp": self.now().isoformat(), "hs_note_body": "Called, will call back."}
            return self.create(NOTES, words, API, links=[contact_id]).record_id
        if activity_type not in ACTIVITY_TYPE_IDS or self.live(CONTACTS, contact_id) is None:
            raise invalid(f"No live contact {contact_id}, or no activity type {activity_type}")
        self._last_id["communications"] += 1
        activity_id = str(self._last_id["communications"])
        self.activities.setdefault((activity_type, contact_id), []).append(activity_id)
        return activity_id

    def purge(self, contact: Record) -> None:
        """Forget a contact for good, with what belonged to it alone, and keep its addresses from coming back."""
        self.blocked_emails.update(contact.emails())
        for kind in ACTIVITIES:
            for other_id in self.linked(CONTACTS, contact.record_id, kind):
                self.unlink(CONTACTS, contact.record_id, other_id, kind)
                if not self.linked(kind, other_id):
                    self._store(kind, other_id, None)
        for activity_type in ACTIVITY_TYPE_IDS:
            self.activities.pop((activity_type, contact.record_id), None)
        self._store(CONTACTS, contact.record_id, None)
        self.merged = {old: new for old, new in self.merged.items() if new != contact.record_id}

    def merge(self, primary_id: str, other_id: str) -> Record:
        """Merge two contacts into a new one and return it."""
        primary, other = self.live(CONTACTS, primary_id), self.live(CONTACTS, other_id)
        if primary is None or other is None:
            raise not_found()
        if primary is other:
            raise invalid("A contact cannot be merged with itself")
        merged_ids = (*primary.merged_ids, *other.merged_ids, primary_id, other_id)
        if len(merged_ids) > MERGE_LIMIT:
            raise Refusal(414, "VALIDATION_ERROR", f"Cannot have more than {MERGE_LIMIT} identities on a profile")
        now = self.now()
        self._last_id["contacts"] += 1
        survivor = Record(
            CONTACTS, str(self._last_id["contacts"]), min(primary.created_at, other.created_at), now,
            _merged_history(primary, other, now), merged_ids=merged_ids,
        )  # fmt: skip
        partners = {
            kind: dict.fromkeys([one for old in (primary_id, other_id) for one in self.linked(CONTACTS, old, kind)])
            for kind in ACTIVITIES
        }
        for old_id in (primary_id, other_id):
            for kind in ACTIVITIES:
                for activity_id in self.linked(CONTACTS, old_id, kind):
                    self.unlink(CONTACTS, old_id, activity_id, kind)
            self._store(CONTACTS, old_id, None)
        self._store(CONTACTS, survivor.record_id, survivor)
        for activity_type in ACTIVITY_TYPE_IDS:
            moved = [one for old in (primary_id, other_id) for one in self.activities.pop((activity_type, old), [])]
            if moved:
                self.activities[activity_type, survivor.record_id] = moved
        for kind, activity_ids in partners.items():
            for activity_id in activity_ids:
                self._set_link(survivor.record_id, activity_id, kind, present=True)
        self.merged.update(dict.fromkeys(merged_ids, survivor.record_id))
        return survivor

    def link(self, kind: ObjectType, record_id: str, other_id: str, other: ObjectType | None = None) -> None:
        """Associate with the other type; again is harmless. Both must be live under exactly these ids."""
        other_kind = other or (COMMUNICATIONS if kind is CONTACTS else CONTACTS)
        for one_kind, one_id in ((kind, record_id), (other_kind, other_id)):
            if self.live(one_kind, one_id) is None:
                raise invalid(
                    "One or more associations are not valid",
                    errors=[{"message": f"{one_kind.singular}={one_id} is not valid", "in": one_kind.singular}],
                )
        activity = other_kind if kind is CONTACTS else kind
        contact_id, activity_id = (record_id, other_id) if kind is CONTACTS else (other_id, record_id)
        if activity_id in self.linked(CONTACTS, contact_id, activity):
            return
        self._set_link(contact_id, activity_id, activity, present=True)
        contact = self.live(CONTACTS, contact_id)
        if contact is not None:
            self._store(CONTACTS, contact_id, replace(contact, updated_at=self.now()))

    def unlink(self, kind: ObjectType, record_id: str, other_id: str, other: ObjectType | None = None) -> None:
        """Drop an association; one that is not there is ignored."""
        activity = (other or COMMUNICATIONS) if kind is CONTACTS else kind
        contact_id, activity_id = (record_id, other_id) if kind is CONTACTS else (other_id, record_id)
        if activity_id in self.linked(CONTACTS, contact_id, activity):
            self._set_link(contact_id, activity_id, activity, present=False)

    # -- the two places that change state, so that both can be undone

    def _store(self, kind: ObjectType, record_id: str, record: Record | None) -> None:
        before = self._records[kind.name].get(record_id)
        self._put(kind, record_id, before, record)
        self._pending.append(_Change(self._clock.epoch() + self._lag_seconds, record, kind, record_id))
        if self._undo is not None:
            self._undo += [self._pending.pop, lambda: self._put(kind, record_id, record, before)]

    def _put(self, kind: ObjectType, record_id: str, before: Record | None, after: Record | None) -> None:
        for key in self._claims(before):
            self._holders.pop(key, None)
        for key in self._claims(after):
            self._holders[key] = record_id
        if after is None:
            self._records[kind.name].pop(record_id, None)
        else:
            self._records[kind.name][record_id] = after

    def _set_link(self, contact_id: str, activity_id: str, kind: ObjectType, *, present: bool) -> None:
        pairs = (
            (("contacts", contact_id, kind.name), activity_id),
            ((kind.name, activity_id, "contacts"), contact_id),
        )
        for key, value in pairs:
            if present:
                self._links.setdefault(key, {})[value] = None
            else:
                self._links.get(key, {}).pop(value, None)
        if self._undo is not None:
            self._undo.append(lambda: self._set_link(contact_id, activity_id, kind, present=not present))

    # -- checks

    def _claims(self, record: Record | None) -> list[tuple[str, str, str]]:
        if record is None or record.archived_at is not None:
            return []
        kind = record.kind
        claims = [(kind.name, "email", address) for address in record.emails()] if kind is CONTACTS else []
        for name in self.properties.unique_names(kind):
            value = record.value(name)
            if value:
                claims.append((kind.name, name, value))
        return claims

    def _check_free(self, kind: ObjectType, record_id: str | None, values: Mapping[str, str]) -> None:
        if kind is CONTACTS:
            addresses = [values.get("email", ""), *values.get("hs_additional_emails", "").split(";")]
            for address in filter(None, addresses):
                self._check_email_free(record_id, address)
        for name in self.properties.unique_names(kind):
            holder_id = self._holders.get((kind.name, name, values.get(name, "")))
            if holder_id is not None and holder_id != record_id:
                message = f"Cannot set {name} on {record_id or 'a new record'}. {holder_id} already has that value."
                raise values_invalid([(name, "CONFLICTING_UNIQUE_VALUE", message)])

    def _check_email_free(self, record_id: str | None, address: str) -> None:
        if address in self.blocked_emails:
            raise values_invalid([("email", "INVALID_EMAIL", "the address was deleted for privacy and is blocked")])
        holder_id = self._holders.get(("contacts", "email", address))
        if holder_id is not None and holder_id != record_id:
            raise Refusal(409, "CONFLICT", f"Contact already exists. Existing ID: {holder_id}")


def association_type_id(from_kind: ObjectType, to_kind: ObjectType) -> int:
    """The default association type between two types."""
    type_id = ASSOCIATION_TYPE_IDS.get((from_kind.name, to_kind.name))
    if type_id is None:
        raise invalid(f"No association type between {from_kind.type_id} and {to_kind.type_id}")
    return type_id


def _check_required(kind: ObjectType, values: Mapping[str, str]) -> None:
    if kind in ACTIVITIES:
        needed = _REQUIRED if kind is COMMUNICATIONS else _REQUIRED[:1]
        missing = [name for name in needed if not values.get(name)]
        if missing:
            raise Refusal(
                400, "VALIDATION_ERROR", f"{kind.singular.upper()}: some required properties were not set: {missing}",
                errors=[{"message": f"{one} was not set", "code": "REQUIRED_FIELD"} for one in missing],
                context={"properties": missing},
            )  # fmt: skip


def _merged_history(primary: Record, other: Record, now: datetime) -> dict[str, tuple[Version, ...]]:
    history: dict[str, tuple[Version, ...]] = {}
    for name in dict.fromkeys([*primary.history, *other.history]):
        versions = [*primary.history.get(name, ()), *other.history.get(name, ())]
        newest_first = tuple(sorted(versions, key=lambda version: version.at, reverse=True))
        winner = primary.value(name) or other.value(name) or ""
        if newest_first[0].value != winner:
            newest_first = (Version(winner, now, MERGE), *newest_first)
        history[name] = newest_first[:HISTORY_LIMIT]
    spare = list(dict.fromkeys([*primary.emails(), *other.emails()]))[1:]
    if spare and ";".join(spare) != (primary.value("hs_additional_emails") or ""):
        kept = {"hs_additional_emails": history.get("hs_additional_emails", ())}
        history |= with_value(kept, "hs_additional_emails", Version(";".join(spare), now, MERGE))
    return history
