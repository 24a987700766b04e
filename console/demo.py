"""`make demo`: the whole story against the stand-in servers, and an honest count at the end.

The stand-ins run in this process; the receiver, the console and Meltano's jobs run as a user would run them, in
processes of their own, two of which are killed on the way.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import requests

from console.demo_crms import DemoCrm, open_crm
from console.tally import Heard, heard_on_messenger, heard_on_whatsapp, tally
from mappings.errors import OneThreadError
from mappings.platforms import load_platforms
from sandbox import cast
from sandbox.base import Fault, SandboxServer
from sandbox.hubspot import HubSpotApp
from sandbox.mail import MailSandbox
from sandbox.messenger import MessengerApp
from sandbox.tryton import TrytonMissingError
from sandbox.whatsapp import WhatsAppApp

MAILBOX = "support@shop.example"
_MAIL_PASSWORD = "sandbox-mail-password"  # noqa: S105 - invented, nothing else accepts it


class Guest(Protocol):
    """A stand-in that plays a scene of its own in the full performance; it is a `SandboxApp` as well."""

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect tap and receiver to it, given its address."""

    def connect(self, receiver_url: str) -> None:
        """Begin to push to the receiver, where the platform pushes."""

    def play(self) -> None:
        """Its customers write."""

    def flush(self, timeout: float = 10) -> None:
        """Until everything that is pushed was accepted, or given up as the platform would."""

    def stop(self) -> None:
        """Stop pushing."""

    def heard(self) -> list[tuple[str, str | None, float]]:
        """(channel, words or None, seconds since 1970) of each message that must end up on a record; see `Heard`."""

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """The WSGI entry."""


def guests() -> dict[str, Any]:
    """A new stand-in of every installed platform that has a scene of its own."""
    found = {slug: platform.load("sandbox") for slug, platform in load_platforms().items() if platform.sandbox}
    return {slug: stand_in() for slug, stand_in in found.items() if hasattr(stand_in, "play")}


