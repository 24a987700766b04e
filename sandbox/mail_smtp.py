"""The SMTP side of the mail stand-in: aiosmtpd in a thread, faults on demand, every mail kept."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass(frozen=True, slots=True)
class TakenMail:
    """One mail that SMTP took: the envelope and the bytes. `taken_at` is in seconds since 1970."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes
    taken_at: float


@dataclass(slots=True)
class SmtpFault:
    """What to do to the next mails instead of taking them.

    Attributes:
        stage: at ``mail``, ``rcpt``, ``data`` (the command, before any content) or ``done`` (after the final dot).
        answer: what to say, e.g. ``"451 4.7.1 try later"``; ``None`` cuts the link without a word.
        taken: stage ``done``: whether the mail is taken all the same.
        delay_seconds: how long to wait before the answer.
    """

    stage: Literal["mail", "rcpt", "data", "done"]
    answer: str | None = None
    taken: bool = False
    times: int = 1
    delay_seconds: float = 0.0


class SmtpServer:
    """Answers SMTP on a loopback port once started; AUTH is required, with the accounts given."""

    def __init__(
        self, accounts: Mapping[str, str], take: Callable[[TakenMail], None], *, size_limit_bytes: int
    ) -> None:
        self.port = 0
        self.taken: list[TakenMail] = []
        self.faults: list[SmtpFault] = []
        self.logins = 0
        self._accounts = accounts
        self._take = take
        self._size_limit_bytes = size_limit_bytes
        self._tls: ssl.SSLContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Transport] = set()
        self._fault_lock = threading.Lock()
        # aiosmtpd 1.4.6 warns here of its own deprecated attribute on every login.
        logging.getLogger("mail.log").setLevel(logging.ERROR)

    def use_tls(self, certificate_file: Path, key_file: Path) -> None:
        """Offer STARTTLS with this certificate and demand it before AUTH."""
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate_file, key_file)

    def start(self) -> None:
        """Begin to answer."""
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait(10)

    def stop(self) -> None:
        """Cut every link and free the port."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop = self._thread = None

    def next_fault(self, stage: str) -> SmtpFault | None:
        """The fault for the next mail at `stage`, used up by asking."""
        with self._fault_lock:
            fault = next((one for one in self.faults if one.stage == stage), None)
            if fault is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
            return fault

    def _run(self, started: threading.Event) -> None:
        loop = self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(loop.create_server(self._session, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        try:
            loop.run_forever()
        finally:
            server.close()
            for transport in list(self._sessions):
                transport.abort()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0.01))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def _session(self) -> SMTP:
        return _Session(
            _Handler(self, self._take),
            sessions=self._sessions,
            data_size_limit=self._size_limit_bytes,
            hostname="mail.sandbox.test",
            ident="onethread stand-in",
            tls_context=self._tls,
            require_starttls=self._tls is not None,
            auth_require_tls=self._tls is not None,
            authenticator=self._authenticate,
        )

    def _authenticate(self, server: Any, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        del server, session, envelope, mechanism
        right = isinstance(data, LoginPassword) and self._accounts.get(data.login.decode()) == data.password.decode()
        self.logins += right
        # handled=False lets aiosmtpd answer 535; with True nobody answers and a client with a wrong password hangs
        # (aiosmtpd 1.4.6, observed 2026-11).
        return AuthResult(success=right, handled=False)


class _Session(SMTP):
    """One connection; the only change is that DATA itself can be refused, for which aiosmtpd has no hook."""

    def __init__(self, handler: _Handler, *, sessions: set[asyncio.Transport], **options: Any) -> None:
        super().__init__(handler, **options)
        self._sessions = sessions

    def connection_made(self, transport: Any) -> None:
        """Remember the link, to cut it at the end."""
        self._sessions.add(transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the link."""
        self._sessions.discard(self.transport)
        super().connection_lost(error)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 - the name is the SMTP command
        """Refuse DATA when told to; else as ever."""
        handler: _Handler = self.event_handler
        answer = await handler.fault_answer(self, "data")
        if answer is None:
            await super().smtp_DATA(arg)
        elif answer:
            await self.push(answer)


class _Handler:
    """Faults first, then take the mail."""

    def __init__(self, server: SmtpServer, take: Callable[[TakenMail], None]) -> None:
        self._server = server
        self._take = take

    async def handle_MAIL(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Note the sender, who must have logged in."""
        if not session.authenticated:
            return "530 5.7.0 Authentication required"
        answer = await self.fault_answer(server, "mail")
        if answer is None:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
            return "250 OK"
        return answer

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Note a recipient."""
        del session
        answer = await self.fault_answer(server, "rcpt")
        if answer is None:
            envelope.rcpt_tos.append(address)
            envelope.rcpt_options.extend(options)
            return "250 OK"
        return answer

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take the mail; a fault decides what is said about it."""
        del session
        fault = self._server.next_fault("done")
        if fault is None or fault.taken:
            raw = envelope.original_content or b""
            mail = TakenMail(envelope.mail_from or "", tuple(envelope.rcpt_tos), raw, time.time())
            self._server.taken.append(mail)
            await asyncio.get_running_loop().run_in_executor(None, self._take, mail)
        if fault is None:
            return "250 2.0.0 OK, taken"
        return await self._misbehave(server, fault)

    async def fault_answer(self, server: Any, stage: str) -> str | None:
        """``None`` to go on; an answer to give; an empty text when the link was cut."""
        fault = self._server.next_fault(stage)
        return None if fault is None else await self._misbehave(server, fault)

    @staticmethod
    async def _misbehave(server: Any, fault: SmtpFault) -> str:
        await asyncio.sleep(fault.delay_seconds)
        if fault.answer is not None:
            return fault.answer
        server.transport.abort()
        return ""
