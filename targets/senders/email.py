"""Sends replies by SMTP, and finds out by IMAP whether one went.

A mail has no idempotency key, but its Message-ID is ours and known before the call. So a reply whose outcome is unknown
is looked for in the mailbox: the Sent folder (where Gmail and Exchange put what SMTP takes, and we put what was taken)
and INBOX (for the copy that `bcc_account` asks for). To be found is evidence; not to be found proves nothing.

SMTP says when nothing was sent: a refusal before the content, and a 4xx or 5xx after it, upon which the server must
not try to deliver (RFC 5321 section 4.2.5, documented). What is lost after the content began is unknown.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import re
import smtplib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.errors import MessageError
from functools import cached_property
from typing import ClassVar, Literal, Self

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from mappings.contact_points import normalize_email
from mappings.errors import (
    CredentialsError,
    OneThreadError,
    OutcomeUnknownError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from mappings.from_email import own_address_of
from mappings.from_email.folders import folders_to_read, sent_folder_in
from mappings.ids import message_key
from mappings.to_email import email_for_reply, message_id_for_reply
from targets.senders.base import Accepted, Outgoing, SenderSettings

_LOG = logging.getLogger(__name__)
_ENHANCED = re.compile(rb"\s*([245]\.\d{1,3}\.\d{1,3})\b")
_RATE_STATUSES = ("4.7.", "4.5.3", "4.2.1")
"""Enhanced codes that ask to slow down: policy (Gmail 4.7.28, Exchange 4.7.5x), too many recipients, a mailbox that
gets mail too fast (Gmail 4.2.1); assumed from the codes' meaning in RFC 3463."""
_CREDENTIAL_CODES = frozenset({530, 534, 535, 538})
"""RFC 4954 section 6, documented."""


class EmailSenderSettings(SenderSettings):
    """Read from ``ONETHREAD_EMAIL_*``; `host` to `own_addresses` are the tap's."""

    model_config = SettingsConfigDict(
        **{**SenderSettings.model_config, "env_prefix": "ONETHREAD_EMAIL_", "env_ignore_empty": True}
    )

    smtp_host: str = Field(min_length=1, description="SMTP server for sending, e.g. smtp.example.com.")
    smtp_port: int | None = Field(
        None, ge=1, le=65535, description="SMTP port. Default: 587 for starttls, 465 for ssl, 25 for none."
    )
    smtp_security: Literal["starttls", "ssl", "none"] = Field(
        "starttls", description="How the connection is encrypted; `none` only for a server on this machine."
    )
    user: str = Field(min_length=1, description="Login name, usually the mailbox's address.")
    password: SecretStr = Field(min_length=1, description="Password, or app password where the provider wants one.")
    smtp_user: str | None = Field(None, description="Login name for SMTP where it is another. Default: `user`.")
    smtp_password: SecretStr | None = Field(None, description="Password for SMTP where it is another.")
    account: str | None = Field(None, min_length=1, description="The mailbox's address. Default: `user`.")
    from_address: str | None = Field(
        None, description="Address in From where it is another (alias). Default: `account`."
    )
    from_name: str | None = Field(None, description="Name in From, e.g. Example Shop.")
    default_subject: str = Field("Your message", min_length=1, description="Subject where the thread has none.")
    bcc_account: bool = Field(
        False, description="Send the mailbox a blind copy: evidence of sending where the server keeps none in Sent."
    )
    append_to_sent: bool = Field(
        True,
        description="Put what was sent in the Sent folder by IMAP. Off for servers that do so by themselves (Gmail).",
    )
    host: str | None = Field(None, min_length=1, description="IMAP server, for Sent and for looking things up.")
    port: int | None = Field(None, ge=1, le=65535, description="IMAP port. Default: 993, without `ssl` 143.")
    ssl: bool = Field(True, description="IMAP with TLS from the first byte.")
    timeout_seconds: float = Field(60.0, gt=0, description="How long to wait for an answer.")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if normalize_email(self.from_address or self.account or self.user) is None:
            msg = "`user` is no e-mail address: name the mailbox's address in `account`"
            raise ValueError(msg)
        if self.append_to_sent and self.host is None:
            msg = "append_to_sent needs the IMAP `host`; give it, or set append_to_sent to false"
            raise ValueError(msg)
        return self


