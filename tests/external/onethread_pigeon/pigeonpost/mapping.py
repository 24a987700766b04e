"""A pigeon that landed, as a message."""

from __future__ import annotations

from datetime import datetime

from mappings.errors import UnknownShapeError
from mappings.fields import PlatformEvent, id_of, moment_of, object_of, text_of
from mappings.ids import conversation_key, message_key
from mappings.platforms import Platform
from mappings.records import Handle, Message

CHANNEL = "pigeon"


def message_from_pigeon(item: PlatformEvent, received_at: datetime, raw_ref: str) -> Message:
    """The message that a pigeon carried; raises `PayloadError` for anything else."""
    if item.kind != "pigeon":
        msg = "Pigeon Post: no rule for what is no pigeon"
        raise UnknownShapeError(msg)
    where = "Pigeon Post"
    pigeon = object_of(item.payload, "pigeon", where)
    loft = id_of(pigeon, "loft", where)
    owner = Handle(kind="pigeon_owner", scope=loft, value=id_of(pigeon, "owner", where))
    return Message(
        message_key=message_key(CHANNEL, loft, id_of(pigeon, "ring", where)),
        channel=CHANNEL,
        account=loft,
        conversation_key=conversation_key(CHANNEL, loft, owner.value),
        direction="inbound",
        kind="text",
        text=text_of(pigeon, "words", where),
        sent_at=moment_of(pigeon.get("landed"), "landed", where),
        received_at=received_at,
        author_kind="customer",
        handles=[owner],
        raw_ref=raw_ref,
    )


PLATFORM = Platform(
    slug=CHANNEL,
    name="Pigeon Post",
    tap="pigeonpost.tap:TapPigeon",
    mapping="pigeonpost.mapping",
    webhook="pigeonpost.webhook",
    sender="pigeonpost.sender:PigeonSender",
    sandbox="pigeonpost.sandbox:PigeonLoft",
    reads="pigeons",
    sends="text",
)
