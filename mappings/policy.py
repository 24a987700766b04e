"""May this reply be sent now, and on which channel? Pure; facts stand here once, as tables with source and date.

Windows and lengths are the platforms'; settings can override them when a platform changes its rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from mappings.records import Actor, Handle, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelLimits:
    """What a channel allows.

    Attributes:
        window: how long after the customer's last message a free text may be sent; ``None``: no window.
        human_agent_window: longer window for a text that a person typed, where the account has that permission.
        text_limit: longest text, in `text_unit`; ``None``: no limit of the channel's own.
        templates: whether approved templates may be sent outside the window.
        can_start: whether we may write to somebody who never wrote to us.
        name: how people call the channel.
        source: where it is written down, and when it was read.
    """

    window: timedelta | None
    human_agent_window: timedelta | None = None
    text_limit: int | None = None
    text_unit: str = "characters"
    templates: bool = False
    can_start: bool = False
    name: str
    source: str


LIMITS: Mapping[str, ChannelLimits] = {
    "whatsapp": ChannelLimits(
        name="WhatsApp",
        window=timedelta(hours=24),
        text_limit=4096,
        templates=True,
        source="documented: developers.facebook.com/documentation/business-messaging/whatsapp (customer service"
        " window, text message body), read 2026-10",
    ),
    "messenger": ChannelLimits(
        name="Messenger",
        window=timedelta(hours=24),
        human_agent_window=timedelta(days=7),
        text_limit=2000,
        source="documented: developers.facebook.com/documentation/business-messaging/messenger-platform/policy and"
        " /send-messages (Human Agent tag), read 2026-09-28",
    ),
    "instagram": ChannelLimits(
        name="Instagram",
        window=timedelta(hours=24),
        human_agent_window=timedelta(days=7),
        text_limit=1000,
        text_unit="bytes",
        source="documented: developers.facebook.com/docs/instagram-platform (Send API: 1000 bytes UTF-8, 24 h, Human"
        " Agent tag), read 2026-11",
    ),
    "x": ChannelLimits(
        name="X",
        window=None,
        text_limit=10_000,
        source="documented: github.com/xdevplatform/docs (no window; the recipient must allow messages); the length is"
        " assumed, read 2026-11",
    ),
    "line": ChannelLimits(
        name="LINE",
        window=None,
        text_limit=5000,
        text_unit="UTF-16 units",
        source="documented: developers.line.biz/en/reference/messaging-api (push at any time, text 5000); the unit is"
        " assumed, read 2026-11",
    ),
    "viber": ChannelLimits(
        name="Viber",
        window=None,
        text_limit=7000,
        source="documented: developers.viber.com/docs/api/rest-bot-api (subscribers only, text 7000), read 2026-11",
    ),
    "wechat": ChannelLimits(
        name="WeChat",
        window=timedelta(hours=48),
        text_limit=2048,
        text_unit="bytes",
        source="documented: developers.weixin.qq.com, customer-service messages (48 h, 5 messages); the length is"
        " observed, read 2026-11",
    ),
    "wecom": ChannelLimits(
        name="WeCom",
        window=timedelta(hours=48),
        text_limit=2048,
        text_unit="bytes",
        source="documented: developer.work.weixin.qq.com/document/path/94677 (48 h, 5 messages); the length is assumed,"
        " read 2026-11",
    ),
    "apple": ChannelLimits(
        name="Apple Messages",
        window=None,
        source="documented: register.apple.com/resources/messages/msp-rest-api (open until the customer closes the"
        " thread), read 2026-11",
    ),
    "slack": ChannelLimits(
        name="Slack",
        window=None,
        text_limit=40_000,
        source="documented: docs.slack.dev/reference/methods/chat.postMessage (cut at 40,000), read 2026-11",
    ),
    "telegram": ChannelLimits(
        name="Telegram",
        window=None,
        text_limit=4096,
        source="documented: core.telegram.org/bots/api#sendmessage (4096 after entities), read 2026-11",
    ),
    "sms": ChannelLimits(
        name="SMS",
        window=None,
        text_limit=1600,
        can_start=True,
        source="documented: twilio.com/docs/errors/21617 (1600 characters), read 2026-11",
    ),
    "webchat": ChannelLimits(
        name="Web chat", window=None, source="documented: Chatwoot's API channel knows no window, read 2026-11"
    ),
    "email": ChannelLimits(name="E-mail", window=None, can_start=True, source="documented: RFC 5321 knows no window"),
}

UNKNOWN_LIMITS_SOURCE = "assumed: a platform of another package brings its own checks"

MAX_REPLY_AGE = timedelta(days=3)
"""A reply that waited longer is refused: the moment has passed. Assumed; a setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to reach the person: a thread they have with one of our accounts, or an address they can be written to.

    `opted_out` holds the purposes that the customer declined on this channel and account.
    """

    channel: str
    account: str
    to: Handle
    conversation_key: str | None = None
    last_inbound_at: datetime | None = None
    opted_out: frozenset[str] = frozenset()
    reply_to_key: str | None = None
    subject: str | None = None
    thread_ids: tuple[str, ...] = ()
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a reply is not sent, in words that the agent can act on, and who must act."""

    code: str
    reason: str
    actor: Actor = "agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules in force: the tables above, with what the settings override.

    Attributes:
        human_agent: the channels whose accounts have Meta's Human Agent permission.
    """

    limits: Mapping[str, ChannelLimits] = field(default_factory=lambda: LIMITS)
    human_agent: frozenset[str] = frozenset()
    max_reply_age: timedelta = MAX_REPLY_AGE

    def of(self, channel: str) -> ChannelLimits:
        """The limits of a channel."""
        found = self.limits.get(channel)
        return found or ChannelLimits(name=channel, window=None, source=UNKNOWN_LIMITS_SOURCE)


DEFAULT_POLICY = Policy()


def window_closes_at(
    channel: str, last_inbound_at: datetime | None, policy: Policy = DEFAULT_POLICY
) -> datetime | None:
    """When the channel stops taking free text after `last_inbound_at`; ``None`` where there is no window."""
    window = policy.of(channel).window
    return None if window is None or last_inbound_at is None else last_inbound_at + window


def choose_way(reply: Reply, ways: Sequence[Way], now: datetime, policy: Policy = DEFAULT_POLICY) -> Way | Refusal:
    """The way this reply takes, or why it takes none.

    With channel ``auto`` it is the open way on which the customer wrote last, then an address that can always be
    written to. A named channel is never replaced by another.
    """
    whole = _refusal_of_reply(reply, now, policy)
    if whole is not None:
        return whole
    wanted = [way for way in ways if reply.channel in {"auto", way.channel}]
    if not wanted:
        return _no_way(reply, ways, policy)
    ordered = sorted(
        wanted, key=lambda way: (way.last_inbound_at is not None, way.last_inbound_at or now), reverse=True
    )
    refusals = []
    for way in ordered:
        result = _check(reply, way, now, policy)
        if isinstance(result, Way):
            return result
        refusals.append(result)
    return refusals[0]


def _refusal_of_reply(reply: Reply, now: datetime, policy: Policy) -> Refusal | None:
    if reply.attachments:
        reason = "Replies with files cannot be sent yet, so nothing was: put a link into the text instead."
        return Refusal("attachments", reason)
    if not (reply.text and reply.text.strip()) and not reply.template:
        return Refusal("empty", "There is nothing to send: write the reply's text, then set it to QUEUED again.")
    if now - reply.written_at > policy.max_reply_age:
        days = policy.max_reply_age.days
        return Refusal(
            "too_old", f"The reply waited more than {days} days. Check that it still fits, then queue again."
        )
    return None


def _no_way(reply: Reply, ways: Sequence[Way], policy: Policy) -> Refusal:
    if reply.channel == "auto":
        return Refusal("no_channel", "This contact has no channel that can be answered: nobody with it wrote to us.")
    known = ", ".join(sorted({policy.of(way.channel).name for way in ways})) or "none"
    wanted = policy.of(reply.channel).name
    reason = f"This contact cannot be reached on {wanted}. Channels of this contact: {known}. Choose one, or auto."
    return Refusal("no_channel", reason)


def _check(reply: Reply, way: Way, now: datetime, policy: Policy) -> Way | Refusal:
    limits = policy.of(way.channel)
    if reply.purpose in way.opted_out:
        return Refusal(
            "opted_out", f"The customer declined {reply.purpose} messages on {limits.name}. Do not write to them there."
        )
    if reply.template and not limits.templates:
        return Refusal("template", f"{limits.name} has no templates: write a text, or choose WhatsApp.")
    if reply.text and not reply.template:
        too_long = _too_long(reply.text, limits)
        if too_long:
            return too_long
    if limits.window is None or reply.template:
        return way
    if way.last_inbound_at is None:
        return Refusal("window_closed", f"The customer has not written on {limits.name}: they must write first.")
    if now <= way.last_inbound_at + limits.window:
        return way
    may_tag = way.channel in policy.human_agent and reply.author_kind == "agent"
    if may_tag and limits.human_agent_window and now <= way.last_inbound_at + limits.human_agent_window:
        return replace(way, tag="HUMAN_AGENT")
    since = way.last_inbound_at.strftime("%Y-%m-%d %H:%M UTC")
    hint = "Send an approved template, or choose another channel." if limits.templates else "Choose another channel."
    hours = int(limits.window.total_seconds() // 3600)
    return Refusal(
        "window_closed",
        f"{limits.name} takes free text for {hours} h after the customer's last message ({since}). {hint}",
    )


def _too_long(text: str, limits: ChannelLimits) -> Refusal | None:
    if limits.text_limit is None:
        return None
    match limits.text_unit:
        case "bytes":
            length = len(text.encode("utf-8", "surrogatepass"))
        case "UTF-16 units":
            length = len(text.encode("utf-16-le", "surrogatepass")) // 2
        case _:
            length = len(text)
    if length <= limits.text_limit:
        return None
    return Refusal(
        "too_long",
        f"{limits.name} takes at most {limits.text_limit} {limits.text_unit}; this reply has {length}. "
        "Shorten it or split it in two.",
    )
