"""Slack's own words: message subtypes, event types and emoji names.

Sources: docs.slack.dev/reference/events and /reference/events/message (subtypes), read 2026-11; github.com/slackapi/
slack-api-specs @bc08db4 (event types as of 2021), documented. ``huddle_thread``, ``tombstone`` and the subtypes of
canvases are observed in the type definitions of Slack's SDKs only.
"""

from __future__ import annotations

from collections.abc import Mapping

CONTENT = frozenset({"file_share", "thread_broadcast", "reply_broadcast", "me_message", "bot_message"})
"""Subtypes under which somebody says something, like a message without a subtype."""

CALLS = frozenset({"huddle_thread", "sh_room_created", "sh_room_shared"})
"""Subtypes that announce a call."""

NOTICES = frozenset(
    "assistant_app_thread bot_add bot_disable bot_enable bot_remove channel_archive channel_canvas_updated "
    "channel_convert_to_private channel_convert_to_public channel_join channel_leave channel_name "
    "channel_posting_permissions channel_purpose channel_topic channel_unarchive ekm_access_denied group_archive "
    "group_join group_leave group_name group_purpose group_topic group_unarchive joiner_notification "
    "joiner_notification_for_inviter message_replied pinned_item reminder_add slackbot_response unpinned_item".split()
)
"""Subtypes that Slack writes about the channel. Nobody says anything: they give no record and are counted."""

TOMBSTONE = "tombstone"
"""What stays of a deleted message that has replies."""

IGNORED = frozenset(
    "app_home_opened app_installed app_rate_limited app_requested app_uninstalled app_uninstalled_team "
    "assistant_thread_context_changed assistant_thread_started call_rejected channel_archive channel_created "
    "channel_deleted channel_history_changed channel_left channel_rename channel_shared channel_unarchive "
    "channel_unshared dnd_updated dnd_updated_user email_domain_changed emoji_changed entity_details_requested "
    "external_org_migration_finished external_org_migration_started file_change file_comment_added "
    "file_comment_deleted file_comment_edited file_created file_deleted file_public file_shared file_unshared "
    "function_executed grid_migration_finished grid_migration_started group_archive group_close group_deleted "
    "group_history_changed group_left group_open group_rename group_unarchive im_close im_created im_history_changed "
    "im_open invite_requested link_shared member_joined_channel member_left_channel message_metadata_deleted "
    "message_metadata_posted message_metadata_updated pin_added pin_removed resources_added resources_removed "
    "scope_denied scope_granted shared_channel_invite_accepted shared_channel_invite_approved "
    "shared_channel_invite_declined shared_channel_invite_received shared_channel_invite_requested star_added "
    "star_removed subteam_created subteam_members_changed subteam_self_added subteam_self_removed subteam_updated "
    "team_access_granted team_access_revoked team_domain_change team_join team_rename tokens_revoked "
    "url_verification user_huddle_changed user_profile_changed user_status_changed workflow_step_execute".split()
)
"""Event types in which no customer speaks: they give no record and are counted.

A file comes with the message that shares it, so ``file_shared`` would only repeat it.
"""

ALARMS: Mapping[str, str] = {
    "app_rate_limited": "Slack holds back events: more than 30,000 came in an hour; polling fetches what is missing",
    "app_uninstalled": "the app was removed from a workspace: nothing more will come from there",
    "tokens_revoked": "tokens of the app were revoked: put new ones into the settings",
}
"""Ignored events that the operator must know of."""

EMOJI: Mapping[str, str] = {
    "+1": "👍",
    "-1": "👎",
    "100": "💯",
    "angry": "😠",
    "bow": "🙇",
    "clap": "👏",
    "confused": "😕",
    "cry": "😢",
    "disappointed": "😞",
    "exclamation": "❗",
    "eyes": "👀",
    "fire": "🔥",
    "grimacing": "😬",
    "grin": "😁",
    "hand": "✋",
    "heart": "❤",
    "heart_eyes": "😍",
    "heavy_check_mark": "✔",
    "heavy_plus_sign": "➕",
    "joy": "😂",
    "laughing": "😆",
    "muscle": "💪",
    "ok_hand": "👌",
    "open_mouth": "😮",
    "point_up": "☝",
    "pray": "🙏",
    "question": "❓",
    "raised_hands": "🙌",
    "rage": "😡",
    "rocket": "🚀",
    "slightly_smiling_face": "🙂",
    "smile": "😄",
    "sob": "😭",
    "star": "⭐",
    "sweat_smile": "😅",
    "tada": "🎉",
    "thinking_face": "🤔",
    "thumbsdown": "👎",
    "thumbsup": "👍",
    "warning": "⚠",
    "wave": "👋",
    "white_check_mark": "✅",
    "wink": "😉",
    "x": "❌",
}
"""The commonest emoji names; any other, a workspace's own too, is kept as ``:name:``."""