class EmailSender:
    """One mailbox."""

    slug: ClassVar[str] = "email"
    settings_model: ClassVar[type[EmailSenderSettings]] = EmailSenderSettings

    def __init__(self, settings: EmailSenderSettings | None = None) -> None:
        self.settings: EmailSenderSettings = settings or EmailSenderSettings()

    @property
    def account(self) -> str:
        """The mailbox's address, as it stands in keys."""
        return own_address_of(self.settings.account or self.settings.user)

    @cached_property
    def from_address(self) -> str:
        """The address in From and in the envelope."""
        return own_address_of(self.settings.from_address or self.account)

    def send(self, outgoing: Outgoing) -> Accepted:
        """One mail; see `targets.senders.base` for what each error means."""
        sent_at = datetime.now(UTC)
        mail = email_for_reply(
            outgoing.to,
            token=outgoing.token,
            text=outgoing.text,
            template=outgoing.template,
            sender_address=self.from_address,
            sender_name=self.settings.from_name,
            sent_at=sent_at,
            subject=outgoing.subject,
            default_subject=self.settings.default_subject,
            reply_to_key=outgoing.reply_to_key,
            thread_ids=outgoing.thread_ids,
        )
        try:
            raw = mail.as_bytes()
        except (ValueError, MessageError) as error:
            msg = f"E-mail: the reply cannot be written as a mail ({type(error).__name__})"
            raise RejectedError(msg, code="unwritable") from None
        with self._smtp() as smtp:
            self._transfer(smtp, raw, outgoing.to.value)
        message_id = message_id_for_reply(outgoing.token, self.from_address)
        if self.settings.append_to_sent:
            self._append(raw, message_id, sent_at)
        return self._accepted(message_id, sent_at)

    def settle(self, outgoing: Outgoing) -> Accepted | None:
        """The mail in the mailbox, as evidence that it was sent; ``None`` proves nothing.

        Raises:
            UnavailableError: the mailbox could not be asked.
            CredentialsError: it refuses the login.
        """
        if self.settings.host is None:
            return None
        message_id = message_id_for_reply(outgoing.token, self.from_address)
        with self._imap() as imap:
            for folder in folders_to_read(imap.list_folders(), []):
                imap.select_folder(folder.name, readonly=True)
                if found := _by_message_id(imap, message_id):
                    arrived = imap.fetch(found[:1], ["INTERNALDATE"])[found[0]].get(b"INTERNALDATE")
                    sent_at = arrived.astimezone(UTC) if isinstance(arrived, datetime) else datetime.now(UTC)
                    return self._accepted(message_id, sent_at)
        return None

    def _accepted(self, message_id: str, sent_at: datetime) -> Accepted:
        return Accepted(message_key(self.slug, self.account, message_id), message_id, sent_at)

    # SMTP

    @contextlib.contextmanager
    def _smtp(self) -> Iterator[smtplib.SMTP]:
        """A connection, logged in. Whatever fails in here, nothing was sent."""
        smtp = self._connect()
        try:
            self._log_in(smtp)
            yield smtp
        finally:
            # The fate of the mail is decided before QUIT.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                smtp.quit()
            smtp.close()

    def _connect(self) -> smtplib.SMTP:
        settings = self.settings
        default_port = {"starttls": 587, "ssl": 465, "none": 25}[settings.smtp_security]
        port = settings.smtp_port or default_port
        where = f"{settings.smtp_host}:{port}"
        context = ssl.create_default_context()
        smtp: smtplib.SMTP | None = None
        try:
            if settings.smtp_security == "ssl":
                smtp = smtplib.SMTP_SSL(settings.smtp_host, port, timeout=settings.timeout_seconds, context=context)
            else:
                smtp = smtplib.SMTP(settings.smtp_host, port, timeout=settings.timeout_seconds)
            smtp.ehlo_or_helo_if_needed()
            if settings.smtp_security == "starttls":
                smtp.starttls(context=context)
                smtp.ehlo()
        except (smtplib.SMTPException, OSError) as error:
            if smtp is not None:
                smtp.close()
            raise self._not_connected(error, where) from None
        return smtp

    @staticmethod
    def _not_connected(error: Exception, where: str) -> OneThreadError:
        """What is wrong with the settings stops the channel, as a refused login does: nothing was sent."""
        match error:
            case ssl.SSLCertVerificationError():
                msg = (
                    f"E-mail: the certificate of {where} is not trusted ({error.verify_message}); check `smtp_host`, "
                    "or name your own authority in SSL_CERT_FILE"
                )
                return CredentialsError(msg)
            case ssl.SSLError() | smtplib.SMTPNotSupportedError():
                return CredentialsError(f"E-mail: {where} does not speak TLS so; check `smtp_port`, `smtp_security`")
        return UnavailableError(f"E-mail: no connection to {where} ({type(error).__name__}); nothing was sent")

    def _log_in(self, smtp: smtplib.SMTP) -> None:
        user = self.settings.smtp_user or self.settings.user
        password = (self.settings.smtp_password or self.settings.password).get_secret_value()
        try:
            if f"{user}{password}".isascii():
                smtp.login(user, password)
            else:  # smtplib encodes as ASCII; RFC 4616 says UTF-8
                answer = smtp.docmd(
                    "AUTH", f"PLAIN {base64.b64encode(f'{chr(0)}{user}{chr(0)}{password}'.encode()).decode()}"
                )
                if answer[0] != 235:
                    raise smtplib.SMTPAuthenticationError(*answer)
        except smtplib.SMTPAuthenticationError as error:
            if 400 <= error.smtp_code < 500:
                msg = f"E-mail: the login is not taken now ({error.smtp_code}); nothing was sent"
                raise UnavailableError(msg) from None
            msg = f"E-mail: the login is refused ({error.smtp_code}); check `user` and `password` (an app password?)"
            raise CredentialsError(msg) from None
        except smtplib.SMTPNotSupportedError:
            msg = "E-mail: the server offers no login on this connection; check `smtp_port` and `smtp_security`"
            raise CredentialsError(msg) from None
        except (smtplib.SMTPException, OSError) as error:
            msg = f"E-mail: the connection broke in the login ({type(error).__name__}); nothing was sent"
            raise UnavailableError(msg) from None

    def _transfer(self, smtp: smtplib.SMTP, raw: bytes, recipient: str) -> None:
        limit = smtp.esmtp_features.get("size", "")
        if limit.isdigit() and 0 < int(limit) < len(raw):
            msg = f"E-mail: the mail has {len(raw)} bytes, the server takes {limit}"
            raise RejectedError(msg, code="too_large")
        if not recipient.isascii() and not smtp.has_extn("smtputf8"):
            msg = "E-mail: the server cannot write to addresses with letters beyond ASCII"
            raise RejectedError(msg, code="smtputf8")
        options = [] if recipient.isascii() else ["SMTPUTF8"]
        try:
            _expect(smtp.mail(self.from_address, options), 250, "MAIL")
            _expect(smtp.rcpt(recipient), 250, "RCPT")
            if self.settings.bcc_account and self.account != recipient:
                smtp.rcpt(self.account)  # refused or not: the customer's copy counts
            _expect(smtp.docmd("DATA"), 354, "DATA")
        except (smtplib.SMTPException, OSError) as error:
            msg = f"E-mail: the connection broke before the content ({type(error).__name__}); nothing was sent"
            raise UnavailableError(msg) from None
        try:
            smtp.send(_dotted(raw))
            answer = smtp.getreply()
        except (smtplib.SMTPException, OSError) as error:
            msg = f"E-mail: no answer after the content ({type(error).__name__}); it may have been sent"
            raise OutcomeUnknownError(msg) from None
        if answer[0] == 421 or answer[0] < 200 or answer[0] >= 600:
            # 421 says only that the server hangs up.
            msg = f"E-mail: the server answered {answer[0]} after the content; it may have been sent"
            raise OutcomeUnknownError(msg)
        _expect(answer, 250, "the content")

    # IMAP

    @contextlib.contextmanager
    def _imap(self) -> Iterator[IMAPClient]:
        settings = self.settings
        if settings.host is None:
            msg = "E-mail: no IMAP `host` is set"
            raise CredentialsError(msg)
        port = settings.port or (993 if settings.ssl else 143)
        timeout = SocketTimeout(connect=min(15.0, settings.timeout_seconds), read=settings.timeout_seconds)
        context = ssl.create_default_context()
        try:
            imap = IMAPClient(settings.host, port=port, ssl=settings.ssl, ssl_context=context, timeout=timeout)
        except (IMAPClientError, OSError) as error:
            msg = f"E-mail: no connection to {settings.host}:{port} ({type(error).__name__})"
            raise UnavailableError(msg) from None
        try:
            imap.normalise_times = False
            if not settings.ssl and imap.has_capability("STARTTLS"):
                imap.starttls(context)
            self._log_in_to_imap(imap)
            yield imap
        except (IMAPClientError, OSError) as error:
            msg = f"E-mail: {settings.host}:{port} did not answer as it should ({type(error).__name__})"
            raise UnavailableError(msg) from None
        finally:
            with contextlib.suppress(IMAPClientError, OSError):
                imap.logout()
            with contextlib.suppress(IMAPClientError, OSError):
                imap.shutdown()

    def _log_in_to_imap(self, imap: IMAPClient) -> None:
        user, password = self.settings.user, self.settings.password.get_secret_value()
        try:
            if f"{user}{password}".isascii():
                imap.login(user, password)
            else:
                imap.plain_login(user, password)
        except IMAPClientError as error:
            if isinstance(error.__context__, IMAPClientAbortError):  # imapclient wraps a broken connection, too
                raise error.__context__ from None
            msg = f"E-mail: {self.settings.host} refuses the login; check `user` and `password`"
            raise CredentialsError(msg) from None

    def _append(self, raw: bytes, message_id: str, sent_at: datetime) -> None:
        """File the mail in Sent, unless the server has done so. A failure costs a copy, not the reply."""
        try:
            with self._imap() as imap:
                folder = sent_folder_in(imap.list_folders())
                if folder is None:
                    _LOG.warning("E-mail: no Sent folder to keep a copy in; set append_to_sent to false")
                    return
                imap.select_folder(folder, readonly=True)
                if not _by_message_id(imap, message_id):
                    imap.append(folder, raw, flags=[b"\\Seen"], msg_time=sent_at)
        except OneThreadError as error:
            _LOG.warning("E-mail: sent, but no copy in Sent: %s", error)


def _by_message_id(imap: IMAPClient, message_id: str) -> list[int]:
    found: list[int] = imap.search(["HEADER", "Message-ID", message_id])
    return found


def _expect(answer: tuple[int, bytes], wanted: int, what: str) -> None:
    """Nothing if the server said `wanted` (or another 2xx instead of 250); else the error for its refusal."""
    code, text = answer
    if code == wanted or (wanted == 250 and 200 <= code < 300):
        return
    match = _ENHANCED.match(text)
    status = match.group(1).decode() if match else str(code)
    msg = f"E-mail: the server answered {code} ({status}) to {what}; nothing was sent"
    if code in _CREDENTIAL_CODES:
        raise CredentialsError(f"{msg}; check `user`, `password` and `account`")
    if 400 <= code < 500:
        raise (RateLimitedError(msg) if status.startswith(_RATE_STATUSES) else UnavailableError(msg))
    raise RejectedError(msg, code=status)


def _dotted(raw: bytes) -> bytes:
    """The mail as DATA sends it: CRLF line ends, a dot before each line that begins with one, the final dot."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", raw)
    lines = re.sub(rb"(?m)^\.", b"..", lines)
    return lines + (b"" if lines.endswith(b"\r\n") else b"\r\n") + b".\r\n"
