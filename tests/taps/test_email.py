"""tap-email against a real Dovecot: nothing is lost, nothing is marked as read, a broken link is made anew."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import count
from typing import Any

import pytest

import taps.email
import taps.email_mailbox
from mappings.errors import CredentialsError, SettingsError, UnavailableError
from mappings.from_email import records_from_email
from mappings.records import Message
from sandbox.mail import MailSandbox
from stores.archive import Archive
from stores.database import Stores
from stores.media import Media
from stores.parked import Parked
from taps.base import Checkpoint
from taps.email import EmailSettings, TapEmail
from tests.stores.file_server import PNG

pytestmark = pytest.mark.skipif(not MailSandbox.available(), reason=str(MailSandbox.missing()))

PASSWORD = "not-a-real-one"
ACCOUNTS = [f"support{number}@shop.example" for number in range(60)]
_next_account = count()
Run = Callable[[Any], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def server() -> Iterator[MailSandbox]:
    with MailSandbox(dict.fromkeys(ACCOUNTS, PASSWORD)) as running:
        yield running


@pytest.fixture
def account() -> str:
    """A mailbox that no other test uses."""
    return ACCOUNTS[next(_next_account)]


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taps.email, "RETRY_SECONDS", 0.01)


def mail(number: int | str, sender: str = "Mia <mia@mail.example>", text: str = "Hello", **fields: str) -> bytes:
    made = EmailMessage()
    made["From"] = sender
    made["To"] = "support@shop.example"
    made["Subject"] = f"Mail {number}"
    made["Message-ID"] = f"<{number}@mail.example>"
    for name, value in fields.items():
        del made[name.replace("_", "-")]
        made[name.replace("_", "-")] = value
    made.set_content(text)
    return made.as_bytes()


def tap(server: MailSandbox, user: str, state: dict[str, Any] | None = None, **config: Any) -> TapEmail:
    reached: dict[str, Any] = {
        "host": server.host, "port": server.imap_port, "ssl": False, "user": user, "password": PASSWORD,
    }  # fmt: skip
    return TapEmail(config={**reached, **config}, state=state or {})


def messages(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line["record"] for line in lines if line["type"] == "RECORD" and line["stream"] == "messages"]


def ids(lines: list[dict[str, Any]]) -> list[str]:
    return [one["thread_ids"][0].partition("@")[0] for one in messages(lines)]


def state_of(lines: list[dict[str, Any]]) -> dict[str, Any]:
    last: dict[str, Any] = [line for line in lines if line["type"] == "STATE"][-1]["value"]
    return last


# Reading


def test_every_mail_of_inbox_and_sent_becomes_one_message(server: MailSandbox, account: str, run_tap: Run) -> None:
    for number in range(3):
        server.deliver(mail(number), account)
    server.append(mail("answer", sender=account, To="mia@mail.example"), account, "Sent")
    lines = run_tap(tap(server, account))
    assert ids(lines) == ["0", "1", "2", "answer"]
    assert [one["direction"] for one in messages(lines)] == ["inbound", "inbound", "inbound", "outbound"]
    assert {one["account"] for one in messages(lines)} == {account}


def test_a_second_run_reads_only_what_is_new(server: MailSandbox, account: str, run_tap: Run) -> None:
    server.deliver(mail("old"), account)
    state = state_of(run_tap(tap(server, account)))
    assert ids(run_tap(tap(server, account, state))) == []
    server.deliver(mail("new"), account)
    lines = run_tap(tap(server, account, state))
    assert ids(lines) == ["new"]
    assert ids(run_tap(tap(server, account, state_of(lines)))) == []


def test_nothing_is_marked_as_read(server: MailSandbox, account: str, run_tap: Run) -> None:
    server.deliver(mail("unread"), account)
    server.append(mail("sent", sender=account), account, "Sent")
    before = server.flags(account), server.flags(account, "Sent")
    assert len(ids(run_tap(tap(server, account)))) == 2
    assert (server.flags(account), server.flags(account, "Sent")) == before
    assert all(b"\\Seen" not in flags for flags in before[0].values())


def test_a_folder_that_was_made_anew_is_read_again_under_the_same_keys(
    server: MailSandbox, account: str, run_tap: Run
) -> None:
    for number in range(2):
        server.deliver(mail(number), account)
    first = run_tap(tap(server, account))
    server.set_uidvalidity(account, "INBOX", 4711)
    second = run_tap(tap(server, account, state_of(first)))
    assert [one["message_key"] for one in messages(second)] == [one["message_key"] for one in messages(first)]
    assert state_of(second)["bookmarks"]["cursor"]["folders"]["INBOX"]["uidvalidity"] == 4711
    assert ids(run_tap(tap(server, account, state_of(second)))) == []


def test_one_mail_in_two_folders_has_one_key(server: MailSandbox, account: str, run_tap: Run) -> None:
    copy = mail("copy", sender=account, To="mia@mail.example")
    server.deliver(copy, account)
    server.append(copy, account, "Sent")
    found = messages(run_tap(tap(server, account)))
    assert len(found) == 2
    assert len({one["message_key"] for one in found}) == 1
    assert len({one["raw_ref"] for one in found}) == 2


def test_mail_that_came_before_the_start_date_is_left_alone(server: MailSandbox, account: str, run_tap: Run) -> None:
    with server.imap(account) as client:
        client.append("INBOX", mail("before"), msg_time=datetime(2026, 9, 30, 23, 59, tzinfo=UTC))
        client.append("INBOX", mail("on"), msg_time=datetime(2026, 10, 1, 0, 1, tzinfo=UTC))
    lines = run_tap(tap(server, account, start_date="2026-10-01"))
    assert ids(lines) == ["on"]
    assert messages(lines)[0]["received_at"] == "2026-10-01T00:01:00Z"


def test_of_an_oversized_mail_only_the_header_is_read(server: MailSandbox, account: str, run_tap: Run) -> None:
    server.deliver(mail("large", text="word " * 2_000), account)
    server.deliver(mail("small"), account)
    large, small = messages(run_tap(tap(server, account, max_message_bytes=4_096)))
    assert (large["flags"], large["text"], large["subject"]) == (["oversized"], None, "Mail large")
    assert large["content"]["size_bytes"] > 10_000
    assert (small["flags"], small["text"]) == ([], "Hello")


def test_only_chosen_folders_are_read(server: MailSandbox, account: str, run_tap: Run) -> None:
    server.deliver(mail("inbox"), account)
    server.append(mail("shop"), account, "Shop & Größe")
    assert ids(run_tap(tap(server, account, folders=["Shop & Größe"]))) == ["shop"]


def test_a_folder_that_is_not_there_stops_the_run(server: MailSandbox, account: str, run_tap: Run) -> None:
    with pytest.raises(SettingsError, match="'Shpo'; there are: 'INBOX', 'Sent'"):
        run_tap(tap(server, account, folders=["Shpo"]))


def test_large_folders_are_searched_and_fetched_in_pieces(
    server: MailSandbox, account: str, run_tap: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taps.email_mailbox, "_WINDOW", 3)
    monkeypatch.setattr(taps.email, "_CHUNK_MAILS", 2)
    monkeypatch.setattr(taps.email, "_CHUNK_BYTES", 500)
    for number in range(8):
        server.deliver(mail(number), account)
    with server.imap(account) as client:
        client.select_folder("INBOX")
        client.delete_messages([2, 5])
        client.expunge()
    lines = run_tap(tap(server, account))
    assert ids(lines) == ["0", "2", "3", "5", "6", "7"]
    assert state_of(lines)["bookmarks"]["cursor"]["folders"]["INBOX"]["uid"] == 8


def test_a_mail_deleted_while_reading_is_passed_over(
    server: MailSandbox, account: str, run_tap: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        server.deliver(mail(number), account)
    listed = taps.email_mailbox.Mailbox.list_mails

    def delete_then_list(self: Any, uids: Any) -> Any:
        answer = listed(self, uids)
        with server.imap(account) as client:
            client.select_folder("INBOX")
            client.delete_messages([2])
            client.expunge()
        return answer

    monkeypatch.setattr(taps.email_mailbox.Mailbox, "list_mails", delete_then_list)
    assert ids(run_tap(tap(server, account))) == ["0", "2"]


def test_receipts_evidence_and_consents_come_with_their_mails(server: MailSandbox, account: str, run_tap: Run) -> None:
    server.deliver(mail("elsewhere", Reply_To="private@mail.example"), account)
    server.deliver(mail("stop", text="STOP"), account)
    streams = [line["stream"] for line in run_tap(tap(server, account)) if line["type"] == "RECORD"]
    assert streams == ["messages", "evidence", "messages", "consents"]


def test_own_words_for_no_are_taken_from_a_file(server: MailSandbox, account: str, run_tap: Run, tmp_path: Any) -> None:
    words = tmp_path / "words.csv"
    words.write_text("decision,language,word,on_buttons\nopted_out,en,enough,yes\n", encoding="utf-8")
    server.deliver(mail("enough", text="Enough!"), account)
    lines = run_tap(tap(server, account, keywords_file=str(words)))
    assert [line["record"]["status"] for line in lines if line.get("stream") == "consents" and "record" in line] == [
        "opted_out"
    ]
    with pytest.raises(SettingsError, match="keywords_file"):
        run_tap(tap(server, account, keywords_file=str(tmp_path / "absent.csv")))


# Parking


def deep(number: str) -> bytes:
    levels = "".join(f"Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n" for level in range(200))
    return f"From: mia@mail.example\r\nMessage-ID: <{number}@mail.example>\r\n{levels}\r\nhello\r\n".encode()


def test_a_mail_that_cannot_be_read_is_parked_whole_and_the_rest_goes_on(
    server: MailSandbox, account: str, run_tap: Run, stores: Stores
) -> None:
    server.deliver(mail("first"), account)
    server.deliver(deep("deep"), account)
    server.deliver(mail("last"), account)
    assert ids(run_tap(tap(server, account))) == ["first", "last"]
    (parked,) = Parked(stores).list()
    assert (parked.part, parked.stream, parked.error) == ("tap-email", "messages", "UnknownShapeError")
    assert base64.b64decode(parked.payload["base64"]).endswith(deep("deep"))
    assert parked.raw_ref == f"imap:INBOX/{parked.payload['uidvalidity']}/2"


def test_a_failure_that_nobody_foresaw_parks_the_mail_and_can_be_replayed(
    server: MailSandbox, account: str, run_tap: Run, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.deliver(mail("odd"), account)
    server.deliver(mail("even"), account)
    understood = records_from_email

    def fail_on_odd(raw: bytes, context: Any) -> Any:
        if b"<odd@" in raw:
            message = "secret text of the mail"
            raise ZeroDivisionError(message)
        return understood(raw, context)

    monkeypatch.setattr(taps.email, "records_from_email", fail_on_odd)
    lines = run_tap(tap(server, account))
    assert ids(lines) == ["even"]
    parked = Parked(stores)
    (row,) = parked.list()
    assert "secret" not in row.reason

    monkeypatch.setattr(taps.email, "records_from_email", understood)
    assert parked.ask_replay([row.parked_id]) == 1
    replayed = run_tap(tap(server, account, state_of(lines)))
    assert ids(replayed) == ["odd"]
    assert parked.count("replay") == 1  # until a run shows that the target has taken it
    assert ids(run_tap(tap(server, account, state_of(replayed)))) == []
    assert parked.count("replayed") == 1


def test_a_mail_that_the_server_does_not_give_is_parked_and_fetched_on_replay(
    server: MailSandbox, account: str, run_tap: Run, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.deliver(mail("kept back"), account)
    given = taps.email_mailbox.Mailbox.fetch_mails
    monkeypatch.setattr(taps.email_mailbox.Mailbox, "fetch_mails", lambda self, uids, **options: {})
    lines = run_tap(tap(server, account))
    assert messages(lines) == []
    parked = Parked(stores)
    (row,) = parked.list()
    assert row.payload["base64"] is None

    monkeypatch.setattr(taps.email_mailbox.Mailbox, "fetch_mails", given)
    parked.ask_replay([row.parked_id])
    (found,) = messages(run_tap(tap(server, account, state_of(lines))))
    assert found["subject"] == "Mail kept back"


# Attachments


def with_files(number: str, *files: tuple[str, str, bytes], **fields: str) -> bytes:
    """A mail with attachments of (type, name, bytes)."""
    made = message_from_bytes(mail(number, **fields), policy=policy.default)
    assert isinstance(made, EmailMessage)
    for mime_type, name, data in files:
        maintype, _, subtype = mime_type.partition("/")
        made.add_attachment(data, maintype=maintype, subtype=subtype, filename=name)
    return made.as_bytes()


def files_of(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [file for one in messages(lines) for file in one["attachments"]]


def bytes_of(stores: Stores, file: dict[str, Any]) -> bytes:
    return b"".join(Media(stores).open(file["media_key"]))


def test_attachments_stay_in_the_mailbox_unless_asked_for(
    server: MailSandbox, account: str, run_tap: Run, state_url: str
) -> None:
    server.deliver(with_files("m", ("image/png", "a.png", PNG)), account)
    (file,) = files_of(run_tap(tap(server, account)))
    assert (file["media_key"], file["filename"]) == (None, "a.png")


def test_attachments_are_kept_when_the_mail_is_read(
    server: MailSandbox, account: str, run_tap: Run, stores: Stores
) -> None:
    invoice = b"%PDF-1.7 invoice"
    server.deliver(with_files("m", ("image/png", "a.png", PNG), ("application/pdf", "b.pdf", invoice)), account)
    first, second = files_of(run_tap(tap(server, account, fetch_media=True)))
    assert [bytes_of(stores, one) for one in (first, second)] == [PNG, invoice]
    assert (first["mime_type"], first["sha256"]) == ("image/png", hashlib.sha256(PNG).hexdigest())
    assert files_of(run_tap(tap(server, account, fetch_media=True))) == [first, second]  # read again: the same


def test_a_bad_attachment_costs_neither_its_mail_nor_the_other_attachments(
    server: MailSandbox, account: str, run_tap: Run, stores: Stores
) -> None:
    page, large = b"<html><script>alert(1)</script>", PNG + bytes(2_000)
    files = [("image/png", "page.png", page), ("image/png", "large.png", large), ("image/png", "a.png", PNG)]
    server.deliver(with_files("bad", *files, ("text/plain", "empty.txt", b"")), account)
    server.deliver(mail("next"), account)
    lines = run_tap(tap(server, account, fetch_media=True, media_max_bytes=1_000))
    assert ids(lines) == ["bad", "next"]
    kept = [bool(one["media_key"]) for one in files_of(lines)]
    assert kept == [False, False, True, False]
    rows = Parked(stores).list()
    assert [(row.part, row.stream, row.error) for row in rows] == [("tap-email", "media", "RejectedError")] * 2
    assert "alert" not in str([row.reason for row in rows])


def test_two_mails_under_one_message_id_keep_their_own_attachments(
    server: MailSandbox, account: str, run_tap: Run, stores: Stores
) -> None:
    other = PNG + b"other"
    server.deliver(with_files("same", ("image/png", "a.png", PNG)), account)
    server.deliver(with_files("same", ("image/png", "a.png", other), text="Another mail"), account)
    lines = run_tap(tap(server, account, fetch_media=True))
    assert [bytes_of(stores, one) for one in files_of(lines)] == [PNG, other]
    assert files_of(run_tap(tap(server, account, fetch_media=True))) == files_of(lines)
    media, archive = Media(stores), Archive(stores)
    archive.fold(messages=[Message.model_validate(one) for one in messages(lines)])
    media.erase(record["message_key"] for _, record in archive.changes("messages"))
    assert [media.facts(one["media_key"]) for one in files_of(lines)] == [None, None]
    assert [one["media_key"] for one in files_of(run_tap(tap(server, account, fetch_media=True)))] == [None, None]
    assert Parked(stores).count() == 0


def test_an_attachment_that_the_disk_had_no_room_for_is_kept_by_a_later_run(
    server: MailSandbox, account: str, run_tap: Run, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.deliver(with_files("m", ("image/png", "a.png", PNG)), account)
    with monkeypatch.context() as patch:
        patch.setattr("stores.media._KEEP_FREE_BYTES", 2**70)
        lines = run_tap(tap(server, account, fetch_media=True))
    assert [one["media_key"] for one in files_of(lines)] == [None]
    patient(monkeypatch)
    again = run_tap(tap(server, account, state_of(lines), fetch_media=True))
    (file,) = files_of(again)
    assert bytes_of(stores, file) == PNG
    assert messages(run_tap(tap(server, account, state_of(again), fetch_media=True))) == []
    assert Parked(stores).count("replayed") == 1


def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pause before another try be over."""
    asked = Parked.ask_retry
    monkeypatch.setattr(
        Parked, "ask_retry", lambda self, part, stream, now: asked(self, part, stream, now + timedelta(days=30))
    )


