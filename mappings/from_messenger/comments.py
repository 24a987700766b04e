"""Comments on the page's posts (webhook field ``feed``) as canonical records.

A comment is a message with `origin` ``comment``. It stands apart from the chat: one comment is one thread (key
``comment:<comment id>``), joined by what the page answers under it. A comment opens no chat, so it must not open the
chat's window either; and what Meta lets a page send for it, one private reply, is addressed by the comment's id.

Shapes: developers.facebook.com/docs/graph-api/webhooks/reference/page (field ``feed``, read 2026-11), documented as a
list of fields; the values of ``verb``, and ``sender_id`` in place of ``from`` in older payloads, are observed in public
handlers of this field. That ``from.id`` is the person's page-scoped id, the
same as in the chat, is assumed: were it another one, it would link nobody.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mappings.contact_points import clean_name
from mappings.errors import UnknownShapeError
from mappings.fields import (
    PlatformEvent,
    chosen,
    id_of,
    moment_of,
    object_of,
    optional_object_of,
    optional_text_of,
    text_of,
)
from mappings.from_messenger.event import CHANNEL, MessengerContext
from mappings.ids import change_key, conversation_key, message_key
from mappings.meta_graph import DASHBOARD_TEST_ID
from mappings.records import Attachment, Handle, Message, MessageChange, MessageKind, Profile, Record

_DETAIL = ("comment_id", "post_id", "parent_id", "post")
_EDITED = ("edited", "edit")
_REMOVED = ("remove", "delete")
_MODERATED = ("hide", "unhide", "block", "unblock", "mute")
"""What the page's staff did with a comment; no record."""


def records_of_comment(item: PlatformEvent, context: MessengerContext) -> list[Record]:
    """The records of one comment event; none for moderation and for the dashboard's test form.

    The event of `item`::

        {"item": "comment", "verb": "add", "comment_id": "1001_2001", "post_id": "1088_1001", "parent_id": "1088_1001",
         "from": {"id": "6890123456789012", "name": "Ada Example"}, "created_time": 1772366400, "message": "How much?"}

    Raises:
        UnknownShapeError: a verb that is not known.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    where = "Messenger comment"
    page_id = id_of(item.payload, "page_id", where)
    event = object_of(item.payload, "event", where)
    verb = text_of(event, "verb", where)
    if page_id == DASHBOARD_TEST_ID or verb in _MODERATED:
        return []
    if verb == "add":
        return [_comment(item, event, page_id, context)]
    if verb not in _EDITED + _REMOVED:
        msg = f"{where}: verb {verb[:20]!r} is not known"
        raise UnknownShapeError(msg)
    comment_id = id_of(event, "comment_id", where)
    subject = message_key(CHANNEL, page_id, comment_id)
    author = _author(event, where)
    moment = _moment(item, event, "edited_time" if verb in _EDITED else None, where)
    return [
        MessageChange(
            change_key=change_key(
                subject, "edit" if verb in _EDITED else "unsend",
                str(int(moment.timestamp())) if verb in _EDITED else "1",
            ),
            message_key=subject,
            channel=CHANNEL,
            account=page_id,
            conversation_key=_conversation(event, page_id, comment_id, author, where),
            change="edit" if verb in _EDITED else "unsend",
            text=optional_text_of(event, "message", where) if verb in _EDITED else None,
            author_kind="agent" if author == page_id else "customer",
            changed_at=moment,
            handles=_handles(author, page_id),
            raw_ref=context.raw_ref,
        )
    ]  # fmt: skip


def _comment(item: PlatformEvent, event: dict[str, Any], page_id: str, context: MessengerContext) -> Message:
    where = "Messenger comment"
    comment_id = id_of(event, "comment_id", where)
    author = _author(event, where)
    ours = author == page_id
    sender = optional_object_of(event, "from", where) or {}
    name = clean_name(optional_text_of(sender, "name", where) or optional_text_of(event, "sender_name", where))
    text = optional_text_of(event, "message", where)
    photo, video = optional_text_of(event, "photo", where), optional_text_of(event, "video", where)
    attachments = [
        *([Attachment(kind="image", url=photo)] if photo else []),
        *([Attachment(kind="video", url=video)] if video else []),
    ]
    kind: MessageKind = "text" if text else attachments[0].kind if attachments else "unsupported"
    parent = _answered(event, where)
    return Message(
        message_key=message_key(CHANNEL, page_id, comment_id),
        channel=CHANNEL,
        account=page_id,
        conversation_key=_conversation(event, page_id, comment_id, author, where),
        direction="outbound" if ours else "inbound",
        kind=kind,
        text=text,
        attachments=attachments,
        content={"unsupported": ["comment"]} if kind == "unsupported" else None,
        reply_to_key=message_key(CHANNEL, page_id, parent) if parent else None,
        origin="comment",
        origin_detail=chosen(event, _DETAIL),
        sent_at=_moment(item, event, None, where),
        received_at=context.received_at,
        author_kind="agent" if ours else "customer",
        author_name=name,
        handles=_handles(author, page_id),
        profile=Profile(name=name) if name and not ours else None,
        raw_ref=context.raw_ref,
    )


def _author(event: dict[str, Any], where: str) -> str | None:
    """Who did it; ``None`` where the platform does not say (no permission for it, or an anonymous person)."""
    sender = optional_object_of(event, "from", where)
    if sender is not None and sender.get("id") is not None:
        return id_of(sender, "id", where)
    return id_of(event, "sender_id", where) if event.get("sender_id") is not None else None


def _handles(author: str | None, page_id: str) -> list[Handle]:
    """The customer's handle; none of what the page or nobody in particular wrote."""
    return [] if author in {None, page_id} else [Handle(kind="messenger_psid", scope=page_id, value=str(author))]


def _answered(event: dict[str, Any], where: str) -> str | None:
    """The comment that this one answers; the parent of one at the top is the post."""
    parent = None if event.get("parent_id") is None else id_of(event, "parent_id", where)
    post = None if event.get("post_id") is None else id_of(event, "post_id", where)
    return None if parent == post else parent


def _conversation(event: dict[str, Any], page_id: str, comment_id: str, author: str | None, where: str) -> str:
    """A customer's comment is a thread of its own; the page's answer belongs to the thread of what it answers."""
    answered = _answered(event, where) if author == page_id else None
    return conversation_key(CHANNEL, page_id, f"comment:{answered or comment_id}")


def _moment(item: PlatformEvent, event: dict[str, Any], first: str | None, where: str) -> datetime:
    """When it happened; an edit or removal that does not say has the time of its notification."""
    if first and event.get(first) is not None:
        return moment_of(event[first], first, where)
    if event.get("verb") == "add" and event.get("created_time") is not None:
        return moment_of(event["created_time"], "created_time", where)
    return moment_of(item.payload.get("entry_time"), "entry time", where)
