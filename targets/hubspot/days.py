"""All messages of a conversation on one day as one record: `roll_up`.

Such a day stands in the ledger as a message of its own that keeps its messages, encrypted: a later one, or an edit,
writes the whole day again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC

from pydantic import Field

from mappings import ids
from mappings.records import ArchivedMessage
from stores.ledger import Ledger


class Day(ArchivedMessage):
    """One day of a conversation; person, handles and time are those of its first message."""

    parts: list[ArchivedMessage] = Field(description="Its messages, oldest first.")
    brought: list[str] = Field(description="Keys of those that came now.")


def day_key(message: ArchivedMessage) -> str:
    """The key that stands for the day (UTC) of a message's conversation."""
    day = f"day {message.sent_at.astimezone(UTC):%Y-%m-%d}"
    return ids.message_key(message.channel, message.account, day, message.conversation_key)


def with_days(
    messages: Iterable[ArchivedMessage],
    ledger: Ledger,
    *,
    roll_up: bool,
    elsewhere: Callable[[ArchivedMessage], bool] = lambda _: False,
) -> list[ArchivedMessage]:
    """The messages with those that belong into a day replaced by it; `elsewhere` says which new ones do not.

    A message that has a record of its own keeps it, and one that a day holds stays there, whatever `roll_up` says now.
    """
    latest = {message.message_key: message for message in messages}
    days: dict[str, list[ArchivedMessage]] = {}
    for message in latest.values():
        days.setdefault(day_key(message), []).append(message)
    marks = {key: ledger.fingerprint(key) for key in (*latest, *days)}
    rows = ledger.messages(marks.values())
    found: list[ArchivedMessage] = []
    for key, here in days.items():
        row = rows.get(marks[key])
        kept = [ArchivedMessage.model_validate(one) for one in ((row.kept or {}).get("parts") or [])] if row else []
        held = {one.message_key for one in kept}
        alone = [
            one
            for one in here
            if marks[one.message_key] in rows or not (one.message_key in held or (roll_up and not elsewhere(one)))
        ]
        single = {one.message_key for one in alone}
        brought = {one.message_key: one for one in here if one.message_key not in single}
        found += alone
        if brought:
            parts = {one.message_key: one for one in kept} | brought
            ordered = sorted(parts.values(), key=lambda one: (one.sent_at, one.message_key))
            first = ordered[0].model_dump(exclude={"message_key", "reply_key", "reply_to_key"})
            found.append(Day.model_validate({**first, "message_key": key, "parts": ordered, "brought": list(brought)}))
    return found