# Broken links and wrong settings


class Gate:
    """A relay in front of the server that cuts each of the first links after so many bytes from the server."""

    def __init__(self, port: int, cut_after: list[int]) -> None:
        self._target = port
        self._cut_after = cut_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.links = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            budget = self._cut_after[self.links] if self.links < len(self._cut_after) else 1 << 40
            self.links += 1
            threading.Thread(target=self._relay, args=(client, budget), daemon=True).start()

    def _relay(self, client: socket.socket, budget: int) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as target:
            threading.Thread(target=self._pump, args=(client, target, 1 << 40), daemon=True).start()
            self._pump(target, client, budget)
            for end in (client, target):
                with contextlib.suppress(OSError):  # the other side may have gone first
                    end.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, budget: int) -> None:
        try:
            while budget > 0 and (data := source.recv(min(4096, budget))):
                sink.sendall(data)
                budget -= len(data)
        except OSError:
            return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.mark.parametrize("cut_after", [30, 900, 2_500, 4_000])
def test_a_link_that_breaks_anywhere_loses_nothing(
    server: MailSandbox, account: str, run_tap: Run, cut_after: int
) -> None:
    for number in range(6):
        server.deliver(mail(number), account)
    gate = Gate(server.imap_port, [cut_after, cut_after])
    try:
        lines = run_tap(tap(server, account, port=gate.port))
    finally:
        gate.close()
    assert set(ids(lines)) == {"0", "1", "2", "3", "4", "5"}
    assert gate.links >= 2


