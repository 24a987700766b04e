"""The stand-in HubSpot account, driven by HubSpot's own client with the validation of its models switched on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
from hubspot import HubSpot
from hubspot.crm.associations.v4 import ApiException as AssociationsRefused
from hubspot.crm.contacts import ApiException as ContactsRefused
from hubspot.crm.contacts import Configuration
from hubspot.crm.contacts.models import Error, Filter, SimplePublicObjectBatchInputUpsert
from hubspot.crm.objects.communications import ApiException as CommunicationsRefused
from hubspot.crm.properties import ApiException as PropertiesRefused
from hubspot.crm.properties import Configuration as PropertiesConfiguration
from hubspot.crm.properties.models import PropertyCreate

from sandbox.base import SandboxApp, SandboxServer
from sandbox.hubspot import HubSpotApp
from sandbox.hubspot.crm import MERGE_LIMIT
from sandbox.hubspot.properties import FIELD_TYPES, TYPES
from sandbox.hubspot.search import OPERATORS
from tests.sandbox.test_hubspot_channels import COVERED as INBOX_COVERED
from tests.sandbox.test_hubspot_files import COVERED as FILES_COVERED

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp()
COVERED: set[str] = set()
TO_CONTACT = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 81}
KEY = {"name": "onethread_key", "label": "Key", "type": "string", "fieldType": "text", "hasUniqueValue": True}


Test = TypeVar("Test", bound=Callable[..., None])


def covers(*names: str) -> Callable[[Test], Test]:
    """Say which rules a test would notice if they were not enforced."""
    COVERED.update(names)
    return lambda test: test


class Account:
    """A running stand-in and HubSpot's client pointed at it; API objects are made once, as they hold a pool each."""

    def __init__(self, app: HubSpotApp, url: str) -> None:
        self.app = app
        self.url = url
        self.client = HubSpot(access_token="sandbox-token", host=url, client_side_validation=True)
        self.contacts = self.client.crm.contacts.basic_api
        self.contact_batches = self.client.crm.contacts.batch_api
        self.contact_search = self.client.crm.contacts.search_api
        self.communications = self.client.crm.objects.communications.basic_api
        self.communication_batches = self.client.crm.objects.communications.batch_api
        self.communication_search = self.client.crm.objects.communications.search_api
        self.associations = self.client.crm.associations.v4.batch_api
        self.association_basics = self.client.crm.associations.v4.basic_api
        self.properties = self.client.crm.properties.core_api
        self.property_batches = self.client.crm.properties.batch_api
        self.property_groups = self.client.crm.properties.groups_api

    def contact(self, **properties: str) -> str:
        """Create a contact through the API."""
        return str(self.contacts.create({"properties": properties}).id)

    def unique_property(self, on: str = "contacts") -> None:
        """Create our unique property."""
        group = "contactinformation" if on == "contacts" else "communication"
        self.properties.create(on, {**KEY, "groupName": group})

    def post(self, path: str, body: Any) -> requests.Response:
        """POST without the client, to see status, headers and body as they are."""
        headers = {"Authorization": "Bearer sandbox-token"}
        return requests.post(self.url + path, json=body, headers=headers, timeout=10)

    def found(self, *filters: dict[str, Any]) -> list[str]:
        """Contact ids that a search with one group of filters finds."""
        body = {"filterGroups": [{"filters": list(filters)}], "limit": 200}
        return [one.id for one in self.contact_search.do_search(body).results]


def stopped(app: HubSpotApp) -> HubSpotApp:
    """`app` with a clock that stands at noon until a test moves it."""
    moment = [NOON]
    app.clock.epoch = lambda: moment[0]  # type: ignore[method-assign]
    app.clock.advance = lambda seconds: moment.append(moment.pop() + seconds)  # type: ignore[method-assign]
    return app


def running(app: HubSpotApp) -> Iterator[Account]:
    with SandboxServer(stopped(app)) as server:
        yield Account(app, server.url)


class Switch(SandboxApp):
    """Hands requests to the account of the current test: stopping a server takes half a second, a new account none."""

    current: SandboxApp

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.current(environ, start_response)


@pytest.fixture(scope="module")
def switch() -> Iterator[tuple[Switch, str]]:
    with SandboxServer(Switch()) as server:
        assert isinstance(server.app, Switch)
        yield server.app, server.url


