"""A mail server of one's own: a real Dovecot for IMAP and LMTP, and aiosmtpd for SMTP, on free loopback ports.

Nothing of a mail store is imitated: folders, flags, UIDs, IDLE and searches are Dovecot's. SMTP is aiosmtpd, which can
be told to misbehave (`SmtpFault`) and which keeps every mail that it took, so that a test or the demo can count.
"""

from __future__ import annotations

import os
import shutil
import smtplib
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from email.parser import BytesHeaderParser
from functools import cache
from pathlib import Path
from typing import Any

from imapclient import IMAPClient

from mappings.errors import SettingsError
from sandbox.base import Rule
from sandbox.mail_smtp import SmtpFault, SmtpServer, TakenMail

__all__ = ["MailSandbox", "SmtpFault", "TakenMail"]

_CONFIG = """
base_dir={folder}/run
state_dir={folder}/state
protocols=imap lmtp
listen=127.0.0.1
ssl={ssl}
{certificate}
disable_plaintext_auth=no
log_path={folder}/dovecot.log
default_internal_user={user}
default_login_user={user}
default_internal_group={group}
first_valid_uid=1
mail_location=maildir:{folder}/mail/%u
mail_uid={user}
mail_gid={group}
mail_fsync=never
auth_mechanisms=plain login
auth_failure_delay=0
passdb {{
  driver=passwd-file
  args=scheme=PLAIN {folder}/passwd
}}
userdb {{
  driver=static
  args=uid={uid} gid={gid} home={folder}/mail/%u
}}
namespace inbox {{
  inbox=yes
  mailbox Sent {{
    auto=create
    special_use=\\Sent
  }}
}}
service imap-login {{
  chroot=
  inet_listener imap {{
    address=127.0.0.1
    port={imap_port}
  }}
  inet_listener imaps {{
    address=127.0.0.1
    port={imaps_port}
    ssl=yes
  }}
}}
service anvil {{
  chroot=
  unix_listener anvil-auth-penalty {{
    mode=0
  }}
}}
service stats {{
  chroot=
}}
service lmtp {{
  inet_listener lmtp {{
    address=127.0.0.1
    port={lmtp_port}
  }}
}}
protocol lmtp {{
  postmaster_address=postmaster@localhost.test
  auth_username_format=%Lu
}}
"""
"""Dovecot 2.3 without root, logging only into its own folder; wrong passwords are answered at once."""

_LIBRARIES = (Path("/usr/lib/dovecot"), Path("/usr/libexec/dovecot"))
_START_SECONDS = 20.0


