"""Messages of the Conversations API as canonical records.

Shapes: developers.facebook.com/documentation/business-messaging/messenger-platform/conversations (2026-02-11),
documented; the members of an attachment and that a message has the same id here and in webhooks are assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mappings.contact_points import clean_name
from mappings.errors import MissingFieldError
from mappings.fields import id_of, object_of, objects_of, optional_object_of, optional_text_of, text_of
from mappings.from_messenger.event import CHANNEL
from mappings.ids import conversation_key, message_key
from mappings.meta_graph import attachment_of_graph, moment_of_graph
from mappings.records import Handle, Message, MessageKind, Profile


def message_from_messenger_poll(
    payload: Mapping[str, Any], page_id: str, *, received_at: datetime, raw_ref: str, flags: tuple[str, ...] = ()
) -> Message:
    """A message of the Conversations API.

    `payload`::

        {"id": "m_abc", "created_time": "2026-03-01T19:11:07+0000", "message": "Hello",
         "from": {"name": "Ada Example", "id": "6890123456789012"}, "to": {"data": [{"id": "108812345678901"}]}}

    It does not say which app sent what the page sent: the author is taken for an agent, until the echo or our own
    record of sending says otherwise. `flags` are set on what a customer wrote.
    """
    where = "Messenger message"
    sender = object_of(payload, "from", where)
    sender_id = id_of(sender, "id", where)
    outbound = sender_id == page_id
    customer = sender_id
    if outbound:
        receivers = objects_of(object_of(payload, "to", where), "data", where)
        customer = next((one for one in (id_of(each, "id", where) for each in receivers) if one != page_id), "")
        if not customer:
            msg = f"{where}: it names no receiver but the page"
            raise MissingFieldError(msg)
    files = optional_object_of(payload, "attachments", where) or {}
    attachments = [attachment_of_graph(one, where) for one in objects_of(files, "data", where)]
    replied_to = optional_text_of(optional_object_of(payload, "reply_to", where) or {}, "mid", where)
    text = optional_text_of(payload, "message", where)
    name = None if outbound else clean_name(optional_text_of(sender, "name", where))
    kind: MessageKind = attachments[0].kind if attachments else "text" if text else "unsupported"
    return Message(
        message_key=message_key(CHANNEL, page_id, text_of(payload, "id", where)),
        channel=CHANNEL,
        account=page_id,
        conversation_key=conversation_key(CHANNEL, page_id, customer),
        direction="outbound" if outbound else "inbound",
        kind=kind,
        text=text,
        attachments=attachments,
        reply_to_key=message_key(CHANNEL, page_id, replied_to) if replied_to else None,
        flags=[] if outbound else list(flags),
        sent_at=moment_of_graph(payload.get("created_time"), "created_time", where),
        received_at=received_at,
        author_kind="agent" if outbound else "customer",
        author_name=name,
        handles=[Handle(kind="messenger_psid", scope=page_id, value=customer)],
        profile=Profile(name=name) if name else None,
        seen_by="poll",
        raw_ref=raw_ref,
    )
