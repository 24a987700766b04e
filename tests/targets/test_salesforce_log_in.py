"""The two ways into an org: client credentials, and a signed assertion (JWT bearer)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from mappings.errors import CredentialsError, SettingsError
from mappings.settings import load_settings
from taps.salesforce import SalesforceSettings
from targets.salesforce import SalesforceTargetSettings
from tests.targets.hubspot_world import message, person
from tests.targets.salesforce_world import World, world

USER = "integration@shop.example"


def make_pair() -> tuple[str, bytes]:
    """A private key, and the certificate that is uploaded to the External Client App."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "onethread.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode(), certificate.public_bytes(serialization.Encoding.PEM)


def by_assertion(org: World, **key: str) -> None:
    org.config = {one: value for one, value in org.config.items() if one != "consumer_secret"}
    org.config |= {"domain": "login", "username": USER, **key}


@pytest.mark.parametrize("form", ["value", "value on one line", "file"])
def test_an_assertion_opens_the_org(state_url: str, tmp_path: Path, form: str) -> None:
    pem, certificate = make_pair()
    with world(state_url, certificate=certificate) as org:
        if form == "file":
            (tmp_path / "key.pem").write_text(pem)
            by_assertion(org, private_key_file=str(tmp_path / "key.pem"))
        else:
            by_assertion(org, private_key=pem if form == "value" else pem.replace("\n", "\\n"))
        org.write(person(1), message(1))
        assert len(org.bodies()) == 1


def test_a_key_that_the_app_does_not_know_is_refused(state_url: str) -> None:
    with world(state_url, certificate=make_pair()[1]) as org:
        by_assertion(org, private_key=make_pair()[0])
        with pytest.raises(CredentialsError, match="logging in was refused"):
            org.write(person(1), message(1))


def test_a_key_that_is_none_is_a_wrong_setting(state_url: str) -> None:
    with world(state_url) as org:
        by_assertion(org, private_key="no key at all")
        with pytest.raises(SettingsError, match="private key cannot be used") as caught:
            org.write(person(1), message(1))
        assert "no key at all" not in str(caught.value)


def test_a_key_file_that_is_not_there_is_a_wrong_setting(state_url: str, tmp_path: Path) -> None:
    with world(state_url) as org:
        by_assertion(org, private_key_file=str(tmp_path / "none.pem"))
        with pytest.raises(SettingsError, match="private_key_file cannot be read"):
            org.write(person(1), message(1))


@pytest.mark.parametrize("model", [SalesforceTargetSettings, SalesforceSettings])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "give consumer_secret"),
        ({"username": USER}, "give consumer_secret"),
        ({"consumer_secret": "s"}, "need My Domain"),
        ({"consumer_secret": "s", "domain": "acme.my", "private_key": "k"}, "not both"),
        ({"consumer_secret": "s", "domain": "https://acme.my"}, "domain"),
        ({"consumer_secret": "s", "domain": "acme.my", "org_id": "12"}, "org_id"),
    ],
)
def test_settings_that_cannot_work_are_named(model: Any, values: dict[str, Any], words: str) -> None:
    given = {"org_id": "00D000000000001", "consumer_key": "k", **values}
    with pytest.raises(SettingsError, match=words):
        load_settings(model, given, "salesforce")


def test_an_org_id_of_fifteen_characters_is_the_same_org() -> None:
    values = {"consumer_key": "k", "consumer_secret": "s", "domain": "acme.my", "org_id": "00D5g00000QrStU"}
    assert load_settings(SalesforceTargetSettings, values, "salesforce").org_id == "00D5g00000QrStUEAV"
