"""Telling a message of Infobip's conversations from one that a webhook brings: by words, customer and minute.

The two have different ids, so what one way told and the other brings later is known by what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cached_property

from mappings.records import Message
from stores.control import Facts
from stores.database import Stores
from stores.items import Items, Sighting

_MINUTE = 60
_LATE = timedelta(days=2)


class ToldWords:
    """What the conversations of one route told and nothing had brought, for as long as it may still be brought.

    Args:
        stores: the state folder.
        route: the tap's.
        now: the tap's clock.
    """

    def __init__(self, stores: Stores, route: str, now: Callable[[], datetime]) -> None:
        self._facts = Facts(stores)
        self._fingerprint = stores.codec.fingerprint
        self._route = route
        self._name = f"infobip:{route}:told"
        self._now = now

    def key(self, message: Message, minutes: int = 0) -> str:
        """Under which key the words of a message are remembered, with the minute moved by so many."""
        minute = int(message.sent_at.timestamp()) // _MINUTE + minutes
        kind = "" if message.text else message.kind
        said = "\0".join((message.channel, message.account, message.handles[0].key, message.text or "", kind))
        return f"{self._route}|words|{self._fingerprint(said)}|{minute}"

    def came(self, message: Message, items: Items) -> bool:
        """Whether a webhook brought these words of this customer within a minute."""
        sightings = [
            Sighting(self.key(message, minutes), "history:words", "poll:0", 0, message.sent_at)
            for minutes in (-1, 0, 1)
        ]
        # Asked with pass 0, only what a delivery has claimed is not "unseen".
        return not all(items.claim_polled("infobip", sightings))

    def note(self, messages: Sequence[Message]) -> None:
        """Remember, before they are emitted, what may still come by webhook."""
        recent = [one for one in messages if one.sent_at >= self._now() - _LATE]
        if recent:
            self._told.update({self.key(one): [self._now().isoformat(), ""] for one in recent})
            self._facts.save(self._name, self._told)

    def was_told(self, message: Message, key: str) -> bool:
        """Whether conversations told a message that is brought only now: it is on record already.

        The first that fits is that message, and stays it; another one with the same words is not.
        """
        mine = self._fingerprint(key)
        fitting = [words for minutes in (-1, 0, 1) if (words := self.key(message, minutes)) in self._told]
        if any(self._told[words][1] == mine for words in fitting):
            return True
        free = next((words for words in fitting if not self._told[words][1]), None)
        if free is None:
            return False
        self._told[free][1] = mine
        self._facts.save(self._name, self._told)
        return True

    @cached_property
    def _told(self) -> dict[str, list[str]]:
        """By words: when they were told, and which late message they turned out to be."""
        found = self._facts.load(self._name)
        oldest = (self._now() - _LATE).isoformat()
        return {key: told for key, told in found.items() if told[0] >= oldest} if isinstance(found, dict) else {}
