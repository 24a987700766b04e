"""Salesforce's contacts and queued replies as canonical records."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from mappings.errors import MissingFieldError
from mappings.from_salesforce import contact_from_salesforce, moment_from_salesforce, reply_from_salesforce
from mappings.records import Contact, Reply
from tests.contract.mapping import FIXTURES, check_golden

ORG = "00D5g00000QrStUEAV"
CONTACTS = sorted(path.stem for path in (FIXTURES / "salesforce").glob("contact*.json"))
REPLIES = sorted(path.stem for path in (FIXTURES / "salesforce").glob("reply*.json"))


def load(name: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads((FIXTURES / "salesforce" / f"{name}.json").read_text(encoding="utf-8"))
    return payload


def contact(payload: dict[str, Any]) -> Contact:
    return contact_from_salesforce(payload, org_id=ORG, default_region="GB")


def reply(payload: dict[str, Any]) -> Reply:
    return reply_from_salesforce(payload, org_id=ORG)


@pytest.mark.parametrize("name", CONTACTS)
def test_a_contact_is_mapped_as_its_golden_file_says(name: str) -> None:
    check_golden("salesforce", name, [contact(load(name)).model_dump(mode="json", exclude_defaults=True)])


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_is_mapped_as_its_golden_file_says(name: str) -> None:
    check_golden("salesforce", name, [reply(load(name)).model_dump(mode="json", exclude_defaults=True)])


@pytest.mark.parametrize("name", CONTACTS + REPLIES)
def test_the_argument_is_not_changed(name: str) -> None:
    payload = load(name)
    before = copy.deepcopy(payload)
    (contact if name in CONTACTS else reply)(payload)
    assert payload == before


@pytest.mark.parametrize("lost", ["Id", "SystemModstamp"])
def test_a_contact_without_id_or_time_is_not_understood(lost: str) -> None:
    payload = load("contact")
    del payload[lost]
    with pytest.raises(MissingFieldError, match=lost):
        contact(payload)


def test_an_id_of_fifteen_characters_is_the_same_contact() -> None:
    payload = load("contact")
    short = contact({**payload, "Id": payload["Id"][:15]})
    assert short.record_id == contact(payload).record_id == payload["Id"]


def test_a_reply_to_nobody_or_without_words_is_not_understood() -> None:
    with pytest.raises(MissingFieldError, match="nobody knows to whom"):
        reply({**load("reply"), "Conversation__r": None})
    with pytest.raises(MissingFieldError, match="neither Body__c nor Template__c"):
        reply({**load("reply"), "Body__c": None})


def test_a_reply_keeps_its_key_when_its_contact_is_merged() -> None:
    payload = load("reply")
    other = copy.deepcopy(payload)
    other["Conversation__r"]["Contact__r"]["Id"] = "0035g00000AbCdFAAV"
    assert reply(payload).reply_key == reply(other).reply_key


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_is_an_error_without_the_value(text: str) -> None:
    with pytest.raises(MissingFieldError) as caught:
        moment_from_salesforce(text, "CreatedDate")
    assert text not in str(caught.value)