class Theatre:
    """The stand-ins, the project folder and the processes of one performance."""

    def __init__(
        self, folder: Path, stack: ExitStack, *, port: int = 0, full: bool = False, crm: str = "hubspot"
    ) -> None:
        self.folder = folder
        self.hubspot = HubSpotApp()
        self.whatsapp = WhatsAppApp(coexistence=True)
        self.messenger = MessengerApp()
        self.servers = [
            stack.enter_context(SandboxServer(app, port + number if port else 0))
            for number, app in enumerate((self.hubspot, self.whatsapp, self.messenger))
        ]
        self.mail: MailSandbox | None = None
        if MailSandbox.available():
            self.mail = stack.enter_context(MailSandbox({MAILBOX: _MAIL_PASSWORD}))
        self.guests: dict[str, Guest] = {}
        self._guest_environment: dict[str, str] = {}
        if full:
            for slug, guest in guests().items():
                server = stack.enter_context(SandboxServer(guest, port + len(self.servers) if port else 0))
                stack.callback(guest.stop)
                self.servers.append(server)
                self.guests[slug] = guest
                self._guest_environment |= guest.environment(server.url)
        self.crm: DemoCrm = open_crm(crm, stack, folder, self.hubspot)
        self.receiver_port, self.console_port = _free_port(), _free_port()
        self.environment = self._environment()
        self._started: list[subprocess.Popen[bytes]] = []
        stack.callback(self._end_all)
        mail = self.mail
        deliver = (lambda raw: mail.deliver(raw, MAILBOX)) if mail else None
        self.stage = cast.Stage(self.crm.app, self.whatsapp, self.messenger, deliver, MAILBOX)

    def _environment(self) -> dict[str, str]:
        hubspot, whatsapp, messenger = (server.url for server in self.servers[:3])
        values = {
            "STATE_URL": f"sqlite:///{self.folder / 'state'}",
            "HUBSPOT_ACCESS_TOKEN": "sandbox-token",
            "HUBSPOT_PORTAL_ID": "8800001",
            "HUBSPOT_API_URL": hubspot,
            "WHATSAPP_API_URL": whatsapp,
            "WHATSAPP_ACCESS_TOKEN": self.whatsapp.access_token,
            "WHATSAPP_APP_SECRET": self.whatsapp.app_secret,
            "WHATSAPP_VERIFY_TOKEN": self.whatsapp.verify_token,
            "WHATSAPP_PHONE_NUMBER_ID": self.whatsapp.phone_number_id,
            "MESSENGER_API_URL": messenger,
            "MESSENGER_ACCESS_TOKEN": self.messenger.access_token,
            "MESSENGER_APP_SECRET": self.messenger.app_secret,
            "MESSENGER_VERIFY_TOKEN": self.messenger.verify_token,
            "MESSENGER_PAGE_ID": self.messenger.page_id,
            "MESSENGER_APP_ID": str(self.messenger.app_id),
            "MESSENGER_ACCOUNT_LINK_SECRET": cast.LOGIN_SECRET,
        }
        if self.mail:
            values |= self.mail.environment(MAILBOX)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ONETHREAD_", "TAP_"))}
        binaries = str(Path(sys.executable).parent)
        return {
            **inherited,
            **{f"ONETHREAD_{name}": value for name, value in values.items()},
            **self._guest_environment,
            **self.crm.environment,
            "ONETHREAD_RECEIVER_PUBLIC_URL": f"http://127.0.0.1:{self.receiver_port}",
            "PATH": f"{binaries}{os.pathsep}{inherited.get('PATH', '')}",
            "MELTANO_PROJECT_ROOT": str(self.folder),
        }

    def start(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        """Run `onethread ...` in the background, in a process group of its own, its output to a file."""
        with (self.folder / f"{log}.log").open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "console.cli", *command], cwd=self.folder, env=self.environment,
                stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        return process

    def run(self, *command: str, log: str) -> int:
        """Run `onethread ...` to its end; the exit code."""
        return self.start(*command, log=log).wait()

    def _end_all(self) -> None:
        """Whatever is still running ends with the performance, also when it is interrupted."""
        for app in (self.whatsapp, self.messenger):
            app.stop_delivery()
        for process in self._started:
            _kill_group(process)

    def start_receiver(self) -> subprocess.Popen[bytes]:
        """The receiver, answering."""
        process = self.start("receive", "--port", str(self.receiver_port), log="receiver")
        _wait_until(lambda: _answers(f"http://127.0.0.1:{self.receiver_port}/health"), "the receiver", process)
        return process


def play(*, keep: bool, report: Path, full: bool = False, crm: str = "hubspot") -> int:
    """Perform; write the report; 0 when nothing was lost or doubled.

    Args:
        keep: leave everything running afterwards.
        report: where the counts go, as JSON.
        full: with a scene on every other platform that is installed.
        crm: ``hubspot`` or ``salesforce`` (their stand-ins), or ``tryton`` (a real server, installed on first use).
    """
    began = time.monotonic()
    folder = Path.cwd() / ".onethread" / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {line}", flush=True)

    with ExitStack() as stack:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            theatre = Theatre(folder, stack, full=full, crm=crm)
            _perform(theatre, say)
            repeated = _encore(theatre, say)
        except (OneThreadError, TrytonMissingError, TimeoutError) as error:
            say(f"the demo could not go on: {error}; see the logs in {folder}")
            return 1
        numbers = _count(theatre, time.monotonic() - began) | repeated
        report.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
        _epilogue(theatre, numbers, report)
        if keep:
            write_environment(folder / ".env", theatre.environment)
            print(f"Everything is left running. In {folder} `onethread run replies` carries your answers out.")
            print("Stop with Ctrl-C.", flush=True)
            _sleep_until_interrupted()
    return 0 if all_went_well(numbers) else 1


