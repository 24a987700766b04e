"""WeChat Official Account messages and events, and what the user API says of their sender, as canonical records.

Shapes: developers.weixin.qq.com/doc/service/guide/product/message/ (receiving messages, receiving events, template
messages) and .../doc/service/api/usermanage/userinfo/api_userinfo.html, read 2026-11, documented; what only the models
of wechatpy 2.0.0a26 or public handlers show is marked observed.
"""

from __future__ import annotations

import math
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
    storable,
    text_of,
)
from mappings.ids import conversation_key, evidence_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Decision, Keywords
from mappings.platforms import Platform
from mappings.records import (
    Actor,
    Attachment,
    AuthorKind,
    Consent,
    Evidence,
    Handle,
    Message,
    MessageKind,
    Profile,
    Purpose,
    Receipt,
    ReceiptStatus,
    Record,
)

CHANNEL = "wechat"

FILES: Mapping[str, Literal["image", "audio", "video"]] = {
    "image": "image",
    "voice": "audio",
    "video": "video",
    "shortvideo": "video",
}
"""``MsgType`` that is a file, which ``MediaId`` names for three days."""

UNSUPPORTED_TEXTS = frozenset({
    "【收到不支持的消息类型，暂无法显示】",
    "【收到不支援的訊息類型，無法顯示】",
    "[Unsupported Message]",
    "[Unsupported message]",
})  # fmt: skip
"""The text that WeChat puts in the place of a sticker and of other things that it does not pass on (observed)."""

TEMPLATE_STATUSES: Mapping[str, tuple[ReceiptStatus, Actor, str | None]] = {
    "success": ("delivered", "nobody", None),
    "failed:user block": ("failed", "customer", "the customer refuses messages"),
    "failed:system failed": ("failed", "platform", "WeChat could not deliver it"),
}
"""``Status`` of the event TEMPLATESENDJOBFINISH, without blanks after the colon (they come with and without)."""

IGNORED = frozenset({
    "view",  # a menu button that opens a page: nothing comes with it
    "view_miniprogram",
    "location",  # where the customer is, told when they open the chat: no message, and nobody's business
    "pic_sysphoto",  # menu buttons whose photo or place comes as a message of its own
    "pic_photo_or_album",
    "pic_weixin",
    "location_select",
    "kf_create_session",  # who of the staff answers in Tencent's own tool
    "kf_close_session",
    "kf_switch_session",
    "masssendjobfinish",  # about the account and its broadcasts
    "publishjobfinish",
    "qualification_verify_success",
    "qualification_verify_fail",
    "naming_verify_success",
    "naming_verify_fail",
    "annual_renew",
    "verify_expired",
    "user_info_modified",
    "user_authorization_revoke",
    "user_authorization_cancellation",
})  # fmt: skip
"""``Event`` in lower case without a record. They are counted. The last nine are observed in wechatpy or documented for
website and Mini Program log-ins."""

