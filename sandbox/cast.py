"""The cast of the demo: invented customers who write to a shop, with all that makes real traffic hard.

Each scene drives the stand-in platforms as their users would. Nothing here knows what onethread does with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from mappings.from_messenger import sign_authorization_code
from sandbox.deliverer import Delivery
from sandbox.hubspot import HubSpotApp
from sandbox.messenger import MessengerApp
from sandbox.whatsapp import WhatsAppApp

HOUR = 3600.0
LOGIN_SECRET = "sandbox-login-secret"  # noqa: S105 - invented, nothing else accepts it


@dataclass(slots=True)
class Stage:
    """The platforms and the CRM of one performance, and who is who on them.

    Attributes:
        mail: delivers a mail to the shop's mailbox; ``None`` when there is no mail server.
        contacts: HubSpot contact ids of those that people of the shop made, by name.
        on_whatsapp, on_messenger: how the stand-ins know each customer, by name.
        unsent: ids of messages that their author took back.
        edits: id of a message that its author corrected -> its last text.
        mails: the mails that were delivered: ``{"words", "at"}``.
        story: what happened, in the words of a narrator.
    """

    hubspot: HubSpotApp
    whatsapp: WhatsAppApp
    messenger: MessengerApp
    mail: Callable[[bytes], None] | None
    mailbox: str
    contacts: dict[str, str] = field(default_factory=dict)
    on_whatsapp: dict[str, str] = field(default_factory=dict)
    on_messenger: dict[str, str] = field(default_factory=dict)
    unsent: set[str] = field(default_factory=set)
    edits: dict[str, str] = field(default_factory=dict)
    mails: list[dict[str, Any]] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def tell(self, line: str) -> None:
        """One line of the story."""
        self.story.append(line)

    def link(self, psid: str, identity: str) -> None:
        """The customer logs in on the shop's site, which signs whose account it is and hands that to Messenger."""
        self.messenger.link_account(psid, sign_authorization_code(identity, LOGIN_SECRET))


def prologue(stage: Stage) -> None:
    """Who is in HubSpot before anything arrives, and who has which app."""
    people = {
        "Mia Rossi": {"email": "mia.rossi@mail.example", "phone": "+1 202 555 0101"},
        "Anna Keller": {"email": "anna.keller@mail.example", "phone": "+1 202 555 0110"},
        "Bruno Keller": {"email": "bruno.keller@mail.example", "phone": "+1 202 555 0110"},
        "Olga Novak": {"email": "olga.novak@mail.example", "phone": "+1 202 555 0140"},
    }
    for name, properties in people.items():
        first, _, last = name.partition(" ")
        stage.contacts[name] = stage.hubspot.create_contact_as_person(
            {"firstname": first, "lastname": last, **properties}
        )
    add = stage.whatsapp.add_customer
    stage.on_whatsapp = {
        "Mia Rossi": add("Mia", "+12025550101", "US.mia1rossi"),
        "Jonas Weber": add("Jonas W", "+12025550120", "US.jonas2weber"),
        "Keller home": add("Familie Keller", "+12025550110", "US.keller3home"),
        "Lea Martin": add("Lea", "+12025550130", "US.lea4martin"),
        "Tom Baker": add("Tom", "+12025550150", "US.tom5baker"),
        "Priya Nair": add("Priya", None, "IN.priya6nair", username="priya.n"),
        "Olga Novak": add("Olga", "+12025550140", "US.olga7novak"),
    }
    stage.on_messenger = {
        "Mia Rossi": stage.messenger.add_person("Mia", "Rossi"),
        "Jonas Weber": stage.messenger.add_person("Jonas", "Weber"),
        "Noor Haddad": stage.messenger.add_person("Noor", "Haddad"),
    }


