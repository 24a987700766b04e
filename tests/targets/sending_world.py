"""Customers on the stand-ins of WhatsApp and Messenger, their CRM contacts, agents' replies, and the way back.

What the platforms tell goes through the webhook modules and mappings into graph and archive, one post per event, so
that a test decides what has come back and in which order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from identity.resolver import Resolver
from identity.rules import load_rules
from mappings.from_messenger import MessengerContext, records_from_messenger
from mappings.from_whatsapp import WhatsAppContext, records_from_whatsapp
from mappings.ids import reply_key, reply_token
from mappings.records import Consent, Contact, Evidence, Handle, Message, MessageChange, Receipt, Record, Reply
from sandbox.base import SandboxServer
from sandbox.deliverer import Event
from sandbox.messenger import MessengerApp
from sandbox.meta import wire
from sandbox.whatsapp import WhatsAppApp
from stores.archive import Archive
from stores.database import Stores
from stores.graph import Graph
from stores.outbox import Outbox, OutboxReply
from taps.webhooks import messenger, whatsapp
from targets.senders.base import Sender
from targets.senders.messenger import MessengerSender, MessengerSenderSettings
from targets.senders.whatsapp import WhatsAppSender, WhatsAppSenderSettings
from targets.sending import Dispatcher, SendSummary

PORTAL = "1001"
TOKEN = "sandbox-access-token"
MIA = "+12025550101"
OMAR = "+447700900123"


def hubspot(record_id: str) -> Handle:
    """A contact's own handle."""
    return Handle(kind="hubspot_contact", scope=PORTAL, value=record_id)


def phone(number: str) -> Handle:
    return Handle(kind="phone", value=number)


def email(name: str) -> Handle:
    return Handle(kind="email", value=f"{name}@mail.example")


