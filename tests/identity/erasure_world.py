"""A state full of one person, and of another who must not suffer when that one is erased."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from identity.erasure import Eraser
from identity.resolver import Resolver
from identity.rules import load_rules
from mappings.errors import PayloadError, SettingsError
from mappings.ids import change_key, conversation_key, message_key, reply_key
from mappings.records import (
    STREAMS,
    Attachment,
    Consent,
    Contact,
    Evidence,
    Handle,
    Message,
    MessageChange,
    Person,
    Profile,
    Receipt,
    Record,
    Reply,
)
from stores.archive import Archive
from stores.database import Stores
from stores.deliveries import Deliveries
from stores.graph import Graph
from stores.ledger import Ledger, LedgerContact
from stores.media import Media
from stores.outbox import Outbox
from stores.parked import Parked
from stores.spool import Spool
from taps.whatsapp import TapWhatsApp

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PORTAL = "8800001"
ACCOUNT = "106540352242922"
MAILBOX = "care@shop.example"
CANARIES = (
    "12025550101", "US.ana1canary", "ana.canary@mail.example", "Anabel Canary", "Anabel", "parrot", "canary-page-id",
    "root-canary",
)  # fmt: skip
"""What may be left nowhere: numbers, ids, addresses, names and words of Ana."""

PHONE = Handle(kind="phone", value="+12025550101")
EMAIL = Handle(kind="email", value="ana.canary@mail.example")
PAGE = Handle(kind="messenger_psid", scope="1100", value="canary-page-id")
CONTACT = Handle(kind="hubspot_contact", scope=PORTAL, value="5001")
BEN = Handle(kind="messenger_psid", scope="1100", value="ben-page-id")


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def whatsapp(number: int, words: str, who: str = "ana", minute: int = 0) -> dict[str, Any]:
    """What WhatsApp posts for one message."""
    phone, user, name = {
        "ana": ("12025550101", "US.ana1canary", "Anabel Canary"),
        "ben": ("12025550102", "US.ben1other", "Ben Other"),
    }[who]
    message = {"from": phone, "from_user_id": user, "id": f"wamid.{who}{number}", "type": "text",
               "timestamp": str(int(at(minute).timestamp())), "text": {"body": words}}  # fmt: skip
    contact = {"profile": {"name": name}, "wa_id": phone, "user_id": user}
    return {"messages": [message], "contacts": [contact]}


def delivery(*values: dict[str, Any]) -> bytes:
    """One delivery with these messages, one change for each."""
    facts = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": ACCOUNT}}
    changes = [{"field": "messages", "value": {**facts, **value}} for value in values]
    return json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "2", "changes": changes}]}).encode()


def message(number: int, handle: Handle, words: str, minute: int, **fields: Any) -> Message:
    """A Messenger message, unless fields say otherwise."""
    values: dict[str, Any] = {
        "message_key": message_key("messenger", "1100", f"m_{number}"), "channel": "messenger", "account": "1100",
        "conversation_key": conversation_key("messenger", "1100", handle.value), "direction": "inbound",
        "kind": "text", "text": words, "sent_at": at(minute), "author_kind": "customer", "handles": [handle],
        "raw_ref": f"poll:{number}",
    }  # fmt: skip
    return Message(**(values | fields))


def mail(number: int, words: str, minute: int, *refers_to: str) -> Message:
    ids = [f"mail{number}@mail.example", *refers_to]
    return message(
        number, EMAIL, words, minute, message_key=message_key("email", MAILBOX, ids[0]), channel="email",
        account=MAILBOX, conversation_key=conversation_key("email", MAILBOX, ids[-1]), thread_ids=ids,
        subject="About the parrot", profile=Profile(name="Anabel Canary"),
    )  # fmt: skip


ANA: list[Record] = [
    Contact(
        crm="hubspot", account=PORTAL, record_id="5001", handles=[CONTACT, EMAIL, PHONE], name="Anabel Canary",
        modified_at=at(-100),
    ),
    mail(1, "Is the parrot well? Anabel", 10),
    mail(2, "The parrot is well.", 12, "mail1@mail.example", "root-canary@mail.example"),
    Evidence(
        evidence_key="link", method="account_link", strength="verified", channel="messenger", account="1100",
        handles=[PAGE, EMAIL], observed_at=at(5), profile=Profile(name="Anabel Canary", locale="en_US"),
    ),
    Evidence(
        evidence_key="typed", method="contact_card", strength="claimed", channel="messenger", account="1100",
        handles=[PAGE, Handle(kind="email", value="typed.canary@mail.example")], observed_at=at(6),
    ),
    message(3, PAGE, "My parrot again", 20, profile=Profile(name="Anabel Canary")),
    message(4, PAGE, "Here: the parrot", 21, direction="outbound", author_kind="agent",
            reply_key=reply_key("hubspot", PORTAL, "5001", "m1")),
    MessageChange(
        change_key=change_key(message_key("messenger", "1100", "m_3"), "edit", "1"),
        message_key=message_key("messenger", "1100", "m_3"), channel="messenger", account="1100", change="edit",
        text="My green parrot again", changed_at=at(22), handles=[PAGE],
    ),
    Receipt(
        subject_key=message_key("messenger", "1100", "m_4"), subject_kind="message", status="delivered",
        channel="messenger", account="1100", occurred_at=at(23),
    ),
    Receipt(
        subject_key=conversation_key("messenger", "1100", PAGE.value), subject_kind="conversation", status="read",
        channel="messenger", account="1100", occurred_at=at(24), up_to_at=at(24),
    ),
    Consent(
        handle_key=PAGE.key, handle=PAGE, channel="messenger", account="1100", purpose="promotional",
        status="opted_in", source="keyword", decided_at=at(25),
        source_message_key=message_key("messenger", "1100", "m_3"),
    ),
]  # fmt: skip
OTHERS: list[Record] = [
    message(30, BEN, "I am Ben and I have a dog.", 20, profile=Profile(name="Ben Other")),
    message(31, BEN, "The dog is fine.", 26),
    # Somebody else reacts to Ben's message: Ana does.
    MessageChange(
        change_key=change_key(message_key("messenger", "1100", "m_30"), "react", "1"),
        message_key=message_key("messenger", "1100", "m_30"),
        channel="messenger",
        account="1100",
        change="react",
        emoji="+1",
        changed_at=at(27),
        handles=[PAGE],
    ),
]
REPLY = Reply(
    reply_key=reply_key("hubspot", PORTAL, "5001", "m2"), crm="hubspot", account=PORTAL, record_id="5001",
    handles=[CONTACT, EMAIL, PHONE], text="Dear Anabel, the parrot is on its way", written_at=at(30),
    attachments=[Attachment(kind="image", platform_media_id="77")],
)  # fmt: skip


class Life:
    """One state, and what happens in it."""

    def __init__(self, stores: Stores, state_url: str) -> None:
        self.stores = stores
        self.state_url = state_url
        self.rules = load_rules()
        self.resolver = Resolver(Graph(stores), self.rules)
        self.graph = Graph(stores)
        self.archive = Archive(stores)
        self.ledger = Ledger(stores, "hubspot", PORTAL)
        self.state: dict[str, Any] = {}

    # Coming in

    def take(self, records: Sequence[Record]) -> None:
        """As map-identity and target-archive do."""
        persons = self.resolver.resolve(records)
        batches: dict[str, list[Any]] = {}
        for place, (record, person_id) in enumerate(zip(records, persons, strict=True)):
            if place in self.resolver.erased:
                continue
            if "person_id" in type(record).model_fields:
                record = record.model_copy(update={"person_id": person_id})
            name = "changes" if record.stream == "message_changes" else record.stream
            batches.setdefault(name, []).append(record)
        batches.pop("evidence", None)
        self.archive.fold(**batches)

    def deliver(self, *bodies: bytes) -> None:
        deliveries = Deliveries(self.stores, writable=True)
        deliveries.add([deliveries.encode("whatsapp", "default", at(0), {}, "", body) for body in bodies])
        deliveries.close()

    def run_tap(self, *, again: bool = False) -> None:
        """Read what was delivered, from the bookmark or `again` from the start."""
        tap = TapWhatsApp(config={"state_url": self.state_url}, state={} if again else self.state)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            tap.sync_all()
        lines = [json.loads(line) for line in output.getvalue().splitlines()]
        self.state = [line["value"] for line in lines if line["type"] == "STATE"][-1]
        self.take([STREAMS[one["stream"]].model_validate(one["record"]) for one in lines if one["type"] == "RECORD"])

    def live(self) -> None:
        """Everything that can be known of Ana, in every store; and Ben."""
        self.deliver(
            delivery(whatsapp(1, "How is my parrot?", minute=1)),
            delivery(whatsapp(2, "A parrot in company", minute=2), whatsapp(1, "My dog", "ben", minute=2)),
            delivery(whatsapp(2, "Only my dog", "ben", minute=3)),
        )
        self.run_tap()
        self.take([*ANA, *OTHERS])
        self.archive.follow_graph()
        self.keep_beside()

    def keep_beside(self) -> None:
        person_id = self.ana()
        parked = Parked(self.stores)
        parked.park("tap-acme", "items", "1", PayloadError("odd"), {"from": "+12025550101", "text": "a parrot?"})
        parked.park("tap-acme", "items", "2", PayloadError("odd"), {"from": "+12025550102", "text": "a dog?"})
        Spool(self.stores).add("acme", "default", [("1", {"from": EMAIL.value}), ("2", {"from": "ben@mail.example"})])
        Outbox(self.stores).add([REPLY.model_copy(update={"person_id": person_id})], lambda a, b: a == b)
        picture = Attachment(kind="image", mime_type="image/png")
        Media(self.stores).keep(
            [b"\x89PNG\r\n\x1a\nparrot picture"], max_bytes=100, expected=picture,
            message_key=message_key("messenger", "1100", "m_3"),
        )  # fmt: skip
        Media(self.stores).keep(
            [b"\x89PNG\r\n\x1a\nparrot invoice"], max_bytes=100, expected=picture, message_key=REPLY.reply_key
        )
        self.ledger.save_contact(
            LedgerContact(person_id, "9001", projection=True, written={"firstname": self.ledger.fingerprint("Anabel")})
        )
        for one in self.archive.thread(person_id):
            kept = {"message": one.model_dump(mode="json")}
            entry = self.ledger.entry_for(one, "written", record_id=f"c{one.message_key[-3:]}", kept=kept)
            self.ledger.save_messages([type(entry)(**{**_fields(entry), "person_id": person_id, "contact_id": "9001"})])

    def ana(self) -> str:
        return self.graph.person_of(PAGE) or ""

    def ben(self) -> str:
        return self.graph.person_of(BEN) or ""

    # Going

    def erase(self, person_id: str | None = None, *, now: datetime | None = None) -> Any:
        eraser = Eraser(self.stores, self.rules, now)
        return eraser.erase(person_id or self.ana(), due=timedelta(days=30))

    def confirm(self, erasure: Any) -> None:
        """The CRM erases, and the receiver."""
        from taps.webhooks.retention import remove_asked

        for crm, account in erasure.destinations:
            Ledger(self.stores, crm, account).mark_carried_out(erasure.sequence, {"contacts": 1})
        assert remove_asked(self.stores, START)

    def everything_again(self) -> None:
        """Whatever was ever received comes again: deliveries, polls, the CRM's contacts, an import, the reply."""
        self.deliver(delivery(whatsapp(1, "How is my parrot?", minute=1)))
        self.run_tap(again=True)
        self.take([*ANA, *OTHERS])
        self.take([one.model_copy(update={"raw_ref": "import:old.jsonl#1"}) for one in ANA if isinstance(one, Message)])
        Outbox(self.stores).add([REPLY], lambda a, b: a == b)
        self.archive.follow_graph()

    # Looking

    def words_of(self, person_id: str) -> list[str | None]:
        return [one.text for one in self.archive.thread(person_id)]

    def persons(self) -> list[Person]:
        return self.archive.people()


def _fields(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in type(entry).__dataclass_fields__}


def leftovers(folder: Path, stores: Stores, canaries: Iterable[str] = CANARIES) -> list[str]:
    """Where a canary still is: in any byte of the state, or in anything that the key opens."""
    found = []
    wanted = [one.encode() for one in canaries]
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "key.json":
            raw = path.read_bytes()
            found += [f"{path.name}: {one.decode()}" for one in wanted if one in raw]
    for path in sorted(folder.glob("*.db")):
        for where, value in _opened(path, stores):
            found += [f"{where}: {one.decode()}" for one in wanted if one.lower() in value.lower()]
    for path in sorted(folder.glob("media/*/*")):
        found.append(f"media: {path.name}")
    return found


def _opened(path: Path, stores: Stores) -> Iterator[tuple[str, bytes]]:
    connection = sqlite3.connect(path)
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        for row in connection.execute(f"SELECT * FROM {table}"):
            for value in row:
                plain = value
                if isinstance(value, bytes):
                    with contextlib.suppress(SettingsError):
                        plain = stores.codec.decrypt(value)
                if plain is not None:
                    yield f"{path.name}/{table}", plain if isinstance(plain, bytes) else str(plain).encode()
    connection.close()
