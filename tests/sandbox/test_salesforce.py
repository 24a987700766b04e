"""The stand-in org by simple-salesforce: logging in, what fields take, single rows, duplicates, locks, trouble."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceExpiredSession,
    SalesforceGeneralError,
    SalesforceMalformedRequest,
    SalesforceMoreThanOneRecord,
    SalesforceRefusedRequest,
    SalesforceResourceNotFound,
)

from sandbox.mail_certificate import make_certificate
from sandbox.salesforce import SalesforceApp, SalesforceSandbox
from sandbox.salesforce.access import JWT_BEARER
from sandbox.salesforce.duplicates import STANDARD_CONTACT_RULE, DuplicateRule
from sandbox.salesforce.ids import long_id, make_id, read_id
from tests.sandbox.conftest import ROOT
from tests.sandbox.salesforce_world import ALLOW, NOON, World, covered, covers, error, package, reason

DOMAIN = "onethread-dev-ed.my"
BLOCK = DuplicateRule("No_Twins", "Contact", (("Email",),), blocks=True)


@pytest.fixture(scope="module")
def server() -> Iterator[SalesforceSandbox]:
    with SalesforceSandbox() as running:
        assert isinstance(running, SalesforceSandbox)
        yield running


@pytest.fixture
def world(server: SalesforceSandbox) -> World:
    return World(server, SalesforceApp())


@pytest.fixture
def bare(server: SalesforceSandbox) -> World:
    return World(server, SalesforceApp(), installed=False)


# -- logging in


@covers("client_credentials")
def test_client_credentials_log_in_as_the_integration_user(world: World) -> None:
    sf: Any = Salesforce(
        domain=DOMAIN, consumer_key="sandbox-consumer-key", consumer_secret="sandbox-consumer-secret",
        session=world.session, version="67.0",
    )  # fmt: skip
    made = sf.Contact.create({"LastName": "Doe"})["id"]
    assert world.found(f"SELECT CreatedBy.Username FROM Contact WHERE Id = '{made}'")[0]["CreatedBy"]["Username"] == (
        "integration@shop.example"
    )


@covers("client_credentials")
@pytest.mark.parametrize(
    ("key", "secret", "error"),
    [("other", "sandbox-consumer-secret", "invalid_client_id"), ("sandbox-consumer-key", "other", "invalid_client")],
)
def test_wrong_client_credentials_are_refused(world: World, key: str, secret: str, error: str) -> None:
    with pytest.raises(SalesforceAuthenticationFailed) as refused:
        Salesforce(domain=DOMAIN, consumer_key=key, consumer_secret=secret, session=world.session)
    assert refused.value.code == error


@covers("client_credentials_need_my_domain")
def test_client_credentials_are_not_taken_at_the_general_login_host(world: World) -> None:
    answer = world.session.post(
        "https://login.salesforce.com/services/oauth2/token",
        data={"grant_type": "client_credentials", "client_id": "sandbox-consumer-key", "client_secret": "x"},
        timeout=10,
    )
    assert (answer.status_code, answer.json()["error_description"]) == (400, "request not supported on this domain")


class Signer:
    """An External Client App's key, whose certificate an org has."""

    def __init__(self, folder: Path) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        plain = serialization.NoEncryption()
        self.pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain
        ).decode()
        self.certificate = _certificate_of(self._key, folder)

    def assertion(self, **changes: Any) -> str:
        claims = {
            "iss": "sandbox-consumer-key", "sub": "integration@shop.example", "aud": "https://login.salesforce.com",
            "exp": NOON + 180, **changes,
        }  # fmt: skip
        return jwt.encode(claims, self.pem, algorithm="RS256")


def _certificate_of(key: rsa.RSAPrivateKey, folder: Path) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    any_certificate = x509.load_pem_x509_certificate(make_certificate(folder)[0].read_bytes())
    return (
        x509.CertificateBuilder()
        .subject_name(any_certificate.subject).issuer_name(any_certificate.issuer).public_key(key.public_key())
        .serial_number(1).not_valid_before(any_certificate.not_valid_before_utc)
        .not_valid_after(any_certificate.not_valid_after_utc).sign(key, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM)  # fmt: skip


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("key"))


def _token(world: World, assertion: str, host: str = "login.salesforce.com") -> requests.Response:
    data = {"grant_type": JWT_BEARER, "assertion": assertion}
    return world.session.post(f"https://{host}/services/oauth2/token", data=data, timeout=10)


