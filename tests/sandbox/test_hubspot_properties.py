"""The stand-in's properties and what they remember, driven by HubSpot's own client."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hubspot.crm.contacts import ApiException as ContactsRefused
from hubspot.crm.properties import ApiException as PropertiesRefused
from hubspot.crm.properties import Configuration as PropertiesConfiguration
from hubspot.crm.properties.models import PropertyCreate

from sandbox.hubspot.properties import FIELD_TYPES, TYPES
from tests.sandbox.hubspot_world import (
    KEY,
    Account,
    code,
    covers,
    reason,
    running,
)


@pytest.fixture
def plain() -> Iterator[Account]:
    yield from running(unique_communication_property=False, batch_results_reversed=True)


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
