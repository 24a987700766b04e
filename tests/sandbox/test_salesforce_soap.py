"""The stand-in org by SOAP: merges and the recycle bin, and packages deployed by simple-salesforce and by zeep."""

from __future__ import annotations

import base64
import io
import itertools
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import requests
import zeep
from simple_salesforce.exceptions import SalesforceGeneralError
from zeep.transports import Transport

from sandbox.salesforce import SalesforceApp, SalesforceSandbox
from sandbox.salesforce.ids import make_id
from tests.sandbox.conftest import ROOT
from tests.sandbox.salesforce_world import World, covers, package, part

PARTNER = "{urn:partner.soap.sforce.com}"
METADATA_WSDL = str(files("simple_salesforce") / "metadata.wsdl")


@pytest.fixture(scope="module")
def server() -> Iterator[SalesforceSandbox]:
    with SalesforceSandbox() as running:
        assert isinstance(running, SalesforceSandbox)
        yield running


@pytest.fixture
def world(server: SalesforceSandbox) -> World:
    return World(server, SalesforceApp())


@pytest.fixture
def bare(server: SalesforceSandbox) -> World:
    return World(server, SalesforceApp(), installed=False)


# -- SOAP by hand, as a client without a WSDL writes it


def soap(world: World, operation: str, inner: str, *, token: str | None = None, **headers: str) -> requests.Response:
    text = (
        '<?xml version="1.0" encoding="utf-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns="urn:partner.soap.sforce.com"'
        ' xmlns:so="urn:sobject.partner.soap.sforce.com"><soapenv:Header><SessionHeader>'
        f"<sessionId>{token or world.app.session_id}</sessionId></SessionHeader></soapenv:Header>"
        f"<soapenv:Body><{operation}>{inner}</{operation}></soapenv:Body></soapenv:Envelope>"
    )
    named = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""', **headers}
    return world.session.post(f"{world.server.url}/services/Soap/u/67.0", data=text.encode(), headers=named, timeout=30)


def request(master: str, *others: str, more: str = "", kind: str = "Contact") -> str:
    ids = "".join(f"<recordToMergeIds>{one}</recordToMergeIds>" for one in others)
    return (
        f"<request><masterRecord><so:type>{kind}</so:type><so:Id>{master}</so:Id>{more}</masterRecord>{ids}</request>"
    )


def results(answer: requests.Response) -> list[dict[str, Any]]:
    """Each result's members; those that may come more than once as lists."""
    assert answer.status_code == 200, answer.text
    found = []
    for result in ET.fromstring(answer.content).iter(f"{PARTNER}result"):
        told: dict[str, Any] = {"mergedRecordIds": [], "updatedRelatedIds": []}
        for one in result:
            name = one.tag.removeprefix(PARTNER)
            if name == "errors":
                told["code"] = one.findtext(f"{PARTNER}statusCode")
            elif isinstance(told.get(name), list):
                told[name].append(one.text)
            else:
                told[name] = one.text
        found.append(told)
    return found


def fault(answer: requests.Response) -> str:
    """The code of a fault."""
    assert answer.status_code == 500, answer.text
    return str(next(ET.fromstring(answer.content).iter("faultcode")).text)


@covers("merge", "merge_moves_children")
def test_a_merge_moves_children_and_puts_the_others_into_the_bin(world: World) -> None:
    master, one, two = world.contact("Master"), world.contact("One"), world.contact("Two")
    thread = world.conversation("t1", Contact__c=one)
    message = world.sf.Message__c.create(world.message("m1", Contact__c=two))["id"]
    task = world.sf.Task.create({"WhoId": one, "Subject": "Call"})["id"]
    world.app.clock.advance(60)
    (told,) = results(soap(world, "merge", request(master, one, two, more="<so:FirstName>Mona</so:FirstName>")))
    assert (told["id"], told["success"], told["mergedRecordIds"]) == (master, "true", [one, two])
    assert set(told["updatedRelatedIds"]) == {thread, message, task}
    assert world.sf.Conversation__c.get(thread)["Contact__c"] == master
    assert world.sf.Message__c.get(message)["Contact__c"] == master
    assert world.sf.Contact.get(master)["Name"] == "Mona Master"
    soql = (
        "SELECT Id, MasterRecordId FROM Contact WHERE IsDeleted = true AND MasterRecordId != null AND SystemModstamp > "
    )
    gone = world.found(soql + "2026-11-02T12:00:30Z ORDER BY Id", deleted=True)
    assert [(record["Id"], record["MasterRecordId"]) for record in gone] == [(one, master), (two, master)]
    assert world.found("SELECT Id FROM Contact") == [{"attributes": gone[0]["attributes"] | {
        "url": f"/services/data/v67.0/sobjects/Contact/{master}"}, "Id": master}]  # fmt: skip


