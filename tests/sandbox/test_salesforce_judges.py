"""Independent judges of the stand-in org: jsforce as a second client, a published SOQL grammar."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.salesforce import SalesforceApp, SalesforceSandbox
from sandbox.salesforce.refusals import Refusal
from sandbox.salesforce.soql import parse_soql
from tests.judges.environment import JUDGES, ask_judge
from tests.sandbox.conftest import ROOT
from tests.sandbox.salesforce_world import World, covers, package

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[SalesforceSandbox]:
    with SalesforceSandbox() as running:
        assert isinstance(running, SalesforceSandbox)
        yield running


@pytest.fixture
def world(server: SalesforceSandbox) -> World:
    return World(server, SalesforceApp(page_rows=3))


@pytest.fixture(scope="module")
def jsforce() -> Path:
    """The folder in which jsforce is installed; installed when it is not there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js is not installed")
    place = ROOT / ".venvs" / "jsforce"
    wanted = (JUDGES / "jsforce.json").read_text(encoding="utf-8")
    mark = place / "made-from"
    if not mark.exists() or mark.read_text(encoding="utf-8") != wanted:
        place.mkdir(parents=True, exist_ok=True)
        (place / "package.json").write_text(wanted, encoding="utf-8")
        command = ["npm", "install", "--prefix", str(place), "--no-audit", "--no-fund"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
        if done.returncode:
            pytest.skip(f"jsforce cannot be installed here: {done.stderr.strip()[-300:]}")
        mark.write_text(wanted, encoding="utf-8")
    return place


def ask(jsforce: Path, world: World, *calls: tuple[Any, ...], token: str | None = None) -> list[dict[str, Any]]:
    """What jsforce made of these calls: (name, arguments ...)."""
    work = {
        "url": world.server.url, "token": token or world.app.session_id, "version": "67.0",
        "calls": [{"call": one[0], "arguments": list(one[1:])} for one in calls],
    }  # fmt: skip
    done = subprocess.run(
        ["node", str(JUDGES / "jsforce_client.mjs"), str(jsforce)], input=json.dumps(work), capture_output=True,
        text=True, timeout=120, check=False, env={**os.environ, **world.server.environment()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@covers("create_read_update_delete", "upsert_says_created", "collections", "error_body", "session_id", "record_ids")
def test_jsforce_writes_and_reads_records(jsforce: Path, world: World) -> None:
    made, bad, several, first, again = ask(
        jsforce, world,
        ("create", "Contact", {"LastName": "Doe", "Email": "jo@shop.example"}),
        ("create", "Contact", {"FirstName": "Jo"}),
        ("create", "Contact", [{"LastName": "One"}, {"FirstName": "Jo"}], {"allOrNone": False}),
        ("upsert", "Contact", {"LastName": "Key", "Identity_Key__c": "k1"}, "Identity_Key__c"),
        ("upsert", "Contact", {"FirstName": "Kay", "Identity_Key__c": "k1"}, "Identity_Key__c"),
    )  # fmt: skip
    assert made["ok"]["success"] is True
    assert bad["error"] == "REQUIRED_FIELD_MISSING"
    assert [one["success"] for one in several["ok"]] == [True, False]
    assert several["ok"][1]["errors"][0]["statusCode"] == "REQUIRED_FIELD_MISSING"
    assert (first["ok"]["created"], again["ok"]["id"]) == (True, first["ok"]["id"])
    contact = made["ok"]["id"]
    read, changed, found, gone, missing = ask(
        jsforce, world, ("retrieve", "Contact", contact), ("update", "Contact", {"Id": contact, "FirstName": "Jo"}),
        ("find", "Contact", {"FirstName": {"$like": "J%"}}, ["Id", "Name"]), ("destroy", "Contact", contact),
        ("retrieve", "Contact", contact),
    )  # fmt: skip
    assert (read["ok"]["Name"], changed["ok"]["success"]) == ("Doe", True)
    assert [one["Name"] for one in found["ok"]] == ["Jo Doe"]
    assert (gone["ok"]["success"], missing["error"]) == (True, "ENTITY_IS_DELETED")
    assert ask(jsforce, world, ("query", "SELECT Id FROM Contact"), token="x")[0]["error"] == "INVALID_SESSION_ID"


@covers("describe", "limit_info", "query_pages", "query_all")
def test_jsforce_describes_and_follows_pages(jsforce: Path, world: World) -> None:
    for place in range(7):
        world.contact(f"C{place}")
    deleted = world.contact("Gone")
    world.sf.Contact.delete(deleted)
    fields, listed, query, everything, limit = ask(
        jsforce, world, ("describe", "Message__c"), ("describeGlobal",), ("query", "SELECT Id, LastName FROM Contact"),
        ("query", "SELECT Id FROM Contact", {"scanAll": True}), ("limitInfo",),
    )  # fmt: skip
    lookup = next(one for one in fields["ok"]["fields"] if one["name"] == "Conversation__c")
    assert (lookup["type"], lookup["referenceTo"]) == ("reference", ["Conversation__c"])
    assert "Conversation__c" in {one["name"] for one in listed["ok"]["sobjects"]}
    assert (query["ok"]["totalSize"], len(query["ok"]["records"]), query["ok"]["done"]) == (7, 7, True)
    assert everything["ok"]["totalSize"] == 8
    assert limit["ok"]["apiUsage"]["limit"] == 100_000


@covers("bulk_ingest", "bulk_query")
def test_jsforce_loads_in_bulk(jsforce: Path, world: World) -> None:
    rows = [{"Identity_Key__c": "k1", "LastName": "One"}, {"Identity_Key__c": "k2", "LastName": "x" * 81}]
    loaded, found = ask(
        jsforce, world, ("bulk", "Contact", "upsert", rows, "Identity_Key__c"),
        ("bulkQuery", "SELECT Identity_Key__c, LastName FROM Contact"),
    )  # fmt: skip
    assert [one["sf__Created"] for one in loaded["ok"]["successfulResults"]] == ["true"]
    assert [one["sf__Error"].partition(":")[0] for one in loaded["ok"]["failedResults"]] == ["STRING_TOO_LONG"]
    assert loaded["ok"]["unprocessedRecords"] in ([], "")
    assert found["ok"] == [{"Identity_Key__c": "k1", "LastName": "One"}]


@covers("merge", "empty_recycle_bin", "soap_session")
def test_jsforce_merges_and_empties_the_bin(jsforce: Path, world: World) -> None:
    master, one, two = world.contact("Master"), world.contact("One"), world.contact("Two")
    thread = world.conversation("t1", Contact__c=one)
    request = {"masterRecord": {"type": "Contact", "Id": master}, "recordToMergeIds": [one, two]}
    merged, emptied, refused = ask(
        jsforce, world, ("merge", request), ("emptyRecycleBin", [one]),
        ("merge", {"masterRecord": {"type": "Contact", "Id": master}, "recordToMergeIds": [one]}),
    )  # fmt: skip
    told = merged["ok"][0] if isinstance(merged["ok"], list) else merged["ok"]
    assert (told["success"], told["mergedRecordIds"], told["updatedRelatedIds"]) == (True, [one, two], [thread])
    assert "ok" in emptied
    failed = refused["ok"][0] if isinstance(refused["ok"], list) else refused["ok"]
    assert failed["success"] is False
    assert "INVALID_SESSION_ID" in ask(jsforce, world, ("merge", request), token="x")[0]["error"]


@covers("deploy")
def test_jsforce_deploys_the_package(jsforce: Path, server: SalesforceSandbox) -> None:
    bare = World(server, SalesforceApp(), installed=False)
    zipped = base64.b64encode(package()).decode()
    options = {"singlePackage": True, "rollbackOnError": True}
    checked, broken = ask(
        jsforce, bare, ("deploy", zipped, {**options, "checkOnly": True}),
        ("deploy", base64.b64encode(b"no zip").decode(), options),
    )  # fmt: skip
    assert (checked["ok"]["status"], checked["ok"]["checkOnly"]) == ("Succeeded", True)
    assert bare.app.state()["permission_sets"] == []
    assert broken["ok"]["status"] == "Failed"
    assert ask(jsforce, bare, ("deploy", zipped, options))[0]["ok"]["numberComponentErrors"] == 0
    assert bare.app.state()["permission_sets"] == ["Threads"]


BOTH_TAKE = [
    "SELECT Id FROM Contact",
    "SELECT Id, Owner.Name FROM Contact WHERE Email = 'a' AND (Name LIKE 'D%' OR Id IN ('1', '2'))",
    "SELECT Id FROM Contact WHERE CreatedDate >= 2026-01-01T00:00:00Z ORDER BY SystemModstamp, Id LIMIT 5",
    "SELECT Id FROM Contact WHERE NOT Email = null",
    "SELECT Id FROM Contact WHERE Email NOT IN ('x') ORDER BY Name DESC NULLS LAST",
    "SELECT Id FROM Contact WHERE LastName = 'O\\'Neil' AND DoNotCall != true",
    "SELECT Id FROM Contact WHERE CreatedDate = TODAY LIMIT 5 OFFSET 2",
]
BOTH_REFUSE = ["SELEC Id FROM Contact", "SELECT Id FROM", "SELECT Id, FROM Contact", "Id FROM Contact", ""]


@covers("soql")
def test_a_published_grammar_agrees_on_statements() -> None:
    def ours(statement: str) -> bool:
        try:
            parse_soql(statement)
        except Refusal:
            return False
        return True

    statements = [*BOTH_TAKE, *BOTH_REFUSE]
    theirs = ask_judge("salesforce", "soql_grammar.py", statements)
    assert theirs == [ours(one) for one in statements] == [True] * len(BOTH_TAKE) + [False] * len(BOTH_REFUSE)