_LOOKED_UP = "profile"
_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeChatContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the delivery came.
        raw_ref: where its bytes are, e.g. ``delivery:17#0``.
    """

    received_at: datetime
    raw_ref: str
    keywords: Keywords = DEFAULT_KEYWORDS


def records_from_wechat(item: PlatformEvent, context: WeChatContext) -> list[Record]:
    """The records of one message or event; none for `IGNORED` events.

    `item` is what `taps.webhooks.wechat.split` gives, e.g. kind ``message`` with payload::

        {"xml": {"ToUserName": "gh_123456789abc", "FromUserName": "oMia...", "CreateTime": "1750000000",
                 "MsgType": "text", "Content": "Hello", "MsgId": "23456789012345678"}}

    Raises:
        UnknownShapeError: no rule for this event.
        MissingFieldError: a field that is needed is absent or of the wrong type.
    """
    xml = object_of(item.payload, "xml", "WeChat")
    if item.kind == "event":
        name = text_of(xml, "Event", "WeChat event").lower()
        if name in IGNORED:
            return []
        rule = _EVENTS.get(name)
        if rule is None:
            msg = f"WeChat: no rule for event {name[:60]}"
            raise UnknownShapeError(msg)
        return rule(_Push(xml, f"WeChat event {name[:60]}", context))
    if item.kind == "message":
        return _message(_Push(xml, f"WeChat {text_of(xml, 'MsgType', 'WeChat')[:60]}", context))
    msg = "WeChat: a delivery that is neither a message nor an event"
    raise UnknownShapeError(msg)


def openid_of(message: Message) -> Handle:
    """The sender of a message that `records_from_wechat` made."""
    return message.handles[0]


def user_from_wechat(
    payload: Mapping[str, Any], sender: Handle, *, open_platform_id: str | None, observed_at: datetime, raw_ref: str
) -> Evidence | None:
    """What the user API says of a sender: the id that all accounts of one Open Platform share, the language.

    Names and pictures are no longer told since 2021-12-27 (documented); one that is there all the same is taken.

    Args:
        payload: ``{"subscribe": 1, "openid": "oMia...", "language": "zh_CN", "unionid": "o6_bm..."}``.
        sender: whom was asked for.
        open_platform_id: scopes the union id.
        observed_at: when.
        raw_ref: where the answer came from.

    Returns:
        ``None`` when it says nothing: the account is in no Open Platform, or the customer follows it no more.

    Raises:
        MissingFieldError: a field has the wrong type, or the answer is about somebody else.
    """
    where = "WeChat user"
    if text_of(payload, "openid", where) != sender.value or sender.scope is None:
        msg = f"{where}: the answer is about another user"
        raise MissingFieldError(msg)
    unionid = optional_text_of(payload, "unionid", where)
    profile = Profile(
        name=clean_name(optional_text_of(payload, "nickname", where)),
        locale=optional_text_of(payload, "language", where),
        picture_url=optional_text_of(payload, "headimgurl", where),
    )
    if unionid is None and profile == Profile():
        return None
    handles = [sender]
    if unionid is not None:
        handles.append(Handle(kind="wechat_unionid", scope=open_platform_id, value=unionid))
    return Evidence(
        evidence_key=evidence_key(CHANNEL, sender.scope, _LOOKED_UP, f"{sender.value}|{unionid or ''}"),
        method="unionid" if unionid else _LOOKED_UP,
        strength="verified",
        channel=CHANNEL,
        account=sender.scope,
        handles=handles,
        observed_at=observed_at,
        profile=None if profile == Profile() else profile,
        raw_ref=raw_ref,
    )


class _Push:
    """One delivery with what every mapping of one needs."""

    def __init__(self, xml: Mapping[str, Any], where: str, context: WeChatContext) -> None:
        self.xml = xml
        self.where = where
        self.context = context
        self.account = text_of(xml, "ToUserName", where)
        self.customer = Handle(kind="wechat_openid", scope=self.account, value=text_of(xml, "FromUserName", where))
        self.sent_at = moment_of(xml.get("CreateTime"), "CreateTime", where)

    def text(self, name: str) -> str | None:
        """An element's text, ``None`` when it is absent or empty."""
        return optional_text_of(self.xml, name, self.where)

    def own_id(self) -> str:
        """An id for an event, which has none: customer, second, event and key are the same in every repeat."""
        parts = [text_of(self.xml, "Event", self.where), str(int(self.sent_at.timestamp())), self.customer.value]
        return ".".join([*parts, *filter(None, [self.text("EventKey")])])

    def message(self, platform_id: str, kind: MessageKind, *, author_kind: AuthorKind, **more: Any) -> Message:
        """A message with all that every kind of it shares."""
        return Message(
            message_key=message_key(CHANNEL, self.account, platform_id),
            channel=CHANNEL,
            account=self.account,
            conversation_key=conversation_key(CHANNEL, self.account, self.customer.value),
            direction="inbound",
            kind=kind,
            flags=["clock_ahead"] if self.sent_at - self.context.received_at > _AHEAD else [],
            sent_at=self.sent_at,
            received_at=self.context.received_at,
            author_kind=author_kind,
            handles=[self.customer],
            raw_ref=self.context.raw_ref,
            **more,
        )

    def consent(
        self, decision: Decision, source: str, told_in: str | None, purpose: Purpose = "promotional"
    ) -> Consent:
        """The customer's decision about what may be sent to them."""
        return Consent(
            handle_key=self.customer.key,
            handle=self.customer,
            channel=CHANNEL,
            account=self.account,
            purpose=purpose,
            status=decision,
            source=source,
            source_message_key=told_in,
            decided_at=self.sent_at,
            raw_ref=self.context.raw_ref,
        )


# -- Messages --------------------------------------------------------------------------------------------------------


def _message(push: _Push) -> list[Record]:
    """What a customer sent; a type that we do not know is kept under its name."""
    xml, where = push.xml, push.where
    kind = text_of(xml, "MsgType", where)
    more: dict[str, Any] = {}
    found: MessageKind
    button = None
    if kind == "text":
        text, button = push.text("Content"), push.text("bizmsgmenuid")
        found = "unsupported" if text is None or text in UNSUPPORTED_TEXTS else "answer" if button else "text"
        more = {"text": text, "content": {"answer": "menu", "menu_id": button} if button else None}
    elif kind in FILES:
        found = FILES[kind]
        details = chosen(xml, ("Recognition", "ThumbMediaId"))
        more = {"attachments": [_attachment(push, kind)], "content": _named(details) or None}
    elif kind == "location":
        found, more = "location", {"content": _place(push)}
    elif kind == "link":
        found = "text"
        more = {"text": push.text("Url"), "content": {"link": _named(chosen(xml, ("Title", "Description", "Url")))}}
    else:
        found, more = "unsupported", {"content": {"type": storable(kind[:60])}}
    article = _named(chosen(xml, ("MsgDataId", "Idx")))  # the article under which the customer wrote
    message = push.message(
        id_of(xml, "MsgId", where),
        found,
        author_kind="customer",
        origin_detail={"article": article} if article else None,
        **more,
    )
    keywords = push.context.keywords
    if found == "answer":
        decision, source = keywords.decision_of_button(message.text), "template_answer"
    else:
        decision, source = keywords.decision_of_text(message.text if found == "text" else None), "keyword"
    return [message, *([push.consent(decision, source, message.message_key)] if decision else [])]


