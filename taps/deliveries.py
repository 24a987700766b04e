"""The base of taps that read what webhooks delivered: `stores.deliveries` in order, bookmarked by delivery id.

A delivery is split into its events by the platform's webhook module, each event is mapped, and its records are
emitted. An event that cannot be mapped is parked and the rest goes on; one that another delivery has brought before is
left out. A subclass names its platform and maps one event; a platform that can be polled also overrides `poll`.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from mappings.errors import (
    OneThreadError,
    PayloadError,
    RateLimitedError,
    SettingsError,
    UnavailableError,
    UnknownShapeError,
)
from mappings.keywords import Keywords
from mappings.records import Attachment, Consent, Evidence, Message, MessageChange, Receipt, Record
from mappings.settings import PluginSettings
from stores.deliveries import Deliveries, Delivery
from stores.items import Items, Sighting
from stores.media import Media, MediaRequest
from stores.parked import Parked, ParkedItem
from stores.positions import Positions
from taps.base import Checkpoint, OneThreadTap, read_keywords
from taps.webhooks.items import Item

_PAGE = 50
_POLL_SECONDS = 0.3
_HEARTBEAT_SECONDS = 1.0


class DeliverySettings(PluginSettings):
    """What every tap over webhooks takes."""

    route: str = Field("default", description="The last part of the webhook's path: one per account that you connect.")
    follow_seconds: float = Field(
        0,
        ge=0,
        description="Keep reading what arrives for that long, so that a message is through in a second. 0: read what "
        "is there and end.",
    )
    keywords_file: str | None = Field(
        None, description="Your own list of opt-out and opt-in words (CSV). Default: the packaged list."
    )
    fetch_media: bool = Field(
        False,
        description="Fetch the files of messages when they are read and keep them encrypted in the state folder: "
        "platforms delete theirs after minutes to days. What cannot be had at once is tried again for four days.",
    )
    media_max_bytes: int = Field(25 * 2**20, gt=0, description="Larger files are left where they are.")
    media_private_hosts: list[str] = Field(
        default_factory=list,
        description="Hosts (host or host:port) in your own network that files may be fetched from, also without TLS: a "
        "platform that you host yourself. Everything else must have a public address and TLS.",
    )


SettingsModel = TypeVar("SettingsModel", bound=DeliverySettings)
Expected = Callable[[Item, datetime | None], bool]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one event: its records, or the error that parks it; none of both means that it is ignored."""

    item: Item
    received_at: datetime
    raw_ref: str
    records: Sequence[Record] = ()
    error: PayloadError | None = None


