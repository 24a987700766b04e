"""Setting an org up: what it deploys, what it leaves alone, and what it says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mappings.errors import CredentialsError, RejectedError, SettingsError
from targets.salesforce import setup_salesforce
from tests.targets.hubspot_world import message, person
from tests.targets.salesforce_world import World, world


@pytest.fixture
def org(state_url: str) -> Iterator[World]:
    """A new org."""
    with world(state_url, setup=False) as made:
        yield made


def test_it_deploys_what_the_target_needs(org: World) -> None:
    said = list(setup_salesforce(org.settings, org.stores))
    assert said[:3] == [
        f"log-in: works, org {org.app.org_id}", "validation: accepted by the org", "deploy: accepted by the org",
    ]  # fmt: skip
    assert "object Message__c: created" in said
    assert "permission set onethread_Integration: given to the user" in said
    assert any("related lists" in line for line in said)
    org.write(person(1), message(1))
    assert len(org.bodies()) == 1


def test_a_second_time_changes_nothing(org: World) -> None:
    list(setup_salesforce(org.settings, org.stores))
    before = len(org.app.deploys._deploys)
    said = list(setup_salesforce(org.settings, org.stores))
    assert "nothing to deploy: the org has it all" in said
    assert "permission set onethread_Integration: the user has it" in said
    assert len(org.app.deploys._deploys) == before


def test_a_dry_run_only_reads(org: World) -> None:
    org.calls()
    said = list(setup_salesforce(org.settings, org.stores, dry_run=True))
    assert "object Conversation__c: would be created" in said
    assert all("GET" in name for name in org.calls())
    assert org.app.org.schema.find("Conversation__c") is None


def test_a_check_lets_the_org_validate_and_changes_nothing(org: World) -> None:
    said = list(setup_salesforce(org.settings, org.stores, check_only=True))
    assert "validation: accepted by the org" in said
    assert "object Conversation__c: would be created" in said
    assert org.app.org.schema.find("Conversation__c") is None


def test_an_org_that_has_a_part_gets_the_rest(org: World) -> None:
    list(setup_salesforce(org.settings, org.stores))
    del org.app.org.schema.types["Message__c"].fields["Preview__c"]
    said = list(setup_salesforce(org.settings, org.stores))
    assert [line for line in said if line.startswith("field ")] == ["field Message__c.Preview__c: created"]


def test_tasks_need_one_field_and_no_objects(state_url: str) -> None:
    with world(state_url, setup=False, settings={"mode": "tasks"}) as org:
        said = list(setup_salesforce(org.settings, org.stores))
        assert "field Task.Thread_External_Id__c: created" in said
        assert org.app.org.schema.find("Message__c") is None


def test_another_org_stops_it(org: World) -> None:
    settings = org.settings.model_copy(update={"org_id": "00D000000000001EAA"})
    with pytest.raises(SettingsError, match="the setting org_id says"):
        list(setup_salesforce(settings, org.stores))


def test_a_user_who_may_not_deploy_is_told_the_right(state_url: str) -> None:
    with world(state_url, setup=False, may_deploy=False) as org, pytest.raises((CredentialsError, RejectedError)):
        list(setup_salesforce(org.settings, org.stores))


def test_merging_for_good_is_warned_of(state_url: str) -> None:
    with world(state_url, setup=False, settings={"crm_merge": True}) as org:
        assert any("cannot be taken apart" in line for line in setup_salesforce(org.settings, org.stores))
