"""target-salesforce against the stand-in org: contacts, conversations and messages, each once, whatever happens."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mappings.errors import CredentialsError, RateLimitedError, SettingsError, UnavailableError
from mappings.ids import message_key, reply_key
from mappings.records import ArchivedMessage, Attachment, Consent, Handle, MessageChange, Profile
from sandbox.base import Fault, json_response
from sandbox.salesforce.duplicates import DuplicateRule
from stores.archive import Archive
from stores.graph import Graph
from stores.media import Media
from stores.parked import Parked
from taps.salesforce import SalesforceSettings, TapSalesforce
from targets.salesforce import TargetSalesforce
from targets.salesforce.contacts import Contacts
from targets.salesforce.fields import PACKAGED
from targets.salesforce.links import Links
from tests.contract.target import TargetContract
from tests.targets.hubspot_world import ACCOUNT, NOON, erasure, fate, lines_of, merge, message, person, phone, split
from tests.targets.salesforce_world import World, body_number, conversation, world


@pytest.fixture
def org(state_url: str) -> Iterator[World]:
    """An org that is set up."""
    with world(state_url) as made:
        made.calls()
        yield made


def email(address: str) -> Handle:
    return Handle(kind="email", value=address)


class TestBudget:
    def test_a_thousand_messages_of_a_hundred_people_take_two_writes_and_none_the_second_time(self, org: World) -> None:
        records = [
            *(person(n) for n in range(100)),
            *(conversation(n) for n in range(100)),
            *(message(n, of=n % 100) for n in range(1000)),
        ]
        org.write(*records)
        assert org.writes() == 2
        assert len(org.contacts()) == len(org.records("conversations")) == 100
        assert len(org.bodies()) == 1000
        org.write(*records)
        assert not org.calls()

    def test_a_conversation_with_somebody_without_a_name_is_written_once(self, org: World) -> None:
        records = [person(1, name=None), conversation(1), message(1)]
        org.write(*records)
        (told,) = org.records("conversations").values()
        assert told["Name__c" if "Name__c" in told else "Name"].startswith("WhatsApp")
        org.calls()
        org.write(*records)
        assert not org.calls()

    def test_without_composite_it_takes_seven(self, org: World) -> None:
        org.write(
            *(person(n) for n in range(100)),
            *(conversation(n) for n in range(100)),
            *(message(n, of=n % 100) for n in range(1000)),
            composite=False,
        )
        assert org.writes() == 7
        assert len(org.bodies()) == 1000

    def test_the_summary_says_what_was_used_and_what_is_left(
        self, org: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        org.write(person(1), message(1))
        assert "1 messages written" in caplog.text
        assert "API calls; " in caplog.text
        assert "left of the last 24 hours" in caplog.text


class TestRecords:
    def test_a_message_is_on_its_conversation_and_its_contact(self, org: World) -> None:
        org.write(person(1), conversation(1), message(1))
        contact = org.contact_of("person-1")
        (thread,) = org.records("conversations").values()
        (one,) = org.records("messages").values()
        assert one["Contact__c"] == thread["Contact__c"] == contact["Id"]
        assert one["Conversation__c"] == thread["Id"]
        assert (one["Direction__c"], one["Channel__c"], one["Sent_At__c"]) == (
            "Inbound", "WhatsApp", "2026-11-02T12:01:00.000+0000",
        )  # fmt: skip
        assert (thread["Name"], thread["Unanswered_Since__c"]) == (
            "WhatsApp · Ana Example1", "2026-11-02T12:00:00.000+0000",
        )  # fmt: skip

    def test_a_contact_has_what_an_admin_filters_on(self, org: World) -> None:
        org.write(
            person(
                1,
                last_inbound_at=NOON,
                last_inbound_channel="whatsapp",
                last_outbound_at=NOON,
                unanswered_since=NOON,
                window_closes_at=NOON,
            ),
            message(1, profile=Profile(name="Ana")),
        )
        contact = org.contact_of("person-1")
        assert contact["Thread_Channels__c"] == contact["Thread_Preferred_Channel__c"] == "WhatsApp"
        assert contact["Thread_Made_By_onethread__c"] is True
        for name in ("Last_Message_In", "Last_Message_Out", "Unanswered_Since", "Window_Closes_At"):
            assert contact[f"Thread_{name}__c"] == "2026-11-02T12:00:00.000+0000"
        assert (contact["FirstName"], contact["LastName"], contact["Phone"]) == ("Ana", "Example1", "+12025550101")

    def test_a_person_who_never_wrote_gets_no_contact(self, org: World) -> None:
        org.write(person(1, message_count=0))
        assert org.contacts() == {}

    def test_a_message_without_its_person_makes_the_contact(self, org: World) -> None:
        org.write(message(1))
        assert org.bodies_on(org.contact_of("person-1")["Id"]) == ["words of message 1."]

    def test_a_change_is_written_to_the_same_record(self, org: World) -> None:
        org.write(person(1), message(1))
        org.write(message(1, text="words of message 1. edited", edited_at=NOON))
        (one,) = org.records("messages").values()
        assert (one["Body__c"], one["Edited_At__c"]) == ("words of message 1. edited", "2026-11-02T12:00:00.000+0000")

    def test_what_is_no_longer_so_is_cleared(self, org: World) -> None:
        org.write(person(1, unanswered_since=NOON), message(1))
        org.write(person(1))
        assert org.contact_of("person-1").get("Thread_Unanswered_Since__c") is None

    def test_a_text_of_a_customer_is_shown_as_it_is(self, org: World) -> None:
        text = "<script>alert(1)</script> {!User.Id} ' OR Id != '\\ \u2028 &amp;"
        org.write(person(1), message(1, text=text))
        assert org.bodies() == [text]

    def test_nul_and_half_characters_become_replacements(self, org: World) -> None:
        org.write(person(1), message(1, text="a\0b"))
        assert org.bodies() == ["a\ufffdb"]

    def test_an_over_long_text_is_cut_visibly(self, org: World) -> None:
        org.write(person(1), message(1, text="x" * 140_000))
        (body,) = org.bodies()
        assert len(body) == 131_072
        assert body.endswith("see it in full in onethread")

    def test_attachments_are_named_and_linked(self, org: World) -> None:
        file = Attachment(kind="file", filename="invoice.pdf", mime_type="application/pdf", size_bytes=2_000,
                          media_key="0" * 32)  # fmt: skip
        link = "https://files.shop.example/{media_key}"
        org.write(person(1), message(1, attachments=[file]), attachment_url=link)
        (one,) = org.records("messages").values()
        assert one["Attachments__c"] == f"invoice.pdf (application/pdf, 2 kB) https://files.shop.example/{'0' * 32}"

    def test_a_message_of_nobody_known_is_parked(self, org: World) -> None:
        org.write(message(1, person_id=None), message(2))
        assert [one.reason for one in org.parked()] == ["Salesforce: no person on the message; run map-identity first"]
        assert len(org.bodies()) == 1


class TestExistingContacts:
    def test_one_with_the_persons_address_is_used(self, org: World) -> None:
        contact_id = org.app.create_contact_as_person(LastName="Known", Email="Ana@shop.example", Phone="0")
        org.write(person(1, phone(1), email("ana@shop.example")), message(1))
        contact = org.contact_of("person-1")
        assert contact["Id"] == contact_id
        assert (contact["LastName"], contact["Phone"]) == ("Known", "0")
        assert contact["Thread_Made_By_onethread__c"] is False
        assert len(org.contacts()) == 1

    @pytest.mark.parametrize("spelling", ["+12025550101", "(202) 555-0101", "+1 202-555-0101", "2025550101"])
    @pytest.mark.parametrize("field", ["Phone", "MobilePhone"])
    def test_one_with_the_persons_phone_is_used(self, org: World, spelling: str, field: str) -> None:
        contact_id = org.app.create_contact_as_person(**{"LastName": "Known", field: spelling})
        org.write(person(1), message(1))
        assert org.contact_of("person-1")["Id"] == contact_id

    def test_a_shared_line_says_nothing(self, org: World) -> None:
        org.app.create_contact_as_person(LastName="Known", Phone="+12025550101")
        org.write(person(1, shared_line=True, name="Desk"), message(1))
        assert len(org.contacts()) == 2

    def test_a_role_mailbox_says_nothing(self, org: World) -> None:
        org.app.create_contact_as_person(LastName="Known", Email="info@shop.example")
        org.write(person(1, phone(1), email("info@shop.example"), name="Desk"), message(1))
        assert len(org.contacts()) == 2

    def test_between_two_nobody_chooses(self, org: World) -> None:
        org.app.create_contact_as_person(LastName="One", Email="ana@shop.example")
        org.app.create_contact_as_person(LastName="Other", Phone="+12025550101")
        org.write(person(1, phone(1), email("ana@shop.example")), message(1), message(2))
        assert {(one.stream, one.error) for one in org.parked()} == {
            ("persons", "IdentityConflictError"), ("messages", "IdentityConflictError"),
        }  # fmt: skip
        assert org.bodies_on(org.contact_of("person-2")["Id"])
        assert len(org.contacts()) == 3

    def test_the_contact_of_another_person_is_not_taken(self, org: World) -> None:
        org.write(person(1), message(1))
        org.write(person(2, phone(1), phone(2), name="Ben Other"), message(2))
        assert org.contact_of("person-1")["Id"] != org.contact_of("person-2")["Id"]

    def test_a_contact_of_a_run_that_did_not_live_to_note_it_is_found(self, org: World) -> None:
        org.write(person(1), message(1))
        org.ledger.forget_contact("person-1")
        org.write(person(1), message(2, of=1))
        assert len(org.contacts()) == 1
        assert len(org.bodies_on(org.contact_of("person-1")["Id"])) == 2

    def test_without_the_ledger_nothing_is_doubled(self, org: World, tmp_path: Path) -> None:
        records = [*(person(n) for n in range(3)), *(message(n, of=n % 3) for n in range(9))]
        org.write(*records)
        org.write(*records, state_url=f"sqlite:///{tmp_path}/another")
        assert len(org.contacts()) == 3
        assert len(org.bodies()) == 9

    def test_two_jobs_at_once_make_one_contact(self, org: World) -> None:
        failed: list[BaseException] = []

        def write(number: int) -> None:
            try:
                target = TargetSalesforce(config=org.config)
                target.listen(io.StringIO("".join(lines_of([person(1), message(number, of=1)]))))
            except BaseException as error:  # noqa: BLE001  # told by the assertion
                failed.append(error)

        org.app.slow_down(0.2)
        jobs = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join(60)
        assert failed == []
        assert len(org.contacts()) == 1
        assert len(org.bodies()) == 4


class TestOwnership:
    def test_a_value_that_people_changed_stays(self, org: World) -> None:
        org.write(person(1), message(1))
        contact_id = org.contact_of("person-1")["Id"]
        org.app.edit_as_person(contact_id, {"LastName": "Rossi", "Phone": None})
        org.write(person(1, phone(1), email("ana@shop.example"), name="Ana Exempla"))
        contact = org.contact_of("person-1")
        assert (contact["LastName"], contact["FirstName"]) == ("Rossi", "Ana")
        assert contact["Email"] == "ana@shop.example"

    def test_ours_is_kept_up_to_date(self, org: World) -> None:
        org.write(person(1), message(1))
        org.write(person(1, name="Ana Exempla"))
        assert org.contact_of("person-1")["LastName"] == "Exempla"

    def test_the_message_of_a_reply_is_the_record_that_the_agent_wrote(self, org: World) -> None:
        org.write(person(1), conversation(1), message(1))
        (thread_id,) = org.records("conversations")
        reply_id = org.app.write_reply_as_agent(thread_id, "On its way!")
        key = reply_key("salesforce", org.settings.org_id, reply_id, reply_id)
        sent = message(
            2, of=1, direction="outbound", author_kind="agent", text="On its way!", reply_key=key, status="sent"
        )
        org.write(sent)
        record = org.records("messages")[reply_id]
        assert (record["Status__c"], record["Body__c"]) == ("Sent", "On its way!")
        assert record["Contact__c"] == org.contact_of("person-1")["Id"]
        assert len(org.records("messages")) == 2
        org.calls()
        org.write(sent)
        assert not org.calls()
        org.write(message(3, of=1, direction="outbound", author_kind="agent", reply_key=key))
        assert len(org.records("messages")) == 3


class TestTrouble:
    @pytest.mark.parametrize("status", [500, 502, 503])
    def test_an_unavailable_org_is_asked_again(self, org: World, status: int) -> None:
        org.fail("/services/data/v67.0/composite", status)
        org.write(person(1), conversation(1), message(1))
        assert len(org.bodies()) == len(org.contacts()) == 1

    def test_what_was_done_before_an_error_is_not_done_twice(self, org: World) -> None:
        org.write(person(9), message(9))
        org.app.be_unavailable(path="/services/data/v67.0/composite", done=True, times=3)
        org.write(person(1), conversation(1), message(1))
        assert len(org.bodies()) == len(org.contacts()) == 2

    def test_an_org_that_stays_away_ends_the_run_without_state(self, org: World) -> None:
        org.app.be_unavailable(times=99)
        with pytest.raises(UnavailableError):
            org.write(person(1), message(1), max_tries=2)
        org.app.faults.clear()
        org.write(person(1), message(1))
        assert len(org.bodies()) == 1

    def test_calls_shrink_when_the_org_is_unavailable(self, org: World) -> None:
        sizes: list[int] = []
        guard = org.app.guard

        def count(request: Any) -> Any:
            composite = request.path.endswith("/composite")
            parts = json.loads(request.get_data(as_text=True))["compositeRequest"] if composite else []
            written = [len(part["body"]["records"]) for part in parts if part["method"] == "PATCH"]
            if written:
                sizes.append(sum(written))
            return json_response([], 503) if written and len(sizes) < 3 else guard(request)

        org.app.guard = count  # type: ignore[method-assign]
        org.write(person(1), *(message(n, of=1) for n in range(900)))
        assert sizes == [602, 500, 250, 450, 202]
        assert len(org.bodies()) == 900

    def test_an_expired_session_is_renewed_with_all_headers(self, org: World) -> None:
        target_writes = [person(1), message(1)]
        org.write(*target_writes)
        org.app.sessions.close()
        org.app.journal.clear()
        org._seen = 0
        seen: list[str | None] = []
        guard = org.app.guard

        def look(request: Any) -> Any:
            if request.path.endswith(("composite", "External_Id__c")):
                seen.append(request.headers.get("Sforce-Duplicate-Rule-Header"))
                if len(seen) == 1:
                    org.app.expire_sessions()
            return guard(request)

        org.app.guard = look  # type: ignore[method-assign]
        org.write(message(2))
        assert len(org.bodies()) == 2
        assert len(seen) > 1
        assert all(seen)

    def test_when_the_days_calls_are_used_up_the_run_stops_and_a_later_one_goes_on(self, org: World) -> None:
        org.app.exhaust_quota(remaining=1)
        with pytest.raises(RateLimitedError, match=r"run again after \d\d:\d\d UTC"):
            org.write(person(1), message(1))
        org.calls()
        with pytest.raises(RateLimitedError, match=r"(?i)nothing is lost"):
            org.write(person(1), message(1))
        assert not org.calls(), "a paused org is not called at all"
        org.app.quota.limit = 100_000
        with org.stores.database("control").transaction() as database:
            database.execute("DELETE FROM pause")
        org.write(person(1), message(1))
        assert len(org.bodies()) == 1

    def test_it_leaves_other_integrations_some_calls(self, org: World) -> None:
        org.app.quota.limit = org.app.state()["api_calls"] + 5
        with pytest.raises(RateLimitedError, match="API calls of the last 24 hours are used"):
            org.write(person(1), message(1), quota_reserve_percent=80)

    def test_a_locked_row_is_tried_again(self, org: World, monkeypatch: pytest.MonkeyPatch) -> None:
        org.write(person(1), message(1))
        contact_id = org.contact_of("person-1")["Id"]
        org.app.lock_row(contact_id)
        monkeypatch.setattr("targets.salesforce.api.wait_before_retry", lambda *_: org.app.unlock_row(contact_id))
        org.write(message(2, of=1), message(3))
        assert len(org.bodies()) == 3
        assert org.parked() == []

    def test_a_row_that_stays_locked_is_parked_and_the_others_are_written(self, org: World) -> None:
        org.write(person(1), message(1))
        org.app.lock_row(org.contact_of("person-1")["Id"])
        org.write(message(2, of=1), message(3), lock_tries=2)
        (parked,) = org.parked()
        assert "UNABLE_TO_LOCK_ROW" in parked.reason
        assert len(org.bodies()) == 2

    def test_one_refused_row_is_parked_and_replayed_after_the_fix(self, org: World) -> None:
        with org.app.lock:
            org.app.fill_storage(kilobytes_left=5)
        org.write(person(1), message(1), message(2, of=1))
        assert {one.stream for one in org.parked()} == {"messages"}
        assert all("STORAGE_LIMIT_EXCEEDED" in one.reason for one in org.parked())
        org.app.org.storage_limit_kilobytes = 10**9
        Parked(org.stores).ask_replay([one.parked_id for one in org.parked()])
        org.write(message(3, of=1))
        assert len(org.bodies()) == 3
        org.calls()
        org.write(message(3, of=1))
        assert not org.calls()

    def test_a_value_that_spoils_its_whole_collection_is_parked_alone(self, org: World) -> None:
        guard = org.app.guard

        def refuse(request: Any) -> Any:
            spoiled = "words of message 7." in request.get_data(as_text=True)
            return (
                json_response([{"errorCode": "JSON_PARSER_ERROR", "message": "x"}], 400) if spoiled else guard(request)
            )

        org.app.guard = refuse  # type: ignore[method-assign]
        org.write(person(1), *(message(n, of=1) for n in range(20)))
        assert len(org.bodies()) == 19
        (parked,) = org.parked()
        assert "JSON_PARSER_ERROR" in parked.reason

    def test_a_record_that_somebody_moved_is_not_moved_back(self, org: World) -> None:
        org.write(person(1), message(1))
        (record_id,) = org.records("messages")
        other = org.app.create_contact_as_person(LastName="Other")
        org.app.edit_as_person(record_id, {"Contact__c": other})
        org.write(message(1, text="words of message 1. edited"))
        assert org.bodies_on(other) == ["words of message 1. edited"]

    def test_wrong_credentials_stop_it(self, org: World) -> None:
        with pytest.raises(CredentialsError, match="logging in was refused"):
            org.write(person(1), message(1), consumer_secret="wrong")

    def test_another_org_stops_it_before_anything_is_written(self, org: World) -> None:
        with pytest.raises(SettingsError, match="org_id says"):
            org.write(person(1), message(1), org_id="00D000000000001")
        assert org.contacts() == {}

    def test_neither_words_nor_numbers_nor_secrets_get_into_logs_or_reasons(
        self, org: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with org.app.lock:
            org.app.fill_storage(kilobytes_left=1)
        org.fail("/services/data/v67.0/composite", 500)
        org.write(person(1, phone(1), email("ana@shop.example")), message(1))
        reasons = " ".join(one.reason for one in org.parked())
        assert reasons
        for secret in ("words of message", "5550101", "ana@shop.example", org.app.consumer_secret, "!AQ"):
            assert secret not in caplog.text + reasons


class TestDuplicateRules:
    def test_the_contact_that_a_rule_finds_is_linked(self, org: World) -> None:
        rule = DuplicateRule("By_Name", "Contact", (("FirstName", "LastName"),))
        org.app.use_duplicate_rules(rule)
        contact_id = org.app.create_contact_as_person(FirstName="Ana", LastName="Example1")
        org.write(person(1), conversation(1), message(1), message(2))
        assert org.contact_of("person-1")["Id"] == contact_id
        assert org.bodies_on(contact_id) == ["words of message 1."]
        assert org.parked() == []

    def test_it_can_be_parked_instead(self, org: World) -> None:
        org.app.use_duplicate_rules(DuplicateRule("By_Name", "Contact", (("FirstName", "LastName"),)))
        org.app.create_contact_as_person(FirstName="Ana", LastName="Example1")
        org.write(person(1), message(1), on_duplicate="park")
        assert {one.stream for one in org.parked()} == {"messages", "persons"}
        assert len(org.contacts()) == 1

    def test_it_can_be_allowed(self, org: World) -> None:
        org.app.use_duplicate_rules(DuplicateRule("By_Name", "Contact", (("FirstName", "LastName"),)))
        org.app.create_contact_as_person(FirstName="Ana", LastName="Example1")
        org.write(person(1), message(1), on_duplicate="allow")
        assert len(org.contacts()) == 2

    def test_two_found_are_not_chosen_between(self, org: World) -> None:
        org.app.use_duplicate_rules(DuplicateRule("By_Name", "Contact", (("FirstName", "LastName"),), blocks=True))
        for _ in range(2):
            org.app.use_duplicate_rules()
            org.app.create_contact_as_person(FirstName="Ana", LastName="Example1")
        org.app.use_duplicate_rules(DuplicateRule("By_Name", "Contact", (("FirstName", "LastName"),), blocks=True))
        org.write(person(1), message(1))
        assert {one.error for one in org.parked()} == {"IdentityConflictError"}
        assert len(org.contacts()) == 2


class TestWhatPeopleDo:
    def test_after_a_merge_in_salesforce_messages_go_to_the_survivor(self, org: World) -> None:
        org.write(person(1), conversation(1), message(1))
        other = org.app.create_contact_as_person(LastName="Rossi")
        org.app.merge_contacts_as_admin(other, org.contact_of("person-1")["Id"])
        org.write(message(2, of=1))
        assert org.bodies_on(other) == ["words of message 1.", "words of message 2."]
        assert len(org.contacts()) == 1

    def test_after_a_merge_in_salesforce_person_and_message_go_to_the_survivor_together(self, org: World) -> None:
        org.write(person(1), message(1))
        other = org.app.create_contact_as_person(LastName="Rossi")
        org.app.merge_contacts_as_admin(other, org.contact_of("person-1")["Id"])
        org.write(person(1, unanswered_since=NOON), conversation(1), message(2, of=1))
        assert org.bodies_on(other) == ["words of message 1.", "words of message 2."]
        assert org.parked() == []

    def test_after_a_merge_in_salesforce_the_survivor_is_kept_up_to_date(self, org: World) -> None:
        org.write(person(1), message(1))
        other = org.app.create_contact_as_person(LastName="Rossi")
        org.app.merge_contacts_as_admin(other, org.contact_of("person-1")["Id"])
        org.write(person(1, unanswered_since=NOON))
        contact = org.contacts()[other]
        assert contact["Thread_Unanswered_Since__c"] == "2026-11-02T12:00:00.000+0000"
        assert contact["LastName"] == "Rossi"

    def test_a_contact_that_was_deleted_is_not_made_again(self, org: World) -> None:
        org.write(person(1), message(1))
        org.app.delete_as_admin(org.contact_of("person-1")["Id"])
        org.write(person(1, unanswered_since=NOON), message(2, of=1))
        assert org.contacts() == {}
        (parked,) = org.parked()
        assert "deleted there" in parked.reason

    def test_a_contact_that_was_brought_back_is_written_to_again(self, org: World) -> None:
        org.write(person(1), message(1))
        contact_id = org.contact_of("person-1")["Id"]
        org.app.delete_as_admin(contact_id)
        org.write(message(2, of=1))
        org.app.restore_as_admin(contact_id)
        org.write(message(3, of=1))
        assert "words of message 3." in org.bodies_on(contact_id)

    def test_a_message_that_was_deleted_is_not_made_again(self, org: World) -> None:
        org.write(person(1), conversation(1), message(1), message(2, of=1))
        (first,) = [key for key, one in org.records("messages").items() if one["Body__c"] == "words of message 1."]
        org.app.delete_as_admin(first)
        for _ in range(2):
            org.write(message(1, text="words of message 1. edited"))
        assert org.bodies() == ["words of message 2."]
        assert org.parked() == []

    def test_a_conversation_that_was_deleted_is_not_made_again(self, org: World) -> None:
        org.write(person(1), conversation(1), message(1))
        (thread,) = org.records("conversations")
        org.app.delete_as_admin(thread)
        org.write(conversation(1, message_count=2), message(2, of=1))
        assert org.records("conversations") == {}
        assert len(org.bodies_on(org.contact_of("person-1")["Id"])) == 2
        assert org.parked() == []


class TestPersonChanges:
    def test_a_merge_moves_the_records_and_deletes_the_empty_contact(self, org: World) -> None:
        org.write(person(1), person(2, name="Ben Other"), conversation(1), conversation(2), message(1), message(2))
        org.write(merge(1, 1, 2))
        contact_id = org.contact_of("person-1")["Id"]
        assert len(org.bodies_on(contact_id)) == 2
        assert {one["Contact__c"] for one in org.records("conversations").values()} == {contact_id}
        assert len(org.contacts()) == 1
        org.calls()
        org.write(merge(1, 1, 2))
        assert not org.calls()

    def test_a_split_moves_them_back(self, org: World) -> None:
        org.write(person(1), person(2, name="Ben Other"), conversation(1), conversation(2), message(1), message(2))
        org.write(merge(1, 1, 2))
        org.write(split(2, 1, 2), person(2, name="Ben Other"))
        first, second = org.contact_of("person-1")["Id"], org.contact_of("person-2")["Id"]
        assert org.bodies_on(first) == ["words of message 1."]
        assert org.bodies_on(second) == ["words of message 2."]
        assert sorted(one["Contact__c"] for one in org.records("conversations").values()) == sorted([first, second])

    def test_a_contact_that_people_made_is_left_and_only_our_fields_are_cleared(self, org: World) -> None:
        known = org.app.create_contact_as_person(LastName="Known", Email="ben@shop.example")
        org.write(
            person(1), person(2, phone(2), email("ben@shop.example"), unanswered_since=NOON), message(1), message(2)
        )
        org.write(merge(1, 1, 2))
        contact = org.contacts()[known]
        assert contact["LastName"] == "Known"
        assert contact.get("Identity_Key__c") is None
        assert contact.get("Thread_Unanswered_Since__c") is None

    @pytest.mark.parametrize("touch", [{"LastName": "Rossi"}, {"Email": "new@shop.example"}])
    def test_a_contact_that_an_agent_has_worked_on_stays(self, org: World, touch: dict[str, str]) -> None:
        org.write(person(1), person(2, name="Ben Other"), message(1), message(2))
        org.app.edit_as_person(org.contact_of("person-2")["Id"], touch)
        org.write(merge(1, 1, 2))
        assert len(org.contacts()) == 2

    def test_a_contact_with_an_agents_task_stays(self, org: World) -> None:
        org.write(person(1), person(2, name="Ben Other"), message(1), message(2))
        org.app.create_as_person("Task", {"WhoId": org.contact_of("person-2")["Id"], "Subject": "Call"})
        org.write(merge(1, 1, 2))
        assert len(org.contacts()) == 2

    def test_empty_contacts_stay_when_the_setting_says_so(self, org: World) -> None:
        org.write(person(1), person(2, name="Ben Other"), message(1), message(2))
        org.write(merge(1, 1, 2), delete_empty_projections=False)
        assert len(org.contacts()) == 2

    def test_contacts_are_merged_in_salesforce_where_that_is_asked_for(
        self, org: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        org.write(person(1), person(2, name="Ben Other"), conversation(2), message(1), message(2))
        org.write(merge(1, 1, 2), crm_merge=True)
        contact_id = org.contact_of("person-1")["Id"]
        assert list(org.app.state()["merged"].values()) == [contact_id]
        assert len(org.bodies_on(contact_id)) == 2
        assert "cannot undo" in caplog.text
        org.write(split(2, 1, 2), crm_merge=True)
        assert org.bodies_on(org.contact_of("person-2")["Id"]) == ["words of message 2."]

    def test_the_contact_that_people_made_survives(self, org: World) -> None:
        known = org.app.create_contact_as_person(LastName="Known", Email="ben@shop.example")
        org.write(person(1), person(2, phone(2), email("ben@shop.example")), message(1), message(2))
        org.write(merge(1, 1, 2), crm_merge=True)
        assert list(org.contacts()) == [known]
        assert len(org.bodies_on(known)) == 2

    def test_two_contacts_of_people_are_never_merged(self, org: World) -> None:
        for name in ("ana", "ben"):
            org.app.create_contact_as_person(LastName=name, Email=f"{name}@shop.example")
        org.write(
            person(1, phone(1), email("ana@shop.example")), person(2, phone(2), email("ben@shop.example")),
            message(1), message(2),
        )  # fmt: skip
        org.write(merge(1, 1, 2), crm_merge=True)
        assert org.app.state()["merged"] == {}
        assert len(org.bodies_on(org.contact_of("person-1")["Id"])) == 2

    def test_an_erased_person_leaves_nothing_and_does_not_come_back(self, org: World) -> None:
        org.write(person(1), conversation(1), message(1), message(2))
        org.write(erasure(1, 1))
        assert org.bodies() == ["words of message 2."]
        assert [one["Identity_Key__c"] for one in org.contacts().values()] == ["person-2"]
        assert org.records("conversations") == {} or len(org.records("conversations")) == 1
        org.write(message(1))
        assert org.bodies() == ["words of message 2."]
        assert not [one for one in org.app.org.table("Message__c").values() if one["IsDeleted"]]

    def test_somebody_who_is_erased_by_what_comes_with_their_words_is_not_written(self, org: World) -> None:
        org.write(message(2))
        org.write(person(1), conversation(1), message(1), person(2), message(3, of=2), erasure(1, 1))
        assert org.bodies() == ["words of message 2.", "words of message 3."]
        assert [one["Identity_Key__c"] for one in org.contacts().values()] == ["person-2"]
        assert len(org.records("conversations")) == 1
        assert org.parked() == []

    @pytest.mark.parametrize("touch", [{}, {"LastName": "Typed"}])
    def test_erasing_reaches_a_contact_that_a_merge_left(self, org: World, touch: dict[str, str]) -> None:
        org.write(person(1), person(2, name="Ben Other"), message(1), message(2))
        left = org.contact_of("person-2")["Id"]
        if touch:
            org.app.edit_as_person(left, touch)
        org.write(merge(1, 1, 2))
        assert (left in org.contacts()) == bool(touch)
        org.write(erasure(2, 1, 2))
        assert org.contacts() == {}
        assert left not in org.app.org.table("Contact")
        assert org.ledger.left_contacts("person-2") == []

    def test_an_erasure_is_not_done_while_the_org_keeps_our_fields_on_a_contact(self, org: World) -> None:
        known = org.app.create_contact_as_person(LastName="Known", Email="ben@shop.example")
        org.write(person(1, phone(1), email("ben@shop.example"), **NO), message(1))
        guard = org.app.guard

        def refuse(request: Any) -> Any:
            if '"Identity_Key__c":null' in request.get_data(as_text=True).replace(" ", ""):
                return json_response([{"errorCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "x"}], 400)
            return guard(request)

        org.app.guard = refuse  # type: ignore[method-assign]
        org.write(erasure(1, 1))
        org.app.guard = guard  # type: ignore[method-assign]
        (row,) = org.parked()
        assert "FIELD_CUSTOM_VALIDATION_EXCEPTION" in row.reason
        assert not org.ledger.carried_out(1)
        assert org.contacts()[known]["Thread_Opted_Out__c"] == "WhatsApp"
        Parked(org.stores).ask_replay([row.parked_id])
        org.write(erasure(2, 77))
        assert org.ledger.carried_out(1)
        assert not [name for name, value in org.contacts()[known].items() if name.endswith("__c") and value]

    def test_a_split_that_names_no_person_is_parked(self, org: World) -> None:
        org.write(split(1, 1, 2).model_copy(update={"into_person_id": None}))
        assert [one.stream for one in org.parked()] == ["person_changes"]


def said_no(number: int) -> Consent:
    """A person's "no" to advertising by WhatsApp, as a tap tells it."""
    handle = phone(number)
    return Consent(
        handle_key=handle.key, handle=handle, channel="whatsapp", account=ACCOUNT, purpose="promotional",
        status="opted_out", source="keyword", decided_at=NOON, person_id=f"person-{number}",
    )  # fmt: skip


