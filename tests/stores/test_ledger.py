"""The ledger of what was written in a CRM."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mappings.records import Handle, Message, MessageChange
from stores.database import Stores
from stores.ledger import Ledger, LedgerContact, LedgerMessage

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


@pytest.fixture
def ledger(stores: Stores) -> Ledger:
    return Ledger(stores, "hubspot", "8800001")


def _message(number: int, phone: str = "+12025550101") -> Message:
    return Message(
        message_key=f"whatsapp:1:{phone}-{number}",
        channel="whatsapp",
        account="1",
        conversation_key=f"whatsapp:1:{phone}",
        direction="inbound",
        kind="text",
        text="secret words",
        sent_at=NOON,
        author_kind="customer",
        handles=[Handle(kind="phone", value=phone)],
    )


def _written(ledger: Ledger, number: int, person_id: str = "a", phone: str = "+12025550101") -> LedgerMessage:
    entry = ledger.entry_for(
        _message(number, phone), "written", record_id=f"5000{number}", contact_id="1001", person_id=person_id
    )
    ledger.save_messages([entry])
    return entry


def test_a_contact_comes_back_as_it_was_kept(ledger: Ledger) -> None:
    contact = LedgerContact("a", "1001", True, "hash", {"phone": "mark"})
    ledger.save_contact(contact)
    assert ledger.contact("a") == contact
    assert ledger.contacts_of_record("1001") == [contact]
    ledger.forget_contact("a")
    assert ledger.contact("a") is None


def test_two_accounts_do_not_see_each_other(ledger: Ledger, stores: Stores) -> None:
    ledger.save_contact(LedgerContact("a", "1001"))
    entry = _written(ledger, 1)
    ledger.mark_carried_out(1)
    other = Ledger(stores, "hubspot", "999")
    assert other.contact("a") is None
    assert other.messages([entry.message]) == {}
    assert not other.carried_out(1)


def test_messages_are_found_by_person_handle_and_conversation(ledger: Ledger) -> None:
    first, second = _written(ledger, 1), _written(ledger, 2, phone="+12025550102")
    handle = Handle(kind="phone", value="+12025550102")
    assert ledger.messages_of_person("a") == [first, second]
    assert ledger.messages_of_person("a", handles=[handle]) == [second]
    assert ledger.messages_of_person("a", handles=[], conversation_keys=["whatsapp:1:+12025550101"]) == [first]
    assert ledger.messages_of_person("a", handles=[]) == []
    assert ledger.messages_of_person("b") == []


def test_more_messages_than_one_statement_takes_are_found(ledger: Ledger) -> None:
    entries = [_written(ledger, number) for number in range(1_000)]
    assert len(ledger.messages(entry.message for entry in entries)) == 1_000


def test_an_intent_is_found_until_it_is_settled(ledger: Ledger) -> None:
    entry = ledger.entry_for(_message(1), "intended", contact_id="1001", kept={"reference": "0123456789ab"})
    ledger.save_messages([entry])
    assert ledger.intents() == [entry]
    assert ledger.records_on_contact("1001") == set()
    ledger.forget_messages([entry.message])
    assert ledger.intents() == []


def test_a_merge_in_the_crm_renames_everything(ledger: Ledger) -> None:
    no = {"consent whatsapp 1": "no"}
    ledger.save_contact(LedgerContact("a", "1001", True, "hash", {"phone": "mark", **no}))
    entry = _written(ledger, 1)
    ledger.rename_record("1001", "1002")
    ledger.rename_record("1002", "1003")
    assert ledger.contact("a") == LedgerContact("a", "1003", written=no)
    assert ledger.messages([entry.message])[entry.message].contact_id == "1003"
    assert ledger.survivor("1001") == ledger.survivor("1002") == "1003"
    assert ledger.survivor("77") == "77"


def test_of_an_erased_message_only_the_erasure_is_left(ledger: Ledger) -> None:
    entry = _written(ledger, 1)
    ledger.save_change(_edit())
    ledger.erase_messages([entry])
    assert ledger.messages([entry.message]) == {entry.message: LedgerMessage(entry.message, "erased")}
    assert ledger.changes(_message(1).message_key) == []


def test_a_change_is_kept_once(ledger: Ledger) -> None:
    ledger.save_change(_edit())
    ledger.save_change(_edit())
    assert ledger.changes(_message(1).message_key) == [_edit()]


def test_a_note_is_replaced_by_the_next_under_its_name(ledger: Ledger) -> None:
    assert ledger.note("hubspot:1:2:3") is None
    ledger.save_note("hubspot:1:2:3", "SENT")
    ledger.save_note("hubspot:1:2:3", "READ")
    assert ledger.note("hubspot:1:2:3") == "READ"
    assert ledger.note("files hubspot:1:2:3") is None


def test_the_content_hash_does_not_depend_on_the_order(ledger: Ledger) -> None:
    assert ledger.content_hash({"a": "1", "b": "2"}) == ledger.content_hash({"b": "2", "a": "1"})
    assert ledger.content_hash({"a": "1"}) != ledger.content_hash({"a": "2"})


def test_a_failed_transaction_leaves_nothing(ledger: Ledger) -> None:
    def fail_in_the_middle() -> None:
        with ledger.transaction():
            ledger.save_contact(LedgerContact("a", "1001"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_the_middle()
    assert ledger.contact("a") is None


@pytest.mark.sqlite
def test_neither_words_nor_numbers_are_in_the_file(ledger: Ledger, stores: Stores) -> None:
    entry = ledger.entry_for(_message(1), "written", kept={"message": _message(1).model_dump(mode="json")})
    ledger.save_messages([entry])
    ledger.save_change(_edit())
    ledger.save_contact(LedgerContact("a", "1001", written={"phone": ledger.fingerprint("+12025550101")}))
    stores.close()
    stored = b"".join(path.read_bytes() for path in Path(stores.folder).glob("ledger.db*"))
    assert b"hubspot" in stored
    for secret in (b"secret words", b"2025550101", b"better words"):
        assert secret not in stored


def _edit() -> MessageChange:
    return MessageChange(
        change_key="k",
        message_key=_message(1).message_key,
        channel="whatsapp",
        account="1",
        change="edit",
        text="better words",
        changed_at=NOON,
    )
