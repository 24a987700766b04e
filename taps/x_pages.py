"""The pages of events and posts that X's API gives: what to ask for, and the items in an answer.

Source: see `taps.x_api`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mappings.errors import MissingFieldError
from mappings.fields import objects_of, optional_object_of
from mappings.from_x import POLLED
from mappings.from_x.times import moment_of_event
from taps.webhooks import x
from taps.webhooks.items import Item
from taps.webhooks.meta import key_of_content

EVENT_FIELDS = {
    "dm_event__fields": "attachments,created_at,dm_conversation_id,entities,event_type,id,text",
    "user__fields": "name,profile_image_url,username",
    "media__fields": "media_key,type,url,variants",
}
POST_NAMES = {
    False: {"expansions": "sender_id,participant_ids,attachments.media_keys,referenced_posts", "post__fields": "text"},
    True: {
        "expansions": "sender_id,participant_ids,attachments.media_keys,referenced_tweets.id",
        "tweet__fields": "text",
    },
}
"""Whether posts are still called tweets -> how to ask; documents and pages of X differ, so both are tried."""
MENTION_FIELDS = {
    "post__fields": "attachments,conversation_id,created_at,entities,id,note_post,text",
    "expansions": "author_id,attachments.media_keys,referenced_posts",
    "user__fields": EVENT_FIELDS["user__fields"],
    "media__fields": EVENT_FIELDS["media__fields"],
}


def items_of_answer(
    answer: Mapping[str, Any], account: str, *, kind: str = POLLED
) -> list[tuple[Item, datetime | None]]:
    """The events (or posts) of a page, each with the objects that it names and when it happened.

    Each has the key that a webhook would give it. `answer`: ``{"data": [...], "includes": {...}, "meta": {...}}``.
    """
    where = "X events"
    includes = optional_object_of(answer, "includes", where) or {}
    found: list[tuple[Item, datetime | None]] = []
    for index, event in enumerate(objects_of(answer, "data", where)):
        try:
            moment: datetime | None = moment_of_event(event, where)
        except MissingFieldError:
            moment = None
        key = (x.post_key if kind == x.MENTION else x.dm_key)(event.get("id"))
        payload = {"account": account, "event": event, "includes": _named(event, includes)}
        found.append((Item(index, kind, payload, key or key_of_content(kind, event)), moment))
    return found


def _named(event: Mapping[str, Any], includes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the objects beside a page that one of its events names."""
    told = str(event)
    return {
        name: [one for one in rows if isinstance(one, dict) and repr(one.get("media_key") or one.get("id")) in told]
        for name, rows in includes.items()
        if isinstance(rows, list)
    }
