"""A phone number that somebody else has now: whose its messages are, in the archive and on the contacts of a CRM."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from identity.resolver import Resolver
from identity.rules import load_rules
from mappings.ids import conversation_key, message_key
from mappings.records import Consent, Handle, Message, MessageChange, Person, PersonChange, Profile, Receipt
from stores.archive import EXPORTED, Archive
from stores.database import Stores
from stores.graph import FORMER, Graph
from tests.targets.hubspot_world import World, world

START = datetime(2025, 1, 10, 12, tzinfo=UTC)
CUT = START + timedelta(days=200)
OURS = "+12025550150"
NUMBER = Handle(kind="phone", value="+12025550101")
KEY = conversation_key("twilio", OURS, NUMBER.value)
READ = ("persons", "person_changes", "conversations", "messages")
MODELS = {model.stream: model for model in EXPORTED}


def sms(number: int, days: int, who: str, **fields: Any) -> Message:
    """A message by phone number alone; `who` said it, which only its words tell."""
    values: dict[str, Any] = {
        "message_key": message_key("twilio", OURS, f"SM{number}"), "channel": "twilio", "account": OURS,
        "conversation_key": KEY, "direction": "inbound", "kind": "text", "text": f"words {number} of {who}.",
        "sent_at": START + timedelta(days=days), "author_kind": "customer", "handles": [NUMBER],
        "profile": Profile(name=who),
    }  # fmt: skip
    return Message(**(values | fields))


def whatsapp(number: int, days: int, who: str) -> Message:
    """A WhatsApp message of the number's owner, whose id is their own."""
    key = conversation_key("whatsapp", "1065", NUMBER.value)
    handles = [Handle(kind="whatsapp_user", scope="portfolio", value=who), NUMBER]
    message_id = message_key("whatsapp", "1065", f"wamid.{number}")
    return sms(
        number, days, who, message_key=message_id, channel="whatsapp", account="1065", conversation_key=key,
        handles=handles,
    )  # fmt: skip


OLD = [sms(1, 0, "Ana"), sms(2, 5, "Ana", direction="outbound", author_kind="agent", profile=None), sms(3, 9, "Ana")]
NEW = [sms(4, 300, "Bob"), sms(5, 305, "Bob")]


class Shop:
    """An archive with its graph, fed as a pipe feeds them."""

    def __init__(self, stores: Stores) -> None:
        self.graph = Graph(stores)
        self.resolver = Resolver(Graph(stores), load_rules())
        self.archive = Archive(stores)
        self.after: dict[str, int] = {}

    def take(self, *messages: Message) -> None:
        """Resolve, stamp and archive them."""
        persons = self.resolver.resolve(messages)
        stamped = [
            message.model_copy(update={"person_id": person})
            for message, person in zip(messages, persons, strict=True)
        ]  # fmt: skip
        self.archive.fold(messages=stamped)

    def cut(self) -> int:
        return self.resolver.decide("recycled", [NUMBER], actor="ann", since=CUT)

    def news(self) -> list[Any]:
        """What a reader of the archive has not been told yet."""
        self.archive.follow_graph()
        page = self.archive.changes_page(self.after, READ)
        self.after = page.after
        return [MODELS[stream].model_validate(record) for stream, record in page.records]

    def words(self, person_id: str | None) -> list[str | None]:
        return [one.text for one in self.archive.thread(person_id or "")]

    def owners(self) -> tuple[str | None, str | None]:
        """The former and the present owner."""
        return self.graph.person_of(NUMBER, START), self.graph.person_of(NUMBER)

    def told(self) -> list[Any]:
        """Everything the archive says, without the order in which it learned it; persons by their first words."""
        self.archive.follow_graph()
        names = {person["person_id"]: self.words(person["person_id"]) for _, person in self.archive.changes("persons")}
        found: list[Any] = []
        for stream in ("conversations", "messages"):
            for _, record in self.archive.changes(stream):
                found.append((stream, str({**record, "person_id": names.get(record["person_id"])})))
        return sorted(found)


@pytest.fixture
def shop(stores: Stores) -> Shop:
    return Shop(stores)


