"""One Instagram event with what stands around it: who of its parties is the customer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mappings.fields import PlatformEvent, id_of, object_of
from mappings.meta_event import MetaContext, MetaEvent
from mappings.records import Handle, Message

CHANNEL = "instagram"
HANDLE_KIND = "instagram_igsid"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstagramContext(MetaContext):
    """What a mapping must be told; see `mappings.meta_event.MetaContext`."""


def handle_of(account_id: str, igsid: str) -> Handle:
    """A customer: the id is the same in chat and comments, and valid for this account only."""
    return Handle(kind=HANDLE_KIND, scope=account_id, value=igsid)


class Event(MetaEvent):
    """One chat event with what stands around it."""

    channel = CHANNEL
    display = "Instagram"
    account_field = "account_id"

    def __init__(self, item: PlatformEvent, context: InstagramContext) -> None:
        super().__init__(item, context)
        self.is_echo = self.part.get("is_echo") is True
        self.is_self = self.body.get("is_self") is True or self.part.get("is_self") is True

    def customer(self) -> Handle:
        """Whoever of sender and recipient is not the account.

        An echo has them swapped, and so has what the account does to itself (`is_self`): the customer is the
        recipient. Where neither is the account (its id in ``entry`` can be another one than in the events), the flag
        decides.
        """
        sender = self._party("sender")
        return handle_of(self.account, self._party("recipient") if sender == self.account or self.is_echo else sender)

    def is_own(self) -> bool:
        """Whether the account did it, and not one of its customers (or the account in a customer's place)."""
        return self.is_echo or (self._party("sender") == self.account and not self.is_self)

    def message(self, *args: Any, **values: Any) -> Message:
        """See `MetaEvent.message`; what the account wrote to itself is flagged."""
        return super().message(*args, flags=["self"] if self.is_self else [], **values)

    def _party(self, name: str) -> str:
        return id_of(object_of(self.body, name, self.where), "id", self.where)