def wishes(org: World, number: int) -> tuple[Any, Any]:
    """What the contact of a person says: advertising on which channels, and on which not."""
    contact = org.contact_of(f"person-{number}")
    return contact.get("Thread_Opted_In__c"), contact.get("Thread_Opted_Out__c")


YES: dict[str, Any] = {"opted_in": ["whatsapp"], "opted_out": []}
NO: dict[str, Any] = {"opted_in": [], "opted_out": ["whatsapp"]}


class TestConsents:
    def test_a_no_and_a_yes_are_on_the_contact_by_channel_and_are_taken_back(self, org: World) -> None:
        records = [person(1, opted_in=["email"], opted_out=["whatsapp"]), message(1)]
        org.write(*records)
        assert wishes(org, 1) == ("E-mail", "WhatsApp")
        org.calls()
        org.write(*records)
        assert not org.calls()
        org.write(person(1))
        assert wishes(org, 1) == ("E-mail", "WhatsApp"), "who says nothing of consents takes none back"
        org.write(person(1, **YES))
        assert wishes(org, 1) == ("WhatsApp", None)
        org.write(person(1, opted_in=[], opted_out=[]))
        assert wishes(org, 1) == (None, None)

    def test_a_no_said_before_there_was_a_contact_is_on_the_contact(self, org: World) -> None:
        org.write(person(1, message_count=0, **NO))
        assert org.contacts() == {}, "nobody who wrote"
        org.write(person(1, **NO), message(1))
        assert wishes(org, 1) == (None, "WhatsApp")

    def test_the_no_of_somebody_who_never_wrote_is_on_the_contact_that_people_made(self, org: World) -> None:
        contact_id = org.app.create_contact_as_person(LastName="Known")
        known = Handle(kind="salesforce_contact", scope=org.settings.org_id, value=contact_id)
        org.write(person(1, known, message_count=0, **NO))
        assert org.contacts()[contact_id]["Thread_Opted_Out__c"] == "WhatsApp"

    def test_a_no_that_was_refused_is_parked_and_a_replay_tells_what_holds_by_then(self, org: World) -> None:
        archive = Archive(org.stores)
        org.write(person(1), message(1))
        guard = org.app.guard

        def refuse(request: Any) -> Any:
            if "Thread_Opted_In__c" in request.get_data(as_text=True):
                return json_response([{"errorCode": "JSON_PARSER_ERROR", "message": "x"}], 400)
            return guard(request)

        org.app.guard = refuse  # type: ignore[method-assign]
        org.write(person(1, **YES))
        org.app.guard = guard  # type: ignore[method-assign]
        (row,) = org.parked()
        archive.fold(messages=[message(1)], consents=[said_no(1)])
        Parked(org.stores).ask_replay([row.parked_id])
        org.write(person(2))
        assert wishes(org, 1) == (None, "WhatsApp")
        assert org.parked() == []

    def test_a_pipe_without_an_archive_says_that_consents_are_not_shown(self, org: World) -> None:
        org.write(message(1), said_no(1), folded=False)
        assert org.target.counts["consents not shown for want of an archive"] == 1

    def test_a_no_goes_along_when_persons_become_one_and_back_when_they_are_two_again(self, org: World) -> None:
        org.write(person(1, **YES), person(2, name="Ben Other", **NO), message(1), message(2))
        org.write(person(1, message_count=2, **NO), merge(1, 1, 2))
        assert wishes(org, 1) == (None, "WhatsApp")
        org.write(person(1, **YES), person(2, name="Ben Other", **NO), split(2, 1, 2))
        assert wishes(org, 1) == ("WhatsApp", None)
        assert wishes(org, 2) == (None, "WhatsApp")

    @pytest.mark.parametrize("people_made", [None, "ana", "ben"])
    def test_a_no_survives_when_their_contacts_are_merged_in_salesforce(
        self, org: World, people_made: str | None
    ) -> None:
        if people_made:
            org.app.create_contact_as_person(LastName="Known", Email=f"{people_made}@shop.example")
        ana, ben = (phone(1), email("ana@shop.example")), (phone(2), email("ben@shop.example"))
        no: dict[str, Any] = {"opted_in": [], "opted_out": ["email", "whatsapp"]}
        org.write(person(1, *ana, **YES), person(2, *ben, **no), message(1), message(2))
        org.write(person(1, *ana, *ben, message_count=2, **no), merge(1, 1, 2), crm_merge=True)
        (survivor,) = org.contacts().values()
        assert (survivor["Thread_Opted_Out__c"], survivor.get("Thread_Opted_In__c")) == ("E-mail;WhatsApp", None)
        org.write(person(1, *ana, *ben, unanswered_since=NOON, **no))
        (survivor,) = org.contacts().values()
        assert (survivor["Thread_Opted_Out__c"], survivor.get("Thread_Opted_In__c")) == ("E-mail;WhatsApp", None)

    @pytest.mark.parametrize("survivor", [1, 2])
    @pytest.mark.parametrize("first", [1, 2])
    def test_a_no_survives_when_people_merge_two_contacts(self, org: World, survivor: int, first: int) -> None:
        """Identity may still keep the two persons apart: whoever writes next, each one's "no" is on the contact."""
        said: dict[int, dict[str, Any]] = {
            1: {"opted_in": ["email"], "opted_out": ["whatsapp"]},
            2: {"opted_in": ["whatsapp"], "opted_out": ["line"]},
        }
        for number in (1, 2):
            org.write(person(number, **said[number]), message(number))
        ids = {number: org.contact_of(f"person-{number}")["Id"] for number in (1, 2)}
        org.app.merge_contacts_as_admin(ids[survivor], ids[3 - survivor])
        for number, who in enumerate((first, 3 - first, first), 3):
            org.write(person(who, message_count=number, last_inbound_at=NOON, **said[who]), message(number, of=who))
            (contact,) = org.contacts().values()
            if number > 3 or first != survivor:  # who writes to the one that went finds the survivor
                told = (contact["Thread_Opted_Out__c"], contact["Thread_Opted_In__c"])
                assert told == ("LINE;WhatsApp", "E-mail")
        assert org.parked() == []

    def test_a_no_of_two_persons_on_one_contact_is_there_until_both_take_it_back(self, org: World) -> None:
        org.write(person(1, **YES), message(1), person(2, name="Ben Other", **YES), message(2))
        first, second = (org.contact_of(f"person-{number}")["Id"] for number in (1, 2))
        org.app.merge_contacts_as_admin(first, second)
        org.write(message(3, of=1), message(4, of=2))
        (contact_id,) = org.contacts()
        told = []
        for who, wish in ((1, NO), (2, NO), (1, YES), (2, YES), (2, NO), (2, YES), (1, NO)):
            org.write(person(who, **wish))
            told.append(org.contacts()[contact_id].get("Thread_Opted_Out__c"))
        assert told == ["WhatsApp", "WhatsApp", "WhatsApp", None, "WhatsApp", None, "WhatsApp"]


