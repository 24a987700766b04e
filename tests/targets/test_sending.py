"""`onethread send` against the stand-ins: decide, send once, settle doubt by evidence, and tell the archive."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import SecretStr

from mappings.errors import OutcomeUnknownError, RateLimitedError, RejectedError, SettingsError, UnavailableError
from mappings.from_email import EmailContext, records_from_email
from mappings.ids import conversation_key, external_id, message_key
from mappings.policy import Policy
from mappings.records import Attachment, Consent, Handle, Message
from sandbox.base import Fault
from sandbox.mail import MailSandbox, SmtpFault
from stores.database import Stores
from targets.senders.base import Accepted, Outgoing
from targets.senders.email import EmailSender, EmailSenderSettings
from targets.senders.whatsapp import WhatsAppSender
from tests.targets.sending_world import MIA, OMAR, World, email, hubspot, phone, running_world


@pytest.fixture
def world(stores: Stores) -> Iterator[World]:
    with running_world(stores) as made:
        yield made


@pytest.fixture
def mia(world: World) -> str:
    """Wrote on WhatsApp a moment ago; contact 2 has her number."""
    customer = world.whatsapp_customer("Mia", MIA, "US.mia")
    world.contact("2", phone(MIA), name="Mia Rossi")
    return customer


@pytest.fixture
def omar(world: World) -> Handle:
    """Wrote on Messenger a moment ago and logged in at the shop; contact 3 has his address."""
    psid = world.messenger_customer("Omar")
    world.contact("3", email("omar"), name="Omar Haddad")
    world.link(psid, email("omar"))
    return psid


class FakeSender:
    """A platform that does what a test says, and what its customers have seen."""

    def __init__(self, slug: str = "whatsapp", account: str = "106540352242922") -> None:
        self.slug = slug
        self.account = account
        self.seen: list[Outgoing] = []
        self.calls = 0
        self.fail: list[BaseException] = []
        self.found: Accepted | None = None

    def send(self, outgoing: Outgoing) -> Accepted:
        self.calls += 1
        if self.fail:
            raise self.fail.pop(0)
        self.seen.append(outgoing)
        return Accepted(message_key(self.slug, self.account, f"id{self.calls}"), f"id{self.calls}", datetime.now(UTC))

    def settle(self, outgoing: Outgoing) -> Accepted | None:
        del outgoing
        return self.found


# The channel


def test_auto_is_the_channel_on_which_the_customer_wrote_last(world: World, mia: str) -> None:
    psid = world.messenger_customer("Mia")
    world.link(psid, phone(MIA))
    token = world.queue()
    world.send()
    assert (world.seen_on_messenger(), world.seen_on_whatsapp()) == (["It left today."], [])
    world.whatsapp.clock.advance(5)
    world.whatsapp.text(mia, "And on WhatsApp?")
    world.listen()
    world.queue(text="Here too.")
    world.send()
    assert world.seen_on_whatsapp() == ["Here too."]
    assert world.one(token).channel == "messenger"


def test_a_named_channel_is_taken_though_the_customer_wrote_elsewhere_since(world: World, mia: str) -> None:
    world.link(world.messenger_customer("Mia"), phone(MIA))
    world.queue(channel="whatsapp")
    world.send()
    assert (world.seen_on_messenger(), world.seen_on_whatsapp()) == ([], ["It left today."])


def test_auto_takes_the_open_channel_when_the_last_one_is_of_an_account_that_is_not_set_up(
    world: World, omar: Handle
) -> None:
    world.take(
        Message(
            message_key=message_key("whatsapp", "another", "wamid.1"), channel="whatsapp", account="another",
            conversation_key=conversation_key("whatsapp", "another", OMAR), direction="inbound", kind="text",
            text="Hi", sent_at=world.now() + timedelta(seconds=2), author_kind="customer", handles=[phone(OMAR)],
        )
    )  # fmt: skip
    world.link(omar, phone(OMAR))
    world.queue("3")
    assert world.send().accepted == 1
    assert world.seen_on_messenger() == ["It left today."]


# Once, and in the thread


def test_a_reply_is_sent_once_and_stands_in_the_archive_as_one_message_of_the_agent(world: World, mia: str) -> None:
    token = world.queue()
    assert world.send().accepted == 1
    assert str(world.send()) == "nothing to send"
    assert world.seen_on_whatsapp() == ["It left today."]
    (message,) = world.ours()
    assert (message.text, message.author_kind, message.author_name) == ("It left today.", "agent", "Ines")
    assert message.reply_key == world.one(token).reply.reply_key
    assert message.status == "accepted"
    assert world.archive.by_reply_token(token)[0] == message.message_key


def test_the_echo_lands_on_the_message_that_is_there(world: World, omar: Handle) -> None:
    token = world.queue("3")
    world.send()
    world.settle()
    (message,) = world.ours("3")
    assert message.reply_key == world.one(token).reply.reply_key
    assert message.platform_app_id == str(world.messenger.app_id)
    assert world.state(token) == "delivered"


def test_an_echo_that_comes_before_the_archive_was_told_is_the_same_message(world: World, omar: Handle) -> None:
    token = world.queue("3")
    dispatcher = world.dispatcher()
    tell = dispatcher._tell
    dispatcher._tell = lambda: None  # type: ignore[method-assign]
    dispatcher.run()
    world.listen("message_echoes")
    assert len(world.ours("3")) == 1
    dispatcher._tell = tell  # type: ignore[method-assign]
    dispatcher.run()
    (message,) = world.ours("3")
    assert (message.reply_key, message.author_name) == (world.one(token).reply.reply_key, "Ines")


def test_an_answered_customer_no_longer_waits(world: World, mia: str) -> None:
    person_id = world.graph.person_of(hubspot("2"))
    assert person_id
    before, _ = world.archive.person(person_id), world.queue()
    world.send()
    after = world.archive.person(person_id)
    assert before
    assert after
    assert (before.unanswered_since is not None, after.unanswered_since) == (True, None)


def test_replies_reach_a_customer_in_the_order_in_which_they_were_written(world: World, mia: str) -> None:
    for text in ("one", "two", "three"):
        world.queue(text=text)
    world.send()
    assert world.seen_on_whatsapp() == ["one", "two", "three"]


# Its fate


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_statuses_end_the_same_in_any_order(world: World, mia: str, order: tuple[int, ...]) -> None:
    token = world.queue()
    world.send()
    world.whatsapp.read(mia)
    events = world.events(world.whatsapp, "status")
    for index in order:
        world.take(*world.records_of(world.whatsapp, events[index]))
        world.send()
    assert world.state(token) == "read"
    assert world.receipts(token)["read"].subject_kind == "reply"


def test_a_reply_that_the_platform_fails_later_is_failed_with_its_reason(world: World, mia: str) -> None:
    world.whatsapp.fail_next(131047)
    token = world.queue()
    assert world.send().accepted == 1
    world.settle()
    receipt = world.receipts(token)["failed"]
    assert (world.state(token), receipt.code, receipt.reason) == ("failed", "131047", "Re-engagement message")
    world.settle()
    assert world.whatsapp.state()["sent"][0]["status"] == "failed"
    assert len(world.whatsapp.state()["sent"]) == 1


def test_the_failure_of_a_reply_with_a_lost_answer_is_known_after_one_run(world: World, mia: str) -> None:
    world.whatsapp.fail_next(131047)
    world.whatsapp.faults.append(Fault("/messages", when="after"))
    token = world.queue()
    world.send()
    assert world.state(token) == "unknown"
    world.settle()
    assert (world.state(token), world.one(token).code) == ("failed", "131047")


# Refused, each with what to do


def test_outside_the_window_it_is_refused_and_nothing_goes_out(world: World, mia: str) -> None:
    token = world.queue()
    world.advance(25)
    assert world.send().refused == 1
    receipt = world.receipts(token)["refused"]
    assert (receipt.subject_kind, receipt.code, receipt.actor) == ("reply", "window_closed", "agent")
    assert "template" in (receipt.reason or "")
    assert world.whatsapp.state()["sent"] == []


def test_a_comment_in_public_opens_no_private_window(world: World, mia: str) -> None:
    world.advance(25)
    said = Message(
        message_key=message_key("messenger", "682498302938465", "9_8"), channel="messenger", account="682498302938465",
        conversation_key=conversation_key("messenger", "682498302938465", "comment:9_8"), direction="inbound",
        kind="text", text="Is it still to be had?", origin="comment", sent_at=world.now(), author_kind="customer",
        handles=[Handle(kind="messenger_psid", scope="682498302938465", value="77")],
    )  # fmt: skip
    world.take(said)
    world.link(said.handles[0], phone(MIA))
    token = world.queue(channel="messenger")
    assert world.send().refused == 1
    assert world.receipts(token)["refused"].code == "no_channel"


def test_a_template_goes_out_after_the_window(world: World, mia: str) -> None:
    world.advance(25)
    world.queue(text=None, template="order_update", template_language="en", template_parameters=["Mia", "4711"])
    assert world.send().accepted == 1
    assert world.ours()[0].kind == "template"


def test_a_person_may_answer_on_messenger_for_a_week_where_meta_gave_permission(world: World, omar: Handle) -> None:
    world.advance(6 * 24)
    world.queue("3", text="by a workflow", author_kind="bot")
    world.queue("3", text="by an agent")
    allowed = Policy(human_agent=frozenset({"messenger"}))
    assert (world.send(policy=allowed).refused, world.seen_on_messenger()) == (1, ["by an agent"])
    assert world.messenger.state()["sent"][0]["tag"] == "HUMAN_AGENT"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"text": "x" * 4097}, "too_long"),
        ({"text": " \n "}, "empty"),
        ({"text": None}, "empty"),
        ({"attachments": [Attachment(kind="image", url="https://cdn.example/a.png")]}, "attachments"),
        ({"text": None, "attachments": [Attachment(kind="image")]}, "attachments"),
        ({"channel": "telegram"}, "no_channel"),
        ({"channel": "messenger"}, "no_channel"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_a_reason_for_the_agent(
    world: World, mia: str, changes: dict[str, Any], code: str
) -> None:
    token = world.queue(**changes)
    assert world.send().refused == 1
    receipt = world.receipts(token)["refused"]
    assert (receipt.code, receipt.actor) == (code, "agent")
    assert receipt.reason
    assert world.whatsapp.state()["sent"] == []


def test_a_reply_that_waited_too_long_is_refused(world: World, mia: str) -> None:
    token = world.queue(written_at=world.now() - timedelta(days=4))
    world.send()
    assert world.receipts(token)["refused"].code == "too_old"


def test_a_contact_whom_nobody_knows_is_refused(world: World) -> None:
    token = world.queue("77")
    world.send()
    assert world.receipts(token)["refused"].code == "no_channel"


def test_a_channel_that_is_not_set_up_is_the_operators_business(world: World, omar: Handle) -> None:
    token = world.queue("3")
    world.senders = {"whatsapp": world.senders["whatsapp"]}
    world.send()
    receipt = world.receipts(token)["refused"]
    assert (receipt.code, receipt.actor) == ("not_configured", "operator")


def test_a_thread_with_another_account_is_not_answered_from_ours(world: World, mia: str) -> None:
    token = world.queue()
    world.senders = {"whatsapp": FakeSender(account="another")}  # type: ignore[dict-item]
    world.send()
    receipt = world.receipts(token)["refused"]
    assert (receipt.code, receipt.actor) == ("account", "operator")


def opt_out(world: World, handle: Handle, status: Any = "opted_out", minutes: float = 0) -> None:
    world.take(
        Consent(
            handle_key=handle.key, handle=handle, channel="whatsapp", account=world.whatsapp.phone_number_id,
            purpose="promotional", status=status, source="keyword",
            decided_at=world.now() + timedelta(minutes=minutes),
        )
    )  # fmt: skip


def test_an_opt_out_between_queue_and_send_counts(world: World, mia: str) -> None:
    advert = world.queue(text="Everything is cheaper", purpose="promotional")
    service = world.queue()
    world.whatsapp.text(mia, "STOP")
    world.listen()
    world.send()
    assert world.receipts(advert)["refused"].code == "opted_out"
    assert world.state(service) == "accepted"
    assert world.seen_on_whatsapp() == ["It left today."]


def test_an_opt_out_given_under_the_phone_holds_for_the_user_id(world: World, mia: str) -> None:
    opt_out(world, phone(MIA))
    token = world.queue(purpose="promotional")
    world.send()
    assert world.receipts(token)["refused"].code == "opted_out"


def test_a_later_yes_under_the_user_id_outweighs_an_older_no_under_the_phone(world: World, mia: str) -> None:
    opt_out(world, phone(MIA))
    opt_out(world, Handle(kind="whatsapp_user", scope="portfolio", value="US.mia"), "opted_in", minutes=1)
    world.queue(purpose="promotional")
    assert world.send().accepted == 1


def test_what_the_platform_refuses_is_failed_with_its_code(world: World, omar: Handle) -> None:
    world.messenger.block(omar.value)
    token = world.queue("3")
    assert world.send().failed == 1
    assert world.receipts(token)["failed"].code == "551/1545041"
    assert str(world.send()) == "nothing to send"


# Not now


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Move the outbox's clock."""
    real = time.time
    monkeypatch.setattr("stores.outbox.time.time", lambda: real() + seconds)


