"""A reply as a mail: in its thread, without a way to inject a header."""

from __future__ import annotations

from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import RejectedError
from mappings.from_email import EmailContext, records_from_email
from mappings.ids import message_key, reply_token
from mappings.records import Handle, Message
from mappings.to_email import email_for_reply, message_id_for_reply

TOKEN = reply_token("hubspot:1:2:3")
MIA = Handle(kind="email", value="mia.rossi@mail.example")
AT = datetime(2026, 11, 2, 9, 10, tzinfo=UTC)
ARGUMENTS: dict[str, Any] = {
    "token": TOKEN,
    "text": "Your order leaves today.",
    "sender_address": "support@shop.example",
    "sender_name": "Example Shop",
    "sent_at": AT,
}


def mail(to: Handle = MIA, **changes: Any) -> EmailMessage:
    return email_for_reply(to, **{**ARGUMENTS, **changes})


def read(sent: EmailMessage) -> EmailMessage:
    """The mail as a receiver's program reads it."""
    return BytesParser(policy=policy.default).parsebytes(sent.as_bytes())


def test_a_reply_in_a_thread(golden: Any) -> None:
    sent = mail(
        subject="Where is my order?",
        thread_ids=["CAB1@mail.example", "agent-1@shop.example", "CAB2@mail.example"],
        reply_to_key=message_key("email", "support@shop.example", "CAB2@mail.example"),
    )
    golden("to_email/in_thread.json", {"raw": sent.as_bytes().decode("ascii").splitlines()})


def test_a_first_mail(golden: Any) -> None:
    golden("to_email/first.json", {"raw": mail(text="Grüße, 好").as_bytes().decode("ascii").splitlines()})


def test_the_answered_mail_comes_last_in_the_chain() -> None:
    sent = mail(thread_ids=["b@x.example", "a@x.example"], reply_to_key=message_key("email", "s", "b@x.example"))
    assert sent["References"] == "<a@x.example> <b@x.example>"
    assert sent["In-Reply-To"] == "<b@x.example>"


def test_a_long_message_id_is_not_broken() -> None:
    long = f"{'x' * 300}@mail.example"
    sent = mail(thread_ids=["first@mail.example", long, *(f"{n}{'y' * 60}@mail.example" for n in range(30))])
    assert f"<{long}>" in sent.as_bytes().decode("ascii")
    assert all(len(line) <= 998 for line in sent.as_bytes().splitlines())


def test_a_long_chain_keeps_its_root() -> None:
    sent = mail(thread_ids=[f"{number}@x.example" for number in range(500)])
    chain = sent["References"].split()
    assert (len(chain), chain[0], chain[-1]) == (100, "<0@x.example>", "<499@x.example>")


def test_ids_that_no_mail_has_are_left_out() -> None:
    sent = mail(
        thread_ids=["sha256-00ff", "two words@x", "a>\r\nBcc: <x@evil.example", "é@x.example", "good@x.example"]
    )
    assert sent["References"] == "<good@x.example>"


def test_a_key_that_is_none_is_not_answered() -> None:
    assert "In-Reply-To" not in mail(reply_to_key="nonsense")


@pytest.mark.parametrize(
    ("subject", "written"),
    [
        ("Where?", "Re: Where?"),
        ("Re: Where?", "Re: Where?"),
        ("RE: Where?", "RE: Where?"),
        ("AW: Wo?", "AW: Wo?"),
        ("Regarding this", "Re: Regarding this"),
        (None, "Re: Your message"),
        ("  ", "Re: Your message"),
        ("a\r\nBcc: evil@evil.example", "Re: a Bcc: evil@evil.example"),
        ("a\x00b", "Re: a\ufffdb"),
    ],
)
def test_the_subject_says_that_it_is_an_answer(subject: str | None, written: str) -> None:
    assert read(mail(subject=subject, thread_ids=["a@x.example"]))["Subject"] == written


def test_a_first_mail_has_the_subject_of_the_settings() -> None:
    assert mail(default_subject="Your order")["Subject"] == "Your order"
    assert mail(subject="Sofa")["Subject"] == "Sofa"


def test_a_reply_is_not_said_to_be_automatic() -> None:
    assert "Auto-Submitted" not in mail()


def test_the_senders_name_cannot_add_a_header() -> None:
    sent = read(mail(sender_name='Shop"\r\nBcc: <evil@evil.example>'))
    assert "Bcc" not in sent
    assert sent["From"].addresses[0].addr_spec == "support@shop.example"


@pytest.mark.parametrize(
    "to", [Handle(kind="phone", value="+447700900123"), Handle(kind="email", value="not an address")]
)
def test_only_an_address_can_be_written_to(to: Handle) -> None:
    with pytest.raises(RejectedError) as caught:
        mail(to)
    assert caught.value.code == "bad_recipient"
    assert to.value not in str(caught.value)


@pytest.mark.parametrize("changes", [{"text": None}, {"text": " \n"}, {"template": "hello"}])
def test_a_reply_without_text_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RejectedError) as caught:
        mail(**changes)
    assert caught.value.code == "no_text"


def test_an_address_beyond_ascii_is_written_as_it_is() -> None:
    sent = mail(Handle(kind="email", value="jürgen@mail.example"))
    assert "To: jürgen@mail.example" in sent.as_bytes().decode("utf-8")


def test_our_own_tap_knows_the_reply_again() -> None:
    context = EmailContext(
        account="support@shop.example", own_addresses=[], folder="Sent", uid=1, uidvalidity=1, internal_date=AT,
        sent_folder=True,
    )  # fmt: skip
    sent = mail(text="Grüße\n\n.\n..two dots", thread_ids=["CAB1@mail.example"])
    (found,) = records_from_email(sent.as_bytes(), context)
    assert isinstance(found, Message)
    assert found.message_key == message_key(
        "email", "support@shop.example", message_id_for_reply(TOKEN, "support@shop.example")
    )
    assert (found.reply_token, found.direction, found.handles) == (TOKEN, "outbound", [MIA])
    assert found.text == "Grüße\n\n.\n..two dots"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.text(min_size=1, max_size=200), st.text(max_size=60), st.lists(st.text(max_size=40)))
def test_no_text_can_add_a_header_or_break_the_mail(subject: str, text: str, name: str, thread_ids: list[str]) -> None:
    try:
        sent = mail(subject=subject, text=text, sender_name=name, thread_ids=thread_ids)
    except RejectedError:
        assert not text.strip()
        return
    header, _, _ = sent.as_bytes().partition(b"\r\n\r\n")
    fields = [line.partition(b":")[0] for line in header.split(b"\r\n") if line[:1] not in {b" ", b"\t"}]
    allowed = {
        b"Message-ID", b"Date", b"From", b"To", b"Subject", b"In-Reply-To", b"References", b"Content-Type",
        b"Content-Transfer-Encoding", b"MIME-Version",
    }  # fmt: skip
    assert len(fields) == len(set(fields))
    assert set(fields) <= allowed
