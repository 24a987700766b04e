"""The files of a deploy, checked against Salesforce's own metadata schema, which simple-salesforce brings along.

The schema is the ``metadata.wsdl`` in the simple-salesforce package (v63). Its sequences are alphabetical with
`fullName` first; Salesforce takes elements in any order, so they are sorted before the check.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

from lxml import etree

METADATA = "http://soap.sforce.com/2006/04/metadata"
PACKAGE = "package.xml"
FILES_LIMIT = 10_000
ZIP_LIMIT_BYTES = 39_000_000
_XSD = "{http://www.w3.org/2001/XMLSchema}"
# folder and suffix of each kind of component that this stand-in keeps or at least checks
FOLDERS = {
    "objects": ("CustomObject", ".object"), "permissionsets": ("PermissionSet", ".permissionset"),
    "layouts": ("Layout", ".layout"), "tabs": ("CustomTab", ".tab"), "applications": ("CustomApplication", ".app"),
    "quickActions": ("QuickAction", ".quickAction"), "flows": ("Flow", ".flow"),
    "flexipages": ("FlexiPage", ".flexipage"), "labels": ("CustomLabels", ".labels"),
    "duplicateRules": ("DuplicateRule", ".duplicateRule"),
}  # fmt: skip
# what is named in package.xml as a component of its own, but lies in the file of its object
INSIDE_OBJECTS = {
    "CustomField": "fields", "ListView": "listViews", "CompactLayout": "compactLayouts", "RecordType": "recordTypes",
    "ValidationRule": "validationRules", "WebLink": "webLinks", "Index": "indexes",
}  # fmt: skip


class DeployError(Exception):
    """The deploy as a whole cannot be read."""


@dataclass(frozen=True, slots=True)
class Component:
    """One file: its metadata type, its full name, its place in the zip, its XML, and what is wrong with it."""

    type_name: str
    full_name: str
    path: str
    root: Any
    problem: str | None = None


@lru_cache(maxsize=1)
def metadata_schema() -> Any:
    """The schema, with a root element for each type that a file can be of."""
    wsdl = etree.fromstring((files("simple_salesforce") / "metadata.wsdl").read_bytes(), _parser())
    schema = wsdl.find(f".//{_XSD}schema")
    for name in ("Package", *(one for one, _ in FOLDERS.values())):
        etree.SubElement(schema, f"{_XSD}element", name=name, type=f"tns:{name}")
    return etree.XMLSchema(etree.fromstring(etree.tostring(schema), _parser()))


def read_package(data: bytes, *, single: bool = True) -> tuple[dict[str, list[str]], list[Component]]:
    """What package.xml names, by type, and the components in the zip.

    Raises:
        DeployError: no zip, no package.xml, or one that does not fit the schema.
    """
    if len(data) > ZIP_LIMIT_BYTES:
        raise DeployError(f"Maximum size of request reached. Maximum size of request is {ZIP_LIMIT_BYTES} bytes.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as error:
        raise DeployError("Invalid zip file") from error
    with archive:
        names = [one for one in archive.namelist() if not one.endswith("/")]
        if len(names) > FILES_LIMIT:
            raise DeployError(f"LIMIT_EXCEEDED: more than {FILES_LIMIT} files")
        prefix = "" if single else next((f"{one.split('/')[0]}/" for one in names if one.endswith(f"/{PACKAGE}")), "")
        if prefix + PACKAGE not in names:
            raise DeployError(f"No {PACKAGE} found")
        named = _named(archive.read(prefix + PACKAGE))
        rest = [one for one in names if one.startswith(prefix) and one != prefix + PACKAGE]
        return named, [_component(one.removeprefix(prefix), archive.read(one)) for one in rest]


def text(element: Any, name: str) -> str | None:
    """The text of a child element, without spaces around it."""
    found = element.findtext(f"{{{METADATA}}}{name}")
    return found.strip() if found else None


def yes(element: Any, name: str) -> bool:
    """Whether a child element says true."""
    return text(element, name) == "true"


def parts(element: Any, name: str) -> list[Any]:
    """The child elements of this name."""
    return list(element.findall(f"{{{METADATA}}}{name}"))


def _parser() -> Any:
    return etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True)


def _named(data: bytes) -> dict[str, list[str]]:
    root, problem = _checked(data, "Package")
    if problem:
        raise DeployError(f"Error parsing file {PACKAGE}: {problem}")
    named: dict[str, list[str]] = {}
    for one in parts(root, "types"):
        kind = text(one, "name") or ""
        if kind not in INSIDE_OBJECTS and kind not in {known for known, _ in FOLDERS.values()}:
            raise DeployError(f"Unknown type name '{kind}' specified in package.xml")
        named.setdefault(kind, []).extend((member.text or "").strip() for member in parts(one, "members"))
    if text(root, "version") is None:
        raise DeployError("No version specified in package.xml")
    return named


def _component(path: str, data: bytes) -> Component:
    place = PurePosixPath(path)
    kind, suffix = FOLDERS.get(place.parts[0], ("", ""))
    if len(place.parts) != 2 or not kind or place.suffix != suffix:
        return Component("", place.name, path, None, f"Unknown file type or place: {path}")
    root, problem = _checked(data, kind)
    return Component(kind, place.stem.replace("%2D", "-"), path, root, problem and f"Error parsing file: {problem}")


def _checked(data: bytes, kind: str) -> tuple[Any, str | None]:
    try:
        root = etree.fromstring(data, _parser())
    except etree.XMLSyntaxError as error:
        return None, str(error)
    if root.tag != f"{{{METADATA}}}{kind}":
        return root, f"the root element is not {kind} of {METADATA}"
    _sort(root)
    schema = metadata_schema()
    if schema.validate(root):
        return root, None
    first = schema.error_log[0]
    return root, f"{first.message} at {first.line}".replace(f"{{{METADATA}}}", "")


def _sort(element: Any) -> None:
    element[:] = sorted(element, key=lambda one: "" if one.tag == f"{{{METADATA}}}fullName" else str(one.tag))
    for one in element:
        _sort(one)