def check_apart(shop: Shop) -> None:
    shop.archive.follow_graph()
    former, present = shop.owners()
    assert former is not None
    assert present is not None
    assert former != present
    assert shop.words(former) == [one.text for one in OLD]
    assert shop.words(present) == [one.text for one in NEW]
    for person_id, messages in ((former, OLD), (present, NEW)):
        (conversation,) = shop.archive.conversations_of(person_id)
        assert conversation.message_count == len(messages)
        for message in messages:
            archived = shop.archive.message(message.message_key)
            assert archived is not None
            assert (archived.person_id, archived.conversation_key) == (person_id, conversation.conversation_key)
            assert archived.handles == [NUMBER]


def check_together(shop: Shop) -> None:
    shop.archive.follow_graph()
    former, present = shop.owners()
    assert former == present
    assert shop.words(present) == [one.text for one in (*OLD, *NEW)]
    (conversation,) = shop.archive.conversations_of(present or "")
    assert (conversation.conversation_key, conversation.message_count) == (KEY, 5)


@pytest.mark.parametrize("moment", range(4))
def test_what_was_sent_before_is_the_former_owners_whenever_that_is_found_out(shop: Shop, moment: int) -> None:
    for place, messages in enumerate((OLD[:2], NEW[:1], [*NEW[1:], *OLD[2:]])):
        if place == moment:
            shop.cut()
        shop.take(*messages)
    if moment == 3:
        check_together(shop)
        shop.cut()
    check_apart(shop)


@pytest.mark.sqlite
def test_any_order_of_arrival_tells_the_same(tmp_path: Path) -> None:
    tellings = []
    for order in itertools.permutations(range(3)):
        stores = Stores(str(tmp_path / "".join(map(str, order))))
        shop = Shop(stores)
        for place in order:
            if place == 2:
                shop.cut()
            else:
                shop.take(*(OLD, NEW)[place])
        check_apart(shop)
        tellings.append(shop.told())
        stores.close()
    assert all(telling == tellings[0] for telling in tellings)


def test_taking_the_decision_back_gives_all_back(shop: Shop) -> None:
    shop.take(*OLD, *NEW)
    before = shop.told()
    decision = shop.cut()
    check_apart(shop)
    assert shop.resolver.undo(decision, actor="ann")
    check_together(shop)
    assert [one for one in shop.told() if "'message_count': 0" not in one[1]] == before


def test_a_message_that_comes_late_gets_its_former_owner_from_map_identity(shop: Shop) -> None:
    shop.take(*OLD[:1], *NEW)
    shop.cut()
    former, present = shop.owners()
    assert shop.resolver.resolve([OLD[2], NEW[0]]) == [former, present]


def test_nothing_can_be_sent_to_a_former_owners_number(shop: Shop) -> None:
    shop.take(*OLD, *NEW)
    shop.cut()
    shop.archive.follow_graph()
    (conversation,) = shop.archive.conversations_of(shop.owners()[0] or "")
    assert [handle.kind for handle in conversation.handles] == [f"{FORMER}phone"]
    assert conversation.conversation_key != KEY


def test_each_owner_is_found_by_their_own_name(shop: Shop) -> None:
    shop.take(*OLD, *NEW)
    shop.cut()
    shop.archive.follow_graph()
    former, present = shop.owners()
    assert shop.archive.find_person("Ana") == [former]
    assert shop.archive.find_person("Bob") == [present]


def test_changes_consents_and_watermarks_follow_their_time(shop: Shop) -> None:
    shop.take(*OLD, *NEW)
    edit = MessageChange(
        change_key="edit", message_key=OLD[0].message_key, channel="twilio", account=OURS, change="edit",
        text="edited", changed_at=START + timedelta(days=1), handles=[NUMBER],
    )  # fmt: skip
    consent = Consent(
        handle_key=NUMBER.key, handle=NUMBER, channel="twilio", account=OURS, purpose="promotional",
        status="opted_in", source="keyword", decided_at=START,
    )  # fmt: skip
    shop.archive.fold(changes=[edit], consents=[consent])
    shop.cut()
    shop.archive.follow_graph()
    read = Receipt(
        subject_key=KEY, subject_kind="conversation", status="read", channel="twilio", account=OURS,
        up_to_at=CUT - timedelta(days=1), occurred_at=CUT - timedelta(days=1),
    )  # fmt: skip
    shop.archive.fold(receipts=[read])
    former, _ = shop.owners()
    (change,) = shop.archive.changes_of(OLD[0].message_key)
    assert (change.person_id, change.conversation_key) == (
        former,
        shop.archive.conversations_of(former or "")[0].conversation_key,
    )
    found = shop.archive.consent(NUMBER.key, "twilio", OURS, "promotional")
    assert found is None  # what a former owner allowed is not allowed by the present one
    ((_, told),) = shop.archive.changes("consents")
    assert told["person_id"] == former
    answered = shop.archive.message(OLD[1].message_key)
    assert answered is not None
    assert answered.status == "read"


