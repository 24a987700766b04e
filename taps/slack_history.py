"""How tap-slack walks the history: channel after channel, newest first, each thread as its parent comes by.

A channel is walked between two moments. The bookmark inside it is the oldest ``ts`` that is done (and the thread with
its cursor), so that a run may end after every single call: apps under Slack's severe limit have one call a minute.
A pass is all channels once; a run that is cut off is continued by the next with the channel it was in.

Source: docs.slack.dev/reference/methods/conversations.history (newest first; older pages by ``latest``) and
/conversations.replies (``oldest``, cursor; parent first), read 2026-11, documented.
"""

from __future__ import annotations

import calendar
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mappings.errors import MissingFieldError, RejectedError, UnavailableError
from mappings.from_slack import customer_of_slack, moment_of_ts, ts_parts
from mappings.records import Record
from stores.items import Items
from taps.base import Checkpoint
from taps.slack_api import SMALL_PAGE
from taps.webhooks.items import Item
from taps.webhooks.slack import key_of, kind_of

if TYPE_CHECKING:
    from taps.slack import TapSlack

_SETTLE = timedelta(seconds=60)
"""An event on its way is not a missed one."""
_BEGINNING = "0.000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Where in a channel a pass is.

    Attributes:
        top: everything between here and `oldest` is wanted, both excluded.
        replies_since: replies to old parents are wanted from then on.
        latest: what is newer is done.
        thread: the thread in work, by its parent; those of newer parents on the same page are done.
        cursor: the page in that thread.
        finished: that thread is done.
    """

    channel: str
    top: str
    oldest: str
    replies_since: str
    latest: str
    thread: str | None = None
    cursor: str | None = None
    finished: bool = False

    def is_past(self, parent: Mapping[str, Any]) -> bool:
        """Whether the thread of `parent` was done before this run came to its page."""
        if self.thread is None:
            return False
        return _is_newer(parent.get("ts"), self.thread) or (self.finished and parent.get("ts") == self.thread)


class Walks:
    """One pass, or the rest of one, over the channels of a workspace."""

    def __init__(self, tap: TapSlack, items: Items, account: str, number: int) -> None:
        self._tap = tap
        self._items = items
        self._account = account
        self._number = number
        self._read_to: dict[str, str] = dict(tap.cursor.get("read_to", {}))
        self._warned = False

    def all(self, conversations: Sequence[Mapping[str, Any]]) -> Iterator[Record | Checkpoint]:
        """Walk each channel that this pass has not been through yet."""
        tap = self._tap
        passed, kept = tap.cursor.get("passed"), tap.cursor.get("walk")
        for conversation in sorted(conversations, key=lambda one: str(one["id"])):
            channel = str(conversation["id"])
            if passed is not None and channel <= passed:
                continue
            walk = Walk(**kept) if kept and kept["channel"] == channel else self._begin(channel)
            try:
                yield from self._channel(conversation, walk)
            except RejectedError as error:  # the bot was removed, or the channel is gone
                tap.logger.warning("a channel cannot be read (code %s)", error.code)
            else:
                if tap.stop_requested:
                    return
                self._read_to[channel] = walk.top
            yield Checkpoint({"read_to": dict(self._read_to), "walk": None, "passed": channel})
            if tap.stop_requested:
                return
        yield Checkpoint({"poll_pass": self._number, "passed": None, "walk": None})

    def _begin(self, channel: str) -> Walk:
        """All of the history settings for the first time; then what is new, and the parents of the last days."""
        settings, now = self._tap.settings, self._tap.now()
        top = _ts(now - _SETTLE)
        read_to = next(
            (self._read_to[one] for one in self._tap.memory.former_ids(channel) if one in self._read_to), None
        )
        if read_to is None:
            oldest = _ts(now - timedelta(days=settings.history_days)) if settings.history_days else _BEGINNING
            return Walk(channel=channel, top=top, oldest=oldest, replies_since=_BEGINNING, latest=top)
        since = moment_of_ts(read_to, "read_to", "Slack bookmark") - 2 * _SETTLE
        parents_since = min(since, now - timedelta(days=settings.thread_lookback_days))
        return Walk(channel=channel, top=top, oldest=_ts(parents_since), replies_since=_ts(since), latest=top)

    def _channel(self, conversation: Mapping[str, Any], walk: Walk) -> Iterator[Record | Checkpoint]:
        newer: str | None = None
        while True:
            page, more = self._tap.api.history(
                walk.channel, oldest=walk.oldest, latest=walk.latest, limit=self._tap.settings.page_size
            )
            self._warn_of_small_pages(page, more=more)
            items = [self._item(conversation, one) for one in page]
            done, customers, newer = self._addressed(items, newer, more=more)
            yield from self._emit(done)
            for item, customer in zip(done, customers, strict=True):
                parent = item.payload["event"]
                if not walk.is_past(parent) and _has_replies_since(parent, walk.replies_since):
                    walk = yield from self._thread(conversation, walk, parent["ts"], customer)
                if self._tap.stop_requested:
                    return
            walk = replace(walk, latest=self._end_of(done, walk), thread=None, cursor=None, finished=False)
            yield Checkpoint({"walk": asdict(walk)})
            if not more or self._tap.stop_requested:
                return

    def _thread(
        self, conversation: Mapping[str, Any], walk: Walk, parent: str, customer: str | None
    ) -> Generator[Record | Checkpoint, None, Walk]:
        """The replies to one parent; returns where the walk is then."""
        if walk.thread != parent:
            walk = replace(walk, thread=parent, cursor=None, finished=False)
        while True:
            try:
                replies, cursor = self._tap.api.replies(
                    walk.channel,
                    parent,
                    oldest=walk.replies_since,
                    latest=walk.top,
                    limit=self._tap.settings.page_size,
                    cursor=walk.cursor,
                )
            except RejectedError as error:
                if error.code == "invalid_cursor" and walk.cursor is not None:  # it was kept too long
                    walk = replace(walk, cursor=None)
                    continue
                if error.code != "thread_not_found":
                    raise
                replies, cursor = [], None
            found = []
            for reply in replies:
                if _is_newer(reply.get("ts"), walk.oldest) and reply.get("subtype") == "thread_broadcast":
                    continue  # it stands in the channel as well
                item = self._item(conversation, reply)
                spoke = self._customer_of(item)
                customer = spoke or customer
                found.append(item if spoke or customer is None else _to(item, customer))
            yield from self._emit(found)
            if cursor is not None and cursor == walk.cursor:
                msg = "Slack: conversations.replies repeats itself; giving up for this run"
                raise UnavailableError(msg)
            walk = replace(walk, cursor=cursor, finished=cursor is None)
            yield Checkpoint({"walk": asdict(walk)})
            if cursor is None or self._tap.stop_requested:
                return walk

    def _addressed(
        self, items: Sequence[Item], newer: str | None, *, more: bool
    ) -> tuple[list[Item], list[str | None], str | None]:
        """What of a page (newest first) can be told now, each with its customer; and the oldest customer on it.

        One of us writes to the customer who spoke before. At the old end of a page that customer is on the next one,
        so what is there is left to the next call; unless that is most of the page, which would not end. Before the
        first word of any customer, the one who speaks next is meant.
        """
        spoke = [self._customer_of(item) for item in items]
        known = [number for number, one in enumerate(spoke) if one is not None]
        left = len(items) - 1 - known[-1] if known else len(items)
        keep = len(items) - left if more and 0 < left <= len(items) // 2 else len(items)
        before: str | None = spoke[known[-1]] if known else newer
        oldest = before
        customers: list[str | None] = []
        for number in range(len(items) - 1, -1, -1):
            before = spoke[number] or before
            customers.append(before)
        customers.reverse()
        told = [
            item if spoke[number] or customers[number] is None else _to(item, str(customers[number]))
            for number, item in enumerate(items)
        ]
        return told[:keep], customers[:keep], oldest

    def _emit(self, items: Sequence[Item]) -> Iterator[Record]:
        """Messages, and the edits that stand in them: the message's event may have come and the edit's not."""
        found: list[tuple[Item, datetime]] = []
        for item in reversed(items) if _is_descending(items) else items:
            found.append((item, self._moment(item.payload["event"].get("ts"))))
            edited = item.payload["event"].get("edited")
            if isinstance(edited, dict) and isinstance(edited.get("ts"), str):
                found.append((_edit(item), self._moment(edited["ts"])))
        yield from self._tap.emit_polled(self._items, found, self._number)

    def _item(self, conversation: Mapping[str, Any], message: Mapping[str, Any]) -> Item:
        """A message of the history as the event that would have told it."""
        direct = conversation.get("is_im") is True
        event = {
            "type": "message",
            **message,
            "channel": conversation["id"],
            **({"channel_type": "im"} if direct else {}),
        }
        envelope = {
            "type": "history",
            "team_id": self._account,
            "is_ext_shared_channel": direct or conversation.get("is_ext_shared") is True,
        }
        kind = kind_of(event)
        return Item(0, kind, {"envelope": envelope, "event": event}, key_of(kind, event))

    def _customer_of(self, item: Item) -> str | None:
        self._tap.memory.learn_team(item.payload["event"])
        return customer_of_slack(item, self._tap.context(self._tap.now(), f"poll:{self._number}"))

    def _moment(self, ts: Any) -> datetime:
        try:
            return moment_of_ts(ts, "ts", "Slack history")
        except MissingFieldError:  # the mapping says so again, and the message is parked
            return self._tap.now()

    def _warn_of_small_pages(self, page: Sequence[Any], *, more: bool) -> None:
        if more and len(page) <= SMALL_PAGE < self._tap.settings.page_size and not self._warned:
            self._warned = True
            self._tap.logger.warning(
                "Slack gives %d messages a call: the app has the limit for apps that are distributed outside the "
                "Marketplace (one call a minute). An app of your own workspace has not",
                len(page),
            )

    @staticmethod
    def _end_of(done: Sequence[Item], walk: Walk) -> str:
        """The oldest ``ts`` of a page; raises when it does not lead back in time."""
        if not done:
            return walk.latest
        ts = done[-1].payload["event"].get("ts")
        if ts_parts(ts) is None or not _is_newer(walk.latest, ts):
            msg = "Slack: conversations.history repeats itself; giving up for this run"
            raise UnavailableError(msg)
        return str(ts)


def _edit(item: Item) -> Item:
    """The edit that a message of the history tells of, as the event that would have told it."""
    event = item.payload["event"]
    told = {
        "type": "message",
        "subtype": "message_changed",
        "channel": event["channel"],
        "channel_type": event.get("channel_type"),
        "ts": event["edited"]["ts"],
        "message": {name: value for name, value in event.items() if name not in {"channel", "channel_type"}},
    }
    return Item(0, "message_changed", {**item.payload, "event": told}, key_of("message_changed", told))


def _to(item: Item, customer: str) -> Item:
    return replace(item, payload={**item.payload, "addressee": customer})


def _has_replies_since(parent: Mapping[str, Any], since: str) -> bool:
    if parent.get("thread_ts") != parent.get("ts") or ts_parts(parent.get("ts")) is None:
        return False
    latest = parent.get("latest_reply")
    return bool(parent.get("reply_count")) and (ts_parts(latest) is None or _is_newer(latest, since))


def _is_newer(ts: Any, than: Any) -> bool:
    return (ts_parts(ts) or (0, 0)) > (ts_parts(than) or (0, 0))


def _is_descending(items: Sequence[Item]) -> bool:
    return len(items) > 1 and _is_newer(items[0].payload["event"].get("ts"), items[-1].payload["event"].get("ts"))


def _ts(moment: datetime) -> str:
    """A moment as Slack writes it; digits, never a float."""
    return f"{calendar.timegm(moment.utctimetuple())}.{moment.microsecond:06d}"