class MailSandbox:
    """A mail server with the accounts given. Use it as a context manager, or start and stop it.

    Args:
        accounts: mailbox address -> password.
        size_limit_bytes: the largest mail that SMTP takes, told in EHLO.
        files_sent: file a copy of what an account sends by SMTP in its Sent folder, as Gmail and Exchange do.
        tls: offer STARTTLS on SMTP and IMAP, and an IMAPS port, with a certificate made for this run (`ca_file`).
    """

    rules: tuple[Rule, ...] = (
        Rule("a mail over the SIZE of EHLO is answered 552", "RFC 1870 section 6", "documented", "aiosmtpd"),
        Rule("a wrong password is answered 535", "RFC 4954 section 6", "documented", "aiosmtpd"),
        Rule("MAIL before AUTH is answered 530", "RFC 4954 section 6", "documented"),
        Rule("folders, UIDs, flags, IDLE, SEARCH HEADER, \\Sent", "RFC 3501, 6154, 2177", "documented", "Dovecot"),
    )

    def __init__(
        self,
        accounts: Mapping[str, str],
        *,
        size_limit_bytes: int = 10_485_760,
        files_sent: bool = False,
        tls: bool = False,
    ) -> None:
        self.accounts = dict(accounts)
        self.host = "127.0.0.1"
        self.ca_file: Path | None = None
        self.imap_port = self.imaps_port = self.lmtp_port = 0
        self._tls = tls
        self._files_sent = files_sent
        self._folder = Path()
        self._dovecot: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._delivered: dict[str, int] = {}
        self.smtp = SmtpServer(self.accounts, self._take, size_limit_bytes=size_limit_bytes)

    # Is it there

    @classmethod
    def missing(cls) -> str | None:
        """Why there is no mail server here, in words; ``None`` when there is one."""
        return _missing()

    @classmethod
    def available(cls) -> bool:
        """Whether Dovecot 2.3 with IMAP and LMTP is installed."""
        return cls.missing() is None

    # Start and stop

    def start(self) -> MailSandbox:
        """Begin to answer; raises `SettingsError` when Dovecot is not installed or does not start."""
        if (reason := self.missing()) is not None:
            raise SettingsError(reason)
        self._folder = Path(tempfile.mkdtemp(prefix="onethread-mail-"))
        try:
            if self._tls:
                from sandbox.mail_certificate import make_certificate

                self.ca_file, key_file = make_certificate(self._folder)
                self.smtp.use_tls(self.ca_file, key_file)
            self._start_dovecot()
            self.smtp.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop answering and remove every mail."""
        self.smtp.stop()
        if self._dovecot is not None:
            self._dovecot.terminate()
            try:
                self._dovecot.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._dovecot.kill()
                self._dovecot.wait()
            self._dovecot = None
        if self._folder.name.startswith("onethread-mail-"):
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> MailSandbox:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    # What a mail program or a stranger does

    def deliver(self, raw: bytes, mailbox: str, *, sender: str = "stranger@elsewhere.test") -> None:
        """Put `raw` into the INBOX of `mailbox`, as it is, by LMTP."""
        with smtplib.LMTP(self.host, self.lmtp_port) as lmtp:
            lmtp.sendmail(sender, [mailbox], raw, mail_options=["BODY=8BITMIME"])
        with self._lock:
            self._delivered[mailbox] = self._delivered.get(mailbox, 0) + 1

    def append(self, raw: bytes, mailbox: str, folder: str) -> None:
        """File `raw` in a folder of `mailbox` by IMAP; the folder is made when it is missing."""
        with self.imap(mailbox) as client:
            if not client.folder_exists(folder):
                client.create_folder(folder)
            client.append(folder, raw)

    def imap(self, mailbox: str) -> IMAPClient:
        """An IMAP connection, logged in; close it with ``with``."""
        client = IMAPClient(self.host, port=self.imap_port, ssl=False, timeout=30)
        try:
            client.plain_login(mailbox, self.accounts[mailbox])
        except BaseException:
            client.shutdown()
            raise
        return client

    def mails(self, mailbox: str, folder: str = "INBOX") -> list[bytes]:
        """The mails of a folder as they are stored, oldest first; their flags stay as they are."""
        with self.imap(mailbox) as client:
            client.select_folder(folder, readonly=True)
            found = client.fetch(client.search(), ["BODY.PEEK[]"])
            return [found[uid][b"BODY[]"] for uid in sorted(found)]

    def flags(self, mailbox: str, folder: str = "INBOX") -> dict[int, tuple[bytes, ...]]:
        """The flags of each mail of a folder, by UID."""
        with self.imap(mailbox) as client:
            client.select_folder(folder, readonly=True)
            found = client.fetch(client.search(), ["FLAGS"])
            return {uid: tuple(sorted(found[uid][b"FLAGS"])) for uid in sorted(found)}

    # What a mail administrator does

    def set_uidvalidity(self, mailbox: str, folder: str, uidvalidity: int) -> None:
        """Give a folder another UIDVALIDITY, as a restored or recreated folder has."""
        self._doveadm("mailbox", "update", "-u", mailbox, "--uid-validity", str(uidvalidity), folder)

    def drop_connections(self, mailbox: str) -> None:
        """Cut every IMAP connection of `mailbox`."""
        self._doveadm("kick", mailbox)

    # For those who count and configure

    def state(self) -> dict[str, Any]:
        """What was sent by SMTP and what came into mailboxes.

        ``sent``: each mail that SMTP took; ``delivered``: mails put into local mailboxes, by mailbox.
        """
        with self._lock:
            delivered = dict(sorted(self._delivered.items()))
        return {"sent": [_told(one) for one in list(self.smtp.taken)], "delivered": delivered}

    def environment(self, mailbox: str) -> dict[str, str]:
        """The settings that reach this server as `mailbox`, named without ``ONETHREAD_``."""
        return {
            "EMAIL_HOST": self.host,
            "EMAIL_PORT": str(self.imaps_port if self._tls else self.imap_port),
            "EMAIL_SSL": "true" if self._tls else "false",
            "EMAIL_USER": mailbox,
            "EMAIL_PASSWORD": self.accounts[mailbox],
            "EMAIL_SMTP_HOST": self.host,
            "EMAIL_SMTP_PORT": str(self.smtp.port),
            "EMAIL_SMTP_SECURITY": "starttls" if self._tls else "none",
        }

    # Inside

    def _take(self, mail: TakenMail) -> None:
        """Deliver what SMTP took: to the mailboxes that are here, and to the sender's Sent folder if asked."""
        for recipient in mail.recipients:
            if recipient in self.accounts:
                self.deliver(mail.raw, recipient, sender=mail.sender)
        if self._files_sent and mail.sender in self.accounts:
            self.append(mail.raw, mail.sender, "Sent")

    def _start_dovecot(self) -> None:
        user, uid, group, gid = _unprivileged()
        (self._folder / "passwd").write_text(
            "".join(f"{account}:{{PLAIN}}{password}::::::\n" for account, password in self.accounts.items()),
            encoding="utf-8",
        )
        for name in ("run", "state", "mail"):
            (self._folder / name).mkdir()
        for path in (self._folder, *self._folder.rglob("*")):
            if os.geteuid() == 0:
                os.chown(path, uid, gid)
        for _ in range(3):  # a port that was free a moment ago may be taken
            self.imap_port, self.lmtp_port, tls_port = (_free_port() for _ in range(3))
            self.imaps_port = tls_port if self._tls else 0
            certificate = f"ssl_cert=<{self.ca_file}\nssl_key=<{self._folder}/key.pem" if self._tls else ""
            (self._folder / "dovecot.conf").write_text(
                _CONFIG.format(
                    folder=self._folder, user=user, group=group, uid=uid, gid=gid, imap_port=self.imap_port,
                    imaps_port=self.imaps_port, lmtp_port=self.lmtp_port, ssl="yes" if self._tls else "no",
                    certificate=certificate,
                ),
                encoding="utf-8",
            )  # fmt: skip
            if os.geteuid() == 0:  # under a strict umask nobody else could read it
                os.chown(self._folder / "dovecot.conf", uid, gid)
            self._dovecot = subprocess.Popen(
                [_find("dovecot"), "-F", "-c", str(self._folder / "dovecot.conf")],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._folder,
                **_as_unprivileged(),
            )  # fmt: skip
            if self._answers():
                return
            self._dovecot.kill()
            self._dovecot.wait()
        log = self._folder / "dovecot.log"
        said = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else "nothing"
        msg = f"Dovecot did not start; it said: {said}"
        raise SettingsError(msg)

    def _answers(self) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        waiting = {self.imap_port, self.lmtp_port}
        while waiting and time.monotonic() < deadline and self._dovecot is not None and self._dovecot.poll() is None:
            for port in sorted(waiting):
                try:
                    with socket.create_connection((self.host, port), timeout=5) as connection:
                        if connection.recv(3):
                            waiting.discard(port)
                except OSError:
                    time.sleep(0.02)
        return not waiting

    def _doveadm(self, *arguments: str) -> None:
        done = subprocess.run(
            [_find("doveadm"), "-c", str(self._folder / "dovecot.conf"), *arguments],
            capture_output=True, check=False, cwd=self._folder, timeout=30, **_as_unprivileged(),
        )  # fmt: skip
        if done.returncode:
            msg = f"doveadm {arguments[0]} failed: {done.stderr.decode(errors='replace')[-500:]}"
            raise SettingsError(msg)


