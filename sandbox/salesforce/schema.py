"""Object types and fields of an org, and how a describe shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from sandbox.salesforce.refusals import Refusal

# the `type` of a describe -> its `soapType` (documented: SOAP API Developer Guide, "DescribeSObjectResult")
SOAP_TYPES = {
    "id": "tns:ID", "reference": "tns:ID", "string": "xsd:string", "textarea": "xsd:string", "email": "xsd:string",
    "phone": "xsd:string", "url": "xsd:string", "picklist": "xsd:string", "combobox": "xsd:string",
    "multipicklist": "xsd:string", "boolean": "xsd:boolean", "int": "xsd:int", "double": "xsd:double",
    "currency": "xsd:double", "percent": "xsd:double", "date": "xsd:date", "datetime": "xsd:dateTime",
    "base64": "xsd:base64Binary",
}  # fmt: skip
TEXT_TYPES = frozenset({"string", "textarea", "email", "phone", "url", "picklist", "combobox", "multipicklist"})
NUMBER_TYPES = frozenset({"double", "currency", "percent", "int"})
LONG_TEXT_LENGTH = 256  # a textarea of at least this length cannot be filtered or sorted by (documented)


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `filled`: the org gives it a value when a new row has none. `permissionable`: permission sets open it.

    System, name and required fields are not permissionable: everybody sees them (documented: "PermissionSet").
    """

    name: str
    type: str
    label: str
    length: int = 0
    nillable: bool = True
    createable: bool = True
    updateable: bool = True
    filled: bool = False
    default: Any = None
    external_id: bool = False
    unique: bool = False
    case_sensitive: bool = False
    reference_to: tuple[str, ...] = ()
    relationship_name: str | None = None
    child_relationship_name: str | None = None
    delete_constraint: str = "SetNull"
    picklist: tuple[str, ...] = ()
    restricted: bool = False
    precision: int = 0
    scale: int = 0
    custom: bool = False
    permissionable: bool = False

    @property
    def filterable(self) -> bool:
        """Whether SOQL may filter by it."""
        long_text = self.type == "textarea" and (self.length >= LONG_TEXT_LENGTH)
        return not long_text and self.type != "base64"

    @property
    def required(self) -> bool:
        """Whether a new row must bring a value."""
        return not self.nillable and self.createable and not self.filled

    def describe(self, *, editable: bool) -> dict[str, Any]:
        """The field as a describe shows it."""
        values = [
            {"active": True, "defaultValue": one == self.default, "label": one, "validFor": None, "value": one}
            for one in self.picklist
        ]
        return {
            "name": self.name, "label": self.label, "type": self.type, "soapType": SOAP_TYPES[self.type],
            "length": self.length, "byteLength": self.length * 3, "nillable": self.nillable,
            "createable": self.createable and editable, "updateable": self.updateable and editable,
            "defaultedOnCreate": self.filled, "defaultValue": self.default, "externalId": self.external_id,
            "idLookup": self.external_id or self.type == "id" or self.name == "Email", "unique": self.unique,
            "caseSensitive": self.case_sensitive, "custom": self.custom, "filterable": self.filterable,
            "sortable": self.filterable, "groupable": self.filterable, "referenceTo": list(self.reference_to),
            "relationshipName": self.relationship_name, "polymorphicForeignKey": len(self.reference_to) > 1,
            "picklistValues": values, "restrictedPicklist": self.restricted, "precision": self.precision,
            "scale": self.scale, "digits": 9 if self.type == "int" else 0, "calculated": False, "autoNumber": False,
            "nameField": self.name == "Name", "permissionable": self.permissionable, "cascadeDelete":
            self.delete_constraint == "Cascade", "restrictedDelete": self.delete_constraint == "Restrict",
            "deprecatedAndHidden": False, "dependentPicklist": False, "encrypted": False, "htmlFormatted": False,
            "inlineHelpText": None, "writeRequiresMasterRead": False,
        }  # fmt: skip


@dataclass(slots=True)
class ObjectType:
    """One object type; fields by name, in the order of a describe."""

    name: str
    label: str
    plural: str
    prefix: str
    fields: dict[str, Field] = field(default_factory=dict)
    custom: bool = False
    createable: bool = True
    updateable: bool = True
    deletable: bool = True
    mergeable: bool = False
    name_format: str | None = None  # of an AutoNumber name: ``M-{000000}``

    def find(self, name: str) -> Field | None:
        """The field of this name; upper and lower case alike."""
        found = self.fields.get(name)
        if found is None:
            lower = name.lower()
            found = next((one for one in self.fields.values() if one.name.lower() == lower), None)
        return found

    def relationship(self, name: str) -> Field | None:
        """The lookup whose parent is called `name` (``Conversation__r``, ``Account``)."""
        lower = name.lower()
        return next((one for one in self.fields.values() if (one.relationship_name or "").lower() == lower), None)

    def copy(self) -> ObjectType:
        """A copy whose fields can be changed."""
        return replace(self, fields=dict(self.fields))

    def summary(self, base: str) -> dict[str, Any]:
        """The object as the list of all objects shows it; `base` is ``/services/data/vNN.N/sobjects``."""
        return {
            "name": self.name, "label": self.label, "labelPlural": self.plural, "keyPrefix": self.prefix,
            "custom": self.custom, "customSetting": False, "createable": self.createable, "updateable": self.updateable,
            "deletable": self.deletable, "undeletable": self.deletable, "mergeable": self.mergeable, "queryable": True,
            "retrieveable": True, "replicateable": True, "searchable": True, "layoutable": True, "triggerable": True,
            "activateable": False, "deprecatedAndHidden": False, "feedEnabled": False, "hasSubtypes": False,
            "isSubtype": False, "mruEnabled": True, "isInterface": False,
            "urls": {
                "sobject": f"{base}/{self.name}", "describe": f"{base}/{self.name}/describe",
                "rowTemplate": f"{base}/{self.name}/{{ID}}",
            },
        }  # fmt: skip


class Schema:
    """All object types of an org."""

    def __init__(self, types: Iterable[ObjectType]) -> None:
        self.types = {one.name: one for one in types}

    def find(self, name: str) -> ObjectType | None:
        """The object type of this name; upper and lower case alike."""
        found = self.types.get(name)
        if found is None:
            found = next((one for one in self.types.values() if one.name.lower() == name.lower()), None)
        return found

    def get(self, name: str) -> ObjectType:
        """The object type of this name.

        Raises:
            Refusal: INVALID_TYPE.
        """
        found = self.find(name)
        if found is None:
            raise Refusal("INVALID_TYPE", f"sObject type '{name}' is not supported.")
        return found

    def of_id(self, record_id: str) -> ObjectType | None:
        """The object type that an id belongs to."""
        return next((one for one in self.types.values() if one.prefix == record_id[:3]), None)

    def lookups_to(self, name: str) -> list[tuple[ObjectType, Field]]:
        """Every lookup that can point at this object type."""
        return [(kind, one) for kind in self.types.values() for one in kind.fields.values() if name in one.reference_to]

    def copy(self) -> Schema:
        """A copy that can be changed without changing this one."""
        return Schema(one.copy() for one in self.types.values())