class TestReplies:
    def queued(self, org: World) -> tuple[str, str]:
        org.write(person(1), conversation(1), message(1))
        (thread,) = org.records("conversations")
        reply_id = org.app.write_reply_as_agent(thread, "On its way!")
        org.calls()
        return reply_id, reply_key("salesforce", org.settings.org_id, reply_id, reply_id)

    def test_the_record_says_what_became_of_its_reply(self, org: World) -> None:
        reply_id, key = self.queued(org)
        org.write(fate(key, "queued"), fate(key, "sent"), fate(key, "delivered"))
        assert org.records("messages")[reply_id]["Status__c"] == "Delivered"
        assert org.writes() == 1

    def test_what_was_taken_up_is_not_read_again_even_without_a_bookmark(
        self, org: World, run_tap: Callable[[Any], list[dict[str, Any]]]
    ) -> None:
        _, key = self.queued(org)
        settings = {name: value for name, value in org.config.items() if name in SalesforceSettings.model_fields}

        def keys_read() -> list[str]:
            messages = run_tap(TapSalesforce(config=settings, state={}))
            return [
                one["record"]["reply_key"] for one in messages if one["type"] == "RECORD" and one["stream"] == "replies"
            ]

        assert keys_read() == [key]
        assert keys_read() == [key], "until the outbox has it and the record says so, it is there to be read"
        org.write(fate(key, "queued"))
        assert keys_read() == []

    def test_a_refusal_says_why_and_who_must_act(self, org: World) -> None:
        reply_id, key = self.queued(org)
        org.write(fate(key, "refused", code="131047", reason="The window is closed.", actor="agent"))
        record = org.records("messages")[reply_id]
        assert record["Status__c"] == "Refused"
        assert "The window is closed." in record["Error__c"]
        assert "You can act on it." in record["Error__c"]

    def test_a_refused_reply_on_a_conversation_gets_its_contact_and_its_channel(self, org: World) -> None:
        reply_id, key = self.queued(org)
        assert org.records("messages")[reply_id].get("Contact__c") is None
        org.write(fate(key, "refused", reason="The window is closed."))
        record = org.records("messages")[reply_id]
        assert (record["Contact__c"], record["Channel__c"]) == (org.contact_of("person-1")["Id"], "WhatsApp")

    def test_a_sent_reply_gets_the_channel_that_it_was_sent_on(self, org: World) -> None:
        reply_id, key = self.queued(org)
        org.write(fate(key, "queued"))
        assert org.records("messages")[reply_id].get("Channel__c") is None, "another may be chosen when it is sent"
        sent = message(2, of=1, direction="outbound", author_kind="agent", reply_key=key, status="sent")
        org.write(sent, fate(key, "sent"))
        record = org.records("messages")[reply_id]
        assert (record["Contact__c"], record["Channel__c"]) == (org.contact_of("person-1")["Id"], "WhatsApp")
        assert record["Status__c"] == "Sent"

    def test_while_no_channel_was_chosen_none_is_filled_in(self, org: World) -> None:
        reply_id, key = self.queued(org)
        org.write(fate(key, "refused", channel="auto"))
        record = org.records("messages")[reply_id]
        assert (record["Status__c"], record.get("Channel__c")) == ("Refused", None)

    def test_what_the_agent_filled_in_stays(self, org: World) -> None:
        org.write(person(1), conversation(1), message(1))
        (thread,) = org.records("conversations")
        other = org.app.create_contact_as_person(LastName="Other")
        reply_id = org.app.write_reply_as_agent(thread, "On its way!", Contact__c=other, Channel__c="E-mail")
        org.write(fate(reply_key("salesforce", org.settings.org_id, reply_id, reply_id), "refused"))
        record = org.records("messages")[reply_id]
        assert (record["Contact__c"], record["Channel__c"]) == (other, "E-mail")

    def test_a_channel_that_the_field_map_leaves_out_is_not_filled_in(self, org: World, tmp_path: Path) -> None:
        fields = tmp_path / "fields.yml"
        packaged = PACKAGED.read_text(encoding="utf-8")
        of_messages = packaged.index("message:\n")
        without = packaged[of_messages:].replace("channel: Channel__c", "channel: null", 1)
        fields.write_text(packaged[:of_messages] + without, encoding="utf-8")
        reply_id, key = self.queued(org)
        org.write(fate(key, "refused"), fields_file=str(fields))
        record = org.records("messages")[reply_id]
        assert (record["Status__c"], record.get("Channel__c")) == ("Refused", None)

    def test_a_status_never_moves_back_and_the_same_again_makes_no_call(self, org: World) -> None:
        reply_id, key = self.queued(org)
        org.write(fate(key, "read"))
        org.calls()
        org.write(fate(key, "sent"), fate(key, "read"))
        assert not org.calls()
        assert org.records("messages")[reply_id]["Status__c"] == "Read"

    def test_a_record_that_was_deleted_is_told_nothing(self, org: World) -> None:
        reply_id, key = self.queued(org)
        org.app.delete_as_admin(reply_id)
        org.write(fate(key, "sent"))
        assert org.parked() == []
        org.calls()
        org.write(fate(key, "sent"))
        assert not org.calls()

    def test_replies_of_another_org_and_receipts_of_messages_are_left(self, org: World) -> None:
        org.write(
            fate(reply_key("hubspot", "8800001", "1", "x"), "sent"),
            fate(message_key("whatsapp", ACCOUNT, "wamid.1"), "sent", subject_kind="message", reply_key=None),
        )
        assert not org.calls()
        assert org.parked() == []

    def test_a_key_that_is_none_is_parked(self, org: World) -> None:
        org.write(fate("nonsense", "sent"))
        assert [one.stream for one in org.parked()] == ["receipts"]


