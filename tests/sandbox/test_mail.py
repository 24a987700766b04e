"""The mail stand-in: what is real in it works, and it misbehaves only when told to."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from imapclient import IMAPClient

from mappings.errors import SettingsError
from sandbox.mail import MailSandbox, SmtpFault

SHOP = "support@shop.example"
OTHER = "warehouse@shop.example"
PASSWORD = "not-a-real-one"
RAW = b"From: mia@mail.example\r\nMessage-ID: <a@mail.example>\r\nSubject: Hello\r\n\r\nHello.\r\n"

needs_dovecot = pytest.mark.skipif(not MailSandbox.available(), reason=str(MailSandbox.missing()))


@pytest.fixture(scope="module")
def server() -> Iterator[MailSandbox]:
    with MailSandbox({SHOP: PASSWORD, OTHER: PASSWORD}, size_limit_bytes=100_000) as running:
        yield running


@contextmanager
def smtp(server: MailSandbox, *, login: bool = True) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP(server.host, server.smtp.port, timeout=10) as connection:
        if login:
            connection.login(SHOP, PASSWORD)
        yield connection


def send(server: MailSandbox, *recipients: str, raw: bytes = RAW) -> None:
    with smtp(server) as connection:
        connection.sendmail(SHOP, list(recipients), raw)


def test_where_there_is_no_dovecot_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MailSandbox, "missing", classmethod(lambda cls: "Dovecot is not installed (apt-get ...)"))
    assert not MailSandbox.available()
    with pytest.raises(SettingsError, match="not installed"):
        MailSandbox({SHOP: PASSWORD}).start()


@needs_dovecot
def test_a_delivered_mail_lies_in_inbox_as_it_was_unread(server: MailSandbox) -> None:
    server.deliver(RAW, OTHER)
    assert server.mails(OTHER)[-1].endswith(RAW)
    assert all(b"\\Seen" not in flags for flags in server.flags(OTHER).values())


@needs_dovecot
def test_the_sent_folder_is_marked(server: MailSandbox) -> None:
    with server.imap(SHOP) as client:
        assert [name for flags, _, name in client.list_folders() if b"\\Sent" in flags] == ["Sent"]


@needs_dovecot
def test_a_wrong_password_is_refused_on_both_sides(server: MailSandbox) -> None:
    with smtp(server, login=False) as connection, pytest.raises(smtplib.SMTPAuthenticationError):
        connection.login(SHOP, "wrong")
    with IMAPClient(server.host, port=server.imap_port, ssl=False) as client, pytest.raises(client.Error):
        client.login(SHOP, "wrong")


@needs_dovecot
def test_nothing_is_taken_without_a_login(server: MailSandbox) -> None:
    with smtp(server, login=False) as connection, pytest.raises(smtplib.SMTPSenderRefused) as caught:
        connection.sendmail(SHOP, ["mia@mail.example"], RAW)
    assert caught.value.smtp_code == 530


@needs_dovecot
def test_a_sent_mail_is_kept_and_reaches_local_mailboxes(server: MailSandbox) -> None:
    before = len(server.mails(OTHER))
    server.smtp.taken.clear()
    send(server, "mia@mail.example", OTHER)
    assert len(server.mails(OTHER)) == before + 1
    (sent,) = server.state()["sent"]
    assert (sent["message_id"], sent["to"]) == ("a@mail.example", ["mia@mail.example", OTHER])


@needs_dovecot
def test_a_mail_over_the_size_limit_is_refused(server: MailSandbox) -> None:
    with pytest.raises((smtplib.SMTPDataError, smtplib.SMTPSenderRefused)) as caught:
        send(server, "mia@mail.example", raw=RAW + b"x\r\n" * 50_000)
    assert caught.value.smtp_code == 552


@needs_dovecot
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "done"])
def test_a_refusal_at_any_stage_takes_nothing_and_happens_once(server: MailSandbox, stage: str) -> None:
    server.smtp.taken.clear()
    server.smtp.faults.append(SmtpFault(stage, "451 4.3.0 not now"))  # type: ignore[arg-type]
    with pytest.raises(smtplib.SMTPException):
        send(server, "mia@mail.example")
    assert server.smtp.taken == []
    send(server, "mia@mail.example")
    assert len(server.smtp.taken) == 1


@needs_dovecot
@pytest.mark.parametrize("taken", [True, False])
def test_the_link_can_be_cut_after_the_final_dot(server: MailSandbox, taken: bool) -> None:
    server.smtp.taken.clear()
    server.smtp.faults.append(SmtpFault("done", taken=taken))
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send(server, "mia@mail.example")
    assert len(server.smtp.taken) == taken


@needs_dovecot
def test_a_folder_can_get_another_uidvalidity(server: MailSandbox) -> None:
    server.set_uidvalidity(SHOP, "Sent", 4711)
    with server.imap(SHOP) as client:
        assert client.select_folder("Sent", readonly=True)[b"UIDVALIDITY"] == 4711


@needs_dovecot
def test_imap_connections_can_be_cut(server: MailSandbox) -> None:
    client = server.imap(OTHER)
    client.select_folder("INBOX", readonly=True)
    client.idle()
    server.drop_connections(OTHER)
    client.idle_check(timeout=10)
    with pytest.raises((client.AbortError, OSError)):
        client.idle_done()
    client.shutdown()


@needs_dovecot
def test_nothing_is_left_after_the_end() -> None:
    with MailSandbox({SHOP: PASSWORD}, files_sent=True) as server:
        folder, port = server._folder, server.smtp.port
        send(server, "mia@mail.example")
        assert server.mails(SHOP, "Sent")[0].endswith(RAW)
    assert not folder.exists()
    with pytest.raises(OSError, match="refused"):
        smtplib.SMTP(server.host, port, timeout=5)


@needs_dovecot
def test_with_tls_both_sides_speak_it() -> None:
    with MailSandbox({SHOP: PASSWORD}, tls=True) as server:
        context = ssl.create_default_context(cafile=str(server.ca_file))
        with smtplib.SMTP(server.host, server.smtp.port, timeout=10) as connection:
            connection.starttls(context=context)
            connection.login(SHOP, PASSWORD)
        with IMAPClient(server.host, port=server.imaps_port, ssl=True, ssl_context=context) as client:
            client.login(SHOP, PASSWORD)
        assert server.environment(SHOP)["EMAIL_PORT"] == str(server.imaps_port)
