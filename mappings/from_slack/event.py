"""One Slack event with what stands around it, and what every mapping of one needs: sides, keys, times.

Shapes: docs.slack.dev/apis/events-api (the envelope), docs.slack.dev/apis/slack-connect (``team`` of external people,
``is_ext_shared_channel``, ``context_team_id``), read 2026-11, documented. That ``user_team`` and ``source_team`` name
the writer's own workspace: github.com/slackapi/slack-api-specs @bc08db4, documented.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from mappings.errors import MissingFieldError
from mappings.fields import PlatformEvent, object_of, optional_object_of, optional_text_of, reply_token_of, text_of
from mappings.ids import conversation_key, evidence_key, message_key
from mappings.keywords import DEFAULT_KEYWORDS, Decision, Keywords
from mappings.records import AuthorKind, Consent, Evidence, Handle, Strength

CHANNEL = "slack"
SLACKBOT = "USLACKBOT"

_TS = re.compile(r"([0-9]{1,12})\.([0-9]{1,6})")


class Move(NamedTuple):
    """A channel that got another id when it was shared: its id before, and the ``ts`` of the change."""

    old: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackContext:
    """What a mapping must be told.

    Attributes:
        received_at: when the delivery came.
        raw_ref: where its bytes are, e.g. ``delivery:17#0``.
        team_ids: our workspaces and organisations: whoever belongs to another is a customer. Empty: the workspace
            that the event came through.
        agents: our people by user id; when given, everybody else is a customer, in our own workspace too.
        channels: the customer channels; empty: all that are shared with another organisation.
        trusted_teams: workspaces whose administrators we believe about their people's e-mail addresses; ``*``: all.
        bot_ids: our own bots (``B...`` and ``U...``).
        speakers: who of the customers spoke last, by channel, and by ``channel/thread``.
        teams: user id -> workspace, for people of whom an event says nothing but the id.
        moved: new channel id -> what it was before.
    """

    received_at: datetime
    raw_ref: str
    team_ids: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    trusted_teams: frozenset[str] = frozenset()
    bot_ids: frozenset[str] = frozenset()
    speakers: Mapping[str, str] = field(default_factory=dict)
    teams: Mapping[str, str] = field(default_factory=dict)
    moved: Mapping[str, Move] = field(default_factory=dict)
    keywords: Keywords = DEFAULT_KEYWORDS
    seen_by: Literal["webhook", "poll"] = "webhook"


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote, and on which side: `inbound` is the customer's. `user` is set for people and for bots with a user."""

    kind: AuthorKind
    inbound: bool
    user: str | None = None
    team: str | None = None


def account_of_envelope(envelope: Mapping[str, Any]) -> Any:
    """The workspace that our app is installed in, for which the event came; as the payload has it.

    In a channel shared with others, ``team_id`` may be the workspace of somebody else.
    """
    installations = envelope.get("authorizations")
    if isinstance(installations, list):
        for one in installations[:1]:
            if isinstance(one, dict) and isinstance(one.get("team_id"), str) and one["team_id"]:
                return one["team_id"]
    return envelope.get("context_team_id") or envelope.get("team_id")


def ts_parts(ts: Any) -> tuple[int, int] | None:
    """Seconds and microseconds of a ``ts``, to compare by; ``None`` when it is none. It is never made a float."""
    match = _TS.fullmatch(ts) if isinstance(ts, str) else None
    return None if match is None else (int(match.group(1)), int(match.group(2).ljust(6, "0")))


def moment_of_ts(ts: Any, name: str, where: str) -> datetime:
    """The time that a ``ts`` holds, to the microsecond; raises `MissingFieldError` when it is none."""
    parts = ts_parts(ts)
    if parts is None or not 0 < parts[0] <= 253_402_300_799:
        msg = f"{where}: {name} is not a Slack timestamp"
        raise MissingFieldError(msg)
    return datetime.fromtimestamp(parts[0], UTC).replace(microsecond=parts[1])


def channel_at(channel: str, ts: str, moved: Mapping[str, Move]) -> str:
    """The id that `channel` had at `ts`: a message keeps its key when its channel gets another id."""
    for _ in range(10):
        move, parts = moved.get(channel), ts_parts(ts)
        at = ts_parts(move.at) if move else None
        if move is None or parts is None or at is None or parts >= at:
            return channel
        channel = move.old
    return channel


def team_of(body: Mapping[str, Any]) -> str | None:
    """The workspace of a message's writer, from the most particular field that says it."""
    for part, name in (
        (body, "user_team"),
        (body.get("user_profile"), "team"),
        (body.get("bot_profile"), "team_id"),
        (body, "source_team"),
        (body, "team"),
    ):
        value = part.get(name) if isinstance(part, Mapping) else None
        if isinstance(value, str) and value:
            return value
    return None


