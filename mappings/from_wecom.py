"""WeCom customer service, its messages, events and what it says of customers, as canonical records.

Shapes: developer.work.weixin.qq.com/document/path/94670 (messages and events) and /95159 (customers), read 2026-11,
documented. Marked observed is what only public clients of the API have: github.com/silenceper/wechat work/kf,
github.com/xen0n/go-workwx and the models of DotNetCore.SKIT.FlurlHttpClient.Wechat.Work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from mappings.contact_points import clean_name
from mappings.errors import MissingFieldError, UnknownShapeError
from mappings.fields import (
    PlatformEvent,
    chosen,
    id_of,
    moment_of,
    object_of,
    optional_object_of,
    optional_text_of,
    reply_token_of,
    storable,
    text_of,
)
from mappings.ids import change_key, conversation_key, evidence_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Keywords
from mappings.platforms import Platform
from mappings.records import (
    Actor,
    Attachment,
    AuthorKind,
    Consent,
    Direction,
    Evidence,
    Handle,
    Message,
    MessageChange,
    MessageKind,
    Profile,
    Receipt,
    Record,
)

CHANNEL = "wecom"

ORIGINS: Mapping[int, tuple[Direction, AuthorKind]] = {
    3: ("inbound", "customer"),
    4: ("outbound", "system"),
    5: ("outbound", "agent"),
}
"""``origin``: the customer, WeCom itself (events), one of the staff in WeCom's own app."""

FILES: Mapping[str, Literal["image", "audio", "video", "file"]] = {
    "image": "image",
    "voice": "audio",
    "video": "video",
    "file": "file",
}
"""``msgtype`` that is a file, which ``media_id`` names for three days."""

SHARES: Mapping[str, MessageKind] = {
    "link": "text",
    "business_card": "contacts",
    "miniprogram": "text",
    "msgmenu": "template",
    "channels_shop_product": "text",
    "channels_shop_order": "order",
    "merged_msg": "text",
    "channels": "text",
}
"""``msgtype`` that is a card of something else; what stands on it is in `content`. The last four are observed."""

FAILURES: Mapping[str, tuple[str, Actor]] = {
    "0": ("unknown", "operator"),
    "1": ("the customer service account was deleted", "operator"),
    "2": ("the application was switched off", "operator"),
    "4": ("the conversation is over: 48 hours since the customer wrote", "agent"),
    "5": ("the conversation was closed", "agent"),
    "6": ("more than five messages since the customer wrote", "agent"),
    "7": ("no Channels account is bound", "operator"),
    "8": ("the company is not verified", "operator"),
    "9": ("no Channels account is bound and the company is not verified", "operator"),
    "10": ("the customer refuses messages", "customer"),
    "11": ("no member of the company is logged in to WeCom", "operator"),
    "12": ("this type of message may not be sent", "agent"),
    "13": ("withheld for safety", "platform"),
}
"""``fail_type`` of the event ``msg_send_fail``. 11 to 13 are observed."""

IGNORED = frozenset({"servicer_status_change", "session_status_change", "reject_customer_msg_switch_change"})
"""``event_type`` without a record: who of the staff is at work and answers whom. They are counted."""

_ABOUT_THE_ACCOUNT = frozenset({"kf_account_auth_change"})
_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeComContext:
    """What a mapping must be told.

    Attributes:
        received_at: when it was read.
        raw_ref: where it came from, e.g. ``poll:17``.
        corp_id: the company's; scopes the ids of its customers.
    """

    received_at: datetime
    raw_ref: str
    corp_id: str
    keywords: Keywords = DEFAULT_KEYWORDS


def account_of_wecom(message: Mapping[str, Any]) -> Any:
    """The customer service account of a message; of an event, which has it inside."""
    event = message.get("event")
    return message.get("open_kfid") or (event.get("open_kfid") if isinstance(event, dict) else None)


