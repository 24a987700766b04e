"""One Messenger event with what stands around it: who of its parties is the customer."""

from __future__ import annotations

from dataclasses import dataclass, field

from mappings.fields import id_of, object_of
from mappings.meta_event import MetaContext, MetaEvent
from mappings.records import Handle

CHANNEL = "messenger"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessengerContext(MetaContext):
    """What a mapping must be told; see `mappings.meta_event.MetaContext`.

    Attributes:
        account_link_secret: key of the signature on authorization codes; see `handle_of_authorization_code`.
    """

    account_link_secret: str | None = field(default=None, repr=False)


class Event(MetaEvent):
    """One event with what stands around it."""

    channel = CHANNEL
    display = "Messenger"
    account_field = "page_id"
    context: MessengerContext

    def party(self, name: str) -> Handle:
        """The ``sender`` or ``recipient`` as a handle; from a plugin's checkbox it has a ``user_ref`` instead."""
        party = object_of(self.body, name, self.where)
        if party.get("id") is None and party.get("user_ref") is not None:
            return Handle(kind="messenger_user_ref", scope=self.account, value=id_of(party, "user_ref", self.where))
        return Handle(kind="messenger_psid", scope=self.account, value=id_of(party, "id", self.where))

    def customer(self) -> Handle:
        """Whoever of sender and recipient is not the page."""
        sender = self.party("sender")
        return self.party("recipient") if sender.value == self.account else sender

    def is_own(self) -> bool:
        """Whether the page did it."""
        return self.party("sender").value == self.account