def test_a_rate_limit_is_waited_for_and_nothing_is_lost(
    world: World, mia: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"error": {"code": 130429, "message": "(#130429) Rate limit hit"}}
    world.whatsapp.faults.append(Fault("/messages", status=429, body=body, headers={"Retry-After": "90"}))
    token = world.queue()
    assert world.send().later == 1
    assert world.seen_on_whatsapp() == []
    assert str(world.send()) == "nothing to send"
    later(monkeypatch, 80)
    assert str(world.send()) == "nothing to send"
    later(monkeypatch, 100)
    assert world.send().accepted == 1
    assert (world.seen_on_whatsapp(), world.one(token).attempts) == (["It left today."], 2)


def test_a_refused_connection_is_waited_for(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_world(stores) as world:
        world.whatsapp_customer("Mia")
        world.contact("2", phone(MIA))
        token = world.queue()
        real = world.senders["whatsapp"]
        assert isinstance(real, WhatsAppSender)
        nobody = real.settings.model_copy(update={"api_url": "http://127.0.0.1:9"})
        world.senders["whatsapp"] = WhatsAppSender(nobody)
        assert world.send().later == 1
        assert world.state(token) == "queued"
        world.senders["whatsapp"] = real
        later(monkeypatch, 3600)
        assert world.send().accepted == 1
        assert world.seen_on_whatsapp() == ["It left today."]


def test_a_later_reply_does_not_overtake_one_that_waits(
    world: World, mia: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.whatsapp.faults.append(Fault("/messages", status=429, body={"error": {"code": 130429}}))
    world.queue(text="one")
    world.queue(text="two")
    assert world.send().later == 2
    world.queue(text="three")
    assert world.send().later == 2
    assert world.seen_on_whatsapp() == []
    later(monkeypatch, 3600)
    assert world.send().accepted == 3
    assert world.seen_on_whatsapp() == ["one", "two", "three"]


def test_one_customer_who_cannot_be_reached_now_does_not_hold_up_the_others(world: World, mia: str) -> None:
    world.whatsapp_customer("Omar", OMAR)
    world.contact("3", phone(OMAR))
    world.whatsapp.faults.append(Fault("/messages", status=429, body={"error": {"code": 131056}}))
    world.queue("2")
    world.queue("3", text="Hello Omar")
    summary = world.send()
    assert (summary.later, summary.accepted) == (1, 1)
    assert world.seen_on_whatsapp() == ["Hello Omar"]


def test_a_channel_that_is_down_is_not_asked_again_for_every_reply(world: World) -> None:
    down = FakeSender()
    world.senders["whatsapp"] = down  # type: ignore[assignment]
    for number in range(6):
        world.whatsapp_customer(f"Customer {number}", f"+1202555011{number}")
        world.contact(f"1{number}", phone(f"+1202555011{number}"))
        world.queue(f"1{number}")
    down.fail = [UnavailableError("WhatsApp: no connection") for _ in range(6)]
    assert world.send().later == 6
    assert down.calls == 3
    assert world.outbox.counts() == {"queued": 6}


def test_wrong_credentials_stop_the_channel_for_the_run_and_keep_every_reply(
    world: World, mia: str, omar: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = world.senders["whatsapp"]
    assert isinstance(real, WhatsAppSender)
    wrong = real.settings.model_copy(update={"access_token": SecretStr("a-wrong-token")})
    world.senders["whatsapp"] = WhatsAppSender(wrong)
    world.whatsapp_customer("Ana", OMAR)
    world.contact("4", phone(OMAR))
    tokens = [world.queue("2"), world.queue("4")]
    world.queue("3", text="Hello Omar")
    summary = world.send()
    assert (summary.later, summary.accepted, len(summary.problems)) == (2, 1, 1)
    assert "access token" in summary.problems[0]
    assert "a-wrong-token" not in summary.problems[0]
    assert len([one for one in world.whatsapp.journal if one["method"] == "POST"]) == 1
    assert [world.state(token) for token in tokens] == ["queued", "queued"]
    world.senders["whatsapp"] = real
    later(monkeypatch, 60)
    assert world.send().accepted == 2


def test_a_sender_with_a_wrong_setting_keeps_the_reply_and_says_so(world: World, mia: str) -> None:
    fake = FakeSender()
    fake.fail = [SettingsError("E-mail: the certificate is not trusted; nothing was sent")]
    world.senders["whatsapp"] = fake  # type: ignore[assignment]
    token = world.queue()
    summary = world.send()
    assert (summary.later, summary.problems) == (1, ["E-mail: the certificate is not trusted; nothing was sent"])
    assert world.state(token) == "queued"


def test_one_dispatcher_runs_again_after_a_channel_was_stopped(
    world: World, mia: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeSender()
    fake.fail = [SettingsError("wrong")]
    world.senders["whatsapp"] = fake  # type: ignore[assignment]
    world.queue()
    dispatcher = world.dispatcher()
    dispatcher.run()
    later(monkeypatch, 60)
    assert dispatcher.run().accepted == 1


# Doubt


@pytest.mark.parametrize("how", ["500 after it was taken", "no answer in time"])
def test_a_lost_answer_is_unknown_is_not_sent_again_and_is_settled_by_the_echo(stores: Stores, how: str) -> None:
    fault = Fault("/messages", when="after") if "500" in how else Fault("/messages", when="hang", delay_seconds=1.0)
    with running_world(stores, timeout_seconds=0.5) as world:
        psid = world.messenger_customer("Omar")
        world.contact("3", email("omar"))
        world.link(psid, email("omar"))
        world.messenger.faults.append(fault)
        token = world.queue("3")
        assert world.send().unknown == 1
        for _ in range(3):
            assert str(world.send()) == "nothing to send"
        assert (world.state(token), world.seen_on_messenger()) == ("unknown", ["It left today."])
        receipt = world.receipts(token)["unknown"]
        assert "onethread outbox" in (receipt.reason or "")
        assert world.settle("message_echoes").settled == 1
        assert world.state(token) in {"accepted", "sent", "delivered"}
        (message,) = world.ours("3")
        assert message.reply_key == world.one(token).reply.reply_key
        assert world.seen_on_messenger() == ["It left today."]


def test_a_status_with_our_token_settles_a_lost_answer(world: World, mia: str) -> None:
    world.whatsapp.faults.append(Fault("/messages", when="after"))
    token = world.queue()
    assert world.send().unknown == 1
    assert world.settle().settled == 1
    assert world.state(token) == "delivered"
    (message,) = world.ours()
    assert (message.text, message.status) == ("It left today.", "delivered")
    assert world.seen_on_whatsapp() == ["It left today."]


def test_without_evidence_it_stays_unknown_for_ever_and_can_be_seen(world: World, mia: str) -> None:
    fake = FakeSender()
    fake.fail = [OutcomeUnknownError("WhatsApp: no answer")]
    world.senders["whatsapp"] = fake  # type: ignore[assignment]
    token = world.queue()
    for _ in range(5):
        world.send()
        world.advance(100)
    assert (fake.calls, world.state(token)) == (1, "unknown")
    assert [one.token for one in world.outbox.listing(["unknown"])] == [token]


def test_a_read_back_settles_a_lost_answer(world: World, mia: str) -> None:
    fake = FakeSender()
    fake.fail = [OutcomeUnknownError("no answer")]
    world.senders["whatsapp"] = fake  # type: ignore[assignment]
    token = world.queue()
    world.send()
    fake.found = Accepted(message_key("whatsapp", fake.account, "wamid.9"), "wamid.9", world.now())
    assert world.send().settled == 1
    assert (world.state(token), fake.calls, world.ours()[0].message_key) == (
        "accepted", 1, fake.found.message_key,
    )  # fmt: skip


def test_a_failing_look_for_evidence_stops_no_other_reply(
    world: World, mia: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeSender()
    fake.fail = [OutcomeUnknownError("no answer")]
    world.senders["whatsapp"] = fake  # type: ignore[assignment]
    world.queue(text="one")
    world.send()

    def broken(outgoing: Outgoing) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(fake, "settle", broken)
    world.queue(text="two")
    assert world.send().accepted == 1


def test_what_a_sender_did_not_foresee_is_unknown_and_stops_no_other_reply(world: World, mia: str) -> None:
    fake = FakeSender()
    fake.fail = [KeyError("a very private sentence")]
    world.senders["whatsapp"] = fake  # type: ignore[assignment]
    token = world.queue(text="one")
    world.queue(text="two")
    summary = world.send()
    assert (summary.unknown, summary.accepted, world.state(token)) == (1, 1, "unknown")
    assert summary.problems == ["whatsapp: KeyError in sending"]
    assert "private" not in (world.one(token).reason or "")


def test_a_reply_that_was_being_sent_when_the_process_died_is_unknown(world: World, mia: str) -> None:
    class Died(BaseException):
        pass

    fake = FakeSender()
    fake.fail = [Died()]
    world.senders["whatsapp"] = fake  # type: ignore[assignment]
    token = world.queue()
    with pytest.raises(Died):
        world.send()
    assert world.state(token) == "sending"
    world.send()
    assert (world.state(token), fake.calls) == ("unknown", 1)
    assert world.receipts(token)["unknown"].reason


# A person decides


def in_doubt(world: World, *, seen: bool) -> str:
    """A reply whose answer was lost, and whose webhooks too."""
    world.whatsapp.faults.append(Fault("/messages", when="after" if seen else "before"))
    token = world.queue()
    world.send()
    assert world.state(token) == "unknown"
    return token


def test_a_person_says_that_it_was_sent(world: World, mia: str) -> None:
    token = in_doubt(world, seen=True)
    assert world.outbox.decide(token, "sent")
    world.send()
    assert (world.state(token), world.seen_on_whatsapp()) == ("accepted", ["It left today."])
    assert world.receipts(token)["accepted"].subject_kind == "reply"


def test_evidence_after_a_person_said_that_it_was_sent_gives_it_its_message_and_fate(world: World, mia: str) -> None:
    token = in_doubt(world, seen=True)
    world.outbox.decide(token, "sent")
    world.send()
    world.settle()
    world.send()
    assert world.state(token) == "delivered"
    assert [one.text for one in world.ours()] == ["It left today."]


def test_a_person_says_that_it_was_not_sent_and_it_is_sent_now(world: World, mia: str) -> None:
    token = in_doubt(world, seen=False)
    assert world.outbox.decide(token, "not_sent")
    assert world.send().accepted == 1
    assert (world.state(token), world.seen_on_whatsapp()) == ("accepted", ["It left today."])


def test_evidence_that_comes_after_a_person_said_not_sent_keeps_it_from_going_out_twice(world: World, mia: str) -> None:
    token = in_doubt(world, seen=True)
    world.outbox.decide(token, "not_sent")
    assert world.settle().settled == 1
    world.send()
    assert (world.state(token), world.seen_on_whatsapp()) == ("delivered", ["It left today."])


def test_a_cancelled_reply_is_never_sent_and_the_agent_hears_it(world: World, mia: str) -> None:
    token = world.queue()
    assert world.outbox.decide(token, "cancel")
    world.send()
    assert (world.state(token), world.seen_on_whatsapp()) == ("cancelled", [])
    assert world.receipts(token)["refused"].code == "cancelled"


def test_a_reply_given_up_in_doubt_is_never_sent_and_is_not_called_unsent(world: World, mia: str) -> None:
    token = in_doubt(world, seen=False)
    assert world.outbox.decide(token, "cancel")
    world.send()
    assert (world.state(token), world.seen_on_whatsapp()) == ("cancelled", [])
    assert "refused" not in world.receipts(token)


def test_evidence_settles_even_a_reply_that_was_given_up(world: World, mia: str) -> None:
    token = in_doubt(world, seen=True)
    world.outbox.decide(token, "cancel")
    world.send()
    assert world.settle().settled == 1
    assert world.state(token) == "delivered"


def test_a_reply_that_is_cancelled_while_the_sender_runs_stops_no_other(
    world: World, mia: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = world.queue(text="one"), world.queue(text="two")
    dispatcher = world.dispatcher()
    decide = dispatcher._decide

    def cancelling(waiting: Any) -> Any:
        decision = decide(waiting)
        world.outbox.decide(first, "cancel")
        return decision

    monkeypatch.setattr(dispatcher, "_decide", cancelling)
    assert dispatcher.run().accepted == 1
    assert (world.state(first), world.state(second)) == ("cancelled", "accepted")
    assert world.seen_on_whatsapp() == ["two"]


# Persons that move meanwhile


def test_the_same_reply_under_a_merged_contact_is_not_queued_again(world: World, mia: str) -> None:
    world.queue("2", moment="2026-11-01T12:00:00.000Z")
    world.send()
    world.contact("9", phone(MIA), merged_record_ids=["2"], modified_at=world.now() + timedelta(minutes=1))
    world.queue("9", moment="2026-11-01T12:00:00.000Z")
    assert str(world.send()) == "nothing to send"
    assert world.seen_on_whatsapp() == ["It left today."]


def test_the_same_reply_queued_under_two_contacts_before_their_merge_is_known_goes_out_once(
    world: World, mia: str
) -> None:
    world.contact("9", email("mia"))
    world.queue("2", moment="2026-11-01T12:00:00.000Z")
    copy = world.queue("9", moment="2026-11-01T12:00:00.000Z")
    assert world.outbox.counts() == {"queued": 2}
    merged_at = world.now() + timedelta(minutes=1)
    world.contact("9", email("mia"), phone(MIA), merged_record_ids=["2"], modified_at=merged_at)
    summary = world.send()
    assert (summary.accepted, summary.refused) == (1, 1)
    assert world.seen_on_whatsapp() == ["It left today."]
    assert world.receipts(copy)["refused"].code == "duplicate"


def test_the_same_words_to_two_people_at_one_moment_reach_both(world: World, mia: str, omar: Handle) -> None:
    world.queue("2", moment="2026-11-01T12:00:00.000Z")
    world.queue("3", moment="2026-11-01T12:00:00.000Z")
    world.send()
    assert (world.seen_on_whatsapp(), world.seen_on_messenger()) == (["It left today."], ["It left today."])


def test_a_customer_whose_persons_were_joined_after_the_reply_was_queued_is_reached(world: World, mia: str) -> None:
    psid = world.messenger_customer("Mia")
    other = world.graph.person_of(psid)
    token = world.queue(handles=[hubspot("unknown"), phone(MIA)])
    stamped = world.one(token).person_id
    world.link(psid, phone(MIA))
    assert stamped
    assert other
    assert world.graph.current(stamped) == world.graph.current(other)
    assert world.send().accepted == 1
    assert world.seen_on_messenger() == ["It left today."]


def test_a_contact_that_was_taken_from_a_wrong_person_is_not_answered_there(world: World, mia: str) -> None:
    token = world.queue()
    world.contact("2", email("somebody.else"), modified_at=world.now() + timedelta(minutes=1))
    assert world.graph.person_of(hubspot("2")) != world.graph.person_of(phone(MIA))
    world.send()
    assert world.receipts(token)["refused"].code == "no_channel"
    assert world.whatsapp.state()["sent"] == []


# Answers in a thread of the CRM's inbox


def thread_with(world: World, handle: Handle) -> str:
    """The key of the one conversation with that handle."""
    found = world.archive.conversations_of(world.graph.person_of(handle) or "")
    (thread,) = [one for one in found if handle in one.handles]
    return thread.conversation_key


def test_an_answer_in_a_thread_goes_there_though_the_crm_shows_it_on_another_contact(world: World, mia: str) -> None:
    world.whatsapp_customer("Omar", OMAR)
    world.whatsapp.clock.advance(5)
    world.whatsapp.text(mia, "I wrote last")
    world.listen()
    key = thread_with(world, phone(OMAR))
    named = world.queue(channel="whatsapp", conversation_key=key, handles=[phone(OMAR), hubspot("2")])
    bare = world.queue(channel="whatsapp", conversation_key=key, text="And tomorrow.")
    assert world.send().accepted == 2
    assert [(world.one(one).outgoing or {})["to"]["value"] for one in (named, bare)] == [OMAR, OMAR]
    assert {one.reply_key for one in world.archive.messages_of(key)} >= {
        world.one(one).reply.reply_key for one in (named, bare)
    }
    assert world.ours() == []


def test_an_answer_in_a_thread_goes_to_its_number_though_the_person_wrote_from_another_since(
    world: World, mia: str
) -> None:
    world.whatsapp.clock.advance(5)
    world.whatsapp_customer("Mia's other phone", OMAR)
    world.contact("2", phone(MIA), phone(OMAR), modified_at=world.now() + timedelta(minutes=1))
    assert world.graph.person_of(phone(MIA)) == world.graph.person_of(phone(OMAR))
    threads = [thread_with(world, phone(one)) for one in (MIA, OMAR)]
    answers = [world.queue(channel="whatsapp", conversation_key=one, text=one) for one in threads]
    assert world.send().accepted == 2
    assert [(world.one(one).outgoing or {})["conversation_key"] for one in answers] == threads


def test_an_answer_on_the_crms_record_of_a_thread_goes_into_it_while_it_is_that_persons(world: World, mia: str) -> None:
    world.whatsapp.clock.advance(5)
    world.whatsapp_customer("Mia's other phone", OMAR)
    world.contact("2", phone(MIA), phone(OMAR), modified_at=world.now() + timedelta(minutes=1))
    threads = [thread_with(world, phone(one)) for one in (MIA, OMAR)]
    asked = [*threads, "whatsapp:1:unknown"]
    answers = [world.queue(channel="whatsapp", thread_id=external_id("conversation", one), text=one) for one in asked]
    assert world.send().accepted == 3
    went = [(world.one(one).outgoing or {})["conversation_key"] for one in answers]
    assert went == [*threads, threads[1]]  # the last one to where she wrote last


def test_an_answer_in_a_thread_is_refused_where_nothing_can_be_sent(world: World) -> None:
    account, key = world.senders["whatsapp"].account, conversation_key("whatsapp", "106540352242922", MIA)
    world.take(
        Message(
            message_key=message_key("whatsapp", account, "wamid.1"), channel="whatsapp", account=account,
            conversation_key=key, direction="inbound", kind="text", text="Hi", sent_at=world.now(),
            author_kind="customer", handles=[phone(MIA)],
        )
    )  # fmt: skip
    world.resolver.decide("recycled", [phone(MIA)], actor="ann", since=world.now() + timedelta(minutes=1))
    world.archive.follow_graph()
    told = [record for _, record in world.archive.changes("conversations")]
    (former,) = [one["conversation_key"] for one in told if one["message_count"]]
    refusals = {
        world.queue(channel="whatsapp", conversation_key=key): "no_thread",
        world.queue(channel="whatsapp", conversation_key=former): "former_owner",
        world.queue(channel="messenger", conversation_key="messenger:1:comment%3A9_8"): "public_thread",
    }
    assert world.send().refused == 3
    assert {token: world.receipts(token)["refused"].code for token in refusals} == refusals
    assert world.whatsapp.state()["sent"] == []


def test_an_answer_in_a_mail_thread_that_was_joined_with_another_goes_into_that(world: World) -> None:
    sender = FakeSender("email", CARE)
    world.senders["email"] = sender  # type: ignore[assignment]
    for one in (customer_mail("a", "Where is it?"), customer_mail("x", "A refund")):
        read_mail(world, one)
    threads = [record["conversation_key"] for _, record in world.archive.changes("conversations")]
    read_mail(world, customer_mail("y", "Both", "x@mail.example", "a@mail.example"))
    left = [key for key in threads if world.archive.conversation(key)]
    for key in threads:
        world.queue(channel="email", conversation_key=key, text=key)
    assert (len(threads), len(left), world.send().accepted) == (2, 1, 2)
    assert [one.conversation_key for one in sender.seen] == [*left, *left]


# E-mail, on a real mail server

CARE = "care@shop.example"


@pytest.fixture
def post(world: World) -> Iterator[MailSandbox]:
    """The shop's mailbox, whose server files in Sent what it takes; Mia asked by mail an hour ago."""
    reason = MailSandbox.missing()
    if reason is not None:
        pytest.skip(reason)
    with MailSandbox({CARE: "a password"}, files_sent=True) as mail:
        settings = EmailSenderSettings(
            smtp_host=mail.host, smtp_port=mail.smtp.port, smtp_security="none", user=CARE,
            password=SecretStr("a password"), host=mail.host, port=mail.imap_port, ssl=False, append_to_sent=False,
            timeout_seconds=5,
        )  # fmt: skip
        world.senders["email"] = EmailSender(settings)
        read_mail(world, customer_mail("first", "Where is my order?"))
        world.contact("5", email("mia"), name="Mia Rossi")
        yield mail


def customer_mail(name: str, subject: str, *references: str) -> bytes:
    """A mail of Mia's."""
    lines = [
        f"From: Mia Rossi <{email('mia').value}>", f"To: {CARE}", f"Subject: {subject}",
        f"Message-ID: <{name}@mail.example>", f"Date: {format_datetime(datetime.now(UTC))}",
        *([f"References: {' '.join(f'<{one}>' for one in references)}"] if references else []),
        "", "Where is it?", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


def read_mail(world: World, *mails: bytes, sent_folder: bool = False) -> None:
    """Take mails in, as tap-email does."""
    for number, raw in enumerate(mails, start=1):
        context = EmailContext(
            account=CARE, own_addresses=[CARE], folder="Sent" if sent_folder else "INBOX", uid=number, uidvalidity=1,
            internal_date=datetime.now(UTC), sent_folder=sent_folder,
        )  # fmt: skip
        world.take(*records_from_email(raw, context))


def mails_for(mail: MailSandbox) -> list[EmailMessage]:
    """What Mia has got."""
    return [message_from_bytes(one.raw, policy=default) for one in mail.smtp.taken]


def test_a_reply_by_mail_stays_in_its_thread(world: World, post: MailSandbox) -> None:
    world.queue("5")
    world.send()
    read_mail(world, customer_mail("second", "Re: Where is my order?", "first@mail.example"))
    world.queue("5", text="It is at your door.")
    assert world.send().accepted == 1
    first, second = mails_for(post)
    assert (first["Subject"], first["In-Reply-To"]) == ("Re: Where is my order?", "<first@mail.example>")
    assert second["In-Reply-To"] == "<second@mail.example>"
    assert second["References"].split() == ["<first@mail.example>", first["Message-ID"], "<second@mail.example>"]


def test_the_copy_in_sent_lands_on_the_mail_that_is_there(world: World, post: MailSandbox) -> None:
    token = world.queue("5")
    world.send()
    read_mail(world, *post.mails(CARE, "Sent"), sent_folder=True)
    (message,) = world.ours("5")
    assert (message.reply_key, message.author_name) == (world.one(token).reply.reply_key, "Ines")
    person_id = world.graph.person_of(email("mia"))
    assert person_id
    assert len(world.archive.conversations_of(person_id)) == 1


@pytest.mark.parametrize("read_before", [True, False])
def test_a_mail_whose_confirmation_was_lost_is_found_in_sent_and_not_sent_again(
    world: World, post: MailSandbox, *, read_before: bool
) -> None:
    post.smtp.faults.append(SmtpFault("done", taken=True))
    token = world.queue("5")
    assert world.send().unknown == 1
    if read_before:
        read_mail(world, *post.mails(CARE, "Sent"), sent_folder=True)
    assert world.send().settled == 1
    assert (world.state(token), len(post.smtp.taken)) == ("accepted", 1)
    assert [one.text.strip() for one in world.ours("5")] == ["It left today."]


def test_a_mail_that_the_server_lost_is_unknown_and_not_sent_again(world: World, post: MailSandbox) -> None:
    post.smtp.faults.append(SmtpFault("done", taken=False))
    token = world.queue("5")
    assert world.send().unknown == 1
    world.send()
    assert (world.state(token), post.smtp.taken) == ("unknown", [])


def test_somebody_who_only_ever_wrote_on_messenger_can_be_written_to_by_mail(
    world: World, omar: Handle, post: MailSandbox
) -> None:
    world.queue("3", channel="email")
    assert world.send().accepted == 1
    (mail,) = mails_for(post)
    assert (mail["To"], mail["In-Reply-To"]) == (email("omar").value, None)


def test_a_mailbox_that_is_busy_for_one_customer_takes_the_mails_of_the_others(
    world: World, mia: str, post: MailSandbox
) -> None:
    world.contact("6", email("ana"), name="Ana")
    post.smtp.faults.append(SmtpFault("rcpt", answer="450 4.2.0 greylisted"))
    world.queue("5")
    world.queue("6", channel="email", text="Hello Ana")
    summary = world.send()
    assert (summary.later, summary.accepted) == (1, 1)
    assert [one["To"] for one in mails_for(post)] == [email("ana").value]


# Two at once, and what stays


def test_a_second_sender_says_that_one_is_at_work_and_sends_nothing(world: World, mia: str, state_url: str) -> None:
    world.queue()
    second = Stores(state_url)
    try:
        with second.lock("send"), pytest.raises(TimeoutError):
            world.send(wait_seconds=0)
    finally:
        second.close()
    assert world.seen_on_whatsapp() == []
    world.send()
    assert world.seen_on_whatsapp() == ["It left today."]


def test_a_sender_that_starts_in_the_middle_of_another_doubles_nothing(
    world: World, mia: str, state_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.queue(text="one")
    world.queue(text="two")
    second = Stores(state_url)
    refused: list[type] = []
    sender = world.senders["whatsapp"]
    send = sender.send

    def and_another(outgoing: Outgoing) -> Accepted:
        try:
            World(second).send(wait_seconds=0)
        except TimeoutError as error:
            refused.append(type(error))
        return send(outgoing)

    monkeypatch.setattr(sender, "send", and_another)
    assert world.send().accepted == 2
    second.close()
    assert refused == [TimeoutError, TimeoutError]
    assert world.seen_on_whatsapp() == ["one", "two"]


def test_thousands_of_replies_that_nobody_reads_do_not_hide_a_new_status(
    world: World, mia: str, stores: Stores
) -> None:
    token = world.queue(text="the old one")
    world.send()
    row = stores.database("outbox").query_one("SELECT * FROM reply WHERE token = ?", (token,))
    assert row
    columns = [name for name in row.keys() if name != "id"]  # noqa: SIM118 (a row is no dict)
    old = [
        tuple(
            {"token": f"{n:032x}", "state": "accepted", "changed_at": "2020-01-01T00:00:00.000000Z", "told": 1}.get(
                name, row[name]
            )
            for name in columns
        )
        for n in range(10_050)
    ]
    stores.database("outbox").execute("DELETE FROM reply")
    stores.database("outbox").execute("BEGIN")
    stores.database("outbox").execute_many(
        f"INSERT INTO reply ({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)})", old
    )
    stores.database("outbox").execute("COMMIT")
    new = world.queue(text="the new one")
    world.send()
    world.settle()
    assert world.state(new) == "delivered"


def test_no_word_of_a_reply_and_no_number_gets_into_the_log(
    world: World, mia: str, omar: Handle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    world.whatsapp.faults.append(Fault("/messages", when="after"))
    world.messenger.faults.append(Fault("/messages", status=400, body={"error": {"code": 551, "message": "away"}}))
    world.queue(text="a very private sentence")
    world.queue("3", text="a very private sentence")
    world.send()
    world.settle()
    assert "private" not in caplog.text
    assert MIA not in caplog.text
    assert MIA.removeprefix("+") not in caplog.text


# Errors a sender may raise end as the contract says


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RejectedError("no", code="7"), "failed"),
        (RateLimitedError("slow", retry_after_seconds=3), "queued"),
        (UnavailableError("gone"), "queued"),
        (OutcomeUnknownError("perhaps"), "unknown"),
    ],
)
def test_each_outcome_has_its_state(world: World, mia: str, error: Exception, state: str) -> None:
    fake = FakeSender()
    fake.fail = [error]
    world.senders["whatsapp"] = fake  # type: ignore[assignment]
    token = world.queue()
    world.send()
    assert world.state(token) == state


def test_an_outgoing_reply_survives_the_way_through_the_outbox(world: World, mia: str) -> None:
    fake = FakeSender()
    world.senders["whatsapp"] = fake  # type: ignore[assignment]
    token = world.queue()
    world.send()
    stored = world.one(token).outgoing
    assert stored
    assert Outgoing.from_json(stored) == replace(fake.seen[0])