@covers("merge")
def test_each_request_of_a_call_stands_for_itself_and_the_call_counts_once(world: World) -> None:
    ids = [world.contact(name) for name in ("One", "Two", "Three", "Four")]
    before = world.app.state()["api_calls"]
    told = results(soap(world, "merge", request(*ids[:2]) + request(ids[2], make_id("003", 99)) + request(*ids[2:])))
    assert [one["success"] for one in told] == ["true", "false", "true"]
    assert told[1]["code"] == "INVALID_CROSS_REFERENCE_KEY"
    assert world.app.state()["api_calls"] == before + 1


@covers("merge_limits")
def test_a_merge_takes_two_others_and_a_call_200_requests(world: World) -> None:
    ids = [world.contact(f"C{place}") for place in range(4)]
    cases = {
        request(*ids): False, request(ids[0]): False, request(ids[0], ids[0]): False,
        request(ids[0], ids[1], kind="Task"): False, request(*ids[:3]): True, request(ids[0], ids[1]): False,
    }  # fmt: skip
    told = [results(soap(world, "merge", one))[0]["success"] == "true" for one in cases]
    assert told == list(cases.values())
    assert fault(soap(world, "merge", request(ids[0], ids[3]) * 201)) == "sf:EXCEEDED_ID_LIMIT"
    assert fault(soap(world, "merge", request(ids[0], ids[3]).replace("request", "mergeRequests"))) == "soapenv:Client"
    assert set(world.app.state()["contacts"]) == {ids[0], ids[3]}


@covers("merge_keeps_the_others_unique_value")
def test_the_master_cannot_take_the_others_key_in_the_same_call(world: World) -> None:
    master, other = world.contact("Master"), world.contact("Other", Identity_Key__c="k2")
    (told,) = results(soap(world, "merge", request(master, other, more="<so:Identity_Key__c>k2</so:Identity_Key__c>")))
    assert (told["success"], told["code"]) == ("false", "DUPLICATE_VALUE")
    assert set(world.app.state()["contacts"]) == {master, other}
    assert results(soap(world, "merge", request(master, other)))[0]["success"] == "true"
    world.sf.Contact.update(master, {"Identity_Key__c": "k2"})


def test_a_locked_record_is_not_merged(world: World) -> None:
    master, other = world.contact("Master"), world.contact("Other")
    world.app.lock_row(other)
    assert results(soap(world, "merge", request(master, other)))[0]["code"] == "UNABLE_TO_LOCK_ROW"


@covers("empty_recycle_bin")
def test_the_bin_is_emptied_of_what_is_in_it_only(world: World) -> None:
    gone, there = world.contact("Gone"), world.contact("There")
    world.sf.Contact.delete(gone)
    told = results(soap(world, "emptyRecycleBin", f"<ids>{gone}</ids><ids>{there}</ids>"))
    assert [one["success"] for one in told] == ["true", "false"]
    assert world.found("SELECT Id FROM Contact", deleted=True)[0]["Id"] == there


@covers("soap_session")
def test_soap_needs_a_session_its_headers_and_a_known_version(world: World) -> None:
    assert fault(soap(world, "merge", "", token="x")) == "sf:INVALID_SESSION_ID"
    assert fault(soap(world, "merge", "", **{"Content-Type": "application/json"})) == "soapenv:Client"
    assert fault(soap(world, "convertLead", "")) == "soapenv:Client"
    timestamp = soap(world, "getServerTimestamp", "")
    assert "<timestamp>2026-11-02T12:00:00.000Z</timestamp>" in timestamp.text
    url = f"{world.server.url}/services/Soap/u/30.0"
    named = {"Content-Type": "text/xml", "SOAPAction": '""'}
    assert fault(world.session.post(url, data=b"<x/>", headers=named, timeout=10)) == "sf:UNSUPPORTED_API_VERSION"
    world.app.exhaust_quota()
    assert fault(soap(world, "merge", "")) == "sf:REQUEST_LIMIT_EXCEEDED"


# -- deploys


def deploy(world: World, data: bytes, **options: Any) -> dict[str, Any]:
    """Deploy by simple-salesforce; how it ended."""
    client = _deployer(world)
    started = client.deploy(io.BytesIO(data), sandbox=True, **{"rollbackOnError": True, "checkOnly": False, **options})
    assert started["state"] == "Queued"
    ended: dict[str, Any] = client.checkDeployStatus(started["asyncId"])
    return ended


