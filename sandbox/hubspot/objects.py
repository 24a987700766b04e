"""The objects that the stand-in keeps: which types there are, one record with its history, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sandbox.hubspot.refusals import invalid

HISTORY_LIMIT = 20


@dataclass(frozen=True, slots=True)
class ObjectType:
    """One object type: its names in paths and the properties that HubSpot fills in itself."""

    name: str
    singular: str
    type_id: str
    created_property: str
    modified_property: str
    default_properties: tuple[str, ...]


CONTACTS = ObjectType(
    "contacts", "contact", "0-1", "createdate", "lastmodifieddate",
    ("createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname"),
)  # fmt: skip
COMMUNICATIONS = ObjectType(
    "communications", "communication", "0-18", "hs_createdate", "hs_lastmodifieddate",
    ("hs_createdate", "hs_lastmodifieddate", "hs_object_id"),
)  # fmt: skip
NOTES = ObjectType(
    "notes", "note", "0-46", "hs_createdate", "hs_lastmodifieddate",
    ("hs_createdate", "hs_lastmodifieddate", "hs_object_id"),
)  # fmt: skip
ACTIVITIES = (COMMUNICATIONS, NOTES)
OBJECT_TYPES = (CONTACTS, *ACTIVITIES)

# Source: developers.hubspot.com/docs/api-reference/crm-associations-v4/guide, table of type ids,
# second-hand, 2026-10; documented.
ASSOCIATION_TYPE_IDS = {
    ("communications", "contacts"): 81, ("contacts", "communications"): 82,
    ("notes", "contacts"): 202, ("contacts", "notes"): 201,
}  # fmt: skip

# The same table; e-mails and tasks derived from the opposite direction: assumed.
# Contact to each. The activities themselves are not kept, only that they hang on a contact.
ACTIVITY_TYPE_IDS = {"emails": 197, "calls": 193, "meetings": 199, "tasks": 203}


def object_type(text: str) -> ObjectType:
    """The type that a path names, by plural, singular or id."""
    for kind in OBJECT_TYPES:
        if text in {kind.name, kind.singular, kind.type_id}:
            return kind
    raise invalid(f"Unable to infer object type from: {text}")


@dataclass(frozen=True, slots=True)
class Source:
    """Who made a change, as the history tells it."""

    source_type: str
    source_id: str
    user_id: int | None = None


API = Source("INTEGRATION", "sandbox-app")
MERGE = Source("MERGE_OBJECTS", "sandbox-merge")


@dataclass(frozen=True, slots=True)
class Version:
    """One value that a property has had."""

    value: str
    at: datetime
    source: Source

    def as_json(self) -> dict[str, Any]:
        """The entry of ``propertiesWithHistory``."""
        shown: dict[str, Any] = {
            "value": self.value,
            "timestamp": iso(self.at),
            "sourceType": self.source.source_type,
            "sourceId": self.source.source_id,
        }
        if self.source.user_id is not None:
            shown["updatedByUserId"] = self.source.user_id
        return shown


@dataclass(frozen=True, slots=True)
class Record:
    """One contact or communication. Never changed in place, so that the search index may keep an older one."""

    kind: ObjectType
    record_id: str
    created_at: datetime
    updated_at: datetime
    history: Mapping[str, tuple[Version, ...]] = field(default_factory=dict)
    archived_at: datetime | None = None
    merged_ids: tuple[str, ...] = ()

    def value(self, name: str) -> str | None:
        """The current value of a property; ``None`` when never set or cleared."""
        versions = self.history.get(name)
        return (versions[0].value or None) if versions else self.computed().get(name)

    def computed(self) -> dict[str, str | None]:
        """The values that HubSpot sets itself."""
        values: dict[str, str | None] = {
            "hs_object_id": self.record_id,
            self.kind.created_property: iso(self.created_at),
            self.kind.modified_property: iso(self.updated_at),
        }
        if self.kind is CONTACTS:
            values["hs_merged_object_ids"] = ";".join(self.merged_ids) or None
        return values

    def present(self) -> dict[str, str]:
        """All properties that have a value."""
        values = {name: self.value(name) for name in [*self.history, *self.computed()]}
        return {name: value for name, value in values.items() if value is not None}

    def emails(self) -> list[str]:
        """Primary address first, then the additional ones."""
        additional = (self.value("hs_additional_emails") or "").split(";")
        return [address for address in [self.value("email") or "", *additional] if address]

    def as_json(self, names: Iterable[str], history_names: Iterable[str] = (), **more: Any) -> dict[str, Any]:
        """The object as every endpoint shows it, with the named properties."""
        shown: dict[str, Any] = {
            "id": self.record_id,
            "properties": {name: self.value(name) for name in dict.fromkeys([*names, *history_names])},
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
            "archived": self.archived_at is not None,
        }
        if self.archived_at is not None:
            shown["archivedAt"] = iso(self.archived_at)
        if history_names:
            shown["propertiesWithHistory"] = {
                name: [version.as_json() for version in self.history.get(name, ())] for name in history_names
            }
        return {**shown, **more}


def with_value(
    history: Mapping[str, tuple[Version, ...]], name: str, version: Version
) -> dict[str, tuple[Version, ...]]:
    """`history` with a newer version of one property, cut to what HubSpot keeps."""
    return {**history, name: (version, *history.get(name, ()))[:HISTORY_LIMIT]}


def iso(moment: datetime) -> str:
    """The moment as HubSpot writes it: UTC, milliseconds, ``Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
