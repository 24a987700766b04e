"""The stand-in HubSpot account: answers, limits, the people who work in it; driven by HubSpot's own client with the
validation of its models switched on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hubspot import HubSpot
from hubspot.crm.contacts import ApiException as ContactsRefused
from hubspot.crm.contacts import Configuration
from hubspot.crm.contacts.models import Error

from sandbox.hubspot import HubSpotApp
from tests.sandbox.hubspot_world import (
    TO_CONTACT,
    Account,
    covered,
    covers,
    linked_message,
    running,
)


@pytest.fixture
def hurried() -> Iterator[Account]:
    yield from running(ten_second_limit=3, associations_limit=1, daily_limit=8)


@pytest.fixture
def plain() -> Iterator[Account]:
    yield from running(unique_communication_property=False, batch_results_reversed=True)


# -- what a request and an answer look like


@covers("bearer_token")
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "sandbox-token"}])
def test_a_call_without_the_token_is_refused_and_changes_nothing(account: Account, headers: dict[str, str]) -> None:
    answer = requests.post(
        f"{account.url}/crm/v3/objects/contacts",
        json={"properties": {"email": "a@shop.example"}},
        headers=headers,
        timeout=10,
    )
    assert (answer.status_code, answer.json()["category"]) == (401, "INVALID_AUTHENTICATION")
    assert account.app.state()["contacts"] == {}


@covers("account_details")
def test_the_account_says_that_it_is_a_test_account(account: Account) -> None:
    client = HubSpot(access_token="sandbox-token", base_url=account.url)
    answer = client.api_request({"method": "GET", "path": "/account-info/v3/details"})
    assert (answer.json()["portalId"], answer.json()["accountType"]) == (8800001, "DEVELOPER_TEST")


@covers("paths")
def test_a_path_that_hubspot_does_not_have_is_not_found_in_its_words(account: Account) -> None:
    answer = account.post("/crm/v3/objects/contacts/no/such/path", {})
    assert (answer.status_code, answer.json()["category"]) == (404, "OBJECT_NOT_FOUND")


def test_an_object_type_that_is_not_kept_is_refused(account: Account) -> None:
    assert account.post("/crm/v3/objects/p_unknown", {"properties": {}}).status_code == 400


@covers("error_body")
def test_an_error_body_satisfies_the_clients_error_model(account: Account) -> None:
    body = account.post("/crm/v3/objects/contacts", {"props": {}}).json()
    strict = Configuration()
    strict.client_side_validation = True
    Error(
        correlation_id=body["correlationId"],
        message=body["message"],
        category=body["category"],
        local_vars_configuration=strict,
    )
    with pytest.raises(ValueError, match="correlation_id"):
        Error(message="m", category="c", local_vars_configuration=strict)


def test_a_body_that_is_not_json_is_refused(account: Account) -> None:
    headers = {"Authorization": "Bearer sandbox-token"}
    answer = requests.post(f"{account.url}/crm/v3/objects/contacts", data=b"{", headers=headers, timeout=10)
    assert answer.status_code == 400


@covers("answer_shapes", "paths")
def test_every_answer_satisfies_the_models_of_hubspots_client(account: Account) -> None:
    account.unique_property()
    account.property_groups.create("contacts", {"name": "chat", "label": "Chat"})
    assert [one.name for one in account.property_groups.get_all("contacts").results][-1] == "chat"
    assert account.properties.get_all("contacts").results
    assert account.properties.get_by_name("contacts", "email").label
    assert len(account.client.crm.owners.owners_api.get_page().results) == 2
    assert account.client.crm.owners.owners_api.get_by_id(70001).email.endswith(".example")
    contact_id = account.contact(email="ada@shop.example")
    assert account.contacts.get_by_id(contact_id).id == contact_id
    assert account.contacts.get_page().results[0].id == contact_id
    assert account.contacts.update(contact_id, {"properties": {"city": "Split"}}).properties["city"] == "Split"
    created = account.communication_batches.create({"inputs": [linked_message(contact_id)]})
    assert created.status == "COMPLETE"
    assert account.communication_search.do_search({"limit": 1}).total == 1
    pair = {"from": {"id": created.results[0].id}, "to": {"id": contact_id}}
    assert account.associations.create_default("communications", "contacts", {"inputs": [pair]}).results
    labelled = account.associations.create("0-18", "0-1", {"inputs": [{**pair, "types": [TO_CONTACT]}]})
    assert labelled.results[0].to_object_id == contact_id
    read = account.associations.get_page("contacts", "communications", {"inputs": [{"id": contact_id}]})
    assert read.results[0].to[0].association_types[0].type_id == 82


# -- rate limits


@covers("rate_limit_429")
def test_the_ten_second_window_refuses_and_opens_again(hurried: Account) -> None:
    path = "/crm/v3/objects/contacts"
    assert [hurried.post(path, {"properties": {}}).status_code for _ in range(4)] == [201, 201, 201, 429]
    body = hurried.post(path, {"properties": {}}).json()
    assert (body["errorType"], body["policyName"]) == ("RATE_LIMIT", "TEN_SECONDLY_ROLLING")
    assert len(hurried.app.state()["contacts"]) == 3
    hurried.app.clock.advance(11)
    assert hurried.post(path, {"properties": {}}).status_code == 201


@covers("rate_limit_429")
def test_the_daily_limit_refuses_until_the_next_day(hurried: Account) -> None:
    for _ in range(8):
        hurried.app.clock.advance(4)
        hurried.post("/crm/v3/objects/contacts", {"properties": {}})
    hurried.app.clock.advance(20)
    made = len(hurried.app.state()["contacts"])
    answer = hurried.post("/crm/v3/objects/contacts", {"properties": {}})
    assert (made, answer.status_code, answer.json()["policyName"]) == (8, 429, "DAILY")
    hurried.app.clock.advance(24 * 3600)
    assert hurried.post("/crm/v3/objects/contacts", {"properties": {}}).status_code == 201


@covers("rate_headers")
def test_rate_headers_are_on_every_answer_but_search_and_no_retry_after(hurried: Account) -> None:
    first = hurried.post("/crm/v3/objects/contacts", {"properties": {}})
    search = hurried.post("/crm/v3/objects/contacts/search", {})
    assert first.headers["X-HubSpot-RateLimit-Max"] == "3"
    assert first.headers["X-HubSpot-RateLimit-Remaining"] == "2"
    assert first.headers["X-HubSpot-RateLimit-Interval-Milliseconds"] == "10000"
    assert first.headers["X-HubSpot-RateLimit-Daily-Remaining"] == "7"
    assert not [name for name in search.headers if "RateLimit" in name]
    for _ in range(3):
        last = hurried.post("/crm/v3/objects/contacts", {"properties": {}})
    assert (last.status_code, last.headers["X-HubSpot-RateLimit-Remaining"]) == (429, "0")
    assert "Retry-After" not in last.headers


@covers("associations_have_their_own_limit")
def test_associations_do_not_use_up_the_general_window(hurried: Account) -> None:
    path = "/crm/v4/associations/contacts/communications/batch/read"
    assert [hurried.post(path, {"inputs": [{"id": "1"}]}).status_code for _ in range(2)] == [207, 429]
    assert hurried.post("/crm/v3/objects/contacts", {"properties": {}}).status_code == 201


@covers("search_rate")
def test_the_sixth_search_within_a_second_is_refused_without_rate_headers(account: Account) -> None:
    answers = [account.post("/crm/v3/objects/contacts/search", {}) for _ in range(6)]
    assert [one.status_code for one in answers] == [200, 200, 200, 200, 200, 429]
    assert not [name for name in answers[-1].headers if "RateLimit" in name]


def test_a_fault_on_demand_can_carry_a_retry_after(account: Account) -> None:
    fault = {"path": "/crm/v3/objects", "status": 429, "headers": {"Retry-After": "1"}}
    requests.post(f"{account.url}/_sandbox/faults", json=fault, timeout=10)
    answer = account.post("/crm/v3/objects/contacts", {"properties": {}})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert account.app.state()["contacts"] == {}


# -- people, state


def test_a_note_of_an_agent_hangs_on_the_contact_and_moves_with_a_merge(account: Account) -> None:
    first, second = account.contact(firstname="Ada"), account.contact(firstname="Ada")
    url = f"{account.url}/_sandbox/contacts/{second}/activities"
    note_id = requests.post(url, json={"type": "notes"}, timeout=10).json()["id"]
    page = account.association_basics.get_page("contacts", second, "notes", limit=1)
    assert [(one.to_object_id, one.association_types[0].type_id) for one in page.results] == [(note_id, 201)]
    assert account.association_basics.get_page("contacts", second, "calls").results == []
    survivor = account.app.merge_contacts_as_admin(first, second)
    assert account.association_basics.get_page("contacts", survivor, "notes").results[0].to_object_id == note_id
    assert requests.post(url, json={"type": "notes"}, timeout=10).status_code == 400


def test_an_admin_can_bring_a_deleted_contact_back_unless_its_address_is_taken(account: Account) -> None:
    first = account.contact(email="ada@shop.example")
    account.app.delete_contact_as_admin(first)
    restore = f"{account.url}/_sandbox/contacts/{first}/restore"
    requests.post(restore, timeout=10).raise_for_status()
    assert account.contacts.get_by_id("ada@shop.example", id_property="email").id == first
    assert requests.post(restore, timeout=10).status_code == 404
    account.app.delete_contact_as_admin(first)
    account.contact(email="ada@shop.example")
    assert requests.post(restore, timeout=10).status_code == 409


def test_people_work_over_http_too(account: Account) -> None:
    base = f"{account.url}/_sandbox/contacts"
    body = {"properties": {"firstname": "Ada", "lifecyclestage": "lead"}}
    first, second = (requests.post(base, json=body, timeout=10).json()["id"] for _ in range(2))
    requests.patch(f"{base}/{first}", json={"properties": {"city": "Split"}}, timeout=10).raise_for_status()
    history = account.contacts.get_by_id(first, properties_with_history=["city"]).properties_with_history["city"]
    assert history[0].source_type == "CRM_UI"
    survivor = requests.post(f"{base}/merge", json={"primary": first, "other": second}, timeout=10).json()["id"]
    assert account.contacts.get_by_id(first).id == survivor
    requests.delete(f"{base}/{survivor}", timeout=10).raise_for_status()
    assert account.app.state()["archived_contacts"] == [survivor]
    wrong = requests.patch(f"{base}/1", json={"properties": {"city": "x"}}, timeout=10)
    assert (wrong.status_code, account.app.state()["calls"].get("POST /_sandbox/contacts")) == (404, None)


def test_the_state_counts_calls_per_endpoint_and_refusals(account: Account) -> None:
    account.contact(firstname="Ada")
    account.contact_batches.create({"inputs": [{"properties": {}}]})
    with pytest.raises(ContactsRefused):
        account.contact(shoe_size="38")
    state = requests.get(f"{account.url}/_sandbox/state", timeout=10).json()
    assert state["calls"] == {
        "POST /crm/v3/objects/contacts": 2,
        "POST /crm/v3/objects/contacts/batch/create": 1,
    }
    assert state["refused"] == {"400": 1}


def test_two_accounts_with_the_same_calls_mint_the_same_ids(account: Account, plain: Account) -> None:
    assert account.contact(firstname="Ada") == plain.contact(firstname="Ada") == "1001"


# -- the rules


def test_every_rule_has_a_test() -> None:
    names = [rule.name for rule in HubSpotApp.rules]
    assert len(set(names)) == len(names)
    assert set(names) == covered()


def test_every_rule_says_where_it_comes_from() -> None:
    for rule in HubSpotApp.rules:
        assert rule.source
        assert rule.kind in {"documented", "observed", "assumed"}


def test_the_page_lists_every_rule_with_its_kind_and_judge() -> None:
    page = (Path(__file__).parents[2] / "sandbox" / "hubspot.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \|.*\| (documented|observed|assumed) \| (yes|no) \|$", page, re.MULTILINE))
    assert listed == {(one.name, one.kind, "yes" if one.judge else "no") for one in HubSpotApp.rules}


def test_only_these_rules_have_a_judge_that_is_not_ours() -> None:
    assert {rule.name for rule in HubSpotApp.rules if rule.judge} == {
        "paths", "answer_shapes", "error_body", "property_kinds", "property_history", "list_pages",
        "upsert_says_new", "upsert_takes_no_associations", "search_operators", "dated_paths", "channel_shapes",
        "delivery_identifier_types", "inbox_status_values", "channel_signature",
        "file_upload", "private_files", "files_are_deleted_for_good", "token_endpoint",
    }  # fmt: skip


def test_only_these_rules_are_assumed() -> None:
    assert {rule.name for rule in HubSpotApp.rules if rule.kind == "assumed"} == {
        "associating_again_is_harmless", "history_batch_limit", "history_keeps_twenty", "no_partial_upsert_by_email",
        "property_exists", "unique_communication_property", "read_only_values", "unchanged_value_makes_no_history",
        "email_lower_case", "batch_update_missing", "batch_order_is_not_promised",
        "publishing_again", "message_of_a_live_contact", "text_is_cut", "own_messages_are_posted",
        "merge_loses_the_other_unique_value", "inline_associations_need_live_contacts", "reading_no_associations",
        "files_of_communications", "refresh_tokens_rotate",
    }  # fmt: skip
