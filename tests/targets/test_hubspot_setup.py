"""Making a HubSpot account ready."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from mappings.errors import CredentialsError, SettingsError
from mappings.to_hubspot import CONTACT_PROPERTIES, PERSON_ID, REPLY_CHANNEL
from sandbox.hubspot.objects import CONTACTS, ObjectType
from stores.control import Facts
from targets.hubspot import setup_hubspot
from targets.hubspot.setup import message_key_fact
from tests.targets.hubspot_world import PORTAL, World, world


@pytest.fixture
def account(state_url: str) -> Iterator[World]:
    """An account that is not set up."""
    with world(state_url, setup=False) as made:
        yield made


def _own(account: World, kind: str = "contacts") -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in account.app.state()["properties"][kind]}


def _fact(account: World) -> object:
    return Facts(account.stores).load(message_key_fact(PORTAL, "communications"))


def test_it_creates_every_property(account: World) -> None:
    setup_hubspot(account.settings, account.stores)
    assert set(_own(account)) == {name for name, *_ in CONTACT_PROPERTIES}
    assert _own(account)[PERSON_ID]["hasUniqueValue"] is True


def test_a_dry_run_only_reads(account: World) -> None:
    lines = setup_hubspot(account.settings, account.stores, dry_run=True)
    assert _own(account) == {}
    assert _fact(account) is None
    assert f"contact property {PERSON_ID}: would be created" in lines
    assert {entry["method"] for entry in account.app.journal} == {"GET"}


def test_a_second_time_creates_nothing(account: World) -> None:
    setup_hubspot(account.settings, account.stores)
    before = account.app.state()["properties"]
    account.calls()
    setup_hubspot(account.settings, account.stores)
    assert {call.split()[0] for call in account.calls()} == {"GET"}
    assert account.app.state()["properties"] == before


@pytest.mark.parametrize(("unique", "mode"), [(True, "property"), (False, "readback")])
def test_it_finds_out_how_messages_can_be_written_once(state_url: str, unique: bool, mode: str) -> None:
    with world(state_url, unique=unique, setup=False) as account:
        setup_hubspot(account.settings, account.stores)
        assert _fact(account) == mode


def test_a_new_platform_becomes_a_choice_and_the_others_stay(account: World) -> None:
    setup_hubspot(account.settings, account.stores, channels=("whatsapp",))
    lines = setup_hubspot(account.settings, account.stores, channels=("whatsapp", "telegram"))
    assert f"contact property {REPLY_CHANNEL}: got the choices telegram" in lines
    options = _own(account)[REPLY_CHANNEL]["options"]
    assert isinstance(options, list)
    assert [one["value"] for one in options] == ["auto", "whatsapp", "telegram"]


def test_a_token_of_another_account_stops_it(account: World) -> None:
    wrong = account.settings.model_copy(update={"portal_id": "999"})
    with pytest.raises(SettingsError, match=PORTAL):
        setup_hubspot(wrong, account.stores)
    assert _own(account) == {}


def test_a_token_that_is_refused_stops_it(account: World) -> None:
    wrong = account.settings.model_copy(update={"access_token": SecretStr("pat-eu1-wrong")})
    with pytest.raises(CredentialsError) as caught:
        setup_hubspot(wrong, account.stores)
    assert "pat-eu1-wrong" not in str(caught.value)


def test_missing_scopes_are_named(account: World) -> None:
    body = {"errors": [{"context": {"requiredGranularScopes": ["crm.objects.contacts.read"]}}]}
    account.fail("/crm/v3/objects/contacts", 403, body=body)
    with pytest.raises(CredentialsError, match=r"crm\.objects\.contacts\.read"):
        setup_hubspot(account.settings, account.stores)


def test_a_property_of_that_name_without_unique_values_stops_it(account: World) -> None:
    setup_hubspot(account.settings, account.stores)
    kind = account.app.crm.properties
    definition = next(one for one in kind.all(_contacts()) if one.name == PERSON_ID)
    kind.remove(_contacts(), PERSON_ID)
    body = {"name": PERSON_ID, "label": "x", "type": "string", "fieldType": "text", "groupName": definition.group_name}
    kind.create(_contacts(), body, account.app.crm.now())
    with pytest.raises(SettingsError, match=PERSON_ID):
        setup_hubspot(account.settings, account.stores)


def _contacts() -> ObjectType:
    return CONTACTS