class Event:
    """One event with what stands around it."""

    def __init__(self, item: PlatformEvent, context: SlackContext) -> None:
        self.context = context
        self.where = f"Slack {item.kind}"
        self.envelope = object_of(item.payload, "envelope", self.where)
        self.body = object_of(item.payload, "event", self.where)
        self._addressee = optional_text_of(item.payload, "addressee", self.where)
        self.account = text_of({"team": account_of_envelope(self.envelope)}, "team", self.where)

    @property
    def own_teams(self) -> frozenset[str]:
        """Our workspaces."""
        return self.context.team_ids or frozenset({self.account})

    def user(self, value: str) -> Handle:
        """A user id as a handle; ids are unique as seen through one workspace."""
        return Handle(kind="slack_user", scope=self.account, value=value)

    def author(self, body: Mapping[str, Any]) -> Author:
        """Who wrote `body`, a message.

        Raises:
            MissingFieldError: it names nobody, or nothing tells a customer from one of us.
        """
        where = self.where
        user, bot_id, app_id = (optional_text_of(body, name, where) for name in ("user", "bot_id", "app_id"))
        if user == SLACKBOT:
            return Author("system", inbound=False)
        if self._is_our_bot(user, bot_id, app_id):
            return Author("bot", inbound=False, user=user)
        if user is None and bot_id is None:
            msg = f"{where}: it names no writer"
            raise MissingFieldError(msg)
        inbound = self.is_customer(user or "", team_of(body))
        if inbound is None:
            msg = f"{where}: nothing tells whether the writer is a customer or one of us"
            raise MissingFieldError(msg)
        if bot_id is not None:
            return Author("bot", inbound, user or bot_id, team_of(body))
        return Author("customer" if inbound else "agent", inbound, user, team_of(body))

    def is_customer(self, user: str, team: str | None = None) -> bool | None:
        """Whether that person is a customer; ``None`` when nothing tells.

        In a channel that is not shared, everybody belongs to the workspace.
        """
        if self.context.agents:
            return user not in self.context.agents
        team = team or self.context.teams.get(user)
        if team is None:
            return False if self.envelope.get("is_ext_shared_channel") is False else None
        return team not in self.own_teams

    def _is_our_bot(self, user: str | None, bot_id: str | None, app_id: str | None) -> bool:
        ours = set(self.context.bot_ids)
        installations = self.envelope.get("authorizations")
        for one in installations if isinstance(installations, list) else ():
            if isinstance(one, dict) and one.get("is_bot") is True and isinstance(one.get("user_id"), str):
                ours.add(one["user_id"])
        return (app_id is not None and app_id == self.envelope.get("api_app_id")) or user in ours or bot_id in ours

    def is_with_customers(self, channel: str, *, inbound: bool, ours_by_token: bool = False) -> bool:
        """Whether what happens in `channel` is a conversation with customers.

        Named channels, or all that are shared with another organisation; and direct messages of customers always.
        """
        direct = channel.startswith("D") or self.body.get("channel_type") == "im"
        if self.context.channels and not direct:
            known, move = {channel}, self.context.moved.get(channel)
            while move is not None and move.old not in known:
                known.add(move.old)
                move = self.context.moved.get(move.old)
            return bool(known & self.context.channels)
        shared = self.envelope.get("is_ext_shared_channel") is True and not direct
        return shared or inbound or ours_by_token or channel in self.context.speakers

    def addressee(self, channel: str, thread: str | None) -> str | None:
        """Whom one of us writes to: the customer who spoke last in the thread, else in the channel.

        Who reads the history knows better than who spoke last of all, and says so in the payload.
        """
        if self._addressee is not None:
            return self._addressee
        speakers = self.context.speakers
        return (speakers.get(f"{channel}/{thread}") if thread else None) or speakers.get(channel)

    def message_key(self, channel: str, ts: str) -> str:
        """The key of a message; a ``ts`` is unique in its channel only."""
        return message_key(CHANNEL, self.account, ts, channel_at(channel, ts, self.context.moved))

    def conversation_key(self, channel: str, customer: str | None) -> str:
        """The key of the thread of one customer in one channel; of the channel while nobody knows the customer."""
        return conversation_key(CHANNEL, self.account, f"{channel}/{customer}" if customer else channel)

    def token(self, body: Mapping[str, Any]) -> str | None:
        """Our reply's token in a message's metadata."""
        metadata = optional_object_of(body, "metadata", self.where) or {}
        payload = metadata.get("event_payload")
        return reply_token_of(payload.get("outbox_id")) if isinstance(payload, dict) else None

    def evidence(self, method: str, strength: Strength, handles: list[Handle], **more: Any) -> Evidence:
        """Handles seen together."""
        told = "|".join(handle.key for handle in handles)
        return Evidence(
            evidence_key=evidence_key(CHANNEL, self.account, method, told),
            method=method,
            strength=strength,
            channel=CHANNEL,
            account=self.account,
            handles=handles,
            raw_ref=self.context.raw_ref,
            **more,
        )

    def consent(self, decision: Decision, handle: Handle, told_in: str, decided_at: datetime) -> Consent:
        """The customer's decision about advertising."""
        return Consent(
            handle_key=handle.key,
            handle=handle,
            channel=CHANNEL,
            account=self.account,
            purpose="promotional",
            status=decision,
            source="keyword",
            source_message_key=told_in,
            decided_at=decided_at,
            raw_ref=self.context.raw_ref,
        )