class World:
    """One business with a WhatsApp number and a Messenger page."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.archive = Archive(stores)
        self.graph = Graph(stores)
        self.outbox = Outbox(stores)
        self.resolver = Resolver(self.graph, load_rules())
        self.whatsapp = WhatsAppApp(access_token=TOKEN)
        self.messenger = MessengerApp(access_token=TOKEN)
        self.senders: dict[str, Sender] = {}
        self._told: dict[str, int] = {}
        self._moments = 0

    # Time

    def now(self) -> datetime:
        """The time on the stand-ins."""
        return self.whatsapp.clock.now()

    def advance(self, hours: float) -> None:
        """Let time pass everywhere but in the outbox's own notes."""
        self.whatsapp.clock.advance(hours * 3600)
        self.messenger.clock.advance(hours * 3600)

    # What comes in

    def take(self, *records: Record) -> None:
        """Records into graph and archive, as the pipe does."""
        self.resolver.resolve(list(records))
        self.archive.fold(
            messages=[one for one in records if isinstance(one, Message)],
            changes=[one for one in records if isinstance(one, MessageChange)],
            receipts=[one for one in records if isinstance(one, Receipt)],
            consents=[one for one in records if isinstance(one, Consent)],
            contacts=[one for one in records if isinstance(one, Contact)],
        )
        self.archive.follow_graph()

    def events(self, app: WhatsAppApp | MessengerApp, *kinds: str) -> list[Event]:
        """What the platform has to tell and did not tell yet, oldest first."""
        start = self._told.get(app.name, 0)
        self._told[app.name] = len(app.deliverer.events)
        return [one for one in app.deliverer.events[start:] if not kinds or one.kind in kinds]

    def records_of(self, app: WhatsAppApp | MessengerApp, event: Event) -> list[Record]:
        """One event as a webhook, split and mapped."""
        body = wire(app.compose([event.part]))
        at = datetime.now(UTC)
        if isinstance(app, WhatsAppApp):
            context = WhatsAppContext(received_at=at, raw_ref="delivery:1#0", portfolio_id="portfolio")
            return [record for item in whatsapp.split(body) for record in records_from_whatsapp(item, context)]
        seen = MessengerContext(received_at=at, raw_ref="delivery:1#0", app_id=str(app.app_id))
        return [record for item in messenger.split(body) for record in records_from_messenger(item, seen)]

    def listen(self, *kinds: str) -> None:
        """Take in what the platforms have to tell; with `kinds` only that, the rest is lost."""
        for app in (self.whatsapp, self.messenger):
            for event in self.events(app, *kinds):
                self.take(*self.records_of(app, event))

    # Customers and agents

    def whatsapp_customer(self, name: str, number: str | None = MIA, user_id: str | None = None) -> str:
        """Somebody who wrote on WhatsApp a moment ago."""
        customer = self.whatsapp.add_customer(name, number, user_id)
        self.whatsapp.text(customer, "Hi, is my order on its way?")
        self.listen()
        return customer

    def messenger_customer(self, name: str) -> Handle:
        """Somebody who wrote on Messenger a moment ago."""
        psid = self.messenger.add_person(name, "Rossi")
        self.messenger.text(psid, "Hello, are you open?")
        self.listen()
        return Handle(kind="messenger_psid", scope=self.messenger.page_id, value=psid)

    def contact(self, record_id: str, *handles: Handle, **more: Any) -> None:
        """A contact in the CRM, made by a person."""
        at = more.pop("modified_at", self.now())
        self.take(
            Contact(
                crm="hubspot", account=PORTAL, record_id=record_id, handles=[hubspot(record_id), *handles],
                modified_at=at, **more,
            )
        )  # fmt: skip

    def link(self, *handles: Handle) -> None:
        """The platform says that these are one person."""
        self.take(
            Evidence(
                evidence_key=f"messenger:1:account_link:{'-'.join(one.value for one in handles)}".replace("+", "p"),
                method="account_link", strength="verified", channel="messenger", account="1", handles=list(handles),
                observed_at=self.now(),
            )
        )  # fmt: skip

    def reply(self, record_id: str = "2", text: str | None = "It left today.", **changes: Any) -> Reply:
        """What an agent wrote on a contact, stamped with the person."""
        moment = changes.pop("moment", None)
        if moment is None:
            self._moments += 1
            moment = f"2026-11-01T12:00:{self._moments:02d}.000Z"
        values: dict[str, Any] = {
            "reply_key": reply_key("hubspot", PORTAL, record_id, moment), "crm": "hubspot", "account": PORTAL,
            "record_id": record_id, "text": text, "written_at": self.now(), "handles": [hubspot(record_id)],
            "author_name": "Ines",
        }  # fmt: skip
        reply = Reply(**{**values, **changes})
        return reply.model_copy(update={"person_id": self.resolver.resolve([reply])[0]})

    def queue(self, record_id: str = "2", text: str | None = "It left today.", **changes: Any) -> str:
        """Queue a reply; its token."""
        reply = self.reply(record_id, text, **changes)
        self.outbox.add([reply], lambda one, other: self.graph.current(one) == self.graph.current(other))
        return reply_token(reply.reply_key)

    # What goes out

    def dispatcher(self, **more: Any) -> Dispatcher:
        return Dispatcher(self.stores, self.senders, now=self.now, **more)

    def send(self, **more: Any) -> SendSummary:
        """One run of the sender."""
        return self.dispatcher(**more).run()

    def settle(self, *kinds: str) -> SendSummary:
        """Take in what the platforms tell, then run the sender."""
        self.listen(*kinds)
        return self.send()

    # What is the case

    def one(self, token: str) -> OutboxReply:
        """A reply with its fate."""
        found = self.outbox.find(token)
        assert found is not None
        return found

    def state(self, token: str) -> str:
        return self.one(token).state

    def receipts(self, token: str) -> dict[str, Receipt]:
        """What the CRM hears of a reply, by status."""
        return {one.status: one for one in self.archive.receipts_for(self.one(token).reply.reply_key)}

    def seen_on_whatsapp(self) -> list[str]:
        """The texts that customers have from us on WhatsApp."""
        return [one["text"] for one in self.whatsapp.state()["sent"] if one["status"] != "failed"]

    def seen_on_messenger(self) -> list[str]:
        return [one["text"] for one in self.messenger.state()["sent"]]

    def ours(self, record_id: str = "2") -> list[Any]:
        """Our messages in the thread of a contact's person, as the archive has them."""
        person_id = self.graph.person_of(hubspot(record_id))
        assert person_id is not None
        return [one for one in self.archive.thread(person_id) if one.direction == "outbound"]


@contextmanager
def running_world(stores: Stores, *, timeout_seconds: float = 5) -> Iterator[World]:
    """A world whose stand-ins answer on loopback."""
    world = World(stores)
    with SandboxServer(world.whatsapp) as one, SandboxServer(world.messenger) as other:
        world.senders = {
            "whatsapp": WhatsAppSender(
                WhatsAppSenderSettings(
                    access_token=SecretStr(TOKEN), phone_number_id=world.whatsapp.phone_number_id, api_url=one.url,
                    timeout_seconds=timeout_seconds,
                )
            ),
            "messenger": MessengerSender(
                MessengerSenderSettings(
                    access_token=SecretStr(TOKEN), page_id=world.messenger.page_id, api_url=other.url,
                    timeout_seconds=timeout_seconds,
                )
            ),
        }  # fmt: skip
        yield world
