"""A person is erased: what a HubSpot account holds of them goes too, and its receipt closes the erasure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from identity.erasure import Eraser
from mappings.errors import OneThreadError, UnavailableError
from mappings.records import Attachment, Contact, Handle, Record
from sandbox.hubspot.objects import CONTACTS
from stores.archive import EXPORTED
from stores.media import Media
from stores.parked import Parked
from stores.removals import Removals
from targets.hubspot import setup_hubspot
from targets.hubspot.timeline import ERASED_BODY
from tests.identity.erasure_world import BEN, PAGE, Life, at, message
from tests.targets.hubspot_world import PORTAL, World, world

NOW = datetime(2031, 1, 1, tzinfo=UTC)
READ = ("persons", "person_changes", "conversations", "messages")
MODELS = {model.stream: model for model in EXPORTED}
ANA = Handle(kind="messenger_psid", scope="1100", value="another-page-id")


class Shop:
    """An account, and the pipe to it."""

    def __init__(self, account: World) -> None:
        self.account = account
        self.life = Life(account.stores, account.state_url)
        self.eraser = Eraser(account.stores, self.life.rules, NOW)
        self._after: dict[str, int] = {}

    def news(self) -> list[Record]:
        self.life.archive.follow_graph()
        page = self.life.archive.changes_page(self._after, READ)
        self._after = page.after
        return [MODELS[stream].model_validate(record) for stream, record in page.records]

    def write(self) -> None:
        self.account.write(*self.news())

    def erase(self, handle: Handle) -> Any:
        return self.eraser.erase(self.life.graph.person_of(handle) or "", due=timedelta(days=30))

    def words(self) -> str:
        """All words on any timeline, and in what was deleted and can be restored."""
        kinds = self.account.app.crm._records
        records = [one for kind, of_kind in kinds.items() if kind != CONTACTS.name for one in of_kind.values()]
        return " ".join(str(one.value(name)) for one in records for name in one.history)


@pytest.fixture(params=[True, False], ids=["property", "readback"])
def shop(state_url: str, request: pytest.FixtureRequest) -> Iterator[Shop]:
    with world(state_url, unique=request.param) as account:
        made = Shop(account)
        made.life.take(
            [message(1, ANA, "Ana asks", 1), message(2, ANA, "Ana asks again", 2), message(3, BEN, "Ben asks", 3)]
        )
        made.write()
        yield made


def test_a_contact_that_we_made_goes_for_good_with_its_messages(shop: Shop) -> None:
    ben = shop.life.ben()
    erasure = shop.erase(ANA)
    assert [one.open_parts for one in shop.eraser.waiting()] == [(f"hubspot {PORTAL}",)]
    shop.write()
    assert "Ana" not in shop.words()
    assert [one["onethread_person_id"] for one in shop.account.contacts().values()] == [ben]
    assert shop.account.calls()["POST /crm/v3/objects/contacts/gdpr-delete"] == 1
    assert shop.eraser.waiting() == []
    assert Removals(shop.account.stores).asked() == {}
    assert shop.eraser.erase(erasure.person_id, due=timedelta()).state == "done"
    assert len(shop.account.texts()) == 1
    shop.account.write(*shop.news())
    assert shop.account.parked() == []


def test_a_contact_that_people_made_keeps_what_is_theirs(shop: Shop) -> None:
    life, account = shop.life, shop.account
    contact_id = account.app.create_contact_as_person(
        {"firstname": "Kim", "phone": "+12025550107", "email": "kim@shop.example"}
    )
    kim = Handle(kind="phone", value="+12025550107")
    record = Handle(kind="hubspot_contact", scope=PORTAL, value=contact_id)
    life.take([message(7, kim, "Kim asks", 7), _contact(record, kim)])
    shop.write()
    assert account.contacts()[contact_id]["communications"]
    account.app.edit_contact_as_agent(contact_id, {"onethread_reply_text": "Dear Kim"})
    erasure = shop.erase(kim)
    shop.write()
    left = account.contacts()[contact_id]
    assert (left["firstname"], left["email"], left["communications"]) == ("Kim", "kim@shop.example", [])
    assert not [name for name, value in left.items() if name.startswith("onethread_") and value]
    assert "Kim asks" not in shop.words()
    assert ERASED_BODY in shop.words()
    assert shop.eraser.waiting() == []
    # The contact is still in HubSpot, and clearing it was a change: it is read again, and stays out.
    life.take([_contact(record, kim, minute=60 * 24 * 365 * 7)])
    assert life.graph.person_of(record) is None
    assert erasure.person_id not in {one.person_id for one in life.persons()}


def test_the_receipt_says_what_was_removed(shop: Shop) -> None:
    erasure = shop.erase(ANA)
    shop.write()
    row = shop.account.stores.database("ledger").query_one(
        "SELECT counts FROM person_change WHERE sequence = ?", (erasure.sequence,)
    )
    assert row is not None
    assert row["counts"] == '{"messages": 2, "contacts deleted": 1, "contacts cleared": 0}'


def test_messages_that_a_split_was_still_to_move_are_erased_where_they_are(shop: Shop) -> None:
    """The CRM was down: for it Ana and Ben are one. They were parted, Ana was erased; it learns all at once."""
    life = shop.life
    decision = life.resolver.decide("same", [ANA, BEN], actor="ann")
    shop.write()
    assert len(shop.account.contacts()) == 1
    life.resolver.undo(decision, actor="ann")
    shop.erase(ANA)
    shop.write()
    assert "Ana" not in shop.words()
    assert "Ben asks" in shop.words()
    assert [one["onethread_person_id"] for one in shop.account.contacts().values()] == [life.ben()]


def test_nothing_is_sent_to_hubspot_of_somebody_who_was_erased_before_it_was_told(shop: Shop) -> None:
    life = shop.life
    life.take([message(20, PAGE, "Never told", 5)])
    shop.erase(PAGE)
    assert shop.eraser.waiting() == []  # nobody has to erase anything
    shop.write()
    assert "Never told" not in shop.words()
    assert len(shop.account.contacts()) == 2


def test_what_was_on_its_way_when_they_were_erased_is_not_written(shop: Shop) -> None:
    """A target that waits out a rate limit reads what was told before the erasure, and the erasure, at once."""
    life = shop.life
    life.take([message(21, ANA, "Ana asks for her data to go", 21), message(22, BEN, "Ben asks again", 22)])
    before = shop.news()
    shop.erase(ANA)
    shop.account.write(*before, *shop.news())
    assert "Ana" not in shop.words()
    assert "Ben asks again" in shop.words()
    assert [one["onethread_person_id"] for one in shop.account.contacts().values()] == [life.ben()]
    assert shop.eraser.waiting() == []
    # Whoever writes with the same handle from now on is somebody new.
    life.take([message(23, ANA, "New here", 60 * 24 * 365 * 7)])
    shop.write()
    assert "New here" in shop.words()


def test_what_was_told_before_they_were_erased_is_not_written_ahead_of_it(shop: Shop) -> None:
    shop.life.take([message(21, ANA, "Ana asks for her data to go", 21)])
    before = shop.news()
    shop.erase(ANA)
    shop.account.write(*(one for one in before if one.stream == "messages"))
    assert "for her data to go" not in shop.words()
    shop.write()
    assert "Ana" not in shop.words()
    assert shop.eraser.waiting() == []


def test_a_run_that_fails_in_the_middle_leaves_the_erasure_open(shop: Shop) -> None:
    shop.erase(ANA)
    shop.account.fail("/crm/v3/objects/contacts/gdpr-delete", status=403)
    news = shop.news()
    with contextlib.suppress(OneThreadError):  # whether it is parked or ends the run, it is not done
        shop.account.write(*news)
    assert shop.eraser.waiting() != []
    for item in shop.account.parked():
        Parked(shop.account.stores).ask_replay([item.parked_id])
    shop.account.write(*news)
    assert shop.eraser.waiting() == []
    assert "Ana" not in shop.words()


def test_a_note_whose_writing_had_no_answer_is_found_and_goes(state_url: str) -> None:
    """Only its kind tells among which records it is to be looked for."""
    with world(state_url, unique=False) as account:
        shop, kim = Shop(account), Handle(kind="phone", value="+12025550107")
        contact_id = account.app.create_contact_as_person({"firstname": "Kim", "phone": kim.value})
        record = Handle(kind="hubspot_contact", scope=PORTAL, value=contact_id)
        shop.life.take([_contact(record, kim), message(1, kim, "Kim asks", 1)])
        shop.write()
        shop.life.take([message(2, kim, "Kim asks again", 2)])
        account.fail("/crm/v3/objects/notes/batch/create", when="after", status=503)
        account.fail("/crm/v4/associations/contacts/notes/batch/read", status=503)
        with pytest.raises(UnavailableError):
            account.write(*shop.news(), max_tries=1)
        account.app.faults.clear()
        assert [one.state for one in account.ledger.intents()] == ["intended"]
        assert "Kim asks again" in shop.words()
        shop.erase(kim)
        shop.write()
        assert "Kim asks" not in shop.words()
        assert shop.eraser.waiting() == []


def test_the_files_of_a_day_go_with_it(state_url: str) -> None:
    with world(state_url, setup=False) as account:
        account.config |= {"attachments": "upload", "roll_up": True}
        setup_hubspot(account.settings, account.stores)
        shop = Shop(account)
        for number in (1, 2):
            said = message(number, ANA, "Ana asks", number)
            kept = Media(account.stores).keep(
                [f"passport {number}".encode()], max_bytes=100, message_key=said.message_key,
                expected=Attachment(kind="file", mime_type="text/plain"),
            )  # fmt: skip
            file = Attachment(kind="file", filename="a.txt", mime_type="text/plain", media_key=kept.media_key)
            shop.life.take([said.model_copy(update={"attachments": [file]})])
        shop.write()
        assert len(account.app.state()["files"]["stored"]) == 2
        shop.erase(ANA)
        shop.write()
        assert account.app.state()["files"]["stored"] == {}
        assert shop.eraser.waiting() == []


def _contact(record: Handle, *handles: Handle, minute: int = 0) -> Any:
    return Contact(
        crm="hubspot", account=PORTAL, record_id=record.value, handles=[record, *handles], name="Kim",
        modified_at=at(minute),
    )  # fmt: skip