class DeliveryTap(OneThreadTap[SettingsModel]):
    """Reads one route of one platform."""

    platform: ClassVar[str]
    """The platform's slug."""
    record_models: ClassVar[tuple[type[Record], ...]] = (Message, MessageChange, Receipt, Consent, Evidence)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ignored: Counter[str] = Counter()
        self.repeats = 0
        self.missed = 0
        self._receives = False
        self.polls = True
        # What this tap was started with: only that has its target confirmed.
        self._confirmed_id: int | None = self.cursor.get("delivery_id")

    # What a platform says

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """The events of a delivery, by the platform's webhook module. `headers`: those that were kept, lowercase."""
        raise NotImplementedError

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """The records of one event; none when it is about the account and not about a customer."""
        raise NotImplementedError

    def account_of(self, item: Item) -> object:
        """The id of the account that the event came to, as the payload has it."""
        raise NotImplementedError

    def identity_of(self, item: Item) -> str:
        """What makes two events of an account the same event: their key, unless the platform reuses it."""
        return item.key

    def name_of(self, item: Item) -> str:
        """What an ignored event is called in the log and in the counts."""
        return item.kind

    def poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        """What the platform's own API has that no webhook brought; nothing where there is no such API.

        Each checkpoint is a pause, in which deliveries that have arrived meanwhile are read first. What it finds goes
        through `emit_polled`. A `RateLimitedError`, `UnavailableError` or `PayloadError` that it raises ends this
        run's polling with a warning that says when to go on; the bookmark of the last checkpoint stays.
        """
        del items
        return iter(())

    def rings(self) -> bool:
        """Whether a delivery asks for another look: a webhook that brings no events, only the news of some.

        `poll` is then called again, also where `polls` is off; it must ask for what rang, so that this turns false.
        """
        return False

    def unseen(
        self,
        items: Items,
        found: Sequence[tuple[Item, datetime | None]],
        number: int,
        *,
        expected: Expected | None = None,
    ) -> list[Item]:
        """Those polled events that neither a delivery nor an earlier pass of polling brought.

        Args:
            items: as given to `poll`.
            found: each event, under the key that a delivery would have it, with when it happened.
            number: of this pass of polling; kept in the bookmark and one more for each pass that was complete.
            expected: whether a webhook should have brought an event, else it is not counted as missed. Where no
                webhook has ever come, none is.
        """
        sightings = []
        for item, moment in found:
            counts = self._receives and (expected is None or expected(item, moment))
            key = self.item_key(self.account_of(item), self.identity_of(item))
            kind = item.kind if counts else f"history:{item.kind}"
            sightings.append(Sighting(key, kind, f"poll:{number}", number, moment))
        answers = items.claim_polled(self.platform, sightings)
        news = [(item, one) for (item, _), one, new in zip(found, sightings, answers, strict=True) if new]
        self.missed += sum(one.kind == item.kind for item, one in news)
        return [item for item, _ in news]

    def emit_polled(
        self,
        items: Items,
        found: Sequence[tuple[Item, datetime | None]],
        number: int,
        *,
        expected: Expected | None = None,
    ) -> Iterator[Record]:
        """The records of the events that are `unseen`."""
        for item in self.unseen(items, found, number, expected=expected):
            yield from self.emit(self.outcome(item, self.now(), f"poll:{number}"))

    def now(self) -> datetime:
        """The time that a look back is counted from."""
        return datetime.now(UTC)

    # Reading

    def read(self) -> Iterator[Record | Checkpoint]:
        """Replays first, then what was delivered, then what polling finds, then what still arrives."""
        deliveries = Deliveries(self.stores)
        try:
            if self.settings.fetch_media:
                Parked(self.stores).ask_retry(self.name, "media", self.now())
            yield from self.replay(("route", self.settings.route), self._replayed)
            items = Items(self.stores)
            yield from self._read(deliveries, items)
            items.forget(datetime.now(UTC))
        finally:
            deliveries.close()
            if self.ignored or self.repeats:
                self.logger.info("without a record: %s; repeats: %d", dict(self.ignored), self.repeats)

    @cached_property
    def keywords(self) -> Keywords:
        """The opt-out and opt-in words in force."""
        return read_keywords(self.settings.keywords_file, self.name)

    def item_key(self, account: object, identity: str) -> str:
        """Under what an event is remembered: routes and accounts may share the platform's ids."""
        return f"{self.settings.route}|{account}|{identity}"

    def _read(self, deliveries: Deliveries, items: Items) -> Iterator[Record | Checkpoint]:
        after = int(self.cursor.get("delivery_id", 0))
        self._check_position(deliveries, after)
        self._note_position()
        # Without following, the run ends at what was there when it began, however fast more arrives.
        first, last = after, deliveries.last_id(self.platform, self.settings.route)
        deadline = time.monotonic() + self.settings.follow_seconds
        beat = time.monotonic()
        self._receives = last > 0
        polling, polled = self._poll(items) if self.polls else iter(()), False
        while True:
            page = deliveries.read(self.platform, self.settings.route, after, _PAGE)
            for delivery, outcomes in self._open(page, items):
                for outcome in outcomes:
                    yield from self.emit(outcome)
                after = delivery.delivery_id
                self.share_read = min(1.0, (after - first) / (last - first)) if last > first else None
                yield Checkpoint({"delivery_id": after, "received_at": delivery.received_at.isoformat()})
                if self.stop_requested:
                    return
            if not polled and (not page or after >= last):
                yield Checkpoint({"delivery_id": after})
                polled = yield from _until_pause(polling)
            if polled and not self.stop_requested and self.rings():
                polling, polled = self._poll(items), False
            now = time.monotonic()
            if self.stop_requested or (polled and now >= deadline):
                return
            if now - beat >= _HEARTBEAT_SECONDS:
                beat = now
                yield Checkpoint({"delivery_id": after}, heartbeat=True)
            if polled and not page:
                time.sleep(max(0.0, min(_POLL_SECONDS, deadline - now)))

    def _note_position(self) -> None:
        """Tell the receiver up to where this route has been read, once: it may remove what is old."""
        if self._confirmed_id is not None:
            route, now = self.settings.route, datetime.now(UTC)
            Positions(self.stores).note(self.platform, route, self.name, int(self._confirmed_id), now)
            self._confirmed_id = None

    def _poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        try:
            yield from self.poll(items)
        except (RateLimitedError, UnavailableError, PayloadError) as error:
            wait = getattr(error, "retry_after_seconds", None)
            again = f"; go on after {self.now() + timedelta(seconds=wait):%Y-%m-%d %H:%M:%S} UTC" if wait else ""
            self.logger.warning("polling is not complete, the next run goes on with it: %s%s", error, again)
        if self.missed:
            self.logger.info("polling found %d events that no webhook had brought", self.missed)

    def _check_position(self, deliveries: Deliveries, after: int) -> None:
        """Raise `SettingsError` when the deliveries were replaced: their ids began anew below the bookmark.

        Without this the tap would read nothing until the new ids have overtaken the old bookmark.
        """
        last = deliveries.last_id(self.platform, self.settings.route)
        read_until = self.cursor.get("received_at")
        newest = deliveries.get(last) if 0 < last < after and read_until else None
        if newest is not None and newest.received_at > datetime.fromisoformat(str(read_until)):
            msg = (
                f"{self.name}: the bookmark (delivery {after}) is beyond the newest delivery ({last}), which came "
                "after the last one that was read: the deliveries were replaced. Run once with --full-refresh"
            )
            raise SettingsError(msg)

    def _open(self, page: Sequence[Delivery], items: Items) -> Iterator[tuple[Delivery, list[Outcome]]]:
        """Each delivery with those of its events that no other delivery brought before.

        All events of a page are claimed in one transaction. It commits before anything is emitted, which is safe: an
        event is claimed for its delivery, so that reading the delivery again after a crash gives it again.
        """
        if not page:
            return
        opened = [(delivery, self._outcomes(delivery)) for delivery in page]
        sightings = [self._sighting(delivery, outcome) for delivery, found in opened for outcome in found]
        answers = iter(items.claim(self.platform, sightings))
        for delivery, found in opened:
            mine = [outcome for outcome in found if next(answers)]
            self.repeats += len(found) - len(mine)
            yield delivery, mine

    def _outcomes(self, delivery: Delivery) -> list[Outcome]:
        raw_ref = f"delivery:{delivery.delivery_id}"
        try:
            found = self.split(delivery.body, delivery.headers)
        except PayloadError as error:
            self._park_body(delivery.body, delivery.headers, delivery.received_at, raw_ref, error)
            return []
        return [self.outcome(item, delivery.received_at, f"{raw_ref}#{item.index}") for item in found]

    def outcome(self, item: Item, received_at: datetime, raw_ref: str) -> Outcome:
        """What becomes of one event. Nothing that an event holds makes this raise; a wrong setting does."""
        try:
            return Outcome(item, received_at, raw_ref, self.records_of(item, received_at, raw_ref))
        except PayloadError as error:
            return Outcome(item, received_at, raw_ref, error=error)
        except OneThreadError:  # a wrong setting is not the event's fault
            raise
        except Exception as error:  # noqa: BLE001 (one event that a mapping did not foresee must not stop the rest)
            msg = f"{self.platform}: the mapping of an event of kind {item.kind} failed with {type(error).__name__}"
            return Outcome(item, received_at, raw_ref, error=UnknownShapeError(msg))

    def _sighting(self, delivery: Delivery, outcome: Outcome) -> Sighting:
        item = outcome.item
        ignored = not outcome.records and outcome.error is None
        return Sighting(
            key=self.item_key(self.account_of(item), self.identity_of(item)),
            kind=f"ignored:{self.name_of(item)}" if ignored else item.kind,
            ref=outcome.raw_ref,
            source=delivery.delivery_id,
            platform_time=next((_moment_of(record) for record in outcome.records), None),
        )

    def emit(self, outcome: Outcome) -> Iterator[Record]:
        """The records of one event; it is parked when it has an error, counted when it has neither."""
        if outcome.error is not None:
            self._park_item(outcome, outcome.error)
        elif not outcome.records:
            self.ignored[self.name_of(outcome.item)] += 1
        for record in outcome.records:
            yield self._with_media(record) if self.settings.fetch_media else record

    # Files

    def media_request(self, attachment: Attachment, message: Message) -> MediaRequest | None:
        """How to get the bytes of an attachment; ``None`` when there is no way.

        By default its `url`, without a token. A platform that wants a token or a look-up writes its own; what that
        raises parks the attachment, and the message goes on without its bytes. After a passing trouble the next runs
        ask again (`stores.parked.Parked.ask_retry`).
        """
        del message
        return MediaRequest(attachment.url) if attachment.url else None

    @cached_property
    def media(self) -> Media:
        """The store of files."""
        return Media(self.stores, private_hosts=self.settings.media_private_hosts)

    def _with_media(self, record: Record) -> Record:
        """A message with its files in our store; of one that was taken back the files are deleted."""
        if isinstance(record, MessageChange) and record.change == "unsend":
            self.media.erase([record.message_key])
        if not isinstance(record, Message) or not record.attachments or self.media.is_erased(record.message_key):
            return record
        files = [self._stored(file, position, record) for position, file in enumerate(record.attachments)]
        return record.model_copy(update={"attachments": files})

    def _stored(self, attachment: Attachment, position: int, message: Message) -> Attachment:
        try:
            found = self.media.find(message.message_key, position)
            if found is None:
                request = self.media_request(attachment, message)
                if request is None:
                    return attachment
                found = self.media.fetch(
                    request,
                    max_bytes=self.settings.media_max_bytes,
                    expected=attachment,
                    message_key=message.message_key,
                    position=position,
                )
        except SettingsError:  # the operator's to put right, for all files
            raise
        except OneThreadError as error:
            payload = {"route": self.settings.route, "message": message.model_dump(mode="json")}
            self.park("media", f"{message.message_key}#{position}", error, payload, message.raw_ref)
            return attachment
        return found.of(attachment)

    # Parking and replaying

    def _park_item(self, outcome: Outcome, error: PayloadError) -> None:
        item = outcome.item
        payload = {
            "route": self.settings.route,
            "received_at": outcome.received_at.isoformat(),
            "item": {"index": item.index, "kind": item.kind, "payload": item.payload, "key": item.key},
        }
        key = self.item_key(self.account_of(item), self.identity_of(item))
        self.park("items", key, error, payload, outcome.raw_ref)

    def _park_body(
        self, body: bytes, headers: Mapping[str, str], received_at: datetime, raw_ref: str, error: PayloadError
    ) -> None:
        payload = {
            "route": self.settings.route,
            "received_at": received_at.isoformat(),
            "headers": dict(headers),
            "base64": base64.b64encode(body).decode(),
        }
        self.park("deliveries", f"{self.settings.route}|{raw_ref}", error, payload, raw_ref)

    def _replayed(self, row: ParkedItem) -> Iterator[Record]:
        if "message" in row.payload:  # a file that could not be fetched: the message again, if there is one now
            message = Message.model_validate(row.payload["message"])
            again = self._with_media(message)
            if again != message:
                yield again
            return
        for outcome in self._parked_outcomes(row):
            yield from self.emit(outcome)

    def _parked_outcomes(self, row: ParkedItem) -> list[Outcome]:
        received_at = datetime.fromisoformat(row.payload["received_at"])
        raw_ref = row.raw_ref or ""
        if "item" in row.payload:
            return [self.outcome(Item(**row.payload["item"]), received_at, raw_ref)]
        body, headers = base64.b64decode(row.payload["base64"]), row.payload.get("headers", {})
        try:
            found = self.split(body, headers)
        except PayloadError as error:
            self._park_body(body, headers, received_at, raw_ref, error)
            return []
        return [self.outcome(item, received_at, f"{raw_ref}#{item.index}") for item in found]


def _until_pause(polling: Iterator[Record | Checkpoint]) -> Generator[Record | Checkpoint, None, bool]:
    """What `polling` gives up to its next pause; returns whether it has ended."""
    for found in polling:
        yield found
        if isinstance(found, Checkpoint):
            return False
    return True


def _moment_of(record: Record) -> datetime | None:
    """The platform's time of a record."""
    for name in ("sent_at", "changed_at", "occurred_at", "decided_at", "observed_at"):
        moment = getattr(record, name, None)
        if isinstance(moment, datetime):
            return moment
    return None
