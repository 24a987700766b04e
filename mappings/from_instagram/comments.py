"""Comments on the account's posts, reels and lives, and mentions elsewhere, as canonical records.

A comment is a message with `origin` ``comment``. It stands apart from the chat: one comment is one thread (key
``comment:<comment id>``), joined by what the account answers under it. A comment opens no chat, so it must not open the
chat's window either; and what Instagram lets an account send for it, one private reply within seven days, is addressed
by the comment's id.

A mention (``mentions``) says where the account was mentioned, not by whom and not what was said: it becomes a message
without words and without a customer. A mention in a story is a chat message and has both.

Source: developers.facebook.com/docs/graph-api/webhooks/reference/instagram (read 2026-11), .../instagram-platform/
webhooks/examples (2025-11-24), .../instagram-platform/private-replies (2026-06-30); documented. None of them has the
time of the comment: the time of the notification is taken, which a second delivery of the same can have later.
"""

from __future__ import annotations

from typing import Any

from mappings.contact_points import clean_name
from mappings.errors import MissingFieldError
from mappings.fields import (
    PlatformEvent,
    chosen,
    id_of,
    moment_of,
    object_of,
    optional_object_of,
    optional_text_of,
)
from mappings.from_instagram.event import CHANNEL, InstagramContext, handle_of
from mappings.ids import conversation_key, message_key
from mappings.records import Message, Origin, Profile


def message_of_comment(item: PlatformEvent, context: InstagramContext) -> Message:
    """The message of one comment.

    The event of `item`::

        {"id": "17865799348089039", "parent_id": "17865799348089000", "text": "How much?",
         "from": {"id": "8901234567890123", "username": "ada.example"},
         "media": {"id": "17918195224117851", "media_product_type": "FEED", "ad_id": "...", "ad_title": "..."}}

    Of the account's own comments ``from.id`` is the account and ``self_ig_scoped_id`` is there.
    """
    where = "Instagram comment"
    account_id = id_of(item.payload, "account_id", where)
    event = object_of(item.payload, "event", where)
    comment_id = id_of(event, "id" if event.get("id") is not None else "comment_id", where)
    parent_id = None if event.get("parent_id") is None else id_of(event, "parent_id", where)
    author = optional_object_of(event, "from", where) or {}
    author_id = None if author.get("id") is None else id_of(author, "id", where)
    ours = author_id == account_id or author.get("self_ig_scoped_id") is not None
    media = optional_object_of(event, "media", where)
    text = optional_text_of(event, "text", where)
    username = clean_name(optional_text_of(author, "username", where))
    answered = parent_id if ours else None
    return _message(
        item, context, account_id, comment_id,
        thread=f"comment:{answered or comment_id}",
        origin="comment",
        detail={
            "comment_id": comment_id,
            **({"parent_id": parent_id} if parent_id else {}),
            **({"media": chosen(media, _MEDIA)} if media else {}),
            **({"live": True} if item.payload.get("field") == "live_comments" else {}),
        },
        direction="outbound" if ours else "inbound",
        kind="text" if text else "unsupported",
        text=text,
        content=None if text else {"unsupported": ["comment"]},
        reply_to_key=message_key(CHANNEL, account_id, parent_id) if parent_id else None,
        author_kind="agent" if ours else "customer",
        author_name=username,
        handles=[] if ours or author_id is None else [handle_of(account_id, author_id)],
        profile=Profile(username=username) if username and not ours else None,
    )  # fmt: skip


def message_of_mention(item: PlatformEvent, context: InstagramContext) -> Message:
    """The message that stands for a mention in somebody's caption or comment.

    The event of `item`: ``{"media_id": "17918195224117851", "comment_id": "17894227972186120"}``; without
    ``comment_id`` the mention is in the caption.
    """
    where = "Instagram mention"
    account_id = id_of(item.payload, "account_id", where)
    event = object_of(item.payload, "event", where)
    detail = {name: id_of(event, name, where) for name in ("comment_id", "media_id") if event.get(name) is not None}
    if not detail:
        msg = f"{where}: neither media_id nor comment_id"
        raise MissingFieldError(msg)
    mentioned_in = next(iter(detail.values()))
    return _message(
        item, context, account_id, f"mention.{mentioned_in}",
        thread=f"mention:{mentioned_in}",
        origin="mention",
        detail=detail,
        direction="inbound",
        kind="unsupported",
        content={"unsupported": ["mention"]},
        author_kind="customer",
        handles=[],
    )  # fmt: skip


_MEDIA = ("id", "media_product_type", "ad_id", "ad_title", "original_media_id")


def _message(
    item: PlatformEvent,
    context: InstagramContext,
    account_id: str,
    platform_id: str,
    *,
    thread: str,
    origin: Origin,
    detail: dict[str, Any],
    **more: Any,
) -> Message:
    told_at = item.payload.get("entry_time")
    sent_at = context.received_at if told_at is None else moment_of(told_at, "entry time", "Instagram comment")
    return Message(
        message_key=message_key(CHANNEL, account_id, platform_id),
        channel=CHANNEL,
        account=account_id,
        conversation_key=conversation_key(CHANNEL, account_id, thread),
        origin=origin,
        origin_detail=detail,
        flags=["time_of_receipt" if told_at is None else "time_of_notification"],
        sent_at=sent_at,
        received_at=context.received_at,
        raw_ref=context.raw_ref,
        **more,
    )
