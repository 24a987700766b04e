"""The e-mail sender against real servers: what was sent, what was not, and what nobody can know."""

from __future__ import annotations

import io
import json
import logging
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from email import message_from_bytes
from itertools import count
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from mappings.errors import (
    CredentialsError,
    OneThreadError,
    OutcomeUnknownError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from mappings.ids import message_key, reply_token
from mappings.records import Handle
from sandbox.mail import MailSandbox, SmtpFault
from taps.email import TapEmail
from targets.senders.base import Outgoing
from targets.senders.email import EmailSender, EmailSenderSettings

needs_dovecot = pytest.mark.skipif(not MailSandbox.available(), reason=str(MailSandbox.missing()))

SHOP, PASSWORD = "support@shop.example", "not-a-real-one"
MIA = Handle(kind="email", value="mia.rossi@mail.example")
_replies = count()
MakeSender = Callable[..., EmailSender]


@pytest.fixture(scope="module")
def server() -> Iterator[MailSandbox]:
    with MailSandbox({SHOP: PASSWORD}, size_limit_bytes=50_000) as running:
        yield running


@pytest.fixture
def sender(server: MailSandbox) -> Iterator[EmailSender]:
    server.smtp.taken.clear()
    server.smtp.faults.clear()
    yield make_sender(server)
    server.smtp.faults.clear()


def make_sender(server: MailSandbox, **changes: Any) -> EmailSender:
    values: dict[str, Any] = {
        "smtp_host": server.host, "smtp_port": server.smtp.port, "smtp_security": "none", "user": SHOP,
        "password": PASSWORD, "host": server.host, "port": server.imap_port, "ssl": False,
        "from_name": "Example Shop", "timeout_seconds": 10,
    }  # fmt: skip
    return EmailSender(EmailSenderSettings(**{**values, **changes}))


def reply(**changes: Any) -> Outgoing:
    key = f"hubspot:1:2:{next(_replies)}"
    values: dict[str, Any] = {
        "reply_key": key, "token": reply_token(key), "channel": "email", "account": SHOP, "to": MIA,
        "text": "Your order leaves today.",
    }  # fmt: skip
    return Outgoing(**{**values, **changes})


def in_sent(server: MailSandbox, outgoing: Outgoing) -> int:
    return sum(outgoing.token.encode() in raw for raw in server.mails(SHOP, "Sent"))


# Sending


@needs_dovecot
def test_a_reply_is_sent_once_with_our_id_and_in_its_thread(server: MailSandbox, sender: EmailSender) -> None:
    outgoing = reply(subject="Where?", thread_ids=["a@mail.example", "b@mail.example"])
    accepted = sender.send(outgoing)
    (taken,) = server.smtp.taken
    mail = message_from_bytes(taken.raw)
    assert (taken.sender, taken.recipients) == (SHOP, (MIA.value,))
    assert mail["Message-ID"] == f"<{outgoing.token}@shop.example>"
    assert mail["References"] == "<a@mail.example> <b@mail.example>"
    assert mail["From"] == "Example Shop <support@shop.example>"
    assert accepted.platform_message_id == f"{outgoing.token}@shop.example"
    assert accepted.message_key == message_key("email", SHOP, accepted.platform_message_id)


@needs_dovecot
def test_lines_that_begin_with_a_dot_arrive_as_they_are(server: MailSandbox, sender: EmailSender) -> None:
    sender.send(reply(text=".\n..two\nend"))
    assert str(message_from_bytes(server.smtp.taken[0].raw).get_payload()).split() == [".", "..two", "end"]


@needs_dovecot
def test_a_sent_reply_is_filed_in_sent_as_read(server: MailSandbox, sender: EmailSender) -> None:
    outgoing = reply()
    sender.send(outgoing)
    assert in_sent(server, outgoing) == 1
    assert all(b"\\Seen" in flags for flags in server.flags(SHOP, "Sent").values())


@needs_dovecot
def test_what_the_server_files_in_sent_is_not_filed_twice() -> None:
    with MailSandbox({SHOP: PASSWORD}, files_sent=True) as server:
        outgoing = reply()
        make_sender(server).send(outgoing)
        assert in_sent(server, outgoing) == 1


@needs_dovecot
def test_nothing_is_filed_when_that_is_switched_off(server: MailSandbox, sender: EmailSender) -> None:
    outgoing = reply()
    make_sender(server, append_to_sent=False).send(outgoing)
    assert in_sent(server, outgoing) == 0


@needs_dovecot
def test_a_copy_that_cannot_be_filed_does_not_undo_the_reply(
    server: MailSandbox, sender: EmailSender, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    caplog.set_level(logging.WARNING)
    assert make_sender(server, port=closed).send(reply()).message_key
    assert "no copy in Sent" in caplog.text
    assert MIA.value not in caplog.text


@needs_dovecot
def test_the_echo_in_sent_has_the_key_that_sending_gave(server: MailSandbox, sender: EmailSender) -> None:
    outgoing = reply()
    accepted = sender.send(outgoing)
    config = {"host": server.host, "port": server.imap_port, "ssl": False, "user": SHOP, "password": PASSWORD}
    with redirect_stdout(io.StringIO()) as output:
        TapEmail(config=config).sync_all()
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    echoes = [line["record"] for line in lines if line.get("record", {}).get("reply_token") == outgoing.token]
    assert [echo["message_key"] for echo in echoes] == [accepted.message_key]
    assert echoes[0]["direction"] == "outbound"


@needs_dovecot
def test_a_blind_copy_goes_to_the_mailbox_when_asked_for(server: MailSandbox, sender: EmailSender) -> None:
    outgoing = reply()
    make_sender(server, bcc_account=True, append_to_sent=False).send(outgoing)
    assert server.smtp.taken[0].recipients == (MIA.value, SHOP)
    assert b"bcc" not in server.smtp.taken[0].raw.lower()
    assert sum(outgoing.token.encode() in raw for raw in server.mails(SHOP)) == 1


@needs_dovecot
def test_another_from_address_is_used_in_envelope_header_and_id(server: MailSandbox, sender: EmailSender) -> None:
    outgoing = reply()
    accepted = make_sender(server, from_address="Hello@Brand.Example").send(outgoing)
    assert server.smtp.taken[0].sender == "hello@brand.example"
    assert accepted.platform_message_id == f"{outgoing.token}@brand.example"
    assert accepted.message_key.startswith(f"email:{SHOP}:")


# Refusals: certainly nothing was sent


@needs_dovecot
@pytest.mark.parametrize(
    ("stage", "answer", "error", "code"),
    [
        ("mail", "451 4.3.0 try later", UnavailableError, None),
        ("mail", "421 4.7.0 too many connections", RateLimitedError, None),
        ("rcpt", "450 4.2.1 receiving mail too quickly", RateLimitedError, None),
        ("rcpt", "452 4.5.3 too many recipients", RateLimitedError, None),
        ("rcpt", "450 greylisted", UnavailableError, None),
        ("rcpt", "550 5.1.1 <mia.rossi@mail.example> unknown", RejectedError, "5.1.1"),
        ("rcpt", "553 no", RejectedError, "553"),
        ("data", "451 4.7.1 slow down", RateLimitedError, None),
        ("data", "554 5.7.1 spam", RejectedError, "5.7.1"),
        ("done", "451 4.3.0 try later", UnavailableError, None),
        ("done", "554 5.6.0 spam", RejectedError, "5.6.0"),
        ("mail", "530 5.7.0 authentication required", CredentialsError, None),
    ],
)
def test_a_refusal_says_what_comes_next_and_names_nobody(
    server: MailSandbox, sender: EmailSender, stage: Any, answer: str, error: type[OneThreadError], code: str | None
) -> None:
    outgoing = reply()
    server.smtp.faults.append(SmtpFault(stage, answer))
    with pytest.raises(error) as caught:
        sender.send(outgoing)
    assert getattr(caught.value, "code", None) == code
    assert "nothing was sent" in str(caught.value)
    assert MIA.value not in str(caught.value)
    assert server.smtp.taken == []
    assert in_sent(server, outgoing) == 0


@needs_dovecot
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
def test_a_link_cut_before_the_content_sent_nothing(server: MailSandbox, sender: EmailSender, stage: Any) -> None:
    server.smtp.faults.append(SmtpFault(stage))
    with pytest.raises(UnavailableError, match="nothing was sent"):
        sender.send(reply())
    assert server.smtp.taken == []


@needs_dovecot
def test_a_refused_connection_sent_nothing(server: MailSandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    with pytest.raises(UnavailableError, match="nothing was sent"):
        make_sender(server, smtp_port=closed).send(reply())


@needs_dovecot
def test_a_server_that_never_greets_sent_nothing(server: MailSandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UnavailableError, match="nothing was sent"):
        make_sender(server, smtp_port=silent.getsockname()[1], timeout_seconds=0.2).send(reply())


@needs_dovecot
def test_a_wrong_password_stops_the_channel_and_is_not_told(server: MailSandbox) -> None:
    with pytest.raises(CredentialsError, match="check `user` and `password`") as caught:
        make_sender(server, smtp_password=SecretStr("wrong-secret")).send(reply())
    assert "wrong-secret" not in str(caught.value)


@needs_dovecot
def test_a_password_beyond_ascii_is_sent_as_utf8() -> None:
    with MailSandbox({SHOP: "pässwörd"}) as server:
        sender = make_sender(server, password="pässwörd")
        assert sender.send(reply()).message_key
        assert len(server.mails(SHOP, "Sent")) == 1
        with pytest.raises(CredentialsError):
            make_sender(server, password="fälsch").send(reply())


@needs_dovecot
def test_a_mail_too_large_for_the_server_is_refused_before_it_is_sent(server: MailSandbox, sender: EmailSender) -> None:
    with pytest.raises(RejectedError) as caught:
        sender.send(reply(text="word " * 20_000))
    assert caught.value.code == "too_large"
    assert server.smtp.taken == []


@needs_dovecot
def test_an_address_that_the_server_cannot_write_to_is_refused(server: MailSandbox, sender: EmailSender) -> None:
    with pytest.raises(RejectedError) as caught:
        sender.send(reply(to=Handle(kind="email", value="jürgen@mail.example")))
    assert caught.value.code == "smtputf8"


@needs_dovecot
def test_a_server_without_tls_is_a_wrong_setting(server: MailSandbox) -> None:
    for security in ("starttls", "ssl"):
        with pytest.raises(CredentialsError, match="`smtp_security`"):
            make_sender(server, smtp_security=security).send(reply())


@needs_dovecot
def test_tls_is_spoken_and_the_certificate_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with MailSandbox({SHOP: PASSWORD}, tls=True) as server:
        sender = make_sender(server, smtp_security="starttls", ssl=True, port=server.imaps_port)
        with pytest.raises(CredentialsError, match="is not trusted"):
            sender.send(reply())
        assert server.smtp.taken == []
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca_file))
        outgoing = reply()
        assert sender.send(outgoing).message_key
        assert in_sent(server, outgoing) == 1


# What nobody can know


@needs_dovecot
@pytest.mark.parametrize("taken", [True, False])
def test_a_link_cut_after_the_final_dot_is_unknown_either_way(
    server: MailSandbox, sender: EmailSender, taken: bool
) -> None:
    outgoing = reply()
    server.smtp.faults.append(SmtpFault("done", taken=taken))
    with pytest.raises(OutcomeUnknownError, match="may have been sent"):
        sender.send(outgoing)
    assert len(server.smtp.taken) == taken
    assert sender.settle(outgoing) is None


@needs_dovecot
def test_an_answer_that_comes_too_late_is_unknown(server: MailSandbox, sender: EmailSender) -> None:
    server.smtp.faults.append(SmtpFault("done", "250 OK", taken=True, delay_seconds=1.0))
    with pytest.raises(OutcomeUnknownError):
        make_sender(server, timeout_seconds=0.3).send(reply())


@needs_dovecot
def test_a_goodbye_after_the_content_is_unknown(server: MailSandbox, sender: EmailSender) -> None:
    server.smtp.faults.append(SmtpFault("done", "421 4.3.2 shutting down", taken=True))
    with pytest.raises(OutcomeUnknownError):
        sender.send(reply())


@needs_dovecot
def test_an_unknown_reply_is_settled_by_the_copy_that_the_server_filed() -> None:
    with MailSandbox({SHOP: PASSWORD}, files_sent=True) as server:
        sender = make_sender(server)
        outgoing = reply()
        server.smtp.faults.append(SmtpFault("done", taken=True))
        with pytest.raises(OutcomeUnknownError):
            sender.send(outgoing)
        settled = sender.settle(outgoing)
        assert settled is not None
        assert settled.platform_message_id == f"{outgoing.token}@shop.example"
        assert sender.settle(reply()) is None


@needs_dovecot
def test_an_unknown_reply_is_settled_by_its_blind_copy(server: MailSandbox, sender: EmailSender) -> None:
    outgoing = reply()
    server.smtp.faults.append(SmtpFault("done", taken=True))
    with pytest.raises(OutcomeUnknownError):
        make_sender(server, bcc_account=True).send(outgoing)
    settled = sender.settle(outgoing)
    assert settled is not None
    assert settled.message_key == message_key("email", SHOP, f"{outgoing.token}@shop.example")


@needs_dovecot
def test_looking_for_evidence_marks_nothing_as_read(server: MailSandbox, sender: EmailSender) -> None:
    outgoing = reply()
    make_sender(server, bcc_account=True, append_to_sent=False).send(outgoing)
    before = server.flags(SHOP)
    assert sender.settle(outgoing) is not None
    assert server.flags(SHOP) == before


@needs_dovecot
def test_a_mailbox_that_cannot_be_asked_proves_nothing_and_says_so(server: MailSandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    with pytest.raises(UnavailableError):
        make_sender(server, port=closed).settle(reply())
    with pytest.raises(CredentialsError):
        make_sender(server, password="wrong").settle(reply())
    assert make_sender(server, host=None, append_to_sent=False).settle(reply()) is None


@pytest.mark.skipif(shutil.which("smtp-sink") is None, reason="Postfix's smtp-sink is not installed")
def test_an_independent_server_that_hangs_up_after_the_final_dot_leaves_it_unknown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    sink = subprocess.Popen(["smtp-sink", "-u", "nobody", "-q", ".", f"127.0.0.1:{port}", "10"])
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        settings = EmailSenderSettings(
            smtp_host="127.0.0.1", smtp_port=port, smtp_security="none", user=SHOP, password=SecretStr(PASSWORD),
            append_to_sent=False,
        )  # fmt: skip
        sender = EmailSender(settings)
        sender._log_in = lambda smtp: None  # type: ignore[method-assign]  # smtp-sink has no AUTH
        with pytest.raises(OutcomeUnknownError):
            sender.send(reply())
    finally:
        sink.terminate()
        sink.wait()


# Settings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SMTP_HOST": "smtp.shop.example", "USER": "u1", "PASSWORD": "p", "ACCOUNT": "Support@Shop.Example",
        "APPEND_TO_SENT": "false", "OWN_ADDRESSES": '["x@shop.example"]', "SMTP_PORT": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"ONETHREAD_EMAIL_{name}", value)
    sender = EmailSender()
    assert (sender.account, sender.from_address) == (SHOP, SHOP)
    assert "'p'" not in repr(sender.settings)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"user": "u1", "append_to_sent": False}, "`account`"), ({"host": None}, "append_to_sent needs the IMAP `host`")],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], field: str) -> None:
    values: dict[str, Any] = {"smtp_host": "h", "user": SHOP, "password": "p", "host": "h"}
    with pytest.raises(ValidationError, match=field):
        EmailSenderSettings(**{**values, **changes})


@needs_dovecot
def test_the_stand_in_tells_the_settings_that_reach_it(server: MailSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment(SHOP).items():
        monkeypatch.setenv(f"ONETHREAD_{name}", value)
    assert EmailSender().send(reply()).message_key
