"""Instagram webhooks, and messages of the Conversations API, as canonical records.

Shapes: developers.facebook.com/docs/instagram-platform/webhooks/examples (2025-11-24) and .../self-messaging
(2026-03-15), documented. Quirks seen in public code that serves real traffic are marked observed where they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mappings.errors import UnknownShapeError
from mappings.fields import (
    PlatformEvent,
    chosen,
    optional_object_of,
    optional_text_of,
    text_of,
)
from mappings.from_instagram.codes import IGNORED, REACTIONS
from mappings.from_instagram.comments import message_of_comment, message_of_mention
from mappings.from_instagram.content import Said, said_in
from mappings.from_instagram.event import CHANNEL, Event, InstagramContext
from mappings.from_instagram.poll import message_from_instagram_poll
from mappings.from_instagram.profiles import profile_from_instagram
from mappings.meta_event import (
    records_of_echo,
    records_of_edit,
    records_of_optin,
    records_of_postback,
    records_of_reaction,
    records_of_referral,
)
from mappings.meta_graph import DASHBOARD_TEST_ID, given_contact
from mappings.platforms import Platform
from mappings.records import MessageKind, Receipt, Record

__all__ = [
    "PLATFORM",
    "InstagramContext",
    "message_from_instagram_poll",
    "profile_from_instagram",
    "records_from_instagram",
]


def records_from_instagram(item: PlatformEvent, context: InstagramContext) -> list[Record]:
    """The records of one event; none for `IGNORED` kinds and for the dashboard's test form.

    `item` is what `taps.webhooks.instagram.split` gives, e.g. kind ``message`` with payload::

        {"account_id": "17841405822304914", "standby": False, "entry_time": 1750000000000, "field": None,
         "event": {"sender": {"id": "8901234567890123"}, "recipient": {"id": "17841405822304914"},
                   "timestamp": 1750000000000, "message": {"mid": "aWdf...", "text": "Hello"}}}

    Raises:
        UnknownShapeError: no rule for this kind of event.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    rule = _RULES.get(item.kind)
    public = _PUBLIC.get(item.kind)
    is_test = item.payload.get("account_id") == DASHBOARD_TEST_ID or (
        rule is not None and item.payload.get("field") is not None
    )
    if item.kind in IGNORED or ((rule or public) and is_test):
        return []
    if public is not None:
        return [public(item, context)]
    if rule is None:
        msg = f"Instagram: no rule for an event of kind {item.kind}"
        raise UnknownShapeError(msg)
    return rule(Event(item, context))


# -- Messages --------------------------------------------------------------------------------------------------------


def _message(event: Event) -> list[Record]:
    """``message``: what a customer wrote; what the account wrote, should an echo come without its flag."""
    if event.is_own():
        return _echo(event)
    part, where = event.part, event.where
    text = optional_text_of(part, "text", where)
    said = said_in(part, where)
    quick = optional_object_of(part, "quick_reply", where)
    replied = optional_object_of(part, "reply_to", where) or {}
    story = optional_object_of(replied, "story", where)
    content, payload = said.content, None
    kind: MessageKind = _kind(said, text)
    if quick is not None:
        payload = optional_text_of(quick, "payload", where)
        kind, content = "answer", {**content, "answer": "quick_reply", **chosen(quick, ("payload",))}
    message = event.message(
        text_of(part, "mid", where),
        kind,
        "inbound",
        author_kind="customer",
        referral=optional_object_of(part, "referral", where),
        origin="mention" if said.story_mention is not None else "direct",
        origin_detail=said.story_mention or ({"story": chosen(story, ("id", "url"))} if story else None),
        content=content,
        text=text,
        attachments=said.attachments,
        reply_to_key=event.replied_to(),
    )
    records: list[Record] = [message]
    if quick is not None:
        decision, source = event.context.keywords.decision_of_menu(text, payload), "template_answer"
        given = given_contact(text, payload)
        if given is not None:
            handles = [event.customer(), given]
            records.append(event.evidence("quick_reply_contact", "claimed", handles, message.message_key))
    else:
        decision = event.context.keywords.decision_of_text(text if not said.attachments else None)
        source = "keyword"
    return [*records, *([event.consent(decision, source, message.message_key)] if decision else [])]


def _echo(event: Event) -> list[Record]:
    """``message`` with ``is_echo``: what the account sent: we, another app, or a person in the Instagram app."""
    said = said_in(event.part, event.where)
    return records_of_echo(event, said.kind, said.attachments, said.content)


def _kind(said: Said, text: str | None) -> MessageKind:
    return said.kind or ("text" if text else "unsupported")


# -- Changes and receipts --------------------------------------------------------------------------------------------


def _deleted(event: Event) -> list[Record]:
    """``message`` with ``is_deleted``: its author took it back; nothing of it may be shown any more."""
    return [event.change("unsend", repeat="1")]


def _read(event: Event) -> list[Record]:
    """``read``: one message of the account, by its id; there is no watermark."""
    customer = event.customer()
    receipt = Receipt(
        subject_key=event.message_key(text_of(event.part, "mid", event.where)),
        subject_kind="message",
        status="read",
        channel=CHANNEL,
        account=event.account,
        conversation_key=event.conversation_key(customer),
        occurred_at=event.moment(),
        raw_ref=event.context.raw_ref,
    )
    return [receipt]


_RULES: Mapping[str, Callable[[Event], list[Record]]] = {
    "message": _message,
    "message_echo": _echo,
    "message_deleted": _deleted,
    "message_edit": records_of_edit,
    "read": _read,
    "reaction": lambda event: records_of_reaction(event, REACTIONS),
    "postback": records_of_postback,
    "referral": records_of_referral,
    "optin": records_of_optin,
}

_PUBLIC: Mapping[str, Callable[[PlatformEvent, InstagramContext], Record]] = {
    "comment": message_of_comment,
    "mention": message_of_mention,
}


PLATFORM = Platform(
    slug="instagram",
    name="Instagram",
    tap="taps.instagram:TapInstagram",
    mapping="mappings.from_instagram",
    webhook="taps.webhooks.instagram",
    sandbox="sandbox.instagram:InstagramApp",
    reads="messages, echoes, edits, unsent, reactions, reads, story replies, comments, mentions; gaps by polling",
    sends="",
)
