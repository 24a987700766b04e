"""A mail as canonical records: every fixture against its golden file, and what strangers do to mails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import MissingFieldError, PayloadError, SettingsError, UnknownShapeError
from mappings.from_email import EmailContext, own_address_of, records_from_email
from mappings.from_email.bounces import REASONS
from mappings.from_email.folders import ALL_MAIL_NAMES, SENT_NAMES, Folder, folders_to_read
from mappings.from_email.headers import addresses_in, decode_bytes, decode_words, message_ids_in, sender_in
from mappings.from_email.html import text_from_html
from mappings.from_email.stripped import STRIPPED_BY, stripped_of
from mappings.ids import message_key, reply_token
from mappings.records import Consent, Evidence, Message, Receipt, Record

FIXTURES = Path(__file__).parent.parent / "fixtures" / "email"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.eml"))
FROM_SENT = {"agent_reply_from_sent", "own_reply"}
ARRIVED = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
OUR_TOKEN = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


def context(**changes: Any) -> EmailContext:
    values: dict[str, Any] = {
        "account": "support@shop.example",
        "own_addresses": {"support@shop.example", "noreply@shop.example", "warehouse@shop.example"},
        "folder": "INBOX",
        "uid": 7,
        "uidvalidity": 42,
        "internal_date": ARRIVED,
    }
    return EmailContext(**{**values, **changes})


def fixture(name: str) -> bytes:
    return (FIXTURES / f"{name}.eml").read_bytes()


def records(name: str, **changes: Any) -> list[Record]:
    return records_from_email(fixture(name), context(**changes))


def message(raw: bytes | str, **changes: Any) -> Message:
    data = raw.encode() if isinstance(raw, str) else raw
    (found,) = [one for one in records_from_email(data, context(**changes)) if isinstance(one, Message)]
    return found


def mail(body: str = "Hello", **fields: str) -> str:
    values = {"From": "mia@mail.example", "To": "support@shop.example", "Message_ID": "<m@mail.example>", **fields}
    return "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in values.items() if value) + f"\n{body}\n"


@pytest.mark.parametrize("name", NAMES)
def test_fixture_is_what_its_golden_file_says(name: str, golden: Any) -> None:
    found = records(name, sent_folder=name in FROM_SENT, folder="Sent" if name in FROM_SENT else "INBOX")
    golden(f"email/{name}.json", [{"stream": one.stream, **one.model_dump(mode="json")} for one in found])


def test_readme_names_every_fixture() -> None:
    readme = (FIXTURES / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"`{name}`" not in readme] == []


# Keys and threads


def test_the_same_mail_in_two_folders_is_one_message() -> None:
    inbox = message(fixture("agent_reply_from_sent"))
    sent = message(fixture("agent_reply_from_sent"), sent_folder=True, folder="Sent", uid=99, uidvalidity=3)
    assert inbox.model_copy(update={"raw_ref": None}) == sent.model_copy(update={"raw_ref": None})


def test_the_case_of_a_message_id_counts() -> None:
    assert (
        message(mail(Message_ID="<A@x.example>")).message_key != message(mail(Message_ID="<a@x.example>")).message_key
    )


def test_a_mail_without_message_id_has_the_key_of_its_content() -> None:
    raw = mail(Message_ID="", Subject="a")
    assert message(raw).message_key.startswith("email:support@shop.example:sha256-")
    assert message(raw.replace("\n", "\r\n")).message_key == message(raw).message_key
    assert message(mail(Message_ID="", Subject="b")).message_key != message(raw).message_key


@pytest.mark.parametrize("value", ["<>", "  ", "two words", "<\x00>"])
def test_a_message_id_that_is_none_gives_a_key_all_the_same(value: str) -> None:
    assert message(mail(Message_ID=value)).thread_ids


def test_thread_ids_are_the_own_id_then_the_nearest_first() -> None:
    found = message(mail(In_Reply_To="<3@x.example>", References="<1@x.example> <2@x.example>\n <3@x.example>"))
    assert found.thread_ids == ["m@mail.example", "3@x.example", "2@x.example", "1@x.example"]
    assert found.conversation_key == "email:support@shop.example:1@x.example"
    assert found.reply_to_key == message_key("email", "support@shop.example", "3@x.example")


def test_a_mail_that_refers_to_nothing_starts_its_own_thread() -> None:
    found = message(mail())
    assert (found.thread_ids, found.reply_to_key) == (["m@mail.example"], None)
    assert found.conversation_key == "email:support@shop.example:m@mail.example"


def test_a_chain_of_a_thousand_references_keeps_its_root() -> None:
    chain = [f"<{number}@x.example>" for number in range(1000)]
    found = message(mail(References=" ".join(chain)))
    assert len(found.thread_ids) < 210
    assert found.thread_ids[1] == "999@x.example"
    assert found.thread_ids[-1] == "0@x.example"


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("<a@x> <b@x>", ["a@x", "b@x"]),
        ("<a@x>,<b@x>, <a@x>", ["a@x", "b@x"]),
        ("<a\n @x>", ["a@x"]),
        ("a@x b@x", ["a@x", "b@x"]),
        ("Your message of Tue, 3 Nov from mia@mail.example", []),
        ("<no-at-sign>", ["no-at-sign"]),
        ("", []),
        ("<", []),
    ],
)
def test_message_ids_are_found_however_they_are_written(value: str, ids: list[str]) -> None:
    assert message_ids_in(value) == ids


# Whose words


def test_mail_from_an_own_domain_is_outbound() -> None:
    found = message(mail(From="agent7@shop.example", To="mia@mail.example"), own_addresses={"@shop.example"})
    assert (found.direction, found.author_kind) == ("outbound", "agent")
    assert [handle.value for handle in found.handles] == ["mia@mail.example"]


def test_what_lies_in_sent_is_outbound_whoever_signed_it() -> None:
    found = message(mail(From="alias@other.example", To="mia@mail.example"), sent_folder=True)
    assert found.direction == "outbound"


def test_a_mail_among_ourselves_has_no_customer() -> None:
    assert message(mail(From="warehouse@shop.example", To="support@shop.example")).handles == []


def test_the_customer_of_an_outbound_mail_may_stand_in_bcc() -> None:
    found = message(mail(From="support@shop.example", To="warehouse@shop.example", Bcc="mia@mail.example"))
    assert [handle.value for handle in found.handles] == ["mia@mail.example"]


def test_our_token_is_read_from_mail_of_ours_only() -> None:
    token = reply_token("hubspot:1:2:3")
    ours = mail(From="support@shop.example", To="mia@mail.example", Message_ID=f"<{token}@shop.example>")
    assert message(ours).reply_token == token
    assert message(ours.replace("@shop.example>", "@mail.example>")).reply_token is None


def test_a_stranger_cannot_take_the_place_of_our_reply() -> None:
    forged = message(mail(From="mia@mail.example", Message_ID=f"<{OUR_TOKEN}@shop.example>"))
    assert forged.reply_token is None
    assert forged.message_key != message_key("email", "support@shop.example", f"{OUR_TOKEN}@shop.example")


@pytest.mark.parametrize(
    ("value", "email"),
    [
        ("Mia <mia@mail.example>", "mia@mail.example"),
        ("<MIA@Mail.Example>", "mia@mail.example"),
        ("Rossi, Mia <mia@mail.example>", "mia@mail.example"),
        ('"bank@safe.example" <evil@mail.example>', "evil@mail.example"),
        ("=?utf-8?q?bank=40safe=2Eexample?= <evil@mail.example>", "evil@mail.example"),
        ("mia@mail.example (Mia)", "mia@mail.example"),
        ('"" (Mail Delivery System)', None),
        ("MAILER-DAEMON", None),
        ("root@localhost", None),
    ],
)
def test_the_sender_is_the_address_and_not_what_is_written_before_it(value: str, email: str | None) -> None:
    sender = sender_in([value])
    assert (sender.email if sender else None) == email


def test_broken_address_fields_give_the_addresses_in_them() -> None:
    found = addresses_in(["vendor@shop.example www.shop.example", "<a@mail.example>a@mail.example"])
    assert [one.email for one in found] == ["vendor@shop.example", "a@mail.example"]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?caf=C3=A9_a?=", "café a"),
        ("=?utf-8?b?w6k=?= =?UTF-8?Q?=C3?=\n =?utf-8?q?=A9?=", "éé"),
        ("=?iso-8859-1?q?=E9?= and =?utf-8*de?b?w6k?=", "é and é"),
        ("Straße =?utf-8?q?=C3=A9?=", "Straße é"),
        ("Ÿ =?utf-8?q?a?= Ÿ", "Ÿ a Ÿ"),
        ("=?utf-8?b?!?=", ""),
        ("=?utf-8?b?A?=", "=?utf-8?b?A?="),
        ("=?no-such?q?=E9?=", "é"),
        ("=?utf-8?x?a?= =?", "=?utf-8?x?a?= =?"),
    ],
)
def test_encoded_words_are_read_and_broken_ones_kept(written: str, text: str) -> None:
    assert decode_words(written) == text


# Machines


@pytest.mark.parametrize(
    ("name", "value", "flag"),
    [
        ("Auto_Submitted", "auto-generated", "auto_reply"),
        ("Auto_Submitted", "auto-replied; x=y", "auto_reply"),
        ("X_Autoreply", "yes", "auto_reply"),
        ("X_Autorespond", "1", "auto_reply"),
        ("Precedence", "auto_reply", "auto_reply"),
        ("Return_Path", "<>", "auto_reply"),
        ("Precedence", "bulk", "list"),
        ("Precedence", "junk", "list"),
        ("Precedence", "List", "list"),
        ("List_Id", "<a.example>", "list"),
        ("List_Unsubscribe", "<mailto:x@a.example>", "list"),
        ("X_Auto_Response_Suppress", "All", "no_auto_reply"),
        ("X_Original_From", "x@a.example", "forwarded"),
        ("X_Forwarded_For", "x@a.example", "forwarded"),
        ("X_Failed_Recipients", "x@a.example", "bounce"),
    ],
)
def test_a_header_of_machines_sets_its_flag(name: str, value: str, flag: str) -> None:
    assert message(mail(**{name: value})).flags == [flag]


@pytest.mark.parametrize(("name", "value"), [("Auto_Submitted", "no"), ("X_Autoreply", "no"), ("Return_Path", "<a@b>")])
def test_a_header_that_denies_a_machine_sets_no_flag(name: str, value: str) -> None:
    assert message(mail(**{name: value})).flags == []


def test_an_automatic_answer_is_nobodys_words() -> None:
    found = message(fixture("out_of_office"))
    assert found.author_kind == "system"
    assert [handle.value for handle in found.handles] == ["mia.rossi@mail.example"]


def test_a_failed_delivery_is_a_receipt_of_our_reply() -> None:
    (receipt,) = [one for one in records("bounce_failed") if isinstance(one, Receipt)]
    assert receipt.subject_key == message_key("email", "support@shop.example", f"{OUR_TOKEN}@shop.example")
    assert (receipt.status, receipt.code, receipt.actor, receipt.reply_token) == ("failed", "5.1.1", "agent", OUR_TOKEN)


def test_a_delay_is_no_failure() -> None:
    assert [one for one in records("bounce_delayed") if isinstance(one, Receipt)] == []
    assert "bounce" not in message(fixture("bounce_delayed")).flags


def test_a_bounce_stands_in_the_thread_of_the_customer_whom_we_wrote_to() -> None:
    found = message(fixture("bounce_failed"))
    assert [handle.value for handle in found.handles] == ["mia.rossi@mail.example"]
    assert f"{OUR_TOKEN}@shop.example" in found.thread_ids
    assert "CAB1.Order-4711@mail.example" in found.thread_ids


def test_a_bounce_of_a_mail_that_was_not_ours_makes_no_customer() -> None:
    assert message(fixture("bounce_of_a_strangers_mail")).handles == []


@pytest.mark.parametrize("subject", sorted(REASONS))
def test_every_reason_of_a_failed_delivery_is_told(subject: str) -> None:
    status = f"5.{subject}" if "." in subject else f"5.{subject}.99"
    raw = fixture("bounce_failed").replace(b"Status: 5.1.1", f"Status: {status}".encode())
    (receipt,) = [one for one in records_from_email(raw, context()) if isinstance(one, Receipt)]
    assert (receipt.reason, receipt.actor) == REASONS[subject]


def test_a_bounce_without_a_status_says_that_nobody_said_why() -> None:
    raw = fixture("bounce_failed").replace(b"Status: 5.1.1", b"Status: x").replace(b"550 5.1.1 no", b"550 no")
    (receipt,) = [one for one in records_from_email(raw, context()) if isinstance(one, Receipt)]
    assert (receipt.code, receipt.reason) == (None, "The receiving server did not say why.")


# What follows from a mail


def test_another_reply_address_is_a_claim() -> None:
    (evidence,) = [one for one in records("reply_to_elsewhere") if isinstance(one, Evidence)]
    assert (evidence.method, evidence.strength) == ("reply_to", "claimed")
    assert [handle.value for handle in evidence.handles] == ["olga@work.example", "olga.novak@mail.example"]


@pytest.mark.parametrize(
    "fields",
    [
        {"Reply_To": "mia@mail.example"},
        {"Reply_To": "support@shop.example"},
        {"Reply_To": "a@mail.example, b@mail.example"},
        {"Reply_To": "a@mail.example", "List_Id": "<x>"},
        {"Reply_To": "a@mail.example", "Auto_Submitted": "auto-generated"},
        {"Reply_To": "not an address"},
    ],
)
def test_a_reply_address_that_says_nothing_of_a_person_is_no_evidence(fields: dict[str, str]) -> None:
    assert [one for one in records_from_email(mail(**fields).encode(), context()) if isinstance(one, Evidence)] == []


@pytest.mark.parametrize("name", ["stop", "unsubscribe_by_subject"])
def test_a_mail_that_says_no_and_nothing_else_opts_out(name: str) -> None:
    (consent,) = [one for one in records(name) if isinstance(one, Consent)]
    assert (consent.status, consent.purpose, consent.source) == ("opted_out", "promotional", "keyword")
    assert consent.handle.value == "mia.rossi@mail.example"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ("please stop by at noon", {}),
        ("see you", {"Subject": "stop"}),
        ("stop", {"Auto_Submitted": "auto-replied"}),
        ("stop", {"From": "support@shop.example", "To": "mia@mail.example"}),
    ],
)
def test_other_mails_decide_nothing(body: str, fields: dict[str, str]) -> None:
    assert [
        one for one in records_from_email(mail(body, **fields).encode(), context()) if isinstance(one, Consent)
    ] == []


# Times


def test_a_claimed_date_counts_unless_it_is_absurd() -> None:
    assert message(mail(Date="Sun, 1 Nov 2026 10:00:00 +0100")).sent_at == datetime(2026, 11, 1, 9, tzinfo=UTC)
    for absurd in (
        "Fri, 1 Jan 1971 00:00:00 +0000",
        "Wed, 4 Nov 2026 00:00:00 +0000",
        "yesterday",
        "",
        "1 2 3 4 5 6 7",
    ):
        assert message(mail(Date=absurd)).sent_at == ARRIVED


def test_the_date_field_is_kept_as_it_was_claimed() -> None:
    found = message(mail(Date="Fri, 1 Jan 1971 00:00:00 +0000"))
    assert found.content is not None
    assert found.content["date_header"] == "Fri, 1 Jan 1971 00:00:00 +0000"
    assert found.received_at == ARRIVED


def test_a_mail_without_any_time_is_refused() -> None:
    with pytest.raises(MissingFieldError, match="INTERNALDATE"):
        message(mail(), internal_date=None)


# Texts


def test_the_whole_text_is_kept_beside_the_stripped_one() -> None:
    found = message(fixture("reply_with_quote"))
    assert found.text is not None
    assert "> Your order leaves today." in found.text
    assert (found.text_stripped, found.text_stripped_by) == ("Thank you, it is here now.", STRIPPED_BY)


def test_a_quote_head_that_the_package_chokes_on_is_read_at_once() -> None:
    assert stripped_of("On " * 10_000) is not None
    assert stripped_of("Hello\n\nOn \\1 \\g<9> x wrote:\n> quoted") == "Hello"


@pytest.mark.filterwarnings("ignore:'count' is passed:DeprecationWarning")  # the package, Python 3.13
def test_stripping_gives_what_the_package_gives() -> None:
    from email_reply_parser import EmailReplyParser

    for name in NAMES:
        text = message(fixture(name)).text or ""
        assert (stripped_of(text) or "") == EmailReplyParser.parse_reply(text).strip(), name


def test_a_text_too_long_to_strip_is_kept_whole() -> None:
    found = message(mail("word " * 20_000))
    assert found.text is not None
    assert len(found.text) > 90_000
    assert (found.text_stripped, found.text_stripped_by) == (None, None)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a</p><p>b</p>", "a\n\nb"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ("a<br>b<ul><li>c</li></ul>", "a\nb\n* c"),
        ("<p>a</p>" + "<div>" * 300 + "deep" + "</div>" * 300 + "<p>end</p>", "a\n\ndeep\n\nend"),
        ("<?xml version='1.0' encoding='utf-8'?><p>x</p>", "x"),
        ("<script>bad()</script><p>good</p>", "good"),
        ("", ""),
        ("<!-- only a comment -->", ""),
        ("<p>unclosed <b>tags <i>everywhere", "unclosed tags everywhere"),
    ],
)
def test_html_says_what_a_reader_sees(html: str, text: str) -> None:
    assert text_from_html(html).strip() == text


def test_html_cannot_grow_without_bounds() -> None:
    rows = "<tr><td>a</td><td>b</td></tr>" * 2_000
    wide = f"<table><tr><td>{'x' * 50_000}</td></tr>{rows}</table>"
    styled = '<div style="padding-left: 1000000em; margin-top: 1000000em">x</div>' * 100
    nested = "<ul>" * 100 + "x<br>" * 1_000
    for html in (wide, styled, nested, "<" * 200_000, "<script>" * 20_000):
        assert len(text_from_html(html)) < 2 * len(html)


def test_alternatives_count_once_and_parts_in_a_row_are_joined() -> None:
    parts = "--b\nContent-Type: text/plain\n\nfirst\n--b\nContent-Type: text/plain\n\nsecond\n--b--"
    assert message(mail(parts, Content_Type="multipart/mixed; boundary=b")).text == "first\n\nsecond"
    assert message(mail(parts, Content_Type="multipart/alternative; boundary=b")).text == "first"


def test_of_alternatives_the_html_counts_where_the_plain_text_is_empty() -> None:
    parts = "--b\nContent-Type: text/plain\n\n \n--b\nContent-Type: text/html\n\n<p>here</p>\n--b--"
    assert message(mail(parts, Content_Type="multipart/alternative; boundary=b")).text == "here"


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("ü".encode(), "utf-8", "ü"),
        (b"\xfc", "utf-8", "ü"),
        (b"\x80", "iso-8859-1", "€"),
        ("ü".encode(), "us-ascii", "ü"),
        ("囍".encode("gb18030"), "gb2312", "囍"),
        (b"\xff\xfe", "no-such", "ÿþ"),
        (b"a\x00b\r\nc", None, "a\ufffdb\nc"),
        (b"x", "rot13", "x"),
        (b"x", "punycode", "x"),
        (b"x", "a\x00b", "x"),
        ("\ud800".encode("utf-8", "surrogatepass"), "utf-8", "í\xa0€"),
    ],
)
def test_bytes_become_text_whatever_the_charset_says(data: bytes, charset: str | None, text: str) -> None:
    assert decode_bytes(data, charset) == text


def test_only_the_header_of_an_oversized_mail_is_told() -> None:
    raw = fixture("attachments")
    header = raw[: raw.index(b"\n\n") + 2]
    found = message(header, size_bytes=30_000_000)
    assert found.flags == ["oversized"]
    assert (found.kind, found.text, found.attachments) == ("unsupported", None, [])
    assert found.message_key == message(raw).message_key
    assert found.content is not None
    assert found.content["size_bytes"] == 30_000_000


# Hostile mails


def test_a_mail_nested_without_end_is_refused() -> None:
    levels = 3_000
    opening = "".join(f"Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n" for level in range(levels))
    with pytest.raises(UnknownShapeError):
        message(f"From: mia@mail.example\n{opening}Content-Type: text/plain\n\nhello\n")


def test_a_mail_of_ten_thousand_parts_is_refused() -> None:
    parts = "--b\nContent-Type: image/png\n\nx\n" * 10_000
    with pytest.raises(UnknownShapeError, match="2000 parts"):
        message(mail(parts, Content_Type="multipart/mixed; boundary=b"))


def test_an_address_field_full_of_brackets_does_no_harm() -> None:
    assert message(mail(From="(" * 5_000 + "mia@mail.example")).text == "Hello"


def test_errors_never_hold_what_the_mail_says() -> None:
    with pytest.raises(MissingFieldError) as caught:
        message(mail("secret words", Subject="secret subject"), internal_date=None)
    assert "secret" not in str(caught.value)
    assert "mia" not in str(caught.value)


FIELD_NAMES = st.sampled_from(
    ["From", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Reply-To", "Content-Type",
     "Content-Transfer-Encoding", "Content-Disposition", "Return-Path", "Auto-Submitted", "X-Original-From"]
)  # fmt: skip
FIELD_VALUES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"multipart/report; report-type=delivery-status; boundary=b", b"multipart/mixed; boundary=b", b"text/html",
         b"text/plain; charset=\"", b"message/rfc822", b"message/delivery-status", b"base64", b"quoted-printable",
         b"x-uuencode", b"attachment; filename*=utf-8''%ff", b"=?utf-8?b?\xff?=", b"<a@b> <", b"a@b.example"]
    ),
)  # fmt: skip
BODIES = st.lists(
    st.one_of(
        st.binary(max_size=80),
        st.sampled_from(
            [b"--b\n", b"--b--\n", b"\n", b"Content-Type: message/delivery-status\n\n", b"Action: failed\n",
             b"Content-Type: message/rfc822\n\n", b"Content-Type: text/html\n\n<p>", b"Status: 5.1.1\n"]
        ),
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(FIELD_NAMES, FIELD_VALUES), max_size=8), BODIES, st.booleans())
def test_whatever_bytes_come_a_mail_is_told_or_refused(
    fields: list[tuple[str, bytes]], body: bytes, in_sent: bool
) -> None:
    raw = b"".join(name.encode() + b": " + value + b"\n" for name, value in fields) + b"\n" + body
    try:
        found = records_from_email(raw, context(sent_folder=in_sent))
    except PayloadError:
        return
    for record in found:
        record.model_dump_json().encode("utf-8")
        assert "\x00" not in str(record.model_dump())


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_html_is_turned_into_text(html: str) -> None:
    assert isinstance(text_from_html(html.replace("\x00", "")), str)


@pytest.mark.filterwarnings("ignore:'count' is passed:DeprecationWarning")  # the package, Python 3.13
@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="On wrote:\n> -_x", max_size=300))
def test_stripping_any_text_gives_what_the_package_gives(text: str) -> None:
    from email_reply_parser import EmailReplyParser

    assert (stripped_of(text) or "") == EmailReplyParser.parse_reply(text).strip()


# Folders


def listing(*names: str, **flagged: bytes) -> list[tuple[tuple[bytes, ...], bytes, str]]:
    flags = {**dict.fromkeys(names, b"\\HasNoChildren"), **flagged}
    return [((flag,), b"/", name) for name, flag in flags.items()]


def test_the_marked_folder_of_sent_mail_is_read_beside_inbox() -> None:
    found = folders_to_read(listing("INBOX", "Sent", Gesendet=b"\\Sent"), [])
    assert found == [Folder("INBOX", sent=False), Folder("Gesendet", sent=True)]


@pytest.mark.parametrize("name", SENT_NAMES)
def test_a_folder_with_a_known_name_is_the_sent_folder(name: str) -> None:
    assert folders_to_read(listing("INBOX", name), []) == [Folder("INBOX", sent=False), Folder(name, sent=True)]


def test_a_sent_folder_under_inbox_is_found() -> None:
    assert folders_to_read([((), b".", "INBOX"), ((), b".", "INBOX.Sent")], [])[1] == Folder("INBOX.Sent", sent=True)


@pytest.mark.parametrize("name", ALL_MAIL_NAMES)
def test_without_a_sent_folder_all_mail_is_read(name: str) -> None:
    assert folders_to_read(listing("INBOX", name), []) == [Folder("INBOX", sent=False), Folder(name, sent=False)]


def test_without_any_only_inbox_is_read() -> None:
    assert folders_to_read(listing("INBOX", "Notes"), []) == [Folder("INBOX", sent=False)]


def test_chosen_folders_are_read_in_their_order() -> None:
    found = folders_to_read(listing("INBOX", "Sent", "Shop"), ["Shop", "Sent", "Shop"])
    assert found == [Folder("Shop", sent=False), Folder("Sent", sent=True)]


def test_a_chosen_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match="'Shpo'"):
        folders_to_read(listing("INBOX", "Shop"), ["Shpo"])


def test_own_addresses_have_one_form() -> None:
    assert own_address_of(" Support@Shop.Example ") == "support@shop.example"
    assert own_address_of("@Shop.Example") == "@shop.example"
    assert own_address_of("u12345") == "u12345"


def test_arrival_in_another_zone_is_told_in_utc() -> None:
    from datetime import timezone

    arrived = datetime(2026, 11, 2, 9, 30, tzinfo=timezone(timedelta(hours=5)))
    assert message(mail(), internal_date=arrived).received_at == datetime(2026, 11, 2, 4, 30, tzinfo=UTC)