def test_a_mail_that_breaks_the_link_each_time_is_parked(
    server: MailSandbox, account: str, run_tap: Run, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        server.deliver(mail(number), account)
    given = taps.email_mailbox.Mailbox.fetch_mails

    def hang_up(self: Any, uids: Any, **options: Any) -> Any:
        if 3 in uids:
            message = "the server hung up"
            raise UnavailableError(message)
        return given(self, uids, **options)

    monkeypatch.setattr(taps.email_mailbox.Mailbox, "fetch_mails", hang_up)
    lines = run_tap(tap(server, account))
    assert set(ids(lines)) == {"0", "1", "3", "4"}
    (row,) = Parked(stores).list()
    assert row.raw_ref is not None
    assert row.raw_ref.endswith("/3")
    assert ids(run_tap(tap(server, account, state_of(lines)))) == []


def test_a_server_that_stays_away_ends_the_run_with_its_name(
    account: str, run_tap: Run, server: MailSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    monkeypatch.setattr(taps.email, "MAX_TRIES", 2)
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{free} broke off in connect"):
        run_tap(tap(server, account, port=free))


def test_a_wrong_password_ends_the_run_at_once_and_is_not_told(
    server: MailSandbox, account: str, run_tap: Run, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(server.imap_port, [])
    caplog.set_level(logging.DEBUG)
    try:
        with pytest.raises(CredentialsError, match="check `user` and `password`") as caught:
            run_tap(tap(server, account, port=gate.port, password="wrong-secret"))
    finally:
        gate.close()
    assert gate.links == 1
    for text in (str(caught.value), caplog.text):
        assert "wrong-secret" not in text
        assert account not in text


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("NO [AUTHENTICATIONFAILED] Authentication failed.", CredentialsError),
        ("NO [UNAVAILABLE] Temporary authentication failure.", UnavailableError),
        ("NO [LIMIT] Too many simultaneous connections.", UnavailableError),
        ("BAD nonsense", CredentialsError),
    ],
)
def test_a_refused_login_is_told_from_a_server_in_trouble(
    said: str, error: type[Exception], server: MailSandbox, account: str, run_tap: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taps.email, "MAX_TRIES", 1)

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as lines:
            lines.write(b"* OK [CAPABILITY IMAP4rev1] hello\r\n")
            lines.flush()
            for line in lines:
                tag, command, *_ = line.split()
                answer = said.encode() if command.upper() == b"LOGIN" else b"OK done"
                lines.write(tag + b" " + answer + b"\r\n")
                lines.flush()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        with pytest.raises(error):
            run_tap(tap(server, account, port=listener.getsockname()[1]))
        thread.join(5)


def test_a_server_that_never_answers_is_given_up(
    server: MailSandbox, account: str, run_tap: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taps.email, "MAX_TRIES", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UnavailableError):
        run_tap(tap(server, account, port=silent.getsockname()[1], timeout_seconds=0.2))


def test_tls_on_a_plain_port_is_a_wrong_setting(server: MailSandbox, account: str, run_tap: Run) -> None:
    with pytest.raises(SettingsError, match="check `port` and `ssl`"):
        run_tap(tap(server, account, ssl=True))


def test_tls_is_spoken_and_the_certificate_checked(account: str, run_tap: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with MailSandbox({account: PASSWORD}, tls=True) as server:
        server.deliver(mail("encrypted"), account)
        with pytest.raises(SettingsError, match="is not trusted"):
            run_tap(tap(server, account, port=server.imaps_port, ssl=True))
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca_file))
        assert ids(run_tap(tap(server, account, port=server.imaps_port, ssl=True))) == ["encrypted"]
        assert ids(run_tap(tap(server, account))) == ["encrypted"]  # STARTTLS


