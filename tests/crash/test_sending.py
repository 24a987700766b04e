"""`onethread send` is killed (-9) at every bad moment of a send; the customer has the reply at most once.

Nothing in the product knows of these moments: a script wraps the outbox, the archive or the sender in the process that
dies. The platform is a stand-in in this process, so its account of what the customer has seen survives the kill.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stores.database import Stores
from targets.senders.whatsapp import WhatsAppSender
from tests.targets.sending_world import MIA, TOKEN, World, phone, running_world

SEND = """
import sys
from stores.archive import Archive
from stores.database import Stores
from stores.outbox import Outbox
from targets.senders.whatsapp import WhatsAppSender
from targets.sending import Dispatcher

def die(*_):
    __import__('os').kill(__import__('os').getpid(), 9)

def dying(owner, name, *, before=False, call=1):
    original, calls = getattr(owner, name), []
    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == call and before:
            die()
        result = original(*args, **kwargs)
        if len(calls) == call:
            die()
        return result
    setattr(owner, name, wrapped)

[MOMENT]
print(Dispatcher(Stores(), {"whatsapp": WhatsAppSender()}).run())
"""
NEVER_SENT = {
    "before the intent": "dying(Outbox, 'begin', before=True)",
}
IN_DOUBT_UNSENT = {
    "after the intent, before the call": "dying(WhatsAppSender, 'send', before=True)",
}
IN_DOUBT_SENT = {
    "after the platform took it, before its answer is read": "import requests; dying(requests.Session, 'post')",
    "after the answer, before it is on disk": "dying(Outbox, 'accept', before=True)",
}
ACCEPTED = {
    "after it is on disk, before the archive is told": "dying(Outbox, 'accept')",
    "in the middle of telling": "dying(Archive, 'fold', before=True, call=2)",
    "after the archive is told, before that is noted": "dying(Archive, 'fold', call=2)",
}


@pytest.fixture
def world(stores: Stores) -> Iterator[World]:
    with running_world(stores) as made:
        made.whatsapp_customer("Mia", MIA)
        made.contact("2", phone(MIA), name="Mia Rossi")
        yield made


def run_and_kill(world: World, moment: str) -> None:
    """Run the sender in a process of its own, which dies at that moment."""
    sender = world.senders["whatsapp"]
    assert isinstance(sender, WhatsAppSender)
    environment = {
        **os.environ,
        "ONETHREAD_WHATSAPP_ACCESS_TOKEN": TOKEN,
        "ONETHREAD_WHATSAPP_PHONE_NUMBER_ID": world.whatsapp.phone_number_id,
        "ONETHREAD_WHATSAPP_API_URL": sender.settings.api_url,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SEND.replace("[MOMENT]", moment)],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


def kill(world: World, moment: str) -> str:
    """Queue a reply and kill the sender at that moment; the reply's token."""
    token = world.queue()
    run_and_kill(world, moment)
    return token


@pytest.mark.parametrize("moment", NEVER_SENT)
def test_a_kill_before_the_intent_costs_nothing(world: World, moment: str) -> None:
    token = kill(world, NEVER_SENT[moment])
    assert world.state(token) == "queued"
    world.send()
    assert (world.state(token), world.seen_on_whatsapp()) == ("accepted", ["It left today."])


@pytest.mark.parametrize("moment", IN_DOUBT_UNSENT)
def test_a_kill_after_the_intent_leaves_a_reply_in_doubt_that_is_not_sent_by_itself(world: World, moment: str) -> None:
    token = kill(world, IN_DOUBT_UNSENT[moment])
    assert world.state(token) == "sending"
    for _ in range(2):
        world.send()
    assert (world.state(token), world.seen_on_whatsapp()) == ("unknown", [])
    assert "may have been sent" in (world.receipts(token)["unknown"].reason or "")
    assert world.outbox.decide(token, "not_sent")
    world.send()
    assert (world.state(token), world.seen_on_whatsapp()) == ("accepted", ["It left today."])


@pytest.mark.parametrize("moment", IN_DOUBT_SENT)
def test_a_kill_after_the_platform_took_it_is_settled_by_its_status_and_never_sent_again(
    world: World, moment: str
) -> None:
    token = kill(world, IN_DOUBT_SENT[moment])
    for _ in range(2):
        world.send()
    assert (world.state(token), world.seen_on_whatsapp()) == ("unknown", ["It left today."])
    assert world.receipts(token)["unknown"].subject_kind == "reply"
    world.listen("status")
    world.send()
    assert (world.state(token), world.seen_on_whatsapp()) == ("delivered", ["It left today."])
    (message,) = world.ours()
    assert (message.text, message.reply_key) == ("It left today.", world.one(token).reply.reply_key)


@pytest.mark.parametrize("moment", ACCEPTED)
def test_a_kill_after_the_outcome_is_on_disk_is_made_up_for_in_the_archive(world: World, moment: str) -> None:
    token = kill(world, ACCEPTED[moment])
    assert world.state(token) == "accepted"
    for _ in range(2):
        world.send()
    assert world.seen_on_whatsapp() == ["It left today."]
    (message,) = world.ours()
    assert message.reply_key == world.one(token).reply.reply_key
    assert "accepted" in world.receipts(token)


@pytest.mark.slow
def test_kill_after_kill_with_several_replies_shows_each_once(world: World) -> None:
    tokens = [world.queue(text=f"reply {number}") for number in range(6)]
    moments = [*NEVER_SENT.values(), *IN_DOUBT_SENT.values(), *ACCEPTED.values()]
    for moment in moments:
        run_and_kill(world, moment)
    world.send()
    world.listen("status")
    world.send()
    assert {world.state(token) for token in tokens} == {"delivered"}
    assert world.seen_on_whatsapp() == [f"reply {number}" for number in range(6)]
    assert len(world.ours()) == 6
