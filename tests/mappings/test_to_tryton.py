"""What is written to Tryton, and how its answers are read; no server."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings.errors import (
    CredentialsError,
    MissingFieldError,
    OneThreadError,
    RateLimitedError,
    RejectedError,
    SettingsError,
    UnavailableError,
)
from mappings.from_tryton import (
    contact_from_tryton,
    moment_from_tryton,
    reply_from_tryton,
    result_from_tryton,
    status_error,
)
from mappings.records import ArchivedMessage, Attachment, Contact, Handle, Person, Profile, Receipt
from mappings.to_tryton import (
    REPLY_MARKER,
    REPLY_RANKS,
    call_for_tryton,
    datetime_for_tryton,
    day_key,
    day_note_text,
    fate_note_text,
    note_reference,
    note_text,
    party_facts,
    party_values,
    reference_in_note,
)

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
ANA = Person(
    person_id="person-1",
    handles=[
        Handle(kind="messenger_psid", scope="page", value="4711"),
        Handle(kind="phone", value="+12025550101"),
        Handle(kind="tryton_contact", scope="crm", value="7"),
        Handle(kind="email", value="ana@mail.example"),
    ],
    name="Ana Example",
)


def message(**values: Any) -> ArchivedMessage:
    return ArchivedMessage.model_validate(
        {
            "message_key": "whatsapp:1:wamid.1", "channel": "whatsapp", "account": "1",
            "conversation_key": "whatsapp:1:+12025550101", "direction": "inbound", "kind": "text",
            "text": "Where is my order?", "sent_at": NOON, "author_kind": "customer",
            "handles": [Handle(kind="phone", value="+12025550101")], "profile": Profile(name="Ana"), **values,
        }
    )  # fmt: skip


def test_what_is_written(golden: Callable[[str, Any], None]) -> None:
    photo = Attachment(kind="image", filename="receipt.jpg", mime_type="image/jpeg", size_bytes=81_000)
    answer = message(
        message_key="whatsapp:1:wamid.2", direction="outbound", author_kind="agent", author_name="Alex",
        text="It leaves today.", status="read", status_at=NOON + timedelta(hours=1),
        sent_at=NOON + timedelta(minutes=5),
        reply_to_key="whatsapp:1:wamid.1",
    )  # fmt: skip
    mail = message(channel="email", subject="Order 4711", attachments=[photo], reactions=["👍"], edited_at=NOON)
    key = day_key("whatsapp:1:+12025550101", "person-1", NOON.date())
    refused = Receipt(
        subject_key="r", subject_kind="reply", status="refused", channel="whatsapp", account="1", occurred_at=NOON,
        code="131047", reason="The 24-hour window is closed.", actor="agent",
    )  # fmt: skip
    golden(
        "tryton/written.json",
        {
            "party": party_values(ANA),
            "party, addresses unchecked": party_values(ANA, plain=True),
            "party without a name": party_values(Person(person_id="person-2", handles=[]), bare=True),
            "note": note_text(message()).splitlines(),
            "note of a mail": note_text(mail).splitlines(),
            "note of what was taken back": note_text(message(text=None, unsent_at=NOON)).splitlines(),
            "note of a day": day_note_text([answer, message()], key).splitlines(),
            "note of a fate": fate_note_text(refused, NOON, "tryton:crm:3:x").splitlines(),
            "call": call_for_tryton("model.ir.note.create", [[{"resource": "party.party,7"}]], {"language": "en"}),
        },
    )


def test_the_order_of_handles_changes_nothing_in_what_a_party_says() -> None:
    turned = ANA.model_copy(update={"handles": ANA.handles[::-1]})
    assert party_facts(turned) == party_facts(ANA)
    assert party_facts(ANA.model_copy(update={"name": "Bo"})) != party_facts(ANA)


@given(st.text(), st.text(max_size=40))
def test_no_customer_can_write_a_note_that_is_taken_for_a_reply(text: str, name: str) -> None:
    for words in (text, f"{REPLY_MARKER}\n{text}", f"ref 0123456789ab\n{text}"):
        note = note_text(message(text=words, profile=Profile(name=name), author_name=name or None))
        assert reference_in_note(note) == note_reference("whatsapp:1:wamid.1")
        assert reply_from_tryton(row(note), contact(), own_user_id=99) is None
        assert "\x00" not in note
        note.encode()  # no half of a character


def test_a_long_text_is_cut_visibly() -> None:
    note = note_text(message(text="x" * 5000), max_characters=1000)
    assert "cut here" in note
    assert len(note) < 1100


def test_every_status_has_a_rank() -> None:
    statuses = Receipt.model_json_schema()["properties"]["status"]["enum"]
    assert set(statuses) == REPLY_RANKS.keys()


def row(text: str, **values: Any) -> dict[str, Any]:
    return {
        "id": 3, "message": text, "resource": "party.party,7", "create_date": datetime_for_tryton(NOON),
        "create_uid": 5, "create_uid.": {"id": 5, "rec_name": "Alex Agent"}, **values,
    }  # fmt: skip


def contact() -> Contact:
    party = {"id": 7, "name": "Ana", "active": 1, "create_date": datetime_for_tryton(NOON), "write_date": None}
    return contact_from_tryton(party, [], [{"code": "onethread-made:person-1"}], [], account="crm")


@pytest.mark.parametrize(
    ("text", "channel", "words"),
    [
        ("@reply\nHello", "auto", "Hello"),
        ("  @REPLY  WhatsApp: \r\n\r\nHello\nAna  ", "whatsapp", "Hello\nAna"),
        ("@reply whatsap\nHello", "whatsap", "Hello"),
        ("@reply Hello Ana", "hello ana", None),
        ("@reply", "auto", None),
    ],
)
def test_a_reply(text: str, channel: str, words: str | None) -> None:
    reply = reply_from_tryton(row(text), contact(), own_user_id=99)
    assert reply is not None
    assert (reply.channel, reply.text, reply.template) == (channel, words, None)
    assert reply.reply_key == "tryton:crm:3:2026-11-02T12%3A00%3A00+00%3A00"


@pytest.mark.parametrize("text", ["Hello @reply", "@replying\nx", "reply\nx", "", None, "Your reply: sent"])
def test_no_reply(text: str | None) -> None:
    assert reply_from_tryton(row(text or ""), contact(), own_user_id=99) is None


def test_a_reply_of_our_own_user_is_none_and_one_without_author_is_an_error() -> None:
    assert reply_from_tryton(row("@reply\nx"), contact(), own_user_id=5) is None
    with pytest.raises(MissingFieldError, match="create_uid"):
        reply_from_tryton(row("@reply\nx", create_uid=None), contact(), own_user_id=5)


def test_a_template() -> None:
    reply = reply_from_tryton(row("@template order_update en_US\n4711\nFriday"), contact(), own_user_id=99)
    assert reply is not None
    assert (reply.channel, reply.template, reply.template_language) == ("auto", "order_update", "en_US")
    assert (reply.text, reply.template_parameters) == (None, ["4711", "Friday"])


def test_a_time_survives_the_way_there_and_back() -> None:
    moment = datetime(2026, 11, 2, 12, 30, 1, 250, tzinfo=UTC)
    assert moment_from_tryton(json.loads(json.dumps(datetime_for_tryton(moment))), "x") == moment
    for wrong in (None, "2026", {"__class__": "date", "year": 2026}, {"__class__": "datetime", "year": 2026}):
        with pytest.raises(MissingFieldError, match="is not a time"):
            moment_from_tryton(wrong, "it")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            ["UserError", ['The phone number "+1 202" for party "Ana" is not valid.', "", None]],
            RejectedError,
            'The phone number "…" for party "…" is not valid.',
        ),
        (
            ["UserError", ['A value is required for field "Resource" in record "Ana" of "Note".', "", None]],
            RejectedError,
            'field "Resource" in record "…" of "Note"',
        ),
        (["UserError", ['Name "Ana" O" is not good.', "", None]], RejectedError, "see the server's log"),
        (["UserError", ['You are not allowed to access "Party".', "", None]], CredentialsError, 'access "Party"'),
        (
            ["UserError", ['You are not allowed to write to records "1" of "Party" because', "", None]],
            RejectedError,
            "not allowed to write",
        ),
        (["UserWarning", ["party.replace name 1 2", 'Parties: "Ana" vs "Bo"', ""]], RejectedError, 'Parties: "…" vs'),
        (["LoginException", ["code", "Code for admin", "char"]], CredentialsError, "more than a password"),
        (["ConcurrencyException", "Record changed"], UnavailableError, "changed by somebody else"),
        (["database is locked", ""], UnavailableError, "busy"),
        (["'nme'", "Traceback: +12025550101"], RejectedError, "failed on the server"),
        (None, RejectedError, "failed on the server"),
    ],
)
def test_what_an_error_means(error: Any, kind: type[OneThreadError], said: str) -> None:
    with pytest.raises(kind) as caught:
        result_from_tryton("model.party.party.create", {"id": 1, "error": error})
    assert said in str(caught.value)
    assert "Ana" not in str(caught.value)
    assert "202" not in str(caught.value)


def test_an_answer_that_is_none() -> None:
    assert result_from_tryton("x", {"id": 1, "result": None}) is None
    bodies: list[Any] = [{}, [], None, "x"]
    for wrong in bodies:
        with pytest.raises(MissingFieldError):
            result_from_tryton("x", wrong)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, CredentialsError), (403, CredentialsError), (404, SettingsError), (413, RejectedError),
        (429, RateLimitedError), (500, UnavailableError), (504, UnavailableError),
    ],
)  # fmt: skip
def test_what_a_status_means(status: int, kind: type[OneThreadError]) -> None:
    assert type(status_error("x", status)) is kind
