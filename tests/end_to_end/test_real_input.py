"""Input that we did not write, from the wire to the contact's timeline: Meta's own webhook examples and real mail.

Both are looked for in the folder that ONETHREAD_DATA names (see its SOURCES.txt) and are no part of this repository.
WhatsApp gives an id once; the authors of its examples used some twice. Where one comes again, it is made a different
one here, so that each example stands for a message of its own. The mails are untouched; some share a Message-ID.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from console.demo import MAILBOX
from mappings.from_email import EmailContext, records_from_email
from mappings.ids import message_key
from mappings.records import ArchivedMessage, Message
from mappings.to_hubspot import MESSAGE_KEY, communication_reference
from sandbox.mail import MailSandbox
from sandbox.meta import signature
from stores.archive import Archive
from tests.end_to_end.shop import Piped, Shop, open_shop

_DATA = Path(os.environ.get("ONETHREAD_DATA") or "/nowhere")
_EXAMPLES = _DATA / "whatsapp" / "official_webhook_examples.json"
_MAILS = sorted((_DATA / "mail").glob("*.eml"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
needs_examples = pytest.mark.skipif(not _EXAMPLES.is_file(), reason="ONETHREAD_DATA has no official WhatsApp examples")
needs_mail = pytest.mark.skipif(
    not _MAILS or not MailSandbox.available(), reason=MailSandbox.missing() or "ONETHREAD_DATA has no mail/*.eml"
)

INBOUND = {
    "whatsapp": ("tap-whatsapp", "map-identity", "target-archive"),
    "email": ("tap-email", "map-identity", "target-archive"),
}
OUT = ("tap-archive", "target-hubspot")


@dataclass
class Arrived:
    """What was sent in, and what the pipes did with it: twice.

    Attributes:
        keys: name of each example -> the key that its message must have.
        changed: names of examples that change a message and are none themselves.
        archived: how many messages the archive has; 0 where nobody counted.
    """

    shop: Shop
    keys: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    archived: int = 0
    runs: list[Piped] = field(default_factory=list)
    writes: list[dict[str, int]] = field(default_factory=list)

    def run_twice(self, channel: str) -> None:
        """Read the channel and tell HubSpot, two times."""
        for _ in range(2):
            self.runs += [self.shop.pipe(*INBOUND[channel]), self.shop.pipe(*OUT)]
            self.writes.append(self.shop.hubspot_writes())

    def counts(self) -> dict[str, int]:
        """How many messages are where."""
        archive = Archive(self.shop.stores)
        found = {name: archive.message(key) for name, key in self.keys.items()}
        customers = {name: one for name, one in found.items() if one is not None and one.handles}
        return {
            "sent in": len(self.keys) + len(self.changed),
            "messages": len(self.keys),
            "archived": sum(one is not None for one in found.values()),
            "with a customer": len(customers),
            "on a timeline": sum(bool(self.contacts_of(name)) for name in self.keys),
            "parked": len(self.shop.parked()),
        }

    def contacts_of(self, name: str) -> list[str]:
        """The contacts on whose timeline the message of an example stands."""
        reference = communication_reference(self.keys[name])
        rows = self.shop.hubspot.state()["communications"].values()
        return [one for row in rows if row["properties"].get(MESSAGE_KEY) == reference for one in row["contacts"]]


def fresh(platform_id: str, taken: set[str]) -> str:
    """`platform_id`, or a different one if it is taken."""
    while platform_id in taken:
        platform_id = f"again-{platform_id}"
    taken.add(platform_id)
    return platform_id


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrived]:
    """Every official example, signed, posted to the receiver."""
    with open_shop(tmp_path_factory.mktemp("examples") / "shop") as shop:
        shop.start_receiver()
        arrived = Arrived(shop)
        taken: set[str] = set()
        documents: dict[str, Any] = json.loads(_EXAMPLES.read_text(encoding="utf-8"))
        for name, document in documents.items():
            for entry in document["entry"]:
                for change in entry["changes"]:
                    value = change["value"]
                    for one in value.get("messages", []):
                        one["id"] = fresh(one["id"], taken)
                        if one["type"] == "reaction":
                            arrived.changed.append(name)
                        else:
                            account = value["metadata"]["phone_number_id"]
                            arrived.keys[name] = message_key("whatsapp", account, one["id"])
            body = json.dumps(document).encode()
            url = f"http://127.0.0.1:{shop.theatre.receiver_port}/webhooks/whatsapp"
            headers = {"X-Hub-Signature-256": signature(shop.whatsapp.app_secret, body)}
            assert requests.post(url, data=body, headers=headers, timeout=10).status_code == 200, name
        arrived.run_twice("whatsapp")
        yield arrived


@pytest.fixture(scope="module")
def mails(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrived]:
    """Every mail, delivered by LMTP into Dovecot."""
    with open_shop(tmp_path_factory.mktemp("mails") / "shop") as shop:
        arrived = Arrived(shop)
        assert shop.theatre.mail is not None
        for path in _MAILS:
            shop.theatre.mail.deliver(path.read_bytes(), MAILBOX)
        arrived.run_twice("email")
        archived = [ArchivedMessage.model_validate(record) for _, record in Archive(shop.stores).changes("messages")]
        for path in _MAILS:
            told = what_it_says(_read(path.read_bytes()))
            arrived.keys[path.name] = next(
                (one.message_key for one in archived if what_it_says(one) == told), f"email:-:{path.name}"
            )
        arrived.archived = len(archived)
        yield arrived


def _read(raw: bytes) -> Message:
    now = datetime.now(UTC)
    context = EmailContext(
        account=MAILBOX, own_addresses=[], folder="INBOX", uid=1, uidvalidity=1, internal_date=now, size_bytes=None
    )
    (message,) = (record for record in records_from_email(raw, context) if isinstance(record, Message))
    return message


def what_it_says(mail: Message) -> tuple[object, ...]:
    """What must not be lost of a mail: who wrote what to whom, and when."""
    content = mail.content or {}
    people = [[one.get("email") for one in content.get(name, ())] for name in ("from", "to", "cc")]
    files = [(one.filename, one.size_bytes) for one in mail.attachments]
    return (mail.thread_ids[0], mail.subject, mail.text, files, str(mail.handles), people, content.get("date_header"))


def check_arrived(arrived: Arrived) -> None:
    """Every message is archived, and on exactly one timeline if it has a customer, or parked with a reason."""
    archive = Archive(arrived.shop.stores)
    parked = arrived.shop.parked()
    assert all(reason for _, reason in parked)
    missing = [name for name, key in arrived.keys.items() if archive.message(key) is None]
    assert len(missing) == len([part for part, _ in parked if part.startswith("tap-")]), (missing, parked)
    for name, key in arrived.keys.items():
        message = archive.message(key)
        if message is not None:
            assert len(arrived.contacts_of(name)) == (1 if message.handles else 0), name


@needs_examples
def test_every_official_example_goes_through_every_pipe(examples: Arrived) -> None:
    assert [one.code for one in examples.runs] == [0] * 4, [one.log for one in examples.runs]
    print(f"official WhatsApp examples: {examples.counts()}")
    assert len(examples.keys) >= 12
    assert examples.changed
    check_arrived(examples)


@needs_examples
def test_official_examples_read_a_second_time_write_nothing(examples: Arrived) -> None:
    assert examples.writes[1] == examples.writes[0]


@needs_mail
def test_every_real_mail_goes_through_every_pipe(mails: Arrived) -> None:
    assert [one.code for one in mails.runs] == [0] * 4, [one.log for one in mails.runs]
    print(f"real mails: {mails.counts()}, which are {mails.archived} different messages")
    assert len(mails.keys) == len(_MAILS)
    assert len(set(mails.keys.values())) == mails.archived
    check_arrived(mails)


@needs_mail
def test_real_mails_read_a_second_time_write_nothing(mails: Arrived) -> None:
    assert mails.writes[1] == mails.writes[0]


@needs_mail
def test_a_bounce_has_no_customer_and_stays_in_the_archive(mails: Arrived) -> None:
    bounce = next(name for name in mails.keys if name.startswith("bounced"))
    message = Archive(mails.shop.stores).message(mails.keys[bounce])
    assert message is not None
    assert "bounce" in message.flags
    assert message.handles == []
    assert mails.contacts_of(bounce) == []
