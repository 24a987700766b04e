"""The stand-in's batches: whole or in part, in whatever order; driven by HubSpot's own client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hubspot.crm.contacts import ApiException as ContactsRefused
from hubspot.crm.contacts.models import SimplePublicObjectBatchInputUpsert
from hubspot.crm.objects.communications import ApiException as CommunicationsRefused

from tests.sandbox.hubspot_world import (
    Account,
    covers,
    linked_message,
    reason,
    running,
)


@pytest.fixture
def plain() -> Iterator[Account]:
    yield from running(unique_communication_property=False, batch_results_reversed=True)


# -- batches


@covers("batch_limits")
@pytest.mark.parametrize("verb", ["create", "update", "upsert", "read", "archive"])
def test_a_batch_of_101_is_refused_whole(account: Account, verb: str) -> None:
    inputs = [{"id": str(number), "properties": {}, "idProperty": "email"} for number in range(101)]
    answer = account.post(f"/crm/v3/objects/contacts/batch/{verb}", {"inputs": inputs})
    assert (answer.status_code, answer.json()["category"]) == (400, "VALIDATION_ERROR")
    assert account.app.state()["contacts"] == {}


@covers("batch_limits")
def test_a_batch_of_100_is_taken(account: Account) -> None:
    inputs = [{"properties": {"firstname": str(number)}} for number in range(100)]
    assert len(account.contact_batches.create({"inputs": inputs}).results) == 100


@covers("history_batch_limit")
def test_a_batch_read_with_history_takes_50(account: Account) -> None:
    ids = [account.contact(city=str(number)) for number in range(51)]
    inputs = [{"id": one} for one in ids]
    body = {"properties": [], "propertiesWithHistory": ["city"], "inputs": inputs}
    with pytest.raises(ContactsRefused):
        account.contact_batches.read(body)
    body["inputs"] = inputs[:50]
    assert len(account.contact_batches.read(body).results[0].properties_with_history["city"]) == 1


@covers("multi_status")
@pytest.mark.parametrize("verb", ["create", "upsert"])
def test_with_trace_ids_the_good_inputs_are_written_and_the_bad_ones_named(account: Account, verb: str) -> None:
    account.unique_property()
    inputs: list[dict[str, Any]] = [
        {"objectWriteTraceId": "t1", "properties": {"firstname": "Ada", "onethread_key": "p1"}},
        {"objectWriteTraceId": "t2", "properties": {"shoe_size": "38", "onethread_key": "p2"}},
        {"objectWriteTraceId": "t3", "properties": {"firstname": "Eva", "onethread_key": "p3"}},
    ]
    if verb == "upsert":
        inputs = [{**one, "id": one["properties"]["onethread_key"], "idProperty": "onethread_key"} for one in inputs]
    call = getattr(account.contact_batches, f"{verb}_with_http_info")
    outcome, status, _ = call({"inputs": inputs})
    assert (status, outcome.status, outcome.num_errors) == (207, "COMPLETE", 1)
    assert [one.object_write_trace_id for one in outcome.results] == ["t1", "t3"]
    assert outcome.errors[0].context["objectWriteTraceId"] == ["t2"]
    assert (outcome.errors[0].category, outcome.errors[0].errors[0].code) == (
        "VALIDATION_ERROR",
        "PROPERTY_DOESNT_EXIST",
    )
    assert len(account.app.state()["contacts"]) == 2


@covers("whole_batch_fails_without_trace_ids")
@pytest.mark.parametrize("traces", [(None, None), ("t1", None), ("t1", "t1")])
def test_without_an_own_trace_id_each_a_conflict_fails_the_whole_batch(
    account: Account, traces: tuple[str | None, str | None]
) -> None:
    account.contact(email="ada@shop.example")
    emails = ("new@shop.example", "ada@shop.example")
    inputs: list[dict[str, Any]] = [{"properties": {"email": one}} for one in emails]
    inputs = [{**one, "objectWriteTraceId": trace} if trace else one for one, trace in zip(inputs, traces, strict=True)]
    with pytest.raises(ContactsRefused) as refused:
        account.contact_batches.create({"inputs": inputs})
    assert refused.value.status == 409
    assert "Existing ID: 1001" in reason(refused)["message"]
    assert [one["properties"]["email"] for one in account.app.state()["contacts"].values()] == ["ada@shop.example"]
    assert account.found({"propertyName": "email", "operator": "EQ", "value": "new@shop.example"}) == []


@covers("whole_batch_fails_without_trace_ids")
def test_a_refused_upsert_puts_every_changed_contact_back(account: Account) -> None:
    account.unique_property()
    contact_id = account.contact(onethread_key="p1", city="Split")
    inputs = [
        {"id": "p1", "idProperty": "onethread_key", "properties": {"city": "Zadar"}},
        {"id": "p2", "idProperty": "onethread_key", "properties": {"shoe_size": "38"}},
    ]
    with pytest.raises(ContactsRefused):
        account.contact_batches.upsert({"inputs": inputs})
    assert account.app.state()["contacts"][contact_id]["properties"]["city"] == "Split"
    assert account.contacts.get_by_id("p1", id_property="onethread_key").id == contact_id


@covers("whole_batch_fails_without_trace_ids")
def test_a_refused_batch_of_messages_leaves_none_on_the_contact(account: Account) -> None:
    contact_id = account.contact(firstname="Ada")
    with pytest.raises(CommunicationsRefused):
        account.communication_batches.create({"inputs": [linked_message(contact_id), linked_message("999999")]})
    state = account.app.state()
    assert (state["communications"], state["contacts"][contact_id]["communications"]) == ({}, [])


@pytest.mark.parametrize("body", [{}, {"inputs": []}, {"inputs": ["x"]}, {"inputs": [{"id": "1"}]}])
def test_a_malformed_batch_is_refused(account: Account, body: dict[str, Any]) -> None:
    assert account.post("/crm/v3/objects/contacts/batch/create", body).status_code == 400


@covers("duplicate_inputs")
@pytest.mark.parametrize("verb", ["update", "upsert"])
def test_the_same_id_twice_in_a_batch_is_refused(account: Account, verb: str) -> None:
    account.unique_property()
    account.contact(onethread_key="p1")
    one = {"id": "p1", "idProperty": "onethread_key", "properties": {"city": "Split"}}
    with pytest.raises(ContactsRefused) as refused:
        getattr(account.contact_batches, verb)({"inputs": [one, one]})
    assert refused.value.status == 400


@covers("batch_read_missing")
def test_a_batch_read_names_the_ids_that_do_not_exist(account: Account) -> None:
    contact_id = account.contact(firstname="Ada")
    archived = account.contact(firstname="Ben")
    account.contacts.archive(archived)
    inputs = [{"id": contact_id}, {"id": "999999"}, {"id": archived}]
    outcome, status, _ = account.contact_batches.read_with_http_info({"properties": ["city"], "inputs": inputs})
    assert (status, [one.id for one in outcome.results]) == (207, [contact_id])
    assert outcome.errors[0].category == "OBJECT_NOT_FOUND"
    assert outcome.errors[0].context["ids"] == ["999999", archived]


@covers("batch_update_missing")
def test_a_batch_update_writes_the_rest_and_names_the_ids_that_do_not_exist(account: Account) -> None:
    contact_id = account.contact(firstname="Ada")
    inputs = [{"id": one, "properties": {"city": "Split"}} for one in (contact_id, "999999")]
    outcome, status, _ = account.contact_batches.update_with_http_info({"inputs": inputs})
    assert (status, [one.id for one in outcome.results]) == (207, [contact_id])
    assert outcome.errors[0].context["ids"] == ["999999"]


def test_a_batch_archive_archives(account: Account) -> None:
    ids = [account.contact(firstname=name) for name in ("Ada", "Ben")]
    account.contact_batches.archive({"inputs": [{"id": one} for one in ids]})
    assert account.app.state()["archived_contacts"] == ids


@covers("upsert_says_new")
def test_an_upsert_creates_then_updates_and_says_which(account: Account) -> None:
    account.unique_property()
    body = {"inputs": [{"id": "p1", "idProperty": "onethread_key", "properties": {"firstname": "Ada"}}]}
    first, second = account.contact_batches.upsert(body), account.contact_batches.upsert(body)
    assert [first.results[0].new, second.results[0].new] == [True, False]
    assert first.results[0].id == second.results[0].id
    assert account.app.state()["contacts"][first.results[0].id]["properties"]["onethread_key"] == "p1"


@covers("upsert_needs_unique_property")
@pytest.mark.parametrize("id_property", ["city", "hs_object_id", None])
def test_an_upsert_needs_a_unique_property(account: Account, id_property: str | None) -> None:
    with pytest.raises(ContactsRefused) as refused:
        account.contact_batches.upsert({"inputs": [{"id": "1", "idProperty": id_property, "properties": {}}]})
    assert refused.value.status == 400


@covers("no_partial_upsert_by_email")
def test_an_upsert_by_address_succeeds_whole_or_not_at_all(account: Account) -> None:
    good = {"id": "ada@shop.example", "idProperty": "email", "properties": {"city": "Split"}, "objectWriteTraceId": "1"}
    bad = {"id": "no address", "idProperty": "email", "properties": {"city": "Split"}, "objectWriteTraceId": "2"}
    with pytest.raises(ContactsRefused) as refused:
        account.contact_batches.upsert({"inputs": [good, bad]})
    assert (refused.value.status, account.app.state()["contacts"]) == (400, {})
    assert account.contact_batches.upsert({"inputs": [good]}).results[0].new is True


@covers("additional_emails")
def test_an_upsert_by_an_additional_address_keeps_the_primary_one(account: Account) -> None:
    values = {"email": "ada@shop.example", "hs_additional_emails": "ada@home.example"}
    contact_id = account.app.create_contact_as_person(values)
    one = {"id": "ada@home.example", "idProperty": "email", "properties": {"email": "ada@home.example", "city": "Rab"}}
    result = account.contact_batches.upsert({"inputs": [one]}).results[0]
    assert (result.id, result.new) == (contact_id, False)
    properties = account.app.state()["contacts"][contact_id]["properties"]
    assert (properties["email"], properties["city"]) == ("ada@shop.example", "Rab")


@covers("upsert_takes_no_associations")
def test_an_upsert_takes_no_associations(account: Account) -> None:
    assert "associations" not in SimplePublicObjectBatchInputUpsert.openapi_types
    account.unique_property("communications")
    one = {**linked_message(account.contact(firstname="Ada")), "id": "m1", "idProperty": "onethread_key"}
    with pytest.raises(CommunicationsRefused) as refused:
        account.communication_batches.upsert({"inputs": [one]})
    assert refused.value.status == 400


@covers("batch_order_is_not_promised")
def test_an_account_can_answer_batches_in_another_order(plain: Account) -> None:
    inputs = [{"properties": {"firstname": name}} for name in ("Ada", "Ben")]
    results = plain.contact_batches.create({"inputs": inputs}).results
    assert [one.properties["firstname"] for one in results] == ["Ben", "Ada"]