class TestFieldMap:
    def write_map(self, folder: Path, text: str) -> str:
        file = folder / "fields.yml"
        file.write_text(text)
        return str(file)

    def packaged(self) -> str:
        return Path("targets/salesforce/fields.yml").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("Body__c", "Words__c", "message: body -> Words__c does not exist"),
            (
                "preview: Preview__c",
                "preview: Removed_At__c\n  removed_at: null",
                "preview -> Removed_At__c takes no text",
            ),
            ("name: Name", "name: SystemModstamp", "name -> SystemModstamp takes no text"),
        ],
    )
    def test_a_field_that_does_not_fit_ends_the_run_before_the_first_write(
        self, org: World, tmp_path: Path, old: str, new: str, words: str
    ) -> None:
        text = self.packaged().replace("  removed_at: Removed_At__c\n", "" if "removed_at" in new else
                                       "  removed_at: Removed_At__c\n").replace(old, new)  # fmt: skip
        with pytest.raises(SettingsError, match=words):
            org.write(person(1), message(1), fields_file=self.write_map(tmp_path, text))
        assert org.contacts() == {}

    def test_a_field_of_the_orgs_own_is_written(self, org: World, tmp_path: Path) -> None:
        text = self.packaged().replace("channels: Thread_Channels__c", "channels: Department")
        org.write(person(1), message(1), fields_file=self.write_map(tmp_path, text))
        assert org.contact_of("person-1")["Department"] == "WhatsApp"

    def test_a_fact_can_be_left_out(self, org: World, tmp_path: Path) -> None:
        text = self.packaged().replace("channels: Thread_Channels__c", "channels: null")
        org.write(person(1), message(1), fields_file=self.write_map(tmp_path, text))
        assert org.contact_of("person-1").get("Thread_Channels__c") is None

    def test_an_org_that_is_not_set_up_is_named(self, state_url: str) -> None:
        with world(state_url, setup=False) as org, pytest.raises(SettingsError, match="onethread setup salesforce"):
            org.write(person(1), message(1))