@pytest.fixture
def account(switch: tuple[Switch, str]) -> Account:
    app = stopped(HubSpotApp(search_lag_seconds=0))
    switch[0].current = app
    return Account(app, switch[1])


@pytest.fixture
def lagging() -> Iterator[Account]:
    yield from running(HubSpotApp(search_lag_seconds=30))


@pytest.fixture
def hurried() -> Iterator[Account]:
    yield from running(HubSpotApp(ten_second_limit=3, associations_limit=1, daily_limit=8))


@pytest.fixture
def plain() -> Iterator[Account]:
    yield from running(HubSpotApp(unique_communication_property=False, batch_results_reversed=True))


def message(text: str = "Hello", **more: str) -> dict[str, str]:
    return {
        "hs_timestamp": "2026-11-01T10:00:00.000Z",
        "hs_communication_channel_type": "WHATS_APP",
        "hs_communication_logged_from": "CRM",
        "hs_communication_body": text,
        **more,
    }


def linked_message(contact_id: str, **more: str) -> dict[str, Any]:
    return {"properties": message(**more), "associations": [{"to": {"id": contact_id}, "types": [TO_CONTACT]}]}


def reason(refused: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(refused.value.body)
    return body


def code(refused: Any) -> str:
    return str(reason(refused)["errors"][0]["code"])


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


# -- properties


@covers("property_kinds")
def test_the_clients_model_knows_exactly_our_types_and_field_types() -> None:
    strict = PropertiesConfiguration()
    strict.client_side_validation = True
    for kind in TYPES:
        PropertyCreate(**_wanted(type=kind), local_vars_configuration=strict)
    for kind in FIELD_TYPES:
        PropertyCreate(**_wanted(field_type=kind), local_vars_configuration=strict)
    with pytest.raises(ValueError, match="must be one of"):
        PropertyCreate(**_wanted(type="text"), local_vars_configuration=strict)


def _wanted(**more: str) -> dict[str, str]:
    return {"name": "x", "label": "X", "type": "string", "field_type": "text", "group_name": "g", **more}


@covers("property_kinds")
@pytest.mark.parametrize(
    "wrong", [{"type": "text"}, {"fieldType": "string"}, {"name": "Upper"}, {"groupName": "none"}, {"label": ""}]
)
def test_a_property_of_an_unknown_kind_is_refused(account: Account, wrong: dict[str, str]) -> None:
    with pytest.raises(PropertiesRefused) as refused:
        account.properties.create("contacts", {**KEY, "groupName": "contactinformation", **wrong})
    assert refused.value.status == 400


@covers("property_exists")
def test_a_property_or_group_that_exists_cannot_be_created_again(account: Account) -> None:
    account.unique_property()
    with pytest.raises(PropertiesRefused) as refused:
        account.unique_property()
    assert refused.value.status == 409
    with pytest.raises(PropertiesRefused) as refused:
        account.property_groups.create("contacts", {"name": "contactinformation", "label": "Again"})
    assert refused.value.status == 409


@covers("property_exists")
def test_a_batch_of_properties_is_created_whole_or_not_at_all(account: Account) -> None:
    plain = {**KEY, "groupName": "contactinformation", "hasUniqueValue": False}
    made = account.property_batches.create("contacts", {"inputs": [{**plain, "name": "a"}, {**plain, "name": "b"}]})
    assert [one.name for one in made.results] == ["a", "b"]
    with pytest.raises(PropertiesRefused):
        account.property_batches.create("contacts", {"inputs": [{**plain, "name": "c"}, {**plain, "name": "a"}]})
    assert [one["name"] for one in account.app.state()["properties"]["contacts"]] == ["a", "b"]


@covers("unique_property_is_fixed")
def test_uniqueness_cannot_be_changed_and_an_object_has_at_most_ten_unique_properties(account: Account) -> None:
    account.unique_property()
    account.properties.update("contacts", "onethread_key", {"label": "Our key"})
    assert account.properties.get_by_name("contacts", "onethread_key").label == "Our key"
    with pytest.raises(PropertiesRefused):
        account.properties.update("contacts", "onethread_key", {"hasUniqueValue": False})
    wanted = {**KEY, "groupName": "contactinformation"}
    for number in range(9):
        account.properties.create("contacts", {**wanted, "name": f"key_{number}"})
    with pytest.raises(PropertiesRefused) as refused:
        account.properties.create("contacts", {**wanted, "name": "key_9"})
    assert refused.value.status == 400


@covers("unique_communication_property")
def test_an_account_can_refuse_unique_properties_on_communications(plain: Account, account: Account) -> None:
    account.unique_property("communications")
    with pytest.raises(PropertiesRefused) as refused:
        plain.unique_property("communications")
    assert refused.value.status == 400
    plain.unique_property("contacts")


def test_a_removed_property_is_gone_and_hubspots_own_stay(account: Account) -> None:
    account.unique_property()
    account.properties.archive("contacts", "onethread_key")
    with pytest.raises(PropertiesRefused) as refused:
        account.properties.get_by_name("contacts", "onethread_key")
    assert refused.value.status == 404
    with pytest.raises(PropertiesRefused):
        account.properties.archive("contacts", "email")


@covers("unknown_property")
def test_writing_an_unknown_property_is_refused_with_its_name(account: Account) -> None:
    with pytest.raises(ContactsRefused) as refused:
        account.contact(firstname="Ada", shoe_size="38")
    assert (refused.value.status, code(refused)) == (400, "PROPERTY_DOESNT_EXIST")
    assert reason(refused)["category"] == "VALIDATION_ERROR"
    assert reason(refused)["errors"][0]["context"] == {"propertyName": ["shoe_size"]}
    assert account.app.state()["contacts"] == {}


@covers("unknown_names_are_ignored_on_reading")
def test_reading_an_unknown_property_leaves_it_out(account: Account) -> None:
    contact_id = account.contact(firstname="Ada")
    read = account.contacts.get_by_id(contact_id, properties=["firstname", "shoe_size"])
    assert read.properties["firstname"] == "Ada"
    assert "shoe_size" not in read.properties


@covers("value_types")
@pytest.mark.parametrize(
    ("kind", "field_type", "good", "stored", "bad"),
    [
        ("number", "number", "12.5", "12.5", "many"),
        ("number", "number", "7", "7", " 7"),
        ("enumeration", "select", "b", "b", "b "),
        ("bool", "booleancheckbox", "true", "true", "yes"),
        ("date", "date", "2026-11-01", "2026-11-01", "2026-11-01T10:00:00Z"),
        ("datetime", "date", "1793527200123", "2026-11-01T10:00:00.123Z", "yesterday"),
        ("datetime", "date", "2026-11-01T11:00:00+01:00", "2026-11-01T10:00:00.000Z", ""),
        ("enumeration", "select", "a", "a", "c"),
        ("enumeration", "checkbox", "a;b", "a;b", "a;c"),
        ("string", "text", " as it is ", " as it is ", "x" * 65_537),
    ],
)
def test_values_are_checked_by_type(
    account: Account, kind: str, field_type: str, good: str, stored: str, bad: str
) -> None:
    options = [{"label": "A", "value": "a"}, {"label": "B", "value": "b"}] if kind == "enumeration" else []
    wanted = {"name": "x", "label": "X", "type": kind, "fieldType": field_type, "groupName": "contactinformation"}
    account.properties.create("contacts", {**wanted, "options": options})
    contact_id = account.contact(x=good)
    assert account.contacts.get_by_id(contact_id, properties=["x"]).properties["x"] == stored
    if bad:
        with pytest.raises(ContactsRefused) as refused:
            account.contacts.update(contact_id, {"properties": {"x": bad}})
        assert (refused.value.status, code(refused)[:8]) == (400, "INVALID_")


@covers("value_types")
@pytest.mark.parametrize(
    "values", [{"email": "not an address"}, {"hubspot_owner_id": "1"}, {"city": None}, {"lifecyclestage": "friend"}]
)
def test_hubspots_own_properties_are_checked_too(account: Account, values: dict[str, Any]) -> None:
    assert account.post("/crm/v3/objects/contacts", {"properties": values}).status_code == 400


@covers("read_only_values")
@pytest.mark.parametrize("name", ["hs_object_id", "lastmodifieddate", "hs_merged_object_ids", "hs_additional_emails"])
def test_what_hubspot_computes_cannot_be_written(account: Account, name: str) -> None:
    with pytest.raises(ContactsRefused) as refused:
        account.contact(**{name: "1"})
    assert code(refused) == "READ_ONLY_VALUE"


@covers("unique_values")
def test_a_unique_value_belongs_to_one_live_record(account: Account) -> None:
    account.unique_property()
    first, second = account.contact(onethread_key="p1"), account.contact(firstname="Ben")
    for write in (
        lambda: account.contact(onethread_key="p1"),
        lambda: account.contacts.update(second, {"properties": {"onethread_key": "p1"}}),
    ):
        with pytest.raises(ContactsRefused) as refused:
            write()
        assert code(refused) == "CONFLICTING_UNIQUE_VALUE"
    account.contacts.archive(first)
    assert account.contact(onethread_key="p1") != first


# -- history


@covers("property_history")
def test_history_is_newest_first_in_milliseconds_and_says_who_wrote(account: Account) -> None:
    contact_id = account.contact(city="Split")
    account.app.clock.advance(60)
    account.app.edit_contact_as_agent(contact_id, {"city": "Zadar"}, user_id=9002)
    read = account.contacts.get_by_id(contact_id, properties_with_history=["city"])
    newest, oldest = read.properties_with_history["city"]
    assert (newest.value, newest.source_type, newest.updated_by_user_id) == ("Zadar", "CRM_UI", 9002)
    assert (oldest.value, oldest.source_type) == ("Split", "INTEGRATION")
    assert (newest.timestamp - oldest.timestamp).total_seconds() == 60
    headers = {"Authorization": "Bearer sandbox-token"}
    raw = requests.get(
        f"{account.url}/crm/v3/objects/contacts/{contact_id}?propertiesWithHistory=city", headers=headers, timeout=10
    ).json()["propertiesWithHistory"]["city"][0]["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", raw)


@covers("history_keeps_twenty")
def test_history_keeps_the_last_twenty_values(account: Account) -> None:
    contact_id = account.contact(city="0")
    for number in range(1, 25):
        account.contacts.update(contact_id, {"properties": {"city": str(number)}})
    read = account.contacts.get_by_id(contact_id, properties_with_history=["city"])
    values = [one.value for one in read.properties_with_history["city"]]
    assert values == [str(number) for number in range(24, 4, -1)]


@covers("unchanged_value_makes_no_history")
def test_writing_the_same_value_changes_neither_history_nor_modification_time(account: Account) -> None:
    contact_id = account.contact(city="Split")
    before = account.contacts.get_by_id(contact_id).updated_at
    account.app.clock.advance(5)
    account.contacts.update(contact_id, {"properties": {"city": "Split"}})
    read = account.contacts.get_by_id(contact_id, properties_with_history=["city"])
    assert (read.updated_at, len(read.properties_with_history["city"])) == (before, 1)


def test_an_empty_text_clears_a_value_and_the_history_shows_it(account: Account) -> None:
    contact_id = account.contact(city="Split")
    account.contacts.update(contact_id, {"properties": {"city": ""}})
    read = account.contacts.get_by_id(contact_id, properties=["city"], properties_with_history=["city"])
    assert read.properties["city"] is None
    assert [one.value for one in read.properties_with_history["city"]] == ["", "Split"]


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


# -- communications


@covers("communication_required_properties")
@pytest.mark.parametrize("missing", ["hs_timestamp", "hs_communication_channel_type", "hs_communication_logged_from"])
def test_a_communication_needs_time_channel_and_origin(account: Account, missing: str) -> None:
    values = message()
    del values[missing]
    with pytest.raises(CommunicationsRefused) as refused:
        account.communications.create({"properties": values})
    assert (refused.value.status, reason(refused)["context"]["properties"]) == (400, [missing])


@covers("communication_channels")
def test_a_communication_takes_three_channels_and_one_origin(account: Account) -> None:
    for channel in ("WHATS_APP", "LINKEDIN_MESSAGE", "SMS"):
        account.communications.create({"properties": message(hs_communication_channel_type=channel)})
    for wrong in ({"hs_communication_channel_type": "MESSENGER"}, {"hs_communication_logged_from": "API"}):
        with pytest.raises(CommunicationsRefused) as refused:
            account.communications.create({"properties": message(**wrong)})
        assert code(refused) == "INVALID_OPTION"


def test_communications_have_the_same_verbs_as_contacts(account: Account) -> None:
    account.unique_property("communications")
    one = {"id": "m1", "idProperty": "onethread_key", "properties": message()}
    made = account.communication_batches.upsert({"inputs": [one]}).results[0]
    assert made.new is True
    changed = {"inputs": [{"id": made.id, "properties": {"hs_communication_body": "Edited"}}]}
    account.communication_batches.update(changed)
    read = account.communication_batches.read({"properties": ["hs_communication_body"], "inputs": [{"id": made.id}]})
    assert read.results[0].properties["hs_communication_body"] == "Edited"
    assert account.communications.get_by_id("m1", id_property="onethread_key").id == made.id
    account.communications.update(made.id, {"properties": {"hs_communication_body": "Again"}})
    account.communication_batches.archive({"inputs": [{"id": made.id}]})
    assert account.app.state()["archived_communications"] == [made.id]


@covers("inline_associations")
def test_a_created_communication_hangs_on_its_contact(account: Account) -> None:
    contact_id = account.contact(firstname="Ada")
    made = account.communications.create(linked_message(contact_id))
    assert account.app.state()["communications"][made.id]["contacts"] == [contact_id]
    read = account.contacts.get_by_id(contact_id, associations=["communications"])
    assert [one.id for one in read.associations["communications"].results] == [made.id]
    wrong = linked_message(contact_id)
    wrong["associations"][0]["types"] = [{**TO_CONTACT, "associationTypeId": 82}]
    with pytest.raises(CommunicationsRefused):
        account.communications.create(wrong)


@covers("inline_associations_need_live_contacts")
def test_a_message_for_a_missing_archived_or_merged_away_contact_is_refused(
    merged: tuple[Account, str, str, str],
) -> None:
    account, primary, _, _ = merged
    archived = account.contact(firstname="Eva")
    account.contacts.archive(archived)
    before = list(account.app.state()["communications"])
    for contact_id in (primary, archived, "999999"):
        with pytest.raises(CommunicationsRefused) as refused:
            account.communications.create(linked_message(contact_id))
        assert (refused.value.status, reason(refused)["category"]) == (400, "VALIDATION_ERROR")
    assert list(account.app.state()["communications"]) == before


@covers("multi_status")
def test_a_batch_of_messages_with_trace_ids_loses_only_the_one_without_a_contact(account: Account) -> None:
    contact_id = account.contact(firstname="Ada")
    inputs = [{**linked_message(one), "objectWriteTraceId": one} for one in (contact_id, "999999")]
    outcome, status, _ = account.communication_batches.create_with_http_info({"inputs": inputs})
    assert (status, len(outcome.results), outcome.errors[0].context["objectWriteTraceId"]) == (207, 1, ["999999"])
    assert len(account.app.state()["communications"]) == 1


@covers("logging_an_activity_touches_the_contact")
def test_logging_a_message_moves_the_contacts_modification_time(account: Account) -> None:
    contact_id = account.contact(firstname="Ada")
    before = account.contacts.get_by_id(contact_id).updated_at
    account.app.clock.advance(10)
    account.communications.create(linked_message(contact_id))
    assert account.contacts.get_by_id(contact_id).updated_at > before


# -- associations


@pytest.fixture
def pair(account: Account) -> tuple[Account, str, str]:
    """A contact and a communication that know nothing of each other."""
    return account, account.contact(firstname="Ada"), account.communications.create({"properties": message()}).id


@covers("association_types")
def test_an_association_is_seen_from_both_sides_with_its_own_type(pair: tuple[Account, str, str]) -> None:
    account, contact_id, communication_id = pair
    one = {"from": {"id": communication_id}, "to": {"id": contact_id}, "types": [TO_CONTACT]}
    account.associations.create("communications", "contacts", {"inputs": [one]})
    ahead = account.association_basics.get_page("communications", communication_id, "contacts")
    back = account.association_basics.get_page("contacts", contact_id, "communications")
    assert [(x.to_object_id, x.association_types[0].type_id) for x in ahead.results] == [(contact_id, 81)]
    assert [(x.to_object_id, x.association_types[0].type_id) for x in back.results] == [(communication_id, 82)]
    with pytest.raises(AssociationsRefused):
        account.associations.create("contacts", "communications", {"inputs": [one]})


@covers("associating_again_is_harmless")
def test_associating_again_changes_nothing(pair: tuple[Account, str, str]) -> None:
    account, contact_id, communication_id = pair
    body = {"inputs": [{"from": {"id": communication_id}, "to": {"id": contact_id}}]}
    account.associations.create_default("communications", "contacts", body)
    modified = account.contacts.get_by_id(contact_id).updated_at
    account.app.clock.advance(10)
    account.associations.create_default("communications", "contacts", body)
    account.association_basics.create_default("communications", communication_id, "contacts", contact_id)
    assert account.app.state()["communications"][communication_id]["contacts"] == [contact_id]
    assert account.contacts.get_by_id(contact_id).updated_at == modified


def test_an_association_can_be_dropped(pair: tuple[Account, str, str]) -> None:
    account, contact_id, communication_id = pair
    account.association_basics.create_default("communications", communication_id, "contacts", contact_id)
    body = {"inputs": [{"from": {"id": contact_id}, "to": [{"id": communication_id}]}]}
    for _ in range(2):
        account.associations.archive("contacts", "communications", body)
    assert account.app.state()["contacts"][contact_id]["communications"] == []
    account.association_basics.archive("contacts", contact_id, "communications", communication_id)


@covers("inline_associations_need_live_contacts")
def test_an_association_with_a_missing_contact_is_named_and_the_rest_is_made(pair: tuple[Account, str, str]) -> None:
    account, contact_id, communication_id = pair
    inputs = [{"from": {"id": communication_id}, "to": {"id": one}} for one in (contact_id, "999999")]
    outcome, status, _ = account.associations.create_default_with_http_info(
        "communications", "contacts", {"inputs": inputs}
    )
    assert (status, len(outcome.results), outcome.errors[0].context["toObjectId"]) == (200, 1, ["999999"])
    labelled = {"inputs": [{**one, "types": [TO_CONTACT]} for one in inputs]}
    outcome, status, _ = account.associations.create_with_http_info("communications", "contacts", labelled)
    assert (status, len(outcome.results), outcome.errors[0].context["toObjectId"]) == (207, 1, ["999999"])


@covers("association_batch_limits")
def test_association_batches_have_their_own_sizes(pair: tuple[Account, str, str]) -> None:
    account, contact_id, communication_id = pair
    one = {"from": {"id": communication_id}, "to": {"id": contact_id}}
    account.associations.create_default("communications", "contacts", {"inputs": [one] * 2000})
    with pytest.raises(AssociationsRefused):
        account.associations.create_default("communications", "contacts", {"inputs": [one] * 2001})
    account.associations.get_page("contacts", "communications", {"inputs": [{"id": contact_id}] * 1000})
    with pytest.raises(AssociationsRefused):
        account.associations.get_page("contacts", "communications", {"inputs": [{"id": contact_id}] * 1001})


@covers("reading_no_associations")
def test_reading_associations_of_a_contact_without_any_is_an_error_entry(pair: tuple[Account, str, str]) -> None:
    account, contact_id, _ = pair
    outcome, status, _ = account.associations.get_page_with_http_info(
        "contacts", "communications", {"inputs": [{"id": contact_id}]}
    )
    assert (status, outcome.results, outcome.errors[0].context["fromObjectId"]) == (207, [], [contact_id])
    assert outcome.errors[0].sub_category == "crm.associations.NO_ASSOCIATIONS_FOUND"


@covers("association_batch_limits")
def test_more_than_500_associations_come_in_pages(account: Account) -> None:
    contact_id = account.contact(firstname="Ada")
    inputs = [linked_message(contact_id, text=str(number)) for number in range(100)]
    for _ in range(6):
        account.communication_batches.create({"inputs": inputs})
    first = account.associations.get_page("contacts", "communications", {"inputs": [{"id": contact_id}]}).results[0]
    rest = {"inputs": [{"id": contact_id, "after": first.paging.next.after}]}
    second = account.associations.get_page("contacts", "communications", rest).results[0]
    assert (len(first.to), len(second.to), second.paging) == (500, 100, None)
    assert len({one.to_object_id for one in [*first.to, *second.to]}) == 600


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
    assert set(names) == COVERED | INBOX_COVERED | FILES_COVERED


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
