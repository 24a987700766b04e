"""Telegram's names as tables, in the vendor's order, so that they can be ticked off against the vendor's page.

Source: core.telegram.org/bots/api#message, #update (Bot API 10.1 of 2026-06-11), documented, read 2026-11. What a field
becomes here is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mappings.records import MessageKind

FILES: Mapping[str, Literal["image", "video", "audio", "file", "sticker"]] = {
    "animation": "video",
    "audio": "audio",
    "document": "file",
    "live_photo": "video",
    "photo": "image",
    "sticker": "sticker",
    "video": "video",
    "video_note": "video",
    "voice": "audio",
}
"""Fields of a message that hold one file. An animation also comes as ``document``, a live photo also as ``photo``: the
first of this table that is there counts."""

CONTENTS: Mapping[str, MessageKind] = {
    "text": "text",
    "rich_message": "text",
    **FILES,
    "paid_media": "unsupported",
    "story": "unsupported",
    "checklist": "form",
    "contact": "contacts",
    "dice": "text",
    "game": "unsupported",
    "poll": "form",
    "venue": "location",
    "location": "location",
    "invoice": "order",
    "successful_payment": "order",
    "refunded_payment": "order",
    "web_app_data": "form",
}
"""Fields of a message that say what it is, and its kind. A venue also comes as ``location``. Paid media is of the kind
of its files where they can be had."""

SERVICE = (
    "new_chat_members", "left_chat_member", "chat_owner_left", "chat_owner_changed", "new_chat_title",
    "new_chat_photo", "delete_chat_photo", "group_chat_created", "supergroup_chat_created", "channel_chat_created",
    "message_auto_delete_timer_changed", "migrate_to_chat_id", "migrate_from_chat_id", "pinned_message", "users_shared",
    "chat_shared", "gift", "unique_gift", "gift_upgrade_sent", "connected_website", "write_access_allowed",
    "passport_data", "proximity_alert_triggered", "boost_added", "chat_background_set", "checklist_tasks_done",
    "checklist_tasks_added", "direct_message_price_changed", "forum_topic_created", "forum_topic_edited",
    "forum_topic_closed", "forum_topic_reopened", "general_forum_topic_hidden", "general_forum_topic_unhidden",
    "giveaway_created", "giveaway", "giveaway_winners", "giveaway_completed", "managed_bot_created",
    "paid_message_price_changed", "poll_option_added", "poll_option_deleted", "suggested_post_approved",
    "suggested_post_approval_failed", "suggested_post_declined", "suggested_post_paid", "suggested_post_refunded",
    "video_chat_scheduled", "video_chat_started", "video_chat_ended", "video_chat_participants_invited",
)  # fmt: skip
"""Fields that make a message one of the system: nobody wrote it."""

KEPT: Mapping[str, tuple[str, ...]] = {
    "invoice": ("title", "description", "start_parameter", "currency", "total_amount"),
    "successful_payment": (
        "currency", "total_amount", "invoice_payload", "is_recurring", "shipping_option_id", "order_info",
        "telegram_payment_charge_id", "provider_payment_charge_id",
    ),
    "refunded_payment": ("currency", "total_amount", "invoice_payload", "telegram_payment_charge_id"),
    "web_app_data": ("data", "button_text"),
    "users_shared": ("request_id", "users"),
    "chat_shared": ("request_id", "chat_id", "title", "username"),
    "write_access_allowed": ("from_request", "web_app_name", "from_attachment_menu"),
    "forum_topic_created": ("name",),
    "forum_topic_edited": ("name",),
    "game": ("title",),
    "story": ("id",),
}  # fmt: skip
"""What of such a part is kept in ``content``; of parts that are not named here only their name (passport data!)."""

AROUND = frozenset(
    "message_id message_thread_id direct_messages_topic from sender_chat sender_boost_count sender_business_bot "
    "sender_tag date guest_query_id business_connection_id chat forward_origin is_topic_message is_automatic_forward "
    "reply_to_message external_reply quote reply_to_story reply_to_checklist_task_id reply_to_poll_option_id via_bot "
    "guest_bot_caller_user guest_bot_caller_chat edit_date has_protected_content is_from_offline is_paid_post "
    "media_group_id author_signature paid_star_count entities link_preview_options suggested_post_info effect_id "
    "caption caption_entities show_caption_above_media has_media_spoiler reply_markup".split()
)
"""Fields that stand around what a message says. One that is in no table here is content that is not known yet."""

IGNORED = frozenset({
    "business_connection",
    "message_reaction_count",
    "inline_query",
    "chosen_inline_result",
    "shipping_query",
    "pre_checkout_query",
    "purchased_paid_media",
    "poll",
    "chat_member",
    "chat_join_request",
    "chat_boost",
    "removed_chat_boost",
    "managed_bot",
})  # fmt: skip
"""Updates without a record: no customer speaks to us in them. They are counted."""