class TestTasks:
    @pytest.fixture
    def org(self, state_url: str) -> Iterator[World]:
        with world(state_url, settings={"mode": "tasks"}) as made:
            made.calls()
            yield made

    def test_a_message_is_a_completed_task_of_its_contact(self, org: World) -> None:
        records = [person(1), conversation(1), message(1)]
        org.write(*records)
        (task,) = org.records("tasks").values()
        assert task["WhoId"] == org.contact_of("person-1")["Id"]
        assert (task["Subject"], task["Description"]) == ("WhatsApp · customer → us", "words of message 1.")
        assert (task["Status"], task["ActivityDate"]) == ("Completed", "2026-11-02")
        org.calls()
        org.write(*records)
        assert not org.calls()

    def test_a_merge_moves_tasks(self, org: World) -> None:
        org.write(person(1), person(2, name="Ben Other"), message(1), message(2))
        org.write(merge(1, 1, 2))
        assert {one["WhoId"] for one in org.records("tasks").values()} == {org.contact_of("person-1")["Id"]}


class TestBulk:
    def test_many_messages_go_by_a_job_and_long_ones_do_not(self, org: World) -> None:
        records = [
            person(1),
            *(message(n, of=1) for n in range(60)),
            message(60, of=1, text="words of message 60. " * 2_000),
        ]
        org.write(*records, bulk_threshold_rows=50)
        assert {body_number(body) for body in org.bodies()} == set(range(61))
        assert list(org.app.state()["jobs"].values()) == ["JobComplete"]
        org.calls()
        org.write(*records, bulk_threshold_rows=50)
        assert not org.calls()
        assert len(org.bodies_on(org.contact_of("person-1")["Id"])) == 61

    def test_a_failed_row_of_a_job_is_parked(self, org: World) -> None:
        org.write(person(1), message(100, of=1))
        org.app.fill_storage(kilobytes_left=2 * 55)
        org.write(*(message(n, of=1) for n in range(60)), bulk_threshold_rows=50)
        assert len(org.bodies()) + len(org.parked()) == 61
        assert org.parked()
        assert all("STORAGE_LIMIT_EXCEEDED" in one.reason for one in org.parked())