def records_from_wecom(item: PlatformEvent, context: WeComContext) -> list[Record]:
    """The records of one element of ``msg_list``; none for `IGNORED` events and for what the callback says.

    `item` has the kind ``message`` and the payload::

        {"message": {"msgid": "4XYm59...", "open_kfid": "wkAJ2G...", "external_userid": "wmAJ2G...",
                     "send_time": 1750000000, "origin": 3, "msgtype": "text", "text": {"content": "Hello"}}}

    or the kind ``bell`` or ``other`` and what `taps.webhooks.wecom.split` gives.

    Raises:
        UnknownShapeError: no rule for this event, or for who sent it.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    if item.kind == "bell":
        return []
    if item.kind != "message":
        return _from_callback(object_of(item.payload, "xml", "WeCom"))
    body = object_of(item.payload, "message", "WeCom message")
    kind = text_of(body, "msgtype", "WeCom message")
    if kind != "event":
        return _message(_Entry(body, body, f"WeCom {kind[:60]}", context), kind)
    event = object_of(body, "event", "WeCom event")
    name = text_of(event, "event_type", "WeCom event")
    if name in IGNORED:
        return []
    rule = _EVENTS.get(name)
    if rule is None:
        msg = f"WeCom: no rule for event {name[:60]}"
        raise UnknownShapeError(msg)
    return rule(_Entry(body, event, f"WeCom event {name[:60]}", context))


def customer_from_wecom(
    payload: Mapping[str, Any], context: WeComContext, *, open_platform_id: str | None
) -> Evidence | None:
    """What WeCom says of one customer: the nickname, and the id that all accounts of one Open Platform share.

    It is told of the company's customer, whichever of the company's accounts they wrote to.

    Args:
        payload: an element of ``customer_list``: ``{"external_userid": "wmAJ2G...", "nickname": "Mia", "avatar":
            "http://...", "gender": 2, "unionid": "o6_bm..."}``. The union id is there when WeCom is bound to an Open
            Platform developer account.
        context: `WeComContext.received_at` is when it was asked.
        open_platform_id: scopes the union id.

    Raises:
        MissingFieldError: a field has the wrong type.
    """
    where = "WeCom customer"
    customer = Handle(
        kind="wecom_external_user", scope=context.corp_id, value=text_of(payload, "external_userid", where)
    )
    unionid = optional_text_of(payload, "unionid", where)
    profile = Profile(
        name=clean_name(optional_text_of(payload, "nickname", where)),
        picture_url=optional_text_of(payload, "avatar", where),
    )
    if unionid is None and profile == Profile():
        return None
    handles = [customer]
    if unionid is not None:
        handles.append(Handle(kind="wechat_unionid", scope=open_platform_id, value=unionid))
    return Evidence(
        evidence_key=evidence_key(CHANNEL, context.corp_id, "profile", f"{customer.value}|{unionid or ''}"),
        method="unionid" if unionid else "profile",
        strength="verified",
        channel=CHANNEL,
        account=context.corp_id,
        handles=handles,
        observed_at=context.received_at,
        profile=None if profile == Profile() else profile,
        raw_ref=context.raw_ref,
    )


class _Entry:
    """One element of ``msg_list``; `about` is where account and customer stand (in an event: inside)."""

    def __init__(self, body: Mapping[str, Any], about: Mapping[str, Any], where: str, context: WeComContext) -> None:
        self.body = body
        self.about = about
        self.where = where
        self.context = context
        self.account = text_of(about, "open_kfid", where)
        external_userid = text_of(about, "external_userid", where)
        self.customer = Handle(kind="wecom_external_user", scope=context.corp_id, value=external_userid)
        self.conversation_key = conversation_key(CHANNEL, self.account, external_userid)
        self.sent_at = moment_of(body.get("send_time"), "send_time", where)

    def key(self, msgid: str) -> str:
        """The key of a message of this account."""
        return message_key(CHANNEL, self.account, msgid)

    def message(self, kind: MessageKind, direction: Direction, author_kind: AuthorKind, **more: Any) -> Message:
        """A message with all that every kind of it shares."""
        return Message(
            message_key=self.key(text_of(self.body, "msgid", self.where)),
            channel=CHANNEL,
            account=self.account,
            conversation_key=self.conversation_key,
            direction=direction,
            kind=kind,
            flags=["clock_ahead"] if self.sent_at - self.context.received_at > _AHEAD else [],
            sent_at=self.sent_at,
            received_at=self.context.received_at,
            author_kind=author_kind,
            handles=[self.customer],
            seen_by="poll",
            raw_ref=self.context.raw_ref,
            **more,
        )


def _from_callback(xml: Mapping[str, Any]) -> list[Record]:
    """What the callback says besides ringing; another application's events are not for us."""
    name = optional_text_of(xml, "Event", "WeCom callback") or optional_text_of(xml, "MsgType", "WeCom callback")
    if name in _ABOUT_THE_ACCOUNT:
        return []
    msg = f"WeCom: no rule for {(name or 'nothing')[:60]} at the callback; is it the address of another application?"
    raise UnknownShapeError(msg)


# -- Messages --------------------------------------------------------------------------------------------------------


