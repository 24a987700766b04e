"""The stand-in's communications and what they hang on, driven by HubSpot's own client."""

from __future__ import annotations

import pytest
from hubspot.crm.associations.v4 import ApiException as AssociationsRefused
from hubspot.crm.objects.communications import ApiException as CommunicationsRefused

from tests.sandbox.hubspot_world import (
    TO_CONTACT,
    Account,
    code,
    covers,
    linked_message,
    message,
    reason,
)

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
def test_a_message_for_a_missing_archived_or_merged_away_contact_is_refused(account: Account) -> None:
    primary, other, archived = account.contact(city="Split"), account.contact(city="Zadar"), account.contact(city="Pag")
    account.contacts.merge({"primaryObjectId": primary, "objectIdToMerge": other})
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