@covers("jwt_bearer")
def test_a_signed_assertion_logs_in_as_its_subject(server: SalesforceSandbox, signer: Signer) -> None:
    server.use(SalesforceApp(certificate=signer.certificate))
    sf: Any = Salesforce(
        username="admin@shop.example", consumer_key="sandbox-consumer-key", privatekey=signer.pem, domain="login",
        session=server.session(), version="67.0",
    )  # fmt: skip
    assert sf.query("SELECT Username FROM User WHERE Alias = 'Admin'")["totalSize"] == 1
    assert sf.sf_instance == "onethread-dev-ed.my.salesforce.com"


@covers("jwt_bearer", "jwt_lifetime")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"aud": "https://evil.example"}, "audience is invalid"),
        ({"exp": NOON - 1}, "expired authorization code"),
        ({"exp": NOON + 3600}, "expired authorization code"),
        ({"iss": "other"}, "client identifier invalid"),
        ({"sub": "nobody@shop.example"}, "user hasn't approved this consumer"),
    ],
)
def test_an_assertion_that_does_not_fit_is_refused(
    server: SalesforceSandbox, signer: Signer, changes: dict[str, Any], told: str
) -> None:
    world = World(server, SalesforceApp(certificate=signer.certificate), installed=False)
    assert _token(world, signer.assertion()).status_code == 200
    answer = _token(world, signer.assertion(**changes))
    assert (answer.status_code, answer.json()["error_description"]) == (400, told)


@covers("jwt_bearer")
def test_an_assertion_signed_by_another_key_is_refused(
    server: SalesforceSandbox, signer: Signer, tmp_path: Path
) -> None:
    world = World(server, SalesforceApp(certificate=signer.certificate), installed=False)
    answer = _token(world, Signer(tmp_path).assertion())
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    unsigned = jwt.encode({"iss": "sandbox-consumer-key", "exp": NOON + 60}, "k" * 32, algorithm="HS256")
    assert _token(world, unsigned).status_code == 400


@covers("no_user_name_and_password", "no_soap_login")
def test_user_name_and_password_are_refused_by_oauth_and_by_soap(world: World) -> None:
    with pytest.raises(SalesforceAuthenticationFailed):
        Salesforce(
            username="admin@shop.example", password="x", consumer_key="sandbox-consumer-key", consumer_secret="y",
            domain=DOMAIN, session=world.session,
        )  # fmt: skip
    with pytest.raises(SalesforceAuthenticationFailed):
        Salesforce(
            username="admin@shop.example", password="x", security_token="y", domain=DOMAIN, session=world.session,
            version="64.0",
        )  # fmt: skip


