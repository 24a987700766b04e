"""Whatever happens in whatever order, no customer sees a reply twice, and no reply vanishes.

A machine queues replies, runs the sender, kills it at every point of a send, loses answers, limits and refuses; lets
statuses and echoes come back, or not; delivers replies again under a merged contact; and decides as a person would.
What counts is what the customers have on their screens.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import stores.outbox as outbox_module
from mappings.errors import CredentialsError, OutcomeUnknownError, RateLimitedError, RejectedError, UnavailableError
from mappings.ids import conversation_key, message_key
from mappings.records import Message, Receipt
from stores.archive import Archive
from stores.database import Stores
from stores.outbox import Outbox
from targets.senders.base import Accepted, Outgoing
from tests.identity import worlds
from tests.stores import archive_world
from tests.targets.sending_world import MIA, OMAR, World, phone

ACCOUNT = "106540352242922"
CUSTOMERS = {MIA: ("2", "9"), OMAR: ("3", "8")}
"""Phone -> the record ids of the contact: the second is what it is merged into in the CRM."""

REACHES = {"taken", "lost after", "killed after", "surprise after"}
OUTCOMES = [*sorted(REACHES), "lost before", "killed before", "limited", "down", "refused", "no credentials"]
KILLED_IN = ["begin", "accept", "later", "end", "fold", "mark_told"]


class Killed(BaseException):
    """The process is gone."""


class Platform:
    """Takes replies as it was told to; `seen` is what the customers have."""

    slug = "whatsapp"
    account = ACCOUNT

    def __init__(self) -> None:
        self.seen: list[Outgoing] = []
        self.plan: list[str] = []

    def send(self, outgoing: Outgoing) -> Accepted:
        outcome = self.plan.pop(0) if self.plan else "taken"
        if outcome in REACHES:
            self.seen.append(outgoing)
        failures: dict[str, BaseException] = {
            "lost after": OutcomeUnknownError("no answer"), "lost before": OutcomeUnknownError("no answer"),
            "killed after": Killed(), "killed before": Killed(), "surprise after": KeyError("messages"),
            "limited": RateLimitedError("slow"), "down": UnavailableError("gone"), "refused": RejectedError("no"),
            "no credentials": CredentialsError("renew the token"),
        }  # fmt: skip
        if outcome in failures:
            raise failures[outcome]
        return Accepted(self.key(outgoing.token), outgoing.token, datetime.now(UTC))

    def key(self, token: str) -> str:
        """What the platform calls the last message with this token."""
        last = max(number for number, one in enumerate(self.seen) if one.token == token)
        return message_key("whatsapp", ACCOUNT, f"wamid.{last}")

    def settle(self, outgoing: Outgoing) -> Accepted | None:
        del outgoing
        return None


class Sending(RuleBasedStateMachine):
    """The machine; `stores` is set by the test."""

    opened: Stores

    @initialize()
    def start(self) -> None:
        archive_world.empty(self.opened)
        worlds.empty(self.opened)
        for name in ("archive", "outbox"):
            self.opened.database(name).execute("PRAGMA synchronous = OFF")
        self.opened.database("outbox").execute("DELETE FROM reply")
        self.world = World(self.opened)
        self.platform = Platform()
        self.world.senders = {"whatsapp": self.platform}  # type: ignore[dict-item]  # a plain class, not a protocol
        self.clock = 0.0
        self.moments = 0
        self.queued: dict[str, tuple[str, str]] = {}  # token -> customer, moment
        self.proved: set[str] = set()
        real = time.time
        outbox_module.__dict__["time"] = SimpleNamespace(time=lambda: real() + self.clock)
        for number, (first, second) in CUSTOMERS.items():
            self.world.take(self.message(number, f"in.{first}", "inbound", "customer"))
            self.world.contact(first, phone(number))
            self.world.contact(second, phone(number), merged_record_ids=[first])

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.everything_comes_back()
        outbox_module.__dict__["time"] = time

    # What happens

    @rule(numbers=st.lists(st.sampled_from(sorted(CUSTOMERS)), min_size=1, max_size=3))
    def agents_write(self, numbers: list[str]) -> None:
        for number in numbers:
            self.moments += 1
            self.deliver(number, f"2026-11-01T12:00:00.{self.moments:03d}Z", CUSTOMERS[number][0])

    @precondition(lambda self: self.queued)
    @rule(pick=st.integers(0), merged=st.booleans())
    def the_crm_tells_a_reply_again(self, pick: int, *, merged: bool) -> None:
        number, moment = self.queued[self.picked(self.queued, pick)]
        self.deliver(number, moment, CUSTOMERS[number][merged])

    @precondition(lambda self: self.world.outbox.queued())
    @rule(plan=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=4))
    def the_sender_runs(self, plan: list[str]) -> None:
        self.run(plan)

    @precondition(lambda self: self.world.outbox.queued())
    @rule(
        plan=st.lists(st.sampled_from(OUTCOMES), max_size=2), where=st.sampled_from(KILLED_IN),
        call=st.integers(1, 3), after=st.booleans(),
    )  # fmt: skip
    def the_sender_is_killed_in_a_store(self, plan: list[str], where: str, call: int, *, after: bool) -> None:
        owner: type = Archive if where == "fold" else Outbox
        original: Callable[..., Any] = getattr(owner, where)
        calls = Counter[str]()

        def dying(*args: Any, **kwargs: Any) -> Any:
            calls[where] += 1
            if calls[where] == call and not after:
                raise Killed
            result = original(*args, **kwargs)
            if calls[where] == call:
                raise Killed
            return result

        setattr(owner, where, dying)
        try:
            self.run(plan)
        finally:
            setattr(owner, where, original)

    @precondition(lambda self: self.platform.seen)
    @rule(pick=st.integers(0), status=st.sampled_from(["sent", "delivered", "read"]))
    def a_status_comes(self, pick: int, status: Any) -> None:
        self.prove(self.picked({one.token for one in self.platform.seen}, pick), status)

    @precondition(lambda self: self.platform.seen)
    @rule(pick=st.integers(0))
    def an_echo_comes(self, pick: int) -> None:
        self.prove(self.picked({one.token for one in self.platform.seen}, pick), None)

    @precondition(lambda self: self.world.outbox.listing(["unknown"]))
    @rule(pick=st.integers(0), cancel=st.booleans())
    def a_person_decides(self, pick: int, *, cancel: bool) -> None:
        token = self.picked({one.token for one in self.world.outbox.listing(["unknown"])}, pick)
        reached = any(one.token == token for one in self.platform.seen)
        if reached and token not in self.proved:
            decision: Any = "cancel" if cancel else "sent"
        else:
            # Not seen; or seen, with the proof on its way in while somebody says the contrary.
            decision = "cancel" if cancel else "not_sent"
        assert self.world.outbox.decide(token, decision)

    @rule()
    def an_hour_passes(self) -> None:
        self.clock += 3600

    # What must hold

    @invariant()
    def nobody_sees_a_reply_twice(self) -> None:
        if hasattr(self, "platform"):
            seen = Counter((one.to.value, one.text) for one in self.platform.seen)
            assert not [one for one, times in seen.items() if times > 1]

    def everything_comes_back(self) -> None:
        """No reply is lost: each has reached its customer, or says to a person why it has not."""
        for _ in range(2):
            self.clock += 100_000
            self.run([])
            for token in {one.token for one in self.platform.seen}:
                self.prove(token, "delivered")
        self.run([])
        self.nobody_sees_a_reply_twice()
        seen = {one.token for one in self.platform.seen}
        tokens = {one.token: one for one in self.world.outbox.listing(limit=1_000)}
        assert tokens.keys() == self.queued.keys()
        for token, one in tokens.items():
            if token in seen:
                assert one.state in {"delivered", "read"}, one.state
                key, _ = self.world.archive.by_reply_token(token)
                assert key == self.platform.key(token)
            else:
                assert one.state in {"unknown", "refused", "failed", "cancelled", "accepted"}, one.state
                assert one.state != "accepted" or one.message_key is None
                assert one.reason
            told = self.world.archive.receipts_for(one.reply.reply_key)
            said = {"refused", "unknown"} if one.state == "cancelled" else {one.state}
            assert said & {receipt.status for receipt in told}

    # Inside

    def run(self, plan: list[str]) -> None:
        self.platform.plan = list(plan)
        try:
            self.world.send()
        except Killed:
            pass

    def deliver(self, number: str, moment: str, record_id: str) -> None:
        reply = self.world.reply(record_id, f"words of {moment}", moment=moment)
        graph = self.world.graph
        new = self.world.outbox.add([reply], lambda one, other: graph.current(one) == graph.current(other))
        if new:
            (newest,) = self.world.outbox.listing(limit=1)
            self.queued[newest.token] = (number, moment)

    def prove(self, token: str, status: Any) -> None:
        """The platform tells of the message that carries this token: a status, or the echo."""
        outgoing = next(one for one in self.platform.seen if one.token == token)
        self.proved.add(token)
        key = self.platform.key(token)
        if status is None:
            name = key.rpartition(":")[2]
            echo = self.message(outgoing.to.value, name, "outbound", "agent", reply_token=token, text=outgoing.text)
            self.world.take(echo)
            return
        self.world.take(
            Receipt(
                subject_key=key, subject_kind="message", status=status, channel="whatsapp", account=ACCOUNT,
                occurred_at=datetime.now(UTC), reply_token=token,
            )
        )  # fmt: skip

    @staticmethod
    def message(number: str, name: str, direction: Any, author: Any, **more: Any) -> Message:
        return Message(
            message_key=message_key("whatsapp", ACCOUNT, name), channel="whatsapp", account=ACCOUNT,
            conversation_key=conversation_key("whatsapp", ACCOUNT, number), direction=direction, kind="text",
            sent_at=datetime.now(UTC) - timedelta(seconds=1), author_kind=author, handles=[phone(number)],
            **{"text": "Hi", **more},
        )  # fmt: skip

    @staticmethod
    def picked(choices: Any, pick: int) -> str:
        ordered = sorted(choices)
        chosen: str = ordered[pick % len(ordered)]
        return chosen


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    folder: Path = tmp_path_factory.mktemp("sending")
    made = Stores(str(folder))
    yield made
    made.close()


def play(opened: Stores, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        type("Machine", (Sending,), {"opened": opened}),
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
            phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


def test_no_order_of_events_shows_a_customer_a_reply_twice_or_loses_one(opened: Stores) -> None:
    play(opened, examples=30, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_more_orders_of_events_show_no_reply_twice_and_lose_none(opened: Stores) -> None:
    play(opened, examples=400, steps=40)