def _message(entry: _Entry, kind: str) -> list[Record]:
    """What a customer or one of the staff sent; a type that we do not know is kept under its name."""
    origin = entry.body.get("origin")
    sides = ORIGINS.get(origin) if isinstance(origin, int) else None
    if sides is None:
        msg = f"{entry.where}: origin {str(origin)[:20]} is not known"
        raise UnknownShapeError(msg)
    direction, author_kind = sides
    part = optional_object_of(entry.body, kind, entry.where) or {}
    found: MessageKind = "unsupported"
    content: dict[str, Any] = {}
    more: dict[str, Any] = {}
    button: str | None = None
    if kind == "text":
        found, more["text"] = "text", text_of(part, "content", entry.where)
        button = optional_text_of(part, "menu_id", entry.where)
        if button is not None:
            found, content = "answer", {"answer": "menu", "payload": button}
    elif kind in FILES:
        found = FILES[kind]
        media_id = text_of(part, "media_id", entry.where)
        more["attachments"] = [Attachment(kind=FILES[kind], platform_media_id=media_id)]
    elif kind == "location":
        found, content = "location", _place(part, entry.where)
    elif kind in SHARES:
        found, content = SHARES[kind], {kind: storable(part)}
        more["text"] = optional_text_of(part, "url", entry.where) if kind == "link" else None
    else:
        content = {"type": storable(kind[:60])}
    servicer = optional_text_of(entry.body, "servicer_userid", entry.where)
    if servicer is not None and direction == "outbound":
        content["servicer_userid"] = servicer
    message = entry.message(found, direction, author_kind, content=content or None, **more)
    records: list[Record] = [message]
    if direction == "inbound":
        records += _decision(entry, message, button)
    return records


def _place(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name, limit in (("latitude", 90), ("longitude", 180)):
        value = part.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
            msg = f"{where}: {name} is not a number between -{limit} and {limit}"
            raise MissingFieldError(msg)
    return chosen(part, ("latitude", "longitude", "name", "address"))


def _decision(entry: _Entry, message: Message, button: str | None) -> list[Record]:
    """The consent that a message states: a word alone, or a menu entry that says the same."""
    keywords = entry.context.keywords
    if message.kind == "answer":
        decision, source = keywords.decision_of_button(message.text, button), "template_answer"
    else:
        decision, source = keywords.decision_of_text(message.text if message.kind == "text" else None), "keyword"
    if decision is None:
        return []
    return [
        Consent(
            handle_key=entry.customer.key,
            handle=entry.customer,
            channel=CHANNEL,
            account=entry.account,
            purpose="promotional",
            status=decision,
            source=source,
            source_message_key=message.message_key,
            decided_at=entry.sent_at,
            raw_ref=entry.context.raw_ref,
        )
    ]


# -- Events ----------------------------------------------------------------------------------------------------------


def _enter_session(entry: _Entry) -> list[Record]:
    """The customer opened the chat, perhaps by a link of ours with a scene: they have asked nothing yet."""
    channels = optional_object_of(entry.about, "wechat_channels", entry.where)
    detail = {name: value for name, value in chosen(entry.about, ("scene", "scene_param")).items() if value != ""}
    if channels:
        detail["wechat_channels"] = storable(channels)
    content = {"event": "enter_session"}
    return [entry.message("referral", "inbound", "system", content=content, origin_detail=detail or None)]


def _send_failed(entry: _Entry) -> list[Record]:
    """A message that we sent did not arrive. Its id is ours where we gave it one."""
    msgid = text_of(entry.about, "fail_msgid", entry.where)
    code = id_of(entry.about, "fail_type", entry.where)
    reason, actor = FAILURES.get(code, FAILURES["0"])
    return [
        Receipt(
            subject_key=entry.key(msgid),
            subject_kind="message",
            status="failed",
            channel=CHANNEL,
            account=entry.account,
            conversation_key=entry.conversation_key,
            occurred_at=entry.sent_at,
            reply_token=reply_token_of(msgid),
            code=code,
            reason=reason,
            actor=actor,
            raw_ref=entry.context.raw_ref,
        )
    ]


def _recalled_by_customer(entry: _Entry) -> list[Record]:
    return _recalled(entry, "customer")


def _recalled_by_agent(entry: _Entry) -> list[Record]:
    return _recalled(entry, "agent")


def _recalled(entry: _Entry, author_kind: AuthorKind) -> list[Record]:
    """A message was taken back. The event comes again and again under its own id (observed)."""
    subject = entry.key(text_of(entry.about, "recall_msgid", entry.where))
    return [
        MessageChange(
            change_key=change_key(subject, "unsend", author_kind),
            message_key=subject,
            channel=CHANNEL,
            account=entry.account,
            conversation_key=entry.conversation_key,
            change="unsend",
            author_kind=author_kind,
            changed_at=entry.sent_at,
            handles=[entry.customer],
            raw_ref=entry.context.raw_ref,
        )
    ]


_EVENTS: Mapping[str, Callable[[_Entry], list[Record]]] = {
    "enter_session": _enter_session,
    "msg_send_fail": _send_failed,
    "user_recall_msg": _recalled_by_customer,
    "servicer_recall_msg": _recalled_by_agent,
}
"""``event_type``. That messages can be taken back is observed: SKIT.FlurlHttpClient's models, a captured event."""


PLATFORM = Platform(
    slug="wecom",
    name="WeCom customer service",
    tap="taps.wecom:TapWeCom",
    mapping="mappings.from_wecom",
    webhook="taps.webhooks.wecom",
    sandbox="sandbox.wecom:WeComApp",
    reads="messages of customers and staff, recalls, failed sends, session starts; three days back; union ids",
    sends="",
)