class TestFiles:
    def stored(self, org: World, key: str) -> str:
        media = Media(org.stores)
        expected = Attachment(kind="file", mime_type="text/plain")
        return media.keep([b"hello"], max_bytes=100, expected=expected, message_key=key).media_key

    def test_a_file_is_uploaded_once(self, org: World) -> None:
        key = self.stored(org, message(1).message_key)
        file = Attachment(kind="file", filename="note.txt", mime_type="text/plain", media_key=key)
        for _ in range(2):
            org.write(person(1), message(1, attachments=[file]), attachments="upload")
        org.write(message(1, attachments=[file], text="words of message 1. edited"), attachments="upload")
        (one,) = org.records("files").values()
        assert one["Title"] == "1. note.txt"

    def test_a_crash_between_message_and_file_is_made_good(self, org: World) -> None:
        key = self.stored(org, message(1).message_key)
        file = Attachment(kind="file", filename="note.txt", mime_type="text/plain", media_key=key)
        org.app.faults.append(Fault(path="/services/data/v67.0/sobjects/ContentVersion", status=503, times=9))
        with pytest.raises(UnavailableError):
            org.write(person(1), message(1, attachments=[file]), attachments="upload", max_tries=2)
        org.app.faults.clear()
        org.write(person(1), message(1, attachments=[file]), attachments="upload")
        assert len(org.records("files")) == len(org.bodies()) == 1

    @pytest.mark.parametrize("by_then", ["upload", "link"])
    def test_erasing_takes_the_file_along(self, org: World, by_then: str) -> None:
        key = self.stored(org, message(1).message_key)
        file = Attachment(kind="file", filename="note.txt", mime_type="text/plain", media_key=key)
        org.write(person(1), message(1, attachments=[file]), attachments="upload")
        org.write(erasure(1, 1), attachments=by_then)
        assert not list(org.app.org.live("ContentDocument"))