@covers("session_id", "error_body")
def test_a_call_without_a_living_session_is_401_and_a_new_login_helps(world: World) -> None:
    answer = world.send("GET", "limits", headers={"Authorization": "Bearer x"})
    assert (answer.status_code, answer.json()) == (
        401, [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
    )  # fmt: skip
    world.app.expire_sessions()
    with pytest.raises(SalesforceExpiredSession):
        world.sf.limits()
    assert world.client().limits()["DailyApiRequests"]["Max"] == 100_000


@covers("session_id")
def test_a_session_dies_when_it_is_not_used_and_lives_when_it_is(world: World) -> None:
    for _ in range(3):
        world.app.clock.advance(7_000)
        world.sf.limits()
    world.app.clock.advance(7_300)
    with pytest.raises(SalesforceExpiredSession):
        world.sf.limits()


def test_a_token_can_be_revoked(world: World) -> None:
    token = world.app.session_id
    assert world.client(token).limits()
    world.session.post(f"{world.server.url}/services/oauth2/revoke", data={"token": token}, timeout=10)
    with pytest.raises(SalesforceExpiredSession):
        world.client(token).limits()


@covers("versions")
def test_versions_that_are_retired_are_gone_and_those_to_come_are_not_found(world: World) -> None:
    statuses = {
        v: world.send("GET", "limits", version=v).status_code for v in ("v30.0", "v58.0", "v68.0", "v69.0", "x")
    }
    assert statuses == {"v30.0": 410, "v58.0": 200, "v68.0": 200, "v69.0": 404, "x": 404}
    listed = world.session.get(f"{world.server.url}/services/data", timeout=10).json()
    assert listed[-1] == {"label": "API 68.0", "url": "/services/data/v68.0", "version": "68.0"}


# -- limits and trouble


@covers("daily_limit", "limit_info")
def test_every_call_counts_and_beyond_the_day_s_calls_it_is_403_until_a_day_has_passed(world: World) -> None:
    world.sf.limits()
    used = world.sf.api_usage["api-usage"].used
    world.contact()
    world.sf.limits()
    assert world.sf.api_usage["api-usage"].used == used + 2
    world.app.exhaust_quota(remaining=1)
    world.contact("Last")
    with pytest.raises(SalesforceRefusedRequest) as refused:
        world.contact("Beyond")
    assert reason(refused) == (403, "REQUEST_LIMIT_EXCEEDED")
    assert len(world.app.state()["contacts"]) == 2
    world.app.clock.advance(24 * 3600 + 1)
    world.sf = world.client()
    world.contact("Next day")


@covers("server_unavailable")
def test_an_unavailable_org_is_503_with_or_without_the_work_done(world: World) -> None:
    world.app.be_unavailable(times=2)
    for _ in range(2):
        with pytest.raises(SalesforceGeneralError) as refused:
            world.contact()
        assert reason(refused) == (503, "SERVER_UNAVAILABLE")
    assert world.app.state()["contacts"] == {}
    world.app.be_unavailable(done=True)
    with pytest.raises(SalesforceGeneralError):
        world.contact()
    assert len(world.app.state()["contacts"]) == 1


@covers("slow_calls")
def test_a_call_that_takes_too_long_has_done_its_work(world: World) -> None:
    world.app.time_out(seconds=3)
    with pytest.raises(requests.Timeout):
        world.session.post(
            f"{world.server.url}/services/data/v67.0/sobjects/Contact", json={"LastName": "Slow"}, timeout=0.2,
            headers={"Authorization": f"Bearer {world.app.session_id}"},
        )  # fmt: skip
    assert [one["LastName"] for one in world.app.state()["contacts"].values()] == ["Slow"]


@covers("storage_limit")
def test_a_full_org_takes_no_new_record_but_changes(world: World) -> None:
    world.app.fill_storage(kilobytes_left=2)
    made = world.contact()
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.contact("Two")
    assert reason(refused) == (400, "STORAGE_LIMIT_EXCEEDED")
    world.sf.Contact.update(made, {"FirstName": "Jo"})
    world.app.delete_as_admin(made)
    world.contact("Two")


@covers("uri_limit")
def test_an_address_that_is_too_long_is_414(world: World) -> None:
    assert (
        world.send("GET", "query", params={"q": "SELECT Id FROM Contact WHERE Id = '" + "x" * 17_000}).status_code
        == 414
    )


# -- describe and ids


@covers("describe")
def test_a_describe_tells_what_fields_take(world: World) -> None:
    fields = {one["name"]: one for one in world.sf.Message__c.describe()["fields"]}
    key, body, parent = fields["External_Id__c"], fields["Body__c"], fields["Conversation__c"]
    assert (key["externalId"], key["unique"], key["length"], key["type"]) == (True, True, 255, "string")
    assert (body["type"], body["length"], body["filterable"]) == ("textarea", 131_072, False)
    assert (parent["referenceTo"], parent["relationshipName"]) == (["Conversation__c"], "Conversation__r")
    assert (fields["Direction__c"]["nillable"], fields["Name"]["createable"]) == (False, False)
    listed = {one["name"] for one in world.sf.describe()["sobjects"]}
    assert {"Contact", "Conversation__c", "ContentVersion"} <= listed
    channel = next(one for one in world.sf.Conversation__c.describe()["fields"] if one["name"] == "Channel__c")
    assert [one["value"] for one in channel["picklistValues"]] == ["whatsapp", "email"]
    assert channel["restrictedPicklist"] is True


@covers("record_ids")
def test_records_are_found_by_15_or_18_characters_whatever_the_case_of_the_18(world: World) -> None:
    made = world.contact()
    assert len(made) == 18
    for spelling in (made, made[:15], made.upper(), made.lower()):
        assert world.sf.Contact.get(spelling)["Id"] == made
    for wrong in ("nonsense", made[:17], "001" + made[3:15]):
        with pytest.raises(SalesforceMalformedRequest) as refused:
            world.sf.Contact.get(wrong)
        assert reason(refused) == (400, "MALFORMED_ID")


@covers("record_ids")
@given(st.from_regex(r"[A-Za-z0-9]{15}", fullmatch=True))
def test_the_suffix_restores_the_case(short: str) -> None:
    whole = long_id(short)
    assert read_id(whole.upper()) == read_id(whole.lower()) == read_id(short) == whole


def test_the_suffix_is_the_one_of_salesforces_own_example() -> None:
    assert long_id("001D000000IqhSL") == "001D000000IqhSLIAZ"  # the Account in the REST API Developer Guide
    assert read_id(make_id("003", 12345)[:17] + "9") is None


# -- what fields take


@covers("required_fields")
def test_a_missing_or_emptied_required_field_is_named(world: World) -> None:
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.sf.Contact.create({"FirstName": "Jo"})
    assert error(refused)["fields"] == ["LastName"]
    made = world.contact()
    for empty in (None, "", "   "):
        with pytest.raises(SalesforceMalformedRequest) as refused:
            world.sf.Contact.update(made, {"LastName": empty})
        assert reason(refused) == (400, "REQUIRED_FIELD_MISSING")


@covers("string_lengths", "email_addresses", "restricted_picklists", "json_types", "unknown_fields", "read_only_fields")
@pytest.mark.parametrize(
    ("type_name", "values", "code", "fields"),
    [
        ("Contact", {"FirstName": "x" * 41}, "STRING_TOO_LONG", ["FirstName"]),
        ("Contact", {"Email": "not an address"}, "INVALID_EMAIL_ADDRESS", ["Email"]),
        ("Contact", {"Email": "two@at@shop.example"}, "INVALID_EMAIL_ADDRESS", ["Email"]),
        ("Contact", {"Nonsense__c": "x"}, "INVALID_FIELD", None),
        ("Contact", {"CreatedDate": "2026-01-01T00:00:00Z"}, "INVALID_FIELD_FOR_INSERT_UPDATE", ["CreatedDate"]),
        ("Contact", {"Name": "Jo"}, "INVALID_FIELD_FOR_INSERT_UPDATE", ["Name"]),
        ("Contact", {"DoNotCall": "yes"}, "JSON_PARSER_ERROR", None),
        ("Contact", {"FirstName": 5}, "JSON_PARSER_ERROR", None),
        ("Contact", {"Birthdate": "yesterday"}, "JSON_PARSER_ERROR", None),
        ("Conversation__c", {"Last_Message_At__c": "2026-11-01"}, "JSON_PARSER_ERROR", None),
        ("Conversation__c", {"Channel__c": "fax"}, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", ["Channel__c"]),
        ("Conversation__c", {"Size__c": 5}, "INVALID_FIELD_FOR_INSERT_UPDATE", ["Size__c"]),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_nothing_is_written(
    world: World, type_name: str, values: dict[str, Any], code: str, fields: list[str] | None
) -> None:
    needed = {"LastName": "Doe"} if type_name == "Contact" else {}
    with pytest.raises(SalesforceMalformedRequest) as refused:
        getattr(world.sf, type_name).create({**needed, **values})
    assert (reason(refused), error(refused).get("fields")) == ((400, code), fields)
    assert world.app.org.live(type_name) == []


def test_a_body_that_is_no_json_object_is_refused(world: World) -> None:
    assert world.send("POST", "sobjects/Contact", data=b"{").json()[0]["errorCode"] == "JSON_PARSER_ERROR"
    assert world.send("POST", "sobjects/Contact", json=[]).status_code == 400


@covers("text_is_trimmed", "whole_seconds")
def test_text_is_kept_without_spaces_around_and_times_in_whole_seconds(world: World) -> None:
    made = world.contact("  Doe ", FirstName=" Jo", Email=" jo@shop.example ")
    kept = world.sf.Contact.get(made)
    assert (kept["Name"], kept["Email"]) == ("Jo Doe", "jo@shop.example")
    thread = world.conversation(Last_Message_At__c="2026-11-01T10:00:00.789+02:00")
    assert world.sf.Conversation__c.get(thread)["Last_Message_At__c"] == "2026-11-01T08:00:00.000+0000"


@covers("field_level_security", "object_permissions")
def test_without_the_permission_set_nothing_custom_is_there(world: World) -> None:
    world.conversation()
    made = world.contact(Identity_Key__c="k1")
    world.app.withdraw_permission_set("Threads")
    assert "Identity_Key__c" not in world.sf.Contact.get(made)
    assert "Identity_Key__c" not in {one["name"] for one in world.sf.Contact.describe()["fields"]}
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.sf.Contact.update(made, {"Identity_Key__c": "k2"})
    assert reason(refused) == (400, "INVALID_FIELD")
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.found("SELECT Identity_Key__c FROM Contact")
    assert reason(refused) == (400, "INVALID_FIELD")
    with pytest.raises(SalesforceResourceNotFound):
        world.sf.Contact.upsert("Identity_Key__c/k1", {"LastName": "Doe"})
    with pytest.raises(SalesforceResourceNotFound):
        world.sf.Conversation__c.describe()
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.found("SELECT Id FROM Conversation__c")
    assert reason(refused) == (400, "INVALID_TYPE")
    assert "Conversation__c" not in {one["name"] for one in world.sf.describe()["sobjects"]}


@covers("field_level_security")
def test_a_permission_set_is_assigned_by_the_api_once(world: World) -> None:
    world.app.withdraw_permission_set("Threads")
    (given,) = world.found("SELECT Id FROM PermissionSet WHERE Name = 'Threads'")
    (user,) = world.found("SELECT Id FROM User WHERE Username = 'integration@shop.example'")
    assignment = {"AssigneeId": user["Id"], "PermissionSetId": given["Id"]}
    world.sf.PermissionSetAssignment.create(assignment)
    assert world.contact(Identity_Key__c="k1")
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.sf.PermissionSetAssignment.create(assignment)
    assert reason(refused) == (400, "DUPLICATE_VALUE")


@covers("lookups_are_checked")
def test_a_lookup_takes_only_living_records_of_its_own_kind(world: World) -> None:
    contact, account = world.contact(), world.sf.Account.create({"Name": "Shop"})["id"]
    gone = world.contact("Gone")
    world.app.delete_as_admin(gone)
    cases = {
        account: "FIELD_INTEGRITY_EXCEPTION", "nonsense": "MALFORMED_ID", gone: "ENTITY_IS_DELETED",
        make_id("003", 999): "INVALID_CROSS_REFERENCE_KEY",
    }  # fmt: skip
    for value, code in cases.items():
        with pytest.raises(SalesforceMalformedRequest) as refused:
            world.conversation(Contact__c=value)
        assert reason(refused) == (400, code)
    thread = world.conversation(Contact__c=contact[:15])
    assert world.sf.Conversation__c.get(thread)["Contact__c"] == contact


@covers("parent_by_external_id")
def test_a_parent_is_named_by_its_external_id_and_must_be_there(world: World) -> None:
    thread = world.conversation("t1")
    made = world.sf.Message__c.create(world.message("m1"))["id"]
    assert world.sf.Message__c.get(made)["Conversation__c"] == thread
    world.sf.Message__c.update(made, {"Conversation__r": None})
    assert world.sf.Message__c.get(made)["Conversation__c"] is None
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.sf.Message__c.create(world.message("m2", "t9"))
    assert reason(refused) == (400, "INVALID_FIELD")
    assert error(refused)["message"] == (
        "Foreign key external ID: t9 not found for field External_Id__c in entity Conversation__c"
    )


@covers("unique_values")
def test_a_unique_value_belongs_to_one_living_record_whatever_its_case(world: World) -> None:
    one = world.contact(Identity_Key__c="Key-1")
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.contact("Two", Identity_Key__c="key-1")
    assert reason(refused) == (400, "DUPLICATE_VALUE")
    assert one[:15] in error(refused)["message"]
    world.app.delete_as_admin(one)
    world.contact("Two", Identity_Key__c="key-1")
    with pytest.raises(Exception, match="duplicate value found"):
        world.app.restore_as_admin(one)


@covers("deleted_records")
def test_a_deleted_record_is_told_as_such_and_can_come_back(world: World) -> None:
    made = world.contact(Identity_Key__c="k1")
    world.sf.Contact.delete(made)
    acts: list[Callable[[], Any]] = [
        lambda: world.sf.Contact.get(made), lambda: world.sf.Contact.update(made, {"FirstName": "Jo"})
    ]  # fmt: skip
    for act in acts:
        with pytest.raises(SalesforceResourceNotFound) as refused:
            act()
        assert reason(refused) == (404, "ENTITY_IS_DELETED")
    with pytest.raises(SalesforceResourceNotFound) as refused:
        world.sf.Contact.get(make_id("003", 999))
    assert reason(refused) == (404, "NOT_FOUND")
    world.app.restore_as_admin(made)
    assert world.sf.Contact.get_by_custom_id("Identity_Key__c", "k1")["Id"] == made


def test_deleting_a_parent_empties_its_childrens_lookups(world: World) -> None:
    contact = world.contact()
    thread = world.conversation(Contact__c=contact)
    world.sf.Contact.delete(contact)
    assert world.sf.Conversation__c.get(thread)["Contact__c"] is None


@covers("system_fields")
def test_who_and_when_is_kept_for_the_api_and_for_people(world: World) -> None:
    made = world.contact()
    world.app.clock.advance(60)
    world.app.edit_as_person(made, {"FirstName": "Jo"})
    kept = world.found(
        "SELECT CreatedDate, LastModifiedDate, SystemModstamp, CreatedBy.Name, LastModifiedBy.Name, Owner.Name "
        f"FROM Contact WHERE Id = '{made}'"
    )[0]
    assert (kept["CreatedDate"], kept["SystemModstamp"]) == (
        "2026-11-02T12:00:00.000+0000", "2026-11-02T12:01:00.000+0000"
    )  # fmt: skip
    assert (kept["CreatedBy"]["Name"], kept["LastModifiedBy"]["Name"]) == ("Integration User", "Ada Agent")


# -- single rows


@covers("create_read_update_delete")
def test_a_record_lives_through_its_verbs(world: World) -> None:
    made = world.contact(Email="jo@shop.example")
    assert world.sf.Contact.update(made, {"FirstName": "Jo"}) == 204
    answer = world.send("GET", f"sobjects/Contact/{made}", params={"fields": "Name,Email"}).json()
    assert answer == {
        "attributes": {"type": "Contact", "url": f"/services/data/v67.0/sobjects/Contact/{made}"},
        "Name": "Jo Doe", "Email": "jo@shop.example",
    }  # fmt: skip
    assert world.sf.Contact.delete(made) == 204
    assert world.app.state()["contacts"] == {}
    assert world.app.state()["deleted"] == [made]


@covers("upsert_says_created")
def test_an_upsert_is_201_then_200_and_makes_one_record(world: World) -> None:
    first = world.sf.Contact.upsert("Identity_Key__c/k1", {"LastName": "Doe"}, raw_response=True)
    again = world.sf.Contact.upsert("Identity_Key__c/k1", {"FirstName": "Jo"}, raw_response=True)
    assert (first.status_code, first.json()["created"]) == (201, True)
    assert (again.status_code, again.json()["created"], again.json()["id"]) == (200, False, first.json()["id"])
    (kept,) = world.app.state()["contacts"].values()
    assert (kept["Name"], kept["Identity_Key__c"]) == ("Jo Doe", "k1")


@covers("upsert_says_created")
def test_a_key_may_have_a_slash_in_it(world: World) -> None:
    world.sf.Contact.upsert("Identity_Key__c/a%2Fb", {"LastName": "Doe"})
    assert world.sf.Contact.get_by_custom_id("Identity_Key__c", "a/b")["Identity_Key__c"] == "a/b"


@covers("upsert_of_several_is_300")
def test_an_upsert_by_a_key_that_several_have_is_300_with_their_addresses(world: World) -> None:
    ids = [world.contact(name, Region__c="north") for name in ("One", "Two")]
    with pytest.raises(SalesforceMoreThanOneRecord) as refused:
        world.sf.Contact.upsert("Region__c/north", {"FirstName": "Jo"})
    assert refused.value.content == [f"/services/data/v67.0/sobjects/Contact/{one}" for one in ids]  # type: ignore[comparison-overlap]


@covers("key_not_in_the_body")
@pytest.mark.parametrize("name", ["Identity_Key__c", "Id"])
def test_the_key_does_not_stand_in_the_body_of_an_upsert(world: World, name: str) -> None:
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.sf.Contact.upsert("Identity_Key__c/k1", {"LastName": "Doe", name: "k1"})
    assert reason(refused) == (400, "INVALID_FIELD")


@covers("upsert_needs_external_id")
def test_an_upsert_by_a_field_that_is_no_external_id_is_404(world: World) -> None:
    with pytest.raises(SalesforceResourceNotFound):
        world.sf.Contact.upsert("Email/jo@shop.example", {"LastName": "Doe"})


def test_an_auto_number_names_messages(world: World) -> None:
    world.conversation()
    world.upsert("Message__c", "External_Id__c", world.message("m1"), world.message("m2"))
    assert [one["Name"] for one in world.found("SELECT Name FROM Message__c ORDER BY Name")] == ["M-000001", "M-000002"]


# -- duplicates


@covers("duplicates_detected")
def test_a_duplicate_is_refused_and_the_record_that_is_there_is_named(world: World) -> None:
    there = world.contact(FirstName="Jo", Email="jo@shop.example")
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.contact("doe", FirstName="JO", Email="Jo@shop.example")
    found = error(refused)
    (match,) = found["duplicateResult"]["matchResults"]
    assert (found["errorCode"], match["size"], match["matchRecords"][0]["record"]["Id"]) == (
        "DUPLICATES_DETECTED",
        1,
        there,
    )
    assert set(match["matchRecords"][0]["record"]) == {"attributes", "Id"}
    (row,) = world.upsert(
        "Contact", "Identity_Key__c",
        {"LastName": "Doe", "FirstName": "Jo", "Email": "jo@shop.example", "Identity_Key__c": "k1"},
    )  # fmt: skip
    assert (row["success"], row["errors"][0]["statusCode"]) == (False, "DUPLICATES_DETECTED")
    assert len(world.app.state()["contacts"]) == 1


@covers("duplicates_detected")
def test_an_update_is_looked_at_only_when_it_touches_what_the_rule_compares(world: World) -> None:
    world.contact(FirstName="Jo", Email="jo@shop.example")
    other = world.contact(FirstName="Jo", Email="other@shop.example")
    world.sf.Contact.update(other, {"Title": "Buyer"})
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.sf.Contact.update(other, {"Email": "jo@shop.example"})
    assert reason(refused) == (400, "DUPLICATES_DETECTED")
    world.sf.Contact.update(other, {"Email": "jo@shop.example"}, headers=ALLOW)


@covers("allow_save_passes_alerts_only")
def test_the_header_saves_past_alerts_but_not_past_a_block(world: World) -> None:
    twin = {"LastName": "Doe", "FirstName": "Jo", "Email": "jo@shop.example"}
    world.app.use_duplicate_rules(STANDARD_CONTACT_RULE, BLOCK)
    world.sf.Contact.create(twin)
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.sf.Contact.create(twin, headers=ALLOW)
    assert error(refused)["duplicateResult"]["allowSave"] is False
    world.app.use_duplicate_rules(STANDARD_CONTACT_RULE)
    world.sf.Contact.create(twin, headers=ALLOW)
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.sf.Contact.create(twin, headers={"Sforce-Duplicate-Rule-Header": "includeRecordDetails=true"})
    records = error(refused)["duplicateResult"]["matchResults"][0]["matchRecords"]
    assert [one["record"]["Email"] for one in records] == ["jo@shop.example"] * 2


# -- locks


@covers("row_locks", "lookups_lock_their_parent")
def test_a_row_that_somebody_holds_and_its_children_cannot_be_written(world: World) -> None:
    contact = world.contact()
    thread = world.conversation(Contact__c=contact)
    world.app.lock_row(contact)
    acts: list[Callable[[], Any]] = [
        lambda: world.sf.Contact.update(contact, {"FirstName": "Jo"}),
        lambda: world.sf.Contact.delete(contact),
        lambda: world.conversation("t2", Contact__c=contact),
    ]
    for act in acts:
        with pytest.raises(SalesforceMalformedRequest) as refused:
            act()
        assert reason(refused) == (400, "UNABLE_TO_LOCK_ROW")
    world.sf.Conversation__c.update(thread, {"Unread__c": True})  # its lookup is not touched
    world.app.unlock_row(contact)
    world.conversation("t2", Contact__c=contact)


@covers("row_locks")
def test_two_calls_that_touch_one_parent_at_once_lock_each_other_out(world: World) -> None:
    world.conversation("t1")
    world.conversation("t2")
    world.app.slow_down(60)
    first: list[Any] = []
    client = world.client()
    thread = threading.Thread(target=lambda: first.append(client.Message__c.create(world.message("m1"))))
    thread.start()
    assert world.app.waiting.acquire(timeout=30)
    world.app._slow_seconds = 0
    with pytest.raises(SalesforceMalformedRequest) as refused:
        world.sf.Message__c.create(world.message("m2"))
    assert reason(refused) == (400, "UNABLE_TO_LOCK_ROW")
    world.sf.Message__c.create(world.message("m3", "t2"))
    world.app.speed_up()
    thread.join(30)
    assert first[0]["success"] is True
    world.sf.Message__c.create(world.message("m2"))


# -- files


@covers("files")
def test_a_file_is_published_on_a_conversation_and_can_be_read_back(world: World) -> None:
    thread = world.conversation()
    data = base64.b64encode(b"picture").decode()
    made = world.sf.ContentVersion.create({
        "PathOnClient": "cat.png", "VersionData": data, "FirstPublishLocationId": thread
    })["id"]  # fmt: skip
    kept = world.sf.ContentVersion.get(made)
    assert (kept["Title"], kept["FileType"], kept["ContentSize"], kept["IsLatest"]) == ("cat", "PNG", 7, True)
    links = world.found(
        f"SELECT LinkedEntityId FROM ContentDocumentLink WHERE ContentDocumentId = '{kept['ContentDocumentId']}'"
    )
    assert thread in {one["LinkedEntityId"] for one in links}
    assert world.send("GET", f"sobjects/ContentVersion/{made}/VersionData").content == b"picture"


@covers("files")
def test_a_file_may_come_as_multipart_and_needs_its_bytes_and_name(world: World) -> None:
    parts = {
        "entity_content": (None, '{"PathOnClient": "cat.png"}', "application/json"),
        "VersionData": ("cat.png", b"\x00\xffpicture", "image/png"),
    }
    made = world.send("POST", "sobjects/ContentVersion", files=parts)
    assert (made.status_code, world.sf.ContentVersion.get(made.json()["id"])["ContentSize"]) == (201, 9)
    for wrong in ({"PathOnClient": "cat.png"}, {"VersionData": "cGlj"}):
        with pytest.raises(SalesforceMalformedRequest) as refused:
            world.sf.ContentVersion.create(wrong)
        assert reason(refused) == (400, "REQUIRED_FIELD_MISSING")


# -- people


def test_people_write_replies_and_merge_under_their_own_names(world: World) -> None:
    thread = world.conversation()
    reply = world.app.write_reply_as_agent(thread, "On its way", username="ben.agent@shop.example")
    kept = world.found(
        "SELECT Id, Body__c, Conversation__r.External_Id__c, CreatedBy.Name FROM Message__c "
        "WHERE Direction__c = 'Outbound' AND Status__c = 'Queued' ORDER BY SystemModstamp, Id"
    )
    assert [(one["Id"], one["Body__c"], one["CreatedBy"]["Name"]) for one in kept] == [
        (reply, "On its way", "Ben Agent")
    ]
    one, two = world.contact("One"), world.contact("Two", Identity_Key__c="k2", Phone="+1 202 555 0101")
    world.app.merge_contacts_as_admin(one, two)
    kept_one = world.sf.Contact.get(one)
    assert (kept_one["Phone"], kept_one["Identity_Key__c"]) == ("+1 202 555 0101", "k2")
    assert world.app.state()["merged"] == {two: one}


def test_the_handles_are_there_over_http_too(bare: World) -> None:
    def ask(handle: str, **arguments: Any) -> Any:
        return bare.session.post(f"{bare.server.url}/_sandbox/{handle}", json=arguments, timeout=10)

    zipped = base64.b64encode(package()).decode()
    assert ask("install_package_as_admin", data=zipped).json()["result"] == ["Threads"]
    one, two = (ask("create_contact_as_person", LastName=name).json()["result"] for name in ("One", "Two"))
    assert ask("merge_contacts_as_admin", master_id=one, other_ids=[two]).json()["result"] == one
    assert ask("__class__").status_code == 404
    state = bare.session.get(f"{bare.server.url}/_sandbox/state", timeout=10).json()
    assert (list(state["contacts"]), state["merged"], state["api_calls"]) == ([one], {two: one}, 0)


def test_calls_are_counted_by_kind(world: World) -> None:
    world.contact()
    world.upsert("Contact", "Identity_Key__c", {"Identity_Key__c": "k1", "LastName": "Two"})
    world.found("SELECT Id FROM Contact")
    assert world.app.state()["calls"] == {
        "POST /sobjects/Contact": 1, "PATCH /composite/sobjects/Contact/<key_name>": 1, "GET /query": 1
    }  # fmt: skip


def test_the_environment_lets_a_process_of_its_own_trust_the_org(server: SalesforceSandbox) -> None:
    named = server.environment()["REQUESTS_CA_BUNDLE"]
    assert requests.get(f"{server.url}/services/data", verify=named, timeout=10).status_code == 200
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{server.url}/services/data", verify=True, timeout=10)


# -- the rules


def test_every_rule_is_covered_by_a_test() -> None:
    names = [rule.name for rule in SalesforceApp.rules]
    assert len(names) == len(set(names))
    assert set(names) == covered()


def test_every_rule_says_where_it_comes_from() -> None:
    for rule in SalesforceApp.rules:
        assert rule.source
        assert rule.kind in {"documented", "observed", "assumed"}


def test_the_page_lists_every_rule_with_its_kind_and_judge() -> None:
    page = (ROOT / "sandbox" / "salesforce.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \|.*\| (documented|observed|assumed) \| (yes|no) \|$", page, re.MULTILINE))
    assert listed == {(one.name, one.kind, "yes" if one.judge else "no") for one in SalesforceApp.rules}