@pytest.mark.parametrize(("config", "port"), [({}, 993), ({"ssl": False}, 143), ({"port": 10143}, 10143)])
def test_the_port_follows_from_tls(config: dict[str, Any], port: int) -> None:
    settings = EmailSettings.model_validate({"host": "h", "user": "a@shop.example", "password": "p", **config})
    assert settings.imap_port == port


def test_a_user_that_is_no_address_needs_an_account(server: MailSandbox) -> None:
    with pytest.raises(SettingsError, match="`account`"):
        tap(server, "u12345").settings  # noqa: B018
    assert tap(server, "u12345", account="Support@Shop.Example").settings.mailbox_account == "support@shop.example"


# Following


def test_mail_that_arrives_is_read_while_following(server: MailSandbox, account: str) -> None:
    reader = tap(server, account, follow_seconds=60)
    beats = 0
    for item in reader.read():
        if isinstance(item, Checkpoint) and item.heartbeat:
            beats += 1
            if beats == 1:
                server.deliver(mail("live"), account)
        if isinstance(item, Message):
            assert item.subject == "Mail live"
            break
    assert beats >= 1


def test_following_works_without_idle(server: MailSandbox, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taps.email_mailbox.Mailbox, "can_idle", False)
    monkeypatch.setattr(taps.email, "_POLL_SECONDS", 0.05)
    reader = tap(server, account, follow_seconds=60)
    delivered = False
    for item in reader.read():
        if isinstance(item, Checkpoint) and item.heartbeat and not delivered:
            server.deliver(mail("polled"), account)
            delivered = True
        if isinstance(item, Message):
            assert item.subject == "Mail polled"
            break


def test_a_link_that_is_cut_while_following_is_made_anew(server: MailSandbox, account: str) -> None:
    reader = tap(server, account, follow_seconds=60)
    cut = False
    for item in reader.read():
        if isinstance(item, Checkpoint) and item.heartbeat and not cut:
            cut = True
            server.drop_connections(account)
            server.deliver(mail("after the cut"), account)
        if isinstance(item, Message):
            assert item.subject == "Mail after the cut"
            break


def test_a_stop_request_ends_following_with_a_state(server: MailSandbox, account: str) -> None:
    server.deliver(mail("before"), account)
    reader = tap(server, account, follow_seconds=60)
    items = []
    for item in reader.read():
        items.append(item)
        if isinstance(item, Checkpoint) and item.heartbeat:
            reader._handle_termination(15, None)
    assert isinstance(items[-1], Checkpoint)
    assert items[-1].cursor["folders"]["INBOX"]["uid"] == 1
