"""Property definitions of the stand-in: what exists, what a value may be, which values are unique."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sandbox.hubspot.objects import ACTIVITIES, COMMUNICATIONS, CONTACTS, NOTES, ObjectType, iso
from sandbox.hubspot.refusals import Refusal, invalid, not_found, values_invalid

# Source: the enumerations of PropertyCreate in hubspot-api-client 12.0.0, made from HubSpot's API document; documented.
TYPES = ("string", "number", "date", "datetime", "enumeration", "bool")
FIELD_TYPES = (
    "textarea", "text", "date", "file", "number", "select", "radio", "checkbox", "booleancheckbox",
    "calculation_equation",
)  # fmt: skip
UNIQUE_LIMIT = 10
TEXT_LIMIT = 65_536

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]{2,}")


@dataclass(frozen=True, slots=True)
class Definition:
    """One property of one object type."""

    name: str
    label: str
    type: str = "string"
    field_type: str = "text"
    group_name: str = "contactinformation"
    options: tuple[tuple[str, str], ...] = ()
    unique: bool = False
    read_only: bool = False
    custom: bool = False
    description: str = ""
    made_at: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """The definition as the properties API shows it."""
        shown: dict[str, Any] = {
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "fieldType": self.field_type,
            "description": self.description,
            "groupName": self.group_name,
            "options": [
                {"label": label, "value": value, "hidden": False, "displayOrder": order}
                for order, (value, label) in enumerate(self.options)
            ],
            "displayOrder": -1,
            "calculated": False,
            "externalOptions": self.name == "hubspot_owner_id",
            "hasUniqueValue": self.unique,
            "hidden": False,
            "hubspotDefined": not self.custom,
            "formField": False,
            "archived": False,
            "modificationMetadata": {
                "archivable": self.custom,
                "readOnlyDefinition": not self.custom,
                "readOnlyValue": self.read_only,
            },
        }
        if self.made_at is not None:
            shown["createdAt"] = shown["updatedAt"] = iso(self.made_at)
        return shown


def _computed(kind: ObjectType) -> list[Definition]:
    times = [kind.created_property, kind.modified_property]
    return [
        Definition("hs_object_id", "Record ID", "number", "number", read_only=True),
        *(Definition(name, name, "datetime", "date", read_only=True) for name in times),
    ]


def _options(*values: str) -> tuple[tuple[str, str], ...]:
    return tuple((value, value.replace("_", " ").title()) for value in values)


_OWNER = Definition("hubspot_owner_id", "Owner", "enumeration", "select")
_ATTACHMENTS = Definition("hs_attachment_ids", "Attachment IDs", "enumeration", "checkbox")
_CONTACT_PROPERTIES = [
    *(Definition(n, n.title()) for n in ("email", "firstname", "lastname", "phone", "mobilephone", "company")),
    *(Definition(n, n.title()) for n in ("jobtitle", "website", "city", "country", "hs_whatsapp_phone_number")),
    Definition("hs_additional_emails", "Additional email addresses", "enumeration", "checkbox", read_only=True),
    Definition("hs_merged_object_ids", "Merged record IDs", "enumeration", "checkbox", read_only=True),
    Definition(
        "lifecyclestage", "Lifecycle Stage", "enumeration", "radio",
        options=_options("subscriber", "lead", "marketingqualifiedlead", "opportunity", "customer", "other"),
    ),
    Definition(
        "hs_lead_status", "Lead Status", "enumeration", "radio",
        options=_options("NEW", "OPEN", "IN_PROGRESS", "CONNECTED", "UNQUALIFIED"),
    ),
    _OWNER,
    *_computed(CONTACTS),
]  # fmt: skip
# Source: developers.hubspot.com/docs/api/crm/communications, read 2026-11; documented.
_COMMUNICATION_PROPERTIES = [
    Definition("hs_timestamp", "Activity date", "datetime", "date"),
    Definition(
        "hs_communication_channel_type", "Channel type", "enumeration", "select",
        options=_options("WHATS_APP", "LINKEDIN_MESSAGE", "SMS"),
    ),
    Definition("hs_communication_logged_from", "Logged from", "enumeration", "select", options=_options("CRM")),
    Definition("hs_communication_body", "Communication body", field_type="textarea"),
    _OWNER,
    *_computed(COMMUNICATIONS),
]  # fmt: skip
# Source: developers.hubspot.com/docs/api-reference/crm-notes-v3/guide, second-hand, 2026-10; documented.
_NOTE_PROPERTIES = [
    Definition("hs_timestamp", "Activity date", "datetime", "date"),
    Definition("hs_note_body", "Note body", field_type="textarea"),
    _ATTACHMENTS,
    _OWNER,
    *_computed(NOTES),
]
_GROUPS = {"contacts": "contactinformation", "communications": "communication", "notes": "note"}


class Properties:
    """All definitions and groups, per object type."""

    def __init__(
        self, *, owner_ids: Iterable[str], unique_communication_property: bool, communication_files: bool = False
    ) -> None:
        self._owner_ids = frozenset(owner_ids)
        self._unique_communication_property = unique_communication_property
        self._definitions = {
            "contacts": {one.name: one for one in _CONTACT_PROPERTIES},
            "communications": {
                one.name: replace(one, group_name=_GROUPS["communications"]) for one in _COMMUNICATION_PROPERTIES
            },
            "notes": {one.name: replace(one, group_name=_GROUPS["notes"]) for one in _NOTE_PROPERTIES},
        }
        if communication_files:
            self._definitions[COMMUNICATIONS.name][_ATTACHMENTS.name] = _ATTACHMENTS
        self._groups = {kind: {group: group.title()} for kind, group in _GROUPS.items()}

    def all(self, kind: ObjectType) -> list[Definition]:
        """The type's definitions, HubSpot's own first."""
        return list(self._definitions[kind.name].values())

    def find(self, kind: ObjectType, name: str) -> Definition | None:
        """One definition."""
        return self._definitions[kind.name].get(name)

    def get(self, kind: ObjectType, name: str) -> Definition:
        """One definition; 404 if there is none."""
        found = self.find(kind, name)
        if found is None:
            raise not_found(f"Property {name} does not exist for {kind.type_id}")
        return found

    def unique_names(self, kind: ObjectType) -> list[str]:
        """The custom properties whose values are unique."""
        return [one.name for one in self.all(kind) if one.unique]

    def create(self, kind: ObjectType, wanted: Mapping[str, Any], now: datetime) -> Definition:
        """Add a custom property."""
        definition = self._wanted(wanted, now)
        if self.find(kind, definition.name) is not None:
            raise Refusal(409, "OBJECT_ALREADY_EXISTS", f"A property named '{definition.name}' already exists.")
        if definition.group_name not in self._groups[kind.name]:
            raise invalid(f"Property group {definition.group_name} does not exist")
        if definition.unique:
            self._check_unique(kind, definition)
        self._definitions[kind.name][definition.name] = definition
        return definition

    def create_all(self, kind: ObjectType, wanted: list[Mapping[str, Any]], now: datetime) -> list[Definition]:
        """Add several, or none if one is refused."""
        before = dict(self._definitions[kind.name])
        try:
            return [self.create(kind, one, now) for one in wanted]
        except Refusal:
            self._definitions[kind.name] = before
            raise

    def update(self, kind: ObjectType, name: str, wanted: Mapping[str, Any]) -> Definition:
        """Change label, description, group or options; uniqueness is fixed at creation."""
        definition = self.get(kind, name)
        if wanted.get("hasUniqueValue", definition.unique) != definition.unique:
            raise invalid(f"hasUniqueValue of property {name} cannot be changed after creation")
        changed = replace(
            definition,
            label=wanted.get("label", definition.label),
            description=wanted.get("description", definition.description),
            options=_options_from(wanted["options"]) if "options" in wanted else definition.options,
        )
        self._definitions[kind.name][name] = changed
        return changed

    def remove(self, kind: ObjectType, name: str) -> None:
        """Archive a custom property; HubSpot's own stay."""
        definition = self.find(kind, name)
        if definition is not None and not definition.custom:
            raise invalid(f"Property {name} is defined by HubSpot and cannot be archived")
        self._definitions[kind.name].pop(name, None)

    def groups(self, kind: ObjectType) -> list[dict[str, Any]]:
        """The type's groups."""
        return [
            {"name": name, "label": label, "displayOrder": -1, "archived": False}
            for name, label in self._groups[kind.name].items()
        ]

    def create_group(self, kind: ObjectType, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Add a group."""
        name, label = wanted.get("name"), wanted.get("label")
        if not isinstance(name, str) or not isinstance(label, str) or not name:
            raise invalid("A property group needs name and label")
        if name in self._groups[kind.name]:
            raise Refusal(409, "OBJECT_ALREADY_EXISTS", f"A property group named '{name}' already exists.")
        self._groups[kind.name][name] = label
        return {"name": name, "label": label, "displayOrder": -1, "archived": False}

    def checked(self, kind: ObjectType, values: Mapping[str, Any], *, may_set: Iterable[str] = ()) -> dict[str, str]:
        """`values` as HubSpot would store them; one refusal names every property that is wrong.

        Args:
            kind: object type.
            values: as they came.
            may_set: read-only properties that this writer may set nevertheless.
        """
        stored: dict[str, str] = {}
        problems: list[tuple[str, str, str]] = []
        for name, raw in values.items():
            definition = self.find(kind, name)
            if definition is None:
                problems.append((name, "PROPERTY_DOESNT_EXIST", f"Property '{name}' does not exist"))
            elif definition.read_only and name not in may_set:
                problems.append((name, "READ_ONLY_VALUE", f"'{name}' is a read only property"))
            else:
                value = self._value(definition, raw)
                if isinstance(value, str):
                    stored[name] = value
                else:
                    problems.append((name, *value))
        if problems:
            raise values_invalid(problems)
        return stored

    def _value(self, definition: Definition, raw: object) -> str | tuple[str, str]:
        if isinstance(raw, bool):
            raw = "true" if raw else "false"
        elif isinstance(raw, int | float):
            raw = str(raw)
        if not isinstance(raw, str):
            return "INVALID_TYPE", "a property value must be text"
        if raw == "":
            return ""
        if definition.name == "email":
            return _email(raw)
        if definition.name == "hs_additional_emails":
            return raw.lower() if all(map(_EMAIL.fullmatch, raw.split(";"))) else ("INVALID_EMAIL", "invalid address")
        if definition.name == "hubspot_owner_id":
            return raw if raw in self._owner_ids else ("INVALID_OWNER_ID", "no such owner")
        return _CHECKS[definition.type](definition, raw)

    def _wanted(self, wanted: Mapping[str, Any], now: datetime) -> Definition:
        for key in ("name", "label", "type", "fieldType", "groupName"):
            if not isinstance(wanted.get(key), str) or not wanted[key]:
                raise invalid(f"A property needs {key}")
        if not _NAME.fullmatch(wanted["name"]):
            raise invalid("A property name has lower-case letters, digits and underscores and starts with a letter")
        if wanted["type"] not in TYPES or wanted["fieldType"] not in FIELD_TYPES:
            raise invalid(f"Unknown type {wanted['type']} or fieldType {wanted['fieldType']}")
        return Definition(
            wanted["name"], wanted["label"], wanted["type"], wanted["fieldType"], wanted["groupName"],
            options=_options_from(wanted.get("options") or []), unique=bool(wanted.get("hasUniqueValue")),
            custom=True, description=wanted.get("description") or "", made_at=now,
        )  # fmt: skip

    def _check_unique(self, kind: ObjectType, definition: Definition) -> None:
        if kind in ACTIVITIES and not self._unique_communication_property:
            raise invalid(f"hasUniqueValue is not supported for {kind.type_id}")
        if definition.type not in {"string", "number"}:
            raise invalid("Only text and number properties can have unique values")
        if len(self.unique_names(kind)) >= UNIQUE_LIMIT:
            raise invalid(f"An object can have at most {UNIQUE_LIMIT} properties with unique values")


def instant(text: str) -> datetime | None:
    """A datetime as HubSpot accepts it: milliseconds since 1970, or ISO 8601; ``None`` if it is neither."""
    if re.fullmatch(r"-?\d{1,15}", text):
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _options_from(options: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    found = tuple((one.get("value"), one.get("label")) for one in options)
    if not all(isinstance(part, str) for pair in found for part in pair):
        raise invalid("An option needs label and value")
    return found  # type: ignore[return-value]  # checked just above


def _email(raw: str) -> str | tuple[str, str]:
    address = raw.strip().lower()
    return address if _EMAIL.fullmatch(address) else ("INVALID_EMAIL", f"Email address {raw} is invalid")


def _text(definition: Definition, raw: str) -> str | tuple[str, str]:
    del definition
    return raw if len(raw) <= TEXT_LIMIT else ("INVALID_LENGTH", f"longer than {TEXT_LIMIT} characters")


def _number(definition: Definition, raw: str) -> str | tuple[str, str]:
    del definition
    return raw if re.fullmatch(r"-?\d+(\.\d+)?", raw) else ("INVALID_NUMBER", f"{raw} was not a valid number.")


def _bool(definition: Definition, raw: str) -> str | tuple[str, str]:
    del definition
    return raw if raw in {"true", "false"} else ("INVALID_OPTION", f"{raw} was not one of true, false")


def _enumeration(definition: Definition, raw: str) -> str | tuple[str, str]:
    allowed = {value for value, _ in definition.options}
    chosen = raw.split(";") if definition.field_type == "checkbox" else [raw]
    if allowed and not allowed.issuperset(chosen):
        return "INVALID_OPTION", f"{raw} was not one of the allowed options"
    return raw


def _date(definition: Definition, raw: str) -> str | tuple[str, str]:
    moment = instant(raw)
    if moment is None or (moment.hour, moment.minute, moment.second, moment.microsecond) != (0, 0, 0, 0):
        return "INVALID_DATE", f"{raw} for {definition.name} is not midnight UTC"
    return moment.strftime("%Y-%m-%d")


def _datetime(definition: Definition, raw: str) -> str | tuple[str, str]:
    moment = instant(raw)
    return iso(moment) if moment else ("INVALID_DATE", f"{raw} for {definition.name} was not a valid datetime.")


_CHECKS: dict[str, Callable[[Definition, str], str | tuple[str, str]]] = {
    "string": _text,
    "number": _number,
    "bool": _bool,
    "enumeration": _enumeration,
    "date": _date,
    "datetime": _datetime,
}
