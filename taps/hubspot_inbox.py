"""What agents wrote in HubSpot's inbox, from the posts that the receiver stored: each once, and never our own.

HubSpot may post what we published ourselves. The ledger of the same state folder tells: target-hubspot notes such a
message before it publishes it, and its id afterwards.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mappings.errors import OneThreadError, PayloadError
from mappings.from_hubspot import CRM, reply_from_hubspot_inbox
from mappings.records import Attachment, Record, Reply
from stores.database import Stores
from stores.deliveries import Deliveries
from stores.items import Items, Sighting
from stores.ledger import Ledger
from stores.media import Media, MediaRequest
from stores.positions import Positions
from taps.base import Checkpoint
from taps.hubspot_api import HubSpotReader
from taps.webhooks import hubspot
from taps.webhooks.items import Item

if TYPE_CHECKING:
    from taps.hubspot import HubSpotSettings

PLATFORM = "hubspot"
_PAGE = 50
_log = logging.getLogger(__name__)


class InboxReplies:
    """The stored posts of one HubSpot account.

    Args:
        settings: of the tap.
        stores: the state folder.
        reader: for links to files.
        park: puts aside (key, error, payload) what cannot be understood.
    """

    def __init__(
        self,
        settings: HubSpotSettings,
        stores: Stores,
        reader: HubSpotReader,
        park: Callable[[str, PayloadError, dict[str, Any]], None],
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._reader = reader
        self._park = park
        self._ledger = Ledger(stores, CRM, settings.portal_id)

    def read(self, tap_name: str, after: int) -> Iterator[Record | Checkpoint]:
        """The replies of every post that was stored after delivery `after`, and bookmarks."""
        deliveries, items = Deliveries(self._stores), Items(self._stores)
        route = self._settings.inbox_route
        last = deliveries.last_id(PLATFORM, route)
        if after:
            Positions(self._stores).note(PLATFORM, route, tap_name, after, datetime.now(UTC))
        try:
            while after < last:
                page = deliveries.read(PLATFORM, route, after, _PAGE)
                if not page:
                    return
                for delivery in page:
                    yield from self._replies_in(delivery.body, delivery.delivery_id, delivery.received_at, items)
                    after = delivery.delivery_id
                    yield Checkpoint({"inbox_delivery_id": after})
        finally:
            deliveries.close()

    def parked(self, payload: Mapping[str, Any]) -> Iterator[Reply]:
        """The replies in what was put aside, read again: one event, or a post as it came."""
        received_at = datetime.fromisoformat(payload["received_at"])
        if "base64" in payload:
            body = base64.b64decode(payload["base64"])
            yield from self._replies_in(body, payload["delivery_id"], received_at, Items(self._stores))
        elif (reply := self._reply(payload, received_at)) is not None:
            yield reply

    def _replies_in(self, body: bytes, delivery_id: int, received_at: datetime, items: Items) -> Iterator[Reply]:
        try:
            found = hubspot.split(body)
        except PayloadError as error:
            payload = {"delivery_id": delivery_id, "received_at": received_at.isoformat()}
            self._park(f"delivery {delivery_id}", error, {**payload, "base64": base64.b64encode(body).decode("ascii")})
            return
        for item in self._new(found, delivery_id, items):
            if (reply := self._reply(item.payload, received_at)) is not None:
                yield reply

    def _new(self, found: Sequence[Item], delivery_id: int, items: Items) -> list[Item]:
        """The events of a post that no other post brought: HubSpot tries for 24 hours, and may be too late to know."""
        sightings = [
            Sighting(
                f"{self._settings.inbox_route}|{self._settings.portal_id}|{item.key}",
                item.kind,
                f"delivery:{delivery_id}#{item.index}",
                delivery_id,
                None,
            )
            for item in found
        ]
        answers = items.claim(PLATFORM, sightings)
        return [item for item, new in zip(found, answers, strict=True) if new]

    def _reply(self, payload: Mapping[str, Any], received_at: datetime) -> Reply | None:
        """The reply in an event, with its files; ``None`` when there is none, it is our own, or it was parked."""
        event = payload.get("event")
        if not isinstance(event, dict):
            return None
        try:
            reply = reply_from_hubspot_inbox(event, portal_id=self._settings.portal_id, received_at=received_at)
        except PayloadError as error:
            message = event.get("message")
            key = str(message.get("id")) if isinstance(message, dict) else "event"
            self._park(key, error, {"event": event, "received_at": received_at.isoformat()})
            return None
        if reply is None or self._is_ours(reply, event):
            return None
        files = [self._file(reply, position, one) for position, one in enumerate(reply.attachments)]
        return reply.model_copy(update={"attachments": files})

    def _is_ours(self, reply: Reply, event: Mapping[str, Any]) -> bool:
        """Whether we published it: by its id; while the publishing has no answer yet, by thread and words."""
        if self._ledger.note(reply.reply_key) is not None:
            return True
        client = (event.get("message") or {}).get("client")
        by_agent = isinstance(client, dict) and client.get("clientType") == "HUBSPOT"
        threads = {self._ledger.fingerprint(str(one)) for one in event.get("channelIntegrationThreadIds") or []}
        words = self._ledger.fingerprint(reply.text or "")
        return not by_agent and any(
            one.conversation in threads and (one.kept or {}).get("inbox") == words for one in self._ledger.intents()
        )

    def _file(self, reply: Reply, position: int, attachment: Attachment) -> Attachment:
        """The attachment with its bytes in our store, else with a link."""
        try:
            url = self._reader.signed_url(attachment.platform_media_id or "")
        except OneThreadError as error:
            _log.warning("HubSpot: a file of an agent's answer cannot be had: %s", error)
            return attachment
        linked = attachment.model_copy(update={"url": url})
        if not self._settings.fetch_files:
            return linked
        try:
            stored = Media(self._stores, private_hosts=self._settings.media_private_hosts).fetch(
                MediaRequest(url),
                max_bytes=self._settings.media_max_bytes,
                expected=attachment,
                message_key=reply.reply_key,
                position=position,
            )
        except OneThreadError as error:
            _log.warning("HubSpot: a file of an agent's answer stays a link: %s", error)
            return linked
        return stored.of(attachment)
