"""The model as Metadata API files: what a deploy of it contains. Pure; a file is the same whenever it is made.

Only what the org lacks is in the package, so a second set-up changes nothing that an admin has changed since, and there
is no destructive manifest: nothing is ever deleted. Elements stand in the order of Salesforce's schema, which is that
of the alphabet with ``fullName`` first (metadata.wsdl in simple-salesforce 1.12.10).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from mappings.to_salesforce import CONTACT, CONVERSATION, MESSAGE, TASK
from targets.salesforce.model import (
    AGENT,
    CONTACT_FIELDS,
    FIELDS,
    INTEGRATION,
    OBJECTS,
    SENT_ONCE_MESSAGE,
    SENT_ONCE_RULE,
    CustomField,
    CustomObject,
    ListView,
)

_NAMESPACE = "http://soap.sforce.com/2006/04/metadata"
_FIXED_TIME = (2026, 1, 1, 0, 0, 0)

Element = ET.Element


@dataclass(frozen=True, slots=True)
class Lacking:
    """What an org lacks.

    Attributes:
        objects: our objects that are not there.
        fields: object -> our fields that are not there; of a lacking object all.
        permission_sets: whether the permission sets are to be written.
        tasks: whether messages become Tasks here, so that our objects are not needed.
    """

    objects: frozenset[str]
    fields: Mapping[str, frozenset[str]]
    permission_sets: bool
    tasks: bool = False

    @property
    def nothing(self) -> bool:
        """Whether the org has everything."""
        return not self.objects and not any(self.fields.values()) and not self.permission_sets


def wanted_objects(*, tasks: bool) -> tuple[str, ...]:
    """The objects on which we have fields."""
    return (CONTACT, TASK) if tasks else (CONTACT, CONVERSATION, MESSAGE)


def lacking(there: Mapping[str, Iterable[str] | None], *, permission_sets: bool, tasks: bool = False) -> Lacking:
    """What an org lacks.

    Args:
        there: object -> names of the fields that it has, ``None`` for an object that does not exist.
        permission_sets: whether both permission sets are there.
        tasks: whether messages become Tasks.
    """
    fields = {}
    for name in wanted_objects(tasks=tasks):
        present = {one.lower() for one in there.get(name) or ()}
        fields[name] = frozenset(one.name for one in FIELDS[name] if one.name.lower() not in present)
    objects = frozenset(one.name for one in OBJECTS if not tasks and there.get(one.name) is None)
    new = bool(objects) or any(fields.values())
    return Lacking(objects, fields, permission_sets=new or not permission_sets, tasks=tasks)


def plan_lines(lack: Lacking, *, done: bool) -> list[str]:
    """What a deploy of it does, for the person who runs it."""
    verb = "created" if done else "would be created"
    lines = [f"object {name}: {verb}" for name in sorted(lack.objects)]
    for name, fields in lack.fields.items():
        lines += [f"field {name}.{one}: {verb}" for one in sorted(fields)]
    if lack.permission_sets:
        lines.append(f"permission sets {INTEGRATION} and {AGENT}: {'written' if done else 'would be written'}")
    return lines or ["nothing to deploy: the org has it all"]


def package_files(lack: Lacking, version: str) -> dict[str, bytes]:
    """The files of the package by their path in the zip, ``package.xml`` first."""
    files: dict[str, Element] = {}
    for one in OBJECTS:
        fields = [each for each in one.fields if each.name in lack.fields.get(one.name, frozenset())]
        if one.name in lack.objects:
            files[f"objects/{one.name}.object"] = _object(one)
            files[f"layouts/{one.name}-{one.label} Layout.layout"] = _layout(one)
            files[f"tabs/{one.name}.tab"] = _tab(one)
        elif fields:
            files[f"objects/{one.name}.object"] = _fields_only(fields)
    contact = [one for one in CONTACT_FIELDS if one.name in lack.fields.get(CONTACT, frozenset())]
    if contact:
        files[f"objects/{CONTACT}.object"] = _fields_only(contact)
    task = [one for one in FIELDS[TASK] if one.name in lack.fields.get(TASK, frozenset())]
    if task:
        # Custom fields of Task belong to Activity (documented: Metadata API Developer Guide, CustomField).
        files["objects/Activity.object"] = _fields_only(task)
    if lack.permission_sets:
        for name, label, agent in ((INTEGRATION, "onethread: integration", False), (AGENT, "onethread: agent", True)):
            files[f"permissionsets/{name}.permissionset"] = _permission_set(label, agent=agent, tasks=lack.tasks)
    package = {"package.xml": _package(lack, files, version)}
    return {path: _bytes(element) for path, element in {**package, **files}.items()}


def package_zip(files: Mapping[str, bytes]) -> io.BytesIO:
    """The zip that ``deploy`` takes; equal files give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path, _FIXED_TIME), content)
    buffer.seek(0)
    return buffer