def all_went_well(numbers: Mapping[str, Any]) -> bool:
    """Whether a report says that every message is where it belongs, once, and that a repeat changed nothing."""
    return not any(numbers.get(name) for name in ("lost", "doubled", "changed_by_a_repeat"))


def _perform(theatre: Theatre, say: Callable[[str], None]) -> None:
    stage, folder = theatre.stage, theatre.folder
    if theatre.mail is None:
        say("Dovecot is not installed here: the demo plays without e-mail (`make system` installs it).")
    _write_project(theatre)
    cast.prologue(stage)
    receiver = theatre.start_receiver()
    theatre.start("console", "--port", str(theatre.console_port), log="console")
    base = f"http://127.0.0.1:{theatre.receiver_port}/webhooks"
    theatre.whatsapp.start_delivery(f"{base}/whatsapp")
    theatre.messenger.start_delivery(f"{base}/messenger")
    for guest in theatre.guests.values():
        guest.connect(f"http://127.0.0.1:{theatre.receiver_port}")
    say("the stand-ins, the receiver and the console are up")
    crm = theatre.crm
    _check(theatre.run("setup", crm.slug, log="setup"), f"setup {crm.slug}", folder)
    say(f"{crm.set_up}running `contacts`")
    _check(theatre.run("run", "contacts", log="jobs"), "contacts", folder)

    say("the customers write; the receiver is killed (-9) in the middle and started again")
    for slug, guest in theatre.guests.items():
        say(f"a scene on {load_platforms()[slug].name}")
        guest.play()
        guest.flush(30)
    cast.first_act(stage)
    cast.rush_hour(stage)
    time.sleep(0.3)
    os.kill(receiver.pid, signal.SIGKILL)
    receiver.wait()
    cast.rush_hour_goes_on(stage)
    theatre.start_receiver()
    _flush(theatre)

    say("running `inbound`, and killing the whole job (-9) in the middle")
    job = theatre.start("run", "inbound", log="jobs")
    _wait_for_reading(theatre, job)
    _kill_group(job)
    say("running `inbound` again, then `deliver`")
    _check(theatre.run("run", "inbound", log="jobs"), "inbound", folder)
    _check(theatre.run("run", "deliver", log="jobs"), "deliver", folder)

    say(f"an agent answers in {crm.name}; more comes in; running `replies`")
    cast.second_act(stage)
    _agent_answers(theatre)
    _check(theatre.run("run", "replies", log="jobs"), "replies", folder)
    _flush(theatre)
    for app in (theatre.whatsapp, theatre.messenger):
        with app.lock:
            known = list(app.customers) if isinstance(app, WhatsAppApp) else list(app.people)
        for one in known[:3]:
            app.read(one)
    _flush(theatre)
    say("confirmations came back; running `inbound`, `send` and `deliver`")
    _check(theatre.run("run", "inbound", log="jobs"), "inbound", folder)
    _check(theatre.run("send", log="jobs"), "send", folder)
    _check(theatre.run("run", "deliver", log="jobs"), "deliver", folder)


def _encore(theatre: Theatre, say: Callable[[str], None]) -> dict[str, int]:
    """Where the CRM counts its calls: a repeat, and two persons taken apart. Figures for the report."""
    counted, stage = theatre.crm.counted, theatre.stage
    if counted is None:
        return {}
    before, calls = counted.records(), counted.api_calls()
    # From the first record on: nothing is written twice, and what we wrote and `contacts` brings back sets nothing off.
    _check(theatre.run("run", "--full-refresh", "contacts", "deliver", log="jobs"), "contacts deliver", theatre.folder)
    after = counted.records()
    changed = sum(before.get(one) != after.get(one) for one in before.keys() | after.keys())
    repeat_calls = counted.api_calls() - calls
    say(f"`contacts` and `deliver` from the beginning: {changed} records changed, {repeat_calls} API calls")

    account = theatre.messenger.page_id
    handles = ("mia.rossi@mail.example", f"messenger_psid:{account}:{stage.on_messenger['Mia Rossi']}")
    _check(theatre.run("identity", "different", *handles, "--by", "Ada Agent", log="jobs"), "identity", theatre.folder)
    _check(theatre.run("run", "deliver", log="jobs"), "deliver", theatre.folder)
    stage.tell("It was Mia's sister who wrote on Messenger, with Mia's login: a person takes the two apart again.")
    say("Mia and her sister on Messenger were taken apart; each has her own messages")
    return {"changed_by_a_repeat": changed, "api_calls_of_a_repeat": repeat_calls, "api_calls": counted.api_calls()}