def first_act(stage: Stage) -> None:
    """The customers write: on two channels, twice, out of order, and some think better of it."""
    whatsapp, messenger = stage.whatsapp, stage.messenger
    on_whatsapp, on_messenger = stage.on_whatsapp, stage.on_messenger

    whatsapp.clock.advance(-50 * HOUR)
    whatsapp.text(on_whatsapp["Olga Novak"], "Is the walnut table back in stock?")
    whatsapp.clock.advance(50 * HOUR)
    stage.tell("Olga asked two days ago; WhatsApp's 24-hour window for her is closed.")

    mia = on_whatsapp["Mia Rossi"]
    question = whatsapp.text(mia, "Hi! Where is my order 4711?", delivery=Delivery(duplicate=2))
    whatsapp.media(mia, "image", caption="This is the receipt for 4711")
    whatsapp.text(mia, "Any news about 4711?", reply_to=question)
    messenger.text(on_messenger["Mia Rossi"], "Hello, me again, now on Messenger about the late parcel")
    stage.link(on_messenger["Mia Rossi"], "email:mia.rossi@mail.example")
    stage.tell("Mia writes on WhatsApp (one delivery comes three times) and on Messenger, and links her account there.")

    jonas = on_whatsapp["Jonas Weber"]
    whatsapp.deliverer.hold()
    whatsapp.text(jonas, "First: do you repair lamps?")
    whatsapp.text(jonas, "Second: and how long does it take?")
    whatsapp.location(jonas, 52.52, 13.405, name="Jonas' workshop")
    whatsapp.deliverer.release(reverse=True, together=False)
    messenger.text(on_messenger["Jonas Weber"], "Can I pay the repair by card?")
    stage.tell("Jonas' messages overtake each other; on Messenger nobody knows yet that he is the same man.")

    whatsapp.text(on_whatsapp["Keller home"], "We got two sofas instead of one :)")
    stage.tell("The Kellers share one phone: two contacts in the CRM carry its number.")

    lea = on_whatsapp["Lea Martin"]
    regretted = whatsapp.text(lea, "My card number is ... no wait, forget that")
    stage.unsent.add(regretted)
    whatsapp.revoke(lea, regretted)
    typo = whatsapp.text(lea, "I ment the blue vase")
    stage.edits[typo] = "I meant the blue vase"
    whatsapp.edit(lea, typo, stage.edits[typo])
    whatsapp.react(lea, typo, "🙏")
    stage.tell("Lea takes one message back and corrects another.")

    tom = on_whatsapp["Tom Baker"]
    whatsapp.from_ad(tom, "Saw your ad, what is the summer price?")
    whatsapp.text(tom, "STOP")
    whatsapp.stop_marketing(tom)
    stage.tell("Tom came through an ad and then says STOP.")

    whatsapp.text(on_whatsapp["Priya Nair"], "I use a username: you cannot see my number. Still, do you ship to Kochi?")
    stage.tell("Priya's phone number is hidden behind a WhatsApp username.")

    messenger.from_ad(on_messenger["Noor Haddad"], "Do you have gift cards?")
    messenger.attachment(on_messenger["Noor Haddad"], "image")


def rush_hour(stage: Stage, first: int = 0, last: int = 40) -> None:
    """Many short messages at once."""
    for number in range(first, last):
        if number % 2:
            stage.messenger.text(stage.on_messenger["Noor Haddad"], f"Noor asks, question {number:03d}")
        else:
            stage.whatsapp.text(stage.on_whatsapp["Jonas Weber"], f"Jonas asks, question {number:03d}")


def rush_hour_goes_on(stage: Stage) -> None:
    """More of them, while the receiver is down."""
    rush_hour(stage, 40, 60)
    stage.tell("60 short messages come at once; the receiver dies under them and comes back.")


def second_act(stage: Stage) -> None:
    """Jonas links his account, and Mia, still waiting, writes an e-mail."""
    stage.link(stage.on_messenger["Jonas Weber"], "phone:+12025550120")
    stage.tell("Jonas links his account: his two persons turn out to be one.")
    if stage.mail is not None:
        words = "I wrote on WhatsApp and on Messenger. Where is order 4711?"
        text = f"Dear shop,\n\n{words}\n\nMia\n"
        stage.mail(mail_from("Mia Rossi <mia.rossi@mail.example>", stage.mailbox, "Order 4711", text, stage))
        stage.mails.append({"words": words, "at": stage.whatsapp.clock.epoch()})
        stage.tell("Mia writes an e-mail as well.")


def mail_from(sender: str, to: str, subject: str, text: str, stage: Stage) -> bytes:
    """A mail as a customer's mail program would write it."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, to, subject
    message["Date"] = format_datetime(stage.whatsapp.clock.now())
    number = len(stage.story)
    message["Message-ID"] = f"<{number}.{int(stage.whatsapp.clock.epoch() * 1000)}@mail.example>"
    message.set_content(text)
    return message.as_bytes()


def queue_reply(stage: Stage, contact_id: str, text: str, channel: str = "auto") -> None:
    """An agent writes an answer into the contact's reply property and sets it to QUEUED."""
    stage.hubspot.edit_contact_as_agent(
        contact_id,
        {"onethread_reply_text": text, "onethread_reply_channel": channel, "onethread_reply_status": "QUEUED"},
    )