# The files


def _object(one: CustomObject) -> Element:
    root = Element("CustomObject")
    _texts(root, compactLayoutAssignment="Thread")
    compact = ET.SubElement(root, "compactLayouts")
    _texts(compact, fullName="Thread")
    _repeated(compact, "fields", one.compact)
    _texts(compact, label="Thread")
    _texts(root, deploymentStatus="Deployed", description=one.description, enableActivities="true")
    _texts(root, enableHistory="false", enableReports="true", enableSearch="true")
    for each in one.fields:
        root.append(_field(each))
    _texts(root, label=one.label)
    for view in one.views:
        root.append(_list_view(view))
    name = ET.SubElement(root, "nameField")
    if one.name_format:
        _texts(name, displayFormat=one.name_format)
    _texts(name, label=one.name_label, type="AutoNumber" if one.name_format else "Text")
    _texts(root, pluralLabel=one.plural, sharingModel="ReadWrite")
    if one.name == MESSAGE:
        rule = ET.SubElement(root, "validationRules")
        _texts(rule, fullName="Sent_once", active="true", errorConditionFormula=SENT_ONCE_RULE)
        _texts(rule, errorDisplayField="Status__c", errorMessage=SENT_ONCE_MESSAGE)
    return root


def _fields_only(fields: Sequence[CustomField]) -> Element:
    root = Element("CustomObject")
    for one in fields:
        root.append(_field(one))
    return root


def _field(one: CustomField) -> Element:
    root = Element("fields")
    _texts(root, fullName=one.name)
    details = {**one.details, "label": one.label, "type": one.type}
    if one.help:
        details["inlineHelpText"] = one.help
    if one.type not in {"Checkbox", "LongTextArea", "MultiselectPicklist"}:
        details["required"] = "false"
    for name in sorted([*details, *(["valueSet"] if one.values else [])]):
        if name == "valueSet":
            root.append(_value_set(one))
        else:
            _texts(root, **{name: details[name]})
    return root


def _value_set(one: CustomField) -> Element:
    """Not restricted: a channel of tomorrow is taken as it comes."""
    root = Element("valueSet")
    _texts(root, restricted="false")
    definition = ET.SubElement(root, "valueSetDefinition")
    _texts(definition, sorted="false")
    for value in one.values:
        element = ET.SubElement(definition, "value")
        _texts(element, fullName=value, default="false", label=value)
    return root


def _list_view(view: ListView) -> Element:
    root = Element("listViews")
    _texts(root, fullName=view.name)
    _repeated(root, "columns", view.columns)
    _texts(root, filterScope="Everything")
    for field, operation, value in view.filters:
        element = ET.SubElement(root, "filters")
        _texts(element, field=field, operation=operation)
        if value:
            _texts(element, value=value)
    _texts(root, label=view.label)
    return root