_DEPLOYERS: dict[str, Any] = {}


def _deployer(world: World) -> Any:
    """One client for all tests at an address: each new one reads the whole WSDL."""
    client = _DEPLOYERS.setdefault(world.server.url, world.sf)
    client.mdapi._session_id = world.app.session_id
    return client


def problems(ended: dict[str, Any]) -> list[str]:
    return [one["message"] for one in ended["deployment_detail"]["errors"]]


@covers("deploy")
def test_a_package_makes_objects_fields_and_permission_sets(bare: World) -> None:
    ended = deploy(bare, package())
    assert (ended["state"], problems(ended)) == ("Succeeded", [])
    assert ended["deployment_detail"]["total_count"] == ended["deployment_detail"]["deployed_count"]
    assert bare.app.state()["permission_sets"] == ["Threads"]
    bare.app.assign_permission_set("Threads")
    bare.sf = bare.client()
    bare.conversation("t1", Contact__c=bare.contact(Identity_Key__c="k1"))
    again = deploy(bare, package())
    assert again["state"] == "Succeeded"
    assert len(bare.app.state()["conversations"]) == 1


@covers("deploy_check_only")
def test_check_only_tells_the_same_and_changes_nothing(bare: World) -> None:
    assert deploy(bare, package(), checkOnly=True)["state"] == "Succeeded"
    assert bare.app.state()["permission_sets"] == []
    assert "Conversation__c" not in bare.app.org.schema.types


def test_a_deploy_may_take_its_time(server: SalesforceSandbox) -> None:
    bare = World(server, SalesforceApp(deploy_polls=2), installed=False)
    client = bare.client()
    started = client.deploy(io.BytesIO(package()), sandbox=True, rollbackOnError=True, checkOnly=False)
    states = [client.checkDeployStatus(started["asyncId"])["state"] for _ in range(3)]
    assert states == ["InProgress", "InProgress", "Succeeded"]


THREAD = "objects/Conversation__c.object"
SET = "permissionsets/Threads.permissionset"
MESSAGES = "objects/Message__c.object"


@covers("deploy_xml", "custom_fields")
@pytest.mark.parametrize(
    ("path", "old", "new", "told"),
    [
        (THREAD, "<type>Picklist</type>", "<type>Picklst</type>", "is not an element of the set"),
        (THREAD, "<label>Channel</label>", "<lable>Channel</lable>", "lable"),
        (THREAD, "</CustomObject>", "", "end of"),
        (THREAD, "<sharingModel>ReadWrite</sharingModel>", "", "sharingModel"),
        (THREAD, "<length>255</length>", "", "Must specify 'length'"),
        (THREAD, "<length>255</length>", "<length>256</length>", "Must specify 'length'"),
        (THREAD, "<defaultValue>false</defaultValue>", "", "Must specify 'defaultValue'"),
        (THREAD, "<precision>6</precision>", "", "Must specify 'precision'"),
        (THREAD, "<referenceTo>Contact</referenceTo>", "<referenceTo>Nobody</referenceTo>", "does not resolve"),
        (THREAD, "<relationshipName>Conversations</relationshipName>", "", "Must specify 'relationshipName'"),
        (THREAD, "<columns>Channel__c</columns>", "<columns>Nonsense__c</columns>", "Could not resolve field"),
        (THREAD, "<fields>Channel__c</fields>", "<fields>Nonsense__c</fields>", "Could not resolve field"),
        (THREAD, "<fullName>Size__c</fullName>", "<fullName>Size</fullName>", "must end with __c"),
        (THREAD, "<type>DateTime</type>", "<externalId>true</externalId><type>DateTime</type>", "cannot be unique"),
        (MESSAGES, "<length>131072</length>", "<length>131073</length>", "LongTextArea must be 256 to 131072"),
        (MESSAGES, "<visibleLines>6</visibleLines>", "", "Must specify 'visibleLines'"),
        ("layouts/Conversation__c-Conversation Layout.layout", "Contact__c", "Nonsense__c", "Could not find field"),
        (SET, "Message__c.Status__c", "Message__c.Nonsense__c", "no CustomField named Message__c.Nonsense__c found"),
        (SET, "<object>Message__c</object>", "<object>Nobody__c</object>", "no CustomObject named"),
    ],
)
def test_a_file_that_does_not_fit_is_named_and_nothing_is_deployed(
    bare: World, path: str, old: str, new: str, told: str
) -> None:
    text = part(path)
    assert old in text
    ended = deploy(bare, package({path: text.replace(old, new)}))
    assert ended["state"] == "Failed"
    assert any(told in one for one in problems(ended)), problems(ended)
    assert "Conversation__c" not in bare.app.org.schema.types
    assert all(one["status"] == "Error" for one in ended["deployment_detail"]["errors"])