def _agent_answers(theatre: Theatre) -> None:
    """Answers on each channel: one whose answer gets lost on the way, one too late, one too long."""
    stage = theatre.stage
    state = theatre.crm.app.state()
    by_person = _contacts_by_words(state)
    cast.queue_reply(stage, stage.contacts["Mia Rossi"], "Hello Mia, your order 4711 leaves today. Sorry for the wait!")
    cast.queue_reply(stage, by_person("Jonas asks, question 000"), "Yes, we repair lamps; about a week.", "whatsapp")
    cast.queue_reply(stage, by_person("Do you have gift cards?"), "Yes, from 20 euros.", "messenger")
    cast.queue_reply(stage, by_person("do you ship to Kochi?"), "We do, Priya!", "whatsapp")
    cast.queue_reply(stage, stage.contacts["Olga Novak"], "The walnut table is back.", "whatsapp")
    cast.queue_reply(stage, by_person("I meant the blue vase"), "The blue vase! " * 400, "whatsapp")
    if theatre.mail:
        cast.queue_reply(stage, stage.contacts["Anna Keller"], "Keep the second sofa, Anna.", "email")
    # The platform takes Noor's answer and then answers 500: only the echo can tell that it was sent.
    theatre.messenger.faults.append(Fault("/messages", status=500, when="after", method="POST"))


def _contacts_by_words(state: dict[str, Any]) -> Callable[[str], str]:
    def find(words: str) -> str:
        for one in state["communications"].values():
            if words in one["properties"]["hs_communication_body"] and one["contacts"]:
                return str(one["contacts"][0])
        message = f"no contact has {words!r} on the timeline"
        raise TimeoutError(message)

    return find


def _count(theatre: Theatre, seconds: float) -> dict[str, Any]:
    """The report, from the platforms' and the CRM's own state; parked is our own store's."""
    from stores.database import Stores
    from stores.parked import Parked

    whatsapp, messenger = theatre.whatsapp.state(), theatre.messenger.state()
    heard: list[Heard] = [
        *heard_on_whatsapp(whatsapp, theatre.stage.unsent, theatre.stage.edits), *heard_on_messenger(messenger),
    ]  # fmt: skip
    replies = [*whatsapp["sent"], *messenger["sent"]]
    sent, delivered = len(replies), sum(one["status"] in {"delivered", "read"} for one in replies)
    doubled_replies = sum(one["times_seen"] - 1 for one in replies if one["times_seen"] > 1) // 2
    heard += [Heard(*one) for guest in theatre.guests.values() for one in guest.heard()]
    if theatre.mail:
        mail = theatre.mail.state()
        heard += [Heard("email", one["words"], one["at"]) for one in theatre.stage.mails]
        sent += len(mail["sent"])
        delivered += len(mail["sent"])
        doubled_replies += len(mail["sent"]) - len({one["message_id"] for one in mail["sent"]})
    result = tally(heard, list(theatre.crm.app.state()["communications"].values()))
    return {
        "messages_received": result.received,
        "messages_on_contact_records": result.on_records,
        "persons": result.persons,
        "persons_on_several_channels": result.persons_on_several_channels,
        "replies_sent": sent,
        "replies_delivered": delivered,
        "lost": result.lost,
        "doubled": result.doubled + doubled_replies,
        "parked": Parked(Stores(theatre.environment["ONETHREAD_STATE_URL"])).count(),
        "seconds": round(seconds, 1),
    }


