"""The metadata that set-up deploys, held against Salesforce's own schema."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import simple_salesforce
from lxml import etree

from targets.salesforce.metadata import Lacking, lacking, package_files, package_zip, plan_lines
from targets.salesforce.model import FIELDS, OBJECTS

EMPTY: dict[str, Any] = {"Contact": ["Id", "LastName"], "Conversation__c": None, "Message__c": None, "Task": ["Id"]}
FULL = {name: [one.name for one in fields] for name, fields in FIELDS.items()}
ROOTS = ("CustomObject", "Layout", "CustomTab", "PermissionSet", "Package")
_XSD = "{http://www.w3.org/2001/XMLSchema}"
_TNS = "{http://soap.sforce.com/2006/04/metadata}"


@cache
def schema() -> etree.XMLSchema:
    """The types of the Metadata API as simple-salesforce carries them, with the roots of files as elements."""
    wsdl = etree.parse(Path(simple_salesforce.__file__).parent / "metadata.wsdl")
    (found,) = [one for one in wsdl.iter(f"{_XSD}schema") if one.get("targetNamespace") == _TNS[1:-1]]
    for name in ROOTS:
        etree.SubElement(found, f"{_XSD}element", name=name, type=f"tns:{name}", nsmap={"tns": _TNS[1:-1]})
    return etree.XMLSchema(etree.fromstring(etree.tostring(found)))


def everything(*, tasks: bool = False) -> dict[str, bytes]:
    return package_files(lacking(EMPTY, permission_sets=False, tasks=tasks), "67.0")


@pytest.mark.parametrize("tasks", [False, True])
def test_every_file_is_valid_by_salesforces_schema(tasks: bool) -> None:
    for path, content in everything(tasks=tasks).items():
        assert schema().validate(etree.fromstring(content)), (path, schema().error_log)


def test_the_schema_finds_a_misspelt_value() -> None:
    content = everything()["objects/Message__c.object"].replace(b"LongTextArea", b"LongText")
    assert not schema().validate(etree.fromstring(content))


def test_the_files_are_what_the_golden_files_say(golden: Callable[[str, Any], None]) -> None:
    golden(
        "salesforce_metadata/files.json",
        {path: content.decode().splitlines() for path, content in everything().items()},
    )


def test_the_zip_has_the_manifest_and_is_the_same_every_time() -> None:
    one, other = package_zip(everything()), package_zip(everything())
    assert one.getvalue() == other.getvalue()
    with zipfile.ZipFile(one) as archive:
        assert archive.namelist()[0] == "package.xml"
        assert not [name for name in archive.namelist() if "destructive" in name]


def test_the_manifest_names_every_file() -> None:
    files = everything()
    manifest = ET.fromstring(files["package.xml"])
    named = {element.text for element in manifest.iter(f"{_TNS}members")}
    for path in files:
        if path.startswith(("layouts/", "tabs/", "permissionsets/")):
            assert path.partition("/")[2].rpartition(".")[0] in named
    assert {"Conversation__c", "Message__c", "Contact.Identity_Key__c"} <= named


def test_lookups_never_lock_or_delete() -> None:
    for one in OBJECTS:
        for field in one.fields:
            assert field.type != "MasterDetail"
            if field.type == "Lookup":
                assert field.details["deleteConstraint"] == "SetNull"


def test_keys_are_unique_external_ids() -> None:
    for name, key in [("Contact", "Identity_Key__c"), ("Conversation__c", "External_Id__c"),
                      ("Message__c", "External_Id__c"), ("Task", "Thread_External_Id__c")]:  # fmt: skip
        (field,) = [one for one in FIELDS[name] if one.name == key]
        assert field.details["externalId"] == field.details["unique"] == "true"


def test_an_org_that_has_it_all_gets_nothing() -> None:
    lack = lacking(FULL, permission_sets=True)
    assert lack.nothing
    assert plan_lines(lack, done=False) == ["nothing to deploy: the org has it all"]


def test_an_object_that_is_there_gets_the_fields_that_it_lacks_and_nothing_else() -> None:
    there = {**FULL, "Message__c": [one for one in FULL["Message__c"] if one != "Preview__c"]}
    lack = lacking(there, permission_sets=True)
    files = package_files(lack, "67.0")
    assert set(files) == {
        "package.xml", "objects/Message__c.object", "permissionsets/onethread_Integration.permissionset",
        "permissionsets/onethread_Agent.permissionset",
    }  # fmt: skip
    fields = etree.fromstring(files["objects/Message__c.object"])
    assert [child.tag for child in fields] == [f"{_TNS}fields"]
    assert plan_lines(lack, done=False)[0] == "field Message__c.Preview__c: would be created"


def test_tasks_need_no_objects_of_ours() -> None:
    files = everything(tasks=True)
    assert "objects/Activity.object" in files
    assert not [path for path in files if "__c" in path]


def test_a_reply_is_queued_once() -> None:
    rules = etree.fromstring(everything()["objects/Message__c.object"]).findall(f"{_TNS}validationRules")
    assert [one.findtext(f"{_TNS}fullName") for one in rules] == ["Sent_once"]


def test_an_agent_edits_what_an_agent_writes() -> None:
    file = etree.fromstring(everything()["permissionsets/onethread_Agent.permissionset"])
    editable = {
        one.findtext(f"{_TNS}field")
        for one in file.findall(f"{_TNS}fieldPermissions")
        if one.findtext(f"{_TNS}editable") == "true"
    }
    assert "Message__c.Body__c" in editable
    assert "Contact.Identity_Key__c" not in editable


def test_what_is_lacking_is_told_apart_from_case() -> None:
    there = {name: [one.upper() for one in fields] for name, fields in FULL.items()}
    assert lacking(there, permission_sets=True) == Lacking(
        frozenset(), dict.fromkeys(("Contact", "Conversation__c", "Message__c"), frozenset()), permission_sets=False
    )