def _layout(one: CustomObject) -> Element:
    root = Element("Layout")
    for label, left, right in one.sections:
        section = ET.SubElement(root, "layoutSections")
        _texts(section, customLabel="true", detailHeading="true", editHeading="true", label=label)
        for column in (left, right):
            element = ET.SubElement(section, "layoutColumns")
            for name in column:
                item = ET.SubElement(element, "layoutItems")
                required = name == "Name" and one.name_format is None
                _texts(item, behavior="Required" if required else "Edit", field=name)
        _texts(section, style="TwoColumnsTopToBottom")
    for related, columns in one.related:
        element = ET.SubElement(root, "relatedLists")
        _repeated(element, "fields", columns)
        _texts(element, relatedList=related, sortField=columns[0], sortOrder="Desc")
    return root


def _tab(one: CustomObject) -> Element:
    root = Element("CustomTab")
    _texts(root, customObject="true", motif=one.icon)
    return root


def _permission_set(label: str, *, agent: bool, tasks: bool) -> Element:
    """What the integration user, or an agent, may see and change. Deploying adds to a permission set (API 40 on)."""
    root = Element("PermissionSet")
    text = "For people who read conversations and answer." if agent else "For the user that onethread works as."
    _texts(root, description=text)
    for name in wanted_objects(tasks=tasks):
        for field in sorted(FIELDS[name], key=lambda each: each.name):
            element = ET.SubElement(root, "fieldPermissions")
            editable = not agent or field.agent_writes
            _texts(element, editable=_word(editable), field=f"{name}.{field.name}", readable="true")
    _texts(root, hasActivationRequired="false", label=label)
    if not tasks:
        for one in OBJECTS:
            element = ET.SubElement(root, "objectPermissions")
            writes = not agent or one.name == MESSAGE
            _texts(element, allowCreate=_word(writes), allowDelete=_word(not agent), allowEdit=_word(writes))
            _texts(element, allowRead="true", modifyAllRecords=_word(not agent), object=one.name)
            _texts(element, viewAllRecords="true")
    if not agent:
        # Rights on Contact need the same rights to read on Account (observed: "Read Contact depends on permission(s):
        # Read Account" in public issues). All contacts must be seen, or those that are not would be made again.
        for name, writes in (("Account", False), (CONTACT, True)):
            element = ET.SubElement(root, "objectPermissions")
            _texts(element, allowCreate=_word(writes), allowDelete=_word(writes), allowEdit=_word(writes))
            _texts(element, allowRead="true", modifyAllRecords="false", object=name, viewAllRecords="true")
    if not tasks:
        for one in OBJECTS:
            element = ET.SubElement(root, "tabSettings")
            _texts(element, tab=one.name, visibility="Visible")
    if not agent:
        element = ET.SubElement(root, "userPermissions")
        _texts(element, enabled="true", name="ApiEnabled")
    return root


def _package(lack: Lacking, files: Mapping[str, Element], version: str) -> Element:
    members: dict[str, list[str]] = {}
    kinds = {"layouts": "Layout", "tabs": "CustomTab", "permissionsets": "PermissionSet"}
    for path in files:
        folder, _, name = path.partition("/")
        if folder in kinds:
            members.setdefault(kinds[folder], []).append(name.rpartition(".")[0])
    for name, fields in lack.fields.items():
        if name not in lack.objects:
            owner = "Activity" if name == TASK else name
            members.setdefault("CustomField", []).extend(f"{owner}.{one}" for one in fields)
    if lack.objects:
        members["CustomObject"] = sorted(lack.objects)
    root = Element("Package")
    for kind in sorted(kind for kind, names in members.items() if names):
        element = ET.SubElement(root, "types")
        _repeated(element, "members", sorted(members[kind]))
        _texts(element, name=kind)
    _texts(root, version=version)
    return root


def _texts(parent: Element, **values: str) -> None:
    for name, value in values.items():
        ET.SubElement(parent, name).text = value


def _repeated(parent: Element, name: str, values: Iterable[str]) -> None:
    for value in values:
        ET.SubElement(parent, name).text = value


def _word(value: bool) -> str:
    return "true" if value else "false"


def _bytes(root: Element) -> bytes:
    root.set("xmlns", _NAMESPACE)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text + b"\n"