def _epilogue(theatre: Theatre, numbers: dict[str, Any], report: Path) -> None:
    """What happened, contact by contact, as the CRM tells it."""
    state = theatre.crm.app.state()
    print("\nWhat happened:")
    for line in theatre.stage.story:
        print(f"  - {line}")
    print(f"\nContact by contact, as {theatre.crm.name} has it:")
    for contact_id, contact in sorted(state["contacts"].items(), key=lambda one: (len(one[0]), one[0])):
        entries = [state["communications"][one]["properties"] for one in contact["communications"]]
        if not entries:
            continue
        properties = contact["properties"]
        name = " ".join(filter(None, (properties.get("firstname"), properties.get("lastname")))) or "(no name)"
        origin = "made by us" if properties.get("onethread_projection") == "true" else "was there before"
        channels = properties.get("onethread_channels")
        print(f"  {name} (contact {contact_id}, {origin}): {len(entries)} messages on {channels}")
        if properties.get("onethread_reply_status"):
            detail = properties.get("onethread_reply_detail") or ""
            print(f"      last reply: {properties['onethread_reply_status']} {detail}".rstrip())
    gone = len(state["archived_contacts"])
    if gone:
        put_away = theatre.crm.put_away
        print(f"  {gone} contact(s) that turned out to be somebody else's second self were emptied and {put_away}")
    print("\n" + "  ".join(f"{name}={value}" for name, value in numbers.items()))
    print(f"\nreport:  {report}")
    print(f"console: http://127.0.0.1:{theatre.console_port}/  (make demo KEEP=1 leaves it running)")
    for line in theatre.crm.guide:
        print(line)


def serve_sandbox(port: int) -> None:
    """Run the stand-ins until interrupted; print how to reach them."""
    folder = Path.cwd() / ".onethread" / "sandbox"
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        theatre = Theatre(folder, stack, port=port, full=True)
        print("\n".join(f"export {name}={value}" for name, value in sorted(theatre.environment.items())
                        if name.startswith(("ONETHREAD_", "TAP_"))))  # fmt: skip
        print("# state and controls under /_sandbox/ of each server; stop with Ctrl-C", flush=True)
        _sleep_until_interrupted()


def _write_project(theatre: Theatre) -> None:
    from console.generate import meltano_yml

    (theatre.folder / "meltano.yml").write_text(meltano_yml((theatre.crm.slug,)), encoding="utf-8")


def write_environment(file: Path, environment: Mapping[str, str]) -> None:
    """Our variables where `onethread` and Meltano look for them, for whoever goes on playing."""
    from dotenv import set_key

    for name, value in sorted(environment.items()):
        if name.startswith(("ONETHREAD_", "TAP_")):
            set_key(file, name, value)


def _flush(theatre: Theatre) -> None:
    for app in (theatre.whatsapp, theatre.messenger):
        app.deliverer.flush(30)


def _wait_for_reading(theatre: Theatre, job: subprocess.Popen[bytes]) -> None:
    """Until a tap of the job has begun to read deliveries, or the job has ended."""
    from stores.database import Stores
    from stores.items import Items

    items = Items(Stores(theatre.environment["ONETHREAD_STATE_URL"]))
    deadline = time.monotonic() + 60
    while not items.counts("whatsapp") and time.monotonic() < deadline and job.poll() is None:
        time.sleep(0.02)


def _check(code: int, what: str, folder: Path) -> None:
    if code not in {0, 3}:
        message = f"`{what}` ended with exit code {code}; see {folder}/*.log"
        raise TimeoutError(message)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _wait_until(ready: Callable[[], bool], what: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            message = f"{what} did not start"
            raise TimeoutError(message)
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).status_code == 200
    except requests.RequestException:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _sleep_until_interrupted() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