@covers("custom_fields")
def test_a_fields_type_and_target_stay(world: World) -> None:
    text = part(THREAD)
    number = "<precision>6</precision><scale>0</scale><type>Number</type>"
    ended = deploy(world, package({THREAD: text.replace(number, "<length>6</length><type>Text</type>")}))
    assert problems(ended) == ["Cannot change field type from double to string"]
    other = text.replace("<referenceTo>Contact</referenceTo>", "<referenceTo>Account</referenceTo>")
    assert problems(deploy(world, package({THREAD: other}))) == [
        "Cannot change the object that a relationship field refers to"
    ]


@covers("permission_sets_leave_required_fields", "permissions_depend_on_each_other")
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "Message__c.Status__c",
            "Message__c.Direction__c",
            "You cannot deploy to a required field: Message__c.Direction__c",
        ),
        ("<allowRead>true</allowRead>", "<allowRead>false</allowRead>", "depends on permission(s): Read"),
        ("<readable>true</readable>", "<readable>false</readable>", "depends on permission(s): Read"),
    ],
)
def test_a_permission_set_must_hang_together(bare: World, old: str, new: str, told: str) -> None:
    ended = deploy(bare, package({SET: part(SET).replace(old, new, 1)}))
    assert (ended["state"], [told in one for one in problems(ended)]) == ("Failed", [True])


@covers("deploy_names_every_file")
def test_package_xml_and_the_files_must_agree(bare: World) -> None:
    assert "not found in zipped" in problems(deploy(bare, package({SET: None})))[0]
    listed = part("package.xml").replace("<members>Threads</members>", "")
    assert any("not in package.xml" in one for one in problems(deploy(bare, package({"package.xml": listed}))))
    assert deploy(bare, package({"package.xml": None}))["state"] == "Failed"
    assert deploy(bare, b"no zip")["state"] == "Failed"
    unknown = part("package.xml").replace("<name>Layout</name>", "<name>Layuot</name>")
    assert deploy(bare, package({"package.xml": unknown}))["state"] == "Failed"
    assert problems(deploy(bare, package({"nonsense/x.txt": "x"}))) == ["Unknown file type or place: nonsense/x.txt"]


@covers("deploy_rolls_back")
def test_without_rollback_what_fits_is_deployed(bare: World) -> None:
    bad = package({SET: part(SET).replace("Message__c.Status__c", "Message__c.Nonsense__c")})
    assert deploy(bare, bad)["state"] == "Failed"
    assert deploy(bare, bad, rollbackOnError=False)["state"] == "SucceededPartial"
    assert "Conversation__c" in bare.app.org.schema.types
    assert bare.app.state()["permission_sets"] == []


@covers("deploy_needs_a_right")
def test_a_user_without_the_right_cannot_deploy(server: SalesforceSandbox) -> None:
    bare = World(server, SalesforceApp(may_deploy=False), installed=False)
    with pytest.raises(SalesforceGeneralError, match="INSUFFICIENT_ACCESS"):
        deploy(bare, package())


# -- judges: Salesforce's own description of its metadata API


class Metadata:
    """zeep, made from metadata.wsdl: it refuses an answer that the WSDL does not describe."""

    def __init__(self, world: World) -> None:
        make: Any = zeep.Client  # zeep has no types
        by: Any = Transport
        client = make(
            METADATA_WSDL, transport=by(session=world.session), settings=zeep.Settings(strict=True, xml_huge_tree=True)
        )
        binding = "{http://soap.sforce.com/2006/04/metadata}MetadataBinding"
        self._service = client.create_service(binding, f"{world.server.url}/services/Soap/m/63.0")
        self._headers = {"SessionHeader": {"sessionId": world.app.session_id}}

    def call(self, name: str, *arguments: Any) -> Any:
        found = getattr(self._service, name)(*arguments, _soapheaders=self._headers)
        return found.body.result if "body" in found else found  # zeep shows the body alone where no header is described


def status_codes() -> set[str]:
    """The codes that the WSDL lists."""
    text = Path(METADATA_WSDL).read_text(encoding="utf-8")
    listed = text[text.index('<xsd:simpleType name="StatusCode">') :].partition("</xsd:simpleType>")[0]
    return set(re.findall(r'enumeration value="(\w+)"', listed))


