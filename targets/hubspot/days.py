"""All messages of one person in a conversation on one day as one record: `roll_up`.

Such a day stands in the ledger as a message of its own that keeps its messages, encrypted: a later one, or an edit,
writes the whole day again. Each of them has a row that names its day: it stays there when its person becomes another,
and is not written again once somebody has deleted the day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC

from pydantic import Field

from mappings import ids
from mappings.records import ArchivedMessage
from stores.ledger import Ledger, LedgerMessage

_NO_MORE = frozenset({"gone", "erased"})


class Day(ArchivedMessage):
    """One person's day in a conversation; person, handles and time are those of its first message."""

    parts: list[ArchivedMessage] = Field(description="Its messages, oldest first.")
    brought: list[str] = Field(description="Keys of those that came now.")


@dataclass(slots=True)
class Rolled:
    """Messages, with those that belong into days replaced by these.

    Attributes:
        found: what is to be written.
        lost: how many belong into days whose records are no more, by their state.
    """

    found: list[ArchivedMessage] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)


def day_key(message: ArchivedMessage, person_id: str | None = None, number: int = 1) -> str:
    """The key that stands for the day (UTC) of one person in a message's conversation: of a group, each has their own.

    Args:
        message: one of that day.
        person_id: whose it is; ``None`` in the keys of days that are older than this distinction.
        number: counts the records of the day; another is begun when somebody deleted the last.
    """
    words = [f"day {message.sent_at.astimezone(UTC):%Y-%m-%d}", *([person_id] if person_id else [])]
    words += [str(number)] if number > 1 else []
    return ids.message_key(message.channel, message.account, " ".join(words), message.conversation_key)


def with_days(
    messages: Iterable[ArchivedMessage],
    ledger: Ledger,
    *,
    roll_up: bool,
    whose: Callable[[ArchivedMessage], str | None],
    elsewhere: Callable[[ArchivedMessage], bool] = lambda _: False,
) -> Rolled:
    """The messages with those that belong into a day replaced by it.

    A message that has a record of its own keeps it, and one that a day holds stays there, whatever `roll_up` says now.

    Args:
        messages: the last of several with one key counts.
        ledger: of the account.
        roll_up: whether new ones go into days.
        whose: the person of a message.
        elsewhere: which new ones do not go into days all the same.
    """
    rolled = Rolled()
    latest = {message.message_key: message for message in messages}
    marks = {key: ledger.fingerprint(key) for key in latest}
    before = {key: ledger.fingerprint(day_key(message)) for key, message in latest.items()}
    rows = ledger.messages((*marks.values(), *before.values()))
    days: dict[str, dict[str, ArchivedMessage]] = {}
    new: list[tuple[ArchivedMessage, str]] = []
    for key, message in latest.items():
        row, old_day = rows.get(marks[key]), rows.get(before[key])
        if row is not None and row.kept and "day" in row.kept:
            days.setdefault(str(row.kept["day"]), {})[key] = message
        elif row is None and old_day is not None and _may_hold(old_day, key):
            days.setdefault(day_key(message), {})[key] = message
        elif row is None and roll_up and not elsewhere(message) and (person_id := whose(message)) is not None:
            new.append((message, person_id))
        else:
            rolled.found.append(message)
    number = 1
    while new:
        keys = {message.message_key: day_key(message, person_id, number) for message, person_id in new}
        known = ledger.messages(ledger.fingerprint(key) for key in keys.values())
        closed = {key for key in keys.values() if (row := known.get(ledger.fingerprint(key))) and row.state in _NO_MORE}
        for message, _ in new:
            if (day := keys[message.message_key]) not in closed:
                days.setdefault(day, {})[message.message_key] = message
        new = [one for one in new if keys[one[0].message_key] in closed]
        number += 1
    stored = ledger.messages(ledger.fingerprint(key) for key in days)
    for key, brought in days.items():
        row = stored.get(ledger.fingerprint(key))
        if row is not None and row.state in _NO_MORE:
            rolled.lost[row.state] += len(brought)
            continue
        parts = (_parts(row) if row else {}) | brought
        ordered = sorted(parts.values(), key=lambda one: (one.sent_at, one.message_key))
        first = ordered[0].model_dump(exclude={"message_key", "reply_key", "reply_to_key"})
        rolled.found.append(
            Day.model_validate({**first, "message_key": key, "parts": ordered, "brought": list(brought)})
        )
    return rolled


def note_days(days: Iterable[Day], ledger: Ledger) -> list[ArchivedMessage]:
    """Note which messages are on the records of these days now.

    Returns:
        Those that were to come to a record that somebody deleted meanwhile: they were never shown.
    """
    by_mark = {ledger.fingerprint(day.message_key): day for day in days}
    rows = ledger.messages(by_mark)
    marks = {key: ledger.fingerprint(key) for day in by_mark.values() for key in day.brought}
    noted = ledger.messages(marks.values())
    pointers: list[LedgerMessage] = []
    missed: list[ArchivedMessage] = []
    for mark, day in by_mark.items():
        row = rows.get(mark)
        new = [one for one in day.parts if one.message_key in marks and marks[one.message_key] not in noted]
        if row is not None and row.state in _NO_MORE:
            missed += new
        elif row is not None and new:
            shown = _parts(row)
            pointers += [
                LedgerMessage(marks[one.message_key], "written", kept={"day": day.message_key})
                for one in new
                if one.message_key in shown
            ]
    ledger.save_messages(pointers)
    return missed


def _may_hold(day: LedgerMessage, key: str) -> bool:
    """Whether a day from before each message had a row holds one; of a record that is no more nobody knows."""
    return day.state in _NO_MORE or any(one["message_key"] == key for one in (day.kept or {}).get("parts") or [])


def _parts(row: LedgerMessage) -> dict[str, ArchivedMessage]:
    parts = [ArchivedMessage.model_validate(one) for one in (row.kept or {}).get("parts") or []]
    return {one.message_key: one for one in parts}