@pytest.mark.parametrize(("status", "theirs"), [("opted_out", ([], ["twilio"])), ("opted_in", ([], []))])
def test_what_somebody_wished_stays_with_whoever_had_the_number_then(shop: Shop, status: Any, theirs: Any) -> None:
    """A former owner's "yes" is of no use to anybody; a "no" stands."""
    shop.take(*OLD, *NEW)
    consent = Consent(
        handle_key=NUMBER.key, handle=NUMBER, channel="twilio", account=OURS, purpose="promotional",
        status=status, source="keyword", decided_at=START,
    )  # fmt: skip
    shop.archive.fold(consents=[consent])

    def wishes(person_id: str | None) -> Any:
        person = shop.archive.person(person_id or "")
        return (person.opted_in, person.opted_out) if person else None

    before = wishes(shop.owners()[1])
    assert before in ((["twilio"], []), ([], ["twilio"]))
    decision = shop.cut()
    shop.archive.follow_graph()
    former, present = shop.owners()
    assert (wishes(former), wishes(present)) == (theirs, ([], []))
    shop.resolver.undo(decision, actor="ann")
    shop.archive.follow_graph()
    assert wishes(shop.owners()[1]) == before


def test_a_conversation_named_by_the_number_is_two_though_each_owner_has_an_id(shop: Shop) -> None:
    """The number stands second on these messages: their heads tell the owners, the conversation's key does not."""
    shop.take(whatsapp(1, 0, "ana"), whatsapp(2, 200, "bob"), whatsapp(3, 201, "bob"))
    shop.archive.follow_graph()
    former, present = shop.owners()
    assert shop.words(former) == ["words 1 of ana."]
    assert shop.words(present) == ["words 2 of bob.", "words 3 of bob."]


# On the contacts of a CRM


@pytest.fixture(params=[True, False], ids=["property", "readback"])
def account(state_url: str, request: pytest.FixtureRequest) -> Iterator[World]:
    with world(state_url, unique=request.param) as made:
        yield made


def on_contact(account: World, person_id: str | None) -> list[str]:
    """Whose words are on the contact of a person."""
    bodies = account.texts_on(account.contact_of(person_id or "")["id"])
    return [body.partition("words ")[2].partition(".")[0] for body in bodies]


def check_contacts(account: World, shop: Shop) -> None:
    former, present = shop.owners()
    assert on_contact(account, former) == ["1 of Ana", "2 of Ana", "3 of Ana"]
    assert on_contact(account, present) == ["4 of Bob", "5 of Bob"]
    assert len(account.texts()) == 5


def test_each_contact_shows_its_owners_messages_whenever_that_is_found_out(account: World, shop: Shop) -> None:
    shop.take(*OLD, *NEW)
    account.write(*shop.news())
    assert len(on_contact(account, shop.owners()[1])) == 5
    decision = shop.cut()
    account.write(*shop.news())
    check_contacts(account, shop)
    assert shop.resolver.undo(decision, actor="ann")
    account.write(*shop.news())
    assert len(on_contact(account, shop.owners()[1])) == 5
    assert account.parked() == []


def test_contacts_are_right_from_the_start_when_it_is_known_before(account: World, shop: Shop) -> None:
    shop.cut()
    shop.take(*NEW, *OLD)
    account.write(*shop.news())
    check_contacts(account, shop)


def test_the_change_alone_moves_exactly_the_messages_since(account: World, shop: Shop) -> None:
    shop.take(*OLD, *NEW)
    account.write(*shop.news())
    shop.cut()
    news = shop.news()
    (change,) = [one for one in news if isinstance(one, PersonChange)]
    (span,) = change.spans
    assert (span.handle, span.since, span.until) == (NUMBER, CUT, None)
    account.write(*(one for one in news if isinstance(one, (Person, PersonChange))))
    check_contacts(account, shop)