class TestWithTheGraph:
    def test_a_bare_pipe_finds_the_contact_that_the_graph_knows(self, org: World) -> None:
        known = org.app.create_contact_as_person(LastName="Known")
        handle = Handle(kind="salesforce_contact", scope=org.settings.org_id, value=known)
        org.write(person(1, phone(1), handle), message(1))
        assert org.bodies_on(known) == ["words of message 1."]
        assert Graph(org.stores).current("person-1") == "person-1"

    def test_when_the_graph_names_another_contact_everything_moves_there(self, org: World) -> None:
        org.write(person(1), conversation(1), message(1))
        known = org.app.create_contact_as_person(LastName="Known")
        handle = Handle(kind="salesforce_contact", scope=org.settings.org_id, value=known)
        org.write(person(1, phone(1), handle), message(2, of=1))
        assert org.bodies_on(known) == ["words of message 1.", "words of message 2."]
        assert list(org.contacts()) == [known]

    def test_a_run_that_dies_on_the_way_to_another_contact_is_finished_by_the_next(
        self, org: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        org.write(person(1), conversation(1), message(1))
        known = org.app.create_contact_as_person(LastName="Known")
        handle = Handle(kind="salesforce_contact", scope=org.settings.org_id, value=known)
        for method in ("move", "retire"):
            with monkeypatch.context() as patch:
                patch.setattr(Links if method == "move" else Contacts, method, die)
                with pytest.raises(KeyboardInterrupt):
                    org.write(person(1, phone(1), handle))
        org.write(person(1, phone(1), handle, message_count=2))
        assert list(org.contacts()) == [known]
        assert org.bodies_on(known) == ["words of message 1."]
        assert org.contact_of("person-1")["Id"] == known
        assert org.parked() == []

    def test_a_message_that_cannot_go_to_another_contact_parks_its_person_and_stops_nothing(self, org: World) -> None:
        org.write(person(1), conversation(1), message(1), message(2, of=1))
        (first,) = org.contacts()
        (spoiled,) = [key for key, one in org.records("messages").items() if "message 2." in one["Body__c"]]
        known = org.app.create_contact_as_person(LastName="Known")
        handle = Handle(kind="salesforce_contact", scope=org.settings.org_id, value=known)
        guard = org.app.guard

        def refuse(request: Any) -> Any:
            if spoiled in request.get_data(as_text=True):
                return json_response([{"errorCode": "JSON_PARSER_ERROR", "message": "x"}], 400)
            return guard(request)

        org.app.guard = refuse  # type: ignore[method-assign]
        org.write(person(1, phone(1), handle), message(3, of=1), person(2), message(4, of=2))
        assert [(one.stream, one.error) for one in org.parked()] == [("persons", "RejectedError")]
        assert org.bodies_on(known) == ["words of message 1."]
        assert org.bodies_on(first) == ["words of message 2.", "words of message 3."]
        assert org.bodies_on(org.contact_of("person-2")["Id"]) == ["words of message 4."]
        org.app.guard = guard  # type: ignore[method-assign]
        Parked(org.stores).ask_replay([one.parked_id for one in org.parked()])
        org.write(person(2))
        assert org.bodies_on(known) == [f"words of message {number}." for number in (1, 2, 3)]
        assert org.contact_of("person-1")["Id"] == known
        assert org.parked() == []


def die(*_: Any, **__: Any) -> None:
    """As a process that is killed."""
    raise KeyboardInterrupt


class TestBarePipe:
    @pytest.mark.parametrize("first", ["message", "change"])
    def test_changes_are_shown_whichever_comes_first(self, org: World, first: str) -> None:
        edit = change("edit", text="better words")
        records = [message(1), edit] if first == "message" else [edit, message(1)]
        for record in records:
            org.write(record, folded=False)
        assert org.bodies() == ["better words"]

    def test_what_was_taken_back_is_kept_nowhere(self, org: World) -> None:
        org.write(message(1), change("unsend"), folded=False)
        (one,) = org.records("messages").values()
        assert one.get("Body__c") is None
        assert one["Preview__c"] == "(removed by the sender)"

    def test_changes_are_left_to_the_archive_where_there_is_one(self, org: World) -> None:
        org.write(message(1), change("edit", text="better words"))
        assert org.bodies() == ["words of message 1."]


def change(kind: str, **values: Any) -> MessageChange:
    return MessageChange.model_validate(
        {
            "change_key": f"{message(1).message_key}:{kind}:1", "message_key": message(1).message_key,
            "channel": "whatsapp", "account": "1", "change": kind, "changed_at": NOON, **values,
        }
    )  # fmt: skip


class TestTargetSalesforceContract(TargetContract):
    target_class = TargetSalesforce
    record_model = ArchivedMessage

    @pytest.fixture
    def destination(self, state_url: str) -> Iterator[World]:
        with world(state_url) as made:
            yield made

    def settings(self, destination: World) -> dict[str, Any]:
        return destination.config

    def record(self, number: int) -> dict[str, Any]:
        return message(number, of=number % 7).model_dump(mode="json")

    def written(self, destination: World) -> set[int]:
        return {body_number(body) for body in destination.bodies()}

    def effect(self, destination: World) -> Any:
        state = destination.app.state()
        return state["contacts"], state["messages"]

    def break_destination(self, destination: World, monkeypatch: pytest.MonkeyPatch) -> None:
        answer = destination.app._answer
        writes: list[str] = []

        def refuse(request: Any) -> Any:
            body = request.get_data(as_text=True)
            if "Message__c" in body and '"records"' in body:
                writes.append(request.path)
                if len(writes) > 2:
                    return json_response([{"errorCode": "API_DISABLED_FOR_ORG", "message": "no"}], 403)
            return answer(request)

        monkeypatch.setattr(destination.app, "_answer", refuse)