@cache
def _missing() -> str | None:
    dovecot = _find("dovecot")
    if not Path(dovecot).exists():
        return "Dovecot is not installed (Debian: apt-get install dovecot-imapd dovecot-lmtpd)"
    for part in ("imap-login", "lmtp"):
        if not any((library / part).exists() for library in _LIBRARIES):
            return f"Dovecot is installed without {part} (Debian: apt-get install dovecot-imapd dovecot-lmtpd)"
    version = subprocess.run([dovecot, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    if not version.startswith("2.3."):
        return f"Dovecot is {version.split()[:1]}; the stand-in writes the configuration language of 2.3"
    return None


def _find(program: str) -> str:
    return shutil.which(program) or f"/usr/{'sbin' if program == 'dovecot' else 'bin'}/{program}"


def _unprivileged() -> tuple[str, int, str, int]:
    """Whom Dovecot runs as: us, or `nobody` when we are root (it refuses to serve mail as root)."""
    import grp
    import pwd

    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    return user.pw_name, user.pw_uid, grp.getgrgid(user.pw_gid).gr_name, user.pw_gid


def _as_unprivileged() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    _, uid, _, gid = _unprivileged()
    return {"user": uid, "group": gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _told(mail: TakenMail) -> dict[str, Any]:
    headers = BytesHeaderParser().parsebytes(mail.raw)
    return {
        "message_id": str(headers.get("Message-ID", "")).strip().strip("<>"),
        "from": mail.sender,
        "to": list(mail.recipients),
        "subject": str(headers.get("Subject", "")),
        "size_bytes": len(mail.raw),
        "at": mail.taken_at,
    }