@covers("deploy")
def test_every_answer_to_a_deploy_is_what_the_wsdl_describes(bare: World) -> None:
    metadata = Metadata(bare)
    options = {
        "allowMissingFiles": False, "autoUpdatePackage": False, "checkOnly": False, "ignoreWarnings": False,
        "performRetrieve": False, "purgeOnDelete": False, "rollbackOnError": True, "singlePackage": True,
        "testLevel": "NoTestRun",
    }  # fmt: skip
    bad = package({SET: part(SET).replace("Message__c.Status__c", "Message__c.Nonsense__c")})
    for data, status in ((bad, "Failed"), (b"no zip", "Failed"), (package(), "Succeeded")):
        started = metadata.call("deploy", data, options)
        ended = metadata.call("checkDeployStatus", started.id, True)
        assert (ended.status, ended.success, ended.done) == (status, status == "Succeeded", True)
        failed = ended.details.componentFailures
        assert len(failed) == ended.numberComponentErrors
        assert all(one.problemType == "Error" for one in failed)
    assert len(ended.details.componentSuccesses) == ended.numberComponentsDeployed == ended.numberComponentsTotal
    with pytest.raises(zeep.exceptions.Fault):
        metadata.call("checkDeployStatus", make_id("0Af", 99), True)


def test_the_judge_refuses_an_answer_that_is_not_described(bare: World, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = Metadata(bare)
    started = metadata.call("deploy", package(), {
        "allowMissingFiles": False, "autoUpdatePackage": False, "checkOnly": True, "ignoreWarnings": False,
        "performRetrieve": False, "purgeOnDelete": False, "rollbackOnError": True, "singlePackage": True,
        "testLevel": "NoTestRun",
    })  # fmt: skip
    monkeypatch.setattr("sandbox.salesforce.deploys._result", lambda deploy, *, details: "<nonsense/>")
    with pytest.raises(zeep.exceptions.XMLParseError):
        metadata.call("checkDeployStatus", started.id, True)


@covers("error_codes")
def test_every_code_of_a_row_is_one_of_the_wsdls_status_codes() -> None:
    known = status_codes()
    own_to_rest = {
        # REST, OAuth, Bulk and SOAP faults have codes of their own, which no WSDL of Salesforce lists
        "JSON_PARSER_ERROR", "MALFORMED_QUERY", "INVALID_QUERY_PARAMETER", "INVALIDJOB", "INVALIDJOBSTATE",
        "INVALIDENTITY", "INVALIDCONTENTTYPE", "CLIENT_INPUT_ERROR", "INVALID_MULTIPART_REQUEST", "URI_TOO_LONG",
        "MULTIPLE_CHOICES",
        "UNSUPPORTED_API_VERSION", "DEPLOY_FAILED", "EXCEEDED_ID_LIMIT", "REQUEST_LIMIT_EXCEEDED", "API_ERROR",
        "INVALID_QUERY_FILTER_OPERATOR",
    }  # fmt: skip
    used = set(
        itertools.chain.from_iterable(
            re.findall(r'Refusal\(\s*"([A-Z][A-Z_]+)"', one.read_text(encoding="utf-8"))
            for one in (ROOT / "sandbox" / "salesforce").glob("*.py")
        )
    )
    assert not own_to_rest & known
    assert used - own_to_rest <= known, sorted(used - own_to_rest - known)
    assert len(used & known) > 15


@covers("deploy_xml")
def test_the_package_is_read_as_base64_inside_the_envelope(bare: World) -> None:
    options = "<DeployOptions><singlePackage>true</singlePackage></DeployOptions>"
    inner = f"<ZipFile>{base64.b64encode(package()).decode()}!</ZipFile>{options}"
    text = (
        '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns="http://soap.sforce.com/2006/04/metadata">'
        f"<e:Header><SessionHeader><sessionId>{bare.app.session_id}</sessionId></SessionHeader></e:Header>"
        f"<e:Body><deploy>{inner}</deploy></e:Body></e:Envelope>"
    )
    named = {"Content-Type": "text/xml", "SOAPAction": "deploy"}
    url = f"{bare.server.url}/services/Soap/m/67.0/deployRequest"
    answer = bare.session.post(url, data=text.encode(), headers=named, timeout=10)
    deploy_id = next(ET.fromstring(answer.content).iter("{http://soap.sforce.com/2006/04/metadata}id")).text
    assert bare.client().checkDeployStatus(deploy_id)["state"] == "Failed"
