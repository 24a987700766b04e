"""What goes into Salesforce's calls and what its answers mean, without any org."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import CredentialsError, SettingsError, UnavailableError
from targets.salesforce.answers import (
    COLLECTION_ROWS,
    Collection,
    Row,
    api_usage,
    composite_parts,
    error_for_answer,
    is_day_limit,
    plan_calls,
    refusal,
    rows_of,
)
from targets.salesforce.bulk import goes_by_bulk, sort_out
from targets.salesforce.soap import empty_bin_call, fault_code, merge_call, soap_results


def rows(people: int, messages: int) -> list[Row]:
    made = []
    for person in range(people):
        group = f"p{person}"
        made.append(Row(f"c{person}", "Contact", {}, group, None, "Identity_Key__c"))
        made.append(Row(f"t{person}", "Conversation__c", {}, group, None, "External_Id__c"))
        for number in range(messages):
            made.append(Row(f"m{person}.{number}", "Message__c", {}, group, None, "External_Id__c"))
    return made


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 90), st.integers(25, 1000), st.sampled_from([1, 5]))
def test_a_plan_has_every_row_once_and_parents_before_children(
    people: int, messages: int, limit: int, collections: int
) -> None:
    all_rows = rows(people, messages)
    calls = plan_calls(all_rows, limit=limit, collections=collections)
    order = [row for call in calls for part in call for row in part.rows]
    assert Counter(row.key for row in order) == Counter(row.key for row in all_rows)
    place = {row.key: number for number, row in enumerate(order)}
    for row in all_rows:
        if row.key.startswith("m"):
            parents = f"c{row.group[1:]}", f"t{row.group[1:]}"
            assert all(place[parent] < place[row.key] for parent in parents)
    for call in calls:
        assert len(call) <= collections
        assert sum(len(part.rows) for part in call) <= limit
        for part in call:
            assert len(part.rows) <= COLLECTION_ROWS
            assert len({(row.kind, row.external_field) for row in part.rows}) == 1


def test_one_parent_stays_in_one_call() -> None:
    calls = plan_calls(rows(100, 10), limit=1000)
    assert len(calls) == 2
    where = [{row.group for part in call for row in part.rows} for call in calls]
    assert not where[0] & where[1]


def test_results_stand_in_the_order_of_the_rows() -> None:
    collection = Collection("composite/sobjects/Message__c/External_Id__c", tuple(rows(1, 2)[2:]))
    body = [
        {"id": "a01", "success": True, "created": True, "errors": []},
        {
            "success": False,
            "errors": [{"statusCode": "STRING_TOO_LONG", "message": "Ana: too long", "fields": ["Name"]}],
        },
    ]
    written = rows_of(collection, 200, body)
    assert (written.ids, written.created) == ({"m0.0": "a01"}, {"m0.0"})
    error = written.refused["m0.1"].error
    assert error.code == "STRING_TOO_LONG"
    assert "Name" in str(error)
    assert "Ana" not in str(error)


@pytest.mark.parametrize("body", [[], None, {}, [{"id": "a01", "success": True}]])
def test_an_answer_without_a_result_for_each_row_is_asked_for_again(body: Any) -> None:
    collection = Collection("composite/sobjects/Message__c/External_Id__c", tuple(rows(1, 2)[2:]))
    with pytest.raises(UnavailableError):
        rows_of(collection, 200, body)


@pytest.mark.parametrize(
    "body", [None, [], {"compositeResponse": []}, {"compositeResponse": [{"referenceId": "part0"}]}]
)
def test_a_composite_answer_that_was_cut_short_is_asked_for_again(body: Any) -> None:
    with pytest.raises(UnavailableError):
        composite_parts(body, 1)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        ({"statusCode": "UNABLE_TO_LOCK_ROW", "message": ""}, "later"),
        ({"statusCode": "ENTITY_IS_DELETED", "message": ""}, "missing"),
        ({"statusCode": "INVALID_CROSS_REFERENCE_KEY", "message": ""}, "missing"),
        ({"statusCode": "INVALID_FIELD", "message": "Foreign key external ID: x not found for field"}, "no_parent"),
        ({"statusCode": "INVALID_FIELD", "message": "No such column"}, None),
        ({"errorCode": "REQUIRED_FIELD_MISSING", "message": ""}, None),
    ],
)
def test_a_refusal_says_what_can_be_done(error: dict[str, Any], what: str | None) -> None:
    found = refusal("PATCH", 200, [error])
    assert [name for name in ("later", "missing", "no_parent") if getattr(found, name)] == ([what] if what else [])


def test_a_duplicate_rule_names_the_records() -> None:
    record = {"record": {"Id": "0035g00000AbCdEAAV"}}
    result = {"matchResults": [{"matchRecords": [record, record]}]}
    body = [{"errorCode": "DUPLICATES_DETECTED", "message": "Use one of these?", "duplicateResult": result}]
    assert refusal("PATCH", 400, body).duplicates == ("0035g00000AbCdEAAV",)
    assert refusal("PATCH", 300, ["/services/data/v67.0/x"]).duplicates == ()


@pytest.mark.parametrize(
    ("status", "code", "message", "error"),
    [
        (401, "INVALID_SESSION_ID", "", CredentialsError),
        (403, "INSUFFICIENT_ACCESS", "", CredentialsError),
        (
            403,
            "REQUEST_LIMIT_EXCEEDED",
            "ConcurrentRequests (Concurrent API Requests) Limit exceeded",
            UnavailableError,
        ),
        (503, "SERVER_UNAVAILABLE", "", UnavailableError),
        (410, "UNSUPPORTED_API_VERSION", "", SettingsError),
        (400, "MALFORMED_QUERY", "", type(None)),
    ],
)
def test_an_answer_is_the_error_of_who_must_act(status: int, code: str, message: str, error: type) -> None:
    body = [{"errorCode": code, "message": message}]
    assert isinstance(error_for_answer("GET query", status, body), error)
    assert not is_day_limit(status, body)


def test_the_days_limit_is_told_apart_from_too_many_at_once() -> None:
    assert is_day_limit(403, [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}])


@pytest.mark.parametrize(
    ("header", "usage"),
    [("api-usage=18/5000", (18, 5000)), ("api-usage=1/2; per-app-api-usage=1/250(appName=x)", (1, 2)),
     ("per-app-api-usage=1/250", None), (None, None), ("nonsense", None)],
)  # fmt: skip
def test_the_calls_used_are_read(header: str | None, usage: tuple[int, int] | None) -> None:
    assert api_usage(header) == usage


def test_soap_calls_escape_what_goes_in() -> None:
    call = merge_call([("003a", "003<b>")], "session&id")
    assert "session&amp;id" in call
    assert "003&lt;b&gt;" in call
    assert "<urn:ids>003a</urn:ids>" in empty_bin_call(["003a"], "s")


def test_soap_answers_are_read_in_their_order() -> None:
    envelope = (
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns="urn:partner.soap.sforce.com">'
        "<soapenv:Body>{}</soapenv:Body></soapenv:Envelope>"
    )
    good = "<result><success>true</success></result>"
    bad = "<result><errors><statusCode>ENTITY_IS_DELETED</statusCode></errors><success>false</success></result>"
    first, second = soap_results(envelope.format(f"<mergeResponse>{good}{bad}</mergeResponse>"), 2)
    assert (first.success, second.success, second.codes) == (True, False, ("ENTITY_IS_DELETED",))
    with pytest.raises(UnavailableError):
        soap_results(envelope.format("<mergeResponse/>"), 1)
    with pytest.raises(UnavailableError):
        soap_results("<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", 1)
    fault = '<soapenv:Fault><faultcode xmlns="">sf:INVALID_SESSION_ID</faultcode></soapenv:Fault>'
    assert fault_code(envelope.format(fault)) == "INVALID_SESSION_ID"


def bulk_rows(number: int) -> list[Row]:
    return [
        Row(f"m{one}", "Message__c", {"External_Id__c": f"e{one}", "Body__c": "x"}, "p", None, "External_Id__c")
        for one in range(number)
    ]


def test_a_job_takes_new_messages_that_fit_and_only_if_there_are_enough() -> None:
    long = Row("long", "Message__c", {"External_Id__c": "e", "Body__c": "x" * 32_001}, "p", None, "External_Id__c")
    old = Row("old", "Message__c", {"Body__c": "x"}, "p", "a01")
    contact = Row("c", "Contact", {}, "p", None, "Identity_Key__c")
    everything = [*bulk_rows(3), long, old, contact]
    fit, others = goes_by_bulk(everything, 3)
    assert [row.key for row in fit] == ["m0", "m1", "m2"]
    assert [row.key for row in others] == ["long", "old", "c"]
    assert goes_by_bulk(everything, 4) == ([], everything)


def test_a_row_that_a_job_did_not_get_to_is_not_taken_for_written() -> None:
    successful = (
        '"sf__Id","sf__Created","External_Id__c","Body__c"\n"a01","true","e0","a ""quoted"", text\nof two lines"\n'
    )
    failed = '"sf__Id","sf__Error","External_Id__c"\n"","STRING_TOO_LONG:Ana: too long:Body__c --","e1"\n'
    written, left = sort_out(bulk_rows(3), successful, failed)
    assert (written.ids, written.created) == ({"m0": "a01"}, {"m0"})
    error = written.refused["m1"].error
    assert (error.code, "Body__c" in str(error), "Ana" in str(error)) == ("STRING_TOO_LONG", True, False)
    assert [row.key for row in left] == ["m2"]
