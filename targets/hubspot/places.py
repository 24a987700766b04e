"""Where in HubSpot a message is, as the ledger keeps it in one text. Pure.

``812`` is communication 812, ``notes:812`` a note, ``inbox:41:9c2`` message 9c2 of custom channel 41. A message stays
where it was first written: another setting for its channel is for the messages that come.
"""

from __future__ import annotations

from typing import NamedTuple

from targets.hubspot.api import COMMUNICATIONS, NOTES

INBOX = "inbox"


class Place(NamedTuple):
    """Kind (``communications``, ``notes``, ``inbox``), id there, and of an inbox message its custom channel."""

    kind: str
    record_id: str
    channel_id: str | None = None

    @property
    def text(self) -> str:
        """As the ledger keeps it."""
        if self.kind == COMMUNICATIONS:
            return self.record_id
        return ":".join(filter(None, (self.kind, self.channel_id, self.record_id)))


def place_of(text: str) -> Place:
    """What `Place.text` made."""
    kind, _, rest = text.partition(":")
    if kind == INBOX:
        channel_id, _, message_id = rest.partition(":")
        return Place(INBOX, message_id, channel_id)
    return Place(NOTES, rest) if kind == NOTES else Place(COMMUNICATIONS, text)
