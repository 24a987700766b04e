"""tap-salesforce against the stand-in org: contacts as people change them, and the replies they queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from mappings.errors import CredentialsError, RateLimitedError, UnavailableError
from mappings.records import Contact
from sandbox.base import Fault, SandboxServer
from sandbox.salesforce.app import SalesforceApp
from stores.database import Stores
from stores.parked import Parked
from taps.base import Checkpoint
from taps.salesforce import TapSalesforce
from targets.salesforce.metadata import lacking, package_files, package_zip
from tests.contract.tap import TapContract

RunTap = Callable[[Any], list[dict[str, Any]]]
QUERY = "/services/data/v67.0/query"


class Account:
    """A stand-in org that is set up, and a tap that is run on it again and again with its own state."""

    def __init__(self, state_url: str, run_tap: RunTap, **options: Any) -> None:
        self.app = SalesforceApp(**options)
        self.server = SandboxServer(self.app).start()
        self.stores = Stores(state_url)
        self.config: dict[str, Any] = {
            "org_id": self.app.org_id, "domain": "onethread-dev-ed.my", "consumer_key": self.app.consumer_key,
            "consumer_secret": self.app.consumer_secret, "api_url": self.server.url, "state_url": state_url,
            "retry_wait_seconds": 0.01, "default_region": "GB",
        }  # fmt: skip
        none = dict.fromkeys(("Contact", "Conversation__c", "Message__c"))
        files = package_files(lacking(none, permission_sets=False), "67.0")
        self.app.install_package_as_admin(package_zip(files).getvalue())
        self.state: dict[str, Any] = {}
        self._run_tap = run_tap

    def stop(self) -> None:
        """Free the port and the files."""
        self.server.stop()
        self.stores.close()

    def withdraw(self) -> None:
        """The integration user loses what set-up has opened."""
        for name in ("onethread_Integration", "onethread_Agent"):
            self.app.withdraw_permission_set(name)

    def read(self, *streams: str, **settings: Any) -> list[dict[str, Any]]:
        """Run the tap for these streams from where the last run ended; the records."""
        tap = TapSalesforce(config={**self.config, **settings}, state=self.state)
        for name, stream in tap.streams.items():
            stream.selected = name in streams
        messages = self._run_tap(tap)
        states = [message["value"] for message in messages if message["type"] == "STATE"]
        self.state = states[-1] if states else self.state
        return [message["record"] for message in messages if message["type"] == "RECORD"]

    def contacts(self, **settings: Any) -> list[dict[str, Any]]:
        """What stream contacts gives now."""
        return self.read("contacts", **settings)

    def replies(self, **settings: Any) -> list[dict[str, Any]]:
        """What stream replies gives now."""
        return self.read("replies", **settings)

    def person(self, number: int = 1, **values: Any) -> str:
        """A person adds a contact, a second later."""
        self.app.clock.advance(1)
        return self.app.create_contact_as_person(
            **{"LastName": f"Ana{number}", "Email": f"ana{number}@shop.example"} | values
        )

    def thread(self, contact_id: str) -> str:
        """A conversation of a contact."""
        return self.app.create_as_person(
            "Conversation__c", {"Name": "WhatsApp", "Contact__c": contact_id, "Channel__c": "WhatsApp"}
        )

    def queue(self, contact_id: str, text: str = "We are on it", **values: Any) -> str:
        """An agent queues a reply on a conversation of the contact."""
        thread = self.thread(contact_id)
        self.app.clock.advance(1)
        return self.app.write_reply_as_agent(thread, text, **values)


@pytest.fixture
def account(state_url: str, run_tap: RunTap) -> Iterator[Account]:
    made = Account(state_url, run_tap)
    yield made
    made.stop()


def ids(records: list[dict[str, Any]]) -> list[str]:
    return [record["record_id"] for record in records]


class TestContacts:
    def test_the_first_run_reads_them_all_page_by_page(self, state_url: str, run_tap: RunTap) -> None:
        account = Account(state_url, run_tap, page_rows=10)
        try:
            expected = [account.person(number) for number in range(25)]
            assert ids(account.contacts()) == expected
            assert account.contacts() == []
        finally:
            account.stop()

    def test_a_contact_has_its_handles_record_first(self, account: Account) -> None:
        contact_id = account.person(Phone="07700 900123", MobilePhone="+44 7700 900124", FirstName="Ana")
        (record,) = account.contacts()
        assert [(one["kind"], one["scope"], one["value"]) for one in record["handles"]] == [
            ("salesforce_contact", account.app.org_id, contact_id),
            ("email", None, "ana1@shop.example"),
            ("phone", None, "+447700900123"),
            ("phone", None, "+447700900124"),
        ]
        assert (record["name"], record["projection"]) == ("Ana Ana1", False)

    def test_the_next_run_reads_what_changed(self, account: Account) -> None:
        first = account.person(1)
        account.person(2)
        account.contacts()
        account.app.clock.advance(1)
        account.app.edit_as_person(first, {"FirstName": "Ana"})
        assert ids(account.contacts()) == [first]
        assert account.contacts() == []

    def test_many_contacts_of_one_moment_are_read_to_the_end(
        self, state_url: str, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        account = Account(state_url, run_tap, page_rows=10)
        try:
            account.person(99)
            account.contacts()
            moment = account.app.clock.epoch() + 5
            monkeypatch.setattr(account.app.clock, "epoch", lambda: moment)
            expected = [account.person(number) for number in range(35)]
            assert sorted(ids(account.contacts())) == sorted(expected)
            assert account.contacts() == []
        finally:
            account.stop()

    def test_a_run_that_breaks_off_goes_on_where_it_was(self, state_url: str, run_tap: RunTap) -> None:
        account = Account(state_url, run_tap, page_rows=10)
        try:
            expected = [account.person(number) for number in range(30)]
            tap = TapSalesforce(config=account.config, state={})
            for name, stream in tap.streams.items():
                stream.selected = name == "contacts"
            taken: list[str] = []
            for item in tap.read():
                if isinstance(item, Contact):
                    taken.append(item.record_id)
                elif isinstance(item, Checkpoint):
                    account.state = {"bookmarks": {"cursor": item.cursor}}
                    break
            assert taken == expected[:10]
            assert ids(account.contacts()) == expected[10:]
        finally:
            account.stop()

    def test_a_deleted_contact_is_told(self, account: Account) -> None:
        contact_id = account.person()
        account.contacts()
        account.app.clock.advance(1)
        account.app.delete_as_admin(contact_id)
        (record,) = account.contacts()
        assert (record["record_id"], record["deleted"]) == (contact_id, True)

    def test_a_survivor_names_what_was_merged_into_it(self, account: Account) -> None:
        master, other = account.person(1), account.person(2)
        account.contacts()
        account.app.clock.advance(1)
        account.app.merge_contacts_as_admin(master, other)
        records = account.contacts()
        survivors = [one for one in records if not one["deleted"]]
        assert {one["record_id"] for one in survivors} == {master}
        assert [other] in [one["merged_record_ids"] for one in survivors]
        assert [one["record_id"] for one in records if one["deleted"]] == [other]

    def test_a_contact_that_we_made_is_a_projection(self, account: Account) -> None:
        account.person(Identity_Key__c="person-1", Thread_Made_By_onethread__c=True)
        (record,) = account.contacts()
        assert (record["projection"], record["identity_key"]) == (True, "person-1")

    def test_an_org_without_our_fields_can_be_read(self, state_url: str, run_tap: RunTap) -> None:
        account = Account(state_url, run_tap)
        try:
            account.withdraw()
            contact_id = account.person()
            assert ids(account.contacts()) == [contact_id]
        finally:
            account.stop()


class TestReplies:
    def test_a_queued_reply_is_read(self, account: Account) -> None:
        contact_id = account.person(Phone="07700 900123", Identity_Key__c="person-1")
        message_id = account.queue(contact_id)
        (reply,) = account.replies()
        assert reply["reply_key"] == f"salesforce:{account.app.org_id}:{message_id}:{message_id}"
        assert (reply["text"], reply["channel"], reply["identity_key"]) == ("We are on it", "whatsapp", "person-1")
        assert (reply["author_kind"], reply["author_name"]) == ("agent", "Ada Agent")
        assert reply["handles"][0] == {
            "kind": "salesforce_contact", "scope": account.app.org_id, "value": contact_id,
        }  # fmt: skip

    def test_it_comes_once_whatever_is_edited_meanwhile(self, account: Account) -> None:
        message_id = account.queue(account.person())
        assert len(account.replies()) == 1
        account.app.clock.advance(1)
        account.app.edit_as_person(message_id, {"Body__c": "Better words"})
        assert account.replies() == []

    def test_the_agents_channel_wins_over_the_conversations(self, account: Account) -> None:
        account.queue(account.person(), Channel__c="E-mail")
        (reply,) = account.replies()
        assert reply["channel"] == "email"

    def test_what_is_no_longer_queued_or_is_old_is_left(self, account: Account) -> None:
        account.app.clock.advance(-8 * 24 * 3600)
        account.queue(account.person(1))
        account.app.clock.advance(8 * 24 * 3600)
        message_id = account.queue(account.person(2))
        account.app.edit_as_person(message_id, {"Status__c": "Sending"})
        account.queue(account.person(3), Status__c="Draft")
        assert account.replies() == []

    def test_one_that_names_nobody_is_parked_and_read_again_when_it_was_filled_in(self, account: Account) -> None:
        values = {"Direction__c": "Outbound", "Status__c": "Queued", "Body__c": "Hello"}
        message_id = account.app.create_as_person("Message__c", values)
        assert account.replies() == []
        (parked,) = Parked(account.stores).list()
        assert "nobody knows to whom it goes" in parked.reason
        account.app.edit_as_person(message_id, {"Contact__c": account.person()})
        Parked(account.stores).ask_replay([parked.parked_id])
        assert [one["text"] for one in account.replies()] == ["Hello"]
        account.replies()
        assert Parked(account.stores).list() == []

    def test_a_merge_of_contacts_makes_no_new_reply(self, account: Account) -> None:
        master, other = account.person(1), account.person(2)
        account.queue(other)
        assert len(account.replies()) == 1
        account.app.clock.advance(1)
        account.app.merge_contacts_as_admin(master, other)
        assert account.replies() == []


class TestBoth:
    def test_only_what_is_selected_is_asked_for(self, account: Account) -> None:
        account.queue(account.person())
        account.replies()
        assert not [one for one in account.app.journal if "queryAll" in one["path"]]

    @pytest.mark.parametrize("status", [500, 503])
    def test_a_call_that_failed_is_made_again(self, account: Account, status: int) -> None:
        account.app.faults.append(Fault(path=QUERY, status=status, times=2))
        contact_id = account.person()
        assert ids(account.contacts()) == [contact_id]

    def test_an_expired_session_is_renewed(self, account: Account) -> None:
        contact_id = account.person()
        account.app.faults.append(
            Fault(path=QUERY, status=401, body=[{"errorCode": "INVALID_SESSION_ID", "message": "no"}])
        )
        assert ids(account.contacts()) == [contact_id]

    def test_when_the_days_calls_are_used_up_it_stops_and_keeps_its_state(self, account: Account) -> None:
        account.person()
        account.app.exhaust_quota()
        with pytest.raises(RateLimitedError, match=r"[Rr]un again after \d\d:\d\d UTC"):
            account.contacts()
        calls = len(account.app.journal)
        with pytest.raises(RateLimitedError):
            account.contacts()
        assert len(account.app.journal) == calls

    def test_an_org_that_stays_away_ends_the_run(self, account: Account) -> None:
        account.app.be_unavailable(times=99)
        with pytest.raises(UnavailableError):
            account.contacts(max_tries=2)

    def test_wrong_credentials_stop_it(self, account: Account) -> None:
        with pytest.raises(CredentialsError):
            account.contacts(consumer_secret="wrong")

    def test_doctor_says_what_it_finds(self, account: Account) -> None:
        checks = list(TapSalesforce(config=account.config).check())
        assert [one.what for one in checks] == [
            "settings", "log-in", "org", "read Contact", "read Message__c", "API calls",
        ]  # fmt: skip
        assert all(one.ok for one in checks)
        account.withdraw()
        refused = {one.what: one.fix for one in TapSalesforce(config=account.config).check() if one.ok is False}
        assert "permission set" in refused["read Message__c"]

    def test_neither_people_nor_secrets_get_into_the_log(
        self, account: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        account.queue(account.person(1, Phone="07700 900123"))
        account.app.faults.append(Fault(path=QUERY, status=500))
        account.read("contacts", "replies")
        for secret in ("ana1@shop.example", "900123", "We are on it", account.app.consumer_secret, "!AQ"):
            assert secret not in caplog.text


class SalesforceSource:
    """What the tap's contract reads from: contacts, and replies queued on them."""

    tap_class = TapSalesforce

    def __init__(self, account: Account) -> None:
        self.account = account

    def config(self) -> dict[str, Any]:
        """The settings."""
        return self.account.config

    def add(self, part: int) -> None:
        """Some contacts, one with a reply."""
        for number in range(3):
            self.account.person(10 * part + number, FirstName="Ana", Phone="07700 900123")
        self.account.queue(self.account.person(10 * part + 9))

    def add_bad(self) -> None:
        """A page with a contact whose address is a number."""
        bad = {"Id": "003000000000077AAA", "Email": 7, "SystemModstamp": "2026-11-02T12:00:00.000+0000"}
        following = quote(TapSalesforce(config=self.config())._contacts_query(["IsDeleted = false"]))
        following = f"/services/data/v67.0/queryAll/?q={following}"
        body = {"totalSize": 2, "done": False, "records": [bad], "nextRecordsUrl": following}
        path = "/services/data/v67.0/queryAll"
        self.account.app.faults.append(Fault(path=path, method="GET", status=200, body=body))


class TestTapSalesforceContract(TapContract):
    @pytest.fixture
    def source(self, state_url: str, run_tap: RunTap) -> Iterator[SalesforceSource]:
        account = Account(state_url, run_tap, page_rows=3)
        yield SalesforceSource(account)
        account.stop()
