"""The stand-in's contacts, one by one, merged and searched for; driven by HubSpot's own client."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hubspot.crm.contacts import ApiException as ContactsRefused
from hubspot.crm.contacts import Configuration
from hubspot.crm.contacts.models import Filter

from sandbox.hubspot.crm import MERGE_LIMIT
from sandbox.hubspot.search import OPERATORS
from tests.sandbox.hubspot_world import (
    Account,
    covers,
    linked_message,
    reason,
    running,
)


@pytest.fixture
def lagging() -> Iterator[Account]:
    yield from running(search_lag_seconds=30)


# -- contacts


@covers("email_is_unique")
def test_a_second_contact_with_the_address_is_a_conflict_that_names_the_first(account: Account) -> None:
    first = account.contact(email="ada@shop.example")
    second = account.contact(firstname="Ben")
    for write in (
        lambda: account.contact(email="ada@shop.example"),
        lambda: account.contacts.update(second, {"properties": {"email": "ada@shop.example"}}),
    ):
        with pytest.raises(ContactsRefused) as refused:
            write()
        assert (refused.value.status, reason(refused)["category"]) == (409, "CONFLICT")
        assert reason(refused)["message"] == f"Contact already exists. Existing ID: {first}"


@covers("email_lower_case")
def test_addresses_are_kept_and_compared_in_lower_case(account: Account) -> None:
    contact_id = account.contact(email="Ada@Shop.Example")
    assert account.contacts.get_by_id(contact_id).properties["email"] == "ada@shop.example"
    with pytest.raises(ContactsRefused):
        account.contact(email="ADA@shop.example")
    assert account.contacts.get_by_id("ADA@SHOP.example", id_property="email").id == contact_id


@covers("additional_emails")
def test_an_additional_address_finds_the_contact_and_blocks_a_second_one(account: Account) -> None:
    values = {"email": "ada@shop.example", "hs_additional_emails": "ada@home.example"}
    contact_id = account.app.create_contact_as_person(values)
    body = {"idProperty": "email", "properties": ["email"], "inputs": [{"id": "ada@home.example"}]}
    read = account.contact_batches.read(body)
    assert [(one.id, one.properties["email"]) for one in read.results] == [(contact_id, "ada@shop.example")]
    with pytest.raises(ContactsRefused) as refused:
        account.contact(email="ada@home.example")
    assert f"Existing ID: {contact_id}" in reason(refused)["message"]


@covers("addressed_by_unique_property")
def test_single_calls_address_a_contact_by_unique_property(account: Account) -> None:
    account.unique_property()
    contact_id = account.contact(onethread_key="p1")
    assert account.contacts.get_by_id("p1", id_property="onethread_key").id == contact_id
    account.contacts.update("p1", {"properties": {"city": "Split"}}, id_property="onethread_key")
    assert account.app.state()["contacts"][contact_id]["properties"]["city"] == "Split"
    with pytest.raises(ContactsRefused) as refused:
        account.contacts.get_by_id("Split", id_property="city")
    assert refused.value.status == 400


@covers("archive_is_quiet")
def test_an_archived_contact_is_gone_from_reads_and_archiving_again_is_quiet(account: Account) -> None:
    contact_id = account.contact(email="ada@shop.example")
    account.contacts.archive(contact_id)
    account.contacts.archive(contact_id)
    account.contacts.archive("999999")
    for call in (account.contacts.get_by_id, lambda one: account.contacts.update(one, {"properties": {"city": "x"}})):
        with pytest.raises(ContactsRefused) as refused:
            call(contact_id)
        assert (refused.value.status, reason(refused)["category"]) == (404, "OBJECT_NOT_FOUND")
    assert account.contacts.get_by_id(contact_id, archived=True).archived is True
    assert account.contact(email="ada@shop.example") != contact_id


@covers("list_pages")
def test_lists_come_in_pages_that_end(account: Account) -> None:
    ids = [account.contact(firstname=str(number)) for number in range(5)]
    seen, after = [], None
    while True:
        page = account.contacts.get_page(limit=2, after=after) if after else account.contacts.get_page(limit=2)
        seen += [one.id for one in page.results]
        if page.paging is None:
            break
        after = page.paging.next.after
    assert seen == ids
    for wrong in ({"limit": 101}, {"limit": 51, "properties_with_history": ["city"]}):
        with pytest.raises(ContactsRefused):
            account.contacts.get_page(**wrong)


@covers("privacy_delete_blocks_the_address")
def test_a_privacy_delete_removes_the_contact_and_its_messages_and_blocks_the_address(account: Account) -> None:
    gone = account.contact(email="ada@shop.example")
    account.communications.create(linked_message(gone))
    account.contacts.purge({"objectId": "ada@shop.example", "idProperty": "email"})
    account.contacts.purge({"objectId": "never@shop.example", "idProperty": "email"})
    state = account.app.state()
    assert (state["contacts"], state["communications"], state["archived_contacts"]) == ({}, {}, [])
    for address in ("ada@shop.example", "never@shop.example"):
        with pytest.raises(ContactsRefused) as refused:
            account.contact(email=address)
        assert refused.value.status == 400


# -- merge


@pytest.fixture
def merged(account: Account) -> tuple[Account, str, str, str]:
    """Two contacts with a message each, merged: account, primary, other, survivor."""
    account.unique_property()
    primary = account.contact(email="ada@shop.example", city="Split", onethread_key="p1")
    account.app.clock.advance(10)
    other = account.contact(email="ada@home.example", city="Zadar", phone="+12025550101", onethread_key="p2")
    for contact_id in (primary, other):
        account.communications.create(linked_message(contact_id))
    survivor = account.contacts.merge({"primaryObjectId": primary, "objectIdToMerge": other})
    return account, primary, other, survivor.id


@covers("merge_makes_a_new_id")
def test_a_merge_makes_a_contact_with_a_new_id_that_lists_the_old_ones(merged: tuple[Account, str, str, str]) -> None:
    account, primary, other, survivor = merged
    assert survivor not in {primary, other}
    assert list(account.app.state()["contacts"]) == [survivor]
    assert account.app.state()["merged"] == {primary: survivor, other: survivor}
    read = account.contacts.get_by_id(survivor, properties=["hs_merged_object_ids"])
    assert read.properties["hs_merged_object_ids"] == f"{primary};{other}"


@covers("merged_ids_redirect_on_single_calls")
def test_both_old_ids_lead_to_the_survivor_on_single_calls(merged: tuple[Account, str, str, str]) -> None:
    account, primary, other, survivor = merged
    for old in (primary, other):
        assert account.contacts.get_by_id(old).id == survivor
        assert account.contacts.update(old, {"properties": {"company": old}}).id == survivor
    assert account.app.state()["contacts"][survivor]["properties"]["company"] == other


@covers("merged_ids_fail_in_batch_update")
def test_old_ids_fail_in_a_batch_update(merged: tuple[Account, str, str, str]) -> None:
    account, primary, _, survivor = merged
    inputs = [{"id": one, "properties": {"company": "Shop"}} for one in (primary, survivor)]
    outcome, status, _ = account.contact_batches.update_with_http_info({"inputs": inputs})
    assert (status, [one.id for one in outcome.results]) == (207, [survivor])
    assert outcome.errors[0].context["ids"] == [primary]


@covers("merged_ids_redirect_in_batch_read")
def test_a_batch_read_of_both_old_ids_gives_the_survivor_once(merged: tuple[Account, str, str, str]) -> None:
    account, primary, other, survivor = merged
    outcome = account.contact_batches.read({"properties": ["email"], "inputs": [{"id": primary}, {"id": other}]})
    assert [one.id for one in outcome.results] == [survivor]


@covers("primary_values_win")
def test_the_primarys_values_win_and_gaps_are_filled(merged: tuple[Account, str, str, str]) -> None:
    account, _, _, survivor = merged
    properties = account.app.state()["contacts"][survivor]["properties"]
    assert (properties["city"], properties["phone"]) == ("Split", "+12025550101")
    assert (properties["email"], properties["hs_additional_emails"]) == ("ada@shop.example", "ada@home.example")
    assert account.contacts.get_by_id("ada@home.example", id_property="email").id == survivor
    history = account.contacts.get_by_id(survivor, properties_with_history=["city"]).properties_with_history["city"]
    assert history[0].value == "Split"
    assert [one.value for one in history] == ["Split", "Zadar", "Split"]


@covers("merge_moves_associations")
def test_a_merge_moves_the_messages(merged: tuple[Account, str, str, str]) -> None:
    account, _, _, survivor = merged
    state = account.app.state()
    assert [one["contacts"] for one in state["communications"].values()] == [[survivor], [survivor]]
    assert len(state["contacts"][survivor]["communications"]) == 2


@covers("merge_loses_the_other_unique_value")
def test_after_a_merge_the_others_unique_value_finds_nobody(merged: tuple[Account, str, str, str]) -> None:
    account, _, _, survivor = merged
    assert account.contacts.get_by_id("p1", id_property="onethread_key").id == survivor
    with pytest.raises(ContactsRefused) as refused:
        account.contacts.get_by_id("p2", id_property="onethread_key")
    assert refused.value.status == 404


@covers("merge_makes_a_new_id")
def test_a_second_merge_redirects_the_older_ids_too(merged: tuple[Account, str, str, str]) -> None:
    account, primary, other, survivor = merged
    third = account.contact(firstname="Ada")
    latest = account.app.merge_contacts_as_admin(third, survivor)
    for old in (primary, other, survivor, third):
        assert account.contacts.get_by_id(old).id == latest


@covers("merge_identity_limit")
def test_a_contact_cannot_collect_more_identities_than_the_limit(account: Account) -> None:
    with account.app.lock:
        primary = account.app.create_contact_as_person({"firstname": "Ada"})
        for _ in range(MERGE_LIMIT // 2):
            primary = account.app.merge_contacts_as_admin(primary, account.app.create_contact_as_person({}))
    last = account.contact(firstname="Eva")
    with pytest.raises(ContactsRefused) as refused:
        account.contacts.merge({"primaryObjectId": primary, "objectIdToMerge": last})
    assert refused.value.status == 414
    assert account.contacts.get_by_id(last).id == last


@pytest.mark.parametrize(
    ("primary", "other", "status"), [("1001", "1001", 400), ("1001", "9", 404), ("9", "1001", 404)]
)
def test_a_merge_needs_two_live_contacts(account: Account, primary: str, other: str, status: int) -> None:
    account.contact(firstname="Ada")
    with pytest.raises(ContactsRefused) as refused:
        account.contacts.merge({"primaryObjectId": primary, "objectIdToMerge": other})
    assert refused.value.status == status


# -- search


@covers("search_operators")
def test_the_clients_model_knows_exactly_our_operators() -> None:
    strict = Configuration()
    strict.client_side_validation = True
    for operator in OPERATORS:
        Filter(property_name="city", operator=operator, local_vars_configuration=strict)
    with pytest.raises(ValueError, match="must be one of") as refused:
        Filter(property_name="city", operator="LIKE", local_vars_configuration=strict)
    assert set(OPERATORS) == set(re.findall(r"'([A-Z_]+)'", str(refused.value).split("must be one of")[1]))


@covers("search_operators")
@pytest.mark.parametrize(
    ("operator", "operands", "found"),
    [
        ("EQ", {"value": "split"}, {"Ada"}),
        ("NEQ", {"value": "Split"}, {"Ben"}),
        ("IN", {"values": ["Split", "zadar"]}, {"Ada", "Ben"}),
        ("NOT_IN", {"values": ["Split"]}, {"Ben"}),
        ("GT", {"value": "Split"}, {"Ben"}),
        ("GTE", {"value": "Split"}, {"Ada", "Ben"}),
        ("LT", {"value": "Zadar"}, {"Ada"}),
        ("LTE", {"value": "Zadar"}, {"Ada", "Ben"}),
        ("BETWEEN", {"value": "R", "highValue": "T"}, {"Ada"}),
        ("HAS_PROPERTY", {}, {"Ada", "Ben"}),
        ("NOT_HAS_PROPERTY", {}, {"Eva"}),
        ("CONTAINS_TOKEN", {"value": "sp*"}, {"Ada"}),
        ("NOT_CONTAINS_TOKEN", {"value": "sp*"}, {"Ben"}),
    ],
)
def test_each_operator_finds_what_it_says(
    account: Account, operator: str, operands: dict[str, Any], found: set[str]
) -> None:
    for name, city in (("Ada", "Split"), ("Ben", "Zadar")):
        account.contact(firstname=name, city=city)
    account.contact(firstname="Eva")
    one = {"propertyName": "city", "operator": operator, **operands}
    result = account.contact_search.do_search({"filterGroups": [{"filters": [one]}], "properties": ["firstname"]})
    assert {item.properties["firstname"] for item in result.results} == found
    assert result.total == len(found)


@covers("search_operators")
def test_times_compare_as_times_and_groups_are_alternatives(account: Account) -> None:
    early = account.contact(firstname="Ada")
    since = account.app.clock.epoch() + 50
    account.app.clock.advance(100)
    late = account.contact(firstname="Ben")
    changed = {"propertyName": "lastmodifieddate", "operator": "GTE", "value": str(int(since * 1000))}
    assert account.found(changed) == [late]
    named = {"propertyName": "firstname", "operator": "EQ", "value": "ada"}
    assert account.found(changed, named) == []
    either = {"filterGroups": [{"filters": [changed]}, {"filters": [named]}], "sorts": ["-createdate"]}
    assert [one.id for one in account.contact_search.do_search(either).results] == [late, early]
    assert [one.id for one in account.contact_search.do_search({"query": "be"}).results] == [late]


@covers("search_limits")
@pytest.mark.parametrize(
    "body",
    [
        {"filterGroups": [{"filters": []}] * 7},
        {"filterGroups": [{"filters": [{"propertyName": "city", "operator": "HAS_PROPERTY"}] * 19}]},
        {"sorts": ["city", "email"]},
        {"limit": 201},
        {"limit": 200, "after": "9900"},
        {"query": "x" * 3001},
        {"filterGroups": [{"filters": [{"propertyName": "shoe_size", "operator": "HAS_PROPERTY"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "city", "operator": "LIKE", "value": "x"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "city", "operator": "EQ"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "city", "operator": "HAS_PROPERTY", "value": "x"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "createdate", "operator": "GT", "value": "soon"}]}]},
    ],
)
def test_a_search_beyond_what_hubspot_takes_is_refused(account: Account, body: dict[str, Any]) -> None:
    answer = account.post("/crm/v3/objects/contacts/search", body)
    assert (answer.status_code, answer.json()["category"]) == (400, "VALIDATION_ERROR")


@covers("search_limits")
def test_search_pages_follow_each_other(account: Account) -> None:
    ids = [account.contact(firstname=str(number)) for number in range(3)]
    first = account.contact_search.do_search({"limit": 2})
    second = account.contact_search.do_search({"limit": 2, "after": first.paging.next.after})
    assert [one.id for one in [*first.results, *second.results]] == ids
    assert (first.total, second.paging) == (3, None)


@covers("search_lag")
def test_a_change_is_invisible_to_search_until_the_lag_has_passed(lagging: Account) -> None:
    contact_id = lagging.contact(city="Split")
    in_split = {"propertyName": "city", "operator": "EQ", "value": "Split"}
    assert lagging.found(in_split) == []
    assert lagging.contacts.get_by_id(contact_id).id == contact_id
    lagging.app.clock.advance(31)
    assert lagging.found(in_split) == [contact_id]
    lagging.contacts.update(contact_id, {"properties": {"city": "Zadar"}})
    assert lagging.found(in_split) == [contact_id]
    lagging.app.clock.advance(31)
    assert lagging.found(in_split) == []


@covers("search_never_shows_archived")
def test_an_archived_contact_is_never_found_even_before_the_index_knows(lagging: Account) -> None:
    contact_id = lagging.contact(city="Split")
    lagging.app.clock.advance(31)
    lagging.contacts.archive(contact_id)
    assert lagging.found({"propertyName": "city", "operator": "HAS_PROPERTY"}) == []
