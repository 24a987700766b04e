"""Messages of the Conversations API as canonical records.

Shapes: developers.facebook.com/docs/graph-api/reference/message (v26.0) and .../instagram-platform/instagram-api-with-
instagram-login/conversations-api (read 2026-11), documented; the members of an attachment and that a message has the
same id here and in webhooks are assumed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from mappings.contact_points import clean_name
from mappings.errors import MissingFieldError
from mappings.fields import chosen, id_of, object_of, objects_of, optional_object_of, optional_text_of, text_of
from mappings.from_instagram.event import CHANNEL, handle_of
from mappings.ids import conversation_key, message_key
from mappings.meta_graph import attachment_of_graph, moment_of_graph
from mappings.records import Message, MessageKind, Origin, Profile


def message_from_instagram_poll(
    payload: Mapping[str, Any],
    account_id: str,
    own_ids: Collection[str],
    *,
    received_at: datetime,
    raw_ref: str,
    flags: tuple[str, ...] = (),
) -> Message:
    """A message of the Conversations API.

    Args:
        payload: e.g. ::

            {"id": "aWdf...", "created_time": "2026-03-01T19:11:07+0000", "message": "Hello",
             "from": {"username": "ada.example", "id": "8901234567890123"},
             "to": {"data": [{"username": "example.shop", "id": "17841405822304914"}]}}

        account_id: the account, as webhooks have it.
        own_ids: every id that the account has; Instagram login knows it by two.
        received_at: when it was read.
        raw_ref: where it came from.
        flags: for what a customer wrote.

    It does not say which app sent what the account sent: the author is taken for an agent, until the echo or our own
    record of sending says otherwise. Its reactions have no time and are left to the webhook.

    Raises:
        MissingFieldError: neither side is the account (a wrong account id must not make customers of ourselves), or a
            field that is needed is absent or of the wrong type.
    """
    where = "Instagram message"
    ours = {account_id, *own_ids}
    sender = object_of(payload, "from", where)
    sender_id = id_of(sender, "id", where)
    receivers = [id_of(one, "id", where) for one in objects_of(object_of(payload, "to", where), "data", where)]
    outbound = sender_id in ours
    customer = next((one for one in receivers if one not in ours), "") if outbound else sender_id
    if not customer or not (outbound or ours.intersection(receivers)):
        msg = f"{where}: it is not between the account and somebody else; is account_id the account's id?"
        raise MissingFieldError(msg)
    files = optional_object_of(payload, "attachments", where) or {}
    attachments = [attachment_of_graph(one, where) for one in objects_of(files, "data", where)]
    shares = objects_of(optional_object_of(payload, "shares", where) or {}, "data", where)
    story = optional_object_of(payload, "story", where) or {}
    mention, replied_story = (optional_object_of(story, name, where) for name in ("mention", "reply_to"))
    text = optional_text_of(payload, "message", where)
    unsupported = payload.get("is_unsupported") is True
    content = {
        **({"shares": [chosen(one, ("id", "link", "name", "template")) for one in shares]} if shares else {}),
        **({"unsupported": ["is_unsupported"]} if unsupported else {}),
    }
    kind: MessageKind = attachments[0].kind if attachments else "text" if text or shares or mention else "unsupported"
    replied_to = optional_text_of(optional_object_of(payload, "reply_to", where) or {}, "mid", where)
    origin: Origin = "mention" if mention else "direct"
    username = None if outbound else clean_name(optional_text_of(sender, "username", where))
    return Message(
        message_key=message_key(CHANNEL, account_id, text_of(payload, "id", where)),
        channel=CHANNEL,
        account=account_id,
        conversation_key=conversation_key(CHANNEL, account_id, customer),
        direction="outbound" if outbound else "inbound",
        kind=kind,
        text=text,
        attachments=attachments,
        content=content or None,
        reply_to_key=message_key(CHANNEL, account_id, replied_to) if replied_to else None,
        origin=origin,
        origin_detail=_origin_detail(mention, replied_story),
        flags=[] if outbound else list(flags),
        sent_at=moment_of_graph(payload.get("created_time"), "created_time", where),
        received_at=received_at,
        author_kind="agent" if outbound else "customer",
        author_name=username,
        handles=[handle_of(account_id, customer)],
        profile=Profile(username=username) if username else None,
        seen_by="poll",
        raw_ref=raw_ref,
    )


def _origin_detail(mention: Mapping[str, Any] | None, replied: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if mention:
        return {"type": "story_mention", **chosen(mention, ("id", "link"))}
    return {"story": chosen(replied, ("id", "link"))} if replied else None
