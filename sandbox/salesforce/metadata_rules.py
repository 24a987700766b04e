"""What a deployed component means for the org's schema, and what Salesforce would say against it.

Source: developer.salesforce.com, Metadata API Developer Guide, "CustomObject", "CustomField", "PermissionSet",
"Layout", "ListView", "CompactLayout", second-hand, 2026-10 (documented: what each kind of field needs, lengths); that
permission sets may not name required fields, and must read what they edit: observed in public deploy logs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sandbox.salesforce.access import PermissionSet
from sandbox.salesforce.metadata_files import Component, parts, text, yes
from sandbox.salesforce.schema import Field, ObjectType, Schema
from sandbox.salesforce.standard import owner_field, system_fields

_SIMPLE_TYPES = {
    "Checkbox": "boolean", "Date": "date", "DateTime": "datetime", "Email": "email", "Phone": "phone", "Url": "url",
    "Number": "double", "Currency": "currency", "Percent": "percent", "Text": "string", "TextArea": "textarea",
    "LongTextArea": "textarea", "Picklist": "picklist", "MultiselectPicklist": "multipicklist", "Lookup": "reference",
    "MasterDetail": "reference",
}  # fmt: skip
_FIXED_LENGTHS = {"Email": 80, "Phone": 40, "Url": 255, "TextArea": 255, "Picklist": 255, "MultiselectPicklist": 4099,
                  "Lookup": 18, "MasterDetail": 18}  # fmt: skip
LONG_TEXT = (256, 131_072)
TEXT_LENGTH_LIMIT = 255
_MAY_BE_KEYS = frozenset({"Text", "Number", "Email"})
_VERBS = {"allowRead": "read", "allowCreate": "create", "allowEdit": "edit", "allowDelete": "delete"}
_NEEDS = {"create": ("read",), "edit": ("read",), "delete": ("read", "edit")}
_POLYMORPHIC = (("ContentVersion", "FirstPublishLocationId"), ("ContentDocumentLink", "LinkedEntityId"))


class ProblemError(Exception):
    """Why one component cannot be deployed."""


class SchemaChange:
    """A schema to which components are applied one after the other; the caller decides whether it is used."""

    def __init__(self, schema: Schema, permission_sets: dict[str, PermissionSet], custom_count: int) -> None:
        self.schema = schema.copy()
        self.permission_sets = dict(permission_sets)
        self._count = custom_count

    def find(self, full_name: str) -> ObjectType | None:
        """The object type that a file is of."""
        return self.schema.find(_object_name(full_name))

    # -- objects

    def add_object(self, component: Component) -> bool:
        """Make a custom object without its fields, or accept a standard one; whether it is new.

        Raises:
            ProblemError: what a new object lacks.
        """
        known, root = self.find(component.full_name), component.root
        if known is not None:
            return False
        if not component.full_name.endswith("__c"):
            raise ProblemError(f"Entity of type {component.full_name} is not available in this org")
        for name in ("label", "pluralLabel", "deploymentStatus", "sharingModel"):
            if text(root, name) is None:
                raise ProblemError(f"Must specify a non-empty {name} for the CustomObject")
        name_fields = parts(root, "nameField")
        if not name_fields or text(name_fields[0], "label") is None:
            raise ProblemError("Must specify a nameField with a label for the CustomObject")
        automatic = text(name_fields[0], "type") == "AutoNumber"
        if not automatic and text(name_fields[0], "type") != "Text":
            raise ProblemError("The nameField must be of type Text or AutoNumber")
        label = str(text(name_fields[0], "label"))
        name_field = Field("Name", "string", label, 80, createable=not automatic, filled=True,
                     updateable=not automatic, nillable=not automatic)  # fmt: skip
        self._count += 1
        kind = ObjectType(
            component.full_name, str(text(root, "label")), str(text(root, "pluralLabel")), f"a{self._count - 1:02d}",
            {one.name: one for one in [*system_fields(), name_field, owner_field()]}, custom=True,
            name_format=text(name_fields[0], "displayFormat") if automatic else None,
        )  # fmt: skip
        self.schema.types[kind.name] = kind
        for type_name, field_name in _POLYMORPHIC + ((("Task", "WhatId"),) if yes(root, "enableActivities") else ()):
            place = self.schema.types[type_name].fields
            place[field_name] = _pointing_also(place[field_name], kind.name)
        return True

    def add_field(self, kind: ObjectType, element: Any) -> bool:
        """Make or change a custom field; whether it is new.

        Raises:
            ProblemError: what does not fit.
        """
        name = text(element, "fullName") or ""
        if not name.endswith("__c"):
            if kind.find(name) is None:
                raise ProblemError(f"Custom field name must end with __c: {name}")
            return False
        made = self._field(name, element)
        before = kind.fields.get(name)
        if before is not None and before.type != made.type:
            raise ProblemError(f"Cannot change field type from {before.type} to {made.type}")
        if before is not None and before.reference_to != made.reference_to:
            raise ProblemError("Cannot change the object that a relationship field refers to")
        kind.fields[name] = made
        return before is None

    def _field(self, name: str, element: Any) -> Field:
        declared, label = text(element, "type"), text(element, "label")
        if declared is None or label is None:
            raise ProblemError(f"Must specify a type and a label for {name}")
        if declared not in _SIMPLE_TYPES:
            raise ProblemError(f"Field type {declared} is not known to this stand-in")
        key, unique, required = yes(element, "externalId"), yes(element, "unique"), yes(element, "required")
        if (key or unique) and declared not in _MAY_BE_KEYS:
            raise ProblemError(f"A field of type {declared} cannot be unique or an external id")
        more: dict[str, Any] = {}
        if declared in {"Lookup", "MasterDetail"}:
            more = self._lookup(name, element, declared, required=required)
        elif declared == "Checkbox":
            if text(element, "defaultValue") not in {"true", "false"}:
                raise ProblemError("Must specify 'defaultValue' for a CustomField of type Checkbox")
            more = {"filled": True, "default": yes(element, "defaultValue")}
        elif declared in {"Number", "Currency", "Percent"}:
            more = _digits(element, declared)
        elif declared in {"Picklist", "MultiselectPicklist"}:
            more = _choices(element, declared)
        detail = declared in {"Checkbox", "MasterDetail"}
        return Field(
            name, _SIMPLE_TYPES[declared], label, _length(element, declared), nillable=not (required or detail),
            external_id=key, unique=unique, case_sensitive=yes(element, "caseSensitive"), custom=True,
            permissionable=not required and declared != "MasterDetail", **more,
        )  # fmt: skip

    def _lookup(self, name: str, element: Any, declared: str, *, required: bool) -> dict[str, Any]:
        target = text(element, "referenceTo")
        if target is None or self.schema.find(target) is None:
            raise ProblemError(f"referenceTo value of '{target}' does not resolve to a valid sObject type")
        if text(element, "relationshipName") is None:
            raise ProblemError(f"Must specify 'relationshipName' for a CustomField of type {declared}")
        constraint = text(element, "deleteConstraint") or ("Restrict" if required else "SetNull")
        if required and constraint == "SetNull":
            raise ProblemError("Must specify either cascade delete or restrict delete for a required lookup field")
        return {
            "reference_to": (target,), "relationship_name": name.removesuffix("__c") + "__r",
            "child_relationship_name": f"{text(element, 'relationshipName')}__r",
            "delete_constraint": "Cascade" if declared == "MasterDetail" else constraint,
        }  # fmt: skip

    # -- what lies on top of objects

    def check_columns(self, kind: ObjectType, element: Any, *places: str) -> None:
        """Refuse a list view or compact layout that names a field which is not there."""
        standard = {"NAME", "OWNER.ALIAS", "CREATED_DATE", "LAST_UPDATE", "CREATEDBY_USER", "UPDATEDBY_USER"}
        for place in places:
            for one in parts(element, place):
                name = (text(one, "field") if len(one) else one.text or "") or ""
                if name.upper() not in standard and kind.find(name) is None and "." not in name:
                    raise ProblemError(f"Could not resolve field '{name}' of {kind.name}")

    def check_layout(self, component: Component) -> None:
        """Refuse a layout of an unknown object or with unknown fields."""
        kind = self.schema.find(component.full_name.partition("-")[0])
        if kind is None:
            raise ProblemError(f"Parent entity failed to deploy: {component.full_name.partition('-')[0]}")
        for name in _layout_fields(component.root):
            if kind.find(name) is None:
                raise ProblemError(f"Could not find field {kind.name}.{name} of the layout")

    def add_permission_set(self, component: Component) -> bool:
        """Make or replace a permission set; whether it is new.

        Raises:
            ProblemError: it names what is not there or what cannot be given.
        """
        root, name = component.root, component.full_name
        if text(root, "label") is None:
            raise ProblemError("Required field is missing: label")
        made = PermissionSet(name, str(text(root, "label")))
        for one in parts(root, "objectPermissions"):
            kind = self.schema.find(text(one, "object") or "")
            if kind is None:
                raise ProblemError(f"In field: object - no CustomObject named {text(one, 'object')} found")
            verbs = frozenset(verb for element, verb in _VERBS.items() if yes(one, element))
            for verb in verbs:
                lacking = [needed.capitalize() for needed in _NEEDS.get(verb, ()) if needed not in verbs]
                if lacking:
                    told = f"{verb.capitalize()} {kind.name} depends on permission(s): "
                    raise ProblemError(f"Permission {told}{', '.join(f'{need} {kind.name}' for need in lacking)}")
            made.objects[kind.name] = verbs
        for one in parts(root, "fieldPermissions"):
            kind, found = self._named_field(text(one, "field") or "")
            if not found.permissionable and found.name not in {"Name"} and found.custom:
                raise ProblemError(f"You cannot deploy to a required field: {kind.name}.{found.name}")
            editable, readable = yes(one, "editable"), yes(one, "readable")
            if editable and not readable:
                raise ProblemError(f"Permission Edit {kind.name}.{found.name} depends on permission(s): Read")
            if readable:
                made.fields[kind.name, found.name] = editable
        new = name not in self.permission_sets
        self.permission_sets[name] = made
        return new

    def _named_field(self, name: str) -> tuple[ObjectType, Field]:
        kind = self.find(name.partition(".")[0])
        found = kind.find(name.partition(".")[2]) if kind else None
        if kind is None or found is None:
            raise ProblemError(f"In field: field - no CustomField named {name} found")
        return kind, found


def _object_name(full_name: str) -> str:
    """Custom fields of Task belong to Activity (documented: Metadata API Developer Guide, "CustomField")."""
    return "Task" if full_name == "Activity" else full_name


def _pointing_also(lookup: Field, name: str) -> Field:
    return replace(lookup, reference_to=(*lookup.reference_to, name))


def _length(element: Any, declared: str) -> int:
    told = int(text(element, "length") or 0)
    if declared == "Text":
        if not 1 <= told <= TEXT_LENGTH_LIMIT:
            raise ProblemError(f"Must specify 'length' of 1 to {TEXT_LENGTH_LIMIT} for a CustomField of type Text")
        return told
    if declared == "LongTextArea":
        if not LONG_TEXT[0] <= told <= LONG_TEXT[1]:
            raise ProblemError(f"Value of 'length' for a LongTextArea must be {LONG_TEXT[0]} to {LONG_TEXT[1]}")
        if not text(element, "visibleLines"):
            raise ProblemError("Must specify 'visibleLines' for a CustomField of type LongTextArea")
        return told
    return _FIXED_LENGTHS.get(declared, 0)


def _digits(element: Any, declared: str) -> dict[str, Any]:
    precision, scale = text(element, "precision"), text(element, "scale")
    if precision is None or scale is None:
        raise ProblemError(f"Must specify 'precision' and 'scale' for a CustomField of type {declared}")
    if not 1 <= int(precision) <= 18 or not 0 <= int(scale) <= int(precision):
        raise ProblemError("precision must be 1 to 18, and scale not larger")
    return {"precision": int(precision), "scale": int(scale)}


def _choices(element: Any, declared: str) -> dict[str, Any]:
    value_sets = parts(element, "valueSet")
    definitions = parts(value_sets[0], "valueSetDefinition") if value_sets else []
    if not definitions:
        raise ProblemError(f"Must specify 'valueSet' with a valueSetDefinition for a CustomField of type {declared}")
    listed = [one for one in parts(definitions[0], "value") if text(one, "isActive") != "false"]
    names = tuple(text(one, "fullName") or "" for one in listed)
    if len(set(names)) < len(names):
        raise ProblemError("Duplicate value in the picklist")
    default = next((text(one, "fullName") for one in listed if yes(one, "default")), None)
    return {"picklist": names, "restricted": yes(value_sets[0], "restricted"), "default": default}


def _layout_fields(root: Any) -> Iterator[str]:
    for section in parts(root, "layoutSections"):
        for column in parts(section, "layoutColumns"):
            for item in parts(column, "layoutItems"):
                if text(item, "field"):
                    yield str(text(item, "field"))