def _attachment(push: _Push, kind: str) -> Attachment:
    return Attachment(
        kind=FILES[kind],
        platform_media_id=text_of(push.xml, "MediaId", push.where),
        url=push.text("PicUrl"),
        mime_type=f"audio/{voice_format}" if (voice_format := push.text("Format")) else None,
    )


def _place(push: _Push) -> dict[str, Any]:
    """A location: ``Location_X`` is the latitude."""
    latitude = _degrees(push, "Location_X", 90)
    longitude = _degrees(push, "Location_Y", 180)
    return {"latitude": latitude, "longitude": longitude, **({"name": label} if (label := push.text("Label")) else {})}


def _degrees(push: _Push, name: str, limit: int) -> float:
    try:
        value = float(text_of(push.xml, name, push.where))
    except ValueError:
        value = math.nan
    if not abs(value) <= limit:
        msg = f"{push.where}: {name} is no place on earth"
        raise MissingFieldError(msg)
    return value


def _named(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not empty, with names as we write them: ``MsgDataId`` becomes ``msg_data_id``."""
    return {
        "".join(f"_{one.lower()}" if one.isupper() else one for one in name).lstrip("_"): value
        for name, value in fields.items()
        if value != ""
    }


# -- Events ----------------------------------------------------------------------------------------------------------


def _subscribe(push: _Push) -> list[Record]:
    """The customer follows the account, perhaps by a QR code: they ask nothing, and say no "yes" to advertising."""
    message = _arrival(push, "subscribe", "system")
    return [message, push.consent("opted_in", "follow", message.message_key, "service")]


def _unsubscribe(push: _Push) -> list[Record]:
    """The customer follows the account no more: WeChat refuses what is sent to them (43004)."""
    message = push.message(push.own_id(), "system", author_kind="system", content={"event": "unsubscribe"})
    purposes: tuple[Purpose, ...] = ("service", "promotional")
    return [message, *(push.consent("opted_out", "unsubscribe", message.message_key, one) for one in purposes)]


def _scan(push: _Push) -> list[Record]:
    """A follower scanned one of our QR codes."""
    return [_arrival(push, "scan", "referral")]


def _arrival(push: _Push, event: str, otherwise: MessageKind) -> Message:
    """A referral, where a QR code of ours brought the customer."""
    key = push.text("EventKey")
    code = {"scene": key.removeprefix("qrscene_"), **_named(chosen(push.xml, ("Ticket",)))} if key else None
    return push.message(
        push.own_id(),
        "referral" if code else otherwise,
        author_kind="system",
        content={"event": event},
        origin_detail={"qr": code} if code else None,
    )


def _click(push: _Push) -> list[Record]:
    """A menu button with a key was pressed."""
    key = text_of(push.xml, "EventKey", push.where)
    content = {"answer": "menu", "payload": key}
    message = push.message(push.own_id(), "answer", author_kind="customer", content=content)
    decision = push.context.keywords.decision_of_button(key)
    return [message, *([push.consent(decision, "template_answer", message.message_key)] if decision else [])]


def _scan_code(push: _Push) -> list[Record]:
    """A menu button that scans: what was read in the code comes with it."""
    info = optional_object_of(push.xml, "ScanCodeInfo", push.where) or {}
    read = _named(chosen(info, ("ScanType", "ScanResult")))
    content = {"answer": "scan", **_named(chosen(push.xml, ("EventKey",))), **read}
    return [push.message(push.own_id(), "answer", author_kind="customer", content=content)]


def _template_sent(push: _Push) -> list[Record]:
    """What became of a template message of ours; its id is in ``MsgID``, which is not ``MsgId``."""
    said = text_of(push.xml, "Status", push.where)
    status, actor, reason = TEMPLATE_STATUSES.get(said.lower().replace(": ", ":"), ("unknown", "operator", None))
    return [
        Receipt(
            subject_key=message_key(CHANNEL, push.account, id_of(push.xml, "MsgID", push.where)),
            subject_kind="message",
            status=status,
            channel=CHANNEL,
            account=push.account,
            conversation_key=conversation_key(CHANNEL, push.account, push.customer.value),
            occurred_at=push.sent_at,
            code=None if status == "delivered" else storable(said[:60]),
            reason=reason,
            actor=actor,
            raw_ref=push.context.raw_ref,
        )
    ]


_EVENTS: Mapping[str, Callable[[_Push], list[Record]]] = {
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "scan": _scan,
    "click": _click,
    "scancode_push": _scan_code,
    "scancode_waitmsg": _scan_code,
    "templatesendjobfinish": _template_sent,
}
"""``Event`` in lower case: WeChat writes some in capitals."""


PLATFORM = Platform(
    slug="wechat",
    name="WeChat",
    tap="taps.wechat:TapWeChat",
    mapping="mappings.from_wechat",
    webhook="taps.webhooks.wechat",
    sandbox="sandbox.wechat:WeChatApp",
    reads="messages, menu answers, scans, following and its end, template receipts; union ids",
    sends="",
)
