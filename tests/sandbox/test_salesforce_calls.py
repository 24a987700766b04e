"""The stand-in org by simple-salesforce: collections, Composite, queries and Bulk API 2.0."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simple_salesforce.exceptions import SalesforceMalformedRequest, SalesforceOperationError
from simple_salesforce.format import format_soql

from sandbox.salesforce import SalesforceApp, SalesforceSandbox
from sandbox.salesforce.soql import parse_soql
from tests.sandbox.salesforce_world import World, covers, reason


@pytest.fixture(scope="module")
def server() -> Iterator[SalesforceSandbox]:
    with SalesforceSandbox() as running:
        assert isinstance(running, SalesforceSandbox)
        yield running


@pytest.fixture
def world(server: SalesforceSandbox) -> World:
    return World(server, SalesforceApp())


def codes(rows: list[dict[str, Any]]) -> list[str]:
    """The code of each failed row, or ``ok``."""
    return ["ok" if one["success"] else one["errors"][0]["statusCode"] for one in rows]


# -- collections


@covers("collections", "collections_keep_the_order")
def test_rows_are_upserted_in_order_and_each_has_its_own_result(world: World) -> None:
    world.conversation()
    rows = [world.message("m1"), {"External_Id__c": "m2"}, world.message("m3", "t9"), world.message("m4")]
    first = world.upsert("Message__c", "External_Id__c", *rows)
    assert codes(first) == ["ok", "REQUIRED_FIELD_MISSING", "INVALID_FIELD", "ok"]
    assert first[1]["errors"][0]["fields"] == ["Direction__c"]
    again = world.upsert("Message__c", "External_Id__c", world.message("m4", Status__c="Read"), world.message("m5"))
    assert [(one["created"], one["id"] == first[3]["id"]) for one in again] == [(False, True), (True, False)]
    kept = world.found("SELECT External_Id__c, Status__c FROM Message__c ORDER BY External_Id__c")
    assert [(one["External_Id__c"], one["Status__c"]) for one in kept] == [("m1", None), ("m4", "Read"), ("m5", None)]


@covers("collections")
def test_rows_are_created_updated_read_and_deleted_together(world: World) -> None:
    def call(method: str, path: str = "composite/sobjects", **options: Any) -> Any:
        return world.sf.restful(path, method=method, **options)

    contact, account = {"attributes": {"type": "Contact"}}, {"attributes": {"type": "Account"}}
    made = call("POST", json={"records": [{**contact, "LastName": "One"}, {**account, "Name": "Shop"}]})
    assert codes(made) == ["ok", "ok"]
    one, shop = (row["id"] for row in made)
    changes = [{**contact, "id": one, "FirstName": "Jo", "AccountId": shop}, {**contact, "LastName": "No id"}]
    assert codes(call("PATCH", json={"records": changes})) == ["ok", "MISSING_ARGUMENT"]
    read = call("GET", "composite/sobjects/Contact", params={"ids": f"{one},{one[:-4]}zAAA", "fields": "Name"})
    assert (read[0]["Name"], read[1]) == ("Jo One", None)
    posted = call("POST", "composite/sobjects/Contact", json={"ids": [one], "fields": ["AccountId"]})
    assert posted[0]["AccountId"] == shop
    gone = call("DELETE", params={"ids": f"{one},{shop},{one}"})
    assert codes(gone) == ["ok", "ok", "ENTITY_IS_DELETED"]


@covers("collections_limits")
def test_more_rows_than_200_or_more_than_ten_chunks_are_refused(world: World) -> None:
    rows = [{"Identity_Key__c": f"k{one}", "LastName": "Doe"} for one in range(201)]
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.upsert("Contact", "Identity_Key__c", *rows)
    assert reason(refused) == (400, "EXCEEDED_ID_LIMIT")
    assert codes(world.upsert("Contact", "Identity_Key__c", *rows[:200])) == ["ok"] * 200
    mixed = [{"attributes": {"type": name}, "LastName": "x", "Company": "y"} for name in ("Lead", "Lead")]
    other = [{"attributes": {"type": "Account"}, "Name": "x"}]
    with pytest.raises(SalesforceMalformedRequest):
        world.sf.restful("composite/sobjects", method="POST", json={"records": [mixed[0], *other] * 6})
    with pytest.raises(SalesforceMalformedRequest):
        world.sf.restful("composite/sobjects", method="POST", json={"records": [{"LastName": "no type"}]})
    with pytest.raises(SalesforceMalformedRequest):
        world.sf.restful("composite/sobjects/Contact/Identity_Key__c", method="PATCH", json={"records": other})


@covers("collections_all_or_none")
def test_all_or_none_takes_every_row_back(world: World) -> None:
    rows = [{"Identity_Key__c": "k1", "LastName": "Doe"}, {"Identity_Key__c": "k2"}]
    failed = world.upsert("Contact", "Identity_Key__c", *rows, allOrNone=True)
    assert codes(failed) == ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "REQUIRED_FIELD_MISSING"]
    assert world.app.state()["contacts"] == {}
    assert codes(world.upsert("Contact", "Identity_Key__c", rows[0], allOrNone=True)) == ["ok"]  # the key is free again


@covers("collections_refuse_unknown_fields_as_a_whole")
def test_a_column_that_is_not_there_refuses_the_whole_request(world: World) -> None:
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.upsert(
            "Contact", "Identity_Key__c", {"Identity_Key__c": "k1", "LastName": "Doe"},
            {"Identity_Key__c": "k2", "LastName": "Doe", "Nonsense__c": 1},
        )  # fmt: skip
    assert reason(refused) == (400, "INVALID_FIELD")
    assert world.app.state()["contacts"] == {}


@covers("same_key_twice")
def test_the_same_key_twice_in_one_upsert_fails_both_rows(world: World) -> None:
    rows = [{"Identity_Key__c": key, "LastName": "Doe"} for key in ("k1", "k2", "k1")]
    assert codes(world.upsert("Contact", "Identity_Key__c", *rows)) == ["DUPLICATE_VALUE", "ok", "DUPLICATE_VALUE"]


def test_one_locked_parent_fails_only_its_own_rows(world: World) -> None:
    locked = world.conversation("t1")
    world.conversation("t2")
    world.app.lock_row(locked)
    rows = world.upsert("Message__c", "External_Id__c", world.message("m1"), world.message("m2", "t2"))
    assert codes(rows) == ["UNABLE_TO_LOCK_ROW", "ok"]


# -- composite


def _threads(*keys: str) -> dict[str, Any]:
    return {"records": [{"attributes": {"type": "Conversation__c"}, "External_Id__c": one} for one in keys]}


COLLECTION = "composite/sobjects/Conversation__c/External_Id__c"


@covers("composite", "composite_references", "composite_counts_once")
def test_a_composite_hands_results_on_and_counts_as_one_call(world: World) -> None:
    contacts = {"records": [{"attributes": {"type": "Contact"}, "LastName": "Doe", "Identity_Key__c": "k1"}]}
    before = world.app.state()["api_calls"]
    answers = world.composite(
        ("people", "PATCH", "composite/sobjects/Contact/Identity_Key__c", contacts),
        ("thread", "POST", "sobjects/Conversation__c", {"External_Id__c": "t1", "Contact__c": "@{people[0].id}"}),
        ("message", "POST", "sobjects/Message__c", {"Direction__c": "Inbound", "Conversation__c": "@{thread.id}"}),
        ("read", "GET", "sobjects/Conversation__c/@{thread.id}?fields=Contact__c", None),
        ("found", "GET", "query?q=SELECT+Id+FROM+Message__c+WHERE+Conversation__c='@{thread.id}'", None),
    )
    assert [one["httpStatusCode"] for one in answers] == [200, 201, 201, 200, 200]
    assert [one["referenceId"] for one in answers] == ["people", "thread", "message", "read", "found"]
    assert answers[3]["body"]["Contact__c"] == answers[0]["body"][0]["id"]
    assert answers[4]["body"]["records"][0]["Id"] == answers[2]["body"]["id"]
    assert answers[1]["httpHeaders"]["Location"].endswith(answers[1]["body"]["id"])
    assert world.app.state()["api_calls"] == before + 1


@covers("composite")
def test_without_all_or_none_only_what_depends_on_a_failure_is_left_out(world: World) -> None:
    answers = world.composite(
        ("bad", "POST", "sobjects/Contact", {"FirstName": "no last name"}),
        ("child", "POST", "sobjects/Conversation__c", {"Contact__c": "@{bad.id}"}),
        ("good", "POST", "sobjects/Contact", {"LastName": "Doe"}),
        ("nothing", "GET", "sobjects/Contact/@{good.nonsense}", None),
    )
    told = [one["body"][0]["errorCode"] if one["httpStatusCode"] >= 400 else "ok" for one in answers]
    assert told == ["REQUIRED_FIELD_MISSING", "PROCESSING_HALTED", "ok", "PROCESSING_HALTED"]
    assert len(world.app.state()["contacts"]) == 1


@covers("composite_all_or_none")
def test_all_or_none_takes_everything_back_and_reaches_into_collections(world: World) -> None:
    answers = world.composite(
        ("good", "POST", "sobjects/Contact", {"LastName": "Doe", "Identity_Key__c": "k1"}),
        ("threads", "PATCH", COLLECTION, {**_threads("t1"), "records": [*_threads("t1", "")["records"]]}),
        ("late", "POST", "sobjects/Contact", {"LastName": "Late"}),
        allOrNone=True,
    )
    assert [one["httpStatusCode"] for one in answers] == [400, 200, 400]
    assert answers[0]["body"][0]["errorCode"] == answers[2]["body"][0]["errorCode"] == "PROCESSING_HALTED"
    assert codes(answers[1]["body"]) == ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "MISSING_ARGUMENT"]
    assert (world.app.state()["contacts"], world.app.state()["conversations"]) == ({}, {})
    partly = world.composite(("threads", "PATCH", COLLECTION, _threads("t1", "")))
    assert codes(partly[0]["body"]) == ["ok", "MISSING_ARGUMENT"]


@covers("composite_limits")
def test_more_than_25_subrequests_or_five_collections_and_queries_are_refused(world: World) -> None:
    one = ("sobjects/Contact", {"LastName": "Doe"})
    with pytest.raises(SalesforceMalformedRequest):
        world.composite(*((f"r{place}", "POST", *one) for place in range(26)))
    heavy = [(f"c{place}", "PATCH", COLLECTION, _threads(f"t{place}")) for place in range(5)]
    query = ("q", "GET", "query?q=SELECT+Id+FROM+Contact", None)
    with pytest.raises(SalesforceMalformedRequest):
        world.composite(*heavy, query)
    assert world.app.state()["conversations"] == {}
    answers = world.composite(*heavy, *((f"r{place}", "POST", *one) for place in range(20)))
    assert len(answers) == 25


@covers("composite_limits")
@pytest.mark.parametrize(
    "wrong",
    [[], [{"method": "GET", "url": "/services/data/v67.0/limits"}],
     [{"method": "GET", "url": "x", "referenceId": "no-dash"}],
     [{"method": "GET", "url": "x", "referenceId": "r"}] * 2],
)  # fmt: skip
def test_a_composite_that_is_not_well_formed_is_refused_whole(world: World, wrong: list[Any]) -> None:
    assert world.send("POST", "composite", json={"compositeRequest": wrong}).status_code == 400


@covers("composite_headers_are_each_its_own")
def test_a_header_counts_for_the_subrequest_that_carries_it(world: World) -> None:
    twin = {"LastName": "Doe", "FirstName": "Jo", "Email": "jo@shop.example"}
    world.contact(last_name="Doe", FirstName="Jo", Email="jo@shop.example")
    allow = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}
    url = "/services/data/v67.0/sobjects/Contact"
    requests = [
        {"referenceId": "bare", "method": "POST", "url": url, "body": twin},
        {"referenceId": "allowed", "method": "POST", "url": url, "body": twin, "httpHeaders": allow},
    ]
    answer = world.send("POST", "composite", json={"compositeRequest": requests}, headers=allow).json()
    assert [one["httpStatusCode"] for one in answer["compositeResponse"]] == [400, 201]


# -- queries


@pytest.fixture
def people(world: World) -> World:
    """Four people, one of whom has neither first name nor address."""
    rows: list[dict[str, Any]] = [
        {"Identity_Key__c": "k1", "LastName": "Adams", "FirstName": "Ann", "Email": "ann@shop.example"},
        {"Identity_Key__c": "k2", "LastName": "Brown", "FirstName": "Bob", "Email": "Bob@shop.example"},
        {"Identity_Key__c": "k3", "LastName": "O'Neil", "FirstName": "50%_off", "DoNotCall": True},
        {"Identity_Key__c": "k4", "LastName": "Zed"},
    ]
    world.upsert("Contact", "Identity_Key__c", *rows)
    return world


@covers("soql")
@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ("Email = 'bob@SHOP.example'", ["k2"]),
        ("Email != null", ["k1", "k2"]),
        ("Email = null", ["k3", "k4"]),
        ("Email != 'ann@shop.example'", ["k2", "k3", "k4"]),
        ("LastName LIKE 'a%'", ["k1"]),
        ("LastName LIKE '_ed'", ["k4"]),
        ("LastName = 'O\\'Neil'", ["k3"]),
        ("LastName IN ('Adams', 'ZED')", ["k1", "k4"]),
        ("LastName NOT IN ('Adams', 'Zed')", ["k2", "k3"]),
        ("NOT LastName = 'Adams'", ["k2", "k3", "k4"]),
        ("(LastName = 'Adams' OR LastName = 'Brown') AND FirstName = 'Bob'", ["k2"]),
        ("DoNotCall = true", ["k3"]),
        ("CreatedDate >= 2026-11-02T12:00:00Z AND CreatedDate < 2026-11-02T13:00:00+00:00", ["k1", "k2", "k3", "k4"]),
        ("CreatedDate > 2026-11-02T13:00:00+01:00", []),
        ("CreatedDate = TODAY", []),
        ("CreatedDate > TODAY", ["k1", "k2", "k3", "k4"]),
        ("LastName > 'M'", ["k3", "k4"]),
        ("Owner.Name = 'Integration User'", ["k1", "k2", "k3", "k4"]),
        ("Account.Name = null", ["k1", "k2", "k3", "k4"]),
        ("IsDeleted = false", ["k1", "k2", "k3", "k4"]),
    ],
)  # fmt: skip
def test_a_condition_finds_its_records(people: World, where: str, keys: list[str]) -> None:
    found = people.found(f"SELECT Identity_Key__c FROM Contact WHERE {where} ORDER BY Identity_Key__c ASC")
    assert [one["Identity_Key__c"] for one in found] == keys


@covers("soql")
@given(text=st.text(min_size=1, max_size=20))
def test_a_value_quoted_by_the_client_means_itself(text: str) -> None:
    condition = parse_soql(format_soql("SELECT Id FROM Contact WHERE LastName = {}", text)).where
    assert condition.values[0].value == text


@covers("soql")
def test_records_are_ordered_and_cut(people: World) -> None:
    def keys(rest: str) -> list[str]:
        return [one["Identity_Key__c"] for one in people.found(f"SELECT Identity_Key__c FROM Contact {rest}")]

    assert keys("ORDER BY Email DESC NULLS LAST, LastName LIMIT 3") == ["k2", "k1", "k3"]
    assert keys("ORDER BY Email NULLS FIRST, LastName DESC") == ["k4", "k3", "k1", "k2"]
    assert keys("ORDER BY LastName LIMIT 2 OFFSET 1") == ["k2", "k3"]
    assert people.sf.query("SELECT COUNT() FROM Contact WHERE Email != null")["totalSize"] == 2


@covers("soql")
def test_parents_come_nested_and_a_missing_one_is_null(world: World) -> None:
    contact = world.contact(Identity_Key__c="k1")
    world.conversation("t1", Contact__c=contact)
    world.conversation("t2")
    world.upsert("Message__c", "External_Id__c", world.message("m1"), world.message("m2", "t2"))
    one, two = world.found(
        "SELECT Id, Conversation__r.External_Id__c, Conversation__r.Contact__r.Identity_Key__c, "
        "conversation__r.contact__r.owner.name FROM Message__c ORDER BY External_Id__c"
    )
    assert one["Conversation__r"]["Contact__r"]["Identity_Key__c"] == "k1"
    assert one["Conversation__r"]["Contact__r"]["Owner"]["Name"] == "Integration User"
    assert (two["Conversation__r"]["External_Id__c"], two["Conversation__r"]["Contact__r"]) == ("t2", None)


REFUSED = [
    ("SELEC Id FROM Contact", "MALFORMED_QUERY"),
    ("SELECT Id FROM", "MALFORMED_QUERY"),
    ("SELECT Id, FROM Contact", "MALFORMED_QUERY"),
    ("SELECT Id FROM Contact WHERE", "MALFORMED_QUERY"),
    ("SELECT Id FROM Contact WHERE (Email = null", "MALFORMED_QUERY"),
    ("SELECT Id FROM Contact LIMIT x", "MALFORMED_QUERY"),
    ("SELECT Id FROM Contact GROUP BY Id", "MALFORMED_QUERY"),
    ("SELECT Id, (SELECT Id FROM Conversations__r) FROM Contact", "MALFORMED_QUERY"),
    ("SELECT FIELDS(ALL) FROM Contact LIMIT 200", "MALFORMED_QUERY"),
    ('SELECT Id FROM Contact WHERE Email = "double"', "MALFORMED_QUERY"),
    ("SELECT Nonsense FROM Contact", "INVALID_FIELD"),
    ("SELECT Id, id FROM Contact", "INVALID_FIELD"),
    ("SELECT Nonsense__r.Id FROM Contact", "INVALID_FIELD"),
    ("SELECT Id FROM Nonsense", "INVALID_TYPE"),
    ("SELECT Id FROM Contact WHERE Id = 'nonsense'", "INVALID_QUERY_FILTER_OPERATOR"),
]


@covers("soql")
@pytest.mark.parametrize(("soql", "code"), REFUSED)
def test_a_statement_that_is_not_known_is_refused(world: World, soql: str, code: str) -> None:
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.found(soql)
    assert reason(refused) == (400, code)


@covers("soql_and_or_need_parentheses")
def test_and_and_or_do_not_mix_without_parentheses(world: World) -> None:
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.found("SELECT Id FROM Contact WHERE Email = null AND Phone = null OR Title = null")
    assert reason(refused) == (400, "MALFORMED_QUERY")


@covers("soql_literals")
@pytest.mark.parametrize(
    "condition",
    ["CreatedDate > '2026-11-02T12:00:00Z'", "CreatedDate > 2026-11-02", "LastName = 5", "DoNotCall = 'true'",
     "Birthdate = 2026-11-02T12:00:00Z", "LastName = TODAY"],
)  # fmt: skip
def test_a_literal_must_be_of_the_fields_kind(world: World, condition: str) -> None:
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.found(f"SELECT Id FROM Contact WHERE {condition}")
    assert reason(refused) == (400, "INVALID_FIELD")


@covers("soql_long_text")
def test_long_text_is_neither_filtered_nor_sorted_by(world: World) -> None:
    for rest, code in (("WHERE Body__c LIKE 'x%'", "INVALID_FIELD"), ("ORDER BY Body__c", "MALFORMED_QUERY")):
        with pytest.raises(SalesforceMalformedRequest) as refused:
            world.found(f"SELECT Id FROM Message__c {rest}")
        assert reason(refused) == (400, code)


@covers("soql_limits")
def test_statements_and_offsets_have_an_end(world: World) -> None:
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.found("SELECT Id FROM Contact OFFSET 2001")
    assert reason(refused) == (400, "NUMBER_OUTSIDE_VALID_RANGE")
    long = "SELECT Id FROM Contact WHERE LastName IN ('" + "x" * 100_000 + "')"
    answer = world.send("POST", "jobs/query", json={"operation": "query", "query": long})
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "MALFORMED_QUERY")


@covers("query_pages")
def test_pages_follow_until_there_is_no_next_and_may_be_short(server: SalesforceSandbox) -> None:
    world = World(server, SalesforceApp(page_rows=3))
    for place in range(7):
        world.contact(f"C{place}")
    page = world.sf.query("SELECT LastName FROM Contact ORDER BY LastName")
    sizes, names = [len(page["records"])], [one["LastName"] for one in page["records"]]
    world.contact("C3b")  # a page is of the moment of the query
    while not page["done"]:
        page = world.sf.query_more(page["nextRecordsUrl"], identifier_is_url=True)
        sizes.append(len(page["records"]))
        names += [one["LastName"] for one in page["records"]]
    assert (sizes, names, page["totalSize"]) == ([3, 3, 1], [f"C{place}" for place in range(7)], 7)
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.sf.query_more("01gnonsense-2000")
    assert reason(refused) == (400, "INVALID_QUERY_LOCATOR")


@covers("query_pages")
def test_a_page_has_2000_rows_unless_fewer_are_asked_for(world: World) -> None:
    rows = [{"Identity_Key__c": f"k{place}", "LastName": "Doe"} for place in range(200)]
    for start in range(11):
        world.upsert(
            "Contact",
            "Identity_Key__c",
            *({**one, "Identity_Key__c": f"{start}-{one['Identity_Key__c']}"} for one in rows),
        )
    soql = {"q": "SELECT Id FROM Contact"}
    assert len(world.send("GET", "query", params=soql).json()["records"]) == 2000
    few = world.send("GET", "query", params=soql, headers={"Sforce-Query-Options": "batchSize=250"}).json()
    assert (len(few["records"]), few["totalSize"], few["done"]) == (250, 2200, False)


@covers("query_all")
def test_query_all_shows_the_recycle_bin(world: World) -> None:
    made = world.contact()
    world.sf.Contact.delete(made)
    assert world.found("SELECT Id FROM Contact") == []
    (gone,) = world.found("SELECT Id, IsDeleted FROM Contact", deleted=True)
    assert (gone["Id"], gone["IsDeleted"]) == (made, True)


# -- bulk


def _csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@covers("bulk_ingest", "bulk_cells")
def test_a_job_upserts_rows_by_their_key_and_tells_what_failed(server: SalesforceSandbox) -> None:
    world = World(server, SalesforceApp(bulk_polls=1))
    world.conversation("t1")
    world.upsert("Message__c", "External_Id__c", world.message("m1", Status__c="New"))
    rows = [
        {"External_Id__c": "m1", "Direction__c": "", "Status__c": "#N/A", "Conversation__r.External_Id__c": "t1"},
        {
            "External_Id__c": "m2",
            "Direction__c": "Inbound",
            "Status__c": "x" * 21,
            "Conversation__r.External_Id__c": "t1",
        },
        {
            "External_Id__c": "m3",
            "Direction__c": "Inbound",
            "Status__c": "Read",
            "Conversation__r.External_Id__c": "t9",
        },
        {
            "External_Id__c": "m4",
            "Direction__c": "Inbound",
            "Status__c": "Read",
            "Conversation__r.External_Id__c": "t1",
        },
    ]
    jobs = world.sf.bulk2.Message__c.upsert(records=rows, external_id_field="External_Id__c", wait=0.01)
    (job,) = jobs
    assert (job["numberRecordsProcessed"], job["numberRecordsFailed"]) == (4, 2)
    good = _csv(world.sf.bulk2.Message__c.get_successful_records(job["job_id"]))
    assert [(one["External_Id__c"], one["sf__Created"]) for one in good] == [("m1", "false"), ("m4", "true")]
    failed = _csv(world.sf.bulk2.Message__c.get_failed_records(job["job_id"]))
    assert [one["sf__Error"].partition(":")[0] for one in failed] == ["STRING_TOO_LONG", "INVALID_FIELD"]
    assert _csv(world.sf.bulk2.Message__c.get_unprocessed_records(job["job_id"])) == []
    kept = {one["External_Id__c"]: one for one in world.app.state()["messages"].values()}
    assert (kept["m1"]["Direction__c"], kept["m1"].get("Status__c")) == ("Inbound", None)
    assert kept["m4"]["Conversation__c"] == kept["m1"]["Conversation__c"]


def _job(world: World, **more: Any) -> str:
    body = {"object": "Contact", "operation": "upsert", "externalIdFieldName": "Identity_Key__c", **more}
    return str(world.send("POST", "jobs/ingest", json=body).json()["id"])


def _upload(world: World, job_id: str, text: str) -> int:
    return world.send(
        "PUT", f"jobs/ingest/{job_id}/batches", data=text.encode(), headers={"Content-Type": "text/csv"}
    ).status_code


@covers("bulk_upload_once")
def test_a_job_takes_data_once_and_only_while_it_is_open(world: World) -> None:
    job = _job(world)
    assert (_upload(world, job, "Identity_Key__c,LastName\nk1,Doe\n"), _upload(world, job, "x")) == (201, 400)
    close = {"state": "UploadComplete"}
    assert world.send("PATCH", f"jobs/ingest/{job}", json=close).json()["state"] == "UploadComplete"
    assert world.send("PATCH", f"jobs/ingest/{job}", json=close).status_code == 400
    assert world.send("GET", f"jobs/ingest/{job}/successfulResults").status_code == 400
    assert world.send("GET", f"jobs/ingest/{job}").json()["state"] == "JobComplete"
    assert len(_csv(world.send("GET", f"jobs/ingest/{job}/successfulResults").text)) == 1
    assert world.send("GET", "jobs/ingest/750000000000000AAA").status_code == 404


@covers("bulk_whole_job_fails", "bulk_limits")
@pytest.mark.parametrize(
    ("text", "more", "told", "left"),
    [
        ("Identity_Key__c,Nonsense__c\nk1,x\n", {}, "InvalidBatch : Field name not found : Nonsense__c", 1),
        ("Identity_Key__c,LastName\r\nk1,Doe\r\n", {}, "ClientInputError : LineEnding is invalid", 0),
        ("Identity_Key__c,LastName\nk1,Doe\n", {"lineEnding": "CRLF"}, "ClientInputError : LineEnding is invalid", 0),
        (f"Identity_Key__c,Description\nk1,{'x' * 32_001}\n", {}, "InvalidBatch : Field exceeds", 1),
        ("", {}, "InvalidBatch : No data", 0),
    ],
)
def test_a_file_that_cannot_be_read_fails_the_job_and_leaves_its_rows_unprocessed(
    world: World, text: str, more: dict[str, str], told: str, left: int
) -> None:
    job = _job(world, **more)
    _upload(world, job, text)
    world.send("PATCH", f"jobs/ingest/{job}", json={"state": "UploadComplete"})
    shown = world.send("GET", f"jobs/ingest/{job}").json()
    assert (shown["state"], shown["errorMessage"][: len(told)]) == ("Failed", told)
    assert len(_csv(world.send("GET", f"jobs/ingest/{job}/unprocessedRecords").text)) == left
    assert world.app.state()["contacts"] == {}


@covers("bulk_limits")
def test_more_than_100_mb_are_not_taken(world: World) -> None:
    assert _upload(world, _job(world), "x" * (100 * 1024 * 1024 + 1)) == 413


@covers("bulk_ingest")
def test_a_job_can_be_aborted_and_a_bad_one_is_not_made(world: World) -> None:
    job = _job(world)
    _upload(world, job, "Identity_Key__c,LastName\nk1,Doe\n")
    assert world.send("PATCH", f"jobs/ingest/{job}", json={"state": "Aborted"}).json()["state"] == "Aborted"
    assert len(_csv(world.send("GET", f"jobs/ingest/{job}/unprocessedRecords").text)) == 1
    assert world.send("DELETE", f"jobs/ingest/{job}").status_code == 204
    for wrong in (
        {"object": "Nonsense"},
        {"operation": "merge"},
        {"externalIdFieldName": "Email"},
        {"lineEnding": "x"},
    ):
        body = {"object": "Contact", "operation": "upsert", "externalIdFieldName": "Identity_Key__c", **wrong}
        assert world.send("POST", "jobs/ingest", json=body).status_code == 400


def test_the_client_says_that_a_job_failed(world: World) -> None:
    with pytest.raises(SalesforceOperationError, match="Field name not found"):
        world.sf.bulk2.Contact.upsert(
            records=[{"Identity_Key__c": "k1", "Nonsense__c": "x"}], external_id_field="Identity_Key__c", wait=0.01
        )


@covers("bulk_query")
def test_a_query_job_gives_its_rows_page_by_page(people: World) -> None:
    pages = list(
        people.sf.bulk2.Contact.query("SELECT Identity_Key__c, Owner.Name FROM Contact", max_records=3, wait=0.01)
    )
    rows = [row for page in pages for row in _csv(page)]
    assert [len(_csv(page)) for page in pages] == [3, 1]
    assert rows[0] == {"Identity_Key__c": "k1", "Owner.Name": "Integration User"}
