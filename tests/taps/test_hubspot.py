"""tap-hubspot against the stand-in account: contacts as people change them, and the replies they queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mappings.errors import RateLimitedError, UnavailableError
from mappings.records import Contact
from sandbox.base import Fault, SandboxServer
from sandbox.hubspot import HubSpotApp
from sandbox.hubspot.objects import API, CONTACTS
from stores.database import Stores
from stores.parked import Parked
from taps.base import Checkpoint
from taps.hubspot import TapHubSpot
from targets.hubspot import HubSpotTargetSettings, setup_hubspot
from tests.contract.tap import TapContract

PORTAL = "8800001"
TEXT, STATUS = "onethread_reply_text", "onethread_reply_status"
RunTap = Callable[[Any], list[dict[str, Any]]]


class Account:
    """A stand-in account that is set up, and a tap that is run on it again and again with its own state."""

    def __init__(self, state_url: str, run_tap: RunTap, **options: Any) -> None:
        self.app = HubSpotApp(**{"ten_second_limit": 100_000, **options})
        self.server = SandboxServer(self.app).start()
        self.stores = Stores(state_url)
        self.config: dict[str, Any] = {
            "access_token": "sandbox-token", "portal_id": PORTAL, "api_url": self.server.url, "state_url": state_url,
            "retry_wait_seconds": 0.01, "search_interval_seconds": 0.2, "deleted_interval_seconds": 0,
            "default_region": "GB",
        }  # fmt: skip
        setup_hubspot(HubSpotTargetSettings.model_validate(self.config), self.stores)
        self.state: dict[str, Any] = {}
        self.states: list[dict[str, Any]] = []
        self._run_tap = run_tap

    def stop(self) -> None:
        """Free the port and the files."""
        self.server.stop()
        self.stores.close()

    def read(self, *streams: str, **settings: Any) -> list[dict[str, Any]]:
        """Run the tap for these streams from where the last run ended; the records."""
        tap = TapHubSpot(config={**self.config, **settings}, state=self.state)
        for name, stream in tap.streams.items():
            stream.selected = name in streams
        messages = self._run_tap(tap)
        self.states = [message["value"] for message in messages if message["type"] == "STATE"]
        self.state = self.states[-1] if self.states else self.state
        return [message["record"] for message in messages if message["type"] == "RECORD"]

    def contacts(self, **settings: Any) -> list[dict[str, Any]]:
        """What stream contacts gives now."""
        return self.read("contacts", **settings)

    def replies(self, **settings: Any) -> list[dict[str, Any]]:
        """What stream replies gives now."""
        return self.read("replies", **settings)

    def person(self, number: int = 1, **properties: str) -> str:
        """A person adds a contact."""
        return self.app.create_contact_as_person({"email": f"ana{number}@shop.example", **properties})

    def agent(self, contact_id: str, **properties: str) -> None:
        """An agent saves a contact, a second later; search sees it."""
        self.app.clock.advance(1)
        self.app.edit_contact_as_agent(contact_id, properties)
        self.app.clock.advance(10)

    def queue(self, contact_id: str, text: str) -> None:
        """An agent queues a reply."""
        self.agent(contact_id, **{TEXT: text, STATUS: "QUEUED"})

    def told(self, contact_id: str, status: str) -> None:
        """The target writes what became of the reply."""
        self.app.clock.advance(1)
        record = self.app.crm.current(CONTACTS, contact_id)
        assert record is not None
        with self.app.lock:
            self.app.crm.update(record, {STATUS: status}, API)
        self.app.clock.advance(10)


@pytest.fixture
def account(state_url: str, run_tap: RunTap) -> Iterator[Account]:
    made = Account(state_url, run_tap)
    yield made
    made.stop()


def ids(records: list[dict[str, Any]]) -> list[str]:
    return [record["record_id"] for record in records]


class TestContacts:
    def test_the_first_run_reads_them_all_page_by_page(self, account: Account) -> None:
        expected = [account.person(number) for number in range(250)]
        assert ids(account.contacts()) == expected

    def test_a_contact_has_its_handles_record_first(self, account: Account) -> None:
        contact_id = account.person(phone="07700 900123", firstname="Ana", hubspot_owner_id="70001")
        (record,) = account.contacts()
        assert [(one["kind"], one["value"]) for one in record["handles"]] == [
            ("hubspot_contact", contact_id),
            ("email", "ana1@shop.example"),
            ("phone", "+447700900123"),
        ]
        assert (record["name"], record["owner_id"], record["projection"]) == ("Ana", "70001", False)

    def test_the_next_run_reads_what_changed(self, account: Account) -> None:
        first = account.person(1)
        account.person(2)
        account.contacts()
        account.agent(first, firstname="Ana")
        assert ids(account.contacts()) == [first]
        assert account.contacts() == []

    def test_a_change_that_search_shows_late_is_not_missed(self, state_url: str, run_tap: RunTap) -> None:
        account = Account(state_url, run_tap, search_lag_seconds=60)
        try:
            account.person(0)
            account.contacts()
            contact_id = account.person(1)
            assert account.contacts() == []
            account.app.clock.advance(120)
            assert ids(account.contacts()) == [contact_id]
        finally:
            account.stop()

    def test_many_contacts_of_one_moment_are_read_to_the_end(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sandbox.hubspot.search.RESULT_LIMIT", 20)
        account.person(99)
        account.contacts()
        account.app.clock.advance(1)
        moment = account.app.crm.now()
        monkeypatch.setattr(account.app.crm, "now", lambda: moment)
        expected = [account.person(number) for number in range(50)]
        account.app.clock.advance(10)
        assert ids(account.contacts(search_page_size=10)) == expected

    def test_a_run_that_breaks_off_goes_on_where_it_was(self, account: Account) -> None:
        expected = [account.person(number) for number in range(150)]
        seen: list[str] = []
        for item in TapHubSpot(config=account.config, state={}).read():
            if isinstance(item, Checkpoint):
                account.state = {"bookmarks": {"cursor": item.cursor}}
                break
            assert isinstance(item, Contact)
            seen.append(item.record_id)
        assert seen == expected[:100]
        assert ids(account.contacts()) == expected[100:]

    def test_a_search_that_breaks_off_goes_on_where_it_was(self, account: Account) -> None:
        account.person(99)
        account.contacts()
        expected = [account.person(number) for number in range(15)]
        account.app.clock.advance(10)
        seen: list[str] = []
        for item in TapHubSpot(config={**account.config, "search_page_size": 10}, state=account.state).read():
            if isinstance(item, Checkpoint):
                account.state["bookmarks"]["cursor"] |= item.cursor
                break
            assert isinstance(item, Contact)
            seen.append(item.record_id)
        assert seen == expected[:9]  # the tenth of the page is the contact that was seen before
        assert ids(account.contacts()) == expected[9:]

    def test_a_deleted_contact_is_told(self, account: Account) -> None:
        contact_id = account.person(1)
        account.contacts()
        account.app.delete_contact_as_admin(contact_id)
        (record,) = account.contacts()
        assert (record["record_id"], record["deleted"]) == (contact_id, True)

    def test_what_was_deleted_before_we_looked_last_is_not_told_again(self, account: Account) -> None:
        contact_id = account.person(1)
        account.contacts()
        account.app.delete_contact_as_admin(contact_id)
        account.contacts()
        assert account.contacts(overlap_seconds=0) == []

    def test_deleted_contacts_are_looked_for_at_intervals(self, account: Account) -> None:
        contact_id = account.person(1)
        account.contacts()
        account.app.delete_contact_as_admin(contact_id)
        assert account.contacts(deleted_interval_seconds=3600) == []

    def test_a_survivor_names_what_was_merged_into_it(self, account: Account) -> None:
        one, other = account.person(1), account.person(2)
        account.contacts()
        survivor = account.app.merge_contacts_as_admin(one, other)
        account.app.clock.advance(10)
        records = {record["record_id"]: record for record in account.contacts()}
        assert set(records[survivor]["merged_record_ids"]) == {one, other}

    def test_a_contact_that_we_made_is_a_projection(self, account: Account) -> None:
        account.person(1, onethread_projection="true", onethread_person_id="p-1")
        (record,) = account.contacts()
        assert record["projection"] is True
        assert record["identity_key"] == "p-1"

    def test_a_contact_that_is_not_understood_is_parked_and_the_rest_goes_on(self, account: Account) -> None:
        good = account.person(1)
        bad = {"id": "77", "properties": {"email": 7, "lastmodifieddate": "2026-11-02T12:00:00Z"}}
        record = account.app.crm.current(CONTACTS, good)
        assert record is not None
        page = {"results": [bad, record.as_json(["email", "lastmodifieddate"])]}
        account.app.faults.append(Fault(path="/crm/v3/objects/contacts", method="GET", status=200, body=page))
        assert ids(account.contacts()) == [good]
        (item,) = Parked(account.stores).list()
        assert item.raw_ref == f"crm:hubspot/{PORTAL}/contacts/77"

    def test_a_parked_contact_is_read_again_when_asked(self, account: Account) -> None:
        account.contacts()
        payload = {"id": "77", "properties": {"lastmodifieddate": "2026-11-02T12:00:00Z"}}
        parked = Parked(account.stores)
        parked.park("tap-hubspot", "contacts", "77", ValueError("x"), payload, f"crm:hubspot/{PORTAL}/contacts/77")
        parked.ask_replay([parked.list()[0].parked_id])
        assert ids(account.contacts()) == ["77"]
        assert account.contacts() == []
        assert parked.count("replayed") == 1

    def test_a_parked_contact_of_another_account_is_left_to_the_tap_of_that_account(self, account: Account) -> None:
        payload = {"id": "77", "properties": {"lastmodifieddate": "2026-11-02T12:00:00Z"}}
        parked = Parked(account.stores)
        parked.park("tap-hubspot", "contacts", "77", ValueError("x"), payload, "crm:hubspot/99/contacts/77")
        parked.ask_replay([parked.list()[0].parked_id])
        assert account.contacts() == []
        assert parked.count("replay") == 1


class TestReplies:
    def test_a_queued_reply_is_read(self, account: Account) -> None:
        contact_id = account.person(1, phone="07700 900123")
        account.queue(contact_id, "We are on it")
        (reply,) = account.replies()
        assert reply["text"] == "We are on it"
        assert reply["channel"] == "auto"
        assert reply["author_name"] == "Ada Agent"
        assert reply["author_kind"] == "agent"
        assert reply["handles"][0] == {"kind": "hubspot_contact", "scope": PORTAL, "value": contact_id}

    def test_a_reply_comes_once_and_keeps_its_key_while_its_status_moves_on(self, account: Account) -> None:
        contact_id = account.person(1)
        account.queue(contact_id, "We are on it")
        (first,) = account.replies()
        for status in ("SENDING", "SENT", "DELIVERED"):
            account.told(contact_id, status)
            assert account.replies() == []
        account.state = {}
        assert [one["reply_key"] for one in account.replies()] == [first["reply_key"]]

    def test_a_reply_whose_status_moved_on_before_it_was_seen_is_read(self, account: Account) -> None:
        account.replies()
        contact_id = account.person(1)
        account.queue(contact_id, "First")
        account.queue(contact_id, "Overwritten while queued")
        account.told(contact_id, "SENT")
        account.queue(contact_id, "Second")
        assert [one["text"] for one in account.replies()] == ["First", "Second"]

    def test_each_reply_is_read_with_the_words_of_its_moment(self, account: Account) -> None:
        contact_id = account.person(1)
        account.queue(contact_id, "First")
        account.told(contact_id, "SENT")
        account.queue(contact_id, "Second")
        account.told(contact_id, "SENT")
        account.agent(contact_id, **{TEXT: "A draft of the third"})
        assert [one["text"] for one in account.replies()] == ["First", "Second"]

    def test_a_contact_that_nobody_queued_anything_on_costs_no_reading(self, account: Account) -> None:
        account.person(1)
        account.app.clock.advance(10)
        before = len(account.app.journal)
        assert account.replies() == []
        assert [entry["path"] for entry in account.app.journal[before:]] == ["/crm/v3/objects/contacts/search"]

    def test_an_old_reply_is_left_alone(self, account: Account) -> None:
        contact_id = account.person(1)
        account.app.clock.advance(-8 * 86_400)
        account.queue(contact_id, "Too late")
        account.app.clock.advance(8 * 86_400)
        account.told(contact_id, "SENT")
        assert account.replies() == []
        assert [one["text"] for one in account.replies(reply_max_age_days=30)] == ["Too late"]

    def test_many_candidates_are_read_fifty_at_a_time(self, account: Account) -> None:
        for number in range(60):
            contact_id = account.person(number)
            account.app.edit_contact_as_agent(contact_id, {TEXT: f"Reply {number}", STATUS: "QUEUED"})
        account.app.clock.advance(10)
        before = len(account.app.journal)
        assert len(account.replies()) == 60
        paths = [entry["path"] for entry in account.app.journal[before:]]
        assert paths.count("/crm/v3/objects/contacts/batch/read") == 2

    def test_agents_are_named_by_their_id_when_owners_cannot_be_read(self, account: Account) -> None:
        account.queue(account.person(1), "We are on it")
        account.app.faults.append(Fault(path="/crm/v3/owners", status=403))
        assert [one["author_name"] for one in account.replies()] == ["HubSpot user 9001"]

    def test_a_merge_of_contacts_makes_no_new_reply(self, account: Account) -> None:
        one, other = account.person(1), account.person(2)
        account.queue(one, "We are on it")
        (before,) = account.replies()
        account.app.merge_contacts_as_admin(one, other)
        account.app.clock.advance(10)
        assert [reply["written_at"] for reply in account.replies()] == [before["written_at"]]


class TestBoth:
    def test_only_what_is_selected_is_asked_for(self, account: Account) -> None:
        before = len(account.app.journal)
        account.replies()
        assert not [entry for entry in account.app.journal[before:] if entry["method"] == "GET"]

    def test_the_bookmarks_of_the_streams_do_not_touch_each_other(self, account: Account) -> None:
        account.queue(account.person(1), "We are on it")
        account.contacts()
        account.replies()
        cursor = account.state["bookmarks"]["cursor"]
        assert cursor["contacts_since"]
        assert cursor["replies_since"]

    @pytest.mark.parametrize("status", [429, 423, 500, 503])
    def test_a_call_that_failed_is_made_again(self, account: Account, status: int) -> None:
        contact_id = account.person(1)
        account.app.faults.append(
            Fault(
                path="/crm/v3/objects/contacts", method="GET", status=status, headers={"Retry-After": "0.05"}, times=2
            )
        )
        assert ids(account.contacts()) == [contact_id]

    def test_when_the_days_calls_are_used_up_it_stops_and_keeps_its_state(self, account: Account) -> None:
        account.person(1)
        account.contacts()
        before = account.state
        account.person(2)
        body = {"errorType": "RATE_LIMIT", "policyName": "DAILY"}
        account.app.faults.append(Fault(path="contacts/search", status=429, body=body))
        with pytest.raises(RateLimitedError, match="today"):
            account.contacts()
        assert account.state == before

    def test_an_answer_that_was_cut_short_is_not_the_end(self, account: Account) -> None:
        contact_id = account.person(1)
        account.app.faults.append(Fault(path="/crm/v3/objects/contacts", method="GET", status=200, body={}))
        assert ids(account.contacts()) == [contact_id]

    def test_an_account_that_stays_away_ends_the_run(self, account: Account) -> None:
        account.app.faults.append(Fault(path="/crm/", status=502, times=50))
        with pytest.raises(UnavailableError):
            account.contacts(max_tries=3)

    def test_neither_people_nor_tokens_get_into_the_log(
        self, account: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        account.queue(account.person(1, phone="07700 900123"), "We are on it")
        account.app.faults.append(Fault(path="/crm/", status=500))
        account.read("contacts", "replies")
        for secret in ("ana1@shop.example", "900123", "We are on it", "sandbox-token"):
            assert secret not in caplog.text


class HubSpotSource:
    """What the tap's contract reads from: contacts, and replies queued on them."""

    tap_class = TapHubSpot

    def __init__(self, account: Account) -> None:
        self.account = account

    def config(self) -> dict[str, Any]:
        """Settings for small pages, so that there are checkpoints between them."""
        return {**self.account.config, "deleted_interval_seconds": 3600, "search_interval_seconds": 0}

    def add(self, part: int) -> None:
        """Some contacts, one with a reply."""
        for number in range(3):
            self.account.person(10 * part + number, firstname="Ana", phone="07700 900123")
        self.account.app.edit_contact_as_agent(self.account.person(10 * part + 9), {TEXT: "Hello", STATUS: "QUEUED"})

    def add_bad(self) -> None:
        """A page with a contact whose address is a number."""
        bad = {"id": "77", "properties": {"email": 7, "lastmodifieddate": "2026-11-02T12:00:00Z"}}
        page = {"results": [bad], "paging": {"next": {"after": "0"}}}
        self.account.app.faults.append(Fault(path="/crm/v3/objects/contacts", method="GET", status=200, body=page))


class TestTapHubSpotContract(TapContract):
    @pytest.fixture
    def source(self, state_url: str, run_tap: RunTap) -> Iterator[HubSpotSource]:
        account = Account(state_url, run_tap, search_lag_seconds=0.0)
        account.app._limits._search.limit = 1_000
        yield HubSpotSource(account)
        account.stop()
