"""What every sender must do, whatever its platform: a suite that a sender joins with one class.

A subclass gives fixtures: `sender` (set up against its stand-in), `outgoing` (a reply that the stand-in accepts),
`seen` (how many times the customer has it), and `break_next` (make the next call fail in a way named below).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mappings.errors import OneThreadError, OutcomeUnknownError, RejectedError, UnavailableError
from mappings.ids import parse_message_key
from targets.senders.base import Outgoing

BreakNext = Callable[[str], None]


class SenderContract:
    """One reply -> one call -> one outcome, and no doubt left unsaid."""

    def test_an_accepted_reply_reaches_the_customer_once_and_is_named(
        self, sender: Any, outgoing: Outgoing, seen: Callable[[], int]
    ) -> None:
        accepted = sender.send(outgoing)
        assert seen() == 1
        parts = parse_message_key(accepted.message_key)
        assert (parts.channel, parts.account) == (sender.slug, sender.account)
        assert parts.platform_message_id == accepted.platform_message_id
        assert accepted.sent_at.tzinfo is not None

    def test_a_refused_reply_is_final_and_nothing_was_sent(
        self, sender: Any, outgoing: Outgoing, seen: Callable[[], int], break_next: BreakNext
    ) -> None:
        break_next("refuse")
        with pytest.raises(RejectedError):
            sender.send(outgoing)
        assert seen() == 0

    def test_a_success_whose_answer_is_lost_is_unknown_and_not_a_failure(
        self, sender: Any, outgoing: Outgoing, seen: Callable[[], int], break_next: BreakNext
    ) -> None:
        break_next("lose_answer")
        with pytest.raises(OutcomeUnknownError):
            sender.send(outgoing)
        assert seen() == 1

    def test_a_refused_connection_is_certainly_not_sent(
        self, sender: Any, outgoing: Outgoing, break_next: BreakNext
    ) -> None:
        break_next("no_connection")
        with pytest.raises(UnavailableError):
            sender.send(outgoing)

    def test_no_error_says_the_text_the_handle_or_the_secret(
        self, sender: Any, outgoing: Outgoing, break_next: BreakNext, secret: str
    ) -> None:
        spoken = replace(outgoing, text="a very private sentence")
        for way in ("refuse", "lose_answer", "no_connection"):
            break_next(way)
            with pytest.raises(OneThreadError) as failed:
                sender.send(spoken)
            said = str(failed.value)
            assert "private" not in said
            assert outgoing.to.value not in said
            assert secret not in said
